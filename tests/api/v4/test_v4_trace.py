"""`/trace` of EMQX 4: traces are made, listed, read, stopped and deleted, with words as codes of refusals."""

from __future__ import annotations

import io
import time
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
from actors.flows import settle
from api.live import VIEWER, Live, running
from api.older import older
from api.operations import shows

from trio_broker.config import Config, NodeConfig

NODE = "trio_broker@127.0.0.1"


def wall(live: Live) -> int:
    core = live.broker._core
    assert core is not None
    return core.clock.wall_ms(core.clock.now()) // 1000


async def make(v4: httpx.AsyncClient, name: str = "t1", **more: Any) -> None:
    answer = await v4.post("/trace", json={"name": name, "type": "clientid", "clientid": "c1", **more})
    assert (answer.status_code, answer.json()) == (200, {"code": 0})


async def rows(v4: httpx.AsyncClient) -> list[dict[str, Any]]:
    answer = (await v4.get("/trace")).json()
    assert (set(answer), answer["code"]) == ({"code", "data"}, 0)
    found: list[dict[str, Any]] = answer["data"]
    return found


@shows("GET /api/v4/trace", "POST /api/v4/trace", "DELETE /api/v4/trace", "DELETE /api/v4/trace/:name")
async def test_traces_are_made_listed_and_deleted(autojump_clock: object) -> None:
    async with running() as live, older(live, "v4") as v4:
        assert await rows(v4) == []
        await make(v4)
        begin = wall(live) + 60
        text = datetime.fromtimestamp(begin).astimezone().isoformat()
        await make(v4, "t2", type="topic", topic="t/#", start_at=text, end_at=str(begin + 30))
        await make(v4, "t3", type="ip_address", ip_address="10.0.0.1", start_at=begin - 30)
        two, three, one = await rows(v4)
        assert set(one) == {"name", "type", "clientid", "status", "start_at", "end_at", "log_size"}
        assert (one["name"], one["type"], one["clientid"]) == ("t1", "clientid", "c1")
        assert (one["status"], one["log_size"]) == ("running", {NODE: 0})
        assert (two["name"], two["type"], two["topic"], two["status"]) == ("t2", "topic", "t/#", "waiting")
        times = [datetime.fromisoformat(two[key]) for key in ("start_at", "end_at")]
        assert [moment.timestamp() for moment in times] == [begin, begin + 30]
        assert all(moment.tzinfo is not None for moment in times)
        assert (three["type"], three["ip_address"]) == ("ip_address", "10.0.0.1")
        # They are the same as those of the other generation.
        assert [row["name"] for row in (await live.api.get("/trace")).json()] == ["t2", "t3", "t1"]

        assert (await v4.delete("/trace/t2")).json() == {"code": 0}
        assert [row["name"] for row in await rows(v4)] == ["t3", "t1"]
        assert (await v4.delete("/trace")).json() == {"code": 0}
        assert await rows(v4) == []


@shows("PUT /api/v4/trace/:name/stop")
async def test_a_trace_is_stopped(autojump_clock: object) -> None:
    async with running() as live, older(live, "v4") as v4:
        await make(v4)
        answer = await v4.put("/trace/t1/stop")
        assert (answer.status_code, answer.json()) == (200, {"code": 0, "data": {"name": "t1", "enable": False}})
        assert (await rows(v4))[0]["status"] == "stopped"
        assert (await v4.put("/trace/t1/stop")).json()["code"] == 0


@shows("GET /api/v4/trace/:name/log", "GET /api/v4/trace/:name/detail", "GET /api/v4/trace/:name/download")
async def test_a_log_is_read(autojump_clock: object) -> None:
    async with running() as live, older(live, "v4") as v4:
        await make(v4, type="topic", topic="#")
        assert (await v4.get("/trace/t1/log")).json() == {
            "code": 0,
            "data": {"meta": {"position": 0, "bytes": 1000}, "items": ""},
        }
        for _ in range(20):
            await live.broker.publish("t", "\u20ac".encode() * 50)
        await settle()
        position, found = 0, ""
        while True:
            answer = await v4.get("/trace/t1/log", params={"node": NODE, "position": position, "bytes": 700})
            piece = answer.json()["data"]
            assert piece["meta"]["bytes"] == 700
            if not piece["items"]:
                break
            assert piece["meta"]["position"] == position + len(piece["items"].encode())
            position, found = piece["meta"]["position"], found + piece["items"]
        assert found.count("\u20ac" * 50) == 20
        answer = await v4.get("/trace/t1/detail", auth=VIEWER)
        (detail,) = answer.json()["data"]
        assert detail == {"node": NODE, "size": len(found.encode()), "mtime": detail["mtime"]}
        assert abs(detail["mtime"] - time.time()) < 1000
        answer = await v4.get("/trace/t1/download")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/octet-stream")
        assert answer.headers["content-disposition"] == 'attachment; filename="t1.zip"'
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            assert archive.namelist() == [f"{NODE}-trace_t1.log"]
            assert archive.read(archive.namelist()[0]).decode() == found


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"name": ""}, "Name should be"),
        ({"name": "../a"}, "Name should be"),
        ({"name": "a" * 201}, "Name Length"),
        ({"name": None}, "Name should be"),
        ({"type": None}, "type must be one of"),
        ({"type": "ruleid", "ruleid": "r"}, "type must be one of"),
        ({"clientid": None}, "clientid"),
        ({"type": "topic"}, "topic"),
        ({"type": "topic", "topic": "a/#/b"}, "topic"),
        ({"type": "ip_address", "ip_address": "localhost"}, "ip_address"),
        ({"start_at": "tomorrow"}, "start_at must be"),
        ({"end_at": "2024-01-01T00:00:00"}, "end_at must be"),
        ({"end_at": -5}, "end_at must be"),
        ({"end_at": "2001-01-01T00:00:00Z"}, "already passed"),
        ({"start_at": 4_000_000_000, "end_at": 3_999_999_999}, "start_at >= end_at"),
    ],
)
async def test_what_cannot_be_traced(autojump_clock: object, change: dict[str, Any], word: str) -> None:
    async with running() as live, older(live, "v4") as v4:
        answer = await v4.post("/trace", json={"name": "t1", "type": "clientid", "clientid": "c1", **change})
        assert (answer.status_code, answer.json()["code"]) == (200, "INCORRECT_PARAMS")
        assert word in answer.json()["message"]
        assert await rows(v4) == []


async def test_wrong_types_and_no_json(autojump_clock: object) -> None:
    async with running() as live, older(live, "v4") as v4:
        for body in ({"name": 5}, {"name": "t1", "clientid": []}, {"name": "t1", "start_at": {}}):
            answer = await v4.post("/trace", json={"type": "clientid", "clientid": "c1", **body})
            assert (answer.status_code, answer.json()["code"]) == (200, 108)
        answer = await v4.post("/trace", content="{")
        assert (answer.status_code, answer.json()) == (400, {"code": 109, "message": "Bad Request"})
        await make(v4)
        for query in ("position=-1", "position=x", "bytes=0", "bytes=1.5"):
            answer = await v4.get(f"/trace/t1/log?{query}")
            assert (answer.status_code, answer.json()["code"]) == (200, 108)


async def test_two_of_a_kind(autojump_clock: object) -> None:
    async with running() as live, older(live, "v4") as v4:
        start_at = wall(live) + 100
        await make(v4, start_at=start_at)
        for name, code, message in (
            ("t1", "ALREADY_EXISTED", "t1 Already Exists"),
            ("t2", "DUPLICATE_CONDITION", "t1 Duplication Condition"),
        ):
            body = {"name": name, "type": "clientid", "clientid": "c1", "start_at": start_at}
            answer = await v4.post("/trace", json=body)
            assert (answer.status_code, answer.json()) == (200, {"code": code, "message": message})


async def test_a_query_does_as_well_as_a_body(autojump_clock: object) -> None:
    async with running() as live, older(live, "v4") as v4:
        answer = await v4.post("/trace", params={"name": "t1", "type": "clientid", "clientid": "5"})
        assert answer.json() == {"code": 0}
        assert (await rows(v4))[0]["clientid"] == "5"


async def test_what_is_not_there(autojump_clock: object, tmp_path: Path) -> None:
    async with running(attrs.evolve(Config(), node=NodeConfig(data_dir=str(tmp_path)))) as live:
        async with older(live, "v4") as v4:
            await make(v4)
            for name in ("nobody", "T1", "..%2f..%2fetc", "t1.log"):
                for method, path in (
                    ("PUT", "/stop"),
                    ("DELETE", ""),
                    ("GET", "/log"),
                    ("GET", "/detail"),
                    ("GET", "/download"),
                ):
                    answer = await v4.request(method, f"/trace/{name}{path}")
                    assert (answer.status_code, answer.json()["code"]) == (200, "NOT_FOUND"), (name, path)
            assert (await v4.delete("/trace/nobody")).json()["message"] == "nobody NOT FOUND"
            answer = await v4.get("/trace/t1/log?node=emqx@10.0.0.1")
            assert answer.json() == {"code": "NOT_FOUND", "message": "node not found"}
            (tmp_path / "trace" / "t1.log").unlink()
            for path in ("log", "detail", "download"):
                answer = await v4.get(f"/trace/t1/{path}")
                assert answer.json() == {"code": "NOT_FOUND", "message": "enoent"}


async def test_a_log_that_is_no_file_and_a_place_that_refuses(
    autojump_clock: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(attrs.evolve(Config(), node=NodeConfig(data_dir=str(tmp_path)))) as live:
        async with older(live, "v4") as v4:
            await make(v4)
            path = tmp_path / "trace" / "t1.log"
            path.unlink()
            (tmp_path / "secret").write_text("secret")
            path.symlink_to(tmp_path / "secret")
            answer = await v4.get("/trace/t1/log")
            assert (answer.status_code, answer.json()["code"]) == (200, 102)

            def refuse(*_: object) -> None:
                raise OSError(28, "No space left on device")

            monkeypatch.setattr("trio_broker.actors.trace_log.TraceLog.create", refuse)
            body = {"name": "t2", "type": "clientid", "clientid": "c2"}
            answer = (await v4.post("/trace", json=body)).json()
            assert (answer["code"], "No space left on device" in answer["message"]) == (102, True)


async def test_a_viewer_only_looks(autojump_clock: object) -> None:
    async with running() as live, older(live, "v4") as v4:
        await make(v4)
        for method, path in (("DELETE", "/trace"), ("DELETE", "/trace/t1"), ("PUT", "/trace/t1/stop")):
            assert (await v4.request(method, path, auth=VIEWER)).status_code == 403
        assert (await rows(v4))[0]["status"] == "running"
