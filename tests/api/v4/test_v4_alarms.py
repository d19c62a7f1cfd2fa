"""Alarms as EMQX 4 shows them: microseconds, and both lists in one."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from api.live import Live, running
from api.older import older
from api.operations import shows
from trio.testing import MockClock

NODE = "trio_broker@127.0.0.1"
TYPES = {
    "name": str,
    "details": dict,
    "message": str,
    "activate_at": int,
    "deactivate_at": str,
    "activated": bool,
    "duration": int,
}


def alarms_of(live: Live) -> Any:
    assert live.broker._core is not None
    return live.broker._core.alarms


async def past_and_present(live: Live) -> None:
    """`old` was active for 5 seconds, `new` has been for 2."""
    alarms_of(live).activate("old", "It was wrong", {"why": 1})
    await trio.sleep(5)
    alarms_of(live).deactivate("old")
    alarms_of(live).activate("new", "93% cpu usage", {"usage": 93})
    await trio.sleep(2)


@shows(
    "GET /api/v4/alarms",
    "GET /api/v4/alarms/activated",
    "GET /api/v4/alarms/deactivated",
    "GET /api/v4/nodes/:node/alarms",
    "GET /api/v4/nodes/:node/alarms/activated",
    "GET /api/v4/nodes/:node/alarms/deactivated",
)
async def test_alarms_are_listed(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        await past_and_present(live)
        body = (await v4.get("/alarms/activated")).json()
        assert body["code"] == 0
        (row,) = body["data"]
        assert set(row) == {"node", "alarms"}
        assert row["node"] == NODE
        (new,) = row["alarms"]
        assert {name: type(value) for name, value in new.items()} == TYPES
        assert (new["name"], new["message"], new["details"]) == ("new", "93% cpu usage", {"usage": 93})
        assert (new["deactivate_at"], new["activated"], new["duration"]) == ("infinity", True, 2_000_000)
        now_ms = live.broker.questions.api_keys.now() * 1000
        assert new["activate_at"] == pytest.approx((now_ms - 2000) * 1000, abs=1_500_000)
        (old,) = (await v4.get("/alarms/deactivated")).json()["data"][0]["alarms"]
        assert {name: type(value) for name, value in old.items()} == TYPES | {"deactivate_at": int}
        assert (old["name"], old["activated"], old["duration"]) == ("old", False, 5_000_000)
        assert old["deactivate_at"] - old["activate_at"] == 5_000_000
        assert (await v4.get("/alarms")).json()["data"] == [{"node": NODE, "alarms": [new, old]}]
        for path, alarms in (("", [new, old]), ("/activated", [new]), ("/deactivated", [old])):
            assert (await v4.get(f"/nodes/{NODE}/alarms{path}")).json() == {"code": 0, "data": alarms}
        (five,) = (await live.api.get("/alarms")).json()["data"]
        assert (five["name"], five["duration"] * 1000) == (new["name"], new["duration"])


@shows("POST /api/v4/alarms/deactivated")
async def test_an_alarm_is_taken_for_over(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        await past_and_present(live)
        answer = await v4.post("/alarms/deactivated", json={"node": NODE, "name": "new"})
        assert (answer.status_code, answer.json()) == (200, {"code": 0})
        assert (await v4.get("/alarms/activated")).json()["data"][0]["alarms"] == []
        listed = (await v4.get("/alarms/deactivated")).json()["data"][0]["alarms"]
        assert [alarm["name"] for alarm in listed] == ["new", "old"]
        answer = await v4.post("/alarms/deactivated", json={"node": NODE, "name": "new"})
        assert (answer.status_code, answer.json()) == (200, {"code": 102, "message": "not_found"})


@shows("POST /api/v4/alarms/deactivated")
@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"name": "new"}, 107, "node"),
        ({"node": NODE}, 107, "name"),
        ({"node": NODE, "name": 1}, 108, "name"),
        ({"node": "x@y", "name": "new"}, 101, "nodedown"),
    ],
)
async def test_what_does_not_name_an_alarm(
    autojump_clock: MockClock, body: dict[str, Any], code: int, message: str
) -> None:
    async with running() as live, older(live, "v4") as v4:
        await past_and_present(live)
        answer = await v4.post("/alarms/deactivated", json=body)
        assert (answer.status_code, answer.json()["code"]) == (200, code)
        assert message in answer.json()["message"]
        assert len((await v4.get("/alarms/activated")).json()["data"][0]["alarms"]) == 1


@shows("DELETE /api/v4/alarms/deactivated", "DELETE /api/v4/nodes/:node/alarms/deactivated")
@pytest.mark.parametrize("path", ["/alarms/deactivated", f"/nodes/{NODE}/alarms/deactivated"])
async def test_the_past_is_forgotten(autojump_clock: MockClock, path: str) -> None:
    async with running() as live, older(live, "v4") as v4:
        await past_and_present(live)
        answer = await v4.delete(path)
        assert (answer.status_code, answer.json()) == (200, {"code": 0})
        listed = (await v4.get(f"/nodes/{NODE}/alarms")).json()["data"]
        assert [alarm["name"] for alarm in listed] == ["new"]
        assert (await v4.delete("/nodes/x@y/alarms/deactivated")).status_code == 404
