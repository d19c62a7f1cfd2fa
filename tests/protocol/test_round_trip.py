"""Any packet is read back as it was written, at each level and from both sides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cases.packet_strategies import client_packets, connects, server_packets
from trio_broker.protocol.decoder import Decoder
from trio_broker.protocol.encode import encode

LEVELS = pytest.mark.parametrize("level", [3, 4, 5])


@LEVELS
@given(data=st.data())
def test_what_a_client_sends(level: int, data: st.DataObject) -> None:
    connect = data.draw(connects(level))
    packets = data.draw(st.lists(client_packets(level), max_size=4))
    decoder = Decoder()
    wire = encode(connect, level, "client") + b"".join(encode(packet, level, "client") for packet in packets)
    assert decoder.feed(wire) == [connect, *packets]
    assert decoder.error is None
    assert decoder.pending == 0


@LEVELS
@given(data=st.data())
def test_what_a_server_sends(level: int, data: st.DataObject) -> None:
    packets = data.draw(st.lists(server_packets(level), min_size=1, max_size=4))
    decoder = Decoder(role="client", level=level)
    assert decoder.feed(b"".join(encode(packet, level) for packet in packets)) == packets
    assert decoder.error is None
    assert decoder.pending == 0
