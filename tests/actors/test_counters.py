"""Metrics and gauges are exact after a known exchange."""

from __future__ import annotations

import pytest
from actors.flows import SESSION, end_of, expect, one, rest, settle
from trio.testing import MockClock

from trio_broker.protocol.packets import PubComp, Publish, PubRec, PubRel, Will
from trio_broker.testing import RunningBroker, open_broker


async def counted(running: RunningBroker, *prefixes: str) -> dict[str, int]:
    """The counters with one of these prefixes that are not 0."""
    await settle()
    metrics = await running.broker.questions.metrics()
    return {name: value for name, value in sorted(metrics.items()) if value and name.startswith(prefixes)}


async def test_packets_and_bytes(autojump_clock: MockClock) -> None:
    async with open_broker() as running:
        async with running.client("s", level=4) as subscriber:  # 15 bytes, 4 back
            await subscriber.subscribe("t", 2)  # 8 bytes, 5 back
            async with running.client("p", level=4) as publisher:  # 15 bytes, 4 back
                await publisher.publish("t", b"0")  # 6 bytes; 6 to the subscriber
                await publisher.publish("t", b"1", 1)  # 8 bytes, 4 back; 8 to the subscriber, 4 back
                await publisher.publish("t", b"2", 2)  # 8 + 4, 4 + 4 back; 8 + 4 to the subscriber, 4 + 4 back
                await rest(subscriber)
                await publisher.ping()  # 2 bytes, 2 back
                await subscriber.unsubscribe("t")  # 7 bytes, 4 back
        # two DISCONNECT, 2 bytes each
        assert await counted(running, "packets.") == {
            "packets.connack.sent": 2,
            "packets.connect.received": 2,
            "packets.disconnect.received": 2,
            "packets.pingreq.received": 1,
            "packets.pingresp.sent": 1,
            "packets.puback.received": 1,
            "packets.puback.sent": 1,
            "packets.pubcomp.received": 1,
            "packets.pubcomp.sent": 1,
            "packets.publish.received": 3,
            "packets.publish.sent": 3,
            "packets.pubrec.received": 1,
            "packets.pubrec.sent": 1,
            "packets.pubrel.received": 1,
            "packets.pubrel.sent": 1,
            "packets.received": 2 + 2 + 1 + 1 + 3 + 3 + 1 + 1,
            "packets.sent": 2 + 1 + 3 + 2 + 2 + 1 + 1,
            "packets.suback.sent": 1,
            "packets.subscribe.received": 1,
            "packets.unsuback.sent": 1,
            "packets.unsubscribe.received": 1,
        }
        assert await counted(running, "bytes.") == {
            "bytes.received": 15 + 8 + 15 + 6 + 8 + 4 + 12 + 8 + 2 + 7 + 4,
            "bytes.sent": 4 + 5 + 4 + 6 + 4 + 8 + 8 + 12 + 2 + 4,
        }


async def test_messages(autojump_clock: MockClock) -> None:
    async with open_broker() as running:
        async with running.client("a") as a, running.client("b") as b, running.client("p") as publisher:
            await a.subscribe("t", 2)
            await b.subscribe("t", 1)
            for qos in (0, 1, 1, 2, 2, 2):
                await publisher.publish("t", b"x", qos)
            await publisher.publish("nobody", b"x", 1)
            await publisher.publish("nobody", b"x", 2)
            for client in (a, b):
                assert len(await rest(client)) == 6
            assert await counted(running, "messages.", "delivery.") == {
                "messages.received": 8,
                "messages.qos0.received": 1,
                "messages.qos1.received": 3,
                "messages.qos2.received": 4,
                "messages.publish": 8,
                "messages.dropped": 2,
                "messages.dropped.no_subscribers": 2,
                "messages.delivered": 12,
                "messages.sent": 12,
                "messages.qos0.sent": 2,
                "messages.qos1.sent": 2 + 5,
                "messages.qos2.sent": 3,
                "messages.acked": 10,
            }
            seen = await running.broker.questions.client("a")
            assert seen is not None
            assert seen.stats["send_msg"] == 6
            assert [seen.stats[f"send_msg.qos{qos}"] for qos in (0, 1, 2)] == [1, 2, 3]
            seen = await running.broker.questions.client("p")
            assert seen is not None
            assert [seen.stats[f"recv_msg.qos{qos}"] for qos in (0, 1, 2)] == [1, 3, 4]


async def test_what_one_client_sent_and_got(autojump_clock: MockClock) -> None:
    """Packets and bytes of one session, CONNECT and CONNACK on both sides of the account."""
    async with open_broker() as running, running.client("c", level=4) as client:
        await client.ping()
        seen = await running.broker.questions.client("c")
        assert seen is not None
        assert {name: seen.stats[name] for name in ("recv_pkt", "recv_oct", "send_pkt", "send_oct")} == {
            "recv_pkt": 2,
            "recv_oct": 15 + 2,
            "send_pkt": 2,
            "send_oct": 4 + 2,
        }


async def test_what_is_dropped(autojump_clock: MockClock) -> None:
    async with open_broker() as running, running.client("c", properties={"maximum_packet_size": 30}) as client:
        await client.subscribe("t", 1, no_local=True)
        await client.publish("t", b"mine", 1)
        await running.broker.publish("t", b"x" * 100, qos=1)
        await running.broker.publish("t", b"ok", qos=1)
        assert len(await rest(client)) == 1
        assert await counted(running, "delivery.") == {
            "delivery.dropped": 2,
            "delivery.dropped.no_local": 1,
            "delivery.dropped.too_large": 1,
        }


async def test_sessions_and_connections(autojump_clock: MockClock) -> None:
    async with open_broker(mqtt={"max_clientid_len": 23}) as running:
        async with running.client("a", properties=SESSION):
            pass
        await settle()
        async with running.client("a", properties=SESSION, clean_start=False):
            pass
        await settle()
        async with running.client("a", properties=SESSION, clean_start=True):
            pass
        async with running.client("b"), running.client("x" * 24) as refused:
            await end_of(refused)
        assert await counted(running, "client.connect", "client.connack", "client.disconnected", "session.") == {
            "client.connack": 5,
            "client.connect": 5,
            "client.connected": 4,
            "client.disconnected": 4,
            "session.created": 3,
            "session.resumed": 1,
            "session.discarded": 1,
            "session.terminated": 1,
        }
        assert await counted(running, "packets.connack") == {"packets.connack.error": 1, "packets.connack.sent": 5}


async def test_gauges(autojump_clock: MockClock) -> None:
    async with open_broker() as running:
        async with running.client("a") as a, running.client("b", properties=SESSION) as b:
            await a.subscribe("t/1", 1)
            await b.subscribe("t/1", 1)
            await b.subscribe("t/2", 1)
            await a.publish("kept/1", b"x", retain=True)
            await a.publish("kept/2", b"x", retain=True)
            await a.publish("kept/1", b"", retain=True)
            await a.ping()
        await settle()
        stats = await running.broker.questions.stats()
        expected = {
            "live_connections": (0, 2),
            "sessions": (1, 2),
            "subscriptions": (2, 3),
            "topics": (2, 2),
            "retained": (1, 2),
            "subscriptions.shared": (0, 0),
        }
        assert {name: (stats[f"{name}.count"], stats[f"{name}.max"]) for name in expected} == expected


async def test_acknowledgements_nobody_waits_for(autojump_clock: MockClock) -> None:
    async with open_broker() as running, running.client("c", auto_ack=False) as client:
        await client.subscribe("t", 2)
        await client.send(Publish("t", b"x", 2, packet_identifier=1))
        message = await one(client)
        await expect(client, PubRec)
        await client.send(Publish("t", b"x", 2, dup=True, packet_identifier=1))
        await expect(client, PubRec)
        await client.send(PubRel(1))
        await expect(client, PubComp)
        await client.send(PubRel(1))
        await expect(client, PubComp)
        for _ in range(2):
            await client.send(PubRec(message.packet_identifier))
            await expect(client, PubRel)
        for _ in range(2):
            await client.send(PubComp(message.packet_identifier))
        await client.ping()
        assert await counted(running, "packets.pub") == {
            "packets.pubcomp.missed": 1,
            "packets.pubcomp.received": 2,
            "packets.pubcomp.sent": 2,
            "packets.publish.inuse": 1,
            "packets.publish.received": 2,
            "packets.publish.sent": 1,
            "packets.pubrec.inuse": 1,
            "packets.pubrec.received": 2,
            "packets.pubrec.sent": 2,
            "packets.pubrel.missed": 1,
            "packets.pubrel.received": 2,
            "packets.pubrel.sent": 2,
        }
        assert (await counted(running, "messages.received")) == {"messages.received": 1}


@pytest.mark.parametrize("by_program", [False, True])
async def test_wills_and_the_program_count_as_published(autojump_clock: MockClock, by_program: bool) -> None:
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("t")
        if by_program:
            await running.broker.publish("t", b"x")
        else:
            async with running.client("c", will=Will("t", b"x")) as client:
                await client.drop()
        await one(subscriber)
        assert await counted(running, "messages.publish", "messages.delivered", "messages.sent") == {
            "messages.delivered": 1,
            "messages.publish": 1,
            "messages.sent": 1,
        }
