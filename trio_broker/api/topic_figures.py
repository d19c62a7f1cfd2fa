"""What is counted of a topic, in the form in which several generations show it."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, defstruct

from trio_broker.actors.topic_metrics import TopicFigures

__all__ = ["Figures", "figures_of"]

_NAMES: Final = ("in", "out", "qos0.in", "qos0.out", "qos1.in", "qos1.out", "qos2.in", "qos2.out", "dropped")

_Rate = Annotated[float, Meta(description="A second, over the last five or six seconds")]

Figures = defstruct(
    "TopicMetricsFigures",
    [
        (f"messages_{name.replace('.', '_')}_{kind}", hint)
        for name in _NAMES
        for kind, hint in (("count", int), ("rate", _Rate))
    ],
    rename={
        f"messages_{name.replace('.', '_')}_{kind}": f"messages.{name}.{kind}"
        for name in _NAMES
        for kind in ("count", "rate")
    },
    module=__name__,
)


def figures_of(topic: TopicFigures) -> Figures:  # type: ignore[valid-type]
    return Figures(*(of[name] for name in _NAMES for of in (topic.counts, topic.rates)))
