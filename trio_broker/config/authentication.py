"""`authentication`: the chain of authenticators, in its order.

Invariant: the keys and their defaults are EMQX's; an authenticator's id is its mechanism and, where it has one, its
backend: `password_based:built_in_database`, `jwt`. `user_table` is ours: with it there may be a second built-in
database, whose id ends with it, and whose users are its own whatever becomes of the other one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from attrs import frozen

from trio_broker.config.http_client import SslClientConfig, body, headers, url
from trio_broker.config.kinds import Choice, Duration, Flag, Integer, Or, Table, Text
from trio_broker.config.setting import entries, setting
from trio_broker.config.tree import table

_ENABLE = "false = it is passed over"
_PATH = Text(r"[^\0]*", "the path of a file")


@frozen
class Claims(Table):
    """Names with texts; EMQX takes them as a list, too: `[{name = "username", value = "${username}"}]`."""

    expects: str = "a table of texts, or a list of {name, value}"

    def read(self, raw: object) -> object:
        if not isinstance(raw, (list, tuple)):
            return super().read(raw)
        found: dict[object, object] = {}
        for item in raw:
            if not isinstance(item, Mapping) or set(item) != {"name", "value"}:
                raise ValueError("not a list of claims")
            name = item["name"]
            if not isinstance(name, str) or name in found:
                raise ValueError("not a list of claims, each of them once")
            found[name] = item["value"]
        return super().read(found)


@frozen(kw_only=True)
class PasswordHashConfig:
    """`password_hash_algorithm`; which of the keys count depends on `name`."""

    name: str = setting(
        Choice(("plain", "md5", "sha", "sha256", "sha512", "bcrypt", "pbkdf2")), "sha256", "the algorithm"
    )
    salt_position: str = setting(
        Choice(("disable", "prefix", "suffix")), "prefix", "where the salt stands: plain, md5, sha, sha256, sha512"
    )
    salt_rounds: int = setting(Integer(5, 10), 10, "cost: bcrypt")
    mac_fun: str = setting(Choice(("sha", "sha224", "sha256", "sha384", "sha512")), "sha256", "the hash: pbkdf2")
    iterations: int = setting(Integer(1, 10_000_000), 4096, "cost: pbkdf2")
    dk_length: int = setting(Integer(0, 1024), 0, "bytes of the hash: pbkdf2; 0 = as many as the hash gives")


_OF_ALGORITHMS: Mapping[str, Sequence[str]] = {
    "bcrypt": ("salt_rounds",),
    "pbkdf2": ("mac_fun", "iterations", "dk_length"),
}


def _of_other_algorithms(config: PasswordHashConfig) -> list[str]:
    own = {"name", *_OF_ALGORITHMS.get(config.name, ("salt_position",))}
    if not config.dk_length:
        own.discard("dk_length")
    return [key for key in entries(PasswordHashConfig) if key not in own]


@frozen(kw_only=True)
class BuiltInDatabaseConfig:
    mechanism: str = setting(Choice(("password_based",)), "password_based", "how a client shows who it is")
    backend: str = setting(Choice(("built_in_database",)), "built_in_database", "where the users are")
    enable: bool = setting(Flag(), True, _ENABLE)
    user_id_type: str = setting(Choice(("username", "clientid")), "username", "what a user is looked up by")
    user_table: str | None = setting(
        Or("none", None, Choice(("username", "clientid"))),
        None,
        "for a second one beside one of the other user_id_type, with users of its own: the same as user_id_type",
    )
    password_hash_algorithm: PasswordHashConfig = table(
        PasswordHashConfig, "how passwords are kept", hides=_of_other_algorithms
    )
    bootstrap_file: str = setting(_PATH, "", "users that are added at the start (.csv or .json); empty = none")
    bootstrap_type: str = setting(Choice(("plain", "hash")), "plain", "what that file has: passwords, or their hashes")


@frozen(kw_only=True)
class ScramConfig:
    mechanism: str = setting(Choice(("scram",)), "scram", "how a client shows who it is")
    backend: str = setting(Choice(("built_in_database",)), "built_in_database", "where the users are")
    enable: bool = setting(Flag(), True, _ENABLE)
    algorithm: str = setting(Choice(("sha256", "sha512")), "sha256", "SCRAM-SHA-256 or SCRAM-SHA-512")
    iteration_count: int = setting(Integer(4096, 10_000_000), 4096, "cost of the hash")


@frozen(kw_only=True)
class HttpAuthenticatorConfig:
    mechanism: str = setting(Choice(("password_based",)), "password_based", "how a client shows who it is")
    backend: str = setting(Choice(("http",)), "http", "a web service decides")
    enable: bool = setting(Flag(), True, _ENABLE)
    method: str = setting(Choice(("get", "post")), "post", "of the request")
    url: str = url("where it is; placeholders may stand in the path and the query")
    headers: Mapping[str, str] = headers({}, "headers beside the usual ones")
    body: Mapping[str, str] = body("with get: the query; values may hold placeholders")
    request_timeout: float = setting(Duration(), "5s", "an answer that takes longer is none")
    connect_timeout: float = setting(Duration(), "15s", "the same for a connection")
    pool_size: int = setting(Integer(1, 1024), 8, "connections at one time")
    enable_pipelining: int = setting(Integer(0), 100, "EMQX's; understood, and has no effect here")
    ssl: SslClientConfig = table(SslClientConfig, "for https")


@frozen(kw_only=True)
class JwtConfig:
    mechanism: str = setting(Choice(("jwt",)), "jwt", "how a client shows who it is")
    enable: bool = setting(Flag(), True, _ENABLE)
    use_jwks: bool = setting(Flag(), False, "true = keys come from `endpoint`")
    algorithm: str = setting(Choice(("hmac-based", "public-key")), "hmac-based", "what a token is signed with")
    secret: str = setting(Text(), "", "the key: hmac-based", secret=True)
    secret_base64_encoded: bool = setting(Flag(), False, "`secret` is in base64")
    public_key: str = setting(Text(), "", "PEM text or the path of a file: public-key")
    endpoint: str = url("where the key set (JWKS) is")
    headers: Mapping[str, str] = headers({"Accept": "application/json"}, "headers of the request for it")
    pool_size: int = setting(Integer(1, 1024), 8, "EMQX's; understood, and has no effect here")
    refresh_interval: int = setting(Integer(1, 86_400), 300, "seconds from one request for the key set to the next")
    ssl: SslClientConfig = table(SslClientConfig, "for https")
    # In a class `from` can be no name: its key in files and over REST is "from".
    from_: str = setting(Choice(("password", "username")), "password", "the field of CONNECT that has the token")
    verify_claims: Mapping[str, str] = setting(
        Claims(Text()), {}, "claims that must be there with these values, which may hold placeholders"
    )
    acl_claim_name: str = setting(Text(), "acl", "the claim with access rules")
    disconnect_after_expire: bool = setting(Flag(), True, "close the connection at `exp`")


AuthenticatorConfig: TypeAlias = BuiltInDatabaseConfig | ScramConfig | HttpAuthenticatorConfig | JwtConfig

AUTHENTICATORS: Mapping[str, Any] = {
    "password_based:built_in_database": BuiltInDatabaseConfig,
    "scram:built_in_database": ScramConfig,
    "password_based:http": HttpAuthenticatorConfig,
    "jwt": JwtConfig,
}


TABLE: Final = "user_table"
"""The key that tells two of one kind apart."""


def id_of(config: AuthenticatorConfig) -> str:
    """EMQX's id of an authenticator; with `:username` or `:clientid` behind it for a second built-in database."""
    parts = (config.mechanism, getattr(config, "backend", None), getattr(config, TABLE, None))
    return ":".join(part for part in parts if part)
