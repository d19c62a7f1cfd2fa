"""The session actor: one client identifier, from its first connection until its session has expired.

Invariant: one connection at a time; a session that ends is out of the router before the next one of the same client
identifier begins. A fault in here ends this client alone.
"""

from __future__ import annotations

import logging
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from trio_broker.access.authorization import cached
from trio_broker.actors.actor import Fault, Question
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
from trio_broker.actors.on_demand import OnDemandActor, Rest
from trio_broker.actors.remember import remember
from trio_broker.actors.retained_feed import BUSY, RetainedFeed, room_for
from trio_broker.actors.session_subscriptions import subscribe_for, subscribed, unsubscribe_for, unsubscribed
from trio_broker.actors.session_view import show
from trio_broker.actors.will import will_run
from trio_broker.errors import ActorGone, ProtocolError
from trio_broker.protocol.message import Origin
from trio_broker.protocol.packets import Will
from trio_broker.protocol.reason_codes import ReasonCode
from trio_broker.session.changes import SubscribeChange, UnsubscribeChange
from trio_broker.session.channel import Channel
from trio_broker.session.connect import Terms, connack_frame, terms
from trio_broker.session.session import NEVER, Session
from trio_broker.store.operations import DeleteSession, PutSession

if TYPE_CHECKING:
    from trio_broker.actors.connection import Connection
    from trio_broker.actors.core import Core
    from trio_broker.actors.timers import Timer
    from trio_broker.store.ticket import Ticket

log = logging.getLogger("trio_broker.session")


class SessionActor(OnDemandActor):
    """`persistent`: the session outlives its connection, so the store has to know of it.

    `hungry`: retained messages wait for room in the mqueue.
    """

    __slots__ = (
        "_asks_again",
        "_ended",
        "_expiry_timer",
        "_feed",
        "_generation",
        "_online",
        "_origin",
        "_rel_timer",
        "_told_offline",
        "_will",
        "_will_timer",
        "client_id",
        "connected_at",
        "connection",
        "core",
        "disconnected_at",
        "hungry",
        "peer",
        "persistent",
        "session",
        "terms",
        "username",
        "watching_rel",
    )

    def __init__(self, core: Core, client_id: str) -> None:
        super().__init__(core.sessions_nursery)
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
        self._feed: RetainedFeed | None = None  # there is one while retained messages are on their way
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

    @property
    def name(self) -> str:
        return f"session {self.client_id!r}"

    # -- an actor on demand -------------------------------------------------------------------------------------

    def settled(self) -> Rest | None:
        """What the connection could not tell because the mailbox was full."""
        connection = self.connection
        if connection is None:
            return None
        if connection.ended is not None:
            self._detached(Detached(connection, *connection.ended))
        elif self.session is not None and (self.session.congested or self.session.unfinished):
            return self._drained(Drained(connection))
        return None

    def is_over(self) -> bool:
        return self.session is None

    def failed(self, error: Exception) -> None:
        log.error("the session of client %r failed and ends", self.client_id, exc_info=error)
        if self.connection is not None:
            connection, self.connection = self.connection, None
            connection.actor = None
            connection.fail(ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR, "internal error")
        self._disconnected(ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR, "internal error")
        self._end_session(forget=False)

    def ended(self, unread: list[Any]) -> None:
        """A connection that still was in the mailbox goes back to the session manager."""
        self._cancel_timers()
        self._stop_watching_rel()
        for message in unread:
            if isinstance(message, Attach):
                self.core.manager.again(message)
        self.core.manager.forget(self)

    def remind(self, message: object) -> bool:
        """Tell this actor something that it would find out by itself if it had to; False = it was not told."""
        try:
            self.tell(message)
        except (ActorGone, trio.WouldBlock):
            return False
        return True

    def handle(self, message: object) -> Rest | None:
        match message:
            case list():
                self._deliver(message)
            case Attach():
                return self._attach(message)
            case Detached():
                self._detached(message)
            case SubscribeChange():
                subscribed(self, message)
            case UnsubscribeChange():
                unsubscribed(self, message)
            case RetainedPage():
                self._page(message)
            case RoomAgain():
                self._asks_again = False
                self._feed_retained()
            case Drained():
                return self._drained(message)
            case ExpiryDue():
                if message.generation == self._generation and self.connection is None:
                    log.debug("session of client %r expired", self.client_id)
                    self._end_session()
            case AwaitRelDue():
                self._expire_awaiting_rel()
            case WillDue():
                if message.generation == self._generation and self.connection is None:
                    self._publish_will()
            case Kick():
                self._kick()
                message.answer(True)
            case Fault():
                raise message.error
            case ShutDown():
                self._shut_down()
            case _ if self.session is None:
                if isinstance(message, Question):
                    message.fail(ActorGone(self.name))
            case AskInfo() | AskQueue() | AskSubscriptions():
                show(self, message)
            case SubscribeFor():
                subscribe_for(self, message)
            case UnsubscribeFor():
                unsubscribe_for(self, message)
            case _:
                raise TypeError(f"a session does not know {message!r}")
        return None

    # -- messages -----------------------------------------------------------------------------------------------

    def deliver(self, items: list[Any], now: float, inserted_at_ns: int) -> None:
        """Take what the router has for this session, in the router's own turn; only while `parked`.

        The same as telling it, for less. A fault ends this session alone.
        """
        try:
            session = self.session
            if session is None:
                return
            if self._feed is not None and self._feed.active:
                self._feed.note_live(items)
            out: list[bytes] = []
            session.deliver(items, now, inserted_at_ns, out)
            if out and self.connection is not None:
                self.connection.write(out[0] if len(out) == 1 else b"".join(out))
        except Exception as error:  # noqa: BLE001 - it ends this session, is logged, and stops nobody else
            self.remind(Fault(error))

    def _deliver(self, items: list[Any]) -> None:
        """The same when it comes out of the mailbox."""
        clock = self.core.clock
        now = clock.now()
        self.deliver(items, now, clock.wall_ns(now))

    def write(self, out: list[bytes]) -> None:
        if self.connection is not None:
            self.connection.write(out[0] if len(out) == 1 else b"".join(out))

    def _drained(self, item: Drained) -> Rest | None:
        session = self.session
        if session is None or item.connection is not self.connection or item.connection.is_congested:
            return None  # where it is full again, there will be other news
        session.congested = False
        self._pump(session)
        if session.unfinished:
            return self._pump_on
        self._feed_retained()
        return None

    def _pump(self, session: Session) -> None:
        """Send some of what waited."""
        out: list[bytes] = []
        session.pump(self.core.clock.now(), out)
        if out:
            self.write(out)

    async def _pump_on(self) -> None:
        """Send the rest of it, a piece at a time, so that others have their turn."""
        connection = self.connection
        while True:
            await trio.lowlevel.checkpoint()
            session = self.session
            if session is None or connection is None or connection is not self.connection or connection.over:
                return
            self._pump(session)
            if not session.unfinished:
                self._feed_retained()
                return

    def tell_drained(self, connection: Connection) -> None:
        """The connection's out-buffer has room again."""
        self.remind(Drained(connection))

    def count_packet(self) -> None:
        """A packet other than PUBLISH goes out."""
        if self.session is not None:
            self.session.stats.send_pkt += 1

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

    def expect_retained(self, subscriptions: int) -> None:
        """The retainer was asked for the messages of so many new subscriptions."""
        if self._feed is None:
            self._feed = RetainedFeed(self.core.retainer)
        self._feed.expect(subscriptions)

    def _page(self, page: RetainedPage) -> None:
        if self._feed is not None:
            self._feed.take(page)
            self._feed_retained()

    def _feed_retained(self) -> None:
        """Go on with retained messages as far as there is room for them."""
        session = self.session
        if session is None or self._feed is None:
            return
        clock = self.core.clock
        now = clock.now()
        out: list[bytes] = []
        if not self._feed.feed(session, now, clock.wall_ns(now), out) and not self._asks_again:
            self._asks_again = True
            self._later(now + BUSY, RoomAgain())
        if out:
            self.write(out)
        self.hungry = self._feed.hungry
        if self._feed.is_done:
            self._feed = None

    def check_room(self) -> None:
        """Called by the connection after acknowledgements: go on with retained messages when there is room."""
        if self.session is not None and room_for(self.session):
            self.hungry = False  # the step that begins here may find that it still is
            if not self.remind(RoomAgain()):
                self.hungry = True

    # -- connections --------------------------------------------------------------------------------------------

    def _attach(self, item: Attach) -> Rest | None:
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
            self._offline(ReasonCode.SESSION_TAKEN_OVER, "session taken over", keep_will=True)
        if connection.over:
            return None  # it went away while it waited
        agreed = terms(connect, item.client_id, core.limits)
        if self.session is not None and agreed.clean_start:
            if not taken:
                core.meter.session_discarded += 1
            self._end_session(discarded=True)
        if self._ended:
            # What is still on its way to the old session must not reach a new one: that gets an actor of its own.
            core.manager.again(item)
            return None
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
        ticket = remember(self, expires_at=None, known=was_persistent)
        if ticket is not None and not ticket.done:
            return partial(self._welcome_when, ticket, item, agreed, present)
        return self._welcome(item, agreed, present)

    async def _welcome_when(self, ticket: Ticket, item: Attach, agreed: Terms, present: bool) -> None:
        """What the CONNACK promises has to be durable first."""
        await ticket.wait()
        rest = self._welcome(item, agreed, present)
        if rest is not None:
            await rest()

    def _welcome(self, item: Attach, agreed: Terms, present: bool) -> Rest | None:
        """CONNACK, what is inflight again, what waited [MQTT-3.2.0-1, 4.4.0-1]."""
        core = self.core
        session = self.session
        connection, connect = item.connection, item.connect
        assert session is not None
        channel = Channel(
            session,
            agreed,
            self._origin,
            self,
            connection,
            cached(core.authorizer, self._origin, "publish"),
            cached(core.authorizer, self._origin, "subscribe"),
        )
        frame = connack_frame(connect, agreed, core.limits, present, item.verdict.data)
        if frame is None or connection.over:
            if frame is None:
                error = ProtocolError(ReasonCode.PACKET_TOO_LARGE, "CONNACK does not fit into its maximum packet size")
                connection.refuse(error, answer=False)
            # Else it was refused while the store was busy. The session stays; the will was never in force.
            self.connection = None
            self._offline(ReasonCode.UNSPECIFIED_ERROR, "refused", keep_will=False)
            return None
        now = core.clock.now()
        out = [frame]
        session.expire_queued(now)
        session.pump(now, out)
        connection.write(out[0] if len(out) == 1 else b"".join(out))
        self._online = True
        self.count_packet()
        announce_connected(self, connection, agreed, present)
        step = core.step(now)
        connection.attached(channel, self, step)
        core.hand_on(step)
        if self._told_offline:
            self._told_offline = False
            core.router.take([Online(self, True)])
        if session.unfinished:
            return self._pump_on
        if self.hungry:
            self._feed_retained()
        return None

    def _disconnected(self, reason_code: int, reason: str) -> None:
        """Once for each time the client was connected."""
        if self._online:
            self._online = False
            announce_disconnected(self, reason_code, reason)

    def _detached(self, item: Detached) -> None:
        if item.connection is not self.connection:
            return  # an older one; it was dealt with at the takeover
        self.connection = None
        session = self.session
        if session is not None and item.session_expiry_interval is not None:
            session.expiry_interval = item.session_expiry_interval
        proper = item.reason == "DISCONNECT" and item.reason_code == ReasonCode.SUCCESS
        self._offline(item.reason_code, item.reason, keep_will=not proper)

    def _offline(self, reason_code: int, reason: str, *, keep_will: bool) -> None:
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
            self._end_session()
            return
        generation = self._generation
        if self._will is not None:
            delay = self._will.properties.get("will_delay_interval", 0)
            if delay == 0:
                self._publish_will()
            elif delay < expiry:
                self._will_timer = self._later(now + delay, WillDue(generation))
        if expiry != NEVER:
            self._expiry_timer = self._later(now + expiry, ExpiryDue(generation))
        remember(self, expires_at=None if expiry == NEVER else core.clock.wall_ms(now + expiry))
        self._told_offline = True
        core.router.take([Online(self, False)])

    def _publish_will(self) -> None:
        """[MQTT-3.1.2-8, 3.1.2-14, 3.1.2-15]; its expiry begins now."""
        will, self._will = self._will, None
        if will is None:
            return
        core = self.core
        if core.authorizer is not None and not core.authorizer.authorize(self._origin, "publish", will.topic_name):
            log.info("will of client %r on %r is not authorized", self.client_id, will.topic_name)
            return
        core.router.take([will_run(core, will, self._origin)])

    def _end_session(self, *, forget: bool = True, discarded: bool = False) -> None:
        """The session is over: its will goes out [MQTT-3.1.2-8], the router and (`forget`) the store forget it."""
        if self.session is None:
            return
        core = self.core
        self._publish_will()
        self._cancel_timers()
        self._stop_watching_rel()
        subscribed, left = bool(self.session.subscriptions), self.session.left_to_others()
        self.session = None
        self._ended = True
        self._feed = None
        self.hungry = False
        if not discarded:
            core.meter.session_terminated += 1
        core.meter.move_gauge("sessions", -1)
        if subscribed or self._told_offline or left:
            self._told_offline = False
            core.router.take([Gone(self, left)])
        if forget and self.persistent and core.store.keeps:
            core.store.write(DeleteSession(self.client_id))
        self.persistent = False

    def _kick(self) -> None:
        """By an administrator: connection and session end, the will as after any abnormal end."""
        if self.connection is not None:
            connection, self.connection = self.connection, None
            connection.actor = None
            connection.fail(ReasonCode.ADMINISTRATIVE_ACTION, "kicked out")
            if self.session is not None:
                self.session.expiry_interval = 0
            self._offline(ReasonCode.ADMINISTRATIVE_ACTION, "kicked out", keep_will=True)
        self._end_session()

    def _shut_down(self) -> None:
        """The broker ends. Without a store that keeps it, a will would be lost: it goes out now."""
        if self.connection is not None:
            connection, self.connection = self.connection, None
            connection.actor = None
            connection.fail(ReasonCode.SERVER_SHUTTING_DOWN, "the broker shuts down")
        if self.session is not None:
            self._publish_will()
            self._cancel_timers()
            if not (self.persistent and self.core.store.keeps):
                self._end_session()
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
