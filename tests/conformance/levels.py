"""What differs between the levels 4 and 5 in a packet, and a whole handshake for what a test only needs done.

Invariant: nothing here is what a test is about; that is written out in the test.
"""

from __future__ import annotations

import pytest
from conformance.bytes_of import shown
from conformance.peer import Peer, Server

__all__ = ["LEVELS", "farewell", "kept", "no_takers", "publish", "section", "subscribe"]

LEVELS = pytest.mark.parametrize("level", [4, 5])


def section(level: int, properties: str = "") -> str:
    """The property section."""
    return f"[{properties}]" if level == 5 else ""


def farewell(level: int, code: str) -> str:
    """What the broker says before it closes: DISCONNECT with this code, or nothing."""
    return f"e0 [{code}]" if level == 5 else ""


def no_takers(level: int) -> str:
    """What PUBACK and PUBREC say of a message that nobody is subscribed to."""
    return "10" if level == 5 else ""


async def publish(
    peer: Peer, level: int, topic: str, payload: str, qos: int = 0, *, retain: bool = False, properties: str = ""
) -> None:
    """The whole handshake with identifier fffd; whether somebody is subscribed is left open."""
    identifier = "fffd" if qos else ""
    first = 0x30 | qos << 1 | retain
    await peer.send(f"{first:02x} [\"{topic}\" {identifier} {section(level, properties)} '{payload}']")
    if not qos:
        await peer.expect_nothing()
        return
    answer = await peer.packet()
    assert answer[0] == (0x40 if qos == 1 else 0x50), shown(answer)
    assert answer[2:] in (b"\xff\xfd", b"\xff\xfd\x10"), shown(answer)
    if qos == 2:
        await peer.send("62 [fffd]")
        await peer.expect("70 [fffd]")


async def subscribe(peer: Peer, level: int, topic_filter: str, options: str = "00", properties: str = "") -> None:
    """SUBSCRIBE with these options, and its SUBACK."""
    await peer.send(f'82 [fffc {section(level, properties)} "{topic_filter}" {options}]')
    await peer.expect(f"90 [fffc {section(level)} {int(options, 16) & 3:02x}]")


async def kept(server: Server, client_id: str, level: int, properties: str = "") -> Peer:
    """A client with a session that outlives its connection; it goes on with the one that there is."""
    expiry = "11 00000e10" if level == 5 else ""
    return await server.connected(client_id, level, clean=False, properties=expiry + properties)
