"""What others do to a session: end it, end with it, or set the clock.

Invariant: called by the session's actor, within its step (`abandon`: before its first one).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio_broker.actors.remember import remember
from trio_broker.protocol.reason_codes import ReasonCode

if TYPE_CHECKING:
    from trio_broker.actors.session_actor import SessionActor


def kick(actor: SessionActor) -> None:
    """By an administrator: connection and session end, the will as after any abnormal end."""
    if actor.connection is not None:
        connection, actor.connection = actor.connection, None
        connection.actor = None
        connection.fail(ReasonCode.ADMINISTRATIVE_ACTION, "kicked out")
        if actor.session is not None:
            actor.session.expiry_interval = 0
        actor.offline(ReasonCode.ADMINISTRATIVE_ACTION, "kicked out", keep_will=True)
    actor.end_session()


def shut_down(actor: SessionActor) -> None:
    """The broker ends. Without a store that keeps it, a will would be lost: it goes out now."""
    if actor.connection is not None:
        connection, actor.connection = actor.connection, None
        connection.actor = None
        connection.fail(ReasonCode.SERVER_SHUTTING_DOWN, "the broker shuts down")
    session = actor.session
    if session is None:
        return
    actor.cancel_timers()
    if actor.journal is None:
        actor.end_session()
        return
    # The store has it as it is: its connection, if there is one, ends for it with the next start. Messages that
    # others have sent before they are told to go are still queued for it.
    session.detach()
    actor.core.manager.forget(actor)


def clock_was_set(actor: SessionActor) -> None:
    """What the store was told in wall clock time is another time now."""
    if actor.connection is not None or actor.session is None:
        return
    wall_ms = actor.core.clock.wall_ms
    if actor.expiry_timer is not None:
        actor.expires_at = wall_ms(actor.expiry_timer.deadline)
    if actor.will_timer is not None and actor.will is not None:
        actor.will_at = wall_ms(actor.will_timer.deadline)
    remember(actor)


def abandon(actor: SessionActor) -> None:
    """Another session of the same client identifier counts: this one was never there."""
    actor.cancel_timers()
    actor.session = actor.journal = actor.will = None
    actor.is_gone = True
    actor.core.meter.move_gauge("sessions", -1)
