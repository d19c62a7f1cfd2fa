"""What the store is told of a session that outlives its connection.

Invariant: called within the step that changes it; what is acknowledged waits for the store's ticket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_broker.store.operations import PutSession

if TYPE_CHECKING:
    from trio_broker.actors.session_actor import SessionActor


def remember(actor: SessionActor) -> None:
    """The session as it is now; nothing where it ends with its connection."""
    journal, session = actor.journal, actor.session
    if journal is None or session is None:
        return
    journal.put(
        PutSession(
            journal.key,
            actor.client_id,
            actor.username,
            session.created_at,
            session.expiry_interval,
            actor.connection is not None,
            actor.expires_at,
            actor.will,
            actor.will_at,
            actor.disconnected_at,
            "" if actor.claim is None else actor.claim.token,
        )
    )
