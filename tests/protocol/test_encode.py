"""Packets as bytes: the table of packets backwards, what each dialect cannot say, and what cannot be sent at all."""

from __future__ import annotations

import pytest

from cases.packet_case import PacketCase
from cases.packet_cases import PACKET_CASES
from cases.wire import packet, raw, section, text
from trio_broker.protocol.encode import Role, encode, strip_to_fit
from trio_broker.protocol.packets import (
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingResp,
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
    changed,
)


@pytest.mark.parametrize("case", [case for case in PACKET_CASES if case.canonical], ids=str)
def test_packet_is_written_as_the_table_says(case: PacketCase) -> None:
    assert encode(case.packet, case.level, case.sent_by) == case.data


LOST: Properties = {"reason_string": "why", "user_property": [("k", "v")]}


@pytest.mark.parametrize("level", [3, 4])
@pytest.mark.parametrize(
    ("rich", "data"),
    [
        (PubAck(1, 0x10, LOST), raw("40 02 00 01")),
        (PubRec(1, 0x97, LOST), raw("50 02 00 01")),
        (PubRel(1, 0x92, LOST), raw("62 02 00 01")),
        (PubComp(1, 0x92, LOST), raw("70 02 00 01")),
        (SubAck(1, [0, 1, 2, 0x80, 0x87, 0xA2], LOST), raw("90 08 00 01 00 01 02 80 80 80")),
        (UnsubAck(1, [0, 0x11], LOST), raw("B0 02 00 01")),
        (Publish("a", b"x", properties={"content_type": "t"}), raw("30 04 00 01 61 78")),
        (Publish("a", b"x", 1, packet_identifier=1, properties={"content_type": "t"}), raw("32 06 00 01 61 00 01 78")),
        (Subscribe(1, [SubscribeFilter("a", 1, True, True, 2)], LOST), raw("82 06 00 01 00 01 61 01")),
        (Unsubscribe(1, ["a"], LOST), raw("A2 05 00 01 00 01 61")),
        (ConnAck(0x87, True, LOST), raw("20 02 00 05")),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, bytes) else "",
)
def test_older_dialects_leave_out_what_they_do_not_know(level: int, rich: Packet, data: bytes) -> None:
    assert encode(rich, level) == data


@pytest.mark.parametrize(
    ("reason_code", "return_code"),
    [(0x84, 1), (0x85, 2), (0x88, 3), (0x89, 3), (0x97, 3), (0x80, 3), (0x86, 4), (0x87, 5), (0x8A, 5), (0x8C, 5)],
)
@pytest.mark.parametrize("level", [3, 4])
def test_connack_of_older_dialects_has_a_return_code(level: int, reason_code: int, return_code: int) -> None:
    assert encode(ConnAck(reason_code), level) == bytes((0x20, 2, 0, return_code))


def test_session_present_is_said_where_it_is_known_and_true() -> None:
    assert encode(ConnAck(0, True), 3) == raw("20 02 00 00")
    assert encode(ConnAck(0, True), 4) == raw("20 02 01 00")
    assert encode(ConnAck(0, True), 5) == raw("20 03 01 00 00")
    assert encode(ConnAck(0x87, True), 5) == raw("20 03 00 87 00")


@pytest.mark.parametrize(
    ("wrong", "level", "role"),
    [
        (Disconnect(0x8E), 3, "server"),
        (Disconnect(0x8E), 4, "server"),
        (Auth(), 3, "server"),
        (Auth(0x18), 4, "client"),
        (Disconnect(0x04), 5, "server"),
        (Disconnect(0x8E), 5, "client"),
        (Disconnect(0, {"session_expiry_interval": 1}), 5, "server"),
        (Disconnect(0, {"server_reference": "x"}), 5, "client"),
        (Auth(0x19), 5, "server"),
        (Auth(0x00), 5, "client"),
        (ConnAck(0x8E), 5, "server"),
        (ConnAck(0x01), 4, "server"),
        (ConnAck(0, False, {"topic_alias": 1}), 5, "server"),
        (ConnAck(0, False, {"receive_maximum": 0}), 5, "server"),
        (ConnAck(0, False, {"receive_maximum": 65_536}), 5, "server"),
        (PubAck(1, 0x92), 5, "server"),
        (PubAck(0), 5, "server"),
        (PubAck(65_536), 4, "server"),
        (SubAck(1, []), 5, "server"),
        (SubAck(1, [3]), 4, "server"),
        (UnsubAck(1, [0x80, 0x01]), 5, "server"),
        (UnsubAck(1, []), 5, "server"),
        (Subscribe(1, []), 5, "client"),
        (Subscribe(0, [SubscribeFilter("a")]), 5, "client"),
        (Subscribe(1, [SubscribeFilter("a", 3)]), 4, "client"),
        (Subscribe(1, [SubscribeFilter("a", retain_handling=3)]), 5, "client"),
        (Subscribe(1, [SubscribeFilter("a")], {"subscription_identifier": [0]}), 5, "client"),
        (Unsubscribe(1, []), 4, "client"),
        (Unsubscribe(1, ["a\0"]), 4, "client"),
        (Publish("a", b"", 0, dup=True), 4, "server"),
        (Publish("a", b"", 0, packet_identifier=1), 4, "server"),
        (Publish("a", b"", 1), 4, "server"),
        (Publish("a", b"", 1, packet_identifier=65_536), 4, "server"),
        (Publish("a", b"", 3, packet_identifier=1), 4, "server"),
        (Publish("a\0", b""), 4, "server"),
        (Publish("\ud800", b""), 4, "server"),
        (Publish("t" * 65_536, b""), 4, "server"),
        (Publish("a", b"", properties={"receive_maximum": 1}), 5, "server"),
        (Publish("a", b"", properties={"topic_alias": 0}), 5, "server"),
        (Publish("a", b"", properties={"correlation_data": bytes(65_536)}), 5, "server"),
        (Connect("c", 6), 6, "client"),
        (Connect("c", 5, bridge=True), 5, "client"),
        (Connect("c", 4, password=b"p"), 4, "client"),
        (Connect("c", 4, keep_alive=65_536), 4, "client"),
        (Connect("c", 4, will=Will("w", b"", 3)), 4, "client"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_what_cannot_be_sent_is_a_value_error(wrong: Packet, level: int, role: Role) -> None:
    with pytest.raises(ValueError, match=r"."):
        encode(wrong, level, role)


USER = b"\x26" + text("key") + text("value")
WHY = b"\x1f" + text("because")
BOTH: Properties = {"reason_string": "because", "user_property": [("key", "value")]}


@pytest.mark.parametrize(
    ("acknowledgement", "head", "tail", "bare"),
    [
        (PubAck(1, 0x87), (0x40, raw("00 01 87")), b"", raw("40 03 00 01 87")),
        (PubRec(1, 0x87), (0x50, raw("00 01 87")), b"", raw("50 03 00 01 87")),
        (PubRel(1), (0x62, raw("00 01 00")), b"", raw("62 02 00 01")),
        (PubComp(1), (0x70, raw("00 01 00")), b"", raw("70 02 00 01")),
        (SubAck(1, [0x87]), (0x90, raw("00 01")), b"\x87", raw("90 04 00 01 00 87")),
        (UnsubAck(1, [0x87]), (0xB0, raw("00 01")), b"\x87", raw("B0 04 00 01 00 87")),
        (ConnAck(0x87), (0x20, raw("00 87")), b"", raw("20 03 00 87 00")),
        (Disconnect(0x8E), (0xE0, raw("8E")), b"", raw("E0 01 8E")),
        (Auth(0x18), (0xF0, raw("18")), b"", raw("F0 01 18")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_reason_string_and_user_properties_go_where_they_make_a_packet_too_large(
    acknowledgement: PubAck, head: tuple[int, bytes], tail: bytes, bare: bytes
) -> None:
    rich = changed(acknowledgement, properties=BOTH)
    full = packet(*head, section(WHY, USER), tail)
    with_reason = packet(*head, section(WHY), tail)
    for maximum in (0, len(full), 1_000_000):
        assert strip_to_fit(rich, 5, maximum) == full
    for maximum in (len(full) - 1, len(with_reason)):
        assert strip_to_fit(rich, 5, maximum) == with_reason
    for maximum in (len(with_reason) - 1, len(bare)):
        assert strip_to_fit(rich, 5, maximum) == bare
    assert strip_to_fit(rich, 5, len(bare) - 1) is None
    assert rich.properties == BOTH  # packets are never changed in place


def test_what_must_stay_is_not_stripped() -> None:
    connack = ConnAck(0, False, {"assigned_client_identifier": "id", "user_property": [("key", "value")]})
    kept = packet(0x20, raw("00 00"), section(b"\x12" + text("id")))
    assert strip_to_fit(connack, 5, len(kept)) == kept
    assert strip_to_fit(connack, 5, len(kept) - 1) is None
    publish = Publish("a", b"", properties={"user_property": [("key", "value")]})
    whole = encode(publish, 5)
    assert strip_to_fit(publish, 5, len(whole)) == whole
    assert strip_to_fit(publish, 5, len(whole) - 1) is None  # [MQTT-3.3.2-17]
    assert strip_to_fit(PingResp(), 5, 1) is None
