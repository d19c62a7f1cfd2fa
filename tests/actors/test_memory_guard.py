"""`sysmon.memory_high_watermark`: who is refused and what is dropped when memory is short.

Invariant: memory is made up here; nothing is allocated to fill it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from actors.flows import SESSION, end_of, one, payloads, rest, settle, take
from trio.testing import MockClock

from trio_broker.actors import memory_guard
from trio_broker.actors.memory_guard import MemoryGuard, resident_bytes, total_bytes
from trio_broker.session.pressure import CRITICAL, HIGH, NONE, Pressure
from trio_broker.testing import RunningBroker, open_broker

MARK = 1_000_000


class Memory:
    def __init__(self) -> None:
        self.used = 1

    def measure(self) -> int:
        return self.used


@asynccontextmanager
async def short_of_memory(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[RunningBroker, Memory]]:
    """A broker whose memory is what the test says."""
    memory = Memory()
    monkeypatch.setattr(memory_guard.MemoryGuard.__init__, "__defaults__", (memory.measure,))
    monkeypatch.setattr(memory_guard, "_give_back", lambda: None)
    async with open_broker(sysmon={"memory_high_watermark": "1MB"}) as running:
        yield running, memory


async def look() -> None:
    """Until the guard has looked again, and everything has come of it."""
    await trio.sleep(memory_guard.INTERVAL + 0.1)
    await settle()


async def test_no_new_connections_and_no_queued_qos_0(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with short_of_memory(monkeypatch) as (running, memory), running.client("p") as publisher:
        async with running.client("away", properties=SESSION) as away:
            await away.subscribe("t", 1)
        async with running.client("here") as here:
            await here.subscribe("t", 1)
            await publisher.publish("t", b"before", 0)
            memory.used = 1_100_000
            await look()
            for level, code in ((5, 0x89), (4, 0x88)):  # return code 3 is 0x88
                async with running.client("new", level=level) as refused:
                    assert refused.connack.reason_code == code
            await publisher.publish("t", b"qos 0", 0)
            await publisher.publish("t", b"qos 1", 1)
            assert payloads(await rest(here)) == [b"before", b"qos 0", b"qos 1"]
            memory.used = 100
            await look()
        async with running.client("away", properties=SESSION, clean_start=False) as away:
            assert away.session_present
            assert payloads(await rest(away)) == [b"before", b"qos 1"]


async def test_far_above_messages_are_refused(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async with short_of_memory(monkeypatch) as (running, memory):
        async with running.client("s") as subscriber, running.client("p") as publisher:
            await subscriber.subscribe("t", 2)
            async with running.client("old", level=4) as old:
                memory.used = 1_300_000
                await look()
                await publisher.publish("t", b"0", 0)
                for qos in (1, 2):
                    answer = await publisher.publish("t", b"refused", qos)
                    assert answer is not None
                    assert answer.reason_code == 0x97
                with pytest.raises(Exception, match="connection"):
                    await old.publish("t", b"refused", 1)
                await end_of(old)
            memory.used = 100
            await look()
            for qos in (1, 2):
                await publisher.publish("t", b"%d" % qos, qos)
            assert payloads(await take(subscriber, 2)) == [b"1", b"2"]


async def test_what_was_accepted_is_still_delivered(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The subscriber acknowledges, and gets what waits for it."""
    async with short_of_memory(monkeypatch) as (running, memory), running.client("p") as publisher:
        async with running.client("s", properties={"receive_maximum": 1}, auto_ack=False) as subscriber:
            await subscriber.subscribe("t", 1)
            for number in range(5):
                await publisher.publish("t", b"%d" % number, 1)
            memory.used = 1_300_000
            await look()
            got = [await one(subscriber, ack=True) for _ in range(5)]
            assert payloads(got) == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize(
    ("used", "levels"),
    [
        ([MARK], [NONE]),
        ([MARK + 1, 960_000, 940_000], [HIGH, HIGH, NONE]),
        ([1_200_001, 1_150_000, 1_130_000, 1], [CRITICAL, CRITICAL, HIGH, NONE]),
        ([2_000_000, 0], [CRITICAL, NONE]),
    ],
)
def test_the_level_does_not_flutter(used: list[int], levels: list[int], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    pressure = Pressure()
    guard = MemoryGuard(pressure, MARK)
    seen = []
    for measured in used:
        guard.look(measured)
        seen.append(pressure.level)
    assert seen == levels
    changes = sum(before != after for before, after in zip([NONE, *levels], levels, strict=False))
    assert len(caplog.records) == changes


def test_this_machine_says_what_there_is() -> None:
    assert 1_000_000 < resident_bytes() < total_bytes()


@pytest.mark.parametrize("text", ["", "max\n", "lies"])
def test_a_system_that_does_not_say(
    text: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path_factory.mktemp("proc") / "file"
    path.write_text(text)
    for name in ("_STATM", "_MEMINFO", "_CGROUP"):
        monkeypatch.setattr(memory_guard, name, path)
    assert resident_bytes() == 0
    assert total_bytes() == 0


def test_a_group_with_less_memory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path_factory.mktemp("cgroup") / "memory.max"
    path.write_text("12345\n")
    monkeypatch.setattr(memory_guard, "_CGROUP", path)
    assert total_bytes() == 12345
