"""Hypothesis strategies: any packet that a side may send at a level.

Invariant: what is drawn here can be encoded at its level and comes back from the decoder as an equal packet.
"""

from __future__ import annotations

from typing import Any, Final, cast

from hypothesis import strategies as st

from cases.packet_case import Side
from trio_broker.protocol.packets import (
    NO_PROPERTIES,
    Auth,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    Properties,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    SubscribeFilter,
    UnsubAck,
    Unsubscribe,
    Will,
)
from trio_broker.protocol.properties import PROPERTY_RULES, PropertyRule, PropertyType
from trio_broker.protocol.reason_codes import PACKET_REASON_CODES

# Surrogates cannot be encoded and U+0000 is not allowed in any string.
CHARACTERS: Final = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
STRINGS: Final = st.text(CHARACTERS, max_size=12)
TOPIC_NAMES: Final = st.text(
    st.one_of(st.sampled_from("ab/$é"), st.characters(exclude_categories=["Cs"], exclude_characters="\0+#")),
    min_size=1,
    max_size=12,
)
IDENTIFIERS: Final = st.integers(1, 65_535)
PAYLOADS: Final = st.one_of(st.binary(max_size=20), st.integers(100, 300).map(bytes))


def _values(rule: PropertyRule, packet_name: str) -> st.SearchStrategy[Any]:
    if rule.name == "subscription_identifier":
        most = 1 if packet_name == "SUBSCRIBE" else 3
        return st.lists(st.integers(rule.low, rule.high), min_size=1, max_size=most)
    match rule.type:
        case PropertyType.STRING:
            return STRINGS
        case PropertyType.TOPIC_NAME:
            return TOPIC_NAMES
        case PropertyType.BINARY:
            return st.binary(max_size=12)
        case PropertyType.STRING_PAIR:
            return st.lists(st.tuples(STRINGS, STRINGS), min_size=1, max_size=3)
        case _:
            return st.integers(rule.low, rule.high)


def properties(packet_name: str, level: int = 5) -> st.SearchStrategy[Properties]:
    """Any properties of the packet called `packet_name`; none below level 5."""
    if level != 5:
        return st.just(NO_PROPERTIES)
    any_of = {rule.name: _values(rule, packet_name) for rule in PROPERTY_RULES if packet_name in rule.packets}

    def sensible(found: dict[str, Any]) -> bool:
        return "authentication_data" not in found or "authentication_method" in found

    drawn = st.fixed_dictionaries({}, optional=any_of)
    if packet_name == "CONNECT":
        drawn = drawn.filter(sensible)
    return drawn.map(lambda found: cast(Properties, found))


def _codes(name: str, level: int) -> st.SearchStrategy[int]:
    return st.sampled_from(sorted(PACKET_REASON_CODES[name])) if level == 5 else st.just(0)


def wills(level: int) -> st.SearchStrategy[Will]:
    return st.builds(Will, TOPIC_NAMES, PAYLOADS, st.integers(0, 2), st.booleans(), properties("WILL", level))


def connects(level: int) -> st.SearchStrategy[Connect]:
    def without_stray_password(packet: Connect) -> bool:
        return level == 5 or packet.username is not None or packet.password is None

    return st.builds(
        Connect,
        client_id=STRINGS,
        protocol_level=st.just(level),
        clean_start=st.booleans(),
        keep_alive=st.integers(0, 65_535),
        username=st.none() | STRINGS,
        password=st.none() | st.binary(max_size=12),
        will=st.none() | wills(level),
        bridge=st.booleans() if level != 5 else st.just(False),
        properties=properties("CONNECT", level),
    ).filter(without_stray_password)


def publishes(level: int, sent_by: Side) -> st.SearchStrategy[Publish]:
    side = "PUBLISH_BY_CLIENT" if sent_by == "client" else "PUBLISH_BY_SERVER"

    def build(topic_name: str, payload: bytes, kind: tuple[int, bool, int], retain: bool, found: Properties) -> Publish:
        qos, dup, packet_identifier = kind
        return Publish(topic_name, payload, qos, retain, dup, packet_identifier, found)

    kinds = st.just((0, False, 0)) | st.tuples(st.integers(1, 2), st.booleans(), IDENTIFIERS)
    return st.builds(build, TOPIC_NAMES, PAYLOADS, kinds, st.booleans(), properties(side, level))


def _acknowledgements(level: int) -> st.SearchStrategy[Packet]:
    return st.one_of(
        st.builds(PubAck, IDENTIFIERS, _codes("PUBACK", level), properties("PUBACK", level)),
        st.builds(PubRec, IDENTIFIERS, _codes("PUBREC", level), properties("PUBREC", level)),
        st.builds(PubRel, IDENTIFIERS, _codes("PUBREL", level), properties("PUBREL", level)),
        st.builds(PubComp, IDENTIFIERS, _codes("PUBCOMP", level), properties("PUBCOMP", level)),
    )


def _auths(codes: tuple[int, ...]) -> st.SearchStrategy[Auth]:
    with_method = properties("AUTH").map(lambda found: cast(Properties, {**found, "authentication_method": "m"}))
    return st.builds(Auth, st.sampled_from(codes), with_method)


def _subscribe_filters(level: int) -> st.SearchStrategy[SubscribeFilter]:
    if level != 5:
        return st.builds(SubscribeFilter, STRINGS, st.integers(0, 2))
    return st.builds(
        SubscribeFilter, STRINGS, st.integers(0, 2), st.booleans(), st.booleans(), st.integers(0, 2)
    ).filter(lambda wanted: not (wanted.no_local and wanted.topic_filter.startswith("$share/")))


def client_packets(level: int) -> st.SearchStrategy[Packet]:
    """Any packet of a client behind its CONNECT."""
    kinds: list[st.SearchStrategy[Packet]] = [
        publishes(level, "client"),
        _acknowledgements(level),
        st.builds(
            Subscribe,
            IDENTIFIERS,
            st.lists(_subscribe_filters(level), min_size=1, max_size=4),
            properties("SUBSCRIBE", level),
        ),
        st.builds(
            Unsubscribe, IDENTIFIERS, st.lists(STRINGS, min_size=1, max_size=4), properties("UNSUBSCRIBE", level)
        ),
        st.builds(PingReq),
        st.builds(Disconnect, _codes("DISCONNECT_BY_CLIENT", level), properties("DISCONNECT_BY_CLIENT", level)),
    ]
    if level == 5:
        kinds.append(_auths((0x18, 0x19)))
    return st.one_of(kinds)


def server_packets(level: int) -> st.SearchStrategy[Packet]:
    """Any packet of a server to a client."""
    suback_codes = sorted(PACKET_REASON_CODES["SUBACK"]) if level == 5 else [0, 1, 2, 0x80]
    # Those that 3.x has a return code for, in both directions.
    connack_codes = sorted(PACKET_REASON_CODES["CONNACK"]) if level == 5 else [0, 0x84, 0x85, 0x86, 0x87, 0x88]
    unsuback_codes: st.SearchStrategy[list[int]] = (
        st.lists(_codes("UNSUBACK", level), min_size=1, max_size=4) if level == 5 else st.just([])
    )
    refused = st.builds(ConnAck, st.sampled_from(connack_codes), st.just(False), properties("CONNACK", level))
    accepted = st.builds(
        ConnAck, st.just(0), st.booleans() if level > 3 else st.just(False), properties("CONNACK", level)
    )
    kinds: list[st.SearchStrategy[Packet]] = [
        refused,
        accepted,
        publishes(level, "server"),
        _acknowledgements(level),
        st.builds(
            SubAck,
            IDENTIFIERS,
            st.lists(st.sampled_from(suback_codes), min_size=1, max_size=4),
            properties("SUBACK", level),
        ),
        st.builds(UnsubAck, IDENTIFIERS, unsuback_codes, properties("UNSUBACK", level)),
        st.builds(PingResp),
    ]
    if level == 5:
        kinds.append(
            st.builds(Disconnect, _codes("DISCONNECT_BY_SERVER", level), properties("DISCONNECT_BY_SERVER", level))
        )
        kinds.append(_auths((0x00, 0x18)))
    return st.one_of(kinds)
