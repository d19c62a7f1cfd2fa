"""The contract of `/api/v2`, read afresh: plugins."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
import trio
from api.operations import shows
from review.contract import words
from review.contract_v2 import NODES, both, done, got, missing, mistyped, refused, shaped
from trio.testing import MockClock

from trio_broker.store.memory import MemoryStore

PLUGIN = {"name": str, "version": str, "description": str, "active": bool}
NAMES = set(
    words("""
emq_auth_clientid emq_auth_http emq_auth_jwt emq_auth_ldap emq_auth_mongo emq_auth_mysql emq_auth_pgsql emq_auth_redis
emq_auth_username emq_coap emq_dashboard emq_lua_hook emq_lwm2m emq_modules emq_plugin_template emq_recon emq_reloader
emq_retainer emq_sn emq_stomp emq_web_hook
""")
)
NO_BODIES: tuple[Any, ...] = ({}, [], {"more": True})
NO_FLAGS: tuple[Any, ...] = ("true", "false", 0, 1, None, [], {})
WAYS = ("/nodes/plugins/", f"{NODES}/plugins/")


async def plugins(v2: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    rows = await got(v2, f"{NODES}/plugins")
    assert await got(v2, f"{NODES}/plugins/") == rows
    for row in rows:
        shaped(row, PLUGIN)
        assert re.fullmatch(r"\d+\.\d+(\.\d+)?", row["version"])
        assert row["description"]
    names = [row["name"] for row in rows]
    assert len(set(names)) == len(names)
    return {row["name"]: row for row in rows}


@shows("GET /api/v2/nodes/:node_name/plugins")
async def test_plugins(autojump_clock: MockClock) -> None:
    async with both() as (_, v2):
        found = await plugins(v2)
        assert found.keys() & NAMES
        assert found["emq_retainer"]["active"] is True
        assert await got(v2, f"{NODES}/plugins", curr_page=9, page_size=1) == list(found.values())


@shows("GET /api/v2/nodes/:node_name/plugins")
async def test_names_of_plugins(autojump_clock: MockClock) -> None:
    """There is none that the document does not know."""
    async with both() as (_, v2):
        assert (await plugins(v2)).keys() <= NAMES


@shows("PUT /api/v2/nodes/plugins/:name", "PUT /api/v2/nodes/:node_name/plugins/:name")
@pytest.mark.parametrize("way", WAYS)
async def test_the_retainer_is_stopped_and_started(way: str, autojump_clock: MockClock) -> None:
    path = f"{way}emq_retainer"
    store = MemoryStore()
    message = {"topic": "t", "payload": "x", "retain": True}
    async with both(store=store) as (live, v2):
        refused(await v2.put(path, json={"active": True}), 110, "already_started")
        done(await v2.put(path, json={"active": False}))
        assert (await plugins(v2))["emq_retainer"]["active"] is False
        refused(await v2.put(path, json={"active": False}), 111, "not_started")
        done(await v2.post("/mqtt/publish", json=message))
        client = await live.connect("c", level=4)
        await client.subscribe("t")
        await client.ping()
        assert not client.inbox
    async with both(store=store) as (live, v2):
        assert (await plugins(v2))["emq_retainer"]["active"] is False
        done(await v2.put(path, json={"active": True}))
        refused(await v2.put(path, json={"active": True}), 110, "already_started")
        assert (await plugins(v2))["emq_retainer"]["active"] is True
        done(await v2.post("/mqtt/publish", json=message))
        client = await live.connect("c", level=4)
        await client.subscribe("t")
        with trio.fail_after(60):
            assert (await client.receive()).payload == b"x"


@shows("PUT /api/v2/nodes/plugins/:name", "PUT /api/v2/nodes/:node_name/plugins/:name")
@pytest.mark.parametrize("way", WAYS)
async def test_what_cannot_be_started_or_stopped(way: str, autojump_clock: MockClock) -> None:
    async with both() as (_, v2):
        before = await plugins(v2)
        for name in ("emq_nothing", "a%2Fb", "%C3%A4"):
            refused(await v2.put(f"{way}{name}", json={"active": True}), 102, "unknown")
            refused(await v2.put(f"{way}{name}", json={"active": False}), 111, "not_started")
        path = f"{way}emq_retainer"
        for body in NO_BODIES:
            missing(await v2.put(path, json=body))
        for value in NO_FLAGS:
            mistyped(await v2.put(path, json={"active": value}))
        for content in (b'{"active": false,}', b"active=false", b'{"active": true/false,}'):
            refused(await v2.put(path, content=content), 109, "Body not json")
        assert await plugins(v2) == before


@shows("PUT /api/v2/nodes/:node_name/plugins/:name")
async def test_each_plugin(autojump_clock: MockClock) -> None:
    """What runs cannot be started, what does not run cannot be stopped; what is changed is shown."""
    async with both() as (_, v2):
        for name, row in (await plugins(v2)).items():
            path = f"{NODES}/plugins/{name}"
            if row["active"]:
                refused(await v2.put(path, json={"active": True}), 110, "already_started")
            else:
                refused(await v2.put(path, json={"active": False}), 111, "not_started")
            answer = await v2.put(path, json={"active": not row["active"]})
            assert answer.status_code == 200, name
            code = answer.json()["code"]
            now = (await plugins(v2))[name]["active"]
            if code == 0:
                done(answer)
                assert now is not row["active"], name
                done(await v2.put(path, json={"active": row["active"]}))
                assert (await plugins(v2))[name]["active"] is row["active"], name
            else:
                assert (code, type(answer.json()["message"])) == (102, str)
                assert now is row["active"], name
