"""What stands beside the operations: `/status`, the health check, and the list of all operations at the base path.

Invariant: `/status` is 200 only when the broker said that it has started.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from trio_broker.api.context import Api, Caller
from trio_broker.api.routes import EVERYBODY, Reply, Route, Routes
from trio_broker.api.v4.envelope import Data


class Operation(Struct, kw_only=True):
    name: str
    method: str
    path: str
    descr: str


def health() -> Route:
    """`/status`, with its whole path; needs no credentials."""
    routes = Routes("Status")

    @routes.get("/status", "Health check", access=EVERYBODY)
    async def status(api: Api) -> Reply:
        if api.started():
            return _said(200, f"Node {api.node_name} is started\nemqx is running")
        return _said(503, f"Node {api.node_name} is stopped\nemqx is not_running", {"retry-after": "15"})

    return routes.all[0]


def catalogue(served: Sequence[Route]) -> Route:
    """The list of what is served, at the base path itself; without what the caller would not find."""
    routes = Routes("Status")

    @routes.get("", "List all operations")
    async def list_operations(api: Api, caller: Caller) -> Data[list[Operation]]:
        return Data(
            [
                Operation(name=route.handler.__name__, method=route.method, path=route.path, descr=route.summary)
                for route in served
                if caller.username is not None or not route.tokens_only
            ]
        )

    return routes.all[0]


def _said(status: int, text: str, headers: dict[str, str] | None = None) -> Reply:
    return Reply(status, text=text, content_type="text/plain", headers=headers or {})
