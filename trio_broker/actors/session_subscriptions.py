"""How a session's subscriptions change: SUBACK for what the router has done, and what an administrator wants.

Invariant: called by the session's actor, within its step; SUBACK and UNSUBACK leave after the router knows the change.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from trio_broker.actors.messages import After, SubscribeFor, UnsubscribeFor
from trio_broker.protocol.encode import encode
from trio_broker.protocol.packets import SubAck, UnsubAck
from trio_broker.protocol.reason_codes import ReasonCode
from trio_broker.session.changes import SubscribeChange, UnsubscribeChange
from trio_broker.session.subscribe import renamed

if TYPE_CHECKING:
    from trio_broker.actors.session_actor import SessionActor


def subscribed(actor: SessionActor, change: SubscribeChange) -> None:
    """The router knows the filters: SUBACK [MQTT-3.8.4-1, 3.8.4-6]."""
    meter = actor.core.meter
    # One for each SUBSCRIBE, however many steps it took, and each subscription made by others.
    meter.client_subscribe += bool(change.packet_identifier) or change.connection is None
    if actor.core.sys_topics is not None:
        actor.core.sys_topics.subscribed(actor, change)
    if actor.core.tracing.active:
        actor.core.tracing.subscribed(actor, change)
    retrievals = len(change.retrievals())
    if retrievals:
        actor.expect_retained(retrievals)
    if not change.packet_identifier or change.connection is not actor.connection or actor.terms is None:
        return
    if _answer(actor, SubAck(change.packet_identifier, change.reason_codes)):
        meter.packets_suback_sent += 1


def unsubscribed(actor: SessionActor, change: UnsubscribeChange) -> None:
    """The router has dropped the filters: UNSUBACK [MQTT-3.10.4-4]."""
    meter = actor.core.meter
    meter.client_unsubscribe += bool(change.packet_identifier) or change.connection is None
    if actor.core.sys_topics is not None:
        actor.core.sys_topics.unsubscribed(actor, change.topic_filters)
    if actor.core.tracing.active:
        actor.core.tracing.unsubscribed(actor, change.topic_filters)
    if not change.packet_identifier or change.connection is not actor.connection or actor.terms is None:
        return
    if _answer(actor, UnsubAck(change.packet_identifier, change.reason_codes)):
        meter.packets_unsuback_sent += 1


def _answer(actor: SessionActor, packet: SubAck | UnsubAck) -> bool:
    """False: it is too large for the client and cannot be left out, so the connection ends [MQTT-3.1.2-24]."""
    assert actor.terms is not None
    frame = encode(packet, actor.terms.level)
    if len(frame) > actor.terms.maximum_packet_size:
        assert actor.connection is not None
        actor.connection.fail(ReasonCode.PACKET_TOO_LARGE, "its answer is larger than its maximum packet size")
        return False
    out: list[bytes] = []
    if actor.journal is None:
        out.append(frame)
    else:
        actor.journal.hold([frame], out)
    if out:
        actor.write(out)
    actor.count_packet()
    return True


def subscribe_for(actor: SessionActor, item: SubscribeFor) -> None:
    """Subscribe on behalf of the client; there is no SUBACK."""
    assert actor.session is not None
    subscription = item.subscription
    topic_filter = actor.core.topic_rewrite.rewrite_filter(subscription.topic_filter, actor.origin)
    if topic_filter != subscription.topic_filter:
        subscription = renamed(subscription, topic_filter)
    existed = subscription.topic_filter in actor.session.subscriptions
    actor.session.subscriptions[subscription.topic_filter] = subscription
    actor.core.router.take(
        [SubscribeChange(actor, 0, [subscription], [existed], [subscription.qos]), _answered(actor, item)]
    )


def unsubscribe_for(actor: SessionActor, item: UnsubscribeFor) -> None:
    assert actor.session is not None
    topic_filter = actor.core.topic_rewrite.rewrite_filter(item.topic_filter, actor.origin)
    if topic_filter not in actor.session.subscriptions:
        topic_filter = item.topic_filter  # from before there was such a rule
    if actor.session.subscriptions.pop(topic_filter, None) is not None:
        change = UnsubscribeChange(actor, 0, [topic_filter], [ReasonCode.SUCCESS])
        actor.core.router.take([change, _answered(actor, item)])
    else:
        item.answer(True)


def _answered(actor: SessionActor, item: SubscribeFor | UnsubscribeFor) -> After:
    """The answer, when the router knows the change, and the store has it if it keeps the session."""
    answer = partial(item.answer, True)
    return After(answer if actor.journal is None else partial(actor.core.when_durable, answer))
