"""The REST contract, read afresh: dashboard users, their passwords, who may not go, and wrong logins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from api.live import PASSWORD, Bearer, Live, running
from api.operations import shows
from review.contract import done, failed, invalid
from review.credentials import (
    KEYS,
    USERS,
    WEAK_USER,
    bad_token,
    cheap_hashes,
    deleted,
    got_as,
    later,
    login,
    new_password,
    new_user,
    token,
    works,
)
from trio.testing import MockClock

from trio_broker.config import Config, DashboardConfig
from trio_broker.store.memory import MemoryStore
from trio_broker.store.sqlite import SqliteStore

OTHER = "battery staple 2"
BAD_LOGIN = (401, "BAD_USERNAME_OR_PWD", "Auth failed")
BAD_NAME = "Bad Username. Only upper and lower case letters, numbers and underscores are supported"
BAD_LENGTH = "The range of password length is 8~64"
NO_USER = (404, "USER_NOT_FOUND", "username_not_found")
JSON = {"content-type": "application/json"}


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_hashes(monkeypatch)


async def names(live: Live, boss: httpx.Auth) -> set[str]:
    return {user["username"] for user in await got_as(live, USERS, boss)}


@shows("GET /users", "POST /users")
async def test_users_are_made_and_listed(autojump_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        body = {"username": "vera_1", "password": PASSWORD, "description": "looks", "role": "viewer"}
        answer = await live.api.post(USERS, json=body, auth=boss)
        assert answer.status_code == 200
        vera = {"username": "vera_1", "description": "looks", "role": "viewer", "backend": "local"}
        assert answer.json() == vera
        assert await new_user(live, boss, "A") == {
            "username": "A",
            "description": "",
            "role": "administrator",
            "backend": "local",
        }
        rows = await got_as(live, USERS, boss)
        assert isinstance(rows, list)
        assert vera in rows
        assert {row["username"] for row in rows} == {"boss", "vera_1", "A"}
        assert all(row.keys() == vera.keys() for row in rows)
        assert await got_as(live, f"{USERS}?page=2&limit=1", boss) == rows


@shows("POST /users", "POST /login")
async def test_a_user_is_there_once() -> None:
    async with running() as live:
        boss = await live.log_in()
        await new_user(live, boss, "vera", role="viewer")
        body = {"username": "vera", "password": OTHER, "role": "administrator"}
        failed(await live.api.post(USERS, json=body, auth=boss), 400, "BAD_REQUEST", "username_already_exists")
        failed(await login(live, "vera", OTHER), *BAD_LOGIN)
        assert (await login(live, "vera")).json()["role"] == "viewer"
        await new_user(live, boss, "Vera")  # another one
        statuses = []

        async def make() -> None:
            answer = await live.api.post(USERS, json={"username": "race", "password": PASSWORD}, auth=boss)
            statuses.append(answer.status_code)

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(make)
        assert sorted(statuses) == [200] + [400] * 5


BAD_NAMES: list[Any] = [
    " ",
    "ve ra",
    "vera ",
    " vera",
    "vera\n",
    "vera\0",
    "ve-ra",
    "ve.ra",
    "ve/ra",
    "ve:ra",
    "v@era",
    "b\u043ess",  # a Cyrillic o
    "\uff42oss",  # full width
    "bo\u017f\u017f",  # upper() makes BOSS of it
    "boss\u200b",
    "b\u0308oss",
    "v\u0665",  # a digit, though not one of ASCII
    "' OR '1'='1",
    "a'; DROP TABLE users; --",
    'a","role":"administrator',
    "../../etc/passwd",
    "<script>",
    "${jndi:x}",
    "%s",
    "*",
]


@shows("POST /users")
async def test_names_that_are_bad(autojump_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        for name in BAD_NAMES:
            body = {"username": name, "password": PASSWORD}
            failed(await live.api.post(USERS, json=body, auth=boss), 400, "BAD_REQUEST", BAD_NAME)
            failed(await login(live, name), *BAD_LOGIN)
        assert await names(live, boss) == {"boss"}


@shows("POST /users")
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, None),
        ({"username": "vera"}, None),
        ({"password": PASSWORD}, None),
        ({"username": None, "password": PASSWORD}, None),
        ({"username": "", "password": PASSWORD}, "Username or password undefined"),
        ({"username": "vera", "password": ""}, "Username or password undefined"),
        ({"username": "x" * 101, "password": PASSWORD}, None),
        ({"username": "x" * 1_000_000, "password": PASSWORD}, None),
        ({"username": ["vera"], "password": PASSWORD}, None),
        ({"username": {"$ne": None}, "password": PASSWORD}, None),
        ({"username": 7, "password": PASSWORD}, None),
        ({"username": "vera", "password": 1234567890}, None),
        ({"username": "vera", "password": ["correct horse 1"]}, None),
        ({"username": "vera", "password": "short 1"}, BAD_LENGTH),
        ({"username": "vera", "password": "long 1" + "x" * 59}, BAD_LENGTH),
        ({"username": "vera", "password": "1" * 10_000_000}, None),
        ({"username": "vera", "password": "onlyletters"}, None),
        ({"username": "vera", "password": "1234567890"}, None),
        ({"username": "vera", "password": "!!!???!!!"}, None),
        ({"username": "vera", "password": "p\u00e4sswort 1"}, None),
        ({"username": "vera", "password": "\uff11\uff12\uff13abcdef1"}, None),
        ({"username": "vera", "password": PASSWORD, "role": "publisher"}, None),
        ({"username": "vera", "password": PASSWORD, "role": "root"}, None),
        ({"username": "vera", "password": PASSWORD, "role": ""}, None),
        ({"username": "vera", "password": PASSWORD, "role": 1}, None),
        ({"username": "vera", "password": PASSWORD, "description": 1}, None),
        ({"username": "vera", "password": PASSWORD, "backend": "ldap"}, None),
    ],
)
async def test_users_that_are_refused(body: dict[str, Any], message: str | None, autojump_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        answer = await live.api.post(USERS, json=body, auth=boss)
        assert failed(answer, 400, "BAD_REQUEST", message)
        assert len(answer.text) < 2000
        assert str(body.get("password") or PASSWORD) not in answer.text
        assert await names(live, boss) == {"boss"}


@shows("POST /users")
async def test_fields_that_are_not_known_are_refused(autojump_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        body = {"username": "vera", "password": PASSWORD, "colour": "red"}
        invalid(await live.api.post(USERS, json=body, auth=boss), "root", "unknown_fields")
        body = {"description": "", "username": "eve"}
        invalid(await live.api.put(f"{USERS}/boss", json=body, auth=boss), "root", "unknown_fields")


@shows("POST /users", "POST /login")
@pytest.mark.parametrize(
    "password", ["abcdefg1", "abcdefg!", "1234567!", "x1" * 32, "a:b:c:d:1", "\"'\\;:--1", "******a1"]
)
async def test_passwords_that_are_good(password: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        await new_user(live, await live.log_in(), "x" * 100, password=password)
        assert await works(live, await token(live, "x" * 100, password))
        for wrong in (password[:-1], password + "x", password.swapcase() + "1", password + " "):
            failed(await login(live, "x" * 100, wrong), *BAD_LOGIN)
            assert await works(live, await token(live, "x" * 100, password))


@shows("POST /login", "POST /users/:username/change_pwd")
@pytest.mark.parametrize("more", ["\0", "\0\0\0"])
async def test_a_password_with_nul_behind_it_is_another(more: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        failed(await new_password(live, boss, "boss", PASSWORD + more, OTHER), 400, "ERROR_PWD_NOT_MATCH")
        failed(await login(live, "boss", PASSWORD + more), *BAD_LOGIN)


@shows("PUT /users/:username")
async def test_a_user_is_changed(autojump_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        user = await new_user(live, boss, role="viewer", description="one")
        vera = await token(live, "vera")

        async def change(username: str = "vera", **fields: Any) -> httpx.Response:
            return await live.api.put(f"{USERS}/{username}", json=fields, auth=boss)

        answer = await change(description="two")
        assert answer.status_code == 200
        assert answer.json() == user | {"description": "two"}
        assert answer.json() in await got_as(live, USERS, boss)
        assert await works(live, vera)
        for body in ({}, {"role": "viewer"}, {"description": None}, {"description": 5}):
            failed(await change(**body), 400, "BAD_REQUEST")
        for role in ("publisher", "", "ADMINISTRATOR", 1, ["administrator"]):
            failed(await change(description="three", role=role), 400, "BAD_REQUEST")
        for name in ("nobody", "Vera", "vera%20", "vera%00", "ver%D0%B0", "x" * 5000, "%27%20OR%201%3D1"):
            failed(await change(name, description="three"), *NO_USER)
        assert answer.json() in await got_as(live, USERS, boss)
        assert (await change(description="", role="administrator")).json() == user | {
            "description": "",
            "role": "administrator",
        }
        bad_token(await live.api.get(USERS, auth=vera))  # as documented: another role ends them
        vera = await token(live, "vera")
        assert (await change("boss", description="", role="viewer")).status_code == 200
        failed(await live.api.put(f"{USERS}/vera", json={"description": ""}, auth=await token(live, "boss")), 403,
               "UNAUTHORIZED_ROLE", WEAK_USER)  # fmt: skip
        failed(await live.api.put(f"{USERS}/vera", json={"description": "", "role": "viewer"}, auth=vera), 400,
               "NOT_ALLOWED")  # fmt: skip


@shows("DELETE /users/:username")
async def test_a_user_is_deleted(autojump_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        await new_user(live, boss)
        vera = await token(live, "vera")
        done(await live.api.delete(f"{USERS}/vera", auth=boss))
        bad_token(await live.api.get(USERS, auth=vera))
        failed(await login(live, "vera"), *BAD_LOGIN)
        failed(await live.api.delete(f"{USERS}/vera", auth=boss), *NO_USER)
        await new_user(live, boss)
        bad_token(await live.api.get(USERS, auth=vera))  # it was that of another vera
        for name in ("nobody", "Vera", "vera%00", "%2E%2E", "x" * 5000):
            url = httpx.URL("http://broker/x").copy_with(raw_path=f"/api/v5{USERS}/{name}".encode())
            failed(await live.api.delete(url, auth=boss), *NO_USER)
        assert await names(live, boss) == {"boss", "vera"}


@shows("DELETE /users/:username", "PUT /users/:username")
async def test_who_cannot_go(autojump_clock: MockClock) -> None:
    async with running() as live:
        boss, admin = await live.log_in(), await live.log_in("admin")
        for auth in (boss, admin):
            answer = await live.api.delete(f"{USERS}/admin", auth=auth)
            failed(answer, 400, "NOT_ALLOWED", 'Cannot delete user <<"admin">>')
        failed(await live.api.delete(f"{USERS}/boss", auth=boss), 400, "NOT_ALLOWED", "Cannot delete self")
        assert await names(live, boss) == {"boss", "admin"}
        assert await works(live, boss)
    async with running(Config(dashboard=DashboardConfig(default_username="chief"))) as live:
        boss = await live.log_in()
        await live.log_in("chief")
        await live.log_in("admin")
        answer = await live.api.delete(f"{USERS}/chief", auth=boss)
        failed(answer, 400, "NOT_ALLOWED", 'Cannot delete user <<"chief">>')
        done(await live.api.delete(f"{USERS}/admin", auth=boss))


@shows("DELETE /users/:username", "PUT /users/:username")
@pytest.mark.parametrize("method", ["DELETE", "PUT"])
async def test_one_administrator_stays(method: str) -> None:
    async with running() as live:
        tokens = {name: await live.log_in(name) for name in ("a", "b", "c")}

        async def end(by: str, whom: str) -> None:
            body = {"description": "", "role": "viewer"} if method == "PUT" else None
            answer = await live.api.request(method, f"{USERS}/{whom}", json=body, auth=tokens[by])
            assert answer.status_code in (200, 204, 400, 401, 403, 404)

        async with trio.open_nursery() as nursery:
            for by, whom in [("a", "b"), ("b", "c"), ("c", "a"), ("b", "a"), ("c", "b"), ("a", "c")]:
                nursery.start_soon(end, by, whom)
        left = [name for name in tokens if (await login(live, name)).status_code == 200]
        roles = [(await login(live, name)).json()["role"] for name in left]
        assert roles.count("administrator") == 1


@shows("POST /users/:username/change_pwd")
async def test_another_password(autojump_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        await new_user(live, boss, role="viewer")
        vera, too = await token(live, "vera"), await token(live, "vera")
        message = "Old password not match"
        failed(await new_password(live, vera, "vera", OTHER, OTHER), 400, "ERROR_PWD_NOT_MATCH", message)
        failed(await new_password(live, boss, "nobody", PASSWORD, OTHER), 404, "USER_NOT_FOUND", "User not found")
        failed(await new_password(live, vera, "boss", PASSWORD, OTHER), 403, "UNAUTHORIZED_ROLE", WEAK_USER)
        for name in ("Vera", "vera%00", "vera%20", "ver%D0%B0", "boss%2F..%2Fvera"):
            answer = await new_password(live, vera, name, PASSWORD, OTHER)
            assert answer.status_code in (403, 404), name
        for bad in (
            "short 1",
            "x1" * 33,
            "onlyletters",
            "1234567890",
            "p\u00e4sswort 1",
            "",
            None,
            12345678,
            ["a1!bcdefg"],
        ):
            failed(await new_password(live, vera, "vera", PASSWORD, bad), 400, "BAD_REQUEST")
        for old in (None, 5, [PASSWORD], {"$ne": ""}):
            failed(await new_password(live, vera, "vera", old, OTHER), 400, "BAD_REQUEST")
        assert await works(live, vera)
        done(await new_password(live, vera, "vera", PASSWORD, OTHER))
        bad_token(await live.api.get(USERS, auth=vera))
        bad_token(await live.api.get(USERS, auth=too))
        assert await works(live, boss)
        failed(await login(live, "vera"), *BAD_LOGIN)
        assert (await login(live, "vera", OTHER)).json()["role"] == "viewer"
        done(await new_password(live, boss, "vera", OTHER, PASSWORD))
        failed(await login(live, "vera", OTHER), *BAD_LOGIN)
        done(await new_password(live, boss, "boss", PASSWORD, OTHER))
        bad_token(await live.api.get(USERS, auth=boss))
        assert await works(live, await token(live, "boss", OTHER))


@shows("POST /users/:username/change_pwd")
async def test_guessing_the_old_password(mock_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        await new_user(live, boss)
        for index in range(20):
            answer = await new_password(live, boss, "vera", f"guess number {index}", OTHER)
            assert (answer.status_code, answer.json()["code"]) in [(400, "ERROR_PWD_NOT_MATCH"), (401, "LOGIN_LOCKED")]
        assert await works(live, boss)
        await later(mock_clock, 601)
        failed(await login(live, "vera", OTHER), *BAD_LOGIN)
        assert await works(live, await token(live, "vera"))


@shows("POST /users/:username/change_pwd", "POST /login", "DELETE /users/:username")
@pytest.mark.parametrize("turn", range(4))
async def test_nothing_slips_through_between(turn: int) -> None:
    """A login with the old password at the time of the change: its token ends, or there is none."""
    async with running() as live:
        boss = await live.log_in()
        await new_user(live, boss)
        found: list[httpx.Response] = []

        async def log_in() -> None:
            found.append(await login(live, "vera"))

        async def change(new: str) -> None:
            changed.append((await new_password(live, boss, "vera", PASSWORD, new)).status_code)

        changed: list[int] = []
        async with trio.open_nursery() as nursery:
            for index in range(4):
                if index == turn:
                    nursery.start_soon(change, "first of them 1")
                    nursery.start_soon(change, "second of them 2")
                nursery.start_soon(log_in)
        assert sorted(changed) == [204, 400]
        for answer in found:
            assert answer.status_code == 401 or not await works(live, Bearer(answer.json()["token"]))
        found.clear()
        await deleted(live, boss, f"{USERS}/vera")
        await new_user(live, boss)
        async with trio.open_nursery() as nursery:
            for index in range(4):
                if index == turn:
                    nursery.start_soon(deleted, live, boss, f"{USERS}/vera")
                nursery.start_soon(log_in)
        for answer in found:
            assert answer.status_code == 401 or not await works(live, Bearer(answer.json()["token"]))


@shows("POST /users", "POST /api_key")
@pytest.mark.parametrize(
    "text", ["", "ä€😀", "\u202egnp.exe", "\0", "a\nb\tc\r\x7f", "'\"\\; DROP TABLE users; --", "x" * 500]
)
async def test_texts_for_people_are_kept_as_they_are(text: str, autojump_clock: MockClock) -> None:
    """Where they are taken at all."""
    store = MemoryStore()
    async with running(store=store) as live:
        boss = await live.log_in()
        body = {"username": "vera", "password": PASSWORD, "description": text}
        answers = [
            await live.api.post(USERS, json=body, auth=boss),
            await live.api.post(KEYS, json={"name": "k1", "desc": text}, auth=boss),
        ]
        assert {answer.status_code for answer in answers} <= {200, 400}
    async with running(store=store) as live:
        boss = await live.log_in()
        shown = [row["description"] for row in await got_as(live, USERS, boss) if row["username"] == "vera"]
        shown += [row["desc"] for row in await got_as(live, KEYS, boss) if row["name"] == "k1"]
        assert shown == [text for answer in answers if answer.status_code == 200]
        assert text not in ("", "ä€😀") or len(shown) == 2


@shows("POST /users", "PUT /users/:username", "DELETE /users/:username", "POST /users/:username/change_pwd")
@pytest.mark.parametrize("kind", ["memory", "disk"])
async def test_users_after_a_restart(kind: str, tmp_path: Path, autojump_clock: MockClock) -> None:
    memory = MemoryStore()
    async with running(store=memory if kind == "memory" else SqliteStore(tmp_path)) as live:
        boss = await live.log_in()
        for name in ("vera", "gone", "more"):
            await new_user(live, boss, name, role="viewer", description="ä")
        await deleted(live, boss, f"{USERS}/gone")
        await live.api.put(f"{USERS}/more", json={"description": "b", "role": "administrator"}, auth=boss)
        done(await new_password(live, boss, "vera", PASSWORD, OTHER))
        before = await got_as(live, USERS, boss)
    if kind == "disk":
        content = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert not any(secret.encode() in content for secret in (PASSWORD, OTHER, boss.token))
    async with running(store=memory if kind == "memory" else SqliteStore(tmp_path)) as live:
        assert not await works(live, boss)
        boss = await token(live, "boss")
        assert sorted(await got_as(live, USERS, boss), key=str) == sorted(before, key=str)
        assert (await login(live, "more")).json()["role"] == "administrator"
        failed(await login(live, "gone"), *BAD_LOGIN)
        failed(await login(live, "vera"), *BAD_LOGIN)
        assert (await login(live, "vera", OTHER)).json()["role"] == "viewer"
