"""What a store finds when it is opened: another broker, a file that is none of its own, a damaged one, an older one."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
import trio
from store.driver import Driver
from store.model import TestWall, assert_same, look_at, read
from store.shims import Failing
from store.using import ignore, opened, used, what_is_kept
from trio.testing import MockClock

from trio_broker.errors import ConfigError
from trio_broker.store.files import FILE_NAME, LOCK_NAME, locked
from trio_broker.store.operations import DeleteSession, PutDocument
from trio_broker.store.schema import APPLICATION_ID, MIGRATIONS, migrate
from trio_broker.store.sqlite import SqliteStore
from trio_broker.version import __version__

NOBODY = 65534


async def refusal(store: SqliteStore) -> str:
    """The one line with which a store refuses to open; a second try is not hindered by the first."""
    messages = set()
    for _ in range(2):
        with pytest.raises(ConfigError) as caught:
            await store.open(TestWall(), ignore)
        assert caught.value.key == "node.data_dir"
        messages.add(str(caught.value))
    (message,) = messages
    assert "\n" not in message
    return message


def files_in(directory: Path) -> dict[str, bytes]:
    """What is there, but for the lock."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != LOCK_NAME}


async def fill(directory: Path, seed: int = 1, steps: int = 40) -> Driver:
    """Some random work, and a graceful end."""
    store = SqliteStore(directory)
    async with used(store) as use:
        driver = Driver(store, use.wall, seed)
        for _ in range(steps):
            driver.new_burst()
            await driver.go().wait()
    return driver


# -- who else uses it


async def test_a_second_store_on_a_directory_is_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    """In one line with the directory and the process that has it; when that is done, it may."""
    async with used(SqliteStore(tmp_path)) as use:
        message = await refusal(SqliteStore(tmp_path))
        assert str(tmp_path) in message
        assert str(os.getpid()) in message
        use.write(PutDocument("n", "1", "1"))
        await use.store.ticket.wait()
    async with used(SqliteStore(tmp_path)) as use:
        assert len((await read(use.store, use.wall)).state.documents) == 1


async def test_a_tool_with_the_lock_keeps_the_store_out(tmp_path: Path, autojump_clock: MockClock) -> None:
    with locked(tmp_path):
        assert "in use" in await refusal(SqliteStore(tmp_path))
    async with opened(SqliteStore(tmp_path), TestWall()):
        pass
    assert (tmp_path / FILE_NAME).exists()


async def test_the_file_is_for_its_owner_alone(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Messages and secrets are in it, and in its parts."""
    async with used(SqliteStore(tmp_path / "new" / "directory")) as use:
        await use.store.write(PutDocument("n", "1", "1")).wait()
        modes = {path.name: path.stat().st_mode & 0o777 for path in use.store.data_dir.iterdir()}
    assert set(modes) >= {FILE_NAME, FILE_NAME + "-wal", LOCK_NAME}
    assert set(modes.values()) == {0o600}


# -- what the user can mend


@pytest.fixture
def nobody() -> Iterator[Path]:
    """A directory that everybody can read, and a user who may do no more."""
    directory = Path(tempfile.mkdtemp())
    is_root = os.geteuid() == 0
    try:
        yield directory
    finally:
        if is_root:
            os.seteuid(0)
        directory.chmod(0o700)
        shutil.rmtree(directory)


def become_nobody(directory: Path) -> None:
    for path in directory.iterdir():
        path.chmod(0o444)
    directory.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(NOBODY)


async def test_a_directory_that_cannot_be_written_is_refused(nobody: Path, autojump_clock: MockClock) -> None:
    become_nobody(nobody)
    message = await refusal(SqliteStore(nobody))
    assert str(nobody) in message
    assert "Permission denied" in message


async def test_a_file_that_cannot_be_written_is_refused(nobody: Path, autojump_clock: MockClock) -> None:
    """And is as it was."""
    await fill(nobody)
    before = files_in(nobody)
    become_nobody(nobody)
    assert str(nobody) in await refusal(SqliteStore(nobody))
    if os.getuid() == 0:
        os.seteuid(0)
    assert files_in(nobody) == before


async def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in await refusal(SqliteStore(tmp_path / "file"))
    assert str(tmp_path / "file") in await refusal(SqliteStore(tmp_path / "file" / "below"))


async def test_a_directory_in_place_of_the_file_is_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    (tmp_path / FILE_NAME).mkdir()
    assert str(tmp_path / FILE_NAME) in await refusal(SqliteStore(tmp_path))
    assert (tmp_path / FILE_NAME).is_dir()


@pytest.mark.parametrize("error", [apsw.FullError, apsw.IOError, apsw.ReadOnlyError])
@pytest.mark.parametrize("kind", ["write", "sync"])
async def test_a_disk_that_fails_when_the_file_is_made_is_refused(
    tmp_path: Path, error: type[apsw.Error], kind: str, autojump_clock: MockClock
) -> None:
    """With the reason; nothing is set aside for that, and later it works."""
    with Failing() as disk:
        disk.fail(error, kind, files=("",))
        message = await refusal(SqliteStore(tmp_path, vfs=disk.name))
        assert str(tmp_path / FILE_NAME) in message
        assert "the disk fails" in message
        disk.heal()
        async with used(SqliteStore(tmp_path, vfs=disk.name)) as use:
            await use.store.write(PutDocument("n", "1", "1")).wait()
    assert len((await what_is_kept(tmp_path)).state.documents) == 1
    assert not [path for path in tmp_path.iterdir() if "damaged" in path.name]


@pytest.mark.parametrize("error", [apsw.FullError, apsw.IOError, apsw.ReadOnlyError])
async def test_a_full_disk_is_no_reason_not_to_start(
    tmp_path: Path, error: type[apsw.Error], autojump_clock: MockClock
) -> None:
    """What is there is read; what is written fails until there is room."""
    driver = await fill(tmp_path)
    with Failing() as disk:
        disk.fail(error)
        async with used(SqliteStore(tmp_path, vfs=disk.name)) as use:
            assert_same((await read(use.store, use.wall)).state, driver.states[-1])
            use.write(PutDocument("n", "1", "1"))
            await trio.sleep(10)
            assert not use.store.ticket.done
            assert [reason is None for reason in use.told] == [False]
            disk.heal()
            await use.store.ticket.wait()
    assert ("n", "1") in (await what_is_kept(tmp_path)).state.documents
    assert not [path for path in tmp_path.iterdir() if "damaged" in path.name]


# -- damage


async def set_aside(directory: Path, caplog: pytest.LogCaptureFixture, *, is_exact: bool = True) -> Path:
    """Open the damaged file: it is found under another name, which is logged, and the store begins empty.

    `is_exact`: no byte of what is set aside is another.
    """
    before = (directory / FILE_NAME).read_bytes()
    store = SqliteStore(directory)
    with caplog.at_level(logging.ERROR):
        async with used(store) as use:
            assert store.damaged is not None
            assert (await read(store, use.wall)).state.documents == {}
            await store.write(PutDocument("n", "new", "1")).wait()
    aside = Path(store.damaged)
    assert aside.parent == directory
    assert any(str(aside) in record.getMessage() for record in caplog.records)
    assert aside.read_bytes() == before or not is_exact
    assert list((await what_is_kept(directory)).state.documents) == [("n", "new")]
    return aside


@pytest.mark.parametrize("content", [b"hello\n", b"\0" * 8192, b"SQLite format 3\0" + b"\xff" * 5000, b"x" * 100_000])
async def test_what_is_no_database_is_set_aside(
    tmp_path: Path, content: bytes, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    await set_aside(tmp_path, caplog)


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
async def test_a_truncated_file_is_set_aside(
    tmp_path: Path, part: float, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    await fill(tmp_path)
    size = (tmp_path / FILE_NAME).stat().st_size
    os.truncate(tmp_path / FILE_NAME, int(size * part) // 4096 * 4096)
    await set_aside(tmp_path, caplog)


async def test_damage_in_the_middle_is_set_aside(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The head of a page that is not the first is overwritten; each time the old file gets a name of its own."""
    names = set()
    for _ in range(2):
        driver = await fill(tmp_path)
        assert len(driver.states) > 1
        with (tmp_path / FILE_NAME).open("r+b") as file:
            for page in range(2, 8):
                file.seek(page * 4096)
                file.write(b"\xa5" * 64)
        names.add(await set_aside(tmp_path, caplog))
        (tmp_path / FILE_NAME).unlink()
    assert len(names) == 2
    assert all(name.exists() for name in names)


async def test_the_parts_of_a_damaged_file_go_with_it(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A write-ahead log must not meet a database that it does not belong to."""
    (source := tmp_path / "source").mkdir()
    (target := tmp_path / "target").mkdir()
    async with used(SqliteStore(source)) as use:
        await use.store.write(PutDocument("n", "old", "1")).wait()
        for name in (FILE_NAME, FILE_NAME + "-wal"):
            shutil.copy(source / name, target / name)
    wal = (target / (FILE_NAME + "-wal")).read_bytes()
    assert wal
    (target / FILE_NAME).write_bytes(b"nothing of ours" * 1000)
    (target / (FILE_NAME + "-wal")).write_bytes(wal[:8] + bytes(24) + wal[32:])
    aside = await set_aside(target, caplog)
    assert aside.exists()


DAMAGES = {
    "a message": "UPDATE msg SET frame = x'c1'",
    "a message without its form": "UPDATE msg SET frame = x'80'",
    "a copy": "UPDATE q SET extra = x'c1'",
    "a phase": "UPDATE q SET state = state | 24 | 256",
    "a will": "UPDATE session SET will = x'c1'",
    "a will of another form": "UPDATE session SET will = x'80'",
    "a subscription": "UPDATE sub SET filter = 'a/#/b' WHERE id = (SELECT min(id) FROM sub)",
    "a retained message": "UPDATE retained SET frame = x'c1'",
    "the last message id": "UPDATE meta SET value = 'x' WHERE name = 'last_message_id'",
}


@pytest.mark.parametrize("what", DAMAGES)
async def test_damage_that_sqlite_does_not_see_is_refused_and_then_set_aside(
    tmp_path: Path, what: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """`load` says so in one line that promises that the next start sets the file aside; and it does."""
    await fill(tmp_path)
    database = apsw.Connection(str(tmp_path / FILE_NAME))
    database.execute("UPDATE q SET state = state | 256 | 8")  # loaded at the start, all of them
    database.execute(DAMAGES[what])
    copies = database.execute("SELECT count(*) FROM q").get
    assert copies
    database.close()
    store = SqliteStore(tmp_path)
    async with opened(store, TestWall()):
        with pytest.raises(ConfigError, match="the next start sets it aside"):
            async for _ in store.load():
                pass
    aside = await set_aside(tmp_path, caplog, is_exact=False)
    database = apsw.Connection(str(aside))
    assert database.execute("SELECT count(*) FROM q").get == copies
    database.close()


# -- what belongs to others, or to another version


def foreign(path: Path, *, journal: str, application: int) -> None:
    database = apsw.Connection(str(path))
    database.pragma("journal_mode", journal)
    database.pragma("application_id", application)
    database.execute("CREATE TABLE theirs(x); INSERT INTO theirs VALUES (1)")
    database.close()


@pytest.mark.parametrize("journal", ["delete", "wal"])
@pytest.mark.parametrize("application", [0, 1])
async def test_a_database_of_another_program_is_not_touched(
    tmp_path: Path, journal: str, application: int, autojump_clock: MockClock
) -> None:
    """Not a byte of it."""
    foreign(tmp_path / FILE_NAME, journal=journal, application=application)
    before = files_in(tmp_path)
    message = await refusal(SqliteStore(tmp_path))
    assert str(tmp_path / FILE_NAME) in message
    assert "another program" in message
    assert files_in(tmp_path) == before


async def test_a_newer_schema_is_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    """With the file, the version that wrote it, its schema and ours; and it stays as it is."""
    await fill(tmp_path)
    path = tmp_path / FILE_NAME
    database = apsw.Connection(str(path))
    database.execute("UPDATE meta SET value = '98.7' WHERE name = 'written_by'")
    database.pragma("user_version", 99)
    database.close()
    before = files_in(tmp_path)
    message = await refusal(SqliteStore(tmp_path))
    for part in (str(path), "98.7", "99", __version__, str(len(MIGRATIONS))):
        assert part in message
    assert files_in(tmp_path) == before


STEPS = (
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID; CREATE TABLE a(x);",
    "ALTER TABLE a ADD COLUMN y; UPDATE a SET y = x * 2;",
    "CREATE TABLE b(z); INSERT INTO b SELECT y FROM a;",
)


@pytest.fixture
def older(tmp_path: Path) -> Iterator[apsw.Connection]:
    """A file of the first of some made-up versions."""
    database = apsw.Connection(str(tmp_path / "older.db"))
    assert migrate(database, "file", STEPS[:1]) == 0
    database.execute("INSERT INTO a VALUES (21)")
    yield database
    database.close()


def content(database: apsw.Connection) -> list[object]:
    return [
        database.pragma("user_version"),
        database.pragma("application_id"),
        *database.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall(),
        *database.execute("SELECT * FROM meta ORDER BY name").fetchall(),
        *database.execute("SELECT * FROM a").fetchall(),
    ]


def test_an_older_schema_is_brought_up_step_by_step(older: apsw.Connection) -> None:
    older.execute("UPDATE meta SET value = '0.0' WHERE name = 'written_by'")
    assert migrate(older, "file", STEPS) == 1
    assert older.execute("SELECT z FROM b").get == 42
    assert older.pragma("user_version") == 3
    assert older.pragma("application_id") == APPLICATION_ID
    assert older.execute("SELECT value FROM meta WHERE name = 'written_by'").get == __version__
    before = content(older)
    assert migrate(older, "file", STEPS) == 3
    assert content(older) == before


@pytest.mark.parametrize(
    "failing",
    [
        "UPDATE a SET x = 0; CREATE TABLE b(z); INSERT INTO nothing VALUES (1);",
        "CREATE TABLE a(again);",
        "DELETE FROM a; nonsense",
    ],
)
def test_a_step_that_fails_leaves_the_file_as_it_was(older: apsw.Connection, failing: str) -> None:
    """Neither the step before it nor what it did itself is there."""
    before = content(older)
    with pytest.raises(apsw.Error):
        migrate(older, "file", (*STEPS[:2], failing))
    assert not older.in_transaction
    assert content(older) == before
    assert migrate(older, "file", STEPS) == 1


def test_a_newer_file_is_left_alone_by_migrate(older: apsw.Connection) -> None:
    migrate(older, "file", STEPS)
    before = content(older)
    with pytest.raises(ConfigError, match="schema 3"):
        migrate(older, "file", STEPS[:2])
    assert content(older) == before


# -- what a kill leaves


async def test_the_log_of_a_killed_broker_is_read(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A copy of the files in the middle of the work, with a lock file that nobody holds."""
    (left := tmp_path / "left").mkdir()
    store = SqliteStore(tmp_path / "store")
    async with used(store) as use:
        driver = Driver(store, use.wall, 3)
        for _ in range(30):
            driver.new_burst()
            await driver.go().wait()
        for path in store.data_dir.iterdir():
            shutil.copy(path, left)
    assert (left / (FILE_NAME + "-wal")).stat().st_size > 0
    assert_same((await what_is_kept(left)).state, driver.states[-1])
    look_at(left / FILE_NAME)


async def test_half_a_log_gives_what_was_there_before(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Whatever its end is: the batches before it are whole."""
    (left := tmp_path / "left").mkdir()
    store = SqliteStore(tmp_path / "store")
    async with used(store) as use:
        driver = Driver(store, use.wall, 4)
        for _ in range(10):
            driver.new_burst()
            await driver.go().wait()
        database = (store.data_dir / FILE_NAME).read_bytes()
        log = (store.data_dir / (FILE_NAME + "-wal")).read_bytes()
    steps = []
    for size in range(0, len(log) + 1, len(log) // 12):
        (left / FILE_NAME).write_bytes(database)
        (left / (FILE_NAME + "-wal")).write_bytes(log[:size])
        found = (await what_is_kept(left)).state
        step = int(found.documents.get(("test", "step"), "0"))
        assert_same(found, driver.states[step])
        steps.append(step)
        for path in left.iterdir():
            path.unlink()
    assert steps == sorted(steps)
    assert steps[0] == 0
    assert steps[-1] >= 9


async def test_the_end_of_a_store_leaves_one_file(tmp_path: Path, autojump_clock: MockClock) -> None:
    """No write-ahead log that could be forgotten in a copy; and keys of sessions are not given again."""
    await fill(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE_NAME, LOCK_NAME]
    store = SqliteStore(tmp_path)
    async with used(store) as use:
        found = await read(store, use.wall)
        assert store.new_key() > max(found.state.sessions)


async def test_the_key_of_a_session_that_ended_is_not_given_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Not even after a restart: what somebody may still write for the old one must not become that of the new one."""
    async with used(SqliteStore(tmp_path)) as use:
        use.begin()
        last = use.begin()
        await use.store.ticket.wait()
        use.write(DeleteSession(last))
    async with used(SqliteStore(tmp_path)) as use:
        assert use.store.new_key() > last
