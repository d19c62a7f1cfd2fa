"""Publishing where brokers have gone wrong: aliases, limits, expiry, refusals, open messages.

Invariant: silence is never waited for; a message that comes later shows that nothing came before it.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import trio
from conformance.bytes_of import bytes_of
from conformance.in_memory import NothingSecret, in_memory
from conformance.levels import LEVELS, farewell, kept, publish, section, subscribe
from conformance.peer import Peer, Server
from conformance.statement import conforms
from trio.testing import MockClock

from trio_broker.store.memory import MemoryStore


async def away(server: Server, client_id: str, topic_filter: str, options: str = "01") -> None:
    """A session with this subscription, whose client has left."""
    peer = await kept(server, client_id, 5)
    await subscribe(peer, 5, topic_filter, options)
    await peer.send("e000")
    await peer.expect_end()


@conforms(edge="publishing-1")
@LEVELS
@pytest.mark.parametrize(("first", "identifier"), [("30", ""), ("31", ""), ("32", "0001"), ("34", "0001")])
async def test_an_empty_topic(server: Server, first: str, identifier: str, level: int) -> None:
    """Without an alias it is a protocol error."""
    publisher = await server.connected("publisher", level)
    await publisher.send(f"{first} [\"\" {identifier} {section(level)} 'x']")
    await publisher.expect_end(farewell(level, "82"))


@conforms(edge="publishing-1")
@pytest.mark.parametrize(("first", "identifier"), [("30", ""), ("31", ""), ("32", "0001"), ("34", "0001")])
async def test_an_alias_that_was_never_set(server: Server, first: str, identifier: str) -> None:
    """Protocol error, also when others were set."""
    publisher = await server.connected("publisher")
    await publisher.send('30 ["t" [23 0001]] 30 ["t" [23 0003]]')
    await publisher.send(f'{first} ["" {identifier} [23 0002]]')
    await publisher.expect_end("e0 [82]")


@conforms(edge="publishing-1")
async def test_an_alias_with_a_topic_has_a_new_meaning_at_once() -> None:
    """Also when the message itself is refused, or a copy of one that is open."""
    async with in_memory(authorizer=NothingSecret()) as server:
        subscriber = await server.subscriber("#")
        publisher = await server.connected("publisher")
        await publisher.send("30 [\"a\" [23 0001] '1'] 30 [\"\" [23 0001] '2']")
        await publisher.send("30 [\"b\" [23 0001] '3'] 30 [\"\" [23 0001] '4']")
        await subscriber.expect("30 [\"a\" [] '1'] 30 [\"a\" [] '2'] 30 [\"b\" [] '3'] 30 [\"b\" [] '4']")
        await publisher.send('30 ["secret" [23 0001]] 32 ["" 0001 [23 0001]]')
        await publisher.expect("40 [0001 87]")
        await publisher.send('34 ["a" 0002 [23 0001]] 3c ["c" 0002 [23 0001]] 30 ["" [23 0001] \'5\']')
        await publisher.expect("50 [0002] 50 [0002]")
        await subscriber.expect('30 ["a" []] 30 ["c" [] \'5\']')


@conforms(edge="publishing-2")
async def test_an_alias_is_resolved_before_anything_else() -> None:
    """Access control, the retained message and deliveries now and later see the topic; no alias reaches anybody."""
    async with in_memory(authorizer=NothingSecret()) as server:
        await away(server, "away", "t")
        here = await server.subscriber("t", qos=1)
        publisher = await server.connected("publisher")
        await publisher.send('30 ["secret" [23 0001]] 32 ["" 0001 [23 0001]] 34 ["" 0002 [23 0001]]')
        await publisher.expect("40 [0001 87] 50 [0002 87]")
        await publisher.send('32 ["t" 0003 [23 0002] \'set\'] 33 ["" 0004 [26 "a" "b" 23 0002] \'used\']')
        await publisher.expect("40 [0003] 40 [0004]")
        await publisher.break_off()
        copies = '32 ["t" 0001 [] \'set\'] 32 ["t" 0002 [26 "a" "b"] \'used\']'
        await here.expect(copies)
        await (await kept(server, "away", 5)).expect(copies)
        late = await server.connected("late", properties="22 ffff")
        await subscribe(late, 5, "#", "01")
        await late.expect('33 ["t" 0001 [26 "a" "b"] \'used\']')


@conforms(edge="publishing-3", v5="3.2.2-9")
@pytest.mark.settings(mqtt={"max_qos_allowed": 1, "retain_available": False})
@pytest.mark.parametrize(
    ("packet", "answer"),
    [
        ('30 ["t" []]', ""),
        ('32 ["t" 0001 []]', "40 [0001 10]"),
        ('34 ["t" 0001 []]', "e0 [9b]"),
        ('3c ["t" 0001 []]', "e0 [9b]"),
        ('31 ["t" []]', "e0 [9a]"),
        ('33 ["t" 0001 []]', "e0 [9a]"),
    ],
)
async def test_beyond_what_was_announced(server: Server, packet: str, answer: str) -> None:
    """CONNACK says maximum QoS 1 and no retain: above it 0x9B, with retain 0x9A; the rest is fine."""
    publisher, connack = await server.connack("publisher")
    assert bytes_of("24 01 25 00") in connack
    await publisher.send(packet)
    if answer.startswith("e0"):
        await publisher.expect_end(answer)
    else:
        await publisher.expect(answer)
        await publisher.expect_nothing()


@conforms(edge="publishing-3", v5="3.2.2-9")
@pytest.mark.settings(mqtt={"max_qos_allowed": 0})
@pytest.mark.parametrize("first", ["32", "34", "33"])
async def test_beyond_qos_0(server: Server, first: str) -> None:
    """CONNACK says maximum QoS 0: everything above is 0x9B."""
    publisher, connack = await server.connack("publisher")
    assert bytes_of("24 00") in connack
    await publisher.send(f'30 ["t" []] {first} ["t" 0001 []]')
    await publisher.expect_end("e0 [9b]")


@conforms(edge="publishing-4")
@LEVELS
@pytest.mark.settings(mqtt={"max_packet_size": 100})
@pytest.mark.parametrize("head", ["30 63", "32 63", "30 8001", "30 ffffff7f", "82 ffffff7f", "c0 63"])
async def test_a_packet_above_the_servers_maximum(server: Server, head: str, level: int) -> None:
    """0x95 as soon as its length is known; a packet of just the maximum is fine."""
    publisher, connack = await server.connack("publisher", level)
    if level == 5:
        assert bytes_of("27 00000064") in connack
    await publisher.send(f"30 [\"t\" {section(level)} 'x' * {94 if level == 5 else 95}]")
    await publisher.expect_nothing()
    await publisher.send(head)
    await publisher.expect_end(farewell(level, "95"))


@conforms(edge="publishing-4")
@LEVELS
@pytest.mark.parametrize("length", ["ffffffff", "80808080", "ffffffff01", "8080808001"])
async def test_a_fifth_byte_of_length(server: Server, length: str, level: int) -> None:
    """Malformed."""
    publisher = await server.connected("publisher", level)
    await publisher.send(f"30 {length}")
    await publisher.expect_end(farewell(level, "81"))


@conforms(edge="publishing-4")
@LEVELS
@pytest.mark.parametrize("size", [127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
async def test_lengths_of_one_to_four_bytes(size: int, level: int) -> None:
    """A packet with this remaining length goes through whole."""
    async with in_memory(mqtt={"max_packet_size": "3MB"}) as server:
        subscriber = await server.subscriber("t", level=level)
        publisher = await server.connected("publisher", level)
        packet = bytes_of(f"30 [\"t\" {section(level)} 'x' * {size - 3 - (level == 5)}]")
        await publisher.send(packet)
        await subscriber.expect(packet)


@conforms(edge="publishing-5")
@pytest.mark.parametrize("payload", ["ff", "c080", "eda080", "e28c", "61 00 ff", "00"])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_payload_that_is_no_text_though_it_says_so(server: Server, payload: str, qos: int) -> None:
    """This broker never looks: it is acknowledged, delivered and retained as it is, whatever the QoS."""
    identifier = "0001" if qos else ""
    message = f'["t" {identifier} [01 01] {payload}]'
    subscriber = await server.subscriber("t", qos=qos)
    publisher = await server.connected("publisher")
    await publisher.send(f"{0x31 | qos << 1:02x} {message}")
    await publisher.expect(("", "40 [0001]", "50 [0001]")[qos])
    await subscriber.expect(f"{0x30 | qos << 1:02x} {message}")
    late = await server.connected("late")
    await subscribe(late, 5, "t", "02")
    await late.expect(f"{0x31 | qos << 1:02x} {message}")


@conforms(edge="publishing-5")
@pytest.mark.parametrize("value", ["02", "80", "ff"])
async def test_a_payload_format_above_1(server: Server, value: str) -> None:
    """Protocol error."""
    publisher = await server.connected("publisher")
    await publisher.send(f'30 ["t" [01 {value}]]')
    await publisher.expect_end("e0 [82]")


EXPIRED = pytest.mark.parametrize(
    ("interval", "waited", "left"),
    [(10, 0, 10), (10, 0.5, 10), (10, 4, 6), (10, 4.9, 6), (10, 9, 1), (10, 10, 0), (10, 11, 0), (1, 1, 0),
     (0xFFFFFFFF, 3599, 0xFFFFFFFF - 3599)],
)  # fmt: skip


@conforms(v5="3.3.2-5 3.3.2-6", edge="publishing-6")
@EXPIRED
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_expiry_of_a_message_that_waits(
    autojump_clock: MockClock, qos: int, interval: int, waited: float, left: int
) -> None:
    """Each copy by itself: at once with all of the interval, later with what is left, and not at all after it."""
    first = 0x30 | qos << 1
    async with in_memory() as server:
        here = await server.subscriber("t", "here", qos=qos)
        await away(server, "away", "t", f"{qos:02x}")
        publisher = await server.connected("publisher")
        await publish(publisher, 5, "t", "x", qos, properties=f"02 {interval:08x}")
        await publish(publisher, 5, "t", "stays", qos)
        one, two = ("0001", "0002") if qos else ("", "")
        await here.expect(f"{first:02x} [\"t\" {one} [02 {interval:08x}] 'x'] {first:02x} [\"t\" {two} [] 'stays']")
        await trio.sleep(waited)
        back = await kept(server, "away", 5)
        if left:
            await back.expect(f"{first:02x} [\"t\" {one} [02 {left:08x}] 'x']")
        await back.expect(f"{first:02x} [\"t\" {two if left else one} [] 'stays']")


@conforms(v5="3.3.2-5 3.3.2-6", edge="publishing-6")
@EXPIRED
async def test_expiry_behind_a_full_window(autojump_clock: MockClock, interval: int, waited: float, left: int) -> None:
    """Also for a client that is connected: the time in its queue counts."""
    async with in_memory(mqtt={"max_inflight": 1}) as server:
        subscriber = await server.subscriber("t", qos=1)
        publisher = await server.connected("publisher")
        await publish(publisher, 5, "t", "open", 1)
        await publish(publisher, 5, "t", "x", 1, properties=f"02 {interval:08x}")
        await publish(publisher, 5, "t", "stays", 1)
        await subscriber.expect("32 [\"t\" 0001 [] 'open']")
        await trio.sleep(waited)
        await subscriber.send("40 [0001]")
        if left:
            await subscriber.expect(f"32 [\"t\" 0002 [02 {left:08x}] 'x']")
            await subscriber.send("40 [0002]")
        packet = await subscriber.packet()
        assert packet[7:] == b"\x00stays"


@conforms(v5="3.3.2-5 3.3.2-6", edge="publishing-6")
@EXPIRED
async def test_expiry_of_a_retained_message(autojump_clock: MockClock, interval: int, waited: float, left: int) -> None:
    """Its time runs on; then it is gone."""
    async with in_memory() as server:
        publisher = await server.connected("publisher")
        await publish(publisher, 5, "t/1", "x", 1, retain=True, properties=f"02 {interval:08x}")
        await publish(publisher, 5, "t/2", "stays", 1, retain=True)
        await trio.sleep(waited)
        late = await server.connected("late")
        await subscribe(late, 5, "#")
        stays = "31 [\"t/2\" [] 'stays']"
        await late.expect_any_order(*([f"31 [\"t/1\" [02 {left:08x}] 'x']"] if left else []), stays)
        await late.expect_nothing()


@conforms(edge="publishing-6")
async def test_expiry_across_restarts(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a retained message runs on, from broker to broker with the same store, and in between."""
    # Each broker looks at the machine's clock when it starts; that has to go on with the test's.
    clock = SimpleNamespace(time=lambda: 1_000_000_000 + trio.current_time())
    monkeypatch.setattr("trio_broker.actors.clock.time", clock)
    store = MemoryStore()
    async with in_memory(store=store) as server:
        publisher = await server.connected("publisher")
        for topic, interval in (("a", 10), ("b", 100)):
            await publish(publisher, 5, topic, "x", 1, retain=True, properties=f"02 {interval:08x}")
        await trio.sleep(3)
    await trio.sleep(1)
    async with in_memory(store=store) as server:
        late = await server.connected("late")
        await subscribe(late, 5, "#")
        await late.expect_any_order("31 [\"a\" [02 00000006] 'x']", "31 [\"b\" [02 00000060] 'x']")
        await trio.sleep(6)
    async with in_memory(store=store) as server:
        late = await server.connected("late")
        await subscribe(late, 5, "#")
        await late.expect("31 [\"b\" [02 0000005a] 'x']")
        await late.expect_nothing()


@conforms(edge="publishing-6")
async def test_an_interval_of_0(server: Server) -> None:
    """It is valid: acknowledged, expired at once, so for nobody; and it takes the place of a retained message."""
    subscriber = await server.subscriber("t", qos=1)
    await away(server, "away", "t")
    publisher = await server.connected("publisher")
    await publisher.send("33 [\"t\" 0001 [] 'old'] 33 [\"t\" 0002 [02 00000000] 'x'] 32 [\"t\" 0003 [] 'end']")
    await publisher.expect("40 [0001] 40 [0002] 40 [0003]")
    for peer in (subscriber, await kept(server, "away", 5)):
        await peer.expect("32 [\"t\" 0001 [] 'old'] 32 [\"t\" 0002 [] 'end']")
    late = await server.connected("late")
    await subscribe(late, 5, "t")
    await late.expect_nothing()


@conforms(edge="publishing-6")
async def test_expiry_of_a_will_begins_when_it_is_published(autojump_clock: MockClock) -> None:
    """Not while the client is connected, and not during the delay."""
    async with in_memory() as server:
        subscriber = await server.subscriber("w")
        await away(server, "away", "w")
        peer = await server.peer()
        await peer.send('10 ["MQTT" 05 06 0000 [11 00000e10] "c" [02 0000000a 18 00000014] "w" {\'x\'}]')
        assert (await peer.packet())[0] == 0x20
        await trio.sleep(100)
        await peer.break_off()
        await trio.sleep(24)
        await subscriber.expect("30 [\"w\" [02 0000000a] 'x']")
        await (await kept(server, "away", 5)).expect("30 [\"w\" [02 00000006] 'x']")


@conforms(edge="publishing-7")
async def test_not_authorised() -> None:
    """PUBACK and PUBREC 0x87, nobody gets it, it is not retained, and the connection goes on."""
    async with in_memory(authorizer=NothingSecret()) as server:
        subscriber = await server.subscriber("#", qos=2)
        publisher = await server.connected("publisher")
        await publisher.send('31 ["secret" [] 00] 33 ["secret" 0001 [] 00] 35 ["secret" 0002 [] 00] 32 ["t" 0003 []]')
        await publisher.expect("40 [0001 87] 50 [0002 87] 40 [0003]")
        await subscriber.expect('32 ["t" 0001 []]')
        late = await server.subscriber("#", "late")
        await late.expect_nothing()


@conforms(edge="publishing-7")
async def test_pubrec_with_an_error_ends_the_handshake() -> None:
    """Refused messages do not count as open, and there is no PUBREL for them."""
    async with in_memory(authorizer=NothingSecret(), mqtt={"max_awaiting_rel": 2}) as server:
        publisher = await server.connected("publisher")
        for number in range(1, 6):
            await publisher.send(f'34 ["secret" {number:04x} []]')
            await publisher.expect(f"50 [{number:04x} 87]")
        await publisher.send("62 [0003]")
        await publisher.expect("70 [0003 92]")
        await publisher.send('34 ["t" 0001 []] 34 ["t" 0002 []]')
        await publisher.expect("50 [0001 10] 50 [0002 10]")
        await publisher.send('34 ["secret" 0003 []]')
        await publisher.expect_end("e0 [93]")


@conforms(edge="publishing-7")
@pytest.mark.settings(mqtt={"max_topic_levels": 3})
async def test_a_topic_that_the_broker_does_not_take(server: Server) -> None:
    """More levels than it allows: 0x90."""
    publisher = await server.connected("publisher")
    await publisher.send('32 ["a/b/c" 0001 []]')
    await publisher.expect("40 [0001 10]")
    await publisher.send('32 ["a/b/c/" 0002 []]')
    await publisher.expect_end("e0 [90]")


@conforms(edge="publishing-8")
async def test_nobody_subscribed(server: Server) -> None:
    """0x10 when there is no subscription; a subscriber who is away, or gets none of its own, is one: 0x00."""
    await away(server, "away", "a/#")
    publisher = await server.connected("publisher")
    await subscribe(publisher, 5, "own", "04")
    for topic, code in (("a", ""), ("own", ""), ("b", "10")):
        await publisher.send(f'33 ["{topic}" 0001 [] 00] 35 ["{topic}" 0002 [] 00]')
        await publisher.expect(f"40 [0001 {code}] 50 [0002 {code}]")
        await publisher.send("62 [0002]")
        await publisher.expect("70 [0002]")
    before = await server.connected("before", 4)
    await before.send('32 ["b" 0001] 34 ["b" 0002]')
    await before.expect("40 [0001] 50 [0002]")


async def opened(publisher: Peer, identifier: int, code: str) -> None:
    await publisher.send(f'34 ["t" {identifier:04x} []]')
    await publisher.expect(f"50 [{identifier:04x} {code}]")


@conforms(v5="3.3.4-7", edge="publishing-9")
@pytest.mark.settings(mqtt={"max_awaiting_rel": 2})
@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("one_more", ["34", "32"])
async def test_open_messages_count_until_pubcomp(server: Server, one_more: str, taken: bool) -> None:
    """PUBREC makes no room and PUBCOMP does, also when nobody is subscribed; QoS 1 needs room as well."""
    await server.subscriber("t" if taken else "other")
    code = "" if taken else "10"
    publisher = await server.connected("publisher")
    await opened(publisher, 1, code)
    await opened(publisher, 2, code)
    for number in range(3, 8):
        await publisher.send(f"62 [{number - 2:04x}]")
        await publisher.expect(f"70 [{number - 2:04x}]")
        await opened(publisher, number, code)
    await publisher.send(f'{one_more} ["t" 0008 []]')
    await publisher.expect_end("e0 [93]")


@conforms(edge="publishing-9")
async def test_as_many_as_were_announced(server: Server) -> None:
    """In one piece, of both kinds, again and again: never too many."""
    publisher, connack = await server.connack("publisher")
    assert bytes_of("21 0064") in connack
    for _ in range(3):
        await publisher.send("".join(f'{0x32 + number % 2 * 2:02x} ["t" {number:04x} []]' for number in range(1, 101)))
        await publisher.expect_any_order(
            *(f"{0x40 + number % 2 * 16:02x} [{number:04x} 10]" for number in range(1, 101))
        )
        await publisher.send("".join(f"62 [{number:04x}]" for number in range(1, 101, 2)))
        await publisher.expect("".join(f"70 [{number:04x}]" for number in range(1, 101, 2)))


@conforms(edge="publishing-10")
@pytest.mark.settings(mqtt={"max_awaiting_rel": 2})
async def test_a_copy_of_an_open_message_does_not_count(server: Server) -> None:
    """Nor is it delivered."""
    subscriber = await server.subscriber("t")
    publisher = await server.connected("publisher")
    for payload in ("1", "2"):
        await publisher.send(f"34 [\"t\" 000{payload} [] '{payload}']")
        await publisher.expect(f"50 [000{payload}]")
    for payload in ("1", "2", "2", "1"):
        await publisher.send(f"3c [\"t\" 000{payload} [] '{payload}']")
        await publisher.expect(f"50 [000{payload}]")
    await publish(publisher, 5, "t", "3")
    await subscriber.expect("30 [\"t\" [] '1'] 30 [\"t\" [] '2'] 30 [\"t\" [] '3']")


@conforms(edge="publishing-11")
@pytest.mark.parametrize(
    ("packet", "code"), [('36 ["t" 0001 []]', "81"), ('30 ["#" []]', "90"), ('30 ["" []]', "82"), ("30 ffffff7f", "95")]
)
async def test_disconnect_reaches_a_client_that_goes_on_sending(server: Server, packet: str, code: str) -> None:
    """What lies unread behind the error does not take the DISCONNECT with it."""
    publisher = await server.connected("publisher")
    more = 2_000 if publisher.transport.endswith("bytes") else 300_000
    await publisher.send(bytes_of(packet) + bytes_of("30 [\"t\" [] 'x' * 40]") * (more // 45))
    await publisher.expect_end(f"e0 [{code}]")
