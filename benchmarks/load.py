"""The load generator: built when it is missing or older than its source, and run on the core the broker has not.

Invariant: a `Report` is what one run of `mqttload` printed; what was lost is in words in `trouble`, never left out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from attrs import define, evolve

from benchmarks.processes import LOAD, Child

__all__ = ["Background", "Options", "Report", "build", "build_library", "run_load", "trouble_in"]

SOURCE = Path(__file__).with_name("mqttload.c")
PROGRAM = SOURCE.with_suffix("")


def build() -> None:
    """Compile `mqttload` if needed; RuntimeError if there is no C compiler or it refuses."""
    if PROGRAM.exists() and PROGRAM.stat().st_mtime >= SOURCE.stat().st_mtime:
        return
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        raise RuntimeError("the load generator needs a C compiler (Debian: apt install gcc libc6-dev)")
    done = subprocess.run(
        [compiler, "-O2", "-o", str(PROGRAM), str(SOURCE)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{SOURCE.name} does not compile:\n{done.stderr}")


def build_library(name: str) -> Path:
    """Compile `name.c` of this folder to a library that can be loaded before others."""
    source = SOURCE.with_name(f"{name}.c")
    library = source.with_suffix(".so")
    if not library.exists() or library.stat().st_mtime < source.stat().st_mtime:
        compiler = shutil.which(os.environ.get("CC", "cc"))
        if compiler is None:
            raise RuntimeError(f"{source.name} needs a C compiler (Debian: apt install gcc libc6-dev)")
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"], check=True)
    return library


@define(frozen=True)
class Options:
    """What `mqttload` is asked for; the head of mqttload.c explains the words."""

    mode: str
    count: int
    publishers: int = 1
    subscribers: int = 1
    qos: int = 0
    window: int = 20
    rate: int = 0
    version: int = 4
    seconds: float = 60.0
    prefix: str = "load"
    persistent: bool = False
    """The subscribers' sessions outlive their connections."""

    def scaled(self, factor: float) -> Options:
        """The same with `factor` times the messages, at least one."""
        return evolve(self, count=max(1, round(self.count * factor)))

    def words(self) -> list[str]:
        """The options as the reader of a table would type them: defaults left out."""
        words = ["-m", self.mode]
        if self.mode not in ("connect", "idle", "replay"):
            words += ["-P", str(self.publishers)]
            words += ["-S", str(self.subscribers)] if self.mode != "retain" else []
            words += ["-q", str(self.qos)]
        words += ["-n", str(self.count)]
        words += ["-w", str(self.window)] if self.window != 20 else []
        words += ["-r", str(self.rate)] if self.rate else []
        words += ["-V", str(self.version)] if self.version != 4 else []
        words += ["-t", self.prefix] if self.prefix != "load" else []
        words += ["-C"] if self.persistent else []
        return words

    def argv(self, port: int) -> list[str]:
        return [str(PROGRAM), "-p", str(port), *self.words(), "-d", f"{self.seconds:g}"]


@define(frozen=True)
class Report:
    """The figures of one run, by the names `mqttload` prints."""

    figures: dict[str, Any]
    trouble: str
    """What went wrong, for the table: lost messages, refused connections; empty if nothing did."""

    def number(self, name: str) -> float:
        """A figure; 0 where the run ended too early to print any."""
        return float(self.figures.get(name, 0.0))


def trouble_in(figures: dict[str, Any], code: int) -> str:
    """What a run's figures and exit code say about losses, in words; empty if all arrived."""
    found = []
    if "received" in figures:
        missing = figures["expected"] - figures["received"] + figures.get("duplicates", 0)
        if missing > 0:
            found.append(f"LOST {missing} of {figures['expected']}")
        if figures["qos"] and figures["acked"] < figures["sent"]:
            found.append(f"{figures['sent'] - figures['acked']} not acknowledged")
    if figures.get("short"):
        found.append(f"LOST {figures['short']} of {figures['expected']}")
    for name in ("misordered", "refused", "failed", "dropped"):
        if figures.get(name):
            found.append(f"{figures[name]} {name}")
    if code and not found:
        found.append(f"the load generator ended with code {code}")
    return ", ".join(found)


def _report(line: str, code: int, log: str) -> Report:
    if not line.strip():
        return Report({}, f"no figures, code {code}: {log.strip() or 'nothing said'}")
    figures: dict[str, Any] = json.loads(line)
    return Report(figures, trouble_in(figures, code))


def run_load(options: Options, port: int, folder: Path) -> Report:
    """Run to the end. Standard error of the generator is in `folder`/load.log."""
    log = folder / "load.log"
    log.unlink(missing_ok=True)
    with Child(options.argv(port), log, LOAD, capture=True) as child:
        line = child.read_line()
        code = child.process.wait(options.seconds + 60.0)
        return _report(line, code, child.tail())


@define
class Background:
    """A run that goes on while others are measured (held connections, retained messages asked for over and over)."""

    options: Options
    port: int
    folder: Path
    niceness: int = 0
    _child: Child | None = None

    def __enter__(self) -> Self:
        log = self.folder / f"load-{self.options.mode}.log"
        self._child = Child(self.options.argv(self.port), log, LOAD, capture=True, niceness=self.niceness)
        self._child.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.child.__exit__(kind, error, traceback)

    @property
    def child(self) -> Child:
        if self._child is None:
            raise RuntimeError("the run has not been started")
        return self._child

    def ready(self) -> Report:
        """Wait for the line an idle run prints when all its connections are up."""
        line = self.child.read_line()
        return _report(line, 0 if line else self.child.process.wait(5), self.child.tail())

    def finish(self) -> Report:
        """Ask it to end, and read its last line."""
        self.child.process.terminate()
        line = self.child.read_line()
        return _report(line, self.child.process.wait(10), self.child.tail())
