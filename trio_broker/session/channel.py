"""The MQTT state of one Network Connection with a session behind it: what each packet from the client leads to.

Invariant: `handle` is one step without waiting; what needs others (routing, subscriptions) goes into the `Step` in the
order of arrival, answers go to `step.out`, and a broken rule raises ProtocolError after all before it took effect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from struct import pack
from typing import Any

from trio_broker.errors import ProtocolError
from trio_broker.protocol.encode_publish import puback, pubrec
from trio_broker.protocol.message import Message, Origin, Run
from trio_broker.protocol.packets import (
    MQTT5,
    NO_PROPERTIES,
    Auth,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    Properties,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    Subscribe,
    Unsubscribe,
)
from trio_broker.protocol.reason_codes import ReasonCode
from trio_broker.protocol.topics import validate_topic_name
from trio_broker.session.changes import Answer
from trio_broker.session.connect import Terms
from trio_broker.session.limits import Limits
from trio_broker.session.meter import Meter
from trio_broker.session.requests import LongRequest, go_on, handle_subscribe, handle_unsubscribe
from trio_broker.session.session import NEVER, Session
from trio_broker.session.step import Step
from trio_broker.session.subscribe import Asked, AuthorizePublish, AuthorizeSubscribe, Questions, Rewrite

# The properties of a PUBLISH that travel to its subscribers.
_TRAVELLING = (
    "payload_format_indicator",
    "message_expiry_interval",
    "content_type",
    "response_topic",
    "correlation_data",
    "user_property",
)

# The topic names that the aliases of one connection may stand for, all together: 65,535 names of 16 characters.
MAX_ALIAS_BYTES = 1_048_576


class Channel:
    """One connection of a client: its terms, its topic aliases, its receive quota.

    `recipient` is the session's handle for the router, `publisher` the one that gets the acknowledgements of runs.
    `authorize_publish` and `authorize_subscribe` are None where everything is allowed, `rewrite` where filters stay as
    they are. After `handle` saw a DISCONNECT, `ended` is that packet. While `long` is not None, a request with many
    filters is under way (see `trio_broker.session.requests`): nothing may be handled before all of it is done. The same
    holds while `undecided` is not empty: whether that may be done has to be found out first; then `go_on`.
    """

    __slots__ = (
        "_lazy",
        "alias_bytes",
        "aliases",
        "authorize_publish",
        "authorize_subscribe",
        "deny_disconnects",
        "ended",
        "level",
        "limits",
        "long",
        "meter",
        "on_auth",
        "origin",
        "publisher",
        "questions",
        "receive_maximum",
        "recipient",
        "rest",
        "rewrite",
        "session",
        "session_expiry_interval",
        "terms",
        "unacknowledged",
        "undecided",
    )

    def __init__(
        self,
        session: Session,
        terms: Terms,
        origin: Origin,
        recipient: Any,
        publisher: Any,
        authorize_publish: AuthorizePublish | None = None,
        authorize_subscribe: AuthorizeSubscribe | None = None,
        rewrite: Rewrite | None = None,
    ) -> None:
        self.session = session
        self.terms = terms
        self.level = terms.level
        self.limits: Limits = session.limits
        self.meter: Meter = session.meter
        self.origin = origin
        self.recipient = recipient
        self.publisher = publisher
        self.authorize_publish = authorize_publish
        self.authorize_subscribe = authorize_subscribe
        self.deny_disconnects = False
        self.questions: Questions | None = None  # where decisions may take time
        self.undecided: Sequence[Asked] = ()
        self.rewrite = rewrite
        self._lazy = self.limits.message_expiry_interval is None  # plain messages need not be made yet
        self.aliases: dict[int, str] | None = None
        self.alias_bytes = 0
        # Below 5.0 there is no way to announce a maximum, so there is none [MQTT-3.3.4-7].
        self.receive_maximum = (self.limits.max_awaiting_rel if self.level == MQTT5 else 0) or 65535
        self.unacknowledged = 0  # QoS 1 messages of the client without PUBACK yet
        self.session_expiry_interval = terms.session_expiry_interval
        self.ended: Disconnect | None = None
        self.long: LongRequest | None = None
        self.rest: Sequence[Packet] = ()
        self.on_auth: Callable[[Auth], None] | None = None  # there is one where CONNECT named a method

    def handle(self, packets: Sequence[Packet], step: Step) -> bool:
        """Take packets in order. Raises ProtocolError; `ended` is set when the client says goodbye.

        True: there was one plain message and no more, and it is in `step.routed`; nothing else has changed.
        """
        count = len(packets)
        self.session.stats.recv_pkt += count
        self.meter.packets_received += count
        if count == 1:
            packet = packets[0]
            if (
                type(packet) is Publish
                and packet.qos < 2
                and packet.properties is NO_PROPERTIES
                and self._lazy
                and (not packet.qos or self.unacknowledged + len(self.session.awaiting_rel) < self.receive_maximum)
            ):
                return self._take_one(packet, step)
        self._handle(packets, step)
        return False

    def _take_one(self, packet: Publish, step: Step) -> bool:
        """What most reads bring, without what others need. Answers as `handle`."""
        qos = packet.qos
        topic = packet.topic_name
        limits = self.limits
        retain = packet.retain
        if qos > limits.max_qos_allowed or retain or topic.count("/") >= limits.max_topic_levels:
            self._check_publish(packet, topic)
        if self.authorize_publish is not None:
            allowed = self.authorize_publish(topic, qos, retain, step.now)
            if not allowed:
                if allowed is None:
                    self._wait_for(packet, topic, ())
                else:
                    self._refuse_publish(packet, step)
                return False
        message_id = step.next_message_id
        step.next_message_id = message_id + 1
        level = 5 if self.level == MQTT5 else 4
        wall_ms = step.wall_ms
        step.routed.append(
            Run(topic, qos, retain, self.origin, None, True, [packet], level, self.publisher, message_id, wall_ms)
        )
        meter = self.meter
        meter.packets_publish_received += 1
        if qos:
            self.unacknowledged += 1
            meter.messages_qos1_received += 1
            self.session.stats.recv_msg_qos1 += 1
        else:
            meter.messages_qos0_received += 1
            self.session.stats.recv_msg_qos0 += 1
        return True

    def go_on(self, step: Step) -> None:
        """What could not be decided is decided, or there is more of a long request; behind it, the packets that waited.

        Raises as `handle`.
        """
        self.undecided = ()
        if self.long is None or go_on(self, step):
            rest, self.rest = self.rest, ()
            self._handle(rest, step)

    def handle_pubacks(self, packet_identifiers: Sequence[int], step: Step) -> None:
        """The same for PUBACKs without reason codes."""
        count = len(packet_identifiers)
        self.session.stats.recv_pkt += count
        meter = self.meter
        meter.packets_received += count
        meter.packets_puback_received += count
        if not self.session.handle_pubacks(packet_identifiers, step.now, step.out):
            raise ProtocolError(ReasonCode.PROTOCOL_ERROR, "PUBACK for a QoS 2 message")

    def _count_publishes(self, qos: int, count: int) -> None:
        """PUBLISHes that came in, whatever becomes of them."""
        meter = self.meter
        stats = self.session.stats
        meter.packets_publish_received += count
        if qos == 0:
            meter.messages_qos0_received += count
            stats.recv_msg_qos0 += count
        elif qos == 1:
            meter.messages_qos1_received += count
            stats.recv_msg_qos1 += count
        else:
            meter.messages_qos2_received += count
            stats.recv_msg_qos2 += count

    def _handle(self, packets: Sequence[Packet], step: Step) -> None:
        run: Run | None = None
        append: Callable[[Publish], None] | None = None
        lazy = self._lazy
        arrived = iter(packets)
        try:
            for packet in arrived:
                if type(packet) is Publish:
                    if lazy and packet.qos < 2 and packet.properties is NO_PROPERTIES:
                        # The hot path: consecutive messages to one topic become one run.
                        topic = packet.topic_name
                        if (
                            run is not None
                            and append is not None
                            and (topic is run.topic_name or topic == run.topic_name)
                            and packet.qos == run.qos
                            and packet.retain is run.retain
                            and run.plain
                        ):
                            append(packet)
                            continue
                        if run is not None:
                            closing, run = run, None
                            self._close_run(closing, step)
                        self._check_publish(packet, topic)
                        if self.authorize_publish is not None:
                            allowed = self.authorize_publish(topic, packet.qos, packet.retain, step.now)
                            if not allowed:
                                if allowed is None:
                                    self._wait_for(packet, topic, arrived)
                                    return
                                self._refuse_publish(packet, step)
                                continue
                        run = self._new_run(topic, packet.qos, packet.retain, True, step)
                        assert run.packets is not None
                        append = run.packets.append
                        append(packet)
                        continue
                    run = self._handle_publish(packet, run, step)
                    append = None
                    if self.undecided:
                        self.rest = [packet, *arrived]
                        return
                    continue
                # Work on a run only as long as nothing else comes between.
                if run is not None:
                    closing, run = run, None
                    self._close_run(closing, step)
                self._handle_other(packet, step)
                if self.ended is not None:
                    return  # what stands behind a DISCONNECT is ignored
                if self.long is not None:
                    self.rest = list(arrived)
                    return
                if self.undecided:
                    self.rest = [packet, *arrived]
                    return
        finally:
            if run is not None:
                self._close_run(run, step)

    # -- PUBLISH ------------------------------------------------------------------------------------------------

    def _new_run(self, topic: str, qos: int, retain: bool, plain: bool, step: Step) -> Run:
        run = Run(
            topic,
            qos,
            retain,
            self.origin,
            None if plain else [],
            plain,
            [],
            5 if self.level == MQTT5 else 4,
            self.publisher,
            0,
            step.wall_ms,
        )
        step.routed.append(run)
        return run

    def _close_run(self, run: Run, step: Step) -> None:
        """The run is complete. QoS 1 messages beyond the receive maximum are no part of it [MQTT-3.3.4-7]."""
        if run.first_message_id:
            return  # an error came between: it is complete already
        error: ProtocolError | None = None
        packets = run.packets
        assert packets is not None
        if run.qos == 1:
            room = self.receive_maximum - self.unacknowledged - len(self.session.awaiting_rel)
            if len(packets) > room:
                room = max(0, room)
                self.meter.packets_publish_dropped += len(packets) - room
                del packets[room:]
                if not run.plain:
                    del run.messages[room:]
                error = self._too_many()
                if not packets:
                    assert step.routed[-1] is run
                    step.routed.pop()
                    raise error
            self.unacknowledged += len(packets)
        step.next_message_id = run.number(step.next_message_id)
        self._count_publishes(run.qos, len(packets))
        if error is not None:
            raise error

    def _too_many(self) -> ProtocolError:
        return ProtocolError(
            ReasonCode.RECEIVE_MAXIMUM_EXCEEDED, f"more than {self.receive_maximum} unacknowledged messages"
        )

    def _default_expiry(self, now: float) -> float | None:
        interval = self.limits.message_expiry_interval
        return None if interval is None else now + interval

    def _check_publish(self, packet: Publish, topic: str) -> None:
        """What the server announced it does not do [MQTT-3.2.2-9, 3.2.2-13]; deep topics."""
        limits = self.limits
        if packet.qos > limits.max_qos_allowed:
            raise ProtocolError(ReasonCode.QOS_NOT_SUPPORTED, f"PUBLISH with QoS {packet.qos}")
        if packet.retain and not limits.retain_available:
            raise ProtocolError(ReasonCode.RETAIN_NOT_SUPPORTED, "PUBLISH with RETAIN")
        if topic.count("/") >= limits.max_topic_levels:
            raise ProtocolError(ReasonCode.TOPIC_NAME_INVALID, f"topic of more than {limits.max_topic_levels} levels")

    def _resolve_alias(self, packet: Publish) -> str:
        """The topic name a PUBLISH means [MQTT-3.3.2-7 to 3.3.2-12]."""
        alias = packet.properties.get("topic_alias")
        topic = packet.topic_name
        if alias is None:
            return topic
        if alias == 0 or alias > self.limits.max_topic_alias:
            raise ProtocolError(ReasonCode.TOPIC_ALIAS_INVALID, f"topic alias {alias}")
        if self.aliases is None:
            self.aliases = {}
        known = self.aliases.get(alias)
        if topic:
            self.alias_bytes += len(topic) - (0 if known is None else len(known))
            if self.alias_bytes > MAX_ALIAS_BYTES:
                raise ProtocolError(ReasonCode.QUOTA_EXCEEDED, f"topic aliases for more than {MAX_ALIAS_BYTES} bytes")
            self.aliases[alias] = topic
            return topic
        if known is None:
            raise ProtocolError(ReasonCode.PROTOCOL_ERROR, f"topic alias {alias} was never set")
        return known

    def _handle_publish(self, packet: Publish, run: Run | None, step: Step) -> Run | None:
        """A PUBLISH with QoS 2 or with properties; returns the run it went into, or the one that is still open."""
        properties = packet.properties
        topic = packet.topic_name
        qos = packet.qos
        session = self.session
        if properties:
            topic = self._resolve_alias(packet)
            if "response_topic" in properties:  # [MQTT-3.3.2-14]
                validate_topic_name(properties["response_topic"])
        self._check_publish(packet, topic)
        if qos == 2:
            identifier = packet.packet_identifier
            if identifier in session.awaiting_rel:
                # A copy of a message we have: PUBREC again, not delivered again [MQTT-4.3.3-10].
                self.meter.packets_publish_inuse += 1
                self.meter.packets_publish_received += 1
                if run is not None:
                    self._close_run(run, step)
                step.routed.append(Answer(self.publisher, 2, identifier, 0, session.journal is not None))
                return None
            if self.unacknowledged + len(session.awaiting_rel) >= self.receive_maximum:  # [MQTT-3.3.4-7]
                self.meter.packets_publish_dropped += 1
                raise self._too_many()
        if self.authorize_publish is not None:
            allowed = self.authorize_publish(topic, qos, packet.retain, step.now)
            if not allowed:
                if run is not None:
                    self._close_run(run, step)
                if allowed is None:
                    self.undecided = (("publish", topic, qos, packet.retain),)
                else:
                    self._refuse_publish(packet, step)
                return None
        travelling, expires_at, plain = self._travelling(properties, step.now)
        if (
            run is None
            or run.qos != qos
            or (run.topic_name is not topic and run.topic_name != topic)
            or run.retain is not packet.retain
            or run.plain is not plain
        ):
            if run is not None:
                self._close_run(run, step)
            run = self._new_run(topic, qos, packet.retain, plain, step)
        assert run.packets is not None
        if qos == 2:
            session.awaiting_rel[packet.packet_identifier] = step.now
        run.packets.append(packet)
        if not plain:
            run.messages.append(
                Message(topic, packet.payload, qos, packet.retain, 0, self.origin, step.wall_ms, travelling, expires_at)
            )
        return run

    def _wait_for(self, packet: Publish, topic: str, behind: Iterable[Packet]) -> None:
        """Whether it may be published is not known yet; it and all behind it wait."""
        self.undecided = (("publish", topic, packet.qos, packet.retain),)
        self.rest = [packet, *behind]

    def _travelling(self, properties: Properties, now: float) -> tuple[Properties, float | None, bool]:
        """Properties for the subscribers, when the message expires, and whether there is neither."""
        expires_at = self._default_expiry(now)
        if not properties:
            return NO_PROPERTIES, expires_at, expires_at is None
        travelling: Properties = {}
        for name in _TRAVELLING:
            if name in properties:
                travelling[name] = properties[name]  # type: ignore[literal-required]
        if "message_expiry_interval" in properties:
            expires_at = now + properties["message_expiry_interval"]
        if not travelling:
            travelling = NO_PROPERTIES
        return travelling, expires_at, travelling is NO_PROPERTIES and expires_at is None

    def _refuse_publish(self, packet: Publish, step: Step) -> None:
        """Not authorized: 5.0 is told so, 3.x is acknowledged and the message dropped [3.1.1 3.3.5-2]."""
        self.meter.packets_publish_auth_error += 1
        self._count_publishes(packet.qos, 1)
        self.session.stats.recv_dropped += 1
        if self.deny_disconnects:
            raise ProtocolError(ReasonCode.NOT_AUTHORIZED, "a PUBLISH that is not allowed")
        if packet.qos:
            reason_code = ReasonCode.NOT_AUTHORIZED if self.level == MQTT5 else ReasonCode.SUCCESS
            step.routed.append(Answer(self.publisher, packet.qos, packet.packet_identifier, reason_code))

    def refuse(self, run: Run, reason_code: ReasonCode) -> list[Answer]:
        """A run that is not routed after all: what its messages are answered. Only 5.0 can say no [MQTT-4.3.3-9]."""
        packets = run.packets
        assert packets is not None
        count = len(packets)
        self.meter.packets_publish_dropped += count
        self.session.stats.recv_dropped += count
        if run.qos == 1:
            self.unacknowledged -= count
        else:
            for packet in packets:
                self.session.awaiting_rel.pop(packet.packet_identifier, None)
        return [Answer(self.publisher, run.qos, packet.packet_identifier, reason_code) for packet in packets]

    def acknowledge(self, run: Run | Answer) -> bytes:
        """The run has been routed (and stored where it must be): PUBACK or PUBREC for each [MQTT-3.3.4-1]."""
        if isinstance(run, Answer):
            return self._acknowledge_one(run)
        packets = run.packets
        assert packets is not None
        count = len(packets)
        self.session.stats.send_pkt += count
        if run.qos == 1:
            first = 0x40
            self.unacknowledged -= count
            self.meter.packets_puback_sent += count
        else:
            first = 0x50
            self.meter.packets_pubrec_sent += count
        if run.matched == 0 and self.level == MQTT5:
            head = bytes((first, 3))
            return b"".join([head + packet.packet_identifier.to_bytes(2, "big") + b"\x10" for packet in packets])
        head_word = first << 24 | 2 << 16
        if count == 1:
            return (head_word | packets[0].packet_identifier).to_bytes(4, "big")
        # Four bytes each, written in one go.
        return pack(f">{count}I", *[head_word | packet.packet_identifier for packet in packets])

    def _acknowledge_one(self, answer: Answer) -> bytes:
        self.session.stats.send_pkt += 1
        if answer.qos == 1:
            self.meter.packets_puback_sent += 1
            return puback(answer.packet_identifier, answer.reason_code)
        self.meter.packets_pubrec_sent += 1
        return pubrec(answer.packet_identifier, answer.reason_code)

    # -- everything else ----------------------------------------------------------------------------------------

    def _answer(self, frame: bytes, step: Step) -> None:
        step.out.append(frame)
        self.session.stats.send_pkt += 1

    def _handle_other(self, packet: Packet, step: Step) -> None:
        if isinstance(packet, PubAck):
            self.meter.packets_puback_received += 1
            if not self.session.handle_pubacks((packet.packet_identifier,), step.now, step.out):
                raise ProtocolError(ReasonCode.PROTOCOL_ERROR, "PUBACK for a QoS 2 message")
        elif isinstance(packet, PubRec):
            self.meter.packets_pubrec_received += 1
            if not self.session.handle_pubrec(packet.packet_identifier, packet.reason_code, step.now, step.out):
                raise ProtocolError(ReasonCode.PROTOCOL_ERROR, "PUBREC for a QoS 1 message")
        elif isinstance(packet, PubRel):
            self._handle_pubrel(packet, step)
        elif isinstance(packet, PubComp):
            self.meter.packets_pubcomp_received += 1
            self.session.handle_pubcomp(packet.packet_identifier, step.now, step.out)
        elif isinstance(packet, PingReq):
            self.meter.packets_pingreq_received += 1
            self.meter.packets_pingresp_sent += 1
            self._answer(b"\xd0\x00", step)
        elif isinstance(packet, Subscribe):
            handle_subscribe(self, packet, step)
        elif isinstance(packet, Unsubscribe):
            handle_unsubscribe(self, packet, step)
        elif isinstance(packet, Disconnect):
            self._handle_disconnect(packet)
        elif isinstance(packet, Connect):
            raise ProtocolError(ReasonCode.PROTOCOL_ERROR, "second CONNECT")  # [MQTT-3.1.0-2]
        elif isinstance(packet, Auth):
            if self.on_auth is None:
                self.meter.packets_auth_received += 1
                raise ProtocolError(ReasonCode.PROTOCOL_ERROR, "AUTH without a method in CONNECT")  # [MQTT-4.12.0-7]
            self.on_auth(packet)
        else:
            raise ProtocolError(ReasonCode.PROTOCOL_ERROR, f"{type(packet).__name__} from a client")

    def _handle_pubrel(self, packet: PubRel, step: Step) -> None:
        """[MQTT-4.3.3-11]; PUBCOMP also when the identifier is unknown, 0x92 in 5.0."""
        identifier = packet.packet_identifier
        self.meter.packets_pubrel_received += 1
        known = self.session.awaiting_rel.pop(identifier, None)
        if known is None:
            self.meter.packets_pubrel_missed += 1
        if known is None and self.level == MQTT5:
            frame = b"\x70\x03" + identifier.to_bytes(2, "big") + b"\x92"
        else:
            frame = b"\x70\x02" + identifier.to_bytes(2, "big")
        journal = self.session.journal
        if journal is None:
            step.out.append(frame)
        else:
            # After PUBCOMP the client may use the identifier for another message: a restart must not know it.
            if known is not None:
                journal.released((identifier,))
            journal.hold([frame], step.out)
        self.session.stats.send_pkt += 1
        self.meter.packets_pubcomp_sent += 1

    def _handle_disconnect(self, packet: Disconnect) -> None:
        self.meter.packets_disconnect_received += 1
        if "session_expiry_interval" in packet.properties:
            interval = packet.properties["session_expiry_interval"]
            if interval and self.terms.session_expiry_interval == 0:  # [MQTT 5.0 section 3.14.2.2.2]
                raise ProtocolError(ReasonCode.PROTOCOL_ERROR, "session expiry raised from 0 in DISCONNECT")
            self.session_expiry_interval = min(interval, NEVER)
        self.ended = packet
