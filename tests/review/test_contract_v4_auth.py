"""The contract of `/api/v4`, read afresh: users of clients by user name and by client id."""

from __future__ import annotations

import time
from typing import Any

import pytest
from api.operations import shows
from review.contract import NODE
from review.contract_v4 import V4, meta, version_4
from trio.testing import MockClock

from trio_broker.store.memory import MemoryStore

TABLES = [("/auth_username", "username"), ("/auth_clientid", "clientid")]
both = pytest.mark.parametrize(("path", "key"), TABLES)


async def add(v4: V4, path: str, key: str, name: str, password: str = "p") -> None:
    await v4.done("POST", path, {key: name, "password": password})


async def accepted(v4: V4, client_id: str, username: str | None, password: str | None, level: int = 5) -> bool:
    secret = None if password is None else password.encode()
    client = await v4.live.connect(client_id, username=username, password=secret, level=level)
    code = client.connack.reason_code
    assert code == 0 or code in ((0x86, 0x87) if level == 5 else (0x86, 0x87, 4, 5))
    return code == 0


@shows("GET /api/v4/auth_username", "POST /api/v4/auth_username", "GET /api/v4/auth_clientid/:clientid")
async def test_there_are_none_without_the_plugin(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        for path, key in TABLES:
            for method in ("GET", "POST"):
                await v4.missing(method, path)
            for method in ("GET", "PUT", "DELETE"):
                await v4.missing(method, f"{path}/u")
            await v4.missing("POST", path, {key: "u", "password": "p"})
        await v4.load()
        for path, _ in TABLES:
            assert await v4.page(path) == ([], meta(0, hasnext=False))
        await v4.done("PUT", f"/nodes/{NODE}/plugins/emqx_auth_mnesia/unload")
        await v4.missing("GET", "/auth_username")


@both
@shows(
    "GET /api/v4/auth_username",
    "POST /api/v4/auth_username",
    "GET /api/v4/auth_username/:username",
    "PUT /api/v4/auth_username/:username",
    "DELETE /api/v4/auth_username/:username",
    "GET /api/v4/auth_clientid",
    "POST /api/v4/auth_clientid",
    "GET /api/v4/auth_clientid/:clientid",
    "PUT /api/v4/auth_clientid/:clientid",
    "DELETE /api/v4/auth_clientid/:clientid",
)
async def test_one_user(path: str, key: str, autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await v4.load()
        assert await v4.data(f"{path}/u1") == {}
        await v4.done("POST", path, {key: "u/1 ä", "password": "secret"})
        (other,) = [other for other, _ in TABLES if other != path]
        assert await v4.page(other) == ([], meta(0, hasnext=False))
        (row,), paging = await v4.page(path)
        assert paging == meta(1, hasnext=False)
        assert row.keys() == {key, "created_at"}
        assert row[key] == "u/1 ä"
        assert type(row["created_at"]) is int
        assert abs(row["created_at"] / 1000 - time.time()) < 3600
        one = f"{path}/u%2F1%20%C3%A4"
        assert await v4.data(one) == row
        await v4.fails(113, "existed", "POST", path, {key: "u/1 ä", "password": "again"})
        await v4.done("PUT", one, {"password": "new"})
        await v4.done("PUT", one, password="newer")
        assert (await v4.data(one))[key] == "u/1 ä"
        await v4.done("DELETE", one)
        assert await v4.data(one) == {}
        await v4.done("DELETE", one)
        await v4.fails(105, "noexisted", "PUT", one, {"password": "x"})


@both
@shows("POST /api/v4/auth_username", "PUT /api/v4/auth_username/:username", "POST /api/v4/auth_clientid")
async def test_users_that_are_none(path: str, key: str, autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await v4.load()
        for name in ({}, {key: ""}):
            await v4.fails(104, "login", "POST", path, {"password": "p", **name})
        odd: Any
        for odd in (1, [], None):
            await v4.fails((102, 104, 108), "login", "POST", path, {"password": "p", key: odd})
        for password in ({}, {"password": ""}):
            await v4.fails(104, "password", "POST", path, {key: "u", **password})
        for odd in (1, [], None):
            await v4.fails((102, 104, 108), "password", "POST", path, {key: "u", "password": odd})
        await v4.fails((104, 107, 108), None, "POST", path)
        await add(v4, path, key, "u")
        for password in ({}, {"password": ""}):
            await v4.fails(104, "password", "PUT", f"{path}/u", password)
        await v4.fails((102, 104, 108), "password", "PUT", f"{path}/u", {"password": 1})
        assert await v4.listed(path, key) == ["u"]
        client = "u" if key == "clientid" else "c"
        assert await accepted(v4, client, None if key == "clientid" else "u", "p")


@both
@shows("POST /api/v4/auth_username", "POST /api/v4/auth_clientid")
async def test_a_batch_of_users(path: str, key: str, autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await v4.load()
        await add(v4, path, key, "u2")
        body = [
            {key: "u1", "password": "p1"},
            {key: "u2", "password": "p2"},
            {key: "u3", "password": ""},
            {key: "u4", "password": "p4"},
            {key: "u5"},
        ]
        assert await v4.ask("POST", path, body) == {
            "code": 0,
            "data": {
                "u1": "ok",
                "u2": "{error,existed}",
                "u3": "{error,password}",
                "u4": "ok",
                "u5": "{error,password}",
            },
        }
        assert await v4.listed(path, key) == ["u1", "u2", "u4"]
        answer = await v4.ask("POST", path, [{key: "u2", "password": "x"}])
        assert answer == {"code": 0, "data": {"u2": "{error,existed}"}}
        answer = await v4.ask("POST", path, [{key: "", "password": "x"}])
        assert answer == {"code": 0, "data": {"": "{error,login}"}}
        assert await v4.ask("POST", path, []) == {"code": 0, "data": {}}


@both
@shows("GET /api/v4/auth_username", "GET /api/v4/auth_clientid")
async def test_lists_of_users(path: str, key: str, autojump_clock: MockClock) -> None:
    names = ["alice", "Alina", "bob", "bo.b", "a%b"]
    async with version_4() as v4:
        await v4.load()
        for name in names:
            await add(v4, path, key, name)
        rows, paging = await v4.page(path)
        assert paging == meta(5, hasnext=False)
        assert [row[key] for row in rows] == names[::-1]
        first, paging = await v4.page(path, _limit=3)
        assert (len(first), paging) == (3, meta(5, limit=3, hasnext=True))
        second, paging = await v4.page(path, _limit=3, _page=2)
        assert (len(second), paging) == (2, meta(5, page=2, limit=3, hasnext=False))
        assert {row[key] for row in first + second} == set(names)
        assert await v4.page(path, _page=9) == ([], meta(5, page=9, hasnext=False))
        for query, found in (
            ({key: "bob"}, {"bob"}),
            ({key: "bo"}, set()),
            ({f"_like_{key}": "b"}, {"bob", "bo.b", "a%b"}),
            ({f"_like_{key}": "al"}, {"alice"}),
            ({f"_like_{key}": "."}, {"bo.b"}),
            ({f"_like_{key}": "%"}, {"a%b"}),
            ({key: "alice", f"_like_{key}": "bob"}, {"alice"}),
        ):
            rows, paging = await v4.page(path, **query)
            assert {row[key] for row in rows} == found, query
            assert paging == meta(-1, hasnext=False)
        rows, paging = await v4.page(path, **{f"_like_{key}": "b", "_limit": 2})
        assert (len(rows), paging) == (2, meta(-1, limit=2, hasnext=True))
        rows, paging = await v4.page(path, other="x")
        assert (len(rows), paging) == (5, meta(5, hasnext=False))
        await v4.fails(108, None, "GET", path, _limit="x")


@shows("POST /api/v4/auth_username", "PUT /api/v4/auth_username/:username", "DELETE /api/v4/auth_username/:username")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_user_names_are_looked_up(level: int, autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await v4.load()
        await add(v4, "/auth_username", "username", "u1", "old")
        assert await accepted(v4, "c1", "u1", "old", level)
        assert not await accepted(v4, "c1", "u1", "new", level)
        assert not await accepted(v4, "c1", "u1", "", level)
        await v4.done("PUT", "/auth_username/u1", {"password": "new"})
        assert await accepted(v4, "c1", "u1", "new", level)
        assert not await accepted(v4, "c1", "u1", "old", level)
        await v4.done("DELETE", "/auth_username/u1")
        await add(v4, "/auth_username", "username", "u1", "third")
        assert await accepted(v4, "c1", "u1", "third", level)


@shows("POST /api/v4/auth_clientid", "PUT /api/v4/auth_clientid/:clientid")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_client_ids_are_looked_up(level: int, autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await v4.load()
        await add(v4, "/auth_clientid", "clientid", "c1", "old")
        assert await accepted(v4, "c1", "anyone", "old", level)
        assert not await accepted(v4, "c1", "anyone", "new", level)
        await v4.done("PUT", "/auth_clientid/c1", {"password": "new"})
        assert await accepted(v4, "c1", "anyone", "new", level)
        assert not await accepted(v4, "c1", "anyone", "old", level)


@shows("POST /api/v4/auth_clientid", "POST /api/v4/auth_username")
async def test_one_password_that_matches_accepts(autojump_clock: MockClock) -> None:
    async with version_4() as v4:
        await v4.load()
        await add(v4, "/auth_clientid", "clientid", "c1", "of the client")
        await add(v4, "/auth_username", "username", "u1", "of the user")
        assert not await accepted(v4, "c1", "u1", "of nobody")
        found = [await accepted(v4, "c1", "u1", f"of the {whom}") for whom in ("user", "client")]
        assert found == [True, True]


@shows("POST /api/v4/auth_username")
@pytest.mark.parametrize("level", [4, 5])
async def test_who_has_no_entry_is_refused_when_nobody_else_is_asked(level: int, autojump_clock: MockClock) -> None:
    """EMQX 4 lets them in unless told otherwise (`allow_anonymous`); here a chain that has authenticators decides."""
    async with version_4() as v4:
        assert await accepted(v4, "c0", None, None, level)  # everybody may, without the plugin
        await v4.load()
        await add(v4, "/auth_username", "username", "u1", "p1")
        assert not await accepted(v4, "c2", "nobody", "x", level)
        assert not await accepted(v4, "c3", None, None, level)
        assert await accepted(v4, "c4", "u1", "p1", level)


@shows("POST /api/v4/auth_username", "GET /api/v4/auth_username/:username")
async def test_users_are_kept(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    rows: list[Any] = []
    async with version_4(store) as v4:
        await v4.load()
        for path, key in TABLES:
            await add(v4, path, key, "x1")
            rows.append(await v4.data(f"{path}/x1"))
    async with version_4(store) as v4:
        assert [await v4.data(f"{path}/x1") for path, _ in TABLES] == rows
        assert await accepted(v4, "x1", None, "p")
        assert not await accepted(v4, "x1", None, "q")


@shows("POST /api/v4/auth_username", "GET /api/v4/auth_username")
async def test_the_same_under_the_prefix_of_the_cloud(autojump_clock: MockClock) -> None:
    async with version_4(cloud=True) as v4:
        await v4.load()
        base = "http://broker/api"
        await v4.done("POST", f"{base}/auth_username", {"username": "emqx_u", "password": "emqx_p"})
        assert await v4.listed(f"{base}/auth_username", "username") == ["emqx_u"]
        assert await v4.listed("/auth_username", "username") == ["emqx_u"]
        rule = {"username": "emqx_u", "topic": "Topic/A", "action": "pub", "access": "allow"}
        answer = await v4.ask("POST", f"{base}/acl", rule)
        assert answer == {"code": 0, "data": rule | {"result": "ok"}}
        assert await v4.data(f"{base}/acl/username/emqx_u") == [rule]
        assert await v4.data(f"{base}/clients/nobody") == []
        await v4.done("POST", f"{base}/mqtt/publish", {"topic": "a", "payload": "x"})
        await v4.done("DELETE", f"{base}/acl/all/$all/topic/x")
        assert await v4.page(f"{base}/banned") == ([], meta(0))
    async with version_4() as v4:
        await v4.missing("GET", "http://broker/api/clients")
