"""What the decoder remembers of one PUBLISH for the next changes nothing of what comes out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_broker.protocol.decoder import REMEMBERED, Decoder
from trio_broker.protocol.encode import encode
from trio_broker.protocol.packets import MQTT5, MQTT311, Connect, Packet, Publish

LEVELS = (MQTT311, MQTT5)


def after_connect(level: int) -> Decoder:
    decoder = Decoder()
    assert decoder.feed(encode(Connect("c", level), level))
    return decoder


def anew(level: int, data: bytes) -> tuple[list[Packet], str | None]:
    """What a decoder says that has seen nothing but CONNECT."""
    decoder = after_connect(level)
    packets = decoder.feed(data)
    return packets, str(decoder.error) if decoder.error else None


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_the_same_topic_and_size_again_and_again(level: int, qos: int) -> None:
    decoder = after_connect(level)
    for number in range(1, 6):
        packet = Publish("t/1", b"%04d" % number, qos, packet_identifier=number if qos else 0)
        frame = encode(packet, level)
        assert decoder.feed(frame) == anew(level, frame)[0] == [packet]
        (decoded,) = decoder.feed(frame)
        assert isinstance(decoded, Publish)
        assert decoded.frame == (None if qos else frame)


BEGINNING = bytes((0x32, 8, 0, 1)) + b"t" + bytes((0, 1))
OTHERS = {
    "identifier 0": bytes((0x32, 8, 0, 1)) + b"t" + bytes((0, 0, 0)) + b"xx",
    "retained": bytes((0x33, 8, 0, 1)) + b"t" + bytes((0, 1, 0)) + b"xx",
    "a duplicate": bytes((0x3A, 8, 0, 1)) + b"t" + bytes((0, 1, 0)) + b"xx",
    "properties": BEGINNING + bytes((2, 1, 1)),
    "properties that reach too far": BEGINNING + bytes((9, 1, 1)),
    "another topic": bytes((0x32, 8, 0, 1)) + b"u" + bytes((0, 1, 0)) + b"xx",
    "a wrong size": bytes((0x32, 9, 0, 1)) + b"t" + bytes((0, 1, 0)) + b"xx",
    "a part": BEGINNING,
    "a bit more": BEGINNING + b"\0xx" + b"\xc0",
    "two": (BEGINNING + b"\0xx") * 2,
    "PINGREQ": b"\xc0\0",
    "a wrong byte": b"\xf0\0",
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_what_comes_after_two_of_a_kind_and_is_not_like_them(level: int, other: bytes) -> None:
    decoder = after_connect(level)
    frame = BEGINNING + b"\0xx"
    for _ in range(3):
        assert len(decoder.feed(frame)) == 1
    packets = decoder.feed(other)
    assert (packets, str(decoder.error) if decoder.error else None) == anew(level, other)
    if decoder.error is not None:
        assert decoder.feed(frame) == []
    elif decoder.pending:
        assert [type(packet) for packet in decoder.feed(b"\0xx" if other == BEGINNING else b"\0")]
    else:
        assert decoder.feed(frame) == anew(level, frame)[0]


def test_a_long_topic_name_is_not_kept() -> None:
    for size, kept in ((100, True), (REMEMBERED + 1, False)):
        decoder = after_connect(MQTT311)
        frame = encode(Publish("t" * size, b"x"), MQTT311)
        for _ in range(4):
            assert decoder.feed(frame) == [Publish("t" * size, b"x")]
        assert (decoder._like is not None) is kept


@given(
    level=st.sampled_from(LEVELS),
    frames=st.lists(
        st.builds(
            Publish,
            st.sampled_from(["a", "b", "ab"]),
            st.sampled_from([b"", b"x", b"y", b"xy"]),
            st.integers(0, 2),
            st.booleans(),
            st.just(False),
            st.integers(1, 3),
        ).map(lambda packet: packet if packet.qos else Publish(packet.topic_name, packet.payload, 0, packet.retain)),
        max_size=12,
    ),
)
def test_one_at_a_time_as_all_at_once(level: int, frames: list[Publish]) -> None:
    decoder = after_connect(level)
    one_by_one = [packet for frame in frames for packet in decoder.feed(encode(frame, level))]
    assert one_by_one == frames == after_connect(level).feed(b"".join(encode(frame, level) for frame in frames))
