"""A batch as one transaction: one statement a table where that can be.

Invariant: a batch is applied whole or not at all, and applying it a second time after a failure does the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, Final, TypeVar

import apsw
import msgspec

from trio_broker.store.batch import Batch
from trio_broker.store.frame import encode
from trio_broker.store.operations import PutRetained
from trio_broker.store.rows import options_of, session_row

ROWS_A_STATEMENT: Final = 1024
"""Longer statements are not faster, and shorter ones would give the interpreter's lock away more often. There are only
as many lengths as there are powers of two, so that statements are prepared once."""

R = TypeVar("R")
WallOf = Callable[[float], int]


@cache
def _values(columns: int, rows: int) -> str:
    one = f"({','.join('?' * columns)})"
    return ",".join([one] * rows)


def _insert(db: apsw.Connection, head: str, tail: str, columns: int, rows: Iterable[Sequence[Any]]) -> None:
    """Insert rows, many with each statement."""
    for chunk in _chunks(list(rows)):
        bindings = [value for row in chunk for value in row]
        db.execute(f"{head} VALUES {_values(columns, len(chunk))} {tail}", bindings)


def _chunks(rows: Sequence[R]) -> Iterator[Sequence[R]]:
    """Parts whose lengths are powers of two."""
    start = 0
    while left := len(rows) - start:
        size = min(1 << left.bit_length() - 1, ROWS_A_STATEMENT)
        yield rows[start : start + size]
        start += size


def _json(numbers: Sequence[int]) -> str:
    return msgspec.json.encode(numbers).decode()


def _delete(db: apsw.Connection, table: str, column: str, numbers: Sequence[int]) -> None:
    if numbers:
        db.execute(f"DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))", (_json(numbers),))


def apply(db: apsw.Connection, batch: Batch, wall_of: WallOf) -> None:
    """Commit a batch; `wall_of` turns Trio time into wall clock in milliseconds. Raises apsw.Error."""
    batch.freeze()
    db.execute("BEGIN IMMEDIATE")
    try:
        _messages(db, batch, wall_of)
        _sessions(db, batch)
        _rest(db, batch, wall_of)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # some errors have ended it already
            db.execute("ROLLBACK")
        raise


def _messages(db: apsw.Connection, batch: Batch, wall_of: WallOf) -> None:
    if batch.messages:
        _insert(
            db,
            "INSERT INTO msg(id, frame, expires_at)",
            "ON CONFLICT(id) DO NOTHING",
            3,
            (
                (number, encode(message), _wall(message.expires_at, wall_of))
                for number, message in batch.messages.items()
            ),
        )
    if batch.rows:
        head = "INSERT INTO q(id, session, msg, inserted_at, state, extra)"
        _insert(db, head, "ON CONFLICT(id) DO UPDATE SET state = excluded.state", 6, batch.rows)
    for states in _chunks(batch.states):
        bindings = [value for pair in states for value in pair]
        values = _values(2, len(states))
        db.execute(f"UPDATE q SET state = v.column2 FROM (VALUES {values}) AS v WHERE q.id = v.column1", bindings)
    _delete(db, "q", "id", batch.gone)
    _delete(db, "msg", "id", batch.gone_messages)


def _sessions(db: apsw.Connection, batch: Batch) -> None:
    ended = batch.ended_sessions
    if batch.sessions:
        _insert(
            db,
            "INSERT INTO session(id, client_id, username, created_at, expiry_interval, connected, expires_at,"
            " disconnected_at, will, will_at, owner)",
            "ON CONFLICT(id) DO UPDATE SET username = excluded.username, expiry_interval = excluded.expiry_interval,"
            " connected = excluded.connected, expires_at = excluded.expires_at,"
            " disconnected_at = excluded.disconnected_at, will = excluded.will, will_at = excluded.will_at,"
            " owner = excluded.owner",
            11,
            map(session_row, batch.sessions.values()),
        )
    if batch.gone_subscriptions:
        db.executemany("DELETE FROM sub WHERE session = ? AND filter = ?", list(batch.gone_subscriptions))
    if batch.subscriptions:
        _insert(
            db,
            "INSERT INTO sub(session, filter, options, identifier)",
            "ON CONFLICT(session, filter) DO UPDATE SET options = excluded.options, identifier = excluded.identifier",
            4,
            (
                (session, topic_filter, options_of(subscription), subscription.identifier)
                for (session, topic_filter), subscription in batch.subscriptions.items()
            ),
        )
    if batch.received:
        new = ((key,) for key, is_there in batch.received.items() if is_there)
        _insert(db, "INSERT INTO received(id)", "ON CONFLICT(id) DO NOTHING", 1, new)
        _delete(db, "received", "id", [key for key, is_there in batch.received.items() if not is_there])
    if ended:
        # Last, so that what the same batch has for them goes, too.
        _delete(db, "session", "id", ended)
        _delete(db, "sub", "session", ended)
        db.executemany(
            "DELETE FROM received WHERE id BETWEEN ? AND ?", ((key << 16, key << 16 | 0xFFFF) for key in ended)
        )


def _rest(db: apsw.Connection, batch: Batch, wall_of: WallOf) -> None:
    if batch.retained:
        _insert(
            db,
            "INSERT INTO retained(topic, message_id, frame, expires_at)",
            "ON CONFLICT(topic) DO UPDATE SET message_id = excluded.message_id, frame = excluded.frame,"
            " expires_at = excluded.expires_at",
            4,
            (
                (topic, put.message.message_id, encode(put.message), _wall(put.message.expires_at, wall_of))
                for topic, put in batch.retained.items()
                if isinstance(put, PutRetained)
            ),
        )
        gone = [(topic, newest) for topic, newest in batch.retained.items() if isinstance(newest, int)]
        if gone:
            db.executemany("DELETE FROM retained WHERE topic = ? AND message_id <= ?", gone)
    for (kind, key), (revision, body) in batch.documents.items():
        if body is None:
            db.execute("DELETE FROM doc WHERE kind = ? AND key = ?", (kind, key))
        else:
            db.execute(
                "INSERT INTO doc(kind, key, rev, body) VALUES (?, ?, ?, ?)"
                " ON CONFLICT(kind, key) DO UPDATE SET body = excluded.body, rev = excluded.rev",
                (kind, key, revision, body),
            )
    for name, number in (("last_message_id", batch.last_message_id), ("last_key", batch.last_key)):
        if number is not None:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, str(number)))


def _wall(expires_at: float | None, wall_of: WallOf) -> int | None:
    return None if expires_at is None else wall_of(expires_at)
