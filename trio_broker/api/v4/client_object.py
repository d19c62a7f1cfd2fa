"""The client object: a session as `/clients` of EMQX 4 shows it.

Invariant: the object is flat, and every figure comes from the session's own snapshot.
"""

from __future__ import annotations

from typing import Final

from msgspec import UNSET, Struct, UnsetType
from msgspec import field as renamed

from trio_broker.api.context import Api
from trio_broker.api.formats import username_text
from trio_broker.api.v4.formats import UNDEFINED, local_time
from trio_broker.session.info import SessionInfo

ZONE: Final = "external"
"""What EMQX 4 calls the group of settings that clients from outside have; here all have the same."""


class Client(Struct, kw_only=True):
    """Of what is limited 0 means no limit."""

    node: str
    clientid: str
    username: str
    proto_name: str
    proto_ver: int
    ip_address: str
    port: int
    connected: bool
    connected_at: str
    disconnected_at: str | UnsetType = UNSET
    created_at: str
    clean_start: bool
    keepalive: int
    expiry_interval: int
    is_bridge: bool
    zone: str = ZONE
    mountpoint: str = UNDEFINED
    subscriptions_cnt: int
    max_subscriptions: int
    inflight: int
    max_inflight: int
    mqueue_len: int
    max_mqueue: int
    mqueue_dropped: int
    awaiting_rel: int
    max_awaiting_rel: int
    recv_oct: int
    send_oct: int
    recv_cnt: int
    send_cnt: int
    recv_pkt: int
    send_pkt: int
    recv_msg: int
    send_msg: int
    recv_msg_qos0: int = renamed(name="recv_msg.qos0")
    recv_msg_qos1: int = renamed(name="recv_msg.qos1")
    recv_msg_qos2: int = renamed(name="recv_msg.qos2")
    recv_msg_dropped: int = renamed(name="recv_msg.dropped")
    send_msg_qos0: int = renamed(name="send_msg.qos0")
    send_msg_qos1: int = renamed(name="send_msg.qos1")
    send_msg_qos2: int = renamed(name="send_msg.qos2")
    send_msg_dropped: int = renamed(name="send_msg.dropped")
    send_msg_dropped_expired: int = renamed(name="send_msg.dropped.expired")
    send_msg_dropped_queue_full: int = renamed(name="send_msg.dropped.queue_full")
    send_msg_dropped_too_large: int = renamed(name="send_msg.dropped.too_large")
    mailbox_len: int
    heap_size: int = 0
    reductions: int = 0


def client_object(api: Api, info: SessionInfo) -> Client:
    """`info` as the client object of this node."""
    stats = info.stats
    return Client(
        node=api.node_name,
        clientid=info.client_id,
        username=username_text(info.username),
        proto_name=info.protocol_name,
        proto_ver=info.protocol_level,
        ip_address=info.peer_host,
        port=info.peer_port,
        connected=info.connected,
        connected_at=local_time(info.connected_at),
        disconnected_at=UNSET if info.connected or info.disconnected_at is None else local_time(info.disconnected_at),
        created_at=local_time(info.created_at),
        clean_start=info.clean_start,
        keepalive=info.keep_alive,
        expiry_interval=info.expiry_interval,
        is_bridge=info.is_bridge,
        subscriptions_cnt=info.subscriptions_count,
        max_subscriptions=info.subscriptions_max or 0,
        inflight=info.inflight_count,
        max_inflight=info.inflight_max,
        mqueue_len=info.mqueue_len,
        max_mqueue=info.mqueue_max,
        mqueue_dropped=info.mqueue_dropped,
        awaiting_rel=info.awaiting_rel_count,
        max_awaiting_rel=info.awaiting_rel_max or 0,
        recv_oct=stats["recv_oct"],
        send_oct=stats["send_oct"],
        recv_cnt=stats["recv_cnt"],
        send_cnt=stats["send_cnt"],
        recv_pkt=stats["recv_pkt"],
        send_pkt=stats["send_pkt"],
        recv_msg=stats["recv_msg"],
        send_msg=stats["send_msg"],
        recv_msg_qos0=stats["recv_msg.qos0"],
        recv_msg_qos1=stats["recv_msg.qos1"],
        recv_msg_qos2=stats["recv_msg.qos2"],
        recv_msg_dropped=stats["recv_msg.dropped"],
        send_msg_qos0=stats["send_msg.qos0"],
        send_msg_qos1=stats["send_msg.qos1"],
        send_msg_qos2=stats["send_msg.qos2"],
        send_msg_dropped=stats["send_msg.dropped"],
        send_msg_dropped_expired=stats["send_msg.dropped.expired"],
        send_msg_dropped_queue_full=stats["send_msg.dropped.queue_full"],
        send_msg_dropped_too_large=stats["send_msg.dropped.too_large"],
        mailbox_len=info.mailbox_len,
    )
