"""MQTT 3.1: what differs from 3.1.1. It has no numbered statements; old devices and bridges do what is tested here.

Invariant: lenient where 3.1 was, at level 3 only; level 4 is as strict as its own tests say.
"""

from __future__ import annotations

import pytest
from conformance.connecting import accepted, connect, let_in, nothing_for, refused, sessions, settled, will
from conformance.peer import Peer, Server
from conformance.statement import conforms

MQIsdp_BRIDGE = '10 ["MQIsdp" 83 02 0000 "b"]'
MQTT_BRIDGE = '10 ["MQTT" 84 02 0000 "b"]'


async def expect_refusal(server: Server, text: str, answer: str = "") -> None:
    peer = await server.peer()
    await peer.send(text)
    await peer.expect_end(answer)


async def expect_ending(server: Server, level: int, text: str) -> None:
    peer = await server.connected("c", level)
    await peer.send(text)
    await peer.expect_end()


@conforms(edge="mqtt31-1")
@pytest.mark.parametrize(
    ("name", "level", "answer"),
    [
        ("MQIsdp", 3, "20 [00 00]"),
        ("MQTT", 4, "20 [00 00]"),
        ("MQIsdp", 0, "20 [00 01]"),
        ("MQIsdp", 2, "20 [00 01]"),
        ("MQIsdp", 4, "20 [00 01]"),
        ("MQIsdp", 5, "20 [00 01]"),
        ("MQIsdp", 6, "20 [00 01]"),
        ("MQTT", 3, "20 [00 01]"),
        ("MQTT", 2, "20 [00 01]"),
        ("mqisdp", 3, "20 [00 01]"),
        ("MQISDP", 3, "20 [00 01]"),
        ("MQIsdpX", 3, "20 [00 01]"),
    ],
)
async def test_name_and_level_have_to_fit(server: Server, name: str, level: int, answer: str) -> None:
    """Each version has a name and a number; another pair is answered with code 1, then the end."""
    text = f'10 ["{name}" {level:02x} 02 003c "c"]'
    if answer.endswith("00]"):
        peer = await let_in(server, text, answer)
        await peer.expect_nothing()
    else:
        await expect_refusal(server, text, answer)
        assert await sessions(server) == 0


@conforms(edge="mqtt31-1")
async def test_version_5_has_the_newer_name(server: Server) -> None:
    """`MQTT` with 5 is let in, `MQIsdp` with a CONNECT of version 5 is not."""
    await let_in(server, connect(5), accepted(5))
    await expect_refusal(server, '10 ["MQIsdp" 05 02 003c [] "c"]', "20 [00 01]")


@conforms(edge="mqtt31-2")
@pytest.mark.parametrize("text", [MQIsdp_BRIDGE, MQTT_BRIDGE])
async def test_a_bridge(server: Server, text: str) -> None:
    """Level with the top bit set: it does not hear its own messages, and retain comes as it was published."""
    bridge = await let_in(server, text, "20 [00 00]")
    other = await server.subscriber("#", "other", 4)
    await bridge.send('82 [0001 "#" 00]')
    await bridge.expect("90 [0001 00]")
    await bridge.send("30 [\"t\" 'own'] 31 [\"t\" 'own, retained']")
    await other.expect("30 [\"t\" 'own'] 30 [\"t\" 'own, retained']")
    await nothing_for(bridge)
    await other.send("31 [\"u\" 'retained'] 30 [\"u\" 'not']")
    await bridge.expect("31 [\"u\" 'retained'] 30 [\"u\" 'not']")
    await other.expect("30 [\"u\" 'retained'] 30 [\"u\" 'not']")


@conforms(edge="mqtt31-2")
@pytest.mark.parametrize("text", [MQIsdp_BRIDGE, MQTT_BRIDGE])
async def test_the_version_of_a_bridge(server: Server, text: str) -> None:
    """Below the top bit the level is that of the version, with its rules."""
    bridge = await let_in(server, text, "20 [00 00]")
    if text == MQIsdp_BRIDGE:
        await bridge.send('8a [0001 "t" 00]')
        await bridge.expect("90 [0001 00]")
    else:
        await bridge.send('82 [0001 "a/#/b" 00]')
        await bridge.expect("90 [0001 80]")
        await bridge.send('8a [0001 "t" 00]')
        await bridge.expect_end()


@conforms(edge="mqtt31-2")
@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('10 ["MQIsdp" 84 02 0000 "b"]', "20 [00 01]"),
        ('10 ["MQTT" 83 02 0000 "b"]', "20 [00 01]"),
        ('10 ["MQTT" 82 02 0000 [] "b"]', "20 [00 84 []]"),
        ('10 ["MQTT" 85 02 0000 [] "b"]', "20 [00 84 []]"),
    ],
)
async def test_a_bridge_of_no_version(server: Server, text: str, answer: str) -> None:
    """Name and level have to fit there too; version 5 has no such bit, but No Local and Retain As Published."""
    await expect_refusal(server, text, answer)
    again = await server.peer()
    await again.send(MQTT_BRIDGE.replace("84", "04"))
    await again.expect("20 [00 00]")


@conforms(edge="mqtt31-3")
async def test_client_identifiers(server: Server) -> None:
    """1 to 23 characters and more are accepted, none is code 2, whatever clean session says."""
    for name in ("'c'", "'c' * 23", "'c' * 24", "'c' * 500"):
        await let_in(server, connect(3, f"{{{name}}}"), "20 [00 00]")
    assert await sessions(server) == 4
    for flags in (0x00, 0x02):
        await expect_refusal(server, connect(3, '""', flags), "20 [00 02]")
    assert await sessions(server) == 4


@conforms(edge="mqtt31-3")
@pytest.mark.settings(mqtt={"max_clientid_len": 23})
async def test_client_identifiers_by_the_book(server: Server) -> None:
    """Told to take no more than 23 bytes, it refuses 24 with code 2."""
    await let_in(server, connect(3, "{'c' * 23}"), "20 [00 00]")
    await expect_refusal(server, connect(3, "{'c' * 24}"), "20 [00 02]")


@conforms(edge="mqtt31-4")
@pytest.mark.parametrize("flags", range(16))
async def test_the_unused_flags_of_connect(server: Server, flags: int) -> None:
    """DUP, QoS and RETAIN of CONNECT mean nothing at level 3, and are malformed from level 4 on."""
    peer = await let_in(server, f"1{flags:x}" + connect(3)[2:], "20 [00 00]")
    await peer.expect_nothing()
    if flags:
        for level in (4, 5):
            await expect_refusal(server, f"1{flags:x}" + connect(level)[2:], refused(level, 0x81))


@conforms(edge="mqtt31-5")
async def test_connack_has_no_session_present(server: Server) -> None:
    """Its first byte is 0 for a session that is there, and the session goes on all the same."""
    peer = await let_in(server, connect(3, flags=0), "20 [00 00]")
    await peer.send('82 [0001 "t" 01]')
    await peer.expect("90 [0001 01]")
    await peer.send("e0 []")
    await peer.expect_end()
    publisher = await server.connected("p", 3)
    await publisher.send("32 [\"t\" 0001 'x']")
    await publisher.expect("40 [0001]")
    peer = await let_in(server, connect(3, flags=0), "20 [00 00]")
    await peer.expect("32 [\"t\" 0001 'x']")
    await peer.send("40 [0001] e0 []")
    await peer.expect_end()
    await let_in(server, connect(4, flags=0), "20 [01 00]")


@conforms(edge="mqtt31-6")
@pytest.mark.parametrize("filters", ['"a/#/b" 00', '"a" 00 "b+" 01', '"#/" 02 "a" 00'])
async def test_a_subscription_that_is_refused(server: Server, filters: str) -> None:
    """SUBACK knows no failure, so the connection ends, where level 4 has 0x80."""
    await expect_ending(server, 3, f"82 [0001 {filters}]")
    peer = await server.connected("c", 4)
    await peer.send(f"82 [0001 {filters}]")
    packet = await peer.packet()
    assert packet[:1] == b"\x90"
    assert 0x80 in packet[4:]


@conforms(edge="mqtt31-6")
@pytest.mark.settings(mqtt={"wildcard_subscription": False, "max_qos_allowed": 1})
async def test_a_subscription_beyond_the_limits(server: Server) -> None:
    """Less than was asked for is granted; what cannot be granted at all ends the connection."""
    peer = await server.connected("c", 3)
    await peer.send('82 [0001 "t" 02]')
    await peer.expect("90 [0001 01]")
    await peer.send('82 [0002 "#" 00]')
    await peer.expect_end()


@conforms(edge="mqtt31-7")
async def test_dup_on_what_is_no_publish(server: Server) -> None:
    """SUBSCRIBE, UNSUBSCRIBE and PUBREL sent again carry DUP at level 3."""
    peer = await server.connected("c", 3)
    for packet in ('82 [0001 "t" 01]', '8a [0001 "t" 01]'):
        await peer.send(packet)
        await peer.expect("90 [0001 01]")
    for packet in ('aa [0002 "t"]', 'a2 [0002 "t"]'):
        await peer.send(packet)
        await peer.expect("b0 [0002]")
    await peer.send("34 [\"t\" 0003 'x']")
    await peer.expect("50 [0003]")
    for packet in ("62 [0003]", "6a [0003]"):
        await peer.send(packet)
        await peer.expect("70 [0003]")


@conforms(edge="mqtt31-7")
@pytest.mark.parametrize(("kind", "content"), [("8", '0001 "t" 01'), ("a", '0001 "t"'), ("6", "0001")])
async def test_other_flags_on_what_is_no_publish(server: Server, kind: str, content: str) -> None:
    """QoS is 1 at level 3 too; and at level 4 there is no DUP."""
    for flags in "01345678bcdef9":
        await expect_ending(server, 3, f"{kind}{flags} [{content}]")
    await expect_ending(server, 4, f"{kind}a [{content}]")


@conforms(edge="mqtt31-8")
@pytest.mark.parametrize(
    ("payload", "flags", "username"),
    [('"c"', 0x82, None), ('"c"', 0xC2, None), ('"c" "u"', 0xC2, "u"), ('"c" "u" "p"', 0xC2, "u")],
)
async def test_user_name_and_password_that_are_missing(
    server: Server, payload: str, flags: int, username: str | None
) -> None:
    """A packet that ends where the field should begin has none; level 4 closes."""
    await let_in(server, connect(3, payload, flags), "20 [00 00]")
    info = await server.running.broker.questions.client("c")
    assert info is not None
    assert info.username == username
    if payload != '"c" "u" "p"':
        await expect_refusal(server, connect(4, payload, flags))


@conforms(edge="mqtt31-8")
async def test_a_will_before_what_is_missing(server: Server) -> None:
    """A will is read as ever in front of the missing fields, and itself has to be there."""
    watcher = await server.subscriber("w", level=3)
    peer = await let_in(server, connect(3, f'"c" {will(3)}', 0xC6), "20 [00 00]")
    await peer.break_off()
    await watcher.expect("30 [\"w\" 'x']")
    for payload in ('"c"', '"c" "w"'):
        await expect_refusal(server, connect(3, payload, 0xC6))


@conforms(edge="mqtt31-8")
@pytest.mark.parametrize(
    ("payload", "flags"),
    [
        ('"c" "u"', 0x02),
        ('"c" "u" "p"', 0x82),
        ('"c" "u" "p" 00', 0xC2),
        ('"c" 00', 0x82),
        ('"c" 0005 "u"', 0x82),
        ('"c" "u" 0002 00', 0xC2),
        ('"c" {ff}', 0x82),
    ],
)
async def test_fields_that_are_cut_off(server: Server, payload: str, flags: int) -> None:
    """What has begun has to end within the packet, and what is there needs its flag."""
    await expect_refusal(server, connect(3, payload, flags))


async def publish_twice(peer: Peer, qos: int) -> None:
    acknowledgement = "40" if qos == 1 else "50"
    for dup in (0, 8):
        await peer.send(f"{0x30 | dup | qos << 1:02x} [\"t\" 0007 'x']")
        await peer.expect(f"{acknowledgement} [0007]")


@conforms(edge="mqtt31-9")
async def test_what_is_sent_again_while_connected(server: Server) -> None:
    """Each copy is answered; QoS 2 is delivered once whatever is sent again, QoS 1 as often as it is sent."""
    watcher = await server.subscriber("t", "watcher", 3, qos=0)
    peer = await server.connected("c", 3)
    await publish_twice(peer, 1)
    await watcher.expect("30 [\"t\" 'x'] 30 [\"t\" 'x']")
    await publish_twice(peer, 2)
    for packet in ("62 [0007]", "6a [0007]", "6a [0007]"):
        await peer.send(packet)
        await peer.expect("70 [0007]")
    await watcher.expect("30 [\"t\" 'x']")
    await nothing_for(watcher)


@conforms(edge="mqtt31-9")
async def test_subscriptions_sent_again_while_connected(server: Server) -> None:
    """SUBSCRIBE twice is one subscription, UNSUBSCRIBE twice ends it once; each is answered."""
    peer = await server.connected("c", 3)
    for flags in ("82", "8a", "8a"):
        await peer.send(f'{flags} [0001 "t" 00]')
        await peer.expect("90 [0001 00]")
    await peer.send("30 [\"t\" 'x']")
    await peer.expect("30 [\"t\" 'x']")
    await peer.expect_nothing()
    for flags in ("a2", "aa"):
        await peer.send(f'{flags} [0002 "t"]')
        await peer.expect("b0 [0002]")
    await peer.send("30 [\"t\" 'x']")
    await nothing_for(peer)


@conforms(edge="mqtt31-9")
async def test_what_the_broker_is_answered_again(server: Server) -> None:
    """PUBREC twice gets PUBREL twice, PUBACK and PUBCOMP twice nothing; nothing comes again by itself."""
    peer = await server.subscriber("t", level=3, qos=2)
    publisher = await server.connected("p", 3)
    await publish_twice(publisher, 1)
    await peer.expect("32 [\"t\" 0001 'x'] 32 [\"t\" 0002 'x']")
    await peer.send("40 [0001] 40 [0001] 40 [0002]")
    await peer.expect_nothing()
    await publish_twice(publisher, 2)
    packet = await peer.packet()
    identifier = packet[5:7].hex()
    await peer.send(f"50 [{identifier}] 50 [{identifier}]")
    await peer.expect(f"62 [{identifier}] 62 [{identifier}]")
    await peer.send(f"70 [{identifier}] 70 [{identifier}]")
    await settled()
    await peer.expect_nothing()
