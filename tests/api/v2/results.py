"""What EMQ 2's generation gives for a GET that goes well.

Invariant: nothing here waits for the wall clock.
"""

from __future__ import annotations

from typing import Any

import httpx


async def result(v2: httpx.AsyncClient, path: str) -> Any:
    answer = await v2.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json"), answer.text
    body = answer.json()
    assert list(body) == ["code", "result"]
    assert body["code"] == 0
    return body["result"]
