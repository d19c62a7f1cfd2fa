"""The journal of one session: what the store is told of it, and what has to wait until the store has it.

Invariant: held packets leave in the order in which they were held, by the connection they were made for, or never.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from trio_broker.protocol.reason_codes import ReasonCode
from trio_broker.routing.subscription import Subscription
from trio_broker.session.outgoing import Outgoing
from trio_broker.store.operations import (
    DeleteReceived,
    DeleteSession,
    DeleteSubscription,
    Operation,
    PutReceived,
    PutSession,
    PutSubscription,
)
from trio_broker.store.store import Store

if TYPE_CHECKING:
    from trio_broker.actors.connection import Connection
    from trio_broker.actors.session_actor import SessionActor
    from trio_broker.session.session import Session
    from trio_broker.store.ticket import Ticket


MAX_HELD = 10_000
"""Packets that wait for one commit, for one client: more than its packet identifiers and requests are good for."""


class SessionJournal:
    """`key` is the session's number in the store. After `end` nothing more is written."""

    __slots__ = ("_actor", "_connection", "_frames", "_store", "_ticket", "is_over", "key")

    def __init__(self, store: Store, actor: SessionActor, key: int) -> None:
        self.key = key
        self.is_over = False
        self._store = store
        self._actor = actor
        self._ticket: Ticket | None = None
        self._connection: Connection | None = None
        self._frames: list[bytes] = []

    # -- the session itself

    def put(self, operation: PutSession) -> None:
        """The session as it is now."""
        self._store.write(operation)

    def begin(self, session: Session) -> None:
        """All that a session has which was not kept until now; it is put already."""
        operations: list[Operation] = [
            PutSubscription(self.key, subscription) for subscription in session.subscriptions.values()
        ]
        if session.awaiting_rel:
            operations.append(PutReceived(self.key, list(session.awaiting_rel)))
        if operations:
            self._store.write(*operations)
        copies = [*session.inflight.copies.values(), *(copy for copy in session.mqueue if copy.qos)]
        if copies:
            self.add(copies)

    def end(self, session: Session) -> None:
        """The session is over: nothing of it is kept. The tail of its queue is removed by somebody else."""
        self.is_over = True
        copies = [copy for copy in (*session.inflight.copies.values(), *session.mqueue) if copy.row]
        if copies:
            self._store.remove(copies)
        self._store.write(DeleteSession(self.key))

    def subscribe(self, subscription: Subscription) -> None:
        if not self.is_over:
            self._store.write(PutSubscription(self.key, subscription))

    def unsubscribe(self, topic_filter: str) -> None:
        if not self.is_over:
            self._store.write(DeleteSubscription(self.key, topic_filter))

    # -- messages

    def add(self, copies: Sequence[Outgoing]) -> None:
        self._store.add(self.key, copies)

    def change(self, copies: Sequence[Outgoing]) -> None:
        self._store.change(copies)

    def remove(self, copies: Sequence[Outgoing]) -> None:
        self._store.remove(copies)

    def remove_rows(self, rows: Sequence[int], messages: Sequence[int]) -> None:
        self._store.remove_rows(rows, messages)

    def received(self, packet_identifiers: Sequence[int]) -> None:
        """QoS 2 messages of the client have been routed, and wait for their PUBREL, unless that came already."""
        session = self._actor.session
        if session is not None and not self.is_over:
            waiting = [identifier for identifier in packet_identifiers if identifier in session.awaiting_rel]
            self._store.write(PutReceived(self.key, waiting))

    def forget(self, packet_identifiers: Sequence[int]) -> None:
        """QoS 2 messages of the client were not routed after all: it has to send them again."""
        session = self._actor.session
        if session is not None:
            for identifier in packet_identifiers:
                session.awaiting_rel.pop(identifier, None)

    def released(self, packet_identifiers: Sequence[int]) -> None:
        self._store.write(DeleteReceived(self.key, packet_identifiers))

    # -- what has to wait

    @property
    def is_holding(self) -> bool:
        return self._ticket is not None and self._connection is self._actor.connection

    def hold(self, frames: list[bytes], out: list[bytes]) -> None:
        """See `trio_broker.session.journal`. Without a connection they are dropped: the next one gets them again."""
        ticket = self._store.ticket
        if ticket.done:
            out += frames
            return
        connection = self._actor.connection
        if connection is None:
            return
        if ticket is not self._ticket or connection is not self._connection:
            self._ticket = ticket
            self._connection = connection
            self._frames = []
            ticket.then(partial(self._send, connection, self._frames))
        self._frames += frames
        if MAX_HELD < len(self._frames) <= MAX_HELD + len(frames):
            core = self._actor.core  # not within the session's own step
            too_much = partial(connection.fail, ReasonCode.QUOTA_EXCEEDED, "the store is not done with what it sent")
            core.timers.at(core.clock.now(), too_much)

    def _send(self, connection: Connection, frames: list[bytes]) -> None:
        if self._frames is frames:
            self._ticket = self._connection = None
            self._frames = []
        connection.write_late(frames)
