"""`/mqtt/topic_metrics`: counts and rates of single topics.

Invariant: which topics are counted is kept; what was counted is not.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from trio_broker.actors.topic_metrics import BadTopic, TooMany, TopicFigures
from trio_broker.api.context import Api
from trio_broker.api.failures import BAD_REQUEST, Failure
from trio_broker.api.formats import rfc3339_ms
from trio_broker.api.routes import Routes
from trio_broker.api.topic_figures import Figures, figures_of
from trio_broker.api.updates import OVERRIDDEN, as_text, refusals

routes = Routes("MQTT")

BAD_TOPIC: Final = Failure(400, "BAD_TOPIC", "Topic already registered, or with wildcards")
EXCEED_LIMIT: Final = Failure(409, "EXCEED_LIMIT", "Max topic metrics count is 512")
TOPIC_NOT_FOUND: Final = Failure(404, "TOPIC_NOT_FOUND", "Topic not found")


class NewTopic(Struct, kw_only=True, forbid_unknown_fields=True):
    topic: Annotated[str, Meta(description="Topic name, without wildcards")]


class Reset(Struct, kw_only=True, forbid_unknown_fields=True):
    action: Literal["reset"]
    topic: Annotated[str, Meta(description="Absent: all of them")] | UnsetType = UNSET


class TopicMetric(Struct, kw_only=True):
    topic: str
    create_time: str
    metrics: Figures  # type: ignore[valid-type]


@routes.get("/mqtt/topic_metrics", "Counts and rates of the topics that are registered")
async def list_topic_metrics(api: Api) -> list[TopicMetric]:
    return [_shown(figures) for figures in api.questions.topic_metrics.all()]


@routes.post(
    "/mqtt/topic_metrics",
    "Register a topic, so that its messages are counted",
    failures=[BAD_REQUEST, BAD_TOPIC, EXCEED_LIMIT, OVERRIDDEN],
)
async def register_topic(api: Api, body: NewTopic) -> TopicMetric:
    if not body.topic:
        raise BAD_REQUEST.error("Topic can not be empty")
    topic_metrics = api.questions.topic_metrics
    try:
        with refusals(as_text(BAD_REQUEST)):
            await topic_metrics.register(body.topic)
    except BadTopic as error:
        raise BAD_TOPIC.error(str(error)) from None
    except TooMany as error:
        raise EXCEED_LIMIT.error(str(error)) from None
    return _found(topic_metrics.get(body.topic))


@routes.put("/mqtt/topic_metrics", "Set the counts of one or all topics to 0", failures=[TOPIC_NOT_FOUND])
async def reset_topic_metrics(api: Api, body: Reset) -> TopicMetric | list[TopicMetric]:
    topic_metrics = api.questions.topic_metrics
    topic = None if body.topic is UNSET else body.topic
    if not topic_metrics.reset(topic):
        raise TOPIC_NOT_FOUND.error()
    return await list_topic_metrics(api) if topic is None else _found(topic_metrics.get(topic))


@routes.get("/mqtt/topic_metrics/:topic", "Counts and rates of one topic", failures=[TOPIC_NOT_FOUND])
async def one_topic_metric(api: Api, topic: str) -> TopicMetric:
    return _found(api.questions.topic_metrics.get(topic))


@routes.delete("/mqtt/topic_metrics/:topic", "Count a topic no more", failures=[TOPIC_NOT_FOUND, OVERRIDDEN])
async def deregister_topic(api: Api, topic: str) -> None:
    with refusals(as_text(BAD_REQUEST)):
        if not await api.questions.topic_metrics.deregister(topic):
            raise TOPIC_NOT_FOUND.error()


def _found(figures: TopicFigures | None) -> TopicMetric:
    if figures is None:
        raise TOPIC_NOT_FOUND.error()
    return _shown(figures)


def _shown(figures: TopicFigures) -> TopicMetric:
    return TopicMetric(topic=figures.topic, create_time=rfc3339_ms(figures.created_at), metrics=figures_of(figures))
