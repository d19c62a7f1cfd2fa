"""paho-mqtt and what MQTT 5.0 adds to a message and to a subscription, and what every version has.

Invariant: what one paho client says of a message is what the other is told, no more and no less.
"""

from __future__ import annotations

from typing import Any

import pytest
from paho.mqtt.enums import MQTTProtocolVersion
from sockets.paho_client import V5, V31, V311, PahoClient, opened
from sockets.waiting import until

from trio_broker.testing.threaded import ThreadedBroker

pytestmark = pytest.mark.parametrize("transport", ["tcp", "wss"])
LEVELS = [V31, V311, V5]


def marked(paho: PahoClient, topic_name: str) -> list[bytes]:
    """What comes before a message that is sent now."""
    paho.send(topic_name, b"marker", 1)
    return before_marker(paho)


def kept_before(paho: PahoClient, topic_name: str) -> list[bytes]:
    """What comes before the retained marker of this topic: retained messages come in the order they are asked for.

    A live message would be no such mark; it may come before retained ones.
    """
    paho.subscribe(topic_name, 1)
    return before_marker(paho)


def before_marker(paho: PahoClient) -> list[bytes]:
    payloads = []
    while (payload := bytes(paho.receive().payload)) != b"marker":
        payloads.append(payload)
    return payloads


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_qos_is_the_lower_of_the_two(endpoint: Any, prefix: str, level: MQTTProtocolVersion, granted: int) -> None:
    with opened(endpoint, prefix + "a", level) as paho, opened(endpoint, prefix + "b", level) as other:
        assert paho.subscribe(prefix, granted).value == granted
        for qos in (0, 1, 2):
            other.publish(prefix, b"payload", qos)
            message = paho.receive()
            assert (message.qos, message.retain, message.dup) == (min(qos, granted), False, False)


@pytest.mark.parametrize("levels", [(a, b) for a in LEVELS for b in LEVELS if a != b])
def test_versions_speak_with_each_other(
    endpoint: Any, prefix: str, levels: tuple[MQTTProtocolVersion, MQTTProtocolVersion]
) -> None:
    with opened(endpoint, prefix + "a", levels[0]) as speaker, opened(endpoint, prefix + "b", levels[1]) as listener:
        listener.subscribe(f"{prefix}/#", 2)
        more: dict[str, Any] = {"ContentType": "text/plain"} if levels[0] == V5 else {}
        for qos in (2, 1, 0):
            speaker.publish(f"{prefix}/{qos}", b"payload", qos, **more)
            message = listener.receive()
            assert (message.topic, message.payload, message.qos) == (f"{prefix}/{qos}", b"payload", qos)


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True])
def test_every_property_of_a_message(endpoint: Any, prefix: str, qos: int, retain: bool) -> None:
    pairs = [("colour", "red"), ("", "empty"), ("colour", "blue"), ("größe", "ü"), ("colour", "red")]
    with opened(endpoint, prefix) as paho:
        if not retain:
            paho.subscribe(prefix, 2)
        paho.publish(
            prefix,
            "grün".encode(),
            qos,
            retain,
            PayloadFormatIndicator=1,
            ContentType="text/plain; charset=utf-8",
            ResponseTopic=f"{prefix}/answer",
            CorrelationData=bytes(range(256)),
            UserProperty=pairs,
        )
        if retain:
            paho.subscribe(prefix, 2)
        message = paho.receive()
        received: Any = message.properties
        assert (message.payload, message.qos, message.retain) == ("grün".encode(), qos, retain)
        assert received.json() == {
            "PayloadFormatIndicator": 1,
            "ContentType": "text/plain; charset=utf-8",
            "ResponseTopic": f"{prefix}/answer",
            "CorrelationData": bytes(range(256)).hex(),
            "UserProperty": pairs,
        }
        paho.publish(prefix, b"", 1, retain=True)


def test_a_message_without_properties_gets_none(endpoint: Any, prefix: str) -> None:
    with opened(endpoint, prefix) as paho:
        paho.subscribe(prefix, 2)
        for qos in (0, 1, 2):
            paho.publish(prefix, b"", qos)
            received: Any = paho.receive().properties
            assert received.json() == {}


def test_expiry_is_counted_down(endpoint: Any, prefix: str) -> None:
    """A retained message is asked for until less is left than was said; never is more left than before."""
    with opened(endpoint, prefix) as paho:
        paho.publish(prefix, b"soon old", 1, retain=True, MessageExpiryInterval=1000)

        def left() -> int:
            paho.subscribe(prefix, 1)
            received: Any = paho.receive().properties
            return int(received.MessageExpiryInterval)

        seen = [left()]
        assert seen[0] <= 1000

        def less() -> bool:
            seen.append(left())
            return seen[-1] < seen[0]

        until(less, "less than the whole interval is left")
        assert seen == sorted(seen, reverse=True)
        paho.publish(prefix, b"", 1, retain=True)


def test_expired_messages_are_not_delivered(endpoint: Any, prefix: str, broker: ThreadedBroker) -> None:
    """Neither the retained one nor the one that waits for a client that is away."""
    with opened(endpoint, prefix + "a", SessionExpiryInterval=1000) as paho:
        paho.subscribe(f"{prefix}/+", 1)
    with opened(endpoint, prefix + "b") as other:
        other.publish(f"{prefix}/old", b"expires", 1, retain=True, MessageExpiryInterval=1)
        other.publish(f"{prefix}/new", b"lasts", 1, MessageExpiryInterval=1000)
        until(lambda: not broker.retained(f"{prefix}/old"), "the retained message has expired")
        other.subscribe(f"{prefix}/old", 1)
        assert marked(other, f"{prefix}/old") == []
    with opened(endpoint, prefix + "a", clean=False) as paho:
        assert paho.connack.session_present
        assert paho.receive_payloads(2) == [b"lasts", b"marker"]


def test_topic_aliases_of_the_client(endpoint: Any, prefix: str) -> None:
    with opened(endpoint, prefix) as paho:
        assert paho.connack.TopicAliasMaximum == 65535
        paho.subscribe(f"{prefix}/#", 2)
        for qos, (topic_name, alias) in enumerate([(f"{prefix}/a", 1), (f"{prefix}/b", 65535), (f"{prefix}/c", 2)]):
            paho.publish(topic_name, b"sets", qos, TopicAlias=alias)
            paho.publish("", b"uses", qos, TopicAlias=alias)
            for payload in (b"sets", b"uses"):
                message = paho.receive()
                assert (message.topic, message.payload) == (topic_name, payload)
                assert not hasattr(message.properties, "TopicAlias")
        paho.publish(f"{prefix}/other", b"sets again", 1, TopicAlias=1)
        paho.publish("", b"uses", 1, TopicAlias=1)
        assert [paho.receive().topic for _ in range(2)] == [f"{prefix}/other"] * 2


def test_topic_aliases_end_with_the_connection(endpoint: Any, prefix: str) -> None:
    with opened(endpoint, prefix, SessionExpiryInterval=1000) as paho:
        paho.publish(prefix, b"sets", 1, TopicAlias=1)
    with opened(endpoint, prefix, clean=False) as paho:
        assert paho.connack.session_present
        paho.send("", b"uses", 1, TopicAlias=1)
        ended = paho.disconnected()
        assert ended.from_broker
        assert ended.value in (0x82, 0x94)


def test_subscription_identifiers(endpoint: Any, prefix: str) -> None:
    """Of all subscriptions that match, in one message or in one each [MQTT-3.3.4-3, 3.3.4-4, 3.3.4-5]."""
    with opened(endpoint, prefix) as paho:
        paho.subscribe(f"{prefix}/+", 1, identifier=1)
        paho.subscribe(f"{prefix}/#", 2, identifier=268_435_455)
        paho.subscribe(f"{prefix}/none/+", 2)
        paho.publish(f"{prefix}/a", b"twice", 2)
        identifiers: list[int] = []
        while len(identifiers) < 2:
            received: Any = paho.receive().properties
            identifiers += received.SubscriptionIdentifier
        assert sorted(identifiers) == [1, 268_435_455]
        paho.unsubscribe(f"{prefix}/#")
        paho.publish(f"{prefix}/a", b"once", 2)
        received = paho.receive().properties
        assert received.SubscriptionIdentifier == [1]
        paho.subscribe(f"{prefix}/+", 1)  # replaces the subscription and its identifier
        paho.publish(f"{prefix}/a", b"no identifier", 2)
        assert not hasattr(paho.receive().properties, "SubscriptionIdentifier")


def test_subscription_identifier_with_retained_and_shared(endpoint: Any, prefix: str) -> None:
    with opened(endpoint, prefix) as paho:
        paho.publish(prefix, b"kept", 1, retain=True)
        paho.subscribe(prefix, 1, identifier=7)
        received: Any = paho.receive()
        assert (received.retain, received.properties.SubscriptionIdentifier) == (True, [7])
        paho.publish(prefix, b"", 1, retain=True)
        assert paho.receive().payload == b""
        paho.unsubscribe(prefix)
        paho.subscribe(f"$share/group/{prefix}", 1, identifier=8)
        paho.publish(prefix, b"shared", 1)
        received = paho.receive()
        assert (received.payload, received.properties.SubscriptionIdentifier) == (b"shared", [8])


def test_no_local(endpoint: Any, prefix: str) -> None:
    with opened(endpoint, prefix + "a") as paho, opened(endpoint, prefix + "b") as other:
        paho.subscribe(f"{prefix}/not", 1, no_local=True)
        paho.subscribe(f"{prefix}/local", 1)
        other.subscribe(f"{prefix}/+", 1)
        paho.publish(f"{prefix}/not", b"mine")
        assert other.receive().payload == b"mine"
        other.publish(f"{prefix}/not", b"of the other")
        assert marked(paho, f"{prefix}/local") == [b"of the other"]


@pytest.mark.parametrize("as_published", [False, True])
def test_retain_as_published(endpoint: Any, prefix: str, as_published: bool) -> None:
    with opened(endpoint, prefix) as paho:
        paho.subscribe(prefix, 1, as_published=as_published)
        for retain in (True, False):
            paho.publish(prefix, b"payload", 1, retain)
            assert paho.receive().retain == (retain and as_published)
        # What is kept comes with the flag, whatever the option says [MQTT-3.3.1-8].
        paho.subscribe(prefix, 1, as_published=as_published)
        assert paho.receive().retain
        paho.publish(prefix, b"", 1, retain=True)


def test_retain_handling(endpoint: Any, prefix: str) -> None:
    """0: always, 1: for a new subscription, 2: never [MQTT-3.3.1-9 to 3.3.1-11]."""
    with opened(endpoint, prefix) as paho:
        paho.publish(f"{prefix}/kept", b"kept", 1, retain=True)
        paho.publish(f"{prefix}/marker", b"marker", 1, retain=True)
        for handling, expected in [
            (2, []),
            (1, []),  # it exists since the line above
            (0, [b"kept"]),
            (0, [b"kept"]),
        ]:
            paho.subscribe(f"{prefix}/kept", 1, handling=handling)
            assert kept_before(paho, f"{prefix}/marker") == expected
        paho.unsubscribe(f"{prefix}/kept")
        paho.subscribe(f"{prefix}/kept", 1, handling=1)
        assert kept_before(paho, f"{prefix}/marker") == [b"kept"]
        paho.subscribe(f"{prefix}/kept", 1, handling=1)
        assert kept_before(paho, f"{prefix}/marker") == []
        for name in ("kept", "marker"):
            paho.publish(f"{prefix}/{name}", b"", 1, retain=True)


@pytest.mark.parametrize("level", LEVELS)
def test_retained_messages(endpoint: Any, prefix: str, level: MQTTProtocolVersion, broker: ThreadedBroker) -> None:
    """The last one of a topic is kept, with its QoS; an empty one removes it."""
    with opened(endpoint, prefix, level) as paho:
        for qos in (0, 1, 2):
            paho.publish(f"{prefix}/{qos}", b"first", qos, retain=True)
            paho.publish(f"{prefix}/{qos}", b"last", qos, retain=True)
        until(lambda: broker.retained(f"{prefix}/0") == {f"{prefix}/0": b"last"}, "the QoS 0 message is kept")
        paho.subscribe(f"{prefix}/+", 2)
        kept = {(m.topic, bytes(m.payload), m.qos, m.retain) for m in [paho.receive() for _ in range(3)]}
        assert kept == {(f"{prefix}/{qos}", b"last", qos, True) for qos in (0, 1, 2)}
        for qos in (0, 1, 2):
            paho.publish(f"{prefix}/{qos}", b"", qos, retain=True)
            message = paho.receive()
            assert (message.payload, message.retain) == (b"", False)
        until(lambda: not broker.retained(f"{prefix}/#"), "nothing is kept")


def test_a_shared_subscription_gets_no_retained_messages(endpoint: Any, prefix: str) -> None:
    with opened(endpoint, prefix) as paho:
        for name in ("kept", "marker"):
            paho.publish(f"{prefix}/{name}", name.encode(), 1, retain=True)
        assert paho.subscribe(f"$share/group/{prefix}/+", 1).value == 1
        assert kept_before(paho, f"{prefix}/marker") == []
        for name in ("kept", "marker"):
            paho.publish(f"{prefix}/{name}", b"", 1, retain=True)


def test_shared_subscriptions(endpoint: Any, prefix: str) -> None:
    """Each message goes to one member of a group, and to everybody else who has subscribed."""
    sent = [b"%d" % number for number in range(40)]
    with opened(endpoint, prefix + "a") as one, opened(endpoint, prefix + "b") as two:
        with opened(endpoint, prefix + "c") as other_group, opened(endpoint, prefix + "d") as alone:
            for paho, topic_filter in [
                (one, f"$share/workers/{prefix}/#"),
                (two, f"$share/workers/{prefix}/#"),
                (other_group, f"$share/others/{prefix}/#"),
                (alone, f"{prefix}/#"),
            ]:
                assert paho.subscribe(topic_filter, 2).value == 2
            for number, payload in enumerate(sent):
                alone.publish(f"{prefix}/work", payload, number % 3)
            assert other_group.receive_payloads(len(sent)) == sent
            assert alone.receive_payloads(len(sent)) == sent
            until(lambda: one.messages.qsize() + two.messages.qsize() == len(sent), "the group has got all")
            shares = [paho.receive_payloads(paho.messages.qsize()) for paho in (one, two)]
            assert all(shares)
            assert sorted(shares[0] + shares[1]) == sorted(sent)
            # A member that leaves takes nothing with it.
            one.unsubscribe(f"$share/workers/{prefix}/#")
            for payload in sent:
                alone.publish(f"{prefix}/work", payload, 1)
            assert two.receive_payloads(len(sent)) == sent


def test_what_a_shared_member_leaves_goes_to_the_others(endpoint: Any, prefix: str) -> None:
    """A member whose session ends without acknowledging: the messages are not lost to the group."""
    sent = {b"%d" % number for number in range(10)}
    with opened(endpoint, prefix + "b") as speaker, opened(endpoint, prefix + "c") as stays:
        with opened(endpoint, prefix + "a", manual=True) as leaves:
            leaves.subscribe(f"$share/workers/{prefix}", 1)
            stays.subscribe(f"$share/workers/{prefix}", 1)
            for payload in sent:
                speaker.publish(prefix, payload, 1)
            until(lambda: leaves.messages.qsize() + stays.messages.qsize() == len(sent), "the group has got all")
            assert leaves.messages.qsize()
        assert set(stays.receive_payloads(len(sent))) == sent


def test_request_and_response(endpoint: Any, prefix: str) -> None:
    with opened(endpoint, prefix + "a") as asks, opened(endpoint, prefix + "b") as answers:
        answers.subscribe(f"{prefix}/ask", 1, no_local=True)
        asks.subscribe(f"{prefix}/answer/+", 1)
        for number in range(3):
            asks.publish(
                f"{prefix}/ask",
                b"%d" % number,
                ResponseTopic=f"{prefix}/answer/{number}",
                CorrelationData=b"\x00%d\xff" % number,
            )
        for _ in range(3):
            question = answers.receive()
            asked: Any = question.properties
            answers.publish(asked.ResponseTopic, b"re " + question.payload, CorrelationData=asked.CorrelationData)
        for number in range(3):
            answer: Any = asks.receive()
            assert (answer.topic, answer.payload) == (f"{prefix}/answer/{number}", b"re %d" % number)
            assert answer.properties.CorrelationData == b"\x00%d\xff" % number


@pytest.mark.parametrize("level", LEVELS)
def test_topic_filters(endpoint: Any, prefix: str, level: MQTTProtocolVersion) -> None:
    """Wildcards, levels that are empty, and topics that begin with $ [MQTT-4.7.2-1]."""
    names = [f"{prefix}", f"{prefix}/a", f"{prefix}/a/b", f"{prefix}//b", f"{prefix}/a/", f"${prefix}/a"]
    matches = {
        f"{prefix}/#": names[:5],
        f"{prefix}/+": [f"{prefix}/a"],
        f"{prefix}/+/b": [f"{prefix}/a/b", f"{prefix}//b"],
        f"{prefix}/+/+": [f"{prefix}/a/b", f"{prefix}//b", f"{prefix}/a/"],
        f"${prefix}/+": [f"${prefix}/a"],
        f"+/a/{prefix}": [],
    }
    with opened(endpoint, prefix, level) as paho:
        for topic_filter, expected in matches.items():
            paho.subscribe(topic_filter, 1)
            for name in names:
                paho.publish(name, b"payload", 1)
            paho.subscribe(f"{prefix}marker", 1)
            paho.publish(f"{prefix}marker", b"marker", 1)
            received = [paho.receive().topic for _ in range(len(expected) + 1)]
            assert received == [*expected, f"{prefix}marker"]
            paho.unsubscribe([topic_filter, f"{prefix}marker"])


def test_large_messages_both_ways(endpoint: Any, prefix: str) -> None:
    with opened(endpoint, prefix) as paho:
        paho.subscribe(prefix, 2)
        room: int = paho.connack.MaximumPacketSize
        assert room == 1024 * 1024
        for qos in (0, 1, 2):
            payload = bytes([65 + qos]) * (room - 100)
            paho.publish(prefix, payload, qos)
            assert paho.receive().payload == payload
