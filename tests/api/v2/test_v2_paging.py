"""EMQ 2's pages, which are the same for clients, sessions, subscriptions and routes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from api.live import Live, running
from api.older import older
from api.operations import shows
from trio.testing import MockClock

LISTS = ["/nodes/{}/clients", "/nodes/{}/sessions", "/node/{}/sessions", "/nodes/{}/subscriptions", "/routes"]
LARGE = 2**63 - 1


async def page(live: Live, v2: httpx.AsyncClient, path: str, query: str = "") -> tuple[list[int], list[Any]]:
    """The four numbers, and whom or what the rows are about."""
    answer = await v2.get(f"{path.format(live.broker.config.node.name)}?{query}")
    assert answer.status_code == 200, answer.text
    shown = answer.json()["result"]
    assert list(shown) == ["current_page", "page_size", "total_num", "total_page", "objects"]
    *numbers, objects = shown.values()
    name = "topic" if path == "/routes" else "client_id"
    return numbers, [row[name][-1] for row in objects]


@shows(
    "GET /api/v2/nodes/:node/clients",
    "GET /api/v2/nodes/:node/sessions",
    "GET /api/v2/node/:node/sessions",
    "GET /api/v2/nodes/:node/subscriptions",
    "GET /api/v2/routes",
)
@pytest.mark.parametrize("path", LISTS)
async def test_pages(autojump_clock: MockClock, path: str) -> None:
    async with running() as live, older(live, "v2") as v2:
        for number in range(5):
            client = await live.connect(f"c{number}")
            await client.subscribe(f"t/{number}")
        pages: dict[str, tuple[list[int], list[str]]] = {
            "": ([1, 20, 5, 1], ["0", "1", "2", "3", "4"]),
            "other=x": ([1, 20, 5, 1], ["0", "1", "2", "3", "4"]),
            "page_size=5": ([1, 5, 5, 1], ["0", "1", "2", "3", "4"]),
            "page_size=2": ([1, 2, 5, 3], ["0", "1"]),
            "curr_page=2&page_size=2": ([2, 2, 5, 3], ["2", "3"]),
            "page_size=2&curr_page=3": ([3, 2, 5, 3], ["4"]),
            "page_size=2&curr_page=4": ([4, 2, 5, 3], []),
            "curr_page=2": ([2, 20, 5, 1], []),
            "curr_page=0&page_size=2": ([0, 2, 5, 3], ["0", "1"]),
            "curr_page=-7&page_size=1": ([-7, 1, 5, 5], ["0"]),
            "page_size=100000": ([1, 100_000, 5, 1], ["0", "1", "2", "3", "4"]),
            f"page_size={LARGE}": ([1, LARGE, 5, 1], ["0", "1", "2", "3", "4"]),
            f"curr_page={LARGE}&page_size={LARGE}": ([LARGE, LARGE, 5, 1], []),
            "curr_page=1&curr_page=3&page_size=4": ([1, 4, 5, 2], ["0", "1", "2", "3"]),
        }
        for query, expected in pages.items():
            assert (query, await page(live, v2, path, query)) == (query, expected)


@shows(
    "GET /api/v2/nodes/:node/clients",
    "GET /api/v2/nodes/:node/sessions",
    "GET /api/v2/node/:node/sessions",
    "GET /api/v2/nodes/:node/subscriptions",
    "GET /api/v2/routes",
)
@pytest.mark.parametrize("path", LISTS)
async def test_nothing_has_no_pages(autojump_clock: MockClock, path: str) -> None:
    async with running() as live, older(live, "v2") as v2:
        assert await page(live, v2, path) == ([1, 20, 0, 0], [])
        assert await page(live, v2, path, "curr_page=3&page_size=7") == ([3, 7, 0, 0], [])


@shows(
    "GET /api/v2/nodes/:node/clients",
    "GET /api/v2/nodes/:node/sessions",
    "GET /api/v2/node/:node/sessions",
    "GET /api/v2/nodes/:node/subscriptions",
    "GET /api/v2/routes",
)
@pytest.mark.parametrize("path", LISTS)
async def test_what_is_no_page(autojump_clock: MockClock, path: str) -> None:
    async with running() as live, older(live, "v2") as v2:
        node = live.broker.config.node.name
        for query in (
            "curr_page=x",
            "curr_page=",
            "curr_page=1.5",
            f"curr_page={LARGE + 1}",
            "page_size=x",
            "page_size=",
            "page_size=0",
            "page_size=-1",
            f"page_size={'9' * 5000}",
        ):
            answer = await v2.get(f"{path.format(node)}?{query}")
            assert (query, answer.status_code, answer.content) == (query, 404, b"")
            assert answer.headers["content-type"].startswith("text/plain")
