"""Two and more connections with one client identifier at the same instant: one survives, and each end counts once."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import trio
from attrs import define, field, frozen
from robustness.scene import PATIENCE, Scene, connect_bytes, connect_tcp, decoded, open_scene, until
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_broker.protocol.decoder import Decoder
from trio_broker.protocol.packets import ConnAck, Disconnect, Packet, PingResp, Properties, Publish, Will
from trio_broker.testing import open_client

# A session that outlives its connection.
KEPT: Properties = {"session_expiry_interval": 300}
RACES = 100


@frozen
class Runner:
    """How one of them comes: its level, its clean start, and after how many turns of the loop."""

    level: int
    clean_start: bool
    delay: int = 0
    keeps: bool = False

    def connect(self, name: str) -> bytes:
        properties = KEPT if self.level == 5 and self.keeps else {}
        return connect_bytes(
            "twin", self.level, self.clean_start, will=Will("will", name.encode()), properties=properties
        )


@define(eq=False)
class Racer:
    """A connection in the race, and all that it heard."""

    name: str
    runner: Runner
    stream: trio.abc.Stream
    heard: list[Packet] = field(factory=list)
    ended: bool = False

    async def run(self) -> None:
        for _ in range(self.runner.delay):
            await trio.lowlevel.checkpoint()
        await self.stream.send_all(self.runner.connect(self.name))
        decoder = Decoder(role="client", level=self.runner.level)
        while data := await self.stream.receive_some(4096):
            self.heard += decoder.feed(bytes(data))
        assert decoder.error is None
        self.ended = True

    @property
    def connack(self) -> ConnAck | None:
        return next((packet for packet in self.heard if isinstance(packet, ConnAck)), None)


async def race(scene: Scene, runners: Sequence[Runner], dice: random.Random, over: str = "memory") -> Racer:
    """Let them run; exactly one survives, the others end as they should and their wills are heard. Gives the survivor,
    which has been ended with a proper DISCONNECT."""
    racers = []
    for at, runner in enumerate(runners):
        stream: trio.abc.Stream
        if over == "memory":
            stream = await scene.running.broker.connect_stream()
        else:
            stream = await connect_tcp(scene.running)
        racers.append(Racer(f"racer {at}", runner, stream))
    async with trio.open_nursery() as nursery:
        for racer in dice.sample(racers, len(racers)):
            nursery.start_soon(racer.run)

        async def decided() -> bool:
            return sum(racer.ended for racer in racers) == len(racers) - 1 and all(racer.heard for racer in racers)

        await until(decided)
        (survivor,) = (racer for racer in racers if not racer.ended)
        losers = [racer for racer in racers if racer.ended]
        for racer in losers:
            answers, last = racer.heard[:1], racer.heard[1:]
            assert racer.connack in answers
            assert racer.connack is not None
            assert racer.connack.reason_code == 0
            assert last == ([Disconnect(0x8E)] if racer.runner.level == 5 else [])  # [MQTT-3.1.4-3]
            await racer.stream.aclose()
        wills = sorted([await scene.will() for _ in losers])
        assert wills == sorted(racer.name.encode() for racer in losers)
        assert survivor.connack is not None
        assert survivor.connack.reason_code == 0
        for racer in racers:  # [MQTT-3.2.2-2, 3.2.2-3]
            assert racer.connack is not None
            if racer.runner.clean_start or racer.runner.level == 3:
                assert not racer.connack.session_present
        info = await scene.running.broker.questions.client("twin")
        assert info is not None
        assert (info.connected, info.protocol_level) == (True, survivor.runner.level)
        await survivor.stream.send_all(b"\xc0\0")
        with trio.fail_after(PATIENCE):
            while not any(isinstance(packet, PingResp) for packet in survivor.heard):
                await wait_all_tasks_blocked()
        await survivor.stream.send_all(b"\xe0\0")
        with trio.fail_after(PATIENCE):
            while not survivor.ended:
                await wait_all_tasks_blocked()
        await survivor.stream.aclose()
    await scene.running.broker.questions.kick("twin")  # where its session goes on
    await scene.settled()
    await scene.exchange()  # and hears no will of the survivor
    return survivor


CLEAN = [(True, True), (True, False), (False, True), (False, False)]


@pytest.mark.parametrize("keeps", [False, True], ids=["ends", "kept"])
@pytest.mark.parametrize("clean", CLEAN, ids=["11", "10", "01", "00"])
async def test_two_at_the_same_instant(
    clean: tuple[bool, bool], keeps: bool, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A hundred times, one up to twelve turns of the loop behind the other, in every mix of levels."""
    dice = random.Random(f"{clean} {keeps}")
    async with open_scene(caplog) as scene:
        for _ in range(RACES):
            runners = [Runner(dice.choice([3, 4, 5]), first, dice.randrange(12), keeps) for first in clean]
            await race(scene, runners, dice)
        sessions = await scene.counted()
        assert sessions["client.connected"] == sessions["client.disconnected"] == 2 * RACES
        taken_over, discarded = sessions.get("session.takenover", 0), sessions.get("session.discarded", 0)
        assert taken_over <= RACES
        assert discarded <= RACES
        assert taken_over + discarded >= RACES


@pytest.mark.parametrize("delay", range(12))
@pytest.mark.parametrize("clean", CLEAN, ids=["11", "10", "01", "00"])
async def test_two_in_every_order(
    clean: tuple[bool, bool], delay: int, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    dice = random.Random(delay)
    async with open_scene(caplog) as scene:
        for delays in ((0, delay), (delay, 0)):
            runners = [Runner(5, start, turns, True) for start, turns in zip(clean, delays, strict=True)]
            survivor = await race(scene, runners, dice)
            if not any(clean):  # the one that came second goes on with the session of the first
                assert survivor.connack is not None
                assert survivor.connack.session_present


@pytest.mark.parametrize("over", ["memory", "tcp"])
async def test_ten_at_the_same_instant(over: str, caplog: pytest.LogCaptureFixture) -> None:
    dice = random.Random(10)
    async with open_scene(caplog) as scene:
        for _ in range(10):
            runners = [
                Runner(dice.choice([3, 4, 5]), dice.random() < 0.5, dice.randrange(6), dice.random() < 0.5)
                for _ in range(10)
            ]
            await race(scene, runners, dice, over)


async def test_two_over_tcp(caplog: pytest.LogCaptureFixture) -> None:
    dice = random.Random(3)
    async with open_scene(caplog) as scene:
        for at in range(RACES):
            first, second = CLEAN[at % 4]
            await race(scene, [Runner(5, first, keeps=True), Runner(4, second)], dice, "tcp")


@pytest.mark.parametrize(
    "goodbye", [b"\xe0\0", b"\xe0\1\4", b"\xc1\0", b""], ids=["proper", "will", "malformed", "eof"]
)
async def test_the_old_one_ends_by_itself_at_the_instant_of_the_takeover(
    goodbye: bytes, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever is first, the will of the old one is heard once at most, and nothing stays."""
    async with open_scene(caplog) as scene:
        wills = []
        for delay in range(24):
            old = await scene.running.broker.connect_stream()
            await old.send_all(connect_bytes("twin", 5, will=Will("will", str(delay).encode()), properties=KEPT))
            assert decoded(await old.receive_some())
            new = await scene.running.broker.connect_stream()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(leave, old, goodbye, delay % 12)
                nursery.start_soon(come, new, 0 if delay < 12 else 12 - delay % 12)
            await wait_all_tasks_blocked()
            info = await scene.running.broker.questions.client("twin")
            assert info is not None
            assert info.connected
            heard = [message.payload for message in scene.bystander.inbox if isinstance(message, Publish)]
            scene.bystander.inbox.clear()
            assert heard in ([], [str(delay).encode()])
            if goodbye != b"\xe0\0":
                assert heard, "a will was lost"
            wills += heard
            await new.send_all(b"\xe0\0")
            await wait_all_tasks_blocked()
            await old.aclose()
            await new.aclose()
            await scene.running.broker.questions.kick("twin")
            await scene.settled()


async def leave(stream: trio.abc.Stream, goodbye: bytes, turns: int) -> None:
    for _ in range(turns):
        await trio.lowlevel.checkpoint()
    try:
        if goodbye:
            await stream.send_all(goodbye)
        else:
            await stream.aclose()
    except trio.BrokenResourceError:
        return  # it was taken over before


async def come(stream: trio.abc.Stream, turns: int) -> None:
    for _ in range(turns):
        await trio.lowlevel.checkpoint()
    await stream.send_all(connect_bytes("twin", 5, False, properties=KEPT))
    (connack,) = decoded(await stream.receive_some())
    assert isinstance(connack, ConnAck)
    assert connack.session_present


@pytest.mark.parametrize("qos", [1, 2])
async def test_no_message_is_lost_or_twice_in_an_endless_takeover(
    qos: int, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that comes again and again, while messages are published to its session: QoS 2 exactly once."""
    async with open_scene(caplog) as scene:
        heard: list[bytes] = []
        async with open_client(scene.running.broker, client_id="twin", properties=KEPT) as first:
            await first.subscribe("news", qos)
        for at in range(60):
            async with open_client(scene.running.broker, client_id="twin", clean_start=False, properties=KEPT) as twin:
                assert twin.session_present
                await scene.bystander.publish("news", str(at).encode(), qos)
                if at % 3:
                    await twin.drop()
                    continue
                await wait_all_tasks_blocked()
                while twin.inbox:
                    heard.append((await twin.receive()).payload)
                    await wait_all_tasks_blocked()
        async with open_client(scene.running.broker, client_id="twin", clean_start=False) as twin:
            await wait_all_tasks_blocked()
            while twin.inbox:
                heard.append((await twin.receive()).payload)
                await wait_all_tasks_blocked()
        assert list(dict.fromkeys(heard)) == [str(at).encode() for at in range(60)]
        if qos == 2:
            assert len(heard) == 60
        await scene.settled()
