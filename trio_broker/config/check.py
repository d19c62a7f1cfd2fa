"""What must hold between keys, once all layers are laid over each other.

Invariant: nothing is opened here; files are only tried where `check_files` is called.
"""

from __future__ import annotations

from trio_broker.config.access import check_access_rules, check_authenticators, check_authorization
from trio_broker.config.credentials import password_fault
from trio_broker.config.features import MAX_TOPIC_METRICS
from trio_broker.config.files import check_plain_file
from trio_broker.config.listeners import ListenerConfig, SslOptions, WebsocketOptions
from trio_broker.config.model import Config
from trio_broker.config.setting import show
from trio_broker.config.topics import check_auto_subscribe, check_rewrite
from trio_broker.errors import ConfigError


def listener_configs(config: Config) -> list[ListenerConfig]:
    """All listeners, those not enabled too, in the order of their kinds; raises ConfigError as `check` does."""
    check(config)
    return [listener for listeners in config.listeners.values() for listener in listeners.values()]


def check(config: Config) -> None:
    """Raises ConfigError for the first thing that does not fit together."""
    for kind, listeners in config.listeners.items():
        for name, listener in listeners.items():
            _check_listener(listener, f"listeners.{kind}.{name}")
    for name, http in (("http", config.http), ("https", config.https)):
        if http is not None and (not http.bind or http.address.path):
            raise ConfigError(f"dashboard.listeners.{name}.bind", _BIND_TCP if http.bind else _BIND_NEEDED)
    if config.https is not None:
        _check_tls(config.https.ssl_options, "dashboard.listeners.https.ssl_options", "for HTTPS")
    for name, older in config.older_apis.items():
        if not older.bind or older.address.path:
            raise ConfigError(f"api.{name}.bind", _BIND_TCP if older.bind else _BIND_NEEDED)
        if older.ssl_options is not None:
            _check_tls(older.ssl_options, f"api.{name}.ssl_options", "for HTTPS")
    password = config.dashboard.default_password
    if password and (fault := password_fault(password)) is not None:
        raise ConfigError("dashboard.default_password", fault)
    check_rewrite(config.rewrite, "rewrite")
    check_auto_subscribe(config.auto_subscribe.topics, "auto_subscribe.topics")
    check_authenticators(config.authentication, "authentication")
    check_authorization(config.authorization, "authorization")
    check_access_rules(config.outbound.access_rules, "outbound.access_rules")
    _check_topic_metrics([record.topic for record in config.topic_metrics])
    for key in ("sys_msg_interval", "sys_heartbeat_interval"):
        if getattr(config.sys_topics, key) < 1:
            raise ConfigError(f"sys_topics.{key}", "must be a second at least")
    for key in ("cpu_check_interval", "mem_check_interval"):
        if getattr(config.sysmon.os, key) < 1:
            raise ConfigError(f"sysmon.os.{key}", "must be a second at least")
    if config.sysmon.os.cpu_low_watermark > config.sysmon.os.cpu_high_watermark:
        raise ConfigError("sysmon.os.cpu_low_watermark", "must not be above cpu_high_watermark")
    if 0 < config.retainer.msg_clear_interval < 1:
        raise ConfigError("retainer.msg_clear_interval", "must be 0 or a second at least")


def _check_topic_metrics(topics: list[str]) -> None:
    for number, topic in enumerate(topics, 1):
        if not topic or "+" in topic or "#" in topic:
            raise ConfigError(f"topic_metrics.{number}.topic", f"{show(topic)} is not a topic without wildcards")
    if len(set(topics)) < len(topics) or len(topics) > MAX_TOPIC_METRICS:
        raise ConfigError("topic_metrics", f"must be {MAX_TOPIC_METRICS} different topics at most")


_BIND_NEEDED = 'is needed, such as "127.0.0.1:1883"'
_BIND_TCP = "must be an address and a port, not a path"
_BIND_PATH = "must be a path that holds a /"


def _check_listener(listener: ListenerConfig, key: str) -> None:
    if listener.kind == "memory":
        if listener.bind:
            raise ConfigError(f"{key}.bind", "has no meaning for a memory listener")
    elif not listener.bind:
        if not listener.enable:
            return  # stopped over REST, and the file that said where it was knows it no more
        raise ConfigError(f"{key}.bind", _BIND_NEEDED if listener.kind != "unix" else _BIND_PATH)
    elif bool(listener.address.path) != (listener.kind == "unix"):
        raise ConfigError(
            f"{key}.bind", f"{show(listener.bind)} {_BIND_PATH if listener.kind == 'unix' else _BIND_TCP}"
        )
    if listener.kind in ("ssl", "wss"):
        if listener.enable:
            _check_tls(listener.ssl_options, f"{key}.ssl_options", f"for a {listener.kind} listener")
    elif listener.ssl_options != SslOptions():
        # Somebody who sets a certificate here believes the port is encrypted.
        raise ConfigError(f"{key}.ssl_options", f"has no meaning for a {listener.kind} listener; ssl and wss have it")
    if listener.kind not in ("ws", "wss") and listener.websocket != WebsocketOptions():
        raise ConfigError(f"{key}.websocket", f"has no meaning for a {listener.kind} listener; ws and wss have it")


def _check_tls(options: SslOptions, key: str, why: str) -> None:
    for name in ("certfile", "keyfile"):
        if not getattr(options, name):
            raise ConfigError(f"{key}.{name}", f"is needed {why}")
    if options.verify == "verify_peer" and not options.cacertfile:
        raise ConfigError(f"{key}.cacertfile", "is needed for verify_peer")
    if options.fail_if_no_peer_cert and options.verify != "verify_peer":
        raise ConfigError(f"{key}.fail_if_no_peer_cert", 'needs verify = "verify_peer"')
    if not options.versions:
        raise ConfigError(f"{key}.versions", "must name one version at least")


def check_files(config: Config) -> None:
    """Raises ConfigError for the first file named in the configuration that cannot be read."""
    if config.has_api and config.api_key.bootstrap_file:
        _check_file("api_key.bootstrap_file", config.api_key.bootstrap_file)
    for name, older in config.older_apis.items():
        if older.ssl_options is not None:
            _check_tls_files(older.ssl_options, f"api.{name}.ssl_options")
    if config.https is not None:
        _check_tls_files(config.https.ssl_options, "dashboard.listeners.https.ssl_options")
    for listener in listener_configs(config):
        if listener.enable:
            check_listener_files(listener)


def check_listener_files(listener: ListenerConfig) -> None:
    """The same for one listener."""
    _check_tls_files(listener.ssl_options, f"listeners.{listener.kind}.{listener.name}.ssl_options")


def _check_tls_files(options: SslOptions, key: str) -> None:
    for name in ("certfile", "keyfile", "cacertfile"):
        path = getattr(options, name)
        if path:
            _check_file(f"{key}.{name}", path)


def _check_file(key: str, path: str) -> None:
    try:
        check_plain_file(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no path"
        raise ConfigError(key, f"{show(path)} cannot be read: {reason}") from error
