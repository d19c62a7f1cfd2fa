"""`GET /sessions_count`: how many sessions there are, as a bare number.

Invariant: sessions that have ended are not remembered, so `since` changes nothing.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from trio_broker.api.context import Api
from trio_broker.api.formats import milliseconds
from trio_broker.api.routes import Documented, Reply, Routes

routes = Routes("Clients")


class SinceQuery(Struct):
    since: Annotated[
        str, Meta(description="Seconds since the epoch or an RFC 3339 time; sessions that have ended are not counted")
    ] = "0"


@routes.get(
    "/sessions_count",
    "Count sessions",
    answers=[Documented(200, "The number of sessions, connected or not", content_type="text/plain")],
)
async def sessions_count(api: Api, query: SinceQuery) -> Reply:
    milliseconds("since", query.since)
    return Reply(200, text=str(await api.questions.sessions_count()), content_type="text/plain")
