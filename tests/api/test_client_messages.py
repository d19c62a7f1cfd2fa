"""`mqueue_messages` and `inflight_messages`: rows, payload modes, position paging."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest
from api.fake_questions import NOW_MS, FakeQuestions, queued
from api.operations import shows

from trio_broker.errors import ActorGone
from trio_broker.session.info import QueuePage

FIRST = 1_710_785_444_656_449_826


@pytest.fixture
def waiting(questions: FakeQuestions) -> FakeQuestions:
    questions.add("c1")
    questions.mqueues["c1"] = [queued(number) for number in range(5)]
    questions.inflights["c1"] = [queued(number, from_username="u9", qos=2) for number in range(5)]
    return questions


async def messages(api: httpx.AsyncClient, queue: str, **query: Any) -> Any:
    answer = await api.get(f"/clients/c1/{queue}_messages", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


@shows("GET /clients/:clientid/mqueue_messages", "GET /clients/:clientid/inflight_messages")
@pytest.mark.usefixtures("waiting")
async def test_rows(api: httpx.AsyncClient) -> None:
    shown = await messages(api, "mqueue", limit=1)
    row = {
        "msgid": "000611F460D57FA9F44500000D360002",
        "topic": "t/0",
        "qos": 1,
        "publish_at": NOW_MS,
        "from_clientid": "publisher",
        "from_username": "undefined",
        "payload": base64.b64encode(b"hello").decode(),
        "inserted_at": str(FIRST),
        "mqueue_priority": 0,
    }
    assert shown == {"data": [row], "meta": {"start": f"{FIRST}_0", "position": f"{FIRST}_0"}}
    shown = await messages(api, "inflight", limit=1)
    del row["mqueue_priority"]
    assert shown["data"] == [row | {"from_username": "u9", "qos": 2}]
    assert shown["meta"] == {"start": str(FIRST), "position": str(FIRST)}


@shows("GET /clients/:clientid/mqueue_messages", "GET /clients/:clientid/inflight_messages")
@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize(("queue", "suffix"), [("mqueue", "_0"), ("inflight", "")])
async def test_position_paging(api: httpx.AsyncClient, queue: str, suffix: str) -> None:
    position, seen = "none", []
    while True:
        shown = await messages(api, queue, position=position, limit=2)
        assert shown["meta"]["start"] == f"{FIRST}{suffix}"
        if not shown["data"]:
            assert shown["meta"]["position"] == position
            break
        seen += [row["topic"] for row in shown["data"]]
        position = shown["meta"]["position"]
    assert seen == [f"t/{number}" for number in range(5)]
    assert position == f"{FIRST + 4}{suffix}"


@shows("GET /clients/:clientid/mqueue_messages", "GET /clients/:clientid/inflight_messages")
@pytest.mark.parametrize("queue", ["mqueue", "inflight"])
@pytest.mark.parametrize("position", [None, "none"])
async def test_an_empty_queue(
    api: httpx.AsyncClient, questions: FakeQuestions, queue: str, position: str | None
) -> None:
    questions.add("c1")
    query = {} if position is None else {"position": position}
    assert await messages(api, queue, **query) == {"data": [], "meta": {"start": "none", "position": "none"}}


@shows("GET /clients/:clientid/mqueue_messages")
async def test_the_highest_priority(api: httpx.AsyncClient, questions: FakeQuestions) -> None:
    questions.add("c1")
    questions.mqueues["c1"] = [queued(0, priority=None), queued(1, priority=7)]
    shown = await messages(api, "mqueue")
    assert [row["mqueue_priority"] for row in shown["data"]] == ["infinity", 7]
    assert shown["meta"] == {"start": f"{FIRST}_infinity", "position": f"{FIRST + 1}_7"}
    assert (await messages(api, "mqueue", position=f"{FIRST}_infinity"))["data"] == shown["data"][1:]


@shows("GET /clients/:clientid/mqueue_messages", "GET /clients/:clientid/inflight_messages")
@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize("queue", ["mqueue", "inflight"])
async def test_payload_modes(api: httpx.AsyncClient, waiting: FakeQuestions, queue: str) -> None:
    shown = await messages(api, queue, payload="plain")
    assert [row["payload"] for row in shown["data"]] == ["hello"] * 5
    shown = await messages(api, queue, payload="none", max_payload_bytes=1)
    assert [row.get("payload") for row in shown["data"]] == [None] * 5
    assert all("payload" not in row for row in shown["data"])
    waiting.mqueues["c1"][3].payload = waiting.inflights["c1"][3].payload = b"\xff"
    answer = await api.get(f"/clients/c1/{queue}_messages?payload=plain")
    assert answer.status_code == 400
    assert answer.json() == {
        "code": "INVALID_PARAMETER",
        "message": "Some message payloads are not JSON serializable",
    }
    assert len((await messages(api, queue))["data"]) == 5


@shows("GET /clients/:clientid/mqueue_messages")
@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize(
    ("payload", "limit", "rows"),
    [
        ("base64", "1", 1),  # the first one always
        ("base64", "15", 1),  # 8 bytes each in base64
        ("base64", "16", 2),
        ("plain", "15", 3),
        ("plain", "1KB", 5),
        ("plain", "32MB", 5),
    ],
)
async def test_max_payload_bytes_cuts_and_nothing_is_skipped(
    api: httpx.AsyncClient, payload: str, limit: str, rows: int
) -> None:
    shown = await messages(api, "mqueue", payload=payload, max_payload_bytes=limit)
    assert len(shown["data"]) == rows
    assert shown["meta"]["position"] == f"{FIRST + rows - 1}_0"
    rest = await messages(api, "mqueue", position=shown["meta"]["position"])
    assert len(rest["data"]) == 5 - rows


@shows("GET /clients/:clientid/mqueue_messages", "GET /clients/:clientid/inflight_messages")
@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize(
    ("queue", "token"),
    [
        ("mqueue", "x"),
        ("mqueue", str(FIRST)),
        ("mqueue", f"{FIRST}_x"),
        ("mqueue", ""),
        ("mqueue", "9" * 5000 + "_0"),
        ("inflight", f"{FIRST}_0"),
        ("inflight", "-1"),
        ("inflight", "٣"),
    ],
)
async def test_a_bad_position(api: httpx.AsyncClient, queue: str, token: str) -> None:
    answer = await api.get(f"/clients/c1/{queue}_messages", params={"position": token})
    assert answer.status_code == 400
    assert answer.json() == {"code": "INVALID_PARAMETER", "message": "position_limit_invalid"}


@shows("GET /clients/:clientid/mqueue_messages", "GET /clients/:clientid/inflight_messages")
@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize("queue", ["mqueue", "inflight"])
@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("payload=hex", "payload"),
        ("max_payload_bytes=0", "max_payload_bytes"),
        ("max_payload_bytes=-1", "max_payload_bytes"),
        ("max_payload_bytes=1XB", "max_payload_bytes"),
        ("max_payload_bytes=", "max_payload_bytes"),
    ],
)
async def test_parameters_that_are_refused(api: httpx.AsyncClient, queue: str, query: str, path: str) -> None:
    answer = await api.get(f"/clients/c1/{queue}_messages?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
    assert json.loads(answer.json()["message"])["path"] == path


class EndingSession(FakeQuestions):
    """The session ends while it is asked for its messages."""

    async def mqueue_messages(self, client_id: str, after: int | None, limit: int) -> QueuePage | None:
        del self.sessions[client_id]
        raise ActorGone(client_id)

    async def inflight_messages(self, client_id: str, after: int | None, limit: int) -> QueuePage | None:
        raise ActorGone(client_id)


class TestEndingSession:
    @pytest.fixture
    def questions(self) -> FakeQuestions:
        return EndingSession()

    @shows("GET /clients/:clientid/mqueue_messages")
    async def test_the_session_is_gone(self, api: httpx.AsyncClient, questions: FakeQuestions) -> None:
        questions.add("c1")
        answer = await api.get("/clients/c1/mqueue_messages")
        assert answer.status_code == 404
        assert answer.json() == {"code": "CLIENT_SHUTDOWN", "message": "Client connection has been shutdown"}

    @shows("GET /clients/:clientid/inflight_messages")
    async def test_the_session_is_still_known(self, api: httpx.AsyncClient, questions: FakeQuestions) -> None:
        questions.add("c1")
        answer = await api.get("/clients/c1/inflight_messages")
        assert (answer.status_code, answer.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
