"""`/slow_subscriptions`: who takes long, and the settings of the list."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio
from actors.flows import one, rest, settle, take
from api.live import Live, running
from api.operations import shows
from hypothesis import given
from hypothesis import strategies as st

from trio_broker.actors.slow_subscriptions import SlowSubscriptions
from trio_broker.config import Config, Layers
from trio_broker.config.features import SlowSubsConfig
from trio_broker.protocol.message import Message, Origin
from trio_broker.protocol.packets import PubComp, PubRec, PubRel
from trio_broker.session.outgoing import Outgoing
from trio_broker.session.slow import Slow
from trio_broker.store.memory import MemoryStore

DEFAULTS = {"enable": False, "threshold": "500ms", "expire_interval": "300s", "top_k_num": 10, "stats_type": "whole"}
LONG: Any = {"session_expiry_interval": 10_000}


def watching(**settings: Any) -> Config:
    return Config(slow_subs=SlowSubsConfig(enable=True, **settings))


async def listed(live: Live) -> list[tuple[str, str, int]]:
    """Client, topic and milliseconds of each line, rounded to tenths of a second."""
    await settle()
    rows = (await live.api.get("/slow_subscriptions")).json()["data"]
    return [(row["clientid"], row["topic"], round(row["timespan"], -2)) for row in rows]


async def slow(live: Live, client_id: str, seconds: float, *topics: str, qos: int = 1) -> None:
    """A client that takes so long to acknowledge messages of these topics."""
    client = await live.connect(client_id, auto_ack=False)
    for topic in topics:
        await client.subscribe(topic, qos)
        await live.broker.publish(topic, b"x", qos=qos)
    packets = await take(client, len(topics))
    await trio.sleep(seconds)
    for packet in packets:
        client.acknowledge(packet)
    await settle()
    await client.disconnect()


@shows("GET /slow_subscriptions/settings", "PUT /slow_subscriptions/settings")
async def test_settings(autojump_clock: object) -> None:
    """What is left out is the default again."""
    store = MemoryStore()
    changed = {"enable": True, "threshold": "1s", "expire_interval": "1m", "top_k_num": 3, "stats_type": "response"}
    async with running(store=store) as live:
        assert (await live.api.get("/slow_subscriptions/settings")).json() == DEFAULTS
        answer = await live.api.put("/slow_subscriptions/settings", json=changed)
        assert (answer.status_code, answer.json()) == (200, changed)
    async with running(store=store) as live:
        assert (await live.api.get("/slow_subscriptions/settings")).json() == changed
        answer = await live.api.put("/slow_subscriptions/settings", json={"threshold": 1500})
        assert answer.json() == {**DEFAULTS, "threshold": "1s500ms"}


@shows("PUT /slow_subscriptions/settings")
@pytest.mark.parametrize(
    "body",
    [
        {"top_k_num": 0},
        {"top_k_num": 1001},
        {"threshold": "fast"},
        {"threshold": -1},
        {"expire_interval": True},
        {"stats_type": "all"},
        {"enable": "x"},
        {"more": 1},
    ],
)
async def test_bad_settings(body: dict[str, object], autojump_clock: object) -> None:
    async with running() as live:
        answer = await live.api.put("/slow_subscriptions/settings", json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        assert next(iter(body)) in answer.json()["message"]
        assert (await live.api.get("/slow_subscriptions/settings")).json() == DEFAULTS


@shows("PUT /slow_subscriptions/settings", "DELETE /slow_subscriptions")
async def test_who_may(autojump_clock: object) -> None:
    environ = {"TRIO_BROKER_SLOW_SUBS__ENABLE": "true"}
    async with running(layers=Layers.gather(environ=environ, base=Config())) as live:
        viewer = live.as_viewer()
        assert (await live.api.get("/slow_subscriptions", auth=viewer)).status_code == 200
        assert (await live.api.put("/slow_subscriptions/settings", json={}, auth=viewer)).status_code == 403
        assert (await live.api.delete("/slow_subscriptions", auth=viewer)).status_code == 403
        answer = await live.api.put("/slow_subscriptions/settings", json={"enable": False})
        assert (answer.status_code, answer.json()["code"]) == (403, "UPDATE_FAILED")


@shows("GET /slow_subscriptions")
async def test_the_list(autojump_clock: object) -> None:
    """The slowest first, one line for each client and topic, with its longest time; no meta, no pages."""
    async with running(watching()) as live:
        assert (await live.api.get("/slow_subscriptions")).json() == {"data": []}
        await slow(live, "c1", 0.4, "quick")
        await slow(live, "c1", 1, "t/1", "t/2")
        await slow(live, "c1", 3, "t/1")
        await slow(live, "c1", 2, "t/1")
        await slow(live, "c2", 2, "t/1", qos=2)
        assert await listed(live) == [("c1", "t/1", 3000), ("c2", "t/1", 2000), ("c1", "t/2", 1000)]
        core = live.broker._core
        assert core is not None
        answer = await live.api.get("/slow_subscriptions", params={"page": 2, "limit": 1})
        row = answer.json()["data"][0]
        assert (len(answer.json()["data"]), list(answer.json())) == (3, ["data"])
        assert list(row) == ["clientid", "node", "topic", "timespan", "last_update_time"]
        assert row["node"] == "trio_broker@127.0.0.1"
        assert 0 <= core.clock.wall_ms(core.clock.now()) - row["last_update_time"] <= 10_000


@shows("DELETE /slow_subscriptions")
async def test_clear(autojump_clock: object) -> None:
    async with running(watching(top_k_num=1)) as live:
        await slow(live, "c1", 5, "t")
        answer = await live.api.delete("/slow_subscriptions")
        assert (answer.status_code, answer.content) == (204, b"")
        assert await listed(live) == []
        await slow(live, "c1", 1, "t")  # less than what was there
        assert await listed(live) == [("c1", "t", 1000)]


@shows("GET /slow_subscriptions")
async def test_lines_expire(autojump_clock: object) -> None:
    """From their last change."""
    async with running(watching(expire_interval=10.0)) as live:
        await slow(live, "c1", 3, "t/1")
        await slow(live, "c1", 2, "t/2")
        await trio.sleep(4)
        assert len(await listed(live)) == 2
        await slow(live, "c1", 7, "t/1")
        assert await listed(live) == [("c1", "t/1", 7000)]
        await trio.sleep(10.5)
        assert await listed(live) == []
        await slow(live, "c1", 1, "t/1")
        assert await listed(live) == [("c1", "t/1", 1000)]


@shows("GET /slow_subscriptions", "PUT /slow_subscriptions/settings")
async def test_changes_act_at_once(autojump_clock: object) -> None:
    """On sessions that are there, too; what is on the list stays."""
    async with running() as live:
        client = await live.connect("c1", auto_ack=False)
        await client.subscribe("t/#", 1)

        async def message(topic: str, seconds: float) -> None:
            await live.broker.publish(topic, b"x", qos=1)
            packet = await one(client)
            await trio.sleep(seconds)
            client.acknowledge(packet)
            await settle()

        async def change(**settings: object) -> None:
            assert (await live.api.put("/slow_subscriptions/settings", json=settings)).status_code == 200

        await message("t/off", 5)
        assert await listed(live) == []
        await change(enable=True)
        await message("t/1", 1)
        await change(enable=True, threshold="2s")
        await message("t/2", 1.5)
        await message("t/3", 3)
        await change(enable=True, top_k_num=1)
        assert await listed(live) == [("c1", "t/3", 3000)]
        await message("t/4", 2)
        await change(enable=False)
        await message("t/off", 5)
        assert await listed(live) == [("c1", "t/3", 3000)]
        await change(enable=True)
        # Sessions that begin under other limits look at the same.
        await live.broker.questions.settings.change({"mqtt": {"max_inflight": 5}})
        await slow(live, "c2", 5, "t/5")
        assert await listed(live) == [("c2", "t/5", 5000), ("c1", "t/3", 3000)]


@shows("GET /slow_subscriptions", "PUT /slow_subscriptions/settings")
@pytest.mark.parametrize(("stats_type", "timespan"), [("whole", 5000), ("internal", 3000), ("response", 2000)])
@pytest.mark.parametrize("qos", [1, 2])
async def test_what_is_measured(stats_type: str, timespan: int, qos: int, autojump_clock: object) -> None:
    """A message that waits for its client for three seconds, and for its acknowledgement for two."""
    async with running(watching(stats_type=stats_type, threshold=0.0)) as live:
        client = await live.connect("c1", properties=LONG)
        await client.subscribe("t", qos)
        await client.disconnect()
        await live.broker.publish("t", b"x", qos=qos)
        await trio.sleep(3)
        client = await live.connect("c1", properties=LONG, clean_start=False, auto_ack=False)
        packet = await one(client)
        if qos == 2:
            await trio.sleep(1)
            await client.send(PubRec(packet.packet_identifier))
            await client.expect(PubRel)
            assert await listed(live) == []
            await trio.sleep(1)
            await client.send(PubComp(packet.packet_identifier))
        else:
            await trio.sleep(2)
            client.acknowledge(packet)
        assert await listed(live) == [("c1", "t", timespan)]


@pytest.mark.parametrize(("stats_type", "expected"), [("whole", [2000]), ("internal", [2000]), ("response", [])])
async def test_qos0_is_over_when_it_is_written(stats_type: str, expected: list[int], autojump_clock: object) -> None:
    async with running(watching(stats_type=stats_type)) as live:
        client = await live.connect("c1", properties=LONG)
        await client.subscribe("t", 0)
        await live.broker.publish("t", b"x")
        await client.disconnect()
        await live.broker.publish("t", b"x")
        await trio.sleep(2)
        client = await live.connect("c1", properties=LONG, clean_start=False)
        assert len(await rest(client)) == 1
        assert await listed(live) == [("c1", "t", timespan) for timespan in expected]


@pytest.mark.parametrize(("stats_type", "expected"), [("whole", [9000]), ("internal", []), ("response", [])])
async def test_on_its_way_when_nobody_watched(stats_type: str, expected: list[int], autojump_clock: object) -> None:
    """Over a restart: when it came is known, when its delivery began is not."""
    store = MemoryStore()
    config = watching(stats_type=stats_type)
    async with running(config, store) as live:
        client = await live.connect("c1", properties=LONG, auto_ack=False)
        await client.subscribe("t", 1)
        await live.broker.publish("t", b"x", qos=1)
        await one(client)
        await client.drop()
    core = live.broker.questions._core
    before = core.clock.wall_ms(core.clock.now())
    await trio.sleep(9)
    async with running(config, store) as live:
        core = live.broker.questions._core
        core.clock._offset += (before + 9000 - core.clock.wall_ms(core.clock.now())) / 1000
        client = await live.connect("c1", properties=LONG, clean_start=False)
        assert len(await rest(client)) == 1
        assert await listed(live) == [("c1", "t", timespan) for timespan in expected]


async def test_a_delayed_message_is_not_slow(autojump_clock: object) -> None:
    async with running(watching()) as live:
        client = await live.connect("c1")
        await client.subscribe("t", 1)
        await live.broker.publish("$delayed/100/t", b"x", qos=1)
        await trio.sleep(100.1)
        assert len(await rest(client)) == 1
        assert await listed(live) == []


class _Clock:
    ms = 0

    def now(self) -> float:
        return 0.0

    def wall_ms(self, now: float) -> int:
        return self.ms


def lonely(most: int) -> tuple[SlowSubscriptions, _Clock]:
    """A list without a broker, of what takes more than 10 ms."""
    clock = _Clock()
    settings = SimpleNamespace(config=watching(top_k_num=most, threshold=0.01), watch=lambda root, watcher: None)
    core: Any = SimpleNamespace(settings=settings, clock=clock, limits=SimpleNamespace(slow=Slow()))
    return SlowSubscriptions(core), clock


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["t", "u"]), st.integers(0, 40)), max_size=200),
    st.integers(1, 8),
)
def test_the_list_has_the_longest_ones(told: list[tuple[str, str, int]], most: int) -> None:
    """Whatever the order in which sessions tell of them."""
    watch, clock = lonely(most)
    longest: dict[tuple[str, str], int] = {}
    for client_id, topic_name, timespan in told:
        clock.ms = timespan
        message = Message(topic_name, b"", 1, False, 1, Origin("p"), 0)
        watch.completed(client_id, [(Outgoing(message, 1, False, (), 0), None)], 0.0)
        if timespan > 10:
            longest[client_id, topic_name] = max(timespan, longest.get((client_id, topic_name), 0))
    rows = watch.rows()
    assert [row.timespan for row in rows] == sorted(longest.values(), reverse=True)[:most]
    assert all(longest[row.client_id, row.topic_name] == row.timespan for row in rows)
    assert len(watch._quickest) <= 2 * most + 66


def test_sessions_are_asked_only_while_it_is_on() -> None:
    watch, _ = lonely(3)
    slow = watch._core.limits.slow
    assert slow.watch is watch
    off = SimpleNamespace(slow_subs=SlowSubsConfig())
    watch._changed(off, off)  # type: ignore[arg-type]
    assert slow.watch is None


async def test_what_a_session_notes_is_bounded(autojump_clock: object) -> None:
    """Though it was switched off before the acknowledgements came."""
    async with running() as live:
        core = live.broker._core
        assert core is not None
        client = await live.connect("c1")
        await client.subscribe("t", 1)
        session = core.manager._actors["c1"].session
        assert session is not None
        for _ in range(20):
            core.limits.slow.watch = core.slow_subscriptions
            for _ in range(10):
                # With a property, so that it is not sent the short way.
                await live.broker.publish("t", b"x", qos=1, properties={"content_type": "text"})
            core.limits.slow.watch = None
            assert len(await rest(client)) == 10
        assert session.begun is not None
        assert 0 < len(session.begun) <= 2 * 32 + 65


@pytest.mark.parametrize("hours", [-24, 24])
@pytest.mark.parametrize("kind", ["whole", "internal", "response"])
async def test_a_clock_that_was_set_makes_nobody_slow(hours: int, kind: str, autojump_clock: object) -> None:
    """What was measured by the other time is gone, and what is on its way by then is not measured."""
    async with running(watching(stats_type=kind)) as live:
        core = live.broker._core
        assert core is not None
        await slow(live, "before", 3, "a")
        client = await live.connect("c1", auto_ack=False)
        await client.subscribe("t", 1)
        for number in range(40):  # some of them wait in the queue
            await live.broker.publish("t", b"%d" % number, qos=1)
        packets = await take(client, 32)
        core.clock._offset += hours * 3600
        core.clock_was_set()
        for packet in packets:
            client.acknowledge(packet)
        for packet in await take(client, 8):
            client.acknowledge(packet)
        assert [row for row in await listed(live) if row[2] > 10_000] == []
        assert "before" not in [row[0] for row in await listed(live)]
        if kind != "internal":
            await slow(live, "after", 3, "b")
            assert await listed(live) == [("after", "b", 3000)]
