"""The REST contract, read afresh: delayed publish, alone and together with what else happens to messages."""

from __future__ import annotations

import base64
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import trio
from api.live import Live, running
from api.operations import shows
from review.contract import KEPT, MESSAGE_ID, NODE, TIME_MS, away, done, failed, got, invalid, post
from trio.testing import MockClock

from trio_broker.protocol.packets import Publish, Will
from trio_broker.store.memory import MemoryStore
from trio_broker.store.sqlite import SqliteStore
from trio_broker.testing import Client

MESSAGES = "/mqtt/delayed/messages"
ROW = {
    "msgid",
    "node",
    "topic",
    "qos",
    "publish_at",
    "expected_at",
    "delayed_interval",
    "delayed_remaining",
    "from_clientid",
    "from_username",
}


async def waiting(live: Live) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (await got(live, MESSAGES))["data"]
    return rows


async def received(client: Client) -> Publish:
    with trio.fail_after(600):
        return await client.receive()


def epoch(text: str) -> float:
    assert TIME_MS.fullmatch(text), text
    return datetime.fromisoformat(text).timestamp()


@shows("GET /mqtt/delayed", "PUT /mqtt/delayed")
async def test_settings(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        assert await got(live, "/mqtt/delayed") == {"enable": True, "max_delayed_messages": 0}
        wanted = {"enable": False, "max_delayed_messages": 7}
        answer = await live.api.put("/mqtt/delayed", json=wanted)
        assert (answer.status_code, answer.json()) == (200, wanted)
        bad: Any
        for bad in ({"enable": "x"}, {"max_delayed_messages": -1}, {"max_delayed_messages": "a"}, {"more": 1}, []):
            failed(await live.api.put("/mqtt/delayed", json=bad), 400, "BAD_REQUEST")
        viewer = await live.api.put("/mqtt/delayed", json={"enable": True}, auth=live.as_viewer())
        failed(viewer, 403, "UNAUTHORIZED_ROLE")
    async with running(store=store) as live:
        assert await got(live, "/mqtt/delayed") == wanted
        await post(live, "$delayed/1/t", qos=1)
        assert await waiting(live) == []


@shows("GET /mqtt/delayed/messages", "GET /mqtt/delayed/messages/:node/:msgid")
async def test_what_waits_is_listed(autojump_clock: MockClock) -> None:
    async with running() as live:
        c1 = await live.connect("c1", username="u1")
        sub = await live.connect("sub")
        await sub.subscribe("#", 2)
        await c1.publish("$delayed/60/t/1", b"\x00\xff", 1)
        await trio.sleep(3)
        (row,) = await waiting(live)
        assert row.keys() == ROW
        assert MESSAGE_ID.fullmatch(row["msgid"])
        assert epoch(row["expected_at"]) - epoch(row["publish_at"]) == pytest.approx(60, abs=1)
        same = {key: row[key] for key in ROW - {"msgid", "publish_at", "expected_at"}}
        assert same == {
            "node": NODE,
            "topic": "t/1",
            "qos": 1,
            "delayed_interval": 60,
            "delayed_remaining": 57,
            "from_clientid": "c1",
            "from_username": "u1",
        }
        one = await got(live, f"{MESSAGES}/{NODE}/{row['msgid']}")
        assert base64.b64decode(one.pop("payload")) == b"\x00\xff"
        assert one == row
        assert not sub.inbox
        await trio.sleep(58)
        message = await received(sub)
        assert (message.topic_name, message.payload, message.qos) == ("t/1", b"\x00\xff", 1)
        assert await got(live, MESSAGES) == {
            "data": [],
            "meta": {"page": 1, "limit": 100, "count": 0, "hasnext": False},
        }
        failed(await live.api.get(f"{MESSAGES}/{NODE}/{row['msgid']}"), 404, "MESSAGE_ID_NOT_FOUND")


@shows("GET /mqtt/delayed/messages")
async def test_pages(autojump_clock: MockClock) -> None:
    async with running() as live:
        for index in range(3):
            await post(live, f"$delayed/60/t/{index}")
        first = await got(live, MESSAGES, limit=2)
        second = await got(live, MESSAGES, limit=2, page=2)
        assert first["meta"] == {"page": 1, "limit": 2, "count": 3, "hasnext": True}
        assert second["meta"] == {"page": 2, "limit": 2, "count": 3, "hasnext": False}
        rows = first["data"] + second["data"]
        assert sorted(row["topic"] for row in rows) == ["t/0", "t/1", "t/2"]
        assert {row["from_clientid"] for row in rows} == {"http_api"}
        invalid(await live.api.get(MESSAGES, params={"limit": 0}), "limit")


@shows("GET /mqtt/delayed/messages/:node/:msgid", "DELETE /mqtt/delayed/messages/:node/:msgid")
async def test_one_by_its_id(autojump_clock: MockClock) -> None:
    async with running() as live:
        await post(live, "$delayed/60/small", "x" * 2048)
        await post(live, "$delayed/60/large", "x" * 2049)
        by_topic = {row["topic"]: row["msgid"] for row in await waiting(live)}
        assert len((await got(live, f"{MESSAGES}/{NODE}/{by_topic['small']}"))["payload"]) == 2732
        assert (await got(live, f"{MESSAGES}/{NODE}/{by_topic['large']}"))["payload"] == "PAYLOAD_TOO_LARGE"
        for call in (live.api.get, live.api.delete):
            failed(await call(f"{MESSAGES}/{NODE}/{'0' * 32}"), 404, "MESSAGE_ID_NOT_FOUND")
            failed(await call(f"{MESSAGES}/{NODE}/nothing"), 400, "MESSAGE_ID_SCHEMA_ERROR")
            failed(await call(f"{MESSAGES}/a@b/{by_topic['small']}"), 400, "INVALID_NODE")
        done(await live.api.delete(f"{MESSAGES}/{NODE.replace('@', '%40')}/{by_topic['small']}"))
        failed(await live.api.delete(f"{MESSAGES}/{NODE}/{by_topic['small']}"), 404, "MESSAGE_ID_NOT_FOUND")
        assert [row["topic"] for row in await waiting(live)] == ["large"]


@shows("DELETE /mqtt/delayed/messages/:topic")
async def test_deleting_by_topic(autojump_clock: MockClock) -> None:
    async with running() as live:
        sub = await live.connect("sub")
        await sub.subscribe("#")
        for topic in ("t/1", "t/1", "t/1/x", "t"):
            await post(live, f"$delayed/9/{topic}", topic)
        done(await live.api.delete(f"{MESSAGES}/t%2F1"))
        failed(await live.api.delete(f"{MESSAGES}/t%2F1"), 404, "MESSAGE_NOT_FOUND", "Not found messages for t/1")
        for wild in ("t%2F%23", "t%2F%2B", "%23"):
            failed(await live.api.delete(f"{MESSAGES}/{wild}"), 400, "INVALID_TOPIC_NAME")
        await trio.sleep(10)
        assert [(await received(sub)).payload for _ in range(2)] == [b"t/1/x", b"t"]
        assert not sub.inbox


@shows("PUT /mqtt/delayed", "GET /mqtt/delayed/messages")
async def test_the_limit(autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.api.put("/mqtt/delayed", json={"enable": True, "max_delayed_messages": 2})
        for index in range(4):
            await post(live, f"$delayed/9/t/{index}", qos=1)
        assert [row["topic"] for row in await waiting(live)] == ["t/0", "t/1"]
        await trio.sleep(10)
        await post(live, "$delayed/9/t/5")
        assert [row["topic"] for row in await waiting(live)] == ["t/5"]


@shows("GET /mqtt/delayed/messages")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_publishers_of_all_versions(level: int, autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1", level=level)
        for qos in (0, 1, 2):
            await client.publish(f"$delayed/5/t/{qos}", b"x", qos)
        await client.ping()
        rows = await waiting(live)
        assert sorted((row["topic"], row["qos"]) for row in rows) == [("t/0", 0), ("t/1", 1), ("t/2", 2)]
        assert {row["from_username"] for row in rows} == {"undefined"}
        await client.subscribe("t/+", 2)
        await trio.sleep(6)
        assert sorted([(await received(client)).qos for _ in range(3)]) == [0, 1, 2]


@shows("GET /mqtt/delayed/messages")
@pytest.mark.parametrize("kind", ["memory", "disk"])
async def test_a_retained_one_over_a_restart(kind: str, tmp_path: Path, autojump_clock: MockClock) -> None:
    """It is retained when it is due, not before; it is published once, also when it was due meanwhile."""
    memory = MemoryStore()
    async with running(store=memory if kind == "memory" else SqliteStore(tmp_path)) as live:
        await away(live, "sub", "t/#")
        await post(live, "t/1", "old", retain=True, qos=1)
        client = await live.connect("c1", username="u1")
        await client.publish("$delayed/50/t/1", b"new", 1, True, {"content_type": "text/plain"})
        old = await got(live, "/mqtt/retainer/message/t%2F1")
        assert base64.b64decode(old["payload"]) == b"old"
        (before,) = await waiting(live)
    async with running(store=memory if kind == "memory" else SqliteStore(tmp_path)) as live:
        (after,) = await waiting(live)
        for key in ROW - {"delayed_remaining"}:
            assert after[key] == before[key], key
        await trio.sleep(51)
        assert await waiting(live) == []
        new = await got(live, "/mqtt/retainer/message/t%2F1")
        assert base64.b64decode(new["payload"]) == b"new"
        assert (new["from_clientid"], new["from_username"]) == ("c1", "u1")
        sub = await live.connect("sub", clean_start=False, **KEPT)
        assert [(await received(sub)).payload for _ in range(2)] == [b"old", b"new"]
        late = await live.connect("late")
        await late.subscribe("t/1", 1)
        message = await received(late)
        assert (message.payload, message.retain, message.properties["content_type"]) == (b"new", True, "text/plain")
    async with running(store=memory if kind == "memory" else SqliteStore(tmp_path)) as live:
        assert await waiting(live) == []


@shows("GET /mqtt/delayed/messages")
async def test_a_will_that_is_delayed(autojump_clock: MockClock) -> None:
    async with running() as live:
        sub = await live.connect("sub")
        await sub.subscribe("w")
        client = await live.connect("c1", will=Will("$delayed/20/w", b"gone"))
        await client.drop()
        await trio.sleep(5)
        (row,) = await waiting(live)
        assert (row["topic"], row["from_clientid"], row["delayed_interval"]) == ("w", "c1", 20)
        await trio.sleep(16)
        assert (await received(sub)).payload == b"gone"


@shows("DELETE /mqtt/delayed/messages/:node/:msgid")
async def test_what_was_deleted_is_not_back_after_a_restart(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        for topic in ("a", "b", "c"):
            await post(live, f"$delayed/60/{topic}", qos=1)
        by_topic = {row["topic"]: row["msgid"] for row in await waiting(live)}
        done(await live.api.delete(f"{MESSAGES}/{NODE}/{by_topic['a']}"))
        done(await live.api.delete(f"{MESSAGES}/b"))
    async with running(store=store) as live:
        assert [(row["topic"], row["msgid"]) for row in await waiting(live)] == [("c", by_topic["c"])]


@shows("POST /publish", "GET /mqtt/topic_metrics/:topic", "PUT /mqtt/topic_rewrite")
async def test_rewritten_delayed_and_counted(autojump_clock: MockClock) -> None:
    """A rewrite that leads into `$delayed/`, and topic metrics of where it comes out."""
    async with running() as live:
        rules = [{"action": "publish", "source_topic": "later/#", "re": "^later/(.+)$", "dest_topic": "$delayed/30/$1"}]
        assert (await live.api.put("/mqtt/topic_rewrite", json=rules)).status_code == 200
        assert (await live.api.post("/mqtt/topic_metrics", json={"topic": "t/1"})).status_code == 200
        sub = await live.connect("sub")
        await sub.subscribe("t/#", 1)
        client = await live.connect("c1", level=4)
        await client.publish("later/t/1", b"x", 1)
        (row,) = await waiting(live)
        assert (row["topic"], row["delayed_interval"]) == ("t/1", 30)
        assert (await got(live, "/mqtt/topic_metrics/t%2F1"))["metrics"]["messages.in.count"] == 0
        await trio.sleep(31)
        assert (await received(sub)).topic_name == "t/1"
        metrics = (await got(live, "/mqtt/topic_metrics/t%2F1"))["metrics"]
        assert (metrics["messages.in.count"], metrics["messages.qos1.out.count"]) == (1, 1)
