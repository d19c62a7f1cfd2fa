"""The ACL cache of EMQX 4: what is shown of it, and emptying it for one client and for all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from api.live import Live, running
from api.older import older
from api.operations import shows
from trio.testing import MockClock

from trio_broker.config import Config
from trio_broker.config.authorization import AuthorizationConfig, BuiltInSourceConfig

NOT_FOUND = {"code": 112, "message": "not_found"}


@asynccontextmanager
async def with_rules() -> AsyncIterator[tuple[Live, httpx.AsyncClient]]:
    """Nobody may publish to `no`."""
    source = BuiltInSourceConfig()
    async with (
        running(Config(authorization=AuthorizationConfig(sources=(source,)))) as live,
        older(live, "v4") as v4,
    ):
        rules = [{"topic": "no", "permission": "deny", "action": "publish"}]
        path = "/authorization/sources/built_in_database/rules/all"
        assert (await live.api.post(path, json={"rules": rules})).status_code == 204
        yield live, v4


async def kept(v4: httpx.AsyncClient, client_id: str) -> list[dict[str, Any]]:
    answer = await v4.get(f"/clients/{client_id}/acl_cache")
    assert (answer.status_code, answer.json()["code"]) == (200, 0)
    rows: list[dict[str, Any]] = answer.json()["data"]
    return rows


@shows("GET /api/v4/clients/:clientid/acl_cache")
async def test_what_is_kept_for_a_client(autojump_clock: MockClock) -> None:
    async with with_rules() as (live, v4):
        client = await live.connect("c")
        assert (await v4.get("/clients/c/acl_cache")).json() == {"code": 0, "data": []}
        core = live.broker.questions._core
        now_ms = core.clock.wall_ms(core.clock.now())
        await client.publish("test", b"x", qos=1)
        await client.publish("no", b"x", qos=1)
        await client.subscribe("a/+")
        rows = await kept(v4, "c")
        assert all(type(row["updated_time"]) is int and abs(row.pop("updated_time") - now_ms) < 2000 for row in rows)
        assert rows == [
            {"access": "publish", "topic": "test", "result": "allow"},
            {"access": "publish", "topic": "no", "result": "deny"},
            {"access": "subscribe", "topic": "a/+", "result": "allow"},
        ]


@shows("DELETE /api/v4/clients/:clientid/acl_cache")
async def test_one_client_forgets(autojump_clock: MockClock) -> None:
    async with with_rules() as (live, v4):
        for client_id in ("c", "d"):
            await (await live.connect(client_id)).publish("t", b"x", qos=1)
        answer = await v4.delete("/clients/c/acl_cache")
        assert (answer.status_code, answer.text) == (200, '{"code":0}')
        assert [len(await kept(v4, client_id)) for client_id in ("c", "d")] == [0, 1]


@shows(
    "DELETE /api/v4/acl-cache",
    "DELETE /api/v4/nodes/:node/acl-cache",
    "DELETE /api/v4/node/:node/acl-cache",
)
@pytest.mark.parametrize("path", ["/acl-cache", "/nodes/:node/acl-cache", "/node/:node/acl-cache"])
async def test_all_clients_forget(autojump_clock: MockClock, path: str) -> None:
    async with with_rules() as (live, v4):
        for client_id in ("c", "d"):
            await (await live.connect(client_id)).publish("t", b"x", qos=1)
        if ":node" in path:
            answer = await v4.delete(path.replace(":node", "other@127.0.0.1"))
            assert (answer.status_code, answer.text) == (404, "Not found.")
            assert len(await kept(v4, "c")) == 1
        answer = await v4.delete(path.replace(":node", live.broker.config.node.name))
        assert (answer.status_code, answer.text) == (200, '{"code":0}')
        assert [len(await kept(v4, client_id)) for client_id in ("c", "d")] == [0, 0]


@shows("GET /api/v4/clients/:clientid/acl_cache", "DELETE /api/v4/clients/:clientid/acl_cache")
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_client_there_is_not(autojump_clock: MockClock, method: str) -> None:
    async with running() as live, older(live, "v4") as v4:
        answer = await v4.request(method, "/clients/nobody/acl_cache")
        assert (answer.status_code, answer.json()) == (200, NOT_FOUND)
