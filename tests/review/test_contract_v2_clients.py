"""The contract of `/api/v2`, read afresh: clients, who they are, and how they are sent away."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
import trio
from api.live import Live
from api.operations import shows
from review.contract import KEPT
from review.contract_v2 import (
    C_1,
    CLIENT,
    NODES,
    SESSION,
    both,
    done,
    got,
    objects,
    one,
    part,
    refused,
    seconds,
    shaped,
)
from trio.testing import MockClock

from trio_broker.config import Config
from trio_broker.config.authorization import AuthorizationConfig, BuiltInSourceConfig
from trio_broker.protocol.packets import Will
from trio_broker.store.memory import MemoryStore


@shows(
    "GET /api/v2/nodes/:node/clients",
    "GET /api/v2/nodes/:node/clients/:client_id",
    "GET /api/v2/clients/:client_id",
)
async def test_the_client_of_the_document(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        await live.connect(C_1, level=4, keep_alive=60)
        page = await got(v2, f"{NODES}/clients")
        (row,) = page.pop("objects")
        assert page == {"current_page": 1, "page_size": 20, "total_num": 1, "total_page": 1}
        shaped(row, CLIENT)
        assert abs(seconds(row["connected_at"]) - time.time()) < 60
        assert 0 <= row["port"] < 65536
        assert row == {
            "client_id": C_1,
            "username": "undefined",
            "ipaddress": "127.0.0.1",
            "port": row["port"],
            "clean_sess": True,
            "proto_ver": 4,
            "keepalive": 60,
            "connected_at": row["connected_at"],
        }
        assert await objects(v2, f"{NODES}/clients/{C_1}") == [row]
        assert await objects(v2, f"/clients/{C_1}") == [row]


@shows("GET /api/v2/clients/:client_id")
async def test_other_clients(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        for level in (3, 4, 5):
            await live.connect(f"v{level}", level=level, username=f"ü{level}", keep_alive=level)
            row = await one(v2, f"/clients/v{level}")
            shaped(row, CLIENT)
            assert (row["proto_ver"], row["keepalive"], row["username"]) == (level, level, f"ü{level}")
        await live.connect("kept", level=4, clean_start=False)
        assert (await one(v2, "/clients/kept"))["clean_sess"] is False
        await live.connect("named", level=4, username="undefined")
        assert (await one(v2, "/clients/named"))["username"] == "undefined"
        assigned = await live.connect("")
        assert (await one(v2, f"/clients/{part(assigned.client_id)}"))["client_id"] == assigned.client_id


@shows("GET /api/v2/clients/:client_id", "GET /api/v2/nodes/:node/clients/:client_id")
async def test_who_is_away_is_no_client(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        client = await live.connect("c", level=4, clean_start=False)
        await client.disconnect()
        await trio.sleep(1)
        for path in ("/clients/c", f"{NODES}/clients/c", "/clients/nobody", f"{NODES}/clients/nobody"):
            assert await objects(v2, path) == []
        page = await got(v2, f"{NODES}/clients")
        assert page == {"current_page": 1, "page_size": 20, "total_num": 0, "total_page": 0, "objects": []}
        refused(await v2.delete("/clients/c"), 112, None)
        refused(await v2.put("/clients/c/clean_acl_cache", json={"topic": "t"}), 112, None)


IDS = (
    "a/b",
    "/a",
    "a//b",
    "a/clients/b",
    "a%2Fb",
    "a b",
    "ä/ö",
    "#",
    "a?b=c",
    "a+b",
    "a;b",
    "sessions",
    "a/b/",
)


@shows("GET /api/v2/clients/:client_id", "GET /api/v2/sessions/:client_id", "GET /api/v2/subscriptions/:client_id")
@pytest.mark.parametrize("client_id", IDS)
async def test_any_id(client_id: str, autojump_clock: MockClock) -> None:
    """Each part of a path is decoded once; a slash stays one, whether it was encoded or not."""
    spellings = {part(client_id)}
    if not client_id.endswith("/"):
        spellings.add(part(client_id).replace("%2F", "/"))
    async with both() as (live, v2):
        for spelling in sorted(spellings):
            client = await live.connect(client_id, level=4)
            await client.subscribe("t", 1)
            for path in (f"/clients/{spelling}", f"{NODES}/clients/{spelling}"):
                shaped(row := await one(v2, path), CLIENT)
                assert row["client_id"] == client_id
            for path in (f"/sessions/{spelling}", f"{NODES}/sessions/{spelling}"):
                shaped(row := await one(v2, path), SESSION)
                assert row["client_id"] == client_id
            for path in (f"/subscriptions/{spelling}", f"{NODES}/subscriptions/{spelling}"):
                assert await objects(v2, path) == [{"client_id": client_id, "topic": "t", "qos": 1}]
            done(await v2.put(f"/clients/{spelling}/clean_acl_cache", json={"topic": "t"}))
            done(await v2.delete(f"/clients/{spelling}"))
            await client.wait_ended()
            assert await objects(v2, f"/clients/{spelling}") == []


@shows("DELETE /api/v2/clients/:client_id")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_a_client_is_sent_away(level: int, autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        watcher = await live.connect("w")
        await watcher.subscribe("will/#")
        client = await live.connect(C_1, level=level, will=Will("will/1", b"gone"))
        done(await v2.delete(f"/clients/{C_1}"))
        ended = await client.wait_ended()
        assert ended.how == ("disconnect" if level == 5 else "eof")
        with trio.fail_after(60):
            assert (await watcher.receive()).payload == b"gone"
        for path in (f"/clients/{C_1}", f"/sessions/{C_1}"):
            assert await objects(v2, path) == []
        refused(await v2.delete(f"/clients/{C_1}"), 112, None)
        await watcher.ping()


@shows("DELETE /api/v2/clients/:client_id", "GET /api/v2/sessions/:client_id")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_the_session_stays(level: int, autojump_clock: MockClock) -> None:
    options: dict[str, Any] = KEPT if level == 5 else {}
    store = MemoryStore()
    async with both(store=store) as (live, v2):
        client = await live.connect(C_1, level=level, clean_start=False, auto_ack=False, **options)
        await client.subscribe("t/#", 1)
        publisher = await live.connect("p")
        await publisher.publish("t/1", b"first", 1)
        await client.receive()
        done(await v2.delete(f"/clients/{C_1}"))
        await client.wait_ended()
        assert await objects(v2, f"/clients/{C_1}") == []
        row = await one(v2, f"/sessions/{C_1}")
        shaped(row, SESSION)
        assert row["clean_sess"] is False
        assert await objects(v2, f"/subscriptions/{C_1}") == [{"client_id": C_1, "topic": "t/#", "qos": 1}]
        await publisher.publish("t/2", b"second", 1)
        row = await one(v2, f"/sessions/{C_1}")
        assert row["message_queue"] + row["inflight_queue"] == 2
        refused(await v2.delete(f"/clients/{C_1}"), 112, None)
        assert len(await objects(v2, f"/sessions/{C_1}")) == 1
    async with both(store=store) as (live, v2):
        assert len(await objects(v2, f"/sessions/{C_1}")) == 1
        again = await live.connect(C_1, level=level, clean_start=False, **options)
        if level > 3:
            assert again.session_present
        assert [(await again.receive()).payload for _ in range(2)] == [b"first", b"second"]
        await again.ping()
        assert (await one(v2, f"/sessions/{C_1}"))["inflight_queue"] == 0


async def kept(live: Live, client_id: str) -> set[tuple[str, str]]:
    """What is remembered of the decisions about this client, as (action, topic)."""
    rows = (await live.api.get(f"/clients/{client_id}/authorization/cache")).json()
    return {(row["access"]["action_type"], row["topic"]) for row in rows}


async def forget(v2: httpx.AsyncClient, client_id: str, topic: str) -> None:
    done(await v2.put(f"/clients/{client_id}/clean_acl_cache", json={"topic": topic}))


@shows("PUT /api/v2/clients/:client_id/clean_acl_cache")
async def test_one_decision_is_forgotten(autojump_clock: MockClock) -> None:
    """That about publishing to exactly this topic, of this connection."""
    config = Config(authorization=AuthorizationConfig(sources=(BuiltInSourceConfig(),)))
    everything = {("publish", "t/1"), ("publish", "t/2"), ("subscribe", "t/1")}
    async with both(config) as (live, v2):
        clients = [await live.connect(client_id, level=4) for client_id in ("a", "b")]

        async def act() -> None:
            for client in clients:
                await client.subscribe("t/1")
                for topic in ("t/1", "t/2"):
                    await client.publish(topic, b"", 1)

        await act()
        assert await kept(live, "a") == await kept(live, "b") == everything
        for topic in ("t/3", "t/+", "t/#", "t", "#"):
            await forget(v2, "a", topic)
        assert await kept(live, "a") == everything
        await forget(v2, "a", "t/1")
        assert await kept(live, "a") == everything - {("publish", "t/1")}
        assert await kept(live, "b") == everything
        await act()
        assert await kept(live, "a") == everything
