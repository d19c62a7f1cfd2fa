"""`/clients/:clientid/authorization/cache`: what is kept of the decisions for one client.

Invariant: only what still counts is shown.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from trio_broker.access.asking import Request
from trio_broker.api.context import Api
from trio_broker.api.failures import CLIENT_NOT_FOUND
from trio_broker.api.routes import Routes

routes = Routes("Clients")


class Decision(Struct):
    """`access` is what was asked: `action_type`, `qos`, and of a PUBLISH `retain`; `updated_time` is in epoch ms."""

    access: dict[str, Any]
    topic: str
    result: Literal["allow", "deny"]
    updated_time: int


@routes.get(
    "/clients/:clientid/authorization/cache",
    "What is kept of the decisions for a client",
    failures=[CLIENT_NOT_FOUND],
)
async def client_decisions(api: Api, clientid: str) -> list[Decision]:
    rows = await api.questions.client_decisions(clientid)
    if rows is None:
        raise CLIENT_NOT_FOUND.error()
    return [
        Decision(_access(asked), asked.topic, "allow" if allowed else "deny", decided_at)
        for asked, allowed, decided_at in rows
    ]


@routes.delete(
    "/clients/:clientid/authorization/cache",
    "Forget what was decided for a client",
    failures=[CLIENT_NOT_FOUND],
)
async def forget_client_decisions(api: Api, clientid: str) -> None:
    if not await api.questions.forget_client_decisions(clientid):
        raise CLIENT_NOT_FOUND.error()


def _access(asked: Request) -> dict[str, Any]:
    access: dict[str, Any] = {"action_type": asked.action, "qos": asked.qos}
    if asked.action == "publish":
        access["retain"] = asked.retain
    return access
