"""paho-mqtt, the client most Python programs use: MQTT 3.1, 3.1.1 and 5.0 over every transport."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

TIMEOUT = 30.0  # a bound for a failure, in seconds
pytestmark = [
    pytest.mark.parametrize("transport", ["tcp", "tls", "ws", "wss"]),
    pytest.mark.parametrize(
        "level", [MQTTProtocolVersion.MQTTv31, MQTTProtocolVersion.MQTTv311, MQTTProtocolVersion.MQTTv5]
    ),
]


class Paho:
    """A paho client in its own thread; what its callbacks say comes out of queues."""

    def __init__(self, endpoint: Any, level: MQTTProtocolVersion, client_id: str) -> None:
        self.level = level
        self.messages: queue.Queue[mqtt.MQTTMessage] = queue.Queue()
        self.connected: queue.Queue[Any] = queue.Queue()
        self.granted: queue.Queue[Any] = queue.Queue()
        self.ended = threading.Event()
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=level,
            transport="websockets" if endpoint.websocket else "tcp",
            reconnect_on_failure=False,
        )
        if endpoint.websocket:
            self.client.ws_set_options(path=endpoint.websocket_path)
        if endpoint.tls:
            self.client.tls_set_context(endpoint.ssl_context())
        self.endpoint = endpoint
        self.client.on_connect = lambda client, userdata, flags, code, properties: self.connected.put(code)
        self.client.on_subscribe = lambda client, userdata, mid, codes, properties: self.granted.put(codes)
        self.client.on_message = lambda client, userdata, message: self.messages.put(message)
        self.client.on_disconnect = lambda client, userdata, flags, code, properties: self.ended.set()

    def connect(self) -> None:
        self.client.connect(self.endpoint.host, self.endpoint.port, keepalive=60)
        self.client.loop_start()
        assert self.connected.get(timeout=TIMEOUT) == "Success"

    def subscribe(self, topic_filter: str, qos: int) -> None:
        self.client.subscribe(topic_filter, qos)
        codes = self.granted.get(timeout=TIMEOUT)
        assert [code.value for code in codes] == [qos]

    def publish(
        self, topic_name: str, payload: bytes, qos: int, retain: bool = False, properties: Properties | None = None
    ) -> None:
        info = self.client.publish(topic_name, payload, qos, retain, properties)
        info.wait_for_publish(TIMEOUT)
        assert info.is_published()

    def receive(self) -> mqtt.MQTTMessage:
        return self.messages.get(timeout=TIMEOUT)

    def disconnect(self) -> None:
        self.client.disconnect()
        assert self.ended.wait(TIMEOUT)


@contextmanager
def opened(
    endpoint: Any, level: MQTTProtocolVersion, client_id: str, will: tuple[str, bytes] | None = None
) -> Iterator[Paho]:
    paho = Paho(endpoint, level, client_id)
    if will is not None:
        paho.client.will_set(*will, qos=1)
    paho.connect()
    try:
        yield paho
    finally:
        paho.client.disconnect()
        paho.client.loop_stop()
        paho.client._reset_sockets()  # else the pair that wakes its thread waits for the garbage collector


def test_round_trip(endpoint: Any, level: MQTTProtocolVersion, prefix: str) -> None:
    properties: Any = None
    if level == MQTTProtocolVersion.MQTTv5:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.UserProperty = ("colour", "red")
        properties.ContentType = "text/plain"
    with opened(endpoint, level, prefix) as paho:
        paho.subscribe(f"{prefix}/+/ü", 2)
        for qos in (0, 1, 2):
            payload = bytes([qos]) * 5000
            paho.publish(f"{prefix}/{qos}/ü", payload, qos, properties=properties)
            message = paho.receive()
            assert (message.topic, message.payload, message.qos) == (f"{prefix}/{qos}/ü", payload, qos)
            assert not message.retain
            if properties is not None:
                received: Any = message.properties
                assert received.UserProperty == [("colour", "red")]
                assert received.ContentType == "text/plain"


def test_many_messages_in_order(endpoint: Any, level: MQTTProtocolVersion, prefix: str) -> None:
    with opened(endpoint, level, prefix) as paho:
        paho.subscribe(prefix, 1)
        sent = [b"%d" % number for number in range(200)]
        for payload in sent:
            paho.client.publish(prefix, payload, 1)
        assert [paho.receive().payload for _ in sent] == sent


def test_retained(endpoint: Any, level: MQTTProtocolVersion, prefix: str) -> None:
    with opened(endpoint, level, prefix + "a") as publisher:
        publisher.publish(f"{prefix}/kept", b"state", 1, retain=True)
    with opened(endpoint, level, prefix + "b") as paho:
        paho.subscribe(f"{prefix}/#", 1)
        message = paho.receive()
        assert (message.topic, message.payload, message.retain) == (f"{prefix}/kept", b"state", True)
        paho.publish(f"{prefix}/kept", b"", 1, retain=True)
        assert paho.receive().payload == b""
    with opened(endpoint, level, prefix + "c") as paho:
        paho.subscribe(f"{prefix}/#", 1)
        paho.publish(f"{prefix}/marker", b"nothing was kept", 1)
        assert paho.receive().payload == b"nothing was kept"


def test_will_on_abrupt_end(endpoint: Any, level: MQTTProtocolVersion, prefix: str, cut: Callable[[Any], None]) -> None:
    with opened(endpoint, level, prefix + "a") as watcher:
        watcher.subscribe(f"{prefix}/will", 1)
        with opened(endpoint, level, prefix + "b", will=(f"{prefix}/will", b"gone")) as doomed:
            cut(doomed.client.socket())
            message = watcher.receive()
            assert (message.payload, message.qos) == (b"gone", 1)


def test_clean_disconnect(
    endpoint: Any, level: MQTTProtocolVersion, prefix: str, wait_gone: Callable[[str], None]
) -> None:
    with opened(endpoint, level, prefix + "a") as watcher:
        watcher.subscribe(f"{prefix}/#", 1)
        with opened(endpoint, level, prefix + "b", will=(f"{prefix}/will", b"gone")) as polite:
            polite.disconnect()
        wait_gone(prefix + "b")
        watcher.publish(f"{prefix}/marker", b"no will before this", 1)
        assert watcher.receive().topic == f"{prefix}/marker"
