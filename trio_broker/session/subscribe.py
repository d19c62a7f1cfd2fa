"""Which filters of a SUBSCRIBE are granted, with which reason code [MQTT 5.0 section 3.8.4].

Invariant: what is not granted is never stored.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve

from trio_broker.errors import ProtocolError
from trio_broker.protocol.message import Origin
from trio_broker.protocol.packets import SubscribeFilter
from trio_broker.protocol.reason_codes import ReasonCode
from trio_broker.protocol.topics import parse_topic_filter
from trio_broker.routing.subscription import Subscription
from trio_broker.session.limits import Limits

Authorize = Callable[[str], bool]
Rewrite = Callable[[str, Origin], str]
"""The filter, in full, that a client's one stands for; a well-formed one for a well-formed one."""


def renamed(subscription: Subscription, topic_filter: str) -> Subscription:
    """The same for another filter, which is well formed."""
    share_name, match_filter = parse_topic_filter(topic_filter)
    return evolve(subscription, topic_filter=topic_filter, match_filter=match_filter, share_name=share_name)


def grant(
    asked: SubscribeFilter,
    identifier: int,
    limits: Limits,
    count: int,
    authorize: Authorize | None,
) -> Subscription | ReasonCode:
    """The subscription that is granted, or why not. `count` is how many the session has without this one."""
    topic_filter = asked.topic_filter
    try:
        share_name, match_filter = parse_topic_filter(topic_filter)
    except ProtocolError as error:
        return error.reason_code
    if share_name is not None and not limits.shared_subscription:
        return ReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
    if not limits.wildcard_subscription and ("+" in match_filter or "#" in match_filter):
        return ReasonCode.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED
    if match_filter.count("/") >= limits.max_topic_levels:
        return ReasonCode.TOPIC_FILTER_INVALID
    if limits.max_subscriptions is not None and count >= limits.max_subscriptions:
        return ReasonCode.QUOTA_EXCEEDED
    if authorize is not None and not authorize(match_filter):  # a share is no way around a rule for its topics
        return ReasonCode.NOT_AUTHORIZED
    return Subscription(
        topic_filter=topic_filter,
        match_filter=match_filter,
        share_name=share_name,
        qos=min(asked.qos, limits.max_qos_allowed),
        no_local=asked.no_local,
        retain_as_published=asked.retain_as_published,
        retain_handling=asked.retain_handling,
        identifier=identifier,
    )
