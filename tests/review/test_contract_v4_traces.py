"""The contract of `/api/v4`, read afresh: traces of clients, topics and addresses."""

from __future__ import annotations

import io
import re
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from api.operations import shows
from review.doors_v4 import NODE, Doors, body, data, done, doors, got, refused
from trio.testing import MockClock

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
KINDS = [("clientid", "c1"), ("topic", "t/+"), ("ip_address", "127.0.0.1")]
ONE = {"name": "one", "type": "clientid", "clientid": "c1"}


def failed(answer: httpx.Response, code: str) -> None:
    refused(answer, code)


def in_seconds(seconds: int) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


async def traffic(at: Doors) -> None:
    client = await at.live.connect("c1")
    await client.publish("t/1", b"the payload", 1)
    await client.ping()


async def text(at: Doors, name: str, **query: Any) -> str:
    return str((await got(at.app, f"/trace/{name}/log", bytes=1_000_000, **query))["items"])


@shows("GET /api/v4/trace", "POST /api/v4/trace")
@pytest.mark.parametrize(("kind", "value"), KINDS)
async def test_traces(kind: str, value: str, autojump_clock: MockClock) -> None:
    async with doors() as at:
        assert await got(at.app, "/trace") == []
        done(await at.app.post("/trace", json={"name": "one", "type": kind, kind: value}))
        [row] = await got(at.app, "/trace")
        assert row.keys() == {"name", "type", kind, "start_at", "end_at", "status", "log_size"}
        assert (row["name"], row["type"], row[kind]) == ("one", kind, value)
        assert row["status"] == "running"
        assert RFC3339.fullmatch(row["start_at"])
        assert RFC3339.fullmatch(row["end_at"])
        assert datetime.fromisoformat(row["start_at"]) < datetime.fromisoformat(row["end_at"])
        assert row["log_size"].keys() == {NODE}
        assert type(row["log_size"][NODE]) is int
        await traffic(at)
        assert "the payload" in await text(at, "one")
        [row] = await got(at.user, "/trace")
        assert row["log_size"][NODE] > 0


@shows("POST /api/v4/trace")
async def test_start_and_end(autojump_clock: MockClock) -> None:
    async with doors() as at:
        start, end = in_seconds(1000), in_seconds(2000)
        done(await at.app.post("/trace", json={**ONE, "start_at": start, "end_at": end}))
        [row] = await got(at.app, "/trace")
        for key, value in (("start_at", start), ("end_at", end)):
            assert datetime.fromisoformat(row[key]) == datetime.fromisoformat(value)
        assert row["status"] == "waiting"
        await traffic(at)
        assert (await got(at.app, "/trace"))[0]["log_size"] == {NODE: 0}
        again = {**ONE, "name": "two", "start_at": start}
        failed(await at.app.post("/trace", json=again), "DUPLICATE_CONDITION")


@shows("POST /api/v4/trace")
async def test_traces_that_are_refused(autojump_clock: MockClock) -> None:
    async with doors() as at:
        done(await at.app.post("/trace", json=ONE))
        failed(await at.app.post("/trace", json={**ONE, "clientid": "c2"}), "ALREADY_EXISTED")
        bad: list[dict[str, Any]] = [
            {},
            {"name": "x"},
            {"name": "x", "type": "clientid"},
            {"name": "x", "type": "clientid", "topic": "t"},
            {"name": "x", "type": "dance", "dance": "d"},
            {"name": "x", "type": "topic", "topic": "a/#/b"},
            {"name": "x", "type": "ip_address", "ip_address": "nowhere"},
            {"name": "a b", "type": "topic", "topic": "t"},
            {"type": "topic", "topic": "t"},
            {**ONE, "name": "x", "start_at": "tomorrow"},
            {**ONE, "name": "x", "end_at": "2001-01-01T00:00:00Z"},
            {**ONE, "name": "x", "start_at": in_seconds(500), "end_at": in_seconds(100)},
        ]
        for fields in bad:
            failed(await at.app.post("/trace", json=fields), "INCORRECT_PARAMS")
        assert [row["name"] for row in await got(at.app, "/trace")] == ["one"]


@shows("PUT /api/v4/trace/:name/stop", "DELETE /api/v4/trace/:name", "DELETE /api/v4/trace")
async def test_stopping_and_deleting(autojump_clock: MockClock) -> None:
    async with doors() as at:
        done(await at.app.post("/trace", json=ONE))
        await traffic(at)
        before = await text(at, "one")
        assert await data_of_put(at, "one") == {"name": "one", "enable": False}
        await traffic(at)
        assert (await got(at.app, "/trace"))[0]["status"] == "stopped"
        assert (await text(at, "one")).startswith(before)
        assert (await text(at, "one")).count("the payload") == before.count("the payload")
        for answer in (
            await at.app.put("/trace/nothing/stop"),
            await at.app.delete("/trace/nothing"),
            await at.app.get("/trace/nothing/log"),
            await at.app.get("/trace/nothing/detail"),
            await at.app.get("/trace/nothing/download"),
        ):
            failed(answer, "NOT_FOUND")
        done(await at.app.delete("/trace/one"))
        failed(await at.app.delete("/trace/one"), "NOT_FOUND")
        for name in ("a", "b"):
            done(await at.app.post("/trace", json={"name": name, "type": "topic", "topic": name}))
        done(await at.app.delete("/trace"))
        assert await got(at.app, "/trace") == []
        done(await at.app.delete("/trace"))


async def data_of_put(at: Doors, name: str) -> Any:
    return data(await at.app.put(f"/trace/{name}/stop"))


@shows("GET /api/v4/trace/:name/log")
async def test_pieces_of_a_log(autojump_clock: MockClock) -> None:
    async with doors() as at:
        done(await at.app.post("/trace", json=ONE))
        await traffic(at)
        whole = await text(at, "one")
        found = await got(at.app, "/trace/one/log")
        assert found.keys() == {"items", "meta"}
        assert found["meta"].keys() == {"position", "bytes"}
        assert found["meta"]["bytes"] == 1000
        assert found["items"] == whole[:1000]
        position, pieces = 0, []
        while piece := await got(at.app, "/trace/one/log", node=NODE, position=position, bytes=100):
            if not piece["items"]:
                break
            assert len(piece["items"]) <= 100
            assert piece["meta"] == {"position": position + len(piece["items"]), "bytes": 100}
            position = piece["meta"]["position"]
            pieces.append(piece["items"])
        assert "".join(pieces) == whole
        for query in ({"bytes": "x"}, {"position": "x"}):
            refused(await at.app.get("/trace/one/log", params=query), 108)
        assert body(await at.app.get("/trace/one/log", params={"node": "x@127.0.0.1"}))["code"] != 0


@shows("GET /api/v4/trace/:name/download", "GET /api/v4/trace/:name/detail")
async def test_a_whole_log(autojump_clock: MockClock) -> None:
    async with doors() as at:
        done(await at.app.post("/trace", json=ONE))
        await traffic(at)
        whole = await text(at, "one")
        answer = await at.app.get("/trace/one/download")
        assert answer.status_code == 200
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            [name] = archive.namelist()
            assert archive.read(name).decode() == whole
        [row] = await got(at.app, "/trace/one/detail")
        assert (row["node"], row["size"]) == (NODE, len(whole))
