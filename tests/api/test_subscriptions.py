"""`/subscriptions` and `/topics`."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from api.fake_questions import NODE, FakeQuestions, subscription
from api.operations import shows


@pytest.fixture(autouse=True)
def _subscribed(questions: FakeQuestions) -> None:
    questions.add("c1", "t/1", "t/#", "$share/g/t/1")
    questions.add("c2", "t/+", "$share/g/t/1", "$share/h/t/1")
    questions.filters["c2"]["t/+"] = subscription("t/+", qos=2, no_local=True, retain_handling=1)


async def rows(api: httpx.AsyncClient, **query: Any) -> Any:
    answer = await api.get("/subscriptions", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


@shows("GET /subscriptions")
async def test_list(api: httpx.AsyncClient) -> None:
    listed = await rows(api)
    assert listed["meta"] == {"page": 1, "limit": 100, "count": 6, "hasnext": False}
    assert listed["data"][3] == {
        "topic": "t/+",
        "clientid": "c2",
        "node": NODE,
        "qos": 2,
        "nl": 1,
        "rap": 0,
        "rh": 1,
        "durable": False,
    }
    listed = await rows(api, page=2, limit=4)
    assert (len(listed["data"]), listed["meta"]["hasnext"], listed["meta"]["count"]) == (2, False, 6)


@shows("GET /subscriptions")
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"clientid": "c1"}, ["t/1", "t/#", "$share/g/t/1"]),
        ({"qos": 2}, ["t/+"]),
        ({"topic": "t/1"}, ["t/1"]),
        ({"topic": "$share/g/t/1"}, ["$share/g/t/1", "$share/g/t/1"]),
        ({"topic": "t/1", "share_group": "g"}, ["$share/g/t/1", "$share/g/t/1"]),
        ({"share_group": "h"}, ["$share/h/t/1"]),
        ({"share_group": "g", "clientid": "c2"}, ["$share/g/t/1"]),
        ({"durable": "true"}, []),
        ({"durable": "false", "qos": 2}, ["t/+"]),
        ({"node": NODE, "topic": "t/#"}, ["t/#"]),
    ],
)
async def test_filters(api: httpx.AsyncClient, query: dict[str, Any], found: list[str]) -> None:
    listed = await rows(api, **query)
    assert [row["topic"] for row in listed["data"]] == found
    assert listed["meta"]["count"] == len(found)


@shows("GET /subscriptions")
@pytest.mark.parametrize(("match_topic", "count"), [("t/#", 6), ("t/1", 4), ("t/+", 6), ("#", 6), ("x/#", 0), ("t", 0)])
async def test_match_topic(api: httpx.AsyncClient, match_topic: str, count: int) -> None:
    listed = await rows(api, match_topic=match_topic)
    assert len(listed["data"]) == count
    assert "count" not in listed["meta"]


@shows("GET /subscriptions")
@pytest.mark.parametrize("match_topic", ["$share/g/t", "a/#/b", ""])
async def test_a_bad_match_topic(api: httpx.AsyncClient, match_topic: str) -> None:
    answer = await api.get("/subscriptions", params={"match_topic": match_topic})
    assert answer.status_code == 400
    assert answer.json() == {"code": "INVALID_PARAMETER", "message": "match_topic_invalid"}


@shows("GET /subscriptions")
@pytest.mark.parametrize("query", ["qos=3", "durable=x", "page=0"])
async def test_refused(api: httpx.AsyncClient, query: str) -> None:
    answer = await api.get(f"/subscriptions?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")


@shows("GET /topics")
async def test_topics(api: httpx.AsyncClient) -> None:
    listed = (await api.get("/topics")).json()
    assert listed["data"] == [
        {"topic": topic, "node": NODE} for topic in ("t/1", "t/#", "$share/g/t/1", "t/+", "$share/h/t/1")
    ]
    assert listed["meta"] == {"page": 1, "limit": 100, "count": 5, "hasnext": False}
    assert (await api.get("/topics?limit=2&page=2")).json()["meta"]["hasnext"] is True


@shows("GET /topics")
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"topic": "t/#"}, ["t/#"]),
        ({"topic": "$share/g/t/1"}, ["$share/g/t/1"]),
        ({"topic": "t"}, []),
        ({"node": NODE, "topic": "t/1"}, ["t/1"]),
        ({"node": "other"}, []),
    ],
)
async def test_topics_filtered(api: httpx.AsyncClient, query: dict[str, str], found: list[str]) -> None:
    listed = (await api.get("/topics", params=query)).json()
    assert [row["topic"] for row in listed["data"]] == found


@shows("GET /topics")
async def test_topics_with_a_bad_filter(api: httpx.AsyncClient) -> None:
    answer = await api.get("/topics", params={"topic": "a#"})
    assert (answer.status_code, answer.json()) == (
        400,
        {"code": "INVALID_PARAMTER", "message": "topic_filter_invalid"},
    )


@shows("GET /topics/:topic")
async def test_one_topic(api: httpx.AsyncClient) -> None:
    answer = await api.get("/topics/t%2F%23")
    assert (answer.status_code, answer.json()) == (200, [{"topic": "t/#", "node": NODE}])
    answer = await api.get("/topics/%24share%2Fg%2Ft%2F1")
    assert answer.json() == [{"topic": "$share/g/t/1", "node": NODE}]
    answer = await api.get("/topics/t%2F9")
    assert (answer.status_code, answer.json()) == (404, {"code": "TOPIC_NOT_FOUND", "message": "Topic not found"})
