"""The rules of users, of client ids and of all over REST: each status and message, paging, restarts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
from api.live import VIEWER, Live, running
from api.operations import shows
from trio.testing import MockClock

from trio_broker.config import Config
from trio_broker.config.authorization import AuthorizationConfig, BuiltInSourceConfig
from trio_broker.store.memory import MemoryStore

RULES = "/authorization/sources/built_in_database/rules"
DENY = {"topic": "t/#", "permission": "deny", "action": "all"}
SHOWN = {"topic": "t/#", "permission": "deny", "action": "all", "qos": [0, 1, 2], "retain": "all"}

Kind = tuple[str, str, str, str]
KINDS: list[Kind] = [
    ("users", "username", "User", "Username Not Found"),
    ("clients", "clientid", "Client", "ClientID Not Found"),
]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=["users", "clients"])


@asynccontextmanager
async def with_rules(
    store: MemoryStore | None = None, *, enable: bool = True, max_rules: int = 100
) -> AsyncIterator[Live]:
    source = BuiltInSourceConfig(enable=enable, max_rules=max_rules)
    async with running(Config(authorization=AuthorizationConfig(sources=(source,))), store) as live:
        yield live


def told(answer: httpx.Response) -> tuple[int, str, str]:
    return answer.status_code, answer.json()["code"], answer.json()["message"]


def refused(answer: httpx.Response) -> tuple[str, str]:
    """Where and why a body is not taken."""
    status, code, message = told(answer)
    assert (status, code) == (400, "BAD_REQUEST")
    detail = msgspec.json.decode(message)
    return detail["path"], detail["reason"]


OPERATIONS: list[tuple[str, str, Any]] = [
    (method, f"{RULES}{path}", body)
    for method, path, body in (
        ("GET", "/users", None),
        ("POST", "/users", [{"username": "u1", "rules": []}]),
        ("GET", "/users/u1", None),
        ("PUT", "/users/u1", {"username": "u1", "rules": []}),
        ("DELETE", "/users/u1", None),
        ("GET", "/clients", None),
        ("POST", "/clients", [{"clientid": "c1", "rules": []}]),
        ("GET", "/clients/c1", None),
        ("PUT", "/clients/c1", {"clientid": "c1", "rules": []}),
        ("DELETE", "/clients/c1", None),
        ("GET", "/all", None),
        ("POST", "/all", {"rules": []}),
        ("DELETE", "/all", None),
        ("DELETE", "", None),
    )
]


async def test_without_the_source_there_are_no_rules(autojump_clock: MockClock) -> None:
    async with running() as live:
        for method, path, body in OPERATIONS:
            answer = await live.api.request(method, path, json=body)
            assert told(answer) == (404, "NOT_FOUND", "Not found: built_in_database"), path


async def test_viewers_may_look(autojump_clock: MockClock) -> None:
    async with with_rules() as live:
        for method, path, body in OPERATIONS:
            answer = await live.api.request(method, path, json=body, auth=VIEWER)
            assert (answer.status_code == 403) is (method != "GET"), path


@each_kind
@shows(
    "POST /authorization/sources/built_in_database/rules/users",
    "GET /authorization/sources/built_in_database/rules/users/:username",
    "PUT /authorization/sources/built_in_database/rules/users/:username",
    "DELETE /authorization/sources/built_in_database/rules/users/:username",
    "POST /authorization/sources/built_in_database/rules/clients",
    "GET /authorization/sources/built_in_database/rules/clients/:clientid",
    "PUT /authorization/sources/built_in_database/rules/clients/:clientid",
    "DELETE /authorization/sources/built_in_database/rules/clients/:clientid",
)
async def test_the_life_of_an_entry(autojump_clock: MockClock, kind: Kind) -> None:
    path, field, called, not_found = kind
    url = f"{RULES}/{path}"
    async with with_rules() as live:
        api = live.api
        assert told(await api.get(f"{url}/a")) == (404, "NOT_FOUND", "Not Found")
        assert told(await api.delete(f"{url}/a")) == (404, "NOT_FOUND", not_found)
        added = await api.post(url, json=[{field: "a", "rules": [DENY]}, {field: "b", "rules": []}])
        assert (added.status_code, added.content) == (204, b"")
        assert (await api.get(f"{url}/a")).json() == {field: "a", "rules": [SHOWN]}
        assert (await api.get(f"{url}/b")).json() == {field: "b", "rules": []}
        again = await api.post(url, json=[{field: "c", "rules": []}, {field: "b", "rules": []}])
        assert told(again) == (409, "ALREADY_EXISTS", f"{called} 'b' already exist")
        assert (await api.get(f"{url}/c")).status_code == 404  # all or nothing
        one = {"topic": "eq #", "permission": "allow", "action": "subscribe", "qos": ["1"], "retain": "true"}
        replaced = await api.put(f"{url}/a", json={field: "a", "rules": [one, DENY]})
        assert (replaced.status_code, replaced.content) == (204, b"")
        shown = {**one, "qos": [1], "retain": True}
        assert (await api.get(f"{url}/a")).json() == {field: "a", "rules": [shown, SHOWN]}
        made = await api.put(f"{url}/c", json={field: "c", "rules": [DENY]})
        assert made.status_code == 204  # PUT makes it where there is none
        assert (await api.get(f"{url}/c")).json() == {field: "c", "rules": [SHOWN]}
        assert (await api.delete(f"{url}/c")).status_code == 204
        assert (await api.get(f"{url}/c")).status_code == 404


@each_kind
@shows(
    "GET /authorization/sources/built_in_database/rules/users",
    "GET /authorization/sources/built_in_database/rules/clients",
)
async def test_lists(autojump_clock: MockClock, kind: Kind) -> None:
    path, field, _, _ = kind
    url = f"{RULES}/{path}"
    async with with_rules() as live:
        empty = (await live.api.get(url)).json()
        assert empty == {"data": [], "meta": {"page": 1, "limit": 100, "count": 0, "hasnext": False}}
        names = ["a1", "a2", "B1", "x+y"]
        await live.api.post(url, json=[{field: name, "rules": [DENY]} for name in names])
        found = (await live.api.get(url, params={"limit": 3})).json()
        assert found["meta"] == {"page": 1, "limit": 3, "count": 4, "hasnext": True}
        rest = (await live.api.get(url, params={"limit": 3, "page": 2})).json()
        assert rest["meta"] == {"page": 2, "limit": 3, "count": 4, "hasnext": False}
        assert found["data"] + rest["data"] == [{field: name, "rules": [SHOWN]} for name in names]
        like = (await live.api.get(url, params={f"like_{field}": "1", "limit": 1})).json()
        assert like == {
            "data": [{field: "a1", "rules": [SHOWN]}],
            "meta": {"page": 1, "limit": 1, "hasnext": True},  # no count
        }
        case = (await live.api.get(url, params={f"like_{field}": "A"})).json()
        assert case["data"] == []
        plus = (await live.api.get(url, params={f"like_{field}": "+"})).json()
        assert [row[field] for row in plus["data"]] == ["x+y"]
        past = (await live.api.get(url, params={"page": 9})).json()
        assert past == {"data": [], "meta": {"page": 9, "limit": 100, "count": 4, "hasnext": False}}
        for wrong in ({"page": 0}, {"limit": 0}, {"limit": 10_001}):
            assert told(await live.api.get(url, params=wrong))[:2] == (400, "BAD_REQUEST")


@shows(
    "GET /authorization/sources/built_in_database/rules/all",
    "POST /authorization/sources/built_in_database/rules/all",
    "DELETE /authorization/sources/built_in_database/rules/all",
)
async def test_rules_for_all(autojump_clock: MockClock) -> None:
    async with with_rules() as live:
        api = live.api
        assert (await api.get(f"{RULES}/all")).json() == {"rules": []}
        first = await api.post(f"{RULES}/all", json={"rules": [DENY, {**DENY, "permission": "allow"}]})
        assert (first.status_code, first.content) == (204, b"")
        assert (await api.get(f"{RULES}/all")).json() == {"rules": [SHOWN, {**SHOWN, "permission": "allow"}]}
        await api.post(f"{RULES}/all", json={"rules": [DENY]})
        assert (await api.get(f"{RULES}/all")).json() == {"rules": [SHOWN]}
        for _ in range(2):
            assert (await api.delete(f"{RULES}/all")).status_code == 204
            assert (await api.get(f"{RULES}/all")).json() == {"rules": []}


@shows("DELETE /authorization/sources/built_in_database/rules")
async def test_only_a_source_that_is_disabled_is_purged(autojump_clock: MockClock) -> None:
    async with with_rules() as live:
        api = live.api
        await fill(api)
        message = "'built_in_database' type source must be disabled before purge."
        assert told(await api.delete(RULES)) == (400, "BAD_REQUEST", message)
        assert await counts(api) == (2, 2, 1)
        source = "/authorization/sources/built_in_database"
        await api.put(source, json={"type": "built_in_database", "enable": False})
        assert await counts(api) == (2, 2, 1)  # they can be seen and changed while it is disabled
        assert (await api.delete(RULES)).status_code == 204
        assert await counts(api) == (0, 0, 0)


async def test_rules_go_with_their_source(autojump_clock: MockClock) -> None:
    async with running() as live:
        api = live.api
        await api.post("/authorization/sources", json={"type": "built_in_database"})
        await fill(api)
        assert (await api.delete("/authorization/sources/built_in_database")).status_code == 204
        await api.post("/authorization/sources", json={"type": "built_in_database"})
        assert await counts(api) == (0, 0, 0)


async def test_rules_are_there_after_a_restart(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with with_rules(store) as live:
        await fill(live.api)
        await live.api.delete(f"{RULES}/users/u2")
    async with with_rules(store) as live:
        assert await counts(live.api) == (1, 2, 1)
        assert (await live.api.get(f"{RULES}/users/u1")).json() == {"username": "u1", "rules": [SHOWN]}


async def fill(api: httpx.AsyncClient) -> None:
    await api.post(f"{RULES}/users", json=[{"username": name, "rules": [DENY]} for name in ("u1", "u2")])
    await api.post(f"{RULES}/clients", json=[{"clientid": name, "rules": [DENY]} for name in ("c1", "c2")])
    await api.post(f"{RULES}/all", json={"rules": [DENY]})


async def counts(api: httpx.AsyncClient) -> tuple[int, int, int]:
    users = (await api.get(f"{RULES}/users")).json()["meta"]["count"]
    clients = (await api.get(f"{RULES}/clients")).json()["meta"]["count"]
    return users, clients, len((await api.get(f"{RULES}/all")).json()["rules"])


# -- what is refused ----------------------------------------------------------------------------------------------


@each_kind
async def test_there_are_not_more_rules_than_max_rules(autojump_clock: MockClock, kind: Kind) -> None:
    path, field, called, _ = kind
    url = f"{RULES}/{path}"
    async with with_rules(max_rules=2) as live:
        api = live.api
        two, three = [DENY] * 2, [DENY] * 3
        assert (await api.post(url, json=[{field: "a", "rules": two}])).status_code == 204
        many = await api.post(url, json=[{field: "b", "rules": two}, {field: "d", "rules": three}])
        assert told(many) == (400, "BAD_REQUEST", f"The rules length of {called} 'd' exceeds the maximum limit.")
        assert (await api.get(f"{url}/b")).status_code == 404
        put = await api.put(f"{url}/a", json={field: "a", "rules": three})
        assert told(put) == (400, "BAD_REQUEST", "The rules length exceeds the maximum limit.")
        assert len((await api.get(f"{url}/a")).json()["rules"]) == 2
        for_all = await api.post(f"{RULES}/all", json={"rules": three})
        assert told(for_all) == (400, "BAD_REQUEST", "The length of rules exceeds the maximum limit.")


@each_kind
async def test_bodies_that_are_no_entries(autojump_clock: MockClock, kind: Kind) -> None:
    path, field, _, _ = kind
    url = f"{RULES}/{path}"
    async with with_rules() as live:
        api = live.api
        mismatch = await api.put(f"{url}/a", json={field: "b", "rules": []})
        assert refused(mismatch) == (f"root.{field}", f"It must be the {field} of the path")
        twice = await api.post(url, json=[{field: "a", "rules": []}, {field: "a", "rules": []}])
        assert refused(twice) == (f"root.2.{field}", "It is there twice")
        assert refused(await api.post(url, json=[{"rules": []}])) == (f"root.1.{field}", "required_field")
        assert refused(await api.post(url, json=[{field: "a"}])) == ("root.1.rules", "required_field")
        assert refused(await api.put(f"{url}/a", json={"rules": []})) == (f"root.{field}", "required_field")
        assert refused(await api.put(f"{url}/a", json={field: "a"})) == ("root.rules", "required_field")
        assert refused(await api.post(url, json=[{field: "", "rules": []}]))[0] == f"root.1.{field}"
        assert refused(await api.post(url, json={field: "a", "rules": []}))[0] == "root"
        assert refused(await api.post(url, json=[{field: "a", "rules": [], "x": 1}]))[1] == "unknown_fields"
        deep = [{field: "a", "rules": []}, {field: "b", "rules": [DENY, {**DENY, "topic": "#/a"}]}]
        assert refused(await api.post(url, json=deep))[0] == "root.2.rules.2.topic"
        assert (await api.get(url)).json()["data"] == []


@pytest.mark.parametrize(
    ("change", "path", "reason"),
    [
        ({"topic": None}, "topic", "required_field"),
        ({"permission": None}, "permission", "required_field"),
        ({"action": None}, "action", "required_field"),
        ({"topic": ""}, "topic", "Expected `str` of length >= 1"),
        ({"topic": "a/#/b"}, "topic", "'a/#/b': # must be a level of its own, and the last"),
        ({"topic": "a/${no}"}, "topic", "'a/${no}': there is no placeholder ${no}; there are ${cert_common_name}, "),
        ({"permission": "permit"}, "permission", "not_a_enum_symbol"),
        ({"action": "pub"}, "action", "not_a_enum_symbol"),
        ({"qos": [3]}, "qos.1", "Expected `int` <= 2"),
        ({"qos": []}, "qos", "Expected `array` of length >= 1"),
        ({"qos": 1}, "qos", "Expected `array`, got `int`"),
        ({"retain": "maybe"}, "retain", "not_a_enum_symbol"),
        ({"retain": 1}, "retain", "Expected type boolean or all"),
        (
            {"topic": "$share/g/t"},
            "topic",
            "'$share/g/t': a rule is about the topic, whichever ",
        ),
        ({"username_re": "("}, "username_re", "bad regular expression: missing ) ( at position 0"),
        ({"ipaddr": "10.0.0"}, "ipaddr", "'10.0.0' is no address, and no network such as 192.168.0.0/24"),
        ({"who": "u1"}, "", "unknown_fields"),
    ],
)
async def test_a_rule_that_is_none(autojump_clock: MockClock, change: dict[str, Any], path: str, reason: str) -> None:
    async with with_rules() as live:
        answer = await live.api.post(f"{RULES}/all", json={"rules": [DENY, {**DENY, **change}]})
        where, why = refused(answer)
        assert where == f"root.rules.2.{path}".rstrip(".")
        assert why.startswith(reason)
        assert (await live.api.get(f"{RULES}/all")).json() == {"rules": []}


async def test_conditions_are_shown_where_there_are_some(autojump_clock: MockClock) -> None:
    conditions = {
        "username_re": "^u",
        "clientid_re": "c$",
        "zone": "default",
        "zone_re": "d",
        "listener": "tcp:default",
        "listener_re": "^tcp",
        "ipaddr": "10.0.0.0/8",
    }
    async with with_rules() as live:
        taken = await live.api.post(f"{RULES}/all", json={"rules": [{**DENY, **conditions}]})
        assert taken.status_code == 204
        assert (await live.api.get(f"{RULES}/all")).json() == {"rules": [{**SHOWN, **conditions}]}


@pytest.mark.parametrize("name", ["a/b", "+", "#", "all", "..", "a b", "\u5ba4", "%2F", "x" * 300, "a\0b", "'"])
async def test_names_are_what_they_are(autojump_clock: MockClock, name: str) -> None:
    async with with_rules() as live:
        path = f"{RULES}/users/{quote(name, safe='')}"
        if name == "..":
            path = f"{RULES}/users/%2E%2E"
        await live.api.put(path, json={"username": name, "rules": [DENY]})
        assert [row["username"] for row in (await live.api.get(f"{RULES}/users")).json()["data"]] == [name]
        assert (await live.api.get(path)).json() == {"username": name, "rules": [SHOWN]}
        assert (await live.api.get(f"{RULES}/all")).json() == {"rules": []}
        assert (await live.api.delete(path)).status_code == 204
