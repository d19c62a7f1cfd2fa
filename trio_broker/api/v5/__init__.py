"""The generation of EMQX 5: base path `/api/v5`, one module a resource.

Invariant: `ROUTES` is all there is under the base path.
"""

from __future__ import annotations

from typing import Final

from trio_broker.api.routes import Route
from trio_broker.api.v5 import (
    alarms,
    client_messages,
    client_subscriptions,
    clients,
    error_codes,
    listeners,
    metrics,
    monitor,
    nodes,
    nothing_yet,
    publish,
    retainer,
    stats,
    status,
    subscriptions,
    topics,
)

BASE_PATH: Final = "/api/v5"

ROUTES: Final[tuple[Route, ...]] = tuple(
    route
    for module in (
        status,
        nodes,
        clients,
        client_messages,
        client_subscriptions,
        subscriptions,
        topics,
        publish,
        retainer,
        metrics,
        stats,
        monitor,
        listeners,
        alarms,
        nothing_yet,
        error_codes,
    )
    for route in module.routes.all
)
