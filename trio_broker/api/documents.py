"""`/api-docs`: the OpenAPI document of a generation and a page that reads it. No credentials, no network beyond this
server.

Invariant: both are made of what is served here, nothing is fetched from elsewhere; each is made once, as anybody may
ask for them as often as they like.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

import msgspec

from trio_broker.api.context import Api
from trio_broker.api.dialect import Dialect
from trio_broker.api.openapi import document
from trio_broker.api.routes import EVERYBODY, Reply, Route, Routes

_PAGE_POLICY: Final = (
    "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def documents(served: tuple[Route, ...], base_path: str, version: str, dialect: Dialect) -> tuple[Route, ...]:
    """The two routes for what is served under `base_path`."""
    routes = Routes("Documents")

    @cache
    def text() -> str:
        return msgspec.json.encode(document(served, base_path, dialect, version=version)).decode()

    @routes.get("/api-docs/swagger.json", "The OpenAPI document", access=EVERYBODY)
    async def swagger(api: Api) -> Reply:
        return Reply(200, text=text())

    @routes.get("/api-docs/index.html", "A page to read the document and to try calls", access=EVERYBODY)
    async def page(api: Api) -> Reply:
        headers = {"content-security-policy": _PAGE_POLICY, "x-content-type-options": "nosniff"}
        return Reply(200, text=_page(), content_type="text/html; charset=utf-8", headers=headers)

    return tuple(routes.all)


@cache
def _page() -> str:
    return files("trio_broker.api").joinpath("pages/index.html").read_text(encoding="utf-8")
