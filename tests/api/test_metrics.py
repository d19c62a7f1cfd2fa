"""`/metrics` and `/stats` of a running broker: the names are EMQX's, all of them and no others."""

from __future__ import annotations

from urllib.parse import quote

from api.live import running
from api.operations import shows
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_broker.config import Config
from trio_broker.session.meter import METRIC_NAMES

NODE = Config().node.name
PATH = f"/nodes/{quote(NODE)}"

GAUGES = (
    *("connections", "live_connections", "channels", "sessions", "cluster_sessions", "topics", "subscriptions"),
    *("subscriptions.shared", "subscribers", "suboptions", "retained", "delayed"),
)


@shows("GET /metrics", "GET /nodes/:node/metrics")
async def test_counters(autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1")
        await client.publish("t", b"x", 1)
        (row,) = (await live.api.get("/metrics")).json()
        assert row.pop("node") == NODE
        assert len(METRIC_NAMES) == 99
        assert set(row) == set(METRIC_NAMES)
        assert (row["messages.received"], row["packets.puback.sent"], row["client.connected"]) == (1, 1, 1)
        assert (await live.api.get("/metrics?aggregate=true")).json() == row
        assert (await live.api.get("/metrics?aggregate=true&node=other@host")).json() == row
        assert (await live.api.get(f"/metrics?node={quote(NODE)}")).json() == [{"node": NODE, **row}]
        assert (await live.api.get("/metrics?node=other@host")).json() == []
        assert (await live.api.get(f"{PATH}/metrics")).json() == row


@shows("GET /stats", "GET /nodes/:node/stats")
async def test_gauges(autojump_clock: MockClock) -> None:
    async with running() as live:
        c1 = await live.connect("c1", properties={"session_expiry_interval": 3600})
        c2 = await live.connect("c2")
        for topic_filter in ("t/#", "u", "$share/g/t"):
            await c1.subscribe(topic_filter, 1)
        await c2.subscribe("t/#")
        await c2.publish("kept", b"x", 1, retain=True)
        (row,) = (await live.api.get("/stats")).json()
        assert row.pop("node") == NODE
        assert set(row) == {f"{name}.{what}" for name in GAUGES for what in ("count", "max")}
        expected = {
            "connections": 2,
            "live_connections": 2,
            "channels": 2,
            "sessions": 2,
            "cluster_sessions": 2,
            "topics": 3,
            "subscriptions": 4,
            "subscriptions.shared": 1,
            "subscribers": 4,
            "suboptions": 4,
            "retained": 1,
            "delayed": 0,
        }
        assert {name: row[f"{name}.count"] for name in expected} == expected
        assert (await live.api.get("/stats?aggregate=true")).json() == row
        assert (await live.api.get(f"{PATH}/stats")).json() == row
        await c1.disconnect()
        await c2.disconnect()
        await wait_all_tasks_blocked()
        after = (await live.api.get(f"{PATH}/stats")).json()
        assert {name: after[f"{name}.max"] for name in expected} == expected
        assert [after[f"{name}.count"] for name in ("connections", "live_connections", "subscriptions")] == [1, 0, 3]
