"""The configuration at run time: what was set over REST lies between the file and the environment.

Invariant: a change is checked, then in force, then kept, and only then answered; one that cannot be put in force leaves
everything as it was. `config` is always the whole configuration in force.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from trio_broker.config import Config, Layers
from trio_broker.config.http_client import with_query_of
from trio_broker.config.load import without_deleted
from trio_broker.config.setting import HIDDEN
from trio_broker.config.tree import UnknownKey, keys, overlay, plain
from trio_broker.config.without_effect import without_effect
from trio_broker.errors import ConfigError, TrioBrokerError

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

log = logging.getLogger("trio_broker.settings")

KIND: Final = "config"
"""The kind of the documents; the key is the root (`mqtt`, `listeners`, ...), the body what was set below it."""

FIXED: Final = ("shutdown_timeout", "node", "store", "api", "api_key", "dashboard.listeners", "outbound")
"""What is settled when the broker starts."""

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

    async def change(
        self,
        layer: Mapping[str, Any] | Callable[[Config], Mapping[str, Any]],
        *,
        ignore_fixed: bool = False,
        again: bool = False,
    ) -> Config:
        """Lay `layer` (by root, plain form) over what is in force; lists and other values are replaced.

        Where it follows from what is in force, it is a function of that; nothing changes in between.

        Secrets that are shown hidden (`******`) stay as they are; `ignore_fixed` leaves out what cannot be changed
        while the broker runs; `again` tells the watchers of these roots, whether that changes them or not. Returns
        when it is in force and durable. Raises ConfigError, Overridden, or what a watcher raises.
        """
        async with self._lock:
            layer = self._checked(layer(self.config) if callable(layer) else layer, ignore_fixed)
            stored = dict(self.stored)
            for root, value in layer.items():
                stored[root] = merged(stored.get(root), value)
            return await self._take(stored, layer, again=layer.keys() if again else ())

    async def replace(self, layer: Mapping[str, Any], *, ignore_fixed: bool = False) -> Config:
        """The same, but what was stored of these roots before is forgotten: an empty one is as the file has it."""
        async with self._lock:
            layer = self._checked(layer, ignore_fixed)
            return await self._take({**self.stored, **layer}, layer)

    async def reset(self, root: str, path: Sequence[str] = ()) -> Config:
        """Forget what was stored of a root, or of the one place below it that `path` leads to.

        Raises LookupError where there is no such place, ConfigError for what cannot be changed while the broker runs,
        Overridden where the environment or the command line says what it is.
        """
        async with self._lock:
            place = ".".join((root, *path))
            if not _says(plain(self.config), place):
                if not path and self.core.documents.delete(KIND, root):  # of another version, and ignored by this one
                    await self.core.durable()
                    return self.config
                raise LookupError(place)
            if any(place == fixed or place.startswith(f"{fixed}.") for fixed in FIXED):
                raise ConfigError(place, "is settled when the broker starts, and cannot be changed while it runs")
            if any(_says(said, place) for _, said in self._layers.above if path):
                raise Overridden(place)
            left = self.stored.get(root, {})
            if not path:
                left = {}
            elif _says(self.stored, place):
                left = _without(left, list(path))
            return await self._take({**self.stored, root: left}, {root: left})

    def _checked(self, layer: Mapping[str, Any], ignore_fixed: bool) -> dict[str, Any]:
        """A copy that can be stored: without what cannot be changed, and with the secrets that are hidden in it."""
        config = self.config
        checked = dict(layer)
        said = [path for path in FIXED if _says(layer, path)]
        for path in said:
            checked = _without(checked, path.split("."))
        try:
            wanted = overlay(config, without_deleted(checked if ignore_fixed else layer)[0])
        except UnknownKey as unknown:
            raise unknown.with_nearest(keys(Config)) from None
        for path in said:
            if attrgetter(path)(wanted) != attrgetter(path)(config):
                raise ConfigError(path, "is settled when the broker starts, and cannot be changed while it runs")
        revealed_layer: dict[str, Any] = revealed(checked, plain(config, secrets=True))
        return revealed_layer

    async def _take(self, stored: dict[str, Any], layer: Mapping[str, Any], *, again: Collection[str] = ()) -> Config:
        stored = {root: value for root, value in stored.items() if value != {}}
        before = self.config
        after = self._layers.config(stored)
        self._check_overridden(stored, after, layer)
        await self._put_in_force(before, after, again)
        self.config = after
        documents = self.core.documents
        for root in layer:
            if root in stored:
                documents.put(KIND, root, stored[root])
            else:
                documents.delete(KIND, root)
        self.stored = stored
        tell_what_is_without_effect(before, after)
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

    async def _put_in_force(self, before: Config, after: Config, again: Collection[str]) -> None:
        """One watcher after the other; when one refuses, those before it go back."""
        done: list[Watcher] = []
        try:
            for root, watcher in self._watchers:
                if root in again or getattr(before, root) != getattr(after, root):
                    done.append(watcher)
                    await _call(watcher, before, after)
        except BaseException as error:
            if isinstance(error, TrioBrokerError):
                done.pop()  # who refuses has changed nothing; who fails may have done half of it
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                for watcher in reversed(done):
                    try:
                        await _call(watcher, after, before)
                    except Exception:  # the others go back all the same, and why they have to is what is told
                        log.exception("a setting could not be put back")
            raise


def tell_what_is_without_effect(before: Config | None, config: Config) -> None:
    """A line for each key that was given another value than its default (since `before`), and changes nothing."""
    told = () if before is None else without_effect(before)
    for key in without_effect(config):
        if key not in told:
            log.warning("%s has no effect in this version", key)


def roots() -> list[str]:
    """The names at the top of the configuration, in their order."""
    return list(dict.fromkeys(key.partition(".")[0] for key in keys(Config)))


def merged(old: Any, new: Any) -> Any:
    """`new` over `old`: tables are merged, everything else is replaced."""
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return new
    return {**old, **{key: merged(old.get(key), value) for key, value in new.items()}}


def revealed(new: Any, secret: Any) -> Any:
    """`new` with what `secret` has at the same place for each hidden secret."""
    if isinstance(new, str) and isinstance(secret, str) and HIDDEN in new:
        return secret if new == HIDDEN else with_query_of(new, secret)
    if isinstance(new, Mapping):
        below = secret if isinstance(secret, Mapping) else {}
        return {key: revealed(value, below.get(key)) for key, value in new.items()}
    if isinstance(new, list):
        values = secret if isinstance(secret, list) else []
        by_name = {name: value for value in values if (name := _name(value)) is not None}
        return [
            revealed(value, by_name.get(name) if name is not None else values[at] if at < len(values) else None)
            for at, value in enumerate(new)
            for name in (_name(value),)
        ]
    return new


def _name(item: Any) -> tuple[Any, ...] | None:
    """What an authenticator or an authorization source is known by, wherever it stands in its list."""
    if not isinstance(item, Mapping) or not ("mechanism" in item or "type" in item):
        return None
    return tuple(str(item.get(key)) for key in ("mechanism", "backend", "type"))


def _says(layer: Mapping[str, Any], path: str) -> bool:
    found: Any = layer
    for name in path.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return False
        found = found[name]
    return True


def _without(layer: Mapping[str, Any], path: list[str]) -> dict[str, Any]:
    name, *below = path
    if not below:
        return {key: value for key, value in layer.items() if key != name}
    return {**layer, name: _without(layer[name], below)}


def _differ(said: Any, wanted: Any, found: Any) -> bool:
    """Where something was said: is there another value than wanted?"""
    if isinstance(said, Mapping) and isinstance(wanted, Mapping) and isinstance(found, Mapping):
        return any(_differ(value, wanted.get(key), found.get(key)) for key, value in said.items())
    return bool(wanted != found)


async def _call(watcher: Watcher, before: Config, after: Config) -> None:
    result = watcher(before, after)
    if result is not None:
        await result
