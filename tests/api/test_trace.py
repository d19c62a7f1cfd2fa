"""`/trace`: traces are made, listed, read, stopped and deleted as the contract says, and are there after a restart."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from actors.flows import settle
from api.live import Live, running
from api.operations import shows

from trio_broker.config import Config
from trio_broker.config.model import NodeConfig
from trio_broker.store.memory import MemoryStore

NODE = "trio_broker@127.0.0.1"


async def make(live: Live, name: str = "t1", **more: Any) -> dict[str, Any]:
    body = {"name": name, "type": "clientid", "clientid": name, **more}
    answer = await live.api.post("/trace", json=body)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def log_of(live: Live, name: str = "t1") -> list[str]:
    await settle()
    answer = await live.api.get(f"/trace/{name}/log", params={"bytes": 1_000_000})
    assert answer.status_code == 200, answer.text
    text: str = answer.json()["items"]
    return text.splitlines()


async def rows(live: Live) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await live.api.get("/trace")).json()
    return found


def in_directory(directory: Path) -> Config:
    return attrs.evolve(Config(), node=NodeConfig(data_dir=str(directory)))


def wall(live: Live) -> int:
    core = live.broker._core
    assert core is not None
    return core.clock.wall_ms(core.clock.now()) // 1000


@shows("GET /trace", "POST /trace", "DELETE /trace", "PUT /trace/:name/stop", "DELETE /trace/:name")
async def test_a_trace_is_made_listed_stopped_and_deleted(autojump_clock: object) -> None:
    async with running() as live:
        assert await rows(live) == []
        made = await make(live, "t1", clientid="c/1")
        assert (made["name"], made["type"], made["clientid"], made["status"]) == ("t1", "clientid", "c/1", "running")
        assert (made["payload_encode"], made["formatter"], made["log_size"]) == ("text", "text", {NODE: 0})
        assert set(made) - {"start_at", "end_at"} == {
            *("name", "type", "clientid", "status", "log_size", "payload_encode", "formatter")
        }
        later = await make(
            live, "t2", type="topic", topic="t/#", start_at=wall(live) + 60, payload_encode="hex", formatter="json"
        )
        assert (later["topic"], later["status"], later["payload_encode"]) == ("t/#", "waiting", "hex")
        address = await make(live, "t3", type="ip_address", ip_address="::ffff:10.0.0.1", start_at=wall(live) + 30)
        assert address["ip_address"] == "10.0.0.1"
        assert [row["name"] for row in await rows(live)] == ["t2", "t3", "t1"]
        assert (await rows(live))[2] == made

        answer = await live.api.put("/trace/t1/stop")
        assert (answer.status_code, answer.json()) == (200, {"enable": False, "name": "t1"})
        assert (await live.api.put("/trace/t1/stop")).status_code == 200
        assert (await live.api.put("/trace/t2/stop")).status_code == 200
        assert [row["status"] for row in await rows(live)] == ["stopped", "waiting", "stopped"]
        assert [line.split("msg: ")[1] for line in await log_of(live)] == ["trace_stopping, reason: stopped"]
        assert await log_of(live, "t2") == []

        answer = await live.api.delete("/trace/t2")
        assert (answer.status_code, answer.content) == (204, b"")
        assert [row["name"] for row in await rows(live)] == ["t3", "t1"]
        assert (await live.api.delete("/trace")).status_code == 204
        assert await rows(live) == []
        await make(live, "t1", clientid="c/1")
        assert await log_of(live) == [], "a new one begins with an empty log"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(
            ({"name": name}, "Name")
            for name in ("", "1a", "-a", "a b", "a.b", "a/b", "../a", "a\n", "\u00e4", "a\0", "a" * 201)
        ),
        ({"clientid": None}, "type=clientid required clientid"),
        ({"clientid": ""}, "clientid"),
        ({"clientid": "c" * 65536}, "clientid"),
        ({"type": "topic"}, "type=topic required topic"),
        ({"type": "topic", "topic": ""}, "topic"),
        ({"type": "topic", "topic": "a/#/b"}, "topic"),
        ({"type": "topic", "topic": "$share/g/t"}, r"leave out $share"),
        ({"type": "ip_address", "ip_address": "localhost"}, "ip_address"),
        ({"type": "ip_address", "ip_address": "10.0.0.0/8"}, "ip_address"),
        ({"start_at": 2_000_000_000, "end_at": 2_000_000_000}, "failed by start_at >= end_at"),
        ({"end_at": "2001-01-01T00:00:00Z"}, "end_at time has already passed"),
        ({"end_at": -5}, "end_at time has already passed"),
        ({"start_at": 99_999_999_999_999}, "days away"),
        ({"end_at": 99_999_999_999_999}, "days after start_at"),
    ],
)
@shows("POST /trace")
async def test_what_cannot_be_traced_is_refused(autojump_clock: object, change: dict[str, Any], message: str) -> None:
    async with running() as live:
        if change.get("start_at") == 2_000_000_000:
            change = {"start_at": wall(live) + 50, "end_at": str(wall(live) + 50)}
        answer = await live.api.post("/trace", json={"name": "t1", "type": "clientid", "clientid": "c1", **change})
        assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_PARAMS")
        assert message in answer.json()["message"]
        assert await rows(live) == []


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"name": None}, "root.name"),
        ({"name": 5}, "root.name"),
        ({"type": None}, "root.type"),
        ({"type": "username"}, "root.type"),
        ({"color": "red"}, "root"),
        ({"status": "running"}, "root"),
        ({"payload_encode": "base64"}, "root.payload_encode"),
        ({"formatter": "xml"}, "root.formatter"),
        ({"start_at": "tomorrow"}, "root.start_at"),
        ({"end_at": "2024-01-01T00:00:00"}, "root.end_at"),
        ({"end_at": [1]}, "root.end_at"),
        ({"clientid": {}}, "root.clientid"),
    ],
)
@shows("POST /trace")
async def test_a_body_that_is_not_as_it_must_be_is_refused(
    autojump_clock: object, change: dict[str, Any], path: str
) -> None:
    async with running() as live:
        answer = await live.api.post("/trace", json={"name": "t1", "type": "clientid", "clientid": "c1", **change})
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        assert json.loads(answer.json()["message"])["path"] == path


@shows("POST /trace")
async def test_two_of_a_kind_and_rules_are_refused(autojump_clock: object) -> None:
    async with running() as live:
        start_at = wall(live) + 100
        await make(live, "t1", clientid="c1", start_at=start_at)
        for name, code, message in (
            ("t1", "ALREADY_EXISTS", "t1 Already Exists"),
            ("t2", "DUPLICATE_CONDITION", "t1 Duplication Condition"),
        ):
            body = {"name": name, "type": "clientid", "clientid": "c1", "start_at": start_at}
            answer = await live.api.post("/trace", json=body)
            assert (answer.status_code, answer.json()) == (409, {"code": code, "message": message})
        await make(live, "t2", clientid="c1", start_at=start_at + 1)
        answer = await live.api.post("/trace", json={"name": "t3", "type": "ruleid", "ruleid": "r1"})
        assert (answer.status_code, answer.json()["code"]) == (409, "BAD_TYPE")


@shows("POST /trace")
async def test_there_are_at_most_thirty(autojump_clock: object) -> None:
    async with running() as live:
        for number in range(30):
            await make(live, f"t-{number}_")
        answer = await live.api.post("/trace", json={"name": "more", "type": "clientid", "clientid": "c"})
        assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_PARAMS")
        assert "30" in answer.json()["message"]
        await live.api.delete("/trace/t-0_")
        await make(live, "more")
        assert len(await rows(live)) == 30


@shows("POST /trace")
@pytest.mark.parametrize("form", ["number", "digits", "rfc3339"])
async def test_a_trace_begins_and_ends_at_its_times(autojump_clock: object, form: str) -> None:
    def written(seconds: int) -> Any:
        if form == "rfc3339":
            return datetime.fromtimestamp(seconds, UTC).isoformat()
        return seconds if form == "number" else str(seconds)

    async with running() as live:
        c1 = await live.connect("c1")
        begin = wall(live) + 100
        made = await make(live, clientid="c1", start_at=written(begin), end_at=written(begin + 100))
        assert made["status"] == "waiting"
        assert datetime.fromisoformat(made["start_at"]).timestamp() == begin
        assert datetime.fromisoformat(made["end_at"]).timestamp() == begin + 100
        await c1.ping()
        await trio.sleep(102)
        assert (await rows(live))[0]["status"] == "running"
        await c1.ping()
        await trio.sleep(100)
        assert (await rows(live))[0]["status"] == "stopped"
        await c1.ping()
        assert [line.split("msg: ")[1].split("(")[0] for line in await log_of(live)] == [
            "mqtt_packet_received, packet: PINGREQ",
            "mqtt_packet_sent, packet: PINGRESP",
            "trace_stopping, reason: end_at",
        ]


async def test_without_times_it_runs_from_now_for_ten_minutes(autojump_clock: object) -> None:
    async with running() as live:
        now = wall(live)
        made = await make(live, start_at=now - 5000)
        start_at, end_at = (datetime.fromisoformat(made[key]).timestamp() for key in ("start_at", "end_at"))
        assert (start_at, end_at) == (now, now + 600)


@shows("GET /trace/:name/log")
async def test_a_log_is_read_in_pieces_of_whole_characters(autojump_clock: object) -> None:
    async with running() as live:
        await make(live, type="topic", topic="#")
        for payload in ("\u00e4\u20ac\U0001f600" * 20, "x"):
            await live.broker.publish("t/\u00fc", payload.encode())
        whole = "\n".join(await log_of(live)) + "\n"
        assert whole.count("\n") == 2
        for size in (1, 2, 7, 100):
            position, found = 0, ""
            while True:
                answer = await live.api.get("/trace/t1/log", params={"position": position, "bytes": size, "node": NODE})
                piece = answer.json()
                assert piece["meta"]["bytes"] == size
                if not piece["items"]:
                    break
                assert piece["meta"]["position"] - position == len(piece["items"].encode())
                position, found = piece["meta"]["position"], found + piece["items"]
            assert found == whole
            assert piece["meta"]["position"] == len(whole.encode())
        first = (await live.api.get("/trace/t1/log")).json()
        assert first == {"meta": {"position": len(first["items"].encode()), "bytes": 1000}, "items": first["items"]}
        inside = whole.encode().index("\U0001f600".encode()) + 1
        piece = (await live.api.get("/trace/t1/log", params={"position": inside, "bytes": 4})).json()
        assert whole.encode()[piece["meta"]["position"] :].decode()
        beyond = (await live.api.get("/trace/t1/log", params={"position": 10**12})).json()
        assert (beyond["items"], beyond["meta"]["position"]) == ("", len(whole.encode()))


@shows("GET /trace/:name/log")
@pytest.mark.parametrize(
    "query", ["position=-1", "position=x", "bytes=0", "bytes=-1", "bytes=99999999999", "bytes=1.5"]
)
async def test_where_a_piece_is_has_to_be_a_number(autojump_clock: object, query: str) -> None:
    async with running() as live:
        await make(live)
        answer = await live.api.get(f"/trace/t1/log?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")


@shows("GET /trace/:name/log_detail", "GET /trace/:name/download")
async def test_a_log_is_described_and_downloaded(autojump_clock: object) -> None:
    async with running() as live:
        await make(live, type="topic", topic="#")
        await live.broker.publish("t", b"hello")
        answer = await live.api.get("/trace/t1/log_detail", auth=live.as_viewer())
        [detail] = answer.json()
        lines = await log_of(live)
        assert detail == {"node": NODE, "size": len("\n".join(lines)) + 1, "mtime": detail["mtime"]}
        assert detail["mtime"] > 1_700_000_000_000
        for query in ("", f"?node={NODE}"):
            answer = await live.api.get("/trace/t1/download" + query)
            assert (answer.status_code, answer.headers["content-type"]) == (200, "application/octet-stream")
            assert answer.headers["content-disposition"] == 'attachment; filename="t1.zip"'
            with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
                assert archive.testzip() is None
                assert archive.namelist() == [f"{NODE}-trace_t1.log"]
                assert archive.read(archive.namelist()[0]).decode().splitlines() == lines


@shows(
    "PUT /trace/:name/stop",
    "DELETE /trace/:name",
    "GET /trace/:name/log",
    "GET /trace/:name/log_detail",
    "GET /trace/:name/download",
)
async def test_what_is_not_there_is_not_found(autojump_clock: object, tmp_path: Path) -> None:
    async with running(in_directory(tmp_path)) as live:
        await make(live)
        for name in ("nobody", "T1", "..", "%2e%2e%2f%2e%2e%2fetc", "t1.log", "t1%0a"):
            for method, path in (
                ("PUT", "/stop"),
                ("DELETE", ""),
                ("GET", "/log"),
                ("GET", "/log_detail"),
                ("GET", "/download"),
            ):
                answer = await live.api.request(method, f"/trace/{name}{path}")
                assert answer.status_code == 404, (name, path)
        answer = await live.api.get("/trace/nobody/log")
        assert answer.json() == {"code": "NOT_FOUND", "message": "nobody NOT FOUND"}
        for path in ("log", "download"):
            answer = await live.api.get(f"/trace/t1/{path}?node=other@host")
            assert (answer.status_code, answer.json()["code"]) == (404, "NODE_ERROR")
        (tmp_path / "trace" / "t1.log").unlink()
        for path in ("log", "log_detail", "download"):
            answer = await live.api.get(f"/trace/t1/{path}")
            assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


async def test_a_log_that_is_no_file_is_not_read(autojump_clock: object, tmp_path: Path) -> None:
    async with running(in_directory(tmp_path)) as live:
        await make(live)
        secret = tmp_path / "secret"
        secret.write_text("secret")
        path = tmp_path / "trace" / "t1.log"
        path.unlink()
        path.symlink_to(secret)
        answer = await live.api.get("/trace/t1/log")
        assert (answer.status_code, answer.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert (await live.api.delete("/trace/t1")).status_code == 204
        assert secret.read_text() == "secret"


@shows("POST /trace")
async def test_without_a_place_for_its_log_there_is_no_trace(autojump_clock: object, tmp_path: Path) -> None:
    (tmp_path / "trace").write_text("")
    async with running(in_directory(tmp_path)) as live:
        answer = await live.api.post("/trace", json={"name": "t1", "type": "clientid", "clientid": "c"})
        assert (answer.status_code, answer.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert "the log of trace t1 cannot be made" in answer.json()["message"]
        assert await rows(live) == []


async def test_traces_and_their_logs_outlive_the_broker(autojump_clock: object, tmp_path: Path) -> None:
    store, config = MemoryStore(), in_directory(tmp_path)
    async with running(config, store) as live:
        now = wall(live)
        await make(live, "long", type="topic", topic="t/#", formatter="json", end_at=now + 86_400)
        await make(live, "short", type="topic", topic="t/1", end_at=now + 1)
        await make(live, "stopped", type="topic", topic="t/2")
        await live.api.put("/trace/stopped/stop")
        await make(live, "deleted", type="topic", topic="t/3")
        await live.api.delete("/trace/deleted")
        await live.broker.publish("t/1", b"before")
    assert {path.name for path in (tmp_path / "trace").iterdir()} == {"long.log", "short.log", "stopped.log"}
    assert stat.S_IMODE((tmp_path / "trace").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "trace").iterdir()} == {0o600}
    with (tmp_path / "trace" / "long.log").open("ab") as log:
        log.write(b'{"cut')  # the process ended within a line
    await trio.sleep(2)
    # The mock clock's wall clock begins with the machine's: a second that has passed on it is none of that one.
    for record in store._database.documents():
        if record.kind == "trace" and record.key == "short":
            changed = {**json.loads(record.body), "start_at": now - 20, "end_at": now - 10}
            store.write(attrs.evolve(record, body=json.dumps(changed)))
            await store.ticket.wait()
    async with running(config, store) as live:
        assert {row["name"]: row["status"] for row in await rows(live)} == {
            "long": "running",
            "short": "stopped",
            "stopped": "stopped",
        }
        await live.broker.publish("t/1", b"after")
        lines = await log_of(live, "long")
        assert [lines[1], json.loads(lines[0])["meta"]["payload"]] == ['{"cut', "before"]
        assert json.loads(lines[2])["meta"]["payload"] == "after"
        assert [line.rpartition(" ")[2] for line in await log_of(live, "short")] == ["before"]
        [detail] = (await live.api.get("/trace/long/log_detail")).json()
        assert detail["size"] == (tmp_path / "trace" / "long.log").stat().st_size


async def test_a_trace_in_the_store_that_nobody_can_read_is_left_out(
    autojump_clock: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    async with running(in_directory(tmp_path), store) as live:
        await make(live)
        core = live.broker._core
        assert core is not None
        [body] = core.documents.of("trace").values()
        core.documents.put("trace", "../evil", body)
        core.documents.put("trace", "odd", {"type": "clientid"})
        core.documents.put("trace", "timeless", {**body, "end_at": "soon"})
        core.documents.put("trace", "strange", {**body, "type": "username"})
        await core.durable()
    async with running(in_directory(tmp_path), store) as live:
        assert [row["name"] for row in await rows(live)] == ["t1"]
    assert "trace '../evil' in the store is left out" in caplog.text
    for name in ("odd", "timeless", "strange"):
        assert f"trace '{name}' in the store is left out" in caplog.text


async def test_without_a_data_directory_the_logs_end_with_the_broker(autojump_clock: object) -> None:
    async with running() as live:
        await make(live)
        core = live.broker._core
        assert core is not None
        directory = core.traces._directory
        assert directory is not None
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert [path.name for path in directory.iterdir()] == ["t1.log"]
    assert not directory.exists()
