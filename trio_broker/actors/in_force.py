"""From the configuration to what the actors go by, at the start and whenever a setting changes over REST.

Invariant: what acts only on connections made from then on (the limits of `mqtt`) is a new object, so that a connection
lives under the limits it was told; everything else acts at once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from trio_broker.actors.memory_guard import total_bytes
from trio_broker.config import Config, MqttConfig
from trio_broker.routing.shared_group import Strategy
from trio_broker.session.limits import Limits
from trio_broker.session.pressure import Pressure
from trio_broker.session.slow import Slow

if TYPE_CHECKING:
    from trio_broker.actors.core import Core


def limits_of(mqtt: MqttConfig, pressure: Pressure | None = None, slow: Slow | None = None) -> Limits:
    """The settings a session needs, with infinity as the code has it. `pressure`, `slow`: those all of them share."""

    def bounded(value: float) -> int | None:
        return None if math.isinf(value) else int(value)

    return Limits(
        max_packet_size=mqtt.max_packet_size,
        max_clientid_len=mqtt.max_clientid_len,
        max_topic_levels=mqtt.max_topic_levels,
        max_topic_alias=mqtt.max_topic_alias,
        max_qos_allowed=mqtt.max_qos_allowed,
        retain_available=mqtt.retain_available,
        wildcard_subscription=mqtt.wildcard_subscription,
        shared_subscription=mqtt.shared_subscription,
        max_inflight=mqtt.max_inflight,
        max_mqueue_len=bounded(mqtt.max_mqueue_len) or 0,
        mqueue_store_qos0=mqtt.mqueue_store_qos0,
        max_awaiting_rel=bounded(mqtt.max_awaiting_rel) or 0,
        await_rel_timeout=mqtt.await_rel_timeout,
        max_subscriptions=bounded(mqtt.max_subscriptions),
        session_expiry_interval=_whole_seconds(mqtt.session_expiry_interval),
        server_keepalive=mqtt.server_keepalive,
        keepalive_multiplier=mqtt.keepalive_multiplier,
        idle_timeout=mqtt.idle_timeout,
        upgrade_qos=mqtt.upgrade_qos,
        ignore_loop_deliver=mqtt.ignore_loop_deliver,
        response_information=mqtt.response_information,
        pressure=Pressure() if pressure is None else pressure,
        slow=Slow() if slow is None else slow,
        message_expiry_interval=bounded(mqtt.message_expiry_interval),
        use_username_as_clientid=mqtt.use_username_as_clientid,
        peer_cert_as_username=mqtt.peer_cert_as_username,
        peer_cert_as_clientid=mqtt.peer_cert_as_clientid,
    )


def _whole_seconds(seconds: float) -> int:
    """A session expiry interval as MQTT has it: 0xFFFFFFFF never ends."""
    return 0xFFFFFFFF if math.isinf(seconds) else min(int(seconds), 0xFFFFFFFE)


def follow(core: Core) -> None:
    """Let the actors of this broker follow the settings. Called once, when all of them are made."""
    watch = core.settings.watch

    def mqtt(before: Config, after: Config) -> None:
        core.limits = limits_of(after.mqtt, core.limits.pressure, core.limits.slow)
        core.authentication.allow_anonymous = after.mqtt.allow_anonymous
        core.shared_subscription_strategy = cast(Strategy, after.mqtt.shared_subscription_strategy)
        core.router.table.use_strategy(core.shared_subscription_strategy)

    def sysmon(before: Config, after: Config) -> None:
        core.memory_guard.move(after.sysmon.memory_high_watermark.bytes_of(total_bytes()))
        core.system_watch.use(after.sysmon.os)

    watch("mqtt", mqtt)
    watch("sysmon", sysmon)
    watch("retainer", lambda before, after: core.retainer.use(after.retainer))
    watch("sys_topics", lambda before, after: core.system_topics.use(after.sys_topics))
    watch("flapping_detect", lambda before, after: core.flapping.use(after.flapping_detect))
    watch("alarm", lambda before, after: core.alarms.use(after.alarm))
