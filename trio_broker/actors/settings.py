"""The configuration at run time: what was set over REST lies between the file and the environment.

Invariant: a change is checked, then in force, then kept, and only then answered; one that cannot be put in force leaves
everything as it was. `config` is always the whole configuration in force.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from trio_broker.config import Config, Layers
from trio_broker.config.tree import keys, plain
from trio_broker.errors import ConfigError, TrioBrokerError

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

log = logging.getLogger("trio_broker.settings")

KIND: Final = "config"
"""The kind of the documents; the key is the root (`mqtt`, `listeners`, ...), the body what was set below it."""

FIXED: Final = frozenset({"node", "store"})
"""Roots that are settled when the broker starts."""

Watcher = Callable[[Config, Config], Awaitable[None] | None]
"""Gets the configuration before and after; it may raise ConfigError or ListenerError, and has then changed nothing."""


class Overridden(TrioBrokerError):
    """Something above (the environment, the command line) says otherwise; `key` is the root."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key}: is set by the environment or the command line, which nothing can override")
        self.key = key


class Settings:
    """`stored`: by root, what was set over REST, in the plain form of the configuration."""

    def __init__(self, layers: Layers, stored: Mapping[str, Any]) -> None:
        self._layers = layers
        self.stored: dict[str, Any] = dict(stored)
        self.config = layers.config(self.stored)
        self._watchers: list[tuple[str, Watcher]] = []
        self._lock = trio.Lock()
        self.core: Core

    def watch(self, root: str, watcher: Watcher) -> None:
        """Call it with (before, after) whenever that root of the configuration changes."""
        self._watchers.append((root, watcher))

    async def change(self, layer: Mapping[str, Any]) -> Config:
        """Lay `layer` (by root, plain form) over what is in force; lists and other values are replaced.

        Returns when it is in force and durable. Raises ConfigError, Overridden, or what a watcher raises.
        """
        async with self._lock:
            stored = dict(self.stored)
            for root, value in layer.items():
                stored[root] = merged(stored.get(root), value)
            return await self._take(stored, layer)

    async def replace(self, layer: Mapping[str, Any]) -> Config:
        """The same, but what was stored of these roots before is forgotten: an empty one is as the file has it."""
        async with self._lock:
            return await self._take({**self.stored, **layer}, layer)

    async def _take(self, stored: dict[str, Any], layer: Mapping[str, Any]) -> Config:
        for root in layer:
            if root not in roots():
                raise ConfigError(root, "unknown key")
            if root in FIXED:
                raise ConfigError(root, "is settled when the broker starts, and cannot be changed over REST")
        stored = {root: value for root, value in stored.items() if value != {}}
        before = self.config
        after = self._layers.config(stored)
        self._check_overridden(stored, after, layer)
        await self._put_in_force(before, after)
        self.config = after
        documents = self.core.documents
        for root in layer:
            if root in stored:
                documents.put(KIND, root, stored[root])
            else:
                documents.delete(KIND, root)
        self.stored = stored
        await self.core.durable()
        return after

    def _check_overridden(self, stored: Mapping[str, Any], after: Config, layer: Mapping[str, Any]) -> None:
        """Would a part of the change be without effect?"""
        if not self._layers.above:
            return
        wanted = plain(attrs.evolve(self._layers, above=()).config(stored), secrets=True)
        for root, value in layer.items():
            if _differ(value, wanted.get(root), plain(after, secrets=True).get(root)):
                raise Overridden(root)

    async def _put_in_force(self, before: Config, after: Config) -> None:
        """One watcher after the other; when one refuses, those before it go back."""
        done: list[Watcher] = []
        try:
            for root, watcher in self._watchers:
                if getattr(before, root) != getattr(after, root):
                    await _call(watcher, before, after)
                    done.append(watcher)
        except BaseException:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                for watcher in reversed(done):
                    try:
                        await _call(watcher, after, before)
                    except TrioBrokerError:
                        log.exception("a setting could not be put back")
            raise


def roots() -> list[str]:
    """The names at the top of the configuration, in their order."""
    return list(dict.fromkeys(key.partition(".")[0] for key in keys(Config)))


def merged(old: Any, new: Any) -> Any:
    """`new` over `old`: tables are merged, everything else is replaced."""
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return new
    return {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}


def _differ(said: Any, wanted: Any, found: Any) -> bool:
    """Where something was said: is there another value than wanted?"""
    if isinstance(said, Mapping) and isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return any(_differ(value, wanted.get(key), found.get(key)) for key, value in said.items())
    return bool(wanted != found)


async def _call(watcher: Watcher, before: Config, after: Config) -> None:
    result = watcher(before, after)
    if result is not None:
        await result
