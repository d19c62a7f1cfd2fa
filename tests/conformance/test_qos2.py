"""QoS 2 in both directions: each message once, and what PUBREC, PUBREL and PUBCOMP say and may say.

Invariant: silence is never waited for; a message that comes later shows that nothing came before it.
"""

from __future__ import annotations

import pytest
import trio
from conformance.in_memory import NothingSecret, in_memory
from conformance.levels import LEVELS, farewell, kept, publish, section, subscribe
from conformance.peer import Peer, Server
from conformance.statement import conforms
from trio.testing import MockClock

PUBREC_CODES = ["00", "10", "80", "83", "87", "90", "91", "97", "99"]
FORMS = pytest.mark.parametrize(
    "properties", ["", "[]", '[1f "why" 26 "a" "b" 26 "a" "b"]'], ids=["short", "none", "some"]
)


async def open_message(server: Server, level: int = 5, properties: str = "") -> tuple[Peer, Peer]:
    """A publisher, and a subscriber who has received the message 'x' with the identifier 1 and not answered."""
    subscriber = await kept(server, "subscriber", level, properties)
    await subscribe(subscriber, level, "t", "02")
    publisher = await server.connected("publisher", level)
    await publish(publisher, level, "t", "x", 2)
    await subscriber.expect(f"34 [\"t\" 0001 {section(level)} 'x']")
    return publisher, subscriber


@conforms(v311="3.6.1-1", v5="3.6.1-1")
@LEVELS
@pytest.mark.parametrize("first", ["60", "61", "63", "64", "66", "6a", "6f"])
async def test_the_flags_of_pubrel(server: Server, first: str, level: int) -> None:
    """Others than 0010 are malformed."""
    publisher = await server.connected("publisher", level)
    await server.subscriber("t", level=level)
    await publisher.send(f'34 ["t" 0001 {section(level)}]')
    await publisher.expect("50 [0001]")
    await publisher.send(f"{first} [0001]")
    await publisher.expect_end(farewell(level, "81"))


@conforms(v311="4.3.3-1", v5="4.3.3-1 4.3.3-2 4.3.3-3 4.3.3-4 4.3.3-5")
@LEVELS
async def test_the_brokers_part_as_sender(server: Server, level: int) -> None:
    """Fresh identifiers and DUP 0; each PUBREC is answered with PUBREL, and PUBCOMP makes the identifier free."""
    none = section(level)
    subscriber = await server.subscriber("t", level=level, qos=2)
    publisher = await server.connected("publisher", level)
    for number in (1, 2, 3):
        await publisher.send(f"3c [\"t\" 0009 {none} '{number}']")
        await publisher.expect("50 [0009]")
        await publisher.send("62 [0009]")
        await publisher.expect("70 [0009]")
        await subscriber.expect(f"34 [\"t\" {number:04x} {none} '{number}']")
    await subscriber.send("50 [0002]")
    await subscriber.expect("62 [0002]")
    await subscriber.send("50 [0001]")
    await subscriber.expect("62 [0001]")
    await subscriber.send("70 [0002]")
    await subscriber.expect_nothing()
    await publish(publisher, level, "t", "4", 2)
    packet = await subscriber.packet()
    assert packet[0] == 0x34
    assert packet[5:7] not in (b"\x00\x01", b"\x00\x03")


@conforms(v311="4.3.3-1 4.4.0-1", v5="4.3.3-3 4.3.3-5 4.3.3-6 4.4.0-1")
@LEVELS
async def test_what_comes_again_after_each_step(server: Server, level: int) -> None:
    """PUBLISH until PUBREC, then PUBREL and never PUBLISH, after PUBCOMP nothing."""
    none = section(level)
    publisher, subscriber = await open_message(server, level)
    for _ in range(2):
        await subscriber.break_off()
        subscriber = await kept(server, "subscriber", level)
        await subscriber.expect(f"3c [\"t\" 0001 {none} 'x']")
        await subscriber.expect_nothing()
    await subscriber.send("50 [0001]")
    await subscriber.expect("62 [0001]")
    for _ in range(2):
        await subscriber.break_off()
        subscriber = await kept(server, "subscriber", level)
        await subscriber.expect("62 [0001]")
        await subscriber.expect_nothing()
    await subscriber.send("70 [0001]")
    await subscriber.expect_nothing()
    await subscriber.break_off()
    subscriber = await kept(server, "subscriber", level)
    await publish(publisher, level, "t", "y", 0)
    await subscriber.expect(f"30 [\"t\" {none} 'y']")


@conforms(v311="4.3.3-2", v5="4.3.3-8 4.3.3-10")
@LEVELS
async def test_every_copy_before_pubrel_gets_pubrec(server: Server, level: int) -> None:
    """With DUP or without; the message is delivered once, and the first payload counts."""
    none = section(level)
    subscriber = await server.subscriber("t", level=level, qos=2)
    publisher = await server.connected("publisher", level)
    for flags, payload in (("34", "once"), ("3c", "once"), ("34", "once"), ("3c", "other")):
        await publisher.send(f"{flags} [\"t\" 0009 {none} '{payload}']")
        await publisher.expect("50 [0009]")
    await publisher.send(f"34 [\"t\" 000a {none} 'next']")
    await publisher.expect("50 [000a]")
    await subscriber.expect(f"34 [\"t\" 0001 {none} 'once'] 34 [\"t\" 0002 {none} 'next']")
    await subscriber.expect_nothing()


@conforms(v311="4.3.3-2", v5="4.3.3-8 4.3.3-10")
@LEVELS
async def test_a_copy_long_after_is_still_a_copy(autojump_clock: MockClock, level: int) -> None:
    """However long PUBREL takes: until it comes, the same identifier is the same message."""
    none = section(level)
    async with in_memory() as server:
        subscriber = await server.subscriber("t", level=level, qos=0)
        publisher = await server.connected("publisher", level)
        await publisher.send(f"34 [\"t\" 0009 {none} 'once']")
        await publisher.expect("50 [0009]")
        await trio.sleep(3600)
        await publisher.send(f"3c [\"t\" 0009 {none} 'once']")
        await publisher.expect("50 [0009]")
        await publish(publisher, level, "t", "next")
        await subscriber.expect(f"30 [\"t\" {none} 'once'] 30 [\"t\" {none} 'next']")


@conforms(v311="4.3.3-2", v5="4.3.3-11 4.3.3-12")
@LEVELS
@pytest.mark.parametrize("flags", ["34", "3c"])
async def test_after_pubcomp_the_identifier_is_free(server: Server, flags: str, level: int) -> None:
    """PUBREL gets PUBCOMP; the same identifier is a new message then, whatever DUP says."""
    none = section(level)
    subscriber = await server.subscriber("t", level=level, qos=2)
    publisher = await server.connected("publisher", level)
    for number, first in enumerate(("34", flags, flags), 1):
        await publisher.send(f"{first} [\"t\" 0009 {none} 'x']")
        await publisher.expect("50 [0009]")
        await publisher.send("62 [0009]")
        await publisher.expect("70 [0009]")
        await subscriber.expect(f"34 [\"t\" {number:04x} {none} 'x']")


@conforms(v311="4.3.3-2", v5="4.3.3-11 3.7.2-1")
@LEVELS
async def test_pubrel_of_an_unknown_identifier(server: Server, level: int) -> None:
    """PUBCOMP as well; version 5 is told 0x92."""
    publisher = await server.connected("publisher", level)
    await publisher.send("62 [0009]")
    await publisher.expect(f"70 [0009 {'92' if level == 5 else ''}]")
    await publisher.expect_nothing()


@conforms(v5="4.3.3-9")
async def test_after_pubrec_with_an_error_the_identifier_is_free() -> None:
    """The next PUBLISH with it is a new message, with DUP or without, and no copy."""
    async with in_memory(authorizer=NothingSecret()) as server:
        subscriber = await server.subscriber("#", qos=2)
        publisher = await server.connected("publisher")
        for number, first in enumerate(("34", "3c"), 1):
            await publisher.send("34 [\"secret\" 0009 [] 'x']")
            await publisher.expect("50 [0009 87]")
            await publisher.send(f"{first} [\"t\" 0009 [] 'y']")
            await publisher.expect("50 [0009]")
            await publisher.send("62 [0009]")
            await publisher.expect("70 [0009]")
            await subscriber.expect(f"34 [\"t\" {number:04x} [] 'y']")
        await publisher.send('34 ["secret" 0009 []]')
        await publisher.expect("50 [0009 87]")
        await publisher.send("62 [0009]")
        await publisher.expect("70 [0009 92]")


@conforms(v5="4.3.3-7 4.3.3-13")
async def test_expiry_does_not_stop_what_was_begun(autojump_clock: MockClock) -> None:
    """A PUBLISH once sent comes again after its time, and its handshake ends as ever; so does a publisher's."""
    async with in_memory() as server:
        publisher, subscriber = await open_message(server)
        for identifier in ("0002", "0003"):
            await publisher.send(f"34 [\"t\" {identifier} [02 00000005] 'y']")
            await publisher.expect(f"50 [{identifier}]")
            await subscriber.expect(f"34 [\"t\" {identifier} [02 00000005] 'y']")
        await subscriber.send("50 [0002]")
        await subscriber.expect("62 [0002]")
        await trio.sleep(100)
        await subscriber.send("50 [0003]")
        await subscriber.expect("62 [0003]")
        await subscriber.break_off()
        await trio.sleep(100)
        subscriber = await kept(server, "subscriber", 5)
        await subscriber.expect_any_order("3c [\"t\" 0001 [] 'x']", "62 [0002]", "62 [0003]")
        await subscriber.send("70 [0002] 70 [0003]")
        await subscriber.expect_nothing()
        await publisher.send("62 [0002] 62 [0003]")
        await publisher.expect("70 [0002] 70 [0003]")


@conforms(v5="4.3.3-7")
@pytest.mark.parametrize(("first", "again"), [("32", "3a"), ("34", "3c")])
async def test_expiry_does_not_stop_a_publish_already_sent(autojump_clock: MockClock, first: str, again: str) -> None:
    """It is sent again though its time is over; what was never sent is dropped."""
    async with in_memory(mqtt={"max_inflight": 1}) as server:
        subscriber = await kept(server, "subscriber", 5)
        await subscribe(subscriber, 5, "t", "02")
        publisher = await server.connected("publisher")
        await publisher.send(f"{first} [\"t\" 0001 [02 00000005] '1'] {first} [\"t\" 0002 [02 00000005] '2']")
        await subscriber.expect(f"{first} [\"t\" 0001 [02 00000005] '1']")
        await subscriber.break_off()
        await trio.sleep(10)
        subscriber = await kept(server, "subscriber", 5)
        packet = await subscriber.packet()
        assert packet[0] == int(again, 16)
        assert packet[2:7] == b"\x00\x01t\x00\x01"
        assert packet[-1:] == b"1"
        await subscriber.send("40 [0001]" if first == "32" else "50 [0001]")
        if first == "34":
            await subscriber.expect("62 [0001]")
            await subscriber.send("70 [0001]")
        await subscriber.expect_nothing()


@conforms(v5="3.5.2-1")
@FORMS
@pytest.mark.parametrize("code", PUBREC_CODES)
async def test_every_code_of_pubrec_is_taken(server: Server, code: str, properties: str) -> None:
    """Below 0x80 the handshake goes on; from there it is over, and there is room for the next message."""
    publisher, subscriber = await open_message(server, properties="21 0001")
    await publish(publisher, 5, "t", "y", 2)
    await subscriber.send(f"50 [0001 {code} {properties}]")
    if code < "80":
        await subscriber.expect("62 [0001]")
        await subscriber.send("70 [0001]")
    await subscriber.expect("34 [\"t\" 0002 [] 'y']")


@conforms(v5="3.7.2-1")
@FORMS
@pytest.mark.parametrize("code", ["00", "92"])
async def test_every_code_of_pubcomp_is_taken(server: Server, code: str, properties: str) -> None:
    """It ends the handshake, and there is room for the next message."""
    publisher, subscriber = await open_message(server, properties="21 0001")
    await publish(publisher, 5, "t", "y", 2)
    await subscriber.send("50 [0001]")
    await subscriber.expect("62 [0001]")
    await subscriber.send(f"70 [0001 {code} {properties}]")
    await subscriber.expect("34 [\"t\" 0002 [] 'y']")


@conforms(v5="3.6.2-1")
@FORMS
@pytest.mark.parametrize("code", ["00", "92"])
async def test_every_code_of_pubrel_is_taken(server: Server, code: str, properties: str) -> None:
    """It gets PUBCOMP, and the identifier is free."""
    await server.subscriber("t")
    publisher = await server.connected("publisher")
    for _ in range(2):
        await publisher.send('34 ["t" 0009 []]')
        await publisher.expect("50 [0009]")
        await publisher.send(f"62 [0009 {code} {properties}]")
        await publisher.expect("70 [0009]")


@conforms(v5="3.5.2-1 3.6.2-1 3.7.2-1")
@pytest.mark.parametrize(
    ("first", "codes"),
    [
        ("50", ["01", "02", "11", "81", "82", "92", "ff"]),
        ("62", ["01", "10", "80", "87", "91", "ff"]),
        ("70", ["01", "10", "80", "87", "91", "ff"]),
    ],
)
async def test_another_code_is_an_error(server: Server, first: str, codes: list[str]) -> None:
    """Protocol error, for each code that is not in the packet's table."""
    for code in codes:
        peer = await server.connected("peer")
        await peer.send(f"{first} [0001 {code}]")
        await peer.expect_end("e0 [82]")


@conforms(
    v5="3.5.2-1 3.5.2-2 3.5.2-3 3.6.2-1 3.6.2-2 3.6.2-3 3.7.2-1 3.7.2-2 3.7.2-3",
)
@pytest.mark.parametrize("maximum", ["27 00000010", "27 00000011", "27 00100000", ""])
async def test_what_the_broker_says(maximum: str) -> None:
    """0x00, 0x10, 0x87 and 0x92 where the tables have them, without properties: it fits into the smallest packet."""
    async with in_memory(authorizer=NothingSecret()) as server:
        await server.subscriber("taken")
        peer = await server.connected("peer", properties=maximum)
        await peer.send('34 ["taken" 0001 []] 34 ["t" 0002 []] 34 ["secret" 0003 []]')
        await peer.expect("50 [0001] 50 [0002 10] 50 [0003 87]")
        await peer.send("62 [0001] 62 [0002] 62 [0003] 50 [0009]")
        await peer.expect("70 [0001] 70 [0002] 70 [0003 92] 62 [0009 92]")


@conforms(v5="4.4.0-2")
@pytest.mark.parametrize("code", [code for code in PUBREC_CODES if code >= "80"])
async def test_pubrec_with_an_error_ends_the_message(server: Server, code: str) -> None:
    """Neither PUBREL nor PUBLISH of it, on this connection and on the next one."""
    publisher, subscriber = await open_message(server)
    await subscriber.send(f"50 [0001 {code}]")
    await subscriber.expect_nothing()
    await subscriber.break_off()
    subscriber = await kept(server, "subscriber", 5)
    await publish(publisher, 5, "t", "y", 0)
    await subscriber.expect("30 [\"t\" [] 'y']")


@conforms(v311="2.3.1-6 2.3.1-3", v5="2.2.1-5")
@LEVELS
@pytest.mark.parametrize("identifier", ["0001", "00ff", "0100", "7fff", "8000", "ffff"])
async def test_the_identifier_is_repeated(server: Server, identifier: str, level: int) -> None:
    """In PUBREC and PUBCOMP, whatever it is."""
    await server.subscriber("t", level=level)
    publisher = await server.connected("publisher", level)
    await publisher.send(f'34 ["t" {identifier} {section(level)}]')
    await publisher.expect(f"50 [{identifier}]")
    await publisher.send(f"62 [{identifier}]")
    await publisher.expect(f"70 [{identifier}]")
