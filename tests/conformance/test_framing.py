"""What packets are made of: strings, variable byte integers, reserved flags, packet identifiers, property sections.

Invariant: what is wrong ends the connection with the code for its kind; nothing of it is repaired or passed on.
"""

from __future__ import annotations

import pytest
from conformance.bytes_of import variable_byte_integer
from conformance.connecting import LEVELS, connect, ended, guarded, nothing_for, refused, section, settled, will
from conformance.peer import Peer, Server
from conformance.statement import conforms

ILL_FORMED = [
    r'"\ud800"',  # both ends of the surrogates, alone and as a pair
    r'"\udfff"',
    "{eda081edb080}",
    "{c080}",  # U+0000, '/' and U+FFFF in more bytes than they need
    "{c0af}",
    "{e0809f}",
    "{f08fbfbf}",
    "{f4908080}",  # U+110000
    "{f888808080}",
    "{80}",
    "{e282}",  # a character cut off
    "{ff}",
]
WITH_NUL = ["{00}", "{'a' 00}", "{00 'a'}", "{'a' 00 'b'}"]

# Where a string can stand in CONNECT: flags and payload.
IN_CONNECT = {
    "client identifier": lambda level, text: connect(level, text),
    "user name": lambda level, text: connect(level, f'"c" {text}', 0x82),
    "will topic": lambda level, text: connect(level, f'"c" {will(level, text)}', 0x06),
}
IN_PACKETS = {
    "topic": lambda level, text: f"30 [{text} {section(level)} 'x']",
    "topic, QoS 1": lambda level, text: f"32 [{text} 0001 {section(level)} 'x']",
    "filter": lambda level, text: f"82 [0001 {section(level)} {text} 00]",
    "second filter": lambda level, text: f'82 [0001 {section(level)} "a" 00 {text} 00]',
    "filter to leave": lambda level, text: f"a2 [0001 {section(level)} {text}]",
}
IN_PROPERTIES = [
    '30 ["t" [03 %s] 00]',  # content type
    '30 ["t" [08 %s] 00]',  # response topic
    "40 [0001 00 [1f %s]]",  # reason strings
    "50 [0001 00 [1f %s]]",
    "62 [0001 00 [1f %s]]",
    "70 [0001 00 [1f %s]]",
    "e0 [00 [1f %s]]",
    "f0 [19 [15 %s]]",  # authentication method
]


async def expect_refusal(server: Server, text: str, answer: str) -> None:
    peer = await server.peer()
    await peer.send(text)
    await peer.expect_end(answer)


async def expect_ending(server: Server, level: int, text: str, code: int = 0x81) -> None:
    """A client that says this has said its last."""
    peer = await server.connected("c", level)
    await peer.send(text)
    await peer.expect_end(ended(level, code))


@conforms(v311="1.5.3-1", v5="1.5.4-1")
@pytest.mark.parametrize("place", IN_CONNECT)
@pytest.mark.parametrize("level", LEVELS)
async def test_an_ill_formed_string_in_connect(server: Server, level: int, place: str) -> None:
    """Text that is no UTF-8 keeps a client out."""
    for text in ILL_FORMED:
        await expect_refusal(server, IN_CONNECT[place](level, text), refused(level, 0x81))


@conforms(v311="1.5.3-2", v5="1.5.4-2")
@pytest.mark.parametrize("place", IN_CONNECT)
@pytest.mark.parametrize("level", LEVELS)
async def test_the_character_nul_in_connect(server: Server, level: int, place: str) -> None:
    """U+0000 keeps a client out."""
    for text in WITH_NUL:
        await expect_refusal(server, IN_CONNECT[place](level, text), refused(level, 0x81))


@conforms(v311="1.5.3-1", v5="1.5.4-1")
@pytest.mark.parametrize("place", IN_PACKETS)
@pytest.mark.parametrize("level", LEVELS)
async def test_an_ill_formed_string_in_a_packet(server: Server, level: int, place: str) -> None:
    """Text that is no UTF-8 ends the connection, as malformed."""
    for text in ILL_FORMED:
        await expect_ending(server, level, IN_PACKETS[place](level, text))


@conforms(v311="1.5.3-2", v5="1.5.4-2")
@pytest.mark.parametrize("place", IN_PACKETS)
@pytest.mark.parametrize("level", LEVELS)
async def test_the_character_nul_in_a_packet(server: Server, level: int, place: str) -> None:
    """U+0000 ends the connection, as malformed."""
    for text in WITH_NUL:
        await expect_ending(server, level, IN_PACKETS[place](level, text))


@conforms(v5="1.5.4-1 1.5.4-2")
@pytest.mark.parametrize("packet", IN_PROPERTIES)
async def test_strings_in_properties(server: Server, packet: str) -> None:
    """A property that is a string obeys the same rules, also where nobody reads it."""
    for text in (r'"\ud800"', "{c0af}", "{ff}", "{'a' 00}"):
        await expect_ending(server, 5, packet % text)


@conforms(v5="1.5.7-1")
@pytest.mark.parametrize(
    "packet",
    [
        '30 ["t" [26 %s] 00]',
        "40 [0001 00 [26 %s]]",
        '82 [0001 [26 %s] "t" 00]',
        'a2 [0001 [26 %s] "t"]',
        "e0 [00 [26 %s]]",
    ],
)
async def test_both_halves_of_a_pair(server: Server, packet: str) -> None:
    """A user property whose name or value is no valid string, or missing, is malformed."""
    for pair in (r'"\ud800" "b"', r'"a" "\ud800"', '{00} "b"', '"a" {00}', '"a" {ff}', '{c0af} ""', '"a"'):
        await expect_ending(server, 5, packet % pair)


@conforms(v5="1.5.7-1")
@pytest.mark.parametrize("pair", [r'"\ud800" "b"', r'"a" "\ud800"', '{00} "b"', '"a" {00}'])
async def test_both_halves_of_a_pair_in_connect(server: Server, pair: str) -> None:
    """The same in CONNECT, and in the properties of its will."""
    await expect_refusal(server, connect(5, properties=f"26 {pair}"), refused(5, 0x81))
    await expect_refusal(server, connect(5, f'"c" {will(5, properties=f"26 {pair}")}', 0x06), refused(5, 0x81))


@conforms(v5="1.5.7-1")
async def test_pairs_go_through(server: Server) -> None:
    """Empty halves and every kind of character are fine."""
    peer = await server.subscriber("t")
    message = r"""30 ["t" [26 "" "" 26 "\u00e9\u20ac\U0001f600" "\U0010ffff" 26 {ed9fbf} {ee8080}] 'x']"""
    await peer.send(message)
    await peer.expect(message)


@conforms(v311="1.5.3-3", v5="1.5.4-3")
@pytest.mark.parametrize("level", LEVELS)
async def test_a_byte_order_mark_is_a_character(server: Server, level: int) -> None:
    """U+FEFF is kept at the beginning, within and at the end of a topic, and tells topics apart."""
    marked, plain = r'"\ufeffa/\ufeff/b\ufeff"', '"a//b"'
    peer = await server.connected("c", level)
    await peer.send(f"82 [0001 {section(level)} {marked} 00]")
    await peer.expect(f"90 [0001 {section(level)} 00]")
    await peer.send(f"30 [{plain} {section(level)} 'no'] 30 [{marked} {section(level)} 'yes']")
    await peer.expect(f"30 [{marked} {section(level)} 'yes']")
    await peer.expect_nothing()


@conforms(v311="1.5.3-3", v5="1.5.4-3")
@pytest.mark.parametrize("level", LEVELS)
async def test_a_byte_order_mark_in_a_client_identifier(server: Server, level: int) -> None:
    """Two identifiers that differ by U+FEFF are two clients."""
    one = await server.connected("c", level)
    other = await server.connected("\ufeffc", level)
    await one.expect_nothing()
    await other.expect_nothing()
    assert await server.running.broker.questions.client("\ufeffc") is not None


@conforms(v5="1.5.5-1")
@pytest.mark.parametrize(
    "packet",
    [
        "c0 8000",  # remaining length 0, 4 and 7 in more bytes than they need
        "40 8400 0001 00 00",
        "30 878000 'x'",
        '30 ["t" 8000 00]',  # length of the properties
        '82 [0001 8000 "t" 00]',
        '82 [0001 [0b 8100] "t" 00]',  # subscription identifier
        '82 [0001 [0b ff8000] "t" 00]',
        '82 [0001 [0b 8080808001] "t" 00]',  # five bytes
        '82 [0001 [0b ffffffff00] "t" 00]',
        "30 ffffffff01",
        "30 ffffffffff",
        "30 8080808000",
    ],
)
async def test_a_variable_byte_integer_that_is_too_long(server: Server, packet: str) -> None:
    """More bytes than needed, or more than four, are malformed."""
    await expect_ending(server, 5, packet)


@conforms(v5="1.5.5-1")
async def test_a_variable_byte_integer_that_is_too_long_in_connect(server: Server) -> None:
    """The same in CONNECT; whose remaining length is wrong has not said which version it speaks."""
    await expect_refusal(server, '10 ["MQTT" 05 02 0000 8000 "c"]', refused(5, 0x81))
    await expect_refusal(server, '10 ["MQTT" 05 06 0000 [] "c" 8000 "w" "x"]', refused(5, 0x81))
    await expect_refusal(server, '10 8e00 "MQTT" 05 02 0000 [] "c"', "")
    await expect_refusal(server, "10 8080808001", "")


@pytest.mark.parametrize("level", LEVELS)
async def test_a_fifth_byte_of_the_remaining_length(server: Server, level: int) -> None:
    """Four bytes are the most at every level."""
    await expect_ending(server, level, "30 ffffffff7f")


@conforms(v5="1.5.5-1")
@pytest.mark.parametrize("number", [1, 127, 128, 16383, 16384, 2097151, 2097152, 268435455])
async def test_variable_byte_integers_of_every_length(server: Server, number: int) -> None:
    """The limits of each length are read as they are meant, and written in the shortest form."""
    peer = await server.connected("c")
    identifier = variable_byte_integer(number).hex()
    await peer.send(f'82 [0001 [0b {identifier}] "t" 00]')
    await peer.expect("90 [0001 [] 00]")
    await peer.send("30 [\"t\" [] 'x']")
    await peer.expect(f"30 [\"t\" [0b {identifier}] 'x']")


@pytest.mark.parametrize("level", LEVELS)
async def test_remaining_lengths_around_a_second_byte(server: Server, level: int) -> None:
    """A packet is as long as it says: 127 and 128 bytes, fewer and more."""
    peer = await server.subscriber("t", level=level)
    for size in (0, 1, 122, 123, 124, 125, 126, 300):
        message = f"30 [\"t\" {section(level)} 'x' * {size}]"
        await peer.send(message * 2)
        await peer.expect(message * 2)


@conforms(v311="2.2.2-1 2.2.2-2", v5="2.1.3-1")
@pytest.mark.parametrize(
    ("kind", "flags", "content"),
    [
        (4, 0, "0001"),
        (5, 0, "0001"),
        (6, 2, "0001"),
        (7, 0, "0001"),
        (8, 2, '0001 %s "t" 00'),
        (10, 2, '0001 %s "t"'),
        (12, 0, ""),
        (14, 0, ""),
    ],
)
@pytest.mark.parametrize("level", LEVELS)
async def test_reserved_flags(server: Server, level: int, kind: int, flags: int, content: str) -> None:
    """Every packet type with every wrong value of its flags."""
    content = content.replace("%s", section(level))
    for wrong in set(range(16)) - {flags}:
        await expect_ending(server, level, f"{kind:x}{wrong:x} [{content}]")


@conforms(v311="2.2.2-1 2.2.2-2", v5="2.1.3-1")
@pytest.mark.parametrize("level", LEVELS)
async def test_reserved_flags_of_connect(server: Server, level: int) -> None:
    """CONNECT with any flag keeps the client out."""
    for wrong in range(1, 16):
        await expect_refusal(server, f"1{wrong:x}" + connect(level)[2:], refused(level, 0x81))


@conforms(v5="2.1.3-1")
async def test_reserved_flags_of_auth(server: Server) -> None:
    """AUTH with a flag is malformed (without one it would be a protocol error)."""
    for wrong in range(1, 16):
        await expect_ending(server, 5, f'f{wrong:x} [19 [15 "m"]]')
    await expect_ending(server, 5, 'f0 [19 [15 "m"]]', 0x82)


@conforms(v311="2.3.1-1", v5="2.2.1-3")
@pytest.mark.parametrize(
    "packet",
    [
        '82 [0000 %s "t" 00]',
        'a2 [0000 %s "t"]',
        "32 [\"t\" 0000 %s 'x']",
        "34 [\"t\" 0000 %s 'x']",
        "3a [\"t\" 0000 %s 'x']",
    ],
)
@pytest.mark.parametrize("level", LEVELS)
async def test_packet_identifier_0(server: Server, level: int, packet: str) -> None:
    """No packet that needs an identifier has 0; what it says does not count."""
    watcher = await server.subscriber("t")
    await expect_ending(server, level, packet.replace("%s", section(level)), 0x82)
    await nothing_for(watcher)


@conforms(v311="2.3.1-5", v5="2.2.1-2")
@pytest.mark.parametrize("level", LEVELS)
async def test_qos_0_has_no_packet_identifier(server: Server, level: int) -> None:
    """What stands behind the topic of a QoS 0 message (at level 5: its properties) is payload, in both directions."""
    peer = await server.subscriber("t", level=level)
    for payload in ("", "0001", "0000", "0007 'x'"):
        message = f'30 ["t" {section(level)} {payload}]'
        await peer.send(message)
        await peer.expect(message)


@conforms(v311="2.3.1-5", v5="2.2.1-2")
@pytest.mark.parametrize("level", LEVELS)
async def test_qos_0_granted_has_no_packet_identifier(server: Server, level: int) -> None:
    """A QoS 2 message for a subscription with QoS 0 loses its identifier."""
    subscriber = await server.subscriber("t", level=level)
    publisher = await server.connected("p", level)
    await publisher.send(f"34 [\"t\" 0009 {section(level)} 'x']")
    await publisher.expect("50 [0009]")
    await publisher.send("62 [0009]")
    await publisher.expect("70 [0009]")
    await subscriber.expect(f"30 [\"t\" {section(level)} 'x']")


@conforms(v311="2.3.1-4", v5="2.2.1-4")
@pytest.mark.parametrize("level", LEVELS)
async def test_both_sides_count_for_themselves(server: Server, level: int) -> None:
    """Both have the same identifier open at once, each with its own handshake."""
    peer = await server.subscriber("t", level=level, qos=2)
    message = f"34 [\"t\" 0001 {section(level)} 'x']"
    await peer.send(message)
    await peer.expect_any_order("50 [0001]", message)
    await peer.send("50 [0001]")
    await peer.expect("62 [0001]")
    await peer.send("62 [0001]")
    await peer.expect("70 [0001]")
    await peer.send("70 [0001]")
    await peer.expect_nothing()


@conforms(v311="2.3.1-4", v5="2.2.1-4")
@pytest.mark.parametrize("level", LEVELS)
async def test_an_identifier_that_is_open_is_not_given_again(server: Server, level: int) -> None:
    """Messages on their way have identifiers of their own, none of them 0, whichever of them is acknowledged."""
    peer = await server.subscriber("t", level=level, qos=1)
    publisher = await server.connected("p", level)
    open_now: set[bytes] = set()
    for number in range(40):
        await publisher.send(f'32 ["t" 0001 {section(level)} {number:02x}]')
        await publisher.expect("40 [0001]")
        packet = await peer.packet()
        assert (packet[0], packet[-1]) == (0x32, number)
        identifier = packet[5:7]
        assert identifier not in open_now | {b"\0\0"}
        open_now.add(identifier)
        if number % 3:
            await peer.send(b"\x40\x02" + identifier)
            open_now.remove(identifier)


async def back(server: Server, client_id: str, level: int) -> tuple[Peer, bytes]:
    """The client comes back to its session."""
    await settled()
    return await server.connack(client_id, level, clean=False, properties="11 00000e10")


@conforms(v311="2.3.1-3", v5="4.4.0-1")
@pytest.mark.parametrize("level", LEVELS)
async def test_what_is_sent_again_keeps_its_identifier(server: Server, level: int) -> None:
    """PUBLISH of QoS 1 and 2, and PUBREL: after the client came back, and at no other time."""
    peer, _ = await back(server, "s", level)
    await peer.send(f'82 [0001 {section(level)} "t" 02]')
    await peer.expect(f"90 [0001 {section(level)} 02]")
    publisher = await server.connected("p", level)
    await publisher.send(f"32 [\"t\" 0001 {section(level)} 'a'] 34 [\"t\" 0002 {section(level)} 'b']")
    await publisher.send(f"34 [\"t\" 0003 {section(level)} 'c']")
    await publisher.expect("40 [0001] 50 [0002] 50 [0003]")
    await publisher.send("62 [0002] 62 [0003]")
    await publisher.expect("70 [0002] 70 [0003]")
    messages = [await peer.packet() for _ in range(3)]
    assert [(message[0], message[-1:]) for message in messages] == [(0x32, b"a"), (0x34, b"b"), (0x34, b"c")]
    await peer.send(b"\x50\x02" + messages[2][5:7])
    await peer.expect(b"\x62\x02" + messages[2][5:7])
    await peer.expect_nothing()
    await peer.break_off()
    peer, _ = await back(server, "s", level)
    await peer.expect(bytes([0x3A]) + messages[0][1:] + bytes([0x3C]) + messages[1][1:])
    await peer.expect(b"\x62\x02" + messages[2][5:7])
    await peer.expect_nothing()


@conforms(v311="2.3.1-3", v5="4.4.0-1")
@pytest.mark.parametrize("level", LEVELS)
async def test_an_identifier_is_free_again(server: Server, level: int) -> None:
    """After PUBACK, PUBCOMP, SUBACK and UNSUBACK the same identifier stands for something new."""
    watcher = await server.subscriber("t", "watcher", level)
    peer = await server.connected("c", level)
    empty = section(level)
    codes = ("00", "11") if level == 5 else ("", "")
    for code in codes:
        await peer.send(f"32 [\"t\" 0001 {empty} 'one']")
        await peer.expect("40 [0001]")
        await peer.send(f"34 [\"t\" 0001 {empty} 'two']")
        await peer.expect("50 [0001]")
        await peer.send("62 [0001]")
        await peer.expect("70 [0001]")
        await watcher.expect(f"30 [\"t\" {empty} 'one'] 30 [\"t\" {empty} 'two']")
        if code != "11":
            await peer.send(f'82 [0001 {empty} "u" 00]')
            await peer.expect(f"90 [0001 {empty} 00]")
        await peer.send(f'a2 [0001 {empty} "u"]')
        await peer.expect(f"b0 [0001 {empty} {code}]")


@conforms(v5="4.4.0-1")
async def test_an_identifier_is_free_after_an_error(transport: str) -> None:
    """PUBREC with an error ends the message: the same identifier then is a new one, without any PUBREL."""
    async with guarded(transport) as server:
        watcher = await server.subscriber("t")
        peer = await server.connected("c")
        await peer.send("34 [\"secret\" 0001 [] 'x']")
        await peer.expect("50 [0001 87]")
        await peer.send("34 [\"t\" 0001 [] 'y']")
        await peer.expect("50 [0001]")
        await watcher.expect("30 [\"t\" [] 'y']")


@conforms(v311="2.3.1-6", v5="2.2.1-5")
@pytest.mark.parametrize("level", LEVELS)
async def test_acknowledgements_repeat_the_identifier(server: Server, level: int) -> None:
    """PUBACK, PUBREC, PUBCOMP of the broker, and its PUBREL, have the identifier of the message."""
    await server.subscriber("t", level=level)  # somebody wants it, so that the code is 0x00 at level 5 too
    peer = await server.connected("c", level)
    for identifier in ("0001", "00ff", "0100", "1234", "ffff"):
        await peer.send(f'32 ["t" {identifier} {section(level)}]')
        await peer.expect(f"40 [{identifier}]")
        await peer.send(f'34 ["t" {identifier} {section(level)}]')
        await peer.expect(f"50 [{identifier}]")
        await peer.send(f"62 [{identifier}]")
        await peer.expect(f"70 [{identifier}]")
        await peer.send(f"50 [{identifier}]")  # to a message that the broker never sent
        await peer.expect(f"62 [{identifier} {'92' if level == 5 else ''}]")


@conforms(v311="2.3.1-7", v5="2.2.1-6")
@pytest.mark.parametrize("level", LEVELS)
async def test_suback_and_unsuback_repeat_the_identifier(server: Server, level: int) -> None:
    """The answer has the identifier of the request."""
    peer = await server.connected("c", level)
    for identifier in ("0001", "00ff", "0100", "1234", "ffff"):
        await peer.send(f'82 [{identifier} {section(level)} "t" 01]')
        await peer.expect(f"90 [{identifier} {section(level)} 01]")
        await peer.send(f'a2 [{identifier} {section(level)} "t"]')
        await peer.expect(f"b0 [{identifier} {section(level, '')} {'00' if level == 5 else ''}]")


@conforms(v5="2.2.2-1")
async def test_no_properties_are_a_length_of_0(server: Server) -> None:
    """SUBACK, PUBLISH of each QoS, UNSUBACK and a refusing CONNACK have a section of length 0."""
    peer = await server.connected("c")
    await peer.send('82 [0001 00 "t" 02]')
    await peer.expect("90 04 0001 00 02")
    await peer.send("30 [\"t\" 00 'x'] 32 [\"t\" 0001 00 'x']")
    await peer.expect_any_order("30 05 \"t\" 00 'x'", "32 07 \"t\" 0001 00 'x'", "40 02 0001")
    await peer.send('a2 [0002 00 "t"]')
    await peer.expect("b0 04 0002 00 00")
    await expect_refusal(server, '10 ["MQTT" 05 03 0000 00 "c"]', "20 03 00 81 00")


@conforms(v5="2.2.2-1")
@pytest.mark.parametrize("packet", ['82 [0001 "t" 00]', 'a2 [0001 "t"]', '30 ["t"]', '32 ["t" 0001]', '30 ["t" 01]'])
async def test_a_packet_without_its_property_length(server: Server, packet: str) -> None:
    """A section that is missing or shorter than it says is malformed."""
    await expect_ending(server, 5, packet)


@conforms(v5="2.2.2-1")
async def test_connect_without_its_property_length(server: Server) -> None:
    """The same in CONNECT and in its will."""
    for text in ('10 ["MQTT" 05 02 0000 "c"]', '10 ["MQTT" 05 02 0000]', '10 ["MQTT" 05 06 0000 [] "c" "w" "x"]'):
        await expect_refusal(server, text, refused(5, 0x81))
