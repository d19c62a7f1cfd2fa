"""A second connection with a client identifier that is connected: across versions, sessions and in a crowd."""

from __future__ import annotations

import pytest
import trio
from actors.flows import SESSION, end_of, one, payloads, rest, settle, take
from trio.testing import MockClock

from trio_broker.protocol.packets import Properties, Will
from trio_broker.testing import ConnectionEnded, open_broker

LEVELS = [3, 4, 5]


@pytest.mark.parametrize("new", LEVELS)
@pytest.mark.parametrize("old", LEVELS)
async def test_the_older_connection_goes(autojump_clock: MockClock, old: int, new: int) -> None:
    """[MQTT-3.1.4-3] 0x8E where the old one speaks version 5; the session goes on in the other version."""
    async with open_broker() as running, running.client("p") as publisher:
        old_properties: Properties = SESSION if old == 5 else {}
        new_properties: Properties = SESSION if new == 5 else {}
        async with running.client("c", level=old, clean_start=False, properties=old_properties) as first:
            await first.subscribe("t", 1)
            async with running.client("c", level=new, clean_start=False, properties=new_properties) as second:
                ended = await end_of(first)
                assert (ended.how, ended.reason_code) == (("disconnect", 0x8E) if old == 5 else ("eof", None))
                assert second.session_present is (new != 3)
                await publisher.publish("t", b"x", 1)
                assert (await one(second)).payload == b"x"


@pytest.mark.parametrize("old", [4, 5])
async def test_a_session_without_expiry_ends_with_the_takeover(autojump_clock: MockClock, old: int) -> None:
    """[MQTT-3.1.4-3], [MQTT-3.1.2-23] expiry 0 (3.1.1: clean session): there is nothing to go on with."""
    async with open_broker() as running, running.client("c", level=old) as first:
        await first.subscribe("t")
        async with running.client("c", clean_start=False, properties=SESSION) as second:
            assert not second.session_present
            await second.publish("t", b"x", 1)
            assert await rest(second) == []


async def test_clean_start_takes_nothing_over(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.4-4]"""
    async with open_broker() as running, running.client("c", properties=SESSION) as first:
        await first.subscribe("t")
        async with running.client("c", clean_start=True, properties=SESSION) as second:
            assert (await end_of(first)).reason_code == 0x8E
            assert not second.session_present
            await second.publish("t", b"x", 1)
            assert await rest(second) == []


@pytest.mark.parametrize("qos", [1, 2])
async def test_open_messages_go_to_the_new_connection(autojump_clock: MockClock, qos: int) -> None:
    """[MQTT-4.4.0-1] what the old connection did not acknowledge comes again, in order, then what waited."""
    async with open_broker(mqtt={"max_inflight": 2}) as running, running.client("p") as publisher:
        async with running.client("c", properties=SESSION, auto_ack=False) as first:
            await first.subscribe("t", qos)
            for number in range(4):
                await publisher.publish("t", b"%d" % number, qos)
            old = await take(first, 2)
            async with running.client("c", clean_start=False, properties=SESSION) as second:
                new = await take(second, 4)
                assert payloads(new) == [b"0", b"1", b"2", b"3"]
                assert [message.dup for message in new] == [True, True, False, False]
                assert [m.packet_identifier for m in new[:2]] == [m.packet_identifier for m in old]
                assert await rest(second) == []


async def test_what_is_published_meanwhile_is_not_lost(autojump_clock: MockClock) -> None:
    """[MQTT-4.5.0-1] a publisher goes on while the client moves from connection to connection."""
    total = 200
    received: list[bytes] = []
    async with open_broker() as running, running.client("p") as publisher:
        async with running.client("c", properties=SESSION) as client:
            await client.subscribe("t", 2)

        async def publish() -> None:
            for number in range(total):
                await publisher.publish("t", b"%d" % number, 2)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            while len(received) < total:
                async with running.client("c", clean_start=False, properties=SESSION) as client:
                    assert client.session_present
                    received += payloads(await take(client, 5))
                    await client.ping()
        assert len(set(received)) == total
        assert received == [b"%d" % number for number in range(total)]


@pytest.mark.parametrize("expiry", [0, 3600])
async def test_a_crowd_with_one_identifier(autojump_clock: MockClock, expiry: int) -> None:
    """[MQTT-3.1.4-3] exactly one of them survives, and one session is left."""
    accepted = 0
    refused = 0
    connected: list[bool] = []
    done = trio.Event()
    async with open_broker() as running:

        async def connect(level: int) -> None:
            nonlocal accepted, refused
            properties: Properties = {"session_expiry_interval": expiry} if level == 5 else {}
            try:
                async with running.client("c", level=level, clean_start=not expiry, properties=properties) as client:
                    accepted += 1
                    await done.wait()
                    connected.append(client.disconnected is None)
            except ConnectionEnded:
                refused += 1

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(connect, 4 + number % 2)
            await settle()
            stats = await running.broker.questions.stats()
            assert (stats["live_connections.count"], stats["sessions.count"]) == (1, 1)
            done.set()
        assert accepted + refused == 30
        assert connected.count(True) == 1
        await settle()
        stats = await running.broker.questions.stats()
        assert stats["live_connections.count"] == 0
        assert stats["sessions.count"] == (1 if expiry else 0)
        metrics = await running.broker.questions.metrics()
        assert metrics["client.connected"] == metrics["client.disconnected"]


async def test_a_crowd_with_wills(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-8], [MQTT-3.1.4-3] each connection that is taken over leaves its will once, the last one none."""
    accepted: list[bytes] = []
    done = trio.Event()
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("w", 1)

        async def connect(number: int) -> None:
            try:
                will = Will("w", b"%d" % number, 1)
                async with running.client("c", will=will, properties=SESSION, clean_start=number % 3 == 0) as client:
                    accepted.append(will.payload)
                    await done.wait()
                    if client.disconnected is None:
                        accepted.remove(will.payload)
            except ConnectionEnded:
                return  # taken over before its CONNACK was there: it may have been accepted all the same

        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(connect, number)
            await settle()
            done.set()
        wills = payloads(await rest(subscriber))
        assert len(wills) == len(set(wills)) <= 29
        assert set(accepted) <= set(wills)


async def test_takeovers_are_counted(autojump_clock: MockClock) -> None:
    async with open_broker() as running, running.client("c", properties=SESSION) as first:
        async with running.client("c", properties=SESSION, clean_start=False):
            await end_of(first)
            async with running.client("c", properties=SESSION, clean_start=True):
                metrics = await running.broker.questions.metrics()
        counted = {name: metrics[f"session.{name}"] for name in ("created", "takenover", "resumed", "discarded")}
        assert counted == {"created": 2, "takenover": 1, "resumed": 1, "discarded": 1}
