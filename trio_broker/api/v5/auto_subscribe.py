"""`/mqtt/auto_subscribe`: what each client is subscribed to when it connects.

Invariant: the list is replaced as a whole; who is connected keeps what it has.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct, to_builtins

from trio_broker.api.context import Api
from trio_broker.api.failures import Failure
from trio_broker.api.routes import Routes
from trio_broker.api.updates import OVERRIDDEN, change

routes = Routes("MQTT")

LIMIT: Final = 20
TOO_MANY: Final = Failure(409, "EXCEED_LIMIT", f"Max auto subscribe topic count is {LIMIT}")


class AutoSubscribeTopic(Struct, kw_only=True, forbid_unknown_fields=True):
    topic: str
    qos: Annotated[int, Meta(ge=0, le=2)] = 0
    rh: Annotated[int, Meta(ge=0, le=2)] = 0
    rap: Annotated[int, Meta(ge=0, le=1)] = 0
    nl: Annotated[int, Meta(ge=0, le=1)] = 0


@routes.get("/mqtt/auto_subscribe", "List auto subscribe topics")
async def list_topics(api: Api) -> list[AutoSubscribeTopic]:
    return [
        AutoSubscribeTopic(topic=topic.topic, qos=topic.qos, rh=topic.rh, rap=topic.rap, nl=topic.nl)
        for topic in api.questions.settings.config.auto_subscribe.topics
    ]


@routes.put("/mqtt/auto_subscribe", "Replace the auto subscribe topics", failures=[TOO_MANY, OVERRIDDEN])
async def replace_topics(api: Api, body: list[AutoSubscribeTopic]) -> list[AutoSubscribeTopic]:
    if len(body) > LIMIT:
        raise TOO_MANY.error()
    await change(api, {"auto_subscribe": {"topics": to_builtins(body)}}, "auto_subscribe.topics")
    return await list_topics(api)
