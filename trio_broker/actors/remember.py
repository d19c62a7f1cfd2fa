"""What the store is told of a session that outlives its connection, and how the session comes back out of it.

Invariant: `remember` is called within the step that changes it, and what is acknowledged waits for the store's ticket;
`recall` is called before the actor's first step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_broker.actors.authorizing import will_to_keep
from trio_broker.actors.journal import SessionJournal
from trio_broker.actors.messages import ExpiryDue, WillDue
from trio_broker.protocol.message import Origin
from trio_broker.session.session import Session
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
            will_to_keep(actor),
            actor.will_at,
            actor.disconnected_at,
            "" if actor.claim is None else actor.claim.token,
        )
    )


def recall(actor: SessionActor, kept: PutSession, now: float) -> None:
    """Take up a session that a store kept. If it was connected when the broker ended, its connection ends now."""
    core = actor.core
    actor.username = kept.username
    actor.origin = Origin(actor.client_id, kept.username)
    session = actor.session = Session(actor.client_id, core.limits, core.meter, kept.created_at)
    session.expiry_interval = kept.expiry_interval
    actor.journal = session.journal = SessionJournal(core.store, actor, kept.key)
    actor.told_offline = True
    core.meter.move_gauge("sessions", 1)
    actor.will = kept.will
    if kept.connected:
        actor.disconnected_at = core.clock.wall_ms(now)
        actor.begin_absence(now)
        remember(actor)
        return
    actor.disconnected_at = kept.disconnected_at
    actor.expires_at = kept.expires_at
    actor.will_at = kept.will_at
    # Never later than the intervals from now, should the clock have gone back.
    if kept.will_at is not None and kept.will is not None:
        delay = kept.will.properties.get("will_delay_interval", 0)
        deadline = min(core.clock.trio_time(kept.will_at), now + delay)
        actor.will_timer = actor.later(deadline, WillDue(actor.generation))
    if kept.expires_at is not None:
        deadline = min(core.clock.trio_time(kept.expires_at), now + kept.expiry_interval)
        actor.expiry_timer = actor.later(deadline, ExpiryDue(actor.generation))
