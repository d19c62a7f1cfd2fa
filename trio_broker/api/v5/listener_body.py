"""What is said of a listener in a request.

Invariant: the fields are those of the configuration (`trio_broker.config.listeners`), which checks their values.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.api.failures import Failure, invalid
from trio_broker.config.listeners import LISTENER_KINDS

TYPE_INCONSISTENT: Final = Failure(400, "BAD_REQUEST", "listener_type_inconsistent")
ID_MISMATCH: Final = Failure(400, "BAD_LISTENER_ID", "Path and body's listener id not match")

Type = Literal["tcp", "ssl", "ws", "wss", "quic", "unix", "memory"]

Duration = Annotated[str | int, Meta(description='Such as "15s"; a number is milliseconds')]
Size = Annotated[str | int, Meta(description='Such as "1MB"; a number is bytes')]
Rate = Annotated[str | int | float, Meta(description='Such as "1000/s", or "infinity"')]
Limit = Annotated[str | int, Meta(description='A whole number from 1 up, or "infinity"')]
Text = Annotated[str | list[str], Meta(description="A list, or one text with commas")]
Pem = Annotated[str, Meta(description="The path of a file, or PEM text, which is kept in a file")]
Positive = Annotated[int, Meta(ge=1)]


class TcpOptionsBody(Struct, kw_only=True, forbid_unknown_fields=True):
    nodelay: bool | UnsetType = UNSET
    backlog: Positive | UnsetType = UNSET
    high_watermark: Size | UnsetType = UNSET
    buffer: Size | UnsetType = UNSET
    recbuf: Size | UnsetType = UNSET
    sndbuf: Size | UnsetType = UNSET
    send_timeout: Duration | UnsetType = UNSET
    reuseaddr: bool | UnsetType = UNSET
    keepalive: str | UnsetType = UNSET
    active_n: Positive | UnsetType = UNSET
    send_timeout_close: bool | UnsetType = UNSET


class SslOptionsBody(Struct, kw_only=True, forbid_unknown_fields=True):
    certfile: Pem | UnsetType = UNSET
    keyfile: Pem | UnsetType = UNSET
    cacertfile: Pem | UnsetType = UNSET
    password: str | UnsetType = UNSET
    verify: Literal["verify_none", "verify_peer"] | UnsetType = UNSET
    fail_if_no_peer_cert: bool | UnsetType = UNSET
    depth: Annotated[int, Meta(ge=0, le=255)] | UnsetType = UNSET
    versions: list[Literal["tlsv1.3", "tlsv1.2"]] | UnsetType = UNSET
    ciphers: list[str] | UnsetType = UNSET
    handshake_timeout: Duration | UnsetType = UNSET
    honor_cipher_order: bool | UnsetType = UNSET
    reuse_sessions: bool | UnsetType = UNSET
    secure_renegotiate: bool | UnsetType = UNSET
    client_renegotiation: bool | UnsetType = UNSET
    hibernate_after: Duration | UnsetType = UNSET
    gc_after_handshake: bool | UnsetType = UNSET
    log_level: str | UnsetType = UNSET


class WebsocketBody(Struct, kw_only=True, forbid_unknown_fields=True):
    mqtt_path: str | UnsetType = UNSET
    fail_if_no_subprotocol: bool | UnsetType = UNSET
    supported_subprotocols: Text | UnsetType = UNSET
    max_frame_size: Size | UnsetType = UNSET
    idle_timeout: Duration | UnsetType = UNSET
    check_origin_enable: bool | UnsetType = UNSET
    allow_origin_absence: bool | UnsetType = UNSET
    check_origins: Text | UnsetType = UNSET
    proxy_address_header: str | UnsetType = UNSET
    proxy_port_header: str | UnsetType = UNSET
    mqtt_piggyback: Literal["single", "multiple"] | UnsetType = UNSET
    compress: bool | UnsetType = UNSET
    validate_utf8: bool | UnsetType = UNSET


class ListenerFields(Struct, kw_only=True, forbid_unknown_fields=True):
    """`running` and `current_connections` are taken, since answers have them, and say nothing."""

    bind: Annotated[str | int, Meta(description='Such as "0.0.0.0:1883" or 1883')] | UnsetType = UNSET
    enable: bool | UnsetType = UNSET
    max_connections: Limit | UnsetType = UNSET
    max_conn_rate: Rate | UnsetType = UNSET
    messages_rate: Rate | UnsetType = UNSET
    bytes_rate: Rate | UnsetType = UNSET
    mountpoint: str | UnsetType = UNSET
    enable_authn: bool | Literal["quick_deny_anonymous"] | UnsetType = UNSET
    proxy_protocol: bool | UnsetType = UNSET
    proxy_protocol_timeout: Duration | UnsetType = UNSET
    zone: str | UnsetType = UNSET
    acceptors: Positive | UnsetType = UNSET
    access_rules: list[str] | UnsetType = UNSET
    tcp_options: TcpOptionsBody | UnsetType = UNSET
    ssl_options: SslOptionsBody | UnsetType = UNSET
    websocket: WebsocketBody | UnsetType = UNSET
    running: bool | UnsetType = UNSET
    current_connections: int | UnsetType = UNSET


class NewListener(ListenerFields):
    type: Type
    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=255)]
    id: str | UnsetType = UNSET


class KnownListener(ListenerFields):
    """`id` is that of the path."""

    type: Type
    id: str
    name: str | UnsetType = UNSET


_NOT_OPTIONS: Final = ("type", "id", "name", "running", "current_connections")


def options_of(body: ListenerFields) -> dict[str, Any]:
    """As in a `[listeners.<kind>.<name>]` table."""
    said = msgspec.to_builtins(body)
    return {name: value for name, value in said.items() if name not in _NOT_OPTIONS}


def check_id(body: KnownListener, id: str) -> None:
    """400 unless type, name and id say the same, and that is what the path says."""
    kind, _, name = body.id.partition(":")
    if kind != body.type:
        raise TYPE_INCONSISTENT.error()
    if body.id != id or body.name not in (UNSET, name):
        raise ID_MISMATCH.error()


def check_new(kind: str, options: dict[str, Any]) -> None:
    """400 for what cannot become a listener, whatever else is said of it."""
    if kind not in LISTENER_KINDS:
        reason = f"There are no {kind} listeners in this broker; there are {', '.join(LISTENER_KINDS)}"
        raise invalid("root.type", reason, value=kind)
    if "bind" not in options and kind != "memory":
        raise invalid("root.bind", "required_field")
