"""Data backup over REST: settings and tables go into a file, and come back into a broker that runs.

Invariant: an import is looked at whole before anything changes; then the settings are taken as one change, which may
still be refused, and after them the tables. All of it is in force and durable when `import_file` returns.

What can be carried is in `TABLE_SETS`, by EMQX's names. Whole stores, sessions and queues too, are for the commands
`trio-broker backup` and `restore`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio
from attrs import define

from trio_broker.actors import backup_archive as archive
from trio_broker.actors import backup_tables as tables
from trio_broker.actors.authn import backup_rows as users
from trio_broker.actors.authz import backup as access_rules
from trio_broker.actors.backup_archive import FORMAT, VERSION, ArchiveError, Contents, read_archive, save, write_archive
from trio_broker.actors.settings import roots
from trio_broker.errors import TrioBrokerError
from trio_broker.version import __version__

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

LARGEST_FILE: Final = 256 * 1024 * 1024
"""Bytes of a file that is read, packed as it is."""
STRIDE: Final = 256
"""Rows that are handled before others have their turn."""

_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,200}\.tar\.gz", re.ASCII)


class BackupError(TrioBrokerError):
    """It cannot be done; the message says why."""


class NoSuchFile(BackupError):
    """There is no backup of this name."""


@define(frozen=True)
class TableSet:
    """`rows` gives plain values; `read` makes of each, as JSON, what `take` wants, or raises ValueError; `take` returns
    when all is durable.
    """

    rows: Callable[[Core], Iterable[Any]]
    read: Callable[[bytes], Any]
    take: Callable[[Core, Sequence[Any]], Awaitable[None]]


TABLE_SETS: Final[dict[str, TableSet]] = {
    "builtin_authz": TableSet(access_rules.rules, access_rules.read_rules, access_rules.take_rules),
    "banned": TableSet(tables.bans, tables.read_ban, tables.take_bans),
    "builtin_retainer": TableSet(tables.retained, tables.read_retained, tables.take_retained),
    "builtin_authn": TableSet(users.password_users, users.read_password_user, users.take_password_users),
    "builtin_authn_scram": TableSet(users.scram_users, users.read_scram_user, users.take_scram_users),
}


@define(frozen=True)
class BackupFile:
    """`created_at` in seconds since the epoch, `size` in bytes."""

    name: str
    created_at: int
    size: int


class DataBackup:
    """All of it raises BackupError where it cannot be done, and OSError where the disk refuses."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lock = trio.Lock()

    @property
    def _folder(self) -> Path:
        config = self._core.settings.config
        if not config.node.data_dir:
            raise BackupError("node.data_dir is empty: there is no place for backups")
        return Path(config.node.data_dir) / "backup"

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise BackupError(f"{name[:100]!r} is not the name of a backup, such as export-1.tar.gz")
        return self._folder / name

    async def export(
        self, root_keys: Sequence[str] | None = None, table_sets: Sequence[str] | None = None
    ) -> BackupFile:
        """Write a new file; None = all there is."""
        self._check_known("root keys", root_keys, roots())
        self._check_known("table sets", table_sets, TABLE_SETS)
        folder = self._folder
        async with self._lock:
            stored = self._core.settings.stored
            settings = {root: value for root, value in stored.items() if root_keys is None or root in root_keys}
            chosen = [name for name in TABLE_SETS if table_sets is None or name in table_sets]
            try:
                rows = {name: await self._gathered(TABLE_SETS[name].rows(self._core)) for name in chosen}
            except ArchiveError as error:
                raise BackupError(str(error)) from None
            clock = self._core.clock
            now_ms = clock.wall_ms(clock.now())
            moment = datetime.fromtimestamp(now_ms / 1000).astimezone()
            meta = {
                "format": FORMAT,
                "format_version": VERSION,
                "trio_broker_version": __version__,
                "node": self._core.node_name,
                "created_at": moment.isoformat(timespec="milliseconds"),
            }
            name = f"trio-broker-export-{moment:%Y-%m-%d-%H-%M-%S}.{now_ms % 1000:03}.tar.gz"
            path = folder / name
            contents = Contents(meta, settings, rows)
            try:
                size = await trio.to_thread.run_sync(_write, path, contents, now_ms // 1000)
            except ArchiveError as error:
                raise BackupError(str(error)) from None
            return BackupFile(name, now_ms // 1000, size)

    @staticmethod
    def _check_known(what: str, asked: Sequence[str] | None, known: Iterable[str]) -> None:
        unknown = [name[:100] for name in asked or () if name not in known]
        if unknown:
            raise BackupError(f"Invalid {what}: {', '.join(unknown)}")

    @staticmethod
    async def _gathered(rows: Iterable[Any]) -> bytes:
        gathered = bytearray()
        for number, row in enumerate(rows, 1):
            gathered += archive.line(row)
            if len(gathered) > archive.LARGEST:
                raise archive.too_large()
            if number % STRIDE == 0:
                await trio.lowlevel.checkpoint()
        return bytes(gathered)

    async def import_file(self, name: str) -> None:
        """Take over all of a file. Raises ConfigError, Overridden and the like where the settings are refused."""
        path = self._path(name)
        async with self._lock:
            contents = await trio.to_thread.run_sync(_read, path)
            rows = await self._read_tables(contents)
            self._check_settings(contents)
            if contents.settings:
                await self._core.settings.change(contents.settings)
            for table, values in rows.items():
                await TABLE_SETS[table].take(self._core, values)
            await self._core.durable()

    async def _read_tables(self, contents: Contents) -> dict[str, list[Any]]:
        """What the rows of all tables mean; the first that is wrong is told."""
        read: dict[str, list[Any]] = {}
        for name, content in contents.tables.items():
            table = TABLE_SETS.get(name)
            if table is None:
                raise BackupError(f"there is a table set {name} in it, which this broker does not know")
            values = read[name] = []
            for number, row in enumerate(archive.lines(content), 1):
                try:
                    values.append(table.read(row))
                except (ValueError, msgspec.MsgspecError) as error:
                    raise BackupError(f"{name}, row {number}: {' '.join(str(error).split())[:200]}") from None
                if number % STRIDE == 0:
                    await trio.lowlevel.checkpoint()
        return read

    @staticmethod
    def _check_settings(contents: Contents) -> None:
        """What a change would refuse in words that are for somebody who wrote the settings."""
        unknown = [root[:100] for root in contents.settings if root not in roots()]
        if unknown:
            raise BackupError(f"there are settings in it that this broker does not know: {', '.join(unknown)}")

    async def files(self) -> list[BackupFile]:
        """The latest first; none where there is no place for them."""
        if not self._core.settings.config.node.data_dir:
            await trio.lowlevel.checkpoint()
            return []
        return await trio.to_thread.run_sync(_files, self._folder)

    async def read(self, name: str) -> bytes:
        return await trio.to_thread.run_sync(_bytes, self._path(name))

    async def add(self, name: str, content: bytes) -> None:
        """A file from outside; one of the same name is replaced. What is no archive of ours is refused."""
        path = self._path(name)
        async with self._lock:
            await trio.to_thread.run_sync(_add, path, content)

    async def delete(self, name: str) -> None:
        path = self._path(name)
        async with self._lock:
            await trio.to_thread.run_sync(_delete, path)


# -- in threads -------------------------------------------------------------------------------------------------


def _write(path: Path, contents: Contents, mtime: int) -> int:
    _make(path.parent)
    return write_archive(path, contents, mtime)


def _make(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _read(path: Path) -> Contents:
    try:
        return read_archive(BytesIO(_bytes(path)))
    except ArchiveError as error:
        raise BackupError(str(error)) from None


def _bytes(path: Path) -> bytes:
    if not _is_one(path):
        raise NoSuchFile(f"File not found: {path.name}")
    if path.stat().st_size > LARGEST_FILE:
        raise BackupError(f"{path.name} is larger than {LARGEST_FILE // (1024 * 1024)} MB")
    return path.read_bytes()


def _is_one(path: Path) -> bool:
    """A plain file, and not a link that leads somewhere else."""
    return path.is_file() and not path.is_symlink()


def _files(folder: Path) -> list[BackupFile]:
    if not folder.is_dir():
        return []
    found = []
    for path in folder.iterdir():
        if _NAME.fullmatch(path.name) and _is_one(path):
            with suppress(FileNotFoundError):  # somebody deletes it in this very moment
                stat = path.stat()
                found.append(BackupFile(path.name, int(stat.st_mtime), stat.st_size))
    return sorted(found, key=lambda file: (file.created_at, file.name), reverse=True)


def _add(path: Path, content: bytes) -> None:
    try:
        read_archive(BytesIO(content))
    except ArchiveError as error:
        raise BackupError(str(error)) from None
    _make(path.parent)
    save(path, content)


def _delete(path: Path) -> None:
    if not _is_one(path):
        raise NoSuchFile(f"File not found: {path.name}")
    path.unlink()
