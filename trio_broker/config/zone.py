"""What else EMQX calls a zone's, beside `mqtt`: bans of clients that come and go; and what has no meaning here, the
limits of its runtime and durable sessions.

Invariant: only `flapping_detect` has an effect; a broker that is given another value for another key says so.
"""

from __future__ import annotations

from attrs import frozen

from trio_broker.config.kinds import Duration, Flag, Integer, Size
from trio_broker.config.setting import setting

_RUNTIME = "of EMQX's runtime"
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
    enable: bool = setting(Flag(), False, "clients that come and go too often are banned for a while")
    window_time: float = setting(Duration(), "1m", "the time in which the ends of a client's connections are counted")
    max_count: int = setting(Integer(1), 15, "so many ends within window_time, and the client identifier is banned")
    ban_time: float = setting(Duration(), "5m", "how long it is")
