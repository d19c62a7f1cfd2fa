"""`scram:built_in_database`: users for SCRAM, an authentication method of MQTT 5.0.

Invariant: what is kept of a password is what RFC 5802 derives of it; CONNECTs without a method are left to others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from trio_broker.access.authentication import Credentials, Verdict
from trio_broker.access.passwords import PasswordError
from trio_broker.access.scram import ScramConversation, ScramKeys, ScramMethod
from trio_broker.access.user_files import PasswordType, UserRow
from trio_broker.actors.authn.users import ImportCounts, Unsupported, UserAuthenticator
from trio_broker.actors.threads import in_thread

if TYPE_CHECKING:
    from trio_broker.actors.core import Core

__all__ = ["ScramDatabase"]

METHODS: Final = {"sha256": "SCRAM-SHA-256", "sha512": "SCRAM-SHA-512"}
LONGEST_PASSWORD: Final = 1024
"""Characters: what SASLprep does with a password takes as long as it is."""


class ScramDatabase(UserAuthenticator[ScramKeys]):
    """`method` is "SCRAM-SHA-256" or "SCRAM-SHA-512". The name of the exchange is the user id."""

    def __init__(self, config: Any, core: Core, authenticator_id: str) -> None:
        super().__init__(config, core, authenticator_id, core.authn_users.scram)
        self._method = ScramMethod(METHODS[config.algorithm], config.iteration_count)
        self.method = self._method.name

    async def authenticate(self, credentials: Credentials) -> Verdict | None:
        return None

    def begin(self, credentials: Credentials) -> ScramConversation:
        return ScramConversation(self._method, self._keys_of, self._let_in)

    def _keys_of(self, name: str) -> ScramKeys | None:
        user = self.users.all.get(name)
        return user.secret if user is not None and self._method.fits(user.secret) else None

    def _let_in(self, name: str, data: bytes) -> Verdict:
        superuser = self.users.all[name].is_superuser
        return Verdict(superuser=superuser, username=name, data=data, authenticator=self.id)

    async def secret_of(self, password: str) -> ScramKeys:
        if len(password) > LONGEST_PASSWORD:
            raise PasswordError(f"a password has at most {LONGEST_PASSWORD} characters")
        try:
            return await in_thread(self._method.keys, password, limiter=self.core.authn_users.thread)
        except ValueError as error:
            raise PasswordError(str(error)) from None

    async def import_users(self, rows: Sequence[UserRow], kind: PasswordType) -> ImportCounts:
        """The keys of SCRAM are in no file of hashes."""
        raise Unsupported(f"{self.id} cannot import users")
