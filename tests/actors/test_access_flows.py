"""Clients that are refused, and what a client may not do: the answers in each version, and that nothing is left."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from actors.flows import SESSION, end_of, expect, joined, payloads, rest, settle, talk
from trio.testing import MockClock

from trio_broker.access.authentication import BAD_CREDENTIALS, REFUSED, Credentials, Verdict
from trio_broker.access.authorization import Action
from trio_broker.broker import Broker
from trio_broker.protocol.message import Origin
from trio_broker.protocol.packets import Connect, PubAck, PubComp, Publish, PubRec, SubscribeFilter, Will
from trio_broker.testing import open_client


class Slowly:
    """Takes a second for each answer; the password is the user name backwards, `banned` comes in nowhere."""

    async def authenticate(self, credentials: Credentials) -> Verdict | None:
        await trio.sleep(1)
        if credentials.username == "banned":
            return REFUSED
        expected = (credentials.username or "")[::-1].encode()
        return Verdict() if credentials.username and credentials.password == expected else BAD_CREDENTIALS


class NothingSecret:
    """Topics and filters with `secret` in them are for nobody."""

    def authorize(self, client: Origin, action: Action, topic: str) -> bool:
        return "secret" not in topic


@asynccontextmanager
async def guarded(*, checked: bool = False) -> AsyncIterator[Broker]:
    """A broker with secrets; `checked` = with user names and passwords too."""
    broker = Broker(authenticators=[Slowly()] if checked else (), authorizer=NothingSecret())
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        yield broker
        broker.close()


@pytest.mark.parametrize(
    ("username", "password", "code", "old_code"),
    [("ann", b"nna", 0, 0), ("ann", b"x", 0x86, 4), ("banned", b"dennab", 0x87, 5), (None, None, 0x86, 4)],
)
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_who_is_let_in(
    autojump_clock: MockClock, level: int, username: str | None, password: bytes | None, code: int, old_code: int
) -> None:
    """[MQTT-3.1.4-2], [MQTT-3.2.2-7]"""
    async with guarded(checked=True) as broker:
        connect = joined(level, Connect("c", level, username=username, password=password))
        answer = await talk(broker, connect, b"\xe0\x00")
        assert answer[2:4] == bytes([0, code if level == 5 else old_code])
        metrics = await broker.questions.metrics()
        assert metrics["authentication.success"] == (1 if code == 0 else 0)
        assert metrics["authentication.failure"] == (0 if code == 0 else 1)


async def test_refused_leaves_nothing(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.4-6] no takeover, no session, no will, and what came behind CONNECT is not looked at."""
    will = Will("w", b"will")
    async with guarded(checked=True) as broker:
        async with open_client(broker, client_id="s", username="ann", password=b"nna", properties=SESSION) as client:
            await client.subscribe("#", 1)
            for client_id in ("s", "other"):
                async with open_client(broker, client_id=client_id, connect=False) as refused:
                    connect = Connect(client_id, username="ann", password=b"no", will=will, properties=SESSION)
                    await refused.send_bytes(joined(5, connect, Publish("t", b"x")))
                    await end_of(refused)
            await trio.sleep(10)
            assert await rest(client) == []
            assert client.disconnected is None
            assert await broker.questions.client("other") is None


async def test_packets_wait_for_the_verdict(autojump_clock: MockClock) -> None:
    """Section 3.1.4: a client may send before CONNACK; it counts when the client is let in."""
    async with guarded(checked=True) as broker, open_client(broker, client_id="c", connect=False) as client:
        connect = Connect("c", username="ann", password=b"nna")
        await client.send_bytes(joined(5, connect, Publish("t", b"x", 1, packet_identifier=3)))
        await settle()
        assert list(client.inbox) == []
        await trio.sleep(2)
        assert [type(packet).__name__ for packet in client.inbox] == ["ConnAck", "PubAck"]


async def test_a_slow_verdict_keeps_nobody_waiting(autojump_clock: MockClock) -> None:
    """Nobody waits for a slow one: twenty clients are let in at the same time."""
    async with guarded(checked=True) as broker:
        began = trio.current_time()

        async def connect(number: int) -> None:
            async with open_client(broker, client_id=f"c{number}", username="ann", password=b"nna") as client:
                await client.ping()

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(connect, number)
        assert trio.current_time() - began < 3


@pytest.mark.parametrize("level", [4, 5])
async def test_what_may_not_be_published(autojump_clock: MockClock, level: int) -> None:
    """[MQTT-3.3.5-2] of 3.1.1: acknowledged and dropped; 5.0: 0x87, and no PUBREL after such a PUBREC."""
    async with guarded() as broker, open_client(broker, client_id="s") as subscriber:
        await subscriber.subscribe([SubscribeFilter("#", 2)])
        async with open_client(broker, client_id="c", level=level) as client:
            await client.publish("secret", b"0", 0)
            first = await client.publish("secret", b"1", 1, retain=True)
            second = await client.publish("secret", b"2", 2, packet_identifier=9)
            assert isinstance(first, PubAck)
            assert first.reason_code == (0x87 if level == 5 else 0)
            assert isinstance(second, PubRec if level == 5 else PubComp)
            assert second.reason_code == (0x87 if level == 5 else 0)
            await client.publish("open", b"3", 2, packet_identifier=9)
            info = await broker.questions.client("c")
            assert info is not None
            assert info.awaiting_rel_count == 0
        assert payloads(await rest(subscriber)) == [b"3"]
        assert await broker.questions.retained(None, 0, 10) == ([], 0)


@pytest.mark.parametrize(("level", "refused"), [(4, 0x80), (5, 0x87)])
async def test_what_may_not_be_subscribed_to(autojump_clock: MockClock, level: int, refused: int) -> None:
    """[MQTT-3.9.3-1] the others stand."""
    filters = [SubscribeFilter("a", 1), SubscribeFilter("secret/#", 1), SubscribeFilter("b", 2)]
    async with guarded() as broker, open_client(broker, client_id="c", level=level) as client:
        assert (await client.subscribe(filters)).reason_codes == [1, refused, 2]
        assert sorted(await broker.questions.topics()) == ["a", "b"]


async def test_an_alias_counts_though_the_message_is_refused(autojump_clock: MockClock) -> None:
    """[MQTT-3.3.2-12] the alias has its new meaning at once, and is resolved before access is asked for."""
    async with guarded() as broker, open_client(broker, client_id="c") as client:
        await client.subscribe("#", 1)
        await client.publish("open", b"1", 1, properties={"topic_alias": 1})
        refused = await client.publish("secret", b"2", 1, properties={"topic_alias": 1})
        again = await client.publish("", b"3", 1, properties={"topic_alias": 1})
        assert [answer.reason_code for answer in (refused, again) if answer is not None] == [0x87, 0x87]
        assert payloads(await rest(client)) == [b"1"]


async def test_a_will_that_may_not_be_published(autojump_clock: MockClock) -> None:
    """Conformance of wills: access is checked at CONNECT or when it is published; nobody sees it."""
    async with guarded() as broker, open_client(broker, client_id="s") as subscriber:
        await subscriber.subscribe("#", 1)
        async with open_client(broker, client_id="c", will=Will("secret", b"will", 1, True)) as client:
            assert client.connack.reason_code in (0, 0x87)
            await client.drop()
        await settle()
        assert await rest(subscriber) == []
        assert await broker.questions.retained(None, 0, 10) == ([], 0)


@pytest.mark.parametrize("level", [4, 5])
async def test_refused_and_taken_in_order(autojump_clock: MockClock, level: int) -> None:
    """[MQTT-4.6.0-2] acknowledgements stay in order where some are refusals."""
    names = ["open", "secret", "open", "secret", "open"]
    async with guarded() as broker, open_client(broker, client_id="c", level=level) as client:
        packets = [Publish(name, b"", 1, packet_identifier=number + 1) for number, name in enumerate(names)]
        await client.send_bytes(joined(level, *packets))
        answers = [await expect(client, PubAck) for _ in names]
        assert [answer.packet_identifier for answer in answers] == [1, 2, 3, 4, 5]
        if level == 5:
            assert [answer.reason_code == 0x87 for answer in answers] == [False, True, False, True, False]
