"""One topic of an access rule: a filter, a text that is compared as it is (`eq`), or everything.

Invariant: what a client calls itself never becomes a wildcard, a further level or the `$` at the beginning of a topic:
a placeholder without a value, or with such a value, makes its topic hold for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from trio_broker.access.asking import Subject
from trio_broker.access.templates import Template
from trio_broker.errors import ProtocolError
from trio_broker.protocol.delayed_topic import PREFIX as DELAYED_PREFIX
from trio_broker.protocol.topics import QUEUE_PREFIX, SHARE_PREFIX, validate_topic_filter
from trio_broker.routing.coverage import covers_levels, intersects_levels

__all__ = ["EQ", "EVERYTHING", "RuleTopic"]

EQ: Final = "eq "
"""What a text that is compared as it is begins with, in rules over REST and in tokens."""

_NOT_IN_A_LEVEL: Final = "/+#\0"
_NO_SUBJECT: Final = "x"
_WAYS: Final = {
    SHARE_PREFIX: f"{SHARE_PREFIX}GROUP/",
    QUEUE_PREFIX: QUEUE_PREFIX,
    DELAYED_PREFIX: f"{DELAYED_PREFIX}SECONDS/",
}
"""What is taken off before rules are looked at: a rule about it would never hold."""


class RuleTopic:
    """Raises ValueError where `text` is no topic filter, has a placeholder that there is not, or can never hold."""

    __slots__ = ("_levels", "_open", "literal", "template", "text")

    def __init__(self, text: str, literal: bool = False) -> None:
        self.text = text
        self.literal = literal
        """Compared as it is: `+` and `#` stand for themselves."""
        template = Template(text)
        sample = template.fill(lambda _name: _NO_SUBJECT)
        assert sample is not None
        try:
            validate_topic_filter(sample)
        except ProtocolError as error:
            raise ValueError(error.message) from None
        for prefix, shown in _WAYS.items():
            if text.startswith(prefix):
                raise ValueError(f"a rule is about the topic, whichever way leads to it: leave out {shown}")
        self.template: Template | None = template if template.names else None
        # Each level by itself: that another one differs is found before a placeholder is looked up.
        self._levels: tuple[str | Template, ...] = tuple(
            Template(level) if "${" in level else level for level in text.split("/")
        )
        self._open = text.startswith("${")

    def filled(self, subject: Subject) -> str | None:
        """With what its placeholders stand for; None where it holds for nothing."""
        if self.template is None:
            return self.text
        filled = self.template.fill(lambda name: _value(subject, name))
        return None if filled is None or (self._open and filled.startswith("$")) else filled

    def matches(self, topic: str, levels: Sequence[str], subject: Subject) -> bool:
        """Is this topic name (`levels`: taken apart) meant?"""
        if self.literal:
            return topic == self.filled(subject)
        depth, end = 0, len(levels)
        for wanted in self._levels:
            if wanted == "#":
                return depth > 0 or topic[:1] != "$"
            if depth == end:
                return False
            if isinstance(wanted, Template):
                if depth == 0 and self._open and topic[:1] == "$":
                    return False
                if wanted.fill(lambda name: _value(subject, name)) != levels[depth]:
                    return False
            elif wanted == "+":
                if depth == 0 and topic[:1] == "$":
                    return False
            elif wanted != levels[depth]:
                return False
            depth += 1
        return depth == end

    def covers(self, topic_filter: str, levels: Sequence[str], subject: Subject) -> bool:
        """Are all topics of this filter meant?"""
        if self.template is None:
            return topic_filter == self.text if self.literal else covers_levels(self._texts(), levels)
        filled = self.filled(subject)
        if filled is None or self.literal:
            return filled == topic_filter
        return covers_levels(filled.split("/"), levels)

    def intersects(self, topic_filter: str, levels: Sequence[str], subject: Subject) -> bool:
        """Is one of the topics of this filter meant?"""
        if self.template is None:
            return topic_filter == self.text if self.literal else intersects_levels(self._texts(), levels)
        filled = self.filled(subject)
        if filled is None or self.literal:
            return filled == topic_filter
        return intersects_levels(filled.split("/"), levels)

    def _texts(self) -> tuple[str, ...]:
        return self._levels  # type: ignore[return-value]  # there is no placeholder in it

    @classmethod
    def read(cls, text: str) -> RuleTopic:
        """`eq TEXT`, or a filter."""
        return cls(text[len(EQ) :], True) if text.startswith(EQ) else cls(text)


class _Everything(RuleTopic):
    """All topics, those that begin with `$` too."""

    __slots__ = ()

    def matches(self, topic: str, levels: Sequence[str], subject: Subject) -> bool:
        return True

    def covers(self, topic_filter: str, levels: Sequence[str], subject: Subject) -> bool:
        return True

    def intersects(self, topic_filter: str, levels: Sequence[str], subject: Subject) -> bool:
        return True


EVERYTHING: Final[RuleTopic] = _Everything("#")


def _value(subject: Subject, name: str) -> str | None:
    found = subject.value(name)
    # A name may have 64 kB: each of these is one fast look at it.
    return found if found and not any(one in found for one in _NOT_IN_A_LEVEL) else None
