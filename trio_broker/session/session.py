"""The state of one session [MQTT 5.0 section 4.1]: what is sent to a client, with QoS, flow control and queue.

Invariant: between two calls every copy of a message is in one place only: on its way (the frames returned), inflight,
or in the mqueue. All calls are single steps: they take `now` (Trio time) and append frames to `out`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from trio_broker.protocol.message import Message, Run
from trio_broker.protocol.packets import MQTT5
from trio_broker.routing.delivery import Delivery
from trio_broker.routing.subscription import Subscription
from trio_broker.session.frames import copy_frame, run_frames
from trio_broker.session.inflight import MAX_PACKET_IDENTIFIER, Inflight
from trio_broker.session.journal import Journal
from trio_broker.session.limits import Limits
from trio_broker.session.meter import Meter
from trio_broker.session.mqueue import MQueue
from trio_broker.session.outgoing import PUBLISH_SENT, PUBREL_SENT, QUEUED, Outgoing
from trio_broker.session.send_run import send_run
from trio_broker.session.stats import Stats

# No limit announced by the client: the largest packet MQTT knows.
UNLIMITED_PACKET_SIZE: Final = 268_435_460
# What one `pump` sends at most, in bytes; a packet counts so many more than it has, as it costs time, too.
PUMP_SIZE: Final = 262_144
PACKET_COST: Final = 64
NEVER: Final = 0xFFFFFFFF  # a session expiry interval that never ends [MQTT-3.1.2-23]


class Session:
    """One session, connected (`level` is the protocol level of its connection) or not (`level` is 0).

    `journal` is told of all that has to be there after a restart; None where nothing has.
    """

    __slots__ = (
        "awaiting_rel",
        "begun",
        "client_id",
        "congested",
        "created_at",
        "expiry_interval",
        "inflight",
        "journal",
        "level",
        "limits",
        "maximum_packet_size",
        "meter",
        "mqueue",
        "queued_qos0",
        "stamp",
        "stats",
        "subscriptions",
        "unfinished",
    )

    def __init__(self, client_id: str, limits: Limits, meter: Meter, created_at: int) -> None:
        self.client_id = client_id
        self.limits = limits
        self.meter = meter
        self.created_at = created_at
        self.expiry_interval = 0
        self.subscriptions: dict[str, Subscription] = {}
        self.inflight = Inflight(limits.max_inflight or MAX_PACKET_IDENTIFIER)
        self.mqueue = MQueue(limits.max_mqueue_len)
        # Packet identifiers of the client's QoS 2 messages between PUBLISH and PUBREL, with the time of arrival.
        self.awaiting_rel: dict[int, float] = {}
        self.stats = Stats()
        self.journal: Journal | None = None
        self.level = 0
        self.maximum_packet_size = UNLIMITED_PACKET_SIZE
        self.congested = False
        self.unfinished = False  # the last `pump` had enough before it was done
        self.queued_qos0 = 0
        self.stamp = created_at * 1_000_000
        # By `inserted_at_ns`: when copies that had to wait were first sent; kept only while somebody watches.
        self.begun: dict[int, float] | None = None

    # -- connection ---------------------------------------------------------------------------------------------

    def live_under(self, limits: Limits) -> None:
        """Another connection is about to begin. What is queued or inflight beyond these limits stays all the same."""
        self.limits = limits
        self.inflight.window = limits.max_inflight or MAX_PACKET_IDENTIFIER
        self.mqueue.maximum = limits.max_mqueue_len

    def attach(self, level: int, receive_maximum: int, maximum_packet_size: int) -> None:
        """A connection begins. What is inflight is sent again by the next `pump` [MQTT-4.4.0-1]."""
        self.level = level
        self.maximum_packet_size = maximum_packet_size
        self.congested = self.unfinished = False
        self.inflight.restart(receive_maximum)

    def detach(self) -> None:
        """The connection is over; what was queued waits for the next one."""
        self.level = 0
        self.congested = self.unfinished = False

    # -- messages to the client ---------------------------------------------------------------------------------

    def deliver(
        self, items: Sequence[tuple[Delivery[Any], Run]], now: float, inserted_at_ns: int, out: list[bytes]
    ) -> None:
        """Take what the router matched. `inserted_at_ns` is the wall clock in nanoseconds."""
        level = self.level
        meter = self.meter
        stats = self.stats
        if inserted_at_ns > self.stamp:
            self.stamp = inserted_at_ns
        for matched, run in items:
            delivery = matched
            packets = run.packets
            count = len(run) if packets is None else len(packets)
            if delivery.no_local and run.origin.client_id == self.client_id:  # [MQTT-3.8.3-3]
                if delivery.own is None:
                    meter.delivery_dropped += count
                    meter.delivery_dropped_no_local += count
                    stats.send_dropped_other += count
                    continue
                delivery = delivery.own
            meter.messages_delivered += count
            qos = delivery.qos
            if run.qos < qos and not self.limits.upgrade_qos:
                qos = run.qos  # [MQTT-3.8.4-8]
            if qos and self.journal is not None:
                run.stored = True
            if (
                qos == 0
                and level
                and run.plain
                and not self.congested
                and not self.queued_qos0
                and (self.mqueue.tail is None or not self.mqueue.tail.has_qos0)
                and (delivery.plain or not (delivery.identifiers or (delivery.retain_as_published and run.retain)))
                and len(frames := (run.frames5 if level == MQTT5 else run.frames4) or run_frames(run, level))
                <= self.maximum_packet_size  # all together, so each of them
            ):
                out.append(frames)
                stats.send_msg_qos0 += count
                stats.send_pkt += count
                meter.messages_qos0_sent += count
                continue
            retain = run.retain and delivery.retain_as_published  # [MQTT-3.3.1-12, 3.3.1-13]
            if (
                qos
                and level
                and run.plain
                and not (delivery.identifiers or self.congested or self.mqueue.items or self.inflight.resend)
                and self.mqueue.tail is None
                and self.maximum_packet_size == UNLIMITED_PACKET_SIZE
            ):
                send_run(self, run, qos, retain, out, delivery.share)
                continue
            for message in run.messages:
                self._offer(message, qos, retain, delivery.identifiers, now, out, delivery.share)

    def deliver_retained(
        self, subscription: Subscription, messages: Iterable[Message], now: float, inserted_at_ns: int, out: list[bytes]
    ) -> None:
        """Send retained messages for a subscription just made, RETAIN set [MQTT-3.3.1-8, 3.3.1-9]."""
        if inserted_at_ns > self.stamp:
            self.stamp = inserted_at_ns
        identifiers = (subscription.identifier,) if subscription.identifier else ()
        for message in messages:
            self.meter.messages_delivered += 1
            qos = subscription.qos if self.limits.upgrade_qos else min(message.qos, subscription.qos)
            self._offer(message, qos, True, identifiers, now, out)

    def _offer(
        self,
        message: Message,
        qos: int,
        retain: bool,
        identifiers: tuple[int, ...],
        now: float,
        out: list[bytes],
        share: str | None = None,
    ) -> None:
        """Send one message now, or queue it, or drop it."""
        self.stamp = stamp = self.stamp + 1
        copy = Outgoing(message, qos, retain, identifiers, stamp, share=share)
        if self.level and not self.congested and not (self.mqueue.items or self.mqueue.tail):
            if qos == 0:
                self._send_qos0(copy, now, out)
                return
            if self.inflight.has_room() and not self.inflight.resend:
                self._send(copy, now, out)
                return
        elif (
            self.level
            and not self.congested
            and qos == 0
            and not self.queued_qos0
            and (self.mqueue.tail is None or not self.mqueue.tail.has_qos0)
        ):
            # A full window holds back QoS 1 and 2 only [MQTT-3.3.4-10].
            self._send_qos0(copy, now, out)
            return
        self.queue(copy)

    def left_to_others(self) -> list[tuple[str, Message]]:
        """When the session ends: what shared subscriptions brought it and it has not taken, oldest first.

        QoS 2 messages whose PUBLISH was sent are for nobody else [MQTT-4.8.2-5].
        """
        if not (self.inflight.copies or self.mqueue.items):
            return []
        left = [copy for copy in self.inflight.copies.values() if copy.share is not None and copy.qos == 1]
        left.sort(key=lambda copy: copy.inserted_at_ns)
        left += [copy for copy in self.mqueue if copy.share is not None]
        return [(copy.share, copy.message) for copy in left if copy.share is not None]

    def queue(self, copy: Outgoing) -> None:
        if copy.qos == 0 and (not self.limits.mqueue_store_qos0 or self.limits.pressure.level):
            self._drop_queued(copy)
            return
        mqueue = self.mqueue
        journal = self.journal
        dropped: Outgoing | None
        if journal is not None and mqueue.is_long:
            journal.add((copy,))  # with QoS 0, too: what is not in memory has to be somewhere
            dropped, rows = mqueue.append_to_tail(copy)
            if rows is not None:
                journal.remove_rows(rows[:1], rows[1:])
                self.count_dropped(1)
        else:
            if copy.qos == 0:
                self.queued_qos0 += 1
            elif journal is not None:
                journal.add((copy,))
            dropped = mqueue.append(copy)
        if dropped is not None:
            if dropped.qos == 0:
                self.queued_qos0 -= 1
            self._drop_queued(dropped)

    def _drop_queued(self, copy: Outgoing) -> None:
        self.count_dropped(1, copy.qos)
        self._forget(copy)

    def _forget(self, copy: Outgoing) -> None:
        """It is acknowledged, expired or dropped: nobody has to keep it any more."""
        if copy.row and self.journal is not None:
            self.journal.remove((copy,))

    def count_dropped(self, count: int, qos: int = 1) -> None:
        """The queue was full, or had no place for QoS 0."""
        meter = self.meter
        meter.delivery_dropped += count
        self.stats.send_dropped_queue_full += count
        if qos == 0:
            meter.delivery_dropped_qos0_msg += count
        else:
            meter.delivery_dropped_queue_full += count

    def _expired(self, copy: Outgoing, now: float) -> bool:
        """Expired before its delivery began? Then it is dropped here [MQTT-3.3.2-5]."""
        expires_at = copy.message.expires_at
        if expires_at is None or expires_at > now:
            return False
        self.meter.delivery_dropped += 1
        self.meter.delivery_dropped_expired += 1
        self.stats.send_dropped_expired += 1
        self._forget(copy)
        return True

    def _fits(self, frame: bytes) -> bool:
        """Too large for this client: it counts as delivered [MQTT-3.1.2-24, 3.1.2-25]."""
        if len(frame) <= self.maximum_packet_size:
            return True
        self.meter.delivery_dropped += 1
        self.meter.delivery_dropped_too_large += 1
        self.stats.send_dropped_too_large += 1
        return False

    def _send_qos0(self, copy: Outgoing, now: float, out: list[bytes]) -> None:
        if self._expired(copy, now):
            return
        frame = copy_frame(copy, self.level, False, now)
        self._forget(copy)
        if self._fits(frame):
            out.append(frame)
            self.count_sent(0)
            if self.limits.slow.watch is not None:
                self._note_begun(copy, now)
                self._completed((copy,), now)

    def _send(self, copy: Outgoing, now: float, out: list[bytes]) -> None:
        """Send a QoS 1 or 2 copy for the first time. Needs room in the window."""
        if self._expired(copy, now):
            return
        inflight = self.inflight
        inflight.add(copy)
        frame = copy_frame(copy, self.level, False, now)
        if not self._fits(frame):
            inflight.remove(copy)
            self._forget(copy)
            return
        copy.phase = PUBLISH_SENT
        copy.sent = True
        if self.limits.slow.watch is not None:
            self._note_begun(copy, now)
        self.count_sent(copy.qos)
        journal = self.journal
        if journal is None:
            out.append(frame)
            return
        if copy.row:
            journal.change((copy,))
        else:
            journal.add((copy,))
        if copy.qos == 1 and not journal.is_holding:
            out.append(frame)
        else:
            journal.hold([frame], out)

    def count_sent(self, qos: int, count: int = 1) -> None:
        stats = self.stats
        meter = self.meter
        stats.send_pkt += count
        if qos == 0:
            stats.send_msg_qos0 += count
            meter.messages_qos0_sent += count
        elif qos == 1:
            stats.send_msg_qos1 += count
            meter.messages_qos1_sent += count
        else:
            stats.send_msg_qos2 += count
            meter.messages_qos2_sent += count

    def pump(self, now: float, out: list[bytes]) -> None:
        """Send what waited, as far as the window, the quota and the connection allow.

        A long queue is sent in pieces, so that the out-buffer has its say and others their turn: `unfinished` says that
        the session can take another call at once.
        """
        self.unfinished = False
        if not self.level or self.congested:
            return
        inflight = self.inflight
        items = self.mqueue.items
        left = PUMP_SIZE
        while inflight.resend or items:
            if left <= 0:
                self.unfinished = True
                return
            sent = len(out)
            if inflight.resend:
                if not self._send_again(inflight.resend[0], now, out):
                    break
                inflight.resend.popleft()
            elif items[0].qos == 0:
                self.queued_qos0 -= 1
                self._send_qos0(items.popleft(), now, out)
            elif inflight.has_room():
                self._send(items.popleft(), now, out)
            else:
                break
            left -= PACKET_COST + (len(out[-1]) if len(out) > sent else 0)
        if self.queued_qos0:
            self._pass_by(now, out)

    def _pass_by(self, now: float, out: list[bytes]) -> None:
        """Send the QoS 0 messages that are queued: a full window holds back no others [MQTT-3.3.4-10]."""
        items = self.mqueue.items
        size = 0
        for _ in range(len(items)):
            copy = items.popleft()
            if copy.qos or size > PUMP_SIZE:
                items.append(copy)
                continue
            self.queued_qos0 -= 1
            sent = len(out)
            self._send_qos0(copy, now, out)
            size += PACKET_COST + sum(map(len, out[sent:]))
        self.unfinished = self.queued_qos0 > 0

    def _refill(self, now: float, out: list[bytes]) -> None:
        """A place in the window is free again."""
        if (self.mqueue.items or self.inflight.resend) and not self.unfinished:
            self.pump(now, out)

    def _send_again(self, copy: Outgoing, now: float, out: list[bytes]) -> bool:
        """Send an open PUBLISH (DUP 1) or PUBREL again; False = no room yet [MQTT-4.4.0-1, 3.3.1-1]."""
        if self.inflight.copies.get(copy.packet_identifier) is not copy:
            return True  # acknowledged meanwhile
        if copy.phase == PUBREL_SENT:
            self._send_pubrel(b"\x62\x02" + copy.packet_identifier.to_bytes(2, "big"), out)
            return True
        if not self.inflight.has_quota():
            return False
        frame = copy_frame(copy, self.level, copy.sent, now)
        if not self._fits(frame):
            self.inflight.remove(copy)
            self._forget(copy)
            return True
        copy.counted = True
        copy.sent = True
        self.inflight.open += 1
        if self.journal is None or (copy.qos == 1 and not self.journal.is_holding):
            out.append(frame)
        else:
            self.journal.hold([frame], out)
        self.count_sent(copy.qos)
        return True

    # -- acknowledgements from the client -----------------------------------------------------------------------

    def handle_pubacks(self, packet_identifiers: Iterable[int], now: float, out: list[bytes]) -> bool:
        """[MQTT-4.3.2-3]. False: an identifier belongs to a QoS 2 message, a protocol error."""
        inflight = self.inflight
        copies = inflight.copies
        acked = 0
        accepted = True
        journal = self.journal
        watch = self.limits.slow.watch
        gathers = journal is not None or watch is not None
        gone: list[Outgoing] = []
        for packet_identifier in packet_identifiers:
            copy = copies.get(packet_identifier)
            if copy is None:
                self.meter.packets_puback_missed += 1
                continue
            if copy.qos != 1:
                self.meter.packets_puback_inuse += 1
                accepted = False
                break
            del copies[packet_identifier]
            if copy.counted:
                copy.counted = False
                inflight.open -= 1
            acked += 1
            if gathers:
                gone.append(copy)
        self.meter.messages_acked += acked
        if gone:
            if watch is not None:
                self._completed(gone, now)
            if journal is not None:
                journal.remove(gone)
        if (self.mqueue.items or inflight.resend) and not self.unfinished:
            self.pump(now, out)
        return accepted

    def handle_pubrec(self, packet_identifier: int, reason_code: int, now: float, out: list[bytes]) -> bool:
        """[MQTT-4.3.3-4]. False: the identifier belongs to a QoS 1 message, a protocol error."""
        copy = self.inflight.copies.get(packet_identifier)
        meter = self.meter
        if copy is None:
            meter.packets_pubrec_missed += 1
            if reason_code < 0x80:
                # Unknown to us: the client may forget it [MQTT-3.6.2-1].
                tail = b"\x62\x03%b\x92" if self.level == MQTT5 else b"\x62\x02%b"
                self._send_pubrel(tail % packet_identifier.to_bytes(2, "big"), out)
            return True
        if copy.qos != 2:
            meter.packets_pubrec_inuse += 1
            return False
        if reason_code >= 0x80:  # the end of this message [MQTT-4.4.0-2]
            self.inflight.remove(copy)
            self._forget(copy)
            self._refill(now, out)
            return True
        if copy.phase == PUBREL_SENT:
            meter.packets_pubrec_inuse += 1
        else:
            meter.messages_acked += 1
            self.inflight.releasing += 1
        copy.phase = PUBREL_SENT
        if self.journal is not None:
            self.journal.change((copy,))
        self._send_pubrel(b"\x62\x02" + packet_identifier.to_bytes(2, "big"), out)
        return True

    def _send_pubrel(self, frame: bytes, out: list[bytes]) -> None:
        if self.journal is None:
            out.append(frame)
        else:
            self.journal.hold([frame], out)  # or a restart would send the PUBLISH again
        self.stats.send_pkt += 1
        self.meter.packets_pubrel_sent += 1

    def handle_pubcomp(self, packet_identifier: int, now: float, out: list[bytes]) -> None:
        """[MQTT-4.3.3-6]."""
        copy = self.inflight.copies.get(packet_identifier)
        if copy is None:
            self.meter.packets_pubcomp_missed += 1
            return
        if copy.phase != PUBREL_SENT:
            self.meter.packets_pubcomp_inuse += 1
            return
        self.inflight.remove(copy)
        self._forget(copy)
        if self.limits.slow.watch is not None:
            self._completed((copy,), now)
        self._refill(now, out)

    # -- how long it takes

    def _note_begun(self, copy: Outgoing, now: float) -> None:
        begun = self.begun
        if begun is None or len(begun) > 2 * len(self.inflight.copies) + 64:
            # Those of which nobody was told, because nobody watched then, go.
            known = begun or {}
            stamps = [other.inserted_at_ns for other in self.inflight.copies.values()]
            begun = self.begun = {stamp: known[stamp] for stamp in stamps if stamp in known}
        begun[copy.inserted_at_ns] = now

    def _completed(self, copies: Iterable[Outgoing], now: float) -> None:
        """Tell whoever watches; a copy that is not in `begun` was sent when it was inserted."""
        watch, begun = self.limits.slow.watch, self.begun or {}
        if watch is not None:
            ends = [(copy, begun.pop(copy.inserted_at_ns, None)) for copy in copies]
            watch.completed(self.client_id, ends, now)

    # -- QoS 2 from the client ----------------------------------------------------------------------------------

    def expire_awaiting_rel(self, now: float) -> int:
        """Forget what the client never released; returns how many (EMQX: await_rel_timeout)."""
        limit = now - self.limits.await_rel_timeout
        late = [identifier for identifier, at in self.awaiting_rel.items() if at <= limit]
        for identifier in late:
            del self.awaiting_rel[identifier]
        if self.journal is not None and late:
            self.journal.released(late)
        self.stats.recv_dropped_await_pubrel_timeout += len(late)
        self.meter.messages_dropped_await_pubrel_timeout += len(late)
        self.meter.messages_dropped += len(late)
        return len(late)

    def expire_queued(self, now: float) -> None:
        """Drop what expired while it waited in the mqueue."""
        items = self.mqueue.items
        if items and any(copy.message.expires_at is not None for copy in items):
            kept = [copy for copy in items if not self._expired(copy, now)]
            items.clear()
            items.extend(kept)
            self.queued_qos0 = sum(1 for copy in items if copy.qos == 0)


__all__ = ["NEVER", "QUEUED", "UNLIMITED_PACKET_SIZE", "Session"]
