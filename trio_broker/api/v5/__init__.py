"""The generation of EMQX 5: base path `/api/v5`, one module a resource.

Invariant: `ROUTES` is all there is under the base path.
"""

from __future__ import annotations

from typing import Final

from trio_broker.api.routes import Route
from trio_broker.api.v5 import (
    alarms,
    api_key,
    authentication,
    authentication_users,
    authorization,
    authorization_cache,
    authorization_rules,
    auto_subscribe,
    banned,
    client_messages,
    client_subscriptions,
    clients,
    clients_v2,
    configs,
    configs_reset,
    data_backup,
    delayed,
    error_codes,
    keepalive,
    listener_changes,
    listeners,
    login,
    metrics,
    monitor,
    nodes,
    nothing_yet,
    prometheus,
    publish,
    retainer,
    retainer_settings,
    sessions_count,
    slow_subscriptions,
    stats,
    status,
    subscriptions,
    topic_metrics,
    topic_rewrite,
    topics,
    trace,
    trace_log,
    users,
)

BASE_PATH: Final = "/api/v5"

ROUTES: Final[tuple[Route, ...]] = tuple(
    route
    for module in (
        status,
        nodes,
        clients,
        clients_v2,
        keepalive,
        sessions_count,
        client_messages,
        client_subscriptions,
        authorization_cache,
        authentication,
        authorization,
        authorization_rules,
        subscriptions,
        topics,
        publish,
        retainer,
        retainer_settings,
        configs,
        configs_reset,
        data_backup,
        delayed,
        topic_metrics,
        slow_subscriptions,
        metrics,
        stats,
        monitor,
        prometheus,
        listeners,
        listener_changes,
        alarms,
        banned,
        authentication_users,
        topic_rewrite,
        auto_subscribe,
        trace,
        trace_log,
        nothing_yet,
        error_codes,
        login,
        users,
        api_key,
    )
    for route in module.routes.all
)
