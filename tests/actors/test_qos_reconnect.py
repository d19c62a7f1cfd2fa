"""QoS 1 and 2 across connections: what is sent again, with which identifiers, in which order."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest
from actors.flows import SESSION, expect, joined, numbers, one, payloads, rest, settle, take
from trio.testing import MockClock

from trio_broker.protocol.packets import Properties, PubComp, Publish, PubRec, PubRel
from trio_broker.testing import Client, RunningBroker, open_broker


def kept(level: int) -> Properties:
    return SESSION if level == 5 else {}


def open_session(running: RunningBroker, level: int) -> AbstractAsyncContextManager[Client]:
    """The client `c` with a session that is kept; it acknowledges nothing by itself."""
    return running.client("c", level=level, clean_start=False, properties=kept(level), auto_ack=False)


@pytest.mark.parametrize("level", [3, 4, 5])
@pytest.mark.parametrize("qos", [1, 2])
async def test_open_messages_come_again_in_order(autojump_clock: MockClock, qos: int, level: int) -> None:
    """[MQTT-4.4.0-1], [MQTT-4.6.0-1], [MQTT-3.3.1-1] with DUP and their identifiers; then what was queued."""
    async with open_broker(mqtt={"max_inflight": 3}) as running, running.client("p") as publisher:
        async with open_session(running, level) as client:
            await client.subscribe("t", qos)
            for payload in numbers(4):
                await publisher.publish("t", payload, qos)
            old = await take(client, 3)
            await client.drop()
        await settle()
        for payload in numbers(3, start=4):
            await publisher.publish("t", payload, qos)
        async with running.client("c", level=level, clean_start=False, properties=kept(level)) as client:
            new = await take(client, 7)
            assert payloads(new) == numbers(7)
            assert [message.dup for message in new] == [True] * 3 + [False] * 4
            assert [m.packet_identifier for m in new[:3]] == [m.packet_identifier for m in old]
            assert await rest(client) == []
        async with running.client("c", level=level, clean_start=False, properties=kept(level)) as client:
            assert await rest(client) == []


@pytest.mark.parametrize("level", [4, 5])
async def test_pubrel_comes_again(autojump_clock: MockClock, level: int) -> None:
    """[MQTT-4.3.3-6], [MQTT-4.4.0-1] after PUBREC the PUBREL is what is sent again, not the PUBLISH."""
    async with open_broker() as running, running.client("p") as publisher:
        async with open_session(running, level) as client:
            await client.subscribe("t", 2)
            for payload in numbers(3):
                await publisher.publish("t", payload, 2)
            first, second, third = await take(client, 3)
            for message in (second, first):
                await client.send(PubRec(message.packet_identifier))
                assert (await expect(client, PubRel)).packet_identifier == message.packet_identifier
            await client.drop()
        await settle()
        async with open_session(running, level) as client:
            await settle()
            again = list(client.inbox)
            client.inbox.clear()
            releases = [packet.packet_identifier for packet in again if isinstance(packet, PubRel)]
            publishes = [packet for packet in again if isinstance(packet, Publish)]
            assert sorted(releases) == sorted([first.packet_identifier, second.packet_identifier])
            assert [(p.packet_identifier, p.dup) for p in publishes] == [(third.packet_identifier, True)]
            for identifier in releases:
                await client.send(PubComp(identifier))
            await client.ping()
            info = await running.broker.questions.client("c")
            assert info is not None
            assert info.inflight_count == 1


@pytest.mark.parametrize("level", [4, 5])
async def test_a_publisher_who_comes_back(autojump_clock: MockClock, level: int) -> None:
    """[MQTT-4.3.3-10] the identifiers that wait for PUBREL are part of the session."""
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("t", 2)
        async with running.client("p", level=level, clean_start=False, properties=kept(level)) as publisher:
            await publisher.send(Publish("t", b"once", 2, packet_identifier=7))
            await expect(publisher, PubRec)
            await publisher.drop()
        await settle()
        async with running.client("p", level=level, clean_start=False, properties=kept(level)) as publisher:
            assert publisher.session_present
            await publisher.send(Publish("t", b"once", 2, dup=True, packet_identifier=7))
            assert await expect(publisher, PubRec) == PubRec(7)
            await publisher.drop()
        await settle()
        async with running.client("p", level=level, clean_start=False, properties=kept(level)) as publisher:
            await publisher.send(PubRel(7))
            assert await expect(publisher, PubComp) == PubComp(7)
        assert payloads(await rest(subscriber)) == [b"once"]


async def test_clean_start_forgets_the_identifiers(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-4] the same identifier with DUP is a new message then."""
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("t", 2)
        for _ in range(2):
            async with running.client("p", clean_start=True, properties=SESSION) as publisher:
                await publisher.send(Publish("t", b"x", 2, dup=True, packet_identifier=7))
                await expect(publisher, PubRec)
        assert payloads(await rest(subscriber)) == [b"x", b"x"]


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_refused_message_does_not_come_again(autojump_clock: MockClock, qos: int) -> None:
    """[MQTT-4.4.0-2]"""
    async with open_broker() as running:
        async with running.client("c", properties=SESSION, auto_ack=False) as client:
            await client.subscribe("t", qos)
            await client.publish("t", b"x", qos)
            message = await one(client)
            answer = b"\x40" if qos == 1 else b"\x50"
            await client.send_bytes(answer + b"\x03" + message.packet_identifier.to_bytes(2, "big") + b"\x83")
            await client.ping()
        async with running.client("c", clean_start=False, properties=SESSION) as client:
            assert client.session_present
            assert await rest(client) == []


async def test_a_smaller_receive_maximum_on_the_new_connection(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.4-9] five messages are open, the client now takes two at a time."""
    async with open_broker() as running:
        async with running.client("c", properties=SESSION, auto_ack=False) as client:
            await client.subscribe("t", 1)
            for payload in numbers(7):
                await client.publish("t", payload, 1)
            assert len(await take(client, 7)) == 7
        small: Properties = {**SESSION, "receive_maximum": 2}
        async with running.client("c", clean_start=False, properties=small, auto_ack=False) as client:
            received = []
            while waiting := await rest(client, ack=False):
                assert len(waiting) <= 2
                received += waiting
                for message in waiting:
                    client.acknowledge(message)
            assert payloads(received) == numbers(7)
            assert all(message.dup for message in received)


async def test_a_smaller_window_with_pubrels_open(autojump_clock: MockClock) -> None:
    """[MQTT-4.9.0-1] PUBLISH packets that wait for PUBCOMP count too when the client comes back."""
    async with open_broker() as running:
        async with running.client("c", properties=SESSION, auto_ack=False) as client:
            await client.subscribe("t", 2)
            for payload in numbers(4):
                await client.publish("t", payload, 2)
            for message in (await take(client, 4))[:3]:
                await client.send(PubRec(message.packet_identifier))
                await expect(client, PubRel)
        small: Properties = {**SESSION, "receive_maximum": 1}
        async with running.client("c", clean_start=False, properties=small, auto_ack=False) as client:
            received: list[bytes] = []
            for _ in range(20):
                await settle()
                if not client.inbox:
                    break
                packets, publishes = list(client.inbox), 0
                client.inbox.clear()
                for packet in packets:
                    if isinstance(packet, Publish):
                        publishes += 1
                        received.append(packet.payload)
                        await client.send(PubRec(packet.packet_identifier))
                    elif isinstance(packet, PubRel):
                        await client.send(PubComp(packet.packet_identifier))
                assert publishes <= 1
            assert received == [b"3"]
            info = await running.broker.questions.client("c")
            assert info is not None
            assert info.inflight_count == 0


async def test_unsubscribed_but_begun(autojump_clock: MockClock) -> None:
    """[MQTT-3.10.4-3] deliveries that were begun are finished after UNSUBSCRIBE, on the next connection too."""
    async with open_broker() as running:
        async with running.client("c", properties=SESSION, auto_ack=False) as client:
            await client.subscribe("t", 1)
            await client.publish("t", b"begun", 1)
            await one(client)
            assert (await client.unsubscribe("t")).reason_codes == [0]
            await client.publish("t", b"late", 1)
        async with running.client("c", clean_start=False, properties=SESSION) as client:
            assert payloads(await rest(client)) == [b"begun"]


async def test_many_cycles_lose_and_double_nothing(autojump_clock: MockClock) -> None:
    """[MQTT-4.3.3-8] a QoS 2 subscriber which breaks off again and again sees each message once."""
    seen: list[bytes] = []
    async with open_broker(mqtt={"max_inflight": 4}) as running, running.client("p") as publisher:
        async with running.client("c", properties=SESSION) as client:
            await client.subscribe("t", 2)
        known: set[int] = set()
        for cycle in range(30):
            async with running.client("c", clean_start=False, properties=SESSION, auto_ack=False) as client:
                await publisher.send_bytes(joined(5, Publish("t", b"%d" % cycle, 2, packet_identifier=cycle + 1)))
                await publisher.send_bytes(joined(5, PubRel(cycle + 1)))
                await settle()
                for packet in list(client.inbox):
                    if isinstance(packet, Publish):
                        if packet.packet_identifier not in known:
                            seen.append(packet.payload)
                            known.add(packet.packet_identifier)
                        await client.send(PubRec(packet.packet_identifier))
                    elif isinstance(packet, PubRel):
                        known.discard(packet.packet_identifier)
                        await client.send(PubComp(packet.packet_identifier))
                if cycle % 3 == 0:
                    await settle()
                await client.drop()
            await settle()
        async with running.client("c", clean_start=False, properties=SESSION, auto_ack=False) as client:
            while True:
                await settle()
                if not client.inbox:
                    break
                for packet in list(client.inbox):
                    if isinstance(packet, Publish):
                        if packet.packet_identifier not in known:
                            seen.append(packet.payload)
                            known.add(packet.packet_identifier)
                        await client.send(PubRec(packet.packet_identifier))
                    elif isinstance(packet, PubRel):
                        known.discard(packet.packet_identifier)
                        await client.send(PubComp(packet.packet_identifier))
                    client.inbox.remove(packet)
        assert seen == numbers(30)
