"""How long a session lasts, what belongs to it, and the order of what goes to it and comes from it.

Invariant: silence is never waited for; a message that comes later shows that nothing came before it.
"""

from __future__ import annotations

import pytest
import trio
from conformance.bytes_of import bytes_of
from conformance.in_memory import in_memory
from conformance.levels import LEVELS, kept, no_takers, publish, section, subscribe
from conformance.peer import Peer, Server
from conformance.statement import conforms
from trio.testing import MockClock

HOUR = 3600


async def leave(peer: Peer, level: int) -> None:
    """DISCONNECT, and the end."""
    await peer.send("e0 []" if level == 5 else "e000")
    await peer.expect_end()


@conforms(v311="4.1.0-1 4.1.0-2", v5="4.1.0-1")
@LEVELS
@pytest.mark.parametrize("clean", [True, False])
async def test_the_state_stays_while_connected(autojump_clock: MockClock, clean: bool, level: int) -> None:
    """A week on one connection, with a session that ends with it: subscriptions, open messages, open identifiers."""
    none = section(level)
    async with in_memory(mqtt={"session_expiry_interval": "1s", "await_rel_timeout": "infinity"}) as server:
        expiry = "" if clean or level == 4 else "11 00000001"
        peer = await server.connected("peer", level, clean=clean, properties=expiry)
        await subscribe(peer, level, "t", "02")
        await peer.send(f"34 [\"t\" 0009 {none} '1']")
        await peer.expect_any_order("50 [0009]", f"34 [\"t\" 0001 {none} '1']")
        await trio.sleep(7 * 24 * HOUR)
        await peer.send("50 [0001]")
        await peer.expect("62 [0001]")
        await trio.sleep(7 * 24 * HOUR)
        await peer.send("70 [0001]")
        await peer.send(f"3c [\"t\" 0009 {none} '1']")
        await peer.expect("50 [0009]")
        await peer.send("62 [0009]")
        await peer.expect("70 [0009]")
        await publish(await server.connected("publisher", level), level, "t", "2")
        await peer.expect(f"30 [\"t\" {none} '2']")


@conforms(v5="4.1.0-2 3.1.2-23")
@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize(
    ("expiry", "away", "present"),
    [
        ("", 0, False),
        ("11 00000000", 0, False),
        ("11 00000001", 2, False),
        ("11 0000003c", 59, True),
        ("11 0000003c", 61, False),
        ("11 fffffffe", 365 * 24 * HOUR, True),
        ("11 ffffffff", 10 * 365 * 24 * HOUR, True),
    ],
)
async def test_the_session_ends_when_its_time_is_over(
    autojump_clock: MockClock, expiry: str, away: int, present: bool, broken: bool
) -> None:
    """Not before; the time begins with the end of the connection, and nothing of the session is left after it."""
    async with in_memory() as server:
        peer = await server.connected("peer", properties=expiry)
        await subscribe(peer, 5, "t", "01")
        await trio.sleep(24 * HOUR)
        if broken:
            await peer.break_off()
        else:
            await leave(peer, 5)
        await trio.testing.wait_all_tasks_blocked()
        publisher = await server.connected("publisher")
        await publish(publisher, 5, "t", "missed", 1)
        await trio.sleep(away)
        peer, connack = await server.connack("peer", clean=False)
        assert connack[2] == present
        if present:
            await peer.expect("32 [\"t\" 0001 [] 'missed']")
        await publish(publisher, 5, "t", "live", 0)
        if present:
            await peer.expect("30 [\"t\" [] 'live']")
        await peer.expect_nothing()


@conforms(v311="4.1.0-1")
async def test_a_session_of_version_3_1_1_stays(autojump_clock: MockClock) -> None:
    """With clean session 0 all of it is there on the next connection, within the configured time."""
    async with in_memory(mqtt={"session_expiry_interval": "2h"}) as server:
        peer = await kept(server, "peer", 4)
        await subscribe(peer, 4, "t", "02")
        publisher = await server.connected("publisher", 4)
        for payload in ("1", "2"):
            await publish(publisher, 4, "t", payload, 2)
        await peer.expect("34 [\"t\" 0001 '1'] 34 [\"t\" 0002 '2']")
        await peer.send("50 [0001] 34 [\"u\" 0009 'x']")
        await peer.expect("62 [0001] 50 [0009]")
        await leave(peer, 4)
        await publish(publisher, 4, "t", "3", 1)
        await trio.sleep(2 * HOUR - 1)
        peer, connack = await server.connack("peer", 4, clean=False)
        assert connack == bytes_of("20 [01 00]")
        await peer.expect_any_order("62 [0001]", "3c [\"t\" 0002 '2']", "32 [\"t\" 0003 '3']")
        watcher = await server.subscriber("u", "watcher", 4)
        await peer.send("3c [\"u\" 0009 'x']")
        await peer.expect("50 [0009]")
        await publish(publisher, 4, "u", "next")
        await watcher.expect("30 [\"u\" 'next']")


@conforms(v311="4.5.0-1", v5="4.5.0-1")
@LEVELS
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_message_belongs_to_all_matching_subscribers(server: Server, qos: int, level: int) -> None:
    """Who is there gets it, who is away gets it later, the publisher is one of them; nobody else."""
    none, first = section(level), 0x30 | qos << 1
    identifier = "0001" if qos else ""
    subscribers = {name: await kept(server, name, level) for name in ("one", "two", "away", "other")}
    for (name, peer), topic_filter in zip(subscribers.items(), ("t/1", "t/+", "#", "t/2"), strict=True):
        await subscribe(peer, level, topic_filter, "02")
        if name == "away":
            await leave(peer, level)
    publisher = await server.connected("publisher", level)
    await subscribe(publisher, level, "t/#", "02")
    await publisher.send(f"{first:02x} [\"t/1\" {'0009' if qos else ''} {none} 'x']")
    delivered = f"{first:02x} [\"t/1\" {identifier} {none} 'x']"
    answer = ([], ["40 [0009]"], ["50 [0009]"])[qos]
    await publisher.expect_any_order(delivered, *answer)
    for name in ("one", "two"):
        await subscribers[name].expect(delivered)
    away = await kept(server, "away", level)
    await away.expect(delivered)
    await subscribers["other"].expect_nothing()


@conforms(v311="4.6.0-5 4.6.0-6", v5="4.6.0-5 4.6.0-6")
@LEVELS
@pytest.mark.settings(mqtt={"max_inflight": 3})
@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_messages_of_one_publisher_arrive_in_order(server: Server, qos: int, granted: int, level: int) -> None:
    """Each topic by itself, live and through a window that is too small for all."""
    none, delivered = section(level), min(qos, granted)
    subscriber = await server.connected("subscriber", level)
    await subscribe(subscriber, level, "+", f"{granted:02x}")
    publisher = await server.connected("publisher", level)
    sent = [(f"t{number % 3}", f"{number}") for number in range(30)]
    await publisher.send("".join(
        f"{0x30 | qos << 1:02x} [\"{topic}\" {f'{number:04x}' if qos else ''} {none} '{payload}']"
        for number, (topic, payload) in enumerate(sent, 1)
    ))  # fmt: skip
    received: list[bytes] = []
    while len(received) < len(sent):
        packet = await subscriber.packet()
        if packet[0] == 0x62:
            await subscriber.send(b"\x70\x02" + packet[2:4])
            continue
        received.append(packet)
        if delivered:
            identifier = packet[6:8]  # behind the two bytes of the topic
            await subscriber.send((b"\x40\x02" if delivered == 1 else b"\x50\x02") + identifier)
    assert received == [
        bytes_of(f"{0x30 | delivered << 1:02x} [\"{topic}\" {f'{number:04x}' if delivered else ''} {none} '{payload}']")
        for number, (topic, payload) in enumerate(sent, 1)
    ]


@conforms(v311="4.6.0-5 4.6.0-6", v5="4.6.0-5 4.6.0-6")
@LEVELS
async def test_what_waited_comes_before_what_is_new(server: Server, level: int) -> None:
    """Of one topic and QoS: first the queue of a client that was away, then what is published meanwhile."""
    none = section(level)
    subscriber = await kept(server, "subscriber", level)
    await subscribe(subscriber, level, "t", "01")
    await leave(subscriber, level)
    publisher = await server.connected("publisher", level)
    for number in range(40):
        await publish(publisher, level, "t", f"{number}", 1)
    subscriber = await kept(server, "subscriber", level)
    for number in range(40, 50):
        await publish(publisher, level, "t", f"{number}", 1)
    for number in range(50):
        await subscriber.expect(f"32 [\"t\" {number + 1:04x} {none} '{number}']")
        await subscriber.send(f"40 [{number + 1:04x}]")


@conforms(v311="4.6.0-1", v5="4.6.0-1")
@LEVELS
@pytest.mark.parametrize(("first", "again"), [("32", "3a"), ("34", "3c")])
async def test_what_is_sent_again_goes_in_the_first_order(server: Server, first: str, again: str, level: int) -> None:
    """Also after some of them were acknowledged out of order, and when identifiers are used anew."""
    none = section(level)
    subscriber = await kept(server, "subscriber", level)
    await subscribe(subscriber, level, "+", "02")
    publisher = await server.connected("publisher", level)
    for number in range(1, 7):
        await publisher.send(f"{first} [\"t{number % 2}\" {number:04x} {none} '{number}']")
        await subscriber.expect(f"{first} [\"t{number % 2}\" {number:04x} {none} '{number}']")
    for identifier in ("0005", "0001"):
        await subscriber.send(f"40 [{identifier}]" if first == "32" else f"50 [{identifier}]")
        if first == "34":
            await subscriber.expect(f"62 [{identifier}]")
            await subscriber.send(f"70 [{identifier}]")
    await publisher.send(f"{first} [\"t1\" 0007 {none} '7']")
    packet = await subscriber.packet()
    seventh = packet[6:8].hex()
    for _ in range(2):
        await subscriber.break_off()
        subscriber = await kept(server, "subscriber", level)
        for number in (2, 3, 4, 6):
            await subscriber.expect(f"{again} [\"t{number % 2}\" {number:04x} {none} '{number}']")
        await subscriber.expect(f"{again} [\"t1\" {seventh} {none} '7']")
        await subscriber.expect_nothing()


@conforms(v311="4.6.0-1", v5="4.6.0-1")
@LEVELS
async def test_pubrel_and_publish_are_sent_again_in_order(server: Server, level: int) -> None:
    """All of them in the order of their messages."""
    none = section(level)
    subscriber = await kept(server, "subscriber", level)
    await subscribe(subscriber, level, "t", "02")
    publisher = await server.connected("publisher", level)
    for number in range(1, 7):
        await publish(publisher, level, "t", f"{number}", 2)
        await subscriber.expect(f"34 [\"t\" {number:04x} {none} '{number}']")
    for number in (4, 2, 5):
        await subscriber.send(f"50 [{number:04x}]")
        await subscriber.expect(f"62 [{number:04x}]")
    await subscriber.break_off()
    subscriber = await kept(server, "subscriber", level)
    # The order among the PUBREL packets is the broker's own choice.
    await subscriber.expect(f"3c [\"t\" 0001 {none} '1'] 62 [0002] 3c [\"t\" 0003 {none} '3']")
    await subscriber.expect(f"62 [0004] 62 [0005] 3c [\"t\" 0006 {none} '6']")
    await subscriber.expect_nothing()


@conforms(v311="4.6.0-2 4.6.0-3", v5="4.6.0-2 4.6.0-3")
@LEVELS
async def test_acknowledgements_come_in_the_order_of_the_messages(server: Server, level: int) -> None:
    """PUBACKs and PUBRECs each in the order of their PUBLISH packets, whoever is subscribed, in one piece or not."""
    none, nobody = section(level), no_takers(level)
    for qos in (0, 1, 2):
        await server.subscriber(f"{qos}", f"subscriber{qos}", level, qos)
    publisher = await server.connected("publisher", level)
    identifiers = [(number * 7919) % 65535 + 1 for number in range(60)]
    await publisher.send("".join(
        f"{'32' if number % 2 else '34'} [\"{number % 5}\" {identifier:04x} {none}]"
        for number, identifier in enumerate(identifiers)
    ))  # fmt: skip
    for parity, first in ((1, 0x40), (0, 0x50)):
        wanted = [
            bytes_of(f"{first:02x} [{identifier:04x} {nobody if number % 5 > 2 else ''}]")
            for number, identifier in enumerate(identifiers)
            if number % 2 == parity
        ]
        if parity:
            packets = [await publisher.packet() for _ in range(60)]
        assert [packet for packet in packets if packet[0] == first] == wanted


@conforms(v311="4.6.0-4", v5="4.6.0-4")
@LEVELS
async def test_pubrel_comes_in_the_order_of_pubrec(server: Server, level: int) -> None:
    """And PUBCOMP in the order of PUBREL."""
    none = section(level)
    subscriber = await server.subscriber("t", level=level, qos=2)
    publisher = await server.connected("publisher", level)
    await publisher.send("".join(f'34 ["t" {number:04x} {none}]' for number in range(1, 21)))
    await publisher.expect("".join(f"50 [{number:04x}]" for number in range(1, 21)))
    await subscriber.expect("".join(f'34 ["t" {number:04x} {none}]' for number in range(1, 21)))
    shuffled = [number * 8 % 21 for number in range(1, 21)]
    assert sorted(shuffled) == list(range(1, 21))
    await subscriber.send("".join(f"50 [{number:04x}]" for number in shuffled))
    await subscriber.expect("".join(f"62 [{number:04x}]" for number in shuffled))
    await publisher.send("".join(f"62 [{number:04x}]" for number in shuffled))
    await publisher.expect("".join(f"70 [{number:04x}]" for number in shuffled))
