"""Which filters are granted."""

from __future__ import annotations

import pytest

from trio_broker.protocol.packets import SubscribeFilter
from trio_broker.protocol.reason_codes import ReasonCode
from trio_broker.routing.subscription import Subscription
from trio_broker.session.limits import Limits
from trio_broker.session.subscribe import grant


@pytest.mark.parametrize(
    ("topic_filter", "limits", "count", "code"),
    [
        ("a/#/b", Limits(), 0, 0x8F),
        ("a#", Limits(), 0, 0x8F),
        ("a/#", Limits(wildcard_subscription=False), 0, 0xA2),
        ("$share/g/+", Limits(wildcard_subscription=False), 0, 0xA2),
        ("$share/g/a", Limits(shared_subscription=False), 0, 0x9E),
        ("a/b/c", Limits(max_topic_levels=2), 0, 0x8F),
        ("$share/g/a/b/c", Limits(max_topic_levels=2), 0, 0x8F),
        ("a", Limits(max_subscriptions=2), 2, 0x97),
        ("secret/a", Limits(), 0, 0x87),
        ("$share/g/secret/a", Limits(), 0, 0x87),
    ],
)
def test_refused(topic_filter: str, limits: Limits, count: int, code: int) -> None:
    def authorize(topic: str, qos: int, now: float) -> bool:
        return not topic.startswith("secret")

    assert grant(SubscribeFilter(topic_filter), 0, limits, count, authorize, 0.0) == code


@pytest.mark.parametrize(
    ("topic_filter", "share_name", "match_filter"),
    [
        ("a", None, "a"),
        ("#", None, "#"),
        ("$share/g/a/+", "g", "a/+"),
        ("$share/g//", "g", "/"),
        ("$SYS/#", None, "$SYS/#"),
    ],
)
@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_granted(topic_filter: str, share_name: str | None, match_filter: str, allowed: int) -> None:
    """[MQTT-3.2.2-10] QoS no higher than the server has."""
    limits = Limits(max_qos_allowed=allowed, max_topic_levels=2, max_subscriptions=2)
    asked = SubscribeFilter(topic_filter, 2, False, True, 1)
    granted = grant(asked, 9, limits, 1, None, 0.0)
    assert granted == Subscription(topic_filter, match_filter, share_name, allowed, False, True, 1, 9)


@pytest.mark.parametrize("topic_filter", ["", "$share/g/", "$share//a", "$share/g+/a"])
def test_malformed(topic_filter: str) -> None:
    assert isinstance(grant(SubscribeFilter(topic_filter), 0, Limits(), 0, None, 0.0), ReasonCode)
