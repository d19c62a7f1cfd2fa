"""What must hold between the keys of one authenticator, one authorization source, and what is said beside them.

Invariant: nothing is opened here; what rules, templates and keys mean is checked by those who use them.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Sequence

from trio_broker.config.authentication import (
    AuthenticatorConfig,
    BuiltInDatabaseConfig,
    HttpAuthenticatorConfig,
    JwtConfig,
    id_of,
)
from trio_broker.config.authorization import AuthorizationConfig, FileSourceConfig, HttpSourceConfig, SourceConfig
from trio_broker.config.http_client import SslClientConfig
from trio_broker.config.setting import show
from trio_broker.errors import ConfigError, ProtocolError
from trio_broker.protocol.topics import validate_topic_filter

__all__ = ["check_access_rules", "check_authenticator", "check_authenticators", "check_authorization", "check_source"]


def check_authenticators(chain: Sequence[AuthenticatorConfig], key: str) -> None:
    """Raises ConfigError for the first thing that does not fit together; so do the others here."""
    _check_names([id_of(one) for one in chain], key)
    looked_up_by: set[str] = set()
    for number, config in enumerate(chain, 1):
        check_authenticator(config, f"{key}.{number}")
        if isinstance(config, BuiltInDatabaseConfig):
            if config.user_id_type in looked_up_by:
                raise ConfigError(f"{key}.{number}.user_id_type", f"another one has {config.user_id_type} already")
            looked_up_by.add(config.user_id_type)


def check_authenticator(config: AuthenticatorConfig, key: str) -> None:
    if isinstance(config, HttpAuthenticatorConfig):
        _check_http(config, key)
    elif isinstance(config, JwtConfig):
        _check_jwt(config, key)
    elif isinstance(config, BuiltInDatabaseConfig) and config.user_table not in (None, config.user_id_type):
        raise ConfigError(f"{key}.user_table", "must be the same as user_id_type")


def check_authorization(config: AuthorizationConfig, key: str) -> None:
    _check_names([one.type for one in config.sources], f"{key}.sources")
    for number, source in enumerate(config.sources, 1):
        check_source(source, f"{key}.sources.{number}")
    for text in config.cache.excludes:
        try:
            validate_topic_filter(text)
        except ProtocolError as error:
            raise ConfigError(f"{key}.cache.excludes", f"{show(text)} is not a topic filter") from error


def check_source(config: SourceConfig, key: str) -> None:
    if isinstance(config, HttpSourceConfig):
        _check_http(config, key)
    elif isinstance(config, FileSourceConfig) and config.path and config.rules:
        raise ConfigError(f"{key}.rules", "must be empty where path says where they are")


def check_access_rules(rules: Sequence[str], key: str) -> None:
    for rule in rules:
        network = rule.split(" ")[1]
        if network != "all":
            try:
                ipaddress.ip_network(network, strict=False)
            except ValueError as error:
                raise ConfigError(key, f"{show(rule)} names no address, no network and not all") from error


def _check_names(names: list[str], key: str) -> None:
    for number, name in enumerate(names, 1):
        first = names.index(name) + 1
        if first < number:
            raise ConfigError(f"{key}.{number}", f"{name} is there already, as number {first}")


def _check_http(config: HttpAuthenticatorConfig | HttpSourceConfig, key: str) -> None:
    _check_url(config.url, config.ssl, key, "url", "is needed")
    if config.method == "get" and any(name.lower() == "content-type" for name in config.headers):
        raise ConfigError(f"{key}.headers", "content-type has no meaning for a request without a body (method = get)")


def _check_url(url: str, ssl: SslClientConfig, key: str, name: str, needed: str) -> None:
    if not url:
        raise ConfigError(f"{key}.{name}", needed)
    if url.startswith("https:") and not ssl.enable:
        raise ConfigError(f"{key}.ssl.enable", "must be true for https")
    for option in ("certfile", "keyfile"):
        if "-----BEGIN " in getattr(ssl, option):
            raise ConfigError(f"{key}.ssl.{option}", "holds PEM text; it has to be the path of a file")
    if bool(ssl.certfile) != bool(ssl.keyfile):
        missing = "keyfile" if ssl.certfile else "certfile"
        raise ConfigError(f"{key}.ssl.{missing}", "is needed: a certificate and its key go together")
    if not ssl.versions:
        raise ConfigError(f"{key}.ssl.versions", "must name one version at least")


def _check_jwt(config: JwtConfig, key: str) -> None:
    if config.use_jwks:
        _check_url(config.endpoint, config.ssl, key, "endpoint", "is needed where use_jwks is true")
    elif config.algorithm == "public-key":
        if not config.public_key:
            raise ConfigError(f"{key}.public_key", "is needed for public-key")
    elif not config.secret:
        raise ConfigError(f"{key}.secret", "is needed for hmac-based")
    elif config.secret_base64_encoded:
        try:
            base64.b64decode(config.secret, validate=True)
        except (binascii.Error, ValueError):
            raise ConfigError(f"{key}.secret", "is not base64, which secret_base64_encoded says") from None
