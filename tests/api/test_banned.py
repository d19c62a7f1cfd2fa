"""`/banned` over a running broker: what may be said, what is listed, and what is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import trio
from api.live import Live, running
from api.operations import shows

from trio_broker.store.memory import MemoryStore


async def ban(live: Live, kind: str, who: str, **more: Any) -> httpx.Response:
    return await live.api.post("/banned", json={"as": kind, "who": who, **more})


async def listed(live: Live, query: str = "") -> list[str]:
    answer = await live.api.get(f"/banned?{query}")
    assert answer.status_code == 200, answer.text
    return [f"{one['as']}:{one['who']}" for one in answer.json()["data"]]


def local(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().isoformat(timespec="seconds")


@shows("POST /banned", "GET /banned")
async def test_a_ban_with_nothing_but_who(autojump_clock: object) -> None:
    async with running() as live:
        answer = await ban(live, "clientid", "c1")
        assert answer.status_code == 200
        body = answer.json()
        at = datetime.fromisoformat(body.pop("at"))
        assert body == {"as": "clientid", "who": "c1", "by": "mgmt_api", "reason": "", "until": "infinity"}
        assert at.utcoffset() is not None
        assert at.microsecond == 0
        assert abs(at.timestamp() - live.broker.questions.banned.now()) <= 1
        assert (await live.api.get("/banned")).json()["data"] == [answer.json()]


@shows("POST /banned")
async def test_all_that_a_ban_can_say(autojump_clock: object) -> None:
    async with running() as live:
        for number, (at, until) in enumerate(
            [
                (1_700_000_000, 4_000_000_000),
                ("1700000000", "4000000000"),
                ("2023-11-14T22:13:20Z", "2096-10-02T09:06:40+02:00"),
                ("2023-11-14T23:13:20.9+01:00", "2096-10-02T07:06:40+00:00"),
            ]
        ):
            answer = await ban(live, "username", f"u{number}", by="ann", reason="why not", at=at, until=until)
            assert answer.json() == {
                "as": "username",
                "who": f"u{number}",
                "by": "ann",
                "reason": "why not",
                "at": local(1_700_000_000),
                "until": local(4_000_000_000),
            }


@pytest.mark.parametrize(
    ("kind", "who", "shown"),
    [
        ("clientid", "a b/ü#", "a b/ü#"),
        ("clientid_re", "^a+$", "^a+$"),
        ("username_re", "(a+)+$", "(a+)+$"),
        ("peerhost", "10.0.0.1", "10.0.0.1"),
        ("peerhost", "::ffff:10.0.0.1", "10.0.0.1"),
        ("peerhost", "FE80:0:0::0001%eth0", "fe80::1"),
        ("peerhost_net", "192.168.0.7/24", "192.168.0.0/24"),
        ("peerhost_net", "::ffff:192.168.0.0/120", "192.168.0.0/24"),
        ("peerhost_net", "2001:DB8:0::/32", "2001:db8::/32"),
    ],
)
@shows("POST /banned", "DELETE /banned/:as/:who")
async def test_who_is_kept_in_one_form(autojump_clock: object, kind: str, who: str, shown: str) -> None:
    """Whatever form it is written in: there is one ban, and it can be deleted."""
    async with running() as live:
        assert (await ban(live, kind, who)).json()["who"] == shown
        again = await ban(live, kind, shown)
        assert (again.status_code, again.json()["code"]) == (400, "ALREADY_EXISTS")
        assert (await live.api.delete(f"/banned/{kind}/{quote(who, safe='')}")).status_code == 204
        assert await listed(live) == []


@shows("POST /banned")
async def test_there_is_no_update(autojump_clock: object) -> None:
    """What is there is told as JSON text; another kind of the same text is another ban."""
    async with running() as live:
        first = (await ban(live, "username", "x", reason="first")).json()
        answer = await ban(live, "username", "x", reason="second")
        assert answer.status_code == 400
        assert answer.json()["code"] == "ALREADY_EXISTS"
        assert json.loads(answer.json()["message"]) == first
        assert (await ban(live, "clientid", "x")).status_code == 200
        assert (await live.api.get("/banned?username=x")).json()["data"] == [first]


@shows("POST /banned")
async def test_one_that_is_over_is_replaced(autojump_clock: object) -> None:
    async with running() as live:
        now = live.broker.questions.banned.now()
        assert (await ban(live, "username", "x", until=now + 10)).status_code == 200
        assert (await ban(live, "username", "x")).status_code == 400
        await trio.sleep(11)
        assert (await ban(live, "username", "x", until=now + 200)).status_code == 200
        # The sweep that was to come for the first one leaves the second one alone.
        await trio.sleep(100)
        assert await listed(live) == ["username:x"]
        await trio.sleep(200)
        assert await listed(live) == []


@pytest.mark.parametrize(
    ("changes", "path", "reason"),
    [
        ({"as": None}, "root.as", "required_field"),
        ({"who": None}, "root.who", "required_field"),
        ({"as": "peer"}, "root.as", "not_a_enum_symbol"),
        ({"who": ""}, "root.who", "length"),
        ({"who": 1.5}, "root.who", "Expected `str`"),
        ({"why": "x"}, "root", "unknown_fields"),
        ({"at": "yesterday"}, "root.at", "RFC 3339"),
        ({"at": "2020-01-01T00:00:00"}, "root.at", "RFC 3339"),
        ({"at": -1}, "root.at", "1970"),
        ({"until": 1e12}, "root.until", "Expected"),
        ({"until": 253_402_300_800}, "root.until", "9999"),
        ({"until": "9999-12-31T23:59:59-14:00"}, "root.until", ""),
        ({"until": "never"}, "root.until", "RFC 3339"),
        ({"as": "peerhost", "who": "10.0.0"}, "root.who", "bad peerhost"),
        ({"as": "peerhost", "who": "10.0.0.0/8"}, "root.who", "bad peerhost"),
        ({"as": "peerhost_net", "who": "10.0.0.0/33"}, "root.who", "bad peerhost_net"),
        ({"as": "peerhost_net", "who": "x"}, "root.who", "bad peerhost_net"),
        ({"as": "clientid_re", "who": "("}, "root.who", "bad regular expression: missing )"),
        ({"as": "username_re", "who": "(?=a)"}, "root.who", "bad regular expression: invalid perl operator (?="),
        ({"as": "username_re", "who": "a{9999}"}, "root.who", "bad regular expression: invalid repetition size {9999}"),
    ],
)
@shows("POST /banned")
async def test_what_is_no_ban(autojump_clock: object, changes: dict[str, Any], path: str, reason: str) -> None:
    async with running() as live:
        answer = await live.api.post("/banned", json={"as": "clientid", "who": "c1", **changes})
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        detail = json.loads(answer.json()["message"])
        assert detail["path"] == path
        assert reason in detail["reason"]
        assert await listed(live) == []


@shows("POST /banned")
async def test_a_ban_that_is_over_already(autojump_clock: object) -> None:
    async with running() as live:
        now = live.broker.questions.banned.now()
        for until in (0, now - 1, now):
            answer = await ban(live, "clientid", "c1", at=1_000_000_000, until=until)
            assert answer.status_code == 400
            assert answer.json() == {
                "code": "BAD_REQUEST",
                "message": f"Cannot create expired banned, {local(1_000_000_000)} to {local(until)}",
            }


@shows("GET /banned")
async def test_the_filters(autojump_clock: object) -> None:
    async with running() as live:
        for kind, who in (
            ("clientid", "c1"),
            ("clientid", "C1"),
            ("username", "c1"),
            ("peerhost", "10.0.0.1"),
            ("clientid_re", "^c1"),
            ("username_re", "c1|x"),
            ("peerhost_net", "10.0.0.0/8"),
        ):
            assert (await ban(live, kind, who)).status_code == 200
        assert await listed(live, "clientid=c1") == ["clientid:c1"]
        assert await listed(live, "clientid=^c1") == []
        assert await listed(live, "username=c1") == ["username:c1"]
        assert await listed(live, "peerhost=::ffff:a00:1") == ["peerhost:10.0.0.1"]
        assert await listed(live, "like_clientid=c[0-9]$") == ["clientid:c1", "clientid_re:^c1"]
        assert await listed(live, "like_username=c1") == ["username:c1", "username_re:c1|x"]
        assert await listed(live, "like_peerhost=^10%5C.") == ["peerhost:10.0.0.1"]
        assert await listed(live, "like_peerhost_net=/8$") == ["peerhost_net:10.0.0.0/8"]
        assert await listed(live, "like_peerhost_net=/9$") == []
        assert len(await listed(live, "node=other&nonsense=1")) == 7


@shows("GET /banned")
async def test_each_kind_of_list_has_its_meta(autojump_clock: object) -> None:
    async with running() as live:
        for number in range(5):
            await ban(live, "clientid", f"c{number}")

        async def meta(query: str) -> Any:
            return (await live.api.get(f"/banned?{query}")).json()["meta"]

        assert await meta("") == {"page": 1, "limit": 100, "count": 5}
        assert await meta("clientid=c3") == {"page": 1, "limit": 100, "count": 1, "hasnext": False}
        assert await meta("like_clientid=c&limit=2&page=2") == {"page": 2, "limit": 2, "hasnext": True}
        assert await meta("like_clientid=c&limit=2&page=3") == {"page": 3, "limit": 2, "hasnext": False}
        assert await listed(live, "limit=2&page=2") == ["clientid:c2", "clientid:c3"]
        assert await listed(live, "like_clientid=[24]&limit=1&page=2") == ["clientid:c4"]
        assert await listed(live, "page=9") == []


@shows("GET /banned")
async def test_filters_that_are_none(autojump_clock: object) -> None:
    async with running() as live:
        for query in ("clientid=a&username=b", "clientid=a&like_clientid=b", "like_username=a&like_peerhost=b"):
            answer = await live.api.get(f"/banned?{query}")
            assert answer.status_code == 400
            assert answer.json() == {"code": "BAD_REQUEST", "message": "too_many_filters"}
        answer = await live.api.get("/banned?peerhost=10.0.0.0/8")
        assert (answer.status_code, answer.json()) == (400, {"code": "BAD_REQUEST", "message": "bad peerhost"})
        for name in ("like_clientid", "like_username", "like_peerhost", "like_peerhost_net"):
            answer = await live.api.get("/banned", params={name: "ab["})
            assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
            assert json.loads(answer.json()["message"]) == {
                "message": "The filter is not a validation regex expression",
                "reason": "missing ] [",
                "position": 2,
                "filter": "ab[",
            }


@shows("DELETE /banned/:as/:who")
async def test_one_is_deleted(autojump_clock: object) -> None:
    async with running() as live:
        await ban(live, "clientid", "a/b")
        await ban(live, "clientid_re", "a/b")
        assert (await live.api.delete("/banned/clientid/a%2Fb")).status_code == 204
        assert await listed(live) == ["clientid_re:a/b"]
        answer = await live.api.delete("/banned/clientid/a%2Fb")
        assert (answer.status_code, answer.json()) == (404, {"code": "NOT_FOUND", "message": "clientid: a/b not found"})
        for path, name in (
            ("peer/a", "as"),
            ("peerhost/a", "who"),
            ("peerhost_net/a", "who"),
            ("clientid_re/(", "who"),
        ):
            answer = await live.api.delete(f"/banned/{path}")
            assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
            assert json.loads(answer.json()["message"])["path"] == name


@shows("DELETE /banned")
async def test_all_are_deleted_and_stay_so(autojump_clock: object) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        assert (await live.api.delete("/banned")).status_code == 204
        for number in range(600):
            await ban(live, "clientid" if number % 2 else "peerhost", f"10.0.{number // 256}.{number % 256}")
        assert (await live.api.delete("/banned")).status_code == 204
        assert await listed(live) == []
    async with running(store=store) as live:
        assert await listed(live) == []


@shows("POST /banned", "GET /banned")
async def test_they_are_there_after_a_restart(autojump_clock: object) -> None:
    """In their order, with all they say."""
    store = MemoryStore()
    async with running(store=store) as live:
        for kind, who in (
            ("username_re", "^x\n"),
            ("peerhost_net", "10.0.0.0/8"),
            ("clientid", "ü"),
            ("username", "d"),
        ):
            await ban(live, kind, who, by="b", reason="r", at=5, until=4_000_000_000)
        await live.api.delete("/banned/username/d")
        before = (await live.api.get("/banned")).json()
    async with running(store=store) as live:
        assert (await live.api.get("/banned")).json() == before
        assert len(before["data"]) == 3
        assert (await ban(live, "clientid", "ü")).json()["code"] == "ALREADY_EXISTS"
