"""Keep alive: who is silent for one and a half times of it has lost the connection."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio
from actors.flows import SESSION, one, rest, settle
from trio.testing import MockClock

from trio_broker.protocol.packets import PubAck, Will
from trio_broker.testing import Client, ConnectionEnded, open_broker


async def silent_for(client: Client) -> float:
    """How long the broker bears the silence that begins now (seconds)."""
    began = trio.current_time()
    with trio.fail_after(100_000):
        await client.wait_ended()
    return trio.current_time() - began


@pytest.mark.parametrize("level", [3, 4, 5])
@pytest.mark.parametrize("keep_alive", [1, 10, 60, 3600])
async def test_silence_ends_the_connection(autojump_clock: MockClock, keep_alive: int, level: int) -> None:
    """[MQTT-3.1.2-22] after 1.5 times the keep alive, with 0x8D in version 5 and the will."""
    will = Will("gone", b"will")
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("gone")
        async with running.client("c", level=level, keep_alive=keep_alive, will=will) as client:
            silence = await silent_for(client)
            assert client.disconnected is not None
            assert client.disconnected.reason_code == (0x8D if level == 5 else None)
            assert keep_alive * 1.5 <= silence <= keep_alive * 1.5 + 30
            assert (await one(subscriber)).payload == b"will"


async def test_a_short_keep_alive_is_looked_at_in_time(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-22] not only at the next `keepalive_check_interval`."""
    async with open_broker() as running, running.client("c", keep_alive=2) as client:
        assert 3 <= await silent_for(client) <= 5


async def test_no_keep_alive(autojump_clock: MockClock) -> None:
    """Section 3.1.2.10: 0 turns it off."""
    async with open_broker() as running, running.client("c", keep_alive=0) as client:
        await trio.sleep(1_000_000)
        await client.ping()


async def test_pings_keep_it_alive(autojump_clock: MockClock) -> None:
    """[MQTT-3.12.4-1]"""
    async with open_broker() as running, running.client("c", keep_alive=10) as client:
        for _ in range(50):
            await trio.sleep(14)
            await client.ping()


async def test_any_packet_keeps_it_alive(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-22] a PUBLISH, an unsolicited PUBACK, a SUBSCRIBE: each counts."""
    async with open_broker() as running, running.client("c", keep_alive=10) as client:
        for _ in range(5):
            await trio.sleep(14)
            await client.publish("t")
            await trio.sleep(14)
            await client.send(PubAck(77))
            await trio.sleep(14)
            await client.subscribe("u")
        assert client.disconnected is None


async def test_what_the_broker_sends_does_not_count(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-22] packets of the client count, not those it gets."""
    async with open_broker() as running, running.client("c", keep_alive=10) as client:
        await client.subscribe("t")
        with trio.move_on_after(40):
            while client.disconnected is None:
                await trio.sleep(3)
                await running.broker.publish("t", b"x")
        assert client.disconnected is not None
        assert client.disconnected.reason_code == 0x8D


async def test_half_a_packet_does_not_count(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-22] bytes of a packet that does not end are no packet."""
    async with open_broker() as running, running.client("c", keep_alive=10) as client:
        await client.send_bytes(b"\x30\x64\x00\x01t")
        began = trio.current_time()
        with trio.move_on_after(60):
            with suppress(ConnectionEnded):  # a byte and the end may meet
                while True:
                    await trio.sleep(3)
                    await client.send_bytes(b"x")
        assert client.disconnected is not None
        assert client.disconnected.reason_code == 0x8D
        assert trio.current_time() - began < 50


@pytest.mark.parametrize("asked", [0, 10, 1000])
async def test_the_servers_keep_alive(autojump_clock: MockClock, asked: int) -> None:
    """[MQTT-3.2.2-21] what CONNACK says counts, also for a client that wished for none."""
    async with open_broker(mqtt={"server_keepalive": 100}) as running:
        async with running.client("c", keep_alive=asked) as client:
            assert client.connack.properties["server_keep_alive"] == 100
            assert 150 <= await silent_for(client) <= 180


async def test_the_servers_keep_alive_is_for_version_5(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-24] of 3.1.1: that client does not learn it, so its own counts."""
    async with open_broker(mqtt={"server_keepalive": 10}) as running:
        async with running.client("c", level=4, keep_alive=100) as client:
            assert 150 <= await silent_for(client) <= 180


async def test_another_multiplier(autojump_clock: MockClock) -> None:
    async with open_broker(mqtt={"keepalive_multiplier": 3.0}) as running:
        async with running.client("c", keep_alive=20) as client:
            assert 60 <= await silent_for(client) <= 90


async def test_the_session_stays(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-23] the session outlives a connection that fell silent."""
    async with open_broker() as running:
        async with running.client("c", keep_alive=10, properties=SESSION) as client:
            await client.subscribe("t", 1)
            await silent_for(client)
        await running.broker.publish("t", b"x", qos=1)
        async with running.client("c", clean_start=False) as client:
            assert client.session_present
            assert [message.payload for message in await rest(client)] == [b"x"]


async def test_many_silent_ones(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-22] each by its own keep alive."""
    ended: list[int] = []
    async with open_broker() as running, trio.open_nursery() as nursery:

        async def be_silent(keep_alive: int) -> None:
            async with running.client(f"c{keep_alive}", keep_alive=keep_alive) as client:
                assert keep_alive * 1.5 <= await silent_for(client) <= keep_alive * 1.5 + 30
                ended.append(keep_alive)

        for keep_alive in range(5, 200, 5):
            nursery.start_soon(be_silent, keep_alive)
        await settle()
    assert sorted(ended) == list(range(5, 200, 5))
