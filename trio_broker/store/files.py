"""The store's file in the data directory: its name, its lock, and where a damaged one goes.

Invariant: while a broker has the lock, no other broker and no tool that writes uses the directory; nothing is deleted.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from trio_broker.errors import ConfigError

FILE_NAME: Final = "trio-broker.db"
LOCK_NAME: Final = "trio-broker.lock"
DATA_DIR_KEY: Final = "node.data_dir"
PARTS: Final = ("", "-wal", "-shm")
"""The database, what is not yet in it, and the index of that."""


def why(error: OSError) -> str:
    return error.strerror or str(error)


class Lock:
    """The lock on a data directory; the system lets go of it when the process ends, however it ends."""

    def __init__(self, data_dir: Path) -> None:
        """Raises ConfigError where somebody has it, or the directory cannot be used."""
        self.path = data_dir / LOCK_NAME
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(DATA_DIR_KEY, f"cannot write {self.path}: {why(error)}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            owner = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise ConfigError(
                DATA_DIR_KEY, f"{data_dir} is in use by another broker (process {owner or 'unknown'})"
            ) from None
        except OSError as error:
            os.close(self._descriptor)
            raise ConfigError(DATA_DIR_KEY, f"cannot write {self.path}: {why(error)}") from error

    def release(self) -> None:
        """Another broker may use the directory. The file stays: to delete it would be a race."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)  # only for who reads it; a full disk does not matter
            os.close(self._descriptor)
            self._descriptor = -1


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """The lock for a while."""
    lock = Lock(data_dir)
    try:
        yield
    finally:
        lock.release()


def set_aside(path: Path, what: str) -> Path:
    """Rename a database with its parts to `NAME.WHAT-DATE-TIME`; returns the new name."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    target = path.with_name(f"{path.name}.{what}-{stamp}")
    count = 1
    while target.exists():
        count += 1
        target = path.with_name(f"{path.name}.{what}-{stamp}-{count}")
    # The write-ahead log first: should we end in between, what is left of the database still opens.
    for part in reversed(PARTS):
        source = path.with_name(path.name + part)
        if source.exists():
            source.rename(target.with_name(target.name + part))
    sync_directory(path.parent)
    return target


def sync_directory(directory: Path) -> None:
    """Make names that were given in it durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
