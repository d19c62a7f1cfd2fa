"""The counters of one session under EMQX's names.

Invariant: they only grow, and only the session and its connection write them.
"""

from __future__ import annotations

from typing import Final

STAT_NAMES: Final = (
    "recv_oct",
    "recv_cnt",
    "recv_pkt",
    "recv_msg",
    "recv_msg.qos0",
    "recv_msg.qos1",
    "recv_msg.qos2",
    "recv_msg.dropped",
    "recv_msg.dropped.await_pubrel_timeout",
    "send_oct",
    "send_cnt",
    "send_pkt",
    "send_msg",
    "send_msg.qos0",
    "send_msg.qos1",
    "send_msg.qos2",
    "send_msg.dropped",
    "send_msg.dropped.expired",
    "send_msg.dropped.queue_full",
    "send_msg.dropped.too_large",
)


class Stats:
    """Plain integers; `as_dict` gives them under EMQX's names. Sums of parts are made there."""

    __slots__ = (
        "recv_cnt",
        "recv_dropped",
        "recv_dropped_await_pubrel_timeout",
        "recv_msg_qos0",
        "recv_msg_qos1",
        "recv_msg_qos2",
        "recv_oct",
        "recv_pkt",
        "send_cnt",
        "send_dropped_expired",
        "send_dropped_other",
        "send_dropped_queue_full",
        "send_dropped_too_large",
        "send_msg_qos0",
        "send_msg_qos1",
        "send_msg_qos2",
        "send_oct",
        "send_pkt",
    )

    def __init__(self) -> None:
        self.recv_oct = self.recv_cnt = self.recv_pkt = 0
        self.recv_msg_qos0 = self.recv_msg_qos1 = self.recv_msg_qos2 = 0
        self.recv_dropped = self.recv_dropped_await_pubrel_timeout = 0
        self.send_oct = self.send_cnt = self.send_pkt = 0
        self.send_msg_qos0 = self.send_msg_qos1 = self.send_msg_qos2 = 0
        self.send_dropped_expired = self.send_dropped_queue_full = self.send_dropped_too_large = 0
        self.send_dropped_other = 0

    def as_dict(self) -> dict[str, int]:
        send_dropped = (
            self.send_dropped_expired
            + self.send_dropped_queue_full
            + self.send_dropped_too_large
            + self.send_dropped_other
        )
        return {
            "recv_oct": self.recv_oct,
            "recv_cnt": self.recv_cnt,
            "recv_pkt": self.recv_pkt,
            "recv_msg": self.recv_msg_qos0 + self.recv_msg_qos1 + self.recv_msg_qos2,
            "recv_msg.qos0": self.recv_msg_qos0,
            "recv_msg.qos1": self.recv_msg_qos1,
            "recv_msg.qos2": self.recv_msg_qos2,
            "recv_msg.dropped": self.recv_dropped + self.recv_dropped_await_pubrel_timeout,
            "recv_msg.dropped.await_pubrel_timeout": self.recv_dropped_await_pubrel_timeout,
            "send_oct": self.send_oct,
            "send_cnt": self.send_cnt,
            "send_pkt": self.send_pkt,
            "send_msg": self.send_msg_qos0 + self.send_msg_qos1 + self.send_msg_qos2,
            "send_msg.qos0": self.send_msg_qos0,
            "send_msg.qos1": self.send_msg_qos1,
            "send_msg.qos2": self.send_msg_qos2,
            "send_msg.dropped": send_dropped,
            "send_msg.dropped.expired": self.send_dropped_expired,
            "send_msg.dropped.queue_full": self.send_dropped_queue_full,
            "send_msg.dropped.too_large": self.send_dropped_too_large,
        }
