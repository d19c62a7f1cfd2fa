"""Where a listener is bound: `"1883"`, `"0.0.0.0:1883"`, `"[::]:1883"`, `"localhost:1883"`, or a Unix socket's path.

Invariant: `parse_bind(str(bind)) == bind`. A port alone means all IPv4 interfaces, as in EMQX; port 0 is a free port.
"""

from __future__ import annotations

import ipaddress
import re

from attrs import frozen

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)
_PORT = re.compile(r"\d{1,5}", re.ASCII)


@frozen
class Bind:
    """Either `path` is set (Unix socket), or `host` (a name or an address without brackets) and `port`."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """True when nobody from another machine can come in here."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # a name other than localhost may mean anything
            return False


def parse_bind(raw: object) -> Bind:
    """From a port (integer or digits), `host:port`, `[IPv6]:port`, or a path that holds a `/`; ValueError otherwise."""
    if isinstance(raw, int) and not isinstance(raw, bool):
        raw = str(raw)
    if not isinstance(raw, str):
        raise ValueError("not an address")
    text = raw.strip()
    if "/" in text and "\0" not in text:
        return Bind(path=text)
    host, colon, port = text.rpartition(":")
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise ValueError("not an address")
    if not colon or not host:
        return Bind("0.0.0.0", int(port))
    if host.startswith("[") and host.endswith("]"):
        return Bind(str(ipaddress.IPv6Address(host[1:-1])), int(port))
    if re.fullmatch(r"[\d.]+", host, re.ASCII):
        return Bind(str(ipaddress.IPv4Address(host)), int(port))
    if not _HOST_NAME.fullmatch(host):
        raise ValueError("not an address")
    return Bind(host, int(port))
