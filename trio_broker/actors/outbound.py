"""HTTP clients of the broker itself: for web services that decide about clients, key sets, a Pushgateway.

Invariant: no request outlives its deadline, no answer is more than `LARGEST` bytes, no more than `pool_size` requests
are under way and `LONGEST_LINE` wait; while a service is dead one request at a time finds out whether it is back, and
all others have no answer at once. A connection goes only where `outbound.access_rules` allow it. Nothing of the
environment counts (proxies), and no redirect is followed.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

import httpcore
import trio
from attrs import define, field

from trio_broker.access.address_rules import AddressRules, parse_address_rules
from trio_broker.access.web_question import path_and_query
from trio_broker.actors.authn.base import ResourceFigures
from trio_broker.actors.outbound_network import CheckedNetwork, Unanswered, client_context, reason_of
from trio_broker.config.http_client import SslClientConfig
from trio_broker.config.model import OutboundConfig
from trio_broker.errors import ConfigError

__all__ = ["Answer", "Outbound", "Unanswered", "origin_of", "target_of"]

LARGEST: Final = 1_048_576
"""Bytes of the body of an answer."""
LONGEST_LINE: Final = 10_000
"""Requests that wait for one of the connections."""
FAILURES: Final = 5
"""So many in a row, and the service is taken for dead."""
PAUSE: Final = 1.0
"""Seconds from one look whether it is back to the next."""
IDLE: Final = 30.0
"""Seconds that a connection is kept for the next request."""

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

_PORTS: Final = {b"http": 80, b"https": 443}
_HOST: Final = re.compile(rb"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(%[A-Za-z0-9._~-]+)?")
_FAULTS: Final = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError)


@define(frozen=True)
class Answer:
    """`headers` have their names in lower case; of several with one name the last counts."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def content_type(self) -> str:
        """In lower case; "" where it says none."""
        return self.headers.get("content-type", "").strip().lower()


class Outbound:
    """A client of one service, made with `open`. Its connections are opened when they are needed."""

    def __init__(
        self,
        url: str,
        rules: AddressRules,
        *,
        context: ssl.SSLContext | None = None,
        server_name: str = "",
        pool_size: int = 8,
        connect_timeout: float = 15.0,
        request_timeout: float = 5.0,
    ) -> None:
        """`url`: scheme, host and port count. Raises ValueError."""
        self._origin = origin = origin_of(url)
        host = b"[%b]" % origin.host if b":" in origin.host else origin.host
        usual = _PORTS[origin.scheme] == origin.port
        self._host = host if usual else b"%b:%d" % (host, origin.port)
        self._timeouts = {"connect": connect_timeout}
        self._server_name = server_name
        self.request_timeout = request_timeout
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=pool_size,
            max_keepalive_connections=pool_size,
            keepalive_expiry=IDLE,
            network_backend=CheckedNetwork(rules),
        )
        self._line = trio.Semaphore(pool_size)
        self._under_way = 0
        self._closed = False
        self._failures = 0
        self._next_look = 0.0
        self.figures = ResourceFigures()
        self.status: Literal["connected", "connecting", "disconnected"] = "connecting"
        """What came of the last request."""

    @classmethod
    async def open(
        cls,
        url: str,
        outbound: OutboundConfig,
        tls: SslClientConfig | None = None,
        *,
        key: str,
        pool_size: int = 8,
        connect_timeout: float = 15.0,
        request_timeout: float = 5.0,
    ) -> Outbound:
        """Without `tls` https is spoken in the usual way. Raises ConfigError: `key` is the table that has `url`."""
        try:
            secure = origin_of(url).scheme == b"https"
        except ValueError as error:
            raise ConfigError(f"{key}.url", str(error)) from error
        context, server_name = None, ""
        if secure:
            tls = tls or SslClientConfig(enable=True)
            context = await trio.to_thread.run_sync(client_context, tls, f"{key}.ssl")
            server_name = tls.server_name_indication
        return cls(
            url,
            parse_address_rules(outbound.access_rules),
            context=context,
            server_name=server_name,
            pool_size=pool_size,
            connect_timeout=connect_timeout,
            request_timeout=request_timeout,
        )

    async def request(self, method: str, target: bytes, headers: Headers = (), body: bytes = b"") -> Answer:
        """`target` is path and query as they go out: nobody escapes them after you. Raises Unanswered."""
        self.figures.matched += 1
        try:
            answer = await self._in_time(method, target, headers, body)
        except Unanswered:
            self.figures.failed += 1
            self.status = "disconnected"
            raise
        self.figures.success += 1
        self.status = "connected"
        return answer

    async def close(self) -> None:
        """It is asked no more; what is under way is finished first, by whoever asked."""
        self._closed = True
        if not self._under_way:
            await self._pool.aclose()

    # -- the line, and who is let through ------------------------------------------------------------------------

    async def _in_time(self, method: str, target: bytes, headers: Headers, body: bytes) -> Answer:
        self._refuse_if_dead()
        if self._line.statistics().tasks_waiting >= LONGEST_LINE:
            raise Unanswered(f"{LONGEST_LINE} others wait for it")
        asked = False
        with trio.move_on_after(self.request_timeout) as time:
            async with self._line:
                self._refuse_if_dead()  # it may have died while this one waited
                asked = True
                return await self._in_turn(time, method, target, headers, body)
        if not asked:
            raise Unanswered(f"its turn did not come within {self.request_timeout:g} s")
        raise Unanswered(f"no answer within {self.request_timeout:g} s")

    def _refuse_if_dead(self) -> None:
        if self._failures >= FAILURES and trio.current_time() < self._next_look:
            raise Unanswered("it did not answer before, and is asked again later")

    async def _in_turn(
        self, time: trio.CancelScope, method: str, target: bytes, headers: Headers, body: bytes
    ) -> Answer:
        """Ask, and remember what came of it."""
        if self._closed:
            raise Unanswered("it is asked no more")
        if self._failures >= FAILURES:
            self._next_look = float("inf")  # this one looks
        self._under_way += 1
        answered: bool | None = None
        try:
            answer = await self._ask(method, target, headers, body)
            answered = True
            return answer
        except _TooMuch:
            answered = True
            raise
        except Unanswered:
            answered = False
            raise
        finally:
            self._under_way -= 1
            if answered:
                self._failures = 0
            elif answered is False or time.cancel_called:  # else whoever wanted to know has gone
                self._failures += 1
            self._next_look = trio.current_time() + PAUSE
            if self._closed and not self._under_way:
                await self._pool.aclose()

    # -- one request -----------------------------------------------------------------------------------------------

    async def _ask(self, method: str, target: bytes, headers: Headers, body: bytes) -> Answer:
        first = True
        while True:
            try:
                return await self._exchange(method, target, headers, body)
            except httpcore.LocalProtocolError:
                raise Unanswered("a header of the request is none that HTTP allows") from None  # it shows the header
            except (httpcore.RemoteProtocolError, httpcore.ReadError, httpcore.WriteError) as error:
                # It may have closed an idle connection in the moment in which we took it.
                if not first:
                    raise Unanswered(reason_of(error)) from error
            except _FAULTS as error:
                raise Unanswered(reason_of(error)) from error
            first = False

    async def _exchange(self, method: str, target: bytes, headers: Headers, body: bytes) -> Answer:
        origin = self._origin
        url = httpcore.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=target)
        extensions: dict[str, object] = {"timeout": self._timeouts}
        if self._server_name == "disable":
            extensions["sni_hostname"] = "0.0.0.0"  # an address is never told (RFC 6066), so no name is
        elif self._server_name:
            extensions["sni_hostname"] = self._server_name
        parts: list[bytes] = []
        size = 0
        if not any(name.lower() == b"host" for name, _ in headers):
            headers = [(b"host", self._host), *headers]
        if body and not any(name.lower() == b"content-length" for name, _ in headers):
            headers = [*headers, (b"content-length", b"%d" % len(body))]
        request = httpcore.Request(method, url, headers=list(headers), content=_Body(body), extensions=extensions)
        response = await self._pool.handle_async_request(request)
        try:
            # Cancelled, not left: so each of the generators of the library below comes to its own end.
            with trio.CancelScope() as reading:
                async for part in response.aiter_stream():
                    size += len(part)
                    if size > LARGEST:
                        reading.cancel()
                    else:
                        parts.append(part)
        finally:
            await response.aclose()
        if size > LARGEST:
            raise _TooMuch(f"its answer is longer than {LARGEST} bytes")
        found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        return Answer(response.status, found, b"".join(parts))


class _Body:
    """Of a request. No generator, as the library's own: one would be left behind where a request is cancelled."""

    def __init__(self, body: bytes) -> None:
        self._left = body

    def __aiter__(self) -> _Body:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        part, self._left = self._left, b""
        return part


class _TooMuch(Unanswered):
    """It is alive."""


def target_of(url: str) -> bytes:
    """Path and query of a URL, for `request`."""
    path, query = path_and_query(url)
    return (f"{path}?{query}" if query else path).encode()


def origin_of(url: str) -> httpcore.Origin:
    """Who is asked. Raises ValueError with what is wrong."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"has no proper host and port: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("must begin with http:// or https://")
    if not host or "@" in parts.netloc:
        raise ValueError("must name a host, and no user")
    if "$" in host or "{" in host:
        raise ValueError("placeholders may stand in the path and the query only")
    try:
        name = host.encode("ascii") if host.isascii() else host.encode("idna")
    except UnicodeError as error:
        raise ValueError(f"{host!r} is no name of a host") from error
    if not _HOST.fullmatch(name):
        raise ValueError(f"{host!r} is no name of a host")
    scheme = parts.scheme.encode()
    return httpcore.Origin(scheme, name, port or _PORTS[scheme])
