"""Control packets and payloads as the text that a trace shows.

Invariant: no password and no authentication data is in it, and however large a packet is, its text is not; it may hold
line breaks of the peer's, which whoever writes the line has to escape.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, Literal

from trio_broker.protocol.packets import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    Properties,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    SubscribeFilter,
    UnsubAck,
    Unsubscribe,
    Will,
)

PayloadEncode = Literal["text", "hex", "hidden"]

LONGEST_PAYLOAD: Final = 1024
"""Bytes of a payload that are shown."""
LONGEST_TEXT: Final = 8192
"""Characters of a packet, or of any other text of a peer's, that are shown."""
MOST_SHOWN: Final = 100
"""Filters, reason codes, user properties of one packet that are shown."""

HIDDEN: Final = "******"
_TOKEN: Final = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*", re.ASCII)
"""A JWT: its first part is an object, in base64."""
_PROTOCOL_NAMES: Final = {3: "MQIsdp", 4: "MQTT", 5: "MQTT"}


def describe(packet: Packet, encode: PayloadEncode) -> str:
    """As EMQX writes it: `PUBLISH(Q1, R0, D0, Topic=t/1, PacketId=1, Payload(text)=hello)`."""
    name = type(packet).__name__.upper()
    qos = 1 if isinstance(packet, Subscribe | Unsubscribe | PubRel) else 0
    retain = dup = False
    if isinstance(packet, Publish):
        qos, retain, dup = packet.qos, packet.retain, packet.dup
    parts = [f"Q{qos}", f"R{retain:d}", f"D{dup:d}", *_parts(packet, encode)]
    properties = getattr(packet, "properties", None)
    if properties:
        parts.append(f"Properties=[{_properties(properties)}]")
    if isinstance(packet, Publish):
        parts.append(payload_label(packet.payload, encode))
    return cut(f"{name}({', '.join(parts)})")


def payload_label(payload: bytes, encode: PayloadEncode) -> str:
    """`Payload(text)=hello`: the word in brackets says how it is shown."""
    text, shown_as = payload_text(payload, encode)
    return f"Payload({shown_as})={text}"


def payload_text(payload: bytes, encode: PayloadEncode) -> tuple[str, PayloadEncode]:
    """Its first bytes, and as what they are shown: text that is no UTF-8 is shown in hexadecimal digits."""
    if encode == "hidden":
        return HIDDEN, "hidden"
    shown = payload[:LONGEST_PAYLOAD]
    text = None
    if encode == "text":
        try:
            text = shown.decode()
        except UnicodeDecodeError as error:
            # What was cut off within a character is still text.
            if len(shown) < len(payload) and error.end == len(shown) and error.start > len(shown) - 4:
                shown = shown[: error.start]
                text = shown.decode()
    left = len(payload) - len(shown)
    more = f"...({left} more bytes)" if left else ""
    if text is None:
        return shown.hex().upper() + more, "hex"
    return text + more, "text"


def cut(text: str) -> str:
    """Not longer than a line may be."""
    left = len(text) - LONGEST_TEXT
    return f"{text[:LONGEST_TEXT]}...({left} more characters)" if left > 0 else text


def _parts(packet: Packet, encode: PayloadEncode) -> list[str]:
    match packet:
        case Connect():
            return _connect(packet, encode)
        case ConnAck():
            return [f"AckFlags={packet.session_present:d}", f"ReasonCode={packet.reason_code:d}"]
        case Publish():
            return [f"Topic={packet.topic_name}", f"PacketId={packet.packet_identifier or 'undefined'}"]
        case PubAck() | PubRec() | PubRel() | PubComp():
            return [f"PacketId={packet.packet_identifier}", f"ReasonCode={packet.reason_code:d}"]
        case Subscribe():
            filters = _list([_asked(one) for one in packet.filters[:MOST_SHOWN]], len(packet.filters))
            return [f"PacketId={packet.packet_identifier}", f"TopicFilters=[{filters}]"]
        case Unsubscribe():
            filters = _list(packet.topic_filters[:MOST_SHOWN], len(packet.topic_filters))
            return [f"PacketId={packet.packet_identifier}", f"TopicFilters=[{filters}]"]
        case SubAck() | UnsubAck():
            codes = _list([f"{code:d}" for code in packet.reason_codes[:MOST_SHOWN]], len(packet.reason_codes))
            return [f"PacketId={packet.packet_identifier}", f"ReasonCodes=[{codes}]"]
        case Disconnect() | Auth():
            return [f"ReasonCode={packet.reason_code:d}"]
        case _:
            return []


def _connect(packet: Connect, encode: PayloadEncode) -> list[str]:
    parts = [
        f"ClientId={packet.client_id}",
        f"ProtoName={_PROTOCOL_NAMES[packet.protocol_level]}",
        f"ProtoVsn={packet.protocol_level}",
        f"CleanStart={str(packet.clean_start).lower()}",
        f"KeepAlive={packet.keep_alive}",
        f"Username={_username(packet.username)}",
        f"Password={'undefined' if packet.password is None else HIDDEN}",
    ]
    will: Will | None = packet.will
    if will is not None:
        parts.append(
            f"Will(Q{will.qos}, R{will.retain:d}, Topic={will.topic_name}, {payload_label(will.payload, encode)})"
        )
    return parts


def _username(username: str | None) -> str:
    if username is None:
        return "undefined"
    # Where `from = "username"` is set for JWT, it is as good as a password.
    return HIDDEN if _TOKEN.fullmatch(username) else username


def _asked(asked: SubscribeFilter) -> str:
    return (
        f"{asked.topic_filter}(nl: {asked.no_local:d}, qos: {asked.qos}, rap: {asked.retain_as_published:d}, "
        f"rh: {asked.retain_handling})"
    )


def _list(shown: Sequence[str], count: int) -> str:
    left = count - len(shown)
    return ", ".join(shown) + (f", ...({left} more)" if left else "")


def _properties(properties: Properties) -> str:
    return ", ".join(f"{name}: {_property(name, value)}" for name, value in properties.items())


def _property(name: str, value: Any) -> str:
    if name == "authentication_data":
        return HIDDEN
    if isinstance(value, bytes):
        return f"({len(value)} bytes)"
    if name == "user_property":
        return f"[{_list([f'{key}={text}' for key, text in value[:MOST_SHOWN]], len(value))}]"
    return str(value)
