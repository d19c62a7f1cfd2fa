"""Keys and tokens of all kinds, made once for all tests: RSA keys take long to make.

Invariant: `sign` makes what the claims and headers say, also where no honest issuer would.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms

SECRET = "not a secret at all, but as long as sixty-four bytes have to be, or more"

FAMILIES = {
    "rsa": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "p256": ("ES256",),
    "p384": ("ES384",),
    "p521": ("ES512",),
    "ed25519": ("EdDSA",),
    "ed448": ("EdDSA",),
}
"""What each kind of key can sign with."""


def private_key(kind: str, number: int = 0) -> Any:
    """`number` tells keys of one kind apart."""
    return _made(kind, number)


@cache
def _made(kind: str, number: int) -> Any:
    makers: dict[str, Any] = {
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
        "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
        "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "ed448": ed448.Ed448PrivateKey.generate,
    }
    return makers[kind]()


def public_pem(kind: str, number: int = 0) -> bytes:
    pem: bytes = private_key(kind, number).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


def jwk(kind: str, number: int = 0, *, private: bool = False, **members: Any) -> dict[str, Any]:
    """As it stands in a key set; `members` are added, such as `kid`."""
    key = private_key(kind, number)
    algorithm: Any = get_default_algorithms()[FAMILIES[kind][0]]
    made: dict[str, Any] = algorithm.to_jwk(key if private else key.public_key(), as_dict=True)
    return {**{name: value for name, value in made.items() if name != "key_ops"}, **members}


def jwks(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def sign(claims: object = None, kind: str = "", algorithm: str = "HS256", *, number: int = 0, **headers: Any) -> bytes:
    """A token signed by a key of that kind, or with SECRET; `claims` may be bytes that are no JSON."""
    payload = claims if isinstance(claims, bytes) else json.dumps({} if claims is None else claims).encode()
    key = private_key(kind, number) if kind else SECRET
    return jwt.PyJWS().encode(payload, key, algorithm, headers=headers or None).encode()


def part(content: object) -> bytes:
    """One of the parts of a token."""
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def by_hand(header: object, claims: object, key: bytes | None = None, digest: str = "sha256") -> bytes:
    """What no library would make: HMAC with any key, or no signature at all."""
    signed = part(header) + b"." + part(claims)
    return signed + b"." + (b"" if key is None else part(hmac.new(key, signed, getattr(hashlib, digest)).digest()))
