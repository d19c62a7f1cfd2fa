"""Who may publish and subscribe to what: a program's own authorizer, the client's own rules, the sources in order.

Invariant: a decision that is kept for a client is the one that was given, for no longer than `cache.ttl`, and for no
more than `cache.max_size` topics. What has to be waited for is never taken for allowed meanwhile.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from attrs import define, field

from trio_broker.access.asking import Action, Request, Subject
from trio_broker.protocol.delayed_topic import PREFIX, parse_delayed
from trio_broker.protocol.message import Origin
from trio_broker.routing.coverage import covers
from trio_broker.session.meter import Meter
from trio_broker.session.subscribe import Asked

if TYPE_CHECKING:
    from trio_broker.access.rules import RuleSet

__all__ = ["Action", "Authorization", "Authorizer", "CachePolicy", "Decisions", "Figures", "PassedOver", "Source"]

log = logging.getLogger("trio_broker.authorization")

DECISIONS_A_STEP: Final = 256
"""PUBLISHes of one step that rules are looked up for: 64 kB hold thousands, and there may be a thousand rules."""


class Authorizer(Protocol):
    """What an embedding program may give the broker; decides without waiting, and its decision is the last word."""

    def authorize(self, client: Origin, action: Action, topic: str) -> bool:
        """May this client do that? `topic` is a topic name or a topic filter."""


@define
class Figures:
    """What became of what one source was asked; `ignore`: it could not be asked."""

    total: int = 0
    allow: int = 0
    deny: int = 0
    nomatch: int = 0
    ignore: int = 0

    def count(self, answer: bool | None) -> None:
        self.total += 1
        if answer is None:
            self.nomatch += 1
        elif answer:
            self.allow += 1
        else:
            self.deny += 1


class PassedOver(Exception):
    """A source could not be asked, or wants to be counted as one that was not; the log knows what there is to know."""


class Source(ABC):
    """One of the authorization sources; `waits`: it cannot say without asking somebody else."""

    type: str
    waits: bool = False

    def __init__(self) -> None:
        self.figures = Figures()

    @abstractmethod
    def authorize(self, subject: Subject, request: Request) -> bool | None:
        """Allowed, denied, or None: no opinion. Not called where `waits`."""

    async def ask(self, subject: Subject, request: Request) -> bool | None:
        """The same, where that takes time. Has a deadline of its own; may raise, and has no opinion then."""
        return self.authorize(subject, request)

    async def load(self) -> None:  # noqa: B027 - most have nothing to do
        """Read what lies elsewhere, before all else; also where it is not enabled. Raises ConfigError."""

    async def start(self) -> None:  # noqa: B027
        """Before it is asked for the first time. Raises ConfigError where it cannot be as it is configured."""

    async def close(self) -> None:  # noqa: B027
        """It is asked no more."""

    async def delete(self) -> None:  # noqa: B027
        """It was taken out of the configuration over REST: what it keeps in the store goes, too."""


@define(frozen=True)
class CachePolicy:
    """`ttl` in seconds; `excludes` are topic filters."""

    enable: bool = True
    max_size: int = 32
    ttl: float = 60.0
    excludes: tuple[str, ...] = ()


@define(eq=False)
class Authorization:
    """What is in force; after a change of it, whoever holds `Decisions` has to let go of them."""

    meter: Meter = field(repr=False)
    authorizer: Authorizer | None = None
    sources: Sequence[Source] = ()
    no_match: bool = True
    deny_disconnects: bool = False
    cache: CachePolicy = field(factory=CachePolicy)

    def concerns(self, rules: RuleSet | None) -> bool:
        """False: everything is allowed to a client with these rules of its own, and nobody need be asked."""
        return self.authorizer is not None or bool(self.sources) or rules is not None or not self.no_match

    def decide_now(self, subject: Subject, request: Request) -> bool | None:
        """The decision; None where somebody has to be waited for."""
        return self._from(self.sources, 0, subject, _meant(request))[0]

    async def decide(self, subject: Subject, request: Request) -> bool:
        """The same, waiting where it must."""
        sources = self.sources
        request = _meant(request)
        decision, index = self._from(sources, 0, subject, request)
        while decision is None:
            source = sources[index]
            try:
                decision = await source.ask(subject, request)
            except Exception as error:
                source.figures.total += 1
                source.figures.ignore += 1
                if not isinstance(error, PassedOver):
                    log.exception("the authorization source %s failed", source.type)
            else:
                source.figures.count(decision)
            if decision is not None:
                self._matched(decision)
                return decision
            decision, index = self._from(sources, index + 1, subject, request)
        return decision

    def _from(
        self, sources: Sequence[Source], start: int, subject: Subject, request: Request
    ) -> tuple[bool | None, int]:
        """A decision, or the number of the source that has to be waited for."""
        if start == 0:
            self.meter.client_authorize += 1
            decision = self._before_sources(subject, request)
            if decision is not None:
                return decision, 0
        for index in range(start, len(sources)):
            source = sources[index]
            if source.waits:
                return None, index
            decision = source.authorize(subject, request)
            source.figures.count(decision)
            if decision is not None:
                self._matched(decision)
                return decision, index
        self.meter.authorization_nomatch += 1
        return self.no_match, len(sources)

    def _before_sources(self, subject: Subject, request: Request) -> bool | None:
        if subject.superuser:
            self.meter.authorization_superuser += 1
            return True
        if self.authorizer is not None:
            return self.authorizer.authorize(subject.origin, request.action, request.topic)
        if subject.rules is not None:
            decision = subject.rules.decide(subject, request)
            if decision is not None:
                self._matched(decision)
            return decision
        return None

    def _matched(self, decision: bool) -> None:
        if decision:
            self.meter.authorization_matched_allow += 1
        else:
            self.meter.authorization_matched_deny += 1


# Of most clients there is nothing to keep, and these are shared: they are never filled.
_NOTHING_KEPT: Final[dict[object, tuple[bool, float]]] = {}
_NO_ANSWERS: Final[dict[Request, bool]] = {}


class Client(Protocol):
    def subject(self) -> Subject:
        """Who it is, made when somebody looks."""


class Decisions:
    """What one client may do, as long as it is connected. Times are Trio's.

    `publish` answers None where somebody has to be waited for, or others are to have their turn first: `ask`, then ask
    again. For `subscribe` see to it before that with `waits_for`, and `forget` afterwards. `who` is the client, or
    tells who it is when that is asked for the first time: many clients connect and say nothing.
    """

    __slots__ = ("_authorization", "_cache", "_left", "_meter", "_step", "_who", "answers")

    def __init__(self, authorization: Authorization, who: Subject | Client) -> None:
        self._authorization = authorization
        self._meter = authorization.meter
        self._cache = _NOTHING_KEPT
        self._step, self._left = -math.inf, 0
        self.answers = _NO_ANSWERS
        """To what the packet at hand asks, whatever becomes of them in the cache meanwhile."""
        self._who = who

    @property
    def subject(self) -> Subject:
        who = self._who
        if not isinstance(who, Subject):
            who = self._who = who.subject()
        return who

    @property
    def disconnects(self) -> bool:
        """A client that does what it may not is cut off."""
        return self._authorization.deny_disconnects

    def publish(self, topic: str, qos: int, retain: bool, now: float) -> bool | None:
        found = self._cache.get((topic, qos, retain) if qos or retain else topic)
        if found is not None and now < found[1]:
            self._meter.authorization_cache_hit += 1
            return True if found[0] else self._count(False)
        request = Request("publish", topic, qos, retain)
        if now != self._step:
            self._step, self._left = now, DECISIONS_A_STEP
        self._left -= 1
        if self._left < 0 and request not in self.answers:
            return None
        return self._decide(request, now)

    def subscribe(self, match_filter: str, qos: int, now: float) -> bool | None:
        request = Request("subscribe", match_filter, qos)
        found = self._cache.get(request)
        if found is not None and now < found[1]:
            self._meter.authorization_cache_hit += 1
            return self._count(found[0])
        return self._decide(request, now)

    def waits_for(self, asked: Asked, now: float) -> bool:
        """Has somebody to be waited for before this can be answered? Counts no hit and no miss."""
        request = Request(*asked)  # type: ignore[arg-type]
        if request in self.answers:
            return False
        found = self._cache.get(_key(request))
        if found is not None and now < found[1]:
            self._answer(request, found[0])  # others may push it out before it is used
            return False
        decision = self._authorization.decide_now(self.subject, request)
        if decision is None:
            return True
        self._answer(request, decision)
        return False

    def forget(self) -> None:
        """The packet that asked is done."""
        self.answers = _NO_ANSWERS

    def deny(self, request: Request) -> None:
        """There was no answer in time."""
        self._answer(request, False)

    async def ask(self, request: Request, now: float) -> None:
        """Put the answer into `answers`, and keep it."""
        cache = self._cache
        decision = await self._authorization.decide(self.subject, request)
        self._answer(request, decision)
        if cache is self._cache:
            self._keep(request, decision, now)

    def _answer(self, request: Request, decision: bool) -> None:
        if self.answers is _NO_ANSWERS:
            self.answers = {}
        self.answers[request] = decision

    def clear(self) -> None:
        """Forget what was decided, and do not keep what is being asked."""
        self._cache = {}

    def forget_topic(self, topic: str) -> None:
        """Forget what was decided about publishing to it alone; what is being asked is not kept either."""
        self._cache = {key: kept for key, kept in self._cache.items() if _published_to(key) != topic}

    def kept(self, now: float) -> list[tuple[Request, bool, float]]:
        """What is still good: what was asked, the answer, and when it was given."""
        ttl = self._authorization.cache.ttl
        return [
            (key if isinstance(key, Request) else _request(key), allowed, until - ttl)
            for key, (allowed, until) in self._cache.items()
            if now < until
        ]

    def _decide(self, request: Request, now: float) -> bool | None:
        decision = self.answers.get(request) if self.answers else None
        if decision is None:
            decision = self._authorization.decide_now(self.subject, request)
            if decision is None:
                return None
            self._keep(request, decision, now)
        self._meter.authorization_cache_miss += 1
        return self._count(decision)

    def _count(self, decision: bool) -> bool:
        if not decision:
            self._meter.authorization_deny += 1  # those that were allowed are all the others
        return decision

    def _keep(self, request: Request, decision: bool, now: float) -> None:
        policy = self._authorization.cache
        if not policy.enable or any(covers(one, _meant(request).topic) for one in policy.excludes):
            return
        if self._cache is _NOTHING_KEPT:
            self._cache = {}
        cache = self._cache
        key = _key(request)
        cache.pop(key, None)  # what is new stands last
        while len(cache) >= policy.max_size:
            del cache[next(iter(cache))]
        cache[key] = (decision, now + policy.ttl)


def _meant(request: Request) -> Request:
    """A rule about a topic holds for `$delayed/N/` before it, too."""
    if request.action == "publish" and request.topic.startswith(PREFIX):
        parsed = parse_delayed(request.topic)
        if parsed is not None:
            return request._replace(topic=parsed[1])
    return request


def _key(request: Request) -> object:
    """A plain message's is its topic, which is found fastest."""
    if request.action == "subscribe":
        return request
    return (request.topic, request.qos, request.retain) if request.qos or request.retain else request.topic


def _published_to(key: object) -> object:
    """The topic; None where it is about subscribing."""
    if isinstance(key, Request):
        return None
    return key[0] if isinstance(key, tuple) else key


def _request(key: object) -> Request:
    if isinstance(key, tuple):
        return Request("publish", *key)
    assert isinstance(key, str)
    return Request("publish", key)
