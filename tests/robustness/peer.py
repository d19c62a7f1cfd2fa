"""A peer over TCP that sends bytes as they are, whole or one by one, and decodes what it is told.

Invariant: what it was told is MQTT, and is handed out once.
"""

from __future__ import annotations

import attrs
import trio
from attrs import define, field
from robustness.scene import PATIENCE
from trio.testing import wait_all_tasks_blocked

from trio_broker.protocol.decoder import Decoder
from trio_broker.protocol.packets import ConnAck, Disconnect, Packet, PubAck, PubRec

# Of a long packet its beginning and its end come byte by byte, the middle in one piece.
EDGE = 80


@define(eq=False)
class Peer:
    """A TCP connection that decodes what it is told."""

    stream: trio.SocketStream
    level: int
    in_pieces: bool
    ended: bool = False
    _decoder: Decoder = field(init=False)
    _heard: list[Packet] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self._decoder = Decoder(role="client", level=self.level)

    async def send(self, data: bytes) -> None:
        if not self.in_pieces:
            await self.stream.send_all(data)
            return
        middle = data[EDGE:-EDGE] if len(data) > 3 * EDGE else b""
        first, last = (data[:EDGE], data[-EDGE:]) if middle else (data, b"")
        for piece in (*_bytes(first), middle, *_bytes(last)):
            try:
                await self.stream.send_all(piece)
            except trio.BrokenResourceError:
                return  # the broker had heard enough
            await wait_all_tasks_blocked()

    async def hear(self, *kinds: type[Packet]) -> list[Packet]:
        """What comes until there is one of each kind, or until the end."""
        with trio.fail_after(PATIENCE):
            while not self.ended and not all(any(isinstance(one, kind) for one in self._heard) for kind in kinds):
                await self._read()
        heard, self._heard = self._heard, []
        return heard

    async def hear_all(self) -> list[Packet]:
        """What comes until the end; the broker must end it by itself, and not with a reset."""
        with trio.fail_after(PATIENCE):
            while not self.ended:
                await self._read()
        assert self._decoder.pending == 0
        heard, self._heard = self._heard, []
        return heard

    async def _read(self) -> None:
        data = bytes(await self.stream.receive_some(65536))
        self.ended = not data
        self._heard += map(bare, self._decoder.feed(data))
        assert self._decoder.error is None


def bare(packet: Packet) -> Packet:
    """`packet` without what the broker may or may not say: why, and that nobody was subscribed."""
    if isinstance(packet, PubAck | PubRec) and packet.reason_code == 0x10:
        return type(packet)(packet.packet_identifier)
    if isinstance(packet, Disconnect) or (isinstance(packet, ConnAck) and packet.reason_code):
        return attrs.evolve(packet, properties={})
    return packet


def _bytes(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]
