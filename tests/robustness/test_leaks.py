"""Thousands of connections, good and bad: objects and memory are at the end what they were at the beginning.

Objects are counted by the garbage collector's own list, for every class of this package; memory by tracemalloc.
"""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
import trio
from robustness.scene import Scene, connect_bytes, connect_tcp, open_scene, read_to_end, reset, shake_hands
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_broker.protocol.encode_publish import PUBLISH_HEADS, TOPIC_BYTES
from trio_broker.protocol.packets import Properties, Will
from trio_broker.protocol.topics import TOPIC_NAMES
from trio_broker.testing import open_broker, open_client

WARMING_UP = 50
# Timers that were cancelled may stay until they are due or there are many: they hold nothing.
STALE_TIMERS = 1000
TIMER = "trio_broker.actors.timers.Timer"
# Bytes each connection may leave behind on average: caches that grow a little, but nothing that is kept for each.
BYTES_LEFT = 25
BYTES_ONCE = 400_000
KEPT: Properties = {"session_expiry_interval": 3600}
DELAYED: Properties = {"will_delay_interval": 1800}


def objects() -> Counter[str]:
    """How many there are of each class of the broker, its clients of the tests left out."""
    gc.collect()
    counted: Counter[str] = Counter()
    for one in gc.get_objects():
        kind = type(one)
        module = str(kind.__module__)  # some have none that is a text
        if module.startswith("trio_broker.") and not module.startswith("trio_broker.testing"):
            counted[f"{module}.{kind.__qualname__}"] += 1
    # The last one may be what holds the list of all objects, or this frame: that would be counted as left behind.
    del one
    gc.collect()
    return counted


def empty_caches() -> None:
    """The caches of topic names are bounded and shared by all brokers of the process: what is in them is no leak."""
    TOPIC_NAMES.clear()
    TOPIC_BYTES.clear()
    PUBLISH_HEADS.clear()


Visit = Callable[[Scene, int], Awaitable[None]]


async def come_and_go(scene: Scene, at: int) -> None:
    async with await scene.running.broker.connect_stream() as stream:
        await shake_hands(stream, f"client-{at}", will=Will("will/x", b"x"))
        await stream.send_all(b"\xe0\0")
        assert await read_to_end(stream) == b""


async def come_and_vanish(scene: Scene, at: int) -> None:
    async with await scene.running.broker.connect_stream() as stream:
        await shake_hands(stream, f"client-{at}", 4, will=Will("will/x", b"x", 1))


async def fail(scene: Scene, at: int) -> None:
    async with await scene.running.broker.connect_stream() as stream:
        bad = (
            b"garbage",
            connect_bytes(level=4)[:-1],
            connect_bytes()[:5] + b"\xff",
            b"\x10\x0c\0\4MQTT\x09\2\0\x3c\0\0",
            b"",
        )
        await stream.send_all(bad[at % len(bad)])


async def be_taken_over(scene: Scene, at: int) -> None:
    async with await scene.running.broker.connect_stream() as old, await scene.running.broker.connect_stream() as new:
        for stream in (old, new):
            will = Will("will/x", b"x", properties=DELAYED)
            await shake_hands(stream, "twin", clean_start=at % 2 == 0, will=will, properties=KEPT)
        assert await read_to_end(old)
        await new.send_all(b"\xe0\0")
        assert await read_to_end(new) == b""
    assert await scene.running.broker.questions.kick("twin")


async def subscribe_and_publish(scene: Scene, at: int) -> None:
    """Filters, plans, inflight messages, awaiting ones, retained ones; then it is gone in the middle of it."""
    async with open_client(scene.running.broker, client_id=f"client-{at}", auto_ack=False) as client:
        topic = f"topic/{at}"
        await client.subscribe(f"{topic}/#", 2)
        await client.subscribe(f"$share/group-{at}/{topic}/+", 1)
        for qos in (0, 1, 2):
            await client.publish(f"{topic}/{qos}", b"x", qos, retain=True)
            await client.publish(f"{topic}/{qos}", b"", qos, retain=True)
        await client.receive()
        await client.drop()


async def keep_a_session_and_kick_it(scene: Scene, at: int) -> None:
    client_id = f"client-{at}"
    async with await scene.running.broker.connect_stream() as stream:
        await shake_hands(stream, client_id, properties=KEPT, will=Will("will/x", b"x", properties=DELAYED))
    await wait_all_tasks_blocked()
    assert await scene.running.broker.questions.kick(client_id)


async def keep_a_session_until_it_expires(scene: Scene, at: int) -> None:
    async with open_client(scene.running.broker, client_id=f"client-{at}", properties=KEPT) as client:
        await client.subscribe(f"topic/{at}", 1)
    await scene.running.broker.publish(f"topic/{at}", b"queued", qos=1, properties={"message_expiry_interval": 60})
    if at % 50 == 49:
        await trio.sleep(3700)


async def over_tcp(scene: Scene, at: int) -> None:
    stream = await connect_tcp(scene.running)
    match at % 4:
        case 0:
            await shake_hands(stream, f"client-{at}")
        case 1:
            await shake_hands(stream, f"client-{at}")
            await reset(stream)
        case 2:
            await stream.send_all(b"garbage")
            assert await read_to_end(stream) == b""
        case _:
            await stream.send_all(connect_bytes()[:7])
    await trio.aclose_forcefully(stream)


VISITS: list[tuple[Visit, int]] = [
    (come_and_go, 500),
    (come_and_vanish, 500),
    (fail, 500),
    (be_taken_over, 250),
    (subscribe_and_publish, 150),
    (keep_a_session_and_kick_it, 600),
    (keep_a_session_until_it_expires, 200),
]
IDS = [visit.__name__ for visit, _ in VISITS]


@pytest.mark.parametrize(("visit", "rounds"), VISITS, ids=IDS)
async def test_in_memory_nothing_is_left(
    visit: Visit, rounds: int, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_scene(caplog) as scene:
        before = await nothing_is_left(scene, visit, rounds)
        await trio.sleep(2 * 3600)  # nor are there timers when all are due
        assert await objects_at_rest(scene) - before == Counter()


async def test_over_tcp_nothing_is_left(caplog: pytest.LogCaptureFixture) -> None:
    async with open_scene(caplog) as scene:
        await nothing_is_left(scene, over_tcp, 400)


async def nothing_is_left(scene: Scene, visit: Visit, rounds: int) -> Counter[str]:
    """Visit so often; gives the objects that there were before."""
    # The records that caplog keeps are not the broker's.
    scene.caplog.set_level("WARNING", "trio_broker")
    for at in range(WARMING_UP):
        await visit(scene, at - WARMING_UP)
    before = await objects_at_rest(scene)
    empty_caches()
    tracemalloc.start()
    try:
        for at in range(rounds):
            await visit(scene, at)
        grown = await objects_at_rest(scene) - before
        empty_caches()
        # Without what this test itself holds, such as the list of all objects.
        snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, __file__)])
    finally:
        tracemalloc.stop()
    assert grown.pop(TIMER, 0) <= STALE_TIMERS
    assert grown == Counter()
    left = sum(statistic.size for statistic in snapshot.statistics("filename"))
    biggest = "\n".join(map(str, snapshot.statistics("lineno")[:10]))
    assert left < BYTES_LEFT * rounds + BYTES_ONCE, f"{left} bytes are left:\n{biggest}"
    return before


async def objects_at_rest(scene: Scene) -> Counter[str]:
    """The objects of a broker that knows nobody but the bystander; asked the same each time, as answers are objects."""
    await scene.settled()
    await scene.exchange()
    questions = scene.running.broker.questions
    assert await questions.topics() == ["bystander", "will"]
    assert {row.client_id for row in await questions.subscriptions()} == {"bystander"}
    assert (await questions.retained(None, 0, 10))[1] == 0
    await wait_all_tasks_blocked()
    return objects()


async def test_whole_brokers_leave_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def live() -> None:
        async with (
            open_broker() as running,
            open_client(running.broker, client_id="a", properties=KEPT) as first,
            open_client((running.host, running.port), client_id="b") as second,
        ):
            await first.subscribe("#", 2)
            await second.publish("x", b"y", 2, retain=True)
            assert (await first.receive()).payload == b"y"

    for _ in range(3):
        await live()
    tasks = trio.lowlevel.current_statistics().tasks_living
    before = objects()
    for _ in range(20):
        await live()
    await wait_all_tasks_blocked()
    assert objects() - before == Counter()
    assert trio.lowlevel.current_statistics().tasks_living == tasks


async def test_a_long_life_does_not_grow_one_session(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """One client that publishes, subscribes and unsubscribes for long: nothing grows with the number of packets."""
    dice = random.Random(5)
    async with open_scene(caplog) as scene, open_client(scene.running.broker, client_id="old") as client:

        async def live(rounds: int) -> None:
            for _ in range(rounds):
                topic = f"t/{dice.randrange(1_000_000)}"
                await client.subscribe(topic, 2)
                await client.publish(topic, b"x", dice.randrange(3))
                await client.receive()
                await client.unsubscribe(topic)

        await live(200)
        await wait_all_tasks_blocked()
        before = objects()
        await live(300)
        await wait_all_tasks_blocked()
        grown = objects() - before  # less than one for each round
        assert not {name: number for name, number in grown.items() if number > 150}
