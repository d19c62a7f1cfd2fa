"""The property table of the specification once more, as bytes [MQTT 5.0 section 2.2.2.2].

Each row: identifier, name, the bytes of a value, that value, where it may stand.
"""

from __future__ import annotations

from typing import Any, Final

from attrs import define

from cases.wire import integer, raw, section, text

PUBLISHES: Final = ("PUBLISH_BY_CLIENT", "PUBLISH_BY_SERVER")
DISCONNECTS: Final = ("DISCONNECT_BY_CLIENT", "DISCONNECT_BY_SERVER")
ACKNOWLEDGEMENTS: Final = ("PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBACK", "UNSUBACK")
EVERYWHERE: Final = (
    "CONNECT",
    "WILL",
    "CONNACK",
    *PUBLISHES,
    *ACKNOWLEDGEMENTS,
    "SUBSCRIBE",
    "UNSUBSCRIBE",
    *DISCONNECTS,
    "AUTH",
)


@define(frozen=True)
class PropertyCase:
    """`data` is one property, identifier and value; `value` is what it is in `Properties`."""

    name: str
    data: bytes
    value: Any
    packets: tuple[str, ...]

    @property
    def section(self) -> bytes:
        return section(self.data)


@define(frozen=True)
class WrongPropertyCase:
    """A property section that is wrong in the packets named."""

    name: str
    section: bytes
    packets: tuple[str, ...]
    reason_code: int


def _case(identifier: int, name: str, value_bytes: bytes, value: Any, *packets: str) -> PropertyCase:
    return PropertyCase(name, bytes([identifier]) + value_bytes, value, packets)


PROPERTY_CASES: Final = (
    _case(0x01, "payload_format_indicator", b"\1", 1, *PUBLISHES, "WILL"),
    _case(0x02, "message_expiry_interval", raw("FFFFFFFF"), 0xFFFFFFFF, *PUBLISHES, "WILL"),
    _case(0x03, "content_type", text("text/plain"), "text/plain", *PUBLISHES, "WILL"),
    _case(0x08, "response_topic", text("a/b"), "a/b", *PUBLISHES, "WILL"),
    _case(0x09, "correlation_data", text(b"\0\xff"), b"\0\xff", *PUBLISHES, "WILL"),
    _case(0x0B, "subscription_identifier", raw("FFFFFF7F"), [268_435_455], "PUBLISH_BY_SERVER", "SUBSCRIBE"),
    _case(0x11, "session_expiry_interval", raw("0000000A"), 10, "CONNECT", "CONNACK", "DISCONNECT_BY_CLIENT"),
    _case(0x12, "assigned_client_identifier", text("id"), "id", "CONNACK"),
    _case(0x13, "server_keep_alive", raw("003C"), 60, "CONNACK"),
    _case(0x15, "authentication_method", text("SCRAM"), "SCRAM", "CONNECT", "CONNACK", "AUTH"),
    _case(0x16, "authentication_data", text(b"\1\2"), b"\1\2", "CONNECT", "CONNACK", "AUTH"),
    _case(0x17, "request_problem_information", b"\0", 0, "CONNECT"),
    _case(0x18, "will_delay_interval", raw("00000005"), 5, "WILL"),
    _case(0x19, "request_response_information", b"\1", 1, "CONNECT"),
    _case(0x1A, "response_information", text("info"), "info", "CONNACK"),
    _case(0x1C, "server_reference", text("other:1883"), "other:1883", "CONNACK", "DISCONNECT_BY_SERVER"),
    _case(0x1F, "reason_string", text("why"), "why", "CONNACK", *ACKNOWLEDGEMENTS, *DISCONNECTS, "AUTH"),
    _case(0x21, "receive_maximum", raw("FFFF"), 65_535, "CONNECT", "CONNACK"),
    _case(0x22, "topic_alias_maximum", raw("0000"), 0, "CONNECT", "CONNACK"),
    _case(0x23, "topic_alias", raw("0001"), 1, *PUBLISHES),
    _case(0x24, "maximum_qos", b"\1", 1, "CONNACK"),
    _case(0x25, "retain_available", b"\0", 0, "CONNACK"),
    _case(0x26, "user_property", text("key") + text("välue"), [("key", "välue")], *EVERYWHERE),
    _case(0x27, "maximum_packet_size", raw("00000001"), 1, "CONNECT", "CONNACK"),
    _case(0x28, "wildcard_subscription_available", b"\1", 1, "CONNACK"),
    _case(0x29, "subscription_identifier_available", b"\0", 0, "CONNACK"),
    _case(0x2A, "shared_subscription_available", b"\1", 1, "CONNACK"),
)


def _wrong(name: str, reason_code: int, data: bytes, *packets: str) -> WrongPropertyCase:
    return WrongPropertyCase(name, section(data), packets, reason_code)


WRONG_PROPERTY_CASES: Final = (
    # Limits of the values.
    _wrong("payload format 2", 0x82, raw("01 02"), *PUBLISHES, "WILL"),
    _wrong("response topic with +", 0x82, b"\x08" + text("a/+"), *PUBLISHES, "WILL"),
    _wrong("response topic with #", 0x82, b"\x08" + text("#"), *PUBLISHES, "WILL"),
    _wrong("response topic empty", 0x82, b"\x08" + text(""), *PUBLISHES, "WILL"),
    _wrong("subscription identifier 0", 0x82, raw("0B 00"), "SUBSCRIBE", "PUBLISH_BY_SERVER"),
    _wrong("subscription identifier in five bytes", 0x81, raw("0B 80 80 80 80 01"), "SUBSCRIBE", "PUBLISH_BY_SERVER"),
    _wrong("subscription identifier longer than it need be", 0x81, raw("0B 81 00"), "SUBSCRIBE"),
    _wrong("subscription identifier twice in a SUBSCRIBE", 0x82, raw("0B 01 0B 02"), "SUBSCRIBE"),
    _wrong("request problem information 2", 0x82, raw("17 02"), "CONNECT"),
    _wrong("request response information 2", 0x82, raw("19 02"), "CONNECT"),
    _wrong("receive maximum 0", 0x82, raw("21 00 00"), "CONNECT", "CONNACK"),
    _wrong("maximum packet size 0", 0x82, raw("27 00 00 00 00"), "CONNECT", "CONNACK"),
    _wrong("topic alias 0", 0x94, raw("23 00 00"), *PUBLISHES),
    _wrong("maximum QoS 2", 0x82, raw("24 02"), "CONNACK"),
    _wrong("retain available 2", 0x82, raw("25 02"), "CONNACK"),
    _wrong("wildcard subscription available 2", 0x82, raw("28 02"), "CONNACK"),
    _wrong("subscription identifier available 2", 0x82, raw("29 02"), "CONNACK"),
    _wrong("shared subscription available 2", 0x82, raw("2A 02"), "CONNACK"),
    # Identifiers that do not exist.
    _wrong("identifier 0", 0x81, raw("00 00"), *EVERYWHERE),
    _wrong("identifier 0x7F", 0x81, raw("7F 00"), *EVERYWHERE),
    _wrong("identifier in two bytes", 0x81, raw("81 01 00"), *EVERYWHERE),
    # Strings and lengths.
    _wrong("string with NUL", 0x81, b"\x26" + text("a\0") + text(""), *EVERYWHERE),
    _wrong("second string not UTF-8", 0x81, b"\x26" + text("a") + text(b"\xff"), *EVERYWHERE),
    _wrong("string beyond the properties", 0x81, raw("26 00 01 61 00 05 62"), *EVERYWHERE),
    _wrong("pair without its second half", 0x81, raw("26 00 01 61"), *EVERYWHERE),
    _wrong("length cut off", 0x81, raw("26 00"), *EVERYWHERE),
    _wrong("two byte integer cut off", 0x81, raw("21 01"), "CONNECT", "CONNACK"),
    _wrong("four byte integer cut off", 0x81, raw("11 00 00 00"), "CONNECT", "CONNACK"),
    _wrong("byte cut off", 0x81, raw("17"), "CONNECT"),
    _wrong("variable byte integer cut off", 0x81, raw("0B 80"), "SUBSCRIBE"),
    WrongPropertyCase("section beyond the packet", integer(100_000), EVERYWHERE, 0x81),
    WrongPropertyCase("section length in five bytes", raw("80 80 80 80 01"), EVERYWHERE, 0x81),
    WrongPropertyCase("section length longer than it need be", raw("80 00"), EVERYWHERE, 0x81),
    # Once only, everything but the user property.
    *(
        _wrong(f"{case.name} twice", 0x82, case.data * 2, *case.packets)
        for case in PROPERTY_CASES
        if case.name not in ("user_property", "subscription_identifier")
    ),
    # Each in every packet it is not for.
    *(
        _wrong(f"{case.name} out of place", 0x82, case.data, *(name for name in EVERYWHERE if name not in case.packets))
        for case in PROPERTY_CASES
        if case.name != "user_property"
    ),
)
