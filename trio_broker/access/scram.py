"""SCRAM as an authentication method of MQTT 5.0: both sides prove that they know the password, and nobody sends it.

Invariant: passwords are not kept, only what RFC 5802 derives of them; who is unknown is answered like one who is known,
until the proof fails.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import define, field, frozen
from scramp import ScramException, ScramMechanism  # type: ignore[import-untyped]

from trio_broker.access.authentication import Challenge, Credentials, Verdict
from trio_broker.protocol.reason_codes import ReasonCode

__all__ = ["METHODS", "ScramAuthenticator", "ScramConversation", "ScramKeys", "ScramMethod"]

METHODS: Final = ("SCRAM-SHA-256", "SCRAM-SHA-512")
REFUSED: Final = Verdict(ReasonCode.NOT_AUTHORIZED)
SALT_SIZE: Final = 32
FEWEST_ITERATIONS: Final = 4096  # RFC 7677, section 4


@frozen
class ScramKeys:
    """What RFC 5802 (section 3) derives of a password."""

    salt: bytes = field(repr=False)
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)
    iterations: int

    def kept(self) -> list[Any]:
        """For the store: base64, and a number."""
        return [*(b64encode(key).decode() for key in (self.salt, self.stored_key, self.server_key)), self.iterations]

    @classmethod
    def read(cls, salt: str, stored_key: str, server_key: str, iterations: int) -> ScramKeys:
        """What was `kept`. Raises TypeError, ValueError."""
        if type(iterations) is not int or iterations < 1:
            raise ValueError("iterations is a number from 1 on")
        raw_salt, raw_stored, raw_server = (b64decode(key, validate=True) for key in (salt, stored_key, server_key))
        if not (raw_salt and raw_stored and raw_server):
            raise ValueError("a salt or a key is empty")
        return cls(raw_salt, raw_stored, raw_server, iterations)


class ScramMethod:
    """`name` is one of `METHODS`. Raises ValueError for another one, or fewer iterations than the RFC allows."""

    def __init__(self, name: str, iterations: int = FEWEST_ITERATIONS) -> None:
        if name not in METHODS:
            raise ValueError(f"there is no authentication method {name!r}: SCRAM-SHA-256 or SCRAM-SHA-512")
        if iterations < FEWEST_ITERATIONS:
            raise ValueError(f"{iterations} iterations: at least {FEWEST_ITERATIONS} are asked for")
        self.name = name
        self.iterations = iterations
        self.mechanism: Any = ScramMechanism(name)
        self._key_size = hashlib.new(name.removeprefix("SCRAM-").replace("-", "")).digest_size
        self._secret = secrets.token_bytes(32)

    def keys(self, password: str) -> ScramKeys:
        """New ones; takes some milliseconds, more with more iterations. ValueError for what SASLprep forbids."""
        salt = secrets.token_bytes(SALT_SIZE)
        try:
            return ScramKeys(*self.mechanism.make_auth_info(password, iteration_count=self.iterations, salt=salt))
        except ScramException as error:
            raise ValueError(str(error)) from None

    def decoy(self, name: str) -> ScramKeys:
        """For who is unknown: keys that never fit, with the same salt each time."""
        salt = hmac.digest(self._secret, name.encode("utf-8", "surrogatepass"), "sha512")
        size = self._key_size
        return ScramKeys(salt[:SALT_SIZE], secrets.token_bytes(size), secrets.token_bytes(size), self.iterations)

    def fits(self, keys: ScramKeys) -> bool:
        """Are these of this method?"""
        return len(keys.stored_key) == len(keys.server_key) == self._key_size


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
        self._method = ScramMethod(method, iterations)
        self.method = method
        self.iterations = iterations
        self.superusers = superusers
        self._keys: dict[str, ScramKeys] = {}
        for name, password in passwords.items():
            self.set_password(name, password)

    def set_password(self, name: str, password: str) -> None:
        """Add a user or change the password; takes some milliseconds."""
        try:
            self._keys[name] = self._method.keys(password)
        except ValueError as error:
            raise ValueError(f"user {name!r}: {error}") from error

    def forget(self, name: str) -> None:
        """Remove a user. KeyError when there is none."""
        del self._keys[name]

    def begin(self, credentials: Credentials) -> ScramConversation:
        return ScramConversation(self._method, self._keys.get, self._let_in)

    def _let_in(self, name: str, data: bytes) -> Verdict:
        return Verdict(superuser=name in self.superusers, username=name, data=data)


@define(eq=False)
class ScramConversation:
    """Client first, server first, client final, server final.

    `keys_of` knows the users, as they are now; `let_in` makes the verdict of who has shown to be one.
    """

    method: ScramMethod
    keys_of: Callable[[str], ScramKeys | None]
    let_in: Callable[[str, bytes], Verdict]
    name: str = ""
    _keys: ScramKeys | None = field(default=None, repr=False)
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
        self._server = self.method.mechanism.make_server(self._keys_of)
        self._server.set_client_first(text)
        self._has_sent = True
        return Challenge(self._server.get_server_first().encode())

    def _final(self, text: str) -> Verdict:
        self._server.set_client_final(text)
        final = self._server.get_server_final().encode()
        if self._keys is None or self.keys_of(self.name) != self._keys:
            return REFUSED  # removed or changed since the exchange began
        return self.let_in(self.name, final)

    def _keys_of(self, name: str) -> tuple[bytes, bytes, bytes, int]:
        self.name = name
        self._keys = self.keys_of(name)
        keys = self._keys or self.method.decoy(name)
        return keys.salt, keys.stored_key, keys.server_key, keys.iterations
