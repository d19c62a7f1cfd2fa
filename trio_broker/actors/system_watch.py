"""Watches the machine: memory and processors (EMQX: sysmon.os). It changes nothing; it raises alarms.

Invariant: nothing is looked at, and the task never wakes up, while the intervals are infinite or the system does not
say what is used.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio
from attrs import frozen

from trio_broker.actors.alarms import HIGH_CPU, HIGH_SYSTEM_MEMORY
from trio_broker.config import OsConfig

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

__all__ = ["SystemWatch", "Times", "cpu_times", "memory_used"]

log = logging.getLogger("trio_broker.sysmon")

_STAT: Final = Path("/proc/stat")
_MEMINFO: Final = Path("/proc/meminfo")
_GROUP: Final = Path("/sys/fs/cgroup")


@frozen
class Times:
    """What the processors have done since the machine started, in ticks."""

    idle: int
    total: int


def cpu_times() -> Times | None:
    """None where the system does not say."""
    try:
        first = _STAT.read_text().partition("\n")[0].split()[1:9]
        ticks = [int(number) for number in first]
        return Times(ticks[3] + ticks[4], sum(ticks))
    except (OSError, ValueError, IndexError):
        return None


def memory_used() -> float | None:
    """The part (0 to 1) of the machine's memory that is used, or of the group's where it has a limit."""
    try:
        lines = [line.split() for line in _MEMINFO.read_text().splitlines()]
        sizes = {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines if len(line) > 1}
        total, used = sizes["MemTotal"], sizes["MemTotal"] - sizes["MemAvailable"]
    except (OSError, ValueError, KeyError):
        return None
    with suppress(OSError, ValueError, KeyError):  # no such group, or "max"
        limit = int((_GROUP / "memory.max").read_text())
        if limit < total:
            stat = dict(line.split() for line in (_GROUP / "memory.stat").read_text().splitlines())
            # Files that nobody reads now are given up when the memory is needed.
            used = int((_GROUP / "memory.current").read_text()) - int(stat["inactive_file"])
            total = limit
    return max(0.0, used / total) if total else None


class SystemWatch:
    """`memory` and `cpu` measure."""

    def __init__(
        self,
        core: Core,
        config: OsConfig,
        *,
        memory: Callable[[], float | None] = memory_used,
        cpu: Callable[[], Times | None] = cpu_times,
    ) -> None:
        self._core = core
        self._measure_memory = memory
        self._measure_cpu = cpu
        self._times: Times | None = None
        self._changed = trio.Event()
        self._take(config)

    def use(self, config: OsConfig) -> None:
        """Go by these settings from now on."""
        if config == self._config:
            return
        self._take(config)
        self._changed.set()

    def _take(self, config: OsConfig) -> None:
        self._config = config
        now = self._core.clock.now()
        watches_memory = not math.isinf(config.sysmem_high_watermark)
        self._memory_at = now + config.mem_check_interval if watches_memory else math.inf
        self._cpu_at = now + config.cpu_check_interval
        if math.isinf(self._memory_at):
            self._core.alarms.deactivate(HIGH_SYSTEM_MEMORY)
        if math.isinf(self._cpu_at):
            self._core.alarms.deactivate(HIGH_CPU)
            self._times = None
        elif self._times is None:
            self._times = self._measure_cpu()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            with trio.CancelScope(deadline=min(self._memory_at, self._cpu_at)):
                await self._changed.wait()
            self._changed = trio.Event()
            now = self._core.clock.now()
            if now >= self._memory_at:
                self._memory_at = now + self._config.mem_check_interval
                self._look_at_memory()
            if now >= self._cpu_at:
                self._cpu_at = now + self._config.cpu_check_interval
                self._look_at_cpu()

    def _look_at_memory(self) -> None:
        used = self._measure_memory()
        if used is None:
            log.debug("the machine's memory is not watched: this system does not say how much is used")
            self._memory_at = math.inf
            return
        mark = self._config.sysmem_high_watermark
        if used > mark:
            message = f"System memory usage is higher than {100 * mark:g}%"
            details = {"high_watermark": round(100 * mark, 2), "usage": round(100 * used, 2)}
            self._core.alarms.activate(HIGH_SYSTEM_MEMORY, message, details)
        else:
            self._core.alarms.deactivate(HIGH_SYSTEM_MEMORY)

    def _look_at_cpu(self) -> None:
        before, times = self._times, self._measure_cpu()
        self._times = times
        if times is None:
            log.debug("the processors are not watched: this system does not say what they do")
            self._cpu_at = math.inf
            return
        if before is None or times.total <= before.total:
            return
        usage = 1 - (times.idle - before.idle) / (times.total - before.total)
        config = self._config
        if usage > config.cpu_high_watermark:
            details = {
                "usage": f"{100 * usage:.2f}%",
                "high_watermark": f"{100 * config.cpu_high_watermark:g}%",
                "low_watermark": f"{100 * config.cpu_low_watermark:g}%",
            }
            self._core.alarms.activate(HIGH_CPU, f"{100 * usage:.2f}% cpu usage", details)
        elif usage < config.cpu_low_watermark:
            self._core.alarms.deactivate(HIGH_CPU)
