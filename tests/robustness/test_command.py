"""The command itself, as a process: readiness, signals, exit codes, and one line for what the user can mend."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import define
from robustness.scene import connect_bytes

from cases.wire import raw
from trio_broker.protocol.packets import Will

# Enough for a start on a machine with much else to do (seconds).
DEADLINE = 60.0
NO_REST = "dashboard.listeners.http.enable=false"


@define
class Started:
    process: subprocess.Popen[str]
    port: int
    notified: socket.socket

    def ends(self) -> tuple[int, list[str]]:
        """Exit code and the lines of standard error."""
        _, errors = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, errors.splitlines()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def options(port: int, tmp_path: Path, *more: str) -> list[str]:
    settings = [
        f"listeners.tcp.default.bind=127.0.0.1:{port}",
        "listeners.ws.default.enable=false",
        f"node.data_dir={tmp_path / 'data'}",
        "store.durability=memory",
        NO_REST,
        *more,
    ]
    return [part for setting in settings for part in ("--set", setting)]


@contextmanager
def started(tmp_path: Path, *more: str, program: str = "") -> Iterator[Started]:
    """The command, ready as it said itself. `program`: Python that runs before it, in its process."""
    path = str(tmp_path / "notify")
    port = free_port()
    source = f"{program}\nimport sys\nfrom trio_broker.cli import main\nsys.exit(main())"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(path)
        notified.settimeout(DEADLINE)
        with subprocess.Popen(
            [sys.executable, "-c", source, *options(port, tmp_path, *more)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "NOTIFY_SOCKET": path},
        ) as process:
            try:
                assert notified.recv(100) == b"READY=1"
                yield Started(process, port, notified)
            finally:
                process.kill()


def run_to_end(arguments: list[str]) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-m", "trio_broker", *arguments], capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def read_all(sock: socket.socket) -> bytes:
    said = b""
    while data := sock.recv(4096):
        said += data
    return said


def test_ready_then_sigterm_is_exit_code_0(tmp_path: Path) -> None:
    with started(tmp_path) as it:
        with socket.create_connection(("127.0.0.1", it.port), DEADLINE) as sock:  # READY=1 means: it listens
            sock.sendall(connect_bytes("c"))
            assert sock.recv(1)
            it.process.send_signal(signal.SIGTERM)
            assert it.notified.recv(100) == b"STOPPING=1"
            assert read_all(sock).endswith(raw("E0 01 8B"))
        code, lines = it.ends()
        assert code == 0
        assert not any("Traceback" in line or "ERROR" in line for line in lines)
        with socket.socket() as sock:  # the port is free
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", it.port))


def test_sigint_is_a_graceful_end_too(tmp_path: Path) -> None:
    with started(tmp_path) as it:
        it.process.send_signal(signal.SIGINT)
        code, lines = it.ends()
        assert code == 0
        assert not any("Traceback" in line for line in lines)


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(first: signal.Signals, tmp_path: Path) -> None:
    """Both are there before it looks: a client that holds on would keep it for a second otherwise."""
    with started(tmp_path, "shutdown_timeout=1h") as it:
        with socket.create_connection(("127.0.0.1", it.port), DEADLINE) as sock:
            sock.sendall(connect_bytes("c"))
            assert sock.recv(1)
            it.process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, it.process.pid, os.WSTOPPED | os.WNOWAIT)
            it.process.send_signal(first)
            it.process.send_signal(signal.SIGINT if first == signal.SIGTERM else signal.SIGTERM)
            it.process.send_signal(signal.SIGCONT)
            code, lines = it.ends()
        assert code == 1
        assert any("ending at once" in line for line in lines)
        assert not any("Traceback" in line for line in lines)


def test_a_taken_port_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, lines = run_to_end(options(port, tmp_path, "log.level=warning"))
    assert code == 1
    (line,) = lines
    assert "tcp:default" in line
    assert str(port) in line


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--set", "mqtt.max_inflght=1"], "mqtt.max_inflight"),
        (["--set", "mqtt.max_inflight=many"], "many"),
        (["--config", "/nowhere/broker.toml"], "/nowhere/broker.toml"),
        (["--frobnicate"], "--frobnicate"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], named: str) -> None:
    code, lines = run_to_end(arguments)
    assert code == 2
    (line,) = lines
    assert named in line


def test_an_unknown_key_in_a_file_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "broker.toml"
    path.write_text("[mqtt]\nmax_inflght = 3\n")
    code, lines = run_to_end(["--config", str(path)])
    assert code == 2
    (line,) = lines
    assert "max_inflght" in line
    assert "mqtt.max_inflight" in line
    assert str(path) in line


FAULTY_ROUTER = """
from trio_broker.routing.routing_table import RoutingTable
match = RoutingTable.match
def faulty(self, topic_name):
    if topic_name == "boom":
        raise RuntimeError("the table is broken")
    return match(self, topic_name)
RoutingTable.match = faulty
"""


def test_a_fault_in_the_core_is_a_clear_line_and_exit_code_1(tmp_path: Path) -> None:
    with started(tmp_path, program=FAULTY_ROUTER) as it:
        with socket.create_connection(("127.0.0.1", it.port), DEADLINE) as sock:
            sock.sendall(connect_bytes("c", will=Will("will", b"gone")) + raw("30 07 00 04 62 6F 6F 6D 00"))
            code, lines = it.ends()
        assert code == 1
        errors = [line for line in lines if " ERROR " in line]
        assert len(errors) == 1
        assert "RuntimeError: the table is broken" in errors[0]
        assert any(line.startswith("Traceback") for line in lines)


def test_an_attack_is_a_few_lines_with_their_number(tmp_path: Path) -> None:
    with started(tmp_path, "log.rate_limit=5") as it:
        for _ in range(100):
            with socket.create_connection(("127.0.0.1", it.port), DEADLINE) as sock:
                sock.sendall(b"\0garbage")
                assert read_all(sock) == b""
        it.process.send_signal(signal.SIGTERM)
        code, lines = it.ends()
        assert code == 0
        assert len(lines) < 30
        assert any("suppressed 95 similar" in line for line in lines)
