"""One MQTT connection over TCP, as packets: the project's own codec, from the client's side."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Final, Self

import trio
from attrs import define, field

from trio_broker.protocol.decoder import Decoder
from trio_broker.protocol.encode import encode
from trio_broker.protocol.packets import MQTT5, NO_PROPERTIES, ConnAck, Connect, Disconnect, Packet, Properties

__all__ = ["Gone", "Link", "open_link"]

NEVER_ENDS: Final = 0xFFFFFFFF
PATIENCE: Final = 60.0
"""Seconds; a broker that lives and does not answer in this time is not waited for any longer."""


class Gone(Exception):
    """There is no connection, or no more."""


@define(eq=False)
class Link:
    """Closed at the end of its `with` block, without a word unless `goodbye` was called."""

    stream: trio.SocketStream
    level: int
    decoder: Decoder
    connack: ConnAck = field(factory=ConnAck)
    _ready: deque[Packet] = field(factory=deque)
    _sending: trio.Lock = field(factory=trio.Lock)

    async def __aenter__(self) -> Self:
        await trio.lowlevel.checkpoint()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await trio.aclose_forcefully(self.stream)

    async def send(self, *packets: Packet) -> None:
        """Raises Gone."""
        data = b"".join([encode(packet, self.level, "client") for packet in packets])
        try:
            async with self._sending:
                await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Gone from error

    async def receive(self) -> list[Packet]:
        """What has come: at least one packet. Raises Gone."""
        while not self._ready:
            try:
                data = await self.stream.receive_some(65536)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise Gone from error
            if not data:
                raise Gone
            self._ready.extend(self.decoder.feed(bytes(data)))
            if self.decoder.error is not None:
                raise self.decoder.error
        packets = list(self._ready)
        self._ready.clear()
        return packets

    async def next(self) -> Packet:
        """One packet; the rest stays for `receive`."""
        if not self._ready:
            self._ready.extend(await self.receive())
        return self._ready.popleft()

    async def goodbye(self) -> None:
        """DISCONNECT."""
        await self.send(Disconnect())
        await self.stream.aclose()


async def open_link(
    port: int, client_id: str, level: int, *, clean: bool = False, receive_maximum: int | None = None
) -> Link:
    """A connection whose CONNACK has come; its session never ends, unless it is `clean`. Raises Gone."""
    properties: Properties = NO_PROPERTIES
    if level == MQTT5:
        properties = {"session_expiry_interval": 0 if clean else NEVER_ENDS}
        if receive_maximum is not None:
            properties["receive_maximum"] = receive_maximum
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError as error:
        raise Gone from error
    link = Link(stream, level, Decoder(role="client", level=level, max_packet_size=1 << 20))
    try:
        with trio.move_on_after(PATIENCE):
            await link.send(Connect(client_id, level, clean, properties=properties))
            answer = await link.next()
            if isinstance(answer, ConnAck) and answer.reason_code == 0:
                link.connack = answer
                return link
        raise Gone
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
