"""EMQ 2's users, `/auth` and `/change_pwd`: each sample of its document, over a running broker."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from api.live import PASSWORD, Live, running
from api.older import BOSS, WATCHER, older
from api.operations import shows
from api.v2.two import app_of, client_of
from trio.testing import MockClock

from trio_broker.actors import dashboard_users
from trio_broker.actors.api_keys import Role
from trio_broker.actors.dashboard_users import FIRST, RENEWED
from trio_broker.config import Config, DashboardConfig
from trio_broker.store.memory import MemoryStore

DONE = {"code": 0, "result": []}
NEW_USER = {"username": "test_user", "password": "password", "tags": "user"}
TOO_MANY = "Too many wrong passwords, try again later"


@asynccontextmanager
async def with_admin(store: MemoryStore | None = None) -> AsyncIterator[tuple[Live, httpx.AsyncClient]]:
    """A broker with nobody but its first user, who is the client."""
    config = Config(dashboard=DashboardConfig(default_password=PASSWORD))
    async with running(config, store) as live:
        await live.broker.questions.dashboard_users.first()
        async with client_of(app_of(live)) as v2:
            v2.auth = httpx.BasicAuth("admin", PASSWORD)
            yield live, v2


async def is_in(v2: httpx.AsyncClient, username: str, password: str) -> bool:
    answer = await v2.get("/users", auth=(username, password))
    assert answer.status_code in (200, 401)
    return answer.status_code == 200


async def auth(v2: httpx.AsyncClient, username: str, password: str) -> dict[str, Any]:
    answer = await v2.request("POST", "/auth", json={"username": username, "password": password}, auth=None)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


async def tags(v2: httpx.AsyncClient) -> dict[str, str]:
    return {user["username"]: user["tags"] for user in (await v2.get("/users")).json()["result"]}


def role(live: Live, username: str) -> Role:
    user = live.broker.questions.dashboard_users.get(username)
    assert user is not None
    return user.role


@shows(
    "GET /api/v2/users",
    "POST /api/v2/users",
    "PUT /api/v2/users/:username",
    "DELETE /api/v2/users/:username",
    "GET /api/v2/users/:username",
    "POST /api/v2/auth",
    "PUT /api/v2/change_pwd/:username",
)
async def test_the_samples_of_the_document(mock_clock: MockClock) -> None:
    async with with_admin() as (_, v2):
        listed = await v2.get("/users")
        assert (listed.status_code, listed.headers["content-type"]) == (200, "application/json")
        admin = {"username": "admin", "tags": "administrator"}
        assert listed.json() == {"code": 0, "result": [admin]}
        assert (await v2.post("/users", json=NEW_USER)).json() == DONE
        user = {"username": "test_user", "tags": "user"}
        assert (await v2.get("/users")).json() == {"code": 0, "result": [admin, user]}
        assert (await v2.get("/users/test_user")).json() == {"code": 0, "result": user}
        assert (await v2.put("/users/test_user", json={"tags": "admin"})).json() == DONE
        assert (await v2.get("/users/test_user")).json()["result"]["tags"] == "admin"
        assert await auth(v2, "test_user", "password") == DONE
        answer = await v2.put("/change_pwd/test_user", json={"password": "newpassword", "oldpassword": "password"})
        assert answer.json() == DONE
        assert await auth(v2, "test_user", "newpassword") == DONE
        assert await is_in(v2, "test_user", "newpassword")
        assert not await is_in(v2, "test_user", "password")
        assert (await v2.delete("/users/test_user")).json() == DONE
        assert not await is_in(v2, "test_user", "newpassword")
        assert (await v2.get("/users")).json() == {"code": 0, "result": [admin]}
        assert (await v2.get("/users/test_user")).json() == DONE


# -- making and changing them


@shows("POST /api/v2/users")
@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"username": "test_user", "password": "password"}, 107, "params error"),
        ({"username": "test_user", "tags": "user"}, 107, "params error"),
        ({"password": "password", "tags": 1}, 107, "params error"),
        ({**NEW_USER, "username": 1}, 108, "params type error"),
        ({**NEW_USER, "password": True}, 108, "params type error"),
        ({**NEW_USER, "tags": None}, 108, "params type error"),
        ({**NEW_USER, "tags": "x" * 1025}, 108, "params type error"),
        ({**NEW_USER, "username": ""}, 104, "Username or password is empty"),
        ({**NEW_USER, "password": ""}, 104, "Username or password is empty"),
        ({**NEW_USER, "username": "admin"}, 113, "User already exist"),
        ({**NEW_USER, "username": "admin", "password": "short"}, 113, "User already exist"),
        (
            {**NEW_USER, "username": "test-user"},
            102,
            "Bad Username. Only upper and lower case letters, numbers and underscores are supported",
        ),
        ({**NEW_USER, "username": "x" * 101}, 102, "Bad Username. At most 100 characters are supported"),
        ({**NEW_USER, "password": "passwor"}, 102, "The range of password length is 8~64"),
        ({**NEW_USER, "password": "x" * 65}, 102, "The range of password length is 8~64"),
        ({**NEW_USER, "password": "pässword"}, 102, "Only ascii characters are allowed in the password"),
    ],
)
async def test_users_that_are_refused(mock_clock: MockClock, body: dict[str, Any], code: int, message: str) -> None:
    async with with_admin() as (_, v2):
        answer = await v2.post("/users", json=body)
        assert (answer.status_code, answer.json()) == (200, {"code": code, "message": message})
        assert await tags(v2) == {"admin": "administrator"}


async def test_users_are_not_without_number(mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_users, "MOST", 1)
    async with with_admin() as (_, v2):
        answer = await v2.post("/users", json=NEW_USER)
        assert answer.json() == {"code": 102, "message": "Maximum number of users reached."}


@shows("POST /api/v2/users", "PUT /api/v2/users/:username")
async def test_what_tags_mean(mock_clock: MockClock) -> None:
    """Who has the tag `viewer` is one; everybody else is an administrator."""
    async with with_admin() as (live, v2):
        wanted = {
            "u1": ("viewer", Role.VIEWER),
            "u2": ("night shift, viewer", Role.VIEWER),
            "u3": ("administrator", Role.ADMINISTRATOR),
            "u4": ("reviewer", Role.ADMINISTRATOR),
            "u5": ("", Role.ADMINISTRATOR),
            "u6": ("night shift;Viewer", Role.VIEWER),
        }
        for username, (text, one) in wanted.items():
            answer = await v2.post("/users", json={**NEW_USER, "username": username, "tags": text})
            assert answer.json() == DONE
            assert role(live, username) is one
        shown = {username: text for username, (text, _) in wanted.items()} | {"u5": "administrator"}
        assert await tags(v2) == {"admin": "administrator"} | shown
        refused = await v2.post("/users", json=NEW_USER, auth=("u1", "password"))
        assert refused.status_code == 403
        assert (await v2.put("/users/u1", json={"tags": "operator"})).json() == DONE
        assert (role(live, "u1"), (await tags(v2))["u1"]) == (Role.ADMINISTRATOR, "operator")
        assert (await v2.put("/users/u1", json={"tags": "viewer"})).json() == DONE
        assert role(live, "u1") is Role.VIEWER


@shows("PUT /api/v2/users/:username")
async def test_what_comes_back_as_it_was_shown_changes_no_role(mock_clock: MockClock) -> None:
    """A description of v5 does not say who is a viewer."""
    async with with_admin() as (live, v2):
        users = live.broker.questions.dashboard_users
        await users.create("vera", PASSWORD, Role.VIEWER, "looks on")
        await users.create("eve", PASSWORD, Role.VIEWER)
        assert await tags(v2) == {"admin": "administrator", "vera": "looks on", "eve": "viewer"}
        for username, text in (await tags(v2)).items():
            assert (await v2.put(f"/users/{username}", json={"tags": text})).json() == DONE
        assert [role(live, name) for name in ("vera", "eve")] == [Role.VIEWER, Role.VIEWER]
        assert [user.description for user in users.rows()] == [FIRST, "looks on", ""]


@shows("PUT /api/v2/users/:username")
@pytest.mark.parametrize(
    ("before", "old", "new", "after"),
    [
        (Role.VIEWER, "looks on", "day shift", Role.VIEWER),
        (Role.VIEWER, "looks on", "reviewer", Role.VIEWER),
        (Role.VIEWER, "looks on", "day shift; Administrator", Role.ADMINISTRATOR),
        (Role.VIEWER, "VIEWER of the night", "looks on", Role.ADMINISTRATOR),
        (Role.VIEWER, "administrator of nothing", "looks on", Role.VIEWER),
        (Role.ADMINISTRATOR, "chief", "day shift Viewer", Role.VIEWER),
        (Role.ADMINISTRATOR, "administrator", "chief", Role.ADMINISTRATOR),
        (Role.ADMINISTRATOR, "chief", "administrator,viewer", Role.VIEWER),
        (Role.ADMINISTRATOR, "chief", "reviewer", Role.ADMINISTRATOR),
    ],
)
async def test_only_tags_that_name_a_role_change_it(
    mock_clock: MockClock, before: Role, old: str, new: str, after: Role
) -> None:
    async with with_admin() as (live, v2):
        await live.broker.questions.dashboard_users.create("vera", PASSWORD, before, old)
        assert (await v2.put("/users/vera", json={"tags": new})).json() == DONE
        assert (role(live, "vera"), (await tags(v2))["vera"]) == (after, new)


async def test_descriptions_of_our_own_are_no_tags(mock_clock: MockClock) -> None:
    async with with_admin() as (live, v2):
        users = live.broker.questions.dashboard_users
        await users.create("boss", PASSWORD, description=RENEWED)
        assert await tags(v2) == {"admin": "administrator", "boss": "administrator"}
        assert (await v2.put("/users/admin", json={"tags": "chief"})).json() == DONE
        assert (await tags(v2))["admin"] == "chief"


@shows("PUT /api/v2/users/:username")
@pytest.mark.parametrize(
    ("username", "body", "code", "message"),
    [
        ("nobody", {"tags": "x"}, 105, "User not found"),
        ("admin", {}, 107, "params error"),
        ("admin", {"tag": "x"}, 107, "params error"),
        ("admin", {"tags": 1}, 108, "params type error"),
        ("admin", {"tags": "viewer"}, 106, "admin is the only administrator"),
    ],
)
async def test_changes_that_are_refused(
    mock_clock: MockClock, username: str, body: dict[str, Any], code: int, message: str
) -> None:
    async with with_admin() as (live, v2):
        answer = await v2.put(f"/users/{username}", json=body)
        assert (answer.status_code, answer.json()) == (200, {"code": code, "message": message})
        assert (await tags(v2), role(live, "admin")) == ({"admin": "administrator"}, Role.ADMINISTRATOR)


@shows("DELETE /api/v2/users/:username")
async def test_who_cannot_be_deleted(mock_clock: MockClock) -> None:
    async with with_admin() as (live, v2):
        users = live.broker.questions.dashboard_users
        await users.create("boss", PASSWORD)
        answer = await v2.delete("/users/admin")
        assert (answer.status_code, answer.json()) == (200, {"code": 106, "message": "admin cannot be deleted"})
        assert (await v2.delete("/users/nobody")).json() == {"code": 105, "message": "User not found"}
        await users.update("admin", "", Role.VIEWER)
        v2.auth = httpx.BasicAuth("boss", PASSWORD)
        assert (await v2.delete("/users/boss")).json() == {"code": 106, "message": "boss is the only administrator"}
        await users.update("admin", "", Role.ADMINISTRATOR)
        assert (await v2.delete("/users/boss")).json() == DONE  # oneself
        assert (await v2.get("/users")).status_code == 401


async def test_the_default_user_may_be_called_otherwise(mock_clock: MockClock) -> None:
    async with running(Config(dashboard=DashboardConfig(default_username="boss"))) as live, older(live, "v2") as v2:
        assert (await v2.delete("/users/boss")).json() == {"code": 106, "message": "boss cannot be deleted"}
        assert (await v2.delete("/users/watcher")).json() == DONE


async def test_all_of_it_is_there_after_a_restart(mock_clock: MockClock) -> None:
    store = MemoryStore()
    async with with_admin(store) as (_, v2):
        await v2.post("/users", json=NEW_USER)
        await v2.put("/users/test_user", json={"tags": "night shift"})
        await v2.put("/change_pwd/test_user", json={"new_pwd": "newpassword", "old_pwd": "password"})
    async with with_admin(store) as (_, v2):
        assert await tags(v2) == {"admin": "administrator", "test_user": "night shift"}
        assert await auth(v2, "test_user", "newpassword") == DONE


# -- passwords


@shows("PUT /api/v2/change_pwd/:username")
@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({}, 107, "params error"),
        ({"password": "newpassword"}, 107, "params error"),
        ({"oldpassword": PASSWORD}, 107, "params error"),
        ({"password": 1}, 107, "params error"),
        ({"password": "newpassword", "new_pwd": "newpassword"}, 107, "params error"),
        ({"password": 1, "oldpassword": PASSWORD}, 108, "params type error"),
        ({"new_pwd": "newpassword", "old_pwd": None}, 108, "params type error"),
        ({"new_pwd": "x" * 1025, "old_pwd": PASSWORD}, 108, "params type error"),
        ({"new_pwd": "", "old_pwd": PASSWORD}, 104, "Username or password is empty"),
        ({"new_pwd": "newpassword", "old_pwd": ""}, 104, "Username or password is empty"),
        ({"new_pwd": "newpassword", "old_pwd": "wrong"}, 114, "OldPassword error"),
        # Where both spellings are there, those of the releases count.
        ({"new_pwd": "newpassword", "old_pwd": "wrong", "oldpassword": PASSWORD}, 114, "OldPassword error"),
        ({"new_pwd": "short", "old_pwd": PASSWORD}, 102, "The range of password length is 8~64"),
        ({"new_pwd": "pässword", "old_pwd": PASSWORD}, 102, "Only ascii characters are allowed in the password"),
    ],
)
async def test_passwords_that_are_not_changed(
    mock_clock: MockClock, body: dict[str, Any], code: int, message: str
) -> None:
    async with with_admin() as (_, v2):
        answer = await v2.put("/change_pwd/admin", json=body)
        assert (answer.status_code, answer.json()) == (200, {"code": code, "message": message})
        assert await is_in(v2, "admin", PASSWORD)


@shows("PUT /api/v2/change_pwd/:username")
async def test_either_spelling(mock_clock: MockClock) -> None:
    async with with_admin() as (_, v2):
        await v2.post("/users", json=NEW_USER)
        now = "password"
        for number, (old, new) in enumerate(
            [("oldpassword", "password"), ("old_pwd", "new_pwd"), ("old_pwd", "password"), ("oldpassword", "new_pwd")]
        ):
            body = {old: now, new: f"newpassword{number}"}
            assert (await v2.put("/change_pwd/test_user", json=body)).json() == DONE
            now = f"newpassword{number}"
            assert await is_in(v2, "test_user", now)
        both = {"old_pwd": now, "new_pwd": "another_one", "password": 1, "oldpassword": 2}
        assert (await v2.put("/change_pwd/test_user", json=both)).json() == DONE
        body = {"old_pwd": "another_one", "new_pwd": "password"}
        assert (await v2.put("/change_pwd/nobody", json=body)).json() == {"code": 105, "message": "User not found"}


@shows("PUT /api/v2/change_pwd/:username")
async def test_who_may_change_which_password(mock_clock: MockClock) -> None:
    """A viewer its own; an administrator all of them, who knows the old one."""
    async with running() as live, older(live, "v2") as v2:
        body = {"old_pwd": PASSWORD, "new_pwd": "newpassword"}
        answer = await v2.put("/change_pwd/boss", json=body, auth=WATCHER)
        assert (answer.status_code, answer.json()["code"]) == (403, 102)
        assert (await v2.put("/change_pwd/watcher", json=body, auth=WATCHER)).json() == DONE
        body = {"old_pwd": "newpassword", "new_pwd": PASSWORD}
        assert (await v2.put("/change_pwd/watcher", json=body)).json() == DONE
        assert await is_in(v2, *WATCHER)


@shows("PUT /api/v2/change_pwd/:username")
async def test_no_way_to_guess_the_old_password(mock_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        answers = []
        for password in (*(f"wrong-{number}" for number in range(5)), PASSWORD):
            body = {"old_pwd": password, "new_pwd": "newpassword"}
            answers.append((await v2.put("/change_pwd/watcher", json=body)).json())
        assert answers[:5] == [{"code": 114, "message": "OldPassword error"}] * 5
        assert answers[5] == {"code": 114, "message": TOO_MANY}


# -- /auth, and the credentials of each request


@shows("POST /api/v2/auth")
@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({}, 107, "params error"),
        ({"username": "admin"}, 107, "params error"),
        ({"password": PASSWORD}, 107, "params error"),
        ({"username": 1, "password": PASSWORD}, 108, "params type error"),
        ({"username": "admin", "password": None}, 108, "params type error"),
        ({"username": "admin", "password": "x" * 1025}, 108, "params type error"),
        ({"username": "", "password": PASSWORD}, 104, "Username or password is empty"),
        ({"username": "admin", "password": ""}, 104, "Username or password is empty"),
        ({"username": "admin", "password": "wrong"}, 103, "Password error"),
        ({"username": "nobody", "password": PASSWORD}, 103, "Password error"),
    ],
)
async def test_who_is_not_let_in(mock_clock: MockClock, body: dict[str, Any], code: int, message: str) -> None:
    """A user that there is not is answered as a wrong password is."""
    async with with_admin() as (_, v2):
        answer = await v2.request("POST", "/auth", json=body, auth=None)
        assert (answer.status_code, answer.json()) == (200, {"code": code, "message": message})


@shows("POST /api/v2/auth")
async def test_many_wrong_passwords_lock_a_name_from_one_address(mock_clock: MockClock) -> None:
    async with with_admin() as (live, v2):
        for username in ("admin", "nobody"):
            for _ in range(5):
                assert await auth(v2, username, "wrong") == {"code": 103, "message": "Password error"}
            assert await auth(v2, username, PASSWORD) == {"code": 103, "message": TOO_MANY}
        assert not await is_in(v2, "admin", PASSWORD)
        async with client_of(app_of(live), "10.0.0.9") as elsewhere:
            assert await auth(elsewhere, "admin", PASSWORD) == DONE
        mock_clock.jump(601)
        assert await auth(v2, "admin", PASSWORD) == DONE
        assert await is_in(v2, "admin", PASSWORD)


async def test_credentials_are_no_way_to_guess_either(mock_clock: MockClock) -> None:
    """Wrong ones with a request count as those of `/auth` do."""
    async with with_admin() as (_, v2):
        assert await is_in(v2, "admin", PASSWORD)
        for number in range(5):
            assert not await is_in(v2, "admin", f"wrong-{number}")
        assert not await is_in(v2, "admin", PASSWORD)
        assert await auth(v2, "admin", PASSWORD) == {"code": 103, "message": TOO_MANY}


async def test_passwords_are_nowhere(mock_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with with_admin() as (live, v2):
        texts = [(await v2.post("/users", json=NEW_USER | {"password": "secret-one"})).text]
        texts.append((await v2.post("/users", json=NEW_USER | {"password": "secret-one"})).text)
        body = {"old_pwd": "secret-one", "new_pwd": "secret-two"}
        texts += [(await v2.put("/change_pwd/test_user", json=body)).text for _ in range(2)]
        await auth(v2, "secret-two", "secret-one")
        texts += [(await v2.get(path)).text for path in ("/users", "/users/test_user")]
        texts.append(repr(live.broker.questions.dashboard_users.rows()))
    for text in (*texts, caplog.text):
        assert "secret-" not in text
        assert PASSWORD not in text


@pytest.mark.parametrize("who", [BOSS, WATCHER])
async def test_viewers_look_too(mock_clock: MockClock, who: tuple[str, str]) -> None:
    async with running() as live, older(live, "v2") as v2:
        listed = (await v2.get("/users", auth=who)).json()["result"]
        assert listed == [{"username": "boss", "tags": "administrator"}, {"username": "watcher", "tags": "viewer"}]
