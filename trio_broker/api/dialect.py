"""What the API document of each generation says in its own way: credentials, failures, how parameters travel.

Invariant: a dialect is asked about routes and keeps nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Final

import msgspec

from trio_broker.api.failures import Failure
from trio_broker.api.routes import ADMINISTRATORS, EVERYBODY, PUBLISHERS, VIEWERS, Documented, Route

__all__ = ["Dialect"]

_ACCESS: Final = {
    EVERYBODY: "No credentials are needed.",
    VIEWERS: "For administrators and viewers.",
    PUBLISHERS: "For administrators and publishers.",
    ADMINISTRATORS: "For administrators.",
}


class Dialect(ABC):
    """`schemes` are the security schemes by their names, `error` is the body of failures.

    The description of a Basic scheme is `<what the name is> and <what the secret is>`: the page labels its fields so.
    """

    title: ClassVar[str]
    schemes: ClassVar[dict[str, dict[str, str]]]
    error: ClassVar[type[msgspec.Struct]]

    @abstractmethod
    def failures(self, route: Route) -> list[Failure]:
        """All it may end in: its own, and what any operation may end in."""

    def answers(self, route: Route) -> list[Documented]:
        """What any operation may be answered with that has no JSON body."""
        return []

    def description(self, route: Route) -> str:
        """Who may call it."""
        return _ACCESS[route.access]

    def security(self, route: Route) -> list[dict[str, list[str]]]:
        return [] if route.access == EVERYBODY else [{name: []} for name in self.schemes]

    def query(self, route: Route) -> Any:
        """The type of what goes into the query; None: nothing does."""
        return route.query

    def body(self, route: Route) -> Any:
        """The type of what goes into the body; None: nothing does."""
        return route.body

    def needs_body(self, route: Route) -> bool:
        """Must there be a body where there may be one?"""
        return True
