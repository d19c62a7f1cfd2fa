"""Delayed messages when the broker was away, or was killed: each comes once, in the order in which they are due."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
from actors.flows import payloads, rest, settle
from attrs import define
from hypothesis import given, settings
from hypothesis import strategies as st
from store.restart_world import LONG, WAYS, Wall, World, later, open_world, say
from trio.testing import MockClock

from trio_broker.actors import clock
from trio_broker.broker import Broker
from trio_broker.protocol.packets import Properties
from trio_broker.store.memory import MemoryStore
from trio_broker.store.operations import PutDocument
from trio_broker.testing import open_client


@pytest.fixture(params=WAYS, ids="-".join)
async def world(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    async with open_world(request.param, tmp_path, monkeypatch) as world:
        yield world


async def waiting(world: World) -> list[str]:
    rows, _ = await world.broker.questions.delayed.page(0, 1000)
    return [row.topic_name for row in rows]


async def test_what_was_acknowledged_waits_on(world: World, autojump_clock: MockClock) -> None:
    """With all that belongs to it, whatever its QoS."""
    await world.subscriber("c1")
    properties: Properties = {
        "content_type": "text",
        "correlation_data": b"\x00\xff",
        "user_property": [("a", "1"), ("a", "2")],
        "message_expiry_interval": 1000,
    }
    async with world.client("p", clean_start=True, properties={}, username="u1") as publisher:
        for qos in (0, 1, 2):
            await publisher.publish("$delayed/100/t", b"\x00%d\xff" % qos, qos, qos == 2, properties)
    await settle()
    await world.restart(away=50)
    assert await waiting(world) == ["t"] * 3
    rows, count = await world.broker.questions.delayed.page(0, 10)
    assert (count, {row.interval for row in rows}) == (3, {100})
    assert {(row.from_client_id, row.from_username) for row in rows} == {("p", "u1")}
    assert all(45 <= row.remaining <= 50 for row in rows)
    stats = await world.broker.questions.stats()
    assert stats["delayed.count"] == 3
    async with world.client("c1") as client:
        assert await rest(client) == []
        await trio.sleep(51)
        found = await rest(client)
        assert [packet.payload for packet in found] == [b"\x000\xff", b"\x001\xff", b"\x002\xff"]
        assert [packet.qos for packet in found] == [0, 1, 2]
        left = found[1].properties.pop("message_expiry_interval")
        assert 895 <= left <= 900
        assert found[1].properties == {key: value for key, value in properties.items() if not key.startswith("mess")}
    await world.restart()
    assert await waiting(world) == []
    assert await world.rows("doc") == 0
    found_retained = await world.broker.questions.retained_message("t")
    assert found_retained is not None
    assert found_retained.payload == b"\x002\xff"


async def test_what_was_due_meanwhile_comes_at_once(world: World, autojump_clock: MockClock) -> None:
    await world.subscriber("c1")
    await say(world, b"3", topic="$delayed/30/t")
    await say(world, b"1", topic="$delayed/10/t")
    await say(world, b"4", topic="$delayed/1000/t")
    await say(world, b"2", topic="$delayed/20/t", qos=2)
    await world.restart(away=100)
    assert payloads(await later(world, "c1")) == [b"1", b"2", b"3"]
    assert await waiting(world) == ["t"]
    await world.restart()
    assert await later(world, "c1") == []


async def test_one_that_was_published_is_with_the_sessions(world: World, autojump_clock: MockClock) -> None:
    """A crash right behind it: one commit has taken it from those that wait, and put it into the queue."""
    await world.subscriber("c1")
    await say(world, b"1", topic="$delayed/10/t", qos=2)
    await trio.sleep(11)
    await settle()
    await world.restart()
    assert await waiting(world) == []
    await world.restart()
    assert payloads(await later(world, "c1")) == [b"1"]
    await world.restart()
    assert await later(world, "c1") == []


async def test_what_was_deleted_does_not_come_back(world: World, autojump_clock: MockClock) -> None:
    await world.subscriber("c1")
    for topic in ("t", "t", "u", "v"):
        await say(world, b"1", topic=f"$delayed/10/{topic}")
    delayed = world.broker.questions.delayed
    assert await delayed.delete_topic("t") == 2
    assert await delayed.delete_topic("t") == 0
    rows, _ = await delayed.page(0, 10)
    assert await delayed.delete(rows[0].message_id)
    assert not await delayed.delete(rows[0].message_id)
    await world.restart()
    assert await waiting(world) == ["v"]


async def test_message_ids_never_go_back(world: World, autojump_clock: MockClock) -> None:
    """Or one that waits would be taken for another."""
    await say(world, b"1", topic="$delayed/1000000/t")
    rows, _ = await world.broker.questions.delayed.page(0, 10)
    world.wall.ahead -= 100_000
    await world.restart()
    await say(world, b"2", topic="$delayed/1000000/t")
    both, _ = await world.broker.questions.delayed.page(0, 10)
    assert both[0].message_id == rows[0].message_id
    assert both[1].message_id > rows[0].message_id


@pytest.mark.parametrize(
    ("key", "body"), [("x", "{}"), ("1", "{}"), ("1", "[]"), ("1", '{"due": "x"}'), ("1", '{"due": 1, "topic": "t"}')]
)
async def test_what_cannot_be_read_is_told_and_dropped(
    key: str, body: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    store.write(PutDocument("delayed", key, body))
    async with trio.open_nursery() as nursery:
        broker = Broker(store=store)
        # Only an open store can commit.
        await nursery.start(broker.run)
        assert await broker.questions.delayed.page(0, 10) == ([], 0)
        broker.close()
    assert "cannot be read" in caplog.text


Step = tuple[str, int]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(0, 40)),
        st.tuples(st.just("time"), st.integers(min_value=-30, max_value=60)),
        st.tuples(st.just("wait"), st.integers(0, 30)),
        st.tuples(st.just("restart"), st.integers(0, 30)),
    ),
    max_size=15,
)


@define
class Expected:
    """Wall clock in milliseconds. `moment`: when it is published, which is later than it is `due` if it came late, or
    if the broker was away.
    """

    came: int
    due: int
    moment: int


@given(steps=STEPS)
@settings(max_examples=25)
def test_each_comes_once_in_the_order_in_which_they_are_due(steps: list[Step]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        wall = Wall()
        monkeypatch.setattr(clock, "time", SimpleNamespace(time=wall.time))
        trio.run(over_restarts, steps, wall, clock=MockClock(autojump_threshold=0))


async def over_restarts(steps: list[Step], wall: Wall) -> None:
    """What a session that is never connected has in its queue, in the end."""
    store = MemoryStore()
    expected: dict[bytes, Expected] = {}
    absences: list[tuple[int, int]] = []

    def wall_ms() -> int:
        return int(wall.time() * 1000)

    async with trio.open_nursery() as nursery:
        broker = await started(nursery, store)
        async with open_client(broker, client_id="c1", properties=LONG) as client:
            await client.subscribe("t", 2)
        for number, (what, seconds) in enumerate(steps):
            if what == "wait":
                await trio.sleep(seconds)
            elif what == "restart":
                begun = wall_ms()
                broker.close()
                await trio.sleep(2 + seconds)
                broker = await started(nursery, store)
                absences.append((begun, wall_ms()))
            else:
                now, payload = wall_ms(), b"%d" % number
                due = now + seconds * 1000 if what == "publish" else now // 1000 * 1000 + seconds * 1000
                at = seconds if what == "publish" else due // 1000
                expected[payload] = Expected(now, due, max(now, due))
                async with open_client(broker, client_id="p") as publisher:
                    await publisher.publish(f"$delayed/{at}/t", payload, 1 + number % 2)
                await settle()
        await trio.sleep(100)
        await settle()
        page = await broker.questions.mqueue_messages("c1", None, 1000)
        broker.close()
    assert page is not None
    assert sorted(message.payload for message in page.messages) == sorted(expected)
    for begun, over in absences:
        for one in expected.values():
            if begun < one.moment < over:
                one.moment = over
    for before, after in pairwise(expected[message.payload] for message in page.messages):
        assert before.moment <= after.moment
        if any(over == before.moment == after.moment > max(before.came, after.came) for _, over in absences):
            assert before.due <= after.due


async def started(nursery: trio.Nursery, store: MemoryStore) -> Broker:
    broker = Broker(store=store)
    await nursery.start(broker.run)
    return broker


async def test_one_turn_takes_it_from_those_that_wait_and_gives_it_to_the_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """What is written in one turn is durable together."""
    async with open_world(("memory", "close"), tmp_path, monkeypatch) as world:
        await world.subscriber("c1")
        await say(world, b"1", topic="$delayed/10/t")
        core = world.broker._core
        assert core is not None
        assert isinstance(world.store, MemoryStore)
        store, take = world.store, core.router.take
        store._commit()
        seen: list[tuple[int, int]] = []

        def taken(entries: list[object]) -> None:
            seen.append((len(store._batch.documents), len(store._batch.copies)))
            take(entries)
            seen.append((len(store._batch.documents), len(store._batch.copies)))

        core.router.take = taken  # type: ignore[method-assign]
        await trio.sleep(11)
        assert seen == [(0, 0), (1, 1)]
