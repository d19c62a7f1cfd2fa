"""QoS 1 and 2 across connections, and acknowledgements nobody waits for.

Invariant: silence is never waited for; a message that comes later shows that nothing came before it.
"""

from __future__ import annotations

import pytest
from conformance.bytes_of import bytes_of
from conformance.in_memory import in_memory
from conformance.levels import LEVELS, farewell, kept, publish, section, subscribe
from conformance.peer import Server
from conformance.statement import conforms
from trio.testing import MockClock


@conforms(edge="reconnecting-1")
@LEVELS
@pytest.mark.parametrize("proper", [True, False])
async def test_a_publisher_who_comes_back(server: Server, proper: bool, level: int) -> None:
    """The copy with DUP is not delivered, on the third connection neither; PUBREL finds the identifier there."""
    none = section(level)
    subscriber = await server.subscriber("t", level=level, qos=2)
    publisher = await kept(server, "publisher", level)
    await publisher.send(f"34 [\"t\" 0007 {none} 'once']")
    await publisher.expect("50 [0007]")
    for first in ("3c", "34"):
        if proper:
            await publisher.send("e000")
            await publisher.expect_end()
        else:
            await publisher.break_off()
        publisher = await kept(server, "publisher", level)
        await publisher.send(f"{first} [\"t\" 0007 {none} 'once']")
        await publisher.expect("50 [0007]")
    await publisher.break_off()
    publisher = await kept(server, "publisher", level)
    await publisher.send("62 [0007]")
    await publisher.expect("70 [0007]")
    await publish(publisher, level, "t", "next", 2)
    await subscriber.expect(f"34 [\"t\" 0001 {none} 'once'] 34 [\"t\" 0002 {none} 'next']")
    await subscriber.expect_nothing()


@conforms(edge="reconnecting-1")
@LEVELS
async def test_a_publisher_who_is_there_twice(server: Server, level: int) -> None:
    """The same when the new connection takes over the old one, which was never broken."""
    none = section(level)
    subscriber = await server.subscriber("t", level=level, qos=0)
    old = await kept(server, "publisher", level)
    await old.send(f"34 [\"t\" 0007 {none} 'once']")
    await old.expect("50 [0007]")
    new = await kept(server, "publisher", level)
    await old.expect_end(farewell(level, "8e"))
    await new.send(f"3c [\"t\" 0007 {none} 'once']")
    await new.expect("50 [0007]")
    await new.send("62 [0007]")
    await new.expect("70 [0007]")
    await publish(new, level, "t", "next")
    await subscriber.expect(f"30 [\"t\" {none} 'once'] 30 [\"t\" {none} 'next']")


@conforms(edge="reconnecting-2")
@LEVELS
@pytest.mark.parametrize("first", ["34", "3c"])
async def test_clean_start_forgets_the_identifiers(server: Server, first: str, level: int) -> None:
    """The same one is a new message then, whatever DUP says; a PUBREL for it finds nothing."""
    none, session = section(level), "11 00000e10" if level == 5 else ""
    subscriber = await server.subscriber("t", level=level, qos=2)
    for number in (1, 2):
        publisher = await server.connected("publisher", level, clean=True, properties=session)
        await publisher.send(f"{first} [\"t\" 0007 {none} 'x']")
        await publisher.expect("50 [0007]")
        await subscriber.expect(f"34 [\"t\" {number:04x} {none} 'x']")
        await publisher.break_off()
    publisher = await server.connected("publisher", level, clean=True, properties=session)
    await publisher.send("62 [0007]")
    await publisher.expect(f"70 [0007 {'92' if level == 5 else ''}]")


@conforms(edge="reconnecting-3")
@LEVELS
async def test_pubrel_twice(server: Server, level: int) -> None:
    """PUBCOMP twice, the second one for version 5 with 0x92; on one connection and on two."""
    unknown = "92" if level == 5 else ""
    await server.subscriber("t", level=level)
    publisher = await kept(server, "publisher", level)
    await publisher.send(f'34 ["t" 0007 {section(level)}]')
    await publisher.expect("50 [0007]")
    await publisher.send("62 [0007] 62 [0007]")
    await publisher.expect(f"70 [0007] 70 [0007 {unknown}]")
    await publisher.break_off()
    publisher = await kept(server, "publisher", level)
    await publisher.send("62 [0007]")
    await publisher.expect(f"70 [0007 {unknown}]")


@conforms(edge="reconnecting-3")
@LEVELS
async def test_pubrec_twice(server: Server, level: int) -> None:
    """PUBREL twice, and one PUBCOMP ends it."""
    subscriber = await server.subscriber("t", level=level, qos=2)
    publisher = await server.connected("publisher", level)
    await publish(publisher, level, "t", "x", 2)
    await subscriber.expect(f"34 [\"t\" 0001 {section(level)} 'x']")
    await subscriber.send("50 [0001] 50 [0001]")
    await subscriber.expect("62 [0001] 62 [0001]")
    await subscriber.send("50 [0001]")
    await subscriber.expect("62 [0001]")
    await subscriber.send("70 [0001] 70 [0001] 50 [0001]")
    await subscriber.expect(f"62 [0001 {'92' if level == 5 else ''}]")


@conforms(edge="reconnecting-4")
@LEVELS
@pytest.mark.parametrize(
    ("first", "answer"),
    [("32", "50 [0001]"), ("34", "40 [0001]"), ("34", "50 [0001] 40 [0001]")],
    ids=["PUBREC for QoS 1", "PUBACK for QoS 2", "PUBACK after PUBREC"],
)
async def test_the_wrong_acknowledgement(server: Server, first: str, answer: str, level: int) -> None:
    """Protocol error; and the message is still open on the next connection."""
    none = section(level)
    subscriber = await kept(server, "subscriber", level)
    await subscribe(subscriber, level, "t", "02")
    publisher = await server.connected("publisher", level)
    await publisher.send(f"{first} [\"t\" 0009 {none} 'x']")
    await subscriber.expect(f"{first} [\"t\" 0001 {none} 'x']")
    await subscriber.send(answer)
    released = "62 [0001]" if answer.count("[") == 2 else ""
    await subscriber.expect_end(released + farewell(level, "82"))
    subscriber = await kept(server, "subscriber", level)
    await subscriber.expect(released or f"{int(first, 16) | 8:02x} [\"t\" 0001 {none} 'x']")


@conforms(edge="reconnecting-5")
@LEVELS
@pytest.mark.parametrize("identifier", ["0001", "0002", "ffff"])
async def test_an_unknown_identifier(server: Server, identifier: str, level: int) -> None:
    """PUBREC gets PUBREL, PUBREL gets PUBCOMP (version 5: 0x92), PUBACK and PUBCOMP nothing; what is open stays so."""
    unknown, none = "92" if level == 5 else "", section(level)
    peer = await server.subscriber("t", level=level, qos=2)
    publisher = await server.connected("publisher", level)
    await publish(publisher, level, "t", "x", 2)
    await peer.expect(f"34 [\"t\" 0001 {none} 'x']")
    await peer.send("50 [0001]")
    await peer.expect("62 [0001]")
    await peer.send("70 [0001]")
    await publish(publisher, level, "t", "y", 2)
    await peer.expect(f"34 [\"t\" 0002 {none} 'y']")
    other = "0003" if identifier == "0002" else identifier
    await peer.send(f"40 [{other}] 70 [{other}] 50 [{other}] 62 [{identifier}]")
    await peer.expect(f"62 [{other} {unknown}] 70 [{identifier} {unknown}]")
    await peer.expect_nothing()
    await peer.send("50 [0002]")
    await peer.expect("62 [0002]")


@conforms(edge="reconnecting-6")
@LEVELS
@pytest.mark.settings(mqtt={"max_inflight": 3})
async def test_open_messages_come_before_those_that_waited(server: Server, level: int) -> None:
    """In their order, then the queue in its own, whether it began before the connection was lost or after."""
    none = section(level)
    subscriber = await kept(server, "subscriber", level)
    await subscribe(subscriber, level, "t", "01")
    publisher = await server.connected("publisher", level)
    for number in range(1, 5):
        await publish(publisher, level, "t", f"{number}", 1)
    await subscriber.expect("".join(f"32 [\"t\" {number:04x} {none} '{number}']" for number in range(1, 4)))
    await subscriber.send("40 [0002]")
    await subscriber.expect(f"32 [\"t\" 0004 {none} '4']")
    await subscriber.send("e000")
    await subscriber.expect_end()
    for number in range(5, 8):
        await publish(publisher, level, "t", f"{number}", 1)
    subscriber = await kept(server, "subscriber", level)
    await subscriber.expect("".join(f"3a [\"t\" {number:04x} {none} '{number}']" for number in (1, 3, 4)))
    await subscriber.expect_nothing()
    for number in (1, 3, 4):
        await subscriber.send(f"40 [{number:04x}]")
    payloads = [(await subscriber.packet())[-1:] for _ in range(3)]
    assert payloads == [b"5", b"6", b"7"]


@conforms(edge="reconnecting-7")
@pytest.mark.parametrize(
    ("qos", "answers"),
    [
        (1, [("40 [0001]", "")]),
        (1, [("40 [0001 97]", "")]),
        (2, [("50 [0001]", "62 [0001]"), ("70 [0001]", "")]),
        (2, [("50 [0001]", "62 [0001]"), ("70 [0001 92]", "")]),
        (2, [("50 [0001 97]", "")]),
    ],
    ids=["PUBACK", "PUBACK with an error", "PUBCOMP", "PUBCOMP with an error", "PUBREC with an error"],
)
async def test_the_window_is_refilled(server: Server, qos: int, answers: list[tuple[str, str]]) -> None:
    """By one message for each that ends, and not before it does."""
    first = f"{0x30 | qos << 1:02x}"
    subscriber = await server.connected("subscriber", properties="21 0002")
    await subscribe(subscriber, 5, "t", "02")
    publisher = await server.connected("publisher")
    for number in range(1, 5):
        await publish(publisher, 5, "t", f"{number}", qos)
    await subscriber.expect(f"{first} [\"t\" 0001 [] '1'] {first} [\"t\" 0002 [] '2']")
    for answer, reply in answers:
        await subscriber.expect_nothing()
        await subscriber.send(answer)
        if reply:
            await subscriber.expect(reply)
    await subscriber.expect(f"{first} [\"t\" 0003 [] '3']")
    # The answer once more ends nothing, so it makes no room.
    await subscriber.send(answers[-1][0])
    await subscriber.expect_nothing()


@conforms(v5="3.3.4-9", edge="reconnecting-7")
async def test_a_smaller_receive_maximum_on_the_next_connection(server: Server) -> None:
    """Of six open messages two are sent again at a time; with a larger one all of them, and what waited."""
    subscriber = await kept(server, "subscriber", 5)
    await subscribe(subscriber, 5, "t", "01")
    publisher = await server.connected("publisher")
    for number in range(1, 7):
        await publish(publisher, 5, "t", f"{number}", 1)
    await subscriber.expect("".join(f"32 [\"t\" {number:04x} [] '{number}']" for number in range(1, 7)))
    await subscriber.break_off()
    subscriber = await kept(server, "subscriber", 5, "21 0002")
    await publish(publisher, 5, "t", "7", 1)
    await subscriber.expect("3a [\"t\" 0001 [] '1'] 3a [\"t\" 0002 [] '2']")
    for number in (3, 4):
        await subscriber.expect_nothing()
        await subscriber.send(f"40 [{number - 1:04x}]")
        await subscriber.expect(f"3a [\"t\" {number:04x} [] '{number}']")
    await subscriber.expect_nothing()
    await subscriber.break_off()
    subscriber = await kept(server, "subscriber", 5, "21 0014")
    await subscriber.expect("".join(f"3a [\"t\" {number:04x} [] '{number}']" for number in (1, 4, 5, 6)))
    packet = await subscriber.packet()
    assert packet[0] == 0x32
    assert packet[7:] == b"\x007"


@conforms(edge="reconnecting-7")
async def test_a_smaller_receive_maximum_with_pubrel_open(server: Server) -> None:
    """PUBREL packets are all sent again at once; of the PUBLISH packets never more than two are unanswered."""
    subscriber = await kept(server, "subscriber", 5)
    await subscribe(subscriber, 5, "t", "02")
    publisher = await server.connected("publisher")
    for number in range(1, 7):
        await publish(publisher, 5, "t", f"{number}", 2)
        await subscriber.expect(f"34 [\"t\" {number:04x} [] '{number}']")
    await subscriber.send("50 [0002] 50 [0004]")
    await subscriber.expect("62 [0002] 62 [0004]")
    await subscriber.break_off()
    subscriber = await kept(server, "subscriber", 5, "21 0002")
    await subscriber.expect_any_order("3c [\"t\" 0001 [] '1']", "62 [0002]", "3c [\"t\" 0003 [] '3']", "62 [0004]")
    await subscriber.send("50 [0001]")
    await subscriber.expect("62 [0001]")
    await subscriber.expect_nothing()
    await subscriber.send("70 [0001]")
    await subscriber.expect("3c [\"t\" 0005 [] '5']")
    await subscriber.expect_nothing()
    await subscriber.send("50 [0003 80]")
    await subscriber.expect("3c [\"t\" 0006 [] '6']")


@conforms(edge="reconnecting-8")
async def test_more_open_than_there_are_identifiers() -> None:
    """65535 messages have one each, the others wait; what becomes free is used again, and nothing else."""
    total = 65_535 + 2
    async with in_memory(mqtt={"max_inflight": 65_535, "max_mqueue_len": 0}) as server:
        subscriber = await server.subscriber("t", level=4, qos=1)
        publisher = await server.connected("publisher", 4)
        await publisher.send(bytes_of('32 ["t" 0001]') * total)
        await publisher.expect(bytes_of("40 [0001]") * total)
        every = b"".join(b"\x32\x05\x00\x01t" + number.to_bytes(2, "big") for number in range(1, 65_536))
        await subscriber.expect(every)
        await subscriber.expect_nothing()
        for identifier in ("1234", "0001"):
            await subscriber.send(f"40 [{identifier}]")
            await subscriber.expect(f'32 ["t" {identifier}]')
            await subscriber.expect_nothing()


@conforms(edge="reconnecting-8")
async def test_identifiers_go_round() -> None:
    """After 65535 comes 1, and those that are still open are left out."""
    # 1 and 3 stay open all the time, so 2, 4 and 5 come after 65535.
    wanted = [*range(1, 65_536), 2, *range(4, 2000)]
    async with in_memory(mqtt={"max_inflight": 1002, "max_mqueue_len": 0}) as server:
        subscriber = await server.subscriber("t", level=4, qos=1)
        publisher = await server.connected("publisher", 4)
        await publisher.send(bytes_of('32 ["t" 0001]') * len(wanted))
        for start in range(0, len(wanted), 1000):
            some = [number.to_bytes(2, "big") for number in wanted[start : start + 1000]]
            await subscriber.expect(b"".join(b"\x32\x05\x00\x01t" + number for number in some))
            answered = [number for number in some if number not in (b"\x00\x01", b"\x00\x03")]
            await subscriber.send(b"".join(b"\x40\x02" + number for number in answered))


@conforms(edge="reconnecting-9")
@pytest.mark.parametrize("qos", [1, 2])
async def test_qos_0_at_quota_0(server: Server, qos: int) -> None:
    """It is sent at once, past the messages that wait, and takes no room from them."""
    first = f"{0x30 | qos << 1:02x}"
    subscriber = await server.connected("subscriber", properties="21 0001")
    await subscribe(subscriber, 5, "t", "02")
    publisher = await server.connected("publisher")
    for payload in ("1", "2"):
        await publish(publisher, 5, "t", payload, qos)
    await subscriber.expect(f"{first} [\"t\" 0001 [] '1']")
    for payload in ("3", "4", "5"):
        await publish(publisher, 5, "t", payload, 0)
        await subscriber.expect(f"30 [\"t\" [] '{payload}']")
    await subscriber.send("40 [0001]" if qos == 1 else "50 [0001 80]")
    await subscriber.expect(f"{first} [\"t\" 0002 [] '2']")
    await subscriber.expect_nothing()


@conforms(edge="reconnecting-9")
@pytest.mark.parametrize("qos", [0, 1])
async def test_a_reader_that_stops(autojump_clock: MockClock, qos: int) -> None:
    """Its queue is bounded: of what does not fit the oldest goes; what does come is in order, and nobody waits."""
    total, waiting = 120, 5
    async with in_memory(mqtt={"max_mqueue_len": waiting, "max_inflight": 60}) as server:
        subscriber = await server.subscriber("t", qos=qos)
        publisher = await server.connected("publisher")
        for number in range(total):
            identifier = "0001" if qos else ""
            await publisher.send(f"{0x30 | qos << 1:02x} [\"t\" {identifier} [] '{number:04}' 'x' * 50000]")
            await publisher.expect("40 [0001]" if qos else "")
            await publisher.expect_nothing()
        received: list[int] = []
        answers = b""
        while not received or received[-1] < total - 1:
            packet = await subscriber.packet()
            received.append(int(packet[-50_004:-50_000]))
            answers += b"\x40\x02" + packet[7:9] if qos else b""
            # Not one by one: in memory few pieces fit between the two, and the broker waits for its reader.
            if len(received) % 20 == 0:
                await subscriber.send(answers)
                answers = b""
        assert received == sorted(set(received))
        assert received[:5] == [0, 1, 2, 3, 4]
        assert received[-waiting:] == list(range(total - waiting, total))
        assert len(received) < total
        await subscriber.expect_nothing()
