"""The REST contract, read afresh: JSON Web Tokens, good ones, old ones and forged ones."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
import trio
from api.live import Live, running
from api.operations import shows
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from review.authn import (
    BAD_USER,
    BOTH_BAD,
    BOTH_IN,
    IN,
    JWT,
    NOT_AUTHORIZED,
    PASSWORDS,
    SECRET,
    add,
    code,
    codes,
    now,
    stays,
    token,
    verdict,
)
from review.authn_service import serving
from review.contract import done, failed, got
from trio.testing import MockClock

from trio_broker.testing import Client

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE = ec.generate_private_key(ec.SECP256R1())
EDWARDS = ed25519.Ed25519PrivateKey.generate()


def pem(key: Any) -> str:
    text: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


def public(key: Any) -> dict[str, Any]:
    return {"mechanism": "jwt", "use_jwks": False, "algorithm": "public-key", "public_key": pem(key)}


def part(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(header: Any, claims: Any, key: bytes | None = SECRET.encode(), digest: str = "sha256") -> str:
    """A token that no library would make; signed with HMAC, or not at all."""
    text = f"{part(header)}.{part(claims)}"
    return f"{text}." + ("" if key is None else part(hmac.digest(key, text.encode(), digest)))


async def chain(live: Live, config: dict[str, Any], **more: Any) -> None:
    await add(live, config | more)
    await add(live, PASSWORDS)


async def came(live: Live, client_id: str = "c", username: str = "u", **claims: Any) -> Client:
    client = await live.connect(client_id, username=username, password=token(**claims).encode())
    assert client.connack.reason_code == IN
    return client


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@shows("POST /authentication")
async def test_a_shared_secret(algorithm: str) -> None:
    secret = "s" * 64
    async with running() as live:
        await chain(live, JWT, secret=secret)
        assert await codes(live, "u", token(secret, algorithm, sub="u")) == BOTH_IN
        assert await verdict(live, token(secret, algorithm)) == "accept"
        assert await verdict(live, token("t" * 64, algorithm)) == "ignore"
        made = token(secret, algorithm, sub="u")
        assert await verdict(live, made[:-4] + ("AAAA" if made[-4:] != "AAAA" else "BBBB")) == "ignore"
        assert await codes(live, "u", None) == BOTH_BAD
        for nothing in ("a password", "", "a.b", "a.b.c", "..", "." * 5000):
            assert await codes(live, "u", nothing) == BOTH_BAD


async def test_a_secret_in_base64() -> None:
    async with running() as live:
        secret = bytes(range(200, 240))
        await chain(live, JWT, secret=base64.b64encode(secret).decode(), secret_base64_encoded=True)
        assert await verdict(live, token(secret)) == "accept"
        assert await verdict(live, token(base64.b64encode(secret).decode())) == "ignore"


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(RSA, "RS256"), (RSA, "RS512"), (RSA, "PS256"), (CURVE, "ES256"), (EDWARDS, "EdDSA")],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_public_key(key: Any, algorithm: str) -> None:
    async with running() as live:
        await chain(live, public(key))
        assert pem(key).splitlines()[1] in (await got(live, "/authentication/jwt"))["public_key"]
        assert await codes(live, "u", token(key, algorithm, sub="u")) == BOTH_IN
        assert await verdict(live, token(key, algorithm, exp=now() - 1)) == "reject"


async def test_keys_of_others_are_nothing() -> None:
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    async with running() as live:
        await chain(live, public(RSA))
        assert await verdict(live, token(stranger, "RS256")) == "ignore"
        assert await verdict(live, token(CURVE, "ES256")) == "ignore"
        assert await verdict(live, token(stranger, "RS256", headers={"kid": "../../dev/null"})) == "ignore"
        own = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(stranger.public_key()))
        for header in (
            {"jwk": own},
            {"jku": "http://127.0.0.1:9/keys"},
            {"x5u": "http://127.0.0.1:9/"},
            {"x5c": ["AAAA"]},
        ):
            assert await verdict(live, token(stranger, "RS256", headers=header)) == "ignore"


async def test_a_public_key_is_no_secret() -> None:
    """Key confusion: a token signed by HMAC with what everybody knows."""
    async with running() as live:
        await chain(live, public(RSA))
        text = pem(RSA)
        der = RSA.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for known in (text, text.strip(), text.replace("\n", "\r\n"), "".join(text.splitlines()[1:-1])):
            for algorithm, digest in (("HS256", "sha256"), ("HS384", "sha384"), ("HS512", "sha512")):
                made = forged({"alg": algorithm, "typ": "JWT"}, {"sub": "u"}, known.encode(), digest)
                assert await code(live, "u", made) == BAD_USER
        assert await verdict(live, forged({"alg": "HS256"}, {"sub": "u"}, der)) == "ignore"
        assert await verdict(live, forged({"alg": "RS256"}, {"sub": "u"}, text.encode())) == "ignore"
        assert await verdict(live, forged({"alg": "HS256"}, {"sub": "u"}, b"")) == "ignore"


@pytest.mark.parametrize("config", [JWT, public(RSA)], ids=["secret", "public key"])
async def test_no_algorithm_is_none(config: dict[str, Any]) -> None:
    async with running() as live:
        await chain(live, config)
        names: list[Any] = ["none", "None", "NONE", "nOnE", "", None, 0, [], {}, "HS1", "hs256", "RSA1_5"]
        for name in names:
            for key in (None, b"", b"x"):
                assert await code(live, "u", forged({"alg": name, "typ": "JWT"}, {"sub": "u"}, key)) == BAD_USER
        headers: list[Any] = [{}, [], "HS256", 7, None, {"alg": "HS256", "crit": ["b64"], "b64": False}]
        for header in headers:
            assert await code(live, "u", forged(header, {"sub": "u"}, None)) == BAD_USER
        made = token(sub="u").rsplit(".", 1)[0]
        assert await code(live, "u", f"{made}.") == BAD_USER
        assert await code(live, "u", made) == BAD_USER


async def test_an_extension_that_must_be_understood_is_not_passed_over() -> None:
    """RFC 7515, 4.1.11: a `crit` that is not understood makes the signature invalid."""
    async with running() as live:
        await chain(live, JWT)
        made = forged({"alg": "HS256", "crit": ["exp2"], "exp2": 1}, {"sub": "u"})
        assert await verdict(live, made) in ("ignore", "reject")


TIMES: list[tuple[Callable[[], dict[str, Any]], str]] = [
    (lambda: {"exp": now() + 60}, "accept"),
    (lambda: {"exp": time.time() + 60.5}, "accept"),
    (lambda: {"exp": str(now() + 60)}, "accept"),
    (lambda: {"exp": now() - 1}, "reject"),
    (lambda: {"exp": str(now() - 1)}, "reject"),
    (lambda: {"exp": 0}, "reject"),
    (lambda: {"exp": -1}, "reject"),
    (lambda: {"nbf": now() - 1}, "accept"),
    (lambda: {"nbf": str(now() - 1)}, "accept"),
    (lambda: {"nbf": now() + 60}, "reject"),
    (lambda: {"nbf": str(now() + 60)}, "reject"),
    (lambda: {"nbf": now() + 60, "exp": now() + 120}, "reject"),
    (lambda: {"iat": now() + 60}, "accept"),  # nobody asks about it
    (dict, "accept"),
]


async def test_times() -> None:
    async with running() as live:
        await chain(live, JWT)
        for number, (claims, expected) in enumerate(TIMES):
            assert (number, await verdict(live, token(**claims()))) == (number, expected)


@pytest.mark.parametrize("name", ["exp", "nbf"])
async def test_times_of_the_wrong_sort_let_in_nobody(name: str) -> None:
    async with running() as live:
        await chain(live, JWT)
        values: list[Any] = ["soon", "", "1e99", "0x7fffffff", "١٢٣", [], [now() + 60], {}, True, False, float("nan")]
        for value in values:
            made = forged({"alg": "HS256", "typ": "JWT"}, {name: value})
            assert (value, await code(live, "u", made)) == (value, BAD_USER)
        if name == "nbf":
            for value in (float("inf"), 10**400, "9" * 5000):
                assert await code(live, "u", forged({"alg": "HS256"}, {name: value})) == BAD_USER
        else:
            for value in (float("inf"), 10**400, "9" * 5000, 1e308, 2**63, "9" * 4000):  # never a failure of the broker
                answer = await code(live, "u", forged({"alg": "HS256"}, {name: value}))
                assert answer in (IN, BAD_USER), answer


async def test_payloads_that_are_no_claims() -> None:
    async with running() as live:
        await chain(live, JWT)
        payloads: list[Any] = [[], "sub", 7, None, b"", b"\xff\xfe", b"{", b"[" * 40_000, b'{"exp":']
        for claims in payloads:
            assert await code(live, "u", forged({"alg": "HS256"}, claims)) == BAD_USER


@pytest.mark.parametrize("as_list", [False, True])
@shows("PUT /authentication/:id")
async def test_claims_that_are_asked_for(as_list: bool) -> None:
    wanted = {"username": "${username}", "device": "d-${clientid}", "aud": "mqtt"}
    rows = [{"name": name, "value": value} for name, value in wanted.items()]
    async with running() as live:
        await chain(live, JWT, verify_claims=rows if as_list else wanted)
        good = {"username": "ann", "device": "d-c1", "aud": "mqtt"}

        assert await judged(live, good) == "accept"
        assert await judged(live, good | {"more": "x"}) == "accept"
        assert await judged(live, good, username="bob") == "reject"
        assert await judged(live, good, client_id="c2") == "reject"
        for name in good:
            assert await judged(live, {k: v for k, v in good.items() if k != name}) == "reject"
        for change in (
            {"username": "Ann"}, {"username": "ann "}, {"username": ["ann"]}, {"username": None}, {"username": True},
            {"username": "${username}"}, {"device": "d-${clientid}"}, {"aud": "mqt"}, {"device": {"d-c1": 1}},
        ):  # fmt: skip
            assert (change, await judged(live, good | change)) == (change, "reject")


async def judged(live: Live, claims: dict[str, Any], username: str = "ann", client_id: str = "c1") -> str:
    return await verdict(live, token(**claims), username, client_id)


async def test_a_name_is_never_a_template() -> None:
    async with running() as live:
        await add(live, JWT, verify_claims={"username": "${username}"})
        for name, client_id, claim in (
            ("${clientid}", "admin", "admin"),
            ("${username}", "admin", "admin"),
            ("%c", "admin", "admin"),
            ("ann", "c", "${username}"),
            ("$", "c", "${username}"),
            ("", "admin", "admin"),
        ):
            assert await code(live, name, token(username=claim), client_id) == BAD_USER
        assert await code(live, "${clientid}", token(username="${clientid}"), "admin") == IN
        assert await code(live, None, None, "admin") == BAD_USER


async def test_without_a_user_name_no_claim_is_equal_to_it() -> None:
    async with running() as live:
        await add(live, JWT, verify_claims={"username": "${username}"})
        texts: list[Any] = ["", "undefined", "null", "None", "${username}", None, [], 0]
        for claim in texts:
            assert await code(live, None, token(username=claim)) == BAD_USER


async def test_the_token_as_the_user_name() -> None:
    """So is the field called; `sub` is then who the client is, as the page on tokens says."""
    async with running() as live:
        await add(live, JWT | {"from": "username"})
        assert await codes(live, token(sub="ann"), None) == BOTH_IN
        assert await codes(live, token(sub="ann"), "anything") == BOTH_IN
        assert await codes(live, "ann", token(sub="ann")) == BOTH_BAD
        client = await live.connect("c", username=token(sub="ann"))
        assert (await got(live, "/clients/c"))["username"] == "ann"
        await stays(client)


@pytest.mark.parametrize("disconnect", [True, False])
async def test_the_end_of_a_token(disconnect: bool, autojump_clock: MockClock) -> None:
    async with running() as live:
        await add(live, JWT, disconnect_after_expire=disconnect)
        began = trio.current_time()
        clients = [
            await live.connect(f"c{level}", username="u", password=token(exp=now() + 600).encode(), level=level)
            for level in (4, 5)
        ]
        forever = await came(live, "forever")
        await trio.sleep(590)
        for client in clients:
            await stays(client)
        await trio.sleep(20)
        for client, reason_code in zip(clients, (None, NOT_AUTHORIZED), strict=True):
            if disconnect:
                assert client.disconnected is not None
                assert client.disconnected.reason_code == reason_code
            else:
                await stays(client)
        await stays(forever)
        assert trio.current_time() - began < 700


async def test_another_secret_holds_from_the_answer_on() -> None:
    async with running() as live:
        await add(live, JWT)
        client = await came(live)
        done(await live.api.put("/authentication/jwt", json=JWT | {"secret": "n" * 40}))
        await stays(client)
        assert await codes(live, "u", token()) == BOTH_BAD
        assert await codes(live, "u", token("n" * 40)) == BOTH_IN


async def test_stars_are_no_secret() -> None:
    async with running() as live:
        for _ in range(2):
            failed(await live.api.post("/authentication", json=JWT | {"secret": "******"}), 400, "BAD_REQUEST")
            await add(live, JWT)
            assert await codes(live, "u", forged({"alg": "HS256"}, {}, b"******")) == BOTH_BAD
            done(await live.api.delete("/authentication/jwt"))


def key_of(key: Any, name: str, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    return made | {"kid": name, "use": "sig", "alg": "RS256"} | more


async def test_keys_of_a_web_service() -> None:
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    secret = {"kty": "oct", "kid": "o", "k": part(SECRET.encode()), "alg": "HS256"}
    async with serving() as web, running() as live:
        web.says({"keys": [key_of(RSA, "one"), secret, {"kty": "new"}]})
        endpoint = f"http://127.0.0.1:{web.port}/keys"
        made = await add(live, {"mechanism": "jwt", "use_jwks": True, "endpoint": endpoint})
        assert made.items() >= {"endpoint": endpoint, "pool_size": 8, "refresh_interval": 300}.items()
        assert made["headers"] == {"Accept": "application/json"}
        assert made["ssl"]["enable"] is False
        await add(live, PASSWORDS)
        with trio.fail_after(60):
            while (await got(live, "/authentication/jwt/status"))["status"] != "connected":  # noqa: ASYNC110
                await trio.sleep(0.005)
        assert await verdict(live, token(RSA, "RS256", {"kid": "one"})) == "accept"
        assert await verdict(live, token(RSA, "RS256")) == "accept"
        assert await verdict(live, token(RSA, "RS256", {"kid": "one"}, exp=now() - 1)) == "reject"
        assert await verdict(live, token(stranger, "RS256", {"kid": "one"})) == "ignore"
        assert await verdict(live, token(stranger, "RS256", {"kid": "x"})) == "ignore"
        assert await verdict(live, token(SECRET, "HS256", {"kid": "o"})) == "ignore"
        assert await verdict(live, forged({"alg": "HS256", "kid": "one"}, {}, pem(RSA).encode())) == "ignore"
        assert await verdict(live, forged({"alg": "none", "kid": "one"}, {}, None)) == "ignore"
        assert {(method, target, headers["accept"]) for method, target, headers, _ in web.asked} == {
            ("GET", "/keys", "application/json")
        }
