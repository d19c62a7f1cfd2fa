"""A client that loses packets anywhere: a sender and a receiver, each with its own state.

Invariant: it does what MQTT asks of a client, answers in the order it read, and knows nothing of the broker.
"""

from __future__ import annotations

from collections import Counter, deque

from attrs import define, field
from robustness.delivery_watch import Character, Connection, Message, Order, Session, Watch

from trio_broker.protocol.encode import encode
from trio_broker.protocol.packets import ConnAck, Disconnect, Packet, PubAck, PubComp, Publish, PubRec, PubRel, SubAck

REFUSED = 0x83


@define(eq=False)
class Own:
    """A message of a peer whose handshake is not over; `tried`: its PUBLISH was sent, wherever that ended."""

    message: Message
    tried: bool = False
    released: bool = False
    release_arrived: bool = False


@define(eq=False)
class Peer:
    """A client: sender and receiver, each with its own state; sans I/O but for `connection`.

    `since` is the first message that it is bound to get; `taken` and `refused` are numbers of messages.
    """

    name: str
    character: Character
    watch: Watch
    limit: int  # of its own open messages
    connection: Connection | None = None
    left: list[Connection] = field(factory=list)
    session: Session = field(factory=Session)
    inbox: deque[Packet] = field(factory=deque)
    answers: deque[Packet] = field(factory=deque)
    sends: deque[Packet] = field(factory=deque)
    own: dict[int, Own] = field(factory=dict)
    known: set[int] = field(factory=set)  # QoS 2 identifiers between PUBLISH and PUBREL
    since: int = 0
    taken: Counter[int] = field(factory=Counter)
    refused: set[int] = field(factory=set)
    order: Order = field(factory=Order)

    @property
    def is_quiet(self) -> bool:
        return not (self.inbox or self.answers or self.sends or self.own)

    # -- as a receiver and as a sender

    def publish(self, topic: str, qos: int) -> None:
        messages = self.watch.messages
        if (len(self.own) >= self.limit) if qos else (self.connection is None):
            return
        message = Message(len(messages), self.name, topic, qos)
        messages.append(message)
        identifier = next(n for n in range(1, 65536) if n not in self.own) if qos else 0
        if qos:
            self.own[identifier] = Own(message)
        if self.connection is not None:
            self.sends.append(self._packet(message, identifier))

    def _packet(self, message: Message, identifier: int, dup: bool = False) -> Publish:
        return Publish(message.topic, b"%d" % message.number, message.qos, False, dup, identifier)

    def send_again(self) -> None:
        """All that is open, in the first order [MQTT-4.4.0-1, 4.6.0-1]."""
        for identifier, own in self.own.items():
            self.sends.append(PubRel(identifier) if own.released else self._packet(own.message, identifier, own.tried))

    def read(self, packet: Packet, refuse: bool) -> None:
        match packet:
            case Publish():
                self._take(packet, refuse and self.character.level == 5)
            case PubRel(packet_identifier=identifier):
                self.known.discard(identifier)
                self.answers.append(PubComp(identifier))
            case PubAck(packet_identifier=identifier):
                assert self.own.pop(identifier).message.qos == 1
            case PubRec(packet_identifier=identifier):
                assert not self.own[identifier].released, packet
                self.own[identifier].released = True
                self.sends.append(PubRel(identifier))
            case PubComp(packet_identifier=identifier):
                assert self.own.pop(identifier).released, packet

    def _take(self, packet: Publish, refuse: bool) -> None:
        message = self.watch.messages[int(packet.payload)]
        identifier = packet.packet_identifier
        known = packet.qos == 2 and identifier in self.known
        if known:
            assert packet.dup, f"{packet}: its identifier is in use [MQTT-2.2.1-4]"
            refuse = False
        elif packet.qos and refuse:
            self.refused.add(message.number)
        else:
            self.taken[message.number] += 1
            if packet.qos == 2:
                self.known.add(identifier)
        if packet.qos in (0, 2) and message.qos != 1:
            assert self.taken[message.number] <= 1, f"{packet}: more than once [MQTT-4.3.1-1, 4.3.3-10]"
        if packet.qos:
            self.order.note(message)  # with QoS 0 the first of two copies may be lost here; the watch has seen it
            kind = PubAck if packet.qos == 1 else PubRec
            self.answers.append(kind(identifier, REFUSED if refuse else 0))

    # -- the wire

    async def send(self, answers: int, own: int, cut: int | None = None) -> None:
        """Send so many packets that wait, or the beginning of them."""
        connection = self.connection
        if connection is None:
            return
        packets = [self.answers.popleft() for _ in range(min(answers, len(self.answers)))]
        packets += [self.sends.popleft() for _ in range(min(own, len(self.sends)))]
        data = bytearray()
        frames = [encode(packet, self.character.level, "client") for packet in packets]
        arrives = sum(map(len, frames))
        if cut is not None:
            arrives = cut % (arrives + 1)
        for packet, frame in zip(packets, frames, strict=True):
            data += frame
            self._sent(connection, packet, arrives=len(data) <= arrives)
        if arrives:
            await connection.stream.send_all(bytes(data[:arrives]))
        if cut is not None:
            self.drop(connection)

    def _sent(self, connection: Connection, packet: Packet, arrives: bool) -> None:
        if isinstance(packet, Publish):
            message = self.watch.messages[int(packet.payload)]
            if packet.qos:
                self.own[packet.packet_identifier].tried = True
                if arrives:
                    connection.unacknowledged[packet.qos].append((packet.packet_identifier, message))
            message.sent += arrives
        elif isinstance(packet, PubRel):
            own = self.own[packet.packet_identifier]
            if arrives:
                connection.uncompleted.append((packet.packet_identifier, own.release_arrived))
                own.release_arrived = True
        elif arrives:
            self.watch.answered(connection, packet)

    def abandon(self) -> None:
        """What waited on this connection is gone; what it said and nobody read is still for the watch."""
        if self.connection is not None:
            self.connection.over = True
            self.left.append(self.connection)
            self.connection = None
        for queue in (self.inbox, self.answers, self.sends):
            queue.clear()

    def drop(self, connection: Connection) -> None:
        self.abandon()
        connection.stream.close()

    async def leave(self, proper: bool) -> None:
        if (connection := self.connection) is not None:
            if proper:
                await connection.stream.send_all(encode(Disconnect(), self.character.level, "client"))
            self.drop(connection)

    def listen(self) -> None:
        """Show the watch what has come, older connections first."""
        for connection in (*self.left, self.connection):
            if connection is None:
                continue
            packets = connection.decoder.feed(bytes(connection.heard))
            connection.heard.clear()
            assert connection.decoder.error is None, connection.decoder.error
            for packet in packets:
                self.watch.see(connection, packet)
                if not connection.over and not isinstance(packet, ConnAck | SubAck):
                    self.inbox.append(packet)
            assert connection.over or not connection.ended, "the broker closed the connection"
        self.left = [connection for connection in self.left if not connection.ended]
        if self.connection is not None:
            self.watch.check_settled(self.connection)

    def check_end(self) -> None:
        """What was acknowledged has come: once at least, and with QoS 2 exactly once [MQTT-4.3.2-4, 4.3.3-8]."""
        for message in self.watch.messages[self.since :]:
            qos = self.watch.qos_for(message)
            if not (qos and message.acknowledged):
                continue
            number = message.number
            assert self.taken[number] or number in self.refused, f"{self.name}: {message} never came"
            assert qos == 1 or self.taken[number] <= 1, f"{self.name}: {message} came {self.taken[number]} times"
