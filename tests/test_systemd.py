from __future__ import annotations

import socket
from pathlib import Path

import pytest

from trio_broker.systemd import notify


def test_without_systemd_nothing_happens(caplog: pytest.LogCaptureFixture) -> None:
    notify("READY=1", {})
    notify("READY=1", {"NOTIFY_SOCKET": ""})
    assert caplog.records == []


def test_a_socket_with_a_path(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        notify("READY=1", {"NOTIFY_SOCKET": path})
        notify("STOPPING=1", {"NOTIFY_SOCKET": path})
        assert [receiver.recv(100), receiver.recv(100)] == [b"READY=1", b"STOPPING=1"]


def test_an_abstract_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{tmp_path}")
        notify("READY=1", {"NOTIFY_SOCKET": f"@{tmp_path}"})
        assert receiver.recv(100) == b"READY=1"


def test_a_socket_that_is_gone_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "none")})
    assert [record.getMessage() for record in caplog.records] == [
        "systemd cannot be told READY=1: [Errno 2] No such file or directory"
    ]
