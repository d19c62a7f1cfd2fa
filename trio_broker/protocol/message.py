"""The application message inside the broker, and a run of messages that travel together.

Invariant: a message is encoded once for all who get the same bytes; neither a message nor its properties change after
they were made. Times: `publish_at` is wall clock in milliseconds, `expires_at` is Trio time in seconds.
"""

from __future__ import annotations

import msgspec
from attrs import define, field

from trio_broker.protocol.packets import NO_PROPERTIES, Properties


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


@define(eq=False)
class Run:
    """Messages of one publisher with one topic, one QoS and one retain flag, in their order.

    `raw` holds the packets as they were received where they may be passed on as they stand (see `Publish.frame`), all
    of them or none, `raw_level` is the protocol level they were written in (4 stands for 3.1 too). `frames4` and
    `frames5` cache the joined QoS 0 packets of the run with RETAIN 0. `publisher` is the connection that waits for
    acknowledgements of `packet_identifiers` when `qos` is above 0; the router fills in `matched`, the number of
    sessions the run went to.
    """

    topic_name: str
    qos: int
    retain: bool
    origin: Origin
    messages: list[Message]
    plain: bool = True  # no properties in any of them: the frames do not depend on the time
    raw: list[bytes] | None = None
    raw_level: int = 0
    packet_identifiers: list[int] = field(factory=list)
    publisher: object = None
    matched: int = 0
    frames4: bytes | None = None
    frames5: bytes | None = None
