"""The text of traces: packets, payloads, filters that overlap, and pieces of a log."""

from __future__ import annotations

from pathlib import Path

import pytest

from trio_broker.actors.trace_lines import Event, line_of
from trio_broker.actors.trace_log import TraceLog
from trio_broker.actors.trace_packets import PayloadEncode, describe, payload_text
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
from trio_broker.routing.coverage import intersects


@pytest.mark.parametrize(
    ("packet", "text"),
    [
        (
            Connect("c", 3, False, 5, "u", b"secret", Will("w", b"p", 2, True)),
            "CONNECT(Q0, R0, D0, ClientId=c, ProtoName=MQIsdp, ProtoVsn=3, CleanStart=false, KeepAlive=5, Username=u, "
            "Password=******, Will(Q2, R1, Topic=w, Payload(text)=p))",
        ),
        (
            Connect("", properties={"authentication_method": "M", "authentication_data": b"secret"}),
            "CONNECT(Q0, R0, D0, ClientId=, ProtoName=MQTT, ProtoVsn=5, CleanStart=true, KeepAlive=0, "
            "Username=undefined, Password=undefined, "
            "Properties=[authentication_method: M, authentication_data: ******])",
        ),
        (ConnAck(0, True), "CONNACK(Q0, R0, D0, AckFlags=1, ReasonCode=0)"),
        (
            Publish("t", b"p", 1, True, True, 7, {"user_property": [("a", "b"), ("c", "d")], "topic_alias": 3}),
            "PUBLISH(Q1, R1, D1, Topic=t, PacketId=7, Properties=[user_property: [a=b, c=d], topic_alias: 3], "
            "Payload(text)=p)",
        ),
        (PubAck(1, 16), "PUBACK(Q0, R0, D0, PacketId=1, ReasonCode=16)"),
        (PubRec(2), "PUBREC(Q0, R0, D0, PacketId=2, ReasonCode=0)"),
        (PubRel(3), "PUBREL(Q1, R0, D0, PacketId=3, ReasonCode=0)"),
        (PubComp(4), "PUBCOMP(Q0, R0, D0, PacketId=4, ReasonCode=0)"),
        (
            Subscribe(5, [SubscribeFilter("a/#", 2, True, True, 1), SubscribeFilter("b")]),
            "SUBSCRIBE(Q1, R0, D0, PacketId=5, TopicFilters=[a/#(nl: 1, qos: 2, rap: 1, rh: 1), "
            "b(nl: 0, qos: 0, rap: 0, rh: 0)])",
        ),
        (SubAck(5, [2, 128]), "SUBACK(Q0, R0, D0, PacketId=5, ReasonCodes=[2, 128])"),
        (Unsubscribe(6, ["a", "b"]), "UNSUBSCRIBE(Q1, R0, D0, PacketId=6, TopicFilters=[a, b])"),
        (UnsubAck(6, [0, 17]), "UNSUBACK(Q0, R0, D0, PacketId=6, ReasonCodes=[0, 17])"),
        (PingReq(), "PINGREQ(Q0, R0, D0)"),
        (PingResp(), "PINGRESP(Q0, R0, D0)"),
        (
            Disconnect(4, {"reason_string": "bye"}),
            "DISCONNECT(Q0, R0, D0, ReasonCode=4, Properties=[reason_string: bye])",
        ),
        (
            Auth(24, {"authentication_data": b"secret"}),
            "AUTH(Q0, R0, D0, ReasonCode=24, Properties=[authentication_data: ******])",
        ),
    ],
)
def test_packets(packet: Packet, text: str) -> None:
    assert describe(packet, "text") == text


@pytest.mark.parametrize(
    ("payload", "encode", "shown"),
    [
        (b"", "text", ("", "text")),
        (b"", "hex", ("", "hex")),
        (b"", "hidden", ("******", "hidden")),
        ("\u20ac".encode(), "text", ("\u20ac", "text")),
        (b"\xe2\x82", "text", ("E282", "hex")),
        (b"A" * 1024, "text", ("A" * 1024, "text")),
        (b"A" * 1025, "text", ("A" * 1024 + "...(1 more bytes)", "text")),
        (b"A" * 1022 + "\u20ac".encode(), "text", ("A" * 1022 + "...(3 more bytes)", "text")),
        (b"A" * 1021 + b"\xf0\x9f\x98\x80", "text", ("A" * 1021 + "...(4 more bytes)", "text")),
        (b"\xff" + b"A" * 1024, "text", ("FF" + "41" * 1023 + "...(1 more bytes)", "hex")),
        (b"AB", "hex", ("4142", "hex")),
        (b"A" * 2000, "hex", ("41" * 1024 + "...(976 more bytes)", "hex")),
    ],
)
def test_payloads(payload: bytes, encode: PayloadEncode, shown: tuple[str, str]) -> None:
    assert payload_text(payload, encode) == shown


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a/b", "a", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("a/+", "+/b", True),
        ("a/+", "a/b/c", False),
        ("+", "a", True),
        ("#", "a/b", True),
        ("#", "+/+", True),
        ("a/+/c", "a/#", True),
        ("a/+/c", "a/b/d", False),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/+", True),
        ("$SYS/#", "$SYS", True),
        ("/a", "+/a", True),
        ("/a", "a", False),
    ],
)
def test_filters_that_have_a_topic_in_common(one: str, other: str, meet: bool) -> None:
    assert intersects(one, other) is meet
    assert intersects(other, one) is meet


def test_a_line_of_text_and_one_of_json() -> None:
    event = Event("PUBLISH", "publish_to", "c1", "[::1]:1", fields={"topic": "t", "retain": True}, payload=b"p")
    at = 1_704_081_600_123_456_789
    text = line_of(event, at, "text", "text").decode()
    assert text.partition(" ")[2] == "[PUBLISH] c1@[::1]:1 msg: publish_to, topic: t, retain: true, payload: p\n"
    assert "T" in text
    assert ".123456" in text
    assert line_of(event, at, "json", "text").decode().partition(',"level"')[2] == (
        ':"debug","msg":"publish_to","meta":{"trace_tag":"PUBLISH","clientid":"c1","peername":"[::1]:1","topic":"t",'
        '"retain":true,"payload":"p","payload_encode":"text"}}\n'
    )


def test_every_way_to_read_gives_the_same_text(tmp_path: Path) -> None:
    log = TraceLog(tmp_path / "t.log", lambda count: b"%d\n" % count)
    log.create()
    text = "a\u00e4\u20ac\U0001f600\n" * 3
    log.add(text.encode())
    log.write(log.take())
    raw = text.encode()
    for start in range(len(raw) + 2):
        for size in range(1, 9):
            piece = log.read(start, size)
            assert "\ufffd" not in piece.text
            assert raw[piece.position - len(piece.text.encode()) : piece.position].decode() == piece.text
            assert bool(piece.text) is (start < len(raw))
            assert len(piece.text.encode()) <= max(size, 4)
    assert log.size == log.path.stat().st_size == len(raw)


@pytest.mark.parametrize(
    ("username", "shown"),
    [
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1In0.AbC-_1", "******"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1In0", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1In0"),
        ("a.b.c", "a.b.c"),
    ],
)
def test_a_token_in_the_place_of_the_user_name_is_not_shown(username: str, shown: str) -> None:
    packet = Connect("c", 5, username=username)
    assert f"Username={shown}, " in describe(packet, "text")
