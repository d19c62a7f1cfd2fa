"""Every row of the tables of packets, through the decoder."""

from __future__ import annotations

import pytest

from cases.packet_case import PacketCase, Side, WrongCase
from cases.packet_cases import PACKET_CASES, WRONG_CASES
from trio_broker.protocol.decoder import Decoder
from trio_broker.protocol.packets import Connect, Packet, Publish


def decoder_for(level: int, sent_by: Side) -> Decoder:
    return Decoder(role="server" if sent_by == "client" else "client", level=level)


def feed_in_pieces(decoder: Decoder, data: bytes, size: int) -> list[Packet]:
    packets: list[Packet] = []
    for start in range(0, len(data), size):
        packets += decoder.feed(data[start : start + size])
    return packets


def fresh(case: PacketCase) -> Decoder:
    return Decoder() if isinstance(case.packet, Connect) else decoder_for(case.level, case.sent_by)


@pytest.mark.parametrize("case", PACKET_CASES, ids=str)
def test_packet_means_what_the_table_says(case: PacketCase) -> None:
    decoder = fresh(case)
    assert decoder.feed(case.data) == [case.packet]
    assert decoder.error is None
    assert decoder.pending == 0
    assert decoder.level == case.level


@pytest.mark.parametrize("case", PACKET_CASES, ids=str)
def test_packet_in_pieces_means_the_same(case: PacketCase) -> None:
    decoder = fresh(case)
    size = 1 if len(case.data) < 1000 else 997
    assert feed_in_pieces(decoder, case.data, size) == [case.packet]
    assert decoder.error is None
    assert decoder.pending == 0


@pytest.mark.parametrize("case", [case for case in PACKET_CASES if not isinstance(case.packet, Connect)], ids=str)
def test_packet_again_and_again_is_decoded_each_time(case: PacketCase) -> None:
    decoder = fresh(case)
    assert decoder.feed(case.data * 5 + case.data[:-1]) == [case.packet] * 5
    assert decoder.pending == len(case.data) - 1
    assert decoder.feed(case.data[-1:]) == [case.packet]
    assert decoder.error is None


@pytest.mark.parametrize("case", [case for case in PACKET_CASES if isinstance(case.packet, Publish)], ids=str)
def test_frame_is_kept_where_it_may_be_passed_on(case: PacketCase) -> None:
    decoder = fresh(case)
    for packet in decoder.feed(case.data * 3):
        assert isinstance(packet, Publish)
        may = not (packet.qos or packet.dup or packet.retain or packet.properties)
        assert packet.frame == (case.data if may else None)


@pytest.mark.parametrize("case", WRONG_CASES, ids=str)
def test_wrong_packet_leads_to_its_reason_code(case: WrongCase) -> None:
    decoder = decoder_for(case.level, case.sent_by)
    assert decoder.feed(case.data) == []
    assert decoder.error is not None
    assert decoder.error.reason_code == case.reason_code
    assert decoder.level == case.decoder_level
    assert decoder.pending == 0


@pytest.mark.parametrize("case", WRONG_CASES, ids=str)
def test_wrong_packet_in_pieces_leads_to_the_same_error(case: WrongCase) -> None:
    whole = decoder_for(case.level, case.sent_by)
    whole.feed(case.data)
    pieces = decoder_for(case.level, case.sent_by)
    assert feed_in_pieces(pieces, case.data, 1) == []
    assert str(pieces.error) == str(whole.error)
    assert pieces.level == whole.level


@pytest.mark.parametrize("case", [case for case in WRONG_CASES if case.level], ids=str)
def test_packets_before_a_wrong_one_are_kept_and_none_after_it(case: WrongCase) -> None:
    good = next(
        row for row in PACKET_CASES if (row.level, row.sent_by, row.name) == (case.level, case.sent_by, "PUBACK")
    )
    decoder = decoder_for(case.level, case.sent_by)
    assert decoder.feed(good.data + good.data + case.data + good.data) == [good.packet, good.packet]
    assert decoder.error is not None
    assert decoder.error.reason_code == case.reason_code
    assert decoder.feed(good.data) == []
    assert decoder.pending == 0
