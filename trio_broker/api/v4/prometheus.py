"""`/emqx_prometheus`: the broker's figures for Prometheus, under the names of EMQX 4.

Invariant: what is scraped needs no credentials unless `prometheus.enable_basic_auth` says so.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import Struct

from trio_broker.api.context import Api
from trio_broker.api.prometheus_families import TEXT, Groups, counter, exposition, gauge
from trio_broker.api.prometheus_stats import as_json, figure_name, is_closed, machine
from trio_broker.api.routes import EVERYBODY, Documented, Reply, Routes
from trio_broker.api.v4.metrics import NOTHING, counters
from trio_broker.api.v4.stats import NOTHING as NO_GAUGES
from trio_broker.api.v4.stats import gauges

routes = Routes("Prometheus")

PARTS: Final = {
    "packets": ("bytes.", "packets."),
    "messages": ("messages.",),
    "delivery": ("delivery.",),
    "client": ("client.",),
    "session": ("session.",),
}
"""Where the counters go, by how their names begin."""
TWICE: Final = "messages.dropped.await_pubrel_timeout"
"""Goes by the name of `messages.dropped.expired`, of which it is another name."""


class Form(Struct):
    type: Literal["json", "prometheus"] = "json"


@routes.get(
    "/emqx_prometheus",
    "Figures of the broker",
    access=EVERYBODY,
    closed=is_closed,
    answers=[
        Documented(200, "JSON, without `code`", dict[str, Any]),
        Documented(200, "Text for Prometheus", content_type="text/plain"),
    ],
)
async def prometheus(api: Api, query: Form) -> Reply:
    groups = await _collect(api)
    if query.type == "json":
        return Reply(200, as_json(groups, {}))
    text = exposition(family for families in groups.values() for family in families)
    return Reply(200, text=text, content_type=TEXT)


async def _collect(api: Api) -> Groups:
    counted = await counters(api)
    groups: Groups = {
        "stats": [
            gauge(figure_name(name), f"Gauge {name}", value, {})
            for name, value in (await gauges(api)).items()
            if not name.startswith(NO_GAUGES)
        ],
        "metrics": machine(api.rates.cpu, await api.questions.runtime(), {}),
    }
    for part, beginnings in PARTS.items():
        groups[part] = [
            counter(figure_name(name), f"Counter {name}", value, {})
            for name, value in counted.items()
            if name.startswith(beginnings) and name != TWICE and name not in NOTHING
        ]
    groups["_cluster"] = [
        gauge("emqx_cluster_nodes_running", "Nodes that run", 1, {}),
        gauge("emqx_cluster_nodes_stopped", "Nodes that are stopped", 0, {}),
    ]
    return groups
