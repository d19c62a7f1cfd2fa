"""What authenticators and authorization sources have in common over REST: their status, and how changes are refused.

Invariant: what a refused change would have changed is as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from msgspec import Struct

from trio_broker.actors.configured import BadOrder, BadPosition
from trio_broker.api.context import Api
from trio_broker.api.failures import BAD_REQUEST, ApiError, invalid
from trio_broker.api.updates import refusals
from trio_broker.errors import ConfigError, ListenerError

Metrics = dict[str, float]


class NodeStatus(Struct):
    node: str
    status: str


class NodeMetrics(Struct):
    node: str
    metrics: Metrics


class StatusAndMetrics(Struct, kw_only=True):
    """`resource_metrics` is empty where nobody else is asked."""

    status: str
    node_status: list[NodeStatus]
    node_error: list[dict[str, Any]]
    metrics: Metrics
    node_metrics: list[NodeMetrics]
    resource_metrics: Metrics
    node_resource_metrics: list[NodeMetrics]


def status_of(
    api: Api, status: str, metrics: Mapping[str, float], resource_metrics: Mapping[str, float]
) -> StatusAndMetrics:
    own, resource = dict(metrics), dict(resource_metrics)
    return StatusAndMetrics(
        status=status,
        node_status=[NodeStatus(api.node_name, status)],
        node_error=[],
        metrics=own,
        node_metrics=[NodeMetrics(api.node_name, own)],
        resource_metrics=resource,
        node_resource_metrics=[NodeMetrics(api.node_name, resource)],
    )


def _refused(error: ConfigError | ListenerError) -> ApiError:
    """With the place in the body, where it is known."""
    text, key = str(error), getattr(error, "key", "")
    return invalid(key, text.rpartition(f"{key}: ")[2]) if key else BAD_REQUEST.error(text)


@contextmanager
def changes() -> Iterator[None]:
    """What a change in here may be refused for, as answers; that something is not there is left to the caller."""
    try:
        with refusals(_refused):
            yield
    except (BadPosition, BadOrder) as error:
        raise BAD_REQUEST.error(str(error)) from None
