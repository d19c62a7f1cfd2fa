"""The end-to-end benchmark: our broker and its peers, each in a process of its own, in turns; a table and a plot.

    python benchmarks/run.py            # everything, five rounds; writes docs/performance-table.md and .svg
    python benchmarks/run.py --quick    # one short round, to see that it works
    python benchmarks/run.py --only 'pairs|latency' --brokers trio-broker,mosquitto

Invariant: one broker runs at a time, and its ratio to the baseline is taken within a round. Exit code: 0, or 1 when our
broker or the baseline lost a message or could not be measured, or 2 for a wrong option.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

from attrs import asdict, define

if __name__ == "__main__":  # so that `python benchmarks/run.py` finds the package (and not this folder's modules first)
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks import brokers as brokers_module
from benchmarks import load, plot, table
from benchmarks.brokers import BASELINE, OURS, ROOT, Broker
from benchmarks.processes import free_port, raise_file_limit
from benchmarks.scenario import Sample, Scenario, Site
from benchmarks.scenarios import SCENARIOS

__all__ = ["chosen_brokers", "exit_on_term", "main", "measure"]

RESULTS = ROOT / "benchmarks" / "results"


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measure trio-broker beside its peers.")
    parser.add_argument("--rounds", type=int, help="times every scenario is run (default 5; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="one short round: does it work?")
    parser.add_argument("--scale", type=float, default=1.0, help="factor for the number of messages and connections")
    parser.add_argument("--only", metavar="REGEX", help="scenarios in whose name this is found (see --list)")
    parser.add_argument("--brokers", metavar="LIST", help="comma-separated names; default: all that are installed")
    parser.add_argument("--list", action="store_true", help="show scenarios and brokers, and end")
    parser.add_argument(
        "--command",
        action="append",
        default=[],
        metavar="NAME=CMD",
        help="measure one more broker: what starts it, with {port} where its port goes",
    )
    parser.add_argument("--subject", metavar="NAME", help=argparse.SUPPRESS)
    docs = parser.add_mutually_exclusive_group()
    docs.add_argument("--docs", action="store_true", help="write into docs/ even if this is not a full run")
    docs.add_argument("--no-docs", action="store_true", help="write into benchmarks/results/ only")
    options = parser.parse_args(argv)
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.scale <= 0:
        parser.error("--scale must be above 0")
    try:
        options.only = re.compile(options.only or "")
    except re.error as error:
        parser.error(f"--only: {error}")
    return options


def chosen_brokers(names: str | None, commands: Sequence[str]) -> tuple[list[Broker], list[str]]:
    """The brokers to run, and what to tell about those left out. ValueError for a name that is unknown or missing."""
    known = {broker.name: broker for broker in brokers_module.known_brokers()}
    extra = {broker.name: broker for broker in map(brokers_module.custom, commands)}
    known |= extra
    if names is None:
        left_out = [f"{broker.name} is left out: {broker.missing}" for broker in known.values() if broker.missing]
        return [broker for broker in known.values() if not broker.missing], left_out
    ruled = brokers_module.ruled()  # asked for by name only: beside the others it would be ours twice
    known[ruled.name] = ruled
    chosen = []
    for name in [*filter(None, names.split(",")), *extra]:
        if name not in known:
            raise ValueError(f"unknown broker {name!r}; known are {', '.join(known)}")
        if known[name].missing:
            raise ValueError(f"{name} cannot be run here: {known[name].missing}")
        if known[name] not in chosen:
            chosen.append(known[name])
    return chosen, []


def measure(broker: Broker, scenario: Scenario, factor: float, file_limit: int) -> dict[str, Sample]:
    """One scenario on a fresh process; a broker that fails gives samples that say so."""
    with tempfile.TemporaryDirectory(prefix="trio-broker-bench-") as name:
        folder = Path(name)
        try:
            rest_port = free_port() if scenario.rest else 0
            with brokers_module.running(broker, folder, rest_port=rest_port) as (child, port):
                site = Site(child, port, folder, factor * broker.count_factor, file_limit, rest_port)
                # What a broker does once (imports, first allocations) is not what is measured.
                load.run_load(load.Options("pairs", 50, 2, 2, qos=1), port, folder)
                return scenario.measure(site)
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            return {row.key: Sample(0.0, f"failed: {error}") for row in scenario.rows}


@define
class Progress:
    """A line a step, with what it gave and when all will be done."""

    total: int
    done: int = 0
    spent: float = 0.0

    def step(self, scenario: Scenario, broker: Broker, seconds: float, samples: dict[str, Sample]) -> None:
        self.done += 1
        self.spent += seconds
        minutes, rest = divmod(round(self.spent / self.done * (self.total - self.done)), 60)
        shown = ", ".join(f"{table.number(samples[row.key].value)} {row.unit}" for row in scenario.rows)
        troubles = dict.fromkeys(sample.trouble for sample in samples.values() if sample.trouble)
        place = f"[{self.done:3}/{self.total}] {scenario.key:<12} {broker.name:<12}"
        print(f"{place} {shown}   ({seconds:.1f} s, ETA {minutes}:{rest:02})", file=sys.stderr, flush=True)
        for trouble in troubles:
            print(f"    ! {trouble}", file=sys.stderr, flush=True)


def machine() -> list[str]:
    """Where this was measured, as facts a reader can compare with theirs."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        model = found[1] if found else model
    return [f"{os.cpu_count()} cores, {model}", f"{platform.system()} {platform.release()}"]


def head_text(brokers: Sequence[Broker], rounds: int, factor: float) -> str:
    """What stands above the table in the file."""
    return "\n".join(
        [
            "<!-- Written by `make bench`; do not edit. How it is measured: performance.md. -->",
            f"Measured on {datetime.now(UTC):%Y-%m-%d} in {rounds} round{'s' if rounds > 1 else ''}"
            + (f", with {factor:g} times the usual counts" if factor != 1 else "")
            + f": {', '.join(machine())}.",
            "",
            *[f"* {broker.name}: {broker.version or 'version unknown'}" for broker in brokers],
            "",
            "",
        ]
    )


def exit_on_term(signal_number: int, frame: FrameType | None) -> NoReturn:
    """So that SIGTERM, like Ctrl-C, ends the children and removes the folders."""
    raise SystemExit(128 + signal_number)


def run_rounds(
    brokers: Sequence[Broker], scenarios: Sequence[Scenario], rounds: int, factor: float
) -> dict[tuple[int, str, str], Sample]:
    """Every scenario on every broker, in turns; who begins changes from round to round."""
    progress = Progress(rounds * sum(scenario.suits(broker) for scenario in scenarios for broker in brokers))
    file_limit = raise_file_limit()
    samples: dict[tuple[int, str, str], Sample] = {}
    for number in range(1, rounds + 1):
        first = (number - 1) % len(brokers)
        for scenario in scenarios:
            for broker in (*brokers[first:], *brokers[:first]):
                if not scenario.suits(broker):
                    continue
                began = time.monotonic()
                taken = measure(broker, scenario, factor, file_limit)
                progress.step(scenario, broker, time.monotonic() - began, taken)
                samples |= {(number, broker.name, key): sample for key, sample in taken.items()}
    return samples


def save(samples: dict[tuple[int, str, str], Sample]) -> None:
    """Keep the raw samples, for whoever wants to look closer."""
    RESULTS.mkdir(exist_ok=True)
    raw = [{"round": n, "broker": broker, "row": key, **asdict(sample)} for (n, broker, key), sample in samples.items()]
    (RESULTS / "samples.json").write_text(json.dumps(raw, indent=1) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    try:
        brokers, left_out = chosen_brokers(options.brokers, options.command)
        scenarios = [scenario for scenario in SCENARIOS if options.only.search(scenario.key)]
        if not scenarios:
            raise ValueError(f"no scenario is called like {options.only.pattern!r}")
    except ValueError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    if options.list:
        print("scenarios:", *[f"  {s.key:<14} {'; '.join(row.title for row in s.rows)}" for s in scenarios], sep="\n")
        print("brokers:", *[f"  {broker.name:<14} {broker.version}" for broker in brokers], sep="\n")
        print(*left_out, sep="\n")
        return 0
    signal.signal(signal.SIGTERM, exit_on_term)
    try:
        load.build()
    except RuntimeError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    print(*left_out, sep="\n", file=sys.stderr)
    rounds = options.rounds or (1 if options.quick else 5)
    factor = options.scale * (0.1 if options.quick else 1.0)
    names = [broker.name for broker in brokers]
    subject = options.subject or (OURS if OURS in names else next((n for n in names if n != BASELINE), BASELINE))
    try:
        samples = run_rounds(brokers, scenarios, rounds, factor)
    except KeyboardInterrupt:
        print("benchmarks: interrupted, all processes are gone", file=sys.stderr)
        return 130

    rows = [row for scenario in scenarios for row in scenario.rows]
    lines = table.summarise(rows, samples, subject, BASELINE)
    cells = table.rendered(lines, subject, BASELINE, names)
    notes = table.notes(lines)
    print(table.aligned(cells), *notes, sep="\n")
    save(samples)
    full = not options.quick and not options.only.pattern and options.scale == 1 and {OURS, BASELINE} <= set(names)
    folder = ROOT / "docs" if (full and not options.no_docs) or options.docs else RESULTS
    text = head_text(brokers, rounds, factor) + table.markdown(cells) + "".join(f"\n{note}\n" for note in notes)
    (folder / "performance-table.md").write_text(text)
    try:
        plot.draw(lines, subject, BASELINE, names, folder / "performance.svg")
    except ImportError:
        print("no plot: matplotlib is missing (pip install 'trio-broker[bench]')", file=sys.stderr)
    print(f"written to {folder.relative_to(ROOT)}/ and benchmarks/results/samples.json", file=sys.stderr)
    if table.has_losses(lines, (subject, BASELINE)):
        print(f"LOSSES at {subject} or {BASELINE}: see the notes in the table", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
