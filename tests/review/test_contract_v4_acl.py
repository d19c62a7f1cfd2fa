"""The contract of `/api/v4`, read afresh: access rules, how they are added, listed and deleted."""

from __future__ import annotations

from typing import Any

import pytest
from api.operations import shows
from review.contract_v4 import V4, meta, version_4
from trio.testing import MockClock

KINDS = [("clientid", {"clientid": "c1"}), ("username", {"username": "u1"}), ("$all", {})]
each = pytest.mark.parametrize(("kind", "who"), KINDS)


def shown(who: dict[str, str]) -> dict[str, str]:
    return who or {"all": "$all"}


def rule(topic: str = "a/b", action: str = "pub", access: str = "allow", **who: Any) -> dict[str, Any]:
    return {**who, "topic": topic, "action": action, "access": access}


async def add(v4: V4, *rules: dict[str, Any]) -> None:
    for one in rules:
        answer = await v4.ask("POST", "/acl", one)
        assert (answer["code"], answer["data"]["result"]) == (0, "ok")


@shows("POST /api/v4/acl", "GET /api/v4/acl/clientid", "GET /api/v4/acl/$all")
async def test_there_are_none_without_the_plugin(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await v4.missing("POST", "/acl", rule())
        for kind, _ in KINDS:
            await v4.missing("GET", f"/acl/{kind}")
        await v4.missing("GET", "/acl/clientid/c1")
        await v4.missing("DELETE", "/acl/clientid/c1/topic/t")
        await v4.load()
        for kind, _ in KINDS:
            assert await v4.page(f"/acl/{kind}") == ([], meta(0, limit=50))
        assert await v4.data("/acl/clientid/c1") == []
        assert await v4.data("/acl/username/u1") == []
        await v4.missing("GET", "/acl")
        await v4.missing("PUT", "/acl")


@each
@shows("POST /api/v4/acl", "GET /api/v4/acl/clientid", "GET /api/v4/acl/username", "GET /api/v4/acl/$all")
async def test_one_rule(kind: str, who: dict[str, str], autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await v4.load()
        for action in ("pub", "sub"):
            for access in ("allow", "deny"):
                answer = await v4.ask("POST", "/acl", rule("a/+/#", action, access, **who))
                added = {**shown(who), "topic": "a/+/#", "action": action, "access": access}
                assert answer == {"code": 0, "data": added | {"result": "ok"}}
                rows, paging = await v4.page(f"/acl/{kind}")
                assert added in rows
                # The second took the place of the first.
                assert paging == meta(1 if action == "pub" else 2, limit=50)
                assert len(rows) == paging["count"]
        for other, _ in KINDS:
            if other != kind:
                assert await v4.page(f"/acl/{other}") == ([], meta(0, limit=50))


@each
@shows("POST /api/v4/acl", "DELETE /api/v4/acl/$all/topic/:topic")
async def test_pubsub_is_two_rules(kind: str, who: dict[str, str], autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await v4.load()
        answer = await v4.ask("POST", "/acl", rule("t", "pubsub", "deny", **who))
        assert answer == {"code": 0, "data": rule("t", "pubsub", "deny", **shown(who)) | {"result": "ok"}}
        rows, paging = await v4.page(f"/acl/{kind}")
        assert paging == meta(2, limit=50)
        assert sorted(row.pop("action") for row in rows) == ["pub", "sub"]
        assert rows == [{**shown(who), "topic": "t", "access": "deny"}] * 2
        await add(v4, rule("t", "sub", "allow", **who))
        rows, _ = await v4.page(f"/acl/{kind}")
        assert {(row["action"], row["access"]) for row in rows} == {("pub", "deny"), ("sub", "allow")}


@shows("POST /api/v4/acl")
async def test_rules_that_are_none(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await v4.load()
        for wrong, word in (
            (rule(clientid=""), "login"),
            (rule(username=""), "login"),
            (rule(clientid=1), "login"),
            (rule("", clientid="c1"), "topic"),
            ({"clientid": "c1", "action": "pub", "access": "allow"}, "topic"),
            ({**rule(clientid="c1"), "topic": 1}, "topic"),
            (rule(action="subpub", clientid="c1"), "action"),
            (rule(action="publish"), "action"),
            ({"topic": "t", "access": "allow"}, "action"),
            ({**rule(clientid="c1"), "action": 1}, "action"),
            (rule(access="yes", username="u1"), "access"),
            ({"topic": "t", "action": "pub"}, "access"),
            ({**rule(clientid="c1"), "access": True}, "access"),
        ):
            message = await v4.fails((102, 104, 108), None, "POST", "/acl", wrong)
            assert message.startswith("{add,#{"), wrong
            assert f"{{error,{word}}}" in message, wrong
        for nothing in (None, {}, rule(clientid="c1", username="u1"), "x"):
            await v4.fails((102, 104, 107, 108), None, "POST", "/acl", nothing)
        await v4.fails(108, None, "POST", "/acl", rule(clientid="c1", username="u1"))
        for kind, _ in KINDS:
            assert await v4.page(f"/acl/{kind}") == ([], meta(0, limit=50))


@shows("POST /api/v4/acl")
async def test_a_batch_of_rules(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await v4.load()
        body = [
            rule("a", "pub", "allow", clientid="c1"),
            rule("b", "dance", "allow", clientid="c1"),
            rule("c", "pubsub", "deny", username="u1"),
            rule("", "pub", "deny", username="u1"),
            rule("d", "sub", "maybe"),
            rule("e", "sub", "deny"),
        ]
        answer = await v4.ask("POST", "/acl", body)
        assert answer.keys() == {"code", "data"}
        assert answer["code"] == 0
        results = ["ok", "{error,action}", "ok", "{error,topic}", "{error,access}", "ok"]
        assert [row["result"] for row in answer["data"]] == results[::-1]
        for row, sent in zip(answer["data"], body[::-1], strict=True):
            assert row["topic"] == sent["topic"]
            if row["result"] == "ok":
                who = {} if sent.keys() & {"clientid", "username"} else {"all": "$all"}
                assert row == {**sent, **who, "result": "ok"}
        assert await v4.listed("/acl/clientid", "topic") == ["a"]
        assert await v4.listed("/acl/username", "topic") == ["c", "c"]
        assert await v4.listed("/acl/$all", "topic") == ["e"]
        assert await v4.ask("POST", "/acl", []) == {"code": 0, "data": []}
        answer = await v4.ask("POST", "/acl", [rule(action="x")])
        assert [row["result"] for row in answer["data"]] == ["{error,action}"]


@pytest.mark.parametrize("key", ["clientid", "username"])
@shows("GET /api/v4/acl/clientid/:clientid", "GET /api/v4/acl/username/:username")
async def test_rules_of_one(key: str, autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await v4.load()
        mine = [rule(topic, "pub", "allow", **{key: "x/1 ä"}) for topic in ("a", "b/#", "c/%c", "+/d")]
        await add(v4, *mine, rule("other", **{key: "x"}), rule("all"))
        await add(v4, rule("e", "pubsub", "deny", **{key: "x/1 ä"}))
        rows = await v4.data(f"/acl/{key}/x%2F1%20%C3%A4")
        assert rows[2:] == mine[::-1]
        assert {row["action"] for row in rows[:2]} == {"pub", "sub"}
        assert await v4.data(f"/acl/{key}/nobody") == []
        other = "username" if key == "clientid" else "clientid"
        assert await v4.data(f"/acl/{other}/x%2F1%20%C3%A4") == []


@each
@shows("GET /api/v4/acl/clientid", "GET /api/v4/acl/username", "GET /api/v4/acl/$all")
async def test_lists_and_filters(kind: str, who: dict[str, str], autojump_clock: MockClock) -> None:
    path = f"/acl/{kind}"
    async with version_4() as v4:
        await v4.load()
        for index in range(60):
            await add(v4, rule(f"t/{index}", "sub" if index % 2 else "pub", "deny" if index < 10 else "allow", **who))
        rows, paging = await v4.page(path)
        assert (len(rows), paging) == (50, meta(60, limit=50))
        assert [row["topic"] for row in rows] == [f"t/{index}" for index in range(59, 9, -1)]
        rows, paging = await v4.page(path, _page=2)
        assert (len(rows), paging) == (10, meta(60, page=2, limit=50))
        assert await v4.page(path, _page=3) == ([], meta(60, page=3, limit=50))
        rows, paging = await v4.page(path, _limit=1000)
        assert (len(rows), paging) == (60, meta(60, limit=1000))
        for query, count in (
            ({"topic": "t/7"}, 1),
            ({"topic": "t/"}, 0),
            ({"topic": "t/#"}, 0),
            ({"action": "pub"}, 30),
            ({"action": "pubsub"}, 0),
            ({"access": "deny"}, 10),
            ({"access": "deny", "action": "sub"}, 5),
            ({"access": "deny", "topic": "t/50"}, 0),
            ({"other": "x"}, 60),
        ):
            rows, paging = await v4.page(path, _limit=100, **query)
            assert (len(rows), paging) == (count, meta(count, limit=100)), query
        rows, paging = await v4.page(path, _limit=3, _page=2, access="deny")
        assert (len(rows), paging) == (3, meta(10, page=2, limit=3))
        await v4.fails(108, None, "GET", path, _limit="x")


@pytest.mark.parametrize("key", ["clientid", "username"])
@shows("GET /api/v4/acl/clientid", "GET /api/v4/acl/username")
async def test_filters_of_names(key: str, autojump_clock: MockClock) -> None:
    path = f"/acl/{key}"
    async with version_4() as v4:
        await v4.load()
        await add(v4, *[rule(topic, **{key: name}) for name in ("alice", "alina", "Bob") for topic in ("a", "b")])
        for query, names in (
            ({key: "alice"}, ["alice", "alice"]),
            ({key: "al"}, []),
            ({f"_like_{key}": "al"}, ["alice", "alice", "alina", "alina"]),
            ({f"_like_{key}": "bob"}, []),
            ({f"_like_{key}": "li", "topic": "a"}, ["alice", "alina"]),
            ({key: "alice", f"_like_{key}": "Bob"}, ["alice", "alice"]),
        ):
            rows, paging = await v4.page(path, **query)
            assert sorted(row[key] for row in rows) == names, query
            assert paging == meta(len(names), limit=50)


@each
@shows(
    "DELETE /api/v4/acl/clientid/:clientid/topic/:topic",
    "DELETE /api/v4/acl/username/:username/topic/:topic",
    "DELETE /api/v4/acl/$all/topic/:topic",
    "DELETE /api/v4/acl/all/$all/topic/:topic",
)
async def test_deleting(kind: str, who: dict[str, str], autojump_clock: MockClock) -> None:
    path = f"/acl/{kind}"
    bases = [f"{path}/{name}" for name in who.values()] or ["/acl/$all", "/acl/all/$all", "/acl/%24all"]
    async with version_4() as v4:
        await v4.load()
        for base in bases:
            await add(v4, rule("a/+", "pubsub", **who), rule("a", **who), rule("a/#", "sub", **who))
            await v4.done("DELETE", f"{base}/topic/a%2F+")
            assert await v4.listed(path, "topic") == ["a", "a/#"]
            await v4.done("DELETE", f"{base}/topic/a%2F+")
            await v4.done("DELETE", f"{base}/topic/a%2F%23")
            assert await v4.listed(path, "topic") == ["a"]
            await v4.done("DELETE", f"{base}/topic/never")
            await v4.done("DELETE", f"{base}/topic/a")
            assert await v4.listed(path, "topic") == []
        await add(v4, rule("t", clientid="one"), rule("t", clientid="two"), rule("t", username="one"), rule("t"))
        await v4.done("DELETE", "/acl/clientid/one/topic/t")
        assert await v4.listed("/acl/clientid") == ["two"]
        assert await v4.listed("/acl/username", "username") == ["one"]
        assert await v4.listed("/acl/%24all", "topic") == ["t"]
