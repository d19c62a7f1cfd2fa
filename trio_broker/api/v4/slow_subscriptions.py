"""`/slow_subscriptions`: which clients take long to get messages, or to acknowledge them.

Invariant: the slowest comes first; there is one line for each client and topic. What EMQX 4 has as a module is switched
on by `slow_subs.enable`.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from trio_broker.api.context import Api
from trio_broker.api.routes import Routes
from trio_broker.api.v4.envelope import UNKNOWN_ERROR, Data, Done

routes = Routes("Slow subscriptions")


class SlowSubscription(Struct, kw_only=True):
    clientid: str
    node: str
    topic: str
    timespan: Annotated[int, Meta(description="Milliseconds")]
    last_update_time: Annotated[int, Meta(description="Milliseconds since the epoch")]


@routes.get("/slow_subscriptions", "List the slowest subscriptions", failures=[UNKNOWN_ERROR])
async def list_slow(api: Api) -> Data[list[SlowSubscription]]:
    _check(api)
    rows = api.questions.slow_subscriptions.rows()
    return Data(
        [
            SlowSubscription(
                clientid=row.client_id,
                node=api.node_name,
                topic=row.topic_name,
                timespan=row.timespan,
                last_update_time=row.last_update_time,
            )
            for row in rows
        ]
    )


@routes.delete("/slow_subscriptions", "Clear the list", failures=[UNKNOWN_ERROR])
async def clear_slow(api: Api) -> Done:
    _check(api)
    api.questions.slow_subscriptions.clear()
    return Done()


def _check(api: Api) -> None:
    if not api.questions.settings.config.slow_subs.enable:
        raise UNKNOWN_ERROR.error("module_not_loaded")
