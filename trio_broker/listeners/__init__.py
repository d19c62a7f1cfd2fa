"""Where connections come in: TCP, TLS, WebSocket, Unix sockets, memory.

A listener is made from its configuration by `make_listener` and run in the broker's nursery; what it lets in goes to
the `Gate` of the actors.
"""

from __future__ import annotations

from trio_broker.listeners.kinds import make_listener
from trio_broker.listeners.listener import BoundAddress, Listener

__all__ = ["BoundAddress", "Listener", "make_listener"]
