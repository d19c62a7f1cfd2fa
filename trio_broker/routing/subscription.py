"""What a session asked for with one filter: a subscription and its options [MQTT 5.0 section 3.8.3.1].

Invariant: a subscription never changes; subscribing again to the same filter puts a new one in its place.
"""

from __future__ import annotations

from attrs import define


@define(frozen=True, eq=True)
class Subscription:
    """`topic_filter` is the filter in full, as the client wrote it (with `$share/NAME/` where it is shared).

    `share_name` and `match_filter` are its two parts; for an ordinary one `share_name` is None and `match_filter` is
    `topic_filter`. `identifier` is 0 where the client gave none.
    """

    topic_filter: str
    match_filter: str
    share_name: str | None = None
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0
    identifier: int = 0
