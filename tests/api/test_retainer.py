"""The retained messages over REST."""

from __future__ import annotations

import base64
import json
from datetime import datetime

import httpx
import pytest
from api.fake_questions import NOW_MS, FakeQuestions

from trio_broker.actors.questions import RetainedRow


@pytest.fixture(autouse=True)
def _retained(questions: FakeQuestions) -> None:
    questions.retained_rows = [
        RetainedRow(0x611F460D57FA9, "t/1", 1, NOW_MS, "c1", None, b"one"),
        RetainedRow(0x611F460D57FAA, "t/2", 0, NOW_MS + 1, "c1", "u1", b"two"),
        RetainedRow(0x611F460D57FAB, "$SYS/x", 0, NOW_MS + 2, "$SYS", "", b""),
        RetainedRow(0x611F460D57FAC, "big", 0, NOW_MS + 3, "http_api", None, b"x" * 1_048_577),
        RetainedRow(0x611F460D57FAD, "largest", 0, NOW_MS + 4, "http_api", None, b"x" * 1_048_576),
    ]


async def test_list(api: httpx.AsyncClient) -> None:
    listed = (await api.get("/mqtt/retainer/messages")).json()
    assert listed["meta"] == {"page": 1, "limit": 100, "count": 5, "hasnext": False}
    row = listed["data"][0]
    assert datetime.fromisoformat(row.pop("publish_at")).timestamp() == NOW_MS / 1000
    assert row == {
        "msgid": "000611F460D57FA9F44500000D360002",
        "topic": "t/1",
        "qos": 1,
        "from_clientid": "c1",
        "from_username": "undefined",
    }
    assert [row["from_username"] for row in listed["data"]] == ["undefined", "u1", "", "undefined", "undefined"]


async def test_list_by_filter(api: httpx.AsyncClient) -> None:
    listed = (await api.get("/mqtt/retainer/messages", params={"topic": "t/+", "limit": 1})).json()
    assert [row["topic"] for row in listed["data"]] == ["t/1"]
    assert listed["meta"] == {"page": 1, "limit": 1, "hasnext": True}


@pytest.mark.parametrize(
    ("query", "path"), [("topic=a%23", "topic"), ("topic=", "topic"), ("page=0", "page"), ("limit=x", "limit")]
)
async def test_list_refused(api: httpx.AsyncClient, query: str, path: str) -> None:
    answer = await api.get(f"/mqtt/retainer/messages?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
    assert json.loads(answer.json()["message"])["path"] == path


async def test_lookup(api: httpx.AsyncClient) -> None:
    answer = await api.get("/mqtt/retainer/message/t%2F1")
    assert (answer.status_code, answer.json()["topic"]) == (200, "t/1")
    assert answer.json()["payload"] == base64.b64encode(b"one").decode()
    assert (await api.get("/mqtt/retainer/message/t%2F%2B")).json()["topic"] == "t/1"
    assert (await api.get("/mqtt/retainer/message/%24SYS%2Fx")).json()["payload"] == ""


async def test_large_payloads_are_left_out(api: httpx.AsyncClient) -> None:
    assert "payload" not in (await api.get("/mqtt/retainer/message/big")).json()
    assert len((await api.get("/mqtt/retainer/message/largest")).json()["payload"]) == 1_398_104


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_no_such_message(api: httpx.AsyncClient, method: str) -> None:
    answer = await api.request(method, "/mqtt/retainer/message/no%2F%23")
    assert answer.status_code == 404
    assert answer.json() == {"code": "NOT_FOUND", "message": "Viewed message doesn't exist"}
    answer = await api.request(method, "/mqtt/retainer/message/a%23")
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")


async def test_delete(api: httpx.AsyncClient, questions: FakeQuestions) -> None:
    answer = await api.delete("/mqtt/retainer/message/t%2F%23")
    assert (answer.status_code, answer.content) == (204, b"")
    assert [row.topic_name for row in questions.retained_rows] == ["$SYS/x", "big", "largest"]
    answer = await api.delete("/mqtt/retainer/messages")
    assert (answer.status_code, answer.content) == (204, b"")
    assert questions.retained_rows == []
    assert (await api.delete("/mqtt/retainer/messages")).status_code == 204
