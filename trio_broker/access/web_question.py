"""Questions about clients for a web service, in EMQX's terms: how a request is made, and what an answer means.

Invariant: what a client says of itself is the text of one path segment, one parameter, one value or one header, and
never begins another one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote

import msgspec
from attrs import define, field

from trio_broker.access.authentication import BAD_CREDENTIALS, NO_ATTRIBUTES, REFUSED, Verdict
from trio_broker.access.rules import RuleSet
from trio_broker.access.templates import Template
from trio_broker.config.authentication import HttpAuthenticatorConfig
from trio_broker.config.authorization import HttpSourceConfig
from trio_broker.config.http_client import GET_HEADERS, POST_HEADERS

__all__ = ["BadAnswer", "Question", "Unaskable", "WebRequest", "opinion_of", "path_and_query", "verdict_of"]

JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"

_IN_URL: Final = "%/:@!$&'()*+,;=~-._{}?"
"""What stays as it is in the parts of a URL that come from the configuration."""
_NOT_IN_HEADERS: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OURS: Final = ("content-length", "transfer-encoding")
"""Headers that follow from the body."""
_MOST_FIELDS: Final = 100
"""Of an answer that is a form."""
_ATTRIBUTE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_SECONDS: Final = re.compile(r"\d{1,15}", re.ASCII)


class Unaskable(Exception):
    """What a client says of itself cannot be put into a request; the message names what, and does not show it."""


class BadAnswer(Exception):
    """An answer that means nothing; the message says why, and does not show it."""


@define(frozen=True)
class WebRequest:
    """As it goes out. Neither part is for the log."""

    method: str
    target: bytes = field(repr=False)
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    body: bytes = field(repr=False)


class Question:
    """The templates of one configuration. What has no value becomes an empty text, as with EMQX."""

    def __init__(self, config: HttpAuthenticatorConfig | HttpSourceConfig, known: Collection[str]) -> None:
        """`known` are the placeholders. Raises ValueError with the key before the reason."""
        self.method = config.method.upper()
        path, query = path_and_query(config.url)
        self._segments = [_template("url", segment, known) for segment in path.split("/")]
        self._query = _template("url", query, known)
        self._fields = [(name, _template(f"body.{name}", text, known)) for name, text in config.body.items()]
        usual = GET_HEADERS if config.method == "get" else POST_HEADERS
        headers = {**usual, **{name.lower(): text for name, text in config.headers.items()}}
        self._headers = [(name, _template(f"headers.{name}", text, known)) for name, text in headers.items()]
        for name in _OURS:
            if name in headers:
                raise ValueError(f"headers.{name}: follows from the body, and cannot be set")
        content_type = headers.get("content-type", "").strip().lower()
        self._is_form = content_type.startswith(FORM)
        if self.method == "POST" and not self._is_form and not content_type.startswith(JSON):
            raise ValueError(f"headers.content-type: must be {JSON} or {FORM}")

    def fill(self, value: Callable[[str], str | None]) -> WebRequest:
        """`value` gives what a placeholder stands for. Raises Unaskable."""
        path = "/".join(_segment(segment, value) for segment in self._segments)
        query = self._query.fill(value, _escaped, missing="") or ""
        body = b""
        if self.method == "GET":
            query = "&".join(part for part in (query, self._form(value)) if part)
        else:
            body = self._form(value).encode() if self._is_form else self._json(value)
        target = f"{path}?{query}" if query else path
        headers = tuple((name.encode(), _header(name, text, value)) for name, text in self._headers)
        return WebRequest(self.method, target.encode(), headers, body)

    def _form(self, value: Callable[[str], str | None]) -> str:
        return "&".join(f"{_escaped(name)}={_escaped(_filled(text, value))}" for name, text in self._fields)

    def _json(self, value: Callable[[str], str | None]) -> bytes:
        try:
            return msgspec.json.encode({name: _filled(text, value) for name, text in self._fields})
        except UnicodeEncodeError:
            raise Unaskable("the password is not UTF-8, and JSON is") from None


def path_and_query(url: str) -> tuple[str, str]:
    """As they go out, but for placeholders: those stay."""
    rest = url.partition("://")[2]
    at = re.search("[/?]", rest)
    path, _, query = (rest[at.start() :] if at else "").partition("?")
    return quote(path, safe=_IN_URL) or "/", quote(query, safe=_IN_URL)


def _template(key: str, text: str, known: Collection[str]) -> Template:
    try:
        return Template(text, known)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


def _escaped(text: str) -> str:
    """Passwords are bytes, which are here as lone surrogates where they are no UTF-8."""
    return quote(text, safe="", errors="surrogateescape")


def _filled(text: Template, value: Callable[[str], str | None]) -> str:
    return text.fill(value, missing="") or ""


def _segment(template: Template, value: Callable[[str], str | None]) -> str:
    text = template.fill(value, _escaped, missing="") or ""
    if text in (".", "..") and template.names:
        raise Unaskable("the path would lead elsewhere")  # escaped dots are dots as well (RFC 3986, 6.2.2.3)
    return text


def _header(name: str, template: Template, value: Callable[[str], str | None]) -> bytes:
    text = _filled(template, value)
    if _NOT_IN_HEADERS.search(text):
        raise Unaskable(f"the header {name} would have a control character")
    return text.strip(" \t").encode(errors="surrogateescape")


# -- answers -----------------------------------------------------------------------------------------------------------


def verdict_of(status: int, content_type: str, body: bytes, now: float) -> tuple[Verdict | None, str]:
    """What an answer about a client that connects means, and why where that is not what the service said it is.

    `now` is in seconds since the epoch. Raises BadAnswer.
    """
    if status == 204:
        return Verdict(), ""
    said = _said(status, content_type, body)
    result = said.get("result", "ignore")
    if result == "deny":
        return REFUSED, ""
    if result != "allow":
        return (None, "") if result == "ignore" else (None, "`result` is not allow, deny or ignore")
    try:
        expire_at = _expire_at(said.get("expire_at"), now)
        acl = said.get("acl")
        rules = None if acl is None else RuleSet.from_items(acl)
    except ValueError as error:  # EMQX's way: who is let in for other terms than these is not let in
        return BAD_CREDENTIALS, str(error)
    return (
        Verdict(
            superuser=_is_true(said.get("is_superuser")),
            client_attrs=_attributes(said.get("client_attrs")),
            expire_at=expire_at,
            rules=rules,
        ),
        "",
    )


def opinion_of(status: int, content_type: str, body: bytes) -> bool | None:
    """What an answer about what a client wants to do means; None: the service leaves it to others. Raises BadAnswer."""
    if status == 204:
        return True
    result = _said(status, content_type or JSON, body).get("result")
    if result not in ("allow", "deny", "ignore"):
        raise BadAnswer("`result` is not allow, deny or ignore")
    return None if result == "ignore" else result == "allow"


def _said(status: int, content_type: str, body: bytes) -> Mapping[str, Any]:
    if status != 200:
        raise BadAnswer(f"status {status}")
    said: Any
    if content_type.startswith(JSON):
        try:
            said = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError, ValueError):
            raise BadAnswer("the body is not JSON") from None
    elif content_type.startswith(FORM):
        try:
            said = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
        except ValueError:
            raise BadAnswer("the body is not a form") from None
    else:
        raise BadAnswer(f"the content type is {content_type[:100]!r}")
    if not isinstance(said, dict):
        raise BadAnswer("the body is not an object")
    return said


def _expire_at(value: Any, now: float) -> float | None:
    if value is None:
        return None
    if isinstance(value, str) and _SECONDS.fullmatch(value):  # a form knows texts only
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("`expire_at` is not a whole number of seconds")
    if value < int(now):
        raise ValueError("`expire_at` is in the past")
    if value > now * 500:
        raise ValueError("`expire_at` is not in seconds since 1970")
    return float(value)


def _is_true(value: Any) -> bool:
    if isinstance(value, str):
        return value == "true" or (_SECONDS.fullmatch(value) is not None and int(value) >= 1)
    return isinstance(value, int) and value >= 1


def _attributes(value: Any) -> Mapping[str, str]:
    """Names and values that are of no use are left out, as with EMQX."""
    if value is None:
        return NO_ATTRIBUTES
    if not isinstance(value, dict):
        raise BadAnswer("`client_attrs` is not an object")
    return {
        name: text
        for name, text in value.items()
        if isinstance(name, str) and _ATTRIBUTE.fullmatch(name) and isinstance(text, str)
    }
