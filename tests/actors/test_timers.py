"""The broker's timers: exact deadlines, order, and that neither many nor cancelled ones hold anybody up.

Invariant: what takes turns is counted in turns of another task, not in seconds.
"""

from __future__ import annotations

from random import Random

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_broker.actors.timers import Timer, Timers


class Turns:
    """Counts how often others have their turn."""

    def __init__(self) -> None:
        self.count = 0

    async def run(self) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            self.count += 1


async def test_each_is_called_at_its_deadline_in_order(autojump_clock: MockClock) -> None:
    timers = Timers()
    called: list[tuple[str, float]] = []

    def note(name: str) -> None:
        called.append((name, trio.current_time() - start))

    async with trio.open_nursery() as nursery:
        start = trio.current_time()
        await nursery.start(timers.run)
        for name, delay in (("c", 3.0), ("a", 1.5), ("first of two", 2.0), ("second of two", 2.0), ("now", -1.0)):
            timers.at(start + delay, lambda name=name: note(name))  # type: ignore[misc]
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert called == [("now", 0.0), ("a", 1.5), ("first of two", 2.0), ("second of two", 2.0), ("c", 3.0)]
    assert len(timers) == 0


async def test_a_timer_set_by_a_timer(autojump_clock: MockClock) -> None:
    timers = Timers()
    called: list[float] = []

    def again() -> None:
        called.append(trio.current_time() - start)
        if len(called) < 3:
            timers.at(trio.current_time() + 1, again)

    async with trio.open_nursery() as nursery:
        start = trio.current_time()
        await nursery.start(timers.run)
        timers.at(start + 1, again)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert called == [1.0, 2.0, 3.0]


async def test_a_cancelled_timer_never_calls(autojump_clock: MockClock) -> None:
    timers = Timers()
    called: list[int] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(timers.run)
        made = [timers.at(trio.current_time() + 1, lambda number=number: called.append(number)) for number in range(5)]  # type: ignore[misc]
        made[0].cancel()
        made[3].cancel()
        await trio.sleep(2)
        made[1].cancel()  # too late, and no fault
        nursery.cancel_scope.cancel()
    assert called == [1, 2, 4]


async def test_cancelled_ones_are_swept_out(autojump_clock: MockClock) -> None:
    """A client that comes and goes leaves nothing, though its deadlines are far away."""
    timers = Timers()
    async with trio.open_nursery() as nursery:
        await nursery.start(timers.run)
        kept = [timers.at(trio.current_time() + 3600, lambda: None) for _ in range(1000)]
        for _ in range(50):
            for timer in [timers.at(trio.current_time() + 7200, lambda: None) for _ in range(1000)]:
                timer.cancel()
            await wait_all_tasks_blocked()
        assert len(timers) < 10_000
        assert all(timer.call is not None for timer in kept)
        nursery.cancel_scope.cancel()


async def test_while_they_are_swept_none_is_late_or_lost(autojump_clock: MockClock) -> None:
    timers = Timers()
    dice = Random(7)
    called: list[float] = []
    wanted: list[float] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(timers.run)

        def set_one() -> Timer:
            deadline = trio.current_time() + dice.choice((0.0, 0.5, 1.0, 60.0)) + dice.random()
            wanted.append(deadline)
            return timers.at(deadline, lambda: called.append(trio.current_time()))

        for _ in range(40):
            made = [set_one() for _ in range(500)]
            for timer in dice.sample(made, 400):
                wanted.remove(timer.deadline)
                timer.cancel()
            await trio.sleep(0.05)
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    assert called == sorted(wanted)
    assert len(timers) == 0


async def test_many_at_once_let_others_have_their_turn() -> None:
    timers = Timers()
    turns = Turns()
    called: list[int] = []
    async with trio.open_nursery() as nursery:
        for _ in range(10_000):
            timers.at(0.0, lambda: called.append(turns.count))
        nursery.start_soon(turns.run)
        await nursery.start(timers.run)
        while len(called) < 10_000:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert max(called.count(turn) for turn in set(called)) < 1000


async def test_many_cancelled_ones_at_the_front_do_so_too(autojump_clock: MockClock) -> None:
    timers = Timers()
    turns = Turns()
    before: list[int] = []
    now = trio.current_time()
    for timer in [timers.at(now + 15 + number / 1e6, lambda: None) for number in range(10_000)]:
        timer.cancel()
    timers.at(now, lambda: before.append(turns.count))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        await nursery.start(timers.run)
        while len(timers):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert turns.count - before[0] > 10
