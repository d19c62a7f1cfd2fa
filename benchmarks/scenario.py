"""What a scenario, a row of the table, a sample and a measuring site are.

Invariant: a scenario gives a `Sample` for each of its rows, on a broker process that no other scenario has touched.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from attrs import define, field

from benchmarks.brokers import Broker
from benchmarks.load import Background, Options, Report, run_load
from benchmarks.processes import Child

__all__ = ["Row", "Sample", "Samples", "Scenario", "Site", "absolute", "beside"]


@define(frozen=True)
class Row:
    """A row of the table."""

    key: str
    title: str
    unit: str
    floor: float
    aim: float | None
    higher_is_better: bool = True
    is_ratio: bool = True
    """Floor and aim are factors of the baseline's value; False: they are values in `unit`."""
    options: str = ""

    @property
    def is_comparable(self) -> bool:
        """Whether dividing two brokers' values says anything: the factors ("x") are a broker's own affair."""
        return self.unit != "x"

    def reaches(self, value: float, bound: float) -> bool:
        return value >= bound if self.higher_is_better else value <= bound


@define(frozen=True)
class Sample:
    """One measurement of one row."""

    value: float
    trouble: str = ""
    load_cpu: float | None = None
    """The generator's own share of its core: near 1 it, and not the broker, is what was measured."""
    broker_us: float | None = None
    """Processor time of the broker for one delivered message, in microseconds."""


@define(frozen=True)
class Site:
    """A running broker, and the means to put load on it."""

    broker: Child
    port: int
    folder: Path
    factor: float = 1.0
    file_limit: int = 1 << 20
    rest_port: int = 0
    """Where its REST API is; 0 = it has none, or the scenario did not ask for it."""

    def load(self, options: Options) -> Report:
        return run_load(options.scaled(self.factor), self.port, self.folder)

    def background(self, options: Options, niceness: int = 0) -> AbstractContextManager[Background]:
        return Background(options, self.port, self.folder, niceness)

    def idle_count(self, wanted: int) -> int:
        """How many connections to hold, within what the system lets the broker open."""
        return max(1, min(round(wanted * self.factor), self.file_limit - 1000))


Samples = dict[str, Sample]


@define(frozen=True)
class Scenario:
    """`measure` runs it on a fresh broker; `key` is what the command line calls it."""

    key: str
    rows: tuple[Row, ...]
    measure: Callable[[Site], Samples] = field(repr=False)
    version: int = 4
    """The protocol level it speaks."""
    rest: bool = False
    """It asks a REST API, so it is for brokers that have ours."""
    ours: bool = False
    """It is about our broker alone."""

    def suits(self, broker: Broker) -> bool:
        return self.version in broker.versions and (broker.rest is not None or not (self.rest or self.ours))


def absolute(key: str, title: str, unit: str, floor: float, aim: float | None, options: Options | None = None) -> Row:
    """A row with bounds of its own: less is better, and no other broker is needed to judge it."""
    words = " ".join(options.words()) if options else ""
    return Row(key, title, unit, floor, aim, higher_is_better=False, is_ratio=False, options=words)


def beside(alone: Report, loaded: Report, *others: str) -> Sample:
    """How many times its p99 alone a load has beside something else; `others` is what went wrong there."""
    troubles = ", ".join(filter(None, (alone.trouble, loaded.trouble, *others)))
    p99 = alone.number("p99_ms")
    return Sample(loaded.number("p99_ms") / p99 if p99 else 0.0, troubles, loaded.number("load_cpu"))
