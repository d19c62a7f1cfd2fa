"""Whatever bytes come and however they are cut: the same packets, the same one error, never an exception."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cases.packet_case import Side
from cases.packet_cases import PACKET_CASES, WRONG_CASES
from trio_broker.protocol.decoder import Decoder
from trio_broker.protocol.packets import Connect, Packet, Publish

SHORT = 400  # rows of the tables with more bytes than this only slow the search down
CONNECTS = [case.data for case in PACKET_CASES if isinstance(case.packet, Connect) and len(case.data) < SHORT]


def _pieces(level: int, sent_by: Side) -> st.SearchStrategy[bytes]:
    """Bytes that are mostly packets: rows of the tables, repeated, with a byte changed here and there, and noise."""
    good = [
        case.data
        for case in PACKET_CASES
        if (case.level, case.sent_by) == (level, sent_by)
        and len(case.data) < SHORT
        and not isinstance(case.packet, Connect)
    ]
    wrong = [case.data for case in WRONG_CASES if (case.level, case.sent_by) == (level, sent_by)]

    def change(data: bytes, at: int, byte: int) -> bytes:
        at %= len(data)
        return data[:at] + bytes([byte]) + data[at + 1 :]

    changed = st.builds(change, st.sampled_from(good), st.integers(0, 50), st.integers(0, 255))
    repeated = st.builds(lambda data, times: data * times, st.sampled_from(good), st.integers(1, 4))
    piece = st.one_of(repeated, repeated, changed, st.sampled_from(wrong), st.binary(max_size=8))
    return st.lists(piece, max_size=8).map(b"".join)


def _outcome(decoder: Decoder, pieces: list[bytes]) -> tuple[list[Packet], list[bytes | None], str, int, int]:
    packets: list[Packet] = []
    for piece in pieces:
        packets += decoder.feed(piece)
    frames = [packet.frame for packet in packets if isinstance(packet, Publish)]
    return packets, frames, str(decoder.error), decoder.level, decoder.pending


def _cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def _check(data: bytes, places: list[int], level: int, sent_by: Side, max_packet_size: int) -> None:
    role: list[Decoder] = [
        Decoder(role="server" if sent_by == "client" else "client", level=level, max_packet_size=max_packet_size)
        for _ in range(3)
    ]
    whole = _outcome(role[0], [data])
    assert _outcome(role[1], [data[at : at + 1] for at in range(len(data))]) == whole
    assert _outcome(role[2], _cut(data, places)) == whole


PLACES = st.lists(st.integers(0, 2000), max_size=6)
SIZES = st.sampled_from((1_048_576, 1_048_576, 200, 12, 2))


@given(st.data(), st.sampled_from((3, 4, 5)), st.sampled_from(("client", "server")), PLACES, SIZES)
def test_packets_and_noise(data: st.DataObject, level: int, sent_by: Side, places: list[int], size: int) -> None:
    _check(data.draw(_pieces(level, sent_by)), places, level, sent_by, size)


@given(st.data(), st.sampled_from(CONNECTS), st.integers(0, 60), st.integers(-1, 255), PLACES)
def test_connect_and_what_follows(data: st.DataObject, connect: bytes, at: int, byte: int, places: list[int]) -> None:
    if byte >= 0:
        at %= len(connect)
        connect = connect[:at] + bytes([byte]) + connect[at + 1 :]
    rest = data.draw(st.sampled_from((3, 4, 5)).flatmap(lambda level: _pieces(level, "client")))
    _check(connect + rest, places, 0, "client", 1_048_576)


@given(st.binary(max_size=60), st.sampled_from((0, 3, 4, 5)), PLACES, SIZES)
def test_noise(data: bytes, level: int, places: list[int], size: int) -> None:
    _check(data, places, level, "client", size)
