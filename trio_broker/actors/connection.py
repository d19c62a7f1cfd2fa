"""One Network Connection: from bytes to the channel of its session and back, whatever the transport.

Invariant: `received` is one step without waiting; a connection ends once, and from then on nothing of the peer is
looked at and nothing more is sent than what ends it.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING

import trio

from trio_broker.actors.authorizing import find_out
from trio_broker.actors.exchange import exchanged, reauthenticate
from trio_broker.actors.gate import ConnectionInfo
from trio_broker.actors.messages import Detached
from trio_broker.actors.rate_limit import RateLimit
from trio_broker.errors import ProtocolError
from trio_broker.protocol.decode_acknowledge import pubacks
from trio_broker.protocol.decoder import Decoder
from trio_broker.protocol.encode import encode, strip_to_fit
from trio_broker.protocol.message import Run
from trio_broker.protocol.packets import MQTT5, ConnAck, Connect, Disconnect, Packet, Properties
from trio_broker.protocol.reason_codes import PACKET_REASON_CODES, ReasonCode
from trio_broker.session.changes import Answer
from trio_broker.session.channel import Channel
from trio_broker.session.connect import check
from trio_broker.session.session import Session
from trio_broker.store.ticket import DONE

if TYPE_CHECKING:
    from trio_broker.access.authorization import Decisions
    from trio_broker.actors.core import Core
    from trio_broker.actors.exchange import Exchange
    from trio_broker.actors.expiry import Expiry
    from trio_broker.actors.journal import SessionJournal
    from trio_broker.actors.session_actor import SessionActor
    from trio_broker.actors.timers import Timer
    from trio_broker.actors.trace_marks import ConnectionTrace
    from trio_broker.session.step import Step

log = logging.getLogger("trio_broker.connection")

# Packets a client may send ahead while its CONNECT is looked at; then its socket is not read for a while.
MAX_HELD_PACKETS = 1000
MAX_HELD_BYTES = 1_048_576


def _sayable(reason_code: int, packet_name: str) -> int:
    """The code itself where it may stand in that packet, else "unspecified error" [MQTT-3.2.2-8, 3.14.2-1]."""
    return reason_code if reason_code in PACKET_REASON_CODES[packet_name] else ReasonCode.UNSPECIFIED_ERROR


def _kept(properties: Properties) -> Properties:
    """What of a CONNECT's properties is needed later."""
    return {"maximum_packet_size": properties["maximum_packet_size"]} if "maximum_packet_size" in properties else {}


class Connection(ABC):
    """Base of the socket and the stream connection, which add how bytes are written and how it all ends."""

    __slots__ = (
        "acknowledged",
        "actor",
        "channel",
        "client_id",
        "connect",
        "core",
        "decisions",
        "decoder",
        "early",
        "early_sent",
        "ended",
        "exchange",
        "expiry",
        "gone",
        "held",
        "info",
        "journal",
        "last_packet_at",
        "limit",
        "over",
        "timer",
        "trace",
        "works",
    )

    def __init__(self, core: Core, info: ConnectionInfo) -> None:
        self.core = core
        self.info = info
        self.decoder = Decoder(max_packet_size=core.limits.max_packet_size)
        self.channel: Channel | None = None
        self.actor: SessionActor | None = None
        self.journal: SessionJournal | None = None  # of the session that it was given, also when it has ended
        self.acknowledged = DONE  # when all that it waits for has been acknowledged
        self.connect: Connect | None = None
        self.client_id = ""  # the final one, known when the session is
        self.held: list[Packet] | None = None
        self.over = False
        self.works = False  # a long request is under way
        self.early = self.early_sent = 0  # bytes that came and went before the session was there
        self.ended: tuple[int, str, int | None] | None = None  # what `Detached` says of it
        self.decisions: Decisions | None = None  # None: it may do everything
        self.exchange: Exchange | None = None  # while there is an enhanced authentication
        self.expiry: Expiry | None = None  # where what let it in holds for a time
        self.gone: str | None = None  # how the peer went away while its CONNECT was looked at
        now = core.clock.now()
        self.limit: RateLimit | None = None
        if info.messages_rate < math.inf or info.bytes_rate < math.inf:
            self.limit = RateLimit(self, info.messages_rate, info.bytes_rate, now)
        self.last_packet_at = now
        self.timer: Timer | None = core.timers.at(now + core.limits.idle_timeout, self._connect_timeout)
        self.trace: ConnectionTrace | None = None  # there is one while somebody traces this client or address
        if core.tracing.active:
            core.tracing.entering(self)

    # -- to be added by the transport ---------------------------------------------------------------------------

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send without waiting; what the peer does not take yet is kept for it."""

    @abstractmethod
    def finish(self) -> None:
        """Send what is kept, then close, so that the last packet reaches the peer."""

    @abstractmethod
    def leave(self) -> None:
        """The peer has said all it had to say: send what is left for it, and close without waiting for it."""

    @abstractmethod
    def abort(self) -> None:
        """Close at once."""

    @abstractmethod
    def pause(self) -> None:
        """Read nothing until `resume`."""

    @abstractmethod
    def resume(self) -> None:
        """Read again."""

    # -- reading ------------------------------------------------------------------------------------------------

    def received(self, data: bytes, step: Step) -> None:
        """Take bytes from the peer. Work for the router is left in `step.routed`."""
        if self.trace is not None and self.trace.takes(data, step):
            return
        channel = self.channel
        if channel is None:
            self._early(data, step)
            return
        size = len(data)
        self.core.meter.bytes_received += size
        stats = channel.session.stats
        stats.recv_oct += size
        stats.recv_cnt += 1
        decoder = self.decoder
        if data[0] == 0x40 and not decoder.held and decoder.error is None:
            identifiers = pubacks(data)
            if identifiers is not None:
                self.last_packet_at = step.now
                try:
                    channel.handle_pubacks(identifiers, step)
                except ProtocolError as broken:
                    self._handled(step, broken)
                else:
                    self._handled(step)
                return
        packets = decoder.feed(data)
        if packets:
            self.last_packet_at = step.now
            self.handle(packets, step)
        elif decoder.error is not None:
            self._handled(step)

    def _early(self, data: bytes, step: Step) -> None:
        """Before there is a session: CONNECT, and what follows it without waiting for the answer."""
        self.core.meter.bytes_received += len(data)
        self.early += len(data)
        packets = self.decoder.feed(data)
        if packets:
            self.last_packet_at = step.now
            if self.exchange is not None:
                exchanged(self, packets)
                if self.decoder.error is not None:
                    self.refuse(self.decoder.error)
                return
            if self.held is not None:
                self.held.extend(packets)
                if len(self.held) > MAX_HELD_PACKETS or self.early > MAX_HELD_BYTES:
                    self.pause()
                return  # an error further on has to wait, too
            self._first(packets, step)
        elif self.decoder.error is not None and (self.held is None or self.exchange is not None):
            self.refuse(self.decoder.error)

    def handle(self, packets: list[Packet], step: Step) -> None:
        """Give packets to the channel; then what it answers to the peer."""
        channel = self.channel
        assert channel is not None
        try:
            if channel.handle(packets, step) and self.decoder.error is None:
                return
        except ProtocolError as broken:
            self._handled(step, broken)
        else:
            self._handled(step)

    def _handled(self, step: Step, error: ProtocolError | None = None) -> None:
        """What comes of the packets besides work for the router."""
        channel = self.channel
        assert channel is not None
        out = step.out
        if out:
            self.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()
        actor = self.actor
        session = channel.session
        if actor is not None:
            if actor.hungry:
                actor.check_room()
            if session.awaiting_rel and not actor.watching_rel:
                actor.watch_awaiting_rel()
            if session.unfinished:
                actor.tell_drained(self)
            if session.mqueue.tail is not None:
                actor.fetch()
        if (channel.long is not None or channel.undecided) and not self.works:
            self.works = True
            self.pause()
            self.core.sessions_nursery.start_soon(self._work_on, channel)
        if channel.ended is not None:
            self._goodbye(channel.ended)
            return
        error = error or self.decoder.error
        if error is not None:
            self.fail(error.reason_code, error.message)

    async def _work_on(self, channel: Channel) -> None:
        """A part of a long request a turn, or what has to be asked first; meanwhile nothing is read from the peer."""
        core = self.core
        while (channel.long is not None or channel.undecided) and not self.over:
            try:
                await trio.lowlevel.checkpoint()  # others have their turn, also where nobody has to be waited for
                if channel.undecided:
                    await find_out(self, channel)
            except Exception as error:  # noqa: BLE001 - as below
                self.crash(error)
            if core.is_behind:
                await core.room()
            if self.over:
                return
            step = core.begin(core.clock.now())
            try:
                channel.go_on(step)
                self._handled(step)
            except ProtocolError as broken:
                self._handled(step, broken)
            except Exception as error:  # noqa: BLE001 - it ends this connection, is logged, and stops nobody else
                step.out.clear()
                self.crash(error)
            if self.trace is not None:
                self.trace.led_to(step)
            core.hand_on(step)
        self.works = False
        if self.decisions is not None:
            self.decisions.forget()
        self.last_packet_at = max(self.last_packet_at, core.clock.now())  # nothing was read until now
        self.resume_unless_held()
        if self.gone is not None:
            self.lost(self.gone)

    def _first(self, packets: list[Packet], step: Step) -> None:
        """The first packets of the peer: a CONNECT, and what it sends ahead of the answer [MQTT-3.1.0-1]."""
        connect = packets[0]
        meter = self.core.meter
        meter.packets_received += 1
        if not isinstance(connect, Connect):
            self.refuse(ProtocolError(ReasonCode.PROTOCOL_ERROR, "the first packet is not CONNECT"), answer=False)
            return
        meter.packets_connect_received += 1
        meter.client_connect += 1
        self.connect = connect
        if self.core.tracing.active:
            self.core.tracing.look_at(self, packets)
        try:
            check(connect, self.core.limits)
        except ProtocolError as error:
            self.refuse(error)
            return
        self.held = packets[1:]
        self.core.connecting(self)

    def ask_in(self) -> None:
        """Ask the session manager for a session."""
        if not self.over:
            assert self.connect is not None
            self.core.manager.connect(self, self.connect)

    def attached(self, channel: Channel, actor: SessionActor, step: Step) -> None:
        """The session is there and CONNACK is sent: take what the client sent ahead."""
        self.channel = channel
        self.actor = actor
        self.journal = actor.journal
        if channel.terms.authentication_method is not None:
            channel.on_auth = partial(reauthenticate, self)
        if self.connect is not None:
            # What a client may fill with megabytes is not kept for as long as the connection lasts.
            self.connect.password = self.connect.will = None
            if self.connect.properties:
                self.connect.properties = _kept(self.connect.properties)
        held, self.held = self.held, None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.is_congested:
            channel.session.congested = True  # the queue of the session was more than the peer takes at once
        elif self.gone is None:
            self.resume_unless_held()
        if self.limit is not None:
            self.limit.attached()
        self.last_packet_at = step.now  # until now it had nothing to say
        stats = channel.session.stats
        stats.recv_pkt += 1  # the CONNECT
        stats.recv_cnt += 1
        stats.recv_oct += self.early
        if self.early_sent:
            stats.send_oct += self.early_sent
            stats.send_cnt += 1
        if channel.terms.keep_alive:
            self._watch_keep_alive()
        if self.trace is not None:
            self.trace.attached()
        self.handle(held or [], step)
        if self.trace is not None:
            self.trace.led_to(step)
        if self.gone is not None and not self.works:
            self.lost(self.gone)

    # -- writing ------------------------------------------------------------------------------------------------

    def acknowledge(self, runs: list[Run | Answer]) -> None:
        """The router is done with these runs of ours: PUBACK or PUBREC for them, in one buffer."""
        channel = self.channel
        if channel is None or self.over:
            return  # the client will send them again
        if len(runs) == 1:
            self.write(channel.acknowledge(runs[0]))
        else:
            self.write(b"".join([channel.acknowledge(run) for run in runs]))

    def write_late(self, frames: list[bytes]) -> None:
        """What waited for the store; a fault in it ends this connection alone."""
        if self.over or not frames:
            return
        try:
            self.write(frames[0] if len(frames) == 1 else b"".join(frames))
        except Exception as error:  # noqa: BLE001 - it ends this connection, is logged, and stops nobody else
            self.crash(error)

    # -- ends ---------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Who it is, for the log."""
        peer = f"{self.info.peer_host}:{self.info.peer_port}" if self.info.peer_host else "local peer"
        if self.connect is not None:
            return f"{(self.client_id or self.connect.client_id)!r} at {peer} on {self.info.listener}"
        return f"{peer} on {self.info.listener}"

    def refuse(self, error: ProtocolError, answer: bool = True) -> None:
        """No session yet: CONNACK with the reason where one may be sent, then close [MQTT-3.2.2-7, 3.1.4-1]."""
        if self.over:
            return
        meter = self.core.meter
        if log.isEnabledFor(logging.INFO):
            log.info("connection refused: %s: %s", self.name, error)
        meter.connections_refused += 1
        if self.trace is not None:
            self.trace.refused(error)
        level = self.connect.protocol_level if self.connect is not None else self.decoder.level
        if answer and level:
            if level == MQTT5 or self.connect is not None or error.reason_code == 0x84:
                maximum = error.maximum_packet_size
                if self.connect is not None:
                    maximum = self.connect.properties.get("maximum_packet_size", 0)
                frame = strip_to_fit(ConnAck(_sayable(error.reason_code, "CONNACK")), level, maximum)
                if frame is not None:  # [MQTT-3.1.2-24]
                    self.write(frame)
                    meter.packets_connack_sent += 1
            meter.packets_connack_error += 1
            meter.client_connack += 1
            if error.reason_code in (0x86, 0x87):
                meter.packets_connack_auth_error += 1
        self.close()

    def fail(self, reason_code: ReasonCode, reason: str) -> None:
        """End the connection for a fault of the peer or by decision: DISCONNECT with the reason in 5.0."""
        if self.over:
            return
        if log.isEnabledFor(logging.INFO):
            log.info("client disconnected: %s: %s (0x%02X)", self.name, reason, reason_code)
        self.send_disconnect(reason_code)
        self._tell_actor(Detached(self, reason_code, reason))
        self.close()

    def send_disconnect(self, reason_code: ReasonCode) -> None:
        """Tell a 5.0 client why [MQTT-3.14.0-1: only after a successful CONNACK]."""
        if self.channel is not None and self.channel.level == MQTT5 and not self.over:
            self.write(encode(Disconnect(_sayable(reason_code, "DISCONNECT_BY_SERVER")), MQTT5))
            self.core.meter.packets_disconnect_sent += 1

    def lost(self, reason: str, *, listening: bool = False) -> None:
        """The peer is gone without a DISCONNECT: the will counts [MQTT-3.1.2-8].

        `listening`: it only said that it has no more to say, so what is left for it still goes out.
        """
        if self.over:
            return
        if self.held is not None and self.exchange is None:
            # What it sent with its CONNECT comes first: many devices write all they have to say and hang up.
            self.gone = reason
            self.pause()
            return
        if self.gone is not None and self.works:
            return  # the same: it ends when that is done
        if self.connect is None:
            self._stranger_left(reason)
        elif log.isEnabledFor(logging.INFO):
            log.info("client disconnected: %s: %s", self.name, reason)
        self._tell_actor(Detached(self, ReasonCode.UNSPECIFIED_ERROR, reason))
        self._end()
        if listening or self.gone is not None:
            self.leave()
        else:
            self.abort()

    def _stranger_left(self, reason: str) -> None:
        """It ended before its CONNECT was there; that it came and went without a byte interests nobody."""
        if self.decoder.pending:
            self.core.meter.connections_refused += 1
            log.info("connection closed within CONNECT: %s: %s", self.name, reason)
        else:
            log.debug("connection closed before CONNECT: %s: %s", self.name, reason)

    def _goodbye(self, packet: Disconnect) -> None:
        """The client said DISCONNECT; with 0x04 and above its will counts [MQTT-3.14.4-3]."""
        if log.isEnabledFor(logging.INFO):
            log.info("client disconnected: %s: DISCONNECT 0x%02X", self.name, packet.reason_code)
        assert self.channel is not None
        self._tell_actor(Detached(self, packet.reason_code, "DISCONNECT", self.channel.session_expiry_interval))
        self._end()
        self.leave()

    def crash(self, error: Exception) -> None:
        """A fault of ours while we handled this peer: it ends alone."""
        log.error("fault while handling %s", self.name, exc_info=error)
        self.fail(ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR, "internal error")

    def close(self) -> None:
        """Send what is left, then close."""
        if not self.over:
            self._end()
            self.finish()

    def _end(self) -> None:
        self.over = True
        self.decoder.held = b""
        self.channel = None
        self.held = None
        self.trace = None
        if self.exchange is not None:
            self.exchange.cancel()
        if self.limit is not None:
            self.limit.end()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self.expiry is not None:
            self.expiry.cancel()
            self.expiry = None
        self.info.ended()

    def _tell_actor(self, message: Detached) -> None:
        """Should the actor's mailbox be full, it finds `ended` by itself."""
        # Without the message itself, which refers to this connection: what has ended is freed at once.
        self.ended = (message.reason_code, message.reason, message.session_expiry_interval)
        if self.trace is not None:
            self.trace.ended(message.reason_code, message.reason)
        if self.actor is not None:
            self.core.ended(self)

    def tell_ended(self) -> None:
        """Let the session know how it ended, unless that is taken over by now."""
        if self.actor is not None and self.ended is not None:
            self.actor.remind(Detached(self, *self.ended))

    # -- time ---------------------------------------------------------------------------------------------------

    def _connect_timeout(self) -> None:
        self.timer = None
        timeout = self.core.limits.idle_timeout
        if self.connect is not None:
            # It did its part; we have not decided about it yet.
            timeout += self.core.authentication.patience
            self.timer = self.core.timers.at(self.core.clock.now() + timeout, self._decision_timeout)
            return
        self.core.meter.connections_refused += 1
        log.info("connection closed: %s: no CONNECT within %g s", self.name, timeout)
        if self.trace is not None:
            self.trace.ended(ReasonCode.UNSPECIFIED_ERROR, "no CONNECT in time")
        self.close()

    def _decision_timeout(self) -> None:
        self.timer = None
        self.refuse(ProtocolError(ReasonCode.SERVER_BUSY, "nobody decided about it in time"))

    def _watch_keep_alive(self) -> None:
        assert self.channel is not None
        seconds = self.channel.terms.keep_alive * self.core.limits.keepalive_multiplier
        self.timer = self.core.timers.at(self.last_packet_at + seconds, self._keep_alive_due)

    def keep_alive_changed(self) -> None:
        """An administrator set another one in the terms: it counts from now on."""
        if self.channel is None:
            return  # the watch has not begun, or is over
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.last_packet_at = self.core.clock.now()
        if self.channel.terms.keep_alive:
            self._watch_keep_alive()

    def _keep_alive_due(self) -> None:
        """One and a half times the keep alive have passed since the last packet, or it came meanwhile."""
        self.timer = None
        channel = self.channel
        if channel is None:
            return
        seconds = channel.terms.keep_alive * self.core.limits.keepalive_multiplier
        now = self.core.clock.now()
        if self.works or self.is_congested or (self.limit is not None and self.limit.is_pausing):
            self.last_packet_at = now  # it may have said something that we have not read
        if now - self.last_packet_at >= seconds:  # [MQTT-3.1.2-22]
            self.fail(ReasonCode.KEEP_ALIVE_TIMEOUT, f"no packet for {seconds:g} s")
        else:
            self._watch_keep_alive()

    # -- pressure -----------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def is_congested(self) -> bool:
        """Does the peer take too little of what is sent to it?"""

    def resume_unless_held(self) -> None:
        """Read again, if there is no other reason not to."""
        limit = self.limit
        if (
            self.over
            or self.works
            or self.gone is not None
            or self.is_congested
            or (limit is not None and limit.is_pausing)
        ):
            return
        if self.held is None or (len(self.held) <= MAX_HELD_PACKETS and self.early <= MAX_HELD_BYTES):
            self.resume()

    def set_congested(self, session: Session | None) -> None:
        """The peer does not read: the session queues, and we read nothing more from it."""
        if session is not None:
            session.congested = True
        self.pause()

    def set_writable(self) -> None:
        """The peer reads again: the session goes on with its queue."""
        self.last_packet_at = self.core.clock.now()
        self.resume_unless_held()
        if self.actor is not None and not self.over:
            self.actor.tell_drained(self)
