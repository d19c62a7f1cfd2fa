"""How many connections a second a listener takes.

Invariant: on average no more than were allowed.
"""

from __future__ import annotations

from attrs import define, field


@define
class ConnectionRate:
    """So many connections a second on average; a second's worth may come at once."""

    per_second: float
    _free_at: float = field(default=float("-inf"), init=False)

    def pause(self, now: float) -> float:
        """Count one connection that came in; seconds to wait before the next may."""
        gap = 1.0 / self.per_second
        burst = max(1.0, gap)
        self._free_at = max(self._free_at, now - burst) + gap
        return max(0.0, self._free_at - now)
