"""Passwords of clients as they are kept: the algorithms that EMQX has, and their forms of hash and salt.

Invariant: whatever a client sends, and whatever was imported, `verify` raises nothing, and how long it takes does not
depend on how much of a password is right.

bcrypt looks at the first 72 bytes only, and other programs at those before the first NUL. Rather than let somebody in
who knows a part, a password that is longer or has a NUL is not taken where one is set, and is never right.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import Any, Final

import bcrypt
from attrs import field, frozen

from trio_broker.config.authentication import PasswordHashConfig

__all__ = ["Hasher", "PasswordError", "PasswordHash"]

MOST_OF_BCRYPT: Final = 72
"""Bytes."""
# A cost of 15 takes seconds; what takes longer is none that a broker can check. 22 characters are 128 bits of salt,
# so that of the last one only two bits may be set.
_BCRYPT: Final = re.compile(r"\$2[abxy]\$(?:0[4-9]|1[0-5])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_LIBRARY: Final = {"sha": "sha1"}
"""What Python calls those that it calls differently."""


class PasswordError(ValueError):
    """It cannot be kept with this algorithm."""


@frozen
class PasswordHash:
    """`hash` as EMQX writes it: hexadecimal digits, `$2b$...` for bcrypt, the text itself for plain."""

    hash: str = field(repr=False)
    salt: str = field(repr=False, default="")

    def kept(self) -> list[Any]:
        """For the store."""
        return [self.hash, self.salt]

    @classmethod
    def read(cls, hash: object, salt: object) -> PasswordHash:
        """What was `kept`. Raises TypeError."""
        if not isinstance(hash, str) or not isinstance(salt, str):
            raise TypeError("a hash and its salt are texts")
        return cls(hash, salt)


class Hasher:
    """One algorithm. `is_slow`: `made` and `verify` take so long that they belong into a thread."""

    def __init__(self, config: PasswordHashConfig) -> None:
        self.name = config.name
        self.is_slow = config.name in ("bcrypt", "pbkdf2")
        self._config = config
        self.decoy = PasswordHash(self._wrong_hash(), secrets.token_hex(16))
        """No password has it: to verify against it costs what verifying costs."""

    def made(self, password: bytes) -> PasswordHash:
        """With a salt of its own. Raises PasswordError."""
        self.check(password)
        if self.name == "bcrypt":
            salt = bcrypt.gensalt(self._config.salt_rounds)
            return PasswordHash(bcrypt.hashpw(password, salt).decode())
        salted = self.name != "plain" and (self.name == "pbkdf2" or self._config.salt_position != "disable")
        text = secrets.token_hex(16) if salted else ""
        return PasswordHash(self._hash(password, text.encode()).decode(), text)

    def check(self, password: bytes) -> None:
        """Raises PasswordError for what `made` cannot take."""
        if self.name == "bcrypt" and not _is_for_bcrypt(password):
            raise PasswordError(f"bcrypt takes a password of at most {MOST_OF_BCRYPT} bytes without NUL")
        if self.name == "plain":
            try:
                password.decode()
            except UnicodeDecodeError:
                raise PasswordError("only UTF-8 can be kept as plain text") from None

        if self.name == "pbkdf2" and password.endswith(b"\0"):
            raise PasswordError("pbkdf2 takes no password with NUL at its end, which would be the same without")

    def verify(self, password: bytes, kept: PasswordHash) -> bool:
        if self.name == "bcrypt":
            return self._verify_bcrypt(password, kept.hash)
        found = self._hash(password, kept.salt.encode("utf-8", "surrogatepass"))
        # Other programs write hexadecimal digits in capitals, too.
        wanted = (kept.hash if self.name == "plain" else kept.hash.lower()).encode("utf-8", "surrogatepass")
        is_right = hmac.compare_digest(hashlib.sha256(found).digest(), hashlib.sha256(wanted).digest())
        # HMAC fills up its key with zeros: `secret` and `secret\0` have one hash.
        return is_right and not (self.name == "pbkdf2" and password.endswith(b"\0"))

    def fits(self, kept: PasswordHash) -> bool:
        """Can there be a password with this hash? If not, it is of another algorithm."""
        if self.name == "plain":
            return True
        if self.name == "bcrypt":
            return _BCRYPT.fullmatch(kept.hash) is not None
        return len(kept.hash) == len(self.decoy.hash) and _HEX.fullmatch(kept.hash) is not None

    def _hash(self, password: bytes, salt: bytes) -> bytes:
        config = self._config
        if self.name == "pbkdf2":
            mac = _LIBRARY.get(config.mac_fun, config.mac_fun)
            return hashlib.pbkdf2_hmac(mac, password, salt, config.iterations, config.dk_length or None).hex().encode()
        if config.salt_position == "prefix":
            password = salt + password
        elif config.salt_position == "suffix":
            password += salt
        if self.name == "plain":
            return password
        return hashlib.new(_LIBRARY.get(self.name, self.name), password, usedforsecurity=False).hexdigest().encode()

    def _verify_bcrypt(self, password: bytes, kept: str) -> bool:
        possible = _is_for_bcrypt(password)
        wanted = kept if _BCRYPT.fullmatch(kept) else self.decoy.hash
        # The same work in every case.
        right = bcrypt.checkpw(password if possible else b"", wanted.encode())
        return right and possible and wanted is kept

    def _wrong_hash(self) -> str:
        config = self._config
        if self.name == "bcrypt":
            return bcrypt.gensalt(config.salt_rounds).decode() + "." * 31
        if self.name == "plain":
            return secrets.token_hex(32)
        mac = config.mac_fun if self.name == "pbkdf2" else self.name
        size = hashlib.new(_LIBRARY.get(mac, mac), usedforsecurity=False).digest_size
        return "0" * 2 * ((config.dk_length or size) if self.name == "pbkdf2" else size)


def _is_for_bcrypt(password: bytes) -> bool:
    return len(password) <= MOST_OF_BCRYPT and b"\0" not in password
