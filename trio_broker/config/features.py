"""Settings of what a broker does beyond MQTT itself: delayed publish, topic metrics, slow subscriptions.

Invariant: the keys and their defaults are EMQX's.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

from trio_broker.config.kinds import Choice, Duration, Flag, Integer, Text
from trio_broker.config.setting import setting

MAX_TOPIC_METRICS: Final = 512
"""Topics that are counted at one time."""


@frozen(kw_only=True)
class DelayedConfig:
    enable: bool = setting(Flag(), True, "messages to $delayed/SECONDS/TOPIC wait; false = it is a topic as any other")
    max_delayed_messages: int = setting(Integer(0), 0, "messages that wait at one time; more are dropped; 0 = no limit")


@frozen(kw_only=True)
class TopicMetricConfig:
    topic: str = setting(Text(r"[^\0]*", "a topic name"), "", "the topic that is counted")


@frozen(kw_only=True)
class SlowSubsConfig:
    enable: bool = setting(Flag(), False, "list subscriptions whose messages take long")
    threshold: float = setting(Duration(), "500ms", "what takes no longer is not listed")
    expire_interval: float = setting(Duration(), "300s", "a line that has not changed for so long is taken out")
    top_k_num: int = setting(Integer(1, 1000), 10, "lines of the list: the slowest ones")
    stats_type: str = setting(
        Choice(("whole", "internal", "response")),
        "whole",
        "internal = until the delivery begins, response = from then until it is acknowledged, whole = both",
    )
