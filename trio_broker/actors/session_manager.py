"""The session manager: who owns a client identifier (EMQX: the connection manager).

Invariant: one session actor for a client identifier at a time; a CONNECT that is refused has touched no session
[MQTT-3.1.4-2].
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING

import trio

from trio_broker.access.authentication import ACCEPTED_ANONYMOUS, REFUSED, Credentials, Verdict
from trio_broker.actors.exchange import Exchange, begun, credentials_of
from trio_broker.actors.messages import (
    AskActor,
    AskActorPage,
    AskActorsAfter,
    AskActorsNamed,
    AskNewestActor,
    AskNumbers,
    Attach,
    ClockSet,
    ConnectRequest,
    Decided,
    SessionEnded,
    ShutDown,
)
from trio_broker.actors.resident import ResidentActor
from trio_broker.actors.session_actor import SessionActor
from trio_broker.errors import ActorGone, ProtocolError
from trio_broker.protocol.packets import Connect
from trio_broker.protocol.reason_codes import ReasonCode
from trio_broker.routing.roll import Roll

if TYPE_CHECKING:
    from trio_broker.actors.connection import Connection
    from trio_broker.actors.core import Core

log = logging.getLogger("trio_broker.session_manager")


MAILBOX = 100_000


class SessionManager(ResidentActor):
    """Owns the registry of session actors; new ones run in the sessions' nursery."""

    def __init__(self, core: Core) -> None:
        super().__init__("session manager", MAILBOX)
        self.core = core
        self._actors: Roll[str, SessionActor] = Roll()
        self._closing = False
        self.idle = trio.Event()  # set when the broker ends and the last session has

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        try:
            while True:
                self._handle(await self.receive())
        finally:
            self.end()

    # -- told by others -----------------------------------------------------------------------------------------

    def tell(self, message: object) -> None:
        """Handled at once, in the turn of whoever tells, where there is nothing else to do."""
        if self.parked:
            self.in_turn(self._handle, message)
        else:
            super().tell(message)

    def connect(self, connection: Connection, connect: Connect) -> None:
        """A connection brought a CONNECT that is well-formed and within the limits."""
        try:
            self.tell(ConnectRequest(connection, connect))
        except (trio.WouldBlock, ActorGone):
            connection.refuse(ProtocolError(ReasonCode.SERVER_BUSY, "too many connections at once"))

    def again(self, attach: Attach) -> None:
        """The session actor ends before it took this connection."""
        try:
            super().tell(attach)  # not in this very turn: the actor has to be through first, or would have it again
        except (trio.WouldBlock, ActorGone):
            attach.connection.refuse(ProtocolError(ReasonCode.SERVER_BUSY, "too many connections at once"))

    def forget(self, actor: SessionActor) -> None:
        """The actor has ended."""
        try:
            self.tell(SessionEnded(actor))
        except (trio.WouldBlock, ActorGone):
            self._drop(actor)

    def restore(self, actor: SessionActor) -> None:
        """A session from the store, before the task runs."""
        self._actors.put(actor.client_id, actor)
        actor.claim = self.core.fabric.claim(actor.client_id)
        self._count()

    # -- the task -----------------------------------------------------------------------------------------------

    def _handle(self, item: object) -> None:
        match item:
            case ConnectRequest() | Decided() | Attach():
                try:
                    self._handle_client(item)
                except Exception as error:  # noqa: BLE001 - it ends this connection, is logged, and stops nobody else
                    item.connection.crash(error)
            case SessionEnded():
                self._drop(item.actor)
            case AskActor():
                item.answer(self._actors.get(item.client_id))
            case AskActorPage():
                page = self._actors.page(item.offset, item.limit)
                item.answer(([actor for _, actor in page], len(self._actors)))
            case AskActorsAfter():
                item.answer(self._actors.values_after(item.number, item.limit))
            case AskNewestActor():
                item.answer(self._actors.newest)
            case AskActorsNamed():
                item.answer(self._named(item.client_ids))
            case AskNumbers():
                item.answer([self._number(actor) for actor in item.actors])
            case ClockSet():
                for actor in list(self._actors.values()):
                    self._tell(actor, item)
            case ShutDown():
                self._closing = True
                # Those that end now come first: their wills may be for those that are kept.
                for actor in sorted(self._actors.values(), key=lambda actor: actor.journal is not None):
                    self._tell(actor, item)
                if not self._actors:
                    self.idle.set()
            case _:
                raise TypeError(f"the session manager does not know {item!r}")

    def _handle_client(self, item: ConnectRequest | Decided | Attach) -> None:
        match item:
            case ConnectRequest():
                self._authenticate(item)
            case Decided():
                self._open(item.connection, item.connect, item.client_id, item.verdict)
            case Attach():
                self._attach(item)

    def _drop(self, actor: SessionActor) -> None:
        if self._actors.get(actor.client_id) is actor:
            self._actors.pop(actor.client_id)
            if actor.claim is not None:
                self.core.fabric.release(actor.claim)
            self._count()
            if self._closing and not self._actors:
                self.idle.set()

    def _named(self, client_ids: Sequence[str]) -> list[tuple[int, SessionActor]]:
        found: dict[int, SessionActor] = {}
        for client_id in client_ids:
            actor = self._actors.get(client_id)
            if actor is not None:
                found[self._number(actor)] = actor
        return sorted(found.items())

    def _number(self, actor: SessionActor) -> int:
        number = self._actors.number(actor.client_id)
        return -1 if number is None or self._actors.get(actor.client_id) is not actor else number

    def _count(self) -> None:
        self.core.meter.set_gauge("connections", len(self._actors))

    def _authenticate(self, item: ConnectRequest) -> None:
        """Decide at once where that is possible, else in a task of its own with a deadline."""
        connection, connect = item.connection, item.connect
        if connection.over:
            return
        if self._closing:
            connection.refuse(ProtocolError(ReasonCode.SERVER_UNAVAILABLE, "the broker shuts down"))
            return
        core = self.core
        if core.limits.pressure.level:
            core.meter.overload_protection_new_conn += 1
            connection.refuse(ProtocolError(ReasonCode.SERVER_BUSY, "memory is short"))
            return
        info = connection.info
        limits = core.limits
        # The packet is ours alone by now: what the certificate says takes the place of what the client says.
        client_id = connect.client_id
        if info.has_certificate:
            connect.username = info.of_certificate(limits.peer_cert_as_username) or connect.username
            client_id = info.of_certificate(limits.peer_cert_as_clientid) or client_id
            info.certificate = None  # this object outlives the connection, and must not keep it
        if limits.use_username_as_clientid and connect.username:
            client_id = connect.username
        if core.banned.all and self._is_banned(connection, connect, client_id):
            return
        core.meter.client_authenticate += 1
        credentials = credentials_of(connection, connect, client_id)
        method = connect.properties.get("authentication_method")
        if method is not None:
            self._begin_exchange(method, connection, connect, credentials)
            return
        if info.enable_authn == "quick_deny_anonymous" and not connect.username:
            self._open(connection, connect, client_id, REFUSED)
            return
        verdict = core.authentication.decide_now(credentials) if info.enable_authn else ACCEPTED_ANONYMOUS
        if verdict is None:
            core.sessions_nursery.start_soon(self._ask_authenticators, connection, connect, client_id, credentials)
        else:
            self._open(connection, connect, client_id, verdict)

    def _begin_exchange(self, method: str, connection: Connection, connect: Connect, credentials: Credentials) -> None:
        """Enhanced authentication [MQTT 5.0 section 4.12]; the client must not send anything else meanwhile."""
        core = self.core
        authenticator = core.authentication.enhanced.get(method)
        if authenticator is None:  # [MQTT-4.12.0-1]
            core.meter.authentication_failure += 1
            error = ProtocolError(ReasonCode.BAD_AUTHENTICATION_METHOD, f"authentication method {method!r}")
            connection.refuse(error)
            return
        connection.exchange = Exchange(connection, authenticator, credentials)
        core.sessions_nursery.start_soon(self._exchange, connection.exchange, connect, credentials.client_id)
        begun(connection)

    async def _exchange(self, exchange: Exchange, connect: Connect, client_id: str) -> None:
        connection = exchange.connection
        verdict = await exchange.run(connect.properties.get("authentication_data"))
        connection.exchange = None
        if verdict is not None:
            await self._decided(connection, connect, client_id, verdict)

    async def _ask_authenticators(
        self, connection: Connection, connect: Connect, client_id: str, credentials: Credentials
    ) -> None:
        """Runs in a task of its own: one slow backend must not hold up other clients."""
        verdict = Verdict(ReasonCode.SERVER_UNAVAILABLE)
        # Whoever was given more time by the configuration has it, so that the next one is asked when it is silent.
        timeout = max(self.core.limits.idle_timeout, self.core.authentication.patience)
        with trio.move_on_after(timeout) as scope:
            try:
                verdict = await self.core.authentication.decide(credentials)
            except Exception:
                log.exception("authentication of %s failed", connection.name)
        if scope.cancelled_caught:
            log.warning("authentication of %s took longer than %g s", connection.name, timeout)
        await self._decided(connection, connect, client_id, verdict)

    async def _decided(self, connection: Connection, connect: Connect, client_id: str, verdict: Verdict) -> None:
        try:
            await self.put(Decided(connection, connect, client_id, verdict))
        except ActorGone:
            connection.refuse(ProtocolError(ReasonCode.SERVER_UNAVAILABLE, "the broker shuts down"))

    def _open(self, connection: Connection, connect: Connect, client_id: str, verdict: Verdict) -> None:
        """Let the client in, or not."""
        meter = self.core.meter
        if connection.over:
            return
        if not verdict.accepted:
            meter.authentication_failure += 1
            connection.refuse(ProtocolError(verdict.reason_code, "authentication failed"))
            return
        meter.authentication_success += 1
        if verdict.anonymous:
            meter.authentication_success_anonymous += 1
            meter.client_auth_anonymous += 1
        if verdict.username is not None:
            connect.username = verdict.username
            if self.core.limits.use_username_as_clientid:
                client_id = verdict.username
        if not client_id:
            client_id = self._assign()
        # Once more: the identifier is the final one now, the user name may be another, and time has passed.
        if self.core.banned.all and self._is_banned(connection, connect, client_id):
            return
        self._attach(Attach(connection, connect, client_id, verdict))

    def _is_banned(self, connection: Connection, connect: Connect, client_id: str) -> bool:
        """Refuse the connection if so."""
        ban = self.core.banned.find(client_id, connect.username, connection.info.peer_host)
        if ban is not None:
            connection.refuse(ProtocolError(ReasonCode.BANNED, f"banned: {ban.kind} {ban.who!r}"))
        return ban is not None

    def _assign(self) -> str:
        """A client identifier that no session uses [MQTT-3.1.3-6, 3.2.2-16]."""
        while True:
            client_id = f"auto-{secrets.token_hex(12)}"
            if client_id not in self._actors:
                return client_id

    def _attach(self, item: Attach) -> None:
        """Give the connection to the session's actor; make one where there is none."""
        if self._closing:
            item.connection.refuse(ProtocolError(ReasonCode.SERVER_UNAVAILABLE, "the broker shuts down"))
            return
        actor = self._actors.get(item.client_id)
        if actor is not None and self._tell(actor, item):
            return
        if actor is not None:
            self._actors.pop(item.client_id)
        actor = SessionActor(self.core, item.client_id)
        self._actors.put(item.client_id, actor)
        actor.claim = self.core.fabric.claim(item.client_id)
        self._count()
        actor.tell(item)

    @staticmethod
    def _tell(actor: SessionActor, item: object) -> bool:
        """False when the actor has ended."""
        try:
            actor.tell(item)
        except ActorGone:
            return False
        except trio.WouldBlock:
            if isinstance(item, Attach):
                item.connection.refuse(ProtocolError(ReasonCode.SERVER_BUSY, "the session is busy"))
            return True
        return True
