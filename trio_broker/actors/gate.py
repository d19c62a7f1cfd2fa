"""What a listener hands its new connections to.

Invariant: whoever is given a connection calls `ConnectionInfo.ended` exactly once, when it is over.
"""

from __future__ import annotations

import math
import socket
from base64 import b64encode
from collections.abc import Callable
from hashlib import md5
from typing import Protocol

import trio
from attrs import define, field


def _nothing() -> None:
    """Nobody counts this connection."""


@define(eq=False)
class ConnectionInfo:
    """Where a connection came in, and who is at the other end as far as the transport knows."""

    listener: str  # listener identifier, "tcp:default"
    peer_host: str
    peer_port: int = 0
    certificate_common_name: str | None = None
    certificate_distinguished_name: str | None = None
    certificate: Callable[[], bytes | None] | None = field(default=None, repr=False)
    """Gives the peer's certificate (DER); only until its CONNECT has been looked at."""
    enable_authn: bool | str = True
    """"quick_deny_anonymous": who gives no user name is not even looked at."""
    mountpoint: str = ""
    high_watermark: int = 1_048_576  # bytes the broker keeps for a peer that does not read
    messages_rate: float = math.inf  # messages and bytes a second that are read from the peer
    bytes_rate: float = math.inf
    send_timeout: float = 15.0  # seconds; a peer that takes nothing for so long is cut
    ended: Callable[[], None] = field(default=_nothing, repr=False)

    @property
    def has_certificate(self) -> bool:
        """The peer has one; of it there may be the whole, or what a proxy says of it."""
        return not (
            self.certificate is None
            and self.certificate_common_name is None
            and self.certificate_distinguished_name is None
        )

    def of_certificate(self, part: str) -> str | None:
        """What `mqtt.peer_cert_as_username` names, where there is a certificate: cn, dn, or all of it in one form.

        EMQX's forms: `pem` is the certificate (DER) in base64 without line breaks, `md5` its digest in hexadecimal
        digits. `crt` is hexadecimal too, since a user name is text.
        """
        if part == "cn":
            return self.certificate_common_name
        if part == "dn":
            return self.certificate_distinguished_name
        certificate = None if part == "disabled" or self.certificate is None else self.certificate()
        if not certificate:
            return None
        if part == "pem":
            return b64encode(certificate).decode()
        return certificate.hex() if part == "crt" else md5(certificate, usedforsecurity=False).hexdigest()


class Gate(Protocol):
    """The door of the core. Plain sockets are read by the poller, streams by a task of their own."""

    def socket_accepted(self, sock: socket.socket, info: ConnectionInfo) -> None:
        """Take over a connected, non-blocking TCP or Unix socket. Never waits; owns the socket from here on."""

    async def serve_stream(self, stream: trio.abc.Stream, info: ConnectionInfo) -> None:
        """Serve MQTT on `stream` until the connection is over; closes the stream. Runs in the caller's task.

        Cancelling it drops the connection.
        """

    def drop_listener(self, listener: str) -> None:
        """End every connection that came in through this listener (reason 0x98 for 5.0)."""

    async def use_rates(self, listener: str, messages_rate: float, bytes_rate: float) -> None:
        """Go by these rates on every connection that came in through this listener."""
