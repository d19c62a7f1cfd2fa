"""Queues that are longer than what is kept in memory of them: their order, their limits, what REST shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import trio
from actors.flows import numbers, payloads, rest, settle
from attrs import define
from store.restart_world import WAYS, World, later, many, open_world
from trio.testing import MockClock

from trio_broker.actors.questions import NewMessage
from trio_broker.protocol.packets import Properties, Publish
from trio_broker.session.info import QueuedMessage
from trio_broker.session.mqueue import WINDOW
from trio_broker.session.outgoing import Outgoing

COUNT = 2100


@pytest.fixture(params=[way for way in WAYS if way[1] != "cancel"], ids="-".join)
async def world(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    async with open_world(request.param, tmp_path, monkeypatch, max_mqueue_len="infinity") as world:
        yield world


@define
class Pages:
    """A queue as REST pages through it."""

    rows: list[QueuedMessage]
    starts: list[int | None]


async def pages(world: World, client_id: str, limit: int) -> Pages:
    found = Pages([], [])
    after: int | None = None
    while True:
        page = await world.broker.questions.mqueue_messages(client_id, after, limit)
        assert page is not None
        assert len(page.messages) <= limit
        if not page.messages:
            return found
        found.rows += page.messages
        found.starts.append(page.start)
        after = page.messages[-1].inserted_at_ns


def in_memory(world: World, client_id: str) -> int:
    return len(world.session(client_id).mqueue.items)


@pytest.mark.parametrize("restarts", [0, 1, 2])
async def test_a_long_queue_comes_whole_and_in_order(world: World, autojump_clock: MockClock, restarts: int) -> None:
    """While most of it lies in the store, before and after restarts, with messages queued in each life."""
    await world.subscriber("c", "t", 1)
    count = 0
    for turn in range(restarts + 1):
        await many(world, COUNT // (restarts + 1), start=count)
        count += COUNT // (restarts + 1)
        assert in_memory(world, "c") <= WINDOW
        info = await world.broker.questions.client("c")
        assert info is not None
        assert info.mqueue_len == count
        if turn < restarts:
            await world.restart()
    assert payloads(await later(world, "c")) == numbers(count)
    assert await world.rows("q") == await world.rows("msg") == 0
    await world.restart()
    assert await later(world, "c") == []


async def test_messages_that_come_while_a_long_queue_is_read_are_behind_it(
    world: World, autojump_clock: MockClock
) -> None:
    """Nothing overtakes, is lost or doubled, across every load of a page."""
    await world.subscriber("c", "t", 2)
    await many(world, 2000, qos=2)
    await world.restart()
    count = 2000
    found: list[Publish] = []
    async with world.client("c") as client:
        while len(found) < count:
            if count < 3000:
                await many(world, 50, start=count, qos=2)
                count += 50
            assert in_memory(world, "c") <= WINDOW
            found += [await client.receive() for _ in range(20)]
        found += await rest(client)
    assert payloads(found) == numbers(count)
    assert await world.rows("q") == await world.rows("msg") == 0


async def test_a_client_that_comes_and_goes_while_pages_are_loaded(world: World, autojump_clock: MockClock) -> None:
    """QoS 2 once each and in order, whether its connection or the broker ends in the middle."""
    await world.subscriber("c", "t", 2)
    await many(world, COUNT, qos=2)
    found: list[bytes] = []
    turn = 0
    while len(found) < COUNT:
        turn += 1
        async with world.client("c") as client:
            for _ in range(min(350, COUNT - len(found))):
                found.append((await client.receive()).payload)
            if turn % 3:
                await settle()
            if turn % 2:
                await world.restart()
    assert found == numbers(COUNT)
    assert await later(world, "c") == []


@pytest.mark.parametrize("restarts", [0, 1])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_client_that_never_acknowledges_gets_all_its_window_takes(
    world: World, autojump_clock: MockClock, qos: int, restarts: int
) -> None:
    """Large messages, which leave in several pieces: no page is waited for in vain."""
    world.settings["max_inflight"] = 65535
    await world.restart()
    await world.subscriber("c", "t", 2)
    await many(world, COUNT, qos=qos, size=1000)
    for _ in range(restarts):
        await world.restart()
    async with world.client("c", auto_ack=False) as client:
        found = [message.payload.rstrip(b".") for message in await rest(client)]
    wanted = numbers(COUNT)
    # Without QoS only what lies in the store comes back after a restart.
    wanted = wanted[WINDOW:] if restarts and not qos else wanted
    assert len(found) == len(wanted)
    assert found == wanted


@pytest.mark.parametrize("restarts", [0, 1])
async def test_the_oldest_is_dropped_at_the_limit(world: World, autojump_clock: MockClock, restarts: int) -> None:
    """One for each that is too much, counted as such."""
    world.settings["max_mqueue_len"] = 1500
    await world.restart()
    await world.subscriber("c", "t", 1)
    await many(world, 1400)
    for _ in range(restarts):
        await world.restart()
    await many(world, 700, start=1400)
    info = await world.broker.questions.client("c")
    assert info is not None
    assert (info.mqueue_len, info.mqueue_dropped, info.mqueue_max) == (1500, 600, 1500)
    assert info.stats["send_msg.dropped.queue_full"] == 600
    metrics = await world.broker.questions.metrics()
    assert metrics["delivery.dropped.queue_full"] == metrics["delivery.dropped"] == 600
    assert payloads(await later(world, "c")) == numbers(1500, 600)
    assert await world.rows("q") == await world.rows("msg") == 0


async def test_the_oldest_is_dropped_while_pages_are_loaded(world: World, autojump_clock: MockClock) -> None:
    world.settings["max_mqueue_len"] = 1500
    await world.restart()
    await world.subscriber("c", "t", 1)
    await many(world, 1500)
    await world.restart()
    async with world.client("c", auto_ack=False) as client:
        await many(world, 1600, start=1500)
        found = payloads(await rest(client))
        assert found == numbers(len(found))
        assert len(found) == 32  # its window
    count = 3100
    assert await world.queue("c") != []
    assert [row.payload for row in await world.queue("c")] == numbers(1500, count - 1500)
    await world.restart()
    again = payloads(await later(world, "c"))
    assert again == found + numbers(1500, count - 1500)


async def test_a_lower_limit_after_the_restart_leaves_the_newest(world: World, autojump_clock: MockClock) -> None:
    await world.subscriber("c", "t", 1)
    await many(world, COUNT)
    await world.restart(max_mqueue_len=1200)
    info = await world.broker.questions.client("c")
    assert info is not None
    assert info.mqueue_len == 1200
    assert info.mqueue_dropped == 0 or info.mqueue_dropped == COUNT - 1200
    assert await world.rows("q") == await world.rows("msg") == 1200
    await world.restart(max_mqueue_len=10)
    assert payloads(await later(world, "c")) == numbers(10, COUNT - 10)


@pytest.mark.parametrize("limit", [1, 333, 1000, 10_000])
async def test_rest_pages_through_all_of_it(world: World, autojump_clock: MockClock, limit: int) -> None:
    """Also through the part in the store; the token of the start stays that of the oldest."""
    count = COUNT if limit > 1 else 1100
    await world.subscriber("c", "t", 1)
    await many(world, count)
    before = await pages(world, "c", limit)
    assert [row.payload for row in before.rows] == numbers(count)
    assert set(before.starts) == {before.rows[0].inserted_at_ns}
    assert len({row.inserted_at_ns for row in before.rows}) == count
    await world.restart()
    assert await pages(world, "c", limit) == before
    async with world.client("c") as client:
        for _ in range(250):
            await client.receive()
        await settle()
        left = await pages(world, "c", limit)
    assert [row.payload for row in left.rows] == numbers(len(left.rows), count - len(left.rows))


@pytest.mark.parametrize("restarts", [0, 1])
async def test_messages_expire_anywhere_in_a_long_queue(world: World, autojump_clock: MockClock, restarts: int) -> None:
    """[MQTT-3.3.2-5]"""
    await world.subscriber("c", "t", 1)
    short: Properties = {"message_expiry_interval": 100}
    new = [
        NewMessage("t", payload, 1, False, short if number % 3 else {}) for number, payload in enumerate(numbers(COUNT))
    ]
    await world.broker.questions.publish(new)
    await trio.sleep(60)
    for _ in range(restarts):
        await world.restart(away=30)
    await trio.sleep(60)
    assert payloads(await later(world, "c")) == numbers(COUNT)[::3]
    assert await world.rows("q") == await world.rows("msg") == 0


@pytest.mark.parametrize("restarts", [0, 1])
@pytest.mark.parametrize("end", ["kick", "clean start", "expiry"])
async def test_what_a_member_of_a_group_leaves_behind_goes_to_others(
    world: World, autojump_clock: MockClock, end: str, restarts: int
) -> None:
    """[MQTT 5.0 section 4.8.2] also what of it lies in the store; what was for the member alone goes to nobody."""
    await world.subscriber("heir", "$share/g/t", 1)
    await world.subscriber("c", "$share/g/t", 1, properties={"session_expiry_interval": 100})
    async with world.client("c", properties={"session_expiry_interval": 100}) as client:
        await client.subscribe("own", 1)
        await client.unsubscribe("$share/g/t")
    await world.broker.questions.kick("heir")
    await world.subscriber("c", "$share/g/t", 1, properties={"session_expiry_interval": 100})
    await many(world, COUNT)
    await many(world, 10, topic="own")
    await world.subscriber("heir", "$share/g/t", 1)
    for _ in range(restarts):
        await world.restart()
    match end:
        case "kick":
            await world.broker.questions.kick("c")
        case "clean start":
            async with world.client("c", clean_start=True):
                await settle()
        case _:
            await trio.sleep(101)
    await settle()
    assert await world.queue("heir") != []
    await world.restart()
    found = await later(world, "heir")
    assert payloads(found) == numbers(COUNT)
    assert {message.topic_name for message in found} == {"t"}
    assert await world.rows("q") == await world.rows("msg") == 0


async def test_a_kill_while_a_group_inherits_a_queue_loses_nothing(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session is gone, and what it leaves to others has not been read yet: it is theirs after the restart."""

    async def queue(rows: Sequence[int]) -> list[Outgoing]:
        await trio.sleep_forever()
        return []

    async with open_world(("sqlite", "kill"), tmp_path, monkeypatch, max_mqueue_len="infinity") as world:
        await world.subscriber("c", "$share/g/t", 1)
        await many(world, COUNT)
        await world.subscriber("heir", "$share/g/t", 1)
        await world.restart()
        monkeypatch.setattr(world.store, "queue", queue)
        await world.broker.questions.kick("c")
        await world.restart()
        assert sorted(payloads(await later(world, "heir")), key=int) == numbers(COUNT)
        assert await world.rows("q") == await world.rows("msg") == 0


async def test_the_end_of_a_session_takes_a_long_queue_with_it(world: World, autojump_clock: MockClock) -> None:
    await world.subscriber("c", "t", 1)
    await world.subscriber("other", "t", 1)
    await many(world, COUNT)
    await world.restart()
    await world.broker.questions.kick("c")
    assert await world.rows("q") == await world.rows("msg") == COUNT
    await world.restart()
    assert payloads(await later(world, "other")) == numbers(COUNT)
    assert await world.rows("q") == await world.rows("msg") == 0


async def test_all_levels_of_service_in_a_long_queue(world: World, autojump_clock: MockClock) -> None:
    """QoS 0, too, once each; in order among those of one QoS."""
    await world.subscriber("c", "t", 2)
    new = [NewMessage("t", payload, number % 3) for number, payload in enumerate(numbers(COUNT))]
    await world.broker.questions.publish(new)
    assert [row.payload for row in await world.queue("c")] == numbers(COUNT)
    found = await later(world, "c")
    assert Counter(payloads(found)) == Counter(numbers(COUNT))
    for qos in range(3):
        assert [message.payload for message in found if message.qos == qos] == numbers(COUNT)[qos::3]
    assert await world.rows("q") == await world.rows("msg") == 0
