"""The retained messages over REST."""

from __future__ import annotations

import base64
import json
from datetime import datetime

import httpx
import pytest
import trio
from api.fake_questions import NOW_MS, FakeQuestions
from api.live import running
from api.operations import shows

from trio_broker.actors.questions import RetainedRow
from trio_broker.store.memory import MemoryStore


@pytest.fixture
def _retained(questions: FakeQuestions) -> None:
    questions.retained_rows = [
        RetainedRow(0x611F460D57FA9, "t/1", 1, NOW_MS, "c1", None, b"one"),
        RetainedRow(0x611F460D57FAA, "t/2", 0, NOW_MS + 1, "c1", "u1", b"two"),
        RetainedRow(0x611F460D57FAB, "$SYS/x", 0, NOW_MS + 2, "$SYS", "", b""),
        RetainedRow(0x611F460D57FAC, "big", 0, NOW_MS + 3, "http_api", None, b"x" * 1_048_577),
        RetainedRow(0x611F460D57FAD, "largest", 0, NOW_MS + 4, "http_api", None, b"x" * 1_048_576),
    ]


@shows("GET /mqtt/retainer/messages")
@pytest.mark.usefixtures("_retained")
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


@shows("GET /mqtt/retainer/messages")
@pytest.mark.usefixtures("_retained")
async def test_list_by_filter(api: httpx.AsyncClient) -> None:
    listed = (await api.get("/mqtt/retainer/messages", params={"topic": "t/+", "limit": 1})).json()
    assert [row["topic"] for row in listed["data"]] == ["t/1"]
    assert listed["meta"] == {"page": 1, "limit": 1, "hasnext": True}


@shows("GET /mqtt/retainer/messages")
@pytest.mark.parametrize(
    ("query", "path"), [("topic=a%23", "topic"), ("topic=", "topic"), ("page=0", "page"), ("limit=x", "limit")]
)
async def test_list_refused(api: httpx.AsyncClient, query: str, path: str) -> None:
    answer = await api.get(f"/mqtt/retainer/messages?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
    assert json.loads(answer.json()["message"])["path"] == path


@shows("GET /mqtt/retainer/message/:topic")
@pytest.mark.usefixtures("_retained")
async def test_lookup(api: httpx.AsyncClient) -> None:
    answer = await api.get("/mqtt/retainer/message/t%2F1")
    assert (answer.status_code, answer.json()["topic"]) == (200, "t/1")
    assert answer.json()["payload"] == base64.b64encode(b"one").decode()
    assert (await api.get("/mqtt/retainer/message/t%2F%2B")).json()["topic"] == "t/1"
    assert (await api.get("/mqtt/retainer/message/%24SYS%2Fx")).json()["payload"] == ""


@shows("GET /mqtt/retainer/message/:topic")
@pytest.mark.usefixtures("_retained")
async def test_large_payloads_are_left_out(api: httpx.AsyncClient) -> None:
    assert "payload" not in (await api.get("/mqtt/retainer/message/big")).json()
    assert len((await api.get("/mqtt/retainer/message/largest")).json()["payload"]) == 1_398_104


@shows("GET /mqtt/retainer/message/:topic", "DELETE /mqtt/retainer/message/:topic")
@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.usefixtures("_retained")
async def test_no_such_message(api: httpx.AsyncClient, method: str) -> None:
    answer = await api.request(method, "/mqtt/retainer/message/no%2F%23")
    assert answer.status_code == 404
    assert answer.json() == {"code": "NOT_FOUND", "message": "Viewed message doesn't exist"}
    answer = await api.request(method, "/mqtt/retainer/message/a%23")
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")


@shows("DELETE /mqtt/retainer/message/:topic", "DELETE /mqtt/retainer/messages")
@pytest.mark.usefixtures("_retained")
async def test_delete(api: httpx.AsyncClient, questions: FakeQuestions) -> None:
    answer = await api.delete("/mqtt/retainer/message/t%2F%23")
    assert (answer.status_code, answer.content) == (204, b"")
    assert [row.topic_name for row in questions.retained_rows] == ["$SYS/x", "big", "largest"]
    answer = await api.delete("/mqtt/retainer/messages")
    assert (answer.status_code, answer.content) == (204, b"")
    assert questions.retained_rows == []
    assert (await api.delete("/mqtt/retainer/messages")).status_code == 204


# -- with a broker


@shows("GET /mqtt/retainer/messages", "GET /mqtt/retainer/message/:topic")
async def test_what_clients_and_calls_left(autojump_clock: object) -> None:
    async with running() as live:
        named, nameless = await live.connect("c1", username="u1"), await live.connect("c2")
        await named.publish("t/1", b"one", qos=2, retain=True)
        await nameless.publish("t/2", b"\x00\xff", qos=1, retain=True)
        await named.publish("t/3", b"not retained", qos=1)
        answer = await live.api.post("/publish", json={"topic": "t/4", "payload": "four", "retain": True})
        assert answer.status_code == 202
        listed = (await live.api.get("/mqtt/retainer/messages")).json()
        assert listed["meta"] == {"page": 1, "limit": 100, "count": 3, "hasnext": False}
        rows = listed["data"]
        assert [set(row) for row in rows] == [
            {"msgid", "topic", "qos", "publish_at", "from_clientid", "from_username"}
        ] * 3
        assert [(row["topic"], row["qos"], row["from_clientid"], row["from_username"]) for row in rows] == [
            ("t/1", 2, "c1", "u1"),
            ("t/2", 1, "c2", "undefined"),
            ("t/4", 0, "http_api", "undefined"),
        ]
        assert len({row["msgid"] for row in rows}) == 3
        for row, payload in zip(rows, (b"one", b"\x00\xff", b"four"), strict=True):
            shown = (await live.api.get("/mqtt/retainer/message/" + row["topic"].replace("/", "%2F"))).json()
            assert shown == row | {"payload": base64.b64encode(payload).decode()}


@shows("GET /mqtt/retainer/messages")
async def test_pages_are_in_the_order_of_publishing(autojump_clock: object) -> None:
    async with running() as live:
        names = [f"t/{number * 7 % 10}" for number in range(10)]
        for name in [names[3], *names]:  # the oldest is replaced
            await live.broker.publish(name, b"x", retain=True)
        seen: list[str] = []
        for page in range(1, 5):
            listed = (await live.api.get(f"/mqtt/retainer/messages?page={page}&limit=4")).json()
            seen += [row["topic"] for row in listed["data"]]
            assert listed["meta"] == {"page": page, "limit": 4, "count": 10, "hasnext": page < 3}
        assert seen == names
        listed = (await live.api.get("/mqtt/retainer/messages?topic=%23&page=3&limit=4")).json()
        assert ([row["topic"] for row in listed["data"]], listed["meta"]["hasnext"]) == (names[8:], False)
        assert "count" not in listed["meta"]


@shows("GET /mqtt/retainer/messages", "GET /mqtt/retainer/message/:topic")
async def test_what_expired_is_left_out(autojump_clock: object) -> None:
    async with running() as live:
        body = {"topic": "t", "payload": "x", "retain": True, "properties": {"message_expiry_interval": 10}}
        await live.api.post("/publish", json=body)
        await trio.sleep(9)
        assert (await live.api.get("/mqtt/retainer/messages")).json()["meta"]["count"] == 1
        await trio.sleep(2)
        assert (await live.api.get("/mqtt/retainer/messages")).json()["data"] == []
        assert (await live.api.get("/mqtt/retainer/message/t")).status_code == 404


@shows("DELETE /mqtt/retainer/message/:topic", "DELETE /mqtt/retainer/messages")
async def test_what_was_deleted_does_not_come_back(autojump_clock: object) -> None:
    """Nor is it given to those who subscribe later; an empty payload deletes too."""
    store = MemoryStore()
    async with running(store=store) as live:
        for name in ("t/1", "t/2", "u/1", "u/2", "v"):
            await live.broker.publish(name, b"x", retain=True)
        assert (await live.api.delete("/mqtt/retainer/message/t%2F%2B")).status_code == 204
        assert (await live.api.delete("/mqtt/retainer/message/t%2F%2B")).status_code == 404
        assert (await live.api.delete("/mqtt/retainer/message/u%2F1")).status_code == 204
        await live.api.post("/publish", json={"topic": "v", "payload": "", "retain": True})
    async with running(store=store) as live:
        listed = (await live.api.get("/mqtt/retainer/messages")).json()
        assert [row["topic"] for row in listed["data"]] == ["u/2"]
        c1 = await live.connect("c1")
        await c1.subscribe("#")
        assert (await c1.receive()).topic_name == "u/2"
        assert (await live.api.delete("/mqtt/retainer/messages")).status_code == 204
        await c1.subscribe("#")
        await live.broker.publish("last", b"")
        assert (await c1.receive()).topic_name == "last"
    async with running(store=store) as live:
        assert (await live.api.get("/mqtt/retainer/messages")).json()["meta"]["count"] == 0
