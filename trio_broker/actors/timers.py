"""All deadlines of the broker that are not a task's own: keep alive, session expiry, delayed wills, handshakes.

Invariant: one task sleeps until the earliest deadline; a timer that was cancelled never calls and holds nothing.
"""

from __future__ import annotations

import heapq
import logging
import math
from collections.abc import Callable
from itertools import count

import trio
from attrs import define

log = logging.getLogger("trio_broker.timers")

# Cancelled timers are swept out of the heap when they are more than half of it and more than this many.
_SWEEP_ABOVE = 1024


@define(eq=False)
class Timer:
    """One deadline; `cancel` makes it forget whom to call."""

    deadline: float
    order: int
    call: Callable[[], None] | None

    def __lt__(self, other: Timer) -> bool:
        # By hand: what attrs makes takes ten times as long, and the heap asks a dozen times for each timer.
        if self.deadline != other.deadline:
            return self.deadline < other.deadline
        return self.order < other.order

    def cancel(self) -> None:
        self.call = None


class Timers:
    """Calls plain functions at their deadlines; they only tell actors something."""

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._order = count()
        self._scope: trio.CancelScope | None = None
        self._added = 0

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, deadline: float, call: Callable[[], None]) -> Timer:
        """Call `call()` at the Trio time `deadline` (at once when that has passed)."""
        timer = Timer(deadline, next(self._order), call)
        heapq.heappush(self._heap, timer)
        self._added += 1
        if self._added > _SWEEP_ABOVE and self._added * 2 > len(self._heap):
            self._sweep()
        if self._scope is not None and deadline < self._scope.deadline:
            self._scope.deadline = deadline
        return timer

    def _sweep(self) -> None:
        self._added = 0
        live = [timer for timer in self._heap if timer.call is not None]
        if len(live) * 2 < len(self._heap):
            heapq.heapify(live)
            self._heap = live

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            self._call_due(trio.current_time())
            with trio.CancelScope(deadline=self._heap[0].deadline if self._heap else math.inf) as self._scope:
                await trio.sleep_forever()
            self._scope = None

    def _call_due(self, now: float) -> None:
        while self._heap and (self._heap[0].call is None or self._heap[0].deadline <= now):
            call = heapq.heappop(self._heap).call
            if call is not None:
                call()
