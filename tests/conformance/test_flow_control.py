"""The send quota, what ends a connection and only that one, and what carries the bytes.

Invariant: what a connection is ended for is a row in a table, with its code; a bystander notices none of them.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import trio
from conformance.bytes_of import bytes_of
from conformance.connecting import LEVELS, accepted, connect, ended, nothing_for, section, settled
from conformance.in_memory import NothingSecret, in_memory
from conformance.peer import Peer, Server
from conformance.statement import conforms
from listeners.raw_websocket import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    frame,
    read_close,
    read_frame,
    read_response,
    request,
)

from trio_broker.access.authorization import Action
from trio_broker.protocol.message import Origin

WEBSOCKET = pytest.mark.parametrize("transport", ["websocket"])


async def narrow(server: Server, quota: int | None, qos: int) -> tuple[Peer, Peer]:
    """A subscriber with this receive maximum, and a publisher that has published ten messages for it."""
    peer = await server.connected("c", properties="" if quota is None else f"21 {quota:04x}")
    await peer.send(f'82 [0001 [] "t" {qos:02x} "easy" 00]')
    await peer.expect(f"90 [0001 [] {qos:02x} 00]")
    publisher = await server.connected("publisher")
    await publish(publisher, qos, range(1, 11))
    return peer, publisher


async def publish(publisher: Peer, qos: int, numbers: Iterable[int]) -> None:
    for number in numbers:
        await publisher.send(f'{0x30 | qos << 1:02x} ["t" {number:04x} [] {number:04x}]')
        await publisher.expect(f"{'40' if qos == 1 else '50'} [{number:04x}]")
        if qos == 2:
            await publisher.send(f"62 [{number:04x}]")
            await publisher.expect(f"70 [{number:04x}]")


async def expect_messages(peer: Peer, qos: int, numbers: Iterable[int]) -> None:
    for number in numbers:
        await peer.expect(f'{0x30 | qos << 1:02x} ["t" {number:04x} [] {number:04x}]')


async def expect_only_easy(peer: Peer, publisher: Peer) -> None:
    """Nothing has come but what has QoS 0 and was published just now."""
    await settled()
    await publisher.send("30 [\"easy\" [] 'x']")
    await peer.expect("30 [\"easy\" [] 'x']")


@conforms(v5="4.9.0-1 4.9.0-2 4.9.0-3")
@pytest.mark.parametrize("quota", [1, 2, 9])
async def test_quota_with_qos_1(server: Server, quota: int) -> None:
    """So many go out; each PUBACK, with success or an error, makes room for one, and no other packet does."""
    peer, publisher = await narrow(server, quota, 1)
    await expect_messages(peer, 1, range(1, quota + 1))
    await expect_only_easy(peer, publisher)
    # Not theirs to give back: identifiers that are not in use.
    await peer.send("40 [7fff] 70 [7fff] 50 [7ffe 80]")
    await expect_only_easy(peer, publisher)
    for number in range(quota + 1, 11):
        await peer.send(f"40 [{number - quota:04x} {'83' if number % 2 else '00'}]")
        await expect_messages(peer, 1, [number])
        await expect_only_easy(peer, publisher)


@conforms(v5="4.9.0-1 4.9.0-2 4.9.0-3")
@pytest.mark.parametrize("quota", [1, 2, 9])
async def test_quota_with_qos_2(server: Server, quota: int) -> None:
    """PUBREC makes no room, PUBCOMP does, and PUBREC with an error."""
    peer, publisher = await narrow(server, quota, 2)
    await expect_messages(peer, 2, range(1, quota + 1))
    await expect_only_easy(peer, publisher)
    for number in range(quota + 1, 11):
        identifier = f"{number - quota:04x}"
        if number % 2:
            await peer.send(f"50 [{identifier} 97]")
        else:
            await peer.send(f"50 [{identifier}]")
            await peer.expect(f"62 [{identifier}]")
            await expect_only_easy(peer, publisher)
            await peer.send(f"70 [{identifier}]")
        await expect_messages(peer, 2, [number])
        await expect_only_easy(peer, publisher)


@conforms(v5="4.9.0-1 4.9.0-2")
@pytest.mark.settings(mqtt={"max_inflight": 4})
@pytest.mark.parametrize("quota", [None, 65535, 5, 4, 3])
async def test_quota_of_the_broker(server: Server, quota: int | None) -> None:
    """The broker may begin with less than the client allows, never with more; without a limit it is 65535."""
    peer, publisher = await narrow(server, quota, 1)
    first = min(quota or 65535, 4)
    await expect_messages(peer, 1, range(1, first + 1))
    await expect_only_easy(peer, publisher)
    await peer.send(" ".join(f"40 [{number:04x}]" for number in range(1, first + 1)))
    await expect_messages(peer, 1, range(first + 1, 2 * first + 1))
    await expect_only_easy(peer, publisher)


@conforms(v5="4.9.0-1 4.9.0-2")
async def test_quota_begins_anew(server: Server) -> None:
    """A new connection begins with its own receive maximum, and what is sent again counts."""
    session = "11 00000e10"
    peer = await server.connected("c", properties=f"{session} 21 0003")
    await peer.send('82 [0001 [] "t" 01 "easy" 00]')
    await peer.expect("90 [0001 [] 01 00]")
    publisher = await server.connected("publisher")
    await publish(publisher, 1, range(1, 11))
    await expect_messages(peer, 1, [1, 2, 3])
    await peer.break_off()
    peer = await server.connected("c", clean=False, properties=f"{session} 21 0002")
    await peer.expect('3a ["t" 0001 [] 0001] 3a ["t" 0002 [] 0002]')
    await expect_only_easy(peer, publisher)
    await peer.send("40 [0001]")
    await peer.expect('3a ["t" 0003 [] 0003]')
    await expect_only_easy(peer, publisher)
    await peer.send("40 [0002]")
    await peer.expect('32 ["t" 0004 [] 0004]')
    await expect_only_easy(peer, publisher)


@conforms(v5="4.9.0-3")
async def test_everything_else_goes_on(server: Server) -> None:
    """At quota 0 every packet but PUBLISH with QoS 1 and 2 is sent, and every packet that comes is handled."""
    peer, publisher = await narrow(server, 1, 2)
    await expect_messages(peer, 2, [1])
    await publisher.send("31 [\"kept\" [] 'x']")
    flow = [
        ("c000", "d000"),
        ('82 [0002 [] "kept" 02]', "90 [0002 [] 02] 31 [\"kept\" [] 'x']"),
        ('a2 [0003 [] "kept" "none"]', "b0 [0003 [] 00 11]"),
        ("30 [\"easy\" [] 'own']", "30 [\"easy\" [] 'own']"),
        ("32 [\"none\" 0004 [] 'x']", "40 [0004 10]"),
        ("34 [\"none\" 0005 [] 'x']", "50 [0005 10]"),
        ("62 [0005]", "70 [0005]"),
        ("62 [0006]", "70 [0006 92]"),
        ("50 [0007]", "62 [0007 92]"),
        ("50 [0001]", "62 [0001]"),
        ("50 [0001]", "62 [0001]"),
    ]
    for text, answer in flow:
        await peer.send(text)
        await peer.expect(answer)
    await expect_only_easy(peer, publisher)
    await peer.send("70 [0001]")
    await expect_messages(peer, 2, [2])
    await peer.send("e000")
    await peer.expect_end()


# What ends a connection: the packet at level 4 and at level 5 (none where there is nothing like it), and the code.
WRONG = [
    ("second CONNECT", '10 ["MQTT" 04 02 0000 "c"]', '10 ["MQTT" 05 02 0000 [] "c"]', 0x82),
    ("CONNACK", "20 [0000]", "20 [00 00 []]", 0x82),
    ("SUBACK", "90 [0001 00]", "90 [0001 [] 00]", 0x82),
    ("UNSUBACK", "b0 [0001]", "b0 [0001 [] 00]", 0x82),
    ("PINGRESP", "d000", "d000", 0x82),
    ("packet type 0", "0000", "0000", 0x81),
    ("packet type 15", "f000", "", 0x81),
    ("AUTH without a method", "", "f0 [18 [15 'x']]", 0x81),
    ("AUTH unasked", "", 'f0 [18 [15 "x"]]', 0x82),
    ("remaining length of five bytes", "30 8080808001", "30 8080808001", 0x81),
    ("PUBLISH with QoS 3", "36 [\"t\" 0001 'x']", "36 [\"t\" 0001 [] 'x']", 0x81),
    ("PUBLISH with identifier 0", "32 [\"t\" 0000 'x']", "32 [\"t\" 0000 [] 'x']", 0x82),
    ("PUBLISH without a topic", "30 []", "30 []", 0x81),
    ("PUBLISH cut off in its topic", "30 [0005 'ab']", "30 [0005 'ab']", 0x81),
    ("PUBACK with flags", "42 [0001]", "42 [0001]", 0x81),
    ("PUBACK cut off", "40 [00]", "40 [00]", 0x81),
    ("PUBACK too long", "40 [0001 00]", "40 [0001 00 [] 00]", 0x81),
    ("PUBREC with identifier 0", "50 [0000]", "50 [0000]", 0x82),
    ("PUBREL without its flags", "60 [0001]", "60 [0001]", 0x81),
    ("PUBCOMP with flags", "72 [0001]", "72 [0001]", 0x81),
    ("SUBSCRIBE with identifier 0", '82 [0000 "t" 00]', '82 [0000 [] "t" 00]', 0x82),
    ("UNSUBSCRIBE with identifier 0", 'a2 [0000 "t"]', 'a2 [0000 [] "t"]', 0x82),
    ("PINGREQ with a body", "c0 [00]", "c0 [00]", 0x81),
    ("PINGREQ with flags", "c100", "c100", 0x81),
    ("DISCONNECT with flags", "e100", "e100", 0x81),
    ("DISCONNECT too long", "e0 [00]", "e0 [00 [] 00]", 0x81),
    ("properties beyond the end", "", '82 [0001 7f "t" 00]', 0x81),
]


@conforms(v311="4.8.0-1", v5="4.13.1-1")
@pytest.mark.parametrize(("at_4", "at_5", "code"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG])
async def test_what_ends_a_connection(server: Server, at_4: str, at_5: str, code: int) -> None:
    """A packet that is malformed or against the protocol ends its connection, with its code; no other notices."""
    bystander = await server.subscriber("#")
    publisher = await server.connected("publisher")
    for level, text in ((4, at_4), (5, at_5)):
        if text:
            peer = await server.connected("c", level)
            await peer.send(text)
            # What stands behind it is not read any more.
            await peer.send(f"30 [\"t\" {section(level)} 'x']")
            await peer.expect_end(ended(level, code))
    await publisher.send("30 [\"t\" [] 'y']")
    await bystander.expect("30 [\"t\" [] 'y']")


class OutOfMemory(NothingSecret):
    """Has no room for `boom`, once."""

    def __init__(self) -> None:
        self.is_over = False

    def authorize(self, client: Origin, action: Action, topic: str) -> bool:
        if topic == "boom" and not self.is_over:
            self.is_over = True
            raise MemoryError
        return True


@conforms(v311="4.8.0-2")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("packet", ["32 [\"boom\" 0001 %s 'x']", '82 [0001 %s "boom" 00]'])
async def test_a_passing_fault(level: int, packet: str) -> None:
    """When the broker fails over a packet it ends that connection; the same packet is fine once the fault is over."""
    async with in_memory(authorizer=OutOfMemory()) as server:
        bystander = await server.subscriber("#")
        peer = await server.connected("c", level)
        await peer.send(packet % section(level))
        await peer.expect_end(ended(level, 0x83))
        again = await server.connected("c", level)
        await again.send(packet % section(level))
        if packet.startswith("32"):
            await again.expect("40 [0001]")
            await bystander.expect("30 [\"boom\" [] 'x']")
        else:
            await again.expect(f"90 [0001 {section(level)} 00]")
            await nothing_for(bystander)


@conforms(v5="4.13.2-1")
@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('10 ["MQTT" 06 02 0000 [] "c"]', "20 [00 84 []]"),
        ('10 ["MQTT" 05 02 0000 [15 "x"] "c"]', "20 [00 8c []]"),
        ('10 ["MQTT" 05 02 0000 [21 0000] "c"]', "20 [00 82 []]"),
        ('10 ["MQTT" 05 02 0000 [7f] "c"]', "20 [00 81 []]"),
        # No room for CONNACK: closed without it.
        ('10 ["MQTT" 05 02 0000 [27 00000004] "c"]', ""),
    ],
)
async def test_connack_with_an_error(server: Server, text: str, answer: str) -> None:
    """After CONNACK with 0x80 or above the connection is closed, also where CONNACK could not be sent."""
    peer = await server.peer()
    await peer.send(text)
    await peer.expect_end(answer)


@conforms(v5="4.13.2-1")
async def test_disconnect_with_an_error(server: Server) -> None:
    """After DISCONNECT with 0x80 or above, of either side, the connection is closed."""
    for code in (0x80, 0x81, 0x82, 0x93, 0x99):
        peer = await server.connected("c")
        await peer.send(f"e0 [{code:02x}]")
        await peer.expect_end()
    peer = await server.connected("c")
    await peer.send("d000")
    await peer.expect_end("e0 [82]")
    peer = await server.connected("c")
    other = await server.connected("c")
    await peer.expect_end("e0 [8e]")
    await nothing_for(other)


@conforms(v311="6.0.0-1", v5="6.0.0-1")
@WEBSOCKET
@pytest.mark.parametrize("level", LEVELS)
async def test_text_frames(server: Server, level: int) -> None:
    """A text frame ends the connection with 1003, before CONNECT and after; what stands in it is not read."""
    bystander = await server.subscriber("#")
    peer = await server.peer()
    await peer.stream.send_all(frame(TEXT, bytes_of(connect(level))))
    assert await read_close(peer.stream) == 1003
    for first, second in ((TEXT, None), (TEXT, CONTINUATION)):
        peer = await server.connected("c", level)
        packet = bytes_of(f"30 [\"t\" {section(level)} 'x']")
        if second is None:
            await peer.stream.send_all(frame(first, packet))
        else:
            await peer.stream.send_all(frame(first, packet[:3], fin=False) + frame(second, packet[3:]))
        while (kind := (await read_frame(peer.stream))[0]) == BINARY:
            pass
        assert kind == 8
    await nothing_for(bystander)


@conforms(v311="6.0.0-1", v5="6.0.0-1")
@WEBSOCKET
@pytest.mark.parametrize("level", LEVELS)
async def test_binary_frames(server: Server, level: int) -> None:
    """What the broker sends is in binary frames; a ping is answered between them."""
    stream = (await server.connected("c", level)).stream
    await stream.send_all(frame(BINARY, bytes_of("c000")))
    assert await read_frame(stream) == (BINARY, bytes_of("d000"))
    await stream.send_all(frame(PING, b"there?"))
    assert await read_frame(stream) == (PONG, b"there?")
    await stream.send_all(frame(BINARY, bytes_of("c000")))
    assert await read_frame(stream) == (BINARY, bytes_of("d000"))


@conforms(v311="6.0.0-2", v5="6.0.0-2")
@WEBSOCKET
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 1000])
@pytest.mark.parametrize("is_fragmented", [False, True])
async def test_frames_and_packets_need_not_line_up(server: Server, level: int, size: int, is_fragmented: bool) -> None:
    """A frame, or a fragment of one, may hold a piece of a packet, several packets, or the end of one and the
    beginning of the next."""
    properties = section(level)
    data = bytes_of(
        f'{connect(level)} 82 [0001 {properties} "t" 01] c000'
        + "".join(f"32 [\"t\" {number:04x} {properties} 'x' * {number}]" for number in range(1, 9))
        + f'a2 [0002 {properties} "t"]'
    )
    peer = await server.peer()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    for number, piece in enumerate(pieces):
        if is_fragmented:
            is_last = number == len(pieces) - 1
            await peer.stream.send_all(frame(CONTINUATION if number else BINARY, piece, fin=is_last))
        else:
            await peer.stream.send_all(frame(BINARY, piece))
    await peer.expect(accepted(level))
    answers = [f"40 [{number:04x}]" for number in range(1, 9)]
    messages = [f"32 [\"t\" {number:04x} {properties} 'x' * {number}]" for number in range(1, 9)]
    end = f"b0 [0002 {properties} {'00' if level == 5 else ''}]"
    await peer.expect_any_order(f"90 [0001 {properties} 01]", "d000", *answers, *messages, end)


@conforms(v311="6.0.0-4", v5="6.0.0-4")
@WEBSOCKET
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("offer", ["mqtt", "mqtt, other", "other, mqtt", "other,mqtt"])
async def test_subprotocol(server: Server, level: int, offer: str) -> None:
    """Of what a client offers, `mqtt` is what the broker answers, and MQTT is what it then speaks."""
    stream = await trio.open_tcp_stream(*server.running.listeners["ws:default"])
    peer = Peer(stream, "websocket")
    server.peers.append(peer)
    await stream.send_all(request(protocols=offer))
    response = await read_response(stream)
    assert (response.status, response.headers["sec-websocket-protocol"]) == (101, "mqtt")
    await peer.send(connect(level))
    await peer.expect(accepted(level))


@conforms(v311="7.0.0-2")
async def test_nothing_but_the_standard(server: Server) -> None:
    """A client that uses what 3.1.1 says, and nothing else, can do everything that 3.1.1 says."""
    a = await server.peer()
    await a.send('10 ["MQTT" 04 24 000a "a" "will" "gone"]')  # a session to keep, a retained will with QoS 0
    await a.expect("20 [0000]")
    b = await server.peer()
    await b.send('10 ["MQTT" 04 02 0000 "b"]')
    await b.expect("20 [0000]")
    await a.send('82 [0001 "t/+" 02 "u" 01]')
    await a.expect("90 [0001 02 01]")
    await b.send("30 [\"t/0\" '0'] 32 [\"t/1\" 0001 '1'] 34 [\"t/2\" 0002 '2'] 33 [\"u\" 0003 'kept']")
    await b.expect_any_order("40 [0001]", "50 [0002]", "40 [0003]")
    await b.send("62 [0002]")
    await b.expect("70 [0002]")
    await a.expect("30 [\"t/0\" '0'] 32 [\"t/1\" 0001 '1'] 34 [\"t/2\" 0002 '2'] 32 [\"u\" 0003 'kept']")
    await a.send("40 [0001] 50 [0002]")
    await a.expect("62 [0002]")
    await b.send('82 [0004 "will" 00]')
    await b.expect("90 [0004 00]")
    await a.break_off()
    await b.expect("30 [\"will\" 'gone']")
    a = await server.peer()
    await a.send('10 ["MQTT" 04 00 000a "a"]')
    await a.expect("20 [0100] 62 [0002] 3a [\"u\" 0003 'kept']")
    await a.send("70 [0002] 40 [0003]")
    await a.send('a2 [0001 "t/+"] 82 [0002 "u" 00 "will" 01]')
    await a.expect("b0 [0001] 90 [0002 00 01]")
    await a.expect_any_order("31 [\"u\" 'kept']", "31 [\"will\" 'gone']")
    await nothing_for(a)
    await a.send("e000")
    await a.expect_end()


@conforms(v311="7.1.1-1", v5="4.2-1")
@pytest.mark.parametrize("level", LEVELS)
async def test_the_stream_loses_and_changes_nothing(server: Server, level: int) -> None:
    """Over each transport every byte of every message arrives, once and in order."""
    peer = await server.subscriber("t/#", level=level)
    publisher = await server.connected("publisher", level)
    properties = section(level)
    payloads = [bytes((number + at) % 256 for at in range(number)).hex() for number in range(0, 257, 16)]
    messages = [f'30 ["t/{number}" {properties} {payload}]' for number, payload in enumerate(payloads)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publisher.send, " ".join(messages))
        for text in messages:
            await peer.expect(text)
    await nothing_for(peer)
