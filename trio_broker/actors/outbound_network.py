"""The way out of the broker's own HTTP clients: names become addresses here, and the rules are asked about those.

Invariant: whatever name was asked for, and whatever it meant a moment ago, the address that is connected to is one that
the rules allow. Imported by brokers that ask somebody, and by no others: it loads an HTTP client.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
from collections.abc import Iterable, Sequence
from typing import Any, Final

import httpcore
import trio

from trio_broker.access.address_rules import AddressRules
from trio_broker.config.files import check_plain_file
from trio_broker.config.http_client import SslClientConfig
from trio_broker.errors import ConfigError

__all__ = ["CheckedNetwork", "Unanswered", "client_context"]

HEAD_START: Final = 0.25
"""Seconds until the next address is tried beside one that is silent (RFC 8305)."""
LOOKUPS: Final = 4
"""Threads that look up names for one client; those of a dead name server stay busy for a while."""
MOST_ADDRESSES: Final = 8
"""Of one name, that are tried."""


class Unanswered(Exception):
    """There is no answer; the message says why, for the log, and has nothing of the request in it."""


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """What httpcore opens its connections with."""

    def __init__(self, rules: AddressRules) -> None:
        self._rules = rules
        self._backend = httpcore.TrioBackend()
        # An own limit: the threads of files and databases must not wait for a name server.
        self._threads = trio.CapacityLimiter(LOOKUPS)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises Unanswered."""
        seconds = float("inf") if timeout is None else timeout
        with trio.move_on_after(seconds):
            found = await self.look_up(host, port)
            allowed = [address for address in found if self._rules.reaches(address)]
            if not allowed:
                raise Unanswered(f"outbound.access_rules do not allow {host} ({', '.join(found)})")
            return await self._first(allowed[:MOST_ADDRESSES], port)
        raise Unanswered(f"no connection within {seconds:g} s")

    async def look_up(self, host: str, port: int) -> list[str]:
        """The addresses of a name, each once, in the order to try them in. Raises Unanswered."""
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass  # a name, or an old way to write an address, such as 0x7f000001
        try:
            found = await trio.to_thread.run_sync(_look_up, host, port, abandon_on_cancel=True, limiter=self._threads)
        except (OSError, ValueError) as error:
            raise Unanswered(f"{host} has no address: {error}") from error
        return list(dict.fromkeys(found))

    async def _first(self, addresses: Sequence[str], port: int) -> httpcore.AsyncNetworkStream:
        """A connection to the first that takes one; the next is tried when one has failed, or is silent for a while."""
        streams: list[httpcore.AsyncNetworkStream] = []
        faults: list[str] = []

        async def attempt(address: str, failed: trio.Event) -> None:
            try:
                stream = await self.open(address, port)
            except (OSError, httpcore.ConnectError) as error:
                faults.append(f"{address} port {port}: {reason_of(error)}")
                failed.set()
                return
            streams.append(stream)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for address in addresses:
                failed = trio.Event()
                nursery.start_soon(attempt, address, failed)
                with trio.move_on_after(HEAD_START):
                    await failed.wait()
        for second in streams[1:]:  # two were there in the same moment
            await second.aclose()
        if not streams:
            raise Unanswered("; ".join(faults))
        return streams[0]

    async def open(self, address: str, port: int) -> httpcore.AsyncNetworkStream:
        """`address` is one that was looked at."""
        return await self._backend.connect_tcp(address, port)

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


def _look_up(host: str, port: int) -> list[str]:
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def reason_of(error: BaseException) -> str:
    """Why, in words: libraries wrap what happened into errors of their own, some of them without a text."""
    reason = ""
    inner: BaseException | None = error
    for _ in range(10):
        if inner is None:
            break
        if isinstance(inner, ssl.SSLCertVerificationError):
            return f"its certificate is not believed: {inner.verify_message}"
        if isinstance(inner, OSError) and inner.errno and not isinstance(inner, ssl.SSLError):
            return os.strerror(inner.errno)
        if isinstance(inner, BaseExceptionGroup):
            inner = inner.exceptions[0]
            continue
        reason = str(inner) or reason
        inner = next((one for one in inner.args if isinstance(one, BaseException)), inner.__cause__)
    return reason or type(error).__name__


_VERSIONS: Final = {"tlsv1.2": ssl.TLSVersion.TLSv1_2, "tlsv1.3": ssl.TLSVersion.TLSv1_3}


def client_context(options: SslClientConfig, key: str) -> ssl.SSLContext:
    """Reads files. Raises ConfigError, which names the option below `key` and the file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    chosen = sorted(_VERSIONS[version] for version in options.versions)
    context.minimum_version, context.maximum_version = chosen[0], chosen[-1]
    if options.verify == "verify_none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif "-----BEGIN " in options.cacertfile:
        _load(key, "cacertfile", "PEM text", lambda: context.load_verify_locations(cadata=options.cacertfile))
    elif options.cacertfile:
        _load(key, "cacertfile", options.cacertfile, lambda: _believe(context, options.cacertfile))
    else:
        context.load_default_certs()
    if options.server_name_indication == "disable":
        context.check_hostname = False
    if options.certfile:
        _load(
            key,
            "certfile",
            options.certfile,
            lambda: _show(context, options),
        )
    return context


def _believe(context: ssl.SSLContext, path: str) -> None:
    check_plain_file(path)
    context.load_verify_locations(path)


def _show(context: ssl.SSLContext, options: SslClientConfig) -> None:
    for path in (options.certfile, options.keyfile):
        check_plain_file(path)
    # The password is always given: OpenSSL would ask for it on the terminal otherwise.
    context.load_cert_chain(options.certfile, options.keyfile, lambda: options.password)


def _load(key: str, option: str, path: str, load: Any) -> None:
    try:
        load()
    except ssl.SSLError as error:
        what = "its key and password" if option == "certfile" else "certificates"
        raise ConfigError(f"{key}.{option}", f"{path} cannot be used with {what}: {error.reason or error}") from None
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ConfigError(f"{key}.{option}", f"{path} cannot be read: {reason}") from None
