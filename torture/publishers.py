"""Publishers that resend what MQTT has them resend, however often the broker dies.

Invariant: a packet identifier is used again only when its handshake is complete; messages are resent in their order,
with DUP, and a PUBREL instead once their PUBREC was there [MQTT-4.4.0-1, 4.6.0-1].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio
from attrs import define, field

from torture.judge import body
from torture.wire import Gone, Link, open_link
from trio_broker.protocol.packets import MQTT5, Packet, PubAck, PubComp, Publish, PubRec, PubRel

if TYPE_CHECKING:
    import random

    from torture.judge import Stream
    from torture.world import World

__all__ = ["Publisher"]

RETRY: Final = 0.03
PAUSE: Final = 0.04
FAILED: Final = 0x80


@define(eq=False)
class Publisher:
    """`stream` says what it sends, and in which window."""

    world: World
    stream: Stream
    level: int
    retain: bool = False
    open: dict[int, int] = field(factory=dict)
    """Packet identifier -> sequence number, oldest first."""
    released: set[int] = field(factory=set)
    """Of these the PUBREC has come."""
    _last: int = 0
    _room: trio.Event = field(factory=trio.Event)

    @property
    def name(self) -> str:
        return self.stream.name

    @property
    def is_done(self) -> bool:
        return self.world.finishing and not self.open

    async def run(self) -> None:
        chance = self.world.chance(self.name)
        while not self.is_done:
            try:
                async with await open_link(self.world.port, self.name, self.level) as link:
                    self.world.judge.connected(self.name, link.connack.session_present)
                    await self._use(link, chance)
            except* Gone:
                await trio.sleep(RETRY * chance.random())

    async def _use(self, link: Link, chance: random.Random) -> None:
        window = min(self.stream.window, link.connack.properties.get("receive_maximum", self.stream.window))
        await self._resend(link)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, link)
            while not self.is_done:
                if self.world.finishing or self.name in self.world.crowded or len(self.open) >= window:
                    with trio.move_on_after(PAUSE):
                        await self._room.wait()
                    continue
                await link.send(*(self._new() for _ in range(chance.randint(1, window - len(self.open)))))
                await trio.sleep(PAUSE * chance.random())
            nursery.cancel_scope.cancel()
        await link.goodbye()

    def _new(self) -> Publish:
        while True:
            self._last = self._last % 65535 + 1
            if self._last not in self.open:
                break
        sequence = len(self.stream.ticks) + 1
        self.open[self._last] = sequence
        return self._message(self._last, sequence, dup=False)

    def _message(self, packet_identifier: int, sequence: int, *, dup: bool) -> Publish:
        self.world.judge.sent(self.stream, sequence)
        topic, qos = self.stream.topic_of(sequence), self.stream.qos
        return Publish(topic, body(self.name, sequence), qos, self.retain, dup, packet_identifier)

    async def _resend(self, link: Link) -> None:
        packets: list[Packet] = [
            PubRel(identifier) if identifier in self.released else self._message(identifier, sequence, dup=True)
            for identifier, sequence in self.open.items()
        ]
        if packets:
            await link.send(*packets)

    async def _read(self, link: Link) -> None:
        while True:
            answers = [self._answer(packet) for packet in await link.receive()]
            packets = [answer for answer in answers if answer is not None]
            self._room.set()
            self._room = trio.Event()
            if packets:
                await link.send(*packets)

    def _answer(self, packet: Packet) -> Packet | None:
        judge = self.world.judge
        if isinstance(packet, PubAck | PubRec):
            identifier = packet.packet_identifier
            sequence = self.open.get(identifier)
            if sequence is None or packet.reason_code >= FAILED:
                judge.say("refused", f"{self.name} {sequence}: {packet!r}")
                return None
            judge.acknowledged(self.stream, sequence)
            if isinstance(packet, PubRec):
                self.released.add(identifier)
                return PubRel(identifier)
            del self.open[identifier]
        elif isinstance(packet, PubComp):
            if packet.packet_identifier not in self.released:
                judge.say("unasked", f"{self.name} got {packet!r} and had sent no PUBREL")
                return None
            self.released.discard(packet.packet_identifier)
            del self.open[packet.packet_identifier]
        elif self.level == MQTT5:
            judge.say("unasked", f"{self.name} got {packet!r}")
        return None
