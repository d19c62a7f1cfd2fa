"""Which filters of a SUBSCRIBE are granted, with which reason code [MQTT 5.0 section 3.8.4].

Invariant: what is not granted is never stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from attrs import evolve

from trio_broker.errors import ProtocolError
from trio_broker.protocol.message import Origin
from trio_broker.protocol.packets import SubscribeFilter
from trio_broker.protocol.reason_codes import ReasonCode
from trio_broker.protocol.topics import parse_topic_filter
from trio_broker.routing.subscription import Subscription
from trio_broker.session.limits import Limits

AuthorizePublish = Callable[[str, int, bool, float], bool | None]
"""Topic name, QoS, RETAIN, Trio time: may it be published? None: that has to be found out first."""
AuthorizeSubscribe = Callable[[str, int, float], bool | None]
"""The same for a match filter."""
Asked = tuple[str, str, int, bool]
"""What has to be found out: "publish" or "subscribe", topic name or match filter, QoS, RETAIN."""


class Questions(Protocol):
    """Where decisions may take time."""

    def waits_for(self, asked: Asked, now: float) -> bool:
        """Has it to be found out before it can be decided? What need not be is remembered until `forget`."""

    def forget(self) -> None:
        """What asked for it is done."""


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
    authorize: AuthorizeSubscribe | None,
    now: float,
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
    # A share is no way around a rule for its topics.
    if authorize is not None and not authorize(match_filter, asked.qos, now):
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
