"""MQTT over WebSocket, with and without TLS.

Invariant: before MQTT begins a connection has passed path, origin and sub-protocol within the handshake deadline.
"""

from __future__ import annotations

import math

import h11
import trio
import trio_websocket
import wsproto.utilities
from attrs import define, field

from trio_broker.actors.gate import ConnectionInfo, Gate
from trio_broker.listeners.tls import StreamListener
from trio_broker.listeners.websocket_handshake import answer, peer_behind_proxy
from trio_broker.listeners.websocket_stream import RECEIVE_SIZE, Transport, WebSocketMessages, WebSocketStream

MESSAGE_LIMIT = 16 * 1_048_576
"""Bytes of one WebSocket message where `max_frame_size` is infinite: a message is held in memory until it is whole."""

_WHAT = "WebSocket handshake"

_PEERS_FAULT = (
    trio_websocket.ConnectionClosed,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    wsproto.utilities.ProtocolError,
    h11.ProtocolError,
    UnicodeError,
)


@define(eq=False)
class WebSocketListener(StreamListener):
    """`ws:<name>` and `wss:<name>`."""

    alpn: str = field(default="http/1.1", init=False)

    @property
    def message_limit(self) -> int:
        configured = self.config.websocket.max_frame_size
        return MESSAGE_LIMIT if math.isinf(configured) else int(configured)

    async def _serve(self, stream: trio.abc.Stream, info: ConnectionInfo) -> None:
        transport = Transport(stream)
        try:
            async with trio.open_nursery() as reader:
                messages = await self._upgraded(reader, transport, info)
                if messages is not None:
                    await self._serve_stream(WebSocketStream(messages, transport), info)
                reader.cancel_scope.cancel()
        except* _PEERS_FAULT as faults:
            # Only the library's reader and the handshake get here with these: faults of the gate are logged already.
            self.handshake_failed(_WHAT, info, str(_first(faults)) or type(_first(faults)).__name__)
        finally:
            await trio.aclose_forcefully(transport)

    async def _upgraded(
        self, reader: trio.Nursery, transport: Transport, info: ConnectionInfo
    ) -> WebSocketMessages | None:
        """The accepted WebSocket; None when there is none, with the reason logged."""
        options = self.config.websocket
        with self.handshake(self.config.ssl_options.handshake_timeout) as deadline:
            transport.on_end = deadline.cancel
            request = await trio_websocket.wrap_server_stream(
                reader,
                transport,
                max_message_size=self.message_limit,
                receive_buffer_size=RECEIVE_SIZE,
            )
            peer = peer_behind_proxy(options, request.headers, info.peer_host)
            if peer is not None:
                info.peer_host, info.peer_port = peer
            verdict = answer(options, request.path, request.headers, request.proposed_subprotocols)
            if verdict.accepted:
                connection = await request.accept(subprotocol=verdict.subprotocol)
                transport.on_end, transport.messages = None, connection
                return connection
            await request.reject(
                verdict.status,
                extra_headers=[(b"Content-Type", b"text/plain; charset=utf-8")],
                body=f"{verdict.reason}\n".encode(),
            )
            transport.on_end = None
            self.handshake_failed(_WHAT, info, f"{verdict.status}: {verdict.reason}")
            return None
        if transport.ended:
            self.handshake_failed(_WHAT, info, "closed before it was finished, or not a WebSocket request")
        elif self.running:
            self.handshake_timed_out(_WHAT, info)
        return None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def serve_websocket(connection: WebSocketMessages, gate: Gate, info: ConnectionInfo) -> None:
    """Serve MQTT on a WebSocket that another HTTP server has accepted, until it is over.

    `connection` is a `trio_websocket.WebSocketConnection` or anything with its methods; the host program has chosen
    the sub-protocol (`mqtt`) and says in `info` who is at the other end.
    """
    try:
        await gate.serve_stream(WebSocketStream(connection), info)
    finally:
        info.ended()
