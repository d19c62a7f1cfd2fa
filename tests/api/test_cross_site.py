"""What a browser sends by itself for a page of another site, with the credentials that it remembers."""

from __future__ import annotations

import httpx
import pytest
from api.live import ADMIN, running

from trio_broker.api.app import make_app

CALLS = [("POST", "/listeners/tcp:x/stop"), ("DELETE", "/banned"), ("PUT", "/mqtt/delayed"), ("POST", "/publish")]


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_another_site_changes_nothing(autojump_clock: object, method: str, path: str) -> None:
    async with running() as live:
        answer = await live.api.request(method, path, headers={"sec-fetch-site": "cross-site"})
        assert (answer.status_code, answer.json()["code"]) == (403, "NOT_ALLOWED")
        for site in ("same-origin", "same-site", "none"):
            answer = await live.api.request(method, path, headers={"sec-fetch-site": site})
            assert answer.status_code != 403
        answer = await live.api.get("/clients", headers={"sec-fetch-site": "cross-site"})
        assert answer.status_code == 200


async def test_other_sites_may_where_they_are_let(autojump_clock: object) -> None:
    async with running() as live:
        app = make_app(live.broker.questions, started=lambda: True, cors=True)
        transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://broker/api/v5", auth=ADMIN) as api:
            answer = await api.delete("/banned", headers={"sec-fetch-site": "cross-site"})
            assert answer.status_code == 204
