"""RoutingTable against a list of subscriptions and the plainest matching, under any sequence of changes."""

from __future__ import annotations

from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from routing.reference import Client, crowded_filters, matches, met_names, subscription

from trio_broker.routing.routing_table import RoutingTable
from trio_broker.routing.subscription import Subscription

CLIENTS = [Client(f"c{number}") for number in range(4)]
clients = st.sampled_from(CLIENTS)
share_names = st.sampled_from([None, None, "g", "h"])
subscriptions = st.builds(
    subscription,
    crowded_filters,
    share_names,
    qos=st.integers(0, 2),
    no_local=st.booleans(),
    retain_as_published=st.booleans(),
    identifier=st.integers(0, 3),
)


class RoutingModel(RuleBasedStateMachine):
    """`held` is the truth: subscriptions by client and filter in full."""

    def __init__(self) -> None:
        super().__init__()
        self.table: RoutingTable[Client] = RoutingTable(max_plans=6, random=Random(1))
        self.held: dict[tuple[Client, str], Subscription] = {}
        self.offline: set[Client] = set()

    @rule(client=clients, made=subscriptions)
    def subscribe(self, client: Client, made: Subscription) -> None:
        key = (client, made.topic_filter)
        assert self.table.subscribe(client, made) == (key not in self.held)
        self.held[key] = made

    @rule(client=clients, topic_filter=crowded_filters, share_name=share_names)
    def unsubscribe_anything(self, client: Client, topic_filter: str, share_name: str | None) -> None:
        full = subscription(topic_filter, share_name).topic_filter
        assert self.table.unsubscribe(client, full) == (self.held.pop((client, full), None) is not None)

    @rule(data=st.data())
    def unsubscribe_one_that_is_there(self, data: st.DataObject) -> None:
        if self.held:
            key = data.draw(st.sampled_from(list(self.held)))
            assert self.table.unsubscribe(*key)
            del self.held[key]

    @rule(data=st.data())
    def replace_one_that_is_there(self, data: st.DataObject) -> None:
        if self.held:
            client, full = data.draw(st.sampled_from(list(self.held)))
            old = self.held[client, full]
            qos = data.draw(st.integers(0, 2))
            new = subscription(old.match_filter, old.share_name, qos=qos)
            assert not self.table.subscribe(client, new)
            self.held[client, full] = new

    @rule(client=clients)
    def remove(self, client: Client) -> None:
        expected = [full for holder, full in self.held if holder is client]
        assert sorted(self.table.remove(client)) == sorted(expected)
        for full in expected:
            del self.held[client, full]
        self.offline.discard(client)

    @rule(client=clients, online=st.booleans())
    def set_online(self, client: Client, online: bool) -> None:
        self.table.set_online(client, online)
        if online:
            self.offline.discard(client)
        else:
            self.offline.add(client)

    @rule(topic_name=met_names)
    def match(self, topic_name: str) -> None:
        self.table.match(topic_name)

    @invariant()
    def every_plan_is_right(self) -> None:
        for topic_name in list(self.table.plans):
            self.check(topic_name)

    def check(self, topic_name: str) -> None:
        ordinary: dict[Client, list[Subscription]] = {}
        groups: dict[str, dict[Client, Subscription]] = {}
        for (client, full), made in self.held.items():
            if matches(made.match_filter, topic_name):
                if made.share_name is None:
                    ordinary.setdefault(client, []).append(made)
                else:
                    groups.setdefault(full, {})[client] = made
        plan = self.table.match(topic_name)
        assert bool(plan) == bool(ordinary or groups)
        assert self.table.plans[topic_name] is plan
        assert len(plan.deliveries) == len(ordinary)
        for delivery in plan.deliveries:
            parts = ordinary[delivery.recipient]
            local = [part for part in parts if not part.no_local]
            assert delivery.qos == max(part.qos for part in parts)
            assert sorted(delivery.identifiers) == sorted(part.identifier for part in parts if part.identifier)
            assert delivery.retain_as_published == any(part.retain_as_published for part in parts)
            assert delivery.no_local == (len(local) < len(parts))
            assert (delivery.topic_filter, delivery.qos) in [(part.topic_filter, part.qos) for part in parts]
            if delivery.no_local:
                assert (delivery.own is None) == (not local)
                if delivery.own is not None:
                    assert delivery.own.qos == max(part.qos for part in local)
                    assert len(delivery.own.identifiers) == sum(part.identifier > 0 for part in local)
        assert {group.topic_filter: group.members for group in plan.groups} == groups
        assert len(plan.groups) == len(groups)
        for group in plan.groups:
            picked = group.pick("publisher", topic_name)
            assert picked is not None
            assert group.members[picked.recipient].qos == picked.qos
            assert picked.recipient not in self.offline or self.offline.issuperset(group.members)

    @invariant()
    def counts(self) -> None:
        table, held = self.table, self.held
        assert table.subscriptions_count == len(held)
        assert table.shared_subscriptions_count == sum(one.share_name is not None for one in held.values())
        assert {(client, one.topic_filter): one for client, one in table.subscriptions()} == held
        assert table.subscribers_count == len({client for client, _ in held})
        filters = table.topic_filters()
        assert sorted(filters) == sorted({full for _, full in held})
        assert table.topics_count == len(filters)
        assert len(table.plans) <= 6
        assert table._planned_deliveries == sum(len(plan.deliveries) for plan in table.plans.values())
        for client in CLIENTS:
            expected = [one for (holder, _), one in held.items() if holder is client]
            assert table.subscriptions_of(client) == expected


RoutingModel.TestCase.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
TestRoutingModel = RoutingModel.TestCase
