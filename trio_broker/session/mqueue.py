"""The messages that wait for room in the inflight window or for the client to come back (EMQX: mqueue).

Invariant: first in, first out; never longer than `maximum` (0 = unbounded): then the oldest goes. Where a store keeps
the queue, only its first `WINDOW` messages are in memory, and the rest is its tail.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Final

from trio_broker.session.outgoing import Outgoing
from trio_broker.session.tail import PAGE, Tail

WINDOW = 1000
"""Messages of one queue in memory, where a store has them as well."""

# An empty deque has room for 64: nothing waits for most clients, and these share one. Nothing is ever added to it.
NOTHING: Final[deque[Outgoing]] = deque(maxlen=0)


class MQueue:
    """A bounded queue that drops its oldest message when a new one finds it full. `items` is what is in memory.

    `entered` counts all that were ever added, `dropped` those that had to go.
    """

    __slots__ = ("dropped", "entered", "items", "maximum", "tail")

    def __init__(self, maximum: int) -> None:
        self.items = NOTHING
        self.tail: Tail | None = None
        self.maximum = maximum
        self.dropped = self.entered = 0

    def __len__(self) -> int:
        return len(self.items) if self.tail is None else len(self.items) + len(self.tail)

    def __iter__(self) -> Iterator[Outgoing]:
        """What is in memory."""
        return iter(self.items)

    def append(self, copy: Outgoing) -> Outgoing | None:
        """Add a copy; returns the one that had to go for it, if any."""
        items = self.items
        if items is NOTHING:
            items = self.items = deque()
        items.append(copy)
        self.entered += 1
        if self.maximum and len(items) > self.maximum:
            self.dropped += 1
            return items.popleft()
        return None

    def popleft(self) -> Outgoing:
        return self.items.popleft()

    # -- the tail

    @property
    def is_long(self) -> bool:
        """Has the next copy to go to the tail?"""
        return self.tail is not None or len(self.items) >= WINDOW

    def append_to_tail(self, copy: Outgoing) -> tuple[Outgoing | None, tuple[int, int] | None]:
        """Add a copy that a store keeps; what had to go for it: a copy, or one of the tail by its numbers."""
        if self.tail is None:
            self.tail = Tail()
        self.tail.append(copy)
        self.entered += 1
        if self.maximum and len(self) > self.maximum:
            self.dropped += 1
            if self.items:
                return self.items.popleft(), None
            return None, self.tail.popleft()
        return None, None

    def wanted(self) -> list[int]:
        """The rows of the tail that are needed now, and are on their way from here on; mostly none."""
        tail = self.tail
        if tail is None or tail.fetching or len(self.items) > WINDOW - PAGE:
            return []
        tail.fetching = True
        return tail.page()

    def fetched(self, copies: list[Outgoing], rows: list[int]) -> int:
        """These came for the rows of `wanted`; what was dropped meanwhile, or was not there any more, is left out.

        Returns how many with QoS 0 are in memory now.
        """
        tail = self.tail
        if tail is None:
            return 0
        tail.fetching = False
        before = len(self.items)
        by_row = {copy.row: copy for copy in copies}
        if self.items is NOTHING:
            self.items = deque()
        for row in rows:
            if tail.first_row == row:
                tail.popleft()
                if row in by_row:
                    self.items.append(by_row[row])
        if not len(tail):
            self.tail = None
        return sum(copy.qos == 0 for copy in islice(self.items, before, None))

    def page(self, after: int | None, limit: int) -> list[Outgoing]:
        """Up to `limit` copies in memory, oldest first, later than `after` (nanoseconds, None = from the start)."""
        newer = (copy for copy in self.items if after is None or copy.inserted_at_ns > after)
        return list(islice(newer, limit))

    @property
    def start(self) -> int | None:
        """When the oldest was inserted; None = there is none."""
        if self.items:
            return self.items[0].inserted_at_ns
        return self.tail.first_stamp if self.tail is not None else None
