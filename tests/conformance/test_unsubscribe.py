"""UNSUBSCRIBE and UNSUBACK: what is refused, what is answered, what ends and what goes on.

Invariant: a message that must not come is looked for by one published behind it that must.
"""

from __future__ import annotations

import pytest
from conformance.connecting import LEVELS, ended, nothing_for, section
from conformance.peer import Peer, Server
from conformance.statement import conforms

SESSION = "11 00000e10"  # an hour


def codes(level: int, text: str) -> str:
    """What stands behind the identifier in UNSUBACK; in 3.1.1 nothing does."""
    return f"[] {text}" if level == 5 else ""


async def publish(peer: Peer, level: int, topic: str, payload: str) -> None:
    await peer.send(f"30 [\"{topic}\" {section(level)} '{payload}']")


def delivered(level: int, topic: str, payload: str) -> str:
    return f"30 [\"{topic}\" {section(level)} '{payload}']"


async def durable(server: Server, level: int) -> Peer:
    """A client whose session outlives its connection."""
    return await server.connected("c", level, clean=False, properties=SESSION if level == 5 else "")


@conforms(v311="3.10.1-1", v5="3.10.1-1")
@pytest.mark.parametrize("level", LEVELS)
async def test_flags(server: Server, level: int) -> None:
    """The lower four bits of the first byte are 0010 and nothing else."""
    for flags in sorted(set(range(16)) - {2}):
        peer = await server.connected("c", level)
        await peer.send(f'{0xA0 | flags:02x} [0001 {section(level)} "t"]')
        await peer.expect_end(ended(level, 0x81))


@conforms(v311="3.10.3-1", v5="3.10.3-1")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "topic_filter",
    ["{ff}", "{c080}", r'"\ud800"', "{f4908080}", r'"a\0b"', "0005 61", "00"],
    ids=["not UTF-8", "overlong", "surrogate", "above U+10FFFF", "U+0000", "cut off", "half a length"],
)
async def test_a_filter_is_a_string(server: Server, level: int, topic_filter: str) -> None:
    """A filter that is no string is malformed, also behind a good one."""
    peer = await server.connected("c", level)
    await peer.send(f'a2 [0001 {section(level)} "good" {topic_filter}]')
    await peer.expect_end(ended(level, 0x81))


@conforms(v311="3.10.3-2", v5="3.10.3-2")
@pytest.mark.parametrize("level", LEVELS)
async def test_no_filter(server: Server, level: int) -> None:
    """An UNSUBSCRIBE without a filter is a protocol error."""
    peer = await server.connected("c", level)
    await peer.send(f"a2 [0001 {section(level)}]")
    await peer.expect_end(ended(level, 0x82))


@conforms(v311="3.10.4-1", v5="3.10.4-1")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("topic_filter", "others", "topic"),
    [
        ("a/+", ["a/b", "a/#", "A/+", "a/+/", "/a/+", "a/+ ", "+/+", "a/", "#", ""], "a/b"),
        ("a/b", ["a/+", "a/B", "a/b/", "a//b", "a/b/#", "a/b#", " a/b", "a"], "a/b"),
        ("#", ["+", "/#", "$SYS/#", "a"], "a"),
        # One character in two ways of writing it.
        (r"caf\xe9", [r"cafe\u0301", "cafe"], r"caf\xe9"),
        (r"\ufefft", ["t", r"t\ufeff"], r"\ufefft"),
    ],
)
async def test_character_by_character(
    server: Server, level: int, topic_filter: str, others: list[str], topic: str
) -> None:
    """Filters that mean, match or look the same end nothing; the very same filter does."""
    peer = await server.subscriber(topic_filter, level=level)
    await peer.send(f"a2 [0001 {section(level)} " + " ".join(f'"{other}"' for other in others) + "]")
    await peer.expect(f"b0 [0001 {codes(level, '11 ' * len(others))}]")
    await publish(peer, level, topic, "x")
    await peer.expect(delivered(level, topic, "x"))
    await peer.send(f'a2 [0002 {section(level)} "{topic_filter}"]')
    await peer.expect(f"b0 [0002 {codes(level, '00')}]")
    await publish(peer, level, topic, "x")
    await nothing_for(peer)


@conforms(v311="3.10.4-2", v5="3.10.4-2")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_no_new_messages(server: Server, level: int, qos: int) -> None:
    """What is published after UNSUBACK is not sent for that filter, and still is for the others."""
    peer = await server.subscriber("t/+", level=level, qos=qos)
    await peer.send(f'82 [0001 {section(level)} "end" 00]')
    await peer.expect(f"90 [0001 {section(level)} 00]")
    publisher = await server.connected("publisher", level)
    await publish(publisher, level, "t/1", "before")
    await peer.expect(delivered(level, "t/1", "before"))
    await peer.send(f'a2 [0002 {section(level)} "t/+"]')
    await peer.expect(f"b0 [0002 {codes(level, '00')}]")
    for first, identifier in (("30", ""), ("32", "0001"), ("34", "0002")):
        await publisher.send(f"{first} [\"t/1\" {identifier} {section(level)} 'after']")
    await publish(publisher, level, "end", "x")
    await peer.expect(delivered(level, "end", "x"))


@conforms(v311="3.10.4-2", v5="3.10.4-2")
@pytest.mark.parametrize("level", LEVELS)
async def test_no_new_messages_after_coming_back(server: Server, level: int) -> None:
    """A subscription that was ended does not come back with its session."""
    peer = await durable(server, level)
    await peer.send(f'82 [0001 {section(level)} "t" 01 "end" 00]')
    await peer.expect(f"90 [0001 {section(level)} 01 00]")
    await peer.send(f'a2 [0002 {section(level)} "t"]')
    await peer.expect(f"b0 [0002 {codes(level, '00')}]")
    await peer.send("e000")
    await peer.expect_end()
    publisher = await server.connected("publisher", level)
    await publisher.send(f"32 [\"t\" 0001 {section(level)} 'away']")
    await publisher.expect("40 [0001 10]" if level == 5 else "40 [0001]")
    back = await durable(server, level)
    await publish(publisher, level, "t", "back")
    await publish(publisher, level, "end", "x")
    await back.expect(delivered(level, "end", "x"))


@conforms(v311="3.10.4-3", v5="3.10.4-3")
@pytest.mark.parametrize("level", LEVELS)
async def test_deliveries_that_have_begun(server: Server, level: int) -> None:
    """QoS 1 and QoS 2 deliveries that have begun go to their end, whatever has been ended meanwhile."""
    peer = await server.subscriber("t", level=level, qos=2)
    publisher = await server.connected("publisher", level)
    await publisher.send(f"34 [\"t\" 0001 {section(level)} 'a'] 34 [\"t\" 0002 {section(level)} 'b']")
    await peer.expect(f"34 [\"t\" 0001 {section(level)} 'a'] 34 [\"t\" 0002 {section(level)} 'b']")
    await peer.send("50 [0001]")
    await peer.expect("62 [0001]")
    await peer.send(f'a2 [0001 {section(level)} "t"]')
    await peer.expect(f"b0 [0001 {codes(level, '00')}]")
    await peer.send("70 [0001] 50 [0002]")
    await peer.expect("62 [0002]")
    await peer.send("70 [0002]")
    await nothing_for(peer)


@conforms(v311="3.10.4-3", v5="3.10.4-3")
@pytest.mark.parametrize("level", LEVELS)
async def test_deliveries_that_have_begun_go_on_later(server: Server, level: int) -> None:
    """So do they when the client is away in between: sent again, with their identifiers, in their order."""
    peer = await durable(server, level)
    await peer.send(f'82 [0001 {section(level)} "t" 02]')
    await peer.expect(f"90 [0001 {section(level)} 02]")
    publisher = await server.connected("publisher", level)
    await publisher.send(f"32 [\"t\" 0001 {section(level)} 'a'] 34 [\"t\" 0002 {section(level)} 'b']")
    await publisher.send(f"34 [\"t\" 0003 {section(level)} 'c']")
    await peer.expect(f"32 [\"t\" 0001 {section(level)} 'a'] 34 [\"t\" 0002 {section(level)} 'b']")
    await peer.expect(f"34 [\"t\" 0003 {section(level)} 'c']")
    await peer.send("50 [0003]")
    await peer.expect("62 [0003]")
    await peer.send(f'a2 [0001 {section(level)} "t"]')
    await peer.expect(f"b0 [0001 {codes(level, '00')}]")
    await peer.break_off()
    back = await durable(server, level)
    await back.expect(f"3a [\"t\" 0001 {section(level)} 'a'] 3c [\"t\" 0002 {section(level)} 'b'] 62 [0003]")
    await back.send("40 [0001] 50 [0002] 70 [0003]")
    await back.expect("62 [0002]")
    await back.send("70 [0002]")
    await nothing_for(back)


@conforms(v311="3.10.4-4 3.10.4-5", v5="3.10.4-4 3.10.4-5")
@pytest.mark.parametrize("level", LEVELS)
async def test_always_an_answer(server: Server, level: int) -> None:
    """UNSUBACK has the identifier of its UNSUBSCRIBE, also where there was no subscription."""
    peer = await server.connected("c", level)
    for identifier in ("0001", "00ff", "0100", "ffff", "0001"):
        await peer.send(f'a2 [{identifier} {section(level)} "t"]')
        await peer.expect(f"b0 [{identifier} {codes(level, '11')}]")
    for identifier, code in (("8000", "00"), ("8000", "11")):
        if code == "00":
            await peer.send(f'82 [{identifier} {section(level)} "t" 00]')
            await peer.expect(f"90 [{identifier} {section(level)} 00]")
        await peer.send(f'a2 [{identifier} {section(level)} "t"]')
        await peer.expect(f"b0 [{identifier} {codes(level, code)}]")


@conforms(v311="3.10.4-6", v5="3.10.4-6")
@pytest.mark.parametrize("level", LEVELS)
async def test_several_filters(server: Server, level: int) -> None:
    """Each filter of one UNSUBSCRIBE ends its subscription, and there is one UNSUBACK for them all."""
    peer = await server.connected("c", level)
    await peer.send(f'82 [0001 {section(level)} "a" 00 "b" 00 "c" 00 "d/#" 00]')
    await peer.expect(f"90 [0001 {section(level)} 00 00 00 00]")
    await peer.send(f'a2 [0007 {section(level)} "a" "none" "d/#" "c" "a"]')
    await peer.expect(f"b0 [0007 {codes(level, '00 11 00 00 11')}]")
    for topic in ("a", "d", "c", "d/e", "b"):
        await publish(peer, level, topic, "x")
    await peer.expect(delivered(level, "b", "x"))
    await nothing_for(peer)


@conforms(v5="3.11.3-1 3.11.3-2")
async def test_codes_of_unsuback(server: Server) -> None:
    """A code for each filter, in their order: 0x00 where there was a subscription, 0x11 where there was none."""
    peer = await server.connected("c")
    await peer.send('82 [0001 [] "1" 00 "3" 02 "$share/g/5" 01]')
    await peer.expect("90 [0001 [] 00 02 01]")
    # What can be no filter was never subscribed to, so there is nothing to end.
    filters = ["0", "1", "2", "3", "3", "5", "$share/g/5", "$share/h/5", "a#", "$share/g", ""]
    await peer.send("a2 [0002 [] " + " ".join(f'"{one}"' for one in filters) + "]")
    await peer.expect("b0 [0002 [] 11 00 11 00 11 11 00 11 11 11 11]")
    await peer.send("a2 [0003 [] " + '"x" ' * 300 + "]")
    await peer.expect("b0 [0003 [] 11 * 300]")


@conforms(v5="3.11.2-1 3.11.2-2")
@pytest.mark.parametrize("limit", [16, 100, 0])
async def test_unsuback_is_not_too_large(server: Server, limit: int) -> None:
    """A client with room for the codes and nothing else gets them: no reason string, no user property."""
    peer = await server.connected("c", properties=f"27 {limit:08x}" if limit else "")
    await peer.send('a2 [0001 [26 "name" "value"] ' + '"t" ' * 11 + "]")
    await peer.expect("b0 [0001 [] 11 * 11]")
    await nothing_for(peer)
