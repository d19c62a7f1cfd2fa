"""Encoded once for all who get the same bytes."""

from __future__ import annotations

import pytest
from session.objects import NOW, client_run, decoded, message, published, run

from trio_broker.protocol.decoder import Decoder
from trio_broker.protocol.encode import encode
from trio_broker.protocol.message import Run
from trio_broker.protocol.packets import Connect, Packet, Properties, Publish
from trio_broker.session.frames import copy_frame, message_properties, run_frames
from trio_broker.session.outgoing import Outgoing


@pytest.mark.parametrize("level", [3, 4, 5])
@pytest.mark.parametrize("retain", [False, True])
def test_a_run_is_encoded_once_for_each_version(level: int, retain: bool) -> None:
    made = run(b"1", b"2", qos=0, retain=retain)
    frames = run_frames(made, level)
    assert run_frames(made, level) is frames
    assert [(packet.payload, packet.retain) for packet in published([frames], level)] == [(b"1", False), (b"2", False)]
    other = 4 if level == 5 else 5
    assert [packet.payload for packet in published([run_frames(made, other)], other)] == [b"1", b"2"]


@pytest.mark.parametrize("received", [4, 5])
@pytest.mark.parametrize("wanted", [3, 4, 5])
@pytest.mark.parametrize("payloads", [[b"1"], [b"1", b"x" * 200, b""]])
def test_what_a_client_sent_is_passed_on(received: int, wanted: int, payloads: list[bytes]) -> None:
    """As it stands where the version is the same; the other version gets its own bytes."""
    decoder = Decoder()
    packets: list[Packet] = [Connect("c", received), *(Publish("t", each) for each in payloads)]
    sent = b"".join(encode(packet, received, "client") for packet in packets)
    _, *packets = decoder.feed(sent)
    made = Run(
        "t", 0, False, run().origin, None, True, [each for each in packets if isinstance(each, Publish)], received
    )
    made.number(1)
    frames = run_frames(made, wanted)
    assert [packet.payload for packet in published([frames], wanted)] == payloads
    if (received == 5) == (wanted == 5):
        assert sent.endswith(frames)


@pytest.mark.parametrize("level", [4, 5])
def test_a_run_of_qos_1_for_a_qos_0_subscriber(level: int) -> None:
    made = client_run(b"1", b"2", qos=1, level=level)
    packets = published([run_frames(made, level)], level)
    assert [(packet.qos, packet.payload, packet.packet_identifier) for packet in packets] == [
        (0, b"1", 0),
        (0, b"2", 0),
    ]


@pytest.mark.parametrize(
    ("expires", "identifiers", "extra"),
    [
        (None, (), {}),
        (None, (3, 3), {"subscription_identifier": [3, 3]}),
        (7.5, (), {"message_expiry_interval": 8}),
        (-3.0, (1,), {"message_expiry_interval": 0, "subscription_identifier": [1]}),
    ],
)
def test_message_properties(expires: float | None, identifiers: tuple[int, ...], extra: Properties) -> None:
    """The message itself never changes."""
    properties: Properties = {"content_type": "x", "user_property": [("a", "b")]}
    if expires is not None:
        properties["message_expiry_interval"] = 100
    made = message(b"", 1, properties, None if expires is None else NOW + expires)
    before = dict(properties)
    assert message_properties(made, identifiers, NOW) == {**properties, **extra}
    assert made.properties == before


@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize("dup", [False, True])
@pytest.mark.parametrize("qos", [1, 2])
def test_copy_frame(level: int, dup: bool, qos: int) -> None:
    """[MQTT-3.3.1-1]; the QoS and RETAIN are those of the copy."""
    copy = Outgoing(message(b"x", 2, {"content_type": "c"}), qos, True, (5,), 1, 77)
    (packet,) = decoded([copy_frame(copy, level, dup, NOW)], level)
    expected: Properties = {"content_type": "c", "subscription_identifier": [5]} if level == 5 else {}
    assert packet == Publish("t", b"x", qos, True, dup, 77, expected)
