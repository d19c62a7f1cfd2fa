"""The REST contract, read afresh: sources of access rules and their order, settings, what is kept of decisions."""

from __future__ import annotations

import time
from typing import Any

import trio
from api.live import Live, running
from api.operations import shows
from review.contract import KEPT, NODE, away, done, failed, got
from review.rights import (
    CACHE,
    RULES,
    SETTINGS,
    SOURCES,
    TABLE,
    add_file,
    add_source,
    allow,
    cached,
    for_all,
    for_user,
    may_publish,
    may_subscribe,
    rule,
    settings,
)
from trio.testing import MockClock

from trio_broker.store.memory import MemoryStore

HTTP = {"type": "http", "method": "get", "url": "http://127.0.0.1:9/acl"}
FILE = {"type": "file", "rules": "{allow, all}."}
OPERATIONS: list[tuple[str, str, Any]] = [
    ("GET", SOURCES, None),
    ("POST", SOURCES, HTTP),
    ("GET", f"{SOURCES}/file", None),
    ("PUT", f"{SOURCES}/file", FILE),
    ("DELETE", f"{SOURCES}/file", None),
    ("POST", f"{SOURCES}/file/move", {"position": "front"}),
    ("PUT", f"{SOURCES}/order", [{"type": "file"}]),
    ("GET", f"{SOURCES}/file/status", None),
    ("GET", SETTINGS, None),
    ("PUT", SETTINGS, {"no_match": "deny", "deny_action": "ignore", "cache": {}}),
    ("DELETE", "/authorization/cache", None),
    ("GET", "/clients/c1/authorization/cache", None),
    ("DELETE", "/clients/c1/authorization/cache", None),
]


async def order(live: Live) -> list[str]:
    return [source["type"] for source in (await got(live, SOURCES))["sources"]]


async def test_who_may_ask(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "file", rules="{allow, all}.")
        await live.connect("c1")
        for method, path, body in OPERATIONS:
            failed(await live.api.request(method, path, json=body, auth=None), 401, "AUTHORIZATION_HEADER_ERROR")
            answer = await live.api.request(method, path, json=body, auth=live.as_viewer())
            if method == "GET":
                assert answer.status_code == 200
            else:
                failed(answer, 403, "UNAUTHORIZED_ROLE")
        assert await order(live) == ["file"]


@shows("GET /authorization/sources", "POST /authorization/sources", "GET /authorization/sources/:type")
async def test_new_sources_come_first(autojump_clock: MockClock) -> None:
    async with running() as live:
        done(await live.api.post(SOURCES, json={"type": "built_in_database"}))
        done(await live.api.post(SOURCES, json=FILE))
        done(await live.api.post(SOURCES, json=HTTP))
        [http, file, table] = (await got(live, SOURCES))["sources"]
        assert table == {"type": "built_in_database", "enable": True, "max_rules": 100}
        assert file == {"type": "file", "enable": True, "rules": "{allow, all}."}
        assert http.keys() >= HTTP.keys() | {"enable", "headers", "body", "pool_size", "enable_pipelining", "ssl"}
        assert (http["request_timeout"], http["connect_timeout"]) == ("30s", "15s")
        assert (http["pool_size"], http["enable_pipelining"]) == (8, 100)
        for source in (http, file, table):
            assert await got(live, f"{SOURCES}/{source['type']}") == source
        failed(await live.api.post(SOURCES, json=FILE), 400, "BAD_REQUEST")
        failed(await live.api.post(SOURCES, json={"type": "built_in_database"}), 400, "BAD_REQUEST")
        assert await order(live) == ["http", "file", "built_in_database"]


BAD: list[Any] = [
    {},
    {"enable": True},
    {"type": "nonsense"},
    {"type": 1},
    {"type": "file"},
    {"type": "file", "rules": 1},
    {"type": "file", "rules": "{allow, nobody}."},
    {"type": "file", "rules": "{allow, all}"},
    {"type": "file", "rules": "{allow, all}.", "max_rules": 1},
    {"type": "built_in_database", "max_rules": 0},
    {"type": "built_in_database", "max_rules": "x"},
    {"type": "built_in_database", "enable": "maybe"},
    {"type": "http", "method": "get"},
    {"type": "http", "method": "put", "url": "http://127.0.0.1/"},
    {"type": "http", "method": "get", "url": "ftp://127.0.0.1/"},
    {"type": "http", "method": "get", "url": "http://127.0.0.1/", "pool_size": 0},
    {"type": "http", "method": "get", "url": "http://127.0.0.1/", "request_timeout": "soon"},
    [],
    "file",
]


async def test_bad_sources(autojump_clock: MockClock) -> None:
    async with running() as live:
        for bad in BAD:
            answer = await live.api.post(SOURCES, json=bad)
            assert answer.status_code == 400, bad
            failed(answer, 400, "BAD_REQUEST")
        assert await order(live) == []


@shows("GET /authorization/sources/:type", "PUT /authorization/sources/:type", "DELETE /authorization/sources/:type")
async def test_what_is_not_there(autojump_clock: MockClock) -> None:
    async with running() as live:
        for there in (FILE, {"type": "built_in_database"}, HTTP):
            path = f"{SOURCES}/{there['type']}"
            message = f"Not found: {there['type']}"
            failed(await live.api.get(path), 404, "NOT_FOUND", message)
            failed(await live.api.put(path, json=there), 404, "NOT_FOUND", message)
            failed(await live.api.delete(path), 404, "NOT_FOUND", message)
            failed(await live.api.get(f"{path}/status"), 404, "NOT_FOUND", message)
            failed(await live.api.post(f"{path}/move", json={"position": "front"}), 404, "NOT_FOUND", message)
        for method, end, body in (
            ("GET", "", None),
            ("PUT", "", FILE),
            ("DELETE", "", None),
            ("GET", "/status", None),
            ("POST", "/move", {"position": "front"}),
        ):
            failed(await live.api.request(method, f"{SOURCES}/nonsense{end}", json=body), 400, "BAD_REQUEST")


async def test_replacing_a_source(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database", max_rules=7)
        await add_file(live, "{allow, all}.")
        c1 = await live.connect("c1")
        assert await may_publish(c1, "t")
        done(await live.api.put(f"{SOURCES}/file", json={"type": "file", "rules": "{deny, all}."}))
        assert not await may_publish(c1, "t")
        failed(
            await live.api.put(f"{SOURCES}/file", json={"type": "built_in_database"}),
            400,
            "BAD_REQUEST",
            "Type mismatch",
        )
        failed(await live.api.put(f"{SOURCES}/file", json={"type": "file", "rules": "nonsense"}), 400, "BAD_REQUEST")
        failed(await live.api.put(f"{SOURCES}/file", json={"type": "file"}), 400, "BAD_REQUEST")
        failed(await live.api.put(f"{SOURCES}/file", json={}), 400, "BAD_REQUEST")
        assert (await got(live, f"{SOURCES}/file"))["rules"] == "{deny, all}."
        done(await live.api.put(f"{SOURCES}/file", json={"type": "file", "rules": "{deny, all}.", "enable": False}))
        assert await may_publish(c1, "t")
        done(await live.api.put(TABLE, json={"type": "built_in_database"}))
        assert (await got(live, TABLE))["max_rules"] == 100
        assert await order(live) == ["file", "built_in_database"]


async def test_deleting_the_table_deletes_its_rules(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        await for_all(live, rule("#"))
        await for_user(live, "u", rule("x"))
        c1 = await live.connect("c1")
        assert not await may_publish(c1, "t")
        done(await live.api.delete(TABLE))
        assert await may_publish(c1, "t")
        failed(await live.api.get(TABLE), 404, "NOT_FOUND", "Not found: built_in_database")
        await add_source(live, "built_in_database")
        assert await got(live, f"{RULES}/all") == {"rules": []}
        assert (await got(live, f"{RULES}/users"))["data"] == []
        assert await may_publish(c1, "t")


@shows("POST /authorization/sources/:type/move", "PUT /authorization/sources/order")
async def test_the_order_of_sources(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        for body in (HTTP, {"type": "built_in_database"}, FILE):
            done(await live.api.post(SOURCES, json=body))
        for moved, position, expected in (
            ("file", "rear", "built_in_database http file"),
            ("file", "front", "file built_in_database http"),
            ("http", "before:built_in_database", "file http built_in_database"),
            ("file", "after:http", "http file built_in_database"),
            ("http", "after:built_in_database", "file built_in_database http"),
            ("file", "front", "file built_in_database http"),
        ):
            done(await live.api.post(f"{SOURCES}/{moved}/move", json={"position": position}))
            assert await order(live) == expected.split(), (moved, position)
        bad: Any
        for bad in ("middle", "before:", "before:nonsense", "after:redis", "before", 1, None, "", "top", "bottom"):
            failed(await live.api.post(f"{SOURCES}/file/move", json={"position": bad}), 400, "BAD_REQUEST")
        failed(await live.api.post(f"{SOURCES}/file/move", json={}), 400, "BAD_REQUEST")
        wanted = ["http", "file", "built_in_database"]
        done(await live.api.put(f"{SOURCES}/order", json=[{"type": name} for name in wanted]))
        for bad in ([], wanted[:2], [*wanted, "file"], [*wanted[:2], "redis"], [*wanted[:2], "nonsense"]):
            answer = await live.api.put(f"{SOURCES}/order", json=[{"type": name} for name in bad])
            failed(answer, 400, "BAD_REQUEST")
        for bad in ({}, ["file"], [{}], "file"):
            failed(await live.api.put(f"{SOURCES}/order", json=bad), 400, "BAD_REQUEST")
        assert await order(live) == wanted
    async with running(store=store) as live:
        assert await order(live) == wanted


async def test_moving_a_source_is_in_force_at_once(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        await for_all(live, allow("t"))
        await add_file(live, "{deny, all}.")
        c1 = await live.connect("c1")
        assert not await may_publish(c1, "t")
        done(await live.api.post(f"{SOURCES}/file/move", json={"position": "rear"}))
        assert await may_publish(c1, "t")
        done(await live.api.put(f"{SOURCES}/order", json=[{"type": "file"}, {"type": "built_in_database"}]))
        assert not await may_publish(c1, "t")
        done(await live.api.delete(f"{SOURCES}/file"))
        assert await may_publish(c1, "t")


async def test_secrets_are_not_shown_and_stay(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    body = HTTP | {"headers": {"authorization": "Bearer letmein"}, "ssl": {"enable": False, "password": "letmein"}}
    async with running(store=store) as live:
        done(await live.api.post(SOURCES, json=body))
        listed, one = await live.api.get(SOURCES), await live.api.get(f"{SOURCES}/http")
        for answer in (listed, one):
            assert "letmein" not in answer.text
            assert "******" in answer.text
        done(await live.api.put(f"{SOURCES}/http", json=one.json()))
        failed(await live.api.put(f"{SOURCES}/http", json=body | {"method": "letmein-too"}), 400, "BAD_REQUEST")
    async with running(store=store) as live:
        assert (await live.api.get(f"{SOURCES}/http")).json() == one.json()


@shows("GET /authorization/sources/:type/status")
async def test_the_status_of_a_source(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        await for_all(live, allow("yes"), rule("no"))
        status = await got(live, f"{TABLE}/status")
        none = {"total": 0, "allow": 0, "deny": 0, "nomatch": 0, "ignore": 0}
        rates = {"rate": 0.0, "rate_last5m": 0.0, "rate_max": 0.0}
        assert status["metrics"] == none | rates
        assert status["status"] == "connected"
        assert [(row["node"], row["status"]) for row in status["node_status"]] == [(NODE, "connected")]
        assert status["node_metrics"] == [{"node": NODE, "metrics": none | rates}]
        assert (status["node_error"], status["resource_metrics"]) == ([], {})
        c1 = await live.connect("c1")
        for topic in ("yes", "no", "no/more", "neither"):
            await c1.publish(topic, qos=1)
        counted = (await got(live, f"{TABLE}/status"))["metrics"]
        assert {key: counted[key] for key in none} == {"total": 4, "allow": 1, "deny": 1, "nomatch": 2, "ignore": 0}


@shows("GET /authorization/settings", "PUT /authorization/settings")
async def test_settings(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    first = {"no_match": "allow", "deny_action": "ignore", "cache": CACHE}
    wanted = {
        "no_match": "deny",
        "deny_action": "disconnect",
        "cache": {"enable": False, "max_size": 1048576, "ttl": "1m30s", "excludes": ["a/#", "+/b"]},
    }
    async with running(store=store) as live:
        assert await got(live, SETTINGS) == first
        answer = await live.api.put(SETTINGS, json=wanted)
        assert (answer.status_code, answer.json()) == (200, wanted)
        for key in first:
            failed(await live.api.put(SETTINGS, json={k: v for k, v in first.items() if k != key}), 400, "BAD_REQUEST")
        bad: dict[str, Any]
        for bad in (
            {"no_match": "ignore"},
            {"no_match": True},
            {"deny_action": "drop"},
            {"cache": {"max_size": 0}},
            {"cache": {"max_size": 1048577}},
            {"cache": {"ttl": "soon"}},
            {"cache": {"enable": "maybe"}},
            {"cache": {"excludes": "a"}},
            {"cache": {"excludes": ["a/#/b"]}},
            {"cache": {"unknown": 1}},
            {"cache": []},
            {"unknown": 1},
        ):
            failed(await live.api.put(SETTINGS, json=first | bad), 400, "BAD_REQUEST")
        assert await got(live, SETTINGS) == wanted
    async with running(store=store) as live:
        assert await got(live, SETTINGS) == wanted


async def test_no_match_is_in_force_at_once_and_after_a_restart(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        c1 = await live.connect("c1")
        assert await may_publish(c1, "t")
        await settings(live, "deny")
        assert not await may_publish(c1, "t")
        assert not await may_subscribe(c1, "t")
        await settings(live, "allow")
        assert await may_publish(c1, "t")
        await settings(live, "deny")
    async with running(store=store) as live:
        c1 = await live.connect("c1")
        assert not await may_publish(c1, "t")


@shows("GET /clients/:clientid/authorization/cache")
async def test_what_is_kept_is_shown(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        await for_all(live, rule("no", action="publish"))
        c1 = await live.connect("c1")
        before = int(time.time() * 1000) - 1000
        assert await got(live, "/clients/c1/authorization/cache") == []
        await may_publish(c1, "no", 2, retain=True)
        await may_subscribe(c1, "t/+", 1)
        rows = await got(live, "/clients/c1/authorization/cache")
        assert all(row.keys() == {"access", "topic", "result", "updated_time"} for row in rows)
        assert all(type(row["updated_time"]) is int and row["updated_time"] > before for row in rows)
        told = {row["topic"]: (row["access"], row["result"]) for row in rows}
        assert told == {
            "no": ({"action_type": "publish", "qos": 2, "retain": True}, "deny"),
            "t/+": ({"action_type": "subscribe", "qos": 1}, "allow"),
        }


@shows("DELETE /clients/:clientid/authorization/cache", "DELETE /authorization/cache")
async def test_clearing_what_is_kept(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        c1, c2 = await live.connect("c1"), await live.connect("c2")
        for client in (c1, c2):
            await may_publish(client, "t")
        done(await live.api.delete("/clients/c1/authorization/cache"))
        assert (await cached(live, "c1"), await cached(live, "c2")) == ({}, {"t": "allow"})
        await may_publish(c1, "t")
        done(await live.api.delete("/authorization/cache"))
        assert (await cached(live, "c1"), await cached(live, "c2")) == ({}, {})
        done(await live.api.delete("/authorization/cache"))
        for method in ("GET", "DELETE"):
            answer = await live.api.request(method, "/clients/nobody/authorization/cache")
            failed(answer, 404, "CLIENTID_NOT_FOUND", "Client ID not found")
        await away(live, "gone", **KEPT)
        assert await cached(live, "gone") == {}
        done(await live.api.delete("/clients/gone/authorization/cache"))


async def test_size_excludes_and_ttl_of_what_is_kept(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        c1 = await live.connect("c1")

        async def asked() -> int:
            return int((await got(live, f"{TABLE}/status"))["metrics"]["total"])

        await settings(live, max_size=2, ttl="10s", excludes=["live/#", "+/x"])
        for topic in ("a", "live/1", "b", "k/x", "c"):
            await may_publish(c1, topic)
        assert (await cached(live, "c1")).keys() == {"b", "c"}
        count = await asked()
        await may_publish(c1, "c")
        assert await asked() == count
        await may_publish(c1, "live/1")
        assert await asked() == count + 1
        await may_publish(c1, "c", 2)
        assert await asked() == count + 2
        await trio.sleep(11)
        assert await cached(live, "c1") == {}
        await may_publish(c1, "c")
        assert await asked() == count + 3
        await settings(live, enable=False)
        await may_publish(c1, "c")
        await may_publish(c1, "c")
        assert await cached(live, "c1") == {}
        assert await asked() == count + 5
