"""Peers that fall silent: before CONNECT, in the middle of it, in the middle of a packet. On a clock that jumps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from robustness.scene import WILL, Scene, connect_bytes, decoded, open_scene, read_to_end, shake_hands
from trio.testing import MockClock

from trio_broker.protocol.packets import Disconnect

# How much later than due the broker may be (seconds): its timers need not be exact.
SLACK = 2.0
CONNECT = connect_bytes("bad", will=WILL)


@pytest.mark.parametrize("idle_timeout", [1.0, 15.0, 300.0])
@pytest.mark.parametrize("sent", [0, 1, 2, 10, len(CONNECT) - 1])
async def test_silence_before_connect_is_whole(
    sent: int, idle_timeout: float, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_scene(caplog, mqtt={"idle_timeout": f"{idle_timeout:g}s"}) as scene:
        start = trio.current_time()
        async with await scene.running.broker.connect_stream() as stream:
            await stream.send_all(CONNECT[:sent])
            with trio.fail_after(idle_timeout + SLACK):
                assert await stream.receive_some() == b""
            assert trio.current_time() - start >= idle_timeout
        await scene.unhurt()


async def test_connect_that_trickles_in_too_slowly(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """Each byte keeps a peer no longer: what counts is when CONNECT is whole."""
    async with open_scene(caplog, mqtt={"idle_timeout": "15s"}) as scene:
        start = trio.current_time()
        async with await scene.running.broker.connect_stream() as stream, trio.open_nursery() as nursery:
            nursery.start_soon(trickle, stream, CONNECT, 1.0)
            assert await read_to_end(stream, 60) == b""
            assert 15.0 <= trio.current_time() - start <= 15.0 + SLACK
            nursery.cancel_scope.cancel()
        await scene.unhurt()


async def test_connect_that_trickles_in_just_in_time(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_scene(caplog, mqtt={"idle_timeout": "15s"}) as scene:
        async with await scene.running.broker.connect_stream() as stream:
            await trickle(stream, connect_bytes("slow"), 0.5)
            assert decoded(await stream.receive_some())
            await trio.sleep(1000)  # the deadline is for CONNECT only
            await stream.send_all(b"\xc0\0")
            assert await stream.receive_some() == b"\xd0\0"
            await stream.send_all(b"\xe0\0")
            assert await read_to_end(stream) == b""
        await scene.settled()


@pytest.mark.parametrize("level", [3, 4, 5])
@pytest.mark.parametrize(
    "begun", [b"", b"\x30", b"\x30\x05", b"\x30\x05\0\1a", b"\x34\xff\xff\x3f\0\4will\0\1" + bytes(500)]
)
async def test_half_a_packet_and_silence(
    begun: bytes, level: int, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """One and a half times keep alive [MQTT-3.1.2-22], counted from the last whole packet."""

    async def peer(stream: trio.abc.Stream) -> None:
        await stream.send_all(begun)

    await times_out(caplog, level, peer)


@pytest.mark.parametrize("level", [3, 4, 5])
async def test_a_packet_that_never_ends_does_not_keep_its_client_alive(
    level: int, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def peer(stream: trio.abc.Stream) -> None:
        await trickle(stream, b"\x30\xff\x7f\0\4will" + bytes(1000), 1.0)

    await times_out(caplog, level, peer)


async def times_out(
    caplog: pytest.LogCaptureFixture, level: int, peer: Callable[[trio.abc.Stream], Awaitable[None]]
) -> None:
    async with open_scene(caplog, mqtt={"max_packet_size": "2MB"}) as scene:
        async with await scene.running.broker.connect_stream() as stream, trio.open_nursery() as nursery:
            await shake_hands(stream, "bad", level, keep_alive=10, will=WILL)
            await scene.mark()
            start = trio.current_time()
            nursery.start_soon(peer, stream)
            said = await read_to_end(stream, 60)
            assert 15.0 <= trio.current_time() - start <= 15.0 + SLACK
            nursery.cancel_scope.cancel()
        codes = [one.reason_code for one in decoded(said, level) if isinstance(one, Disconnect)]
        assert codes == ([0x8D] if level == 5 else [])
        assert await scene.will() == b"gone"
        assert "'bad'" in await scene.unhurt()


async def trickle(stream: trio.abc.SendStream, data: bytes, pause: float) -> None:
    """Send byte by byte, until the broker does not want it any more."""
    for at in range(len(data)):
        await trio.sleep(pause)
        try:
            await stream.send_all(data[at : at + 1])
        except trio.BrokenResourceError:
            return


async def test_many_silent_peers_end_together(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    async with open_scene(caplog) as scene:
        streams = [await scene.running.broker.connect_stream() for _ in range(100)]
        await scene.exchange()
        for stream in streams:
            assert await read_to_end(stream, 60) == b""
            await stream.aclose()
        assert trio.current_time() < 60
        await scene.settled()
        assert len(scene.lines()) == 100
        await one_that_speaks(scene)


async def one_that_speaks(scene: Scene) -> None:
    async with await scene.running.broker.connect_stream() as stream:
        assert (await shake_hands(stream)).reason_code == 0
    await scene.settled()
