"""Packets that break the rules, and the reason code each leads to (below level 5 the connection is just closed)."""

from __future__ import annotations

from typing import Final

from cases.packet_case import Side, WrongCase
from cases.wire import packet, raw, section, text

ALL: Final = (3, 4, 5)
V3: Final = (3, 4)
V5: Final = (5,)


def connect(name: str, level: int, flags: int, *rest: bytes, first: int = 0x10) -> bytes:
    """A CONNECT with keep alive 60; `rest` is what stands behind that."""
    return packet(first, text(name), bytes([level, flags]), raw("003C"), *rest)


def _connect(name: str, reason_code: int, data: bytes, decoder_level: int) -> WrongCase:
    return WrongCase(name, 0, data, reason_code, "client", decoder_level)


def _each(
    name: str, reason_code: int, data: bytes, levels: tuple[int, ...] = ALL, sent_by: Side = "client"
) -> list[WrongCase]:
    return [WrongCase(name, level, data, reason_code, sent_by, level) for level in levels]


def _property_byte(level: int) -> bytes:
    return b"\0" if level == 5 else b""


def _before_connect() -> list[WrongCase]:
    client_id = text("c")
    will = text("w") + text(b"bye")
    return [
        # First packet.
        _connect("PUBLISH first", 0x82, raw("30 03 00 01 61"), 0),
        _connect("PINGREQ first", 0x82, raw("C0 00"), 0),
        _connect("DISCONNECT first", 0x82, raw("E0 00"), 0),
        _connect("type 0 first", 0x82, raw("00 00"), 0),
        _connect("an HTTP request", 0x82, b"GET / HTTP/1.1\r\n\r\n", 0),
        _connect("empty CONNECT", 0x81, raw("10 00"), 0),
        _connect("CONNECT too large", 0x95, raw("10 80 80 80 01"), 0),
        _connect("remaining length with five bytes", 0x81, raw("10 80 80 80 80 01"), 0),
        _connect("remaining length longer than it need be", 0x81, raw("10 8F 00") + bytes(15), 0),
        # Name and level.
        _connect("protocol name cut off", 0x81, raw("10 03 00 04 4D"), 0),
        _connect("protocol name not UTF-8", 0x81, connect("", 4, 2)[:2] + raw("00 01 FF 04 02 00"), 0),
        _connect("no level", 0x81, packet(0x10, text("MQTT")), 0),
        _connect("unknown name, level 4", 0x84, connect("MQTX", 4, 2, client_id), 4),
        _connect("unknown name, level 5", 0x84, connect("mqtt", 5, 2, b"\0", client_id), 5),
        _connect("empty name", 0x84, connect("", 4, 2, client_id), 4),
        _connect("MQTT level 0", 0x84, connect("MQTT", 0, 2, client_id), 4),
        _connect("MQTT level 3", 0x84, connect("MQTT", 3, 2, client_id), 4),
        _connect("MQTT level 6", 0x84, connect("MQTT", 6, 2, b"\0", client_id), 5),
        _connect("MQTT level 255", 0x84, connect("MQTT", 255, 2, client_id), 5),
        _connect("MQTT with the bridge bit, level 5", 0x84, connect("MQTT", 0x85, 2, b"\0", client_id), 5),
        _connect("MQTT with the bridge bit, level 3", 0x84, connect("MQTT", 0x83, 2, client_id), 4),
        _connect("MQIsdp level 4", 0x84, connect("MQIsdp", 4, 2, client_id), 3),
        _connect("MQIsdp level 5", 0x84, connect("MQIsdp", 5, 2, client_id), 3),
        _connect("MQIsdp with the bridge bit, level 4", 0x84, connect("MQIsdp", 0x84, 2, client_id), 3),
        # Flags.
        _connect("v4 reserved bits in the first byte", 0x81, connect("MQTT", 4, 2, client_id, first=0x11), 4),
        _connect("v5 reserved bits in the first byte", 0x81, connect("MQTT", 5, 2, b"\0", client_id, first=0x1A), 5),
        _connect("v4 reserved connect flag", 0x81, connect("MQTT", 4, 3, client_id), 4),
        _connect("v5 reserved connect flag", 0x81, connect("MQTT", 5, 3, b"\0", client_id), 5),
        _connect("v4 will QoS without will", 0x81, connect("MQTT", 4, 0x0A, client_id), 4),
        _connect("v5 will QoS without will", 0x81, connect("MQTT", 5, 0x12, b"\0", client_id), 5),
        _connect("v4 will retain without will", 0x81, connect("MQTT", 4, 0x22, client_id), 4),
        _connect("v5 will retain without will", 0x81, connect("MQTT", 5, 0x22, b"\0", client_id), 5),
        _connect("v3 will QoS 3", 0x81, connect("MQIsdp", 3, 0x1E, client_id, will), 3),
        _connect("v4 will QoS 3", 0x81, connect("MQTT", 4, 0x1E, client_id, will), 4),
        _connect("v5 will QoS 3", 0x81, connect("MQTT", 5, 0x1E, b"\0", client_id, b"\0", will), 5),
        _connect("v3 password without user name", 0x81, connect("MQIsdp", 3, 0x42, client_id, text("p")), 3),
        _connect("v4 password without user name", 0x81, connect("MQTT", 4, 0x42, client_id, text("p")), 4),
        # Fields.
        _connect("no connect flags", 0x81, packet(0x10, text("MQTT"), b"\4"), 4),
        _connect("no keep alive", 0x81, packet(0x10, text("MQTT"), raw("04 02 00")), 4),
        _connect("v4 no client id", 0x81, connect("MQTT", 4, 2), 4),
        _connect("v5 no properties", 0x81, connect("MQTT", 5, 2), 5),
        _connect("v5 no client id", 0x81, connect("MQTT", 5, 2, b"\0"), 5),
        _connect("client id beyond the packet", 0x81, connect("MQTT", 4, 2, raw("00 05 61")), 4),
        _connect("client id with NUL", 0x81, connect("MQTT", 4, 2, text("a\0b")), 4),
        _connect("client id not UTF-8", 0x81, connect("MQTT", 4, 2, text(b"\xc3\x28")), 4),
        _connect("client id with a surrogate", 0x81, connect("MQTT", 5, 2, b"\0", text(b"\xed\xa0\x80")), 5),
        _connect("client id with an overlong form", 0x81, connect("MQTT", 5, 2, b"\0", text(b"\xc0\xaf")), 5),
        _connect("client id beyond U+10FFFF", 0x81, connect("MQTT", 4, 2, text(b"\xf4\x90\x80\x80")), 4),
        _connect("will topic missing", 0x81, connect("MQTT", 4, 6, client_id), 4),
        _connect("will payload missing", 0x81, connect("MQTT", 4, 6, client_id, text("w")), 4),
        _connect("v5 will properties missing", 0x81, connect("MQTT", 5, 6, b"\0", client_id), 5),
        _connect("will topic with +", 0x90, connect("MQTT", 4, 6, client_id, text("a/+"), text("x")), 4),
        _connect("will topic with #", 0x90, connect("MQTT", 5, 6, b"\0", client_id, b"\0", text("#"), text("x")), 5),
        _connect("will topic empty", 0x90, connect("MQTT", 4, 6, client_id, text(""), text("x")), 4),
        _connect("will topic with NUL", 0x81, connect("MQTT", 4, 6, client_id, text("a\0"), text("x")), 4),
        _connect("v4 user name missing", 0x81, connect("MQTT", 4, 0x82, client_id), 4),
        _connect("v5 user name missing", 0x81, connect("MQTT", 5, 0x82, b"\0", client_id), 5),
        _connect("user name not UTF-8", 0x81, connect("MQTT", 4, 0x82, client_id, text(b"\xff")), 4),
        _connect("v4 password missing", 0x81, connect("MQTT", 4, 0xC2, client_id, text("u")), 4),
        _connect("v5 password missing", 0x81, connect("MQTT", 5, 0xC2, b"\0", client_id, text("u")), 5),
        _connect("v3 user name cut off", 0x81, connect("MQIsdp", 3, 0x82, client_id, b"\0"), 3),
        _connect("v3 more than its fields", 0x81, connect("MQIsdp", 3, 2, client_id, b"x"), 3),
        _connect("v4 more than its fields", 0x81, connect("MQTT", 4, 2, client_id, text("u")), 4),
        _connect("v5 more than its fields", 0x81, connect("MQTT", 5, 2, b"\0", client_id, b"x"), 5),
        _connect(
            "authentication data without method",
            0x82,
            connect("MQTT", 5, 2, section(b"\x16" + text(b"x")), client_id),
            5,
        ),
    ]


def _from_client() -> list[WrongCase]:
    cases: list[WrongCase] = []
    # Who may send what, and reserved bits.
    cases += _each("type 0", 0x81, raw("00 00"))
    cases += _each("second CONNECT", 0x82, connect("MQTT", 4, 2, text("c")))
    cases += _each("CONNACK from a client", 0x82, raw("20 02 00 00"))
    cases += _each("SUBACK from a client", 0x82, raw("90 03 00 01 00"))
    cases += _each("UNSUBACK from a client", 0x82, raw("B0 02 00 01"))
    cases += _each("PINGRESP from a client", 0x82, raw("D0 00"))
    cases += _each("AUTH below level 5", 0x81, raw("F0 00"), V3)
    cases += _each("PUBACK with flags", 0x81, raw("41 02 00 01"))
    cases += _each("PUBREC with flags", 0x81, raw("52 02 00 01"))
    cases += _each("PUBREL without flags", 0x81, raw("60 02 00 01"))
    cases += _each("PUBREL with DUP", 0x81, raw("6A 02 00 01"), (4, 5))
    cases += _each("PUBCOMP with flags", 0x81, raw("72 02 00 01"))
    cases += _each("SUBSCRIBE without flags", 0x81, raw("80 06 00 01 00 01 61 00"))
    cases += _each("SUBSCRIBE with DUP", 0x81, raw("8A 06 00 01 00 01 61 00"), (4, 5))
    cases += _each("UNSUBSCRIBE without flags", 0x81, raw("A0 05 00 01 00 01 61"))
    cases += _each("UNSUBSCRIBE with DUP", 0x81, raw("AA 05 00 01 00 01 61"), (4, 5))
    cases += _each("PINGREQ with flags", 0x81, raw("C1 00"))
    cases += _each("DISCONNECT with flags", 0x81, raw("E1 00"))
    cases += _each("AUTH with flags", 0x81, raw("F1 00"), V5)
    # Remaining length.
    cases += _each("too large", 0x95, raw("30 80 80 80 01"))
    cases += _each("remaining length with five bytes", 0x81, raw("30 FF FF FF FF 01"))
    cases += _each("remaining length longer than it need be", 0x81, raw("30 84 00 00 01 61 00"))
    # PUBLISH.
    cases += _each("QoS 3", 0x81, raw("36 06 00 01 61 00 01 00"))
    cases += _each("QoS 3 with DUP and RETAIN", 0x81, raw("3F 06 00 01 61 00 01 00"))
    cases += _each("DUP with QoS 0", 0x81, raw("38 04 00 01 61 00"), (4, 5))
    cases += _each("PUBLISH with nothing in it", 0x81, raw("30 00"))
    cases += _each("PUBLISH with one byte", 0x81, raw("30 01 00"))
    cases += _each("topic name beyond the packet", 0x81, raw("30 04 00 05 61 62"))
    cases += _each("topic name not UTF-8", 0x81, raw("30 04 00 01 FF 00"))
    cases += _each("topic name with a surrogate", 0x81, raw("30 06 00 03 ED BF BF 00"))
    cases += _each("topic name with NUL", 0x81, raw("30 05 00 02 61 00 00"))
    cases += _each("topic name with +", 0x90, packet(0x30, text("a/+/b"), b"\0"))
    cases += _each("topic name with #", 0x90, packet(0x30, text("a#"), b"\0"))
    cases += _each("topic name empty", 0x90, raw("30 02 00 00"), V3)
    cases += _each("neither topic name nor alias", 0x82, raw("30 03 00 00 00"), V5)
    for first in (0x32, 0x34):
        cases += _each(f"{first:02X} without identifier", 0x81, packet(first, text("a")))
        cases += _each(f"{first:02X} with half an identifier", 0x81, packet(first, text("a"), b"\1"))
        cases += _each(f"{first:02X} with identifier 0", 0x82, packet(first, text("a"), raw("00 00 00")))
        cases += _each(f"{first:02X} without properties", 0x81, packet(first, text("a"), raw("00 01")), V5)
    cases += _each("PUBLISH without properties", 0x81, raw("30 03 00 01 61"), V5)
    cases += _each("subscription identifier from a client", 0x82, packet(0x30, text("a"), section(raw("0B 01"))), V5)
    # Acknowledgements.
    for first, name in ((0x40, "PUBACK"), (0x50, "PUBREC"), (0x62, "PUBREL"), (0x70, "PUBCOMP")):
        cases += _each(f"{name} with nothing in it", 0x81, packet(first))
        cases += _each(f"{name} with half an identifier", 0x81, packet(first, b"\1"))
        cases += _each(f"{name} with identifier 0", 0x82, packet(first, raw("00 00")))
        cases += _each(f"{name} with more than an identifier", 0x81, packet(first, raw("00 01 00")), V3)
        cases += _each(f"{name} with identifier 0 and code", 0x82, packet(first, raw("00 00 00")), V5)
        cases += _each(f"{name} with a code it cannot have", 0x82, packet(first, raw("00 01 8E")), V5)
        cases += _each(f"{name} with a code that does not exist", 0x82, packet(first, raw("00 01 05")), V5)
        cases += _each(f"{name} with more than its properties", 0x81, packet(first, raw("00 01 00 00 00")), V5)
    cases += _each("PUBREL with a code of PUBACK", 0x82, raw("62 03 00 01 10"), V5)
    # SUBSCRIBE and UNSUBSCRIBE.
    for level in ALL:
        none = _property_byte(level)
        cases += [
            WrongCase(name, level, data, reason_code, "client", level)
            for name, reason_code, data in (
                ("SUBSCRIBE with nothing in it", 0x81, packet(0x82)),
                ("SUBSCRIBE with identifier 0", 0x82, packet(0x82, raw("00 00"), none, text("a"), b"\0")),
                ("SUBSCRIBE without filter", 0x82, packet(0x82, raw("00 01"), none)),
                ("SUBSCRIBE without options", 0x81, packet(0x82, raw("00 01"), none, text("a"))),
                ("SUBSCRIBE with half a filter", 0x81, packet(0x82, raw("00 01"), none, raw("00 04 61"))),
                ("SUBSCRIBE with QoS 3", 0x82, packet(0x82, raw("00 01"), none, text("a"), b"\3")),
                ("SUBSCRIBE with reserved bit 6", 0x81, packet(0x82, raw("00 01"), none, text("a"), b"\x40")),
                ("SUBSCRIBE with reserved bit 7", 0x81, packet(0x82, raw("00 01"), none, text("a"), b"\x80")),
                ("SUBSCRIBE with a filter not UTF-8", 0x81, packet(0x82, raw("00 01"), none, text(b"\x80"), b"\0")),
                ("SUBSCRIBE with a filter with NUL", 0x81, packet(0x82, raw("00 01"), none, text("\0"), b"\0")),
                (
                    "SUBSCRIBE whose second filter is cut off",
                    0x81,
                    packet(0x82, raw("00 01"), none, text("a"), b"\0", b"\0"),
                ),
                ("UNSUBSCRIBE with nothing in it", 0x81, packet(0xA2)),
                ("UNSUBSCRIBE with identifier 0", 0x82, packet(0xA2, raw("00 00"), none, text("a"))),
                ("UNSUBSCRIBE without filter", 0x82, packet(0xA2, raw("00 01"), none)),
                ("UNSUBSCRIBE with half a filter", 0x81, packet(0xA2, raw("00 01"), none, raw("00 04 61"))),
                ("UNSUBSCRIBE with a filter not UTF-8", 0x81, packet(0xA2, raw("00 01"), none, text(b"\xff"))),
            )
        ]
    cases += _each("SUBSCRIBE with the options of 5.0", 0x81, packet(0x82, raw("00 01"), text("a"), b"\4"), V3)
    cases += _each("SUBSCRIBE with retain handling 3", 0x82, packet(0x82, raw("00 01 00"), text("a"), b"\x30"), V5)
    cases += _each(
        "SUBSCRIBE with no local on a shared subscription",
        0x82,
        packet(0x82, raw("00 01 00"), text("$share/g/a"), b"\4"),
        V5,
    )
    # PINGREQ, DISCONNECT, AUTH.
    cases += _each("PINGREQ with a body", 0x81, raw("C0 01 00"))
    cases += _each("DISCONNECT with a body", 0x81, raw("E0 01 00"), V3)
    cases += _each("DISCONNECT with a code of the server", 0x82, raw("E0 01 8E"), V5)
    cases += _each("DISCONNECT with a code that does not exist", 0x82, raw("E0 01 01"), V5)
    cases += _each("DISCONNECT with more than its properties", 0x81, raw("E0 03 00 00 00"), V5)
    cases += _each("AUTH in its short form", 0x82, raw("F0 00"), V5)
    cases += _each("AUTH with the code of the server", 0x82, packet(0xF0, b"\0", section(b"\x15" + text("m"))), V5)
    cases += _each("AUTH with a code that does not exist", 0x82, packet(0xF0, b"\x17", section(b"\x15\0\1m")), V5)
    cases += _each("AUTH without method", 0x82, raw("F0 02 18 00"), V5)
    cases += _each("AUTH without properties", 0x82, raw("F0 01 18"), V5)
    cases += _each(
        "AUTH with more than its properties", 0x81, packet(0xF0, b"\x18", section(b"\x15" + text("m")), b"x"), V5
    )
    return cases


def _from_server() -> list[WrongCase]:
    cases: list[WrongCase] = []
    cases += _each("CONNECT from a server", 0x82, connect("MQTT", 4, 2, text("c")), sent_by="server")
    cases += _each("SUBSCRIBE from a server", 0x82, raw("82 06 00 01 00 01 61 00"), sent_by="server")
    cases += _each("UNSUBSCRIBE from a server", 0x82, raw("A2 05 00 01 00 01 61"), sent_by="server")
    cases += _each("PINGREQ from a server", 0x82, raw("C0 00"), sent_by="server")
    cases += _each("PINGRESP with a body", 0x81, raw("D0 01 00"), sent_by="server")
    cases += _each("CONNACK with nothing in it", 0x81, raw("20 00"), sent_by="server")
    cases += _each("CONNACK without code", 0x81, raw("20 01 00"), sent_by="server")
    cases += _each("CONNACK with return code 6", 0x82, raw("20 02 00 06"), V3, "server")
    cases += _each("CONNACK with more than its fields", 0x81, raw("20 03 00 00 00"), V3, "server")
    cases += _each("CONNACK with a code it cannot have", 0x82, raw("20 03 00 8E 00"), V5, "server")
    cases += _each("CONNACK without properties", 0x81, raw("20 02 00 00"), V5, "server")
    cases += _each("CONNACK with reserved flags", 0x81, raw("20 02 02 00"), (4,), "server")
    cases += _each("CONNACK with reserved flags", 0x81, raw("20 03 03 00 00"), V5, "server")
    cases += _each("CONNACK refuses with session present", 0x82, raw("20 02 01 05"), (4,), "server")
    cases += _each("CONNACK refuses with session present", 0x82, raw("20 03 01 87 00"), V5, "server")
    cases += _each("SUBACK with return code 3", 0x82, raw("90 03 00 01 03"), V3, "server")
    cases += _each("SUBACK without code", 0x82, raw("90 02 00 01"), V3, "server")
    cases += _each("SUBACK without code", 0x82, raw("90 03 00 01 00"), V5, "server")
    cases += _each("SUBACK with a code it cannot have", 0x82, raw("90 04 00 01 00 11"), V5, "server")
    cases += _each("UNSUBACK with more than its fields", 0x81, raw("B0 03 00 01 00"), V3, "server")
    cases += _each("UNSUBACK without code", 0x82, raw("B0 03 00 01 00"), V5, "server")
    cases += _each("UNSUBACK with a code it cannot have", 0x82, raw("B0 04 00 01 00 01"), V5, "server")
    cases += _each("DISCONNECT with a code of the client", 0x82, raw("E0 01 04"), V5, "server")
    cases += _each("AUTH with a code of the client", 0x82, packet(0xF0, b"\x19", section(b"\x15\0\1m")), V5, "server")
    return cases


WRONG_CASES: Final = (*_before_connect(), *_from_client(), *_from_server())
