"""Shared subscriptions: who is a member of what, who gets which message, and what becomes of one that was begun.

Invariant: every member also has a subscription of its own to END, so what it got before END is all it got.
"""

from __future__ import annotations

import pytest
import trio
from conformance.bytes_of import bytes_of
from conformance.connecting import LEVELS, nothing_for, section, settled
from conformance.in_memory import in_memory
from conformance.peer import Peer, Server
from conformance.statement import conforms
from trio.testing import MockClock

END = "end"
SESSION = "11 00000e10"  # an hour


async def subscribe(peer: Peer, topic_filter: str, options: int = 0, level: int = 5) -> None:
    await peer.send(f'82 [fffe {section(level)} "{topic_filter}" {options:02x}]')
    await peer.expect(f"90 [fffe {section(level)} {options & 3:02x}]")


async def member(server: Server, client_id: str, topic_filter: str, qos: int = 0, properties: str = "") -> Peer:
    peer = await server.connected(client_id, properties=properties)
    await subscribe(peer, END)
    await subscribe(peer, topic_filter, qos)
    return peer


async def publish(peer: Peer, *payloads: str, topic: str = "t", qos: int = 0, level: int = 5) -> None:
    """Publish, and see that the broker has passed it on."""
    for payload in payloads:
        identifier = "1234" if qos else ""
        await peer.send(f"{0x30 | qos << 1:02x} [\"{topic}\" {identifier} {section(level)} '{payload}']")
        if qos == 1:
            await peer.expect("40 [1234]")
        if qos == 2:
            await peer.expect("50 [1234]")
            await peer.send("62 [1234]")
            await peer.expect("70 [1234]")


async def expect_no_more(publisher: Peer, *members: Peer) -> None:
    """Nothing has come for these but what was expected."""
    await settled()
    await publish(publisher, "x", topic=END)
    for peer in members:
        await peer.expect(f"30 [\"{END}\" [] 'x']")


async def until_end(peer: Peer) -> list[bytes]:
    got: list[bytes] = []
    while (packet := await peer.packet()) != bytes_of(f"30 [\"{END}\" [] 'x']"):
        got.append(packet)
    return got


def message(payload: str, *, qos: int = 0, identifier: int = 1, dup: bool = False, topic: str = "t") -> str:
    head = f"{identifier:04x}" if qos else ""
    return f"{0x30 | qos << 1 | dup << 3:02x} [\"{topic}\" {head} [] '{payload}']"


@conforms(v5="4.8.2-1 4.8.2-2")
@pytest.mark.parametrize(
    "topic_filter",
    ["$share/", "$share//t", "$share/g", "$share/g/", "$share/+/t", "$share/#/t", "$share/g+/t", "$share/#g/t",
     "$share/g#", "$share/+", "$share/g/t#", "$share/g/#/t", "$share/g/t+"],
)  # fmt: skip
async def test_what_is_no_shared_subscription(server: Server, topic_filter: str) -> None:
    """A share name is not empty and has no wildcard in it, and a filter follows it; else there is no subscription."""
    peer = await server.connected("c")
    await peer.send(f'82 [0001 [] "{topic_filter}" 00 "t" 00]')
    await peer.expect("90 [0001 [] 8f 00]")
    await peer.send(f'a2 [0002 [] "{topic_filter}"]')
    await peer.expect("b0 [0002 [] 11]")
    await publish(peer, "x")
    await peer.expect(message("x"))
    await nothing_for(peer)


@conforms(v5="4.8.2-1 4.8.2-2")
@pytest.mark.parametrize(
    ("topic_filter", "topic"),
    [
        ("$share/g/t", "t"),
        ("$share/g/#", "t/u"),
        ("$share/g/+/u", "t/u"),
        ("$share/g//", "/"),
        ("$share/g//t", "/t"),
        ("$share/g/$a/#", "$a/b"),
        ("$share/$g/t", "t"),
        ("$share/ /t", "t"),
        (r"$share/\u20ac/t", "t"),
        ("$share/$share/t", "t"),
    ],
)
async def test_what_is_one(server: Server, topic_filter: str, topic: str) -> None:
    """Any other characters make a share name; what follows its slash is an ordinary filter, slashes and all."""
    a = await member(server, "a", topic_filter, 1)
    b = await member(server, "b", topic_filter, 1)
    publisher = await server.connected("publisher")
    await publish(publisher, "1", "2", topic=topic, qos=1)
    await publish(publisher, "x", topic=END)
    got = [await until_end(a), await until_end(b)]
    assert got == [[bytes_of(message(it, qos=1, topic=topic))] for it in ("1", "2")]


@conforms(edge="shared-1")
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_one_copy_for_each_group(server: Server, qos: int) -> None:
    """Each group gets a message once, whichever member it is, and its members take turns."""
    a = await member(server, "a", "$share/g/t", qos)
    b = await member(server, "b", "$share/g/t", qos)
    c = await member(server, "c", "$share/g/t", qos)
    publisher = await server.connected("publisher")
    await publish(publisher, "1", "2", "3", "4", "5", "6", qos=qos)
    await publish(publisher, "x", topic=END)
    for peer, payloads in ((a, "14"), (b, "25"), (c, "36")):
        wanted = [message(payload, qos=qos, identifier=number) for number, payload in enumerate(payloads, 1)]
        assert await until_end(peer) == [bytes_of(text) for text in wanted]


@conforms(edge="shared-1")
async def test_groups_are_independent(server: Server) -> None:
    """Another name or another filter is another group, even if it matches the same; ordinary subscriptions are none."""
    filters = ["$share/g/t", "$share/h/t", "$share/G/t", "$share/g/#", "$share/g/+", "t", "#", "$share/g/t/#"]
    peers = [await member(server, f"c{number}", topic_filter) for number, topic_filter in enumerate(filters)]
    publisher = await server.connected("publisher")
    await publish(publisher, "1", "2")
    for peer in peers:
        await peer.expect(f"{message('1')} {message('2')}")
    await publish(publisher, "x", topic="u")
    for number in (3, 4, 6):
        await peers[number].expect(message("x", topic="u"))
    await settled()
    for peer in peers:
        await nothing_for(peer)


@conforms(edge="shared-1")
async def test_a_member_twice_in_the_group_counts_once(server: Server) -> None:
    """Subscribing again to the group replaces the membership; leaving it leaves everything to the others."""
    a = await member(server, "a", "$share/g/t", 1)
    b = await member(server, "b", "$share/g/t", 1)
    await subscribe(a, "$share/g/t", 0)
    publisher = await server.connected("publisher")
    await publish(publisher, "1", "2", "3", "4", qos=1)
    await a.expect(f"{message('1')} {message('3')}")
    await b.expect(f"{message('2', qos=1)} {message('4', qos=1, identifier=2)}")
    await a.send('a2 [0001 [] "$share/g/t"]')
    await a.expect("b0 [0001 [] 00]")
    await publish(publisher, "5", "6", qos=1)
    await b.expect(f"{message('5', qos=1, identifier=3)} {message('6', qos=1, identifier=4)}")
    await expect_no_more(publisher, a, b)


@conforms(v5="4.8.2-3")
async def test_each_its_own_qos(server: Server) -> None:
    """A member gets a message with what it was granted, or with what it was published if that is less."""
    members = [await member(server, f"c{qos}", "$share/g/t", qos) for qos in (0, 1, 2)]
    publisher = await server.connected("publisher")
    identifiers = [0, 0, 0]
    for published in (2, 1, 0):
        for granted, peer in enumerate(members):
            await publish(publisher, "x", qos=published)
            qos = min(published, granted)
            identifiers[granted] += qos > 0
            await peer.expect(message("x", qos=qos, identifier=identifiers[granted]))
    await expect_no_more(publisher, *members)


@conforms(v5="4.8.2-4")
async def test_qos_2_begun_is_finished_with_the_same_member(server: Server) -> None:
    """What one member was sent with QoS 2 waits for it, though others are there; it goes on where it was."""
    a = await member(server, "a", "$share/g/t", 2, SESSION)
    publisher = await server.connected("publisher")
    await publish(publisher, "1", "2", qos=2)
    await a.expect(f"{message('1', qos=2)} {message('2', qos=2, identifier=2)}")
    await a.send("50 [0002]")
    await a.expect("62 [0002]")
    b = await member(server, "b", "$share/g/t", 2)
    await a.break_off()
    await expect_no_more(publisher, b)
    a = await server.connected("a", clean=False, properties=SESSION)
    # The END that was published meanwhile stands behind what was open.
    await a.expect(f"{message('1', qos=2, dup=True)} 62 [0002] 30 [\"{END}\" [] 'x']")
    await a.send("50 [0001] 70 [0002]")
    await a.expect("62 [0001]")
    await a.send("70 [0001]")
    await expect_no_more(publisher, a, b)


@conforms(v5="4.8.2-5")
@pytest.mark.parametrize("answer", ["", "50 [0001]"], ids=["sent", "received"])
@pytest.mark.parametrize("how", ["disconnect", "break off", "clean start"])
async def test_qos_2_ends_with_the_session(server: Server, how: str, answer: str) -> None:
    """When its session ends first, nobody gets a QoS 2 message that one member was sent: no other, no later one."""
    a = await member(server, "a", "$share/g/t", 2, SESSION if how == "clean start" else "")
    publisher = await server.connected("publisher")
    await publish(publisher, "1", qos=2)
    await a.expect(message("1", qos=2))
    if answer:
        await a.send(answer)
        await a.expect("62 [0001]")
    b = await member(server, "b", "$share/g/t", 2)
    if how == "disconnect":
        await a.send("e000")
        await a.expect_end()
    elif how == "break off":
        await a.break_off()
        await settled()
    a = await member(server, "a", "$share/g/t", 2)
    await expect_no_more(publisher, a, b)


@conforms(v5="4.8.2-5", edge="shared-4")
@pytest.mark.parametrize("qos", [1, 2])
async def test_when_the_session_expires(autojump_clock: MockClock, qos: int) -> None:
    """Its time is over: QoS 1 without PUBACK goes to the others (a SHOULD), QoS 2 that was begun to nobody."""
    async with in_memory() as server:
        a = await member(server, "a", "$share/g/t", qos, SESSION)
        publisher = await server.connected("publisher")
        await publish(publisher, "1", qos=qos)
        await a.expect(message("1", qos=qos))
        b = await member(server, "b", "$share/g/t", qos)
        await a.break_off()
        await trio.sleep(3601)
        if qos == 1:
            await b.expect(message("1", qos=qos))
            await b.send("40 [0001]")
        await expect_no_more(publisher, b)
        await publish(publisher, "2", qos=qos)
        await b.expect(message("2", qos=qos, identifier=2 if qos == 1 else 1))
        a = await member(server, "a", "$share/g/t", qos)
        await expect_no_more(publisher, a, b)


@conforms(edge="shared-4")
async def test_qos_1_outlives_the_session(server: Server) -> None:
    """A QoS 1 message without PUBACK goes to another member when the session ends."""
    a = await member(server, "a", "$share/g/t", 1)
    publisher = await server.connected("publisher")
    await publish(publisher, "1", qos=1)
    await a.expect(message("1", qos=1))
    b = await member(server, "b", "$share/g/t", 1)
    await a.send("e000")
    await a.expect_end()
    await b.expect(message("1", qos=1))
    await b.send("40 [0001]")
    await expect_no_more(publisher, b)


@conforms(v5="4.8.2-6")
@pytest.mark.parametrize("code", [0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99])
@pytest.mark.parametrize("qos", [1, 2])
async def test_a_refusal_is_the_end(server: Server, qos: int, code: int) -> None:
    """A message that a member refuses is not sent again, neither to it nor to another."""
    a = await member(server, "a", "$share/g/t", qos, SESSION)
    publisher = await server.connected("publisher")
    await publish(publisher, "1", qos=qos)
    await a.expect(message("1", qos=qos))
    b = await member(server, "b", "$share/g/t", qos)
    await a.send(f"{'40' if qos == 1 else '50'} [0001 {code:02x}]")
    await expect_no_more(publisher, a, b)
    await a.send("e000")
    await a.expect_end()
    a = await server.connected("a", clean=False, properties=SESSION)
    await expect_no_more(publisher, a, b)


@conforms(edge="shared-2")
@pytest.mark.parametrize("handling", [0, 1, 2])
async def test_no_retained_messages(server: Server, handling: int) -> None:
    """A shared subscription brings no retained message, whatever retain handling says; what comes live has retain 0
    or, with retain as published, what its publisher set."""
    publisher = await server.connected("publisher")
    await publisher.send("31 [\"t\" [] 'kept']")
    peer = await server.connected("c")
    await subscribe(peer, END)
    for _ in range(2):
        await subscribe(peer, "$share/g/t", handling << 4)
        await subscribe(peer, "$share/h/t", handling << 4 | 8)
        await expect_no_more(publisher, peer)
    await publisher.send("31 [\"t\" [] 'live']")
    await peer.expect_any_order("30 [\"t\" [] 'live']", "31 [\"t\" [] 'live']")
    await expect_no_more(publisher, peer)


@conforms(edge="shared-3")
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_members_that_are_there_come_first(autojump_clock: MockClock, qos: int) -> None:
    """A member that is away is left out while another is there; when it is back it takes part again."""
    async with in_memory() as server:
        away = await member(server, "away", "$share/g/t", qos, SESSION)
        here = await member(server, "here", "$share/g/t", qos)
        await away.send("e000")
        await away.expect_end()
        await settled()
        publisher = await server.connected("publisher")
        await publish(publisher, "1", "2", "3", qos=qos)
        await here.expect(" ".join(message(str(it), qos=qos, identifier=it) for it in (1, 2, 3)))
        back = await server.connected("away", clean=False, properties=SESSION)
        await expect_no_more(publisher, back, here)
        await publish(publisher, "4", "5", qos=qos)
        await publish(publisher, "x", topic=END)
        counts = [len(await until_end(peer)) for peer in (back, here)]
        assert counts == [1, 1]


@conforms(edge="shared-3")
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_when_all_are_away(autojump_clock: MockClock, qos: int) -> None:
    """When nobody is there, each message waits in one session, once."""
    async with in_memory() as server:
        for client_id in "abc":
            peer = await member(server, client_id, "$share/g/t", qos, SESSION)
            await peer.send("e000")
            await peer.expect_end()
        await settled()
        publisher = await server.connected("publisher")
        await publish(publisher, *"123456", qos=qos)
        await publish(publisher, "x", topic=END)
        got: list[bytes] = []
        for client_id in "abc":
            got += await until_end(await server.connected(client_id, clean=False, properties=SESSION))
        assert sorted(packet[-1:] for packet in got) == [b"1", b"2", b"3", b"4", b"5", b"6"]
        assert {packet[0] for packet in got} == {0x30 | qos << 1}  # none had been sent before: DUP 0


@conforms(edge="shared-5")
@pytest.mark.parametrize("qos", [1, 2])
async def test_a_full_window_does_not_block_the_group(server: Server, qos: int) -> None:
    """While one member acknowledges nothing, the others and those with QoS 0 get their share."""
    slow = await member(server, "slow", "$share/g/t", qos, "21 0001")
    quick = await member(server, "quick", "$share/g/t", qos)
    easy = await member(server, "easy", "$share/g/t", 0)
    publisher = await server.connected("publisher")
    await publish(publisher, *"123456789", qos=qos)
    await quick.expect(" ".join(message(it, qos=qos, identifier=number) for number, it in enumerate("258", 1)))
    await easy.expect(" ".join(message(it) for it in "369"))
    await slow.expect(message("1", qos=qos))
    await expect_no_more(publisher, quick, easy, slow)
    # What had been given to it waits for it.
    for number, payload in enumerate("47", 1):
        await slow.send(f"40 [{number:04x}]" if qos == 1 else f"50 [{number:04x}] 70 [{number:04x}]")
        if qos == 2:
            await slow.expect(f"62 [{number:04x}]")
        await slow.expect(message(payload, qos=qos, identifier=number + 1))


@conforms(edge="shared-6")
async def test_in_the_group_and_on_its_own(server: Server) -> None:
    """A member with a subscription of its own gets a copy for the group and one for itself, each as it was granted."""
    a = await server.connected("a")
    await subscribe(a, END)
    await a.send('82 [0001 [0b 01] "$share/g/t" 01] 82 [0002 [0b 02] "t" 00] 82 [0003 [0b 03] "$share/h/#" 02]')
    await a.expect("90 [0001 [] 01] 90 [0002 [] 00] 90 [0003 [] 02]")
    publisher = await server.connected("publisher")
    await publish(publisher, "1", qos=2)
    await publish(publisher, "x", topic="other")
    got = [await a.packet() for _ in range(4)]
    by_identifiers = [
        (0x32, b"\x00\x01t", b"\x02\x0b\x01" + b"1"),
        (0x30, b"\x00\x01t", b"\x02\x0b\x02" + b"1"),
        (0x34, b"\x00\x01t", b"\x02\x0b\x03" + b"1"),
        (0x30, b"\x00\x05other", b"\x02\x0b\x03" + b"x"),
    ]
    for first, topic, tail in by_identifiers:
        assert len([it for it in got if it[0] == first and it[2:].startswith(topic) and it.endswith(tail)]) == 1, got


@conforms(edge="shared-7")
async def test_in_311(server: Server) -> None:
    """Clients of 3.1.1 are members like those of 5.0."""
    old = await server.connected("old", 4)
    await old.send('82 [0001 "$share/g/t" 01 "$share//t" 00]')
    await old.expect("90 [0001 01 80]")
    new = await member(server, "new", "$share/g/t", 2)
    publisher = await server.connected("publisher", 4)
    await publish(publisher, "1", "2", "3", qos=2, level=4)
    await old.expect("32 [\"t\" 0001 '1'] 32 [\"t\" 0002 '3']")
    await new.expect(message("2", qos=2))
    # It is no plain filter: nothing comes of publishing to the whole of it.
    await publish(publisher, "x", topic="$share/g/t", level=4)
    await old.send('a2 [0002 "t"] a2 [0003 "$share/g/t"]')
    await old.expect("b0 [0002] b0 [0003]")
    await publish(publisher, "4", "5", qos=2, level=4)
    await new.expect(f"{message('4', qos=2, identifier=2)} {message('5', qos=2, identifier=3)}")
    await settled()
    await nothing_for(old)


@conforms(edge="shared-7")
@pytest.mark.settings(mqtt={"shared_subscription": False})
@pytest.mark.parametrize("level", LEVELS)
async def test_switched_off(server: Server, level: int) -> None:
    """Where they are switched off they are refused, to clients of 3.1.1 as well."""
    peer = await server.connected("c", level)
    await peer.send(f'82 [0001 {section(level)} "$share/g/t" 01 "t" 01]')
    await peer.expect(f"90 [0001 {section(level)} {'9e' if level == 5 else '80'} 01]")
    await publish(peer, "x", level=level)
    await peer.expect(f"30 [\"t\" {section(level)} 'x']")
    await nothing_for(peer)
