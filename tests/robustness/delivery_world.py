"""A broker with clients that lose packets anywhere, and the steps of what happens to them.

Invariant: a plan runs the same way each time: nothing looks at a clock, and what is waited for is that the broker has
nothing left to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio
from attrs import define, frozen
from robustness.delivery_peer import Peer
from robustness.delivery_watch import Character, Connection, Message, Session, Watch
from trio.testing import wait_all_tasks_blocked

from trio_broker.config import Config
from trio_broker.listeners.memory import MemoryStream
from trio_broker.protocol.decoder import Decoder
from trio_broker.protocol.encode import encode
from trio_broker.protocol.packets import Connect, Properties, Subscribe, SubscribeFilter
from trio_broker.testing import RunningBroker, open_broker

# What a 3.1.1 client, which is told of no maximum, leaves open.
OPEN_AT_MOST: Final = 10
# So many rounds in which everybody reads and answers everything; more than any plan needs.
ROUNDS: Final = 500


# -- what is done ----------------------------------------------------------------------------------------------------


@frozen
class Publishing:
    """New messages; `at_once`: sent with all of its own that waits, else with a later `Sending`."""

    peer: int
    topic: str
    qos: int
    count: int
    at_once: bool = True


@frozen
class Reading:
    """The peer reads so many packets; its answers wait for a `Sending`."""

    peer: int
    count: int
    refuse: bool = False


@frozen
class Sending:
    """So many answers (PUBACK, PUBREC, PUBCOMP) and own packets; `cut`: only so many bytes arrive, then it is cut."""

    peer: int
    answers: int
    own: int
    cut: int | None = None


@frozen
class Leaving:
    """What was not read is lost; `proper`: with DISCONNECT."""

    peer: int
    proper: bool


@frozen
class Coming:
    """A new connection, a takeover where there is one; `clean`: the peer and the broker forget the session."""

    peer: int
    receive_maximum: int
    clean: bool = False


Action = Publishing | Reading | Sending | Leaving | Coming


@frozen
class Step:
    """`turns`: of the loop before the next step; None = until the broker has nothing left to do."""

    action: Action
    turns: int | None = None


@frozen
class Plan:
    """One example."""

    characters: tuple[Character, ...]
    steps: tuple[Step, ...]
    max_inflight: int = 32
    max_awaiting_rel: int = 100


# -- all together ----------------------------------------------------------------------------------------------------


@define(eq=False)
class World:
    """A broker and its peers."""

    running: RunningBroker
    nursery: trio.Nursery
    peers: list[Peer]

    async def settle(self) -> None:
        await wait_all_tasks_blocked()
        for peer in self.peers:
            peer.listen()

    async def connect(self, peer: Peer, receive_maximum: int, clean: bool = False) -> None:
        """Come (back), check what the broker remembers, subscribe where it is nothing."""
        peer.abandon()
        level = peer.character.level
        if clean:
            peer.session = Session()
            peer.own.clear()
            peer.known.clear()
            peer.order.forget(peer.watch.messages)
            peer.watch.order.forget(peer.watch.messages)
            if level == 4:  # clean session 1 does not outlive its connection: one for forgetting, the next to stay
                await self._open(peer, receive_maximum, clean=True)
                await peer.leave(proper=True)
                peer.session = Session()
        present = peer.session.connections > 0
        connection = await self._open(peer, receive_maximum, clean=clean and level == 5)
        assert connection.connack is not None
        assert connection.connack.session_present == present, "[MQTT-3.2.2-3]"
        if not peer.session.subscribed and peer.character.filters:
            await self._subscribe(peer, connection)
        peer.send_again()

    async def _open(self, peer: Peer, receive_maximum: int, clean: bool) -> Connection:
        level = peer.character.level
        stream = await self.running.broker.connect_stream()
        assert isinstance(stream, MemoryStream)
        maximum = receive_maximum if level == 5 else 65535
        decoder = Decoder(role="client", level=level)
        connection = Connection(stream, peer.session, peer.session.connections == 0, maximum, decoder)
        peer.session.connections += 1
        peer.connection = connection
        self.nursery.start_soon(connection.read)
        properties: Properties = {"session_expiry_interval": 3600, "receive_maximum": maximum} if level == 5 else {}
        connect = Connect(peer.name, level, clean, properties=properties)
        await stream.send_all(encode(connect, level, "client"))
        await self.settle()
        assert connection.connack is not None, "no CONNACK"
        return connection

    async def _subscribe(self, peer: Peer, connection: Connection) -> None:
        character = peer.character
        number = character.subscription_identifier
        properties: Properties = {"subscription_identifier": [number]} if number else {}
        filters = [SubscribeFilter(name, qos) for name, qos in character.filters]
        identifier = next(n for n in range(1, 65536) if n not in peer.own)
        peer.session.subscribed = True
        await connection.stream.send_all(encode(Subscribe(identifier, filters, properties), character.level, "client"))
        await self.settle()
        assert connection.suback is not None, "no SUBACK"
        assert connection.suback.reason_codes == [qos for _, qos in character.filters]
        peer.since = len(peer.watch.messages)

    async def do(self, action: Action) -> None:
        peer = self.peers[action.peer % len(self.peers)]
        match action:
            case Publishing():
                for _ in range(action.count):
                    peer.publish(action.topic, action.qos)
                if action.at_once:
                    await peer.send(0, len(peer.sends))
            case Reading():
                for _ in range(min(action.count, len(peer.inbox))):
                    peer.read(peer.inbox.popleft(), action.refuse)
            case Sending():
                await peer.send(action.answers, action.own, action.cut)
            case Leaving():
                await peer.leave(action.proper)
            case Coming():
                await self.connect(peer, action.receive_maximum, action.clean)

    async def drain(self) -> None:
        """Everybody comes back, and reads and answers until there is nothing left."""
        await self.settle()
        for peer in self.peers:
            if peer.connection is None:
                await self.connect(peer, peer.character.receive_maximum)
        for _ in range(ROUNDS):
            if all(peer.is_quiet for peer in self.peers):
                return
            for peer in self.peers:
                while peer.inbox:
                    peer.read(peer.inbox.popleft(), refuse=False)
                await peer.send(len(peer.answers), len(peer.sends))
            await self.settle()
        raise AssertionError("it never ends")

    async def play(self, steps: Sequence[Step]) -> None:
        for peer in self.peers:
            await self.connect(peer, peer.character.receive_maximum)
        for step in steps:
            await self.do(step.action)
            if step.turns is None:
                await self.settle()
            else:
                for _ in range(step.turns):
                    await trio.lowlevel.checkpoint()
        await self.drain()
        for peer in self.peers:
            peer.check_end()
            await self.connect(peer, peer.character.receive_maximum)
            assert not peer.inbox, f"{peer.inbox[0]} after everything was over"


async def run(plan: Plan) -> None:
    """Live through a plan; AssertionError where the broker breaks a rule."""
    limits = {"max_inflight": plan.max_inflight, "max_awaiting_rel": plan.max_awaiting_rel}
    error: AssertionError | None = None
    messages: list[Message] = []
    peers = [
        Peer(
            f"peer{number}",
            character,
            Watch(character, plan.max_inflight, messages),
            min(plan.max_awaiting_rel, OPEN_AT_MOST) if character.level == 5 else OPEN_AT_MOST,
        )
        for number, character in enumerate(plan.characters)
    ]
    async with open_broker(Config(), mqtt=limits) as running, trio.open_nursery() as nursery:
        try:
            await World(running, nursery, peers).play(plan.steps)
        except AssertionError as broken:
            error = broken
        nursery.cancel_scope.cancel()
    if error is not None:
        raise error
