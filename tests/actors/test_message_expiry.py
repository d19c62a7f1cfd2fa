"""Message expiry: counted from arrival, told to the subscriber reduced, never delivered late."""

from __future__ import annotations

import pytest
import trio
from actors.flows import NEVER, SESSION, expect, one, payloads, rest, settle, take
from trio.testing import MockClock

from trio_broker.protocol.packets import Properties, PubComp, PubRec, PubRel
from trio_broker.testing import open_broker


def lives(seconds: int) -> Properties:
    return {"message_expiry_interval": seconds}


async def test_at_once_it_is_unchanged(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.2-6]"""
    async with open_broker() as running, running.client("c") as client:
        await client.subscribe("t", 1)
        for seconds in (1, 60, NEVER):
            await client.publish("t", b"x", 1, properties=lives(seconds))
            assert (await one(client)).properties == lives(seconds)
        await client.publish("t", b"x", 1)
        assert (await one(client)).properties == {}


@pytest.mark.parametrize("qos", [1, 2])
async def test_time_spent_here_is_taken_off(autojump_clock: MockClock, qos: int) -> None:
    """[MQTT-3.3.2-6], [MQTT-3.3.2-5] for a client that was away."""
    async with open_broker() as running, running.client("p") as publisher:
        async with running.client("c", properties=SESSION) as client:
            await client.subscribe("t", qos)
        await settle()
        for seconds in (10, 100, 1000):
            await publisher.publish("t", b"%d" % seconds, qos, properties=lives(seconds))
        await trio.sleep(60)
        async with running.client("c", clean_start=False, properties=SESSION) as client:
            messages = await rest(client)
            assert [message.properties["message_expiry_interval"] for message in messages] == [40, 940]


async def test_away_with_version_311(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.2-5] the copy of a 3.1.1 client expires too."""
    async with open_broker() as running, running.client("p") as publisher:
        async with running.client("c", level=4, clean_start=False) as client:
            await client.subscribe("t", 1)
        await settle()
        await publisher.publish("t", b"old", 1, properties=lives(10))
        await publisher.publish("t", b"good", 1)
        await trio.sleep(11)
        async with running.client("c", level=4, clean_start=False) as client:
            assert payloads(await rest(client)) == [b"good"]


async def test_waiting_for_room_in_the_window(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.2-5] a message that expires in the mqueue is dropped and counted."""
    async with open_broker(mqtt={"max_inflight": 1}) as running:
        async with running.client("c", auto_ack=False) as client:
            await client.subscribe("t", 1)
            await client.publish("t", b"first", 1, properties=lives(5))
            await client.publish("t", b"short", 1, properties=lives(5))
            await client.publish("t", b"long", 1, properties=lives(50))
            first = await one(client)
            await trio.sleep(10)
            client.acknowledge(first)
            message = await one(client, ack=True)
            assert (message.payload, message.properties) == (b"long", lives(40))
            assert await rest(client) == []
            metrics = await running.broker.questions.metrics()
            assert metrics["delivery.dropped.expired"] == 1
            info = await running.broker.questions.client("c")
            assert info is not None
            assert info.stats["send_msg.dropped.expired"] == 1


async def test_begun_is_begun(autojump_clock: MockClock) -> None:
    """[MQTT-4.3.3-7], [MQTT-4.3.3-13] expiry stops neither a PUBLISH already sent nor its handshake."""
    async with open_broker() as running:
        async with running.client("c", properties=SESSION, auto_ack=False) as client:
            await client.subscribe("t", 2)
            await client.publish("t", b"1", 2, properties=lives(5))
            await client.publish("t", b"2", 2, properties=lives(5))
            first, second = await take(client, 2)
            await client.send(PubRec(first.packet_identifier))
            await expect(client, PubRel)
            await trio.sleep(10)
            await client.send(PubComp(first.packet_identifier))
            await client.drop()
        await settle()
        async with running.client("c", clean_start=False, properties=SESSION, auto_ack=False) as client:
            again = await one(client)
            assert (again.payload, again.dup) == (b"2", True)
            assert again.packet_identifier == second.packet_identifier


async def test_an_interval_of_nothing(autojump_clock: MockClock) -> None:
    """Section 3.3.2.3.3: 0 is a valid interval: a client that is away later does not get it, nothing breaks."""
    async with open_broker() as running:
        async with running.client("c", properties=SESSION) as client:
            await client.subscribe("t", 1)
        async with running.client("p") as publisher:
            answer = await publisher.publish("t", b"x", 1, properties=lives(0))
            assert answer is not None
            await publisher.ping()
        await trio.sleep(1)
        async with running.client("c", clean_start=False, properties=SESSION) as client:
            assert await rest(client) == []


async def test_the_brokers_own_interval(autojump_clock: MockClock) -> None:
    """`message_expiry_interval` is for messages that say none of their own."""
    async with open_broker(mqtt={"message_expiry_interval": "30s"}) as running, running.client("p", level=4) as old:
        async with running.client("c", properties=SESSION) as client:
            await client.subscribe("t", 1)
        async with running.client("n") as new:
            await settle()
            await old.publish("t", b"gone", 1)
            await new.publish("t", b"stays", 1, properties=lives(100))
        await trio.sleep(31)
        async with running.client("c", clean_start=False, properties=SESSION) as client:
            assert payloads(await rest(client)) == [b"stays"]


async def test_the_copy_of_each(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.2-5] one subscriber has it in time, the other one not at all."""
    async with open_broker() as running, running.client("here") as here:
        async with running.client("away", properties=SESSION) as away:
            await away.subscribe("t", 1)
        await here.subscribe("t", 1)
        await settle()
        await running.broker.publish("t", b"x", qos=1, properties=lives(5))
        assert payloads(await rest(here)) == [b"x"]
        await trio.sleep(6)
        async with running.client("away", clean_start=False, properties=SESSION) as away:
            assert await rest(away) == []
