"""What holds until a time of the wall clock: connections, and the rules that clients brought with them.

Invariant: `core.expiries` holds those whose time is still to come, and nothing of a connection that is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define, evolve, field

from trio_broker.access.rules import RuleSet
from trio_broker.actors.authorizing import authorize
from trio_broker.protocol.reason_codes import ReasonCode

if TYPE_CHECKING:
    from trio_broker.access.authentication import Verdict
    from trio_broker.actors.connection import Connection
    from trio_broker.actors.core import Core
    from trio_broker.actors.timers import Timer

__all__ = ["Expiry", "clock_was_set", "expire_later"]


@define(eq=False)
class Expiry:
    """Of one connection: of the connection itself, or of the rules that it brought. Seconds since the epoch."""

    connection: Connection
    end_at: float | None
    rules_until: float | None
    _timer: Timer | None = field(default=None, repr=False)

    def arm(self) -> None:
        """Wait until the wall clock, as it goes now, shows the earlier of these times; at once where it does."""
        self.cancel()
        times = [time for time in (self.end_at, self.rules_until) if time is not None]
        if not times:
            return
        core = self.connection.core
        core.expiries.add(self)
        deadline = core.clock.trio_time(int(min(times) * 1000))
        self._timer = core.timers.at(max(deadline, core.clock.now()), self._due)

    def cancel(self) -> None:
        self.connection.core.expiries.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self.cancel()
        connection = self.connection
        if self.end_at is not None and (self.rules_until is None or self.end_at <= self.rules_until):
            connection.expiry = None
            connection.fail(ReasonCode.NOT_AUTHORIZED, "what it was let in with has expired")
            return
        self.rules_until = None
        self._end_rules()
        self.arm()

    def _end_rules(self) -> None:
        """The client stays, and may do nothing more."""
        actor, channel = self.connection.actor, self.connection.channel
        if actor is None or channel is None or actor.verdict is None:
            return
        actor.verdict = evolve(actor.verdict, rules=RuleSet.nothing())
        authorize(actor, self.connection, channel)


def expire_later(connection: Connection, verdict: Verdict) -> None:
    """What let the client in may hold for a time: then the connection ends (EMQX: `expire_at`), or may do no more."""
    if connection.expiry is not None:
        connection.expiry.cancel()
        connection.expiry = None
    if (verdict.expire_at is not None or verdict.rules_expire_at is not None) and not connection.over:
        connection.expiry = Expiry(connection, verdict.expire_at, verdict.rules_expire_at)
        connection.expiry.arm()


def clock_was_set(core: Core) -> None:
    """The times stay, and come sooner or later than they would have."""
    for expiry in list(core.expiries):
        expiry.arm()
