"""Which recipients get a message: subscriptions in, a plan for each topic out.

Invariant: a cached plan says what a fresh match would say. A change of an exact filter drops the plan of its one
topic, a change of a filter with wildcards drops all plans; members of a shared group change inside their group, which
plans only refer to. The cache is bounded by its number of plans and by the number of deliveries they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from random import Random
from typing import Any, Final, Generic

from attrs import define, field

from trio_broker.routing.delivery import Delivery, R, delivery_for, merge
from trio_broker.routing.filter_trie import FilterTrie, has_wildcard
from trio_broker.routing.shared_group import SharedGroup, Strategy
from trio_broker.routing.subscription import Subscription
from trio_broker.routing.subscription_table import SubscriptionTable

LONGEST_PLANNED = 512
"""Characters of a topic name whose plan is kept: memory for plans is bounded in bytes, too."""
DELIVERIES_PER_PLAN: Final = 16
"""The cache holds at most this many deliveries for each plan it may hold (one plan may be larger than all that)."""


@define(eq=False, weakref_slot=False)
class Plan(Generic[R]):
    """Where the messages of one topic go. False when that is nowhere."""

    deliveries: tuple[Delivery[R], ...]
    groups: tuple[SharedGroup[R], ...]
    special: object = None
    """What `RoutingTable.special` said of the topic."""

    def __bool__(self) -> bool:
        return bool(self.deliveries or self.groups)


@define(eq=False, repr=False, weakref_slot=False)
class _Entry(Generic[R]):
    """All that hangs on one filter where this is more than one ordinary subscription."""

    deliveries: dict[R, Delivery[R]] = field(factory=dict)
    groups: dict[str, SharedGroup[R]] = field(factory=dict)
    lead: R | None = None
    """Which of `deliveries` leads; those that are alone lead anyway."""


@define(eq=False, repr=False)
class RoutingTable(Generic[R]):
    """Subscriptions of all recipients.

    `plans` may be read in place of `match` by whom the call is too slow: what `plans.get(topic_name)` gives is right
    until the next change of the table, and None means: ask `match` (a topic nobody subscribed to has an empty plan).
    `plans` stays the same dict.

    A recipient counts as online until `set_online` says otherwise; `remove` forgets that as well.
    """

    strategy: Strategy = "round_robin"
    max_plans: int = 100_000
    random: Random = field(factory=Random, kw_only=True)
    special: Callable[[str], object] | None = field(default=None, kw_only=True)
    """Asked once for each plan that is made; what it says of a topic name lies in the plan. None: nothing."""
    plans: dict[str, Plan[R]] = field(factory=dict, init=False)
    _planned_deliveries: int = field(default=0, init=False)
    _nobody: Plan[R] = field(factory=lambda: Plan((), ()), init=False)
    _filters: FilterTrie[Delivery[R] | _Entry[R]] = field(factory=FilterTrie, init=False)
    _subscriptions: SubscriptionTable[R] = field(factory=SubscriptionTable, init=False)
    _groups_of: dict[R, dict[str, SharedGroup[R]]] = field(factory=dict, init=False)  # by filter in full
    _offline: set[R] = field(factory=set, init=False)
    _topics_count: int = field(default=0, init=False)

    # -- what there is

    @property
    def topics_count(self) -> int:
        """Number of `topic_filters()`."""
        return self._topics_count

    @property
    def subscriptions_count(self) -> int:
        """Number of subscriptions, the shared ones included."""
        return self._subscriptions.count

    @property
    def shared_subscriptions_count(self) -> int:
        return self._subscriptions.shared_count

    @property
    def subscribers_count(self) -> int:
        """Number of recipients with at least one subscription."""
        return len(self._subscriptions)

    def topic_filters(self) -> list[str]:
        """Every filter somebody is subscribed to, each once; shared ones in full."""
        filters: list[str] = []
        for value in self._filters.values():
            if isinstance(value, Delivery):
                filters.append(value.topic_filter)
            else:
                filters += [delivery.topic_filter for delivery in islice(value.deliveries.values(), 1)]
                filters += [group.topic_filter for group in value.groups.values()]
        return filters

    # Of all who subscribe to a filter (or are in a shared group) one leads: a walk through all subscriptions that
    # leaves out those that do not lead comes to each filter once. See `SubscriptionTable`.

    def leads(self, recipient: R, subscription: Subscription) -> bool:
        """Does the filter count where this subscription is listed?"""
        held = self._filters.get(subscription.match_filter)
        if isinstance(held, _Entry):
            if subscription.share_name is None:
                return held.lead is recipient
            group = held.groups.get(subscription.share_name)
            return group is not None and group.lead is recipient
        return held is not None and held.recipient is recipient and subscription.share_name is None

    def has_filter(self, share_name: str | None, match_filter: str) -> bool:
        """Is somebody subscribed to this filter, in this shared group if one is named?"""
        held = self._filters.get(match_filter)
        if isinstance(held, _Entry):
            return bool(held.deliveries) if share_name is None else share_name in held.groups
        return held is not None and share_name is None

    def share_names(self, match_filter: str) -> list[str | None]:
        """In which shared groups somebody is subscribed to this filter; None among them: in none."""
        held = self._filters.get(match_filter)
        if isinstance(held, _Entry):
            ordinary: list[str | None] = [None] if held.deliveries else []
            return [*ordinary, *held.groups]
        return [] if held is None else [None]

    def subscribers(self, share_name: str | None, match_filter: str) -> list[R]:
        """Who is subscribed to this filter, or is in the shared group."""
        held = self._filters.get(match_filter)
        if isinstance(held, _Entry):
            if share_name is None:
                return list(held.deliveries)
            group = held.groups.get(share_name)
            return [] if group is None else list(group.members)
        return [] if held is None or share_name is not None else [held.recipient]

    def subscription(self, recipient: R, share_name: str | None, match_filter: str) -> Subscription | None:
        """To this filter, or as a member of its shared group; None: there is none."""
        if share_name is None:
            return self._subscriptions.get(recipient, match_filter)
        group = self.shared_group(share_name, match_filter)
        return None if group is None else group.members.get(recipient)

    def page(self, offset: int, limit: int) -> list[tuple[R, Subscription]]:
        """At most `limit` subscriptions behind the first `offset`, which are not looked at."""
        return self._subscriptions.page(offset, limit)

    def after(self, number: int, limit: int) -> tuple[list[tuple[R, list[Subscription]]], int]:
        """At most `limit` recipients with their subscriptions behind the one of this number (-1: from the beginning),
        and the number to go on after. The list is empty behind the last one. May be asked whatever changes meanwhile.
        """
        return self._subscriptions.after(number, limit)

    @property
    def newest(self) -> int:
        """The number of the recipient that came last. Who walks further may go on for as long as others come."""
        return self._subscriptions.newest

    def before_filter(self, offset: int) -> tuple[int, int]:
        """Where a walk with `after` begins that is to come to the filter at this place among all that lead, and how
        many that lead to leave out on it.
        """
        return self._subscriptions.before_led(offset)

    def subscriptions_of(self, recipient: R) -> list[Subscription]:
        """In the order in which they were first made."""
        return self._subscriptions.of(recipient)

    def recipients(self) -> list[R]:
        """Everybody who has a subscription, in the order of their first one."""
        return self._subscriptions.recipients()

    def subscriptions(self) -> Iterator[tuple[R, Subscription]]:
        """Every subscription with its recipient; the table must not change meanwhile."""
        return self._subscriptions.items()

    def shared_group(self, share_name: str, match_filter: str) -> SharedGroup[R] | None:
        held = self._filters.get(match_filter)
        return held.groups.get(share_name) if isinstance(held, _Entry) else None

    # -- changes

    def subscribe(self, recipient: R, subscription: Subscription) -> bool:
        """True when the filter is new for this recipient; else the new subscription takes the place of the old one."""
        previous = self._subscriptions.put(recipient, subscription)
        if previous == subscription:
            return False  # a session that came back: nothing changes, all plans stay
        if subscription.share_name is None:
            self._put_delivery(subscription.match_filter, delivery_for(recipient, subscription))
        else:
            self._join(subscription.share_name, recipient, subscription)
        return previous is None

    def unsubscribe(self, recipient: R, topic_filter: str) -> bool:
        """`topic_filter` in full; False when the recipient has no such subscription."""
        subscription = self._subscriptions.pop(recipient, topic_filter)
        if subscription is None:
            return False
        self._take_out(recipient, subscription)
        self._subscriptions.left(recipient)
        return True

    def remove(self, recipient: R) -> list[str]:
        """Forget a recipient; returns its filters, in full."""
        return [subscription.topic_filter for subscription in self.removal(recipient)]

    def removal(self, recipient: R) -> Iterator[Subscription]:
        """`remove` in parts: each step takes out what it gives. Whoever has many subscriptions is not gone at once.

        They no longer count, but messages are still matched until the last step is done; shared ones go first.
        """
        subscriptions = self._subscriptions.pop_all(recipient)
        self._offline.discard(recipient)
        subscriptions.sort(key=lambda subscription: subscription.share_name is None)
        return self._steps(recipient, subscriptions)

    def _steps(self, recipient: R, subscriptions: list[Subscription]) -> Iterator[Subscription]:
        for subscription in subscriptions:
            self._take_out(recipient, subscription)
            yield subscription
        self._subscriptions.left(recipient)

    def set_online(self, recipient: R, online: bool) -> None:
        """Whether shared groups should prefer this recipient; it need not have subscriptions yet."""
        if online:
            self._offline.discard(recipient)
        else:
            self._offline.add(recipient)
        for group in self._groups_of.get(recipient, {}).values():
            group.set_online(recipient, online)

    def use_strategy(self, strategy: Strategy) -> None:
        """For all shared subscriptions, those that are there too."""
        if strategy == self.strategy:
            return
        self.strategy = strategy
        for groups in self._groups_of.values():
            for group in groups.values():
                if group.strategy != strategy:
                    group.use_strategy(strategy)

    def _put_delivery(self, match_filter: str, delivery: Delivery[R]) -> None:
        held = self._filters.get(match_filter)
        if isinstance(held, _Entry):
            if not held.deliveries:
                self._topics_count += 1
                held.lead = delivery.recipient
                self._subscriptions.lead(delivery.recipient, 1)
            held.deliveries[delivery.recipient] = delivery
        elif held is None or held.recipient == delivery.recipient:
            if held is None:
                self._topics_count += 1
                self._subscriptions.lead(delivery.recipient, 1)
            self._filters.insert(match_filter, delivery)
        else:
            entry = _Entry({held.recipient: held, delivery.recipient: delivery}, lead=held.recipient)
            self._filters.insert(match_filter, entry)
        self._forget_plans(match_filter)

    def _join(self, share_name: str, recipient: R, subscription: Subscription) -> None:
        match_filter = subscription.match_filter
        entry = self._filters.get(match_filter)
        if not isinstance(entry, _Entry):
            entry = _Entry() if entry is None else _Entry({entry.recipient: entry}, lead=entry.recipient)
            self._filters.insert(match_filter, entry)
        group = entry.groups.get(share_name)
        if group is None:
            group = SharedGroup(share_name, match_filter, self.strategy, self.random)
            entry.groups[share_name] = group
            self._topics_count += 1
            group.lead = recipient
            self._subscriptions.lead(recipient, 1)
            self._forget_plans(match_filter)
        group.add(recipient, subscription, recipient not in self._offline)
        self._groups_of.setdefault(recipient, {})[subscription.topic_filter] = group

    def _take_out(self, recipient: R, subscription: Subscription) -> None:
        match_filter = subscription.match_filter
        held = self._filters.get(match_filter)
        if subscription.share_name is not None and (
            not isinstance(held, _Entry) or subscription.share_name not in held.groups
        ):
            # Put out of the group before, when it was seen to have ended; then the last of the others left.
            self._forget_group(recipient, subscription.topic_filter)
            return
        if not isinstance(held, _Entry):
            self._filters.remove(match_filter)
            self._topics_count -= 1
            self._subscriptions.lead(recipient, -1)
            self._forget_plans(match_filter)
            return
        if subscription.share_name is None:
            del held.deliveries[recipient]
            self._topics_count -= not held.deliveries
            if held.lead is recipient:
                held.lead = self._pass_lead(recipient, held.deliveries)
            self._forget_plans(match_filter)
        else:
            self._leave(held, subscription.share_name, recipient, subscription)
        if held.groups:
            return
        if not held.deliveries:
            self._filters.remove(match_filter)
        elif len(held.deliveries) == 1:
            self._filters.insert(match_filter, *held.deliveries.values())

    def _leave(self, entry: _Entry[R], share_name: str, recipient: R, subscription: Subscription) -> None:
        self._forget_group(recipient, subscription.topic_filter)
        group = entry.groups[share_name]
        group.discard(recipient)
        lead = group.lead
        if lead is not None and (lead is recipient or not group.members):
            group.lead = self._pass_lead(lead, group.members)
        if not group.members:
            del entry.groups[share_name]
            self._topics_count -= 1
            self._forget_plans(subscription.match_filter)

    def _forget_group(self, recipient: R, topic_filter: str) -> None:
        groups = self._groups_of[recipient]
        del groups[topic_filter]
        if not groups:
            del self._groups_of[recipient]

    def _pass_lead(self, recipient: R, others: dict[R, Any]) -> R | None:
        """It leads no more; one of the others does."""
        other: R | None = None
        if others:
            # The last one, taken out and put back: the holes that others have left before it are not walked over again.
            other, value = others.popitem()
            others[other] = value
            # First: where both are leaving, there may be no place for a lead any more once the first has given it up.
            self._subscriptions.lead(other, 1)
        self._subscriptions.lead(recipient, -1)
        return other

    # -- matching

    def may_match(self, topic_name: str) -> bool:
        """Cheaper than `match`, and keeps no plan: False means that nobody is subscribed; for topics like `$SYS/...`,
        which filters beginning with a wildcard do not match.
        """
        filters = self._filters
        return topic_name in filters.exact or filters.has_wild_below(topic_name.partition("/")[0])

    def match(self, topic_name: str) -> Plan[R]:
        """Where messages of this topic go, as long as nothing changes."""
        plan = self.plans.get(topic_name)
        if plan is None:
            plan = self._make_plan(topic_name)
            if self.special is not None and (special := self.special(topic_name)) is not None:
                plan = Plan(plan.deliveries, plan.groups, special)
            if len(topic_name) <= LONGEST_PLANNED:
                self._keep_plan(topic_name, plan)
        return plan

    def forget_plans(self) -> None:
        """What `special` says is another now."""
        self.plans.clear()
        self._planned_deliveries = 0

    def _make_plan(self, topic_name: str) -> Plan[R]:
        values = self._filters.match(topic_name)
        if not values:
            return self._nobody
        if len(values) == 1:
            value = values[0]
            if isinstance(value, Delivery):
                return Plan((value,), ())
            return Plan(tuple(value.deliveries.values()), tuple(value.groups.values()))
        deliveries: dict[R, Delivery[R]] = {}
        overlaps: dict[R, list[Delivery[R]]] = {}
        groups: list[SharedGroup[R]] = []
        for value in values:
            if isinstance(value, Delivery):
                new = [value]
            else:
                groups += value.groups.values()
                if not deliveries:
                    deliveries = dict(value.deliveries)
                    continue
                new = list(value.deliveries.values())
            for delivery in new:
                recipient = delivery.recipient
                first = deliveries.setdefault(recipient, delivery)
                if first is not delivery:
                    overlaps.setdefault(recipient, [first]).append(delivery)
        for recipient, parts in overlaps.items():
            deliveries[recipient] = merge(parts)
        return Plan(tuple(deliveries.values()), tuple(groups))

    def _keep_plan(self, topic_name: str, plan: Plan[R]) -> None:
        plans = self.plans
        weight = len(plan.deliveries)
        while plans and (
            len(plans) >= self.max_plans or self._planned_deliveries + weight > self.max_plans * DELIVERIES_PER_PLAN
        ):
            # The oldest go, a few percent at a time, so that no single message pays for all of them.
            for oldest in list(islice(plans, self.max_plans // 64 + 1)):
                self._planned_deliveries -= len(plans.pop(oldest).deliveries)
        plans[topic_name] = plan
        self._planned_deliveries += weight

    def _forget_plans(self, match_filter: str) -> None:
        if not has_wildcard(match_filter):
            plan = self.plans.pop(match_filter, None)
            if plan is not None:
                self._planned_deliveries -= len(plan.deliveries)
        elif self.plans:
            self.forget_plans()
