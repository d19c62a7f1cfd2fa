"""`/modules` of EMQX 4: what there is, and what starting, stopping and reloading answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from api.live import VIEWER, running
from api.older import older
from api.operations import shows

from trio_broker.config import Config
from trio_broker.config.authorization import AuthorizationConfig, FileSourceConfig
from trio_broker.store.memory import MemoryStore

NODE = "trio_broker@127.0.0.1"
MODULE = {"name": "emqx_mod_presence", "description": "...", "active": True}
NAMES = {
    "emqx_mod_acl_internal",
    "emqx_mod_delayed",
    "emqx_mod_presence",
    "emqx_mod_rewrite",
    "emqx_mod_slow_subs",
    "emqx_mod_subscription",
    "emqx_mod_topic_metrics",
    "emqx_mod_trace",
}


async def active(v4: httpx.AsyncClient) -> dict[str, bool]:
    answer = await v4.get(f"/nodes/{NODE}/modules")
    assert answer.status_code == 200
    return {row["name"]: row["active"] for row in answer.json()["data"]}


async def put(v4: httpx.AsyncClient, path: str) -> Any:
    answer = await v4.put(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return answer.json()


@shows("GET /api/v4/modules", "GET /api/v4/nodes/:node/modules")
async def test_modules_are_listed(autojump_clock: object) -> None:
    async with running() as live, older(live, "v4") as v4:
        listed = (await v4.get("/modules")).json()
        assert set(listed) == {"code", "data"}
        ((node, rows),) = [(one["node"], one["modules"]) for one in listed["data"]]
        assert (listed["code"], node) == (0, NODE)
        assert {row["name"] for row in rows} == NAMES
        for row in rows:
            assert {key: type(value) for key, value in row.items()} == {
                key: type(value) for key, value in MODULE.items()
            }
        assert (await v4.get(f"/nodes/{NODE}/modules", auth=VIEWER)).json() == {"code": 0, "data": rows}


@shows("PUT /api/v4/modules/:module/load", "PUT /api/v4/modules/:module/unload", "PUT /api/v4/modules/:module/reload")
async def test_a_module_is_loaded_and_unloaded(autojump_clock: object) -> None:
    store = MemoryStore()
    async with running(store=store) as live, older(live, "v4") as v4:
        assert await put(v4, "/modules/emqx_mod_delayed/load") == {"code": 110, "message": "already_started"}
        assert await put(v4, "/modules/emqx_mod_delayed/unload") == {"code": 0}
        assert await put(v4, "/modules/emqx_mod_delayed/unload") == {"code": 111, "message": "not_started"}
        assert await put(v4, "/modules/emqx_mod_delayed/reload") == {"code": 0}
        assert not (await active(v4))["emqx_mod_delayed"], "reloading starts nothing"
        assert await put(v4, "/modules/emqx_mod_slow_subs/load") == {"code": 0}
    async with running(store=store) as live, older(live, "v4") as v4:
        found = await active(v4)
        assert (found["emqx_mod_delayed"], found["emqx_mod_slow_subs"]) == (False, True)


@shows(
    "PUT /api/v4/nodes/:node/modules/:module/load",
    "PUT /api/v4/nodes/:node/modules/:module/unload",
    "PUT /api/v4/nodes/:node/modules/:module/reload",
)
async def test_a_module_of_a_node(autojump_clock: object, tmp_path: Path) -> None:
    path = tmp_path / "acl.conf"
    path.write_text("{allow, all}.\n")
    config = Config(authorization=AuthorizationConfig(sources=(FileSourceConfig(path=str(path)),)))
    base = f"/nodes/{NODE}/modules/emqx_mod_acl_internal"
    async with running(config) as live, older(live, "v4") as v4:
        assert await put(v4, f"{base}/load") == {"code": 110, "message": "already_started"}
        path.write_text('{deny, all, subscribe, ["#"]}.\n')
        assert await put(v4, f"{base}/reload") == {"code": 0}
        source = (await live.api.get("/authorization/sources/file")).json()
        assert source["rules"] == '{deny, all, subscribe, ["#"]}.\n'
        path.write_text("{no rule}.\n")
        answer = await put(v4, f"{base}/reload")
        assert (answer["code"], "acl.conf" in answer["message"]) == (102, True)
        path.write_text("{allow, all}.\n")
        assert await put(v4, f"{base}/unload") == {"code": 0}
        assert await put(v4, f"{base}/unload") == {"code": 111, "message": "not_started"}
        assert await put(v4, f"{base}/reload") == {"code": 111, "message": "not_started"}
        assert await put(v4, f"{base}/load") == {"code": 0}
        assert (await active(v4))["emqx_mod_acl_internal"]


async def test_what_cannot_be_switched_says_why(autojump_clock: object) -> None:
    async with running() as live, older(live, "v4") as v4:
        await live.api.put("/mqtt/auto_subscribe", json=[{"topic": "t"}])
        for path, word in (
            ("emqx_mod_acl_internal/load", "configured"),
            ("emqx_mod_presence/load", "sys_topics"),
            ("emqx_mod_rewrite/load", "no rules"),
            ("emqx_mod_subscription/unload", "as long as"),
            ("emqx_mod_topic_metrics/unload", "until it is deleted"),
            ("emqx_mod_trace/unload", "single traces"),
        ):
            answer = await put(v4, f"/modules/{path}")
            assert answer["code"] == 102, path
            assert word in answer["message"], path


@pytest.mark.parametrize("what", ["load", "unload", "reload"])
async def test_what_is_no_module_here_is_not_found(autojump_clock: object, what: str) -> None:
    async with running() as live, older(live, "v4") as v4:
        for name in ("emqx_mod_nothing", "emqx_retainer"):
            for base in ("", f"/nodes/{NODE}"):
                answer = await put(v4, f"{base}/modules/{name}/{what}")
                assert answer == {"code": 102, "message": "not_found"}
        answer = await v4.put(f"/nodes/emqx@10.0.0.1/modules/emqx_mod_delayed/{what}")
        assert (answer.status_code, answer.text) == (404, "Not found.")
        assert (await v4.put(f"/modules/emqx_mod_delayed/{what}", auth=VIEWER)).status_code == 403
        assert (await active(v4))["emqx_mod_delayed"]


async def test_modules_of_another_node(autojump_clock: object) -> None:
    async with running() as live, older(live, "v4") as v4:
        assert (await v4.get("/nodes/emqx@10.0.0.1/modules")).status_code == 404
