"""What authorization is asked: who wants to do what.

Invariant: a `Subject` is one connection's, and does not change; a `Request` is about a topic name or a match filter,
without `$share/NAME/` and `$delayed/N/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from attrs import define

from trio_broker.access.authentication import NO_ATTRIBUTES, fact
from trio_broker.protocol.message import Origin

if TYPE_CHECKING:
    from trio_broker.access.rules import RuleSet

__all__ = ["Action", "Request", "Subject"]

Action = Literal["publish", "subscribe"]


class Request(NamedTuple):
    """One PUBLISH, or one filter of a SUBSCRIBE (`retain` is False there)."""

    action: Action
    topic: str
    qos: int = 0
    retain: bool = False


@define(eq=False)
class Subject:
    """A client as far as rules look at it. `peer_host` is "" for in-memory and Unix sockets."""

    origin: Origin
    client_id: str
    username: str | None = None
    peer_host: str = ""
    peer_port: int = 0
    listener: str = ""
    zone: str = "default"
    certificate_common_name: str | None = None
    certificate_distinguished_name: str | None = None
    client_attrs: Mapping[str, str] = NO_ATTRIBUTES
    superuser: bool = False
    rules: RuleSet | None = None
    """Its own, from its token; they come before the sources."""

    def value(self, name: str) -> str | None:
        """What the placeholder `${name}` stands for; None where there is nothing."""
        return fact(self, name)
