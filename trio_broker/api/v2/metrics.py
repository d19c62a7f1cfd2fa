"""`/monitoring/metrics`: the counters since the start, under EMQ 2's names.

Invariant: exactly the 38 names of EMQ 2, each an integer.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from trio_broker.api.context import Api
from trio_broker.api.routes import Routes
from trio_broker.api.v2.envelope import Result

routes = Routes("Metrics")

Counters: TypeAlias = dict[str, int]

COUNTERS: Final = {
    "bytes/received": "bytes.received",
    "bytes/sent": "bytes.sent",
    "packets/received": "packets.received",
    "packets/sent": "packets.sent",
    "packets/connect": "packets.connect.received",
    "packets/connack": "packets.connack.sent",
    "packets/publish/received": "packets.publish.received",
    "packets/publish/sent": "packets.publish.sent",
    "packets/puback/received": "packets.puback.received",
    "packets/puback/sent": "packets.puback.sent",
    "packets/puback/missed": "packets.puback.missed",
    "packets/pubrec/received": "packets.pubrec.received",
    "packets/pubrec/sent": "packets.pubrec.sent",
    "packets/pubrec/missed": "packets.pubrec.missed",
    "packets/pubrel/received": "packets.pubrel.received",
    "packets/pubrel/sent": "packets.pubrel.sent",
    "packets/pubrel/missed": "packets.pubrel.missed",
    "packets/pubcomp/received": "packets.pubcomp.received",
    "packets/pubcomp/sent": "packets.pubcomp.sent",
    "packets/pubcomp/missed": "packets.pubcomp.missed",
    "packets/subscribe": "packets.subscribe.received",
    "packets/suback": "packets.suback.sent",
    "packets/unsubscribe": "packets.unsubscribe.received",
    "packets/unsuback": "packets.unsuback.sent",
    "packets/pingreq": "packets.pingreq.received",
    "packets/pingresp": "packets.pingresp.sent",
    "packets/disconnect": "packets.disconnect.received",
    "messages/received": "messages.received",
    "messages/sent": "messages.sent",
    "messages/qos0/received": "messages.qos0.received",
    "messages/qos0/sent": "messages.qos0.sent",
    "messages/qos1/received": "messages.qos1.received",
    "messages/qos1/sent": "messages.qos1.sent",
    "messages/qos2/received": "messages.qos2.received",
    "messages/qos2/sent": "messages.qos2.sent",
    "messages/dropped": "messages.dropped.no_subscribers",
}
"""EMQ 2's names, and the counters that mean the same."""
QOS2_DROPPED: Final = ("packets.publish.dropped", "messages.dropped.await_pubrel_timeout")
"""Too many waited for a PUBREL, or one waited too long."""


@routes.get("/monitoring/metrics", "Get the metrics of all nodes")
async def metrics(api: Api) -> Result[dict[str, Counters]]:
    return Result({api.node_name: await _counters(api)})


@routes.get("/monitoring/metrics/:node", "Get the metrics of a node")
async def node_metrics(api: Api, node: str) -> Result[Counters]:
    api.check_node(node)
    return Result(await _counters(api))


async def _counters(api: Api) -> Counters:
    counted = await api.questions.metrics()
    gauges = await api.questions.stats()
    return {
        **{name: counted[counter] for name, counter in COUNTERS.items()},
        "messages/qos2/dropped": sum(counted[counter] for counter in QOS2_DROPPED),
        "messages/retained": gauges["retained.count"],
    }
