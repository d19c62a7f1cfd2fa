"""`POST`, `PUT` and `DELETE` under `/listeners`: doors are opened, changed and closed.

Invariant: what is answered with success is in force and kept; what is refused has changed nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from trio_broker.actors.listener_settings import ListenerExists, NoSuchListener
from trio_broker.api.context import Api
from trio_broker.api.failures import Failure
from trio_broker.api.routes import Documented, Reply, Routes
from trio_broker.api.updates import OVERRIDDEN, in_body, refusals
from trio_broker.api.v5.listener_body import (
    ID_MISMATCH,
    TYPE_INCONSISTENT,
    KnownListener,
    NewListener,
    check_id,
    check_new,
    options_of,
)
from trio_broker.api.v5.listeners import LISTENER_NOT_FOUND, listener_object, parse_id

routes = Routes("Listeners")

ALREADY_EXISTS: Final = Failure(400, "BAD_LISTENER_ID", "Already Exist")

_DONE: Final[dict[str, Any]] = {
    "failures": [LISTENER_NOT_FOUND, OVERRIDDEN],
    "answers": [Documented(200, "Done")],
}


@routes.post("/listeners", "Make a listener", failures=[ALREADY_EXISTS, ID_MISMATCH, OVERRIDDEN])
async def create_listener(api: Api, body: NewListener) -> dict[str, Any]:
    if body.id and body.id != f"{body.type}:{body.name}":
        raise ID_MISMATCH.error()
    return await _create(api, body.type, body.name, options_of(body))


@routes.post(
    "/listeners/:id",
    "Make a listener (deprecated: POST /listeners)",
    failures=[TYPE_INCONSISTENT, ALREADY_EXISTS, ID_MISMATCH, OVERRIDDEN],
)
async def create_listener_by_id(api: Api, id: str, body: KnownListener) -> dict[str, Any]:
    kind, name = parse_id(id)
    check_id(body, id)
    return await _create(api, kind, name, options_of(body))


async def _create(api: Api, kind: str, name: str, options: dict[str, Any]) -> dict[str, Any]:
    check_new(kind, options)
    with _refusals(f"listeners.{kind}.{name}"):
        await api.questions.listener_settings.create(kind, name, options)
    return await listener_object(api, f"{kind}:{name}")


@routes.put(
    "/listeners/:id",
    "Change a listener",
    failures=[LISTENER_NOT_FOUND, TYPE_INCONSISTENT, ID_MISMATCH, OVERRIDDEN],
)
async def change_listener(api: Api, id: str, body: KnownListener) -> dict[str, Any]:
    kind, name = parse_id(id)
    check_id(body, id)
    with _refusals(f"listeners.{kind}.{name}"):
        await api.questions.listener_settings.update(kind, name, options_of(body))
    return await listener_object(api, id)


@routes.delete("/listeners/:id", "Delete a listener", failures=[LISTENER_NOT_FOUND, OVERRIDDEN])
async def delete_listener(api: Api, id: str) -> None:
    with _refusals():
        await api.questions.listener_settings.delete(*parse_id(id))


@routes.post("/listeners/:id/start", "Start a listener", **_DONE)
async def start_listener(api: Api, id: str) -> Reply:
    with _refusals():
        await api.questions.listener_settings.start(*parse_id(id))
    return Reply(200)


@routes.post("/listeners/:id/stop", "Stop a listener, and close its connections", **_DONE)
async def stop_listener(api: Api, id: str) -> Reply:
    with _refusals():
        await api.questions.listener_settings.stop(*parse_id(id))
    return Reply(200)


@routes.post("/listeners/:id/restart", "Restart a listener, and close its connections", **_DONE)
async def restart_listener(api: Api, id: str) -> Reply:
    with _refusals():
        await api.questions.listener_settings.restart(*parse_id(id))
    return Reply(200)


@contextmanager
def _refusals(root: str = "") -> Iterator[None]:
    """What a change may be refused for, as answers; `root` is the key of what the body says."""
    try:
        with refusals(in_body(root)):
            yield
    except NoSuchListener:
        raise LISTENER_NOT_FOUND.error() from None
    except ListenerExists:
        raise ALREADY_EXISTS.error() from None
