"""Subscribers that acknowledge late, go away without a word, stay away for a round, and keep what MQTT has them keep.

Invariant: what a subscriber remembers of QoS 2 outlives its connections, and ends only with its session.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio
from attrs import define, field

from torture.judge import Inbox
from torture.wire import Gone, Link, open_link
from trio_broker.protocol.packets import (
    Packet,
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    SubscribeFilter,
)

if TYPE_CHECKING:
    import random

    from torture.judge import Subscription
    from torture.world import World

__all__ = ["Subscriber"]

RETRY: Final = 0.03


@define(eq=False)
class Subscriber:
    """One session with one subscription, which may be a member of a shared one."""

    world: World
    name: str
    subscription: Subscription
    topic_filter: str
    qos: int
    level: int
    receive_maximum: int | None = None
    rounds_away: tuple[int, int] = (1, 1)
    is_often_away: bool = False
    inbox: Inbox = field(factory=Inbox)
    is_subscribed: bool = False
    pongs: int = 0
    _link: Link | None = None
    _owed: list[Packet] = field(factory=list)
    """Acknowledgements that are held back; never for long, and never out of order."""

    async def run(self) -> None:
        chance = self.world.chance(self.name)
        while True:
            was_there = False
            try:
                link = await open_link(self.world.port, self.name, self.level, receive_maximum=self.receive_maximum)
                async with link:
                    was_there = True
                    present = link.connack.session_present
                    self.world.judge.connected(self.name, present)
                    if not present:
                        self.inbox = Inbox()
                        self.is_subscribed = False
                    await self._use(link, chance)
            except Gone:
                await trio.sleep(RETRY * chance.random())
            if was_there and self.is_subscribed and (self.is_often_away or chance.random() < 0.1):
                await self.world.stay_away(chance.randint(*self.rounds_away))

    async def _use(self, link: Link, chance: random.Random) -> None:
        life = chance.uniform(0.02, 0.6) if self.is_often_away or chance.random() < 0.4 else float("inf")
        self._owed.clear()
        if not self.is_subscribed:
            await link.send(Subscribe(1, [SubscribeFilter(self.topic_filter, self.qos)]))
        self._link = link
        try:
            await self._live(link, chance, trio.current_time() + (float("inf") if self.world.finishing else life))
        finally:
            self._link = None
        if chance.random() < 0.5:
            await link.goodbye()

    async def _live(self, link: Link, chance: random.Random, end: float) -> None:
        """Until it is time to go away, with what is owed then unsaid."""
        while trio.current_time() < end or self.world.finishing:
            patience = end - trio.current_time()
            if self._owed:
                patience = 0.01 if self.world.finishing else min(chance.uniform(0.0, 0.05), patience)
            elif self.world.finishing:
                patience = float("inf")
            packets: list[Packet] = []
            with trio.move_on_after(max(0.0, patience)):
                packets = await link.receive()
            for packet in packets:
                self._take(packet)
            if self._owed and (not packets or self.world.finishing or chance.random() < 0.7):
                owed = self._owed[:]
                self._owed.clear()
                await link.send(*owed)

    def _take(self, packet: Packet) -> None:
        judge = self.world.judge
        if isinstance(packet, Publish):
            self._message(packet)
        elif isinstance(packet, PubRel):
            self.inbox.release(packet.packet_identifier)
            self._owed.append(PubComp(packet.packet_identifier))
        elif isinstance(packet, SubAck):
            if packet.reason_codes != [self.qos]:
                judge.say("refused", f"{self.name}: {packet!r}")
            self.is_subscribed = True
            judge.subscribed(self.subscription)
        elif isinstance(packet, PingResp):
            self.pongs += 1
        else:
            judge.say("unasked", f"{self.name} got {packet!r}")

    def _message(self, packet: Publish) -> None:
        identifier = packet.packet_identifier
        is_new = True
        if packet.qos == 2:
            try:
                is_new = self.inbox.publish(identifier, packet.payload)
            except ValueError as error:
                self.world.judge.say("identifier", f"{self.name}: {error}, in round {self.world.judge.round}")
            self._owed.append(PubRec(identifier))
        else:
            self._owed.append(PubAck(identifier))
        if is_new and not packet.retain:  # what was retained when it subscribed is no news
            self.world.judge.received(
                self.subscription, packet.topic_name, packet.payload, qos=packet.qos, dup=packet.dup
            )

    async def ping(self) -> None:
        """Return when the broker has answered a PINGREQ, on whichever connection."""
        before = self.pongs
        while self.pongs == before:
            if self._link is not None:
                with suppress(Gone):
                    await self._link.send(PingReq())
            with trio.move_on_after(1.0):
                while self.pongs == before:  # noqa: ASYNC110 - a packet of which nobody else wants to know
                    await trio.sleep(0.01)
