"""`authentication`, `authorization`, `outbound`: what a table is, what must hold between keys, what is shown."""

from __future__ import annotations

from typing import Any

import pytest

from trio_broker.actors.settings import revealed
from trio_broker.config import Config, load, to_dict
from trio_broker.config.authentication import (
    BuiltInDatabaseConfig,
    HttpAuthenticatorConfig,
    JwtConfig,
    PasswordHashConfig,
    ScramConfig,
    id_of,
)
from trio_broker.config.authorization import (
    AuthorizationConfig,
    BuiltInSourceConfig,
    FileSourceConfig,
    HttpSourceConfig,
)
from trio_broker.config.check import check
from trio_broker.config.http_client import SslClientConfig
from trio_broker.config.tree import overlay, plain
from trio_broker.errors import ConfigError

WEB: dict[str, Any] = {"mechanism": "password_based", "backend": "http", "url": "http://127.0.0.1:1/"}
JWT: dict[str, Any] = {"mechanism": "jwt", "secret": "s"}
USERS: dict[str, Any] = {"mechanism": "password_based", "backend": "built_in_database"}
HTTP_SOURCE: dict[str, Any] = {"type": "http", "url": "http://127.0.0.1:1/"}


def laid(**tables: Any) -> Config:
    return load(stored=tables, base=Config())


def test_each_kind_has_its_class() -> None:
    chain = [
        WEB,
        JWT,
        {"mechanism": "scram", "backend": "built_in_database"},
        {"mechanism": "password_based", "backend": "built_in_database"},
    ]
    config = laid(authentication=chain)
    kinds = [HttpAuthenticatorConfig, JwtConfig, ScramConfig, BuiltInDatabaseConfig]
    assert [type(one) for one in config.authentication] == kinds
    assert [id_of(one) for one in config.authentication] == [
        "password_based:http",
        "jwt",
        "scram:built_in_database",
        "password_based:built_in_database",
    ]


def test_a_second_built_in_database() -> None:
    second = {**USERS, "user_id_type": "clientid", "user_table": "clientid"}
    for chain in ([USERS, second], [second, USERS], [second]):
        config = laid(authentication=chain)
        ids = {"username": "password_based:built_in_database", "clientid": "password_based:built_in_database:clientid"}
        assert [id_of(one) for one in config.authentication] == [
            ids[one.get("user_id_type", "username")] for one in chain
        ]
        assert laid(**to_dict(config, secrets=True)) == config
    assert "user_table" not in to_dict(laid(authentication=[USERS]))["authentication"][0]
    assert laid(authentication=[{**USERS, "user_table": "none"}]) == laid(authentication=[USERS])


def test_a_layer_replaces_the_whole_list() -> None:
    environ = {"TRIO_BROKER_AUTHENTICATION": '[{mechanism = "jwt", secret = "s"}]'}
    config = load(environ=environ, stored={"authentication": [WEB]}, base=Config())
    assert [id_of(one) for one in config.authentication] == ["jwt"]
    assert load(stored={"authorization": {"sources": []}}).authorization.sources == ()
    assert load(stored={"authorization": {"no_match": "deny"}}).authorization.sources != ()


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"authentication": [WEB, JWT, WEB]}, "authentication.3", "password_based:http is there already, as number 1"),
    ({"authentication": [{**WEB, "url": ""}]}, "authentication.1.url", "is needed"),
    ({"authentication": [{**WEB, "url": "http://u:p@x/"}]}, "authentication.1.url", "a URL"),
    ({"authentication": [{**WEB, "url": "https://x/"}]}, "authentication.1.ssl.enable", "must be true for https"),
    (
        {"authentication": [{**WEB, "method": "get", "headers": {"CONTENT-TYPE": "x"}}]},
        "authentication.1.headers",
        "content-type",
    ),
    ({"authentication": [{**WEB, "headers": {"a b": "x"}}]}, "authentication.1.headers", "a table"),
    ({"authentication": [{**WEB, "headers": {"authorization": "s3\r\n"}}]}, "authentication.1.headers", "one line"),
    ({"authentication": [{**WEB, "ssl": {"keyfile": "k"}}]}, "authentication.1.ssl.certfile", "is needed"),
    ({"authentication": [{**WEB, "ssl": {"versions": []}}]}, "authentication.1.ssl.versions", "one version at least"),
    ({"authentication": [WEB, {"mechanism": "jwt"}]}, "authentication.2.secret", "is needed for hmac-based"),
    (
        {"authentication": [{**JWT, "secret": "%", "secret_base64_encoded": True}]},
        "authentication.1.secret",
        "is not base64",
    ),
    ({"authentication": [{**JWT, "algorithm": "public-key"}]}, "authentication.1.public_key", "is needed"),
    ({"authentication": [{**JWT, "use_jwks": True}]}, "authentication.1.endpoint", "is needed"),
    (
        {"authentication": [{**JWT, "use_jwks": True, "endpoint": "https://x/"}]},
        "authentication.1.ssl.enable",
        "must be true for https",
    ),
    ({"authentication": [{"mechanism": "cinfo"}]}, "authentication.1", '"cinfo"'),
    ({"authentication": "jwt"}, "authentication", "list of tables"),
    ({"authentication": [{**JWT, "user_table": "clientid"}]}, "authentication.1.user_table", "unknown key"),
    ({"authentication": [{**USERS, "user_table": "jwt"}]}, "authentication.1.user_table", "one of username, clientid"),
    ({"authentication": [{**USERS, "user_table": "clientid"}]}, "authentication.1.user_table", "same as user_id_type"),
    ({"authentication": [USERS, {**USERS, "user_id_type": "clientid"}]}, "authentication.2", "as number 1"),
    ({"authentication": [USERS, {**USERS, "user_table": "username"}]}, "authentication.2.user_id_type", "another one"),
    ({"authorization": {"sources": [{"type": "redis"}]}}, "authorization.sources.1", '"redis"'),
    ({"authorization": {"sources": [{"type": "http"}]}}, "authorization.sources.1.url", "is needed"),
    (
        {"authorization": {"sources": [{**HTTP_SOURCE, "url": "https://x/"}]}},
        "authorization.sources.1.ssl.enable",
        "must be true",
    ),
    (
        {"authorization": {"sources": [{"type": "file", "path": "p", "rules": "r"}]}},
        "authorization.sources.1.rules",
        "must be empty",
    ),
    (
        {"authorization": {"sources": [HTTP_SOURCE, HTTP_SOURCE]}},
        "authorization.sources.2",
        "http is there already, as number 1",
    ),
    ({"authorization": {"cache": {"excludes": ["ok", "a/#/b"]}}}, "authorization.cache.excludes", '"a/#/b"'),
    ({"authorization": {"no_match": "maybe"}}, "authorization.no_match", "allow, deny"),
    ({"outbound": {"access_rules": ["allow all", "deny 300.0.0.1"]}}, "outbound.access_rules", "deny 300.0.0.1"),
]


@pytest.mark.parametrize(("tables", "key", "reason"), REFUSED)
def test_what_does_not_fit(tables: dict[str, Any], key: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        laid(**tables)
    assert caught.value.key == key
    assert reason in str(caught.value)
    assert "s3" not in str(caught.value)


def test_what_is_made_in_code_is_checked_too() -> None:
    for config in (
        Config(authentication=(BuiltInDatabaseConfig(), BuiltInDatabaseConfig())),
        Config(authentication=(JwtConfig(),)),
        Config(authorization=AuthorizationConfig(sources=(BuiltInSourceConfig(), BuiltInSourceConfig()))),
    ):
        with pytest.raises(ConfigError):
            check(config)
    with pytest.raises(ConfigError, match="headers"):
        HttpAuthenticatorConfig(url="http://x/", headers={"a": "b\nc"})


def test_secrets_are_hidden_and_come_back() -> None:
    chain = (
        HttpAuthenticatorConfig(
            url="http://x/",
            headers={"Authorization": "Bearer s3", "X-Api-Key": "s3", "accept": "a/b"},
            ssl=SslClientConfig(password="s3"),
        ),
        JwtConfig(secret="s3"),
    )
    config = Config(authentication=chain)
    shown = to_dict(config)
    assert "s3" not in f"{shown} {config!r}"
    assert shown["authentication"][0]["headers"] == {"Authorization": "******", "X-Api-Key": "******", "accept": "a/b"}
    assert laid(**to_dict(config, secrets=True)) == config


def test_what_is_not_shown_of_an_algorithm_is_kept() -> None:
    algorithm = PasswordHashConfig(name="bcrypt", iterations=9, dk_length=3)
    config = Config(authentication=(BuiltInDatabaseConfig(password_hash_algorithm=algorithm),))
    (shown,) = to_dict(config)["authentication"]
    assert shown["password_hash_algorithm"] == {"name": "bcrypt", "salt_rounds": 10}
    assert laid(**to_dict(config, secrets=True)) == config


def test_a_password_in_a_url_is_not_repeated() -> None:
    told = []
    for key in ("authentication.password", "prometheus.push_gateway.url"):
        overrides = [f'{key}="http://usr:s3cret@host"']
        with pytest.raises(ConfigError) as raised:
            load(overrides=overrides, base=Config())
        told.append(str(raised.value))
    for url in ("http://usr:s3cret@host/", "usr:s3cret@host"):
        with pytest.raises(ConfigError) as raised:
            HttpAuthenticatorConfig(url=url)
        told.append(str(raised.value))
    assert not [text for text in told if "s3cret" in text]
    assert all("is not a URL" in text for text in told[1:])
    with pytest.raises(ConfigError, match="ftp://host"):
        HttpAuthenticatorConfig(url="ftp://host")


def test_secrets_in_a_body_and_in_a_query_are_hidden() -> None:
    """What is filled in for each client is none."""
    said = {"password": "${password}", "who": "${username}", "api_key": "s3", "token": "s3-${clientid}", "secret": ""}
    source = HttpSourceConfig(url="http://x/acl?kind=a&token=s3&key=${username}&token=s4", body=said)
    shown = plain(source)
    assert shown["body"] == {**said, "api_key": "******", "token": "******"}
    assert shown["url"] == "http://x/acl?kind=a&token=******&key=${username}&token=******"
    assert "s3" not in repr(source)
    changed = {**shown, "url": shown["url"].replace("kind=a", "kind=b"), "body": {**shown["body"], "who": "all"}}
    assert overlay(HttpSourceConfig(), revealed(changed, plain(source, secrets=True))) == HttpSourceConfig(
        url="http://x/acl?kind=b&token=s3&key=${username}&token=s4", body={**said, "who": "all"}
    )
    assert plain(JwtConfig(use_jwks=True, endpoint="http://x/?token=s3"))["endpoint"] == "http://x/?token=******"


@pytest.mark.parametrize(
    "bad", [{"url": "ftp://x/?token=s3"}, {"url": ["?token=s3"]}, {"body": {"secret": ["s3"]}}, {"body": "s3"}]
)
def test_secrets_are_in_no_error(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as raised:
        overlay(HttpSourceConfig(), bad)
    assert "s3" not in str(raised.value)
    with pytest.raises(ConfigError) as raised:
        HttpSourceConfig(**bad)
    assert "s3" not in str(raised.value)


def test_the_command_and_a_program_start_with_other_sources() -> None:
    (source,) = Config.service().authorization.sources
    assert isinstance(source, FileSourceConfig)
    assert "{allow, all}." in source.rules
    assert Config().authorization.sources == ()
