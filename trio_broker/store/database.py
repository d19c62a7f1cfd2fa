"""The SQLite file: opened, looked at, written and read; plain calls that block, one caller at a time.

Invariant: after an error on the way to the disk the connection is not trusted any more: `reopen` before the next try.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import apsw

from trio_broker.errors import ConfigError, StoreError
from trio_broker.session.outgoing import Outgoing
from trio_broker.store import reading
from trio_broker.store.batch import Batch
from trio_broker.store.commit import WallOf, apply
from trio_broker.store.files import DATA_DIR_KEY, set_aside
from trio_broker.store.operations import Kept, PutDocument
from trio_broker.store.reading import Now
from trio_broker.store.schema import MIGRATIONS, check, migrate

log = logging.getLogger("trio_broker.store")

# What the disk, and not a mistake of ours, can lead to: it may be better later.
TRANSIENT: Final = (
    apsw.FullError,
    apsw.IOError,
    apsw.ReadOnlyError,
    apsw.CantOpenError,
    apsw.BusyError,
    apsw.LockedError,
    apsw.NoMemError,
    apsw.PermissionsError,
    apsw.AuthError,
    apsw.ProtocolError,
)
DAMAGED: Final = (apsw.CorruptError, apsw.NotADBError)
CHECK_BELOW: Final = 2 * 1024**3
"""A file is checked at each start if it is not larger; a larger one only when the last end was not graceful."""

SLACK_PAGES: Final = 16_384
"""Free pages (4 KB each) that a file keeps for what comes."""
VACUUM_PAGES: Final = 1000
LOOK_EVERY: Final = 1000
"""Commits between two looks at how much is free."""


class Database:
    """`path` is None for one in memory. `full`: each commit is on the disk when it returns."""

    def __init__(self, path: Path | None, *, full: bool, vfs: str | None = None) -> None:
        self.path = path
        self.full = full
        self._vfs = vfs
        self._db: apsw.Connection | None = None
        self._reader: apsw.Connection | None = None
        self._unsynced = False
        self._synced_at = 0.0
        self._commits = 0
        self.has_slack = False
        """Much of the file is free, and may be given back when there is nothing else to do."""

    @property
    def name(self) -> str:
        return "the store in memory" if self.path is None else str(self.path)

    # -- opening

    def open(self) -> Path | None:
        """Open or make the file; returns where a damaged one was put. Raises ConfigError for what a user can mend."""
        try:
            try:
                self._open()
                self._look()
            except DAMAGED as error:
                self.close()
                if self.path is None:
                    raise
                aside = set_aside(self.path, "damaged")
                log.error("%s is damaged (%s): it was set aside as %s, and a new one is begun", self.path, error, aside)
                self._open()
                return aside
        except apsw.Error as error:
            self.close()
            raise ConfigError(DATA_DIR_KEY, f"cannot use {self.name}: {error}") from error
        except OSError as error:
            self.close()
            raise ConfigError(DATA_DIR_KEY, f"cannot use {self.name}: {error.strerror or error}") from error
        except ConfigError:
            self.close()
            raise
        return None

    def _open(self) -> None:
        self._db = self._connect()
        if migrate(self._db, self.name) < len(MIGRATIONS) and self.path is not None:
            # A schema that was never synced is the one thing that a power cut could take.
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def _connect(self, *, writing: bool = True) -> apsw.Connection:
        name = ":memory:" if self.path is None else str(self.path)
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        if writing and self.path is not None and not self.path.exists():
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600))
        db = apsw.Connection(name, flags=flags, vfs=self._vfs)
        try:
            self._set_up(db)
        except BaseException:
            db.close()
            raise
        return db

    def _set_up(self, db: apsw.Connection) -> None:
        db.set_busy_timeout(5000)
        if self.path is not None:
            if self.path.stat().st_size:
                check(db, self.name)  # before anything is changed in a file that may not be ours
            else:
                db.pragma("auto_vacuum", "INCREMENTAL")
            db.pragma("journal_mode", "wal")
            db.pragma("synchronous", "FULL" if self.full else "NORMAL")
            db.pragma("wal_autocheckpoint", 4000)
            db.pragma("journal_size_limit", 64 * 1024 * 1024)
        db.pragma("temp_store", "MEMORY")
        db.pragma("foreign_keys", False)

    def _look(self) -> None:
        """Raise CorruptError where the file is damaged."""
        db = self._writer
        if self.path is None:
            return
        told = db.execute("SELECT value FROM meta WHERE name = 'damaged'").get
        if told is not None:
            raise apsw.CorruptError(str(told))
        clean = db.execute("SELECT value FROM meta WHERE name = 'ended'").get
        if clean is None or self.path.stat().st_size <= CHECK_BELOW:
            found = str(db.pragma("quick_check", 1))
            if found != "ok":
                raise apsw.CorruptError(found)
        self.has_slack = self._is_slack()
        if clean is not None:
            try:
                db.execute("DELETE FROM meta WHERE name = 'ended'")
            except TRANSIENT as error:  # a full disk is no reason not to start
                log.warning("%s cannot be written now: %s", self.path, error)
                self._let_go()
                self._db = self._connect()

    def reopen(self) -> None:
        """A new connection, of which everything is on the disk. Raises apsw.Error.

        What a sync that failed has left in the write-ahead log may be a hole in it, behind which nothing is safe.
        """
        self._let_go()
        if self.path is not None and not self.path.exists():
            raise apsw.CantOpenError(f"{self.path} is not there any more")
        self._db = self._connect()
        if self.path is not None:
            self._db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            self._unsynced = False

    @property
    def _writer(self) -> apsw.Connection:
        if self._db is None:
            raise apsw.CantOpenError("the file is not open")
        return self._db

    @property
    def is_unsynced(self) -> bool:
        """Was something committed that is not on the disk for certain?"""
        return self._unsynced

    # -- writing

    def commit(self, batch: Batch, wall_of: WallOf) -> None:
        """Raises apsw.Error."""
        apply(self._writer, batch, wall_of)
        self._unsynced = not self.full
        self._commits += 1
        if self._commits % LOOK_EVERY == 0:
            self.has_slack = self._is_slack()

    def sync_if_due(self, interval: float) -> None:
        """Where commits are not synced one by one: sync all of them, at most each `interval` seconds."""
        now = time.monotonic()
        if self._unsynced and now - self._synced_at >= interval:
            self.sync()
            self._synced_at = now

    def tidy(self, again: bool = False) -> None:
        """Sync, and shrink the file a little where much of it is free. Raises OSError, apsw.Error.

        `again`: the last time failed. What a system could not sync it forgets, so everything is written once more.
        """
        if again:
            self.reopen()
        self.sync()
        if self.has_slack:
            self._writer.pragma("incremental_vacuum", VACUUM_PAGES)
            self.has_slack = self._is_slack()

    def _is_slack(self) -> bool:
        return int(self._writer.pragma("freelist_count")) > SLACK_PAGES

    def sync(self) -> None:
        """Everything that was committed is on the disk. Raises OSError."""
        if self.path is None or not self._unsynced:
            return
        wal = self.path.with_name(self.path.name + "-wal")
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(wal, os.O_RDONLY)
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
        self._unsynced = False

    # -- reading

    def everything(self, at: Now) -> Iterator[list[Kept]]:
        """See `reading.everything`."""
        return reading.everything(self._writer, at)

    def documents(self) -> list[PutDocument]:
        return reading.documents(self._writer)

    def is_damaged(self, reason: str) -> None:
        """What SQLite does not see: the next start sets the file aside."""
        with contextlib.suppress(apsw.Error):
            self._writer.execute("INSERT OR REPLACE INTO meta VALUES ('damaged', ?)", (reason,))

    def references(self) -> dict[int, int]:
        return reading.references(self._writer)

    def next_key(self) -> int:
        return reading.next_key(self._writer)

    def copies(self, rows: Sequence[int], at: Now) -> list[Outgoing]:
        """By a connection of its own, so that it waits for no commit. Raises StoreError."""
        try:
            if self.path is None:
                return reading.copies(self._writer, rows, at)
            if self._reader is None:
                self._reader = self._connect(writing=False)
            return reading.copies(self._reader, rows, at)
        except (apsw.Error, OSError, ConfigError) as error:
            self._close_reader()
            raise StoreError(f"{self.name} cannot be read: {error}") from error

    # -- ends

    def close(self, *, ended: bool = False) -> None:
        """Let go of the file; `ended`: the broker ends gracefully, which spares the next start a look at all of it."""
        if ended and self._db is not None:
            with contextlib.suppress(apsw.Error):
                self._db.execute("INSERT OR REPLACE INTO meta VALUES ('ended', '1')")
        self._let_go()

    def _let_go(self) -> None:
        self._close_reader()
        if self._db is not None:
            db, self._db = self._db, None
            with contextlib.suppress(apsw.Error):
                db.close()

    def _close_reader(self) -> None:
        if self._reader is not None:
            reader, self._reader = self._reader, None
            with contextlib.suppress(apsw.Error):
                reader.close()
