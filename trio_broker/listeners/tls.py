"""Listeners that serve a stream by a task a connection: TLS here, WebSocket on top of it.

Invariant: every step before MQTT has a deadline and its own task, so a silent or slow peer costs nobody but itself.
"""

from __future__ import annotations

import logging
import socket
import ssl
from functools import partial

import trio
from attrs import define, field

from trio_broker.actors.gate import ConnectionInfo
from trio_broker.listeners.accepting import SocketListener
from trio_broker.listeners.listener import Listener
from trio_broker.listeners.proxied import meet_proxy
from trio_broker.listeners.proxy_protocol import is_sane_name
from trio_broker.listeners.tls_context import common_name, distinguished_name
from trio_broker.listeners.tls_files import TlsFiles
from trio_broker.listeners.tls_stream import TlsStream, is_eof, server_side

logger = logging.getLogger(__name__)

SECURE_KINDS = ("ssl", "wss")
_WHAT = "TLS handshake"


@define(eq=False)
class StreamListener(SocketListener):
    """A task for each connection: PROXY header, TLS handshake, whatever `_serve` adds, MQTT."""

    tls: TlsFiles | None = field(default=None, init=False, repr=False)
    alpn: str = field(default="mqtt", init=False)

    def prepare(self) -> None:
        if self.kind in SECURE_KINDS:
            self.tls = TlsFiles(f"listener {self.identifier}", self.config.ssl_options, self.alpn)
            self.tls.load()

    def become(self, other: Listener) -> None:
        super().become(other)
        assert isinstance(other, StreamListener)
        self.tls = other.tls

    def _take(self, sock: socket.socket, info: ConnectionInfo) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(self._connection, sock, info)

    async def _connection(self, sock: socket.socket, info: ConnectionInfo) -> None:
        """A fault in here ends this connection alone, with a traceback in the log."""
        try:
            if self.config.proxy_protocol and not await meet_proxy(self, sock, info):
                return
            async with socket_stream(sock) as transport:
                stream = await self._secured(transport, info)
                if stream is not None:
                    await self._serve(stream, info)
        except Exception:
            logger.exception(
                "listener %s: connection of %s:%d ended by a fault", self.identifier, info.peer_host, info.peer_port
            )
        finally:
            sock.close()
            info.certificate = None
            info.ended()

    async def _secured(self, transport: trio.SocketStream, info: ConnectionInfo) -> trio.abc.Stream | None:
        """The stream to go on with; None when the TLS handshake failed."""
        if self.tls is None:
            return transport
        stream = server_side(transport, self.tls.context)
        with self.handshake(self.config.ssl_options.handshake_timeout):
            try:
                await stream.do_handshake()
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                self.handshake_failed(_WHAT, info, tls_reason(error))
                return None
            certificate = stream.getpeercert()
            if certificate:
                info.certificate_common_name = common_name(certificate)
                info.certificate_distinguished_name = distinguished_name(certificate)
                if not is_sane_name((info.certificate_common_name or "") + (info.certificate_distinguished_name or "")):
                    self.handshake_failed(_WHAT, info, "control characters in the name of its certificate")
                    return None
                # Not the certificate itself: hardly anybody wants it, and OpenSSL has it anyway.
                info.certificate = partial(stream.getpeercert, binary_form=True)
            return TlsStream(stream)
        if self.running:
            self.handshake_timed_out(_WHAT, info)
        return None

    async def _serve(self, stream: trio.abc.Stream, info: ConnectionInfo) -> None:
        await self._serve_stream(stream, info)


@define(eq=False)
class TlsListener(StreamListener):
    """`ssl:<name>`."""


def socket_stream(sock: socket.socket) -> trio.SocketStream:
    return trio.SocketStream(trio.socket.from_stdlib_socket(sock))


def tls_reason(error: BaseException) -> str:
    """What OpenSSL says, in its own words, without the place in its source."""
    cause = error.__cause__
    if cause is None or is_eof(cause):
        return "closed by the peer"
    if isinstance(cause, ssl.SSLError):
        return (cause.reason or str(cause)).replace("_", " ").lower()
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    return "closed by the peer"
