"""What every listener is: an open door with a name, a limit and a count.

Invariant: each connection let in is counted once and counted out once, whoever ends it and however often it says so.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import trio
from attrs import define, field

from trio_broker.access.address_rules import AddressRules, parse_address_rules
from trio_broker.actors.gate import ConnectionInfo, Gate
from trio_broker.actors.questions import ListenerInfo
from trio_broker.actors.throttle import ThrottledLog
from trio_broker.config.listeners import ListenerConfig
from trio_broker.config.tree import plain
from trio_broker.errors import ListenerError

logger = logging.getLogger(__name__)

LOCAL_PEER = "127.0.0.1"
"""The peer host of connections that cannot come from another machine (Unix socket, memory)."""


@define(frozen=True)
class BoundAddress:
    """Where a listener really listens. `host` is the path for a Unix socket and the name for a memory listener."""

    host: str
    port: int | None = None

    def __str__(self) -> str:
        if self.port is None:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@define
class ListenerCounters:
    """What happened at the door since the listener was made; the numbers only grow."""

    accepted: int = 0
    refused: int = 0
    """Closed at once because of `max_connections` or `access_rules`."""
    handshake_failures: int = 0
    """TLS, WebSocket or PROXY handshakes that broke or were wrong."""
    handshake_timeouts: int = 0
    accept_errors: int = 0


@define(eq=False)
class Places:
    """How many connections have come in here and are not over; a listener that takes the place of another goes on."""

    taken: int = 0


@define(eq=False)
class _Place:
    """One counted connection; calling it gives the place back, once."""

    _places: Places | None

    def __call__(self) -> None:
        if self._places is not None:
            self._places.taken -= 1
            self._places = None


@define(eq=False)
class Listener(ABC):
    """Base of all kinds. A kind says how it opens (`_open`), serves (`_accept`) and closes (`_close`)."""

    config: ListenerConfig
    places: Places = field(factory=Places, init=False, repr=False)
    counters: ListenerCounters = field(factory=ListenerCounters, init=False)
    bound: BoundAddress | None = field(default=None, init=False)
    log: ThrottledLog = field(init=False, repr=False)
    access: AddressRules | None = field(init=False, repr=False)
    """None = everybody may connect."""
    _gate: Gate | None = field(default=None, init=False, repr=False)
    _nursery: trio.Nursery | None = field(default=None, init=False, repr=False)
    dropped: bool = field(default=False, init=False)
    """Closed for good, with all connections: what has not reached the gate yet will not."""
    _open_now: bool = field(default=False, init=False)
    _changed: trio.Event = field(factory=trio.Event, init=False, repr=False)
    _accepting: trio.CancelScope | None = field(default=None, init=False, repr=False)
    _handshakes: set[trio.CancelScope] = field(factory=set, init=False, repr=False)

    @log.default
    def _own_log(self) -> ThrottledLog:
        return ThrottledLog(logger)

    @access.default
    def _access_rules(self) -> AddressRules | None:
        try:
            rules = parse_address_rules(self.config.access_rules)
        except ValueError as wrong:
            raise ListenerError(f"listener {self.config.identifier}: access_rules: {wrong}") from None
        return None if rules.open else rules

    @property
    def kind(self) -> str:
        return self.config.kind

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def identifier(self) -> str:
        return self.config.identifier

    @property
    def running(self) -> bool:
        """New connections are accepted, or wait to be."""
        return self._open_now

    @property
    def current_connections(self) -> int:
        return self.places.taken

    def info(self) -> ListenerInfo:
        return info_of(self.config, self.bound, running=self.running, connections=self.current_connections)

    async def run(self, gate: Gate, *, task_status: trio.TaskStatus[BoundAddress] = trio.TASK_STATUS_IGNORED) -> None:
        """Open, report the bound address, accept until `close()` or cancelled.

        After `close()` it returns when the last stream it serves itself (TLS, WebSocket, memory) is over; cancelling
        it drops those at once. Plain sockets belong to the gate and are not touched by either.

        Raises ListenerError when the listener cannot be opened: one line with its identifier, address and reason.
        """
        if self._nursery is not None:
            raise ListenerError(f"listener {self.identifier}: is already running")
        await self.open()
        await self.serve(gate, task_status=task_status)

    async def open(self, again: BoundAddress | None = None) -> BoundAddress:
        """The first half of `run`: take the address. `again` is where a listener of the same name was until now.

        Raises ListenerError having taken nothing. Whoever does not go on with `serve` calls `close`.
        """
        self.prepare()
        self.bound = await self._open(again)
        self._open_now = True
        return self.bound

    async def serve(self, gate: Gate, *, task_status: trio.TaskStatus[BoundAddress] = trio.TASK_STATUS_IGNORED) -> None:
        """The second half; returns at once when it was closed meanwhile."""
        if not self._open_now:
            return
        bound = self.bound
        assert bound is not None
        try:
            self._gate = gate
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                with trio.CancelScope() as accepting:
                    self._accepting = accepting
                    logger.info("listener %s: listening on %s", self.identifier, bound)
                    if self.config.proxy_protocol and self.access is None and not self.config.address.is_loopback:
                        logger.warning(
                            "listener %s: whoever reaches it may say where it comes from (proxy_protocol); "
                            "let only the proxy in (access_rules)",
                            self.identifier,
                        )
                    task_status.started(bound)
                    await self._accept()
                self.close()
        finally:
            self.close()
            self._nursery = None
            self._gate = None

    def close(self) -> None:
        """Stop accepting and free the address at once; unfinished handshakes end, served connections go on.

        Whoever wants those ended too calls `Gate.drop_listener`.
        """
        self._open_now = False
        self._close()
        if self._accepting is None:
            return
        accepting, self._accepting = self._accepting, None
        accepting.cancel()
        for handshake in self._handshakes:
            handshake.cancel()
        logger.info("listener %s: closed", self.identifier)

    def prepare(self) -> None:  # noqa: B027 - most kinds have nothing to prepare
        """Make what can fail besides the address. Raises ListenerError."""

    def become(self, other: Listener) -> None:
        """Go on with the configuration of `other`, which is prepared and not open: it counts for who comes from now on.

        Only for what leaves the address and its sockets as they are.
        """
        self.config = other.config
        self.access = other.access
        self._changed.set()
        self._changed = trio.Event()

    def drop(self, gate: Gate) -> None:
        """Close, and end every connection that came in here."""
        self.dropped = True
        self.close()
        gate.drop_listener(self.identifier)

    @abstractmethod
    async def _open(self, again: BoundAddress | None) -> BoundAddress:
        """Take the address, or raise ListenerError having taken nothing."""

    @abstractmethod
    async def _accept(self) -> None:
        """Accept until cancelled or `_close` was called."""

    @abstractmethod
    def _close(self) -> None:
        """Give the address back. May be called any number of times."""

    def _admit(self, peer_host: str, peer_port: int) -> ConnectionInfo | None:
        """Count a new connection in; None when it may not come in."""
        config = self.config
        if self.current_connections >= config.max_connections:
            self._refuse(peer_host, peer_port, "max_connections is reached")
            return None
        if self.access is not None and not self.access.allows(peer_host):
            self._refuse(peer_host, peer_port, "access_rules keep it out")
            return None
        self.counters.accepted += 1
        self.places.taken += 1
        return ConnectionInfo(
            listener=self.identifier,
            peer_host=peer_host,
            peer_port=peer_port,
            enable_authn=config.enable_authn,
            mountpoint=config.mountpoint,
            high_watermark=config.tcp_options.high_watermark,
            send_timeout=config.tcp_options.send_timeout,
            messages_rate=config.messages_rate,
            bytes_rate=config.bytes_rate,
            ended=_Place(self.places),
        )

    def _refuse(self, peer_host: str, peer_port: int, reason: str) -> None:
        self.counters.refused += 1
        self.log.log(
            logging.WARNING,
            reason,
            "listener %s: connection from %s:%d refused: %s",
            self.identifier,
            peer_host,
            peer_port,
            reason,
        )

    @contextmanager
    def handshake(self, seconds: float) -> Iterator[trio.CancelScope]:
        """A handshake may last so long, and ends when the listener is closed."""
        with trio.CancelScope(deadline=trio.current_time() + seconds) as scope:
            self._handshakes.add(scope)
            if not self._open_now:
                scope.cancel()  # it was accepted in the turn in which the listener was closed
            try:
                yield scope
            finally:
                self._handshakes.discard(scope)

    def handshake_failed(self, what: str, info: ConnectionInfo, reason: str) -> None:
        self.counters.handshake_failures += 1
        self.log.log(
            logging.INFO,
            what,
            "listener %s: %s with %s:%d failed: %s",
            self.identifier,
            what,
            info.peer_host,
            info.peer_port,
            reason,
        )

    def handshake_timed_out(self, what: str, info: ConnectionInfo) -> None:
        self.counters.handshake_timeouts += 1
        self.log.log(
            logging.INFO,
            what,
            "listener %s: %s with %s:%d not finished in time",
            self.identifier,
            what,
            info.peer_host,
            info.peer_port,
        )

    async def _serve_stream(self, stream: trio.abc.Stream, info: ConnectionInfo) -> None:
        """Give a finished stream to the gate. A fault in serving it ends this connection alone, with a traceback."""
        assert self._gate is not None
        try:
            if not self.dropped:  # its handshake may have ended in the very moment in which the listener was
                await self._gate.serve_stream(stream, info)
        except Exception:
            logger.exception(
                "listener %s: connection of %s:%d ended by a fault", self.identifier, info.peer_host, info.peer_port
            )
        finally:
            info.ended()
            await trio.aclose_forcefully(stream)


def info_of(config: ListenerConfig, bound: BoundAddress | None, *, running: bool, connections: int) -> ListenerInfo:
    """How a listener is shown, also one that is not open."""
    options: dict[str, object] = plain(config)
    if config.kind not in ("ssl", "wss"):
        options.pop("ssl_options", None)
    if config.kind not in ("ws", "wss"):
        options.pop("websocket", None)
    limit = config.max_connections
    return ListenerInfo(
        identifier=config.identifier,
        kind=config.kind,
        name=config.name,
        enable=config.enable,
        bind=str(bound) if bound is not None else config.bind,
        running=running,
        max_connections=None if limit == math.inf else int(limit),
        current_connections=connections,
        configuration=options,
    )
