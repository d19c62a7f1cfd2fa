"""The web application: from a request to its route, from the route's result to the answer.

Invariant: whatever comes in, the answer is one of the contract; a fault of ours is logged with its traceback and
answered without. The order is: path (404), method (405), credentials and role (401, 403), body and parameters (415,
400), then the handler.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import msgspec
import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope
from quart import Request, Response
from quart.ctx import RequestContext
from quart.globals import request_ctx
from quart_trio import QuartTrio
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout

from trio_broker.actors.api_keys import Role
from trio_broker.actors.questions import Questions
from trio_broker.actors.slow_hash import TooBusy
from trio_broker.api import documents, v5
from trio_broker.api.access import authorize
from trio_broker.api.bodies import is_special, read_body
from trio_broker.api.context import Api, Caller
from trio_broker.api.failures import (
    BODY_TIMEOUT,
    BODY_TOO_LARGE,
    BUSY,
    CROSS_SITE,
    INTERNAL_ERROR,
    NOT_FOUND,
    NOT_JSON,
    UNAVAILABLE,
    USER_TOO_WEAK,
    ApiError,
)
from trio_broker.api.routes import Found, Reply, Route, Router
from trio_broker.api.validation import parse_body, parse_query
from trio_broker.errors import ActorGone, AskTimeout, StoreError

logger = logging.getLogger(__name__)

JSON: Final = "application/json"
LARGEST_BODY: Final = 16 * 1024 * 1024
"""Bytes of a request body."""
LARGEST_OF_STRANGERS: Final = 64 * 1024
"""The same where no credentials are needed."""
SLOWEST_BODY: Final = 30
"""Seconds a request body may take."""

_NOT_FOUND_PAGE: Final = (
    "<!DOCTYPE html><html><head><title>404 Not Found</title></head>"
    "<body><h1>404 Not Found</h1><p>There is nothing at this path.</p></body></html>"
)


class WebApp(QuartTrio):
    """Quart's request and response objects around a router of our own.

    Quart's own URL map stays empty: it sees paths only after `%2F` was decoded. `cors` and `api_docs` may be changed
    while it runs.
    """

    def __init__(self, api: Api, *, largest_body: int, cors: bool, api_docs: bool) -> None:
        super().__init__(__name__, static_folder=None, template_folder=None)
        self.config["MAX_CONTENT_LENGTH"] = largest_body
        self.config["BODY_TIMEOUT"] = SLOWEST_BODY
        self._api = api
        self.cors = cors
        self.api_docs = api_docs
        self._router = Router()
        for route in v5.ROUTES:
            self._router.add(v5.BASE_PATH + route.path, route)
            if route.path == "/status":
                self._router.add(route.path, route)
        for route in documents.ROUTES:
            self._router.add(route.path, route)

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "lifespan" and not scope["path"].startswith("/"):
            # Quart takes it apart as a URL and may fail over that; our router looks at `raw_path` only.
            scope["path"] = "/"
        await super().__call__(scope, receive, send)

    async def dispatch_request(self, request_context: RequestContext | None = None) -> Response:
        """Answer any request; replaces the lookup in Quart's URL map."""
        request = (request_context or request_ctx).request
        try:
            response = _response(await self._answer(request))
        except ApiError as error:
            response = _response(_failure(error))
        except RequestEntityTooLarge:
            response = _response(_failure(BODY_TOO_LARGE.error()))
        except RequestTimeout:
            response = _response(_failure(BODY_TIMEOUT.error()))
        except TooBusy:
            response = _response(_failure(BUSY.error()))
        except (ActorGone, AskTimeout, StoreError) as error:
            logger.warning("%s %s: %s", request.method, _shown_path(request), str(error) or type(error).__name__)
            response = _response(_failure(UNAVAILABLE.error()))
        except Exception:
            logger.exception("%s %s failed", request.method, _shown_path(request))
            response = _response(_failure(INTERNAL_ERROR.error()))
        if self.cors and "Origin" in request.headers:
            response.headers["access-control-allow-origin"] = "*"
        return response

    async def _answer(self, request: Request) -> Reply:
        found = self._router.find(request.scope["raw_path"].partition(b"?")[0])
        if found is None or (not self.api_docs and found.routes.get("GET") in documents.ROUTES):
            return _unknown_path(request.headers.get("Accept", ""))
        route = found.routes.get(request.method)
        if route is None:
            if self.cors and request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
                return _preflight(found)
            return Reply(405, headers={"allow": ", ".join(sorted(found.routes))})
        closed = route.closed is not None and route.closed(self._api)
        client = request.scope.get("client")
        address = client[0] if client else ""
        caller = await authorize(self._api, route, request.headers.get("Authorization"), address, closed)
        if route.own is not None and not _is_own(route.own, route, found, caller):
            raise USER_TOO_WEAK.error()
        if not self.cors and route.method != "GET" and request.headers.get("Sec-Fetch-Site") == "cross-site":
            raise CROSS_SITE.error()  # a browser sends the credentials that it was once given to whoever asks for it
        raw = b""
        if route.body is not None:
            raw = await _read(request, caller)
            # It may have taken its time, and what was shown may be void by now.
            caller = await authorize(self._api, route, request.headers.get("Authorization"), address, closed)
        result = await route.handler(self._api, **_arguments(request, route, found, caller, raw))
        if isinstance(result, Reply):
            return result
        return Reply(204) if result is None else Reply(200, result)


def make_app(
    questions: Questions,
    *,
    started: Callable[[], bool],
    level: str = "5.8.9",
    largest_body: int = LARGEST_BODY,
    cors: bool = False,
    api_docs: bool = True,
) -> WebApp:
    """The application that serves `/api/v5`, `/status` and, with `api_docs`, `/api-docs`.

    `started` says whether the broker is up (for the health check); `level` is the release of EMQX to be taken for;
    with `cors` browsers let pages of any origin read the answers.
    """
    return WebApp(Api(questions, started, level), largest_body=largest_body, cors=cors, api_docs=api_docs)


def _is_own(name: str, route: Route, found: Found, caller: Caller) -> bool:
    return caller.role is Role.ADMINISTRATOR or found.values[route.path_names.index(name)] == caller.username


def _arguments(request: Request, route: Route, found: Found, caller: Caller, raw: bytes) -> dict[str, Any]:
    arguments: dict[str, Any] = dict(zip(route.path_names, found.values, strict=True))
    if route.body is not None:
        content_type = request.headers.get("Content-Type", "")
        if is_special(route.body):
            arguments["body"] = read_body(raw, content_type, route.body)
        elif raw and not content_type.lower().startswith(JSON):
            raise NOT_JSON.error()
        else:
            arguments["body"] = parse_body(raw, route.body)
    if route.query is not None:
        arguments["query"] = parse_query(request.query_string, route.query)
    if "accept" in route.handler.__annotations__:
        arguments["accept"] = request.headers.get("Accept", "")
    if "caller" in route.handler.__annotations__:
        arguments["caller"] = caller
    return arguments


async def _read(request: Request, caller: Caller) -> bytes:
    if caller.role is None:
        return await _read_little(request)
    return await request.get_data(cache=True, as_text=False, parse_form_data=False)


async def _read_little(request: Request) -> bytes:
    """The body of somebody who has shown no credentials: such bodies cost neither memory nor time."""
    if (request.content_length or 0) > LARGEST_OF_STRANGERS:
        raise RequestEntityTooLarge
    raw = bytearray()
    with trio.move_on_after(request.body_timeout or SLOWEST_BODY) as scope:
        async for piece in request.body:
            raw += piece
            if len(raw) > LARGEST_OF_STRANGERS:
                raise RequestEntityTooLarge
    if scope.cancelled_caught:
        raise RequestTimeout
    return bytes(raw)


def _preflight(found: Found) -> Reply:
    """What a browser asks before a call from a page of another origin [Fetch section 3.2]; it sends no credentials."""
    methods = ", ".join(sorted(found.routes))
    headers = {"access-control-allow-methods": methods, "access-control-allow-headers": "authorization, content-type"}
    return Reply(204, headers=headers)


def _unknown_path(accept: str) -> Reply:
    if accept.startswith(JSON):
        return _failure(NOT_FOUND.error())
    if accept.startswith("text/plain"):
        return Reply(404, text="404 - NOT FOUND", content_type="text/plain")
    return Reply(404, text=_NOT_FOUND_PAGE, content_type="text/html")


def _failure(error: ApiError) -> Reply:
    return Reply(error.status, error.body, headers=error.headers)


def _response(reply: Reply) -> Response:
    if reply.text is not None:
        response = Response(reply.text, reply.status, content_type=reply.content_type)
    elif reply.body is not None:
        response = Response(msgspec.json.encode(reply.body), reply.status, content_type=reply.content_type)
    else:
        response = Response(b"", reply.status)
        del response.headers["content-type"]
    response.headers.update(reply.headers)
    return response


def _shown_path(request: Request) -> str:
    """For the log: what was sent, still percent-encoded, so that it stays one line."""
    return ascii(request.scope["raw_path"].decode("latin-1"))
