"""gmqtt, with a codec of its own: properties, subscribe options, sessions, flow control, wills, limits.

Invariant: what the broker writes, a decoder that shares no code with the other clients reads as it was meant.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import gmqtt  # type: ignore[import-untyped]
import pytest
from gmqtt.mqtt.constants import MQTTv50, MQTTv311  # type: ignore[import-untyped]
from gmqtt.mqtt.handler import MQTTConnectError  # type: ignore[import-untyped]
from sockets.paho_client import Plain
from sockets.waiting import TIMEOUT

from trio_broker.testing.threaded import ThreadedBroker

NEVER = -2  # reconnect: -1 is for ever, and 0 is once


@pytest.fixture
def transport() -> str:
    return "tcp"


class Gmqtt:
    """A gmqtt client whose callbacks go into queues."""

    def __init__(self, client_id: str, **options: Any) -> None:
        self.client = gmqtt.Client(client_id, **options)
        self.client.set_config({"reconnect_retries": NEVER})
        self.messages: asyncio.Queue[tuple[str, bytes, int, dict[str, Any]]] = asyncio.Queue()
        self.subscribed: asyncio.Queue[tuple[int, ...]] = asyncio.Queue()
        self.unsubscribed: asyncio.Queue[tuple[int, ...]] = asyncio.Queue()
        self.ended: asyncio.Queue[bytes] = asyncio.Queue()
        self.session_present = False
        self.may_acknowledge = asyncio.Event()
        self.may_acknowledge.set()
        self.client.on_message = self.on_message
        self.client.on_connect = self.on_connect
        self.client.on_subscribe = lambda client, mid, codes, properties: self.subscribed.put_nowait(codes)
        self.client.on_unsubscribe = lambda client, mid, codes: self.unsubscribed.put_nowait(codes)
        self.client.on_disconnect = lambda client, packet, exc=None: self.ended.put_nowait(packet)

    def on_connect(self, client: object, flags: int, code: int, properties: dict[str, Any]) -> None:
        self.session_present = bool(flags)
        self.connack = dict(self.client._package_handler._connack_properties)

    async def on_message(
        self, client: object, topic_name: str, payload: bytes, qos: int, properties: dict[str, Any]
    ) -> int:
        self.messages.put_nowait((topic_name, payload, qos, properties))
        await self.may_acknowledge.wait()
        return 0

    async def subscribe(self, topic_filter: str, qos: int = 0, **more: Any) -> tuple[int, ...]:
        self.client.subscribe(topic_filter, qos=qos, **more)
        async with asyncio.timeout(TIMEOUT):
            return await self.subscribed.get()

    async def receive(self) -> tuple[str, bytes, int, dict[str, Any]]:
        async with asyncio.timeout(TIMEOUT):
            return await self.messages.get()

    async def payloads(self, count: int) -> list[bytes]:
        return [(await self.receive())[1] for _ in range(count)]

    async def end(self) -> bytes:
        async with asyncio.timeout(TIMEOUT):
            return await self.ended.get()

    async def publish(self, topic_name: str, payload: bytes, qos: int = 1, **more: Any) -> None:
        """Returns when every handshake is done."""
        self.client.publish(topic_name, payload, qos=qos, **more)
        async with asyncio.timeout(TIMEOUT):
            await self.client._persistent_storage.wait_empty()


@asynccontextmanager
async def opened(endpoint: Any, client_id: str, level: int = MQTTv50, **options: Any) -> AsyncIterator[Gmqtt]:
    mqtt = Gmqtt(client_id, **options)
    try:
        async with asyncio.timeout(TIMEOUT):
            await mqtt.client.connect(endpoint.host, endpoint.port, version=level)
        yield mqtt
    finally:  # also after a refusal: the transport must be closed before the loop ends
        async with asyncio.timeout(TIMEOUT):
            await mqtt.client.disconnect()


def test_properties(endpoint: Any, prefix: str) -> None:
    async def main() -> None:
        async with opened(endpoint, prefix) as mqtt:
            assert await mqtt.subscribe(prefix, 2, subscription_identifier=200) == (2,)
            for qos in (0, 1, 2):
                await mqtt.publish(
                    prefix,
                    b"payload",
                    qos,
                    payload_format_id=1,
                    message_expiry_interval=1000,
                    content_type="text/plain",
                    response_topic=f"{prefix}/answer",
                    correlation_data=b"\x01\x02",
                    user_property=[("a", "1"), ("a", "2")],
                )
                topic_name, payload, received_qos, properties = await mqtt.receive()
                assert (topic_name, payload, received_qos) == (prefix, b"payload", qos)
                assert 0 < properties.pop("message_expiry_interval")[0] <= 1000
                assert properties == {
                    "payload_format_id": [1],
                    "content_type": ["text/plain"],
                    "response_topic": [f"{prefix}/answer"],
                    "correlation_data": [b"\x01\x02"],
                    "user_property": [("a", "1"), ("a", "2")],
                    "subscription_identifier": [200],
                    "dup": 0,
                    "retain": 0,
                }

    asyncio.run(main())


def test_topic_aliases(endpoint: Any, prefix: str) -> None:
    async def main() -> None:
        async with opened(endpoint, prefix, topic_alias_maximum=10) as mqtt:
            await mqtt.subscribe(f"{prefix}/#", 1)
            for name in ("a", "b"):
                await mqtt.publish(f"{prefix}/{name}", b"sets", topic_alias=ord(name))
                await mqtt.publish("", b"uses", topic_alias=ord(name))
                for payload in (b"sets", b"uses"):
                    assert (await mqtt.receive())[:2] == (f"{prefix}/{name}", payload)

    asyncio.run(main())


def test_subscribe_options(endpoint: Any, prefix: str) -> None:
    async def main() -> None:
        async with opened(endpoint, prefix + "a") as mqtt, opened(endpoint, prefix + "b") as other:
            await mqtt.publish(prefix, b"kept", retain=True)
            options = {"no_local": True, "retain_as_published": True, "retain_handling_options": 2}
            await mqtt.subscribe(prefix, 1, **options)
            await mqtt.publish(prefix, b"mine")
            await other.publish(prefix, b"other", retain=True)
            _, payload, _, properties = await mqtt.receive()
            assert (payload, properties["retain"]) == (b"other", 1)
            await mqtt.subscribe(prefix, 1, retain_handling_options=1)
            await mqtt.subscribe(prefix, 1)
            assert (await mqtt.receive())[1] == b"other"
            await other.publish(prefix, b"", retain=True)
            assert (await mqtt.receive())[1] == b""

    asyncio.run(main())


@pytest.mark.parametrize("level", [MQTTv311, MQTTv50])
def test_a_session_is_resumed(endpoint: Any, prefix: str, level: int) -> None:
    kept = {"clean_session": False} | ({"session_expiry_interval": 1000} if level == MQTTv50 else {})
    sent = [b"%d" % number for number in range(40)]

    async def main() -> None:
        async with opened(endpoint, prefix + "a", level, **kept) as mqtt:
            assert not mqtt.session_present
            await mqtt.subscribe(prefix, 2)
        async with opened(endpoint, prefix + "b", level) as other:
            for number, payload in enumerate(sent):
                await other.publish(prefix, payload, 1 + number % 2)
        async with opened(endpoint, prefix + "a", level, **kept) as mqtt:
            assert mqtt.session_present
            assert await mqtt.payloads(len(sent)) == sent

    asyncio.run(main())


@pytest.mark.parametrize("level", [MQTTv311, MQTTv50])
def test_takeover(endpoint: Any, prefix: str, level: int) -> None:
    async def main() -> None:
        async with opened(endpoint, prefix, level) as first:
            async with opened(endpoint, prefix, level):
                packet = await first.end()
                assert packet[:1] == (b"\x8e" if level == MQTTv50 else b"")

    asyncio.run(main())


@pytest.mark.parametrize("qos", [1, 2])
def test_never_more_in_flight_than_the_client_takes(
    endpoint: Any, prefix: str, qos: int, broker: ThreadedBroker
) -> None:
    sent = [b"%d" % number for number in range(10)]

    async def main() -> None:
        options = {"receive_maximum": 3, "optimistic_acknowledgement": False}
        async with opened(endpoint, prefix + "a", **options) as mqtt, opened(endpoint, prefix + "b") as other:
            await mqtt.subscribe(prefix, qos)
            mqtt.may_acknowledge.clear()
            for payload in sent:
                await other.publish(prefix, payload, 1 if qos == 1 else 2)
            assert await mqtt.payloads(3) == sent[:3]
            await mqtt.subscribe(f"{prefix}/other")  # what was sent before its answer has come
            assert mqtt.messages.empty()
            info = broker.client(prefix + "a")
            assert info is not None
            assert (info.inflight_count, info.mqueue_len) == (3, 7)
            mqtt.may_acknowledge.set()
            assert await mqtt.payloads(7) == sent[3:]

    asyncio.run(main())


@pytest.mark.parametrize("delay", [0, 1])
def test_will(endpoint: Any, prefix: str, delay: int, cut: Callable[[Any], None]) -> None:
    async def main() -> None:
        will = gmqtt.Message(f"{prefix}/will", b"gone", qos=2, will_delay_interval=delay, user_property=[("why", "x")])
        async with opened(endpoint, prefix + "a") as watcher:
            await watcher.subscribe(f"{prefix}/will", 2)
            async with opened(endpoint, prefix + "b", will_message=will, session_expiry_interval=1000) as doomed:
                cut(doomed.client._connection._transport.get_extra_info("socket"))
                _, payload, qos, properties = await watcher.receive()
                assert (payload, qos, properties["user_property"]) == (b"gone", 2, [("why", "x")])
                await doomed.end()

    asyncio.run(main())


def test_shared_subscription(endpoint: Any, prefix: str) -> None:
    sent = [b"%d" % number for number in range(30)]

    async def main() -> None:
        async with opened(endpoint, prefix + "a") as one, opened(endpoint, prefix + "b") as two:
            for mqtt in (one, two):
                assert await mqtt.subscribe(f"$share/group/{prefix}", 1) == (1,)
                await mqtt.subscribe(f"{prefix}/end", 1)
            for payload in sent:
                await one.publish(prefix, payload)
            await one.publish(f"{prefix}/end", b"end")
            shares: list[list[bytes]] = []
            for mqtt in (one, two):
                share = []
                while (payload := (await mqtt.receive())[1]) != b"end":
                    share.append(payload)
                shares.append(share)
            assert all(shares)
            assert sorted(shares[0] + shares[1]) == sorted(sent)

    asyncio.run(main())


def test_codes(endpoint: Any, prefix: str) -> None:
    async def main() -> None:
        async with opened(endpoint, prefix) as mqtt:
            subscriptions = [gmqtt.Subscription(f"{prefix}/{qos}", qos=qos) for qos in (2, 0, 1)]
            mqtt.client.subscribe(subscriptions)
            async with asyncio.timeout(TIMEOUT):
                assert await mqtt.subscribed.get() == (2, 0, 1)
                mqtt.client.unsubscribe([f"{prefix}/2", f"{prefix}/none"])
                assert await mqtt.unsubscribed.get() == (0x00, 0x11)

    asyncio.run(main())


def test_limits_are_told() -> None:
    limits = {
        "max_qos_allowed": 1,
        "retain_available": False,
        "max_packet_size": 2000,
        "max_topic_alias": 5,
        "max_awaiting_rel": 7,
        "server_keepalive": 77,
        "wildcard_subscription": False,
        "shared_subscription": False,
        "response_information": "answers/",
    }

    async def main(endpoint: Plain) -> None:
        async with opened(endpoint, "limited", request_response_info=1) as mqtt:
            assert mqtt.connack == {
                "receive_maximum": [7],
                "max_qos": [1],
                "retain_available": [0],
                "maximum_packet_size": [2000],
                "topic_alias_maximum": [5],
                "server_keep_alive": [77],
                "wildcard_subscription_available": [0],
                "shared_subscription_available": [0],
                "response_info": ["answers/"],
            }
            assert await mqtt.subscribe("a/+") == (0xA2,)
            assert await mqtt.subscribe("$share/group/a") == (0x9E,)
        for code, message in {
            b"\x9b": gmqtt.Message("a", b"x", qos=2),
            b"\x9a": gmqtt.Message("a", b"x", retain=True),
            b"\x95": gmqtt.Message("a", b"x" * 2000),
        }.items():
            async with opened(endpoint, "wrong") as mqtt:
                mqtt.client.publish(message)
                assert (await mqtt.end())[:1] == code

    with ThreadedBroker(mqtt=limits) as broker:
        asyncio.run(main(Plain(broker.host, broker.port)))


@pytest.mark.parametrize(("level", "code"), [(MQTTv311, 5), (MQTTv50, 0x87)])
def test_nobody_without_a_password(level: int, code: int) -> None:
    async def main(endpoint: Plain) -> None:
        with pytest.raises(MQTTConnectError) as error:
            async with opened(endpoint, "nobody", level):
                pass
        assert error.value._code == code

    with ThreadedBroker(mqtt={"allow_anonymous": False}) as broker:
        asyncio.run(main(Plain(broker.host, broker.port)))
