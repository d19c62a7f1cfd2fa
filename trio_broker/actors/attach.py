"""A connection comes to a session: take over, resume, or begin anew, and say so when that is durable.

Invariant: called by the session's actor; until CONNACK has left, the session counts as without a connection, so that
messages for it wait in its queue [MQTT-3.2.0-1].
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from trio_broker.actors.announce import announce_connected
from trio_broker.actors.authorizing import authorize
from trio_broker.actors.expiry import expire_later
from trio_broker.actors.journal import SessionJournal
from trio_broker.actors.messages import Attach, Online
from trio_broker.actors.on_demand import Rest
from trio_broker.actors.remember import remember
from trio_broker.errors import ProtocolError
from trio_broker.protocol.message import Origin
from trio_broker.protocol.reason_codes import ReasonCode
from trio_broker.session.channel import Channel
from trio_broker.session.connect import Terms, connack_frame, terms
from trio_broker.session.session import Session

if TYPE_CHECKING:
    from trio_broker.actors.session_actor import SessionActor
    from trio_broker.store.ticket import Ticket

log = logging.getLogger("trio_broker.session")


def attach(actor: SessionActor, item: Attach) -> Rest | None:
    """A connection for this session: take over, resume, or begin anew [MQTT-3.1.4-3, 3.1.2-4 to 3.1.2-6]."""
    core = actor.core
    connection, connect = item.connection, item.connect
    agreed = terms(connect, item.client_id, core.limits)
    if core.store.failure is not None and (agreed.session_expiry_interval > 0 or actor.journal is not None):
        connection.refuse(ProtocolError(ReasonCode.SERVER_UNAVAILABLE, "the store cannot be written"))
        return None
    if item.verdict.authenticator and core.authn_users.is_gone(item.verdict, item.client_id, connect.username):
        connection.refuse(ProtocolError(ReasonCode.NOT_AUTHORIZED, "its user was deleted"))
        return None
    taken = actor.connection is not None
    if actor.connection is not None:
        if core.tracing.active:
            core.tracing.session_event(actor, "session_taken_over", by=connection.name)
        old, actor.connection = actor.connection, None
        log.debug("session of client %r taken over by %s", actor.client_id, connection.name)
        if connect.clean_start:
            core.meter.session_discarded += 1
        else:
            core.meter.session_takenover += 1
        old.actor = None
        old.fail(ReasonCode.SESSION_TAKEN_OVER, "session taken over")
        actor.offline(ReasonCode.SESSION_TAKEN_OVER, "session taken over", keep_will=True)
    if connection.over:
        return None  # it went away while it waited
    if actor.session is not None and agreed.clean_start:
        if not taken:
            core.meter.session_discarded += 1
        item.waits = actor.journal is not None
        actor.end_session(discarded=True)
    elif actor.session is not None and actor.has_expired(core.clock.now()):
        actor.end_session()  # its timer was about to say so
    if actor.is_gone:
        # What is still on its way to the old session must not reach a new one: that gets an actor of its own.
        core.manager.again(item)
        return None
    actor.cancel_timers()
    actor.verdict = item.verdict
    actor.will = connect.will  # a new connection ends the delay of an old will [MQTT-3.1.3-9]
    actor.generation += 1
    now = core.clock.now()
    wall_ms = core.clock.wall_ms(now)
    session = actor.session
    present = session is not None
    if session is None:
        session = actor.session = Session(actor.client_id, core.limits, core.meter, wall_ms)
        core.meter.session_created += 1
        core.meter.move_gauge("sessions", 1)
    else:
        session.live_under(core.limits)
        core.meter.session_resumed += 1
    actor.connection = connection
    connection.client_id = actor.client_id
    connection.decoder.max_packet_size = core.limits.max_packet_size  # as its CONNACK says
    actor.peer = connection.info
    actor.terms = agreed
    actor.username = connect.username
    actor.origin = Origin(actor.client_id, connect.username)
    actor.connected_at = wall_ms
    actor.disconnected_at = None
    actor.expires_at = actor.will_at = None
    session.expiry_interval = agreed.session_expiry_interval
    session.awaiting_rel = dict.fromkeys(session.awaiting_rel, now)  # it could not release them until now
    store = core.store
    begins = actor.journal is None and store.keeps and agreed.session_expiry_interval > 0
    if begins:
        actor.journal = session.journal = SessionJournal(store, actor, store.new_key())
    if actor.journal is not None:
        remember(actor)
        if begins and present:
            actor.journal.begin(session)
    if (actor.journal is not None or item.waits) and not store.ticket.done:
        return partial(_welcome_when, actor, store.ticket, item, agreed, present)
    return _welcome(actor, item, agreed, present)


async def _welcome_when(actor: SessionActor, ticket: Ticket, item: Attach, agreed: Terms, present: bool) -> None:
    """What the CONNACK promises has to be durable first."""
    await actor.pause(ticket.wait)
    rest = _welcome(actor, item, agreed, present)
    if rest is not None:
        await rest()


def _welcome(actor: SessionActor, item: Attach, agreed: Terms, present: bool) -> Rest | None:
    """CONNACK, what is inflight again, what waited [MQTT-3.2.0-1, 4.4.0-1]."""
    core = actor.core
    session = actor.session
    connection, connect = item.connection, item.connect
    assert session is not None
    channel = Channel(
        session,
        agreed,
        actor.origin,
        actor,
        connection,
        rewrite=core.topic_rewrite.rewrite_filter,
    )
    authorize(actor, connection, channel)
    frame = connack_frame(connect, agreed, session.limits, present, item.verdict.data)
    if frame is None or connection.over:
        if frame is None:
            error = ProtocolError(ReasonCode.PACKET_TOO_LARGE, "CONNACK does not fit into its maximum packet size")
            connection.refuse(error, answer=False)
        # Else it was refused while the store was busy. The session stays; the will was never in force.
        actor.connection = None
        actor.offline(ReasonCode.UNSPECIFIED_ERROR, "refused", keep_will=False)
        return None
    if core.tracing.active:
        core.tracing.attaching(actor, connection, item.verdict, present)
    now = core.clock.now()
    out = [frame]
    session.attach(agreed.level, agreed.receive_maximum, agreed.maximum_packet_size)
    session.expire_queued(now)
    session.pump(now, out)
    connection.write(out[0] if len(out) == 1 else b"".join(out))
    actor.online = True
    actor.count_packet()
    announce_connected(actor, connection, agreed, present)
    step = core.step(now)
    if core.auto_subscribe.topics:
        change = core.auto_subscribe.change(actor, connection)
        if change is not None:
            step.routed.append(change)
    verdict = item.verdict
    if verdict.expire_at is not None or verdict.rules_expire_at is not None:
        expire_later(connection, verdict)
    connection.attached(channel, actor, step)
    actor.open = True  # what the client sent ahead may be for itself
    core.hand_on(step)
    actor.open = False
    actor.fetch()
    if actor.told_offline:
        actor.told_offline = False
        core.router.take([Online(actor, True)])
    if session.unfinished:
        return actor.pump_on
    if actor.hungry:
        actor.feed_retained()
    return None
