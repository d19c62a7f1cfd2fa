"""Topic names and filters: which are well formed, and which name matches which filter.

Invariant: for each filter all names are published, those that match and those that do not, and exactly the former come.
"""

from __future__ import annotations

import pytest
from conformance.connecting import LEVELS, ended, nothing_for, section
from conformance.peer import Peer, Server
from conformance.statement import conforms

# No filter with a wildcard in front matches it, so it tells when everything else is through.
END = "$end"

WHOLE = pytest.mark.parametrize("transport", ["tcp", "websocket"])  # where a byte at a time takes too long


async def expect_matches(server: Server, level: int, topic_filter: str, matching: list[str], others: list[str]) -> None:
    peer = await server.connected("c", level)
    await peer.send(f'82 [0001 {section(level)} "{topic_filter}" 00 "{END}" 00]')
    await peer.expect(f"90 [0001 {section(level)} 00 00]")
    publisher = await server.connected("publisher", level)
    for topic in [*others, *matching, *others, END]:
        await publisher.send(f"30 [\"{topic}\" {section(level)} 'x']")
    for topic in [*matching, END]:
        await peer.expect(f"30 [\"{topic}\" {section(level)} 'x']")


async def expect_refused(peer: Peer, level: int, topic_filter: str) -> None:
    """SUBACK says no, and UNSUBSCRIBE finds nothing to end."""
    await peer.send(f'82 [0001 {section(level)} "{topic_filter}" 01]')
    await peer.expect(f"90 [0001 {section(level)} {'8f' if level == 5 else '80'}]")
    await peer.send(f'a2 [0002 {section(level)} "{topic_filter}"]')
    await peer.expect(f"b0 [0002 {'[] 11' if level == 5 else ''}]")


@conforms(v311="4.7.1-1", v5="4.7.0-1")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("topic", ["#", "+", "a/#", "a/+", "+/b", "a#", "a+b", "a/#/b", "$SYS/#"])
async def test_no_wildcards_in_names(server: Server, level: int, topic: str) -> None:
    """A PUBLISH to a name with a wildcard anywhere ends the connection, and is delivered to nobody."""
    peer = await server.subscriber("#", level=level)
    for first, identifier in (("30", ""), ("33", "0001"), ("34", "0001")):
        publisher = await server.connected("publisher", level)
        await publisher.send(f"{first} [\"{topic}\" {identifier} {section(level)} 'x']")
        await publisher.expect_end(ended(level, 0x90))
    await peer.send(f"30 [\"end\" {section(level)} 'x']")
    await peer.expect(f"30 [\"end\" {section(level)} 'x']")


@conforms(v311="4.7.1-2", v5="4.7.1-1", edge="subscribing-10")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("topic_filter", "matching", "others"),
    [
        ("#", ["a", "a/b", "/", "//", "/a", "a/"], []),
        ("a/#", ["a", "a/", "a/b", "a//", "a/b/c"], ["b", "/a", "ab", "ab/c", "b/a", "A", "A/b", "/a/b"]),
        ("/#", ["/", "/a", "//", "/a/b"], ["a", "a/", "a/b"]),
        ("a/b/#", ["a/b", "a/b/", "a/b/c", "a/b/c/d"], ["a", "a/", "a/c", "a/bc", "b/a/b"]),
        ("a//#", ["a/", "a//", "a//b"], ["a", "a/b", "a/b/", "/"]),
        ("+/#", ["a", "a/b", "/", "/a", "a/", "//"], []),
        ("a/+/#", ["a/", "a/b", "a//", "a/b/c"], ["a", "b/c", "/a"]),
    ],
)
async def test_multi_level_wildcard(
    server: Server, level: int, topic_filter: str, matching: list[str], others: list[str]
) -> None:
    """`#` stands for any number of levels, none included."""
    await expect_matches(server, level, topic_filter, matching, others)


@conforms(v311="4.7.1-2", v5="4.7.1-1")
@pytest.mark.parametrize("level", LEVELS)
async def test_where_the_multi_level_wildcard_may_stand(server: Server, level: int) -> None:
    """`#` is a level of its own, and the last: everything else is refused and is no subscription."""
    peer = await server.connected("c", level)
    for topic_filter in ("a#", "a/b#", "#/", "#/a", "a/#/b", "a/#/#", "##", "#a", "a/#b", "+#", "a/#/", "$#"):
        await expect_refused(peer, level, topic_filter)
    for topic in ("a", "a/b", "a/b/c", "b", "/"):
        await peer.send(f"30 [\"{topic}\" {section(level)} 'x']")
    await nothing_for(peer)


@conforms(v311="4.7.1-3", v5="4.7.1-2", edge="subscribing-10")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("topic_filter", "matching", "others"),
    [
        ("+", ["a", "a b", "aa"], ["a/b", "/", "/a", "a/"]),
        ("a/+", ["a/b", "a/", "a/c"], ["a", "a/b/c", "a//", "b/a", "A/b", "/a/b", "a /b"]),
        ("/+", ["/a", "/"], ["a", "a/b", "//", "/a/b", "a/"]),
        ("+/+", ["/a", "a/", "/", "a/b"], ["a", "a/b/c", "//"]),
        ("+/b", ["a/b", "/b", "b/b"], ["b", "a/b/", "a/b/c", "a/B", "/a/b", "a/bb"]),
        ("a/+/c", ["a/b/c", "a//c", "a/c/c"], ["a/c", "a/b/b/c", "a/b/c/", "a/b/cc", "a/b"]),
        ("+/b/+", ["a/b/c", "/b/", "/b/c", "a/b/"], ["a/b", "b", "a//c", "/b", "a/b/c/d"]),
    ],
)
async def test_single_level_wildcard(
    server: Server, level: int, topic_filter: str, matching: list[str], others: list[str]
) -> None:
    """`+` stands for exactly one level, which may be empty."""
    await expect_matches(server, level, topic_filter, matching, others)


@conforms(v311="4.7.1-3", v5="4.7.1-2")
@pytest.mark.parametrize("level", LEVELS)
async def test_where_the_single_level_wildcard_may_stand(server: Server, level: int) -> None:
    """`+` is a whole level: everything else is refused and is no subscription."""
    peer = await server.connected("c", level)
    for topic_filter in ("a+", "+a", "a/b+", "a/+b/c", "++", "+/a+", "a+/b", "a/b+/#", "$+", "#+"):
        await expect_refused(peer, level, topic_filter)
    for topic in ("a", "ab", "a/b", "a/bb/c", "a/bb"):
        await peer.send(f"30 [\"{topic}\" {section(level)} 'x']")
    await nothing_for(peer)


@conforms(v311="4.7.2-1", v5="4.7.2-1", edge="subscribing-11")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("topic_filter", "matching", "others"),
    [
        ("#", ["a", "a/$b"], ["$a", "$", "$a/b", "$SYS/x"]),
        ("+", ["a", " $a"], ["$a", "$"]),
        ("+/x", ["a/x", "/x"], ["$a/x", "$SYS/x", "$/x"]),
        ("+/#", ["a", "a/x", "/$x"], ["$a", "$a/x", "$SYS/x"]),
        ("$a/#", ["$a", "$a/", "$a/x", "$a/x/y"], ["a", "a/x", "$ab", "$A"]),
        ("$a/+", ["$a/x", "$a/", "$a/$x"], ["$a", "a/x", "$a/x/y"]),
        ("a/+", ["a/$x", "a/$"], ["$a/x", "$x"]),
        ("/+", ["/$x"], ["$/x"]),
        ("$a", ["$a"], ["$A", "$a/", "a"]),
    ],
)
async def test_names_with_a_dollar_in_front(
    server: Server, level: int, topic_filter: str, matching: list[str], others: list[str]
) -> None:
    """A wildcard in front does not match them; the same name or `$` in the filter does."""
    await expect_matches(server, level, topic_filter, matching, others)


@conforms(v311="4.7.2-1", v5="4.7.2-1", edge="subscribing-11")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("topic_filter", "topics"),
    [
        ("#", ["x", "x/y"]),
        ("+", ["x"]),
        ("+/y", ["x/y"]),
        ("$a/#", ["$a", "$a/y"]),
        ("$a/+", ["$a/y"]),
        ("$a", ["$a"]),
    ],
)
async def test_retained_messages_with_a_dollar_in_front(
    server: Server, level: int, topic_filter: str, topics: list[str]
) -> None:
    """The same rule decides which retained messages a new subscription brings."""
    peer = await server.connected("c", level)
    for number, topic in enumerate(["x", "x/y", "$a", "$a/y"], 1):
        await peer.send(f"33 [\"{topic}\" {number:04x} {section(level)} 'x']")
        await peer.expect(f"40 [{number:04x} {'10' if level == 5 else ''}]")
    await peer.send(f'82 [0001 {section(level)} "{topic_filter}" 00]')
    await peer.expect(f"90 [0001 {section(level)} 00]")
    await peer.expect_any_order(*[f"31 [\"{topic}\" {section(level)} 'x']" for topic in topics])
    await nothing_for(peer)


@conforms(v311="4.7.3-1", v5="4.7.3-1")
@pytest.mark.parametrize("level", LEVELS)
async def test_at_least_one_character(server: Server, level: int) -> None:
    """No empty filter, no empty name; one character is enough."""
    peer = await server.connected("c", level)
    await expect_refused(peer, level, "")
    for topic in ("/", " ", "a", r"\u20ac", "$"):
        await peer.send(f'82 [0003 {section(level)} "{topic}" 00]')
        await peer.expect(f"90 [0003 {section(level)} 00]")
        await peer.send(f"30 [\"{topic}\" {section(level)} 'x']")
        await peer.expect(f"30 [\"{topic}\" {section(level)} 'x']")
    await peer.send(f"30 [\"\" {section(level)} 'x']")
    await peer.expect_end(ended(level, 0x82))


@conforms(v311="4.7.3-2", v5="4.7.3-2")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("text", [r"\0", r"a\0", r"\0a", r"a/\0/b"])
async def test_no_nul(server: Server, level: int, text: str) -> None:
    """U+0000 in a name or a filter is malformed."""
    for packet in (
        f"30 [\"{text}\" {section(level)} 'x']",
        f"32 [\"{text}\" 0001 {section(level)} 'x']",
        f'82 [0001 {section(level)} "{text}" 00]',
        f'a2 [0001 {section(level)} "{text}"]',
    ):
        peer = await server.connected("c", level)
        await peer.send(packet)
        await peer.expect_end(ended(level, 0x81))


@conforms(v311="4.7.3-3", v5="4.7.3-3")
@WHOLE
@pytest.mark.parametrize("level", LEVELS)
async def test_the_longest(server: Server, level: int) -> None:
    """65535 bytes are a name and a filter like any other; more cannot be written down."""
    topic = "ab" * 32767 + "c"
    peer = await server.connected("c", level)
    await peer.send(f'82 [0001 {section(level)} "{topic}" 01 "{topic[:-2]}/#" 00 "{topic[:-1]}" 00]')
    await peer.expect(f"90 [0001 {section(level)} 01 00 00]")
    publisher = await server.connected("publisher", level)
    await publisher.send(f"30 [\"{topic[:-1]}d\" {section(level)} 'x']")
    await publisher.send(f"32 [\"{topic}\" 0001 {section(level)} 'x']")
    await publisher.expect("40 [0001]")
    await peer.expect(f"32 [\"{topic}\" 0001 {section(level)} 'x']")
    await peer.send(f'a2 [0002 {section(level)} "{topic}"]')
    await peer.expect(f"b0 [0002 {'[] 00' if level == 5 else ''}]")


@conforms(v311="4.7.3-4", v5="4.7.3-4")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("topic_filter", "others"),
    [
        ("a/b", ["A/b", "a/B", "a/b/", "/a/b", "a//b", " a/b", "a/b ", "a /b", "a/./b", "a%2fb", r"a\\b"]),
        (r"\xe9", [r"e\u0301", r"\xc9", "e"]),
        (r"e\u0301", [r"\xe9", "e"]),
        (r"\u212b", [r"\xc5", r"A\u030a"]),
        (r"\ufb01", ["fi", "FI"]),
        (r"\ufefft", ["t", r"t\ufeff"]),
        (r"stra\xdfe", ["strasse", "STRASSE"]),
        (r"a\xadb", ["ab"]),
    ],
)
async def test_no_normalisation(server: Server, level: int, topic_filter: str, others: list[str]) -> None:
    """Names which a reader, a file system or Unicode would take for the same are not the same."""
    await expect_matches(server, level, topic_filter, [topic_filter], others)
    await expect_matches(server, level, f"+/{topic_filter}", [f"m/{topic_filter}"], [f"m/{it}" for it in others])
