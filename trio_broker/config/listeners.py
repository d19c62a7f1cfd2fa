"""The `[listeners.<kind>.<name>]` tables: what one listener is told.

Invariant: a listener of a `Config` knows its kind and its name; its identifier is EMQX's, `tcp:default`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
from attrs import frozen

from trio_broker.config.bind import Bind, parse_bind
from trio_broker.config.kinds import Address, Choice, Duration, Flag, Integer, ListOf, Or, Rate, Size, Text
from trio_broker.config.setting import Entry, section, setting, show
from trio_broker.config.tree import UnknownKey, as_table, keys, overlay, plain, table
from trio_broker.errors import ConfigError

LISTENER_KINDS = ("tcp", "ssl", "ws", "wss", "unix", "memory")

_FROM_EMQX = "EMQX's; understood, and has no effect here"
_C_INT = 0x7FFF_FFFF  # what the system takes for such an option
_PATH = Text(r"[^\0]*", "the path of a file")


@frozen(kw_only=True)
class TcpOptions:
    """`tcp_options`: the sockets of one listener."""

    nodelay: bool = setting(Flag(), True, "small packets leave at once (TCP_NODELAY)")
    backlog: int = setting(Integer(1, _C_INT), 1024, "connections the system may hold before they are accepted")
    high_watermark: int = setting(Size(1), "1MB", "bytes to one client that may wait in memory for its socket")
    buffer: int = setting(Size(1), "4KB", "the least that one read from a socket asks for")
    recbuf: int = setting(Size(0, _C_INT), 0, "the system's receive buffer (SO_RCVBUF); 0 = what the system gives")
    sndbuf: int = setting(Size(0, _C_INT), 0, "the system's send buffer (SO_SNDBUF); 0 = what the system gives")
    send_timeout: float = setting(Duration(), "15s", "a client that takes nothing for so long is cut")
    reuseaddr: bool = setting(Flag(), True, "the port can be bound again right after an end (SO_REUSEADDR)")
    keepalive: str = setting(
        Text(r"none|\d{1,5},\d{1,5},\d{1,3}", '"none" or "idle,interval,probes" in seconds'),
        "none",
        'TCP keep-alive: "none" or "idle,interval,probes" in seconds',
    )
    active_n: int = setting(Integer(1), 100, _FROM_EMQX)
    send_timeout_close: bool = setting(Flag(), True, _FROM_EMQX)


@frozen(kw_only=True)
class SslOptions:
    """`ssl_options`: the TLS side of an ssl or wss listener; files are PEM."""

    certfile: str = setting(_PATH, "", "the certificate, and those that lead to its authority")
    keyfile: str = setting(_PATH, "", "its private key")
    cacertfile: str = setting(_PATH, "", "the authorities that the clients' certificates come from")
    password: str = setting(Text(), "", "of the private key, where it is encrypted", secret=True)
    verify: str = setting(
        Choice(("verify_none", "verify_peer")), "verify_none", "verify_peer asks clients for certificates"
    )
    fail_if_no_peer_cert: bool = setting(Flag(), False, "with verify_peer, a client without a certificate is refused")
    depth: int = setting(Integer(0, 255), 10, "certificates between a client's own and its authority")
    versions: tuple[str, ...] = setting(
        ListOf(Choice(("tlsv1.3", "tlsv1.2"))), ["tlsv1.3", "tlsv1.2"], "what is spoken"
    )
    ciphers: tuple[str, ...] = setting(ListOf(Text()), [], "OpenSSL names for TLS 1.2; empty = what OpenSSL advises")
    handshake_timeout: float = setting(Duration(), "15s", "a TLS handshake that takes longer is cut")
    honor_cipher_order: bool = setting(Flag(), True, "the order of the server's ciphers decides")
    reuse_sessions: bool = setting(Flag(), True, _FROM_EMQX)
    secure_renegotiate: bool = setting(Flag(), True, _FROM_EMQX)
    client_renegotiation: bool = setting(Flag(), True, _FROM_EMQX)
    hibernate_after: float = setting(Duration(), "5s", _FROM_EMQX)
    gc_after_handshake: bool = setting(Flag(), False, _FROM_EMQX)
    log_level: str = setting(Text(), "notice", _FROM_EMQX)


@frozen(kw_only=True)
class WebsocketOptions:
    """`websocket`: the WebSocket side of a ws or wss listener."""

    mqtt_path: str = setting(Text(r"/[^\s\0]*", 'a path such as "/mqtt"'), "/mqtt", "where clients come to")
    fail_if_no_subprotocol: bool = setting(Flag(), True, "a client that names no sub-protocol is refused")
    supported_subprotocols: tuple[str, ...] = setting(
        ListOf(Text(r"[^\s,]+", "the name of a sub-protocol"), commas=True),
        "mqtt, mqttv3.1, mqtt-v3, mqtt-v3.1.1, mqtt-v5",
        "the sub-protocols that mean MQTT",
    )
    max_frame_size: float = setting(Or("infinity", math.inf, Size(1)), "infinity", "larger frames end the connection")
    idle_timeout: float = setting(Or("infinity", math.inf, Duration()), "7200s", _FROM_EMQX)
    check_origin_enable: bool = setting(Flag(), False, "the Origin of a browser's page must be in check_origins")
    allow_origin_absence: bool = setting(Flag(), True, "with check_origin_enable, an absent Origin is let in")
    check_origins: tuple[str, ...] = setting(
        ListOf(Text(), commas=True), "http://localhost:18083, http://127.0.0.1:18083", "pages that may connect"
    )
    proxy_address_header: str = setting(
        Text(), "x-forwarded-for", "the header with the client's address; believed only of a proxy on this machine"
    )
    proxy_port_header: str = setting(
        Text(), "x-forwarded-port", "the header with the client's port; believed only of a proxy on this machine"
    )
    mqtt_piggyback: str = setting(Choice(("single", "multiple")), "multiple", _FROM_EMQX)
    compress: bool = setting(Flag(), False, _FROM_EMQX)
    validate_utf8: bool = setting(Flag(), True, _FROM_EMQX)


@frozen(kw_only=True)
class ListenerConfig:
    """One listener; `kind` and `name` are put in when it becomes part of a `Config`."""

    bind: str = setting(Address(), "", "where it listens; port 0 takes a free port")
    enable: bool = setting(Flag(), True, "false = known, and not opened")
    max_connections: float = setting(Or("infinity", math.inf, Integer(1)), "infinity", "connections at one time")
    max_conn_rate: float = setting(Rate(), "infinity", "new connections a second")
    messages_rate: float = setting(Rate(), "infinity", "messages a second from one client")
    bytes_rate: float = setting(Rate(sized=True), "infinity", "bytes a second from one client")
    mountpoint: str = setting(Text(), "", "put before each topic; ${clientid} and ${username} are filled in")
    enable_authn: bool | str = setting(
        Or("quick_deny_anonymous", "quick_deny_anonymous", Flag()), True, "false lets in everybody who comes here"
    )
    proxy_protocol: bool = setting(Flag(), False, "connections come through a proxy that sends the PROXY header")
    proxy_protocol_timeout: float = setting(Duration(), "3s", "the PROXY header must have come by then")
    zone: str = setting(Text(), "default", _FROM_EMQX)
    acceptors: int = setting(Integer(1), 16, _FROM_EMQX)
    access_rules: tuple[str, ...] = setting(
        ListOf(Text(r"(allow|deny) \S+", 'a rule such as "allow all" or "deny 192.168.0.0/24"')),
        ["allow all"],
        "the first rule that holds for the peer's address decides",
    )
    tcp_options: TcpOptions = table(TcpOptions, "its sockets")
    ssl_options: SslOptions = table(SslOptions, "its TLS side; ssl and wss only")
    websocket: WebsocketOptions = table(WebsocketOptions, "its WebSocket side; ws and wss only")
    kind: str = "tcp"
    name: str = "default"

    @property
    def identifier(self) -> str:
        """EMQX's id, such as `tcp:default`."""
        return f"{self.kind}:{self.name}"

    @property
    def address(self) -> Bind:
        """`bind` in its parts."""
        return parse_bind(self.bind) if self.bind else Bind()


ListenerTables = Mapping[str, Mapping[str, ListenerConfig]]
"""Kind -> name -> listener."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*", re.ASCII)


def named(tables: Any) -> ListenerTables:
    """A copy in which each listener knows its kind and name; ConfigError for a kind that does not exist."""
    for kind in tables:
        if kind not in LISTENER_KINDS:
            raise ConfigError(f"listeners.{kind}", f"is not one of {', '.join(LISTENER_KINDS)}")
    return {
        kind: {name: attrs.evolve(listener, kind=kind, name=name) for name, listener in tables[kind].items()}
        for kind in LISTENER_KINDS
        if tables.get(kind)
    }


class _Listeners(Entry):
    doc = "the doors of the broker, by kind and name"

    def overlay(self, current: Any, raw: object, key: str, *, text: bool) -> object:
        result = {kind: dict(listeners) for kind, listeners in current.items()}
        for kind, listeners in as_table(raw, key, text=text).items():
            if kind not in LISTENER_KINDS:
                raise UnknownKey(f"{key}.{kind}", listeners)
            for name, layer in as_table(listeners, f"{key}.{kind}", text=text).items():
                if not _NAME.fullmatch(name):
                    raise ConfigError(f"{key}.{kind}", f"{show(name)} is not a name of letters, digits, _ and -")
                before = result.get(kind, {}).get(name, ListenerConfig())
                listener = overlay(
                    before, as_table(layer, f"{key}.{kind}.{name}", text=text), f"{key}.{kind}.{name}", text=text
                )
                result.setdefault(kind, {})[name] = listener
        return result

    def plain(self, current: Any, *, secrets: bool) -> object:
        return {
            kind: {name: plain(listener, secrets=secrets) for name, listener in listeners.items()}
            for kind, listeners in current.items()
        }

    def keys(self, key: str) -> Iterator[str]:
        for kind in LISTENER_KINDS:
            yield from keys(ListenerConfig, f"{key}.{kind}.*")


def listener_tables() -> Any:
    """The attrs field `listeners`."""
    return section(_Listeners(), factory=dict, converter=named)
