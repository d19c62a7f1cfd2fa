"""The kinds of listeners there are.

Invariant: what a kind needs (TLS, WebSocket) is imported when the first listener of that kind is made.
"""

from __future__ import annotations

from trio_broker.config.listeners import LISTENER_KINDS, ListenerConfig
from trio_broker.errors import ListenerError
from trio_broker.listeners.listener import Listener


def make_listener(config: ListenerConfig) -> Listener:
    """A listener of the configured kind, not yet open. Raises ListenerError for a kind that does not exist."""
    match config.kind:
        case "tcp":
            from trio_broker.listeners.tcp import TcpListener

            return TcpListener(config)
        case "ssl":
            from trio_broker.listeners.tls import TlsListener

            return TlsListener(config)
        case "ws" | "wss":
            from trio_broker.listeners.websocket import WebSocketListener

            return WebSocketListener(config)
        case "unix":
            from trio_broker.listeners.unix import UnixListener

            return UnixListener(config)
        case "memory":
            from trio_broker.listeners.memory import MemoryListener

            return MemoryListener(config)
    raise ListenerError(
        f"listener {config.kind}:{config.name}: there is no such kind; kinds are {', '.join(LISTENER_KINDS)}"
    )
