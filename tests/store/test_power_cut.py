"""What is left after the power fails: all that was promised, nothing in halves, and never a damaged file."""

from __future__ import annotations

import random
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from attrs import define
from store.driver import Driver, step_of
from store.model import TestWall, assert_same, look_at, read
from store.shims import Counting, PowerCut, Remains, syncs_of_the_system
from store.using import GUARD, Use, committed, ignore, opened, used, what_is_kept
from trio.testing import MockClock

from trio_broker.store.files import FILE_NAME
from trio_broker.store.operations import PutDocument
from trio_broker.store.sqlite import SqliteStore

CUTS = 16


@define
class Cut:
    """What was left, and the last step that was promised when the power failed."""

    remains: Remains
    promised: int


@asynccontextmanager
async def written(
    directory: Path, durability: str, seed: int, *, is_real: bool, often: bool = True
) -> AsyncIterator[tuple[Driver, list[Cut]]]:
    """Some cuts at random moments of a writer; `often`: with many short bursts."""
    chance = random.Random(seed)
    cuts: list[Cut] = []
    wall = TestWall(is_real=is_real)
    with PowerCut() as disk, trio.fail_after(GUARD):
        store = SqliteStore(directory, durability, vfs=disk.name)
        # Checkpoints, too, are cut in two.
        await store.open(wall, ignore)
        async with trio.open_nursery() as nursery:
            await nursery.start(store.run)
            assert store._database._db is not None
            store._database._db.pragma("wal_autocheckpoint", 20)
            driver = Driver(store, wall, seed)
            promised = 0

            def promise(step: int) -> Callable[[], None]:
                def done() -> None:
                    nonlocal promised
                    promised = max(promised, step)

                return done

            while len(cuts) < CUTS:
                driver.new_burst()
                for _ in range(chance.randint(1, 8 if often else 40)):
                    ticket = driver.go()
                    ticket.then(promise(driver.step))
                    for _ in range(chance.choice((0, 0, 1, 3))):
                        await trio.lowlevel.checkpoint()
                    if is_real and chance.random() < 0.3:
                        await trio.sleep(chance.random() * 0.002)  # in the middle of a commit
                    if driver.step > 20 and chance.random() < 0.15 and len(cuts) < CUTS:
                        piece = chance.choice((512, 4096))
                        before = promised
                        cuts.append(Cut(disk.cut(chance.choice((None, chance)), piece), before))
                await committed(store)
            nursery.cancel_scope.cancel()
        await store.close()
    yield driver, cuts


async def after(cut: Cut, driver: Driver, directory: Path) -> int:
    """The step that a new store finds; what it finds is exactly what was there after that step."""
    cut.remains.write_to(directory)
    look_at(directory / FILE_NAME)
    found = await what_is_kept(directory)
    step = step_of(found.state)
    assert_same(found.state, driver.states[step])
    return step


@pytest.mark.parametrize("seed", range(8))
async def test_what_was_promised_survives_a_power_cut(tmp_path: Path, seed: int) -> None:
    """At "full", with threads: no promised step is missing, and none is there in part."""
    async with written(tmp_path / "store", "full", seed, is_real=True) as (driver, cuts):
        for number, cut in enumerate(cuts):
            (directory := tmp_path / str(number)).mkdir()
            assert await after(cut, driver, directory) >= cut.promised
            shutil.rmtree(directory)
    assert cuts[-1].promised > 0


@pytest.mark.parametrize("seed", range(8))
async def test_what_was_promised_survives_a_power_cut_inline(
    tmp_path: Path, seed: int, autojump_clock: MockClock
) -> None:
    """The same under a mock clock, where commits are made inside the loop."""
    async with written(tmp_path / "store", "full", 100 + seed, is_real=False) as (driver, cuts):
        for number, cut in enumerate(cuts):
            (directory := tmp_path / str(number)).mkdir()
            assert await after(cut, driver, directory) >= cut.promised
            shutil.rmtree(directory)
    assert cuts[-1].promised > 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("durability", ["normal", "relaxed"])
async def test_less_durable_levels_lose_the_end_only(tmp_path: Path, durability: str, seed: int) -> None:
    """A power cut leaves what was there after some step, and never a damaged file."""
    async with written(tmp_path / "store", durability, 200 + seed, is_real=True, often=False) as (driver, cuts):
        for number, cut in enumerate(cuts):
            (directory := tmp_path / str(number)).mkdir()
            assert 0 <= await after(cut, driver, directory) <= driver.step
            shutil.rmtree(directory)


@pytest.mark.parametrize(("durability", "survives"), [("full", True), ("normal", False)])
async def test_a_cut_takes_what_was_not_synced(
    tmp_path: Path, durability: str, survives: bool, autojump_clock: MockClock
) -> None:
    """The tests above are worth something: the last commit is lost where nothing syncs it."""
    with PowerCut() as disk:
        async with used(SqliteStore(tmp_path / "store", durability, vfs=disk.name)) as use:
            await use.store.write(PutDocument("n", "1", "1")).wait()
            remains = disk.cut()
    (left := tmp_path / "left").mkdir()
    remains.write_to(left)
    assert (await what_is_kept(left)).state.documents == ({("n", "1"): "1"} if survives else {})


async def test_writing_goes_on_after_a_power_cut(tmp_path: Path) -> None:
    """What is written after one power cut survives the next, whatever the first left in the write-ahead log."""
    chance = random.Random(3)
    directory = tmp_path / "0"
    wall = TestWall(is_real=True)
    for number in range(1, 9):
        with PowerCut() as disk, trio.fail_after(GUARD):
            for path in directory.glob("*.db*"):
                disk.is_there(str(path))
            store = SqliteStore(directory, vfs=disk.name)
            async with used(store, wall) as use:
                before = await read(store, wall)
                assert list(before.state.documents) == [("n", str(earlier)) for earlier in range(1, number)]
                await store.write(PutDocument("n", str(number), "1")).wait()
                remains = disk.cut(chance, 512)
                assert use.told == []
        directory = tmp_path / str(number)
        directory.mkdir()
        remains.write_to(directory)


async def test_each_commit_is_synced_at_full_and_few_are_at_normal(tmp_path: Path) -> None:
    """What the levels are for: one sync for each commit, or next to none."""
    syncs = {}
    for durability in ("full", "normal"):
        with Counting() as disk, trio.fail_after(GUARD):
            async with used(SqliteStore(tmp_path / durability, durability, vfs=disk.name)) as use:
                disk.counts.clear()
                for number in range(50):
                    await use.store.write(PutDocument("n", str(number), "1")).wait()
                syncs[durability] = disk.counts["sync"]
    assert syncs["full"] >= 50
    assert syncs["normal"] < 10


@pytest.mark.parametrize("durability", ["normal", "relaxed"])
async def test_an_idle_store_is_synced_within_two_seconds(
    tmp_path: Path, durability: str, autojump_clock: MockClock
) -> None:
    """At less than "full" the last commits do not wait for the next ones to get onto the disk."""
    with PowerCut() as disk, syncs_of_the_system(disk.synced):
        async with used(SqliteStore(tmp_path / "store", durability, vfs=disk.name)) as use:
            for number in range(5):
                use.write(PutDocument("n", str(number), "1"))
                await trio.sleep(0.01)
            await trio.sleep(2)
            remains = disk.cut()
    (left := tmp_path / "left").mkdir()
    remains.write_to(left)
    assert len((await what_is_kept(left)).state.documents) == 5


async def test_a_copy_that_changes_while_it_is_committed_is_as_it_was_before(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """A turn is durable whole or not at all: of one that came after the commit began nothing is in that commit."""
    store, wall = SqliteStore(tmp_path / "store"), TestWall()
    (left := tmp_path / "left").mkdir()
    async with opened(store, wall):
        use = Use(store, wall)
        use.begin()
        first, second = use.copy(), use.copy()
        first.packet_identifier = first.phase = 1
        use.add(first)
        await store._commit(store._take())
        use.add(second)
        wanted = use.model.state()
        batch = store._take()
        # The next turn: the first is acknowledged, the second gets its packet identifier.
        use.remove(first)
        second.packet_identifier = second.phase = 1
        use.change(second)
        await store._commit(batch)
        for path in store.data_dir.glob("*.db*"):
            if not path.name.endswith("-shm"):
                shutil.copy(path, left)
    assert_same((await what_is_kept(left)).state, wanted)
