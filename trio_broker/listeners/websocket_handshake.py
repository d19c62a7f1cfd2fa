"""What decides about a WebSocket request: path, origin, sub-protocol, and who is at the other end. No I/O.

Invariant: a request gives one answer, from its headers and the configuration alone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from attrs import define

from trio_broker.config.listeners import WebsocketOptions

Headers = Sequence[tuple[bytes, bytes]]
"""Names in lower case."""

_OURS = ("mqtt", "mqttv3.1")


@define(frozen=True)
class Answer:
    """Accept with `subprotocol`, or refuse with an HTTP status and a reason."""

    subprotocol: str | None = None
    status: int = 101
    reason: str = ""

    @property
    def accepted(self) -> bool:
        return self.status == 101


def answer(options: WebsocketOptions, path: str, headers: Headers, offered: Sequence[str]) -> Answer:
    """`path` as in the request line; `offered` the sub-protocols in the client's order."""
    if path.partition("?")[0] != options.mqtt_path:
        return Answer(status=404, reason="MQTT is not served on this path")
    if options.check_origin_enable and not origin_allowed(options, header(headers, "origin")):
        return Answer(status=403, reason="this Origin is not allowed")
    chosen = choose_subprotocol(offered, options.supported_subprotocols)
    if chosen is None and options.fail_if_no_subprotocol:
        return Answer(status=400, reason="no supported Sec-WebSocket-Protocol; mqtt is")
    return Answer(subprotocol=chosen)


def choose_subprotocol(offered: Iterable[str], supported: Iterable[str]) -> str | None:
    """`mqtt` [MQTT-6.0.0-4], else `mqttv3.1` (old browsers' clients), else the first supported one."""
    names = list(offered)
    for ours in _OURS:
        if ours in names:
            return ours
    known = set(supported)
    return next((name for name in names if name in known), None)


def origin_allowed(options: WebsocketOptions, origin: str | None) -> bool:
    if origin is None:
        return options.allow_origin_absence
    return origin in options.check_origins


def header(headers: Headers, name: str) -> str | None:
    """All values of a header, joined as HTTP allows; None when it is absent."""
    wanted = name.lower().encode("latin-1")
    values = [value.decode("latin-1") for key, value in headers if key == wanted]
    return ", ".join(values) if values else None


def peer_behind_proxy(options: WebsocketOptions, headers: Headers, peer_host: str) -> tuple[str, int] | None:
    """Who a proxy on this machine says is at the other end (port 0 = it does not say); None = the socket's peer counts.

    Anybody can send such a header, so it is believed only from a loopback peer, and of a list only the last entry,
    which that proxy itself has added. A proxy elsewhere uses the PROXY protocol.
    """
    if not options.proxy_address_header or not _address(peer_host).is_loopback:
        return None
    named = header(headers, options.proxy_address_header)
    if named is None:
        return None
    try:
        host = str(_address(named.rpartition(",")[2].strip()))
    except ValueError:
        return None
    port = header(headers, options.proxy_port_header) if options.proxy_port_header else None
    digits = (port or "").rpartition(",")[2].strip()
    return host, int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 5 else 0


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(text)
