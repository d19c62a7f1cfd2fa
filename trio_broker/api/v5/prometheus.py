"""`/prometheus`: the broker's figures for Prometheus, and the settings for them.

Invariant: what is scraped needs no credentials unless `prometheus.enable_basic_auth` says so; the settings always do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from trio_broker.actors.authn.chain import AuthenticatorStatus
from trio_broker.actors.authz.sources import SourceStatus
from trio_broker.api.config_types import struct_of
from trio_broker.api.context import Api
from trio_broker.api.prometheus_families import TEXT, Groups, exposition
from trio_broker.api.prometheus_stats import as_json, collect, is_closed
from trio_broker.api.routes import EVERYBODY, Documented, Reply, Routes
from trio_broker.api.updates import OVERRIDDEN, change
from trio_broker.api.v5 import prometheus_others as others
from trio_broker.config import to_dict
from trio_broker.config.model import PrometheusConfig

routes = Routes("Monitor")

JSON: Final = "application/json"
BY_NODE: Final = "all_nodes_unaggregated"

Mode = Literal["node", "all_nodes_aggregated", "all_nodes_unaggregated"]


class ModeQuery(Struct):
    mode: Annotated[Mode, Meta(description="Of this node, of all together, or of each with a `node` label")] = "node"


_SCRAPED: Final[dict[str, Any]] = {
    "access": EVERYBODY,
    "closed": is_closed,
    "answers": [
        Documented(200, "Text for Prometheus; JSON where `Accept` is exactly that", dict[str, Any]),
        Documented(200, "Text for Prometheus; JSON where `Accept` is exactly that", content_type="text/plain"),
    ],
}


@routes.get("/prometheus/stats", "Figures of the broker", **_SCRAPED)
async def prometheus_stats(api: Api, query: ModeQuery, accept: str) -> Reply:
    labels = _labels(api, query)
    groups = await collect(api.questions, api.rates.cpu, labels)
    return _reply(accept, groups, partial(as_json, labels=labels))


@routes.get("/prometheus/auth", "Figures of authentication, authorization and bans", **_SCRAPED)
async def prometheus_auth(api: Api, query: ModeQuery, accept: str) -> Reply:
    questions = api.questions
    groups = others.auth(
        _labels(api, query),
        authn={one.id: _row(one, "users_count", one.users) for one in questions.authenticators.statuses()},
        authz={one.type: _row(one, "rules_count", one.rules) for one in questions.authorization_sources.statuses()},
        banned=len(questions.banned.rows()),
    )
    return _reply(accept, groups)


@routes.get("/prometheus/data_integration", "Figures of rules, actions and connectors", **_SCRAPED)
async def prometheus_data_integration(api: Api, query: ModeQuery, accept: str) -> Reply:
    groups = others.data_integration(_labels(api, query))
    return _reply(accept, groups)


@routes.get("/prometheus/schema_validation", "Figures of schema validations", **_SCRAPED)
async def prometheus_schema_validation(api: Api, query: ModeQuery, accept: str) -> Reply:
    groups = others.schema_validation(_labels(api, query))
    return _reply(accept, groups)


@routes.get("/prometheus/message_transformation", "Figures of message transformations", **_SCRAPED)
async def prometheus_message_transformation(api: Api, query: ModeQuery, accept: str) -> Reply:
    groups = others.message_transformation(_labels(api, query))
    return _reply(accept, groups)


def _row(one: AuthenticatorStatus | SourceStatus, counted: str, count: int | None) -> dict[str, float]:
    """What there is to say of an authenticator or a source."""
    known = {} if count is None else {counted: count}
    return {**one.metrics, **known, "enable": one.enable, "status": one.status == "connected"}


def _labels(api: Api, query: ModeQuery) -> dict[str, str]:
    return {"node": api.node_name} if query.mode == BY_NODE else {}


def _reply(accept: str, groups: Groups, document: Callable[[Groups], dict[str, Any]] = others.as_json) -> Reply:
    if accept == JSON:
        return Reply(200, document(groups))
    text = exposition(family for families in groups.values() for family in families)
    return Reply(200, text=text, content_type=TEXT)


# -- settings -------------------------------------------------------------------------------------------------------


Settings: Any = struct_of(PrometheusConfig, "PrometheusSettings")


async def prometheus_settings(api: Api) -> Any:
    return to_dict(api.questions.settings.config)["prometheus"]


async def change_prometheus_settings(api: Api, body: Any) -> Any:
    # Not laid over what is in force: headers that are left out are gone.
    await change(api, {"prometheus": msgspec.to_builtins(body)}, "prometheus", replace=True)
    return await prometheus_settings(api)


prometheus_settings.__annotations__["return"] = Settings
change_prometheus_settings.__annotations__.update({"body": Settings, "return": Settings})
routes.get("/prometheus", "Settings for Prometheus")(prometheus_settings)
routes.put("/prometheus", "Change the settings for Prometheus", failures=[OVERRIDDEN])(change_prometheus_settings)
