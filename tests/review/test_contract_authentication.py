"""The REST contract, read afresh: the users of the built-in database, and what becomes of their clients."""

from __future__ import annotations

from typing import Any

import pytest
from api.live import Live, running
from api.operations import shows
from review.authn import (
    BAD_USER,
    BOTH_BAD,
    BOTH_IN,
    IN,
    JWT,
    LEVELS,
    NOT_AUTHORIZED,
    PASSWORD_ID,
    PASSWORDS,
    SCRAM,
    SCRAM_ID,
    USERS,
    add,
    code,
    codes,
    deny_the_rest,
    ended,
    may,
    may_subscribe,
    path,
    stays,
    token,
    user,
)
from review.contract import KEPT, done, failed, got, invalid, listed

from trio_broker.store.memory import MemoryStore

ROW = {"user_id": "u1", "password": "p1"}
OPERATIONS: list[tuple[str, tuple[str, ...], Any]] = [
    ("GET", ("users",), None),
    ("POST", ("users",), ROW),
    ("GET", ("users", "u1"), None),
    ("PUT", ("users", "u1"), {"password": "p1"}),
    ("DELETE", ("users", "u1"), None),
    ("POST", ("import_users",), [ROW]),
]


async def ids(live: Live, **query: Any) -> set[str]:
    return await listed(live, USERS, "user_id", **query)


@pytest.mark.parametrize(("method", "more", "body"), OPERATIONS)
@shows(
    "GET /authentication/:id/users",
    "POST /authentication/:id/users",
    "GET /authentication/:id/users/:user_id",
    "PUT /authentication/:id/users/:user_id",
    "DELETE /authentication/:id/users/:user_id",
    "POST /authentication/:id/import_users",
)
async def test_without_the_authenticator(method: str, more: tuple[str, ...], body: Any) -> None:
    async with running() as live:
        for authenticator in (PASSWORD_ID, SCRAM_ID):
            answer = await live.api.request(method, path(authenticator, *more), json=body)
            failed(answer, 404, "NOT_FOUND", "Authenticator not found in the 'global' scope")
        await add(live, JWT)
        for authenticator in (PASSWORD_ID, SCRAM_ID, "nonsense"):
            answer = await live.api.request(method, path(authenticator, *more), json=body)
            failed(answer, 404, "NOT_FOUND", f"Authenticator '{authenticator}' does not exist")
        answer = await live.api.request(method, path("jwt", *more), json=body)
        failed(answer, 400, "BAD_REQUEST", "User error: unsupported_operation")


async def test_who_may() -> None:
    async with running() as live:
        await add(live, PASSWORDS)
        for method, more, body in OPERATIONS:
            where = path(PASSWORD_ID, *more)
            failed(await live.api.request(method, where, json=body, auth=None), 401, "AUTHORIZATION_HEADER_ERROR")
            answer = await live.api.request(method, where, json=body, auth=live.as_viewer())
            if method == "GET":
                assert answer.status_code in (200, 404)
            else:
                failed(answer, 403, "UNAUTHORIZED_ROLE")
        assert await ids(live) == set()


@pytest.mark.parametrize("authenticator", [PASSWORD_ID, SCRAM_ID])
@shows(
    "POST /authentication/:id/users",
    "GET /authentication/:id/users/:user_id",
    "PUT /authentication/:id/users/:user_id",
    "DELETE /authentication/:id/users/:user_id",
)
async def test_the_life_of_a_user(authenticator: str) -> None:
    async with running() as live:
        await add(live, PASSWORDS, SCRAM)
        for prefix in (f"/authentication/{authenticator}", path(authenticator)):
            users, one = f"{prefix}/users", f"{prefix}/users/u1"
            answer = await live.api.post(users, json=ROW)
            assert (answer.status_code, answer.json()) == (201, {"user_id": "u1", "is_superuser": False})
            failed(await live.api.post(users, json=ROW), 409, "ALREADY_EXISTS", "User already exists")
            assert await got(live, one) == {"user_id": "u1", "is_superuser": False}

            answer = await live.api.put(one, json={"password": "p2", "is_superuser": True})
            assert (answer.status_code, answer.json()) == (200, {"user_id": "u1", "is_superuser": True})
            answer = await live.api.put(one, json={"password": "p3"})
            assert (answer.status_code, answer.json()) == (200, {"user_id": "u1", "is_superuser": True})  # as stored
            answer = await live.api.put(one, json={"password": "p3", "is_superuser": False})
            assert (answer.status_code, answer.json()) == (200, {"user_id": "u1", "is_superuser": False})

            done(await live.api.delete(one))
            for answer in (
                await live.api.get(one),
                await live.api.put(one, json={"password": "p"}),
                await live.api.delete(one),
            ):
                failed(answer, 404, "NOT_FOUND", "User not found")


BAD_USERS: list[tuple[dict[str, Any] | None, str]] = [
    ({}, "root."),
    ({"user_id": "x"}, "root.password"),
    ({"password": "x"}, "root.user_id"),
    ({"user_id": None, "password": "x"}, "root.user_id"),
    ({"user_id": "x", "password": None}, "root.password"),
    ({"user_id": 7, "password": "x"}, "root.user_id"),
    ({"user_id": "x", "password": ["x"]}, "root.password"),
    ({"user_id": "x", "password": "x", "is_superuser": "perhaps"}, "root.is_superuser"),
    ({"user_id": "x", "password": "x", "more": 1}, "root"),
    (None, "root."),
]


@shows("POST /authentication/:id/users")
async def test_users_that_cannot_be() -> None:
    async with running() as live:
        await add(live, PASSWORDS, SCRAM)
        for authenticator in (PASSWORD_ID, SCRAM_ID):
            for body, where in BAD_USERS:
                answer = await live.api.post(path(authenticator, "users"), json=body)
                if body:
                    invalid(answer, where)
                else:
                    assert where in failed(answer, 400, "BAD_REQUEST")
            assert await listed(live, path(authenticator, "users"), "user_id") == set()


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "root.password"),
        ({"is_superuser": True}, "root.password"),
        ({"password": 7}, "root.password"),
        ({"password": "x", "is_superuser": []}, "root.is_superuser"),
    ],
)
@shows("PUT /authentication/:id/users/:user_id")
async def test_updates_that_cannot_be(body: dict[str, Any], where: str) -> None:
    async with running() as live:
        await add(live, PASSWORDS)
        await user(live, "u1", "p1")
        invalid(await live.api.put(f"{USERS}/u1", json=body), where)
        assert await got(live, f"{USERS}/u1") == {"user_id": "u1", "is_superuser": False}
        assert await codes(live, "u1", "p1") == BOTH_IN


@shows("GET /authentication/:id/users")
async def test_the_list_of_users() -> None:
    async with running() as live:
        await add(live, PASSWORDS, SCRAM)
        names = ["ann", "Anna", "anton", "bob", "a.b"]
        for name in names:
            await user(live, name, "p", superuser=name in ("bob", "anton"))
        await user(live, "another table", "p", at=SCRAM_ID)

        whole = await got(live, USERS)
        assert whole["meta"] == {"page": 1, "limit": 100, "count": 5, "hasnext": False}
        assert all(row.keys() == {"user_id", "is_superuser"} for row in whole["data"])
        assert {row["user_id"]: row["is_superuser"] for row in whole["data"]} == {
            name: name in ("bob", "anton") for name in names
        }
        found: list[str] = []
        for page, more in ((1, True), (2, True), (3, False), (4, False)):
            answer = await got(live, USERS, page=page, limit=2)
            assert answer["meta"] == {"page": page, "limit": 2, "count": 5, "hasnext": more}
            found += [row["user_id"] for row in answer["data"]]
        assert sorted(found) == sorted(names)

        assert await ids(live, like_user_id="an") == {"ann", "anton"}  # the case matters
        assert await ids(live, like_user_id="nn") == {"ann", "Anna"}
        assert await ids(live, like_user_id="a.b") == {"a.b"}
        assert await ids(live, like_user_id=".") == {"a.b"}  # no regular expression
        assert await ids(live, like_user_id="zz") == set()
        assert await ids(live, is_superuser="true") == {"bob", "anton"}
        assert await ids(live, is_superuser="false") == {"ann", "Anna", "a.b"}
        assert await ids(live, like_user_id="n", is_superuser="true") == {"anton"}
        assert await ids(live, unknown="x") == set(names)
        assert (await got(live, USERS, is_superuser="true"))["meta"]["count"] == 2
        assert (await got(live, USERS, like_user_id="an", limit=1))["meta"] == {"page": 1, "limit": 1, "hasnext": True}


@shows("GET /authentication/:id/users")
async def test_bad_questions() -> None:
    async with running() as live:
        await add(live, PASSWORDS)
        for name, value in (("page", 0), ("limit", 0), ("limit", 10001), ("page", "x"), ("is_superuser", "so")):
            invalid(await live.api.get(USERS, params={name: value}), name)


@pytest.mark.parametrize("kind", ["username", "clientid"])
@shows("POST /authentication")
async def test_who_is_looked_up(kind: str) -> None:
    async with running() as live:
        await add(live, PASSWORDS, user_id_type=kind)
        await user(live, "me", "right")
        by_name, by_id = (BOTH_IN, BOTH_BAD) if kind == "username" else (BOTH_BAD, BOTH_IN)
        assert await codes(live, "me", "right", client_id="another") == by_name
        assert await codes(live, "another", "right", client_id="me") == by_id
        assert await codes(live, "me", "wrong", client_id="me") == BOTH_BAD
        assert await codes(live, "me", "", client_id="me") == BOTH_BAD
        assert await codes(live, "me", None, client_id="me") == BOTH_BAD  # no password: rejected
        assert await codes(live, None, None, client_id="me") == BOTH_BAD
        assert await code(live, None, "right", client_id="me") == (BAD_USER if kind == "username" else IN)


@shows("PUT /authentication/:id/users/:user_id")
async def test_a_new_password_holds_for_the_next_connect() -> None:
    async with running() as live:
        await add(live, PASSWORDS)
        await user(live, "u1", "old")
        for level in LEVELS:
            connected = await live.connect(f"here{level}", username="u1", password=b"old", level=level)
            assert (await live.api.put(f"{USERS}/u1", json={"password": "new"})).status_code == 200
            await stays(connected)
            assert await codes(live, "u1", "old") == BOTH_BAD
            assert await codes(live, "u1", "new") == BOTH_IN
            assert (await live.api.put(f"{USERS}/u1", json={"password": "old"})).status_code == 200


@pytest.mark.parametrize("level", LEVELS)
@shows("DELETE /authentication/:id/users/:user_id")
async def test_a_user_that_is_deleted_is_thrown_out_and_keeps_the_session(level: int) -> None:
    """EMQX leaves such clients connected; the page on users says that this broker does not."""
    options: dict[str, Any] = KEPT if level == 5 else {"clean_start": False}
    async with running() as live:
        await add(live, PASSWORDS)
        await user(live, "u1", "p1")
        await user(live, "u2", "p2")
        gone = await live.connect("gone", username="u1", password=b"p1", level=level, **options)
        other = await live.connect("other", username="u2", password=b"p2", level=level)
        await gone.subscribe("t", 1)
        done(await live.api.delete(f"{USERS}/u1"))
        assert await ended(gone) == (NOT_AUTHORIZED if level == 5 else None)
        await stays(other)
        assert await codes(live, "u1", "p1") == BOTH_BAD
        client = await got(live, "/clients/gone")
        assert (client["connected"], client["subscriptions_cnt"]) == (False, 1)
        await user(live, "u1", "p3")
        back = await live.connect(
            "gone", username="u1", password=b"p3", level=level, **(options | {"clean_start": False})
        )
        assert (back.connack.reason_code, back.session_present) == (IN, True)


@pytest.mark.parametrize("kind", ["username", "clientid"])
async def test_only_those_are_thrown_out_who_came_as_this_user(kind: str) -> None:
    async with running() as live:
        await add(live, PASSWORDS, user_id_type=kind)
        await add(live, JWT)
        for name in ("me", "other"):
            await user(live, name, "p")
        by_table = await live.connect("me", username="me", password=b"p")
        same = await live.connect("me" if kind == "clientid" else "me2", username="me", password=b"p")
        by_token = await live.connect("token", username="me", password=token(sub="me").encode())
        if kind == "username":  # the table knows `me` and says no to the token: so ask in the other order
            assert by_token.connack.reason_code == BAD_USER
            done(await live.api.put(path("jwt", "position", "front")))
            by_token = await live.connect("token", username="me", password=token(sub="me").encode())
        other = await live.connect("other", username="me" if kind == "clientid" else "other", password=b"p")
        assert [one.connack.reason_code for one in (by_table, same, by_token, other)] == [IN] * 4
        done(await live.api.delete(f"{USERS}/me"))
        assert await ended(same) == NOT_AUTHORIZED
        if kind == "username":
            assert await ended(by_table) == NOT_AUTHORIZED
        await stays(by_token)
        await stays(other)


@shows("PUT /authentication/:id/users/:user_id")
async def test_a_superuser_may_everything_from_the_next_connect_on() -> None:
    async with running() as live:
        await add(live, PASSWORDS)
        await deny_the_rest(live)
        await user(live, "root", "p", superuser=True)
        await user(live, "u1", "p")
        root = await live.connect("root", username="root", password=b"p")
        u1 = await live.connect("u1", username="u1", password=b"p")
        assert (await may(root, "t/1"), await may_subscribe(root, "#")) == (True, True)
        assert (await may(u1, "t/1"), await may_subscribe(u1, "#")) == (False, False)
        for name, superuser in (("root", False), ("u1", True)):
            body = {"password": "p", "is_superuser": superuser}
            assert (await live.api.put(f"{USERS}/{name}", json=body)).status_code == 200
        assert (await may(root, "t/2"), await may(u1, "t/2")) == (True, False)
        root = await live.connect("root", username="root", password=b"p")
        u1 = await live.connect("u1", username="u1", password=b"p")
        assert (await may(root, "t/2"), await may(u1, "t/2")) == (False, True)


async def test_after_a_restart() -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        await add(live, PASSWORDS, SCRAM)
        for name in ("u1", "u2", "u3"):
            await user(live, name, "old", superuser=name == "u1")
        await user(live, "s1", "s", at=SCRAM_ID)
        assert (await live.api.put(f"{USERS}/u2", json={"password": "new"})).status_code == 200
        done(await live.api.delete(f"{USERS}/u3"))
    async with running(store=store) as live:
        assert await ids(live) == {"u1", "u2"}
        assert await ids(live, is_superuser="true") == {"u1"}
        assert await listed(live, path(SCRAM_ID, "users"), "user_id") == {"s1"}
        assert await codes(live, "u1", "old") == BOTH_IN
        assert await codes(live, "u2", "old") == BOTH_BAD
        assert await codes(live, "u2", "new") == BOTH_IN
        assert await codes(live, "u3", "old") == BOTH_BAD


@shows("DELETE /authentication/:id")
async def test_with_the_authenticator_go_its_users() -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        await add(live, PASSWORDS, SCRAM)
        await user(live, "u1", "p1")
        await user(live, "u1", "p1", at=SCRAM_ID)
        done(await live.api.delete(path(PASSWORD_ID)))
        await add(live, PASSWORDS)
        assert await ids(live) == set()
        assert await codes(live, "u1", "p1") == BOTH_BAD
        assert await listed(live, path(SCRAM_ID, "users"), "user_id") == {"u1"}
        await user(live, "u2", "p2")
        done(await live.api.delete(path(PASSWORD_ID)))
    async with running(store=store) as live:
        await add(live, PASSWORDS)
        assert await ids(live) == set()
        assert await codes(live, "u2", "p2") == BOTH_BAD
