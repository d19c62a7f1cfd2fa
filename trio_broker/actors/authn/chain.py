"""The authenticators of the configuration: they are in the chain, in their order, behind those of the program.

Invariant: a verdict that comes from one of them has its id. What one of them fails with is logged, and the next one is
asked.

How long they may take in all: each as long as its own timeouts say; the session manager waits for that, or for
`mqtt.idle_timeout` where it is longer.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs
from attrs import asdict, define

from trio_broker.access.authentication import Challenge, Conversation, Credentials, EnhancedAuthenticator, Verdict
from trio_broker.actors.authn.base import ConfiguredAuthenticator
from trio_broker.actors.configured import ConfiguredList, Item, kind, with_rates
from trio_broker.actors.speed import Speed
from trio_broker.config import Config
from trio_broker.config.access import check_authenticator
from trio_broker.config.setting import entries
from trio_broker.config.variants import Variants

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

__all__ = ["AuthenticatorStatus", "Authenticators"]

log = logging.getLogger("trio_broker.authentication")

KINDS: Final[Mapping[str, str]] = {
    "password_based:built_in_database": "trio_broker.actors.authn.built_in:BuiltInDatabase",
    "scram:built_in_database": "trio_broker.actors.authn.scram:ScramDatabase",
    "password_based:http": "trio_broker.actors.authn.http:HttpAuthenticator",
    "jwt": "trio_broker.actors.authn.jwt:JwtAuthenticator",
}


@define(frozen=True)
class AuthenticatorStatus:
    """`metrics` are counts and rates (a second); `resource_metrics` is empty where nobody else is asked.

    `users` is how many it knows, None where they are not its own.
    """

    id: str
    enable: bool
    status: str
    metrics: Mapping[str, float]
    resource_metrics: Mapping[str, float]
    users: int | None = None


class _Link(Item):
    """One authenticator; counts what it answers."""

    def __init__(self, authenticator: ConfiguredAuthenticator) -> None:
        self.it = authenticator
        self.config: Any = authenticator.config
        self._clock = authenticator.core.clock
        self._speed = Speed(self._clock.now())
        self._resource_speed = Speed(self._clock.now())

    async def start(self) -> None:
        if self.config.enable:
            await self.it.start()

    async def close(self) -> None:
        await self.it.close()

    async def delete(self) -> None:
        await self.it.delete()

    async def authenticate(self, credentials: Credentials) -> Verdict | None:
        verdict = None
        try:
            verdict = await self.it.authenticate(credentials)
        except Exception:
            log.exception("the authenticator %s failed", self.it.id)
        finally:
            self.count(verdict)
        return None if verdict is None else self.signed(verdict)

    def signed(self, verdict: Verdict) -> Verdict:
        # Those that name it already are shared by many clients.
        return verdict if verdict.authenticator == self.it.id else attrs.evolve(verdict, authenticator=self.it.id)

    def count(self, verdict: Verdict | None) -> None:
        self.it.figures.count(verdict)
        self._look(self._clock.now())

    def _look(self, now: float) -> None:
        self._speed.look(self.it.figures.total, now)
        if self.it.resource is not None:
            self._resource_speed.look(self.it.resource.matched, now)

    def status(self) -> AuthenticatorStatus:
        it, now = self.it, self._clock.now()
        self._look(now)
        resource, users = it.resource, getattr(it, "users", None)
        return AuthenticatorStatus(
            it.id,
            self.config.enable,
            it.status if self.config.enable else "disconnected",
            with_rates(asdict(it.figures), self._speed.rates(now)),
            {} if resource is None else with_rates(asdict(resource), self._resource_speed.rates(now)),
            None if users is None else len(users.all),
        )


class _EnhancedLink(_Link):
    """The same for one with a method of its own."""

    def __init__(self, authenticator: ConfiguredAuthenticator) -> None:
        super().__init__(authenticator)
        assert isinstance(authenticator, EnhancedAuthenticator)
        self.method = authenticator.method
        self._begin = authenticator.begin

    def begin(self, credentials: Credentials) -> Conversation:
        return _Counted(self._begin(credentials), self)


@define
class _Counted:
    conversation: Conversation
    link: _Link

    async def respond(self, data: bytes | None) -> Challenge | Verdict:
        response = await self.conversation.respond(data)
        if isinstance(response, Challenge):
            return response
        self.link.count(response)
        return self.link.signed(response)


class Authenticators(ConfiguredList[_Link]):
    """`core.authenticators`. Names are ids such as `password_based:built_in_database`."""

    def __init__(self, core: Core) -> None:
        variants = entries(Config)["authentication"]
        assert isinstance(variants, Variants)
        super().__init__(core, "authentication", "authentication", variants)

    def one(self, authenticator_id: str) -> ConfiguredAuthenticator | None:
        """The authenticator of this id, enabled or not; None where none is configured."""
        link = self.get(authenticator_id)
        return None if link is None else link.it

    def statuses(self) -> list[AuthenticatorStatus]:
        """Of all of them, in their order."""
        return [link.status() for link in self.items()]

    def status(self, authenticator_id: str) -> AuthenticatorStatus:
        """Raises NotThere."""
        return self.found(authenticator_id).status()

    def _configs(self, config: Config) -> Sequence[Any]:
        return config.authentication

    def _layer(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return {"authentication": items}

    def _check(self, config: Any, key: str) -> None:
        check_authenticator(config, key)

    def _make(self, name: str, config: Any) -> _Link:
        authenticator = kind(KINDS[self.kind_of(config)])(config, self.core, name)
        return (_EnhancedLink if isinstance(authenticator, EnhancedAuthenticator) else _Link)(authenticator)

    async def _use(self, items: Sequence[_Link], config: Config) -> None:
        enabled = [link for link in items if link.config.enable]
        self.core.authentication.use(enabled, sum(_longest(link.config) for link in enabled))


def _longest(config: Any) -> float:
    """Seconds that the answer of one may take, where it asks somebody else."""
    return float(getattr(config, "connect_timeout", 0.0) + getattr(config, "request_timeout", 0.0))
