"""Where the microseconds of a message go: one line a scenario, in the broker's own processor time.

    python benchmarks/budget.py pairs-q0 sparse-100 connects

Invariant: the parts of a line add up to the processor time the scenario took. perf tells the kernel and the garbage
collector from the interpreter, py-spy (while the interpreter is held) whose Python code it was running.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

if __name__ == "__main__":  # this folder must not be where `import profile` of the standard library looks
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks import load
from benchmarks.brokers import OURS, known_brokers, running
from benchmarks.processes import raise_file_limit
from benchmarks.profile import attached, drive, find_tool
from benchmarks.scenario import Scenario, Site
from benchmarks.scenarios import SCENARIOS

__all__ = ["PARTS", "budget", "line", "main", "native_shares", "part_of", "python_shares"]

PLACES = (
    ("protocol/encode", "encode"),
    ("session/frames", "encode"),
    ("trio_broker/protocol/", "decode"),
    ("trio_broker/routing/", "route"),
    ("actors/router", "route"),
    ("trio_broker/session/", "deliver"),
    ("actors/session_", "deliver"),
    ("actors/acknowledger", "deliver"),
    ("trio_broker/", "actors"),
    ("trio/_", "Trio"),
    ("outcome/_", "Trio"),
)
"""The first that is in a frame's path names its part."""
PARTS = ("decode", "route", "deliver", "encode", "actors", "Trio", "system calls", "garbage", "other")
COLLECTOR = ("gc_collect", "deduce_unreachable", "visit_reachable", "visit_decref", "subtract_refs", "update_refs")
"""In the names of the C functions that only the garbage collector runs; it calls `*_traverse` besides."""


def part_of(frame: str) -> str:
    """`function (path/to/file.py)`, as py-spy writes it."""
    return next((part for place, part in PLACES if place in frame), "other")


def python_shares(stacks: Iterable[str]) -> dict[str, float]:
    """Each part's share of the samples, by the innermost frame that is ours or Trio's."""
    found: Counter[str] = Counter()
    for stack in stacks:
        frames, _, count = stack.rstrip().rpartition(" ")
        if frames:
            parts = [part_of(frame) for frame in frames.split(";")]
            found[next((part for part in reversed(parts) if part != "other"), "other")] += int(count)
    samples = sum(found.values()) or 1
    return {part: count / samples for part, count in found.items()}


def native_shares(report: Iterable[str]) -> tuple[float, float]:
    """Of the kernel and of the garbage collector, from `perf report --sort dso,symbol`: `12.3%  [kernel]  [k] name`."""
    kernel = garbage = 0.0
    for row in report:
        words = row.split()
        if len(words) < 4 or not words[0].endswith("%"):
            continue
        share = float(words[0].rstrip("%")) / 100
        name = " ".join(words[3:])
        if words[2] == "[k]":
            kernel += share
        elif any(it in name for it in COLLECTOR) or name.endswith("_traverse"):
            garbage += share
    return kernel, garbage


def line(microseconds: float, kernel: float, garbage: float, python: dict[str, float]) -> dict[str, float]:
    """Microseconds of each part."""
    rest = max(0.0, 1.0 - kernel - garbage)
    parts = {part: python.get(part, 0.0) * rest * microseconds for part in PARTS}
    parts["system calls"] = kernel * microseconds
    parts["garbage"] = garbage * microseconds
    return parts


def _under(tool: Sequence[str], scenario: Scenario, seconds: float, folder: Path) -> list[float]:
    """The broker's microseconds a message, run by run, while `tool` (with PID for the process) looks on."""
    broker = next(broker for broker in known_brokers() if broker.name == OURS)
    limit = raise_file_limit()
    with running(broker, folder) as (child, port):
        site = Site(child, port, folder, 1.0, limit)
        load.run_load(load.Options("pairs", 50, 2, 2, qos=1), port, folder)
        with attached([str(child.pid) if word == "PID" else word for word in tool], folder / "profiler.log"):
            taken = drive(scenario, site, seconds)
    samples = [sample for samples in taken for sample in samples.values()]
    troubles = [sample.trouble for sample in samples if sample.trouble]
    if troubles:
        raise RuntimeError(f"{scenario.key}: {troubles[0]}")
    return [sample.broker_us for sample in samples if sample.broker_us is not None]


def budget(scenario: Scenario, seconds: float) -> tuple[float, dict[str, float]]:
    """Microseconds a message, in all and of each part. RuntimeError where a profiler is missing or may not look."""
    perf, spy = find_tool("perf"), find_tool("py-spy")
    if perf is None or spy is None:
        raise RuntimeError(f"{'perf' if perf is None else 'py-spy'} is not installed")
    with tempfile.TemporaryDirectory(prefix="trio-broker-budget-") as name:
        folder = Path(name)
        raw = str(folder / "profile.raw")
        spent = _under([perf, "record", "-F", "999", "-p", "PID", "-o", raw], scenario, seconds, folder)
        words = [perf, "report", "-i", raw, "--stdio", "--sort", "dso,symbol"]
        report = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        tool = [spy, "record", "-p", "PID", "-o", raw, "-r", "500", "-d", "3600", "-f", "raw", "--function", "--gil"]
        _under(tool, scenario, seconds, folder)
        python = python_shares(Path(raw).read_text().splitlines())
    microseconds = median(spent)
    return microseconds, line(microseconds, *native_shares(report.splitlines()), python)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="budget", description="Where the microseconds of a message go.")
    parser.add_argument("scenarios", nargs="+", choices=[scenario.key for scenario in SCENARIOS], metavar="SCENARIO")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each of the two profilers (default: 5)")
    options = parser.parse_args(argv)
    load.build()
    print(f"| scenario | {' | '.join(PARTS)} | all, µs |\n|---{'|---' * len(PARTS)}|---|")
    for key in options.scenarios:
        scenario = next(scenario for scenario in SCENARIOS if scenario.key == key)
        try:
            microseconds, parts = budget(scenario, options.seconds)
        except (RuntimeError, subprocess.SubprocessError) as error:
            print(f"budget: {error}", file=sys.stderr)
            return 1
        print(f"| `{key}` | {' | '.join(f'{parts[part]:.2f}' for part in PARTS)} | {microseconds:.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
