"""`trio-broker backup`, and what all commands for the store have in common: on real files, also beside a broker."""

from __future__ import annotations

import re
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import apsw
import pytest
import trio
from store.tools_world import GUARD, SMALL, broker, documents, files_in, make_store, run, run_beside

from trio_broker import cli
from trio_broker.protocol.packets import Properties
from trio_broker.store import backup
from trio_broker.store.backup import Copy, open_to_read
from trio_broker.store.files import FILE_NAME
from trio_broker.testing import open_client

LONG: Properties = {"session_expiry_interval": 100_000}


async def test_a_backup_of_a_busy_broker_has_all_that_was_acknowledged_before(tmp_path: Path) -> None:
    """Also: beside a running broker a check finds nothing wrong, and a restore is refused."""
    acknowledged = 0
    more = trio.Event()

    async def publish(address: tuple[str, int]) -> None:
        nonlocal acknowledged, more
        async with open_client(address, client_id="publisher") as client:
            while True:
                await client.publish("t", str(acknowledged).encode(), qos=1)
                acknowledged += 1
                more.set()
                more = trio.Event()

    async def until(count: int) -> None:
        while acknowledged < count:
            await more.wait()

    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    file = str(tmp_path / "backup.db")
    with trio.fail_after(2 * GUARD):
        with broker(first) as running:
            async with open_client(running.address, client_id="away", clean_start=False, properties=LONG) as client:
                await client.subscribe("t", 1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(publish, running.address)
                await until(300)
                before = acknowledged
                done = await run_beside(first, "backup", file)
                assert (done.code, done.errors) == (0, "")
                checked = await run_beside(first, "check")
                assert (checked.code, checked.output.splitlines()[-1]) == (0, "all is well"), checked.output
                refused = await run_beside(first, "restore", file)
                await until(acknowledged + 1)
                nursery.cancel_scope.cancel()
        assert (refused.code, refused.output, refused.errors) == (
            1,
            "",
            f"trio-broker: nothing was restored: data is in use by another broker (process {running.pid})\n",
        )
        restored = await run_beside(second, "restore", file)
        assert (restored.code, restored.errors) == (0, "")
        queued = int(re.findall(r" ([\d,]+) queued messages", restored.output)[0].replace(",", ""))
        assert queued >= before
        with broker(second) as running:
            async with open_client(running.address, client_id="away", clean_start=False, properties=LONG) as client:
                assert client.session_present
                payloads = [int((await client.receive()).payload) for _ in range(queued)]
        assert payloads == list(range(queued))


WRITER = """
import sys, apsw
db = apsw.Connection(sys.argv[1])
db.pragma("journal_mode", "wal")
for line in sys.stdin:
    db.execute("INSERT INTO doc VALUES ('test', ?, 1, '{}')", (line,))
    db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    print("written", flush=True)
"""


def test_a_writer_neither_restarts_a_copy_nor_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each few pages another process commits and checkpoints; the copy is of the moment it began."""
    monkeypatch.setattr(backup, "PAGES_A_STEP", 4)
    source = make_store(tmp_path / "data", queued=100, payload=1000)
    target = tmp_path / "backup.db"
    steps: list[tuple[int, int]] = []
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(source)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:

        def told(doing: str, done: int, total: int) -> None:
            if doing == "copying":
                steps.append((done, total))
                assert writer.stdin is not None
                assert writer.stdout is not None
                writer.stdin.write(f"{len(steps)}\n")
                writer.stdin.flush()
                assert writer.stdout.readline() == "written\n"

        with Copy(source, target) as copy:
            copy.make(told, backup_at=None)
            copy.place()
    pages = steps[0][1]
    assert len(steps) > 5
    assert steps == [(min(done, pages), pages) for done in range(4, pages + 4, 4)]
    assert documents(target) == 0
    assert documents(source) == len(steps)


def test_a_backup_is_one_file_for_its_owner_alone(tmp_path: Path) -> None:
    """Of a store without a broker, with what is only in its write-ahead log; configured before or after the command."""
    data = tmp_path / "kept"
    store = make_store(data)
    holder = apsw.Connection(str(store))
    holder.execute("INSERT INTO doc VALUES ('a', 'b', 1, '{}')")
    shutil.copytree(data, tmp_path / "killed")
    holder.close()
    (tmp_path / "broker.toml").write_text('[node]\ndata_dir = "killed"\n')
    assert (tmp_path / "killed" / f"{FILE_NAME}-wal").stat().st_size
    done = run(tmp_path, "-c", "broker.toml", "backup", "backup.db")
    assert (done.code, done.errors) == (0, "")
    assert re.fullmatch(rf"backup\.db: {SMALL}\n", done.output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup.db", "broker.toml", "kept", "killed"]
    assert stat.S_IMODE((tmp_path / "backup.db").stat().st_mode) == 0o600
    assert (tmp_path / "backup.db").read_bytes()[18:20] == b"\1\1"  # the journal mode of its header: not WAL
    assert documents(tmp_path / "backup.db") == 1
    again = run(tmp_path, "backup", "-c", "broker.toml", "--set", "node.data_dir=kept", "backup.db", "--force")
    assert (again.code, again.output, again.errors) == (0, done.output, "")


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["backup", "there"], 1, "there is there already: --force lets the backup take its place"),
        (["backup", "--force", "data"], 1, "data is there, and it is not a regular file"),
        (["backup", "--force", "link"], 1, "link is there, and it is not a regular file"),
        (["backup", "none/x"], 1, "none is not a directory that is there"),
        (["backup", ""], 1, ". is there, and it is not a regular file"),
        (["backup", "other"], 1, "other-wal belongs to another database that was called other: remove it first"),
        (
            ["backup", "--force", "data/trio-broker.db"],
            1,
            "data/trio-broker.db is a file of the store itself: a backup needs another name",
        ),
        (
            ["backup", "data/trio-broker.db-wal"],
            1,
            "data/trio-broker.db-wal is a file of the store itself: a backup needs another name",
        ),
        (["backup", "--force", "hard"], 1, "hard is a file of the store itself: a backup needs another name"),
        (
            ["backup", "x", "--set=node.data_dir=none"],
            1,
            "none is not a directory that is there: is node.data_dir right?",
        ),
        (["backup", "x", "--set=node.data_dir=empty"], 1, "there is no store in empty: is node.data_dir right?"),
        (["check", "--set=node.data_dir=empty"], 1, "there is no store in empty: is node.data_dir right?"),
        (["restore", "hard"], 1, "hard is the store itself: there is nothing to restore"),
        (["--set=node.data_dir=", "check"], 2, "node.data_dir: is empty, so nothing is kept on disk"),
        (
            ["check", "--set=node.dir=x"],
            2,
            '--set: node.dir: unknown key (value "x"); the nearest known key is node.data_dir',
        ),
        (["--check", "check"], 2, "--check is for starting the broker; to look at the store: trio-broker check (see "),
    ],
)
def test_what_cannot_be_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    line: str,
) -> None:
    """And leaves everything as it was."""
    store = make_store(tmp_path / "data")
    (tmp_path / "empty").mkdir()
    (tmp_path / "there").write_text("something")
    (tmp_path / "other-wal").write_text("something")
    (tmp_path / "link").symlink_to("there")
    (tmp_path / "hard").hardlink_to(store)
    monkeypatch.chdir(tmp_path)
    before = files_in(tmp_path), files_in(tmp_path / "data")
    try:
        found = cli.main(arguments)
    except SystemExit as end:
        found = int(str(end.code))
    captured = capsys.readouterr()
    assert (found, captured.out) == (code, "")
    assert captured.err.startswith(f"trio-broker: {line}")
    assert captured.err.count("\n") == 1
    assert (files_in(tmp_path), files_in(tmp_path / "data")) == before


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["backup"], "trio-broker backup: the following arguments are required: FILE (see trio-broker backup --help)"),
        (
            ["restore"],
            "trio-broker restore: the following arguments are required: FILE (see trio-broker restore --help)",
        ),
        (["check", "--frob"], "trio-broker check: unrecognized arguments: --frob (see trio-broker check --help)"),
        (["bakup", "x"], "trio-broker: unrecognized arguments: bakup x (see trio-broker --help)"),
    ],
)
def test_wrong_use_is_one_line(tmp_path: Path, arguments: list[str], line: str) -> None:
    done = run(tmp_path, *arguments)
    assert (done.code, done.output, done.errors) == (2, "", f"{line}\n")


def test_a_disk_without_room_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_store(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    free = shutil.disk_usage(tmp_path)._replace(free=20_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    assert cli.main(["backup", "sub.db"]) == 1
    line = r"trio-broker: \. has no room: \d+ kB are needed for the copy, 20 kB are free\n"
    assert re.fullmatch(line, capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path: Path) -> None:
    make_store(tmp_path / "data", queued=100, payload=10_000)
    done = run(tmp_path, "backup", "backup.db", largest_file=102_400)
    assert (done.code, done.output) == (1, "")
    assert done.errors == "trio-broker: data/trio-broker.db cannot be copied to backup.db: File too large\n"
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("moment", ["copying", "checking the file"])
@pytest.mark.parametrize("command", ["backup", "restore"])
def test_an_interruption_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, moment: str
) -> None:
    make_store(tmp_path / "data")
    make_store(tmp_path / "other").rename(tmp_path / "old.db")
    file = {"backup": "new.db", "restore": "old.db"}[command]

    class Interrupted:
        def __call__(self, doing: str, done: int, total: int) -> None:
            if doing == moment:
                signal.raise_signal(signal.SIGTERM)

        def end(self) -> None:
            """Nothing was said."""

    monkeypatch.setattr(cli, "Progress", Interrupted)
    monkeypatch.setattr(backup, "STEPS_A_LOOK", 10)
    monkeypatch.chdir(tmp_path)
    before = files_in(tmp_path), set(files_in(tmp_path / "data"))
    handler = signal.getsignal(signal.SIGTERM)
    assert cli.main([command, file]) == 130
    assert signal.getsignal(signal.SIGTERM) is handler
    assert capsys.readouterr().err == "trio-broker: interrupted\n"
    assert (files_in(tmp_path), set(files_in(tmp_path / "data")) - {"trio-broker.lock"}) == before


def test_a_damaged_store_is_not_backed_up(tmp_path: Path) -> None:
    store = make_store(tmp_path / "data")
    store.write_bytes(store.read_bytes()[:-4096] + b"\xff" * 4096)
    done = run(tmp_path, "backup", "b.db")
    assert (done.code, done.output) == (1, "")
    assert re.fullmatch(r"trio-broker: data/trio-broker\.db is damaged: .+\n", done.errors)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_broker_starts_while_its_store_is_read(tmp_path: Path) -> None:
    """As after a crash, with something in the write-ahead log: a backup or a check keeps no broker from starting."""
    store = make_store(tmp_path / "data")
    writer = apsw.Connection(str(store))
    writer.execute("INSERT INTO doc VALUES ('a', 'b', 1, '{}')")
    reader = open_to_read(store)
    try:
        with broker(tmp_path) as running:
            assert running.address[1]
    finally:
        reader.close()
        writer.close()
