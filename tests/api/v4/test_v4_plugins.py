"""`/plugins` of EMQX 4: what there is, and what starting, stopping and reloading answers."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from api.live import VIEWER, running
from api.older import older
from api.operations import shows

from trio_broker.config import Config, Layers
from trio_broker.store.memory import MemoryStore

NODE = "trio_broker@127.0.0.1"
PLUGIN = {"name": "emqx_auth_mnesia", "description": "...", "active": False, "type": "auth"}


async def plugins(v4: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    answer = await v4.get(f"/nodes/{NODE}/plugins")
    assert answer.status_code == 200
    assert set(answer.json()) == {"code", "data"}
    assert answer.json()["code"] == 0
    return {row["name"]: row for row in answer.json()["data"]}


async def put(v4: httpx.AsyncClient, path: str) -> Any:
    answer = await v4.put(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return answer.json()


@shows("GET /api/v4/plugins", "GET /api/v4/nodes/:node/plugins")
async def test_plugins_are_listed(autojump_clock: object) -> None:
    async with running() as live, older(live, "v4") as v4:
        answer = await v4.get("/plugins")
        assert answer.status_code == 200
        ((node, rows),) = [(one["node"], one["plugins"]) for one in answer.json()["data"]]
        assert node == NODE
        assert {row["name"]: row for row in rows} == await plugins(v4)
        for row in rows:
            assert {key: type(value) for key, value in row.items()} == {
                key: type(value) for key, value in PLUGIN.items()
            }
            assert row["type"] in ("auth", "bridge", "feature", "protocol")
        found = await plugins(v4)
        assert found["emqx_auth_mnesia"] == {**PLUGIN, "description": found["emqx_auth_mnesia"]["description"]}
        assert {name for name, row in found.items() if row["active"]} == {
            "emqx_dashboard",
            "emqx_management",
            "emqx_modules",
            "emqx_prometheus",
            "emqx_retainer",
        }
        assert (await v4.get("/plugins", auth=VIEWER)).status_code == 200


@shows(
    "PUT /api/v4/nodes/:node/plugins/:plugin/load",
    "PUT /api/v4/nodes/:node/plugins/:plugin/unload",
    "PUT /api/v4/nodes/:node/plugins/:plugin/reload",
)
async def test_a_plugin_of_a_node_is_loaded_and_unloaded(autojump_clock: object) -> None:
    store = MemoryStore()
    base = f"/nodes/{NODE}/plugins"
    async with running(store=store) as live, older(live, "v4") as v4:
        assert await put(v4, f"{base}/emqx_retainer/load") == {"code": 110, "message": "already_started"}
        assert await put(v4, f"{base}/emqx_retainer/unload") == {"code": 0}
        assert not (await plugins(v4))["emqx_retainer"]["active"]
        assert await put(v4, f"{base}/emqx_retainer/unload") == {"code": 111, "message": "not_started"}
        assert await put(v4, f"{base}/emqx_auth_mnesia/load") == {"code": 0}
    async with running(store=store) as live, older(live, "v4") as v4:
        found = await plugins(v4)
        assert (found["emqx_retainer"]["active"], found["emqx_auth_mnesia"]["active"]) == (False, True)
        assert await put(v4, f"{base}/emqx_retainer/reload") == {"code": 0}, "reloading what is stopped starts it"
        assert (await plugins(v4))["emqx_retainer"]["active"]
        assert await put(v4, f"{base}/emqx_retainer/reload") == {"code": 0}
        assert (await plugins(v4))["emqx_retainer"]["active"]


@shows("PUT /api/v4/plugins/:plugin/unload", "PUT /api/v4/plugins/:plugin/reload")
async def test_a_plugin_of_all_nodes_is_unloaded_and_reloaded(autojump_clock: object) -> None:
    async with running() as live, older(live, "v4") as v4:
        assert await put(v4, "/plugins/emqx_retainer/unload") == {"code": 0}
        assert await put(v4, "/plugins/emqx_retainer/unload") == {"code": 111, "message": "not_started"}
        assert await put(v4, "/plugins/emqx_retainer/reload") == {"code": 0}
        assert (await plugins(v4))["emqx_retainer"]["active"]
        # There is no such operation.
        assert (await v4.put("/plugins/emqx_retainer/load")).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        f"/nodes/{NODE}/plugins/emqx_lua_hook/load",
        f"/nodes/{NODE}/plugins/emqx_lua_hook/unload",
        f"/nodes/{NODE}/plugins/emqx_lua_hook/reload",
        f"/nodes/{NODE}/plugins/emqx_mod_delayed/load",
        "/plugins/emq_retainer/unload",
        "/plugins/emqx_lua_hook/reload",
    ],
)
async def test_what_is_no_plugin_here_is_not_found(autojump_clock: object, path: str) -> None:
    async with running() as live, older(live, "v4") as v4:
        assert await put(v4, path) == {"code": 102, "message": "not_found"}


async def test_what_cannot_be_switched_says_why(autojump_clock: object) -> None:
    layers = Layers.gather(None, {"TRIO_BROKER_RETAINER__ENABLE": "true"}, base=Config())
    async with running(layers.config(), layers=layers) as live, older(live, "v4") as v4:
        for path, word in (
            ("/plugins/emqx_management/unload", "answers you"),
            ("/plugins/emqx_dashboard/unload", "answers you"),
            ("/plugins/emqx_modules/unload", "one by one"),
            ("/plugins/emqx_prometheus/unload", "when they are asked for"),
            ("/plugins/emqx_auth_http/reload", "configured"),
            (f"/nodes/{NODE}/plugins/emqx_auth_jwt/load", "configured"),
            ("/plugins/emqx_retainer/unload", "environment"),
        ):
            answer = await put(v4, path)
            assert answer["code"] == 102, path
            assert word in answer["message"], path


async def test_what_belongs_to_a_plugin_is_there_while_it_runs(autojump_clock: object) -> None:
    base = f"/nodes/{NODE}/plugins/emqx_auth_mnesia"
    users = (
        ("/auth_username", {"username": "u", "password": "p"}),
        ("/auth_clientid", {"clientid": "c", "password": "p"}),
    )
    async with running() as live, older(live, "v4") as v4:
        for path, body in users:
            assert (await v4.post(path, json=body)).status_code == 404
        assert await put(v4, f"{base}/load") == {"code": 0}
        for path, body in users:
            assert (await v4.post(path, json=body)).json() == {"code": 0}
            assert len((await v4.get(path)).json()["data"]) == 1
        assert (await v4.get("/acl/$all")).json()["code"] == 0
        assert await put(v4, f"{base}/unload") == {"code": 0}
        for path, _ in users:
            assert (await v4.get(path)).status_code == 404
        assert await put(v4, f"{base}/load") == {"code": 0}
        for path, _ in users:
            assert len((await v4.get(path)).json()["data"]) == 1, "they are kept"


async def test_another_node_is_not_there(autojump_clock: object) -> None:
    async with running() as live, older(live, "v4") as v4:
        assert (await v4.get("/nodes/emqx@10.0.0.1/plugins")).status_code == 404
        for what in ("load", "unload", "reload"):
            answer = await v4.put(f"/nodes/emqx@10.0.0.1/plugins/emqx_retainer/{what}")
            assert (answer.status_code, answer.text) == (404, "Not found.")
        assert (await plugins(v4))["emqx_retainer"]["active"]


async def test_a_viewer_only_looks(autojump_clock: object) -> None:
    async with running() as live, older(live, "v4") as v4:
        for path in ("/plugins/emqx_retainer/unload", f"/nodes/{NODE}/plugins/emqx_auth_mnesia/load"):
            assert (await v4.put(path, auth=VIEWER)).status_code == 403
        found = await plugins(v4)
        assert (found["emqx_retainer"]["active"], found["emqx_auth_mnesia"]["active"]) == (True, False)
