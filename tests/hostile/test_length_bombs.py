"""Lengths that lie: much announced and little sent, and lengths within a packet that its length does not allow.

Invariant: memory is counted in the bytes Python allocated, and bounded by what was sent, never by what was announced.
"""

from __future__ import annotations

import pytest
import trio
from conformance.bytes_of import bytes_of, variable_byte_integer
from hostile.conftest import Sites
from hostile.site import DOORS, MEGABYTE, heard, measured
from robustness.scene import connect_bytes, shake_hands
from trio.testing import wait_all_tasks_blocked

from trio_broker.protocol.packets import ConnAck, Disconnect, Packet

LARGEST = 268_435_455
LEVELS = pytest.mark.parametrize("level", [3, 4, 5])


def head(first: int, length: int) -> bytes:
    return bytes([first]) + variable_byte_integer(length)


def codes(packets: list[Packet]) -> list[int]:
    return [packet.reason_code for packet in packets if isinstance(packet, Disconnect)]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("length", [MEGABYTE - 1, LARGEST])
async def test_an_announced_length_above_the_limit(door: str, length: int, site: Sites) -> None:
    """Its head is enough: 0x95, without waiting for the rest."""
    async with site(door) as it:
        stream = await it.open(door)
        await shake_hands(stream, "bad")
        await stream.send_all(head(0x30, length))
        assert codes(await heard(stream)) == [0x95]
        await trio.aclose_forcefully(stream)


@LEVELS
@pytest.mark.parametrize("length", [MEGABYTE, LARGEST])
async def test_the_first_packet_is_announced_too_large(level: int, length: int, site: Sites) -> None:
    """No CONNACK: nothing is known of a peer whose CONNECT was not read."""
    async with site("tcp") as it:
        stream = await it.open("tcp")
        await stream.send_all(head(0x10, length) + connect_bytes("bad", level)[2:])
        assert await heard(stream, level) == []
        await stream.aclose()


@LEVELS
async def test_a_length_of_five_bytes(level: int, site: Sites) -> None:
    async with site("tcp") as it:
        stream = await it.open("tcp")
        await shake_hands(stream, "bad", level)
        await stream.send_all(b"\x30\xff\xff\xff\xff\x7f")
        assert codes(await heard(stream, level)) == ([0x81] if level == 5 else [])
        await stream.aclose()


@pytest.mark.parametrize("door", DOORS)
async def test_nothing_is_allocated_for_what_did_not_come(door: str, site: Sites) -> None:
    """Fifty peers announce a quarter of a gigabyte each, before CONNECT or behind it, and send a few bytes of it."""
    async with site(door, mqtt={"max_packet_size": LARGEST}) as it:
        streams = [await it.open(door) for _ in range(50)]
        for number, stream in enumerate(streams):
            if number % 2:
                await shake_hands(stream, f"bad-{number}")
        await it.round_trips()
        with measured() as memory:
            for number, stream in enumerate(streams):
                first = 0x30 if number % 2 else 0x10
                await stream.send_all(head(first, LARGEST - 5) + b"\0\4bomb" + bytes(100))
            await it.round_trips()
            await wait_all_tasks_blocked()
        assert memory.most < MEGABYTE
        for stream in streams:
            await trio.aclose_forcefully(stream)
        await it.unhurt()


async def test_what_is_held_of_an_unfinished_packet_is_what_was_sent(site: Sites) -> None:
    """And it is given back when its peer goes away."""
    sent = 4 * MEGABYTE
    async with site("tcp", mqtt={"max_packet_size": LARGEST}) as it:
        stream = await it.open("tcp")
        await shake_hands(stream, "bad")
        with measured() as memory:
            await stream.send_all(head(0x30, LARGEST - 5) + b"\0\4bomb")
            for _ in range(sent // 65536):
                await stream.send_all(bytes(65536))
                await it.round_trips()
            await wait_all_tasks_blocked()
            memory.look()
            assert memory.grown < 1.25 * sent + MEGABYTE
            assert memory.most < 2.5 * sent + MEGABYTE  # while a buffer moves to a larger place
            await trio.aclose_forcefully(stream)
            await it.unhurt()
        assert memory.grown < MEGABYTE


# What follows a good CONNECT; each lies about a length within it. [ ] and { } give right lengths, numbers wrong ones.
LIES = {
    "topic name longer than the packet": "30 [ffff 'a']",
    "topic name longer by one": "30 [0003 'ab']",
    "no place for the packet identifier": "32 [0002 'ab' 00]",
    "half a topic length": "30 [00]",
    "SUBSCRIBE filter longer than the packet": "82 [0001 00 ffff 'a' 00]",
    "SUBSCRIBE filter that takes the options": "82 [0001 00 0002 'a' 00]",
    "UNSUBSCRIBE filter longer than the packet": "a2 [0001 00 ffff 'a']",
}
PROPERTY_LIES = {
    "property section longer than the packet": "30 ['\\x00\\x01a' ffffff7f]",
    "property section longer by one": "30 ['\\x00\\x01a' 06 26 { 'k' } 00]",
    "property length of five bytes": "30 ['\\x00\\x01a' ffffffff7f]",
    "user property key beyond the section": "30 ['\\x00\\x01a' [26 ffff 'k'] 'payload' * 10]",
    "user property value beyond the section": "30 ['\\x00\\x01a' [26 {'k'} 00ff 'v'] 'payload' * 99]",
    "correlation data beyond the section": "30 ['\\x00\\x01a' [09 ffff 00] 'payload' * 99]",
    "message expiry cut by the section": "30 ['\\x00\\x01a' [02 0000] 'payload']",
    "subscription identifier without an end": "82 [0001 [0b ffffffff] {'a'} 00]",
    "reason string beyond an acknowledgement": "40 [0001 00 [1f ffff 'x']]",
    "DISCONNECT with a section beyond its end": "e0 [00 ff 7f]",
}


@pytest.mark.parametrize("lie", [*LIES, *PROPERTY_LIES])
async def test_a_lie_within_a_packet(lie: str, site: Sites) -> None:
    async with site("tcp") as it:
        stream = await it.open("tcp")
        await shake_hands(stream, "bad")
        with measured() as memory:
            await stream.send_all(bytes_of({**LIES, **PROPERTY_LIES}[lie]))
            assert codes(await heard(stream)) == [0x81]
        assert memory.most < MEGABYTE
        await stream.aclose()


@pytest.mark.parametrize("level", [3, 4])
@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_within_a_packet_below_5(lie: str, level: int, site: Sites) -> None:
    async with site("tcp") as it:
        stream = await it.open("tcp")
        await shake_hands(stream, "bad", level)
        await stream.send_all(bytes_of(LIES[lie].replace("0001 00 ", "0001 ")))
        assert await heard(stream, level) == []
        await stream.aclose()


CONNECT_LIES = {
    "client identifier longer than the packet": '10 ["MQTT" 05 02 003c [] ffff "a"]',
    "a will without a topic": '10 ["MQTT" 05 06 003c [] "c" [] ffff]',
    "a will payload longer than the packet": '10 ["MQTT" 05 06 003c [] "c" [] "t" ffff 00]',
    "a will section longer than the packet": '10 ["MQTT" 05 06 003c [] "c" ffff7f "t" {}]',
    "a user name longer than the packet": '10 ["MQTT" 05 82 003c [] "c" ffff "u"]',
    "a password longer than the packet": '10 ["MQTT" 05 c2 003c [] "c" "u" ffff "p"]',
    "a section longer than the packet": '10 ["MQTT" 05 02 003c ffffff7f "c"]',
    "something behind the last field": '10 ["MQTT" 05 02 003c [] "c" \'more\' * 100]',
}


@pytest.mark.parametrize("lie", CONNECT_LIES)
async def test_a_lie_within_connect(lie: str, site: Sites) -> None:
    async with site("tcp") as it:
        stream = await it.open("tcp")
        await stream.send_all(bytes_of(CONNECT_LIES[lie]))
        (connack,) = await heard(stream)
        assert isinstance(connack, ConnAck)
        assert connack.reason_code == 0x81
        await stream.aclose()
