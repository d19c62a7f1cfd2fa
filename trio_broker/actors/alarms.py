"""What is wrong with the broker now, and what was (EMQX: alarms).

Invariant: an alarm of one name is active at most once; what is over goes into a history of bounded length.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from attrs import define, field

from trio_broker.actors.clock import Clock
from trio_broker.actors.questions import AlarmRow

SIZE_LIMIT: Final = 1000
"""Alarms of the past that are remembered (EMQX: alarm.size_limit)."""

STORE_FAILURE: Final = "store_failure"
STORE_DAMAGED: Final = "store_damaged"
HIGH_MEMORY: Final = "high_process_memory_usage"


@define
class Alarms:
    """Plain calls, from wherever something is noticed; times are wall clock in milliseconds."""

    _clock: Clock
    _active: dict[str, AlarmRow] = field(factory=dict, init=False)
    _history: deque[AlarmRow] = field(factory=lambda: deque(maxlen=SIZE_LIMIT), init=False)

    def activate(self, name: str, message: str, details: dict[str, Any]) -> None:
        """Something is wrong; while it is, a second call only brings `message` and `details` up to date."""
        alarm = self._active.get(name)
        if alarm is None:
            self._active[name] = AlarmRow(name, message, details, self._now())
        else:
            alarm.message, alarm.details = message, details

    def deactivate(self, name: str) -> bool:
        """It is over; False when it was not active."""
        alarm = self._active.pop(name, None)
        if alarm is None:
            return False
        alarm.deactivate_at = self._now()
        self._history.appendleft(alarm)
        return True

    def active(self) -> list[AlarmRow]:
        """The latest first."""
        return list(reversed(self._active.values()))

    def history(self) -> list[AlarmRow]:
        """The latest first."""
        return list(self._history)

    def forget_history(self) -> None:
        self._history.clear()

    def _now(self) -> int:
        return self._clock.wall_ms(self._clock.now())
