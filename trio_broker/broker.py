"""The broker: all its actors in one nursery, and what the embedding program does with it.

Invariant: `run` is started only when every listener is open, and returns only when everything it started has ended.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import trio
from attrs import define, field

from trio_broker.access.authentication import AuthenticationChain, Authenticator, EnhancedAuthenticator
from trio_broker.access.authorization import Authorizer
from trio_broker.actors.acknowledger import Acknowledger
from trio_broker.actors.alarms import STORE_DAMAGED
from trio_broker.actors.api_keys import ApiKeys
from trio_broker.actors.authn.chain import Authenticators
from trio_broker.actors.authn.user_tables import AuthnUsers
from trio_broker.actors.authz.sources import AuthorizationSources
from trio_broker.actors.auto_subscribe import AutoSubscribe
from trio_broker.actors.banned import Banned
from trio_broker.actors.clock import Clock
from trio_broker.actors.core import Core
from trio_broker.actors.dashboard_users import DashboardUsers
from trio_broker.actors.delayed import Delayed
from trio_broker.actors.documents import Documents
from trio_broker.actors.door import Door
from trio_broker.actors.flapping import Flapping
from trio_broker.actors.gate import ConnectionInfo
from trio_broker.actors.hooks import Hooks
from trio_broker.actors.in_force import follow, limits_of
from trio_broker.actors.internal import local_subscription, make_subscription
from trio_broker.actors.local_subscriber import LocalSubscriber
from trio_broker.actors.management import Management
from trio_broker.actors.memory_guard import MemoryGuard, total_bytes
from trio_broker.actors.messages import Flush, ShutDown
from trio_broker.actors.metrics import MetricsCollector
from trio_broker.actors.monitor import Monitor
from trio_broker.actors.poller import Poller
from trio_broker.actors.questions import NewMessage, Published
from trio_broker.actors.restore import restore
from trio_broker.actors.retainer import Retainer
from trio_broker.actors.router import Router
from trio_broker.actors.session_manager import SessionManager
from trio_broker.actors.settings import KIND as SETTINGS
from trio_broker.actors.settings import Settings, tell_what_is_without_effect
from trio_broker.actors.slow_subscriptions import SlowSubscriptions
from trio_broker.actors.sys_topics import SysTopics
from trio_broker.actors.system_watch import SystemWatch
from trio_broker.actors.topic_metrics import TopicMetrics
from trio_broker.actors.topic_rewrite import TopicRewrite
from trio_broker.config import Config, Layers, check_files, listener_configs
from trio_broker.errors import ActorGone, ConfigError
from trio_broker.listeners.advice import with_advice
from trio_broker.listeners.keeper import Keeper
from trio_broker.listeners.memory import memory_pair
from trio_broker.listeners.tls_files import TlsWatch
from trio_broker.protocol.packets import NO_PROPERTIES, Properties
from trio_broker.protocol.topics import validate_topic_name
from trio_broker.routing.shared_group import Strategy
from trio_broker.store.memory import ForgetfulStore
from trio_broker.store.sqlite import SqliteStore
from trio_broker.store.store import Store

if TYPE_CHECKING:
    from trio_broker.api.keys import Generated, GeneratedKey, GeneratedUser
    from trio_broker.api.push_gateway import PushGateway

log = logging.getLogger("trio_broker")

# How long connections that were told goodbye may take to close at a shutdown.
LAST_WORDS = 1.0


@define
class Addresses:
    """Where the broker listens: listener identifier -> (host, port), or (path,) for a Unix socket.

    `api` is the address of the REST API, `api_https` that over TLS, `api_v2` and `api_v4` those of its older
    generations. `generated_key` and `generated_user` are set once,
    at the first start without an API key and without a dashboard user: show them to the user, they are not kept
    anywhere in clear.
    """

    listeners: dict[str, tuple[Any, ...]] = field(factory=dict)
    api: tuple[str, int] | None = None
    api_https: tuple[str, int] | None = None
    api_v2: tuple[str, int] | None = None
    api_v4: tuple[str, int] | None = None
    generated_key: GeneratedKey | None = None
    generated_user: GeneratedUser | None = None


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
        ignore_stored: bool = False,
        new_password: bool = False,
    ) -> None:
        """`layers`: where `config` came from, if what is set over REST is to lie between them.

        `ignore_stored`: what was set over REST before stays in the store, and is not in force; a root (`mqtt`, ...)
        that is set or reset meanwhile is written anew. `new_password`: the default dashboard user gets another one,
        which is in `Addresses.generated_user`.
        """
        self.config = Config() if config is None else config
        self._layers = Layers(self.config) if layers is None else layers
        self._ignores_stored = ignore_stored
        self._makes_new_password = new_password
        listener_configs(self.config)  # raises ConfigError for what does not fit together
        self.hooks = Hooks()
        self._authentication = AuthenticationChain(authenticators, self.config.mqtt.allow_anonymous)
        self._authorizer = authorizer
        self._store: Store = _store(self.config) if store is None else store
        self._core: Core | None = None
        self._door: Door | None = None
        self._keeper: Keeper | None = None
        self._watch = TlsWatch()
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
                await self._core.authenticators.close()
                await self._core.authorization_sources.close()
            if self._door is not None:
                self._door.abort_all()
            if self._store_is_open:
                self._store_is_open = False
                with trio.CancelScope(shield=True):  # it keeps to a time of its own
                    await self._store.close()
            self._core = self._door = self._streams = None

    async def _run(self, task_status: trio.TaskStatus[Addresses]) -> None:
        async with trio.open_nursery() as actors:
            async with trio.open_nursery() as sessions:
                clock = Clock()
                await self._store.open(clock, self._store_told)
                self._store_is_open = True
                documents = Documents(self._store, await self._store.documents())
                settings = self._settings({} if self._ignores_stored else documents.of(SETTINGS))
                self.config = settings.config
                tell_what_is_without_effect(None, self.config)
                core = self._core = self._make_core(sessions, clock, documents, settings)
                core.store_told(self._store.failure)
                if self._store.damaged is not None:
                    message = "The store was damaged: it was set aside, and a new one was begun"
                    core.alarms.activate(STORE_DAMAGED, message, {"file": self._store.damaged})
                for actor in (core.router, core.retainer, core.metrics, core.acknowledger, core.manager):
                    await actors.start(actor.run)
                await actors.start(core.system_topics.run)
                await actors.start(core.system_watch.run)
                await actors.start(core.monitor.run)
                if core.poller is not None:
                    await actors.start(core.poller.run)
                await restore(core)
                await actors.start(self._store.run)
                await self._start_access(core)
                await actors.start(core.timers.run)
                await actors.start(core.traces.run)
                if core.clock.is_real:
                    actors.start_soon(core.clock.follow, core.clock_was_set)
                self._streams = sessions
                addresses = Addresses()
                async with trio.open_nursery() as doors:
                    doors.start_soon(self._watch.run)
                    addresses.listeners = await self._open_listeners(doors, core)
                    await self._open_api(doors, addresses)
                    self._follow_push_gateway(doors)
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

    async def _start_access(self, core: Core) -> None:
        """Who is let in and who may do what, as it is configured."""
        for root, configured in (
            ("authentication", core.authenticators),
            ("authorization", core.authorization_sources),
        ):
            try:
                await configured.start()
            except ConfigError as error:
                stored = core.settings.stored
                raise with_advice(error, stored, blamed=root in stored) from error

    def _settings(self, stored: Mapping[str, Any]) -> Settings:
        try:
            settings = Settings(self._layers, stored)
            check_files(settings.config)
        except ConfigError as error:
            try:
                check_files(self._layers.config())
            except ConfigError:
                raise with_advice(error, stored) from error  # it would not start without what is stored either
            raise with_advice(error, stored, blamed=bool(stored)) from error
        return settings

    def _store_told(self, failure: str | None) -> None:
        if self._core is not None:
            self._core.store_told(failure)

    def _make_core(self, sessions: trio.Nursery, clock: Clock, documents: Documents, settings: Settings) -> Core:
        config = self.config
        self._authentication.allow_anonymous = config.mqtt.allow_anonymous  # as it may have been set over REST
        core = Core(
            node_name=config.node.name,
            limits=limits_of(config.mqtt),
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
        core.monitor = Monitor(core, config.dashboard.sample_interval)
        core.acknowledger = Acknowledger(core)
        core.api_keys = ApiKeys(core)
        core.dashboard_users = DashboardUsers(core)
        core.authn_users = AuthnUsers(core)
        core.authenticators = Authenticators(core)
        core.authorization_sources = AuthorizationSources(core)
        core.banned = Banned(core)
        core.flapping = Flapping(core)
        core.topic_rewrite = TopicRewrite(core)
        core.auto_subscribe = AutoSubscribe(core)
        core.manager = SessionManager(core)
        mark = config.sysmon.memory_high_watermark.bytes_of(total_bytes())
        core.system_topics = SysTopics(core, config.sys_topics)
        core.system_watch = SystemWatch(core, config.sysmon.os)
        core.memory_guard = MemoryGuard(core.limits.pressure, mark)
        core.memory_guard.alarms = core.alarms
        core.poller = Poller(core) if Poller.is_available() else None
        core.delayed = Delayed(core)
        core.topic_metrics = TopicMetrics(core)
        core.slow_subscriptions = SlowSubscriptions(core)
        core.interceptors.add(core.topic_rewrite)
        core.interceptors.add(core.delayed)
        core.interceptors.add(core.retainer.rules.clearing)
        core.interceptors.add(core.topic_metrics)
        core.interceptors.add(core.tracing)  # the last one: it sees what is routed
        follow(core)
        self._watch = TlsWatch(core.alarms)
        self._keeper = Keeper(self._door, self._watch)
        self.questions = Management(core, self._keeper)
        return core

    async def _open_listeners(self, nursery: trio.Nursery, core: Core) -> dict[str, tuple[Any, ...]]:
        assert self._keeper is not None
        core.settings.watch("listeners", self._keeper.changed)
        bound: dict[str, tuple[Any, ...]] = await nursery.start(self._keeper.run, self.config, core.settings.stored)
        return bound

    async def _open_api(self, nursery: trio.Nursery, addresses: Addresses) -> None:
        """All generations of it, each on its own listener."""
        if not self.config.has_api:
            if self._makes_new_password:
                raise ConfigError("dashboard.listeners", "a new password is asked for, and there is no REST API")
            return
        # The web framework is loaded only by brokers that have a REST API.
        from trio_broker.api.doors import open_doors

        # First what may fail: a secret that was made and then not shown is lost.
        with await open_doors(self.config, self.questions, lambda: not self._closing.is_set()) as doors:
            generated = await self._open_administrators()
            addresses.generated_key, addresses.generated_user = generated.key, generated.user
            for door in doors:
                if door.files is not None:
                    self._watch.use(door.name, [door.files])
                setattr(addresses, door.address, await nursery.start(door.serve, self._closing.wait))

    async def _open_administrators(self) -> Generated:
        from trio_broker.api.keys import open_administrators

        core = self._running()
        bootstrap = self.config.api_key.bootstrap_file
        return await open_administrators(
            core.api_keys,
            core.dashboard_users,
            None if self.config.in_memory else Path(self.config.node.data_dir),
            Path(bootstrap) if bootstrap else None,
            new_password=self._makes_new_password,
        )

    def _follow_push_gateway(self, nursery: trio.Nursery) -> None:
        """Figures are pushed while `prometheus.push_gateway` says so; until then nothing of it is loaded."""
        gateway: PushGateway | None = None

        def follow_push_gateway(_before: Config, after: Config) -> None:
            nonlocal gateway
            config = after.prometheus.push_gateway
            if gateway is None and config.enable:
                from trio_broker.api.push_gateway import PushGateway

                gateway = PushGateway(self.questions, nursery, config)
            if gateway is not None:
                gateway.follow(config)

        self.questions.settings.watch("prometheus", follow_push_gateway)
        follow_push_gateway(self.config, self.config)

    async def _shut_down(self, core: Core) -> None:
        """Accept nothing more, tell clients, publish what would be lost, let what is on its way arrive."""
        log.info("shutting down")
        assert self._keeper is not None
        self._keeper.close()
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


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """The one exception in a group of groups; None when there are several."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        if len(error.exceptions) != 1:
            return None
        error = error.exceptions[0]
    return error
