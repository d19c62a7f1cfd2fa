"""`/authorization/sources`: where access rules come from, over REST."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from actors.fake_access import Script, fakes
from api.live import Live, running
from api.operations import shows
from trio.testing import MockClock

from trio_broker.access.asking import Request, Subject
from trio_broker.access.authorization import PassedOver
from trio_broker.config import Config, Layers
from trio_broker.config.authorization import AuthorizationConfig, FileSourceConfig, HttpSourceConfig
from trio_broker.protocol.message import Origin
from trio_broker.protocol.packets import PubAck
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import Client

SOURCES = "/authorization/sources"
FILE_BODY = {"type": "file", "rules": '{deny, all, publish, ["secret/#"]}.\n'}
RULES_BODY = {"type": "built_in_database", "max_rules": 50}
WEB_BODY = {"type": "http", "method": "get", "url": "http://127.0.0.1:1/${topic}", "request_timeout": "2s"}
THREE = (WEB_BODY, RULES_BODY, FILE_BODY)
"""Added one in front of the other: file, built_in_database, http."""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    return fakes(monkeypatch)


async def add(live: Live, *bodies: dict[str, Any]) -> None:
    for body in bodies:
        answer = await live.api.post(SOURCES, json=body)
        assert (answer.status_code, answer.content) == (204, b"")


async def order(live: Live) -> list[str]:
    return [one["type"] for one in (await live.api.get(SOURCES)).json()["sources"]]


async def published(client: Client, topic: str = "t") -> int:
    answer = await client.publish(topic, b"x", 1)
    assert isinstance(answer, PubAck)
    return int(answer.reason_code)


@shows("GET /authorization/sources", "POST /authorization/sources", "GET /authorization/sources/:type")
async def test_add_and_look(script: Script) -> None:
    """A new one is in front of the others."""
    async with running() as live:
        answer = await live.api.get(SOURCES)
        assert (answer.status_code, answer.json()) == (200, {"sources": []})
        await add(live, *THREE)
        assert await order(live) == ["file", "built_in_database", "http"]
        assert live.broker.questions.authorization_sources.names == ["file", "built_in_database", "http"]
        shown = (await live.api.get(SOURCES)).json()["sources"]
        assert shown[:2] == [{**FILE_BODY, "enable": True}, {**RULES_BODY, "enable": True}]
        assert shown[2].items() >= {**WEB_BODY, "enable": True, "connect_timeout": "15s", "pool_size": 8}.items()
        for one in shown:
            answer = await live.api.get(f"{SOURCES}/{one['type']}")
            assert (answer.status_code, answer.json()) == (200, one)


@shows("POST /authorization/sources", "PUT /authorization/sources/:type")
@pytest.mark.parametrize(
    ("body", "path", "reason"),
    [
        ({}, "root", "type"),
        ({"type": "mysql"}, "root", "mysql"),
        ({"type": "file"}, "root.rules", "required_field"),
        ({"type": "file", "rules": 1}, "root.rules", "a text"),
        ({"type": "file", "rules": "x", "path": "/x"}, "root.rules", "must be empty"),
        ({**FILE_BODY, "enable": 7}, "root.enable", "true or false"),
        ({**RULES_BODY, "max_rules": 0}, "root.max_rules", "1"),
        ({**RULES_BODY, "rules": []}, "root.rules", "unknown key"),
        ({**WEB_BODY, "url": ""}, "root.url", "is needed"),
        ({**WEB_BODY, "url": "https://127.0.0.1/"}, "root.ssl.enable", "https"),
        ({**WEB_BODY, "headers": {"content-type": "application/json"}}, "root.headers", "content-type"),
    ],
)
async def test_what_cannot_be(script: Script, body: dict[str, Any], path: str, reason: str) -> None:
    """400 that names the field; nothing has changed."""
    async with running() as live:
        answer = await live.api.post(SOURCES, json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        message = json.loads(answer.json()["message"])
        assert message["path"] == path
        assert reason in message["reason"]
        assert await order(live) == []
        if body.get("type") in ("built_in_database", "http"):
            await add(live, *THREE)
            answer = await live.api.put(f"{SOURCES}/{body['type']}", json=body)
            assert (answer.status_code, json.loads(answer.json()["message"])["path"]) == (400, path)


@shows("POST /authorization/sources", "PUT /authorization/sources/:type")
async def test_rules_that_cannot_be_read() -> None:
    async with running() as live:
        answer = await live.api.post(SOURCES, json={"type": "file", "rules": "{allow, all}.\n{perhaps, all}.\n"})
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        assert "line 2" in answer.json()["message"]
        await add(live, FILE_BODY)
        answer = await live.api.put(f"{SOURCES}/file", json={"type": "file", "rules": "nonsense"})
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        assert (await live.api.get(f"{SOURCES}/file")).json() == {**FILE_BODY, "enable": True}


@shows("POST /authorization/sources")
async def test_one_of_a_type(script: Script) -> None:
    async with running() as live:
        await add(live, *THREE)
        answer = await live.api.post(SOURCES, json={**FILE_BODY, "rules": "other"})
        expected = {"code": "BAD_REQUEST", "message": "There is a source of the type file already"}
        assert (answer.status_code, answer.json()) == (400, expected)
        assert (await live.api.get(f"{SOURCES}/file")).json()["rules"] == FILE_BODY["rules"]


@shows(
    "GET /authorization/sources/:type",
    "PUT /authorization/sources/:type",
    "DELETE /authorization/sources/:type",
    "GET /authorization/sources/:type/status",
    "POST /authorization/sources/:type/move",
)
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PUT", "", WEB_BODY),
        ("DELETE", "", None),
        ("GET", "/status", None),
        ("POST", "/move", {"position": "front"}),
    ],
)
async def test_one_there_is_not(script: Script, method: str, path: str, body: Any) -> None:
    async with running() as live:
        await add(live, FILE_BODY)
        answer = await live.api.request(method, f"{SOURCES}/http{path}", json=body)
        assert (answer.status_code, answer.json()) == (404, {"code": "NOT_FOUND", "message": "Not found: http"})
        answer = await live.api.request(method, f"{SOURCES}/pigeon{path}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        message = json.loads(answer.json()["message"])
        assert (message["path"], message["reason"], message["value"]) == ("type", "not_a_enum_symbol", "pigeon")
        assert message["expected"] == "file | built_in_database | http"


@shows("PUT /authorization/sources/:type")
async def test_replace(script: Script) -> None:
    async with running() as live:
        await add(live, *THREE)
        web = {**WEB_BODY, "ssl": {"password": "very secret"}}
        answer = await live.api.put(f"{SOURCES}/http", json=web)
        assert (answer.status_code, answer.content) == (204, b"")
        shown = (await live.api.get(f"{SOURCES}/http")).json()
        assert shown["ssl"]["password"] == "******"
        assert (await live.api.put(f"{SOURCES}/http", json={**shown, "pool_size": 3})).status_code == 204
        found = live.broker.questions.settings.config.authorization.sources[2]
        assert isinstance(found, HttpSourceConfig)
        assert (found.pool_size, found.ssl.password) == (3, "very secret")
        assert (
            await live.api.put(f"{SOURCES}/built_in_database", json={"type": "built_in_database"})
        ).status_code == 204
        assert (await live.api.get(f"{SOURCES}/built_in_database")).json()["max_rules"] == 100
        assert await order(live) == ["file", "built_in_database", "http"]


@shows("PUT /authorization/sources/:type")
async def test_the_type_cannot_change(script: Script) -> None:
    async with running() as live:
        await add(live, *THREE)
        answer = await live.api.put(f"{SOURCES}/http", json=RULES_BODY)
        assert (answer.status_code, answer.json()) == (400, {"code": "BAD_REQUEST", "message": "Type mismatch"})


@shows("DELETE /authorization/sources/:type")
async def test_delete(script: Script) -> None:
    async with running() as live:
        await add(live, *THREE)
        script.life()
        answer = await live.api.delete(f"{SOURCES}/built_in_database")
        assert (answer.status_code, answer.content) == (204, b"")
        assert script.life() == [("close", "built_in_database"), ("delete", "built_in_database")]
        assert await order(live) == ["file", "http"]
        assert (await live.api.delete(f"{SOURCES}/built_in_database")).status_code == 404


@shows("DELETE /authorization/sources/:type", "POST /authorization/sources")
async def test_rules_are_gone_with_their_source() -> None:
    store = MemoryStore()
    rules = f"{SOURCES}/built_in_database/rules/all"
    async with running(store=store) as live:
        await add(live, RULES_BODY)
        body = {"rules": [{"topic": "t", "permission": "deny", "action": "all"}]}
        assert (await live.api.post(rules, json=body)).status_code == 204
        client = await live.connect("c")
        assert await published(client) == 0x87
        assert (await live.api.delete(f"{SOURCES}/built_in_database")).status_code == 204
        assert await published(client) == 0x10
        await add(live, RULES_BODY)
        assert (await live.api.get(rules)).json() == {"rules": []}
    async with running(store=store) as live:
        assert (await live.api.get(rules)).json() == {"rules": []}


# -- order


@shows("POST /authorization/sources/:type/move")
@pytest.mark.parametrize(
    ("type", "position", "expected"),
    [
        ("http", "front", ["http", "file", "built_in_database"]),
        ("file", "rear", ["built_in_database", "http", "file"]),
        ("file", "after:built_in_database", ["built_in_database", "file", "http"]),
        ("http", "before:built_in_database", ["file", "http", "built_in_database"]),
    ],
)
async def test_move(script: Script, type: str, position: str, expected: list[str]) -> None:
    async with running() as live:
        await add(live, *THREE)
        script.life()
        answer = await live.api.post(f"{SOURCES}/{type}/move", json={"position": position})
        assert (answer.status_code, answer.content) == (204, b"")
        assert (await order(live), script.life()) == (expected, [])
        assert live.broker.questions.authorization_sources.names == expected


@shows("POST /authorization/sources/:type/move")
@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"position": "top"}, "top"),
        ({"position": "before:mysql"}, "mysql"),
        ({"position": "after:file"}, "itself"),
        ({}, "position"),
        ({"position": "front", "type": "x"}, "type"),
    ],
)
async def test_a_position_there_is_not(script: Script, body: dict[str, str], named: str) -> None:
    async with running() as live:
        await add(live, *THREE)
        answer = await live.api.post(f"{SOURCES}/file/move", json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        assert named in answer.json()["message"]
        assert await order(live) == ["file", "built_in_database", "http"]


@shows("PUT /authorization/sources/order")
async def test_reorder(script: Script) -> None:
    async with running() as live:
        await add(live, *THREE)
        wanted = ["http", "file", "built_in_database"]
        answer = await live.api.put(f"{SOURCES}/order", json=[{"type": type} for type in wanted])
        assert (answer.status_code, answer.content, await order(live)) == (204, b"", wanted)


@shows("PUT /authorization/sources/order")
@pytest.mark.parametrize(
    ("types", "message"),
    [
        (["file", "http"], "not named: built_in_database"),
        (["file", "http", "built_in_database", "mysql"], "not there: mysql"),
        (["file", "file"], "not named: built_in_database, http; named more than once: file"),
    ],
)
async def test_an_order_names_each_once(script: Script, types: list[str], message: str) -> None:
    async with running() as live:
        await add(live, *THREE)
        answer = await live.api.put(f"{SOURCES}/order", json=[{"type": type} for type in types])
        assert (answer.status_code, answer.json()) == (400, {"code": "BAD_REQUEST", "message": message})
        assert await order(live) == ["file", "built_in_database", "http"]


# -- what it does


@shows("POST /authorization/sources", "PUT /authorization/sources/:type", "DELETE /authorization/sources/:type")
async def test_who_is_connected_obeys_at_once() -> None:
    """A client that was connected while there were no rules at all."""
    async with running() as live:
        client = await live.connect("c")
        assert await published(client, "secret/1") == 0x10
        await add(live, FILE_BODY)
        assert [await published(client, topic) for topic in ("secret/1", "t")] == [0x87, 0x10]
        assert (await live.api.put(f"{SOURCES}/file", json={**FILE_BODY, "rules": "{deny, all}."})).status_code == 204
        assert await published(client) == 0x87
        assert (await live.api.put(f"{SOURCES}/file", json={**FILE_BODY, "enable": False})).status_code == 204
        assert await published(client, "secret/1") == 0x10
        assert (await live.api.delete(f"{SOURCES}/file")).status_code == 204
        assert await published(client, "secret/1") == 0x10


@shows("PUT /authorization/sources/order", "POST /authorization/sources/:type/move")
async def test_the_order_counts_at_once(script: Script) -> None:
    script.decisions.update(file=lambda *_: True, built_in_database=lambda *_: False)
    async with running() as live:
        await add(live, RULES_BODY, FILE_BODY)
        client = await live.connect("c")
        assert await published(client) == 0x10
        await live.api.put(f"{SOURCES}/order", json=[{"type": "built_in_database"}, {"type": "file"}])
        assert await published(client) == 0x87
        await live.api.post(f"{SOURCES}/file/move", json={"position": "front"})
        assert await published(client) == 0x10


@shows("GET /authorization/sources/:type/status")
async def test_status(script: Script, autojump_clock: MockClock) -> None:
    words = {"a": True, "d": False}

    def word(subject: Any, request: Any) -> bool | None:
        if request.topic == "gone":
            raise PassedOver
        return words.get(request.topic)

    script.decisions["http"] = word
    script.takes["http"] = 0
    async with running() as live:
        await add(live, WEB_BODY, {**RULES_BODY, "enable": False})
        client = await live.connect("c")
        for topic in ("a", "d", "n", "gone"):
            await published(client, topic)
        answer = await live.api.get(f"{SOURCES}/http/status")
        node = live.broker.questions.node_name
        rates = {"rate": 0.8, "rate_last5m": 0.8, "rate_max": 0.8}
        metrics = {"total": 4, "allow": 1, "deny": 1, "nomatch": 1, "ignore": 1, **rates}
        assert (answer.status_code, answer.json()) == (
            200,
            {
                "status": "connected",
                "node_status": [{"node": node, "status": "connected"}],
                "node_error": [],
                "metrics": metrics,
                "node_metrics": [{"node": node, "metrics": metrics}],
                "resource_metrics": {},
                "node_resource_metrics": [{"node": node, "metrics": {}}],
            },
        )
        shown = (await live.api.get(f"{SOURCES}/built_in_database/status")).json()
        assert (shown["status"], shown["metrics"]["total"]) == ("disconnected", 0)


@shows("GET /prometheus/auth")
async def test_figures_for_prometheus() -> None:
    async with running() as live:
        await add(live, RULES_BODY, FILE_BODY)
        rules = {"rules": [{"topic": "t", "permission": "allow", "action": "all"}]}
        await live.api.post(f"{SOURCES}/built_in_database/rules/all", json=rules)
        await live.api.post(f"{SOURCES}/built_in_database/rules/clients", json=[{"clientid": "c", **rules}])
        client = await live.connect("c")
        await published(client, "secret/1")
        lines = (await live.api.get("/prometheus/auth")).text.splitlines()
        for line in (
            'emqx_authz_enable{type="file"} 1.0',
            'emqx_authz_status{type="file"} 1.0',
            'emqx_authz_deny{type="file"} 1.0',
            'emqx_authz_total{type="built_in_database"} 0.0',
            'emqx_authz_rules_count{type="built_in_database"} 2.0',
        ):
            assert line in lines
        assert not any(line.startswith('emqx_authz_rules_count{type="file"') for line in lines)


@shows("POST /authorization/sources", "PUT /authorization/sources/order", "GET /authorization/sources")
async def test_a_restart_has_it_all() -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        await add(live, *THREE)
        await live.api.put(f"{SOURCES}/order", json=[{"type": t} for t in ("built_in_database", "file", "http")])
        before = (await live.api.get(SOURCES)).json()
    async with running(store=store) as live:
        assert (await live.api.get(SOURCES)).json() == before
        client = await live.connect("c")
        assert await published(client, "secret/1") == 0x87


# -- a file of rules


@shows("GET /authorization/sources/:type", "PUT /authorization/sources/:type")
async def test_a_file_is_shown_with_its_text(tmp_path: Path) -> None:
    path = tmp_path / "acl.conf"
    path.write_text('{deny, all, publish, ["secret/#"]}.\n', encoding="utf-8")
    config = Config(authorization=AuthorizationConfig(sources=(FileSourceConfig(path=str(path)),)))
    async with running(config) as live:
        shown = (await live.api.get(f"{SOURCES}/file")).json()
        assert shown == {"type": "file", "enable": True, "path": str(path), "rules": FILE_BODY["rules"]}
        client = await live.connect("c")
        assert await published(client, "secret/1") == 0x87
        # What was shown comes back: the file still counts.
        assert (await live.api.put(f"{SOURCES}/file", json={**shown, "enable": False})).status_code == 204
        assert await published(client, "secret/1") == 0x10
        source = live.broker.questions.settings.config.authorization.sources[0]
        assert source == FileSourceConfig(path=str(path), enable=False)
        # Other rules come into its place.
        assert (await live.api.put(f"{SOURCES}/file", json={**shown, "rules": "{allow, all}."})).status_code == 204
        assert (await live.api.get(f"{SOURCES}/file")).json() == {
            "type": "file",
            "enable": True,
            "rules": "{allow, all}.",
        }
        answer = await live.api.put(f"{SOURCES}/file", json={"type": "file", "path": str(tmp_path / "none")})
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        assert "none" in answer.json()["message"]


# -- beside what else sets the configuration


@shows(
    "POST /authorization/sources",
    "PUT /authorization/sources/:type",
    "DELETE /authorization/sources/:type",
    "POST /authorization/sources/:type/move",
    "PUT /authorization/sources/order",
)
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "", WEB_BODY),
        ("PUT", "/built_in_database", RULES_BODY),
        ("DELETE", "/built_in_database", None),
        ("POST", "/built_in_database/move", {"position": "rear"}),
        ("PUT", "/order", [{"type": "file"}, {"type": "built_in_database"}]),
    ],
)
async def test_what_the_environment_says_cannot_be_changed(script: Script, method: str, path: str, body: Any) -> None:
    text = '[{type = "built_in_database"}, {type = "file", rules = ""}]'
    layers = Layers.gather(None, {"TRIO_BROKER_AUTHORIZATION__SOURCES": text}, base=Config())
    async with running(layers.config(), layers=layers) as live:
        answer = await live.api.request(method, f"{SOURCES}{path}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "UPDATE_FAILED")
        assert "authorization" in answer.json()["message"]
        assert await order(live) == ["built_in_database", "file"]
        # What stands beside it may be.
        settings = (await live.api.get("/authorization/settings")).json()
        answer = await live.api.put("/authorization/settings", json={**settings, "no_match": "deny"})
        assert answer.status_code == 200


@shows("POST /authorization/sources")
async def test_changes_at_the_same_time_are_all_done(script: Script) -> None:
    async with running() as live:
        async with trio.open_nursery() as nursery:
            for body in THREE:
                nursery.start_soon(add, live, body)
        assert sorted(await order(live)) == ["built_in_database", "file", "http"]


@shows("POST /authorization/sources")
async def test_a_viewer_only_looks(script: Script) -> None:
    async with running() as live:
        assert (await live.api.post(SOURCES, json=FILE_BODY, auth=live.as_viewer())).status_code == 403
        assert (await live.api.get(SOURCES, auth=live.as_viewer())).status_code == 200


# -- what the command starts with


@shows("GET /authorization/sources")
async def test_the_command_starts_with_the_rules_of_emqx() -> None:
    sources = Config.service().authorization.sources
    async with running(Config(authorization=AuthorizationConfig(sources=sources))) as live:
        shown = (await live.api.get(SOURCES)).json()["sources"]
        assert [(one["type"], one["enable"]) for one in shown] == [("file", True)]
        assert '{deny, all, subscribe, ["$SYS/#", {eq, "#"}, {eq, "+/#"}]}.' in shown[0]["rules"]
        client = await live.connect("c")  # on this machine
        for topic_filter in ("#", "$SYS/#", "+/#"):
            assert (await client.subscribe(topic_filter)).reason_codes == [0]
        source = live.broker.questions.authorization_sources.one("file")
        assert source is not None
        for username, topic_filter, allowed in (
            ("u", "#", False),
            ("u", "+/#", False),
            ("u", "$SYS/brokers", False),
            ("u", "$SYS/#", False),
            ("dashboard", "$SYS/#", True),
            ("dashboard", "#", False),
            ("u", "t/#", True),
            ("u", "+/+", True),
        ):
            elsewhere = Subject(Origin("c"), "c", username, "192.0.2.1")
            assert source.authorize(elsewhere, Request("subscribe", topic_filter)) is allowed, (username, topic_filter)
        assert source.authorize(elsewhere, Request("publish", "t")) is True
    assert Config().authorization.sources == ()
