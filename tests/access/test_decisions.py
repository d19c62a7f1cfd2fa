"""What is kept of decisions, what is counted, and what has to be waited for."""

from __future__ import annotations

import pytest
from attrs import define, field

from trio_broker.access.asking import Request, Subject
from trio_broker.access.authorization import Authorization, CachePolicy, Decisions, Source
from trio_broker.protocol.message import Origin
from trio_broker.session.meter import Meter

SUBJECT = Subject(Origin("c"), "c")


class Scripted(Source):
    """Answers by topic; notes what it was asked."""

    def __init__(self, answers: dict[str, bool | None], name: str = "scripted", waits: bool = False) -> None:
        super().__init__()
        self.type = name
        self.waits = waits
        self.answers = answers
        self.asked: list[Request] = []

    def authorize(self, subject: Subject, request: Request) -> bool | None:
        self.asked.append(request)
        return self.answers.get(request.topic)


class Broken(Source):
    type = "broken"
    waits = True

    def authorize(self, subject: Subject, request: Request) -> bool | None:
        raise AssertionError("it waits")

    async def ask(self, subject: Subject, request: Request) -> bool | None:
        raise OSError("gone")


@define
class Program:
    """A program's own authorizer."""

    asked: list[tuple[str, str]] = field(factory=list)

    def authorize(self, client: Origin, action: str, topic: str) -> bool:
        self.asked.append((action, topic))
        return topic != "no"


def decisions(*sources: Source, subject: Subject = SUBJECT, **more: object) -> Decisions:
    return Decisions(Authorization(Meter(), sources=sources, **more), subject)  # type: ignore[arg-type]


def moved(meter: Meter) -> dict[str, int]:
    names = (
        "client_authorize",
        "authorization_allow",
        "authorization_deny",
        "authorization_cache_hit",
        "authorization_cache_miss",
        "authorization_superuser",
        "authorization_matched_allow",
        "authorization_matched_deny",
        "authorization_nomatch",
    )
    return {name: value for name in names if (value := getattr(meter, name))}


@pytest.mark.parametrize(
    ("first", "second", "no_match", "allowed"),
    [
        (True, False, False, True),
        (False, True, True, False),
        (None, True, False, True),
        (None, False, True, False),
        (None, None, True, True),
        (None, None, False, False),
    ],
)
def test_the_first_source_with_an_opinion_decides(
    first: bool | None, second: bool | None, no_match: bool, allowed: bool
) -> None:
    one, other = Scripted({"t": first}), Scripted({"t": second})
    asked = decisions(one, other, no_match=no_match)
    assert asked.publish("t", 0, False, 0.0) is allowed
    assert len(other.asked) == (first is None)
    assert [one.figures.total, one.figures.allow, one.figures.deny, one.figures.nomatch] == [
        1,
        first is True,
        first is False,
        first is None,
    ]


def test_a_decision_is_kept_for_its_time() -> None:
    source = Scripted({"t": True})
    asked = decisions(source, cache=CachePolicy(ttl=60))
    for now in (0.0, 1.0, 59.9):
        assert asked.publish("t", 0, False, now)
    assert len(source.asked) == 1
    assert asked.publish("t", 0, False, 60.0)
    assert len(source.asked) == 2


@pytest.mark.parametrize("other", [("publish", 1, False), ("publish", 0, True), ("publish", 2, True), ("subscribe", 0)])
def test_a_decision_is_for_one_action_qos_and_retain(other: tuple[object, ...]) -> None:
    source = Scripted({"t": True})
    asked = decisions(source)
    asked.publish("t", 0, False, 0.0)
    for _ in range(2):
        if other[0] == "publish":
            asked.publish("t", int(str(other[1])), bool(other[2]), 0.0)
        else:
            asked.subscribe("t", 0, 0.0)
    assert len(source.asked) == 2


def test_no_more_than_so_many_are_kept_and_the_oldest_goes() -> None:
    source = Scripted({})
    asked = decisions(source, cache=CachePolicy(max_size=2))
    for topic in ("a", "b", "c", "c", "b", "a"):
        asked.publish(topic, 0, False, 0.0)
    assert [request.topic for request in source.asked] == ["a", "b", "c", "a"]
    assert [request.topic for request, _, _ in asked.kept(0.0)] == ["c", "a"]


@pytest.mark.parametrize("policy", [CachePolicy(enable=False), CachePolicy(excludes=("t/#",))])
def test_what_is_not_to_be_kept_is_asked_each_time(policy: CachePolicy) -> None:
    source = Scripted({"t/1": True})
    asked = decisions(source, cache=policy)
    assert [asked.publish("t/1", 0, False, 0.0) for _ in range(3)] == [True] * 3
    assert len(source.asked) == 3
    assert asked.kept(0.0) == []


def test_what_is_kept_is_shown_with_its_time() -> None:
    asked = decisions(Scripted({"t": True, "s": False}), cache=CachePolicy(ttl=10))
    asked.publish("t", 1, True, 5.0)
    asked.publish("t", 0, False, 6.0)
    asked.subscribe("s", 2, 7.0)
    shown = [
        (Request("publish", "t", 1, True), True, 5.0),
        (Request("publish", "t", 0, False), True, 6.0),
        (Request("subscribe", "s", 2), False, 7.0),
    ]
    assert asked.kept(8.0) == shown
    assert asked.kept(15.0) == shown[1:]
    asked.clear()
    assert asked.kept(8.0) == []


def test_one_topic_is_forgotten() -> None:
    asked = decisions(Scripted({"t": True}))
    for topic in ("t", "t/1"):
        for qos in (0, 1):
            asked.publish(topic, qos, False, 0.0)
    asked.publish("t", 0, True, 0.0)
    asked.subscribe("t", 0, 0.0)
    asked.forget_topic("u")
    assert len(asked.kept(1.0)) == 6
    asked.forget_topic("t")
    left = [Request("publish", "t/1"), Request("publish", "t/1", 1), Request("subscribe", "t")]
    assert [request for request, _, _ in asked.kept(1.0)] == left


async def test_what_is_being_asked_is_not_kept_when_it_is_forgotten() -> None:
    class Slow(Scripted):
        async def ask(self, subject: Subject, request: Request) -> bool | None:
            asked.forget_topic("t")
            return self.authorize(subject, request)

    asked = decisions(Slow({"t": True}, waits=True))
    await asked.ask(Request("publish", "t"), 0.0)
    assert asked.kept(1.0) == []
    assert asked.publish("t", 0, False, 0.0) is True  # the packet that asked goes by the answer


def test_what_is_counted() -> None:
    source = Scripted({"yes": True, "no": False})
    authorization = Authorization(Meter(), sources=[source])
    asked = Decisions(authorization, SUBJECT)
    for topic in ("yes", "yes", "no", "open"):
        asked.publish(topic, 0, False, 0.0)
    assert moved(authorization.meter) == {
        "client_authorize": 3,
        "authorization_allow": 3,
        "authorization_deny": 1,
        "authorization_cache_hit": 1,
        "authorization_cache_miss": 3,
        "authorization_matched_allow": 1,
        "authorization_matched_deny": 1,
        "authorization_nomatch": 1,
    }


def test_a_superuser_may_do_everything() -> None:
    source = Scripted({"t": False})
    subject = Subject(Origin("c"), "c", superuser=True)
    asked = decisions(source, subject=subject, no_match=False, authorizer=Program())
    assert asked.publish("t", 0, False, 0.0)
    assert asked.subscribe("#", 0, 0.0)
    assert source.asked == []


def test_what_a_program_decides_is_the_last_word() -> None:
    program, source = Program(), Scripted({"yes": False, "no": True})
    asked = decisions(source, authorizer=program)
    assert asked.publish("yes", 0, False, 0.0) is True
    assert asked.subscribe("no", 0, 0.0) is False
    assert program.asked == [("publish", "yes"), ("subscribe", "no")]
    assert source.asked == []


@pytest.mark.parametrize(
    ("topic", "about"),
    [
        ("$delayed/5/secret", "secret"),
        ("$delayed/5/a/b", "a/b"),
        ("$delayed/x/secret", "$delayed/x/secret"),
        ("$delayed/5/$delayed/5/secret", "$delayed/5/$delayed/5/secret"),
    ],
)
def test_a_delayed_message_is_about_the_topic_behind(topic: str, about: str) -> None:
    source = Scripted({})
    asked = decisions(source)
    asked.publish(topic, 0, False, 0.0)
    asked.subscribe(topic, 0, 0.0)
    assert [request.topic for request in source.asked] == [about, topic]


async def test_somebody_has_to_be_waited_for() -> None:
    before, slow, behind = Scripted({"a": True}), Scripted({"b": False}, waits=True), Scripted({"c": True})
    asked = decisions(before, slow, behind, no_match=False)
    assert asked.publish("a", 0, False, 0.0) is True
    for topic, allowed in (("b", False), ("c", True), ("d", False)):
        request = Request("publish", topic)
        assert asked.publish(topic, 0, False, 0.0) is None
        assert asked.waits_for(request, 0.0)
        await asked.ask(request, 0.0)
        assert not asked.waits_for(request, 0.0)
        assert asked.publish(topic, 0, False, 0.0) is allowed
    assert [request.topic for request in slow.asked] == ["b", "c", "d"]
    assert slow.figures.total == 3


async def test_an_answer_that_is_not_kept_is_there_once() -> None:
    slow = Scripted({"t": True}, waits=True)
    asked = decisions(slow, cache=CachePolicy(enable=False))
    request = Request("subscribe", "t", 1)
    await asked.ask(request, 0.0)
    assert asked.subscribe("t", 1, 0.0) is True
    asked.forget()
    assert asked.subscribe("t", 1, 0.0) is None


async def test_a_source_that_fails_has_no_opinion(caplog: pytest.LogCaptureFixture) -> None:
    broken, behind = Broken(), Scripted({"t": True})
    asked = decisions(broken, behind, no_match=False)
    assert asked.publish("t", 0, False, 0.0) is None
    await asked.ask(Request("publish", "t"), 0.0)
    assert asked.publish("t", 0, False, 0.0) is True
    assert (broken.figures.total, broken.figures.ignore) == (1, 1)
    assert "the authorization source broken failed" in caplog.text


@pytest.mark.parametrize(
    ("more", "concerned"),
    [
        ({}, False),
        ({"no_match": False}, True),
        ({"sources": [Scripted({})]}, True),
        ({"authorizer": Program()}, True),
    ],
)
def test_whether_anybody_has_to_be_asked(more: dict[str, object], concerned: bool) -> None:
    assert Authorization(Meter(), **more).concerns(SUBJECT.rules) is concerned  # type: ignore[arg-type]
