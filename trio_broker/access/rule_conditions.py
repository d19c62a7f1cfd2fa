"""Whom an access rule is about: conditions on the client, and how they are joined.

Invariant: a condition on what a client does not have (a user name, an address) does not hold; a regular expression
takes time linear in the text (`trio_broker.routing.patterns`), since the client chooses it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, TypeAlias
from weakref import ref

from trio_broker.access.addresses import Address, Network, plain_address, plain_network
from trio_broker.access.asking import Subject
from trio_broker.routing.patterns import Pattern

__all__ = ["FACTS", "Condition", "all_of", "any_of", "from_network", "is_equal", "is_like", "once"]

Condition: TypeAlias = Callable[[Subject], bool]

FACTS: Final = ("username", "clientid", "zone", "listener")
"""What conditions are about, beside the address; `client_attrs.NAME` too."""


def is_equal(fact: str, text: str) -> Condition:
    return lambda subject: subject.value(fact) == text


def is_like(fact: str, text: str) -> Condition:
    """It is found anywhere in there. Raises PatternError."""
    pattern = Pattern(text)

    def holds(subject: Subject) -> bool:
        value = subject.value(fact)
        return value is not None and pattern.matches(value)

    return holds


def from_network(texts: Sequence[str]) -> Condition:
    """Its address is one of these, or in one of these networks. Raises ValueError."""
    networks = [_network(text) for text in texts]

    def holds(subject: Subject) -> bool:
        address = _address(subject.peer_host)
        return address is not None and any(address in network for network in networks)

    return holds


def once(condition: Condition) -> Condition:
    """The same, found out once for the client at hand: its names may be long, the addresses many, and so its topics."""
    last: ref[Subject] | None = None
    held = False

    def holds(subject: Subject) -> bool:
        nonlocal last, held
        if last is None or last() is not subject:
            held = condition(subject)
            last = ref(subject)
        return held

    return holds


def all_of(conditions: Sequence[Condition]) -> Condition | None:
    """None where there is none to hold."""
    if len(conditions) < 2:
        return conditions[0] if conditions else None
    return lambda subject: all(holds(subject) for holds in conditions)


def any_of(conditions: Sequence[Condition]) -> Condition:
    return lambda subject: any(holds(subject) for holds in conditions)


def _network(text: str) -> Network:
    try:
        return plain_network(text)
    except ValueError:
        raise ValueError(f"{text[:60]!r} is no address, and no network such as 192.168.0.0/24") from None


@lru_cache(maxsize=4096)
def _address(peer_host: str) -> Address | None:
    """That of this machine for a peer without one, which came over a Unix socket or in memory."""
    try:
        return plain_address(peer_host or "127.0.0.1")
    except ValueError:
        return None
