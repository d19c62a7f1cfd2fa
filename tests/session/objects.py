"""Sessions, runs and deliveries for the tests of this folder, and what a client sees of a session's bytes.

Invariant: nothing here knows more of a session than a client, a router or a listing does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trio_broker.protocol.decoder import Decoder
from trio_broker.protocol.message import Message, Origin, Run
from trio_broker.protocol.packets import MQTT5, NO_PROPERTIES, Packet, Properties, Publish
from trio_broker.routing.delivery import Delivery, delivery_for
from trio_broker.routing.subscription import Subscription
from trio_broker.session.channel import Channel
from trio_broker.session.connect import Terms
from trio_broker.session.limits import Limits
from trio_broker.session.meter import Meter
from trio_broker.session.session import UNLIMITED_PACKET_SIZE, Session
from trio_broker.session.step import Step

NOW = 1000.0
NS = 5_000_000_000
SOMEBODY = Origin("somebody")
LARGE = 268_435_460


class Peer:
    """A recipient of deliveries; only its name matters."""

    def __init__(self, client_id: str = "c") -> None:
        self.client_id = client_id


def make_session(limits: Limits | None = None, level: int = 0, receive_maximum: int = 65535) -> Session:
    """A session; connected when a protocol level is given."""
    session = Session("c", limits or Limits(), Meter(), 1)
    if level:
        session.attach(level, receive_maximum, UNLIMITED_PACKET_SIZE)
    return session


def delivery(**options: Any) -> Delivery[Peer]:
    """What a router says of one subscription to `t`."""
    return delivery_for(Peer(), Subscription("t", "t", **options))


def message(
    payload: bytes, qos: int = 1, properties: Properties = NO_PROPERTIES, expires_at: float | None = None
) -> Message:
    return Message("t", payload, qos, False, 1, SOMEBODY, 1, properties, expires_at)


def run(*payloads: bytes, qos: int = 1, retain: bool = False, origin: Origin = SOMEBODY) -> Run:
    """A run as the broker makes it, of messages without properties."""
    return Run("t", qos, retain, origin, [Message("t", payload, qos, retain, 1, origin, 1) for payload in payloads])


def client_run(*payloads: bytes, qos: int = 1, level: int = MQTT5) -> Run:
    """A run as it comes from a client: packets, no messages yet."""
    packets = [Publish("t", payload, qos, packet_identifier=number) for number, payload in enumerate(payloads, 1)]
    made = Run("t", qos, False, SOMEBODY, None, True, packets, 5 if level == MQTT5 else 4)
    made.number(1)
    return made


def decoded(out: Iterable[bytes], level: int = MQTT5) -> list[Packet]:
    """What a client reads; the bytes must be MQTT."""
    decoder = Decoder(role="client", level=level, max_packet_size=LARGE)
    packets = decoder.feed(b"".join(out))
    assert decoder.error is None
    assert decoder.pending == 0
    return packets


def published(out: Iterable[bytes], level: int = MQTT5) -> list[Publish]:
    """The same where only messages may be among it."""
    packets = decoded(out, level)
    assert all(isinstance(packet, Publish) for packet in packets)
    return [packet for packet in packets if isinstance(packet, Publish)]


def make_terms(level: int = MQTT5, session_expiry_interval: int = 0, bridge: bool = False) -> Terms:
    return Terms(level, "c", False, True, 0, session_expiry_interval, 65535, UNLIMITED_PACKET_SIZE, True, bridge)


def make_channel(limits: Limits | None = None, level: int = MQTT5, **options: Any) -> Channel:
    """A channel of a connected session. `options` are `authorize_publish`, `authorize_subscribe`, and those of
    `make_terms`."""
    rights = {name: options.pop(name) for name in ("authorize_publish", "authorize_subscribe") if name in options}
    session = make_session(limits, level)
    return Channel(session, make_terms(level, **options), Origin("c"), "recipient", "publisher", **rights)


def make_step() -> Step:
    return Step(NOW, 1_000_000, 1)
