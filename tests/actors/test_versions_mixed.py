"""Clients of MQTT 3.1, 3.1.1 and 5.0 in one broker: everybody hears everybody, in its own version."""

from __future__ import annotations

import pytest
from actors.flows import SESSION, joined, numbers, one, payloads, rest, settle
from trio.testing import MockClock

from trio_broker.protocol.packets import Connect, Properties, PubAck, PubComp, Publish, PubRec
from trio_broker.testing import open_broker

LEVELS = [3, 4, 5]


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("subscriber_level", LEVELS)
@pytest.mark.parametrize("publisher_level", LEVELS)
async def test_each_hears_each(
    autojump_clock: MockClock, publisher_level: int, subscriber_level: int, qos: int
) -> None:
    """[MQTT-4.5.0-1] every pair of versions, single messages and runs of them."""
    async with open_broker() as running, running.client("s", level=subscriber_level) as subscriber:
        await subscriber.subscribe("t/+", qos)
        async with running.client("p", level=publisher_level) as publisher:
            packets = [
                Publish("t/1", payload, qos, packet_identifier=number + 1 if qos else 0)
                for number, payload in enumerate(numbers(20))
            ]
            await publisher.send_bytes(joined(publisher_level, *packets))
            messages = await rest(subscriber)
            assert payloads(messages) == numbers(20)
            assert all((m.topic_name, m.qos, m.properties) == ("t/1", qos, {}) for m in messages)


@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("publisher_level", LEVELS)
async def test_one_message_to_all(autojump_clock: MockClock, publisher_level: int, retain: bool) -> None:
    """[MQTT-3.3.1-12] one run of messages, subscribers of all versions and QoS."""
    async with open_broker() as running:
        async with running.client("3", level=3) as c3, running.client("4", level=4) as c4:
            async with running.client("5") as c5, running.client("5s", properties={"maximum_packet_size": 60}) as small:
                clients = (c3, c4, c5, small)
                for number, client in enumerate(clients):
                    await client.subscribe("t", number % 3)
                properties: Properties = {"content_type": "text/plain"} if publisher_level == 5 else {}
                async with running.client("p", level=publisher_level) as publisher:
                    for qos in (0, 1, 2):
                        await publisher.publish("t", b"%d" % qos, qos, retain, properties)
                for number, client in enumerate(clients):
                    messages = await rest(client)
                    assert payloads(messages) == [b"0", b"1", b"2"]
                    assert [message.qos for message in messages] == [min(qos, number % 3) for qos in (0, 1, 2)]
                    assert not any(message.retain for message in messages)
                    assert all(m.properties == (properties if client.level == 5 else {}) for m in messages)


@pytest.mark.parametrize("levels", [(3, 5), (4, 5), (5, 4), (5, 3)])
async def test_a_session_changes_its_version(autojump_clock: MockClock, levels: tuple[int, int]) -> None:
    """[MQTT-3.1.2-5] what waited in the session is sent in the version of the new connection."""
    old, new = levels
    async with open_broker() as running:
        options: dict[int, Properties] = {3: {}, 4: {}, 5: SESSION}
        async with running.client("c", level=old, clean_start=False, properties=options[old], auto_ack=False) as client:
            await client.subscribe("t", 2, identifier=5 if old == 5 else None)
            await running.broker.publish("t", b"open", qos=2, properties={"content_type": "x"})
            await one(client)
            await client.drop()
        await settle()
        await running.broker.publish("t", b"queued", qos=1, properties={"content_type": "x"})
        async with running.client("c", level=new, clean_start=False, properties=options[new]) as client:
            messages = await rest(client)
            assert [(m.payload, m.dup) for m in messages] == [(b"open", True), (b"queued", False)]
            assert [m.properties.get("content_type") for m in messages] == ([None, None] if new < 5 else ["x", "x"])


@pytest.mark.parametrize("level", [3, 4])
async def test_nobody_is_subscribed(autojump_clock: MockClock, level: int) -> None:
    """[MQTT-3.3.4-1] acknowledged all the same; only version 5 may say why."""
    async with open_broker() as running:
        async with running.client("old", level=level) as old, running.client("new") as new:
            assert isinstance(await old.publish("t", b"x", 1), PubAck)
            assert isinstance(await old.publish("t", b"x", 2), PubComp)
            answer = await new.publish("t", b"x", 1)
            assert isinstance(answer, PubAck)
            assert answer.reason_code in (0, 0x10)
            await new.send(Publish("t", b"x", 2, packet_identifier=9))
            await settle()
            received = new.inbox.popleft()
            assert isinstance(received, PubRec)
            assert received.reason_code in (0, 0x10)


async def test_the_bits_of_version_31(autojump_clock: MockClock) -> None:
    """MQTT 3.1: DUP may be set on SUBSCRIBE, UNSUBSCRIBE and PUBREL that are sent again."""
    async with open_broker() as running, running.client("c", level=3) as client:
        await client.send_bytes(b"\x8a\x06\x00\x01\x00\x01t\x01")
        await client.send_bytes(b"\x6a\x02\x00\x09")
        await client.send_bytes(b"\xaa\x05\x00\x02\x00\x01t")
        await client.ping()
        assert [getattr(packet, "packet_identifier", 0) for packet in client.inbox] == [1, 9, 2]


@pytest.mark.parametrize("level", [3, 4])
async def test_a_bridge(autojump_clock: MockClock, level: int) -> None:
    """The bridge bit: own messages do not come back, retain goes through unchanged."""
    async with open_broker() as running, running.client("p") as publisher:
        async with running.client("b", level=level, connect=False) as bridge:
            assert (await bridge.connect(Connect("b", level, bridge=True))).reason_code == 0
            await bridge.subscribe("#", 1)
            await bridge.publish("t", b"mine", 1)
            for retain in (True, False):
                await publisher.publish("t", b"x", 1, retain=retain)
            messages = await rest(bridge)
            assert [(message.payload, message.retain) for message in messages] == [(b"x", True), (b"x", False)]
            info = await running.broker.questions.client("b")
            assert info is not None
            assert info.is_bridge


@pytest.mark.parametrize("level", LEVELS)
async def test_ignore_loop_deliver(autojump_clock: MockClock, level: int) -> None:
    """`ignore_loop_deliver`: 3.1 and 3.1.1 clients do not get their own messages; version 5 has no local."""
    async with open_broker(mqtt={"ignore_loop_deliver": True}) as running:
        async with running.client("c", level=level) as client, running.client("o", level=level) as other:
            await client.subscribe("t", 1)
            await client.publish("t", b"mine", 1)
            await other.publish("t", b"other", 1)
            assert payloads(await rest(client)) == ([b"mine", b"other"] if level == 5 else [b"other"])


async def test_upgrade_qos(autojump_clock: MockClock) -> None:
    """`upgrade_qos`: the QoS of the subscription where that is higher; never above what was granted."""
    async with open_broker(mqtt={"upgrade_qos": True}) as running, running.client("c", level=4) as client:
        await client.subscribe("t", 1)
        for qos in (0, 1, 2):
            await client.publish("t", b"x", qos)
        assert [message.qos for message in await rest(client)] == [1, 1, 1]
