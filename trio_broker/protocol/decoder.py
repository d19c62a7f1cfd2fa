"""The incremental decoder: bytes as they arrive in, whole packets out.

Invariant: however the bytes are cut, the packets and the error are the same; nothing but `ProtocolError` comes of any
bytes, and that is kept in `error` and not raised. A packet is judged in three steps, each as soon as its bytes are
there and always in this order: length, first byte, body.

PUBLISH is decoded inside the loop of `feed`, without a call: this is the hottest loop of the broker.
"""

from __future__ import annotations

from typing import Final, Literal

from attrs import define, field

from trio_broker.errors import ProtocolError
from trio_broker.protocol.decode import FIRST_BYTES, check_first_byte, decode_body
from trio_broker.protocol.decode_acknowledge import ACKNOWLEDGEMENTS
from trio_broker.protocol.decode_connect import connect_version, decode_connect
from trio_broker.protocol.packets import MQTT5, MQTT31, MQTT311, NO_PROPERTIES, Packet, Publish
from trio_broker.protocol.primitives import broken_rule, malformed
from trio_broker.protocol.properties import decode_properties
from trio_broker.protocol.reason_codes import ReasonCode
from trio_broker.protocol.topics import TOPIC_NAMES

# So often in one feed a PUBLISH is followed by one that begins otherwise before this is no longer tried.
TRIES: Final = 3
# Beginnings of PUBLISHes up to this size are remembered from one feed to the next, one a connection.
REMEMBERED: Final = 256


@define(init=False, eq=False)
class Decoder:
    """Decodes what one connection receives.

    `role` says who reads: "server" expects what clients send, beginning with CONNECT; "client" expects what a server
    sends to a client of `level`. `level` is 0 until a CONNECT was read, then 3, 4 or 5: also when that CONNECT was
    wrong, as far as its level could be told. `max_packet_size` counts whole packets, in bytes. `held` is the
    unfinished packet.
    """

    level: int
    max_packet_size: int
    error: ProtocolError | None
    _server: bool
    held: bytes | bytearray = field(repr=False)
    _needed: int  # so many bytes of it must be there before it is worth another look
    # The last feed that was one plain PUBLISH: its size, all before its packet identifier (or payload), its topic name,
    # QoS, where its payload begins. Kept when there were two of the kind.
    _like: tuple[int, bytes, str, int, int] | None = field(repr=False)
    _size: int
    _topic_name: str | None = field(repr=False)

    def __init__(
        self, *, role: Literal["server", "client"] = "server", level: int = 0, max_packet_size: int = 1_048_576
    ) -> None:
        if level not in (MQTT31, MQTT311, MQTT5) and not (role == "server" and level == 0):
            raise ValueError(f"a {role} cannot decode level {level}")
        self.level = level
        self.max_packet_size = max_packet_size
        self.error = None
        self._server = role == "server"
        self.held = b""
        self._needed = 0
        self._like = None
        self._size = 0
        self._topic_name = None

    @property
    def pending(self) -> int:
        """How many bytes of an unfinished packet are held."""
        return len(self.held)

    def feed(self, data: bytes) -> list[Packet]:
        """The packets that `data` completes, in order.

        At a wrong byte the list holds the packets before it, and `error` is set; after that it is always empty.
        """
        packets: list[Packet] = []
        if self.error is not None:
            return packets
        held = self.held
        if not held:
            like = self._like
            if like is not None:
                # Most publishers send one message at a time, with the topic and the size of the one before.
                size, head, topic_name, qos, after = like
                if len(data) == size and data.startswith(head):
                    if not qos:
                        return [Publish(topic_name, data[after:], 0, False, False, 0, NO_PROPERTIES, data)]
                    at = len(head)
                    packet_identifier = data[at] << 8 | data[at + 1]
                    if packet_identifier and (at + 2 == after or not data[at + 2]):
                        payload = data[after:]
                        return [Publish(topic_name, payload, qos, False, False, packet_identifier, NO_PROPERTIES, None)]
        else:
            if len(held) + len(data) < self._needed:
                # A big packet in small pieces: they are collected and not looked at until it is whole.
                if isinstance(held, bytes):
                    held = self.held = bytearray(held)
                held += data
                return packets
            data = b"".join((held, data))
            self.held = b""
        try:
            self._decode(data, packets)
        except ProtocolError as error:
            # The traceback would refer to this decoder, and so keep it until the garbage collector finds it.
            self.error = error.with_traceback(None)
        return packets

    def _remember(self, data: bytes, topic_name: str, qos: int, head_size: int, after: int) -> None:
        """All of `data` was one plain PUBLISH; the second of its kind is what more are expected to be like."""
        size = len(data)
        if size == self._size and topic_name == self._topic_name:
            self._like = size, data[:head_size], topic_name, qos, after
        else:
            self._like = None
            self._size = size
            self._topic_name = topic_name if head_size <= REMEMBERED else None

    def _decode(self, data: bytes, packets: list[Packet]) -> None:
        position = 0
        size = len(data)
        max_packet_size = self.max_packet_size
        if not self.level:
            position = self._decode_first(data, packets)
            if not position:
                return
        level = self.level
        server = self._server
        first_bytes = FIRST_BYTES[level, server]
        topic_names = TOPIC_NAMES
        append = packets.append
        # Remaining lengths up to this one have one byte and are no packet too large.
        short = 127 if max_packet_size > 128 else max_packet_size - 2
        last = size - 1
        tries = TRIES
        while position < last:
            first = data[position]
            length = data[position + 1]
            start = position + 2
            if length > short:
                if length > 127:
                    length &= 127
                    shift = 7
                    while start < size:
                        byte = data[start]
                        start += 1
                        length |= (byte & 127) << shift
                        if byte < 128:
                            if not byte:
                                raise malformed("a remaining length is longer than it need be")  # [MQTT-1.5.5-1]
                            break
                        shift += 7
                        if shift == 28:
                            raise malformed("a remaining length has more than four bytes")
                    else:
                        break
                if start + length - position > max_packet_size:
                    raise too_large(max_packet_size)
            end = start + length
            if end > size:
                break
            if first not in first_bytes:
                check_first_byte(first, level, server)
            if 0x30 <= first < 0x40:
                if length < 2:
                    raise malformed("a PUBLISH ends within its topic name")
                after = start + 2 + (data[start] << 8 | data[start + 1])
                if after > end:
                    raise malformed("a PUBLISH ends within its topic name")
                topic_name = topic_names[data[start + 2 : after]]
                topic_end = after
                qos = first >> 1 & 3
                if qos:
                    if after + 2 > end:
                        raise malformed("a PUBLISH ends within its packet identifier")
                    packet_identifier = data[after] << 8 | data[after + 1]
                    if not packet_identifier:
                        raise identifier_zero()
                    after += 2
                else:
                    packet_identifier = 0
                properties = NO_PROPERTIES
                if level == 5:
                    if after < end and not data[after]:
                        after += 1
                    else:
                        name = "PUBLISH_BY_CLIENT" if server else "PUBLISH_BY_SERVER"
                        properties, after = decode_properties(data, after, end, name)
                if not topic_name and "topic_alias" not in properties:
                    raise no_topic(level)
                plain = not first & 9 and properties is NO_PROPERTIES  # neither DUP nor RETAIN
                append(
                    Publish(
                        topic_name,
                        data[after:end],
                        qos,
                        first & 1 == 1,
                        first & 8 == 8,
                        packet_identifier,
                        properties,
                        data[position:end] if plain and not qos else None,
                    )
                )
                if not tries or not plain or end >= last:
                    if plain and not position and end == size:
                        self._remember(data, topic_name, qos, topic_end if qos else after, after)
                    position = end
                    continue
                # Publishers mostly send the same topic and size again and again: as long as the next packet begins
                # with the same bytes, nothing of them has to be looked at a second time.
                total = end - position
                head = data[position : topic_end if qos else after]
                topic_at = topic_end - position
                payload_at = after - position
                position = end
                if not data.startswith(head, position):
                    tries -= 1
                    continue
                tries = TRIES
                if qos:
                    while data.startswith(head, position):
                        end = position + total
                        if end > size:
                            break
                        after = position + topic_at
                        packet_identifier = data[after] << 8 | data[after + 1]
                        if level == 5 and data[after + 2]:
                            break  # this one has properties
                        if not packet_identifier:
                            raise identifier_zero()
                        payload = data[position + payload_at : end]
                        append(Publish(topic_name, payload, qos, False, False, packet_identifier, NO_PROPERTIES, None))
                        position = end
                else:
                    while data.startswith(head, position):
                        end = position + total
                        if end > size:
                            break
                        payload = data[position + payload_at : end]
                        append(Publish(topic_name, payload, 0, False, False, 0, NO_PROPERTIES, data[position:end]))
                        position = end
                continue
            if length == 2 and first in ACKNOWLEDGEMENTS:
                packet_identifier = data[start] << 8 | data[start + 1]
                if not packet_identifier:
                    raise identifier_zero()
                append(ACKNOWLEDGEMENTS[first](packet_identifier, 0, NO_PROPERTIES))
            else:
                append(decode_body(first, data, start, end, level, server))
            position = end
        if position < size:
            self._hold(data[position:] if position else data)

    def _decode_first(self, data: bytes, packets: list[Packet]) -> int:
        """Decode the CONNECT at the beginning of `data` and return where it ends; 0 = it is not whole yet."""
        length, start = remaining_length(data)
        if start:
            check_header(data[0], start + length, self.max_packet_size, 0, True)
        end = start + length
        if not start or end > len(data):
            self._hold(data)
            return 0
        version = connect_version(data, start, end)
        self.level = version.level
        if not version.supported:
            # [MQTT-3.1.2-1, 3.1.2-2]
            raise ProtocolError(ReasonCode.UNSUPPORTED_PROTOCOL_VERSION, "the protocol name or level is not known")
        packets.append(decode_connect(data, version, end, data[0] & 15))
        return end

    def _hold(self, rest: bytes) -> None:
        """Keep the beginning of a packet, unless it is already known to be wrong."""
        length, start = remaining_length(rest)
        if start:
            check_header(rest[0], start + length, self.max_packet_size, self.level, self._server)
            self._needed = start + length
        else:
            self._needed = len(rest) + 1
        self.held = rest


def remaining_length(data: bytes) -> tuple[int, int]:
    """Remaining length of the packet at the beginning of `data` and where its body begins: 0 = not known yet."""
    length = shift = 0
    for position in range(1, min(len(data), 5)):
        byte = data[position]
        length |= (byte & 127) << shift
        if byte < 128:
            if not byte and shift:
                raise malformed("a remaining length is longer than it need be")  # [MQTT-1.5.5-1]
            return length, position + 1
        shift += 7
    if shift == 28:
        raise malformed("a remaining length has more than four bytes")
    return 0, 0


def check_header(first: int, packet_size: int, max_packet_size: int, level: int, server: bool) -> None:
    """Raise ProtocolError where a packet is wrong by its size or its first byte, in this order."""
    if packet_size > max_packet_size:
        raise too_large(max_packet_size)
    check_first_byte(first, level, server)


def identifier_zero() -> ProtocolError:
    return broken_rule("a packet identifier is 0")  # [MQTT-2.2.1-3]


def too_large(max_packet_size: int) -> ProtocolError:
    return ProtocolError(ReasonCode.PACKET_TOO_LARGE, f"a packet is larger than {max_packet_size} bytes")


def no_topic(level: int) -> ProtocolError:
    if level == MQTT5:
        return broken_rule("a PUBLISH has neither a topic name nor a topic alias")
    return ProtocolError(ReasonCode.TOPIC_NAME_INVALID, "a topic name is empty")  # [MQTT-4.7.3-1]
