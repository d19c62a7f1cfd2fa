"""A broker that can be ended and begun again, gracefully or not, on either store, with a wall clock of the test.

Invariant: the wall clock runs with Trio's mock clock, also while no broker runs; `ahead` is what somebody set it by.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Literal

import apsw
import pytest
import trio
from actors.flows import settle
from attrs import define, field

from trio_broker.actors import clock
from trio_broker.actors.questions import NewMessage
from trio_broker.broker import Broker
from trio_broker.protocol.packets import Properties, PubAck, Publish, PubRec, PubRel
from trio_broker.session.info import QueuedMessage
from trio_broker.session.session import Session
from trio_broker.store.files import FILE_NAME
from trio_broker.store.memory import MemoryStore
from trio_broker.store.operations import Kept
from trio_broker.store.sqlite import SqliteStore
from trio_broker.testing import Client, open_client
from trio_broker.testing.running import make_config

__all__ = ["LONG", "NEVER", "WAYS", "World", "inbox", "later", "many", "open_world", "say", "steps"]

Way = tuple[Literal["sqlite", "memory"], Literal["close", "cancel", "kill"]]
WAYS: Final[tuple[Way, ...]] = (
    ("sqlite", "close"),
    ("sqlite", "cancel"),
    ("sqlite", "kill"),
    ("memory", "close"),
    ("memory", "cancel"),
)
LONG: Final[Properties] = {"session_expiry_interval": 100_000}
NEVER: Final = 0xFFFFFFFF
BEGAN: Final = 1_800_000_000.0


@define
class Wall:
    """Stands for the module `time` in the broker's clock."""

    ahead: float = 0.0

    def time(self) -> float:
        return BEGAN + trio.current_time() + self.ahead


@define(eq=False)
class World:
    """`broker` is the one that runs now; `way` says which store it has and how `restart` ends it."""

    way: Way
    tmp_path: Path
    nursery: trio.Nursery
    wall: Wall
    settings: dict[str, object] = field(factory=dict)
    broker: Broker = field(init=False)
    store: SqliteStore | MemoryStore = field(init=False)
    _generation: int = 0
    _scope: trio.CancelScope = field(factory=trio.CancelScope)
    _over: trio.Event = field(factory=trio.Event)

    @property
    def directory(self) -> Path:
        return self.tmp_path / str(self._generation)

    async def start(self) -> None:
        if self.way[0] == "sqlite":
            self.store = SqliteStore(self.directory)
        elif not self._generation and not hasattr(self, "store"):
            self.store = MemoryStore()
        no_listener = {"tcp": {"default": {"enable": False}}}
        config = make_config(None, {"listeners": no_listener, "mqtt": self.settings})
        self.broker = Broker(config, store=self.store)
        self._scope = trio.CancelScope()
        self._over = trio.Event()
        await self.nursery.start(self._run, self.broker, self._scope, self._over)

    @staticmethod
    async def _run(
        broker: Broker, scope: trio.CancelScope, over: trio.Event, *, task_status: trio.TaskStatus[Any]
    ) -> None:
        with scope:
            await broker.run(task_status=task_status)
        over.set()

    async def end(self) -> None:
        """What was said until now is worked off; what is done after that is the broker's business."""
        await settle()
        match self.way[1]:
            case "close":
                self.broker.close()
            case "cancel":
                self._scope.cancel()
            case "kill":
                # What a process leaves that is killed: all that it wrote, and nothing that it would do at its end.
                left = self.directory
                self._generation += 1
                shutil.copytree(left, self.directory)
                self._scope.cancel()
        await self._over.wait()

    async def restart(self, *, away: float = 0.0, **settings: object) -> None:
        """The next broker, on what the one before it has left, `away` seconds after its end."""
        await self.end()
        if away:
            await trio.sleep(away)
        self.settings |= settings
        await self.start()

    def client(
        self, client_id: str, *, clean_start: bool = False, properties: Properties = LONG, **options: Any
    ) -> AbstractAsyncContextManager[Client]:
        """A client whose session outlives its connection. Levels below 5 have no properties."""
        if options.get("level", 5) < 5:
            properties = {}
        return open_client(self.broker, client_id=client_id, clean_start=clean_start, properties=properties, **options)

    async def subscriber(
        self, client_id: str, topic_filter: str = "t", qos: int = 2, *, properties: Properties = LONG, **options: Any
    ) -> None:
        """A session with this subscription, whose client is away."""
        async with self.client(client_id, properties=properties) as client:
            answer = await client.subscribe(topic_filter, qos, **options)
            assert answer.reason_codes == [qos]
        await settle()

    async def has_session(self, client_id: str) -> bool:
        await settle()
        return await self.broker.questions.client(client_id) is not None

    def session(self, client_id: str) -> Session:
        """The broker's own object."""
        core = self.broker._core
        assert core is not None
        session = core.manager._actors[client_id].session
        assert session is not None
        return session

    async def queue(self, client_id: str) -> list[QueuedMessage]:
        page = await self.broker.questions.mqueue_messages(client_id, None, 1_000_000)
        assert page is not None
        return page.messages

    async def inflight(self, client_id: str) -> list[QueuedMessage]:
        page = await self.broker.questions.inflight_messages(client_id, None, 1_000_000)
        assert page is not None
        return page.messages

    async def kept(self) -> list[Kept]:
        """All that the store has, read from what the broker would leave if it were killed now."""
        await settle()
        if isinstance(self.store, MemoryStore):
            return [kept async for kept in self.store.load()]
        copy = self.tmp_path / f"copy-{trio.current_time()}-{len(list(self.tmp_path.iterdir()))}"
        shutil.copytree(self.directory, copy)
        store = SqliteStore(copy)
        await store.open(clock.Clock(), lambda failure: None)
        found = [kept async for kept in store.load()]
        await store.close()
        return found

    async def rows(self, table: str) -> int:
        """How many rows a table has now."""
        await settle()
        if isinstance(self.store, MemoryStore):
            self.store._commit()
            db = self.store._database._writer
            return int(str(db.execute(f"SELECT count(*) FROM {table}").get))
        db = apsw.Connection(str(self.directory / FILE_NAME), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return int(str(db.execute(f"SELECT count(*) FROM {table}").get))
        finally:
            db.close()


@asynccontextmanager
async def open_world(
    way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **settings: object
) -> AsyncIterator[World]:
    """`settings` are those of `mqtt`."""
    wall = Wall()
    monkeypatch.setattr(clock, "time", SimpleNamespace(time=wall.time))
    async with trio.open_nursery() as nursery:
        world = World(way, tmp_path, nursery, wall, settings)
        nursery.start_soon(_watch)
        await world.start()
        yield world
        nursery.cancel_scope.cancel()


async def _watch() -> None:
    """When everybody waits in vain the mock clock jumps as far as this."""
    await trio.sleep(1e12)
    raise AssertionError("the test waits for something that does not come")


async def say(world: World, *payloads: bytes, topic: str = "t", qos: int = 1, retain: bool = False) -> None:
    """Messages of a client that has seen their acknowledgements."""
    async with world.client("publisher", clean_start=True, properties={}) as publisher:
        for payload in payloads:
            answer = await publisher.publish(topic, payload, qos, retain)
            assert answer is None or answer.reason_code in (0, 0x10)
    await settle()


async def many(world: World, count: int, *, start: int = 0, qos: int = 1, topic: str = "t", size: int = 0) -> None:
    """Numbered messages in one go."""
    new = [NewMessage(topic, b"%d" % number + b"." * size, qos) for number in range(start, start + count)]
    await world.broker.questions.publish(new)


async def later(world: World, client_id: str, **options: Any) -> list[Publish]:
    """All that a client gets that comes back now, and takes."""
    async with world.client(client_id, **options) as client:
        found: list[Publish] = []
        while True:
            await settle()
            waiting = sum(isinstance(packet, Publish) for packet in client.inbox)
            if not waiting:
                return found
            found += [await client.receive() for _ in range(waiting)]


async def inbox(client: Client) -> list[object]:
    """All that came for it and nobody has taken."""
    await settle()
    packets: list[object] = list(client.inbox)
    client.inbox.clear()
    return packets


def steps(packets: list[object]) -> list[tuple[str, int, bytes | int]]:
    """What happened, in short: a PUBLISH with its DUP flag and payload, an acknowledgement with its code."""
    short: list[tuple[str, int, bytes | int]] = []
    for packet in packets:
        if isinstance(packet, Publish):
            short.append((f"PUBLISH{' DUP' if packet.dup else ''}", packet.packet_identifier, packet.payload))
        else:
            assert isinstance(packet, PubAck | PubRec | PubRel) or hasattr(packet, "packet_identifier")
            name = type(packet).__name__.upper()
            short.append((name, packet.packet_identifier, getattr(packet, "reason_code", 0)))
    return short
