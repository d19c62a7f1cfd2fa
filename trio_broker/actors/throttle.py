"""Log lines that an attacker could multiply are written once an interval.

Invariant: nothing is lost silently: the next line says how many like it were held back.
"""

from __future__ import annotations

import logging

import trio
from attrs import define, field


@define(eq=False)
class ThrottledLog:
    """One line an `interval` (seconds) for each subject; the others are counted and go to DEBUG."""

    logger: logging.Logger
    interval: float = 1.0
    _next_at: dict[str, float] = field(factory=dict, init=False)
    _held_back: dict[str, int] = field(factory=dict, init=False)

    def log(self, level: int, subject: str, message: str, *args: object) -> None:
        """`subject` groups lines (a fixed word, never something a peer chooses)."""
        now = trio.current_time()
        if now < self._next_at.get(subject, 0.0):
            self._held_back[subject] = self._held_back.get(subject, 0) + 1
            self.logger.debug(message, *args)
            return
        self._next_at[subject] = now + self.interval
        held_back = self._held_back.pop(subject, 0)
        if held_back:
            message += " (and %d like it)"
            args += (held_back,)
        self.logger.log(level, message, *args)
