"""The test client against a scripted broker at the other end of a memory stream: no broker, no socket, no clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from trio_broker.errors import ProtocolError
from trio_broker.protocol.decoder import Decoder
from trio_broker.protocol.encode import encode
from trio_broker.protocol.packets import (
    MQTT5,
    MQTT31,
    MQTT311,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    SubscribeFilter,
    UnsubAck,
    Unsubscribe,
    Will,
)
from trio_broker.testing.client import Client, ConnectionEnded, open_client
from trio_broker.testing.streams import open_stream

LEVELS = pytest.mark.parametrize("level", [MQTT31, MQTT311, MQTT5])


class Script:
    """The broker's end: `expect` the next packet, `send` the next answer."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.stream = stream
        self.decoder = Decoder(role="server")
        self.packets: list[Packet] = []

    async def expect(self, packet: Packet) -> None:
        while not self.packets:
            data = await self.stream.receive_some()
            assert data, f"end of stream instead of {packet!r}"
            self.packets += self.decoder.feed(bytes(data))
            assert self.decoder.error is None
        assert self.packets.pop(0) == packet

    async def expect_end(self) -> None:
        assert not self.packets
        assert await self.stream.receive_some() == b""

    async def send(self, packet: Packet) -> None:
        await self.stream.send_all(encode(packet, self.decoder.level))


async def accept(script: Script, level: int) -> None:
    await script.expect(Connect("c", level))
    await script.send(ConnAck())


@asynccontextmanager
async def against(
    play: Callable[[Script], Awaitable[None]], level: int = MQTT5, auto_ack: bool = True
) -> AsyncIterator[Client]:
    """A connected client while `play` answers; both have to come to their end."""
    near, far = trio.testing.memory_stream_pair()
    script = Script(far)

    async def run() -> None:
        await accept(script, level)
        await play(script)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        async with open_client(near, client_id="c", level=level, auto_ack=auto_ack) as client:
            yield client


async def test_connect_says_everything() -> None:
    near, far = trio.testing.memory_stream_pair()
    script = Script(far)
    will = Will("w", b"gone", 1, True, {"will_delay_interval": 5})

    async def broker() -> None:
        await script.expect(
            Connect("", MQTT5, False, 30, "ada", b"secret", will, False, {"session_expiry_interval": 60})
        )
        await script.send(ConnAck(0, False, {"assigned_client_identifier": "made-up"}))
        await script.expect(Disconnect())
        await script.expect_end()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(broker)
        async with open_client(
            near,
            clean_start=False,
            keep_alive=30,
            will=will,
            username="ada",
            password=b"secret",
            properties={"session_expiry_interval": 60},
        ) as client:
            assert client.client_id == "made-up"
            assert not client.session_present


async def test_a_refusal_is_there_to_be_looked_at() -> None:
    near, far = trio.testing.memory_stream_pair()
    script = Script(far)

    async def broker() -> None:
        await script.expect(Connect("c"))
        await script.send(ConnAck(0x87))
        await far.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(broker)
        async with open_client(near, client_id="c") as client:
            assert client.connack.reason_code == 0x87
            assert (await client.wait_ended()).how == "eof"
            with pytest.raises(ConnectionEnded, match=r"while (waiting for SubAck|sending)"):
                await client.subscribe("a")


async def test_a_broker_that_hangs_up_instead_of_answering() -> None:
    near, far = trio.testing.memory_stream_pair()
    await far.send_eof()
    with pytest.raises(ConnectionEnded, match=r"\(eof\) while waiting for ConnAck"):
        async with open_client(near):
            pass


@LEVELS
async def test_publish_does_the_handshake(level: int) -> None:
    async def broker(script: Script) -> None:
        await script.expect(Publish("a", b"0"))
        await script.expect(Publish("a", b"1", 1, True, packet_identifier=1))
        await script.send(PubAck(1))
        await script.expect(Publish("a", b"2", 2, packet_identifier=2))
        await script.send(PubRec(2))
        await script.expect(PubRel(2))
        await script.send(PubComp(2))

    async with against(broker, level) as client:
        assert await client.publish("a", b"0") is None
        assert await client.publish("a", b"1", 1, retain=True) == PubAck(1)
        assert await client.publish("a", b"2", 2) == PubComp(2)


async def test_a_refused_qos_2_ends_with_its_pubrec() -> None:
    async def broker(script: Script) -> None:
        await script.expect(Publish("a", b"", 2, packet_identifier=1))
        await script.send(PubRec(1, 0x97))

    async with against(broker) as client:
        assert await client.publish("a", qos=2) == PubRec(1, 0x97)


async def test_publishes_at_the_same_time_get_their_own_answers() -> None:
    async def broker(script: Script) -> None:
        identifiers = []
        for _ in range(2):
            while not script.packets:
                script.packets += script.decoder.feed(bytes(await script.stream.receive_some()))
            packet = script.packets.pop(0)
            assert isinstance(packet, Publish)
            identifiers.append((packet.packet_identifier, packet.topic_name))
        for identifier, topic_name in reversed(identifiers):
            await script.send(PubAck(identifier, 0x10 if topic_name == "b" else 0))

    answers = {}
    async with against(broker) as client, trio.open_nursery() as nursery:

        async def publish(topic_name: str) -> None:
            answers[topic_name] = await client.publish(topic_name, qos=1)

        nursery.start_soon(publish, "a")
        nursery.start_soon(publish, "b")
    assert {topic_name: answer.reason_code for topic_name, answer in answers.items() if answer} == {"a": 0, "b": 0x10}


@LEVELS
async def test_subscribe_unsubscribe_ping(level: int) -> None:
    async def broker(script: Script) -> None:
        await script.expect(Subscribe(1, [SubscribeFilter("a/#", 1)]))
        await script.send(SubAck(1, [1]))
        await script.expect(Unsubscribe(2, ["a/#", "b"]))
        await script.send(UnsubAck(2, [0, 0x11]))
        await script.expect(PingReq())
        await script.send(PingResp())

    async with against(broker, level) as client:
        assert (await client.subscribe("a/#", 1)).reason_codes == [1]
        answer = await client.unsubscribe("a/#", "b")
        assert answer.reason_codes == ([0, 0x11] if level == MQTT5 else [])
        assert await client.ping() == PingResp()


async def test_subscribe_with_options() -> None:
    several = [SubscribeFilter("a", 2, True, True, 2), SubscribeFilter("b")]

    async def broker(script: Script) -> None:
        await script.expect(Subscribe(1, several, {"subscription_identifier": [7]}))
        await script.send(SubAck(1, [2, 0]))
        await script.expect(Subscribe(2, several[:1]))
        await script.send(SubAck(2, [2]))

    async with against(broker) as client:
        assert (await client.subscribe(several, identifier=7)).reason_codes == [2, 0]
        await client.subscribe("a", 2, no_local=True, retain_as_published=True, retain_handling=2)


async def test_received_messages_are_acknowledged_when_they_are_taken() -> None:
    sent = [Publish("a", b"1", 1, packet_identifier=5), Publish("a", b"2", 2, packet_identifier=6)]

    async def broker(script: Script) -> None:
        for packet in sent:
            await script.send(packet)
        await script.expect(PubAck(5))
        await script.expect(PubRec(6))
        await script.send(PubRel(6))
        await script.expect(PubComp(6))
        await script.send(Publish("a", b"last"))

    async with against(broker) as client:
        assert [await client.receive() for _ in range(2)] == sent
        assert (await client.receive()).payload == b"last"
        assert not client.inbox


async def test_a_message_nobody_took_is_not_acknowledged() -> None:
    async def broker(script: Script) -> None:
        await script.send(Publish("a", b"1", 1, packet_identifier=5))
        await script.send(Publish("a", b"2", 1, packet_identifier=6))
        await script.expect(PubAck(5))
        await script.expect(Disconnect())

    async with against(broker) as client:
        assert (await client.receive()).payload == b"1"


async def test_without_auto_ack_the_test_sees_and_sends_every_packet() -> None:
    async def broker(script: Script) -> None:
        await script.send(Publish("a", b"2", 2, packet_identifier=6))
        await script.expect(PubRec(6))
        await script.send(PubRel(6))
        await script.expect(PubComp(6))

    async with against(broker, auto_ack=False) as client:
        await client.receive()
        await client.send(PubRec(6))
        assert await client.expect(PubRel) == PubRel(6)
        await client.send(PubComp(6))


async def test_expect_names_what_came_instead() -> None:
    async def broker(script: Script) -> None:
        await script.send(Publish("a", b"1"))

    async with against(broker) as client:
        with pytest.raises(AssertionError, match=r"expected PubAck, received Publish\(topic_name='a'"):
            await client.expect(PubAck)


async def prepared(*packets: Packet, level: int = MQTT5) -> trio.abc.Stream:
    """A stream on which a broker has already said all this."""
    near, far = trio.testing.memory_stream_pair()
    await far.send_all(b"".join(encode(packet, level) for packet in (ConnAck(), *packets)))
    return near


async def test_topic_aliases_are_resolved() -> None:
    stream = await prepared(
        Publish("a/b", b"1", properties={"topic_alias": 3}), Publish("", b"2", properties={"topic_alias": 3})
    )
    async with open_client(stream) as client:
        assert [(await client.receive()).topic_name for _ in range(2)] == ["a/b", "a/b"]


async def test_a_topic_alias_nobody_explained() -> None:
    stream = await prepared(Publish("", b"", properties={"topic_alias": 4}))
    with pytest.raises(ConnectionEnded, match="topic alias 4"):
        async with open_client(stream) as client:
            await client.receive()


async def test_cancelling_receive_loses_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async def broker(script: Script) -> None:
        await trio.sleep(1000)
        await script.send(Publish("a", b"late"))

    async with against(broker) as client:
        with trio.move_on_after(999) as scope:
            await client.receive()
        assert scope.cancelled_caught
        with trio.move_on_after(0):
            await client.receive()
        assert (await client.receive()).payload == b"late"


async def test_the_broker_says_goodbye() -> None:
    async def broker(script: Script) -> None:
        await script.send(Publish("a", b"last"))
        await script.send(Disconnect(0x8B, {"reason_string": "going down"}))
        await script.stream.aclose()

    async with against(broker) as client:
        ended = await client.wait_ended()
        assert (ended.how, ended.reason_code) == ("disconnect", 0x8B)
        assert (await client.receive()).payload == b"last"
        with pytest.raises(ConnectionEnded, match="disconnect 0x8B"):
            await client.receive()
        assert (await client.expect(Disconnect)).properties == {"reason_string": "going down"}
        await client.disconnect()
        assert client.disconnected is ended


async def test_disconnect_with_a_reason() -> None:
    async def broker(script: Script) -> None:
        await script.expect(Disconnect(0x04, {"reason_string": "bye"}))
        await script.expect_end()

    async with against(broker) as client:
        await client.disconnect(0x04, {"reason_string": "bye"})
        assert client.disconnected is not None
        with pytest.raises(ConnectionEnded, match="closed"):
            await client.publish("a")


async def test_drop_says_nothing() -> None:
    async def broker(script: Script) -> None:
        await script.expect_end()

    async with against(broker) as client:
        await client.drop()


async def test_an_error_in_the_block_comes_out_bare_and_drops_the_connection() -> None:
    near, far = trio.testing.memory_stream_pair()
    script = Script(far)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept, script, MQTT5)
        with pytest.raises(ZeroDivisionError):
            async with open_client(near, client_id="c"):
                raise ZeroDivisionError
    await script.expect_end()


async def test_what_is_no_mqtt_is_an_error_of_the_test() -> None:
    near, far = trio.testing.memory_stream_pair()
    await far.send_all(encode(ConnAck(), MQTT5) + b"\x00\x00")
    manager = open_client(near)
    client = await manager.__aenter__()
    with pytest.raises(ConnectionEnded, match="malformed"):
        await client.receive()
    with pytest.raises(ProtocolError, match="packet type 0"):
        await manager.__aexit__(None, None, None)


async def test_raw_bytes_and_no_connect() -> None:
    near, far = trio.testing.memory_stream_pair()
    async with open_client(near, connect=False) as client:
        with pytest.raises(AttributeError, match="no CONNACK"):
            _ = client.connack
        await client.send_bytes(b"GET / HTTP/1.0\r\n")
        assert await far.receive_some() == b"GET / HTTP/1.0\r\n"


async def test_packet_identifiers_go_round() -> None:
    async def broker(script: Script) -> None:
        await script.expect(Publish("a", b"", 1, packet_identifier=65535))
        await script.send(PubAck(65535))
        await script.expect(Publish("a", b"", 1, packet_identifier=1))
        await script.send(PubAck(1))

    async with against(broker) as client:
        client._packet_identifier = 65534
        assert await client.publish("a", qos=1) == PubAck(65535)
        assert await client.publish("a", qos=1) == PubAck(1)


async def test_a_broker_that_does_not_read_does_not_keep_the_test(autojump_clock: trio.testing.MockClock) -> None:
    near, far = trio.testing.lockstep_stream_pair()
    async with open_client(near, connect=False) as client:
        with trio.move_on_after(1) as scope:
            await client.send(PingReq())
        assert scope.cancelled_caught
    assert trio.current_time() > 1
    await far.aclose()


@pytest.mark.parametrize("url", ["http://localhost", "mqtt:///nowhere", "1883"])
async def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(ValueError, match="is no mqtt://"):
        await open_stream(url)
