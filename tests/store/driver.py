"""Random work for a store, the same for the same seed, and what the store has to give back after each step of it.

A step is one turn of the broker: what it writes is durable together or not at all. Each step leaves its number in a
document, so what is found can be compared with exactly that step.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

from store.model import Model, State

from trio_broker.protocol.message import Message, Origin
from trio_broker.protocol.packets import Properties, Will
from trio_broker.routing.subscription import Subscription
from trio_broker.session.outgoing import PUBLISH_SENT, PUBREL_SENT, Outgoing
from trio_broker.store.operations import (
    DeleteDocument,
    DeleteReceived,
    DeleteRetained,
    DeleteSession,
    DeleteSubscription,
    Operation,
    PutDocument,
    PutReceived,
    PutRetained,
    PutSession,
    PutSubscription,
)
from trio_broker.store.store import Store, Wall
from trio_broker.store.ticket import Ticket

STEP: Final = ("test", "step")
"""The document with the number of the step."""


def bursts(seed: int) -> Iterator[int]:
    """How many steps each burst has, without end."""
    chance = random.Random(seed)
    while True:
        yield chance.choice((1, 1, 3, 10))


def step_of(state: State) -> int:
    return int(state.documents.get(STEP, "0"))


class Driver:
    """Writes to `store` and to a model. A burst is some steps; what is of an earlier burst has to be durable.

    Within a burst no copy is touched that the burst made or changed already: what a session does with a copy while
    that copy is being committed is the matter of a test of its own.
    """

    def __init__(self, store: Store, wall: Wall, seed: int) -> None:
        self.store = store
        self.model = Model(wall)
        self.states: list[State] = [self.model.state()]
        """What has to be there after each step; first what there is before the first."""
        self._chance = random.Random(seed)
        self._sessions: list[int] = []
        self._copies: dict[int, list[Outgoing]] = {}
        self._touched: set[int] = set()
        self._dropped: set[tuple[int, str]] = set()
        self._message_id = 1_000
        self._stamp = 0
        self._packet_identifier = 0

    @property
    def step(self) -> int:
        return len(self.states) - 1

    def new_burst(self) -> None:
        """Everything is durable."""
        self._touched.clear()
        self._dropped.clear()

    def go(self) -> Ticket:
        """One step; its ticket."""
        chance = self._chance
        if not self._sessions:
            self._begin()
        for _ in range(chance.choice((1, 1, 2, 5))):
            what = chance.choices(
                (self._begin, self._end, self._publish, self._send, self._acknowledge, self._others),
                (2, 1, 10, 5, 5, 6),
            )[0]
            what()
        self._write(PutDocument(*STEP, str(len(self.states))))
        self.states.append(self.model.state())
        return self.store.ticket

    def _write(self, *operations: Operation) -> None:
        for operation in operations:
            self.model.write(operation)
        self.store.write(*operations)

    def _begin(self) -> None:
        if len(self._sessions) >= 12:
            return
        key = self.store.new_key()
        will = Will("w", b"gone", 1, True, {"will_delay_interval": 5}) if self._chance.random() < 0.3 else None
        self._write(PutSession(key, f"c{key}", None, 1, 1000, connected=True, will=will, owner="o"))
        self._sessions.append(key)
        self._copies[key] = []

    def _end(self) -> None:
        if len(self._sessions) < 3:
            return
        key = self._chance.choice(self._sessions)
        self._sessions.remove(key)
        copies = self._copies.pop(key)
        self.model.remove(copy.row for copy in copies)
        self.store.remove(copies)
        self._write(DeleteSession(key))

    def _publish(self) -> None:
        """A message for some sessions."""
        chance = self._chance
        self._message_id += chance.randrange(1, 1 << 22)
        properties: Properties = {"content_type": "t"} if chance.random() < 0.2 else {}
        message = Message(
            f"t/{chance.randrange(10)}",
            chance.randbytes(chance.choice((0, 10, 200, 6_000))),
            2,
            False,
            self._message_id,
            Origin("publisher"),
            self._message_id >> 20,
            properties,
            None if chance.random() < 0.7 else float(chance.randrange(10_000)),
        )
        for key in chance.sample(self._sessions, chance.randint(1, min(4, len(self._sessions)))):
            self._stamp += 1
            copy = Outgoing(message, 2, False, (), self._stamp)
            if chance.random() < 0.3:
                self._number(copy)
            if chance.random() < 0.1:
                copy.share, copy.identifiers = "$share/g/t", (7,)
            self.store.add(key, [copy])
            self.model.add(key, [copy])
            self._copies[key].append(copy)
            self._touched.add(copy.row)
        if chance.random() < 0.3:
            self._write(PutRetained(message))

    def _number(self, copy: Outgoing) -> None:
        self._packet_identifier = self._packet_identifier % 65535 + 1
        copy.packet_identifier = self._packet_identifier
        copy.phase = PUBLISH_SENT
        copy.sent = True

    def _some(self) -> list[Outgoing]:
        mine = self._copies[self._chance.choice(self._sessions)]
        return [copy for copy in mine[:8] if copy.row not in self._touched]

    def _send(self) -> None:
        """Packet identifiers for what waits, the next phase for what was sent."""
        for copy in (changed := self._some()):
            if copy.packet_identifier:
                copy.phase = PUBREL_SENT
            else:
                self._number(copy)
            self._touched.add(copy.row)
        self.store.change(changed)
        self.model.change(changed)

    def _acknowledge(self) -> None:
        gone = self._some()
        rows = [copy.row for copy in gone]
        self.model.remove(rows)
        if self._chance.random() < 0.5:
            self.store.remove(gone)
        else:
            self.store.remove_rows(rows, [copy.message_row for copy in gone])
        for key, copies in self._copies.items():
            self._copies[key] = [copy for copy in copies if copy not in gone]

    def _others(self) -> None:
        chance = self._chance
        key = chance.choice(self._sessions)
        name = f"f/{chance.randrange(4)}"
        match chance.randrange(8):
            case 0 | 1 if (key, name) not in self._dropped:
                self._write(PutSubscription(key, Subscription(name, name, None, chance.randrange(3))))
            case 2:
                # What is subscribed to again within a burst may keep its place, or be the last.
                self._dropped.add((key, name))
                self._write(DeleteSubscription(key, name))
            case 3:
                self._write(PutReceived(key, [chance.randrange(1, 9), chance.randrange(65_530, 65_536)]))
            case 4:
                self._write(DeleteReceived(key, [chance.randrange(1, 9)]))
            case 5:
                self._write(DeleteRetained(f"t/{chance.randrange(10)}", self._message_id - chance.randrange(1 << 24)))
            case 6:
                self._write(PutDocument("kind", name, f'"{chance.random()}"'))
            case 7:
                self._write(DeleteDocument("kind", name))
