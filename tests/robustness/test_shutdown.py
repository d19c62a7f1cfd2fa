"""`Broker.close`: clients are told, wills are published, ports are freed, and `run` returns within its time."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio
from attrs import define, field
from robustness.scene import PATIENCE, WILL, connect_bytes, decoded, read_to_end, shake_hands
from trio.testing import MockClock, wait_all_tasks_blocked

from cases.wire import raw
from trio_broker.broker import Broker
from trio_broker.protocol.encode import encode
from trio_broker.protocol.message import Message
from trio_broker.protocol.packets import ConnAck, Disconnect, Properties, Subscribe, SubscribeFilter, Will
from trio_broker.testing import Client, open_broker, open_client
from trio_broker.testing.running import make_config
from trio_broker.testing.streams import open_stream

# For what must be done before `shutdown_timeout` ends the patience of the broker (seconds).
SLACK = 1.0


@define(eq=False)
class Ending:
    """A broker of its own nursery; `ended` is set when `run` has returned."""

    broker: Broker
    port: int
    ended: trio.Event = field(factory=trio.Event)
    published: list[tuple[str, bytes]] = field(factory=list)

    async def close(self, within: float) -> None:
        """Close it and wait until `run` has returned."""
        self.broker.close()
        with trio.fail_after(within):
            await self.ended.wait()


@asynccontextmanager
async def ending(**overrides: object) -> AsyncIterator[Ending]:
    """A broker that the block ends; at the end it must have ended."""
    broker = Broker(make_config(None, overrides))
    async with trio.open_nursery() as nursery:

        async def run(*, task_status: trio.TaskStatus[int]) -> None:
            async with trio.open_nursery() as inner:
                addresses = await inner.start(broker.run)
                task_status.started(addresses.listeners["tcp:default"][1])
            it.ended.set()

        it = Ending(broker, 0)

        def published(message: Message) -> None:
            it.published.append((message.topic_name, bytes(message.payload)))

        broker.hooks.published.append(published)
        it.port = await nursery.start(run)
        yield it
        assert it.ended.is_set()


@pytest.mark.parametrize("target", ["memory", "tcp"])
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_clients_are_told(level: int, target: str) -> None:
    async with ending() as it:
        where = it.broker if target == "memory" else ("127.0.0.1", it.port)
        async with open_client(where, client_id="c", level=level) as client:
            await client.ping()
            it.broker.close()
            ended = await client.wait_ended()
            await client.drop()
            with trio.fail_after(PATIENCE):
                await it.ended.wait()
            if level == 5:
                assert (ended.how, ended.reason_code) == ("disconnect", 0x8B)
            else:
                assert ended.how == "eof"
            assert list(client.inbox) == ([ended.packet] if level == 5 else [])


async def test_its_ports_are_free_and_nothing_is_left() -> None:
    tasks = trio.lowlevel.current_statistics().tasks_living
    async with ending() as it:
        async with open_client(("127.0.0.1", it.port), client_id="c") as client:
            it.broker.close()
            await client.wait_ended()
        with trio.fail_after(PATIENCE):
            await it.ended.wait()
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream("127.0.0.1", it.port)
        async with open_broker(listeners={"tcp": {"default": {"bind": f"127.0.0.1:{it.port}"}}}) as running:
            assert running.port == it.port
    await wait_all_tasks_blocked()
    assert trio.lowlevel.current_statistics().tasks_living == tasks


async def test_wills_are_published_where_nothing_is_kept(autojump_clock: MockClock) -> None:
    """Design, "Durability and ends": memory only, wills go out while shutting down; those with a delay, too."""
    delayed: Properties = {"will_delay_interval": 100}
    kept: Properties = {"session_expiry_interval": 1000}
    async with ending() as it, trio.open_nursery() as nursery:
        heard: list[bytes] = []

        async def listen(*, task_status: trio.TaskStatus[None]) -> None:
            async with it.broker.subscribe("will/#") as messages:
                task_status.started()
                async for message in messages:
                    heard.append(bytes(message.payload))

        await nursery.start(listen)
        async with (
            open_client(it.broker, client_id="now", will=Will("will/now", b"now", 1)),
            open_client(it.broker, client_id="old", level=4, will=Will("will/old", b"old", retain=True)),
            open_client(
                it.broker, client_id="later", will=Will("will/l", b"later", properties=delayed), properties=kept
            ),
            open_client(it.broker, client_id="none") as none,
            open_client(it.broker, client_id="left", will=Will("will/left", b"left")) as left,
            open_client(
                it.broker, client_id="away", will=Will("will/a", b"away", properties=delayed), properties=kept
            ) as a,
        ):
            await left.disconnect()
            await a.drop()  # its will waits when the end comes
            await wait_all_tasks_blocked()
            await it.close(PATIENCE)
            assert (await none.wait_ended()).reason_code == 0x8B
        nursery.cancel_scope.cancel()
    wanted = [b"away", b"later", b"now", b"old"]
    assert sorted(payload for topic, payload in it.published if topic.startswith("will/")) == wanted
    assert sorted(heard) == wanted


async def test_what_was_accepted_before_the_end_is_delivered(autojump_clock: MockClock) -> None:
    """Messages whose publisher has its PUBACK are not lost by a shutdown that is in order."""
    async with ending() as it:
        broker = it.broker
        async with open_client(broker, client_id="in") as subscriber, open_client(broker, client_id="out") as out:
            await subscriber.subscribe("news", 1)
            for at in range(500):
                await out.publish("news", str(at).encode(), 1)
            await it.close(PATIENCE)
            await subscriber.wait_ended()
            heard = [(await subscriber.receive(ack=False)).payload for _ in range(32)]
            assert heard == [str(at).encode() for at in range(32)]  # its inflight window; nobody acknowledged
            (last,) = subscriber.inbox
            assert isinstance(last, Disconnect)


async def test_who_never_said_connect_is_told_nothing(autojump_clock: MockClock) -> None:
    async with ending(shutdown_timeout="5s") as it, await it.broker.connect_stream() as silent:
        async with open_client(it.broker, client_id="c") as client:
            it.broker.close()
            it.broker.close()  # twice is once
            await client.wait_ended()
        assert await read_to_end(silent) == b""  # [MQTT-3.14.0-1]
        with trio.fail_after(PATIENCE):
            await it.ended.wait()


@pytest.mark.parametrize("patience", [0.0, 1.0, 5.0, 60.0])
async def test_a_client_that_never_reads_does_not_keep_it(patience: float, autojump_clock: MockClock) -> None:
    async with ending(shutdown_timeout=f"{patience:g}s") as it:
        stuffed, other = await it.broker.connect_stream(), await it.broker.connect_stream()
        async with stuffed, other:
            await shake_hands(stuffed, "stuffed", will=WILL)
            await stuffed.send_all(encode(Subscribe(1, [SubscribeFilter("flood")]), 5, "client"))
            await shake_hands(other, "other")
            await wait_all_tasks_blocked()
            for _ in range(100):
                await it.broker.publish("flood", bytes(65_000))
            await it.close(patience + SLACK)
            assert ("will", b"gone") in it.published or patience == 0.0
            (last,) = decoded(await read_to_end(other))
            assert isinstance(last, Disconnect)
            assert last.reason_code == 0x8B


async def test_a_client_that_never_closes_does_not_keep_it() -> None:
    """It has its 0x8B and holds on to its socket: over TCP, in real time, in a second or two."""
    async with ending(shutdown_timeout="2s") as it, await trio.open_tcp_stream("127.0.0.1", it.port) as stream:
        await shake_hands(stream)
        await it.close(2 + SLACK)
        (last,) = decoded(await read_to_end(stream))
        assert isinstance(last, Disconnect)
        assert last.reason_code == 0x8B


async def test_peers_in_the_middle_of_everything(caplog: pytest.LogCaptureFixture) -> None:
    """Half a CONNECT, half a packet, open handshakes, a CONNECT at this instant: no traceback, and the end in time."""
    async with ending(shutdown_timeout="5s") as it, AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", it.port)) for _ in range(5)]
        await streams[0].send_all(connect_bytes("half")[:9])
        await shake_hands(streams[1], "a")
        await streams[1].send_all(raw("32 7F 00 01 61 00 01"))
        await shake_hands(streams[2], "b")
        await streams[2].send_all(raw("34 06 00 01 61 00 01 00"))
        await streams[3].send_all(connect_bytes("now"))
        it.broker.close()
        await streams[4].send_all(connect_bytes("late"))
        for stream in streams:
            await trio.aclose_forcefully(stream)
        with trio.fail_after(PATIENCE):
            await it.ended.wait()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info] == []


@pytest.mark.parametrize("target", ["memory", "tcp"])
@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("level", [4, 5])
async def test_a_connect_at_the_instant_of_the_end(
    level: int, turns: int, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is let in and told goodbye, or refused, or closed; the broker ends as it should in each case."""
    async with ending() as it:
        async with await open_stream(it.broker if target == "memory" else ("127.0.0.1", it.port)) as stream:
            await wait_all_tasks_blocked()
            it.broker.close()
            for _ in range(turns):
                await trio.lowlevel.checkpoint()
            try:
                await stream.send_all(connect_bytes("late", level))
                packets = decoded(await read_to_end(stream), level)
            except trio.BrokenResourceError:
                packets = []
        with trio.fail_after(PATIENCE):
            await it.ended.wait()
        for packet in packets[:1]:
            assert isinstance(packet, ConnAck)
            assert packet.reason_code in (0, 0x88, 0x89)
        for packet in packets[1:]:
            assert isinstance(packet, Disconnect)
            assert packet.reason_code == 0x8B
    assert [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info] == []


async def test_cancelling_is_an_end_too(autojump_clock: MockClock) -> None:
    """No grace, but nothing hangs, also with a client that never reads."""
    tasks = trio.lowlevel.current_statistics().tasks_living
    broker = Broker()
    clients: list[Client] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        stream = await broker.connect_stream()
        await shake_hands(stream)
        async with open_client(broker, client_id="c") as client:
            clients.append(client)
            nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(stream)
    await wait_all_tasks_blocked()
    assert trio.lowlevel.current_statistics().tasks_living == tasks
