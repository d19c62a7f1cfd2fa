"""The contract of `/api/v4`, read afresh: what is set for one connection, and what is remembered of its rights."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio
from api.operations import shows
from review.contract import NODE, away
from review.contract_v4 import V4, version_4
from trio.testing import MockClock

from trio_broker.testing import Client

KEEPALIVE = "mqtt3.1.1 specification: keepalive must between 0~65535"


async def rule(v4: V4, **fields: Any) -> None:
    answer = await v4.ask("POST", "/acl", {"topic": "never", "action": "pub", "access": "allow", **fields})
    assert answer["code"] == 0


async def remembered(v4: V4, name: str) -> set[tuple[str, str, str]]:
    rows = await v4.data(f"/clients/{name}/acl_cache")
    for row in rows:
        assert row.keys() == {"access", "topic", "result", "updated_time"}
        assert type(row["updated_time"]) is int
        assert abs(row["updated_time"] / 1000 - time.time()) < 86400
    return {(row["access"], row["topic"], row["result"]) for row in rows}


async def takes(client: Client, messages: int) -> float:
    """How long it takes to publish so many."""
    begun = trio.current_time()
    for _ in range(messages):
        await client.publish("t", b"x" * 1000, 1)
    return trio.current_time() - begun


@shows(
    "GET /api/v4/clients/:clientid/acl_cache",
    "DELETE /api/v4/clients/:clientid/acl_cache",
    "DELETE /api/v4/acl-cache",
    "DELETE /api/v4/nodes/:node/acl-cache",
    "DELETE /api/v4/node/:node/acl-cache",
)
async def test_what_is_remembered_of_rights(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        c1, c2 = await v4.live.connect("c/1"), await v4.live.connect("c2")
        await v4.load()
        await rule(v4, topic="no", access="deny")
        expected = {("publish", "no", "deny"), ("publish", "test", "allow"), ("subscribe", "a/+", "allow")}

        async def use() -> None:
            for client in (c1, c2):
                await client.publish("test", b"x", 1)
                await client.publish("no", b"x", 1)
                await client.subscribe("a/+", 1)

        await use()
        assert await remembered(v4, "c%2F1") == expected
        await v4.done("DELETE", "/clients/c%2F1/acl_cache")
        assert await remembered(v4, "c%2F1") == set()
        assert await remembered(v4, "c2") == expected
        for path in ("/acl-cache", f"/nodes/{NODE}/acl-cache", f"/node/{NODE}/acl-cache"):
            await use()
            assert await remembered(v4, "c2") == expected
            await v4.done("DELETE", path)
            assert await remembered(v4, "c%2F1") == await remembered(v4, "c2") == set()
        await v4.missing("DELETE", "/nodes/other@127.0.0.1/acl-cache")


@shows(
    "GET /api/v4/clients/:clientid/acl_cache",
    "DELETE /api/v4/clients/:clientid/acl_cache",
    "POST /api/v4/clients/:clientid/ratelimit",
    "DELETE /api/v4/clients/:clientid/ratelimit",
    "POST /api/v4/clients/:clientid/quota",
    "DELETE /api/v4/clients/:clientid/quota",
    "PUT /api/v4/clients/:clientid/keepalive",
)
async def test_nobody_there(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        for method, what, body in (
            ("GET", "acl_cache", None),
            ("DELETE", "acl_cache", None),
            ("POST", "ratelimit", {"conn_bytes_in": "100KB, 10s"}),
            ("DELETE", "ratelimit", None),
            ("POST", "quota", {"conn_messages_routing": "100, 1m"}),
            ("DELETE", "quota", None),
            ("PUT", "keepalive", {"interval": 10}),
        ):
            await v4.fails(112, "not_found", method, f"/clients/nobody/{what}", body)
        for what in ("ratelimit", "quota"):
            await v4.done("POST", f"/clients/nobody/{what}", {})
            await v4.done("POST", f"/clients/nobody/{what}", {"other": "100, 1m"})


@shows("POST /api/v4/clients/:clientid/ratelimit", "DELETE /api/v4/clients/:clientid/ratelimit")
@pytest.mark.parametrize(
    "limit",
    [
        {"conn_messages_in": "1, 10s"},
        {"conn_messages_in": "6, 1m"},
        {"conn_bytes_in": "100, 1s"},
        {"conn_bytes_in": "1KB, 10s"},
        {"conn_bytes_in": "100MB, 1s", "conn_messages_in": "360, 1h"},
    ],
)
async def test_a_limit_of_what_comes_in(limit: dict[str, str], autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        c1 = await v4.live.connect("c1")
        assert await takes(c1, 10) < 1
        await v4.done("POST", "/clients/c1/ratelimit", limit)
        assert 30 < await takes(c1, 10) < 200
        await v4.done("DELETE", "/clients/c1/ratelimit")
        await takes(c1, 1)
        assert await takes(c1, 10) < 1


@shows("POST /api/v4/clients/:clientid/ratelimit", "POST /api/v4/clients/:clientid/quota")
async def test_limits_that_do_not_matter_and_that_are_none(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        c1 = await v4.live.connect("c1")
        await v4.done("POST", "/clients/c1/ratelimit", {})
        await v4.done("POST", "/clients/c1/quota", {})
        await v4.done("POST", "/clients/c1/ratelimit", {"conn_bytes_in": "100MB, 10s", "conn_messages_in": "10000, 1m"})
        await v4.done("POST", "/clients/c1/quota", {"conn_messages_routing": "10000, 1s"})
        assert await takes(c1, 20) < 1
        await v4.done("POST", "/clients/c1/ratelimit", conn_messages_in="100, 10s")
        for text in ("many", "", "100", "100,", "x, 10s", "100, x", "-1, 1s"):
            for key in ("conn_bytes_in", "conn_messages_in"):
                await v4.fails(108, None, "POST", "/clients/c1/ratelimit", {key: text})
            await v4.fails(108, None, "POST", "/clients/c1/quota", {"conn_messages_routing": text})
        other: Any
        for other in (100, [], {}):
            await v4.fails((107, 108), None, "POST", "/clients/c1/ratelimit", {"conn_bytes_in": other})
            await v4.fails((107, 108), None, "POST", "/clients/c1/quota", {"conn_messages_routing": other})


@shows("POST /api/v4/clients/:clientid/quota", "DELETE /api/v4/clients/:clientid/quota")
async def test_a_quota(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        c1, sub = await v4.live.connect("c1"), await v4.live.connect("sub")
        await sub.subscribe("t")
        await v4.done("POST", "/clients/c1/quota", {"conn_messages_routing": "1, 1m"})
        for _ in range(10):
            await c1.send_bytes(bytes([0x30, 5, 0, 1, ord("t"), 0, ord("x")]))
        await trio.sleep(30)
        assert len(sub.inbox) <= 2
        await v4.done("DELETE", "/clients/c1/quota")
        await trio.sleep(60)
        sub.inbox.clear()
        assert await takes(c1, 10) < 1
        await sub.ping()
        assert len(sub.inbox) == 10


@shows("PUT /api/v4/clients/:clientid/keepalive")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_another_keep_alive(level: int, autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        c1 = await v4.live.connect("c1", level=level)
        path = "/clients/c1/keepalive"
        await v4.done("PUT", path, {"interval": 20})
        (row,) = await v4.data("/clients/c1")
        assert row["keepalive"] == 20
        await trio.sleep(15)
        await c1.ping()
        await v4.done("PUT", path, interval=0)
        await trio.sleep(1000)
        assert c1.disconnected is None
        await v4.done("PUT", path, {"interval": "65535"})
        (row,) = await v4.data("/clients/c1")
        assert row["keepalive"] == 65535
        await v4.done("PUT", path, {"interval": 99}, interval="10")
        begun = trio.current_time()
        with trio.fail_after(600):
            await c1.wait_ended()
        assert 10 <= trio.current_time() - begun <= 20


@shows("PUT /api/v4/clients/:clientid/keepalive")
async def test_a_keep_alive_that_is_none(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await v4.live.connect("c1")
        path = "/clients/c1/keepalive"
        await v4.fails(107, "params_not_found", "PUT", path)
        await v4.fails(107, "params_not_found", "PUT", path, {"other": 1})
        for interval in (-1, 65536, "65536", "-1"):
            await v4.fails(102, KEEPALIVE, "PUT", path, {"interval": interval})
        odd: Any
        for odd in ("x", "", "1.5", [], {}):
            await v4.fails((102, 107, 108), None, "PUT", path, {"interval": odd})
        (row,) = await v4.data("/clients/c1")
        assert row["keepalive"] == 0
        await away(v4.live, "gone")
        await v4.missing("PUT", f"/nodes/{NODE}/clients/c1/keepalive")
