"""A disk that fails for a while: nobody is told that anything is durable, and nothing is lost or there twice."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import apsw
import pytest
import trio
from store.driver import Driver
from store.model import TestWall, assert_same, look_at, plain_copy, read
from store.shims import Failing, PowerCut, Slow, syncs_of_the_system
from store.using import GUARD, Use, opened, used, what_is_kept
from trio.testing import MockClock

from trio_broker.errors import StoreError
from trio_broker.store import sqlite
from trio_broker.store.operations import DeleteDocument, PutDocument
from trio_broker.store.sqlite import SqliteStore

TROUBLES = [
    pytest.param(apsw.FullError, "write", "full", id="disk full"),
    pytest.param(apsw.IOError, "write", "full", id="error on write"),
    pytest.param(apsw.IOError, "sync", "full", id="error on sync"),
    pytest.param(apsw.FullError, "sync", "full", id="disk full on sync"),
    pytest.param(apsw.ReadOnlyError, "write", "full", id="read only"),
    pytest.param(apsw.FullError, "write", "normal", id="disk full, normal"),
    pytest.param(apsw.IOError, "write", "relaxed", id="error on write, relaxed"),
]


async def write_in_trouble(use: Use, disk: Failing, error: type[apsw.Error], kind: str) -> None:
    """Some before, some in each second of the failure, some after it."""
    store = use.store
    use.begin()
    kept = [use.copy() for _ in range(4)]
    use.add(*kept)
    await store.ticket.wait()
    disk.fail(error, kind)
    done: list[int] = []
    for number in range(6):
        use.add(*(copies := [use.copy(b"%d" % number), use.copy()]))
        use.remove(kept.pop()) if number < 3 else use.remove(copies[0])
        kept[0].packet_identifier = kept[0].phase = 1
        use.change(kept[0])
        use.write(PutDocument("n", str(number), "1"), DeleteDocument("n", str(number - 2)))
        store.ticket.then(lambda number=number: done.append(number))  # type: ignore[misc]
        await trio.sleep(1)
        if store._waits:
            assert not store.ticket.done
            assert done == []
        assert store.failure is not None
        assert "the disk fails" in store.failure
        assert str(store.path) in store.failure
        assert use.told == [store.failure]
    assert disk.attempts > 1
    disk.heal()
    await store.ticket.wait()
    await trio.sleep(10)  # "relaxed" has nothing to wait for
    assert store.failure is None
    assert done == list(range(6))
    assert len(use.told) == 2
    assert use.told[1] is None
    use.add(use.copy())
    await store.ticket.wait()


@pytest.mark.parametrize(("error", "kind", "durability"), TROUBLES)
async def test_after_a_failure_everything_is_there_once(
    tmp_path: Path, error: type[apsw.Error], kind: str, durability: str, autojump_clock: MockClock
) -> None:
    """Whatever failed: no ticket is done meanwhile, the reason is told once, and then that it is over."""
    with Failing() as disk:
        async with used(SqliteStore(tmp_path, durability, vfs=disk.name)) as use:
            await write_in_trouble(use, disk, error, kind)
            wanted = use.model.state()
    look_at(use.store.path)
    assert_same((await what_is_kept(tmp_path)).state, wanted)


async def test_a_failure_with_threads_and_random_work(tmp_path: Path) -> None:
    """The same with a real clock, a thread that writes, and failures that come and go."""
    chance = random.Random(5)
    wall = TestWall(is_real=True)
    with Failing() as disk, trio.fail_after(GUARD):
        async with used(SqliteStore(tmp_path, vfs=disk.name), wall) as use:
            driver = Driver(use.store, wall, 5)
            for _ in range(6):
                driver.new_burst()
                steps = [driver.go() for _ in range(3)]
                disk.fail(chance.choice((apsw.FullError, apsw.IOError)))
                for _ in range(5):
                    steps.append(driver.go())
                    await trio.sleep(0.002)
                disk.heal()
                await use.store.ticket.wait()
                assert all(ticket.done for ticket in steps)
                assert_same((await read(use.store, wall)).state, driver.states[-1])
            assert use.store.failure is None
            assert [reason is None for reason in use.told] == [False, True] * (len(use.told) // 2)
    look_at(use.store.path)
    assert_same((await what_is_kept(tmp_path)).state, driver.states[-1])


async def test_a_failure_of_another_kind_is_told_too(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Each reason once, and one end."""
    with Failing() as disk:
        async with used(SqliteStore(tmp_path, vfs=disk.name)) as use:
            for error in (apsw.FullError, apsw.ReadOnlyError):
                disk.fail(error, "write" if error is apsw.FullError else "truncate", "write")
                use.write(PutDocument("n", error.__name__, "1"))
                await trio.sleep(10)
            disk.heal()
            await use.store.ticket.wait()
    assert use.told[-1] is None
    assert None not in use.told[:-1]
    assert len(set(use.told)) == len(use.told)


@pytest.mark.parametrize("kind", ["write", "sync"])
async def test_what_waits_for_the_disk_is_read_from_memory(
    tmp_path: Path, kind: str, autojump_clock: MockClock
) -> None:
    """`queue` gives what is committed, what is being committed and what comes after it, in the order of the rows."""
    with Failing() as disk:
        async with used(SqliteStore(tmp_path, vfs=disk.name)) as use:
            use.begin()
            copies = [use.copy() for _ in range(3)]
            wanted = [plain_copy(copy, use.wall) for copy in copies]
            use.add(copies[0])
            await use.store.ticket.wait()
            disk.fail(apsw.FullError, kind)
            use.add(copies[1])
            await trio.sleep(1)
            assert use.store._committing is not None
            use.add(copies[2])
            rows = [copy.row for copy in copies]
            found = await use.store.queue(rows)
            assert [copy.row for copy in found] == rows
            assert [plain_copy(copy, use.wall) for copy in found] == wanted
            assert [copy.row for copy in await use.store.queue([rows[2], rows[1]])] == [rows[2], rows[1]]
            disk.heal()
            await use.store.ticket.wait()
            found = await use.store.queue(rows)
            assert [plain_copy(copy, use.wall) for copy in found] == wanted


@pytest.mark.parametrize("kind", ["write", "sync"])
async def test_a_store_closed_while_it_fails_fails_its_tickets(
    tmp_path: Path, kind: str, autojump_clock: MockClock
) -> None:
    """Both that of the batch that is tried again and again, and that of the next; what was promised is kept."""
    with Failing() as disk:
        store = SqliteStore(tmp_path, vfs=disk.name)
        async with used(store) as use:
            await store.write(PutDocument("n", "0", "1")).wait()
            disk.fail(apsw.FullError, kind)
            first = store.write(PutDocument("n", "1", "1"))
            await trio.sleep(1)
            second = store.write(PutDocument("n", "2", "1"))
            assert first is not second
            called: list[int] = []
            second.then(lambda: called.append(2))
        for ticket in (first, second):
            with trio.fail_after(10), pytest.raises(StoreError, match="the disk fails"):
                await ticket.wait()
        assert called == []
        assert use.told[1:] == []
    kept = (await what_is_kept(tmp_path)).state.documents
    assert kept[("n", "0")] == "1"


async def test_a_store_closed_before_it_failed_keeps_everything(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Writes nobody waited for are committed by `close`, and a failure that is over does not matter."""
    with Failing() as disk:
        async with used(SqliteStore(tmp_path, vfs=disk.name)) as use:
            disk.fail(apsw.FullError)
            use.write(PutDocument("n", "1", "1"))
            await trio.sleep(1)
            use.write(PutDocument("n", "2", "1"))
            ticket = use.store.ticket
            disk.heal()
        await ticket.wait()
    assert len((await what_is_kept(tmp_path)).state.documents) == 2


async def test_a_disk_too_slow_for_the_last_words_does_not_leave_anybody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the time for the last commits is over every ticket is resolved all the same; the file is closed later."""
    with Slow(0) as disk, trio.fail_after(GUARD):
        store = SqliteStore(tmp_path, vfs=disk.name)
        await store.open(TestWall(is_real=True), lambda _: None)
        async with trio.open_nursery() as nursery:
            await nursery.start(store.run)
            await store.write(PutDocument("n", "0", "1")).wait()
            nursery.cancel_scope.cancel()
        # As after a failure: one batch that was tried already, and another after it.
        first = store.write(PutDocument("n", "1", "1"))
        store._take()
        second = store.write(PutDocument("n", "2", "1"))
        disk.seconds = 0.3
        monkeypatch.setattr(sqlite, "LAST_WORDS", 0.1)
        await store.close()
        disk.seconds = 0
        assert first.done
        assert second.done
        for _ in iter(lambda: store._database._db is not None, False):  # the thread does it, unheard
            await trio.sleep(0.01)


@pytest.mark.parametrize("durability", ["normal", "relaxed"])
@pytest.mark.parametrize("how", ["busy", "idle", "closing"])
async def test_a_sync_of_the_system_that_fails_is_a_failure_of_the_disk(
    tmp_path: Path, durability: str, how: str, autojump_clock: MockClock
) -> None:
    """At less than "full", too: the committer goes on, and `close` ends with everything resolved and released."""
    failing = False

    def sync(path: str) -> None:
        if failing:
            raise OSError(errno.EIO, "Input/output error")

    store = SqliteStore(tmp_path, durability)
    with syncs_of_the_system(sync):
        async with used(store) as use:
            use.write(PutDocument("n", "0", "1"))
            await trio.sleep(5)
            store._database._synced_at = 0  # as if the last sync were long ago
            if how == "idle":
                store._database._synced_at = float("inf")
            failing = True
            use.write(PutDocument("n", "1", "1"))
            if how != "closing":
                await trio.sleep(5)
                failing = False
            ticket = store.ticket
        assert ticket.done
    failing = False
    assert len((await what_is_kept(tmp_path)).state.documents) == 2


class Forgetful(PowerCut):
    """Fails the next `failures` syncs of the write-ahead log; what waited for them never reaches the disk."""

    failures = 0

    def before(self, path: str, what: str) -> None:
        if self.failures and what == "sync" and path.endswith("-wal"):
            self.failures -= 1
            self.forget(path)
            raise apsw.IOError("the disk fails to sync (it was told to)")


@pytest.mark.parametrize("failures", [1, 2, 3, 4])
async def test_what_is_promised_after_a_failed_sync_survives_a_power_cut(
    tmp_path: Path, failures: int, autojump_clock: MockClock
) -> None:
    """Linux forgets what it could not sync: a sync that succeeds later says nothing about what was written before."""
    with Forgetful() as disk:
        async with used(SqliteStore(tmp_path / "store", vfs=disk.name)) as use:
            use.write(PutDocument("n", "0", "1"))
            await use.store.ticket.wait()
            disk.failures = failures
            for number in (1, 2):
                use.write(PutDocument("n", str(number), "1"))
                await use.store.ticket.wait()
            assert not disk.failures
            remains = disk.cut()
            wanted = use.model.state()
    (left := tmp_path / "left").mkdir()
    remains.write_to(left)
    assert_same((await what_is_kept(left)).state, wanted)


@pytest.mark.parametrize("column", ["msg.frame", "q.extra"])
async def test_a_reader_that_fails_leaves_the_writer_alone(
    tmp_path: Path, column: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A copy that makes no sense is left out, and the log says so; the rest of the queue is read."""
    store = SqliteStore(tmp_path)
    async with used(store) as use:
        use.begin()
        copy, good = use.copy(), use.copy()
        use.add(copy)
        use.add(good)
        await store.ticket.wait()
        table, name = column.split(".")
        database = apsw.Connection(str(store.path))
        database.execute(f"UPDATE {table} SET {name} = x'c1' WHERE id = ?", (copy.row,))
        database.close()
        assert [found.row for found in await store.queue([copy.row, good.row])] == [good.row]
        assert f"copy {copy.row} in the store makes no sense" in caplog.text
        await store.write(PutDocument("n", "1", "1")).wait()
        assert use.told == []


async def test_an_empty_write_is_durable(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Nothing was written, so there is nothing to wait for."""
    async with used(SqliteStore(tmp_path)) as use:
        with trio.fail_after(60):
            await use.store.write().wait()
        assert use.store.ticket.done


async def test_nobody_waits_for_room_while_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Who waited already is let go when it begins; after it the store catches up."""
    monkeypatch.setattr("trio_broker.store.gathering.ROWS_BEHIND", 3)
    with Failing() as disk:
        async with used(SqliteStore(tmp_path, vfs=disk.name)) as use:
            disk.fail(apsw.FullError)
            use.write(*(PutDocument("n", str(number), "1") for number in range(6)))
            assert use.store.is_behind
            with trio.fail_after(60):
                await use.store.room()
            await trio.sleep(1)
            use.write(*(PutDocument("n", str(number), "2") for number in range(6)))
            assert not use.store.is_behind
            with trio.fail_after(60):
                await use.store.room()
            disk.heal()
            await use.store.ticket.wait()
            assert not use.store.is_behind
            assert use.store.failure is None


async def test_two_stores_on_one_disk_fail_alone(tmp_path: Path, autojump_clock: MockClock) -> None:
    """What a failure leaves in memory belongs to one store."""
    with Failing() as disk:
        async with used(SqliteStore(tmp_path / "a", vfs=disk.name)) as bad, used(SqliteStore(tmp_path / "b")) as good:
            disk.fail(apsw.FullError)
            bad.write(PutDocument("n", "0", "1"))
            good.write(PutDocument("n", "0", "1"))
            await good.store.ticket.wait()
            assert good.told == []
            assert not bad.store.ticket.done
            disk.heal()
            await bad.store.ticket.wait()
    async with opened(SqliteStore(tmp_path / "a"), TestWall()):
        pass
    assert len((await what_is_kept(tmp_path / "a")).state.documents) == 1
