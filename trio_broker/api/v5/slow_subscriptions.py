"""`/slow_subscriptions`: which clients take long to get messages or to acknowledge them, and the settings of the list.

Invariant: the slowest comes first; there is one line for each client and topic.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from trio_broker.api.context import Api
from trio_broker.api.paging import Paging
from trio_broker.api.routes import Routes
from trio_broker.api.updates import OVERRIDDEN, change
from trio_broker.config import to_dict

routes = Routes("Slow Subscriptions")

Period = Annotated[str | int, Meta(description='A duration such as "500ms" or "5m", or milliseconds')]


class SlowSubscription(Struct, kw_only=True):
    clientid: str
    node: str
    topic: str
    timespan: Annotated[int, Meta(description="Milliseconds")]
    last_update_time: Annotated[int, Meta(description="Milliseconds since the epoch")]


class SlowSubscriptions(Struct, kw_only=True):
    data: list[SlowSubscription]


class SlowSettings(Struct, kw_only=True, forbid_unknown_fields=True):
    enable: bool = False
    threshold: Period = "500ms"
    expire_interval: Period = "300s"
    top_k_num: Annotated[int, Meta(ge=1, le=1000)] = 10
    stats_type: Literal["whole", "internal", "response"] = "whole"


@routes.get("/slow_subscriptions", "List the slowest subscriptions")
async def list_slow(api: Api, query: Paging) -> SlowSubscriptions:
    """The whole list, whatever page is asked for."""
    return SlowSubscriptions(
        data=[
            SlowSubscription(
                clientid=row.client_id,
                node=api.node_name,
                topic=row.topic_name,
                timespan=row.timespan,
                last_update_time=row.last_update_time,
            )
            for row in api.questions.slow_subscriptions.rows()
        ]
    )


@routes.delete("/slow_subscriptions", "Clear the list")
async def clear_slow(api: Api) -> None:
    api.questions.slow_subscriptions.clear()


@routes.get("/slow_subscriptions/settings", "Settings of the list")
async def slow_settings(api: Api) -> SlowSettings:
    return msgspec.convert(to_dict(api.questions.settings.config)["slow_subs"], SlowSettings)


@routes.put("/slow_subscriptions/settings", "Change the settings of the list", failures=[OVERRIDDEN])
async def change_slow_settings(api: Api, body: SlowSettings) -> SlowSettings:
    await change(api, {"slow_subs": msgspec.to_builtins(body)}, "slow_subs")
    return await slow_settings(api)
