"""aiomqtt, the asyncio face of paho: MQTT 3.1, 3.1.1 and 5.0 over every transport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import aiomqtt
import pytest
from aiomqtt import ProtocolVersion

TIMEOUT = 30.0  # a bound for a failure, in seconds
pytestmark = [
    pytest.mark.parametrize("transport", ["tcp", "tls", "ws", "wss"]),
    pytest.mark.parametrize("level", [ProtocolVersion.V31, ProtocolVersion.V311, ProtocolVersion.V5]),
]


def client(endpoint: Any, level: ProtocolVersion, client_id: str, will: aiomqtt.Will | None = None) -> aiomqtt.Client:
    return aiomqtt.Client(
        endpoint.host,
        endpoint.port,
        identifier=client_id,
        protocol=level,
        transport="websockets" if endpoint.websocket else "tcp",
        websocket_path=endpoint.websocket_path if endpoint.websocket else None,
        tls_context=endpoint.ssl_context() if endpoint.tls else None,
        will=will,
        timeout=TIMEOUT,
    )


async def receive(mqtt: aiomqtt.Client) -> aiomqtt.Message:
    async with asyncio.timeout(TIMEOUT):
        return await anext(mqtt.messages)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def test_round_trip(endpoint: Any, level: ProtocolVersion, prefix: str) -> None:
    async def main() -> None:
        async with client(endpoint, level, prefix) as mqtt:
            await mqtt.subscribe(f"{prefix}/+", qos=2)
            for qos in (0, 1, 2):
                await mqtt.publish(f"{prefix}/{qos}", b"payload", qos=qos)
                message = await receive(mqtt)
                assert (str(message.topic), message.payload, message.qos) == (f"{prefix}/{qos}", b"payload", qos)

    run(main())


def test_retained(endpoint: Any, level: ProtocolVersion, prefix: str) -> None:
    async def main() -> None:
        async with client(endpoint, level, prefix + "a") as mqtt:
            await mqtt.publish(f"{prefix}/kept", b"state", qos=1, retain=True)
        async with client(endpoint, level, prefix + "b") as mqtt:
            await mqtt.subscribe(f"{prefix}/#", qos=1)
            message = await receive(mqtt)
            assert (message.payload, message.retain) == (b"state", True)

    run(main())


def test_will_on_abrupt_end(endpoint: Any, level: ProtocolVersion, prefix: str, cut: Callable[[Any], None]) -> None:
    async def main() -> None:
        async with client(endpoint, level, prefix + "a") as watcher:
            await watcher.subscribe(f"{prefix}/will", qos=1)
            doomed = client(endpoint, level, prefix + "b", aiomqtt.Will(f"{prefix}/will", b"gone", 1))
            await doomed.__aenter__()
            cut(doomed._client.socket())
            with pytest.raises(aiomqtt.MqttError):
                await receive(doomed)
            await doomed.__aexit__(None, None, None)
            assert (await receive(watcher)).payload == b"gone"

    run(main())


def test_clean_disconnect(endpoint: Any, level: ProtocolVersion, prefix: str, wait_gone: Callable[[str], None]) -> None:
    async def main() -> None:
        async with client(endpoint, level, prefix + "a") as watcher:
            await watcher.subscribe(f"{prefix}/#", qos=1)
            async with client(endpoint, level, prefix + "b", aiomqtt.Will(f"{prefix}/will", b"gone", 1)) as polite:
                await polite.publish(f"{prefix}/greeting", b"hello", qos=1)
            wait_gone(prefix + "b")
            await watcher.publish(f"{prefix}/marker", b"no will before this", qos=1)
            received = [(await receive(watcher)).topic.value for _ in range(2)]
            assert received == [f"{prefix}/greeting", f"{prefix}/marker"]

    run(main())
