"""`/mqtt/retainer`: each setting is shown, kept, and does what it says; retained messages are as durable as before."""

from __future__ import annotations

from typing import Any, cast

import pytest
import trio
from actors.flows import payloads, rest, settle
from api.live import Live, running
from api.operations import shows

from trio_broker.config import Config, RetainerConfig
from trio_broker.protocol.encode import encode
from trio_broker.protocol.packets import Properties, Publish
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import Client

DEFAULTS: dict[str, Any] = {
    "enable": True,
    "msg_expiry_interval": "0s",
    "msg_expiry_interval_override": "disabled",
    "allow_never_expire": True,
    "msg_clear_interval": "0s",
    "max_payload_size": "1MB",
    "stop_publish_clear_msg": False,
    "delivery_rate": "infinity",
    "max_publish_rate": "infinity",
    "backend": {
        "type": "built_in_database",
        "storage_type": "disc",
        "max_retained_messages": 0,
        "index_specs": [[1, 2, 3], [1, 3], [2, 3], [3]],
        "enable": True,
    },
}
OTHERS: dict[str, Any] = {
    "enable": False,
    "msg_expiry_interval": "1m",
    "msg_expiry_interval_override": "2m",
    "allow_never_expire": False,
    "msg_clear_interval": "30s",
    "max_payload_size": "10KB",
    "stop_publish_clear_msg": True,
    "delivery_rate": "10/s",
    "max_publish_rate": "5/s",
    "backend": {
        "type": "built_in_database",
        "storage_type": "ram",
        "max_retained_messages": 9,
        "index_specs": [[1]],
        "enable": False,
    },
}


async def change(live: Live, **settings: Any) -> None:
    answer = await live.api.put("/mqtt/retainer", json=settings)
    assert answer.status_code == 200, answer.text


async def retain(client: Client, *topics: str, payload: bytes = b"x", **properties: Any) -> None:
    for topic in topics:
        await client.publish(topic, payload, qos=1, retain=True, properties=cast("Properties", properties))


async def kept(live: Live) -> set[str]:
    return {row["topic"] for row in (await live.api.get("/mqtt/retainer/messages")).json()["data"]}


@shows("GET /mqtt/retainer", "PUT /mqtt/retainer")
async def test_each_key_is_set_shown_and_kept(autojump_clock: object) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        assert (await live.api.get("/mqtt/retainer")).json() == DEFAULTS
        answer = await live.api.put("/mqtt/retainer", json=OTHERS)
        assert (answer.status_code, answer.json()) == (200, OTHERS)
        assert (await live.api.get("/mqtt/retainer", auth=live.as_viewer())).json() == OTHERS
    async with running(store=store) as live:
        assert (await live.api.get("/mqtt/retainer")).json() == OTHERS
        # What is left out is as the file has it.
        assert (await live.api.put("/mqtt/retainer", json={})).json() == DEFAULTS


@shows("PUT /mqtt/retainer")
@pytest.mark.parametrize(
    ("body", "code", "word"),
    [
        ({"msg_expiry_interval": "soon"}, "UPDATE_FAILED", "retainer.msg_expiry_interval"),
        ({"delivery_rate": "0/s"}, "UPDATE_FAILED", "retainer.delivery_rate"),
        ({"max_payload_size": 0}, "UPDATE_FAILED", "retainer.max_payload_size"),
        ({"msg_clear_interval": "1ms"}, "UPDATE_FAILED", "retainer.msg_clear_interval"),
        ({"backend": {"type": "mysql"}}, "UPDATE_FAILED", "retainer.backend.type"),
        ({"backend": {"max_retained_messages": -1}}, "UPDATE_FAILED", "max_retained_messages"),
        ({"enable": "perhaps"}, "BAD_REQUEST", "root.enable"),
        ({"unknown": 1}, "BAD_REQUEST", "unknown_fields"),
    ],
)
async def test_what_is_refused_changes_nothing(body: Any, code: str, word: str, autojump_clock: object) -> None:
    async with running() as live:
        answer = await live.api.put("/mqtt/retainer", json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, code)
        assert word in answer.json()["message"]
        assert live.broker.questions.settings.config == Config()


@shows("PUT /mqtt/retainer")
async def test_what_has_no_effect_is_told(autojump_clock: object) -> None:
    async with running() as live:
        answer = await live.api.put("/mqtt/retainer", json={"backend": OTHERS["backend"]})
        assert "retainer.backend.storage_type, retainer.backend.index_specs" in answer.headers["warning"]
        assert "warning" not in (await live.api.put("/mqtt/retainer", json={"enable": False})).headers


async def test_switched_off_none_is_kept_cleared_or_given(autojump_clock: object) -> None:
    store = MemoryStore()
    for off in ({"enable": False}, {"backend": {"enable": False}}):
        async with running(store=store) as live:
            await change(live)
            c1 = await live.connect("c1")
            await c1.subscribe("live/#")
            await retain(c1, "old")
            await change(live, **off)
            await retain(c1, "live/new")
            await retain(c1, "old", payload=b"")
            assert payloads(await rest(c1)) == [b"x"]  # it is passed on all the same
            await c1.subscribe("#")
            assert await rest(c1) == []
            assert await kept(live) == {"old"}
            await change(live)
            await c1.subscribe("#")
            assert payloads(await rest(c1)) == [b"x"]
        async with running(store=store) as live:
            assert await kept(live) == {"old"}


async def test_they_expire_as_is_set(autojump_clock: object) -> None:
    """The interval is for those that say nothing; the override is for all, but spares those without end."""
    store = MemoryStore()
    async with running(store=store) as live:
        c1 = await live.connect("c1")
        await retain(c1, "before")
        await change(live, msg_expiry_interval="20s")
        await retain(c1, "usual")
        await retain(c1, "own", message_expiry_interval=100)
        await change(live, msg_expiry_interval="0s", msg_expiry_interval_override="50s")
        await retain(c1, "endless")
        await retain(c1, "cut", message_expiry_interval=100)
        await retain(c1, "short", message_expiry_interval=10)
        await change(live, msg_expiry_interval_override="50s", allow_never_expire=False)
        await retain(c1, "ended")
        everything = {"before", "usual", "own", "endless", "cut", "short", "ended"}
        assert await kept(live) == everything
    async with running(store=store) as live:
        for seconds, gone in ((11, "short"), (10, "usual"), (30, "cut ended"), (50, "own")):
            await trio.sleep(seconds)
            everything -= set(gone.split())
            assert await kept(live) == everything
        assert everything == {"before", "endless"}


async def test_who_gets_it_is_told_how_long_it_lives(autojump_clock: object) -> None:
    async with running() as live:
        c1 = await live.connect("c1")
        await c1.subscribe("live")
        await change(live, msg_expiry_interval="20s")
        await retain(c1, "live", "t")
        (message,) = await rest(c1)
        assert "message_expiry_interval" not in message.properties  # of what is passed on at once
        await trio.sleep(5)
        await c1.subscribe("t")
        (message,) = await rest(c1)
        assert message.properties["message_expiry_interval"] == 15


async def test_expired_ones_are_cleared_in_an_interval(autojump_clock: object) -> None:
    async with running() as live:
        c1 = await live.connect("c1")
        await retain(c1, "t", message_expiry_interval=5)
        await trio.sleep(100)
        stats = (await live.api.get("/stats")).json()[0]
        assert stats["retained.count"] == 1
        await change(live, msg_clear_interval="10s")
        await trio.sleep(11)
        assert (await live.api.get("/stats")).json()[0]["retained.count"] == 0
        await retain(c1, "t", message_expiry_interval=5)
        await trio.sleep(11)
        assert (await live.api.get("/stats")).json()[0]["retained.count"] == 0
        await change(live)
        await retain(c1, "t", message_expiry_interval=5)
        await trio.sleep(100)
        assert (await live.api.get("/stats")).json()[0]["retained.count"] == 1


async def test_large_ones_are_passed_on_and_not_kept(autojump_clock: object) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        await change(live, max_payload_size="10B")
        c1 = await live.connect("c1")
        await c1.subscribe("#")
        await retain(c1, "t", payload=b"x" * 10)
        await retain(c1, "t", "u", payload=b"x" * 11)
        assert [len(payload) for payload in payloads(await rest(c1))] == [10, 11, 11]
        assert await kept(live) == {"t"}
    async with running(store=store) as live:
        c1 = await live.connect("c1")
        await c1.subscribe("#")
        assert payloads(await rest(c1)) == [b"x" * 10]


async def test_what_clears_a_topic_is_not_passed_on(autojump_clock: object) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        c1 = await live.connect("c1")
        await c1.subscribe("#")
        await retain(c1, "t", "u", "v")
        await retain(c1, "u", payload=b"")
        assert payloads(await rest(c1)) == [b"x", b"x", b"x", b""]
        await change(live, stop_publish_clear_msg=True)
        await retain(c1, "t", payload=b"")
        await c1.publish("t", b"", qos=1)  # clears nothing
        assert payloads(await rest(c1)) == [b""]
        assert await kept(live) == {"v"}
        # Several in one go: what is passed on, and what is there in the end.
        for last, there in ((b"", set[str]()), (b"2", {"v"})):
            packets = [Publish("v", payload, 1, True, packet_identifier=8) for payload in (b"1", b"", last)]
            await c1.send_bytes(b"".join(encode(packet, 5) for packet in packets))
            assert payloads(await rest(c1)) == [payload for payload in (b"1", last) if payload]
            assert await kept(live) == there
        await change(live)
        await retain(c1, "v", payload=b"")
        assert payloads(await rest(c1)) == [b""]
    async with running(store=store) as live:
        assert await kept(live) == set()


@pytest.mark.parametrize("from_the_start", [True, False])
async def test_what_is_not_passed_on_is_not_counted(from_the_start: bool, autojump_clock: object) -> None:
    """It is stopped behind delayed publish and before topic metrics, whenever that is switched on."""
    config = Config(retainer=RetainerConfig(stop_publish_clear_msg=from_the_start))
    async with running(config) as live:
        if not from_the_start:
            await change(live, stop_publish_clear_msg=True)
        assert (await live.api.post("/mqtt/topic_metrics", json={"topic": "t"})).status_code == 200
        c1 = await live.connect("c1")
        await retain(c1, "t")
        await retain(c1, "t", payload=b"")
        await retain(c1, "$delayed/1/t", payload=b"")
        assert (await live.api.get("/mqtt/delayed/messages")).json()["meta"]["count"] == 1
        figures = (await live.api.get("/mqtt/topic_metrics/t")).json()["metrics"]
        assert figures["messages.in.count"] == 1


async def test_the_rate_of_delivery(autojump_clock: object) -> None:
    async with running() as live:
        c1 = await live.connect("c1")
        await retain(c1, *(f"t/{number}" for number in range(50)))
        await change(live, delivery_rate="10/s")
        watcher = await live.connect("watcher")
        for topic_filter in ("t/#", "+/+"):
            await watcher.subscribe(topic_filter)
        counts = []
        for _ in range(11):
            counts.append(len(await rest(watcher)))
            await trio.sleep(1)
        assert counts == [10] * 10 + [0]
        # It can be lifted while somebody waits.
        await watcher.subscribe("t/#")
        assert len(await rest(watcher)) == 10
        await watcher.subscribe("+/+")
        await change(live)
        assert len(await rest(watcher)) == 90


async def test_who_is_gone_takes_nothing_of_the_rate(autojump_clock: object) -> None:
    async with running() as live:
        c1 = await live.connect("c1")
        await retain(c1, *(f"t/{number}" for number in range(100)))
        await change(live, delivery_rate="1/s")
        gone = await live.connect("gone")
        for number in range(100):
            await gone.subscribe(f"t/{number}")
        await gone.disconnect()
        await settle()
        c2 = await live.connect("c2")
        await c2.subscribe("t/7")
        await trio.sleep(3)
        assert payloads(await rest(c2)) == [b"x"]


async def test_the_rate_of_retaining(autojump_clock: object, caplog: pytest.LogCaptureFixture) -> None:
    async with running() as live:
        await change(live, max_publish_rate="3/s")
        c1 = await live.connect("c1")
        await c1.subscribe("#")
        await retain(c1, *(f"t/{number}" for number in range(5)))
        assert len(await rest(c1)) == 5
        assert await kept(live) == {"t/0", "t/1", "t/2"}
        assert "retainer.max_publish_rate" in caplog.text
        await retain(c1, "t/0", payload=b"")  # to clear is always allowed
        assert await kept(live) == {"t/1", "t/2"}
        await trio.sleep(0.4)
        await retain(c1, "t/5", "t/6")
        assert await kept(live) == {"t/1", "t/2", "t/5"}


async def test_there_are_no_more_than_so_many(autojump_clock: object, caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    limit = {"backend": {"max_retained_messages": 2}}
    async with running(store=store) as live:
        c1 = await live.connect("c1")
        await retain(c1, "a")
        await change(live, **limit)
        await retain(c1, "b", "c")
        assert await kept(live) == {"a", "b"}
        assert "max_retained_messages" in caplog.text
        await retain(c1, "a", payload=b"new")  # one that is there is replaced
        lookup = await live.api.get("/mqtt/retainer/message/a")
        assert lookup.json()["payload"] == "bmV3"
        await retain(c1, "a", payload=b"")
        await retain(c1, "c")
        assert await kept(live) == {"b", "c"}
        await live.api.delete("/mqtt/retainer/message/b")
        await retain(c1, "d", message_expiry_interval=5)
        await retain(c1, "e")
        assert await kept(live) == {"c", "d"}
        await trio.sleep(10)
        await retain(c1, "d", payload=b"")
        await retain(c1, "e")
        assert await kept(live) == {"c", "e"}
    async with running(store=store) as live:
        c1 = await live.connect("c1")
        await retain(c1, "f")
        assert await kept(live) == {"c", "e"}
        await change(live)
        await retain(c1, "f")
        assert await kept(live) == {"c", "e", "f"}


async def test_the_number_is_exact_within_one_turn(autojump_clock: object) -> None:
    """Many topics at once, set and cleared, in one go of a client."""
    async with running() as live:
        await change(live, backend={"max_retained_messages": 3})
        c1 = await live.connect("c1")
        sent = [("a", b"1"), ("b", b"1"), ("a", b""), ("c", b"1"), ("d", b"1"), ("e", b"1"), ("b", b""), ("f", b"1")]
        packets = [Publish(topic, payload, 0, True) for topic, payload in sent]
        await c1.send_bytes(b"".join(encode(packet, 5) for packet in packets))
        await settle()
        assert await kept(live) == {"c", "d", "f"}
