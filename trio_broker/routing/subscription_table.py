"""Who subscribed to what: the subscriptions of each recipient, by their filter in full.

Invariant: a recipient is in the table while it has a subscription, and no longer. One subscription is kept as it is,
several in a dict: most clients of a large broker have just one.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Generic

from attrs import define, field

from trio_broker.routing.delivery import R
from trio_broker.routing.roll import Roll
from trio_broker.routing.subscription import Subscription


@define(eq=False, repr=False)
class SubscriptionTable(Generic[R]):
    """`count` and `shared_count` are numbers of (recipient, filter) pairs; `len()` is the number of recipients.

    A recipient may *lead* filters: of all who subscribe to one, one leads. Which one is decided elsewhere; the number
    of filters led is kept here, to find a page of all filters.
    """

    count: int = field(default=0, init=False)
    shared_count: int = field(default=0, init=False)
    _of: Roll[R, Subscription | dict[str, Subscription]] = field(factory=Roll, init=False)
    _leaving: dict[R, int] = field(factory=dict, init=False)  # those who are out of it and still lead, by number

    def __len__(self) -> int:
        return len(self._of)

    def put(self, recipient: R, subscription: Subscription) -> Subscription | None:
        """Returns the subscription to the same filter that this one replaces, or None."""
        topic_filter = subscription.topic_filter
        block = self._of.block_of(recipient)
        previous: Subscription | None = None
        if block is None:
            block = self._of.put(recipient, subscription)
        else:
            held = block.entries[recipient]
            if isinstance(held, dict):
                previous = held.get(topic_filter)
                held[topic_filter] = subscription
            elif held.topic_filter == topic_filter:
                previous = held
                block.entries[recipient] = subscription
            else:
                block.entries[recipient] = {held.topic_filter: held, topic_filter: subscription}
        if previous is None:
            block.rows += 1
            self.count += 1
            self.shared_count += subscription.share_name is not None
        return previous

    def pop(self, recipient: R, topic_filter: str) -> Subscription | None:
        """Take one out; None when it is not there."""
        block = self._of.block_of(recipient)
        if block is None:
            return None
        held = block.entries[recipient]
        if isinstance(held, dict):
            removed = held.pop(topic_filter, None)
            is_last = not held
        else:
            removed = held if held.topic_filter == topic_filter else None
            is_last = removed is not None
        if removed is not None:
            block.rows -= 1
            self._discount(removed)
        if is_last:
            self._forget(recipient)
        return removed

    def pop_all(self, recipient: R) -> list[Subscription]:
        """Take everything of one recipient out."""
        removed = self.of(recipient)
        block = self._of.block_of(recipient)
        if block is not None:
            block.rows -= len(removed)
            self._forget(recipient)
        for subscription in removed:
            self._discount(subscription)
        return removed

    def of(self, recipient: R) -> list[Subscription]:
        """In the order in which they were first made."""
        held = self._of.get(recipient)
        if held is None:
            return []
        return list(held.values()) if isinstance(held, dict) else [held]

    def get(self, recipient: R, topic_filter: str) -> Subscription | None:
        held = self._of.get(recipient)
        if held is None or isinstance(held, dict):
            return None if held is None else held.get(topic_filter)
        return held if held.topic_filter == topic_filter else None

    def recipients(self) -> list[R]:
        """Every recipient, in the order of their first subscriptions."""
        return [recipient for recipient, _ in self._of.items()]

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

    # -- who leads ----------------------------------------------------------------------------------------------

    def lead(self, recipient: R, by: int) -> None:
        """It leads so many filters more. Who has left leads until all that it led is given up."""
        number = self._of.number(recipient)
        if number is None:
            number = self._leaving[recipient]
        self._of.lead(number, by)

    def left(self, recipient: R) -> None:
        """It leads nothing any more."""
        self._leaving.pop(recipient, None)

    def _forget(self, recipient: R) -> None:
        number = self._of.number(recipient)
        assert number is not None
        self._leaving[recipient] = number
        self._of.pop(recipient)

    # -- pages --------------------------------------------------------------------------------------------------

    @property
    def newest(self) -> int:
        """The number of the recipient that came last; -1: there was none yet."""
        return self._of.newest

    def page(self, offset: int, limit: int) -> list[tuple[R, Subscription]]:
        """At most `limit` pairs behind the first `offset`; those are not looked at."""
        found: list[tuple[R, Subscription]] = []
        for block in self._of.blocks:
            if offset >= block.rows:
                offset -= block.rows
                continue
            for recipient, held in block.entries.items():
                size = len(held) if isinstance(held, dict) else 1
                if offset >= size:
                    offset -= size
                    continue
                if isinstance(held, dict):
                    some = islice(held.values(), offset, offset + limit - len(found))
                    found.extend([(recipient, subscription) for subscription in some])
                else:
                    found.append((recipient, held))
                offset = 0
                if len(found) == limit:
                    return found
        return found

    def after(self, number: int, limit: int) -> tuple[list[tuple[R, list[Subscription]]], int]:
        """At most `limit` recipients behind the one of this number with what they have, and the number of the last.

        -1 is the beginning. The list is empty behind the last one.
        """
        found = [
            (recipient, list(held.values()) if isinstance(held, dict) else [held])
            for recipient, held in self._of.after(number, limit)
        ]
        last = self._of.number(found[-1][0]) if found else None
        return found, number if last is None else last

    def before_led(self, offset: int) -> tuple[int, int]:
        """Where a walk to the filter at this place among all begins: the number to go on `after`, and how many filters
        to leave out from there.
        """
        number = -1
        for block in self._of.blocks:
            if offset < block.leads:
                break
            offset -= block.leads
            if block.entries:
                last = self._of.number(next(reversed(block.entries)))
                assert last is not None
                number = last
        return number, offset
