"""`/acl` of EMQX 4: rules of clients, of users and of all, and what they do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio
from actors.flows import settle
from api.live import Live, running
from api.older import older
from api.operations import shows
from trio.testing import MockClock

from trio_broker.config import Config
from trio_broker.config.authorization import AuthorizationConfig, BuiltInSourceConfig
from trio_broker.protocol.packets import PubAck
from trio_broker.testing import Client

RULES = "/authorization/sources/built_in_database/rules"
DONE = {"code": 0}
ALLOWED, DENIED = 0, 0x87


@asynccontextmanager
async def with_rules(*, cloud: bool = False, **more: Any) -> AsyncIterator[tuple[Live, httpx.AsyncClient]]:
    access = AuthorizationConfig(sources=(BuiltInSourceConfig(**more),))
    async with running(Config(authorization=access)) as live, older(live, "v4", cloud=cloud) as v4:
        yield live, v4


def rule(who: str, topic: str, action: str, access: str) -> dict[str, str]:
    """`who`: `clientid=c1`, `username=u1`, or `$all`."""
    kind, _, name = who.partition("=")
    shown = {kind: name} if name else {"all": "$all"}
    return {**shown, "topic": topic, "action": action, "access": access}


def body(who: str, topic: str, action: str, access: str) -> dict[str, str]:
    return {name: value for name, value in rule(who, topic, action, access).items() if name != "all"}


async def add(v4: httpx.AsyncClient, who: str, topic: str, action: str, access: str) -> None:
    answer = await v4.post("/acl", json=body(who, topic, action, access))
    assert answer.status_code == 200
    assert answer.json() == {"code": 0, "data": {**rule(who, topic, action, access), "result": "ok"}}


async def rows(v4: httpx.AsyncClient, path: str) -> list[dict[str, str]]:
    answer = (await v4.get(path)).json()
    assert answer["code"] == 0, answer
    found: list[dict[str, str]] = answer["data"]
    return found


async def published(client: Client, topic: str) -> int:
    answer = await client.publish(topic, b"x", 1)
    assert isinstance(answer, PubAck)
    return answer.reason_code if answer.reason_code >= 0x80 else ALLOWED


async def subscribed(client: Client, topic_filter: str) -> int:
    reason_code = (await client.subscribe(topic_filter, qos=1)).reason_codes[0]
    return reason_code if reason_code >= 0x80 else ALLOWED


@shows(
    "POST /api/v4/acl", "GET /api/v4/acl/clientid", "GET /api/v4/acl/clientid/:clientid",
    "DELETE /api/v4/acl/clientid/:clientid/topic/:topic",
    "GET /api/v4/acl/username", "GET /api/v4/acl/username/:username",
    "DELETE /api/v4/acl/username/:username/topic/:topic",
    "GET /api/v4/acl/$all", "DELETE /api/v4/acl/$all/topic/:topic",
)  # fmt: skip
@pytest.mark.parametrize(
    ("who", "listing", "one"),
    [
        ("clientid=c1", "/acl/clientid", "/acl/clientid/c1"),
        ("username=u1", "/acl/username", "/acl/username/u1"),
        ("$all", "/acl/$all", "/acl/$all"),
        ("$all", "/acl/%24all", "/acl/%24all"),
    ],
)
async def test_the_life_of_rules(autojump_clock: MockClock, who: str, listing: str, one: str) -> None:
    async with with_rules() as (live, v4):
        client = await live.connect("c1", username="u1")
        assert await published(client, "a/b") == ALLOWED
        assert await rows(v4, one) == []
        await add(v4, who, "a/b", "pub", "deny")
        assert await published(client, "a/b") == DENIED
        assert await subscribed(client, "a/b") == ALLOWED
        await add(v4, who, "x/+/#", "sub", "deny")
        assert await subscribed(client, "x/y/z") == DENIED
        assert await published(client, "x/y/z") == ALLOWED
        await add(v4, who, "both", "pubsub", "deny")
        assert await published(client, "both") == DENIED
        assert await subscribed(client, "both") == DENIED

        shown = [
            rule(who, "both", "pub", "deny"),
            rule(who, "both", "sub", "deny"),
            rule(who, "x/+/#", "sub", "deny"),
            rule(who, "a/b", "pub", "deny"),
        ]
        meta = {"page": 1, "limit": 50, "count": 4}
        assert (await v4.get(listing)).json() == {"code": 0, "data": shown, "meta": meta}
        assert await rows(v4, one) == shown
        if listing != one:
            assert "meta" not in (await v4.get(one)).json()

        for _ in range(2):  # also where there is none
            assert (await v4.delete(f"{one}/topic/both")).json() == DONE
        assert await published(client, "both") == ALLOWED
        assert (await v4.delete(f"{one}/topic/a%2Fb")).json() == DONE
        assert await published(client, "a/b") == ALLOWED
        assert await rows(v4, one) == shown[2:3]
        assert (await v4.delete(f"{one}/topic/x%2F%2B%2F%23")).json() == DONE
        assert await rows(v4, one) == []


@shows("DELETE /api/v4/acl/all/$all/topic/:topic")
async def test_how_the_cloud_writes_it(autojump_clock: MockClock) -> None:
    async with with_rules(cloud=True) as (_, v4):
        for path in (
            "/acl/all/$all/topic/a%2Fb",
            "/acl/all/%24all/topic/a%2Fb",
            "http://broker/api/acl/$all/topic/a%2Fb",
        ):
            await add(v4, "$all", "a/b", "pub", "deny")
            assert (await v4.delete(path)).json() == DONE
            assert await rows(v4, "/acl/$all") == []


@shows("POST /api/v4/acl")
async def test_clients_come_first_then_users_then_all(autojump_clock: MockClock) -> None:
    async with with_rules() as (live, v4):
        client = await live.connect("c1", username="u1")
        other = await live.connect("c2", username="u2")
        await add(v4, "$all", "t", "pubsub", "deny")
        assert (await published(client, "t"), await published(other, "t")) == (DENIED, DENIED)
        await add(v4, "username=u1", "t", "pubsub", "allow")
        assert (await published(client, "t"), await published(other, "t")) == (ALLOWED, DENIED)
        await add(v4, "clientid=c1", "t", "pubsub", "deny")
        assert (await published(client, "t"), await published(other, "t")) == (DENIED, DENIED)


@shows("POST /api/v4/acl")
async def test_the_newest_comes_first(autojump_clock: MockClock) -> None:
    async with with_rules() as (live, v4):
        client = await live.connect("c1")
        await add(v4, "clientid=c1", "t/#", "pub", "deny")
        await add(v4, "clientid=c1", "t/a", "pub", "allow")
        assert (await published(client, "t/a"), await published(client, "t/b")) == (ALLOWED, DENIED)
        await add(v4, "clientid=c1", "t/#", "pubsub", "deny")  # in the place of the first one, and in front
        assert await published(client, "t/a") == DENIED
        assert await rows(v4, "/acl/clientid/c1") == [
            rule("clientid=c1", "t/#", "pub", "deny"),
            rule("clientid=c1", "t/#", "sub", "deny"),
            rule("clientid=c1", "t/a", "pub", "allow"),
        ]


@shows("POST /api/v4/acl")
async def test_placeholders(autojump_clock: MockClock) -> None:
    async with with_rules() as (live, v4):
        client = await live.connect("c1", username="u1")
        await add(v4, "$all", "#", "pub", "deny")
        await add(v4, "$all", "at/%c/%u/x%c", "pub", "allow")
        assert await published(client, "at/c1/u1/x%c") == ALLOWED
        assert await published(client, "at/c2/u1/x%c") == DENIED
        assert [row["topic"] for row in await rows(v4, "/acl/$all")] == ["at/%c/%u/x%c", "#"]
        kept = (await live.api.get(f"{RULES}/all")).json()["rules"]
        assert [one["topic"] for one in kept] == ["at/${clientid}/${username}/x%c", "#"]
        assert (await v4.delete("/acl/$all/topic/at%2F%25c%2F%25u%2Fx%25c")).json() == DONE
        assert [row["topic"] for row in await rows(v4, "/acl/$all")] == ["#"]


NO_RULES: list[tuple[dict[str, Any], int, str]] = [
    ({"clientid": ""}, 104, "login"),
    ({"clientid": 1}, 104, "login"),
    ({"username": "a\0"}, 104, "login"),
    ({"topic": None}, 102, "topic"),
    ({"topic": ""}, 102, "topic"),
    ({"topic": 1}, 102, "topic"),
    ({"topic": "a/#/b"}, 102, "topic"),
    ({"topic": "eq a"}, 102, "topic"),
    ({"topic": "${clientid}"}, 102, "topic"),
    ({"topic": "$share/g/a"}, 102, "topic"),
    ({"action": None}, 102, "action"),
    ({"action": "subpub"}, 102, "action"),
    ({"action": ["pub"]}, 102, "action"),
    ({"access": None}, 102, "access"),
    ({"access": "perhaps"}, 102, "access"),
    ({"access": {}}, 102, "access"),
]


@shows("POST /api/v4/acl")
@pytest.mark.parametrize(("said", "number", "wrong"), NO_RULES)
async def test_what_is_no_rule(autojump_clock: MockClock, said: dict[str, Any], number: int, wrong: str) -> None:
    async with with_rules() as (_, v4):
        whole = {"topic": "t", "action": "pub", "access": "allow", **said}
        answer = await v4.post("/acl", json=whole)
        expected = {"code": number, "message": f"{{add,#{{result => {{error,{wrong}}}}}}}"}
        assert (answer.status_code, answer.json()) == (200, expected)
        batch = (await v4.post("/acl", json=[whole])).json()
        assert [row["result"] for row in batch["data"]] == [f"{{error,{wrong}}}"]
        for path in ("/acl/clientid", "/acl/username", "/acl/$all"):
            assert await rows(v4, path) == []


@shows("POST /api/v4/acl")
async def test_whose_rule(autojump_clock: MockClock) -> None:
    async with with_rules() as (_, v4):
        both = {"clientid": "c", "username": "u", "topic": "t", "action": "pub", "access": "allow"}
        assert (await v4.post("/acl", json=both)).json() == {"code": 108, "message": "bad_params"}
        assert (await v4.post("/acl")).json() == {"code": 108, "message": "bad_params"}
        (row,) = (await v4.post("/acl", json=[both])).json()["data"]
        assert row == {**both, "result": "{error,login}"}


@shows("POST /api/v4/acl")
async def test_a_batch(autojump_clock: MockClock) -> None:
    async with with_rules() as (live, v4):
        client = await live.connect("c1")
        batch: list[Any] = [
            body("clientid=c1", "t/#", "pub", "deny"),
            body("clientid=c1", "t/a", "pubsub", "allow"),
            body("username=u1", "t", "fly", "allow"),
            "t",
            body("$all", "u", "pub", "deny"),
        ]
        answer = await v4.post("/acl", json=batch)
        assert answer.json() == {
            "code": 0,
            "data": [
                {**rule("$all", "u", "pub", "deny"), "result": "ok"},
                {"all": "$all", "result": "{error,topic}"},
                {**rule("username=u1", "t", "fly", "allow"), "result": "{error,action}"},
                {**rule("clientid=c1", "t/a", "pubsub", "allow"), "result": "ok"},
                {**rule("clientid=c1", "t/#", "pub", "deny"), "result": "ok"},
            ],
        }
        assert [row["topic"] for row in await rows(v4, "/acl/clientid/c1")] == ["t/a", "t/a", "t/#"]
        assert (await published(client, "t/a"), await published(client, "t/b")) == (ALLOWED, DENIED)
        assert await published(client, "u") == DENIED
        assert (await v4.post("/acl", json=[])).json() == {"code": 0, "data": []}
        many = [body("$all", f"t/{number % 7}", "pub", "deny") for number in range(300)]
        answer = await v4.post("/acl", json=many)
        assert [row["result"] for row in answer.json()["data"]] == ["ok"] * 300
        assert len(await rows(v4, "/acl/$all")) == 8


@shows("POST /api/v4/acl")
async def test_rules_that_come_at_one_time(autojump_clock: MockClock) -> None:
    async with with_rules() as (_, v4), trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(add, v4, "clientid=c1", f"t/{number}", "pub", "deny")
        await settle()
        assert len(await rows(v4, "/acl/clientid/c1")) == 20


@shows("POST /api/v4/acl")
async def test_more_rules_than_there_may_be(autojump_clock: MockClock) -> None:
    async with with_rules(max_rules=3) as (_, v4):
        await add(v4, "clientid=c1", "a", "pubsub", "deny")
        await add(v4, "clientid=c1", "b", "pub", "deny")
        answer = await v4.post("/acl", json=body("clientid=c1", "c", "pub", "deny"))
        assert answer.json() == {"code": 102, "message": "{add,#{result => {error,max_rules}}}"}
        await add(v4, "clientid=c1", "a", "pub", "allow")  # in the place of another one
        assert [row["topic"] for row in await rows(v4, "/acl/clientid/c1")] == ["a", "b", "a"]


@shows("GET /api/v4/acl/clientid", "GET /api/v4/acl/username", "GET /api/v4/acl/$all")
async def test_filters_and_pages(autojump_clock: MockClock) -> None:
    async with with_rules() as (_, v4):
        for kind in ("clientid", "username"):
            for name in ("one", "two"):
                await add(v4, f"{kind}={name}", "a", "pub", "allow")
                await add(v4, f"{kind}={name}", "b", "sub", "deny")
            for query, names, count in (
                ("", ["two", "two", "one", "one"], 4),
                (f"{kind}=one", ["one", "one"], 2),
                (f"{kind}=o", [], 0),
                (f"_like_{kind}=o", ["two", "two", "one", "one"], 4),
                (f"_like_{kind}=w", ["two", "two"], 2),
                (f"{kind}=one&_like_{kind}=w", ["one", "one"], 2),
                ("topic=a", ["two", "one"], 2),
                ("action=sub", ["two", "one"], 2),
                ("action=pubsub", [], 0),
                ("access=allow&topic=b", [], 0),
                ("_limit=3", ["two", "two", "one"], 4),
                ("_limit=3&_page=2", ["one"], 4),
                ("_limit=3&_page=3", [], 4),
            ):
                answer = (await v4.get(f"/acl/{kind}?{query}")).json()
                assert [row[kind] for row in answer["data"]] == names, query
                assert answer["meta"]["count"] == count, query
                assert "hasnext" not in answer["meta"]
        await add(v4, "$all", "a", "pub", "allow")
        await add(v4, "$all", "b", "pub", "allow")
        answer = (await v4.get("/acl/$all?topic=b&clientid=ignored")).json()
        assert answer["data"] == [rule("$all", "b", "pub", "allow")]
        assert (await v4.get("/acl/$all?access=perhaps")).json()["code"] == 108


@shows("GET /api/v4/acl/clientid/:clientid", "GET /api/v4/acl/username/:username")
async def test_the_same_rules_in_v5(autojump_clock: MockClock) -> None:
    async with with_rules() as (live, v4):
        client = await live.connect("c1")
        more = {"qos": [0, 1, 2], "retain": "all"}
        await add(v4, "clientid=c1", "a", "pubsub", "deny")
        assert (await live.api.get(f"{RULES}/clients/c1")).json() == {
            "clientid": "c1",
            "rules": [
                {"topic": "a", "permission": "deny", "action": "publish", **more},
                {"topic": "a", "permission": "deny", "action": "subscribe", **more},
            ],
        }
        rules = [
            {"topic": "b/${username}", "permission": "allow", "action": "all", "qos": [1]},
            {"topic": "eq b/+", "permission": "deny", "action": "publish"},
        ]
        await live.api.put(f"{RULES}/clients/c1", json={"clientid": "c1", "rules": rules})
        shown = [
            rule("clientid=c1", "b/%u", "pub", "allow"),
            rule("clientid=c1", "b/%u", "sub", "allow"),
            rule("clientid=c1", "eq b/+", "pub", "deny"),
        ]
        assert await rows(v4, "/acl/clientid/c1") == shown
        await add(v4, "clientid=c1", "b/%u", "sub", "deny")  # the other half stays, with its QoS
        kept = (await live.api.get(f"{RULES}/clients/c1")).json()["rules"]
        assert [(one["topic"], one["action"], one["qos"]) for one in kept] == [
            ("b/${username}", "subscribe", [0, 1, 2]),
            ("b/${username}", "publish", [1]),
            ("eq b/+", "publish", [0, 1, 2]),
        ]
        for topic in ("b%2F%25u", "eq%20b%2F%2B"):
            assert (await v4.delete(f"/acl/clientid/c1/topic/{topic}")).json() == DONE
        assert (await live.api.get(f"{RULES}/clients/c1")).status_code == 404
        assert await published(client, "a") == ALLOWED


@shows("GET /api/v4/acl/clientid", "POST /api/v4/acl")
@pytest.mark.parametrize("sources", [(), (BuiltInSourceConfig(enable=False),)])
async def test_where_there_is_no_such_source(autojump_clock: MockClock, sources: Any) -> None:
    config = Config(authorization=AuthorizationConfig(sources=sources))
    async with running(config) as live, older(live, "v4") as v4:
        for method, path in (
            ("POST", "/acl"),
            ("GET", "/acl/clientid"),
            ("GET", "/acl/username"),
            ("GET", "/acl/$all"),
            ("GET", "/acl/clientid/c"),
            ("GET", "/acl/username/u"),
            ("DELETE", "/acl/clientid/c/topic/t"),
            ("DELETE", "/acl/username/u/topic/t"),
            ("DELETE", "/acl/$all/topic/t"),
        ):
            answer = await v4.request(method, path, json=body("$all", "t", "pub", "deny") if method == "POST" else None)
            assert (answer.status_code, answer.text) == (404, "Not found.")


async def test_who_may(autojump_clock: MockClock) -> None:
    async with with_rules() as (live, v4):
        viewer = live.as_viewer()
        assert (await v4.get("/acl/$all", auth=viewer)).status_code == 200
        answer = await v4.post("/acl", json=body("$all", "t", "pub", "deny"), auth=viewer)
        assert answer.status_code == 403
        assert (await v4.delete("/acl/$all/topic/t", auth=viewer)).status_code == 403


@shows("POST /api/v4/acl")
async def test_what_is_too_deep_to_be_sent_back(autojump_clock: MockClock) -> None:
    async with with_rules() as (_, v4):
        seen = set()
        for depth in range(800, 1000):
            deep = "[" * depth + "]" * depth
            answer = await v4.post("/acl", content=f'[{{"clientid": {deep}}}]')
            seen.add(answer.status_code)
            if answer.status_code == 200:
                start, end = '{"code":0,"data":[{"clientid":', ',"result":"{error,login}"}]}'
                assert answer.text in [start + said + end for said in (deep, '"undefined"')]
        assert seen == {200, 400}
