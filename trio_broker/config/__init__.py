"""The configuration: what may be set, how it is written, and where it comes from.

Invariant: one table (the settings declared in these classes) drives parsing, checking, environment names, and the plain
form; no key has code of its own.
"""

from __future__ import annotations

from trio_broker.config.bind import Bind
from trio_broker.config.check import check, check_files, listener_configs
from trio_broker.config.listeners import LISTENER_KINDS, ListenerConfig, SslOptions, TcpOptions, WebsocketOptions
from trio_broker.config.load import Layers, load
from trio_broker.config.model import (
    ApiKeyConfig,
    Config,
    DashboardConfig,
    DashboardListeners,
    HttpConfig,
    HttpsConfig,
    LogConfig,
    NodeConfig,
    StoreConfig,
    SysTopicsConfig,
)
from trio_broker.config.mqtt import MqttConfig
from trio_broker.config.retainer import BackendConfig, RetainerConfig
from trio_broker.config.tree import to_dict
from trio_broker.config.watching import AlarmConfig, OsConfig, SysmonConfig

__all__ = [
    "LISTENER_KINDS",
    "AlarmConfig",
    "ApiKeyConfig",
    "BackendConfig",
    "Bind",
    "Config",
    "DashboardConfig",
    "DashboardListeners",
    "HttpConfig",
    "HttpsConfig",
    "Layers",
    "ListenerConfig",
    "LogConfig",
    "MqttConfig",
    "NodeConfig",
    "OsConfig",
    "RetainerConfig",
    "SslOptions",
    "StoreConfig",
    "SysTopicsConfig",
    "SysmonConfig",
    "TcpOptions",
    "WebsocketOptions",
    "check",
    "check_files",
    "listener_configs",
    "load",
    "to_dict",
]
