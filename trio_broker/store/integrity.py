"""Is what a database holds in order? The file itself, and all that this broker means by its rows.

Invariant: nothing is changed, and everything is seen at one moment, so a broker that writes meanwhile spoils nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

import apsw
import msgspec
from attrs import define, field

from trio_broker.errors import ProtocolError, StoreError
from trio_broker.protocol.topics import validate_topic_name
from trio_broker.store.backup import STEPS_A_LOOK, Told, checked
from trio_broker.store.frame import decode
from trio_broker.store.rows import copy_of, session_of, subscription_of

EXAMPLES: Final = 20
"""How many of one kind are told one by one."""
CHUNK: Final = 2000

DAMAGED_FILE: Final = "places where the file is damaged"

# What bytes that were changed behind our back can make of a row.
WRONG: Final = (StoreError, ProtocolError, msgspec.MsgspecError, TypeError, ValueError, KeyError, AttributeError)


@define
class Problems:
    """Those of one kind: how many, and the first of them in words."""

    count: int = 0
    examples: list[str] = field(factory=list)

    def add(self, text: str) -> None:
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(text)


@define
class Report:
    """`counts`: what there is, by table in words; `problems`: by kind, only kinds that were found."""

    counts: dict[str, int] = field(factory=dict)
    problems: dict[str, Problems] = field(factory=dict)

    def add(self, kind: str, text: str) -> None:
        self.problems.setdefault(kind, Problems()).add(text)


NAMES: Final = {
    "session": "sessions",
    "sub": "subscriptions",
    "q": "queued messages",
    "msg": "stored messages",
    "received": "QoS 2 identifiers",
    "retained": "retained messages",
    "doc": "documents",
}
"""A queued message is a copy of a stored one, for one session."""

_NO_SESSION: Final = "LEFT JOIN session ON session.id = {0} WHERE session.id IS NULL"

LEFT_OVER: Final = "of these are of sessions that have ended: a broker that runs removes them"
_LEFT_OVER: Final = "SELECT count(*) FROM q " + _NO_SESSION.format("q.session")
"""A long queue is not deleted in the moment in which its session ends."""

# Kind, query, and its words with the columns of a row.
RELATIONS: Final = (
    (
        "queued messages without message",
        "SELECT q.id, q.session, q.msg FROM q LEFT JOIN msg ON msg.id = q.msg WHERE msg.id IS NULL",
        "queued message {0} of session {1} is a copy of message {2}, which is not there",
    ),
    (
        "stored messages that nobody waits for",
        "SELECT id FROM msg WHERE id NOT IN (SELECT msg FROM q)",
        "message {0} is in no queue",
    ),
    (
        "subscriptions without session",
        "SELECT sub.filter, sub.session FROM sub " + _NO_SESSION.format("sub.session"),
        "subscription {0!r} is of session {1}, which is not there",
    ),
    (
        "QoS 2 identifiers without session",
        "SELECT received.id & 65535, received.id >> 16 FROM received " + _NO_SESSION.format("received.id >> 16"),
        "QoS 2 identifier {0} is of session {1}, which is not there",
    ),
)


def check(db: apsw.Connection, told: Told) -> Report:
    """`db` is in a transaction. Never raises for what is wrong with the data."""
    report = Report()
    _file(db, report, told)
    for table, name in NAMES.items():
        for (count,) in _rows(db, report, name, f"SELECT count(*) FROM {table}", told):
            report.counts[name] = count
        if table == "q":
            for (count,) in _rows(db, report, name, _LEFT_OVER, told):
                if count:
                    report.counts[LEFT_OVER] = count
    for kind, query, words in RELATIONS:
        for row in _rows(db, report, kind, query, told):
            report.add(kind, words.format(*row))
    for kind, table, columns, look in LOOKS:
        for row in _rows(db, report, kind, f"SELECT {columns} FROM {table}", told, report.counts.get(NAMES[table], 0)):
            try:
                look(row)
            except WRONG as error:
                report.add(kind, f"{_named(table, row)}: {error}")
    return report


def _file(db: apsw.Connection, report: Report, told: Told) -> None:
    try:
        for line in checked(db, "integrity_check", 10_000, told):
            report.add(DAMAGED_FILE, line)
    except apsw.Error as error:
        report.add(DAMAGED_FILE, str(error))


def _rows(
    db: apsw.Connection, report: Report, kind: str, query: str, told: Told, total: int = 0
) -> Iterator[tuple[Any, ...]]:
    """The rows of a query, as far as they can be read."""

    def go_on() -> bool:
        told(f"looking for {kind}", done, total)
        return False

    done = 0
    db.set_progress_handler(go_on, STEPS_A_LOOK)
    try:
        cursor = db.execute(query)
        while rows := list(islice(cursor, CHUNK)):
            done += len(rows)
            yield from rows
            go_on()
    except apsw.Error as error:
        # Where the file is damaged, each of the questions fails in the same way.
        if DAMAGED_FILE not in report.problems or str(error) not in report.problems[DAMAGED_FILE].examples:
            report.add(DAMAGED_FILE, str(error))
    finally:
        db.set_progress_handler(None)


def _named(table: str, row: tuple[Any, ...]) -> str:
    match table:
        case "session":
            return f"session {row[0]} of client {row[1]!r}"
        case "sub":
            return f"subscription {row[0]!r} of session {row[3]}"
        case "q":
            return f"queued message {row[0]} of session {row[5]}"
        case "retained":
            return f"retained message of {row[0]!r}"
    return f"message {row[0]}"


def _look_at_session(row: tuple[Any, ...]) -> None:
    session = session_of(row)
    if session.will is not None:
        validate_topic_name(session.will.topic_name)


def _look_at_subscription(row: tuple[Any, ...]) -> None:
    topic_filter, options, identifier, _ = row
    if options < 0 or options & 3 == 3 or options >> 4 > 2:
        raise StoreError(f"{options} stands for no options of a subscription")
    subscription_of(topic_filter, options, identifier)


def _look_at_copy(row: tuple[Any, ...]) -> None:
    number, message, inserted_at, state, extra, _ = row
    if state < 0 or state & 3 == 3 or state >> 8 > 0xFFFF:
        raise StoreError(f"{state} stands for no state of a queued message")
    copy_of(number, message, inserted_at, state, extra, None)


def _look_at_message(row: tuple[Any, ...]) -> None:
    _look_at_frame(row[1])


def _look_at_retained(row: tuple[Any, ...]) -> None:
    topic_name, frame, message_id = row
    found = _look_at_frame(frame)
    if found != (topic_name, message_id):
        raise StoreError(f"it holds message {found[1]} of {found[0]!r}, not {message_id}")


def _look_at_frame(frame: bytes) -> tuple[str, int]:
    message = decode(frame, None)
    kinds: tuple[tuple[object, type], ...] = (
        (message.topic_name, str),
        (message.payload, bytes),
        (message.qos, int),
        (message.message_id, int),
        (message.properties, dict),
    )
    for value, kind in kinds:
        if not isinstance(value, kind):
            raise StoreError(f"a message that was kept has {value!r:.60} where a value of type {kind.__name__} belongs")
    validate_topic_name(message.topic_name)
    return message.topic_name, message.message_id


# Kind, table, columns, and who looks at a row of them.
LOOKS: Final[tuple[tuple[str, str, str, Callable[[tuple[Any, ...]], None]], ...]] = (
    (
        "sessions that cannot be read",
        "session",
        "id, client_id, username, created_at, expiry_interval, connected, expires_at, disconnected_at, will, will_at,"
        " owner",
        _look_at_session,
    ),
    (
        "subscriptions that are not valid",
        "sub",
        "filter, options, identifier, session",
        _look_at_subscription,
    ),
    (
        "queued messages that cannot be read",
        "q",
        "id, msg, inserted_at, state, extra, session",
        _look_at_copy,
    ),
    (
        "stored messages that cannot be read",
        "msg",
        "id, frame",
        _look_at_message,
    ),
    (
        "retained messages that cannot be read",
        "retained",
        "topic, frame, message_id",
        _look_at_retained,
    ),
)
