"""The REST contract, read afresh: bans, as they are listed, made, deleted, felt by clients and kept."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import trio
from api.live import Live, running
from api.operations import shows
from review.contract import KEPT, TIME_S, away, done, failed, got, invalid, post
from trio.testing import MockClock

from trio_broker.store.memory import MemoryStore
from trio_broker.store.sqlite import SqliteStore
from trio_broker.testing import Client, ConnectionEnded

KEYS = {"as", "who", "by", "reason", "at", "until"}
# The test client shows return code 5 of MQTT 3.x as the reason code of the same name.
NOT_AUTHORIZED_3, BANNED_5 = 0x87, 0x8A


async def ban(live: Live, kind: str, who: str, **more: Any) -> httpx.Response:
    return await live.api.post("/banned", json={"as": kind, "who": who, **more})


async def banned(live: Live, kind: str, who: str, **more: Any) -> dict[str, Any]:
    answer = await ban(live, kind, who, **more)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert body.keys() == KEYS
    return body


async def whos(live: Live, **query: Any) -> list[str]:
    return sorted(row["who"] for row in (await got(live, "/banned", **query))["data"])


async def refused(live: Live, client_id: str, **options: Any) -> int:
    return (await live.connect(client_id, **options)).connack.reason_code


async def is_over(client: Client) -> int | None:
    with trio.fail_after(60):
        return (await client.wait_ended()).reason_code


def seconds(text: str) -> int:
    assert TIME_S.fullmatch(text), text
    return int(datetime.fromisoformat(text).timestamp())


@shows("POST /banned")
async def test_what_is_left_out_has_its_default(autojump_clock: MockClock) -> None:
    async with running() as live:
        body = await banned(live, "username", "u1")
        assert TIME_S.fullmatch(body.pop("at"))
        assert body == {"as": "username", "who": "u1", "by": "mgmt_api", "reason": "", "until": "infinity"}


@shows("POST /banned", "GET /banned")
async def test_times_are_seconds_or_rfc_3339(autojump_clock: MockClock) -> None:
    async with running() as live:
        one = await banned(live, "username", "1", at=1700000000, until=4102444800)
        two = await banned(live, "username", "2", at="2023-11-14T22:13:20Z", until="2100-01-01T08:00:00+08:00")
        three = await banned(live, "username", "3", at="1700000000", until="infinity", by="ann", reason="why not")
        for row in (one, two):
            assert (seconds(row["at"]), seconds(row["until"])) == (1700000000, 4102444800)
        assert (seconds(three["at"]), three["until"], three["by"], three["reason"]) == (
            1700000000,
            "infinity",
            "ann",
            "why not",
        )
        rows = (await got(live, "/banned"))["data"]
        assert sorted(rows, key=lambda row: str(row["who"])) == [one, two, three]


@shows("POST /banned")
async def test_null_counts_as_absent(autojump_clock: MockClock) -> None:
    async with running() as live:
        body = await banned(live, "clientid", "x", by=None, reason=None, at=None, until=None)
        assert (body["by"], body["reason"], body["until"]) == ("mgmt_api", "", "infinity")


@shows("POST /banned")
@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "root."),
        ({"as": "clientid"}, "root.who"),
        ({"who": "x"}, "root.as"),
        ({"as": "nobody", "who": "x"}, "root.as"),
        ({"as": "clientid", "who": "x", "more": 1}, "root"),
        ({"as": "clientid", "who": None}, "root.who"),
        ({"as": "clientid", "who": "x", "until": "tomorrow"}, "root.until"),
        ({"as": "clientid", "who": "x", "at": "yesterday"}, "root.at"),
        ({"as": "clientid", "who": "x", "until": True}, "root.until"),
        ({"as": "clientid", "who": "x", "reason": 5}, "root.reason"),
        ({"as": "peerhost", "who": "1.2.3"}, "root.who"),
        ({"as": "peerhost", "who": "localhost"}, "root.who"),
        ({"as": "peerhost_net", "who": "1.2.3.4/99"}, "root.who"),
        ({"as": "peerhost_net", "who": "all"}, "root.who"),
        ({"as": "clientid_re", "who": "("}, "root.who"),
        ({"as": "username_re", "who": "[a"}, "root.who"),
    ],
)
async def test_bad_bans(body: dict[str, Any], path: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        message = failed(await live.api.post("/banned", json=body), 400, "BAD_REQUEST")
        assert path in message
        assert await whos(live) == []


@shows("POST /banned")
async def test_one_that_is_over_already(autojump_clock: MockClock) -> None:
    async with running() as live:
        for until in (1, 1700000000, "2020-01-01T00:00:00Z"):
            message = failed(await ban(live, "clientid", "x", at=1600000000, until=until), 400, "BAD_REQUEST")
            assert message.startswith("Cannot create expired banned, ")
            assert " to " in message
        now = seconds((await banned(live, "clientid", "now"))["at"])
        failed(await ban(live, "clientid", "y", until=now), 400, "BAD_REQUEST")
        assert await whos(live) == ["now"]


@shows("POST /banned")
async def test_there_is_no_update(autojump_clock: MockClock) -> None:
    async with running() as live:
        first = await banned(live, "clientid", "x", reason="first")
        message = failed(await ban(live, "clientid", "x", reason="second"), 400, "ALREADY_EXISTS")
        assert json.loads(message) == first
        await banned(live, "username", "x")  # another kind is another ban
        await banned(live, "clientid_re", "x")
        done(await live.api.delete("/banned/clientid/x"))
        assert (await banned(live, "clientid", "x", reason="second"))["reason"] == "second"


@shows("POST /banned", "GET /banned")
async def test_one_that_is_over_has_no_effect_and_is_swept(autojump_clock: MockClock) -> None:
    async with running() as live:
        at = seconds((await banned(live, "username", "marker"))["at"])
        await banned(live, "clientid", "c1", until=at + 30)
        await banned(live, "clientid", "c2", until=at + 30)
        assert await refused(live, "c1") == BANNED_5
        await trio.sleep(31)
        assert await refused(live, "c1") == 0
        again = await banned(live, "clientid", "c2", reason="again")
        assert again["until"] == "infinity"
        await trio.sleep(61)
        assert await whos(live) == ["c2", "marker"]


@shows("POST /banned")
@pytest.mark.parametrize(("level", "code"), [(3, NOT_AUTHORIZED_3), (4, NOT_AUTHORIZED_3), (5, BANNED_5)])
@pytest.mark.parametrize(
    ("kind", "who"),
    [
        ("clientid", "dev-17"),
        ("username", "ann@work"),
        ("peerhost", "127.0.0.1"),
        ("clientid_re", r"v-\d+"),
        ("username_re", "^ann"),
        ("peerhost_net", "127.0.0.0/8"),
    ],
)
async def test_who_is_kept_out(kind: str, who: str, level: int, code: int, autojump_clock: MockClock) -> None:
    async with running() as live:
        assert await refused(live, "dev-17", level=level, username="ann@work") == 0
        await banned(live, kind, who)
        client = await live.connect("dev-17", level=level, username="ann@work")
        assert client.connack.reason_code == code
        assert client.session_present is False
        await is_over(client)
        other = await refused(live, "other", level=level, username="joanne")
        assert other == (code if kind.startswith("peerhost") else 0)
        done(await live.api.delete(f"/banned/{kind}/{quote(who, safe='')}"))
        assert await refused(live, "dev-17", level=level, username="ann@work") == 0


@shows("POST /banned")
async def test_exact_bans_are_exact(autojump_clock: MockClock) -> None:
    async with running() as live:
        await banned(live, "clientid", "c.")
        await banned(live, "peerhost", "127.0.0.2")
        await banned(live, "peerhost_net", "128.0.0.0/8")
        for client_id in ("c1", "C.", "c..", "c. "):
            assert await refused(live, client_id) == 0
        assert await refused(live, "c.") == BANNED_5


@shows("POST /banned")
async def test_a_ban_of_a_client_id_ends_its_session(autojump_clock: MockClock) -> None:
    async with running() as live:
        for level in (3, 4, 5):
            client = await live.connect(f"c{level}", level=level, clean_start=False)
            await client.subscribe("t")
            await banned(live, "clientid", f"c{level}")
            with pytest.raises(ConnectionEnded), trio.fail_after(60):
                await client.receive()
            failed(await live.api.get(f"/clients/c{level}"), 404, "CLIENTID_NOT_FOUND")
        await away(live, "off", "t")
        await banned(live, "clientid", "off")
        failed(await live.api.get("/clients/off"), 404, "CLIENTID_NOT_FOUND")


@shows("POST /banned")
async def test_other_bans_leave_who_is_connected(autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1", username="u1", **KEPT)
        for kind, who in [
            ("username", "u1"),
            ("peerhost", "127.0.0.1"),
            ("clientid_re", "c1"),
            ("username_re", "u1"),
            ("peerhost_net", "127.0.0.1/32"),
        ]:
            await banned(live, kind, who)
        await trio.sleep(120)
        await client.subscribe("t", 1)
        assert (await post(live, "t", "hello", qos=1)).status_code == 200
        assert (await client.receive()).payload == b"hello"
        await client.disconnect()
        assert await refused(live, "c1", username="u1", clean_start=False, **KEPT) == BANNED_5
        assert (await got(live, "/clients/c1"))["connected"] is False


@shows("POST /banned")
async def test_who_is_refused_takes_nothing_over(autojump_clock: MockClock) -> None:
    """A CONNECT of a banned user does not take the session of an unbanned one away."""
    async with running() as live:
        first = await live.connect("c1", username="good", **KEPT)
        await banned(live, "username", "bad")
        assert await refused(live, "c1", username="bad", **KEPT) == BANNED_5
        await first.ping()
        assert (await got(live, "/clients/c1"))["username"] == "good"


@shows("GET /banned")
async def test_meta_differs_by_filter(autojump_clock: MockClock) -> None:
    async with running() as live:
        for who in ("a1", "a2", "b1"):
            await banned(live, "clientid", who)
        await banned(live, "clientid_re", "^a[0-9]")
        await banned(live, "username", "a1")
        assert (await got(live, "/banned"))["meta"] == {"page": 1, "limit": 100, "count": 5}
        page = await got(live, "/banned", page=3, limit=2)
        assert (len(page["data"]), page["meta"]) == (1, {"page": 3, "limit": 2, "count": 5})
        page = await got(live, "/banned", page=9, limit=2)
        assert (page["data"], page["meta"]) == ([], {"page": 9, "limit": 2, "count": 5})
        page = await got(live, "/banned", clientid="a1")
        assert page["meta"] == {"page": 1, "limit": 100, "count": 1, "hasnext": False}
        assert [(row["as"], row["who"]) for row in page["data"]] == [("clientid", "a1")]
        page = await got(live, "/banned", clientid="nobody")
        assert page == {"data": [], "meta": {"page": 1, "limit": 100, "count": 0, "hasnext": False}}
        page = await got(live, "/banned", like_clientid="a", limit=2)
        assert (len(page["data"]), page["meta"]) == (2, {"page": 1, "limit": 2, "hasnext": True})
        page = await got(live, "/banned", like_clientid="a", limit=2, page=2)
        assert (len(page["data"]), page["meta"]) == (1, {"page": 2, "limit": 2, "hasnext": False})


@shows("GET /banned")
async def test_filters(autojump_clock: MockClock) -> None:
    async with running() as live:
        for kind, who in [
            ("clientid", "dev-1"),
            ("clientid_re", "^dev"),
            ("username", "dev-u"),
            ("username_re", "u$"),
            ("peerhost", "10.0.0.1"),
            ("peerhost", "110.0.0.1"),
            ("peerhost_net", "10.0.0.0/8"),
        ]:
            await banned(live, kind, who)
        assert await whos(live, clientid="dev-1") == ["dev-1"]
        assert await whos(live, clientid="^dev") == []  # of that kind only
        assert await whos(live, username="dev-u") == ["dev-u"]
        assert await whos(live, peerhost="10.0.0.1") == ["10.0.0.1"]
        assert await whos(live, peerhost="10.0.0.2") == []
        assert await whos(live, like_clientid="dev") == ["^dev", "dev-1"]
        assert await whos(live, like_clientid="^dev") == ["dev-1"]
        assert await whos(live, like_clientid=r"v-\d$") == ["dev-1"]
        assert await whos(live, like_username="u") == ["dev-u", "u$"]
        assert await whos(live, like_peerhost=r"^10\.") == ["10.0.0.1"]
        assert await whos(live, like_peerhost="10.0") == ["10.0.0.1", "110.0.0.1"]
        assert await whos(live, like_peerhost_net="/8") == ["10.0.0.0/8"]
        assert len(await whos(live, like_nothing="x")) == 7


@shows("GET /banned")
async def test_bad_filters(autojump_clock: MockClock) -> None:
    async with running() as live:
        for query in ("clientid=a&username=b", "clientid=a&like_clientid=b", "like_peerhost=1&like_peerhost_net=2"):
            failed(await live.api.get(f"/banned?{query}"), 400, "BAD_REQUEST", "too_many_filters")
        for name in ("like_clientid", "like_username", "like_peerhost", "like_peerhost_net"):
            told = json.loads(failed(await live.api.get("/banned", params={name: "(a"}), 400, "BAD_REQUEST"))
            assert told.keys() == {"message", "reason", "position", "filter"}
            assert told["message"] == "The filter is not a validation regex expression"
            assert told["filter"] == "(a"
        assert "bad peerhost" in failed(await live.api.get("/banned?peerhost=nowhere"), 400, "BAD_REQUEST")
        invalid(await live.api.get("/banned?limit=0"), "limit")
        invalid(await live.api.get("/banned?limit=10001"), "limit")
        invalid(await live.api.get("/banned?page=0"), "page")


@shows("DELETE /banned/:as/:who", "DELETE /banned")
async def test_deleting(autojump_clock: MockClock) -> None:
    async with running() as live:
        names = ["a/b", "192.168.0.0/24", "a b", "100%", "a#+", "a:b", "äö", "?x=1"]
        for name in names:
            kind = "peerhost_net" if "/24" in name else "clientid"
            await banned(live, kind, name)
            done(await live.api.delete(f"/banned/{kind}/{quote(name, safe='')}"))
            failed(
                await live.api.delete(f"/banned/{kind}/{quote(name, safe='')}"),
                404,
                "NOT_FOUND",
                f"{kind}: {name} not found",
            )
        await banned(live, "clientid", "x")
        failed(await live.api.delete("/banned/username/x"), 404, "NOT_FOUND", "username: x not found")
        failed(await live.api.delete("/banned/nobody/x"), 400, "BAD_REQUEST")
        assert await whos(live) == ["x"]
        await banned(live, "peerhost", "127.0.0.1")
        done(await live.api.delete("/banned"))
        assert await whos(live) == []
        done(await live.api.delete("/banned"))
        assert await refused(live, "x") == 0


@shows("POST /banned", "DELETE /banned", "DELETE /banned/:as/:who")
async def test_a_viewer_changes_nothing(autojump_clock: MockClock) -> None:
    async with running() as live:
        await banned(live, "clientid", "x")
        viewer = live.as_viewer()
        assert (await live.api.get("/banned", auth=viewer)).status_code == 200
        for answer in (
            await live.api.post("/banned", json={"as": "clientid", "who": "y"}, auth=viewer),
            await live.api.delete("/banned", auth=viewer),
            await live.api.delete("/banned/clientid/x", auth=viewer),
        ):
            failed(answer, 403, "UNAUTHORIZED_ROLE", "This API Key don't have permission to access this resource")
        assert await whos(live) == ["x"]
        assert (await live.api.put("/banned", json={})).status_code == 405


@shows("POST /banned", "GET /banned", "DELETE /banned/:as/:who")
@pytest.mark.parametrize("kind", ["memory", "disk"])
async def test_bans_are_there_after_a_restart(kind: str, tmp_path: Path, autojump_clock: MockClock) -> None:
    memory = MemoryStore()
    async with running(store=memory if kind == "memory" else SqliteStore(tmp_path)) as live:
        kept = [
            await banned(live, "clientid", "c1", by="ann", reason="r", at=1700000000, until=4102444800),
            await banned(live, "clientid_re", "^d"),
            await banned(live, "peerhost_net", "10.0.0.0/8"),
        ]
        await banned(live, "username", "gone")
        done(await live.api.delete("/banned/username/gone"))
    async with running(store=memory if kind == "memory" else SqliteStore(tmp_path)) as live:
        rows = (await got(live, "/banned"))["data"]
        assert sorted(rows, key=lambda row: str(row["as"])) == kept
        assert await refused(live, "c1") == BANNED_5
        assert await refused(live, "d7", level=4) == NOT_AUTHORIZED_3
        assert await refused(live, "e", username="gone") == 0
        done(await live.api.delete("/banned"))
    async with running(store=memory if kind == "memory" else SqliteStore(tmp_path)) as live:
        assert await whos(live) == []
        assert await refused(live, "c1") == 0
