"""Topics as EMQX 4 takes them: several in one text, with commas between them.

Invariant: pure functions; nothing here knows a route.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from trio_broker.api.failures import Failure
from trio_broker.api.v4.envelope import BAD_PARAMETER
from trio_broker.errors import ProtocolError
from trio_broker.protocol.topics import parse_topic_filter, validate_topic_name

NO_CLIENT_ID: Final = Failure(200, BAD_PARAMETER.code, "bad clientid: must be string")

MOST_TOPICS: Final = 1000
"""In one text."""


def said_of_topics(params: Mapping[str, Any], default: Any = "") -> Any:
    """`topic`, or `topics` where that is not there, as it was sent."""
    return params["topic"] if "topic" in params else params.get("topics", default)


def topics_of(params: Mapping[str, Any]) -> list[str]:
    """Taken apart at commas. Raises TypeError where it is no text, ValueError for too many."""
    said = said_of_topics(params)
    if not isinstance(said, str):
        raise TypeError("topics are a text")
    if said.count(",") >= MOST_TOPICS:
        raise ValueError(f"more than {MOST_TOPICS} topics")
    return said.split(",")


def qos_of(params: Mapping[str, Any]) -> int | None:
    """None: it is none. In the query it is a text."""
    said = params.get("qos", 0)
    if isinstance(said, str):
        return {"0": 0, "1": 1, "2": 2}.get(said)
    return said if isinstance(said, int) and not isinstance(said, bool) and 0 <= said <= 2 else None


def is_topic_name(text: str) -> bool:
    try:
        validate_topic_name(text)
    except ProtocolError:
        return False
    return True


def is_topic_filter(text: str) -> bool:
    try:
        parse_topic_filter(text)
    except ProtocolError:
        return False
    return True
