"""Who is traced: the marks on connections and sessions, the events of sessions, and the messages of traced topics.

Invariant: `active` is false while no trace runs, and then no connection and no session has a mark, and no plan of the
router's knows of traces. Everything in here but `follow` is a step without waiting.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import trio

from trio_broker.access.addresses import plain_address
from trio_broker.actors.messages import AskActor
from trio_broker.actors.trace import Trace
from trio_broker.actors.trace_lines import Event
from trio_broker.actors.trace_marks import ConnectionTrace, SessionTrace, payloads_of, peer_of, published, tell
from trio_broker.errors import ActorGone, AskTimeout
from trio_broker.protocol.message import Run
from trio_broker.protocol.packets import Packet
from trio_broker.protocol.topics import matches
from trio_broker.routing.coverage import intersects
from trio_broker.routing.routing_table import Plan
from trio_broker.session.changes import SubscribeChange

if TYPE_CHECKING:
    from trio_broker.access.authentication import Verdict
    from trio_broker.actors.connection import Connection
    from trio_broker.actors.core import Core
    from trio_broker.actors.gate import ConnectionInfo
    from trio_broker.actors.session_actor import SessionActor

log = logging.getLogger("trio_broker.trace")

STRIDE: Final = 500
"""Connections that are looked at before others have their turn."""


class Tracing:
    """Also an interceptor: the last one, so that it sees what is routed."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.active = False
        self._clients: dict[str, tuple[Trace, ...]] = {}
        self._addresses: dict[str, tuple[Trace, ...]] = {}
        self._topics: tuple[Trace, ...] = ()

    # -- who is traced ------------------------------------------------------------------------------------------

    async def follow(self, running: Sequence[Trace]) -> None:
        """These run now, and no others: marks are set and taken away."""
        clients, addresses, topics = set(self._clients), set(self._addresses), self._topics
        self._clients = _by_value(running, "clientid")
        self._addresses = _by_value(running, "ip_address")
        self._topics = tuple(trace for trace in running if trace.record.type == "topic")
        self.active = bool(running)
        if self._topics != topics:
            self._core.interceptors.changed()
        await self._mark(clients | set(self._clients), addresses | set(self._addresses))

    async def _mark(self, clients: set[str], addresses: set[str]) -> None:
        """Look again at the sessions of these clients and the connections from these addresses."""
        for client_id in clients:
            try:
                actor: SessionActor | None = await self._core.manager.ask(AskActor(client_id))
            except ActorGone:
                return
            except AskTimeout:
                log.warning(
                    "the session of client %r cannot be looked for: its trace begins when it connects", client_id
                )
                continue
            if actor is not None:
                self.look_at_session(actor)
                if actor.connection is not None:
                    self.look_at(actor.connection)
        if not addresses and not clients:
            return
        # Those that no session has yet may have been marked for a client, too.
        for number, connection in enumerate(self._core.door.connections(), 1):
            if connection.trace is not None or (addresses and _plain(connection.info) in addresses):
                self.look_at(connection)
                if connection.actor is not None:
                    self.look_at_session(connection.actor)
            if number % STRIDE == 0:
                await trio.lowlevel.checkpoint()

    # -- marks --------------------------------------------------------------------------------------------------

    def _found(self, client_id: str, info: ConnectionInfo | None) -> tuple[Trace, ...]:
        found = self._clients.get(client_id, ()) if client_id else ()
        if self._addresses and info is not None:
            found += self._addresses.get(_plain(info), ())
        return found

    def look_at(self, connection: Connection, packets: list[Packet] | None = None) -> None:
        """Mark it, or take the mark away; traces that are new to it are shown these packets."""
        client_id = connection.client_id
        if not client_id and connection.connect is not None:
            client_id = connection.connect.client_id
        found = () if connection.over else self._found(client_id, connection.info)
        mark = connection.trace
        if not found:
            if mark is not None:
                mark.remove()
            return
        if mark is None:
            mark = connection.trace = ConnectionTrace(connection, found)
            new = found
        else:
            new = tuple(trace for trace in found if trace not in mark.traces)
            mark.traces = found
        if packets and new:
            mark.packets(packets, new)

    def look_at_session(self, actor: SessionActor) -> None:
        found = self._found(actor.client_id, actor.peer if actor.connection is not None else None)
        if not found:
            actor.trace = None
        elif actor.trace is None:
            actor.trace = SessionTrace(found)
        else:
            actor.trace.traces = found

    def entering(self, connection: Connection) -> None:
        """A new connection; only while `active`."""
        self.look_at(connection)
        if connection.trace is not None:
            fields = {"listener": connection.info.listener}
            connection.trace.tell("SOCKET", "connection_accepted", fields=fields)

    def attaching(self, actor: SessionActor, connection: Connection, verdict: Verdict, present: bool) -> None:
        """It is let in, and CONNACK is about to leave; only while `active`."""
        self.look_at(connection, [] if connection.connect is None else [connection.connect])
        self.look_at_session(actor)
        mark = connection.trace
        if mark is None:
            return
        fields: dict[str, Any] = {"result": "ok", "is_anonymous": bool(verdict.anonymous)}
        if actor.username is not None:
            fields["username"] = actor.username
        mark.tell("AUTHN", "authentication_result", fields=fields)
        mark.tell("SESSION", "session_resumed" if present else "session_created", fields={"session_present": present})

    # -- events of sessions; only while `active` ------------------------------------------------------------------

    def session_event(self, actor: SessionActor, msg: str, **fields: Any) -> None:
        peer = actor.peer if actor.connection is not None else None
        tell(self._found(actor.client_id, peer), Event("SESSION", msg, actor.client_id, peer_of(peer), fields=fields))

    def subscribed(self, actor: SessionActor, change: SubscribeChange) -> None:
        for subscription in change.subscriptions:
            if subscription is not None:
                options = {
                    "nl": int(subscription.no_local),
                    "qos": subscription.qos,
                    "rap": int(subscription.retain_as_published),
                    "rh": subscription.retain_handling,
                }
                fields = {"topic": subscription.topic_filter, "sub_opts": options}
                self._subscription(actor, "SUBSCRIBE", "subscribe", subscription.match_filter, fields)

    def unsubscribed(self, actor: SessionActor, topic_filters: list[str]) -> None:
        for topic_filter in topic_filters:
            match_filter = topic_filter
            for prefix, levels in (("$share/", 2), ("$queue/", 1)):
                if topic_filter.startswith(prefix):
                    match_filter = topic_filter.split("/", levels)[-1]
            self._subscription(actor, "UNSUBSCRIBE", "unsubscribe", match_filter, {"topic": topic_filter})

    def _subscription(self, actor: SessionActor, tag: str, msg: str, match_filter: str, fields: dict[str, Any]) -> None:
        peer = actor.peer if actor.connection is not None else None
        concerned = self._found(actor.client_id, peer)
        concerned += tuple(trace for trace in self._topics if intersects(trace.record.value, match_filter))
        tell(concerned, Event(tag, msg, actor.client_id, peer_of(peer), fields=fields))

    # -- messages: an interceptor -------------------------------------------------------------------------------

    def concerns(self, topic_name: str) -> bool:
        return any(matches(trace.record.value, topic_name) for trace in self._topics)

    def intercept(self, run: Run, plan: Plan[Any]) -> list[Run] | None:
        """Only looks."""
        concerned = [trace for trace in self._topics if matches(trace.record.value, run.topic_name)]
        peer = peer_of(getattr(run.publisher, "info", None))
        fields = published(run, len(plan.deliveries) + len(plan.groups))
        for payload in payloads_of(run):
            tell(concerned, Event("PUBLISH", "publish_to", run.origin.client_id, peer, fields=fields, payload=payload))
        return None

    def keeps(self, run: Run) -> bool:
        return False


def _by_value(running: Sequence[Trace], kind: str) -> dict[str, tuple[Trace, ...]]:
    found: dict[str, tuple[Trace, ...]] = {}
    for trace in running:
        if trace.record.type == kind:
            found[trace.record.value] = (*found.get(trace.record.value, ()), trace)
    return found


def _plain(info: ConnectionInfo) -> str:
    try:
        return str(plain_address(info.peer_host))
    except ValueError:
        return info.peer_host  # of a Unix socket
