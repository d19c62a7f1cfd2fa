"""Clients that a web service knows (EMQX's `password_based:http`).

Invariant: only what the service says lets a client in or keeps it out; where it says nothing that can be understood,
the next authenticator is asked. The password goes to the service and nowhere else.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from trio_broker.access.authentication import Credentials, Verdict
from trio_broker.access.templates import ABOUT_CLIENTS
from trio_broker.access.web_question import BadAnswer, Unaskable, verdict_of
from trio_broker.actors.authn.base import ConfiguredAuthenticator, Status
from trio_broker.actors.outbound_network import Unanswered
from trio_broker.actors.web_service import WebService
from trio_broker.config.authentication import HttpAuthenticatorConfig

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

__all__ = ["HttpAuthenticator"]

PLACEHOLDERS: Final = ABOUT_CLIENTS | {"password"}

log = logging.getLogger("trio_broker.authentication")


class HttpAuthenticator(ConfiguredAuthenticator):
    """Each client is asked about once, when it connects."""

    config: HttpAuthenticatorConfig

    def __init__(self, config: HttpAuthenticatorConfig, core: Core, authenticator_id: str) -> None:
        super().__init__(config, core, authenticator_id)
        self._service = WebService(config, core, authenticator_id, PLACEHOLDERS, log)
        self.resource = self._service.figures

    @property
    def status(self) -> Status:
        return self._service.status

    async def start(self) -> None:
        await self._service.start()
        self.resource = self._service.figures

    async def close(self) -> None:
        await self._service.close()

    async def authenticate(self, credentials: Credentials) -> Verdict | None:
        def value(name: str) -> str | None:
            if name == "password" and credentials.password is not None:
                return credentials.password.decode(errors="surrogateescape")  # any bytes can be a password
            return credentials.value(name)

        clock = self.core.clock
        try:
            answer = await self._service.ask(self._service.request(value))
            now = clock.wall_ms(clock.now()) / 1000
            verdict, reason = verdict_of(answer.status, answer.content_type, answer.body, now)
        except Unaskable as error:
            self._service.complain("cannot ask", credentials.client_id, error)
            return None
        except Unanswered as error:
            self._service.complain("no answer", credentials.client_id, error)
            return None
        except BadAnswer as error:
            self._service.complain("no proper answer", credentials.client_id, error)
            return None
        if reason:
            self._service.complain("wrong terms", credentials.client_id, reason)
        return verdict
