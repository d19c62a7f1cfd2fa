"""`/mqtt/topic_metrics`: what goes in and out under single topics."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
import trio
from actors.flows import settle
from api.live import Live, running
from api.operations import shows

from trio_broker.config import Config, Layers
from trio_broker.config.features import TopicMetricConfig
from trio_broker.errors import ConfigError
from trio_broker.store.memory import MemoryStore

NAMES = ("in", "out", "qos0.in", "qos0.out", "qos1.in", "qos1.out", "qos2.in", "qos2.out", "dropped")
KEYS = {f"messages.{name}.{kind}" for name in NAMES for kind in ("count", "rate")}


async def figures(live: Live, kind: str = "count", topic: str = "t%2F1") -> dict[str, Any]:
    """Those that are not 0, by their short names."""
    await settle()
    metrics = (await live.api.get(f"/mqtt/topic_metrics/{topic}")).json()["metrics"]
    assert set(metrics) == KEYS
    return {name: number for name in NAMES if (number := metrics[f"messages.{name}.{kind}"])}


async def register(live: Live, *topics: str) -> None:
    for topic in topics:
        assert (await live.api.post("/mqtt/topic_metrics", json={"topic": topic})).status_code == 200


@shows("POST /mqtt/topic_metrics", "GET /mqtt/topic_metrics", "GET /mqtt/topic_metrics/:topic")
async def test_register(autojump_clock: object) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        assert (await live.api.get("/mqtt/topic_metrics")).json() == []
        answer = await live.api.post("/mqtt/topic_metrics", json={"topic": "t/1"})
        assert answer.status_code == 200
        created = answer.json()
        assert datetime.fromisoformat(created.pop("create_time")).tzinfo is not None
        metrics = {key: 0.0 if key.endswith("rate") else 0 for key in KEYS}
        assert created == {"topic": "t/1", "metrics": metrics}
        await register(live, "a")
        found = (await live.api.get("/mqtt/topic_metrics")).json()
        assert [one["topic"] for one in found] == ["t/1", "a"]
        assert (await live.api.get("/mqtt/topic_metrics/a")).json() == found[1]
        await live.broker.publish("a", b"x")
        assert await figures(live, topic="a") == {"in": 1, "qos0.in": 1, "dropped": 1}
    async with running(store=store) as live:
        found = (await live.api.get("/mqtt/topic_metrics")).json()
        assert [one["topic"] for one in found] == ["t/1", "a"]
        assert await figures(live, topic="a") == {}


@shows("POST /mqtt/topic_metrics")
@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"topic": ""}, "BAD_REQUEST", "Topic can not be empty"),
        ({"topic": "t/+"}, "BAD_TOPIC", "Wildcard topic is not supported"),
        ({"topic": "#"}, "BAD_TOPIC", "Wildcard topic is not supported"),
        ({"topic": "there"}, "BAD_TOPIC", "Topic already registered"),
        ({"topic": "a\0b"}, "BAD_REQUEST", "is not a topic name"),
        ({}, "BAD_REQUEST", "required_field"),
        ({"topic": 1}, "BAD_REQUEST", "root.topic"),
        ({"topic": "a", "more": 1}, "BAD_REQUEST", "unknown_fields"),
    ],
)
async def test_bad_topics(body: object, code: str, message: str, autojump_clock: object) -> None:
    async with running() as live:
        await register(live, "there")
        answer = await live.api.post("/mqtt/topic_metrics", json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, code)
        assert message in answer.json()["message"]
        assert len((await live.api.get("/mqtt/topic_metrics")).json()) == 1


@shows("POST /mqtt/topic_metrics", "DELETE /mqtt/topic_metrics/:topic")
async def test_no_more_than_512(autojump_clock: object) -> None:
    config = Config(topic_metrics=tuple(TopicMetricConfig(topic=f"t/{number}") for number in range(511)))
    async with running(config) as live:
        await register(live, "one/more")
        answer = await live.api.post("/mqtt/topic_metrics", json={"topic": "another"})
        assert answer.status_code == 409
        assert answer.json() == {"code": "EXCEED_LIMIT", "message": "Max topic metrics count is 512"}
        assert (await live.api.delete("/mqtt/topic_metrics/t%2F1")).status_code == 204
        await register(live, "another")


@pytest.mark.parametrize("topics", [["a", "a"], ["a/#"], ["+"], [""], [f"t/{number}" for number in range(513)]])
def test_the_configuration_is_checked(topics: list[str]) -> None:
    with pytest.raises(ConfigError, match="topic_metrics"):
        Layers(Config()).config({"topic_metrics": [{"topic": topic} for topic in topics]})


async def test_two_at_one_time_are_both_registered(autojump_clock: object) -> None:
    async with running() as live:
        async with trio.open_nursery() as nursery:
            for topic in ("a", "b", "c"):
                nursery.start_soon(register, live, topic)
        found = (await live.api.get("/mqtt/topic_metrics")).json()
        assert sorted(one["topic"] for one in found) == ["a", "b", "c"]


@shows("DELETE /mqtt/topic_metrics/:topic", "GET /mqtt/topic_metrics/:topic")
async def test_deregister(autojump_clock: object) -> None:
    """What was counted is forgotten with it."""
    store = MemoryStore()
    async with running(store=store) as live:
        await register(live, "t/1", "a")
        await live.broker.publish("t/1", b"x")
        answer = await live.api.delete("/mqtt/topic_metrics/t%2F1")
        assert (answer.status_code, answer.content) == (204, b"")
        for method in ("GET", "DELETE"):
            answer = await live.api.request(method, "/mqtt/topic_metrics/t%2F1")
            assert answer.status_code == 404
            assert answer.json() == {"code": "TOPIC_NOT_FOUND", "message": "Topic not found"}
        await register(live, "t/1")
        assert await figures(live) == {}
        await live.api.delete("/mqtt/topic_metrics/a")
    async with running(store=store) as live:
        assert [one["topic"] for one in (await live.api.get("/mqtt/topic_metrics")).json()] == ["t/1"]


@shows("PUT /mqtt/topic_metrics")
async def test_reset(autojump_clock: object) -> None:
    async with running() as live:
        await register(live, "t/1", "a")
        for topic in ("t/1", "a"):
            await live.broker.publish(topic, b"x")
        answer = await live.api.put("/mqtt/topic_metrics", json={"action": "reset", "topic": "t/1"})
        assert answer.status_code == 200
        assert (answer.json()["topic"], answer.json()["metrics"]["messages.in.count"]) == ("t/1", 0)
        assert (await figures(live), await figures(live, "rate")) == ({}, {})
        assert (await figures(live, topic="a"))["in"] == 1
        answer = await live.api.put("/mqtt/topic_metrics", json={"action": "reset"})
        assert [one["metrics"]["messages.in.count"] for one in answer.json()] == [0, 0]
        answer = await live.api.put("/mqtt/topic_metrics", json={"action": "reset", "topic": "b"})
        assert (answer.status_code, answer.json()["code"]) == (404, "TOPIC_NOT_FOUND")
        for body in ({}, {"action": "set"}, {"action": "reset", "more": 1}, {"action": "reset", "topic": 1}):
            answer = await live.api.put("/mqtt/topic_metrics", json=body)
            assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")


@shows("GET /mqtt/topic_metrics/:topic")
async def test_counts_by_qos(autojump_clock: object) -> None:
    """In with the QoS of the publisher, out with that of the delivery."""
    async with running() as live:
        await register(live, "t/1")
        subscribers = [await live.connect(f"s{qos}") for qos in range(3)]
        for qos, client in enumerate(subscribers):
            await client.subscribe("t/#", qos)
        publisher = await live.connect("publisher")
        for qos in (0, 1, 2):
            for _ in range(qos + 1):
                await publisher.publish("t/1", b"x", qos)
            await publisher.publish("t/2", b"x", qos)
        assert await figures(live) == {
            "in": 6,
            "qos0.in": 1,
            "qos1.in": 2,
            "qos2.in": 3,
            "out": 18,
            "qos0.out": 1 * 3 + 2 + 3,
            "qos1.out": 2 * 2 + 3,
            "qos2.out": 3,
        }


@shows("GET /mqtt/topic_metrics/:topic")
async def test_special_subscriptions(autojump_clock: object) -> None:
    """A shared subscription is one recipient; No Local is none of one's own; one that is away counts as one."""
    async with running() as live:
        await register(live, "t/1")
        for client_id in ("g1", "g2"):
            await (await live.connect(client_id)).subscribe("$share/g/t/1", 1)
        own = await live.connect("own")
        await own.subscribe("t/1", 1, no_local=True)
        away = await live.connect("away", properties={"session_expiry_interval": 1000})
        await away.subscribe("t/1", 0)
        await away.disconnect()
        await own.publish("t/1", b"x", 1)
        assert await figures(live) == {"in": 1, "qos1.in": 1, "out": 2, "qos1.out": 1, "qos0.out": 1}
        await (await live.connect("other")).publish("t/1", b"x", 1)
        assert await figures(live) == {"in": 2, "qos1.in": 2, "out": 5, "qos1.out": 3, "qos0.out": 2}


@shows("GET /mqtt/topic_metrics/:topic")
async def test_upgraded_qos(autojump_clock: object) -> None:
    layers = Layers.gather(environ={"TRIO_BROKER_MQTT__UPGRADE_QOS": "true"}, base=Config())
    async with running(layers.config(), layers=layers) as live:
        await register(live, "t/1")
        await (await live.connect("c1")).subscribe("t/1", 2)
        await live.broker.publish("t/1", b"x")
        assert await figures(live) == {"in": 1, "qos0.in": 1, "out": 1, "qos2.out": 1}


async def test_a_delayed_message_counts_when_it_is_published(autojump_clock: object) -> None:
    async with running() as live:
        await register(live, "t/1")
        await live.broker.publish("$delayed/10/t/1", b"x")
        assert await figures(live) == {}
        await trio.sleep(11)
        assert await figures(live) == {"in": 1, "qos0.in": 1, "dropped": 1}


@shows("GET /mqtt/topic_metrics/:topic")
async def test_rates_are_of_the_last_seconds(autojump_clock: object) -> None:
    async with running() as live:
        await register(live, "t/1")
        for _ in range(20):
            await live.broker.publish("t/1", b"x")
            await trio.sleep(0.5)
        assert await figures(live, "rate") == {"in": 2.0, "qos0.in": 2.0, "dropped": 2.0}
        await trio.sleep(2.5)
        assert 0 < (await figures(live, "rate"))["in"] < 2
        await trio.sleep(10)
        assert await figures(live, "rate") == {}
        await live.broker.publish("t/1", b"x")
        assert (await figures(live, "rate"))["in"] == 0.2
        assert (await figures(live))["in"] == 21


async def test_nothing_runs_for_topics_that_are_quiet(autojump_clock: object) -> None:
    async with running() as live:
        core = live.broker._core
        assert core is not None
        timers = len(core.timers)
        await register(live, "t/1")
        await live.broker.publish("t/2", b"x")
        assert len(core.timers) == timers
        assert core.router.table.match("t/2").special is None


@shows("POST /mqtt/topic_metrics", "DELETE /mqtt/topic_metrics/:topic", "PUT /mqtt/topic_metrics")
async def test_who_may(autojump_clock: object) -> None:
    environ = {"TRIO_BROKER_TOPIC_METRICS": '[{topic = "t/1"}]'}
    async with running(layers=Layers.gather(environ=environ, base=Config())) as live:
        viewer = live.as_viewer()
        assert (await live.api.get("/mqtt/topic_metrics", auth=viewer)).status_code == 200
        assert (await live.api.post("/mqtt/topic_metrics", json={"topic": "a"}, auth=viewer)).status_code == 403
        assert (await live.api.put("/mqtt/topic_metrics", json={"action": "reset"}, auth=viewer)).status_code == 403
        # What the environment says cannot be changed.
        answer = await live.api.post("/mqtt/topic_metrics", json={"topic": "a"})
        assert (answer.status_code, answer.json()["code"]) == (403, "UPDATE_FAILED")
        answer = await live.api.delete("/mqtt/topic_metrics/t%2F1")
        assert (answer.status_code, answer.json()["code"]) == (403, "UPDATE_FAILED")
