"""What a store kept comes back before the first listener opens: sessions with all that is theirs, retained messages.

Invariant: what expired while the broker was away comes back to nobody; queues stay in the store until they are needed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from trio_broker.actors.fetch import forget_rows, pass_on
from trio_broker.actors.messages import Online, PassOn
from trio_broker.actors.remember import recall
from trio_broker.actors.session_actor import SessionActor
from trio_broker.actors.session_ends import abandon
from trio_broker.protocol.message import Message
from trio_broker.session.changes import SubscribeChange
from trio_broker.session.outgoing import PUBREL_SENT
from trio_broker.session.session import Session
from trio_broker.session.tail import Tail
from trio_broker.store.operations import (
    DeleteRetained,
    DeleteSession,
    Kept,
    KeptCopies,
    KeptInflight,
    LastMessageId,
    PutReceived,
    PutRetained,
    PutSession,
    PutSubscription,
)

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

log = logging.getLogger("trio_broker.store")

TELL_EVERY = 2.0
"""Seconds between two lines that say how far it is."""


class _Restoring:
    """One start. `actors` by the key of their session."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.now = core.clock.now()
        self.wall_ms = core.clock.wall_ms(self.now)
        self.actors: dict[int, SessionActor] = {}
        self.keys: dict[str, int] = {}
        self.queued = self.retained = 0
        self.orphans: list[KeptCopies] = []
        self.left: list[tuple[str, Message]] = []

    def take(self, kept: Kept) -> None:
        match kept:
            case PutSession():
                self._session(kept)
            case PutSubscription():
                self._subscription(kept)
            case PutReceived():
                session = self._session_of(kept.session)
                if session is not None:
                    session.awaiting_rel.update(dict.fromkeys(kept.packet_identifiers, self.now))
            case KeptInflight():
                self._inflight(kept)
            case KeptCopies():
                self._queue(kept)
            case PutRetained():
                self._retained(kept)
            case LastMessageId():
                self._seen(kept.message_id)

    def _seen(self, message_id: int) -> None:
        self.core.next_message_id = max(self.core.next_message_id, message_id + 1)

    def _session_of(self, key: int) -> Session | None:
        actor = self.actors.get(key)
        return None if actor is None else actor.session

    def _session(self, kept: PutSession) -> None:
        older = self.keys.get(kept.client_id)
        if older is not None:
            # A session that had failed, and another that began after it: the later one counts.
            log.warning("client %r has two sessions in the store: the older one is dropped", kept.client_id)
            self.core.store.write(DeleteSession(older))
            abandon(self.actors.pop(older))
        self.keys[kept.client_id] = kept.key
        actor = SessionActor(self.core, kept.client_id)
        self.core.manager.restore(actor)
        recall(actor, kept, self.now)
        self.actors[kept.key] = actor
        self.core.router.take([Online(actor, False)])

    def _subscription(self, kept: PutSubscription) -> None:
        owner = self.actors.get(kept.session)
        if owner is None or owner.session is None:
            return
        subscription = kept.subscription
        owner.session.subscriptions[subscription.topic_filter] = subscription
        change = SubscribeChange(owner, 0, [subscription], [True], [subscription.qos], restored=True)
        self.core.router.take([change])

    def _inflight(self, kept: KeptInflight) -> None:
        session = self._session_of(kept.session)
        if session is None:
            self.core.store.remove(kept.copies)
            left = [(copy.share, copy.message) for copy in kept.copies if copy.share is not None and copy.qos == 1]
            self.left += left
            return
        for copy in kept.copies:
            session.inflight.copies[copy.packet_identifier] = copy
            session.inflight.releasing += copy.phase == PUBREL_SENT
            session.stamp = max(session.stamp, copy.inserted_at_ns)
            self._seen(copy.message.message_id)
        session.inflight.last = kept.copies[-1].packet_identifier

    def _queue(self, kept: KeptCopies) -> None:
        session = self._session_of(kept.session)
        if session is None:
            self.orphans.append(kept)
            return
        tail = Tail()
        tail.rows, tail.messages, tail.stamps, tail.shared = kept.rows, kept.messages, kept.stamps, kept.shared
        tail.has_qos0 = kept.has_qos0
        session.stamp = max(session.stamp, kept.stamps[-1])
        session.mqueue.tail = tail
        maximum = session.mqueue.maximum
        if maximum and len(tail) > maximum:
            # The limit is lower than it was.
            dropped = [tail.popleft() for _ in range(len(tail) - maximum)]
            session.count_dropped(len(dropped))
            self.core.store.remove_rows([row for row, _ in dropped], [message for _, message in dropped])
        self.queued += len(tail)

    def _retained(self, kept: PutRetained) -> None:
        message = kept.message
        self._seen(message.message_id)
        if message.expires_at is not None and message.expires_at <= self.now:
            self.core.store.write(DeleteRetained(message.topic_name, message.message_id))
            return
        self.core.retainer.restore(message)
        self.retained += 1


async def restore(core: Core) -> None:
    """Read the store once."""
    store = core.store
    if not store.keeps:
        return
    restoring = _Restoring(core)
    begun = told = trio.current_time()
    async for kept in store.load():
        restoring.take(kept)
        now = trio.current_time()
        if now - told >= TELL_EVERY:
            told = now
            log.info("reading the store: %d sessions so far", len(restoring.actors))
    if restoring.left:
        core.router.take([PassOn(restoring.left)])
    for kept in restoring.orphans:
        # Of a session that had ended: what shared subscriptions brought it is for others.
        work = pass_on if kept.shared else forget_rows
        core.sessions_nursery.start_soon(work, core, kept.rows, kept.messages)
    if restoring.actors or restoring.retained:
        log.info(
            "the store has %d sessions, %d queued and %d retained messages (read in %.1f s)",
            len(restoring.actors),
            restoring.queued,
            restoring.retained,
            trio.current_time() - begun,
        )
