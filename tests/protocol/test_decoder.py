"""What the decoder does between packets: levels, pieces, sizes, runs of the same PUBLISH."""

from __future__ import annotations

from typing import Literal

import pytest

from cases.wire import packet, raw, section, text
from cases.wrong_cases import connect
from trio_broker.protocol.decoder import TRIES, Decoder
from trio_broker.protocol.packets import Connect, Packet, PingReq, PubAck, Publish, Subscribe, SubscribeFilter
from trio_broker.protocol.reason_codes import ReasonCode


def test_level_is_known_once_connect_is_decoded() -> None:
    decoder = Decoder()
    assert decoder.level == 0
    data = connect("MQTT", 5, 2, b"\0", text("c"))
    assert decoder.feed(data[:-1]) == []
    assert decoder.level == 0
    assert decoder.feed(data[-1:]) == [Connect("c", 5, True, 60)]
    assert decoder.level == 5


@pytest.mark.parametrize(("name", "level", "none"), [("MQIsdp", 3, b""), ("MQTT", 4, b""), ("MQTT", 5, b"\0")])
def test_packets_behind_connect_are_decoded_with_its_level(name: str, level: int, none: bytes) -> None:
    data = (
        connect(name, level, 2, none, text("c"))
        + packet(0x82, raw("00 01"), none, text("a"), b"\1")
        + packet(0x32, text("a"), raw("00 02"), none, b"x")
        + raw("C0 00")
    )
    expected: list[Packet] = [
        Connect("c", level, True, 60),
        Subscribe(1, [SubscribeFilter("a", 1)]),
        Publish("a", b"x", 1, packet_identifier=2),
        PingReq(),
    ]
    whole = Decoder()
    assert whole.feed(data) == expected
    pieces = Decoder()
    assert [found for byte in data for found in pieces.feed(bytes([byte]))] == expected
    assert whole.level == pieces.level == level


def test_nothing_fed_gives_nothing() -> None:
    decoder = Decoder(level=4)
    assert decoder.feed(b"") == []
    assert decoder.pending == 0
    assert decoder.error is None


def test_pending_counts_the_bytes_of_the_unfinished_packet_only() -> None:
    decoder = Decoder(level=4)
    assert decoder.feed(raw("C0 00 40 02 00")) == [PingReq()]
    assert decoder.pending == 3
    assert decoder.feed(raw("07 C0")) == [PubAck(7)]
    assert decoder.pending == 1
    assert decoder.feed(raw("00")) == [PingReq()]
    assert decoder.pending == 0


def test_first_byte_and_size_are_judged_before_the_body_is_there() -> None:
    decoder = Decoder(level=4)
    assert decoder.feed(raw("90 7F")) == []
    assert decoder.error is not None
    assert decoder.error.reason_code is ReasonCode.PROTOCOL_ERROR
    decoder = Decoder()
    decoder.feed(raw("30 7F"))
    assert decoder.error is not None
    assert decoder.error.reason_code is ReasonCode.PROTOCOL_ERROR


@pytest.mark.parametrize("maximum", [2, 3, 50, 127, 128, 129, 130, 131, 5000, 100_000])
@pytest.mark.parametrize("level", [0, 4])
def test_largest_packet_is_whole_packet_with_its_header(maximum: int, level: int) -> None:
    # A packet with exactly `maximum` bytes: for the sizes in question its header has two, three or four.
    overhead = next(size for size in (2, 3, 4) if len(packet(0x30, bytes(maximum - size))) in (maximum, maximum - 1))
    fits = packet(0x10 if not level else 0x30, bytes(maximum - overhead))
    assert len(fits) <= maximum
    decoder = Decoder(level=level, max_packet_size=maximum)
    decoder.feed(fits[:-1])
    assert decoder.error is None
    too_large = packet(fits[0], bytes(maximum - overhead + 1))
    for cut in (len(too_large), overhead + 1):
        decoder = Decoder(level=level, max_packet_size=len(too_large) - 1)
        assert decoder.feed(too_large[:cut]) == []
        assert decoder.error is not None
        assert decoder.error.reason_code is ReasonCode.PACKET_TOO_LARGE


def test_big_packet_in_small_pieces_is_looked_at_once() -> None:
    payload = bytes(range(256)) * 2000
    data = packet(0x30, text("a"), payload)
    decoder = Decoder(level=4)
    found: list[Packet] = []
    for start in range(0, len(data), 100):
        assert decoder.pending == start
        found += decoder.feed(data[start : start + 100])
    assert found == [Publish("a", payload)]
    assert isinstance(found[0], Publish)
    assert type(found[0].payload) is bytes
    assert type(found[0].frame) is bytes
    assert decoder.pending == 0


def test_client_reads_what_a_server_sends() -> None:
    decoder = Decoder(role="client", level=5)
    [found] = decoder.feed(packet(0x30, text("a"), section(raw("0B 07")), b"x"))
    assert found == Publish("a", b"x", properties={"subscription_identifier": [7]})


@pytest.mark.parametrize(("role", "level"), [("client", 0), ("client", 6), ("server", 2), ("server", 0x84)])
def test_levels_that_do_not_exist_are_refused(role: Literal["client", "server"], level: int) -> None:
    with pytest.raises(ValueError, match=str(level)):
        Decoder(role=role, level=level)


def test_every_topic_name_is_checked_however_often_it_comes() -> None:
    for _ in range(3):
        decoder = Decoder(level=4)
        assert decoder.feed(packet(0x30, text("bad/+"))) == []
        assert decoder.error is not None
        assert decoder.error.reason_code is ReasonCode.TOPIC_NAME_INVALID


def _publish(level: int, qos: int, topic: str, payload: bytes, packet_identifier: int, properties: bytes) -> bytes:
    return packet(
        0x30 | qos << 1,
        text(topic),
        packet_identifier.to_bytes(2, "big") if qos else b"",
        section(properties) if level == 5 else b"",
        payload,
    )


@pytest.mark.parametrize("level", [3, 4, 5])
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("size", [0, 3, 200])
def test_runs_of_one_topic_and_size_keep_each_payload_and_identifier(level: int, qos: int, size: int) -> None:
    payloads = [bytes([number]) * size for number in range(20)]
    data = [_publish(level, qos, "a/b", payload, number + 1, b"") for number, payload in enumerate(payloads)]
    expected = [
        Publish("a/b", payload, qos, packet_identifier=number + 1 if qos else 0)
        for number, payload in enumerate(payloads)
    ]
    found = Decoder(level=level).feed(b"".join(data))
    assert found == expected
    assert [packet.frame for packet in found if isinstance(packet, Publish)] == ([None] * 20 if qos else data)


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("level", [3, 4, 5])
def test_identifier_zero_within_a_run_is_found(level: int, qos: int) -> None:
    good = _publish(level, qos, "a", b"x", 1, b"")
    decoder = Decoder(level=level)
    assert len(decoder.feed(good * 3 + _publish(level, qos, "a", b"x", 0, b"") + good)) == 3
    assert decoder.error is not None
    assert decoder.error.reason_code is ReasonCode.PROTOCOL_ERROR


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_run_ends_where_a_packet_of_the_same_size_has_properties(qos: int) -> None:
    plain = _publish(5, qos, "a", b"xxxx", 1, b"")
    other = _publish(5, qos, "a", b"xx", 2, raw("01 01"))
    assert len(plain) == len(other)
    decoder = Decoder(level=5)
    found = decoder.feed(plain * 3 + other + plain * 2)
    one = Publish("a", b"xxxx", qos, packet_identifier=1 if qos else 0)
    with_property = Publish(
        "a", b"xx", qos, packet_identifier=2 if qos else 0, properties={"payload_format_indicator": 1}
    )
    assert found == [one, one, one, with_property, one, one]
    assert decoder.error is None


def test_runs_are_still_decoded_after_many_changes_of_topic() -> None:
    changing = [_publish(4, 0, f"t/{number}", b"x", 0, b"") for number in range(TRIES + 2)]
    same = _publish(4, 0, "s", b"x", 0, b"")
    found = Decoder(level=4).feed(b"".join(changing) + same * 4 + changing[0])
    topics = [packet.topic_name for packet in found if isinstance(packet, Publish)]
    assert topics == [f"t/{number}" for number in range(TRIES + 2)] + ["s"] * 4 + ["t/0"]
