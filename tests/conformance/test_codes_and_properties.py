"""Reason codes, properties and limits: the tables of MQTT 5.0, each row tried in both directions.

Invariant: the tables here are copied from the standard, not from the broker; what is refused stands beside what is
taken, so that no test passes because everything is refused.
"""

from __future__ import annotations

import pytest
from conformance.bytes_of import variable_byte_integer
from conformance.connecting import ended, guarded, nothing_for
from conformance.peer import Peer, Server
from conformance.statement import conforms

# Section 2.4: every reason code there is, and a few that do not exist.
KNOWN = bytes.fromhex(
    "00 01 02 04 10 11 18 19 80 81 82 83 84 85 86 87 88 89 8a 8b 8c 8d 8e 8f 90 91 92 93 94 95 96 97 98 99 9a 9b 9c 9d"
    "9e 9f a0 a1 a2"
)
UNKNOWN = bytes.fromhex("03 05 12 17 1a 7f a3 ff")

# What a client may send: the packet with a code, and the codes of its table.
CODES = {
    "PUBACK": ("40 [0001 %02x]", bytes.fromhex("00 10 80 83 87 90 91 97 99")),
    "PUBREC": ("50 [0001 %02x]", bytes.fromhex("00 10 80 83 87 90 91 97 99")),
    "PUBREL": ("62 [0001 %02x]", bytes.fromhex("00 92")),
    "PUBCOMP": ("70 [0001 %02x]", bytes.fromhex("00 92")),
    "DISCONNECT": ("e0 [%02x]", bytes.fromhex("00 04 80 81 82 83 90 93 94 95 96 97 98 99")),
    # No authentication has begun, and only the server says 0x00; so each of them is against the protocol.
    "AUTH": ('f0 [%02x [15 "x"]]', b""),
}


def answer_to(name: str, code: int) -> str:
    """To an acknowledgement, with a code of its table, of a message that is not on its way."""
    if name == "PUBREC" and code < 0x80:
        return "62 [0001 92]"
    return "70 [0001 92]" if name == "PUBREL" else ""


@conforms(edge="codes-1")
@pytest.mark.parametrize("name", CODES)
async def test_codes_from_a_client(server: Server, name: str) -> None:
    """Each packet may have the codes of its table; any other is a protocol error."""
    text, allowed = CODES[name]
    peer = await server.connected("allowed")
    for code in allowed:
        if name == "DISCONNECT":
            peer = await server.connected("allowed")
        await peer.send(text % code)
        if name == "DISCONNECT":
            await peer.expect_end()
        else:
            await peer.expect(answer_to(name, code))
    if name != "DISCONNECT":
        await nothing_for(peer)
    for code in sorted(set(KNOWN + UNKNOWN) - set(allowed)):
        peer = await server.connected("refused")
        await peer.send(text % code)
        await peer.expect_end(ended(5, 0x82))


@conforms(edge="codes-1")
async def test_codes_to_a_publisher(transport: str) -> None:
    """PUBACK, PUBREC and PUBCOMP: success, nobody there, not authorized, not found."""
    async with guarded(transport) as server:
        peer = await server.subscriber("t")
        publisher = await server.connected("publisher")
        flow = [
            ("32 [\"t\" 0001 [] 'x']", "40 [0001]"),
            ("32 [\"none\" 0002 [] 'x']", "40 [0002 10]"),
            ("32 [\"secret\" 0003 [] 'x']", "40 [0003 87]"),
            ("34 [\"t\" 0004 [] 'x']", "50 [0004]"),
            ("62 [0004]", "70 [0004]"),
            ("62 [0004]", "70 [0004 92]"),
            ("34 [\"none\" 0005 [] 'x']", "50 [0005 10]"),
            ("62 [0005]", "70 [0005]"),
            ("34 [\"secret\" 0006 [] 'x']", "50 [0006 87]"),
            ("50 [0007]", "62 [0007 92]"),
            ('82 [0008 [] "secret" 00]', "90 [0008 [] 87]"),
            ('a2 [0009 [] "secret"]', "b0 [0009 [] 11]"),
        ]
        for text, answer in flow:
            await publisher.send(text)
            await publisher.expect(answer)
        await peer.expect("30 [\"t\" [] 'x'] 30 [\"t\" [] 'x']")
        await nothing_for(peer)


# Section 2.2.2.2: every property with a value it may have, and the packets from a client it may be in; WILL stands for
# the properties of a will.
PROPERTIES = {
    "01 01": "PUBLISH WILL",
    "02 00000001": "PUBLISH WILL",
    '03 "text"': "PUBLISH WILL",
    '08 "topic"': "PUBLISH WILL",
    "09 {0102}": "PUBLISH WILL",
    "0b 01": "SUBSCRIBE",
    "11 00000e10": "CONNECT DISCONNECT",
    '12 "id"': "",
    "13 000a": "",
    '15 "method"': "CONNECT AUTH",
    "16 {0102}": "CONNECT AUTH",
    "17 01": "CONNECT",
    "18 00000001": "WILL",
    "19 01": "CONNECT",
    '1a "info"': "",
    '1c "server"': "",
    '1f "reason"': "PUBACK PUBREC PUBREL PUBCOMP DISCONNECT AUTH",
    "21 0014": "CONNECT",
    "22 000a": "CONNECT",
    "23 0001": "PUBLISH",
    "24 01": "",
    "25 01": "",
    '26 "name" "value"': "CONNECT WILL PUBLISH PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE UNSUBSCRIBE DISCONNECT AUTH",
    "27 00010000": "CONNECT",
    "28 01": "",
    "29 01": "",
    "2a 01": "",
}
AGAIN = '26 "name" "value"'
# What goes with a property that may not stand alone.
WITH = {"16 {0102}": '15 "method"'}

CONNECT = '10 ["MQTT" 05 02 0000 [%s] "c"]'
WILL = '10 ["MQTT" 05 06 0000 [] "c" [%s] "w" "x"]'
# The packet, and what a client that has sent it gets where there is nothing wrong.
PACKETS = {
    "CONNECT": (CONNECT, "20 [0000 [21 0064 27 00100000 22 ffff]]"),
    "WILL": (WILL, "20 [0000 [21 0064 27 00100000 22 ffff]]"),
    "PUBLISH": ("32 [\"t\" 0001 [%s] 'x']", "40 [0001 10]"),
    "PUBACK": ("40 [0001 00 [%s]]", ""),
    "PUBREC": ("50 [0001 00 [%s]]", "62 [0001 92]"),
    "PUBREL": ("62 [0001 00 [%s]]", "70 [0001 92]"),
    "PUBCOMP": ("70 [0001 00 [%s]]", ""),
    "SUBSCRIBE": ('82 [0001 [%s] "t" 00]', "90 [0001 [] 00]"),
    "UNSUBSCRIBE": ('a2 [0001 [%s] "t"]', "b0 [0001 [] 11]"),
    "DISCONNECT": ("e0 [00 [%s]]", ""),
    "AUTH": ("f0 [18 [%s]]", ""),
}


async def opened(server: Server, name: str) -> Peer:
    """A peer that can send this packet; its session has an expiry interval, which DISCONNECT may then change."""
    if name in ("CONNECT", "WILL"):
        return await server.peer()
    return await server.connected("c", properties="11 0000000a")


async def expect_taken(server: Server, name: str, properties: str) -> None:
    text, answer = PACKETS[name]
    peer = await opened(server, name)
    await peer.send(text % properties)
    if name == "DISCONNECT":
        await peer.expect_end()
        return
    await peer.expect(answer)
    await nothing_for(peer)


async def expect_refused(server: Server, name: str, properties: str, code: int) -> None:
    peer = await opened(server, name)
    await peer.send(PACKETS[name][0] % properties)
    await peer.expect_end(f"20 [00 {code:02x} []]" if name in ("CONNECT", "WILL") else ended(5, code))


@conforms(edge="properties-1")
@pytest.mark.parametrize("name", [name for name in PACKETS if name != "AUTH"])
async def test_twice(server: Server, name: str) -> None:
    """Each property is taken once, and only user properties twice; also when something stands between the two."""
    for one, packets in PROPERTIES.items():
        if name not in packets.split() or one.startswith(("15", "16")):
            continue
        await expect_taken(server, name, one)
        if one == AGAIN:
            await expect_taken(server, name, f'{one} {one} 26 "" ""')
            continue
        await expect_refused(server, name, f"{one} {one}", 0x82)
        await expect_refused(server, name, f"{one} {AGAIN} {one}", 0x82)


@conforms(edge="properties-1")
@pytest.mark.parametrize("twice", ['15 "method" 15 "method"', '15 "method" 16 {01} 16 {01}'])
async def test_twice_for_authentication(server: Server, twice: str) -> None:
    """Method and data twice are a protocol error; once they ask for what this broker does not have."""
    await expect_refused(server, "CONNECT", '15 "method"', 0x8C)
    await expect_refused(server, "CONNECT", '15 "method" 16 {01}', 0x8C)
    await expect_refused(server, "CONNECT", twice, 0x82)
    await expect_refused(server, "AUTH", twice, 0x82)


@conforms(edge="properties-1")
async def test_twice_from_the_broker(server: Server) -> None:
    """Several subscription identifiers, and several user properties of one name, are what a PUBLISH may have twice."""
    peer = await server.connected("c")
    await peer.send('82 [0001 [0b 01] "t" 00] 82 [0002 [0b 01] "+" 00]')
    await peer.expect("90 [0001 [] 00] 90 [0002 [] 00]")
    await peer.send(f"30 [\"t\" [{AGAIN} {AGAIN}] 'x']")
    await peer.expect(f"30 [\"t\" [{AGAIN} {AGAIN} 0b 01 0b 01] 'x']")


@conforms(edge="properties-2")
@pytest.mark.parametrize("name", PACKETS)
async def test_in_the_wrong_packet(server: Server, name: str) -> None:
    """A property that exists, in a packet that it is not for, is a protocol error, first or behind another."""
    for one, packets in PROPERTIES.items():
        if name not in packets.split():
            await expect_refused(server, name, one, 0x82)
            await expect_refused(server, name, f"{AGAIN} {one}", 0x82)


@conforms(edge="properties-2")
@pytest.mark.parametrize("name", PACKETS)
async def test_unknown_properties(server: Server, name: str) -> None:
    """An identifier that is not in the table is malformed, whatever follows it."""
    known = {int(one[:2], 16) for one in PROPERTIES}
    for number in (0x00, 0x04, 0x0A, 0x10, 0x14, 0x1B, 0x1E, 0x20, 0x2B, 0x7F, 0x80, 0xA6, 16_384):
        assert number not in known
        identifier = variable_byte_integer(number).hex()
        await expect_refused(server, name, f"{identifier} 00", 0x81)
        await expect_refused(server, name, f"{AGAIN} {identifier}", 0x81)


@conforms(edge="properties-2")
@pytest.mark.parametrize("properties", ["26", '26 "a"', "26 00", "0b", "0b 80", "ff"])
async def test_cut_off(server: Server, properties: str) -> None:
    """A property whose value reaches beyond the section is malformed, even if the packet goes on."""
    await expect_refused(server, "SUBSCRIBE", properties, 0x81)


async def narrow(server: Server, *, qos: int) -> tuple[Peer, Peer]:
    """A client that takes one message at a time, and has the first of two; and their publisher."""
    peer = await server.connected("c", properties="21 0001")
    await peer.send(f'82 [0001 [] "t" {qos:02x}]')
    await peer.expect(f"90 [0001 [] {qos:02x}]")
    publisher = await server.connected("publisher")
    for number in (1, 2):
        await publisher.send(f'{0x30 | qos << 1:02x} ["t" {number:04x} [] {number:02x}]')
        await publisher.expect(f"{'40' if qos == 1 else '50'} [{number:04x}]")
    await peer.expect(f'{0x30 | qos << 1:02x} ["t" 0001 [] 01]')
    return peer, publisher


@conforms(edge="properties-3")
@pytest.mark.parametrize("form", ["", "00", "00 []", '00 [1f "fine" 26 "a" "b"]', "10"])
async def test_short_forms_of_puback(server: Server, form: str) -> None:
    """Without code and properties, with a code alone, and in full, PUBACK ends the delivery."""
    peer, _ = await narrow(server, qos=1)
    await peer.send(f"40 [0001 {form}]")
    await peer.expect('32 ["t" 0002 [] 02]')
    await nothing_for(peer)


@conforms(edge="properties-3")
@pytest.mark.parametrize("form", ["", "00", "00 []", '00 [1f "fine" 26 "a" "b"]'])
async def test_short_forms_of_qos_2(server: Server, form: str) -> None:
    """PUBREC, PUBCOMP and PUBREL alike; the broker's own are short when there is nothing to say."""
    peer, publisher = await narrow(server, qos=2)
    await peer.send(f"50 [0001 {form}]")
    await peer.expect("62 [0001]")
    await peer.send(f"70 [0001 {form}]")
    await peer.expect('34 ["t" 0002 [] 02]')
    await publisher.send(f"62 [0001 {form}]")
    await publisher.expect("70 [0001]")
    await publisher.send(f"62 [0001 {form}]")
    await publisher.expect("70 [0001 92]")
    await nothing_for(peer)


@conforms(edge="properties-3")
@pytest.mark.parametrize(
    ("text", "is_published"),
    [
        ("e000", False),
        ("e0 [00]", False),
        ("e0 [00 []]", False),
        ('e0 [00 [1f "bye"]]', False),
        ("e0 [04]", True),
        ("e0 [04 []]", True),
    ],
)
async def test_short_forms_of_disconnect(server: Server, text: str, is_published: bool) -> None:
    """Without a code, and with a code alone, DISCONNECT means what it means in full: code 0 deletes the will."""
    watcher = await server.subscriber("w")
    peer = await server.peer()
    await peer.send(WILL % "")
    await peer.expect(PACKETS["WILL"][1])
    await peer.send(text)
    await peer.expect_end()
    if is_published:
        await watcher.expect("30 [\"w\" [] 'x']")
    await nothing_for(watcher)


@conforms(edge="properties-3")
@pytest.mark.parametrize(
    ("text", "code"),
    [
        # Can be read: code 0 and nothing else. But a client has no success to tell.
        ("f000", 0x82),
        ("f0 [00 []]", 0x82),
        # With another code the method has to be there.
        ("f0 [18]", 0x82),
        ("40 [00]", 0x81),
        ("40 [0001 00 01]", 0x81),
        ("50 [0001 00 [] 00]", 0x81),
        ("62 [00]", 0x81),
        ("70 []", 0x81),
        ("e0 [00 01]", 0x81),
        ("e0 [00 [] 00]", 0x81),
        ("82 [0001]", 0x81),
        ("a2 [0001]", 0x81),
    ],
)
async def test_what_is_no_short_form(server: Server, text: str, code: int) -> None:
    """AUTH of length 0 is well formed; nothing else ends early or late."""
    peer = await server.connected("c")
    await peer.send(text)
    await peer.expect_end(ended(5, code))


# No limit at all, as far as the settings allow it; the largest packet has a remaining length of 268,435,455.
UNLIMITED = {"max_awaiting_rel": "infinity", "max_topic_alias": 0, "max_packet_size": 268_435_455}


@conforms(edge="numbers-1")
@pytest.mark.settings(mqtt=UNLIMITED)
async def test_a_silent_connack(server: Server) -> None:
    """What CONNACK does not limit is as the standard presumes it."""
    peer, connack = await server.connack("c", properties="11 00000e10", keep_alive=600)
    # Its size with a header of five bytes would be more than the settings can say.
    assert connack == bytes.fromhex("20 08 00 00 05 27 0f ff ff ff")
    await peer.send('82 [0001 [0b 01] "t/+" 02] 82 [0002 [0b ffffff7f] "$share/g/t" 02]')
    await peer.expect("90 [0001 [] 02] 90 [0002 [] 02]")
    # QoS 2 and retain; and more of them open than any default.
    publisher = await server.connected("publisher")
    await publisher.send(" ".join(f"35 [\"r\" {number:04x} [] 'x']" for number in range(1, 301)))
    for number in range(1, 301):
        await publisher.expect(f"50 [{number:04x} 10]")
    await publisher.send(" ".join(f"62 [{number:04x}]" for number in range(1, 301)))
    for number in range(1, 301):
        await publisher.expect(f"70 [{number:04x}]")
    await peer.send('82 [0003 [] "r" 02]')
    await peer.expect("90 [0003 [] 02] 35 [\"r\" 0001 [] 'x']")
    # No alias.
    await publisher.send("30 [\"t\" [23 0001] 'x']")
    await publisher.expect_end(ended(5, 0x94))
    # The session lasts as long as was asked for.
    await peer.break_off()
    _, connack = await server.connack("c", clean=False, properties="11 00000e10")
    assert connack == bytes.fromhex("20 08 01 00 05 27 0f ff ff ff")


@conforms(edge="numbers-1")
@pytest.mark.settings(mqtt=UNLIMITED)
@pytest.mark.parametrize("transport", ["tcp", "websocket"])  # a byte at a time it would take too long
async def test_large_packets(server: Server) -> None:
    """A packet of several megabytes, which no limit forbids, goes through as it is."""
    payload = bytes(range(256)) * 12_288
    body = b"\x00\x01t\x00" + payload
    packet = b"\x30" + variable_byte_integer(len(body)) + body
    peer = await server.subscriber("t")
    await (await server.connected("publisher")).send(packet)
    await peer.expect(packet)


# A setting; what CONNACK then says; what goes as far as is allowed, and its answers; what goes too far, and its code.
ANNOUNCED: list[tuple[dict[str, object], str, str, list[str], str, int]] = [
    (
        {"max_awaiting_rel": 3},
        "21 0003 27 00100000 22 ffff",
        '34 ["t" 0001 []] 34 ["t" 0002 []] 34 ["t" 0003 []] 3c ["t" 0003 []]',
        ["50 [0001 10]", "50 [0002 10]", "50 [0003 10]", "50 [0003]"],
        '34 ["t" 0004 []]',
        0x93,
    ),
    (
        {"max_qos_allowed": 1},
        "21 0064 24 01 27 00100000 22 ffff",
        '32 ["t" 0001 []] 82 [0002 [] "t" 02]',
        ["40 [0001 10]", "90 [0002 [] 01]"],
        '34 ["t" 0001 []]',
        0x9B,
    ),
    (
        {"max_qos_allowed": 0},
        "21 0064 24 00 27 00100000 22 ffff",
        '30 ["t" []] 82 [0002 [] "t" 02 "u" 01 "v" 00]',
        ["90 [0002 [] 00 00 00]"],
        '32 ["t" 0001 []]',
        0x9B,
    ),
    (
        {"retain_available": False},
        "21 0064 25 00 27 00100000 22 ffff",
        '32 ["t" 0001 []] 82 [0002 [] "t" 00 "t" 18]',
        ["40 [0001 10]", "90 [0002 [] 00 00]"],
        '33 ["t" 0001 []]',
        0x9A,
    ),
    (
        {"max_packet_size": 64},
        "21 0064 27 00000040 22 ffff",
        "32 [\"t\" 0001 [] 'x' * 56]",
        ["40 [0001 10]"],
        "32 [\"t\" 0001 [] 'x' * 57]",
        0x95,
    ),
    ({"max_topic_alias": 0}, "21 0064 27 00100000", "c000", ["d000"], '30 ["t" [23 0001]]', 0x94),
    (
        {"max_topic_alias": 7},
        "21 0064 27 00100000 22 0007",
        '32 ["t" 0001 [23 0001]] 32 ["t" 0002 [23 0007]] 32 ["" 0003 [23 0007]]',
        ["40 [0001 10]", "40 [0002 10]", "40 [0003 10]"],
        '30 ["t" [23 0008]]',
        0x94,
    ),
    (
        {"wildcard_subscription": False},
        "21 0064 27 00100000 22 ffff 28 00",
        '82 [0001 [] "t" 01 "#" 01 "$share/g/#" 01 "$share/g/t" 01]',
        ["90 [0001 [] 01 a2 a2 01]"],
        "",
        0,
    ),
    (
        {"shared_subscription": False},
        "21 0064 27 00100000 22 ffff 2a 00",
        '82 [0001 [] "#" 01 "$share/g/t" 01]',
        ["90 [0001 [] 01 9e]"],
        "",
        0,
    ),
    ({"server_keepalive": 30}, "21 0064 27 00100000 22 ffff 13 001e", "c000", ["d000"], "", 0),
]


@conforms(edge="numbers-2")
@pytest.mark.parametrize(
    ("announced", "fine", "answers", "too_far", "code"),
    [
        pytest.param(*row, id=" ".join(f"{key} {value}" for key, value in setting.items()),
                     marks=pytest.mark.settings(mqtt=setting))
        for setting, *row in ANNOUNCED
    ],
)  # fmt: skip
async def test_limits_are_announced(
    server: Server, announced: str, fine: str, answers: list[str], too_far: str, code: int
) -> None:
    """Each limit stands in CONNACK; what keeps to it is fine, what goes beyond has the code for it."""
    peer = await server.peer()
    await peer.send(CONNECT % "")
    await peer.expect(f"20 [0000 [{announced}]]")
    await peer.send(fine)
    await peer.expect_any_order(*answers)
    await nothing_for(peer)
    if too_far:
        await peer.send(too_far)
        await peer.expect_end(ended(5, code))


@conforms(edge="numbers-2")
@pytest.mark.settings(mqtt={"max_subscriptions": 1, "max_topic_levels": 2, "max_inflight": 1, "max_mqueue_len": 1})
async def test_limits_that_cannot_be_announced(server: Server) -> None:
    """Who goes beyond a limit that CONNACK has no word for is told no with its own code, never of a protocol error."""
    peer = await server.peer()
    await peer.send(CONNECT % "")
    await peer.expect("20 [0000 [21 0064 27 00100000 22 ffff]]")
    await peer.send('82 [0001 [] "a/b/c" 01 "t" 01 "u" 01]')
    await peer.expect("90 [0001 [] 8f 01 97]")
    # More than may be on their way and wait: taken, and the oldest of those that wait is dropped.
    await peer.send(" ".join(f'32 ["t" {number:04x} [] {number:02x}]' for number in range(1, 5)))
    await peer.expect_any_order(*[f"40 [{number:04x}]" for number in range(1, 5)], '32 ["t" 0001 [] 01]')
    await peer.send("40 [0001]")
    await peer.expect('32 ["t" 0002 [] 04]')
    await nothing_for(peer)
    await peer.send("32 [\"a/b/c\" 0001 [] 'x']")
    await peer.expect_end(ended(5, 0x90))
