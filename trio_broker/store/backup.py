"""A copy of a database, also while another process writes to it; and what is in one.

Invariant: what stands under the wanted name is whole, checked and on the disk; the source is never written to.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import apsw
from attrs import define

from trio_broker.errors import StoreError
from trio_broker.store.files import sync_directory, why
from trio_broker.store.schema import APPLICATION_ID, MIGRATIONS, version_of
from trio_broker.version import __version__

PAGES_A_STEP: Final = 500
"""Two megabytes: short enough that a signal is noticed at once."""
STEPS_A_LOOK: Final = 100_000
"""Instructions of SQLite's machine between two calls while it checks a file."""
BACKUP_AT: Final = "backup_at"
"""The row of `meta` that says when a copy was made, in milliseconds."""

Told = Callable[[str, int, int], None]
"""What is being done, how much of it is done, and how much there is; 0 of 0 = nobody knows."""


@define(frozen=True)
class Contents:
    """`written_at`: seconds since the epoch, when a backup was made, or else when the file changed last."""

    sessions: int
    queued: int
    retained: int
    schema: int
    written_by: str
    written_at: float
    size: int


def readable(size: int) -> str:
    """Bytes, in what they are counted best in."""
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"


def open_to_read(path: Path) -> apsw.Connection:
    """One of our databases, in a transaction: what is read is one moment of it, whoever writes.

    Raises StoreError, one line for a user, where there is none, it is not ours, or it is too new.
    """
    try:
        if not path.is_file():
            raise StoreError(f"{path} is not a file" if path.exists() else f"{path} is not there")
        # SQLite says of every file that cannot be opened just that.
        os.close(os.open(path, os.O_RDONLY))
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {why(error)}") from error
    try:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            db.set_busy_timeout(5000)
            db.pragma("temp_store", "MEMORY")
            db.execute("BEGIN")
            _look(db, path)
        except BaseException:
            db.close()
            raise
    except apsw.NotADBError as error:
        raise StoreError(f"{path} is damaged, or not a database at all: {error}") from error
    except apsw.CorruptError as error:
        raise StoreError(f"{path} is damaged: {error}") from error
    except (apsw.CantOpenError, apsw.ReadOnlyError) as error:
        hint = "" if os.access(path.parent, os.W_OK) else f"; you may not write to {path.parent}, and SQLite has to"
        raise StoreError(f"{path} cannot be read: {error}{hint}") from error
    except apsw.Error as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    return db


def _look(db: apsw.Connection, path: Path) -> None:
    if not db.execute("SELECT count(*) FROM sqlite_schema").get:
        raise StoreError(f"{path} is empty: no broker has written to it")
    if int(db.pragma("application_id")) != APPLICATION_ID:
        raise StoreError(f"{path} is a database of another program")
    found = version_of(db)
    if found > len(MIGRATIONS):
        raise StoreError(
            f"{path} was written by trio-broker {written_by(db)} (schema {found}); this is {__version__}, "
            f"which knows schemas up to {len(MIGRATIONS)}"
        )


def written_by(db: apsw.Connection) -> str:
    return str(db.execute("SELECT value FROM meta WHERE name = 'written_by'").get)


def contents(db: apsw.Connection, path: Path) -> Contents:
    """Raises apsw.Error."""
    sessions, queued, retained = (
        int(str(db.execute(f"SELECT count(*) FROM {table}").get)) for table in ("session", "q", "retained")
    )
    backup_at = db.execute("SELECT value FROM meta WHERE name = ?", (BACKUP_AT,)).get
    written_at = path.stat().st_mtime if backup_at is None else int(str(backup_at)) / 1000
    return Contents(sessions, queued, retained, version_of(db), written_by(db), written_at, size_of(db))


def size_of(db: apsw.Connection) -> int:
    return int(db.pragma("page_count")) * int(db.pragma("page_size"))


class Copy:
    """A copy of `source` that gets the name `target`: `make` it, then `place` it. Unplaced, it goes with the block."""

    def __init__(self, source: Path, target: Path) -> None:
        self.source = source
        self.target = target
        self.temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
        self._errno = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for suffix in ("", "-journal", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                self.temporary.with_name(self.temporary.name + suffix).unlink()

    def make(self, told: Told, *, backup_at: int | None) -> Contents:
        """Copy, check, and put on the disk; the copy says that it is a backup of `backup_at`. Raises StoreError."""
        source = open_to_read(self.source)
        try:
            size = size_of(source)
            self._look_for_room(size)
            self._create()
            return self._fill(source, told, backup_at)
        except apsw.CorruptError as error:
            raise StoreError(f"{self.source} is damaged: {error}") from error
        except apsw.FullError as error:
            raise StoreError(f"{self.target.parent} is full: {readable(size)} are needed for the copy") from error
        except apsw.Error as error:
            number = self._errno if isinstance(error, apsw.IOError) else 0
            cause = os.strerror(number) if number else str(error)
            raise StoreError(f"{self.source} cannot be copied to {self.target}: {cause}") from error
        except OSError as error:
            raise StoreError(f"{self.target} cannot be written: {why(error)}") from error
        finally:
            source.close()

    def _look_for_room(self, size: int) -> None:
        free = shutil.disk_usage(self.target.parent).free
        if free < size:
            raise StoreError(
                f"{self.target.parent} has no room: {readable(size)} are needed for the copy, {readable(free)} are free"
            )

    def _create(self) -> None:
        os.close(os.open(self.temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))

    def _fill(self, source: apsw.Connection, told: Told, backup_at: int | None) -> Contents:
        db = apsw.Connection(str(self.temporary), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            # Nobody needs half of it, and it is synced as a whole at the end.
            db.pragma("journal_mode", "OFF")
            db.pragma("synchronous", "OFF")
            with db.backup("main", source, "main") as backup:
                while not backup.done:
                    backup.step(PAGES_A_STEP)
                    told("copying", backup.page_count - backup.remaining, backup.page_count)
            # The source is in WAL mode, and so was its copy: now it is one file again.
            db.pragma("journal_mode", "DELETE")
            if backup_at is None:
                db.execute("DELETE FROM meta WHERE name = ?", (BACKUP_AT,))
            else:
                db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (BACKUP_AT, str(backup_at)))
            found = checked(db, "quick_check", 1, told)
            if found:
                raise StoreError(f"{self.source} is damaged: {found[0]}")
            what = contents(db, self.source)
        finally:
            self._errno = db.system_errno
            db.close()
        descriptor = os.open(self.temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return what

    def place(self) -> None:
        """Give the copy its name. Raises StoreError."""
        try:
            self.temporary.replace(self.target)
            sync_directory(self.target.parent)
        except OSError as error:
            raise StoreError(f"{self.target} cannot be written: {why(error)}") from error


def checked(db: apsw.Connection, check: str, limit: int, told: Told) -> list[str]:
    """What `PRAGMA quick_check` or `integrity_check` finds wrong. Raises apsw.Error."""

    def go_on() -> bool:
        told("checking the file", 0, 0)
        return False

    db.set_progress_handler(go_on, STEPS_A_LOOK)
    try:
        found = [str(row[0]) for row in db.execute(f"PRAGMA {check}({limit})")]
    finally:
        db.set_progress_handler(None)
    # One row may have several lines, the first of which only names the database.
    lines = [line for text in found for line in text.splitlines() if not line.startswith("*** in database")]
    return [] if lines == ["ok"] else lines


def now_ms() -> int:
    return int(time.time() * 1000)
