"""The fast functions for PUBLISH and its acknowledgements say the same as `encode`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cases.packet_strategies import publishes
from trio_broker.protocol import encode_publish
from trio_broker.protocol.decoder import Decoder
from trio_broker.protocol.encode import encode
from trio_broker.protocol.encode_publish import (
    TopicBytes,
    puback,
    pubcomp,
    publish_frame,
    publish_parts,
    pubrec,
    pubrel,
)
from trio_broker.protocol.packets import Packet, PubAck, PubComp, Publish, PubRec, PubRel


@given(packet=publishes(5, "server"), level=st.sampled_from((3, 4, 5)))
def test_frame_and_parts_are_what_encode_gives(packet: Publish, level: int) -> None:
    frame = publish_frame(
        packet.topic_name,
        packet.payload,
        packet.qos,
        packet.retain,
        packet.dup,
        packet.packet_identifier,
        packet.properties,
        level,
    )
    assert frame == encode(packet, level)
    if packet.qos:
        before, after = publish_parts(
            packet.topic_name, packet.payload, packet.qos, packet.retain, packet.dup, packet.properties, level
        )
        assert before + packet.packet_identifier.to_bytes(2, "big") + after == frame


@pytest.mark.parametrize("level", [4, 5])
def test_frame_that_was_received_is_the_frame_that_is_sent(level: int) -> None:
    for size in (0, 1, 120, 121, 122, 123, 124, 125, 126, 127, 20_000):
        frame = publish_frame("a/b", bytes(size), level=level)
        [packet] = Decoder(level=level).feed(frame)
        assert isinstance(packet, Publish)
        assert packet.frame == frame


def test_qos_0_has_no_parts() -> None:
    with pytest.raises(ValueError, match="QoS 0"):
        publish_parts("a", b"", 0)


@pytest.mark.parametrize("packet_identifier", [1, 255, 256, 65_535])
@pytest.mark.parametrize(
    ("short", "kind", "code"),
    [(puback, PubAck, 0x10), (pubrec, PubRec, 0x97), (pubrel, PubRel, 0x92), (pubcomp, PubComp, 0x92)],
)
def test_acknowledgements(
    short: Callable[..., bytes], kind: Callable[..., Packet], code: int, packet_identifier: int
) -> None:
    assert short(packet_identifier) == encode(kind(packet_identifier), 4)
    assert short(packet_identifier, code) == encode(kind(packet_identifier, code), 5)


def test_cache_of_topics_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode_publish, "_CACHED_TOPICS", 3)
    cache = TopicBytes()
    for name in ("a", "b", "c", "d", "a"):
        assert cache[name] == b"\0\1" + name.encode()
        assert len(cache) <= 3
    long_name = "t" * 300
    assert cache[long_name] == (300).to_bytes(2, "big") + long_name.encode()
    assert long_name not in cache
    with pytest.raises(ValueError, match=r"U\+0000"):
        cache["\0"]
    assert "\0" not in cache
