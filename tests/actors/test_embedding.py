"""The broker seen from the program it is embedded in: publish, subscribe, hooks, questions."""

from __future__ import annotations

import pytest
import trio
from actors.flows import PATIENCE, SESSION, end_of, numbers, one, payloads, rest, settle
from trio.testing import MockClock

from trio_broker.actors.hooks import ClientConnected, ClientDisconnected
from trio_broker.actors.questions import ClientFilter, NewMessage
from trio_broker.broker import Broker
from trio_broker.errors import ActorGone, ProtocolError
from trio_broker.protocol.message import Message
from trio_broker.protocol.packets import Will
from trio_broker.routing.subscription import Subscription
from trio_broker.testing import open_broker


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_publish_says_how_many(autojump_clock: MockClock, qos: int) -> None:
    async with open_broker() as running, running.client("a") as a, running.client("b") as b:
        assert (await running.broker.publish("t", b"0", qos=qos)).matched == 0
        for client in (a, b):
            await client.subscribe("t", 2)
        first = await running.broker.publish("t", b"1", qos=qos)
        second = await running.broker.publish("t", b"2", qos=qos, properties={"content_type": "x"})
        assert (first.matched, second.matched) == (2, 2)
        assert first.message_id < second.message_id
        for client in (a, b):
            messages = await rest(client)
            assert payloads(messages) == [b"1", b"2"]
            assert [message.properties for message in messages] == [{}, {"content_type": "x"}]
            assert {message.qos for message in messages} == {qos}


async def test_publish_wants_a_topic_name(autojump_clock: MockClock) -> None:
    async with open_broker() as running:
        for topic_name in ("a/+", "#", "", "a\0"):
            with pytest.raises(ProtocolError):
                await running.broker.publish(topic_name, b"")
        with pytest.raises(ValueError, match="qos"):
            await running.broker.publish("t", b"", qos=3)


async def test_subscribe(autojump_clock: MockClock) -> None:
    """Retained ones first, then what is published; nothing is left behind at the end of the block."""
    async with open_broker() as running, running.client("c") as client:
        await client.publish("t/1", b"kept", 1, retain=True)
        async with running.broker.subscribe("t/#", qos=1) as messages:
            await client.publish("t/2", b"live", 2, properties={"content_type": "x"})
            with trio.fail_after(PATIENCE):
                kept, live = await anext(messages), await anext(messages)
            assert (kept.topic_name, kept.payload, kept.retain) == ("t/1", b"kept", True)
            assert (live.topic_name, live.payload, live.retain) == ("t/2", b"live", False)
            assert live.origin.client_id == "c"
            assert live.properties == {"content_type": "x"}
        assert await running.broker.questions.topics() == []


async def test_subscribe_wants_a_filter(autojump_clock: MockClock) -> None:
    async with open_broker() as running:
        with pytest.raises(ProtocolError):
            async with running.broker.subscribe("a/#/b"):
                pass
        assert await running.broker.questions.topics() == []


async def test_a_program_that_does_not_keep_up(autojump_clock: MockClock) -> None:
    async with open_broker() as running, running.broker.subscribe("t", buffer=3) as messages:
        for payload in numbers(10):
            await running.broker.publish("t", payload)
        assert messages.dropped == 7
        assert [(await anext(messages)).payload for _ in range(3)] == numbers(3, start=7)


async def test_a_broker_that_does_not_run(autojump_clock: MockClock) -> None:
    broker = Broker()
    with pytest.raises(ActorGone):
        await broker.connect_stream()
    async with open_broker() as running:
        pass
    with pytest.raises(ActorGone), trio.fail_after(PATIENCE):
        await running.broker.publish("t", b"")


async def test_hooks(autojump_clock: MockClock) -> None:
    events: list[ClientConnected | ClientDisconnected] = []
    published: list[Message] = []
    async with open_broker() as running:
        hooks = running.broker.hooks
        hooks.connected.append(events.append)
        hooks.disconnected.append(events.append)
        hooks.published.append(published.append)
        async with running.client("c", username="u", will=Will("w", b"will"), properties=SESSION) as client:
            await client.publish("t", b"1")
            await client.publish("t", b"2", 1)
            await client.publish("t", b"3", 2)
            await running.broker.publish("t", b"4")
            await client.drop()
        await settle()
        async with running.client("c", username="u", clean_start=False):
            pass
        await settle()
    assert [type(event) for event in events] == [ClientConnected, ClientDisconnected] * 2
    assert {(event.client_id, event.username) for event in events} == {("c", "u")}
    assert [event.session_present for event in events if isinstance(event, ClientConnected)] == [False, True]
    assert isinstance(events[3], ClientDisconnected)
    assert events[3].reason_code == 0
    assert [message.payload for message in published] == [b"1", b"2", b"3", b"4", b"will"]


async def test_a_hook_that_fails(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the client does not notice."""

    def fail(event: ClientConnected) -> None:
        raise ZeroDivisionError

    async with open_broker() as running:
        running.broker.hooks.connected.append(fail)
        async with running.client("c") as client:
            await client.ping()
    assert "client_connected hook failed" in caplog.text


async def test_the_list_of_clients(autojump_clock: MockClock) -> None:
    async with open_broker() as running:
        questions = running.broker.questions
        async with running.client("a1", username="ann", keep_alive=60), running.client("a2", level=4, username="ben"):
            async with running.client("b1", properties=SESSION):
                pass
            await settle()
            everything = await questions.clients(ClientFilter(), 0, 100)
            assert (everything.count, sorted(row.client_id for row in everything.rows)) == (3, ["a1", "a2", "b1"])
            pages = [await questions.clients(ClientFilter(), offset, 1) for offset in range(3)]
            assert sorted(page.rows[0].client_id for page in pages) == ["a1", "a2", "b1"]
            for wanted, found in (
                (ClientFilter(connection_state="connected"), ["a1", "a2"]),
                (ClientFilter(connection_state="disconnected"), ["b1"]),
                (ClientFilter(usernames=["ben", "nobody"]), ["a2"]),
                (ClientFilter(like_client_id="1"), ["a1", "b1"]),
                (ClientFilter(protocol_level=4), ["a2"]),
                (ClientFilter(client_ids=["b1", "a1"]), ["a1", "b1"]),
                (ClientFilter(like_username="nn", protocol_level=5), ["a1"]),
            ):
                page = await questions.clients(wanted, 0, 100)
                assert (page.count, sorted(row.client_id for row in page.rows)) == (len(found), found)
            info = await questions.client("a1")
            assert info is not None
            assert (info.keep_alive, info.expiry_interval, info.clean_start) == (60, 0, True)
            info = await questions.client("b1")
            assert info is not None
            assert info.disconnected_at is not None
            assert info.disconnected_at >= info.connected_at >= info.created_at
            assert await questions.client("nobody") is None


async def test_kick(autojump_clock: MockClock) -> None:
    async with open_broker() as running, running.client("c", properties=SESSION) as client:
        await client.subscribe("t")
        assert await running.broker.questions.kick("c")
        assert (await end_of(client)).reason_code == 0x98
        assert not await running.broker.questions.kick("c")
        assert await running.broker.questions.topics() == []
        async with running.client("away", properties=SESSION):
            pass
        await settle()
        assert await running.broker.questions.kick("away")
        assert await running.broker.questions.client("away") is None


async def test_disconnect(autojump_clock: MockClock) -> None:
    """The connection alone: its session goes on as if it had broken."""
    async with open_broker() as running, running.client("c", properties=SESSION) as client:
        await client.subscribe("t")
        questions = running.broker.questions
        assert await questions.disconnect("c")
        assert (await end_of(client)).reason_code == 0x98
        assert not await questions.disconnect("c")
        assert not await questions.disconnect("nobody")
        info = await questions.client("c")
        assert info is not None
        assert (info.connected, info.expiry_interval, info.subscriptions_count) == (False, 3600, 1)
        async with running.client("c", clean_start=False, properties=SESSION) as again:
            assert again.session_present
        async with running.client("d") as clean:
            assert await questions.disconnect("d")
            await end_of(clean)
            assert await questions.client("d") is None


async def test_subscriptions_and_topics(autojump_clock: MockClock) -> None:
    async with open_broker() as running, running.client("a") as a, running.client("b") as b:
        await a.subscribe("t/+", 1, no_local=True, identifier=4)
        await a.subscribe("$share/g/t", 2)
        await b.subscribe("t/+", 0, retain_handling=2)
        questions = running.broker.questions
        rows = {(row.client_id, row.subscription) for row in await questions.subscriptions()}
        first = Subscription("t/+", "t/+", None, 1, True, False, 0, 4)
        shared = Subscription("$share/g/t", "t", "g", 2)
        other = Subscription("t/+", "t/+", None, 0, retain_handling=2)
        assert rows == {("a", first), ("a", shared), ("b", other)}
        assert sorted(await questions.topics()) == ["$share/g/t", "t/+"]
        mine = await questions.client_subscriptions("a")
        assert mine is not None
        assert set(mine) == {first, shared}
        assert await questions.client_subscriptions("nobody") is None


async def test_subscribing_for_a_client(autojump_clock: MockClock) -> None:
    async with open_broker() as running, running.client("c") as client:
        questions = running.broker.questions
        await running.broker.publish("t", b"kept", retain=True)
        assert await questions.subscribe("c", Subscription("t", "t", qos=1))
        assert (await one(client)).payload == b"kept"
        await running.broker.publish("t", b"x", qos=1)
        assert (await one(client)).qos == 1
        assert await questions.unsubscribe("c", "t")
        await running.broker.publish("t", b"x", qos=1)
        assert await rest(client) == []
        assert not await questions.subscribe("nobody", Subscription("t", "t"))
        assert not await questions.unsubscribe("nobody", "t")


async def test_pages_of_the_queue_and_the_window(autojump_clock: MockClock) -> None:
    async with open_broker(mqtt={"max_inflight": 3}) as running, running.client("c", auto_ack=False) as client:
        questions = running.broker.questions
        empty = await questions.mqueue_messages("c", None, 10)
        assert empty is not None
        assert (empty.messages, empty.start) == ([], None)
        await client.subscribe("t", 1)
        await questions.publish([NewMessage("t", payload, 1) for payload in numbers(8)])
        await settle()
        for ask, expected in ((questions.inflight_messages, numbers(3)), (questions.mqueue_messages, numbers(5, 3))):
            seen: list[bytes] = []
            after: int | None = None
            while True:
                page = await ask("c", after, 2)
                assert page is not None
                if not page.messages:
                    break
                seen += [message.payload for message in page.messages]
                if after is None:
                    assert page.start == page.messages[0].inserted_at_ns
                after = page.messages[-1].inserted_at_ns
            assert seen == expected
            assert await ask("nobody", None, 2) is None
        page = await questions.inflight_messages("c", None, 1)
        assert page is not None
        (message,) = page.messages
        assert (message.topic_name, message.qos, message.from_client_id) == ("t", 1, "http_api")


async def test_the_retained_messages(autojump_clock: MockClock) -> None:
    async with open_broker() as running, running.client("c", username="u") as client:
        questions = running.broker.questions
        for number in (3, 1, 2):
            await trio.sleep(1)
            await client.publish(f"t/{number}", b"%d" % number, number - 1, retain=True)
        await client.publish("u", b"", 1, retain=True)
        rows, count = await questions.retained(None, 0, 10)
        assert (count, [row.topic_name for row in rows]) == (3, ["t/3", "t/1", "t/2"])
        assert all(row.payload is None for row in rows)
        assert [(row.qos, row.from_client_id, row.from_username) for row in rows] == [(n, "c", "u") for n in (2, 0, 1)]
        assert [row.topic_name for row in (await questions.retained("t/+", 1, 1))[0]] == ["t/1"]
        row = await questions.retained_message("t/2")
        assert row is not None
        assert row.payload == b"2"
        assert await questions.retained_message("nothing") is None
        assert await questions.delete_retained("t/2") == 1
        assert await questions.delete_retained("nothing") == 0
        assert await questions.delete_retained(None) == 2
        assert await questions.retained(None, 0, 10) == ([], 0)
