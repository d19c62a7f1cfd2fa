"""`/api-docs`: the OpenAPI document and a page that reads it. No credentials, no network beyond this server.

Invariant: both are made of what is served here, nothing is fetched from elsewhere; each is made once, as anybody may
ask for them as often as they like.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

import msgspec

from trio_broker.api import v5
from trio_broker.api.context import Api
from trio_broker.api.openapi import document
from trio_broker.api.routes import EVERYBODY, Reply, Routes

routes = Routes("Documents")

_PAGE_POLICY: Final = (
    "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@routes.get("/api-docs/swagger.json", "The OpenAPI document", access=EVERYBODY)
async def swagger(api: Api) -> Reply:
    return Reply(200, text=_document(api.level))


@routes.get("/api-docs/index.html", "A page to read the document and to try calls", access=EVERYBODY)
async def page(api: Api) -> Reply:
    headers = {"content-security-policy": _PAGE_POLICY, "x-content-type-options": "nosniff"}
    return Reply(200, text=_page(), content_type="text/html; charset=utf-8", headers=headers)


@cache
def _document(level: str) -> str:
    return msgspec.json.encode(document(v5.ROUTES, v5.BASE_PATH, version=level)).decode()


@cache
def _page() -> str:
    return files("trio_broker.api").joinpath("pages/index.html").read_text(encoding="utf-8")


ROUTES: Final = tuple(routes.all)
