"""The contract of `/api/v2`, read afresh: nodes and listeners."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
import trio
from api.operations import shows
from review.contract import NODE
from review.contract_v2 import LOAD, MEMORY, NODES, UPTIME, both, got, seconds, shaped
from trio.testing import MockClock

from trio_broker.config import Config
from trio_broker.config.tree import overlay

BROKER = dict.fromkeys(("version", "sysdescr", "uptime", "datetime", "otp_release", "node_status"), str)
FIGURES: dict[str, type] = {
    "name": str,
    "otp_release": str,
    "memory_total": str,
    "memory_used": str,
    "process_available": int,
    "process_used": int,
    "max_fds": int,
    "clients": int,
    "node_status": str,
    "load1": str,
    "load5": str,
    "load15": str,
}
LISTENER: dict[str, type] = {
    "protocol": str,
    "listen": str,
    "acceptors": int,
    "max_clients": int,
    "current_clients": int,
}
PROTOCOLS = {"mqtt:tcp", "mqtt:ssl", "mqtt:ws", "mqtt:wss", "mqtt:api", "dashboard:http"}


def a_broker(row: dict[str, Any]) -> None:
    shaped(row, BROKER)
    assert row["node_status"] == "Running"
    assert re.fullmatch(r"\d+\.\d+(\.\d+)?", row["version"])
    assert re.fullmatch(r"\w+ [\w.+-]+/trio [\w.+-]+", row["otp_release"])
    assert UPTIME.fullmatch(row["uptime"])
    assert abs(seconds(row["datetime"]) - time.time()) < 60


@shows("GET /api/v2/management/nodes", "GET /api/v2/management/nodes/:node")
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
async def test_brokers(zone: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        async with both() as (_, v2):
            (row,) = await got(v2, "/management/nodes")
            assert row.pop("name") == NODE
            a_broker(row)
            single = await got(v2, f"/management/nodes/{NODE}")
            a_broker(single)
            assert {**single, "uptime": "", "datetime": ""} == {**row, "uptime": "", "datetime": ""}
    finally:
        monkeypatch.undo()
        time.tzset()


@shows("GET /api/v2/management/nodes/:node")
async def test_uptime(autojump_clock: MockClock) -> None:
    async with both() as (_, v2):
        began = trio.current_time()

        async def after(how_long: int) -> str:
            await trio.sleep_until(began + how_long + 0.5)
            text: str = (await got(v2, f"/management/nodes/{NODE}"))["uptime"]
            return text

        assert await after(0) == "0 seconds"
        assert await after(18) == "18 seconds"
        assert await after(59) == "59 seconds"
        assert await after(60) == "1 minutes, 0 seconds"
        assert await after(17 * 60 + 1) == "17 minutes, 1 seconds"
        assert await after(3600) == "1 hours, 0 minutes, 0 seconds"
        assert await after(3600 + 17 * 60 + 1) == "1 hours, 17 minutes, 1 seconds"
        assert await after(86399) == "23 hours, 59 minutes, 59 seconds"
        assert await after(3 * 86400 + 3600 + 17 * 60 + 1) == "3 days,1 hours, 17 minutes, 1 seconds"
        assert await after(10 * 86400) == "10 days,0 hours, 0 minutes, 0 seconds"


def size(text: str) -> float:
    assert MEMORY.fullmatch(text)
    return float(text.rstrip("GMK")) * {"G": 2.0**30, "M": 2.0**20, "K": 2.0**10}.get(text[-1], 1)


@shows("GET /api/v2/monitoring/nodes", "GET /api/v2/monitoring/nodes/:node")
async def test_figures_of_a_node(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        for clients in range(3):
            (row,) = await got(v2, "/monitoring/nodes")
            single = await got(v2, f"/monitoring/nodes/{NODE}")
            for shown in (row, single):
                shaped(shown, FIGURES)
                assert (shown["name"], shown["node_status"], shown["clients"]) == (NODE, "Running", clients)
                assert 2**20 < size(shown["memory_used"]) <= size(shown["memory_total"]) < 2**40
                assert 0 < shown["process_used"] <= shown["process_available"]
                assert shown["max_fds"] > 0
                for key in ("load1", "load5", "load15"):
                    assert LOAD.fullmatch(shown[key])
            assert row["otp_release"] == (await got(v2, f"/management/nodes/{NODE}"))["otp_release"]
            client = await live.connect(f"c{clients}")
        await client.disconnect()
        await trio.sleep(1)
        assert (await got(v2, f"/monitoring/nodes/{NODE}"))["clients"] == 2


@shows("GET /api/v2/monitoring/listeners", "GET /api/v2/monitoring/listeners/:node")
async def test_listeners(autojump_clock: MockClock) -> None:
    tables = {
        "listeners": {
            "tcp": {
                "default": {"bind": "127.0.0.1:0", "max_connections": 1000},
                "all": {"bind": "0.0.0.0:0", "acceptors": 3},
            },
            "ws": {"default": {"bind": "0.0.0.0:0"}},
        }
    }
    async with both(overlay(Config(), tables)) as (live, v2):
        await live.connect("c1")
        shown = await got(v2, "/monitoring/listeners")
        assert shown.keys() == {NODE}
        rows = await got(v2, f"/monitoring/listeners/{NODE}")
        assert rows
        for row in (*rows, *shown[NODE]):
            counted = row.pop("shutdown_count")
            assert counted == [] or (type(counted) is dict and all(type(value) is int for value in counted.values()))
            shaped(row, LISTENER)
            assert row["protocol"] in PROTOCOLS
            assert re.fullmatch(r"((\d+\.){3}\d+:|\[[0-9a-f:]+\]:)?\d+", row["listen"])
            assert row["max_clients"] > 0
            assert row["acceptors"] > 0
        assert sorted(map(str, rows)) == sorted(map(str, shown[NODE]))
        protocols = [row["protocol"] for row in rows]
        assert protocols.count("mqtt:tcp") == 2
        assert protocols.count("mqtt:ws") == 1
        (narrow,) = [row for row in rows if row["max_clients"] == 1000]
        assert narrow["listen"].startswith("127.0.0.1:")


@shows("GET /api/v2/nodes/:node/alarms")
async def test_no_alarms(autojump_clock: MockClock) -> None:
    async with both() as (_, v2):
        assert await got(v2, f"{NODES}/alarms") == []
