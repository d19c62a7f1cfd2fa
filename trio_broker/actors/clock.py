"""One clock for all: Trio's time for deadlines, wall-clock time for what people and restarts see.

Invariant: both run together, so under a mock clock the wall-clock times agree with the time that has passed.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import trio

FOLLOW_INTERVAL = 60.0
"""Seconds: a clock that was set is noticed within this time."""


NOTABLE = 1.0
"""Seconds: less is drift."""


class Clock:
    """Wall clock = the wall clock at the start plus the Trio time that has passed since."""

    def __init__(self) -> None:
        # Asked several times for each connection, so without the two calls of `trio.current_time` in between.
        self.now: Callable[[], float] = trio.lowlevel.current_clock().current_time
        """Trio time in seconds."""
        self._offset = time.time() - self.now()
        # A mock clock has no relation to the machine's clock; only a real one can drift away from it.
        self.is_real = type(trio.lowlevel.current_clock()).__name__ == "SystemClock"
        self.started_at = self.wall_ms(self.now())

    def wall_ms(self, now: float) -> int:
        """Milliseconds since the epoch at the Trio time `now`."""
        return int((now + self._offset) * 1000)

    def wall_ns(self, now: float) -> int:
        """Nanoseconds since the epoch at the Trio time `now`."""
        return int((now + self._offset) * 1e9)

    def trio_time(self, wall_ms: int) -> float:
        """The Trio time at which the wall clock shows `wall_ms`."""
        return wall_ms / 1000 - self._offset

    async def follow(self, was_set: Callable[[], None]) -> None:
        """Look at the machine's clock once in a while, until cancelled; for a real clock.

        `was_set` is called when somebody has set it.
        """
        while True:
            await trio.sleep(FOLLOW_INTERVAL)
            before = self._offset
            self.synchronize()
            if abs(self._offset - before) > NOTABLE:
                was_set()

    def synchronize(self) -> None:
        """Follow the machine's clock when it was set; message ids and stamps never go back all the same."""
        if self.is_real:
            self._offset = time.time() - trio.current_time()
