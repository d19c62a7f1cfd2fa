"""Slow subscriptions: which clients take long to get messages, or to acknowledge them, and under which topics.

Invariant: the list holds `top_k_num` lines at most, each the longest time of one client and topic; sessions are asked
to tell of their deliveries only while the feature is on.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from attrs import define

from trio_broker.session.outgoing import Outgoing

if TYPE_CHECKING:
    from trio_broker.actors.core import Core
    from trio_broker.config import Config


@define(frozen=True)
class SlowRow:
    """`timespan` is in milliseconds, `last_update_time` is wall clock in milliseconds."""

    client_id: str
    topic_name: str
    timespan: int
    last_update_time: int


class SlowSubscriptions:
    """Told by sessions (see `trio_broker.session.slow`), asked by REST."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._rows: dict[tuple[str, str], SlowRow] = {}
        self._quickest: list[tuple[int, tuple[str, str]]] = []  # a heap; places of lines that have changed stay a while
        self._floor = 0  # milliseconds that a new line has to exceed
        self._expires_at = math.inf  # when a line may be too old, at the earliest (wall clock)
        self._since = math.inf  # when the feature was switched on (wall clock)
        self._set_at = -math.inf  # when the clock was set: what it showed before is of another time
        self._config = core.settings.config.slow_subs
        self._switch()
        core.settings.watch("slow_subs", self._changed)

    def _changed(self, before: Config, after: Config) -> None:
        self._config = after.slow_subs
        self._switch()

    def _switch(self) -> None:
        """What is on the list stays there until it is too old."""
        slow = self._core.limits.slow
        if not self._config.enable:
            slow.watch = None
        elif slow.watch is None:
            slow.watch = self
            self._since = self._core.clock.wall_ms(self._core.clock.now())
        self._expires_at = -math.inf  # by the new interval
        self._look()

    def completed(self, client_id: str, copies: Iterable[tuple[Outgoing, float | None]], now: float) -> None:
        """See `SlowWatch`. A delivery begins when the PUBLISH is sent for the first time."""
        clock = self._core.clock
        wall_ms = clock.wall_ms(now)
        if wall_ms >= self._expires_at:
            self._look()
        kind, floor = self._config.stats_type, self._floor
        for copy, first_sent in copies:
            message = copy.message
            if message.publish_at < self._set_at:
                continue
            if kind == "whole":
                timespan = wall_ms - message.publish_at
            else:
                queued_at = copy.inserted_at_ns // 1_000_000
                if first_sent is None and queued_at < self._since:
                    continue  # it was on its way when nobody watched
                begun = queued_at if first_sent is None else clock.wall_ms(first_sent)
                timespan = wall_ms - begun if kind == "response" else begun - message.publish_at
            if timespan > floor:
                self._add(client_id, message.topic_name, timespan, wall_ms)
                floor = self._floor

    def clock_was_set(self) -> None:
        self.clear()
        self._set_at = self._since = self._core.clock.wall_ms(self._core.clock.now())

    def _add(self, client_id: str, topic_name: str, timespan: int, wall_ms: int) -> None:
        key = (client_id, topic_name)
        old = self._rows.get(key)
        if old is not None and timespan <= old.timespan:
            return
        self._rows[key] = SlowRow(client_id, topic_name, timespan, wall_ms)
        heapq.heappush(self._quickest, (timespan, key))
        if len(self._quickest) > 2 * len(self._rows) + 64:
            self._sort()
        self._expires_at = min(self._expires_at, wall_ms + self._config.expire_interval * 1000)
        self._cut()

    def _cut(self) -> None:
        """The quickest of too many go, and what is no longer than the quickest of a full list need not come."""
        rows, quickest = self._rows, self._quickest
        full = len(rows) - self._config.top_k_num
        while full >= 0 and quickest:
            timespan, key = quickest[0]
            row = rows.get(key)
            if row is not None and row.timespan == timespan:
                if not full:
                    break
                del rows[key]
                full -= 1
            heapq.heappop(quickest)
        threshold = int(self._config.threshold * 1000)
        self._floor = threshold if full < 0 else max(threshold, quickest[0][0])

    def _sort(self) -> None:
        self._quickest = [(row.timespan, key) for key, row in self._rows.items()]
        heapq.heapify(self._quickest)

    def _look(self) -> None:
        """Take out what has not changed for too long."""
        interval = self._config.expire_interval * 1000
        wall_ms = self._core.clock.wall_ms(self._core.clock.now())
        if wall_ms < self._expires_at:
            return
        self._rows = {key: row for key, row in self._rows.items() if wall_ms - row.last_update_time < interval}
        self._expires_at = min((row.last_update_time for row in self._rows.values()), default=math.inf) + interval
        self._sort()
        self._cut()

    # -- what REST asks

    def rows(self) -> list[SlowRow]:
        """The slowest first."""
        self._look()
        return sorted(self._rows.values(), key=lambda row: row.timespan, reverse=True)

    def clear(self) -> None:
        self._rows.clear()
        self._quickest.clear()
        self._expires_at = math.inf
        self._cut()
