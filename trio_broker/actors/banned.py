"""Who is kept out: bans by client identifier, user name and address, set over REST, asked at each CONNECT.

Invariant: `all` is what the store will have once its ticket is done; a ban whose time is over has no effect, whether it
still lies here or not. Addresses are compared in one form: compressed, IPv4 where IPv6 only wraps it.

What is exact is found by looking it up. Rules (`_re`, `_net`) are tried one after the other; their regular expressions
take time linear in the text, whatever they are (see `trio_broker.routing.patterns`), since who connects chooses it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, get_args

import trio
from attrs import asdict, define

from trio_broker.access.addresses import Address, Network, plain_address, plain_network
from trio_broker.actors.messages import AskActorsNamed, Kick
from trio_broker.actors.search import of_manager, of_session
from trio_broker.errors import ActorGone, TrioBrokerError
from trio_broker.routing.patterns import Pattern

if TYPE_CHECKING:
    from trio_broker.actors.core import Core
    from trio_broker.actors.session_actor import SessionActor
    from trio_broker.actors.timers import Timer

log = logging.getLogger("trio_broker.banned")

DOCUMENTS: Final = "banned"
"""The kind of the documents; the key is `<as>:<who>`."""
SWEEP: Final = 60.0
"""Seconds from one look at the bans that end to the next, at least: those that ended are taken out together."""
STRIDE: Final = 256
"""Bans that are taken out before others have their turn."""

BanKind = Literal["clientid", "username", "peerhost", "clientid_re", "username_re", "peerhost_net"]
KINDS: Final[tuple[str, ...]] = get_args(BanKind)


@define(frozen=True)
class Ban:
    """`kind` and `who` (in the form of `canonical`) name it; `at` and `until` are seconds of the wall clock."""

    kind: str
    who: str
    by: str
    reason: str
    at: int
    until: int | None
    """None: for ever."""

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, self.who


class AlreadyBanned(TrioBrokerError):
    """There is such a ban; it has to be deleted first."""

    def __init__(self, ban: Ban) -> None:
        super().__init__(f"{ban.kind} {ban.who!r} is banned already")
        self.ban = ban


def canonical(kind: str, who: str) -> str:
    """The one form of an address or network; anything else stays. Raises ValueError for what is none of its kind."""
    if kind == "peerhost":
        return str(plain_address(who))
    if kind == "peerhost_net":
        return str(plain_network(who))
    if kind.endswith("_re"):
        Pattern(who)
    return who


@lru_cache(maxsize=4096)
def _address(peer_host: str) -> Address | None:
    """Of a peer; None for one without: in memory, or over a Unix socket."""
    try:
        return plain_address(peer_host)
    except ValueError:
        return None


class Banned:
    """All bans by kind and `who`, in the order in which they came. Times in seconds of the wall clock."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.all: dict[tuple[str, str], Ban] = {}
        """Not to be changed by others; empty where nobody is banned."""
        self._rules: dict[tuple[str, str], Pattern | Network] = {}
        self._ends: dict[tuple[str, str], int] = {}
        self._sweeping: Timer | None = None
        for key, body in core.documents.of(DOCUMENTS).items():
            try:
                self._put(Ban(**body))
            except (TypeError, ValueError) as error:
                log.error("the ban %r in the store is left out: %s", key, error)

    # -- at a CONNECT -------------------------------------------------------------------------------------------

    def find(self, client_id: str, username: str | None, peer_host: str) -> Ban | None:
        """The ban that keeps this client out. `client_id` is "" while it is to be assigned, and is not looked at."""
        now = self.now()
        address = _address(peer_host)
        exact = (
            ("clientid", client_id),
            ("username", username),
            ("peerhost", None if address is None else str(address)),
        )
        for kind, who in exact:
            ban = None if who is None else self.all.get((kind, who))
            if ban is not None and not _is_over(ban, now):
                return ban
        for key, rule in self._rules.items():
            if isinstance(rule, Pattern):
                text = client_id or None if key[0] == "clientid_re" else username
                found = text is not None and rule.matches(text)
            else:
                found = address is not None and address in rule
            if found and not _is_over(self.all[key], now):
                return self.all[key]
        return None

    # -- over REST ----------------------------------------------------------------------------------------------

    async def add(self, ban: Ban) -> None:
        """In force at once; returns when it is durable, and for a client identifier when its session has ended.

        Raises AlreadyBanned, and ValueError for a `who` that is none of its kind.
        """
        there = self.all.get(ban.key)
        if there is not None and not _is_over(there, self.now()):
            raise AlreadyBanned(there)
        await self.put([ban])

    async def put(self, bans: Sequence[Ban]) -> None:
        """The same for many, which take the place of those that are there."""
        for number, ban in enumerate(bans, 1):
            self._replace(ban)
            if number % STRIDE == 0:
                await trio.lowlevel.checkpoint()
        # Whoever asked for one may go away, and could not ask again, since it is there. Many may take long.
        with trio.CancelScope(shield=len(bans) == 1):
            await self._kick([ban.who for ban in bans if ban.kind == "clientid"])
        await self._core.durable()

    def note(self, ban: Ban) -> None:
        """In force at once, for the next CONNECT; it takes the place of one that is there, and nobody waits for it."""
        self._replace(ban)

    async def delete(self, kind: str, who: str) -> bool:
        """False when there is none. Returns when it is durable."""
        if not self._take_out((kind, who)):
            return False
        self._core.documents.delete(DOCUMENTS, _name((kind, who)))
        await self._core.durable()
        return True

    async def clear(self) -> None:
        """Delete all there are now. Returns when it is durable."""
        for number, key in enumerate(list(self.all), 1):
            if self._take_out(key):
                self._core.documents.delete(DOCUMENTS, _name(key))
            if number % STRIDE == 0:
                await trio.lowlevel.checkpoint()
        await self._core.durable()

    def rows(self) -> list[Ban]:
        """All of them; those that are over may be among them for a minute."""
        return list(self.all.values())

    def now(self) -> int:
        """The wall clock."""
        clock = self._core.clock
        return clock.wall_ms(clock.now()) // 1000

    # -- inside -------------------------------------------------------------------------------------------------

    def clock_was_set(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
            self._sweep_later(SWEEP)

    def _replace(self, ban: Ban) -> None:
        self._take_out(ban.key)
        self._put(ban)
        self._core.documents.put(DOCUMENTS, _name(ban.key), asdict(ban))
        log.info("banned: %s %r by %r: %s", ban.kind, ban.who, ban.by, ban.reason or "no reason given")

    def _put(self, ban: Ban) -> None:
        if ban.kind.endswith("_re"):
            self._rules[ban.key] = Pattern(ban.who)
        elif ban.kind == "peerhost_net":
            self._rules[ban.key] = plain_network(ban.who)
        self.all[ban.key] = ban
        if ban.until is not None:
            self._ends[ban.key] = ban.until
            self._sweep_later(SWEEP, ban.until)

    def _take_out(self, key: tuple[str, str]) -> bool:
        self._rules.pop(key, None)
        self._ends.pop(key, None)
        return self.all.pop(key, None) is not None

    def _sweep_later(self, seconds: float, end: int = 0) -> None:
        """In so many seconds, or when the ban of this end is over if that is later."""
        clock = self._core.clock
        deadline = max(clock.now() + seconds, clock.trio_time(end * 1000))
        if self._sweeping is not None:
            if self._sweeping.deadline <= deadline:
                return
            self._sweeping.cancel()
        self._sweeping = self._core.timers.at(deadline, self._sweep)

    def _sweep(self) -> None:
        """Forget those whose time is over. Nobody wakes up while none ends."""
        self._sweeping = None
        now = self.now()
        over = [key for key, until in self._ends.items() if until <= now]
        for key in over[:STRIDE]:
            self._take_out(key)
            self._core.documents.delete(DOCUMENTS, _name(key))
        if self._ends:
            self._sweep_later(SWEEP if len(over) <= STRIDE else 0, min(self._ends.values()))

    async def _kick(self, client_ids: Sequence[str]) -> None:
        named: list[tuple[int, SessionActor]]
        for start in range(0, len(client_ids), STRIDE):
            named = await of_manager(self._core, AskActorsNamed(client_ids[start : start + STRIDE]))
            for _, actor in named:
                with suppress(ActorGone):
                    await of_session(actor, Kick())


def _is_over(ban: Ban, now: int) -> bool:
    return ban.until is not None and ban.until <= now


def _name(key: tuple[str, str]) -> str:
    return f"{key[0]}:{key[1]}"
