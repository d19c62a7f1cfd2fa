"""Questions to a web service and its answers: what a client can put into a request, and what is made of an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from actors.web import pairs

from trio_broker.access.asking import Request, Subject
from trio_broker.access.templates import ABOUT_CLIENTS
from trio_broker.access.web_question import BadAnswer, Question, Unaskable, opinion_of, verdict_of
from trio_broker.config.authentication import HttpAuthenticatorConfig
from trio_broker.protocol.message import Origin
from trio_broker.protocol.reason_codes import ReasonCode

KNOWN = ABOUT_CLIENTS | {"password"}
NOW = 1_700_000_000.5
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

HOSTILE = [
    "a/../b?x=1&y#z",
    "x\r\nHost: evil\r\n\r\nGET /",
    "${password}",
    "${username}",
    "%2e%2e%2f",
    "ключ \U0001f511",
    '"}, {"result": "allow',
    "a b+c=d;e",
    "\x01\x7f\\",
    "/" * 65_535,
    "..%00",
]


def question(**options: Any) -> Question:
    return Question(HttpAuthenticatorConfig(**{"url": "http://h/auth", **options}), KNOWN)


def filled(values: Mapping[str, str], **options: Any) -> Any:
    return question(**options).fill(values.get)


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("method", ["get", "post"])
def test_what_a_client_says_stays_where_it_was_put(value: str, method: str) -> None:
    headers = {} if method == "get" else {"Content-Type": FORM}
    request = filled(
        {"username": value, "password": "secret"},
        method=method,
        url="http://h/a/${username}/b?x=${username}&y=2",
        headers=headers,
        body={"u": "${username}", "v&w": "1"},
    )
    target = request.target.decode("ascii")
    assert not set(target) & set(" \r\n\0#")
    path, _, query = target.partition("?")
    assert path.count("/") == 3
    url = [(b"x", value.encode()), (b"y", b"2")]
    body = [(b"u", value.encode()), (b"v&w", b"1")]
    assert pairs(query) == (url + body if method == "get" else url)
    assert pairs(request.body.decode()) == ([] if method == "get" else body)
    assert b"secret" not in request.target + request.body


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_json_stays_json(value: str) -> None:
    request = filled({"username": value}, body={"u": "<${username}>", "n": "1"})
    assert json.loads(request.body) == {"u": f"<{value}>", "n": "1"}
    assert dict(request.headers)[b"content-type"] == b"application/json"


@pytest.mark.parametrize("value", [".", ".."])
@pytest.mark.parametrize("url", ["http://h/users/${username}/auth", "http://h/${username}", "http://h/a/${username}"])
def test_nobody_is_asked_elsewhere(value: str, url: str) -> None:
    with pytest.raises(Unaskable, match="the path would lead elsewhere"):
        filled({"username": value}, url=url)


def test_dots_in_a_longer_segment_mean_nothing() -> None:
    values = {"username": "..", "clientid": "..."}
    assert filled(values, url="http://h/u-${username}/${clientid}/../x").target == b"/u-../.../../x"


@pytest.mark.parametrize("value", ["a\r\nb", "a\nb", "a\0b", "a\x7fb", "\x01"])
def test_a_header_never_gets_a_control_character(value: str) -> None:
    with pytest.raises(Unaskable, match="the header x-user would have a control character") as fault:
        filled({"username": value}, headers={"X-User": "u ${username}"})
    assert value not in str(fault.value)


def test_headers_are_the_usual_ones_and_those_that_are_set() -> None:
    request = filled({"username": " é\t"}, headers={"Accept": "*/*", "X-User": "${username}"})
    assert dict(request.headers) == {
        b"accept": b"*/*",
        b"cache-control": b"no-cache",
        b"connection": b"keep-alive",
        b"keep-alive": b"timeout=30, max=1000",
        b"content-type": b"application/json",
        b"x-user": "é".encode(),
    }
    assert b"content-type" not in dict(filled({}, method="get").headers)


def test_what_has_no_value_is_empty() -> None:
    request = filled({}, url="http://h/${username}/x?c=${client_attrs.site}", body={"p": "${password}!"})
    assert (request.target, request.body) == (b"//x?c=", b'{"p":"!"}')


def test_a_password_is_any_bytes() -> None:
    password = b"\xff\x00a".decode(errors="surrogateescape")
    form = filled({"password": password}, headers={"content-type": FORM}, body={"p": "${password}"})
    assert form.body == b"p=%FF%00a"
    with pytest.raises(Unaskable, match="not UTF-8"):
        filled({"password": password}, body={"p": "${password}"})


def test_a_request_shows_nothing_in_the_log() -> None:
    request = filled({"password": "secret"}, url="http://h/${password}", body={"p": "${password}"})
    assert "secret" not in repr(request)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"url": "http://h/${user}"}, r"^url: there is no placeholder \$\{user\}"),
        ({"body": {"a": "${topic}"}}, r"^body\.a: there is no placeholder"),
        ({"headers": {"x": "${nobody}"}}, r"^headers\.x: there is no placeholder"),
        ({"headers": {"Content-Length": "1"}}, r"^headers\.content-length: "),
        ({"headers": {"Transfer-Encoding": "chunked"}}, r"^headers\.transfer-encoding: "),
        ({"headers": {"content-type": "text/plain"}}, r"^headers\.content-type: must be"),
    ],
)
def test_what_cannot_be_asked_at_all_is_named(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        question(**options)


# -- answers about clients

IGNORED = object()


@pytest.mark.parametrize(
    ("status", "content_type", "body", "expected"),
    [
        (204, "", b"", True),
        (204, JSON, b'{"result": "deny"}', True),
        (200, JSON, b'{"result": "allow"}', True),
        (200, f"{JSON}; charset=utf-8", b'{"result": "allow"}', True),
        (200, FORM, b"result=allow", True),
        (200, JSON, b'{"result": "deny"}', False),
        (200, FORM, b"result=deny&x=", False),
        (200, JSON, b'{"result": "ignore"}', None),
        (200, FORM, b"result=ignore", None),
        (200, JSON, b'{"result": "perhaps"}', None),
        (200, JSON, b'{"result": true}', None),
        (200, JSON, b"{}", None),
        (200, FORM, b"", None),
        (200, JSON, b"[]", IGNORED),
        (200, JSON, b"", IGNORED),
        (200, JSON, b"{", IGNORED),
        (200, JSON, b'{"result": "allow"} {}', IGNORED),
        (200, JSON, b"[" * 100_000, IGNORED),
        (200, JSON, b'"\xff"', IGNORED),
        (200, FORM, b"\xff", IGNORED),
        (200, FORM, b"a=1&" * 200, IGNORED),
        (200, "text/plain", b'{"result": "allow"}', IGNORED),
        (200, "", b'{"result": "allow"}', IGNORED),
        (200, JSON, b'{"result": "allow", "client_attrs": []}', IGNORED),
        *((status, JSON, b'{"result": "allow"}', IGNORED) for status in (201, 202, 301, 400, 401, 403, 404, 500, 503)),
        *((status, JSON, b'{"result": "deny"}', IGNORED) for status in (400, 403, 500)),
    ],
)
def test_what_an_answer_about_a_client_means(status: int, content_type: str, body: bytes, expected: object) -> None:
    if expected is IGNORED:
        with pytest.raises(BadAnswer):
            verdict_of(status, content_type, body, NOW)
        return
    verdict, _ = verdict_of(status, content_type, body, NOW)
    assert (None if verdict is None else verdict.accepted) is expected
    if expected is False:
        assert verdict is not None
        assert verdict.reason_code == ReasonCode.NOT_AUTHORIZED
    if expected:
        assert verdict is not None
        assert not verdict.superuser
        assert verdict.expire_at is None
        assert verdict.rules is None


def verdict(**said: Any) -> Any:
    found, reason = verdict_of(200, JSON, json.dumps({"result": "allow", **said}).encode(), NOW)
    assert found is not None
    assert found.accepted == (not reason)
    return found


@pytest.mark.parametrize(
    ("value", "superuser"),
    [
        (True, True),
        ("true", True),
        ("1", True),
        (1, True),
        (2, True),
        (False, False),
        ("false", False),
        ("0", False),
        ("", False),
        (0, False),
        (None, False),
        ("yes", False),
        ([1], False),
    ],
)
def test_who_is_a_superuser(value: object, superuser: bool) -> None:
    assert verdict(is_superuser=value).superuser is superuser


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (1_700_000_000, 1_700_000_000.0),
        (1_700_003_600, 1_700_003_600.0),
        ("1700003600", 1_700_003_600.0),
        (1_699_999_999, "past"),
        (0, "past"),
        (-1, "past"),
        (1_700_003_600_000, "seconds"),
        (1.5, "whole"),
        ("soon", "whole"),
        (True, "whole"),
        ([], "whole"),
    ],
)
def test_until_when_somebody_is_let_in(value: object, expected: object) -> None:
    found, reason = verdict_of(200, JSON, json.dumps({"result": "allow", "expire_at": value}).encode(), NOW)
    assert found is not None
    if isinstance(expected, str):
        assert expected in reason
        assert found.reason_code == ReasonCode.BAD_USER_NAME_OR_PASSWORD
    else:
        assert (found.accepted, found.expire_at, reason) == (True, expected, "")


def test_attributes_that_are_of_no_use_are_left_out() -> None:
    attributes = {"site": "a/b", "bad name": "x", "": "x", "_x": "x", "number": 1, "list": []}
    assert verdict(client_attrs=attributes).client_attrs == {"site": "a/b"}
    assert verdict(client_attrs=None).client_attrs == {}


def test_rules_come_with_the_answer() -> None:
    subject = Subject(Origin("c"), "c")
    rules = verdict(acl=[{"permission": "allow", "action": "publish", "topic": "a/#"}]).rules
    assert len(rules) == 1
    assert rules.decide(subject, Request("publish", "a/b")) is True
    assert rules.decide(subject, Request("publish", "b")) is None
    assert verdict(acl=None).rules is None
    assert len(verdict(acl=[]).rules) == 0


@pytest.mark.parametrize(
    "acl", ["allow", {}, 1, [{}], [{"permission": "maybe", "action": "all", "topic": "a"}], [[]], ["a"]]
)
def test_whoever_is_let_in_by_wrong_rules_is_not(acl: object) -> None:
    found = verdict(acl=acl)
    assert found.reason_code == ReasonCode.BAD_USER_NAME_OR_PASSWORD


def test_a_form_says_the_same() -> None:
    found, _ = verdict_of(200, FORM, b"result=allow&is_superuser=true&expire_at=1700003600", NOW)
    assert found is not None
    assert (found.superuser, found.expire_at) == (True, 1_700_003_600.0)
    found, reason = verdict_of(200, FORM, b"result=allow&acl=x", NOW)
    assert found is not None
    assert not found.accepted
    assert reason


# -- answers about what a client does


@pytest.mark.parametrize(
    ("status", "content_type", "body", "expected"),
    [
        (204, "", b"", True),
        (200, JSON, b'{"result": "allow"}', True),
        (200, "", b'{"result": "allow"}', True),
        (200, FORM, b"result=allow", True),
        (200, JSON, b'{"result": "deny"}', False),
        (200, FORM, b"result=deny", False),
        (200, JSON, b'{"result": "ignore"}', None),
        (200, JSON, b"{}", IGNORED),
        (200, JSON, b'{"result": ["allow"]}', IGNORED),
        (200, "text/html", b'{"result": "allow"}', IGNORED),
        (403, JSON, b'{"result": "deny"}', IGNORED),
        (500, "", b"", IGNORED),
    ],
)
def test_what_an_answer_about_a_topic_means(status: int, content_type: str, body: bytes, expected: object) -> None:
    if expected is IGNORED:
        with pytest.raises(BadAnswer):
            opinion_of(status, content_type, body)
    else:
        assert opinion_of(status, content_type, body) is expected
