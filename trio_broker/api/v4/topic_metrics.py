"""`/topic-metrics`: counts and rates of single topics.

Invariant: which topics are counted is kept; what was counted is not.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from trio_broker.actors.topic_metrics import BadTopic, TooMany
from trio_broker.api.context import Api
from trio_broker.api.routes import Routes
from trio_broker.api.topic_figures import Figures, figures_of
from trio_broker.api.updates import as_text, refusals
from trio_broker.api.v4.envelope import BAD_TOPIC, MISSING_PARAMETER, UNKNOWN_ERROR, Data, Done

routes = Routes("Topic metrics")

_LONGEST: Final = 65_535
"""Bytes of a topic name."""


class NewTopic(Struct, kw_only=True):
    topic: str = ""


class TopicMetric(Struct, kw_only=True):
    topic: str
    metrics: Figures  # type: ignore[valid-type]


@routes.get("/topic-metrics", "Counts and rates of the topics that are registered")
async def list_topic_metrics(api: Api) -> Data[list[TopicMetric]]:
    figures = api.questions.topic_metrics.all()
    return Data([TopicMetric(topic=one.topic, metrics=figures_of(one)) for one in figures])


@routes.get("/topic-metrics/:topic", "Counts and rates of one topic", failures=[UNKNOWN_ERROR])
async def one_topic_metric(api: Api, topic: str) -> Data[Figures]:  # type: ignore[valid-type]
    figures = api.questions.topic_metrics.get(topic)
    if figures is None:
        raise UNKNOWN_ERROR.error("topic_not_found")
    return Data(figures_of(figures))


@routes.post("/topic-metrics", "Count the messages of a topic", failures=[BAD_TOPIC, UNKNOWN_ERROR])
async def register_topic(api: Api, query: NewTopic) -> Done:
    if not query.topic:
        raise MISSING_PARAMETER.error("missing_required_params")
    if "\0" in query.topic or len(query.topic.encode()) > _LONGEST:
        raise BAD_TOPIC.error("invalid_topic_name")
    topic_metrics = api.questions.topic_metrics
    try:
        with refusals(as_text(UNKNOWN_ERROR), UNKNOWN_ERROR):
            await topic_metrics.register(query.topic)
    except BadTopic:
        if topic_metrics.get(query.topic) is not None:
            raise UNKNOWN_ERROR.error("topic_metrics_already_existed") from None
        raise BAD_TOPIC.error("invalid_topic_name") from None
    except TooMany:
        raise UNKNOWN_ERROR.error("quota_exceeded") from None
    return Done()


@routes.delete("/topic-metrics", "Count no topic any more", failures=[UNKNOWN_ERROR])
async def deregister_topics(api: Api) -> Done:
    with refusals(as_text(UNKNOWN_ERROR), UNKNOWN_ERROR):
        await api.questions.topic_metrics.deregister_all()
    return Done()


@routes.delete("/topic-metrics/:topic", "Count a topic no more", failures=[UNKNOWN_ERROR])
async def deregister_topic(api: Api, topic: str) -> Done:
    with refusals(as_text(UNKNOWN_ERROR), UNKNOWN_ERROR):
        if not await api.questions.topic_metrics.deregister(topic):
            raise UNKNOWN_ERROR.error("topic_not_found")
    return Done()
