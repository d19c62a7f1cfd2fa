"""From `bind` in the configuration to listening sockets, with errors a person can act on.

Invariant: either every socket that was asked for listens, or none is left open.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable
from typing import Any

import trio

from trio_broker.config.bind import Bind
from trio_broker.config.listeners import TcpOptions
from trio_broker.errors import ListenerError
from trio_broker.listeners.listener import BoundAddress

LOOKUP_TIMEOUT = 10
"""Seconds to find the address of a host name."""

_ABSENT = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


def reason_of(error: OSError) -> str:
    """Why an address cannot be taken, in words."""
    if error.errno == errno.EADDRINUSE:
        return "the address is taken by another program or another listener"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "not permitted (a port below 1024 needs root or CAP_NET_BIND_SERVICE)"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine has no such address"
    return os.strerror(error.errno) if error.errno else str(error)


def plain_host(host: str) -> str:
    """An IPv4 address that came in over an IPv6 socket, as the IPv4 address it is."""
    return host[7:] if host.startswith("::ffff:") and "." in host else host


async def open_tcp_sockets(
    identifier: str, bind: Bind, options: TcpOptions
) -> tuple[list[socket.socket], BoundAddress]:
    """Non-blocking listening sockets on every address `bind` stands for, and the first address really taken.

    Raises ListenerError: one line with the listener, the address and the reason.
    """
    if not bind.host:
        raise ListenerError(f"listener {identifier}: bind must be host:port, not {str(bind) if bind.path else ''!r}")
    try:
        with trio.fail_after(LOOKUP_TIMEOUT):
            found = await trio.socket.getaddrinfo(
                bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
    except trio.TooSlowError:
        raise ListenerError(
            f"listener {identifier}: cannot listen on {bind}: host {bind.host!r} was not found in {LOOKUP_TIMEOUT} s"
        ) from None
    except socket.gaierror as unknown:
        raise ListenerError(
            f"listener {identifier}: cannot listen on {bind}: unknown host {bind.host!r} ({unknown.strerror})"
        ) from None
    return _listen_on(identifier, bind, found, options)


def _listen_on(
    identifier: str,
    bind: Bind,
    found: Iterable[tuple[int, object, object, object, tuple[Any, ...]]],
    options: TcpOptions,
) -> tuple[list[socket.socket], BoundAddress]:
    opened: list[socket.socket] = []
    bound: BoundAddress | None = None
    absent: OSError | None = None
    try:
        for family, _, _, _, address in found:
            wanted = (str(address[0]), bound.port if bound is not None else address[1], *address[2:])
            try:
                opened.append(_listen(family, wanted, options))
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                absent = error  # `localhost` names ::1 also where there is no IPv6
                continue
            if bound is None:
                host, port = opened[0].getsockname()[:2]
                bound = BoundAddress(host, port)
        if bound is None:
            raise absent or OSError(errno.EADDRNOTAVAIL, "no address")
    except OSError as error:
        for sock in opened:
            sock.close()
        raise ListenerError(f"listener {identifier}: cannot listen on {bind}: {reason_of(error)}") from None
    return opened, bound


def _listen(family: int, address: tuple[object, ...], options: TcpOptions) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if options.reuseaddr:
            # Only lets a restarted broker have its port back while old connections linger; it does not share a port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # `[::]` means IPv4 too, whatever the system's default is.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        _set_inherited(sock, options)
        sock.bind(address)
        sock.listen(options.backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def _set_inherited(sock: socket.socket, options: TcpOptions) -> None:
    """What accepted sockets inherit from the listening one: system calls once a listener, none a connection."""
    if options.nodelay:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if options.recbuf:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, options.recbuf)
    if options.sndbuf:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, options.sndbuf)
    if options.keepalive != "none":
        idle, interval, probes = (int(part) for part in options.keepalive.split(","))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes)
