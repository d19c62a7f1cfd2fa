"""What a CONNECT asks for and what it gets."""

from __future__ import annotations

import pytest

from trio_broker.errors import ProtocolError
from trio_broker.protocol.packets import Connect, Properties, Will
from trio_broker.session.connect import check, connack_properties, terms
from trio_broker.session.limits import Limits

OPEN = Limits(max_packet_size=268_435_460, max_awaiting_rel=0, max_topic_alias=0)
"""Nothing has to be announced."""


@pytest.mark.parametrize(
    ("connect", "limits", "code"),
    [
        (Connect("c"), Limits(), None),
        (Connect("", 5), Limits(), None),
        (Connect("", 5, clean_start=False), Limits(), None),
        (Connect("", 4), Limits(), None),
        (Connect("", 4, clean_start=False), Limits(), 0x85),
        (Connect("", 3), Limits(), 0x85),
        (Connect("x" * 30), Limits(max_clientid_len=30), None),
        (Connect("x" * 31), Limits(max_clientid_len=30), 0x85),
        (Connect("\u20ac" * 10), Limits(max_clientid_len=30), None),
        (Connect("\u20ac" * 11), Limits(max_clientid_len=30), 0x85),
        (Connect("c", will=Will("t", b"", 2)), Limits(max_qos_allowed=2), None),
        (Connect("c", will=Will("t", b"", 2)), Limits(max_qos_allowed=1), 0x9B),
        (Connect("c", will=Will("t", b"", 0, True)), Limits(retain_available=False), 0x9A),
        (Connect("c", properties={"authentication_method": "SCRAM"}), Limits(), None),
    ],
)
def test_check(connect: Connect, limits: Limits, code: int | None) -> None:
    """[MQTT-3.1.3-5], [3.1.1 3.1.3-8], [MQTT-3.2.2-12], [MQTT-3.2.2-13]"""
    if code is None:
        check(connect, limits)
        return
    with pytest.raises(ProtocolError) as caught:
        check(connect, limits)
    assert caught.value.reason_code == code


@pytest.mark.parametrize(
    ("level", "clean", "asked", "expiry"),
    [
        (5, True, None, 0),
        (5, False, None, 0),
        (5, False, 10, 10),
        (5, True, 99_999, 99_999),
        (5, True, 0xFFFFFFFF, 0xFFFFFFFF),
        (4, True, None, 0),
        (4, False, None, 7200),
        (3, False, None, 7200),
    ],
)
def test_session_expiry(level: int, clean: bool, asked: int | None, expiry: int) -> None:
    properties: Properties = {} if asked is None else {"session_expiry_interval": asked}
    connect = Connect("c", level, clean, properties=properties)
    assert terms(connect, "c", Limits(session_expiry_interval=7200)).session_expiry_interval == expiry


@pytest.mark.parametrize(
    ("level", "asked", "server", "agreed", "told"),
    [(5, 60, None, 60, None), (5, 60, 10, 10, 10), (5, 0, 10, 10, 10), (5, 10, 10, 10, None), (4, 60, 10, 60, None)],
)
def test_keep_alive(level: int, asked: int, server: int | None, agreed: int, told: int | None) -> None:
    """[MQTT-3.2.2-21], [MQTT-3.2.2-22]"""
    limits = Limits(server_keepalive=server)
    connect = Connect("c", level, keep_alive=asked)
    found = terms(connect, "c", limits)
    assert found.keep_alive == agreed
    assert connack_properties(connect, found, limits).get("server_keep_alive") == told


@pytest.mark.parametrize(
    ("asked", "final", "assigned"), [("", "auto-1", True), ("c", "c", False), ("c", "user", False)]
)
def test_assigned_client_identifier(asked: str, final: str, assigned: bool) -> None:
    """[MQTT-3.2.2-16]"""
    connect = Connect(asked)
    properties = connack_properties(connect, terms(connect, final, OPEN), OPEN)
    assert properties == ({"assigned_client_identifier": final} if assigned else {})


def test_what_the_client_says_of_itself() -> None:
    found = terms(
        Connect("c", properties={"receive_maximum": 3, "maximum_packet_size": 99, "request_problem_information": 0}),
        "c",
        OPEN,
    )
    assert (found.receive_maximum, found.maximum_packet_size, found.request_problem_information) == (3, 99, False)
    silent = terms(Connect("c", 4, bridge=True), "c", OPEN)
    assert (silent.receive_maximum, silent.maximum_packet_size, silent.bridge) == (65_535, 268_435_460, True)


@pytest.mark.parametrize(
    ("change", "announced"),
    [
        ({}, {}),
        ({"max_awaiting_rel": 7}, {"receive_maximum": 7}),
        ({"max_awaiting_rel": 70_000}, {"receive_maximum": 65_535}),
        ({"max_qos_allowed": 1}, {"maximum_qos": 1}),
        ({"max_qos_allowed": 0}, {"maximum_qos": 0}),
        ({"retain_available": False}, {"retain_available": 0}),
        ({"max_packet_size": 100}, {"maximum_packet_size": 100}),
        ({"max_topic_alias": 5}, {"topic_alias_maximum": 5}),
        ({"wildcard_subscription": False}, {"wildcard_subscription_available": 0}),
        ({"shared_subscription": False}, {"shared_subscription_available": 0}),
    ],
)
def test_every_limit_is_announced(change: dict[str, object], announced: Properties) -> None:
    limits = Limits(**{"max_packet_size": 268_435_460, "max_awaiting_rel": 0, "max_topic_alias": 0, **change})  # type: ignore[arg-type]
    connect = Connect("c")
    assert connack_properties(connect, terms(connect, "c", limits), limits) == announced
    old = Connect("c", 4)
    assert connack_properties(old, terms(old, "c", limits), limits) == {}


@pytest.mark.parametrize(
    ("asked", "configured", "told"), [(1, "r/", True), (1, "", False), (0, "r/", False), (None, "r/", False)]
)
def test_response_information(asked: int | None, configured: str, told: bool) -> None:
    """[MQTT-3.1.2-28]"""
    limits = Limits(max_packet_size=268_435_460, max_awaiting_rel=0, max_topic_alias=0, response_information=configured)
    connect = Connect("c", properties={} if asked is None else {"request_response_information": asked})
    properties = connack_properties(connect, terms(connect, "c", limits), limits)
    assert properties == ({"response_information": configured} if told else {})
