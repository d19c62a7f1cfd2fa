"""SUBSCRIBE and UNSUBSCRIBE of one connection: what is granted, and how large ones are handled in parts.

Invariant: the packets of a client take effect in their order; a request is answered once, when the router knows all of
it. What a part leaves in `step.routed` has no packet identifier, and is not answered, unless it is the last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import define, evolve, field

from trio_broker.errors import ProtocolError
from trio_broker.protocol.packets import MQTT5, MQTT31, Subscribe, SubscribeFilter, Unsubscribe
from trio_broker.protocol.reason_codes import ReasonCode
from trio_broker.protocol.topics import parse_topic_filter
from trio_broker.routing.subscription import Subscription
from trio_broker.session.changes import SubscribeChange, UnsubscribeChange
from trio_broker.session.subscribe import Asked, grant, renamed

if TYPE_CHECKING:
    from trio_broker.session.channel import Channel
    from trio_broker.session.step import Step

__all__ = ["FILTERS_A_STEP", "RULED_A_STEP", "LongRequest", "go_on", "handle_subscribe", "handle_unsubscribe"]

FILTERS_A_STEP = 256
"""A packet of a megabyte has a hundred thousand filters: so many are handled before others have their turn."""
RULED_A_STEP = 16
"""The same where it has to be looked up what the client may do: there may be a thousand rules."""


@define(eq=False)
class LongRequest:
    """A SUBSCRIBE or UNSUBSCRIBE of which `done` filters are handled; their codes so far."""

    packet: Subscribe | Unsubscribe
    done: int = 0
    reason_codes: list[int] = field(factory=list)


def handle_subscribe(channel: Channel, packet: Subscribe, step: Step) -> None:
    """Do it, or begin a long request. Raises ProtocolError where 3.1 has no other way to say no."""
    if len(packet.filters) > _filters_a_step(channel):
        channel.meter.packets_subscribe_received += 1
        channel.long = LongRequest(packet)
    elif not _must_wait(channel, packet.filters, step):
        channel.meter.packets_subscribe_received += 1
        _subscribe(channel, packet, packet.filters, step).packet_identifier = packet.packet_identifier


def handle_unsubscribe(channel: Channel, packet: Unsubscribe, step: Step) -> None:
    channel.meter.packets_unsubscribe_received += 1
    if len(packet.topic_filters) > FILTERS_A_STEP:
        channel.long = LongRequest(packet)
    else:
        _unsubscribe(channel, packet.topic_filters, step).packet_identifier = packet.packet_identifier


def go_on(channel: Channel, step: Step) -> bool:
    """The next part of a long request; True when that was the last one."""
    long = channel.long
    assert long is not None
    start = long.done
    packet = long.packet
    end = start + (_filters_a_step(channel) if isinstance(packet, Subscribe) else FILTERS_A_STEP)
    if isinstance(packet, Subscribe) and _must_wait(channel, packet.filters[start:end], step):
        return False
    long.done = end
    change: SubscribeChange | UnsubscribeChange
    if isinstance(packet, Subscribe):
        change = _subscribe(channel, packet, packet.filters[start:end], step)
        is_last = end >= len(packet.filters)
    else:
        change = _unsubscribe(channel, packet.topic_filters[start:end], step)
        is_last = end >= len(packet.topic_filters)
    long.reason_codes += change.reason_codes
    if is_last:
        change.packet_identifier = packet.packet_identifier
        change.reason_codes = long.reason_codes
        channel.long = None
    return is_last


def _filters_a_step(channel: Channel) -> int:
    return FILTERS_A_STEP if channel.authorize_subscribe is None else RULED_A_STEP


def _must_wait(channel: Channel, filters: Sequence[SubscribeFilter], step: Step) -> bool:
    """Has it to be found out first whether some of these may be subscribed to? They are in `channel.undecided` then."""
    questions = channel.questions
    if questions is None:
        return False
    undecided: list[Asked] = []
    for wanted in filters:
        try:
            match_filter = parse_topic_filter(wanted.topic_filter).match_filter
        except ProtocolError:
            continue
        asked = ("subscribe", match_filter, wanted.qos, False)
        if questions.waits_for(asked, step.now):
            undecided.append(asked)
    channel.undecided = undecided
    return bool(undecided)


def _subscribe(channel: Channel, packet: Subscribe, filters: Sequence[SubscribeFilter], step: Step) -> SubscribeChange:
    """All or some of its filters; a change without a packet identifier is not answered."""
    subscriptions = channel.session.subscriptions
    identifiers = packet.properties.get("subscription_identifier", [])
    identifier = identifiers[0] if identifiers else 0
    change = SubscribeChange(channel.recipient, 0, [], [], [], channel.publisher)
    # Bridges must not get their own messages back, and pass RETAIN on as it is; 3.x has no options to say so.
    bridge = channel.terms.bridge and channel.level != MQTT5
    own_back = not (bridge or (channel.limits.ignore_loop_deliver and channel.level != MQTT5))
    refused = False
    new: dict[str, Subscription] = {}
    count = len(subscriptions)
    for wanted in filters:
        asked = wanted
        if not own_back:
            asked = evolve(asked, no_local=True, retain_as_published=bridge)
        topic_filter = asked.topic_filter
        if channel.rewrite is not None:
            topic_filter = channel.rewrite(topic_filter, channel.origin)
        existed = topic_filter in subscriptions or topic_filter in new
        granted = grant(asked, identifier, channel.limits, count - existed, channel.authorize_subscribe, step.now)
        change.existed.append(existed)
        if isinstance(granted, Subscription):
            count += not existed
            if topic_filter != asked.topic_filter:
                granted = renamed(granted, topic_filter)
            new[topic_filter] = granted
            change.subscriptions.append(granted)
            change.reason_codes.append(granted.qos)
            continue
        if channel.level == MQTT31:
            # 3.1 has no way to say no in a SUBACK.
            raise ProtocolError(granted, f"filter {asked.topic_filter!r} refused")
        channel.meter.packets_subscribe_error += 1
        if granted == ReasonCode.NOT_AUTHORIZED:
            channel.meter.packets_subscribe_auth_error += 1
            refused = True
        change.subscriptions.append(None)
        change.reason_codes.append(granted if channel.level == MQTT5 else 0x80)
    if channel.questions is not None:
        channel.questions.forget()
    if refused and channel.deny_disconnects:
        raise ProtocolError(ReasonCode.NOT_AUTHORIZED, "a SUBSCRIBE that is not allowed")
    subscriptions.update(new)
    step.routed.append(change)
    return change


def _unsubscribe(channel: Channel, topic_filters: Sequence[str], step: Step) -> UnsubscribeChange:
    subscriptions = channel.session.subscriptions
    change = UnsubscribeChange(channel.recipient, 0, [], [], channel.publisher)
    for named in topic_filters:
        topic_filter = named
        if channel.rewrite is not None:
            topic_filter = channel.rewrite(named, channel.origin)
            if topic_filter not in subscriptions:
                topic_filter = named  # from before there was such a rule
        if subscriptions.pop(topic_filter, None) is None:
            change.reason_codes.append(ReasonCode.NO_SUBSCRIPTION_EXISTED)
        else:
            change.topic_filters.append(topic_filter)
            change.reason_codes.append(ReasonCode.SUCCESS)
    step.routed.append(change)
    return change
