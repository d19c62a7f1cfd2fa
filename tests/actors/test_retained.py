"""Retained messages: kept, replaced, cleared, and handed to new subscriptions by their options."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from actors.flows import SESSION, joined, numbers, one, payloads, rest, settle, take
from trio.testing import MockClock

from trio_broker.protocol.packets import Properties, PubAck, Publish, Subscribe, SubscribeFilter
from trio_broker.testing import Client, RunningBroker, open_broker


async def topics(client: Client) -> list[str]:
    return sorted(message.topic_name for message in await rest(client))


async def retain(running: RunningBroker, *topic_names: str) -> None:
    for topic_name in topic_names:
        await running.broker.publish(topic_name, b"kept", qos=1, retain=True)


@pytest.mark.parametrize("level", [3, 4, 5])
@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("published", [0, 1, 2])
async def test_kept_for_those_who_come(autojump_clock: MockClock, published: int, granted: int, level: int) -> None:
    """[MQTT-3.3.1-5], [MQTT-3.3.1-9]; retain 1 and the smaller QoS [MQTT-3.3.1-8]"""
    async with open_broker() as running:
        async with running.client("p", level=level) as publisher:
            await publisher.publish("t", b"x", published, retain=True)
        async with running.client("s", level=level) as subscriber:
            await subscriber.subscribe("t", granted)
            message = await one(subscriber)
            assert (message.payload, message.qos) == (b"x", min(published, granted))
            assert (message.retain, message.dup) == (True, False)
            assert await rest(subscriber) == []


async def test_replaced(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.1-5], [MQTT-3.3.1-7] of 3.1.1: also by one of QoS 0."""
    async with open_broker() as running, running.client("p") as publisher:
        for qos, payload in ((2, b"1"), (0, b"2"), (1, b"3"), (0, b"4")):
            await publisher.publish("t", payload, qos, retain=True)
        async with running.client("s") as subscriber:
            await subscriber.subscribe("t", 2)
            message = await one(subscriber)
            assert (message.payload, message.qos) == (b"4", 0)
            assert await rest(subscriber) == []


async def test_not_replaced_by_others(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.1-8] retain 0, empty or not, leaves the kept one as it is."""
    async with open_broker() as running, running.client("c") as client:
        await client.publish("t", b"kept", 1, retain=True)
        await client.publish("t", b"other", 1)
        await client.publish("t", b"", 1)
        await client.subscribe("t")
        assert payloads(await rest(client)) == [b"kept"]


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_cleared(autojump_clock: MockClock, qos: int) -> None:
    """[MQTT-3.3.1-6], [MQTT-3.3.1-7] an empty one is delivered as a message, and nothing is kept."""
    async with open_broker() as running, running.client("p") as publisher, running.client("s") as subscriber:
        await publisher.publish("t", b"x", 1, retain=True)
        await settle()
        await subscriber.subscribe("t", 2)
        assert payloads(await rest(subscriber)) == [b"x"]
        await publisher.publish("t", b"", qos, retain=True)
        message = await one(subscriber)
        assert (message.payload, message.retain) == (b"", False)
        await subscriber.subscribe("t", 2)
        assert await rest(subscriber) == []
        assert await running.broker.questions.retained(None, 0, 10) == ([], 0)


async def test_standing_subscriptions_see_no_retain(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.1-12], [MQTT-3.3.1-13] retain 0, unless retain as published asks for the publisher's."""
    async with open_broker() as running, running.client("p") as publisher:
        async with running.client("plain") as plain, running.client("as published") as published:
            await plain.subscribe("t")
            await published.subscribe("t", retain_as_published=True)
            for retained in (True, False):
                await publisher.publish("t", b"x", retain=retained)
                assert not (await one(plain)).retain
                assert (await one(published)).retain is retained


async def test_retain_as_published_and_kept_messages(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.1-9] what comes because of a new subscription has retain 1 either way."""
    async with open_broker() as running, running.client("c") as client:
        await retain(running, "t")
        for as_published in (True, False):
            await client.subscribe("t", retain_as_published=as_published)
            assert (await one(client)).retain


@pytest.mark.parametrize(("handling", "received"), [(0, [1, 1]), (1, [1, 0]), (2, [0, 0])])
async def test_retain_handling(autojump_clock: MockClock, handling: int, received: list[int]) -> None:
    """[MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11]"""
    async with open_broker() as running, running.client("c") as client:
        await retain(running, "t")
        for count in received:
            await client.subscribe("t", retain_handling=handling)
            assert len(await rest(client)) == count
        await client.unsubscribe("t")
        await client.subscribe("t", retain_handling=handling)
        assert len(await rest(client)) == received[0]


async def test_retain_handling_1_across_connections(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.1-10] a subscription the session has kept does exist."""
    async with open_broker() as running:
        await retain(running, "t")
        for clean, count in ((True, 1), (False, 0), (True, 1)):
            async with running.client("c", clean_start=clean, properties=SESSION) as client:
                await client.subscribe("t", retain_handling=1)
                assert len(await rest(client)) == count


@pytest.mark.parametrize("level", [3, 4])
async def test_subscribing_again_before_version_5(autojump_clock: MockClock, level: int) -> None:
    """[MQTT-3.8.4-3] of 3.1.1: the kept messages come again."""
    async with open_broker() as running, running.client("c", level=level) as client:
        await retain(running, "t")
        for _ in range(2):
            await client.subscribe("t", 1)
            assert payloads(await rest(client)) == [b"kept"]


@pytest.mark.parametrize(
    ("topic_filter", "matching"),
    [
        ("#", ["/", "/a", "a", "a/", "a/b", "a/b/c", "b/b"]),
        ("+", ["a"]),
        ("+/+", ["/", "/a", "a/", "a/b", "b/b"]),
        ("/+", ["/", "/a"]),
        ("a/#", ["a", "a/", "a/b", "a/b/c"]),
        ("a/+", ["a/", "a/b"]),
        ("+/b/#", ["a/b", "a/b/c", "b/b"]),
        ("$x/#", ["$x", "$x/a"]),
        ("$x/+", ["$x/a"]),
        ("+/a", ["/a"]),
    ],
)
async def test_wildcards(autojump_clock: MockClock, topic_filter: str, matching: list[str]) -> None:
    """[MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.2-1] the same rules as for live messages."""
    async with open_broker() as running, running.client("c") as client:
        await retain(running, "a", "a/", "a/b", "a/b/c", "b/b", "/", "/a", "$x", "$x/a")
        await client.subscribe(topic_filter)
        assert await topics(client) == sorted(matching)


async def test_several_filters_each_bring_theirs(autojump_clock: MockClock) -> None:
    """[MQTT-3.8.4-5] one SUBSCRIBE with several filters is like several; the identifier comes with them."""
    async with open_broker() as running, running.client("c") as client:
        await retain(running, "a", "b")
        filters = [SubscribeFilter("a"), SubscribeFilter("b", retain_handling=2), SubscribeFilter("+")]
        await client.subscribe(filters, identifier=7)
        messages = await rest(client)
        assert sorted(message.topic_name for message in messages) == ["a", "a", "b"]
        assert all(message.properties["subscription_identifier"] == [7] for message in messages)


async def test_the_expiry_is_counted_down(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.2-6], [MQTT-3.3.2-5]"""
    async with open_broker() as running, running.client("c") as client:
        await client.publish("t", b"x", 1, retain=True, properties={"message_expiry_interval": 100})
        await trio.sleep(40)
        await client.subscribe("t")
        assert (await one(client)).properties["message_expiry_interval"] == 60
        await trio.sleep(61)
        await client.subscribe("t")
        assert await rest(client) == []
        assert await running.broker.questions.retained(None, 0, 10) == ([], 0)
        assert (await running.broker.questions.stats())["retained.count"] == 0


async def test_they_outlive_their_publisher(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2.7] of 3.1.1: retained messages belong to no session."""
    async with open_broker() as running:
        async with running.client("p", properties={"session_expiry_interval": 0}) as publisher:
            await publisher.publish("t", b"x", retain=True)
        await trio.sleep(1_000_000)
        async with running.client("p", clean_start=True) as client:
            await client.subscribe("t")
            assert payloads(await rest(client)) == [b"x"]


async def test_when_they_are_not_available(autojump_clock: MockClock) -> None:
    """[MQTT-3.2.2-14] 0x9A for a client that retains all the same."""
    async with open_broker(mqtt={"retain_available": False}) as running, running.client("c") as client:
        await client.send(Publish("t", b"x", retain=True))
        with trio.fail_after(5):
            assert (await client.wait_ended()).reason_code == 0x9A


async def test_for_a_client_that_is_away(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.4-9] kept messages that found no room in the window come on the next connection."""
    async with open_broker(mqtt={"max_inflight": 5}) as running:
        await retain(running, *(f"t/{number}" for number in range(300)))
        async with running.client("c", properties=SESSION, auto_ack=False) as client:
            await client.subscribe("t/#", 1)
            assert len(await take(client, 5)) == 5
        async with running.client("c", clean_start=False, properties=SESSION) as client:
            assert await topics(client) == sorted(f"t/{number}" for number in range(300))


@pytest.mark.parametrize("level", [4, 5])
async def test_many_of_them_for_a_small_queue(autojump_clock: MockClock, level: int) -> None:
    """[MQTT-3.3.1-9], [MQTT-3.3.4-9] 5,000 arrive through a window of 8 and a queue of 10, none is dropped."""
    total = 5000
    async with open_broker(mqtt={"max_inflight": 8, "max_mqueue_len": 10}) as running:
        async with running.client("p") as publisher:
            packets = [Publish(f"t/{number}", b"x", retain=True) for number in range(total)]
            await publisher.send_bytes(joined(5, *packets))
            await settle()
        assert (await running.broker.questions.stats())["retained.count"] == total
        async with running.client("s", level=level, auto_ack=False) as subscriber:
            assert (await subscriber.subscribe("t/#", 0)).reason_codes == [0]
            assert len({message.topic_name for message in await rest(subscriber)}) == total
        await running.broker.questions.delete_retained(None)
        async with running.client("p") as publisher:
            for number in range(total):
                await publisher.send(Publish(f"t/{number}", b"x", 1, True, packet_identifier=number + 1))
            await settle()
        async with running.client("s", level=level, auto_ack=False) as subscriber:
            await subscriber.subscribe("t/#", 1)
            received: list[str] = []
            while waiting := await rest(subscriber, ack=False):
                assert len(waiting) <= 8
                received += [message.topic_name for message in waiting]
                await subscriber.send_bytes(joined(level, *(PubAck(m.packet_identifier) for m in waiting)))
            assert len(received) == total
            assert len(set(received)) == total
            info = await running.broker.questions.client("s")
            assert info is not None
            assert info.mqueue_dropped == 0


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("split", range(0, 12, 2))
async def test_kept_and_live_while_subscribing(autojump_clock: MockClock, split: int, qos: int) -> None:
    """[MQTT-3.8.4-3], [MQTT-4.6.0-5] values are published while clients subscribe: no gap, never the older one last."""
    values = numbers(12)
    async with open_broker() as running, running.client("p") as publisher:
        async with running.client("a", level=4) as first, running.client("b") as second:
            packets = [
                Publish("t", value, qos, True, packet_identifier=number + 1 if qos else 0)
                for number, value in enumerate(values)
            ]
            subscribe = Subscribe(1, [SubscribeFilter("t", qos)])

            async def publish() -> None:
                await publisher.send_bytes(joined(5, *packets[:split]))
                await publisher.send_bytes(joined(5, *packets[split:]))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(publish)
                nursery.start_soon(first.send, subscribe)
                nursery.start_soon(second.send, subscribe)
            if qos == 2:
                await settle()
                publisher.inbox.clear()
            for client in (first, second):
                received = [int(payload) for payload in payloads(await rest(client))]
                assert received == list(range(received[0], 12))


@pytest.mark.parametrize("qos", [0, 1])
async def test_a_live_one_overtakes_no_kept_one(autojump_clock: MockClock, qos: int) -> None:
    """[MQTT-4.6.0-5] a topic changes while a client still takes 1,000 kept messages: the new value comes last."""
    async with open_broker(mqtt={"max_inflight": 2}) as running:
        await retain(running, *(f"t/{number}" for number in range(1000)))
        async with running.client("c", auto_ack=False) as client:
            await client.subscribe("t/#", qos)
            for topic_name in ("t/0", "t/500", "t/999"):
                await running.broker.publish(topic_name, b"new", qos=qos, retain=True)
            last: dict[str, bytes] = {}
            for message in await rest(client, ack=True):
                last[message.topic_name] = message.payload
            assert len(last) == 1000
            assert {name for name, payload in last.items() if payload == b"new"} == {"t/0", "t/500", "t/999"}


async def test_properties_are_kept(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.2-4], [MQTT-3.3.2-15] to [MQTT-3.3.2-20]"""
    carried: Properties = {
        "payload_format_indicator": 1,
        "content_type": "text/plain",
        "response_topic": "r",
        "correlation_data": b"\x01",
        "user_property": [("k", "1"), ("k", "2")],
    }
    async with open_broker() as running, running.client("c") as client:
        await client.publish("t", b"x", 1, retain=True, properties=carried)
        await client.subscribe("t")
        assert (await one(client)).properties == carried


async def test_many_subscriptions_of_a_client_that_does_not_read(autojump_clock: MockClock) -> None:
    """More than may wait as pages: all that was asked for comes when it reads, once for each filter at least."""
    async with open_broker(mqtt={"max_mqueue_len": 10, "max_inflight": 1}) as running:
        async with running.client("p") as publisher, running.client("s", auto_ack=False) as client:
            for number in range(200):
                await publisher.publish(f"kept/{number}", b"%d" % number, 1, retain=True)
            filters = [SubscribeFilter(f"kept/{number}", 1) for number in range(200)]
            await client.send(Subscribe(1, filters))
            await client.send(Subscribe(2, filters[:100]))
            await settle()
            seen: Counter[str] = Counter()
            while messages := await rest(client, ack=True):
                seen.update(message.topic_name for message in messages)
            assert set(seen) == {f"kept/{number}" for number in range(200)}
            assert max(seen.values()) <= 2
            await publisher.publish("kept/7", b"live", 1)
            assert [message.payload for message in await rest(client, ack=True)] == [b"live"]
