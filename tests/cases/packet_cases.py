"""One table of well-formed packets and one of wrong ones, for codec, session and end-to-end tests alike.

`PACKET_CASES` says what bytes mean, `WRONG_CASES` which reason code bytes lead to. The bytes are put together by hand
and never by the encoder.
"""

from __future__ import annotations

from typing import Final

from cases.packet_case import PacketCase, Side, WrongCase
from cases.wire import packet, raw, section, text
from cases.wrong_cases import WRONG_CASES, connect
from trio_broker.protocol.packets import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
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

__all__ = ["PACKET_CASES", "WRONG_CASES", "PacketCase", "WrongCase"]

ALL: Final = (3, 4, 5)
V3: Final = (3, 4)
V5: Final = (5,)


def _each(
    name: str,
    data: bytes,
    meaning: Packet,
    levels: tuple[int, ...] = ALL,
    sent_by: Side = "client",
    canonical: bool = True,
) -> list[PacketCase]:
    return [PacketCase(name, level, data, meaning, sent_by, canonical) for level in levels]


def _connects() -> list[PacketCase]:
    will = text("w/t") + text(b"bye")
    cases: list[PacketCase] = []
    for level, name in ((3, "MQIsdp"), (4, "MQTT"), (5, "MQTT")):
        none = b"\0" if level == 5 else b""
        rows = [
            ("CONNECT", connect(name, level, 2, none, text("c1")), Connect("c1", level, True, 60)),
            ("CONNECT that goes on", connect(name, level, 0, none, text("c1")), Connect("c1", level, False, 60)),
            ("CONNECT with empty id", connect(name, level, 2, none, text("")), Connect("", level, True, 60)),
            (
                "CONNECT with a long id beyond ASCII",
                connect(name, level, 2, none, text("é" * 200)),
                Connect("é" * 200, level, True, 60),
            ),
            (
                "CONNECT with U+FEFF in its id",
                connect(name, level, 2, none, text("\ufeffa\ufeff")),
                Connect("\ufeffa\ufeff", level, True, 60),
            ),
            (
                "CONNECT with user name",
                connect(name, level, 0x82, none, text("c1"), text("u")),
                Connect("c1", level, True, 60, "u"),
            ),
            (
                "CONNECT with user name and password",
                connect(name, level, 0xC2, none, text("c1"), text("u"), text(b"\0\xff")),
                Connect("c1", level, True, 60, "u", b"\0\xff"),
            ),
            (
                "CONNECT with empty user name and password",
                connect(name, level, 0xC2, none, text("c1"), text(""), text(b"")),
                Connect("c1", level, True, 60, "", b""),
            ),
            (
                "CONNECT with will",
                connect(name, level, 0x06, none, text("c1"), none, will),
                Connect("c1", level, True, 60, will=Will("w/t", b"bye")),
            ),
            (
                "CONNECT with retained will, QoS 2, and everything else",
                connect(name, level, 0xF4, none, text("c1"), none, will, text("u"), text("p")),
                Connect("c1", level, False, 60, "u", b"p", Will("w/t", b"bye", 2, True)),
            ),
            (
                "CONNECT with an empty will",
                connect(name, level, 0x2E, none, text("c1"), none, text("w"), text("")),
                Connect("c1", level, True, 60, will=Will("w", b"", 1, True)),
            ),
        ]
        cases += [PacketCase(row_name, level, data, meaning) for row_name, data, meaning in rows]
    old = Connect("c1", 3, True, 60)
    cases += [
        PacketCase(
            "CONNECT of a bridge", 3, connect("MQIsdp", 0x83, 2, text("c1")), Connect("c1", 3, True, 60, bridge=True)
        ),
        PacketCase(
            "CONNECT of a bridge", 4, connect("MQTT", 0x84, 2, text("c1")), Connect("c1", 4, True, 60, bridge=True)
        ),
        # What MQTT 3.1 calls unused.
        PacketCase(
            "CONNECT with flags in its first byte",
            3,
            connect("MQIsdp", 3, 2, text("c1"), first=0x1F),
            old,
            canonical=False,
        ),
        PacketCase("CONNECT with reserved connect flag", 3, connect("MQIsdp", 3, 3, text("c1")), old, canonical=False),
        PacketCase(
            "CONNECT with will bits but no will", 3, connect("MQIsdp", 3, 0x3A, text("c1")), old, canonical=False
        ),
        PacketCase(
            "CONNECT without the user name it says", 3, connect("MQIsdp", 3, 0x82, text("c1")), old, canonical=False
        ),
        PacketCase(
            "CONNECT without the password it says",
            3,
            connect("MQIsdp", 3, 0xC2, text("c1"), text("u")),
            Connect("c1", 3, True, 60, "u"),
            canonical=False,
        ),
        # 5.0 only.
        PacketCase(
            "CONNECT with password alone",
            5,
            connect("MQTT", 5, 0x42, b"\0", text("c1"), text("p")),
            Connect("c1", 5, True, 60, None, b"p"),
        ),
        PacketCase(
            "CONNECT with properties",
            5,
            connect(
                "MQTT",
                5,
                0x06,
                section(
                    raw("11 00 00 00 0A 21 00 14"), b"\x26" + text("k") + text("v"), b"\x26" + text("k") + text("w")
                ),
                text("c1"),
                section(raw("18 00 00 00 1E 01 01"), b"\x26" + text("a") + text("b")),
                will,
            ),
            Connect(
                "c1",
                5,
                True,
                60,
                will=Will(
                    "w/t",
                    b"bye",
                    properties={
                        "will_delay_interval": 30,
                        "payload_format_indicator": 1,
                        "user_property": [("a", "b")],
                    },
                ),
                properties={
                    "session_expiry_interval": 10,
                    "receive_maximum": 20,
                    "user_property": [("k", "v"), ("k", "w")],
                },
            ),
        ),
        PacketCase(
            "CONNECT with authentication",
            5,
            connect("MQTT", 5, 2, section(b"\x15" + text("m"), b"\x16" + text(b"\0")), text("c1")),
            Connect("c1", 5, True, 60, properties={"authentication_method": "m", "authentication_data": b"\0"}),
        ),
    ]
    return cases


def _connacks() -> list[PacketCase]:
    cases = _each("CONNACK", raw("20 02 00 00"), ConnAck(), V3, "server")
    cases += _each("CONNACK with session present", raw("20 02 01 00"), ConnAck(0, True), (4,), "server")
    cases += _each("CONNACK with its unused byte set", raw("20 02 01 00"), ConnAck(), (3,), "server", canonical=False)
    for return_code, reason_code in ((1, 0x84), (2, 0x85), (3, 0x88), (4, 0x86), (5, 0x87)):
        data = raw("20 02 00") + bytes([return_code])
        cases += _each(f"CONNACK with return code {return_code}", data, ConnAck(reason_code), V3, "server")
    cases += _each("CONNACK", raw("20 03 00 00 00"), ConnAck(), V5, "server")
    cases += _each("CONNACK with session present", raw("20 03 01 00 00"), ConnAck(0, True), V5, "server")
    cases += _each("CONNACK not authorised", raw("20 03 00 87 00"), ConnAck(0x87), V5, "server")
    cases += _each(
        "CONNACK with properties",
        packet(0x20, raw("00 00"), section(b"\x12" + text("auto-1"), raw("22 00 0A 24 01 29 00"))),
        ConnAck(
            properties={
                "assigned_client_identifier": "auto-1",
                "topic_alias_maximum": 10,
                "maximum_qos": 1,
                "subscription_identifier_available": 0,
            }
        ),
        V5,
        "server",
    )
    return cases


def _publishes(sent_by: Side) -> list[PacketCase]:
    cases: list[PacketCase] = []
    for level in ALL:
        none = b"\0" if level == 5 else b""
        rows: list[tuple[str, bytes, Packet]] = [
            ("QoS 0", packet(0x30, text("a/b"), none, b"hello"), Publish("a/b", b"hello")),
            ("QoS 0 with RETAIN", packet(0x31, text("a/b"), none, b"hello"), Publish("a/b", b"hello", 0, True)),
            ("QoS 1", packet(0x32, text("a"), raw("00 01"), none, b"x"), Publish("a", b"x", 1, packet_identifier=1)),
            (
                "QoS 1 again",
                packet(0x3A, text("a"), raw("FF FF"), none, b"x"),
                Publish("a", b"x", 1, dup=True, packet_identifier=65_535),
            ),
            ("QoS 2", packet(0x34, text("a"), raw("01 00"), none, b"x"), Publish("a", b"x", 2, packet_identifier=256)),
            (
                "QoS 2 with RETAIN, again",
                packet(0x3D, text("a"), raw("01 00"), none, b"x"),
                Publish("a", b"x", 2, True, True, 256),
            ),
            ("no payload", packet(0x30, text("a"), none), Publish("a", b"")),
            (
                "no payload, QoS 1",
                packet(0x32, text("a"), raw("00 07"), none),
                Publish("a", b"", 1, packet_identifier=7),
            ),
            (
                "payload that looks like packets",
                packet(0x30, text("a"), none, raw("C000 E000")),
                Publish("a", raw("C000E000")),
            ),
            ("topic of blanks and slashes", packet(0x30, text("/ // "), none), Publish("/ // ", b"")),
            ("topic with $", packet(0x30, text("$SYS/x"), none), Publish("$SYS/x", b"")),
            (
                "topic beyond ASCII",
                packet(0x30, text("temperatur/küche/温度/🌡"), none),
                Publish("temperatur/küche/温度/🌡", b""),
            ),
            ("topic of U+FEFF", packet(0x30, text(b"\xef\xbb\xbf"), none), Publish("\ufeff", b"")),
            ("topic of 300 bytes", packet(0x30, text("t" * 300), none), Publish("t" * 300, b"")),
            ("longest topic", packet(0x30, text("t" * 65_535), none, b"x"), Publish("t" * 65_535, b"x")),
            *(
                (f"{size} bytes", packet(0x30, text("a"), none, b"x" * size), Publish("a", b"x" * size))
                for size in (124, 125, 16_379, 16_380, 16_381, 70_000)
            ),
            *(
                (
                    f"{size} bytes with QoS 1",
                    packet(0x32, text("a"), raw("00 01"), none, b"x" * size),
                    Publish("a", b"x" * size, 1, packet_identifier=1),
                )
                for size in (122, 123, 16_378, 16_379)
            ),
        ]
        cases += [PacketCase(f"PUBLISH {name}", level, data, meaning, sent_by) for name, data, meaning in rows]
    cases += _each(
        "PUBLISH QoS 0 with DUP",
        packet(0x38, text("a"), b"x"),
        Publish("a", b"x", dup=True),
        (3,),
        sent_by,
        canonical=False,
    )
    cases += _each(
        "PUBLISH with topic alias alone",
        packet(0x30, text(""), section(raw("23 00 05")), b"x"),
        Publish("", b"x", properties={"topic_alias": 5}),
        V5,
        sent_by,
    )
    cases += _each(
        "PUBLISH with topic and alias",
        packet(0x32, text("a"), raw("00 01"), section(raw("23 FF FF")), b"x"),
        Publish("a", b"x", 1, packet_identifier=1, properties={"topic_alias": 65_535}),
        V5,
        sent_by,
    )
    cases += _each(
        "PUBLISH with properties",
        packet(
            0x30,
            text("a"),
            section(
                raw("01 01 02 00 00 00 00"),
                b"\x03" + text("text/plain"),
                b"\x08" + text("re/ply"),
                b"\x09" + text(b"\0\1"),
                b"\x26" + text("k") + text("v"),
                b"\x26" + text("") + text(""),
                b"\x26" + text("k") + text("v"),
            ),
            b"x",
        ),
        Publish(
            "a",
            b"x",
            properties={
                "payload_format_indicator": 1,
                "message_expiry_interval": 0,
                "content_type": "text/plain",
                "response_topic": "re/ply",
                "correlation_data": b"\0\1",
                "user_property": [("k", "v"), ("", ""), ("k", "v")],
            },
        ),
        V5,
        sent_by,
    )
    cases += _each(
        "PUBLISH with user properties in between",
        packet(
            0x30, text("a"), section(b"\x26" + text("1") + text("x"), raw("01 00"), b"\x26" + text("2") + text("y"))
        ),
        Publish("a", b"", properties={"user_property": [("1", "x"), ("2", "y")], "payload_format_indicator": 0}),
        V5,
        sent_by,
        canonical=False,
    )
    cases += _each(
        "PUBLISH with properties beyond 127 bytes",
        packet(0x30, text("a"), section(b"\x26" + text("k" * 100) + text("v" * 100)), b"x"),
        Publish("a", b"x", properties={"user_property": [("k" * 100, "v" * 100)]}),
        V5,
        sent_by,
    )
    if sent_by == "server":
        cases += _each(
            "PUBLISH for several subscriptions",
            packet(0x30, text("a"), section(raw("0B 01 0B 80 01 0B FF FF FF 7F")), b"x"),
            Publish("a", b"x", properties={"subscription_identifier": [1, 128, 268_435_455]}),
            V5,
            sent_by,
        )
    return cases


def _acknowledgements(sent_by: Side) -> list[PacketCase]:
    cases: list[PacketCase] = []
    rows: tuple[tuple[int, str, type[PubAck | PubRec | PubRel | PubComp], int], ...] = (
        (0x40, "PUBACK", PubAck, 0x10),
        (0x50, "PUBREC", PubRec, 0x97),
        (0x62, "PUBREL", PubRel, 0x92),
        (0x70, "PUBCOMP", PubComp, 0x92),
    )
    for first, name, kind, code in rows:
        cases += _each(name, packet(first, raw("12 34")), kind(0x1234), ALL, sent_by)
        cases += _each(f"{name} with code 0", packet(first, raw("00 01 00")), kind(1), V5, sent_by, canonical=False)
        cases += _each(f"{name} with code", packet(first, raw("00 01"), bytes([code])), kind(1, code), V5, sent_by)
        cases += _each(
            f"{name} with code and no properties",
            packet(first, raw("00 01"), bytes([code, 0])),
            kind(1, code),
            V5,
            sent_by,
            canonical=False,
        )
        cases += _each(
            f"{name} with properties",
            packet(first, raw("00 01 00"), section(b"\x1f" + text("why"), b"\x26" + text("k") + text("v"))),
            kind(1, 0, {"reason_string": "why", "user_property": [("k", "v")]}),
            V5,
            sent_by,
        )
    cases += _each("PUBREL again", raw("6A 02 00 01"), PubRel(1), (3,), sent_by, canonical=False)
    return cases


def _subscribes() -> list[PacketCase]:
    cases: list[PacketCase] = []
    for level in ALL:
        none = b"\0" if level == 5 else b""
        one = SubscribeFilter("a/#", 1)
        rows: list[tuple[str, bytes, Packet, bool]] = [
            ("SUBSCRIBE", packet(0x82, raw("00 01"), none, text("a/#"), b"\1"), Subscribe(1, [one]), True),
            (
                "SUBSCRIBE to several",
                packet(0x82, raw("FF FF"), none, text("a/#"), b"\1", text("+"), b"\0", text("a/#"), b"\2"),
                Subscribe(65_535, [one, SubscribeFilter("+"), SubscribeFilter("a/#", 2)]),
                True,
            ),
            # These are strings: the session judges them as filters.
            *(
                (
                    f"SUBSCRIBE to {bad or 'nothing'}",
                    packet(0x82, raw("00 01"), none, text(bad), b"\0"),
                    Subscribe(1, [SubscribeFilter(bad)]),
                    True,
                )
                for bad in ("", "a/#/b", "a+", "#/", "$share/g", "$share//a", "$share/+/a", "$queue/")
            ),
            (
                "SUBSCRIBE to a shared subscription",
                packet(0x82, raw("00 01"), none, text("$share/g/a"), b"\2"),
                Subscribe(1, [SubscribeFilter("$share/g/a", 2)]),
                True,
            ),
            ("UNSUBSCRIBE", packet(0xA2, raw("00 02"), none, text("a/#")), Unsubscribe(2, ["a/#"]), True),
            (
                "UNSUBSCRIBE from several",
                packet(0xA2, raw("00 02"), none, text("a"), text(""), text("$share/g/a")),
                Unsubscribe(2, ["a", "", "$share/g/a"]),
                True,
            ),
        ]
        if level == 3:
            rows += [
                ("SUBSCRIBE again", packet(0x8A, raw("00 01"), text("a/#"), b"\1"), Subscribe(1, [one]), False),
                ("UNSUBSCRIBE again", packet(0xAA, raw("00 02"), text("a/#")), Unsubscribe(2, ["a/#"]), False),
            ]
        cases += [
            PacketCase(name, level, data, meaning, "client", canonical) for name, data, meaning, canonical in rows
        ]
    for options, wanted in (
        (0x04, SubscribeFilter("a", 0, no_local=True)),
        (0x09, SubscribeFilter("a", 1, retain_as_published=True)),
        (0x12, SubscribeFilter("a", 2, retain_handling=1)),
        (0x2E, SubscribeFilter("a", 2, True, True, 2)),
    ):
        cases += _each(
            f"SUBSCRIBE with options {options:02X}",
            packet(0x82, raw("00 01 00"), text("a"), bytes([options])),
            Subscribe(1, [wanted]),
            V5,
        )
    cases += _each(
        "SUBSCRIBE with properties",
        packet(0x82, raw("00 01"), section(raw("0B 07"), b"\x26" + text("k") + text("v")), text("a"), b"\0"),
        Subscribe(1, [SubscribeFilter("a")], {"subscription_identifier": [7], "user_property": [("k", "v")]}),
        V5,
    )
    cases += _each(
        "UNSUBSCRIBE with properties",
        packet(0xA2, raw("00 01"), section(b"\x26" + text("k") + text("v")), text("a")),
        Unsubscribe(1, ["a"], {"user_property": [("k", "v")]}),
        V5,
    )
    return cases


def _subacks() -> list[PacketCase]:
    why = section(b"\x1f" + text("why"))
    cases = _each("SUBACK", raw("90 06 00 01 00 01 02 80"), SubAck(1, [0, 1, 2, 0x80]), V3, "server")
    cases += _each("SUBACK", raw("90 06 00 01 00 01 8F A2"), SubAck(1, [1, 0x8F, 0xA2]), V5, "server")
    cases += _each(
        "SUBACK with properties",
        packet(0x90, raw("00 01"), why, b"\0"),
        SubAck(1, [0], {"reason_string": "why"}),
        V5,
        "server",
    )
    cases += _each("UNSUBACK", raw("B0 02 00 01"), UnsubAck(1, []), V3, "server")
    cases += _each("UNSUBACK", raw("B0 06 00 01 00 00 11 87"), UnsubAck(1, [0, 0x11, 0x87]), V5, "server")
    cases += _each(
        "UNSUBACK with properties",
        packet(0xB0, raw("00 01"), why, b"\x11"),
        UnsubAck(1, [0x11], {"reason_string": "why"}),
        V5,
        "server",
    )
    return cases


def _others() -> list[PacketCase]:
    method = b"\x15" + text("m")
    cases = _each("PINGREQ", raw("C0 00"), PingReq())
    cases += _each("PINGRESP", raw("D0 00"), PingResp(), ALL, "server")
    cases += _each("DISCONNECT", raw("E0 00"), Disconnect())
    cases += _each("DISCONNECT", raw("E0 00"), Disconnect(), V5, "server")
    cases += _each("DISCONNECT with code 0", raw("E0 01 00"), Disconnect(), V5, canonical=False)
    cases += _each("DISCONNECT with will", raw("E0 01 04"), Disconnect(0x04), V5)
    cases += _each("DISCONNECT with code and no properties", raw("E0 02 04 00"), Disconnect(0x04), V5, canonical=False)
    cases += _each(
        "DISCONNECT with session expiry",
        packet(0xE0, b"\0", section(raw("11 00 00 00 00"))),
        Disconnect(0, {"session_expiry_interval": 0}),
        V5,
    )
    cases += _each("DISCONNECT taken over", raw("E0 01 8E"), Disconnect(0x8E), V5, "server")
    cases += _each(
        "DISCONNECT to another server",
        packet(0xE0, b"\x9c", section(b"\x1c" + text("other"), b"\x1f" + text("why"))),
        Disconnect(0x9C, {"server_reference": "other", "reason_string": "why"}),
        V5,
        "server",
    )
    cases += _each(
        "AUTH",
        packet(0xF0, b"\x18", section(method, b"\x16" + text(b"\0"))),
        Auth(0x18, {"authentication_method": "m", "authentication_data": b"\0"}),
        V5,
    )
    cases += _each(
        "AUTH to authenticate again",
        packet(0xF0, b"\x19", section(method)),
        Auth(0x19, {"authentication_method": "m"}),
        V5,
    )
    cases += _each("AUTH succeeded", raw("F0 00"), Auth(), V5, "server")
    cases += _each(
        "AUTH goes on", packet(0xF0, b"\x18", section(method)), Auth(0x18, {"authentication_method": "m"}), V5, "server"
    )
    return cases


PACKET_CASES: Final[tuple[PacketCase, ...]] = (
    *_connects(),
    *_connacks(),
    *_publishes("client"),
    *_publishes("server"),
    *_acknowledgements("client"),
    *_acknowledgements("server"),
    *_subscribes(),
    *_subacks(),
    *_others(),
)
