"""Reading the PROXY header of a fresh connection.

Invariant: exactly the header is taken from the socket, so that the first byte of MQTT, TLS or HTTP stays in it.
"""

from __future__ import annotations

import socket

import trio

from trio_broker.access.authentication import is_local
from trio_broker.actors.gate import ConnectionInfo
from trio_broker.listeners.listener import Listener
from trio_broker.listeners.proxy_protocol import ProxyHeader, ProxyHeaderParser, ProxyProtocolError

_PEEK = 4096
_WHAT = "PROXY header"


async def read_header(sock: socket.socket) -> ProxyHeader:
    """Raises ProxyProtocolError, also when the peer closes before its header is complete; OSError."""
    parser = ProxyHeaderParser()
    while parser.header is None:
        await trio.lowlevel.wait_readable(sock)
        try:
            data = sock.recv(_PEEK, socket.MSG_PEEK)
        except BlockingIOError:
            continue
        if not data:
            raise ProxyProtocolError("closed before its PROXY header")
        # Everything that is header is taken at once, so waiting never spins on bytes already seen.
        sock.recv(parser.feed(data))
    return parser.header


def believable(said: str, proxy: str) -> bool:
    """A client on the machine of a proxy elsewhere is not on ours: who is local here may need no password."""
    return is_local(proxy) or not is_local(said)


async def meet_proxy(listener: Listener, sock: socket.socket, info: ConnectionInfo) -> bool:
    """Put the address from the header into `info`. False: the connection is closed and counted out."""
    ready = False
    try:
        with listener.handshake(listener.config.proxy_protocol_timeout) as deadline:
            header = await read_header(sock)
            if header.host is not None and believable(header.host, info.peer_host):
                info.peer_host, info.peer_port = header.host, header.port
            info.certificate_common_name = header.common_name
            ready = True
        if deadline.cancelled_caught and listener.running:
            listener.handshake_timed_out(_WHAT, info)
    except (ProxyProtocolError, OSError) as error:
        listener.handshake_failed(_WHAT, info, str(error))
    finally:
        if not ready:
            sock.close()
            info.ended()
    return ready
