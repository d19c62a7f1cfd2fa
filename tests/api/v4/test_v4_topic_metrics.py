"""Counts of single topics as EMQX 4 shows them, compared with `/api/v5` of the same broker."""

from __future__ import annotations

from typing import Any

import pytest
from actors.flows import settle
from api.live import running
from api.older import older
from api.operations import shows
from trio.testing import MockClock

from trio_broker.config.features import MAX_TOPIC_METRICS

NAMES = ("in", "out", "qos0.in", "qos0.out", "qos1.in", "qos1.out", "qos2.in", "qos2.out", "dropped")


@shows("POST /api/v4/topic-metrics", "GET /api/v4/topic-metrics", "GET /api/v4/topic-metrics/:topic")
async def test_topics_are_counted(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        assert (await v4.get("/topic-metrics")).json() == {"code": 0, "data": []}
        answer = await v4.post("/topic-metrics", json={"topic": "t/1"})
        assert (answer.status_code, answer.json()) == (200, {"code": 0})
        client = await live.connect("c1")
        await client.subscribe("t/#", 1)
        for qos in (0, 1, 1):
            await client.publish("t/1", b"x", qos)
        await settle()
        ((topic, metrics),) = (
            (row["topic"], row["metrics"]) for row in (await v4.get("/topic-metrics")).json()["data"]
        )
        assert topic == "t/1"
        assert set(metrics) == {f"messages.{name}.{kind}" for name in NAMES for kind in ("count", "rate")}
        counts = {name: metrics[f"messages.{name}.count"] for name in NAMES if metrics[f"messages.{name}.count"]}
        assert counts == {"in": 3, "out": 3, "qos0.in": 1, "qos0.out": 1, "qos1.in": 2, "qos1.out": 2}
        assert type(metrics["messages.in.count"]) is int
        assert type(metrics["messages.in.rate"]) is float
        assert (await live.api.get("/mqtt/topic_metrics/t%2F1")).json()["metrics"] == metrics
        assert (await v4.get("/topic-metrics/t%2F1")).json() == {"code": 0, "data": metrics}


@shows("DELETE /api/v4/topic-metrics", "DELETE /api/v4/topic-metrics/:topic", "GET /api/v4/topic-metrics/:topic")
async def test_topics_are_counted_no_more(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        for topic in ("a", "b/c", "d"):
            assert (await v4.post(f"/topic-metrics?topic={topic}")).json() == {"code": 0}
        assert (await v4.delete("/topic-metrics/b%2Fc")).json() == {"code": 0}
        assert [row["topic"] for row in (await v4.get("/topic-metrics")).json()["data"]] == ["a", "d"]
        missing = {"code": 102, "message": "topic_not_found"}
        assert (await v4.delete("/topic-metrics/b%2Fc")).json() == missing
        assert (await v4.get("/topic-metrics/b%2Fc")).json() == missing
        assert (await v4.delete("/topic-metrics")).json() == {"code": 0}
        assert (await v4.delete("/topic-metrics")).json() == {"code": 0}
        assert (await v4.get("/topic-metrics")).json() == {"code": 0, "data": []}
        assert (await live.api.get("/mqtt/topic_metrics")).json() == []


@shows("POST /api/v4/topic-metrics")
@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({}, 107, "missing_required_params"),
        ({"topic": ""}, 107, "missing_required_params"),
        ({"topic": "t/+"}, 115, "invalid_topic_name"),
        ({"topic": "#"}, 115, "invalid_topic_name"),
        ({"topic": "a\0b"}, 115, "invalid_topic_name"),
        ({"topic": "a" * 65_536}, 115, "invalid_topic_name"),
        ({"topic": 1}, 108, "topic"),
        ({"topic": "there"}, 102, "already_existed"),
    ],
)
async def test_what_is_not_counted(autojump_clock: MockClock, body: dict[str, Any], code: int, message: str) -> None:
    async with running() as live, older(live, "v4") as v4:
        await v4.post("/topic-metrics", json={"topic": "there"})
        answer = await v4.post("/topic-metrics", json=body)
        assert (answer.status_code, answer.json()["code"]) == (200, code), answer.text
        assert message in answer.json()["message"]
        assert [row["topic"] for row in (await v4.get("/topic-metrics")).json()["data"]] == ["there"]


@shows("POST /api/v4/topic-metrics")
async def test_there_is_a_most(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        layer = {"topic_metrics": [{"topic": f"t/{number}"} for number in range(MAX_TOPIC_METRICS)]}
        await live.broker.questions.settings.change(layer)
        answer = await v4.post("/topic-metrics", json={"topic": "one/more"})
        assert answer.json() == {"code": 102, "message": "quota_exceeded"}
        assert len((await v4.get("/topic-metrics")).json()["data"]) == MAX_TOPIC_METRICS == 512
