"""The property table: each property in each packet, and all the ways to get one wrong."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cases.packet_strategies import properties
from cases.property_cases import (
    EVERYWHERE,
    PROPERTY_CASES,
    WRONG_PROPERTY_CASES,
    PropertyCase,
    WrongPropertyCase,
)
from cases.wire import raw, section, text
from trio_broker.errors import ProtocolError
from trio_broker.protocol.packets import NO_PROPERTIES, Properties
from trio_broker.protocol.properties import PACKET_NAMES, PROPERTY_RULES, decode_properties, properties_bytes


def test_table_has_every_property_of_the_specification_once() -> None:
    assert sorted(rule.name for rule in PROPERTY_RULES) == sorted(Properties.__annotations__)
    assert len({rule.identifier for rule in PROPERTY_RULES}) == len(PROPERTY_RULES) == 27
    assert set(PACKET_NAMES) == set(EVERYWHERE)
    assert {rule.name: rule.packets for rule in PROPERTY_RULES} == {
        case.name: frozenset(case.packets) for case in PROPERTY_CASES
    }


@pytest.mark.parametrize("case", PROPERTY_CASES, ids=lambda case: case.name)
def test_property_in_each_packet_it_is_for(case: PropertyCase) -> None:
    expected = cast(Properties, {case.name: case.value})
    for packet_name in case.packets:
        data = b"before" + case.section + b"behind"
        end = 6 + len(case.section)
        assert decode_properties(data, 6, end, packet_name) == (expected, end)
        assert properties_bytes(expected, packet_name) == case.section


@pytest.mark.parametrize(
    ("case", "packet_name"),
    [(case, packet_name) for case in WRONG_PROPERTY_CASES for packet_name in case.packets],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_wrong_property_leads_to_its_reason_code(case: WrongPropertyCase, packet_name: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_properties(case.section, 0, len(case.section), packet_name)
    assert caught.value.reason_code == case.reason_code


def test_no_properties_are_always_the_same_object() -> None:
    assert decode_properties(b"\0", 0, 1, "PUBLISH_BY_CLIENT") == (NO_PROPERTIES, 1)
    assert decode_properties(b"\0", 0, 1, "PUBLISH_BY_CLIENT")[0] is NO_PROPERTIES
    assert properties_bytes({}, "PUBLISH") == b"\0"


def test_section_ends_where_its_length_says() -> None:
    data = section(raw("01 01")) + raw("01 00")
    assert decode_properties(data, 0, len(data), "WILL") == ({"payload_format_indicator": 1}, 3)


def test_subscription_identifiers_are_a_list() -> None:
    several = section(raw("0B 01 0B 02"))
    assert decode_properties(several, 0, 5, "PUBLISH_BY_SERVER")[0] == {"subscription_identifier": [1, 2]}
    assert properties_bytes({"subscription_identifier": [1, 2]}, "PUBLISH") == several


@pytest.mark.parametrize(
    ("packet_name", "wrong"),
    [
        ("PUBLISH", {"will_delay_interval": 1}),
        ("PUBLISH_BY_CLIENT", {"subscription_identifier": [1]}),
        ("DISCONNECT_BY_SERVER", {"session_expiry_interval": 1}),
        ("CONNACK", {"no_such_property": 1}),
        ("CONNACK", {"maximum_qos": 2}),
        ("CONNACK", {"maximum_packet_size": 0}),
        ("CONNACK", {"session_expiry_interval": 2**32}),
        ("CONNACK", {"reason_string": "\0"}),
        ("CONNACK", {"reason_string": "x" * 65_536}),
        ("CONNACK", {"user_property": [("\ud800", "")]}),
    ],
)
def test_what_cannot_be_written_is_a_value_error(packet_name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        properties_bytes(cast(Properties, wrong), packet_name)


@given(data=st.data(), packet_name=st.sampled_from(PACKET_NAMES))
def test_what_is_written_is_read_back(data: st.DataObject, packet_name: str) -> None:
    drawn = data.draw(properties(packet_name))
    written = properties_bytes(drawn, packet_name)
    assert decode_properties(written, 0, len(written), packet_name) == (drawn, len(written))


def test_either_side_may_be_left_open_in_writing() -> None:
    assert properties_bytes({"session_expiry_interval": 1}, "DISCONNECT") == section(raw("11 00 00 00 01"))
    assert properties_bytes({"server_reference": "x"}, "DISCONNECT") == section(b"\x1c" + text("x"))
