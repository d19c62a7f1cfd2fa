"""Clients of another make, paho, in threads of their own: what they find does not hang on our codec.

Invariant: after `close` nothing of a client is left. paho keeps its session in memory and resends by itself; of QoS 2
messages it tells its application once, at their PUBREL.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

import paho.mqtt.client as mqtt
import trio
from attrs import define, field
from paho.mqtt.enums import CallbackAPIVersion, MessageState, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from torture.judge import body
from trio_broker.protocol.packets import MQTT5

if TYPE_CHECKING:
    from paho.mqtt.reasoncodes import ReasonCode

    from torture.judge import Stream, Subscription
    from torture.world import World

__all__ = ["PahoPublisher", "PahoSubscriber"]

SHORTEST_WAIT: Final = 0.02
LONGEST_WAIT: Final = 0.1
PAUSE: Final = 0.04
NOT_FOUND: Final = 0x92


class _Client(mqtt.Client):
    """paho, but for one fault of it (2.1, 2.2): after a failed attempt to reconnect it forgets that a
    PUBREL is due, and publishes the message once more, without DUP, which the broker has to take for a new one.
    """

    def _messages_reconnect_reset_out(self) -> None:
        with self._out_message_mutex:
            for message in self._out_messages.values():
                if message.state == MessageState.MQTT_MS_RESEND_PUBREL:
                    message.state = MessageState.MQTT_MS_WAIT_FOR_PUBCOMP
            super()._messages_reconnect_reset_out()


def _client(name: str, level: int) -> mqtt.Client:
    is_new = level == MQTT5
    client = _Client(
        CallbackAPIVersion.VERSION2,
        client_id=name,
        clean_session=None if is_new else False,
        protocol=MQTTProtocolVersion.MQTTv5 if is_new else MQTTProtocolVersion.MQTTv311,
    )
    # The types say whole seconds; it only ever compares and waits.
    client.reconnect_delay_set(SHORTEST_WAIT, LONGEST_WAIT)  # type: ignore[arg-type]
    return client


def _start(client: mqtt.Client, port: int, level: int) -> None:
    if level == MQTT5:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 0xFFFFFFFF
        client.connect_async("127.0.0.1", port, keepalive=0, clean_start=False, properties=properties)
    else:
        client.connect_async("127.0.0.1", port, keepalive=0)
    client.loop_start()


def _close(client: mqtt.Client) -> None:
    client.disconnect()
    client.loop_stop()
    # Else it would close these only when it is collected, and they may be collected first.
    client._reset_sockets()


@define(eq=False)
class PahoPublisher:
    """QoS 2 is acknowledged for it at PUBCOMP, later than for others.

    What is published between CONNACK and the end of what paho then sends again would overtake that; so nothing is.
    """

    world: World
    stream: Stream
    level: int
    client: mqtt.Client = field(init=False)
    open: dict[int, int] = field(factory=dict)
    _finished: deque[tuple[int, bool]] = field(factory=deque)
    _connects: int = 0
    _is_connected: bool = False

    def __attrs_post_init__(self) -> None:
        self.client = _client(self.stream.name, self.level)
        self.client.max_inflight_messages_set(self.stream.window)
        self.client.on_connect = self._connected
        self.client.on_disconnect = self._disconnected
        self.client.on_publish = self._published

    def _connected(
        self, client: mqtt.Client, data: object, flags: mqtt.ConnectFlags, code: ReasonCode, properties: object
    ) -> None:
        if not code.is_failure:
            self.world.judge.connected(self.stream.name, flags.session_present)
            self._connects += 1
            self._is_connected = True

    def _disconnected(
        self, client: mqtt.Client, data: object, flags: mqtt.DisconnectFlags, code: ReasonCode, properties: object
    ) -> None:
        self._is_connected = False

    def _published(self, client: mqtt.Client, data: object, mid: int, code: ReasonCode, properties: object) -> None:
        # It holds its own locks here; the numbers are looked up outside of them.
        # PUBCOMP "identifier not found" is a good end: the broker knew the PUBREL already.
        self._finished.append((mid, code.is_failure and code.value != NOT_FOUND))

    async def run(self) -> None:
        _start(self.client, self.world.port, self.level)
        chance = self.world.chance(self.stream.name)
        judge = self.world.judge
        seen = 0
        is_resending = False
        while not (self.world.finishing and not self.open):
            is_connected = self._is_connected  # asked first: a new connection is seen as such below
            if self._connects != seen:
                seen = self._connects
                is_resending = True
                for sequence in self.open.values():
                    judge.sent(self.stream, sequence)
            is_resending = is_resending and bool(self.open)
            may_send = is_connected and not is_resending and self.stream.name not in self.world.crowded
            room = self.stream.window - len(self.open)
            if room > 0 and may_send and not self.world.finishing:
                for _ in range(chance.randint(1, room)):
                    sequence = len(self.stream.ticks) + 1
                    judge.sent(self.stream, sequence)
                    topic = self.stream.topic_of(sequence)
                    message = self.client.publish(topic, body(self.stream.name, sequence), self.stream.qos)
                    self.open[message.mid] = sequence
            await trio.sleep(PAUSE * chance.random())
            while self._finished:
                mid, failed = self._finished.popleft()
                sequence = self.open.pop(mid)
                if failed:
                    judge.say("refused", f"{self.stream.name} {sequence}")
                else:
                    judge.acknowledged(self.stream, sequence)

    def close(self) -> None:
        _close(self.client)


@define(eq=False)
class PahoSubscriber:
    world: World
    name: str
    subscription: Subscription
    topic_filter: str
    level: int
    client: mqtt.Client = field(init=False)
    is_subscribed: bool = False

    def __attrs_post_init__(self) -> None:
        self.client = _client(self.name, self.level)
        self.client.on_connect = self._connected
        self.client.on_subscribe = self._subscribed
        self.client.on_message = self._received

    def _connected(
        self, client: mqtt.Client, data: object, flags: mqtt.ConnectFlags, code: ReasonCode, properties: object
    ) -> None:
        if code.is_failure:
            return
        self.world.judge.connected(self.name, flags.session_present)
        if not (self.is_subscribed and flags.session_present):
            client.subscribe(self.topic_filter, self.subscription.qos)

    def _subscribed(self, client: mqtt.Client, data: object, mid: int, codes: list[Any], properties: object) -> None:
        self.is_subscribed = True
        self.world.judge.subscribed(self.subscription)

    def _received(self, client: mqtt.Client, data: object, message: mqtt.MQTTMessage) -> None:
        if not message.retain:
            self.world.judge.received(
                self.subscription, message.topic, bytes(message.payload), qos=message.qos, dup=message.dup
            )

    async def run(self) -> None:
        _start(self.client, self.world.port, self.level)
        await trio.sleep_forever()

    def close(self) -> None:
        _close(self.client)
