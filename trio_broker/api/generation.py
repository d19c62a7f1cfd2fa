"""What one generation of the API decides for itself: its paths, credentials, parameters, and the form of answers.

Invariant: a generation asks the same `Questions` as the others, and knows nothing of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

import trio
from quart import Request
from werkzeug.exceptions import RequestEntityTooLarge, RequestTimeout

from trio_broker.actors.api_keys import Role
from trio_broker.api.context import Api, Caller
from trio_broker.api.failures import ApiError
from trio_broker.api.routes import Found, Reply, Route

__all__ = [
    "LARGEST_BODY",
    "LARGEST_OF_STRANGERS",
    "SLOWEST_BODY",
    "Generation",
    "address_of",
    "is_own",
    "path_of",
    "read",
]

LARGEST_BODY: Final = 16 * 1024 * 1024
"""Bytes of a request body."""
LARGEST_OF_STRANGERS: Final = 64 * 1024
"""The same where no credentials are needed."""
SLOWEST_BODY: Final = 30
"""Seconds a request body may take."""


class Generation(ABC):
    """`cors` and `api_docs` may be changed while it serves."""

    def __init__(self, api: Api, *, cors: bool = False, api_docs: bool = True) -> None:
        self.api = api
        self.cors = cors
        self.api_docs = api_docs

    @abstractmethod
    async def answer(self, request: Request) -> Reply:
        """What was asked for. Raises ApiError, and whatever the questions raise."""

    def preflight(self, request: Request, found: Found) -> Reply | None:
        """What a browser asks before a call from a page of another origin [Fetch section 3.2]; without credentials."""
        asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if not self.cors or not asks:
            return None
        methods = ", ".join(sorted(found.routes))
        allowed = {
            "access-control-allow-methods": methods,
            "access-control-allow-headers": "authorization, content-type",
        }
        return Reply(204, headers=allowed)

    @abstractmethod
    def failure(self, error: ApiError) -> Reply:
        """How this generation says that."""


def is_own(route: Route, found: Found, caller: Caller) -> bool:
    """Where `route` has a part of the path for the caller: is it the caller's, or the caller an administrator?"""
    if route.own is None or caller.role is Role.ADMINISTRATOR:
        return True
    return found.values[route.path_names.index(route.own)] == caller.username


def path_of(request: Request) -> bytes:
    """As it was sent, still percent-encoded, without the query."""
    path: bytes = request.scope["raw_path"].partition(b"?")[0]
    return path


def address_of(request: Request) -> str:
    """Where it came from; "" where that has no address."""
    client = request.scope.get("client")
    return client[0] if client else ""


async def read(request: Request, caller: Caller) -> bytes:
    """The body. Raises RequestEntityTooLarge, RequestTimeout."""
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
