"""The plainest possible matching, and small inputs, for the tests of the routing floor.

Invariant: nothing here uses what it is there to check.
"""

from __future__ import annotations

from itertools import product
from typing import Final

from attrs import define
from hypothesis import strategies as st

from trio_broker.protocol.message import Message, Origin
from trio_broker.routing.subscription import Subscription

# filter, topic name, whether they match [MQTT 5.0 section 4.7]
MATCHING: Final[list[tuple[str, str, bool]]] = [
    ("a", "a", True),
    ("a", "b", False),
    ("a", "A", False),
    ("a", "a ", False),
    ("a b", "a b", True),
    ("a", "a/", False),
    ("a/", "a", False),
    ("/", "/", True),
    ("/", "//", False),
    ("/a", "a", False),
    ("/a", "/a", True),
    ("a/b", "a/b", True),
    ("a/b", "a/b/c", False),
    ("\ufeffa", "\ufeffa", True),
    ("\ufeffa", "a", False),
    ("\u00e9", "e\u0301", False),
    # + fills one whole level, an empty one too
    ("+", "a", True),
    ("+", "/", False),
    ("+", "a/b", False),
    ("+", "/a", False),
    ("+/+", "/a", True),
    ("+/+", "/", True),
    ("+/+", "a", False),
    ("+/+", "a/b/c", False),
    ("/+", "/a", True),
    ("/+", "a", False),
    ("/+", "/", True),
    ("a/+", "a/b", True),
    ("a/+", "a/", True),
    ("a/+", "a", False),
    ("a/+", "a/b/c", False),
    ("a/+/", "a/b/", True),
    ("a/+/", "a/b", False),
    ("+/b", "a/b", True),
    ("+/b", "/b", True),
    ("+/b", "b", False),
    ("a/+/c", "a/b/c", True),
    ("a/+/c", "a//c", True),
    ("a/+/c", "a/c", False),
    ("a/+/c", "a/b/b/c", False),
    ("+/a/+", "x/a/y", True),
    ("sport/tennis/+", "sport/tennis/player1", True),
    ("sport/tennis/+", "sport/tennis/player1/ranking", False),
    # # is the level before it and everything below
    ("#", "a", True),
    ("#", "/", True),
    ("#", "a/b/c", True),
    ("a/#", "a", True),
    ("a/#", "a/", True),
    ("a/#", "a/b/c", True),
    ("a/#", "ab", False),
    ("a/#", "b/a", False),
    ("/#", "/", True),
    ("/#", "/a", True),
    ("/#", "a", False),
    ("a/b/#", "a/b", True),
    ("a/b/#", "a", False),
    ("+/#", "a", True),
    ("+/#", "/", True),
    ("+/#", "a/b/c", True),
    ("a/+/#", "a/b", True),
    ("a/+/#", "a/b/c/d", True),
    ("a/+/#", "a", False),
    ("+/+/#", "a", False),
    ("+/b/#", "a/b", True),
    ("+/b/#", "a/c", False),
    # a wildcard in front does not reach $...
    ("#", "$SYS", False),
    ("#", "$SYS/broker", False),
    ("#", "$", False),
    ("+", "$SYS", False),
    ("+/#", "$SYS/broker", False),
    ("+/broker", "$SYS/broker", False),
    ("+/x", "$a/x", False),
    ("$SYS/#", "$SYS/broker/uptime", True),
    ("$SYS/#", "$SYS", True),
    ("$SYS/+", "$SYS/broker", True),
    ("$SYS/broker", "$SYS/broker", True),
    ("$SYS/+/uptime", "$SYS/broker/uptime", True),
    ("a/+", "a/$b", True),
    ("a/#", "a/$b/c", True),
    ("+/$b", "a/$b", True),
    ("+", "a$", True),
]


def matches(topic_filter: str, topic_name: str) -> bool:
    """Level by level, as the specification tells it."""
    if topic_name.startswith("$") and topic_filter[0] in "+#":
        return False
    wanted, levels = topic_filter.split("/"), topic_name.split("/")
    if wanted[-1] == "#":
        wanted.pop()
        levels = levels[: len(wanted)]
    return len(wanted) == len(levels) and all(one in ("+", other) for one, other in zip(wanted, levels, strict=True))


def small_names(deepest: int = 3) -> list[str]:
    """Every topic name of a few levels out of a small alphabet."""
    levels = ["a", "b", "", "$s"]
    names = ["/".join(name) for depth in range(1, deepest + 1) for name in product(levels, repeat=depth)]
    return [name for name in names if name]


topic_names = st.lists(st.sampled_from(["a", "b", "c", "", "$s"]), min_size=1, max_size=4).map("/".join).filter(bool)


@st.composite
def _topic_filters(draw: st.DrawFn) -> str:
    levels = draw(st.lists(st.sampled_from(["a", "b", "", "$s", "+", "+"]), max_size=4))
    if not levels or draw(st.booleans()):
        levels.append(draw(st.sampled_from(["#", "a", "+"])))
    return "/".join(levels) or "#"


topic_filters = _topic_filters()

# So few that a long run of changes hits the same ones again and again, and one as the beginning of the other.
crowded_names = st.sampled_from(
    ["/".join(name) for depth in (1, 2, 3) for name in product(["a", "", "$s"], repeat=depth) if any(name)]
)
_SHORT: Final = ["/".join(levels) for depth in (1, 2) for levels in product(["a", "$s", "+"], repeat=depth)]
crowded_filters = st.sampled_from([*_SHORT, "#", *(f"{it}/#" for it in _SHORT)])
met_names = st.sampled_from(["/".join(name) for depth in (1, 2, 3) for name in product(["a", "$s"], repeat=depth)])


@define(eq=False)
class Client:
    """A recipient."""

    client_id: str


def subscription(
    match_filter: str,
    share_name: str | None = None,
    *,
    qos: int = 0,
    no_local: bool = False,
    retain_as_published: bool = False,
    identifier: int = 0,
) -> Subscription:
    topic_filter = match_filter if share_name is None else f"$share/{share_name}/{match_filter}"
    return Subscription(
        topic_filter,
        match_filter,
        share_name,
        qos=qos,
        no_local=no_local,
        retain_as_published=retain_as_published,
        identifier=identifier,
    )


def message(topic_name: str, payload: bytes = b"x", expires_at: float | None = None) -> Message:
    return Message(
        topic_name=topic_name,
        payload=payload,
        qos=0,
        retain=True,
        message_id=1,
        origin=Origin("publisher"),
        publish_at=0,
        expires_at=expires_at,
    )
