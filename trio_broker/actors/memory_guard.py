"""Keeps the broker from taking all memory there is (EMQX: sysmon).

Invariant: the level follows what was measured last; it falls only when memory is well below the mark, so that it does
not flutter.
"""

from __future__ import annotations

import ctypes
import logging
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from trio_broker.actors.alarms import HIGH_MEMORY, Alarms
from trio_broker.session.pressure import CRITICAL, HIGH, NONE, Pressure

__all__ = ["MemoryGuard", "resident_bytes", "total_bytes"]

log = logging.getLogger("trio_broker.sysmon")

INTERVAL: Final = 1.0
"""Seconds between two looks, at least."""
TRIM_INTERVAL: Final = 10.0
"""Seconds, while memory is short, from one time to the next that the allocator is asked to return what is free: that
may take a tenth of a second."""
CRITICAL_AT: Final = 1.2
"""In times of the mark: above it nothing is accepted that would have to be kept."""
CALM: Final = 0.95
"""In times of a mark: below it the mark counts as left."""

_STATM = Path("/proc/self/statm")
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup/memory.max")
_PAGE: Final = 4096


def resident_bytes() -> int:
    """The resident memory of this process; 0 where the system does not say."""
    try:
        return int(_STATM.read_text().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def total_bytes() -> int:
    """The memory this process can have: the system's, or less where it runs in a group with a limit; 0 = not known."""
    known: list[int] = []
    try:
        line = next(line for line in _MEMINFO.read_text().splitlines() if line.startswith("MemTotal:"))
        known.append(int(line.split()[1]) * 1024)
    except (OSError, ValueError, IndexError, StopIteration):
        pass
    with suppress(OSError, ValueError):  # no such group, or "max"
        known.append(int(_CGROUP.read_text()))
    return min(known, default=0)


def _give_back() -> None:
    """Let the allocator return what it holds free; else what was freed would still count."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class MemoryGuard:
    """Owns a `Pressure`. `mark` is in bytes; `measure` gives what is used.

    It has no task: memory grows by what peers send, so a reader's turn is when to look. An idle broker never wakes up
    for it, and a mock clock has nothing to stop at.
    """

    def __init__(self, pressure: Pressure, mark: int, measure: Callable[[], int] = resident_bytes) -> None:
        self.pressure = pressure
        self.alarms: Alarms | None = None
        """Who is told, besides the log."""
        self.mark = mark
        self.measure = measure
        self.next_at = -math.inf if mark else math.inf
        """The Trio time of the next look; never where there is no mark or the system does not say what is used."""
        self._trimmed_at = -math.inf

    def move(self, mark: int) -> None:
        """Another mark, in bytes; 0 = none. The next look goes by it."""
        self.mark = mark
        self.next_at = -math.inf if mark else math.inf
        if not mark and self.pressure.level:
            self.pressure.level = NONE
            self._alarm(0)

    def look_again(self, now: float) -> None:
        """It is time to."""
        used = self.measure()
        if not used:
            log.debug("memory is not watched: this system does not say how much is used")
            self.next_at = math.inf
            return
        self.next_at = now + INTERVAL
        self.look(used)
        if self.pressure.level and now - self._trimmed_at >= TRIM_INTERVAL:
            self._trimmed_at = now
            _give_back()

    def _alarm(self, used: int) -> None:
        if self.alarms is None:
            return
        if self.pressure.level == NONE:
            self.alarms.deactivate(HIGH_MEMORY)
            return
        refused = "messages" if self.pressure.level == CRITICAL else "new connections"
        message = f"Process memory is above the high watermark: {refused} are refused"
        self.alarms.activate(HIGH_MEMORY, message, {"high_watermark": self.mark, "usage": used})

    def look(self, used: int) -> None:
        """Set the level for so many bytes, and say so where it changes."""
        before = self.pressure.level
        level = NONE
        for candidate, mark in ((HIGH, self.mark), (CRITICAL, self.mark * CRITICAL_AT)):
            if used > (mark * CALM if before >= candidate else mark):
                level = candidate
        if level == before:
            return
        self.pressure.level = level
        self._alarm(used)
        megabytes = (used / 1e6, self.mark / 1e6)
        if level == NONE:
            log.warning("memory is %.0f MB, below the high watermark of %.0f MB again: all is accepted", *megabytes)
        elif level == HIGH:
            log.warning(
                "memory is %.0f MB, the high watermark (sysmon.memory_high_watermark) %.0f MB: new connections are "
                "refused, QoS 0 is not queued",
                *megabytes,
            )
        else:
            log.error("memory is %.0f MB, far above the high watermark of %.0f MB: messages are refused", *megabytes)
