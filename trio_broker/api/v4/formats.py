"""How EMQX 4 writes times, and what is not there.

Invariant: pure functions; nothing here knows a route.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from trio_broker.api.formats import local_time

__all__ = ["UNDEFINED", "echoed", "local_time", "uptime"]

UNDEFINED: Final = "undefined"
"""What stands for a value that is not there."""


def echoed(said: Any) -> Any:
    """What was sent, to be sent back. `undefined` where it is too deep to be written: a little more can be read."""
    if not isinstance(said, (dict, list)):
        return said
    try:
        return msgspec.Raw(msgspec.json.encode(said))
    except RecursionError:
        return UNDEFINED


def uptime(milliseconds: int) -> str:
    """`2 days, 4 hours, 21 minutes, 19 seconds`; what is 0 before the first that is not is left out."""
    minutes, seconds = divmod(milliseconds // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "days"), (hours, "hours"), (minutes, "minutes"), (seconds, "seconds")]
    while len(parts) > 1 and not parts[0][0]:
        parts.pop(0)
    return ", ".join(f"{number} {unit}" for number, unit in parts)
