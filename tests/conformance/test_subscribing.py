"""Edge cases of subscribing: retained messages, replacing, identifiers, no local, refusals.

Invariant: a message that must not come is looked for when the broker has worked off everything.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from conformance.bytes_of import bytes_of, variable_byte_integer
from conformance.connecting import LEVELS, ended, guarded, nothing_for, section
from conformance.peer import Peer, Server
from conformance.statement import conforms

SESSION = "11 00000e10"  # an hour


@pytest.fixture
async def guarded_server(transport: str) -> AsyncIterator[Server]:
    """A broker where nobody may subscribe to `secret`."""
    async with guarded(transport) as server:
        yield server


async def subscribe(peer: Peer, topic_filter: str, options: int, properties: str = "") -> None:
    await peer.send(f'82 [fffe [{properties}] "{topic_filter}" {options:02x}]')
    await peer.expect(f"90 [fffe [] {options & 3:02x}]")


async def publish(peer: Peer, text: str) -> None:
    """Publish with QoS 1 what `text` says behind `32` or `33`, and see that the broker has passed it on."""
    await peer.send(text)
    answer = await peer.packet()
    assert answer in (bytes_of("40 [0001]"), bytes_of("40 [0001 10]"))


async def keep(server: Server, payload: str = "kept", topic: str = "t") -> Peer:
    """A publisher that has left a retained message."""
    publisher = await server.connected("publisher")
    await publish(publisher, f"33 [\"{topic}\" 0001 [] '{payload}']")
    return publisher


async def durable(server: Server, *, clean: bool = False) -> Peer:
    """The client `c`, whose session outlives its connection."""
    return await server.connected("c", clean=clean, properties=SESSION)


async def leave(peer: Peer) -> None:
    await peer.send("e000")
    await peer.expect_end()


@conforms(edge="subscribing-1")
async def test_retain_handling_1_across_connections(server: Server) -> None:
    """A subscription that came back with its session is not new; after a clean start, or once ended, it is."""
    await keep(server)
    kept = "31 [\"t\" [] 'kept']"
    peer = await durable(server, clean=True)
    await subscribe(peer, "t", 0x10)
    await peer.expect(kept)
    for options in (0x10, 0x10, 0x18, 0x14):
        await subscribe(peer, "t", options)
        await nothing_for(peer)
    await leave(peer)
    peer = await durable(server)
    await subscribe(peer, "t", 0x10)
    await nothing_for(peer)
    await peer.send('a2 [0001 [] "t"]')
    await peer.expect("b0 [0001 [] 00]")
    await subscribe(peer, "t", 0x10)
    await peer.expect(kept)
    await leave(peer)
    peer = await durable(server, clean=True)
    await subscribe(peer, "t", 0x10)
    await peer.expect(kept)
    await nothing_for(peer)


@conforms(edge="subscribing-1")
async def test_retain_handling_1_and_other_filters(server: Server) -> None:
    """A filter that matches the same, and a share of the very same, do not make it exist."""
    await keep(server)
    peer = await server.connected("c")
    for topic_filter in ("$share/g/t", "$share/h/t"):
        await subscribe(peer, topic_filter, 0x10)
    await nothing_for(peer)
    for topic_filter in ("t", "+", "#", "t/#"):
        await subscribe(peer, topic_filter, 0x10)
        await peer.expect("31 [\"t\" [] 'kept']")
    for topic_filter in ("t", "+", "$share/g/t"):
        await subscribe(peer, topic_filter, 0x10)
    await nothing_for(peer)


@conforms(edge="subscribing-2")
@pytest.mark.parametrize("stored", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
async def test_retained_messages_of_a_new_subscription(server: Server, stored: int, granted: int) -> None:
    """RETAIN is 1 whatever retain as published says; the QoS is the smaller of the stored and the granted."""
    publisher = await server.connected("publisher")
    identifier = "0001" if stored else ""
    await publisher.send(f"{0x31 | stored << 1:02x} [\"t\" {identifier} [] 'kept']")
    await handshake(publisher, stored)
    qos = min(stored, granted)
    for as_published in (0, 8):
        peer = await server.connected(f"c{as_published}")
        await subscribe(peer, "t", granted | as_published)
        await peer.expect(f"{0x31 | qos << 1:02x} [\"t\" {'0001' if qos else ''} [] 'kept']")


async def handshake(publisher: Peer, qos: int) -> None:
    """The handshake of the message with identifier 1."""
    if qos == 1:
        await publisher.expect("40 [0001 10]")
    if qos == 2:
        await publisher.expect("50 [0001 10]")
        await publisher.send("62 [0001]")
        await publisher.expect("70 [0001]")
    await nothing_for(publisher)


@conforms(edge="subscribing-3")
@pytest.mark.settings(mqtt={"max_inflight": 100})
@pytest.mark.parametrize("qos", [0, 1])
async def test_no_gap_between_retained_and_live(server: Server, qos: int) -> None:
    """Who subscribes while a retained message is replaced again and again gets the state there is and every later
    one, and never an older one behind a newer."""
    count = 60

    async def follow(peer: Peer) -> None:
        await peer.send(f'82 [0001 [] "t" {qos:02x}]')
        await peer.expect(f"90 [0001 [] {qos:02x}]")
        seen: list[int] = []
        while not seen or seen[-1] != count - 1:
            packet = await peer.packet()
            assert packet[0] & 0xF6 == 0x30 | qos << 1
            assert not seen or not packet[0] & 1, "a retained message behind a newer one"
            seen.append(int.from_bytes(packet[-2:], "big"))
        assert seen == list(range(seen[0], count))
        await nothing_for(peer)

    publisher = await server.connected("publisher")
    peers = [await server.connected(f"c{number}") for number in range(10)]
    async with trio.open_nursery() as nursery:
        for number in range(count):
            await publish(publisher, f'33 ["t" 0001 [] {number:04x}]')
            if number % 6 == 1:
                nursery.start_soon(follow, peers.pop())
    assert not peers


@conforms(edge="subscribing-4")
async def test_what_is_replaced(server: Server) -> None:
    """Subscribing again replaces QoS, identifier, no local and retain as published; what is not there is gone."""
    peer = await server.connected("c")
    publisher = await server.connected("publisher")
    steps = [
        # Properties and options of the SUBSCRIBE; first byte and properties of what then comes.
        ("0b 07", 0x29, "33", "0b 07"),
        ("0b 8001", 0x21, "32", "0b 8001"),
        ("", 0x28, "31", ""),
        ("0b 02", 0x22, "32", "0b 02"),
        ("", 0x22, "32", ""),
    ]
    identifier = 0
    for properties, options, first, got in steps:
        await subscribe(peer, "t", options, properties)
        await publish(publisher, "33 [\"t\" 0001 [] 'x']")
        identifier += bool(options & 3)
        await peer.expect(f"{first} [\"t\" {f'{identifier:04x}' if options & 3 else ''} [{got}] 'x']")
    await subscribe(peer, "t", 0x24)
    await peer.send("30 [\"t\" [] 'own']")
    await nothing_for(peer)
    await subscribe(peer, "t", 0x20)
    await peer.send("30 [\"t\" [] 'own']")
    await peer.expect("30 [\"t\" [] 'own']")
    await nothing_for(peer)


@conforms(edge="subscribing-5")
@pytest.mark.parametrize(
    ("properties", "code"),
    [
        ("0b 00", 0x82),
        ("0b 01 0b 01", 0x82),
        ("0b 01 0b 02", 0x82),
        # No variable byte integer is larger than 268,435,455, so these cannot be read.
        ("0b ffffffff01", 0x81),
        ("0b 8080808001", 0x81),
        ("0b 8000", 0x81),
        ("0b", 0x81),
        ("0b ff", 0x81),
    ],
)
async def test_wrong_identifiers(server: Server, properties: str, code: int) -> None:
    """Subscription identifier 0, two of them, or one that is too large end the connection."""
    peer = await server.connected("c")
    await peer.send(f'82 [0001 [{properties}] "t" 00]')
    await peer.expect_end(ended(5, code))


@conforms(edge="subscribing-5")
@pytest.mark.parametrize("number", [1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455])
async def test_identifiers_are_kept(server: Server, number: int) -> None:
    """An identifier stands in live, retained and queued messages, also when the client was away in between."""
    identifier = f"0b {variable_byte_integer(number).hex()}"
    publisher = await keep(server)
    peer = await durable(server, clean=True)
    await peer.send(f'82 [0001 [{identifier}] "t" 01 "u" 01]')
    await peer.expect(f"90 [0001 [] 01 01] 33 [\"t\" 0001 [{identifier}] 'kept']")
    await publish(publisher, "32 [\"u\" 0001 [] 'live']")
    await peer.expect(f"32 [\"u\" 0002 [{identifier}] 'live']")
    await peer.send("40 [0001]")
    await leave(peer)
    await publish(publisher, "32 [\"t\" 0001 [] 'away']")
    peer = await durable(server)
    await peer.expect(f"3a [\"u\" 0002 [{identifier}] 'live'] 32 [\"t\" 0003 [{identifier}] 'away']")
    await publish(publisher, "32 [\"t\" 0001 [] 'back']")
    await peer.expect(f"32 [\"t\" 0004 [{identifier}] 'back']")


@conforms(edge="subscribing-6")
async def test_no_local_is_about_the_client(server: Server) -> None:
    """What a client published on an earlier connection is its own too, whether it was there then or not."""
    peer = await durable(server, clean=True)
    await subscribe(peer, "t", 5)
    await subscribe(peer, "w", 5)
    await leave(peer)
    peer = await server.peer()
    will = '[] "w" "will"'
    await peer.send(f'10 ["MQTT" 05 04 0000 [{SESSION}] "c" {will}]')
    assert (await peer.packet())[2:4] == b"\x01\x00"
    await publish(peer, "32 [\"t\" 0001 [] 'own']")
    await nothing_for(peer)
    # Its will is its own message as well.
    other = await server.subscriber("w", client_id="other")
    await peer.break_off()
    await other.expect("30 [\"w\" [] 'will']")
    await publish(other, "32 [\"t\" 0001 [] 'away']")
    peer = await durable(server)
    await peer.expect("32 [\"t\" 0001 [] 'away']")
    await publish(other, "32 [\"t\" 0001 [] 'back']")
    await peer.expect("32 [\"t\" 0002 [] 'back']")
    await nothing_for(peer)


@conforms(edge="subscribing-6")
async def test_no_local_and_a_full_window(server: Server) -> None:
    """A client's own messages do not wait in its session either, when no more can be sent to it."""
    peer = await server.connected("c", properties="21 0001")
    other = await server.connected("other")
    await subscribe(peer, "t", 5)
    for payload in ("1", "2"):
        await publish(other, f"32 [\"t\" 0001 [] '{payload}']")
        if payload == "1":
            await peer.expect("32 [\"t\" 0001 [] '1']")
        await publish(peer, "32 [\"t\" 0001 [] 'own']")
    await peer.send("40 [0001]")
    await peer.expect("32 [\"t\" 0002 [] '2']")
    await peer.send("40 [0002]")
    await nothing_for(peer)


@conforms(edge="subscribing-6")
async def test_no_local_and_another_subscription(server: Server) -> None:
    """No local is of one subscription: by another that matches, a client's own message comes, on that one's terms."""
    peer = await server.connected("c")
    other = await server.connected("other")
    await subscribe(peer, "t", 0x05, "0b 01")
    await subscribe(peer, "#", 0x00, "0b 02")
    await peer.send("34 [\"t\" 0001 [] 'own']")
    await peer.expect_any_order("50 [0001]", "30 [\"t\" [0b 02] 'own']")
    await publish(other, "32 [\"t\" 0001 [] 'x']")
    packet = await peer.packet()
    assert packet in (bytes_of(f"32 [\"t\" 0001 [{it}] 'x']") for it in ("0b 01 0b 02", "0b 02 0b 01"))
    await nothing_for(peer)


@conforms(edge="subscribing-6")
async def test_no_local_and_retained_messages(server: Server) -> None:
    """The text leaves it open; here a new subscription brings every retained message, also the client's own."""
    peer = await server.connected("c")
    await publish(peer, "33 [\"t\" 0001 [] 'own']")
    await subscribe(peer, "t", 0x04)
    await peer.expect("31 [\"t\" [] 'own']")
    await peer.send("31 [\"t\" [] 'new']")
    await nothing_for(peer)
    await subscribe(peer, "t", 0x04)
    await peer.expect("31 [\"t\" [] 'new']")
    await nothing_for(peer)


@conforms(edge="subscribing-7")
@pytest.mark.parametrize("level", LEVELS)
async def test_the_same_filter_twice(server: Server, level: int) -> None:
    """Two codes, and the last one counts; the UNSUBSCRIBE that ends it ends it whole."""
    peer = await server.connected("c", level)
    publisher = await server.connected("publisher")
    for first, last in ((2, 0), (0, 1), (1, 2)):
        await peer.send(f'82 [0001 {section(level)} "t" {first:02x} "u" 00 "t" {last:02x}]')
        await peer.expect(f"90 [0001 {section(level)} {first:02x} 00 {last:02x}]")
        await publisher.send("34 [\"t\" 0001 [] 'x']")
        await publisher.expect("50 [0001]")
        await publisher.send("62 [0001]")
        await publisher.expect("70 [0001]")
        packet = await peer.packet()
        assert packet[0] == 0x30 | last << 1
        await nothing_for(peer)
    await peer.send(f'a2 [0001 {section(level)} "t"]')
    await peer.expect(f"b0 [0001 {'[] 00' if level == 5 else ''}]")
    await publisher.send("30 [\"t\" [] 'x']")
    await nothing_for(peer)


@conforms(edge="subscribing-7")
async def test_the_same_filter_twice_and_options(server: Server) -> None:
    """With the options of the last one; retain handling 1 finds the first one there."""
    publisher = await keep(server)
    peer = await server.connected("c")
    await peer.send('82 [0001 [0b 05] "t" 08 "t" 11]')
    await peer.expect("90 [0001 [] 00 01] 31 [\"t\" [0b 05] 'kept']")
    await nothing_for(peer)
    await publish(publisher, "33 [\"t\" 0001 [] 'live']")
    await peer.expect("32 [\"t\" 0001 [0b 05] 'live']")
    await nothing_for(peer)


@conforms(edge="subscribing-8")
@pytest.mark.parametrize("level", LEVELS)
async def test_not_authorized(guarded_server: Server, level: int) -> None:
    """A filter that the client may not have is refused, also as a share; the others of the SUBSCRIBE stand."""
    peer = await guarded_server.connected("c", level)
    await peer.send(f'82 [0001 {section(level)} "a" 01 "secret" 01 "b" 00 "$share/g/secret" 00]')
    refusal = "87" if level == 5 else "80"
    await peer.expect(f"90 [0001 {section(level)} 01 {refusal} 00 {refusal}]")
    for topic in ("a", "b"):
        await peer.send(f"30 [\"{topic}\" {section(level)} 'x']")
        await peer.expect(f"30 [\"{topic}\" {section(level)} 'x']")
    await peer.send(f'a2 [0002 {section(level)} "secret" "$share/g/secret" "a"]')
    await peer.expect(f"b0 [0002 {'[] 11 11 00' if level == 5 else ''}]")


@conforms(edge="subscribing-8")
async def test_not_authorized_in_31(guarded_server: Server) -> None:
    """A client of 3.1 cannot be told in SUBACK, so its connection ends; with 5.0 nothing but the filter is lost."""
    peer = await guarded_server.connected("c", 3)
    await peer.send('82 [0001 "a" 00 "secret" 00]')
    await peer.expect_end()
    peer = await guarded_server.connected("c")
    await peer.send('82 [0001 [] "secret" 02]')
    await peer.expect("90 [0001 [] 87]")
    await nothing_for(peer)


@conforms(edge="subscribing-8")
@pytest.mark.settings(mqtt={"max_subscriptions": 2})
@pytest.mark.parametrize("level", LEVELS)
async def test_quota(server: Server, level: int) -> None:
    """More subscriptions than a session may have are refused; those there are can be replaced, and make room."""
    peer = await server.connected("c", level)
    refusal = "97" if level == 5 else "80"
    await peer.send(f'82 [0001 {section(level)} "a" 00 "b" 00 "c" 00 "a" 01 "$share/g/a" 00]')
    await peer.expect(f"90 [0001 {section(level)} 00 00 {refusal} 01 {refusal}]")
    await peer.send(f'a2 [0002 {section(level)} "b"]')
    await peer.expect(f"b0 [0002 {'[] 00' if level == 5 else ''}]")
    await peer.send(f'82 [0003 {section(level)} "c" 02 "b" 00]')
    await peer.expect(f"90 [0003 {section(level)} 02 {refusal}]")
    await peer.send(f"30 [\"b\" {section(level)} 'x'] 30 [\"c\" {section(level)} 'x']")
    await peer.expect(f"30 [\"c\" {section(level)} 'x']")
    await nothing_for(peer)


@conforms(edge="subscribing-9")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("topic_filter", ["a/#/b", "a#", "a+/b", "#/", "", "+a", "a/++", "$share/g/a#"])
async def test_invalid_filters(server: Server, level: int, topic_filter: str) -> None:
    """Each is refused alone, wherever it stands, and never kept: not in the session, not with retained messages."""
    await keep(server, topic="a")
    peer = await server.connected("c", level)
    refusal = "8f" if level == 5 else "80"
    await peer.send(f'82 [0001 {section(level)} "{topic_filter}" 00 "b" 01 "{topic_filter}" 02]')
    await peer.expect(f"90 [0001 {section(level)} {refusal} 01 {refusal}]")
    await nothing_for(peer)
    assert await server.running.broker.questions.topics() == ["b"]
    for topic in ("a", "a/b", "a/x/b", "ax/b", "b"):
        await peer.send(f"30 [\"{topic}\" {section(level)} 'x']")
    await peer.expect(f"30 [\"b\" {section(level)} 'x']")
    await nothing_for(peer)


@conforms(edge="subscribing-12")
@pytest.mark.parametrize("level", LEVELS)
async def test_shared_and_not_are_two(server: Server, level: int) -> None:
    """UNSUBSCRIBE of `$share/g/a` leaves `a` and `$share/h/a` alone, and each of these the others."""
    filters = ["a", "$share/g/a", "$share/h/a"]
    publisher = await server.connected("publisher")
    for gone in filters:
        peer = await server.connected("c", level)
        for topic_filter in filters:
            await peer.send(f'82 [0001 {section(level)} "{topic_filter}" 01]')
            await peer.expect(f"90 [0001 {section(level)} 01]")
        await peer.send(f'a2 [0002 {section(level)} "{gone}"]')
        await peer.expect(f"b0 [0002 {'[] 00' if level == 5 else ''}]")
        await publish(publisher, "32 [\"a\" 0001 [] 'x']")
        await peer.expect_any_order(*[f"32 [\"a\" {number:04x} {section(level)} 'x']" for number in (1, 2)])
        await nothing_for(peer)
        rest = [one for one in filters if one != gone]
        await peer.send(f"a2 [0003 {section(level)} " + " ".join(f'"{one}"' for one in [gone, *rest]) + "]")
        await peer.expect(f"b0 [0003 {'[] 11 00 00' if level == 5 else ''}]")
        await publish(publisher, "32 [\"a\" 0001 [] 'x']")
        await nothing_for(peer)
