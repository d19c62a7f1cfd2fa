"""`trio-broker backup FILE`: the store of a broker, running or not, as one file.

Invariant: FILE is a whole backup, or what it was before.
"""

from __future__ import annotations

import argparse
import os
import stat
from pathlib import Path

from trio_broker.errors import StoreError
from trio_broker.store.backup import Copy, now_ms
from trio_broker.store.files import FILE_NAME, LOCK_NAME, PARTS, why
from trio_broker.tools.progress import Progress
from trio_broker.tools.words import inside, say, store_in

HELP = "copy what the broker keeps to a file, also while it runs"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="the backup: one file, which only you can read")
    parser.add_argument("--force", action="store_true", help="let the backup take the place of a file that is there")


def run(data_dir: Path, wanted: argparse.Namespace, progress: Progress) -> int:
    target: Path = wanted.file
    source = store_in(data_dir)
    _look(target, data_dir, wanted.force)
    with Copy(source, target) as copy:
        contents = copy.make(progress, backup_at=now_ms())
        _look(target, data_dir, wanted.force)
        copy.place()
    progress.end()
    say(f"{target}: {inside(contents)}")
    return 0


def _look(target: Path, data_dir: Path, force: bool) -> None:
    """Raise StoreError where a backup must not be."""
    try:
        if not target.parent.is_dir():
            raise StoreError(f"{target.parent} is not a directory that is there")
        is_there = os.path.lexists(target)
        if is_there and not stat.S_ISREG(target.lstat().st_mode):
            raise StoreError(f"{target} is there, and it is not a regular file")
        _look_around(target, data_dir)
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {why(error)}") from error
    if is_there and not force:
        raise StoreError(f"{target} is there already: --force lets the backup take its place")


def _look_around(target: Path, data_dir: Path) -> None:
    place = target.parent.resolve() / target.name
    ours = [data_dir.resolve() / name for name in (*(FILE_NAME + part for part in PARTS), LOCK_NAME)]
    if place in ours or any(_same(target, path) for path in ours):
        raise StoreError(f"{target} is a file of the store itself: a backup needs another name")
    for part in ("-wal", "-journal"):
        beside = target.with_name(target.name + part)
        if os.path.lexists(beside):
            # SQLite would take it for a part of the backup.
            raise StoreError(f"{beside} belongs to another database that was called {target}: remove it first")


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
