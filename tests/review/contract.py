"""What the tests of the REST contract have in common: names of keys, formats of values, ways to act on a broker.

Invariant: nothing here looks at the broker but through MQTT and REST.
"""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
from api.live import Live


def words(text: str) -> list[str]:
    return text.split()


NODE = "trio_broker@127.0.0.1"
TIME_MS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d")
TIME_S = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d")
MESSAGE_ID = re.compile(r"[0-9A-F]{32}")
KEPT: dict[str, Any] = {"properties": {"session_expiry_interval": 3600}}

COUNTERS = words("""
bytes.received bytes.sent packets.received packets.sent packets.connect.received packets.connack.sent
packets.connack.error packets.connack.auth_error packets.publish.received packets.publish.sent packets.publish.inuse
packets.publish.error packets.publish.auth_error packets.publish.dropped packets.puback.received packets.puback.sent
packets.puback.inuse packets.puback.missed packets.pubrec.received packets.pubrec.sent packets.pubrec.inuse
packets.pubrec.missed packets.pubrel.received packets.pubrel.sent packets.pubrel.missed packets.pubcomp.received
packets.pubcomp.sent packets.pubcomp.inuse packets.pubcomp.missed packets.subscribe.received packets.subscribe.error
packets.subscribe.auth_error packets.suback.sent packets.unsubscribe.received packets.unsubscribe.error
packets.unsuback.sent packets.pingreq.received packets.pingresp.sent packets.disconnect.received
packets.disconnect.sent packets.auth.received packets.auth.sent messages.received messages.sent
messages.qos0.received messages.qos0.sent messages.qos1.received messages.qos1.sent messages.qos2.received
messages.qos2.sent messages.publish messages.dropped messages.validation_failed messages.validation_succeeded
messages.transformation_failed messages.transformation_succeeded messages.dropped.await_pubrel_timeout
messages.dropped.no_subscribers messages.forward messages.delayed messages.delivered messages.acked
messages.persisted delivery.dropped delivery.dropped.no_local delivery.dropped.too_large delivery.dropped.qos0_msg
delivery.dropped.queue_full delivery.dropped.expired client.connect client.connack client.connected
client.authenticate client.auth.anonymous client.authorize client.subscribe client.unsubscribe client.disconnected
session.created session.resumed session.takenover session.discarded session.terminated authorization.allow
authorization.deny authorization.cache_hit authorization.cache_miss authorization.superuser
authorization.matched.allow authorization.matched.deny authorization.nomatch authentication.success
authentication.success.anonymous authentication.failure overload_protection.delay.ok
overload_protection.delay.timeout overload_protection.hibernation overload_protection.gc
overload_protection.new_conn
""")
GAUGES = words("""
connections live_connections channels sessions cluster_sessions topics subscriptions subscriptions.shared
subscribers suboptions retained
""")
STATS = {f"{name}.{kind}" for name in GAUGES for kind in ("count", "max")}

CLIENT_INTS = words("""
port proto_ver keepalive expiry_interval subscriptions_cnt inflight_cnt inflight_max mqueue_len mqueue_max
mqueue_dropped awaiting_rel_cnt awaiting_rel_max recv_oct send_oct recv_cnt send_cnt recv_pkt send_pkt recv_msg send_msg
recv_msg.qos0 recv_msg.qos1 recv_msg.qos2 send_msg.qos0 send_msg.qos1 send_msg.qos2 recv_msg.dropped
recv_msg.dropped.await_pubrel_timeout send_msg.dropped send_msg.dropped.expired send_msg.dropped.queue_full
send_msg.dropped.too_large mailbox_len heap_size reductions
""")
CLIENT_FLAGS = words("connected clean_start is_bridge is_persistent is_expired durable enable_authn")
CLIENT_TEXTS = words("clientid node connected_at created_at ip_address listener proto_name")
CLIENT_KEYS = {*CLIENT_INTS, *CLIENT_FLAGS, *CLIENT_TEXTS, "username", "mountpoint", "subscriptions_max"}


async def got(live: Live, path: str, **query: Any) -> Any:
    """The JSON of a GET that succeeds."""
    answer = await live.api.get(path, params=query or None)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    return answer.json()


async def listed(live: Live, path: str, key: Any = "clientid", **query: Any) -> set[Any]:
    """What a list has in `key`."""
    return {row[key] for row in (await got(live, path, **query))["data"]}


def failed(answer: httpx.Response, status: int, code: str, message: str | None = None) -> str:
    """It is exactly this failure; gives the message."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    body = answer.json()
    assert body.keys() == {"code", "message"}
    assert body["code"] == code
    if message is not None:
        assert body["message"] == message
    assert isinstance(body["message"], str)
    return str(body["message"])


def invalid(answer: httpx.Response, path: str, reason: str = "") -> None:
    """It is a failure of validation at this path."""
    told = json.loads(failed(answer, 400, "BAD_REQUEST"))
    first = told[0] if isinstance(told, list) else told
    assert first["kind"] == "validation_error"
    assert first["path"] == path
    assert reason in first["reason"]


def done(answer: httpx.Response) -> None:
    """204, and nothing else."""
    assert (answer.status_code, answer.content) == (204, b""), answer.text


async def away(live: Live, client_id: str, *topic_filters: str, qos: int = 1, **options: Any) -> None:
    """A session whose client is gone."""
    client = await live.connect(client_id, **KEPT | options)
    for topic_filter in topic_filters:
        await client.subscribe(topic_filter, qos)
    await client.disconnect()


async def post(live: Live, topic: str, payload: str = "x", **fields: Any) -> httpx.Response:
    return await live.api.post("/publish", json={"topic": topic, "payload": payload, **fields})
