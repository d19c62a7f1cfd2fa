"""`/listeners`: what is there, what can be said of it, and what is refused."""

from __future__ import annotations

import json
from typing import Any, get_args

import httpx
import pytest
from api.doors import ANYWHERE, address_of, client_at, ended, is_closed, put, shown, with_listener
from api.fake_questions import NODE
from api.live import running
from api.operations import shows
from msgspec.structs import fields

from trio_broker.actors.questions import ListenerInfo
from trio_broker.actors.settings import Overridden
from trio_broker.api.v5 import listener_body
from trio_broker.config import Config, Layers, ListenerConfig, SslOptions, TcpOptions, WebsocketOptions
from trio_broker.config.setting import entries
from trio_broker.errors import ConfigError

MISSING = {"code": "BAD_LISTENER_ID", "message": "Listener id not found"}
PROXY = {"proxy_protocol": False, "proxy_protocol_timeout": "3s"}
COMMON = {
    "enable": True,
    "acceptors": 16,
    "max_connections": "infinity",
    "mountpoint": "",
    "zone": "default",
    "enable_authn": True,
    "access_rules": ["allow all"],
    "max_conn_rate": "infinity",
    **PROXY,
    "messages_rate": "infinity",
    "bytes_rate": "infinity",
    "running": True,
    "current_connections": 0,
}
TCP = {
    "active_n": 100,
    "backlog": 1024,
    "send_timeout": "15s",
    "send_timeout_close": True,
    "buffer": "4KB",
    "high_watermark": "1MB",
    "nodelay": True,
    "reuseaddr": True,
    "keepalive": "none",
    "recbuf": 0,
    "sndbuf": 0,
}
WEBSOCKET = {
    "mqtt_path": "/mqtt",
    "mqtt_piggyback": "multiple",
    "compress": False,
    "idle_timeout": "7200s",
    "max_frame_size": "infinity",
    "fail_if_no_subprotocol": True,
    "check_origin_enable": False,
    "allow_origin_absence": True,
    "proxy_address_header": "x-forwarded-for",
    "proxy_port_header": "x-forwarded-port",
}


def refusal(answer: httpx.Response) -> dict[str, Any]:
    """What a 400 BAD_REQUEST says."""
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST"), answer.text
    said: dict[str, Any] = json.loads(answer.json()["message"])
    return said


def test_a_request_may_say_all_that_the_configuration_knows_and_no_more() -> None:
    said = {field.name: field.type for field in fields(listener_body.ListenerFields)}
    below = {"tcp_options": TcpOptions, "ssl_options": SslOptions, "websocket": WebsocketOptions}
    assert set(said) - {"running", "current_connections"} == set(entries(ListenerConfig))
    for name, config in below.items():
        assert {field.name for field in fields(get_args(said[name])[0])} == set(entries(config))


@shows("GET /listeners", "GET /listeners/:id")
async def test_a_listener_is_shown_with_all_its_options() -> None:
    async with with_listener() as live, await client_at(live, client_id="c1"):
        one = await shown(live, "tcp:default")
        assert {name: one[name] for name in COMMON} == {**COMMON, "current_connections": 1}
        assert one["tcp_options"] == TCP
        assert not {"ssl_options", "websocket"} & set(one)
        host, port = await address_of(live)
        assert (one["id"], one["type"], one["name"], host) == ("tcp:default", "tcp", "default", "127.0.0.1")
        assert port > 0
        status = {"running": True, "max_connections": "infinity", "current_connections": 1}
        assert (await live.api.get("/listeners")).json() == [
            {
                "id": "tcp:default",
                "type": "tcp",
                "name": "default",
                "enable": True,
                "bind": one["bind"],
                "acceptors": 16,
                "number": 1,
                "status": status,
                "node_status": [{"node": NODE, "status": status}],
            }
        ]
        assert (await live.api.get("/listeners?type=ws")).json() == []
        assert (await live.api.get("/listeners?type=quic")).json() == []
        assert (await live.api.get("/listeners?type=carrier")).json()["code"] == "BAD_REQUEST"
        for path in ("tcp:other", "quic:default", "ssl:default"):
            answer = await live.api.get(f"/listeners/{path}")
            assert (answer.status_code, answer.json()) == (404, MISSING)
        for malformed in ("tcp", "tcp:", "carrier:pigeon", "tcp:a b", "tcp:a:b"):
            assert refusal(await live.api.get(f"/listeners/{malformed}"))["path"] == "id"


@shows("GET /listeners_status")
async def test_listeners_by_type(autojump_clock: object) -> None:
    async with running() as live:
        for name, limit in (("a", 5), ("b", 7)):
            body = {"type": "memory", "name": name, "max_connections": limit}
            assert (await live.api.post("/listeners", json=body)).status_code == 200
        status = {"running": True, "max_connections": 12, "current_connections": 0}
        (memory,) = (await live.api.get("/listeners_status")).json()
        assert memory == {
            "type": "memory",
            "enable": True,
            "ids": ["memory:a", "memory:b"],
            "status": status,
            "name": "a",
            "bind": "memory:a",
            "acceptors": 16,
            "node_status": [{"node": NODE, "status": status}],
        }
        await live.api.post("/listeners/memory:a/stop")
        await put(live, "memory:b", max_connections="infinity")
        (memory,) = (await live.api.get("/listeners_status")).json()
        assert memory["status"] == {
            "running": "inconsistent",
            "max_connections": "infinity",
            "current_connections": 0,
        }
        assert memory["enable"] is True


@shows("POST /listeners", "DELETE /listeners/:id")
async def test_a_listener_is_made_and_deleted() -> None:
    async with with_listener() as live:
        made = await live.api.post("/listeners", json={"type": "tcp", "name": "more", "bind": ANYWHERE})
        assert made.status_code == 200
        assert made.json() == await shown(live, "tcp:more")
        assert made.json()["running"] is True
        async with await client_at(live, "tcp:more", client_id="c1") as c1:
            where = await address_of(live, "tcp:more")
            answer = await live.api.delete("/listeners/tcp:more")
            assert (answer.status_code, answer.content) == (204, b"")
            assert await ended(c1) == 0x98
        assert await is_closed(where)
        answer = await live.api.delete("/listeners/tcp:more")
        assert (answer.status_code, answer.json()) == (404, MISSING)
        assert [row["id"] for row in (await live.api.get("/listeners")).json()] == ["tcp:default"]


@shows("POST /listeners/:id")
async def test_a_listener_is_made_the_old_way() -> None:
    async with with_listener() as live:
        path, body = "/listeners/ws:web", {"type": "ws", "id": "ws:web", "bind": ANYWHERE}
        answer = await live.api.post(path, json={**body, "websocket": {"mqtt_path": "/m"}})
        assert answer.status_code == 200
        websocket = answer.json()["websocket"]
        assert {name: websocket[name] for name in WEBSOCKET} == {**WEBSOCKET, "mqtt_path": "/m"}
        answer = await live.api.post(path, json=body)
        assert (answer.status_code, answer.json()) == (400, {"code": "BAD_LISTENER_ID", "message": "Already Exist"})
        answer = await live.api.post("/listeners/ws:other", json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_LISTENER_ID")
        answer = await live.api.post(path, json={**body, "type": "tcp"})
        assert answer.json() == {"code": "BAD_REQUEST", "message": "listener_type_inconsistent"}


@shows("POST /listeners")
@pytest.mark.parametrize(
    ("body", "path", "reason"),
    [
        ({"name": "x", "bind": ANYWHERE}, "root.type", "required_field"),
        ({"type": "tcp", "bind": ANYWHERE}, "root.name", "required_field"),
        ({"type": "tcp", "name": "x"}, "root.bind", "required_field"),
        ({"type": "tcp", "name": "x", "bind": None}, "root.bind", "required_field"),
        ({"type": "tcp", "name": "a b", "bind": ANYWHERE}, "root.name", "matching regex"),
        ({"type": "tcp", "name": "../x", "bind": ANYWHERE}, "root.name", "matching regex"),
        ({"type": "carrier", "name": "x", "bind": ANYWHERE}, "root.type", "not_a_enum_symbol"),
        ({"type": "quic", "name": "x", "bind": ANYWHERE}, "root.type", "no quic listeners in this broker"),
        ({"type": "tcp", "name": "x", "bind": "nowhere"}, "root.bind", '"nowhere" is not an address'),
        ({"type": "tcp", "name": "x", "bind": 99999}, "root.bind", "99999 is not an address"),
        ({"type": "tcp", "name": "x", "bind": ANYWHERE, "color": 1}, "root", "unknown_fields"),
        ({"type": "tcp", "name": "x", "bind": ANYWHERE, "tcp_options": {"x": 1}}, "root.tcp_options", "unknown"),
        ({"type": "tcp", "name": "x", "bind": ANYWHERE, "enable": 3}, "root.enable", "Expected `bool"),
        ({"type": "tcp", "name": "x", "bind": ANYWHERE, "max_connections": 0}, "root.max_connections", "from 1 up"),
        ({"type": "tcp", "name": "x", "bind": ANYWHERE, "messages_rate": "many"}, "root.messages_rate", "a rate"),
        ({"type": "tcp", "name": "x", "bind": ANYWHERE, "ssl_options": {"depth": 3}}, "root.ssl_options", "no meaning"),
        ({"type": "tcp", "name": "x", "bind": ANYWHERE, "websocket": {"compress": True}}, "root.websocket", "no mean"),
        ({"type": "ssl", "name": "x", "bind": ANYWHERE}, "root.ssl_options.certfile", "is needed for a ssl listener"),
        ({"type": "memory", "name": "x", "bind": ANYWHERE}, "root.bind", "no meaning for a memory listener"),
        ({"type": "unix", "name": "x", "bind": ANYWHERE}, "root.bind", "must be a path"),
        (
            {"type": "tcp", "name": "x", "bind": ANYWHERE, "tcp_options": {"backlog": 2**40}},
            "root.tcp_options.backlog",
            "from 1 to",
        ),
        (
            {"type": "tcp", "name": "x", "bind": ANYWHERE, "messages_rate": "9" * 400 + "/s"},
            "root.messages_rate",
            "is not a rate",
        ),
        (
            {"type": "ssl", "name": "x", "bind": ANYWHERE, "ssl_options": {"certfile": "/no", "keyfile": "/no"}},
            "root.ssl_options.certfile",
            "No such file",
        ),
    ],
)
async def test_what_cannot_be_made_is_refused(body: Any, path: str, reason: str, autojump_clock: object) -> None:
    async with running() as live:
        said = refusal(await live.api.post("/listeners", json=body))
        assert said["path"].startswith(path)
        assert reason in said["reason"]
        assert (await live.api.get("/listeners")).json() == []
        assert live.broker.questions.settings.stored == {}


async def test_an_id_in_the_body_of_a_new_listener_has_to_be_its_own(autojump_clock: object) -> None:
    async with running() as live:
        body = {"type": "memory", "name": "x", "running": True, "current_connections": 3}
        answer = await live.api.post("/listeners", json={**body, "id": "memory:y"})
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_LISTENER_ID")
        answer = await live.api.post("/listeners", json={**body, "id": "memory:x"})
        assert (answer.status_code, answer.json()["current_connections"]) == (200, 0)
        answer = await live.api.post("/listeners", json=body)
        assert (answer.status_code, answer.json()) == (400, {"code": "BAD_LISTENER_ID", "message": "Already Exist"})


@shows("POST /listeners")
async def test_a_port_that_is_taken_is_a_reason() -> None:
    async with with_listener() as live:
        host, port = await address_of(live)
        answer = await live.api.post("/listeners", json={"type": "ws", "name": "x", "bind": f"{host}:{port}"})
        assert answer.status_code == 400
        assert answer.json()["code"] == "BAD_REQUEST"
        assert "listener ws:x: cannot listen on" in answer.json()["message"]
        assert "taken" in answer.json()["message"]
        assert (await live.api.get("/listeners/ws:x")).status_code == 404
        assert live.broker.questions.settings.stored == {}


@shows("PUT /listeners/:id")
async def test_a_change_has_to_name_what_it_is_about() -> None:
    async with with_listener() as live:
        path = "/listeners/tcp:default"
        assert refusal(await live.api.put(path, json={"id": "tcp:default"}))["path"] == "root.type"
        assert refusal(await live.api.put(path, json={"type": "tcp"}))["path"] == "root.id"
        answer = await live.api.put(path, json={"type": "ws", "id": "tcp:default"})
        assert (answer.status_code, answer.json()["message"]) == (400, "listener_type_inconsistent")
        for body in ({"type": "tcp", "id": "tcp:other"}, {"type": "tcp", "id": "tcp:default", "name": "other"}):
            answer = await live.api.put(path, json=body)
            message = "Path and body's listener id not match"
            assert (answer.status_code, answer.json()) == (400, {"code": "BAD_LISTENER_ID", "message": message})
        assert refusal(await put(live, "tcp:default", max_connections="few"))["path"] == "root.max_connections"
        assert refusal(await live.api.put("/listeners/tcp", json={"type": "tcp", "id": "tcp"}))["path"] == "id"
        answer = await put(live, "tcp:other", max_connections=3)
        assert (answer.status_code, answer.json()) == (404, MISSING)


@shows("POST /listeners/:id/start", "POST /listeners/:id/stop", "POST /listeners/:id/restart")
@pytest.mark.parametrize("verb", ["start", "stop", "restart"])
async def test_only_what_is_there_can_be_started_and_stopped(verb: str, autojump_clock: object) -> None:
    async with running() as live:
        answer = await live.api.post(f"/listeners/tcp:other/{verb}")
        assert (answer.status_code, answer.json()) == (404, MISSING)
        assert refusal(await live.api.post(f"/listeners/other/{verb}"))["path"] == "id"
        assert (await live.api.post("/listeners/tcp:other/pause")).status_code == 404


async def test_viewers_only_look(autojump_clock: object) -> None:
    async with running() as live:
        viewer = live.as_viewer()
        assert (await live.api.get("/listeners_status", auth=viewer)).status_code == 200
        body = {"type": "memory", "name": "x"}
        assert (await live.api.post("/listeners", json=body, auth=viewer)).status_code == 403
        assert (await live.api.delete("/listeners/memory:x", auth=viewer)).status_code == 403


@shows("PUT /listeners/:id", "POST /listeners/:id/start", "DELETE /listeners/:id")
async def test_what_the_environment_says_cannot_be_changed(autojump_clock: object) -> None:
    environ = {"TRIO_BROKER_LISTENERS__MEMORY__X__ENABLE": "false"}
    layers = Layers.gather(None, environ, base=Config())
    async with running(layers.config(), layers=layers) as live:
        assert (await shown(live, "memory:x"))["running"] is False
        for answer in (
            await live.api.post("/listeners/memory:x/start"),
            await put(live, "memory:x", enable=True),
            await live.api.delete("/listeners/memory:x"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (403, "UPDATE_FAILED")
            assert str(Overridden("listeners")) in answer.json()["message"]
        assert (await shown(live, "memory:x"))["enable"] is False


async def test_a_program_gets_the_same_errors(autojump_clock: object) -> None:
    async with running() as live:
        listeners = live.broker.questions.listener_settings
        with pytest.raises(ConfigError, match="quic"):
            await listeners.create("quic", "x", {"bind": ANYWHERE})
        with pytest.raises(ConfigError, match="is not a name"):
            await listeners.create("ssl", "../x", {"bind": ANYWHERE})
        await listeners.create("memory", "x", {})
        (info,) = await live.broker.questions.listeners()
        assert isinstance(info, ListenerInfo)
        assert (info.identifier, info.running) == ("memory:x", True)
