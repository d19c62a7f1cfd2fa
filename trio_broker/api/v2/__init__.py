"""The generation of EMQ 2: base path `/api/v2`, one module a resource.

Invariant: `ROUTES` is all there is under the base path.
"""

from __future__ import annotations

from typing import Final

from trio_broker.api.routes import Route
from trio_broker.api.v2 import (
    alarms,
    clients,
    listeners,
    metrics,
    mqtt,
    nodes,
    plugins,
    route_table,
    sessions,
    stats,
    subscriptions,
    users,
)

BASE_PATH: Final = "/api/v2"

_MODULES: Final = (
    nodes,
    listeners,
    metrics,
    stats,
    users,
    alarms,
    clients,
    sessions,
    subscriptions,
    mqtt,
    route_table,
    plugins,
)

ROUTES: Final[tuple[Route, ...]] = tuple(route for module in _MODULES for route in module.routes.all)
