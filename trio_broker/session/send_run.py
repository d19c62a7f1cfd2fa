"""A plain run goes to a client that can take it, with QoS 1 or 2 [MQTT-4.3.2-1, 4.3.3-1].

Invariant: what the window does not take is queued, in the order of the run.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from trio_broker.protocol.encode_publish import PUBLISH_HEADS
from trio_broker.protocol.message import Message, Run
from trio_broker.protocol.packets import MQTT5
from trio_broker.session.inflight import MAX_PACKET_IDENTIFIER
from trio_broker.session.outgoing import PUBLISH_SENT, Outgoing

if TYPE_CHECKING:
    from trio_broker.session.session import Session

__all__ = ["send_run"]


def send_run(session: Session, run: Run, qos: int, retain: bool, out: list[bytes], share: str | None) -> None:
    """Send a plain run with QoS 1 or 2 for the first time; what the window does not take is queued.

    The same as `_offer` for each of its messages, without deciding everything again for each.
    """
    inflight = session.inflight
    copies = inflight.copies
    messages = run.messages
    if (
        len(messages) == 1
        and session.journal is None
        and inflight.open < inflight.maximum
        and len(copies) < inflight.window
    ):
        _send_first(session, messages[0], qos, retain, out, share)
        return
    room = min(inflight.maximum - inflight.open, inflight.window - len(copies))
    sending = messages if len(messages) <= room else messages[: max(room, 0)]
    level = session.level
    # In 5.0 the length of the properties, 0, stands behind the identifier.
    shift, width = (8, 3) if level == MQTT5 else (0, 2)
    heads = PUBLISH_HEADS
    topic_name = run.topic_name
    head = b""
    head_size = -1
    stamp = session.stamp
    identifier = inflight.last
    journal = session.journal
    # A QoS 2 PUBLISH must not use a packet identifier of which a restart would know nothing.
    frames = out if journal is None or (qos == 1 and not journal.is_holding) else []
    for message in sending:
        identifier = identifier + 1 if identifier < MAX_PACKET_IDENTIFIER else 1
        while identifier in copies:
            identifier = identifier + 1 if identifier < MAX_PACKET_IDENTIFIER else 1
        stamp += 1
        copies[identifier] = Outgoing(message, qos, retain, (), stamp, identifier, PUBLISH_SENT, True, True, share)
        payload = message.payload
        if len(payload) != head_size:
            head_size = len(payload)
            head = heads[topic_name, head_size + width << 3 | qos << 1 | retain]
        frames.append(head + (identifier << shift).to_bytes(width, "big") + payload)
    sent = len(sending)
    inflight.last = identifier
    inflight.open += sent
    session.count_sent(qos, sent)
    if journal is not None and sent:
        journal.add(list(islice(reversed(copies.values()), sent))[::-1])
        if frames is not out:
            journal.hold(frames, out)
    if sent < len(messages):
        for message in messages[sent:]:
            stamp += 1
            session.queue(Outgoing(message, qos, retain, (), stamp, share=share))
    session.stamp = stamp


def _send_first(
    session: Session, message: Message, qos: int, retain: bool, out: list[bytes], share: str | None
) -> None:
    """The same for a single message that the window takes, and that need not be durable."""
    inflight = session.inflight
    copies = inflight.copies
    identifier = inflight.last + 1
    while identifier in copies or identifier > MAX_PACKET_IDENTIFIER:
        identifier = identifier + 1 if identifier < MAX_PACKET_IDENTIFIER else 1
    inflight.last = identifier
    inflight.open += 1
    session.stamp = stamp = session.stamp + 1
    copies[identifier] = Outgoing(message, qos, retain, (), stamp, identifier, PUBLISH_SENT, True, True, share)
    payload = message.payload
    if session.level == MQTT5:
        head = PUBLISH_HEADS[message.topic_name, len(payload) + 3 << 3 | qos << 1 | retain]
        out.append(head + (identifier << 8).to_bytes(3, "big") + payload)
    else:
        head = PUBLISH_HEADS[message.topic_name, len(payload) + 2 << 3 | qos << 1 | retain]
        out.append(head + identifier.to_bytes(2, "big") + payload)
    session.count_sent(qos)
