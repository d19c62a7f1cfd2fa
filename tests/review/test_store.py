"""What a store that keeps things gives back to the next broker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from actors.flows import numbers, payloads, rest, settle
from trio.testing import MockClock

from trio_broker.broker import Broker
from trio_broker.protocol.packets import Properties
from trio_broker.session.session import Session
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import open_client

LONG: Properties = {"session_expiry_interval": 1000}


@asynccontextmanager
async def broker_with(store: MemoryStore) -> AsyncIterator[Broker]:
    broker = Broker(store=store)
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        yield broker
        broker.close()


async def test_a_session_resumed_without_expiry_is_not_there_after_a_restart(autojump_clock: MockClock) -> None:
    """[MQTT-3.1.2-23] resumed with session expiry 0 it ends with that connection, for the store as well."""
    store = MemoryStore()
    async with broker_with(store) as broker:
        async with open_client(broker, client_id="c", properties=LONG) as client:
            await client.subscribe("t", 1)
        async with open_client(broker, client_id="c", clean_start=False) as client:
            assert client.session_present
    async with broker_with(store) as broker:
        async with open_client(broker, client_id="c", clean_start=False) as client:
            assert not client.session_present


async def test_subscriptions_come_back_as_they_were(autojump_clock: MockClock) -> None:
    """Over two restarts, with every option; and no retained messages because of that [MQTT-3.3.1-10]."""
    store = MemoryStore()
    async with broker_with(store) as broker:
        async with open_client(broker, client_id="c", properties=LONG) as client:
            await client.subscribe("t", 2, retain_as_published=True, retain_handling=1, identifier=7)
            await client.subscribe("u", 1, retain_handling=0)
            await client.publish("u", b"kept", 1, retain=True)
            await rest(client)
        await settle()
        before = await broker.questions.client_subscriptions("c")
        everywhere = await broker.questions.subscriptions()
    for _ in range(2):
        async with broker_with(store) as broker:
            await settle()
            assert await broker.questions.client_subscriptions("c") == before
            assert await broker.questions.subscriptions() == everywhere
    async with broker_with(store) as broker:
        async with open_client(broker, client_id="c", clean_start=False, properties=LONG) as client:
            assert await rest(client) == []


async def test_a_restored_member_of_a_group_is_away(autojump_clock: MockClock) -> None:
    """Members that are connected are preferred, also to those that have not come back since the restart."""
    store = MemoryStore()
    async with broker_with(store) as broker:
        async with open_client(broker, client_id="away", properties=LONG) as away:
            await away.subscribe("$share/g/t", 1)
    async with broker_with(store) as broker:
        async with open_client(broker, client_id="here") as here, open_client(broker, client_id="p") as publisher:
            await here.subscribe("$share/g/t", 1)
            for payload in numbers(4):
                await publisher.publish("t", payload, 1)
            assert payloads(await rest(here)) == numbers(4)
        await settle()
        async with open_client(broker, client_id="away", clean_start=False, properties=LONG) as away:
            assert away.session_present
            await broker.publish("t", b"now", qos=1)
            assert payloads(await rest(away)) == [b"now"]


async def test_a_kicked_session_is_gone_from_the_store(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with broker_with(store) as broker:
        for _ in range(2):
            async with open_client(broker, client_id="c", properties=LONG) as client:
                await client.subscribe("t", 1)
                await broker.questions.kick("c")
        await settle()
    assert [operation async for operation in store.load()] == []


async def test_a_clean_start_leaves_only_the_new_session(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with broker_with(store) as broker:
        async with open_client(broker, client_id="c", properties=LONG) as client:
            await client.subscribe("old", 1)
            async with open_client(broker, client_id="c", properties=LONG) as client:
                await client.subscribe("new", 1)
    async with broker_with(store) as broker:
        await settle()
        found = await broker.questions.client_subscriptions("c")
        assert found is not None
        assert [subscription.topic_filter for subscription in found] == ["new"]
        assert await broker.questions.topics() == ["new"]


async def test_a_session_that_fails_goes_on_with_what_is_stored(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of ours ends the connection; the session is there when the client comes back."""
    deliver = Session.deliver

    def faulty(session: Session, items: Any, *rest: Any) -> None:
        if any(run.topic_name == "bad" for _, run in items):
            raise RuntimeError("a fault")
        deliver(session, items, *rest)

    monkeypatch.setattr(Session, "deliver", faulty)
    store = MemoryStore()
    async with broker_with(store) as broker:
        async with open_client(broker, client_id="c", properties=LONG) as client:
            await client.subscribe("#", 1)
            await broker.publish("bad", b"1", qos=1)
            await settle()
            assert client.disconnected is not None
            assert client.disconnected.reason_code == 0x83
        assert "a fault" in caplog.text
        await broker.publish("good", b"2", qos=1)
        await broker.publish("bad", b"3", qos=1)
        await broker.publish("good", b"4", qos=1)
        async with open_client(broker, client_id="c", clean_start=False, properties=LONG) as client:
            assert client.session_present
            assert payloads(await rest(client)) == [b"2", b"4"]
            await broker.publish("good", b"5", qos=1)
            assert payloads(await rest(client)) == [b"5"]
