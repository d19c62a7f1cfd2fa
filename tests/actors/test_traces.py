"""What traces record, of whom, and that they disturb nobody."""

from __future__ import annotations

import json
from typing import Any

import trio
from actors.flows import end_of, rest, settle, take
from api.live import Live, running
from api.test_trace import log_of, make
from trio_websocket import open_websocket_url

from trio_broker.access.authentication import AuthenticationChain, Credentials, Verdict
from trio_broker.actors.messages import AskActor
from trio_broker.actors.questions import NewMessage
from trio_broker.config import Config
from trio_broker.protocol.encode import encode
from trio_broker.protocol.message import Origin
from trio_broker.protocol.packets import MQTT5, Connect, Disconnect, Publish, Will
from trio_broker.protocol.reason_codes import ReasonCode
from trio_broker.testing import open_client
from trio_broker.testing.running import make_config


def said(lines: list[str]) -> list[str]:
    """Without the times and the addresses."""
    return [f"{line.split(' ')[1]} {line.partition(' msg: ')[2]}" for line in lines]


def core_of(live: Live) -> Any:
    core = live.broker._core
    assert core is not None
    return core


async def actor_of(live: Live, client_id: str) -> Any:
    return await core_of(live).manager.ask(AskActor(client_id))


async def test_all_of_an_mqtt_5_client_is_recorded(autojump_clock: object) -> None:
    async with running() as live:
        await make(live, clientid="c1")
        c1 = await live.connect(
            "c1",
            username="u1",
            password=b"Top-Secret",
            keep_alive=60,
            will=Will("w", b"gone", 1, True),
            properties={"session_expiry_interval": 5},
        )
        await c1.subscribe("t/#", qos=2, identifier=7)
        await c1.publish("t/1", b"one", qos=2)
        await take(c1)
        await c1.publish("t/2", b"\xff\x00", qos=0, retain=True, properties={"correlation_data": b"ab"})
        await c1.publish("nobody", b"two", qos=1)
        await rest(c1)
        await c1.ping()
        await c1.unsubscribe("t/#", "x")
        await c1.disconnect()
        lines = await log_of(live)
        assert all(line.split(" ")[2] in ("c1@127.0.0.1:0", "c1@", "@") for line in lines)
        assert "Top-Secret" not in "\n".join(lines)
        found = said(lines)
        assert found[:6] == [
            "[MQTT] mqtt_packet_received, packet: CONNECT(Q0, R0, D0, ClientId=c1, ProtoName=MQTT, ProtoVsn=5, "
            "CleanStart=true, KeepAlive=60, Username=u1, Password=******, Will(Q1, R1, Topic=w, Payload(text)=gone), "
            "Properties=[session_expiry_interval: 5])",
            "[AUTHN] authentication_result, result: ok, is_anonymous: true, username: u1",
            "[SESSION] session_created, session_present: false",
            found[3],
            "[MQTT] mqtt_packet_received, packet: SUBSCRIBE(Q1, R0, D0, PacketId=1, "
            "TopicFilters=[t/#(nl: 0, qos: 2, rap: 0, rh: 0)], Properties=[subscription_identifier: [7]])",
            "[SUBSCRIBE] subscribe, topic: t/#, sub_opts: {nl: 0, qos: 2, rap: 0, rh: 0}",
        ]
        assert found[3].startswith("[MQTT] mqtt_packet_sent, packet: CONNACK(Q0, R0, D0, AckFlags=0, ReasonCode=0")
        for wanted in (
            "[MQTT] mqtt_packet_sent, packet: SUBACK(Q0, R0, D0, PacketId=1, ReasonCodes=[2])",
            "[MQTT] mqtt_packet_received, packet: PUBLISH(Q2, R0, D0, Topic=t/1, PacketId=2, Payload(text)=one)",
            "[PUBLISH] publish_to, topic: t/1, qos: 2, retain: false, subscribers: 1, payload: one",
            "[SESSION] deliver, topic: t/1, qos: 2, messages: 1, from_clientid: c1, subscribed_qos: 2",
            "[MQTT] mqtt_packet_sent, packet: PUBREC(Q0, R0, D0, PacketId=2, ReasonCode=0)",
            "[MQTT] mqtt_packet_received, packet: PUBREL(Q1, R0, D0, PacketId=2, ReasonCode=0)",
            "[MQTT] mqtt_packet_sent, packet: PUBCOMP(Q0, R0, D0, PacketId=2, ReasonCode=0)",
            "[MQTT] mqtt_packet_sent, packet: PUBLISH(Q2, R0, D0, Topic=t/1, PacketId=1, "
            "Properties=[subscription_identifier: [7]], Payload(text)=one)",
            "[MQTT] mqtt_packet_received, packet: PUBLISH(Q0, R1, D0, Topic=t/2, PacketId=undefined, "
            "Properties=[correlation_data: (2 bytes)], Payload(hex)=FF00)",
            "[PUBLISH] publish_to, topic: t/2, qos: 0, retain: true, subscribers: 1, payload: FF00",
            "[PUBLISH] publish_to, topic: nobody, qos: 1, retain: false, subscribers: 0, payload: two",
            "[MQTT] mqtt_packet_sent, packet: PUBACK(Q0, R0, D0, PacketId=3, ReasonCode=16)",
            "[MQTT] mqtt_packet_received, packet: PINGREQ(Q0, R0, D0)",
            "[MQTT] mqtt_packet_sent, packet: PINGRESP(Q0, R0, D0)",
            "[MQTT] mqtt_packet_received, packet: UNSUBSCRIBE(Q1, R0, D0, PacketId=4, TopicFilters=[t/#, x])",
            "[UNSUBSCRIBE] unsubscribe, topic: t/#",
            "[MQTT] mqtt_packet_sent, packet: UNSUBACK(Q0, R0, D0, PacketId=4, ReasonCodes=[0, 17])",
            "[MQTT] mqtt_packet_received, packet: DISCONNECT(Q0, R0, D0, ReasonCode=0)",
            "[SOCKET] connection_terminated, reason_code: 0x00, reason: DISCONNECT",
        ):
            assert wanted in found, wanted
        await trio.sleep(6)
        assert said(await log_of(live))[-1] == "[SESSION] session_terminated"


async def test_json_lines_are_objects(autojump_clock: object) -> None:
    async with running() as live:
        await make(live, clientid="c1", formatter="json", payload_encode="hidden")
        c1 = await live.connect("c1", level=4)
        await c1.publish("t", b"confidential")
        events = [json.loads(line) for line in await log_of(live)]
        assert [event["msg"] for event in events] == [
            "mqtt_packet_received",
            "authentication_result",
            "session_created",
            "mqtt_packet_sent",
            "mqtt_packet_received",
            "publish_to",
        ]
        assert {event["level"] for event in events} == {"debug"}
        assert {event["meta"]["clientid"] for event in events} == {"c1"}
        assert "confidential" not in json.dumps(events)
        assert events[-1]["meta"] == {
            "trace_tag": "PUBLISH",
            "clientid": "c1",
            "peername": "127.0.0.1:0",
            "topic": "t",
            "qos": 0,
            "retain": False,
            "subscribers": 0,
            "payload": "******",
            "payload_encode": "hidden",
        }
        assert events[4]["meta"]["packet"].endswith("Topic=t, PacketId=undefined, Payload(hidden)=******)")


async def test_payloads_in_hexadecimal_digits(autojump_clock: object) -> None:
    async with running() as live:
        await make(live, type="topic", topic="t", payload_encode="hex")
        await live.broker.publish("t", b"AZ")
        assert said(await log_of(live))[0].endswith("payload: 415A")


async def test_a_client_of_3_1_1_and_what_it_sends_ahead(autojump_clock: object) -> None:
    async with running() as live:
        await make(live, clientid="c1")
        async with open_client(live.broker, client_id="c1", level=4, connect=False) as c1:
            await c1.send_bytes(b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x00\x00\x02c1\x30\x03\x00\x01a\xc0\x00")
            await settle()
        found = said(await log_of(live))
        assert "CONNECT(Q0, R0, D0, ClientId=c1, ProtoName=MQTT, ProtoVsn=4" in found[0]
        assert [line.split("(")[0].rpartition(" ")[2] for line in found[1:3]] == ["PUBLISH", "PINGREQ"]
        assert any(line.startswith("[PUBLISH] publish_to, topic: a") for line in found)


class _Refusing:
    async def authenticate(self, credentials: Credentials) -> Verdict | None:
        await trio.lowlevel.checkpoint()
        return Verdict(ReasonCode(0x86 if credentials.username == "bad" else 0))


class _Denying:
    def authorize(self, client: Origin, action: str, topic: str) -> bool:
        return topic != "no"


async def test_refusals_are_recorded(autojump_clock: object) -> None:
    async with running() as live:
        core_of(live).authentication = AuthenticationChain([_Refusing()], True)
        core_of(live).authorization.authorizer = _Denying()
        await make(live, clientid="c1")
        refused = await live.connect("c1", username="bad", password=b"x")
        assert refused.connack.reason_code == 0x86
        assert said(await log_of(live))[1:] == [
            "[AUTHN] authentication_failure, reason_code: 0x86, reason: authentication failed",
            "[CONNECT] connection_refused, reason_code: 0x86, reason: authentication failed",
            "[MQTT] mqtt_packet_sent, packet: CONNACK(Q0, R0, D0, AckFlags=0, ReasonCode=134)",
        ]
        c1 = await live.connect("c1")
        await c1.publish("no", b"", qos=1)
        await c1.publish("yes", b"", qos=1)
        await c1.subscribe("no")
        found = [line for line in said(await log_of(live)) if line.startswith("[AUTHZ]")]
        assert found == [
            "[AUTHZ] authorization_result, action: publish, topic: no, result: deny",
            "[AUTHZ] authorization_result, action: publish, topic: yes, result: allow",
            "[AUTHZ] authorization_result, action: subscribe, topic: no, result: deny",
        ]


async def test_who_is_connected_is_marked_until_the_trace_ends(autojump_clock: object) -> None:
    async with running() as live:
        core = core_of(live)
        core.authorization.authorizer = _Denying()
        c1, c2 = await live.connect("c1"), await live.connect("c2")
        await c1.send_bytes(b"\x30")  # the trace begins within a packet
        await settle()
        actor, other = await actor_of(live, "c1"), await actor_of(live, "c2")
        decide = actor.connection.channel.authorize_publish
        await make(live, "t1", clientid="c1")
        await make(live, "t2", type="ip_address", ip_address="127.0.0.1", start_at=live_now(live) + 100)
        assert actor.connection.trace is not None
        assert other.connection.trace is other.trace is None
        assert actor.connection.channel.authorize_publish is not decide
        await c1.send_bytes(b"\x05\x00\x01a\x00x")
        await c1.ping()
        assert "Topic=a, PacketId=undefined, Payload(text)=x" in said(await log_of(live))[0]
        await trio.sleep(101)
        assert other.connection.trace is not None
        await c2.ping()
        assert len(await log_of(live, "t2")) == 2
        assert (await live.api.put("/trace/t2/stop")).status_code == 200
        assert other.connection.trace is other.trace is None
        assert actor.trace is not None
        assert (await live.api.delete("/trace")).status_code == 204
        assert actor.connection.trace is actor.trace is None
        assert actor.connection.channel.authorize_publish is decide
        assert core.tracing.active is False


def live_now(live: Live) -> int:
    core = core_of(live)
    return int(core.clock.wall_ms(core.clock.now())) // 1000


async def test_without_a_trace_there_is_no_mark_and_no_plan_knows_of_it(autojump_clock: object) -> None:
    async with running() as live:
        core = core_of(live)
        await make(live, "waits", start_at=live_now(live) + 1000, clientid="c1")
        await make(live, "over", type="topic", topic="#")
        await live.api.put("/trace/over/stop")
        for client_id in ("c1", "c2"):
            client = await live.connect(client_id)
            await client.subscribe("t")
            await client.publish("t", b"")
        await settle()
        assert core.tracing.active is False
        assert [connection.trace for connection in core.door.connections()] == [None, None]
        assert [(await actor_of(live, one)).trace for one in ("c1", "c2")] == [None, None]
        assert core.router.table.plans["t"].special is None
        assert core.tracing.concerns("t") is False


async def test_a_topic_is_traced_whoever_publishes(autojump_clock: object) -> None:
    async with running() as live:
        await make(live, type="topic", topic="t/+")
        c1 = await live.connect("c1")
        for topic_filter in ("t/1", "#", "t/#", "other", "t", "t/1/2", "$share/g/+/1"):
            await c1.subscribe(topic_filter)
        await c1.unsubscribe("t/1")
        await c1.unsubscribe("$share/g/+/1")
        await c1.unsubscribe("other")
        await live.api.post("/clients/c1/subscribe", json={"topic": "t/2", "qos": 1})
        await c1.publish("t/1", b"by client")
        await live.broker.publish("t/2", b"by program", retain=True)
        await live.broker.questions.publish([NewMessage("t/3", b"by rest")])
        await live.broker.publish("t/3/4", b"too deep")
        await live.broker.publish("t", b"too short")
        found = [(line.split(" ")[2], line.partition(" msg: ")[2]) for line in await log_of(live)]
        options = ", sub_opts: {nl: 0, qos: 0, rap: 0, rh: 0}"
        assert found == [
            ("c1@127.0.0.1:0", f"subscribe, topic: t/1{options}"),
            ("c1@127.0.0.1:0", f"subscribe, topic: #{options}"),
            ("c1@127.0.0.1:0", f"subscribe, topic: t/#{options}"),
            ("c1@127.0.0.1:0", f"subscribe, topic: $share/g/+/1{options}"),
            ("c1@127.0.0.1:0", "unsubscribe, topic: t/1"),
            ("c1@127.0.0.1:0", "unsubscribe, topic: $share/g/+/1"),
            ("c1@127.0.0.1:0", "subscribe, topic: t/2, sub_opts: {nl: 0, qos: 1, rap: 0, rh: 0}"),
            ("c1@127.0.0.1:0", "publish_to, topic: t/1, qos: 0, retain: false, subscribers: 1, payload: by client"),
            (f"{live.broker.config.node.name}@", found[8][1]),
            ("http_api@", found[9][1]),
        ]
        assert found[8][1] == "publish_to, topic: t/2, qos: 0, retain: true, subscribers: 1, payload: by program"
        assert found[9][1] == "publish_to, topic: t/3, qos: 0, retain: false, subscribers: 1, payload: by rest"


async def test_what_waits_and_what_is_lost_is_recorded(autojump_clock: object) -> None:
    config = make_config(Config(), {"mqtt": {"max_mqueue_len": 2}})
    async with running(config) as live:
        c1 = await live.connect("c1", properties={"session_expiry_interval": 100})
        await c1.subscribe("q", qos=1)
        await c1.disconnect()
        await settle()
        await make(live, clientid="c1")
        for number in range(3):
            await live.broker.publish("q", b"%d" % number, qos=1)
        deliver = (
            "[SESSION] deliver, topic: q, qos: 1, messages: 1, from_clientid: trio_broker@127.0.0.1, subscribed_qos: 1"
        )
        assert said(await log_of(live)) == [
            deliver,
            "[SESSION] queued, messages: 1, mqueue_len: 1",
            deliver,
            "[SESSION] queued, messages: 1, mqueue_len: 2",
            deliver,
            "[SESSION] queued, messages: 1, mqueue_len: 2",
            "[SESSION] dropped, messages: 1, reason: queue_full",
        ]
        back = await live.connect("c1", clean_start=False, properties={"session_expiry_interval": 100})
        assert len(await rest(back)) == 2
        found = said(await log_of(live))
        assert "[SESSION] session_resumed, session_present: true" in found
        assert sum("mqtt_packet_sent, packet: PUBLISH" in line for line in found) == 2
        assert sum("mqtt_packet_received, packet: PUBACK" in line for line in found) == 2
        await live.connect("c1")
        assert (await end_of(back)).reason_code == 0x8E
        found = [line.split(", by")[0] for line in said(await log_of(live))][-9:]
        assert [line for line in found if "MQTT" not in line] == [
            "[SESSION] session_taken_over",
            "[SOCKET] connection_terminated, reason_code: 0x8E, reason: session taken over",
            "[SESSION] session_discarded",
            "[AUTHN] authentication_result, result: ok, is_anonymous: true",
            "[SESSION] session_created, session_present: false",
        ]
        await live.api.delete("/clients/c1")
        assert said(await log_of(live))[-2:] == [
            "[SOCKET] connection_terminated, reason_code: 0x98, reason: kicked out",
            "[SESSION] session_terminated",
        ]


async def test_an_address_is_traced_with_all_that_comes_from_there() -> None:
    config = make_config(None, {"listeners": {"ws": {"default": {"bind": "127.0.0.1:0"}}}})
    with trio.fail_after(30):
        async with running(config) as live:
            await make(live, "here", type="ip_address", ip_address="127.0.0.1")
            await make(live, "there", type="ip_address", ip_address="127.0.0.2")
            addresses = {one.kind: one.bind for one in await live.broker.questions.listeners()}
            async with open_client(f"mqtt://{addresses['tcp']}", client_id="tcp") as client:
                await client.publish("t", b"x", qos=1)
            async with open_websocket_url(f"ws://{addresses['ws']}/mqtt", subprotocols=["mqtt"]) as socket:
                await socket.send_message(encode(Connect("ws"), MQTT5, "client"))
                await socket.send_message(encode(Publish("t", b"x", 1, False, False, 1), MQTT5, "client"))
                await socket.get_message()
                await socket.get_message()
                await socket.send_message(encode(Disconnect(), MQTT5, "client"))
            async with open_client(f"mqtt://{addresses['tcp']}", connect=False) as stranger:
                await stranger.send_bytes(b"GET / HTTP/1.1\r\n\r\n")
                await stranger.wait_ended()
            for _ in range(1000):
                lines = await log_of(live, "here")
                if len(lines) >= 22:
                    break
                await trio.sleep(0.01)
            assert await log_of(live, "there") == []
            for kind in ("tcp", "ws"):
                mine = [line for line in lines if f" {kind}@127.0.0.1:" in line]
                assert "CONNECT(" in mine[0]
                assert "session_terminated" in said(mine)[-1] or "connection_terminated" in said(mine)[-1]
                assert sum("PUBACK(" in line for line in mine) == 1
            found = said([line for line in lines if "] @127.0.0.1:" in line])
            assert found == [
                "[SOCKET] connection_accepted, listener: tcp:default",
                "[SOCKET] connection_accepted, listener: ws:default",
                "[SOCKET] connection_accepted, listener: tcp:default",
                "[MQTT] bad_packet_received, reason_code: 0x82, reason: the first packet is not CONNECT",
                "[CONNECT] connection_refused, reason_code: 0x82, reason: the first packet is not CONNECT",
            ]


async def test_nothing_a_client_sends_begins_a_line(autojump_clock: object) -> None:
    name = "c1\r\n2024-01-01T00:00:00Z [MQTT] admin@ msg: forged\u2028\u0085\x1b[2J"
    async with running() as live:
        await make(live, "text", type="topic", topic="#")
        await make(live, "json", type="topic", topic="+/#", formatter="json")
        await make(live, "address", type="ip_address", ip_address="127.0.0.1")
        payload = "\n{}\x00\u2029\x0b\x0c\x85\u00e4".encode()
        client = await live.connect(name, username=name)
        await client.publish(f"t/{name}", payload)
        [line] = await log_of(live, "text")
        assert "payload: \\n{}\\u0000\\u2029\\u000b\\u000c\\u0085\u00e4" in line
        forged = "2024-01-01T00:00:00Z [MQTT] admin@ msg: forged\\u2028\\u0085\\u001b[2J"
        assert f" c1\\r\\n{forged}@127.0.0.1:0 msg:" in line
        [line] = await log_of(live, "json")
        meta = json.loads(line)["meta"]
        assert (meta["clientid"], meta["topic"], meta["payload"]) == (name, f"t/{name}", payload.decode())
        lines = await log_of(live, "address")
        assert len(lines) == 7
        assert all(line.startswith("20") and " msg: " in line for line in lines)


async def test_huge_payloads_and_packets_are_cut(autojump_clock: object) -> None:
    async with running() as live:
        await make(live, clientid="c1")
        c1 = await live.connect("c1")
        await c1.publish("t", "\u20ac".encode() * 300_000)
        await c1.publish("t", b"\xfe" * 900_000)
        await c1.publish("x" * 60_000, b"")
        await c1.unsubscribe(*[f"f/{number}" for number in range(5000)])
        lines = await log_of(live)
        assert max(map(len, lines)) < 20_000
        assert f"payload: {chr(0x20AC) * 341}...(898977 more bytes)" in "\n".join(lines)
        assert f"payload: {'FE' * 1024}...(898976 more bytes)" in "\n".join(lines)
        assert "f/99, ...(4900 more)])" in "\n".join(lines)
        assert "more characters)" in "\n".join(lines)
