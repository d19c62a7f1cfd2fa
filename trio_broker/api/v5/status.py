"""`GET /status`: the health check, also at the root of the server; needs no credentials.

Invariant: 200 only when the broker said that it has started.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from trio_broker.api.context import Api
from trio_broker.api.routes import EVERYBODY, Documented, Reply, Routes

routes = Routes("Status")

NOT_RUNNING: Final = "The broker is starting or ending; `retry-after` says when to ask again"


class StatusQuery(Struct):
    format: Annotated[str, Meta(description="`json`; anything else is text")] = "text"


class Status(Struct):
    node_name: str
    rel_vsn: str
    trio_broker_version: str
    broker_status: str
    app_status: str


@routes.get(
    "/status",
    "Health check",
    access=EVERYBODY,
    answers=[
        Documented(200, "It has started", content_type="text/plain"),
        Documented(503, NOT_RUNNING, Status),
        Documented(503, NOT_RUNNING, content_type="text/plain"),
    ],
)
async def status(api: Api, query: StatusQuery) -> Status | Reply:
    running = api.started()
    code, headers = (200, {}) if running else (503, {"retry-after": "15"})
    broker_status, app_status = ("started", "running") if running else ("stopped", "not_running")
    if query.format == "json":
        body = Status(api.node_name, f"v{api.level}", api.questions.broker_version, broker_status, app_status)
        return Reply(code, body, headers=headers)
    text = f"Node {api.node_name} is {broker_status}\nemqx is {app_status}"
    return Reply(code, text=text, content_type="text/plain", headers=headers)
