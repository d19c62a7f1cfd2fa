"""What is kept, read again: all of it at the start, and pages of long queues later.

Invariant: sessions come before what belongs to them. Copies of a session that is not there belonged to one that ended
with a long queue, just before the broker did: whoever reads them removes them.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

import apsw
import msgspec
from attrs import define

from trio_broker.errors import ProtocolError, StoreError
from trio_broker.protocol.message import Message
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

log = logging.getLogger("trio_broker.store")

UNREADABLE: Final = (msgspec.MsgspecError, ProtocolError, TypeError, ValueError, KeyError)
"""What reading rows that make no sense leads to."""
CHUNK: Final = 2000
"""How many things are read before others have their turn."""

TrioOf = Callable[[int], float]


@define(frozen=True)
class Now:
    """Which Trio time it is, and how wall clock in milliseconds becomes Trio time."""

    now: float
    trio_of: TrioOf


_COPY = "q.id, q.msg, q.inserted_at, q.state, q.extra, msg.frame, msg.expires_at"


def _message(frame: bytes, wall_ms: int | None, at: Now) -> Message:
    """It never lives longer than it was given, should the clock have gone back."""
    if wall_ms is None:
        return decode(frame, None)
    message = decode(frame, at.trio_of(wall_ms))
    interval = message.properties.get("message_expiry_interval")
    if interval is not None and message.expires_at is not None:
        message.expires_at = min(message.expires_at, at.now + interval)
    return message


def _copy(row: tuple[Any, ...], at: Now) -> Outgoing:
    number, message_number, inserted_at, state, extra, frame, expires_at = row
    message = _message(frame, expires_at, at)
    return copy_of(number, message_number, inserted_at, state, extra, message)


def everything(db: apsw.Connection, at: Now) -> Iterator[list[Kept]]:
    """All that is kept, in pieces, some of them empty. Raises apsw.Error, and StoreError for what makes no sense."""
    try:
        yield from _everything(db, at)
    except UNREADABLE as error:
        raise StoreError(f"what is kept cannot be understood: {error}") from error


def _everything(db: apsw.Connection, at: Now) -> Iterator[list[Kept]]:
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
    yield from _inflight(db, at)
    yield from _queued(db)
    for rows in _chunks(db, "SELECT frame, expires_at FROM retained"):
        yield [PutRetained(_message(frame, expires_at, at)) for frame, expires_at in rows]
    yield [*documents(db)]


def documents(db: apsw.Connection) -> list[PutDocument]:
    """In the order in which they were last written."""
    return [PutDocument(*row) for row in db.execute("SELECT kind, key, body FROM doc ORDER BY rev")]


def _chunks(db: apsw.Connection, sql: str) -> Iterator[list[tuple[Any, ...]]]:
    cursor = db.execute(sql)
    while rows := list(islice(cursor, CHUNK)):
        yield rows


def _inflight(db: apsw.Connection, at: Now) -> Iterator[list[Kept]]:
    """Copies with a packet identifier, a session at a time."""
    copies: dict[int, list[Outgoing]] = {}
    sql = f"SELECT q.session, {_COPY} FROM q JOIN msg ON msg.id = q.msg WHERE q.state >= 256 ORDER BY q.id"
    for rows in _chunks(db, sql):
        for session, *row in rows:
            copies.setdefault(session, []).append(_copy(tuple(row), at))
        yield []
    yield [KeptInflight(session, found) for session, found in copies.items()]


def _queued(db: apsw.Connection) -> Iterator[list[Kept]]:
    queues: dict[int, KeptCopies] = {}
    for rows in _chunks(db, "SELECT id, session, msg, inserted_at, state FROM q WHERE state < 256 ORDER BY id"):
        for row, session, number, inserted_at, state in rows:
            queue = queues.get(session)
            if queue is None:
                queue = queues[session] = KeptCopies(session, array("q"), array("q"), array("q"), False)
            queue.rows.append(row)
            queue.messages.append(number)
            queue.stamps.append(inserted_at)
            if state & SHARED:
                queue.shared = True
            if not state & 3:
                queue.has_qos0 = True
        yield []
    yield list(queues.values())


def references(db: apsw.Connection) -> dict[int, int]:
    """The number of copies of each message that has several."""
    found = db.execute("SELECT msg, count(*) FROM q GROUP BY msg HAVING count(*) > 1")
    return {int(str(number)): int(str(count)) for number, count in found.fetchall()}


def next_key(db: apsw.Connection) -> int:
    """One more than any number that was given."""
    tables = ("session", "msg", "q")
    newest = [int(db.execute(f"SELECT max(id) FROM {table}").get or 0) for table in tables]
    reserved = db.execute("SELECT value FROM meta WHERE name = 'last_key'").get
    return 1 + max(*newest, int(reserved or 0))


def copies(db: apsw.Connection, rows: Sequence[int], at: Now) -> list[Outgoing]:
    """Copies by their rows, oldest first; what is no longer there or makes no sense is left out."""
    wanted = "SELECT value FROM json_each(?)"
    found = db.execute(
        f"SELECT {_COPY} FROM q JOIN msg ON msg.id = q.msg WHERE q.id IN ({wanted}) ORDER BY q.id",
        (msgspec.json.encode(rows).decode(),),
    )
    readable: list[Outgoing] = []
    for row in found.fetchall():
        try:
            readable.append(_copy(row, at))
        except (*UNREADABLE, StoreError) as error:
            log.error("copy %s in the store makes no sense and stays there: %s", row[0], error)
    return readable
