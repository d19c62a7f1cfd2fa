"""What may happen to a message between its publisher and the router's plan: rewriting, delay, counting, tracing.

Invariant: a topic that no interceptor is concerned with costs nothing: each is asked once for each plan the router
makes, and whoever is concerned lies in the plan. What an interceptor does, it does within the router's turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from trio_broker.protocol.message import Run
from trio_broker.routing.routing_table import Plan

if TYPE_CHECKING:
    from trio_broker.actors.core import Core


class Interceptor(Protocol):
    """`concerns` may change only together with a call of `Interceptors.changed`."""

    def concerns(self, topic_name: str) -> bool:
        """Should messages of this topic be shown to it?"""

    def intercept(self, run: Run, plan: Plan[Any]) -> list[Run] | None:
        """None: they go on. Else these runs are routed in their place (none: nobody gets them now).

        Runs in its place have no `publisher`: the one of `run` is acknowledged for `run`, when what was written until
        the end of this turn is durable if `run.stored` is set, here or for one of the runs in its place.
        """

    def keeps(self, run: Run) -> bool:
        """Is something of it written to the store, so that it must not be taken while the store fails?"""


class Interceptors:
    """All of one broker, in the order in which they see a message. Told to the routing table as `special`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._all: list[Interceptor] = []

    def add(self, interceptor: Interceptor) -> None:
        """Behind those that are there."""
        self._all.append(interceptor)
        self.changed()

    def changed(self) -> None:
        """What some of them are concerned with is something else now; call it in no turn of the router's."""
        self._core.router.table.forget_plans()

    def concerned(self, topic_name: str) -> tuple[Interceptor, ...] | None:
        """Those that want to see messages of this topic."""
        found = tuple(interceptor for interceptor in self._all if interceptor.concerns(topic_name))
        return found or None

    def behind(self, interceptor: Interceptor, concerned: tuple[Interceptor, ...]) -> tuple[Interceptor, ...]:
        """Of those concerned with a run that took the place of another: who has not seen it yet."""
        position = self._all.index(interceptor)
        return tuple(other for other in concerned if self._all.index(other) > position)
