"""What the tests of EMQ 2's generation have in common: its application with settings, and the shape of an answer.

Invariant: nothing here waits for the wall clock.
"""

from __future__ import annotations

from typing import Any

import httpx
from api.live import Live
from api.older import BOSS

from trio_broker.api.app import WebApp, make_older_app

NODE = "trio_broker@127.0.0.1"


def app_of(live: Live, **settings: Any) -> WebApp:
    return make_older_app("v2", live.broker.questions, **{"started": lambda: True, **settings})


def client_of(app: WebApp, address: str = "127.0.0.1", base: str = "/api/v2") -> httpx.AsyncClient:
    """A client that comes from there, as the dashboard user `boss`."""
    transport = httpx.ASGITransport(app=app, client=(address, 1))  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url=f"http://broker{base}", auth=BOSS)


def shape(value: Any) -> Any:
    """A JSON value with its types in the place of its texts and numbers; one element stands for all of a list."""
    match value:
        case dict():
            return {name: shape(one) for name, one in value.items()}
        case list():
            return [shape(one) for one in value[:1]]
        case _:
            return type(value)
