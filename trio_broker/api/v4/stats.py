"""`/stats`: the gauges, each with its value now (`.count`) and its highest since the start (`.max`)."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from trio_broker.api.context import UNKNOWN_NODE, Api
from trio_broker.api.routes import Routes
from trio_broker.api.v4.envelope import Data

routes = Routes("Metrics")

SAME: Final = (
    "connections",
    "live_connections",
    "channels",
    "sessions",
    "topics",
    "suboptions",
    "subscriptions",
    "subscribers",
    "subscriptions.shared",
    "retained",
)
RENAMED: Final = {"routes": "topics"}
"""What EMQX 5 has no more: a route is a topic filter with subscribers."""
NOTHING: Final = ("resources",)
"""Of older releases; there are none."""


class NodeStats(Struct, kw_only=True):
    node: str
    stats: dict[str, int]


@routes.get("/stats", "Get the gauges of all nodes")
async def list_stats(api: Api) -> Data[list[NodeStats]]:
    return Data([NodeStats(node=api.node_name, stats=await gauges(api))])


@routes.get("/nodes/:node/stats", "Get the gauges of a node", failures=[UNKNOWN_NODE])
async def node_stats(api: Api, node: str) -> Data[dict[str, int]]:
    api.check_node(node)
    return Data(await gauges(api))


async def gauges(api: Api) -> dict[str, int]:
    """All of them by their names here."""
    found = await api.questions.stats()
    places = dict(zip(SAME, SAME, strict=True)) | RENAMED
    shown = {f"{name}.{kind}": found[f"{place}.{kind}"] for name, place in places.items() for kind in ("count", "max")}
    return shown | {f"{name}.{kind}": 0 for name in NOTHING for kind in ("count", "max")}
