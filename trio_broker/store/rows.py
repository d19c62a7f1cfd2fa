"""How what is kept looks in the rows of a table.

Invariant: `x_of(x_row(x)) == x`; numbers in here are part of the file's schema and never change their meaning.
"""

from __future__ import annotations

from typing import Any, Final

from trio_broker.errors import StoreError
from trio_broker.protocol.packets import NO_PROPERTIES, Will
from trio_broker.protocol.topics import parse_topic_filter
from trio_broker.routing.subscription import Subscription
from trio_broker.session.outgoing import PUBLISH_SENT, PUBREL_SENT, QUEUED, Outgoing
from trio_broker.store.frame import decode_plain, encode_plain
from trio_broker.store.operations import PutSession

SHARED: Final = 1 << 5
"""In the state of a copy: it came by a shared subscription."""


def state_of(copy: Outgoing) -> int:
    """QoS in bits 0 and 1, retain in 2, phase in 3 and 4, "shared" in 5, packet identifier from 8."""
    return (
        copy.qos
        | copy.retain << 2
        | copy.phase << 3
        | (0 if copy.share is None else SHARED)
        | copy.packet_identifier << 8
    )


def extra_of(copy: Outgoing) -> bytes | None:
    """What most copies do not have: subscription identifiers, and the shared subscription."""
    if not copy.identifiers and copy.share is None:
        return None
    return encode_plain((copy.identifiers, copy.share))


def copy_of(row: int, number: int, inserted_at: int, state: int, extra: bytes | None, message: Any) -> Outgoing:
    identifiers: tuple[int, ...] = ()
    share: str | None = None
    if extra is not None:
        raw, share = decode_plain(extra)
        identifiers = tuple(raw)
    packet_identifier = state >> 8
    phase = state >> 3 & 3
    if phase not in (QUEUED, PUBLISH_SENT, PUBREL_SENT):
        raise StoreError(f"copy {row} is in phase {phase}, which there is not")
    if packet_identifier and phase == QUEUED:
        phase = PUBLISH_SENT
    copy = Outgoing(message, state & 3, bool(state & 4), identifiers, inserted_at, packet_identifier, phase)
    copy.sent = phase != QUEUED
    copy.share = share
    copy.row = row
    copy.message_row = number
    return copy


def options_of(subscription: Subscription) -> int:
    return (
        subscription.qos
        | subscription.no_local << 2
        | subscription.retain_as_published << 3
        | subscription.retain_handling << 4
    )


def subscription_of(topic_filter: str, options: int, identifier: int) -> Subscription:
    share_name, match_filter = parse_topic_filter(topic_filter)
    return Subscription(
        topic_filter=topic_filter,
        match_filter=match_filter,
        share_name=share_name,
        qos=options & 3,
        no_local=bool(options & 4),
        retain_as_published=bool(options & 8),
        retain_handling=options >> 4,
        identifier=identifier,
    )


def session_row(put: PutSession) -> tuple[object, ...]:
    will = put.will
    packed = None
    if will is not None:
        packed = encode_plain((will.topic_name, will.payload, will.qos, will.retain, will.properties or None))
    return (
        put.key,
        put.client_id,
        put.username,
        put.created_at,
        put.expiry_interval,
        int(put.connected),
        put.expires_at,
        put.disconnected_at,
        packed,
        put.will_at,
        put.owner,
    )


def session_of(row: tuple[Any, ...]) -> PutSession:
    (
        key,
        client_id,
        username,
        created_at,
        expiry_interval,
        connected,
        expires_at,
        disconnected_at,
        packed,
        will_at,
        owner,
    ) = row
    will: Will | None = None
    if packed is not None:
        topic_name, payload, qos, retain, properties = decode_plain(packed)
        if properties and "user_property" in properties:
            properties["user_property"] = [tuple(pair) for pair in properties["user_property"]]
        will = Will(topic_name, payload, qos, retain, properties or NO_PROPERTIES)
    return PutSession(
        key,
        client_id,
        username,
        created_at,
        expiry_interval,
        bool(connected),
        expires_at,
        will,
        will_at,
        disconnected_at,
        owner,
    )
