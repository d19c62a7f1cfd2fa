"""CONNACK: when it comes, session present, its codes, and what it announces.

Invariant: it comes once, before all else, and what it says is true of the broker that says it.
"""

from __future__ import annotations

import pytest
import trio
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
    settled,
    will,
)
from conformance.in_memory import in_memory
from conformance.peer import Server
from conformance.statement import conforms
from trio.testing import MockClock

KEPT = "11 00000e10"  # session expiry in an hour
WILL, WILL_QOS_1, WILL_QOS_2, WILL_RETAIN = 0x06, 0x0E, 0x16, 0x26


async def expect_refusal(server: Server, text: str, answer: str) -> None:
    peer = await server.peer()
    await peer.send(text)
    await peer.expect_end(answer)


@conforms(v311="3.2.0-1", v5="3.2.0-1")
@pytest.mark.parametrize("level", LEVELS)
async def test_it_comes_first(server: Server, level: int) -> None:
    """Before what waited in the session, and before the answers to what stood right behind CONNECT."""
    publisher = await server.connected("p", level)
    peer = await let_in(server, connect(level, flags=0, properties=KEPT), accepted(level))
    await peer.send(f'82 [0001 {section(level)} "t" 01]')
    await peer.expect(f"90 [0001 {section(level)} 01]")
    await peer.break_off()
    await settled()
    await publisher.send(f"32 [\"t\" 0001 {section(level)} 'waits']")
    await publisher.expect("40 [0001]")
    behind = f'c0 [] 82 [0002 {section(level)} "u" 00] c0 []'
    text = connect(level, flags=0, properties=KEPT) + behind
    peer = await let_in(server, text, accepted(level, session=True))
    message = f"32 [\"t\" 0001 {section(level)} 'waits']"
    await peer.expect_any_order(message, "d0 []", f"90 [0002 {section(level)} 00]", "d0 []")


@conforms(v5="3.2.0-2")
async def test_it_comes_once(server: Server) -> None:
    """A second CONNECT gets none, whether it comes at once or later; nor does anything else."""
    peer = await let_in(server, connect(5), accepted(5))
    await peer.send('c0 [] 82 [0001 [] "t" 00]')
    await peer.expect_any_order("d0 []", "90 [0001 [] 00]")
    await peer.send(connect(5))
    await peer.expect_end("e0 [82]")
    await expect_refusal(server, connect(5) * 2, accepted(5) + "e0 [82]")


@conforms(v311="3.2.2-2 3.2.2-3", v5="3.2.2-1 3.2.2-3")
@pytest.mark.parametrize("level", LEVELS)
async def test_session_present(server: Server, level: int) -> None:
    """0 for a new session, 1 for one that was there; no other bit of that byte is set."""
    text = connect(level, flags=0, properties=KEPT)
    for session in (False, True, True):
        peer = await let_in(server, text, accepted(level, session=session))
        await peer.send("e0 []")
        await peer.expect_end()
    other = await let_in(server, text.replace('"c"', '"d"'), accepted(level))
    await other.expect_nothing()


@conforms(v311="3.2.2-1", v5="3.2.2-2")
@pytest.mark.parametrize("connected", [False, True])
@pytest.mark.parametrize("level", LEVELS)
async def test_session_present_after_a_clean_start(server: Server, level: int, connected: bool) -> None:
    """0, though there was a session, on its own or with a connection."""
    peer = await let_in(server, connect(level, flags=0, properties=KEPT), accepted(level))
    if not connected:
        await peer.break_off()
        await settled()
    await let_in(server, connect(level, properties=KEPT), accepted(level))


@conforms(v311="3.2.2-2 3.2.2-3", v5="3.2.2-3")
@pytest.mark.parametrize("level", LEVELS)
async def test_session_present_after_the_end_of_a_session(server: Server, level: int) -> None:
    """0 where the session has ended with its connection."""
    peer = await let_in(server, connect(level), accepted(level))
    await peer.break_off()
    await settled()
    await let_in(server, connect(level, flags=0), accepted(level))


@conforms(v311="3.2.2-4 3.2.2-5", v5="3.2.2-6 3.2.2-7")
@pytest.mark.parametrize("level", LEVELS)
async def test_session_present_of_a_refusal(transport: str, level: int) -> None:
    """0, though there is a session, and then the end; the session stays for who knows the password."""
    async with guarded(transport, Passwords()) as server:
        right, wrong = (connect(level, f'"c" "u" "{word}"', 0xC0, properties=KEPT) for word in ("right", "wrong"))
        peer = await let_in(server, right, accepted(level))
        await peer.send("e0 []")
        await peer.expect_end()
        await expect_refusal(server, wrong, refused(level, 0x86))
        await let_in(server, right, accepted(level, session=True))


@conforms(v311="3.2.2-5 3.2.2-6", v5="3.2.2-7 3.2.2-8")
@pytest.mark.settings(mqtt={"max_clientid_len": 23, "max_qos_allowed": 1, "retain_available": False})
@pytest.mark.parametrize(
    ("text", "code"),
    [
        (("{'x' * 24}", 0x02), 0x85),
        (('"c" %s', WILL_QOS_2), 0x9B),
        (('"c" %s', WILL_RETAIN), 0x9A),
        (('"c"', 0x03), 0x81),
        (('"c"', WILL), 0x81),
    ],
)
@pytest.mark.parametrize("level", LEVELS)
async def test_every_refusal_has_a_code_of_the_table(
    server: Server, level: int, text: tuple[str, int], code: int
) -> None:
    """3.1.1 has five return codes; where none of them fits, the connection ends without CONNACK."""
    payload, flags = text
    await expect_refusal(server, connect(level, payload.replace("%s", will(level)), flags), refused(level, code))


@conforms(v311="3.2.2-5 3.2.2-6", v5="3.2.2-7 3.2.2-8")
@pytest.mark.parametrize("level", LEVELS)
async def test_refusals_of_versions_and_persons(transport: str, level: int) -> None:
    """The codes for another protocol, a wrong password and somebody who is not welcome, each with the end behind it."""
    async with guarded(transport, Passwords()) as server:
        await expect_refusal(server, connect(level).replace("MQTT", "MQTX"), refused(level, 0x84))
        await expect_refusal(server, connect(level, '"c" "u" "wrong"', 0xC2), refused(level, 0x86))
        await expect_refusal(server, connect(level, '"c" "banned" "right"', 0xC2), refused(level, 0x87))


# -- what it announces


@conforms(v5="3.2.2-9 3.2.2-10")
@pytest.mark.parametrize(
    "most",
    [
        pytest.param(0, marks=pytest.mark.settings(mqtt={"max_qos_allowed": 0})),
        pytest.param(1, marks=pytest.mark.settings(mqtt={"max_qos_allowed": 1})),
        pytest.param(2, marks=pytest.mark.settings(mqtt={"max_qos_allowed": 2})),
    ],
)
async def test_maximum_qos(server: Server, most: int) -> None:
    """Announced where it is below 2; a SUBSCRIBE for more is granted what there is."""
    limits = LIMITS.replace("27", f"24 {most:02x} 27") if most < 2 else LIMITS
    peer = await let_in(server, connect(5), f"20 [00 00 [{limits}]]")
    await peer.send('82 [0001 [] "a" 00 "b" 01 "c" 02]')
    await peer.expect(f"90 [0001 [] 00 {min(1, most):02x} {most:02x}]")
    packets = ["30 [\"a\" [] 'x']", "32 [\"b\" 0001 [] 'x']", "34 [\"c\" 0001 [] 'x']"]
    acknowledgements = {0: [], 1: ["40 [0001]"], 2: ["50 [0001]"]}
    await peer.send(packets[most])
    await peer.expect_any_order(packets[most], *acknowledgements[most])
    if most < 2:
        beyond = await server.connected("d")
        await beyond.send(packets[most + 1])
        await beyond.expect_end("e0 [9b]")


@conforms(v5="3.2.2-12")
@pytest.mark.parametrize(
    ("most", "flags"),
    [
        pytest.param(0, WILL_QOS_1, marks=pytest.mark.settings(mqtt={"max_qos_allowed": 0})),
        pytest.param(0, WILL_QOS_2, marks=pytest.mark.settings(mqtt={"max_qos_allowed": 0})),
        pytest.param(1, WILL_QOS_2, marks=pytest.mark.settings(mqtt={"max_qos_allowed": 1})),
    ],
)
async def test_a_will_above_the_maximum_qos(server: Server, most: int, flags: int) -> None:
    """Refused with 0x9B; nobody is taken over, and a will of the highest QoS there is comes in."""
    watcher = await server.subscriber("w")
    first = await server.connected("c")
    await expect_refusal(server, connect(5, f'"c" {will(5)}', flags), refused(5, 0x9B))
    await nothing_for(watcher)
    await first.expect_nothing()
    _, packet = await server.connack("d")
    assert bytes([0x24, most]) in packet
    await let_in(server, connect(5, f'"e" {will(5)}', WILL | most << 3), packet)


@conforms(v5="3.2.2-13")
@pytest.mark.settings(mqtt={"retain_available": False})
async def test_a_will_to_be_retained_where_nothing_is(server: Server) -> None:
    """Refused with 0x9A; the same will without retain comes in, and CONNACK has said so."""
    first = await server.connected("c")
    await expect_refusal(server, connect(5, f'"c" {will(5)}', WILL_RETAIN), refused(5, 0x9A))
    await first.expect_nothing()
    announced = "20 [00 00 [21 0064 25 00 27 00100000 22 ffff]]"
    await let_in(server, connect(5, f'"d" {will(5)}', WILL), announced)


@conforms(v5="3.2.2-16")
async def test_the_assigned_client_identifier(server: Server) -> None:
    """There is one exactly when the client came without, and no other session has it."""
    names: set[bytes] = set()
    for flags in (0x00, 0x02) * 5:
        peer = await server.peer()
        await peer.send(connect(5, '""', flags, properties=KEPT))
        packet = await peer.packet()
        place = packet.index(b"\x12\x00\x1dauto-") + 3
        names.add(packet[place : place + 29])
        if len(names) % 2:
            await peer.break_off()
    assert len(names) == 10
    await let_in(server, connect(5, '"c"'), accepted(5))


@conforms(v5="3.2.2-19 3.2.2-20")
async def test_nothing_makes_it_too_large(server: Server) -> None:
    """CONNACK has neither reason string nor user properties, so it comes to clients with room for the bare packet."""
    pairs = '26 "k" "v" 26 "k" "v"'
    await let_in(server, connect(5, properties=f"27 00000010 17 01 {pairs}"), accepted(5))
    await expect_refusal(server, connect(5, properties=f'27 00000005 17 01 {pairs} 15 "m"'), "20 03 00 8c 00")
    await expect_refusal(
        server, connect(5, f'"c" {will(5, _PLUS)}', WILL, properties=f"27 00000005 {pairs}"), "20 03 00 90 00"
    )


_PLUS = '"a/+"'


@conforms(v5="3.2.2-21 3.2.2-22")
@pytest.mark.parametrize("asked", [0, 10, 1000])
async def test_the_keep_alive_of_the_server(autojump_clock: MockClock, asked: int) -> None:
    """What CONNACK says holds in the place of what the client asked for."""
    async with in_memory(mqtt={"server_keepalive": 100}) as server:
        watcher = await let_in(server, connect(4, '"s"'), accepted(4))  # of 3.1.1, so without that keep alive
        await watcher.send('82 [0001 "w" 00]')
        await watcher.expect("90 [0001 00]")
        text = connect(5, f'"c" {will(5)}', WILL, keep_alive=asked)
        peer = await let_in(server, text, f"20 [00 00 [{LIMITS} 13 0064]]")
        await trio.sleep(149.9)
        await nothing_for(watcher)
        await peer.expect_end(ended(5, 0x8D))
        await watcher.expect("30 [\"w\" 'x']")


@conforms(v5="3.2.2-22")
@pytest.mark.parametrize("asked", [10, 1000])
async def test_no_keep_alive_of_the_server(autojump_clock: MockClock, asked: int) -> None:
    """CONNACK says nothing about it, and what the client asked for holds."""
    async with in_memory() as server:
        watcher = await server.subscriber("w")
        text = connect(5, f'"c" {will(5)}', WILL, keep_alive=asked)
        peer = await let_in(server, text, accepted(5))
        await trio.sleep(asked * 1.5 - 0.1)
        await nothing_for(watcher)
        await peer.expect_end(ended(5, 0x8D))


@pytest.mark.settings(
    mqtt={
        "max_awaiting_rel": 7,
        "max_qos_allowed": 1,
        "retain_available": False,
        "max_packet_size": "64KB",
        "max_topic_alias": 3,
        "wildcard_subscription": False,
        "shared_subscription": False,
        "server_keepalive": 33,
        "response_information": "r/",
    }
)
async def test_everything_it_can_announce(server: Server) -> None:
    """All limits at once, each property once; a 3.1.1 client hears of none of them."""
    said = "21 0007 24 01 25 00 27 00010000 22 0003 28 00 2a 00 13 0021"
    await let_in(server, connect(5), f"20 [00 00 [{said}]]")
    await let_in(server, connect(4, '"d"'), accepted(4))
