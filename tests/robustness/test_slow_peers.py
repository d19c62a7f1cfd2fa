"""Clients that do not read or acknowledge: others are unhurt, memory is bounded, the oldest goes and is counted."""

from __future__ import annotations

import tracemalloc

import pytest
import trio
from robustness.scene import PATIENCE, connect_tcp, open_scene, shake_hands, until
from trio.testing import MockClock, wait_all_tasks_blocked

from cases.wire import packet, text
from trio_broker.actors.hooks import ClientDisconnected
from trio_broker.protocol.encode import encode
from trio_broker.protocol.packets import PubAck, Subscribe, SubscribeFilter
from trio_broker.testing import open_client

PAYLOAD = bytes(65_000)
MEGABYTE = 1_048_576


def subscribe_bytes(topic_filter: str, qos: int = 0) -> bytes:
    return encode(Subscribe(1, [SubscribeFilter(topic_filter, qos)]), 5, "client")


def sockets(**options: object) -> dict[str, object]:
    """A TCP listener whose system buffers are small, so that a client that does not read is soon seen."""
    return {"tcp": {"default": {"tcp_options": {"sndbuf": "256KB", "high_watermark": "128KB", **options}}}}


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_client_that_never_reads_hurts_nobody_and_is_cut(qos: int, caplog: pytest.LogCaptureFixture) -> None:
    mqtt = {"max_mqueue_len": 10, "max_inflight": 10}
    async with open_scene(caplog, mqtt=mqtt, listeners=sockets(send_timeout="500ms")) as scene:
        broker = scene.running.broker
        cut = trio.Event()

        def disconnected(event: ClientDisconnected) -> None:
            if event.client_id == "bad":
                cut.set()

        broker.hooks.disconnected.append(disconnected)
        stream = await connect_tcp(scene.running, rcvbuf=4096)
        async with stream:
            await shake_hands(stream)
            await stream.send_all(subscribe_bytes("flood", qos))
            await until(lambda: _subscribed(scene.running.broker.questions.topics()))
            await scene.mark()
            with trio.fail_after(PATIENCE):
                async with open_client((scene.running.host, scene.running.port), client_id="good") as good:
                    await good.subscribe("flood", qos)
                    for at in range(100):
                        await good.publish("flood", at.to_bytes(2, "big") + PAYLOAD, qos)
                        # The publisher is also the subscriber: neither of the two may wait for the bad one.
                        assert (await good.receive()).payload[:2] == at.to_bytes(2, "big")
                await scene.exchange()
            with trio.fail_after(10):  # half a second is due
                await cut.wait()
        counted = await scene.counted()
        assert counted.get("delivery.dropped", 0) > 0
        assert await scene.running.broker.questions.client("bad") is None
        await scene.settled()
        about = [record.getMessage() for record in scene.lines() if "'bad'" in record.getMessage()]
        assert len(about) == 1
        assert all(record.exc_info is None for record in scene.lines())


async def _subscribed(topics: object) -> bool:
    return "flood" in await topics  # type: ignore[misc]


async def test_memory_for_a_client_that_never_reads_is_bounded(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """100 MB are sent to it; what is held are its queue (16 x 64 KB), the stream (16 x 64 KB), and the watermark."""
    async with open_scene(caplog, mqtt={"max_mqueue_len": 16, "max_inflight": 16}) as scene:
        async with await scene.running.broker.connect_stream() as stream:
            await shake_hands(stream)
            await stream.send_all(subscribe_bytes("flood"))
            await wait_all_tasks_blocked()
            tracemalloc.start()
            try:
                before, _ = tracemalloc.get_traced_memory()
                for _ in range(1600):
                    await scene.bystander.publish("flood", PAYLOAD)
                    await scene.bystander.ping()
                _, most = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert most - before < 10 * MEGABYTE
            await scene.exchange()
            info = await scene.running.broker.questions.client("bad")
            assert info is not None
            assert info.mqueue_len <= 16
            assert info.mqueue_dropped > 1000
        await scene.settled()


async def test_a_client_that_never_reads_in_memory_is_cut_after_the_send_timeout(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The default, 15 seconds in which it takes nothing."""
    async with open_scene(caplog) as scene:
        async with await scene.running.broker.connect_stream() as stream:
            await shake_hands(stream)
            await stream.send_all(subscribe_bytes("flood"))
            await wait_all_tasks_blocked()
            await scene.mark()
            for _ in range(100):
                await scene.bystander.publish("flood", PAYLOAD)
                await scene.bystander.ping()
            await trio.sleep(10)
            assert await scene.running.broker.questions.client("bad") is not None
            await trio.sleep(10)
            assert await scene.running.broker.questions.client("bad") is None
            assert "'bad'" in scene.one_line()
        await scene.unhurt()


async def test_the_oldest_queued_message_goes_and_is_counted(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that reads and never acknowledges: 2 in flight, 5 queued, the 13 between are dropped."""
    async with open_scene(caplog, mqtt={"max_inflight": 2, "max_mqueue_len": 5}) as scene:
        broker = scene.running.broker
        async with open_client(broker, client_id="lazy", auto_ack=False) as lazy:
            await lazy.subscribe("flood", 1)
            await scene.mark()
            for at in range(20):
                await scene.bystander.publish("flood", str(at).encode(), 1)
            await wait_all_tasks_blocked()
            info = await broker.questions.client("lazy")
            assert info is not None
            assert (info.inflight_count, info.mqueue_len, info.mqueue_dropped) == (2, 5, 13)
            counted = await scene.counted()
            assert counted["delivery.dropped"] == counted["delivery.dropped.queue_full"] == 13
            heard = []
            for _ in range(7):
                message = await lazy.receive()
                heard.append(int(message.payload))
                await lazy.send(PubAck(message.packet_identifier))
            assert heard == [0, 1, 15, 16, 17, 18, 19]
            await wait_all_tasks_blocked()
            assert not lazy.inbox
            assert len(scene.lines()) <= 1  # of what was dropped, and not one each
        await scene.settled()


async def test_a_publisher_is_not_read_while_it_floods_faster_than_it_is_routed(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Back-pressure: 64 MB pushed at once through one connection, without more than a few of them held at a time."""
    async with open_scene(caplog) as scene, await scene.running.broker.connect_stream() as stream:
        await shake_hands(stream)
        chunk = packet(0x30, text("empty"), b"\0", PAYLOAD) * 16
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(64):
                await stream.send_all(chunk)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most - before < 16 * MEGABYTE
        await stream.send_all(b"\xc0\0")
        assert await stream.receive_some() == b"\xd0\0"
        await stream.aclose()
        await scene.settled()
