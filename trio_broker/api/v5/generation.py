"""How EMQX 5 is spoken: errors by HTTP status, `{"code", "message"}` in their bodies, strict parameters.

Invariant: the order is: path (404), method (405), credentials and role (401, 403), body and parameters (415, 400),
then the handler.
"""

from __future__ import annotations

from typing import Any, Final

from quart import Request

from trio_broker.api.access import authorize
from trio_broker.api.bodies import is_special, read_body
from trio_broker.api.context import Api, Caller
from trio_broker.api.documents import documents
from trio_broker.api.failures import CROSS_SITE, NOT_FOUND, NOT_JSON, USER_TOO_WEAK, ApiError
from trio_broker.api.generation import Generation, address_of, is_own, path_of, read
from trio_broker.api.routes import Found, Reply, Route, Router
from trio_broker.api.v5 import BASE_PATH, ROUTES
from trio_broker.api.v5.dialect import DIALECT
from trio_broker.api.validation import parse_body, parse_query

JSON: Final = "application/json"

_NOT_FOUND_PAGE: Final = (
    "<!DOCTYPE html><html><head><title>404 Not Found</title></head>"
    "<body><h1>404 Not Found</h1><p>There is nothing at this path.</p></body></html>"
)


class GenerationFive(Generation):
    """`/api/v5`, `/status` and `/api-docs`."""

    def __init__(self, api: Api, *, cors: bool = False, api_docs: bool = True) -> None:
        super().__init__(api, cors=cors, api_docs=api_docs)
        self._router = Router()
        for route in ROUTES:
            self._router.add(BASE_PATH + route.path, route)
            if route.path == "/status":
                self._router.add(route.path, route)
        self._documents = documents(ROUTES, BASE_PATH, api.level, DIALECT)
        for route in self._documents:
            self._router.add(route.path, route)

    async def answer(self, request: Request) -> Reply:
        found = self._router.find(path_of(request))
        if found is None or (not self.api_docs and found.routes.get("GET") in self._documents):
            return _unknown_path(request.headers.get("Accept", ""))
        route = found.routes.get(request.method)
        if route is None:
            if (preflight := self.preflight(request, found)) is not None:
                return preflight
            return Reply(405, headers={"allow": ", ".join(sorted(found.routes))})
        caller = await self._caller(request, route, found)
        if not self.cors and route.method != "GET" and request.headers.get("Sec-Fetch-Site") == "cross-site":
            raise CROSS_SITE.error()  # a browser sends the credentials that it was once given to whoever asks for it
        raw = b""
        if route.body is not None:
            raw = await read(request, caller)
            # It may have taken its time, and what was shown may be void by now.
            caller = await self._caller(request, route, found)
        result = await route.handler(self.api, **_arguments(request, route, found, caller, raw))
        if isinstance(result, Reply):
            return result
        return Reply(204) if result is None else Reply(200, result)

    async def _caller(self, request: Request, route: Route, found: Found) -> Caller:
        """401 or 403 where it is not somebody who may do that."""
        closed = route.closed is not None and route.closed(self.api)
        header = request.headers.get("Authorization")
        caller = await authorize(self.api, route, header, address_of(request), closed)
        if not is_own(route, found, caller):
            raise USER_TOO_WEAK.error()
        return caller

    def failure(self, error: ApiError) -> Reply:
        return Reply(error.status, error.body, headers=error.headers)


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


def _unknown_path(accept: str) -> Reply:
    if accept.startswith(JSON):
        error = NOT_FOUND.error()
        return Reply(error.status, error.body)
    if accept.startswith("text/plain"):
        return Reply(404, text="404 - NOT FOUND", content_type="text/plain")
    return Reply(404, text=_NOT_FOUND_PAGE, content_type="text/html")
