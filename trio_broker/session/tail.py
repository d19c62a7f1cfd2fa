"""The end of a long queue: copies that lie in the store, of which only the numbers are in memory.

Invariant: what is in here was queued later than everything in the part of the queue that is in memory; the arrays are
as long as each other, and 24 bytes a copy are all it takes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right

from trio_broker.session.outgoing import Outgoing

PAGE = 500
"""Copies that are fetched at a time."""


class Tail:
    """First in, first out. `fetching`: a page is on its way.

    `shared`: some of them came by a shared subscription; `has_qos0`: some have QoS 0.
    """

    __slots__ = ("_start", "fetching", "has_qos0", "messages", "rows", "shared", "stamps")

    def __init__(self) -> None:
        self.rows: array[int] = array("q")
        self.messages: array[int] = array("q")
        self.stamps: array[int] = array("q")
        self.shared = False
        self.has_qos0 = False
        self.fetching = False
        self._start = 0

    def __len__(self) -> int:
        return len(self.rows) - self._start

    def append(self, copy: Outgoing) -> None:
        """A copy that the store keeps."""
        self.rows.append(copy.row)
        self.messages.append(copy.message_row)
        self.stamps.append(copy.inserted_at_ns)
        if copy.share is not None:
            self.shared = True
        if copy.qos == 0:
            self.has_qos0 = True

    def popleft(self) -> tuple[int, int]:
        """Row and message number of the oldest."""
        start = self._start
        row, message = self.rows[start], self.messages[start]
        self._start = start + 1
        if self._start > 4096 and self._start * 2 > len(self.rows):
            self._trim()
        return row, message

    def _trim(self) -> None:
        start, self._start = self._start, 0
        del self.rows[:start]
        del self.messages[:start]
        del self.stamps[:start]

    @property
    def first_row(self) -> int:
        """The row of the oldest; 0 = there is none."""
        return self.rows[self._start] if self._start < len(self.rows) else 0

    @property
    def first_stamp(self) -> int:
        return self.stamps[self._start]

    def page(self, limit: int = PAGE) -> list[int]:
        """The rows of the oldest."""
        return list(self.rows[self._start : self._start + limit])

    def page_after(self, after: int | None, limit: int) -> list[int]:
        """The rows of up to `limit` copies, oldest first, queued later than `after` (nanoseconds)."""
        start = self._start if after is None else bisect_right(self.stamps, after, self._start)
        return list(self.rows[start : start + limit])

    def all(self) -> tuple[array[int], array[int]]:
        """Rows and message numbers of all of it."""
        return self.rows[self._start :], self.messages[self._start :]
