"""How EMQX 4 is spoken: Basic credentials of an application, query and body in one, `{"code": 0, "data": …}`.

Invariant: credentials come before everything else (401, also for unknown paths), then the path and method (404), the
body (109), the parameters (107, 108), the handler.

Who shows a dashboard user's name and password is where EMQX 4 has its port 18083, and may manage applications and
users; who shows an application is at port 8081, where these are not found.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from quart import Request

from trio_broker.actors.dashboard_users import LoginLocked, WrongPassword
from trio_broker.api.access import basic_credentials, may
from trio_broker.api.context import Api, Caller
from trio_broker.api.documents import documents
from trio_broker.api.failures import CROSS_SITE, ROLE_TOO_WEAK, UNAVAILABLE, ApiError
from trio_broker.api.generation import Generation, address_of, is_own, path_of, read
from trio_broker.api.routes import EVERYBODY, VIEWERS, Found, Reply, Route, Router
from trio_broker.api.v4 import BASE_PATH, CLOUD_PATH, ROUTES
from trio_broker.api.v4.dialect import DIALECT
from trio_broker.api.v4.envelope import BAD_PARAMETER, NOT_JSON, UNKNOWN_ERROR
from trio_broker.api.v4.parameters import Parameters, converted
from trio_broker.api.v4.status import catalogue, health

LEVEL: Final = "4.4.19"
"""The release of EMQX 4 to be taken for."""

_PLAIN: Final = "text/plain"
_UNAUTHORIZED: Final = Reply(
    401, text="UNAUTHORIZED", content_type=_PLAIN, headers={"www-authenticate": 'Basic Realm="minirest-server"'}
)
_NOT_FOUND: Final = Reply(404, text="Not found.", content_type=_PLAIN)
_BAD_REQUEST: Final = Reply(400, text="Bad Request", content_type=_PLAIN)


class GenerationFour(Generation):
    """`/api/v4`, `/status` and `/api-docs`; with `cloud` the same paths under `/api`, too."""

    def __init__(self, api: Api, *, cors: bool = False, api_docs: bool = True, cloud: bool = False) -> None:
        super().__init__(api, cors=cors, api_docs=api_docs)
        self._router = Router(empty=False)
        self._catalogue = catalogue(ROUTES)
        for route in (*ROUTES, self._catalogue):
            for base in (BASE_PATH, CLOUD_PATH) if cloud else (BASE_PATH,):
                self._router.add(base + route.path, route)
        self._documents = documents(ROUTES, BASE_PATH, LEVEL, DIALECT)
        for route in (health(), *self._documents):
            self._router.add(route.path, route)

    async def answer(self, request: Request) -> Reply:
        found = self._find(path_of(request))
        route = None if found is None else found.routes.get(request.method)
        if route in self._documents and not self.api_docs:
            found = route = None
        if found is not None and route is None and (preflight := self.preflight(request, found)) is not None:
            return preflight
        caller = await self._caller(request, route)
        if caller is None:
            return _UNAUTHORIZED
        if found is None or route is None or (route.tokens_only and caller.username is None):
            at_base = found is not None and found.routes.get("GET") is self._catalogue
            return _BAD_REQUEST if at_base else _NOT_FOUND
        self._check(route, found, caller)
        if not self.cors and route.method != "GET" and request.headers.get("Sec-Fetch-Site") == "cross-site":
            raise CROSS_SITE.error()
        raw = await read(request, caller)
        if caller.role is not None:
            # It may have taken its time, and what was shown may be void by now.
            caller = await self._caller(request, route)
            if caller is None:
                return _UNAUTHORIZED
            self._check(route, found, caller)
        result = await route.handler(self.api, **_arguments(request, route, found, caller, raw))
        return result if isinstance(result, Reply) else Reply(200, result)

    def _find(self, raw_path: bytes) -> Found | None:
        try:
            return self._router.find(raw_path)
        except ApiError:
            return None  # it is not UTF-8

    def _check(self, route: Route, found: Found, caller: Caller) -> None:
        """403 for who may not call it."""
        if caller.role is not None and not (may(caller.role, self._access(route)) and is_own(route, found, caller)):
            raise ROLE_TOO_WEAK.error()

    async def _caller(self, request: Request, route: Route | None) -> Caller | None:
        """None: whoever it is, it is nobody we know."""
        address = address_of(request)
        if route is not None and self._access(route) == EVERYBODY:
            return Caller(None, address)
        shown = basic_credentials(request.headers.get("Authorization"))
        if shown is None:
            return None
        keys, users = self.api.questions.api_keys, self.api.questions.dashboard_users
        was_slow = keys.is_slow(*shown, address)
        role = await keys.check(*shown, address)
        if role is not None:
            return Caller(role, address)
        # A refusal costs one slow hash, so that the time does not tell which applications there are.
        if was_slow and users.get(shown[0]) is None:
            return None
        try:
            user = await users.recognize(*shown, address)
        except WrongPassword:
            return None
        except LoginLocked:
            if not was_slow:
                await users.refuse_slowly(shown[1], address)
            return None
        return Caller(user.role, address, user.username)

    def _access(self, route: Route) -> str:
        """For whom it is now."""
        return VIEWERS if route.closed is not None and route.closed(self.api) else route.access

    def failure(self, error: ApiError) -> Reply:
        """Those of v5, which the parts that all generations share raise, in the words of this one."""
        body: Any = error.body
        if isinstance(body, dict) and (error.status == 200 or isinstance(body.get("code"), int)):
            return Reply(error.status, body, headers=error.headers)
        message = body.get("message", "") if isinstance(body, dict) else ""
        if error.status == UNAVAILABLE.status or error.status in (403, 408, 413):
            return Reply(error.status, {"code": UNKNOWN_ERROR.code, "message": message}, headers=error.headers)
        if error.status == 404:
            return _NOT_FOUND  # a node that is not there
        if error.status >= 500:
            return Reply(500, text="Internal Error", content_type=_PLAIN)
        return Reply(200, {"code": BAD_PARAMETER.code, "message": message})


def _arguments(request: Request, route: Route, found: Found, caller: Caller, raw: bytes) -> dict[str, Any]:
    """For the handler: what is in the path, and `params` (all of them as they are) or `query` (typed)."""
    arguments: dict[str, Any] = dict(zip(route.path_names, found.values, strict=True))
    wanted = route.handler.__annotations__
    body: Any = {}
    if raw.strip():
        try:
            body = msgspec.json.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise NOT_JSON.error() from None
    if "caller" in wanted:
        arguments["caller"] = caller
    if "params" in wanted or "query" in wanted:
        params = Parameters(body, parse_qsl(request.query_string.decode("utf-8", "replace"), keep_blank_values=True))
        if "params" in wanted:
            arguments["params"] = params
        if "query" in wanted:
            arguments["query"] = converted(params, route.query)
    return arguments
