"""Lists of the configuration whose items live: the authenticators, and the authorization sources.

Invariant: what lives is what the configuration in force says, in its order; an item whose configuration stays the same
lives on. Items of a change that is refused have never been asked, and are closed.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import trio

from trio_broker.actors.settings import revealed
from trio_broker.actors.speed import Rates
from trio_broker.config import Config
from trio_broker.config.tree import overlay, plain
from trio_broker.config.variants import Variants
from trio_broker.errors import TrioBrokerError

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

__all__ = ["AlreadyThere", "BadOrder", "BadPosition", "ConfiguredList", "Item", "NotThere", "OtherType"]

log = logging.getLogger("trio_broker.settings")

BODY: Final = "root"
"""What the errors of a body call it."""
LAST_WORDS: Final = 5.0
"""Seconds that those who are closed may take."""


class NotThere(TrioBrokerError):
    """There is no item of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"Not found: {name}")
        self.name = name


class AlreadyThere(TrioBrokerError):
    """There is one of this name, and there may be no other."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is there already")
        self.name = name


class OtherType(TrioBrokerError):
    """What is to take the place of one is of another type."""

    def __init__(self, name: str, other: str) -> None:
        super().__init__(f"{name} cannot become {other}")
        self.name = name
        self.other = other


class BadPosition(TrioBrokerError):
    """A position is `front`, `rear`, `before:NAME` or `after:NAME`."""


class BadOrder(TrioBrokerError):
    """A new order does not name each of them once; the message tells which."""


class Item(ABC):
    """One that lives, and its configuration."""

    config: Any

    @property
    def has_read(self) -> bool:
        """Is a part of what it goes by in a file, which may say something else by now?"""
        return False

    @abstractmethod
    async def start(self) -> None:
        """Before it is asked for the first time. Raises ConfigError where it cannot be as it is configured."""

    @abstractmethod
    async def close(self) -> None:
        """It is asked no more."""

    @abstractmethod
    async def delete(self) -> None:
        """It was taken out over REST, and is closed: what it keeps goes, too."""


Change = Callable[[dict[str, dict[str, Any]]], list[dict[str, Any]]]
I = TypeVar("I", bound=Item)  # noqa: E741


class ConfiguredList(ABC, Generic[I]):
    """`variants` declares the list. The names of items are what it calls them: there is one of each at most."""

    def __init__(self, core: Core, root: str, key: str, variants: Variants) -> None:
        self.core = core
        self.key = key
        self._variants = variants
        self._items: dict[str, I] = {}
        self._started = False
        self._lock = trio.Lock()
        self._to_read: str | None = None
        """The name of the one that reads its files again when the configuration is put in force."""
        core.settings.watch(root, self._changed)

    # -- what the subclasses know

    @abstractmethod
    def _configs(self, config: Config) -> Sequence[Any]:
        """The list in a configuration."""

    @abstractmethod
    def _layer(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        """What is to be set so that the list is this."""

    @abstractmethod
    def _make(self, name: str, config: Any) -> I:
        """Raises ConfigError."""

    @abstractmethod
    async def _use(self, items: Sequence[I], config: Config) -> None:
        """From now on these are asked (those that are enabled). Where it raises, it has changed nothing."""

    @abstractmethod
    def _check(self, config: Any, key: str) -> None:
        """What must hold within one item. Raises ConfigError."""

    # -- its life

    async def start(self) -> None:
        """Everything as the configuration has it. Raises ConfigError."""
        self._started = True
        await self._renew(self.core.settings.config)

    async def close(self) -> None:
        """The end of the broker."""
        self._started = False
        items, self._items = self._items, {}
        await _close(items.values())

    async def _changed(self, before: Config, after: Config) -> None:
        if self._started:
            await self._renew(after)

    async def _renew(self, config: Config) -> None:
        old = self._items
        items: dict[str, I] = {}
        new: list[I] = []
        try:
            for one in self._configs(config):
                name = self.name_of(one)
                item = old.get(name)
                if item is None or item.config != one or name == self._to_read:
                    item = self._make(name, one)
                    new.append(item)
                    await item.start()
                items[name] = item
            await self._use(list(items.values()), config)
        except BaseException:
            await _close(new)
            raise
        self._items, self._to_read = items, None
        await _close([item for name, item in old.items() if items.get(name) is not item])

    # -- what there is

    def name_of(self, config: Any) -> str:
        return self._variants.name_of(self._told_by(config), self.key)

    def kind_of(self, config: Any) -> str:
        """The name of its variant."""
        return self._variants.kind_of(self._told_by(config), self.key)

    def _told_by(self, config: Any) -> dict[str, Any]:
        return {key: getattr(config, key, None) for key in (*self._variants.chosen_by, *self._variants.apart)}

    @property
    def names(self) -> list[str]:
        """In their order."""
        return list(self._items)

    @property
    def known(self) -> list[str]:
        """The names that an item can have."""
        return list(self._variants.classes)

    def items(self) -> list[I]:
        """In their order, the disabled ones too."""
        return list(self._items.values())

    def get(self, name: str) -> I | None:
        return self._items.get(name)

    def found(self, name: str) -> I:
        """The same; raises NotThere."""
        item = self._items.get(name)
        if item is None:
            raise NotThere(name)
        return item

    # -- changes; all return when they are in force and durable, and raise what `Settings.change` raises

    async def add(self, body: Mapping[str, Any], *, front: bool = False) -> str:
        """Another one; returns its name. Raises AlreadyThere, ConfigError."""
        name, made = self._made(body)

        def added(items: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
            if name in items:
                raise AlreadyThere(name)
            return [made, *items.values()] if front else [*items.values(), made]

        await self._change(added)
        return name

    async def replace(self, name: str, body: Mapping[str, Any]) -> None:
        """All of one anew, but for secrets that are shown hidden; what it reads of files is read again.

        Raises NotThere, OtherType, ConfigError.
        """

        def replaced(items: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
            if name not in items:
                raise NotThere(name)
            other, made = self._made(self._variants.like(items[name], revealed(dict(body), items[name])))
            if other != name:
                raise OtherType(name, other)
            return [made if one == name else item for one, item in items.items()]

        async with self._lock:
            item = self.get(name)
            self._to_read = name if item is not None and item.has_read else None
            try:
                await self._change_alone(replaced, again=self._to_read is not None)
            finally:
                self._to_read = None

    async def remove(self, name: str) -> None:
        """Take it out, and what it keeps, too. Raises NotThere."""

        def removed(items: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
            if name not in items:
                raise NotThere(name)
            return [kept for one, kept in items.items() if one != name]

        with trio.CancelScope(shield=True):  # nobody shall find later what it kept
            async with self._lock:
                item = self.get(name)
                await self._change_alone(removed)
                if item is not None:
                    await item.delete()
                    await self.core.durable()

    async def move(self, name: str, position: str) -> None:
        """Raises NotThere for `name`, BadPosition."""
        await self._change(lambda items: [items[one] for one in moved(list(items), name, position)])

    async def reorder(self, names: Sequence[str]) -> None:
        """Raises BadOrder."""

        def ordered(items: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
            check_order(list(items), names)
            return [items[name] for name in names]

        await self._change(ordered)

    async def _change(self, change: Change) -> None:
        async with self._lock:
            await self._change_alone(change)

    async def _change_alone(self, change: Change, *, again: bool = False) -> None:
        """`change` gets what is in force by name, secrets and all, and answers the whole list.

        `again`: it is put in force also where it is the same.
        """

        def layer(config: Config) -> dict[str, Any]:
            items = {self.name_of(one): plain(one, secrets=True) for one in self._configs(config)}
            return self._layer(change(items))

        await self.core.settings.change(layer, again=again)

    def _made(self, body: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """The name and all keys of one; raises ConfigError, which calls it `root`."""
        config = overlay(self._variants.classes[self._variants.kind_of(body, BODY)](), body, BODY)
        self._check(config, BODY)
        return self.name_of(config), plain(config, secrets=True)


def moved(names: list[str], name: str, position: str) -> list[str]:
    """`names` with one of them elsewhere. Raises NotThere, BadPosition."""
    if name not in names:
        raise NotThere(name)
    left = [one for one in names if one != name]
    where, _, other = position.partition(":")
    if position == "front":
        at = 0
    elif position == "rear":
        at = len(left)
    elif where in ("before", "after") and other:
        if other == name:
            raise BadPosition(f"{name} cannot be moved {where} itself")
        if other not in left:
            others = ", ".join(left) or "no others"
            raise BadPosition(f"there is no {other[:200]} to be moved {where}; there are {others}")
        at = left.index(other) + (where == "after")
    else:
        raise BadPosition(f"{position[:200]!r} is not front, rear, before:NAME or after:NAME")
    return [*left[:at], name, *left[at:]]


def check_order(names: Sequence[str], wanted: Sequence[str]) -> None:
    """Raises BadOrder unless `wanted` has each of `names` once."""
    missing = [name for name in names if name not in wanted]
    unknown = [name[:200] for name in dict.fromkeys(wanted) if name not in names]
    twice = [name[:200] for name in dict.fromkeys(wanted) if wanted.count(name) > 1]
    faults = [("not named", missing), ("not there", unknown), ("named more than once", twice)]
    told = [f"{what}: {', '.join(which)}" for what, which in faults if which]
    if told:
        raise BadOrder("; ".join(told))


def with_rates(figures: Mapping[str, float], rates: Rates) -> dict[str, float]:
    """What is counted, and how fast."""
    return {**figures, **rates._asdict()}


def kind(place: str) -> Any:
    """The class at `module:name`, imported now: who has none of this kind does not load what it needs."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


async def _close(items: Any) -> None:
    """What fails is logged: who is not asked any more must not stop a change."""
    with trio.CancelScope(shield=True), trio.move_on_after(LAST_WORDS):
        for item in items:
            try:
                await item.close()
            except Exception:
                log.exception("an authenticator or authorization source could not be closed")
