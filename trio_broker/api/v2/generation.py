"""How EMQ 2 is spoken: Basic credentials of a dashboard user, `{"code": 0, "result": …}`, errors within a 200.

Invariant: the order is: path and method (404), credentials (401) and role (403), the body (109), what is missing in it
(107), what has a wrong type (108), the handler; nothing else has another status than 200 and 404, but for what the
server cannot take (403, 408, 413, 503).
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from quart import Request

from trio_broker.actors.dashboard_users import LoginLocked, WrongPassword
from trio_broker.api.access import basic_credentials, may
from trio_broker.api.context import UNKNOWN_NODE, Api, Caller
from trio_broker.api.documents import documents
from trio_broker.api.failures import CROSS_SITE, UNAVAILABLE, USER_TOO_WEAK, ApiError
from trio_broker.api.generation import Generation, address_of, is_own, path_of, read
from trio_broker.api.routes import EVERYBODY, Found, Reply, Route, Router
from trio_broker.api.v2 import BASE_PATH, ROUTES
from trio_broker.api.v2.dialect import DIALECT
from trio_broker.api.v2.envelope import BAD_RPC, MISSING_PARAMETER, NOT_JSON, UNKNOWN_ERROR, WRONG_TYPE
from trio_broker.api.v2.status import outside

LEVEL: Final = "2.3.11"
"""The release of EMQ to be taken for."""

_PLAIN: Final = "text/plain"
_NUMBER: Final = re.compile(r"-?[0-9]+")
_UNAUTHORIZED: Final = Reply(401, headers={"www-authenticate": 'Basic Realm="emqx control center"'})
_NOT_FOUND: Final = Reply(404, text="", content_type=_PLAIN)


class GenerationTwo(Generation):
    """`/api/v2`, `/status`, the list of paths at `/`, and `/api-docs`."""

    def __init__(self, api: Api, *, cors: bool = False, api_docs: bool = True) -> None:
        super().__init__(api, cors=cors, api_docs=api_docs)
        self._router = Router(several=True)
        for route in ROUTES:
            self._router.add(BASE_PATH + route.path, route)
        self._documents = documents(ROUTES, BASE_PATH, LEVEL, DIALECT)
        for route in (*outside(ROUTES, BASE_PATH), *self._documents):
            self._router.add(route.path, route)

    async def answer(self, request: Request) -> Reply:
        method = None if request.method == "OPTIONS" else request.method
        found = self._router.find(path_of(request), method)
        route = None if found is None else found.routes.get(request.method)
        if found is not None and route is None and (preflight := self.preflight(request, found)) is not None:
            return preflight
        if found is None or route is None or (route in self._documents and not self.api_docs):
            return _NOT_FOUND
        caller = await self._caller(request, route, found)
        if caller is None:
            return _UNAUTHORIZED
        if not self.cors and route.method != "GET" and request.headers.get("Sec-Fetch-Site") == "cross-site":
            raise CROSS_SITE.error()
        raw = b""
        if route.body is not None:
            raw = await read(request, caller)
            # It may have taken its time, and what was shown may be void by now.
            caller = await self._caller(request, route, found)
            if caller is None:
                return _UNAUTHORIZED
        try:
            arguments = _arguments(request, route, found, caller, raw)
        except _BadQuery:
            return _NOT_FOUND
        result = await route.handler(self.api, **arguments)
        return result if isinstance(result, Reply) else Reply(200, result)

    async def _caller(self, request: Request, route: Route, found: Found) -> Caller | None:
        """None: whoever it is, it is nobody we know. 403 for somebody who may not do that."""
        address = address_of(request)
        if route.access == EVERYBODY:
            return Caller(None, address)
        shown = basic_credentials(request.headers.get("Authorization"))
        if shown is None:
            return None
        try:
            user = await self.api.questions.dashboard_users.recognize(*shown, address)
        except (WrongPassword, LoginLocked):
            return None
        caller = Caller(user.role, address, user.username)
        if not may(user.role, route.access) or not is_own(route, found, caller):
            raise USER_TOO_WEAK.error()
        return caller

    def failure(self, error: ApiError) -> Reply:
        """Those of v5, which the parts that all generations share raise, in the words of this one."""
        body: Any = error.body
        if isinstance(body, dict) and isinstance(body.get("code"), int):
            return Reply(error.status, body, headers=error.headers)
        if error.status == UNAVAILABLE.status or error.status in (403, 408, 413):
            message = body.get("message", "") if isinstance(body, dict) else ""
            return Reply(error.status, {"code": UNKNOWN_ERROR.code, "message": message}, headers=error.headers)
        if error.status == UNKNOWN_NODE.status:
            return Reply(200, BAD_RPC.error().body)  # a node that is not there cannot be asked
        return _NOT_FOUND


class _BadQuery(Exception):
    """What is in the query is not of its type."""


def _arguments(request: Request, route: Route, found: Found, caller: Caller, raw: bytes) -> dict[str, Any]:
    arguments: dict[str, Any] = dict(zip(route.path_names, found.values, strict=True))
    if route.body is not None:
        arguments["body"] = _body(raw, route.body)
    if route.query is not None:
        query = dict(reversed(parse_qsl(request.query_string.decode("latin-1"), keep_blank_values=True)))
        if any(name in query and not _NUMBER.fullmatch(query[name]) for name in route.query.__struct_encode_fields__):
            raise _BadQuery  # all that can be asked for are numbers; msgspec would take 1e3 for one, too
        try:
            arguments["query"] = msgspec.convert(query, route.query, strict=False)
        except msgspec.ValidationError:
            raise _BadQuery from None
    if "caller" in route.handler.__annotations__:
        arguments["caller"] = caller
    return arguments


def _body(raw: bytes, wanted: type[msgspec.Struct]) -> Any:
    """The JSON object `raw` as `wanted`, types as they are; 109, 107, 108, in this order."""
    try:
        document = msgspec.json.decode(raw) if raw.strip() else {}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise NOT_JSON.error() from None
    fields = msgspec.structs.fields(wanted)
    if not isinstance(document, dict) or any(one.required and one.encode_name not in document for one in fields):
        raise MISSING_PARAMETER.error()
    try:
        return msgspec.convert(document, wanted)
    except msgspec.ValidationError:
        raise WRONG_TYPE.error() from None
