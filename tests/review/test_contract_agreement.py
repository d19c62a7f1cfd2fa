"""The REST contract, read afresh: more corners, where counts, lists and messages have to agree."""

from __future__ import annotations

from typing import Any

import trio
from api.live import running
from api.operations import shows
from review.contract import away, done, got, post
from trio.testing import MockClock

from trio_broker.config import Config
from trio_broker.config.model import DashboardConfig
from trio_broker.protocol.packets import (
    Connect,
    Packet,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
)


@shows("GET /metrics")
async def test_what_goes_wrong_is_counted(autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1")
        await client.subscribe("a/#/b")
        strays: list[Packet] = [PubAck(99), PubRec(99), PubRel(99), PubComp(99)]
        for packet in strays:
            await client.send(packet)
        for dup in (False, True):
            await client.send(Publish("u", b"", 2, dup=dup, packet_identifier=7))
        await client.ping()
        kinds: list[tuple[int, type[PubAck | PubRec | PubComp]]] = [(1, PubRec), (2, PubAck), (2, PubComp)]
        for qos, wrong in kinds:
            client = await live.connect("c2", auto_ack=False)
            await client.subscribe("t", 2)
            await post(live, "t", qos=qos)
            await client.send(wrong((await client.receive()).packet_identifier))
            await trio.sleep(1)  # the broker may end the connection
        refused = await live.connect("", level=4, connect=False)
        await refused.connect(Connect("", 4, clean_start=False))
        await trio.sleep(1)
        counted = await got(live, "/metrics?aggregate=true")
        expected = {
            "packets.puback.missed": 1,
            "packets.pubrec.missed": 1,
            "packets.pubrel.missed": 1,
            "packets.pubcomp.missed": 1,
            "packets.pubrec.inuse": 1,
            "packets.puback.inuse": 1,
            "packets.pubcomp.inuse": 1,
            "packets.publish.inuse": 1,
            "packets.subscribe.error": 1,
            "packets.connack.error": 1,
            "packets.connack.auth_error": 0,
            "packets.connack.sent": 5,
            "client.connected": 4,
        }
        assert {name: counted[name] for name in expected} == expected


@shows("GET /monitor", "GET /monitor_current")
async def test_charts_of_a_busy_broker_are_whole_numbers(autojump_clock: MockClock) -> None:
    config = Config(dashboard=DashboardConfig(sample_interval=10.0))
    async with running(config) as live:
        client = await live.connect("c1")
        for index in range(7):
            await client.publish("nobody", b"", index % 3)
            await trio.sleep(3.7)
        for row in await got(live, "/monitor"):
            assert all(type(value) is int for value in row.values())
        assert all(type(value) is int for value in (await got(live, "/monitor_current")).values())


@shows("GET /clients_v2")
async def test_no_row_is_missed_while_sessions_come_and_go(autojump_clock: MockClock) -> None:
    """Who is there all the time is in exactly one page of the cursor."""
    async with running() as live:
        for index in range(10):
            await live.connect(f"stay{index}")
            await live.connect(f"go{index}")
        seen: list[str] = []
        query: dict[str, Any] = {"limit": 3, "fields": "clientid"}
        for step in range(20):
            answer = await got(live, "/clients_v2", **query)
            seen += [row["clientid"] for row in answer["data"]]
            if "cursor" not in answer["meta"]:
                break
            query["cursor"] = answer["meta"]["cursor"]
            await live.api.delete(f"/clients/go{step}")
            await live.connect(f"new{step}")
        assert sorted(each for each in seen if each.startswith("stay")) == [f"stay{index}" for index in range(10)]
        assert len(seen) == len(set(seen))


@shows("GET /clients/:clientid", "GET /clients/:clientid/inflight_messages")
async def test_counts_are_those_of_the_lists(autojump_clock: MockClock) -> None:
    async with running() as live:
        client = await live.connect("c1", auto_ack=False, properties={"receive_maximum": 3})
        await client.subscribe("t", 2)
        for qos in (1, 2, 2, 1, 2):
            await post(live, "t", qos=qos)
        packets = [await client.receive() for _ in range(3)]
        await client.send(PubRec(packets[1].packet_identifier))
        await client.ping()
        row = await got(live, "/clients/c1")
        flying = (await got(live, "/clients/c1/inflight_messages"))["data"]
        queued = (await got(live, "/clients/c1/mqueue_messages"))["data"]
        assert [each["qos"] for each in flying] == [1, 2, 2]
        assert (row["inflight_cnt"], row["mqueue_len"]) == (len(flying), len(queued)) == (3, 2)


@shows("DELETE /mqtt/retainer/messages", "GET /stats", "GET /monitor_current")
async def test_deleting_all_reaches_topics_of_the_broker_too(autojump_clock: MockClock) -> None:
    async with running() as live:
        for topic in ("a", "$priv/a", "b/c"):
            await post(live, topic, retain=True)
        await trio.sleep(2)
        assert (await got(live, "/stats?aggregate=true"))["retained.count"] == 3
        done(await live.api.delete("/mqtt/retainer/messages"))
        assert (await got(live, "/mqtt/retainer/messages"))["data"] == []
        await trio.sleep(2)
        stats = await got(live, "/stats?aggregate=true")
        assert (stats["retained.count"], stats["retained.max"]) == (0, 3)
        assert (await got(live, "/monitor_current"))["retained_msg_count"] == 0


@shows("POST /publish")
async def test_what_the_api_retains_reaches_who_comes_later(autojump_clock: MockClock) -> None:
    async with running() as live:
        properties = {"message_expiry_interval": 100, "user_properties": {"k": "v"}, "correlation_data": "c"}
        await post(live, "t", "x", qos=2, retain=True, properties=properties)
        await trio.sleep(40)
        client = await live.connect("c1")
        await client.subscribe("t", 1)
        packet = await client.receive()
        assert (packet.payload, packet.qos, packet.retain) == (b"x", 1, True)
        assert packet.properties == {
            "message_expiry_interval": 60,
            "user_property": [("k", "v")],
            "correlation_data": b"c",
        }


@shows("POST /trace", "GET /trace/:name/log")
async def test_an_address_is_traced(autojump_clock: MockClock) -> None:
    async with running() as live:
        probe = await live.connect("probe")
        address = (await got(live, "/clients/probe"))["ip_address"]
        body = {"name": "near", "type": "ip_address", "ip_address": address}
        assert (await live.api.post("/trace", json=body)).status_code == 200
        body = {"name": "far", "type": "ip_address", "ip_address": "10.9.8.7"}
        assert (await live.api.post("/trace", json=body)).status_code == 200
        await live.connect("c7", username="u7")
        await probe.ping()
        near = (await got(live, "/trace/near/log?bytes=100000"))["items"]
        assert "c7" in near
        assert "PINGREQ" in near
        assert (await got(live, "/trace/far/log"))["items"] == ""


@shows("GET /subscriptions", "GET /clients/:clientid/subscriptions", "POST /publish")
async def test_a_group_whose_members_are_away(autojump_clock: MockClock) -> None:
    async with running() as live:
        for client_id in ("c1", "c2"):
            await away(live, client_id, "$share/g/t/+")
        for index in range(6):
            assert (await post(live, f"t/{index}", qos=1)).status_code == 200
        seen = [
            row["topic"]
            for client_id in ("c1", "c2")
            for row in (await got(live, f"/clients/{client_id}/mqueue_messages"))["data"]
        ]
        assert sorted(seen) == [f"t/{index}" for index in range(6)]
        rows = (await got(live, "/subscriptions?share_group=g"))["data"]
        assert {row["clientid"] for row in rows} == {"c1", "c2"}
