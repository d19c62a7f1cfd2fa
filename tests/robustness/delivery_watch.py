"""A watch that sees every packet a broker writes to a client, and what it must be like.

Invariant: what the watch asks for stands in the standard, or in the documentation of the broker (one copy for
overlapping subscriptions, `max_inflight`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Final

import trio
from attrs import define, field, frozen

from trio_broker.listeners.memory import MemoryStream
from trio_broker.protocol.decoder import Decoder
from trio_broker.protocol.packets import (
    ConnAck,
    Disconnect,
    Packet,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
)

NO_MATCHING_SUBSCRIBERS: Final = 0x10
NOT_FOUND: Final = 0x92
SESSION_TAKEN_OVER: Final = 0x8E


@frozen
class Character:
    """A peer as it is from its first connection on; `filters` are (filter, QoS), all with one identifier."""

    level: int
    filters: tuple[tuple[str, int], ...]
    identifier: int = 0
    receive_maximum: int = 65535

    @property
    def subscription_identifier(self) -> int:
        """3.1.1 has none."""
        return self.identifier if self.level == 5 else 0


@define(eq=False)
class Message:
    """`sent`: how often its PUBLISH went out whole; `acknowledged`: PUBACK or PUBREC has left the broker."""

    number: int
    publisher: str
    topic: str
    qos: int
    sent: int = 0
    acknowledged: bool = False


@define(eq=False)
class Order:
    """First deliveries of each publisher, topic and QoS [MQTT-4.6.0-5]."""

    last: dict[tuple[str, str, int], int] = field(factory=dict)
    seen: set[int] = field(factory=set)

    def note(self, message: Message) -> None:
        if message.number in self.seen:
            return
        self.seen.add(message.number)
        key = (message.publisher, message.topic, message.qos)
        last = self.last.get(key, -1)
        assert message.number > last, f"{key}: {message.number} for the first time after {last} [MQTT-4.6.0-5]"
        self.last[key] = message.number

    def forget(self, messages: Sequence[Message]) -> None:
        """A session is given up: what its publisher sends again may now come behind what is newer."""
        self.seen.update(message.number for message in messages if message.sent)


@define(eq=False)
class Copy:
    """A QoS 1 or 2 message on its way to a peer.

    `on` is the connection it was last sent on, `released_on` that of its last PUBREL, `ended_on` that on which the
    peer ended it: it may be that the broker never read that.
    """

    message: Message
    qos: int
    rank: int
    on: Connection
    received: bool = False
    released_on: Connection | None = None
    ended_on: Connection | None = None


@define(eq=False)
class Session:
    """What the broker has in flight to a peer, as the packets tell."""

    flying: dict[int, Copy] = field(factory=dict)
    ranks: int = 0
    connections: int = 0
    subscribed: bool = False


@define(eq=False)
class Connection:
    """One connection; `over`: the peer has left it, or taken it over.

    `unfinished`: identifiers of what was sent on it and not ended by the peer; `unreleased`: PUBRECs of the peer
    without PUBREL; `unacknowledged` (by QoS) and `uncompleted`: the same the other way round. `rank` is that of the
    last message that was sent again.
    """

    stream: MemoryStream
    session: Session
    first: bool
    receive_maximum: int
    decoder: Decoder
    heard: bytearray = field(factory=bytearray)
    ended: bool = False
    over: bool = False
    connack: ConnAck | None = None
    suback: SubAck | None = None
    unfinished: set[int] = field(factory=set)
    unreleased: deque[int] = field(factory=deque)
    unacknowledged: dict[int, deque[tuple[int, Message]]] = field(factory=lambda: {1: deque(), 2: deque()})
    uncompleted: deque[tuple[int, bool]] = field(factory=deque)
    rank: int = -1

    async def read(self) -> None:
        """Take in whatever comes, until the end."""
        try:
            while data := await self.stream.receive_some(65536):
                self.heard += data
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self.ended = True


def matches(topic_filter: str, topic: str) -> bool:
    levels = topic.split("/")
    wanted = topic_filter.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index == len(levels) or level not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)


@define(eq=False)
class Watch:
    """Everything the broker writes to one peer, also what the peer never reads."""

    character: Character
    max_inflight: int
    messages: list[Message]
    order: Order = field(factory=Order)
    copies: Counter[int] = field(factory=Counter)

    def qos_for(self, message: Message) -> int | None:
        """What a message is delivered with, if it is."""
        granted = [qos for name, qos in self.character.filters if matches(name, message.topic)]
        return min(message.qos, max(granted)) if granted else None

    def see(self, connection: Connection, packet: Packet) -> None:
        match packet:
            case ConnAck():
                assert connection.connack is None, "a second CONNACK"
                assert packet.reason_code == 0, packet
                connection.connack = packet
            case SubAck():
                connection.suback = packet
            case Publish():
                self._see_publish(connection, packet)
            case PubRel():
                self._see_pubrel(connection, packet)
            case PubAck() | PubRec():
                assert packet.reason_code in (0, NO_MATCHING_SUBSCRIBERS), packet
                waiting = connection.unacknowledged[1 if isinstance(packet, PubAck) else 2]
                assert waiting, f"{packet} for nothing"
                identifier, message = waiting.popleft()
                assert packet.packet_identifier == identifier, (
                    f"{packet} before that of {identifier} [MQTT-4.6.0-2, 4.6.0-3]"
                )
                message.acknowledged = True
            case PubComp():
                assert connection.uncompleted, f"{packet} for nothing"
                identifier, again = connection.uncompleted.popleft()
                assert packet.packet_identifier == identifier, f"{packet} before that of {identifier}"
                assert packet.reason_code == 0 or (again and packet.reason_code == NOT_FOUND), packet
            case Disconnect():
                assert connection.over, f"the broker ended the connection: {packet}"
                assert packet.reason_code == SESSION_TAKEN_OVER, packet
            case _:
                raise AssertionError(packet)

    def _see_publish(self, connection: Connection, packet: Publish) -> None:
        message = self.messages[int(packet.payload)]
        assert connection.session.subscribed, f"{packet} before the session has a subscription"
        assert packet.topic_name == message.topic
        qos = self.qos_for(message)
        assert qos is not None, f"{packet} to one who did not subscribe"
        assert packet.qos == qos, f"{packet} instead of QoS {qos} [MQTT-3.8.4-8]"
        assert not packet.retain, packet
        matching = sum(matches(name, message.topic) for name, _ in self.character.filters)
        expected = [self.character.subscription_identifier] * matching if self.character.subscription_identifier else []
        assert packet.properties.get("subscription_identifier", []) == expected, packet
        if qos == 0:
            assert not packet.dup, f"{packet} [MQTT-3.3.1-2]"
        elif packet.dup and self._is_again(connection, packet, message):
            return
        self.copies[message.number] += 1
        allowed = message.sent if message.qos == 1 else 1
        assert self.copies[message.number] <= allowed, f"{packet}: copy {self.copies[message.number]} of {allowed}"
        self.order.note(message)
        if qos:
            self._new_copy(connection, packet, message)

    def _is_again(self, connection: Connection, packet: Publish, message: Message) -> bool:
        """Is it a repetition of a copy that was seen? If not, the first one was lost with the last connection."""
        assert not connection.first, f"{packet} on the first connection [MQTT-3.3.1-1]"
        copy = connection.session.flying.get(packet.packet_identifier)
        if copy is None or copy.message is not message:
            return False
        assert copy.on is not connection, f"{packet} again on the same connection [MQTT-4.4.0-1]"
        assert copy.released_on is None, f"{packet} after its PUBREL [MQTT-4.3.3-6]"
        assert copy.rank > connection.rank, f"{packet} again, not in the first order [MQTT-4.6.0-1]"
        connection.rank = copy.rank
        copy.on, copy.ended_on = connection, None
        self._count(connection, packet.packet_identifier)
        return True

    def _new_copy(self, connection: Connection, packet: Publish, message: Message) -> None:
        session = connection.session
        old = session.flying.get(packet.packet_identifier)
        assert old is None or old.ended_on is not None, f"{packet}: its identifier is in use [MQTT-2.2.1-4]"
        session.ranks += 1
        session.flying[packet.packet_identifier] = Copy(message, packet.qos, session.ranks, connection)
        if packet.dup:
            connection.rank = session.ranks
        self._count(connection, packet.packet_identifier)

    def _count(self, connection: Connection, identifier: int) -> None:
        connection.unfinished.add(identifier)
        count = len(connection.unfinished)
        assert count <= connection.receive_maximum, f"{count} PUBLISHes open [MQTT-3.3.4-9]"
        assert count <= self.max_inflight, f"{count} PUBLISHes open, mqtt.max_inflight = {self.max_inflight}"

    def _see_pubrel(self, connection: Connection, packet: PubRel) -> None:
        identifier = packet.packet_identifier
        copy = connection.session.flying.get(identifier)
        assert copy is not None, f"{packet} for nothing"
        assert copy.received, f"{packet} before a PUBREC [MQTT-4.3.3-4]"
        assert packet.reason_code == 0, packet
        assert copy.released_on is not connection, f"{packet} again on the same connection [MQTT-4.4.0-1]"
        if identifier in connection.unreleased:
            assert connection.unreleased[0] == identifier, f"{packet} before an older one [MQTT-4.6.0-4]"
            connection.unreleased.popleft()
        else:
            assert not connection.first, f"{packet} for nothing"
        copy.released_on, copy.ended_on = connection, None

    def answered(self, connection: Connection, packet: Packet) -> None:
        """An answer of the peer is on its way to the broker."""
        assert isinstance(packet, PubAck | PubRec | PubComp)
        identifier = packet.packet_identifier
        copy = connection.session.flying[identifier]
        if isinstance(packet, PubRec) and packet.reason_code == 0:
            copy.received = True
            connection.unreleased.append(identifier)
            return
        copy.ended_on = connection
        connection.unfinished.discard(identifier)

    def check_settled(self, connection: Connection) -> None:
        """The broker has read all that was sent on a connection that lives: it has answered, and what ended is over."""
        open_ = (*connection.unacknowledged[1], *connection.unacknowledged[2])
        assert not open_, f"without PUBACK or PUBREC: {[identifier for identifier, _ in open_]}"
        assert not connection.uncompleted, f"without PUBCOMP: {list(connection.uncompleted)}"
        assert not connection.unreleased, f"without PUBREL: {list(connection.unreleased)}"
        flying = connection.session.flying
        for identifier in [identifier for identifier, copy in flying.items() if copy.ended_on is connection]:
            del flying[identifier]
