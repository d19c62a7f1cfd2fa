"""Disks that do what real ones do once in a while: virtual file systems of SQLite, on top of the real one.

Each is used as `with Counting() as disk: SqliteStore(directory, vfs=disk.name)`; all databases on it have to be closed
before the block ends. They are safe to use from threads. What they see is what SQLite does through them: the store's
own `os.fdatasync` (at "normal") is told to them by `syncs_of_the_system`.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import apsw

if TYPE_CHECKING:
    from typing_extensions import Buffer

_numbers = count(1)

SHM: Final = "-shm"
"""The end of the name of what never has to be durable."""


class Disk(apsw.VFS):
    """A disk without faults; subclasses override the four calls. `path` is that of the file in full.

    `name`: under which SQLite knows it.
    """

    def __init__(self) -> None:
        self.name = f"trio-broker-test-{next(_numbers)}"
        super().__init__(self.name, "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.unregister()

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        return _File(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self.deleted(filename)

    def before(self, path: str, what: str) -> None:
        """Something is about to happen to a file: "write", "sync" or "truncate". Raise an apsw error to prevent it."""

    def written(self, path: str, data: bytes, offset: int) -> None:
        """Written, and not synced yet."""

    def truncated(self, path: str, size: int) -> None:
        """Cut off, and not synced yet."""

    def synced(self, path: str) -> None:
        """All of the file is durable."""

    def deleted(self, path: str) -> None:
        """The file is gone."""


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk = disk
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else name or ""

    def xWrite(self, data: Buffer, offset: int) -> None:
        self._disk.before(self._path, "write")
        super().xWrite(data, offset)
        self._disk.written(self._path, bytes(data), offset)

    def xTruncate(self, newsize: int) -> None:
        self._disk.before(self._path, "truncate")
        super().xTruncate(newsize)
        self._disk.truncated(self._path, newsize)

    def xSync(self, flags: int) -> None:
        self._disk.before(self._path, "sync")
        super().xSync(flags)
        self._disk.synced(self._path)


class Counting(Disk):
    """Counts what happens: `counts["sync"]`, `counts["write"]`, `counts["truncate"]`."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def before(self, path: str, what: str) -> None:
        self.counts[what] += 1


class Slow(Disk):
    """Each sync takes `seconds` longer."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def before(self, path: str, what: str) -> None:
        if what == "sync":
            time.sleep(self.seconds)


class Failing(Disk):
    """Fails from `fail` to `heal`, with an error like that of a full disk: `apsw.FullError`, `apsw.IOError`, ...

    `attempts` counts what failed. `files`: the ends of the names of the files that are hit; by default only the
    write-ahead log, because SQLite forgives a failed checkpoint, and an exception that is raised in one all the same
    reaches who committed, which is no error that a real disk could make.
    """

    def __init__(self) -> None:
        super().__init__()
        self.attempts = 0
        self._error: type[apsw.Error] | None = None
        self._kinds: tuple[str, ...] = ()
        self._files: tuple[str, ...] = ()

    def fail(self, error: type[apsw.Error], *kinds: str, files: tuple[str, ...] = ("-wal",)) -> None:
        """From now on every one of `kinds` ("write", "sync", "truncate"; default: write) fails."""
        self._kinds = kinds or ("write",)
        self._files = files
        self.attempts = 0
        self._error = error

    def heal(self) -> None:
        self._error = None

    def before(self, path: str, what: str) -> None:
        error = self._error
        if error is not None and what in self._kinds and path.endswith(self._files):
            self.attempts += 1
            raise error(f"the disk fails to {what} (it was told to)")


class PowerCut(Disk):
    """Knows what a power cut would leave of each file: what was synced, and any part of what was not.

    Names of files are durable at once: SQLite syncs the directory itself where it has to.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._durable: dict[str, bytearray] = {}
        self._waiting: dict[str, list[tuple[bytes | None, int]]] = {}

    def is_there(self, path: str) -> None:
        """All of a file that was there before is durable."""
        self._durable[path] = bytearray(Path(path).read_bytes())

    def written(self, path: str, data: bytes, offset: int) -> None:
        if not path.endswith(SHM):
            with self._lock:
                self._waiting.setdefault(path, []).append((data, offset))

    def truncated(self, path: str, size: int) -> None:
        with self._lock:
            self._waiting.setdefault(path, []).append((None, size))

    def synced(self, path: str) -> None:
        with self._lock:
            content = self._durable.setdefault(path, bytearray())
            for data, offset in self._waiting.pop(path, ()):
                _apply(content, data, offset)

    def forget(self, path: str) -> None:
        """What was not synced never will be, as Linux has it after a sync that failed."""
        with self._lock:
            self._waiting.pop(path, None)

    def deleted(self, path: str) -> None:
        with self._lock:
            self._durable.pop(path, None)
            self._waiting.pop(path, None)

    def cut(self, chance: random.Random | None = None, piece: int = 4096) -> Remains:
        """What a power cut at this moment leaves; with `chance` some of what was not synced is there, too.

        Writes reach the disk in pieces of `piece` bytes, each or none of which may have made it.
        """
        with self._lock:
            durable = {path: bytearray(content) for path, content in self._durable.items()}
            waiting = {path: list(writes) for path, writes in self._waiting.items()}
        for path in waiting:
            durable.setdefault(path, bytearray())
        if chance is not None:
            for path, writes in waiting.items():
                share = chance.choice((0.1, 0.5, 0.9, 1.0))
                for data, offset in writes:
                    for part, position in _pieces(data, offset, piece):
                        if chance.random() < share:
                            _apply(durable[path], part, position)
        return Remains({path: bytes(content) for path, content in durable.items()})


class Remains:
    """What a power cut left."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def write_to(self, directory: Path) -> None:
        """Into an empty directory, under the names that the files had."""
        for path, content in self.files.items():
            (directory / Path(path).name).write_bytes(content)


def _apply(content: bytearray, data: bytes | None, offset: int) -> None:
    """A write; without `data` a truncation."""
    if data is None:
        del content[offset:]
        return
    if len(content) < offset + len(data):
        content.extend(bytes(offset + len(data) - len(content)))
    content[offset : offset + len(data)] = data


def _pieces(data: bytes | None, offset: int, size: int) -> Iterator[tuple[bytes | None, int]]:
    """A write, broken where a piece of the disk ends."""
    if data is None:
        yield None, offset
        return
    start = 0
    while start < len(data):
        end = min(len(data), start + size - (offset + start) % size)
        yield data[start:end], offset + start
        start = end


@contextmanager
def syncs_of_the_system(told: Callable[[str], None]) -> Iterator[None]:
    """Tell the path of each file that is synced by `os.fdatasync`; `told` may raise OSError in its place."""
    original = os.fdatasync

    def fdatasync(descriptor: Any) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        told(path)
        original(descriptor)

    os.fdatasync = fdatasync  # type: ignore[assignment]
    try:
        yield
    finally:
        os.fdatasync = original
