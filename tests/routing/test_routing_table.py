"""RoutingTable: plans, what changes them, and the bounds of the cache."""

from __future__ import annotations

from random import Random

import pytest
from routing.reference import MATCHING, Client, subscription

from trio_broker.routing.delivery import Delivery
from trio_broker.routing.routing_table import DELIVERIES_PER_PLAN, Plan, RoutingTable

A, B, C = Client("a"), Client("b"), Client("c")


def recipients(plan: Plan[Client]) -> list[str]:
    return sorted(delivery.recipient.client_id for delivery in plan.deliveries)


@pytest.mark.parametrize(("topic_filter", "topic_name", "expected"), MATCHING)
def test_matching(topic_filter: str, topic_name: str, expected: bool) -> None:
    table = RoutingTable[Client]()
    table.subscribe(A, subscription(topic_filter))
    table.subscribe(B, subscription(topic_filter, "g"))
    plan = table.match(topic_name)
    assert bool(plan) is expected
    assert recipients(plan) == (["a"] if expected else [])
    assert [list(group.members) for group in plan.groups] == ([[B]] if expected else [])


def test_plans_are_kept() -> None:
    table = RoutingTable[Client]()
    table.subscribe(A, subscription("a"))
    assert table.plans == {}
    plan = table.match("a")
    nobody = table.match("b")
    assert table.match("a") is plan
    assert table.plans == {"a": plan, "b": nobody}
    assert plan
    assert not nobody
    assert table.match("c") is nobody


@pytest.mark.parametrize("match_filter", ["a", "a/#"])
def test_subscribing_again_replaces(match_filter: str) -> None:
    table = RoutingTable[Client]()
    assert table.subscribe(A, subscription(match_filter, qos=1, identifier=4))
    table.match("a")
    assert not table.subscribe(A, subscription(match_filter, qos=2))
    (delivery,) = table.match("a").deliveries
    assert (delivery.qos, delivery.identifiers, delivery.plain) == (2, (), True)
    assert (table.subscriptions_count, table.topics_count) == (1, 1)
    assert table.subscribe(B, subscription(match_filter, qos=1))
    assert not table.subscribe(A, subscription(match_filter, qos=0))
    assert [(one.recipient, one.qos) for one in table.match("a").deliveries] == [(A, 0), (B, 1)]


@pytest.mark.parametrize("share_name", [None, "g"])
def test_the_very_same_subscription_again_keeps_the_plans(share_name: str | None) -> None:
    table = RoutingTable[Client]()
    table.subscribe(A, subscription("#", share_name, qos=1))
    plan = table.match("a")
    assert not table.subscribe(A, subscription("#", share_name, qos=1))
    assert table.plans == {"a": plan}


def test_an_exact_filter_drops_the_plan_of_its_topic_only() -> None:
    table = RoutingTable[Client]()
    table.subscribe(A, subscription("#"))
    one, two = table.match("one"), table.match("two")
    table.subscribe(B, subscription("one"))
    assert table.plans == {"two": two}
    assert recipients(table.match("one")) == ["a", "b"]
    table.unsubscribe(B, "one")
    assert table.plans == {"two": two}
    assert recipients(table.match("one")) == recipients(one)


def test_a_wildcard_filter_changes_every_plan_it_may_concern() -> None:
    table = RoutingTable[Client]()
    plans = table.plans
    table.subscribe(A, subscription("x/1"))
    assert recipients(table.match("x/1")) == ["a"]
    assert recipients(table.match("x/2")) == []
    table.subscribe(B, subscription("x/+"))
    assert recipients(table.match("x/1")) == ["a", "b"]
    assert recipients(table.match("x/2")) == ["b"]
    table.remove(B)
    assert recipients(table.match("x/1")) == ["a"]
    assert recipients(table.match("x/2")) == []
    assert table.plans is plans


def test_overlapping_subscriptions_are_one_delivery() -> None:
    table = RoutingTable[Client]()
    table.subscribe(A, subscription("a/b", qos=0, identifier=1))
    table.subscribe(A, subscription("a/+", qos=2, identifier=2, no_local=True))
    table.subscribe(A, subscription("#", qos=1, retain_as_published=True))
    table.subscribe(B, subscription("a/+", qos=1))
    first, second = table.match("a/b").deliveries
    assert first.recipient is A
    assert (first.qos, sorted(first.identifiers), first.topic_filter) == (2, [1, 2], "a/+")
    assert first.retain_as_published
    assert first.no_local
    assert first.own is not None
    assert (first.own.qos, first.own.identifiers, first.own.retain_as_published) == (1, (1,), True)
    assert second.recipient is B
    assert second.plain


def test_one_that_does_not_overlap_is_shared_by_all_plans() -> None:
    """A filter with many subscribers costs a reference a subscriber and topic, not an object."""
    table = RoutingTable[Client]()
    for client in (A, B, C):
        table.subscribe(client, subscription("#", qos=1))
    table.subscribe(A, subscription("x", qos=2))
    assert table.match("x").deliveries[1] is table.match("y").deliveries[1]


def test_shared_and_own_are_independent() -> None:
    table = RoutingTable[Client]()
    table.subscribe(A, subscription("a"))
    table.subscribe(A, subscription("a", "g"))
    table.subscribe(A, subscription("a", "h"))
    table.subscribe(B, subscription("a/#", "g"))
    plan = table.match("a")
    assert recipients(plan) == ["a"]
    assert sorted(group.topic_filter for group in plan.groups) == ["$share/g/a", "$share/g/a/#", "$share/h/a"]
    assert table.unsubscribe(A, "$share/g/a")
    assert not table.unsubscribe(A, "$share/g/a")
    plan = table.match("a")
    assert recipients(plan) == ["a"]
    assert sorted(group.topic_filter for group in plan.groups) == ["$share/g/a/#", "$share/h/a"]
    assert table.unsubscribe(A, "a")
    plan = table.match("a")
    assert recipients(plan) == []
    assert len(plan.groups) == 2
    assert table.remove(A) == ["$share/h/a"]
    assert table.remove(B) == ["$share/g/a/#"]
    assert not table.match("a")


def test_members_change_without_touching_the_plans() -> None:
    table = RoutingTable[Client]()
    table.subscribe(A, subscription("a/#", "g"))
    plan = table.match("a/1")
    table.subscribe(B, subscription("a/#", "g"))
    assert table.match("a/1") is plan
    group = plan.groups[0]
    assert {delivery.recipient for _ in range(4) if (delivery := group.pick("p", "a/1"))} == {A, B}
    table.unsubscribe(A, "$share/g/a/#")
    assert table.match("a/1") is plan
    assert {delivery.recipient for _ in range(4) if (delivery := group.pick("p", "a/1"))} == {B}


@pytest.mark.parametrize("match_filter", ["a", "a/#"])
@pytest.mark.parametrize("beside", [None, "h"])
def test_a_new_group_changes_the_plans(match_filter: str, beside: str | None) -> None:
    table = RoutingTable[Client]()
    table.subscribe(B, subscription(match_filter, beside))
    assert len(table.match("a").groups) == (beside is not None)
    table.subscribe(A, subscription(match_filter, "g"))
    assert "$share/g/" + match_filter in [group.topic_filter for group in table.match("a").groups]


@pytest.mark.parametrize("crowded", ["a", "#"])
def test_matching_changes_nothing(crowded: str) -> None:
    """Where several filters meet, what is gathered must not run into what the table holds for one of them."""
    table = RoutingTable[Client]()
    for client in (A, B):
        table.subscribe(client, subscription(crowded))
    table.subscribe(C, subscription("+/#"))
    table.subscribe(A, subscription("+", qos=2))
    assert recipients(table.match("a")) == ["a", "b", "c"]
    table.unsubscribe(C, "+/#")
    table.unsubscribe(A, "+")
    assert recipients(table.match("a")) == ["a", "b"]
    assert {delivery.qos for delivery in table.match("a").deliveries} == {0}


@pytest.mark.parametrize("match_filter", ["a", "a/#"])
def test_a_filter_of_one_subscriber_is_kept_small(match_filter: str) -> None:
    table = RoutingTable[Client]()
    table.subscribe(A, subscription(match_filter))
    table.subscribe(A, subscription(match_filter, qos=1))
    assert isinstance(table._filters.get(match_filter), Delivery)
    table.subscribe(B, subscription(match_filter))
    table.subscribe(C, subscription(match_filter, "g"))
    assert not isinstance(table._filters.get(match_filter), Delivery)
    table.remove(C)
    table.remove(A)
    (kept,) = table.match("a").deliveries
    assert table._filters.get(match_filter) is kept


def test_a_group_that_ended_and_began_again() -> None:
    table = RoutingTable[Client]()
    table.subscribe(A, subscription("a", "g"))
    old = table.match("a")
    table.remove(A)
    table.subscribe(B, subscription("a", "g"))
    assert table.match("a") is not old
    assert old.groups[0].pick("p", "a") is None
    delivery = table.match("a").groups[0].pick("p", "a")
    assert delivery is not None
    assert delivery.recipient is B


def test_online_and_offline() -> None:
    table = RoutingTable[Client]()
    table.set_online(A, False)  # before it has any subscription
    for client in (A, B):
        table.subscribe(client, subscription("a", "g"))
        table.subscribe(client, subscription("a/+", "g"))

    def reached(topic_name: str) -> set[str]:
        (group,) = table.match(topic_name).groups
        return {found.recipient.client_id for _ in range(4) if (found := group.pick("p", topic_name))}

    assert reached("a") == reached("a/x") == {"b"}
    table.set_online(A, True)
    assert reached("a") == reached("a/x") == {"a", "b"}
    table.set_online(B, False)
    assert reached("a") == reached("a/x") == {"a"}
    table.set_online(A, False)
    assert reached("a") == reached("a/x") == {"a", "b"}
    table.remove(A)
    table.subscribe(A, subscription("a", "g"))  # as if it had never been here
    assert reached("a") == {"a"}


def test_strategy_and_random_reach_the_groups() -> None:
    runs = []
    for _ in range(2):
        table = RoutingTable[Client]("random", random=Random(3))
        for client in (A, B, C):
            table.subscribe(client, subscription("a", "g"))
        (group,) = table.match("a").groups
        runs.append([found.recipient.client_id for _ in range(20) if (found := group.pick("p", "a"))])
    assert runs[0] == runs[1]
    assert set(runs[0]) == {"a", "b", "c"}


def test_topic_filters_and_counts() -> None:
    table = RoutingTable[Client]()
    assert table.topic_filters() == []
    for client in (A, B):
        table.subscribe(client, subscription("a"))
        table.subscribe(client, subscription("a", "g"))
        table.subscribe(client, subscription("a/+/b"))
    table.subscribe(C, subscription("a", "h"))
    table.subscribe(C, subscription("x/#", "g"))
    table.subscribe(C, subscription("y"))
    filters = ["a", "$share/g/a", "$share/h/a", "a/+/b", "$share/g/x/#", "y"]
    assert sorted(table.topic_filters()) == sorted(filters)
    assert table.topics_count == 6
    assert table.subscriptions_count == 9
    assert table.shared_subscriptions_count == 4
    assert table.subscribers_count == 3
    assert [one.topic_filter for one in table.subscriptions_of(C)] == ["$share/h/a", "$share/g/x/#", "y"]
    assert table.remove(C) == ["$share/h/a", "$share/g/x/#", "y"]
    assert sorted(table.topic_filters()) == ["$share/g/a", "a", "a/+/b"]
    for client in (A, B):
        table.remove(client)
    assert table.topic_filters() == []
    assert table.topics_count == table.subscriptions_count == table.shared_subscriptions_count == 0
    assert table.subscribers_count == 0


def test_strangers() -> None:
    table = RoutingTable[Client]()
    table.subscribe(A, subscription("a"))
    assert not table.unsubscribe(B, "a")
    assert not table.unsubscribe(A, "b")
    assert table.remove(B) == []
    assert table.subscriptions_of(B) == []
    assert recipients(table.match("a")) == ["a"]


def test_the_number_of_plans_is_bounded_and_the_oldest_go() -> None:
    table = RoutingTable[Client](max_plans=100)
    table.subscribe(A, subscription("t/+"))
    for number in range(1000):
        table.match(f"t/{number}")
        assert len(table.plans) <= 100
    assert "t/999" in table.plans
    assert "t/0" not in table.plans
    assert len(table.plans) > 90


def test_the_deliveries_of_all_plans_are_bounded() -> None:
    table = RoutingTable[Client](max_plans=10)
    bound = 10 * DELIVERIES_PER_PLAN
    clients = [Client(f"c{number}") for number in range(bound // 4)]
    for client in clients:
        table.subscribe(client, subscription("#"))
    for number in range(30):
        assert len(table.match(f"t/{number}").deliveries) == len(clients)
        assert sum(len(plan.deliveries) for plan in table.plans.values()) <= bound
    assert len(table.plans) == 4
    table.subscribe(A, subscription("t/29"))  # drops one of them
    table.subscribe(A, subscription("t/29"))
    for number in range(30, 60):
        table.match(f"t/{number}")
    assert len(table.plans) == 4
    assert table._planned_deliveries == sum(len(plan.deliveries) for plan in table.plans.values())


def test_one_plan_larger_than_the_bound_is_kept_all_the_same() -> None:
    table = RoutingTable[Client](max_plans=1)
    for number in range(DELIVERIES_PER_PLAN + 5):
        table.subscribe(Client(f"c{number}"), subscription("a"))
    plan = table.match("a")
    assert table.match("a") is plan
    table.match("b")
    assert list(table.plans) == ["b"]


def test_a_table_that_was_emptied_keeps_nothing() -> None:
    table = RoutingTable[Client]()
    for client in (A, B, C):
        for match_filter in ("a", "+/b", "a/#", "#"):
            table.subscribe(client, subscription(match_filter))
            table.subscribe(client, subscription(match_filter, "g"))
    for client in (A, B, C):
        assert len(table.remove(client)) == 8
    assert len(table._filters) == 0
    assert table._filters.count_nodes() == 0
    assert table._groups_of == {}
