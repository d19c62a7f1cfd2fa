"""Rates: counters per second, and the use of the processors, each measured between two looks.

Invariant: a rate is always the difference of two counts over the time between them; nothing is invented for the
first caller, who waits for the second look (of the processors he gets the mean since the machine was started).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import trio
from attrs import define, field

SHORTEST: Final = 1.0
"""Seconds that must lie between the two looks."""
LONGEST: Final = 15.0
"""Looks older than this many seconds say nothing about now."""


@define
class CpuUse:
    """The use of all processors of the machine, between two looks at the system's own account."""

    path: str = "/proc/stat"
    _busy: float = field(default=0.0, init=False)
    _all: float = field(default=0.0, init=False)
    _last: tuple[float, float] = field(default=(0.0, 0.0), init=False)

    def percent(self) -> tuple[float, float]:
        """Used and idle, 0 to 100; both 0 where the system does not say."""
        try:
            with open(self.path, encoding="ascii") as account:
                ticks = [int(text) for text in account.readline().split()[1:9]]
        except (OSError, ValueError):
            return 0.0, 0.0
        total = float(sum(ticks))
        busy = total - sum(ticks[3:5])  # idle, and waiting for a disk
        spent, used = total - self._all, busy - self._busy
        if spent > 0:  # else it is the same look
            self._all, self._busy = total, busy
            use = min(100.0, max(0.0, round(100 * used / spent, 2)))
            self._last = use, round(100 - use, 2)
        return self._last


@define
class RateWindow:
    cpu: CpuUse = field(factory=CpuUse)
    _looks: deque[tuple[float, Mapping[str, int]]] = field(factory=deque, init=False)

    async def measure(self, look: Callable[[], Awaitable[Mapping[str, int]]]) -> Callable[[str], int]:
        """Ask `look` now and give a function from a counter's name to its rate, in whole counts a second."""
        before = self._oldest()
        if before is None:
            before = (trio.current_time(), await look())
            self._remember(*before)
            await trio.sleep(SHORTEST)
        counters = await look()
        now = trio.current_time()
        self._remember(now, counters)
        then, old = before

        def rate(name: str) -> int:
            return round((counters.get(name, 0) - old.get(name, 0)) / (now - then))

        return rate

    def _oldest(self) -> tuple[float, Mapping[str, int]] | None:
        now = trio.current_time()
        while self._looks and now - self._looks[0][0] > LONGEST:
            self._looks.popleft()
        if self._looks and now - self._looks[0][0] >= SHORTEST:
            return self._looks[0]
        return None

    def _remember(self, now: float, counters: Mapping[str, int]) -> None:
        # One a second is enough; this also bounds what is kept.
        if not self._looks or now - self._looks[-1][0] >= SHORTEST:
            self._looks.append((now, counters))
