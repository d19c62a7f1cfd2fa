"""EMQ 2's nodes, and the alarms of a node: each sample of its document, over a running broker."""

from __future__ import annotations

import re
from typing import Any

import pytest
import trio
from api.live import running
from api.older import older
from api.operations import shows
from api.v2.two import NODE, shape
from trio.testing import MockClock

from trio_broker.actors.alarms import STORE_FAILURE
from trio_broker.actors.questions import NodeInfo

BROKER: dict[str, Any] = {
    "version": "2.1.1",
    "sysdescr": "EMQ X",
    "uptime": "1 hours, 17 minutes, 18 seconds",
    "datetime": "2017-04-14 14:11:55",
    "otp_release": "R19/8.3",
    "node_status": "Running",
}
FIGURES: dict[str, Any] = {
    "name": "emq@127.0.0.1",
    "otp_release": "R19/8.3",
    "memory_total": "69.19M",
    "memory_used": "49.28M",
    "process_available": 262144,
    "process_used": 303,
    "max_fds": 256,
    "clients": 1,
    "node_status": "Running",
    "load1": "1.93",
    "load5": "1.93",
    "load15": "1.89",
}
ALARM = {
    "id": "high_cpu_usage",
    "severity": "warning",
    "title": "high cpu usage",
    "summary": "93.00% cpu usage",
    "occurred_at": "2017-04-14 14:11:55",
}
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
SIZE = re.compile(r"\d+\.\d\d[KMG]")
LOAD = re.compile(r"\d+\.\d\d")


@shows("GET /api/v2/management/nodes", "GET /api/v2/management/nodes/:node")
async def test_brokers(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        await trio.sleep(4638.5)
        answer = await v2.get("/management/nodes")
        assert answer.status_code == 200
        assert shape(answer.json()) == shape({"code": 0, "result": [{"name": "emq@127.0.0.1", **BROKER}]})
        (broker,) = answer.json()["result"]
        assert (broker.pop("name"), broker["node_status"]) == (NODE, "Running")
        assert broker["uptime"].startswith("1 hours, 17 minutes, ")
        assert TIME.fullmatch(broker["datetime"])
        assert (broker["version"], broker["sysdescr"]) == ("2.3.11", "EMQ X")
        info = await live.broker.questions.node()
        assert broker["otp_release"] == info.runtime
        one = (await v2.get(f"/management/nodes/{NODE}")).json()
        assert shape(one) == shape({"code": 0, "result": BROKER})
        assert {**broker, "uptime": "", "datetime": ""} == {**one["result"], "uptime": "", "datetime": ""}


@shows("GET /api/v2/monitoring/nodes", "GET /api/v2/monitoring/nodes/:node")
async def test_figures(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        await live.connect("c1")
        away = await live.connect("c2", properties={"session_expiry_interval": 3600})
        await away.disconnect()
        answer = await v2.get("/monitoring/nodes")
        assert shape(answer.json()) == shape({"code": 0, "result": [FIGURES]})
        (node,) = answer.json()["result"]
        assert (node["name"], node["node_status"], node["clients"]) == (NODE, "Running", 1)
        info = await live.broker.questions.node()
        assert (node["max_fds"], node["otp_release"]) == (info.max_fds, info.runtime)
        assert 0 < node["process_used"] < node["process_available"]
        assert all(SIZE.fullmatch(node[name]) for name in ("memory_total", "memory_used"))
        assert all(LOAD.fullmatch(node[name]) for name in ("load1", "load5", "load15"))
        one = (await v2.get(f"/monitoring/nodes/{NODE}")).json()
        assert shape(one) == shape({"code": 0, "result": FIGURES})
        assert one["result"]["clients"] == 1


@shows("GET /api/v2/monitoring/nodes")
async def test_figures_as_the_machine_says_them(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    async def node() -> NodeInfo:
        return NodeInfo(
            name=NODE,
            version="",
            started_at=0,
            uptime_ms=0,
            sessions=3,
            connections=2,
            runtime="R19/8.3",
            load=(2.21, 2.0, 1.918),
            memory_total=5 * 2**28,
            memory_used=72_550_973,
            max_fds=256,
            tasks=303,
        )

    async with running() as live, older(live, "v2") as v2:
        monkeypatch.setattr(live.broker.questions, "node", node)
        (shown,) = (await v2.get("/monitoring/nodes")).json()["result"]
        assert shown == {
            "name": NODE,
            "otp_release": "R19/8.3",
            "memory_total": "1.25G",
            "memory_used": "69.19M",
            "process_available": 2**31 - 1,
            "process_used": 303,
            "max_fds": 256,
            "clients": 2,
            "node_status": "Running",
            "load1": "2.21",
            "load5": "2.00",
            "load15": "1.92",
        }


@shows("GET /api/v2/nodes/:node/alarms")
async def test_alarms(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        assert (await v2.get(f"/nodes/{NODE}/alarms")).json() == {"code": 0, "result": []}
        assert live.broker._core is not None
        alarms = live.broker._core.alarms
        alarms.activate("high_cpu_usage", "93.00% cpu usage", {"usage": 93})
        alarms.activate(STORE_FAILURE, "It cannot be written", {})
        alarms.activate("over", "It was wrong", {})
        alarms.deactivate("over")
        answer = (await v2.get(f"/nodes/{NODE}/alarms")).json()
        failure, high = answer["result"]
        assert shape(answer) == shape({"code": 0, "result": [ALARM]})
        assert TIME.fullmatch(high["occurred_at"])
        assert {**high, "occurred_at": ""} == {**ALARM, "occurred_at": ""}
        assert (failure["id"], failure["severity"], failure["title"]) == (STORE_FAILURE, "critical", "store failure")


@shows("GET /api/v2/management/nodes/:node", "GET /api/v2/monitoring/nodes/:node", "GET /api/v2/nodes/:node/alarms")
async def test_a_node_that_there_is_not(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        for path in (
            "/management/nodes/emq@10.0.0.2",
            "/monitoring/nodes/emq@10.0.0.2",
            "/nodes/emq@10.0.0.2/alarms",
        ):
            answer = await v2.get(path)
            assert (answer.status_code, answer.json()) == (200, {"code": 101, "message": "badrpc"})
