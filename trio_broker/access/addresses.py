"""Addresses and networks in one form each, so that two that are the same are equal.

Invariant: what comes out has no zone, and is IPv4 where IPv6 only wraps it [RFC 4291 section 2.5.5.2].
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

__all__ = ["Address", "Network", "plain_address", "plain_network"]

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network


def plain_address(text: str) -> Address:
    """Raises ValueError for what is no address."""
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or IPv6Address(int(address))
    return address


def plain_network(text: str) -> Network:
    """Bits behind the prefix do not matter. Raises ValueError for what is neither address nor network."""
    network = ip_network(text, strict=False)
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((int(mapped), network.prefixlen - 96))
    return network
