"""The contract of `/api/v4`, read afresh: counters and gauges, also while clients do all that is counted."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from api.operations import shows
from review.contract import KEPT, away, words
from review.doors_v4 import NODE, Doors, both, done, doors
from trio.testing import MockClock

from trio_broker.protocol.packets import PubAck
from trio_broker.testing import Client

COUNTERS = words("""
bytes.received bytes.sent packets.received packets.sent packets.connect.received packets.connack.sent
packets.connack.error packets.connack.auth_error packets.publish.received packets.publish.sent packets.publish.inuse
packets.publish.error packets.publish.auth_error packets.publish.dropped packets.puback.received packets.puback.sent
packets.puback.inuse packets.puback.missed packets.pubrec.received packets.pubrec.sent packets.pubrec.inuse
packets.pubrec.missed packets.pubrel.received packets.pubrel.sent packets.pubrel.missed packets.pubcomp.received
packets.pubcomp.sent packets.pubcomp.inuse packets.pubcomp.missed packets.subscribe.received packets.subscribe.error
packets.subscribe.auth_error packets.suback.sent packets.unsubscribe.received packets.unsubscribe.error
packets.unsuback.sent packets.pingreq.received packets.pingresp.sent packets.disconnect.received
packets.disconnect.sent packets.auth.received packets.auth.sent messages.received messages.sent
messages.qos0.received messages.qos0.sent messages.qos1.received messages.qos1.sent messages.qos2.received
messages.qos2.sent messages.publish messages.dropped messages.dropped.await_pubrel_timeout
messages.dropped.no_subscribers messages.forward messages.retained messages.delayed messages.delivered messages.acked
delivery.dropped delivery.dropped.no_local delivery.dropped.too_large delivery.dropped.qos0_msg
delivery.dropped.queue_full delivery.dropped.expired client.connect client.connack client.connected
client.authenticate client.check_acl client.subscribe client.unsubscribe client.disconnected session.created
session.resumed session.takeovered session.discarded session.terminated client.auth.success
client.auth.success.anonymous client.auth.failure client.acl.allow client.acl.deny client.acl.cache_hit
""")
OLDER = words("""
client.auth.anonymous messages.dropped.expired client.auth.ignore client.acl.ignore rules.matched actions.success
actions.failure actions.error actions.exception actions.retry actions.taken
""")
GAUGES = words("""
connections live_connections channels sessions topics suboptions subscriptions subscribers subscriptions.shared routes
retained
""")


async def metrics(at: Doors) -> dict[str, int]:
    """The counters that are not 0."""
    found: dict[str, int] = await both(at.app, "/metrics", "metrics")
    return {name: value for name, value in found.items() if value}


async def stats(at: Doors) -> dict[str, tuple[int, int]]:
    """Now and highest, of the gauges that are or were not 0."""
    found = await both(at.app, "/stats", "stats")
    pairs = {name: (found[f"{name}.count"], found[f"{name}.max"]) for name in GAUGES}
    return {name: pair for name, pair in pairs.items() if pair != (0, 0)}


async def received(client: Client, count: int) -> None:
    with trio.fail_after(600):
        for _ in range(count):
            await client.receive()


@shows("GET /api/v4/metrics", "GET /api/v4/nodes/:node/metrics")
async def test_the_counters(autojump_clock: MockClock) -> None:
    assert len(COUNTERS) == 84
    async with doors() as at:
        found = await both(at.app, "/metrics", "metrics")
        assert {*COUNTERS, *OLDER} <= found.keys()
        assert not {"client.authorize", "session.takenover", "authorization.allow"} & found.keys()
        assert all(type(value) is int for value in found.values())
        assert {name for name, value in found.items() if value} == set()
        assert await both(at.user, "/metrics", "metrics") == found


@shows("GET /api/v4/stats", "GET /api/v4/nodes/:node/stats")
async def test_the_gauges(autojump_clock: MockClock) -> None:
    async with doors() as at:
        found = await both(at.app, "/stats", "stats")
        expected = {f"{name}.{kind}" for name in GAUGES for kind in ("count", "max")}
        assert len(expected) == 22
        assert found.keys() - {"resources.count", "resources.max"} == expected
        assert all(type(value) is int and value == 0 for value in found.values())


@shows("GET /api/v4/metrics")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_messages_are_counted(level: int, autojump_clock: MockClock) -> None:
    async with doors() as at:
        sub = await at.live.connect("sub", level=level)
        await sub.subscribe("t/#", 2)
        pub = await at.live.connect("pub", level=level)
        for qos in (0, 1, 1, 2, 2, 2):
            await pub.publish("t/1", b"x", qos)
        await received(sub, 6)
        await pub.publish("nobody", b"x", 1)
        await pub.ping()
        await sub.unsubscribe("t/#")
        await pub.disconnect()
        await trio.sleep(1)
        found = await metrics(at)
        assert found.pop("bytes.received") > 0
        assert found.pop("bytes.sent") > 0
        expected = {
            "packets.received": 2 + 7 + 3 + 2 + 3 + 3 + 1 + 1 + 1 + 1,
            "packets.sent": 2 + 3 + 3 + 3 + 1 + 1 + 1 + 6 + 3,
            "packets.connect.received": 2,
            "packets.connack.sent": 2,
            "packets.publish.received": 7,
            "packets.publish.sent": 6,
            "packets.puback.received": 2,
            "packets.puback.sent": 3,
            "packets.pubrec.received": 3,
            "packets.pubrec.sent": 3,
            "packets.pubrel.received": 3,
            "packets.pubrel.sent": 3,
            "packets.pubcomp.received": 3,
            "packets.pubcomp.sent": 3,
            "packets.subscribe.received": 1,
            "packets.suback.sent": 1,
            "packets.unsubscribe.received": 1,
            "packets.unsuback.sent": 1,
            "packets.pingreq.received": 1,
            "packets.pingresp.sent": 1,
            "packets.disconnect.received": 1,
            "messages.received": 7,
            "messages.sent": 6,
            "messages.qos0.received": 1,
            "messages.qos0.sent": 1,
            "messages.qos1.received": 3,
            "messages.qos1.sent": 2,
            "messages.qos2.received": 3,
            "messages.qos2.sent": 3,
            "messages.publish": 7,
            "messages.dropped": 1,
            "messages.dropped.no_subscribers": 1,
            "messages.delivered": 6,
            "messages.acked": 5,
            "client.connect": 2,
            "client.connack": 2,
            "client.connected": 2,
            "client.disconnected": 1,
            "client.subscribe": 1,
            "client.unsubscribe": 1,
            "session.created": 2,
            "session.terminated": 1,
        }
        expected["packets.received"] = sum(
            count
            for name, count in expected.items()
            if name.startswith("packets.") and name.count(".") == 2 and name.endswith(".received")
        )
        expected["packets.sent"] = sum(
            count
            for name, count in expected.items()
            if name.startswith("packets.") and name.count(".") == 2 and name.endswith(".sent")
        )
        assert {name: found.get(name, 0) for name in expected} == expected
        rest = found.keys() - expected.keys()
        assert all(name.startswith(("client.auth", "client.acl", "client.check_acl")) for name in rest), rest


@shows("GET /api/v4/metrics")
async def test_acknowledgements_nobody_waited_for(autojump_clock: MockClock) -> None:
    async with doors() as at:
        c1 = await at.live.connect("c1")
        await c1.send(PubAck(77))
        await c1.ping()
        assert (await metrics(at))["packets.puback.missed"] == 1


@shows("GET /api/v4/metrics")
async def test_sessions_are_counted(autojump_clock: MockClock) -> None:
    async with doors() as at:
        names = ("created", "resumed", "takeovered", "discarded", "terminated")

        async def sessions() -> dict[str, int]:
            found = await metrics(at)
            return {name: found[f"session.{name}"] for name in names if f"session.{name}" in found}

        await away(at.live, "c1")
        await trio.sleep(1)
        assert await sessions() == {"created": 1}
        await at.live.connect("c1", clean_start=False, **KEPT)
        assert await sessions() == {"created": 1, "resumed": 1}
        await at.live.connect("c1", clean_start=False, **KEPT)
        assert await sessions() == {"created": 1, "resumed": 2, "takeovered": 1}
        last = await at.live.connect("c1", clean_start=True)
        assert await sessions() == {"created": 2, "resumed": 2, "takeovered": 1, "discarded": 1}
        await last.disconnect()
        await trio.sleep(1)
        assert (await sessions())["terminated"] == 1


@shows("GET /api/v4/metrics", "GET /api/v4/stats")
async def test_retained_messages_are_counted(autojump_clock: MockClock) -> None:
    async with doors() as at:
        c1 = await at.live.connect("c1")
        for topic in ("r/1", "r/2", "r/1"):
            await c1.publish(topic, b"x", 1, retain=True)
        assert (await metrics(at))["messages.retained"] == 3  # each store counts
        assert (await stats(at))["retained"] == (2, 2)
        await c1.publish("r/1", b"", 1, retain=True)
        assert (await stats(at))["retained"] == (1, 2)


@shows("GET /api/v4/metrics")
async def test_messages_that_are_delayed_or_not_delivered(autojump_clock: MockClock) -> None:
    async with doors() as at:
        c1 = await at.live.connect("c1", properties={"maximum_packet_size": 50})
        await c1.subscribe("t", 1, no_local=True)
        await c1.subscribe("$delayed/never")
        await c1.publish("t", b"x", 1)
        await c1.ping()
        found = await metrics(at)
        assert (found["delivery.dropped"], found["delivery.dropped.no_local"]) == (1, 1)
        pub = await at.live.connect("pub")
        await pub.publish("t", b"x" * 100, 1)
        await pub.ping()
        found = await metrics(at)
        assert (found["delivery.dropped"], found["delivery.dropped.too_large"]) == (2, 1)
        await pub.publish("$delayed/5/t", b"later", 1)
        found = await metrics(at)
        assert found["messages.delayed"] == 1
        await received(c1, 1)


@shows("GET /api/v4/metrics")
async def test_access_is_counted(autojump_clock: MockClock) -> None:
    async with doors() as at:
        done(await at.app.put(f"/nodes/{NODE}/plugins/emqx_auth_mnesia/load"))
        done(await at.app.post("/auth_username", json={"username": "u1", "password": "secret"}))
        before = await metrics(at)
        refused = await at.live.connect("no", username="u1", password=b"wrong")
        assert refused.connack.reason_code != 0
        c1 = await at.live.connect("yes", username="u1", password=b"secret")
        assert c1.connack.reason_code == 0
        found = await metrics(at)

        def more(name: str) -> int:
            return found.get(name, 0) - before.get(name, 0)

        assert (more("client.authenticate"), more("client.auth.success"), more("client.auth.failure")) == (2, 1, 1)
        assert (more("packets.connack.error"), more("packets.connack.auth_error")) == (1, 1)
        assert (more("client.connack"), more("client.connected")) == (2, 1)
        rule: dict[str, Any] = {"username": "u1", "topic": "no/#", "action": "pubsub", "access": "deny"}
        answer = await at.app.post("/acl", json=rule)
        assert answer.json()["code"] == 0
        before = found
        await c1.publish("no/1", b"x", 1)
        await c1.subscribe("no/1")
        found = await metrics(at)
        assert more("client.acl.deny") == 2
        assert more("client.check_acl") == 2
        assert (more("packets.publish.auth_error"), more("packets.subscribe.auth_error")) == (1, 1)


@shows("GET /api/v4/stats")
async def test_gauges_go_up_and_down(autojump_clock: MockClock) -> None:
    async with doors() as at:
        c1, c2 = await at.live.connect("c1", **KEPT), await at.live.connect("c2")
        await c1.subscribe("a")
        await c1.subscribe("b/#", 1)
        await c2.subscribe("a")
        await c2.subscribe("$share/g/a")
        found = await stats(at)
        for name in ("connections", "live_connections", "channels", "sessions"):
            assert found[name] == (2, 2), name
        assert (found["suboptions"], found["subscriptions"]) == ((4, 4), (4, 4))
        assert found["subscriptions.shared"] == (1, 1)
        assert found["topics"] == found["routes"]
        assert found["topics"][0] in (2, 3)
        await c2.disconnect()
        await c1.disconnect()
        await trio.sleep(1)
        found = await stats(at)
        assert found["live_connections"] == (0, 2)
        for name in ("connections", "channels"):
            assert found[name] == (1, 2), name
        assert (found["subscriptions"], found["subscriptions.shared"]) == ((2, 4), (0, 1))
        assert found["topics"][0] == 2
