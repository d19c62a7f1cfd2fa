"""`/monitor`: a sample at each full mark of the clock, fewer of those that are old, gaps where there is none."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import pytest
import trio
from api.live import Live, running
from api.operations import shows
from trio.testing import MockClock

from trio_broker.actors.monitor import COUNTERS, DAY, GAUGES, HOUR, MINUTE, SECOND, History, Sample
from trio_broker.config import Config, DashboardConfig
from trio_broker.errors import AskTimeout

NODE_PATH = f"/monitor/nodes/{quote(Config().node.name)}"
START = 1_700_000_000_000 // DAY * DAY


@asynccontextmanager
async def sampled() -> AsyncIterator[Live]:
    async with running(Config(dashboard=DashboardConfig(sample_interval=10.0))) as live:
        yield live


async def rows(live: Live, path: str = "/monitor") -> list[dict[str, Any]]:
    answer = await live.api.get(path)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


@shows("GET /monitor", "GET /monitor/nodes/:node")
async def test_a_sample_at_each_full_mark(autojump_clock: MockClock) -> None:
    async with sampled() as live:
        client = await live.connect("c1")
        await client.subscribe("t/#", 1)
        await client.publish("t/1", b"", 1)
        await client.publish("nobody", b"", 1)
        await trio.sleep(10)
        await client.publish("t/1")
        await trio.sleep(10)
        first, second = await rows(live)
        assert first == {
            "time_stamp": first["time_stamp"],
            "received": 2,
            "sent": 1,
            "dropped": 1,
            "validation_succeeded": 0,
            "validation_failed": 0,
            "transformation_succeeded": 0,
            "transformation_failed": 0,
            "persisted": 0,
            "disconnected_durable_sessions": 0,
            "subscriptions_durable": 0,
            "subscriptions": 1,
            "subscriptions_ram": 1,
            "topics": 1,
            "connections": 1,
            "live_connections": 1,
        }
        assert first["time_stamp"] % (10 * SECOND) == 0
        assert second == {**first, "time_stamp": first["time_stamp"] + 10 * SECOND, "received": 1, "dropped": 0}
        of_the_node = await rows(live, NODE_PATH)
        assert of_the_node[0] == {name: value for name, value in first.items() if name != "subscriptions_ram"}
        assert len(of_the_node) == 2


@shows("GET /monitor", "GET /monitor/nodes/:node")
async def test_only_the_latest(autojump_clock: MockClock) -> None:
    async with sampled() as live:
        await trio.sleep(300)
        everything = await rows(live)
        assert len(everything) == 30
        assert await rows(live, "/monitor?latest=45") in (everything[-4:], everything[-5:])
        assert len(await rows(live, f"{NODE_PATH}?latest=100000")) == 30
        for wrong in ("0", "-1", "soon"):
            for path in ("/monitor", NODE_PATH):
                answer = await live.api.get(f"{path}?latest={wrong}")
                assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")


@shows("GET /monitor/nodes/:node", "GET /monitor_current/nodes/:node")
@pytest.mark.parametrize("path", ["/monitor/nodes/no", "/monitor_current/nodes/no"])
async def test_an_unknown_node(autojump_clock: MockClock, path: str) -> None:
    async with running() as live:
        answer = await live.api.get(path)
        assert (answer.status_code, answer.json()) == (404, {"code": "NOT_FOUND", "message": "Node not found: no"})


@shows("DELETE /monitor")
async def test_samples_are_forgotten(autojump_clock: MockClock) -> None:
    async with sampled() as live:
        await trio.sleep(60)
        answer = await live.api.delete("/monitor", auth=live.as_viewer())
        assert (answer.status_code, answer.json()["code"]) == (403, "UNAUTHORIZED_ROLE")
        answer = await live.api.delete("/monitor")
        assert (answer.status_code, answer.content) == (204, b"")
        assert await rows(live) == []
        await trio.sleep(20)
        assert len(await rows(live)) == 2


async def test_nothing_is_sampled_unless_asked_for(autojump_clock: MockClock) -> None:
    async with running() as live:
        await trio.sleep(30 * 24 * 3600)
        assert await rows(live) == []


async def test_a_gap(autojump_clock: MockClock) -> None:
    """Sampling is switched off and on again: one row with nothing but a time, and what went by is not in the next."""
    async with sampled() as live:
        settings = live.broker.questions.settings
        await trio.sleep(30)
        await settings.change({"dashboard": {"sample_interval": "disabled"}})
        client = await live.connect("c1")
        await client.publish("t", b"", 1)
        await trio.sleep(600)
        await settings.change({"dashboard": {"sample_interval": "10s"}})
        await trio.sleep(30)
        seen = await rows(live)
        assert [len(row) for row in seen] == [16, 16, 16, 1, 16, 16, 16]
        assert seen[3] == {"time_stamp": seen[2]["time_stamp"] + 10 * SECOND}
        assert [row["received"] for row in seen[4:]] == [0, 0, 0]


async def test_the_interval_changes_at_once(autojump_clock: MockClock) -> None:
    async with sampled() as live:
        await live.broker.questions.settings.change({"dashboard": {"sample_interval": "1m"}})
        await trio.sleep(300)
        seen = await rows(live)
        assert len(seen) == 5
        assert {row["time_stamp"] % MINUTE for row in seen} == {0}


@pytest.mark.parametrize("minutes", [30, -60])
async def test_the_clock_is_set(autojump_clock: MockClock, minutes: int) -> None:
    async with sampled() as live:
        await trio.sleep(60)
        core = live.broker._core
        assert core is not None
        before = await rows(live)
        core.clock._offset += minutes * 60
        await trio.sleep(60)
        seen = await rows(live)
        stamps = [row["time_stamp"] for row in seen]
        now = core.clock.wall_ms(core.clock.now())
        assert stamps == sorted(set(stamps))
        assert 0 <= now - stamps[-1] < 10 * SECOND
        assert [stamp % (10 * SECOND) for stamp in stamps] == [0] * len(stamps)
        if minutes > 0:
            assert seen[:6] == before
            assert seen[6] == {"time_stamp": stamps[5] + 10 * SECOND}
            assert len(seen) == 13
        else:
            assert len(seen) in (6, 7)


async def test_a_sample_that_cannot_be_taken_is_left_out(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with sampled() as live:
        await trio.sleep(20)
        core = live.broker._core
        assert core is not None

        async def busy(*_: object) -> None:
            await trio.lowlevel.checkpoint()
            raise AskTimeout("busy")

        with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
            patch.setattr(core.metrics, "ask", busy)
            await trio.sleep(30)
        await trio.sleep(20)
        assert "a sample for the charts is left out: busy" in caplog.text
        assert [len(row) for row in await rows(live)] == [16, 16, 1, 16, 16]


# -- what is kept ---------------------------------------------------------------------------------------------------


def sample(time_stamp: int, received: int = 1) -> Sample:
    counted = (received, *(0 for _ in list(COUNTERS)[1:]))
    return Sample(time_stamp, counted, tuple(time_stamp % 1000 for _ in GAUGES))


def stamps(history: History) -> list[int]:
    return [row.time_stamp for row in history.rows(0, 10 * SECOND) if isinstance(row, Sample)]


def test_what_is_old_is_thinned() -> None:
    """An hour as it was taken, then one a minute; nothing that was counted is lost."""
    history = History()
    count = 3 * 360
    for number in range(1, count + 1):
        history.add(sample(START + number * 10 * SECOND))
    seen = stamps(history)
    now = START + count * 10 * SECOND
    assert [stamp for stamp in seen if stamp > now - HOUR] == [now - n * 10 * SECOND for n in range(359, -1, -1)]
    # It is looked through each ten minutes.
    old = [stamp for stamp in seen if stamp <= now - HOUR - 10 * MINUTE]
    assert len(old) == 110
    assert {stamp % MINUTE for stamp in old} == {0}
    rows = list(history.rows(0, 10 * SECOND))
    assert sum(row.counted[0] for row in rows if isinstance(row, Sample)) == count
    assert not [row for row in rows if isinstance(row, int)]


def test_a_week_is_kept() -> None:
    history = History()
    step = 5 * MINUTE
    count = 8 * DAY // step
    for number in range(1, count + 1):
        history.add(sample(START + number * step))
    seen = stamps(history)
    now = START + count * step
    assert now - 7 * DAY <= seen[0] <= now - 7 * DAY + 20 * MINUTE
    assert {late - early for early, late in pairwise(seen[:100])} == {10 * MINUTE}
    two_days_old = [stamp for stamp in seen if now - 2 * DAY < stamp <= now - DAY - HOUR]
    assert {late - early for early, late in pairwise(two_days_old)} == {5 * MINUTE}
    assert len(history) < 3000
    assert not [row for row in history.rows(0, step) if isinstance(row, int)]


def test_gaps_are_told_at_their_beginning() -> None:
    history = History()
    for seconds in (10, 20, 30, 90, 100, 2000):
        history.add(sample(START + seconds * SECOND))
    rows = [row if isinstance(row, int) else row.time_stamp for row in history.rows(0, 10 * SECOND)]
    assert [(row - START) // SECOND for row in rows] == [10, 20, 30, 40, 90, 100, 110, 2000]
    assert [type(row) is int for row in history.rows(0, 10 * SECOND)] == [False] * 3 + [True] + [False] * 2 + [
        True,
        False,
    ]


def test_two_samples_of_one_time_are_one() -> None:
    history = History()
    history.add(sample(START, 3))
    history.add(sample(START, 4))
    (row,) = history.rows(0, 10 * SECOND)
    assert isinstance(row, Sample)
    assert row.counted[0] == 7


async def test_a_long_list_leaves_others_their_turn(autojump_clock: MockClock) -> None:
    async with sampled() as live:
        history = live.broker.questions.monitor.history
        clock = live.broker.questions.settings.core.clock
        start = clock.wall_ms(clock.now()) - 3000 * SECOND
        for number in range(3000):
            history.add(sample(start + number * SECOND))
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            found = await rows(live)
            nursery.cancel_scope.cancel()
        assert len(found) == 3000
        assert turns > 3000 // 128


def test_what_is_forgotten_while_it_is_listed_is_still_listed() -> None:
    history = History()
    for number in range(10):
        history.add(sample(START + number * SECOND))
    listed = history.rows(0, SECOND)
    first = next(listed)
    history.clear()
    assert [row.time_stamp for row in (first, *listed) if isinstance(row, Sample)] == [
        START + number * SECOND for number in range(10)
    ]
    assert list(history.rows(0, SECOND)) == []
