"""The soak: connects, disconnects, failed connects and takeovers by the thousand; the broker ends as it began.

    python -m benchmarks.soak [--rounds 100000]

Invariant: what is compared is the broker at rest, after everybody has left: its objects by class, the blocks of memory
Python has allocated, tasks, file descriptors, resident memory. Exit code 1 when something has grown.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import trio
import trio.lowlevel
import trio.testing
from attrs import define
from trio_websocket import open_websocket

from trio_broker.protocol.encode import encode
from trio_broker.protocol.encode_publish import PUBLISH_HEADS, TOPIC_BYTES
from trio_broker.protocol.packets import NO_PROPERTIES, Connect, Properties, Publish, Subscribe, SubscribeFilter, Will
from trio_broker.protocol.topics import TOPIC_NAMES
from trio_broker.testing import RunningBroker, open_broker

__all__ = ["Rest", "grown", "main", "soak"]

WORKERS = 20
WARMING_UP = 200
PATIENCE = 30.0  # seconds for the broker to come to rest
KEPT: Properties = {"session_expiry_interval": 3600}

# What may be there beyond the beginning, whatever the number of rounds: cancelled timers that are swept out when there
# are many, free lists and buffers of Python and its allocator.
STALE_TIMERS = 2_500
BLOCKS = 30_000
RESIDENT_KB = 20_000
TIMER = "trio_broker.actors.timers.Timer"


@define
class Rest:
    """A broker at rest."""

    objects: Counter[str]
    blocks: int
    tasks: int
    files: int
    resident_kb: int


async def exchange(running: RunningBroker, data: bytes, wanted: int = 1, *, cut: bool = False) -> None:
    """Over TCP: send, wait for `wanted` bytes or the end, then close; `cut`: with a reset."""
    stream = await trio.open_tcp_stream(*running.listeners["tcp:default"])
    try:
        await stream.send_all(data)
        got = 0
        while got < wanted:
            more = await stream.receive_some()
            if not more:
                break
            got += len(more)
        if cut:
            stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    except trio.BrokenResourceError:
        pass  # it was refused before all was said
    finally:
        await trio.aclose_forcefully(stream)


def connect(client_id: str, level: int = 5, *, clean: bool = True, kept: bool = False) -> bytes:
    will = Will(f"will/{client_id}", b"gone", 1)
    properties = KEPT if kept else NO_PROPERTIES
    packet = Connect(client_id, protocol_level=level, clean_start=clean, will=will, properties=properties)
    return encode(packet, level)


def busy(client_id: str, level: int = 5) -> bytes:
    """Subscribes to what it publishes, with every QoS, and acknowledges nothing."""
    packets = [Subscribe(1, [SubscribeFilter(f"{client_id}/#", 2)])]
    published = [Publish(f"{client_id}/x", b"x" * 64, qos=qos, packet_identifier=qos and qos + 1) for qos in (0, 1, 2)]
    return b"".join(encode(packet, level) for packet in (*packets, *published))


async def come_and_go(running: RunningBroker, client_id: str) -> None:
    await exchange(running, connect(client_id) + busy(client_id) + b"\xe0\0", 1 << 16)


async def be_cut_off(running: RunningBroker, client_id: str) -> None:
    await exchange(running, connect(client_id, 4) + busy(client_id, 4), 60, cut=True)


async def be_refused(running: RunningBroker, client_id: str) -> None:
    await exchange(running, b"\x10\x0c\0\4MQTT\4\0\0\0\0\0", 1 << 16)  # no client identifier, and no clean session


async def talk_nonsense(running: RunningBroker, client_id: str) -> None:
    await exchange(running, b"GET / HTTP/1.1\r\n\r\n", 1 << 16)


async def stop_within_connect(running: RunningBroker, client_id: str) -> None:
    await exchange(running, connect(client_id)[:-3], 0)


async def say_nothing(running: RunningBroker, client_id: str) -> None:
    await exchange(running, b"", 0)


async def take_over(running: RunningBroker, client_id: str) -> None:
    """A session is taken over with messages in flight, then discarded by a third connection."""
    hello = connect(client_id, clean=False, kept=True)
    async with trio.open_nursery() as nursery:
        for greeting in (hello + busy(client_id), hello):
            stream = await trio.open_tcp_stream(*running.listeners["tcp:default"])
            await stream.send_all(greeting)
            await stream.receive_some()  # CONNACK
            nursery.start_soon(read_to_end, stream)
        await exchange(running, connect(client_id) + b"\xe0\0", 1 << 16)


async def read_to_end(stream: trio.SocketStream) -> None:
    async with stream:
        while await stream.receive_some():
            pass


async def be_kicked_out(running: RunningBroker, client_id: str) -> None:
    await exchange(running, connect(client_id, clean=False, kept=True) + busy(client_id), 40)
    if not await running.broker.questions.kick(client_id):
        raise RuntimeError(f"the session of {client_id} is gone")


async def come_by_websocket(running: RunningBroker, client_id: str) -> None:
    host, port = running.listeners["ws:default"]
    async with open_websocket(host, port, "/mqtt", use_ssl=False, subprotocols=["mqtt"]) as socket:
        await socket.send_message(connect(client_id) + busy(client_id))
        await socket.get_message()
        await socket.send_message(b"\xe0\0")


VISITS: tuple[Callable[[RunningBroker, str], Awaitable[None]], ...] = (
    come_and_go,
    be_cut_off,
    be_refused,
    talk_nonsense,
    stop_within_connect,
    say_nothing,
    be_kicked_out,
    come_and_go,
    be_cut_off,
    come_by_websocket,
)
TAKEOVER_EVERY = 7  # rounds; not a divisor of the above, so that every kind follows every other


async def at_rest(running: RunningBroker) -> Rest:
    """Wait until nobody is left, then count."""
    with trio.fail_after(PATIENCE):
        while True:
            stats = await running.broker.questions.stats()
            if not stats["sessions.count"] and not stats["live_connections.count"]:
                break
            await trio.sleep(0.01)
        core = running.broker._core
        assert core is not None
        await core.door.empty()
    await trio.testing.wait_all_tasks_blocked(0.01)
    for cache in (TOPIC_NAMES, TOPIC_BYTES, PUBLISH_HEADS):
        cache.clear()  # bounded, and no business of a connection
    gc.collect()
    objects: Counter[str] = Counter()
    for one in gc.get_objects():
        kind = type(one)
        if str(kind.__module__).startswith("trio_broker."):
            objects[f"{kind.__module__}.{kind.__qualname__}"] += 1
    del one
    gc.collect()
    tasks = trio.lowlevel.current_statistics().tasks_living
    return Rest(objects, sys.getallocatedblocks(), tasks, len(os.listdir("/proc/self/fd")), resident_kb())


def resident_kb() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))


def grown(before: Rest, after: Rest) -> list[str]:
    """What there is more of than may be, in words."""
    more = after.objects - before.objects
    if more[TIMER] <= STALE_TIMERS:
        del more[TIMER]
    found = [f"{count} more objects of {name}" for name, count in more.items()]
    bounds = (("blocks", BLOCKS), ("tasks", 0), ("files", 0), ("resident_kb", RESIDENT_KB))
    for name, bound in bounds:
        growth = getattr(after, name) - getattr(before, name)
        if growth > bound:
            found.append(f"{name}: {growth} more, at most {bound} allowed")
    return found


async def soak(rounds: int, progress: Callable[[int], None] = lambda done: None) -> tuple[Rest, Rest]:
    """So many rounds; the broker at rest after a few of them, and at the end."""
    websocket = {"ws": {"default": {"bind": "127.0.0.1:0"}}}
    mqtt = {"max_awaiting_rel": "infinity"}
    async with open_broker(mqtt=mqtt, listeners=websocket) as running:
        done = 0

        async def worker(numbers: range) -> None:
            nonlocal done
            for number in numbers:
                visit = VISITS[number % len(VISITS)] if number % TAKEOVER_EVERY else take_over
                await visit(running, f"client-{number}")
                done += 1
                progress(done)

        async def run(first: int, count: int) -> None:
            async with trio.open_nursery() as nursery:
                for offset in range(min(WORKERS, count)):
                    nursery.start_soon(worker, range(first + offset, first + count, WORKERS))

        await run(0, WARMING_UP)
        before = await at_rest(running)
        await run(WARMING_UP, rounds)
        return before, await at_rest(running)


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description="Does the broker end as it began?")
    parser.add_argument("--rounds", type=int, default=100_000)
    rounds = parser.parse_args().rounds
    began = time.monotonic()

    def progress(done: int) -> None:
        if done % max(1, rounds // 100) == 0:
            left = (time.monotonic() - began) / done * (rounds + WARMING_UP - done)
            print(f"\r{done:>9} of {rounds + WARMING_UP}, {left:.0f} s left   ", end="", file=sys.stderr, flush=True)

    before, after = trio.run(partial(soak, rounds, progress))
    print(file=sys.stderr)
    for name in ("blocks", "tasks", "files", "resident_kb"):
        print(f"{name:<12} {getattr(before, name):>9} before, {getattr(after, name):>9} after")
    print(f"{'objects':<12} {before.objects.total():>9} before, {after.objects.total():>9} after")
    wrong = grown(before, after)
    print(*(f"GROWN: {line}" for line in wrong), sep="\n")
    print(
        f"{rounds} rounds in {time.monotonic() - began:.0f} s: {'something has grown' if wrong else 'nothing is left'}"
    )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
