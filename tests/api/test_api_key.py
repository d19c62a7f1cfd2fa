"""API keys over REST, over a real broker: they are managed with a token, and used as soon as they are there."""

from __future__ import annotations

import gzip
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from api.live import ADMIN, VIEWER, Live, running
from api.operations import shows
from trio.testing import MockClock

from trio_broker.actors.api_keys import MOST, Role
from trio_broker.config import Config, NodeConfig
from trio_broker.store.memory import MemoryStore

OF_FILE = 2
"""Keys that `running` lets in, as a bootstrap file does."""


async def create(live: Live, auth: httpx.Auth, name: str = "ci", **more: Any) -> dict[str, Any]:
    answer = await live.api.post("/api_key", json={"name": name, **more}, auth=auth)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def status(live: Live, made: dict[str, Any], method: str = "GET", path: str = "/nodes") -> tuple[int, str]:
    """What the key is answered, and the code where it is a failure."""
    answer = await live.api.request(method, path, auth=(made["api_key"], made["api_secret"]))
    body = answer.json()
    return answer.status_code, body.get("code", "") if isinstance(body, dict) else ""


@shows("POST /api_key", "GET /api_key", "GET /api_key/:name")
async def test_a_key_is_made_shown_and_used() -> None:
    async with running() as live:
        boss = await live.log_in()
        made = await create(live, boss, "EMQX-API-KEY_1", enable=True, desc="Note", expired_at="infinity")
        secret = made.pop("api_secret")
        assert len(secret) >= 32
        assert datetime.fromisoformat(made["created_at"]).tzinfo is not None
        assert made == {
            "name": "EMQX-API-KEY_1",
            "api_key": made["api_key"],
            "enable": True,
            "desc": "Note",
            "created_at": made["created_at"],
            "expired_at": "infinity",
            "expired": False,
            "role": "administrator",
        }
        assert (await live.api.get("/api_key/EMQX-API-KEY_1", auth=boss)).json() == made
        listed = (await live.api.get("/api_key", auth=boss)).json()
        assert len(listed) == OF_FILE + 1
        assert listed[-1] == made
        assert secret not in str(listed)
        assert all("api_secret" not in row for row in listed)
        assert (await live.api.get("/nodes", auth=(made["api_key"], secret))).status_code == 200
        assert (await live.api.get("/nodes", auth=(made["api_key"], secret + "x"))).status_code == 401


@shows("POST /api_key")
async def test_only_a_name_is_needed() -> None:
    """EMQX fails without `enable` and `desc`; what it does not know it ignores."""
    async with running() as live:
        made = await create(live, await live.log_in(), more=1, desc=None)
        assert (made["enable"], made["desc"], made["expired_at"], made["role"]) == (
            True,
            "",
            "infinity",
            "administrator",
        )


@shows("POST /api_key")
@pytest.mark.parametrize("role", Role)
async def test_a_key_may_what_its_role_may(role: Role) -> None:
    async with running() as live:
        made = await create(live, await live.log_in(), role=role.value)
        assert made["role"] == role
        may_get = role is not Role.PUBLISHER
        assert await status(live, made) == ((200, "") if may_get else (403, "UNAUTHORIZED_ROLE"))
        may_publish = role is not Role.VIEWER
        expected = (400, "BAD_REQUEST") if may_publish else (403, "UNAUTHORIZED_ROLE")
        assert await status(live, made, "POST", "/publish") == expected
        may_kick = role is Role.ADMINISTRATOR
        expected = (404, "CLIENTID_NOT_FOUND") if may_kick else (403, "UNAUTHORIZED_ROLE")
        assert await status(live, made, "DELETE", "/clients/c1") == expected


@shows("POST /api_key", "PUT /api_key/:name")
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "1a"},
        {"name": "a b"},
        {"name": "ä"},
        {"name": "a\n"},
        {"name": "x" * 257},
        {"name": 1},
        {"name": "ok", "role": "king"},
        {"name": "ok", "enable": 1},
        {"name": "ok", "expired_at": "tomorrow"},
        {"name": "ok", "expired_at": "2030-01-01T00:00:00"},
        {"name": "ok", "expired_at": 10**12},
        {"name": "ok", "expired_at": -1},
        {"name": "ok", "desc": "x" * 1025},
    ],
)
async def test_bodies_that_are_refused(body: dict[str, Any]) -> None:
    async with running() as live:
        boss = await live.log_in()
        answer = await live.api.post("/api_key", json=body, auth=boss)
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        if body.pop("name", None) == "ok":
            await create(live, boss)
            answer = await live.api.put("/api_key/ci", json=body, auth=boss)
            assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")


@shows("POST /api_key")
async def test_a_name_is_there_once_and_keys_are_not_without_number() -> None:
    async with running() as live:
        boss = await live.log_in()
        await create(live, boss)
        answer = await live.api.post("/api_key", json={"name": "ci"}, auth=boss)
        assert (answer.status_code, answer.json()["message"]) == (400, "name_already_existed")
        answer = await live.api.post("/api_key", json={"name": "from_bootstrap_file_1"}, auth=boss)
        assert answer.status_code == 400
        for number in range(1, MOST):
            await create(live, boss, f"key-{number}")
        answer = await live.api.post("/api_key", json={"name": "more"}, auth=boss)
        assert answer.status_code == 400
        assert answer.json() == {"code": "BAD_REQUEST", "message": "Maximum number of ApiKeys reached."}


@shows("PUT /api_key/:name")
async def test_a_change_holds_from_the_next_request_on() -> None:
    async with running() as live:
        boss = await live.log_in()
        made = await create(live, boss, desc="first", role="viewer")
        assert await status(live, made) == (200, "")
        answer = await live.api.put("/api_key/ci", json={"enable": False, "role": "viewer"}, auth=boss)
        assert answer.status_code == 200
        assert (answer.json()["enable"], answer.json()["desc"], answer.json()["role"]) == (False, "first", "viewer")
        assert await status(live, made) == (401, "BAD_API_KEY_OR_SECRET")
        answer = await live.api.put("/api_key/ci", json={"enable": True, "desc": "", "role": "publisher"}, auth=boss)
        assert (answer.json()["enable"], answer.json()["desc"]) == (True, "")
        assert await status(live, made) == (403, "UNAUTHORIZED_ROLE")
        # As in EMQX: without a role it is an administrator's, without an end it has none.
        answer = await live.api.put("/api_key/ci", json={}, auth=boss)
        assert (answer.json()["role"], answer.json()["expired_at"]) == ("administrator", "infinity")
        assert await status(live, made) == (200, "")


@shows("DELETE /api_key/:name")
async def test_a_deleted_key_is_gone_at_once() -> None:
    async with running() as live:
        boss = await live.log_in()
        made = await create(live, boss)
        assert await status(live, made) == (200, "")
        answer = await live.api.delete("/api_key/ci", auth=boss)
        assert (answer.status_code, answer.content) == (204, b"")
        assert await status(live, made) == (401, "BAD_API_KEY_OR_SECRET")
        again = await create(live, boss)
        assert await status(live, made) == (401, "BAD_API_KEY_OR_SECRET")
        assert await status(live, again) == (200, "")


@shows("GET /api_key/:name", "PUT /api_key/:name", "DELETE /api_key/:name")
async def test_a_key_that_there_is_not() -> None:
    async with running() as live:
        boss = await live.log_in()
        for method, body in (("GET", None), ("PUT", {}), ("DELETE", None)):
            answer = await live.api.request(method, "/api_key/nobody", json=body, auth=boss)
            assert answer.status_code == 404
            assert answer.json() == {"code": "NOT_FOUND", "message": "Name NOT FOUND"}


@shows("POST /api_key", "PUT /api_key/:name")
async def test_a_key_expires(mock_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        now = live.broker.questions.api_keys.now()
        made = await create(live, boss, expired_at=str(now + 60))
        assert await status(live, made) == (200, "")
        mock_clock.jump(61)
        assert await status(live, made) == (401, "BAD_API_KEY_OR_SECRET")
        shown = (await live.api.get("/api_key/ci", auth=boss)).json()
        assert shown["expired"] is True
        assert datetime.fromisoformat(shown["expired_at"]).timestamp() == now + 60

        later = datetime.fromtimestamp(now + 120).astimezone().isoformat()
        shown = (await live.api.put("/api_key/ci", json={"expired_at": later}, auth=boss)).json()
        assert (shown["expired"], shown["role"]) == (False, "administrator")
        assert await status(live, made) == (200, "")
        mock_clock.jump(60)
        assert await status(live, made) == (401, "BAD_API_KEY_OR_SECRET")
        past = await create(live, boss, "past", expired_at="2001-01-01T00:00:00Z")
        assert past["expired"] is True


@shows("POST /api_key", "PUT /api_key/:name", "DELETE /api_key/:name")
async def test_all_of_it_is_there_after_a_restart() -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        boss = await live.log_in()
        kept = await create(live, boss, "kept", expired_at=2_000_000_000, role="viewer", desc="d")
        disabled = await create(live, boss, "disabled")
        await live.api.put("/api_key/disabled", json={"enable": False}, auth=boss)
        deleted = await create(live, boss, "deleted")
        await live.api.delete("/api_key/deleted", auth=boss)
        before = (await live.api.get("/api_key", auth=boss)).json()
    async with running(store=store) as live:
        boss = await live.log_in()
        after = (await live.api.get("/api_key", auth=boss)).json()
        assert sorted(str(row) for row in after if "bootstrap" not in row["name"]) == sorted(
            str(row) for row in before if "bootstrap" not in row["name"]
        )
        assert await status(live, kept) == (200, "")
        for gone in (disabled, deleted):
            assert await status(live, gone) == (401, "BAD_API_KEY_OR_SECRET")


@shows("GET /api_key", "PUT /api_key/:name", "DELETE /api_key/:name")
async def test_keys_of_the_bootstrap_file_can_be_changed_and_not_deleted() -> None:
    async with running() as live:
        boss = await live.log_in()
        (name,) = [row["name"] for row in (await live.api.get("/api_key", auth=boss)).json() if row["role"] == "viewer"]
        assert name.startswith("from_bootstrap_file_")
        answer = await live.api.delete(f"/api_key/{name}", auth=boss)
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        assert "bootstrap file" in answer.json()["message"]
        assert (await live.api.get("/nodes", auth=VIEWER)).status_code == 200
        answer = await live.api.put(f"/api_key/{name}", json={"enable": False, "role": "viewer"}, auth=boss)
        assert answer.status_code == 200
        assert (await live.api.get("/nodes", auth=VIEWER)).status_code == 401


@shows("GET /api_key", "POST /api_key", "GET /api_key/:name", "PUT /api_key/:name", "DELETE /api_key/:name")
async def test_no_key_manages_keys() -> None:
    """Whoever has one could make others that outlive it."""
    async with running() as live:
        for method, path in (
            ("GET", "/api_key"),
            ("POST", "/api_key"),
            ("GET", "/api_key/ci"),
            ("PUT", "/api_key/ci"),
            ("DELETE", "/api_key/ci"),
        ):
            answer = await live.api.request(method, path, auth=ADMIN)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == 'Basic Realm="emqx-dashboard"'
            assert answer.json() == {
                "code": "API_KEY_NOT_ALLOW",
                "message": ("Please use bearer Token instead, using API key/secret in api_key path is not permitted"),
            }


@shows("GET /api_key", "POST /api_key")
async def test_a_viewer_sees_keys_and_makes_none() -> None:
    async with running() as live:
        viewer = await live.log_in("vera", Role.VIEWER)
        assert (await live.api.get("/api_key", auth=viewer)).status_code == 200
        answer = await live.api.post("/api_key", json={"name": "mine"}, auth=viewer)
        assert (answer.status_code, answer.json()["code"]) == (403, "UNAUTHORIZED_ROLE")


@shows("POST /data/export")
async def test_keys_and_users_are_in_no_data_backup(tmp_path: Path) -> None:
    async with running(Config(node=NodeConfig(data_dir=str(tmp_path)))) as live:
        boss = await live.log_in()
        made = await create(live, boss)
        name = (await live.api.post("/data/export", json={}, auth=boss)).json()["filename"]
        content = gzip.decompress(await live.broker.questions.data_backup.read(name))
        assert b"trio-broker-export" in content
        for text in (made["api_key"], "boss", "scrypt", "hash"):
            assert text.encode() not in content
        answer = await live.api.post("/data/export", json={"table_sets": ["dashboard_users"]}, auth=boss)
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
