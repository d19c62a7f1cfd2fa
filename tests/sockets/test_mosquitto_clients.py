"""mosquitto_pub and mosquitto_sub: MQTT 3.1, 3.1.1 and 5.0 over TCP and TLS, and WebSocket where the build has it."""

from __future__ import annotations

import queue
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sockets.waiting import TIMEOUT, end

PACKAGE = "mosquitto-clients"


def transports() -> list[str]:
    """What this build of the clients can do: WebSocket came with mosquitto 2.1, and not in every build."""
    path = shutil.which("mosquitto_pub")
    if path is None:
        return ["tcp", "tls"]
    text = subprocess.run([path, "--help"], capture_output=True, text=True, check=False).stdout
    return ["tcp", "tls", "ws", "wss"] if "--ws" in text else ["tcp", "tls"]


pytestmark = [
    pytest.mark.parametrize("transport", transports()),
    pytest.mark.parametrize("version", ["mqttv31", "mqttv311", "mqttv5"]),
]


@pytest.fixture
def connection(endpoint: Any, version: str) -> list[str]:
    arguments = ["-h", endpoint.host, "-p", str(endpoint.port), "-V", version]
    if endpoint.tls:
        arguments += ["--cafile", endpoint.ca_file]
    if endpoint.websocket:
        arguments += ["--ws"]
    return arguments


@pytest.fixture
def publish(connection: list[str], tool: Callable[[str, str], str]) -> Callable[..., None]:
    """Run mosquitto_pub to its end: with QoS 1 and 2 that is the end of the handshake."""
    path = tool("mosquitto_pub", PACKAGE)

    def run(topic_name: str, payload: str, qos: int = 0, *more: str) -> None:
        content = ["-m", payload] if payload else ["-n"]
        done = subprocess.run(
            [path, *connection, "-t", topic_name, "-q", str(qos), *content, *more],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    return run


class Subscriber:
    """A running mosquitto_sub; `lines` are those it prints for messages, in order."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: queue.Queue[str] = queue.Queue()
        self.said: list[str] = []
        self.subscribed = threading.Event()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if line.startswith("message "):
                self.lines.put(line.removeprefix("message ").rstrip("\n"))
            elif line.startswith("Subscribed "):
                self.subscribed.set()

    def receive(self) -> str:
        try:
            return self.lines.get(timeout=TIMEOUT)
        except queue.Empty:
            pytest.fail(f"no message; mosquitto_sub said: {self.said}")


@pytest.fixture
def subscriber(connection: list[str], tool: Callable[[str, str], str]) -> Callable[..., Any]:
    path = tool("mosquitto_sub", PACKAGE)
    stdbuf = tool("stdbuf", "coreutils")

    @contextmanager
    def run(topic_filter: str, qos: int, *more: str) -> Iterator[Subscriber]:
        # Line by line although its output is a pipe; -d makes it say when the SUBACK has come.
        command = [stdbuf, "-oL", path, *connection, "-d", "-t", topic_filter, "-q", str(qos)]
        process = subprocess.Popen(
            [*command, "-F", "message %t %q %r %p", *more], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        sub = Subscriber(process)
        try:
            assert sub.subscribed.wait(TIMEOUT), sub.said
            yield sub
        finally:
            end(process)
            sub.thread.join(TIMEOUT)
            assert process.stdout is not None
            process.stdout.close()

    return run


def test_round_trip(publish: Callable[..., None], subscriber: Callable[..., Any], prefix: str) -> None:
    with subscriber(f"{prefix}/#", 2) as sub:
        for qos in (0, 1, 2):
            publish(f"{prefix}/{qos}", f"payload {qos}", qos)
            assert sub.receive() == f"{prefix}/{qos} {qos} 0 payload {qos}"


def test_retained(publish: Callable[..., None], subscriber: Callable[..., Any], prefix: str) -> None:
    publish(f"{prefix}/kept", "state", 1, "-r")
    with subscriber(f"{prefix}/#", 1) as sub:
        assert sub.receive() == f"{prefix}/kept 1 1 state"
    publish(f"{prefix}/kept", "", 1, "-r")
    with subscriber(f"{prefix}/#", 1) as sub:
        publish(f"{prefix}/marker", "nothing was kept", 1)
        assert sub.receive() == f"{prefix}/marker 1 0 nothing was kept"


def test_will_on_abrupt_end(subscriber: Callable[..., Any], prefix: str) -> None:
    will = ["--will-topic", f"{prefix}/will", "--will-payload", "gone", "--will-qos", "1"]
    with subscriber(f"{prefix}/will", 1) as watcher, subscriber(f"{prefix}/other", 0, *will) as doomed:
        doomed.process.kill()
        assert watcher.receive() == f"{prefix}/will 1 0 gone"


def test_clean_disconnect(
    publish: Callable[..., None], subscriber: Callable[..., Any], prefix: str, wait_gone: Callable[[str], None]
) -> None:
    will = ["--will-topic", f"{prefix}/will", "--will-payload", "gone", "-i", prefix]
    with subscriber(f"{prefix}/#", 1) as watcher:
        with subscriber(f"{prefix}/last", 0, "-C", "1", *will) as polite:
            # It leaves after one message. (On SIGTERM it would say 0x04 in 5.0, which asks for the will.)
            publish(f"{prefix}/last", "leave", 1)
            assert polite.process.wait(TIMEOUT) == 0
        wait_gone(prefix)
        publish(f"{prefix}/marker", "no will before this", 1)
        assert watcher.receive() == f"{prefix}/last 1 0 leave"
        assert watcher.receive() == f"{prefix}/marker 1 0 no will before this"
