"""Topic names and topic filters: what is well formed, and what matches what [MQTT 5.0 sections 4.7, 4.8].

Invariant: a name that passed `validate_topic_name` and a filter that passed `parse_topic_filter` need no further
check anywhere; they are compared character by character [MQTT-4.7.3-4].
"""

from __future__ import annotations

from typing import Final, NamedTuple

from trio_broker.errors import ProtocolError
from trio_broker.protocol.primitives import MAXIMUM_STRING_SIZE, string_of
from trio_broker.protocol.reason_codes import ReasonCode

SHARE_PREFIX: Final = "$share/"
QUEUE_PREFIX: Final = "$queue/"
QUEUE_SHARE_NAME: Final = "$queue"

_CACHED_TOPICS: Final = 65_536
_CACHED_TOPIC_SIZE: Final = 256


class TopicFilterParts(NamedTuple):
    """A filter taken apart: `match_filter` is what topic names are matched with."""

    share_name: str | None
    match_filter: str


class TopicNames(dict[bytes, str]):
    """Topic names by their bytes on the wire: each is checked and made into a string once.

    `names[raw]` raises ProtocolError where `raw` is no topic name; b"" gives "", which only a packet with a topic
    alias may have. Bounded: long names are not kept, and it is emptied when it is full.
    """

    def __missing__(self, raw: bytes) -> str:
        topic_name = string_of(raw)
        if "+" in topic_name or "#" in topic_name:
            raise _name_error("a topic name has a wildcard in it")  # [MQTT-3.3.2-2]
        if len(raw) <= _CACHED_TOPIC_SIZE:
            if len(self) >= _CACHED_TOPICS:
                self.clear()
            self[raw] = topic_name
        return topic_name


TOPIC_NAMES: Final = TopicNames()


def validate_topic_name(topic_name: str) -> None:
    """Raise ProtocolError 0x90 unless `topic_name` may be published to [MQTT-4.7.0-1, 4.7.3-1 to 4.7.3-3]."""
    if not topic_name:
        raise _name_error("a topic name is empty")
    if "+" in topic_name or "#" in topic_name:
        raise _name_error("a topic name has a wildcard in it")
    if not _is_wire_string(topic_name):
        raise _name_error("a topic name has a character that is not allowed, or is too long")


def validate_topic_filter(topic_filter: str) -> None:
    """Raise ProtocolError 0x8F unless wildcards stand where they may [MQTT-4.7.1-1, 4.7.1-2, 4.7.3-1 to 4.7.3-3].

    Looks at no `$share/`: that is what `parse_topic_filter` is for.
    """
    if not topic_filter:
        raise _filter_error("a topic filter is empty")
    if not _is_wire_string(topic_filter):
        raise _filter_error("a topic filter has a character that is not allowed, or is too long")
    hash_at = topic_filter.find("#")
    if hash_at >= 0 and (hash_at != len(topic_filter) - 1 or (hash_at and topic_filter[hash_at - 1] != "/")):
        raise _filter_error("# must be a level of its own, and the last")
    if "+" in topic_filter and any("+" in level and level != "+" for level in topic_filter.split("/")):
        raise _filter_error("+ must be a level of its own")


def parse_topic_filter(topic_filter: str) -> TopicFilterParts:
    """Take `$share/NAME/FILTER` and `$queue/FILTER` apart; any other filter is its own match filter.

    Raises ProtocolError 0x8F where the filter or the share name is not well formed [MQTT-4.8.2-1, 4.8.2-2].
    """
    if topic_filter.startswith(SHARE_PREFIX):
        share_name, slash, match_filter = topic_filter[len(SHARE_PREFIX) :].partition("/")
        if not share_name or "+" in share_name or "#" in share_name:
            raise _filter_error("a share name is empty or has a wildcard in it")
        if not slash:
            raise _filter_error("a shared subscription has no topic filter")
    elif topic_filter.startswith(QUEUE_PREFIX):
        share_name, match_filter = QUEUE_SHARE_NAME, topic_filter[len(QUEUE_PREFIX) :]
    else:
        validate_topic_filter(topic_filter)
        return TopicFilterParts(None, topic_filter)
    if match_filter.startswith((SHARE_PREFIX, QUEUE_PREFIX)):
        # A share of a share would be a filter for topics nobody can mean.
        raise _filter_error("a shared subscription is within another")
    if not _is_wire_string(topic_filter):
        raise _filter_error("a topic filter has a character that is not allowed, or is too long")
    validate_topic_filter(match_filter)
    return TopicFilterParts(share_name, match_filter)


def matches(topic_filter: str, topic_name: str) -> bool:
    """Whether a well-formed filter (without its `$share/NAME/`) matches a topic name [MQTT-4.7.1-1 to 4.7.2-1]."""
    if topic_filter == topic_name:
        # A filter with wildcards is never a topic name.
        return True
    if "+" not in topic_filter and not topic_filter.endswith("#"):
        return False
    if topic_name.startswith("$") and topic_filter.startswith(("+", "#")):
        return False
    filter_levels = topic_filter.split("/")
    name_levels = topic_name.split("/")
    if filter_levels[-1] == "#":
        # `a/#` matches `a` too [MQTT-4.7.1-1], so only the levels before the # have to be there.
        filter_levels.pop()
        if len(name_levels) < len(filter_levels):
            return False
    elif len(filter_levels) != len(name_levels):
        return False
    return all(wanted == "+" or wanted == level for wanted, level in zip(filter_levels, name_levels, strict=False))


def _is_wire_string(text: str) -> bool:
    """Whether `text` can be sent: UTF-8 without surrogates, no U+0000, at most 65,535 bytes."""
    if "\0" in text:
        return False
    try:
        return len(text) <= MAXIMUM_STRING_SIZE and len(text.encode("utf-8")) <= MAXIMUM_STRING_SIZE
    except UnicodeEncodeError:
        return False


def _name_error(message: str) -> ProtocolError:
    return ProtocolError(ReasonCode.TOPIC_NAME_INVALID, message)


def _filter_error(message: str) -> ProtocolError:
    return ProtocolError(ReasonCode.TOPIC_FILTER_INVALID, message)
