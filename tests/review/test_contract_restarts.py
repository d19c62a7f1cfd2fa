"""The REST contract, read afresh: what it changed, and what it shows, after a restart of the broker."""

from __future__ import annotations

from typing import Any

import trio
from api.live import running
from api.operations import shows
from review.contract import CLIENT_KEYS, away, done, failed, got, listed, post
from trio.testing import MockClock

from trio_broker.store.memory import MemoryStore

MQUEUE = "/clients/c1/mqueue_messages"


@shows("GET /clients", "GET /clients/:clientid", "GET /subscriptions", "GET /sessions_count", "GET /topics")
async def test_sessions(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        await away(live, "c1", "t/#", "$share/g/t", username="u1")
        await live.connect("gone")
        before = await got(live, "/clients/c1")
        rows = await got(live, "/clients/c1/subscriptions")
    async with running(store=store) as live:
        assert (await live.api.get("/sessions_count")).text == "1"
        after = await got(live, "/clients/c1")
        assert after.keys() == CLIENT_KEYS | {"disconnected_at"}
        same = (
            "clientid username connected created_at disconnected_at proto_name proto_ver expiry_interval is_persistent"
        )
        for key in [*same.split(), "subscriptions_cnt", "is_expired", "durable"]:
            assert after[key] == before[key], key
        assert sorted(await got(live, "/clients/c1/subscriptions"), key=str) == sorted(rows, key=str)
        assert await listed(live, "/topics", "topic") == {"t/#", "$share/g/t"}
        for query in ("conn_state=disconnected", "username=u1", "like_clientid=c", "proto_ver=5"):
            assert await listed(live, f"/clients?{query}") == {"c1"}
        await trio.sleep(3)
        stats = await got(live, "/stats?aggregate=true")
        assert [stats[f"{n}.count"] for n in ("sessions", "subscriptions", "topics", "live_connections")] == [
            1,
            2,
            2,
            0,
        ]


@shows("GET /clients/:clientid/mqueue_messages", "POST /clients/:clientid/subscribe", "DELETE /clients/:clientid")
async def test_what_waits(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        await away(live, "c1", "t/#", qos=2)
        for index in range(4):
            await post(live, f"t/{index}", f"{index}", qos=1 + index % 2)
            await trio.sleep(1)
        before = await got(live, MQUEUE, payload="plain")
    async with running(store=store) as live:
        after = await got(live, MQUEUE, payload="plain")
        for old, new in zip(before["data"], after["data"], strict=True):
            for key in ("msgid", "topic", "qos", "publish_at", "from_clientid", "from_username", "payload"):
                assert new[key] == old[key], key
        seen: list[str] = []
        position = "none"
        while chunk := (await got(live, MQUEUE, payload="plain", limit=3, position=position)):
            if not chunk["data"]:
                break
            seen += [row["payload"] for row in chunk["data"]]
            position = chunk["meta"]["position"]
        assert seen == ["0", "1", "2", "3"]
        answer = await live.api.post("/clients/c1/subscribe", json={"topic": "u", "qos": 1})
        assert answer.status_code == 200
        done(await live.api.post("/clients/c1/unsubscribe", json={"topic": "t/#"}))
        assert (await post(live, "u", "4", qos=1)).status_code == 200
    async with running(store=store) as live:
        assert await listed(live, "/clients/c1/mqueue_messages", "payload", payload="plain") == set("01234")
        assert [row["topic"] for row in await got(live, "/clients/c1/subscriptions")] == ["u"]
        done(await live.api.delete("/clients/c1"))
    async with running(store=store) as live:
        failed(await live.api.get("/clients/c1"), 404, "CLIENTID_NOT_FOUND")
        assert (await got(live, "/subscriptions"))["meta"]["count"] == 0
        assert (await post(live, "u", "4", qos=1)).status_code == 202


@shows("GET /clients/:clientid/inflight_messages", "GET /clients/:clientid/mqueue_messages")
async def test_what_was_on_its_way(autojump_clock: MockClock) -> None:
    """A client that left before it acknowledged: while it is away each message is still in exactly one list."""
    store = MemoryStore()
    properties: Any = {"session_expiry_interval": 3600, "receive_maximum": 2}
    async with running(store=store) as live:
        client = await live.connect("c1", auto_ack=False, properties=properties)
        await client.subscribe("t", 1)
        for index in range(5):
            await post(live, "t", f"{index}", qos=1)
        for _ in range(2):
            await client.receive()
        await client.drop()
        await trio.sleep(1)
        for _ in range(2):
            lists = [(await got(live, f"/clients/c1/{each}_messages", payload="plain"))["data"] for each in KINDS]
            assert [row["payload"] for rows in lists for row in rows] == list("01234")
    async with running(store=store) as live:
        lists = [(await got(live, f"/clients/c1/{each}_messages", payload="plain"))["data"] for each in KINDS]
        assert [row["payload"] for rows in lists for row in rows] == list("01234")
        row = await got(live, "/clients/c1")
        assert [row["inflight_cnt"], row["mqueue_len"]] == [len(rows) for rows in lists]


KINDS = ("inflight", "mqueue")


@shows("GET /mqtt/retainer/messages", "DELETE /mqtt/retainer/message/:topic", "DELETE /mqtt/retainer/messages")
async def test_what_is_retained(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        client = await live.connect("c1", username="u1")
        for topic in ("z", "a", "m", "a"):
            await client.publish(topic, topic.encode(), 1, retain=True)
            await trio.sleep(1)
        before = await got(live, "/mqtt/retainer/messages")
        assert [row["topic"] for row in before["data"]] == ["z", "m", "a"]
        one = await got(live, "/mqtt/retainer/message/a")
    async with running(store=store) as live:
        assert await got(live, "/mqtt/retainer/messages") == before
        assert await got(live, "/mqtt/retainer/message/a") == one
        done(await live.api.delete("/mqtt/retainer/message/m"))
    async with running(store=store) as live:
        assert [row["topic"] for row in (await got(live, "/mqtt/retainer/messages"))["data"]] == ["z", "a"]
        done(await live.api.delete("/mqtt/retainer/messages"))
    async with running(store=store) as live:
        assert (await got(live, "/mqtt/retainer/messages"))["meta"]["count"] == 0


@shows("PUT /prometheus", "POST /trace", "PUT /trace/:name/stop", "DELETE /trace/:name")
async def test_settings_and_traces(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        settings = await got(live, "/prometheus")
        settings["push_gateway"]["interval"] = "1m"
        assert (await live.api.put("/prometheus", json=settings)).status_code == 200
        for name in ("t1", "t2", "t3"):
            body = {"name": name, "type": "clientid", "clientid": name}
            assert (await live.api.post("/trace", json=body)).status_code == 200
        assert (await live.api.put("/trace/t2/stop")).status_code == 200
        done(await live.api.delete("/trace/t3"))
        before = {row["name"]: row for row in await got(live, "/trace")}
    async with running(store=store) as live:
        assert await got(live, "/prometheus") == settings
        rows = {row["name"]: row for row in await got(live, "/trace")}
        assert {name: row["status"] for name, row in rows.items()} == {"t1": "running", "t2": "stopped"}
        assert rows["t1"]["start_at"] == before["t1"]["start_at"]
        assert rows["t1"]["end_at"] == before["t1"]["end_at"]
        await live.connect("t1")
        assert "CONNECT" in (await got(live, "/trace/t1/log"))["items"]
