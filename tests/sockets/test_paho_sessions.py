"""paho-mqtt and what outlives or ends a connection: sessions, wills, takeover, flow control, limits, refusals.

Invariant: each test says with the client's own eyes what the broker told it: CONNACK, SUBACK, PUBACK, DISCONNECT.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from sockets.paho_client import V5, V31, V311, Answer, PahoClient, Plain, opened, properties
from sockets.waiting import TIMEOUT, until

from trio_broker.testing.threaded import ThreadedBroker

LEVELS = [V31, V311, V5]


@pytest.fixture
def transport() -> str:
    return "tcp"


@contextmanager
def own_broker(**mqtt: Any) -> Iterator[tuple[ThreadedBroker, Plain]]:
    with ThreadedBroker(mqtt=mqtt) as broker:
        yield broker, Plain(broker.host, broker.port)


def kept(level: MQTTProtocolVersion, seconds: int = 1000) -> dict[str, Any]:
    """What a client says in CONNECT to have its session kept, besides `clean=False`."""
    return {"SessionExpiryInterval": seconds} if level == V5 else {}


# -- sessions


@pytest.mark.parametrize("level", LEVELS)
def test_a_session_is_resumed(endpoint: Any, prefix: str, level: MQTTProtocolVersion) -> None:
    """With its subscriptions, and what came meanwhile in its order."""
    sent = [(b"%d" % number, number % 3) for number in range(30)]
    with opened(endpoint, prefix + "a", level, clean=False, **kept(level)) as paho:
        assert not paho.connack.session_present
        paho.subscribe(f"{prefix}/#", 2)
    with opened(endpoint, prefix + "b", level) as other:
        for payload, qos in sent:
            other.publish(f"{prefix}/x", payload, qos)
    with opened(endpoint, prefix + "a", level, clean=False, **kept(level)) as paho:
        if level != V31:  # whose CONNACK cannot say
            assert paho.connack.session_present
        received = [paho.receive() for _ in sent]
        for qos in (0, 1, 2):  # paho gives out a QoS 2 message when its PUBREL has come, so later than others
            assert [m.payload for m in received if m.qos == qos] == [payload for payload, its in sent if its == qos]
        assert not any(message.dup for message in received)
    with opened(endpoint, prefix + "a", level) as paho:
        assert not paho.connack.session_present
        paho.subscribe(f"{prefix}/marker", 1)
        paho.publish(f"{prefix}/x", b"no longer subscribed", 1)
        paho.publish(f"{prefix}/marker", b"marker", 1)
        assert paho.receive().payload == b"marker"


@pytest.mark.parametrize("level", LEVELS)
def test_a_clean_session_is_not_kept(
    endpoint: Any, prefix: str, level: MQTTProtocolVersion, wait_gone: Callable[[str], None]
) -> None:
    with opened(endpoint, prefix + "a", level) as paho:
        paho.subscribe(f"{prefix}/#", 2)
    wait_gone(prefix + "a")
    with opened(endpoint, prefix + "a", level, clean=False) as paho:
        assert not paho.connack.session_present


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("qos", [1, 2])
def test_what_was_not_acknowledged_comes_again(
    endpoint: Any, prefix: str, level: MQTTProtocolVersion, qos: int, cut: Callable[[Any], None]
) -> None:
    """QoS 1 as PUBLISH with DUP; QoS 2, where the PUBREC has come, is only finished [MQTT-4.4.0-1]."""
    with opened(endpoint, prefix + "a", level, clean=False, manual=True, **kept(level)) as paho:
        paho.subscribe(prefix, qos)
        with opened(endpoint, prefix + "b", level) as other:
            for payload in (b"0", b"1", b"2"):
                other.publish(prefix, payload, qos)
        first = [paho.receive() for _ in range(3)]
        paho.client.ack(first[0].mid, qos)
        paho.subscribe(f"{prefix}/other", 0)  # answered after the acknowledgement has been taken
        cut(paho.client.socket())
        paho.disconnected()
    with opened(endpoint, prefix + "a", level, clean=False, **kept(level)) as again:
        again.publish(prefix, b"3", qos)
        if qos == 1:
            received = [again.receive() for _ in range(3)]
            assert [(m.payload, m.dup, m.mid) for m in received[:2]] == [
                (b"1", True, first[1].mid),
                (b"2", True, first[2].mid),
            ]
            assert (received[2].payload, received[2].dup) == (b"3", False)
        else:
            message = again.receive()
            assert (message.payload, message.dup) == (b"3", False)


def test_a_session_ends_after_its_interval(endpoint: Any, prefix: str, broker: ThreadedBroker) -> None:
    with opened(endpoint, prefix, SessionExpiryInterval=1) as paho:
        paho.subscribe(prefix, 1)
    until(lambda: broker.client(prefix) is None, "the session has ended")
    with opened(endpoint, prefix, clean=False) as paho:
        assert not paho.connack.session_present


def test_disconnect_changes_the_interval(endpoint: Any, prefix: str, broker: ThreadedBroker) -> None:
    with opened(endpoint, prefix, SessionExpiryInterval=1000) as paho:
        paho.disconnect(SessionExpiryInterval=0)
    until(lambda: broker.client(prefix) is None, "the session has ended")
    with opened(endpoint, prefix, SessionExpiryInterval=1) as paho:
        paho.disconnect(SessionExpiryInterval=0xFFFFFFFF)
    with opened(endpoint, prefix, clean=False) as paho:
        assert paho.connack.session_present


def test_an_interval_of_zero_cannot_be_raised(endpoint: Any, prefix: str, broker: ThreadedBroker) -> None:
    """[MQTT-3.1.2-23, 3.14.2.2.2] such a DISCONNECT is a protocol error: no session is kept, the will is published."""
    with opened(endpoint, prefix + "a") as watcher:
        watcher.subscribe(f"{prefix}/will", 1)
        with opened(endpoint, prefix + "b", will=will_of(prefix, 0)) as paho:
            paho.disconnect(SessionExpiryInterval=10)
            assert watcher.receive().payload == b"gone"
        until(lambda: broker.client(prefix + "b") is None, "the session has ended")


@pytest.mark.parametrize("level", LEVELS)
def test_takeover(endpoint: Any, prefix: str, level: MQTTProtocolVersion) -> None:
    """The first connection ends (5.0 says 0x8E); the second has the session."""
    with opened(endpoint, prefix, level, clean=False, **kept(level)) as first:
        first.subscribe(prefix, 2)
        with opened(endpoint, prefix, level, clean=False, **kept(level)) as second:
            ended = first.disconnected()
            if level == V5:
                assert (ended.from_broker, ended.value) == (True, 0x8E)
            else:
                assert not ended.from_broker
            if level != V31:
                assert second.connack.session_present
            second.publish(prefix, b"mine now", 2)
            assert second.receive().payload == b"mine now"
            assert first.messages.empty()


def test_takeover_by_another_version(endpoint: Any, prefix: str) -> None:
    with opened(endpoint, prefix, V311, clean=False) as first:
        first.subscribe(prefix, 1)
        with opened(endpoint, prefix, V5, clean=False, SessionExpiryInterval=1000) as second:
            assert not first.disconnected().from_broker
            assert second.connack.session_present
            second.publish(prefix, b"payload", 2, ContentType="text/plain")
            received: Any = second.receive()
            assert (received.qos, received.properties.ContentType) == (1, "text/plain")


@pytest.mark.parametrize("level", [V311, V5])
def test_a_client_without_identifier(endpoint: Any, level: MQTTProtocolVersion, broker: ThreadedBroker) -> None:
    def connected() -> set[str]:
        return {info.client_id for info in broker.clients() if info.connected}

    before = connected()
    with opened(endpoint, "", level) as one, opened(endpoint, "", level) as two:
        if level == V5:
            names = {one.connack.AssignedClientIdentifier, two.connack.AssignedClientIdentifier}
            assert len(names) == 2
            assert names <= connected()
        else:
            assert len(connected() - before) >= 2


# -- wills


@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_will_with_properties(
    endpoint: Any, prefix: str, qos: int, retain: bool, cut: Callable[[Any], None], broker: ThreadedBroker
) -> None:
    more = properties(
        PacketTypes.WILLMESSAGE,
        PayloadFormatIndicator=1,
        ContentType="text/plain",
        ResponseTopic=f"{prefix}/answer",
        CorrelationData=b"\x00\x01",
        MessageExpiryInterval=1000,
        UserProperty=[("a", "1"), ("a", "2")],
    )
    will = {"topic": f"{prefix}/will", "payload": b"gone", "qos": qos, "retain": retain, "properties": more}
    with opened(endpoint, prefix + "a") as watcher:
        watcher.subscribe(f"{prefix}/will", 2, as_published=True)
        with opened(endpoint, prefix + "b", will=will) as doomed:
            cut(doomed.client.socket())
            message = watcher.receive()
        received: Any = message.properties
        assert (message.payload, message.qos, message.retain) == (b"gone", qos, retain)
        values = received.json()
        assert 0 < values.pop("MessageExpiryInterval") <= 1000
        assert values == {
            "PayloadFormatIndicator": 1,
            "ContentType": "text/plain",
            "ResponseTopic": f"{prefix}/answer",
            "CorrelationData": "0001",
            "UserProperty": [("a", "1"), ("a", "2")],
        }
        assert broker.retained(f"{prefix}/#") == ({f"{prefix}/will": b"gone"} if retain else {})
        broker.clear_retained(f"{prefix}/#")


def will_of(prefix: str, delay: int) -> dict[str, Any]:
    more = properties(PacketTypes.WILLMESSAGE, WillDelayInterval=delay)
    return {"topic": f"{prefix}/will", "payload": b"gone", "qos": 1, "properties": more}


def test_a_delayed_will_comes(endpoint: Any, prefix: str, cut: Callable[[Any], None], broker: ThreadedBroker) -> None:
    with opened(endpoint, prefix + "a") as watcher:
        watcher.subscribe(f"{prefix}/will", 1)
        with opened(endpoint, prefix + "b", will=will_of(prefix, 1), SessionExpiryInterval=1000) as doomed:
            cut(doomed.client.socket())
            assert watcher.receive().payload == b"gone"
        session = broker.client(prefix + "b")
        assert session is not None
        assert not session.connected


def test_a_delayed_will_is_off_when_the_client_is_back(
    endpoint: Any, prefix: str, cut: Callable[[Any], None], wait_gone: Callable[[str], None]
) -> None:
    with opened(endpoint, prefix + "a") as watcher:
        watcher.subscribe(f"{prefix}/#", 1)
        with opened(endpoint, prefix + "b", will=will_of(prefix, 1000), SessionExpiryInterval=1000) as doomed:
            cut(doomed.client.socket())
            wait_gone(prefix + "b")
        with opened(endpoint, prefix + "b", clean=False) as back:  # and its session ends with this connection
            assert back.connack.session_present
        wait_gone(prefix + "b")
        watcher.publish(f"{prefix}/marker", b"no will before this")
        assert watcher.receive().payload == b"no will before this"


@pytest.mark.parametrize("end", ["interval", "clean start", "kick"])
def test_a_delayed_will_does_not_outlive_the_session(
    endpoint: Any,
    prefix: str,
    end: str,
    cut: Callable[[Any], None],
    wait_gone: Callable[[str], None],
    broker: ThreadedBroker,
) -> None:
    """[MQTT-3.1.2-8] the end of the session publishes it, however long the delay is."""
    seconds = 1 if end == "interval" else 1000
    with opened(endpoint, prefix + "a") as watcher:
        watcher.subscribe(f"{prefix}/will", 1)
        with opened(endpoint, prefix + "b", will=will_of(prefix, 100_000), SessionExpiryInterval=seconds) as doomed:
            cut(doomed.client.socket())
            wait_gone(prefix + "b")
        if end == "kick":
            assert broker.kick(prefix + "b")
        if end == "clean start":
            with opened(endpoint, prefix + "b") as back:
                assert not back.connack.session_present
        assert watcher.receive().payload == b"gone"


def test_disconnect_that_asks_for_the_will(endpoint: Any, prefix: str) -> None:
    with opened(endpoint, prefix + "a") as watcher:
        watcher.subscribe(f"{prefix}/will", 1)
        with opened(endpoint, prefix + "b", will=will_of(prefix, 0)) as leaves:
            leaves.disconnect(0x04)
            assert watcher.receive().payload == b"gone"


# -- flow control


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("room", [1, 3])
def test_never_more_in_flight_than_the_client_takes(
    endpoint: Any, prefix: str, qos: int, room: int, broker: ThreadedBroker
) -> None:
    """The rest waits, each acknowledgement lets one more through, in order."""
    sent = [b"%d" % number for number in range(10)]
    with (
        opened(endpoint, prefix + "a", manual=True, ReceiveMaximum=room) as paho,
        opened(endpoint, prefix + "b") as other,
    ):
        paho.subscribe(prefix, qos)
        for payload in sent:
            other.publish(prefix, payload, qos)

        def queued() -> int:
            info = broker.client(prefix + "a")
            assert info is not None
            assert info.inflight_count <= room
            return info.mqueue_len

        taken = []
        for done in range(len(sent)):
            rest = max(0, len(sent) - done - room)
            until(partial(lambda rest: queued() == rest, rest), "all but what the client takes is queued")
            expected = len(sent) - done - rest
            until(
                partial(lambda expected: paho.messages.qsize() >= expected, expected), "as many as it takes are there"
            )
            paho.subscribe(f"{prefix}/other", 0)  # what was sent before its answer has come
            assert paho.messages.qsize() == expected
            message = paho.receive()
            taken.append(bytes(message.payload))
            paho.client.ack(message.mid, qos)
        assert taken == sent


def test_the_client_sends_as_much_as_it_likes_to(endpoint: Any, prefix: str) -> None:
    """More QoS 2 messages at once than the broker takes at a time: paho waits for its turn, and none is lost."""
    sent = [b"%d" % number for number in range(400)]
    paho = PahoClient(endpoint, prefix)
    paho.client.max_inflight_messages_set(100)
    try:
        assert paho.connect().ReceiveMaximum == 100
        paho.subscribe(prefix, 2)
        for payload in sent:
            paho.send(prefix, payload, 2)
        assert paho.receive_payloads(len(sent)) == sent
    finally:
        paho.close()


def test_who_sends_too_much_ends_nobody_else() -> None:
    """A QoS 1 message beyond the Receive Maximum is dropped with its sender; who waits for retained ones stays."""
    with own_broker(max_awaiting_rel=1, max_mqueue_len=2) as (broker, endpoint):
        for number in range(10):
            broker.publish(f"kept/{number}", b"kept", 1, retain=True)
        with opened(endpoint, "waits", manual=True, ReceiveMaximum=1) as waits:
            waits.subscribe("#", 1)
            waits.receive()
            with socket.create_connection((endpoint.host, endpoint.port), TIMEOUT) as wrong:
                wrong.sendall(b"\x10\x12\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x05wrong")  # CONNECT
                assert wrong.recv(1000)[0] == 0x20
                # QoS 2, and then QoS 1 with RETAIN: both in one piece, nothing of it is settled between them.
                wrong.sendall(b"\x34\x06\x00\x01t\x00\x01\x00" + b"\x33\x06\x00\x01t\x00\x02\x00")
                answers = b"".join(iter(lambda: wrong.recv(1000), b""))
            assert answers.endswith(b"\xe0\x01\x93")
            assert waits.subscribe("other").value == 0
            assert "t" not in broker.retained()


def test_no_larger_packet_than_the_client_takes(endpoint: Any, prefix: str) -> None:
    with opened(endpoint, prefix + "a", MaximumPacketSize=100) as paho, opened(endpoint, prefix + "b") as other:
        paho.subscribe(prefix, 2)
        for qos in (0, 1, 2):
            other.publish(prefix, b"x" * 200, qos)
            other.publish(prefix, b"small", qos)
        assert paho.receive_payloads(3) == [b"small"] * 3


# -- limits and refusals


def test_limits_are_told() -> None:
    limits = {
        "max_qos_allowed": 1,
        "retain_available": False,
        "wildcard_subscription": False,
        "shared_subscription": False,
        "max_packet_size": 2000,
        "max_topic_alias": 5,
        "max_awaiting_rel": 7,
        "server_keepalive": 77,
        "response_information": "answers/",
    }
    with own_broker(**limits) as (_, endpoint):
        with opened(endpoint, "limited", RequestResponseInformation=1) as paho:
            assert paho.connack.properties.json() == {
                "ReceiveMaximum": 7,
                "MaximumQoS": 1,
                "RetainAvailable": 0,
                "MaximumPacketSize": 2000,
                "TopicAliasMaximum": 5,
                "WildcardSubscriptionAvailable": 0,
                "SharedSubscriptionAvailable": 0,
                "ServerKeepAlive": 77,
                "ResponseInformation": "answers/",
            }
            assert paho.subscribe("a/+").values == [0xA2]
            assert paho.subscribe("$share/group/a").values == [0x9E]
            assert paho.subscribe("a", 2).values == [1]
        for code, sent in {
            0x9B: {"topic_name": "a", "payload": b"x", "qos": 2},
            0x9A: {"topic_name": "a", "payload": b"x", "retain": True},
            0x95: {"topic_name": "a", "payload": b"x" * 2000},
            0x94: {"topic_name": "a", "payload": b"x", "TopicAlias": 6},
        }.items():
            with opened(endpoint, "wrong") as paho:
                paho.send(**sent)  # type: ignore[arg-type]
                ended = paho.disconnected()
                assert (ended.from_broker, ended.value) == (True, code)
        for code, will in {0x9B: {"qos": 2}, 0x9A: {"retain": True}}.items():
            wrong = PahoClient(endpoint, "will")
            wrong.client.will_set("a", b"x", **will)  # type: ignore[arg-type]
            assert refused(wrong).value == code


def refused(paho: PahoClient, **connect_properties: Any) -> Answer:
    try:
        return paho.connect(**connect_properties)
    finally:
        paho.close()


@pytest.mark.parametrize(("level", "code"), [(V31, 0x87), (V311, 0x87), (V5, 0x87)])
def test_nobody_without_a_password(level: MQTTProtocolVersion, code: int) -> None:
    """paho says 0x87 also for return code 5 of 3.1 and 3.1.1."""
    with own_broker(allow_anonymous=False) as (broker, endpoint):
        answer = refused(PahoClient(endpoint, "nobody", level))
        assert (answer.value, answer.session_present) == (code, False)
        assert broker.clients() == []


@pytest.mark.parametrize("level", LEVELS)
def test_an_identifier_that_is_too_long(level: MQTTProtocolVersion) -> None:
    with own_broker(max_clientid_len=23) as (_, endpoint):
        assert refused(PahoClient(endpoint, "x" * 24, level)).value == 0x85
        assert refused(PahoClient(endpoint, "x" * 23, level)).value == 0


def test_an_unknown_authentication_method(endpoint: Any, prefix: str) -> None:
    assert refused(PahoClient(endpoint, prefix), AuthenticationMethod="none we know").value == 0x8C


def test_codes_of_requests(endpoint: Any, prefix: str) -> None:
    with opened(endpoint, prefix) as paho:
        assert paho.publish(prefix, b"nobody listens", 1).value == 0x10
        assert paho.subscribe(f"{prefix}/a", 2).value == 2
        assert paho.publish(f"{prefix}/a", b"", 1).value == 0
        assert paho.publish(f"{prefix}/a", b"", 2).value == 0
        assert paho.unsubscribe([f"{prefix}/a", f"{prefix}/b"]).values == [0x00, 0x11]


def test_more_subscriptions_than_allowed() -> None:
    with own_broker(max_subscriptions=2) as (_, endpoint), opened(endpoint, "many") as paho:
        assert [paho.subscribe(topic_filter, 1).value for topic_filter in "abca"] == [1, 1, 0x97, 1]


def test_more_levels_than_allowed() -> None:
    with own_broker(max_topic_levels=3) as (_, endpoint), opened(endpoint, "deep") as paho:
        assert paho.subscribe("a/b/c").value == 0
        assert paho.subscribe("a/b/c/d").value == 0x8F
        paho.send("a/b/c/d", b"", 1)
        ended = paho.disconnected()
        assert (ended.from_broker, ended.value) == (True, 0x90)


@pytest.mark.parametrize("level", LEVELS)
def test_kick(endpoint: Any, prefix: str, level: MQTTProtocolVersion, broker: ThreadedBroker) -> None:
    with opened(endpoint, prefix, level) as paho:
        assert broker.kick(prefix)
        ended = paho.disconnected()
        assert ended.from_broker == (level == V5)
        if level == V5:
            assert ended.value == 0x98
    assert broker.client(prefix) is None


@pytest.mark.parametrize("level", LEVELS)
def test_the_broker_stops(level: MQTTProtocolVersion) -> None:
    with own_broker() as (broker, endpoint), opened(endpoint, "left", level) as paho:
        broker.stop()
        ended = paho.disconnected()
        assert ended.from_broker == (level == V5)
        if level == V5:
            assert ended.value == 0x8B


@pytest.mark.parametrize("wanted", [True, False])
def test_reason_strings_only_for_who_wants_them(prefix: str, wanted: bool) -> None:
    """[MQTT-3.1.2-29] no reason string, no user property but in PUBLISH, CONNACK and DISCONNECT."""
    with own_broker(max_subscriptions=1) as (_, endpoint):
        with opened(endpoint, prefix, RequestProblemInformation=int(wanted)) as paho:
            paho.subscribe("a")
            answer = paho.subscribe("b")
            assert answer.value == 0x97
            if not wanted:
                assert answer.ReasonString is None
                assert answer.UserProperty is None


@pytest.mark.parametrize("level", LEVELS)
def test_keep_alive_holds_a_silent_connection(
    endpoint: Any, prefix: str, level: MQTTProtocolVersion, broker: ThreadedBroker
) -> None:
    """PINGREQs are answered: the client, which would leave without an answer, is there after several of them."""
    paho = PahoClient(endpoint, prefix, level)
    try:
        assert paho.connect(keepalive=1).value == 0

        def packets() -> int:
            info = broker.client(prefix)
            assert info is not None
            return info.stats["recv_pkt"]

        first = packets()
        until(lambda: packets() >= first + 2, "two PINGREQs")
        paho.subscribe(prefix, 1)
        paho.publish(prefix, b"still here", 1)
        assert paho.receive().payload == b"still here"
    finally:
        paho.close()


def test_a_silent_client_is_told_why_it_has_to_go(endpoint: Any, prefix: str) -> None:
    """0x8D when its keep alive has passed and a half, and its will is published."""
    with opened(endpoint, prefix + "a") as watcher:
        watcher.subscribe(f"{prefix}/will", 1)
        silent = PahoClient(endpoint, prefix + "b")
        silent.client.will_set(f"{prefix}/will", b"silent", 1)
        silent.connect(keepalive=1)
        try:
            silent.client._keepalive = 1000  # it believes to have promised less
            assert watcher.receive().payload == b"silent"
            ended = silent.disconnected()
            assert (ended.from_broker, ended.value) == (True, 0x8D)
        finally:
            silent.close()
