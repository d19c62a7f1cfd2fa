"""Order: for each publisher, topic and QoS what was sent first arrives first, whatever happens in between."""

from __future__ import annotations

import random

import pytest
import trio
from actors.flows import SESSION, joined, numbers, payloads, rest, settle
from trio.testing import MockClock

from trio_broker.protocol.packets import Publish, PubRec, PubRel
from trio_broker.testing import Client, RunningBroker, open_broker


async def pour(publisher: Client, packets: list[Publish], sizes: random.Random) -> None:
    """Send the packets in pieces of any size, then finish the QoS 2 handshakes."""
    data = joined(publisher.level, *packets)
    while data:
        size = sizes.choice([1, 7, 100, 1000, 10_000])
        await publisher.send_bytes(data[:size])
        data = data[size:]
        await settle()
    received = [packet for packet in publisher.inbox if isinstance(packet, PubRec)]
    if received:
        await publisher.send_bytes(joined(publisher.level, *(PubRel(r.packet_identifier) for r in received)))


def stream_of(prefix: str, topics: int, count: int, qos: int) -> list[Publish]:
    return [
        Publish(f"{prefix}/{number % topics}", b"%d" % number, qos, packet_identifier=number + 1 if qos else 0)
        for number in range(count)
    ]


def check(messages: list[Publish], prefix: str, topics: int, count: int) -> None:
    """Everything is there once, and each topic in its order."""
    for topic in range(topics):
        name = f"{prefix}/{topic}"
        expected = [b"%d" % number for number in range(topic, count, topics)]
        assert payloads(message for message in messages if message.topic_name == name) == expected


@pytest.mark.parametrize("subscriber_level", [4, 5])
@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_one_publisher(autojump_clock: MockClock, qos: int, granted: int, subscriber_level: int) -> None:
    """[MQTT-4.6.0-5], [MQTT-4.6.0-6] in pieces of every size, on several topics, through a window of 32."""
    async with open_broker() as running, running.client("s", level=subscriber_level) as subscriber:
        await subscriber.subscribe("a/#", granted)
        async with running.client("p") as publisher:
            # Not more than the announced receive maximum can be open at a time.
            await pour(publisher, stream_of("a", 3, 90, qos), random.Random(qos))
        messages = await rest(subscriber)
        check(messages, "a", 3, 90)
        assert payloads(messages) == numbers(90)


async def test_many_publishers(autojump_clock: MockClock) -> None:
    """[MQTT-4.6.0-5] each publisher's own order, while all of them publish at once."""
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("+/+", 2)

        async def publish(prefix: str) -> None:
            async with running.client(prefix, level=random.choice([3, 4, 5])) as publisher:
                for packet in stream_of(prefix, 2, 40, 0):
                    await publisher.publish(packet.topic_name, packet.payload, int(prefix) % 3)

        async with trio.open_nursery() as nursery:
            for number in range(9):
                nursery.start_soon(publish, str(number))
        messages = await rest(subscriber)
        assert len(messages) == 9 * 40
        for number in range(9):
            check(messages, str(number), 2, 40)


async def publish_numbers(running: RunningBroker, qos: int, total: int) -> None:
    async with running.client("p") as publisher:
        for payload in numbers(total):
            await publisher.publish("t", payload, qos)
            await trio.sleep(0.01)


@pytest.mark.parametrize("take_over", [False, True])
@pytest.mark.parametrize("qos", [1, 2])
async def test_a_subscriber_that_comes_and_goes(autojump_clock: MockClock, qos: int, take_over: bool) -> None:
    """[MQTT-4.6.0-1], [MQTT-4.6.0-5] across reconnects and takeovers: in order but for what is sent again."""
    total = 200
    received: list[Publish] = []
    async with open_broker(mqtt={"max_inflight": 5}) as running:
        async with running.client("c", properties=SESSION) as client:
            await client.subscribe("t", qos)
        await settle()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish_numbers, running, qos, total)
            old: Client | None = None
            async with trio.open_nursery() as connections:
                gone = trio.Event()

                async def connect(*, task_status: trio.TaskStatus[Client]) -> None:
                    async with running.client("c", clean_start=False, properties=SESSION) as client:
                        task_status.started(client)
                        await gone.wait()

                while len({message.payload for message in received}) < total:
                    if old is not None and not take_over:
                        await old.drop()
                    old = await connections.start(connect)
                    assert old is not None
                    assert old.session_present
                    for _ in range(10):
                        await trio.sleep(0.03)
                        # Every other message is left unacknowledged when the connection goes.
                        received += await rest(old, ack=bool(random.getrandbits(1)))
                        if old.disconnected is not None:
                            break
                gone.set()
    # First arrivals are in order; a repetition has DUP set and is not ahead of an older one of its connection.
    first = list(dict.fromkeys(message.payload for message in received))
    assert first == numbers(total)
    seen: set[bytes] = set()
    for message in received:
        assert message.dup or message.payload not in seen
        seen.add(message.payload)


async def test_live_behind_queued(autojump_clock: MockClock) -> None:
    """[MQTT-4.6.0-5] what is published while the queue is being emptied comes behind it."""
    async with open_broker(mqtt={"max_inflight": 2}) as running:
        async with running.client("c", properties=SESSION) as client:
            await client.subscribe("t", 1)
        await settle()
        for payload in numbers(50):
            await running.broker.publish("t", payload, qos=1)
        async with running.client("c", clean_start=False, properties=SESSION, auto_ack=False) as client:
            received: list[bytes] = []
            for number in range(50, 100):
                await running.broker.publish("t", b"%d" % number, qos=1)
                await settle()
                message = await client.receive(ack=True)
                received.append(message.payload)
            received += payloads(await rest(client, ack=True))
            assert received == numbers(100)


async def test_different_qos_in_order(autojump_clock: MockClock) -> None:
    """[MQTT-4.6.0-5] with room in the window all of a topic arrives as it was sent, whatever the QoS."""
    async with open_broker() as running, running.client("s") as subscriber, running.client("p") as publisher:
        await subscriber.subscribe("t", 2)
        packets = [Publish("t", b"%d" % n, n % 3, packet_identifier=n + 1 if n % 3 else 0) for n in range(30)]
        await publisher.send_bytes(joined(5, *packets))
        messages = await rest(subscriber)
        for qos in (0, 1, 2):
            sent = [packet.payload for packet in packets if packet.qos == qos]
            assert payloads(message for message in messages if message.qos == qos) == sent


async def test_the_same_publisher_across_connections(autojump_clock: MockClock) -> None:
    """[MQTT-4.6.0-5] a publisher that reconnects for each message."""
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("t", 1)
        for payload in numbers(40):
            async with running.client("p") as publisher:
                await publisher.publish("t", payload, int(payload) % 3)
        assert payloads(await rest(subscriber)) == numbers(40)
