"""`core.authn_users`: all users that the broker keeps, and the authenticators they belong to.

Invariant: there is one table for each authenticator that can have users, and it outlives changes of that one's
settings. Of the built-in databases a second one has its own: which is whose does not depend on their order.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import dropwhile, islice
from typing import TYPE_CHECKING, Any, Final, Literal

import trio

from trio_broker.access.passwords import PasswordHash
from trio_broker.access.scram import ScramKeys
from trio_broker.actors.authn.login_line import LoginLine
from trio_broker.actors.authn.users import NoAuthenticator, Unsupported, UserAuthenticator, Users
from trio_broker.config.authentication import BuiltInDatabaseConfig

if TYPE_CHECKING:
    from trio_broker.access.authentication import Credentials, Verdict
    from trio_broker.actors.core import Core

__all__ = ["PASSWORDS", "SCRAM", "AuthnUsers", "UserIdType"]

UserIdType = Literal["username", "clientid"]

PASSWORDS: Final = "password_based:built_in_database"
SCRAM: Final = "scram:built_in_database"


class AuthnUsers:
    """`line` is for clients, `thread` for administrators: neither waits for the other."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self.tables: Mapping[str, Users[PasswordHash]] = {
            authenticator_id: Users(core, authenticator_id, PasswordHash.read)
            for authenticator_id in (PASSWORDS, f"{PASSWORDS}:username", f"{PASSWORDS}:clientid")
        }
        """Those of the built-in databases, by their ids."""
        self.passwords = self.tables[PASSWORDS]
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

    def knows_behind(self, before: UserAuthenticator[Any], credentials: Credentials) -> bool:
        """Is the client a user of the other built-in database, too, and is that asked after this one?"""
        others = dropwhile(lambda link: link.it is not before, self._core.authenticators.items())
        for link in islice(others, 1, None):
            config, it = link.config, link.it
            if isinstance(config, BuiltInDatabaseConfig) and config.enable and isinstance(it, UserAuthenticator):
                by_client_id = config.user_id_type == "clientid"
                return (credentials.client_id if by_client_id else credentials.username) in it.users.all
        return False

    def looked_up_by(self, user_id_type: UserIdType) -> UserAuthenticator[Any] | None:
        """The built-in database of users who are known by that; None where there is none, or it is disabled."""
        for link in self._core.authenticators.items():
            it, config = link.it, link.config
            found = isinstance(config, BuiltInDatabaseConfig) and config.user_id_type == user_id_type
            if found and config.enable and isinstance(it, UserAuthenticator):
                return it
        return None
