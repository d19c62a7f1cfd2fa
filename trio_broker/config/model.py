"""The whole configuration.

Invariant: a `Config` never changes; what changes at run time is a new one (`attrs.evolve`). `Config()` opens nothing
and keeps nothing on disk; `Config.service()` is what the command starts with.
"""

from __future__ import annotations

import math

from attrs import frozen

from trio_broker.config.bind import Bind, parse_bind
from trio_broker.config.kinds import Address, Choice, Duration, Flag, Integer, Mark, Or, Size, Text, Watermark
from trio_broker.config.listeners import ListenerConfig, ListenerTables, listener_tables
from trio_broker.config.mqtt import MqttConfig
from trio_broker.config.setting import setting
from trio_broker.config.tree import table

_PATH = Text(r"[^\0]*", "the path of a file")


@frozen(kw_only=True)
class NodeConfig:
    name: str = setting(
        Text(r"[^\s@]+@[^\s@]+", 'a node name such as "trio_broker@127.0.0.1"'),
        "trio_broker@127.0.0.1",
        "how this broker is called over REST",
    )
    data_dir: str = setting(Text(r"[^\0]*", "the path of a directory"), "", 'what is kept on disk; "" = memory only')


@frozen(kw_only=True)
class StoreConfig:
    durability: str = setting(
        Choice(("full", "normal", "relaxed", "memory")), "full", "what an acknowledgement promises to survive"
    )


@frozen(kw_only=True)
class HttpConfig:
    """The REST API's own listener."""

    bind: str = setting(Address(), "", "where it listens; port 0 takes a free port")
    enable: bool = setting(Flag(), True, "false = no REST API")
    max_connections: int = setting(Integer(1), 512, "connections at one time")

    @property
    def address(self) -> Bind:
        """`bind` in its parts."""
        return parse_bind(self.bind) if self.bind else Bind()


@frozen(kw_only=True)
class DashboardListeners:
    http: HttpConfig | None = table(HttpConfig, "the REST API; absent = none", optional=True)


@frozen(kw_only=True)
class DashboardConfig:
    listeners: DashboardListeners = table(DashboardListeners, "where the REST API listens")


@frozen(kw_only=True)
class ApiKeyConfig:
    bootstrap_file: str = setting(_PATH, "", "API keys, one key:secret or key:secret:role a line")


@frozen(kw_only=True)
class LogConfig:
    """What the command logs, and where to; an embedding program does its own logging."""

    level: str = setting(Choice(("debug", "info", "warning", "error", "critical")), "info", "the least that is logged")
    format: str = setting(Choice(("text", "json")), "text", "json is one object a line")
    file: str = setting(_PATH, "", "where to; empty = standard error")
    rotation_size: float = setting(
        Or("infinity", math.inf, Size(1)), "50MB", "a file is put aside when it has grown so large"
    )
    rotation_count: int = setting(Integer(1), 10, "files that are kept beside it")
    rate_limit: float = setting(
        Or("infinity", math.inf, Integer(1)), 100, "lines of one sort within rate_interval; more are counted"
    )
    rate_interval: float = setting(Duration(), "10s", "after this, the lines left out are told in one")


@frozen(kw_only=True)
class SysEventsConfig:
    client_connected: bool = setting(Flag(), True, "$SYS/brokers/NODE/clients/CLIENTID/connected")
    client_disconnected: bool = setting(Flag(), True, "$SYS/brokers/NODE/clients/CLIENTID/disconnected")
    client_subscribed: bool = setting(Flag(), False, "$SYS/brokers/NODE/clients/CLIENTID/subscribed")
    client_unsubscribed: bool = setting(Flag(), False, "$SYS/brokers/NODE/clients/CLIENTID/unsubscribed")


_INTERVAL = Or("disabled", math.inf, Duration())


@frozen(kw_only=True)
class SysTopicsConfig:
    sys_msg_interval: float = setting(_INTERVAL, "disabled", "from one report of all counters to the next")
    sys_heartbeat_interval: float = setting(_INTERVAL, "disabled", "from one uptime to the next")
    sys_event_messages: SysEventsConfig = table(SysEventsConfig, "what is told when it happens")

    @property
    def is_enabled(self) -> bool:
        """Events alone are not enough: with both intervals disabled there are no `$SYS` topics."""
        return not (math.isinf(self.sys_msg_interval) and math.isinf(self.sys_heartbeat_interval))


@frozen(kw_only=True)
class SysmonConfig:
    memory_high_watermark: Watermark = setting(
        Mark(), "70%", "above it new connections are refused, and QoS 0 is dropped first"
    )


@frozen(kw_only=True)
class Config:
    """Everything that can be set. Raises ConfigError where a value is not of its kind."""

    shutdown_timeout: float = setting(Duration(), "10s", "the time a graceful end may take")
    node: NodeConfig = table(NodeConfig, "this broker")
    listeners: ListenerTables = listener_tables()
    mqtt: MqttConfig = table(MqttConfig, "what holds for all clients")
    store: StoreConfig = table(StoreConfig, "what is kept, and how well")
    dashboard: DashboardConfig = table(DashboardConfig, "the REST API")
    api_key: ApiKeyConfig = table(ApiKeyConfig, "who may use the REST API")
    log: LogConfig = table(LogConfig, "what the command logs")
    sysmon: SysmonConfig = table(SysmonConfig, "limits of the whole process")
    sys_topics: SysTopicsConfig = table(SysTopicsConfig, "what the broker says of itself under $SYS")

    @classmethod
    def service(cls) -> Config:
        """A useful broker with no file at all; reached from this machine only."""
        return cls(
            node=NodeConfig(data_dir="data"),
            listeners={
                "tcp": {"default": ListenerConfig(bind="127.0.0.1:1883")},
                "ws": {"default": ListenerConfig(bind="127.0.0.1:8083")},
            },
            sys_topics=SysTopicsConfig(sys_msg_interval=60.0, sys_heartbeat_interval=30.0),
            dashboard=DashboardConfig(listeners=DashboardListeners(http=HttpConfig(bind="127.0.0.1:18083"))),
        )

    @property
    def http(self) -> HttpConfig | None:
        """The REST API's listener if there is to be one."""
        http = self.dashboard.listeners.http
        return http if http is not None and http.enable else None

    @property
    def in_memory(self) -> bool:
        """True when nothing is kept on disk."""
        return not self.node.data_dir or self.store.durability == "memory"
