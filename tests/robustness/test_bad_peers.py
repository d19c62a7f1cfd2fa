"""Peers that speak, but wrongly: each ends alone, with the right code, a line, a counter, and nothing left behind."""

from __future__ import annotations

import pytest
import trio
from attrs import frozen
from robustness.scene import (
    PATIENCE,
    WILL,
    connect_bytes,
    connect_tcp,
    decoded,
    open_scene,
    read_to_end,
    shake_hands,
)

from cases.wire import packet, raw, text
from trio_broker.protocol.encode import encode
from trio_broker.protocol.packets import ConnAck, Disconnect, Publish, PubRec, PubRel
from trio_broker.testing import open_client

MEGABYTE = 1_048_576


@frozen
class Blunder:
    """`data`, sent once connected, is answered with `reason_code` (5.0) and the end."""

    name: str
    reason_code: int
    data: bytes
    levels: tuple[int, ...] = (3, 4, 5)


BLUNDERS = [
    Blunder("a malformed packet", 0x81, raw("36 06 00 01 61 00 01 00")),
    Blunder("a length that never ends", 0x81, raw("30 FF FF FF FF FF")),
    Blunder("the head of an oversized packet", 0x95, raw("30 81 80 80 01")),
    Blunder("an oversized packet", 0x95, packet(0x30, text("big"), bytes(MEGABYTE))),
    Blunder("the head of the largest packet there is", 0x95, raw("30 FF FF FF 7F")),
    Blunder("a second CONNECT", 0x82, connect_bytes("bad")),
    Blunder("a second CONNECT as somebody else", 0x82, connect_bytes("bystander")),
    Blunder("a packet for clients", 0x82, raw("D0 00")),
    Blunder("a wildcard in a topic name", 0x90, raw("30 05 00 02 61 2B 00")),
    Blunder("topic alias 0", 0x94, raw("30 07 00 01 61 03 23 00 00"), (5,)),
    Blunder("half a million bytes of nothing", 0x81, bytes(500_000)),
    Blunder("a good packet and a bad one", 0x81, raw("C0 00 C1 00")),
    Blunder("a bad packet and a good one", 0x81, raw("C1 00 C0 00")),
]
ROWS = [pytest.param(blunder, level, id=f"{blunder.name} v{level}") for blunder in BLUNDERS for level in blunder.levels]


@pytest.mark.parametrize(("blunder", "level"), ROWS)
async def test_a_blunder_ends_its_connection_alone(
    blunder: Blunder, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_scene(caplog) as scene:
        stream = await connect_tcp(scene.running)
        async with stream:
            await shake_hands(stream, "bad", level, will=WILL)
            await scene.mark()
            said = await blurt(stream, blunder.data)
            if blunder.data.startswith(raw("C0 00")):
                assert said.startswith(raw("D0 00"))
                said = said[2:]
            if level == 5:
                (last,) = decoded(said)
                assert isinstance(last, Disconnect)
                assert last.reason_code == blunder.reason_code
            else:
                assert said == b""
        assert await scene.will() == b"gone"  # this was no proper end [MQTT-3.1.2-8, 3.14.4-3]
        assert "'bad'" in await scene.unhurt()


async def blurt(stream: trio.SocketStream, data: bytes) -> bytes:
    """Send all of it, whether the broker still wants it or not, and give what it said until the end."""
    said = bytearray()

    async def listen() -> None:
        said.extend(await read_to_end(stream))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        try:
            await stream.send_all(data)
        except trio.BrokenResourceError:
            assert len(data) > 100_000, "the broker did not even take a small packet"
    return bytes(said)


@pytest.mark.parametrize("max_packet_size", [64, 1024])
async def test_the_limit_of_packet_size_is_announced_and_kept_to_the_byte(
    max_packet_size: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_scene(caplog, mqtt={"max_packet_size": max_packet_size}) as scene:
        async with open_client((scene.running.host, scene.running.port), client_id="bad") as client:
            assert client.connack.properties.get("maximum_packet_size") == max_packet_size
            overhead = len(encode(Publish("bystander", bytes(max_packet_size - 20)), 5, "client"))
            fits = bytes(max_packet_size - 20 + max_packet_size - overhead)
            assert len(encode(Publish("bystander", fits), 5, "client")) == max_packet_size
            await client.publish("bystander", fits)
            assert (await scene.bystander.receive()).payload == fits
            await scene.mark()
            await client.publish("bystander", fits + b"x")
            ended = await client.wait_ended()
            assert (ended.how, ended.reason_code) == ("disconnect", 0x95)
        await scene.unhurt()


@pytest.mark.parametrize(
    ("name", "data", "answer"),
    [
        ("another name", packet(0x10, text("AMQP"), raw("04 02 00 3C"), text("bad")), raw("20 02 00 01")),
        ("MQTT 3.1's name, level 4", packet(0x10, text("MQIsdp"), raw("04 02 00 3C"), text("bad")), raw("20 02 00 01")),
        ("level 3 under MQTT", packet(0x10, text("MQTT"), raw("03 02 00 3C"), text("bad")), raw("20 02 00 01")),
        ("another name at level 5", packet(0x10, text("AMQP"), raw("05 02 00 3C 00"), text("bad")), raw("20 03 00 84")),
        ("level 6", packet(0x10, text("MQTT"), raw("06 02 00 3C 00"), text("bad")), raw("20 03 00 84")),
    ],
)
async def test_a_wrong_name_or_level_is_refused(
    name: str, data: bytes, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_scene(caplog) as scene, await connect_tcp(scene.running) as stream:
        # What is behind it is not processed [MQTT-3.1.4-6].
        said = await blurt(stream, data + encode(Publish("will", b"must not be heard"), 4, "client"))
        assert said[: len(answer)] == answer
        (connack,) = decoded(said, 5 if answer[-1] == 0x84 else 4)
        assert isinstance(connack, ConnAck)
        await stream.aclose()
        await scene.unhurt()


@pytest.mark.parametrize(
    "data",
    [
        packet(0x30, text("will"), b"\0must not be heard"),
        raw("C0 00"),
        raw("E0 00"),
        b"GET /mqtt HTTP/1.1\r\nHost: broker\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        raw("16 03 01 02 00 01 00 01 FC 03 03"),  # a TLS hello
        bytes(100),
        b"\xff" * 100,
    ],
    ids=["PUBLISH", "PINGREQ", "DISCONNECT", "HTTP", "SSH", "TLS", "zeros", "ones"],
)
async def test_what_is_no_connect_is_closed_without_an_answer(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with open_scene(caplog) as scene:
        stream = await connect_tcp(scene.running)
        name = "{}:{}".format(*stream.socket.getsockname())
        async with stream:
            assert await blurt(stream, data) == b""  # [MQTT-3.1.0-1]
        line = await scene.unhurt()
        assert name in line
        assert "tcp:default" in line


@pytest.mark.parametrize("limit", [1, 5])
async def test_more_qos_2_than_the_receive_maximum(limit: int, caplog: pytest.LogCaptureFixture) -> None:
    async with (
        open_scene(caplog, mqtt={"max_awaiting_rel": limit}) as scene,
        await connect_tcp(scene.running) as stream,
    ):
        connack = await shake_hands(stream, "bad", will=WILL)
        assert connack.properties.get("receive_maximum", 65_535) == limit
        flood = b"".join(
            encode(Publish("nowhere", b"x", 2, packet_identifier=at + 1), 5, "client") for at in range(limit + 3)
        )
        await scene.mark()
        *answers, last = decoded(await blurt(stream, flood))
        assert isinstance(last, Disconnect)
        assert last.reason_code == 0x93  # [MQTT-3.3.4-7]
        assert len(answers) <= limit
        assert all(isinstance(answer, PubRec) for answer in answers)
        await stream.aclose()
        assert await scene.will() == b"gone"
        assert "'bad'" in await scene.unhurt()


async def test_as_many_qos_2_as_the_receive_maximum_again_and_again(caplog: pytest.LogCaptureFixture) -> None:
    async with open_scene(caplog, mqtt={"max_awaiting_rel": 3}) as scene:
        async with open_client((scene.running.host, scene.running.port), client_id="good") as client:
            for _ in range(20):
                for identifier in (1, 2, 3):
                    await client.send(Publish("nowhere", b"x", 2, packet_identifier=identifier))
                # A copy of an open one does not count again [MQTT-4.3.3-10].
                await client.send(Publish("nowhere", b"x", 2, dup=True, packet_identifier=2))
                with trio.fail_after(PATIENCE):
                    heard = [(await client.expect(PubRec)).packet_identifier for _ in range(4)]
                assert heard == [1, 2, 3, 2]
                for identifier in (1, 2, 3):
                    await client.send(PubRel(identifier))
                await client.ping()
                client.inbox.clear()
        await scene.settled()
