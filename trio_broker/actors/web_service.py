"""A web service that is asked about clients: what the HTTP authenticator and the HTTP source have in common.

Invariant: the log learns why there is no answer, once a minute for each sort of reason, and never what was asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final

from trio_broker.access.web_question import Question, WebRequest
from trio_broker.actors.authn.base import ResourceFigures, Status
from trio_broker.actors.outbound import Answer, Outbound
from trio_broker.actors.throttle import ThrottledLog
from trio_broker.config.authentication import HttpAuthenticatorConfig
from trio_broker.config.authorization import HttpSourceConfig
from trio_broker.errors import ConfigError

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

__all__ = ["WebService"]

INTERVAL: Final = 60.0
"""Seconds from one line in the log to the next of its sort."""


class WebService:
    """`name` is what the log and errors call it; `known` are the placeholders that it may be told."""

    def __init__(
        self,
        config: HttpAuthenticatorConfig | HttpSourceConfig,
        core: Core,
        name: str,
        known: Collection[str],
        log: logging.Logger,
    ) -> None:
        self._config = config
        self._core = core
        self._name = name
        self._known = known
        self._log = ThrottledLog(log, INTERVAL)
        self._question: Question | None = None
        self._outbound: Outbound | None = None
        self._idle = ResourceFigures()

    @property
    def figures(self) -> ResourceFigures:
        return self._idle if self._outbound is None else self._outbound.figures

    @property
    def status(self) -> Status:
        """What came of the last request."""
        return "disconnected" if self._outbound is None else self._outbound.status

    async def start(self) -> None:
        """Nothing is sent yet. Raises ConfigError."""
        config = self._config
        try:
            self._question = Question(config, self._known)
        except ValueError as error:
            key, _, reason = str(error).partition(": ")
            raise ConfigError(f"{self._name}.{key}", reason) from error
        self._outbound = await Outbound.open(
            config.url,
            self._core.settings.config.outbound,
            config.ssl,
            key=self._name,
            pool_size=config.pool_size,
            connect_timeout=config.connect_timeout,
            request_timeout=config.request_timeout,
        )

    async def close(self) -> None:
        """What is under way is finished first."""
        if self._outbound is not None:
            await self._outbound.close()

    def request(self, value: Callable[[str], str | None]) -> WebRequest:
        """Raises Unaskable."""
        assert self._question is not None
        return self._question.fill(value)

    async def ask(self, request: WebRequest) -> Answer:
        """Raises Unanswered."""
        assert self._outbound is not None
        return await self._outbound.request(request.method, request.target, request.headers, request.body)

    def complain(self, sort: str, client_id: str, reason: object) -> None:
        """`sort` is one of a few words, the same for all reasons of one kind."""
        self._log.log(logging.WARNING, sort, "%s: %s about %r: %s", self._name, sort, client_id, reason)
