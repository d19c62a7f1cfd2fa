"""How fast something goes on, found out from how often it had happened at each look.

Invariant: no more than the last five minutes are kept, and nothing runs between two looks.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

__all__ = ["Rates", "Speed"]

SHORT: Final = 5
LONG: Final = 300


class Rates(NamedTuple):
    """Times a second: over the last five seconds, over the last five minutes, and the most the first ever was."""

    rate: float = 0.0
    rate_last5m: float = 0.0
    rate_max: float = 0.0


class Speed:
    """Times are seconds on any clock that goes on. `look` whenever it happened, and before the rates are read."""

    __slots__ = ("_began", "_most", "_seconds", "_total")

    def __init__(self, now: float) -> None:
        self._began = now
        self._total = 0
        self._seconds: deque[list[int]] = deque()
        """The second, and how often it happened in it."""
        self._most = 0.0

    def look(self, total: int, now: float) -> None:
        """It has happened `total` times until now."""
        grown = total - self._total
        if grown <= 0:
            return
        self._total = total
        second = int(now)
        seconds = self._seconds
        if seconds and seconds[-1][0] == second:
            seconds[-1][1] += grown
        else:
            seconds.append([second, grown])
            while seconds[0][0] <= second - LONG:
                seconds.popleft()
        self._most = max(self._most, self._within(SHORT, now) / SHORT)

    def rates(self, now: float) -> Rates:
        long = min(max(now - self._began, SHORT), LONG)
        return Rates(
            round(self._within(SHORT, now) / SHORT, 4), round(self._within(LONG, now) / long, 4), round(self._most, 4)
        )

    def _within(self, span: int, now: float) -> int:
        number = 0
        for second, count in reversed(self._seconds):
            if second <= int(now) - span:
                break
            number += count
        return number
