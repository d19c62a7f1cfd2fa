"""Families of figures, and how they are written: the text that Prometheus reads, and JSON.

Invariant: a name goes out exactly as it stands in its family. EMQX's counters have no `_total` at their end, and
dashboards made for EMQX look for them without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from attrs import frozen
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

__all__ = ["TEXT", "Family", "Groups", "counter", "exposition", "gauge", "json_rows", "labelled"]

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
"""The content type of the text."""

Kind = Literal["counter", "gauge"]

# The library writes the heads of a counter, not its samples, with `_total`.
_HEADS: Final = re.compile(r"(?m)^# HELP (\S+)_total (.*)\n# TYPE \1_total counter$")


@frozen
class Family:
    """Samples of one name: each its labels and its value."""

    name: str
    kind: Kind
    help: str
    samples: Sequence[tuple[Mapping[str, str], float]]


Groups = dict[str, list[Family]]
"""Families by the part of the JSON form they stand in; parts that begin with `_` are in the text only."""


def counter(name: str, help: str, value: float, labels: Mapping[str, str]) -> Family:
    return Family(name, "counter", help, [(labels, value)])


def gauge(name: str, help: str, value: float, labels: Mapping[str, str]) -> Family:
    return Family(name, "gauge", help, [(labels, value)])


def labelled(
    prefix: str,
    kinds: Mapping[str, Kind],
    label: str,
    rows: Mapping[str, Mapping[str, float]],
    labels: Mapping[str, str],
) -> list[Family]:
    """One family for each of `kinds` (`PREFIX_NAME`), in it a sample for each row; `label` says which row it is."""
    return [
        Family(
            f"{prefix}_{name}",
            kind,
            f"By {label}: {name.replace('_', ' ')}",
            [({label: row, **labels}, figures[name]) for row, figures in rows.items() if name in figures],
        )
        for name, kind in kinds.items()
    ]


class _Snapshot(Collector):
    """What was collected for one request: several may be under way."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            metric = Metric(family.name, family.help, family.kind)
            for labels, value in family.samples:
                metric.add_sample(family.name, dict(labels), value)
            yield metric


def exposition(families: Iterable[Family]) -> str:
    """The text form. The registry is one of its own: nothing of this process but these families is in it."""
    registry = CollectorRegistry()
    registry.register(_Snapshot(families))
    return _HEADS.sub(r"# HELP \1 \2\n# TYPE \1 counter", generate_latest(registry).decode())


def json_rows(families: Iterable[Family]) -> list[dict[str, Any]]:
    """One object for each set of labels: the labels, then the figures by their names."""
    rows: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for family in families:
        for labels, value in family.samples:
            rows.setdefault(tuple(labels.items()), dict(labels))[family.name] = value
    return list(rows.values())
