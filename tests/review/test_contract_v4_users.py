"""The contract of `/api/v4`, read afresh: dashboard users, and who may call what."""

from __future__ import annotations

from typing import Any

import pytest
from api.live import PASSWORD, VIEWER
from api.older import BOSS, WATCHER
from api.operations import shows
from review.doors_v4 import NODE, Doors, data, done, doors, got, refused, unauthorized
from trio.testing import MockClock

from trio_broker.store.memory import MemoryStore

ANN: dict[str, Any] = {"username": "ann", "password": "battery-1", "tags": "administrator"}


async def logs_in(at: Doors, name: str, password: str) -> bool:
    """By Basic, and by `POST /auth`."""
    answer = await at.user.get("/users", auth=(name, password))
    asked = await at.user.request("POST", "/auth", json={"username": name, "password": password}, auth=None)
    if answer.status_code == 200:
        done(asked)
        return True
    unauthorized(answer)
    refused(asked, 103, "Username/Password error")
    return False


@shows("POST /api/v4/auth")
async def test_login(autojump_clock: MockClock) -> None:
    async with doors() as at:
        right = {"username": BOSS[0], "password": PASSWORD}
        done(await at.user.request("POST", "/auth", json=right, auth=None))
        done(await at.user.post("/auth", json=right))
        done(await at.user.request("POST", "/auth", params=right, auth=None))
        refused(await at.user.request("POST", "/auth", json={"password": "x"}, auth=None), 104, "Username undefined")
        refused(await at.user.request("POST", "/auth", json={"username": "x"}, auth=None), 104, "Password undefined")
        refused(await at.user.request("POST", "/auth", auth=None), 104)
        for wrong in ({"username": 5, "password": PASSWORD}, {"username": BOSS[0], "password": 5}):
            refused(await at.user.request("POST", "/auth", json=wrong, auth=None), 108)


@shows("POST /api/v4/auth")
@pytest.mark.parametrize("wrong", [{"username": BOSS[0], "password": "x"}, {"username": "x", "password": PASSWORD}])
async def test_wrong_passwords_lock_the_login(wrong: dict[str, str], autojump_clock: MockClock) -> None:
    """EMQX 4 answers each after two seconds; here a few are enough, and then the right one does not help either."""
    async with doors() as at:
        for _ in range(5):
            refused(await at.user.request("POST", "/auth", json=wrong, auth=None), 103, "Username/Password error")
        right = {"username": wrong["username"], "password": PASSWORD}
        refused(await at.user.request("POST", "/auth", json=right, auth=None), 103)


@shows("GET /api/v4/users", "POST /api/v4/users")
async def test_users(autojump_clock: MockClock) -> None:
    async with doors() as at:
        before = await got(at.user, "/users")
        assert {row["username"] for row in before} == {BOSS[0], WATCHER[0]}
        done(await at.user.post("/users", json=ANN))
        rows = await got(at.user, "/users")
        assert {"username": "ann", "tags": "administrator"} in rows
        for row in rows:
            assert row.keys() == {"username", "tags"}
            assert all(isinstance(value, str) for value in row.values())
        assert await logs_in(at, "ann", "battery-1")
        refused(await at.user.post("/users", json=ANN | {"password": "other-11"}), 113, "Username Already Exist")
        assert await logs_in(at, "ann", "battery-1")
        missing = "Username or password undefined"
        for bad in ({}, {"username": "x"}, {"password": "battery-1"}, {"tags": "x"}):
            refused(await at.user.post("/users", json=bad), 104, missing)
        for name in ("a b", "ä", "a/b", "-a", "a" * 257):
            refused(await at.user.post("/users", json=ANN | {"username": name}), (102, 108))
        for key in ("username", "password", "tags"):
            refused(await at.user.post("/users", json=ANN | {"username": "new", key: 5}), 108)
        assert await got(at.user, "/users") == rows


@shows("POST /api/v4/users")
@pytest.mark.parametrize(
    ("name", "good"), [("a_b", True), ("9_", True), ("a" * 100, True), ("a" * 101, False), ("a-b", False)]
)
async def test_names(name: str, good: bool, autojump_clock: MockClock) -> None:
    """As in EMQX 5, whose users they are: EMQX 4 would let them have hyphens and 256 characters."""
    async with doors() as at:
        answer = await at.user.post("/users", json=ANN | {"username": name})
        if good:
            done(answer)
            assert await logs_in(at, name, ANN["password"])
        else:
            refused(answer, (102, 108))


RULES = [
    ("a1" * 4, True),
    ("a1" * 32, True),
    ("a-------", True),
    ("1-------", True),
    ("a1a1a1a", False),
    ("a1" * 32 + "a", False),
    ("abcdefgh", False),
    ("12345678", False),
    ("--------", False),
    ("pässword1", False),
]


@shows("POST /api/v4/users", "PUT /api/v4/change_pwd/:username")
@pytest.mark.parametrize(("password", "good"), RULES)
async def test_passwords(password: str, good: bool, autojump_clock: MockClock) -> None:
    async with doors() as at:
        new = await at.user.post("/users", json=ANN | {"password": password})
        done(await at.user.post("/users", json=ANN | {"username": "bob"}))
        changed = await at.user.put("/change_pwd/bob", json={"old_pwd": ANN["password"], "new_pwd": password})
        if good:
            done(new)
            done(changed)
            assert await logs_in(at, "ann", password)
            assert await logs_in(at, "bob", password)
        else:
            refused(new, (102, 108))
            refused(changed, (102, 108))
            assert "ann" not in {row["username"] for row in await got(at.user, "/users")}
            assert await logs_in(at, "bob", ANN["password"])


@shows("PUT /api/v4/users/:name")
async def test_tags(autojump_clock: MockClock) -> None:
    async with doors() as at:
        done(await at.user.post("/users", json=ANN))
        done(await at.user.put("/users/ann", json={"tags": "night shift"}))
        assert {"username": "ann", "tags": "night shift"} in await got(at.user, "/users")
        assert await logs_in(at, "ann", ANN["password"])
        refused(await at.user.put("/users/nobody", json={"tags": "x"}), 105, "Username Not Found")
        refused(await at.user.put("/users/ann", json={"tags": 5}), 108)
        refused(await at.user.put("/users/ann", json={}), 107)
        done(await at.user.put("/users/ann", json={"tags": "viewer"}))
        answer = await at.user.post("/users", json=ANN | {"username": "x"}, auth=("ann", ANN["password"]))
        assert answer.status_code == 403


@shows("DELETE /api/v4/users/:name")
async def test_deleting(autojump_clock: MockClock) -> None:
    async with doors() as at:
        refused(await at.user.delete(f"/users/{BOSS[0]}"), 106)
        refused(await at.user.delete("/users/nobody"), 105, "Username Not Found")
        done(await at.user.post("/users", json=ANN))
        done(await at.user.delete("/users/ann"))
        assert not await logs_in(at, "ann", ANN["password"])
        refused(await at.user.delete("/users/ann"), 105, "Username Not Found")
        done(await at.user.delete(f"/users/{WATCHER[0]}"))
        assert {row["username"] for row in await got(at.user, "/users")} == {BOSS[0]}


@shows("DELETE /api/v4/users/:name")
async def test_admin_stays(autojump_clock: MockClock) -> None:
    async with doors() as at:
        done(await at.user.post("/users", json=ANN | {"username": "admin"}))
        refused(await at.user.delete("/users/admin"), 106, "Cannot delete admin")
        assert await logs_in(at, "admin", ANN["password"])


@shows("PUT /api/v4/change_pwd/:username")
async def test_another_password(autojump_clock: MockClock) -> None:
    async with doors() as at:
        done(await at.user.post("/users", json=ANN))
        path = "/change_pwd/ann"
        wrong = {"old_pwd": "wrong", "new_pwd": "battery-2"}
        refused(await at.user.put(path, json=wrong), 114, "Username/Password error")
        refused(await at.user.put("/change_pwd/nobody", json=wrong), 114, "Username/Password error")
        assert await logs_in(at, "ann", "battery-1")
        for missing in ({}, {"old_pwd": "battery-1"}, {"new_pwd": "battery-2"}):
            refused(await at.user.put(path, json=missing), (104, 107))
        refused(await at.user.put(path, json={"old_pwd": "battery-1", "new_pwd": 5}), 108)
        done(await at.user.put(path, json={"old_pwd": "battery-1", "new_pwd": "battery-2"}))
        assert await logs_in(at, "ann", "battery-2")
        assert not await logs_in(at, "ann", "battery-1")


@shows("GET /api/v4/users")
async def test_users_are_kept(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with doors(store=store) as at:
        done(await at.user.post("/users", json=ANN | {"tags": "night shift"}))
        rows = await got(at.user, "/users")
    async with doors(store=store) as at:
        assert await got(at.user, "/users") == rows
        assert await logs_in(at, "ann", ANN["password"])


CHANGES = [
    ("POST", "/topic-metrics"),
    ("DELETE", "/topic-metrics"),
    ("POST", "/trace"),
    ("DELETE", "/trace"),
    ("PUT", "/modules/emqx_mod_delayed/unload"),
    ("PUT", f"/nodes/{NODE}/plugins/emqx_retainer/unload"),
    ("PUT", "/listeners/mqtt:tcp:default/restart"),
    ("POST", "/alarms/deactivated"),
    ("DELETE", "/alarms/deactivated"),
    ("POST", "/data/export"),
    ("POST", "/data/import"),
    ("PUT", "/telemetry/status"),
    ("DELETE", "/slow_subscriptions"),
]


@shows("GET /api/v4/apps")
async def test_viewers_change_nothing(autojump_clock: MockClock) -> None:
    async with doors() as at:
        for auth in (VIEWER, WATCHER):
            for path in ("/brokers", "/metrics", "/alarms", "/plugins", "/modules", "/trace", "/topic-metrics"):
                data(await at.app.get(path, auth=auth))
            for method, path in CHANGES:
                answer = await at.app.request(method, path, json={"topic": "t"}, auth=auth)
                assert answer.status_code == 403, path
        for method, path in (("POST", "/apps"), ("DELETE", "/apps/x"), ("POST", "/users"), ("DELETE", "/users/boss")):
            answer = await at.app.request(method, path, json={"app_id": "mine", **ANN}, auth=WATCHER)
            assert answer.status_code == 403, path
        assert await got(at.app, "/topic-metrics") == []
        assert {row["username"] for row in await got(at.user, "/users")} == {BOSS[0], WATCHER[0]}
