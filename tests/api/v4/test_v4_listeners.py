"""Listeners as EMQX 4 shows and restarts them, over real sockets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from api.doors import ANYWHERE, address_of, client_at, ended, with_listener
from api.live import Live, running
from api.older import older
from api.operations import shows
from listeners.fake_gate import until

from trio_broker.api.context import DoorInfo
from trio_broker.config import Config, ListenerConfig

NODE = "trio_broker@127.0.0.1"
KEYS = {"shutdown_count", "protocol", "max_conns", "listen_on", "identifier", "current_conns", "acceptors"}
WAYS = ["/listeners", f"/nodes/{NODE}/listeners"]


async def listed(v4: httpx.AsyncClient) -> dict[str, dict[str, Any]]:
    """By protocol."""
    body = (await v4.get(f"/nodes/{NODE}/listeners")).json()
    assert body["code"] == 0
    return {one["protocol"]: one for one in body["data"]}


def connections(live: Live) -> int:
    (info,) = live.broker.questions.listener_settings._keeper.infos()
    return info.current_connections


async def bind_of(live: Live) -> str:
    host, port = await address_of(live)
    return f"{host}:{port}"


@shows("GET /api/v4/listeners", "GET /api/v4/nodes/:node/listeners")
async def test_a_listener_is_shown() -> None:
    async with with_listener() as live, older(live, "v4") as v4:
        async with await client_at(live, client_id="c1"):
            body = (await v4.get("/listeners")).json()
        assert body["code"] == 0
        (row,) = body["data"]
        assert set(row) == {"node", "listeners"}
        assert row["node"] == NODE
        (listener,) = row["listeners"]
        assert listener == {
            "shutdown_count": [],
            "protocol": "mqtt:tcp",
            "max_conns": 2**31 - 1,
            "listen_on": await bind_of(live),
            "identifier": "mqtt:tcp:default",
            "current_conns": 1,
            "acceptors": 16,
        }
        assert set(listener) == KEYS


@shows("GET /api/v4/nodes/:node/listeners")
async def test_why_connections_ended_is_counted_by_listener() -> None:
    async with with_listener() as live, older(live, "v4") as v4:
        await live.api.post("/listeners", json={"type": "tcp", "name": "more", "bind": ANYWHERE})
        async with await client_at(live, client_id="c1") as c1, await client_at(live, "tcp:more", client_id="c2") as c2:
            await c1.disconnect()
            await live.api.delete("/clients/c2")
            assert await ended(c2) == 0x98
        assert live.broker._core is not None
        ends = live.broker._core.meter.disconnected
        await until(lambda: len(ends) == 2)
        body = (await v4.get("/listeners")).json()
        counts = {one["identifier"]: one["shutdown_count"] for one in body["data"][0]["listeners"]}
        assert counts == {"mqtt:tcp:default": {"normal": 1}, "mqtt:tcp:more": {"kicked": 1}}


@shows("GET /api/v4/listeners")
async def test_all_kinds(tmp_path: Path) -> None:
    config = Config(
        listeners={
            "tcp": {"off": ListenerConfig(bind=ANYWHERE, enable=False)},
            "ws": {"web": ListenerConfig(bind=ANYWHERE, max_connections=7)},
            "unix": {"near": ListenerConfig(bind=str(tmp_path / "mqtt.sock"))},
        }
    )
    async with running(config) as live, older(live, "v4") as v4:
        found = await listed(v4)
        five = {one["id"]: one for one in (await live.api.get("/listeners")).json()}
        port = five["ws:web"]["bind"].rpartition(":")[2]
        web = found.pop(f"mqtt:ws:{port}")
        assert web == {
            "shutdown_count": [],
            "protocol": f"mqtt:ws:{port}",
            "max_conns": 7,
            "listen_on": five["ws:web"]["bind"],
            "current_conns": 0,
            "acceptors": 16,
        }
        near = found.pop("mqtt:unix")
        assert (near["identifier"], near["listen_on"]) == ("mqtt:unix:near", str(tmp_path / "mqtt.sock"))
        assert found == {}  # nothing of what is off
        assert (await v4.put("/listeners/mqtt:ws:web/restart")).json() == {"code": 0}


@shows("GET /api/v4/listeners")
async def test_the_doors_of_the_api_have_no_identifier() -> None:
    doors = [
        DoorInfo("http", "0.0.0.0:18083", 512, 1),
        DoorInfo("https", "0.0.0.0:18084", 512, 0),
        DoorInfo("v4", "8081", 512, 2),
    ]
    async with with_listener() as live, older(live, "v4") as v4:
        v4._transport.app.generation.api.doors = lambda: doors  # type: ignore[attr-defined]
        found = await listed(v4)
        assert found["http:management"] == {
            "shutdown_count": [],
            "protocol": "http:management",
            "max_conns": 512,
            "listen_on": "8081",
            "current_conns": 2,
            "acceptors": 1,
        }
        assert found["http:dashboard"]["listen_on"] == "0.0.0.0:18083"
        assert found["https:dashboard"]["listen_on"] == "0.0.0.0:18084"


@shows("PUT /api/v4/listeners/:identifier/restart", "PUT /api/v4/nodes/:node/listeners/:identifier/restart")
@pytest.mark.parametrize("way", WAYS)
async def test_a_restart_closes_connections_and_keeps_everything(way: str) -> None:
    async with with_listener() as live, older(live, "v4") as v4:
        before = (await live.api.get("/listeners/tcp:default")).json()
        async with await client_at(live, client_id="c1") as c1:
            answer = await v4.put(f"{way}/mqtt:tcp:default/restart")
            assert (answer.status_code, answer.json()) == (200, {"code": 0})
            assert await ended(c1) == 0x98
        await until(lambda: connections(live) == 0)
        assert (await live.api.get("/listeners/tcp:default")).json() == before
        async with await client_at(live, client_id="c1") as c1:
            await c1.ping()


@shows("PUT /api/v4/listeners/:identifier/restart", "PUT /api/v4/nodes/:node/listeners/:identifier/restart")
@pytest.mark.parametrize("identifier", ["mqtt:tcp:none", "tcp:default", "mqtt:tcp", "mqtt:coap:default", "x"])
async def test_what_is_no_listener_is_not_restarted(identifier: str) -> None:
    unknown = f'{{no_such_listener,"{identifier}"}}'
    async with with_listener() as live, older(live, "v4") as v4:
        async with await client_at(live, client_id="c1") as c1:
            answer = await v4.put(f"/nodes/{NODE}/listeners/{identifier}/restart")
            assert (answer.status_code, answer.json()) == (200, {"code": 102, "message": unknown})
            answer = await v4.put(f"/listeners/{identifier}/restart")
            message = f"{{restart,[{{'{NODE}',{{error,{unknown}}}}}]}}"
            assert (answer.status_code, answer.json()) == (200, {"code": 102, "message": message})
            await c1.ping()


@shows("PUT /api/v4/listeners/:identifier/restart", "PUT /api/v4/nodes/:node/listeners/:identifier/restart")
async def test_those_of_the_api_are_not_restarted() -> None:
    async with with_listener() as live, older(live, "v4") as v4:
        answer = await v4.put("/listeners/http:management/restart")
        assert (answer.status_code, answer.json()) == (403, "http_listener_restart_unsupported")
        answer = await v4.put(f"/nodes/{NODE}/listeners/http:management/restart")
        assert (answer.status_code, answer.json()["code"]) == (200, 102)
        assert (await v4.put("/nodes/x@y/listeners/mqtt:tcp:default/restart")).status_code == 404
