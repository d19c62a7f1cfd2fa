"""One connection's packets: what each leads to, in which order, and what ends it."""

from __future__ import annotations

from typing import Any

import pytest
from session.objects import NOW, client_run, decoded, delivery, make_channel, make_step

from trio_broker.errors import ProtocolError
from trio_broker.protocol.message import Run
from trio_broker.protocol.packets import (
    MQTT5,
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
)
from trio_broker.protocol.reason_codes import ReasonCode
from trio_broker.session.changes import Answer, SubscribeChange, UnsubscribeChange
from trio_broker.session.channel import Channel
from trio_broker.session.limits import Limits
from trio_broker.session.step import Step


def handle(channel: Channel, *packets: Packet) -> Any:
    step = make_step()
    channel.handle(packets, step)
    return step


def refused(channel: Channel, *packets: Packet) -> tuple[ReasonCode, Step]:
    step = make_step()
    with pytest.raises(ProtocolError) as caught:
        channel.handle(packets, step)
    return caught.value.reason_code, step


def runs(step: Step) -> list[tuple[str, int, bool, list[bytes]]]:
    """What goes to the router, messages only."""
    return [
        (entry.topic_name, entry.qos, entry.retain, [message.payload for message in entry.messages])
        for entry in step.routed
        if isinstance(entry, Run)
    ]


def publish(topic: str, payload: bytes, qos: int = 0, identifier: int = 0, **options: Any) -> Publish:
    return Publish(topic, payload, qos, packet_identifier=identifier or (1 if qos else 0), **options)


# -- runs -------------------------------------------------------------------------------------------------------------


def test_consecutive_messages_of_one_kind_are_one_run() -> None:
    step = handle(
        make_channel(),
        publish("a", b"1"),
        publish("a", b"2"),
        publish("a", b"3", 1, 1),
        publish("a", b"4", 1, 2),
        publish("a", b"5", 2, 3),
        publish("a", b"6", retain=True),
        publish("b", b"7", retain=True),
        publish("b", b"8", properties={"content_type": "x"}),
        publish("b", b"9", properties={"content_type": "y"}),
        publish("b", b"10"),
    )
    assert runs(step) == [
        ("a", 0, False, [b"1", b"2"]),
        ("a", 1, False, [b"3", b"4"]),
        ("a", 2, False, [b"5"]),
        ("a", 0, True, [b"6"]),
        ("b", 0, True, [b"7"]),
        ("b", 0, False, [b"8", b"9"]),
        ("b", 0, False, [b"10"]),
    ]
    assert [run.plain for run in step.routed] == [True, True, True, True, True, False, True]


def test_message_ids_grow_in_the_order_of_arrival() -> None:
    step = handle(
        make_channel(),
        publish("a", b""),
        publish("a", b""),
        publish("b", b"", 1, 1),
        publish("b", b"", 2, 2),
        publish("b", b"", properties={"content_type": "x"}),
        publish("c", b""),
    )
    ids = [message.message_id for run in step.routed for message in run.messages]
    assert ids == list(range(1, 7))
    assert step.next_message_id == 7


def test_something_between_two_messages_parts_their_run() -> None:
    """The order with subscription changes must be kept [MQTT-3.8.4-3]."""
    step = handle(
        make_channel(),
        publish("a", b"1"),
        Subscribe(1, [SubscribeFilter("a")]),
        publish("a", b"2"),
        Unsubscribe(2, ["a"]),
        publish("a", b"3"),
    )
    assert [type(entry) for entry in step.routed] == [Run, SubscribeChange, Run, UnsubscribeChange, Run]


def test_expiry_of_the_broker_and_of_the_message() -> None:
    channel = make_channel(Limits(message_expiry_interval=60))
    step = handle(
        channel,
        publish("a", b"1"),
        publish("a", b"2", 1),
        publish("a", b"3", properties={"message_expiry_interval": 5}),
    )
    expiries = [message.expires_at for run in step.routed for message in run.messages]
    assert expiries == [NOW + 60, NOW + 60, NOW + 5]
    assert not any(run.plain for run in step.routed)


def test_only_what_travels_travels() -> None:
    """[MQTT-3.3.2-4, 3.3.2-15 to 3.3.2-20]; an alias is the publisher's own business."""
    travelling: Properties = {
        "payload_format_indicator": 1,
        "message_expiry_interval": 9,
        "content_type": "text",
        "response_topic": "r",
        "correlation_data": b"c",
        "user_property": [("a", "1"), ("a", "2")],
    }
    (run,) = handle(make_channel(), publish("t", b"x", properties={**travelling, "topic_alias": 3})).routed
    assert run.messages[0].properties == travelling
    (run,) = handle(make_channel(), publish("t", b"x", properties={"topic_alias": 3})).routed
    assert run.plain


# -- aliases ----------------------------------------------------------------------------------------------------------


def test_topic_aliases() -> None:
    """[MQTT-3.3.2-7] to [MQTT-3.3.2-12]"""
    channel = make_channel(Limits(max_topic_alias=5))
    one: Properties = {"topic_alias": 1}
    five: Properties = {"topic_alias": 5}
    step = handle(
        channel,
        publish("a", b"1", properties=one),
        publish("b", b"2", properties=five),
        publish("", b"3", properties=one),
        publish("c", b"4", properties=one),
        publish("", b"5", 1, 1, properties=one),
        publish("", b"6", 2, 2, properties=five),
    )
    assert [(topic, payload) for topic, _, _, payloads in runs(step) for payload in payloads] == [
        ("a", b"1"),
        ("b", b"2"),
        ("a", b"3"),
        ("c", b"4"),
        ("c", b"5"),
        ("b", b"6"),
    ]


@pytest.mark.parametrize(
    ("topic", "alias", "code"),
    [("a", 0, 0x94), ("a", 6, 0x94), ("", 6, 0x94), ("", 4, 0x82), ("a", 65_535, 0x94)],
)
def test_wrong_aliases(topic: str, alias: int, code: int) -> None:
    """[MQTT-3.3.2-8], [MQTT-3.3.2-9]; one that was never set is a protocol error."""
    channel = make_channel(Limits(max_topic_alias=5))
    assert refused(channel, publish(topic, b"", properties={"topic_alias": alias}))[0] == code


# -- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "packet", "code"),
    [
        (Limits(max_qos_allowed=0), publish("t", b"", 1), 0x9B),
        (Limits(max_qos_allowed=1), publish("t", b"", 2), 0x9B),
        (Limits(retain_available=False), publish("t", b"", retain=True), 0x9A),
        (Limits(max_topic_levels=2), publish("a/b/c", b""), 0x90),
        (Limits(max_topic_levels=2), publish("a/b/c", b"", properties={"topic_alias": 1}), 0x90),
    ],
)
def test_what_the_server_does_not_do(limits: Limits, packet: Publish, code: int) -> None:
    """[MQTT-3.2.2-9], [MQTT-3.2.2-13]; what came before it counts."""
    reason, step = refused(make_channel(limits), publish("t", b"before"), packet, publish("t", b"after"))
    assert reason == code
    assert runs(step) == [("t", 0, False, [b"before"])]


@pytest.mark.parametrize("topic", ["a/+", "#"])
def test_a_response_topic_with_wildcards(topic: str) -> None:
    """[MQTT-3.3.2-14]"""
    assert refused(make_channel(), publish("t", b"", properties={"response_topic": topic}))[0] >= 0x80


@pytest.mark.parametrize(
    ("level", "limit", "qos", "count", "taken"),
    [
        (5, 3, 1, 3, 3),
        (5, 3, 1, 4, 3),
        (5, 3, 2, 3, 3),
        (5, 3, 2, 4, 3),
        (5, 0, 1, 500, 500),
        (4, 3, 1, 500, 500),
        (4, 3, 2, 500, 500),
        (3, 3, 2, 500, 500),
    ],
)
def test_receive_maximum(level: int, limit: int, qos: int, count: int, taken: int) -> None:
    """[MQTT-3.3.4-7]; only 5.0 clients were told of it. Those up to the maximum are routed."""
    channel = make_channel(Limits(max_awaiting_rel=limit), level)
    packets = [publish("t", b"", qos, number) for number in range(1, count + 1)]
    if taken == count:
        step = handle(channel, *packets)
    else:
        code, step = refused(channel, *packets)
        assert code == 0x93
    assert sum(len(run) for run in step.routed) == taken


def test_receive_maximum_over_several_reads() -> None:
    """QoS 1 counts until it is acknowledged, QoS 2 until PUBREL."""
    channel = make_channel(Limits(max_awaiting_rel=3))
    step = handle(channel, publish("t", b"", 1, 1), publish("t", b"", 2, 2), publish("t", b"", 1, 3))
    out = [channel.acknowledge(run) for run in step.routed]
    assert sum(isinstance(packet, PubAck | PubRec) for packet in decoded(out)) == 3
    handle(channel, publish("t", b"", 1, 4), publish("t", b"", 1, 5))
    assert refused(channel, publish("t", b"", 2, 6))[0] == 0x93
    channel.unacknowledged = 0
    handle(channel, PubRel(2), *[publish("t", b"", 2, number) for number in (7, 8, 9)])
    assert refused(channel, publish("t", b"", 1, 10))[0] == 0x93


# -- acknowledgements -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [3, 4, 5])
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("matched", [0, 3])
@pytest.mark.parametrize("count", [1, 3])
def test_acknowledge(level: int, qos: int, matched: int, count: int) -> None:
    """[MQTT-3.3.4-1], [MQTT-2.2.1-5]; 0x10 says that nobody is subscribed."""
    channel = make_channel(level=level)
    (run,) = handle(channel, *(publish("t", b"", qos, number) for number in range(1, count + 1))).routed
    run.matched = matched
    out = [channel.acknowledge(run)]
    kind = PubAck if qos == 1 else PubRec
    code = 0x10 if level == 5 and not matched else 0
    assert decoded(out, level) == [kind(number, code) for number in range(1, count + 1)]
    assert channel.meter.packets_sent == channel.session.stats.send_pkt == count
    assert channel.unacknowledged == 0


def test_a_copy_of_an_open_message() -> None:
    """[MQTT-4.3.3-10] answered in its turn, not routed; after PUBREL the identifier is a new message."""
    channel = make_channel()
    first = publish("t", b"x", 2, 7)
    step = handle(channel, first, first, publish("t", b"y", 2, 8))
    assert [type(entry) for entry in step.routed] == [Run, Answer, Run]
    answers = [channel.acknowledge(entry) for entry in step.routed]
    assert [getattr(packet, "packet_identifier", 0) for packet in decoded(answers)] == [7, 7, 8]
    step = handle(channel, PubRel(7), first)
    assert len(runs(step)) == 1
    assert channel.meter.packets_publish_inuse == 1


@pytest.mark.parametrize(("level", "code"), [(3, 0), (4, 0), (5, 0x92)])
def test_pubrel(level: int, code: int) -> None:
    """[MQTT-4.3.3-11] twice PUBCOMP."""
    channel = make_channel(level=level)
    handle(channel, publish("t", b"", 2, 7))
    out = handle(channel, PubRel(7), PubRel(7)).out
    assert decoded(out, level) == [PubComp(7), PubComp(7, code)]
    assert channel.meter.packets_pubrel_missed == 1


@pytest.mark.parametrize("level", [4, 5])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_not_authorized(level: int, qos: int) -> None:
    """5.0 is told, 3.x is not [3.1.1 3.3.5-2]; what is allowed goes on, in order."""
    asked: list[str] = []

    def allowed(topic: str, qos: int, retain: bool, now: float) -> bool:
        asked.append(topic)
        return topic != "no"

    channel = make_channel(level=level, authorize_publish=allowed)
    topics = ["a", "no", "a", "a", "no"]
    step = handle(channel, *(publish(topic, b"", qos, number) for number, topic in enumerate(topics, 1)))
    assert [topic for topic, _, _, payloads in runs(step) for _ in payloads] == ["a", "a", "a"]
    answers = [channel.acknowledge(entry) for entry in step.routed if qos]
    seen = [
        (getattr(packet, "packet_identifier", 0), getattr(packet, "reason_code", 0))
        for packet in decoded(answers, level)
    ]
    no, yes = (0x87, 0x10) if level == 5 else (0, 0)
    assert seen == ([(1, yes), (2, no), (3, yes), (4, yes), (5, no)] if qos else [])
    assert channel.meter.packets_publish_auth_error == 2
    assert 2 not in channel.session.awaiting_rel
    assert channel.session.stats.as_dict()["recv_msg"] == channel.meter.messages_received == 5


# -- everything else --------------------------------------------------------------------------------------------------


def test_ping_and_the_order_of_answers() -> None:
    out = handle(make_channel(), PingReq(), PubRel(3), PingReq()).out
    assert decoded(out) == [PingResp(), PubComp(3, 0x92), PingResp()]


@pytest.mark.parametrize(
    "packet", [Connect("c"), ConnAck(), PingResp(), SubAck(1, [0]), UnsubAck(1, [0]), Auth(0x18), Auth()]
)
def test_what_a_client_may_not_send(packet: Packet) -> None:
    """[MQTT-3.1.0-2] a second CONNECT, and what only servers send."""
    assert refused(make_channel(), packet)[0] == ReasonCode.PROTOCOL_ERROR


@pytest.mark.parametrize(("packet", "qos"), [(PubAck(1), 2), (PubRec(1), 1)])
def test_acknowledgements_of_the_wrong_kind(packet: Packet, qos: int) -> None:
    channel = make_channel()
    channel.session.deliver([(delivery(qos=2), client_run(b"x", qos=qos))], NOW, 1, [])
    assert refused(channel, packet)[0] == ReasonCode.PROTOCOL_ERROR


def test_acknowledgements_of_a_client() -> None:
    channel = make_channel(Limits(max_inflight=1))
    channel.session.deliver([(delivery(qos=2), client_run(b"1", b"2", qos=1))], NOW, 1, [])
    assert [type(packet) for packet in decoded(handle(channel, PubAck(1)).out)] == [Publish]
    assert handle(channel, PubAck(9), PubComp(9)).out == []
    assert (channel.meter.packets_puback_missed, channel.meter.packets_pubcomp_missed) == (1, 1)


def test_disconnect_ends_it() -> None:
    """What stands before it counts, what stands behind it does not [MQTT-3.14.4-1]."""
    channel = make_channel()
    step = handle(channel, publish("t", b"1"), Disconnect(4), publish("t", b"2"))
    assert runs(step) == [("t", 0, False, [b"1"])]
    assert channel.ended == Disconnect(4)


@pytest.mark.parametrize(
    ("agreed", "asked", "result"),
    [(0, 0, 0), (0, 1, None), (10, 0, 0), (10, 20, 20), (10, None, 10), (5, 0xFFFFFFFF, 0xFFFFFFFF)],
)
def test_session_expiry_in_disconnect(agreed: int, asked: int | None, result: int | None) -> None:
    """Section 3.14.2.2.2: it cannot be raised from 0."""
    channel = make_channel(session_expiry_interval=agreed)
    packet = Disconnect(0, {} if asked is None else {"session_expiry_interval": asked})
    if result is None:
        assert refused(channel, packet)[0] == ReasonCode.PROTOCOL_ERROR
        assert channel.ended is None
    else:
        handle(channel, packet)
        assert channel.session_expiry_interval == result


# -- subscriptions ----------------------------------------------------------------------------------------------------


def test_subscribe() -> None:
    channel = make_channel(Limits(max_subscriptions=3))
    filters = [
        SubscribeFilter("a", 1),
        SubscribeFilter("a/#/b"),
        SubscribeFilter("$share/g/b", 2),
        SubscribeFilter("a", 2),
    ]
    (change,) = handle(channel, Subscribe(5, filters, {"subscription_identifier": [7]})).routed
    assert change.reason_codes == [1, 0x8F, 2, 2]
    assert change.existed == [False, False, False, True]
    assert (change.recipient, change.connection, change.packet_identifier) == ("recipient", "publisher", 5)
    subscriptions = channel.session.subscriptions
    assert {name: (each.qos, each.identifier) for name, each in subscriptions.items()} == {
        "a": (2, 7),
        "$share/g/b": (2, 7),
    }
    assert [subscription.topic_filter for subscription in change.retrievals()] == ["a", "a"]


def test_a_new_subscribe_without_identifier_takes_the_old_one_away() -> None:
    channel = make_channel()
    handle(channel, Subscribe(1, [SubscribeFilter("a")], {"subscription_identifier": [7]}))
    (change,) = handle(channel, Subscribe(1, [SubscribeFilter("a")])).routed
    assert channel.session.subscriptions["a"].identifier == 0
    assert change.existed == [True]


@pytest.mark.parametrize(
    ("handling", "existed", "wanted"),
    [(0, False, 1), (0, True, 1), (1, False, 1), (1, True, 0), (2, False, 0), (2, True, 0)],
)
@pytest.mark.parametrize("topic_filter", ["a", "$share/g/a"])
def test_retain_handling(handling: int, existed: bool, wanted: int, topic_filter: str) -> None:
    """[MQTT-3.3.1-9] to [MQTT-3.3.1-11]; never for shared ones."""
    channel = make_channel()
    if existed:
        handle(channel, Subscribe(1, [SubscribeFilter(topic_filter)]))
    (change,) = handle(channel, Subscribe(1, [SubscribeFilter(topic_filter, retain_handling=handling)])).routed
    assert len(change.retrievals()) == (0 if topic_filter.startswith("$") else wanted)


@pytest.mark.parametrize(
    ("level", "bridge", "ignore_loop", "no_local", "as_published"),
    [
        (4, False, False, False, False),
        (4, True, False, True, True),
        (3, True, False, True, True),
        (4, False, True, True, False),
        (5, True, True, False, False),
    ],
)
def test_bridges_and_loops(level: int, bridge: bool, ignore_loop: bool, no_local: bool, as_published: bool) -> None:
    """3.x cannot ask for no local and retain as published: bridges get both, `ignore_loop_deliver` the first."""
    channel = make_channel(Limits(ignore_loop_deliver=ignore_loop), level, bridge=bridge)
    handle(channel, Subscribe(1, [SubscribeFilter("a")]))
    subscription = channel.session.subscriptions["a"]
    assert (subscription.no_local, subscription.retain_as_published) == (no_local, as_published)


@pytest.mark.parametrize("level", [3, 4, 5])
def test_a_refused_filter(level: int) -> None:
    """3.1 has no code for it: nothing of that SUBSCRIBE is done and the connection ends."""
    channel = make_channel(level=level, authorize_subscribe=lambda topic, qos, now: topic != "no")
    packet = Subscribe(1, [SubscribeFilter("yes"), SubscribeFilter("no")])
    if level == 3:
        code, step = refused(channel, packet)
        assert code == ReasonCode.NOT_AUTHORIZED
        assert step.routed == []
        assert channel.session.subscriptions == {}
        return
    (change,) = handle(channel, packet).routed
    assert change.reason_codes == [0, 0x87 if level == MQTT5 else 0x80]
    assert list(channel.session.subscriptions) == ["yes"]
    assert (channel.meter.packets_subscribe_error, channel.meter.packets_subscribe_auth_error) == (1, 1)


def test_unsubscribe() -> None:
    """[MQTT-3.10.4-1] character by character; a code for each [MQTT-3.11.3-1]."""
    channel = make_channel()
    handle(channel, Subscribe(1, [SubscribeFilter("a"), SubscribeFilter("$share/g/a")]))
    (change,) = handle(channel, Unsubscribe(2, ["a", "b", "a", "A"])).routed
    assert change.reason_codes == [0, 0x11, 0x11, 0x11]
    assert change.topic_filters == ["a"]
    assert list(channel.session.subscriptions) == ["$share/g/a"]
