"""What is acknowledged, and what is kept together, in the interleavings that are hard to come by."""

from __future__ import annotations

import errno
import math
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio
from actors.flows import joined, numbers, payloads, settle
from store.failure_store import Disk, Gate, break_disk
from store.restart_world import LONG, World, inbox, later, many, open_world, say
from store.shims import syncs_of_the_system
from store.using import used
from trio.testing import MockClock

from trio_broker.actors.core import Core
from trio_broker.actors.internal import make_subscription
from trio_broker.actors.messages import Kick, SubscribeFor
from trio_broker.actors.session_actor import SessionActor
from trio_broker.broker import Broker
from trio_broker.errors import StoreError
from trio_broker.protocol.packets import Connect, PubAck, Publish, SubscribeFilter, Will
from trio_broker.session.outgoing import Outgoing
from trio_broker.store.batch import Batch
from trio_broker.store.memory import MemoryStore
from trio_broker.store.operations import KeptCopies, PutDocument, PutSession
from trio_broker.store.sqlite import SqliteStore
from trio_broker.testing import open_client
from trio_broker.testing.running import make_config

ROUNDS = 12
"""Where Trio chooses who goes first: so often that it is not always the same."""


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with open_world(("sqlite", "close"), tmp_path, monkeypatch, max_mqueue_len="infinity") as world:
        yield world


@pytest.fixture
def gate(world: World, monkeypatch: pytest.MonkeyPatch) -> Gate:
    assert isinstance(world.store, SqliteStore)
    return Gate(world.store, monkeypatch)


def core_of(world: World) -> Core:
    core = world.broker._core
    assert core is not None
    return core


def actor_of(world: World, client_id: str) -> SessionActor:
    return core_of(world).manager._actors[client_id]


def make_router_busy(world: World) -> None:
    """As every question to the router does (`Broker.publish`, a list over REST): until its task has had its turn."""
    core_of(world).router.tell_always([])


async def copies_kept(world: World) -> tuple[set[str], int]:
    """The sessions and the number of queued copies that a kill would leave now."""
    kept = await world.kept()
    sessions = {item.client_id for item in kept if isinstance(item, PutSession)}
    return sessions, sum(len(item.rows) for item in kept if isinstance(item, KeptCopies))


# -- the end of the broker


async def test_a_will_is_published_after_a_broker_that_was_cancelled() -> None:
    """Once each, by the broker that is cancelled or by the next one; the client is on a TCP socket."""
    store = MemoryStore()
    config = make_config()
    wills = numbers(ROUNDS)

    async def run(broker: Broker, scope: trio.CancelScope, *, task_status: trio.TaskStatus[Any]) -> None:
        with scope:
            await broker.run(task_status=task_status)

    with trio.fail_after(60):
        for payload in wills:
            scope = trio.CancelScope()
            broker = Broker(config, store=store)
            async with trio.open_nursery() as nursery:
                addresses = await nursery.start(run, broker, scope)
                if payload == wills[0]:
                    async with open_client(broker, client_id="heir", properties=LONG) as heir:
                        await heir.subscribe("wills", 1)
                address = addresses.listeners["tcp:default"]
                will = Will("wills", payload, 1)
                client_id = f"c{payload.decode()}"
                async with open_client(address, client_id=client_id, will=will, properties=LONG) as client:
                    scope.cancel()
                    await client.wait_ended()
        broker = Broker(config, store=store)
        async with trio.open_nursery() as nursery:
            await nursery.start(broker.run)
            await settle()
            page = await broker.questions.mqueue_messages("heir", None, 1000)
            assert page is not None
            found = [message.payload for message in page.messages]
            broker.close()
    assert sorted(found, key=int) == wills


async def test_what_a_client_sent_ahead_is_kept_if_it_is_acknowledged_while_the_broker_ends(
    world: World, gate: Gate, autojump_clock: MockClock
) -> None:
    """Its CONNACK waited for a slow disk when the broker was told to end."""
    await world.subscriber("c", "t", 1)
    gate.shut()
    async with world.client("p", connect=False) as client:
        connect = Connect("p", clean_start=False, properties=LONG)
        await client.send_bytes(joined(5, connect, Publish("t", b"x", 1, False, False, 1)))
        await settle()
        world.broker.close()
        await trio.sleep(2)
        await gate.open()
        acknowledged = [packet for packet in await inbox(client) if isinstance(packet, PubAck)]
    await world.restart()
    found = payloads(await later(world, "c"))
    # What was not acknowledged may be there all the same.
    assert found == [b"x"] or (found == [] and not acknowledged)


async def test_what_a_program_published_while_the_broker_ends_is_kept(
    world: World, gate: Gate, autojump_clock: MockClock
) -> None:
    """`Broker.publish` returned: that is its acknowledgement."""
    await world.subscriber("c", "t", 1)
    gate.shut()
    async with world.client("p", connect=False) as client:
        await client.send(Connect("p", clean_start=False, properties=LONG))
        await settle()
        world.broker.close()
        await trio.sleep(2)  # the one whose CONNACK waits is all that is left
        with trio.move_on_after(1) as scope:
            published = await world.broker.publish("t", b"x", qos=1)
        assert scope.cancelled_caught or published.matched == 1
        await gate.open()
    await world.restart()
    found = payloads(await later(world, "c"))
    assert found == [b"x"] or (found == [] and scope.cancelled_caught)


# -- the clock


async def test_a_clock_that_is_set_ahead_ends_no_session(world: World, autojump_clock: MockClock) -> None:
    """A machine without a clock of its own learns the time after its start: nobody was away for longer by that."""
    await world.subscriber("c", "t", 1)
    await say(world, b"x")
    clock = core_of(world).clock
    clock.is_real = True
    world.wall.ahead += 10_000_000
    clock.synchronize()
    async with world.client("c") as client:
        assert client.session_present
        assert (await client.receive()).payload == b"x"


# -- retained messages


async def test_a_retained_message_that_was_deleted_does_not_come_back(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The router was behind when the program deleted it: by its id the message that is deleted is the younger one."""
    router = core_of(world).router
    has_room = trio.Event()
    with monkeypatch.context() as patch:
        patch.setattr(router, "room", has_room.wait)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: world.broker.publish("t", b"", qos=1, retain=True))
            await settle()
            await say(world, b"x", retain=True)
            has_room.set()
    await settle()
    assert await world.broker.questions.retained_message("t") is None
    await world.restart()
    assert await world.broker.questions.retained_message("t") is None


# -- shared subscriptions


async def test_messages_for_others_of_a_group_survive_an_error_of_the_disk(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[MQTT 5.0 section 4.8.2] a page that cannot be read now can be read later."""
    await world.subscriber("c", "$share/g/t", 1)
    await many(world, 2000)
    await world.subscriber("heir", "$share/g/t", 1)
    await world.restart()
    queue = world.store.queue
    failures = [StoreError("disk I/O error")]

    async def sometimes(rows: Sequence[int]) -> list[Outgoing]:
        await trio.lowlevel.checkpoint()
        if failures:
            raise failures.pop()
        return await queue(rows)

    monkeypatch.setattr(world.store, "queue", sometimes)
    await world.broker.questions.kick("c")
    await trio.sleep(100)
    assert sorted(payloads(await later(world, "heir")), key=int) == numbers(2000)


async def test_messages_of_a_member_go_to_others_while_many_subscriptions_are_removed(
    world: World, autojump_clock: MockClock
) -> None:
    """[MQTT 5.0 section 4.8.2] who is gone gets nothing any more, though the router has not yet come to it."""
    async with (
        world.client("many") as many_filters,
        world.client("c", auto_ack=False) as client,
    ):
        await many_filters.subscribe([SubscribeFilter(f"f/{number}", 1) for number in range(2000)])
        await client.subscribe("$share/g/t", 1)
        await many(world, 10)
        assert len([packet for packet in await inbox(client) if isinstance(packet, Publish)]) == 10
        await world.subscriber("heir", "$share/g/t", 1)
        for client_id in ("many", "c"):
            actor_of(world, client_id).tell(Kick())
        await settle()
    assert payloads(await later(world, "heir")) == numbers(10)


# -- what belongs into one commit


async def kick_just_before_a_commit(world: World, gate: Gate, monkeypatch: pytest.MonkeyPatch, client_id: str) -> None:
    """In the turn of the loop in which the committer takes a batch, and the router's task has not come to its own.

    When this returns, that batch is committed and nothing after it.
    """
    assert isinstance(world.store, SqliteStore)
    take = world.store._take

    def kick_and_take() -> Batch:
        monkeypatch.setattr(world.store, "_take", take)
        make_router_busy(world)
        actor_of(world, client_id).tell(Kick())
        return take()

    await settle()
    gate.shut()
    monkeypatch.setattr(world.store, "_take", kick_and_take)
    world.store.write(PutDocument("n", "1", "1"))
    await trio.sleep(1)
    await gate.step()


async def test_a_session_is_not_gone_before_its_will_is_kept(
    world: World, gate: Gate, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between two commits leaves the session with its will, or the message of it."""
    await world.subscriber("heir", "t", 1)
    async with world.client("c", will=Will("t", b"x", 1)):
        await kick_just_before_a_commit(world, gate, monkeypatch, "c")
        sessions, copies = await copies_kept(world)
        assert "c" in sessions or copies == 1
        await gate.open()
        assert await copies_kept(world) == ({"heir"}, 1)


async def test_a_member_of_a_group_is_not_gone_before_its_messages_are_kept_for_others(
    world: World, gate: Gate, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The publisher has its PUBACK: a kill between two commits must not take the message away."""
    await world.subscriber("heir", "$share/g/t", 1)
    async with world.client("c", auto_ack=False) as client:
        await client.subscribe("$share/g/t", 1)
        await say(world, b"x")
        assert len(await inbox(client)) == 1
        await kick_just_before_a_commit(world, gate, monkeypatch, "c")
        sessions, copies = await copies_kept(world)
        assert "c" in sessions or copies == 1
        await gate.open()
        assert await copies_kept(world) == ({"heir"}, 1)


# -- a disk that fails


async def test_a_sync_that_failed_is_not_made_good_by_another_one(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Linux forgets what it could not sync: what is in the write-ahead log goes into the file before all is well."""
    failing = False

    def sync(path: str) -> None:
        if failing:
            raise OSError(errno.EIO, "Input/output error")

    store = SqliteStore(tmp_path, "normal")
    with syncs_of_the_system(sync):
        async with used(store) as use:
            use.write(PutDocument("n", "0", "1"))
            await trio.sleep(5)
            store._database._synced_at = math.inf  # nothing is synced with a commit
            failing = True
            use.write(PutDocument("n", "1", "1"))
            await trio.sleep(5)
            failing = False
            assert [reason is None for reason in use.told] == [False, True]
            log = store.path.with_name(store.path.name + "-wal")
            assert not log.stat().st_size  # by SQLite's own syncs, which have not failed


async def test_a_failure_is_not_over_when_nothing_was_written(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was added and taken away again never reaches the disk, so it shows nothing about it."""
    store = SqliteStore(tmp_path)
    async with used(store) as use:
        use.begin()
        await trio.sleep(5)

        def refuse(*_: object) -> None:
            raise apsw.IOError("disk I/O error")

        with monkeypatch.context() as broken:
            broken.setattr(store._database, "commit", refuse)
            broken.setattr(store._database, "reopen", refuse)
            broken.setattr(store._database, "tidy", refuse)
            use.begin()
            await trio.sleep(5)
            assert store.failure is not None
            copy = use.copy()
            use.add(copy)
            use.remove(copy)
            await trio.sleep(20)
            assert [reason is None for reason in use.told] == [False]
        await trio.sleep(20)
        assert [reason is None for reason in use.told] == [False, True]


# -- REST


async def test_a_subscription_made_over_rest_is_answered_after_its_commit(
    world: World, gate: Gate, autojump_clock: MockClock
) -> None:
    """Also where the router is at work."""
    await world.subscriber("c", "t", 1)
    gate.shut()
    question = SubscribeFor(make_subscription("u", 1))
    make_router_busy(world)
    actor_of(world, "c").tell(question)
    await settle()
    assert not question.is_done
    await gate.open()
    assert question.is_done


async def test_a_clean_session_is_kicked_while_the_store_cannot_be_written(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never was in the store, so there is nothing to wait for."""
    assert isinstance(world.store, SqliteStore)
    disk = Disk(world.store, monkeypatch)
    async with world.client("c", clean_start=True, properties={}):
        await break_disk(world, disk)
        assert await world.broker.questions.kick("c")
    await disk.mend()


# -- long queues


async def test_messages_with_qos_0_stay_in_order_behind_a_long_queue(world: World, autojump_clock: MockClock) -> None:
    """[MQTT-4.6.0-6] what comes now does not overtake what lies in the store."""
    await world.subscriber("c", "t", 1)
    await many(world, 1100)
    await many(world, 3, qos=0)
    async with world.client("c", auto_ack=False) as client:
        await settle()
        await many(world, 1, start=3, qos=0)
        found: list[bytes] = []
        for _ in range(1104):
            packet = await client.receive(ack=True)
            if not packet.qos:
                found.append(packet.payload)
        assert found == numbers(4)
