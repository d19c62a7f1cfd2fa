"""TLS for the REST API: the same handshake, and the same end, as those of the listeners.

Invariant: a handshake has a deadline, and one that fails costs nobody but that peer.
"""

from __future__ import annotations

import logging

import trio
from attrs import define, field

from trio_broker.actors.throttle import ThrottledLog
from trio_broker.config.listeners import SslOptions
from trio_broker.listeners.tls import tls_reason
from trio_broker.listeners.tls_files import TlsFiles
from trio_broker.listeners.tls_stream import TlsStream, server_side

logger = logging.getLogger(__name__)


@define(eq=False)
class HttpsDoor:
    """What comes between an accepted connection and HTTP; one for all of them."""

    name: str
    files: TlsFiles
    _log: ThrottledLog = field(factory=lambda: ThrottledLog(logger), init=False)

    @classmethod
    def open(cls, key: str, options: SslOptions) -> HttpsDoor:
        """`key` is where it is configured. Raises ListenerError where the files cannot be used."""
        name = f"REST API {key}"
        files = TlsFiles(name, options, "http/1.1")
        files.load()
        return cls(name, files)

    async def secured(self, transport: trio.SocketStream) -> trio.abc.Stream | None:
        """The stream to speak HTTP on; None when the handshake failed."""
        stream = server_side(transport, self.files.context)
        reason = "not finished in time"
        with trio.move_on_after(self.files.options.handshake_timeout):
            try:
                await stream.do_handshake()
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                reason = tls_reason(error)
            else:
                return TlsStream(stream)
        self._log.log(logging.INFO, "handshake", "%s: TLS handshake failed: %s", self.name, reason)
        return None
