"""`/authorization`: the sources that decide who may publish and subscribe to what, and the settings beside them.

Invariant: what is answered with success is in force for every client that is connected, and kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from trio_broker.actors.configured import AlreadyThere, NotThere, OtherType
from trio_broker.api.config_types import struct_of
from trio_broker.api.context import Api
from trio_broker.api.failures import Failure, invalid
from trio_broker.api.routes import Routes
from trio_broker.api.updates import OVERRIDDEN, change
from trio_broker.api.v5.access_figures import StatusAndMetrics, changes, status_of
from trio_broker.api.variant_types import variants_type
from trio_broker.config import to_dict
from trio_broker.config.authorization import SOURCES, AuthorizationCacheConfig

routes = Routes("Authorization")

SOURCE_NOT_FOUND: Final = Failure(404, "NOT_FOUND", "Not found: <type>")
SOURCE_EXISTS: Final = Failure(400, "BAD_REQUEST", "There is one of this type already")
TYPE_MISMATCH: Final = Failure(400, "BAD_REQUEST", "Type mismatch")
UNKNOWN_TYPE: Final = Failure(400, "BAD_REQUEST", "There are no sources of this type")

Source: Any = variants_type(SOURCES, "A source of access rules; `type` says which")
_Cache: Any = struct_of(AuthorizationCacheConfig, "AuthorizationCacheSettings")


class SourcesInOrder(Struct):
    sources: list[Source]


class Named(Struct, forbid_unknown_fields=True):
    type: str


class Move(Struct, forbid_unknown_fields=True):
    position: Annotated[str, Meta(description="`front`, `rear`, `before:<type>` or `after:<type>`")]


class AuthorizationSettings(Struct, kw_only=True, forbid_unknown_fields=True):
    no_match: Literal["allow", "deny"]
    deny_action: Literal["ignore", "disconnect"]
    cache: _Cache


# -- sources --------------------------------------------------------------------------------------------------------


@routes.get("/authorization/sources", "List authorization sources")
async def list_sources(api: Api) -> SourcesInOrder:
    return SourcesInOrder([_shown(api, config) for config in api.questions.settings.config.authorization.sources])


async def add_source(api: Api, body: Any) -> None:
    _check_file(body)
    with _changes():
        await api.questions.authorization_sources.add(body, front=True)


@routes.put("/authorization/sources/order", "Put the sources into another order", failures=[OVERRIDDEN])
async def reorder_sources(api: Api, body: list[Named]) -> None:
    with _changes():
        await api.questions.authorization_sources.reorder([named.type for named in body])


async def source(api: Api, type: str) -> Any:
    return _found(api, type)


async def replace_source(api: Api, type: str, body: Any) -> None:
    before = _found(api, type)
    if body.setdefault("type", type) != type:
        raise TYPE_MISMATCH.error()
    _check_file(body)
    if body.get("path") and body.get("rules"):
        # It was shown with the text of its file: that it comes back changes nothing, other rules take its place.
        body.pop("rules" if (body["path"], body["rules"]) == (before.get("path"), before.get("rules")) else "path")
    with _changes():
        await api.questions.authorization_sources.replace(type, body)


@routes.delete(
    "/authorization/sources/:type",
    "Delete a source",
    failures=[SOURCE_NOT_FOUND, UNKNOWN_TYPE, OVERRIDDEN],
)
async def delete_source(api: Api, type: str) -> None:
    _found(api, type)
    with _changes():
        await api.questions.authorization_sources.remove(type)


@routes.post(
    "/authorization/sources/:type/move",
    "Move a source",
    failures=[SOURCE_NOT_FOUND, UNKNOWN_TYPE, OVERRIDDEN],
)
async def move_source(api: Api, type: str, body: Move) -> None:
    _found(api, type)
    with _changes():
        await api.questions.authorization_sources.move(type, body.position)


@routes.get(
    "/authorization/sources/:type/status", "Status and figures of a source", failures=[SOURCE_NOT_FOUND, UNKNOWN_TYPE]
)
async def source_status(api: Api, type: str) -> StatusAndMetrics:
    _found(api, type)
    with _changes():
        status = api.questions.authorization_sources.status(type)
    return status_of(api, status.status, status.metrics, status.resource_metrics)


# -- settings and cache ---------------------------------------------------------------------------------------------


@routes.get("/authorization/settings", "What holds beside the sources")
async def authorization_settings(api: Api) -> AuthorizationSettings:
    shown = to_dict(api.questions.settings.config.authorization)
    shown.pop("sources")
    return msgspec.convert(shown, AuthorizationSettings)


@routes.put("/authorization/settings", "Change what holds beside the sources", failures=[OVERRIDDEN])
async def change_authorization_settings(api: Api, body: AuthorizationSettings) -> AuthorizationSettings:
    await change(api, {"authorization": msgspec.to_builtins(body)}, "authorization")
    return await authorization_settings(api)


@routes.delete("/authorization/cache", "Forget what was decided for all clients")
async def forget_decisions(api: Api) -> None:
    await api.questions.authorization_sources.forget_decisions()


@contextmanager
def _changes() -> Iterator[None]:
    try:
        with changes():
            yield
    except NotThere as error:
        raise SOURCE_NOT_FOUND.error(f"Not found: {error.name[:200]}") from None
    except AlreadyThere as error:
        raise SOURCE_EXISTS.error(f"There is a source of the type {error.name} already") from None
    except OtherType:
        raise TYPE_MISMATCH.error() from None


def _check_file(body: dict[str, Any]) -> None:
    if body.get("type") == "file" and not {"rules", "path"} & body.keys():
        raise invalid("root.rules", "required_field")


def _found(api: Api, type: str) -> dict[str, Any]:
    """One as it is shown; 404 and 400 otherwise."""
    for config in api.questions.settings.config.authorization.sources:
        if config.type == type:
            return _shown(api, config)
    if type not in SOURCES:
        raise invalid("type", "not_a_enum_symbol", value=type[:200], expected=" | ".join(SOURCES))
    raise SOURCE_NOT_FOUND.error(f"Not found: {type}")


def _shown(api: Api, config: Any) -> dict[str, Any]:
    shown = to_dict(config)
    if config.type == "file" and config.path:
        shown["rules"] = getattr(api.questions.authorization_sources.one("file"), "text", "")
    elif config.type == "file":
        del shown["path"]
    return shown


add_source.__annotations__["body"] = Source
source.__annotations__["return"] = Source
replace_source.__annotations__["body"] = Source
routes.post("/authorization/sources", "Add a source in front of the others", failures=[SOURCE_EXISTS, OVERRIDDEN])(
    add_source
)
routes.get("/authorization/sources/:type", "Get a source", failures=[SOURCE_NOT_FOUND, UNKNOWN_TYPE])(source)
routes.put(
    "/authorization/sources/:type",
    "Replace the settings of a source",
    failures=[SOURCE_NOT_FOUND, TYPE_MISMATCH, UNKNOWN_TYPE, OVERRIDDEN],
)(replace_source)
