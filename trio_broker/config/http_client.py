"""What is told to HTTP clients of ours: authenticators and authorization sources that ask a web service, key sets.

Invariant: the keys and their defaults are EMQX's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs
from attrs import frozen

from trio_broker.config.kinds import Choice, Flag, ListOf, Or, Table, Text, Url
from trio_broker.config.setting import ENTRY, HIDDEN, SECRET, Kind, Setting, setting, show_unless_secret
from trio_broker.errors import ConfigError

_PATH = Text(r"[^\0]*", "the path of a file")

HEADER_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
HEADER_VALUE = Text(r"[^\r\n\0]*", "a text of one line")
HEADERS = Table(HEADER_VALUE, pattern=HEADER_NAME)
BODY = Table(Text())
URL = Url(r"([/?][^\s#]*)?", 'a URL such as "http://127.0.0.1:8080/auth", without a password')

_FILLED_IN = re.compile(r"(\$\{[^{}]*\})*")
"""What is said of each client is no secret of ours."""
_PARAMETER = re.compile(r"(?<=[?&])([^?&=]+)=([^&]*)")

GET_HEADERS = {
    "accept": "application/json",
    "cache-control": "no-cache",
    "connection": "keep-alive",
    "keep-alive": "timeout=30, max=1000",
}
POST_HEADERS = {**GET_HEADERS, "content-type": "application/json"}


def _is_secret(name: str, value: str) -> bool:
    return SECRET.search(name) is not None and _FILLED_IN.fullmatch(value) is None


def hide_query(text: str) -> str:
    """A URL without the secrets in its query, as far as their names say that they are some."""

    def shown(found: re.Match[str]) -> str:
        return f"{found[1]}={HIDDEN}" if _is_secret(found[1], found[2]) else found[0]

    return _PARAMETER.sub(shown, text)


def with_query_of(text: str, known: str) -> str:
    """`text` where `known` says what is hidden in its query."""
    values: dict[str, list[str]] = {}
    for name, value in _PARAMETER.findall(known):
        values.setdefault(name, []).append(value)

    def told(found: re.Match[str]) -> str:
        there = values.get(found[1])
        value = there.pop(0) if there else HIDDEN  # one that is there twice has its values in their order
        return f"{found[1]}={value}" if found[2] == HIDDEN else found[0]

    return _PARAMETER.sub(told, text)


def _no_url(key: str, raw: object, kind: Kind) -> ConfigError:
    shown = kind.told(hide_query(raw)) if isinstance(raw, str) else show_unless_secret(key, raw)
    return ConfigError(key, f"{shown} is not {kind.expects}")


@frozen
class _Url(Setting):
    """What its query says under the name of a secret is shown as a secret is."""

    def overlay(self, current: Any, raw: object, key: str, *, text: bool) -> object:
        try:
            return self.kind.parse(raw, text=text)
        except ValueError:
            raise _no_url(key, raw, self.kind) from None

    def plain(self, current: Any, *, secrets: bool) -> object:
        return current if secrets else hide_query(current)


def url(doc: str) -> Any:
    """An attrs field for the URL of a web service; "" = none is said."""
    kind = Or("", "", URL)

    def check(value: Any, field: attrs.Attribute[Any]) -> object:
        try:
            return kind.check(value)
        except ValueError:
            raise _no_url(field.name, value, kind) from None

    converter = attrs.Converter(check, takes_field=True)
    metadata = {ENTRY: _Url(kind, "", doc)}
    return attrs.field(default="", converter=converter, repr=lambda text: repr(hide_query(text)), metadata=metadata)


@frozen
class _Texts(Setting):
    """Those whose name says that they let somebody in are shown as secrets are."""

    def overlay(self, current: Any, raw: object, key: str, *, text: bool) -> object:
        if isinstance(raw, Mapping):
            # What was shown hidden comes back unchanged.
            known = {name: current.get(name, HIDDEN) if value == HIDDEN else value for name, value in raw.items()}
            raw = {name: value for name, value in known.items() if value != HIDDEN}
        try:
            return self.kind.parse(raw, text=text)
        except ValueError:
            raise ConfigError(key, f"is not {self.kind.expects}") from None

    def plain(self, current: Any, *, secrets: bool) -> object:
        shown = super().plain(current, secrets=secrets)
        if secrets or not isinstance(shown, Mapping):
            return shown
        return {name: HIDDEN if _is_secret(name, value) else value for name, value in shown.items()}


def headers(default: Mapping[str, str], doc: str) -> Any:
    """An attrs field for the headers of requests."""
    return _texts(HEADERS, default, doc)


def body(doc: str) -> Any:
    """The same for what they say."""
    return _texts(BODY, {}, doc)


def _texts(kind: Table, default: Mapping[str, str], doc: str) -> Any:
    def check(value: Any, field: attrs.Attribute[Any]) -> object:
        try:
            return kind.check(value)
        except ValueError:
            raise ConfigError(field.name, f"is not {kind.expects}") from None

    entry = _Texts(kind, dict(default), doc)
    converter = attrs.Converter(check, takes_field=True)
    return attrs.field(default=kind.parse(default), converter=converter, repr=False, metadata={ENTRY: entry})


@frozen(kw_only=True)
class SslClientConfig:
    """The TLS side of a client of ours; files are PEM."""

    enable: bool = setting(Flag(), False, "true = TLS; has to be for https")
    verify: str = setting(
        Choice(("verify_none", "verify_peer")), "verify_peer", "verify_none believes every certificate"
    )
    cacertfile: str = setting(
        _PATH, "", "the authorities that are believed (a file, or PEM text); empty = those of the system"
    )
    certfile: str = setting(_PATH, "", "the certificate that is shown to the server")
    keyfile: str = setting(_PATH, "", "its private key")
    password: str = setting(Text(), "", "of the private key, where it is encrypted", secret=True)
    server_name_indication: str = setting(
        Text(), "", 'the name that the certificate must have; "" = of the URL, disable = any, and none is told'
    )
    versions: tuple[str, ...] = setting(
        ListOf(Choice(("tlsv1.3", "tlsv1.2"))), ["tlsv1.3", "tlsv1.2"], "what is spoken"
    )
