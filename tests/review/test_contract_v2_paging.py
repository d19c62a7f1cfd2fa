"""The contract of `/api/v2`, read afresh: pages."""

from __future__ import annotations

import pytest
from api.live import Live
from api.operations import shows
from review.contract import NODE
from review.contract_v2 import NODES, PAGE, both, got, nowhere, shaped
from trio.testing import MockClock

LISTS = [f"{NODES}/clients", f"{NODES}/sessions", f"/node/{NODE}/sessions", f"{NODES}/subscriptions", "/routes"]
MANY = 57


async def fill(live: Live, number: int = MANY) -> None:
    for index in range(number):
        client = await live.connect(f"c{index}")
        await client.subscribe(f"t/{index}")


@shows(
    "GET /api/v2/nodes/:node/clients",
    "GET /api/v2/nodes/:node/sessions",
    "GET /api/v2/node/:node/sessions",
    "GET /api/v2/nodes/:node/subscriptions",
    "GET /api/v2/routes",
)
async def test_pages(autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        await fill(live)
        for path in LISTS:
            key = "topic" if path == "/routes" else "client_id"
            for size, pages in (
                (None, 3),
                (1, 57),
                (19, 3),
                (20, 3),
                (28, 3),
                (29, 2),
                (56, 2),
                (57, 1),
                (58, 1),
                (10**6, 1),
            ):
                query = {} if size is None else {"page_size": size}
                size = size or 20
                seen = []
                for number in range(1, pages + 1):
                    page = await got(v2, path, curr_page=number, **query)
                    shaped(page, PAGE)
                    rows = page.pop("objects")
                    assert len(rows) == min(size, MANY - (number - 1) * size)
                    assert page == {"current_page": number, "page_size": size, "total_num": MANY, "total_page": pages}
                    seen += [row[key] for row in rows]
                assert len(set(seen)) == len(seen) == MANY
                assert await got(v2, path, curr_page=pages + 1, **query) == {
                    "current_page": pages + 1,
                    "page_size": size,
                    "total_num": MANY,
                    "total_page": pages,
                    "objects": [],
                }


@shows(
    "GET /api/v2/nodes/:node/clients",
    "GET /api/v2/nodes/:node/sessions",
    "GET /api/v2/node/:node/sessions",
    "GET /api/v2/nodes/:node/subscriptions",
    "GET /api/v2/routes",
)
@pytest.mark.parametrize("path", LISTS)
async def test_corners_of_pages(path: str, autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        empty = {"current_page": 1, "page_size": 20, "total_num": 0, "total_page": 0, "objects": []}
        assert await got(v2, path) == empty
        assert await got(v2, path, curr_page=7, page_size=5) == {**empty, "current_page": 7, "page_size": 5}
        await fill(live, 3)
        first = await got(v2, path, page_size=2)
        assert (first["current_page"], len(first["objects"]), first["total_page"]) == (1, 2, 2)
        for number in (0, -1, -100):
            page = await got(v2, path, curr_page=number, page_size=2)
            assert page == {**first, "current_page": number}
        far = await got(v2, path, curr_page=10**9, page_size=10**9)
        assert far == {
            "current_page": 10**9,
            "page_size": 10**9,
            "total_num": 3,
            "total_page": 1,
            "objects": [],
        }
        assert await got(v2, path, more="x") == await got(v2, path, curr_page=1, page_size=20)


@shows(
    "GET /api/v2/nodes/:node/clients",
    "GET /api/v2/nodes/:node/sessions",
    "GET /api/v2/node/:node/sessions",
    "GET /api/v2/nodes/:node/subscriptions",
    "GET /api/v2/routes",
)
@pytest.mark.parametrize("path", LISTS)
async def test_no_pages(path: str, autojump_clock: MockClock) -> None:
    async with both() as (live, v2):
        await fill(live, 3)
        for key in ("curr_page", "page_size"):
            for text in ("x", "1x", "1.5", "", "0x1", "1_0", "\u0663", "true"):
                nowhere(await v2.get(path, params={key: text}))
        for text in ("0", "-0", "-1"):
            nowhere(await v2.get(path, params={"page_size": text}))
        for text in ("9" * 5000, "-" + "9" * 5000):
            answer = await v2.get(path, params={"curr_page": text})
            assert answer.status_code in (200, 404)


@shows(
    "GET /api/v2/nodes/:node/clients",
    "GET /api/v2/nodes/:node/sessions",
    "GET /api/v2/node/:node/sessions",
    "GET /api/v2/nodes/:node/subscriptions",
    "GET /api/v2/routes",
)
async def test_a_number_with_an_exponent_is_no_page(autojump_clock: MockClock) -> None:
    async with both() as (_, v2):
        for path in LISTS:
            for text in ("1e3", "1E0", "1.0"):
                nowhere(await v2.get(path, params={"curr_page": text}))
