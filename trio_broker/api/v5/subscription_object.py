"""The subscription object, as every listing shows it, and what a `topic` to subscribe to must be.

Invariant: shared subscriptions are shown in full, `$share/<group>/<filter>`.
"""

from __future__ import annotations

from msgspec import Struct

from trio_broker.api.context import Api
from trio_broker.api.failures import ApiError, invalid
from trio_broker.errors import ProtocolError
from trio_broker.protocol.topics import TopicFilterParts, parse_topic_filter
from trio_broker.routing.subscription import Subscription


class SubscriptionObject(Struct, kw_only=True):
    topic: str
    clientid: str
    node: str
    qos: int
    nl: int
    rap: int
    rh: int
    durable: bool = False


def subscription_object(api: Api, client_id: str, subscription: Subscription) -> SubscriptionObject:
    return SubscriptionObject(
        topic=subscription.topic_filter,
        clientid=client_id,
        node=api.node_name,
        qos=subscription.qos,
        nl=int(subscription.no_local),
        rap=int(subscription.retain_as_published),
        rh=subscription.retain_handling,
    )


def checked_filter(topic_filter: str, path: str) -> TopicFilterParts:
    """The parts of a well-formed filter; else 400 that names `path`."""
    try:
        return parse_topic_filter(topic_filter)
    except ProtocolError as error:
        raise bad_filter(path, topic_filter, error) from None


def bad_filter(path: str, topic_filter: str, error: ProtocolError) -> ApiError:
    return invalid(path, f"topic_filter_invalid: {error.message}", value=topic_filter[:200])
