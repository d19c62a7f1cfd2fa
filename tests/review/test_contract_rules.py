"""The REST contract, read afresh: the 14 operations on the access rules of users, client ids, and all."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from api.live import running
from api.operations import shows
from review.contract import done, failed, got, invalid, listed
from review.rights import RULES, TABLE, add_source, allow, for_all, for_client, for_user, rule, shown
from trio.testing import MockClock

from trio_broker.store.memory import MemoryStore

MANY = [("users", "username", "User", "Username Not Found"), ("clients", "clientid", "Client", "ClientID Not Found")]
each_kind = pytest.mark.parametrize(("kind", "key", "noun", "gone"), MANY)

OPERATIONS: list[tuple[str, str, Any]] = [
    ("GET", "/users", None),
    ("POST", "/users", [{"username": "x", "rules": []}]),
    ("GET", "/users/x", None),
    ("PUT", "/users/x", {"username": "x", "rules": []}),
    ("DELETE", "/users/x", None),
    ("GET", "/clients", None),
    ("POST", "/clients", [{"clientid": "x", "rules": []}]),
    ("GET", "/clients/x", None),
    ("PUT", "/clients/x", {"clientid": "x", "rules": []}),
    ("DELETE", "/clients/x", None),
    ("GET", "/all", None),
    ("POST", "/all", {"rules": []}),
    ("DELETE", "/all", None),
    ("DELETE", "", None),
]


async def test_without_the_source_nothing_is_found(autojump_clock: MockClock) -> None:
    async with running() as live:
        for method, path, body in OPERATIONS:
            answer = await live.api.request(method, RULES + path, json=body)
            failed(answer, 404, "NOT_FOUND", "Not found: built_in_database")


async def test_a_disabled_source_keeps_rules_all_the_same(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database", enable=False)
        for method, path, body in sorted(OPERATIONS, key=lambda one: "POST PUT GET DELETE".index(one[0])):
            if method == "POST" and body != {"rules": []}:
                done(await live.api.put(f"{RULES}{path}/x", json=body[0]))
                done(await live.api.delete(f"{RULES}{path}/x"))
            answer = await live.api.request(method, RULES + path, json=body)
            assert answer.status_code == (200 if method == "GET" else 204), (method, path, answer.text)


async def test_a_viewer_reads_and_does_not_write(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        await for_user(live, "x")
        await for_client(live, "x")
        for method, path, body in OPERATIONS:
            answer = await live.api.request(method, RULES + path, json=body, auth=live.as_viewer())
            if method == "GET":
                assert answer.status_code == 200, path
            else:
                failed(answer, 403, "UNAUTHORIZED_ROLE")
        assert await listed(live, f"{RULES}/users", "username") == {"x"}


async def test_other_methods(autojump_clock: MockClock) -> None:
    async with running() as live:
        for method, path, allowed in (
            ("PUT", "/all", "GET, POST, DELETE"),
            ("POST", "/users/x", "GET, PUT, DELETE"),
            ("DELETE", "/users", "GET, POST"),
            ("PUT", "/clients", "GET, POST"),
        ):
            answer = await live.api.request(method, RULES + path, json={}, auth=None)
            assert (answer.status_code, answer.content) == (405, b"")
            assert set(answer.headers["allow"].split(", ")) >= set(allowed.split(", "))


@each_kind
@shows(
    "GET /authorization/sources/built_in_database/rules/users",
    "POST /authorization/sources/built_in_database/rules/users",
    "GET /authorization/sources/built_in_database/rules/clients",
    "POST /authorization/sources/built_in_database/rules/clients",
)
async def test_adding(kind: str, key: str, noun: str, gone: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        rules = [rule("b", action="subscribe"), allow("a/#", "publish", qos=[1], retain=True), rule("eq c/#")]
        done(await live.api.post(f"{RULES}/{kind}", json=[{key: "n1", "rules": rules}, {key: "n2", "rules": []}]))
        kept = [shown(**one) for one in rules]
        assert await got(live, f"{RULES}/{kind}/n1") == {key: "n1", "rules": kept}
        assert await got(live, f"{RULES}/{kind}/n2") == {key: "n2", "rules": []}
        page = await got(live, f"{RULES}/{kind}")
        assert page["meta"] == {"page": 1, "limit": 100, "count": 2, "hasnext": False}
        assert sorted(page["data"], key=lambda row: str(row[key])) == [
            {key: "n1", "rules": kept},
            {key: "n2", "rules": []},
        ]
        again = [{key: "n3", "rules": []}, {key: "n1", "rules": []}]
        message = f"{noun} 'n1' already exist"
        failed(await live.api.post(f"{RULES}/{kind}", json=again), 409, "ALREADY_EXISTS", message)
        assert await listed(live, f"{RULES}/{kind}", key) == {"n1", "n2"}
        assert (await got(live, f"{RULES}/{kind}/n1"))["rules"] == kept


@each_kind
@shows(
    "GET /authorization/sources/built_in_database/rules/users/:username",
    "PUT /authorization/sources/built_in_database/rules/users/:username",
    "DELETE /authorization/sources/built_in_database/rules/users/:username",
    "GET /authorization/sources/built_in_database/rules/clients/:clientid",
    "PUT /authorization/sources/built_in_database/rules/clients/:clientid",
    "DELETE /authorization/sources/built_in_database/rules/clients/:clientid",
)
async def test_one_entry(kind: str, key: str, noun: str, gone: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        path = f"{RULES}/{kind}/n1"
        failed(await live.api.get(path), 404, "NOT_FOUND", "Not Found")
        failed(await live.api.delete(path), 404, "NOT_FOUND", gone)
        done(await live.api.put(path, json={key: "n1", "rules": [rule("a")]}))
        assert await got(live, path) == {key: "n1", "rules": [shown(**rule("a"))]}
        done(await live.api.put(path, json={key: "n1", "rules": [rule("b"), rule("c")]}))
        assert [one["topic"] for one in (await got(live, path))["rules"]] == ["b", "c"]
        failed(await live.api.put(path, json={key: "n2", "rules": []}), 400, "BAD_REQUEST")
        invalid(await live.api.put(path, json={key: "n1"}), "root.rules", "required_field")
        invalid(await live.api.put(path, json={"rules": []}), f"root.{key}", "required_field")
        assert len((await got(live, path))["rules"]) == 2
        done(await live.api.delete(path))
        failed(await live.api.get(path), 404, "NOT_FOUND", "Not Found")
        failed(await live.api.delete(path), 404, "NOT_FOUND", gone)


@each_kind
async def test_names_in_paths(kind: str, key: str, noun: str, gone: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        names = ["a/b", "+", "#", "a b", "a:b", "ä€😀", "%2F", "a\u0301", "\u00e1", "users", "A", "a"]
        for name in names:
            path = f"{RULES}/{kind}/{quote(name, safe='')}"
            done(await live.api.put(path, json={key: name, "rules": [rule("t")]}))
        assert await listed(live, f"{RULES}/{kind}", key) == set(names)
        for name in names:
            path = f"{RULES}/{kind}/{quote(name, safe='')}"
            assert (await got(live, path))[key] == name
            done(await live.api.delete(path))
        assert (await got(live, f"{RULES}/{kind}"))["data"] == []


@each_kind
async def test_paging_and_filters(kind: str, key: str, noun: str, gone: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        path = f"{RULES}/{kind}"
        names = {"Anna", "anna", "Hanna", "bob", "x.y"}
        done(await live.api.post(path, json=[{key: name, "rules": []} for name in names]))
        seen: list[str] = []
        for number, more in ((1, True), (2, True), (3, False)):
            page = await got(live, path, page=number, limit=2)
            assert page["meta"] == {"page": number, "limit": 2, "count": 5, "hasnext": more}
            seen += [row[key] for row in page["data"]]
        assert sorted(seen) == sorted(names)
        assert (await got(live, path, page=4, limit=2))["data"] == []
        like = f"like_{key}"
        for part, found in (("nn", "Anna anna Hanna"), ("A", "Anna"), (".", "x.y"), ("b.b", ""), (".*", ""), ("z", "")):
            assert await listed(live, path, key, **{like: part}) == set(found.split()), part
        page = await got(live, path, limit=2, page=2, **{like: "nn"})
        assert page["meta"] == {"page": 2, "limit": 2, "hasnext": False}
        assert len(page["data"]) == 1
        assert (await got(live, path, limit=2, **{like: "nn"}))["meta"] == {"page": 1, "limit": 2, "hasnext": True}
        assert (await got(live, path, unknown="x", limit=10000))["meta"]["count"] == 5
        for query in ("limit=0", "limit=10001", "page=0", "page=x", "limit="):
            failed(await live.api.get(f"{path}?{query}"), 400, "BAD_REQUEST")


@shows(
    "GET /authorization/sources/built_in_database/rules/all",
    "POST /authorization/sources/built_in_database/rules/all",
    "DELETE /authorization/sources/built_in_database/rules/all",
)
async def test_the_rules_for_all(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        assert await got(live, f"{RULES}/all") == {"rules": []}
        done(await live.api.delete(f"{RULES}/all"))
        item = {"topic": "test/topic/1", "permission": "allow", "action": "publish"}
        await for_all(live, item, rule("x"))
        assert await got(live, f"{RULES}/all") == {
            "rules": [
                {
                    "topic": "test/topic/1",
                    "permission": "allow",
                    "action": "publish",
                    "qos": [0, 1, 2],
                    "retain": "all",
                },
                shown(**rule("x")),
            ]
        }
        await for_all(live, rule("y", action="subscribe"))
        assert await got(live, f"{RULES}/all") == {"rules": [shown(**rule("y", action="subscribe"))]}
        done(await live.api.delete(f"{RULES}/all"))
        assert await got(live, f"{RULES}/all") == {"rules": []}


FIELDS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"qos": ["1"]}, {"qos": [1]}),
    ({"qos": [2, 0]}, {"qos": [2, 0]}),
    ({"qos": None}, {}),
    ({"retain": "true"}, {"retain": True}),
    ({"retain": "false"}, {"retain": False}),
    ({"retain": False}, {"retain": False}),
    ({"retain": "all"}, {}),
    ({"retain": None}, {}),
    ({"username_re": "^a"}, {"username_re": "^a"}),
    ({"clientid_re": "^a"}, {"clientid_re": "^a"}),
    ({"zone": "z", "zone_re": "z"}, {"zone": "z", "zone_re": "z"}),
    ({"listener": "tcp:default", "listener_re": "tcp"}, {"listener": "tcp:default", "listener_re": "tcp"}),
    ({"ipaddr": "10.0.0.0/8"}, {"ipaddr": "10.0.0.0/8"}),
    ({"ipaddr": "::1"}, {"ipaddr": "::1"}),
]


async def test_fields_of_a_rule(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        for given, kept in FIELDS:
            await for_all(live, rule("t", **given))
            [one] = (await got(live, f"{RULES}/all"))["rules"]
            if "qos" in kept:
                assert sorted(one["qos"]) == sorted(kept["qos"])
                one["qos"] = kept["qos"]
            assert one == shown(**rule("t")) | kept


BAD: list[Any] = [
    {},
    {"permission": "allow", "action": "all"},
    {"topic": "t", "action": "all"},
    {"topic": "t", "permission": "allow"},
    rule("t", "maybe"),
    rule("t", "Allow"),
    rule("t", action="pub"),
    rule("t", action="sub"),
    rule("t") | {"action": ["publish"]},
    rule("t", qos=[3]),
    rule("t", qos=[-1]),
    rule("t", qos=["x"]),
    rule("t", qos=1.5),
    rule("t", retain="maybe"),
    rule("t", topics=["x"]),
    rule("t", nonsense=True),
    rule("t", ipaddr="10.0.0"),
    rule("t", ipaddr="10.0.0.0/99"),
    rule("t", username_re="("),
    rule("t", clientid_re="["),
    rule("t", listener_re="*"),
    rule("a/#/b"),
    rule("a+/b"),
    rule("t\x00"),
    rule("t/${unknown}"),
    {"topic": 1, "permission": "allow", "action": "all"},
    {"topic": None, "permission": "allow", "action": "all"},
    "t",
    None,
]


async def test_retain_is_a_boolean_or_all(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        values: list[Any] = [1, 0, 2, "1", "TRUE", "yes", []]
        bodies = [{"rules": [rule("t", retain=value)]} for value in values]
        told = [(await live.api.post(f"{RULES}/all", json=body)).status_code for body in bodies]
        assert told == [400] * len(values)


async def test_bad_rules_are_refused_and_nothing_is_stored(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        await for_user(live, "u", rule("old"))
        await for_all(live, rule("old"))
        for bad in BAD:
            rules = [rule("good"), bad]
            attempts = [
                await live.api.post(f"{RULES}/all", json={"rules": rules}),
                await live.api.put(f"{RULES}/users/u", json={"username": "u", "rules": rules}),
                await live.api.post(f"{RULES}/users", json=[{"username": "v", "rules": rules}]),
                await live.api.post(f"{RULES}/clients", json=[{"clientid": "v", "rules": rules}]),
            ]
            for answer in attempts:
                told = failed(answer, 400, "BAD_REQUEST")
                assert "rules.2" in told, (bad, told)
        assert await listed(live, f"{RULES}/users", "username") == {"u"}
        assert await listed(live, f"{RULES}/clients", "clientid") == set()
        assert (await got(live, f"{RULES}/all"))["rules"] == [shown(**rule("old"))]
        assert (await got(live, f"{RULES}/users/u"))["rules"] == [shown(**rule("old"))]


BAD_BODIES: list[tuple[str, Any]] = [
    ("/all", []),
    ("/all", {}),
    ("/all", {"rules": {}}),
    ("/all", {"rules": "x"}),
    ("/all", {"rules": [], "more": 1}),
    ("/users", {}),
    ("/users", {"username": "u", "rules": []}),
    ("/users", [{"rules": []}]),
    ("/users", [{"username": 1.5, "rules": []}]),
    ("/users", [{"username": "u", "rules": [], "more": 1}]),
    ("/users", ["u"]),
    ("/clients", [{"username": "u", "rules": []}]),
    ("/clients", [None]),
    ("/clients", "x"),
]


async def test_bad_bodies(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        for path, body in BAD_BODIES:
            answer = await live.api.post(RULES + path, json=body)
            assert answer.status_code == 400, (path, body)
            failed(answer, 400, "BAD_REQUEST")


async def test_what_is_no_json(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        answer = await live.api.post(f"{RULES}/all", content="{", headers={"content-type": "application/json"})
        failed(answer, 400, "BAD_REQUEST", "Invalid json message received")
        answer = await live.api.post(f"{RULES}/all", content='{"rules": []}', headers={"content-type": "text/plain"})
        failed(answer, 415, "UNSUPPORTED_MEDIA_TYPE", "content-type:application/json Required")
        invalid(await live.api.post(f"{RULES}/all"), "root.rules", "required_field")


@each_kind
async def test_too_many_rules(kind: str, key: str, noun: str, gone: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        for most in (100, 3):
            done(await live.api.put(TABLE, json={"type": "built_in_database", "max_rules": most}))
            fits, over = [rule("t")] * most, [rule("t")] * (most + 1)
            path = f"{RULES}/{kind}"
            answer = await live.api.post(path, json=[{key: "ok", "rules": []}, {key: "n1", "rules": over}])
            failed(answer, 400, "BAD_REQUEST", f"The rules length of {noun} 'n1' exceeds the maximum limit.")
            failed(await live.api.get(f"{path}/ok"), 404, "NOT_FOUND")
            answer = await live.api.put(f"{path}/n1", json={key: "n1", "rules": over})
            told = failed(answer, 400, "BAD_REQUEST")
            assert told.startswith("The rules length ")
            assert told.endswith(" exceeds the maximum limit.")
            answer = await live.api.post(f"{RULES}/all", json={"rules": over})
            failed(answer, 400, "BAD_REQUEST", "The length of rules exceeds the maximum limit.")
            done(await live.api.post(path, json=[{key: "n1", "rules": fits}]))
            done(await live.api.put(f"{path}/n1", json={key: "n1", "rules": fits}))
            done(await live.api.post(f"{RULES}/all", json={"rules": fits}))
            done(await live.api.delete(f"{path}/n1"))


@shows("DELETE /authorization/sources/built_in_database/rules")
async def test_everything_goes_only_while_the_source_is_disabled(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "built_in_database")
        await for_user(live, "u", rule("t"))
        await for_client(live, "c", rule("t"))
        await for_all(live, rule("t"))
        message = "'built_in_database' type source must be disabled before purge."
        failed(await live.api.delete(RULES), 400, "BAD_REQUEST", message)
        assert await listed(live, f"{RULES}/users", "username") == {"u"}
        done(await live.api.put(TABLE, json={"type": "built_in_database", "enable": False}))
        assert await listed(live, f"{RULES}/users", "username") == {"u"}
        done(await live.api.delete(RULES))
        done(await live.api.delete(RULES))
        assert await listed(live, f"{RULES}/users", "username") == set()
        assert await got(live, f"{RULES}/all") == {"rules": []}


async def test_rules_are_there_after_a_restart(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    rules = [rule("b", qos=[1], retain=False), allow("eq a/#", "subscribe", ipaddr="10.0.0.0/8", clientid_re="^x")]
    async with running(store=store) as live:
        await add_source(live, "built_in_database", max_rules=7)
        await for_user(live, "u", *rules)
        await for_client(live, "c", *rules)
        await for_client(live, "gone", *rules)
        done(await live.api.delete(f"{RULES}/clients/gone"))
        await for_all(live, *rules)
    async with running(store=store) as live:
        kept = [shown(**one) for one in rules]
        assert (await got(live, f"{RULES}/users"))["data"] == [{"username": "u", "rules": kept}]
        assert (await got(live, f"{RULES}/clients"))["data"] == [{"clientid": "c", "rules": kept}]
        assert await got(live, f"{RULES}/all") == {"rules": kept}
        assert (await got(live, TABLE))["max_rules"] == 7
