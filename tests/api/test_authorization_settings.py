"""`/authorization/settings` and what is kept of decisions, over REST."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from actors.fake_access import Script, fakes
from actors.flows import SESSION, settle
from api.live import Live, running
from api.operations import shows
from trio.testing import MockClock

from trio_broker.config import Config, Layers
from trio_broker.config.authorization import AuthorizationConfig, FileSourceConfig
from trio_broker.protocol.packets import PubAck
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import Client, ConnectionEnded

SETTINGS = "/authorization/settings"
DEFAULTS: dict[str, Any] = {
    "no_match": "allow",
    "deny_action": "ignore",
    "cache": {"enable": True, "max_size": 32, "ttl": "1m", "excludes": []},
}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    return fakes(monkeypatch)


def with_rules() -> Config:
    return Config(authorization=AuthorizationConfig(sources=(FileSourceConfig(),)))


async def published(client: Client, topic: str = "t") -> int:
    answer = await client.publish(topic, b"x", 1)
    assert isinstance(answer, PubAck)
    return int(answer.reason_code)


@shows("GET /authorization/settings", "PUT /authorization/settings")
async def test_look_and_change(script: Script) -> None:
    store = MemoryStore()
    wanted = {
        "no_match": "deny",
        "deny_action": "disconnect",
        "cache": {"enable": False, "max_size": 1048576, "ttl": "1m30s", "excludes": ["a/#", "+/b"]},
    }
    async with running(with_rules(), store) as live:
        answer = await live.api.get(SETTINGS)
        assert (answer.status_code, answer.json()) == (200, DEFAULTS)
        answer = await live.api.put(SETTINGS, json=wanted)
        assert (answer.status_code, answer.json()) == (200, wanted)
        assert (await live.api.get(SETTINGS)).json() == wanted
        assert len((await live.api.get("/authorization/sources")).json()["sources"]) == 1
    async with running(with_rules(), store) as live:
        assert (await live.api.get(SETTINGS)).json() == wanted


@shows("PUT /authorization/settings")
@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"no_match": "perhaps"}, "root.no_match"),
        ({"deny_action": "laugh"}, "root.deny_action"),
        ({"no_match": None}, "root.no_match"),
        ({"deny_action": None}, "root.deny_action"),
        ({"cache": None}, "root.cache"),
        ({"cache": {"max_size": 0}}, "root.cache.max_size"),
        ({"cache": {"max_size": 1048577}}, "root.cache.max_size"),
        ({"cache": {"ttl": "long"}}, "root.cache.ttl"),
        ({"cache": {"excludes": ["a/#/b"]}}, "root.cache.excludes"),
        ({"cache": {"enable": 1}}, "root.cache.enable"),
        ({"cache": {"size": 1}}, "root.cache"),
        ({"sources": []}, "root"),
    ],
)
async def test_settings_that_cannot_be(script: Script, changes: dict[str, Any], path: str) -> None:
    async with running(with_rules()) as live:
        answer = await live.api.put(SETTINGS, json={**DEFAULTS, **changes})
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        assert f'"path":"{path}' in answer.json()["message"]
        assert (await live.api.get(SETTINGS)).json() == DEFAULTS


@shows("PUT /authorization/settings")
async def test_what_the_environment_says_cannot_be_changed(script: Script) -> None:
    layers = Layers.gather(None, {"TRIO_BROKER_AUTHORIZATION__NO_MATCH": "deny"}, base=Config())
    async with running(layers.config(), layers=layers) as live:
        answer = await live.api.put(SETTINGS, json=DEFAULTS)
        assert (answer.status_code, answer.json()["code"]) == (403, "UPDATE_FAILED")
        assert (await live.api.get(SETTINGS)).json() == {**DEFAULTS, "no_match": "deny"}


@shows("PUT /authorization/settings")
async def test_who_is_connected_goes_by_them_at_once(script: Script, autojump_clock: MockClock) -> None:
    """Without any source, too."""
    async with running() as live:
        client = await live.connect("c")
        assert await published(client) == 0x10
        await live.api.put(SETTINGS, json={**DEFAULTS, "no_match": "deny"})
        assert await published(client) == 0x87
        await live.api.put(SETTINGS, json={**DEFAULTS, "no_match": "deny", "deny_action": "disconnect"})
        with pytest.raises(ConnectionEnded):
            await published(client)
        assert client.disconnected is not None
        assert client.disconnected.reason_code == 0x87


# -- what is kept


async def kept(live: Live, client_id: str = "c") -> list[dict[str, Any]]:
    answer = await live.api.get(f"/clients/{client_id}/authorization/cache")
    assert answer.status_code == 200
    rows: list[dict[str, Any]] = answer.json()
    return rows


@shows("GET /clients/:clientid/authorization/cache")
async def test_what_is_kept_for_a_client(script: Script, autojump_clock: MockClock) -> None:
    script.decisions["file"] = lambda subject, request: request.topic != "no"
    async with running(with_rules()) as live:
        client = await live.connect("c")
        assert await kept(live) == []
        core = live.broker.questions.traces._core
        now_ms = core.clock.wall_ms(core.clock.now())
        await published(client)
        await client.publish("t", b"x")
        await client.publish("no", b"x", 2, True)
        await client.subscribe("$share/g/a/+", qos=2)
        rows = await kept(live)
        assert all(abs(row.pop("updated_time") - now_ms) < 2000 for row in rows)
        assert rows == [
            {"access": {"action_type": "publish", "qos": 1, "retain": False}, "topic": "t", "result": "allow"},
            {"access": {"action_type": "publish", "qos": 0, "retain": False}, "topic": "t", "result": "allow"},
            {"access": {"action_type": "publish", "qos": 2, "retain": True}, "topic": "no", "result": "deny"},
            {"access": {"action_type": "subscribe", "qos": 2}, "topic": "a/+", "result": "allow"},
        ]
        await trio.sleep(61)
        assert await kept(live) == []


@shows("GET /clients/:clientid/authorization/cache", "DELETE /clients/:clientid/authorization/cache")
async def test_of_which_nothing_is_kept(script: Script) -> None:
    """Who is away, and who may do everything."""
    async with running() as live:
        client = await live.connect("c", properties=SESSION)
        await published(client)
        assert await kept(live) == []
        await live.api.post("/authorization/sources", json={"type": "file", "rules": ""})
        await published(client)
        assert len(await kept(live)) == 1
        await client.disconnect()
        await settle()
        assert await kept(live) == []
        assert (await live.api.delete("/clients/c/authorization/cache")).status_code == 204


@shows("DELETE /clients/:clientid/authorization/cache", "DELETE /authorization/cache")
async def test_forget(script: Script) -> None:
    async with running(with_rules()) as live:
        clients = [await live.connect(client_id) for client_id in ("c", "d")]
        for client in clients:
            await published(client)
        answer = await live.api.delete("/clients/c/authorization/cache")
        assert (answer.status_code, answer.content) == (204, b"")
        assert [len(await kept(live, client_id)) for client_id in ("c", "d")] == [0, 1]
        await published(clients[0])
        answer = await live.api.delete("/authorization/cache")
        assert (answer.status_code, answer.content) == (204, b"")
        assert [len(await kept(live, client_id)) for client_id in ("c", "d")] == [0, 0]


@shows("GET /clients/:clientid/authorization/cache", "DELETE /clients/:clientid/authorization/cache")
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_client_there_is_not(script: Script, method: str) -> None:
    async with running() as live:
        answer = await live.api.request(method, "/clients/nobody/authorization/cache")
        expected = {"code": "CLIENTID_NOT_FOUND", "message": "Client ID not found"}
        assert (answer.status_code, answer.json()) == (404, expected)
