"""The whole configuration.

Invariant: a `Config` never changes; what changes at run time is a new one (`attrs.evolve`). `Config()` opens nothing
and keeps nothing on disk; `Config.service()` is what the command starts with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from trio_broker.config.authentication import AUTHENTICATORS, TABLE, AuthenticatorConfig
from trio_broker.config.authorization import DEFAULT_RULES, AuthorizationConfig, FileSourceConfig
from trio_broker.config.bind import Bind, parse_bind
from trio_broker.config.features import DelayedConfig, SlowSubsConfig, TopicMetricConfig
from trio_broker.config.http_client import headers
from trio_broker.config.kinds import Address, Choice, Duration, Flag, Integer, ListOf, Or, Size, Text, Url
from trio_broker.config.listeners import ListenerConfig, ListenerTables, SslOptions, listener_tables
from trio_broker.config.mqtt import MqttConfig
from trio_broker.config.retainer import RetainerConfig
from trio_broker.config.setting import setting
from trio_broker.config.topics import AutoSubscribeConfig, RewriteConfig
from trio_broker.config.tree import records, table
from trio_broker.config.variants import variants
from trio_broker.config.watching import AlarmConfig, OsConfig, SysmonConfig
from trio_broker.config.zone import DurableSessionsConfig, FlappingDetectConfig, ForceGcConfig, ForceShutdownConfig


@frozen
class AtLeast(Duration):
    """A duration that is not so short that it would be work without end."""

    seconds: float = 1.0
    expects: str = field()

    @expects.default
    def _expects(self) -> str:
        return f'a duration of {self.seconds:g} s at least, such as "15s"'

    def check(self, value: Any) -> float:
        checked = super().check(value)
        if checked < self.seconds:
            raise ValueError("too short")
        return checked


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
class HttpsConfig(HttpConfig):
    """The same over TLS, beside that listener or instead of it."""

    ssl_options: SslOptions = table(SslOptions, "its TLS side")


@frozen(kw_only=True)
class DashboardListeners:
    http: HttpConfig | None = table(HttpConfig, "the REST API; absent = none", optional=True)
    https: HttpsConfig | None = table(HttpsConfig, "the REST API over TLS; absent = none", optional=True)


@frozen(kw_only=True)
class DashboardConfig:
    listeners: DashboardListeners = table(DashboardListeners, "where the REST API listens")
    cors: bool = setting(Flag(), False, "true = pages of any origin may call the REST API from a browser")
    swagger_support: bool = setting(Flag(), True, "false = no /api-docs")
    sample_interval: float = setting(
        Or("disabled", math.inf, AtLeast(1)), "disabled", "from one sample of the charts (GET /monitor) to the next"
    )
    default_username: str = setting(
        Text(r"[A-Za-z0-9_]{1,100}", "a user name of letters, digits and underscores"),
        "admin",
        "the administrator that is made at the first start, and cannot be deleted",
    )
    default_password: str = setting(Text(), "", "its first password; empty = one is made and shown once", secret=True)
    token_expired_time: float = setting(AtLeast(1), "60m", "a login that is not used for so long is over")
    unsuccessful_login_max_attempts: int = setting(
        Integer(1, 1000), 5, "so many wrong passwords, and the login is locked"
    )
    unsuccessful_login_lock_duration: float = setting(
        AtLeast(1), "10m", "how long, for that user name from that address"
    )
    unsuccessful_login_interval: float = setting(AtLeast(1), "5m", "the time in which wrong passwords are counted")


@frozen(kw_only=True)
class ApiKeyConfig:
    bootstrap_file: str = setting(_PATH, "", "API keys, one key:secret or key:secret:role a line")


@frozen(kw_only=True)
class OlderApiConfig(HttpConfig):
    """The listener of an older generation of the REST API."""

    ssl_options: SslOptions | None = table(SslOptions, "its TLS side; absent = plain HTTP", optional=True)


@frozen(kw_only=True)
class CloudApiConfig(OlderApiConfig):
    """The one of EMQX 4, and of its Cloud."""

    cloud: bool = setting(Flag(), False, "true = also under /api, as EMQX Cloud has it, beside /api/v4")


@frozen(kw_only=True)
class ApiConfig:
    """The older generations of the REST API."""

    v2: OlderApiConfig | None = table(OlderApiConfig, "EMQ 2's /api/v2; absent = none", optional=True)
    v4: CloudApiConfig | None = table(CloudApiConfig, "EMQX 4's /api/v4; absent = none", optional=True)


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
class PushGatewayConfig:
    enable: bool = setting(Flag(), False, "what GET /prometheus/stats shows is sent to a Pushgateway too")
    url: str = setting(
        Url(r"(/[^\s?#]*)?", 'a URL such as "http://127.0.0.1:9091", without a password'),
        "http://127.0.0.1:9091",
        "where the Pushgateway is",
    )
    interval: float = setting(AtLeast(1), "15s", "from one push to the next")
    headers: Mapping[str, str] = headers({}, "headers of the requests")
    job_name: str = setting(
        Text(r"[^\s?#]+", 'a path such as "${name}/instance/${name}~${host}"'),
        "${name}/instance/${name}~${host}",
        "job and grouping labels; ${name} and ${host} are the two parts of node.name",
    )


@frozen(kw_only=True)
class OutboundConfig:
    """What administrators may make the broker ask over HTTP: authenticators, authorization sources, key sets."""

    access_rules: tuple[str, ...] = setting(
        ListOf(Text(r"(allow|deny) \S+", 'a rule such as "allow all" or "deny 192.168.0.0/24"')),
        ["deny 169.254.0.0/16", "deny fe80::/10", "deny fd00:ec2::254", "deny 100.100.100.200", "allow all"],
        "the first rule that holds for the address of a web service decides; cannot be changed over REST",
    )


_SWITCH = Choice(("enabled", "disabled"))
_EMQX_ONLY = "EMQX's; understood, and has no effect here"


@frozen(kw_only=True)
class CollectorsConfig:
    """Groups of figures about EMQX's runtime."""

    vm_dist: str = setting(_SWITCH, "disabled", _EMQX_ONLY)
    mnesia: str = setting(_SWITCH, "disabled", _EMQX_ONLY)
    vm_statistics: str = setting(_SWITCH, "disabled", _EMQX_ONLY)
    vm_system_info: str = setting(_SWITCH, "disabled", _EMQX_ONLY)
    vm_memory: str = setting(_SWITCH, "disabled", _EMQX_ONLY)
    vm_msacc: str = setting(_SWITCH, "disabled", _EMQX_ONLY)


@frozen(kw_only=True)
class PrometheusConfig:
    enable_basic_auth: bool = setting(Flag(), False, "GET /prometheus/stats and the like need credentials")
    push_gateway: PushGatewayConfig = table(PushGatewayConfig, "where figures are sent to")
    collectors: CollectorsConfig = table(CollectorsConfig, "EMQX's own")


@frozen(kw_only=True)
class Config:
    """Everything that can be set. Raises ConfigError where a value is not of its kind."""

    shutdown_timeout: float = setting(Duration(), "10s", "the time a graceful end may take")
    node: NodeConfig = table(NodeConfig, "this broker")
    listeners: ListenerTables = listener_tables()
    mqtt: MqttConfig = table(MqttConfig, "what holds for all clients")
    retainer: RetainerConfig = table(RetainerConfig, "the retained messages")
    delayed: DelayedConfig = table(DelayedConfig, "messages that are published later")
    rewrite: tuple[RewriteConfig, ...] = records(RewriteConfig, "topics that others are put in the place of")
    auto_subscribe: AutoSubscribeConfig = table(AutoSubscribeConfig, "subscriptions that clients get by themselves")
    topic_metrics: tuple[TopicMetricConfig, ...] = records(TopicMetricConfig, "topics whose messages are counted")
    slow_subs: SlowSubsConfig = table(SlowSubsConfig, "clients that take long to get messages")
    authentication: tuple[AuthenticatorConfig, ...] = variants(
        AUTHENTICATORS, ("mechanism", "backend"), "who is let in: authenticators in their order", apart=TABLE
    )
    authorization: AuthorizationConfig = table(AuthorizationConfig, "who may publish and subscribe to what")
    outbound: OutboundConfig = table(OutboundConfig, "where the broker itself may connect to")
    store: StoreConfig = table(StoreConfig, "what is kept, and how well")
    dashboard: DashboardConfig = table(DashboardConfig, "the REST API")
    api: ApiConfig = table(ApiConfig, "the older generations of the REST API, each on a port of its own")
    api_key: ApiKeyConfig = table(ApiKeyConfig, "who may use the REST API")
    log: LogConfig = table(LogConfig, "what the command logs")
    alarm: AlarmConfig = table(AlarmConfig, "what is wrong, and who is told")
    sysmon: SysmonConfig = table(SysmonConfig, "limits of the whole process, and what is watched")
    sys_topics: SysTopicsConfig = table(SysTopicsConfig, "what the broker says of itself under $SYS")
    prometheus: PrometheusConfig = table(PrometheusConfig, "figures for Prometheus")
    flapping_detect: FlappingDetectConfig = table(FlappingDetectConfig, "clients that come and go")
    force_shutdown: ForceShutdownConfig = table(ForceShutdownConfig, "EMQX's own")
    force_gc: ForceGcConfig = table(ForceGcConfig, "EMQX's own")
    durable_sessions: DurableSessionsConfig = table(DurableSessionsConfig, "EMQX's own")

    @classmethod
    def service(cls) -> Config:
        """A useful broker with no file at all; reached from this machine only."""
        return cls(
            node=NodeConfig(data_dir="data"),
            listeners={
                "tcp": {"default": ListenerConfig(bind="127.0.0.1:1883")},
                "ws": {"default": ListenerConfig(bind="127.0.0.1:8083")},
            },
            authorization=AuthorizationConfig(sources=(FileSourceConfig(rules=DEFAULT_RULES),)),
            sysmon=SysmonConfig(os=OsConfig(cpu_check_interval=60.0, mem_check_interval=60.0)),
            sys_topics=SysTopicsConfig(sys_msg_interval=60.0, sys_heartbeat_interval=30.0),
            dashboard=DashboardConfig(
                listeners=DashboardListeners(http=HttpConfig(bind="127.0.0.1:18083")), sample_interval=10.0
            ),
        )

    @property
    def http(self) -> HttpConfig | None:
        """The REST API's listener if there is to be one."""
        http = self.dashboard.listeners.http
        return http if http is not None and http.enable else None

    @property
    def https(self) -> HttpsConfig | None:
        """The same over TLS."""
        https = self.dashboard.listeners.https
        return https if https is not None and https.enable else None

    @property
    def older_apis(self) -> dict[str, OlderApiConfig]:
        """The listeners of older generations that there are to be, by the name of the generation."""
        both = {"v2": self.api.v2, "v4": self.api.v4}
        return {name: one for name, one in both.items() if one is not None and one.enable}

    @property
    def has_api(self) -> bool:
        """Is there to be a REST API of any generation?"""
        return self.http is not None or self.https is not None or bool(self.older_apis)

    @property
    def in_memory(self) -> bool:
        """True when nothing is kept on disk."""
        return not self.node.data_dir or self.store.durability == "memory"
