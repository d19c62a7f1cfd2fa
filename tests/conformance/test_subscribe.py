"""SUBSCRIBE and SUBACK: what is refused, what is answered, and what a subscription then brings.

Invariant: a message that must not come is looked for by one published behind it that must.
"""

from __future__ import annotations

import pytest
import trio
from conformance.bytes_of import bytes_of
from conformance.connecting import LEVELS, ended, nothing_for, section
from conformance.peer import Peer, Server
from conformance.statement import conforms


async def publish(peer: Peer, level: int, topic: str, payload: str, qos: int = 0, *, retain: bool = False) -> None:
    """Publish and, above QoS 0, see that the broker has taken it and passed it on."""
    identifier = "1234" if qos else ""
    await peer.send(f"{0x30 | qos << 1 | retain:02x} [\"{topic}\" {identifier} {section(level)} '{payload}']")
    if qos == 1:
        await peer.expect("40 [1234]")
    if qos == 2:
        await peer.expect("50 [1234]")
        await peer.send("62 [1234]")
        await peer.expect("70 [1234]")


def delivered(level: int, topic: str, payload: str, *, qos: int = 0, identifier: int = 0, retain: bool = False) -> str:
    """A PUBLISH to a subscriber, sent for the first time."""
    head = f"{identifier:04x}" if qos else ""
    return f"{0x30 | qos << 1 | retain:02x} [\"{topic}\" {head} {section(level)} '{payload}']"


@conforms(v311="3.8.1-1", v5="3.8.1-1")
@pytest.mark.parametrize("level", LEVELS)
async def test_flags(server: Server, level: int) -> None:
    """The lower four bits of the first byte are 0010 and nothing else."""
    for flags in sorted(set(range(16)) - {2}):
        peer = await server.connected("c", level)
        await peer.send(f'{0x80 | flags:02x} [0001 {section(level)} "t" 00]')
        await peer.expect_end(ended(level, 0x81))


@conforms(v311="3.8.3-1", v5="3.8.3-1")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "topic_filter",
    ["{ff}", "{c080}", r'"\ud800"', "{f4908080}", r'"a\0b"', "0005 61", "00"],
    ids=["not UTF-8", "overlong", "surrogate", "above U+10FFFF", "U+0000", "cut off", "half a length"],
)
async def test_a_filter_is_a_string(server: Server, level: int, topic_filter: str) -> None:
    """A filter that is no string is malformed, also behind a good one, of which nothing is kept."""
    peer = await server.connected("c", level)
    await peer.send(f'82 [0001 {section(level)} "good" 00 {topic_filter}]')
    await peer.expect_end(ended(level, 0x81))


@conforms(v311="3.8.3-1", v5="3.8.3-1")
@pytest.mark.parametrize("level", LEVELS)
async def test_a_filter_has_options(server: Server, level: int) -> None:
    """A filter without its byte of options is malformed."""
    peer = await server.connected("c", level)
    await peer.send(f'82 [0001 {section(level)} "a" 00 "b"]')
    await peer.expect_end(ended(level, 0x81))


@conforms(v311="3.8.3-2", v5="3.8.3-2")
@pytest.mark.settings(mqtt={"wildcard_subscription": False})
@pytest.mark.parametrize("level", LEVELS)
async def test_without_wildcards(server: Server, level: int) -> None:
    """Where wildcards are switched off, filters with them are refused one by one and match nothing; others stand."""
    peer = await server.connected("c", level)
    await peer.send(f'82 [0001 {section(level)} "#" 02 "a" 01 "+" 00 "a/#" 00 "+/b" 01]')
    refusal = "a2" if level == 5 else "80"
    await peer.expect(f"90 [0001 {section(level)} {refusal} 01 {refusal} {refusal} {refusal}]")
    for topic in ("b", "a/b", "a"):
        await publish(peer, level, topic, "x")
    await peer.expect(delivered(level, "a", "x"))


@conforms(v311="3.8.3-3", v5="3.8.3-2")
@pytest.mark.parametrize("level", LEVELS)
async def test_no_filter(server: Server, level: int) -> None:
    """A SUBSCRIBE without a filter is a protocol error."""
    peer = await server.connected("c", level)
    await peer.send(f"82 [0001 {section(level)}]")
    await peer.expect_end(ended(level, 0x82))


@conforms(v311="3.8.3-4")
@pytest.mark.parametrize("options", ["03", "04", "08", "10", "20", "40", "80", "fd"])
async def test_options_of_311(server: Server, options: str) -> None:
    """In 3.1.1 the options are a QoS from 0 to 2 and nothing else, for each filter."""
    for filters in (f'"a" {options}', f'"a" 01 "b" {options}'):
        peer = await server.connected("c", 4)
        await peer.send(f"82 [0001 {filters}]")
        await peer.expect_end()


@conforms(v5="3.8.3-5")
@pytest.mark.parametrize(
    ("options", "code"), [("40", 0x81), ("80", 0x81), ("c1", 0x81), ("03", 0x82), ("0f", 0x82), ("30", 0x82)]
)
async def test_options_of_5(server: Server, options: str, code: int) -> None:
    """Reserved bits are malformed; QoS 3 and retain handling 3 are protocol errors."""
    for filters in (f'"a" {options}', f'"a" 01 "b" {options}'):
        peer = await server.connected("c", 5)
        await peer.send(f"82 [0001 [] {filters}]")
        await peer.expect_end(ended(5, code))


@conforms(v5="3.8.3-5")
async def test_options_that_are_allowed(server: Server) -> None:
    """Every other combination of QoS, no local, retain as published and retain handling is granted with its QoS."""
    peer = await server.connected("c", 5)
    for options in range(0x30):
        if options & 3 == 3:
            continue
        await peer.send(f'82 [0001 [] "t" {options:02x}]')
        await peer.expect(f"90 [0001 [] {options & 3:02x}]")


@conforms(v5="3.8.3-3")
async def test_no_local(server: Server) -> None:
    """No local: what this client publishes does not come back to it, what others publish does."""
    peer = await server.connected("c")
    other = await server.connected("other")
    await peer.send('82 [0001 [] "t" 05 "all" 01]')
    await peer.expect("90 [0001 [] 01 01]")
    await peer.send("30 [\"t\" [] 'own'] 32 [\"t\" 0007 [] 'own'] 30 [\"all\" [] 'own']")
    # There is a subscription that matches, so the broker does not say 0x10.
    await peer.expect_any_order("40 [0007]", delivered(5, "all", "own"))
    await publish(other, 5, "t", "not own", 1)
    await peer.expect(delivered(5, "t", "not own", qos=1, identifier=1))


@conforms(v5="3.8.3-4")
async def test_no_local_on_a_shared_subscription(server: Server) -> None:
    """A protocol error, also behind a good filter."""
    for filters in ('"$share/g/t" 04', '"a" 00 "$share/g/t" 05'):
        peer = await server.connected("c")
        await peer.send(f"82 [0001 [] {filters}]")
        await peer.expect_end(ended(5, 0x82))


@conforms(v311="3.8.4-1 3.8.4-2", v5="3.8.4-1 3.8.4-2")
@pytest.mark.parametrize("level", LEVELS)
async def test_the_identifier_comes_back(server: Server, level: int) -> None:
    """SUBACK has the identifier of its SUBSCRIBE, whichever and however often."""
    peer = await server.connected("c", level)
    for identifier in ("0001", "00ff", "0100", "ffff", "0001"):
        await peer.send(f'82 [{identifier} {section(level)} "t" 01]')
        await peer.expect(f"90 [{identifier} {section(level)} 01]")


@conforms(v311="3.8.4-1 3.8.4-2", v5="3.8.4-1 3.8.4-2")
@pytest.mark.parametrize("level", LEVELS)
async def test_many_at_once(server: Server, level: int) -> None:
    """Each of several SUBSCRIBEs in one piece has its answer, in their order."""
    peer = await server.connected("c", level)
    await peer.send("".join(f'82 [{number:04x} {section(level)} "t/{number}" 01]' for number in range(1, 21)))
    for number in range(1, 21):
        await peer.expect(f"90 [{number:04x} {section(level)} 01]")


@conforms(v311="3.8.4-3", v5="3.8.4-3 3.8.4-4")
@pytest.mark.parametrize("level", LEVELS)
async def test_the_same_filter_again(server: Server, level: int) -> None:
    """It takes the place of the old subscription: the new QoS, retained messages again, and one copy of each."""
    publisher = await server.connected("publisher", level)
    await publisher.send(f"33 [\"t\" 0001 {section(level)} 'kept']")
    await publisher.expect("40 [0001 10]" if level == 5 else "40 [0001]")
    peer = await server.connected("c", level)
    identifier = 0
    for qos in (0, 1, 0):
        await peer.send(f'82 [0001 {section(level)} "t" {qos:02x}]')
        await peer.expect(f"90 [0001 {section(level)} {qos:02x}]")
        identifier += qos
        await peer.expect(delivered(level, "t", "kept", qos=qos, identifier=identifier, retain=True))
        for payload in ("1", "2"):
            await publish(publisher, level, "t", payload, 2)
            identifier += qos
            await peer.expect(delivered(level, "t", payload, qos=qos, identifier=identifier))


@conforms(v311="3.8.4-3", v5="3.8.4-3 3.8.4-4")
@pytest.mark.parametrize("level", LEVELS)
async def test_nothing_is_lost_meanwhile(server: Server, level: int) -> None:
    """What is published while a subscription is replaced again and again comes once and in order."""
    count = 60
    peer = await server.subscriber("t", level=level)
    publisher = await server.connected("publisher", level)

    async def publish_all() -> None:
        for number in range(count):
            await publish(publisher, level, "t", f"{number:03}", number % 2)

    got: list[bytes] = []
    last = bytes_of(delivered(level, "t", f"{count - 1:03}"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish_all)
        while last not in got:
            await peer.send(f'82 [0001 {section(level)} "t" 00]')
            while (packet := await peer.packet()) != bytes_of(f"90 [0001 {section(level)} 00]"):
                got.append(packet)
    assert got == [bytes_of(delivered(level, "t", f"{number:03}")) for number in range(count)]


@conforms(v311="3.8.4-4 3.8.4-5 3.9.3-1", v5="3.8.4-5 3.8.4-6 3.8.4-7 3.9.3-1")
@pytest.mark.parametrize("level", LEVELS)
async def test_several_filters(server: Server, level: int) -> None:
    """One SUBACK with a code for each filter in their order; each subscription is as if it had come alone."""
    peer = await server.connected("c", level)
    publisher = await server.connected("publisher", level)
    refusal = "8f" if level == 5 else "80"
    await peer.send(f'82 [0009 {section(level)} "a" 02 "b#" 00 "b" 00 "c" 01 "+a" 02 "d" 02]')
    await peer.expect(f"90 [0009 {section(level)} 02 {refusal} 00 01 {refusal} 02]")
    identifier = 0
    for topic, qos in (("d", 2), ("b", 0), ("a", 2), ("c", 1)):
        await publish(publisher, level, topic, "x", 2)
        identifier += qos > 0
        await peer.expect(delivered(level, topic, "x", qos=qos, identifier=identifier))
    await nothing_for(peer)


@conforms(v311="3.8.4-4", v5="3.8.4-5")
@pytest.mark.parametrize("level", LEVELS)
async def test_retained_messages_for_several_filters(server: Server, level: int) -> None:
    """Each filter of one SUBSCRIBE brings its retained messages, as several SUBSCRIBEs would."""
    peer = await server.connected("c", level)
    for topic in ("a", "b/c"):
        await publish(peer, level, topic, "kept", retain=True)
    await peer.send(f'82 [0009 {section(level)} "a" 00 "none" 00 "b/+" 00 "+" 00]')
    await peer.expect(f"90 [0009 {section(level)} 00 00 00 00]")
    kept = delivered(level, "a", "kept", retain=True)
    await peer.expect_any_order(kept, delivered(level, "b/c", "kept", retain=True), kept)
    await nothing_for(peer)


@conforms(v311="3.8.4-6", v5="3.8.4-8")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("granted", [0, 1, 2])
async def test_delivered_qos(server: Server, level: int, granted: int) -> None:
    """The smaller of the QoS published and the QoS granted."""
    peer = await server.subscriber("t", level=level, qos=granted)
    publisher = await server.connected("publisher", level)
    identifier = 0
    for published in (0, 1, 2):
        await publish(publisher, level, "t", "x", published)
        qos = min(published, granted)
        identifier += qos > 0
        await peer.expect(delivered(level, "t", "x", qos=qos, identifier=identifier))
    await nothing_for(peer)


@conforms(v311="3.8.4-6", v5="3.8.4-8")
@pytest.mark.settings(mqtt={"max_qos_allowed": 1})
@pytest.mark.parametrize("level", LEVELS)
async def test_less_is_granted(server: Server, level: int) -> None:
    """Where the broker grants less than was asked for, what it granted counts."""
    peer = await server.connected("c", level)
    await peer.send(f'82 [0001 {section(level)} "t" 02]')
    await peer.expect(f"90 [0001 {section(level)} 01]")
    await publish(peer, level, "t", "x", 0)
    await peer.expect(delivered(level, "t", "x"))
    await peer.send(f"32 [\"t\" 1234 {section(level)} 'y']")
    await peer.expect_any_order("40 [1234]", delivered(level, "t", "y", qos=1, identifier=1))


@conforms(v311="3.9.3-2", v5="3.9.3-2")
@pytest.mark.settings(mqtt={"max_subscriptions": 2, "max_topic_levels": 3, "shared_subscription": False})
@pytest.mark.parametrize("level", LEVELS)
async def test_codes_of_suback(server: Server, level: int) -> None:
    """Whatever the reason, 3.1.1 says 0x80 and 5.0 a code of its table; what was refused is no subscription."""
    peer = await server.connected("c", level)
    filters = ["ok", "a#", "$share/g/t", "$share/g", "a/b/c/d", "a/b/c", "one/more", ""]
    codes = ["00", "8f", "9e", "8f", "8f", "00", "97", "8f"]
    await peer.send(f"82 [0001 {section(level)} " + " 00 ".join(f'"{one}"' for one in filters) + " 00]")
    shown = codes if level == 5 else ["00" if code == "00" else "80" for code in codes]
    await peer.expect(f"90 [0001 {section(level)} {' '.join(shown)}]")
    for topic in ("one/more", "a", "t", "ok"):
        await publish(peer, level, topic, "x")
    await peer.expect(delivered(level, "ok", "x"))


@conforms(v5="3.9.2-1 3.9.2-2")
@pytest.mark.parametrize("limit", [16, 100, 0])
async def test_suback_is_not_too_large(server: Server, limit: int) -> None:
    """A client with room for the codes and nothing else gets them: no reason string, no user property."""
    peer = await server.connected("c", properties=f"27 {limit:08x}" if limit else "")
    await peer.send('82 [0001 [26 "name" "value"] ' + '"a#" 01 ' * 11 + "]")
    await peer.expect("90 [0001 [] 8f * 11]")
    await nothing_for(peer)
