"""Tokens: what a dashboard user is given at login, and sends with each request.

Invariant: a token is good while it stands in the table, is used often enough, and its user has the password and role of
the login. The key that signs them ends with the process. The table does not grow beyond `MOST`, nor beyond `SHARE` for
one user; those that were not used for the longest time go first.

The token itself says when it ends if it is not used (`exp`); the table knows of its use.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from typing import Any, Final, NamedTuple

import jwt
from attrs import define

from trio_broker.actors.dashboard_users import DashboardUser, DashboardUsers
from trio_broker.api.failures import BAD_TOKEN, TOKEN_TIME_OUT

MOST: Final = 1000
SHARE: Final = 100
LONGEST: Final = 2048
"""Characters; no token of ours is longer."""
ALGORITHM: Final = "HS256"
ISSUER: Final = "trio-broker"

# When it ends is for the table to say, and our clock is the only one that counts.
_OPTIONS: Final[Any] = {"verify_exp": False, "verify_iat": False, "verify_nbf": False, "require": ["exp", "jti", "sub"]}


@define
class _Entry:
    username: str
    stamp: int
    expires_at: float
    """Trio time."""


class _Claims(NamedTuple):
    jti: str
    exp: int
    """Seconds of the wall clock."""


class Tokens:
    """All tokens of this process."""

    def __init__(self, users: DashboardUsers) -> None:
        self._users = users
        self._key = secrets.token_bytes(32)
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def issue(self, user: DashboardUser) -> str:
        """A new one for a user who has just logged in."""
        clock, life = self._users.clock, self._users.config.token_expired_time
        now = clock.now()
        self._make_room(user.username, now)
        identifier = secrets.token_urlsafe(16)
        self._entries[identifier] = _Entry(user.username, user.stamp, now + life)
        wall = clock.wall_ms(now) // 1000
        claims = {"iss": ISSUER, "sub": user.username, "jti": identifier, "iat": wall, "exp": wall + int(life)}
        return jwt.encode(claims, self._key, algorithm=ALGORITHM)

    def check(self, token: str) -> DashboardUser:
        """Whose it is; it is good for another while then. 401 BAD_TOKEN or TOKEN_TIME_OUT."""
        claims = self._read(token)
        clock = self._users.clock
        now = clock.now()
        entry = self._entries.get(claims.jti)
        if entry is None:
            # Given out by us, and not there any more: revoked, or over for so long that it was forgotten.
            over = claims.exp <= clock.wall_ms(now) // 1000
            raise TOKEN_TIME_OUT.error() if over else BAD_TOKEN.error()
        if now >= entry.expires_at:
            raise TOKEN_TIME_OUT.error()
        user = self._user(entry)
        if user is None:
            raise BAD_TOKEN.error()
        entry.expires_at = now + self._users.config.token_expired_time
        self._entries.move_to_end(claims.jti)
        return user

    def revoke(self, token: str) -> None:
        """It was good until now."""
        self._entries.pop(self._read(token).jti, None)

    def _read(self, token: str) -> _Claims:
        """What a token of ours says."""
        if len(token) > LONGEST:
            raise BAD_TOKEN.error()
        try:
            claims = jwt.decode(token, self._key, algorithms=[ALGORITHM], issuer=ISSUER, options=_OPTIONS)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise BAD_TOKEN.error() from None
        return _Claims(claims["jti"], claims["exp"])

    def _user(self, entry: _Entry) -> DashboardUser | None:
        user = self._users.get(entry.username)
        return user if user is not None and user.stamp == entry.stamp else None

    def _make_room(self, username: str, now: float) -> None:
        mine = [identifier for identifier, entry in self._entries.items() if entry.username == username]
        if len(mine) < SHARE and len(self._entries) < MOST:
            return
        over = [key for key, one in self._entries.items() if now >= one.expires_at or self._user(one) is None]
        for identifier in over:
            del self._entries[identifier]
        mine = [identifier for identifier in mine if identifier in self._entries]
        for identifier in mine[: len(mine) - SHARE + 1]:
            del self._entries[identifier]
        while len(self._entries) >= MOST:
            self._entries.popitem(last=False)
