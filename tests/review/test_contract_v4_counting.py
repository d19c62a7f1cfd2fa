"""The contract of `/api/v4`, read afresh: topic metrics and slow subscriptions."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio
from api.operations import shows
from review.doors_v4 import NODE, Doors, data, done, doors, got, refused
from trio.testing import MockClock

from trio_broker.store.memory import MemoryStore

TOPICS, SLOW = "/topic-metrics", "/slow_subscriptions"
COUNTED = ["in", "out", *(f"qos{qos}.{way}" for qos in (0, 1, 2) for way in ("in", "out")), "dropped"]
FIGURES = {f"messages.{name}.{kind}" for name in COUNTED for kind in ("count", "rate")}
ROW = {"clientid", "node", "topic", "timespan", "last_update_time"}


async def count(at: Doors, topic: str) -> None:
    done(await at.app.post(TOPICS, json={"topic": topic}))


async def counts(at: Doors, path: str) -> dict[str, int]:
    """The counts that are not 0."""
    metrics = await got(at.app, f"{TOPICS}/{path}")
    return {name[9:-6]: value for name, value in metrics.items() if name.endswith(".count") and value}


@shows("GET /api/v4/topic-metrics", "GET /api/v4/topic-metrics/:topic", "POST /api/v4/topic-metrics")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_topic_metrics(level: int, autojump_clock: MockClock) -> None:
    async with doors() as at:
        assert await got(at.app, TOPICS) == []
        await count(at, "t/1")
        [row] = await got(at.app, TOPICS)
        assert row.keys() >= {"topic", "metrics"}
        assert row["topic"] == "t/1"
        assert row["metrics"].keys() == FIGURES
        assert len(FIGURES) == 18
        for name, value in row["metrics"].items():
            assert value == 0
            assert type(value) is int or name.endswith(".rate")
        assert await got(at.app, f"{TOPICS}/t%2F1") == row["metrics"]
        sub = await at.live.connect("sub", level=level)
        await sub.subscribe("t/#", 1)
        pub = await at.live.connect("pub", level=level)
        for qos in (0, 1, 2, 2):
            await pub.publish("t/1", b"x", qos)
        await pub.publish("t/2", b"x", 1)
        done(await at.app.post("/mqtt/publish", json={"topic": "t/1", "payload": "x", "qos": 1}))
        with trio.fail_after(600):
            for _ in range(6):
                await sub.receive()
        expected = {"in": 5, "out": 5, "qos0.in": 1, "qos0.out": 1, "qos1.in": 2, "qos1.out": 4, "qos2.in": 2}
        assert await counts(at, "t%2F1") == expected
        await sub.unsubscribe("t/#")
        await pub.publish("t/1", b"x", 1)
        assert (await counts(at, "t%2F1"))["dropped"] == 1


@shows("POST /api/v4/topic-metrics", "GET /api/v4/topic-metrics/:topic")
async def test_what_is_not_counted(autojump_clock: MockClock) -> None:
    async with doors() as at:
        await count(at, "t")
        refused(await at.app.post(TOPICS, json={"topic": "t"}), 102)
        for empty in ({}, {"topic": ""}):
            refused(await at.app.post(TOPICS, json=empty), 107, "missing_required_params")
        for wild in ("#", "t/#", "+/t", "a/+/b"):
            refused(await at.app.post(TOPICS, json={"topic": wild}), 115, "invalid_topic_name")
        bad: list[Any] = [5, [], None, {}]
        for wrong in bad:
            refused(await at.app.post(TOPICS, json={"topic": wrong}), (107, 108))
        refused(await at.app.get(f"{TOPICS}/nothing"), 102)
        refused(await at.app.delete(f"{TOPICS}/nothing"), 102)
        for index in range(511):
            await count(at, f"n/{index}")
        refused(await at.app.post(TOPICS, json={"topic": "one/more"}), 102)
        assert len(await got(at.app, TOPICS)) == 512
        done(await at.app.delete(f"{TOPICS}/n%2F0"))
        await count(at, "one/more")


@shows("DELETE /api/v4/topic-metrics", "DELETE /api/v4/topic-metrics/:topic")
async def test_no_longer_counted(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with doors(store=store) as at:
        for topic in ("a/b", "c", "ä"):
            await count(at, topic)
        done(await at.app.delete(f"{TOPICS}/a%2Fb"))
        assert {row["topic"] for row in await got(at.app, TOPICS)} == {"c", "ä"}
    async with doors(store=store) as at:
        assert {row["topic"] for row in await got(at.app, TOPICS)} == {"c", "ä"}
        done(await at.app.delete(TOPICS))
        assert await got(at.app, TOPICS) == []
        refused(await at.app.get(f"{TOPICS}/c"), 102)
        await count(at, "c")
        assert await counts(at, "c") == {}


@shows("GET /api/v4/topic-metrics/:topic")
async def test_rates(autojump_clock: MockClock) -> None:
    async with doors() as at:
        await count(at, "t")
        pub = await at.live.connect("pub")
        for _ in range(100):
            await pub.publish("t", b"x")
            await trio.sleep(0.5)
        rate = (await got(at.app, f"{TOPICS}/t"))["messages.in.rate"]
        assert isinstance(rate, int | float)
        assert 1 <= rate <= 3


async def slow(at: Doors, client_id: str, topic: str, seconds: float) -> None:
    """A client that acknowledges a message so late."""
    client = await at.live.connect(client_id)
    await client.subscribe(topic, 1)
    done(await at.app.post("/mqtt/publish", json={"topic": topic, "payload": "x", "qos": 1}))
    with trio.fail_after(600):
        message = await client.receive(ack=False)
    await trio.sleep(seconds)
    client.acknowledge(message)
    await client.ping()


@shows("GET /api/v4/slow_subscriptions", "DELETE /api/v4/slow_subscriptions")
async def test_slow_subscriptions(autojump_clock: MockClock) -> None:
    async with doors() as at:
        for call in (at.app.get, at.app.delete):
            refused(await call(SLOW), 102, "module_not_loaded")
        done(await at.app.put("/modules/emqx_mod_slow_subs/load"))
        assert await got(at.app, SLOW) == []
        for client_id, seconds in (("fast", 0.01), ("c2", 2.0), ("c5", 5.0), ("c3", 3.0)):
            await slow(at, client_id, f"t/{client_id}", seconds)
        rows: list[dict[str, Any]] = await got(at.app, SLOW)
        assert [row["clientid"] for row in rows] == ["c5", "c3", "c2"]
        for row, seconds in zip(rows, (5, 3, 2), strict=True):
            assert row.keys() == ROW
            assert (row["node"], row["topic"]) == (NODE, f"t/{row['clientid']}")
            assert type(row["timespan"]) is int
            assert seconds * 1000 <= row["timespan"] < seconds * 1000 + 100
            assert type(row["last_update_time"]) is int
            assert row["last_update_time"] > (time.time() - 60) * 1000
        done(await at.app.delete(SLOW))
        assert data(await at.user.get(SLOW)) == []
        done(await at.app.put("/modules/emqx_mod_slow_subs/unload"))
        refused(await at.app.get(SLOW), 102, "module_not_loaded")
