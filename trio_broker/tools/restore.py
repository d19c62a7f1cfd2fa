"""`trio-broker restore FILE`: a backup becomes the store of a broker that does not run.

Invariant: nothing is deleted, and nothing is touched before the copy of FILE is whole, checked and on the disk.
"""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trio_broker.errors import ConfigError, StoreError
from trio_broker.store.backup import Copy, open_to_read
from trio_broker.store.files import DATA_DIR_KEY, FILE_NAME, PARTS, Lock, set_aside, why
from trio_broker.tools.progress import Progress
from trio_broker.tools.words import inside, say, written

HELP = "put a backup in the place of what the broker keeps (it must not run)"

_JOURNAL = "-journal"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="a backup, or a store that was set aside; it stays")


def run(data_dir: Path, wanted: argparse.Namespace, progress: Progress) -> int:
    source: Path = wanted.file
    store = data_dir / FILE_NAME
    # Before a directory is made for it.
    open_to_read(source).close()
    try:
        if store.exists() and store.samefile(source):
            raise StoreError(f"{source} is the store itself: there is nothing to restore")
        lock = Lock(data_dir)
    except OSError as error:
        raise StoreError(f"{store} cannot be written: {why(error)}") from error
    except ConfigError as error:
        raise StoreError(f"nothing was restored: {str(error).removeprefix(f'{DATA_DIR_KEY}: ')}") from error
    try:
        _to_owner(data_dir, lock.path)
        with Copy(source, store) as copy:
            contents = copy.make(progress, backup_at=None)
            progress.end()
            _to_owner(data_dir, copy.temporary)
            with _undisturbed():
                aside = _set_aside(store)
                _place(copy, aside)
    finally:
        lock.release()
    say(f"{source}: {inside(contents)}, {written(contents)}")
    if aside is not None:
        say(f"{store} was set aside as {aside}")
    say(f"{store} is what {source} was")
    return 0


def _place(copy: Copy, aside: Path | None) -> None:
    try:
        copy.place()
    except StoreError as error:
        if aside is None:
            raise
        raise StoreError(f"{error}; the store that was there is {aside}") from error


def _set_aside(store: Path) -> Path | None:
    # A journal without its database is as dangerous: SQLite would take it for a part of the new one.
    parts = [store.with_name(store.name + part) for part in (*PARTS, _JOURNAL)]
    if not any(part.exists() for part in parts):
        return None
    try:
        aside = set_aside(store, "replaced")
        if parts[-1].exists():
            parts[-1].rename(aside.with_name(aside.name + _JOURNAL))
    except OSError as error:
        raise StoreError(f"{store} cannot be set aside: {why(error)}") from error
    return aside


def _to_owner(data_dir: Path, *files: Path) -> None:
    """What root makes in a directory of the broker's user has to be that user's."""
    if os.geteuid() != 0:
        return
    owner = data_dir.stat()
    for file in files:
        try:
            os.chown(file, owner.st_uid, owner.st_gid)
        except OSError as error:
            raise StoreError(f"{file} cannot be given to the owner of {data_dir}: {why(error)}") from error


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Signals wait: between the two names there would be no store at all."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
