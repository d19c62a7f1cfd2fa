"""The packets of a run or of one copy, encoded once for all who get the same bytes.

Invariant: what is cached does not depend on the session or on the time.
"""

from __future__ import annotations

from trio_broker.protocol.encode_publish import publish_frame
from trio_broker.protocol.message import Message, Run
from trio_broker.protocol.packets import MQTT5, NO_PROPERTIES, Properties
from trio_broker.session.outgoing import Outgoing


def run_frames(run: Run, level: int) -> bytes:
    """The QoS 0 packets of a plain run with RETAIN 0, joined, for one protocol level."""
    if level == MQTT5:
        frames = run.frames5
        if frames is None:
            frames = run.frames5 = _join(run, MQTT5)
        return frames
    frames = run.frames4
    if frames is None:
        frames = run.frames4 = _join(run, 4)
    return frames


def _join(run: Run, level: int) -> bytes:
    packets = run.packets
    if packets is not None and run.level == level:
        frames = [packet.frame for packet in packets if packet.frame is not None]
        if len(frames) == len(packets):
            return frames[0] if len(frames) == 1 else b"".join(frames)
    if packets is not None and run.plain:
        # Without the messages, which nobody has to keep.
        return b"".join([publish_frame(run.topic_name, packet.payload, level=level) for packet in packets])
    return b"".join(
        [
            publish_frame(run.topic_name, message.payload, 0, False, False, 0, message.properties, level)
            for message in run.messages
        ]
    )


def message_properties(message: Message, identifiers: tuple[int, ...], now: float) -> Properties:
    """What a 5.0 subscriber gets: the publisher's properties, the rest of the expiry, the identifiers.

    [MQTT-3.3.2-6, 3.3.4-3]
    """
    if message.expires_at is None and not identifiers:
        return message.properties
    properties = message.properties.copy()
    remaining = message.remaining_expiry(now)
    if remaining is not None:
        properties["message_expiry_interval"] = max(remaining, 0)
    if identifiers:
        properties["subscription_identifier"] = list(identifiers)
    return properties


def copy_frame(copy: Outgoing, level: int, dup: bool, now: float) -> bytes:
    """The PUBLISH of one copy [MQTT-3.3.1-1, 3.3.1-3]."""
    message = copy.message
    properties = NO_PROPERTIES
    if level == MQTT5:
        properties = message_properties(message, copy.identifiers, now)
    return publish_frame(
        message.topic_name,
        message.payload,
        copy.qos,
        copy.retain,
        dup,
        copy.packet_identifier,
        properties,
        level,
    )
