"""gmqtt, an asyncio client with a codec of its own: MQTT 3.1.1 and 5.0 over TCP and TLS (it speaks no WebSocket)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import gmqtt  # type: ignore[import-untyped]
import pytest
from gmqtt.mqtt.constants import MQTTv50, MQTTv311  # type: ignore[import-untyped]

TIMEOUT = 30.0  # a bound for a failure, in seconds
NEVER = -2  # reconnect: -1 is for ever, and 0 is once
pytestmark = [
    pytest.mark.parametrize("transport", ["tcp", "tls"]),
    pytest.mark.parametrize("level", [MQTTv311, MQTTv50], ids=["v311", "v5"]),
]


class Gmqtt:
    """A gmqtt client whose callbacks go into queues."""

    def __init__(self, client_id: str, will: tuple[str, bytes] | None = None) -> None:
        message = None if will is None else gmqtt.Message(will[0], will[1], qos=1)
        self.client = gmqtt.Client(client_id, will_message=message)
        self.client.set_config({"reconnect_retries": NEVER})
        self.messages: asyncio.Queue[tuple[str, bytes, int, dict[str, Any]]] = asyncio.Queue()
        self.subscribed = asyncio.Event()
        self.ended = asyncio.Event()
        self.client.on_message = self.on_message
        self.client.on_subscribe = lambda client, mid, qos, properties: self.subscribed.set()
        self.client.on_disconnect = lambda client, packet, exc=None: self.ended.set()

    async def on_message(
        self, client: object, topic_name: str, payload: bytes, qos: int, properties: dict[str, Any]
    ) -> int:
        self.messages.put_nowait((topic_name, payload, qos, properties))
        return 0

    async def subscribe(self, topic_filter: str, qos: int) -> None:
        self.subscribed.clear()
        self.client.subscribe(topic_filter, qos=qos)
        async with asyncio.timeout(TIMEOUT):
            await self.subscribed.wait()

    async def receive(self) -> tuple[str, bytes, int, dict[str, Any]]:
        async with asyncio.timeout(TIMEOUT):
            return await self.messages.get()

    async def acknowledged(self) -> None:
        """Every QoS 1 and 2 message published so far has had its handshake."""
        async with asyncio.timeout(TIMEOUT):
            await self.client._persistent_storage.wait_empty()


@asynccontextmanager
async def opened(
    endpoint: Any, level: int, client_id: str, will: tuple[str, bytes] | None = None
) -> AsyncIterator[Gmqtt]:
    mqtt = Gmqtt(client_id, will)
    context = endpoint.ssl_context() if endpoint.tls else False
    async with asyncio.timeout(TIMEOUT):
        await mqtt.client.connect(endpoint.host, endpoint.port, ssl=context, version=level)
    try:
        yield mqtt
        await mqtt.acknowledged()
    finally:
        if not mqtt.ended.is_set():
            await mqtt.client.disconnect()


def test_round_trip(endpoint: Any, level: int, prefix: str) -> None:
    async def main() -> None:
        async with opened(endpoint, level, prefix) as mqtt:
            await mqtt.subscribe(f"{prefix}/+", 2)
            more = {"user_property": ("colour", "red")} if level == MQTTv50 else {}
            # QoS 2 first: its PUBREL has come when the others have been there and back.
            for qos in (2, 1, 0):
                mqtt.client.publish(f"{prefix}/{qos}", b"payload", qos=qos, **more)
                topic_name, payload, received_qos, properties = await mqtt.receive()
                assert (topic_name, payload, received_qos) == (f"{prefix}/{qos}", b"payload", qos)
                if level == MQTTv50:
                    assert properties["user_property"] == [("colour", "red")]

    asyncio.run(main())


def test_retained(endpoint: Any, level: int, prefix: str) -> None:
    async def main() -> None:
        async with opened(endpoint, level, prefix + "a") as publisher:
            publisher.client.publish(f"{prefix}/kept", b"state", qos=1, retain=True)
        async with opened(endpoint, level, prefix + "b") as mqtt:
            await mqtt.subscribe(f"{prefix}/#", 1)
            topic_name, payload, _, properties = await mqtt.receive()
            assert (topic_name, payload, properties["retain"]) == (f"{prefix}/kept", b"state", 1)

    asyncio.run(main())


def test_will_on_abrupt_end(endpoint: Any, level: int, prefix: str, cut: Callable[[Any], None]) -> None:
    async def main() -> None:
        async with opened(endpoint, level, prefix + "a") as watcher:
            await watcher.subscribe(f"{prefix}/will", 1)
            async with opened(endpoint, level, prefix + "b", will=(f"{prefix}/will", b"gone")) as doomed:
                cut(doomed.client._connection._transport.get_extra_info("socket"))
                assert (await watcher.receive())[:2] == (f"{prefix}/will", b"gone")
                async with asyncio.timeout(TIMEOUT):
                    await doomed.ended.wait()

    asyncio.run(main())


def test_clean_disconnect(endpoint: Any, level: int, prefix: str, wait_gone: Callable[[str], None]) -> None:
    async def main() -> None:
        async with opened(endpoint, level, prefix + "a") as watcher:
            await watcher.subscribe(f"{prefix}/#", 1)
            async with opened(endpoint, level, prefix + "b", will=(f"{prefix}/will", b"gone")):
                pass
            wait_gone(prefix + "b")
            watcher.client.publish(f"{prefix}/marker", b"no will before this", qos=1)
            assert (await watcher.receive())[0] == f"{prefix}/marker"

    asyncio.run(main())
