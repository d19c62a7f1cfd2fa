"""Who may publish and subscribe to what, decided once for each client and topic.

Invariant: a cached decision is the one the authorizer gave; the cache of a client is bounded and ends with its
connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from trio_broker.protocol.message import Origin

Action = Literal["publish", "subscribe"]
CACHE_MAX_SIZE = 1024


class Authorizer(Protocol):
    """Decides without waiting."""

    def authorize(self, client: Origin, action: Action, topic: str) -> bool:
        """May this client do that? `topic` is a topic name or a topic filter."""


def cached(authorizer: Authorizer | None, client: Origin, action: Action) -> Callable[[str], bool] | None:
    """The decisions for one client, cached; None where everything is allowed."""
    if authorizer is None:
        return None
    decisions: dict[str, bool] = {}

    def decide(topic: str) -> bool:
        decision = decisions.get(topic)
        if decision is None:
            if len(decisions) >= CACHE_MAX_SIZE:
                decisions.clear()
            decision = decisions[topic] = authorizer.authorize(client, action, topic)
        return decision

    return decide
