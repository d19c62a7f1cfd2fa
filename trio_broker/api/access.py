"""Who calls, and may they: the Authorization header against the keys, the role against the route.

Invariant: a caller learns nothing about a key but whether it is right.
"""

from __future__ import annotations

import base64
import binascii

from trio_broker.api.failures import BAD_API_KEY, BAD_TOKEN, NO_CREDENTIALS, ROLE_TOO_WEAK
from trio_broker.api.keys import ApiKeys, Role
from trio_broker.api.routes import EVERYBODY, PUBLISHERS, VIEWERS, Route

_MAY = {
    Role.ADMINISTRATOR: {VIEWERS, PUBLISHERS, "administrators"},
    Role.VIEWER: {VIEWERS},
    Role.PUBLISHER: {PUBLISHERS},
}


async def authorize(keys: ApiKeys, route: Route, header: str | None, closed: bool = False) -> None:
    """Return when the caller may use `route` (`closed`: which is for viewers now); else 401 or 403."""
    access = VIEWERS if closed else route.access
    if access == EVERYBODY:
        return
    role = await _authenticate(keys, header)
    if access not in _MAY[role]:
        raise ROLE_TOO_WEAK.error()


async def _authenticate(keys: ApiKeys, header: str | None) -> Role:
    scheme, _, credentials = (header or "").strip().partition(" ")
    if scheme.lower() == "bearer":
        # There is no login yet, so no token is known.
        raise BAD_TOKEN.error()
    if scheme.lower() != "basic":
        raise NO_CREDENTIALS.error()
    try:
        api_key, colon, secret = base64.b64decode(credentials.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise NO_CREDENTIALS.error() from None
    role = await keys.check(api_key, secret) if colon else None
    if role is None:
        raise BAD_API_KEY.error()
    return role
