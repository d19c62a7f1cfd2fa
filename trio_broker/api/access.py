"""Who calls, and may they: the Authorization header against keys and tokens, the role against the route.

Invariant: a caller learns nothing about a key or a token but whether it is right.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from trio_broker.actors.api_keys import Role
from trio_broker.api.context import Api, Caller
from trio_broker.api.failures import (
    API_KEY_NOT_ALLOW,
    BAD_API_KEY,
    NO_CREDENTIALS,
    ROLE_TOO_WEAK,
    USER_TOO_WEAK,
)
from trio_broker.api.routes import ADMINISTRATORS, EVERYBODY, PUBLISHERS, VIEWERS, Route

__all__ = ["authorize", "basic_credentials", "may"]

_MAY: Final = {
    Role.ADMINISTRATOR: {VIEWERS, PUBLISHERS, ADMINISTRATORS},
    Role.VIEWER: {VIEWERS},
    Role.PUBLISHER: {PUBLISHERS},
}


def may(role: Role, access: str) -> bool:
    """Is what is for `access` for callers of this role?"""
    return access == EVERYBODY or access in _MAY[role]


def basic_credentials(header: str | None) -> tuple[str, str] | None:
    """Name and secret of a `Basic` header [RFC 7617]; None where it is missing or something else."""
    scheme, _, credentials = (header or "").strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, secret = base64.b64decode(credentials.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    return (name, secret) if colon else None


async def authorize(api: Api, route: Route, header: str | None, address: str, closed: bool = False) -> Caller:
    """Who may use `route` (`closed`: which is for viewers now), at `address`; else 401 or 403.

    Raises TooBusy where the secret cannot be checked in time.
    """
    access = VIEWERS if closed else route.access
    if access == EVERYBODY:
        return Caller(None, address)
    scheme, _, credentials = (header or "").strip().partition(" ")
    if scheme.lower() == "bearer":
        return _user(api, access, credentials.strip(), address)
    if scheme.lower() == "basic":
        return await _key(api, route, access, credentials.strip(), address)
    raise NO_CREDENTIALS.error()


def _user(api: Api, access: str, token: str, address: str) -> Caller:
    user = api.tokens.check(token)
    if access not in _MAY[user.role]:
        raise USER_TOO_WEAK.error()
    return Caller(user.role, address, user.username, token)


async def _key(api: Api, route: Route, access: str, credentials: str, address: str) -> Caller:
    try:
        api_key, colon, secret = base64.b64decode(credentials, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise NO_CREDENTIALS.error() from None
    if route.tokens_only:
        resource = route.path.split("/")[1]
        raise API_KEY_NOT_ALLOW.error(API_KEY_NOT_ALLOW.message.replace("<resource>", resource))
    role = await api.questions.api_keys.check(api_key, secret, address) if colon else None
    if role is None:
        raise BAD_API_KEY.error()
    if access not in _MAY[role]:
        raise ROLE_TOO_WEAK.error()
    return Caller(role, address)
