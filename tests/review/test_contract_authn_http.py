"""The REST contract, read afresh: a web service that says who is let in; asked over a real socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from api.live import Live, running
from review.authn import (
    BAD_USER,
    BOTH_IN,
    IN,
    NOT_AUTHORIZED,
    PASSWORDS,
    add,
    code,
    codes,
    deny_the_rest,
    ended,
    may,
    may_subscribe,
    now,
    path,
    user,
)
from review.authn_service import JSON, Service, serving
from review.contract import got

HTTP_ID = "password_based:http"


@asynccontextmanager
async def service(**config: Any) -> AsyncIterator[tuple[Live, Service]]:
    """A broker that asks it; behind it the table of users, so that a reject is not an ignore."""
    async with serving() as web, running() as live:
        target = config.pop("target", "/auth")
        body = {"u": "${username}", "p": "${password}", "c": "${clientid}"}
        http = {"mechanism": "password_based", "backend": "http", "method": "post", "body": body}
        await add(live, http | {"url": f"http://127.0.0.1:{web.port}{target}"} | config)
        await add(live, PASSWORDS)
        await user(live, "known", "p")
        yield live, web


async def judged(live: Live) -> str:
    """About a user whom the next one would let in, and one whom it would not."""
    known, stranger = await code(live, "known", "p"), await code(live, "stranger", "p")
    if stranger == IN:
        assert known == IN
        return "accept"
    return "ignore" if known == IN else "reject"


async def test_how_it_is_asked() -> None:
    async with service() as (live, web):
        assert await codes(live, "ann", 'pä"ss\\', client_id="c 1") == BOTH_IN
        for method, target, headers, body in web.asked:
            assert (method, target) == ("POST", "/auth")
            assert json.loads(body) == {"u": "ann", "p": 'pä"ss\\', "c": "c 1"}
            wanted = {"accept": JSON, "cache-control": "no-cache", "connection": "keep-alive", "content-type": JSON}
            assert {name: headers.get(name) for name in wanted} == wanted
            assert headers["keep-alive"] == "timeout=30, max=1000"
        assert len(web.asked) == 2


async def test_how_it_is_asked_with_get() -> None:
    async with service(method="get", target="/auth/${clientid}?x=${username}", headers={"x-peer": "${peerhost}"}) as (
        live,
        web,
    ):
        assert await code(live, "a&b=c#d/ä", "p+q %41", client_id="c/../d?e") == IN
        ((method, target, headers, body),) = web.asked
        assert (method, body) == ("GET", b"")
        assert "content-type" not in headers
        assert headers["accept"] == JSON
        parts = urlsplit(target)
        assert (parts.fragment, parts.path.count("/")) == ("", 2)
        assert parts.path.lower() == "/auth/c%2f..%2fd%3fe"
        assert sorted(parse_qsl(parts.query, keep_blank_values=True)) == sorted(
            [("x", "a&b=c#d/ä"), ("u", "a&b=c#d/ä"), ("p", "p+q %41"), ("c", "c/../d?e")]
        )


NAMES = ['","is_superuser":"true', "a\r\nX-Evil: 1", "${password}", "${clientid}", "\\", "a b", "\u2028", "..", "."]


@pytest.mark.parametrize(("method", "target"), [("post", "/auth"), ("get", "/auth"), ("get", "/${username}/x")])
async def test_a_name_stays_one_value(method: str, target: str) -> None:
    """Or nobody is asked at all: then the next one decides."""
    async with service(method=method, target=target, headers={"x-user": "${username}"}) as (live, web):
        for name in NAMES:
            web.asked.clear()
            reason_code = await code(live, name, "secret", client_id="cid")
            assert (name, reason_code) == (name, IN if web.asked else BAD_USER)
            for _, asked, headers, body in web.asked:
                values = json.loads(body) if method == "post" else dict(parse_qsl(urlsplit(asked).query))
                assert values == {"u": name, "p": "secret", "c": "cid"}
                assert "x-evil" not in headers
                assert urlsplit(asked).path.split("/")[1] not in ("..", ".")
            assert len(web.asked) <= 1


ANSWERS: list[tuple[int, Any, str, str]] = [
    (204, b"", JSON, "accept"),
    (200, {"result": "allow"}, JSON, "accept"),
    (200, {"result": "allow"}, "application/json; charset=utf-8", "accept"),
    (200, b"result=allow&is_superuser=false", "application/x-www-form-urlencoded", "accept"),
    (200, {"result": "deny"}, JSON, "reject"),
    (200, b"result=deny", "application/x-www-form-urlencoded", "reject"),
    (200, {"result": "ignore"}, JSON, "ignore"),
    (200, b"result=ignore", "application/x-www-form-urlencoded", "ignore"),
    (200, {"result": "perhaps"}, JSON, "ignore"),
    (200, {"is_superuser": True}, JSON, "ignore"),
    (200, b"", JSON, "ignore"),
    (200, b"{", JSON, "ignore"),
    (200, [], JSON, "ignore"),
    (200, {"result": "allow"}, "text/plain", "ignore"),
    (201, {"result": "allow"}, JSON, "ignore"),
    (302, {"result": "allow"}, JSON, "ignore"),
    (401, {"result": "deny"}, JSON, "ignore"),
    (403, {"result": "deny"}, JSON, "ignore"),
    (500, {"result": "allow"}, JSON, "ignore"),
]


async def test_what_it_answers() -> None:
    async with service() as (live, web):
        for status, body, content_type, expected in ANSWERS:
            web.says(body, content_type, status)
            assert (status, body, await judged(live)) == (status, body, expected)
        metrics = (await got(live, path(HTTP_ID, "status")))["metrics"]
        kinds = [expected for *_, expected in ANSWERS]
        counted = {"success": "accept", "failed": "reject", "nomatch": "ignore"}
        assert {key: metrics[key] for key in counted} == {key: 2 * kinds.count(kind) for key, kind in counted.items()}
        assert metrics["total"] == 2 * len(ANSWERS)


async def test_a_service_that_says_nothing() -> None:
    async with service(request_timeout="50ms") as (live, web):
        web.silent = True
        assert await judged(live) == "ignore"
        assert len(web.asked) == 2
        web.silent = False


async def test_terms() -> None:
    rules = [{"permission": "allow", "action": "publish", "topic": "${client_attrs.site}/${username}"}]
    async with service() as (live, web):
        await deny_the_rest(live)
        for superuser in (True, False, None):
            web.says({"result": "allow", "is_superuser": superuser})
            client = await live.connect("c", username="ann", password=b"p")
            assert await may(client, "t") is (superuser is True)
        web.says(b"result=allow&is_superuser=true", "application/x-www-form-urlencoded")
        client = await live.connect("c", username="ann", password=b"p")
        assert await may(client, "t") is True
        web.status = 204
        client = await live.connect("c", username="ann", password=b"p")
        assert await may(client, "t") is False
        web.says({"result": "allow", "client_attrs": {"site": "north"}, "acl": rules})
        client = await live.connect("c", username="ann", password=b"p")
        assert [await may(client, topic) for topic in ("north/ann", "north/bob", "south/ann")] == [True, False, False]
        assert await may_subscribe(client, "north/ann") is False


async def test_an_end() -> None:
    async with service() as (live, web):
        for gone in (now() - 1, 0):
            web.says({"result": "allow", "expire_at": gone})
            assert await code(live, "stranger", "p") in (BAD_USER, NOT_AUTHORIZED)
        for seconds in (1, 2, 8, 60):  # the clock is the machine's: a slow one may take longer than that to come
            web.says({"result": "allow", "expire_at": now() + seconds})
            client = await live.connect("c", username="stranger", password=b"p")
            if client.connack.reason_code == IN:
                break
        assert await ended(client) == NOT_AUTHORIZED
