"""What CONNECT says and the broker keeps: sessions, wills, and the client's limits.

Invariant: it is kept as long as it was asked for, on the clock of Trio's tests where time passes, and no longer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from conformance.connecting import (
    LEVELS,
    accepted,
    connect,
    ended,
    guarded,
    let_in,
    nothing_for,
    section,
    sessions,
    settled,
    will,
)
from conformance.in_memory import in_memory
from conformance.peer import Peer, Server
from conformance.statement import conforms
from trio.testing import MockClock

KEPT = "11 00000e10"  # session expiry in an hour
WILL_QOS_1, WILL_QOS_2, WILL_RETAIN = 0x08, 0x10, 0x20


async def come(server: Server, level: int, *, clean: bool = False, session: bool = False, expiry: str = KEPT) -> Peer:
    """The client "c", which wants its session kept; `session` is what it has to hear about one."""
    text = connect(level, flags=0x02 if clean else 0, properties=expiry)
    return await let_in(server, text, accepted(level, session=session))


async def subscribe(peer: Peer, level: int, topic_filter: str, qos: int = 0) -> None:
    await peer.send(f'82 [fffe {section(level)} "{topic_filter}" {qos:02x}]')
    await peer.expect(f"90 [fffe {section(level)} {qos:02x}]")


async def publish(peer: Peer, level: int, payload: str, *, qos: int = 1, retain: bool = False) -> None:
    """A message to the topic "t", acknowledged: it is with everybody who gets it."""
    identifier = "0001" if qos else ""
    await peer.send(f"{0x30 | qos << 1 | retain:02x} [\"t\" {identifier} {section(level)} '{payload}']")
    if qos == 1:
        await peer.expect("40 [0001]")
    elif qos == 2:
        await peer.expect("50 [0001]")
        await peer.send("62 [0001]")
        await peer.expect("70 [0001]")
    else:
        await peer.expect_nothing()


async def with_will(server: Server, level: int, flags: int = 0, properties: str = "", *, expiry: str = "") -> Peer:
    """The client "c" with a will: `x` to `w`."""
    text = connect(level, f'"c" {will(level, properties=properties)}', 0x06 | flags, properties=expiry)
    return await let_in(server, text, accepted(level))


# -- sessions


@conforms(v311="3.1.2-6", v5="3.1.2-4")
@pytest.mark.parametrize("level", LEVELS)
async def test_a_clean_start(server: Server, level: int) -> None:
    """The subscriptions and messages of the old session are gone, at once and for good."""
    publisher = await server.subscriber("never", "p", level)
    peer = await come(server, level)
    await subscribe(peer, level, "t", 1)
    await peer.break_off()
    await settled()
    await publish(publisher, level, "for the old one")
    peer = await come(server, level, clean=True)
    await publisher.send(f"32 [\"t\" 0001 {section(level)} 'for nobody']")
    await publisher.expect(f"40 [0001 {'10' if level == 5 else ''}]")
    await nothing_for(peer)
    await peer.break_off()
    await settled()
    peer = await come(server, level, session=level == 5)  # of 3.1.1 a clean session ends with its connection
    await peer.expect_nothing()


@conforms(v311="3.1.2-4", v5="3.1.2-5 3.1.2-6")
@pytest.mark.parametrize("level", LEVELS)
async def test_going_on_with_a_session(server: Server, level: int) -> None:
    """Without a clean start there is a new session at first, and the same one, with its subscriptions, from then on."""
    peer = await come(server, level)
    await subscribe(peer, level, "t", 1)
    for _ in range(3):
        await peer.break_off()
        await settled()
        peer = await come(server, level, session=True)
        await peer.send(f"30 [\"t\" {section(level)} 'x']")
        await peer.expect(f"30 [\"t\" {section(level)} 'x']")
    assert await sessions(server) == 1


@conforms(v311="3.1.2-5", v5="3.1.2-23")
@pytest.mark.parametrize("end", ["DISCONNECT", "break off"])
@pytest.mark.parametrize("level", LEVELS)
async def test_what_comes_while_a_client_is_away(server: Server, level: int, end: str) -> None:
    """Messages of QoS 1 and 2 wait for it, in their order (those of QoS 0 too), however it went."""
    publisher = await server.connected("p", level)
    peer = await come(server, level)
    await subscribe(peer, level, "t", 2)
    if end == "DISCONNECT":
        await peer.send("e0 []")
        await peer.expect_end()
    await peer.break_off()
    await settled()
    for number, qos in enumerate((1, 2, 0, 1)):
        await publish(publisher, level, str(number), qos=qos)
    peer = await come(server, level, session=True)
    packets = [await peer.packet() for _ in range(4)]
    assert [(packet[0], packet[-1:]) for packet in packets] == [(0x32, b"0"), (0x34, b"1"), (0x30, b"2"), (0x32, b"3")]


@conforms(v311="3.1.2.7")
@pytest.mark.parametrize("level", LEVELS)
async def test_retained_messages_belong_to_no_session(server: Server, level: int) -> None:
    """The message stays when the session of its publisher ends, and when another begins."""
    peer = await server.connected("c", level)
    await publish(peer, level, "kept", qos=0, retain=True)
    await peer.send("e0 []")
    await peer.expect_end()
    assert await sessions(server) == 0
    for _ in range(2):
        peer = await server.connected("c", level)
        await peer.send(f'82 [0001 {section(level)} "t" 00]')
        await peer.expect_any_order(f"90 [0001 {section(level)} 00]", f"31 [\"t\" {section(level)} 'kept']")


@conforms(v5="3.1.2-23")
@pytest.mark.parametrize(("expiry", "here", "gone"), [(1, 0.9, 1.2), (60, 59, 61), (0x7FFFFFFF, 1e9, 2.2e9)])
async def test_the_session_expiry_interval(autojump_clock: MockClock, expiry: int, here: float, gone: float) -> None:
    """The session is kept for so many seconds after its connection, and then no longer."""
    async with in_memory() as server:
        text = f"11 {expiry:08x}"
        peer = await come(server, 5, expiry=text)
        await peer.break_off()
        await settled()
        await trio.sleep(here)
        peer = await come(server, 5, session=True, expiry=text)
        await peer.break_off()
        await settled()
        await trio.sleep(gone)
        assert await sessions(server) == 0
        await come(server, 5, expiry=text)


@conforms(v5="3.1.2-23")
@pytest.mark.parametrize("expiry", ["", "11 00000000"])
async def test_no_session_expiry_interval(server: Server, expiry: str) -> None:
    """The session ends with its connection when the interval is 0 or left out."""
    for clean in (True, False):
        peer = await come(server, 5, clean=clean, expiry=expiry)
        assert await sessions(server) == 1
        await peer.break_off()
        assert await sessions(server) == 0


@conforms(v5="3.1.2-23")
async def test_a_session_for_ever(autojump_clock: MockClock) -> None:
    """0xFFFFFFFF never ends."""
    async with in_memory() as server:
        peer = await come(server, 5, expiry="11 ffffffff")
        await peer.break_off()
        await settled()
        await trio.sleep(5e9)
        await come(server, 5, session=True, expiry="11 ffffffff")


# -- wills


async def malformed(server: Server, peer: Peer, level: int) -> None:
    await peer.send("00 []")
    await peer.expect_end(ended(level, 0x81))


async def protocol_error(server: Server, peer: Peer, level: int) -> None:
    await peer.send("d0 []")
    await peer.expect_end(ended(level, 0x82))


async def second_connect(server: Server, peer: Peer, level: int) -> None:
    await peer.send(connect(level))
    await peer.expect_end(ended(level, 0x82))


async def taken_over(server: Server, peer: Peer, level: int) -> None:
    await let_in(server, connect(level), accepted(level))
    await peer.expect_end(ended(level, 0x8E))


async def bad_disconnect(server: Server, peer: Peer, level: int) -> None:
    await peer.send("e1 []")
    await peer.expect_end(ended(level, 0x81))


async def half_a_packet(server: Server, peer: Peer, level: int) -> None:
    await peer.send('30 20 "t"')
    await peer.break_off()


async def broken_off(server: Server, peer: Peer, level: int) -> None:
    await peer.break_off()


ENDS = [broken_off, half_a_packet, malformed, protocol_error, second_connect, bad_disconnect, taken_over]


@conforms(v311="3.1.2-8", v5="3.1.2-7 3.1.2-8")
@pytest.mark.parametrize("end", ENDS, ids=lambda end: str(end.__name__))
@pytest.mark.parametrize("level", LEVELS)
async def test_ends_that_publish_the_will(
    server: Server, level: int, end: Callable[[Server, Peer, int], Awaitable[None]]
) -> None:
    """Every end of a connection but DISCONNECT; once."""
    watcher = await server.subscriber("w", level=level)
    peer = await with_will(server, level)
    await nothing_for(watcher)
    await end(server, peer, level)
    await watcher.expect(f"30 [\"w\" {section(level)} 'x']")
    await nothing_for(watcher)


@conforms(v5="3.1.2-8 3.1.2-10")
@pytest.mark.parametrize("code", ["04", "80", "81", "82", "83", "90", "93", "95", "97", "98", "99"])
async def test_disconnect_with_another_code_publishes_the_will(server: Server, code: str) -> None:
    """0x04 asks for it, and an error of the client is no proper end."""
    watcher = await server.subscriber("w")
    peer = await with_will(server, 5)
    await peer.send(f"e0 [{code}]")
    await peer.expect_end()
    await watcher.expect("30 [\"w\" [] 'x']")


@conforms(v311="3.1.2-8 3.1.2-24", v5="3.1.2-8 3.1.2-22")
@pytest.mark.parametrize("keep_alive", [1, 10, 65535])
@pytest.mark.parametrize("level", LEVELS)
async def test_silence(autojump_clock: MockClock, level: int, keep_alive: int) -> None:
    """After one and a half times the keep alive without a packet the connection ends, and the will is published."""
    async with in_memory() as server:
        watcher = await server.subscriber("w", level=level)
        text = connect(level, f'"c" {will(level)}', 0x06, keep_alive=keep_alive)
        peer = await let_in(server, text, accepted(level))
        await trio.sleep(keep_alive * 1.4)
        await peer.expect_nothing()  # a ping: the time begins again
        await trio.sleep(keep_alive * 1.5 - 0.1)
        await nothing_for(watcher)
        await peer.expect_end(ended(level, 0x8D))
        await watcher.expect(f"30 [\"w\" {section(level)} 'x']")


@conforms(v5="3.1.2-8")
@pytest.mark.parametrize(("delay", "expiry", "after"), [(5, 3600, 5), (3600, 5, 5), (3600, 0, 0), (0, 3600, 0)])
async def test_the_will_delay(autojump_clock: MockClock, delay: int, expiry: int, after: int) -> None:
    """The will is published after its delay or at the end of the session, whichever comes first."""
    async with in_memory() as server:
        watcher = await server.subscriber("w")
        peer = await with_will(server, 5, properties=f"18 {delay:08x}", expiry=f"11 {expiry:08x}")
        await peer.break_off()
        await settled()
        if after:
            await trio.sleep(after - 0.5)
            await nothing_for(watcher)
        await watcher.expect("30 [\"w\" [] 'x']")
        await trio.sleep(10_000)
        await nothing_for(watcher)


@conforms(v5="3.1.3-9")
@pytest.mark.parametrize("clean", [False, True])
async def test_coming_back_before_the_will(autojump_clock: MockClock, clean: bool) -> None:
    """A new connection to the session in time: no will, not even later. A clean start ends the session: will."""
    async with in_memory() as server:
        watcher = await server.subscriber("w")
        peer = await with_will(server, 5, properties="18 0000000a", expiry=KEPT)
        await peer.break_off()
        await settled()
        await trio.sleep(9)
        peer = await come(server, 5, clean=clean, session=not clean)
        if clean:
            await watcher.expect("30 [\"w\" [] 'x']")
        await trio.sleep(100)
        await nothing_for(watcher)
        await peer.break_off()
        await settled()
        await trio.sleep(10_000)
        await nothing_for(watcher)


@conforms(v311="3.1.2-10", v5="3.1.2-10")
@pytest.mark.parametrize("packet", ["e0 []", "e0 [00]", "e0 [00 []]"])
@pytest.mark.parametrize("level", LEVELS)
async def test_a_proper_end_deletes_the_will(autojump_clock: MockClock, level: int, packet: str) -> None:
    """After DISCONNECT there is no will any more, delayed or not, also when another connection breaks off."""
    async with in_memory() as server:
        watcher = await server.subscriber("w", level=level)
        for properties in ("", "18 00000005") if level == 5 else ("",):
            peer = await with_will(server, level, properties=properties, expiry=KEPT)
            await peer.send(packet if level == 5 else "e0 []")
            await peer.expect_end()
            await trio.sleep(10)
            peer = await come(server, level, session=level == 5)
            await peer.break_off()
            await settled()
            await trio.sleep(10)
            await nothing_for(watcher)
            await trio.sleep(10_000)


@conforms(v311="3.1.2-10", v5="3.1.2-10")
@pytest.mark.parametrize("level", LEVELS)
async def test_a_will_is_published_once(server: Server, level: int) -> None:
    """The next connection of the session, which has none of its own, has not that of the one before."""
    watcher = await server.subscriber("w", level=level)
    peer = await with_will(server, level, expiry=KEPT)
    await peer.break_off()
    await watcher.expect(f"30 [\"w\" {section(level)} 'x']")
    peer = await come(server, level, session=level == 5)
    await peer.break_off()
    await nothing_for(watcher)


@conforms(v311="3.1.2-12")
@pytest.mark.parametrize("level", LEVELS)
async def test_no_will_flag_no_will(server: Server, level: int) -> None:
    """Nothing at all is published at the end of a connection without a will."""
    watcher = await server.subscriber("#", level=level)
    for client_id in ("c", "w"):
        peer = await let_in(server, connect(level, f'"{client_id}" "w" "x"', 0xC2), accepted(level))
        await peer.break_off()
        await nothing_for(watcher)


@conforms(v311="3.1.2-16 3.1.2-17", v5="3.1.2-14 3.1.2-15")
@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("level", LEVELS)
async def test_qos_and_retain_of_the_will(server: Server, level: int, qos: int, retain: bool) -> None:
    """It comes with its QoS; who subscribes later gets it only if it was to be retained."""
    watcher = await server.subscriber("w", level=level, qos=2)
    peer = await with_will(server, level, qos << 3 | (WILL_RETAIN if retain else 0))
    await peer.break_off()
    identifier = "0001" if qos else ""
    await watcher.expect(f"{0x30 | qos << 1:02x} [\"w\" {identifier} {section(level)} 'x']")
    later = await server.connected("later", level)
    await later.send(f'82 [0001 {section(level)} "w" 02]')
    suback = f"90 [0001 {section(level)} 02]"
    if retain:
        await later.expect_any_order(suback, f"{0x31 | qos << 1:02x} [\"w\" {identifier} {section(level)} 'x']")
    else:
        await later.expect(suback)
    await nothing_for(later)


@conforms(v5="3.1.3-10")
async def test_user_properties_of_the_will(server: Server) -> None:
    """They come in their order, with every repetition; so do its other properties, but for the delay."""
    watcher = await server.subscriber("w")
    pairs = '26 "b" "2" 26 "a" "1" 26 "b" "2" 26 "" "" 26 "b" "1"'
    peer = await with_will(server, 5, properties=f"18 00000000 {pairs}")
    await peer.break_off()
    await watcher.expect(f"30 [\"w\" [{pairs}] 'x']")


# -- what the client can take


@conforms(v5="3.1.2-24 3.1.2-25")
@pytest.mark.parametrize(("size", "room"), [(20, 14), (129, 123), (130, 123), (131, 124), (200, 193)])
async def test_the_largest_message_for_a_client(server: Server, size: int, room: int) -> None:
    """A whole packet of the maximum packet size comes; one byte more does not, and others get it."""
    publisher = await server.connected("p")
    other = await server.subscriber("t", "other")
    peer = await server.connected("c", properties=f"27 {size:08x}")
    await subscribe(peer, 5, "t")
    large, fits = (f"30 [\"t\" [] 'x' * {length}]" for length in (room + 1, room))
    await publisher.send(large + fits)
    await other.expect(large + fits)
    await peer.expect(fits)
    await nothing_for(peer)


@conforms(v5="3.1.2-24 3.1.2-25")
async def test_what_the_broker_puts_in_counts(server: Server) -> None:
    """A message that only its subscription identifier makes too large is too large."""
    publisher = await server.connected("p")
    peer = await server.connected("c", properties="27 00000014")
    await peer.send('82 [0001 [0b 01] "t" 00]')
    await peer.expect("90 [0001 [] 00]")
    await publisher.send("30 [\"t\" [] 'x' * 13] 30 [\"t\" [] 'x' * 12]")
    await peer.expect("30 [\"t\" [0b 01] 'x' * 12]")
    await nothing_for(peer)


@conforms(v5="3.1.2-25")
@pytest.mark.parametrize("qos", [1, 2])
async def test_a_message_that_is_too_large_counts_as_delivered(server: Server, qos: int) -> None:
    """It takes no place among the messages on their way, and does not come later."""
    publisher = await server.connected("p")
    peer = await server.connected("c", properties=f"{KEPT} 21 0001 27 00000014")
    await subscribe(peer, 5, "t", qos)
    for payload in ("x" * 13, "x" * 14, "fits", "y" * 13, "then"):
        await publish(publisher, 5, payload, qos=qos)
    first = await peer.packet()
    assert first.endswith(b"fits")
    await nothing_for(peer)
    await peer.send((b"\x40\x02" if qos == 1 else b"\x50\x02") + first[5:7])
    if qos == 2:
        await peer.expect(b"\x62\x02" + first[5:7])
        await peer.send(b"\x70\x02" + first[5:7])
    assert (await peer.packet()).endswith(b"then")
    await peer.break_off()
    await settled()
    peer = await server.connected("c", clean=False, properties=KEPT)
    assert (await peer.packet()).endswith(b"then")
    await nothing_for(peer)


@conforms(v5="3.1.2-24 3.1.2-25")
async def test_a_smaller_limit_for_what_waited(server: Server) -> None:
    """What was kept for a client, or retained, does not come when it is too large for the new connection."""
    publisher = await server.connected("p")
    await publisher.send("33 [\"t\" 0001 [] 'retained' * 4]")
    await publisher.expect("40 [0001 10]")
    peer = await server.connected("c", properties=KEPT)
    await peer.send('82 [0001 [] "t" 25]')  # QoS 1, no local, retained messages never
    await peer.expect("90 [0001 [] 01]")
    await peer.break_off()
    await settled()
    await publish(publisher, 5, "x" * 13)
    await publish(publisher, 5, "x" * 12)
    peer = await server.connected("c", clean=False, properties=f"{KEPT} 27 00000014")
    packet = await peer.packet()
    assert packet[-12:] == b"x" * 12
    assert len(packet) == 20
    await subscribe(peer, 5, "t", 1)  # now with the retained ones
    await nothing_for(peer)


@conforms(v5="3.1.2-24")
async def test_an_answer_that_is_too_large(server: Server) -> None:
    """SUBACK and UNSUBACK cannot be left out: a client that has no room for them is told so and let go."""
    for ask in (
        "82 [0001 [] %s]" % ('"a" 00' * 11),
        "82 [0001 [] %s]" % ('"a" 00' * 12),
        "a2 [0001 [] %s]" % ('"a"' * 12),
    ):
        peer = await server.connected("c", properties="27 00000010")
        await peer.send(ask)
        if ask.count('"') == 22:
            await peer.expect(f"90 [0001 [] {'00' * 11}]")
        else:
            await peer.expect_end("e0 [95]")


@conforms(v5="3.1.2-26 3.3.2-11 3.1.2-27")
@pytest.mark.parametrize("properties", ["", "22 0000", "22 0001", "22 ffff"])
async def test_the_broker_uses_no_topic_alias(server: Server, properties: str) -> None:
    """It may have up to the client's topic alias maximum, and makes no use of it."""
    peer = await server.connected("c", properties=properties)
    await subscribe(peer, 5, "#")
    topics = ["t", "a/topic/with/many/levels", "t", "a/topic/with/many/levels", "u"]
    for topic in topics * 3:
        await peer.send(f"30 [\"{topic}\" [23 0001] 'x']")
        await peer.expect(f"30 [\"{topic}\" [] 'x']")


@conforms(v5="3.1.2-29")
@pytest.mark.parametrize("properties", ["17 00", "17 01", ""])
async def test_problem_information(transport: str, properties: str) -> None:
    """Refusals have their code and nothing else, so also for a client that wants no more; messages have all."""
    async with guarded(transport) as server:
        peer = await server.connected("c", properties=properties)
        await peer.send('82 [0001 [26 "k" "v"] "secret" 00 "a/#/b" 00 "t" 02]')
        await peer.expect("90 [0001 [] 87 8f 02]")
        await peer.send('32 ["secret" 0001 [26 "k" "v"]] 34 ["secret" 0002 [26 "k" "v"]]')
        await peer.expect("40 [0001 87] 50 [0002 87]")
        await peer.send("62 [0009] 50 [0009]")
        await peer.expect("70 [0009 92] 62 [0009 92]")
        await peer.send('a2 [0003 [26 "k" "v"] "u"]')
        await peer.expect("b0 [0003 [] 11]")
        message = '30 ["t" [26 "k" "v"] \'x\']'
        await peer.send(message)
        await peer.expect(message)
        await peer.send("d0 []")
        await peer.expect_end("e0 [82]")
