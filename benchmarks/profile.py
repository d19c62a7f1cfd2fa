"""Where the time goes: our broker under a profiler while a scenario runs, and its functions by their own time.

    python benchmarks/profile.py pairs-q0                    # py-spy: samples, the broker keeps its speed
    python benchmarks/profile.py sparse-1000 --with cprofile # counts every call, at several times the cost
    python benchmarks/profile.py connects --with perf        # the C functions below Python (needs perf)
    python benchmarks/profile.py pairs-q1 --flame flame.svg  # py-spy, drawn

Invariant: the profile covers the broker under load; its start and its end are outside with py-spy and perf.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

if __name__ == "__main__":  # this folder must not be where `import profile` of the standard library looks
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks import load
from benchmarks.brokers import Broker, running
from benchmarks.processes import Child, raise_file_limit
from benchmarks.run import chosen_brokers, exit_on_term
from benchmarks.scenario import Sample, Scenario, Site
from benchmarks.scenarios import SCENARIOS

__all__ = ["main", "own_and_total"]


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="profile", description="Profile the broker while a scenario runs.")
    parser.add_argument("scenario", choices=[scenario.key for scenario in SCENARIOS])
    parser.add_argument("--with", dest="tool", choices=["py-spy", "cprofile", "perf"], help="default: py-spy if found")
    parser.add_argument("--seconds", type=float, default=5.0, help="repeat the scenario for at least this long")
    parser.add_argument("--scale", type=float, default=1.0, help="factor for the number of messages")
    parser.add_argument("--top", type=int, default=35, metavar="N", help="how many functions to print")
    parser.add_argument("--by", choices=["own", "total"], default="own", help="own time, or with what was called")
    parser.add_argument("--lines", action="store_true", help="py-spy: by source line instead of by function")
    parser.add_argument("--flame", type=Path, metavar="FILE", help="py-spy: write a flame graph (SVG) instead")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="keep the raw profile (cprofile: for pstats)")
    parser.add_argument("--broker", default="trio-broker", help=argparse.SUPPRESS)
    parser.add_argument("--command", action="append", default=[], metavar="NAME=CMD", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.flame and options.tool not in (None, "py-spy"):
        parser.error("--flame is drawn by py-spy")
    return options


def find_tool(name: str) -> str | None:
    """The program beside our interpreter (a virtual environment that is not activated), or on the PATH."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def drive(scenario: Scenario, site: Site, seconds: float) -> list[dict[str, Sample]]:
    """Run it again and again on the same broker until the time is over."""
    until = time.monotonic() + seconds
    taken = [scenario.measure(site)]
    while time.monotonic() < until:
        taken.append(scenario.measure(site))
    return taken


@contextmanager
def attached(argv: Sequence[str], log: Path) -> Iterator[None]:
    """A profiler that looks at the broker while the block runs, and writes its file at SIGINT."""
    with log.open("w") as output:
        # In a group of its own: Ctrl-C is for us, who then end it.
        process = subprocess.Popen(argv, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            time.sleep(0.5)
            if process.poll() is not None:
                raise RuntimeError(f"{argv[0]} cannot look at the broker:\n{log.read_text()[-2000:]}")
            yield
            process.send_signal(signal.SIGINT)
            process.wait(60)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def own_and_total(stacks: Iterable[str]) -> tuple[Counter[str], Counter[str]]:
    """Samples of each function as the innermost one, and anywhere on the stack, from `outer;inner count` lines."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for line in stacks:
        stack, _, count = line.rstrip().rpartition(" ")
        if stack:
            frames = stack.split(";")
            own[frames[-1]] += int(count)
            for frame in set(frames):
                total[frame] += int(count)
    return own, total


def print_stacks(path: Path, by: str, top: int) -> None:
    own, total = own_and_total(path.read_text().splitlines())
    samples = sum(own.values()) or 1
    print(f"{samples} samples\n    own   total  function")
    for frame, _ in (own if by == "own" else total).most_common(top):
        print(f"{own[frame] / samples:7.1%} {total[frame] / samples:7.1%}  {_short(frame)}")


def _short(frame: str) -> str:
    """The path of a frame without the machine's part."""
    return re.sub(r"\((?:.*/)?((?:[^/]+/){0,2}[^/]+\.py)", r"(\1", frame)


def print_calls(path: Path, by: str, top: int) -> None:
    import pstats

    stats = pstats.Stats(str(path))
    stats.sort_stats("tottime" if by == "own" else "cumulative")
    # pstats prints whole paths; the last parts are what one looks for.
    rows = []
    for place in stats.fcn_list[:top]:  # type: ignore[attr-defined]
        file, line, name = place
        _, calls, own, total, _ = stats.stats[place]  # type: ignore[attr-defined]
        shown = name if file == "~" else f"{name} ({'/'.join(Path(file).parts[-3:])}:{line})"
        rows.append(f"{own:8.3f} {total:8.3f} {calls:>10,} {own / calls * 1e6:9.2f}  {shown}")
    print(f"     own    total      calls   own µs/call  function   ({stats.total_tt:.2f} s in all)")  # type: ignore[attr-defined]
    print(*rows, sep="\n")


def profiled(options: argparse.Namespace, tool: str, broker: Broker, folder: Path) -> list[dict[str, Sample]]:
    """Run the scenario under `tool` and print what it found."""
    scenario = next(scenario for scenario in SCENARIOS if scenario.key == options.scenario)
    raw = folder / "profile.raw"
    wrap = ["-m", "cProfile", "-o", str(raw)] if tool == "cprofile" else []
    program = find_tool(tool) if tool != "cprofile" else sys.executable
    if program is None:
        raise RuntimeError(f"{tool} is not installed")
    limit = raise_file_limit()
    with running(broker, folder, wrap) as (child, port):
        site = Site(child, port, folder, options.scale, limit)
        load.run_load(load.Options("pairs", 50, 2, 2, qos=1), port, folder)
        if tool == "cprofile":
            taken = drive(scenario, site, options.seconds)
            end_gently(child)
        else:
            pid = str(child.pid)
            argv = [program, "record", "-p", pid, "-o", str(raw), "-r", "500", "-d", "3600", "-f", "raw"]
            argv += [] if options.lines else ["--function"]
            if options.flame:
                argv = [program, "record", "-p", pid, "-o", str(options.flame.absolute()), "-r", "500", "-d", "3600"]
            if tool == "perf":
                argv = [program, "record", "-F", "999", "-g", "-p", pid, "-o", str(raw)]
            with attached(argv, folder / "profiler.log"):
                taken = drive(scenario, site, options.seconds)
    show(options, tool, program, raw)
    return taken


def end_gently(child: Child) -> None:
    """SIGINT, on which a Python program unwinds and cProfile writes its file."""
    os.kill(child.pid, signal.SIGINT)
    try:
        child.process.wait(30)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"the broker does not end at SIGINT, so there is no profile:\n{child.tail()}") from None


def show(options: argparse.Namespace, tool: str, program: str, raw: Path) -> None:
    if options.flame:
        print(f"flame graph: {options.flame}")
        return
    if tool == "cprofile":
        print_calls(raw, options.by, options.top)
    elif tool == "py-spy":
        print_stacks(raw, options.by, options.top)
    else:
        words = ["report", "-i", str(raw), "--stdio", "-g", "none"]
        words.append("--no-children" if options.by == "own" else "--children")
        report = subprocess.run([program, *words], capture_output=True, text=True, check=True).stdout.splitlines()
        print(*[line for line in report if line and not line.startswith("#")][: options.top], sep="\n")
    if options.keep:
        shutil.copy(raw, options.keep)
        print(f"raw profile: {options.keep}")


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    signal.signal(signal.SIGTERM, exit_on_term)
    tool = options.tool or ("py-spy" if options.flame or find_tool("py-spy") else "cprofile")
    try:
        load.build()
        brokers, _ = chosen_brokers("" if options.command else options.broker, options.command)
        with tempfile.TemporaryDirectory(prefix="trio-broker-profile-") as name:
            taken = profiled(options, tool, brokers[0], Path(name))
    except (RuntimeError, ValueError, subprocess.SubprocessError) as error:
        print(f"profile: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"\n{len(taken)} runs under {tool}:")
    for samples in taken[:10]:
        shown = [f"{key} {s.value:,.2f}" + (f" ! {s.trouble}" if s.trouble else "") for key, s in samples.items()]
        cost = [f"broker {s.broker_us:.2f} µs/msg" for s in samples.values() if s.broker_us is not None]
        print("  " + ", ".join(shown + cost))
    return 0


if __name__ == "__main__":
    sys.exit(main())
