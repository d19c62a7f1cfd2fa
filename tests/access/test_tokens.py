"""Tokens: who signed them, and attempts to have others believe it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest
from access.token_keys import FAMILIES, SECRET, by_hand, jwk, jwks, part, private_key, public_pem, sign
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from trio_broker.access.tokens import LARGEST, MOST_KEYS, Key, KeyFault, Token, key_set, pem_key, secret_key

CLAIMS = {"username": "u1", "n": 1}
HMAC = ("HS256", "HS384", "HS512")
PUBLIC = [(kind, algorithm) for kind, algorithms in FAMILIES.items() for algorithm in algorithms]


def claims_of(token: bytes, *keys: Key) -> Mapping[str, Any] | None:
    parsed = Token.parse(token)
    return None if parsed is None else parsed.claims(keys)


def public(kind: str, number: int = 0) -> Key:
    return pem_key(public_pem(kind, number))


# -- signatures


@pytest.mark.parametrize("algorithm", HMAC)
def test_a_secret_verifies_what_it_signed(algorithm: str) -> None:
    token = sign(CLAIMS, algorithm=algorithm)
    assert claims_of(token, secret_key(SECRET)) == CLAIMS
    assert claims_of(token, secret_key(SECRET + "!")) is None
    assert claims_of(token, secret_key(base64.b64encode(SECRET.encode()).decode(), in_base64=True)) == CLAIMS


@pytest.mark.parametrize(("kind", "algorithm"), PUBLIC)
def test_a_public_key_verifies_what_its_own_private_key_signed(kind: str, algorithm: str) -> None:
    token = sign(CLAIMS, kind, algorithm)
    assert claims_of(token, public(kind)) == CLAIMS
    assert claims_of(token, *key_set(jwks(jwk(kind)))) == CLAIMS
    others = [public(other, 1 if other == kind else 0) for other in FAMILIES]
    assert claims_of(token, *others, secret_key(SECRET)) is None
    assert claims_of(token, *others, public(kind)) == CLAIMS


@pytest.mark.parametrize(("kind", "algorithm"), [("", "HS256"), ("", "HS512"), *PUBLIC])
def test_a_token_that_was_changed_anywhere_is_nobodys(kind: str, algorithm: str) -> None:
    token = sign(CLAIMS, kind, algorithm)
    key = public(kind) if kind else secret_key(SECRET)
    header, payload, signature = token.split(b".")
    forged = [
        b".".join([part({"alg": algorithm, "typ": "JWT", "x": 1}), payload, signature]),
        b".".join([header, part({**CLAIMS, "username": "admin"}), signature]),
        b".".join([header, payload, b"A" * len(signature)]),
        b".".join([header, payload, b""]),
        b".".join([header, payload, signature[: len(signature) // 4 * 2]]),
        b".".join([header, payload, part(base64.urlsafe_b64decode(signature + b"==") + b"\0")]),
    ]
    for at in range(0, len(token), 7):
        other = b"A" if token[at : at + 1] != b"A" else b"B"
        forged.append(token[:at] + other + token[at + 1 :])
    assert [one for one in forged if claims_of(one, key) is not None] == []


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b".",
        b"..",
        b"secret",
        b"a.b",
        b"a.b.c",
        b"a.b.c.d",
        b"\xff\xfe.\0.\0",
        sign(CLAIMS) + b".",
        b"." + sign(CLAIMS),
        sign(CLAIMS) + b"\n",
        b" " + sign(CLAIMS),
        b"Bearer " + sign(CLAIMS),
        by_hand([], CLAIMS, SECRET.encode()),
        by_hand({}, CLAIMS, SECRET.encode()),
        by_hand({"alg": 7}, CLAIMS, SECRET.encode()),
        by_hand({"alg": ["HS256"]}, CLAIMS, SECRET.encode()),
        by_hand({"alg": "HS256", "kid": 7}, CLAIMS, SECRET.encode()),
        by_hand(b"[" * 20_000, CLAIMS, SECRET.encode()),
        by_hand(b'{"alg":"HS256","n":' + b"9" * 5_000 + b"}", CLAIMS, SECRET.encode()),
    ],
)
def test_what_is_no_token_is_taken_for_none(text: bytes) -> None:
    assert Token.parse(text) is None


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"7", b'"u1"', b"{", b'{"exp": NaN}', b"\xff", b'{"a": 1e999}', b"[" * 20_000, b"{}{}"]
)
def test_a_signed_text_without_claims_says_nothing(payload: bytes) -> None:
    token = Token.parse(sign(payload))
    assert token is not None
    assert token.claims([secret_key(SECRET)]) is None


def test_a_token_is_no_larger_than_a_field_of_connect() -> None:
    room = 3 * (LARGEST - len(sign(b""))) // 4 - len('{"x":""}')
    assert claims_of(sign(json.dumps({"x": "x" * room}, separators=(",", ":")).encode()), secret_key(SECRET))
    assert Token.parse(sign({"x": "x" * (room + 10)})) is None


# -- algorithm confusion


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_public_key_is_never_taken_for_a_secret(kind: str) -> None:
    """The classic attack: everybody has the public key, and signs with it as with a secret."""
    pem = public_pem(kind)
    der = private_key(kind).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for key in (pem, pem.strip(), der, b""):
        for algorithm, digest in zip(HMAC, ("sha256", "sha384", "sha512"), strict=True):
            assert claims_of(by_hand({"alg": algorithm}, CLAIMS, key, digest), public(kind)) is None


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_secret_that_is_a_key_is_refused(kind: str) -> None:
    with pytest.raises(KeyFault, match="a secret is asked for"):
        secret_key(public_pem(kind).decode())


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", "", "HS1", "ES256K", "RSA1_5", "HS256 ", "hs256"])
def test_no_signature_or_an_unknown_one_is_nobodys(algorithm: str) -> None:
    keys = [secret_key(SECRET), *(public(kind) for kind in FAMILIES)]
    for key in (None, SECRET.encode()):
        assert claims_of(by_hand({"alg": algorithm}, CLAIMS, key), *keys) is None


def test_the_header_brings_no_key_of_its_own() -> None:
    mine = jwk("p256", 1)
    for header in ({"jwk": mine}, {"jku": "http://127.0.0.1/keys"}, {"x5c": ["AAAA"]}, {"x5u": "http://127.0.0.1/c"}):
        token = sign(CLAIMS, "p256", "ES256", number=1, **header)
        assert claims_of(token, public("p256")) is None


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"], "exp": 1},
        {"crit": ["b64"], "b64": True},
        {"crit": ["b64"], "b64": False},
        {"crit": []},
        {"crit": "b64"},
        {"crit": None},
        {"b64": False},
    ],
)
def test_a_token_that_has_to_be_read_in_another_way_is_refused(header: dict[str, Any]) -> None:
    assert Token.parse(by_hand({"alg": "HS256", **header}, CLAIMS, SECRET.encode())) is None


def test_a_curve_has_one_algorithm() -> None:
    assert public("p256").algorithms == {"ES256"}
    assert public("p384").algorithms == {"ES384"}
    assert public("p521").algorithms == {"ES512"}
    with pytest.raises(KeyFault, match="not known here"):
        public("secp256k1")


# -- keys


def test_keys_in_pem_of_all_forms() -> None:
    key = private_key("rsa").public_key()
    pkcs1 = key.public_bytes(Encoding.PEM, PublicFormat.PKCS1)
    assert claims_of(sign(CLAIMS, "rsa", "RS256"), pem_key(pkcs1)) == CLAIMS
    assert claims_of(sign(CLAIMS, "rsa", "RS256"), pem_key(b"# ours\n" + public_pem("rsa"))) == CLAIMS


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"", "no public key in PEM"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public key in PEM"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no public key in PEM"),
        (b"\xff\xfe", "no public key in PEM"),
    ],
)
def test_what_is_no_key(text: bytes, fault: str) -> None:
    with pytest.raises(KeyFault, match=fault):
        pem_key(text)


def test_a_private_key_is_not_taken_for_the_public_one() -> None:
    private = private_key("p256").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(KeyFault, match="private key") as caught:
        pem_key(private)
    assert private.decode()[40:60] not in str(caught.value)


def test_a_secret_has_to_be_one() -> None:
    for text in ("", " "):
        with pytest.raises(KeyFault, match="is empty"):
            secret_key(text, in_base64=True)
    with pytest.raises(KeyFault, match="not base64") as caught:
        secret_key("s3cret!", in_base64=True)
    assert "s3cret" not in str(caught.value)


def test_nothing_shows_a_key_or_a_token() -> None:
    token = Token.parse(sign(CLAIMS))
    assert repr(secret_key(SECRET)).find(SECRET[:8]) == -1
    shown = repr(token)
    assert "u1" not in shown
    assert sign(CLAIMS).decode()[-10:] not in shown


# -- key sets


def test_a_token_is_verified_by_the_key_that_it_names() -> None:
    keys = key_set(jwks(jwk("p256", 0, kid="a"), jwk("p256", 1, kid="b"), jwk("rsa", kid="c")))
    assert claims_of(sign(CLAIMS, "p256", "ES256", number=1, kid="b"), *keys) == CLAIMS
    assert claims_of(sign(CLAIMS, "p256", "ES256", number=1, kid="a"), *keys) is None
    assert claims_of(sign(CLAIMS, "p256", "ES256", number=1, kid="c"), *keys) is None


def test_a_key_without_a_name_may_be_meant_by_any() -> None:
    keys = key_set(jwks(jwk("p256", 0, kid="a"), jwk("p256", 1)))
    assert claims_of(sign(CLAIMS, "p256", "ES256", number=1, kid="z"), *keys) == CLAIMS
    assert claims_of(sign(CLAIMS, "p256", "ES256", number=0, kid="z"), *keys) is None
    assert claims_of(sign(CLAIMS, "p256", "ES256", number=1, kid="a"), *keys) is None
    assert claims_of(sign(CLAIMS, kid="z"), secret_key(SECRET)) == CLAIMS


def test_a_token_without_a_name_is_tried_with_all() -> None:
    keys = key_set(jwks(jwk("rsa", kid="r"), jwk("p256", 0, kid="a"), jwk("p256", 1, kid="b")))
    assert claims_of(sign(CLAIMS, "p256", "ES256", number=1), *keys) == CLAIMS


def test_a_key_may_be_for_one_algorithm_only() -> None:
    keys = key_set(jwks(jwk("rsa", alg="PS384")))
    assert claims_of(sign(CLAIMS, "rsa", "PS384"), *keys) == CLAIMS
    assert claims_of(sign(CLAIMS, "rsa", "RS384"), *keys) is None


def octets(secret: str, **members: Any) -> dict[str, Any]:
    return {"kty": "oct", "k": part(secret.encode()).decode(), **members}


@pytest.mark.parametrize(
    "item",
    [
        octets(SECRET),
        octets(SECRET, alg="HS256"),
        jwk("rsa", alg="HS256"),
        jwk("rsa", alg="none"),
        jwk("rsa", alg=7),
        jwk("rsa", alg="ES256"),
        jwk("rsa", use="enc"),
        jwk("rsa", use=7),
        jwk("rsa", key_ops=["encrypt"]),
        jwk("rsa", key_ops="verify"),
        jwk("rsa", kid=7),
        {**jwk("rsa"), "kty": "EC"},
        {**jwk("rsa"), "n": "!"},
        {**jwk("rsa"), "n": 7},
        {**jwk("rsa"), "e": "AA"},
        {**jwk("p256"), "crv": "P-384"},
        {**jwk("p256"), "crv": "secp256k1"},
        {**jwk("p256"), "x": jwk("p256", 1)["x"]},
        {**jwk("ed25519"), "x": "AAAA"},
        {"kty": "OKP", "crv": "X25519", "x": part(b"x" * 32).decode()},
        {"kty": ["RSA"]},
        {},
        [],
        None,
    ],
)
def test_keys_for_something_else_are_passed_over(item: Any) -> None:
    keys = key_set(jwks(item, jwk("p384", kid="good")))
    assert [key.key_id for key in keys] == ["good"]
    assert claims_of(sign(CLAIMS), *keys) is None
    with pytest.raises(KeyFault, match="no key that could verify"):
        key_set(jwks(item))


def test_of_a_private_key_in_a_set_the_public_one_is_used() -> None:
    (key,) = key_set(jwks(jwk("rsa", private=True, key_ops=["sign", "verify"])))
    assert isinstance(key.material, rsa.RSAPublicKey)
    assert claims_of(sign(CLAIMS, "rsa", "RS256"), key) == CLAIMS


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"keys": {}}', b'{"keys": "x"}', b"<html>", b"\xff", b"[" * 20_000, b'{"keys": null}']
)
def test_what_is_no_key_set(text: bytes) -> None:
    with pytest.raises(KeyFault, match=r"no key set \(JWKS\)"):
        key_set(text)


def test_a_set_counts_up_to_a_number_of_keys() -> None:
    keys = key_set(jwks(*(jwk("p256", kid=str(number)) for number in range(MOST_KEYS + 5))))
    assert len(keys) == MOST_KEYS


# -- anything at all

EVERY_KEY = [secret_key(SECRET), *(public(kind) for kind in ("p256", "ed25519"))]


@given(st.binary(max_size=300))
def test_noise_is_never_a_token(data: bytes) -> None:
    assert claims_of(data, *EVERY_KEY) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
HEADERS = st.dictionaries(st.sampled_from(["alg", "kid", "crit", "b64", "typ", "jwk", "x"]), json_values | st.floats())


@given(
    HEADERS,
    st.sampled_from([*HMAC, *(algorithm for _, algorithm in PUBLIC), "none"]) | json_values,
    json_values,
    st.binary(max_size=140),
)
def test_a_header_of_any_kind_lets_nobody_in(header: dict[str, Any], alg: Any, claims: Any, signature: bytes) -> None:
    token = part({**header, "alg": alg}) + b"." + part(claims) + b"." + part(signature)
    assert claims_of(token, *EVERY_KEY) is None


@given(json_values)
def test_a_key_set_of_any_kind_is_understood_or_refused(item: Any) -> None:
    good = jwk("p256", kid="good")
    mixed = {**good, **item} if isinstance(item, dict) else item
    keys = key_set(jwks(mixed, good))
    assert keys[-1].key_id == "good"


@given(st.dictionaries(st.sampled_from(["kty", "crv", "x", "y", "alg", "use", "kid", "n", "e", "d"]), json_values))
def test_a_broken_key_in_a_set_is_passed_over(members: dict[str, Any]) -> None:
    for kind in ("p256", "ed25519"):
        keys = key_set(jwks({**jwk(kind), **members}, jwk("p384", kid="good")))
        assert keys[-1].algorithms == {"ES384"}
