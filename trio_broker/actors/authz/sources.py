"""The authorization sources of the configuration, and the settings beside them: what `core.authorization` goes by.

Invariant: when a change has returned, every client that is connected goes by it, and nothing that was decided before
holds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from attrs import asdict, define, field

from trio_broker.access.authorization import CachePolicy, Figures, Source
from trio_broker.actors import authorizing
from trio_broker.actors.configured import ConfiguredList, Item, kind, with_rates
from trio_broker.actors.speed import Speed
from trio_broker.config import Config
from trio_broker.config.access import check_source
from trio_broker.config.authorization import AuthorizationConfig
from trio_broker.config.setting import entries
from trio_broker.config.variants import Variants
from trio_broker.errors import ActorGone, AskTimeout

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

__all__ = ["AuthorizationSources", "SourceStatus"]

log = logging.getLogger("trio_broker.authorization")

KINDS: Final[Mapping[str, str]] = {
    "file": "trio_broker.actors.authz.file:FileSource",
    "built_in_database": "trio_broker.actors.authz.built_in:BuiltInRules",
    "http": "trio_broker.actors.authz.http:HttpSource",
}


@define(frozen=True)
class SourceStatus:
    """`metrics` are counts and rates (a second); `resource_metrics` is empty where nobody else is asked.

    `rules` is how many clients and users it has rules for, and one more for all; None where they are not kept here.
    """

    type: str
    enable: bool
    status: str
    metrics: Mapping[str, float]
    resource_metrics: Mapping[str, float]
    rules: int | None = None


@define
class _TimedFigures(Figures):
    """Figures, and how fast they grow."""

    now: Callable[[], float] = field(kw_only=True)
    speed: Speed = field(kw_only=True)

    def count(self, answer: bool | None) -> None:
        Figures.count(self, answer)
        self.speed.look(self.total, self.now())


class _Kept(Item):
    """One source."""

    def __init__(self, source: Source, config: Any, core: Core) -> None:
        self.it = source
        self.config = config
        self._clock = core.clock
        now = core.clock.now()
        self._speed = Speed(now)
        self._resource_speed = Speed(now)
        source.figures = _TimedFigures(now=core.clock.now, speed=self._speed)

    @property
    def has_read(self) -> bool:
        return bool(getattr(self.config, "path", ""))

    async def start(self) -> None:
        await self.it.load()
        if self.config.enable:
            await self.it.start()

    async def close(self) -> None:
        await self.it.close()

    async def delete(self) -> None:
        await self.it.delete()

    def status(self) -> SourceStatus:
        now, figures, resource = self._clock.now(), self.it.figures, getattr(self.it, "resource", None)
        self._speed.look(figures.total, now)
        shown: dict[str, float] = {}
        names = getattr(self.it, "names", None)
        if resource is not None:
            self._resource_speed.look(resource.matched, now)
            shown = with_rates(asdict(resource), self._resource_speed.rates(now))
        counts = {name: getattr(figures, name) for name in ("total", "allow", "deny", "nomatch", "ignore")}
        return SourceStatus(
            self.it.type,
            self.config.enable,
            getattr(self.it, "status", "connected") if self.config.enable else "disconnected",
            with_rates(counts, self._speed.rates(now)),
            shown,
            None if names is None else sum(len(names(whose)) for whose in ("clientid", "username", "all")),
        )


class AuthorizationSources(ConfiguredList[_Kept]):
    """`core.authorization_sources`. Names are types such as `built_in_database`."""

    def __init__(self, core: Core) -> None:
        variants = entries(AuthorizationConfig)["sources"]
        assert isinstance(variants, Variants)
        super().__init__(core, "authorization", "authorization.sources", variants)

    def one(self, source_type: str) -> Source | None:
        """The source of this type, enabled or not; None where none is configured."""
        kept = self.get(source_type)
        return None if kept is None else kept.it

    def statuses(self) -> list[SourceStatus]:
        """Of all of them, in their order."""
        return [kept.status() for kept in self.items()]

    def status(self, source_type: str) -> SourceStatus:
        """Raises NotThere."""
        return self.found(source_type).status()

    async def read_again(self, source_type: str) -> None:
        """What it reads from a file counts as it is now. Raises NotThere, ConfigError."""
        async with self._lock:
            self._to_read = source_type if self.found(source_type).has_read else None
            try:
                await self.core.settings.change({"authorization": {}}, again=True)
            finally:
                self._to_read = None

    async def forget_decisions(self) -> None:
        """No client goes by what was decided before."""
        await authorizing.forget_decisions(self.core)

    def _configs(self, config: Config) -> Sequence[Any]:
        return config.authorization.sources

    def _layer(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return {"authorization": {"sources": items}}

    def _check(self, config: Any, key: str) -> None:
        check_source(config, key)

    def _make(self, name: str, config: Any) -> _Kept:
        return _Kept(kind(KINDS[name])(config, self.core), config, self.core)

    async def _use(self, items: Sequence[_Kept], config: Config) -> None:
        authorization, wanted = self.core.authorization, config.authorization
        before = (authorization.sources, authorization.no_match, authorization.deny_disconnects, authorization.cache)
        authorization.sources = [kept.it for kept in items if kept.config.enable]
        authorization.no_match = wanted.no_match == "allow"
        authorization.deny_disconnects = wanted.deny_action == "disconnect"
        cache = wanted.cache
        authorization.cache = CachePolicy(cache.enable, cache.max_size, cache.ttl, cache.excludes)
        try:
            await authorizing.refresh(self.core)
        except BaseException:
            authorization.sources, authorization.no_match = before[:2]
            authorization.deny_disconnects, authorization.cache = before[2:]
            self.core.sessions_nursery.start_soon(self._back)
            raise

    async def _back(self) -> None:
        """A change could not be told to all: those that were told go by what was in force before, again."""
        while True:
            try:
                await authorizing.refresh(self.core)
            except AskTimeout:
                log.warning("the clients cannot be told what they may do; trying again")
            except ActorGone:
                return  # the broker ends
            else:
                return
