"""Settings of EMQX that are understood but change nothing in this broker yet.

Invariant: a user who sets one of them is told so at the start; nothing is ignored in silence.
"""

from __future__ import annotations

from trio_broker.config.listeners import ListenerConfig
from trio_broker.config.model import Config
from trio_broker.config.mqtt import MqttConfig

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
_LISTENER_KEYS = ("mountpoint",)
_FROM_CERTIFICATE = ("peer_cert_as_clientid", "peer_cert_as_username")


def without_effect(config: Config) -> list[str]:
    """The keys that were given another value than their default, and have no effect."""
    keys = [f"mqtt.{key}" for key in _MQTT_KEYS if getattr(config.mqtt, key) != getattr(MqttConfig(), key)]
    keys += [
        f"mqtt.{key} = {getattr(config.mqtt, key)!r}"
        for key in _FROM_CERTIFICATE
        if getattr(config.mqtt, key) not in ("disabled", "cn", "dn")
    ]
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
            if listener.enable_authn == "quick_deny_anonymous":
                keys.append(f"listeners.{kind}.{name}.enable_authn = 'quick_deny_anonymous' (taken as true)")
    return keys
