"""How a feature is switched: by a setting, by the authenticators and sources it is made of, or not at all.

Invariant: nothing is changed here; a switch says what is to be set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeAlias

import attrs
from attrs import frozen

from trio_broker.config import Config
from trio_broker.config.authentication import id_of
from trio_broker.config.tree import plain
from trio_broker.errors import TrioBrokerError

__all__ = [
    "Access",
    "AlreadyStarted",
    "Feature",
    "Kind",
    "NoSuchFeature",
    "NotPossible",
    "NotStarted",
    "always",
    "by_access",
    "by_setting",
    "refusal",
]

Kind: TypeAlias = Literal["auth", "bridge", "feature", "protocol", "module"]
Test: TypeAlias = Callable[[Config], bool]
Switch: TypeAlias = Callable[[Config], dict[str, Any]]


class NoSuchFeature(TrioBrokerError):
    """There is nothing of this name."""


class AlreadyStarted(TrioBrokerError):
    """It runs, all of it."""


class NotStarted(TrioBrokerError):
    """Nothing of it runs."""


class NotPossible(TrioBrokerError):
    """It cannot be started or stopped; the message says why."""


@frozen(kw_only=True)
class Feature:
    """`is_active`: does any of it run? `is_whole`: does all of it?

    `start` and `stop` say what is to be set, by root, and raise NotPossible. `reads` is the authorization source that
    reads a file.
    """

    name: str
    description: str
    kind: Kind
    is_active: Test
    is_whole: Test
    start: Switch
    stop: Switch
    reads: str = ""


@frozen(kw_only=True)
class Access:
    """The authenticators and authorization sources that are like these; with `adds`, those that are missing are added.

    A source that is added comes before the others, as file rules mostly end with one for everybody.
    """

    authenticators: Sequence[Any] = ()
    sources: Sequence[Any] = ()
    adds: bool = False

    def is_active(self, config: Config) -> bool:
        return any(one.enable for one in self._own(config))

    def is_whole(self, config: Config) -> bool:
        own = self._own(config)
        wanted = [*self.authenticators, *self.sources] if self.adds else []
        return bool(own) and all(one.enable for one in own) and not _missing(own, wanted)

    def start(self, config: Config) -> dict[str, Any]:
        if not self.adds and not self._own(config):
            raise NotPossible("nothing of this kind is configured: add an authenticator or an authorization source")
        return self._layer(config, True)

    def stop(self, config: Config) -> dict[str, Any]:
        return self._layer(config, False)

    def _own(self, config: Config) -> list[Any]:
        there = (*config.authentication, *config.authorization.sources)
        return [one for one in there if _is_among(one, [*self.authenticators, *self.sources])]

    def _layer(self, config: Config, enable: bool) -> dict[str, Any]:
        """Only with what changes: what is set over REST stays as it is, whatever the file says later."""
        chain, sources = config.authentication, config.authorization.sources
        layer: dict[str, Any] = {}
        changed = tuple(_switched(chain, self.authenticators, enable))
        for one in _missing(chain, self.authenticators) if enable and self.adds else ():
            changed = (*changed, _beside(one, changed))
        if changed != chain:
            layer["authentication"] = [plain(one, secrets=True) for one in changed]
        new = _missing(sources, self.sources) if enable and self.adds else []
        changed = (*new, *_switched(sources, self.sources, enable))
        if changed != sources:
            layer["authorization"] = {"sources": [plain(one, secrets=True) for one in changed]}
        return layer


def _is_among(one: Any, wanted: Iterable[Any]) -> bool:
    """Is it of the type of one of these, and does it look users up by the same?"""
    user_id_type = getattr(one, "user_id_type", None)
    return any(type(one) is type(like) and user_id_type == getattr(like, "user_id_type", None) for like in wanted)


def _missing(there: Iterable[Any], wanted: Iterable[Any]) -> list[Any]:
    there = list(there)
    return [like for like in wanted if not _is_among(like, there)]


def _beside(one: Any, chain: Iterable[Any]) -> Any:
    """The same, with users of its own where there is one of its name."""
    is_there = id_of(one) in [id_of(other) for other in chain]
    return attrs.evolve(one, user_table=one.user_id_type) if is_there else one


def _switched(there: Iterable[Any], wanted: Sequence[Any], enable: bool) -> list[Any]:
    return [attrs.evolve(one, enable=enable) if _is_among(one, wanted) else one for one in there]


def by_access(name: str, description: str, access: Access, kind: Kind = "auth", reads: str = "") -> Feature:
    return Feature(
        name=name,
        description=description,
        kind=kind,
        is_active=access.is_active,
        is_whole=access.is_whole,
        start=access.start,
        stop=access.stop,
        reads=reads,
    )


def by_setting(name: str, description: str, kind: Kind, is_active: Test, start: Switch, stop: Switch) -> Feature:
    return Feature(
        name=name,
        description=description,
        kind=kind,
        is_active=is_active,
        is_whole=is_active,
        start=start,
        stop=stop,
    )


def refusal(why: str) -> Switch:
    def refused(_: Config) -> dict[str, Any]:
        raise NotPossible(why)

    return refused


def always(name: str, description: str, kind: Kind, why: str) -> Feature:
    """`why` it cannot be stopped."""
    return by_setting(name, description, kind, lambda _: True, refusal("it runs"), refusal(why))
