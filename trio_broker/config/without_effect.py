"""Settings of EMQX that are understood but change nothing in this broker yet.

Invariant: a user who sets one of them is told so at the start; nothing is ignored in silence.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Any

from trio_broker.config.listeners import ListenerConfig
from trio_broker.config.model import Config
from trio_broker.config.mqtt import MqttConfig
from trio_broker.config.setting import entries

_MQTT_KEYS = (
    "client_attrs_init",
    "exclusive_subscription",
    "keepalive_check_interval",
    "mqueue_default_priority",
    "mqueue_priorities",
    "retry_interval",
    "shared_subscription_initial_sticky_pick",
    "strict_mode",
)
_RETAINER_KEYS = ("storage_type", "index_specs")
_EMQX_TABLES = ("sysmon.vm", "force_shutdown", "force_gc", "durable_sessions")
_LISTENER_KEYS = ("mountpoint",)


def without_effect(config: Config) -> list[str]:
    """The keys that were given another value than their default, and have no effect."""
    keys = [f"mqtt.{key}" for key in _MQTT_KEYS if getattr(config.mqtt, key) != getattr(MqttConfig(), key)]
    keys += _changed(config.retainer.backend, "retainer.backend", _RETAINER_KEYS)
    keys += _changed(config.sysmon.os, "sysmon.os", ("procmem_high_watermark",))
    for name in _EMQX_TABLES:
        found: Any = attrgetter(name)(config)
        keys += _changed(found, name, entries(type(found)))
    https = config.dashboard.listeners.https
    if https is not None:
        keys += _changed(https.ssl_options, "dashboard.listeners.https.ssl_options", ("depth",))
    for name, older in (("v2", config.api.v2), ("v4", config.api.v4)):
        if older is not None and older.ssl_options is not None:
            keys += _changed(older.ssl_options, f"api.{name}.ssl_options", ("depth",))
    plain = ListenerConfig()
    for kind, listeners in config.listeners.items():
        for name, listener in listeners.items():
            keys += [
                f"listeners.{kind}.{name}.{key}"
                for key in _LISTENER_KEYS
                if getattr(listener, key) != getattr(plain, key)
            ]
            if listener.tcp_options.buffer != plain.tcp_options.buffer:
                keys.append(f"listeners.{kind}.{name}.tcp_options.buffer")
            if listener.ssl_options.depth != plain.ssl_options.depth:
                keys.append(f"listeners.{kind}.{name}.ssl_options.depth")
    return keys


def _changed(table: Any, name: str, keys: Iterable[str]) -> list[str]:
    """Those of these keys of a table that have another value than their default."""
    default = type(table)()
    return [f"{name}.{key}" for key in keys if getattr(table, key) != getattr(default, key)]
