"""The figures of authenticators, authorization sources, rules, actions, connectors, validations and transformations.

Invariant: the families are there even when there is nothing to count in them: who looks for a name finds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from trio_broker.api.prometheus_families import Groups, Kind, gauge, json_rows, labelled

__all__ = ["as_json", "auth", "data_integration", "message_transformation", "schema_validation"]

Rows = Mapping[str, Mapping[str, float]]
NONE: Final[Rows] = {}

AUTHN: Final[Mapping[str, Kind]] = {
    "enable": "gauge",
    "status": "gauge",
    "total": "counter",
    "success": "counter",
    "failed": "counter",
    "nomatch": "counter",
    "users_count": "gauge",
}
AUTHZ: Final[Mapping[str, Kind]] = {
    "enable": "gauge",
    "status": "gauge",
    "total": "counter",
    "allow": "counter",
    "deny": "counter",
    "nomatch": "counter",
    "rules_count": "gauge",
}
RULE: Final[Mapping[str, Kind]] = {
    "enable": "gauge",
    "matched": "counter",
    "passed": "counter",
    "failed": "counter",
    "failed_exception": "counter",
    "failed_no_result": "counter",
    "actions_total": "counter",
    "actions_success": "counter",
    "actions_failed": "counter",
    "actions_failed_out_of_service": "counter",
    "actions_failed_unknown": "counter",
    "actions_discarded": "counter",
}
ACTION: Final[Mapping[str, Kind]] = {
    "enable": "gauge",
    "status": "gauge",
    "matched": "counter",
    "dropped": "counter",
    "success": "counter",
    "failed": "counter",
    "inflight": "gauge",
    "queuing": "gauge",
    "received": "counter",
    "retried": "counter",
    "retried_success": "counter",
    "retried_failed": "counter",
    "late_reply": "counter",
    "dropped_other": "counter",
    "dropped_expired": "counter",
    "dropped_queue_full": "counter",
    "dropped_resource_not_found": "counter",
    "dropped_resource_stopped": "counter",
}
CONNECTOR: Final[Mapping[str, Kind]] = {"enable": "gauge", "status": "gauge"}
CHECKED: Final[Mapping[str, Kind]] = {
    "enable": "gauge",
    "matched": "counter",
    "failed": "counter",
    "succeeded": "counter",
}


def auth(labels: Mapping[str, str], *, authn: Rows = NONE, authz: Rows = NONE, banned: int = 0) -> Groups:
    """`authn` by the authenticator's id, `authz` by the source's type: their figures by the names above."""
    return {
        "emqx_authn": labelled("emqx_authn", AUTHN, "id", authn, labels),
        "emqx_authz": labelled("emqx_authz", AUTHZ, "type", authz, labels),
        "emqx_banned": [gauge("emqx_banned_count", "Bans", banned, {})],
    }


def data_integration(
    labels: Mapping[str, str],
    *,
    rules: Rows = NONE,
    actions: Rows = NONE,
    connectors: Rows = NONE,
    schemas: int = 0,
) -> Groups:
    return {
        "data_integration_overview": [
            gauge("emqx_rules_count", "Rules", len(rules), {}),
            gauge("emqx_actions_count", "Actions", len(actions), {}),
            gauge("emqx_connectors_count", "Connectors", len(connectors), {}),
            gauge("emqx_schema_registrys_count", "Schemas", schemas, {}),
        ],
        "rules": labelled("emqx_rule", RULE, "id", rules, labels),
        "actions": labelled("emqx_action", ACTION, "id", actions, labels),
        "connectors": labelled("emqx_connector", CONNECTOR, "id", connectors, labels),
    }


def schema_validation(labels: Mapping[str, str], rows: Rows = NONE) -> Groups:
    return {"schema_validations": labelled("emqx_schema_validation", CHECKED, "validation_name", rows, labels)}


def message_transformation(labels: Mapping[str, str], rows: Rows = NONE) -> Groups:
    families = labelled("emqx_message_transformation", CHECKED, "transformation_name", rows, labels)
    return {"message_transformations": families}


def as_json(groups: Groups) -> dict[str, Any]:
    """A list of rows for each part; one object for the parts that are about the whole."""
    whole = ("emqx_banned", "data_integration_overview")
    return {part: json_rows(families)[0] if part in whole else json_rows(families) for part, families in groups.items()}
