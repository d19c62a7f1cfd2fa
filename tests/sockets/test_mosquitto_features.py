"""mosquitto_pub, mosquitto_sub and mosquitto_rr: properties, options, sessions, wills, shared subscriptions, refusals.

Invariant: what is compared is what the programs print and how they exit.
"""

from __future__ import annotations

import json
import queue
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sockets.paho_client import Plain
from sockets.waiting import TIMEOUT, end, until

from trio_broker.testing.threaded import ThreadedBroker

PACKAGE = "mosquitto-clients"
VERSIONS = ["mqttv31", "mqttv311", "mqttv5"]
every_version = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture
def transport() -> str:
    return "tcp"


class Program:
    """A running program, its output line by line."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.messages: queue.Queue[str] = queue.Queue()
        self.said: list[str] = []
        self.subscribed = threading.Event()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if line.startswith("message "):
                self.messages.put(line.removeprefix("message ").rstrip("\n"))
            elif line.startswith("Subscribed "):
                self.subscribed.set()
        self.ended.set()

    def receive(self) -> str:
        try:
            return self.messages.get(timeout=TIMEOUT)
        except queue.Empty:
            pytest.fail(f"no message; the program said: {self.said}")

    def receive_all(self) -> list[str]:
        """When it has ended by itself."""
        assert self.ended.wait(TIMEOUT), self.said
        return [line.removeprefix("message ").rstrip("\n") for line in self.said if line.startswith("message ")]


class Tools:
    """The programs, all at one broker."""

    def __init__(self, tool: Callable[[str, str], str], endpoint: Any, version: str) -> None:
        self.tool = tool
        self.connection = ["-h", endpoint.host, "-p", str(endpoint.port), "-V", version]

    def run(self, name: str, *arguments: str) -> tuple[int, str]:
        """Exit code and output."""
        command = [self.tool(name, PACKAGE), *self.connection, *arguments]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT, check=False
        )
        return done.returncode, done.stdout

    def publish(self, topic_name: str, payload: str, qos: int = 1, *more: str) -> None:
        content = ["-m", payload] if payload else ["-n"]
        code, output = self.run("mosquitto_pub", "-t", topic_name, "-q", str(qos), *content, *more)
        assert code == 0, output

    @contextmanager
    def subscriber(self, topic_filter: str, qos: int, *more: str, form: str = "%p") -> Iterator[Program]:
        path, stdbuf = self.tool("mosquitto_sub", PACKAGE), self.tool("stdbuf", "coreutils")
        # Line by line although its output is a pipe; -d makes it say when the SUBACK has come.
        command = [stdbuf, "-oL", path, *self.connection, "-d", "-t", topic_filter, "-q", str(qos)]
        program = Program([*command, "-F", f"message {form}", *more])
        try:
            assert program.subscribed.wait(TIMEOUT), program.said
            yield program
        finally:
            end(program.process)
            program.thread.join(TIMEOUT)
            assert program.process.stdout is not None
            program.process.stdout.close()


@pytest.fixture
def version() -> str:
    return "mqttv5"


@pytest.fixture
def tools(tool: Callable[[str, str], str], endpoint: Any, version: str) -> Tools:
    return Tools(tool, endpoint, version)


def prop(command: str, name: str, *values: str) -> list[str]:
    return ["-D", command, name, *values]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_properties(tools: Tools, prefix: str, qos: int) -> None:
    more = [
        *prop("PUBLISH", "payload-format-indicator", "1"),
        *prop("PUBLISH", "message-expiry-interval", "1000"),
        *prop("PUBLISH", "content-type", "text/plain"),
        *prop("PUBLISH", "response-topic", f"{prefix}/answer"),
        *prop("PUBLISH", "correlation-data", "some data"),
        *prop("PUBLISH", "user-property", "a", "1"),
        *prop("PUBLISH", "user-property", "b", "2"),
    ]
    identifier = prop("SUBSCRIBE", "subscription-identifier", "77")
    with tools.subscriber(prefix, 2, *identifier, form="%C|%D|%E|%F|%P|%R|%S|%q|%p") as sub:
        tools.publish(prefix, "grün", qos, *more)
        content, data, expiry, form, pairs, answer, identifiers, its_qos, payload = sub.receive().split("|")
        assert (content, data, form, answer) == ("text/plain", "some data", "1", f"{prefix}/answer")
        assert 0 < int(expiry) <= 1000
        assert pairs.split() == ["a:1", "b:2"]
        assert (identifiers, its_qos, payload) == ("77", str(qos), "grün")


def test_as_json(tools: Tools, prefix: str) -> None:
    with tools.subscriber(prefix, 1, form="%j") as sub:
        tools.publish(prefix, "payload", 1, *prop("PUBLISH", "content-type", "text/plain"))
        said = json.loads(sub.receive())
        assert (said["topic"], said["qos"], said["retain"], said["payload"]) == (prefix, 1, 0, "payload")
        assert said["properties"]["content-type"] == "text/plain"


@every_version
def test_many_lines(tools: Tools, prefix: str) -> None:
    """`--repeat` sends as fast as the broker takes it."""
    with tools.subscriber(prefix, 2, "-C", "300") as sub:
        for qos in (0, 1, 2):
            tools.publish(prefix, f"line {qos}", qos, "--repeat", "100")
        received = sub.receive_all()
        assert sorted(received) == sorted([f"line {qos}" for qos in (0, 1, 2)] * 100)


@every_version
def test_a_session_is_resumed(tools: Tools, prefix: str, version: str) -> None:
    expiry = ["-x", "1000"] if version == "mqttv5" else []
    session = ["-i", prefix, "-c", *expiry]
    with tools.subscriber(prefix, 2, *session, "-E"):
        pass
    for number in range(20):
        tools.publish(prefix, str(number), 1 + number % 2)
    with tools.subscriber(prefix, 2, *session) as sub:
        lines = [sub.receive() for _ in range(20)]
    for qos in (1, 2):  # a QoS 2 message is printed when its PUBREL has come
        assert [line for line in lines if 1 + int(line) % 2 == qos] == [str(n) for n in range(20) if 1 + n % 2 == qos]


@every_version
def test_takeover(tools: Tools, prefix: str) -> None:
    with tools.subscriber(prefix, 1, "-i", prefix, "-c") as first:
        # It would come back, and take over again.
        first.process.send_signal(signal.SIGSTOP)
        with tools.subscriber(prefix, 1, "-i", prefix, "-c") as second:
            tools.publish(prefix, "payload", 1)
            assert second.receive() == "payload"
            first.process.kill()


@every_version
def test_retained_only(tools: Tools, prefix: str, broker: ThreadedBroker) -> None:
    for name in ("a", "b"):
        tools.publish(f"{prefix}/{name}", name, 1, "-r")
    # Not with -C: mosquitto_sub now and then does not end after the last message it wanted.
    with tools.subscriber(f"{prefix}/+", 1, "--retained-only", form="%t %r %p") as sub:
        assert {sub.receive(), sub.receive()} == {f"{prefix}/a 1 a", f"{prefix}/b 1 b"}
    with tools.subscriber(f"{prefix}/+", 1, "--remove-retained") as sub:
        assert {sub.receive(), sub.receive()} == {"a", "b"}
        until(lambda: not broker.retained(f"{prefix}/#"), "nothing is kept")


@pytest.mark.parametrize("as_published", [False, True])
def test_retain_as_published(tools: Tools, prefix: str, as_published: bool) -> None:
    option = ["--retain-as-published"] if as_published else []
    with tools.subscriber(prefix, 1, *option, form="%r %p") as sub:
        tools.publish(prefix, "state", 1, "-r")
        assert sub.receive() == f"{int(as_published)} state"
        tools.publish(prefix, "", 1, "-r")


@pytest.mark.parametrize("delay", [0, 1])
def test_will(tools: Tools, prefix: str, delay: int) -> None:
    will = ["--will-topic", f"{prefix}/will", "--will-payload", "gone", "--will-qos", "2", "-x", "1000", "-c"]
    more = [*prop("WILL", "will-delay-interval", str(delay)), *prop("WILL", "user-property", "why", "gone")]
    with tools.subscriber(f"{prefix}/will", 2, form="%q %P %p") as watcher:
        with tools.subscriber(f"{prefix}/other", 0, "-i", prefix, *will, *more) as doomed:
            doomed.process.kill()
            assert watcher.receive().split() == ["2", "why:gone", "gone"]


@every_version
def test_shared_subscription(tools: Tools, prefix: str) -> None:
    shared = f"$share/group/{prefix}"
    with (
        tools.subscriber(shared, 1, "-t", f"{prefix}/end") as one,
        tools.subscriber(shared, 1, "-t", f"{prefix}/end") as two,
    ):
        tools.publish(prefix, "payload", 1, "--repeat", "20")
        tools.publish(f"{prefix}/end", "end", 1)
        counts = []
        for sub in (one, two):
            count = 0
            while sub.receive() != "end":
                count += 1
            counts.append(count)
        assert sum(counts) == 20
        assert all(counts)


@every_version
def test_request_and_response(tools: Tools, prefix: str, version: str) -> None:
    """mosquitto_rr asks and waits; the answer is made of what the question says (in 5.0) or of what was agreed."""
    with tools.subscriber(f"{prefix}/ask", 1, form="%R|%D|%p") as sub:
        asked: list[tuple[int, str]] = []
        arguments = ["-t", f"{prefix}/ask", "-e", f"{prefix}/answer", "-m", "question", "-q", "1"]
        data = prop("PUBLISH", "correlation-data", "number 1") if version == "mqttv5" else []
        thread = threading.Thread(target=lambda: asked.append(tools.run("mosquitto_rr", *arguments, *data)))
        thread.start()
        answer, correlation, question = sub.receive().split("|")
        assert question == "question"
        if version == "mqttv5":
            assert (answer, correlation) == (f"{prefix}/answer", "number 1")
        tools.publish(f"{prefix}/answer", "the answer", 1)
        thread.join(TIMEOUT)
        assert asked == [(0, "the answer\n")]


@every_version
def test_unsubscribe(tools: Tools, prefix: str) -> None:
    """-U asks to be rid of a filter it has, and of one it has not."""
    with tools.subscriber(f"{prefix}/a", 1, "-t", f"{prefix}/b", "-U", f"{prefix}/a", "-U", f"{prefix}/c") as sub:
        tools.publish(f"{prefix}/b", "still", 1)
        assert sub.receive() == "still"


def test_flow_control(tools: Tools, prefix: str, broker: ThreadedBroker) -> None:
    """A stopped program acknowledges nothing: no more than its Receive Maximum is in flight, the rest waits."""
    session = ["-i", prefix, "-c", "-x", "1000"]
    with tools.subscriber(prefix, 1, *session, *prop("CONNECT", "receive-maximum", "5")) as sub:
        sub.process.send_signal(signal.SIGSTOP)
        tools.publish(prefix, "payload", 1, "--repeat", "20")
        info = broker.client(prefix)
        assert info is not None
        assert (info.inflight_count, info.mqueue_len) == (5, 15)
        sub.process.send_signal(signal.SIGCONT)
        assert [sub.receive() for _ in range(20)] == ["payload"] * 20


LIMITS = {
    "max_qos_allowed": 1,
    "retain_available": False,
    "wildcard_subscription": False,
    "shared_subscription": False,
    "max_packet_size": 2000,
}


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        (["-m", "x", "-q", "2"], []),
        (["-m", "x" * 2000], []),
        (["-m", "x", "-r"], ["r0"]),
        (["-m", "x", "-q", "1"], ["r0"]),
    ],
    ids=["qos", "size", "retain", "within"],
)
def test_limits_are_told(tool: Callable[[str, str], str], arguments: list[str], sent: list[str]) -> None:
    """mosquitto_pub keeps to what CONNACK said: it sends nothing that is too much, and leaves RETAIN out."""
    with ThreadedBroker(mqtt=LIMITS) as broker:
        tools = Tools(tool, Plain(broker.host, broker.port), "mqttv5")
        _, output = tools.run("mosquitto_pub", "-d", "-t", "a", *arguments)
        assert "received CONNACK (0)" in output
        assert re.findall(r"sending PUBLISH \(d0, q., (r.)", output) == sent


@pytest.mark.parametrize("version", ["mqttv311", "mqttv5"])  # the SUBACK of 3.1 knows no refusal
@pytest.mark.parametrize("topic_filter", ["a/+", "$share/group/a"])
def test_a_refused_subscription(tool: Callable[[str, str], str], version: str, topic_filter: str) -> None:
    with ThreadedBroker(mqtt=LIMITS) as broker:
        tools = Tools(tool, Plain(broker.host, broker.port), version)
        _, output = tools.run("mosquitto_sub", "-t", topic_filter, "-W", "30")
        assert "All subscription requests were denied" in output


@every_version
def test_nobody_without_a_password(tool: Callable[[str, str], str], version: str) -> None:
    with ThreadedBroker(mqtt={"allow_anonymous": False}) as broker:
        tools = Tools(tool, Plain(broker.host, broker.port), version)
        code, output = tools.run("mosquitto_pub", "-t", "a", "-m", "x")
        assert code == (0x87 if version == "mqttv5" else 5)
        assert re.search("not authori[sz]ed", output, re.IGNORECASE), output
