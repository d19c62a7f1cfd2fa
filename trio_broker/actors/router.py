"""The topic router: which session gets which message.

Invariant: runs and subscription changes take effect in the order in which they came into the mailbox; a session gets at
most one item for all that one turn of the router has for it; the router never waits for anybody. A session that is
not in the middle of a step takes its item in the router's turn; else it finds it in its mailbox, behind what is there.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, cast

import trio

from trio_broker.actors.interceptors import Interceptor
from trio_broker.actors.messages import (
    After,
    Flush,
    Gone,
    Online,
    PassOn,
    PublishRuns,
    RetainRuns,
    Retrieve,
    SystemRuns,
    TableQuestion,
)
from trio_broker.actors.resident import ResidentActor
from trio_broker.actors.table_view import show
from trio_broker.errors import ActorGone, StoreError
from trio_broker.protocol.message import Message, Run
from trio_broker.protocol.packets import MQTT5, NO_PROPERTIES
from trio_broker.protocol.reason_codes import ReasonCode
from trio_broker.protocol.topics import parse_topic_filter
from trio_broker.routing.delivery import Delivery
from trio_broker.routing.routing_table import Plan, RoutingTable
from trio_broker.routing.shared_group import SharedGroup
from trio_broker.routing.subscription import Subscription
from trio_broker.session.changes import Answer, SubscribeChange, UnsubscribeChange
from trio_broker.session.pressure import CRITICAL
from trio_broker.store.operations import MAX_MESSAGE_ID, DeleteRetained, PutRetained

if TYPE_CHECKING:
    from trio_broker.actors.connection import Connection
    from trio_broker.actors.core import Core
    from trio_broker.actors.journal import SessionJournal

log = logging.getLogger("trio_broker.router")

# Batches the mailbox holds before readers have to wait.
MAILBOX = 256
# Subscriptions that are taken out before others have their turn.
REMOVALS_A_TURN = 256


class Recipient(Protocol):
    """Whoever gets messages: a session actor or a subscriber inside the program."""

    client_id: str
    journal: SessionJournal | None
    """There is one where messages have to survive a restart."""
    open: bool
    """It is not in the middle of a step."""
    is_gone: bool
    """It has ended, and takes nothing any more."""

    def deliver(self, items: list[tuple[Delivery[Any], Run]], now: float, inserted_at_ns: int) -> None:
        """Take these now; allowed only while `open`. Trio time, wall clock in nanoseconds."""

    def changed(self, change: SubscribeChange | UnsubscribeChange) -> None:
        """The router knows this change of its subscriptions; allowed only while `open`."""

    def tell(self, message: object) -> None:
        """See Actor.tell."""


Touched = dict[Recipient, list[tuple[Delivery[Any], Run]]]


class Router(ResidentActor):
    """Owns the routing table."""

    def __init__(self, core: Core) -> None:
        super().__init__("router", MAILBOX)
        self.core = core
        self.table: RoutingTable[Any] = RoutingTable(
            strategy=core.shared_subscription_strategy, special=core.interceptors.concerned
        )
        self._touched: Touched = {}
        self._leaving: deque[Iterator[Subscription]] = deque()
        self._keeps = core.store.keeps
        self._settled: list[Run | Answer] = []
        self._retaining: list[Run | Retrieve] = []
        self._answers: list[tuple[PublishRuns, list[int]]] = []
        self._after: list[Callable[[], None]] = []
        self._replaced: list[tuple[Run, list[Run]]] = []

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        try:
            while True:
                if self._leaving:
                    # Somebody with many subscriptions left: some of them a turn.
                    await trio.lowlevel.checkpoint()
                    self._leave()
                    if not self.mailbox_len():
                        continue
                else:
                    self._take(await self.receive())
                while self.mailbox_len():
                    self._take(self.next_message())
                self._hand_on()
        finally:
            self.end()

    def _leave(self) -> bool:
        """Take some subscriptions of those who left out of the table; returns whether there are more."""
        left = REMOVALS_A_TURN
        while self._leaving:
            for _ in islice(self._leaving[0], left):
                left -= 1
            if not left:
                return True
            self._leaving.popleft()
            self._count()
        return False

    def take(self, entries: list[Any]) -> None:
        """Runs, subscription changes and the like; in the turn of whoever brings them if nothing else is to be done."""
        if self.core.limits.pressure.level >= CRITICAL:
            entries = self._shed(entries)
        if self.parked:
            self.in_turn(self._turn, entries)
            return
        try:
            self.tell_always(entries)
        except ActorGone:
            # It failed, and with it the broker, which says so; the sessions and readers are about to be cancelled.
            log.debug("the router has ended: %d entries are lost", len(entries))

    def _shed(self, entries: list[Any]) -> list[Any]:
        """Memory is short: refuse what clients publish; 3.x has no way to say so but to end the connection."""
        kept: list[Any] = []
        for entry in entries:
            if type(entry) is not Run:
                kept.append(entry)
                continue
            if entry.qos == 0:
                self.core.meter.messages_dropped += len(entry)
                continue
            connection = cast("Connection | None", entry.publisher)
            if connection is None or connection.channel is None:
                kept.append(entry)  # of the broker itself; or it will not hear of it any more
                continue
            answers = connection.channel.refuse(entry, ReasonCode.QUOTA_EXCEEDED)
            if connection.channel.level == MQTT5:
                kept += answers
            else:
                connection.fail(ReasonCode.QUOTA_EXCEEDED, "memory is short")
        return kept

    def _turn(self, entries: list[Any]) -> None:
        self._take(entries)
        self._hand_on()

    def _take(self, item: object) -> None:
        if type(item) is list:
            for entry in item:
                if type(entry) is Run:
                    self._route(entry)
                else:
                    self._handle(entry)
        else:
            self._handle(item)

    # -- messages -----------------------------------------------------------------------------------------------

    def _route(self, run: Run, seen: Interceptor | None = None) -> None:
        """`seen`: the interceptor that put this run in the place of another."""
        topic = run.topic_name
        table = self.table
        plan = table.plans.get(topic)
        if plan is None:
            plan = table.match(topic)
        if self._keeps and self.core.store.failure is not None and self._refuse(run, plan):
            return
        if plan.special is not None and self._intercept(run, plan, seen):
            return
        touched = self._touched
        for delivery in plan.deliveries:
            recipient = delivery.recipient
            items = touched.get(recipient)
            if items is None:
                touched[recipient] = [(delivery, run)]
            else:
                items.append((delivery, run))
        run.matched = matched = len(plan.deliveries) + len(plan.groups)
        for group in plan.groups:
            self._share(group, run)
        core = self.core
        meter = core.meter
        packets = run.packets
        count = len(run) if packets is None else len(packets)
        meter.messages_publish += count
        if not matched:
            meter.messages_dropped += count
            meter.messages_dropped_no_subscribers += count
        if run.qos and run.publisher is not None:
            self._settled.append(run)
        if run.retain:
            self.retain(run)
        if core.hooks.published:
            core.hooks.call_published(run.messages)

    def retain(self, run: Run) -> None:
        """Let the retainer have what its rules admit of a run; in the router's turn."""
        kept = self.core.retainer.rules.admit(run)
        if kept is None:
            return
        self._retaining.append(kept)
        if self._keeps:
            self._keep_retained(kept)
            run.stored = run.stored or kept.stored

    def _intercept(self, run: Run, plan: Plan[Any], seen: Interceptor | None) -> bool:
        """Show it to those who are concerned with its topic; true when other runs have taken its place."""
        interceptors = self.core.interceptors
        concerned = cast("tuple[Interceptor, ...]", plan.special)
        if seen is not None:
            concerned = interceptors.behind(seen, concerned)
        for interceptor in concerned:
            others = interceptor.intercept(run, plan)
            if others is None:
                continue
            run.matched = 0
            for other in others:
                self._route(other, interceptor)
                run.matched += other.matched
            if others:
                self._replaced.append((run, others))
            else:
                self.core.meter.messages_publish += len(run)
            if run.qos and run.publisher is not None:
                self._settled.append(run)
            return True
        return False

    def _share(self, group: SharedGroup[Any], run: Run) -> None:
        """Each message of the run to one member of the group [MQTT 5.0 section 4.8.2]."""
        messages = run.messages
        client_id = run.origin.client_id
        if len(messages) == 1:
            delivery = self._pick(group, client_id, run.topic_name)
            if delivery is not None:
                self._touched.setdefault(delivery.recipient, []).append((delivery, run))
            return
        parts: dict[Delivery[Any], list[Message]] = {}
        for message in messages:
            delivery = self._pick(group, client_id, run.topic_name)
            if delivery is not None:
                parts.setdefault(delivery, []).append(message)
        for delivery, part in parts.items():
            share = Run(run.topic_name, run.qos, run.retain, run.origin, part, run.plain)
            if delivery.recipient.journal is not None:
                run.stored = True  # where the part is
            self._touched.setdefault(delivery.recipient, []).append((delivery, share))

    @staticmethod
    def _pick(group: SharedGroup[Any], client_id: str, topic_name: str) -> Delivery[Any] | None:
        """A member that is still there: one that has ended may wait for its removal behind others."""
        while True:
            delivery = group.pick(client_id, topic_name)
            if delivery is None or not delivery.recipient.is_gone:
                return delivery
            group.discard(delivery.recipient)

    def _pass_on(self, topic_filter: str, message: Message) -> None:
        """To another member of the group: the one who had it is gone [MQTT 5.0 section 4.8.2]."""
        share_name, match_filter = parse_topic_filter(topic_filter)
        group = self.table.shared_group(share_name or "", match_filter)
        delivery = None if group is None else self._pick(group, message.origin.client_id, message.topic_name)
        if delivery is None:
            return
        plain = message.properties is NO_PROPERTIES and message.expires_at is None
        run = Run(message.topic_name, message.qos, message.retain, message.origin, [message], plain)
        self._touched.setdefault(delivery.recipient, []).append((delivery, run))

    def _hand_on(self) -> None:
        """What this turn has gathered goes to sessions, publishers and the retainer, one item each."""
        core = self.core
        touched = self._touched
        if touched:
            self._touched = {}
            clock = core.clock
            now = clock.now()
            inserted_at_ns = clock.wall_ns(now)
            for recipient, items in touched.items():
                if recipient.open:
                    recipient.deliver(items, now, inserted_at_ns)
                else:
                    self._tell_items(recipient, items)
        if self._replaced:
            for run, others in self._replaced:
                run.stored = run.stored or any(other.stored for other in others)
            self._replaced.clear()
        if self._answers:
            ticket = core.store.ticket
            for question, counts in self._answers:
                if any(run.stored for run in question.runs):
                    ticket.then(partial(question.answer, counts))
                else:
                    question.answer(counts)
            self._answers.clear()
        if self._settled:
            settled, self._settled = self._settled, []
            if self._keeps:
                self._keep_identifiers(settled)
            core.acknowledger.take(settled)
        if self._retaining:
            retaining, self._retaining = self._retaining, []
            core.retainer.tell_always(retaining)
        if self._after:
            after, self._after = self._after, []
            for call in after:
                call()

    def _tell_items(self, recipient: Recipient, items: list[tuple[Delivery[Any], Run]]) -> None:
        try:
            recipient.tell(items)
        except ActorGone:
            return  # it ended; its `Gone` is on the way
        except trio.WouldBlock:
            count = sum(len(run) for _, run in items)
            self.core.meter.delivery_dropped += count
            self.core.meter.delivery_dropped_queue_full += count
            log.warning("mailbox of %r is full: %d messages dropped", recipient.client_id, count)

    def _flush(self, recipient: Recipient) -> None:
        """What was routed before must arrive before what comes now."""
        items = self._touched.pop(recipient, None)
        if items is None:
            return
        if recipient.open:
            clock = self.core.clock
            now = clock.now()
            recipient.deliver(items, now, clock.wall_ns(now))
        else:
            self._tell_items(recipient, items)

    # -- what has to be durable ---------------------------------------------------------------------------------

    def _keep_retained(self, run: Run) -> None:
        """In the turn in which it is routed, so that its acknowledgement waits for it; the last of a run stays."""
        message = run.messages[-1]
        if message.payload:
            self.core.store.write(PutRetained(message))
        else:
            # Whatever its id is: what is routed last counts.
            self.core.store.write(DeleteRetained(message.topic_name, MAX_MESSAGE_ID))
        if run.qos:
            run.stored = True

    def _retain_all(self, question: RetainRuns) -> None:
        failure = self.core.store.failure
        if failure is not None:
            question.fail(StoreError(f"the store cannot be written: {failure}"))
            return
        self._retaining += question.runs
        if self._keeps:
            for run in question.runs:
                self._keep_retained(run)
        self.core.store.ticket.then(partial(question.answer, None))

    @staticmethod
    def _keep_identifiers(settled: list[Run | Answer]) -> None:
        """QoS 2: the packet identifier is durable together with the message, or a restart would lose or double it."""
        for run in settled:
            if run.qos == 2 and type(run) is Run:
                journal = cast("Connection", run.publisher).journal
                if journal is not None and run.packets is not None:
                    journal.received([packet.packet_identifier for packet in run.packets])
                    run.stored = True

    def _must_be_kept(self, run: Run, plan: Plan[Any]) -> bool:
        """Does the acknowledgement of this run promise that something is durable?"""
        if not run.qos:
            return False
        if run.retain:
            return True
        if plan.special is not None and any(
            interceptor.keeps(run) for interceptor in cast("tuple[Interceptor, ...]", plan.special)
        ):
            return True
        connection = cast("Connection | None", run.publisher)
        if run.qos == 2 and connection is not None and connection.journal is not None:
            return True
        recipients = [delivery.recipient for delivery in plan.deliveries if delivery.qos]
        recipients += [member for group in plan.groups for member in group.members]
        return any(recipient.journal is not None for recipient in recipients)

    def _refuse(self, run: Run, plan: Plan[Any]) -> bool:
        """The store cannot be written: refuse what would have to be kept. 3.x: the connection ends, unacknowledged."""
        connection = cast("Connection | None", run.publisher)
        if connection is None or not self._must_be_kept(run, plan):
            return False
        channel = connection.channel
        if channel is None:
            if connection.journal is not None and run.packets is not None:
                connection.journal.forget([packet.packet_identifier for packet in run.packets])
            return True
        answers = channel.refuse(run, ReasonCode.QUOTA_EXCEEDED)
        if channel.level == MQTT5:
            self._settled += answers
        else:
            connection.fail(ReasonCode.QUOTA_EXCEEDED, "the store cannot be written")
        return True

    # -- everything else ----------------------------------------------------------------------------------------

    def _handle(self, entry: object) -> None:
        match entry:
            case SubscribeChange():
                self._subscribe(entry)
            case UnsubscribeChange():
                self._unsubscribe(entry)
            case Answer():
                self._settled.append(entry)
            case Online():
                self.table.set_online(entry.recipient, entry.online)
            case Gone():
                self._flush(entry.recipient)
                self._leaving.append(self.table.removal(entry.recipient))
                is_long = self._leave()
                for topic_filter, message in entry.left:
                    self._pass_on(topic_filter, message)
                if is_long:
                    self.tell_always([])  # the rest is done by the task
                self._count()
            case After():
                self._after.append(entry.call)
            case PassOn():
                for topic_filter, message in entry.left:
                    self._pass_on(topic_filter, message)
            case PublishRuns():
                failure = self.core.store.failure
                if failure is not None and any(
                    self._must_be_kept(run, self.table.match(run.topic_name)) for run in entry.runs
                ):
                    entry.fail(StoreError(f"the store cannot be written: {failure}"))
                    return
                for run in entry.runs:
                    self._route(run)
                self._answers.append((entry, [run.matched for run in entry.runs]))
            case RetainRuns():
                self._retain_all(entry)
            case SystemRuns():
                meter = self.core.meter
                # What the broker says of itself does not count as published.
                counts = meter.messages_publish, meter.messages_dropped, meter.messages_dropped_no_subscribers
                for run in entry.runs:
                    self._route(run)
                meter.messages_publish, meter.messages_dropped, meter.messages_dropped_no_subscribers = counts
            case TableQuestion():
                show(self.table, entry)
            case Flush():
                entry.answer(None)
            case _:
                raise TypeError(f"the router does not know {entry!r}")

    def _subscribe(self, change: SubscribeChange) -> None:
        """Add the filters, then tell the session; retained messages follow from the retainer."""
        recipient: Recipient = change.recipient
        self._flush(recipient)
        for subscription in change.subscriptions:
            if subscription is None:
                continue
            self.table.subscribe(recipient, subscription)
            if self.core.sys_topics is not None and subscription.match_filter.startswith("$SYS/"):
                self.core.sys_topics.wanted()
            if recipient.journal is not None and not change.restored:
                recipient.journal.subscribe(subscription)
        self._count()
        if change.restored:
            return
        self._tell(recipient, change)
        self._retaining.extend(Retrieve(recipient, subscription) for subscription in change.retrievals())

    def _unsubscribe(self, change: UnsubscribeChange) -> None:
        recipient: Recipient = change.recipient
        self._flush(recipient)
        for topic_filter in change.topic_filters:
            self.table.unsubscribe(recipient, topic_filter)
            if recipient.journal is not None:
                recipient.journal.unsubscribe(topic_filter)
        self._count()
        self._tell(recipient, change)

    @staticmethod
    def _tell(recipient: Recipient, message: SubscribeChange | UnsubscribeChange) -> None:
        if recipient.open:
            recipient.changed(message)
            return
        try:
            recipient.tell(message)
        except ActorGone:
            log.debug("%r ended before it was told", recipient.client_id)
        except trio.WouldBlock:
            log.error("mailbox of %r is full: its subscription change is not answered", recipient.client_id)

    def _count(self) -> None:
        table = self.table
        meter = self.core.meter
        meter.set_gauge("topics", table.topics_count)
        meter.set_gauge("subscriptions", table.subscriptions_count)
        meter.set_gauge("suboptions", table.subscriptions_count)
        meter.set_gauge("subscriptions.shared", table.shared_subscriptions_count)
        meter.set_gauge("subscribers", table.subscriptions_count)
