"""A Mosquitto with a bridge to this broker: MQTT 3.1 and 3.1.1 with the bridge bit, and 5.0.

Invariant: what is published on one side reaches the other side once, and never comes back.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from sockets.paho_client import V5, V311, PahoClient, Plain, opened
from sockets.waiting import TIMEOUT, until

from trio_broker.errors import ListenerError
from trio_broker.testing.threaded import ThreadedBroker

VERSIONS = ["mqttv31", "mqttv311", "mqttv50"]
# A bridge of Mosquitto 2.0 with MQTT 5.0 sends more than a Receive Maximum lets it: for it a message is done when its
# PUBREC has come, and it does not count what it sends again after a reconnect. So some tests set no such limit.
UNLIMITED = {"max_awaiting_rel": "infinity"}
every_version = pytest.mark.parametrize("version", VERSIONS)


@define
class Mosquitto:
    """One that may be stopped and started again; it keeps its sessions and retained messages over that."""

    command: list[str]
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> Plain:
        return Plain(str(self.folder / "socket"), 1, "unix")

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)

        def listens() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text(encoding="utf-8")
            return (self.folder / "socket").is_socket()

        until(listens, "Mosquitto listens")

    def stop(self, *, crash: bool = False) -> None:
        if self.process is None:
            return
        if crash:
            self.process.kill()
        else:
            self.process.terminate()
        self.process.wait(TIMEOUT)
        self.process = None
        (self.folder / "socket").unlink(missing_ok=True)


@pytest.fixture
def mosquitto(tmp_path: Path, tool: Callable[[str, str], str]) -> Iterator[Callable[..., Mosquitto]]:
    """`mosquitto(name, line, ...)`: running, with these lines in its configuration; listens on a Unix socket."""
    program = tool("mosquitto", "mosquitto")
    running: list[Mosquitto] = []

    def make(name: str, *lines: str) -> Mosquitto:
        folder = tmp_path / name
        folder.mkdir()
        configuration = folder / "mosquitto.conf"
        common = [
            f"listener 0 {folder / 'socket'}",
            "allow_anonymous true",
            "user root",  # where it would give up its rights it could not write to the folder
            "persistence true",
            f"persistence_location {folder}/",
            "log_type all",
            # In 3.1 and 3.1.1 it cannot tell how many it takes, and loses QoS 2 messages beyond this (its own is 20).
            "max_inflight_messages 100",
            "max_queued_messages 10000",
        ]
        configuration.write_text("\n".join([*common, *lines, ""]), encoding="utf-8")
        made = Mosquitto([program, "-c", str(configuration)], folder)
        running.append(made)
        made.start()
        return made

    yield make
    for one in running:
        one.stop()


@pytest.fixture
def remote() -> Iterator[ThreadedBroker]:
    with ThreadedBroker() as running:
        yield running


def at(broker: ThreadedBroker) -> Plain:
    return Plain(broker.host, broker.port)


def bridge(broker: ThreadedBroker, version: str, *more: str, name: str = "bridge") -> list[str]:
    return [
        f"connection {name}",
        f"address {broker.host}:{broker.port}",
        f"remote_clientid {name}",
        f"local_clientid local-{name}",
        f"bridge_protocol_version {version}",
        "cleansession false",
        "restart_timeout 1",
        *more,
    ]


TRY_PRIVATE = ("try_private true", "notifications_local_only true")


def bridged(broker: ThreadedBroker, local: Mosquitto, subscriptions: int, name: str = "bridge") -> None:
    """Returns when both sides know of the connection and of its subscriptions."""

    def subscribed() -> bool:
        info = broker.client(name)
        return info is not None and info.connected and info.subscriptions_count == subscriptions

    until(subscribed, f"{name} is connected and has subscribed")
    with opened(local.endpoint, f"asks-{name}") as paho:
        paho.subscribe(f"$SYS/broker/connection/{name}/state", 0)
        until(lambda: paho.receive().payload == b"1", f"Mosquitto knows that {name} is connected")


@every_version
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_in_and_out(remote: ThreadedBroker, mosquitto: Callable[..., Mosquitto], version: str, qos: int) -> None:
    """With the lower of the QoS of message and bridge, topics renamed on the way, and nothing the other way."""
    topics = [f"topic # out {qos} up/ from-local/", f"topic # in {qos} down/ from-remote/"]
    local = mosquitto("local", *bridge(remote, version, *TRY_PRIVATE, *topics))
    bridged(remote, local, 1)
    with opened(local.endpoint, "here") as here, opened(at(remote), "there") as there:
        here.subscribe("#", 2)
        there.subscribe("#", 2)
        for published in (0, 1, 2):
            here.publish("up/a/b", b"%d" % published, published)
            own, message = here.receive(), there.receive()
            assert own.topic == "up/a/b"
            assert (message.topic, message.payload) == ("from-local/a/b", b"%d" % published)
            assert (message.qos, message.retain) == (min(qos, published), False)
        for published in (0, 1, 2):
            there.publish("from-remote/c", b"%d" % published, published)
            own, message = there.receive(), here.receive()
            assert own.topic == "from-remote/c"
            assert (message.topic, message.payload) == ("down/c", b"%d" % published)
            assert (message.qos, message.retain) == (min(qos, published), False)
        assert here.messages.empty()
        assert there.messages.empty()


@every_version
def test_the_broker_knows_a_bridge(remote: ThreadedBroker, mosquitto: Callable[..., Mosquitto], version: str) -> None:
    """By the bridge bit in the protocol level, which MQTT 5.0 has not."""
    local = mosquitto("local", *bridge(remote, version, *TRY_PRIVATE, "topic # both 2"))
    bridged(remote, local, 1)
    info = remote.client("bridge")
    assert info is not None
    assert info.is_bridge == (version != "mqttv50")
    assert info.protocol_level == {"mqttv31": 3, "mqttv311": 4, "mqttv50": 5}[version]
    assert not info.clean_start


def each_once(here: PahoClient, there: PahoClient, topic_name: str) -> None:
    """Both have subscribed to the topic; messages of either side come to both sides once, at each QoS."""
    for qos in (0, 1, 2):
        for speaker, other in [(here, there), (there, here)]:
            speaker.publish(topic_name, b"message", qos)
            for listener in (here, there):
                message = listener.receive()
                assert (message.topic, message.payload, message.qos) == (topic_name, b"message", qos)
            # On the way back the marker would come after the message, as it has the same QoS.
            other.publish(topic_name, b"marker", qos)
            for listener in (here, there):
                assert listener.receive().payload == b"marker"
    assert here.messages.empty()
    assert there.messages.empty()


@every_version
def test_both_directions_make_no_loop(
    remote: ThreadedBroker, mosquitto: Callable[..., Mosquitto], version: str
) -> None:
    local = mosquitto("local", *bridge(remote, version, *TRY_PRIVATE, "topic # both 2"))
    bridged(remote, local, 1)
    with opened(local.endpoint, "here") as here, opened(at(remote), "there") as there:
        here.subscribe("a/#", 2)
        there.subscribe("a/#", 2)
        each_once(here, there, "a/b")


@pytest.mark.parametrize("version", ["mqttv31", "mqttv311"])
def test_without_the_bridge_bit_a_setting_avoids_the_loop(mosquitto: Callable[..., Mosquitto], version: str) -> None:
    with ThreadedBroker(mqtt={"ignore_loop_deliver": True}) as remote:
        more = ["try_private false", "notifications_local_only true", "topic # both 2"]
        local = mosquitto("local", *bridge(remote, version, *more))
        bridged(remote, local, 1)
        info = remote.client("bridge")
        assert info is not None
        assert not info.is_bridge
        with opened(local.endpoint, "here", V311) as here, opened(at(remote), "there", V5) as there:
            here.subscribe("a/#", 2)
            there.subscribe("a/#", 2)
            each_once(here, there, "a/b")


@every_version
def test_retained_messages_stay_retained(
    remote: ThreadedBroker, mosquitto: Callable[..., Mosquitto], version: str
) -> None:
    """Those that were there before the bridge, those that come while it is there, and their removal."""
    remote.publish("down/before", b"1", 1, retain=True)
    topics = ["topic up/# out 1", "topic down/# in 1", "topic either/# both 1"]
    local = mosquitto("local", *bridge(remote, version, *TRY_PRIVATE, *topics))
    bridged(remote, local, 2)

    def kept_here() -> dict[str, bytes]:
        with opened(local.endpoint, "looks") as paho:
            paho.subscribe("down/#", 1)
            paho.subscribe("up/#", 1)
            paho.subscribe("either/#", 1)
            paho.publish("either-marker", b"", 1)
            paho.subscribe("marker", 1)
            paho.publish("marker", b"", 1)
            found = {}
            while (message := paho.receive()).topic != "marker":
                if message.retain:
                    found[message.topic] = bytes(message.payload)
            return found

    with opened(local.endpoint, "here") as here, opened(at(remote), "there") as there:
        here.publish("up/live", b"2", 1, retain=True)
        here.publish("either/here", b"3", 1, retain=True)
        there.publish("down/live", b"4", 1, retain=True)
        there.publish("either/there", b"5", 1, retain=True)
        here.publish("up/not", b"6", 1)
        there.publish("down/not", b"7", 1)
        everything = {
            "up/live": b"2",
            "either/here": b"3",
            "down/live": b"4",
            "either/there": b"5",
            "down/before": b"1",
        }
        until(lambda: remote.retained() == everything, "this broker has kept them all")
        until(lambda: kept_here() == everything, "Mosquitto has kept them all")
        for paho, topic_name in [
            (here, "up/live"),
            (here, "either/there"),
            (there, "down/live"),
            (there, "down/before"),
            (there, "either/here"),
        ]:
            paho.publish(topic_name, b"", 1, retain=True)
        until(lambda: not remote.retained(), "this broker has none left")
        until(lambda: not kept_here(), "Mosquitto has none left")


@every_version
def test_retained_messages_that_mosquitto_had_before(
    remote: ThreadedBroker, mosquitto: Callable[..., Mosquitto], version: str
) -> None:
    local = mosquitto("local", *bridge(remote, version, *TRY_PRIVATE, "topic up/# out 2", "start_type automatic"))
    with opened(local.endpoint, "here") as here:
        here.publish("up/kept", b"state", 2, retain=True)
    until(lambda: remote.retained() == {"up/kept": b"state"}, "this broker has kept it")
    local.stop()
    remote.clear_retained()
    local.start()
    until(lambda: remote.retained() == {"up/kept": b"state"}, "this broker has kept it again")


def again(address: Plain) -> ThreadedBroker:
    """A new broker where one was before."""

    def start() -> ThreadedBroker | None:
        listener = {"tcp": {"default": {"bind": f"{address.host}:{address.port}"}}}
        broker = ThreadedBroker(listeners=listener, mqtt=UNLIMITED)
        try:
            broker.start()
        except ListenerError:  # somebody else has the port for a moment
            return None
        return broker

    broker = until(start, "the port is free")
    assert broker is not None
    return broker


@every_version
def test_this_broker_goes_and_comes_back(mosquitto: Callable[..., Mosquitto], version: str) -> None:
    """Mosquitto keeps what is to go out, subscribes again, and everything flows as before; twice."""
    sent = [b"%d" % number for number in range(50)]
    remote = ThreadedBroker(mqtt=UNLIMITED)
    remote.start()
    try:
        address = at(remote)
        local = mosquitto("local", *bridge(remote, version, *TRY_PRIVATE, "topic # both 2"))
        bridged(remote, local, 1)
        with opened(local.endpoint, "here") as here:
            here.subscribe("a/#", 2)
            for _ in range(2):
                remote.stop()
                for qos in (1, 2):
                    for payload in sent:
                        here.publish(f"a/{qos}", payload, qos, retain=payload == sent[-1])
                    assert here.receive_payloads(len(sent)) == sent
                remote = again(address)
                bridged(remote, local, 1)
                until(lambda: remote.retained("a/#") == {"a/1": sent[-1], "a/2": sent[-1]}, "all has come")  # noqa: B023
                with opened(address, "there") as there:
                    there.subscribe("a/b", 2)
                    each_once(here, there, "a/b")
    finally:
        remote.stop()


@pytest.mark.parametrize("version", ["mqttv31", "mqttv311"])
@pytest.mark.parametrize("crash", [False, True])
def test_mosquitto_goes_and_comes_back(
    remote: ThreadedBroker, mosquitto: Callable[..., Mosquitto], version: str, crash: bool
) -> None:
    """This broker keeps the bridge's session: what came meanwhile reaches those who wait at Mosquitto, in order.

    Not in 5.0, where Mosquitto 2.0 asks for no session expiry interval: the session ends with the connection.
    """
    sent = [b"%d" % number for number in range(50)]
    local = mosquitto("local", *bridge(remote, version, *TRY_PRIVATE, "topic # both 2"))
    bridged(remote, local, 1)
    with opened(local.endpoint, "waits", V311, clean=False) as waits:
        waits.subscribe("a/#", 2)
    # Written to its file before the crash, which would lose it.
    local.stop()
    local.start()
    bridged(remote, local, 1)
    local.stop(crash=crash)
    remote.wait_disconnected("bridge")
    with opened(at(remote), "there") as there:
        for payload in sent:
            there.publish("a/b", payload, 1)
    info = remote.client("bridge")
    assert info is not None
    assert info.mqueue_len == len(sent)
    local.start()
    with opened(local.endpoint, "waits", V311, clean=False) as waits:
        assert waits.connack.session_present
        assert waits.receive_payloads(len(sent)) == sent
        bridged(remote, local, 1)
        with opened(at(remote), "there") as there:
            there.subscribe("a/b", 2)
            each_once(waits, there, "a/b")


@every_version
@pytest.mark.parametrize("qos", [1, 2])
def test_many_messages_at_once(mosquitto: Callable[..., Mosquitto], version: str, qos: int) -> None:
    """More than either side lets be in flight, both ways at the same time; each once and in order."""
    sent = [b"%d" % number for number in range(500)]
    with ThreadedBroker(mqtt=UNLIMITED) as remote:
        topics = [f"topic up/# out {qos}", f"topic down/# in {qos}"]
        local = mosquitto("local", *bridge(remote, version, *TRY_PRIVATE, *topics))
        bridged(remote, local, 1)
        with opened(local.endpoint, "here", V311) as here, opened(at(remote), "there") as there:
            here.subscribe("down/+", qos)
            there.subscribe("up/+", qos)
            for payload in sent:
                here.send("up/x", payload, qos)
                there.send("down/x", payload, qos)
            assert here.receive_payloads(len(sent)) == sent
            assert there.receive_payloads(len(sent)) == sent


def test_properties_cross_the_bridge(remote: ThreadedBroker, mosquitto: Callable[..., Mosquitto]) -> None:
    local = mosquitto("local", *bridge(remote, "mqttv50", *TRY_PRIVATE, "topic # both 2"))
    bridged(remote, local, 1)
    values: dict[str, Any] = {
        "PayloadFormatIndicator": 1,
        "ContentType": "text/plain",
        "ResponseTopic": "a/answer",
        "CorrelationData": b"\x00\xff",
        "UserProperty": [("a", "1"), ("a", "2")],
    }
    with opened(local.endpoint, "here") as here, opened(at(remote), "there") as there:
        for speaker, listener in [(here, there), (there, here)]:
            listener.subscribe("a/b", 2)
            speaker.publish("a/b", b"payload", 2, **values)
            received: Any = listener.receive().properties
            assert received.json() == {**values, "CorrelationData": "00ff"}
            listener.unsubscribe("a/b")


@every_version
def test_notifications(remote: ThreadedBroker, mosquitto: Callable[..., Mosquitto], version: str) -> None:
    """The bridge says by a retained message that it is there, and by its will that it is not."""
    lines = bridge(remote, version, "try_private true", "notification_topic bridges/state", "topic up/# out 1")
    local = mosquitto("local", *lines)
    until(lambda: remote.retained() == {"bridges/state": b"1"}, "the bridge has said that it is there")
    local.stop(crash=True)
    until(lambda: remote.retained() == {"bridges/state": b"0"}, "its will has said that it is gone")
    local.start()
    until(lambda: remote.retained() == {"bridges/state": b"1"}, "the bridge is there again")


@every_version
def test_two_mosquittos_speak_through_this_broker(
    remote: ThreadedBroker, mosquitto: Callable[..., Mosquitto], version: str
) -> None:
    """What one bridge brings the other one takes, once; neither gets its own back."""
    sides = []
    for name in ("left", "right"):
        side = mosquitto(name, *bridge(remote, version, *TRY_PRIVATE, "topic # both 2", name=name))
        bridged(remote, side, 1, name)
        sides.append(side)
    with opened(sides[0].endpoint, "here") as here, opened(sides[1].endpoint, "there") as there:
        here.subscribe("a/#", 2)
        there.subscribe("a/#", 2)
        each_once(here, there, "a/b")


def test_two_of_this_broker_through_one_mosquitto(remote: ThreadedBroker, mosquitto: Callable[..., Mosquitto]) -> None:
    with ThreadedBroker() as second:
        lines = bridge(remote, "mqttv311", *TRY_PRIVATE, "topic # both 2", name="one")
        lines += bridge(second, "mqttv50", *TRY_PRIVATE, "topic # both 2", name="two")
        local = mosquitto("local", *lines)
        bridged(remote, local, 1, "one")
        bridged(second, local, 1, "two")
        with opened(at(remote), "here") as here, opened(at(second), "there") as there:
            here.subscribe("a/#", 2)
            there.subscribe("a/#", 2)
            each_once(here, there, "a/b")


@every_version
def test_over_tls(
    broker: ThreadedBroker, certificates: Any, mosquitto: Callable[..., Mosquitto], prefix: str, version: str
) -> None:
    host, port = broker.listeners["ssl:default"]
    lines = bridge(broker, version, *TRY_PRIVATE, f"topic {prefix}/# both 2", name=prefix)
    lines[1] = f"address {host}:{port}"
    local = mosquitto("local", *lines, f"bridge_cafile {certificates.ca_file}")
    bridged(broker, local, 1, prefix)
    with opened(local.endpoint, "here") as here, opened(at(broker), f"{prefix}t") as there:
        here.subscribe(f"{prefix}/#", 2)
        there.subscribe(f"{prefix}/#", 2)
        each_once(here, there, f"{prefix}/x")
