"""Subscribing and unsubscribing a client from outside."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from api.fake_questions import NODE, FakeQuestions, subscription
from api.operations import shows

NO_LOCAL = "Invalid Subscribe options: `no_local` not allowed for shared-sub. See [MQTT-3.8.3-4]"


@pytest.fixture
def client(questions: FakeQuestions) -> FakeQuestions:
    questions.add("c1")
    return questions


def result(topic: str, **options: int) -> dict[str, Any]:
    return {"clientid": "c1", "node": NODE, "topic": topic, "qos": 0, "nl": 0, "rap": 0, "rh": 0} | options


@shows("POST /clients/:clientid/subscribe", "GET /clients/:clientid/subscriptions")
async def test_subscribe_and_list(api: httpx.AsyncClient, client: FakeQuestions) -> None:
    assert (await api.get("/clients/c1/subscriptions")).json() == []
    answer = await api.post("/clients/c1/subscribe", json={"topic": "t/#"})
    assert (answer.status_code, answer.json()) == (200, result("t/#"))
    options = {"qos": 2, "nl": 1, "rap": 1, "rh": 2}
    answer = await api.post("/clients/c1/subscribe", json={"topic": "a/+", **options})
    assert (answer.status_code, answer.json()) == (200, result("a/+", **options))
    answer = await api.post("/clients/c1/subscribe", json={"topic": "$share/g/b", "qos": "1"})
    assert (answer.status_code, answer.json()) == (200, result("$share/g/b", qos=1))
    listed = (await api.get("/clients/c1/subscriptions")).json()
    assert listed == [
        result("t/#") | {"durable": False},
        result("a/+", **options) | {"durable": False},
        result("$share/g/b", qos=1) | {"durable": False},
    ]
    assert client.filters["c1"]["a/+"] == subscription(
        "a/+", qos=2, no_local=True, retain_as_published=True, retain_handling=2
    )
    assert client.filters["c1"]["$share/g/b"] == subscription("$share/g/b", qos=1)


@shows("POST /clients/:clientid/subscribe")
@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "root.topic"),
        (None, "root.topic"),
        ({"topic": None}, "root.topic"),
        ({"topic": 1}, "root.topic"),
        ({"topic": ""}, "root.topic"),
        ({"topic": "a/#/b"}, "root.topic"),
        ({"topic": "$share/g"}, "root.topic"),
        ({"topic": "a\0"}, "root.topic"),
        ({"topic": "t", "qos": 3}, "root.qos"),
        ({"topic": "t", "qos": True}, "root.qos"),
        ({"topic": "t", "nl": 2}, "root.nl"),
        ({"topic": "t", "rap": -1}, "root.rap"),
        ({"topic": "t", "rh": 3}, "root.rh"),
        ({"topic": "t", "more": 1}, "root"),
        ([], "root"),
    ],
)
async def test_bodies_that_are_refused(api: httpx.AsyncClient, body: Any, path: str) -> None:
    answer = await api.post("/clients/c1/subscribe", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
    detail = json.loads(answer.json()["message"])
    assert (detail["kind"], detail["path"]) == ("validation_error", path)


@shows("POST /clients/:clientid/subscribe", "POST /clients/:clientid/subscribe/bulk")
@pytest.mark.usefixtures("client")
async def test_reasons_in_the_words_of_the_contract(api: httpx.AsyncClient) -> None:
    answer = await api.post("/clients/c1/subscribe", json={})
    assert json.loads(answer.json()["message"]) == {
        "kind": "validation_error",
        "path": "root.topic",
        "reason": "required_field",
    }
    answer = await api.post("/clients/c1/subscribe", json={"topic": "t", "more": 1})
    assert json.loads(answer.json()["message"]) == {
        "kind": "validation_error",
        "path": "root",
        "reason": "unknown_fields",
        "unknown": "more",
    }
    answer = await api.post("/clients/c1/subscribe/bulk", json=[{"topic": "t"}, {"topic": "t", "qos": 9}])
    detail = json.loads(answer.json()["message"])
    assert (detail["path"], detail["value"]) == ("root.2.qos", 9)


@shows("POST /clients/:clientid/subscribe")
@pytest.mark.usefixtures("client")
async def test_no_local_on_a_shared_one(api: httpx.AsyncClient) -> None:
    answer = await api.post("/clients/c1/subscribe", json={"topic": "$share/g/t", "nl": 1})
    assert (answer.status_code, answer.json()) == (400, {"code": "INVALID_PARAMETER", "message": NO_LOCAL})


@shows(
    "POST /clients/:clientid/subscribe",
    "POST /clients/:clientid/subscribe/bulk",
    "POST /clients/:clientid/unsubscribe",
    "POST /clients/:clientid/unsubscribe/bulk",
)
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("subscribe", {"topic": "t"}),
        ("subscribe/bulk", [{"topic": "t"}]),
        ("subscribe/bulk", []),
        ("unsubscribe", {"topic": "t"}),
        ("unsubscribe/bulk", [{"topic": "t"}]),
        ("unsubscribe/bulk", []),
    ],
)
async def test_an_unknown_client(api: httpx.AsyncClient, path: str, body: Any) -> None:
    answer = await api.post(f"/clients/no/{path}", json=body)
    assert answer.status_code == 404
    assert answer.json() == {"code": "CLIENTID_NOT_FOUND", "message": "Client ID not found"}


@shows("POST /clients/:clientid/subscribe/bulk")
@pytest.mark.usefixtures("client")
async def test_bulk(api: httpx.AsyncClient) -> None:
    body = [{"topic": "a", "qos": 1}, {"topic": "b", "nl": 1}]
    answer = await api.post("/clients/c1/subscribe/bulk", json=body)
    assert (answer.status_code, answer.json()) == (200, [result("a", qos=1), result("b", nl=1)])
    assert (await api.post("/clients/c1/subscribe/bulk", json=[])).json() == []


@shows("POST /clients/:clientid/subscribe/bulk")
async def test_bulk_where_some_fail(api: httpx.AsyncClient, client: FakeQuestions) -> None:
    body = [{"topic": "a/#/b", "qos": 1}, {"topic": "ok"}, {"topic": "$share/g/t", "nl": 1}]
    answer = await api.post("/clients/c1/subscribe/bulk", json=body)
    assert answer.status_code == 200
    shown = answer.json()
    assert shown["succeed"] == [result("ok")]
    assert [failed["data"] for failed in shown["failed"]] == [
        ["c1", "a/#/b", {"qos": 1, "nl": 0, "rap": 0, "rh": 0}],
        ["c1", "$share/g/t", {"qos": 0, "nl": 1, "rap": 0, "rh": 0}],
    ]
    assert "topic_filter_invalid" in shown["failed"][0]["reason"]
    assert shown["failed"][1]["reason"] == NO_LOCAL
    assert list(client.filters["c1"]) == ["ok"]


@shows("POST /clients/:clientid/unsubscribe", "POST /clients/:clientid/unsubscribe/bulk")
async def test_unsubscribe(api: httpx.AsyncClient, questions: FakeQuestions) -> None:
    questions.add("c1", "t/#", "$share/g/a", "b", "c")
    for topic in ("t/#", "$share/g/a", "never"):
        answer = await api.post("/clients/c1/unsubscribe", json={"topic": topic})
        assert (answer.status_code, answer.content) == (204, b"")
    answer = await api.post("/clients/c1/unsubscribe/bulk", json=[{"topic": "b"}, {}, {"topic": "never"}])
    assert (answer.status_code, answer.content) == (204, b"")
    assert list(questions.filters["c1"]) == ["c"]


@shows("POST /clients/:clientid/unsubscribe", "POST /clients/:clientid/unsubscribe/bulk")
@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(("path", "body"), [("unsubscribe", {}), ("unsubscribe/bulk", {}), ("unsubscribe/bulk", [1])])
async def test_unsubscribe_without_a_topic(api: httpx.AsyncClient, path: str, body: Any) -> None:
    answer = await api.post(f"/clients/c1/{path}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
