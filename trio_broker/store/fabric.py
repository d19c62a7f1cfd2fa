"""The seam to other nodes: who owns a client identifier.

Invariant: at any time one claim on a client identifier is good; what the store has of a session carries its token, so
that a write of an owner that has lost it could be told from those of the present one.
"""

from __future__ import annotations

import secrets
from typing import Protocol

from attrs import define, field


@define(frozen=True)
class NodeId:
    """A node, and which of its lives: a node that was started again owns nothing of before."""

    name: str
    incarnation: str = field(factory=lambda: secrets.token_hex(8))


@define(eq=False)
class Claim:
    """The right to be the session of a client identifier: the `number`th that this node gave."""

    client_id: str
    node: NodeId
    number: int

    @property
    def token(self) -> str:
        """Whose claim it is, and which."""
        return f"{self.node.name}/{self.node.incarnation}/{self.number}"


class Fabric(Protocol):
    """What a broker asks before it takes a client identifier. With one node it is always granted."""

    node: NodeId

    def claim(self, client_id: str) -> Claim:
        """Own the client identifier from now on; whoever had it has not any more."""

    def owner(self, client_id: str) -> Claim | None:
        """The claim that is good; None: nobody has one."""

    def release(self, claim: Claim) -> None:
        """Nobody owns it any more, unless somebody else does by now."""


@define
class LocalFabric:
    """One node: claims are a dict."""

    node: NodeId
    _claims: dict[str, Claim] = field(factory=dict, init=False)
    _count: int = field(default=0, init=False)

    def claim(self, client_id: str) -> Claim:
        self._count += 1
        claim = self._claims[client_id] = Claim(client_id, self.node, self._count)
        return claim

    def owner(self, client_id: str) -> Claim | None:
        return self._claims.get(client_id)

    def release(self, claim: Claim) -> None:
        if self._claims.get(claim.client_id) is claim:
            del self._claims[claim.client_id]
