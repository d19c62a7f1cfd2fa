"""Each counter by itself: one thing happens, and these counters move, by so much, and no others."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from actors.flows import SESSION, end_of, expect, one, rest, settle
from attrs import define, field
from trio.testing import MockClock

from trio_broker.access.authentication import REFUSED, Challenge, Credentials, Verdict
from trio_broker.access.authorization import Action
from trio_broker.broker import Broker
from trio_broker.config import Config
from trio_broker.protocol.message import Origin
from trio_broker.protocol.packets import (
    Auth,
    ConnAck,
    Connect,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubscribeFilter,
    Will,
)
from trio_broker.routing.subscription import Subscription
from trio_broker.session.meter import METRIC_NAMES
from trio_broker.testing import Client, open_client
from trio_broker.testing.running import make_config


class Doorkeeper:
    """`bad` does not come in, and `secret` is for nobody."""

    async def authenticate(self, credentials: Credentials) -> Verdict | None:
        return REFUSED if credentials.username == "bad" else Verdict()

    def authorize(self, client: Origin, action: Action, topic: str) -> bool:
        return "secret" not in topic


class Asking:
    """An authentication method that asks once and believes any answer."""

    method = "ASK"

    def begin(self, credentials: Credentials) -> Asking:
        return self

    async def respond(self, data: bytes | None) -> Challenge | Verdict:
        return Challenge(b"?") if data is None else Verdict()


@define
class Scene:
    """A broker, its clients by name, and the counters when the counting began."""

    broker: Broker
    stack: AsyncExitStack
    before: dict[str, int] = field(factory=dict)

    async def client(self, client_id: str, **options: Any) -> Client:
        return await self.stack.enter_async_context(open_client(self.broker, client_id=client_id, **options))

    async def subscribed(self, qos: int, **options: Any) -> Client:
        client = await self.client("s", **options)
        await client.subscribe("t", qos)
        return client

    async def begin(self) -> None:
        await settle()
        self.before = await self.broker.questions.metrics()

    async def moved(self) -> dict[str, int]:
        """What was counted since then, the bytes aside."""
        await settle()
        after = await self.broker.questions.metrics()
        moved = {name: value - self.before[name] for name, value in after.items() if value != self.before[name]}
        assert all(step > 0 for step in moved.values())
        return {name: step for name, step in moved.items() if not name.startswith("bytes.")}


@define(frozen=True)
class Case:
    act: Callable[[Scene], Awaitable[None]]
    moved: dict[str, int]
    config: dict[str, object]
    guarded: bool


CASES: list[Case] = []
AN_ENTRY = (
    "packets.received packets.connect.received packets.sent packets.connack.sent client.connect client.connack"
    " client.connected client.authenticate authentication.success"
)
AN_ANONYMOUS_ENTRY = f"{AN_ENTRY} client.auth.anonymous authentication.success.anonymous"
A_REFUSAL = (
    "packets.received packets.connect.received packets.sent packets.connack.sent packets.connack.error client.connect"
    " client.connack connections.refused"
)


def steps(text: str) -> dict[str, int]:
    """`a b=2` as {"a": 1, "b": 2}."""
    pairs = (name.partition("=") for name in text.split())
    return {name: int(count or 1) for name, _, count in pairs}


def moves(text: str, *, guarded: bool = False, **config: object) -> Callable[[Any], Any]:
    """What `act` moves after its `begin`, and by how much; everything else stays as it was."""

    def mark(act: Callable[[Scene], Awaitable[None]]) -> Callable[[Scene], Awaitable[None]]:
        CASES.append(Case(act, steps(text), config, guarded))
        return act

    return mark


@moves(f"{AN_ANONYMOUS_ENTRY} session.created")
async def a_client_comes(scene: Scene) -> None:
    await scene.begin()
    await scene.client("c")


@moves(f"{AN_ENTRY} session.created", guarded=True)
async def a_client_is_let_in_by_name(scene: Scene) -> None:
    await scene.begin()
    await scene.client("c", username="good")


@moves(f"{A_REFUSAL} client.authenticate authentication.failure packets.connack.auth_error", guarded=True)
async def a_client_is_refused_for_who_it_is(scene: Scene) -> None:
    await scene.begin()
    await scene.client("c", username="bad")


@moves(f"{A_REFUSAL}", mqtt={"max_clientid_len": 23})
async def a_client_is_refused_for_its_name(scene: Scene) -> None:
    await scene.begin()
    await scene.client("c" * 24)


@moves(f"{A_REFUSAL} overload_protection.new_conn", sysmon={"memory_high_watermark": "1KB"})
async def a_client_is_refused_when_memory_is_short(scene: Scene) -> None:
    await scene.begin()
    await scene.client("c")


@moves("connections.refused")
async def a_connection_begins_with_something_else(scene: Scene) -> None:
    await scene.begin()
    client = await scene.client("c", connect=False)
    await client.send_bytes(b"\xc0\x00")
    await end_of(client)


@moves(
    f"{AN_ENTRY} session.created packets.received=2 packets.sent=2 packets.auth.sent packets.auth.received",
    guarded=True,
)
async def a_client_is_asked_who_it_is(scene: Scene) -> None:
    await scene.begin()
    client = await scene.client("c", connect=False)
    await client.send(Connect("c", properties={"authentication_method": "ASK"}))
    await expect(client, Auth)
    await client.send(Auth(0x18, {"authentication_method": "ASK", "authentication_data": b"me"}))
    await expect(client, ConnAck)


@moves("packets.received packets.disconnect.received client.disconnected session.terminated")
async def a_client_says_goodbye(scene: Scene) -> None:
    client = await scene.client("c")
    await scene.begin()
    await client.disconnect()


@moves("client.disconnected")
async def a_client_with_a_session_is_lost(scene: Scene) -> None:
    client = await scene.client("c", properties=SESSION)
    await scene.begin()
    await client.drop()


@moves("session.terminated")
async def a_session_expires(scene: Scene) -> None:
    await (await scene.client("c", properties=SESSION)).drop()
    await scene.begin()
    await trio.sleep(SESSION["session_expiry_interval"] + 1)


@moves(f"{AN_ANONYMOUS_ENTRY} session.resumed")
async def a_session_is_resumed(scene: Scene) -> None:
    await (await scene.client("c", properties=SESSION)).disconnect()
    await scene.begin()
    await scene.client("c", clean_start=False)


@moves(f"{AN_ANONYMOUS_ENTRY} session.created session.discarded")
async def a_session_is_begun_anew(scene: Scene) -> None:
    await (await scene.client("c", properties=SESSION)).disconnect()
    await scene.begin()
    await scene.client("c")


@moves(
    f"{AN_ANONYMOUS_ENTRY} packets.sent=2 packets.disconnect.sent client.disconnected session.resumed session.takenover"
)
async def a_session_is_taken_over(scene: Scene) -> None:
    await scene.client("c", properties=SESSION)
    await scene.begin()
    await scene.client("c", clean_start=False, properties=SESSION)


@moves("packets.sent packets.disconnect.sent client.disconnected session.terminated")
async def a_client_is_kicked_out(scene: Scene) -> None:
    await scene.client("c")
    await scene.begin()
    await scene.broker.questions.kick("c")


@moves("packets.received packets.pingreq.received packets.sent packets.pingresp.sent")
async def a_ping(scene: Scene) -> None:
    client = await scene.client("c")
    await scene.begin()
    await client.ping()


@moves("packets.received packets.subscribe.received packets.sent packets.suback.sent client.subscribe")
async def two_filters_in_one_subscribe(scene: Scene) -> None:
    client = await scene.client("c")
    await scene.begin()
    await client.subscribe([SubscribeFilter("a", 0), SubscribeFilter("b", 1)])


@moves("packets.received packets.subscribe.received packets.sent packets.suback.sent client.subscribe")
async def a_very_long_subscribe(scene: Scene) -> None:
    client = await scene.client("c")
    await scene.begin()
    await client.subscribe([SubscribeFilter(f"t/{number}", 0) for number in range(600)])


@moves("client.subscribe")
async def a_subscription_made_by_others(scene: Scene) -> None:
    await scene.client("c")
    await scene.begin()
    await scene.broker.questions.subscribe("c", Subscription("t", "t"))


@moves(
    "packets.received packets.subscribe.received packets.subscribe.error packets.sent packets.suback.sent"
    " client.subscribe",
    mqtt={"wildcard_subscription": False},
)
async def a_filter_that_is_not_allowed(scene: Scene) -> None:
    client = await scene.client("c")
    await scene.begin()
    await client.subscribe("#")


@moves(
    "packets.received packets.subscribe.received packets.subscribe.error packets.subscribe.auth_error packets.sent"
    " packets.suback.sent client.subscribe client.authorize authorization.deny authorization.cache_miss",
    guarded=True,
)
async def a_filter_that_is_not_for_this_client(scene: Scene) -> None:
    client = await scene.client("c")
    await scene.begin()
    await client.subscribe("secret")


@moves("packets.received packets.unsubscribe.received packets.sent packets.unsuback.sent client.unsubscribe")
async def an_unsubscribe(scene: Scene) -> None:
    client = await scene.subscribed(0)
    await scene.begin()
    await client.unsubscribe("t", "other")


A_PUBLISH = "packets.received packets.publish.received messages.received"
NOBODY = "messages.publish messages.dropped messages.dropped.no_subscribers"


@moves(f"{A_PUBLISH} messages.qos0.received {NOBODY}")
async def a_message_for_nobody(scene: Scene) -> None:
    client = await scene.client("c")
    await scene.begin()
    await client.publish("t")


@moves(f"{A_PUBLISH} messages.qos1.received {NOBODY} packets.sent packets.puback.sent")
async def a_message_of_qos_1_for_nobody(scene: Scene) -> None:
    client = await scene.client("c")
    await scene.begin()
    await client.publish("t", b"", 1)


@moves(
    f"{A_PUBLISH} messages.qos0.received packets.publish.auth_error"
    " client.authorize authorization.deny authorization.cache_miss",
    guarded=True,
)
async def a_message_that_is_not_for_this_client(scene: Scene) -> None:
    client = await scene.client("c")
    await scene.begin()
    await client.publish("secret")


@moves(
    f"{A_PUBLISH} messages.qos0.received messages.publish messages.delivered packets.sent packets.publish.sent"
    " messages.sent messages.qos0.sent"
)
async def a_message_of_qos_0(scene: Scene) -> None:
    client = await scene.subscribed(0)
    await scene.begin()
    await client.publish("t")
    await one(client)


@moves(
    f"{A_PUBLISH} messages.qos1.received messages.publish messages.delivered packets.sent=2 packets.publish.sent"
    " messages.sent messages.qos1.sent packets.puback.sent packets.puback.received packets.received=2 messages.acked"
)
async def a_message_of_qos_1(scene: Scene) -> None:
    client = await scene.subscribed(1)
    await scene.begin()
    await client.publish("t", b"", 1)
    await one(client)


@moves(
    f"{A_PUBLISH} messages.qos2.received messages.publish messages.delivered packets.sent=4 packets.publish.sent"
    " messages.sent messages.qos2.sent packets.pubrec.sent packets.pubrel.received packets.pubcomp.sent"
    " packets.pubrec.received packets.pubrel.sent packets.pubcomp.received packets.received=4 messages.acked"
)
async def a_message_of_qos_2(scene: Scene) -> None:
    client = await scene.subscribed(2)
    await scene.begin()
    await client.publish("t", b"", 2)
    await one(client)


@moves(
    "messages.received messages.qos0.received messages.publish messages.delivered packets.sent packets.publish.sent"
    " messages.sent messages.qos0.sent"
)
async def a_message_of_the_program(scene: Scene) -> None:
    client = await scene.subscribed(0)
    await scene.begin()
    await scene.broker.publish("t", b"")
    await one(client)


@moves(f"messages.received messages.qos1.received {NOBODY}")
async def a_message_of_the_program_for_nobody(scene: Scene) -> None:
    await scene.begin()
    await scene.broker.publish("t", b"", qos=1)


@moves(
    "packets.received packets.subscribe.received packets.sent=2 packets.suback.sent client.subscribe"
    " messages.delivered packets.publish.sent messages.sent messages.qos0.sent"
)
async def a_retained_message(scene: Scene) -> None:
    await scene.broker.publish("t", b"x", retain=True)
    client = await scene.client("c")
    await scene.begin()
    await client.subscribe("t")
    await one(client)


@moves(f"{A_PUBLISH} messages.qos1.received messages.publish messages.delayed packets.sent packets.puback.sent")
async def a_message_for_later(scene: Scene) -> None:
    client = await scene.client("c")
    await scene.begin()
    await client.publish("$delayed/60/t", b"", 1)


@moves("client.disconnected session.terminated messages.publish messages.dropped messages.dropped.no_subscribers")
async def a_will(scene: Scene) -> None:
    client = await scene.client("c", will=Will("w", b"x"))
    await scene.begin()
    await client.drop()


@moves("packets.received packets.publish.received packets.publish.inuse packets.sent packets.pubrec.sent")
async def a_message_of_qos_2_that_comes_again(scene: Scene) -> None:
    client = await scene.client("c")
    for dup in (False, True):
        await scene.begin()
        await client.send(Publish("t", b"", 2, dup=dup, packet_identifier=1))
        await expect(client, PubRec)


@moves(
    "packets.received packets.publish.dropped packets.sent packets.disconnect.sent client.disconnected"
    " session.terminated",
    mqtt={"max_awaiting_rel": 1},
)
async def a_message_beyond_the_receive_maximum(scene: Scene) -> None:
    client = await scene.client("c")
    await client.send(Publish("t", b"", 2, packet_identifier=1))
    await expect(client, PubRec)
    await scene.begin()
    await client.send(Publish("t", b"", 2, packet_identifier=2))
    await end_of(client)


@moves("messages.dropped messages.dropped.await_pubrel_timeout", mqtt={"await_rel_timeout": "10s"})
async def a_pubrel_that_never_comes(scene: Scene) -> None:
    client = await scene.client("c")
    await client.send(Publish("t", b"", 2, packet_identifier=1))
    await expect(client, PubRec)
    await scene.begin()
    await trio.sleep(21)


@moves(
    "packets.received=4 packets.puback.received packets.puback.missed packets.pubrec.received packets.pubrec.missed"
    " packets.pubrel.received packets.pubrel.missed packets.pubcomp.received packets.pubcomp.missed"
    " packets.pubrel.sent packets.pubcomp.sent packets.sent=2"
)
async def acknowledgements_of_nothing(scene: Scene) -> None:
    client = await scene.client("c")
    await scene.begin()
    for packet in (PubAck(7), PubRec(7), PubRel(7), PubComp(7)):
        await client.send(packet)
    await settle()


FAULT = "packets.received packets.sent packets.disconnect.sent client.disconnected session.terminated"


@moves(f"{FAULT} packets.puback.received packets.puback.inuse")
async def a_puback_for_qos_2(scene: Scene) -> None:
    client = await scene.subscribed(2, auto_ack=False)
    await scene.broker.publish("t", b"", qos=2)
    message = await one(client)
    await scene.begin()
    await client.send(PubAck(message.packet_identifier))
    await end_of(client)


@moves(f"{FAULT} packets.pubrec.received packets.pubrec.inuse")
async def a_pubrec_for_qos_1(scene: Scene) -> None:
    client = await scene.subscribed(1, auto_ack=False)
    await scene.broker.publish("t", b"", qos=1)
    message = await one(client)
    await scene.begin()
    await client.send(PubRec(message.packet_identifier))
    await end_of(client)


@moves("packets.received packets.pubcomp.received packets.pubcomp.inuse")
async def a_pubcomp_before_pubrec(scene: Scene) -> None:
    client = await scene.subscribed(2, auto_ack=False)
    await scene.broker.publish("t", b"", qos=2)
    message = await one(client)
    await scene.begin()
    await client.send(PubComp(message.packet_identifier))


A_COPY_LESS = "messages.received messages.publish delivery.dropped"


@moves(f"{A_PUBLISH} messages.qos0.received messages.publish delivery.dropped delivery.dropped.no_local")
async def its_own_message(scene: Scene) -> None:
    client = await scene.client("c")
    await client.subscribe("t", no_local=True)
    await scene.begin()
    await client.publish("t")


@moves(f"{A_COPY_LESS} messages.qos1.received messages.delivered delivery.dropped.too_large")
async def a_message_that_is_too_large(scene: Scene) -> None:
    await scene.subscribed(1, properties={"maximum_packet_size": 30})
    await scene.begin()
    await scene.broker.publish("t", b"x" * 100, qos=1)


@moves(
    f"{A_COPY_LESS} messages.qos1.received messages.delivered delivery.dropped.queue_full", mqtt={"max_mqueue_len": 1}
)
async def a_message_when_the_queue_is_full(scene: Scene) -> None:
    await (await scene.subscribed(1, properties=SESSION)).disconnect()
    await scene.broker.publish("t", b"1", qos=1)
    await scene.begin()
    await scene.broker.publish("t", b"2", qos=1)


@moves(
    f"{A_COPY_LESS} messages.qos0.received messages.delivered delivery.dropped.qos0_msg",
    mqtt={"mqueue_store_qos0": False},
)
async def a_message_of_qos_0_for_somebody_who_is_away(scene: Scene) -> None:
    await (await scene.subscribed(1, properties=SESSION)).disconnect()
    await scene.begin()
    await scene.broker.publish("t", b"1")


@moves(f"{AN_ANONYMOUS_ENTRY} session.resumed delivery.dropped delivery.dropped.expired")
async def a_message_that_has_expired(scene: Scene) -> None:
    await (await scene.subscribed(1, properties=SESSION)).disconnect()
    await scene.broker.publish("t", b"1", qos=1, properties={"message_expiry_interval": 10})
    await trio.sleep(11)
    await scene.begin()
    await scene.client("s", clean_start=False)


@moves(
    "messages.delivered packets.sent packets.publish.sent messages.sent messages.qos0.sent",
    sys_topics={"sys_msg_interval": "1h", "sys_heartbeat_interval": "1m"},
)
async def what_the_broker_says_of_itself(scene: Scene) -> None:
    client = await scene.client("c")
    await client.subscribe("$SYS/broker/uptime")
    await rest(client)
    await scene.begin()
    await trio.sleep(60)
    await one(client)


@pytest.mark.parametrize("case", CASES, ids=[case.act.__name__ for case in CASES])
async def test_what_is_counted(autojump_clock: MockClock, case: Case) -> None:
    """This, by so much, and nothing else."""
    keeper = Doorkeeper()
    config = make_config(Config(), case.config)
    broker = Broker(config, authenticators=[keeper, Asking()], authorizer=keeper) if case.guarded else Broker(config)
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        async with AsyncExitStack() as stack:
            scene = Scene(broker, stack)
            await case.act(scene)
            assert await scene.moved() == case.moved
        broker.close()


def test_each_counter_is_counted_or_said_to_be_0() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
    still = set(re.findall(r"(?m)^\| `(\S+)` \| \*always 0\*", page.read_text(encoding="utf-8")))
    counted = {name for case in CASES for name in case.moved}
    elsewhere = {"bytes.received", "bytes.sent", "messages.persisted"}
    elsewhere |= {name for name in METRIC_NAMES if "authoriz" in name}
    assert counted | still | elsewhere >= {*METRIC_NAMES}
    assert counted & still == set()
