"""How EMQ 2 writes times, and what is not there.

Invariant: pure functions; nothing here knows a route.
"""

from __future__ import annotations

from typing import Final

from trio_broker.api.formats import local_time

__all__ = ["UNDEFINED", "load", "local_time", "uptime"]

UNDEFINED: Final = "undefined"
"""What stands for a value that is not there."""


def uptime(milliseconds: int) -> str:
    """`3 days,1 hours, 17 minutes, 1 seconds`, with no blank behind the days; what is not reached is left out."""
    minutes, seconds = divmod(milliseconds // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(hours, "hours"), (minutes, "minutes"), (seconds, "seconds")]
    while len(parts) > 1 and not parts[0][0] and not days:
        parts.pop(0)
    text = ", ".join(f"{number} {unit}" for number, unit in parts)
    return f"{days} days,{text}" if days else text


def load(average: float) -> str:
    """A load average as `1.93`."""
    return f"{average:.2f}"
