"""Counters and gauges under the names of EMQX 4, compared with `/api/v5` of the same broker after real traffic."""

from __future__ import annotations

from typing import Any

from actors.flows import rest, settle
from api.live import Live, running
from api.older import older
from api.operations import shows
from trio.testing import MockClock

from trio_broker.config import Config
from trio_broker.config.authorization import AuthorizationConfig, BuiltInSourceConfig

NODE = "trio_broker@127.0.0.1"
KEPT: dict[str, Any] = {"properties": {"session_expiry_interval": 3600}}


def words(text: str) -> list[str]:
    return text.split()


COUNTERS = words(
    """
    bytes.received bytes.sent packets.received packets.sent packets.connect.received packets.connack.sent
    packets.connack.error packets.connack.auth_error packets.publish.received packets.publish.sent
    packets.publish.inuse packets.publish.error packets.publish.auth_error packets.publish.dropped
    packets.puback.received packets.puback.sent packets.puback.inuse packets.puback.missed packets.pubrec.received
    packets.pubrec.sent packets.pubrec.inuse packets.pubrec.missed packets.pubrel.received packets.pubrel.sent
    packets.pubrel.missed packets.pubcomp.received packets.pubcomp.sent packets.pubcomp.inuse packets.pubcomp.missed
    packets.subscribe.received packets.subscribe.error packets.subscribe.auth_error packets.suback.sent
    packets.unsubscribe.received packets.unsubscribe.error packets.unsuback.sent packets.pingreq.received
    packets.pingresp.sent packets.disconnect.received packets.disconnect.sent packets.auth.received
    packets.auth.sent messages.received messages.sent messages.qos0.received messages.qos0.sent
    messages.qos1.received messages.qos1.sent messages.qos2.received messages.qos2.sent messages.publish
    messages.dropped messages.dropped.await_pubrel_timeout messages.dropped.no_subscribers messages.forward
    messages.retained messages.delayed messages.delivered messages.acked delivery.dropped delivery.dropped.no_local
    delivery.dropped.too_large delivery.dropped.qos0_msg delivery.dropped.queue_full delivery.dropped.expired
    client.connect client.connack client.connected client.authenticate client.check_acl client.subscribe
    client.unsubscribe client.disconnected session.created session.resumed session.takeovered session.discarded
    session.terminated client.auth.success client.auth.success.anonymous client.auth.failure client.acl.allow
    client.acl.deny client.acl.cache_hit
    """
)
RENAMED = {
    "client.check_acl": "client.authorize",
    "client.acl.allow": "authorization.allow",
    "client.acl.deny": "authorization.deny",
    "client.acl.cache_hit": "authorization.cache_hit",
    "client.auth.success": "authentication.success",
    "client.auth.success.anonymous": "authentication.success.anonymous",
    "client.auth.failure": "authentication.failure",
    "session.takeovered": "session.takenover",
    "client.auth.anonymous": "authentication.success.anonymous",
    "messages.dropped.expired": "messages.dropped.await_pubrel_timeout",
}
NOTHING = words(
    """
    client.auth.ignore client.acl.ignore rules.matched actions.success actions.failure actions.error
    actions.exception actions.retry actions.taken
    """
)
GAUGES = words(
    """
    connections live_connections channels sessions topics suboptions subscriptions subscribers subscriptions.shared
    routes retained resources
    """
)


async def traffic(live: Live) -> None:
    """Of all QoS, retained, shared, taken over, dropped; one client stays."""
    reader = await live.connect("reader", **KEPT)
    await reader.subscribe("t/#", 2)
    await reader.subscribe("$share/g/s", 1)
    await reader.subscribe("gone")
    await reader.unsubscribe("gone")
    writer = await live.connect("writer", username="u1")
    for qos in range(3):
        await writer.publish(f"t/{qos}", b"x", qos, retain=True)
    await writer.publish("t/0", b"", 1, retain=True)
    await writer.publish("nobody", b"x", 1)
    await writer.ping()
    await rest(reader)
    await writer.disconnect()
    away = await live.connect("away", **KEPT)
    await away.disconnect()
    await live.connect("reader", clean_start=False, **KEPT)
    await settle()


@shows("GET /api/v4/metrics", "GET /api/v4/nodes/:node/metrics")
async def test_counters_are_those_of_v5(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        await traffic(live)
        body = (await v4.get("/metrics")).json()
        assert set(body) == {"code", "data"}
        assert body["code"] == 0
        ((node, counters),) = ((row["node"], row["metrics"]) for row in body["data"])
        assert node == NODE
        assert len(COUNTERS) == 84
        assert set(counters) == {*COUNTERS, *RENAMED, *NOTHING}
        assert all(type(value) is int for value in counters.values())
        assert all(counters[name] == 0 for name in NOTHING)
        five = (await live.api.get("/metrics?aggregate=true")).json()
        for name in set(counters) - {*NOTHING, "messages.retained"}:
            assert counters[name] == five[RENAMED.get(name, name)], name
        assert counters["messages.retained"] == 3
        assert counters["packets.connect.received"] == counters["client.connected"] == 4
        assert counters["messages.received"] == 5
        assert counters["messages.dropped.no_subscribers"] == 1
        assert counters["session.takeovered"] == 1
        assert counters["client.auth.success.anonymous"] > 0
        assert (await v4.get(f"/nodes/{NODE}/metrics")).json() == {"code": 0, "data": counters}


@shows("GET /api/v4/metrics")
async def test_what_is_asked_of_access_rules_is_counted(autojump_clock: MockClock) -> None:
    rules = AuthorizationConfig(sources=(BuiltInSourceConfig(),), no_match="deny")
    async with running(Config(authorization=rules)) as live, older(live, "v4") as v4:
        client = await live.connect("c1")
        for _ in range(3):
            await client.publish("t", b"x", 1)
        await settle()
        counters = (await v4.get(f"/nodes/{NODE}/metrics")).json()["data"]
        five = (await live.api.get("/metrics?aggregate=true")).json()
        names = ("client.check_acl", "client.acl.allow", "client.acl.deny", "client.acl.cache_hit")
        assert [counters[name] for name in names] == [five[RENAMED[name]] for name in names] == [1, 0, 3, 2]


@shows("GET /api/v4/stats", "GET /api/v4/nodes/:node/stats")
async def test_gauges_are_those_of_v5(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4") as v4:
        await traffic(live)
        body = (await v4.get("/stats")).json()
        assert body["code"] == 0
        (row,) = body["data"]
        assert set(row) == {"node", "stats"}
        assert row["node"] == NODE
        stats = row["stats"]
        assert set(stats) == {f"{name}.{kind}" for name in GAUGES for kind in ("count", "max")}
        assert all(type(value) is int for value in stats.values())
        five = (await live.api.get("/stats?aggregate=true")).json()
        for name in set(GAUGES) - {"routes", "resources"}:
            for kind in ("count", "max"):
                assert stats[f"{name}.{kind}"] == five[f"{name}.{kind}"], name
        assert (stats["routes.count"], stats["routes.max"]) == (five["topics.count"], five["topics.max"]) == (2, 3)
        assert (stats["resources.count"], stats["resources.max"]) == (0, 0)
        assert (stats["connections.count"], stats["live_connections.count"]) == (2, 1)
        assert (stats["retained.count"], stats["retained.max"]) == (2, 3)
        assert stats["subscriptions.shared.count"] == 1
        assert (await v4.get(f"/nodes/{NODE}/stats")).json() == {"code": 0, "data": stats}
