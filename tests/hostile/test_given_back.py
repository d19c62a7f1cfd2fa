"""What a connection held is free when the connection is over, without help from the garbage collector.

Invariant: the collector does not run within what is measured: in a broker that runs for long it looks at old objects
hardly ever (`trio_broker.garbage`), and a peer that comes back can leave a packet of the largest size each time.
"""

from __future__ import annotations

import gc
import tracemalloc

import pytest
import trio
from attrs import frozen
from hostile.conftest import Sites
from hostile.site import MEGABYTE, Site
from robustness.scene import connect_bytes, shake_hands
from trio.testing import wait_all_tasks_blocked

from trio_broker.actors.connection import Connection

PART_OF_A_PACKET = b"\x30\xf0\xff\x3f\0\4half" + bytes(900_000)
PART_OF_CONNECT = b"\x10\xf0\xff\x3f\0\4MQTT" + bytes(900_000)


@frozen
class End:
    """How a peer behaves: whether it connects, what it sends then, and whether the broker ends it for that."""

    name: str
    connects: bool
    data: bytes = b""
    is_ended: bool = False


ENDS = [
    End("nothing said", False),
    End("within CONNECT", False, PART_OF_CONNECT),
    End("no CONNECT", False, b"\0\0", True),
    End("closes", True),
    End("within a packet", True, PART_OF_A_PACKET),
    End("DISCONNECT", True, b"\xe0\0", True),
    End("malformed", True, b"\0\0", True),
    End("protocol error", True, connect_bytes("bad"), True),
]


async def visit(site: Site, door: str, end: End) -> None:
    stream = await site.open(door) if door != "memory" else await site.scene.running.broker.connect_stream()
    if end.connects:
        await shake_hands(stream, "bad")
    if end.data:
        await stream.send_all(end.data)
    if end.is_ended:
        with trio.fail_after(10):
            while await stream.receive_some(65536):
                pass
    await site.round_trips()
    await trio.aclose_forcefully(stream)
    await site.scene.settled()


@pytest.mark.parametrize("door", ["tcp", "memory"])
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.name)
async def test_no_connection_is_left(end: End, door: str, site: Sites) -> None:
    async with site("tcp") as it:
        await visit(it, door, end)  # the first one may load what stays
        gc.collect()
        before = connections()
        gc.disable()
        try:
            for _ in range(3):
                await visit(it, door, end)
            await wait_all_tasks_blocked()
            left = connections() - before
        finally:
            gc.enable()
        assert left == 0, f"{left} of 3 connections wait for the garbage collector"


def connections() -> int:
    return sum(isinstance(one, Connection) for one in gc.get_objects())


async def test_bytes_of_unfinished_packets_are_not_left(site: Sites) -> None:
    """Each of them nearly as large as a packet may be."""
    async with site("tcp") as it:
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(10):
                await visit(it, "tcp", ENDS[1])
                await visit(it, "tcp", ENDS[4])
            left = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
            gc.enable()
        assert left < MEGABYTE
