"""What can be seen of a session from outside: figures and messages, as plain objects.

Invariant: these are snapshots; nothing here refers back to the session. Times ending in `_at` are wall clock in
milliseconds unless the name says otherwise.
"""

from __future__ import annotations

from attrs import define, field


@define
class SessionInfo:
    """One session as the management API shows it (EMQX: the client object)."""

    client_id: str
    username: str | None
    connected: bool
    connected_at: int
    disconnected_at: int | None
    created_at: int
    peer_host: str
    peer_port: int
    listener: str
    protocol_name: str
    protocol_level: int
    keep_alive: int
    clean_start: bool
    expiry_interval: int
    is_bridge: bool
    subscriptions_count: int
    subscriptions_max: int | None  # None = unbounded
    inflight_count: int
    inflight_max: int
    mqueue_len: int
    mqueue_max: int  # 0 = unbounded
    mqueue_dropped: int
    awaiting_rel_count: int
    awaiting_rel_max: int | None
    mailbox_len: int
    stats: dict[str, int] = field(factory=dict)
    """The counters of the session under EMQX's names: recv_oct, send_oct, recv_cnt, send_cnt, recv_pkt, send_pkt,
    recv_msg, send_msg, recv_msg.qos0 .. send_msg.dropped.too_large; all 20 are always there."""
    certificate_common_name: str | None = None
    certificate_distinguished_name: str | None = None
    enable_authn: bool = True
    awaiting_comp_count: int = 0
    """Of `inflight_count` those whose PUBREL was sent."""
    mqueue_entered: int = 0
    """How many had to wait in the mqueue since the session began, or the broker was started."""


@define
class QueuedMessage:
    """One row of `mqueue_messages` or `inflight_messages`."""

    message_id: int
    topic_name: str
    qos: int
    publish_at: int
    from_client_id: str
    from_username: str | None
    payload: bytes
    inserted_at_ns: int  # nanoseconds since the epoch; unique and growing within one session
    priority: int | None = 0  # None = infinity


@define
class QueuePage:
    """`start` is the token of the first element now in the queue, None when it is empty."""

    messages: list[QueuedMessage]
    start: int | None
