"""All deadlines of the broker that are not a task's own: keep alive, session expiry, delayed wills, handshakes.

Invariant: one task sleeps until the earliest deadline; a timer that was cancelled never calls and holds nothing.
"""

from __future__ import annotations

import heapq
import logging
import math
from collections.abc import Callable
from itertools import count
from typing import TypeAlias

import trio
from attrs import define

log = logging.getLogger("trio_broker.timers")

# Cancelled timers are swept out of the heap when they are more than half of it and more than this many.
_SWEEP_ABOVE = 1024
# How many timers are looked at before others have their turn: a hundred thousand sessions may have been made, or may
# expire, within a second.
_SLICE = 256


@define(eq=False)
class Timer:
    """One deadline; `cancel` makes it forget whom to call."""

    deadline: float
    call: Callable[[], None] | None

    def cancel(self) -> None:
        self.call = None


# Tuples, which the heap compares without a call, a dozen times for each timer; no two have the same number.
Entry: TypeAlias = tuple[float, int, Timer]


class Timers:
    """Calls plain functions at their deadlines; they only tell actors something."""

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._old: list[Entry] = []  # a heap, too; those of its timers that were not cancelled move to the other
        self._order = count()
        self._scope: trio.CancelScope | None = None
        self._added = 0

    def __len__(self) -> int:
        return len(self._heap) + len(self._old)

    def at(self, deadline: float, call: Callable[[], None]) -> Timer:
        """Call `call()` at the Trio time `deadline` (at once when that has passed)."""
        timer = Timer(deadline, call)
        heapq.heappush(self._heap, (deadline, next(self._order), timer))
        self._added += 1
        if self._added > _SWEEP_ABOVE and self._added * 2 > len(self._heap) and not self._old:
            self._heap, self._old = [], self._heap
            self._added = 0
            deadline = -math.inf
        if self._scope is not None and deadline < self._scope.deadline:
            self._scope.deadline = deadline
        return timer

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            if self._turn(trio.current_time()):
                await trio.lowlevel.checkpoint()
                continue
            earliest = self._earliest()
            with trio.CancelScope(deadline=earliest[0][0] if earliest else math.inf) as self._scope:
                await trio.sleep_forever()
            self._scope = None

    def _earliest(self) -> list[Entry]:
        """The heap whose first timer comes first; an empty one when there is none."""
        heap, old = self._heap, self._old
        return old if not heap or (old and old[0] < heap[0]) else heap

    def _turn(self, now: float) -> bool:
        """Call what is due and sweep a little. Returns whether there is more to do at once."""
        left = _SLICE
        while left and (heap := self._earliest()) and (heap[0][2].call is None or heap[0][0] <= now):
            left -= 1
            call = heapq.heappop(heap)[2].call
            if call is not None:
                call()
        old = self._old
        while left and old:
            left -= 1
            entry = old.pop()  # the last of a heap: the rest still is one
            if entry[2].call is not None:
                heapq.heappush(self._heap, entry)
        return not left
