"""The broker: all its actors in one nursery, and what the embedding program does with it.

Invariant: `run` is started only when every listener is open, and returns only when everything it started has ended.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import trio
from attrs import define, field

from trio_broker.access.authentication import AuthenticationChain, Authenticator, EnhancedAuthenticator
from trio_broker.access.authorization import Authorizer
from trio_broker.actors.acknowledger import Acknowledger
from trio_broker.actors.alarms import STORE_DAMAGED
from trio_broker.actors.clock import Clock
from trio_broker.actors.core import Core
from trio_broker.actors.documents import Documents
from trio_broker.actors.door import Door
from trio_broker.actors.gate import ConnectionInfo
from trio_broker.actors.hooks import Hooks
from trio_broker.actors.internal import local_subscription, make_subscription
from trio_broker.actors.local_subscriber import LocalSubscriber
from trio_broker.actors.management import Management
from trio_broker.actors.memory_guard import MemoryGuard, total_bytes
from trio_broker.actors.messages import Flush, ShutDown
from trio_broker.actors.metrics import MetricsCollector
from trio_broker.actors.poller import Poller
from trio_broker.actors.questions import ListenerInfo, NewMessage, Published
from trio_broker.actors.restore import restore
from trio_broker.actors.retainer import Retainer
from trio_broker.actors.router import Router
from trio_broker.actors.session_manager import SessionManager
from trio_broker.actors.settings import KIND as SETTINGS
from trio_broker.actors.settings import Settings
from trio_broker.actors.sys_topics import SysTopics
from trio_broker.config import Config, Layers, MqttConfig, check_files, listener_configs
from trio_broker.config.without_effect import without_effect
from trio_broker.errors import ActorGone
from trio_broker.listeners.kinds import make_listener
from trio_broker.listeners.listener import Listener
from trio_broker.listeners.memory import memory_pair
from trio_broker.protocol.packets import NO_PROPERTIES, Properties
from trio_broker.protocol.topics import validate_topic_name
from trio_broker.routing.shared_group import Strategy
from trio_broker.session.limits import Limits
from trio_broker.store.memory import ForgetfulStore
from trio_broker.store.sqlite import SqliteStore
from trio_broker.store.store import Store

if TYPE_CHECKING:
    from trio_broker.api.keys import GeneratedKey

log = logging.getLogger("trio_broker")

# How long connections that were told goodbye may take to close at a shutdown.
LAST_WORDS = 1.0


@define
class Addresses:
    """Where the broker listens: listener identifier -> (host, port), or (path,) for a Unix socket.

    `api` is the address of the REST API. `generated_key` is set once, at the first start without an API key: show it
    to the user, it is not kept anywhere in clear.
    """

    listeners: dict[str, tuple[Any, ...]] = field(factory=dict)
    api: tuple[str, int] | None = None
    generated_key: GeneratedKey | None = None


class Broker:
    """One broker. Run it once: `addresses = await nursery.start(broker.run)`.

    `hooks` may be filled before and while it runs; `questions` is there while it runs.
    """

    questions: Management

    def __init__(
        self,
        config: Config | None = None,
        *,
        authenticators: Sequence[Authenticator | EnhancedAuthenticator] = (),
        authorizer: Authorizer | None = None,
        store: Store | None = None,
        layers: Layers | None = None,
    ) -> None:
        """`layers`: where `config` came from, if what is set over REST is to lie between them."""
        self.config = Config() if config is None else config
        self._layers = Layers(self.config) if layers is None else layers
        listener_configs(self.config)  # raises ConfigError for what does not fit together
        self.hooks = Hooks()
        self._authentication = AuthenticationChain(authenticators, self.config.mqtt.allow_anonymous)
        self._authorizer = authorizer
        self._store: Store = _store(self.config) if store is None else store
        self._core: Core | None = None
        self._door: Door | None = None
        self._listeners: dict[str, Listener] = {}
        self._closing = trio.Event()
        self._streams: trio.Nursery | None = None
        self._store_is_open = False

    # -- running ------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[Addresses] = trio.TASK_STATUS_IGNORED) -> None:
        """Open everything, serve until `close` or cancelled.

        Raises ListenerError where a listener or the REST API cannot be opened, ConfigError for files that are wrong.
        """
        try:
            await self._run(task_status)
        except BaseExceptionGroup as group:
            only = _only(group)
            if only is None:
                raise
            raise only from only.__cause__
        finally:
            if self._core is not None:
                for subscriber in list(self._core.subscribers):
                    subscriber.close()
            if self._door is not None:
                self._door.abort_all()
            if self._store_is_open:
                self._store_is_open = False
                with trio.CancelScope(shield=True):  # it keeps to a time of its own
                    await self._store.close()
            self._core = self._door = self._streams = None

    async def _run(self, task_status: trio.TaskStatus[Addresses]) -> None:
        check_files(self.config)
        async with trio.open_nursery() as actors:
            async with trio.open_nursery() as sessions:
                clock = Clock()
                await self._store.open(clock, self._store_told)
                self._store_is_open = True
                documents = Documents(self._store, await self._store.documents())
                settings = Settings(self._layers, documents.of(SETTINGS))
                self.config = settings.config
                check_files(self.config)
                for key in without_effect(self.config):
                    log.warning("%s has no effect in this version", key)
                core = self._core = self._make_core(sessions, clock, documents, settings)
                core.store_told(self._store.failure)
                if self._store.damaged is not None:
                    message = "The store was damaged: it was set aside, and a new one was begun"
                    core.alarms.activate(STORE_DAMAGED, message, {"file": self._store.damaged})
                for actor in (core.router, core.retainer, core.metrics, core.acknowledger, core.manager):
                    await actors.start(actor.run)
                if core.sys_topics is not None:
                    await actors.start(core.sys_topics.run)
                if core.poller is not None:
                    await actors.start(core.poller.run)
                await restore(core)
                await actors.start(self._store.run)
                await actors.start(core.timers.run)
                if core.clock.is_real:
                    actors.start_soon(core.clock.follow, core.clock_was_set)
                self._streams = sessions
                addresses = Addresses()
                async with trio.open_nursery() as doors:
                    await self._open_listeners(doors, addresses)
                    await self._open_api(doors, addresses)
                    task_status.started(addresses)
                    await self._closing.wait()
                    with trio.move_on_after(self.config.shutdown_timeout) as scope:
                        await self._shut_down(core)
                    if scope.cancelled_caught:
                        log.warning("not all was done within shutdown_timeout (%g s)", self.config.shutdown_timeout)
                    doors.cancel_scope.cancel()
                sessions.cancel_scope.cancel()
            actors.cancel_scope.cancel()

    def close(self) -> None:
        """Ask for a graceful end; `run` returns when it is done. May be called more than once."""
        self._closing.set()

    def _store_told(self, failure: str | None) -> None:
        if self._core is not None:
            self._core.store_told(failure)

    def _make_core(self, sessions: trio.Nursery, clock: Clock, documents: Documents, settings: Settings) -> Core:
        config = self.config
        core = Core(
            node_name=config.node.name,
            limits=_limits(config.mqtt),
            authentication=self._authentication,
            authorizer=self._authorizer,
            store=self._store,
            hooks=self.hooks,
            documents=documents,
            settings=settings,
            clock=clock,
            sessions_nursery=sessions,
            shared_subscription_strategy=cast(Strategy, config.mqtt.shared_subscription_strategy),
        )
        core.door = self._door = Door(core)
        core.router = Router(core)
        core.retainer = Retainer(core)
        core.metrics = MetricsCollector(core)
        core.acknowledger = Acknowledger(core)
        core.manager = SessionManager(core)
        mark = config.sysmon.memory_high_watermark.bytes_of(total_bytes())
        if config.sys_topics.is_enabled:
            core.sys_topics = SysTopics(core, config.sys_topics)
        core.memory_guard = MemoryGuard(core.limits.pressure, mark)
        core.memory_guard.alarms = core.alarms
        core.poller = Poller(core) if Poller.is_available() else None
        self.questions = Management(core, self._listener_infos, self.config.log.file or None)
        return core

    async def _open_listeners(self, nursery: trio.Nursery, addresses: Addresses) -> None:
        assert self._door is not None
        for config in listener_configs(self.config):
            if not config.enable:
                continue
            listener = make_listener(config)
            self._listeners[listener.identifier] = listener
            bound = await nursery.start(listener.run, self._door)
            address = (bound.host,) if bound.port is None else (bound.host, bound.port)
            addresses.listeners[listener.identifier] = address

    async def _open_api(self, nursery: trio.Nursery, addresses: Addresses) -> None:
        http = self.config.http
        if http is None:
            return
        # The web framework is loaded only by brokers that have a REST API.
        from trio_broker.api.app import make_app
        from trio_broker.api.keys import load_keys
        from trio_broker.api.server import serve

        data_dir = None if self.config.in_memory else Path(self.config.node.data_dir)
        bootstrap = self.config.api_key.bootstrap_file
        keys, addresses.generated_key = load_keys(data_dir, Path(bootstrap) if bootstrap else None)
        app = make_app(self.questions, keys=keys, started=lambda: not self._closing.is_set())

        async def serve_api(*, task_status: trio.TaskStatus[tuple[str, int]]) -> None:
            await serve(
                app,
                http.bind,
                shutdown_trigger=self._closing.wait,
                max_connections=http.max_connections,
                task_status=task_status,
            )

        addresses.api = await nursery.start(serve_api)

    async def _shut_down(self, core: Core) -> None:
        """Accept nothing more, tell clients, publish what would be lost, let what is on its way arrive."""
        log.info("shutting down")
        for listener in self._listeners.values():
            listener.close()
        if not core.store.ticket.done:
            with trio.move_on_after(LAST_WORDS):
                await core.store.ticket.wait()  # what was taken is acknowledged before the connections end
        core.manager.tell(ShutDown())
        await core.manager.idle.wait()
        assert self._door is not None
        self._door.close_strangers()
        # How long that may take is the caller's business.
        await core.router.ask(Flush(), math.inf)
        await core.retainer.ask(Flush(), math.inf)
        with trio.move_on_after(LAST_WORDS):
            await self._door.empty()

    def _listener_infos(self) -> list[ListenerInfo]:
        return [listener.info() for listener in self._listeners.values()]

    # -- for the embedding program ------------------------------------------------------------------------------

    async def publish(
        self,
        topic_name: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
    ) -> Published:
        """Publish as the broker itself; returns when the message is routed.

        Raises ProtocolError when the topic name is not valid, ActorGone when the broker does not run.
        """
        validate_topic_name(topic_name)
        if qos not in (0, 1, 2):
            raise ValueError(f"qos must be 0, 1 or 2, not {qos!r}")
        self._running()
        new = NewMessage(topic_name, payload, qos, retain, properties, client_id=self.config.node.name)
        return (await self.questions.publish([new]))[0]

    @asynccontextmanager
    async def subscribe(
        self, topic_filter: str, *, qos: int = 0, buffer: int = 10_000
    ) -> AsyncIterator[LocalSubscriber]:
        """The messages of a filter, retained ones first: `async with ... as messages: async for message in messages`.

        When the program falls `buffer` messages behind, the oldest goes; `messages.dropped` counts them. Raises
        ProtocolError when the filter is not valid.
        """
        core = self._running()
        subscription = make_subscription(topic_filter, qos)
        async with local_subscription(core, subscription, self.config.node.name, buffer) as messages:
            yield messages

    async def connect_stream(self) -> trio.abc.Stream:
        """The client end of a new in-memory connection: an MQTT byte stream without a network."""
        self._running()
        assert self._streams is not None
        assert self._door is not None
        client, server = memory_pair()
        info = ConnectionInfo(listener="memory:internal", peer_host="127.0.0.1")
        self._streams.start_soon(self._door.serve_stream, server, info)
        await trio.lowlevel.checkpoint()
        return client

    def _running(self) -> Core:
        if self._core is None:
            raise ActorGone("the broker does not run")
        return self._core


def _store(config: Config) -> Store:
    """What the configuration asks for."""
    if config.in_memory:
        return ForgetfulStore()
    return SqliteStore(config.node.data_dir, config.store.durability)


def _limits(mqtt: MqttConfig) -> Limits:
    """The settings a session needs, with infinity as the code has it."""

    def bounded(value: float) -> int | None:
        return None if math.isinf(value) else int(value)

    return Limits(
        max_packet_size=mqtt.max_packet_size,
        max_clientid_len=mqtt.max_clientid_len,
        max_topic_levels=mqtt.max_topic_levels,
        max_topic_alias=mqtt.max_topic_alias,
        max_qos_allowed=mqtt.max_qos_allowed,
        retain_available=mqtt.retain_available,
        wildcard_subscription=mqtt.wildcard_subscription,
        shared_subscription=mqtt.shared_subscription,
        max_inflight=mqtt.max_inflight,
        max_mqueue_len=bounded(mqtt.max_mqueue_len) or 0,
        mqueue_store_qos0=mqtt.mqueue_store_qos0,
        max_awaiting_rel=bounded(mqtt.max_awaiting_rel) or 0,
        await_rel_timeout=mqtt.await_rel_timeout,
        max_subscriptions=bounded(mqtt.max_subscriptions),
        session_expiry_interval=_whole_seconds(mqtt.session_expiry_interval),
        server_keepalive=mqtt.server_keepalive,
        keepalive_multiplier=mqtt.keepalive_multiplier,
        idle_timeout=mqtt.idle_timeout,
        upgrade_qos=mqtt.upgrade_qos,
        ignore_loop_deliver=mqtt.ignore_loop_deliver,
        response_information=mqtt.response_information,
        message_expiry_interval=bounded(mqtt.message_expiry_interval),
        use_username_as_clientid=mqtt.use_username_as_clientid,
        peer_cert_as_username=mqtt.peer_cert_as_username,
        peer_cert_as_clientid=mqtt.peer_cert_as_clientid,
    )


def _whole_seconds(seconds: float) -> int:
    """A session expiry interval as MQTT has it: 0xFFFFFFFF never ends."""
    return 0xFFFFFFFF if math.isinf(seconds) else min(int(seconds), 0xFFFFFFFE)


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """The one exception in a group of groups; None when there are several."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        if len(error.exceptions) != 1:
            return None
        error = error.exceptions[0]
    return error
