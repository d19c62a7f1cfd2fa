"""From what a test names (a stream, an address, a broker) to the byte stream a client talks over.

Invariant: what comes out belongs to the caller, who closes it.
"""

from __future__ import annotations

import ssl
from typing import Protocol, TypeAlias, runtime_checkable
from urllib.parse import urlsplit

import trio


@runtime_checkable
class HasConnectStream(Protocol):
    """Something with an in-memory MQTT byte stream to offer: a `trio_broker.broker.Broker`."""

    async def connect_stream(self) -> trio.abc.Stream: ...


Target: TypeAlias = trio.abc.Stream | HasConnectStream | tuple[str, int] | str

DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}


async def open_stream(target: Target, ssl_context: ssl.SSLContext | None = None) -> trio.abc.Stream:
    """The stream to `target`: a stream (as it is), a broker (in memory), `(host, port)`, or a URL.

    URLs: `mqtt://host:port`, `mqtts://host:port`, `unix:///path`. With `ssl_context`, and for `mqtts`, TLS is spoken.

    Raises:
        OSError: nobody listens there.
        ValueError: a URL of another kind.
    """
    if isinstance(target, trio.abc.Stream):
        return target
    if isinstance(target, tuple):
        return await _open_tcp(*target, ssl_context)
    if not isinstance(target, str):
        return await target.connect_stream()
    url = urlsplit(target)
    if url.scheme == "unix":
        return await trio.open_unix_socket(url.path)
    if url.scheme not in DEFAULT_PORTS or not url.hostname:
        raise ValueError(f"{target!r} is no mqtt://host:port, mqtts://host:port or unix:///path")
    if url.scheme == "mqtts" and ssl_context is None:
        ssl_context = ssl.create_default_context()
    return await _open_tcp(url.hostname, url.port or DEFAULT_PORTS[url.scheme], ssl_context)


async def _open_tcp(host: str, port: int, ssl_context: ssl.SSLContext | None) -> trio.abc.Stream:
    stream = await trio.open_tcp_stream(host, port)
    return stream if ssl_context is None else trio.SSLStream(stream, ssl_context, server_hostname=host)
