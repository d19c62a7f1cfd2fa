"""A paho client whose every answer can be waited for: CONNACK, SUBACK, PUBACK, DISCONNECT with codes and properties.

Invariant: a client opened here is connected when its block begins, and its thread has ended when the block ends.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import paho.mqtt.client as mqtt
from attrs import define
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions
from sockets.waiting import TIMEOUT

V31 = MQTTProtocolVersion.MQTTv31
V311 = MQTTProtocolVersion.MQTTv311
V5 = MQTTProtocolVersion.MQTTv5
TRANSPORTS: dict[str, Literal["websockets", "unix"]] = {"ws": "websockets", "wss": "websockets", "unix": "unix"}


@define(frozen=True)
class Plain:
    """Where a broker of one test listens: for "unix" `host` is the path of the socket and `port` means nothing."""

    host: str
    port: int
    transport: str = "tcp"
    tls: bool = False
    websocket: bool = False


def properties(kind: int, **values: Any) -> Any:
    """Properties of a packet, under paho's names for them; a list is a property that stands there several times."""
    made: Any = Properties(kind)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        for one in value if isinstance(value, list) else [value]:
            setattr(made, name, one)
    return made


def on_publish(**values: Any) -> Any:
    return properties(PacketTypes.PUBLISH, **values)


@define
class Answer:
    """What came for a request: codes, and properties under paho's names. `value` is that of the only code."""

    codes: list[Any]
    properties: Any = None
    session_present: bool = False
    from_broker: bool = False

    @property
    def value(self) -> int:
        (code,) = self.codes
        return int(code.value)

    @property
    def values(self) -> list[int]:
        return [code.value for code in self.codes]

    def __getattr__(self, name: str) -> Any:
        """A property of the packet, or None where the packet does not have it."""
        return getattr(self.properties, name, None)


class PahoClient:
    """Not connected yet; `level` 5 takes properties, the others do not."""

    def __init__(
        self,
        endpoint: Any,
        client_id: str,
        level: MQTTProtocolVersion = V5,
        *,
        clean: bool = True,
        manual: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self.level = level
        self.clean = clean
        self.connack = Answer([])
        self.messages: queue.Queue[mqtt.MQTTMessage] = queue.Queue()
        self._connected: queue.Queue[Answer] = queue.Queue()
        self._subscribed: queue.Queue[Answer] = queue.Queue()
        self._unsubscribed: queue.Queue[Answer] = queue.Queue()
        self._published: queue.Queue[tuple[int, Answer]] = queue.Queue()
        self._disconnected: queue.Queue[Answer] = queue.Queue()
        self.client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if level == V5 else clean,
            protocol=level,
            transport=TRANSPORTS.get(endpoint.transport, "tcp"),
            reconnect_on_failure=False,
            manual_ack=manual,
        )
        if endpoint.websocket:
            client.ws_set_options(path=endpoint.websocket_path)
        if endpoint.tls:
            client.tls_set_context(endpoint.ssl_context())
        client.on_message = lambda client, userdata, message: self.messages.put(message)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = lambda client, userdata, mid, codes, more: self._subscribed.put(Answer(codes, more))
        client.on_unsubscribe = lambda client, userdata, mid, codes, more: self._unsubscribed.put(Answer(codes, more))
        client.on_publish = lambda client, userdata, mid, code, more: self._published.put((mid, Answer([code], more)))

    def _on_connect(self, client: Any, userdata: Any, flags: mqtt.ConnectFlags, code: ReasonCode, more: Any) -> None:
        self._connected.put(Answer([code], more, session_present=flags.session_present))

    def _on_disconnect(
        self, client: Any, userdata: Any, flags: mqtt.DisconnectFlags, code: ReasonCode, more: Any
    ) -> None:
        self._disconnected.put(Answer([code], more, from_broker=flags.is_disconnect_packet_from_server))

    def connect(self, keepalive: int = 60, **connect_properties: Any) -> Answer:
        """The CONNACK, whatever it says."""
        host, port = self.endpoint.host, self.endpoint.port
        if self.level == V5:
            asked = properties(PacketTypes.CONNECT, **connect_properties)
            self.client.connect(host, port, keepalive, clean_start=self.clean, properties=asked)
        else:
            self.client.connect(host, port, keepalive)
        self.client.loop_start()
        return self._connected.get(timeout=TIMEOUT)

    def subscribe(
        self,
        topic_filter: str,
        qos: int = 0,
        *,
        identifier: int | None = None,
        no_local: bool = False,
        as_published: bool = False,
        handling: int = 0,
    ) -> Answer:
        """The SUBACK, whatever it says."""
        if self.level == V5:
            options = SubscribeOptions(qos, no_local, as_published, handling)
            more = properties(
                PacketTypes.SUBSCRIBE, **({} if identifier is None else {"SubscriptionIdentifier": identifier})
            )
            self.client.subscribe(topic_filter, options=options, properties=more)
        else:
            self.client.subscribe(topic_filter, qos)
        return self._subscribed.get(timeout=TIMEOUT)

    def unsubscribe(self, topic_filter: str | list[str]) -> Answer:
        self.client.unsubscribe(topic_filter)
        return self._unsubscribed.get(timeout=TIMEOUT)

    def publish(self, topic_name: str, payload: bytes, qos: int = 1, retain: bool = False, **values: Any) -> Answer:
        """The end of the handshake (for QoS 0: sent)."""
        more = on_publish(**values) if self.level == V5 else None
        info = self.client.publish(topic_name, payload, qos, retain, more)
        while True:
            mid, answer = self._published.get(timeout=TIMEOUT)
            if mid == info.mid:  # else one that was merely sent
                return answer

    def send(self, topic_name: str, payload: bytes, qos: int = 0, retain: bool = False, **values: Any) -> None:
        """Nobody waits for what becomes of it."""
        self.client.publish(topic_name, payload, qos, retain, on_publish(**values) if self.level == V5 else None)

    def receive(self) -> mqtt.MQTTMessage:
        return self.messages.get(timeout=TIMEOUT)

    def receive_payloads(self, count: int) -> list[bytes]:
        return [bytes(self.receive().payload) for _ in range(count)]

    def disconnect(self, code: int | None = None, **values: Any) -> None:
        """End of the connection, the polite way."""
        if self.level == V5:
            reason = None if code is None else ReasonCode(PacketTypes.DISCONNECT, identifier=code)
            self.client.disconnect(reason, properties(PacketTypes.DISCONNECT, **values) if values else None)
        else:
            self.client.disconnect()
        self.disconnected()

    def close(self) -> None:
        """The end of the client, connected or not, with all its sockets: also the pair that wakes its thread.

        paho would close that one when it is collected; client and callbacks are a cycle, so a socket may come first.
        """
        self.client.disconnect()
        self.client.loop_stop()
        self.client._reset_sockets()

    def disconnected(self) -> Answer:
        """How the connection ended; `from_broker` where a DISCONNECT said so."""
        return self._disconnected.get(timeout=TIMEOUT)


@contextmanager
def opened(
    endpoint: Any,
    client_id: str,
    level: MQTTProtocolVersion = V5,
    *,
    clean: bool = True,
    manual: bool = False,
    will: dict[str, Any] | None = None,
    **connect_properties: Any,
) -> Iterator[PahoClient]:
    """A connected client; `will` is what paho's `will_set` takes, `connect_properties` are those of CONNECT."""
    paho = PahoClient(endpoint, client_id, level, clean=clean, manual=manual)
    if will is not None:
        paho.client.will_set(**will)
    try:
        answer = paho.connect(**connect_properties)
        assert answer.value == 0, answer
        paho.connack = answer
        yield paho
    finally:
        paho.close()
