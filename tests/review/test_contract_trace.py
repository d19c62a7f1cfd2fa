"""The REST contract, read afresh: traces, from their beginning to the download."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import trio
from api.live import Live, running
from api.operations import shows
from review.contract import NODE, TIME_S, done, failed, got, post
from trio.testing import MockClock

KEYS = {"name", "type", "status", "start_at", "end_at", "log_size", "payload_encode", "formatter"}


async def begin(live: Live, name: str = "t1", kind: str = "clientid", value: str = "c1", **fields: Any) -> Any:
    body = {"name": name, "type": kind, kind: value, **fields}
    answer = await live.api.post("/trace", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refused(live: Live, status: int, code: str, **fields: Any) -> str:
    body = {"name": "t2", "type": "clientid", "clientid": "c2"} | fields
    body = {key: value for key, value in body.items() if value is not None}
    return failed(await live.api.post("/trace", json=body), status, code)


async def statuses(live: Live) -> dict[str, str]:
    return {row["name"]: row["status"] for row in await got(live, "/trace")}


async def log_of(live: Live, name: str = "t1", **query: Any) -> str:
    """All of it, piece by piece."""
    text, position = "", 0
    while True:
        answer = await got(live, f"/trace/{name}/log", position=position, **query)
        assert answer.keys() == {"meta", "items"}
        assert answer["meta"].keys() == {"position", "bytes"}
        assert answer["meta"]["bytes"] == query.get("bytes", 1000)
        if not answer["items"]:
            assert answer["meta"]["position"] == position
            return text
        assert len(answer["items"].encode()) <= query.get("bytes", 1000)
        text += answer["items"]
        position = answer["meta"]["position"]
        assert position == len(text.encode())


async def packed(live: Live, name: str = "t1", query: str = "") -> str:
    answer: httpx.Response = await live.api.get(f"/trace/{name}/download{query}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/octet-stream"
    assert ".zip" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        (only,) = archive.namelist()
        return archive.read(only).decode()


@shows("POST /trace", "GET /trace")
@pytest.mark.parametrize(("kind", "value"), [("clientid", "c1"), ("topic", "t/#"), ("ip_address", "127.0.0.1")])
async def test_the_object(kind: str, value: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        assert await got(live, "/trace") == []
        made = await begin(live, "My-trace_1", kind, value)
        (listed,) = await got(live, "/trace")
        for row in (made, listed):
            assert row.keys() == KEYS | {kind}
            assert (row["name"], row["type"], row[kind]) == ("My-trace_1", kind, value)
            assert (row["status"], row["payload_encode"], row["formatter"]) == ("running", "text", "text")
            assert row["log_size"].keys() == {NODE}
            assert type(row["log_size"][NODE]) is int
            assert TIME_S.fullmatch(row["start_at"])
            assert TIME_S.fullmatch(row["end_at"])
        start, end = (datetime.fromisoformat(listed[key]) for key in ("start_at", "end_at"))
        assert end - start == timedelta(minutes=10)


@shows("POST /trace", "GET /trace/:name/log", "GET /trace/:name/log_detail", "GET /trace/:name/download")
async def test_from_the_beginning_to_the_download(autojump_clock: MockClock) -> None:
    async with running() as live:
        await begin(live)
        client = await live.connect("c1", username="u1")
        other = await live.connect("other")
        await client.subscribe("größe/#", 1)
        await other.publish("größe/1", b"seen-payload", 1)
        await client.receive()
        await other.publish("elsewhere", b"unseen-payload", 1)
        await client.publish("mine", b"own-payload", 1)
        await client.disconnect()
        answer = await live.api.put("/trace/t1/stop")
        assert (answer.status_code, answer.json()) == (200, {"enable": False, "name": "t1"})
        text = await log_of(live)
        for each in ("CONNECT", "SUBSCRIBE", "größe/#", "seen-payload", "own-payload", "DISCONNECT"):
            assert each in text, each
        assert "unseen-payload" not in text
        assert all("c1" in line for line in text.splitlines() if "[MQTT]" in line)
        assert await log_of(live, bytes=97) == await log_of(live, bytes=100_000) == text
        assert await log_of(live, node=NODE) == text
        (detail,) = await got(live, "/trace/t1/log_detail")
        assert detail.keys() == {"node", "size", "mtime"}
        assert (detail["node"], detail["size"]) == (NODE, len(text.encode()))
        assert type(detail["mtime"]) is int
        assert detail["mtime"] > 1_500_000_000_000
        assert (await got(live, "/trace"))[0]["log_size"] == {NODE: len(text.encode())}
        assert await packed(live) == await packed(live, query=f"?node={NODE}") == text
        await live.connect("c1")
        assert await log_of(live) == text  # it has ended


@shows("GET /trace/:name/log")
async def test_the_first_piece(autojump_clock: MockClock) -> None:
    async with running() as live:
        await begin(live)
        await live.connect("c1")
        answer = await got(live, "/trace/t1/log", bytes=10)
        assert answer["meta"] == {"position": 10, "bytes": 10}
        whole = await got(live, "/trace/t1/log", bytes=1_000_000)
        assert answer["items"] == whole["items"][:10]
        end = whole["meta"]["position"]
        assert (await got(live, "/trace/t1/log", position=end))["items"] == ""
        for query in ("position=-1", "bytes=0", "bytes=x"):
            assert (await live.api.get(f"/trace/t1/log?{query}")).status_code == 400
        failed(await live.api.get("/trace/t1/log?node=other@10.0.0.1"), 404, "NODE_ERROR")


@shows("POST /trace")
@pytest.mark.parametrize(("encode", "shown"), [("text", "hello"), ("hex", "68656c6c6f"), ("hidden", None)])
@pytest.mark.parametrize("formatter", ["text", "json"])
async def test_how_it_is_written(encode: str, shown: str | None, formatter: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        made = await begin(live, kind="topic", value="t/+", payload_encode=encode, formatter=formatter)
        assert (made["payload_encode"], made["formatter"]) == (encode, formatter)
        client = await live.connect("c1", password=b"very-secret")
        await client.subscribe("t/1", 1)
        await client.publish("t/1", b"hello", 1)
        await client.publish("u/1", b"other", 1)
        text = await log_of(live)
        assert "t/1" in text
        assert "u/1" not in text
        assert "very-secret" not in text
        for each in ("hello", "68656c6c6f"):
            assert (each in text.lower()) == (each == shown)
        if formatter == "json":
            assert all(isinstance(json.loads(line), dict) for line in text.splitlines())


@shows("POST /trace", "PUT /trace/:name/stop", "DELETE /trace/:name", "DELETE /trace")
async def test_from_waiting_to_stopped(autojump_clock: MockClock) -> None:
    async with running() as live:
        first = await begin(live, "first")
        now = datetime.fromisoformat(first["start_at"])
        start, end = now + timedelta(seconds=60), now + timedelta(seconds=120)
        await begin(live, "second", start_at=start.isoformat(), end_at=end.isoformat())
        begin_at = int(start.timestamp()) + 1
        await begin(live, "third", start_at=begin_at, end_at=begin_at + 1000)
        rows = await got(live, "/trace")
        assert [row["name"] for row in rows] == ["third", "second", "first"]
        assert datetime.fromisoformat(rows[1]["start_at"]) == start
        assert datetime.fromisoformat(rows[1]["end_at"]) == end
        assert datetime.fromisoformat(rows[0]["start_at"]).astimezone(UTC).timestamp() == begin_at
        assert await statuses(live) == {"first": "running", "second": "waiting", "third": "waiting"}
        await trio.sleep(65)
        assert await statuses(live) == {"first": "running", "second": "running", "third": "running"}
        await trio.sleep(60)
        assert await statuses(live) == {"first": "running", "second": "stopped", "third": "running"}
        await live.api.put("/trace/third/stop")
        await trio.sleep(600)
        assert await statuses(live) == {"first": "stopped", "second": "stopped", "third": "stopped"}
        done(await live.api.delete("/trace/second"))
        assert (await statuses(live)).keys() == {"first", "third"}
        done(await live.api.delete("/trace"))
        done(await live.api.delete("/trace"))
        assert await got(live, "/trace") == []


@shows("POST /trace")
async def test_what_is_refused(autojump_clock: MockClock) -> None:
    async with running() as live:
        made = await begin(live)
        assert await refused(live, 409, "ALREADY_EXISTS", name="t1") == "t1 Already Exists"
        message = await refused(live, 409, "DUPLICATE_CONDITION", clientid="c1", start_at=made["start_at"])
        assert "Duplication Condition" in message
        for fields in (
            {"name": None},
            {"type": None},
            {"clientid": None},
            {"name": "1st"},
            {"name": "a b"},
            {"name": ""},
            {"type": "topic", "topic": "a/#/b", "clientid": None},
            {"type": "ip_address", "ip_address": "home", "clientid": None},
            {"start_at": "soon"},
            {"end_at": "2001-01-01T00:00:00Z"},
            {"payload_encode": "morse"},
            {"formatter": "xml"},
        ):
            answer = await live.api.post(
                "/trace",
                json={k: v for k, v in ({"name": "t2", "type": "clientid", "clientid": "c2"} | fields).items() if v},
            )
            assert answer.status_code == 400, fields
            assert answer.json()["code"] in ("INVALID_PARAMS", "BAD_REQUEST")
        assert (await live.api.post("/trace", json={"name": "t2", "type": "colour", "colour": "x"})).status_code in (
            400,
            409,
        )
        assert len(await got(live, "/trace")) == 1


@shows("POST /trace")
async def test_at_most_thirty(autojump_clock: MockClock) -> None:
    async with running() as live:
        for index in range(30):
            await begin(live, f"n{index}", value=f"c{index}")
        answer = await live.api.post("/trace", json={"name": "more", "type": "clientid", "clientid": "x"})
        assert answer.status_code == 400
        assert answer.json()["code"] in ("INVALID_PARAMS", "BAD_REQUEST")
        done(await live.api.delete("/trace/n3"))
        await begin(live, "more", value="x")


@shows("PUT /trace/:name/stop", "GET /trace/:name/log", "GET /trace/:name/log_detail", "GET /trace/:name/download")
@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/stop"), ("DELETE", ""), ("GET", "/log"), ("GET", "/log_detail"), ("GET", "/download")],
)
async def test_an_unknown_trace(method: str, path: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        failed(await live.api.request(method, f"/trace/nothing{path}"), 404, "NOT_FOUND")


@shows("POST /trace", "POST /publish")
async def test_a_topic_is_traced_whoever_publishes(autojump_clock: MockClock) -> None:
    async with running() as live:
        await begin(live, kind="topic", value="t/#")
        await post(live, "t/1", "from-the-api")
        client = await live.connect("c1", level=4)
        await client.publish("t/2", b"from-a-client", 2)
        text = await log_of(live)
        assert "from-the-api" in text
        assert "from-a-client" in text
        assert "http_api" in text
