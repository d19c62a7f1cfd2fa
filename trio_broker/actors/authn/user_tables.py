"""`core.authn_users`: all users that the broker keeps, and the authenticators they belong to.

Invariant: there is one table for each authenticator that can have users, and it outlives changes of that one's
settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio

from trio_broker.access.passwords import PasswordHash
from trio_broker.access.scram import ScramKeys
from trio_broker.actors.authn.login_line import LoginLine
from trio_broker.actors.authn.users import NoAuthenticator, Unsupported, UserAuthenticator, Users

if TYPE_CHECKING:
    from trio_broker.access.authentication import Verdict
    from trio_broker.actors.core import Core

__all__ = ["PASSWORDS", "SCRAM", "AuthnUsers"]

PASSWORDS: Final = "password_based:built_in_database"
SCRAM: Final = "scram:built_in_database"


class AuthnUsers:
    """`line` is for clients, `thread` for administrators: neither waits for the other."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.passwords: Users[PasswordHash] = Users(core, PASSWORDS, PasswordHash.read)
        self.scram: Users[ScramKeys] = Users(core, SCRAM, ScramKeys.read)
        self.line = LoginLine()
        self.thread = trio.CapacityLimiter(1)

    def is_gone(self, verdict: Verdict, client_id: str, username: str | None) -> bool:
        """Was the user that this verdict is about deleted meanwhile?"""
        it = self._core.authenticators.one(verdict.authenticator)
        if not isinstance(it, UserAuthenticator):
            return False
        return (client_id if verdict.by_client_id else username) not in it.users.all

    def found(self, authenticator_id: str) -> UserAuthenticator[Any]:
        """The authenticator whose users are meant. Raises NoAuthenticator; Unsupported where it has none."""
        authenticators = self._core.authenticators
        found = authenticators.one(authenticator_id)
        if found is None:
            raise NoAuthenticator(authenticator_id, bool(authenticators.names))
        if not isinstance(found, UserAuthenticator):
            raise Unsupported(f"{authenticator_id} has no users")
        return found
