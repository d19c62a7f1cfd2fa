"""PINGREQ and DISCONNECT, and how the broker ends connections, as bytes.

Invariant: what the broker says last is compared with the end of the connection, so that nothing can follow it.
"""

from __future__ import annotations

import pytest
from conformance.connecting import LEVELS, connect, section, will
from conformance.peer import Peer, Server
from conformance.statement import conforms

BY_A_CLIENT = (0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99)


async def with_will(server: Server, level: int) -> tuple[Peer, Peer]:
    """A client whose will goes to "w", and somebody who waits for it."""
    watcher = await server.subscriber("w", "watcher", level)
    peer = await server.peer()
    await peer.send(connect(level, f'"c" {will(level)}', 0x06))
    assert (await peer.packet())[0] == 0x20
    return peer, watcher


async def the_will(watcher: Peer, level: int) -> None:
    await watcher.expect(f"30 [\"w\" {section(level)} 'x']")


@conforms(v311="3.12.4-1", v5="3.12.4-1")
@pytest.mark.parametrize("level", [3, *LEVELS])
async def test_ping(server: Server, level: int) -> None:
    """Each PINGREQ has its PINGRESP."""
    peer = await server.connected("c", level)
    await peer.send("c000 c000")
    await peer.expect("d000 d000")
    await peer.send("e000")
    await peer.expect_end()


@conforms(v311="3.14.1-1", v5="3.14.1-1")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("first", [0xE1, 0xE2, 0xE4, 0xE8])
async def test_reserved_bits(server: Server, level: int, first: int) -> None:
    """It is malformed, and so no proper end: the will counts."""
    peer, watcher = await with_will(server, level)
    await peer.send(f"{first:02x}00")
    await peer.expect_end("e0 [81]" if level == 5 else "")
    await the_will(watcher, level)


@conforms(v311="3.14.4-1 3.14.4-2", v5="3.14.4-1 3.14.4-2", edge="limits-4")
@pytest.mark.parametrize("level", LEVELS)
async def test_nothing_counts_behind_disconnect(server: Server, level: int) -> None:
    """The broker says nothing more and closes, though the client does not; what stands behind is ignored."""
    watcher = await server.subscriber("#", "watcher", level)
    peer = await server.connected("c", level)
    await peer.send(f'e000 c000 30 ["t" {section(level)} \'ignored\'] 82 [0001 {section(level)} "#" 00]')
    await peer.expect_end()
    await watcher.expect_nothing()


@conforms(v5="3.14.2-1", edge="codes-1")
async def test_codes_of_a_client(server: Server) -> None:
    """Those of the table end the connection without an answer; of the others each is a protocol error."""
    for code in range(256):
        peer = await server.connected("c")
        await peer.send(f"e0 [{code:02x}]")
        await peer.expect_end("" if code in BY_A_CLIENT else "e0 [82]")


@conforms(v5="3.14.4-3")
async def test_every_code_but_0_leaves_the_will(server: Server) -> None:
    for code in (*BY_A_CLIENT, 0x86):
        peer, watcher = await with_will(server, 5)
        await peer.send(f"e0 [{code:02x}]")
        await peer.expect_end("e0 [82]" if code == 0x86 else "")
        if code:
            await the_will(watcher, 5)
        else:
            await watcher.expect_nothing()
        await watcher.send("e000")
        await watcher.expect_end()


@conforms(v5="3.14.2-2 3.14.2-3 3.14.2-4")
async def test_the_brokers_disconnect_says_the_code_alone(server: Server) -> None:
    """No session expiry interval, no reason string, no user property, whatever the client asked for."""
    peer = await server.connected("c", properties="11 00000e10 17 01 27 00000080")
    await peer.send("d000")
    await peer.expect_end("e0 [82]")


@conforms(edge="limits-3")
@pytest.mark.parametrize(
    ("level", "wrong", "code"),
    [
        pytest.param(4, "e0 [00]", None, id="3.1.1, a body"),
        pytest.param(4, "e0 [00 [] 00]", None, id="3.1.1, more of it"),
        pytest.param(5, "e0 [00 [] 00]", 0x81, id="something behind it"),
        pytest.param(5, "e0 [00 05]", 0x81, id="properties that are not there"),
        pytest.param(5, "e0 [00 [21 0001]]", 0x82, id="receive maximum"),
        pytest.param(5, 'e0 [00 [1c "other"]]', 0x82, id="server reference"),
        pytest.param(5, "e0 [00 [11 00000000 11 00000000]]", 0x82, id="session expiry twice"),
        pytest.param(5, "e0 [00 [7f 00]]", 0x81, id="unknown property"),
    ],
)
async def test_wrong_disconnects(server: Server, level: int, wrong: str, code: int | None) -> None:
    """They end the connection as an error, and the will is published."""
    peer, watcher = await with_will(server, level)
    await peer.send(wrong)
    await peer.expect_end("" if code is None else f"e0 [{code:02x}]")
    await the_will(watcher, level)


@conforms(edge="limits-5")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("packet", "code"),
    [
        pytest.param("d000", 0x82, id="PINGRESP"),
        pytest.param("20 [0000]", 0x82, id="CONNACK"),
        pytest.param("90 [0001 00]", 0x82, id="SUBACK"),
        pytest.param("b0 [0001]", 0x82, id="UNSUBACK"),
        pytest.param("0000", 0x81, id="type 0"),
    ],
)
async def test_packets_that_no_client_sends(server: Server, level: int, packet: str, code: int) -> None:
    peer = await server.connected("c", level)
    await peer.send(packet)
    await peer.expect_end(f"e0 [{code:02x}]" if level == 5 else "")


@conforms(edge="limits-1")
@pytest.mark.parametrize("level", LEVELS)
async def test_the_broker_shuts_down(server: Server, level: int) -> None:
    peer = await server.connected("c", level)
    server.running.broker.close()
    await peer.expect_end("e0 [8b]" if level == 5 else "")


@conforms(edge="limits-1")
@pytest.mark.parametrize("level", LEVELS)
async def test_a_broker_that_is_full(server: Server, level: int) -> None:
    """Short of memory: server busy, and the end."""
    core = server.running.broker._core
    assert core is not None
    core.memory_guard.next_at = float("inf")
    core.limits.pressure.level = 1
    peer = await server.peer()
    await peer.send(connect(level))
    await peer.expect_end("20 [00 89 []]" if level == 5 else "20 [00 03]")


@conforms(edge="limits-2")
@pytest.mark.parametrize("level", LEVELS)
async def test_kicked_out(server: Server, level: int) -> None:
    """Administrative action; the broker sends nobody to another server."""
    peer = await server.connected("c", level)
    await server.running.broker.questions.kick("c")
    await peer.expect_end("e0 [98]" if level == 5 else "")


@conforms(v5="3.1.2-28", edge="limits-6")
@pytest.mark.settings(mqtt={"response_information": "answers/"})
@pytest.mark.parametrize("asked", ["19 01", "19 00", ""])
async def test_response_information(server: Server, asked: str) -> None:
    """Only for who asks for it."""
    _, connack = await server.connack("c", properties=asked)
    assert connack.endswith(b"\x1a\x00\x08answers/") == (asked == "19 01")
    assert (b"answers" in connack) == (asked == "19 01")
