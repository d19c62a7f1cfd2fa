"""The contract of `/api/v4`, read afresh: listeners, as they are shown and restarted; over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio
from api.doors import address, client_at, ended, put, with_listener
from api.live import PASSWORD, Live
from api.older import older
from api.operations import shows
from review.contract import KEPT
from review.doors_v4 import NODE, data, done, not_found, of_node, refused

from trio_broker.testing import open_broker, open_client

LISTENER = {"protocol", "listen_on", "identifier", "acceptors", "max_conns", "current_conns", "shutdown_count"}
DEFAULT = "mqtt:tcp:default"
WEBSOCKET = (
    b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    b"\x82\x8f\x00\x00\x00\x00\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01w"
)
"""A handshake, and a CONNECT in one frame."""
RESTARTS = [f"/listeners/{DEFAULT}/restart", f"/nodes/{NODE}/listeners/{DEFAULT}/restart"]


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[Live, httpx.AsyncClient]]:
    async with with_listener() as live, older(live, "v4") as v4:
        yield live, v4


async def listeners(v4: httpx.AsyncClient) -> dict[Any, dict[str, Any]]:
    """By their identifiers; those that have none, by their protocols."""
    rows = await of_node(v4, "/listeners", "listeners")
    assert data(await v4.get(f"/nodes/{NODE}/listeners")) == rows
    return {row.get("identifier", row["protocol"]): row for row in rows}


async def counted(v4: httpx.AsyncClient, connections: int, identifier: str = DEFAULT) -> dict[str, Any]:
    """The listener, as soon as it has so many connections."""
    with trio.fail_after(10):
        while True:
            row = (await listeners(v4))[identifier]
            if row["current_conns"] == connections:
                return row
            await trio.sleep(0.02)


@shows("GET /api/v4/listeners", "GET /api/v4/nodes/:node/listeners")
async def test_what_is_shown() -> None:
    async with listening() as (live, v4):
        [row] = (await listeners(v4)).values()
        assert row.keys() == LISTENER
        assert (row["protocol"], row["identifier"]) == ("mqtt:tcp", DEFAULT)
        assert type(row["acceptors"]) is int
        assert type(row["current_conns"]) is int
        assert row["shutdown_count"] == []
        host, port = address(row["listen_on"])
        assert host == "127.0.0.1"
        async with open_client((host, port)):
            await counted(v4, 1)
        await counted(v4, 0)
        answer = await put(live, "tcp:default", bind="127.0.0.1:0", max_connections=100, acceptors=3)
        assert answer.status_code == 200, answer.text
        row = (await listeners(v4))[DEFAULT]
        assert (row["max_conns"], row["acceptors"]) == (100, 3)


@shows("GET /api/v4/listeners")
async def test_most_connections_are_a_number() -> None:
    async with listening() as (_, v4):
        [row] = (await listeners(v4)).values()
        assert type(row["max_conns"]) is int


@shows("GET /api/v4/listeners")
async def test_kinds() -> None:
    async with listening() as (live, v4):
        made = {"type": "ws", "name": "more", "bind": "127.0.0.1:0"}
        assert (await live.api.post("/listeners", json=made)).status_code == 200
        anywhere = {"type": "tcp", "name": "anywhere", "bind": "0"}
        assert (await live.api.post("/listeners", json=anywhere)).status_code == 200
        rows = await listeners(v4)
        [ws] = rows.keys() - {DEFAULT, "mqtt:tcp:anywhere"}
        assert ws.startswith("mqtt:ws:")
        assert rows[ws].keys() == LISTENER - {"identifier"}
        assert rows["mqtt:tcp:anywhere"].keys() == LISTENER
        assert rows["mqtt:tcp:anywhere"]["listen_on"].removeprefix("0.0.0.0:").isdigit()
        where = address(rows[ws]["listen_on"])
        async with await trio.open_tcp_stream(*where) as socket:
            await socket.send_all(WEBSOCKET)
            await counted(v4, 1, ws)
            assert (await listeners(v4))[DEFAULT]["current_conns"] == 0
            done(await v4.put("/listeners/mqtt:ws:more/restart"))
            await counted(v4, 0, ws)
        done(await v4.put(f"/nodes/{NODE}/listeners/mqtt:ws:more/restart"))
        async with await trio.open_tcp_stream(*where) as socket:
            await socket.send_all(WEBSOCKET)
            await counted(v4, 1, ws)


@shows("GET /api/v4/listeners")
async def test_why_connections_ended() -> None:
    async with listening() as (live, v4):
        async with await client_at(live, client_id="bye") as bye:
            await bye.disconnect()
        await counted(v4, 0)
        async with await client_at(live, client_id="kicked") as kicked:
            done(await v4.delete("/clients/kicked"))
            await ended(kicked)
        async with await client_at(live, client_id="twice", **KEPT) as first:
            async with open_client(live.broker, client_id="twice", clean_start=False, **KEPT):
                await ended(first)
        found = (await counted(v4, 0))["shutdown_count"]
        assert found == {"normal": 1, "kicked": 1, "takeovered": 1}


@shows("GET /api/v4/listeners")
@pytest.mark.parametrize("level", [4, 5])
async def test_connections_of_discarded_sessions(level: int) -> None:
    """EMQX 4 would tell those apart that a CONNECT with clean start ends."""
    async with listening() as (live, v4):
        async with await client_at(live, client_id="twice", level=level) as first:
            async with open_client(live.broker, client_id="twice", clean_start=True, level=level):
                await ended(first)
        assert (await counted(v4, 0))["shutdown_count"] == {"takeovered": 1}


@shows("PUT /api/v4/listeners/:identifier/restart", "PUT /api/v4/nodes/:node/listeners/:identifier/restart")
@pytest.mark.parametrize("path", RESTARTS)
async def test_restarts(path: str) -> None:
    async with listening() as (live, v4):
        inside = await live.connect("inside")
        before = (await listeners(v4))[DEFAULT]
        async with await client_at(live, client_id="c1", **KEPT) as c1:
            await c1.subscribe("t", 1)
            await counted(v4, 1)
            done(await v4.put(path))
            await ended(c1)
        after = await counted(v4, 0)
        assert after["listen_on"] == before["listen_on"]
        assert after["max_conns"] == before["max_conns"]
        await inside.ping()
        await inside.publish("t", b"meanwhile", 1)
        async with open_client(address(after["listen_on"]), client_id="c1", clean_start=False, **KEPT) as again:
            assert again.session_present
            with trio.fail_after(10):
                assert (await again.receive()).payload == b"meanwhile"


@shows("PUT /api/v4/listeners/:identifier/restart", "PUT /api/v4/nodes/:node/listeners/:identifier/restart")
async def test_what_cannot_be_restarted() -> None:
    async with listening() as (live, v4):
        async with await client_at(live) as c1:
            for name in ("mqtt:tcp:nothing", "mqtt:ws:default", "mqtt:tcp", "tcp:default", "nothing", "mqtt:udp:x"):
                assert refused(await v4.put(f"/listeners/{name}/restart"), 102).startswith("{restart,[")
                message = refused(await v4.put(f"/nodes/{NODE}/listeners/{name}/restart"), 102)
                assert message.startswith("{no_such_listener,")
            for name in ("http:management", "http:dashboard", "http:x"):
                answer = await v4.put(f"/listeners/{name}/restart")
                assert (answer.status_code, answer.json()) == (403, "http_listener_restart_unsupported")
                refused(await v4.put(f"/nodes/{NODE}/listeners/{name}/restart"), 102)
            not_found(await v4.put("/nodes/never_seen@127.0.0.1/listeners/mqtt:tcp:default/restart"))
            await c1.ping()


@shows("GET /api/v4/listeners")
async def test_those_of_this_api_have_no_identifier() -> None:
    with trio.fail_after(60):
        async with open_broker(api={"v4": {"bind": "127.0.0.1:0"}}, dashboard={"default_password": PASSWORD}) as broker:
            assert broker.api_v4 is not None
            host, port = broker.api_v4[:2]
            url = f"http://{host}:{port}/api/v4"
            async with httpx.AsyncClient(base_url=url, auth=("admin", PASSWORD), trust_env=False) as api:
                rows = await of_node(api, "/listeners", "listeners")
                assert data(await api.get(f"/nodes/{NODE}/listeners")) == rows
                of_http = [row for row in rows if not row["protocol"].startswith("mqtt:")]
                assert of_http
                for row in of_http:
                    assert row.keys() == LISTENER - {"identifier"}
                    assert row["protocol"].startswith("http")
                    assert row["protocol"].count(":") == 1
                    assert type(row["current_conns"]) is int
                assert f"{host}:{port}" in {row["listen_on"] for row in of_http}
                status = await api.get(f"http://{host}:{port}/status", auth=None)
                assert (status.status_code, status.text) == (200, f"Node {NODE} is started\nemqx is running")
                answer = await api.get("/brokers", auth=None)
                assert (answer.status_code, answer.text) == (401, "UNAUTHORIZED")
                assert answer.headers["www-authenticate"] == 'Basic Realm="minirest-server"'
                assert (await api.get(f"http://{host}:{port}//api/v4///brokers/")).json()["code"] == 0
