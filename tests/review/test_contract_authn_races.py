"""The REST contract, read afresh: changes of authenticators and users at the same time, and what is told of secrets."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import trio
from api.live import Live, running
from review.authn import (
    BAD_USER,
    BOTH_BAD,
    BOTH_IN,
    IMPORT,
    IN,
    JWT,
    NOT_AUTHORIZED,
    PASSWORD_ID,
    PASSWORDS,
    SCRAM,
    SCRAM_ID,
    SECRET,
    USERS,
    add,
    answers,
    code,
    codes,
    deny_the_rest,
    ended,
    may,
    may_subscribe,
    now,
    path,
    stays,
    token,
    user,
)
from review.contract import done, got, listed
from trio.testing import MockClock

from trio_broker.protocol.packets import Connect
from trio_broker.testing import open_client

SLOW = PASSWORDS | {"password_hash_algorithm": {"name": "bcrypt", "salt_rounds": 8}}
ROW = {"user_id": "x", "password": "p"}


async def together(live: Live, *requests: tuple[str, str, Any], apart: float = 0.0) -> list[httpx.Response]:
    """The answers to requests that begin one after the other, and need not wait for each other."""
    got: dict[int, httpx.Response] = {}

    async def one(number: int, method: str, where: str, body: Any) -> None:
        got[number] = await live.api.request(method, where, json=body)

    async with trio.open_nursery() as nursery:
        for number, request in enumerate(requests):
            nursery.start_soon(one, number, *request)
            await trio.sleep(apart)
    return [got[number] for number in range(len(requests))]


@pytest.mark.parametrize("apart", [0.0, 0.005])
async def test_the_same_user_twice(apart: float) -> None:
    async with running() as live:
        await add(live, SLOW)
        for _ in range(3):
            rows = [{"user_id": "x", "password": password} for password in ("1", "2", "3")]
            made = await together(live, *(("POST", USERS, row) for row in rows), apart=apart)
            assert sorted(answer.status_code for answer in made) == [201, 409, 409]
            winner = next(row["password"] for row, answer in zip(rows, made, strict=True) if answer.status_code == 201)
            assert [await code(live, "x", password) for password in "123"] == [
                IN if password == winner else BAD_USER for password in "123"
            ]
            done(await live.api.delete(f"{USERS}/x"))


@pytest.mark.parametrize("apart", [0.0, 0.005])
async def test_a_user_who_is_deleted_while_the_password_changes_does_not_come_back(apart: float) -> None:
    async with running() as live:
        await add(live, SLOW)
        for _ in range(3):
            await user(live, "x", "p")
            put, deleted = await together(
                live, ("PUT", f"{USERS}/x", {"password": "n"}), ("DELETE", f"{USERS}/x", None), apart=apart
            )
            assert put.status_code in (200, 404)
            done(deleted)
            assert await listed(live, USERS, "user_id") == set()
            assert await codes(live, "x", "n") == BOTH_BAD


@pytest.mark.parametrize("apart", [0.0, 0.005])
@pytest.mark.parametrize(("where", "body"), [(USERS, ROW), (f"{IMPORT}?type=plain", [ROW, ROW | {"user_id": "y"}])])
async def test_users_made_while_the_authenticator_is_deleted_are_not_there_in_the_next_one(
    where: str, body: Any, apart: float
) -> None:
    """DELETE /authentication/:id deletes the stored users too, those that are on their way as well."""
    async with running() as live:
        await add(live, SLOW)
        made, deleted = await together(live, ("POST", where, body), ("DELETE", path(PASSWORD_ID), None), apart=apart)
        assert made.status_code in (200, 201, 404)
        done(deleted)
        await add(live, SLOW)
        assert await listed(live, USERS, "user_id") == set()
        assert await codes(live, "x", "p") == BOTH_BAD


async def test_a_user_who_is_deleted_while_the_password_is_looked_at_does_not_stay() -> None:
    async with running() as live:
        await add(live, SLOW)
        for number in range(4):
            await user(live, "u", "p")
            async with open_client(live.broker, connect=False) as client, trio.open_nursery() as nursery:
                nursery.start_soon(client.connect, Connect("c", username="u", password=b"p"))
                await trio.sleep(0.004 * number)
                done(await live.api.delete(f"{USERS}/u"))
                assert await ended(client) in (None, NOT_AUTHORIZED)
            assert (await live.api.get("/clients/c")).status_code == 404
            assert await code(live, "u", "p") == BAD_USER


async def test_an_authenticator_that_is_disabled_while_it_is_asked() -> None:
    """From its answer on it decides about nobody who comes; who was before it has either answer."""
    async with running() as live:
        await add(live, JWT, SLOW)
        await user(live, "u", "p")
        async with open_client(live.broker, connect=False) as client, trio.open_nursery() as nursery:
            nursery.start_soon(client.connect, Connect("c", username="u", password=b"p"))
            await trio.sleep(0.004)
            done(await live.api.put(path(PASSWORD_ID), json=PASSWORDS | {"enable": False}))
            assert [await code(live, "u", "p", "d", level) for level in (4, 5)] == [BAD_USER] * 2
        assert client.connack.reason_code in (IN, BAD_USER)


async def test_who_is_thrown_out_is_who_came_as_this_user_whatever_users_are_looked_up_by_now() -> None:
    """The page on users: connections end that were let in as this user by this authenticator."""
    async with running() as live:
        await add(live, PASSWORDS)
        await user(live, "me", "p")
        await user(live, "other", "p")
        me = await live.connect("x", username="me", password=b"p")
        other = await live.connect("me", username="other", password=b"p")
        done(await live.api.put(path(PASSWORD_ID), json=PASSWORDS | {"user_id_type": "clientid"}))
        done(await live.api.delete(f"{USERS}/me"))
        await stays(other)
        with trio.move_on_after(5):
            await ended(me)
        assert me.disconnected is not None
        assert me.disconnected.reason_code == NOT_AUTHORIZED


async def test_a_user_of_a_disabled_authenticator_is_thrown_out_too() -> None:
    async with running() as live:
        await add(live, PASSWORDS)
        await user(live, "u", "p")
        client = await live.connect("x", username="u", password=b"p")
        done(await live.api.put(path(PASSWORD_ID), json=PASSWORDS | {"enable": False}))
        await stays(client)
        done(await live.api.delete(f"{USERS}/u"))
        assert await ended(client) == NOT_AUTHORIZED


async def test_another_algorithm_does_not_fit_what_is_kept_until_it_is_back() -> None:
    async with running() as live:
        await add(live, PASSWORDS)
        await user(live, "u", "p")
        for name in ("bcrypt", "sha512", "md5", "sha", "plain", "pbkdf2"):
            more = {"pbkdf2": {"iterations": 1}}.get(name, {})
            done(
                await live.api.put(
                    path(PASSWORD_ID), json=PASSWORDS | {"password_hash_algorithm": {"name": name, **more}}
                )
            )
            assert (name, await code(live, "u", "p")) == (name, BAD_USER)
        done(await live.api.put(path(PASSWORD_ID), json=PASSWORDS))
        assert await codes(live, "u", "p") == BOTH_IN


async def test_rights_of_a_token_end_with_it(autojump_clock: MockClock) -> None:
    """As the page on tokens says of `disconnect_after_expire = false`."""
    async with running() as live:
        await deny_the_rest(live)
        await add(live, JWT, disconnect_after_expire=False)
        shown = token(exp=now() + 600, acl={"all": ["t/#"]})
        client = await live.connect("c", username="u", password=shown.encode())
        assert [await may(client, "t/1"), await may_subscribe(client, "t/2")] == [True, True]
        await trio.sleep(700)
        assert [await may(client, "t/1"), await may(client, "t/3")] == [False, False]
        assert [await may_subscribe(client, "t/2"), await may_subscribe(client, "t/4")] == [False, False]


async def test_names_of_certificates_that_are_not_there_are_equal_to_nothing() -> None:
    async with running() as live:
        await add(live, JWT, verify_claims={"x": "${cert_common_name}"})
        for claim in ("", "undefined", "null", "${cert_common_name}", None):
            assert await code(live, "u", token(x=claim)) == BAD_USER


async def test_a_ban_holds_for_the_name_that_the_token_says() -> None:
    async with running() as live:
        await add(live, JWT | {"from": "username"})
        for name in ("ann", "bob"):
            assert await codes(live, token(sub=name), None) == BOTH_IN
        assert (await live.api.post("/banned", json={"as": "username", "who": "ann"})).status_code == 200
        assert await codes(live, token(sub="ann"), None) == (NOT_AUTHORIZED, 0x8A)
        assert await codes(live, token(sub="bob"), None) == BOTH_IN


async def test_no_secret_is_logged_or_traced(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    tokens = [token(sub="me"), token("x" * 40, sub="me"), token(sub="me", exp=1), token(sub="me", acl=7)]
    secrets = ["hunter2", "hunter3-guess", SECRET, *tokens, *(one.split(".")[2] for one in tokens)]
    async with running() as live:
        trace = {"name": "t1", "type": "clientid", "clientid": "c"}
        assert (await live.api.post("/trace", json=trace)).status_code == 200
        await add(live, JWT, PASSWORDS, SCRAM)
        await user(live, "me", "hunter2")
        await user(live, "me", "hunter2", at=SCRAM_ID)
        for shown in ("hunter2", "hunter3-guess", *tokens):
            await codes(live, "me", shown)
        await answers(live, b"c", b"me\xff", b"hunter2", 5)
        for where, body in (
            (USERS, {"user_id": "a", "password": ["hunter2"]}),
            (f"{IMPORT}?type=plain", [{"user_id": "", "password": "hunter2"}]),
            (f"{IMPORT}?type=hash", [{"user_id": "z", "password_hash": "hunter2"}]),
            ("/authentication", JWT | {"secret": [SECRET]}),
        ):
            answer = await live.api.post(where, json=body)
            assert not [secret for secret in secrets if secret in answer.text]
        await code(live, "z", "hunter2")
        told = str(await got(live, "/trace/t1/log", bytes=1_000_000))
        assert "me" in told
        assert not [secret for secret in secrets if secret in told]
    assert not [secret for secret in secrets if secret in caplog.text]
