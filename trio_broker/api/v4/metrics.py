"""`/metrics`: the counters since the start, under the names of EMQX 4.

Invariant: each name of EMQX 4.4 is here; what was renamed in EMQX 5 has the same count there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from trio_broker.api.context import UNKNOWN_NODE, Api
from trio_broker.api.routes import Routes
from trio_broker.api.v4.envelope import Data
from trio_broker.session.meter import METRIC_NAMES

routes = Routes("Metrics")

RENAMED: Final = {
    "messages.retained": "messages.retained",
    "client.check_acl": "client.authorize",
    "client.acl.allow": "authorization.allow",
    "client.acl.deny": "authorization.deny",
    "client.acl.cache_hit": "authorization.cache_hit",
    "client.auth.success": "authentication.success",
    "client.auth.success.anonymous": "authentication.success.anonymous",
    "client.auth.failure": "authentication.failure",
    "session.takeovered": "session.takenover",
}
"""What EMQX 5 calls otherwise, or has no more."""
_NEWER: Final = (
    "messages.validation_",
    "messages.transformation_",
    "messages.persisted",
    "client.auth.",
    "client.authorize",
    "session.takenover",
    "authorization.",
    "authentication.",
    "overload_protection.",
)
COUNTERS: Final = {name: name for name in METRIC_NAMES if not name.startswith(_NEWER)} | RENAMED
"""Those of 4.4: where each is found."""

ALIASES: Final = {
    "client.auth.anonymous": "authentication.success.anonymous",
    "messages.dropped.expired": "messages.dropped.await_pubrel_timeout",
}
"""Names of other releases of EMQX 4, and of EMQX Cloud."""
NOTHING: Final = (
    "client.auth.ignore",
    "client.acl.ignore",
    "rules.matched",
    "actions.success",
    "actions.failure",
    "actions.error",
    "actions.exception",
    "actions.retry",
    "actions.taken",
)
"""Names of these for which there is nothing to count: who looks for one finds 0."""


class NodeMetrics(Struct, kw_only=True):
    node: str
    metrics: dict[str, int]


@routes.get("/metrics", "Get the counters of all nodes")
async def list_metrics(api: Api) -> Data[list[NodeMetrics]]:
    return Data([NodeMetrics(node=api.node_name, metrics=await counters(api))])


@routes.get("/nodes/:node/metrics", "Get the counters of a node", failures=[UNKNOWN_NODE])
async def node_metrics(api: Api, node: str) -> Data[dict[str, int]]:
    api.check_node(node)
    return Data(await counters(api))


async def counters(api: Api) -> dict[str, int]:
    """All of them by their names here."""
    found: Mapping[str, int] = await api.questions.metrics()
    shown = {name: found[place] for name, place in (COUNTERS | ALIASES).items()}
    return shown | dict.fromkeys(NOTHING, 0)
