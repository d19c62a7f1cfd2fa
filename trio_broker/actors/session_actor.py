"""The session actor: the task of one client identifier, from its first connection until its session has expired.

Invariant: one connection at a time; a session that ends is out of the router before the next one of the same client
identifier begins. A fault in here ends this client alone.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import trio

from trio_broker.access.authorization import cached
from trio_broker.actors.actor import Actor, Question
from trio_broker.actors.announce import announce_connected, announce_disconnected
from trio_broker.actors.gate import ConnectionInfo
from trio_broker.actors.messages import (
    AskInfo,
    AskQueue,
    AskSubscriptions,
    Attach,
    AwaitRelDue,
    Detached,
    Drained,
    ExpiryDue,
    Fault,
    Gone,
    Kick,
    Online,
    RetainedPage,
    RoomAgain,
    ShutDown,
    SubscribeFor,
    UnsubscribeFor,
    WillDue,
)
from trio_broker.actors.remember import remember
from trio_broker.actors.retained_feed import BUSY, RetainedFeed, room_for
from trio_broker.actors.session_view import queue_page, session_info
from trio_broker.actors.will import will_run
from trio_broker.errors import ActorGone, ProtocolError
from trio_broker.protocol.encode import encode, strip_to_fit
from trio_broker.protocol.message import Origin
from trio_broker.protocol.packets import MQTT31, ConnAck, SubAck, UnsubAck, Will
from trio_broker.protocol.reason_codes import ReasonCode
from trio_broker.session.changes import SubscribeChange, UnsubscribeChange
from trio_broker.session.channel import Channel
from trio_broker.session.connect import Terms, connack_properties, terms
from trio_broker.session.session import NEVER, Session
from trio_broker.store.operations import DeleteSession, PutSession

if TYPE_CHECKING:
    from trio_broker.actors.connection import Connection
    from trio_broker.actors.core import Core
    from trio_broker.actors.timers import Timer

log = logging.getLogger("trio_broker.session")

MAILBOX = 10_000


class SessionActor(Actor):
    """`persistent`: the session outlives its connection, so the store has to know of it.

    `hungry`: retained messages wait for room in the mqueue.
    """

    def __init__(self, core: Core, client_id: str) -> None:
        super().__init__(f"session {client_id!r}", MAILBOX)
        self.core = core
        self.client_id = client_id
        self.username: str | None = None
        self.session: Session | None = None
        self.connection: Connection | None = None
        self.terms: Terms | None = None
        self.persistent = False
        self.hungry = False
        self.peer: ConnectionInfo | None = None
        self.connected_at = 0
        self.disconnected_at: int | None = None
        self._origin = Origin(client_id)
        self._online = False
        self._will: Will | None = None
        self.watching_rel = False
        self._rel_timer: Timer | None = None
        self._will_timer: Timer | None = None
        self._expiry_timer: Timer | None = None
        self._generation = 0  # counts connections: a timer of an older one is void
        self._feed = RetainedFeed(core.retainer)
        self._told_offline = False  # the router notes that this recipient has no connection
        self._ended = False  # the session is over, and with it this actor
        self._asks_again = False  # a busy retainer will be asked again in a moment

    def restore(self, kept: PutSession, now: float) -> None:
        """Take up a session that a store kept, before the task runs; its expiry goes on."""
        core = self.core
        self.username = kept.username
        self._origin = Origin(self.client_id, kept.username)
        self.session = Session(self.client_id, core.limits, core.meter, kept.created_at)
        self.session.expiry_interval = kept.expiry_interval
        self.persistent = True
        self._told_offline = True
        core.meter.move_gauge("sessions", 1)
        generation = self._generation
        if kept.expires_at is not None:
            deadline = core.clock.trio_time(kept.expires_at)
        elif kept.expiry_interval != NEVER:
            deadline = now + kept.expiry_interval  # it was connected when the broker ended
        else:
            return
        self._expiry_timer = self._later(deadline, ExpiryDue(generation))

    # -- the task -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Handle the mailbox until there is neither a session nor a message any more."""
        try:
            while True:
                item = await self.receive()
                while True:
                    if type(item) is list:
                        self._deliver(item)
                    else:
                        await self._handle(item)
                    try:
                        item = self._receive.receive_nowait()
                    except trio.WouldBlock:
                        break
                item = None  # what was handled is not kept while there is nothing to do
                await self._catch_up()
                if self.session is None:
                    break
        except Exception:
            log.exception("the session of client %r failed and ends", self.client_id)
            if self.connection is not None:
                self.connection.fail(ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR, "internal error")
                self.connection = None
            self._disconnected(ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR, "internal error")
            await self._end_session(forget=False)
        finally:
            self._cancel_timers()
            self._stop_watching_rel()
            self.end()
            self.core.manager.forget(self)

    def end(self) -> None:
        """Close the mailbox; a connection that is still in it goes back to the session manager."""
        for item in self.drain():
            if isinstance(item, Attach):
                self.core.manager.again(item)
            elif isinstance(item, Question):
                item.fail(ActorGone(self.name))
        self._receive.close()

    async def _catch_up(self) -> None:
        """What the connection could not tell because the mailbox was full."""
        connection = self.connection
        if connection is None:
            return
        if connection.ended is not None:
            await self._detached(connection.ended)
        elif self.session is not None and (self.session.congested or self.session.unfinished):
            await self._drained(Drained(connection))

    def remind(self, message: object) -> bool:
        """Tell this actor something that it would find out by itself if it had to; False = it was not told."""
        try:
            self.tell(message)
        except (ActorGone, trio.WouldBlock):
            return False
        return True

    async def _handle(self, item: object) -> None:
        match item:
            case SubscribeChange():
                self._subscribed(item)
            case UnsubscribeChange():
                self._unsubscribed(item)
            case Attach():
                await self._attach(item)
            case Detached():
                await self._detached(item)
            case RetainedPage():
                self._feed.take(item)
                self._feed_retained()
            case RoomAgain():
                self._asks_again = False
                self._feed_retained()
            case Drained():
                await self._drained(item)
            case ExpiryDue():
                if item.generation == self._generation and self.connection is None:
                    log.debug("session of client %r expired", self.client_id)
                    await self._end_session()
            case AwaitRelDue():
                self._expire_awaiting_rel()
            case WillDue():
                if item.generation == self._generation and self.connection is None:
                    await self._publish_will()
            case Kick():
                await self._kick()
                item.answer(True)
            case Fault():
                raise item.error
            case ShutDown():
                await self._shut_down()
            case _ if self.session is None:
                if isinstance(item, Question):
                    item.fail(ActorGone(self.name))
            case AskInfo():
                item.answer(session_info(self))
            case AskQueue():
                item.answer(queue_page(self.session, item.which, item.after, item.limit))
            case AskSubscriptions():
                item.answer(list(self.session.subscriptions.values()))
            case SubscribeFor():
                await self._subscribe_for(item)
            case UnsubscribeFor():
                await self._unsubscribe_for(item)
            case _:
                raise TypeError(f"a session does not know {item!r}")

    # -- messages -----------------------------------------------------------------------------------------------

    def deliver(self, items: list[Any]) -> None:
        """Take what the router has for this session, in the router's own turn; only while `parked`.

        It is the very step that this task would take when it is woken for a message: without waiting, on state that
        nobody works on. Waking a task for each would cost more than the step. A fault ends this session alone.
        """
        try:
            self._deliver(items)
        except Exception as error:  # noqa: BLE001 - it is raised where the task of this session is
            self.remind(Fault(error))

    def _deliver(self, items: list[Any]) -> None:
        session = self.session
        if session is None:
            return  # routed while the session ended
        if self._feed.active:
            self._feed.note_live(items)
        clock = self.core.clock
        now = clock.now()
        out: list[bytes] = []
        session.deliver(items, now, clock.wall_ns(now), out)
        if out:
            self._write(out)

    def _write(self, out: list[bytes]) -> None:
        if self.connection is not None:
            self.connection.write(out[0] if len(out) == 1 else b"".join(out))

    async def _drained(self, item: Drained) -> None:
        session = self.session
        if session is None or item.connection is not self.connection or item.connection.is_congested:
            return  # where it is full again, there will be other news
        session.congested = False
        await self._pump(session, item.connection)
        self._feed_retained()

    async def _pump(self, session: Session, connection: Connection) -> None:
        """Send what waited, a piece at a time."""
        while not connection.over:
            out: list[bytes] = []
            session.pump(self.core.clock.now(), out)
            if out:
                self._write(out)
            if not session.unfinished:
                return
            await trio.lowlevel.checkpoint()

    def tell_drained(self, connection: Connection) -> None:
        """The connection's out-buffer has room again."""
        self.remind(Drained(connection))

    # -- subscriptions ------------------------------------------------------------------------------------------

    def _subscribed(self, change: SubscribeChange) -> None:
        """The router knows the filters: SUBACK [MQTT-3.8.4-1, 3.8.4-6]."""
        meter = self.core.meter
        meter.client_subscribe += sum(subscription is not None for subscription in change.subscriptions)
        self._feed.expect(len(change.retrievals()))
        if not change.packet_identifier or change.connection is not self.connection or self.terms is None:
            return
        if self._answer(SubAck(change.packet_identifier, change.reason_codes)):
            meter.packets_suback_sent += 1

    def _unsubscribed(self, change: UnsubscribeChange) -> None:
        """The router has dropped the filters: UNSUBACK [MQTT-3.10.4-4]."""
        meter = self.core.meter
        meter.client_unsubscribe += len(change.topic_filters)
        if not change.packet_identifier or change.connection is not self.connection or self.terms is None:
            return
        if self._answer(UnsubAck(change.packet_identifier, change.reason_codes)):
            meter.packets_unsuback_sent += 1

    def _answer(self, packet: SubAck | UnsubAck) -> bool:
        """False: it is too large for the client and cannot be left out, so the connection ends [MQTT-3.1.2-24]."""
        assert self.terms is not None
        frame = encode(packet, self.terms.level)
        if len(frame) > self.terms.maximum_packet_size:
            assert self.connection is not None
            self.connection.fail(ReasonCode.PACKET_TOO_LARGE, "its answer is larger than its maximum packet size")
            return False
        self._write([frame])
        self._count_packet()
        return True

    def _count_packet(self) -> None:
        self.core.meter.packets_sent += 1
        if self.session is not None:
            self.session.stats.send_pkt += 1

    async def _subscribe_for(self, item: SubscribeFor) -> None:
        assert self.session is not None
        subscription = item.subscription
        existed = subscription.topic_filter in self.session.subscriptions
        self.session.subscriptions[subscription.topic_filter] = subscription
        change = SubscribeChange(self, 0, [subscription], [existed], [subscription.qos])
        await self.core.router.put([change])
        item.answer(True)

    async def _unsubscribe_for(self, item: UnsubscribeFor) -> None:
        assert self.session is not None
        if self.session.subscriptions.pop(item.topic_filter, None) is not None:
            change = UnsubscribeChange(self, 0, [item.topic_filter], [ReasonCode.SUCCESS])
            await self.core.router.put([change])
        item.answer(True)

    # -- QoS 2 messages that wait for PUBREL ---------------------------------------------------------------------

    def watch_awaiting_rel(self) -> None:
        """The first message began to wait: look again when it has waited for `await_rel_timeout`."""
        session = self.session
        if session is None or math.isinf(session.limits.await_rel_timeout):
            return
        self.watching_rel = True
        oldest = next(iter(session.awaiting_rel.values()))
        self._rel_timer = self._later(oldest + session.limits.await_rel_timeout, AwaitRelDue())

    def _expire_awaiting_rel(self) -> None:
        self.watching_rel = False
        session = self.session
        if session is None or self.connection is None:
            return  # who is away cannot release anything, and will send it again [MQTT-4.3.3-10]
        late = session.expire_awaiting_rel(self.core.clock.now())
        if late:
            log.info("client %r never released %d QoS 2 messages", self.client_id, late)
        if session.awaiting_rel:
            self.watch_awaiting_rel()

    # -- retained messages --------------------------------------------------------------------------------------

    def _feed_retained(self) -> None:
        """Go on with retained messages as far as there is room for them."""
        session = self.session
        if session is None:
            return
        clock = self.core.clock
        now = clock.now()
        out: list[bytes] = []
        if not self._feed.feed(session, now, clock.wall_ns(now), out) and not self._asks_again:
            self._asks_again = True
            self._later(now + BUSY, RoomAgain())
        if out:
            self._write(out)
        self.hungry = self._feed.hungry

    def check_room(self) -> None:
        """Called by the connection after acknowledgements: go on with retained messages when there is room."""
        if self.session is not None and room_for(self.session) and self.remind(RoomAgain()):
            self.hungry = False

    # -- connections --------------------------------------------------------------------------------------------

    async def _attach(self, item: Attach) -> None:
        """A connection for this session: take over, resume, or begin anew [MQTT-3.1.4-3, 3.1.2-4 to 3.1.2-6]."""
        core = self.core
        connection, connect = item.connection, item.connect
        taken = self.connection is not None
        if self.connection is not None:
            old, self.connection = self.connection, None
            log.debug("session of client %r taken over by %s", self.client_id, connection.name)
            if connect.clean_start:
                core.meter.session_discarded += 1
            else:
                core.meter.session_takenover += 1
            old.actor = None
            old.fail(ReasonCode.SESSION_TAKEN_OVER, "session taken over")
            await self._offline(ReasonCode.SESSION_TAKEN_OVER, "session taken over", keep_will=True)
        if connection.over:
            return  # it went away while it waited
        agreed = terms(connect, item.client_id, core.limits)
        if self.session is not None and agreed.clean_start:
            if not taken:
                core.meter.session_discarded += 1
            await self._end_session(discarded=True)
        if self._ended:
            # What is still on its way to the old session must not reach a new one: that gets an actor of its own.
            core.manager.again(item)
            return
        self._cancel_timers()
        self._will = connect.will  # a new connection ends the delay of an old will [MQTT-3.1.3-9]
        self._generation += 1
        now = core.clock.now()
        wall_ms = core.clock.wall_ms(now)
        session = self.session
        present = session is not None
        if session is None:
            session = self.session = Session(self.client_id, core.limits, core.meter, wall_ms)
            core.meter.session_created += 1
            core.meter.move_gauge("sessions", 1)
        else:
            core.meter.session_resumed += 1
        self.connection = connection
        connection.client_id = self.client_id
        self.peer = connection.info
        self.terms = agreed
        self.username = connect.username
        self._origin = Origin(self.client_id, connect.username)
        self.connected_at = wall_ms
        self.disconnected_at = None
        was_persistent = self.persistent
        self.persistent = agreed.session_expiry_interval > 0
        session.expiry_interval = agreed.session_expiry_interval
        session.awaiting_rel = dict.fromkeys(session.awaiting_rel, now)  # it could not release them until now
        session.attach(agreed.level, agreed.receive_maximum, agreed.maximum_packet_size)
        await remember(self, expires_at=None, known=was_persistent)
        channel = Channel(
            session,
            agreed,
            self._origin,
            self,
            connection,
            cached(core.authorizer, self._origin, "publish"),
            cached(core.authorizer, self._origin, "subscribe"),
        )
        properties = connack_properties(connect, agreed, core.limits)
        connack = ConnAck(0, present and agreed.level != MQTT31, properties)
        frame = strip_to_fit(connack, agreed.level, agreed.maximum_packet_size)
        if frame is None or connection.over:
            if frame is None:
                error = ProtocolError(ReasonCode.PACKET_TOO_LARGE, "CONNACK does not fit into its maximum packet size")
                connection.refuse(error, answer=False)
            # Else it was refused while the store was busy. The session stays; the will was never in force.
            self.connection = None
            await self._offline(ReasonCode.UNSPECIFIED_ERROR, "refused", keep_will=False)
            return
        out = [frame]
        session.expire_queued(now)
        session.pump(now, out)
        connection.write(out[0] if len(out) == 1 else b"".join(out))
        self._online = True
        self._count_packet()
        announce_connected(self, connection, agreed, present)
        step = core.step(now)
        connection.attached(channel, self, step)
        core.next_message_id = step.next_message_id
        if step.routed:
            await core.router.put(step.routed)
        if self._told_offline:
            self._told_offline = False
            await core.router.put(Online(self, True))
        if session.unfinished:
            await self._pump(session, connection)
        if self.hungry:
            self._feed_retained()

    def _disconnected(self, reason_code: int, reason: str) -> None:
        """Once for each time the client was connected."""
        if self._online:
            self._online = False
            announce_disconnected(self, reason_code, reason)

    async def _detached(self, item: Detached) -> None:
        if item.connection is not self.connection:
            return  # an older one; it was dealt with at the takeover
        self.connection = None
        session = self.session
        if session is not None and item.session_expiry_interval is not None:
            session.expiry_interval = item.session_expiry_interval
        proper = item.reason == "DISCONNECT" and item.reason_code == ReasonCode.SUCCESS
        await self._offline(item.reason_code, item.reason, keep_will=not proper)

    async def _offline(self, reason_code: int, reason: str, *, keep_will: bool) -> None:
        """The network connection is over: will, session expiry [MQTT-3.1.2-8, 3.1.2-10, 4.1.0-2]."""
        core = self.core
        session = self.session
        if session is None:
            return
        self._disconnected(reason_code, reason)
        session.detach()
        now = core.clock.now()
        self.disconnected_at = core.clock.wall_ms(now)
        if not keep_will:
            self._will = None
        expiry = session.expiry_interval
        if expiry == 0:
            await self._end_session()
            return
        generation = self._generation
        if self._will is not None:
            delay = self._will.properties.get("will_delay_interval", 0)
            if delay == 0:
                await self._publish_will()
            elif delay < expiry:
                self._will_timer = self._later(now + delay, WillDue(generation))
        if expiry != NEVER:
            self._expiry_timer = self._later(now + expiry, ExpiryDue(generation))
        await remember(self, expires_at=None if expiry == NEVER else core.clock.wall_ms(now + expiry))
        self._told_offline = True
        await core.router.put(Online(self, False))

    async def _publish_will(self) -> None:
        """[MQTT-3.1.2-8, 3.1.2-14, 3.1.2-15]; its expiry begins now."""
        will, self._will = self._will, None
        if will is None:
            return
        core = self.core
        if core.authorizer is not None and not core.authorizer.authorize(self._origin, "publish", will.topic_name):
            log.info("will of client %r on %r is not authorized", self.client_id, will.topic_name)
            return
        await core.router.put([will_run(core, will, self._origin)])

    async def _end_session(self, *, forget: bool = True, discarded: bool = False) -> None:
        """The session is over: its will goes out [MQTT-3.1.2-8], the router and (`forget`) the store forget it."""
        if self.session is None:
            return
        core = self.core
        await self._publish_will()
        self._cancel_timers()
        self._stop_watching_rel()
        subscribed = bool(self.session.subscriptions)
        self.session = None
        self._ended = True
        self._feed.clear()
        self.hungry = False
        if not discarded:
            core.meter.session_terminated += 1
        core.meter.move_gauge("sessions", -1)
        if subscribed or self._told_offline:
            self._told_offline = False
            await core.router.put(Gone(self))
        if forget and self.persistent and core.store.keeps:
            core.store.write(DeleteSession(self.client_id))
        self.persistent = False

    async def _kick(self) -> None:
        """By an administrator: connection and session end, the will as after any abnormal end."""
        if self.connection is not None:
            connection, self.connection = self.connection, None
            connection.actor = None
            connection.fail(ReasonCode.ADMINISTRATIVE_ACTION, "kicked out")
            if self.session is not None:
                self.session.expiry_interval = 0
            await self._offline(ReasonCode.ADMINISTRATIVE_ACTION, "kicked out", keep_will=True)
        await self._end_session()

    async def _shut_down(self) -> None:
        """The broker ends. Without a store that keeps it, a will would be lost: it goes out now."""
        if self.connection is not None:
            connection, self.connection = self.connection, None
            connection.actor = None
            connection.fail(ReasonCode.SERVER_SHUTTING_DOWN, "the broker shuts down")
        if self.session is not None:
            await self._publish_will()
            self._cancel_timers()
            if not (self.persistent and self.core.store.keeps):
                await self._end_session()
            self.session = None

    def _later(self, deadline: float, message: object) -> Timer:
        """Tell this actor something at a Trio time."""

        def remind() -> None:
            if not self.remind(message):
                log.error("the session of client %r is too busy to be told of %r", self.client_id, message)

        return self.core.timers.at(deadline, remind)

    def _cancel_timers(self) -> None:
        for timer in (self._will_timer, self._expiry_timer):
            if timer is not None:
                timer.cancel()
        self._will_timer = self._expiry_timer = None

    def _stop_watching_rel(self) -> None:
        self.watching_rel = False
        if self._rel_timer is not None:
            self._rel_timer.cancel()
            self._rel_timer = None
