"""What all commands have in common: where the store is, and what they say of a database, in one line.

Invariant: what is said is plain text on standard output.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from trio_broker.errors import StoreError
from trio_broker.store.backup import Contents, readable
from trio_broker.store.files import DATA_DIR_KEY, FILE_NAME, why


def store_in(data_dir: Path) -> Path:
    """Raises StoreError where there is none."""
    path = data_dir / FILE_NAME
    try:
        if not data_dir.is_dir():
            raise StoreError(f"{data_dir} is not a directory that is there: is {DATA_DIR_KEY} right?")
        if not path.exists():
            raise StoreError(f"there is no store in {data_dir}: is {DATA_DIR_KEY} right?")
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {why(error)}") from error
    return path


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def amount(count: int, what: str) -> str:
    """`what` is the plural."""
    return f"{count:,} {what.removesuffix('s') if count == 1 else what}"


def inside(contents: Contents) -> str:
    return ", ".join(
        (
            readable(contents.size),
            amount(contents.sessions, "sessions"),
            amount(contents.queued, "queued messages"),
            amount(contents.retained, "retained messages"),
        )
    )


def written(contents: Contents) -> str:
    moment = datetime.fromtimestamp(contents.written_at, UTC)
    return f"written {moment:%Y-%m-%d %H:%M:%S} UTC by trio-broker {contents.written_by}"
