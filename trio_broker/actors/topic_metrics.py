"""Topic metrics: what goes in and out under the topics that somebody wants counted.

Invariant: a topic that is not registered costs nothing; nothing runs while nobody publishes or asks. The counts begin
at 0 with the broker.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

import trio
from attrs import define, field

from trio_broker.config.features import MAX_TOPIC_METRICS
from trio_broker.protocol.message import Run
from trio_broker.routing.delivery import Delivery
from trio_broker.routing.filter_trie import has_wildcard
from trio_broker.routing.routing_table import Plan

if TYPE_CHECKING:
    from trio_broker.actors.core import Core
    from trio_broker.config import Config

WINDOW: Final = 5
"""Seconds; a rate is the mean over so many, or up to one more."""

NAMES: Final = ("qos0.in", "qos1.in", "qos2.in", "qos0.out", "qos1.out", "qos2.out", "dropped")
"""What is counted; the rest are sums."""
IN, OUT, DROPPED = 0, 3, 6


class Refused(Exception):
    """A topic cannot be registered."""


class BadTopic(Refused):
    """It is empty, has wildcards, or is registered already."""


class TooMany(Refused):
    """As many as there may be are registered."""


@define(frozen=True)
class TopicFigures:
    """`counts` and `rates` (a second) by name: `qos0.in`, ..., `in`, `out`, `dropped`."""

    topic: str
    created_at: int
    counts: dict[str, int]
    rates: dict[str, float]


@define(eq=False)
class _Counter:
    """`counts` as `NAMES` has them; `_seconds`: when a second with messages began, and the counts then."""

    created_at: int
    counts: list[int] = field(factory=lambda: [0] * len(NAMES))
    _plan: Plan[Any] | None = None
    _deliveries: list[int] = field(factory=lambda: [0, 0, 0])  # of the plan, by QoS
    _particular: list[Delivery[Any]] = field(factory=list)  # those that depend on the publisher
    _seconds: deque[tuple[float, list[int]]] = field(factory=lambda: deque(maxlen=WINDOW + 2))

    def count(self, run: Run, plan: Plan[Any], now: float, *, upgrade_qos: bool) -> None:
        counts, seconds = self.counts, self._seconds
        if not seconds or now >= seconds[-1][0] + 1:
            seconds.append((now, counts.copy()))
        if plan is not self._plan:
            self._look_at(plan)
        number, qos = len(run), run.qos
        counts[IN + qos] += number
        if not (plan.deliveries or plan.groups):
            counts[DROPPED] += number
            return
        for granted, recipients in enumerate(self._deliveries):
            counts[OUT + (granted if upgrade_qos else min(granted, qos))] += number * recipients
        for delivery in self._particular:
            own = delivery.recipient.client_id == run.origin.client_id
            taken = delivery.own if own else delivery
            if taken is not None:
                counts[OUT + (taken.qos if upgrade_qos else min(taken.qos, qos))] += number
        for group in plan.groups:
            # Which member it will be is not known yet; they mostly ask for the same QoS.
            granted = next((member.qos for member in group.members.values()), 0)
            counts[OUT + (granted if upgrade_qos else min(granted, qos))] += number

    def _look_at(self, plan: Plan[Any]) -> None:
        """A plan lives long: its deliveries are counted once."""
        self._plan = plan
        self._deliveries = [0, 0, 0]
        self._particular = [delivery for delivery in plan.deliveries if delivery.no_local]
        for delivery in plan.deliveries:
            if not delivery.no_local:
                self._deliveries[delivery.qos] += 1

    def figures(self, topic: str, now: float) -> TopicFigures:
        begun, before = next((second for second in self._seconds if second[0] > now - WINDOW - 1), (now, self.counts))
        counts = dict(zip(NAMES, self.counts, strict=True))
        grown = dict(zip(NAMES, [new - old for new, old in zip(self.counts, before, strict=True)], strict=True))
        for way in ("in", "out"):
            for of in (counts, grown):
                of[way] = sum(of[f"qos{qos}.{way}"] for qos in range(3))
        span = max(WINDOW, now - begun)
        rates = {name: round(number / span, 4) for name, number in grown.items()}
        return TopicFigures(topic, self.created_at, counts, rates)

    def reset(self) -> None:
        self.counts = [0] * len(NAMES)
        self._seconds.clear()


class TopicMetrics:
    """An interceptor, and what REST asks. Registering raises `Refused`, or what `Settings.change` raises."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._counters: dict[str, _Counter] = {}
        self._lock = trio.Lock()
        self._register(core.settings.config)
        core.settings.watch("topic_metrics", self._changed)

    def _register(self, config: Config) -> None:
        """Count the topics of this configuration, and go on with those that were counted before."""
        now_ms = self._core.clock.wall_ms(self._core.clock.now())
        before = self._counters
        self._counters = {record.topic: before.get(record.topic) or _Counter(now_ms) for record in config.topic_metrics}

    def _changed(self, before: Config, after: Config) -> None:
        self._register(after)
        self._core.interceptors.changed()

    # -- an interceptor

    def concerns(self, topic_name: str) -> bool:
        return topic_name in self._counters

    def keeps(self, run: Run) -> bool:
        return False

    def intercept(self, run: Run, plan: Plan[Any]) -> list[Run] | None:
        counter = self._counters.get(run.topic_name)
        if counter is not None:
            core = self._core
            counter.count(run, plan, core.clock.now(), upgrade_qos=core.limits.upgrade_qos)
        return None

    # -- what REST asks

    def all(self) -> list[TopicFigures]:
        """In the order in which they were registered."""
        now = self._core.clock.now()
        return [counter.figures(topic, now) for topic, counter in self._counters.items()]

    def get(self, topic: str) -> TopicFigures | None:
        counter = self._counters.get(topic)
        return None if counter is None else counter.figures(topic, self._core.clock.now())

    def reset(self, topic: str | None = None) -> bool:
        """Back to 0, all of them or one; False when that is not registered."""
        if topic is not None and topic not in self._counters:
            return False
        for counter in self._counters.values() if topic is None else (self._counters[topic],):
            counter.reset()
        return True

    async def register(self, topic: str) -> None:
        """Returns when it is kept."""
        async with self._lock:
            if topic in self._counters:
                raise BadTopic("Topic already registered")
            if has_wildcard(topic):
                raise BadTopic("Wildcard topic is not supported")
            if len(self._counters) >= MAX_TOPIC_METRICS:
                raise TooMany(f"Max topic metrics count is {MAX_TOPIC_METRICS}")
            await self._change([*self._counters, topic])

    async def deregister(self, topic: str) -> bool:
        """False when it is not registered."""
        async with self._lock:
            if topic not in self._counters:
                return False
            await self._change([other for other in self._counters if other != topic])
            return True

    async def deregister_all(self) -> None:
        async with self._lock:
            if self._counters:
                await self._change([])

    async def _change(self, topics: list[str]) -> None:
        await self._core.settings.change({"topic_metrics": [{"topic": topic} for topic in topics]})
