"""Slow peers: what is kept for them stays bounded, and they are neither cut for our own pauses nor kept for ever."""

from __future__ import annotations

import trio
from actors.flows import end_of, joined, settle
from trio.testing import MockClock

from trio_broker.access.authentication import Credentials, Verdict
from trio_broker.actors.messages import Drained
from trio_broker.actors.session_actor import SessionActor
from trio_broker.broker import Broker
from trio_broker.protocol.packets import Connect, Properties, Publish, Subscribe, SubscribeFilter
from trio_broker.session.info import SessionInfo
from trio_broker.store.memory import MemoryStore
from trio_broker.store.operations import Operation, PutSession
from trio_broker.store.ticket import DONE, Ticket
from trio_broker.testing import open_broker, open_client

LONG: Properties = {"session_expiry_interval": 1000}
KILOBYTES = b"x" * 10_000


async def seen(broker: Broker, client_id: str) -> SessionInfo:
    info = await broker.questions.client(client_id)
    assert info is not None
    return info


async def actor_of(broker: Broker, client_id: str) -> SessionActor:
    actor = await broker.questions._actor(client_id)
    assert actor is not None
    return actor


async def test_a_queue_that_fills_the_buffer_at_once(autojump_clock: MockClock) -> None:
    """A session is resumed, its queue alone is more than the out-buffer holds: the rest waits in the queue."""
    async with open_broker() as running:
        async with running.client("c", properties=LONG) as client:
            await client.subscribe("t")
        await settle()
        for _ in range(500):
            await running.broker.publish("t", KILOBYTES)
        async with await running.broker.connect_stream() as stream:
            await stream.send_all(joined(5, Connect("c", clean_start=False, properties=LONG)))
            await settle()
            before = (await seen(running.broker, "c")).mqueue_len
            for _ in range(100):
                await running.broker.publish("t", KILOBYTES)
            await settle()
            assert (await seen(running.broker, "c")).mqueue_len == before + 100


async def test_room_that_is_gone_again(autojump_clock: MockClock) -> None:
    """The news that the buffer has room is old when it arrives: the session must go on queueing."""
    async with open_broker() as running, await running.broker.connect_stream() as stream:
        await stream.send_all(joined(5, Connect("c"), Subscribe(1, [SubscribeFilter("t")])))
        await settle()
        for _ in range(400):
            await running.broker.publish("t", KILOBYTES)
        await settle()
        actor = await actor_of(running.broker, "c")
        assert actor.session is not None
        assert actor.connection is not None
        assert actor.connection.is_congested
        actor.tell(Drained(actor.connection))
        await settle()
        assert actor.session.congested


async def test_a_long_queue_is_sent_in_pieces(autojump_clock: MockClock) -> None:
    """However long the queue, the out-buffer takes little more than its watermark."""
    async with open_broker(mqtt={"max_mqueue_len": 0}) as running:
        async with running.client("c", properties=LONG) as client:
            await client.subscribe("t")
        await settle()
        for _ in range(3000):
            await running.broker.publish("t", KILOBYTES)
        async with await running.broker.connect_stream() as stream:
            await stream.send_all(joined(5, Connect("c", clean_start=False, properties=LONG)))
            await settle()
            assert (await seen(running.broker, "c")).mqueue_len > 2500


async def test_a_peer_that_was_told_goodbye_and_reads_nothing(autojump_clock: MockClock) -> None:
    """It is kicked while what was sent before is still waiting for it: its tasks end all the same."""
    async with open_broker() as running:
        tasks = trio.lowlevel.current_statistics().tasks_living
        async with await running.broker.connect_stream() as stream:
            await stream.send_all(joined(5, Connect("c"), Subscribe(1, [SubscribeFilter("t")])))
            await settle()
            for _ in range(400):
                await running.broker.publish("t", KILOBYTES)
            await settle()
            assert await running.broker.questions.kick("c")
            await trio.sleep(60)
            assert trio.lowlevel.current_statistics().tasks_living == tasks


async def test_keep_alive_does_not_count_while_we_do_not_read(autojump_clock: MockClock) -> None:
    """A subscriber on a slow line says PINGREQ in time, but is not read while its buffer is full [MQTT-3.1.2-22]."""
    async with open_broker() as running, await running.broker.connect_stream() as stream:
        await stream.send_all(joined(4, Connect("c", 4, keep_alive=10), Subscribe(1, [SubscribeFilter("t")])))
        await settle()
        for _ in range(300):
            await running.broker.publish("t", KILOBYTES)

        async def say_something() -> None:
            while True:
                await stream.send_all(b"\xc0\x00")
                await trio.sleep(5)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(say_something)
            received = 0
            while received < 3_000_000:
                await trio.sleep(2)
                data = await stream.receive_some(65536)
                assert data
                received += len(data)
            nursery.cancel_scope.cancel()


class Slow:
    """An authenticator that takes its time."""

    async def authenticate(self, credentials: Credentials) -> Verdict | None:
        await trio.sleep(12)
        return Verdict()


async def test_keep_alive_begins_with_connack(autojump_clock: MockClock) -> None:
    """While its CONNECT is looked at a client has nothing to say."""
    broker = Broker(authenticators=[Slow()])
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        async with open_client(broker, client_id="c", keep_alive=5) as client:
            await trio.sleep(7)
            assert client.disconnected is None
            assert (await end_of(client)).reason_code == 0x8D
        broker.close()


async def test_what_is_sent_ahead_is_bounded_in_bytes(autojump_clock: MockClock) -> None:
    """A peer nobody has let in yet must not make us keep a gigabyte."""
    broker = Broker(authenticators=[Slow()])
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        async with open_client(broker, client_id="c", connect=False) as client:
            await client.send_bytes(joined(5, Connect("c")))
            packet = joined(5, Publish("t", b"x" * 900_000))
            with trio.move_on_after(1) as scope:
                for _ in range(100):
                    await client.send_bytes(packet)
            assert scope.cancelled_caught
            metrics = await broker.questions.metrics()
            assert metrics["bytes.received"] < 4_000_000
            await trio.sleep(20)
            assert (await broker.questions.metrics())["messages.received"] > 1
        broker.close()


class SlowStore(MemoryStore):
    """What is written of sessions is durable when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.tickets: list[Ticket] = []

    def write(self, *operations: Operation) -> Ticket:
        if any(isinstance(operation, PutSession) for operation in operations):
            self.tickets.append(Ticket())
        super().write(*operations)
        return self.ticket

    @property
    def ticket(self) -> Ticket:
        return self.tickets[-1] if self.tickets else DONE


async def test_refused_while_its_session_was_stored(autojump_clock: MockClock) -> None:
    """The store takes longer than a client may wait: it was told no, so the session must not think it is there."""
    store = SlowStore()
    broker = Broker(store=store)
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        async with open_client(broker, client_id="c", connect=False) as client:
            await client.send_bytes(joined(5, Connect("c", keep_alive=10, properties=LONG)))
            await trio.sleep(40)
            assert client.disconnected is not None
            for ticket in store.tickets:
                ticket.resolve()
            await settle()
            for ticket in store.tickets:
                ticket.resolve()
            await trio.sleep(100)
            assert not (await seen(broker, "c")).connected
            stats = await broker.questions.stats()
            assert stats["live_connections.count"] == 0
        broker.close()


async def test_the_answer_to_who_says_all_at_once(autojump_clock: MockClock) -> None:
    """CONNECT, then the end of its side of the stream at any later moment: CONNACK goes out all the same."""
    async with open_broker() as running:
        for steps in range(30):
            async with await running.broker.connect_stream() as stream:
                await stream.send_all(joined(5, Connect(f"c{steps}")))
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                assert isinstance(stream, trio.abc.HalfCloseableStream)
                await stream.send_eof()
                assert (await stream.receive_some())[:1] == b"\x20"
