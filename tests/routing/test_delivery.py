"""Deliveries: one subscription alone, and several of one recipient merged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing.reference import Client, subscription

from trio_broker.routing.delivery import Delivery, delivery_for, merge
from trio_broker.routing.subscription import Subscription

CLIENT = Client("c")

subscriptions = st.builds(
    subscription,
    st.sampled_from(["a", "+", "#", "a/#"]),
    qos=st.integers(0, 2),
    no_local=st.booleans(),
    retain_as_published=st.booleans(),
    identifier=st.integers(0, 3),
)


@pytest.mark.parametrize(
    ("made", "plain"),
    [
        (subscription("a"), True),
        (subscription("a", qos=2), True),
        (subscription("a", identifier=7), False),
        (subscription("a", no_local=True), False),
        (subscription("a", retain_as_published=True), False),
    ],
)
def test_one_subscription(made: Subscription, plain: bool) -> None:
    delivery = delivery_for(CLIENT, made)
    assert delivery.recipient is CLIENT
    assert delivery.qos == made.qos
    assert delivery.no_local == made.no_local
    assert delivery.retain_as_published == made.retain_as_published
    assert delivery.identifiers == ((made.identifier,) if made.identifier else ())
    assert delivery.plain is plain
    assert delivery.own is None
    assert delivery.topic_filter == "a"


def test_a_shared_subscription_keeps_its_full_filter() -> None:
    assert delivery_for(CLIENT, subscription("a/+", "g")).topic_filter == "$share/g/a/+"


def test_highest_qos_and_its_filter() -> None:
    parts = [delivery_for(CLIENT, subscription(name, qos=qos)) for name, qos in [("a", 0), ("+", 2), ("#", 1)]]
    merged = merge(parts)
    assert (merged.qos, merged.topic_filter, merged.plain) == (2, "+", True)


def test_the_same_identifier_twice_comes_twice() -> None:
    parts = [delivery_for(CLIENT, subscription(name, identifier=it)) for name, it in [("a", 5), ("+", 5), ("#", 1)]]
    assert sorted(merge(parts).identifiers) == [1, 5, 5]


def test_own_messages_where_some_are_no_local() -> None:
    local = delivery_for(CLIENT, subscription("a", qos=1, identifier=1))
    other = delivery_for(CLIENT, subscription("#", qos=2, identifier=2, no_local=True, retain_as_published=True))
    merged = merge([local, other])
    assert (merged.qos, merged.no_local, merged.retain_as_published, merged.identifiers) == (2, True, True, (1, 2))
    own = merged.own
    assert own is not None
    assert (own.qos, own.no_local, own.retain_as_published, own.identifiers) == (1, False, False, (1,))
    assert own.topic_filter == "a"


def test_own_messages_where_all_are_no_local() -> None:
    merged = merge([delivery_for(CLIENT, subscription(name, no_local=True)) for name in ("a", "#")])
    assert merged.no_local
    assert merged.own is None


@given(st.lists(subscriptions, min_size=1, max_size=5))
def test_merge_says_what_the_parts_say(made: list[Subscription]) -> None:
    merged: Delivery[Client] = merge(delivery_for(CLIENT, it) for it in made)
    assert merged.recipient is CLIENT
    assert merged.qos == max(it.qos for it in made)
    assert (merged.topic_filter, merged.qos) in [(it.topic_filter, it.qos) for it in made]
    assert merged.retain_as_published == any(it.retain_as_published for it in made)
    assert list(merged.identifiers) == [it.identifier for it in made if it.identifier]
    assert merged.no_local == any(it.no_local for it in made)
    assert merged.plain == (not merged.identifiers and not merged.retain_as_published and not merged.no_local)
    local = [it for it in made if not it.no_local]
    if merged.no_local and local:
        assert merged.own is not None
        assert merged.own.qos == max(it.qos for it in local)
        assert list(merged.own.identifiers) == [it.identifier for it in local if it.identifier]
        assert not merged.own.no_local
    else:
        assert merged.own is None
