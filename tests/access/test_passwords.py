"""Hashes of passwords, against what other programs computed; what cannot be kept, and what is never right."""

from __future__ import annotations

import itertools
from typing import Any

import bcrypt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_broker.access.passwords import Hasher, PasswordError, PasswordHash
from trio_broker.config.authentication import PasswordHashConfig

SALT = "e378187547bf2d6f0545a3f441aa4d8a"
# printf "${SALT}public" | sha256sum, openssl kdf -kdfopt digest:SHA384 -kdfopt iter:10 ... PBKDF2, and the like.
COMPUTED: list[tuple[dict[str, Any], str, str, bytes]] = [
    ({"name": "sha256"}, "50a313e55a6161344ffcaac19b7034e1b72f77ed84386ca51efaa1b93756c556", SALT, b"public"),
    (
        {"name": "sha256", "salt_position": "suffix"},
        "459559e444d9b255e32f60cf7306f433dd9daf2a4b5d3a32d3112d6c7824f14a",
        SALT,
        b"public",
    ),
    (
        {"name": "sha256", "salt_position": "disable"},
        "efa1f375d76194fa51a3556a97e641e61685f914d446979da50a551a4333ffd7",
        SALT,
        b"public",
    ),
    ({"name": "md5"}, "47bc70fe701bd6753f0df5ddef7adb00", SALT, b"public"),
    ({"name": "md5", "salt_position": "disable"}, "4c9184f37cff01bcdc32dc486ec36961", "", b"public"),
    ({"name": "sha"}, "b686721cd0e9cb8528248ab8f7a5517ece660944", SALT, b"public"),
    (
        {"name": "sha512"},
        "06e879407bb8ff1370710270b8cda950f2e786b99189753c5a3511c087548ef3"
        "5fe3cfb53a39261a75c98bd5b914951702431651d885a9db4e4b44ef881e62a9",
        SALT,
        b"public",
    ),
    ({"name": "plain"}, "saltpublic", "salt", b"public"),
    ({"name": "plain"}, "public", "", b"public"),
    ({"name": "plain", "salt_position": "suffix"}, "publicsalt", "salt", b"public"),
    ({"name": "plain", "salt_position": "disable"}, "public", "salt", b"public"),
    # RFC 6070
    (
        {"name": "pbkdf2", "mac_fun": "sha", "iterations": 2},
        "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957",
        "salt",
        b"password",
    ),
    (
        {"name": "pbkdf2", "mac_fun": "sha", "iterations": 4096, "dk_length": 25},
        "3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038",
        "saltSALTsaltSALTsaltSALTsaltSALTsalt",
        b"passwordPASSWORDpassword",
    ),
    # RFC 7914, section 11
    (
        {"name": "pbkdf2", "mac_fun": "sha256", "iterations": 1, "dk_length": 64},
        "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
        "49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783",
        "salt",
        b"passwd",
    ),
    (
        {"name": "pbkdf2", "mac_fun": "sha224", "iterations": 10},
        "e7a945f8c0610ed9b28b667d00141df02824673a08fd2cfedab51952",
        SALT,
        b"public",
    ),
    (
        {"name": "pbkdf2", "mac_fun": "sha384", "iterations": 10},
        "cc39ddf7df461b8e289fe596cf5b54bf8c5dc723b2c9b21f4dee3cae775e9fd2ea94755631d8f35bb341c5b99ad8fd00",
        SALT,
        b"public",
    ),
    (
        {"name": "pbkdf2", "mac_fun": "sha512", "iterations": 10},
        "5e46cbe4ddfff75ab48ec277baccbf085c2203ffd1275e9a60a50eaf6ef9096a"
        "1e9eb35d28e09988b6530456c899b090f42ffceef38409f8e13262d4349633eb",
        SALT,
        b"public",
    ),
    # Test vectors of the C implementation (crypt_blowfish)
    ({"name": "bcrypt"}, "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "", b"U*U"),
    ({"name": "bcrypt"}, "$2b$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a", "any", b"U*U*U"),
    ({"name": "bcrypt"}, "$2y$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy", "", b""),
]
ALGORITHMS: list[dict[str, Any]] = [
    *(
        {"name": name, "salt_position": position}
        for name, position in itertools.product(
            ("plain", "md5", "sha", "sha256", "sha512"), ("disable", "prefix", "suffix")
        )
    ),
    *({"name": "pbkdf2", "mac_fun": mac, "iterations": 3} for mac in ("sha", "sha224", "sha256", "sha384", "sha512")),
    {"name": "pbkdf2", "mac_fun": "sha256", "iterations": 3, "dk_length": 5},
    {"name": "bcrypt", "salt_rounds": 5},
]


def named(options: dict[str, Any]) -> str:
    return "-".join(str(value) for value in options.values())


def hasher(**options: Any) -> Hasher:
    return Hasher(PasswordHashConfig(**options))


@pytest.mark.parametrize(("options", "hash", "salt", "password"), COMPUTED)
def test_hashes_that_others_computed(options: dict[str, Any], hash: str, salt: str, password: bytes) -> None:
    there = PasswordHash(hash, salt)
    ours = hasher(**options)
    assert ours.fits(there)
    assert ours.verify(password, there)
    assert not ours.verify(password + b"x", there)
    assert not ours.verify(password[:-1] if password else b"x", there)


@pytest.mark.parametrize(("name", "size"), [("md5", 32), ("sha256", 64), ("pbkdf2", 64)])
def test_capital_digits_are_digits(name: str, size: int) -> None:
    ours = hasher(name=name)
    made = ours.made(b"public")
    assert len(made.hash) == size
    capital = PasswordHash(made.hash.upper(), made.salt)
    assert (ours.verify(b"public", capital), ours.fits(capital)) == (True, True)


@pytest.mark.parametrize("options", ALGORITHMS, ids=named)
def test_what_was_made_is_right_and_nothing_else(options: dict[str, Any]) -> None:
    ours = hasher(**options)

    @settings(max_examples=10, deadline=None)
    @given(password=st.text().map(str.encode).filter(lambda it: len(it) <= 72 and b"\0" not in it), other=st.binary())
    def check(password: bytes, other: bytes) -> None:
        made = ours.made(password)
        assert ours.fits(made)
        assert ours.verify(password, made)
        assert ours.verify(other, made) is (other == password)
        assert not ours.verify(password, ours.decoy)

    check()


@pytest.mark.parametrize("options", ALGORITHMS, ids=named)
def test_verify_raises_nothing(options: dict[str, Any]) -> None:
    ours = hasher(**options)

    @settings(max_examples=10, deadline=None)
    @given(password=st.binary(), hash=st.text(), salt=st.text(st.characters()))
    def check(password: bytes, hash: str, salt: str) -> None:
        there = PasswordHash(hash, salt)
        assert ours.verify(password, there) is False or ours.name == "plain"
        assert ours.verify(password, ours.decoy) is False
        ours.fits(there)

    check()
    for password in (b"", b"\0", b"\xff\xfe", b"x" * 65_535):
        assert not ours.verify(password, ours.decoy)


@pytest.mark.parametrize("options", ALGORITHMS, ids=named)
def test_salts(options: dict[str, Any]) -> None:
    """32 digits; none where there is no place for one, and bcrypt's is in the hash."""
    one, two = hasher(**options).made(b"x"), hasher(**options).made(b"x")
    if options["name"] in ("plain", "bcrypt") or options.get("salt_position") == "disable":
        assert (one.salt, two.salt) == ("", "")
    else:
        assert len(one.salt) == len(two.salt) == 32
        assert one.salt != two.salt
        assert one.hash != two.hash
        int(one.salt, 16)
    assert (one.hash != two.hash) is (bool(one.salt) or options["name"] == "bcrypt")


def test_which_are_slow() -> None:
    assert {options["name"] for options in ALGORITHMS if hasher(**options).is_slow} == {"bcrypt", "pbkdf2"}


def test_bcrypt_has_the_cost_of_the_settings() -> None:
    assert hasher(name="bcrypt", salt_rounds=6).made(b"x").hash.startswith("$2b$06$")
    assert hasher(name="bcrypt", salt_rounds=6).decoy.hash.startswith("$2b$06$")


def test_bcrypt_takes_72_bytes_and_no_more() -> None:
    """Others look at the first 72 only, or at what stands before a NUL."""
    ours = hasher(name="bcrypt", salt_rounds=5)
    longest = "ü".encode() * 36
    made = ours.made(longest)
    assert ours.verify(longest, made)
    assert not ours.verify(longest + b"x", made)
    assert not ours.verify(longest[:-1], made)
    assert not ours.verify(b"pass\0word", ours.made(b"pass"))
    for password in (longest + b"x", b"pass\0word", b"\0"):
        with pytest.raises(PasswordError, match="at most 72 bytes without NUL"):
            ours.made(password)
    of_others = PasswordHash(bcrypt.hashpw(longest, bcrypt.gensalt(5)).decode())
    assert ours.verify(longest, of_others)
    assert not ours.verify(longest + b"more", of_others)


@pytest.mark.parametrize(
    "hash",
    [
        *("", "x", "$2b$05$", "$2b$99$" + "." * 53, "$2b$16$" + "." * 53, "$2b$03$" + "." * 53, "$2c$05$" + "." * 53),
        *("$2b$05$" + "z" * 53, "$2b$05$" + "." * 54, "$2b$05$" + "." * 52 + "\n", "$2b$05$" + "\u0660" * 53),
    ],
)
def test_what_is_no_hash_of_bcrypt_costs_as_much(hash: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cost above 15 would keep a thread busy for very long."""
    ours = hasher(name="bcrypt", salt_rounds=5)
    asked: list[bytes] = []
    right = bcrypt.checkpw

    def checkpw(password: bytes, hashed: bytes) -> bool:
        asked.append(hashed)
        return right(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    assert not ours.verify(b"x", PasswordHash(hash))
    assert not ours.fits(PasswordHash(hash))
    assert asked == [ours.decoy.hash.encode()]


@pytest.mark.parametrize("hash", ["", "xyz", "5" * 63, "5" * 65, "5" * 62 + "\u0665" * 2, " " + "5" * 63])
def test_what_is_no_hash_of_sha256(hash: str) -> None:
    assert not hasher(name="sha256").fits(PasswordHash(hash, "salt"))


def test_plain_text_is_text() -> None:
    with pytest.raises(PasswordError, match="UTF-8"):
        hasher(name="plain").made(b"\xff")
    assert not hasher(name="plain").verify(b"\xff", PasswordHash("\ufffd"))


def test_nothing_secret_is_shown() -> None:
    assert repr(PasswordHash("topsecret", "salty")) == "PasswordHash()"
    made = PasswordHash("topsecret", "salty")
    assert PasswordHash.read(*made.kept()) == made
    for wrong in ((1, ""), ("", None), (None, None)):
        with pytest.raises(TypeError, match="are texts"):
            PasswordHash.read(*wrong)


def test_pbkdf2_tells_a_password_from_one_with_nul_behind_it() -> None:
    algorithm = Hasher(PasswordHashConfig(name="pbkdf2", iterations=1))
    kept = algorithm.made(b"secret")
    assert algorithm.verify(b"secret", kept)
    assert not algorithm.verify(b"secret\0", kept)
    with pytest.raises(PasswordError, match="NUL"):
        algorithm.made(b"secret\0")
