"""Applications of EMQX 4, which are the API keys of EMQX 5."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import trio
from api.live import ADMIN, VIEWER, Live, running
from api.older import WATCHER, older
from api.operations import shows
from trio.testing import MockClock

from trio_broker.actors.api_keys import MOST, Role
from trio_broker.store.memory import MemoryStore

SAMPLE = {
    "app_id": "app1",
    "name": "Default",
    "desc": "Application user",
    "status": True,
    "expired": "undefined",
}


async def create(v4: httpx.AsyncClient, **changes: Any) -> str:
    """Its secret."""
    answer = await v4.post("/apps", json=SAMPLE | changes)
    assert answer.status_code == 200
    body = answer.json()
    assert body["code"] == 0, body
    assert set(body["data"]) == {"secret"}
    secret: str = body["data"]["secret"]
    return secret


async def may_call(v4: httpx.AsyncClient, app_id: str, secret: str) -> bool:
    answer = await v4.get("/brokers", auth=(app_id, secret))
    assert answer.status_code in (200, 401)
    return answer.status_code == 200


async def row_of(v4: httpx.AsyncClient, app_id: str) -> dict[str, Any]:
    body = (await v4.get(f"/apps/{app_id}")).json()
    assert body["code"] == 0
    row: dict[str, Any] = body["data"]
    return row


@shows("POST /api/v4/apps", "GET /api/v4/apps", "GET /api/v4/apps/:appid")
async def test_an_application_is_made_and_may_call(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4", user=True) as v4:
        assert await create(v4, secret="public") == "public"
        made = await create(v4, app_id="2nd_app-x", name="Default")
        assert len(made) >= 32
        listed = await v4.get("/apps")
        assert listed.json()["code"] == 0
        rows = {row["app_id"]: row for row in listed.json()["data"]}
        assert rows["app1"] == SAMPLE
        assert rows["2nd_app-x"] == SAMPLE | {"app_id": "2nd_app-x"}
        assert "public" not in listed.text
        assert made not in listed.text
        assert await row_of(v4, "app1") == SAMPLE
        assert await may_call(v4, "app1", "public")
        assert await may_call(v4, "2nd_app-x", made)
        assert not await may_call(v4, "app1", made)
        assert not await may_call(v4, "app1", "")
        # It is an administrator, also in v5.
        changed = await live.api.delete("/clients/nobody", auth=("app1", "public"))
        assert changed.status_code == 404


@shows("GET /api/v4/apps", "GET /api/v4/apps/:appid")
async def test_keys_of_v5_are_applications_and_the_other_way_round(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4", user=True) as v4:
        boss = await live.log_in()
        body = {"name": "of_five", "desc": "", "role": "viewer", "expired_at": "2099-01-01T00:00:00+00:00"}
        key = (await live.api.post("/api_key", json=body, auth=boss)).json()
        app_id, secret = key["api_key"], key["api_secret"]
        row = {"app_id": app_id, "name": "of_five", "desc": "undefined", "status": True, "expired": 4_070_908_800}
        assert await row_of(v4, app_id) == row
        assert await may_call(v4, app_id, secret)
        # Its role stays.
        assert (await v4.put(f"/apps/{app_id}", json=row | {"desc": "d"})).json() == {"code": 0}
        changed = (await live.api.get("/api_key/of_five", auth=boss)).json()
        assert (changed["role"], changed["desc"], changed["expired_at"]) == ("viewer", "d", key["expired_at"])
        await create(v4, app_id="four", name="My application", expired=4_070_908_800)
        await create(v4, app_id="named", name="named_in_v4")
        await create(v4, app_id="again", name="of_five")
        keys = {key["api_key"]: key for key in (await live.api.get("/api_key", auth=boss)).json()}
        assert (keys["four"]["name"], keys["four"]["role"], keys["four"]["enable"]) == ("four", "administrator", True)
        assert keys["four"]["desc"] == "Application user"
        assert keys["named"]["name"] == "named_in_v4"
        assert keys["again"]["name"] == "again"  # names are unique in v5, and only there
        assert (await row_of(v4, "again"))["name"] == "of_five"
        ids = [row["app_id"] for row in (await v4.get("/apps")).json()["data"]]
        assert set(ids) == {ADMIN[0], VIEWER[0], app_id, "four", "named", "again"}
        assert (await live.api.delete("/api_key/four", auth=boss)).status_code == 204
        assert await row_of(v4, "four") == {}


@shows("GET /api/v4/apps/:appid", "DELETE /api/v4/apps/:appid", "PUT /api/v4/apps/:appid")
async def test_an_application_that_is_not_there(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4", user=True) as v4:
        assert (await v4.get("/apps/none")).json() == {"code": 0, "data": {}}
        assert (await v4.delete("/apps/none")).json() == {"code": 0}
        answer = await v4.put("/apps/none", json=SAMPLE)
        assert (answer.status_code, answer.json()) == (200, {"code": 102, "message": "not_found"})


@shows("PUT /api/v4/apps/:appid")
async def test_all_four_are_replaced(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store=store) as live, older(live, "v4", user=True) as v4:
        secret = await create(v4)
        body = {"name": "Other", "desc": "d", "status": True, "expired": 4_070_908_800}
        assert (await v4.put("/apps/app1", json=body)).json() == {"code": 0}
        assert await row_of(v4, "app1") == {"app_id": "app1", **body}
        assert await may_call(v4, "app1", secret)
        assert (await v4.put("/apps/app1", json={"status": True})).json() == {"code": 0}
        bare = {"app_id": "app1", "name": "undefined", "desc": "undefined", "status": True, "expired": "undefined"}
        assert await row_of(v4, "app1") == bare
        assert (await v4.put("/apps/app1", json={"name": "n"})).json() == {"code": 0}
        kept = bare | {"name": "n", "status": False}
        assert await row_of(v4, "app1") == kept
        assert not await may_call(v4, "app1", secret)
    async with running(store=store) as live, older(live, "v4", user=True) as v4:
        assert await row_of(v4, "app1") == kept
        assert (await v4.put("/apps/app1", json={"status": True})).json() == {"code": 0}
        assert await may_call(v4, "app1", secret)


@shows("POST /api/v4/apps", "PUT /api/v4/apps/:appid")
async def test_what_is_over_may_not_call(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4", user=True) as v4:
        soon = live.broker.questions.api_keys.now() + 60
        secret = await create(v4, expired=soon)
        assert (await row_of(v4, "app1"))["expired"] == soon
        assert await may_call(v4, "app1", secret)
        await trio.sleep(61)
        assert not await may_call(v4, "app1", secret)
        # Texts as numbers are taken, as they come from a query.
        assert (await v4.put(f"/apps/app1?status=true&expired={soon + 60}")).json() == {"code": 0}
        assert await may_call(v4, "app1", secret)


@shows("POST /api/v4/apps")
async def test_without_a_status_it_may_not_call(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4", user=True) as v4:
        answer = await v4.post("/apps", json={"app_id": "bare", "secret": ""})
        secret = answer.json()["data"]["secret"]
        assert len(secret) >= 32
        assert await row_of(v4, "bare") == {
            "app_id": "bare",
            "name": "undefined",
            "desc": "undefined",
            "status": False,
            "expired": "undefined",
        }
        assert not await may_call(v4, "bare", secret)


@shows("DELETE /api/v4/apps/:appid")
async def test_an_application_is_deleted(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4", user=True) as v4:
        secret = await create(v4)
        assert await may_call(v4, "app1", secret)
        assert (await v4.delete("/apps/app1")).json() == {"code": 0}
        assert not await may_call(v4, "app1", secret)
        assert await create(v4, secret="another") == "another"
        assert not await may_call(v4, "app1", secret)
        assert await may_call(v4, "app1", "another")
        # What stands in the bootstrap file would come back.
        refused = (await v4.delete(f"/apps/{VIEWER[0]}")).json()
        assert refused["code"] == 102
        assert "bootstrap file" in refused["message"]
        assert await may_call(v4, *VIEWER)


@shows("POST /api/v4/apps")
@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"app_id": "there"}, 113, "already_existed"),
        ({"app_id": ADMIN[0]}, 113, "already_existed"),
        ({"app_id": ""}, 102, "bad_app_id"),
        ({"app_id": "-a"}, 102, "bad_app_id"),
        ({"app_id": "a b"}, 102, "bad_app_id"),
        ({"app_id": "ä"}, 102, "bad_app_id"),
        ({"app_id": "a\n"}, 102, "bad_app_id"),
        ({"app_id": "a" * 257}, 102, "bad_app_id"),
        ({"app_id": None}, 107, "app_id"),
        ({"app_id": 1}, 108, "app_id"),
        ({"status": "perhaps"}, 108, "perhaps"),
        ({"secret": 1}, 108, "secret"),
        ({"secret": "a\0"}, 108, "bad_secret"),
        ({"expired": "soon"}, 108, "bad_expired"),
        ({"expired": -1}, 108, "bad_expired"),
        ({"expired": 10**12}, 108, "bad_expired"),
        ({"expired": []}, 108, "expired"),
        ({"name": "n" * 1025}, 108, "name"),
    ],
)
async def test_what_does_not_become_an_application(
    autojump_clock: MockClock, changes: dict[str, Any], code: int, message: str
) -> None:
    async with running() as live, older(live, "v4", user=True) as v4:
        await create(v4, app_id="there")
        before = (await v4.get("/apps")).json()
        answer = await v4.post("/apps", json=SAMPLE | changes)
        assert (answer.status_code, answer.json()["code"]) == (200, code), answer.text
        assert message in answer.json()["message"]
        assert (await v4.get("/apps")).json() == before


@shows("POST /api/v4/apps")
async def test_two_of_one_id_at_one_time(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4", user=True) as v4:
        codes: list[int] = []

        async def come(app_id: str, name: str) -> None:
            codes.append((await v4.post("/apps", json=SAMPLE | {"app_id": app_id, "name": name})).json()["code"])

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(come, "same", "n")
            nursery.start_soon(come, "other", "n")
        assert sorted(codes) == [0, 0, 113, 113]
        boss = await live.log_in()
        keys = (await live.api.get("/api_key", auth=boss)).json()
        assert len({key["name"] for key in keys}) == len(keys) == 4


@shows("POST /api/v4/apps")
async def test_there_is_a_most(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4", user=True) as v4:
        keys = live.broker.questions.api_keys
        while sum(key.hash is not None for key in keys.rows()) < MOST:
            await keys.create(f"k{len(keys.rows())}", Role.VIEWER)
        answer = (await v4.post("/apps", json=SAMPLE)).json()
        assert answer == {"code": 102, "message": "Maximum number of applications reached."}


@shows("GET /api/v4/apps", "POST /api/v4/apps", "PUT /api/v4/apps/:appid", "DELETE /api/v4/apps/:appid")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/apps"),
        ("GET", "/apps/app1"),
        ("POST", "/apps"),
        ("PUT", "/apps/app1"),
        ("DELETE", "/apps/app1"),
    ],
)
async def test_people_manage_them(autojump_clock: MockClock, method: str, path: str) -> None:
    async with running() as live, older(live, "v4") as v4:
        json = SAMPLE if method in ("POST", "PUT") else None
        answer = await v4.request(method, path, json=json)
        assert (answer.status_code, answer.text) == (404, "Not found.")
        assert (await v4.request(method, path, json=json, auth=("boss", "wrong"))).status_code == 401
        if method != "GET":
            assert (await v4.request(method, path, json=json, auth=WATCHER)).status_code == 403
        assert live.broker.questions.api_keys.by_api_key("app1") is None


def of(live: Live, app_id: str) -> Any:
    return live.broker.questions.api_keys.by_api_key(app_id)


@shows("POST /api/v4/apps")
async def test_no_secret_is_kept(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store=store) as live, older(live, "v4", user=True) as v4:
        await create(v4, secret="a very secret text")
        assert "a very secret text" not in repr(of(live, "app1"))
    async with running(store=store) as live, older(live, "v4", user=True) as v4:
        assert of(live, "app1").hash.verify("a very secret text")
        assert await may_call(v4, "app1", "a very secret text")
        assert await row_of(v4, "app1") == SAMPLE
