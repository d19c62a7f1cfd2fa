"""Peers that send a byte now and then: each handshake has its time as a whole, however alive its peer looks.

Invariant: time is Trio's mock clock; how long a test takes says nothing.
"""

from __future__ import annotations

import pytest
import trio
from hostile.conftest import Sites
from hostile.site import DOORS, Site, WebSocketBytes, heard
from listeners.raw_websocket import BINARY, frame, request
from robustness.scene import connect_bytes
from trio.testing import MockClock

from trio_broker.protocol.packets import Packet

TIMEOUT = 15.0  # the default of idle_timeout and of handshake_timeout
# How much later than due the broker may be: its timers need not be exact, and a WebSocket waits for a close frame.
SLACK = 5.0
CONNECT = connect_bytes("bad" * 20)
TLS_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(400)


async def trickle(stream: trio.abc.SendStream, data: bytes, pause: float = 1.0) -> None:
    """A byte each `pause` seconds, as long as the broker takes them."""
    for at in range(len(data)):
        await trio.sleep(pause)
        try:
            await stream.send_all(data[at : at + 1])
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return


async def cut_in_time(site: Site, stream: trio.abc.Stream, sender: trio.abc.SendStream, data: bytes) -> list[bytes]:
    """Trickle until the broker ends it, which is when the time is over; gives what it said."""
    said: list[bytes] = []
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trickle, sender, data)
        with trio.fail_after(10 * TIMEOUT):
            try:
                while piece := await stream.receive_some(65536):
                    said.append(bytes(piece))
            except trio.BrokenResourceError:
                said.append(b"")
        nursery.cancel_scope.cancel()
    assert TIMEOUT <= trio.current_time() - start <= TIMEOUT + SLACK
    await trio.aclose_forcefully(stream)
    return said


@pytest.mark.parametrize("door", DOORS)
async def test_connect_byte_by_byte(door: str, site: Sites, autojump_clock: MockClock) -> None:
    async with site(door) as it:
        await it.scene.mark()
        stream = await it.open(door)
        lower = stream.stream if isinstance(stream, WebSocketBytes) else stream
        data = frame(BINARY, CONNECT) if lower is not stream else CONNECT
        assert b"".join(await cut_in_time(it, stream, lower, data)) == b""
        await it.unhurt()
        assert "no CONNECT within" in it.scene.one_line()


@pytest.mark.parametrize("door", ["ws", "wss"])
async def test_connect_in_frames_of_a_byte(door: str, site: Sites, autojump_clock: MockClock) -> None:
    async with site(door) as it:
        stream = await it.open(door)
        assert b"".join(await cut_in_time(it, stream, stream, CONNECT)) == b""


@pytest.mark.parametrize("door", ["ssl", "wss"])
async def test_a_tls_handshake_byte_by_byte(door: str, site: Sites, autojump_clock: MockClock) -> None:
    async with site(door) as it:
        stream = await it.raw(door)
        await cut_in_time(it, stream, stream, TLS_HELLO)
        await it.unhurt()
        assert "TLS handshake" in it.scene.one_line()


@pytest.mark.parametrize("door", ["ws", "wss"])
async def test_a_websocket_handshake_byte_by_byte(door: str, site: Sites, autojump_clock: MockClock) -> None:
    async with site(door) as it:
        raw = await it.raw(door)
        stream: trio.abc.Stream = raw
        if door == "wss":
            tls = it.secured(raw)
            await tls.do_handshake()
            stream = tls
        await cut_in_time(it, stream, stream, request())
        await it.unhurt()
        assert "WebSocket handshake" in it.scene.one_line()


@pytest.mark.parametrize("door", DOORS)
async def test_many_at_once_hinder_nobody(door: str, site: Sites, autojump_clock: MockClock) -> None:
    """A hundred that trickle; who comes meanwhile is let in, and neighbours go on at every second of it."""
    data = {"tcp": CONNECT, "ws": request()}.get(door, TLS_HELLO)
    async with site(door) as it:
        streams = [await it.raw(door) for _ in range(100)]
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            for stream in streams:
                nursery.start_soon(trickle, stream, data)
            for at in range(int(TIMEOUT) - 1):
                await trio.sleep_until(start + at)
                await it.round_trips()
            newcomer = await it.open(door)
            await newcomer.send_all(connect_bytes("newcomer"))
            assert await newcomer.receive_some(65536)
            await newcomer.send_all(b"\xe0\0")
            assert await heard(newcomer) == []
            await newcomer.aclose()
            for stream in streams:
                ended: list[Packet] = []
                if door == "tcp":
                    ended = await heard(stream)
                else:
                    with trio.fail_after(10 * TIMEOUT):
                        await drained(stream)
                assert ended == []
            nursery.cancel_scope.cancel()
        assert trio.current_time() - start <= TIMEOUT + SLACK
        for stream in streams:
            await trio.aclose_forcefully(stream)
        await it.unhurt()


async def drained(stream: trio.abc.ReceiveStream) -> None:
    try:
        while await stream.receive_some(65536):
            pass
    except trio.BrokenResourceError:
        return


async def test_they_hold_their_places_no_longer_than_that(site: Sites, autojump_clock: MockClock) -> None:
    """With max_connections all places can be taken, and are free again when the time is over."""
    async with site("tcp", listener={"max_connections": 11}) as it:
        streams = [await it.raw("tcp") for _ in range(10)]
        async with trio.open_nursery() as nursery:
            for stream in streams:
                nursery.start_soon(trickle, stream, CONNECT)
            await trio.sleep(1.5)
            refused = await it.raw("tcp")
            with trio.fail_after(TIMEOUT):
                await drained(refused)
            await trio.aclose_forcefully(refused)
            await it.round_trips()
            await trio.sleep(TIMEOUT + SLACK)
            nursery.cancel_scope.cancel()
        for stream in streams:
            await trio.aclose_forcefully(stream)
        late = await it.open("tcp")
        await late.send_all(connect_bytes("late"))
        assert await late.receive_some(65536)
        await trio.aclose_forcefully(late)
        await it.unhurt()
