"""Wills: every end of a connection, the delay against reconnecting and the end of the session, and what they carry."""

from __future__ import annotations

import pytest
import trio
from actors.flows import SESSION, end_of, one, payloads, rest, settle
from trio.testing import MockClock

from trio_broker.protocol.packets import Disconnect, Properties, Will
from trio_broker.testing import Client, open_broker

WILL = Will("w", b"will")


def delayed(seconds: int) -> Will:
    return Will("w", b"will", properties={"will_delay_interval": seconds})


async def malformed(client: Client) -> None:
    await client.send_bytes(b"\xf0\x00\x00" if client.level < 5 else b"\x00\x00")
    await end_of(client)


async def protocol_error(client: Client) -> None:
    await client.send_bytes(b"\xd0\x00")
    await end_of(client)


async def wildcard_topic(client: Client) -> None:
    await client.send_bytes(b"\x30\x04\x00\x01#\x00" if client.level == 5 else b"\x30\x03\x00\x01#")
    await end_of(client)


async def disconnect_with_flags(client: Client) -> None:
    await client.send_bytes(b"\xe1\x00")
    await end_of(client)


@pytest.mark.parametrize("level", [3, 4, 5])
@pytest.mark.parametrize(
    "end", [Client.drop, malformed, protocol_error, wildcard_topic, disconnect_with_flags], ids=lambda end: end.__name__
)
async def test_every_other_end_publishes_it(autojump_clock: MockClock, end: object, level: int) -> None:
    """[MQTT-3.1.2-8], [MQTT-3.14.1-1]"""
    assert callable(end)
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("w")
        async with running.client("c", level=level, will=WILL) as client:
            await end(client)
        message = await one(subscriber)
        assert (message.payload, message.qos, message.retain) == (b"will", 0, False)
        assert await rest(subscriber) == []


@pytest.mark.parametrize("level", [3, 4, 5])
async def test_disconnect_deletes_it(autojump_clock: MockClock, level: int) -> None:
    """[MQTT-3.14.4-3], [MQTT-3.1.2-10]"""
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("w")
        async with running.client("c", level=level, will=WILL):
            pass
        await trio.sleep(1000)
        assert await rest(subscriber) == []


@pytest.mark.parametrize("code", [0x04, 0x80, 0x81, 0x82, 0x93, 0x97, 0x98])
async def test_disconnect_with_another_code_keeps_it(autojump_clock: MockClock, code: int) -> None:
    """[MQTT-3.14.4-3]"""
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("w")
        async with running.client("c", will=WILL) as client:
            await client.disconnect(code)
        assert (await one(subscriber)).payload == b"will"


async def test_it_is_published_once(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-10] the next connection of the session has no will of the one before."""
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("w")
        async with running.client("c", will=WILL, properties=SESSION) as client:
            await client.drop()
        await settle()
        async with running.client("c", clean_start=False, properties=SESSION) as client:
            await client.drop()
        await trio.sleep(4000)
        assert payloads(await rest(subscriber)) == [b"will"]


@pytest.mark.parametrize(("delay", "expiry", "after"), [(5, 3600, 5), (100, 10, 10), (100, 0, 0), (0, 3600, 0)])
async def test_the_delay_and_the_end_of_the_session(
    autojump_clock: MockClock, delay: int, expiry: int, after: int
) -> None:
    """[MQTT-3.1.2-8] after the delay, or at the end of the session where that is earlier."""
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("w")
        async with running.client("c", will=delayed(delay), properties={"session_expiry_interval": expiry}) as client:
            await client.drop()
        await settle()
        if after:
            await trio.sleep(after - 0.5)
            assert await rest(subscriber) == []
            await trio.sleep(1.5)
        assert payloads(await rest(subscriber)) == [b"will"]
        await trio.sleep(5000)
        assert await rest(subscriber) == []


async def test_coming_back_in_time(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.3-9] a new connection to the session before the delay is over: no will."""
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("w")
        async with running.client("c", will=delayed(10), properties=SESSION) as client:
            await client.drop()
        await settle()
        await trio.sleep(9)
        async with running.client("c", clean_start=False, properties=SESSION) as client:
            await trio.sleep(100)
            assert await rest(subscriber) == []
            await client.drop()
        await trio.sleep(5000)
        assert await rest(subscriber) == []


async def test_a_new_will_takes_its_place(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.3-9] the will of the new connection counts, with its own delay."""
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("w")
        async with running.client("c", will=delayed(10), properties=SESSION) as client:
            await client.drop()
        await settle()
        new = Will("w", b"new", properties={"will_delay_interval": 20})
        async with running.client("c", clean_start=False, will=new, properties=SESSION) as client:
            await client.drop()
        await settle()
        await trio.sleep(15)
        assert await rest(subscriber) == []
        await trio.sleep(10)
        assert payloads(await rest(subscriber)) == [b"new"]


async def test_clean_start_ends_the_session_and_its_delay(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-8] with clean start the old session ends: its delayed will goes out."""
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("w")
        async with running.client("c", will=delayed(1000), properties=SESSION) as client:
            await client.drop()
        await settle()
        assert await rest(subscriber) == []
        async with running.client("c", clean_start=True, properties=SESSION):
            assert payloads(await rest(subscriber)) == [b"will"]


@pytest.mark.parametrize(
    ("delay", "expiry", "clean", "published"),
    [(0, 3600, False, True), (60, 3600, False, False), (60, 3600, True, True), (60, 0, False, True)],
)
async def test_takeover(autojump_clock: MockClock, delay: int, expiry: int, clean: bool, published: bool) -> None:
    """[MQTT-3.1.4-3], [MQTT-3.1.2-8], [MQTT-3.1.3-9]"""
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("w")
        properties: Properties = {"session_expiry_interval": expiry}
        async with running.client("c", will=delayed(delay), properties=properties) as old:
            async with running.client("c", clean_start=clean, properties=SESSION):
                assert (await end_of(old)).reason_code == 0x8E
                assert payloads(await rest(subscriber)) == ([b"will"] if published else [])
                await trio.sleep(1000)
                assert await rest(subscriber) == []


async def test_takeover_before_version_5(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.4-2] of 3.1.1: the old connection did not say DISCONNECT."""
    async with open_broker() as running, running.client("s", level=4) as subscriber:
        await subscriber.subscribe("w")
        async with running.client("c", level=4, clean_start=False, will=WILL):
            async with running.client("c", level=4, clean_start=False):
                assert payloads(await rest(subscriber)) == [b"will"]


async def test_what_it_carries(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.3-10] all properties but the delay go through, user properties in their order."""
    carried: Properties = {
        "payload_format_indicator": 1,
        "content_type": "text/plain",
        "response_topic": "answer",
        "correlation_data": b"\x00\x01",
        "user_property": [("b", "1"), ("a", "2"), ("b", "3")],
    }
    will = Will("w", b"will", 2, False, {**carried, "will_delay_interval": 5, "message_expiry_interval": 60})
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("w", 2)
        async with running.client("c", will=will, properties=SESSION) as client:
            await client.drop()
        await trio.sleep(6)
        message = await one(subscriber)
        assert message.qos == 2
        # Its expiry began when it was published, not when it was left with the broker.
        assert message.properties == {**carried, "message_expiry_interval": 60}


@pytest.mark.parametrize("level", [4, 5])
async def test_a_retained_will(autojump_clock: MockClock, level: int) -> None:
    """[MQTT-3.1.2-14], [MQTT-3.1.2-15], [MQTT-3.3.1-6] kept; an empty one clears."""
    async with open_broker() as running:
        for payload, left in ((b"gone", [b"gone"]), (b"", [])):
            async with running.client("c", level=level, will=Will("w", payload, 1, True)) as client:
                await client.drop()
            await settle()
            async with running.client("s") as subscriber:
                await subscriber.subscribe("w", 1)
                messages = await rest(subscriber)
                assert payloads(messages) == left
                assert all(message.retain and message.qos == 1 for message in messages)


async def test_at_a_kick(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-8] an administrator who ends a connection is no DISCONNECT of the client; 0x98."""
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("w")
        async with running.client("c", will=delayed(60), properties=SESSION) as client:
            assert await running.broker.questions.kick("c")
            assert (await end_of(client)).reason_code == 0x98
        assert payloads(await rest(subscriber)) == [b"will"]
        assert await running.broker.questions.client("c") is None


async def test_at_the_shutdown(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-8], [MQTT-4.13.2-1] memory only: wills are published while the broker shuts down, 0x8B is said."""
    published: list[bytes] = []
    async with open_broker() as running:
        running.broker.hooks.published.append(lambda message: published.append(message.payload))
        async with running.client("s") as subscriber, running.client("c", will=WILL) as client:
            await subscriber.subscribe("w")
            running.broker.close()
            for each in (client, subscriber):
                assert (await end_of(each)).reason_code == 0x8B
            kinds = [type(packet) for packet in client.inbox]
            assert kinds == [Disconnect]
    assert published == [b"will"]


async def test_delayed_at_the_shutdown(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-8] memory only: the session ends with the broker, so a delayed will goes out too."""
    published: list[bytes] = []
    async with open_broker() as running:
        running.broker.hooks.published.append(lambda message: published.append(message.payload))
        async with running.client("c", will=delayed(3600), properties=SESSION) as client:
            await client.drop()
        await settle()
        assert published == []
    assert published == [b"will"]


async def test_refused_connections_leave_none(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.4-6]"""
    async with open_broker(mqtt={"max_clientid_len": 23}) as running, running.client("s") as subscriber:
        await subscriber.subscribe("w")
        async with running.client("c" * 24, will=WILL) as client:
            assert client.connack.reason_code == 0x85
            await client.drop()
        await trio.sleep(100)
        assert await rest(subscriber) == []
