"""`/data`: export, import, and the files; an import is all or nothing, whatever is in the file."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from actors.flows import SESSION, payloads, rest
from api.live import Live, running
from api.operations import shows
from attrs import evolve

from trio_broker.actors import backup_archive, data_backup
from trio_broker.actors.data_backup import TABLE_SETS
from trio_broker.config import Config, Layers, NodeConfig
from trio_broker.errors import AskTimeout
from trio_broker.protocol.packets import Properties
from trio_broker.store.memory import MemoryStore

META = {"format": "trio-broker-export", "format_version": 1, "node": "a@b", "created_at": "2026-01-01T00:00:00+00:00"}
NODE = "trio_broker@127.0.0.1"


def with_dir(folder: Path) -> Config:
    return evolve(Config(), node=NodeConfig(data_dir=str(folder)))


def archive(files: dict[str, Any], folder: str = "x") -> bytes:
    """A tar.gz; texts and bytes as they are, lists as lines, anything else as JSON."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, value in files.items():
            if isinstance(value, tarfile.TarInfo):
                tar.addfile(value)
                continue
            if isinstance(value, list):
                value = "\n".join(json.dumps(row) for row in value)
            data = (
                value if isinstance(value, bytes) else (value if isinstance(value, str) else json.dumps(value)).encode()
            )
            member = tarfile.TarInfo(f"{folder}/{name}" if folder else name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return raw.getvalue()


async def upload(live: Live, content: bytes, name: str = "x.tar.gz") -> httpx.Response:
    return await live.api.post("/data/files", files={"filename": (name, content)})


async def imported(live: Live, name: str = "x.tar.gz", **more: Any) -> httpx.Response:
    return await live.api.post("/data/import", json={"filename": name, **more})


def is_refused(answer: httpx.Response, status: int, code: str, word: str) -> bool:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert word in answer.json()["message"], answer.text
    return True


async def fill(live: Live) -> None:
    await live.api.put("/configs/alarm", json={"size_limit": 7})
    await live.api.put("/configs/global_zone", json={"mqtt": {"max_inflight": 5}})
    await live.api.post("/banned", json={"as": "clientid", "who": "bad", "reason": "because"})
    await live.api.post("/banned", json={"as": "peerhost_net", "who": "10.0.0.0/8"})
    c1 = await live.connect("c1", username="u1")
    properties: Properties = {
        "content_type": "text/plain",
        "correlation_data": b"\x00\xff",
        "user_property": [("a", "1"), ("a", "2")],
        "message_expiry_interval": 1_000_000_000,  # a mock clock jumps while a thread works
    }
    await c1.publish("house/door", b"\x00open", qos=1, retain=True)
    await c1.publish("house/light", b"on", qos=2, retain=True, properties=properties)


async def content(live: Live) -> dict[str, Any]:
    """What an export carries, as REST shows it."""
    rows = (await live.api.get("/mqtt/retainer/messages")).json()["data"]
    return {
        "config": {key: (await live.api.get(f"/configs/{key}")).json() for key in ("alarm", "global_zone")},
        "banned": sorted(
            (row["as"], row["who"], row["reason"]) for row in (await live.api.get("/banned")).json()["data"]
        ),
        "retained": {row["topic"]: (row["qos"], row["from_username"], row["publish_at"]) for row in rows},
    }


@shows("POST /data/export", "POST /data/import", "GET /data/files", "GET /data/files/:filename", "POST /data/files")
async def test_what_is_exported_is_taken_over_by_another_broker(tmp_path: Path, autojump_clock: object) -> None:
    """At once, and there after a restart; its clients that are subscribed already get nothing of it."""
    async with running(with_dir(tmp_path / "one")) as live:
        await fill(live)
        before = await content(live)
        answer = await live.api.post("/data/export")
        assert answer.status_code == 200, answer.text
        shown = answer.json()
        name = shown["filename"]
        assert set(shown) == {"filename", "node", "created_at", "created_at_sec", "size"}
        assert shown["node"] == NODE
        listed = (await live.api.get("/data/files")).json()
        assert listed["data"] == [shown]
        assert listed["meta"] == {"page": 1, "limit": 100, "count": 1, "hasnext": False}
        answer = await live.api.get(f"/data/files/{name}", params={"node": NODE})
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
        file = answer.content
        assert len(file) == shown["size"]
    assert (tmp_path / "one" / "backup" / name).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "one" / "backup").stat().st_mode & 0o777 == 0o700
    store = MemoryStore()
    async with running(with_dir(tmp_path / "two"), store) as live:
        bad = await live.connect("bad", properties=SESSION)
        c1 = await live.connect("c2")
        await c1.subscribe("house/#")
        await c1.publish("house/door", b"shut", qos=1, retain=True)
        await rest(c1)
        await live.api.post("/banned", json={"as": "clientid", "who": "other", "reason": "mine"})
        await live.api.post("/banned", json={"as": "clientid", "who": "bad", "until": "2040-01-01T00:00:00+00:00"})
        assert (await upload(live, file, name)).status_code == 204
        answer = await imported(live, name, node=NODE)
        assert (answer.status_code, answer.content) == (204, b"")
        after = await content(live)
        assert ("clientid", "other", "mine") in after["banned"]
        after["banned"].remove(("clientid", "other", "mine"))
        assert after == before
        assert await rest(c1) == []
        await c1.subscribe("house/#")
        door, light = sorted(await rest(c1), key=lambda message: message.topic_name)
        assert (door.payload, light.payload) == (b"\x00open", b"on")
        assert light.properties["user_property"] == [("a", "1"), ("a", "2")]
        assert light.properties["correlation_data"] == b"\x00\xff"
        assert 0 < light.properties["message_expiry_interval"] <= 1_000_000_000
        assert bad.disconnected is not None
        new = await live.connect("bad")
        assert new.connack.reason_code == 0x8A
    async with running(with_dir(tmp_path / "two"), store) as live:
        after = await content(live)
        after["banned"].remove(("clientid", "other", "mine"))
        assert after == before
        c1 = await live.connect("c2")
        await c1.subscribe("house/door")
        assert payloads(await rest(c1)) == [b"\x00open"]


@shows("POST /data/export")
async def test_some_of_it_can_be_chosen(tmp_path: Path, autojump_clock: object) -> None:
    async with running(with_dir(tmp_path)) as live:
        await fill(live)
        for body, roots, tables in (
            ({}, {"alarm", "mqtt"}, set(TABLE_SETS)),
            ({"root_keys": ["mqtt", "log"]}, {"mqtt"}, set(TABLE_SETS)),
            ({"root_keys": [], "table_sets": ["banned"]}, set(), {"banned"}),
            ({"table_sets": []}, {"alarm", "mqtt"}, set()),
        ):
            await trio.sleep(1)
            name = (await live.api.post("/data/export", json=body)).json()["filename"]
            found = backup_archive.read_archive(io.BytesIO((tmp_path / "backup" / name).read_bytes()))
            assert (set(found.settings), set(found.tables)) == (roots, tables)
            assert found.meta["node"] == NODE
        for body, word in (
            ({"root_keys": ["mqtt", "x"]}, "Invalid root keys: x"),
            ({"table_sets": ["x"]}, "Invalid table sets: x"),
        ):
            assert is_refused(await live.api.post("/data/export", json=body), 400, "BAD_REQUEST", word)
        wrong: list[Any] = [{"root_keys": "mqtt"}, {"unknown": 1}, []]
        for body in wrong:
            assert (await live.api.post("/data/export", json=body)).status_code == 400
        assert (await live.api.get("/data/files?limit=2&page=2")).json()["meta"]["count"] == 4


@shows("POST /data/export", "POST /data/import", "GET /data/files", "POST /data/files", "GET /data/files/:filename")
async def test_without_a_place_for_files(autojump_clock: object) -> None:
    async with running() as live:
        assert (await live.api.get("/data/files")).json()["data"] == []
        for answer in (
            await live.api.post("/data/export", json={}),
            await imported(live),
            await upload(live, archive({"META.json": META})),
            await live.api.get("/data/files/x.tar.gz"),
            await live.api.delete("/data/files/x.tar.gz"),
        ):
            assert is_refused(answer, 400, "BAD_REQUEST", "node.data_dir is empty")


@shows("DELETE /data/files/:filename", "GET /data/files/:filename", "POST /data/import", "GET /data/files")
async def test_files_that_there_are_not(tmp_path: Path, autojump_clock: object) -> None:
    (tmp_path / "secret.tar.gz").write_bytes(b"x")
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "link.tar.gz").symlink_to(tmp_path / "secret.tar.gz")
    (tmp_path / "backup" / "folder.tar.gz").mkdir()
    (tmp_path / "backup" / "other.txt").write_bytes(b"x")
    async with running(with_dir(tmp_path)) as live:
        for name in ("none.tar.gz", "link.tar.gz", "folder.tar.gz"):
            assert is_refused(await live.api.get(f"/data/files/{name}"), 404, "NOT_FOUND", name)
            assert is_refused(await live.api.delete(f"/data/files/{name}"), 404, "NOT_FOUND", name)
            assert is_refused(await imported(live, name), 400, "BAD_REQUEST", name)
        for name in (
            "..%2Fsecret.tar.gz",
            "%2Fetc%2Fpasswd",
            "other.txt",
            "x.tar",
            ".x.tar.gz",
            "%00.tar.gz",
            "%2E%2E",
        ):
            assert is_refused(await live.api.get(f"/data/files/{name}"), 400, "BAD_REQUEST", "name of a backup")
            assert is_refused(await live.api.delete(f"/data/files/{name}"), 400, "BAD_REQUEST", "name of a backup")
        for name in ("../secret.tar.gz", "/etc/passwd", "a/b.tar.gz", ""):
            assert is_refused(await imported(live, name), 400, "BAD_REQUEST", "name of a backup")
            assert is_refused(await upload(live, archive({"META.json": META}), name), 400, "BAD_REQUEST", "backup")
        assert (await live.api.get("/data/files")).json()["data"] == []
        assert (tmp_path / "secret.tar.gz").exists()


@shows("DELETE /data/files/:filename", "POST /data/files", "GET /data/files/:filename", "POST /data/import")
async def test_files_come_and_go(tmp_path: Path, autojump_clock: object) -> None:
    async with running(with_dir(tmp_path)) as live:
        for _ in range(2):  # one of the same name is replaced
            assert (await upload(live, archive({"META.json": META}))).status_code == 204
        assert [file["filename"] for file in (await live.api.get("/data/files")).json()["data"]] == ["x.tar.gz"]
        for method, path in (("GET", "/data/files/x.tar.gz"), ("DELETE", "/data/files/x.tar.gz")):
            answer = await live.api.request(method, path, params={"node": "other@x"})
            assert is_refused(answer, 400, "BAD_REQUEST", "other@x")
        assert is_refused(await imported(live, node="other@x"), 400, "BAD_REQUEST", "other@x")
        assert (await live.api.delete("/data/files/x.tar.gz", params={"node": NODE})).status_code == 204
        assert (await live.api.get("/data/files")).json()["data"] == []
        assert [path.name for path in (tmp_path / "backup").iterdir()] == []
        viewer = live.as_viewer()
        assert (await live.api.get("/data/files", auth=viewer)).status_code == 200
        for path in ("export", "import", "files"):
            assert (await live.api.post(f"/data/{path}", auth=viewer)).status_code == 403
        # Secrets are in it, which nobody is shown anywhere else.
        assert (await live.api.get("/data/files/x.tar.gz", auth=viewer)).status_code == 403
        assert (await live.api.post("/data/files", json={})).status_code == 415
        assert (await live.api.post("/data/import", json={})).status_code == 400


def member(name: str, kind: bytes, linkname: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, linkname
    return found


def bomb() -> bytes:
    """Of a header that says it is 2 GB long, and of what comes behind it."""
    huge = tarfile.TarInfo("x/META.json")
    huge.size = 2**31
    raw = io.BytesIO()
    with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=9) as file:
        file.write(huge.tobuf())
        for _ in range(3):
            file.write(bytes(2**20))
    return raw.getvalue()


BAN = {"kind": "clientid", "who": "x", "by": "me", "reason": "", "at": 1}
MESSAGE = {"topic": "t", "payload": "eA==", "qos": 0, "publish_at": 1}


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: b"", "tar.gz"),
        (lambda: b"PK\x03\x04", "tar.gz"),
        (lambda: archive({"META.json": META})[:-20], "tar.gz"),
        (lambda: gzip.compress(b"x" * 1000), "tar.gz"),
        (lambda: archive({"settings.json": {}}), "no META.json"),
        (lambda: archive({"META.json": "{"}), "META.json is not JSON"),
        (lambda: archive({"META.json": "[" * 100_000}), "META.json is not JSON"),
        (lambda: archive({"META.json": "[]"}), "META.json is not that"),
        (lambda: archive({"META.json": {**META, "format": "emqx"}}), "META.json is not that"),
        (lambda: archive({"META.json": {**META, "format_version": 2}}), "version 2"),
        (lambda: archive({"META.json": META, "settings.json": "x"}), "settings.json is not JSON"),
        (lambda: archive({"META.json": META, "settings.json": "[]"}), "settings.json is not a table"),
        (lambda: archive({"META.json": META, "tables/banned.jsonl": "{\n"}), "banned.jsonl:1 is not JSON"),
        (lambda: archive({"META.json": META, "../x": "1"}), "does not belong"),
        (lambda: archive({"META.json": META, "tables/../../x.jsonl": "1"}), "does not belong"),
        (lambda: archive({"META.json": META}, folder=""), "does not belong"),
        (lambda: archive({"META.json": META}, folder=".."), "does not belong"),
        (lambda: archive({"META.json": META}, folder="/etc"), "does not belong"),
        (lambda: archive({"META.json": META, "other": "1"}), "does not belong"),
        (lambda: archive({"l": member("x/META.json", tarfile.SYMTYPE, "/etc/passwd")}), "no plain file"),
        (lambda: archive({"l": member("x/META.json", tarfile.LNKTYPE, "x/y")}), "no plain file"),
        (lambda: archive({"l": member("x/META.json", tarfile.CHRTYPE)}), "no plain file"),
        (lambda: archive({"l": member("x/META.json", tarfile.FIFOTYPE)}), "no plain file"),
        (
            lambda: archive({"a": META, "META.json": META} | {f"tables/{'a' * n}.jsonl": "" for n in range(1, 60)}),
            "belong",
        ),
        (lambda: archive({f"d{n}": member("x", tarfile.DIRTYPE) for n in range(200)}), "more than 100 files"),
        (bomb, "tar.gz"),
    ],
)
@shows("POST /data/files", "POST /data/import")
async def test_no_archive_of_ours(make: Callable[[], bytes], word: str, tmp_path: Path, autojump_clock: object) -> None:
    """Neither kept when it is sent, nor imported when it lies there."""
    async with running(with_dir(tmp_path)) as live:
        assert is_refused(await upload(live, make()), 400, "BAD_REQUEST", word)
        assert not (tmp_path / "backup").exists()
        (tmp_path / "backup").mkdir()
        (tmp_path / "backup" / "x.tar.gz").write_bytes(make())
        assert is_refused(await imported(live), 400, "BAD_REQUEST", word)


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ({"settings.json": {"alarm": {"size_limit": 0}}}, "alarm.size_limit"),
        ({"settings.json": {"alarm": {"size_limit": 5}, "mqtt": {"no_such": 1}}}, "mqtt.no_such"),
        ({"settings.json": {"nothing": {}}}, "does not know: nothing"),
        ({"settings.json": {"alarm": 1}}, "alarm"),
        ({"settings.json": {"node": {"name": "x@y"}}}, "node"),
        ({"tables/unknown.jsonl": []}, "table set unknown"),
        ({"tables/banned.jsonl": [BAN, {**BAN, "kind": "x"}]}, "banned, row 2"),
        ({"tables/banned.jsonl": [{**BAN, "kind": "peerhost", "who": "nobody"}]}, "banned, row 1"),
        ({"tables/banned.jsonl": [{**BAN, "kind": "clientid_re", "who": "("}]}, "banned, row 1"),
        ({"tables/banned.jsonl": [{**BAN, "more": 1}]}, "banned, row 1"),
        ({"tables/banned.jsonl": [1]}, "banned, row 1"),
        ({"tables/builtin_retainer.jsonl": [{**MESSAGE, "topic": "t/#"}]}, "builtin_retainer, row 1"),
        ({"tables/builtin_retainer.jsonl": [{**MESSAGE, "topic": ""}]}, "builtin_retainer, row 1"),
        ({"tables/builtin_retainer.jsonl": [{**MESSAGE, "qos": 3}]}, "builtin_retainer, row 1"),
        ({"tables/builtin_retainer.jsonl": [{**MESSAGE, "payload": ""}]}, "builtin_retainer, row 1"),
        ({"tables/builtin_retainer.jsonl": [{**MESSAGE, "payload": "***"}]}, "builtin_retainer, row 1"),
        ({"tables/builtin_retainer.jsonl": [{**MESSAGE, "publish_at": -1}]}, "builtin_retainer, row 1"),
        ({"tables/builtin_retainer.jsonl": [{**MESSAGE, "properties": {"topic_alias": 1}}]}, "builtin_retainer, row 1"),
        ({"tables/builtin_retainer.jsonl": [{**MESSAGE, "properties": {"user_property": [["a"]]}}]}, "row 1"),
    ],
)
@shows("POST /data/import")
async def test_of_what_is_wrong_nothing_is_taken(
    files: dict[str, Any], word: str, tmp_path: Path, autojump_clock: object
) -> None:
    good = {
        "settings.json": {"alarm": {"size_limit": 7}},
        "tables/banned.jsonl": [BAN],
        "tables/builtin_retainer.jsonl": [MESSAGE],
    }
    store = MemoryStore()
    async with running(with_dir(tmp_path), store) as live:
        before = await content(live)
        assert (await upload(live, archive({"META.json": META, **good, **files}))).status_code == 204
        assert is_refused(await imported(live), 400, "BAD_REQUEST", word)
        assert await content(live) == before
    async with running(with_dir(tmp_path), store) as live:
        assert await content(live) == before
        assert (await upload(live, archive({"META.json": META, **good}))).status_code == 204
        assert (await imported(live)).status_code == 204
        after = await content(live)
        assert (after["config"]["alarm"]["size_limit"], list(after["retained"])) == (7, ["t"])


@shows("POST /data/import")
async def test_what_the_environment_says_is_not_imported(tmp_path: Path, autojump_clock: object) -> None:
    layers = Layers.gather(None, {"TRIO_BROKER_ALARM__SIZE_LIMIT": "9"}, base=with_dir(tmp_path))
    async with running(layers.config(), layers=layers) as live:
        await upload(live, archive({"META.json": META, "settings.json": {"alarm": {"size_limit": 7}}}))
        assert is_refused(await imported(live), 400, "BAD_REQUEST", "alarm")


async def test_what_is_over_is_left_behind(tmp_path: Path, autojump_clock: object) -> None:
    async with running(with_dir(tmp_path)) as live:
        tables = {
            "tables/banned.jsonl": [{**BAN, "until": 5}],
            "tables/builtin_retainer.jsonl": [{**MESSAGE, "expires_at": 5}],
        }
        await upload(live, archive({"META.json": META, **tables}))
        assert (await imported(live)).status_code == 204
        after = await content(live)
        assert (after["banned"], after["retained"]) == ([], {})


async def test_many_rows(tmp_path: Path, autojump_clock: object) -> None:
    store = MemoryStore()
    async with running(with_dir(tmp_path), store) as live:
        tables = {
            "tables/banned.jsonl": [{**BAN, "who": f"c{number}"} for number in range(300)],
            "tables/builtin_retainer.jsonl": [{**MESSAGE, "topic": f"t/{number}"} for number in range(300)],
        }
        await upload(live, archive({"META.json": META, **tables}))
        assert (await imported(live)).status_code == 204
        assert (await live.api.post("/data/export", json={})).status_code == 200
    async with running(with_dir(tmp_path), store) as live:
        assert (await live.api.get("/mqtt/retainer/messages")).json()["meta"]["count"] == 300
        assert len((await live.api.get("/banned?limit=1000")).json()["data"]) == 300


def test_an_archive_is_not_read_beyond_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in its files nor in headers that say how long they are."""
    monkeypatch.setattr(backup_archive, "LARGEST", 200_000)
    big = archive({"META.json": META, "settings.json": {"a": "x" * 300_000}})
    assert len(big) < 10_000
    pax = tarfile.TarInfo("x/META.json")
    pax.pax_headers = {"comment": "x" * 300_000}
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(pax)
    for data in (big, raw.getvalue()):
        with pytest.raises(backup_archive.ArchiveError, match="more in it than"):
            backup_archive.read_archive(io.BytesIO(data))


def sparse(size: int) -> bytes:
    """A file that is all hole: so many zeros, of which none is in the archive."""
    header = tarfile.TarInfo("x/META.json")
    header.type = tarfile.GNUTYPE_SPARSE
    raw = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    raw[386:398], raw[398:410] = b"%011o\0" % size, b"%011o\0" % 0
    raw[483:495] = b"%011o\0" % size
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return gzip.compress(bytes(raw) + bytes(1024))


def test_holes_in_a_file_are_not_filled() -> None:
    with pytest.raises(backup_archive.ArchiveError, match="no plain file"):
        backup_archive.read_archive(io.BytesIO(sparse(2**20)))


@pytest.mark.parametrize("name", ["META.json", "settings.json"])
def test_what_is_read_at_once_is_small(name: str) -> None:
    """JSON takes many times its size when it is read."""
    files = {"META.json": META, name: "[" + "[]," * 500_000 + "[]]"}
    with pytest.raises(backup_archive.ArchiveError, match=f"{name} is larger than"):
        backup_archive.read_archive(io.BytesIO(archive(files)))


def test_rows_are_not_read_before_it_is_known_what_they_are() -> None:
    row = b"[" + b"[]," * 1000 + b"[]]"
    contents = backup_archive.read_archive(io.BytesIO(archive({"META.json": META, "tables/banned.jsonl": row})))
    assert contents.tables == {"banned": row}


@shows("POST /data/import")
async def test_a_ban_that_is_replaced_is_in_force_all_the_time(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore()

    async def late(within: float = 0) -> None:
        await trio.lowlevel.checkpoint()
        raise AskTimeout("the store did not keep it")

    async with running(with_dir(tmp_path), store) as live:
        assert (await live.api.post("/banned", json={"as": "clientid", "who": "x"})).status_code == 200
        await upload(live, archive({"META.json": META, "tables/banned.jsonl": [BAN]}))
        monkeypatch.setattr(live.broker._core, "durable", late)
        answer = await imported(live)
        assert (answer.status_code, answer.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert [row["who"] for row in (await live.api.get("/banned")).json()["data"]] == ["x"]
    async with running(with_dir(tmp_path), store) as live:
        assert [row["by"] for row in (await live.api.get("/banned")).json()["data"]] == ["me"]


async def test_who_is_banned_by_an_import_is_kicked(tmp_path: Path, autojump_clock: object) -> None:
    async with running(with_dir(tmp_path)) as live:
        await live.connect("x")
        await live.connect("y")
        await upload(live, archive({"META.json": META, "tables/banned.jsonl": [BAN, {**BAN, "who": "z"}]}))
        assert (await imported(live)).status_code == 204
        assert [row["clientid"] for row in (await live.api.get("/clients")).json()["data"]] == ["y"]


@shows("POST /data/export", "POST /data/import")
async def test_limits_and_a_disk_that_refuses(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(with_dir(tmp_path)) as live:
        await upload(live, archive({"META.json": META}))
        monkeypatch.setattr(data_backup, "LARGEST_FILE", 10)
        assert is_refused(await imported(live), 400, "BAD_REQUEST", "larger than")
        monkeypatch.setattr(backup_archive, "LARGEST", 10)
        assert is_refused(await live.api.post("/data/export"), 400, "BAD_REQUEST", "trio-broker backup")

        def refuse(*_: object) -> int:
            raise OSError(28, "No space left on device", "backup")

        monkeypatch.setattr(data_backup, "write_archive", refuse)
        answer = await live.api.post("/data/export")
        assert is_refused(answer, 503, "SERVICE_UNAVAILABLE", "No space left on device")
        assert [path.name for path in (tmp_path / "backup").iterdir()] == ["x.tar.gz"]


@shows("POST /data/export", "POST /data/files")
async def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    async with running(with_dir(tmp_path)) as live:
        monkeypatch.setattr("os.fsync", full)
        for answer in (await live.api.post("/data/export"), await upload(live, archive({"META.json": META}))):
            assert is_refused(answer, 503, "SERVICE_UNAVAILABLE", "No space left on device")
        assert list((tmp_path / "backup").iterdir()) == []


@shows("POST /data/import")
async def test_a_store_that_cannot_be_written(tmp_path: Path, autojump_clock: object) -> None:
    store = MemoryStore()
    async with running(with_dir(tmp_path), store) as live:
        await upload(live, archive({"META.json": META, "tables/builtin_retainer.jsonl": [MESSAGE]}))
        store.failure = "it is full"
        answer = await imported(live)
        assert (answer.status_code, answer.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert (await content(live))["retained"] == {}
        store.failure = None
        assert (await imported(live)).status_code == 204
