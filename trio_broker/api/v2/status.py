"""What is beside `/api/v2` and needs no credentials: `/status`, the health check, and `/`, the list of paths.

Invariant: 200 only when the broker said that it has started.
"""

from __future__ import annotations

import re

from trio_broker.api.context import Api
from trio_broker.api.routes import EVERYBODY, Reply, Route, Routes


def outside(served: tuple[Route, ...], base_path: str) -> tuple[Route, ...]:
    """The two routes for what is served under `base_path`."""
    routes = Routes("Status")
    shown = (re.sub(r":([a-z_]+)", r"{\1}", base_path + route.path).removeprefix("/") for route in served)
    paths = list(dict.fromkeys(shown))

    @routes.get("/", "The paths of all operations", access=EVERYBODY)
    async def list_paths(api: Api) -> Reply:
        return Reply(200, {"paths": paths})

    @routes.get("/status", "Health check", access=EVERYBODY)
    async def status(api: Api) -> Reply:
        if api.started():
            return _said(200, f"Node {api.node_name} is started\nemqttd is running")
        return _said(503, f"Node {api.node_name} is stopped\nemqttd is not_running", {"retry-after": "15"})

    return tuple(routes.all)


def _said(status: int, text: str, headers: dict[str, str] | None = None) -> Reply:
    return Reply(status, text=text, content_type="text/plain", headers=headers or {})
