"""Plugins of EMQ 2: each sample of its document, and each code that starting and stopping can give."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from api.live import running
from api.older import WATCHER, older
from api.operations import shows
from api.v2.two import NODE, shape

from trio_broker.config import Config, Layers
from trio_broker.store.memory import MemoryStore

PLUGIN = {
    "name": "emq_auth_clientid",
    "version": "2.3",
    "description": "Authentication with ClientId/Password",
    "active": False,
}


async def active(v2: httpx.AsyncClient) -> dict[str, bool]:
    answer = await v2.get(f"/nodes/{NODE}/plugins/")
    assert answer.status_code == 200
    return {row["name"]: row["active"] for row in answer.json()["result"]}


async def put(v2: httpx.AsyncClient, path: str, body: Any) -> Any:
    answer = await v2.put(path, json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return answer.json()


@shows("GET /api/v2/nodes/:node_name/plugins")
async def test_plugins_are_listed(autojump_clock: object) -> None:
    async with running() as live, older(live, "v2") as v2:
        answer = await v2.get(f"/nodes/{NODE}/plugins/")
        assert answer.status_code == 200
        assert shape(answer.json()) == shape({"code": 0, "result": [PLUGIN]})
        rows = answer.json()["result"]
        assert all(shape(row) == shape(PLUGIN) for row in rows)
        assert {**rows[0], "version": "2.3"} == PLUGIN
        assert await active(v2) == {
            "emq_auth_clientid": False,
            "emq_auth_http": False,
            "emq_auth_jwt": False,
            "emq_auth_username": False,
            "emq_dashboard": True,
            "emq_modules": True,
            "emq_retainer": True,
        }
        assert (await v2.get(f"/nodes/{NODE}/plugins")).json() == answer.json()
        assert (await v2.get(f"/nodes/{NODE}/plugins", auth=WATCHER)).status_code == 200


@shows("PUT /api/v2/nodes/plugins/:name", "PUT /api/v2/nodes/:node_name/plugins/:name")
@pytest.mark.parametrize("base", ["/nodes/plugins", f"/nodes/{NODE}/plugins"])
async def test_a_plugin_is_started_and_stopped(autojump_clock: object, base: str) -> None:
    store = MemoryStore()
    async with running(store=store) as live, older(live, "v2") as v2:
        assert await put(v2, f"{base}/emq_retainer", {"active": True}) == {"code": 110, "message": "already_started"}
        assert await put(v2, f"{base}/emq_retainer", {"active": False}) == {"code": 0, "result": []}
        assert await put(v2, f"{base}/emq_retainer", {"active": False}) == {"code": 111, "message": "not_started"}
        assert await put(v2, f"{base}/emq_auth_username", {"active": True}) == {"code": 0, "result": []}
    async with running(store=store) as live, older(live, "v2") as v2:
        found = await active(v2)
        assert (found["emq_retainer"], found["emq_auth_username"]) == (False, True)
        assert await put(v2, f"{base}/emq_retainer", {"active": True}) == {"code": 0, "result": []}
        assert (await active(v2))["emq_retainer"]


@pytest.mark.parametrize("base", ["/nodes/plugins", f"/nodes/{NODE}/plugins"])
async def test_what_is_no_plugin_here(autojump_clock: object, base: str) -> None:
    async with running() as live, older(live, "v2") as v2:
        for name in ("emq_lua_hook", "emqx_retainer", "nothing"):
            assert await put(v2, f"{base}/{name}", {"active": True}) == {"code": 102, "message": "unknown"}
            assert await put(v2, f"{base}/{name}", {"active": False}) == {"code": 111, "message": "not_started"}


async def test_what_cannot_be_switched_says_why(autojump_clock: object) -> None:
    layers = Layers.gather(None, {"TRIO_BROKER_RETAINER__ENABLE": "true"}, base=Config())
    async with running(layers.config(), layers=layers) as live, older(live, "v2") as v2:
        for name, is_start, word in (
            ("emq_dashboard", False, "answers you"),
            ("emq_modules", False, "one by one"),
            ("emq_auth_http", True, "configured"),
            ("emq_auth_jwt", True, "configured"),
            ("emq_retainer", False, "environment"),
        ):
            answer = await put(v2, f"/nodes/plugins/{name}", {"active": is_start})
            assert answer["code"] == 102, name
            assert word in answer["message"], name
        assert (await active(v2))["emq_retainer"]


@pytest.mark.parametrize("base", ["/nodes/plugins", f"/nodes/{NODE}/plugins"])
@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ('{\n    "active": true,\n}', 109, "Body not json"),  # the document prints it with this comma
        ("active", 109, "Body not json"),
        ("", 107, "params error"),
        ("{}", 107, "params error"),
        ("[]", 107, "params error"),
        ('{"enable": true}', 107, "params error"),
        ('{"active": "true"}', 108, "params type error"),
        ('{"active": 1}', 108, "params type error"),
        ('{"active": null}', 108, "params type error"),
    ],
)
async def test_a_body_that_is_not_as_it_must_be(
    autojump_clock: object, base: str, body: str, code: int, message: str
) -> None:
    async with running() as live, older(live, "v2") as v2:
        answer = await v2.put(f"{base}/emq_retainer", content=body)
        assert (answer.status_code, answer.json()) == (200, {"code": code, "message": message})
        assert (await active(v2))["emq_retainer"]


async def test_another_node_is_not_there(autojump_clock: object) -> None:
    async with running() as live, older(live, "v2") as v2:
        for answer in (
            await v2.get("/nodes/emq@10.0.0.1/plugins/"),
            await v2.put("/nodes/emq@10.0.0.1/plugins/emq_retainer", json={"active": False}),
        ):
            assert (answer.status_code, answer.json()) == (200, {"code": 101, "message": "badrpc"})
        assert (await active(v2))["emq_retainer"]


async def test_who_may_switch(autojump_clock: object) -> None:
    async with running() as live, older(live, "v2") as v2:
        answer = await v2.put("/nodes/plugins/emq_retainer", json={"active": False}, auth=("boss", "wrong"))
        assert answer.status_code == 401
        answer = await v2.put("/nodes/plugins/emq_retainer", json={"active": False}, auth=WATCHER)
        assert answer.status_code == 403
        assert (await active(v2))["emq_retainer"]
