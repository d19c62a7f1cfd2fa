"""`/prometheus`: the broker's figures for Prometheus, and the settings for them.

Invariant: what is scraped needs no credentials unless `prometheus.enable_basic_auth` says so; the settings always do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.api.context import Api
from trio_broker.api.routes import EVERYBODY, Documented, Reply, Routes
from trio_broker.api.updates import OVERRIDDEN, change
from trio_broker.api.v5 import prometheus_others as others
from trio_broker.api.v5.prometheus_families import TEXT, Groups, exposition
from trio_broker.api.v5.prometheus_stats import as_json, collect
from trio_broker.config import to_dict

routes = Routes("Monitor")

JSON: Final = "application/json"
BY_NODE: Final = "all_nodes_unaggregated"

Mode = Literal["node", "all_nodes_aggregated", "all_nodes_unaggregated"]


class ModeQuery(Struct):
    mode: Annotated[Mode, Meta(description="Of this node, of all together, or of each with a `node` label")] = "node"


def _is_closed(api: Api) -> bool:
    return bool(api.questions.settings.config.prometheus.enable_basic_auth)


_SCRAPED: Final[dict[str, Any]] = {
    "access": EVERYBODY,
    "closed": _is_closed,
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
    groups = others.auth(_labels(api, query), banned=len(api.questions.banned.rows()))
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


def _labels(api: Api, query: ModeQuery) -> dict[str, str]:
    return {"node": api.node_name} if query.mode == BY_NODE else {}


def _reply(accept: str, groups: Groups, document: Callable[[Groups], dict[str, Any]] = others.as_json) -> Reply:
    if accept == JSON:
        return Reply(200, document(groups))
    text = exposition(family for families in groups.values() for family in families)
    return Reply(200, text=text, content_type=TEXT)


# -- settings -------------------------------------------------------------------------------------------------------


class PushGateway(Struct, kw_only=True):
    enable: bool
    url: str
    interval: str | int
    headers: dict[str, str]
    job_name: str


Switch = Literal["enabled", "disabled"]


class Collectors(Struct, kw_only=True):
    """Of EMQX's runtime; they have no effect here."""

    vm_dist: Switch
    mnesia: Switch
    vm_statistics: Switch
    vm_system_info: Switch
    vm_memory: Switch
    vm_msacc: Switch


class PrometheusSettings(Struct, kw_only=True):
    enable_basic_auth: bool
    push_gateway: PushGateway
    collectors: Collectors


HeaderName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]


class NewPushGateway(Struct, kw_only=True, forbid_unknown_fields=True):
    enable: bool | UnsetType = UNSET
    url: str | UnsetType = UNSET
    interval: str | int | UnsetType = UNSET
    headers: dict[HeaderName, str] | UnsetType = UNSET
    job_name: str | UnsetType = UNSET


class NewCollectors(Struct, kw_only=True, forbid_unknown_fields=True):
    vm_dist: Switch | UnsetType = UNSET
    mnesia: Switch | UnsetType = UNSET
    vm_statistics: Switch | UnsetType = UNSET
    vm_system_info: Switch | UnsetType = UNSET
    vm_memory: Switch | UnsetType = UNSET
    vm_msacc: Switch | UnsetType = UNSET


class NewPrometheusSettings(Struct, kw_only=True, forbid_unknown_fields=True):
    """What is left out is as the configuration file has it."""

    enable_basic_auth: bool | UnsetType = UNSET
    push_gateway: NewPushGateway | UnsetType = UNSET
    collectors: NewCollectors | UnsetType = UNSET


@routes.get("/prometheus", "Settings for Prometheus")
async def prometheus_settings(api: Api) -> PrometheusSettings:
    return _settings(api)


@routes.put("/prometheus", "Change the settings for Prometheus", failures=[OVERRIDDEN])
async def change_prometheus_settings(api: Api, body: NewPrometheusSettings) -> PrometheusSettings:
    # Not laid over what is in force: headers that are left out are gone.
    await change(api, {"prometheus": msgspec.to_builtins(body)}, "prometheus", replace=True)
    return _settings(api)


def _settings(api: Api) -> PrometheusSettings:
    return msgspec.convert(to_dict(api.questions.settings.config)["prometheus"], PrometheusSettings)
