"""Moving averages as Mosquitto's `$SYS/broker/load` has them: events a minute, over 1, 5 and 15 minutes.

Invariant: pure arithmetic on counters that only rise; how often it is told them does not change what it tends to.
"""

from __future__ import annotations

import math

from attrs import define, field

__all__ = ["MINUTES", "LoadAverage"]

MINUTES = (1, 5, 15)


@define
class LoadAverage:
    """Of one counter."""

    total: int = 0
    rates: list[float] = field(factory=lambda: [0.0] * len(MINUTES))
    """Events a minute, for each of `MINUTES`."""

    def update(self, total: int, seconds: float) -> None:
        """The counter stands at `total` now, `seconds` after the last time."""
        if seconds <= 0:
            return
        current = (total - self.total) * 60 / seconds
        self.total = total
        for index, minutes in enumerate(MINUTES):
            kept = math.exp(-seconds / (60 * minutes))
            self.rates[index] = current + kept * (self.rates[index] - current)
