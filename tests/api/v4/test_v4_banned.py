"""`/banned` of EMQX 4: what may be said, what is listed, what is refused, and what a ban does."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
import trio
from api.live import Live, running
from api.older import older
from api.operations import shows
from trio.testing import MockClock

from trio_broker.store.memory import MemoryStore

LATEST = 253_402_214_400


def now(live: Live) -> int:
    return live.broker.questions.banned.now()


async def refused(live: Live, client_id: str, **options: Any) -> bool:
    client = await live.connect(client_id, **options)
    return client.connack.reason_code != 0


@shows("POST /api/v4/banned", "GET /api/v4/banned")
async def test_the_printed_sample(autojump_clock: MockClock) -> None:
    sample = {"who": "example", "as": "clientid", "reason": "example", "by": "user", "at": 1582265533}
    sample |= {"until": 4102444800}
    async with running() as live, older(live, "v4") as v4:
        empty = {"code": 0, "data": [], "meta": {"page": 1, "limit": 10000, "count": 0}}
        assert (await v4.get("/banned")).json() == empty
        answer = await v4.post("/banned", json=sample)
        assert (answer.status_code, answer.json()) == (200, {"code": 0, "data": sample})
        assert (await v4.get("/banned")).json() == {
            "code": 0,
            "data": [sample],
            "meta": {"page": 1, "limit": 10000, "count": 1},
        }


@shows("POST /api/v4/banned")
async def test_what_is_not_said(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        answer = (await v4.post("/banned", json={"who": "c1", "as": "username"})).json()
        row = answer["data"]
        assert (answer["code"], row["until"] - row["at"]) == (0, 300)
        assert abs(row["at"] - now(live)) <= 1
        assert row | {"at": 0, "until": 0} == {
            "who": "c1",
            "as": "username",
            "reason": "undefined",
            "by": "user",
            "at": 0,
            "until": 0,
        }
        # The query counts as well, and first.
        answer = (await v4.post("/banned?who=c2&until=4102444800", json={"who": "c3", "as": "clientid"})).json()
        assert (answer["data"]["who"], answer["data"]["until"]) == ("c2", 4102444800)


@shows("POST /api/v4/banned")
async def test_a_ban_takes_the_place_of_the_other(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        for reason in ("first", "second"):
            answer = await v4.post("/banned", json={"who": "c1", "as": "clientid", "reason": reason})
            assert answer.json()["code"] == 0
        listed = (await v4.get("/banned")).json()
        assert [row["reason"] for row in listed["data"]] == ["second"]


@shows("POST /api/v4/banned")
async def test_bans_that_are_refused(autojump_clock: MockClock) -> None:
    missing = {"code": 107, "message": "missing mandatory params: ['who', 'as']"}
    bad_kind = {"code": 108, "message": "value of 'as' must be one of: ['clientid', 'username', 'peerhost']"}
    async with running() as live, older(live, "v4") as v4:
        body: Any
        for body in ({}, {"who": "c1"}, {"as": "clientid"}, {"who": None, "as": "clientid"}, []):
            answer = await v4.post("/banned", json=body)
            assert (answer.status_code, answer.json()) == (200, missing)
        assert (await v4.post("/banned")).json() == missing
        for kind in ("", "clientId", "clientid_re", "peerhost_net"):
            answer = await v4.post("/banned", json={"who": "c1", "as": kind})
            assert (answer.status_code, answer.json()) == (200, bad_kind)
        wrong: list[dict[str, Any]] = [
            {"who": 1, "as": "clientid"},
            {"who": "", "as": "clientid"},
            {"who": "x" * 65_536, "as": "clientid"},
            {"who": "c1", "as": 1},
            {"who": "not an address", "as": "peerhost"},
            {"who": "10.0.0.0/8", "as": "peerhost"},
            {"who": "c1", "as": "clientid", "until": "tomorrow"},
            {"who": "c1", "as": "clientid", "until": -1},
            {"who": "c1", "as": "clientid", "at": LATEST + 1},
            {"who": "c1", "as": "clientid", "at": 1.5},
            {"who": "c1", "as": "clientid", "reason": 5},
            {"who": "c1", "as": "clientid", "by": []},
        ]
        for body in wrong:
            answer = await v4.post("/banned", json=body)
            assert (answer.status_code, answer.json()["code"], body) == (200, 108, body)
            assert answer.json()["message"]
        assert (await v4.get("/banned")).json()["data"] == []


@shows("POST /api/v4/banned")
async def test_who_is_banned_by_client_id_goes_at_once(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        c1 = await live.connect("c1", username="u")
        c2 = await live.connect("c2", username="u")
        await v4.post("/banned", json={"who": "c1", "as": "clientid"})
        assert (await c1.wait_ended()).reason_code == 0x98
        assert await refused(live, "c1")
        await v4.post("/banned", json={"who": "u", "as": "username"})
        await v4.post("/banned", json={"who": "127.0.0.1", "as": "peerhost"})
        await c2.ping()
        assert await refused(live, "c3")
        await trio.sleep(301)
        assert not await refused(live, "c1", username="u")


@shows("GET /api/v4/banned")
async def test_pages_and_what_is_over(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store=store) as live, older(live, "v4") as v4:
        for number in range(5):
            await v4.post("/banned", json={"who": f"c{number}", "as": "clientid", "until": now(live) + 600})
        for page, found in ((1, ["c0", "c1"]), (2, ["c2", "c3"]), (3, ["c4"]), (4, [])):
            answer = (await v4.get(f"/banned?_page={page}&_limit=2")).json()
            assert [row["who"] for row in answer["data"]] == found
            assert answer["meta"] == {"page": page, "limit": 2, "count": 5}
        assert (await v4.get("/banned?_limit=x")).json()["code"] == 108
    async with running(store=store) as live, older(live, "v4") as v4:
        assert (await v4.get("/banned")).json()["meta"]["count"] == 5
        await trio.sleep(700)
        assert (await v4.get("/banned")).json()["data"] == []


@shows("GET /api/v4/banned")
async def test_bans_of_the_later_generation_are_shown_too(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        await live.api.post("/banned", json={"as": "clientid_re", "who": "^x", "at": 5})
        [row] = (await v4.get("/banned")).json()["data"]
        expected = {"who": "^x", "as": "clientid_re", "reason": "", "by": "mgmt_api", "at": 5, "until": LATEST}
        assert row == expected


@shows("DELETE /api/v4/banned/:as/:who")
async def test_delete(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        bans = {"clientid": "a b/ü#", "username": "u", "peerhost": "::ffff:10.0.0.1"}
        for kind, who in bans.items():
            assert (await v4.post("/banned", json={"who": who, "as": kind})).json()["code"] == 0
        for path in ("clientid/nobody", "username/c1", "peerhost/10.0.0.9", "peerhost/nowhere"):
            answer = await v4.delete(f"/banned/{path}")
            assert (answer.status_code, answer.text) == (200, '{"code":0}')
        assert (await v4.get("/banned")).json()["meta"]["count"] == 3
        for kind, who in bans.items():
            answer = await v4.delete(f"/banned/{kind}/{quote(who, safe='')}")
            assert (answer.status_code, answer.text) == (200, '{"code":0}')
        assert (await v4.get("/banned")).json()["data"] == []


@shows("DELETE /api/v4/banned/:as/:who")
@pytest.mark.parametrize("kind", ["x", "clientid_re", "client"])
async def test_delete_of_what_is_no_kind(autojump_clock: MockClock, kind: str) -> None:
    async with running() as live, older(live, "v4") as v4:
        answer = await v4.delete(f"/banned/{kind}/c1")
        message = "value of 'as' must be one of: ['clientid', 'username', 'peerhost']"
        assert (answer.status_code, answer.json()) == (200, {"code": 108, "message": message})
