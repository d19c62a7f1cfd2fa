"""A source that has to be waited for: nothing overtakes, nothing is lost, and nothing is allowed meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from actors.fake_access import Script, fakes
from actors.flows import SESSION, end_of, expect, joined, rest, settle
from api.live import running
from trio.testing import MockClock

from trio_broker.access.asking import Request
from trio_broker.config import Config, to_dict
from trio_broker.config.authorization import (
    AuthorizationCacheConfig,
    AuthorizationConfig,
    BuiltInSourceConfig,
    HttpSourceConfig,
)
from trio_broker.protocol.packets import (
    PingReq,
    PingResp,
    PubAck,
    PubComp,
    Publish,
    PubRec,
    PubRel,
    SubAck,
    Subscribe,
    SubscribeFilter,
    UnsubAck,
    Unsubscribe,
    Will,
)

WEB = HttpSourceConfig(url="http://127.0.0.1:1/")
NO_CACHE = AuthorizationCacheConfig(enable=False)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """The source takes a second for each answer; what has `no` in it is not allowed."""
    script = fakes(monkeypatch)
    script.takes["http"] = 1
    script.decisions["http"] = lambda subject, request: subject.client_id == "watcher" or "no" not in request.topic
    return script


def waiting(**changes: Any) -> Config:
    return Config(authorization=AuthorizationConfig(sources=(WEB,), **changes))


@pytest.mark.parametrize("level", [4, 5])
async def test_order_is_kept(script: Script, autojump_clock: MockClock, level: int) -> None:
    """Messages of each QoS and other packets in one go: subscribers see them in their order, answers come in theirs."""
    async with running(waiting(cache=NO_CACHE)) as live:
        watcher = await live.connect("watcher")
        await watcher.subscribe("#", qos=2)
        client = await live.connect("c", level=level)
        packets = (
            Publish("a", b"1"),
            Publish("b", b"2", 1, packet_identifier=1),
            Publish("no", b"3", 1, packet_identifier=2),
            Publish("b", b"4", 2, packet_identifier=3),
            PingReq(),
            Publish("no", b"5"),
            Publish("a", b"6"),
            Unsubscribe(4, ["x"]),
            Publish("b", b"7", 1, packet_identifier=5),
        )
        await client.send_bytes(joined(level, *packets))
        assert [(message.topic_name, message.payload) for message in await rest(watcher)] == []
        await trio.sleep(8)
        assert [message.payload for message in await rest(watcher)] == [b"1", b"2", b"4", b"6", b"7"]
        answers = list(client.inbox)
        acknowledged = [packet for packet in answers if isinstance(packet, PubAck | PubRec)]
        assert [packet.packet_identifier for packet in acknowledged] == [1, 2, 3, 5]
        assert [packet.reason_code for packet in acknowledged] == ([0, 0x87, 0, 0] if level == 5 else [0, 0, 0, 0])
        assert [type(packet) for packet in answers if packet not in acknowledged] == [PingResp, UnsubAck]


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_who_is_allowed_once_waits_no_more(script: Script, autojump_clock: MockClock, qos: int) -> None:
    async with running(waiting()) as live:
        client = await live.connect("c")
        for waits in (1, 0, 0):
            before = trio.current_time()
            await client.publish("t", b"x", qos)
            await client.ping()
            assert trio.current_time() - before == pytest.approx(waits, abs=0.01)
        assert script.asked == [("http", Request("publish", "t", qos))]


async def test_a_handshake_of_qos_2_goes_on(script: Script, autojump_clock: MockClock) -> None:
    async with running(waiting(cache=NO_CACHE)) as live:
        client = await live.connect("c")
        answer = await client.publish("t", b"x", 2)
        assert isinstance(answer, PubComp)
        await client.send(Publish("u", b"x", 2, packet_identifier=9))
        assert (await expect(client, PubRec)).packet_identifier == 9
        before = trio.current_time()
        await client.send_bytes(joined(5, Publish("v", b"x", 1, packet_identifier=10), PubRel(9)))
        assert (await expect(client, PubComp)).packet_identifier == 9
        assert (await expect(client, PubAck)).packet_identifier == 10
        assert trio.current_time() - before == pytest.approx(1, abs=0.01)


async def test_a_topic_alias_is_set_once_it_is_allowed(script: Script, autojump_clock: MockClock) -> None:
    async with running(waiting()) as live:
        watcher = await live.connect("watcher")
        await watcher.subscribe("#", qos=1)
        client = await live.connect("c")
        await client.send_bytes(
            joined(
                5,
                Publish("t", b"1", 0, properties={"topic_alias": 1}),
                Publish("", b"2", 0, properties={"topic_alias": 1}),
                Publish("no", b"3", 0, properties={"topic_alias": 2}),
                Publish("", b"4", 0, properties={"topic_alias": 2}),
                Publish("", b"5", 0, properties={"topic_alias": 1}),
            )
        )
        await trio.sleep(5)
        assert [(message.topic_name, message.payload) for message in await rest(watcher)] == [
            ("t", b"1"),
            ("t", b"2"),
            ("t", b"5"),
        ]
        assert [request.topic for name, request in script.asked if request.topic != "#"] == ["t", "no"]


async def test_a_subscribe_with_many_filters(script: Script, autojump_clock: MockClock) -> None:
    async with running(waiting()) as live:
        client = await live.connect("c")
        filters = [SubscribeFilter(f"no/{n}" if n % 3 == 0 else f"t/{n}", qos=n % 3) for n in range(10)]
        await client.send_bytes(joined(5, Subscribe(1, filters), Publish("t/1", b"x", 1, packet_identifier=2)))
        with trio.fail_after(30):
            answer = await client.expect(SubAck)
        assert answer.reason_codes == [0x87 if n % 3 == 0 else n % 3 for n in range(10)]
        await trio.sleep(5)
        assert [message.topic_name for message in await rest(client)] == ["t/1"]


@pytest.mark.parametrize("count", [257, 600])
async def test_a_long_subscribe(script: Script, autojump_clock: MockClock, count: int) -> None:
    """More filters than are handled in one turn."""
    script.takes["http"] = 0.01
    async with running(waiting()) as live:
        client = await live.connect("c")
        filters = [SubscribeFilter(f"no/{n}" if n % 5 == 0 else f"t/{n}", qos=1) for n in range(count)]
        await client.send(Subscribe(1, filters))
        with trio.fail_after(60):
            answer = await client.expect(SubAck)
        assert answer.reason_codes == [0x87 if n % 5 == 0 else 1 for n in range(count)]
        rows = await live.broker.questions.client_subscriptions("c")
        assert rows is not None
        assert len(rows) == sum(n % 5 != 0 for n in range(count))


async def test_a_client_that_leaves_meanwhile(script: Script, autojump_clock: MockClock) -> None:
    """What it sent before counts, once it is allowed; then its session is without a connection."""
    async with running(waiting()) as live:
        watcher = await live.connect("watcher")
        await watcher.subscribe("t", qos=1)
        client = await live.connect("c", properties=SESSION)
        await client.send(Publish("t", b"x", 1, packet_identifier=1))
        await trio.sleep(0.5)
        await client.drop()
        assert await rest(watcher) == []
        await trio.sleep(5)
        assert [message.payload for message in await rest(watcher)] == [b"x"]
        info = await live.broker.questions.client("c")
        assert info is not None
        assert not info.connected
        back = await live.connect("c", clean_start=False, properties=SESSION)
        assert back.session_present
        answer = await back.publish("t", b"y", 1)
        assert isinstance(answer, PubAck)
        assert [message.payload for message in await rest(watcher)] == [b"y"]


async def test_a_client_that_is_kicked_out_meanwhile(script: Script, autojump_clock: MockClock) -> None:
    async with running(waiting()) as live:
        client = await live.connect("c")
        await client.send(Publish("t", b"x", 1, packet_identifier=1))
        await trio.sleep(0.5)
        assert await live.broker.questions.kick("c")
        assert (await end_of(client)).reason_code == 0x98
        await trio.sleep(5)
        assert await live.broker.questions.client("c") is None


async def test_a_disconnect_behind_it_waits_for_it(script: Script, autojump_clock: MockClock) -> None:
    async with running(waiting()) as live:
        watcher = await live.connect("watcher")
        await watcher.subscribe("t", qos=1)
        client = await live.connect("c", will=Will("w", b"gone"))
        await client.send_bytes(joined(5, Publish("t", b"x", 1, packet_identifier=1)) + b"\xe0\x00")
        await trio.sleep(5)
        assert [message.payload for message in await rest(watcher)] == [b"x"]


async def test_keep_alive_does_not_end_who_is_waited_for(script: Script, autojump_clock: MockClock) -> None:
    """Nothing is read meanwhile, so that nothing comes; afterwards the time begins anew."""
    script.takes["http"] = 20
    async with running(waiting()) as live:
        client = await live.connect("c", keep_alive=5)
        answer = await client.publish("t", b"x", 1)
        assert isinstance(answer, PubAck)
        await trio.sleep(5)
        await client.ping()
        await trio.sleep(8)
        assert (await end_of(client)).reason_code == 0x8D


async def test_one_that_never_answers(script: Script, autojump_clock: MockClock) -> None:
    """After a minute nothing of it is allowed."""
    script.takes["http"] = 1000
    async with running(waiting()) as live:
        client = await live.connect("c")
        before = trio.current_time()
        answer = await client.publish("t", b"x", 1)
        assert isinstance(answer, PubAck)
        assert answer.reason_code == 0x87
        assert trio.current_time() - before == pytest.approx(60, abs=1)


async def test_other_rules_while_it_is_waited_for(script: Script, autojump_clock: MockClock) -> None:
    """What is in force in the end decides."""
    script.decisions["built_in_database"] = lambda subject, request: False
    async with running(waiting()) as live:
        client = await live.connect("c")
        await client.send(Publish("t", b"x", 1, packet_identifier=1))
        await trio.sleep(0.5)
        sources = to_dict(Config(authorization=AuthorizationConfig(sources=(BuiltInSourceConfig(), WEB))))
        await live.broker.questions.settings.change({"authorization": {"sources": sources["authorization"]["sources"]}})
        assert (await expect(client, PubAck)).reason_code == 0x87


async def test_no_rules_any_more_while_it_is_waited_for(script: Script, autojump_clock: MockClock) -> None:
    async with running(waiting()) as live:
        client = await live.connect("c")
        await client.send(Publish("no", b"x", 1, packet_identifier=1))
        await trio.sleep(0.5)
        await live.broker.questions.settings.change({"authorization": {"sources": []}})
        assert (await expect(client, PubAck)).reason_code in (0, 0x10)


@pytest.mark.parametrize("packet", [Publish("no", b"x", 1, packet_identifier=1), Subscribe(1, [SubscribeFilter("no")])])
async def test_it_may_cut_off(script: Script, autojump_clock: MockClock, packet: Publish | Subscribe) -> None:
    async with running(waiting(deny_action="disconnect")) as live:
        client = await live.connect("c")
        await client.send(packet)
        assert (await end_of(client)).reason_code == 0x87


@pytest.mark.parametrize(("topic", "count"), [("t", 1), ("no", 0)])
async def test_a_will_waits_too(script: Script, autojump_clock: MockClock, topic: str, count: int) -> None:
    async with running(waiting()) as live:
        watcher = await live.connect("watcher")
        await watcher.subscribe("#", qos=1)
        client = await live.connect("c", will=Will(topic, b"gone", 1, True))
        await client.drop()
        assert await rest(watcher) == []
        await trio.sleep(2)
        assert len(await rest(watcher)) == count


async def test_others_do_not_wait(script: Script, autojump_clock: MockClock) -> None:
    async with running(waiting()) as live:
        watcher = await live.connect("watcher")
        await watcher.publish("mine", b"", 1)
        client = await live.connect("c")
        await client.send(Publish("t", b"x", 1, packet_identifier=1))
        await settle()
        before = trio.current_time()
        await watcher.publish("mine", b"", 1)
        assert trio.current_time() - before == pytest.approx(0, abs=0.01)
