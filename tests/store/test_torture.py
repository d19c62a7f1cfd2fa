"""The broker is killed under load and keeps what it acknowledged; and the judge that says so can say the opposite."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
import trio
from attrs import define, field

from torture.__main__ import main
from torture.judge import Inbox, Judge, Stream, Subscription, body, identify
from torture.run import Options, Report, torture
from torture.wrong import SetBack

GUARD = 540.0
"""Seconds; a run takes a fraction of it."""


def kinds(judge: Judge) -> list[str]:
    return [violation.kind for violation in judge.verdict()]


@define
class Scene:
    """One publisher, one subscription that is there, in the first round."""

    qos: int = 1
    topic_filter: str = "torture/#"
    limit: int = 0
    judge: Judge = field(init=False)
    stream: Stream = field(init=False)
    subscription: Subscription = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.judge = Judge(self.limit, clock=lambda: 0.0)
        self.stream = self.judge.stream("p0", self.qos, ("torture/p0/0",))
        self.subscription = self.judge.subscription("s0", self.topic_filter, self.qos)
        self.judge.begin_round()
        self.judge.subscribed(self.subscription)

    def publish(self, *sequences: int) -> None:
        for sequence in sequences:
            self.judge.sent(self.stream, sequence)
            self.judge.acknowledged(self.stream, sequence)

    def receive(self, *sequences: int, dup: bool = False) -> None:
        for sequence in sequences:
            payload = body("p0", sequence)
            self.judge.received(self.subscription, "torture/p0/0", payload, qos=self.qos, dup=dup)

    def die(self) -> None:
        self.judge.killed()
        self.judge.begin_round()

    @property
    def found(self) -> list[str]:
        return kinds(self.judge)


# -- the judge


@pytest.mark.parametrize("qos", [1, 2])
def test_all_that_was_acknowledged_and_came_in_order_is_well(qos: int) -> None:
    """Messages that came once each, across a kill, are no violation."""
    scene = Scene(qos)
    scene.publish(1, 2, 3)
    scene.receive(1, 2)
    scene.die()
    scene.receive(3)
    assert scene.found == []


@pytest.mark.parametrize("qos", [1, 2])
def test_a_message_that_never_came_is_lost(qos: int) -> None:
    """The judge names the message, the subscriber and when it was acknowledged."""
    scene = Scene(qos)
    scene.publish(1, 2, 3)
    scene.receive(1, 3)
    assert scene.found == ["lost"]
    text = scene.judge.violations[0].text
    assert text == (f"s0 never got p0 2 (QoS {qos}, sent at 0.000 s in round 1, acknowledged at 0.000 s in round 1)")


def test_what_was_not_acknowledged_may_be_lost() -> None:
    """Nothing was promised for it."""
    scene = Scene()
    scene.judge.sent(scene.stream, 1)
    assert scene.found == []


def test_what_was_sent_before_the_suback_may_be_missing() -> None:
    """A subscription counts from its SUBACK on."""
    judge = Judge()
    stream = judge.stream("p0", 1, ("torture/p0/0",))
    subscription = judge.subscription("s0", "torture/#", 1)
    judge.begin_round()
    judge.sent(stream, 1)
    judge.subscribed(subscription)
    judge.sent(stream, 2)
    judge.acknowledged(stream, 1)
    judge.acknowledged(stream, 2)
    assert [violation.text[:18] for violation in judge.verdict()] == ["s0 never got p0 2 "]


def test_a_subscription_to_other_topics_misses_nothing() -> None:
    """Only what matches the filter is expected."""
    scene = Scene(topic_filter="torture/p1/#")
    scene.publish(1)
    assert scene.found == []


@pytest.mark.parametrize("dup", [False, True])
def test_a_qos_2_message_that_came_twice_is_doubled(dup: bool) -> None:
    """DUP and a kill between the two are no excuse."""
    scene = Scene(qos=2)
    scene.publish(1)
    scene.receive(1)
    scene.die()
    scene.receive(1, dup=dup)
    assert scene.found == ["doubled"]


def test_a_qos_1_message_may_come_again_where_mqtt_says_so() -> None:
    """With DUP, after a kill, and when its publisher sent it again."""
    scene = Scene()
    scene.publish(1, 2, 3)
    scene.receive(1, 2, 3)
    scene.receive(2, dup=True)
    scene.judge.sent(scene.stream, 3)
    scene.receive(3)
    scene.die()
    scene.receive(1, 2, 3)
    assert scene.found == []
    assert scene.subscription.duplicates == 5


def test_a_qos_1_message_that_comes_again_without_a_reason_is_doubled() -> None:
    """The same broker, no DUP, sent once."""
    scene = Scene()
    scene.publish(1)
    scene.receive(1, 1)
    assert scene.found == ["doubled"]


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("dup", [False, True])
def test_a_message_that_comes_first_after_a_later_one_is_out_of_order(qos: int, dup: bool) -> None:
    """Only what was there before may come again later."""
    scene = Scene(qos)
    scene.publish(1, 2)
    scene.receive(2)
    scene.receive(1, dup=dup)
    assert scene.found == ["order"]


def test_a_session_that_is_gone_is_found() -> None:
    """The first CONNACK may say anything, each later one has to say that the session is there."""
    judge = Judge()
    judge.begin_round()
    judge.connected("s0", False)
    judge.connected("s0", True)
    assert kinds(judge) == []
    judge.connected("s0", False)
    assert kinds(judge) == ["session"]


def test_a_shared_subscription_needs_one_member_for_each_message() -> None:
    """Members may get them in any order and more than once; one that nobody got is lost."""
    judge = Judge()
    stream = judge.stream("p0", 1, ("torture/p0/0",))
    crew = judge.subscription("crew", "$share/crew/torture/#", 2)
    assert judge.subscription("crew", "$share/crew/torture/#", 2) is crew
    judge.begin_round()
    judge.subscribed(crew)
    for sequence in (1, 2, 3):
        judge.sent(stream, sequence)
        judge.acknowledged(stream, sequence)
    for sequence in (3, 1, 1):
        judge.received(crew, "torture/p0/0", body("p0", sequence), qos=1, dup=False)
    assert [violation.text[:20] for violation in judge.verdict()] == ["crew never got p0 2 "]


@pytest.mark.parametrize(
    ("topic", "payload", "qos", "kind"),
    [
        ("torture/p0/0", body("p0", 1)[:-1], 1, "damaged"),
        ("torture/p0/0", b"?", 1, "damaged"),
        ("torture/p0/0", body("p0", 2), 1, "invented"),
        ("torture/p0/1", body("p0", 1), 1, "invented"),
        ("torture/p0/0", body("p0", 1), 2, "qos"),
    ],
)
def test_a_message_that_is_not_what_was_sent_is_found(topic: str, payload: bytes, qos: int, kind: str) -> None:
    """Payload, topic and QoS are looked at."""
    scene = Scene()
    scene.judge.sent(scene.stream, 1)
    scene.judge.received(scene.subscription, topic, payload, qos=qos, dup=False)
    assert scene.found == [kind]


def test_a_retained_message_is_the_last_acknowledged_or_a_later_one() -> None:
    """Older, none, or that of another topic is wrong."""
    scene = Scene()
    scene.publish(1, 2)
    scene.receive(1, 2)
    scene.judge.sent(scene.stream, 3)
    topic = "torture/p0/0"
    floor = scene.judge.retained_floor(topic)
    assert floor == 2
    scene.judge.retained(topic, body("p0", 2), floor)
    scene.judge.retained(topic, body("p0", 3), floor)
    scene.judge.retained("torture/p0/9", None, 0)
    assert scene.found == []
    scene.judge.retained(topic, body("p0", 1), floor)
    scene.judge.retained(topic, None, floor)
    scene.judge.retained("torture/p0/9", body("p0", 3), 0)
    scene.judge.retained(topic, body("p0", 4), floor)
    assert scene.found == ["retained", "retained", "invented", "invented"]


def test_a_short_queue_may_drop_what_it_counts() -> None:
    """Old messages may be missing as often as the broker says, and one that should still be there may not."""
    scene = Scene(qos=2, limit=2)
    scene.publish(1, 2, 3, 4)
    scene.receive(3, 4)
    scene.judge.dropped(scene.subscription, 2, scene.subscription.sends)
    assert scene.found == []
    scene.publish(5, 6)
    scene.receive(5)
    scene.judge.dropped(scene.subscription, 3, scene.subscription.sends)
    assert scene.found == ["lost"]


@pytest.mark.parametrize(("counted", "found"), [(1, ["uncounted"]), (2, []), (3, ["uncounted"])])
def test_a_short_queue_that_counts_wrongly_is_found(counted: int, found: list[str]) -> None:
    """Too few and too many."""
    scene = Scene(qos=2, limit=1)
    scene.publish(1, 2, 3)
    scene.receive(3)
    scene.judge.dropped(scene.subscription, counted, scene.subscription.sends)
    assert scene.found == found


def test_what_a_killed_broker_had_not_told_is_no_more_than_was_sent() -> None:
    """Drops after the last answer are bounded by what was sent after it, and counted ones may not have been stored."""
    scene = Scene(qos=2, limit=1)
    scene.publish(1, 2)
    scene.judge.dropped(scene.subscription, 1, scene.subscription.sends)
    scene.publish(3)
    scene.die()
    scene.receive(3)
    assert scene.found == []  # 2 was dropped when 3 came, of which nobody was told
    scene.publish(4, 5)
    scene.receive(5)
    assert scene.found == ["uncounted"]  # and 4 by the broker that has told nothing of it


def test_a_qos_2_receiver_knows_a_message_until_its_pubrel() -> None:
    """The same identifier is the same message; another one under it would be lost."""
    inbox = Inbox()
    assert inbox.publish(7, b"a")
    assert not inbox.publish(7, b"a")
    with pytest.raises(ValueError, match="identifier 7"):
        inbox.publish(7, b"b")
    inbox.release(7)
    inbox.release(7)
    assert inbox.publish(7, b"b")


@pytest.mark.parametrize("sequence", [1, 60, 61, 122, 70_000])
def test_a_payload_says_whose_and_which_it_is(sequence: int) -> None:
    """`identify` is the opposite of `body`."""
    assert identify(body("p12", sequence)) == ("p12", sequence)


# -- the broker


def told(options: Options, lines: list[str], report: Report) -> str:
    """What a failed test says."""
    violations = [f"{violation.kind}: {violation.text}" for violation in report.violations[:30]]
    return "\n".join([f"seed {options.seed}, {options}, {report.folder}", *lines, *violations])


@pytest.mark.parametrize(
    "run",
    [
        {"rounds": 8},
        {"rounds": 6, "publishers": 8, "subscribers": 12},
        {"rounds": 5, "durability": "normal"},
        {"rounds": 5, "limit": 100},
    ],
    ids=lambda run: " ".join(f"{name}={value}" for name, value in run.items()),
)
async def test_what_was_acknowledged_survives_kill_9(run: dict[str, int], tmp_path: Path) -> None:
    """No message, session, retained value or order is lost, and nothing comes twice, at whichever moment it dies."""
    options = Options(random.SystemRandom().randrange(1 << 32), **run)  # type: ignore[arg-type]
    lines: list[str] = []
    with trio.fail_after(GUARD):
        report = await torture(options, lines.append, folder=tmp_path)
    assert report.violations == [], told(options, lines, report)
    assert report.kills == run["rounds"]
    assert report.acknowledged == report.published > 0
    assert report.received > report.acknowledged
    assert bool(report.missing) <= ("limit" in run)


# -- a broker that is wrong


async def test_the_loss_of_messages_alone_is_found(tmp_path: Path) -> None:
    """A store that goes back to where it was when the broker began, sessions and all, is found out."""
    options = Options(seed=3, rounds=2, at_least=2, patience=6)
    lines: list[str] = []
    with trio.fail_after(GUARD):
        report = await torture(options, lines.append, folder=tmp_path, harm=SetBack())
    found = {violation.kind for violation in report.violations}
    assert "lost" in found, told(options, lines, report)
    assert "session" not in found


def test_the_loss_of_everything_is_told_with_the_seed_and_the_directory(capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends with 1, says which messages are lost, and keeps what there is to look at."""
    assert main(["--rounds", "1", "--seed", "7", "--wrong", "emptied"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "seed 7"
    assert {line.split(":")[0] for line in lines} >= {"SESSION", "LOST"}
    head, _, folder = lines[-1].partition(", directory ")
    assert head.endswith("violations; seed 7")
    assert (Path(folder) / "broker.log").exists()
    shutil.rmtree(folder)


def test_a_run_without_fault_says_so_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command ends with 0; its directory is gone."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["--rounds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("seed ")
    assert lines[1].startswith("round     1: ")
    assert lines[-1] == "nothing that was acknowledged is gone"
    assert list(tmp_path.iterdir()) == []
