"""`/alarms`: what is wrong with the broker."""

from __future__ import annotations

import httpx
from api.fake_questions import NODE, FakeQuestions
from api.operations import shows

from trio_broker.actors.alarms import SIZE_LIMIT, Alarms
from trio_broker.actors.clock import Clock
from trio_broker.actors.questions import AlarmRow

NOW = 1_710_785_500_000


@shows("GET /alarms")
async def test_alarms_of_now(api: httpx.AsyncClient, questions: FakeQuestions) -> None:
    """EMQX's fields; an alarm of now has no end, and lasts until now."""
    questions.alarms_of_now.append(AlarmRow("store_failure", "It cannot be written", {"reason": "full"}, NOW - 2500))
    answer = await api.get("/alarms")
    assert answer.status_code == 200
    (alarm,) = answer.json()["data"]
    assert alarm.pop("activate_at").endswith(":37.500" + alarm_offset(answer))
    assert alarm == {
        "node": NODE,
        "name": "store_failure",
        "message": "It cannot be written",
        "details": {"reason": "full"},
        "duration": 2500,
    }
    assert answer.json()["meta"] == {"page": 1, "limit": 100, "count": 1, "hasnext": False}


def alarm_offset(answer: httpx.Response) -> str:
    return str(answer.json()["data"][0]["activate_at"][23:])


@shows("GET /alarms", "DELETE /alarms")
async def test_alarms_of_the_past(api: httpx.AsyncClient, questions: FakeQuestions) -> None:
    """They end where they ended, and can be forgotten; those of now cannot."""
    questions.alarms_of_now.append(AlarmRow("a", "", {}, NOW))
    questions.alarms_of_the_past += [AlarmRow(f"p{number}", "", {}, NOW - 5000, NOW - 4000) for number in range(3)]
    answer = await api.get("/alarms?activated=false&page=2&limit=2")
    (alarm,) = answer.json()["data"]
    assert (alarm["name"], alarm["duration"], alarm["deactivate_at"][:4]) == ("p2", 1000, "2024")
    assert (await api.delete("/alarms")).status_code == 204
    assert (await api.get("/alarms?activated=false")).json()["data"] == []
    assert len((await api.get("/alarms?activated=true")).json()["data"]) == 1


async def test_an_alarm_is_active_once(autojump_clock: object) -> None:
    """A second call brings it up to date; what is over is remembered up to a limit."""
    alarms = Alarms(Clock())
    alarms.activate("x", "first", {"n": 1})
    alarms.activate("x", "second", {"n": 2})
    assert [(alarm.message, alarm.details) for alarm in alarms.active()] == [("second", {"n": 2})]
    assert alarms.deactivate("x")
    assert not alarms.deactivate("x")
    assert alarms.active() == []
    for _ in range(SIZE_LIMIT + 5):
        alarms.activate("y", "", {})
        alarms.deactivate("y")
    assert len(alarms.history()) == SIZE_LIMIT
    assert {alarm.name for alarm in alarms.history()} == {"y"}
