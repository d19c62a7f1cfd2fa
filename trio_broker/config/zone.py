"""What else EMQX calls a zone's, beside `mqtt`, and has no meaning here: its runtime's limits,
durable sessions, and bans of clients that come and go.

Invariant: none of these keys has an effect; a broker that is given another value for one of them says so.
"""

from __future__ import annotations

from attrs import frozen

from trio_broker.config.kinds import Duration, Flag, Integer, Size
from trio_broker.config.setting import setting

_RUNTIME = "of EMQX's runtime"
_FLAPPING = "of EMQX's bans of clients that come and go"
_DURABLE = "of EMQX's durable sessions"


@frozen(kw_only=True)
class ForceShutdownConfig:
    enable: bool = setting(Flag(), True, _RUNTIME)
    max_mailbox_size: int = setting(Integer(0), 1000, _RUNTIME)
    max_heap_size: int = setting(Size(), "32MB", _RUNTIME)


@frozen(kw_only=True)
class ForceGcConfig:
    enable: bool = setting(Flag(), True, _RUNTIME)
    count: int = setting(Integer(0), 16000, _RUNTIME)
    bytes: int = setting(Size(), "16MB", _RUNTIME)


@frozen(kw_only=True)
class DurableSessionsConfig:
    enable: bool = setting(Flag(), False, _DURABLE)
    batch_size: int = setting(Integer(1), 100, _DURABLE)
    idle_poll_interval: float = setting(Duration(), "10s", _DURABLE)
    heartbeat_interval: float = setting(Duration(), "5s", _DURABLE)
    session_gc_interval: float = setting(Duration(), "10m", _DURABLE)
    session_gc_batch_size: int = setting(Integer(1), 100, _DURABLE)
    message_retention_period: float = setting(Duration(), "1d", _DURABLE)


@frozen(kw_only=True)
class FlappingDetectConfig:
    enable: bool = setting(Flag(), False, _FLAPPING)
    window_time: float = setting(Duration(), "1m", _FLAPPING)
    max_count: int = setting(Integer(1), 15, _FLAPPING)
    ban_time: float = setting(Duration(), "5m", _FLAPPING)
