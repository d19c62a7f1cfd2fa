"""What others do to a session: end it, end with it, or set the clock.

Invariant: called by the session's actor, within its step (`abandon`: before its first one).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from trio_broker.actors.messages import After, EndConnection, Kick
from trio_broker.actors.remember import remember
from trio_broker.protocol.reason_codes import ReasonCode

if TYPE_CHECKING:
    from trio_broker.actors.session_actor import SessionActor


def kick(actor: SessionActor, question: Kick) -> None:
    """By an administrator: connection and session end, the will as after any abnormal end."""
    was_kept = actor.journal is not None
    if actor.connection is not None:
        if actor.session is not None:
            actor.session.expiry_interval = 0
        _cut_off(actor)
    actor.end_session()
    _answer_when_kept(actor, question, was_kept)


def end_connection(actor: SessionActor, question: EndConnection) -> None:
    """By an administrator, too; the session goes on as after any abnormal end, if it is one that does."""
    if actor.connection is None or actor.connection.over:
        question.answer(False)
        return
    was_kept = actor.journal is not None
    _cut_off(actor)
    _answer_when_kept(actor, question, was_kept)


def _cut_off(actor: SessionActor) -> None:
    connection, actor.connection = actor.connection, None
    assert connection is not None
    connection.actor = None
    connection.fail(ReasonCode.ADMINISTRATIVE_ACTION, "kicked out")
    actor.offline(ReasonCode.ADMINISTRATIVE_ACTION, "kicked out", keep_will=True)


def _answer_when_kept(actor: SessionActor, question: Kick | EndConnection, was_kept: bool) -> None:
    """When what became of the session is routed and durable, where the store has it."""
    if was_kept:
        actor.core.router.take([After(partial(actor.core.when_durable, partial(question.answer, True)))])
    else:
        question.answer(True)


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
