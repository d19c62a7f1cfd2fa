"""aiomqtt: properties, subscribe options, sessions, wills, shared subscriptions, requests, takeover.

Invariant: whatever goes through aiomqtt's queues is as the publisher said it, in its order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiomqtt
import pytest
from aiomqtt import ProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.subscribeoptions import SubscribeOptions
from sockets.paho_client import on_publish, properties
from sockets.waiting import TIMEOUT, until

from trio_broker.testing.threaded import ThreadedBroker

pytestmark = pytest.mark.parametrize("transport", ["tcp", "ws"])
LEVELS = [ProtocolVersion.V31, ProtocolVersion.V311, ProtocolVersion.V5]
SESSION = 1000


def client(
    endpoint: Any, client_id: str | None, level: ProtocolVersion = ProtocolVersion.V5, clean: bool = True, **more: Any
) -> aiomqtt.Client:
    expiry = more.pop("expiry", None if clean else SESSION)
    if level == ProtocolVersion.V5:
        asked = {} if expiry is None else {"SessionExpiryInterval": expiry}
        more |= {"clean_start": clean, "properties": properties(PacketTypes.CONNECT, **asked)}
    else:
        more |= {"clean_session": clean}
    return aiomqtt.Client(
        endpoint.host,
        endpoint.port,
        identifier=client_id,
        protocol=level,
        transport="websockets" if endpoint.websocket else "tcp",
        websocket_path=endpoint.websocket_path if endpoint.websocket else None,
        timeout=TIMEOUT,
        **more,
    )


async def receive(mqtt: aiomqtt.Client) -> Any:
    async with asyncio.timeout(TIMEOUT):
        return await anext(mqtt.messages)


async def payloads(mqtt: aiomqtt.Client, count: int) -> list[Any]:
    return [(await receive(mqtt)).payload for _ in range(count)]


def test_properties(endpoint: Any, prefix: str) -> None:
    async def main() -> None:
        async with client(endpoint, prefix) as mqtt:
            subscribe = properties(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=3)
            await mqtt.subscribe(prefix, options=SubscribeOptions(2), properties=subscribe)
            for qos in (0, 1, 2):
                sent = on_publish(
                    PayloadFormatIndicator=1,
                    ContentType="text/plain",
                    ResponseTopic=f"{prefix}/answer",
                    CorrelationData=b"\x00\xff",
                    UserProperty=[("a", "1"), ("a", "2")],
                )
                await mqtt.publish(prefix, "ü", qos, properties=sent)
                message = await receive(mqtt)
                assert (message.payload, message.qos) == ("ü".encode(), qos)
                assert message.properties.json() == {**sent.json(), "SubscriptionIdentifier": [3]}

    asyncio.run(main())


def test_subscribe_options(endpoint: Any, prefix: str) -> None:
    async def main() -> None:
        async with client(endpoint, prefix + "a") as mqtt, client(endpoint, prefix + "b") as other:
            await mqtt.publish(f"{prefix}/a", b"kept", 1, retain=True)
            options = SubscribeOptions(1, noLocal=True, retainAsPublished=True, retainHandling=2)
            await mqtt.subscribe(f"{prefix}/a", options=options)
            await mqtt.publish(f"{prefix}/a", b"mine", 1)
            await other.publish(f"{prefix}/a", b"other", 1, retain=True)
            message = await receive(mqtt)
            assert (message.payload, message.retain) == (b"other", True)
            await mqtt.subscribe(f"{prefix}/a", options=SubscribeOptions(1, retainHandling=0))
            message = await receive(mqtt)
            assert (message.payload, message.retain) == (b"other", True)
            await other.publish(f"{prefix}/a", b"", 1, retain=True)

    asyncio.run(main())


def test_codes(endpoint: Any, prefix: str) -> None:
    async def main() -> None:
        async with client(endpoint, prefix) as mqtt:
            granted: Any = await mqtt.subscribe([(f"{prefix}/{qos}", SubscribeOptions(qos)) for qos in (2, 0, 1)])
            assert [code.value for code in granted] == [2, 0, 1]
            await mqtt.unsubscribe([f"{prefix}/2", f"{prefix}/none"])
            await mqtt.publish(f"{prefix}/2", b"", 1)
            await mqtt.publish(f"{prefix}/1", b"still", 1)
            assert (await receive(mqtt)).payload == b"still"

    asyncio.run(main())


@pytest.mark.parametrize("level", LEVELS)
def test_a_session_is_resumed(endpoint: Any, prefix: str, level: ProtocolVersion) -> None:
    sent = [b"%d" % number for number in range(50)]

    async def main() -> None:
        for qos in (1, 2):
            async with client(endpoint, prefix + "a", level, clean=False) as mqtt:
                await mqtt.subscribe(prefix, 2)
            async with client(endpoint, prefix + "b", level) as other:
                for payload in sent:
                    await other.publish(prefix, payload, qos)
            async with client(endpoint, prefix + "a", level, clean=False) as mqtt:
                assert await payloads(mqtt, len(sent)) == sent

    asyncio.run(main())


@pytest.mark.parametrize("level", LEVELS)
def test_takeover(endpoint: Any, prefix: str, level: ProtocolVersion) -> None:
    async def main() -> None:
        first = client(endpoint, prefix, level, clean=False)
        await first.__aenter__()
        await first.subscribe(prefix, 1)
        async with client(endpoint, prefix, level, clean=False) as second:
            with pytest.raises(aiomqtt.MqttError) as error:
                await receive(first)
            if level == ProtocolVersion.V5:
                cause: Any = error.value.__cause__
                assert cause.rc.value == 0x8E
            await first.__aexit__(None, None, None)
            await second.publish(prefix, b"mine now", 1)
            assert (await receive(second)).payload == b"mine now"

    asyncio.run(main())


@pytest.mark.parametrize("delay", [0, 1])
def test_will(endpoint: Any, prefix: str, delay: int, cut: Callable[[Any], None]) -> None:
    async def main() -> None:
        more = properties(PacketTypes.WILLMESSAGE, WillDelayInterval=delay, UserProperty=[("why", "gone")])
        will = aiomqtt.Will(f"{prefix}/will", b"gone", 2, True, more)
        async with client(endpoint, prefix + "a") as watcher:
            await watcher.subscribe(f"{prefix}/will", 2)
            doomed = client(endpoint, prefix + "b", clean=False, will=will)
            await doomed.__aenter__()
            cut(doomed._client.socket())
            message = await receive(watcher)
            assert (message.payload, message.qos) == (b"gone", 2)
            assert message.properties.json() == {"UserProperty": [("why", "gone")]}
            with pytest.raises(aiomqtt.MqttError):
                await receive(doomed)
            await doomed.__aexit__(None, None, None)
            await watcher.publish(f"{prefix}/will", b"", 1, retain=True)

    asyncio.run(main())


def test_shared_subscription(endpoint: Any, prefix: str) -> None:
    sent = [b"%d" % number for number in range(30)]

    async def main() -> None:
        async with client(endpoint, prefix + "a") as one, client(endpoint, prefix + "b") as two:
            for mqtt in (one, two):
                await mqtt.subscribe(f"$share/group/{prefix}", 1)
                await mqtt.subscribe(f"{prefix}/end", 1)
            for payload in sent:
                await one.publish(prefix, payload, 1)
            await one.publish(f"{prefix}/end", b"end", 1)
            shares: list[list[bytes]] = []
            for mqtt in (one, two):
                share = []
                while (payload := (await receive(mqtt)).payload) != b"end":
                    share.append(payload)
                shares.append(share)
            assert all(shares)
            assert sorted(shares[0] + shares[1]) == sorted(sent)

    asyncio.run(main())


def test_many_requests_at_once(endpoint: Any, prefix: str) -> None:
    async def answer(mqtt: aiomqtt.Client, count: int) -> None:
        for _ in range(count):
            question = await receive(mqtt)
            back = on_publish(CorrelationData=question.properties.CorrelationData)
            await mqtt.publish(question.properties.ResponseTopic, b"re " + question.payload, 1, properties=back)

    async def ask(mqtt: aiomqtt.Client, number: int) -> None:
        more = on_publish(ResponseTopic=f"{prefix}/answer", CorrelationData=b"%d" % number)
        await mqtt.publish(f"{prefix}/ask", b"%d" % number, 1, properties=more)

    async def main() -> None:
        async with client(endpoint, prefix + "a") as asks, client(endpoint, prefix + "b") as answers:
            await answers.subscribe(f"{prefix}/ask", 1)
            await asks.subscribe(f"{prefix}/answer", 1)
            async with asyncio.TaskGroup() as group:
                group.create_task(answer(answers, 8))
                for number in range(8):
                    group.create_task(ask(asks, number))
            got = [await receive(asks) for _ in range(8)]
            assert {(m.properties.CorrelationData, m.payload) for m in got} == {
                (b"%d" % number, b"re %d" % number) for number in range(8)
            }

    asyncio.run(main())


def test_a_session_ends_after_its_interval(endpoint: Any, prefix: str, broker: ThreadedBroker) -> None:
    async def main() -> None:
        async with client(endpoint, prefix, expiry=1) as mqtt:
            await mqtt.subscribe(prefix, 1)

    asyncio.run(main())
    until(lambda: broker.client(prefix) is None, "the session has ended")


@pytest.mark.parametrize("level", LEVELS)
def test_kick(endpoint: Any, prefix: str, level: ProtocolVersion, broker: ThreadedBroker) -> None:
    async def main() -> None:
        mqtt = client(endpoint, prefix, level)
        await mqtt.__aenter__()
        assert broker.kick(prefix)
        with pytest.raises(aiomqtt.MqttError):
            await receive(mqtt)
        await mqtt.__aexit__(None, None, None)

    asyncio.run(main())
