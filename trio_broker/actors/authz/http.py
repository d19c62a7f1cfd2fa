"""What clients may do by the word of a web service (EMQX's authorization source `http`).

Invariant: where the service says nothing that can be understood, the next source is asked; what cannot be asked because
of the way in which the client says it is not allowed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from trio_broker.access.asking import Request, Subject
from trio_broker.access.authorization import PassedOver, Source
from trio_broker.access.templates import ABOUT_CLIENTS
from trio_broker.access.web_question import BadAnswer, Unaskable, opinion_of
from trio_broker.actors.authn.base import Status
from trio_broker.actors.outbound_network import Unanswered
from trio_broker.actors.web_service import WebService
from trio_broker.config.authorization import HttpSourceConfig

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

__all__ = ["HttpSource"]

PLACEHOLDERS: Final = ABOUT_CLIENTS | {
    "action",
    "topic",
    "qos",
    "retain",
    "access",
    "proto_name",
    "mountpoint",
}
_ACCESS: Final = {"subscribe": "1", "publish": "2"}

log = logging.getLogger("trio_broker.authorization")


class HttpSource(Source):
    """Asked for each topic that is in no cache; the client waits meanwhile."""

    type = "http"
    waits = True

    def __init__(self, config: HttpSourceConfig, core: Core) -> None:
        super().__init__()
        self.config = config
        self._service = WebService(config, core, "authorization source http", PLACEHOLDERS, log)
        self.resource = self._service.figures

    @property
    def status(self) -> Status:
        return self._service.status

    async def start(self) -> None:
        await self._service.start()
        self.resource = self._service.figures

    async def close(self) -> None:
        await self._service.close()

    def authorize(self, subject: Subject, request: Request) -> bool | None:
        raise RuntimeError("this source has to be waited for")

    async def ask(self, subject: Subject, request: Request) -> bool | None:
        """Raises PassedOver."""

        def value(name: str) -> str | None:
            if name in about_request:
                return about_request[name]
            return subject.value(name)

        about_request = {
            "action": request.action,
            "access": _ACCESS[request.action],
            "topic": request.topic,
            "qos": str(request.qos),
            "retain": "true" if request.retain else "false",
            "proto_name": "MQTT",
            "mountpoint": "",
        }
        try:
            answer = await self._service.ask(self._service.request(value))
            opinion = opinion_of(answer.status, answer.content_type, answer.body)
        except Unaskable as error:
            self._service.complain("cannot ask", subject.client_id, error)
            return False
        except Unanswered as error:
            self._service.complain("no answer", subject.client_id, error)
            raise PassedOver from None
        except BadAnswer as error:
            self._service.complain("no proper answer", subject.client_id, error)
            return None
        if opinion is None:
            raise PassedOver
        return opinion
