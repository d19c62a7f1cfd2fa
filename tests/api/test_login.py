"""Login, tokens and logout over REST, over a real broker."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import jwt
import pytest
import trio
from api.fake_questions import fake_core
from api.live import ADMIN, PASSWORD, Bearer, Live, running
from api.operations import shows
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_broker.actors import login_guard
from trio_broker.actors.api_keys import Role
from trio_broker.actors.dashboard_users import DashboardUsers, LoginLocked, WrongPassword
from trio_broker.actors.login_guard import LoginGuard, place_of
from trio_broker.actors.slow_hash import LONGEST, SlowHash
from trio_broker.api import tokens
from trio_broker.api.app import make_app
from trio_broker.api.failures import ApiError
from trio_broker.api.tokens import Tokens
from trio_broker.config import Config, DashboardConfig

BAD_TOKEN = (401, "BAD_TOKEN")
TIME_OUT = (401, "TOKEN_TIME_OUT")
GOOD = (200, "")
WRONG = (401, "BAD_USERNAME_OR_PWD")
LOCKED = (401, "LOGIN_LOCKED")


async def login(live: Live, username: str = "boss", password: str = PASSWORD, **more: Any) -> tuple[int, str]:
    client: httpx.AsyncClient = more.pop("client", live.api)
    answer = await client.request("POST", "/login", json={"username": username, "password": password} | more, auth=None)
    return answer.status_code, answer.json().get("code", "")


async def status(live: Live, auth: httpx.Auth, path: str = "/nodes") -> tuple[int, str]:
    answer = await live.api.get(path, auth=auth)
    return answer.status_code, "" if answer.status_code == 200 else answer.json()["code"]


@contextmanager
def at(live: Live, address: str) -> Iterator[httpx.AsyncClient]:
    """A client that comes from there; it gets tokens of its own."""
    app = make_app(live.broker.questions, started=lambda: True)
    transport = httpx.ASGITransport(app=app, client=(address, 1))  # type: ignore[arg-type]
    yield httpx.AsyncClient(transport=transport, base_url="http://broker/api/v5")


# -- login


@shows("POST /login")
async def test_a_password_is_good_for_a_token() -> None:
    async with running() as live:
        await live.log_in()
        answer = await live.api.request("POST", "/login", json={"username": "boss", "password": PASSWORD}, auth=None)
        body = answer.json()
        assert answer.status_code == 200
        assert body == {
            "token": body["token"],
            "version": "5.8.9",
            "license": {"edition": "opensource"},
            "role": "administrator",
            "trio_broker_version": live.broker.questions.broker_version,
        }
        assert jwt.get_unverified_header(body["token"]) == {"alg": "HS256", "typ": "JWT"}
        said = jwt.decode(body["token"], options={"verify_signature": False})
        assert (said["sub"], said["exp"] - said["iat"]) == ("boss", 3600)
        assert await status(live, Bearer(body["token"])) == GOOD
        header = {"Authorization": f"bEaReR  {body['token']} "}
        assert (await live.api.get("/nodes", headers=header, auth=None)).status_code == 200


@shows("POST /login")
async def test_a_wrong_password_and_a_user_that_there_is_not_are_told_the_same() -> None:
    async with running() as live:
        await live.log_in()
        answers = [
            await live.api.request("POST", "/login", json={"username": username, "password": password}, auth=None)
            for username, password in (("boss", PASSWORD + "x"), ("boss", ""), ("nobody", PASSWORD), ("", ""))
        ]
        for answer in answers:
            assert answer.status_code == 401
            assert answer.json() == {"code": "BAD_USERNAME_OR_PWD", "message": "Auth failed"}
            assert answer.headers == answers[0].headers


async def test_they_cost_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    verify = SlowHash.verify

    def counted(self: SlowHash, secret: str) -> bool:
        seen.append(secret)
        return verify(self, secret)

    monkeypatch.setattr(SlowHash, "verify", counted)
    users = DashboardUsers(fake_core())
    await users.create("boss", PASSWORD)
    for username in ("boss", "nobody", "boss", "nobody"):
        with pytest.raises(WrongPassword):
            await users.log_in(username, f"wrong for {username}")
    assert seen == ["wrong for boss", "wrong for nobody"] * 2


@shows("POST /login")
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"username": "boss"},
        {"password": PASSWORD},
        {"username": 1, "password": PASSWORD},
        {"username": "boss", "password": PASSWORD, "more": 1},
        {"username": "x" * 101, "password": PASSWORD},
        {"username": "boss", "password": "x" * 1025},
    ],
)
async def test_bodies_that_are_refused(api: httpx.AsyncClient, body: dict[str, Any]) -> None:
    answer = await api.request("POST", "/login", json=body, auth=None)
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")


@shows("POST /login")
async def test_a_body_of_a_stranger_is_small(api: httpx.AsyncClient) -> None:
    async def chunked() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 4096

    for content in (b" " * 65_537, chunked()):
        answer = await api.post("/login", content=content, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (413, "EXCEED_LIMIT")


async def test_a_password_is_no_key_and_a_key_no_password() -> None:
    async with running() as live:
        await live.log_in()
        answer = await live.api.get("/nodes", auth=("boss", PASSWORD))
        assert (answer.status_code, answer.json()["code"]) == (401, "BAD_API_KEY_OR_SECRET")
        assert await login(live, *ADMIN) == WRONG


@shows("POST /login")
async def test_a_viewer_is_told_that_it_is_one() -> None:
    async with running() as live:
        viewer = await live.log_in("vera", Role.VIEWER)
        answer = await live.api.request("POST", "/login", json={"username": "vera", "password": PASSWORD}, auth=None)
        assert answer.json()["role"] == "viewer"
        assert await status(live, viewer) == GOOD
        answer = await live.api.delete("/clients/c1", auth=viewer)
        assert answer.status_code == 403
        assert answer.json() == {
            "code": "UNAUTHORIZED_ROLE",
            "message": "You don't have permission to access this resource",
        }
        answer = await live.api.post("/publish", json={}, auth=viewer)
        assert answer.status_code == 403


# -- too many wrong ones


@shows("POST /login")
async def test_many_wrong_passwords_lock_a_name_from_one_address(mock_clock: MockClock) -> None:
    async with running() as live:
        await live.log_in()
        for _ in range(5):
            assert await login(live, password="wrong-1") == WRONG
        assert await login(live) == LOCKED
        answer = await live.api.request("POST", "/login", json={"username": "boss", "password": PASSWORD}, auth=None)
        assert answer.json() == {"code": "LOGIN_LOCKED", "message": "Login locked"}
        # Nobody else is locked out by it, nor the same user elsewhere.
        assert await login(live, "nobody") == WRONG
        with at(live, "10.0.0.9") as elsewhere:
            assert await login(live, client=elsewhere) == GOOD
        mock_clock.jump(599)
        assert await login(live) == LOCKED
        mock_clock.jump(2)
        assert await login(live) == GOOD


async def test_a_name_that_is_nobodys_is_locked_too() -> None:
    """Or it would tell who is somebody."""
    async with running() as live:
        for _ in range(5):
            assert await login(live, "nobody") == WRONG
        assert await login(live, "nobody") == LOCKED


async def test_a_right_password_and_time_make_good(mock_clock: MockClock) -> None:
    async with running() as live:
        await live.log_in()
        for _ in range(3):
            for _ in range(4):
                assert await login(live, password="wrong-1") == WRONG
            assert await login(live) == GOOD
        for _ in range(4):
            assert await login(live, password="wrong-1") == WRONG
        mock_clock.jump(301)
        for _ in range(4):
            assert await login(live, password="wrong-1") == WRONG
        assert await login(live) == GOOD


@shows("POST /users/:username/change_pwd")
async def test_another_password_unlocks() -> None:
    async with running() as live:
        boss = await live.log_in()
        for _ in range(5):
            await login(live, "vera")
        await live.api.post("/users", json={"username": "vera", "password": PASSWORD}, auth=boss)
        assert await login(live, "vera") == GOOD
        for _ in range(5):
            await login(live, "vera", "wrong-1")
        assert await login(live, "vera") == LOCKED
        with at(live, "10.0.0.9") as elsewhere:
            answer = await elsewhere.post("/login", json={"username": "vera", "password": PASSWORD})
            vera = Bearer(answer.json()["token"])
            body = {"old_pwd": PASSWORD, "new_pwd": "battery-1"}
            answer = await elsewhere.post("/users/vera/change_pwd", json=body, auth=vera)
            assert answer.status_code == 204
        assert await login(live, "vera", "battery-1") == GOOD


async def test_the_settings_of_the_lock_take_effect_at_once(mock_clock: MockClock) -> None:
    async with running() as live:
        await live.log_in()
        layer = {"unsuccessful_login_max_attempts": 2, "unsuccessful_login_lock_duration": "5s"}
        await live.broker.questions.settings.change({"dashboard": layer})
        assert [await login(live, password="wrong-1") for _ in range(3)] == [WRONG, WRONG, LOCKED]
        mock_clock.jump(6)
        assert await login(live) == GOOD


async def test_all_at_once_are_no_more_tries() -> None:
    users = DashboardUsers(fake_core())
    await users.create("boss", PASSWORD)
    ends: list[type[BaseException]] = []

    async def guess(number: int) -> None:
        try:
            await users.log_in("boss", f"guess {number}", "10.0.0.9")
        except (WrongPassword, LoginLocked) as error:
            ends.append(type(error))

    async with trio.open_nursery() as nursery:
        for number in range(16):
            nursery.start_soon(guess, number)
    assert ends.count(WrongPassword) == 5
    assert ends.count(LoginLocked) == 16 - 5


@shows("POST /login")
async def test_a_flood_is_sent_away_and_holds_up_nobody_else() -> None:
    async with running() as live:
        boss = await live.log_in()
        users = live.broker.questions.dashboard_users
        answers: list[httpx.Response] = []

        async def come(number: int) -> None:
            with at(live, f"10.0.0.{number // 16}") as client:
                answers.append(await client.post("/login", json={"username": "boss", "password": f"{number}"}))

        async with trio.open_nursery() as nursery:
            async with users._line.turn("another"):
                for number in range(LONGEST + 40):
                    nursery.start_soon(come, number)
                await wait_all_tasks_blocked()
                refused = list(answers)
                assert await status(live, boss) == GOOD
                assert (await live.api.get("/nodes")).status_code == 200
        assert len(refused) == 40
        for answer in refused:
            assert (answer.status_code, answer.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
            assert answer.headers["retry-after"] == "1"
        assert await login(live) == GOOD


async def test_what_is_logged_holds_no_password(caplog: pytest.LogCaptureFixture) -> None:
    """Nor a name that is nobody's: somebody may have written the password into the wrong field."""
    caplog.set_level(logging.DEBUG)
    async with running() as live:
        await live.log_in()
        for _ in range(6):
            await login(live, password="wrong-secret-1")
            await login(live, "my-password")
    assert "a wrong password for boss from 127.0.0.1" in caplog.text
    assert "boss sent too many wrong passwords from 127.0.0.1: the login is locked" in caplog.text
    for secret in ("wrong-secret-1", "my-password", PASSWORD):
        assert secret not in caplog.text


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("10.0.0.9", "10.0.0.9"),
        ("::ffff:10.0.0.9", "10.0.0.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("", ""),
        ("testclient", "testclient"),
    ],
)
def test_what_counts_as_one_address(address: str, place: str) -> None:
    assert place_of(address) == place


def test_no_more_is_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_guard, "MOST", 3)
    guard, config = LoginGuard(), DashboardConfig(unsuccessful_login_max_attempts=1)
    for number in range(5):
        assert guard.failed(str(number), "a", 0.0, config)
    assert [guard.is_locked(str(number), "a", 0.0) for number in range(5)] == [False, False, True, True, True]


# -- tokens


async def test_a_token_is_renewed_by_use_and_times_out_without(mock_clock: MockClock) -> None:
    async with running() as live:
        used, idle = await live.log_in(), await live.log_in()
        for _ in range(3):
            mock_clock.jump(3000)
            assert await status(live, used) == GOOD
        for _ in range(2):
            assert await status(live, idle) == TIME_OUT
        mock_clock.jump(3600)
        answer = await live.api.get("/nodes", auth=used)
        assert answer.status_code == 401
        assert answer.json() == {
            "code": "TOKEN_TIME_OUT",
            "message": "Token expired, get new token by POST /login",
        }
        assert "www-authenticate" not in answer.headers


async def test_how_long_a_token_lives_is_a_setting(mock_clock: MockClock) -> None:
    async with running(Config(dashboard=DashboardConfig(token_expired_time=10))) as live:
        boss = await live.log_in()
        mock_clock.jump(9)
        assert await status(live, boss) == GOOD
        await live.broker.questions.settings.change({"dashboard": {"token_expired_time": "1m"}})
        assert await status(live, boss) == GOOD
        mock_clock.jump(59)
        assert await status(live, boss) == GOOD
        mock_clock.jump(60)
        assert await status(live, boss) == TIME_OUT


def forged(claims: dict[str, Any], key: bytes | str = b"k" * 32, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, key, algorithm=algorithm)


async def test_tokens_that_are_none_of_ours() -> None:
    async with running() as live:
        boss = await live.log_in()
        claims = jwt.decode(boss.token, options={"verify_signature": False})
        head, body, signature = boss.token.split(".")
        none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
        more = base64.urlsafe_b64encode(json.dumps(claims | {"sub": "admin"}).encode()).decode().rstrip("=")
        for token in (
            *("", "x", "a.b.c", "....", "\\", "x" * 3000, boss.token[:-2], boss.token + "x"),
            *(f"{none}.{body}.", f"{none}.{body}.{signature}", f"{head}.{more}.{signature}"),
            *(forged(claims), forged(claims, "", "none")),
        ):
            answer = await live.api.get("/nodes", headers={"Authorization": f"Bearer {token}"}, auth=None)
            assert (answer.status_code, answer.json()["code"]) == BAD_TOKEN, token
            assert answer.json()["message"] == "Get a token by POST /login"
        assert await status(live, boss) == GOOD


async def test_a_token_ends_with_the_process() -> None:
    async with running() as live:
        boss = await live.log_in()
    async with running() as live:
        await live.log_in()
        assert await status(live, boss) == BAD_TOKEN


@given(st.one_of(st.text(max_size=60), st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode())))
def test_no_token_is_a_fault(part: str) -> None:
    held = Tokens(DashboardUsers(fake_core()))
    deep = base64.urlsafe_b64encode(b"[" * 1400).decode()
    header = base64.urlsafe_b64encode(b'{"alg":["HS256"],"b64":false,"crit":1}').decode()
    for token in (part, f"{part}.{part}.{part}", f"{deep}.{part}.{part}", f"{header}.{part}.{part}"):
        with pytest.raises(ApiError) as caught:
            held.check(token)
        assert caught.value.status == 401


async def test_the_tokens_of_one_user_and_of_all_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "SHARE", 3)
    monkeypatch.setattr(tokens, "MOST", 5)
    async with running() as live:
        first = await live.log_in("a")
        others = [await live.log_in("a") for _ in range(2)]
        assert await status(live, first) == GOOD  # used last
        new = await live.log_in("a")
        assert [await status(live, one) for one in (first, *others, new)] == [GOOD, BAD_TOKEN, GOOD, GOOD]
        many = [await live.log_in(f"u{number}") for number in range(4)]
        states = [await status(live, one) for one in (first, *others, new, *many)]
        assert states.count(GOOD) == 5
        assert states[-4:] == [GOOD] * 4


async def test_what_is_over_makes_room_first(monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock) -> None:
    monkeypatch.setattr(tokens, "MOST", 2)
    async with running() as live:
        over = await live.log_in("a")
        mock_clock.jump(3000)
        good = await live.log_in("b")
        mock_clock.jump(700)
        assert await status(live, over) == TIME_OUT
        new = await live.log_in("a")
        assert [await status(live, one) for one in (over, good, new)] == [TIME_OUT, GOOD, GOOD]


# -- logout


@shows("POST /logout")
async def test_logout_ends_the_token_that_is_sent() -> None:
    async with running() as live:
        one, other = await live.log_in(), await live.log_in()
        answer = await live.api.post("/logout", json={"username": "boss"}, auth=one)
        assert (answer.status_code, answer.content) == (204, b"")
        assert await status(live, one) == BAD_TOKEN
        assert await status(live, other) == GOOD
        viewer = await live.log_in("vera", Role.VIEWER)
        assert (await live.api.post("/logout", json={"username": "vera"}, auth=viewer)).status_code == 204
        assert await status(live, viewer) == BAD_TOKEN


@shows("POST /logout")
async def test_logout_of_somebody_else() -> None:
    async with running() as live:
        boss = await live.log_in()
        answer = await live.api.post("/logout", json={"username": "vera"}, auth=boss)
        assert answer.status_code == 401
        assert answer.json() == {
            "code": "WRONG_TOKEN_OR_USERNAME",
            "message": "Ensure your token & username",
        }
        assert (await live.api.post("/logout", json={}, auth=boss)).status_code == 400
        assert await status(live, boss) == GOOD
        answer = await live.api.post("/logout", json={"username": "boss"}, auth=ADMIN)
        assert (answer.status_code, answer.json()["code"]) == (401, "API_KEY_NOT_ALLOW")
        assert "in logout path" in answer.json()["message"]
