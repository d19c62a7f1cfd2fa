"""A Trio MQTT client for tests: every packet can be seen, sent and withheld; the everyday verbs do their handshakes.

Invariant: packets are handed out in the order in which they came, each once; nothing runs after `open_client` ends.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Literal, TypeVar

import trio
from attrs import define, field

from trio_broker.errors import ProtocolError
from trio_broker.protocol.decoder import Decoder
from trio_broker.protocol.encode import encode
from trio_broker.protocol.packets import (
    MQTT5,
    NO_PROPERTIES,
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    Properties,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    SubscribeFilter,
    UnsubAck,
    Unsubscribe,
    Will,
    changed,
)
from trio_broker.protocol.reason_codes import ReasonCode
from trio_broker.testing.streams import Target, open_stream

__all__ = ["Client", "ConnectionEnded", "Ended", "open_client"]

RECEIVE_SIZE: Final = 65536
# A peer that does not read any more must not keep a test from ending (seconds).
CLOSE_DEADLINE: Final = 5.0
MAX_PACKET_IDENTIFIER: Final = 65535
LARGEST_PACKET: Final = 268_435_460

P = TypeVar("P", bound=Packet)


@define(frozen=True)
class Ended:
    """How the connection ended: by a DISCONNECT of the broker, its end of stream, a broken stream, or by ourselves."""

    how: Literal["disconnect", "eof", "broken", "closed", "malformed"]
    packet: Disconnect | None = None
    error: Exception | None = None

    @property
    def reason_code(self) -> int | None:
        return None if self.packet is None else self.packet.reason_code


class ConnectionEnded(Exception):
    """There is nothing more to receive, or nobody to send to; `ended` says why."""

    def __init__(self, ended: Ended, doing: str) -> None:
        cause = f"0x{ended.reason_code:02X}" if ended.reason_code is not None else ended.error or ""
        super().__init__(f"connection ended ({ended.how} {cause}".rstrip() + f") while {doing}")
        self.ended = ended


@define(eq=False)
class _Answer:
    """What one caller waits for: a packet of one of these kinds with this identifier."""

    kinds: tuple[type[Packet], ...]
    packet_identifier: int
    packet: Packet | None = None

    def fits(self, packet: Packet) -> bool:
        return isinstance(packet, self.kinds) and getattr(packet, "packet_identifier", 0) == self.packet_identifier


@define(eq=False)
class Client:
    """One connection; made by `open_client`. Its tasks live in the nursery of that context manager.

    `connack` is the answer to CONNECT, also where it is a refusal. Keep alive is left to the test: call `ping`.
    Packets nobody asked for (messages, a DISCONNECT, stray acknowledgements) wait in `inbox`, in their order.
    """

    stream: trio.abc.Stream
    level: int = MQTT5
    auto_ack: bool = True
    client_id: str = ""
    disconnected: Ended | None = None
    """None while connected."""
    inbox: deque[Packet] = field(factory=deque)
    _connack: ConnAck | None = None
    _answers: list[_Answer] = field(factory=list)
    _to_release: set[int] = field(factory=set)  # QoS 2 messages whose PUBREC was ours
    _aliases: dict[int, str] = field(factory=dict)
    _packet_identifier: int = 0
    _out: list[bytes] = field(factory=list)
    _posted: int = 0
    _written: int = 0
    _something_to_write: trio.Event = field(factory=trio.Event)
    _reading: trio.CancelScope = field(factory=trio.CancelScope)
    _progress: trio.Event = field(factory=trio.Event)
    """Set, and replaced, whenever something arrived, was written, or ended."""

    @property
    def connack(self) -> ConnAck:
        """The CONNACK; AttributeError before there is one."""
        if self._connack is None:
            raise AttributeError("no CONNACK was received")
        return self._connack

    @property
    def session_present(self) -> bool:
        return self.connack.session_present

    # -- sending

    async def send(self, packet: Packet) -> None:
        """Send any packet as it stands; returns when it is written.

        Raises:
            ConnectionEnded: the stream ended before that.
        """
        await self.send_bytes(encode(packet, self.level, "client"))

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes that need not be MQTT; returns when they are written."""
        self._post(data)
        mine = self._posted
        while self._written < mine:
            self._check_open("sending")
            await self._progress.wait()
        await trio.lowlevel.checkpoint()

    def _post(self, data: bytes) -> None:
        # Only the writer task touches the stream: a cancelled caller never leaves half a packet on the wire.
        self._out.append(data)
        self._posted += 1
        self._something_to_write.set()

    # -- receiving

    async def receive(self, *, ack: bool | None = None) -> Publish:
        """The next message, its topic alias resolved; waits for it. Messages that `expect` took are not given again.

        Acknowledges it (PUBACK, PUBREC; the PUBCOMP follows by itself) unless `ack` (default: `auto_ack`) is false:
        a message nobody received here is not acknowledged. Cancelling never loses a message.

        Raises:
            ConnectionEnded: the connection ended and no message is left.
        """
        packet = await self._take(Publish)
        assert isinstance(packet, Publish)
        if self.auto_ack if ack is None else ack:
            self.acknowledge(packet)
        return packet

    def acknowledge(self, packet: Publish) -> None:
        """Send what a receiver of this message sends: PUBACK or PUBREC; nothing for QoS 0 or when it is too late."""
        if self.disconnected is not None or packet.qos == 0:
            return
        if packet.qos == 2:
            self._to_release.add(packet.packet_identifier)
        answer = (PubAck if packet.qos == 1 else PubRec)(packet.packet_identifier)
        self._post(encode(answer, self.level, "client"))

    async def expect(self, kind: type[P]) -> P:
        """The next packet in the inbox, whatever it is; it has to be of `kind`. Nothing is acknowledged.

        Raises:
            AssertionError: it is another one.
            ConnectionEnded: the connection ended and none is left.
        """
        packet = await self._take()
        if not isinstance(packet, kind):
            raise AssertionError(f"expected {kind.__name__}, received {packet!r}")
        return packet

    async def wait_ended(self) -> Ended:
        """Wait for the end of the stream (after a DISCONNECT that came before it) and say how it ended."""
        while self.disconnected is None:
            await self._progress.wait()
        return self.disconnected

    async def _take(self, *kinds: type[Packet]) -> Packet:
        await trio.lowlevel.checkpoint()
        while True:
            for index, packet in enumerate(self.inbox):
                if not kinds or isinstance(packet, kinds):
                    del self.inbox[index]
                    return packet
            self._check_open(f"waiting for {kinds[0].__name__ if kinds else 'a packet'}")
            await self._progress.wait()

    async def _ask(self, packet: Packet, *kinds: type[Packet]) -> Packet:
        """Send and wait for the answer with the same packet identifier."""
        answer = _Answer(kinds, getattr(packet, "packet_identifier", 0))
        self._answers.append(answer)
        try:
            await self.send(packet)
            while answer.packet is None:
                self._check_open(f"waiting for {kinds[0].__name__}")
                await self._progress.wait()
            return answer.packet
        finally:
            self._answers.remove(answer)

    def _check_open(self, doing: str) -> None:
        if self.disconnected is not None:
            raise ConnectionEnded(self.disconnected, doing)

    # -- the verbs

    async def connect(self, packet: Connect) -> ConnAck:
        """Send CONNECT and wait for its answer. `open_client` has done this unless it was told `connect=False`."""
        answer = await self._ask(packet, ConnAck)
        assert isinstance(answer, ConnAck)
        self._connack = answer
        self.client_id = answer.properties.get("assigned_client_identifier", packet.client_id)
        return answer

    async def publish(
        self,
        topic_name: str,
        payload: bytes = b"",
        qos: int = 0,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
        *,
        dup: bool = False,
        packet_identifier: int | None = None,
    ) -> PubAck | PubRec | PubComp | None:
        """Publish and do the handshake to its end.

        Returns:
            None (QoS 0), the PUBACK (QoS 1), the PUBCOMP (QoS 2), or the PUBREC that refused it.
        """
        if packet_identifier is None:
            packet_identifier = self.next_packet_identifier() if qos else 0
        packet = Publish(topic_name, payload, qos, retain, dup, packet_identifier, properties)
        if qos == 0:
            await self.send(packet)
            return None
        answer = await self._ask(packet, PubAck if qos == 1 else PubRec)
        if isinstance(answer, PubRec) and answer.reason_code < 0x80:
            answer = await self._ask(PubRel(packet_identifier), PubComp)
        assert isinstance(answer, PubAck | PubRec | PubComp)
        return answer

    async def subscribe(
        self,
        topic_filter: str | Sequence[SubscribeFilter],
        qos: int = 0,
        *,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
        identifier: int | None = None,
        properties: Properties = NO_PROPERTIES,
    ) -> SubAck:
        """Subscribe to one filter, or to a list of them with their own options; `identifier` is for all of them."""
        filters = (
            [SubscribeFilter(topic_filter, qos, no_local, retain_as_published, retain_handling)]
            if isinstance(topic_filter, str)
            else list(topic_filter)
        )
        if identifier is not None:
            properties = {**properties, "subscription_identifier": [identifier]}
        answer = await self._ask(Subscribe(self.next_packet_identifier(), filters, properties), SubAck)
        assert isinstance(answer, SubAck)
        return answer

    async def unsubscribe(self, *topic_filters: str, properties: Properties = NO_PROPERTIES) -> UnsubAck:
        answer = await self._ask(Unsubscribe(self.next_packet_identifier(), list(topic_filters), properties), UnsubAck)
        assert isinstance(answer, UnsubAck)
        return answer

    async def ping(self) -> PingResp:
        answer = await self._ask(PingReq(), PingResp)
        assert isinstance(answer, PingResp)
        return answer

    async def disconnect(self, reason_code: int = 0, properties: Properties = NO_PROPERTIES) -> None:
        """Send DISCONNECT and close the stream. Does nothing when the connection has already ended."""
        if self.disconnected is not None:
            await trio.lowlevel.checkpoint()
            return
        with trio.move_on_after(CLOSE_DEADLINE):
            try:
                await self.send(Disconnect(reason_code, properties))
            except ConnectionEnded:
                return
        self._end(Ended("closed"))
        self._reading.cancel()
        with trio.move_on_after(CLOSE_DEADLINE):
            try:
                await self.stream.aclose()
            except trio.BrokenResourceError:  # TLS: the broker was quicker to close than we to say goodbye
                return

    async def drop(self) -> None:
        """Close the stream without a word, as a client that crashes does."""
        self._end(Ended("closed"))
        await trio.aclose_forcefully(self.stream)

    def next_packet_identifier(self) -> int:
        """One that no handshake of `publish`, `subscribe` and `unsubscribe` uses now."""
        used = {answer.packet_identifier for answer in self._answers}
        while True:
            self._packet_identifier = self._packet_identifier % MAX_PACKET_IDENTIFIER + 1
            if self._packet_identifier not in used:
                return self._packet_identifier

    # -- the two tasks

    async def _read(self) -> None:
        decoder = Decoder(role="client", level=self.level, max_packet_size=LARGEST_PACKET)
        with self._reading:
            while True:
                try:
                    data = await self.stream.receive_some(RECEIVE_SIZE)
                except trio.BrokenResourceError as error:
                    return self._end(Ended("broken", error=error))
                except trio.ClosedResourceError:
                    return self._end(Ended("closed"))
                if not data:
                    return self._end(Ended("eof"))
                try:
                    for packet in decoder.feed(bytes(data)):  # a stream may give a bytearray
                        self._handle(packet)
                except ProtocolError as error:
                    return self._end(Ended("malformed", error=error))
                if decoder.error is not None:
                    return self._end(Ended("malformed", error=decoder.error))

    async def _write(self) -> None:
        while True:
            await self._something_to_write.wait()
            self._something_to_write = trio.Event()
            data, upto = b"".join(self._out), self._posted
            self._out.clear()
            try:
                await self.stream.send_all(data)
            except trio.BrokenResourceError as error:
                # What the broker said before it closed may still have to be read: the reader knows the end better.
                with trio.move_on_after(CLOSE_DEADLINE):
                    await self.wait_ended()
                return self._end(Ended("broken", error=error))
            except trio.ClosedResourceError:
                return self._end(Ended("closed"))
            self._written = upto
            self._wake()

    def _handle(self, packet: Packet) -> None:
        if isinstance(packet, PubRel) and packet.packet_identifier in self._to_release:
            self._to_release.discard(packet.packet_identifier)
            self._post(encode(PubComp(packet.packet_identifier), self.level, "client"))
            return
        answer = next((answer for answer in self._answers if answer.packet is None and answer.fits(packet)), None)
        if answer is not None:
            answer.packet = packet
        else:
            self.inbox.append(self._resolved(packet) if isinstance(packet, Publish) else packet)
        self._wake()

    def _resolved(self, packet: Publish) -> Publish:
        alias = packet.properties.get("topic_alias")
        if alias is None:
            return packet
        if packet.topic_name:
            self._aliases[alias] = packet.topic_name
            return packet
        if alias not in self._aliases:
            raise ProtocolError(ReasonCode.TOPIC_ALIAS_INVALID, f"the broker never said what topic alias {alias} means")
        return changed(packet, topic_name=self._aliases[alias])

    def _end(self, ended: Ended) -> None:
        if self.disconnected is None:
            last = next((packet for packet in reversed(self.inbox) if isinstance(packet, Disconnect)), None)
            self.disconnected = Ended("disconnect", last) if ended.how in ("eof", "broken") and last else ended
        self._wake()

    def _wake(self) -> None:
        self._progress.set()
        self._progress = trio.Event()


@asynccontextmanager
async def open_client(
    target: Target,
    *,
    client_id: str = "",
    level: int = MQTT5,
    clean_start: bool = True,
    keep_alive: int = 0,
    will: Will | None = None,
    username: str | None = None,
    password: bytes | None = None,
    properties: Properties = NO_PROPERTIES,
    auto_ack: bool = True,
    connect: bool = True,
    ssl_context: ssl.SSLContext | None = None,
) -> AsyncIterator[Client]:
    """Connect to `target` (a stream, a `Broker`, `(host, port)` or a URL; see `open_stream`) and give the client.

    A refusal is not an error here: look at `client.connack.reason_code`. `connect=False` sends nothing by itself.
    At the end of the block a client that is still connected sends DISCONNECT; after an error in the block it only
    closes the stream. An error in the block comes out as it is, not in an exception group.

    Raises:
        OSError: nobody listens at the address.
        ConnectionEnded: the broker closed the stream instead of answering CONNECT.
        ProtocolError: what the broker sent last is no MQTT.
    """
    client = Client(await open_stream(target, ssl_context), level, auto_ack, client_id)
    error: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client._read)
            nursery.start_soon(client._write)
            try:
                if connect:
                    await client.connect(
                        Connect(client_id, level, clean_start, keep_alive, username, password, will, False, properties)
                    )
                yield client
                await client.disconnect()
            except trio.Cancelled:
                raise
            except BaseException as exc:  # noqa: BLE001 - raised below, when the nursery has ended
                error = exc
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(client.stream)
    if error is not None:
        raise error
    if client.disconnected is not None and client.disconnected.how == "malformed" and client.disconnected.error:
        raise client.disconnected.error
