"""What the end-to-end tests share: waiting without sleeping, and bytes on the wire.

Invariant: nothing here looks at the wall clock; on an autojump clock a wait that is in vain fails at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

import trio
from trio.testing import wait_all_tasks_blocked

from trio_broker.broker import Broker
from trio_broker.protocol.encode import encode
from trio_broker.protocol.packets import Packet, Properties, Publish
from trio_broker.testing import Client, Ended

# How long something may take that has to happen (seconds of the test's clock).
PATIENCE: Final = 5.0
SESSION: Final[Properties] = {"session_expiry_interval": 3600}
NEVER: Final = 0xFFFFFFFF

P = TypeVar("P", bound=Packet)


async def settle() -> None:
    """Wait until everything that was sent has been worked off, by both sides."""
    await wait_all_tasks_blocked()


async def take(client: Client, count: int = 1, *, ack: bool | None = None) -> list[Publish]:
    """The next `count` messages, acknowledged unless `ack` (or the client's `auto_ack`) is false."""
    with trio.fail_after(PATIENCE):
        return [await client.receive(ack=ack) for _ in range(count)]


async def one(client: Client, *, ack: bool | None = None) -> Publish:
    return (await take(client, ack=ack))[0]


async def rest(client: Client, *, ack: bool | None = None) -> list[Publish]:
    """Every message until nothing more comes."""
    messages: list[Publish] = []
    while True:
        await settle()
        waiting = sum(isinstance(packet, Publish) for packet in client.inbox)
        if not waiting:
            return messages
        messages += await take(client, waiting, ack=ack)


async def expect(client: Client, kind: type[P]) -> P:
    """The next packet nobody asked for; it has to be of this kind."""
    with trio.fail_after(PATIENCE):
        return await client.expect(kind)


async def end_of(client: Client) -> Ended:
    """How the broker ended the connection."""
    with trio.fail_after(PATIENCE):
        return await client.wait_ended()


def payloads(messages: Iterable[Publish]) -> list[bytes]:
    return [message.payload for message in messages]


def numbers(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


def joined(level: int, *packets: Packet) -> bytes:
    """Packets of a client in one piece."""
    return b"".join(encode(packet, level, "client") for packet in packets)


async def talk(broker: Broker, data: bytes, then: bytes = b"") -> bytes:
    """Send these bytes on a new connection (and `then` after the first answer); all the broker says until it closes."""
    answer = bytearray()
    with trio.fail_after(PATIENCE):
        async with await broker.connect_stream() as stream:
            await stream.send_all(data)
            while chunk := await stream.receive_some(65536):
                answer += chunk
                if then:
                    await stream.send_all(then)
                    then = b""
    return bytes(answer)
