"""A subscriber by hand, for what the load generator does not do: reading nothing, or going away and coming back.

Invariant: when `subscriber` gives the socket, the subscription is in effect.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["subscriber"]


@contextmanager
def subscriber(
    port: int, client_id: str, topic_filter: str, *, qos: int = 0, clean: bool = True
) -> Iterator[socket.socket]:
    """Connected (MQTT 3.1.1) and subscribed; the socket is closed without a DISCONNECT at the end of the block."""
    name, pattern = client_id.encode(), topic_filter.encode()
    connect = b"\x00\x04MQTT\x04" + bytes((2 if clean else 0,)) + b"\x00\x00" + len(name).to_bytes(2, "big") + name
    subscribe = b"\x00\x01" + len(pattern).to_bytes(2, "big") + pattern + bytes((qos,))
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.settimeout(5.0)
        peer.connect(("127.0.0.1", port))
        peer.sendall(b"\x10" + bytes((len(connect),)) + connect + b"\x82" + bytes((len(subscribe),)) + subscribe)
        answer = b""
        while len(answer) < 9:  # CONNACK and SUBACK
            more = peer.recv(9 - len(answer))
            if not more:
                raise RuntimeError("the broker closed the connection of a subscriber")
            answer += more
        yield peer
