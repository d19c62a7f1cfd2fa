"""Edge cases of connecting: many with one identifier, takeovers, expiry, keep alive, refusals, and small clients.

Invariant: one client identifier has one connection, one session and one will at most, whatever comes together.
"""

from __future__ import annotations

import pytest
import trio
from conformance.bytes_of import bytes_of
from conformance.connecting import (
    LEVELS,
    LIMITS,
    Passwords,
    accepted,
    connect,
    ended,
    guarded,
    let_in,
    nothing_for,
    refused,
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
WILL = 0x04
CLEAN = 0x02


async def expect_refusal(server: Server, text: str, answer: str) -> None:
    peer = await server.peer()
    await peer.send(text)
    await peer.expect_end(answer)


async def come(server: Server, level: int, *, session: bool, expiry: str = KEPT) -> Peer:
    """The client "c" without a clean start; `session` is what it has to hear about its session."""
    return await let_in(server, connect(level, flags=0, properties=expiry), accepted(level, session=session))


async def go(peer: Peer, disconnect: str = "e0 []") -> None:
    await peer.send(disconnect)
    await peer.expect_end()


# -- one identifier, several connections


@conforms(edge="connecting-1")
@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("level", LEVELS)
async def test_a_crowd_with_one_identifier(server: Server, level: int, clean: bool) -> None:
    """All connect at once: one survives, with one session, and each of the others leaves its own will, once."""
    crowd = 8
    watcher = await server.subscriber("w", "watcher", level)
    peers = [await server.peer() for _ in range(crowd)]
    gone: set[int] = set()
    present: list[int] = []
    one_is_left = trio.Event()

    async def stay(number: int) -> None:
        payload = f'"c" {will(level)} {number:02x}'.replace('"x"', "0001")
        await peers[number].send(connect(level, payload, WILL | CLEAN * clean, properties="" if clean else KEPT))
        packet = await peers[number].packet()
        assert (packet[0], packet[3]) == (0x20, 0)
        present.append(packet[2])
        await peers[number].expect_end(ended(level, 0x8E))
        gone.add(number)
        if len(gone) == crowd - 1:
            one_is_left.set()

    async with trio.open_nursery() as nursery:
        for number in range(crowd):
            nursery.start_soon(stay, number)
        await one_is_left.wait()
        await settled()
        nursery.cancel_scope.cancel()
    survivor = set(range(crowd)) - gone
    assert len(survivor) == 1
    assert sorted(present) == [0] * crowd if clean else [0] + [1] * (crowd - 1)
    await peers[survivor.pop()].expect_nothing()
    await watcher.expect_any_order(*(f'30 ["w" {section(level)} {number:02x}]' for number in gone))
    await nothing_for(watcher)
    assert await sessions(server) == 2


@conforms(edge="connecting-2")
@pytest.mark.parametrize(
    ("expiry", "delay", "clean", "published"),
    [
        (3600, 0, False, True),
        (3600, 0, True, True),
        (3600, 10, False, False),
        (3600, 10, True, True),
        (0, 10, False, True),
        (0, 10, True, True),
        (0xFFFFFFFF, 10, False, False),
    ],
)
async def test_takeover_and_will(
    autojump_clock: MockClock, expiry: int, delay: int, clean: bool, published: bool
) -> None:
    """The old connection's will goes out at once, but for one with a delay whose session goes on: that is gone."""
    async with in_memory() as server:
        watcher = await server.subscriber("w")
        payload = f'"c" {will(5, properties=f"18 {delay:08x}")}'
        old = await let_in(server, connect(5, payload, WILL, properties=f"11 {expiry:08x}"), accepted(5))
        text = connect(5, flags=CLEAN * clean, properties=KEPT)
        new = await let_in(server, text, accepted(5, session=bool(expiry) and not clean))
        await old.expect_end("e0 [8e]")
        if published:
            await watcher.expect("30 [\"w\" [] 'x']")
        await nothing_for(watcher)
        await trio.sleep(10_000)
        await nothing_for(watcher)
        await new.expect_nothing()


@conforms(edge="connecting-2")
@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("level", [3, 4])
async def test_takeover_before_version_5(server: Server, level: int, clean: bool) -> None:
    """The old connection ends without a word, and its will goes out."""
    watcher = await server.subscriber("w", level=level)
    old = await let_in(server, connect(level, f'"c" {will(level)}', WILL), accepted(level))
    new = await let_in(server, connect(5, flags=CLEAN * clean), accepted(5, session=not clean))
    await old.expect_end()
    await watcher.expect("30 [\"w\" 'x']")
    await nothing_for(watcher)
    await new.expect_nothing()


# -- one session, several versions


@conforms(edge="connecting-3")
@pytest.mark.parametrize("connected", [False, True])
@pytest.mark.parametrize(("old", "new"), [(4, 5), (5, 4), (3, 5), (5, 3), (3, 4), (4, 3)])
async def test_a_session_changes_its_version(server: Server, old: int, new: int, connected: bool) -> None:
    """Its subscriptions and what waits in it go on in the words of the other version."""
    publisher = await server.connected("p", 4)
    first = await come(server, old, session=False)
    await first.send(f'82 [0001 {section(old)} "t" 01]')
    await first.expect(f"90 [0001 {section(old)} 01]")
    if not connected:
        await go(first)
        await publisher.send("32 [\"t\" 0001 'waited']")
        await publisher.expect("40 [0001]")
    # MQTT 3.1 has no flag to say so
    second = await come(server, new, session=new != 3)
    if connected:
        await first.expect_end(ended(old, 0x8E))
        await publisher.send("32 [\"t\" 0001 'waited']")
        await publisher.expect("40 [0001]")
    await second.expect(f"32 [\"t\" 0001 {section(new)} 'waited']")


@conforms(edge="connecting-3")
@pytest.mark.parametrize("level", [3, 4])
async def test_the_expiry_of_a_session_before_version_5(autojump_clock: MockClock, level: int) -> None:
    """Clean session 0 keeps it as long as the configuration says, clean session 1 not at all."""
    async with in_memory(mqtt={"session_expiry_interval": "100s"}) as server:
        await go(await come(server, level, session=False))
        await trio.sleep(99)
        await go(await come(server, level, session=level == 4))
        assert await sessions(server) == 1
        await trio.sleep(101)
        assert await sessions(server) == 0
        await go(await let_in(server, connect(level), accepted(level)))
        assert await sessions(server) == 0


@conforms(edge="connecting-3")
async def test_a_session_before_version_5_for_ever(autojump_clock: MockClock) -> None:
    """`infinity` in the configuration is for ever."""
    async with in_memory(mqtt={"session_expiry_interval": "infinity"}) as server:
        await go(await come(server, 4, session=False))
        await trio.sleep(1e10)
        await come(server, 4, session=True)


@conforms(edge="connecting-3")
async def test_the_expiry_changes_with_the_version(autojump_clock: MockClock) -> None:
    """What the last connection asked for holds."""
    async with in_memory(mqtt={"session_expiry_interval": "100s"}) as server:
        await go(await come(server, 5, session=False, expiry="11 0000000a"))
        await go(await come(server, 4, session=True))
        await trio.sleep(99)
        await go(await come(server, 5, session=True, expiry="11 0000000a"))
        await trio.sleep(11)
        assert await sessions(server) == 0


# -- how CONNECT arrives


@conforms(edge="connecting-4")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_everything_in_one_piece(server: Server, level: int) -> None:
    """CONNECT with SUBSCRIBE, PUBLISH and DISCONNECT behind it: all of it counts, in its order."""
    watcher = await server.subscriber("#", "watcher", level)
    empty = section(level)
    packets = f'82 [0001 {empty} "t" 00]', f"32 [\"t\" 0002 {empty} 'x']", "e0 []", f"30 [\"t\" {empty} 'never']"
    peer = await server.peer()
    await peer.send(connect(level) + "".join(packets))
    await watcher.expect(f"30 [\"t\" {empty} 'x']")
    await nothing_for(watcher)
    peer = await server.peer()
    await peer.send(connect(level) + packets[0] + packets[1])
    await peer.expect(accepted(level))
    await peer.expect_any_order(f"90 [0001 {empty} 00]", f"30 [\"t\" {empty} 'x']", "40 [0002]")


@conforms(edge="connecting-4")
@pytest.mark.parametrize("begun", ["", "10", '10 14 "MQTT" 05', '10 ffff3f "MQTT" 05 02 0000 [] "c"'])
async def test_the_time_for_connect(autojump_clock: MockClock, begun: str) -> None:
    """Who has not sent the whole of it in time is cut off, whatever has come of it."""
    async with in_memory(mqtt={"idle_timeout": "15s"}) as server:
        peer = await server.peer()
        await peer.send(begun)
        await trio.sleep(14)
        await peer.send("10" if not begun else "")
        await trio.sleep(1.1)
        with trio.fail_after(0.1):  # of the mock clock, which stands still for what is already under way
            await peer.expect_end()


@conforms(edge="connecting-4")
async def test_connect_in_time(autojump_clock: MockClock) -> None:
    """One that comes at the last moment is accepted, and the limit is forgotten."""
    async with in_memory(mqtt={"idle_timeout": "15s"}) as server:
        packet = bytes_of(connect(5))
        peer = await server.peer()
        await peer.send(packet[:10])
        await trio.sleep(14.9)
        await peer.send(packet[10:])
        await peer.expect(accepted(5))
        await trio.sleep(1000)
        await peer.expect_nothing()


# -- how long a session lasts


@conforms(edge="connecting-6")
@pytest.mark.parametrize("expiry", ["", "11 00000000"])
@pytest.mark.parametrize("code", ["00", "04"])
async def test_disconnect_cannot_begin_a_session(server: Server, expiry: str, code: str) -> None:
    """From 0 the expiry cannot be raised: protocol error, with the will, and nothing is kept."""
    watcher = await server.subscriber("w")
    peer = await let_in(server, connect(5, f'"c" {will(5)}', WILL | CLEAN, properties=expiry), accepted(5))
    await peer.send(f"e0 [{code} [11 00000001]]")
    await peer.expect_end("e0 [82]")
    await watcher.expect("30 [\"w\" [] 'x']")
    assert await sessions(server) == 1
    await come(server, 5, session=False)


@conforms(edge="connecting-6")
@pytest.mark.parametrize("expiry", ["", "11 00000000"])
async def test_disconnect_may_say_0_again(server: Server, expiry: str) -> None:
    """0 that stays 0 is no error."""
    peer = await let_in(server, connect(5, properties=expiry), accepted(5))
    await go(peer, "e0 [00 [11 00000000]]")


@conforms(edge="connecting-6")
@pytest.mark.parametrize(
    ("disconnect", "seconds"),
    [
        ("e0 []", 100),
        ("e0 [00 []]", 100),
        ("e0 [00 [11 0000000a]]", 10),
        ("e0 [04 [11 0000000a]]", 10),
        ("e0 [00 [11 000003e8]]", 1000),
        ("e0 [00 [11 00000000]]", 0),
    ],
)
async def test_disconnect_changes_the_expiry(autojump_clock: MockClock, disconnect: str, seconds: int) -> None:
    """What it says holds, 0 at once; where it says nothing, what CONNECT said."""
    async with in_memory() as server:
        await go(await come(server, 5, session=False, expiry="11 00000064"), disconnect)
        if seconds:
            await trio.sleep(seconds - 1)
            assert await sessions(server) == 1
            await trio.sleep(2)
        assert await sessions(server) == 0
        await come(server, 5, session=False)


@conforms(edge="connecting-7")
@pytest.mark.parametrize("expiry", ["7fffffff", "80000000", "fffffffe", "ffffffff"])
async def test_the_largest_expiry_intervals(autojump_clock: MockClock, expiry: str) -> None:
    """They do not overflow, 0xFFFFFFFF never ends; as there is no limit, CONNACK announces none."""
    async with in_memory() as server:
        await go(await come(server, 5, session=False, expiry=f"11 {expiry}"))
        await trio.sleep(int(expiry, 16) - 1)
        peer = await come(server, 5, session=True, expiry="11 00000001")
        await go(peer, f"e0 [00 [11 {expiry}]]")
        await trio.sleep(int(expiry, 16) - 1)
        assert await sessions(server) == 1
        await trio.sleep(2)
        assert await sessions(server) == (1 if expiry == "ffffffff" else 0)
        await trio.sleep(1e11)
        assert await sessions(server) == (1 if expiry == "ffffffff" else 0)


@conforms(edge="connecting-7")
async def test_for_ever_can_be_ended(autojump_clock: MockClock) -> None:
    """DISCONNECT lowers it like any other."""
    async with in_memory() as server:
        await go(await come(server, 5, session=False, expiry="11 ffffffff"), "e0 [00 [11 0000000a]]")
        await trio.sleep(11)
        assert await sessions(server) == 0


# -- what CONNECT must not say


@conforms(edge="connecting-8")
@pytest.mark.parametrize(
    "properties", ["21 0000", "27 00000000", "17 02", "17 ff", "19 02", "19 ff", "16 {01}", "16 {}"]
)
async def test_values_that_are_protocol_errors(server: Server, properties: str) -> None:
    """Limits of 0, flags above 1, authentication data without a method."""
    first = await server.connected("c")
    await expect_refusal(server, connect(5, properties=properties), refused(5, 0x82))
    await first.expect_nothing()


@conforms(edge="connecting-8")
@pytest.mark.parametrize(
    "properties", ["21 0001", "21 ffff", "27 00000010", "27 ffffffff", "17 00", "19 00", "22 0000"]
)
async def test_values_next_to_them(server: Server, properties: str) -> None:
    """The smallest and largest that are allowed."""
    peer = await let_in(server, connect(5, properties=properties), accepted(5))
    await peer.expect_nothing()


# -- keep alive


@conforms(edge="connecting-9")
async def test_the_server_keep_alive_is_for_those_who_wanted_none(autojump_clock: MockClock) -> None:
    """Keep alive 0 and 10 in CONNACK: 0x8D after 15 seconds, and the will."""
    async with in_memory(mqtt={"server_keepalive": 10}) as server:
        watcher = await let_in(server, connect(4, '"s"'), accepted(4))
        await watcher.send('82 [0001 "w" 00]')
        await watcher.expect("90 [0001 00]")
        text = connect(5, f'"c" {will(5)}', WILL | CLEAN)
        peer = await let_in(server, text, f"20 [00 00 [{LIMITS} 13 000a]]")
        await trio.sleep(14.9)
        await nothing_for(watcher)
        await peer.expect_end("e0 [8d]")
        await watcher.expect("30 [\"w\" 'x']")
        await nothing_for(watcher)


@conforms(edge="connecting-9")
@pytest.mark.parametrize("packet", ["40 [0063]", "70 [0063]", "30 [\"t\" %s 'x']", "c0 []", '82 [0001 %s "t" 00]'])
@pytest.mark.parametrize("level", LEVELS)
async def test_any_packet_begins_the_time_again(autojump_clock: MockClock, level: int, packet: str) -> None:
    """Also an acknowledgement that nobody waits for."""
    async with in_memory() as server:
        watcher = await server.subscriber("w", level=level)
        text = connect(level, f'"c" {will(level)}', WILL | CLEAN, keep_alive=10)
        peer = await let_in(server, text, accepted(level))
        for _ in range(5):
            await trio.sleep(14.9)
            await peer.send(packet.replace("%s", section(level)))
        await trio.sleep(14.9)
        await nothing_for(watcher)
        await trio.sleep(0.2)
        await watcher.expect(f"30 [\"w\" {section(level)} 'x']")


@conforms(edge="connecting-9")
@pytest.mark.parametrize("level", LEVELS)
async def test_half_a_packet_does_not(autojump_clock: MockClock, level: int) -> None:
    """Bytes that keep coming, of a packet that does not end, are no sign of life."""
    async with in_memory() as server:
        watcher = await server.subscriber("w", level=level)
        text = connect(level, f'"c" {will(level)}', WILL | CLEAN, keep_alive=10)
        peer = await let_in(server, text, accepted(level))
        await peer.send("30 64 0001 't'")
        for _ in range(7):
            await trio.sleep(2)
            await peer.send("00")
        await nothing_for(watcher)
        await trio.sleep(1.1)
        await watcher.expect(f"30 [\"w\" {section(level)} 'x']")
        await peer.expect_end(ended(level, 0x8D))


# -- who is not let in


@conforms(edge="connecting-10")
@pytest.mark.parametrize(("user", "password", "code"), [("u", "wrong", 0x86), ("banned", "right", 0x87)])
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_a_refused_client_leaves_nothing(transport: str, level: int, user: str, password: str, code: int) -> None:
    """No will, no session, no takeover, and it cannot clean away the session of another."""
    async with guarded(transport, Passwords()) as server:
        first = await let_in(server, connect(level, '"c" "u" "right"', 0xC0, properties=KEPT), accepted(level))
        await first.send(f'82 [0001 {section(level)} "#" 00]')
        await first.expect(f"90 [0001 {section(level)} 00]")
        for name in ("c", "d"):
            for clean in (0, CLEAN):
                payload = f'"{name}" {will(level)} "{user}" "{password}"'
                await expect_refusal(
                    server, connect(level, payload, 0xC4 | clean, properties=KEPT), refused(level, code)
                )
        await nothing_for(first)
        assert await sessions(server) == 1
        await first.break_off()
        await settled()
        await expect_refusal(
            server, connect(level, f'"c" "{user}" "{password}"', 0xC2, properties=KEPT), refused(level, code)
        )
        text = connect(level, '"c" "u" "right"', 0xC0, properties=KEPT)
        again = await let_in(server, text, accepted(level, session=level != 3))
        await again.send(f"30 [\"t\" {section(level)} 'x']")
        await again.expect(f"30 [\"t\" {section(level)} 'x']")


@conforms(edge="connecting-11")
@pytest.mark.parametrize("end", ["e0 []", ""])
async def test_the_assigned_identifier_leads_back(server: Server, end: str) -> None:
    """With it the client gets its session again, and is not told an identifier a second time."""
    peer, packet = await server.connack("", clean=False, properties=KEPT)
    place = packet.index(b"auto-")
    name = packet[place : place + 29].decode()
    await peer.send('82 [0001 [] "t" 00]')
    await peer.expect("90 [0001 [] 00]")
    if end:
        await go(peer, end)
    await peer.break_off()
    await settled()
    peer = await let_in(server, connect(5, f'"{name}"', 0, properties=KEPT), accepted(5, session=True))
    await peer.send("30 [\"t\" [] 'x']")
    await peer.expect("30 [\"t\" [] 'x']")
    _, other = await server.connack("", clean=False, properties=KEPT)
    assert other[2] == 0  # another without a name is another client


# -- clients with little room


@conforms(edge="connecting-12")
async def test_connack_for_a_client_with_little_room(server: Server) -> None:
    """It comes where it just fits; where one byte is missing the connection ends, without a byte."""
    await let_in(server, connect(5, properties="27 00000010"), accepted(5))
    await expect_refusal(server, connect(5, '"d"', properties="27 0000000f"), "")
    _, packet = await server.connack("", properties="27 00000030")
    assert len(packet) == 0x30
    await expect_refusal(server, connect(5, '""', properties="27 0000002f"), "")
    assert await sessions(server) == 2


@conforms(edge="connecting-12", v5="3.1.2-24")
@pytest.mark.settings(mqtt={"max_clientid_len": 23, "max_qos_allowed": 1})
@pytest.mark.parametrize(
    ("payload", "flags", "code"),
    [("{'x' * 24}", 0x02, 0x85), ('"c" [] "w" "x"', 0x16, 0x9B), ('"c" [] "+" "x"', 0x06, 0x90)],
)
async def test_a_refusal_for_a_client_with_little_room(server: Server, payload: str, flags: int, code: int) -> None:
    """CONNACK with a code has five bytes, so who takes five is told, and who takes four is not."""
    await expect_refusal(server, connect(5, payload, flags, properties="27 00000005"), refused(5, code))
    await expect_refusal(server, connect(5, payload, flags, properties="27 00000004"), "")
