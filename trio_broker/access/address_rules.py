"""Rules about IP addresses: who may connect to us, and what we may connect to.

Invariant: the first rule that holds decides; where none holds the address is allowed (EMQX's way). An address is
looked at as what it leads to: an IPv4 address in the clothes of IPv6 is the IPv4 address.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from attrs import define

from trio_broker.access.addresses import Address, Network, plain_address, plain_network

__all__ = ["AddressRules", "Network", "parse_address_rules"]

EVERYBODY: Final[tuple[Network, ...]] = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


@define(frozen=True, eq=False)
class AddressRules:
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
        return self._allow(address)

    def reaches(self, host: str) -> bool:
        """May we connect to `host`, an IP address? All that a packet to it may arrive at has to be allowed."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return all(map(self._allow, _destinations(address)))

    def _allow(self, address: Address) -> bool:
        for allowed, networks in self.rules:
            if any(address in network for network in networks):
                return allowed
        return True


def _destinations(address: Address) -> tuple[Address, ...]:
    """What is behind an address that stands for another one."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return _destinations(address.ipv4_mapped)
        if address in _NAT64:
            return (address, *_destinations(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)))
        if address.sixtofour is not None:
            return (address, *_destinations(address.sixtofour))
        if int(address) >> 32 == 0 and int(address) > 1:  # ::a.b.c.d, which was given up
            return (address, *_destinations(ipaddress.IPv4Address(int(address))))
        return (address, ipaddress.IPv6Address(1)) if address.is_unspecified else (address,)
    # A connection to 0.0.0.0 reaches this machine.
    return (address, ipaddress.IPv4Address("127.0.0.1")) if address.is_unspecified else (address,)


@lru_cache(maxsize=1024)
def _parsed(host: str) -> Address:
    return plain_address(host)


def parse_address_rules(rules: Iterable[str]) -> AddressRules:
    """From `allow all`, `deny 192.168.0.0/24`, `allow ::1`. Raises ValueError with the rule in it."""
    return AddressRules(tuple(_rule(rule) for rule in rules))


def _rule(rule: str) -> tuple[bool, tuple[Network, ...]]:
    verb, _, where = rule.strip().partition(" ")
    if verb not in ("allow", "deny"):
        raise ValueError(f"{rule!r} must begin with allow or deny")
    if where.strip() == "all":
        return verb == "allow", EVERYBODY
    try:
        return verb == "allow", (plain_network(where.strip()),)
    except ValueError:
        raise ValueError(f"{rule!r} names no address, no network and not all") from None
