"""QoS 1 in both directions, and what a PUBACK says and may say.

Invariant: silence is never waited for; a message that comes later shows that nothing came before it.
"""

from __future__ import annotations

import pytest
import trio
from conformance.bytes_of import bytes_of
from conformance.in_memory import NothingSecret, in_memory
from conformance.levels import LEVELS, farewell, kept, no_takers, publish, section, subscribe
from conformance.peer import Server
from conformance.statement import conforms
from trio.testing import MockClock

PUBACK_CODES = ["00", "10", "80", "83", "87", "90", "91", "97", "99"]


@conforms(v311="4.3.2-1 2.3.1-4", v5="4.3.2-1 4.3.2-2 2.2.1-4")
@LEVELS
async def test_a_new_message_has_a_fresh_identifier(server: Server, level: int) -> None:
    """DUP 0 and an identifier that is not open, whatever the publisher used; the client's own ones do not count."""
    none = section(level)
    subscriber = await server.subscriber("t", level=level, qos=1)
    publisher = await server.connected("publisher", level)
    for number in range(1, 5):
        await publisher.send(f"32 [\"t\" 0009 {none} '{number}']")
        await publisher.expect("40 [0009]")
        await subscriber.send(f'34 ["u" {number + 1:04x} {none}]')
        await subscriber.expect_any_order(
            f"32 [\"t\" {number:04x} {none} '{number}']", f"50 [{number + 1:04x} {no_takers(level)}]"
        )
    await subscriber.send("40 [0002] 40 [0004]")
    await subscriber.expect_nothing()
    await publish(publisher, level, "t", "5", 1)
    packet = await subscriber.packet()
    assert packet in [bytes_of(f"32 [\"t\" {number:04x} {none} '5']") for number in (2, 4, 5)]


@conforms(v311="4.3.2-1", v5="4.3.2-3")
@LEVELS
async def test_it_is_open_until_puback(server: Server, level: int) -> None:
    """What was acknowledged does not come again on the next connection, what was not does."""
    none = section(level)
    subscriber = await kept(server, "subscriber", level)
    await subscribe(subscriber, level, "t", "01")
    publisher = await server.connected("publisher", level)
    for number in range(1, 5):
        await publish(publisher, level, "t", f"{number}", 1)
        await subscriber.expect(f"32 [\"t\" {number:04x} {none} '{number}']")
    await subscriber.send("40 [0003] 40 [0001]")
    await subscriber.expect_nothing()
    for _ in range(2):
        await subscriber.break_off()
        subscriber = await kept(server, "subscriber", level)
        await subscriber.expect(f"3a [\"t\" 0002 {none} '2'] 3a [\"t\" 0004 {none} '4']")
        await subscriber.expect_nothing()
    await subscriber.send("40 [0002] 40 [0004]")
    await subscriber.expect_nothing()
    await subscriber.break_off()
    subscriber = await kept(server, "subscriber", level)
    await publish(publisher, level, "t", "5", 0)
    await subscriber.expect(f"30 [\"t\" {none} '5']")


@conforms(v311="4.3.2-2", v5="4.3.2-4")
@LEVELS
async def test_puback_means_that_the_broker_is_responsible(server: Server, level: int) -> None:
    """With PUBACK the message is kept for who is away, though the publisher is gone at once."""
    away = await kept(server, "away", level)
    await subscribe(away, level, "t", "01")
    await away.send("e0 []" if level == 5 else "e000")
    await away.expect_end()
    publisher = await server.connected("publisher", level)
    await publisher.send(f"32 [\"t\" 1234 {section(level)} 'x']")
    await publisher.expect("40 [1234]")
    await publisher.break_off()
    away = await kept(server, "away", level)
    await away.expect(f"32 [\"t\" 0001 {section(level)} 'x']")


@conforms(v311="4.3.2-2", v5="4.3.2-5")
@LEVELS
@pytest.mark.parametrize(("first", "second"), [("32", "32"), ("32", "3a"), ("3a", "32"), ("3a", "3a")])
async def test_after_puback_the_same_identifier_is_a_new_message(
    server: Server, first: str, second: str, level: int
) -> None:
    """Whatever DUP says, and though the payload is the same."""
    none = section(level)
    subscriber = await server.subscriber("t", level=level, qos=1)
    publisher = await server.connected("publisher", level)
    for number, flags in enumerate((first, second), 1):
        await publisher.send(f"{flags} [\"t\" 0009 {none} 'x']")
        await publisher.expect("40 [0009]")
        await subscriber.expect(f"32 [\"t\" {number:04x} {none} 'x']")


@conforms(v5="3.4.2-1")
@pytest.mark.parametrize("code", PUBACK_CODES)
@pytest.mark.parametrize("properties", ["", "[]", '[1f "why" 26 "a" "b" 26 "a" "b"]'], ids=["short", "none", "some"])
async def test_every_code_of_the_table_is_taken(server: Server, code: str, properties: str) -> None:
    """It ends the message and makes room for the next one."""
    subscriber = await server.connected("subscriber", properties="21 0001")
    await subscribe(subscriber, 5, "t", "01")
    publisher = await server.connected("publisher")
    for payload in ("1", "2"):
        await publish(publisher, 5, "t", payload, 1)
    await subscriber.expect("32 [\"t\" 0001 [] '1']")
    await subscriber.expect_nothing()
    await subscriber.send(f"40 [0001 {code} {properties}]")
    await subscriber.expect("32 [\"t\" 0002 [] '2']")


@conforms(v5="3.4.2-1")
@pytest.mark.parametrize("code", ["01", "02", "04", "11", "7f", "81", "82", "92", "9a", "ff"])
async def test_another_code_is_an_error(server: Server, code: str) -> None:
    """Protocol error."""
    subscriber = await server.subscriber("t", qos=1)
    await publish(await server.connected("publisher"), 5, "t", "x", 1)
    await subscriber.expect("32 [\"t\" 0001 [] 'x']")
    await subscriber.send(f"40 [0001 {code}]")
    await subscriber.expect_end("e0 [82]")


@conforms(v5="3.4.2-1 3.4.2-2 3.4.2-3")
@pytest.mark.parametrize("maximum", ["27 00000010", "27 00000011", "27 00100000", ""])
async def test_what_puback_says(maximum: str) -> None:
    """0x00, 0x10 and 0x87, without properties: it fits into the smallest packet that holds a CONNACK."""
    async with in_memory(authorizer=NothingSecret()) as server:
        await server.subscriber("taken")
        publisher = await server.connected("publisher", properties=maximum)
        await publisher.send('32 ["taken" 0001 []] 32 ["t" 0002 []] 32 ["secret" 0003 []]')
        await publisher.expect("40 [0001] 40 [0002 10] 40 [0003 87]")


@conforms(v5="4.4.0-2")
@pytest.mark.parametrize("code", [code for code in PUBACK_CODES if code >= "80"])
async def test_puback_with_an_error_ends_the_message(server: Server, code: str) -> None:
    """It does not come again, neither on this connection nor on the next one."""
    subscriber = await kept(server, "subscriber", 5)
    await subscribe(subscriber, 5, "t", "01")
    publisher = await server.connected("publisher")
    await publish(publisher, 5, "t", "x", 1)
    await subscriber.expect("32 [\"t\" 0001 [] 'x']")
    await subscriber.send(f"40 [0001 {code}]")
    await subscriber.expect_nothing()
    await subscriber.break_off()
    subscriber = await kept(server, "subscriber", 5)
    await publish(publisher, 5, "t", "y", 0)
    await subscriber.expect("30 [\"t\" [] 'y']")


@conforms(v311="4.4.0-1", v5="4.4.0-1")
@LEVELS
@pytest.mark.parametrize(("first", "again"), [("32", "3a"), ("34", "3c")])
async def test_sent_again_when_the_session_is_resumed_and_at_no_other_time(
    autojump_clock: MockClock, first: str, again: str, level: int
) -> None:
    """A day of silence brings nothing, the next connection each open message; one with a clean start nothing."""
    none = section(level)
    session = "11 ffffffff" if level == 5 else ""
    async with in_memory(mqtt={"session_expiry_interval": "7d"}) as server:
        subscriber = await server.connected("subscriber", level, clean=False, properties=session)
        await subscribe(subscriber, level, "t", "02")
        publisher = await server.connected("publisher", level)
        for number in (1, 2):
            await publisher.send(f"{first} [\"t\" {number:04x} {none} '{number}']")
            await subscriber.expect(f"{first} [\"t\" {number:04x} {none} '{number}']")
        await trio.sleep(24 * 3600)
        await subscriber.expect_nothing()
        await subscriber.break_off()
        await trio.sleep(24 * 3600)
        subscriber = await server.connected("subscriber", level, clean=False, properties=session)
        await subscriber.expect(f"{again} [\"t\" 0001 {none} '1'] {again} [\"t\" 0002 {none} '2']")
        await trio.sleep(24 * 3600)
        await subscriber.expect_nothing()
        await subscriber.break_off()
        subscriber = await server.connected("subscriber", level, clean=True, properties=session)
        await trio.sleep(24 * 3600)
        await subscriber.expect_nothing()


@conforms(v311="2.3.1-6", v5="2.2.1-5")
@LEVELS
@pytest.mark.parametrize("identifier", ["0001", "00ff", "0100", "7fff", "8000", "ffff"])
async def test_puback_repeats_the_identifier(server: Server, identifier: str, level: int) -> None:
    """Each of them is as good as another."""
    publisher = await server.connected("publisher", level)
    await server.subscriber("t", level=level)
    await publisher.send(f'32 ["t" {identifier} {section(level)}]')
    await publisher.expect(f"40 [{identifier}]")


@conforms(v311="2.3.1-1", v5="2.2.1-3")
@LEVELS
@pytest.mark.parametrize("first", ["32", "3a", "33", "34", "3c", "35"])
async def test_identifier_0(server: Server, first: str, level: int) -> None:
    """Protocol error, and the message goes to nobody."""
    subscriber = await server.subscriber("#", level=level, qos=2)
    publisher = await server.connected("publisher", level)
    await publisher.send(f"{first} [\"t\" 0000 {section(level)} 'x']")
    await publisher.expect_end(farewell(level, "82"))
    await publish(await server.connected("publisher", level), level, "t", "next")
    await subscriber.expect(f"30 [\"t\" {section(level)} 'next']")
