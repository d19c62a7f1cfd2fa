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

from trio_broker.actors.actor import Fault, Question
from trio_broker.actors.announce import announce_disconnected
from trio_broker.actors.attach import attach
from trio_broker.actors.authorizing import ask_for_will, forget_decision, show_decisions, subject_of, will_allowed
from trio_broker.actors.fetch import Fetched, answer_page, fetch, forget_rows, pass_on
from trio_broker.actors.gate import ConnectionInfo
from trio_broker.actors.journal import SessionJournal
from trio_broker.actors.messages import (
    After,
    AskDecisions,
    AskInfo,
    AskQueue,
    AskSubscriptions,
    Attach,
    AwaitRelDue,
    ClockSet,
    Detached,
    Drained,
    EndConnection,
    ExpiryDue,
    ForgetDecision,
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
from trio_broker.actors.session_ends import clock_was_set, end_connection, kick, shut_down
from trio_broker.actors.session_subscriptions import subscribe_for, subscribed, unsubscribe_for, unsubscribed
from trio_broker.actors.session_view import show
from trio_broker.actors.will import will_run
from trio_broker.errors import ActorGone, ProtocolError
from trio_broker.protocol.message import Origin
from trio_broker.protocol.packets import Will
from trio_broker.protocol.reason_codes import ReasonCode
from trio_broker.session.changes import SubscribeChange, UnsubscribeChange
from trio_broker.session.connect import Terms
from trio_broker.session.info import QueuePage
from trio_broker.session.session import NEVER, Session

if TYPE_CHECKING:
    from trio_broker.access.asking import Subject
    from trio_broker.access.authentication import Verdict
    from trio_broker.actors.connection import Connection
    from trio_broker.actors.core import Core
    from trio_broker.actors.timers import Timer
    from trio_broker.actors.trace_marks import SessionTrace
    from trio_broker.store.fabric import Claim

log = logging.getLogger("trio_broker.session")


class SessionActor(OnDemandActor):
    """`journal`: there is one where the session outlives the process, so that the store has to know of it.

    `hungry`: retained messages wait for room in the mqueue. `expires_at` and `will_at` are wall clock (milliseconds),
    None while there is a connection. `claim` is the right to the client identifier.
    """

    __slots__ = (
        "_asks_again",
        "_feed",
        "_rel_timer",
        "claim",
        "client_id",
        "connected_at",
        "connection",
        "core",
        "disconnected_at",
        "expires_at",
        "expiry_timer",
        "generation",
        "hungry",
        "is_gone",
        "journal",
        "online",
        "origin",
        "peer",
        "session",
        "terms",
        "told_offline",
        "trace",
        "username",
        "verdict",
        "watching_rel",
        "will",
        "will_at",
        "will_timer",
    )

    def __init__(self, core: Core, client_id: str) -> None:
        super().__init__(core.sessions_nursery)
        self.core = core
        self.client_id = client_id
        self.username: str | None = None
        self.session: Session | None = None
        self.connection: Connection | None = None
        self.terms: Terms | None = None
        self.journal: SessionJournal | None = None
        self.claim: Claim | None = None
        self.hungry = False
        self.peer: ConnectionInfo | None = None
        self.connected_at = 0
        self.disconnected_at: int | None = None
        self.origin = Origin(client_id)
        self.online = False
        self.trace: SessionTrace | None = None  # there is one while somebody traces this client
        self.verdict: Verdict | None = None  # None: its client has not come back since the broker was started
        self.will: Will | None = None
        self.will_at: int | None = None
        self.expires_at: int | None = None
        self.watching_rel = False
        self._rel_timer: Timer | None = None
        self.will_timer: Timer | None = None
        self.expiry_timer: Timer | None = None
        self.generation = 0  # counts connections: a timer of an older one is void
        self._feed: RetainedFeed | None = None  # there is one while retained messages are on their way
        self.told_offline = False  # the router notes that this recipient has no connection
        self.is_gone = False  # the session is over, and with it this actor
        self._asks_again = False  # a busy retainer will be asked again in a moment

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

    def subject(self) -> Subject:
        """Who its client is, for authorization."""
        return subject_of(self)

    def is_over(self) -> bool:
        return self.session is None

    def failed(self, error: Exception) -> None:
        """The client is disconnected. What is stored of its session stays for its next connection."""
        log.error("the session of client %r failed", self.client_id, exc_info=error)
        was_connected = self.connection is not None
        if self.connection is not None:
            connection, self.connection = self.connection, None
            connection.actor = None
            connection.fail(ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR, "internal error")
        if self.journal is not None:
            try:
                self._feed = None
                self.hungry = False
                if was_connected:
                    self.offline(ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR, "internal error", keep_will=True)
            except Exception:
                log.exception(
                    "the session of client %r cannot go on; the next start has it as it is stored", self.client_id
                )
            else:
                return
        self._disconnected(ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR, "internal error")
        self.end_session(forget=False)

    def ended(self, unread: list[Any]) -> None:
        """A connection that still was in the mailbox goes back to the session manager."""
        self.cancel_timers()
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
                try:
                    return attach(self, message)
                except Exception:
                    reason_code = ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR
                    message.connection.refuse(ProtocolError(reason_code, "internal error"))
                    raise
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
                self.feed_retained()
            case Drained():
                return self._drained(message)
            case Fetched():
                return self._fetched(message)
            case ExpiryDue():
                if message.generation == self.generation and self.connection is None:
                    log.debug("session of client %r expired", self.client_id)
                    self.end_session()
            case AwaitRelDue():
                self._expire_awaiting_rel()
            case WillDue():
                if message.generation == self.generation and self.connection is None:
                    self._publish_will()
            case Kick():
                kick(self, message)
            case Fault():
                raise message.error
            case ClockSet():
                clock_was_set(self)
            case After():
                message.call()
            case ShutDown():
                shut_down(self)
            case _ if self.session is None:
                if isinstance(message, Question):
                    message.fail(ActorGone(self.name))
            case AskInfo() | AskQueue() | AskSubscriptions():
                show(self, message)
            case AskDecisions():
                show_decisions(self, message)
            case ForgetDecision():
                forget_decision(self, message)
            case EndConnection():
                end_connection(self, message)
            case SubscribeFor():
                subscribe_for(self, message)
            case UnsubscribeFor():
                unsubscribe_for(self, message)
            case _:
                raise TypeError(f"a session does not know {message!r}")
        return None

    # -- messages -----------------------------------------------------------------------------------------------

    def deliver(self, items: list[Any], now: float, inserted_at_ns: int) -> None:
        """Take what the router has for this session, in the router's own turn; only while `open`.

        The same as telling it, for less. A fault ends this session alone.
        """
        if self.trace is not None and self.trace.takes(self, items, now, inserted_at_ns):
            return
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

    def changed(self, change: SubscribeChange | UnsubscribeChange) -> None:
        """The router knows a change of the subscriptions. In its turn, as `deliver`."""
        try:
            if isinstance(change, SubscribeChange):
                subscribed(self, change)
            else:
                unsubscribed(self, change)
        except Exception as error:  # noqa: BLE001 - it ends this session, is logged, and stops nobody else
            self.remind(Fault(error))

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
            return self.pump_on
        self.feed_retained()
        return None

    def _pump(self, session: Session) -> None:
        """Send some of what waited."""
        out: list[bytes] = []
        session.pump(self.core.clock.now(), out)
        if out:
            self.write(out)
        if session.mqueue.tail is not None:
            self.fetch()

    async def pump_on(self) -> None:
        """Send the rest of it, a piece at a time, so that others have their turn."""
        connection = self.connection
        while True:
            await self.pause(trio.lowlevel.checkpoint)
            session = self.session
            if session is None or connection is None or connection is not self.connection or connection.over:
                return
            self._pump(session)
            if not session.unfinished:
                self.feed_retained()
                return

    # -- a queue that is too long for memory ---------------------------------------------------------------------

    def fetch(self) -> None:
        """Get more of the queue out of the store if it is needed."""
        session = self.session
        if session is None or self.connection is None:
            return
        rows = session.mqueue.wanted()
        if rows:
            self.core.sessions_nursery.start_soon(fetch, self, session, rows)

    def _fetched(self, page: Fetched) -> Rest | None:
        session = self.session
        if session is None or session is not page.session:
            return None
        if page.copies is None:
            session.mqueue.fetched([], [])
            self.fetch()
        else:
            session.queued_qos0 += session.mqueue.fetched(page.copies, page.rows)
            self._pump(session)
        return self.pump_on if session.unfinished else None

    async def answer_page(self, question: AskQueue, page: QueuePage, rows: list[int]) -> None:
        """Some of what was asked for lies in the store. A task of its own."""
        await answer_page(self.core, question, page, rows)

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
        self._rel_timer = self.later(oldest + session.limits.await_rel_timeout, AwaitRelDue())

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
            self.feed_retained()

    def feed_retained(self) -> None:
        """Go on with retained messages as far as there is room for them."""
        session = self.session
        if session is None or self._feed is None:
            return
        clock = self.core.clock
        now = clock.now()
        out: list[bytes] = []
        if not self._feed.feed(session, now, clock.wall_ns(now), out) and not self._asks_again:
            self._asks_again = True
            self.later(now + BUSY, RoomAgain())
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

    def _disconnected(self, reason_code: int, reason: str) -> None:
        """Once for each time the client was connected."""
        if self.online:
            self.online = False
            announce_disconnected(self, reason_code, reason)

    def _detached(self, item: Detached) -> None:
        if item.connection is not self.connection:
            return  # an older one; it was dealt with at the takeover
        self.connection = None
        session = self.session
        if session is not None and item.session_expiry_interval is not None:
            session.expiry_interval = item.session_expiry_interval
        proper = item.reason == "DISCONNECT" and item.reason_code == ReasonCode.SUCCESS
        self.offline(item.reason_code, item.reason, keep_will=not proper)

    def offline(self, reason_code: int, reason: str, *, keep_will: bool) -> None:
        """The network connection is over: will, session expiry [MQTT-3.1.2-8, 3.1.2-10, 4.1.0-2]."""
        core = self.core
        session = self.session
        if session is None:
            return
        self._disconnected(reason_code, reason)
        if self.trace is not None:
            core.tracing.look_at_session(self)
        session.detach()
        now = core.clock.now()
        self.disconnected_at = core.clock.wall_ms(now)
        if not keep_will:
            self.will = None
        if session.expiry_interval == 0:
            self.end_session()
            return
        if self.will is not None and not self.will.properties.get("will_delay_interval", 0):
            self._publish_will()
        self.begin_absence(now)
        remember(self)
        self.told_offline = True
        core.router.take([Online(self, False)])

    def begin_absence(self, now: float) -> None:
        """The time until the will and the end of the session runs."""
        session, core = self.session, self.core
        assert session is not None
        expiry = session.expiry_interval
        wall_ms = core.clock.wall_ms
        if expiry != NEVER:
            self.expires_at = wall_ms(now + expiry)
            self.expiry_timer = self.later(now + expiry, ExpiryDue(self.generation))
        if self.will is not None:
            delay = self.will.properties.get("will_delay_interval", 0)
            if delay < expiry:  # else it goes out when the session ends
                self.will_at = wall_ms(now + delay)
                self.will_timer = self.later(now + delay, WillDue(self.generation))

    def _publish_will(self) -> None:
        """[MQTT-3.1.2-8, 3.1.2-14, 3.1.2-15]; its expiry begins now."""
        will, self.will = self.will, None
        self.will_at = None
        if will is None:
            return
        subject = subject_of(self)  # as it is now: somebody else may take the session over while a source is asked
        allowed = will_allowed(self, subject, will)
        if allowed is None:
            self.core.sessions_nursery.start_soon(ask_for_will, self, subject, will)
        else:
            self.route_will(will, allowed, subject.origin)

    def route_will(self, will: Will, allowed: bool, origin: Origin) -> None:
        """It goes out, if it may."""
        if not allowed:
            log.info("will of client %r on %r is not authorized", self.client_id, will.topic_name)
            return
        # The store forgets the will in the batch that has its message.
        core = self.core
        core.router.take([will_run(core, will, origin), After(partial(remember, self))])

    def end_session(self, *, forget: bool = True, discarded: bool = False) -> None:
        """The session is over: its will goes out [MQTT-3.1.2-8], the router and (`forget`) the store forget it."""
        if self.session is None:
            return
        core = self.core
        if core.tracing.active:
            core.tracing.session_event(self, "session_discarded" if discarded else "session_terminated")
        self._publish_will()
        self.cancel_timers()
        self._stop_watching_rel()
        session, journal = self.session, self.journal
        subscribed, left = bool(session.subscriptions), session.left_to_others()
        self.session = self.journal = session.journal = None
        self.is_gone = True
        self._feed = None
        self.hungry = False
        if not discarded:
            core.meter.session_terminated += 1
        core.meter.move_gauge("sessions", -1)
        entries: list[Any] = []
        if subscribed or self.told_offline or left:
            self.told_offline = False
            entries.append(Gone(self, left))
        if journal is not None:
            journal.is_over = True
            if forget:
                # Behind the will and what is for others of a group: it is gone when they are kept.
                entries.append(After(partial(self._forget, journal, session)))
        if entries:
            core.router.take(entries)

    def _forget(self, journal: SessionJournal, session: Session) -> None:
        journal.end(session)
        tail = session.mqueue.tail
        if tail is not None:
            work = pass_on if tail.shared else forget_rows
            self.core.sessions_nursery.start_soon(work, self.core, *tail.all())

    def has_expired(self, now: float) -> bool:
        """Is its time over, though nobody has said so yet?"""
        return self.connection is None and self.expiry_timer is not None and self.expiry_timer.deadline <= now

    def later(self, deadline: float, message: object) -> Timer:
        """Tell this actor something at a Trio time."""

        def remind() -> None:
            if not self.remind(message):
                log.error("the session of client %r is too busy to be told of %r", self.client_id, message)

        return self.core.timers.at(deadline, remind)

    def cancel_timers(self) -> None:
        for timer in (self.will_timer, self.expiry_timer):
            if timer is not None:
                timer.cancel()
        self.will_timer = self.expiry_timer = None

    def _stop_watching_rel(self) -> None:
        self.watching_rel = False
        if self._rel_timer is not None:
            self._rel_timer.cancel()
            self._rel_timer = None
