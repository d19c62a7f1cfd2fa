"""The contract of `/api/v4`, read afresh: applications, what they may do and until when."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
import trio
from api.live import ADMIN, VIEWER, running
from api.older import older
from api.operations import shows
from review.doors_v4 import Doors, body, data, done, doors, got, refused, unauthorized
from trio.testing import MockClock

from trio_broker.store.memory import MemoryStore

APP = {"app_id", "name", "desc", "status", "expired"}


async def create(at: Doors, app_id: str, **fields: Any) -> str:
    """Gives its secret."""
    found = data(await at.user.post("/apps", json={"app_id": app_id, **fields}))
    assert found.keys() == {"secret"}
    assert isinstance(found["secret"], str)
    return str(found["secret"])


async def logs_in(at: Doors, app_id: str, secret: str) -> bool:
    answer = await at.app.get("/brokers", auth=(app_id, secret))
    if answer.status_code == 200:
        return bool(data(answer))
    unauthorized(answer)
    return False


@shows("GET /api/v4/apps", "POST /api/v4/apps", "GET /api/v4/apps/:appid")
async def test_applications(autojump_clock: MockClock) -> None:
    async with doors() as at:
        expired = int(time.time()) + 86400
        full = {"name": "Name", "desc": "What it is", "status": True, "expired": expired}
        assert await create(at, "app-1", secret="my secret", **full) == "my secret"
        rows = {row["app_id"]: row for row in await got(at.user, "/apps")}
        assert rows.keys() == {"app-1", ADMIN[0], VIEWER[0]}
        for row in rows.values():
            assert row.keys() == APP
            assert type(row["status"]) is bool
            assert all(isinstance(row[key], str) for key in ("app_id", "name", "desc"))
        assert rows["app-1"] == {"app_id": "app-1", **full}
        assert rows[ADMIN[0]]["expired"] == "undefined"
        one = await got(at.user, "/apps/app-1")
        assert {key: value for key, value in one.items() if key != "secret"} == rows["app-1"]
        assert await got(at.user, "/apps/nobody") == {}
        assert await logs_in(at, "app-1", "my secret")
        assert not await logs_in(at, "app-1", "another")


@shows("POST /api/v4/apps")
async def test_secrets_that_are_made(autojump_clock: MockClock) -> None:
    async with doors() as at:
        secrets = [await create(at, "a", status=True), await create(at, "b", status=True, secret="")]
        assert len({*secrets, ""}) == 3
        assert await logs_in(at, "a", secrets[0])
        assert await logs_in(at, "b", secrets[1])
        assert not await logs_in(at, "a", secrets[1])
        assert not await logs_in(at, "b", "")


@shows("POST /api/v4/apps")
async def test_which_may_log_in(autojump_clock: MockClock) -> None:
    async with doors() as at:
        now = int(time.time())
        assert await logs_in(at, "on", await create(at, "on", status=True))
        assert await logs_in(at, "future", await create(at, "future", status=True, expired=now + 1000))
        assert not await logs_in(at, "off", await create(at, "off", status=False))
        assert not await logs_in(at, "no_status", await create(at, "no_status"))
        assert not await logs_in(at, "past", await create(at, "past", status=True, expired=now - 10))
        assert not await logs_in(at, "past_off", await create(at, "past_off", status=False, expired=now - 10))


@shows("POST /api/v4/apps")
async def test_one_expires_while_it_is_used(autojump_clock: MockClock) -> None:
    async with doors() as at:
        soon = int(time.time()) + 1000
        secret = await create(at, "soon", status=True, expired=soon)
        assert await logs_in(at, "soon", secret)
        await trio.sleep(1010)
        assert not await logs_in(at, "soon", secret)
        assert (await got(at.user, "/apps/soon"))["expired"] == soon


@shows("POST /api/v4/apps")
async def test_what_is_refused(autojump_clock: MockClock) -> None:
    async with doors() as at:
        secret = await create(at, "app", status=True)
        refused(await at.user.post("/apps", json={"app_id": "app", "secret": "x"}), 113, "already_existed")
        assert await logs_in(at, "app", secret)
        refused(await at.user.post("/apps", json={"name": "x"}), 107)
        for bad in ("_a", "-a", "a b", "a.b", "a/b", "ä", "a" * 257, "a\n"):
            refused(await at.user.post("/apps", json={"app_id": bad, "status": True}), (102, 108))
        refused(await at.user.post("/apps", json={"app_id": ""}), (102, 107, 108))
        wrong = {"app_id": 5, "name": 5, "desc": [], "status": "yes", "expired": "tomorrow", "secret": 1}
        for key, value in wrong.items():
            refused(await at.user.post("/apps", json={"app_id": "bad", key: value}), 108)
        for good in ("9", "A-_z", "a" * 256):
            await create(at, good)
        assert {row["app_id"] for row in await got(at.user, "/apps")} - {ADMIN[0], VIEWER[0]} == {
            "app",
            "9",
            "A-_z",
            "a" * 256,
        }


@shows("PUT /api/v4/apps/:appid")
async def test_all_four_are_replaced(autojump_clock: MockClock) -> None:
    async with doors() as at:
        secret = await create(at, "a", name="n", desc="d", status=True, expired=int(time.time()) + 1000)
        done(await at.user.put("/apps/a", json={"name": "new", "status": True}))
        row = await got(at.user, "/apps/a")
        assert {key: row[key] for key in APP} == {
            "app_id": "a",
            "name": "new",
            "desc": "undefined",
            "status": True,
            "expired": "undefined",
        }
        assert await logs_in(at, "a", secret)
        done(await at.user.put("/apps/a", json={"name": "n", "desc": "d", "expired": int(time.time()) + 1000}))
        assert not await logs_in(at, "a", secret)
        done(await at.user.put("/apps/a", json={"status": True}))
        assert (await got(at.user, "/apps/a"))["name"] == "undefined"
        assert await logs_in(at, "a", secret)
        done(await at.user.put("/apps/a", json={"status": True, "expired": int(time.time()) - 10}))
        assert not await logs_in(at, "a", secret)
        refused(await at.user.put("/apps/nobody", json={"status": True}), 102, "not_found")
        for key, value in {"name": 5, "desc": {}, "status": "yes", "expired": "tomorrow"}.items():
            refused(await at.user.put("/apps/a", json={key: value}), 108)


@shows("PUT /api/v4/apps/:appid")
async def test_what_is_absent_becomes_undefined(autojump_clock: MockClock) -> None:
    """An absent `status` is false: such an application may not call."""
    async with doors() as at:
        await create(at, "a", status=True)
        done(await at.user.put("/apps/a", json={}))
        row = await got(at.user, "/apps/a")
        assert {row[key] for key in ("name", "desc", "expired")} == {"undefined"}
        assert row["status"] is False


@shows("DELETE /api/v4/apps/:appid")
async def test_deleting(autojump_clock: MockClock) -> None:
    async with doors() as at:
        secret = await create(at, "a", status=True)
        assert await logs_in(at, "a", secret)
        for _ in range(2):
            done(await at.user.delete("/apps/a"))
        done(await at.user.delete("/apps/never"))
        assert not await logs_in(at, "a", secret)
        assert await got(at.user, "/apps/a") == {}
        again = await create(at, "a", status=True)
        assert await logs_in(at, "a", again)
        assert not await logs_in(at, "a", secret)


@shows("GET /api/v4/apps", "DELETE /api/v4/apps/:appid")
async def test_applications_are_kept(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with doors(store=store) as at:
        secret = await create(at, "kept", name="n", status=True)
        await create(at, "gone", status=True)
        done(await at.user.delete("/apps/gone"))
        shown = await got(at.user, "/apps/kept")
    async with doors(store=store) as at:
        assert await got(at.user, "/apps/kept") == shown
        assert await got(at.user, "/apps/gone") == {}
        assert await logs_in(at, "kept", secret)


@shows("POST /api/v4/apps", "PUT /api/v4/apps/:appid")
async def test_one_may_call_everything(autojump_clock: MockClock) -> None:
    """And is the same as a key of `/api/v5`."""
    async with doors() as at:
        secret = await create(at, "script", status=True)
        auth = httpx.BasicAuth("script", secret)
        done(await at.app.post("/topic-metrics", json={"topic": "t"}, auth=auth))
        done(await at.app.post("/mqtt/publish", json={"topic": "t"}, auth=auth))
        assert (await at.live.api.get("/nodes", auth=auth)).status_code == 200
        done(await at.user.put("/apps/script", json={"status": False}))
        assert (await at.live.api.get("/nodes", auth=auth)).status_code == 401


@shows("GET /api/v4/apps/:appid")
@pytest.mark.parametrize("path", ["a%2Db", "%61-b"])
async def test_the_id_is_decoded(path: str, autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4", user=True) as user:
        data(await user.post("/apps", json={"app_id": "a-b"}))
        assert body(await user.get(f"/apps/{path}"))["data"]["app_id"] == "a-b"
