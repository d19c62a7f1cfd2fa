"""EMQ 2's listeners: of clients over a running broker, of the API itself over sockets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from api.live import PASSWORD, running
from api.older import older
from api.operations import shows
from api.v2.two import NODE, app_of, client_of, shape
from attrs import evolve
from trio.testing import MockClock

from trio_broker.actors.questions import ListenerInfo, Runtime
from trio_broker.api.context import DoorInfo
from trio_broker.broker import Addresses, Broker
from trio_broker.config import Config, ListenerConfig
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import open_client
from trio_broker.testing.running import make_config

SAMPLE: dict[str, Any] = {
    "protocol": "mqtt:tcp",
    "listen": "0.0.0.0:1883",
    "acceptors": 16,
    "max_clients": 102400,
    "current_clients": 0,
    "shutdown_count": [],
}


def config(path: Path) -> Config:
    tcp = {
        "default": ListenerConfig(bind="127.0.0.1:0", max_connections=102400, acceptors=8),
        "closed": ListenerConfig(bind="127.0.0.1:0", enable=False),
    }
    ws = {"default": ListenerConfig(bind="0")}
    unix = {"local": ListenerConfig(bind=str(path / "mqtt.sock"))}
    return Config(listeners={"tcp": tcp, "ws": ws, "unix": unix})


@shows("GET /api/v2/monitoring/listeners", "GET /api/v2/monitoring/listeners/:node")
async def test_listeners_of_clients(tmp_path: Path) -> None:
    async with running(config(tmp_path)) as live, older(live, "v2") as v2:
        answer = await v2.get("/monitoring/listeners")
        assert shape(answer.json()) == {"code": int, "result": {NODE: [shape(SAMPLE)]}}
        assert shape(SAMPLE["shutdown_count"]) == []
        listed = answer.json()["result"][NODE]
        assert (await v2.get(f"/monitoring/listeners/{NODE}")).json() == {"code": 0, "result": listed}
        by_protocol = {one["protocol"]: one for one in listed}
        assert sorted(by_protocol) == ["mqtt:tcp", "mqtt:unix", "mqtt:ws"]
        assert len(listed) == 3
        tcp, ws, unix = (by_protocol[f"mqtt:{kind}"] for kind in ("tcp", "ws", "unix"))
        where = {one["id"]: one["bind"] for one in (await live.api.get("/listeners")).json()}
        assert tcp == {**SAMPLE, "listen": where["tcp:default"], "acceptors": 8}
        assert tcp["listen"].startswith("127.0.0.1:")
        assert where["ws:default"] == ws["listen"]
        assert ws["listen"].startswith("0.0.0.0:")
        assert (ws["max_clients"], ws["acceptors"]) == (2**31 - 1, 16)  # no limit: the largest number there is
        assert unix["listen"] == str(tmp_path / "mqtt.sock")
        host, _, port = tcp["listen"].partition(":")
        async with open_client((host, int(port)), client_id="c1"):
            (now,) = [
                one
                for one in (await v2.get(f"/monitoring/listeners/{NODE}")).json()["result"]
                if one["protocol"] == "mqtt:tcp"
            ]
            assert now == {**tcp, "current_clients": 1}


@shows("GET /api/v2/monitoring/listeners/:node")
async def test_why_connections_ended(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the words of EMQ 2; what has none there is called as the reason code is."""
    async with running() as live, older(live, "v2") as v2:
        counts = {0x00: 2, 0x80: 1, 0x8E: 3, 0x8D: 4, 0x98: 5, 0x93: 6}
        counted = Runtime(0, 0, {"tcp:default": counts, "tcp:x": {0: 1}})
        info = ListenerInfo("tcp:default", "tcp", "default", True, "1883", True, None, 0)

        async def runtime() -> Runtime:
            return counted

        async def listeners() -> list[ListenerInfo]:
            return [info, evolve(info, identifier="tcp:y", name="y"), evolve(info, identifier="tcp:z", running=False)]

        monkeypatch.setattr(live.broker.questions, "runtime", runtime)
        monkeypatch.setattr(live.broker.questions, "listeners", listeners)
        one, other = (await v2.get(f"/monitoring/listeners/{NODE}")).json()["result"]
        assert one["shutdown_count"] == {
            "normal": 2,
            "tcp_closed": 1,
            "conflict": 3,
            "keepalive_timeout": 4,
            "kicked": 5,
            "receive_maximum_exceeded": 6,
        }
        assert other["shutdown_count"] == []


@shows("GET /api/v2/monitoring/listeners")
async def test_listeners_of_the_api() -> None:
    """Who asks is a client of one of them."""
    dashboard = {"listeners": {"http": {"bind": "0", "max_connections": 7}}, "default_password": PASSWORD}
    api = {"v2": {"bind": "127.0.0.1:0", "max_connections": 64}, "v4": {"bind": "127.0.0.1:0"}}
    broker = Broker(make_config(overrides={"dashboard": dashboard, "api": api}), store=MemoryStore())
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            bound: Addresses = await nursery.start(broker.run)
            assert bound.api is not None
            assert bound.api_v2 is not None
            assert bound.api_v4 is not None
            base = f"http://127.0.0.1:{bound.api_v2[1]}/api/v2"
            async with httpx.AsyncClient(base_url=base, auth=("admin", PASSWORD)) as client:
                listed = (await client.get("/monitoring/listeners")).json()["result"][NODE]
            broker.close()
    expected = {**SAMPLE, "acceptors": 1}
    assert listed[0]["protocol"] == "mqtt:tcp"
    assert listed[1:] == [
        {**expected, "protocol": "dashboard:http", "listen": f"0.0.0.0:{bound.api[1]}", "max_clients": 7},
        {
            **expected,
            "protocol": "mqtt:api",
            "listen": f"127.0.0.1:{bound.api_v2[1]}",
            "max_clients": 64,
            "current_clients": 1,
        },
        {**expected, "protocol": "mqtt:api", "listen": f"127.0.0.1:{bound.api_v4[1]}", "max_clients": 512},
    ]


async def test_what_the_doors_of_the_api_are_called(autojump_clock: MockClock) -> None:
    names = {"http": "dashboard:http", "https": "dashboard:https", "v2": "mqtt:api", "v4": "mqtt:api"}
    async with running() as live, older(live, "v2"):
        app = app_of(live)
        app.generation.api.doors = lambda: [DoorInfo(name, "127.0.0.1:8080", 64, 2) for name in names]
        async with client_of(app) as v2:
            shown = (await v2.get(f"/monitoring/listeners/{NODE}")).json()["result"]
    assert [one["protocol"] for one in shown] == list(names.values())
    expected = {"listen": "127.0.0.1:8080", "acceptors": 1, "max_clients": 64, "current_clients": 2}
    assert shown[0] == {"protocol": "dashboard:http", **expected, "shutdown_count": []}


@shows("GET /api/v2/monitoring/listeners/:node")
async def test_a_node_that_there_is_not(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v2") as v2:
        answer = await v2.get("/monitoring/listeners/emq@10.0.0.2")
        assert (answer.status_code, answer.json()) == (200, {"code": 101, "message": "badrpc"})
