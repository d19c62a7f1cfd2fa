"""The counters of the whole broker, under EMQX's names: the mailbox of the metrics collector.

It is a mailbox that keeps sums instead of items: whoever sees something happen adds to it, in one step and without
waiting; only the metrics collector reads it.

Invariant: every name of EMQX's `/metrics` is here exactly once, and no counter ever falls.
"""

from __future__ import annotations

from typing import Final

METRIC_NAMES: Final = (
    "bytes.received",
    "bytes.sent",
    "packets.received",
    "packets.sent",
    "packets.connect.received",
    "packets.connack.sent",
    "packets.connack.error",
    "packets.connack.auth_error",
    "packets.publish.received",
    "packets.publish.sent",
    "packets.publish.inuse",
    "packets.publish.error",
    "packets.publish.auth_error",
    "packets.publish.dropped",
    "packets.puback.received",
    "packets.puback.sent",
    "packets.puback.inuse",
    "packets.puback.missed",
    "packets.pubrec.received",
    "packets.pubrec.sent",
    "packets.pubrec.inuse",
    "packets.pubrec.missed",
    "packets.pubrel.received",
    "packets.pubrel.sent",
    "packets.pubrel.missed",
    "packets.pubcomp.received",
    "packets.pubcomp.sent",
    "packets.pubcomp.inuse",
    "packets.pubcomp.missed",
    "packets.subscribe.received",
    "packets.subscribe.error",
    "packets.subscribe.auth_error",
    "packets.suback.sent",
    "packets.unsubscribe.received",
    "packets.unsubscribe.error",
    "packets.unsuback.sent",
    "packets.pingreq.received",
    "packets.pingresp.sent",
    "packets.disconnect.received",
    "packets.disconnect.sent",
    "packets.auth.received",
    "packets.auth.sent",
    "messages.received",
    "messages.sent",
    "messages.qos0.received",
    "messages.qos0.sent",
    "messages.qos1.received",
    "messages.qos1.sent",
    "messages.qos2.received",
    "messages.qos2.sent",
    "messages.publish",
    "messages.dropped",
    "messages.validation_failed",
    "messages.validation_succeeded",
    "messages.transformation_failed",
    "messages.transformation_succeeded",
    "messages.dropped.await_pubrel_timeout",
    "messages.dropped.no_subscribers",
    "messages.forward",
    "messages.delayed",
    "messages.delivered",
    "messages.acked",
    "messages.persisted",
    "delivery.dropped",
    "delivery.dropped.no_local",
    "delivery.dropped.too_large",
    "delivery.dropped.qos0_msg",
    "delivery.dropped.queue_full",
    "delivery.dropped.expired",
    "client.connect",
    "client.connack",
    "client.connected",
    "client.authenticate",
    "client.auth.anonymous",
    "client.authorize",
    "client.subscribe",
    "client.unsubscribe",
    "client.disconnected",
    "session.created",
    "session.resumed",
    "session.takenover",
    "session.discarded",
    "session.terminated",
    "authorization.allow",
    "authorization.deny",
    "authorization.cache_hit",
    "authorization.cache_miss",
    "authorization.superuser",
    "authorization.matched.allow",
    "authorization.matched.deny",
    "authorization.nomatch",
    "authentication.success",
    "authentication.success.anonymous",
    "authentication.failure",
    "overload_protection.delay.ok",
    "overload_protection.delay.timeout",
    "overload_protection.hibernation",
    "overload_protection.gc",
    "overload_protection.new_conn",
)


# Counters beside those of EMQX 5: connections that ended without a session (refused, malformed, silent), and messages
# that were retained, which EMQX 4 counts.
OWN_METRIC_NAMES: Final = ("connections.refused", "messages.retained")

# The gauges of EMQX's `/stats`; each has a present and a highest value.
GAUGE_NAMES: Final = (
    "connections",
    "live_connections",
    "channels",
    "sessions",
    "cluster_sessions",
    "topics",
    "subscriptions",
    "subscriptions.shared",
    "subscribers",
    "suboptions",
    "retained",
    "delayed",
)

# What is shown under several names is kept under one.
_SAME_GAUGES: Final = {"channels": "connections", "cluster_sessions": "connections"}

# Sums of others: whoever counts a part of them has less to do.
_SUMS: Final = frozenset(
    ("packets_sent", "packets_publish_sent", "messages_received", "messages_sent", "authorization_allow")
)
_COUNTERS: Final = tuple(
    counter for name in METRIC_NAMES + OWN_METRIC_NAMES if (counter := name.replace(".", "_")) not in _SUMS
)


class Meter:
    """One attribute a counter: its EMQX name with the dots as underscores."""

    __slots__ = (*_COUNTERS, "disconnected", "gauges", "highest")

    bytes_received: int
    bytes_sent: int
    packets_received: int
    packets_connect_received: int
    packets_connack_sent: int
    packets_connack_error: int
    packets_connack_auth_error: int
    packets_publish_received: int
    packets_publish_inuse: int
    packets_publish_error: int
    packets_publish_auth_error: int
    packets_publish_dropped: int
    packets_puback_received: int
    packets_puback_sent: int
    packets_puback_inuse: int
    packets_puback_missed: int
    packets_pubrec_received: int
    packets_pubrec_sent: int
    packets_pubrec_inuse: int
    packets_pubrec_missed: int
    packets_pubrel_received: int
    packets_pubrel_sent: int
    packets_pubrel_missed: int
    packets_pubcomp_received: int
    packets_pubcomp_sent: int
    packets_pubcomp_inuse: int
    packets_pubcomp_missed: int
    packets_subscribe_received: int
    packets_subscribe_error: int
    packets_subscribe_auth_error: int
    packets_suback_sent: int
    packets_unsubscribe_received: int
    packets_unsubscribe_error: int
    packets_unsuback_sent: int
    packets_pingreq_received: int
    packets_pingresp_sent: int
    packets_disconnect_received: int
    packets_disconnect_sent: int
    packets_auth_received: int
    packets_auth_sent: int
    messages_qos0_received: int
    messages_qos0_sent: int
    messages_qos1_received: int
    messages_qos1_sent: int
    messages_qos2_received: int
    messages_qos2_sent: int
    messages_publish: int
    messages_dropped: int
    messages_validation_failed: int
    messages_validation_succeeded: int
    messages_transformation_failed: int
    messages_transformation_succeeded: int
    messages_dropped_await_pubrel_timeout: int
    messages_dropped_no_subscribers: int
    messages_forward: int
    messages_delayed: int
    messages_delivered: int
    messages_acked: int
    messages_persisted: int
    delivery_dropped: int
    delivery_dropped_no_local: int
    delivery_dropped_too_large: int
    delivery_dropped_qos0_msg: int
    delivery_dropped_queue_full: int
    delivery_dropped_expired: int
    client_connect: int
    client_connack: int
    client_connected: int
    client_authenticate: int
    client_auth_anonymous: int
    client_authorize: int
    client_subscribe: int
    client_unsubscribe: int
    client_disconnected: int
    session_created: int
    session_resumed: int
    session_takenover: int
    session_discarded: int
    session_terminated: int
    authorization_deny: int
    authorization_cache_hit: int
    authorization_cache_miss: int
    authorization_superuser: int
    authorization_matched_allow: int
    authorization_matched_deny: int
    authorization_nomatch: int
    authentication_success: int
    authentication_success_anonymous: int
    authentication_failure: int
    overload_protection_delay_ok: int
    overload_protection_delay_timeout: int
    overload_protection_hibernation: int
    overload_protection_gc: int
    overload_protection_new_conn: int
    connections_refused: int
    messages_retained: int
    disconnected: dict[str, dict[int, int]]
    """How often connections of clients at each listener ended with each reason code."""
    gauges: dict[str, int]
    highest: dict[str, int]

    def __init__(self) -> None:
        for counter in _COUNTERS:
            setattr(self, counter, 0)
        self.disconnected = {}
        self.gauges = dict.fromkeys(GAUGE_NAMES, 0)
        self.highest = dict.fromkeys(GAUGE_NAMES, 0)

    @property
    def messages_received(self) -> int:
        return self.messages_qos0_received + self.messages_qos1_received + self.messages_qos2_received

    @property
    def messages_sent(self) -> int:
        return self.messages_qos0_sent + self.messages_qos1_sent + self.messages_qos2_sent

    @property
    def packets_publish_sent(self) -> int:
        """Every PUBLISH is a message."""
        return self.messages_sent

    @property
    def packets_sent(self) -> int:
        return (
            self.packets_connack_sent
            + self.messages_sent
            + self.packets_puback_sent
            + self.packets_pubrec_sent
            + self.packets_pubrel_sent
            + self.packets_pubcomp_sent
            + self.packets_suback_sent
            + self.packets_unsuback_sent
            + self.packets_pingresp_sent
            + self.packets_disconnect_sent
            + self.packets_auth_sent
        )

    @property
    def authorization_allow(self) -> int:
        """Every decision was kept or was not, and is one or the other."""
        return self.authorization_cache_hit + self.authorization_cache_miss - self.authorization_deny

    def count_disconnected(self, listener: str, reason_code: int) -> None:
        """Why the connection of a client ended."""
        counts = self.disconnected.get(listener)
        if counts is None:
            counts = self.disconnected[listener] = {}
        counts[reason_code] = counts.get(reason_code, 0) + 1

    def set_gauge(self, name: str, value: int) -> None:
        """What `name` stands at now; the highest value it ever had is kept."""
        self.gauges[name] = value
        if value > self.highest[name]:
            self.highest[name] = value

    def move_gauge(self, name: str, by: int) -> None:
        self.set_gauge(name, self.gauges[name] + by)

    def as_dict(self) -> dict[str, int]:
        """All counters by their names."""
        return {name: getattr(self, name.replace(".", "_")) for name in METRIC_NAMES + OWN_METRIC_NAMES}

    def gauges_as_dict(self) -> dict[str, int]:
        """All gauges by their EMQX names, `NAME.count` and `NAME.max`."""
        figures: dict[str, int] = {}
        for name in GAUGE_NAMES:
            kept = _SAME_GAUGES.get(name, name)
            figures[f"{name}.count"] = self.gauges[kept]
            figures[f"{name}.max"] = self.highest[kept]
        return figures
