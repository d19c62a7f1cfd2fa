"""The contract of `/api/v4`, read afresh: the blacklist."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio
from api.operations import shows
from review.contract_v4 import V4, meta, version_4
from trio.testing import MockClock

from trio_broker.store.memory import MemoryStore

SAMPLE = {
    "who": "example",
    "as": "clientid",
    "reason": "example",
    "by": "user",
    "at": 1582265533,
    "until": 4000000000,
}
MISSING = "missing mandatory params: ['who', 'as']"
BAD_AS = "value of 'as' must be one of: ['clientid', 'username', 'peerhost']"


async def ban(v4: V4, **fields: Any) -> dict[str, Any]:
    answer = await v4.ask("POST", "/banned", fields)
    assert answer.keys() == {"code", "data"}, answer
    assert answer["code"] == 0
    assert fields.items() <= answer["data"].items()
    assert answer["data"].keys() in (fields.keys(), SAMPLE.keys())
    found: dict[str, Any] = answer["data"]
    return found


async def refused(v4: V4, name: str, level: int = 5, **options: Any) -> bool:
    client = await v4.live.connect(name, level=level, **options)
    code = client.connack.reason_code
    assert code in (0, 0x8A if level == 5 else 0x87)  # "not authorized" is the nearest of MQTT 3
    return code != 0


@shows("GET /api/v4/banned", "POST /api/v4/banned", "DELETE /api/v4/banned/:as/:who")
async def test_the_sample(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        assert await v4.page("/banned") == ([], meta(0))
        await ban(v4, **SAMPLE)
        assert await v4.page("/banned") == ([SAMPLE], meta(1))
        await v4.done("DELETE", "/banned/clientid/example")
        assert await v4.page("/banned") == ([], meta(0))
        await v4.done("DELETE", "/banned/clientid/example")
        await v4.done("DELETE", "/banned/username/nobody")
        await v4.fails(108, None, "DELETE", "/banned/email/example")


@shows("POST /api/v4/banned", "GET /api/v4/banned")
async def test_what_is_not_said(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        before = int(time.time()) - 1
        await ban(v4, who="u1", **{"as": "username"})
        ((row,), _) = await v4.page("/banned")
        assert row.keys() == SAMPLE.keys()
        assert (row["who"], row["as"], row["by"], row["reason"]) == ("u1", "username", "user", "undefined")
        assert type(row["at"]) is int
        assert before <= row["at"] <= time.time() + 3600
        assert row["until"] == row["at"] + 300
        await ban(v4, who="u1", reason="again", by="me", until=4000000001, **{"as": "username"})
        ((row,), paging) = await v4.page("/banned")
        assert (row["reason"], row["by"], row["until"], paging) == ("again", "me", 4000000001, meta(1))
        await ban(v4, who="u1", **{"as": "clientid"})
        rows, paging = await v4.page("/banned")
        assert ({row["as"] for row in rows}, paging) == ({"username", "clientid"}, meta(2))


@shows("GET /api/v4/banned")
async def test_pages_of_bans(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        for index in range(5):
            await ban(v4, who=f"c{index}", reason="r", **{"as": "clientid"})
        first, paging = await v4.page("/banned", _limit=3)
        assert (len(first), paging) == (3, meta(5, limit=3))
        second, paging = await v4.page("/banned", _limit=3, _page=2)
        assert (len(second), paging) == (2, meta(5, page=2, limit=3))
        assert {row["who"] for row in first + second} == {f"c{index}" for index in range(5)}
        assert await v4.page("/banned", _page=3, _limit=3) == ([], meta(5, page=3, limit=3))
        rows, paging = await v4.page("/banned", who="c1")
        assert (len(rows), paging) == (5, meta(5))
        await v4.fails(108, None, "GET", "/banned", _limit="x")


@shows("POST /api/v4/banned")
async def test_bans_that_are_none(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        for body in (None, {}, {"who": "x"}, {"as": "clientid"}, {"reason": "x"}):
            await v4.fails(107, MISSING, "POST", "/banned", body)
        for bad in ("email", "", "CLIENTID"):
            await v4.fails(108, BAD_AS, "POST", "/banned", {"who": "x", "as": bad, "reason": "r"})
        for who in ("x", "127.0.0", "300.0.0.1", ""):
            await v4.fails(108, None, "POST", "/banned", {"who": who, "as": "peerhost", "reason": "r"})
        field: Any
        for field in ({"at": "x"}, {"until": "soon"}, {"until": []}, {"who": []}, {"as": 1}):
            await v4.fails((107, 108), None, "POST", "/banned", {"who": "x", "as": "clientid", "reason": "r"} | field)
        await v4.fails((107, 108), None, "POST", "/banned", [SAMPLE])
        assert await v4.page("/banned") == ([], meta(0))


@shows("POST /api/v4/banned", "DELETE /api/v4/banned/:as/:who")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_a_client_id(level: int, autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        there = await v4.live.connect("a/b c", level=level)
        other = await v4.live.connect("c2", level=level)
        await ban(v4, who="a/b c", reason="r", **{"as": "clientid"})
        with trio.fail_after(60):
            await there.wait_ended()
        await other.ping()
        assert await refused(v4, "a/b c", level)
        assert not await refused(v4, "a/b", level)
        await v4.done("DELETE", "/banned/clientid/a%2Fb%20c")
        assert not await refused(v4, "a/b c", level)


@shows("POST /api/v4/banned", "DELETE /api/v4/banned/:as/:who")
@pytest.mark.parametrize(
    ("kind", "who", "path"), [("username", "u/1", "username/u%2F1"), ("peerhost", "127.0.0.1", "peerhost/127.0.0.1")]
)
async def test_those_who_are_there_stay(kind: str, who: str, path: str, autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        there = await v4.live.connect("c1", username="u/1")
        await ban(v4, who=who, reason="r", **{"as": kind})
        await trio.sleep(100)
        await there.ping()
        for level in (3, 4, 5):
            assert await refused(v4, "c2", level, username="u/1")
            assert await refused(v4, "c3", level, username="u2") == (kind == "peerhost")
        await v4.done("DELETE", f"/banned/{path}")
        assert not await refused(v4, "c2", username="u/1")


@shows("POST /api/v4/banned", "GET /api/v4/banned")
async def test_until(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await ban(v4, **SAMPLE | {"until": 1582265833})  # long ago
        assert not await refused(v4, "example")
        now = int(time.time())
        await ban(v4, **SAMPLE | {"at": now, "until": now + 1000})
        assert await refused(v4, "example")
        await ban(v4, who="::1", reason="r", **{"as": "peerhost"})
        assert not await refused(v4, "other")


@shows("POST /api/v4/banned", "GET /api/v4/banned")
async def test_bans_are_kept(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with version_4(store) as v4:
        await ban(v4, **SAMPLE)
    async with version_4(store) as v4:
        assert await v4.page("/banned") == ([SAMPLE], meta(1))
        assert await refused(v4, "example")


@shows("POST /api/v4/banned")
async def test_bans_from_the_query(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        answer = await v4.ask("POST", "/banned", {"as": "username", "reason": "r"}, who="x", **{"as": "clientid"})
        assert answer["code"] == 0
        ((row,), _) = await v4.page("/banned")
        assert (row["who"], row["as"], row["reason"]) == ("x", "clientid", "r")
