"""The generation of EMQX 4 and EMQX Cloud: base path `/api/v4`, one module a resource.

Invariant: `ROUTES` is all there is under the base path.
"""

from __future__ import annotations

from typing import Final

from trio_broker.api.routes import Route
from trio_broker.api.v4 import (
    acl,
    acl_cache,
    alarms,
    apps,
    auth_users,
    banned,
    brokers,
    client_settings,
    clients,
    data,
    listeners,
    metrics,
    modules,
    nodes,
    plugins,
    prometheus,
    publish,
    route_table,
    slow_subscriptions,
    stats,
    subscribe,
    subscriptions,
    telemetry,
    topic_metrics,
    trace,
    users,
)

BASE_PATH: Final = "/api/v4"
CLOUD_PATH: Final = "/api"

_MODULES: Final = (
    brokers,
    nodes,
    metrics,
    stats,
    listeners,
    alarms,
    clients,
    client_settings,
    acl_cache,
    subscriptions,
    route_table,
    banned,
    publish,
    subscribe,
    auth_users,
    acl,
    plugins,
    modules,
    data,
    trace,
    topic_metrics,
    slow_subscriptions,
    telemetry,
    prometheus,
    apps,
    users,
)

ROUTES: Final[tuple[Route, ...]] = tuple(route for module in _MODULES for route in module.routes.all)
