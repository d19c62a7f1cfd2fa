"""Topic aliases: what a publisher may set up, and what a subscriber allows the broker to use."""

from __future__ import annotations

import pytest
from actors.flows import SESSION, end_of, joined, numbers, payloads, rest, settle
from trio.testing import MockClock

from trio_broker.protocol.packets import Properties, Publish
from trio_broker.testing import open_broker


def alias(number: int) -> Properties:
    return {"topic_alias": number}


async def test_set_used_and_set_anew(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.2-12] a topic with an alias gives it its meaning, at once."""
    async with open_broker() as running, running.client("s") as subscriber, running.client("p") as publisher:
        await subscriber.subscribe("#", 1)
        packets = [
            Publish("a", b"1", properties=alias(1)),
            Publish("", b"2", properties=alias(1)),
            Publish("b", b"3", 1, packet_identifier=1, properties=alias(2)),
            Publish("", b"4", properties=alias(1)),
            Publish("b", b"5", properties=alias(1)),
            Publish("", b"6", 1, packet_identifier=2, properties=alias(1)),
            Publish("a", b"7"),
        ]
        await publisher.send_bytes(joined(5, *packets))
        received = {message.payload: message.topic_name for message in await rest(subscriber)}
        assert received == dict(zip(numbers(7, start=1), "aababba", strict=True))


async def test_it_does_not_reach_subscribers(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-27] a subscriber that allows none gets none, retained neither."""
    async with open_broker() as running, running.client("s") as subscriber, running.client("p") as publisher:
        await subscriber.subscribe("t", 1)
        await publisher.publish("t", b"1", 1, True, alias(5))
        await publisher.publish("", b"2", 1, True, alias(5))
        await settle()
        await subscriber.subscribe("t", 1)
        messages = await rest(subscriber)
        assert [(message.topic_name, message.payload) for message in messages] == [
            ("t", b"1"),
            ("t", b"2"),
            ("t", b"2"),
        ]
        assert all(message.properties == {} for message in messages)


@pytest.mark.parametrize("number", [1, 2, 10])
async def test_all_up_to_the_maximum(autojump_clock: MockClock, number: int) -> None:
    """[MQTT-3.3.2-12]"""
    async with open_broker(mqtt={"max_topic_alias": 10}) as running, running.client("c") as client:
        assert client.connack.properties["topic_alias_maximum"] == 10
        await client.subscribe("t")
        await client.publish("t", b"1", properties=alias(number))
        await client.publish("", b"2", properties=alias(number))
        assert payloads(await rest(client)) == [b"1", b"2"]


async def test_above_the_maximum(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.2-9], [MQTT-3.2.2-17]"""
    async with open_broker(mqtt={"max_topic_alias": 10}) as running, running.client("c") as client:
        await client.send(Publish("t", b"x", properties=alias(11)))
        assert (await end_of(client)).reason_code == 0x94


async def test_when_there_are_none(autojump_clock: MockClock) -> None:
    """[MQTT-3.2.2-18]"""
    async with open_broker(mqtt={"max_topic_alias": 0}) as running, running.client("c") as client:
        assert client.connack.properties.get("topic_alias_maximum", 0) == 0
        await client.send(Publish("t", b"x", properties=alias(1)))
        assert (await end_of(client)).reason_code == 0x94


async def test_the_alias_0(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.2-8]"""
    async with open_broker() as running, running.client("c") as client:
        await client.send_bytes(b"\x30\x07\x00\x01t\x03\x23\x00\x00")
        assert (await end_of(client)).reason_code == 0x94


@pytest.mark.parametrize("packet", [b"\x30\x03\x00\x00\x00", b"\x30\x06\x00\x00\x03\x23\x00\x07"])
async def test_a_topic_nobody_named(autojump_clock: MockClock, packet: bytes) -> None:
    """Section 3.3.2.1: an empty topic without alias, or with one never set here, is a protocol error."""
    async with open_broker() as running, running.client("c") as client:
        await client.send_bytes(packet)
        assert (await end_of(client)).reason_code in (0x82, 0x94)


async def test_it_ends_with_the_connection(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.2-7]"""
    async with open_broker() as running:
        async with running.client("c", properties=SESSION) as client:
            await client.publish("t", b"x", properties=alias(1))
        async with running.client("c", clean_start=False, properties=SESSION) as client:
            assert client.session_present
            await client.send(Publish("", b"x", properties=alias(1)))
            assert (await end_of(client)).reason_code in (0x82, 0x94)


async def test_a_subscriber_that_allows_some(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-26] never above its maximum, and every topic arrives as it was published."""
    some: Properties = {**SESSION, "topic_alias_maximum": 2}
    names = [f"t/{number % 4}" for number in range(20)]
    async with open_broker() as running:
        for clean in (True, False):
            async with running.client("c", clean_start=clean, properties=some) as client:
                await client.subscribe("t/#", 1)
                for name in names:
                    await running.broker.publish(name, b"x", qos=1)
                messages = await rest(client)
                assert [message.topic_name for message in messages] == names
                assert all(1 <= message.properties.get("topic_alias", 1) <= 2 for message in messages)
                await settle()


async def test_every_alias_up_to_the_maximum(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.2-12] all 65,535 of them, with names of some length."""
    async with open_broker() as running, running.client("s") as subscriber, running.client("p") as publisher:
        await subscriber.subscribe("#")
        for start in range(1, 65536, 5000):
            numbers = range(start, min(start + 5000, 65536))
            await publisher.send_bytes(joined(5, *[Publish(f"t/{it}", b"", properties=alias(it)) for it in numbers]))
            assert len(await rest(subscriber)) == len(numbers)
        await publisher.send_bytes(joined(5, *[Publish("", b"", properties=alias(it)) for it in (1, 65535)]))
        assert [message.topic_name for message in await rest(subscriber)] == ["t/1", "t/65535"]


async def test_names_of_a_megabyte(autojump_clock: MockClock) -> None:
    """Memory is bounded: 0x97 where the aliases of one connection would hold more; replacing one gives room."""
    async with open_broker() as running, running.client("p") as publisher:
        for number in range(20):
            await publisher.publish("t" * 60_000, b"", 1, properties=alias(1))
            await publisher.publish("u" * 60_000, b"", 1, properties=alias(number % 10 + 2))
        for number in range(12, 17):
            await publisher.publish("v" * 60_000, b"", 1, properties=alias(number))
        await publisher.publish("w" * 60_000, b"", 1, properties=alias(17))
        await publisher.send(Publish("x" * 60_000, b"", properties=alias(18)))
        assert (await end_of(publisher)).reason_code == 0x97
