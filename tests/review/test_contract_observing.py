"""The REST contract, read afresh: nodes, counters, gauges, and what charts are made from."""

from __future__ import annotations

import re

import pytest
import trio
from api.live import Live, running
from api.operations import shows
from review.contract import COUNTERS, NODE, STATS, away, failed, got, invalid, post, words
from trio.testing import MockClock

from trio_broker.protocol.packets import Disconnect

OTHER = "other@10.0.0.1"
NODE_KEYS = set(
    words("""node node_status role version edition uptime otp_release connections live_connections cluster_sessions
    load1 load5 load15 max_fds memory_total memory_used process_available process_used sys_path log_path""")
)


async def counters(live: Live) -> dict[str, int]:
    answer: dict[str, int] = await got(live, "/metrics", aggregate="true")
    return answer


async def gauges(live: Live) -> dict[str, int]:
    """After the time that is given them to be refreshed."""
    await trio.sleep(2)
    answer: dict[str, int] = await got(live, "/stats", aggregate="true")
    return answer


@shows("GET /nodes", "GET /nodes/:node")
async def test_nodes(autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.connect("c1")
        await away(live, "c2")
        await trio.sleep(5)
        (node,) = await got(live, "/nodes")
        one = await got(live, f"/nodes/{NODE}")
        assert one.keys() == node.keys() == NODE_KEYS | {"trio_broker_version"}
        assert (one["node"], one["node_status"], one["role"]) == (NODE, "running", "core")
        assert (one["version"], one["edition"]) == ("5.8.9", "Opensource")
        assert (one["connections"], one["live_connections"], one["cluster_sessions"]) == (2, 1, 2)
        for key in ("uptime", "connections", "max_fds", "process_available", "process_used"):
            assert type(one[key]) is int, key
        assert 5000 <= one["uptime"] < 60_000
        for key in ("load1", "load5", "load15"):
            assert isinstance(one[key], int | float)
        for key in ("memory_total", "memory_used"):
            assert re.fullmatch(r"\d+\.\d\d[KMG]|\d+", one[key]), one[key]
        assert all(isinstance(one[key], str) and one[key] for key in ("otp_release", "sys_path", "log_path"))


@shows("GET /nodes/:node", "GET /nodes/:node/metrics", "GET /nodes/:node/stats")
@pytest.mark.parametrize("path", ["", "/metrics", "/stats"])
async def test_an_unknown_node(path: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        failed(await live.api.get(f"/nodes/{OTHER}{path}"), 404, "NOT_FOUND", f"Node not found: {OTHER}")
        assert (await live.api.get(f"/nodes/{NODE.replace('@', '%40')}{path}")).status_code == 200


@shows("GET /metrics", "GET /nodes/:node/metrics")
async def test_the_counters(autojump_clock: MockClock) -> None:
    async with running() as live:
        whole = await got(live, "/metrics?aggregate=true")
        assert whole.keys() == set(COUNTERS)
        assert len(whole) == 99
        assert all(type(value) is int for value in whole.values())
        assert set(whole.values()) == {0}
        assert await got(live, f"/nodes/{NODE}/metrics") == whole
        for query in ("", "?aggregate=false", f"?node={NODE}"):
            assert await got(live, "/metrics" + query) == [{"node": NODE, **whole}]
        assert await got(live, f"/metrics?node={OTHER}") == []
        assert await got(live, f"/metrics?aggregate=true&node={OTHER}") == whole
        invalid(await live.api.get("/metrics?aggregate=maybe"), "aggregate")


@shows("GET /metrics")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_what_is_counted(level: int, autojump_clock: MockClock) -> None:
    async with running() as live:
        c1, c2 = await live.connect("c1", level=level), await live.connect("c2", level=level)
        await c1.subscribe("t/#", 2)
        for qos in (0, 1, 2):
            await c2.publish("t/1", b"abc", qos)
        for _ in range(3):
            await c1.receive()
        await c2.publish("nobody", b"", 0)
        await c1.ping()
        await c1.unsubscribe("t/#")
        await c2.disconnect()
        await trio.sleep(1)
        expected = {
            "packets.connect.received": 2,
            "packets.connack.sent": 2,
            "packets.publish.received": 4,
            "packets.publish.sent": 3,
            "packets.puback.received": 1,
            "packets.puback.sent": 1,
            "packets.pubrec.received": 1,
            "packets.pubrec.sent": 1,
            "packets.pubrel.received": 1,
            "packets.pubrel.sent": 1,
            "packets.pubcomp.received": 1,
            "packets.pubcomp.sent": 1,
            "packets.subscribe.received": 1,
            "packets.suback.sent": 1,
            "packets.unsubscribe.received": 1,
            "packets.unsuback.sent": 1,
            "packets.pingreq.received": 1,
            "packets.pingresp.sent": 1,
            "packets.disconnect.received": 1,
            "packets.received": 2 + 4 + 1 + 3 + 1 + 1 + 1 + 1,
            "packets.sent": 2 + 3 + 3 + 1 + 1 + 1 + 1,
            "messages.received": 4,
            "messages.qos0.received": 2,
            "messages.qos1.received": 1,
            "messages.qos2.received": 1,
            "messages.sent": 3,
            "messages.qos0.sent": 1,
            "messages.qos1.sent": 1,
            "messages.qos2.sent": 1,
            "messages.publish": 4,
            "messages.delivered": 3,
            "messages.acked": 2,
            "messages.dropped": 1,
            "messages.dropped.no_subscribers": 1,
            "client.connect": 2,
            "client.connack": 2,
            "client.connected": 2,
            "client.authenticate": 2,
            "client.auth.anonymous": 2,
            "client.subscribe": 1,
            "client.unsubscribe": 1,
            "client.disconnected": 1,
            "session.created": 2,
            "session.terminated": 1,
            "authentication.success": 2,
            "authentication.success.anonymous": 2,
        }
        counted = await counters(live)
        varying = {"bytes.received", "bytes.sent", "client.authorize"}
        varying |= {name for name in counted if name.startswith("authorization.")}
        assert {name: n for name, n in counted.items() if n and name not in varying} == expected
        assert counted["bytes.received"] > 50
        assert counted["bytes.sent"] > 30


@shows("GET /metrics", "POST /publish")
async def test_what_the_api_does_is_counted(autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1")
        await live.api.post("/clients/c1/subscribe", json={"topic": "t", "qos": 1})
        await post(live, "t", qos=1)
        await client.receive()
        await post(live, "nobody", qos=2)
        await live.api.post("/clients/c1/unsubscribe", json={"topic": "t"})
        await live.api.delete("/clients/c1")
        await client.expect(Disconnect)
        await trio.sleep(1)
        counted = await counters(live)
        expected = {
            "messages.received": 2,
            "messages.qos1.received": 1,
            "messages.qos2.received": 1,
            "messages.sent": 1,
            "messages.publish": 2,
            "messages.delivered": 1,
            "messages.acked": 1,
            "messages.dropped.no_subscribers": 1,
            "packets.publish.received": 0,
            "packets.publish.sent": 1,
            "packets.disconnect.sent": 1,
            "client.disconnected": 1,
            "session.terminated": 1,
        }
        assert {name: counted[name] for name in expected} == expected


@shows("GET /metrics")
async def test_what_becomes_of_sessions_is_counted(autojump_clock: MockClock) -> None:
    async with running() as live:
        await away(live, "c1")
        first = await live.connect("c1", clean_start=False, properties={"session_expiry_interval": 5})
        await live.connect("c1", clean_start=False, properties={"session_expiry_interval": 5})
        assert (await first.wait_ended()).reason_code == 0x8E
        last = await live.connect("c1", clean_start=True, properties={"session_expiry_interval": 5})
        await last.disconnect()
        await trio.sleep(10)
        counted = await counters(live)
        expected = {"session.created": 2, "session.resumed": 2, "session.discarded": 1, "client.connected": 4}
        assert {name: counted[name] for name in expected} == expected
        assert counted["session.takenover"] >= 1
        assert counted["session.terminated"] >= 1


@shows("GET /metrics")
async def test_drops_are_counted(autojump_clock: MockClock) -> None:
    async with running() as live:
        tiny = await live.connect("tiny", properties={"maximum_packet_size": 50})
        await tiny.subscribe("t/#", 1)
        selfish = await live.connect("selfish")
        await selfish.subscribe("own", 1, no_local=True)
        await away(live, "away", "q/#", qos=2)
        await post(live, "t/1", "x" * 100, qos=1)
        await selfish.publish("own", b"", 1)
        for _ in range(1003):
            await selfish.publish("q/1", b"", 1)
        await trio.sleep(1)
        counted = await counters(live)
        expected = {
            "delivery.dropped.too_large": 1,
            "delivery.dropped.no_local": 1,
            "delivery.dropped.queue_full": 3,
            "delivery.dropped": 5,
        }
        assert {name: counted[name] for name in expected} == expected


@shows("GET /stats", "GET /nodes/:node/stats")
async def test_the_gauges(autojump_clock: MockClock) -> None:
    async with running() as live:
        whole = await gauges(live)
        assert whole.keys() - {"delayed.count", "delayed.max"} == STATS
        assert all(type(value) is int for value in whole.values())
        assert set(whole.values()) == {0}
        assert await got(live, f"/nodes/{NODE}/stats") == whole
        for query in ("", "?aggregate=false"):
            assert await got(live, "/stats" + query) == [{"node": NODE, **whole}]
        invalid(await live.api.get("/stats?aggregate=maybe"), "aggregate")


@shows("GET /stats")
async def test_gauges_fall_and_their_highest_values_stay(autojump_clock: MockClock) -> None:
    async with running() as live:
        c1, c2 = await live.connect("c1"), await live.connect("c2")
        for client in (c1, c2):
            await client.subscribe("t/#")
            await client.subscribe("$share/g/t/1")
        await away(live, "c3", "q")
        await post(live, "a", retain=True)
        await post(live, "b", retain=True)
        now = await gauges(live)
        expected = {
            "connections": (3, 3),
            "live_connections": (2, 3),
            "channels": (3, 3),
            "sessions": (3, 3),
            "cluster_sessions": (3, 3),
            "topics": (3, 3),
            "subscriptions": (5, 5),
            "subscriptions.shared": (2, 2),
            "subscribers": (5, 5),
            "suboptions": (5, 5),
            "retained": (2, 2),
        }
        assert {name: now[f"{name}.count"] for name in expected} == {name: n for name, (n, _) in expected.items()}
        for name, (count, most) in expected.items():
            assert count <= now[f"{name}.max"] <= most, name
        await c1.disconnect()
        await live.api.delete("/clients/c3")
        await live.api.delete("/mqtt/retainer/message/a")
        later = await gauges(live)
        counts = [1, 1, 1, 1, 1, 2, 2, 1, 2, 2, 1]
        assert [later[f"{name}.count"] for name in expected] == counts
        assert {name: later[f"{name}.max"] for name in expected} == {name: now[f"{name}.max"] for name in expected}
