"""Dashboard users over REST, over a real broker."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import trio
from api.fake_questions import fake_core
from api.live import ADMIN, PASSWORD, Live, running
from api.operations import shows
from trio.testing import wait_all_tasks_blocked

from trio_broker.actors import dashboard_users
from trio_broker.actors.api_keys import Role
from trio_broker.actors.dashboard_users import DashboardUsers, UserError, WrongPassword
from trio_broker.config import Config, DashboardConfig
from trio_broker.store.memory import MemoryStore

NEW = "battery staple 2"


async def create(live: Live, auth: httpx.Auth, username: str = "vera", **more: Any) -> httpx.Response:
    return await live.api.post("/users", json={"username": username, "password": PASSWORD, **more}, auth=auth)


async def may_log_in(live: Live, username: str, password: str = PASSWORD) -> bool:
    answer = await live.api.request("POST", "/login", json={"username": username, "password": password}, auth=None)
    assert answer.status_code in (200, 401)
    return answer.status_code == 200


async def is_good(live: Live, auth: httpx.Auth) -> bool:
    answer = await live.api.get("/nodes", auth=auth)
    assert answer.status_code == 200 or answer.json()["code"] == "BAD_TOKEN"
    return answer.status_code == 200


@shows("POST /users", "GET /users")
async def test_users_are_made_and_listed() -> None:
    async with running() as live:
        boss = await live.log_in()
        answer = await create(live, boss, description="looks on", role="viewer")
        vera = {"username": "vera", "description": "looks on", "role": "viewer", "backend": "local"}
        assert (answer.status_code, answer.json()) == (200, vera)
        answer = await create(live, boss, "Root_2")
        root = {"username": "Root_2", "description": "", "role": "administrator", "backend": "local"}
        assert (answer.status_code, answer.json()) == (200, root)
        listed = await live.api.get("/users", auth=boss)
        assert listed.json()[1:] == [vera, root]
        assert PASSWORD not in listed.text
        assert await may_log_in(live, "vera")
        assert await may_log_in(live, "Root_2")


@shows("POST /users")
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"username": "boss", "password": PASSWORD}, "username_already_exists"),
        ({"username": "", "password": PASSWORD}, "Username or password undefined"),
        ({"username": "vera", "password": ""}, "Username or password undefined"),
        (
            {"username": "ve-ra", "password": PASSWORD},
            "Bad Username. Only upper and lower case letters, numbers and underscores are supported",
        ),
        ({"username": "vera\n", "password": PASSWORD}, "Bad Username. Only"),
        ({"username": "v" * 101, "password": PASSWORD}, "Bad Username. At most"),
        ({"username": "vera", "password": "a234567"}, "The range of password length is 8~64"),
        ({"username": "vera", "password": "a2" * 33}, "The range of password length is 8~64"),
        ({"username": "vera", "password": "abcdefgh"}, "Bad password. At least two different kind"),
        ({"username": "vera", "password": "12345678"}, "Bad password. At least two different kind"),
        ({"username": "vera", "password": "!@#$%^&*"}, "Bad password. At least two different kind"),
        ({"username": "vera", "password": "pässwörd1"}, "Only ascii characters are allowed in the password"),
        ({"username": "vera"}, "required_field"),
        ({"password": PASSWORD}, "required_field"),
        ({"username": "vera", "password": PASSWORD, "role": "publisher"}, "not_a_enum_symbol"),
        ({"username": "vera", "password": PASSWORD, "more": 1}, "unknown_fields"),
    ],
)
async def test_users_that_are_refused(body: dict[str, Any], message: str) -> None:
    async with running() as live:
        boss = await live.log_in()
        answer = await live.api.post("/users", json=body, auth=boss)
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        assert message in answer.json()["message"]
        assert len((await live.api.get("/users", auth=boss)).json()) == 1


@pytest.mark.parametrize("password", ["a2345678", "abcdefg!", "1234567 ", "a1" * 32])
async def test_passwords_that_will_do(password: str) -> None:
    async with running() as live:
        boss = await live.log_in()
        assert (await create(live, boss, password=password)).status_code == 200
        assert await may_log_in(live, "vera", password)


@shows("PUT /users/:username")
async def test_a_description_is_changed_and_nobody_is_thrown_out() -> None:
    async with running() as live:
        boss, vera = await live.log_in(), await live.log_in("vera", Role.VIEWER)
        answer = await live.api.put("/users/vera", json={"description": "new"}, auth=boss)
        assert answer.status_code == 200
        assert answer.json() == {"username": "vera", "description": "new", "role": "viewer", "backend": "local"}
        answer = await live.api.put("/users/vera", json={"description": "newer", "role": "viewer"}, auth=boss)
        assert answer.json()["description"] == "newer"
        assert await is_good(live, vera)


@shows("PUT /users/:username")
async def test_another_role_ends_what_was_begun_in_the_old_one() -> None:
    async with running() as live:
        boss, vera = await live.log_in(), await live.log_in("vera")
        answer = await live.api.put("/users/vera", json={"description": "", "role": "viewer"}, auth=boss)
        assert (answer.status_code, answer.json()["role"]) == (200, "viewer")
        assert not await is_good(live, vera)
        vera = await live.log_in("vera")
        assert (await create(live, vera, "eve")).status_code == 403


@shows("PUT /users/:username", "DELETE /users/:username")
async def test_the_last_administrator_stays_one() -> None:
    async with running() as live:
        boss = await live.log_in()
        await live.log_in("vera", Role.VIEWER)
        answer = await live.api.put("/users/boss", json={"description": "", "role": "viewer"}, auth=boss)
        assert answer.status_code == 400
        assert answer.json() == {"code": "NOT_ALLOWED", "message": "boss is the only administrator"}
        with pytest.raises(UserError):
            await live.broker.questions.dashboard_users.delete("boss")
        assert await is_good(live, boss)


@shows("PUT /users/:username")
@pytest.mark.parametrize("body", [{}, {"role": "viewer"}, {"description": 1}, {"description": "", "role": "king"}])
async def test_changes_that_are_refused(body: dict[str, Any]) -> None:
    async with running() as live:
        boss = await live.log_in()
        answer = await live.api.put("/users/boss", json=body, auth=boss)
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")


@shows("DELETE /users/:username")
async def test_a_deleted_user_is_out_at_once() -> None:
    async with running() as live:
        boss, vera = await live.log_in(), await live.log_in("vera")
        answer = await live.api.delete("/users/vera", auth=boss)
        assert (answer.status_code, answer.content) == (204, b"")
        assert not await is_good(live, vera)
        assert not await may_log_in(live, "vera")
        again = await live.log_in("vera")
        assert not await is_good(live, vera)
        assert await is_good(live, again)


@shows("DELETE /users/:username")
async def test_who_cannot_be_deleted() -> None:
    async with running() as live:
        boss = await live.log_in()
        await live.log_in("admin")
        answer = await live.api.delete("/users/admin", auth=boss)
        assert answer.status_code == 400
        assert answer.json() == {"code": "NOT_ALLOWED", "message": 'Cannot delete user <<"admin">>'}
        answer = await live.api.delete("/users/boss", auth=boss)
        assert (answer.status_code, answer.json()) == (400, {"code": "NOT_ALLOWED", "message": "Cannot delete self"})
        assert len((await live.api.get("/users", auth=boss)).json()) == 2


@shows("PUT /users/:username", "DELETE /users/:username", "POST /users/:username/change_pwd")
async def test_a_user_that_there_is_not() -> None:
    async with running() as live:
        boss = await live.log_in()
        answer = await live.api.put("/users/nobody", json={"description": ""}, auth=boss)
        assert (answer.status_code, answer.json()["code"]) == (404, "USER_NOT_FOUND")
        assert answer.json()["message"] == "username_not_found"
        answer = await live.api.delete("/users/nobody", auth=boss)
        assert answer.status_code == 404
        assert answer.json() == {"code": "USER_NOT_FOUND", "message": "username_not_found"}
        body = {"old_pwd": PASSWORD, "new_pwd": NEW}
        answer = await live.api.post("/users/nobody/change_pwd", json=body, auth=boss)
        assert answer.status_code == 404
        assert answer.json() == {"code": "USER_NOT_FOUND", "message": "User not found"}


# -- passwords


@shows("POST /users/:username/change_pwd")
async def test_another_password_ends_all_that_was_begun_with_the_old_one() -> None:
    async with running() as live:
        one, other = await live.log_in(), await live.log_in()
        body = {"old_pwd": PASSWORD, "new_pwd": NEW}
        answer = await live.api.post("/users/boss/change_pwd", json=body, auth=one)
        assert (answer.status_code, answer.content) == (204, b"")
        assert not await is_good(live, one)
        assert not await is_good(live, other)
        assert not await may_log_in(live, "boss")
        assert await may_log_in(live, "boss", NEW)


@shows("POST /users/:username/change_pwd")
async def test_who_may_change_which_password() -> None:
    """A viewer its own; an administrator all of them, who knows the old one."""
    async with running() as live:
        boss, vera = await live.log_in(), await live.log_in("vera", Role.VIEWER)
        body = {"old_pwd": PASSWORD, "new_pwd": NEW}
        answer = await live.api.post("/users/boss/change_pwd", json=body, auth=vera)
        assert answer.status_code == 403
        assert answer.json() == {
            "code": "UNAUTHORIZED_ROLE",
            "message": "You don't have permission to access this resource",
        }
        assert (await live.api.post("/users/vera/change_pwd", json=body, auth=vera)).status_code == 204
        body = {"old_pwd": NEW, "new_pwd": PASSWORD}
        assert (await live.api.post("/users/vera/change_pwd", json=body, auth=boss)).status_code == 204
        assert await may_log_in(live, "vera")
        assert await is_good(live, boss)


@shows("POST /users/:username/change_pwd")
@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"old_pwd": "wrong-1", "new_pwd": NEW}, "ERROR_PWD_NOT_MATCH", "Old password not match"),
        ({"old_pwd": PASSWORD, "new_pwd": "short1"}, "BAD_REQUEST", "The range of password length is 8~64"),
        ({"old_pwd": PASSWORD, "new_pwd": "onlyletters"}, "BAD_REQUEST", "Bad password."),
        ({"old_pwd": "", "new_pwd": NEW}, "BAD_REQUEST", "Old password or new password undefined"),
        ({"old_pwd": PASSWORD, "new_pwd": ""}, "BAD_REQUEST", "Old password or new password undefined"),
        ({"old_pwd": PASSWORD}, "BAD_REQUEST", "required_field"),
        ({"new_pwd": NEW}, "BAD_REQUEST", "required_field"),
    ],
)
async def test_passwords_that_are_not_changed(body: dict[str, Any], code: str, message: str) -> None:
    async with running() as live:
        boss = await live.log_in()
        answer = await live.api.post("/users/boss/change_pwd", json=body, auth=boss)
        assert (answer.status_code, answer.json()["code"]) == (400, code)
        assert message in answer.json()["message"]
        assert await is_good(live, boss)


@shows("POST /users/:username/change_pwd")
async def test_a_token_is_no_way_to_guess_the_password() -> None:
    async with running() as live:
        boss = await live.log_in()
        messages = []
        for password in (*(f"wrong-{number}" for number in range(5)), PASSWORD):
            body = {"old_pwd": password, "new_pwd": NEW}
            answer = await live.api.post("/users/boss/change_pwd", json=body, auth=boss)
            assert (answer.status_code, answer.json()["code"]) == (400, "ERROR_PWD_NOT_MATCH")
            messages.append(answer.json()["message"])
        assert messages[4:] == ["Old password not match", "Too many wrong passwords, try again later"]


# -- more than one at a time


@pytest.mark.parametrize("change", ["password", "delete", "role"])
async def test_a_login_that_is_overtaken_by_a_change(change: str) -> None:
    """What it gives is not worth more than what there is at its end."""
    users = DashboardUsers(fake_core())
    await users.create("boss", PASSWORD)
    await users.create("vera", PASSWORD)
    ends: list[object] = []

    async def come() -> None:
        try:
            user = await users.log_in("vera", PASSWORD)
            ends.append((user.role, user.stamp == users.get("vera").stamp))  # type: ignore[union-attr]
        except WrongPassword:
            ends.append("wrong")

    async with trio.open_nursery() as nursery:
        async with users._line.turn(""):
            nursery.start_soon(come)
            await wait_all_tasks_blocked()
            if change == "role":
                await users.update("vera", "", Role.VIEWER)
            else:
                await users.delete("vera")
    assert ends == [(Role.VIEWER, True)] if change == "role" else ["wrong"]


async def test_two_who_change_a_password_and_two_who_make_a_user() -> None:
    users = DashboardUsers(fake_core())
    await users.create("boss", PASSWORD)
    ends: list[str] = []

    async def change(new: str) -> None:
        try:
            await users.change_password("boss", PASSWORD, new)
            ends.append("changed")
        except WrongPassword:
            ends.append("wrong")

    async def make() -> None:
        try:
            await users.create("vera", PASSWORD)
            ends.append("made")
        except UserError as error:
            ends.append(str(error))

    async with trio.open_nursery() as nursery:
        for number in range(2):
            nursery.start_soon(change, f"password-{number}")
            nursery.start_soon(make)
    assert sorted(ends) == ["changed", "made", "username_already_exists", "wrong"]


async def test_users_are_not_without_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_users, "MOST", 2)
    async with running() as live:
        boss = await live.log_in()
        assert (await create(live, boss)).status_code == 200
        answer = await create(live, boss, "eve")
        assert (answer.status_code, answer.json()["message"]) == (400, "Maximum number of users reached.")


async def test_a_user_of_the_program_is_checked_as_one_of_the_api() -> None:
    users = DashboardUsers(fake_core())
    with pytest.raises(UserError, match="an administrator or a viewer"):
        await users.create("boss", PASSWORD, Role.PUBLISHER)
    await users.create("boss", PASSWORD)
    with pytest.raises(UserError, match="an administrator or a viewer"):
        await users.update("boss", "", Role.PUBLISHER)
    assert PASSWORD not in repr(users.rows())


# -- restarts and settings


@shows("POST /users", "PUT /users/:username", "DELETE /users/:username", "POST /users/:username/change_pwd")
async def test_all_of_it_is_there_after_a_restart() -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        boss = await live.log_in()
        for name in ("vera", "gone", "changed"):
            await create(live, boss, name)
        await live.api.put("/users/vera", json={"description": "d", "role": "viewer"}, auth=boss)
        await live.api.delete("/users/gone", auth=boss)
        body = {"old_pwd": PASSWORD, "new_pwd": NEW}
        assert (await live.api.post("/users/changed/change_pwd", json=body, auth=boss)).status_code == 204
        before = (await live.api.get("/users", auth=boss)).json()
    async with running(store=store) as live:
        boss = await live.log_in()
        after = (await live.api.get("/users", auth=boss)).json()
        assert sorted(map(str, after)) == sorted(map(str, before))
        assert {"username": "vera", "description": "d", "role": "viewer", "backend": "local"} in after
        assert await may_log_in(live, "changed", NEW)
        assert not await may_log_in(live, "gone")


async def test_the_default_user_may_be_called_otherwise() -> None:
    async with running(Config(dashboard=DashboardConfig(default_username="boss"))) as live:
        await live.log_in("boss")
        root = await live.log_in("root")
        assert (await live.api.delete("/users/boss", auth=root)).json()["message"] == 'Cannot delete user <<"boss">>'


@shows("GET /configs", "GET /configs/dashboard", "PUT /configs/dashboard")
async def test_the_default_password_is_not_shown(autojump_clock: object) -> None:
    async with running(Config(dashboard=DashboardConfig(default_password="password-1"))) as live:
        answer = await live.api.get("/configs/dashboard")
        assert answer.json()["default_password"] == "******"
        assert "password-1" not in (await live.api.get("/configs")).text
        answer = await live.api.put("/configs/dashboard", json=answer.json() | {"token_expired_time": "30m"})
        assert answer.status_code == 200, answer.text
        dashboard = live.broker.questions.settings.config.dashboard
        assert (dashboard.default_password, dashboard.token_expired_time) == ("password-1", 1800)
        answer = await live.api.put("/configs/dashboard", json={"default_password": "short1"})
        assert answer.status_code == 400
        assert "short1" not in answer.text


@shows("GET /users", "POST /users", "PUT /users/:username", "DELETE /users/:username")
async def test_no_key_manages_users() -> None:
    async with running() as live:
        for method, path in (
            ("GET", "/users"),
            ("POST", "/users"),
            ("PUT", "/users/boss"),
            ("DELETE", "/users/boss"),
            ("POST", "/users/boss/change_pwd"),
        ):
            for auth in (ADMIN, ("wrong", "key")):
                answer = await live.api.request(method, path, auth=auth)
                assert (answer.status_code, answer.json()["code"]) == (401, "API_KEY_NOT_ALLOW")
                assert "in users path" in answer.json()["message"]
