"""What a store has to give back: a naive model of it, and both in a form that can be compared.

Invariant: a `State` holds plain values only, all times in it are wall clock; what two equal ones came from is the same.
"""

from __future__ import annotations

import copy as copying
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

import apsw
import trio
from attrs import define, field

from trio_broker.protocol.message import Message
from trio_broker.routing.subscription import Subscription
from trio_broker.session.outgoing import Outgoing
from trio_broker.store.operations import (
    DeleteDocument,
    DeleteReceived,
    DeleteRetained,
    DeleteSession,
    DeleteSubscription,
    KeptCopies,
    KeptInflight,
    LastMessageId,
    Operation,
    PutDocument,
    PutReceived,
    PutRetained,
    PutSession,
    PutSubscription,
)
from trio_broker.store.store import Store, Wall

PlainMessage: TypeAlias = tuple[object, ...]
PlainCopy: TypeAlias = tuple[object, ...]


class TestWall:
    """A clock without rounding: the wall clock is `offset_ms` after Trio's. `is_real`: the store may use threads."""

    __test__ = False

    def __init__(self, offset_ms: int = 1_700_000_000_000, *, is_real: bool = False) -> None:
        self.is_real = is_real
        self.offset_ms = offset_ms

    def now(self) -> float:
        return trio.current_time()

    def wall_ms(self, now: float) -> int:
        return round(now * 1000) + self.offset_ms

    def trio_time(self, wall_ms: int) -> float:
        return (wall_ms - self.offset_ms) / 1000


@define
class State:
    """All that is kept. Rows are in it, so that copies can be told apart."""

    sessions: dict[int, PutSession] = field(factory=dict)
    subscriptions: dict[int, list[Subscription]] = field(factory=dict)
    received: dict[int, set[int]] = field(factory=dict)
    inflight: dict[int, dict[int, PlainCopy]] = field(factory=dict)
    queued: dict[int, dict[int, PlainCopy]] = field(factory=dict)
    retained: dict[str, PlainMessage] = field(factory=dict)
    documents: dict[tuple[str, str], str] = field(factory=dict)


def plain_message(message: Message, wall: Wall) -> PlainMessage:
    return (
        message.topic_name,
        message.payload,
        message.qos,
        message.retain,
        message.message_id,
        message.origin.client_id,
        message.origin.username,
        message.publish_at,
        dict(message.properties),
        None if message.expires_at is None else wall.wall_ms(message.expires_at),
    )


def plain_copy(copy: Outgoing, wall: Wall) -> PlainCopy:
    return (
        plain_message(copy.message, wall),
        copy.qos,
        copy.retain,
        copy.identifiers,
        copy.inserted_at_ns,
        copy.packet_identifier,
        copy.phase,
        copy.share,
    )


class Model:
    """Takes the same calls as a store, and each has its effect at once. A session's key is used once."""

    def __init__(self, wall: Wall) -> None:
        self._wall = wall
        self._sessions: dict[int, PutSession] = {}
        self._subscriptions: dict[int, dict[str, Subscription]] = {}
        self._received: dict[int, set[int]] = {}
        self._copies: dict[int, tuple[int, PlainCopy]] = {}
        self._retained: dict[str, Message] = {}
        self._documents: dict[tuple[str, str], str] = {}
        self.newest_id = 0

    def add(self, session: int, copies: Sequence[Outgoing]) -> None:
        """After the store has given them their rows."""
        for copy in copies:
            assert copy.row
            assert copy.row not in self._copies
            self._copies[copy.row] = (session, plain_copy(copy, self._wall))
            self.newest_id = max(self.newest_id, copy.message.message_id)

    def change(self, copies: Sequence[Outgoing]) -> None:
        for copy in copies:
            self._copies[copy.row] = (self._copies[copy.row][0], plain_copy(copy, self._wall))

    def remove(self, rows: Iterable[int]) -> None:
        for row in rows:
            del self._copies[row]

    def write(self, operation: Operation) -> None:
        match operation:
            case PutSession(key=key):
                self._sessions[key] = copying.copy(operation)
            case DeleteSession(key=key):
                self._sessions.pop(key, None)
                self._subscriptions.pop(key, None)
                self._received.pop(key, None)
            case PutSubscription(session=session, subscription=subscription):
                self._subscriptions.setdefault(session, {})[subscription.topic_filter] = subscription
            case DeleteSubscription(session=session, topic_filter=topic_filter):
                self._subscriptions.get(session, {}).pop(topic_filter, None)
            case PutReceived(session=session):
                self._received.setdefault(session, set()).update(operation.packet_identifiers)
            case DeleteReceived(session=session):
                self._received.get(session, set()).difference_update(operation.packet_identifiers)
            case PutRetained(message=message):
                self._retained[message.topic_name] = message
                self.newest_id = max(self.newest_id, message.message_id)
            case DeleteRetained(topic_name=topic_name):
                kept = self._retained.get(topic_name)
                if kept is not None and kept.message_id <= operation.message_id:
                    del self._retained[topic_name]
            case PutDocument():
                self._documents[operation.kind, operation.key] = operation.body
            case DeleteDocument():
                self._documents.pop((operation.kind, operation.key), None)

    def state(self) -> State:
        """As `read` would give it: of a session that is not there its copies only, which have to be removed."""
        state = State(sessions=dict(self._sessions), documents=dict(self._documents))
        for key in self._sessions:
            if self._subscriptions.get(key):
                state.subscriptions[key] = list(self._subscriptions[key].values())
            if self._received.get(key):
                state.received[key] = set(self._received[key])
        for row, (session, copy) in self._copies.items():
            where = state.inflight if copy[5] else state.queued
            where.setdefault(session, {})[row] = copy
        state.retained = {topic: plain_message(message, self._wall) for topic, message in self._retained.items()}
        return state


@define
class Read:
    """What a store gave: `last_message_id` is 0 where it gave none."""

    state: State
    last_message_id: int


async def read(store: Store, wall: Wall) -> Read:
    """All of a store by `load` and `queue`; asserts that each thing comes once, and sessions before what is theirs."""
    state = State()
    last = 0
    tails: list[KeptCopies] = []
    async for kept in store.load():
        match kept:
            case PutSession(key=key):
                assert key not in state.sessions
                state.sessions[key] = kept
            case PutSubscription(session=session, subscription=subscription):
                assert session in state.sessions
                mine = state.subscriptions.setdefault(session, [])
                assert subscription.topic_filter not in {other.topic_filter for other in mine}
                mine.append(subscription)
            case PutReceived(session=session):
                assert session in state.sessions
                state.received.setdefault(session, set()).update(kept.packet_identifiers)
            case KeptInflight(session=session):
                assert session not in state.inflight
                state.inflight[session] = {copy.row: plain_copy(copy, wall) for copy in kept.copies}
                assert len(state.inflight[session]) == len(kept.copies)
                assert all(copy.packet_identifier and copy.sent for copy in kept.copies)
            case KeptCopies(session=session):
                assert session not in {tail.session for tail in tails}
                tails.append(kept)
            case PutRetained(message=message):
                assert message.topic_name not in state.retained
                state.retained[message.topic_name] = plain_message(message, wall)
            case PutDocument():
                assert (kept.kind, kept.key) not in state.documents
                state.documents[kept.kind, kept.key] = kept.body
            case LastMessageId():
                last = kept.message_id
            case _:
                raise AssertionError(f"{kept} is nothing that a store gives")
    for tail in tails:
        copies = await store.queue(list(tail.rows))
        assert [copy.row for copy in copies] == list(tail.rows)
        assert [copy.message_row for copy in copies] == list(tail.messages)
        assert [copy.inserted_at_ns for copy in copies] == list(tail.stamps)
        assert tail.shared == any(copy.share is not None for copy in copies)
        state.queued[tail.session] = {copy.row: plain_copy(copy, wall) for copy in copies}
    return Read(state, last)


def assert_same(found: State, wanted: State) -> None:
    """Also the order of subscriptions and copies, which counts; that of all else does not."""
    assert found == wanted
    for mine, theirs in ((found.queued, wanted.queued), (found.inflight, wanted.inflight)):
        assert {key: list(copies) for key, copies in mine.items()} == {
            key: list(copies) for key, copies in theirs.items()
        }


def assert_messages_match_copies(db: apsw.Connection) -> None:
    """A message is there exactly as long as a copy refers to it."""
    messages = {row[0] for row in db.execute("SELECT id FROM msg").fetchall()}
    wanted = {row[0] for row in db.execute("SELECT DISTINCT msg FROM q").fetchall()}
    assert messages == wanted


def look_at(path: Path) -> None:
    """A look at the file by a connection of its own: sound, and no message without a copy or the other way round."""
    db = apsw.Connection(str(path))
    try:
        assert db.pragma("integrity_check") == "ok"
        assert_messages_match_copies(db)
    finally:
        db.close()
