"""The picture of the table: each row's ratio to the baseline on a logarithmic axis, with its spread and its floor.

Invariant: to the right of the line at 1 is always better; where less is better (latency, memory), the inverse is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.table import Cell, Line, Spread

__all__ = ["better", "draw"]

_COLOURS = ("#1f6f8b", "#e08e45", "#8a8a8a", "#b3554d", "#6a8f4f")


def better(line: Line, cell: Cell) -> Spread | None:
    """The cell's ratio, turned so that more is better; None where there is nothing to draw."""
    ratio = cell.ratio
    if ratio is None or ratio.low <= 0:
        return None
    if line.row.higher_is_better:
        return ratio
    return Spread(1 / ratio.middle, 1 / ratio.high, 1 / ratio.low)


def draw(lines: Sequence[Line], subject: str, baseline: str, brokers: Sequence[str], path: Path) -> None:
    """Write an SVG file. ImportError where matplotlib is missing (the `bench` extra brings it)."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "trio-broker"  # the same table gives the same file
    from matplotlib import pyplot

    names = [name for name in (subject, *brokers) if name != baseline]
    names = list(dict.fromkeys(names))
    shown = [line for line in lines if any(better(line, cell) for cell in line.cells.values())]
    if not shown:
        return
    figure, axes = pyplot.subplots(figsize=(9, 1.5 + 0.22 * len(shown) * (len(names) + 0.6)))
    height = 0.8 / len(names)
    for slot, name in enumerate(names):
        drawn = [
            (place, spread)
            for place, line in enumerate(shown)
            if name in line.cells and (spread := better(line, line.cells[name])) is not None
        ]
        places = [place + (slot - (len(names) - 1) / 2) * height for place, _ in drawn]
        middles = [spread.middle for _, spread in drawn]
        errors = [[s.middle - s.low for _, s in drawn], [s.high - s.middle for _, s in drawn]]
        axes.barh(places, middles, height * 0.9, xerr=errors, label=name, color=_COLOURS[slot % len(_COLOURS)])
    floors = [(place, line.row) for place, line in enumerate(shown) if line.row.is_ratio]
    bounds = [row.floor if row.higher_is_better else 1 / row.floor for _, row in floors]
    axes.scatter(bounds, [place for place, _ in floors], marker="|", s=260, color="black", label="floor", zorder=3)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(shown)), [line.row.title for line in shown])
    axes.invert_yaxis()
    axes.set_xlabel(f"times {baseline} (median and range of the rounds; right of 1 is better)")
    axes.legend(loc="best", fontsize="small")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
