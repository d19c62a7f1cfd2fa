"""JSON Web Tokens (RFC 7519): what makes a key, which tokens a key verifies, what their claims say of a client.

Invariant: what a key may verify follows from the key as it was configured, never from the token; no claim is looked at
before a key has verified it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import jwt
import msgspec
from attrs import define, field
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import Algorithm, get_default_algorithms

from trio_broker.access.authentication import Verdict
from trio_broker.access.rules import RuleSet
from trio_broker.access.templates import Template

__all__ = ["ClaimsPolicy", "Key", "KeyFault", "Token", "TokenRefused", "key_set", "pem_key", "secret_key"]

LARGEST: Final = 65_535
"""Bytes of a token: what fits into a field of CONNECT."""
MOST_KEYS: Final = 32
"""Of one key set: each may have to be tried for a token of a stranger."""
LARGEST_RSA: Final = 16_384
"""Bits: what is larger takes long to compute with."""
LATEST: Final = 2**53
"""The latest time that a claim may say: up to here every whole number has a form of its own."""
END_OF_TIME: Final = 253_402_300_799.0
"""The last second of the year 9999; a token that says more holds for as long."""

_ALGORITHMS: Final[Mapping[str, Algorithm]] = get_default_algorithms()
_HMAC: Final = ("HS256", "HS384", "HS512")
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_JWK: Final = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}
"""By key type, somebody who can read it. Secrets (`oct`) have no place in a set that is there for all to read."""
_JWS: Final = jwt.PyJWS()
_SECONDS: Final = re.compile(r"\d{1,16}(\.\d{1,9})?", re.ASCII)
_ATTRIBUTE: Final = re.compile(r"[A-Za-z0-9_-]+")
_TRUE: Final = ("true", "1")


class KeyFault(ValueError):
    """What should be a key is none; the message shows nothing of it."""


class TokenRefused(Exception):
    """A token is good, and what it claims is not; the message names the claim, and has no value of it."""


@define(frozen=True)
class Key:
    """One key, and the algorithms that it may verify. `key_id` is None where it has none."""

    material: Any = field(repr=False)
    algorithms: frozenset[str]
    key_id: str | None = None


@define(frozen=True)
class Token:
    """A token as it came: nothing of it has been verified."""

    algorithm: str
    key_id: str | None
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    payload: bytes = field(repr=False)

    @classmethod
    def parse(cls, data: bytes) -> Token | None:
        """None for what is no token, or one that has to be read in a way that is not known here."""
        if len(data) > LARGEST or data.count(b".") != 2:
            return None
        try:
            read = _JWS.decode_complete(data, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, RecursionError):
            return None
        header = read["header"]
        algorithm, key_id = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or not isinstance(key_id, str | None):
            return None
        if "crit" in header or "b64" in header:
            return None  # says that it means something else, unless what it names is understood [RFC 7515, 4.1.11]
        return cls(algorithm, key_id, data.rpartition(b".")[0], read["signature"], read["payload"])

    def is_named_in(self, keys: Sequence[Key]) -> bool:
        """Does one of the keys have the key id that it says?"""
        return any(key.key_id == self.key_id for key in keys)

    def claims(self, keys: Sequence[Key]) -> Mapping[str, Any] | None:
        """What it claims; None when none of the keys verifies it, or there are no claims in it.

        Where it names a key, those of that name are tried, else those that have none. Without a name: all.
        """
        named = self.key_id if self.key_id is not None and self.is_named_in(keys) else None
        for key in keys:
            if self.key_id is not None and key.key_id != named:
                continue
            # The algorithm is chosen by the token only among those that the key was configured for.
            if self.algorithm in key.algorithms and _ALGORITHMS[self.algorithm].verify(
                self.signed, key.material, self.signature
            ):
                return _object(self.payload)
        return None


@define(frozen=True)
class ClaimsPolicy:
    """What the claims of a verified token have to be; `required`: claims with the text that they must be equal to."""

    required: Mapping[str, Template] = field(factory=dict)
    rules: str = "acl"
    """The name of the claim with access rules."""
    expires: bool = True
    """The client is let in until the time `exp` only."""

    def verdict(self, claims: Mapping[str, Any], now: float, value: Callable[[str], str | None]) -> Verdict:
        """Let in with what the claims say. `now`: seconds since the epoch; `value`: of placeholders.

        Raises TokenRefused.
        """
        expires_at = _seconds(claims, "exp")
        if expires_at is not None and expires_at <= now:
            raise TokenRefused("it has expired (exp)")
        not_before = _seconds(claims, "nbf")
        if not_before is not None and not_before > now:
            raise TokenRefused("it is not valid yet (nbf)")
        for name, template in self.required.items():
            if name not in claims:
                raise TokenRefused(f"the claim {name!r} is missing")
            expected = template.fill(value)
            if expected is None or not _says(claims[name], expected, name):
                raise TokenRefused(f"the claim {name!r} is not what it has to be")
        until = None if expires_at is None else min(expires_at, END_OF_TIME)
        rules = self._rules(claims)
        return Verdict(
            superuser=_is_true(claims.get("is_superuser")),
            client_attrs=_attributes(claims.get("client_attrs")),
            expire_at=until if self.expires else None,
            rules=rules,
            rules_expire_at=until if rules is not None else None,
        )

    def _rules(self, claims: Mapping[str, Any]) -> RuleSet | None:
        if self.rules not in claims:
            return None
        said = claims[self.rules]
        try:
            found = RuleSet.from_claim(said)
        except ValueError as error:
            raise TokenRefused(f"the claim {self.rules!r}: {error}") from error
        # Lists of what is allowed are all that is allowed; after an array of rules the sources are asked.
        return RuleSet([*found.rules, *RuleSet.nothing().rules]) if isinstance(said, dict) else found


def secret_key(secret: str, *, in_base64: bool = False) -> Key:
    """For HMAC. Raises KeyFault."""
    material = secret.encode()
    if in_base64:
        try:
            material = base64.b64decode(b"".join(material.split()), validate=True)
        except ValueError as error:
            raise KeyFault("is not base64") from error
    if not material:
        raise KeyFault("is empty")
    try:
        # It looks for keys that are not secret: with one of those anybody could sign.
        return Key(_ALGORITHMS["HS256"].prepare_key(material), frozenset(_HMAC))
    except jwt.PyJWTError as error:
        raise KeyFault("is a key or a certificate: a secret is asked for") from error


def pem_key(text: bytes) -> Key:
    """From a public key or a certificate in PEM. Raises KeyFault."""
    if b"PRIVATE KEY-----" in text:
        raise KeyFault("is a private key: the public one is asked for")
    try:
        if b"-----BEGIN CERTIFICATE-----" in text:
            material: object = x509.load_pem_x509_certificate(text).public_key()
        else:
            material = load_pem_public_key(text)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFault("is no public key in PEM") from error
    return Key(material, _algorithms_of(material))


def key_set(text: bytes) -> tuple[Key, ...]:
    """The keys of a JWKS (RFC 7517) that can verify signatures; others are passed over. Raises KeyFault."""
    found = _object(text)
    listed = None if found is None else found.get("keys")
    if not isinstance(listed, list):
        raise KeyFault("is no key set (JWKS)")
    keys: list[Key] = []
    for item in listed:
        if isinstance(item, dict) and len(keys) < MOST_KEYS:
            key = _jwk(item)
            if key is not None:
                keys.append(key)
    if not keys:
        raise KeyFault("has no key that could verify a token")
    return tuple(keys)


def _jwk(item: Mapping[str, Any]) -> Key | None:
    """One of a set; None where it is for something else, or broken [RFC 7517, section 5: ignore it]."""
    operations, key_id, algorithm = item.get("key_ops"), item.get("kid"), item.get("alg")
    if item.get("use", "sig") != "sig" or not isinstance(key_id, str | None):
        return None
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        return None
    kind = item.get("kty")
    reader = _JWK.get(kind) if isinstance(kind, str) else None
    if reader is None:
        return None
    try:
        material = _ALGORITHMS[reader].from_jwk(dict(item))
        if hasattr(material, "public_key"):
            material = material.public_key()  # somebody published the private one
        allowed = _algorithms_of(material)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, UnsupportedAlgorithm):
        return None
    if algorithm is not None:
        allowed &= {algorithm} if isinstance(algorithm, str) else frozenset()
    return Key(material, allowed, key_id) if allowed else None


def _algorithms_of(material: object) -> frozenset[str]:
    """Raises KeyFault where it is a key for nothing that is known here."""
    if isinstance(material, rsa.RSAPublicKey) and material.key_size <= LARGEST_RSA:
        return frozenset(_RSA)
    if isinstance(material, ec.EllipticCurvePublicKey) and material.curve.name in _CURVES:
        return frozenset({_CURVES[material.curve.name]})
    if isinstance(material, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return frozenset({"EdDSA"})
    raise KeyFault("is a key of a kind that is not known here: RSA, EC (P-256, P-384, P-521), Ed25519, Ed448")


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _seconds(claims: Mapping[str, Any], name: str) -> float | None:
    """A time since the epoch; None where it says none. Raises TokenRefused."""
    if name not in claims:
        return None
    said = claims[name]
    if isinstance(said, str) and _SECONDS.fullmatch(said):
        said = float(said)
    # Of NaN nothing of this holds.
    if isinstance(said, bool) or not isinstance(said, int | float) or not 0 <= said <= LATEST:
        raise TokenRefused(f"the claim {name!r} is no time in seconds")
    return float(said)


def _says(said: object, expected: str, name: str) -> bool:
    """An audience may be several [RFC 7519, section 4.1.3]."""
    return said == expected or (name == "aud" and isinstance(said, list) and expected in said)


def _is_true(said: object) -> bool:
    """EMQX takes it as text and as a number, too."""
    return said in _TRUE if isinstance(said, str) else isinstance(said, int) and said == 1


def _attributes(said: object) -> dict[str, str]:
    """Those that a placeholder can name; the others are no more than claims."""
    if not isinstance(said, dict):
        return {}
    return {
        name: value
        for name, value in said.items()
        if _ATTRIBUTE.fullmatch(name) and isinstance(value, str) and "\0" not in value
    }
