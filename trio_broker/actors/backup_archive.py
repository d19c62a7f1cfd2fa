"""The file that carries settings and tables to another broker: a tar.gz of JSON.

Invariant: an archive is read whole and in memory before anything of it counts; nothing is ever unpacked to disk, so
that no name or link in it can lead anywhere; what is read is bounded, whatever the archive says of itself, and rows
stay bytes until it is known what they have to be: JSON that may be anything takes twenty times its size.

    NAME/META.json               what it is, by whom and when it was made
    NAME/settings.json           by root, what was set over REST
    NAME/tables/TABLE_SET.jsonl  one row a line
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import msgspec
from attrs import define, field

FORMAT: Final = "trio-broker-export"
VERSION: Final = 1

LARGEST: Final = 256 * 1024 * 1024
"""Bytes of all that is in an archive, and of its headers."""
LARGEST_JSON: Final = 1024 * 1024
"""Bytes of META.json and of settings.json."""
MOST_MEMBERS: Final = 100

META: Final = "META.json"
SETTINGS: Final = "settings.json"
_MEMBER: Final = re.compile(r"[\w.-]{1,200}/(META\.json|settings\.json|tables/([a-z_]{1,64})\.jsonl)", re.ASCII)
_FOLDER: Final = re.compile(r"[\w.-]{1,200}/?(tables/?)?", re.ASCII)


class ArchiveError(ValueError):
    """It is no archive of ours, or not a good one; the message is one line."""


@define
class Contents:
    """`tables` are JSON, one row a line."""

    meta: Mapping[str, Any]
    settings: dict[str, Any] = field(factory=dict)
    tables: dict[str, bytes] = field(factory=dict)


class _Bounded(io.RawIOBase):
    """Reads `source`, and fails when it has given more than it should."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._left = LARGEST

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > self._left:
            size = self._left + 1
        data: bytes = self._source.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise ArchiveError(f"there is more in it than {LARGEST // (1024 * 1024)} MB")
        return data


def read_archive(source: BinaryIO) -> Contents:
    """All of an archive. Raises ArchiveError."""
    files: dict[str, bytes] = {}
    try:
        with (
            gzip.GzipFile(fileobj=source) as unpacked,
            tarfile.open(fileobj=cast("Any", _Bounded(unpacked)), mode="r|") as tar,
        ):
            for count, member in enumerate(tar, 1):
                if count > MOST_MEMBERS:
                    raise ArchiveError(f"there are more than {MOST_MEMBERS} files in it")
                if member.isdir() and _FOLDER.fullmatch(member.name):
                    continue
                if not member.isreg() or member.issparse():  # the holes of a sparse file are filled with zeros
                    raise ArchiveError(f"{_shown(member.name)} is no plain file")
                if not _MEMBER.fullmatch(member.name) or ".." in member.name.split("/"):
                    raise ArchiveError(f"{_shown(member.name)} does not belong there")
                name = member.name.partition("/")[2]
                if name in files:
                    raise ArchiveError(f"{_shown(name)} is in it twice")
                data = tar.extractfile(member)
                assert data is not None  # it is a plain file
                files[name] = data.read()
    except ArchiveError:
        raise
    except (tarfile.TarError, zlib.error, OSError, EOFError, ValueError, OverflowError) as error:
        raise ArchiveError(f"not a tar.gz: {' '.join(str(error).split())[:200]}") from None
    return _contents(files)


def _contents(files: Mapping[str, bytes]) -> Contents:
    if META not in files:
        raise ArchiveError(f"it has no {META}")
    meta = _json(files[META], META)
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise ArchiveError(f"{META} is not that of an export of trio-broker")
    if meta.get("format_version") != VERSION:
        raise ArchiveError(
            f"it is of version {_shown(meta.get('format_version'))}; this broker reads version {VERSION}"
        )
    contents = Contents(meta)
    if SETTINGS in files:
        settings = _json(files[SETTINGS], SETTINGS)
        if not isinstance(settings, dict):
            raise ArchiveError(f"{SETTINGS} is not a table")
        contents.settings = settings
    for name, data in files.items():
        if name.startswith("tables/"):
            for number, line in enumerate(lines(data), 1):
                _check_json(line, f"{name}:{number}")
            contents.tables[name.removeprefix("tables/").removesuffix(".jsonl")] = data
    return contents


def lines(table: bytes) -> Iterable[bytes]:
    """The rows of a table, one after the other."""
    return io.BytesIO(table)


def _check_json(data: bytes, where: str) -> None:
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
    except (ValueError, RecursionError):
        raise ArchiveError(f"{where} is not JSON") from None


def _json(data: bytes, where: str) -> Any:
    if len(data) > LARGEST_JSON:
        raise ArchiveError(f"{where} is larger than {LARGEST_JSON // 1024} KB")
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise ArchiveError(f"{where} is not JSON") from None


def _shown(text: object) -> str:
    return json.dumps(text, default=str)[:100]


def write_archive(path: Path, contents: Contents, mtime: int) -> int:
    """Under another name first, so that `path` is never half of one; returns its size. Raises ArchiveError, OSError."""
    folder = path.name.removesuffix(".tar.gz")
    part = path.with_name(f".{path.name}.part")
    files = {META: _bytes(contents.meta), SETTINGS: _bytes(contents.settings)}
    for name, table in contents.tables.items():
        files[f"tables/{name}.jsonl"] = table
    # A header and its padding for each, and some at the end.
    if sum(len(data) for data in files.values()) + 2048 * len(files) + 20_480 > LARGEST:
        raise too_large()
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            with tarfile.open(fileobj=file, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
                for name, data in files.items():
                    member = tarfile.TarInfo(f"{folder}/{name}")
                    member.size, member.mtime, member.mode = len(data), mtime, 0o600
                    tar.addfile(member, io.BytesIO(data))
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return path.stat().st_size


def too_large() -> ArchiveError:
    return ArchiveError(f"it would be larger than {LARGEST // (1024 * 1024)} MB; `trio-broker backup` has no limit")


def save(path: Path, data: bytes) -> None:
    """Bytes as they are, in the same careful way."""
    part = path.with_name(f".{path.name}.part")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """A new name is durable when its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def line(row: Any) -> bytes:
    """A row of a table."""
    return _bytes(row) + b"\n"


def _bytes(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
