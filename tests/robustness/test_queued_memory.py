"""What a message costs that waits in the queues of sessions: it is there once, however many queue it."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_broker.protocol.packets import Properties
from trio_broker.testing import open_broker

KEPT: Properties = {"session_expiry_interval": 3600}
MESSAGE = 600  # bytes for a message with a payload of 64 in one queue
ENTRY = 160  # and for each further queue


async def bytes_a_message(sessions: int, messages: int, burst: int) -> float:
    """Published with QoS 1 by one client, `burst` at a time, for sessions that are away."""
    async with open_broker(mqtt={"max_mqueue_len": 0}) as running, running.client("publisher") as publisher:
        for number in range(sessions):
            async with running.client(f"away{number}", clean_start=False, properties=KEPT) as client:
                await client.subscribe("t/#", qos=1)

        async def publish(count: int) -> None:
            for _ in range(count // burst):
                async with trio.open_nursery() as nursery:
                    for _ in range(burst):
                        nursery.start_soon(send)
            await wait_all_tasks_blocked()

        async def send() -> None:
            await publisher.publish("t/x", b"x" * 64, qos=1)

        await publish(10 * burst)
        gc.collect()
        tracemalloc.start()
        try:
            await publish(messages)
            gc.collect()
            kept = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*trio_broker*")])
        finally:
            tracemalloc.stop()
        info = await running.broker.questions.client("away0")
        assert info is not None
        assert info.mqueue_len == messages + 10 * burst
        return sum(statistic.size for statistic in kept.statistics("filename")) / messages


@pytest.mark.parametrize("burst", [1, 20])
async def test_one_queue(autojump_clock: MockClock, burst: int) -> None:
    assert await bytes_a_message(1, 2000, burst) <= MESSAGE


@pytest.mark.parametrize("burst", [1, 20])
async def test_many_queues(autojump_clock: MockClock, burst: int) -> None:
    assert await bytes_a_message(40, 200, burst) <= MESSAGE + 39 * ENTRY
