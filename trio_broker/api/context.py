"""What every handler gets: the broker to ask, and what the answers call it.

Invariant: nothing of a single request is kept here.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from trio_broker.actors.questions import Questions
from trio_broker.api.failures import NODE_DOWN, Failure
from trio_broker.api.formats import message_id_text
from trio_broker.api.rates import RateWindow

UNKNOWN_NODE = Failure(404, "NOT_FOUND", "Node not found: <name>")


@define
class Api:
    """`level` is the release of EMQX whose API is served; clients read it to choose what they may call."""

    questions: Questions
    started: Callable[[], bool]
    level: str = "5.8.9"
    rates: RateWindow = field(factory=RateWindow)

    @property
    def node_name(self) -> str:
        return self.questions.node_name

    def message_id(self, message_id: int) -> str:
        return message_id_text(message_id, self.questions.message_id_suffix)

    def check_node_filter(self, name: object) -> None:
        """The `node` parameter of client and subscription lists: 500 NODE_DOWN when it is not ours."""
        if isinstance(name, str) and name != self.node_name:
            raise NODE_DOWN.error(f'bad rpc call {name}, Reason <<"invalid node">>')

    def check_node(self, name: str) -> None:
        """A `:node` in the path: 404 when it is not ours."""
        if name != self.node_name:
            raise UNKNOWN_NODE.error(f"Node not found: {name}")
