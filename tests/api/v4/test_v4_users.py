"""Dashboard users as EMQX 4 manages them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import trio
from api.live import PASSWORD, running
from api.older import BOSS, WATCHER, older
from api.operations import shows
from trio.testing import MockClock

from trio_broker.actors.api_keys import Role

NEW = "battery staple 2"


async def create(v4: httpx.AsyncClient, username: str = "vera", **changes: Any) -> dict[str, Any]:
    answer = await v4.post(
        "/users", json={"username": username, "password": PASSWORD, "tags": "administrator"} | changes
    )
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


async def log_in(v4: httpx.AsyncClient, username: str, password: str = PASSWORD) -> dict[str, Any]:
    answer = await v4.request("POST", "/auth", json={"username": username, "password": password}, auth=None)
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


@shows("POST /api/v4/users", "GET /api/v4/users", "POST /api/v4/auth")
async def test_users_are_made_and_listed(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4", user=True) as v4:
        assert await create(v4) == {"code": 0}
        assert await create(v4, "walter", tags="viewer") == {"code": 0}
        assert await create(v4, "olga", tags="ops") == {"code": 0}
        listed = await v4.get("/users")
        assert listed.json() == {
            "code": 0,
            "data": [
                {"username": "boss", "tags": "administrator"},
                {"username": "watcher", "tags": "viewer"},
                {"username": "vera", "tags": "administrator"},
                {"username": "walter", "tags": "viewer"},
                {"username": "olga", "tags": "ops"},
            ],
        }
        assert PASSWORD not in listed.text
        for name, role in (("vera", Role.ADMINISTRATOR), ("walter", Role.VIEWER), ("olga", Role.ADMINISTRATOR)):
            assert await log_in(v4, name) == {"code": 0}
            user = live.broker.questions.dashboard_users.get(name)
            assert user is not None
            assert user.role is role
            assert (await v4.get("/brokers", auth=(name, PASSWORD))).status_code == 200


@shows("POST /api/v4/users")
@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"username": ""}, 104, "Username or password undefined"),
        ({"password": ""}, 104, "Username or password undefined"),
        ({"username": None}, 104, "Username or password undefined"),
        ({"password": None}, 104, "Username or password undefined"),
        ({"username": "boss"}, 113, "Username Already Exist"),
        ({"username": "a b"}, 102, "Bad Username"),
        ({"username": "a" * 257}, 102, "Bad Username"),
        ({"password": "short1"}, 102, "The range of password length is 8~64"),
        ({"password": "a1" * 33}, 102, "The range of password length is 8~64"),
        ({"password": "onlyletters"}, 102, "At least two different kind of characters"),
        ({"password": "ümlaut123"}, 102, "Only ascii characters"),
        ({"username": 1}, 108, "username"),
        ({"tags": []}, 108, "tags"),
    ],
)
async def test_who_does_not_become_a_user(
    autojump_clock: MockClock, changes: dict[str, Any], code: int, message: str
) -> None:
    async with running() as live, older(live, "v4", user=True) as v4:
        body = await create(v4, **changes)
        assert body["code"] == code
        assert message in body["message"]
        assert len((await v4.get("/users")).json()["data"]) == 2


@shows("PUT /api/v4/users/:name")
async def test_tags_are_changed(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4", user=True) as v4:
        await create(v4)
        assert (await v4.put("/users/vera", json={"tags": "ops"})).json() == {"code": 0}
        assert (await v4.get("/users")).json()["data"][2] == {"username": "vera", "tags": "ops"}
        assert (await v4.put("/users/nobody", json={"tags": "x"})).json() == {
            "code": 105,
            "message": "Username Not Found",
        }
        assert (await v4.put("/users/vera", json={})).json()["code"] == 107
        assert (await v4.put("/users/vera", json={"tags": 1})).json()["code"] == 108
        assert (await v4.delete("/users/vera")).json() == {"code": 0}
        assert (await v4.put("/users/boss", json={"tags": "viewer"})).json()["code"] == 106  # nobody else is left


@shows("DELETE /api/v4/users/:name")
async def test_users_are_deleted(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4", user=True) as v4:
        await create(v4)
        await create(v4, "admin")
        assert (await v4.delete("/users/vera")).json() == {"code": 0}
        assert (await v4.get("/brokers", auth=("vera", PASSWORD))).status_code == 401
        assert (await v4.delete("/users/vera")).json() == {"code": 105, "message": "Username Not Found"}
        assert (await v4.delete("/users/admin")).json() == {"code": 106, "message": "Cannot delete admin"}
        assert await log_in(v4, "admin") == {"code": 0}


@shows("DELETE /api/v4/users/:name")
async def test_the_last_administrator_stays(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4", user=True) as v4:
        answer = (await v4.delete("/users/boss")).json()
        assert answer["code"] == 106
        assert "only administrator" in answer["message"]
        assert await log_in(v4, "boss") == {"code": 0}


@shows("POST /api/v4/auth")
async def test_names_and_passwords_are_checked(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4", user=True) as v4:
        wrong = {"code": 103, "message": "Username/Password error"}
        assert await log_in(v4, "boss") == {"code": 0}
        assert await log_in(v4, "boss", "wrong") == wrong
        assert await log_in(v4, "nobody") == wrong
        assert await log_in(v4, "", PASSWORD) == {"code": 104, "message": "Username undefined"}
        assert await log_in(v4, "boss", "") == {"code": 104, "message": "Password undefined"}
        answer = await v4.request("POST", "/auth", json={}, auth=None)
        assert answer.json() == {"code": 104, "message": "Username undefined"}
        answer = await v4.request("POST", "/auth", content=b"{", auth=None)
        assert (answer.status_code, answer.json()) == (400, {"code": 109, "message": "Bad Request"})
        answer = await v4.request("POST", f"/auth?username=boss&password={PASSWORD}", auth=None)
        assert answer.json() == {"code": 0}


@shows("POST /api/v4/auth")
async def test_a_login_is_locked(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4", user=True) as v4:
        config = live.broker.questions.dashboard_users.config
        for _ in range(config.unsuccessful_login_max_attempts):
            assert (await log_in(v4, "watcher", "wrong"))["code"] == 103
        locked = {"code": 103, "message": "Too many wrong passwords, try again later"}
        assert await log_in(v4, "watcher") == locked
        assert (await v4.get("/brokers", auth=WATCHER)).status_code == 401
        assert await log_in(v4, "boss") == {"code": 0}
        await trio.sleep(config.unsuccessful_login_lock_duration + 1)
        assert await log_in(v4, "watcher") == {"code": 0}


@shows("PUT /api/v4/change_pwd/:username")
async def test_a_password_is_changed(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4", user=True) as v4:
        body = {"old_pwd": PASSWORD, "new_pwd": NEW}
        wrong = {"code": 114, "message": "Username/Password error"}
        assert (await v4.put("/change_pwd/watcher", json=body | {"old_pwd": "wrong"})).json() == wrong
        assert (await v4.put("/change_pwd/nobody", json=body)).json() == wrong
        weak = (await v4.put("/change_pwd/watcher", json=body | {"new_pwd": "onlyletters"})).json()
        assert weak["code"] == 102
        assert "At least two different kind" in weak["message"]
        assert (await v4.put("/change_pwd/watcher", json={"old_pwd": PASSWORD})).json()["code"] == 107
        assert (await v4.put("/change_pwd/watcher", json=body | {"old_pwd": 1})).json()["code"] == 108
        assert await log_in(v4, "watcher") == {"code": 0}
        assert (await v4.put("/change_pwd/watcher", json=body)).json() == {"code": 0}
        assert await log_in(v4, "watcher", NEW) == {"code": 0}
        assert (await v4.get("/brokers", auth=WATCHER)).status_code == 401
        assert (await v4.get("/brokers", auth=("watcher", NEW))).status_code == 200


@shows("PUT /api/v4/change_pwd/:username")
async def test_a_viewer_changes_his_own_password_only(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4", user=True) as v4:
        body = {"old_pwd": PASSWORD, "new_pwd": NEW}
        assert (await v4.put("/change_pwd/boss", json=body, auth=WATCHER)).status_code == 403
        assert await log_in(v4, "boss") == {"code": 0}
        assert (await v4.put("/change_pwd/watcher", json=body, auth=WATCHER)).json() == {"code": 0}
        assert await log_in(v4, "watcher", NEW) == {"code": 0}
        config = live.broker.questions.dashboard_users.config
        for _ in range(config.unsuccessful_login_max_attempts):
            assert (await v4.put("/change_pwd/boss", json=body | {"old_pwd": "wrong"})).json()["code"] == 114
        # The lock holds for all ways in.
        assert (await v4.get("/users")).status_code == 401
        assert (await log_in(v4, "boss"))["code"] == 103


@shows("GET /api/v4/users", "POST /api/v4/users", "PUT /api/v4/users/:name", "DELETE /api/v4/users/:name")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/users"),
        ("POST", "/users"),
        ("PUT", "/users/watcher"),
        ("DELETE", "/users/watcher"),
        ("PUT", "/change_pwd/watcher"),
    ],
)
async def test_applications_do_not_see_them(autojump_clock: MockClock, method: str, path: str) -> None:
    async with running() as live, older(live, "v4") as v4:
        answer = await v4.request(method, path)
        assert (answer.status_code, answer.text) == (404, "Not found.")
        if method != "GET" and "change_pwd" not in path:
            assert (await v4.request(method, path, auth=WATCHER)).status_code == 403
        assert (await v4.get("/users", auth=WATCHER)).status_code == 200
        assert (await v4.get("/users", auth=BOSS)).status_code == 200
