"""Connections that break: resets at every moment, half-closed ones, storms of connections. Nothing of them stays."""

from __future__ import annotations

import random
import socket
from collections.abc import Awaitable, Callable

import pytest
import trio
from robustness.scene import (
    PATIENCE,
    WILL,
    Scene,
    connect_bytes,
    connect_tcp,
    decoded,
    open_scene,
    read_to_end,
    reset,
    shake_hands,
)
from trio.testing import wait_all_tasks_blocked

from cases.wire import packet, text
from trio_broker.protocol.encode import encode
from trio_broker.protocol.packets import ConnAck, Publish, Subscribe, SubscribeFilter

CONNECT = connect_bytes("bad", will=WILL)
STORM = 300


async def _after_half_of_connect(stream: trio.SocketStream) -> None:
    await stream.send_all(CONNECT[:-1])


async def _after_connect(stream: trio.SocketStream) -> None:
    await stream.send_all(CONNECT)


async def _after_connack(stream: trio.SocketStream) -> None:
    await shake_hands(stream, "bad", will=WILL)


async def _in_the_middle_of_a_packet(stream: trio.SocketStream) -> None:
    await shake_hands(stream, "bad", will=WILL)
    await stream.send_all(packet(0x32, text("a"), b"\0\1\0", bytes(5000))[:-100])


async def _before_an_acknowledgement(stream: trio.SocketStream) -> None:
    await shake_hands(stream, "bad", will=WILL)
    await stream.send_all(
        b"".join(encode(Publish("a", b"x", 1, packet_identifier=n + 1), 5, "client") for n in range(50))
    )


async def _while_it_is_sent_to(stream: trio.SocketStream) -> None:
    await shake_hands(stream, "bad", will=WILL)
    await stream.send_all(encode(Subscribe(1, [SubscribeFilter("mine")]), 5, "client"))
    await stream.send_all(encode(Publish("mine", bytes(500_000)), 5, "client") * 4)


CONNECTED = [
    _after_connack,
    _in_the_middle_of_a_packet,
    _before_an_acknowledgement,
    _while_it_is_sent_to,
]
End = Callable[[trio.SocketStream], Awaitable[None]]


@pytest.mark.parametrize("seen", [False, True], ids=["at once", "once the broker has seen it"])
@pytest.mark.parametrize("end", [reset, trio.aclose_forcefully], ids=["reset", "close"])
@pytest.mark.parametrize("moment", CONNECTED)
async def test_a_connection_that_breaks(moment: End, end: End, seen: bool, caplog: pytest.LogCaptureFixture) -> None:
    async with open_scene(caplog) as scene:
        stream = await connect_tcp(scene.running)
        await moment(stream)
        if seen:
            await wait_all_tasks_blocked()
        await end(stream)
        assert await scene.will() == b"gone"  # [MQTT-3.1.2-8]
        await scene.settled()
        lines = [line.getMessage() for line in scene.lines()]
        assert len(lines) == 2, lines  # it came, and it went
        assert all("'bad'" in line and "tcp:default" in line for line in lines)
        assert await scene.counted()
        await scene.exchange()


@pytest.mark.parametrize("seen", [False, True], ids=["at once", "once the broker has seen it"])
@pytest.mark.parametrize("end", [reset, trio.aclose_forcefully], ids=["reset", "close"])
async def test_a_connection_that_breaks_within_connect(end: End, seen: bool, caplog: pytest.LogCaptureFixture) -> None:
    async with open_scene(caplog) as scene:
        stream = await connect_tcp(scene.running)
        name = "{}:{}".format(*stream.socket.getsockname())
        await _after_half_of_connect(stream)
        if seen:
            await wait_all_tasks_blocked()
        await end(stream)
        assert name in await scene.unhurt()


@pytest.mark.parametrize("end", [reset, trio.aclose_forcefully], ids=["reset", "close"])
async def test_a_connection_that_breaks_right_behind_connect(end: End, caplog: pytest.LogCaptureFixture) -> None:
    """It may have been a client for a moment, with its will, or none at all; but not something between."""
    async with open_scene(caplog) as scene:
        for _ in range(20):
            await scene.mark()
            stream = await connect_tcp(scene.running)
            await _after_connect(stream)
            await end(stream)
            await scene.settled()
            lines = [line.getMessage() for line in scene.lines()]
            counted = await scene.counted()
            if counted.get("client.connected"):
                assert await scene.will() == b"gone"
                assert counted["client.disconnected"] == 1
                assert len(lines) == 2, lines
            else:
                assert len(lines) == 1, lines
            await scene.exchange()


@pytest.mark.parametrize("end", [reset, trio.aclose_forcefully], ids=["reset", "close"])
async def test_a_port_scan_leaves_nothing(end: End, caplog: pytest.LogCaptureFixture) -> None:
    """A connection that ends without a byte, as health checks do: a line at most."""
    async with open_scene(caplog) as scene:
        for seen in (False, True):
            await scene.mark()
            stream = await connect_tcp(scene.running)
            if seen:
                await wait_all_tasks_blocked()
            await end(stream)
            await scene.settled()
            assert len(scene.lines()) <= 1
            assert not any(line.exc_info for line in scene.lines())
        await scene.exchange()


@pytest.mark.parametrize("end", ["close", "half-close", "memory"])
@pytest.mark.parametrize("goodbye", [b"\xe0\0", b""], ids=["DISCONNECT", "no DISCONNECT"])
async def test_all_in_one_segment_and_the_end(end: str, goodbye: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A sensor that sends CONNECT, its messages and DISCONNECT at once and closes: what it sent counts."""
    async with open_scene(caplog) as scene:
        opening = scene.running.broker.connect_stream() if end == "memory" else connect_tcp(scene.running)
        async with await opening as stream:
            await stream.send_all(CONNECT + encode(Publish("bystander", b"21.5"), 5, "client") + goodbye)
            if end != "close":
                assert isinstance(stream, trio.abc.HalfCloseableStream)
                await stream.send_eof()
                assert any(isinstance(one, ConnAck) for one in decoded(await read_to_end(stream)))  # [MQTT-3.1.4-5]
        with trio.fail_after(PATIENCE):
            assert (await scene.bystander.receive()).payload == b"21.5"
        if not goodbye:
            assert await scene.will() == b"gone"
        await scene.settled()


async def test_half_close_before_connect_is_an_end(caplog: pytest.LogCaptureFixture) -> None:
    async with open_scene(caplog) as scene, await connect_tcp(scene.running) as stream:
        await stream.send_all(CONNECT[:10])
        await stream.send_eof()
        assert await read_to_end(stream) == b""
        await stream.aclose()
        await scene.unhurt()


async def test_half_close_by_a_client_that_then_keeps_its_socket(caplog: pytest.LogCaptureFixture) -> None:
    """A peer that has said all and never closes does not keep its connection for ever."""
    async with open_scene(caplog) as scene, await connect_tcp(scene.running) as stream:
        await shake_hands(stream, will=WILL)
        await scene.mark()
        await stream.send_eof()
        assert await scene.will() == b"gone"
        assert await read_to_end(stream) == b""
        await scene.unhurt()  # while the stream is open still


@pytest.mark.parametrize("kind", ["nothing", "garbage", "half", "connect", "reset", "mixed"])
async def test_a_storm_of_connections(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    dice = random.Random(42)
    async with open_scene(caplog) as scene:
        async with trio.open_nursery() as nursery:
            for at in range(STORM):
                sort = dice.choice(["nothing", "garbage", "half", "connect", "reset"]) if kind == "mixed" else kind
                nursery.start_soon(storm_one, scene, sort, f"storm-{at}")
        await scene.settled()
        lines = scene.lines()
        assert len(lines) <= 2 * STORM
        assert not any(line.exc_info for line in lines)
        await scene.exchange()


async def storm_one(scene: Scene, kind: str, client_id: str) -> None:
    stream = await connect_tcp(scene.running)
    if kind == "garbage":
        await stream.send_all(b"\0garbage")
        assert await read_to_end(stream) == b""
    elif kind == "half":
        await stream.send_all(connect_bytes(client_id)[:5])
    elif kind == "connect":
        await shake_hands(stream, client_id)
    elif kind == "reset":
        await stream.send_all(connect_bytes(client_id))
        await reset(stream)
    await trio.aclose_forcefully(stream)


async def test_a_storm_above_max_connections(caplog: pytest.LogCaptureFixture) -> None:
    listeners = {"tcp": {"default": {"max_connections": 10}}}
    async with open_scene(caplog, listeners=listeners) as scene:
        streams = [await connect_tcp(scene.running) for _ in range(100)]
        let_in = 0
        for at, stream in enumerate(streams):
            try:
                await shake_hands(stream, f"storm-{at}")
                let_in += 1
            except (AssertionError, trio.BrokenResourceError):
                await trio.aclose_forcefully(stream)
        assert let_in == 10
        # Room is made by those who leave.
        for stream in streams:
            await trio.aclose_forcefully(stream)
        await scene.settled()
        async with await connect_tcp(scene.running) as stream:
            assert (await shake_hands(stream)).reason_code == 0
        await scene.settled()
        assert not any(line.exc_info for line in scene.lines())


async def test_a_client_that_vanishes_in_the_middle_of_a_big_answer(caplog: pytest.LogCaptureFixture) -> None:
    """Retained messages are on their way to it, page after page, when it is gone."""
    async with open_scene(caplog) as scene:
        for at in range(500):
            await scene.bystander.publish(f"kept/{at}", bytes(2000), retain=True)
        await scene.bystander.ping()
        for _ in range(5):
            stream = await connect_tcp(scene.running, rcvbuf=4096)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await shake_hands(stream)
            await stream.send_all(encode(Subscribe(1, [SubscribeFilter("kept/#", 1)]), 5, "client"))
            await stream.receive_some(100)
            await reset(stream)
        await scene.running.broker.questions.delete_retained(None)
        await scene.settled()
