"""What every handler gets: the broker to ask, and what the answers call it.

Invariant: nothing of a single request is kept here.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from trio_broker.actors.api_keys import Role
from trio_broker.actors.questions import Questions
from trio_broker.api.failures import NODE_DOWN, Failure
from trio_broker.api.formats import message_id_text
from trio_broker.api.rates import RateWindow
from trio_broker.api.tokens import Tokens

UNKNOWN_NODE = Failure(404, "NOT_FOUND", "Node not found: <name>")


@define(frozen=True)
class DoorInfo:
    """A listener of this API. `name` is http, https, v2 or v4."""

    name: str
    bind: str
    max_connections: int
    current_connections: int


@define(frozen=True)
class Caller:
    """Who sent a request, from `address` ("" where it has none).

    `role` is None where no credentials are looked at; `username` and `token` are None for an API key.
    """

    role: Role | None
    address: str
    username: str | None = None
    token: str | None = field(default=None, repr=False)


@define
class Api:
    """`level` is the release of EMQX whose API is served; clients read it to choose what they may call.

    `doors` tells the listeners of the API, of all its generations; none where it is served by something else.
    """

    questions: Questions
    started: Callable[[], bool]
    level: str = "5.8.9"
    rates: RateWindow = field(factory=RateWindow)
    doors: Callable[[], list[DoorInfo]] = list
    tokens: Tokens = field(init=False)

    @tokens.default
    def _no_tokens_yet(self) -> Tokens:
        return Tokens(self.questions.dashboard_users)

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
