"""The fifteen control packets as plain objects [MQTT 5.0 section 3].

Invariant: a packet object says what stands on the wire and nothing else; `properties` is never changed in place
(the empty one is shared by all packets).

PUBLISH and its acknowledgements are made for every message, so they are msgspec structs, which cost a fifth of what
an attrs object costs to make; they hold no cycles and are kept out of the garbage collector's sight.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, TypeAlias, TypedDict, TypeVar

import msgspec
from attrs import define, evolve, field

# Protocol versions by their level byte.
MQTT31: Final = 3
MQTT311: Final = 4
MQTT5: Final = 5


class PacketType(IntEnum):
    """Upper four bits of the first byte."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


class Properties(TypedDict, total=False):
    """Properties by their name in the specification [MQTT 5.0 section 2.2.2.2].

    Bytes of type byte/two/four byte integer are `int`; the flags 0/1 stay `int`.
    """

    payload_format_indicator: int
    message_expiry_interval: int
    content_type: str
    response_topic: str
    correlation_data: bytes
    # One number in SUBSCRIBE; all that apply, in a list, in a server's PUBLISH: always a list here.
    subscription_identifier: list[int]
    session_expiry_interval: int
    assigned_client_identifier: str
    server_keep_alive: int
    authentication_method: str
    authentication_data: bytes
    request_problem_information: int
    will_delay_interval: int
    request_response_information: int
    response_information: str
    server_reference: str
    reason_string: str
    receive_maximum: int
    topic_alias_maximum: int
    topic_alias: int
    maximum_qos: int
    retain_available: int
    user_property: list[tuple[str, str]]
    maximum_packet_size: int
    wildcard_subscription_available: int
    subscription_identifier_available: int
    shared_subscription_available: int


NO_PROPERTIES: Final[Properties] = {}


def _without_secrets(properties: Properties) -> str:
    """The repr of properties that may hold authentication data."""
    if "authentication_data" not in properties:
        return repr(properties)
    return repr({**properties, "authentication_data": "******"})


@define
class Will:
    """The will of a CONNECT; its delay is `properties["will_delay_interval"]`, in seconds."""

    topic_name: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = field(factory=lambda: NO_PROPERTIES)


@define
class Connect:
    """First packet of a client. `protocol_level` is 3, 4 or 5, the bridge bit taken out into `bridge`."""

    client_id: str
    protocol_level: int = MQTT5
    clean_start: bool = True
    keep_alive: int = 0
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)  # what is secret never stands in a log
    will: Will | None = None
    bridge: bool = False
    properties: Properties = field(factory=lambda: NO_PROPERTIES, repr=_without_secrets)


@define
class ConnAck:
    """Answer to CONNECT. `reason_code` is the one of 5.0; the encoder turns it into a return code for 3.x."""

    reason_code: int = 0
    session_present: bool = False
    properties: Properties = field(factory=lambda: NO_PROPERTIES)


def _no_properties() -> Properties:
    return NO_PROPERTIES


class Publish(msgspec.Struct, gc=False, eq=False):
    """A message on the wire. `packet_identifier` is 0 with QoS 0.

    `frame` is the packet as it was received, kept only where it may be passed on as it stands to another client of
    the same kind (QoS 0, no DUP, no RETAIN, no properties); else None. It does not count in a comparison.
    """

    topic_name: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_identifier: int = 0
    properties: Properties = msgspec.field(default_factory=_no_properties)
    frame: bytes | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Publish):
            return NotImplemented
        return self._wire() == other._wire()

    __hash__ = None  # type: ignore[assignment]

    def _wire(self) -> tuple[Any, ...]:
        return (
            self.topic_name,
            self.payload,
            self.qos,
            self.retain,
            self.dup,
            self.packet_identifier,
            self.properties,
        )


class PubAck(msgspec.Struct, gc=False):
    packet_identifier: int
    reason_code: int = 0
    properties: Properties = msgspec.field(default_factory=_no_properties)


class PubRec(msgspec.Struct, gc=False):
    packet_identifier: int
    reason_code: int = 0
    properties: Properties = msgspec.field(default_factory=_no_properties)


class PubRel(msgspec.Struct, gc=False):
    packet_identifier: int
    reason_code: int = 0
    properties: Properties = msgspec.field(default_factory=_no_properties)


class PubComp(msgspec.Struct, gc=False):
    packet_identifier: int
    reason_code: int = 0
    properties: Properties = msgspec.field(default_factory=_no_properties)


@define
class SubscribeFilter:
    """One filter of a SUBSCRIBE, with its subscription options [MQTT 5.0 section 3.8.3.1]."""

    topic_filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


@define
class Subscribe:
    packet_identifier: int
    filters: list[SubscribeFilter]
    properties: Properties = field(factory=lambda: NO_PROPERTIES)


@define
class SubAck:
    packet_identifier: int
    reason_codes: list[int]
    properties: Properties = field(factory=lambda: NO_PROPERTIES)


@define
class Unsubscribe:
    packet_identifier: int
    topic_filters: list[str]
    properties: Properties = field(factory=lambda: NO_PROPERTIES)


@define
class UnsubAck:
    """`reason_codes` are sent in 5.0 only."""

    packet_identifier: int
    reason_codes: list[int]
    properties: Properties = field(factory=lambda: NO_PROPERTIES)


@define
class PingReq:
    pass


@define
class PingResp:
    pass


@define
class Disconnect:
    reason_code: int = 0
    properties: Properties = field(factory=lambda: NO_PROPERTIES)


@define
class Auth:
    reason_code: int = 0
    properties: Properties = field(factory=lambda: NO_PROPERTIES, repr=_without_secrets)


Packet: TypeAlias = (
    Connect
    | ConnAck
    | Publish
    | PubAck
    | PubRec
    | PubRel
    | PubComp
    | Subscribe
    | SubAck
    | Unsubscribe
    | UnsubAck
    | PingReq
    | PingResp
    | Disconnect
    | Auth
)

P = TypeVar("P", bound=Packet)


def changed(packet: P, **fields: Any) -> P:
    """A copy of a packet with other values in some of its fields."""
    replace: Any = msgspec.structs.replace if isinstance(packet, msgspec.Struct) else evolve
    copy: P = replace(packet, **fields)
    return copy
