"""`messages_rate` and `bytes_rate`: a client that sends faster is read later, and loses nothing.

Invariant: time is the mock clock's; what is asserted of it is what the rates say.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from actors.flows import joined, numbers, payloads, settle, take
from trio.testing import MockClock

from trio_broker.actors.gate import ConnectionInfo
from trio_broker.actors.rate_limit import Bucket
from trio_broker.listeners.memory import memory_pair
from trio_broker.protocol.packets import Connect, PingReq, Publish
from trio_broker.testing import RunningBroker, open_broker


@asynccontextmanager
async def limited(running: RunningBroker, **rates: Any) -> AsyncIterator[trio.abc.Stream]:
    """The client end of a connection whose listener has these rates."""
    client, server = memory_pair()
    door = running.broker._door
    assert door is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(door.serve_stream, server, ConnectionInfo("x:limited", "127.0.0.1", **rates))
        yield client
        await client.aclose()


@pytest.mark.parametrize("qos", [0, 1])
async def test_messages_a_second(autojump_clock: MockClock, qos: int) -> None:
    """A second's worth at once, then ten a second; every message arrives, in order."""
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("t")
        async with limited(running, messages_rate=10.0) as stream:
            began = trio.current_time()
            await stream.send_all(joined(4, Connect("p", protocol_level=4)))
            await stream.receive_some()
            for number in range(60):
                packet = Publish("t", b"%d" % number, qos, packet_identifier=number + 1 if qos else 0)
                await stream.send_all(joined(4, packet))
                await settle()
            messages = await take(subscriber, 60)
            assert payloads(messages) == numbers(60)
            assert trio.current_time() - began == pytest.approx(5.0, abs=0.11)


async def test_bytes_a_second(autojump_clock: MockClock) -> None:
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("t")
        async with limited(running, bytes_rate=1000.0) as stream:
            began = trio.current_time()
            await stream.send_all(joined(4, Connect("p", protocol_level=4)))
            await stream.receive_some()
            for _ in range(20):
                await stream.send_all(joined(4, Publish("t", b"x" * 495)))
                await settle()
            await trio.sleep(8.4)
            assert len(await take(subscriber, 20)) == 20
            assert trio.current_time() - began == pytest.approx(9.0, abs=0.6)


async def test_it_is_not_silent_while_it_is_not_read(autojump_clock: MockClock) -> None:
    """Its keep alive does not end it: what it said waits in the socket."""
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("t")
        async with limited(running, bytes_rate=10.0) as stream:
            await stream.send_all(joined(4, Connect("p", protocol_level=4, keep_alive=2)))
            await stream.receive_some()
            await stream.send_all(joined(4, Publish("t", b"x" * 1000)))
            await settle()
            await trio.sleep(50)
            await stream.send_all(joined(4, PingReq()))
            with trio.fail_after(200):
                assert await stream.receive_some() == b"\xd0\x00"


async def test_others_go_on(autojump_clock: MockClock) -> None:
    async with open_broker() as running, running.client("s") as subscriber, running.client("p") as publisher:
        await subscriber.subscribe("t")
        async with limited(running, messages_rate=1.0) as stream:
            await stream.send_all(joined(4, Connect("flood", protocol_level=4), *[Publish("f", b"")] * 1000))
            await settle()
            began = trio.current_time()
            await publisher.publish("t", b"x", 1)
            await take(subscriber)
            assert trio.current_time() == began


async def test_who_leaves_meanwhile_leaves_nothing(autojump_clock: MockClock) -> None:
    async with open_broker() as running:
        core = running.broker._core
        assert core is not None
        async with limited(running, messages_rate=1.0) as stream:
            await stream.send_all(joined(4, Connect("flood", protocol_level=4), *[Publish("f", b"")] * 1000))
            await settle()
            await stream.aclose()
        await trio.sleep(2000)
        assert await running.broker.questions.client("flood") is None
        assert len(core.timers) == 0


def test_a_bucket_keeps_one_second() -> None:
    bucket = Bucket(10.0, 10.0, 0.0)
    assert bucket.take(10, 0.0) == 0.0
    assert bucket.take(1, 0.0) == pytest.approx(0.1)
    assert bucket.take(0, 0.1) == pytest.approx(0.0)
    assert bucket.take(10, 100.0) == 0.0
    assert bucket.take(5, 100.0) == pytest.approx(0.5)
