"""Guessing passwords over the Basic credentials of the older generations: locks, work, lines, what is logged."""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import trio
from api.live import ADMIN, PASSWORD, Live, running
from api.older import BOSS, WATCHER, older
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_broker.actors.api_keys import ApiKeys
from trio_broker.actors.slow_hash import LONGEST, SlowHash
from trio_broker.api.app import make_older_app
from trio_broker.api.keys import Role

both = pytest.mark.parametrize("name", ["v2", "v4"])


def status(answer: httpx.Response) -> int:
    return answer.status_code


PROBES = {"v2": "/users", "v4": "/brokers"}


@asynccontextmanager
async def at(live: Live, name: str, address: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client that comes from there."""
    app = make_older_app(name, live.broker.questions, started=lambda: True)
    transport = httpx.ASGITransport(app=app, client=(address, 1))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url=f"http://broker/api/{name}") as client:
        yield client


@both
async def test_many_wrong_passwords_lock_a_user_out_from_one_address(mock_clock: MockClock, name: str) -> None:
    probe = PROBES[name]
    async with running() as live, older(live, name, user=True) as api:
        assert status(await api.get(probe)) == 200
        for number in range(5):
            assert status(await api.get(probe, auth=(BOSS[0], f"wrong-{number}"))) == 401
        assert status(await api.get(probe)) == 401  # the right one, which was recognized before
        assert status(await api.get(probe, auth=WATCHER)) == 200
        async with at(live, name, "10.0.0.9") as elsewhere:
            assert status(await elsewhere.get(probe, auth=BOSS)) == 200
        mock_clock.jump(599)
        assert status(await api.get(probe)) == 401
        mock_clock.jump(2)
        assert status(await api.get(probe)) == 200


async def test_who_is_locked_out_in_one_generation_is_in_all(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as two, older(live, "v4", user=True) as four:
        for number in range(3):
            assert status(await two.get("/users", auth=(BOSS[0], f"wrong-{number}"))) == 401
        for number in range(2):
            assert status(await four.get("/users", auth=(BOSS[0], f"wrong-{number}"))) == 401
        body = {"username": BOSS[0], "password": PASSWORD}
        five = await live.api.request("POST", "/login", json=body, auth=None)
        assert (five.status_code, five.json()["code"]) == (401, "LOGIN_LOCKED")
        assert [status(await two.get("/users")), status(await four.get("/users"))] == [401, 401]


async def test_an_application_is_not_locked_out_by_others(autojump_clock: MockClock) -> None:
    """Its secret is nobody's password: it cannot be guessed, and the program that has it goes on."""
    async with running() as live, older(live, "v4") as api:
        for number in range(10):
            assert status(await api.get("/brokers", auth=(ADMIN[0], f"wrong-{number}"))) == 401
        assert status(await api.get("/brokers")) == 200


async def test_a_secret_that_somebody_chose_can_be_guessed_a_few_times_only(mock_clock: MockClock) -> None:
    async with running() as live, older(live, "v4", user=True) as api:
        made = {"app_id": "pump-app", "secret": "summer", "status": True, "name": "Pumps"}
        assert (await api.post("/apps", json=made)).json()["code"] == 0
        right = ("pump-app", "summer")
        assert status(await api.get("/brokers", auth=right)) == 200
        for number in range(3):
            assert status(await api.get("/brokers", auth=("pump-app", f"wrong-{number}"))) == 401
        for number in range(2):
            assert status(await live.api.get("/nodes", auth=("pump-app", f"wrong-{number}"))) == 401
        assert [status(await one.get(path, auth=right)) for one, path in ((api, "/brokers"), (live.api, "/nodes"))] == [
            401,
            401,
        ]
        assert status(await api.get("/brokers", auth=ADMIN)) == 200
        async with at(live, "v4", "10.0.0.9") as elsewhere:
            assert status(await elsewhere.get("/brokers", auth=right)) == 200
        mock_clock.jump(601)
        assert status(await api.get("/brokers", auth=right)) == 200


@both
async def test_known_and_unknown_names_cost_the_same_work(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    seen: list[str] = []
    verify = SlowHash.verify

    def counted(self: SlowHash, secret: str) -> bool:
        seen.append(secret)
        return verify(self, secret)

    async with running() as live, older(live, name, user=True) as api:
        monkeypatch.setattr(SlowHash, "verify", counted)
        told = []
        for username in (BOSS[0], "nobody", WATCHER[0], "") * 2:
            answer = await api.get(PROBES[name], auth=(username, f"wrong for {username}"))
            assert status(answer) == 401
            told.append(answer.headers)
            mock_clock.jump(301)  # or they would be locked, which costs nothing
        assert seen == [f"wrong for {username}" for username in (BOSS[0], "nobody", WATCHER[0], "")] * 2
        assert told == [told[0]] * 8
        seen.clear()
        for _ in range(4):
            assert status(await api.get(PROBES[name])) == 200
        assert seen == [PASSWORD]  # once, and then it is recognized


async def test_applications_and_locked_names_cost_the_same_work(
    mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the secret was shown since the start or not, and however often somebody guesses."""
    seen: list[str] = []
    verify = SlowHash.verify

    def counted(self: SlowHash, secret: str) -> bool:
        seen.append(secret)
        return verify(self, secret)

    async with running() as live, older(live, "v4") as api:
        questions = live.broker.questions
        secrets = {}
        for app_id in ("fresh", "off", "used"):
            _, made = await questions.api_keys.create(app_id, enable=app_id != "off", api_key=app_id)
            secrets[app_id] = made.api_secret
        questions.api_keys = ApiKeys(questions.api_keys._core)  # as after a start
        assert status(await api.get("/brokers", auth=("used", secrets["used"]))) == 200
        monkeypatch.setattr(SlowHash, "verify", counted)
        for app_id in ("fresh", "off", "used", "unknown", "no name", BOSS[0]):
            seen.clear()
            for number in range(7):  # five lock the name of a user
                assert status(await api.get("/brokers", auth=(app_id, f"wrong-{number}"))) == 401
            assert seen == [f"wrong-{number}" for number in range(7)], app_id
        assert status(await api.get("/brokers", auth=("fresh", secrets["fresh"]))) == 200
        assert status(await api.get("/brokers", auth=("used", secrets["used"]))) == 200


async def test_a_user_may_be_called_as_an_application(mock_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as api:
        questions = live.broker.questions
        _, made = await questions.api_keys.create("app", api_key=BOSS[0])
        questions.api_keys = ApiKeys(questions.api_keys._core)  # as after a start
        for path, allowed in (("/users", 404), ("/brokers", 200)):
            assert status(await api.get(path, auth=BOSS)) == 200
            assert status(await api.get(path, auth=(BOSS[0], "wrong-1"))) == 401
            assert status(await api.get(path, auth=(BOSS[0], made.api_secret))) == allowed


async def test_names_that_no_user_can_have_are_kept_short_and_lock_nobody_else(mock_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as api:
        for number in range(20):
            assert status(await api.get("/users", auth=(f"no-name-{number}" + "-" * 5000, "wrong"))) == 401
        kept = [name for name, _ in live.broker.questions.dashboard_users._guard._failures]
        assert len(set(kept)) == 20
        assert max(map(len, kept)) < 100
        assert status(await api.get("/users")) == 200


async def test_a_password_that_was_recognized_is_void_when_it_changes(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as two, older(live, "v4", user=True) as four:
        users = live.broker.questions.dashboard_users
        assert [status(await two.get("/users")), status(await four.get("/users"))] == [200, 200]
        await users.change_password(BOSS[0], PASSWORD, "battery-1")
        assert [status(await two.get("/users")), status(await four.get("/users"))] == [401, 401]
        assert status(await two.get("/users", auth=(BOSS[0], "battery-1"))) == 200
        await users.update(WATCHER[0], "", Role.ADMINISTRATOR)
        assert too_weak_no_more(await two.request("DELETE", "/users/nobody", auth=WATCHER))
        await users.delete(BOSS[0])
        assert status(await two.get("/users", auth=(BOSS[0], "battery-1"))) == 401


def too_weak_no_more(answer: httpx.Response) -> bool:
    return (answer.status_code, answer.json()["code"]) == (200, 105)


@both
async def test_no_credentials_are_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """Nor a name that is nobody's: somebody may have written the password into the wrong field."""
    caplog.set_level(logging.DEBUG)
    async with running() as live, older(live, name, user=True) as api:
        for _ in range(6):
            await api.get(PROBES[name], auth=(BOSS[0], "wrong-secret-1"))
            await api.get(PROBES[name], auth=("my-password-1", "x"))
            await api.get(PROBES[name], auth=ADMIN)
            body = {"username": WATCHER[0], "password": "wrong-secret-2"}
            await api.request("POST", "/auth", json=body, auth=None)
            await api.get(f"/no/such/{PASSWORD}", auth=WATCHER)
    assert "a wrong password for boss from 127.0.0.1" in caplog.text
    assert "boss sent too many wrong passwords from 127.0.0.1: the login is locked" in caplog.text
    encoded = [base64.b64encode(f"{user}:{secret}".encode()).decode() for user, secret in (BOSS, ADMIN, WATCHER)]
    for secret in ("wrong-secret-1", "wrong-secret-2", "my-password-1", PASSWORD, ADMIN[1], *encoded):
        assert secret not in caplog.text


@both
async def test_a_flood_of_guesses_is_sent_away(autojump_clock: MockClock, name: str) -> None:
    """A bounded line for slow hashes; who was recognized goes on meanwhile."""
    async with running() as live, older(live, name, user=True) as api:
        assert status(await api.get(PROBES[name])) == 200
        users = live.broker.questions.dashboard_users
        answers: list[httpx.Response] = []

        async def come(number: int) -> None:
            async with at(live, name, f"10.0.0.{number // 16}") as client:
                answers.append(await client.get(PROBES[name], auth=(f"guess-{number}", "x")))

        async with trio.open_nursery() as nursery:
            async with users._line.turn("another"):
                for number in range(LONGEST + 40):
                    nursery.start_soon(come, number)
                await wait_all_tasks_blocked()
                refused = list(answers)
                assert status(await api.get(PROBES[name])) == 200
        assert len(refused) == 40
        for answer in refused:
            assert (answer.status_code, answer.json()["code"]) == (503, 102)
            assert answer.headers["retry-after"] == "1"
