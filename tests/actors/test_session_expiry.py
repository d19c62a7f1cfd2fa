"""How long a session outlives its connection, in each version."""

from __future__ import annotations

import pytest
import trio
from actors.flows import NEVER, end_of, one, payloads, rest, settle
from trio.testing import MockClock

from trio_broker.protocol.packets import Properties
from trio_broker.testing import RunningBroker, open_broker

WEEK = 7 * 24 * 3600


async def sessions(running: RunningBroker) -> int:
    await settle()
    return (await running.broker.questions.stats())["sessions.count"]


def expiry(seconds: int) -> Properties:
    return {"session_expiry_interval": seconds}


@pytest.mark.parametrize("properties", [{}, expiry(0)])
@pytest.mark.parametrize("drop", [False, True])
async def test_no_interval_ends_at_once(autojump_clock: MockClock, properties: Properties, drop: bool) -> None:
    """[MQTT-4.1.0-2] absent means 0: the session ends with its connection, however that ends."""
    async with open_broker() as running:
        async with running.client("c", properties=properties) as client:
            await client.subscribe("t", 1)
            if drop:
                await client.drop()
        assert await sessions(running) == 0
        assert await running.broker.questions.topics() == []
        async with running.client("c", clean_start=False) as client:
            assert not client.session_present


@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("seconds", [1, 60, 7200])
async def test_an_interval_is_kept(autojump_clock: MockClock, seconds: int, drop: bool) -> None:
    """[MQTT-3.1.2-23], [MQTT-4.1.0-2] there until it is over, gone soon after."""
    async with open_broker() as running:
        async with running.client("c", properties=expiry(seconds)) as client:
            await client.subscribe("t", 1)
            if drop:
                await client.drop()
        await settle()
        await trio.sleep(seconds - 0.5)
        assert await sessions(running) == 1
        await trio.sleep(2)
        assert await sessions(running) == 0
        assert await running.broker.questions.topics() == []
        async with running.client("c", clean_start=False) as client:
            assert not client.session_present
        metrics = await running.broker.questions.metrics()
        assert metrics["session.terminated"] >= 1


async def test_a_connection_stops_the_count(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-23] the interval begins anew with the end of each connection."""
    async with open_broker() as running:
        for _ in range(3):
            async with running.client("c", clean_start=False, properties=expiry(10)) as client:
                await client.subscribe("t", 1)
                await trio.sleep(100)
            await settle()
            await trio.sleep(9)
        async with running.client("c", clean_start=False, properties=expiry(10)) as client:
            assert client.session_present


@pytest.mark.parametrize("seconds", [NEVER, NEVER - 1])
async def test_the_largest_intervals(autojump_clock: MockClock, seconds: int) -> None:
    """[MQTT-3.1.2-23] 0xFFFFFFFF is for ever; a second less must not overflow."""
    async with open_broker(mqtt={"session_expiry_interval": "infinity"}) as running:
        async with running.client("c", properties=expiry(seconds)) as client:
            await client.subscribe("t", 1)
        await settle()
        await trio.sleep(100 * WEEK)
        await running.broker.publish("t", b"kept", qos=1)
        async with running.client("c", clean_start=False, properties=expiry(seconds)) as client:
            assert client.session_present
            assert (await one(client)).payload == b"kept"


async def test_disconnect_changes_it(autojump_clock: MockClock) -> None:
    """Section 3.14.2.2.2: DISCONNECT sets another interval."""
    async with open_broker() as running:
        async with running.client("c", properties=expiry(3600)) as client:
            await client.disconnect(0, expiry(10))
        await settle()
        await trio.sleep(9)
        assert await sessions(running) == 1
        await trio.sleep(2)
        assert await sessions(running) == 0
        async with running.client("c", properties=expiry(10)) as client:
            await client.disconnect(0, expiry(3600))
        await settle()
        await trio.sleep(3500)
        assert await sessions(running) == 1


async def test_disconnect_ends_it(autojump_clock: MockClock) -> None:
    """Section 3.14.2.2.2: 0 in DISCONNECT ends the session at once."""
    async with open_broker() as running:
        async with running.client("c", properties=expiry(3600)) as client:
            await client.subscribe("t", 1)
            await client.disconnect(0, expiry(0))
        assert await sessions(running) == 0


async def test_disconnect_cannot_begin_it(autojump_clock: MockClock) -> None:
    """Section 3.14.2.2.2: 0 in CONNECT and more in DISCONNECT is a protocol error; nothing is kept."""
    async with open_broker() as running:
        async with running.client("c", connect=False) as client:
            await client.send_bytes(b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01c")
            await settle()
            await client.send_bytes(b"\xe0\x07\x00\x05\x11\x00\x00\x0e\x10")
            assert (await end_of(client)).reason_code == 0x82
        assert await sessions(running) == 0


async def test_a_new_connection_sets_a_new_interval(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-23] what the last CONNECT said counts."""
    async with open_broker() as running:
        async with running.client("c", properties=expiry(3600)):
            pass
        async with running.client("c", clean_start=False, properties=expiry(5)) as client:
            assert client.session_present
        await settle()
        await trio.sleep(7)
        assert await sessions(running) == 0
        async with running.client("c", properties=expiry(3600)):
            pass
        async with running.client("c", clean_start=False) as client:
            assert client.session_present
        assert await sessions(running) == 0


@pytest.mark.parametrize("level", [3, 4])
async def test_before_version_5(autojump_clock: MockClock, level: int) -> None:
    """Clean session 0 keeps the session for the configured interval, clean session 1 for none [MQTT-3.1.2-6]."""
    async with open_broker(mqtt={"session_expiry_interval": "2h"}) as running:
        async with running.client("clean", level=level) as client:
            await client.subscribe("t", 1)
        async with running.client("kept", level=level, clean_start=False) as client:
            await client.subscribe("t", 1)
            await client.drop()
        await settle()
        await trio.sleep(7100)
        assert await sessions(running) == 1
        await trio.sleep(110)
        assert await sessions(running) == 0


async def test_before_version_5_for_ever(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-5] of 3.1.1 with `session_expiry_interval = "infinity"`."""
    async with open_broker(mqtt={"session_expiry_interval": "infinity"}) as running:
        async with running.client("c", level=4, clean_start=False) as client:
            await client.subscribe("t", 1)
        await settle()
        await trio.sleep(WEEK)
        await running.broker.publish("t", b"x", qos=1)
        async with running.client("c", level=4, clean_start=False) as client:
            assert client.session_present
            assert payloads(await rest(client)) == [b"x"]


async def test_the_setting_is_for_clients_that_cannot_ask(autojump_clock: MockClock) -> None:
    """As with EMQX, `mqtt.session_expiry_interval` holds for 3.x; a 5.0 client gets what it asks for (3.2.2.3.2)."""
    async with open_broker(mqtt={"session_expiry_interval": "60s"}) as running:
        async with running.client("c", properties=expiry(3600)) as client:
            assert "session_expiry_interval" not in client.connack.properties
        async with running.client("old", level=4, clean_start=False):
            pass
        await settle()
        await trio.sleep(62)
        assert await sessions(running) == 1
        await trio.sleep(3600)
        assert await sessions(running) == 0


async def test_many_sessions_end_at_their_own_times(autojump_clock: MockClock) -> None:
    """[MQTT-4.1.0-2]"""
    async with open_broker() as running:
        for number in range(1, 21):
            async with running.client(f"c{number}", properties=expiry(number * 10)) as client:
                await client.subscribe(f"t/{number}", 1)
        await settle()
        for left in range(20, 0, -1):
            assert await sessions(running) == left
            await trio.sleep(10.1)
        assert await sessions(running) == 0
