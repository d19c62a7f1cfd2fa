"""Clients that ask without end and read nothing: messages, PINGRESPs and SUBACKs for them are bounded.

Invariant: that the broker holds back is shown by bytes, queue lengths and a sender that is stopped, never by time.
"""

from __future__ import annotations

import pytest
import trio
from hostile.conftest import Sites
from hostile.site import DOORS, MEGABYTE, Site, WebSocketBytes, frames, measured
from listeners.raw_websocket import upgraded
from robustness.scene import shake_hands, until
from trio.testing import wait_all_tasks_blocked

from trio_broker.protocol.packets import Properties, Publish, PubRel, Subscribe, SubscribeFilter, Unsubscribe

SMALL = {"tcp_options": {"sndbuf": "64KB", "recbuf": "64KB", "high_watermark": "128KB", "send_timeout": "1h"}}
KEPT: Properties = {"session_expiry_interval": 3600}
PAYLOAD = bytes(20_000)
CUSHION = 0.05  # what the system moves between two sockets is there by then
BOUND = 3 * MEGABYTE


async def deaf(site: Site, door: str, client_id: str = "bad", **fields: object) -> trio.abc.Stream:
    """A client whose system takes hardly anything for it."""
    stream: trio.abc.Stream = await site.raw(door, rcvbuf=4096)
    if door in ("ssl", "wss"):
        assert isinstance(stream, trio.SocketStream)
        stream = site.secured(stream)
    if door in ("ws", "wss"):
        await upgraded(stream)
        stream = WebSocketBytes(stream)
    await shake_hands(stream, client_id, **fields)  # type: ignore[arg-type]
    return stream


async def send_for_ever(stream: trio.abc.SendStream, data: bytes) -> None:
    while True:
        await stream.send_all(data)


REQUESTS = {
    "PINGREQ": b"\xc0\0" * 4096,
    "SUBSCRIBE": frames(*[Subscribe(at, [SubscribeFilter("s")] * 8) for at in range(1, 400)]),
    "UNSUBSCRIBE": frames(*[Unsubscribe(at, ["s"] * 8) for at in range(1, 400)]),
    "PUBLISH with QoS 1": frames(*[Publish("nowhere", b"", 1, packet_identifier=at) for at in range(1, 20)]) * 20,
    "PUBLISH with QoS 2": frames(
        *[packet for at in range(1, 20) for packet in (Publish("nowhere", b"", 2, packet_identifier=at), PubRel(at))]
    )
    * 20,
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("request_", REQUESTS)
async def test_answers_that_nobody_reads(request_: str, door: str, site: Sites) -> None:
    """The broker stops reading a client that does not read: the sender is stopped, and what waits is bounded."""
    async with site(door, listener=SMALL, mqtt={"max_awaiting_rel": "infinity"}) as it:
        stream = await deaf(it, door)
        with measured() as memory:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_for_ever, stream, REQUESTS[request_])
                with trio.fail_after(60):
                    await wait_all_tasks_blocked(CUSHION)  # which is when the sender is stopped
                await it.round_trips()
                memory.look()
                grown = memory.grown
                nursery.cancel_scope.cancel()
        await trio.aclose_forcefully(stream)
        assert grown < BOUND


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("qos", [0, 1])
async def test_a_flood_that_nobody_reads(door: str, qos: int, site: Sites) -> None:
    """8 MB for each of five that have subscribed to it; in the queue of each are no more than it may hold."""
    count = 5
    mqtt = {"max_mqueue_len": 10, "max_inflight": 10}
    async with site(door, listener=SMALL, mqtt=mqtt) as it:
        streams = [await deaf(it, door, f"bad-{at}") for at in range(count)]
        for stream in streams:
            await stream.send_all(frames(Subscribe(1, [SubscribeFilter("flood", qos)])))
        questions = it.scene.running.broker.questions

        async def all_subscribed() -> bool:
            return sum(row.subscription.topic_filter == "flood" for row in await questions.subscriptions()) == count

        await until(all_subscribed)
        (neighbour,) = it.neighbours
        with measured() as memory:
            for at in range(400):
                await neighbour.publish("flood", PAYLOAD, 1)
                if at % 100 == 0:
                    await it.round_trips()
            await wait_all_tasks_blocked(CUSHION)
            memory.look()
        # What may wait: the queue, what is in flight, the watermark, and what is on its way into the stream.
        each = 20 * len(PAYLOAD) + 128 * 1024 + 256 * 1024
        assert memory.grown < count * each + MEGABYTE
        for at in range(count):
            info = await questions.client(f"bad-{at}")
            assert info is not None
            assert info.mqueue_len <= 10
            assert info.inflight_count <= 10
            assert info.mqueue_dropped > 100
        await it.scene.exchange()
        for stream in streams:
            await trio.aclose_forcefully(stream)


async def test_subscribing_to_a_flood_of_retained_messages(site: Sites) -> None:
    """Again and again to all of them, which starts them anew each time, without reading one."""
    async with site("tcp", listener=SMALL, mqtt={"max_mqueue_len": 20}) as it:
        (neighbour,) = it.neighbours
        for at in range(300):
            await neighbour.publish(f"kept/{at}", PAYLOAD, 1, retain=True)
        stream = await deaf(it, "tcp")
        asked = frames(*[Subscribe(at, [SubscribeFilter("kept/#", 1)] * 5) for at in range(1, 200)])
        with measured() as memory:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_for_ever, stream, asked)
                with trio.fail_after(60):
                    await wait_all_tasks_blocked(CUSHION)
                await it.round_trips()
                nursery.cancel_scope.cancel()
            memory.look()
        await trio.aclose_forcefully(stream)
        assert memory.grown < 2 * BOUND
        for at in range(300):
            await neighbour.publish(f"kept/{at}", b"", 1, retain=True)
