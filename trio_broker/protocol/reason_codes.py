"""Reason codes of MQTT 5.0 and the return codes of MQTT 3.x [MQTT 5.0 section 2.4].

Invariant: a code's number is its wire value; which packet may carry which code is in `PACKET_REASON_CODES`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class ReasonCode(IntEnum):
    """One byte on the wire; 0x80 and above say that something failed."""

    SUCCESS = 0x00
    GRANTED_QOS_1 = 0x01
    GRANTED_QOS_2 = 0x02
    DISCONNECT_WITH_WILL_MESSAGE = 0x04
    NO_MATCHING_SUBSCRIBERS = 0x10
    NO_SUBSCRIPTION_EXISTED = 0x11
    CONTINUE_AUTHENTICATION = 0x18
    RE_AUTHENTICATE = 0x19
    UNSPECIFIED_ERROR = 0x80
    MALFORMED_PACKET = 0x81
    PROTOCOL_ERROR = 0x82
    IMPLEMENTATION_SPECIFIC_ERROR = 0x83
    UNSUPPORTED_PROTOCOL_VERSION = 0x84
    CLIENT_IDENTIFIER_NOT_VALID = 0x85
    BAD_USER_NAME_OR_PASSWORD = 0x86
    NOT_AUTHORIZED = 0x87
    SERVER_UNAVAILABLE = 0x88
    SERVER_BUSY = 0x89
    BANNED = 0x8A
    SERVER_SHUTTING_DOWN = 0x8B
    BAD_AUTHENTICATION_METHOD = 0x8C
    KEEP_ALIVE_TIMEOUT = 0x8D
    SESSION_TAKEN_OVER = 0x8E
    TOPIC_FILTER_INVALID = 0x8F
    TOPIC_NAME_INVALID = 0x90
    PACKET_IDENTIFIER_IN_USE = 0x91
    PACKET_IDENTIFIER_NOT_FOUND = 0x92
    RECEIVE_MAXIMUM_EXCEEDED = 0x93
    TOPIC_ALIAS_INVALID = 0x94
    PACKET_TOO_LARGE = 0x95
    MESSAGE_RATE_TOO_HIGH = 0x96
    QUOTA_EXCEEDED = 0x97
    ADMINISTRATIVE_ACTION = 0x98
    PAYLOAD_FORMAT_INVALID = 0x99
    RETAIN_NOT_SUPPORTED = 0x9A
    QOS_NOT_SUPPORTED = 0x9B
    USE_ANOTHER_SERVER = 0x9C
    SERVER_MOVED = 0x9D
    SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E
    CONNECTION_RATE_EXCEEDED = 0x9F
    MAXIMUM_CONNECT_TIME = 0xA0
    SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1
    WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xA2


def _codes(text: str) -> frozenset[int]:
    return frozenset(int(code, 16) for code in text.split())


# Packet name -> the codes that may stand in it, from the tables of the specification
# [MQTT-3.2.2-8, 3.4.2-1, 3.5.2-1, 3.6.2-1, 3.7.2-1, 3.9.3-2, 3.11.3-2, 3.14.2-1, 3.15.2-1].
PACKET_REASON_CODES: Final[dict[str, frozenset[int]]] = {
    "CONNACK": _codes("00 80 81 82 83 84 85 86 87 88 89 8A 8C 90 95 97 99 9A 9B 9C 9D 9F"),
    "PUBACK": _codes("00 10 80 83 87 90 91 97 99"),
    "PUBREC": _codes("00 10 80 83 87 90 91 97 99"),
    "PUBREL": _codes("00 92"),
    "PUBCOMP": _codes("00 92"),
    "SUBACK": _codes("00 01 02 80 83 87 8F 91 97 9E A1 A2"),
    "UNSUBACK": _codes("00 11 80 83 87 8F 91"),
    "DISCONNECT_BY_CLIENT": _codes("00 04 80 81 82 83 90 93 94 95 96 97 98 99"),
    "DISCONNECT_BY_SERVER": _codes(
        "00 80 81 82 83 87 89 8B 8D 8E 8F 90 93 94 95 96 97 98 99 9A 9B 9C 9D 9E 9F A0 A1 A2"
    ),
    "AUTH": _codes("00 18 19"),
}

# CONNACK reason code of 5.0 -> return code of 3.1 and 3.1.1 [MQTT 3.1.1 table 3.1];
# what has no entry is 3 (server unavailable).
_CONNACK_V3: Final[dict[int, int]] = {
    0x00: 0,
    0x84: 1,
    0x85: 2,
    0x88: 3,
    0x89: 3,
    0x97: 3,
    0x9F: 3,
    0x86: 4,
    0x87: 5,
    0x8A: 5,
    0x8C: 5,
}


def connack_return_code(reason_code: int) -> int:
    """The CONNACK return code (0..5) by which MQTT 3.x says what `reason_code` says in 5.0."""
    return _CONNACK_V3.get(reason_code, 3)
