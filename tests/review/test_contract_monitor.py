"""The REST contract, read afresh: rates and gauges of this moment, samples of an hour and of a week."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import trio
from api.live import Live, running
from api.operations import shows
from review.contract import NODE, away, done, failed, got, invalid, post, words
from trio.testing import MockClock

from trio_broker.config import Config
from trio_broker.config.model import DashboardConfig

OTHER = "other@10.0.0.1"
COUNTED = set(
    words("""received sent dropped validation_succeeded validation_failed transformation_succeeded transformation_failed
    persisted""")
)
GAUGES = set(words("disconnected_durable_sessions subscriptions_durable subscriptions topics connections")) | {
    "live_connections"
}
SAMPLE = COUNTED | GAUGES | {"time_stamp", "subscriptions_ram"}
NODE_NOW = set(
    words("""received_msg_rate sent_msg_rate dropped_msg_rate persisted_rate validation_succeeded_rate
    validation_failed_rate transformation_succeeded_rate transformation_failed_rate subscriptions topics connections
    live_connections retained_msg_count shared_subscriptions""")
)
NOW = NODE_NOW | {"subscriptions_ram", "subscriptions_durable", "disconnected_durable_sessions"}
HOUR, DAY = 3600, 86400


def sampled(seconds: float = 10.0) -> Config:
    return Config(dashboard=DashboardConfig(sample_interval=seconds))


@shows("GET /monitor_current", "GET /monitor_current/nodes/:node")
async def test_this_moment(autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1")
        await client.subscribe("t/#")
        await client.subscribe("$share/g/t/1")
        await away(live, "c2", "q")
        await post(live, "r", retain=True)
        await trio.sleep(2)
        now = await got(live, "/monitor_current")
        assert now.keys() == NOW
        assert all(type(value) is int for value in now.values())
        levels = {
            "subscriptions": 3,
            "subscriptions_ram": 3,
            "subscriptions_durable": 0,
            "disconnected_durable_sessions": 0,
            "topics": 3,
            "connections": 2,
            "live_connections": 1,
            "retained_msg_count": 1,
            "shared_subscriptions": 1,
        }
        assert {name: now[name] for name in levels} == levels
        one = await got(live, f"/monitor_current/nodes/{NODE}")
        assert one.keys() == NODE_NOW | {"node_uptime"}
        assert 2000 <= one["node_uptime"] < 60_000
        for path in ("/monitor_current/nodes/", "/monitor/nodes/"):
            failed(await live.api.get(path + OTHER), 404, "NOT_FOUND")


@shows("GET /monitor_current")
async def test_rates(autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1")
        await client.subscribe("t")
        for second in range(30):
            now = await got(live, "/monitor_current")
            if second > 20:
                rates = (now["received_msg_rate"], now["sent_msg_rate"], now["dropped_msg_rate"])
                assert rates == (30, 20, 10)
            for _ in range(20):
                await client.publish("t", b"")
            for _ in range(10):
                await client.publish("nobody", b"")
            await trio.sleep(1)
        await trio.sleep(30)
        now = await got(live, "/monitor_current")
        assert (now["received_msg_rate"], now["sent_msg_rate"], now["dropped_msg_rate"]) == (0, 0, 0)


async def samples(live: Live, **query: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = await got(live, "/monitor", **query)
    times = [row["time_stamp"] for row in rows]
    assert times == sorted(set(times))
    assert all(time % 10_000 == 0 for time in times)
    return rows


@shows("GET /monitor", "GET /monitor/nodes/:node", "DELETE /monitor")
async def test_samples_of_an_hour(autojump_clock: MockClock) -> None:
    async with running(sampled()) as live:
        client = await live.connect("c1")
        await client.subscribe("t")
        await trio.sleep(11)
        for _ in range(6):  # 100 of each ten minutes
            for _ in range(100):
                await client.publish("t", b"")
            await client.publish("nobody", b"")
            await trio.sleep(595)
        rows = await samples(live)
        assert all(row.keys() == SAMPLE for row in rows)
        assert all(type(value) is int for row in rows for value in row.values())
        assert sum(row["received"] for row in rows) == 606
        assert sum(row["sent"] for row in rows) == 600
        assert sum(row["dropped"] for row in rows) == 6
        assert max(row["received"] for row in rows) == 101
        assert [row["live_connections"] for row in rows[1:]] == [1] * (len(rows) - 1)
        assert rows[-1]["subscriptions"] == rows[-1]["subscriptions_ram"] == rows[-1]["topics"] == 1
        assert 350 <= len(rows) <= 362
        gaps = {later["time_stamp"] - row["time_stamp"] for row, later in pairwise(rows)}
        assert gaps == {10_000}
        last = await samples(live, latest=60)
        assert 5 <= len(last) <= 7
        assert last == rows[-len(last) :]
        of_node = await got(live, f"/monitor/nodes/{NODE}")
        assert [row["received"] for row in of_node] == [row["received"] for row in rows]
        assert len(await got(live, f"/monitor/nodes/{NODE}?latest=60")) == len(last)
        for latest in ("0", "-1", "x"):
            invalid(await live.api.get("/monitor", params={"latest": latest}), "latest")
        done(await live.api.delete("/monitor"))
        assert await got(live, "/monitor") == []
        await trio.sleep(30)
        assert len(await samples(live)) == 3


@shows("GET /monitor")
async def test_samples_of_a_week(autojump_clock: MockClock) -> None:
    async with running(sampled(300.0)) as live:
        client = await live.connect("c1")
        for _ in range(7 * 24):
            await client.publish("nobody", b"")
            await trio.sleep(HOUR)
        rows = await samples(live)
        assert all(row.keys() == SAMPLE for row in rows)
        assert 7 * 24 - 2 <= sum(row["received"] for row in rows) <= 7 * 24
        now = rows[-1]["time_stamp"]
        for older, younger, distance in [(0, 3 * DAY, 300), (3 * DAY, 7 * DAY, 600)]:
            # What is older is thinned from time to time, and at the border not all of it.
            part = [row for row in rows if older + 1200 < (now - row["time_stamp"]) / 1000 < younger - 1200]
            steps = {later["time_stamp"] - row["time_stamp"] for row, later in pairwise(part)}
            assert steps == {distance * 1000}
        await trio.sleep(2 * DAY)
        rows = await samples(live)
        assert rows[-1]["time_stamp"] - rows[0]["time_stamp"] <= (7 * DAY + 600) * 1000
        assert 118 <= sum(row["received"] for row in rows) <= 122
        last = await samples(live, latest=DAY)
        assert (DAY - 700) * 1000 <= last[-1]["time_stamp"] - last[0]["time_stamp"] <= DAY * 1000


@shows("GET /monitor")
async def test_samples_of_two_hours(autojump_clock: MockClock) -> None:
    """Each ten seconds for an hour, before that each minute."""
    async with running(sampled()) as live:
        await trio.sleep(2 * HOUR)
        rows = await samples(live)
        now = rows[-1]["time_stamp"]
        for older, younger, distance in [(0, HOUR, 10), (HOUR, 2 * HOUR, 60)]:
            part = [row for row in rows if older + 1200 < (now - row["time_stamp"]) / 1000 < younger - 1200]
            steps = {later["time_stamp"] - row["time_stamp"] for row, later in pairwise(part)}
            assert steps == {distance * 1000}


@shows("GET /monitor")
async def test_nothing_older_than_a_week_is_shown(autojump_clock: MockClock) -> None:
    """Also when no new samples are taken, which would push the old ones out."""
    async with running(sampled()) as live:
        await trio.sleep(120)
        assert len(await samples(live)) == 12
        settings = await got(live, "/configs/dashboard")
        answer = await live.api.put("/configs/dashboard", json=settings | {"sample_interval": "disabled"})
        assert answer.status_code == 200, answer.text
        await trio.sleep(9 * DAY)
        assert await samples(live) == []
