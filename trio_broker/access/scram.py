"""SCRAM as an authentication method of MQTT 5.0: both sides prove that they know the password, and nobody sends it.

Invariant: passwords are not kept, only what RFC 5802 derives of them; who is unknown is answered like one who is known,
until the proof fails.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Any, Final

from attrs import define, field
from scramp import ScramException, ScramMechanism  # type: ignore[import-untyped]

from trio_broker.access.authentication import Challenge, Credentials, Verdict
from trio_broker.protocol.reason_codes import ReasonCode

__all__ = ["ScramAuthenticator"]

REFUSED: Final = Verdict(ReasonCode.NOT_AUTHORIZED)
SALT_SIZE: Final = 32
FEWEST_ITERATIONS: Final = 4096  # RFC 7677, section 4

# Salt, stored key, server key, iterations (RFC 5802, section 3).
Keys = tuple[bytes, bytes, bytes, int]


class ScramAuthenticator:
    """Users in memory, by name; `method` is "SCRAM-SHA-256" or "SCRAM-SHA-512" (RFC 5802, RFC 7677).

    The user name is the one of the SCRAM exchange; it takes the place of CONNECT's. `superusers` are names of users.

    Raises ValueError for another method, fewer iterations than the RFC allows, or a password that SASLprep forbids.
    """

    def __init__(
        self,
        passwords: Mapping[str, str],
        method: str = "SCRAM-SHA-256",
        *,
        iterations: int = 4096,
        superusers: frozenset[str] = frozenset(),
    ) -> None:
        if method not in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
            raise ValueError(f"there is no authentication method {method!r}: SCRAM-SHA-256 or SCRAM-SHA-512")
        self.method = method
        self.iterations = iterations
        self.superusers = superusers
        self._mechanism: Any = ScramMechanism(method)
        if iterations < FEWEST_ITERATIONS:
            raise ValueError(f"{iterations} iterations: at least {FEWEST_ITERATIONS} are asked for")
        self._keys: dict[str, Keys] = {}
        self._secret = secrets.token_bytes(32)
        for name, password in passwords.items():
            self.set_password(name, password)

    def set_password(self, name: str, password: str) -> None:
        """Add a user or change the password; takes some milliseconds."""
        try:
            salt = secrets.token_bytes(SALT_SIZE)
            self._keys[name] = self._mechanism.make_auth_info(password, iteration_count=self.iterations, salt=salt)
        except ScramException as error:
            raise ValueError(f"user {name!r}: {error}") from error

    def forget(self, name: str) -> None:
        """Remove a user. KeyError when there is none."""
        del self._keys[name]

    def begin(self, credentials: Credentials) -> _ScramConversation:
        return _ScramConversation(self)

    def keys_of(self, name: str) -> Keys:
        """Those of a user; for who is unknown, some that never fit, and the same ones each time."""
        known = self._keys.get(name)
        if known is not None:
            return known
        salt = hmac.digest(self._secret, name.encode("utf-8", "surrogatepass"), "sha512")
        size = hashlib.new(self.method.removeprefix("SCRAM-").replace("-", "")).digest_size
        return salt[:SALT_SIZE], secrets.token_bytes(size), secrets.token_bytes(size), self.iterations

    def is_known(self, name: str) -> bool:
        return name in self._keys


@define(eq=False)
class _ScramConversation:
    """Client first, server first, client final, server final."""

    authenticator: ScramAuthenticator
    name: str = ""
    _server: Any = field(default=None, repr=False)
    _has_sent: bool = False

    async def respond(self, data: bytes | None) -> Challenge | Verdict:
        if data is None:
            # The client leaves the first word to us, who have nothing to say (RFC 4422, section 5.1).
            return REFUSED if self._server is not None else Challenge()
        try:
            text = data.decode("utf-8")
            if not self._has_sent:
                return self._first(text)
            return self._final(text)
        except (ScramException, UnicodeDecodeError):
            return REFUSED

    def _first(self, text: str) -> Challenge:
        self._server = self.authenticator._mechanism.make_server(self._keys_of)
        self._server.set_client_first(text)
        self._has_sent = True
        return Challenge(self._server.get_server_first().encode())

    def _final(self, text: str) -> Verdict:
        self._server.set_client_final(text)
        final = self._server.get_server_final().encode()
        if not self.authenticator.is_known(self.name):
            return REFUSED  # removed since the exchange began
        return Verdict(superuser=self.name in self.authenticator.superusers, username=self.name, data=final)

    def _keys_of(self, name: str) -> Keys:
        self.name = name
        return self.authenticator.keys_of(name)
