"""From samples to the table: medians, ratios round by round, verdicts, and the text of it.

Invariant: a ratio is made of two samples of one round, never of two medians; a sample with losses is shown, and marked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from attrs import define

from benchmarks.scenario import Row, Sample

__all__ = ["Cell", "Line", "Spread", "aligned", "has_losses", "markdown", "notes", "number", "rendered", "summarise"]

Key = tuple[int, str, str]
"""Round, broker, key of the row."""


@define(frozen=True)
class Spread:
    """Some values of one thing."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values))


@define(frozen=True)
class Cell:
    """What is known about one broker in one row."""

    value: Spread
    ratio: Spread | None
    """To the baseline; None for the baseline itself, or where it has no sample."""
    troubles: tuple[str, ...]
    load_cpu: float | None
    broker_us: float | None


@define(frozen=True)
class Line:
    """A row with the cells of all brokers that have samples of it, and the verdict on the one it is about."""

    row: Row
    cells: dict[str, Cell]
    verdict: str


def _middle(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _cell(samples: dict[int, Sample], baseline: dict[int, Sample] | None) -> Cell:
    # A round that failed altogether has no value; its trouble is told all the same.
    valued = {n: sample for n, sample in samples.items() if sample.value or not sample.trouble}
    ratios = []
    if baseline is not None:
        shared = valued.keys() & baseline.keys()
        ratios = [samples[n].value / baseline[n].value for n in sorted(shared) if baseline[n].value]
    return Cell(
        value=Spread.of([sample.value for sample in valued.values()] or [0.0]),
        ratio=Spread.of(ratios) if ratios else None,
        troubles=tuple(
            f"round {n}: {sample.trouble.splitlines()[0]}" for n, sample in sorted(samples.items()) if sample.trouble
        ),
        load_cpu=_middle(sample.load_cpu for sample in samples.values()),
        broker_us=_middle(sample.broker_us for sample in samples.values()),
    )


def _verdict(row: Row, cell: Cell | None) -> str:
    if cell is None:
        return "not measured"
    if cell.troubles:
        return "LOSSES"
    spread = cell.ratio if row.is_ratio else cell.value
    if spread is None:
        return "no ratio"
    if not row.reaches(spread.middle, row.floor):
        return "below floor"
    return "aim" if row.aim is not None and row.reaches(spread.middle, row.aim) else "floor"


def summarise(rows: Sequence[Row], samples: dict[Key, Sample], subject: str, baseline: str) -> list[Line]:
    """A line for each row that has a sample; `subject` is the broker the verdicts are about."""
    lines = []
    for row in rows:
        by_broker: dict[str, dict[int, Sample]] = {}
        for (number, broker, key), sample in samples.items():
            if key == row.key:
                by_broker.setdefault(broker, {})[number] = sample
        if not by_broker:
            continue
        cells = {
            broker: _cell(taken, by_broker.get(baseline) if broker != baseline and row.is_comparable else None)
            for broker, taken in by_broker.items()
        }
        lines.append(Line(row, cells, _verdict(row, cells.get(subject))))
    return lines


def has_losses(lines: Sequence[Line], brokers: Iterable[str]) -> bool:
    """Whether any of these brokers lost, refused or failed something: its figures are then worth nothing."""
    return any(line.cells[broker].troubles for line in lines for broker in brokers if broker in line.cells)


def number(value: float) -> str:
    """Three significant digits, and thousands with a k."""
    if value >= 1e6:
        return f"{value / 1e3:,.0f}k"
    if value >= 1e3:
        return f"{value / 1e3:.0f}k" if value >= 1e5 else f"{value / 1e3:.1f}k"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _bound(row: Row, value: float | None) -> str:
    if value is None:
        return ""
    mark = ">=" if row.higher_is_better else "<="
    return f"{mark} {value:g} {'x' if row.is_ratio else row.unit}"


def rendered(lines: Sequence[Line], subject: str, baseline: str, brokers: Sequence[str]) -> list[list[str]]:
    """The table as text cells, head first: the subject, the baseline, their ratio and bounds, then the others."""
    others = [broker for broker in brokers if broker not in (subject, baseline)]
    head = ["scenario", "unit", subject, baseline, "ratio (min..max)", "floor", "aim", "verdict"]
    head += [*others, "generator CPU", "broker µs"]
    table = [head]
    for line in lines:
        cell = line.cells.get(subject)
        ratio = cell.ratio if cell else None
        cells = [line.row.title, line.row.unit]
        cells += [_value(line.cells.get(name)) for name in (subject, baseline)]
        cells.append(f"{ratio.middle:.2f} ({ratio.low:.2f}..{ratio.high:.2f})" if ratio else "-")
        cells += [_bound(line.row, line.row.floor), _bound(line.row, line.row.aim), line.verdict]
        cells += [_other(line.cells.get(name)) for name in others]
        cells.append(f"{cell.load_cpu:.0%}" if cell and cell.load_cpu is not None else "")
        cells.append(f"{cell.broker_us:.2f}" if cell and cell.broker_us is not None else "")
        table.append(cells)
    return table


def _value(cell: Cell | None) -> str:
    return "-" if cell is None else number(cell.value.middle) + (" !" if cell.troubles else "")


def _other(cell: Cell | None) -> str:
    return f"{_value(cell)} ({cell.ratio.middle:.2f} x)" if cell and cell.ratio else _value(cell)


def notes(lines: Sequence[Line]) -> list[str]:
    """What is behind each `!` of the table."""
    return [
        f"! {line.row.title}, {broker}, {text}"
        for line in lines
        for broker, cell in line.cells.items()
        for text in cell.troubles
    ]


def markdown(table: Sequence[Sequence[str]]) -> str:
    """A Markdown table; a bar in a cell is escaped."""
    rows = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
    return "\n".join([rows[0], "|" + "---|" * len(table[0]), *rows[1:]]) + "\n"


def aligned(table: Sequence[Sequence[str]]) -> str:
    """For a terminal: columns in line, and those which are empty in every row left out."""
    kept = [i for i in range(len(table[0])) if any(row[i] for row in table[1:])]
    widths = {i: max(len(row[i]) for row in table) for i in kept}
    return "\n".join("  ".join(row[i].ljust(widths[i]) for i in kept).rstrip() for row in table) + "\n"
