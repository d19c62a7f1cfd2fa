"""Stores to look after, the command as a process, and a broker as another.

Invariant: each process that was started has ended when its block, or its call, ends.
"""

from __future__ import annotations

import os
import re
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio
from attrs import define

import trio_broker
from trio_broker.protocol.message import Message, Origin
from trio_broker.routing.subscription import Subscription
from trio_broker.session.outgoing import Outgoing
from trio_broker.store.backup import open_to_read
from trio_broker.store.database import Database
from trio_broker.store.files import FILE_NAME
from trio_broker.store.gathering import Gathering
from trio_broker.store.operations import PutReceived, PutRetained, PutSession, PutSubscription

GUARD: Final = 60.0
"""Seconds: nobody waits so long; they end what would hang."""
SMALL: Final = r"\d+ kB, 2 sessions, 6 queued messages, 1 retained message"
"""A pattern: what is said of a store that `make_store` made, unless it was told more."""
FAR: Final = 4_000_000_000_000
"""A time, in milliseconds, that is not over soon."""


def make_store(data_dir: Path, *, sessions: int = 2, queued: int = 3, payload: int = 10) -> Path:
    """As a broker leaves it: each session has a subscription, a QoS 2 identifier, and copies of all messages."""
    data_dir.mkdir(parents=True, exist_ok=True)
    path = data_dir / FILE_NAME
    database = Database(path, full=False)
    assert database.open() is None
    gathered = Gathering()
    gathered._next_key = database.next_key()
    messages = [_message("t", number, payload) for number in range(1, queued + 1)]
    for number in range(sessions):
        key = gathered.new_key()
        subscription = Subscription("t/#", "t/#", qos=1)
        gathered.write(
            PutSession(key, f"client{number}", None, 1, 10_000, expires_at=FAR, disconnected_at=1),
            PutSubscription(key, subscription),
            PutReceived(key, [7]),
        )
        gathered.add(key, [Outgoing(message, 1, False, (), message.message_id) for message in messages])
    gathered.write(PutRetained(_message("r", queued + 1, payload)))
    database.commit(gathered._batch, int)
    database.close(ended=True)
    return path


def _message(topic_name: str, number: int, payload: int) -> Message:
    return Message(topic_name, b"x" * payload, 1, topic_name == "r", number << 20, Origin("p"), number)


def files_in(folder: Path) -> dict[str, bytes]:
    """All that stands there, but what SQLite makes for itself to read: an index, and a log with nothing in it."""
    found = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
    return {
        name: content
        for name, content in found.items()
        if not name.endswith("-shm") and (content or not name.endswith("-wal"))
    }


def documents(path: Path) -> int:
    """How many there are: a thing that tests may write."""
    db = open_to_read(path)
    try:
        return int(str(db.execute("SELECT count(*) FROM doc").get))
    finally:
        db.close()


@define(frozen=True)
class Done:
    code: int
    output: str
    errors: str


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "trio_broker", *arguments]


def _environment(**more: str) -> dict[str, str]:
    # The package of this checkout, installed or not.
    return {**os.environ, "PYTHONPATH": str(Path(trio_broker.__file__).parent.parent), **more}


def run(folder: Path, *arguments: str, largest_file: int | None = None) -> Done:
    """The command in a folder, until it ends; there its data are in `data`."""
    command = _command(arguments)
    if largest_file is not None:
        # In blocks of 1,024 bytes.
        command = ["bash", "-c", f'ulimit -f {largest_file // 1024}; exec "$@"', "-", *command]
    done = subprocess.run(command, cwd=folder, env=_environment(), capture_output=True, text=True, timeout=GUARD)
    return Done(done.returncode, done.stdout, done.stderr)


async def run_beside(folder: Path, *arguments: str) -> Done:
    """The same while other tasks go on."""
    done = await trio.run_process(
        _command(arguments), cwd=folder, env=_environment(), capture_stdout=True, capture_stderr=True, check=False
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


@define(frozen=True)
class Running:
    address: tuple[str, int]
    pid: int


@contextmanager
def broker(folder: Path, *arguments: str) -> Iterator[Running]:
    """A broker as a process of its own, with its data in `folder`/data; it is killed at the end."""
    off = ("listeners.ws.default.enable=false", "dashboard.listeners.http.enable=false")
    tcp = ("listeners.tcp.default.bind=127.0.0.1:0", "mqtt.max_mqueue_len=infinity", *off)
    command = _command([*(f"--set={key}" for key in tcp), *arguments])
    notify, log = folder / "notify", folder / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver, log.open("w") as errors:
        notify.unlink(missing_ok=True)
        receiver.bind(str(notify))
        environment = _environment(NOTIFY_SOCKET=str(notify))
        with subprocess.Popen(command, cwd=folder, env=environment, stderr=errors) as process:
            try:
                _wait_ready(receiver, process, log)
                port = re.findall(r"tcp:default: listening on 127\.0\.0\.1:(\d+)", log.read_text())[0]
                yield Running(("127.0.0.1", int(port)), process.pid)
            finally:
                process.kill()


def _wait_ready(receiver: socket.socket, process: subprocess.Popen[bytes], log: Path) -> None:
    """Fails with what the broker said when it does not start."""
    for _ in range(int(GUARD / 0.1)):
        if select.select([receiver], [], [], 0.1)[0]:
            assert receiver.recv(100) == b"READY=1"
            return
        assert process.poll() is None, log.read_text()
    raise AssertionError(log.read_text())
