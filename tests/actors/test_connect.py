"""CONNECT and CONNACK: versions, client identifiers, clean start, session present, what is announced and refused."""

from __future__ import annotations

import pytest
import trio
from actors.flows import SESSION, end_of, expect, joined, one, rest, settle, talk
from trio.testing import MockClock

from trio_broker.protocol.packets import (
    Auth,
    ConnAck,
    Connect,
    PingReq,
    Properties,
    Publish,
    Subscribe,
    SubscribeFilter,
    Will,
)
from trio_broker.protocol.packets import Disconnect as DisconnectPacket
from trio_broker.testing import open_broker

LEVELS = [3, 4, 5]


@pytest.mark.parametrize("level", LEVELS)
async def test_every_version_is_accepted(autojump_clock: MockClock, level: int) -> None:
    """[MQTT-3.1.4-5]"""
    async with open_broker() as running, running.client("c", level=level) as client:
        assert (client.connack.reason_code, client.session_present) == (0, False)
        info = await running.broker.questions.client("c")
        assert info is not None
        assert (info.connected, info.protocol_level) == (True, level)
        assert info.protocol_name == ("MQIsdp" if level == 3 else "MQTT")


@pytest.mark.parametrize(("name", "level"), [(b"MQTT", 3), (b"MQIsdp", 4), (b"MQTT", 2), (b"MQIsdp", 5)])
async def test_a_name_with_a_level_that_does_not_fit(autojump_clock: MockClock, name: bytes, level: int) -> None:
    """[MQTT-3.1.2-2] return code 1, then the end."""
    body = len(name).to_bytes(2, "big") + name + bytes([level, 2, 0, 0, 0, 1]) + b"c"
    async with open_broker() as running:
        assert await talk(running.broker, bytes([0x10, len(body)]) + body) == b"\x20\x02\x00\x01"


async def test_a_version_to_come(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-2] of both standards: return code 1 or reason code 0x84, then the end."""
    async with open_broker() as running:
        answer = await talk(running.broker, b"\x10\x0e\x00\x04MQTT\x06\x02\x00\x00\x00\x00\x01c")
        assert answer in (b"\x20\x02\x00\x01", b"\x20\x03\x00\x84\x00")


async def test_another_protocol(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-1]"""
    async with open_broker() as running:
        answer = await talk(running.broker, b"\x10\x0d\x00\x04QTTM\x04\x02\x00\x00\x00\x01c")
        assert answer in (b"", b"\x20\x02\x00\x01", b"\x20\x03\x00\x84\x00")
        assert await running.broker.questions.client("c") is None


async def test_anything_else_first(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.0-1] closed without an answer."""
    async with open_broker() as running:
        assert await talk(running.broker, joined(5, PingReq())) == b""
        assert await talk(running.broker, joined(5, Publish("t", b"x"))) == b""


@pytest.mark.parametrize("level", LEVELS)
async def test_a_second_connect(autojump_clock: MockClock, level: int) -> None:
    """[MQTT-3.1.0-2]"""
    async with open_broker() as running, running.client("c", level=level) as client:
        await client.send(Connect("c", level))
        ended = await end_of(client)
        assert (ended.how, ended.reason_code) == (("disconnect", 0x82) if level == 5 else ("eof", None))


async def test_silence_instead_of_connect(autojump_clock: MockClock) -> None:
    """A connection that says nothing is cut after `idle_timeout`."""
    async with open_broker(mqtt={"idle_timeout": "15s"}) as running:
        began = trio.current_time()
        with trio.fail_after(60):
            async with await running.broker.connect_stream() as stream:
                await stream.send_all(b"\x10\x0d\x00\x04MQ")
                assert await stream.receive_some(1) == b""
        assert 15 <= trio.current_time() - began < 20


async def test_an_empty_identifier_gets_one(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.3-6], [MQTT-3.2.2-16] its own, and good for coming back to the session."""
    async with open_broker() as running, running.client("", properties=SESSION) as other:
        async with running.client("", properties=SESSION, clean_start=False) as client:
            assigned = client.connack.properties["assigned_client_identifier"]
            assert assigned
            assert assigned != other.client_id
            assert not client.session_present
        async with running.client(assigned, clean_start=False) as client:
            assert client.session_present
            assert "assigned_client_identifier" not in client.connack.properties


@pytest.mark.parametrize(("level", "clean", "answer"), [(4, 2, 0), (4, 0, 2), (3, 2, 2), (3, 0, 2)])
async def test_an_empty_identifier_before_version_5(
    autojump_clock: MockClock, level: int, clean: int, answer: int
) -> None:
    """[MQTT-3.1.3-7], [MQTT-3.1.3-8] of 3.1.1; in 3.1 an identifier has a character at least."""
    name = b"MQIsdp" if level == 3 else b"MQTT"
    body = len(name).to_bytes(2, "big") + name + bytes([level, clean, 0, 0, 0, 0])
    async with open_broker() as running:
        then = b"\xe0\x00" if answer == 0 else b""
        assert await talk(running.broker, bytes([0x10, len(body)]) + body, then) == bytes([0x20, 2, 0, answer])


@pytest.mark.parametrize("level", LEVELS)
async def test_an_identifier_that_is_too_long(autojump_clock: MockClock, level: int) -> None:
    """[MQTT-3.1.3-8] 0x85, or return code 2."""
    connect = joined(level, Connect("x" * 24, level))
    async with open_broker(mqtt={"max_clientid_len": 23}) as running:
        answer = await talk(running.broker, connect)
        assert answer[:4] == (b"\x20\x02\x00\x02" if level < 5 else bytes([0x20, answer[1], 0, 0x85]))
        async with running.client("x" * 23, level=level) as client:
            assert client.connack.reason_code == 0


@pytest.mark.parametrize("level", [4, 5])
async def test_clean_start_and_session_present(autojump_clock: MockClock, level: int) -> None:
    """[MQTT-3.1.2-4] to [MQTT-3.1.2-6], [MQTT-3.2.2-2], [MQTT-3.2.2-3]"""
    kept: Properties = SESSION if level == 5 else {}
    async with open_broker() as running, running.client("p") as publisher:
        async with running.client("c", level=level, clean_start=False, properties=kept) as client:
            assert not client.session_present
            await client.subscribe("t")
        async with running.client("c", level=level, clean_start=False, properties=kept) as client:
            assert client.session_present
            await publisher.publish("t", b"known", 1)
            assert (await one(client)).payload == b"known"
        async with running.client("c", level=level, clean_start=True, properties=kept) as client:
            assert not client.session_present
            await publisher.publish("t", b"forgotten", 1)
            assert await rest(client) == []


async def test_version_31_knows_no_session_present(autojump_clock: MockClock) -> None:
    """MQTT 3.1: the first byte of CONNACK is reserved; the session is there all the same."""
    connect = joined(3, Connect("c", 3, clean_start=False))
    async with open_broker() as running:
        for _ in range(2):
            assert await talk(running.broker, connect, b"\xe0\x00") == b"\x20\x02\x00\x00"
            await settle()
        async with running.client("c", level=4, clean_start=False) as client:
            assert client.session_present


async def test_connect_in_single_bytes(autojump_clock: MockClock) -> None:
    async with open_broker() as running, running.client("c", connect=False) as client:
        for byte in joined(5, Connect("c")):
            await client.send_bytes(bytes([byte]))
        assert (await expect(client, ConnAck)).reason_code == 0


@pytest.mark.parametrize("level", LEVELS)
async def test_packets_behind_connect_in_one_piece(autojump_clock: MockClock, level: int) -> None:
    """Clients may send before CONNACK (section 3.1.4); [MQTT-3.2.0-1] CONNACK is the first answer."""
    async with open_broker() as running, running.client("c", level=level, connect=False) as client:
        subscribe = Subscribe(1, [SubscribeFilter("t")])
        await client.send_bytes(joined(level, Connect("c", level), subscribe, Publish("t", b"x"), PingReq()))
        await expect(client, ConnAck)
        await settle()
        assert sorted(type(packet).__name__ for packet in client.inbox) == ["PingResp", "Publish", "SubAck"]


async def test_connect_and_all_the_rest_in_one_piece(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.4-5] CONNECT, PUBLISH and DISCONNECT at once: CONNACK comes, and the message counts."""
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("t")
        data = joined(4, Connect("c", 4), Publish("t", b"x"), DisconnectPacket())
        assert await talk(running.broker, data) == b"\x20\x02\x00\x00"
        assert [message.payload for message in await rest(subscriber)] == [b"x"]


@pytest.mark.parametrize(
    ("limits", "will", "code"),
    [
        ({"max_qos_allowed": 1}, Will("w", b"", qos=2), 0x9B),
        ({"retain_available": False}, Will("w", b"", retain=True), 0x9A),
    ],
)
async def test_a_will_beyond_the_limits(
    autojump_clock: MockClock, limits: dict[str, object], will: Will, code: int
) -> None:
    """[MQTT-3.2.2-12], [MQTT-3.2.2-13], [MQTT-3.2.2-7]; refused, so nobody is taken over [MQTT-3.1.4-6]"""
    async with open_broker(mqtt=limits) as running, running.client("c") as first:
        async with running.client("c", will=will) as refused:
            assert (refused.connack.reason_code, refused.session_present) == (code, False)
            await end_of(refused)
        await settle()
        assert first.disconnected is None
        await first.ping()


async def test_password_without_user_name(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-22] of 3.1.1; version 5 allows it."""
    async with open_broker() as running:
        async with running.client("c", password=b"secret") as client:
            assert client.connack.reason_code == 0
        assert await talk(running.broker, b"\x10\x10\x00\x04MQTT\x04\x42\x00\x00\x00\x01c\x00\x01p") == b""


@pytest.mark.parametrize(
    "properties",
    [b"\x21\x00\x00", b"\x27\x00\x00\x00\x00", b"\x17\x02", b"\x19\x02", b"\x16\x00\x01x", b"\x21\x00\x01\x21\x00\x01"],
)
async def test_properties_that_are_protocol_errors(autojump_clock: MockClock, properties: bytes) -> None:
    """[MQTT-3.1.4-1] receive maximum 0, packet size 0, flags above 1, data without method, twice the same."""
    body = b"\x00\x04MQTT\x05\x02\x00\x00" + bytes([len(properties)]) + properties + b"\x00\x01c"
    async with open_broker() as running:
        answer = await talk(running.broker, bytes([0x10, len(body)]) + body)
        assert answer == b"" or answer[3] == 0x82


async def test_an_authentication_method_nobody_knows(autojump_clock: MockClock) -> None:
    """[MQTT-4.12.0-1]"""
    async with open_broker() as running:
        async with running.client("c", properties={"authentication_method": "SCRAM"}) as client:
            assert client.connack.reason_code in (0x8C, 0x87)
            await end_of(client)


async def test_auth_without_a_method(autojump_clock: MockClock) -> None:
    """[MQTT-4.12.0-7]"""
    async with open_broker() as running, running.client("c") as client:
        await client.send(Auth(0x19, {"authentication_method": "SCRAM"}))
        assert (await end_of(client)).reason_code == 0x82


@pytest.mark.parametrize("packet", [b"\xd0\x00", b"\x20\x03\x00\x00\x00", b"\x90\x04\x00\x01\x00\x00"])
async def test_packets_only_servers_send(autojump_clock: MockClock, packet: bytes) -> None:
    """[MQTT-4.13.1-1] PINGRESP, CONNACK and SUBACK from a client."""
    async with open_broker() as running, running.client("c") as client:
        await client.send_bytes(packet)
        assert (await end_of(client)).reason_code == 0x82


async def test_what_stands_behind_disconnect(autojump_clock: MockClock) -> None:
    """[MQTT-3.14.4-1] nothing behind DISCONNECT counts."""
    async with open_broker() as running, running.client("s") as subscriber:
        await subscriber.subscribe("t")
        async with running.client("c") as client:
            await client.send_bytes(joined(5, Publish("t", b"1"), DisconnectPacket(), Publish("t", b"2")))
            await end_of(client)
        assert [message.payload for message in await rest(subscriber)] == [b"1"]


async def test_no_answer_to_what_follows_a_refused_connect(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.4-6]"""
    async with open_broker(mqtt={"max_clientid_len": 23}) as running, running.client("s") as subscriber:
        await subscriber.subscribe("t")
        async with running.client("c", connect=False) as client:
            await client.send_bytes(joined(5, Connect("c" * 24), Publish("t", b"x"), PingReq()))
            assert (await expect(client, ConnAck)).reason_code == 0x85
            await end_of(client)
            assert list(client.inbox) == []
        assert await rest(subscriber) == []
