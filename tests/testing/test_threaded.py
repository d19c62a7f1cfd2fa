"""`ThreadedBroker` from plain, asyncio and Trio programs; it always ends, and says what it failed with."""

from __future__ import annotations

import asyncio
import threading

import pytest
import trio

from trio_broker.errors import ListenerError
from trio_broker.testing import BrokerStopped, ThreadedBroker, open_client


def test_publish_subscribe_retained_clients() -> None:
    with ThreadedBroker() as broker:
        assert broker.url == f"mqtt://{broker.host}:{broker.port}"
        with broker.subscribe("room/#") as inbox:
            broker.publish("room/lamp", b"on", qos=1, retain=True)
            message = inbox.get()
            assert (message.topic_name, message.payload, message.qos) == ("room/lamp", b"on", 1)
            assert len(inbox) == 0
        assert broker.retained() == {"room/lamp": b"on"}
        assert broker.retained("cellar/#") == {}
        assert broker.clear_retained() == 1
        assert broker.retained() == {}
        assert [client for client in broker.clients() if client.connected] == []
        assert broker.client("nobody") is None
        assert not broker.kick("nobody")


def test_clients_are_seen_and_kicked() -> None:
    with ThreadedBroker() as broker:

        async def kicked() -> int | None:
            async with open_client(broker.url, client_id="c") as client:
                assert [seen.client_id for seen in broker.clients()] == ["c"]
                assert broker.kick("c")
                return (await client.wait_ended()).reason_code

        assert trio.run(kicked) == 0x98
        broker.wait_disconnected("c")
        assert broker.client("c") is None


def test_from_asyncio() -> None:
    async def main() -> None:
        with ThreadedBroker() as broker:
            reader, writer = await asyncio.open_connection(broker.host, broker.port)
            writer.write(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a")
            assert await reader.readexactly(4) == b"\x20\x02\x00\x00"
            assert [client.client_id for client in broker.clients()] == ["a"]
            writer.close()
            await writer.wait_closed()
            broker.wait_disconnected("a")

    asyncio.run(main())


async def test_from_trio() -> None:
    with ThreadedBroker() as broker:
        async with open_client(broker.url, client_id="c") as client:
            await client.subscribe("a", qos=1)
            broker.publish("a", b"from the thread", qos=1)
            assert (await client.receive()).payload == b"from the thread"


def test_two_at_once_are_strangers() -> None:
    with ThreadedBroker() as one, ThreadedBroker() as other:
        one.publish("a", b"1", retain=True)
        assert one.port != other.port
        assert other.retained() == {}


def test_nothing_is_left_behind() -> None:
    before = threading.active_count()
    with ThreadedBroker() as broker, broker.subscribe("#"):
        pass
    broker.stop()  # once more does no harm
    assert threading.active_count() == before
    with pytest.raises(BrokerStopped):
        broker.publish("a")


def test_what_it_cannot_start_with_is_raised() -> None:
    with ThreadedBroker() as broker:
        taken = {"tcp": {"default": {"bind": f"127.0.0.1:{broker.port}"}}}
        with pytest.raises(ListenerError, match="tcp:default"), ThreadedBroker(listeners=taken):
            pass


def test_it_is_started_once() -> None:
    broker = ThreadedBroker()
    with pytest.raises(BrokerStopped):
        broker.publish("a")
    with broker, pytest.raises(RuntimeError, match="once"):
        broker.start()


def test_errors_of_a_call_come_back() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with ThreadedBroker() as broker:
        with pytest.raises(ZeroDivisionError):
            broker.call(fail)
        broker.publish("a", b"still there")


def test_a_call_that_takes_too_long_is_cancelled() -> None:
    ended = threading.Event()

    async def linger() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    with ThreadedBroker() as broker:
        with pytest.raises(TimeoutError):
            broker.call(linger, timeout=0)
        assert ended.wait(30)


def test_a_failing_broker_fails_its_user() -> None:
    async def break_it(broker: ThreadedBroker) -> None:
        assert broker._nursery is not None
        broker._nursery.start_soon(crash)
        await trio.sleep_forever()

    async def crash() -> None:
        raise ZeroDivisionError("a fault in the broker")

    broker = ThreadedBroker()
    broker.start()
    with pytest.raises(BrokerStopped):
        broker.call(break_it, broker)
    with pytest.raises(ZeroDivisionError):
        broker.stop()
