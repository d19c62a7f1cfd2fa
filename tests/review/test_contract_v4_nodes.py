"""The contract of `/api/v4`, read afresh: brokers and nodes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
import trio
from api.operations import shows
from review.contract import KEPT, away
from review.doors_v4 import DATETIME, LOAD, MEMORY, NODE, UPTIME, doors, got
from trio.testing import MockClock

BROKER = {"version", "uptime", "sysdescr", "otp_release", "node_status", "node", "datetime"}
NODE_INTS = {"process_used", "process_available", "max_fds", "connections", "live_connections"}
NODE_KEYS = NODE_INTS | {"version", "uptime", "otp_release", "node_status", "node", "memory_used", "memory_total"}
NODE_KEYS |= {"load1", "load5", "load15"}


@shows("GET /api/v4/brokers", "GET /api/v4/brokers/:node")
async def test_brokers(autojump_clock: MockClock) -> None:
    async with doors() as at:
        for api in (at.app, at.user):
            [row] = await got(api, "/brokers")
            assert row.keys() == BROKER
            assert all(isinstance(value, str) and value for value in row.values())
            assert (row["node"], row["node_status"]) == (NODE, "Running")
            assert (row["sysdescr"], row["version"]) == ("EMQX Broker", "4.4.19")
            assert UPTIME.fullmatch(row["uptime"])
            assert DATETIME.fullmatch(row["datetime"])
            assert row["otp_release"].count("/") == 1
            one = await got(api, f"/brokers/{NODE}")
            assert one.keys() == BROKER
            assert {**one, "datetime": row["datetime"]} == row


@shows("GET /api/v4/brokers/:node", "GET /api/v4/nodes/:node")
@pytest.mark.parametrize(
    ("after", "text"),
    [
        (1, "1 seconds"),
        (59, "59 seconds"),
        (60, "1 minutes, 0 seconds"),
        (141, "2 minutes, 21 seconds"),
        (3600, "1 hours, 0 minutes, 0 seconds"),
        (3605, "1 hours, 0 minutes, 5 seconds"),
        (15679, "4 hours, 21 minutes, 19 seconds"),
        (2 * 86400, "2 days, 0 hours, 0 minutes, 0 seconds"),
        (40 * 86400 + 7, "40 days, 0 hours, 0 minutes, 7 seconds"),
    ],
)
async def test_uptime(after: int, text: str, autojump_clock: MockClock) -> None:
    async with doors() as at:
        await trio.sleep(after + 0.5)
        for path in (f"/brokers/{NODE}", f"/nodes/{NODE}"):
            assert (await got(at.app, path))["uptime"] == text


@shows("GET /api/v4/brokers/:node")
async def test_the_time_goes_on(autojump_clock: MockClock) -> None:
    async with doors() as at:

        async def now() -> datetime:
            return datetime.strptime((await got(at.app, f"/brokers/{NODE}"))["datetime"], "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007

        first = await now()
        assert abs(first - datetime.now()) < timedelta(minutes=1)  # noqa: DTZ005 - node-local, as the answer
        assert await now() >= first


@shows("GET /api/v4/nodes", "GET /api/v4/nodes/:node")
async def test_nodes(autojump_clock: MockClock) -> None:
    async with doors() as at:
        [row] = await got(at.app, "/nodes")
        one = await got(at.user, f"/nodes/{NODE}")
        for node in (row, one):
            assert node.keys() == NODE_KEYS
            for key, value in node.items():
                assert type(value) is (int if key in NODE_INTS else str), key
            assert (node["node"], node["node_status"], node["version"]) == (NODE, "Running", "4.4.19")
            assert UPTIME.fullmatch(node["uptime"])
            for key in ("memory_used", "memory_total"):
                assert MEMORY.fullmatch(node[key])
            for key in ("load1", "load5", "load15"):
                assert LOAD.fullmatch(node[key])
            assert 0 < node["process_used"] < node["process_available"]
            assert node["max_fds"] > 0
            assert (node["connections"], node["live_connections"]) == (0, 0)


@shows("GET /api/v4/nodes", "GET /api/v4/nodes/:node")
async def test_connections(autojump_clock: MockClock) -> None:
    async with doors() as at:

        async def counted(connections: int, live: int) -> None:
            [row] = await got(at.app, "/nodes")
            for node in (row, await got(at.app, f"/nodes/{NODE}")):
                assert (node["connections"], node["live_connections"]) == (connections, live)

        await away(at.live, "away")
        await trio.sleep(1)
        await counted(1, 0)
        stays: dict[str, Any] = KEPT
        first = await at.live.connect("first", **stays)
        second = await at.live.connect("second", level=4)
        await counted(3, 2)
        await first.drop()
        await second.disconnect()
        await trio.sleep(1)
        await counted(2, 0)
        await trio.sleep(3601)
        await counted(0, 0)
