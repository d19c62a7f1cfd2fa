"""What must hold of the decoder whatever bytes it is given: the function that is fuzzed.

Invariant: `check` raises AssertionError where a rule is broken and nothing else, is the same for the same bytes every
time, and needs no more than the broker itself.

An input is three bytes that say how it is decoded, then the stream:

    byte 0      bits 0-1 the level the decoder begins with (0: 0, a server that waits for CONNECT; else 3, 4, 5),
                bit 2 who decodes (0 = server, 1 = client; at level 0 it is a server), bits 3-4 `max_packet_size`
    byte 1      how many cuts, modulo 16
    byte 2      where they are: the seed of the places
"""

from __future__ import annotations

import sys
from itertools import pairwise
from random import Random
from typing import Final, Literal

from attrs import define

from trio_broker.errors import ProtocolError
from trio_broker.protocol.decoder import Decoder
from trio_broker.protocol.encode import encode
from trio_broker.protocol.encode_publish import TOPIC_BYTES
from trio_broker.protocol.packets import MQTT5, MQTT31, Connect, Disconnect, Packet, Publish
from trio_broker.protocol.topics import TOPIC_NAMES

__all__ = ["HEADER", "Plan", "check"]

HEADER: Final = 3
LEVELS: Final = (0, 3, 4, 5)
SIZES: Final = (1_048_576, 200, 12, 268_435_460)
LARGEST: Final = 268_435_460
CACHED_NAMES: Final = 65_536

Role = Literal["server", "client"]


@define(frozen=True)
class Plan:
    """How an input is decoded."""

    level: int
    role: Role
    max_packet_size: int
    cuts: int
    seed: int

    @classmethod
    def of(cls, header: bytes) -> Plan:
        how, cuts, seed = header[:HEADER]
        level = LEVELS[how & 3]
        role: Role = "client" if how & 4 and level else "server"
        return cls(level, role, SIZES[how >> 3 & 3], cuts % 16, seed)

    def header(self) -> bytes:
        how = LEVELS.index(self.level) | (self.role == "client") << 2 | SIZES.index(self.max_packet_size) << 3
        return bytes((how, self.cuts, self.seed))

    def decoder(self) -> Decoder:
        return Decoder(role=self.role, level=self.level, max_packet_size=self.max_packet_size)

    def pieces(self, data: bytes) -> list[bytes]:
        """`data` in pieces, some of which may be empty."""
        dice = Random(self.seed)
        edges = [0, *sorted(dice.randint(0, len(data)) for _ in range(self.cuts)), len(data)]
        return [data[start:end] for start, end in pairwise(edges)]


@define
class Outcome:
    """All that can be seen of a decoder that was fed."""

    packets: list[Packet]
    frames: list[bytes | None]
    error: tuple[int, str] | None
    level: int
    pending: int


def check(data: bytes) -> None:
    """Decode `data` in one piece, in the pieces its header asks for, and byte by byte where it is short."""
    if len(data) < HEADER:
        return
    plan = Plan.of(data)
    stream = bytes(data[HEADER:])
    whole = _decode(plan, [stream])
    _same(_decode(plan, plan.pieces(stream)), whole, "in pieces")
    if len(stream) <= 512:
        _same(_decode(plan, [stream[at : at + 1] for at in range(len(stream))]), whole, "byte by byte")
    for packet in whole.packets:
        _check_round_trip(packet, plan, whole.level)
    assert len(TOPIC_NAMES) <= CACHED_NAMES
    assert len(TOPIC_BYTES) <= CACHED_NAMES


def _decode(plan: Plan, pieces: list[bytes]) -> Outcome:
    decoder = plan.decoder()
    packets: list[Packet] = []
    fed = 0
    for piece in pieces:
        before = decoder.error
        try:
            new = decoder.feed(piece)
        except Exception as raised:
            raise AssertionError(f"the decoder raised {raised!r}") from raised
        fed += len(piece)
        assert before is None or not new, "packets behind an error"
        assert before is None or decoder.error is before, "one error after another"
        packets += new
        _check_held(decoder, fed)
    error = decoder.error
    assert type(error) in (type(None), ProtocolError)
    frames = [packet.frame for packet in packets if isinstance(packet, Publish)]
    said = None if error is None else (int(error.reason_code), error.message)
    # A packet needs a fixed header of two bytes, and no byte is read twice.
    assert 2 * len(packets) + decoder.pending <= fed
    assert sum(len(packet.payload) for packet in packets if isinstance(packet, Publish)) <= fed
    return Outcome(packets, frames, said, decoder.level, decoder.pending)


def _check_held(decoder: Decoder, fed: int) -> None:
    """What is held is the beginning of one packet, came from the peer, and is not more than a packet may have."""
    held = decoder.held
    assert len(held) == decoder.pending <= fed
    # A packet that is too large is known by its length, which is held until it is whole.
    assert decoder.pending < max(decoder.max_packet_size, 5)
    assert sys.getsizeof(held) <= 2 * len(held) + 128
    assert decoder.error is None or not held, "bytes are held for nothing"


def _same(outcome: Outcome, whole: Outcome, how: str) -> None:
    assert outcome == whole, f"{how}: {outcome}\nwhole: {whole}"


def _check_round_trip(packet: Packet, plan: Plan, level: int) -> None:
    """A packet that was decoded can be encoded, and means the same again.

    But for two, which are read and never written: DUP with QoS 0 in MQTT 3.1 [MQTT-3.3.1-2], and a DISCONNECT of a
    server below 5.0, which has a test of its own.
    """
    if isinstance(packet, Publish) and packet.dup and not packet.qos and level == MQTT31:
        return
    if isinstance(packet, Disconnect) and plan.role == "client" and level != MQTT5:
        return
    sender: Role = "client" if plan.role == "server" else "server"
    try:
        data = encode(packet, level, sender)
    except ValueError as error:
        raise AssertionError(f"{packet} was decoded and cannot be encoded: {error}") from error
    first = isinstance(packet, Connect) and plan.level == 0
    decoder = Decoder(role=plan.role, level=0 if first else level, max_packet_size=LARGEST)
    packets = decoder.feed(data)
    assert decoder.error is None, f"{packet} became {data.hex()}, which is wrong: {decoder.error}"
    assert packets == [packet], f"{packet} became {data.hex()}, which is {packets}"
    assert decoder.pending == 0
