"""What the store is told of a session that outlives its connection.

Invariant: what is acknowledged waits for the ticket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_broker.store.operations import DeleteSession, PutSession, PutSubscription

if TYPE_CHECKING:
    from trio_broker.actors.session_actor import SessionActor
    from trio_broker.store.ticket import Ticket


def remember(actor: SessionActor, expires_at: int | None, known: bool = True) -> Ticket | None:
    """Let the store know of the session (`expires_at` is wall clock in milliseconds); the ticket says when it does.

    `known` says that the store has it already: then it has its subscriptions, too.
    """
    store = actor.core.store
    session = actor.session
    if not store.keeps or session is None:
        return None
    if not actor.persistent:
        if known:
            store.write(DeleteSession(actor.client_id))  # resumed, but now it ends with its connection
        return None
    put = PutSession(actor.client_id, actor.username, session.created_at, session.expiry_interval, expires_at)
    ticket = store.write(put)
    if not known and session.subscriptions:
        subscriptions = session.subscriptions.values()
        ticket = store.write(*(PutSubscription(actor.client_id, subscription) for subscription in subscriptions))
    return ticket
