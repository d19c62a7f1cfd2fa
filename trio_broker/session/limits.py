"""The limits a session lives under: EMQX's `mqtt` settings in the units of the code.

Invariant: floor 1 knows the configuration only through this object; 0 or None for "unbounded" is resolved here.
"""

from __future__ import annotations

import math

from attrs import define, field

from trio_broker.session.pressure import Pressure
from trio_broker.session.slow import Slow


@define(frozen=True)
class Limits:
    """Times in seconds, sizes in bytes; None = unbounded."""

    max_packet_size: int = 1_048_576
    max_clientid_len: int = 65535
    max_topic_levels: int = 128
    max_topic_alias: int = 65535
    max_qos_allowed: int = 2
    retain_available: bool = True
    wildcard_subscription: bool = True
    shared_subscription: bool = True
    max_inflight: int = 32  # 0 = as many as there are packet identifiers
    max_mqueue_len: int = 1000  # 0 = unbounded
    mqueue_store_qos0: bool = True
    max_awaiting_rel: int = 100  # 0 = unbounded; else also announced as Receive Maximum
    await_rel_timeout: float = math.inf
    max_subscriptions: int | None = None
    session_expiry_interval: int = 7200  # of persistent 3.x sessions, and the most a 5.0 client gets
    server_keepalive: int | None = None
    keepalive_multiplier: float = 1.5
    idle_timeout: float = 15.0  # from accept to CONNECT
    upgrade_qos: bool = False
    ignore_loop_deliver: bool = False
    response_information: str = ""
    pressure: Pressure = field(factory=Pressure)
    slow: Slow = field(factory=Slow)
    message_expiry_interval: int | None = None
    use_username_as_clientid: bool = False
    peer_cert_as_username: str = "disabled"  # disabled, cn or dn
    peer_cert_as_clientid: str = "disabled"
