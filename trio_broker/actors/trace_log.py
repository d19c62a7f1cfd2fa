"""The log file of one trace: lines gather in memory, and are written by whoever may wait for a disk.

Invariant: what gathers is bounded, and so is the file; lines that are left out are counted, and a line says how many.
Only whole lines are written, and `size` counts them all.
"""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from attrs import define

LARGEST: Final = 64 * 1024 * 1024
"""Bytes of one file: a trace that has filled it stops."""
MOST_WAITING: Final = 1024 * 1024
"""Bytes that gather while the disk is busy; what comes then is left out and counted."""
LARGEST_PIECE: Final = 1024 * 1024
"""Bytes that are read at once."""

_MODE: Final = 0o600


@define
class Piece:
    """`position` is where the next one begins."""

    text: str
    position: int


class TraceLog:
    """`left_out` makes the line that says how many lines are missing."""

    def __init__(self, path: Path, left_out: Callable[[int], bytes]) -> None:
        self.path = path
        self.size = 0
        self.is_full = False
        self._left_out = left_out
        self._lines: list[bytes] = []
        self._waiting = 0
        self._missing = 0

    # -- on the loop

    def leaves_out(self) -> bool:
        """Is there no place for another line before the next `take`? Then it counts as left out."""
        if self._missing:
            self._missing += 1
        return self.is_full or self._missing > 0

    def add(self, line: bytes) -> None:
        """Never waits. The line is in the file when what `take` gave next has been written."""
        if self.is_full:
            return
        if self._waiting + len(line) > MOST_WAITING:
            self._missing += 1
            return
        self._append(line)

    def add_last(self, line: bytes) -> None:
        """However full it is."""
        self._lines.append(line)
        self._waiting += len(line)
        self.size += len(line)

    def _append(self, line: bytes) -> None:
        if self.size + len(line) > LARGEST:
            self.is_full = True
            return
        self.add_last(line)

    def take(self) -> bytes:
        """What has gathered, to be given to `write`."""
        data = b"".join(self._lines)
        self._lines.clear()
        self._waiting = 0
        if self._missing:
            missing, self._missing = self._missing, 0
            self._append(self._left_out(missing))
        return data

    # -- where one may wait; each raises OSError

    def create(self) -> None:
        """An empty file for the owner's eyes, in place of what had its name."""
        self.path.unlink(missing_ok=True)
        os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE))

    def resume(self) -> None:
        """Go on with the file that is there, if there is one."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, _MODE)
        with os.fdopen(descriptor, "r+b") as file:
            self.size = file.seek(0, os.SEEK_END)
            if self.size:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # the end of the process came within a line
                    self.size += file.write(b"\n")
        self.is_full = self.size >= LARGEST

    def write(self, data: bytes) -> None:
        with os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, _MODE), "wb") as file:
            file.write(data)

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)

    def read(self, position: int, size: int) -> Piece:
        """At most `size` bytes of text from there, never a part of a character; at the end no text.

        A position within a character goes to the next one.
        """
        with self._open() as file:
            end = file.seek(0, os.SEEK_END)
            if position >= end:
                return Piece("", end)
            file.seek(position)
            data = file.read(min(size, LARGEST_PIECE) + 6)  # the rest of one character, and one more as a whole
        start = _next_character(data, 0)
        stop = min(size, LARGEST_PIECE, len(data))
        if stop < len(data):
            while stop > start and _is_within(data[stop]):
                stop -= 1
            if stop <= start:
                stop = _next_character(data, start + 1)
        return Piece(data[start:stop].decode(errors="replace"), position + max(start, stop))

    def mtime_ms(self) -> int:
        """When it was last written, milliseconds since the epoch."""
        return self.path.stat().st_mtime_ns // 1_000_000

    def opened(self) -> tuple[io.BufferedReader, int]:
        """To be read, and the bytes of it that are whole lines now."""
        file = self._open()
        return file, os.fstat(file.fileno()).st_size

    def _open(self) -> io.BufferedReader:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        file = os.fdopen(descriptor, "rb")
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            file.close()
            raise FileNotFoundError(f"{self.path} is no file")
        return file


def zipped(file: io.BufferedReader, size: int, name: str) -> bytes:
    """A zip that has the first `size` bytes of it under `name`."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w") as entry,
    ):
        while size and (piece := file.read(min(size, LARGEST_PIECE))):
            entry.write(piece)
            size -= len(piece)
    return buffer.getvalue()


def _is_within(byte: int) -> bool:
    """Is it a byte of UTF-8 that goes on with a character?"""
    return byte & 0xC0 == 0x80


def _next_character(data: bytes, start: int) -> int:
    while start < len(data) and _is_within(data[start]):
        start += 1
    return start
