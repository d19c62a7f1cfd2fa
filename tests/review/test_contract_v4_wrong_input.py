"""The contract of `/api/v4`, read afresh: whatever comes in, the answer has a form that the contract knows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from api.operations import shows
from review.contract import words
from review.doors_v4 import NODE, doors, got
from trio.testing import MockClock

OTHERS = ("/auth_", "/acl", "/clients", "/subscriptions", "/routes", "/banned", "/mqtt")
SEGMENTS = ["%FF", "%00", "x" * 5000, "%2F", "%2E%2E", "%C3%A4", "%25", "$all", "+"]
NAMES = words("""
topic name type clientid ip_address start_at end_at app_id secret desc status expired username password tags
old_pwd new_pwd filename file node enabled position bytes _page _limit
""")
VALUES: list[Any] = ["", "x", "\0", 0, -1, 10**30, 1.5, True, None, [], {}, [{}], "ä" * 300, "/", "../x"]


def paths(path: str) -> Iterator[str]:
    """The path with all kinds of names in it."""
    for value in SEGMENTS if ":" in path.replace(":node", "") else SEGMENTS[:1]:
        parts = [NODE if part == ":node" else value if part.startswith(":") else part for part in path.split("/")]
        yield "/".join(parts)


@shows("GET /api/v4/brokers", "POST /api/v4/trace", "POST /api/v4/apps", "POST /api/v4/data/import")
async def test_no_input_is_too_much(autojump_clock: MockClock) -> None:
    async with doors() as at:
        rows = [row for row in await got(at.user, "") if not row["path"].startswith(OTHERS)]
        assert len(rows) > 60
        for row in rows:
            for path in paths(row["path"]):
                answer = await at.user.request(row["method"], path)
                assert answer.status_code in (200, 403, 404), (row, path)
            for value in VALUES:
                answer = await at.user.request(row["method"], path, json=dict.fromkeys(NAMES, value))
                assert answer.status_code in (200, 403, 404), (row, value)
                if isinstance(value, str | int):
                    answer = await at.user.request(row["method"], path, params=dict.fromkeys(NAMES, str(value)))
                    assert answer.status_code in (200, 403, 404), (row, value)
                if answer.status_code == 200 and answer.headers["content-type"] == "application/json":
                    found = answer.json()
                    assert ("message" in found) != (found.get("code", 0) == 0), (row, value)
