"""`/nodes`, `/metrics`, `/stats`, `/monitor_current`, `/listeners`, and what there is nothing of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import trio
from api.fake_questions import NODE, FakeQuestions
from api.operations import shows

from trio_broker.actors.machine import machine_memory

NODE_PATH = "/nodes/" + quote(NODE)


@shows("GET /nodes")
async def test_nodes(api: httpx.AsyncClient, questions: FakeQuestions) -> None:
    questions.add("c1")
    questions.add("c2", connected=False)
    (node,) = (await api.get("/nodes")).json()
    assert set(node) == {
        *("node", "node_status", "role", "version", "trio_broker_version", "edition", "uptime", "otp_release"),
        *("connections", "live_connections", "cluster_sessions", "load1", "load5", "load15", "max_fds"),
        *("memory_total", "memory_used", "process_available", "process_used", "sys_path", "log_path"),
    }
    fixed = {
        "node": NODE,
        "node_status": "running",
        "role": "core",
        "version": "5.8.9",
        "trio_broker_version": "0.1.0",
        "edition": "Opensource",
        "uptime": 5_120_000,
        "connections": 2,
        "live_connections": 1,
        "cluster_sessions": 2,
    }
    assert {name: node[name] for name in fixed} == fixed
    assert all(isinstance(node[name], float) for name in ("load1", "load5", "load15"))
    assert all(isinstance(node[name], int) for name in ("max_fds", "process_available", "process_used"))
    assert all(re.fullmatch(r"\d+\.\d\d[GMK]", node[name]) for name in ("memory_total", "memory_used"))
    assert node["process_used"] > 0
    assert Path(node["sys_path"]).name == "trio_broker"
    assert "No log file" in node["log_path"]


@shows("GET /nodes/:node", "GET /nodes/:node/metrics", "GET /nodes/:node/stats")
async def test_one_node(api: httpx.AsyncClient, questions: FakeQuestions) -> None:
    questions.log_path = "/var/log/trio-broker.log"
    node = (await api.get(NODE_PATH)).json()
    assert (node["node"], node["log_path"]) == (NODE, "/var/log/trio-broker.log")
    assert (await api.get(NODE_PATH + "/metrics")).json() == questions.counters
    stats = (await api.get(NODE_PATH + "/stats")).json()
    assert (stats["topics.count"], "node" in stats, "durable_subscriptions.count" in stats) == (5, False, False)


@shows("GET /nodes/:node", "GET /nodes/:node/metrics", "GET /nodes/:node/stats", "GET /monitor_current/nodes/:node")
@pytest.mark.parametrize("path", ["/nodes/no", "/nodes/no/metrics", "/nodes/no/stats", "/monitor_current/nodes/no"])
async def test_an_unknown_node(api: httpx.AsyncClient, path: str) -> None:
    answer = await api.get(path)
    assert (answer.status_code, answer.json()) == (404, {"code": "NOT_FOUND", "message": "Node not found: no"})


def test_memory_of_the_machine(tmp_path: Path) -> None:
    table = tmp_path / "meminfo"
    table.write_text("MemTotal: 2000 kB\nMemFree: 100 kB\nMemAvailable: 1500 kB\nHugePages_Total: 0\n")
    assert machine_memory(str(table)) == (2000 * 1024, 500 * 1024)
    total, used = machine_memory(str(tmp_path / "none"))
    assert total > used > 0


@shows("GET /metrics")
@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/metrics", [{"node": NODE, "messages.received": 10, "messages.dropped.no_subscribers": 2}]),
        ("/metrics?aggregate=false", [{"node": NODE, "messages.received": 10, "messages.dropped.no_subscribers": 2}]),
        ("/metrics?aggregate=true", {"messages.received": 10, "messages.dropped.no_subscribers": 2}),
        ("/metrics?aggregate=true&node=no", {"messages.received": 10, "messages.dropped.no_subscribers": 2}),
        ("/metrics?node=no", []),
    ],
)
async def test_metrics(api: httpx.AsyncClient, path: str, shown: Any) -> None:
    assert (await api.get(path)).json() == shown
    assert (await api.get(f"/metrics?node={quote(NODE)}")).json()[0]["node"] == NODE


@shows("GET /stats")
async def test_stats(api: httpx.AsyncClient, questions: FakeQuestions) -> None:
    shown = {name: value for name, value in questions.gauges.items() if not name.startswith("durable")}
    assert (await api.get("/stats")).json() == [{"node": NODE, **shown}]
    assert (await api.get("/stats?aggregate=true")).json() == shown


@shows("GET /metrics", "GET /stats")
@pytest.mark.parametrize("path", ["/metrics", "/stats"])
async def test_aggregate_is_a_boolean(api: httpx.AsyncClient, path: str) -> None:
    answer = await api.get(f"{path}?aggregate=yes")
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")


@shows("GET /monitor_current")
async def test_rates_are_measured(
    api: httpx.AsyncClient, questions: FakeQuestions, autojump_clock: trio.testing.MockClock
) -> None:
    questions.counters["messages.sent"] = 0
    shown: list[Any] = []

    async def ask() -> None:
        shown.append((await api.get("/monitor_current")).json())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.sleep(0.5)
        # The first caller waits a second for its second look.
        questions.counters["messages.received"] += 100
    assert shown[0]["received_msg_rate"] == 100
    assert trio.current_time() < 2
    await trio.sleep(4)
    questions.counters["messages.received"] += 400
    questions.counters["messages.sent"] += 50
    before = trio.current_time()
    await ask()
    assert (shown[1]["received_msg_rate"], shown[1]["sent_msg_rate"]) == (100, 10)
    assert trio.current_time() == before
    await trio.sleep(60)
    # What was seen a minute ago says nothing about now.
    await ask()
    assert shown[2]["received_msg_rate"] == 0
    assert shown[2] == {
        "received_msg_rate": 0,
        "sent_msg_rate": 0,
        "dropped_msg_rate": 0,
        "persisted_rate": 0,
        "validation_succeeded_rate": 0,
        "validation_failed_rate": 0,
        "transformation_succeeded_rate": 0,
        "transformation_failed_rate": 0,
        "subscriptions": 4,
        "subscriptions_ram": 4,
        "subscriptions_durable": 0,
        "disconnected_durable_sessions": 0,
        "topics": 5,
        "connections": 3,
        "live_connections": 2,
        "retained_msg_count": 6,
        "shared_subscriptions": 1,
    }


@shows("GET /monitor_current/nodes/:node")
async def test_rates_of_a_node(api: httpx.AsyncClient, autojump_clock: trio.testing.MockClock) -> None:
    shown = (await api.get("/monitor_current/nodes/" + quote(NODE))).json()
    assert set(shown) == {
        *("received_msg_rate", "sent_msg_rate", "dropped_msg_rate", "persisted_rate", "validation_succeeded_rate"),
        *("validation_failed_rate", "transformation_succeeded_rate", "transformation_failed_rate", "subscriptions"),
        *("topics", "connections", "live_connections", "retained_msg_count", "shared_subscriptions", "node_uptime"),
    }
    assert (shown["node_uptime"], shown["topics"]) == (5_120_000, 5)
    assert not {"subscriptions_ram", "subscriptions_durable", "disconnected_durable_sessions"} & set(shown)


@shows("GET /listeners")
async def test_listeners(api: httpx.AsyncClient) -> None:
    status = {"running": True, "max_connections": "infinity", "current_connections": 7}
    listed = (await api.get("/listeners")).json()
    assert listed[0] == {
        "id": "tcp:default",
        "type": "tcp",
        "name": "default",
        "enable": True,
        "bind": "0.0.0.0:1883",
        "acceptors": 16,
        "number": 1,
        "status": status,
        "node_status": [{"node": NODE, "status": status}],
    }
    assert listed[1]["status"] == {"running": False, "max_connections": 100, "current_connections": 0}
    assert [row["id"] for row in (await api.get("/listeners?type=ws")).json()] == ["ws:web"]
    assert (await api.get("/listeners?type=quic")).json() == []
    assert (await api.get("/listeners?type=carrier")).status_code == 400


@shows("GET /listeners/:id")
@pytest.mark.parametrize("path", ["/listeners/ws:web", "/listeners/ws%3Aweb"])
async def test_one_listener(api: httpx.AsyncClient, path: str) -> None:
    assert (await api.get(path)).json() == {
        "id": "ws:web",
        "type": "ws",
        "name": "web",
        "enable": True,
        "bind": "0.0.0.0:8083",
        "acceptors": 16,
        "max_connections": 100,
        "running": False,
        "current_connections": 0,
        "websocket": {"compress": False},
    }


@shows("GET /listeners/:id")
async def test_no_such_listener(api: httpx.AsyncClient) -> None:
    answer = await api.get("/listeners/tcp:other")
    assert answer.status_code == 404
    assert answer.json() == {"code": "BAD_LISTENER_ID", "message": "Listener id not found"}
    for malformed in ("tcp", "tcp:", "carrier:pigeon"):
        answer = await api.get(f"/listeners/{malformed}")
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")


@shows("GET /rules", "GET /bridges")
@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/rules", {"data": [], "meta": {"page": 1, "limit": 100, "count": 0, "hasnext": False}}),
        (
            "/alarms?activated=true&page=2",
            {"data": [], "meta": {"page": 2, "limit": 100, "count": 0, "hasnext": False}},
        ),
        ("/bridges", []),
    ],
)
async def test_what_there_is_nothing_of(api: httpx.AsyncClient, path: str, shown: Any) -> None:
    answer = await api.get(path)
    assert (answer.status_code, answer.json()) == (200, shown)


@shows("GET /cluster")
async def test_a_cluster_of_one(api: httpx.AsyncClient) -> None:
    answer = await api.get("/cluster")
    assert (answer.status_code, answer.json()) == (200, {"name": "trio_broker", "nodes": [NODE], "self": NODE})
