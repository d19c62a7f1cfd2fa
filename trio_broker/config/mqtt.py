"""The `[mqtt]` table: EMQX's zone settings with EMQX's names and defaults.

Invariant: durations are seconds, sizes bytes, `"infinity"` is `math.inf`, and an unbounded count is `math.inf` however
it was written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from attrs import frozen

from trio_broker.config.kinds import Choice, Duration, Flag, Integer, ListOf, Number, Or, Size, Table, Text
from trio_broker.config.setting import setting

_NONE: Mapping[str, int] = MappingProxyType({})

_TIME = Duration()
_TIME_OR_NEVER = Or("infinity", math.inf, Duration())
_COUNT_OR_ALL = Or("infinity", math.inf, Integer(0), zero=True)
_UP_TO_65535 = Integer(0, 65535)
_FROM_CERTIFICATE = Choice(("disabled", "cn", "dn", "crt", "pem", "md5"))


@frozen(kw_only=True)
class MqttConfig:
    """What holds for all clients."""

    allow_anonymous: bool | None = setting(
        Or("loopback", None, Flag()),
        "loopback",
        'without authenticators: "loopback" = from this machine, true = anybody',
    )
    idle_timeout: float = setting(_TIME_OR_NEVER, "15s", "a connection that sends no CONNECT ends after this")
    max_packet_size: int = setting(Size(1, 268_435_455), "1MB", "larger packets end the connection")
    max_clientid_len: int = setting(Integer(23, 65535), 65535, "bytes in a client identifier")
    max_topic_levels: int = setting(Integer(1, 65535), 128, "levels in a topic name or filter")
    max_topic_alias: int = setting(_UP_TO_65535, 65535, "topic aliases a client may set up; 0 = none")
    retain_available: bool = setting(Flag(), True, "retained messages are taken")
    wildcard_subscription: bool = setting(Flag(), True, "topic filters may hold + and #")
    shared_subscription: bool = setting(Flag(), True, "$share/group/filter may be subscribed to")
    shared_subscription_strategy: str = setting(
        Choice(
            (
                "random",
                "round_robin",
                "round_robin_per_group",
                "sticky",
                "local",
                "hash_topic",
                "hash_clientid",
            )
        ),
        "round_robin",
        "who of a shared group gets the next message",
    )
    shared_subscription_initial_sticky_pick: str = setting(
        Choice(("random", "local", "hash_topic", "hash_clientid")), "random", "the first pick of the sticky strategy"
    )
    exclusive_subscription: bool = setting(Flag(), False, "$exclusive/topic may be subscribed to")
    ignore_loop_deliver: bool = setting(Flag(), False, "MQTT 3.1 and 3.1.1 clients do not get their own messages")
    strict_mode: bool = setting(Flag(), False, "texts must be free of what MQTT only discourages")
    response_information: str = setting(Text(), "", "told to MQTT 5.0 clients that ask for response information")
    server_keepalive: int | None = setting(
        Or("disabled", None, Integer(1, 65535)), "disabled", "seconds; put in the place of what MQTT 5.0 clients wish"
    )
    keepalive_multiplier: float = setting(Number(), 1.5, "a client may be silent for its keep alive times this")
    keepalive_check_interval: float = setting(_TIME, "30s", "the longest time between two looks at a silent client")
    retry_interval: float = setting(
        _TIME_OR_NEVER, "infinity", "when to send again what is not acknowledged, while connected"
    )
    use_username_as_clientid: bool = setting(Flag(), False, "the user name is taken as client identifier")
    peer_cert_as_username: str = setting(_FROM_CERTIFICATE, "disabled", "part of the certificate taken as user name")
    peer_cert_as_clientid: str = setting(
        _FROM_CERTIFICATE, "disabled", "part of the certificate taken as client identifier"
    )
    client_attrs_init: tuple[Mapping[str, str], ...] = setting(
        ListOf(Table(Text(), ("expression", "set_as_attr"))), [], "attributes a client gets when it connects"
    )
    session_expiry_interval: float = setting(
        _TIME_OR_NEVER, "2h", "of MQTT 3.1 and 3.1.1 clients with clean session off; 5.0 clients say their own"
    )
    message_expiry_interval: float = setting(_TIME_OR_NEVER, "infinity", "for messages that say none of their own")
    max_awaiting_rel: float = setting(
        _COUNT_OR_ALL, 100, "QoS 2 messages that wait for PUBREL; the Receive Maximum we announce"
    )
    max_qos_allowed: int = setting(Integer(0, 2), 2, "the highest QoS a client may publish with")
    mqueue_priorities: Mapping[str, int] = setting(
        Or("disabled", _NONE, Table(Integer(1, 255))), "disabled", 'topic names and their priorities: {"t/1" = 10}'
    )
    mqueue_default_priority: str = setting(
        Choice(("highest", "lowest")), "lowest", "the priority of topics that are not in mqueue_priorities"
    )
    mqueue_store_qos0: bool = setting(Flag(), True, "QoS 0 messages are queued for clients that are away")
    max_mqueue_len: float = setting(_COUNT_OR_ALL, 1000, "messages queued for one session; 0 = no limit")
    max_inflight: int = setting(Integer(1, 65535), 32, "QoS 1 and 2 messages on their way to one client")
    max_subscriptions: float = setting(Or("infinity", math.inf, Integer(1)), "infinity", "subscriptions of one session")
    upgrade_qos: bool = setting(Flag(), False, "a message gets the QoS of the subscription where that is higher")
    await_rel_timeout: float = setting(
        _TIME_OR_NEVER, "infinity", "a QoS 2 message whose PUBREL never came is given up; may then come twice"
    )
