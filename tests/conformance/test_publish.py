"""PUBLISH: flags, topic name, retained messages, and what it answers with.

Invariant: silence is never waited for; a message that comes later shows that nothing came before it.
"""

from __future__ import annotations

import pytest
from conformance.bytes_of import bytes_of
from conformance.in_memory import NothingSecret, in_memory
from conformance.levels import LEVELS, farewell, kept, no_takers, publish, section, subscribe
from conformance.peer import Server
from conformance.statement import conforms


@conforms(v311="3.3.1-1", v5="3.3.1-1")
@LEVELS
@pytest.mark.parametrize(("first", "again"), [("32", "3a"), ("34", "3c")])
async def test_dup_is_set_when_it_is_sent_again(server: Server, first: str, again: str, level: int) -> None:
    """The same PUBLISH on the next connection has DUP 1."""
    none = section(level)
    subscriber = await kept(server, "subscriber", level)
    await subscribe(subscriber, level, "t", "02")
    publisher = await server.connected("publisher", level)
    await publisher.send(f"{first} [\"t\" 0007 {none} 'x']")
    await subscriber.expect(f"{first} [\"t\" 0001 {none} 'x']")
    await subscriber.break_off()
    subscriber = await kept(server, "subscriber", level)
    await subscriber.expect(f"{again} [\"t\" 0001 {none} 'x']")


@conforms(v311="3.3.1-2 4.8.0-1", v5="3.3.1-2 4.13.1-1")
@LEVELS
@pytest.mark.parametrize("first", ["38", "39"])
async def test_dup_with_qos_0(server: Server, first: str, level: int) -> None:
    """A client may not set it: malformed, and the message goes to nobody."""
    subscriber = await server.subscriber("#", level=level)
    publisher = await server.connected("publisher", level)
    await publisher.send(f"{first} [\"t\" {section(level)} 'x']")
    await publisher.expect_end(farewell(level, "81"))
    await publish(await server.connected("publisher", level), level, "t", "next")
    await subscriber.expect(f"30 [\"t\" {section(level)} 'next']")


@conforms(v311="3.3.1-2 4.3.1-1", v5="3.3.1-2 4.3.1-1")
@LEVELS
async def test_qos_0_is_sent_once_without_dup(server: Server, level: int) -> None:
    """Nothing of it comes again on the next connection, and DUP of a QoS 1 publisher does not reach a QoS 0 grant."""
    none = section(level)
    subscriber = await kept(server, "subscriber", level)
    await subscribe(subscriber, level, "t", "00")
    publisher = await server.connected("publisher", level)
    await publisher.send(f"3a [\"t\" 0001 {none} '1'] 30 [\"t\" {none} '2']")
    await subscriber.expect(f"30 [\"t\" {none} '1'] 30 [\"t\" {none} '2']")
    await subscriber.break_off()
    subscriber = await kept(server, "subscriber", level)
    await publisher.expect("40 [0001]")
    await publish(publisher, level, "t", "3")
    await subscriber.expect(f"30 [\"t\" {none} '3']")
    await subscriber.expect_nothing()


@conforms(v311="3.3.1-3", v5="3.3.1-3")
@LEVELS
@pytest.mark.parametrize(("published", "delivered"), [("3a", "32"), ("3c", "34"), ("3b", "32"), ("3d", "34")])
async def test_dup_is_not_passed_on(server: Server, published: str, delivered: str, level: int) -> None:
    """DUP belongs to one hop."""
    subscriber = await server.subscriber("t", level=level, qos=2)
    publisher = await server.connected("publisher", level)
    await publisher.send(f"{published} [\"t\" 0007 {section(level)} 'x']")
    await subscriber.expect(f"{delivered} [\"t\" 0001 {section(level)} 'x']")
    late = await server.connected("late", level)
    await subscribe(late, level, "t", "02")
    if published in ("3b", "3d"):
        await late.expect(f"{int(delivered, 16) | 1:02x} [\"t\" 0001 {section(level)} 'x']")
    await late.expect_nothing()


@conforms(v311="3.3.1-4", v5="3.3.1-4")
@LEVELS
@pytest.mark.parametrize("first", ["36", "37", "3e", "3f"])
async def test_qos_3(server: Server, first: str, level: int) -> None:
    """Malformed: the connection ends, and the message goes to nobody."""
    subscriber = await server.subscriber("#", level=level, qos=2)
    publisher = await server.connected("publisher", level)
    await publisher.send(f"{first} [\"t\" 0001 {section(level)} 'x']")
    await publisher.expect_end(farewell(level, "81"))
    await publish(await server.connected("publisher", level), level, "t", "next")
    await subscriber.expect(f"30 [\"t\" {section(level)} 'next']")


@conforms(v311="3.3.1-5 3.3.1-6 3.3.1-7 3.3.1-8", v5="3.3.1-5 3.3.1-9")
@LEVELS
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("older", [0, 1, 2])
async def test_a_retained_message_takes_the_place_of_the_older(
    server: Server, older: int, qos: int, level: int
) -> None:
    """A new subscription gets the newest of each topic alone, with retain 1 and the QoS it was published with."""
    none = section(level)
    publisher = await server.connected("publisher", level)
    await publish(publisher, level, "t", "old", older, retain=True)
    await publish(publisher, level, "t", "new", qos, retain=True)
    subscriber = await server.connected("subscriber", level)
    await subscribe(subscriber, level, "+", "02")
    await subscriber.expect(f"{0x31 | qos << 1:02x} [\"t\" {'0001' if qos else ''} {none} 'new']")
    await subscriber.expect_nothing()


@conforms(v5="3.3.1-10")
async def test_retain_handling_1(server: Server) -> None:
    """Retained messages come only if the subscription did not exist."""
    await publish(await server.connected("publisher"), 5, "t", "kept", retain=True)
    peer = await server.connected("subscriber")
    await peer.send('82 [0001 [] "t" 10]')
    await peer.expect("90 [0001 [] 00] 31 [\"t\" [] 'kept']")
    await peer.send('82 [0002 [] "t" 10] 82 [0003 [] "t" 11] 82 [0004 [] "+" 10]')
    await peer.expect("90 [0002 [] 00] 90 [0003 [] 01] 90 [0004 [] 00] 31 [\"t\" [] 'kept']")
    await peer.send('a2 [0005 [] "t"] 82 [0006 [] "t" 10]')
    await peer.expect("b0 [0005 [] 00] 90 [0006 [] 00] 31 [\"t\" [] 'kept']")
    await peer.expect_nothing()


@conforms(v5="3.3.1-11")
async def test_retain_handling_2(server: Server) -> None:
    """No retained messages, and live ones as ever."""
    publisher = await server.connected("publisher")
    await publish(publisher, 5, "t", "kept", retain=True)
    peer = await server.connected("subscriber")
    await peer.send('82 [0001 [] "t" 20] 82 [0002 [] "t" 20] 82 [0003 [] "#" 20]')
    await peer.expect("90 [0001 [] 00] 90 [0002 [] 00] 90 [0003 [] 00]")
    await publish(publisher, 5, "t", "live")
    await peer.expect("30 [\"t\" [] 'live']")
    await peer.expect_nothing()


@conforms(v5="3.3.1-9")
async def test_retain_handling_0(server: Server) -> None:
    """Retained messages come at each SUBSCRIBE, also when the subscription is there."""
    await publish(await server.connected("publisher"), 5, "t", "kept", retain=True)
    peer = await server.connected("subscriber")
    for _ in range(2):
        await peer.send('82 [0001 [] "t" 00]')
        await peer.expect("90 [0001 [] 00] 31 [\"t\" [] 'kept']")
    await peer.expect_nothing()


@conforms(v311="3.3.1-9", v5="3.3.1-12")
@LEVELS
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_standing_subscription_gets_retain_0(server: Server, qos: int, level: int) -> None:
    """What the publisher set does not show."""
    subscriber = await server.subscriber("t", level=level, qos=qos)
    publisher = await server.connected("publisher", level)
    await publish(publisher, level, "t", "x", qos, retain=True)
    await subscriber.expect(f"{0x30 | qos << 1:02x} [\"t\" {'0001' if qos else ''} {section(level)} 'x']")


@conforms(v5="3.3.1-13")
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_retain_as_published(server: Server, qos: int) -> None:
    """With this option retain is as the publisher set it, next to a subscriber without the option."""
    plain = await server.subscriber("t", "plain", qos=qos)
    subscriber = await server.connected("subscriber")
    await subscribe(subscriber, 5, "t", f"{0x08 | qos:02x}")
    publisher = await server.connected("publisher")
    await publish(publisher, 5, "t", "1", qos, retain=True)
    await publish(publisher, 5, "t", "2", qos, retain=False)
    first, one, two = 0x30 | qos << 1, "0001" if qos else "", "0002" if qos else ""
    await subscriber.expect(f"{first | 1:02x} [\"t\" {one} [] '1'] {first:02x} [\"t\" {two} [] '2']")
    await plain.expect(f"{first:02x} [\"t\" {one} [] '1'] {first:02x} [\"t\" {two} [] '2']")


@conforms(v311="3.3.1-10", v5="3.3.1-6")
@LEVELS
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_an_empty_retained_message(server: Server, qos: int, level: int) -> None:
    """It is delivered like any other, and the retained one is forgotten; those of other topics stay."""
    none = section(level)
    publisher = await server.connected("publisher", level)
    await publish(publisher, level, "t/1", "old", 1, retain=True)
    await publish(publisher, level, "t/2", "other", retain=True)
    present = await server.connected("present", level)
    await subscribe(present, level, "t/1", f"{qos:02x}")
    old = min(qos, 1)
    await present.expect(f"{0x31 | old << 1:02x} [\"t/1\" {'0001' if old else ''} {none} 'old']")
    await publish(publisher, level, "t/1", "", qos, retain=True)
    await present.expect(f'{0x30 | qos << 1:02x} ["t/1" {f"{old + 1:04x}" if qos else ""} {none}]')
    late = await server.connected("late", level)
    await subscribe(late, level, "t/#", "02")
    await late.expect(f"31 [\"t/2\" {none} 'other']")
    await late.expect_nothing()


@conforms(v311="3.3.1-11", v5="3.3.1-7")
@LEVELS
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_an_empty_retained_message_is_never_stored(server: Server, qos: int, level: int) -> None:
    """Neither where there was one nor where there was none."""
    publisher = await server.connected("publisher", level)
    await publish(publisher, level, "t/1", "old", qos, retain=True)
    for topic in ("t/1", "t/1", "t/2"):
        await publish(publisher, level, topic, "", qos, retain=True)
    late = await server.connected("late", level)
    await subscribe(late, level, "#", "02")
    await publish(publisher, level, "t/3", "live")
    await late.expect(f"30 [\"t/3\" {section(level)} 'live']")


@conforms(v311="3.3.1-12", v5="3.3.1-8")
@LEVELS
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_retain_0_leaves_the_stored_message(server: Server, qos: int, level: int) -> None:
    """It is neither replaced nor, by an empty one, removed; nor is one stored where there was none."""
    publisher = await server.connected("publisher", level)
    await publish(publisher, level, "t/1", "kept", retain=True)
    for topic, payload in (("t/1", "other"), ("t/1", ""), ("t/2", "none")):
        await publish(publisher, level, topic, payload, qos)
    late = await server.connected("late", level)
    await subscribe(late, level, "#", "02")
    await late.expect(f"31 [\"t/1\" {section(level)} 'kept']")
    await late.expect_nothing()


@conforms(v311="3.3.2-1", v5="3.3.2-1")
@LEVELS
@pytest.mark.parametrize(
    "topic",
    ["{ff}", "{c080}", r'"\ud800"', r'"\udfff"', r'"a\x00b"', "{e28c}", "{f8888080 80}", "0005 61", "00", ""],
)
async def test_the_topic_is_no_string(server: Server, topic: str, level: int) -> None:
    """What stands where the topic name has to be is no string: malformed."""
    peer = await server.connected("publisher", level)
    await peer.send(f"30 [{topic} {section(level) if topic.startswith(('{', chr(34))) else ''}]")
    await peer.expect_end(farewell(level, "81"))


@conforms(v311="3.3.2-1", v5="3.3.2-1")
@LEVELS
async def test_the_topic_comes_first(server: Server, level: int) -> None:
    """Topic name, identifier, properties, payload; what looks like one of them in the payload is payload."""
    none = section(level)
    topics = ["a", "/", " ", "ü/ﬃ/\U0001f600", "\ufeffa", "x" * 300, "$app/x"]
    subscriber = await server.connected("subscriber", level)
    for topic_filter in ("#", "$app/#"):
        await subscribe(subscriber, level, topic_filter, "01")
    publisher = await server.connected("publisher", level)
    for number, topic in enumerate(topics, 1):
        await publisher.send(f'32 ["{topic}" 0009 {none} "t" 0001 00]')
        await publisher.expect("40 [0009]")
        await subscriber.expect(f'32 ["{topic}" {number:04x} {none} "t" 0001 00]')


@conforms(v311="3.3.2-2", v5="3.3.2-2")
@LEVELS
@pytest.mark.parametrize("topic", ["#", "+", "a/#", "a/+/b", "a#", "+a", "$SYS/+"])
async def test_wildcards_in_a_topic_name(server: Server, topic: str, level: int) -> None:
    """The connection ends (0x90), and the message goes to nobody."""
    subscriber = await server.subscriber("#", level=level, qos=1)
    publisher = await server.connected("publisher", level)
    await publisher.send(f"30 [\"{topic}\" {section(level)} 'x']")
    await publisher.expect_end(farewell(level, "90"))
    await publish(await server.connected("publisher", level), level, "t", "next")
    await subscriber.expect(f"30 [\"t\" {section(level)} 'next']")


MATCHES = {
    "a": "a",
    "a/b": "a/b",
    "a/+": "a/b a/",
    "a/#": "a a/ a/b a/b/c",
    "+": "a A",
    "+/b": "a/b /b",
    "#": "a A a/ a/b /b a/b/c",
}


@conforms(v311="3.3.2-3", v5="3.3.2-3")
@LEVELS
@pytest.mark.parametrize("topic_filter", MATCHES)
async def test_what_is_delivered_matches_the_filter(server: Server, topic_filter: str, level: int) -> None:
    """Exactly the topics that match, with the name they were published with."""
    subscriber = await server.subscriber(topic_filter, level=level)
    marker = "end" if topic_filter in ("#", "+") else topic_filter.replace("#", "end").replace("+", "b")
    publisher = await server.connected("publisher", level)
    for topic in ("a", "A", "a/", "a/b", "/b", "a/b/c", marker):
        await publish(publisher, level, topic, "x")
    for topic in sorted(MATCHES[topic_filter].split(), key=["a", "A", "a/", "a/b", "/b", "a/b/c"].index):
        await subscriber.expect(f"30 [\"{topic}\" {section(level)} 'x']")
    await subscriber.expect(f"30 [\"{marker}\" {section(level)} 'x']")
    await subscriber.expect_nothing()


@conforms(v311="3.3.4-1 4.3.1-1", v5="3.3.4-1 4.3.1-1")
@LEVELS
async def test_the_answer_goes_by_the_qos(server: Server, level: int) -> None:
    """QoS 0 nothing, QoS 1 PUBACK, QoS 2 PUBREC."""
    peer = await server.connected("publisher", level)
    await server.subscriber("taken", level=level)
    none, nobody = section(level), no_takers(level)
    await peer.send(f'30 ["t" {none}] 30 ["taken" {none}]')
    await peer.expect_nothing()
    await peer.send(f'32 ["taken" 1234 {none}]')
    await peer.expect("40 [1234]")
    await peer.send(f'34 ["taken" 1234 {none}]')
    await peer.expect("50 [1234]")
    await peer.send(f'32 ["t" ffff {none}]')
    await peer.expect(f"40 [ffff {nobody}]")
    await peer.send(f'34 ["t" ffff {none}]')
    await peer.expect(f"50 [ffff {nobody}]")
    await peer.expect_nothing()


@conforms(v311="3.3.5-1", v5="3.3.4-2")
@LEVELS
@pytest.mark.parametrize("order", [("a/b", "a/+", "#"), ("#", "a/b", "a/+"), ("a/+", "#", "a/b")])
@pytest.mark.parametrize("highest", [0, 1, 2])
async def test_overlapping_subscriptions(server: Server, order: tuple[str, ...], highest: int, level: int) -> None:
    """One copy, with the highest granted QoS, whichever came first."""
    none = section(level)
    subscriber = await server.connected("subscriber", level)
    granted = {"a/b": min(highest, 1), "a/+": highest, "#": 0}
    for topic_filter in order:
        await subscribe(subscriber, level, topic_filter, f"{granted[topic_filter]:02x}")
    publisher = await server.connected("publisher", level)
    await publish(publisher, level, "a/b", "x", 2)
    await publish(publisher, level, "end", "y", 2)
    await subscriber.expect(f"{0x30 | highest << 1:02x} [\"a/b\" {'0001' if highest else ''} {none} 'x']")
    await subscriber.expect(f"30 [\"end\" {none} 'y']")
    await subscriber.expect_nothing()


@conforms(v311="3.3.5-2")
@pytest.mark.parametrize("level", [3, 4])
async def test_not_authorised_before_version_5(level: int) -> None:
    """Acknowledged as usual and dropped, retained or not; the connection goes on."""
    async with in_memory(authorizer=NothingSecret()) as server:
        subscriber = await server.subscriber("#", level=level, qos=2)
        publisher = await server.connected("publisher", level)
        await publisher.send("31 [\"secret\" 'x'] 33 [\"secret\" 0001 'x'] 35 [\"secret\" 0002 'x']")
        await publisher.expect("40 [0001] 50 [0002]")
        await publisher.send("62 [0002] 32 [\"t\" 0001 'y']")
        await publisher.expect("70 [0002] 40 [0001]")
        await subscriber.expect("32 [\"t\" 0001 'y']")
        late = await server.subscriber("#", "late", level)
        await late.expect_nothing()


CARRIED = {
    "payload format 0": "01 00",
    "payload format 1": "01 01",
    "response topic": '08 "answer/ü"',
    "correlation data": "09 {00ff 23 0b}",
    "no correlation data": "09 {}",
    "content type": '03 "text/plain; charset=ü"',
    "no content type": '03 ""',
    "user properties": '26 "b" "1" 26 "a" "2" 26 "b" "1" 26 "" "" 26 "b" "0"',
}


@conforms(v5="3.3.2-4 3.3.2-15 3.3.2-16 3.3.2-17 3.3.2-18 3.3.2-20")
@pytest.mark.parametrize("properties", CARRIED.values(), ids=CARRIED)
async def test_a_property_goes_through_unchanged(server: Server, properties: str) -> None:
    """Live, retained, and for a client that was away: the same bytes each time."""
    for client_id in ("here", "away"):
        await subscribe(await kept(server, client_id, 5), 5, "t", "01")
    here, away = server.peers
    await away.send("e0 []")
    await away.expect_end()
    publisher = await server.connected("publisher")
    await publisher.send(f"33 [\"t\" 0009 [{properties}] 'x']")
    await publisher.expect("40 [0009]")
    await here.expect(f"32 [\"t\" 0001 [{properties}] 'x']")
    away = await kept(server, "away", 5)
    await away.expect(f"32 [\"t\" 0001 [{properties}] 'x']")
    late = await server.connected("late")
    await subscribe(late, 5, "t", "01")
    await late.expect(f"33 [\"t\" 0001 [{properties}] 'x']")


@conforms(v5="3.3.2-4 3.3.2-15 3.3.2-16 3.3.2-17 3.3.2-18 3.3.2-20")
async def test_all_properties_at_once(server: Server) -> None:
    """Each of them is there once, the user properties in their order."""
    texts = ["01 01", '03 "c"', '08 "r"', "09 {00}", '26 "b" "1"', '26 "a" "2"', '26 "b" "1"']
    subscriber = await server.subscriber("t")
    publisher = await server.connected("publisher")
    await publisher.send(f"30 [\"t\" [{' '.join(texts[4:] + texts[:4])}] 'x']")
    await subscriber.expect(f"30 [\"t\" [{' '.join(texts)}] 'x']")


@conforms(v5="3.3.2-13 3.3.2-14")
@pytest.mark.parametrize(
    ("topic", "code"),
    [('"#"', "82"), ('"a/+"', "82"), ('""', "82"), ('"\\ud800"', "81"), ('"\\x00"', "81"), ("{ff}", "81")],
)
async def test_a_response_topic_that_is_none(server: Server, topic: str, code: str) -> None:
    """With wildcards or empty: protocol error; no string: malformed. The message goes to nobody."""
    subscriber = await server.subscriber("#")
    publisher = await server.connected("publisher")
    await publisher.send(f"30 [\"t\" [08 {topic}] 'x']")
    await publisher.expect_end(f"e0 [{code}]")
    await publish(await server.connected("publisher"), 5, "t", "next")
    await subscriber.expect("30 [\"t\" [] 'next']")


@conforms(v5="3.3.2-19")
@pytest.mark.parametrize("content_type", ['"\\ud800"', '"\\x00"', "{ff}", "{c080}", "{e28c}"])
async def test_a_content_type_that_is_no_string(server: Server, content_type: str) -> None:
    """Malformed."""
    publisher = await server.connected("publisher")
    await publisher.send(f"30 [\"t\" [03 {content_type}] 'x']")
    await publisher.expect_end("e0 [81]")


@conforms(v5="3.3.2-7")
async def test_an_alias_ends_with_the_connection(server: Server) -> None:
    """On the next connection it has no meaning, though the session is the same one; nor for another client."""
    publisher = await kept(server, "publisher", 5)
    await publisher.send('30 ["t" [23 0001]]')
    await publisher.expect_nothing()
    other = await server.connected("other")
    await other.send('30 ["" [23 0001]]')
    await other.expect_end("e0 [82]")
    await publisher.send('30 ["" [23 0001]]')
    await publisher.expect_nothing()
    await publisher.break_off()
    publisher = await kept(server, "publisher", 5)
    await publisher.send('30 ["" [23 0001]]')
    await publisher.expect_end("e0 [82]")


@conforms(v5="3.3.2-8")
@pytest.mark.parametrize("topic", ["t", ""])
async def test_alias_0(server: Server, topic: str) -> None:
    """0x94, with a topic and without."""
    publisher = await server.connected("publisher")
    await publisher.send(f'30 ["{topic}" [23 0000]]')
    await publisher.expect_end("e0 [94]")


@conforms(v5="3.3.2-8 3.1.2-26 3.3.2-11 3.1.2-27")
@pytest.mark.parametrize("allowed", ["", "22 0000", "22 0001", "22 ffff"])
async def test_the_broker_uses_no_alias(server: Server, allowed: str) -> None:
    """So neither 0 nor one above what the client allows."""
    subscriber = await server.connected("subscriber", properties=allowed)
    await subscribe(subscriber, 5, "#")
    publisher = await server.connected("publisher")
    await publisher.send("30 [\"a\" [23 0005] '1'] 30 [\"\" [23 0005] '2'] 30 [\"b\" [] '3'] 30 [\"a\" [] '4']")
    await subscriber.expect("30 [\"a\" [] '1'] 30 [\"a\" [] '2'] 30 [\"b\" [] '3'] 30 [\"a\" [] '4']")


@conforms(v5="3.3.2-9 3.2.2-17 3.2.2-18")
@pytest.mark.settings(mqtt={"max_topic_alias": 3})
@pytest.mark.parametrize("alias", ["0004", "0103", "ffff"])
async def test_an_alias_above_what_was_announced(server: Server, alias: str) -> None:
    """0x94, and CONNACK had said 3."""
    publisher, connack = await server.connack("publisher")
    assert bytes_of("22 0003") in connack
    await publisher.send(f'30 ["t" [23 {alias}]]')
    await publisher.expect_end("e0 [94]")


@conforms(v5="3.3.2-9 3.2.2-17 3.2.2-18")
@pytest.mark.settings(mqtt={"max_topic_alias": 0})
async def test_an_alias_where_none_was_announced(server: Server) -> None:
    """CONNACK says nothing of aliases (or 0): each of them is 0x94."""
    publisher, connack = await server.connack("publisher")
    assert connack == bytes_of("20 [00 00 [21 0064 27 00100000]]")
    await publisher.send('30 ["t" [23 0001]]')
    await publisher.expect_end("e0 [94]")


@conforms(v5="3.3.2-12")
@pytest.mark.settings(mqtt={"max_topic_alias": 300})
async def test_every_alias_up_to_the_maximum(server: Server) -> None:
    """All of them can be set, and each keeps its own meaning."""
    subscriber = await server.subscriber("#")
    publisher, connack = await server.connack("publisher")
    assert bytes_of("22 012c") in connack
    await publisher.send("".join(f'30 ["t/{alias}" [23 {alias:04x}]]' for alias in range(1, 301)))
    await publisher.send("".join(f"30 [\"\" [23 {alias:04x}] 'x']" for alias in range(1, 301)))
    await subscriber.expect("".join(f'30 ["t/{alias}" []]' for alias in range(1, 301)))
    await subscriber.expect("".join(f"30 [\"t/{alias}\" [] 'x']" for alias in range(1, 301)))


@conforms(v5="3.3.2-12")
@pytest.mark.parametrize("alias", ["0001", "00ff", "0100", "fffe", "ffff"])
async def test_an_alias_up_to_65535(server: Server, alias: str) -> None:
    """As many as were announced, when that is all there are."""
    subscriber = await server.subscriber("t")
    publisher, connack = await server.connack("publisher")
    assert bytes_of("22 ffff") in connack
    await publisher.send(f"30 [\"t\" [23 {alias}] '1'] 30 [\"\" [23 {alias}] '2']")
    await subscriber.expect("30 [\"t\" [] '1'] 30 [\"t\" [] '2']")


@conforms(v5="3.3.4-2 3.3.4-3 3.3.4-4")
async def test_one_copy_with_all_subscription_identifiers(server: Server) -> None:
    """Those of the subscriptions that match and have one, each once; the highest QoS."""
    subscriber = await server.connected("subscriber")
    await subscribe(subscriber, 5, "a/+", "01", "0b 05")
    await subscribe(subscriber, 5, "a/b", "02", "0b ffffff7f")
    await subscribe(subscriber, 5, "a/#", "00")
    await subscribe(subscriber, 5, "c", "02", "0b 07")
    publisher = await server.connected("publisher")
    await publisher.send("34 [\"a/b\" 0009 [] 'x'] 34 [\"a/c\" 000a [] 'y'] 34 [\"a\" 000b [] 'z']")
    first, second = "0b 05", "0b ffffff7f"
    packet = await subscriber.packet()
    assert packet in [bytes_of(f"34 [\"a/b\" 0001 [{both}] 'x']") for both in (first + second, second + first)]
    await subscriber.expect("32 [\"a/c\" 0002 [0b 05] 'y'] 30 [\"a\" [] 'z']")
    await subscriber.expect_nothing()


@conforms(v5="3.3.4-5")
async def test_several_copies_each_with_its_own_identifier(server: Server) -> None:
    """A shared subscription makes a copy of its own."""
    subscriber = await server.connected("subscriber")
    await subscribe(subscriber, 5, "t", "00", "0b 01")
    await subscribe(subscriber, 5, "$share/g/t", "00", "0b 02")
    await subscribe(subscriber, 5, "$share/h/+", "00", "0b 03")
    await subscribe(subscriber, 5, "$share/i/+", "00")
    await publish(await server.connected("publisher"), 5, "t", "x")
    await subscriber.expect_any_order(*(f"30 [\"t\" [{one}] 'x']" for one in ("0b01", "0b02", "0b03", "")))
    await subscriber.expect_nothing()


@conforms(v5="3.3.4-6")
@pytest.mark.parametrize("packet", ['30 ["t" [0b 01]]', '32 ["t" 0001 [0b 01]]', '34 ["t" 0001 [0b 01 0b 02]]'])
async def test_a_subscription_identifier_from_a_client(server: Server, packet: str) -> None:
    """Protocol error, and the message goes to nobody."""
    subscriber = await server.subscriber("#")
    publisher = await server.connected("publisher")
    await publisher.send(packet)
    await publisher.expect_end("e0 [82]")
    await publish(await server.connected("publisher"), 5, "t", "next")
    await subscriber.expect("30 [\"t\" [] 'next']")


@conforms(v5="3.3.4-7")
@pytest.mark.settings(mqtt={"max_awaiting_rel": 2})
@pytest.mark.parametrize("taken", [False, True])
async def test_more_open_than_the_servers_receive_maximum(server: Server, taken: bool) -> None:
    """0x93 for the message that is one too many, which goes to nobody; as many as were announced are fine."""
    subscriber = await server.subscriber("#" if taken else "other", qos=0)
    code = "" if taken else "10"
    publisher, connack = await server.connack("publisher")
    assert bytes_of("21 0002") in connack
    await publisher.send("34 [\"t\" 0001 [] '1'] 34 [\"t\" 0002 [] '2']")
    await publisher.expect(f"50 [0001 {code}] 50 [0002 {code}]")
    await publisher.send("34 [\"t\" 0003 [] '3']")
    await publisher.expect_end("e0 [93]")
    if taken:
        await subscriber.expect("30 [\"t\" [] '1'] 30 [\"t\" [] '2']")
    await subscriber.expect_nothing()


@conforms(v5="3.3.4-9 3.3.4-10 4.9.0-1 4.9.0-2 4.9.0-3")
@pytest.mark.parametrize("maximum", [1, 2, 5])
async def test_the_clients_receive_maximum(server: Server, maximum: int) -> None:
    """Never more open than that; QoS 0, PINGRESP, SUBACK, UNSUBACK, PUBREL and answers to its own PUBLISH go on."""
    subscriber = await server.connected("subscriber", properties=f"21 {maximum:04x}")
    await subscribe(subscriber, 5, "t", "02")
    publisher = await server.connected("publisher")
    for number in range(maximum + 2):
        await publish(publisher, 5, "t", f"{number}", 2)
    await subscriber.expect("".join(f"34 [\"t\" {number + 1:04x} [] '{number}']" for number in range(maximum)))
    await publish(publisher, 5, "t", "at once")
    await subscriber.expect("30 [\"t\" [] 'at once']")
    await subscriber.send('c000 82 [0001 [] "u" 01] a2 [0002 [] "u"] 32 ["u" 0003 []] 34 ["u" 0004 []] 62 [0004]')
    answers = ["d000", "90 [0001 [] 01]", "b0 [0002 [] 00]", "40 [0003 10]", "50 [0004 10]", "70 [0004]"]
    await subscriber.expect_any_order(*answers)
    await subscriber.send("50 [0001]")
    await subscriber.expect("62 [0001]")
    await subscriber.expect_nothing()
    await subscriber.send("70 [0001]")
    await subscriber.expect(f"34 [\"t\" {maximum + 1:04x} [] '{maximum}']")
    await subscriber.expect_nothing()
