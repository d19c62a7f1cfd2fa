"""The messages that wait for room in the inflight window or for the client to come back (EMQX: mqueue).

Invariant: first in, first out; never longer than `maximum` (0 = unbounded): then the oldest goes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice

from trio_broker.session.outgoing import Outgoing


class MQueue:
    """A bounded queue that drops its oldest message when a new one finds it full."""

    __slots__ = ("dropped", "items", "maximum")

    def __init__(self, maximum: int) -> None:
        self.items: deque[Outgoing] = deque()
        self.maximum = maximum
        self.dropped = 0

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Outgoing]:
        return iter(self.items)

    def append(self, copy: Outgoing) -> Outgoing | None:
        """Add a copy; returns the one that had to go for it, if any."""
        items = self.items
        items.append(copy)
        if self.maximum and len(items) > self.maximum:
            self.dropped += 1
            return items.popleft()
        return None

    def popleft(self) -> Outgoing:
        return self.items.popleft()

    def page(self, after: int | None, limit: int) -> list[Outgoing]:
        """Up to `limit` copies, oldest first, inserted later than `after` (nanoseconds; None = from the start)."""
        newer = (copy for copy in self.items if after is None or copy.inserted_at_ns > after)
        return list(islice(newer, limit))
