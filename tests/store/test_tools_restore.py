"""`trio-broker restore`: as a process, on real files; and which files it refuses, as `check` does."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
from store.tools_world import SMALL, documents, files_in, make_store, run

from trio_broker import cli
from trio_broker.store.files import FILE_NAME, locked
from trio_broker.store.schema import APPLICATION_ID

WRITTEN = r"written \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC by trio-broker \S+"


def test_a_restore_sets_the_old_store_aside_and_takes_the_backup(tmp_path: Path) -> None:
    """What was set aside can be restored again, with what was only in its write-ahead log."""
    old = make_store(tmp_path / "old", sessions=5)
    holder = apsw.Connection(str(old))
    holder.execute("INSERT INTO doc VALUES ('a', 'b', 1, '{}')")
    shutil.copytree(tmp_path / "old", tmp_path / "data")
    holder.close()
    make_store(tmp_path / "source")
    assert run(tmp_path, "backup", "b.db", "--set=node.data_dir=source").code == 0
    before = (tmp_path / "b.db").read_bytes()
    done = run(tmp_path, "restore", "b.db")
    assert (done.code, done.errors) == (0, "")
    first, second, third = done.output.splitlines()
    assert re.fullmatch(rf"b\.db: {SMALL}, {WRITTEN}", first)
    aside = re.fullmatch(r"data/trio-broker\.db was set aside as (data/trio-broker\.db\.replaced-[\d-]+)", second)
    assert aside is not None
    assert third == "data/trio-broker.db is what b.db was"
    assert (tmp_path / "b.db").read_bytes() == before
    names = {FILE_NAME, "trio-broker.lock", *(Path(aside[1]).name + part for part in ("", "-wal"))}
    assert set(files_in(tmp_path / "data")) == names
    assert stat.S_IMODE((tmp_path / "data" / FILE_NAME).stat().st_mode) == 0o600
    again = run(tmp_path, "restore", aside[1])
    assert (again.code, again.errors) == (0, "")
    assert "5 sessions, 15 queued messages" in again.output
    assert documents(tmp_path / "data" / FILE_NAME) == 1


def test_a_restore_to_a_new_place_makes_it(tmp_path: Path) -> None:
    make_store(tmp_path / "data").rename(tmp_path / "b.db")
    done = run(tmp_path, "restore", "b.db", "--set=node.data_dir=new/place")
    assert (done.code, done.errors, len(done.output.splitlines())) == (0, "", 2)
    assert run(tmp_path, "check", "--set=node.data_dir=new/place").code == 0


def test_what_root_restores_belongs_to_the_owner_of_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the broker, which is not root, could neither read its store nor lock it."""
    make_store(tmp_path / "source").rename(tmp_path / "b.db")
    given: list[tuple[str, int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda path, *owner: given.append((Path(path).name, *owner)))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["restore", "b.db"]) == 0
    owner = (tmp_path / "data").stat()
    (lock, *to_lock), (store, *to_store) = given
    assert lock == "trio-broker.lock"
    assert store.startswith(f".{FILE_NAME}.")
    assert to_lock == to_store == [owner.st_uid, owner.st_gid]


def test_what_is_left_of_another_store_does_not_mix_with_the_backup(tmp_path: Path) -> None:
    """A write-ahead log without its database would be read into the new one by SQLite."""
    make_store(tmp_path / "source").rename(tmp_path / "b.db")
    old = make_store(tmp_path / "data", sessions=5)
    holder = apsw.Connection(str(old))
    holder.execute("DELETE FROM session")
    log = (tmp_path / "data" / f"{FILE_NAME}-wal").read_bytes()
    holder.close()
    old.unlink()
    (tmp_path / "data" / f"{FILE_NAME}-wal").write_bytes(log)
    (tmp_path / "data" / f"{FILE_NAME}-journal").write_bytes(b"something")
    assert run(tmp_path, "restore", "b.db").code == 0
    assert set(files_in(tmp_path / "data")) >= {FILE_NAME}
    assert not (tmp_path / "data" / f"{FILE_NAME}-journal").exists()
    assert "  2 sessions\n" in run(tmp_path, "check").output
    kept = files_in(tmp_path / "data").values()
    assert log in kept
    assert b"something" in kept


def a_text(path: Path) -> None:
    path.write_text("Dear diary, " * 1000)


def nothing_at_all(path: Path) -> None:
    path.write_bytes(b"")


def half_of_it(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 8192 * 4096])


def a_bad_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-4096:] = b"\xff" * 4096
    path.write_bytes(content)


def another_program(path: Path) -> None:
    path.unlink()
    apsw.Connection(str(path)).execute("CREATE TABLE bookmark(x)")


def a_newer_schema(path: Path) -> None:
    db = apsw.Connection(str(path))
    db.pragma("user_version", 99)
    db.execute("UPDATE meta SET value = '9.9' WHERE name = 'written_by'")
    db.close()
    assert APPLICATION_ID.to_bytes(4, "big") in path.read_bytes()


def is_away(path: Path) -> None:
    path.unlink()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("command", ["restore", "check"])
@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (a_text, r"b\.db is damaged, or not a database at all: file is not a database"),
        (nothing_at_all, r"b\.db is empty: no broker has written to it"),
        (half_of_it, r"b\.db is damaged: .+"),
        (a_bad_page, r"b\.db is damaged: .+"),
        (another_program, r"b\.db is a database of another program"),
        (
            a_newer_schema,
            r"b\.db was written by trio-broker 9\.9 \(schema 99\); this is \S+, which knows schemas up to \d+",
        ),
        (is_away, r"b\.db is not there"),
        (a_folder, r"b\.db is not a file"),
    ],
)
def test_a_file_that_is_no_good_backup_is_refused(
    tmp_path: Path, command: str, spoil: Callable[[Path], None], line: str
) -> None:
    """It is said why in one line, or by the check at more length, and the store stays as it is."""
    make_store(tmp_path / "data")
    file = tmp_path / "b.db"
    shutil.copy(tmp_path / "data" / FILE_NAME, file)
    spoil(file)
    before = files_in(tmp_path / "data")
    done = run(tmp_path, command, "b.db")
    assert done.code == 1
    after = files_in(tmp_path / "data")
    after.pop("trio-broker.lock", None)
    assert after == before
    if command == "check" and spoil in (half_of_it, a_bad_page):
        assert done.errors == "" or re.fullmatch(f"trio-broker: {line}\n", done.errors)
        assert "wrong: places where the file is damaged: " in done.output or done.errors
    else:
        assert done.output == ""
        assert re.fullmatch(f"trio-broker: {line}\n", done.errors)


def test_a_directory_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    make_store(tmp_path / "data")
    make_store(tmp_path / "other").rename(tmp_path / "b.db")
    before = (tmp_path / "data" / FILE_NAME).read_bytes()
    with locked(tmp_path / "data"):
        done = run(tmp_path, "restore", "b.db")
    assert (done.code, done.output) == (1, "")
    assert done.errors.startswith("trio-broker: nothing was restored: data is in use by another broker (process ")
    assert (tmp_path / "data" / FILE_NAME).read_bytes() == before
