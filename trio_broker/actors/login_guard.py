"""Who has sent too many wrong passwords.

Invariant: what is locked is a user name from one address, never the user: nobody can lock out somebody who is
elsewhere. No more is remembered than `MOST` entries; the oldest go first. Of a name that no user can have a digest is
remembered, which is short.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Final

from attrs import define

from trio_broker.access.addresses import plain_address
from trio_broker.config.credentials import username_fault

if TYPE_CHECKING:
    from trio_broker.config.model import DashboardConfig

MOST: Final = 10_000


@define
class _Failures:
    since: float
    count: int = 0
    locked_until: float = -math.inf


@lru_cache(maxsize=4096)
def place_of(address: str) -> str:
    """What counts as one address: of IPv6 the network of 64 bits, of which a single host has all."""
    try:
        found = plain_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv6Address):
        found = IPv6Network((int(found), 64), strict=False).network_address
    return str(found)


def _key(username: str, address: str) -> tuple[str, str]:
    if username_fault(username) is not None:
        username = "#" + hashlib.sha256(username.encode("utf-8", "surrogatepass")).hexdigest()
    return username, place_of(address)


class LoginGuard:
    """Times in seconds of any clock that does not go back."""

    def __init__(self) -> None:
        self._failures: OrderedDict[tuple[str, str], _Failures] = OrderedDict()

    def is_locked(self, username: str, address: str, now: float) -> bool:
        found = self._failures.get(_key(username, address))
        return found is not None and now < found.locked_until

    def failed(self, username: str, address: str, now: float, config: DashboardConfig) -> bool:
        """A wrong password. True when that was one too many."""
        key = _key(username, address)
        found = self._failures.get(key)
        if found is None or now - found.since > config.unsuccessful_login_interval:
            found = self._failures[key] = _Failures(now)
        self._failures.move_to_end(key)
        found.count += 1
        if found.count >= config.unsuccessful_login_max_attempts:
            found.locked_until = now + config.unsuccessful_login_lock_duration
            found.since, found.count = found.locked_until, 0
        while len(self._failures) > MOST:
            self._failures.popitem(last=False)
        return found.locked_until > now

    def succeeded(self, username: str, address: str) -> None:
        self._failures.pop(_key(username, address), None)

    def forgive(self, username: str) -> None:
        """Wherever it was: the user has another password, or is no more."""
        for key in [key for key in self._failures if key[0] == username]:
            del self._failures[key]
