"""`/authentication`: the authenticators that decide who is let in, in their order.

Invariant: what is answered with success is in force for the next CONNECT, and kept; secrets are shown hidden.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from msgspec import Struct

from trio_broker.actors.configured import AlreadyThere, NotThere, OtherType
from trio_broker.api.context import Api
from trio_broker.api.failures import BAD_REQUEST, Failure
from trio_broker.api.routes import Routes
from trio_broker.api.updates import OVERRIDDEN
from trio_broker.api.v5.access_figures import StatusAndMetrics, changes, status_of
from trio_broker.api.variant_types import variants_type
from trio_broker.config import to_dict
from trio_broker.config.authentication import AUTHENTICATORS, id_of

routes = Routes("Authentication")

AUTHENTICATOR_NOT_FOUND: Final = Failure(404, "NOT_FOUND", "Authenticator '<id>' does not exist")
AUTHENTICATOR_EXISTS: Final = Failure(409, "ALREADY_EXISTS", "Authenticator '<id>' already exist")
TYPE_CHANGE: Final = Failure(400, "BAD_REQUEST", "Change of authentication type is not allowed")

Authenticator: Any = variants_type(AUTHENTICATORS, "An authenticator; `mechanism` and `backend` say which")
AuthenticatorWithId: Any = variants_type(
    AUTHENTICATORS, "An authenticator and its id", id={"type": "string", "description": "<mechanism>:<backend>"}
)


class Named(Struct, forbid_unknown_fields=True):
    id: str


async def list_authenticators(api: Api) -> Any:
    return [_shown(config) for config in api.questions.settings.config.authentication]


async def add_authenticator(api: Api, body: Any) -> Any:
    body.pop("id", None)
    with _changes():
        name = await api.questions.authenticators.add(body)
    return _found(api, name)


async def authenticator(api: Api, id: str) -> Any:
    return _found(api, id)


async def replace_authenticator(api: Api, id: str, body: Any) -> None:
    _found(api, id)
    if body.pop("id", id) != id:
        raise TYPE_CHANGE.error()
    with _changes():
        await api.questions.authenticators.replace(id, body)


@routes.put("/authentication/order", "Put the authenticators into another order", failures=[OVERRIDDEN])
async def reorder_authenticators(api: Api, body: list[Named]) -> None:
    with _changes():
        await api.questions.authenticators.reorder([named.id for named in body])


@routes.delete("/authentication/:id", "Delete an authenticator", failures=[AUTHENTICATOR_NOT_FOUND, OVERRIDDEN])
async def delete_authenticator(api: Api, id: str) -> None:
    with _changes():
        await api.questions.authenticators.remove(id)


@routes.put(
    "/authentication/:id/position/:position",
    "Move an authenticator: front, rear, before:<id>, after:<id>",
    failures=[AUTHENTICATOR_NOT_FOUND, BAD_REQUEST, OVERRIDDEN],
)
async def move_authenticator(api: Api, id: str, position: str) -> None:
    with _changes():
        await api.questions.authenticators.move(id, position)


@routes.get("/authentication/:id/status", "Status and figures of an authenticator", failures=[AUTHENTICATOR_NOT_FOUND])
async def authenticator_status(api: Api, id: str) -> StatusAndMetrics:
    with _changes():
        status = api.questions.authenticators.status(id)
    return status_of(api, status.status, status.metrics, status.resource_metrics)


@contextmanager
def _changes() -> Iterator[None]:
    try:
        with changes():
            yield
    except NotThere as error:
        raise AUTHENTICATOR_NOT_FOUND.error(f"Authenticator '{error.name[:200]}' does not exist") from None
    except AlreadyThere as error:
        raise AUTHENTICATOR_EXISTS.error(f"Authenticator '{error.name}' already exist") from None
    except OtherType:
        raise TYPE_CHANGE.error() from None


def _found(api: Api, id: str) -> dict[str, Any]:
    for config in api.questions.settings.config.authentication:
        if id_of(config) == id:
            return _shown(config)
    raise AUTHENTICATOR_NOT_FOUND.error(f"Authenticator '{id[:200]}' does not exist")


def _shown(config: Any) -> dict[str, Any]:
    return {**to_dict(config), "id": id_of(config)}


list_authenticators.__annotations__["return"] = list[AuthenticatorWithId]
authenticator.__annotations__["return"] = AuthenticatorWithId
add_authenticator.__annotations__.update({"body": Authenticator, "return": AuthenticatorWithId})
replace_authenticator.__annotations__["body"] = Authenticator
routes.get("/authentication", "List authenticators")(list_authenticators)
routes.post(
    "/authentication",
    "Add an authenticator behind the others",
    failures=[AUTHENTICATOR_EXISTS, OVERRIDDEN],
)(add_authenticator)
routes.get("/authentication/:id", "Get an authenticator", failures=[AUTHENTICATOR_NOT_FOUND])(authenticator)
routes.put(
    "/authentication/:id",
    "Replace the settings of an authenticator",
    failures=[AUTHENTICATOR_NOT_FOUND, TYPE_CHANGE, OVERRIDDEN],
)(replace_authenticator)
