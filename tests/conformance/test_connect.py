"""CONNECT, field by field: what is refused, and what each field does. Sessions and wills: `test_connect_kept.py`.

Invariant: a CONNECT that is wrong anywhere leaves nothing behind; one that is right is answered first of all.
"""

from __future__ import annotations

import string

import pytest
from conformance.connecting import (
    LEVELS,
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
from conformance.peer import Server
from conformance.statement import conforms

OTHERS = {
    4: [
        "00 []",
        "20 [00 00]",
        "30 [\"t\" 'x']",
        '32 ["t" 0001]',
        '34 ["t" 0001]',
        "40 [0001]",
        "50 [0001]",
        "62 [0001]",
        "70 [0001]",
        '82 [0001 "t" 00]',
        "90 [0001 00]",
        'a2 [0001 "t"]',
        "b0 [0001]",
        "c0 []",
        "d0 []",
        "e0 []",
        "f0 []",
    ],
    5: [
        "20 [00 00 []]",
        "30 [\"t\" [] 'x']",
        '32 ["t" 0001 []]',
        '82 [0001 [] "t" 00]',
        'a2 [0001 [] "t"]',
        "e0 [00 []]",
        "f0 []",
        'f0 [18 [15 "m"]]',
    ],
}
KEPT = "11 00000e10"  # session expiry in an hour


async def expect_refusal(server: Server, text: str, answer: str) -> None:
    peer = await server.peer()
    await peer.send(text)
    await peer.expect_end(answer)


@conforms(v311="3.1.0-1", v5="3.1.0-1")
@pytest.mark.parametrize("level", LEVELS)
async def test_anything_else_first(server: Server, level: int) -> None:
    """Whatever comes before CONNECT closes the connection without an answer, also with CONNECT behind it."""
    for packet in OTHERS[level]:
        await expect_refusal(server, packet, "")
        await expect_refusal(server, packet + connect(level), "")
    assert await sessions(server) == 0


@conforms(v311="3.1.0-2", v5="3.1.0-2")
@pytest.mark.parametrize("again", ['"c"', '"d"'])
@pytest.mark.parametrize("level", LEVELS)
async def test_a_second_connect(server: Server, level: int, again: str) -> None:
    """It closes the connection, whoever it says to be, and there is no second CONNACK."""
    peer = await let_in(server, connect(level), accepted(level))
    await peer.send(connect(level, again))
    await peer.expect_end(ended(level, 0x82))
    assert await server.running.broker.questions.client("d") is None


@conforms(v311="3.1.0-2", v5="3.1.0-2")
@pytest.mark.parametrize("level", LEVELS)
async def test_a_second_connect_in_the_same_piece(server: Server, level: int) -> None:
    """Also right behind the first one."""
    await expect_refusal(server, connect(level) * 2, accepted(level) + ended(level, 0x82))


@conforms(v311="3.1.2-1", v5="3.1.2-1")
@pytest.mark.parametrize("name", ['"MQTR"', '"mqtt"', '"MQTT "', '"MQTTX"', '"MQT"', '""', r'"MQTT\ufeff"', '"AMQP"'])
@pytest.mark.parametrize("level", LEVELS)
async def test_another_protocol(server: Server, level: int, name: str) -> None:
    """A name that is not MQTT, to the letter, is refused as a version nobody speaks."""
    await expect_refusal(server, connect(level).replace('"MQTT"', name), refused(level, 0x84))
    assert await sessions(server) == 0


@conforms(v311="3.1.2-2", v5="3.1.2-2")
async def test_a_level_that_is_not_known(server: Server) -> None:
    """Levels below 5 are told so in the words of 3.1.1, those above in the words of 5.0."""
    for level in (0, 1, 2, 3):
        await expect_refusal(server, f'10 ["MQTT" {level:02x} 02 0000 "c"]', "20 [00 01]")
    for level in (6, 7, 0x7F, 0x85, 0xFF):
        await expect_refusal(server, f'10 ["MQTT" {level:02x} 02 0000 [] "c"]', "20 [00 84 []]")
    assert await sessions(server) == 0


@conforms(v311="3.1.2-3", v5="3.1.2-3")
@pytest.mark.parametrize("flags", [0x01, 0x03])
@pytest.mark.parametrize("level", LEVELS)
async def test_the_reserved_connect_flag(server: Server, level: int, flags: int) -> None:
    """It is 0."""
    await expect_refusal(server, connect(level, flags=flags), refused(level, 0x81))


@conforms(v311="3.1.2-9 3.1.3-1", v5="3.1.2-9 3.1.3-1")
@pytest.mark.parametrize("level", LEVELS)
async def test_will_flag_without_a_will(server: Server, level: int) -> None:
    """Topic, payload and at level 5 properties of the will have to be there."""
    full = '"c" [] "w" "x"' if level == 5 else '"c" "w" "x"'
    for end in ("", '"w"', *(['"w" "x"', "[]", '[] "w"'] if level == 5 else [])):
        await expect_refusal(server, connect(level, f'"c" {end}', 0x06), refused(level, 0x81))
    await let_in(server, connect(level, full, 0x06), accepted(level))


@conforms(v311="3.1.2-11 3.1.2-13 3.1.2-14 3.1.2-15", v5="3.1.2-11 3.1.2-12 3.1.2-13")
@pytest.mark.parametrize("level", LEVELS)
async def test_will_flags_that_are_wrong(server: Server, level: int) -> None:
    """Without a will its QoS and retain are 0; with one its QoS is not 3."""
    with_will = f'"c" {will(level)}'
    for bits in (0x08, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38):
        for payload in ('"c"', with_will):
            await expect_refusal(server, connect(level, payload, 0x02 | bits), refused(level, 0x81))
    for bits in (0x1C, 0x3C):
        await expect_refusal(server, connect(level, with_will, 0x02 | bits), refused(level, 0x81))
    for bits in (0x04, 0x0C, 0x14, 0x24, 0x2C, 0x34):
        await let_in(server, connect(level, with_will, 0x02 | bits), accepted(level))


@conforms(v311="3.1.2-11 3.1.3-1", v5="3.1.3-1")
@pytest.mark.parametrize("level", LEVELS)
async def test_a_will_without_its_flag(server: Server, level: int) -> None:
    """The payload of CONNECT has no will then."""
    await expect_refusal(server, connect(level, f'"c" {will(level)}'), refused(level, 0x81))


@conforms(v311="3.1.2-18 3.1.2-19 3.1.2-20 3.1.2-21", v5="3.1.2-16 3.1.2-17 3.1.2-18 3.1.2-19")
@pytest.mark.parametrize(
    ("flags", "payload", "fits"),
    [
        (0x02, '"c"', True),
        (0x02, '"c" "u"', False),
        (0x02, '"c" "u" "p"', False),
        (0x82, '"c"', False),
        (0x82, '"c" "u"', True),
        (0x82, '"c" "u" "p"', False),
        (0xC2, '"c"', False),
        (0xC2, '"c" "u"', False),
        (0xC2, '"c" "u" "p"', True),
        (0xC2, '"c" "u" {ff00}', True),  # a password is no string
        (0xC2, '"c" "" ""', True),
        (0xC2, '"c" "u" 0002 00', False),
    ],
)
@pytest.mark.parametrize("level", LEVELS)
async def test_user_name_and_password(server: Server, level: int, flags: int, payload: str, fits: bool) -> None:
    """Each is there exactly when its flag says so."""
    if fits:
        await let_in(server, connect(level, payload, flags), accepted(level))
    else:
        await expect_refusal(server, connect(level, payload, flags), refused(level, 0x81))


@conforms(v311="3.1.2-22", edge="connecting-5")
async def test_a_password_without_a_user_name(server: Server) -> None:
    """3.1.1 closes without an answer, 5.0 lets the client in."""
    await expect_refusal(server, connect(4, '"c" "p"', 0x42), "")
    await expect_refusal(server, connect(4, '"c"', 0x42), "")
    await let_in(server, connect(5, '"c" "p"', 0x42), accepted(5))
    await expect_refusal(server, connect(5, '"c"', 0x42), refused(5, 0x81))


@conforms(v311="3.1.3-1 3.1.2-9 3.1.2-18 3.1.2-20", v5="3.1.3-1 3.1.2-9 3.1.2-16 3.1.2-18")
@pytest.mark.parametrize("level", LEVELS)
async def test_the_order_of_the_payload(transport: str, level: int) -> None:
    """Client identifier, will, user name, password: each field is what stands in its place."""
    passwords = Passwords()
    async with guarded(transport, passwords) as server:
        watcher = await let_in(server, connect(level, '"s" "u" "right"', 0xC2), accepted(level))
        await watcher.send(f'82 [0001 {section(level)} "#" 00]')
        await watcher.expect(f"90 [0001 {section(level)} 00]")
        payload = f'"id" {will(level, _quoted("topic"), _quoted("message"))} "user" "right"'
        peer = await let_in(server, connect(level, payload, 0xC6), accepted(level))
        asked = passwords.asked[-1]
        assert (asked.client_id, asked.username, asked.password) == ("id", "user", b"right")
        await peer.break_off()
        await watcher.expect(f"30 [\"topic\" {section(level)} 'message']")


def _quoted(text: str) -> str:
    return f'"{text}"'


@conforms(v311="3.1.3-1 3.1.4-1", v5="3.1.3-1 3.1.4-1")
@pytest.mark.parametrize("more", ["00", '""', '"x"', "c000"])
@pytest.mark.parametrize("level", LEVELS)
async def test_nothing_stands_behind_the_payload(server: Server, level: int, more: str) -> None:
    """The whole CONNECT is looked at, up to its last byte, before anything of it holds."""
    watcher = await server.subscriber("w")
    first = await server.connected("c", level)
    payload = f'"c" {will(level)} "u" "p"'
    await expect_refusal(server, connect(level, payload, 0xC6, also=more), refused(level, 0x81))
    await expect_refusal(server, connect(level, f'"d" {will(level)} "u" "p"', 0xC4, also=more), refused(level, 0x81))
    await nothing_for(watcher)
    await first.expect_nothing()
    assert await server.running.broker.questions.client("d") is None


@conforms(v5="3.1.4-1")
@pytest.mark.parametrize(
    ("properties", "code"),
    [
        ("7f 00", 0x81),  # nobody knows it
        ("11 0000", 0x81),  # cut off
        ("11 00000001 11 00000001", 0x82),
        ("21 0001 21 0001", 0x82),
        ("01 00", 0x82),  # belongs to another packet
        ("24 01", 0x82),
        ("18 00000001", 0x82),  # belongs to the will
    ],
)
async def test_properties_that_are_wrong(server: Server, properties: str, code: int) -> None:
    """Unknown ones are malformed; what is there twice, or belongs elsewhere, is a protocol error."""
    first = await server.connected("c")
    await expect_refusal(server, connect(5, properties=properties), refused(5, code))
    await first.expect_nothing()


@conforms(v5="3.1.4-1")
@pytest.mark.parametrize(
    ("properties", "code"),
    [("01 02", 0x82), ("11 00000001", 0x82), ("18 00000000 18 00000000", 0x82), ('08 "a/+"', 0x82), ("7f 00", 0x81)],
)
async def test_properties_of_the_will_that_are_wrong(server: Server, properties: str, code: int) -> None:
    """They are looked at when the client connects."""
    text = connect(5, f'"c" {will(5, properties=properties)}', 0x06)
    await expect_refusal(server, text, refused(5, code))


@conforms(v311="3.1.4-1", v5="3.1.4-1")
@pytest.mark.parametrize("topic", ['""', '"a/+"', '"#"'])
@pytest.mark.parametrize("level", LEVELS)
async def test_a_will_to_no_topic(server: Server, level: int, topic: str) -> None:
    """A will topic has a character at least and no wildcards."""
    await expect_refusal(server, connect(level, f'"c" {will(level, topic)}', 0x06), refused(level, 0x90))


@conforms(v311="3.1.3-3 3.1.3-4", v5="3.1.3-3 3.1.3-4")
@pytest.mark.parametrize("level", LEVELS)
async def test_the_client_identifier_is_a_string(server: Server, level: int) -> None:
    """It has to be there, whole and well-formed."""
    for identifier in ("", "00", "0002 'c'", "{ff}", r'"\ud800"', "{'c' 00}"):
        await expect_refusal(server, connect(level, identifier), refused(level, 0x81))


@conforms(v311="3.1.3-10 3.1.3-11", v5="3.1.3-11 3.1.3-12")
@pytest.mark.parametrize("text", ["{ff}", r'"\ud800"', "{'c' 00}", "0009 'x'"])
@pytest.mark.parametrize("level", LEVELS)
async def test_will_topic_and_user_name_are_strings(server: Server, level: int, text: str) -> None:
    """Both are well-formed, or the client does not come in."""
    await expect_refusal(server, connect(level, f'"c" {will(level, text)}', 0x06), refused(level, 0x81))
    await expect_refusal(server, connect(level, f'"c" {text}', 0x82), refused(level, 0x81))


@conforms(v311="3.1.3-5", v5="3.1.3-5")
@pytest.mark.parametrize("level", LEVELS)
async def test_every_ordinary_client_identifier(server: Server, level: int) -> None:
    """1 to 23 letters and digits, and more than that."""
    letters = string.digits + string.ascii_letters
    names = [letters[start : start + 23] for start in range(0, 62, 23)] + [letters[:size] for size in range(1, 24)]
    for name in [*names, "x" * 24, "\u00e4/\u20ac +#$ \U0001f600", "x" * 1000]:
        await let_in(server, connect(level, f'"{name}"'), accepted(level))
        assert await server.running.broker.questions.client(name) is not None


@conforms(v311="3.1.3-2", v5="3.1.3-2")
@pytest.mark.parametrize("level", LEVELS)
async def test_the_client_identifier_names_the_session(server: Server, level: int) -> None:
    """Each name has a session of its own, and upper case is not lower case."""
    for name in ("c", "C", "c ", "cc"):
        peer = await let_in(server, connect(level, f'"{name}"', 0, properties=KEPT), accepted(level))
        await peer.send(f'82 [0001 {section(level)} "{name}" 00]')
        await peer.expect(f"90 [0001 {section(level)} 00]")
        await peer.break_off()
    await settled()
    for name in ("c", "C", "c ", "cc"):
        text = connect(level, f'"{name}"', 0, properties=KEPT)
        peer = await let_in(server, text, accepted(level, session=True))
        await peer.send(f"30 [\"{name}\" {section(level)} 'x'] 30 [\"other\" {section(level)} 'x']")
        await peer.expect(f"30 [\"{name}\" {section(level)} 'x']")
        await peer.expect_nothing()


@conforms(v311="3.1.3-6", v5="3.1.3-6 3.1.3-7")
@pytest.mark.parametrize("level", LEVELS)
async def test_an_empty_client_identifier(server: Server, level: int) -> None:
    """The broker makes up a name of its own for each, and goes on as if the client had come with it."""
    names: set[str] = set()
    peers = []
    for _ in range(3):
        peer, packet = await server.connack("", level)
        if level == 5:
            name = packet[packet.index(b"auto-") : packet.index(b"auto-") + 29].decode()
            assert b"\x12\x00\x1d" + name.encode() in packet
            assert await server.running.broker.questions.client(name) is not None
            names.add(name)
        peers.append(peer)
    assert len(names) == (3 if level == 5 else 0)
    assert await sessions(server) == 3
    for number, peer in enumerate(peers):
        await peer.send(f'82 [0001 {section(level)} "t{number}" 00]')
        await peer.expect(f"90 [0001 {section(level)} 00]")
        await peer.send(f"30 [\"t{number}\" {section(level)} 'x']")
        await peer.expect(f"30 [\"t{number}\" {section(level)} 'x']")


@conforms(v311="3.1.3-7 3.1.3-8")
async def test_an_empty_client_identifier_for_a_session(server: Server) -> None:
    """3.1.1 with clean session 0: return code 2, then the end."""
    await expect_refusal(server, connect(4, '""', 0x00), "20 [00 02]")
    await expect_refusal(server, connect(4, f'"" {will(4)} "u" "p"', 0xC4), "20 [00 02]")
    assert await sessions(server) == 0


@conforms(v311="3.1.3-9", v5="3.1.3-8")
@pytest.mark.settings(mqtt={"max_clientid_len": 23})
@pytest.mark.parametrize("level", LEVELS)
async def test_a_client_identifier_that_is_refused(server: Server, level: int) -> None:
    """Longer than this broker was told to take: 0x85 or return code 2, then the end."""
    await expect_refusal(server, connect(level, "{'x' * 24}"), refused(level, 0x85))
    await expect_refusal(server, connect(level, "{c3a4 'x' * 22}"), refused(level, 0x85))  # bytes count
    await let_in(server, connect(level, "{'x' * 23}"), accepted(level))


@conforms(v311="3.1.4-4", v5="3.1.4-5")
@pytest.mark.parametrize("level", LEVELS)
async def test_acceptance(server: Server, level: int) -> None:
    """CONNACK with code 0, to the byte."""
    await let_in(server, connect(level, keep_alive=60), accepted(level))


@conforms(v5="3.1.4-2")
@pytest.mark.settings(mqtt={"allow_anonymous": False})
@pytest.mark.parametrize("level", LEVELS)
async def test_nobody_is_let_in(server: Server, level: int) -> None:
    """Without anybody to vouch for it a client is not authorised: 0x87 or return code 5, then the end."""
    await expect_refusal(server, connect(level), refused(level, 0x87))
    await expect_refusal(server, connect(level, '"c" "u" "p"', 0xC2), refused(level, 0x87))


@conforms(v5="3.1.4-2")
@pytest.mark.parametrize("level", LEVELS)
async def test_passwords(transport: str, level: int) -> None:
    """Each refusal has its code, then the connection ends: 0x86 or 4, 0x87 or 5."""
    async with guarded(transport, Passwords()) as server:
        await expect_refusal(server, connect(level, '"c" "u" "wrong"', 0xC2), refused(level, 0x86))
        await expect_refusal(server, connect(level, '"c" "u"', 0x82), refused(level, 0x86))
        await expect_refusal(server, connect(level), refused(level, 0x86))
        await expect_refusal(server, connect(level, '"c" "banned" "right"', 0xC2), refused(level, 0x87))
        await let_in(server, connect(level, '"c" "u" "right"', 0xC2), accepted(level))


@conforms(v5="3.1.4-2")
@pytest.mark.parametrize("properties", ['15 "SCRAM-SHA-1"', '15 "m" 16 {00}'])
async def test_another_way_to_authenticate(server: Server, properties: str) -> None:
    """There is no enhanced authentication: 0x8C, then the end."""
    await expect_refusal(server, connect(5, properties=properties), refused(5, 0x8C))


@conforms(v311="3.1.4-2", v5="3.1.4-3")
@pytest.mark.parametrize("new", LEVELS)
@pytest.mark.parametrize("old", LEVELS)
async def test_the_older_connection_ends(server: Server, old: int, new: int) -> None:
    """A second connection with the same client identifier: the first hears 0x8E, if it can, and is closed."""
    first = await server.connected("c", old)
    other = await server.connected("d", old)
    second = await let_in(server, connect(new), accepted(new))
    await first.expect_end(ended(old, 0x8E))
    await second.expect_nothing()
    await other.expect_nothing()


@conforms(v311="3.1.4-3 3.1.2-4", v5="3.1.4-4 3.1.2-5")
@pytest.mark.parametrize("clean", [False, True])
@pytest.mark.parametrize("level", LEVELS)
async def test_the_session_after_a_takeover(server: Server, level: int, clean: bool) -> None:
    """The new connection goes on with the session of the old one, unless it asks for a clean start."""
    first = await let_in(server, connect(level, flags=0, properties=KEPT), accepted(level))
    await first.send(f'82 [0001 {section(level)} "t" 00]')
    await first.expect(f"90 [0001 {section(level)} 00]")
    text = connect(level, flags=0x02 if clean else 0, properties=KEPT)
    second = await let_in(server, text, accepted(level, session=not clean))
    await first.expect_end(ended(level, 0x8E))
    await second.send(f"30 [\"t\" {section(level)} 'x']")
    if not clean:
        await second.expect(f"30 [\"t\" {section(level)} 'x']")
    await second.expect_nothing()


@conforms(v311="3.1.4-5", v5="3.1.4-6")
@pytest.mark.settings(mqtt={"max_clientid_len": 23})
@pytest.mark.parametrize("level", LEVELS)
async def test_what_stands_behind_a_refused_connect(server: Server, level: int) -> None:
    """A message, a subscription and a ping behind it are not looked at; nor a second CONNECT that would be right."""
    watcher = await server.subscriber("#")
    more = f'30 ["t" {section(level)} \'x\'] 82 [0001 {section(level)} "t" 00] c0 [] {connect(level)}'
    for flags, name, code in ((0x02, "{'x' * 24}", 0x85), (0x03, '"c"', 0x81)):
        await expect_refusal(server, connect(level, name, flags) + more, refused(level, code))
    await nothing_for(watcher)


@conforms(v311="3.1.4-5", v5="3.1.4-6")
@pytest.mark.parametrize("level", LEVELS)
async def test_what_stands_behind_connect_waits_for_the_answer(transport: str, level: int) -> None:
    """With a wrong password it counts for nothing; with the right one it counts, after CONNACK."""
    async with guarded(transport, Passwords()) as server:
        watcher = await let_in(server, connect(level, '"s" "u" "right"', 0xC2), accepted(level))
        await watcher.send(f'82 [0001 {section(level)} "#" 00]')
        await watcher.expect(f"90 [0001 {section(level)} 00]")
        more = f"32 [\"t\" 0001 {section(level)} 'x'] c0 []"
        await expect_refusal(server, connect(level, '"c" "u" "wrong"', 0xC2) + more, refused(level, 0x86))
        await nothing_for(watcher)
        peer = await let_in(server, connect(level, '"c" "u" "right"', 0xC2) + more, accepted(level))
        await peer.expect_any_order("40 [0001]", "d0 []")
        await watcher.expect(f"30 [\"t\" {section(level)} 'x']")


@conforms(v5="3.1.2-28")
@pytest.mark.settings(mqtt={"response_information": "answers/"})
async def test_response_information(server: Server) -> None:
    """It is told only to a client that asks for it."""
    for properties in ("", "19 00"):
        _, packet = await server.connack("c", properties=properties)
        assert b"answers/" not in packet
        assert len(packet) == 16
    _, packet = await server.connack("c", properties="19 01")
    assert b"\x1a\x00\x08answers/" in packet
