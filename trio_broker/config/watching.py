"""The `[alarm]` and `[sysmon]` tables: what is watched, and who is told.

Invariant: nothing is looked at in intervals unless an interval is set.
"""

from __future__ import annotations

import math

from attrs import frozen

from trio_broker.config.kinds import (
    Choice,
    Duration,
    Flag,
    Integer,
    ListOf,
    Mark,
    Or,
    Percentage,
    Size,
    Watermark,
)
from trio_broker.config.setting import Kind, setting
from trio_broker.config.tree import table

_INTERVAL = Or("disabled", math.inf, Duration())
_SIZE_OR_OFF: Kind = Or("disabled", 0, Size())
_TIME_OR_OFF: Kind = Or("disabled", math.inf, Duration())
_EMQX_ONLY = "of EMQX's runtime"


@frozen(kw_only=True)
class AlarmConfig:
    actions: tuple[str, ...] = setting(
        ListOf(Choice(("log", "publish"))), ["log", "publish"], "what is done when one begins or ends"
    )
    size_limit: int = setting(Integer(1, 3000), 1000, "alarms of the past that are remembered")
    validity_period: float = setting(Duration(), "24h", "how long they are")


@frozen(kw_only=True)
class OsConfig:
    """`sysmon.os`: the machine."""

    cpu_check_interval: float = setting(_INTERVAL, "disabled", "from one look at the processors to the next")
    cpu_high_watermark: float = setting(Percentage(), "80%", "above it there is an alarm, high_cpu_usage")
    cpu_low_watermark: float = setting(Percentage(), "60%", "below it that alarm is over")
    mem_check_interval: float = setting(_INTERVAL, "disabled", "from one look at the machine's memory to the next")
    sysmem_high_watermark: float = setting(
        Or("disabled", math.inf, Percentage()), "70%", "above it there is an alarm, high_system_memory_usage"
    )
    procmem_high_watermark: float = setting(Percentage(), "5%", _EMQX_ONLY)


@frozen(kw_only=True)
class VmConfig:
    """`sysmon.vm`: EMQX's own."""

    process_check_interval: float = setting(Duration(), "30s", _EMQX_ONLY)
    process_high_watermark: float = setting(Percentage(), "80%", _EMQX_ONLY)
    process_low_watermark: float = setting(Percentage(), "60%", _EMQX_ONLY)
    long_gc: float = setting(_TIME_OR_OFF, "disabled", _EMQX_ONLY)
    long_schedule: float = setting(_TIME_OR_OFF, "240ms", _EMQX_ONLY)
    large_heap: int = setting(_SIZE_OR_OFF, "32MB", _EMQX_ONLY)
    busy_port: bool = setting(Flag(), True, _EMQX_ONLY)
    busy_dist_port: bool = setting(Flag(), True, _EMQX_ONLY)


@frozen(kw_only=True)
class SysmonConfig:
    memory_high_watermark: Watermark = setting(
        Mark(), "70%", "above it new connections are refused, and QoS 0 is dropped first"
    )
    os: OsConfig = table(OsConfig, "the machine")
    vm: VmConfig = table(VmConfig, "EMQX's own")
