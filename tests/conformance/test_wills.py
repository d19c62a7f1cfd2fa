"""Wills: which ends of a connection publish them, when, and what they carry.

Invariant: silence is never waited for; a message that comes later shows that nothing came before it.
"""

from __future__ import annotations

import pytest
import trio
from conformance.in_memory import NothingSecret, in_memory
from conformance.levels import LEVELS, farewell, publish, section, subscribe
from conformance.peer import Peer, Server
from conformance.statement import conforms
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_broker.protocol.message import Message
from trio_broker.store.memory import MemoryStore

HOUR = "11 00000e10"


async def with_will(
    server: Server,
    level: int = 5,
    *,
    topic: str = "w",
    payload: str = "will",
    qos: int = 0,
    retain: bool = False,
    clean: bool = True,
    properties: str = "",
    will: str = "",
    keep_alive: int = 0,
) -> Peer:
    """The client `c` with a will, connected; `will` is a text for its properties."""
    peer = await server.peer()
    flags = 0x04 | clean << 1 | qos << 3 | retain << 5
    await peer.send(
        f'10 ["MQTT" {level:02x} {flags:02x} {keep_alive:04x} {section(level, properties)} "c"'
        f" {section(level, will)} \"{topic}\" {{'{payload}'}}]"
    )
    packet = await peer.packet()
    assert packet[0] == 0x20
    assert packet[3] == 0
    return peer


async def no_more(server: Server, watcher: Peer, level: int = 5) -> None:
    """Nothing but what is published now."""
    await publish(await server.connected("marker", level), level, "w", "marker")
    await watcher.expect(f"30 [\"w\" {section(level)} 'marker']")
    await watcher.expect_nothing()


ENDS = {
    "malformed": ("f1 00", "81"),
    "reserved type": ("00 00", "81"),
    "second CONNECT": ('10 ["MQTT" LEVEL 02 0000 NONE "c"]', "82"),
    "packet of a server": ("d0 00", "82"),
    "QoS 3": ('36 ["t" 0001 NONE]', "81"),
    "wildcard": ('30 ["#" NONE]', "90"),
    "flags of SUBSCRIBE": ('80 [0001 NONE "t" 00]', "81"),
    "flags of DISCONNECT": ("e1 00", "81"),
    "too large": ("30 ffffff7f", "95"),
}


@conforms(v311="3.1.2-8", v5="3.1.2-7 3.1.2-8", edge="will-1")
@LEVELS
@pytest.mark.parametrize("end", ENDS)
async def test_closed_for_an_error_of_the_client(server: Server, end: str, level: int) -> None:
    """The will is published, once."""
    watcher = await server.subscriber("w", level=level)
    peer = await with_will(server, level)
    packet, code = ENDS[end]
    await peer.send(packet.replace("LEVEL", f"{level:02x}").replace("NONE", section(level)))
    await peer.expect_end(farewell(level, code))
    await watcher.expect(f"30 [\"w\" {section(level)} 'will']")
    await no_more(server, watcher, level)


@conforms(v311="3.1.2-8", v5="3.1.2-7 3.1.2-8", edge="will-1")
@LEVELS
@pytest.mark.parametrize("rest", ["", "30 0a 0001", "e0"], ids=["", "within a packet", "within DISCONNECT"])
async def test_the_connection_breaks(server: Server, rest: str, level: int) -> None:
    """The will is published, once; half a packet counts for nothing."""
    watcher = await server.subscriber("w", level=level)
    peer = await with_will(server, level)
    await peer.send(rest)
    await peer.break_off()
    await watcher.expect(f"30 [\"w\" {section(level)} 'will']")
    await no_more(server, watcher, level)


@conforms(v311="3.1.2-8", v5="3.1.2-7 3.1.2-8", edge="will-1")
@LEVELS
@pytest.mark.parametrize("clean", [False, True])
async def test_taken_over(server: Server, clean: bool, level: int) -> None:
    """A will without delay is published, whatever the new connection says; the new one has none."""
    watcher = await server.subscriber("w", level=level)
    old = await with_will(server, level, clean=False, properties=HOUR)
    new = await server.connected("c", level, clean=clean, properties=HOUR if level == 5 else "")
    await old.expect_end(farewell(level, "8e"))
    await watcher.expect(f"30 [\"w\" {section(level)} 'will']")
    await new.send("f100")
    await new.expect_end(farewell(level, "81"))
    await no_more(server, watcher, level)


@conforms(v311="3.1.2-8 3.1.2-24", v5="3.1.2-7 3.1.2-8 3.1.2-22", edge="will-1")
@LEVELS
async def test_the_keep_alive_is_over(autojump_clock: MockClock, level: int) -> None:
    """The will is published one and a half times the keep alive after the last packet."""
    async with in_memory() as server:
        watcher = await server.subscriber("w", level=level)
        peer = await with_will(server, level, keep_alive=10)
        for _ in range(3):
            await trio.sleep(14)
            await peer.expect_nothing()
        await trio.sleep(14)
        await watcher.expect_nothing()
        await trio.sleep(2)
        await peer.expect_end(farewell(level, "8d"))
        await watcher.expect(f"30 [\"w\" {section(level)} 'will']")
        await no_more(server, watcher, level)


@conforms(v5="3.14.4-3 3.1.2-8", edge="will-1")
@pytest.mark.parametrize("code", ["04", "80", "81", "82", "83", "90", "93", "94", "95", "96", "97", "98", "99"])
async def test_disconnect_that_keeps_the_will(server: Server, code: str) -> None:
    """0x04 and every error code a client may send."""
    watcher = await server.subscriber("w")
    peer = await with_will(server)
    await peer.send(f"e0 [{code}]")
    await peer.expect_end()
    await watcher.expect("30 [\"w\" [] 'will']")
    await no_more(server, watcher)


@conforms(v311="3.14.4-3 3.1.2-10", v5="3.14.4-3 3.1.2-10", edge="will-1")
@pytest.mark.parametrize(
    ("level", "packet"),
    [(4, "e000"), (5, "e000"), (5, "e0 [00]"), (5, "e0 [00 []]"), (5, 'e0 [00 [1f "bye" 26 "a" "b"]]'),
     (5, "e0 [00 [11 00000000]]")],
)  # fmt: skip
async def test_disconnect_that_deletes_the_will(server: Server, level: int, packet: str) -> None:
    """With 0x00 in any form, whatever is sent behind it."""
    watcher = await server.subscriber("w", level=level)
    for behind in ("", "f000"):
        peer = await with_will(server, level, properties=HOUR)
        await peer.send(packet + behind)
        await peer.expect_end()
        await no_more(server, watcher, level)


@conforms(v5="3.1.2-8 3.1.2-7", edge="will-2")
@pytest.mark.parametrize(
    ("delay", "expiry", "after"),
    [(0, 3600, 0), (10, 3600, 10), (100, 10, 10), (10, 10, 10), (100, 0, 0), (None, 3600, 0), (100, None, 0),
     (100, 0xFFFFFFFF, 100), (0xFFFFFFFF, 100, 100)],
)  # fmt: skip
async def test_the_delay_ends_with_the_session(
    autojump_clock: MockClock, delay: int | None, expiry: int | None, after: int
) -> None:
    """Whichever is first, to the second; a session that ends with its connection leaves no delay."""
    properties = "" if expiry is None else f"11 {expiry:08x}"
    will = "" if delay is None else f"18 {delay:08x}"
    async with in_memory() as server:
        watcher = await server.subscriber("w")
        peer = await with_will(server, properties=properties, will=will)
        await trio.sleep(1000)
        await peer.break_off()
        if after:
            await wait_all_tasks_blocked()
            await trio.sleep(after - 0.5)
            await no_more(server, watcher)
            await trio.sleep(1)
        await watcher.expect("30 [\"w\" [] 'will']")
        await trio.sleep(5000)
        await no_more(server, watcher)


@conforms(v5="3.1.2-8", edge="will-2")
async def test_disconnect_may_shorten_the_session(autojump_clock: MockClock) -> None:
    """DISCONNECT 0x04 with session expiry 0: the will goes out at once, though its delay is long."""
    async with in_memory() as server:
        watcher = await server.subscriber("w")
        for expiry, after in ((0, 0), (5, 5)):
            peer = await with_will(server, properties=HOUR, will="18 00000064")
            await peer.send(f"e0 [04 [11 {expiry:08x}]]")
            await peer.expect_end()
            if after:
                await trio.sleep(after - 0.5)
                await no_more(server, watcher)
                await trio.sleep(1)
            await watcher.expect("30 [\"w\" [] 'will']")
            await trio.sleep(1000)
            await no_more(server, watcher)


@conforms(v5="3.1.3-9", edge="will-3")
async def test_coming_back_with_a_new_will(autojump_clock: MockClock) -> None:
    """Before the delay is over: the old one never goes out, the new one with its own delay."""
    async with in_memory() as server:
        watcher = await server.subscriber("w")
        old = await with_will(server, payload="old", properties=HOUR, will="18 0000000a")
        await old.break_off()
        await trio.sleep(9)
        new = await with_will(server, payload="new", clean=False, properties=HOUR, will="18 00000014")
        await trio.sleep(100)
        await no_more(server, watcher)
        await new.break_off()
        await wait_all_tasks_blocked()
        await trio.sleep(19)
        await no_more(server, watcher)
        await trio.sleep(2)
        await watcher.expect("30 [\"w\" [] 'new']")
        await trio.sleep(5000)
        await no_more(server, watcher)


@conforms(v5="3.1.3-9", edge="will-3")
@pytest.mark.parametrize("broken", [False, True])
async def test_coming_back_without_a_will(autojump_clock: MockClock, broken: bool) -> None:
    """Before the delay is over: nothing remains, also when this connection breaks as well."""
    async with in_memory() as server:
        watcher = await server.subscriber("w")
        old = await with_will(server, payload="old", properties=HOUR, will="18 0000000a")
        if broken:
            await old.break_off()
            await trio.sleep(9)
        new = await server.connected("c", clean=False, properties=HOUR)
        await new.break_off()
        await trio.sleep(5000)
        await no_more(server, watcher)


@conforms(v5="3.1.2-8", edge="will-3")
@pytest.mark.parametrize("broken", [False, True])
async def test_coming_back_with_a_clean_start(autojump_clock: MockClock, broken: bool) -> None:
    """The old session ends, so its will goes out at once, whatever its delay; the new one stays with its own."""
    async with in_memory() as server:
        watcher = await server.subscriber("w")
        old = await with_will(server, payload="old", properties=HOUR, will="18 00000064")
        if broken:
            await old.break_off()
            await trio.sleep(9)
        new = await with_will(server, payload="new", properties=HOUR, will="18 00000064")
        await watcher.expect("30 [\"w\" [] 'old']")
        await no_more(server, watcher)
        await new.send("e000")
        await new.expect_end()
        await trio.sleep(5000)
        await no_more(server, watcher)


@conforms(edge="will-4")
@LEVELS
@pytest.mark.parametrize("retain", [False, True])
async def test_a_will_that_is_not_allowed(level: int, retain: bool) -> None:
    """The client is let in, and its will goes to nobody, retained neither."""
    async with in_memory(authorizer=NothingSecret()) as server:
        watcher = await server.subscriber("#", level=level, qos=2)
        peer = await with_will(server, level, topic="secret", retain=retain)
        await peer.break_off()
        await wait_all_tasks_blocked()
        await no_more(server, watcher, level)
        late = await server.subscriber("#", "late", level)
        await late.expect_nothing()


@conforms(v5="3.1.3-10", edge="will-4")
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_the_properties_of_a_will(server: Server, qos: int) -> None:
    """All but the delay are passed on, the user properties in their order."""
    carried = '01 01 02 0000003c 03 "text/plain" 08 "answer" 09 {00ff} 26 "b" "1" 26 "a" "2" 26 "b" "1"'
    watcher = await server.subscriber("w", qos=2)
    peer = await with_will(server, qos=qos, will=f"{carried} 18 0000000a")
    await peer.break_off()
    await watcher.expect(f"{0x30 | qos << 1:02x} [\"w\" {'0001' if qos else ''} [{carried}] 'will']")


@conforms(v311="3.1.2-16 3.1.2-17 3.3.1-10", v5="3.1.2-14 3.1.2-15 3.3.1-6", edge="will-4")
@LEVELS
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_an_empty_will(server: Server, qos: int, level: int) -> None:
    """It is published like any other; with retain it clears what is retained, without it does not."""
    none = section(level)
    first, identifier = 0x30 | qos << 1, "0001" if qos else ""
    first_watcher = await server.subscriber("w", "first", level)
    peer = await with_will(server, level, payload="kept", qos=qos, retain=True)
    await peer.break_off()
    await first_watcher.expect(f"30 [\"w\" {none} 'kept']")
    watcher = await server.connected("watcher", level)
    await subscribe(watcher, level, "w", "02")
    await watcher.expect(f"{first | 1:02x} [\"w\" {identifier} {none} 'kept']")
    for number, retain in enumerate((False, True), 2):
        peer = await with_will(server, level, payload="", qos=qos, retain=retain)
        await peer.break_off()
        await watcher.expect(f'{first:02x} ["w" {f"{number:04x}" if qos else ""} {none}]')
        late = await server.connected("late", level)
        await subscribe(late, level, "w", "02")
        if not retain:
            await late.expect(f"{first | 1:02x} [\"w\" {identifier} {none} 'kept']")
        await late.expect_nothing()


@conforms(edge="will-5")
@LEVELS
async def test_the_broker_ends(autojump_clock: MockClock, level: int) -> None:
    """Without a store that keeps them, wills of connected clients go out, and delayed ones too."""
    published: list[tuple[str, bytes]] = []

    def note(message: Message) -> None:
        published.append((message.topic_name, message.payload))

    async with in_memory() as server:
        server.running.broker.hooks.published.append(note)
        peer = await with_will(server, level, payload="here", retain=True, clean=False, properties=HOUR)
        await away_with_will(server, level)
        assert published == []
        server.running.broker.close()
        await peer.expect_end(farewell(level, "8b"))
    wanted = {"w": b"here"} | ({"w/away": b"away"} if level == 5 else {})
    assert sorted(published) == sorted(wanted.items())


async def away_with_will(server: Server, level: int) -> None:
    """In 5.0 there is somebody with a will delay of 1000 seconds who has just lost the connection."""
    if level == 5:
        away = await server.peer()
        await away.send(f'10 ["MQTT" 05 26 0000 [{HOUR}] "away" [18 000003e8] "w/away" {{\'away\'}}]')
        assert (await away.packet())[0] == 0x20
        await away.break_off()
        await wait_all_tasks_blocked()


@conforms(edge="will-5")
@LEVELS
async def test_the_broker_ends_and_keeps_wills(autojump_clock: MockClock, level: int) -> None:
    """With a store: who was connected counts as disconnected at the restart; a delay that had begun goes on."""
    store = MemoryStore()
    async with in_memory(store=store) as server:
        peer = await with_will(server, level, payload="here", retain=True, clean=False, properties=HOUR)
        await away_with_will(server, level)
        server.running.broker.close()
        await peer.expect_end(farewell(level, "8b"))
    async with in_memory(store=store) as server:
        await wait_all_tasks_blocked()
        late = await server.connected("late", level)
        await subscribe(late, level, "#", "01")
        await late.expect(f"31 [\"w\" {section(level)} 'here']")
        await late.expect_nothing()
        await trio.sleep(1001)
        if level == 5:
            await late.expect(f"30 [\"w/away\" {section(level)} 'away']")
        await trio.sleep(5000)
        await late.expect_nothing()
