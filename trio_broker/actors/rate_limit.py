"""Rate limits of one connection: `messages_rate` and `bytes_rate` of its listener, or those set for it alone.

Invariant: nothing is refused or lost; a client that sends faster is read later. On average it gets its rate, and what
it saved by silence, up to one second's worth, at once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from attrs import define, evolve

if TYPE_CHECKING:
    from trio_broker.actors.connection import Connection
    from trio_broker.actors.session_actor import SessionActor
    from trio_broker.actors.timers import Timer

__all__ = ["Bucket", "OwnRates", "RateLimit", "set_quota", "set_rates", "use_rates"]


@define(frozen=True)
class OwnRates:
    """What an administrator set for one connection alone; None: as its listener has it.

    `quota` limits the same messages as `messages_rate`: the lower one holds.
    """

    messages_rate: float | None = None
    bytes_rate: float | None = None
    quota: float | None = None


NO_OWN: Final = OwnRates()


@define
class Bucket:
    """`rate` tokens flow in a second, at most one second's worth is kept; it may be overdrawn."""

    rate: float
    tokens: float
    at: float

    def take(self, count: float, now: float) -> float:
        """The seconds after which it is no longer overdrawn."""
        self.tokens = min(self.rate, self.tokens + (now - self.at) * self.rate) - count
        self.at = now
        return -self.tokens / self.rate if self.tokens < 0 else 0.0


class RateLimit:
    """Pauses one connection's reading. `is_pausing` while it does."""

    __slots__ = ("_bytes", "_messages", "_seen", "_timer", "connection", "is_pausing", "own")

    def __init__(
        self, connection: Connection, messages_rate: float, bytes_rate: float, now: float, own: OwnRates = NO_OWN
    ) -> None:
        """`own` is remembered here, and already within the rates."""
        self.connection = connection
        self.own = own
        self.is_pausing = False
        self._messages = Bucket(messages_rate, messages_rate, now) if messages_rate < math.inf else None
        self._bytes = Bucket(bytes_rate, bytes_rate, now) if bytes_rate < math.inf else None
        self._seen: int | None = None
        self._timer: Timer | None = None

    def charge(self, size: int, now: float) -> None:
        """So many bytes were read, and taken."""
        connection = self.connection
        if connection.over:
            return
        pause = 0.0
        if self._bytes is not None:
            pause = self._bytes.take(size, now)
        channel = connection.channel
        if self._messages is not None and channel is not None:
            stats = channel.session.stats
            count = stats.recv_msg_qos0 + stats.recv_msg_qos1 + stats.recv_msg_qos2
            if self._seen is not None:
                pause = max(pause, self._messages.take(count - self._seen, now))
            self._seen = count
        if pause > 0 and not self.is_pausing:
            self.is_pausing = True
            connection.pause()
            self._timer = connection.core.timers.at(now + pause, self._go_on)

    def attached(self) -> None:
        """The session is there: it may have had messages before."""
        channel = self.connection.channel
        if channel is not None:
            stats = channel.session.stats
            self._seen = stats.recv_msg_qos0 + stats.recv_msg_qos1 + stats.recv_msg_qos2

    def end(self) -> None:
        """The connection is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_on(self) -> None:
        self._timer = None
        self.is_pausing = False
        self.connection.resume_unless_held()


def use_rates(connection: Connection, messages_rate: float, bytes_rate: float) -> None:
    """Other rates of the listener for a connection that there is; what was set for it alone stays."""
    if connection.over:
        return
    connection.info.messages_rate, connection.info.bytes_rate = messages_rate, bytes_rate
    _limit(connection, _own(connection))


def set_rates(actor: SessionActor, messages_rate: float | None, bytes_rate: float | None) -> None:
    """For the connection there is, if there is one; None: as its listener has it."""
    connection = actor.connection
    if connection is not None and not connection.over:
        _limit(connection, evolve(_own(connection), messages_rate=messages_rate, bytes_rate=bytes_rate))


def set_quota(actor: SessionActor, messages_rate: float | None) -> None:
    """The same for the messages alone, beside what `set_rates` says of them; None: none."""
    connection = actor.connection
    if connection is not None and not connection.over:
        _limit(connection, evolve(_own(connection), quota=messages_rate))


def _own(connection: Connection) -> OwnRates:
    return NO_OWN if connection.limit is None else connection.limit.own


def _limit(connection: Connection, own: OwnRates) -> None:
    """Go by these and by the listener's where there is none; a pause by the old ones is over."""
    messages_rate, bytes_rate = connection.info.messages_rate, connection.info.bytes_rate
    if own.messages_rate is not None:
        messages_rate = own.messages_rate
    if own.quota is not None:
        messages_rate = min(messages_rate, own.quota)
    if own.bytes_rate is not None:
        bytes_rate = own.bytes_rate
    old = connection.limit
    connection.limit = None
    if messages_rate < math.inf or bytes_rate < math.inf:
        connection.limit = RateLimit(connection, messages_rate, bytes_rate, connection.core.clock.now(), own)
        connection.limit.attached()
    if old is not None:
        old.end()
        if old.is_pausing:
            connection.resume_unless_held()
