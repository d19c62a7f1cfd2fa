"""The history for charts: a sample of counters and gauges at each full mark of the wall clock.

Invariant: samples are in the order of their times, and nothing is older than a week; the older they are the fewer, so
that there are never more than some three thousand, or seven where one is taken each second. Nothing is sampled, and no
task wakes up, where the interval is infinite.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

import trio
from attrs import frozen

from trio_broker.actors.messages import AskMetrics, AskStats
from trio_broker.errors import ActorGone, AskTimeout

if TYPE_CHECKING:
    from trio_broker.actors.core import Core
    from trio_broker.config import Config

__all__ = ["COUNTERS", "GAUGES", "History", "Monitor", "Sample"]

log = logging.getLogger("trio_broker.monitor")

SECOND: Final = 1000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

KEPT: Final = 7 * DAY
THINNED: Final = ((3 * DAY, 10 * MINUTE), (DAY, 5 * MINUTE), (HOUR, MINUTE))
"""Milliseconds: what is older than the first is merged into one sample for each of the second. The oldest first."""
THIN_EVERY: Final = 10 * MINUTE

USUAL: Final = 10 * SECOND
"""The interval where none is set."""

PATIENCE: Final = 5.0
"""Seconds for the metrics collector to answer."""

COUNTERS: Final = {
    "received": "messages.received",
    "sent": "messages.sent",
    "dropped": "messages.dropped",
    "validation_succeeded": "messages.validation_succeeded",
    "validation_failed": "messages.validation_failed",
    "transformation_succeeded": "messages.transformation_succeeded",
    "transformation_failed": "messages.transformation_failed",
    "persisted": "messages.persisted",
}
"""What a sample counts, by its name there: how many there were since the sample before it."""

GAUGES: Final = {
    "subscriptions": "subscriptions.count",
    "topics": "topics.count",
    "connections": "connections.count",
    "live_connections": "live_connections.count",
}
"""What a sample shows as it was at that time."""


@frozen
class Sample:
    """`time_stamp` in milliseconds; `counted` and `gauges` in the order of `COUNTERS` and `GAUGES`."""

    time_stamp: int
    counted: tuple[int, ...]
    gauges: tuple[int, ...]


class History:
    """The samples of a week."""

    def __init__(self) -> None:
        self._samples: list[Sample] = []
        self._thinned_at = -math.inf

    def __len__(self) -> int:
        return len(self._samples)

    def add(self, sample: Sample) -> None:
        """The latest one. Those that are later, from before the clock was set back, are dropped."""
        samples = self._samples
        while samples and samples[-1].time_stamp > sample.time_stamp:
            samples.pop()
        if samples and samples[-1].time_stamp == sample.time_stamp:
            sample = _merged(samples.pop(), sample)
        samples.append(sample)
        # Not each time: it looks at all of them.
        if abs(sample.time_stamp - self._thinned_at) >= THIN_EVERY:
            self._thinned_at = sample.time_stamp
            self._thin(sample.time_stamp)

    def clear(self) -> None:
        self._samples.clear()

    def rows(self, since: int, interval: int) -> Iterator[Sample | int]:
        """The samples from the time `since` on, and the times at which one should be and is none; all as it is at the
        first step of the iteration.

        `interval`: milliseconds from one sample to the next, 0 while none are taken. A gap is told once,
        however long it is.
        """
        samples = list(self._samples)
        now = samples[-1].time_stamp if samples else 0
        before: int | None = None
        for sample in samples:
            stamp = sample.time_stamp
            if stamp < since:
                continue
            if before is not None:
                expected = max(interval or USUAL, _distance(now - before))
                # Where the distance changes two samples may be up to two of them apart.
                if stamp - before > 2 * expected:
                    yield before + expected
            yield sample
            before = stamp

    def _thin(self, now: int) -> None:
        kept: list[Sample] = []
        for sample in self._samples:
            age = now - sample.time_stamp
            if age >= KEPT:
                continue
            distance = _distance(age)
            if distance and kept and _mark(kept[-1].time_stamp, distance) == _mark(sample.time_stamp, distance):
                kept[-1] = _merged(kept[-1], sample)
            else:
                kept.append(sample)
        self._samples = kept


def _merged(earlier: Sample, later: Sample) -> Sample:
    """One for both, at the end of the time in which they were counted."""
    sums = tuple(one + other for one, other in zip(earlier.counted, later.counted, strict=True))
    return Sample(later.time_stamp, sums, later.gauges)


def _distance(age: int) -> int:
    """From one sample to the next when they are so old; 0 = as they were taken."""
    return next((distance for older, distance in THINNED if age >= older), 0)


def _mark(time_stamp: int, distance: int) -> int:
    """The mark at which the time ends that `time_stamp` lies in; a mark belongs to the time before it."""
    return -(-time_stamp // distance)


class Monitor:
    """Takes the samples, while its task runs."""

    def __init__(self, core: Core, interval: float) -> None:
        """`interval` in seconds; infinite = no samples."""
        self.core = core
        self.history = History()
        self._interval = interval
        self._changed = trio.Event()
        self._counted: Mapping[str, int] | None = None
        core.settings.watch("dashboard", self._set)

    @property
    def interval_ms(self) -> int:
        return 0 if math.isinf(self._interval) else int(self._interval * SECOND)

    def _set(self, _before: Config, after: Config) -> None:
        if after.dashboard.sample_interval != self._interval:
            self._interval = after.dashboard.sample_interval
            self._changed.set()

    def rows(self, latest: float = math.inf) -> Iterator[Sample | int]:
        """What is kept of the last seconds: see `History.rows`."""
        clock = self.core.clock
        since = clock.wall_ms(clock.now()) - int(min(latest * SECOND, KEPT))
        return self.history.rows(since, self.interval_ms)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            self._changed = trio.Event()
            if math.isinf(self._interval):
                self._counted = None  # what happens until it is switched on is not shown as if it came all at once
                await self._changed.wait()
            else:
                await self._sample_at_next_mark()

    async def _sample_at_next_mark(self) -> None:
        """Sleep until the wall clock shows a multiple of the interval; it may be set meanwhile, either way."""
        if self._counted is None:
            self._counted = await self._look(AskMetrics())
        clock = self.core.clock
        interval = self.interval_ms
        mark = (clock.wall_ms(clock.now()) // interval + 1) * interval
        with trio.CancelScope(deadline=clock.trio_time(mark)):
            await self._changed.wait()
            return
        now = clock.wall_ms(clock.now())
        # Trio's time is in floats, so that it may be a moment before the mark.
        reached = (now + 5) // interval * interval
        if reached > mark - interval:
            await self._sample(reached)
        elif mark - reached > 2 * interval:
            await self._sample(reached)  # the clock was set back: begin there
        else:
            await trio.sleep(0.01)

    async def _sample(self, time_stamp: int) -> None:
        counters, gauges = await self._look(AskMetrics()), await self._look(AskStats())
        if counters is None or gauges is None:
            return
        before = counters if self._counted is None else self._counted
        self._counted = counters
        counted = tuple(counters[name] - before[name] for name in COUNTERS.values())
        self.history.add(Sample(time_stamp, counted, tuple(gauges[name] for name in GAUGES.values())))

    async def _look(self, question: AskMetrics | AskStats) -> Mapping[str, int] | None:
        try:
            return await self.core.metrics.ask(question, PATIENCE)
        except (ActorGone, AskTimeout) as error:
            log.warning("a sample for the charts is left out: %s", error)
            return None
