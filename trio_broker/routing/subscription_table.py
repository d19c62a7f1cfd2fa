"""Who subscribed to what: the subscriptions of each recipient, by their filter in full.

Invariant: a recipient is in the table while it has a subscription, and no longer. One subscription is kept as it is,
several in a dict: most clients of a large broker have just one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic

from attrs import define, field

from trio_broker.routing.delivery import R
from trio_broker.routing.subscription import Subscription


@define(eq=False, repr=False)
class SubscriptionTable(Generic[R]):
    """`count` and `shared_count` are numbers of (recipient, filter) pairs; `len()` is the number of recipients."""

    count: int = field(default=0, init=False)
    shared_count: int = field(default=0, init=False)
    _of: dict[R, Subscription | dict[str, Subscription]] = field(factory=dict, init=False)

    def __len__(self) -> int:
        return len(self._of)

    def put(self, recipient: R, subscription: Subscription) -> Subscription | None:
        """Returns the subscription to the same filter that this one replaces, or None."""
        topic_filter = subscription.topic_filter
        held = self._of.get(recipient)
        previous: Subscription | None = None
        if held is None:
            self._of[recipient] = subscription
        elif isinstance(held, dict):
            previous = held.get(topic_filter)
            held[topic_filter] = subscription
        elif held.topic_filter == topic_filter:
            previous = held
            self._of[recipient] = subscription
        else:
            self._of[recipient] = {held.topic_filter: held, topic_filter: subscription}
        if previous is None:
            self.count += 1
            self.shared_count += subscription.share_name is not None
        return previous

    def pop(self, recipient: R, topic_filter: str) -> Subscription | None:
        """Take one out; None when it is not there."""
        held = self._of.get(recipient)
        if held is None:
            return None
        if isinstance(held, dict):
            removed = held.pop(topic_filter, None)
            if not held:
                del self._of[recipient]
        elif held.topic_filter == topic_filter:
            removed = held
            del self._of[recipient]
        else:
            removed = None
        if removed is not None:
            self._discount(removed)
        return removed

    def pop_all(self, recipient: R) -> list[Subscription]:
        """Take everything of one recipient out."""
        removed = self.of(recipient)
        self._of.pop(recipient, None)
        for subscription in removed:
            self._discount(subscription)
        return removed

    def of(self, recipient: R) -> list[Subscription]:
        """In the order in which they were first made."""
        held = self._of.get(recipient)
        if held is None:
            return []
        return list(held.values()) if isinstance(held, dict) else [held]

    def recipients(self) -> list[R]:
        """Every recipient, in the order of their first subscriptions."""
        return list(self._of)

    def items(self) -> Iterator[tuple[R, Subscription]]:
        """Every recipient with each of its subscriptions."""
        for recipient, held in self._of.items():
            if isinstance(held, dict):
                for subscription in held.values():
                    yield recipient, subscription
            else:
                yield recipient, held

    def _discount(self, subscription: Subscription) -> None:
        self.count -= 1
        self.shared_count -= subscription.share_name is not None
