"""What is kept, read again: all of it at the start, and pages of long queues later.

Invariant: a copy or a subscription whose session is not there is never given to anybody.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

import apsw
import msgspec

from trio_broker.session.outgoing import Outgoing
from trio_broker.store.frame import decode
from trio_broker.store.operations import (
    Kept,
    KeptCopies,
    KeptInflight,
    LastMessageId,
    PutDocument,
    PutReceived,
    PutRetained,
    PutSubscription,
)
from trio_broker.store.rows import SHARED, copy_of, session_of, subscription_of

CHUNK: Final = 2000
"""How many things are read before others have their turn."""

TrioOf = Callable[[int], float]

_COPY = "q.id, q.msg, q.inserted_at, q.state, q.extra, msg.frame, msg.expires_at"


def _expires(wall_ms: int | None, trio_of: TrioOf) -> float | None:
    return None if wall_ms is None else trio_of(wall_ms)


def _copy(row: tuple[Any, ...], trio_of: TrioOf) -> Outgoing:
    number, message_number, inserted_at, state, extra, frame, expires_at = row
    message = decode(frame, _expires(expires_at, trio_of))
    return copy_of(number, message_number, inserted_at, state, extra, message)


def everything(db: apsw.Connection, trio_of: TrioOf) -> Iterator[list[Kept]]:
    """All that is kept, in pieces; None-like empty lists stand for "go on"."""
    last = db.execute("SELECT value FROM meta WHERE name = 'last_message_id'").get
    yield [LastMessageId(int(last))] if last is not None else []
    sessions: set[int] = set()
    for rows in _chunks(
        db,
        "SELECT id, client_id, username, created_at, expiry_interval, connected, expires_at, disconnected_at,"
        " will, will_at, owner FROM session ORDER BY id",
    ):
        sessions.update(row[0] for row in rows)
        yield [session_of(row) for row in rows]
    for rows in _chunks(db, "SELECT session, filter, options, identifier FROM sub ORDER BY id"):
        yield [PutSubscription(row[0], subscription_of(*row[1:])) for row in rows if row[0] in sessions]
    for rows in _chunks(db, "SELECT id FROM received ORDER BY id"):
        yield [PutReceived(key >> 16, [key & 0xFFFF]) for (key,) in rows if key >> 16 in sessions]
    yield from _inflight(db, trio_of, sessions)
    yield from _queued(db, sessions)
    for rows in _chunks(db, "SELECT frame, expires_at FROM retained"):
        yield [PutRetained(decode(frame, _expires(expires_at, trio_of))) for frame, expires_at in rows]
    for rows in _chunks(db, "SELECT kind, key, body FROM doc"):
        yield [PutDocument(*row) for row in rows]


def _chunks(db: apsw.Connection, sql: str) -> Iterator[list[tuple[Any, ...]]]:
    cursor = db.execute(sql)
    while rows := list(islice(cursor, CHUNK)):
        yield rows


def _inflight(db: apsw.Connection, trio_of: TrioOf, sessions: set[int]) -> Iterator[list[Kept]]:
    """Copies with a packet identifier, a session at a time."""
    copies: dict[int, list[Outgoing]] = {}
    sql = f"SELECT q.session, {_COPY} FROM q JOIN msg ON msg.id = q.msg WHERE q.state >= 256 ORDER BY q.id"
    for rows in _chunks(db, sql):
        for session, *row in rows:
            if session in sessions:
                copies.setdefault(session, []).append(_copy(tuple(row), trio_of))
        yield []
    yield [KeptInflight(session, found) for session, found in copies.items()]


def _queued(db: apsw.Connection, sessions: set[int]) -> Iterator[list[Kept]]:
    queues: dict[int, KeptCopies] = {}
    for rows in _chunks(db, "SELECT id, session, msg, inserted_at, state FROM q WHERE state < 256 ORDER BY id"):
        for row, session, number, inserted_at, state in rows:
            queue = queues.get(session)
            if queue is None:
                if session not in sessions:
                    continue
                queue = queues[session] = KeptCopies(session, array("q"), array("q"), array("q"), False)
            queue.rows.append(row)
            queue.messages.append(number)
            queue.stamps.append(inserted_at)
            if state & SHARED:
                queue.shared = True
        yield []
    yield list(queues.values())


def references(db: apsw.Connection) -> dict[int, int]:
    """The number of copies of each message that has several."""
    found = db.execute("SELECT msg, count(*) FROM q GROUP BY msg HAVING count(*) > 1")
    return {int(str(number)): int(str(count)) for number, count in found.fetchall()}


def next_key(db: apsw.Connection) -> int:
    """One more than any number that was given."""
    tables = ("session", "msg", "q")
    newest = [db.execute(f"SELECT max(id) FROM {table}").get or 0 for table in tables]
    return 1 + int(max(newest))


def copies(db: apsw.Connection, rows: Sequence[int], trio_of: TrioOf) -> list[Outgoing]:
    """Copies by their rows, oldest first; what is no longer there is left out."""
    wanted = "SELECT value FROM json_each(?)"
    found = db.execute(
        f"SELECT {_COPY} FROM q JOIN msg ON msg.id = q.msg WHERE q.id IN ({wanted}) ORDER BY q.id",
        (msgspec.json.encode(rows).decode(),),
    )
    return [_copy(row, trio_of) for row in found.fetchall()]
