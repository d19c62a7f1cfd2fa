"""Plain sockets closed by halves: the sending side is shut, the receiving side stays open, or nothing is said at all.

Invariant: a peer that has said its last word is over, what it said before counts, and it is not waited for.
"""

from __future__ import annotations

import pytest
import trio
from hostile.conftest import Sites
from hostile.site import connected, heard
from robustness.scene import WILL, connect_bytes, reset, shake_hands

from trio_broker.protocol.encode import encode
from trio_broker.protocol.packets import Publish, Subscribe, SubscribeFilter

LEVELS = pytest.mark.parametrize("level", [3, 4, 5])
LAST_WORDS = [Publish("words", str(at).encode(), 1, packet_identifier=at + 1) for at in range(20)]


@LEVELS
async def test_all_it_had_to_say_at_once_and_the_end(level: int, site: Sites) -> None:
    """CONNECT, messages and FIN in one go, as simple devices do: all of it counts, and its will too."""
    async with site("tcp") as it, connected(it, "tcp", "witness") as witness:
        await witness.subscribe("words")
        async with await it.raw("tcp") as stream:
            said = b"".join(encode(packet, level, "client") for packet in LAST_WORDS)
            await stream.send_all(connect_bytes("bad", level, will=WILL) + said)
            await stream.send_eof()
            await heard(stream, level)
        assert [(await witness.receive()).payload for _ in LAST_WORDS] == [packet.payload for packet in LAST_WORDS]
        assert await it.scene.will() == b"gone"


@LEVELS
@pytest.mark.parametrize("sent", [b"", b"\x30", b"\x30\x7f\0\4half", b"\xc0\0"])
async def test_shut_while_connected(level: int, sent: bytes, site: Sites) -> None:
    async with site("tcp") as it, await it.raw("tcp") as stream:
        await shake_hands(stream, "bad", level, will=WILL)
        await stream.send_all(sent)
        await stream.send_eof()
        await heard(stream, level)
        assert await it.scene.will() == b"gone"


@pytest.mark.parametrize("sent", [0, 1, 2, 7, 20])
async def test_shut_within_connect(sent: int, site: Sites) -> None:
    async with site("tcp") as it, await it.raw("tcp") as stream:
        await stream.send_all(connect_bytes("bad" * 5)[:sent])
        await stream.send_eof()
        assert await heard(stream) == []


async def test_a_subscriber_that_cannot_say_anything_more_gets_nothing_more(site: Sites) -> None:
    """Its reading side is open, but a client without PINGREQ and PUBACK is none."""
    async with site("tcp") as it, await it.raw("tcp") as stream:
        await shake_hands(stream, "bad", properties={"session_expiry_interval": 0})
        await stream.send_all(encode(Subscribe(1, [SubscribeFilter("flood", 1)]), 5, "client"))
        assert await stream.receive_some(100)
        await stream.send_eof()
        await heard(stream)
        async with connected(it, "tcp", "publisher") as publisher:
            answer = await publisher.publish("flood", b"x", 1)
            assert answer is not None
            assert answer.reason_code == 0x10  # nobody is subscribed


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_many_that_end_without_a_word(how: str, site: Sites) -> None:
    async with site("tcp") as it:
        streams = [await it.raw("tcp") for _ in range(50)]
        for number, stream in enumerate(streams):
            if number % 3:
                await shake_hands(stream, f"bad-{number}")
            if number % 3 == 2:
                await stream.send_all(b"\x30\xff\xff\x03" + bytes(5000))
        for stream in streams:
            if how == "reset":
                await reset(stream)
            else:
                await trio.aclose_forcefully(stream)
        await it.unhurt()
