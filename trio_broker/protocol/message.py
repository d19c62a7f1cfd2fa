"""The application message inside the broker, and a run of messages that travel together.

Invariant: a message is encoded once for all who get the same bytes; neither a message nor its properties change after
they were made. Times: `publish_at` is wall clock in milliseconds, `expires_at` is Trio time in seconds.
"""

from __future__ import annotations

import msgspec
from attrs import define

from trio_broker.protocol.packets import NO_PROPERTIES, Properties, Publish


@define(eq=False, frozen=False)
class Origin:
    """Who published: one object for all messages of one connection."""

    client_id: str
    username: str | None = None


class Message(msgspec.Struct, gc=False, eq=False):
    """One application message.

    `properties` holds only what travels to subscribers (payload format indicator, message expiry interval, content
    type, response topic, correlation data, user properties) [MQTT-3.3.2-4, 3.3.2-15 to 3.3.2-20].
    `message_id` grows with every message of this broker: milliseconds since the epoch times 2**20, plus a counter.
    """

    topic_name: str
    payload: bytes
    qos: int
    retain: bool
    message_id: int
    origin: Origin
    publish_at: int
    properties: Properties = msgspec.field(default_factory=lambda: NO_PROPERTIES)
    expires_at: float | None = None

    def remaining_expiry(self, now: float) -> int | None:
        """Whole seconds left before it expires; None = never; 0 or below = expired [MQTT-3.3.2-6]."""
        if self.expires_at is None:
            return None
        # What was spent here counts in whole seconds, so the rest is rounded up.
        return -int((now - self.expires_at) // 1)


class Run(msgspec.Struct, gc=False, eq=False):
    """Messages of one publisher with one topic, one QoS and one retain flag, in their order.

    `packets` are the PUBLISHes a client sent (None for messages from inside the broker); `level` (4 or 5, 4 stands for
    3.1 too) is what their frames were written in. A plain run has no properties and no expiry in any of its messages:
    its frames do not depend on the time, and its `Message` objects are made only when somebody has to keep one.
    `frames4` and `frames5` cache the joined QoS 0 packets of the run with RETAIN 0. `publisher` is the connection that
    waits for acknowledgements when `qos` is above 0; the router fills in `matched`, the number of sessions the run
    went to. `stored`: something of it has to be durable before it is acknowledged.
    """

    topic_name: str
    qos: int
    retain: bool
    origin: Origin
    _messages: list[Message] | None = None
    plain: bool = True
    packets: list[Publish] | None = None
    level: int = 0
    publisher: object = None
    first_message_id: int = 0
    publish_at: int = 0
    matched: int = 0
    stored: bool = False
    frames4: bytes | None = None
    frames5: bytes | None = None

    def __len__(self) -> int:
        if self.packets is not None:
            return len(self.packets)
        return 0 if self._messages is None else len(self._messages)

    @property
    def messages(self) -> list[Message]:
        """The messages, made from the packets when they are first asked for."""
        messages = self._messages
        if messages is None:
            topic_name, qos, retain, origin = self.topic_name, self.qos, self.retain, self.origin
            publish_at = self.publish_at
            packets = self.packets or ()
            if len(packets) == 1:
                message = Message(
                    topic_name,
                    packets[0].payload,
                    qos,
                    retain,
                    self.first_message_id,
                    origin,
                    publish_at,
                    NO_PROPERTIES,
                )
                messages = self._messages = [message]
                return messages
            messages = self._messages = [
                Message(topic_name, packet.payload, qos, retain, message_id, origin, publish_at, NO_PROPERTIES)
                for message_id, packet in enumerate(packets, self.first_message_id)
            ]
        return messages

    def number(self, first_message_id: int) -> int:
        """The run is complete: give its messages their ids; returns the next one."""
        self.first_message_id = first_message_id
        if self._messages is not None:
            for message_id, message in enumerate(self._messages, first_message_id):
                message.message_id = message_id
        return first_message_id + len(self)
