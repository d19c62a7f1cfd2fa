"""The command as a process: ready, served, ended; and what cannot be opened."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

import trio_broker

NOBODY_WAITS_SO_LONG = 60.0
"""Seconds: no test needs them; they end one that would hang."""

FREE_PORTS = (
    "--set=listeners.tcp.default.bind=127.0.0.1:0",
    "--set=listeners.ws.default.bind=127.0.0.1:0",
    "--set=dashboard.listeners.http.bind=127.0.0.1:0",
)


@pytest.fixture
def notified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket on which systemd would hear of the command."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        receiver.settimeout(NOBODY_WAITS_SO_LONG)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        yield receiver


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-m", "trio_broker", *FREE_PORTS, *arguments]
    # The package of this checkout, installed or not; the command runs in a folder of its own.
    environment = {**os.environ, "PYTHONPATH": str(Path(trio_broker.__file__).parent.parent)}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(folder: Path, *arguments: str) -> tuple[int, list[str]]:
    """The exit code and what stood on standard error when the command ended by itself; no log line, no traceback."""
    with start(folder, "--log-level=error", *arguments) as process:
        output, errors = process.communicate(timeout=NOBODY_WAITS_SO_LONG)
    assert output == ""
    return process.returncode, errors.splitlines()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_from_start_to_end(tmp_path: Path, notified: socket.socket, end: signal.Signals) -> None:
    with start(tmp_path) as process:
        assert notified.recv(100) == b"READY=1"
        process.send_signal(end)
        assert notified.recv(100) == b"STOPPING=1"
        output, errors = process.communicate(timeout=NOBODY_WAITS_SO_LONG)
    assert process.returncode == 0, errors
    shown = r"API key \(shown only now\): (\w+):(\S+)\nDashboard user \(shown only now\): admin:(\S+)\n"
    made = re.fullmatch(shown, output)
    assert made is not None
    stored = (tmp_path / "data" / "trio-broker.db").read_bytes()
    assert made[1].encode() in stored
    for secret in (made[2], made[3]):
        assert secret.encode() not in stored
        assert secret not in errors
    assert re.search(r"tcp:default: listening on 127\.0\.0\.1:\d+", errors)
    assert re.search(r"REST API on http://127\.0\.0\.1:\d+/api/v5", errors)
    assert not re.search(r"Traceback| ERROR ", errors)


def test_a_second_start_makes_no_second_key(tmp_path: Path, notified: socket.socket) -> None:
    outputs = []
    for _ in range(2):
        with start(tmp_path) as process:
            assert notified.recv(100) == b"READY=1"
            process.terminate()
            assert notified.recv(100) == b"STOPPING=1"
            outputs.append(process.communicate(timeout=NOBODY_WAITS_SO_LONG)[0])
    assert outputs[0].startswith("API key")
    assert outputs[1] == ""


@pytest.mark.parametrize(
    "key", ["listeners.tcp.default.bind", "listeners.ws.default.bind", "dashboard.listeners.http.bind"]
)
def test_a_port_that_is_taken_is_one_line(tmp_path: Path, key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        code, errors = run(tmp_path, f"--set={key}=127.0.0.1:{port}")
    assert code == 1
    assert len(errors) == 1, errors
    assert errors[0].startswith("trio-broker: ")
    assert f"127.0.0.1:{port}" in errors[0]


def test_an_address_of_another_machine_is_one_line(tmp_path: Path) -> None:
    code, errors = run(tmp_path, "--set=listeners.tcp.default.bind=192.0.2.1:1883")
    assert code == 1
    assert len(errors) == 1, errors
    assert "192.0.2.1:1883" in errors[0]


def test_a_bad_certificate_is_one_line(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "cert.pem").write_text("this is no certificate", encoding="utf-8")
    options = '{certfile = "cert.pem", keyfile = "key.pem"}'
    code, errors = run(tmp_path, f'--set=listeners.ssl.default={{bind = "127.0.0.1:0", ssl_options = {options}}}')
    assert code in (1, 2)
    assert len(errors) == 1, errors
    assert errors[0].startswith("trio-broker: ")
    assert "cert.pem" in errors[0]


def test_a_data_dir_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    code, errors = run(tmp_path, "--set=node.data_dir=file/data")
    assert code == 2
    assert len(errors) == 1, errors
    assert errors[0].startswith("trio-broker: node.data_dir: ")


def test_a_wrong_key_is_one_line(tmp_path: Path) -> None:
    assert run(tmp_path, "--set=mqtt.max_inflght=1") == (
        2,
        ['trio-broker: --set: mqtt.max_inflght: unknown key (value "1"); the nearest known key is mqtt.max_inflight'],
    )
