"""The contract of `/api/v4`, read afresh: alarms, while they begin, end and are forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from api.operations import shows
from review.doors_v4 import NODE, Doors, both, done, doors, got, refused
from trio.testing import MockClock

ALARM = {"name", "details", "message", "activate_at", "deactivate_at", "activated", "duration"}
MEMORY = "high_system_memory_usage"
EMPTY: dict[str, list[Any]] = {"": [], "/activated": [], "/deactivated": []}


async def watermark(at: Doors, percent: int) -> None:
    body = {"os": {"mem_check_interval": "10s", "sysmem_high_watermark": f"{percent}%"}}
    answer = await at.live.api.put("/configs/sysmon", json=body)
    assert answer.status_code == 200, answer.text
    await trio.sleep(30)


@asynccontextmanager
async def alarmed() -> AsyncIterator[Doors]:
    """One alarm is active."""
    async with doors() as at:
        await watermark(at, 1)
        yield at


async def alarms(at: Doors) -> dict[str, list[Any]]:
    return {path: await both(at.app, f"/alarms{path}", "alarms") for path in EMPTY}


def is_alarm(row: dict[str, Any]) -> None:
    assert row.keys() == ALARM
    assert isinstance(row["name"], str)
    assert isinstance(row["message"], str)
    assert isinstance(row["details"], dict)
    assert type(row["activated"]) is bool
    assert type(row["activate_at"]) is int
    assert row["activate_at"] > 1_500_000_000_000_000
    assert type(row["duration"]) is int
    if row["activated"]:
        assert row["deactivate_at"] == "infinity"
    else:
        assert type(row["deactivate_at"]) is int
        assert row["deactivate_at"] - row["activate_at"] == row["duration"]


@shows("GET /api/v4/alarms", "GET /api/v4/alarms/activated", "GET /api/v4/alarms/deactivated")
async def test_no_alarms(autojump_clock: MockClock) -> None:
    async with doors() as at:
        assert await alarms(at) == EMPTY


@shows(
    "GET /api/v4/alarms",
    "GET /api/v4/alarms/activated",
    "GET /api/v4/nodes/:node/alarms",
    "GET /api/v4/nodes/:node/alarms/activated",
)
async def test_one_of_now(autojump_clock: MockClock) -> None:
    async with alarmed() as at:
        for path in ("/alarms", "/alarms/activated"):
            [entry] = await got(at.app, path)
            assert entry.keys() == {"node", "alarms"}
            for rows in (entry["alarms"], await got(at.app, f"/nodes/{NODE}{path}")):
                [row] = rows
                is_alarm(row)
                assert (row["name"], row["activated"]) == (MEMORY, True)
        assert await both(at.app, "/alarms/deactivated", "alarms") == []


@shows("GET /api/v4/alarms/deactivated", "GET /api/v4/nodes/:node/alarms/deactivated")
async def test_one_of_the_past(autojump_clock: MockClock) -> None:
    async with alarmed() as at:
        await watermark(at, 100)
        found = await alarms(at)
        assert found["/activated"] == []
        [row] = found["/deactivated"]
        is_alarm(row)
        assert (row["name"], row["activated"]) == (MEMORY, False)
        assert found[""] == [row]
        await watermark(at, 1)
        whole = await got(at.app, f"/nodes/{NODE}/alarms")
        assert sorted(row["activated"] for row in whole) == [False, True]
        for row in whole:
            is_alarm(row)


@shows("POST /api/v4/alarms/deactivated")
async def test_taken_for_over(autojump_clock: MockClock) -> None:
    async with alarmed() as at:
        body = {"node": NODE, "name": MEMORY}
        refused(await at.app.post("/alarms/deactivated", json={**body, "name": "x"}), 102, "not_found")
        refused(await at.app.post("/alarms/deactivated", json={**body, "node": "x@127.0.0.1"}), 101)
        for bad in ({}, {"node": NODE}, {"name": MEMORY}):
            refused(await at.app.post("/alarms/deactivated", json=bad), 107)
        for key in body:
            refused(await at.app.post("/alarms/deactivated", json={**body, key: []}), 108)
        assert len((await alarms(at))["/deactivated"]) == 0
        done(await at.app.post("/alarms/deactivated", json=body))
        found = await alarms(at)
        assert (len(found["/activated"]), len(found["/deactivated"])) == (0, 1)
        is_alarm(found["/deactivated"][0])
        refused(await at.app.post("/alarms/deactivated", json=body), 102, "not_found")


@shows("DELETE /api/v4/alarms/deactivated", "DELETE /api/v4/nodes/:node/alarms/deactivated")
async def test_those_of_the_past_are_forgotten(autojump_clock: MockClock) -> None:
    async with alarmed() as at:
        for path in ("/alarms/deactivated", f"/nodes/{NODE}/alarms/deactivated"):
            await watermark(at, 100)
            await watermark(at, 1)
            assert len((await alarms(at))["/deactivated"]) == 1
            done(await at.app.delete(path))
            found = await alarms(at)
            assert (len(found["/activated"]), len(found["/deactivated"])) == (1, 0)
            done(await at.app.delete(path))
