"""Who owns the listeners: opens, changes and closes them as the configuration says, while clients come and go.

Invariant: the listeners that run are those of the configuration in force; a change that cannot be carried out leaves
all of them as they were.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import trio
from attrs import define, field

from trio_broker.actors.gate import Gate
from trio_broker.actors.questions import ListenerInfo
from trio_broker.config import Config, ListenerConfig, listener_configs
from trio_broker.config.check import check_listener_files
from trio_broker.errors import ActorGone, ConfigError, ListenerError, TrioBrokerError
from trio_broker.listeners.advice import with_advice
from trio_broker.listeners.kinds import make_listener
from trio_broker.listeners.listener import BoundAddress, Listener, Places, info_of
from trio_broker.listeners.same_place import door_of, in_the_way_of, place_of, same_bind
from trio_broker.listeners.tls import StreamListener
from trio_broker.listeners.tls_files import TlsWatch

log = logging.getLogger(__name__)

PUT_BACK_WITHIN = 5.0
"""Seconds to open again what was closed for a change that then failed."""

Bound = tuple[Any, ...]
"""(host, port), or (path,) for a Unix socket."""


@define(eq=False)
class Keeper:
    """`run` it; `changed` is the watcher of `listeners` in the settings."""

    _gate: Gate
    _watch: TlsWatch = field(factory=TlsWatch)
    _config: Config = field(factory=Config, init=False)
    _running: dict[str, Listener] = field(factory=dict, init=False)
    _places: dict[str, Places] = field(factory=dict, init=False)
    _lock: trio.Lock = field(factory=trio.Lock, init=False)
    _nursery: trio.Nursery | None = field(default=None, init=False)

    async def run(
        self,
        config: Config,
        stored: Mapping[str, Any],
        *,
        task_status: trio.TaskStatus[dict[str, Bound]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Open all that are enabled, report their addresses by identifier, serve until cancelled.

        Raises ListenerError or ConfigError for the first that cannot be opened; `stored` is what was set over REST.
        """
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                try:
                    await self.changed(self._config, config)
                except (ConfigError, ListenerError) as error:
                    raise with_advice(error, stored) from error.__cause__
                task_status.started({identifier: _address(bound) for identifier, bound in self._bound()})
                await trio.sleep_forever()
        finally:
            self.close()

    def close(self) -> None:
        """The broker ends: accept nothing more. Who is connected stays so."""
        self._nursery = None
        for listener in self._running.values():
            listener.close()

    def infos(self) -> list[ListenerInfo]:
        """All that are configured, those not enabled too."""
        return [self._info(config) for config in listener_configs(self._config)]

    def _info(self, config: ListenerConfig) -> ListenerInfo:
        listener = self._running.get(config.identifier)
        if listener is not None:
            return listener.info()
        places = self._places.get(config.identifier)
        return info_of(config, None, running=False, connections=places.taken if places is not None else 0)

    def _bound(self) -> Iterable[tuple[str, BoundAddress]]:
        for identifier, listener in self._running.items():
            assert listener.bound is not None
            yield identifier, listener.bound

    # -- changes ------------------------------------------------------------------------------------------------

    async def changed(self, before: Config, after: Config) -> None:
        """Make the listeners those of `after`. Raises ListenerError or ConfigError, and has then changed nothing."""
        async with self._lock:
            wanted = {config.identifier: config for config in listener_configs(after) if config.enable}
            renewed: list[tuple[Listener, Listener]] = []
            fresh: list[Listener] = []
            leaving = [listener for identifier, listener in self._running.items() if identifier not in wanted]
            dropped = list(leaving)
            for identifier, config in wanted.items():
                old = self._running.get(identifier)
                if old is not None and old.config == config:
                    continue
                listener = self._made(config)
                if old is None:
                    fresh.append(listener)
                elif door_of(old.config) == door_of(config):
                    listener.prepare()
                    renewed.append((old, listener))
                else:
                    fresh.append(listener)
                    leaving.append(old)
                    if old.config.bind != config.bind:
                        dropped.append(old)
            await self._open(fresh, leaving)
            rates = {identifier: _rates(listener.config) for identifier, listener in self._running.items()}
            # From here on nothing fails, and nothing waits until all of it is in force.
            self._exchange(fresh, leaving, dropped)
            for old, listener in renewed:
                old.become(listener)
            self._config = after
            known = {config.identifier for config in listener_configs(after)}
            self._places = {name: places for name, places in self._places.items() if name in known or places.taken}
            self._watch_files()
            with trio.CancelScope(shield=True):  # no I/O, and no more work than there are connections
                for identifier, listener in list(self._running.items()):
                    if rates.get(identifier, _rates(listener.config)) != _rates(listener.config):
                        await self._gate.use_rates(identifier, *_rates(listener.config))

    async def start(self, identifier: str) -> None:
        """Open it if it is enabled and does not run, which is so only after a failure. Raises as `changed` does."""
        async with self._lock:
            config = self._enabled(identifier)
            if config is not None and identifier not in self._running:
                listener = self._made(config)
                await self._open([listener], [])
                self._exchange([listener], [], [])
                self._watch_files()

    async def restart(self, identifier: str) -> None:
        """Close it with all its connections, and open it anew: its files are read again. Raises as `changed` does."""
        async with self._lock:
            config = self._enabled(identifier)
            if config is None:
                return
            listener = self._made(config)
            old = [self._running[identifier]] if identifier in self._running else []
            await self._open([listener], old)
            self._exchange([listener], old, old)
            self._watch_files()

    async def reload(self, identifier: str) -> None:
        """Read the files of its certificate again, for who comes from now on. Raises ListenerError."""
        async with self._lock:
            listener = self._running.get(identifier)
            if isinstance(listener, StreamListener) and listener.tls is not None:
                self._watch.reload(listener.tls)

    def _watch_files(self) -> None:
        running = self._running.values()
        self._watch.use(
            "listeners", [one.tls for one in running if isinstance(one, StreamListener) and one.tls is not None]
        )

    def _enabled(self, identifier: str) -> ListenerConfig | None:
        for config in listener_configs(self._config):
            if config.identifier == identifier:
                return config if config.enable else None
        return None

    def _made(self, config: ListenerConfig) -> Listener:
        check_listener_files(config)
        listener = make_listener(config)
        listener.places = self._places.setdefault(config.identifier, Places())
        return listener

    async def _open(self, fresh: list[Listener], leaving: list[Listener]) -> None:
        """Open all of `fresh`. Those `leaving` that stand in their way are closed, and opened again on failure."""
        opened: list[Listener] = []
        closed: list[Listener] = []
        try:
            if self._nursery is None:
                raise ActorGone("the broker is ending")
            for listener in fresh:
                listener.prepare()  # what is wrong with one is said before a door is closed for another
            waiting: list[Listener] = []
            for listener in fresh:
                in_the_way = [old for old in leaving if in_the_way_of(old, listener)]
                if any(same_bind(old, listener) for old in in_the_way):
                    waiting.append(listener)
                    continue
                try:
                    await listener.open()
                    opened.append(listener)
                except ListenerError:
                    if not in_the_way:
                        raise
                    waiting.append(listener)
            for listener in waiting:
                closed += [old for old in leaving if in_the_way_of(old, listener) and old.running]
                for old in closed:
                    old.close()
            for listener in waiting:
                await listener.open(place_of(listener, leaving))
                opened.append(listener)
        except BaseException:
            for listener in opened:
                listener.close()
            await self._put_back(closed)
            raise
        if self._nursery is None:  # `close` came meanwhile, and does not know of these
            for listener in opened:
                listener.close()
            raise ActorGone("the broker is ending")

    def _exchange(self, fresh: list[Listener], leaving: list[Listener], dropped: list[Listener]) -> None:
        for old in leaving:
            del self._running[old.identifier]
            if old in dropped:
                old.drop(self._gate)
            else:
                old.close()
        self._serve(fresh)

    def _serve(self, opened: list[Listener]) -> None:
        assert self._nursery is not None
        for listener in opened:
            self._running[listener.identifier] = listener
            self._nursery.start_soon(listener.serve, self._gate)

    async def _put_back(self, closed: list[Listener]) -> None:
        """Open again what was closed, where it was; its connections have not noticed."""
        for old in closed:
            del self._running[old.identifier]
        with trio.CancelScope(shield=True, deadline=trio.current_time() + PUT_BACK_WITHIN):
            for old in closed:
                listener = make_listener(old.config)
                listener.places = old.places
                try:
                    await listener.open(old.bound)
                except TrioBrokerError as error:
                    log.error("closed for a change that failed, and cannot be opened again: %s", error)
                else:
                    if self._nursery is None:
                        listener.close()
                    else:
                        self._serve([listener])
        self._watch_files()


def _address(bound: BoundAddress) -> Bound:
    return (bound.host,) if bound.port is None else (bound.host, bound.port)


def _rates(config: ListenerConfig) -> tuple[float, float]:
    """What one client may send in a second."""
    return config.messages_rate, config.bytes_rate
