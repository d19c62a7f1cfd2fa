"""The client object: a session as `/clients` shows it.

Invariant: keys, types and order are those of the contract; every figure comes from the session's own snapshot.
"""

from __future__ import annotations

from typing import Final, Literal

from msgspec import UNSET, Struct, UnsetType
from msgspec import field as renamed

from trio_broker.api.context import Api
from trio_broker.api.formats import rfc3339_ms
from trio_broker.session.info import SessionInfo


class Client(Struct, kw_only=True):
    clientid: str
    username: str | None
    node: str
    connected: bool
    connected_at: str
    disconnected_at: str | UnsetType = UNSET
    created_at: str
    ip_address: str
    port: int
    listener: str
    proto_name: str
    proto_ver: int
    keepalive: int
    clean_start: bool
    expiry_interval: int
    is_bridge: bool
    is_persistent: bool
    is_expired: bool = False
    durable: bool = False
    enable_authn: bool
    mountpoint: str | None = None
    subscriptions_cnt: int
    subscriptions_max: int | Literal["infinity"]
    inflight_cnt: int
    inflight_max: int
    mqueue_len: int
    mqueue_max: int
    mqueue_dropped: int
    awaiting_rel_cnt: int
    awaiting_rel_max: int | Literal["infinity"]
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
    send_msg_qos0: int = renamed(name="send_msg.qos0")
    send_msg_qos1: int = renamed(name="send_msg.qos1")
    send_msg_qos2: int = renamed(name="send_msg.qos2")
    recv_msg_dropped: int = renamed(name="recv_msg.dropped")
    recv_msg_dropped_await_pubrel_timeout: int = renamed(name="recv_msg.dropped.await_pubrel_timeout")
    send_msg_dropped: int = renamed(name="send_msg.dropped")
    send_msg_dropped_expired: int = renamed(name="send_msg.dropped.expired")
    send_msg_dropped_queue_full: int = renamed(name="send_msg.dropped.queue_full")
    send_msg_dropped_too_large: int = renamed(name="send_msg.dropped.too_large")
    mailbox_len: int
    heap_size: int = 0
    reductions: int = 0
    cn: str | UnsetType = UNSET
    dn: str | UnsetType = UNSET


_NAMES: Final = tuple(Client.__struct_encode_fields__)

# What only a durable session of EMQX has: may be asked for, is never there.
_NEVER_THERE: Final = frozenset(
    {"client_attrs", "n_streams"}
    | {f"seqno_q1_{name}" for name in ("comm", "dup", "next")}
    | {f"seqno_q2_{name}" for name in ("comm", "dup", "next", "rec")}
)

SELECTABLE: Final = (frozenset(_NAMES) | _NEVER_THERE) - {"enable_authn", "is_persistent", "listener", "cn", "dn"}
"""What the `fields` parameter of the list may name."""


def client_object(api: Api, info: SessionInfo) -> Client:
    """`info` as the client object of this node."""
    stats = info.stats
    return Client(
        clientid=info.client_id,
        username=info.username,
        node=api.node_name,
        connected=info.connected,
        connected_at=rfc3339_ms(info.connected_at),
        disconnected_at=UNSET if info.connected or info.disconnected_at is None else rfc3339_ms(info.disconnected_at),
        created_at=rfc3339_ms(info.created_at),
        ip_address=info.peer_host,
        port=info.peer_port,
        listener=info.listener,
        proto_name=info.protocol_name,
        proto_ver=info.protocol_level,
        keepalive=info.keep_alive,
        clean_start=info.clean_start,
        expiry_interval=info.expiry_interval,
        is_bridge=info.is_bridge,
        is_persistent=info.expiry_interval > 0,
        enable_authn=info.enable_authn,
        subscriptions_cnt=info.subscriptions_count,
        subscriptions_max=_or_infinity(info.subscriptions_max),
        inflight_cnt=info.inflight_count,
        inflight_max=info.inflight_max,
        mqueue_len=info.mqueue_len,
        mqueue_max=info.mqueue_max,
        mqueue_dropped=info.mqueue_dropped,
        awaiting_rel_cnt=info.awaiting_rel_count,
        awaiting_rel_max=_or_infinity(info.awaiting_rel_max),
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
        send_msg_qos0=stats["send_msg.qos0"],
        send_msg_qos1=stats["send_msg.qos1"],
        send_msg_qos2=stats["send_msg.qos2"],
        recv_msg_dropped=stats["recv_msg.dropped"],
        recv_msg_dropped_await_pubrel_timeout=stats["recv_msg.dropped.await_pubrel_timeout"],
        send_msg_dropped=stats["send_msg.dropped"],
        send_msg_dropped_expired=stats["send_msg.dropped.expired"],
        send_msg_dropped_queue_full=stats["send_msg.dropped.queue_full"],
        send_msg_dropped_too_large=stats["send_msg.dropped.too_large"],
        mailbox_len=info.mailbox_len,
        cn=_or_unset(info.certificate_common_name),
        dn=_or_unset(info.certificate_distinguished_name),
    )


def _or_infinity(number: int | None) -> int | Literal["infinity"]:
    return "infinity" if number is None else number


def _or_unset(text: str | None) -> str | UnsetType:
    return UNSET if text is None else text
