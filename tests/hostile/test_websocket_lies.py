"""WebSocket frames that lie: each breaks RFC 6455 (or only its spirit) and ends that connection, with its close code.

Invariant: memory is counted in the bytes Python allocated; what a frame announces costs nothing until it comes.
"""

from __future__ import annotations

import struct

import pytest
import trio
from hostile.conftest import Sites
from hostile.site import MEGABYTE, Site, WebSocketBytes, measured
from listeners.raw_websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame, read_frame, upgraded
from robustness.scene import PATIENCE, connect_bytes, shake_hands
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_broker.testing import open_client

MASK = b"\1\2\3\4"
PINGREQ = b"\xc0\0"
CUSHION = 0.05  # what the system moves between two sockets is there by then


def announced(opcode: int, size: int, sent: bytes = b"", *, wide: bool = False) -> bytes:
    """A frame whose head says `size`; `wide` = in eight bytes, however small it is."""
    if wide or size > 65_535:
        return struct.pack("!BBQ", 0x80 | opcode, 0xFF, size) + MASK + sent
    if size > 125:
        return struct.pack("!BBH", 0x80 | opcode, 0xFE, size) + MASK + sent
    return struct.pack("!BB", 0x80 | opcode, 0x80 | size) + MASK + sent


LIES: dict[str, tuple[bytes, int]] = {
    "not masked": (frame(BINARY, PINGREQ, masked=False), 1002),
    "reserved bit 1 (compressed)": (b"\xc2" + frame(BINARY, PINGREQ)[1:], 1002),
    "reserved bit 2": (b"\xa2" + frame(BINARY, PINGREQ)[1:], 1002),
    "reserved bit 3": (b"\x92" + frame(BINARY, PINGREQ)[1:], 1002),
    "reserved bit on a ping": (b"\xc9" + frame(PING, b"p")[1:], 1002),
    "opcode 3": (frame(3, PINGREQ), 1002),
    "opcode 7": (frame(7, PINGREQ), 1002),
    "opcode 11 (control)": (frame(11, b""), 1002),
    "opcode 15 (control)": (frame(15, b""), 1002),
    "a length of two bytes that needs one": (b"\x82\xfe\0\x02" + MASK + b"\xc1\2", 1002),
    "a length of eight bytes that needs one": (announced(BINARY, 2, b"\xc1\2", wide=True), 1002),
    "a length with its top bit set": (announced(BINARY, 1 << 63, b"x"), 1002),
    "a ping of 126 bytes": (frame(PING, bytes(126)), 1002),
    "a ping that announces a gigabyte": (announced(PING, 1 << 30), 1002),
    "a close of 126 bytes": (frame(CLOSE, b"\x03\xe8" + b"x" * 124), 1002),
    "a fragmented ping": (frame(PING, b"p", fin=False), 1002),
    "a fragmented close": (frame(CLOSE, b"\x03\xe8", fin=False), 1002),
    "continuation without a start": (frame(CONTINUATION, PINGREQ), 1002),
    "continuation of a message that was whole": (frame(BINARY, b"") + frame(CONTINUATION, PINGREQ), 1002),
    "a new message within another": (frame(BINARY, PINGREQ, fin=False) + frame(BINARY, PINGREQ), 1002),
    "a close with half a code": (frame(CLOSE, b"\x03"), 1002),
    "a close with code 1005": (frame(CLOSE, b"\x03\xed"), 1002),
    "a close with code 0": (frame(CLOSE, b"\0\0"), 1002),
    "a close whose reason is no UTF-8": (frame(CLOSE, b"\x03\xe8\xff\xfe"), 1007),
    "a text frame": (frame(TEXT, b"hello"), 1003),
    "an MQTT packet as text": (frame(TEXT, b"0\0"), 1003),
    "a text that is no UTF-8": (frame(TEXT, b"\xc3\x28"), 1007),
    "a text within a binary message": (frame(BINARY, PINGREQ, fin=False) + frame(TEXT, b"x"), 1002),
}


async def close_code(stream: trio.abc.Stream) -> int | None:
    """The code of the close frame; None where the connection ends without one. Other frames are passed over."""
    with trio.fail_after(PATIENCE):
        try:
            while True:
                opcode, payload = await read_frame(stream)
                if opcode == CLOSE:
                    return int.from_bytes(payload[:2], "big")
        except (AssertionError, trio.BrokenResourceError):
            return None


async def websocket(site: Site, door: str = "ws", client_id: str = "bad") -> WebSocketBytes:
    """An MQTT connection whose frames are made by hand from here on."""
    stream = await site.open(door)
    assert isinstance(stream, WebSocketBytes)
    if client_id:
        await shake_hands(stream, client_id)
    return stream


@pytest.mark.parametrize("door", ["ws", "wss"])
@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_ends_its_connection_with_why(lie: str, door: str, site: Sites) -> None:
    """RFC 6455, 7.4.1; MQTT wants binary frames [MQTT-6.0.0-1]."""
    data, code = LIES[lie]
    async with site(door) as it:
        socket = await websocket(it, door)
        await socket.stream.send_all(data)
        assert await close_code(socket.stream) == code
        await socket.aclose()


@pytest.mark.parametrize("client_id", ["", "bad"], ids=["before CONNECT", "connected"])
@pytest.mark.parametrize("size", [1 << 24, 1 << 40, (1 << 63) - 1])
async def test_a_huge_frame_announced_costs_nothing(size: int, client_id: str, site: Sites) -> None:
    async with site("ws") as it:
        sockets = [await websocket(it, "ws", client_id and f"{client_id}-{at}") for at in range(20)]
        with measured() as memory:
            for socket in sockets:
                await socket.stream.send_all(announced(BINARY, size, bytes(100)))
            await it.round_trips()
            await wait_all_tasks_blocked()
        assert memory.most < MEGABYTE
        for socket in sockets:
            await socket.aclose()


async def test_a_message_above_the_limit_is_1009(site: Sites) -> None:
    """In one frame or in many: what is held of it is bounded by the limit."""
    async with site("ws", listener={"websocket": {"max_frame_size": "64KB"}}) as it:
        for fin in (True, False):
            socket = await websocket(it)
            part = frame(BINARY, bytes(70_000)) if fin else frame(BINARY, bytes(9000), fin=False)
            rest = b"" if fin else frame(CONTINUATION, bytes(9000), fin=False) * 8
            await socket.stream.send_all(part + rest)
            assert await close_code(socket.stream) == 1009
            await socket.aclose()


@pytest.mark.parametrize("payload", [b"", b"x"], ids=["empty", "a byte each"])
async def test_fragments_without_end_are_bounded(payload: bytes, site: Sites) -> None:
    """A message is held until it is whole: fragments that bring nothing, or hardly anything, must not cost for ever.

    The limit of a message is 10 KB here, so that all there may be of it is little; a hundred thousand fragments are
    sent, by a peer that has not even said CONNECT.
    """
    async with site("ws", listener={"websocket": {"max_frame_size": "10KB"}}, mqtt={"idle_timeout": "1h"}) as it:
        socket = await websocket(it, "ws", "")
        await socket.stream.send_all(frame(BINARY, b"\x10", fin=False))
        burst = frame(CONTINUATION, payload, fin=False) * 4000
        with measured() as memory:
            for _ in range(15):
                try:
                    await socket.stream.send_all(burst)
                except trio.BrokenResourceError:
                    break
                await it.round_trips()
        await socket.aclose()
        assert memory.grown < 200_000


async def test_a_flood_of_pings_is_answered_while_it_is_read(site: Sites) -> None:
    async with site("ws") as it:
        socket = await websocket(it)
        count = 2000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.stream.send_all, frame(PING, b"p" * 125) * count)
            with trio.fail_after(3 * PATIENCE):
                for _ in range(count):
                    assert await read_frame(socket.stream) == (PONG, b"p" * 125)
        await it.round_trips()
        await socket.send_all(PINGREQ)
        assert await socket.receive_some() == b"\xd0\0"
        await socket.aclose()


async def test_a_flood_of_pings_whose_pongs_are_not_read_is_not_taken(site: Sites) -> None:
    """The broker reads no further than it can answer, so its sender is stopped, and nothing piles up."""
    async with site("ws", listener={"tcp_options": {"sndbuf": "64KB", "recbuf": "64KB"}}) as it:
        stream = await it.raw("ws", rcvbuf=4096)
        await upgraded(stream)
        socket = WebSocketBytes(stream)
        await shake_hands(socket, "bad")
        burst = frame(PING, b"p" * 125) * 500
        with measured() as memory:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_for_ever, stream, burst)
                await wait_all_tasks_blocked(CUSHION)  # which is when it is stopped
                await it.round_trips()
                nursery.cancel_scope.cancel()
        assert memory.grown < 2 * MEGABYTE
        await socket.aclose()


async def send_for_ever(stream: trio.abc.SendStream, data: bytes) -> None:
    while True:
        await stream.send_all(data)


async def test_pongs_that_answer_nothing_are_passed_over(site: Sites) -> None:
    async with site("ws") as it:
        socket = await websocket(it)
        await socket.stream.send_all(frame(PONG, b"p" * 125) * 500)
        await socket.send_all(PINGREQ)
        assert await socket.receive_some() == b"\xd0\0"
        await socket.aclose()


async def test_a_close_in_the_middle_of_a_message_and_of_a_packet(site: Sites) -> None:
    async with site("ws", "wss") as it:
        for door in ("ws", "wss"):
            for before in (frame(BINARY, b"\x30\x7f", fin=False), frame(BINARY, b"\x30\x7f\0\1a"), b""):
                socket = await websocket(it, door)
                await socket.stream.send_all(before + frame(CLOSE, b"\x03\xe8"))
                assert await close_code(socket.stream) == 1000
                await socket.aclose()
                await it.unhurt()


async def test_what_follows_a_close_is_not_heard(site: Sites) -> None:
    """A PUBLISH behind the close frame, in the same segment."""
    async with site("ws") as it, open_client(it.scene.running.broker, client_id="witness") as witness:
        await witness.subscribe("secret")
        socket = await websocket(it)
        await socket.stream.send_all(frame(CLOSE, b"\x03\xe8") + frame(BINARY, b"\x30\x0a\0\6secret\0x"))
        assert await close_code(socket.stream) == 1000
        await socket.aclose()
        await it.round_trips()
        await witness.ping()
        assert not witness.inbox


async def test_a_peer_that_only_says_half_a_frame(site: Sites, autojump_clock: MockClock) -> None:
    """Of a ping, a close, a head: the time for CONNECT ends it."""
    async with site("ws") as it:
        for half in (b"\x82", b"\x89\xfd", b"\x88\x82\1\2", announced(BINARY, 1 << 40)):
            stream = await it.open("ws")
            assert isinstance(stream, WebSocketBytes)
            start = trio.current_time()
            await stream.stream.send_all(half)
            with trio.fail_after(60):
                try:
                    while await stream.stream.receive_some(65536):
                        pass
                except trio.BrokenResourceError:
                    pass
            assert 15 <= trio.current_time() - start <= 20
            await stream.aclose()
            await it.unhurt()


async def test_two_connects_in_one_message(site: Sites) -> None:
    """The WebSocket is fine, MQTT is not: 0x82, then an orderly close."""
    async with site("ws") as it:
        socket = await websocket(it, "ws", "")
        await socket.send_all(connect_bytes("bad") * 2)
        frames = [await read_frame(socket.stream) for _ in range(2)]
        assert frames[0][1][:1] == b"\x20"
        assert b"\xe0\1\x82" in frames[0][1] + frames[1][1]
        await socket.aclose()
