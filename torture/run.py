"""A run: rounds of load that end with SIGKILL, a last one that ends well, and the verdict.

Invariant: all rounds have the same directory, the same port and the same clients; only the broker dies.
"""

from __future__ import annotations

import random
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import httpx
import trio
from attrs import define, field

from torture.broker import BrokerFailed, BrokerProcess, quiet_port
from torture.judge import Judge, Violation
from torture.roster import ROOT, Roster, make_roster
from torture.wire import Gone, open_link
from torture.world import World
from torture.wrong import Harm
from trio_broker.protocol.packets import MQTT5, Publish, Subscribe, SubscribeFilter

__all__ = ["Options", "Report", "torture"]

FAR_BEHIND: Final = 10_000
FAR_BEHIND_IF_SLOW: Final = 200
"""So many messages behind, a subscriber makes its publishers wait: the end of the run waits for it, too."""
LOOK_EVERY: Final = 0.1
SETTLED: Final = 2
"""So many looks in a row at which nothing had come, though every connection was alive."""
KEY: Final = ("torture", "only-on-this-loopback")


@define(frozen=True)
class Options:
    """`limit`: `mqtt.max_mqueue_len`, 0 = nothing may be dropped. `minutes` go before `rounds`."""

    seed: int
    rounds: int = 50
    minutes: float | None = None
    durability: str = "full"
    publishers: int = 5
    subscribers: int = 8
    limit: int = 0
    shortest: float = 0.2
    longest: float = 1.0
    """Seconds of load before the kill."""
    at_least: int = 0
    """So many messages of each publisher must have been acknowledged in a round before that."""
    patience: int = 60
    """Seconds for an answer, and looks in vain at the end (two a second), before the broker is given up."""


@define
class Report:
    folder: Path
    kills: int = 0
    published: int = 0
    acknowledged: int = 0
    received: int = 0
    duplicates: int = 0
    missing: int = 0
    violations: list[Violation] = field(factory=list)


Say = Callable[[str], None]


async def _until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - told by many, some of them threads
        await trio.sleep(0.01)


async def torture(options: Options, say: Say, *, folder: Path | None = None, harm: Harm | None = None) -> Report:
    """Run; `harm` makes the broker a wrong one. The folder stays: who asked for the run removes it."""
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="torture-"))
    judge = Judge(options.limit)
    world = World(judge, quiet_port(), options.seed)
    roster = make_roster(world, options.publishers, options.subscribers)
    run = _Run(options, say, world, roster, harm or Harm(), Report(folder))
    try:
        with BrokerProcess(folder, world.port, run.settings()) as broker:
            await run.all(broker)
    finally:
        for client in roster.paho:
            await trio.to_thread.run_sync(client.close)
    run.sum_up()
    return run.report


@define(eq=False)
class _Run:
    options: Options
    say: Say
    world: World
    roster: Roster
    harm: Harm
    report: Report
    is_up: bool = False
    started_in: float = 1.0

    @property
    def judge(self) -> Judge:
        return self.world.judge

    def settings(self) -> dict[str, str]:
        settings = {
            "store.durability": self.options.durability,
            "mqtt.max_mqueue_len": str(self.options.limit),
            "dashboard.listeners.http.enable": "false",
        }
        if self.options.limit:
            key_file = self.report.folder / "keys"
            key_file.parent.mkdir(parents=True, exist_ok=True)
            key_file.write_text(":".join((*KEY, "viewer")))
            self.api = f"http://127.0.0.1:{quiet_port()}/api/v5"
            settings |= {
                "dashboard.listeners.http.enable": "true",
                "dashboard.listeners.http.bind": self.api.split("/")[2],
                "api_key.bootstrap_file": str(key_file),
            }
        return settings

    api: str = ""

    async def all(self, broker: BrokerProcess) -> None:
        chance = random.Random(f"{self.options.seed}/kill")
        end = float("inf") if self.options.minutes is None else trio.current_time() + self.options.minutes * 60
        try:
            async with trio.open_nursery() as nursery:
                for client in (*self.roster.publishers, *self.roster.subscribers, *self.roster.paho):
                    nursery.start_soon(client.run)
                nursery.start_soon(self._watch)
                nursery.start_soon(self._look_at_retained)
                if self.options.limit:
                    nursery.start_soon(self._count_drops)
                while trio.current_time() < end if self.options.minutes else self.judge.kills < self.options.rounds:
                    await self._round(broker, chance)
                await self._last_round(broker)
                nursery.cancel_scope.cancel()
            await self._end(broker)
        except* BrokerFailed as group:
            for error in group.exceptions:
                self.judge.say("broker", str(error))

    # -- rounds

    async def _round(self, broker: BrokerProcess, chance: random.Random) -> None:
        before = self._counts()
        self.world.begin_round()
        await broker.spawn()
        moment = chance.uniform(self.options.shortest, self.options.longest)
        if self.judge.round > 1 and chance.random() < 0.1:
            # While it starts, which is when it reads and mends what the one before left.
            started = f"{'-':>5}"
            moment = chance.random() * self.started_in
        else:
            self.started_in = await broker.wait_for_listener()
            started = f"{self.started_in:5.2f}"
            await trio.to_thread.run_sync(self.harm.started, broker.data)
            self.is_up = True
            await self._enough()
        await trio.sleep(moment)
        self.is_up = False
        await broker.kill()
        self.judge.killed()
        await trio.to_thread.run_sync(self.harm.killed, broker.data)
        published, acknowledged, received, duplicates = (
            now - then for now, then in zip(self._counts(), before, strict=True)
        )
        self.say(
            f"round {self.judge.round:>5}: started in {started} s, killed after {moment:.2f} s,"
            f" {published:>6} published, {acknowledged:>6} acknowledged, {received:>6} received,"
            f" {duplicates:>4} duplicates, {len(self.judge.violations)} violations"
        )

    async def _enough(self) -> None:
        """In the first round there must be something to lose: every subscription, and after that a message of each."""
        subscriptions, streams = self.judge.subscriptions.values(), self.judge.streams.values()
        is_first = self.judge.round == 1
        with trio.move_on_after(self.options.patience):
            if is_first:
                await _until(lambda: all(subscription.since for subscription in subscriptions))
            # The next to be sent, not those whose acknowledgement is on its way.
            number = self.options.at_least or int(is_first)
            if number:
                goals = {stream.name: len(stream.ticks) + number for stream in streams}
                await _until(lambda: all(stream.acknowledged >= goals[stream.name] for stream in streams))

    async def _last_round(self, broker: BrokerProcess) -> None:
        self.world.begin_round()
        await broker.spawn()
        await broker.wait_for_listener()
        self.is_up = True
        self.world.finish()
        looks = calm = 0
        while True:
            before = self._counts()
            with trio.move_on_after(self.options.patience) as waiting:
                async with trio.open_nursery() as nursery:
                    for subscriber in self.roster.subscribers:
                        nursery.start_soon(subscriber.ping)
                    nursery.start_soon(trio.sleep, 0.2 if calm < SETTLED else 0.5)
            if waiting.cancelled_caught:
                raise BrokerFailed(f"it does not answer\n{broker.tail()}")
            looks += 1
            calm = calm + 1 if self._counts() == before else 0
            if calm >= self.options.patience:
                break
            if calm >= SETTLED and self.roster.is_done:
                if self.judge.limit:
                    if await self._ask_drops() == 0:
                        break
                elif self.judge.is_complete:
                    break
        if not self.roster.is_done:
            self.judge.say("stuck", "a publisher waits in vain for an acknowledgement")
        await self._ask_retained()
        self.is_up = False
        self.say(f"the last one: all that came had come after {looks} looks")

    async def _end(self, broker: BrokerProcess) -> None:
        """It ends well, and nothing is left in its store but sessions and retained messages."""
        code = await broker.end()
        if code:
            self.judge.say("broker", f"it ended with {code}\n{broker.tail()}")
        for line in broker.complaints():
            self.judge.say("log", line)
        for path in broker.data.glob("*.damaged*"):
            self.judge.say("broker", f"a damaged file: {path}")
        with closing(sqlite3.connect(broker.data / "trio-broker.db")) as db:
            for table in ("q", "msg", "received"):
                (number,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()
                if number:
                    self.judge.say("leftover", f"{number} rows in {table}, though everything was acknowledged")

    def sum_up(self) -> None:
        report, judge = self.report, self.judge
        report.kills = judge.kills
        report.published, report.acknowledged, report.received, report.duplicates = self._counts()
        report.missing = sum(1 for subscription in judge.subscriptions.values() for _ in judge.missing(subscription))
        report.violations = judge.verdict()

    def _counts(self) -> tuple[int, int, int, int]:
        streams, subscriptions = self.judge.streams.values(), self.judge.subscriptions.values()
        return (
            sum(len(stream.ticks) for stream in streams),
            sum(stream.acknowledged for stream in streams),
            sum(subscription.received for subscription in subscriptions),
            sum(subscription.duplicates for subscription in subscriptions),
        )

    # -- beside the rounds

    async def _watch(self) -> None:
        while True:
            await trio.sleep(LOOK_EVERY)
            self.world.crowded = {
                stream.name
                for subscription in self.judge.subscriptions.values()
                if not self.judge.limit
                and subscription.behind > (FAR_BEHIND_IF_SLOW if subscription.is_slow else FAR_BEHIND)
                for stream in subscription.streams
            }

    async def _look_at_retained(self) -> None:
        chance = self.world.chance("retained")
        while not self.world.finishing:
            await trio.sleep(chance.uniform(0.05, 0.5))
            await self._ask_retained()

    async def _ask_retained(self) -> None:
        """What a new subscriber gets; nothing where the broker dies meanwhile."""
        floors = {topic: self.judge.retained_floor(topic) for topic in self.roster.retained_topics}
        got: dict[str, bytes] = {}
        try:
            async with await open_link(self.world.port, "curious", MQTT5, clean=True) as link:
                await link.send(Subscribe(1, [SubscribeFilter(f"{ROOT}/#", 0)]))
                with trio.move_on_after(self.options.patience):
                    while any(floor and topic not in got for topic, floor in floors.items()):
                        packet = await link.next()
                        if isinstance(packet, Publish) and packet.retain:
                            got[packet.topic_name] = packet.payload
        except Gone:
            return
        for topic, floor in floors.items():
            self.judge.retained(topic, got.get(topic), floor)

    async def _count_drops(self) -> None:
        while not self.world.finishing:
            await trio.sleep(LOOK_EVERY)
            if self.is_up:
                await self._ask_drops()

    async def _ask_drops(self) -> int | None:
        """Note how many messages each queue dropped; returns how many still wait, None where nobody answered."""
        round_number = self.judge.round
        sends = {name: subscription.sends for name, subscription in self.judge.subscriptions.items()}
        try:
            async with httpx.AsyncClient(auth=KEY, timeout=self.options.patience) as client:
                answer = await client.get(f"{self.api}/clients", params={"limit": "1000"})
        except httpx.TransportError:
            return None
        if round_number != self.judge.round or not (self.is_up or self.world.finishing):
            return None  # that one is dead by now
        waiting = 0
        for row in answer.raise_for_status().json()["data"]:
            subscription = self.judge.subscriptions.get(row["clientid"])
            if subscription is not None:
                self.judge.dropped(subscription, row["mqueue_dropped"], sends[subscription.name])
                waiting += row["mqueue_len"] + row["inflight_cnt"]
        return waiting
