"""Which addresses may connect at all, and how many connections a second: what is decided before a byte is read.

Invariant: the first rule that holds decides; where none holds the peer is let in (EMQX's way).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from attrs import define, field

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

EVERYBODY: tuple[Network, ...] = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))


@define(frozen=True, eq=False)
class AccessRules:
    """Pairs of "allowed" and the networks it is about."""

    rules: tuple[tuple[bool, tuple[Network, ...]], ...] = ()

    @property
    def open(self) -> bool:
        """Nobody is kept out: nothing has to be looked at."""
        for allowed, networks in self.rules:
            if not allowed:
                return False
            if networks == EVERYBODY:
                return True
        return True

    def allows(self, host: str) -> bool:
        """`host` is an IP address; anything else (no network address at all) is let in."""
        try:
            address = _parsed(host)
        except ValueError:
            return True
        for allowed, networks in self.rules:
            if any(address in network for network in networks):
                return allowed
        return True


@lru_cache(maxsize=1024)
def _parsed(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(host)


def parse_access_rules(rules: Iterable[str]) -> AccessRules:
    """From `allow all`, `deny 192.168.0.0/24`, `allow ::1`. Raises ValueError with the rule in it."""
    return AccessRules(tuple(_rule(rule) for rule in rules))


def _rule(rule: str) -> tuple[bool, tuple[Network, ...]]:
    verb, _, where = rule.strip().partition(" ")
    if verb not in ("allow", "deny"):
        raise ValueError(f"{rule!r} must begin with allow or deny")
    if where.strip() == "all":
        return verb == "allow", EVERYBODY
    try:
        return verb == "allow", (ipaddress.ip_network(where.strip(), strict=False),)
    except ValueError:
        raise ValueError(f"{rule!r} names no address, no network and not all") from None


@define
class ConnectionRate:
    """So many connections a second on average; a second's worth may come at once."""

    per_second: float
    _free_at: float = field(default=float("-inf"), init=False)

    def pause(self, now: float) -> float:
        """Count one connection that came in; seconds to wait before the next may."""
        gap = 1.0 / self.per_second
        burst = max(1.0, gap)
        self._free_at = max(self._free_at, now - burst) + gap
        return max(0.0, self._free_at - now)
