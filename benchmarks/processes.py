"""Child processes that are measured: started alone on their core, and never left behind.

Invariant: when the `with` block around a `Child` ends, for whatever reason, its whole process group is gone.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from attrs import define, field

__all__ = ["BROKER", "LOAD", "Child", "free_port", "pinned", "raise_file_limit"]

BROKER, LOAD = 0, 1  # which end of the list of our cores a process is pinned to

_TICKS = os.sysconf("SC_CLK_TCK")


def pinned(argv: Sequence[str], side: int) -> list[str]:
    """`argv` behind a `taskset` to the first (BROKER) or last (LOAD) core we may use; as it is where that cannot be."""
    taskset = shutil.which("taskset")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if taskset is None or len(cores) < 2:
        return list(argv)
    return [taskset, "-c", str(cores[0] if side == BROKER else cores[-1]), *argv]


def raise_file_limit() -> int:
    """Let us and our children open as many files as the system grants; returns how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return (1 << 20) if hard == resource.RLIM_INFINITY else hard


def free_port() -> int:
    """A TCP port of the loopback address on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return cast(int, probe.getsockname()[1])


@define
class Child:
    """A process group of ours.

    `stdout` is for the caller to read where `capture` is set; else it goes to `log`, as standard error always does.
    """

    argv: list[str]
    log: Path
    side: int
    folder: Path | None = None
    environment: Mapping[str, str] = field(factory=dict)
    capture: bool = False
    niceness: int = 0
    _process: subprocess.Popen[str] | None = None
    _log_file: IO[str] | None = None

    def __enter__(self) -> Self:
        argv = pinned(self.argv, self.side)
        if self.niceness:
            argv = ["nice", "-n", str(self.niceness), *argv]
        self._log_file = self.log.open("a")
        self._process = subprocess.Popen(
            argv,
            cwd=self.folder,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if self.capture else self._log_file,
            stderr=self._log_file,
            start_new_session=True,  # Ctrl-C reaches us alone, and we end the children in order
            text=True,
        )
        return self

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        seen = os.WEXITED | os.WNOWAIT
        os.waitid(os.P_PID, self.process.pid, seen)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        process = self.process
        try:
            if process.poll() is None:
                process.terminate()
                deadline = time.monotonic() + 10.0
                # WNOWAIT leaves it unreaped, so that its group's number stays ours until the kill below.
                seen = os.WEXITED | os.WNOWAIT | os.WNOHANG
                while os.waitid(os.P_PID, process.pid, seen) is None and time.monotonic() < deadline:
                    time.sleep(0.01)
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
            if self._log_file is not None:
                self._log_file.close()

    @property
    def process(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RuntimeError("the process has not been started")
        return self._process

    @property
    def pid(self) -> int:
        # taskset and nice replace themselves by the program, so this is the program.
        return self.process.pid

    def read_line(self) -> str:
        """The next line of its standard output; "" when it has ended."""
        if self.process.stdout is None:
            raise RuntimeError("standard output is not captured")
        return self.process.stdout.readline()

    def tail(self, lines: int = 8) -> str:
        """The end of its log, for an error message."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def rss_kb(self) -> int:
        """Resident memory in KiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise RuntimeError(f"process {self.pid} has no memory: it has ended")

    def cpu_seconds(self) -> float:
        """User and system time of all its threads so far."""
        fields: list[Any] = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def wait_for_mqtt(self, port: int, *, patience: float = 20.0) -> None:
        """Return when a CONNECT on `port` is answered with a CONNACK; else RuntimeError with the log's end."""
        connect = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x00\x00\x05probe"
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=2.0) as probe:
                    probe.sendall(connect)
                    if probe.recv(4)[:1] == b"\x20":
                        probe.sendall(b"\xe0\x00")
                        return
            except OSError:
                time.sleep(0.02)  # not listening yet
        state = "does not answer" if self.process.poll() is None else f"ended with code {self.process.returncode}"
        raise RuntimeError(f"the broker {state}\n{self.tail()}")
