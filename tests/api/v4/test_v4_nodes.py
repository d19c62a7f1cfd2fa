"""Brokers and nodes as EMQX 4 shows them, compared with `/api/v5` of the same broker."""

from __future__ import annotations

import re
from typing import Any

import pytest
import trio
from api.live import Live, running
from api.older import older
from api.operations import shows
from trio.testing import MockClock

from trio_broker.actors.machine import NO_LIMIT

NODE = "trio_broker@127.0.0.1"
UPTIME = r"(\d+ days, )?(\d+ hours, )?(\d+ minutes, )?\d+ seconds"
KEPT: dict[str, Any] = {"properties": {"session_expiry_interval": 3600}}


async def two_sessions(live: Live) -> None:
    """One of them connected."""
    await live.connect("here")
    gone = await live.connect("gone", **KEPT)
    await gone.disconnect()


@shows("GET /api/v4/brokers", "GET /api/v4/brokers/:node")
async def test_brokers(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        await trio.sleep(3 * 86_400 + 61)
        answer = await v4.get("/brokers")
        assert answer.status_code == 200
        body = answer.json()
        assert set(body) == {"code", "data"}
        assert body["code"] == 0
        (broker,) = body["data"]
        assert set(broker) == {
            "version",
            "uptime",
            "sysdescr",
            "otp_release",
            "node_status",
            "node",
            "datetime",
        }
        assert (broker["version"], broker["sysdescr"]) == ("4.4.19", "EMQX Broker")
        assert (broker["node"], broker["node_status"]) == (NODE, "Running")
        assert broker["uptime"] == "3 days, 0 hours, 1 minutes, 1 seconds"
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", broker["datetime"])
        assert re.fullmatch(r"\S+ \S+/trio \S+", broker["otp_release"])
        assert (await v4.get(f"/brokers/{NODE}")).json() == {"code": 0, "data": broker}


@shows("GET /api/v4/nodes", "GET /api/v4/nodes/:node")
async def test_nodes(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        await two_sessions(live)
        body = (await v4.get("/nodes")).json()
        assert body["code"] == 0
        (node,) = body["data"]
        (five,) = (await live.api.get("/nodes")).json()
        strings = ["version", "uptime", "otp_release", "node_status", "node", "memory_used", "memory_total"]
        strings += ["load1", "load5", "load15"]
        numbers = ("process_used", "process_available", "max_fds", "connections", "live_connections")
        assert set(node) == {*strings, *numbers}
        assert all(isinstance(node[name], str) for name in strings)
        assert all(type(node[name]) is int for name in numbers)
        assert (node["node"], node["node_status"], node["version"]) == (NODE, "Running", "4.4.19")
        assert (node["connections"], node["live_connections"]) == (2, 1)
        for name in ("connections", "live_connections", "max_fds", "process_available", "otp_release", "memory_total"):
            assert node[name] == five[name], name
        assert node["process_used"] > 0
        assert node["process_available"] == NO_LIMIT
        assert all(re.fullmatch(r"\d+\.\d\d", node[f"load{minutes}"]) for minutes in (1, 5, 15))
        assert re.fullmatch(r"\d+\.\d\d[KMG]", node["memory_used"])
        assert re.fullmatch(UPTIME, node["uptime"])
        one = (await v4.get(f"/nodes/{NODE}")).json()
        assert one["code"] == 0
        assert set(one["data"]) == set(node)
        assert one["data"]["node"] == NODE


@shows(
    "GET /api/v4/brokers/:node",
    "GET /api/v4/nodes/:node",
    "GET /api/v4/nodes/:node/metrics",
    "GET /api/v4/nodes/:node/stats",
    "GET /api/v4/nodes/:node/listeners",
    "GET /api/v4/nodes/:node/alarms",
    "GET /api/v4/nodes/:node/alarms/activated",
    "GET /api/v4/nodes/:node/alarms/deactivated",
)
@pytest.mark.parametrize(
    "path",
    [
        "/brokers/x@y",
        "/nodes/x@y",
        "/nodes/x@y/metrics",
        "/nodes/x@y/stats",
        "/nodes/x@y/listeners",
        "/nodes/x@y/alarms",
        "/nodes/x@y/alarms/activated",
        "/nodes/x@y/alarms/deactivated",
    ],
)
async def test_a_node_that_is_not_there(autojump_clock: MockClock, path: str) -> None:
    async with running() as live, older(live, "v4") as v4:
        answer = await v4.get(path)
        assert (answer.status_code, answer.text) == (404, "Not found.")
        assert answer.headers["content-type"].startswith("text/plain")


@shows("GET /api/v4/telemetry/status", "PUT /api/v4/telemetry/status", "GET /api/v4/telemetry/data")
async def test_nothing_is_reported(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        off = {"code": 0, "data": {"enabled": False}}
        assert (await v4.get("/telemetry/status")).json() == off
        assert (await v4.put("/telemetry/status", json={"enabled": False})).json() == {"code": 0}
        refused = await v4.put("/telemetry/status", json={"enabled": True})
        assert (refused.status_code, refused.json()["code"]) == (200, 102)
        assert "no telemetry" in refused.json()["message"]
        assert (await v4.get("/telemetry/status")).json() == off
        assert (await v4.put("/telemetry/status", json={})).json()["code"] == 107
        assert (await v4.put("/telemetry/status", json={"enabled": "perhaps"})).json()["code"] == 108
        assert (await v4.get("/telemetry/data")).json() == {"code": 0, "data": {}}
