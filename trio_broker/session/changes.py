"""What goes through the router in order with the messages around it: subscription changes, and answers.

Invariant: the router takes them in the order of arrival and tells the session after it has applied them.
"""

from __future__ import annotations

from typing import Any

from attrs import define

from trio_broker.routing.subscription import Subscription


@define(eq=False)
class SubscribeChange:
    """A SUBSCRIBE: one reason code a filter; `subscriptions` has None where the filter was refused.

    `existed` tells for each whether the session had the filter before (for retain handling 1). `packet_identifier`
    is 0 when no SUBACK is to be sent (a subscription made over REST). `restored`: it comes from the store, nobody has
    to be told of it and nothing is sent for it.
    """

    recipient: Any
    packet_identifier: int
    subscriptions: list[Subscription | None]
    existed: list[bool]
    reason_codes: list[int]
    connection: Any = None
    restored: bool = False

    def retrievals(self) -> list[Subscription]:
        """The subscriptions that are to be given retained messages.

        [MQTT-3.3.1-9 to 3.3.1-11]; a shared subscription gets none (MQTT 5.0 section 4.8.2).
        """
        return [
            subscription
            for subscription, existed in zip(self.subscriptions, self.existed, strict=True)
            if subscription is not None
            and subscription.share_name is None
            and (subscription.retain_handling == 0 or (subscription.retain_handling == 1 and not existed))
        ]


@define(eq=False)
class Answer:
    """A PUBLISH with QoS 1 or 2 that goes nowhere: it is not allowed, or a copy of one that is open.

    Its PUBACK or PUBREC takes the way of all others, so that it overtakes none of them [MQTT-4.6.0-2, 4.6.0-3].
    """

    publisher: Any
    qos: int
    packet_identifier: int
    reason_code: int
    stored: bool = False
    """It answers for something that may not be durable yet."""


@define(eq=False)
class UnsubscribeChange:
    """An UNSUBSCRIBE: the filters that existed are dropped, `reason_codes` has one code for each asked for."""

    recipient: Any
    packet_identifier: int
    topic_filters: list[str]
    reason_codes: list[int]
    connection: Any = None
