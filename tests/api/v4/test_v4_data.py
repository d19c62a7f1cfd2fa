"""`/data` of EMQX 4: export, import, and the files, which are archives of this broker in base64."""

from __future__ import annotations

import base64
import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
from api.live import VIEWER, running
from api.older import older
from api.operations import shows

from trio_broker.actors import data_backup
from trio_broker.config import Config, Layers, NodeConfig

NODE = "trio_broker@127.0.0.1"
EMQX_EXPORT = {"version": "4.4", "date": "2020-09-04 10:24:16", "rules": [], "users": [], "auth_mnesia": []}


def with_dir(folder: Path) -> Config:
    return attrs.evolve(Config(), node=NodeConfig(data_dir=str(folder)))


def archive(settings: Any) -> str:
    """As base64."""
    raw = io.BytesIO()
    meta = {"format": "trio-broker-export", "format_version": 1}
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, value in (("META.json", meta), ("settings.json", settings)):
            data = json.dumps(value).encode()
            member = tarfile.TarInfo(f"x/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return base64.b64encode(raw.getvalue()).decode()


async def post(v4: httpx.AsyncClient, path: str, body: Any = None) -> Any:
    answer = await v4.post(path, json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return answer.json()


@shows(
    "POST /api/v4/data/export",
    "GET /api/v4/data/export",
    "POST /api/v4/data/import",
    "POST /api/v4/data/file",
    "GET /api/v4/data/file/:filename",
    "DELETE /api/v4/data/file/:filename",
)
async def test_what_is_exported_is_taken_over_by_another_broker(tmp_path: Path, autojump_clock: object) -> None:
    async with running(with_dir(tmp_path / "one")) as live, older(live, "v4") as v4:
        assert (await v4.get("/data/export")).json() == {"code": 0, "data": []}
        await live.api.put("/configs/alarm", json={"size_limit": 7})
        await live.api.post("/banned", json={"as": "clientid", "who": "bad"})
        answer = await post(v4, "/data/export")
        shown = answer["data"]
        sample = {"filename": "emqx-export.json", "size": 350, "created_at": "2020-9-4 10:24:16", "node": "..."}
        assert (set(answer), answer["code"]) == ({"code", "data"}, 0)
        assert {key: type(value) for key, value in shown.items()} == {key: type(value) for key, value in sample.items()}
        assert shown["node"] == NODE
        assert re.fullmatch(r"20\d\d-[1-9]\d?-[1-9]\d? \d\d?:\d\d?:\d\d?", shown["created_at"])
        assert not re.search(r"[- :]0\d", shown["created_at"]), "numbers are not filled up with zeros"
        assert (await v4.get("/data/export", auth=VIEWER)).json() == {"code": 0, "data": [shown]}
        answer = await v4.get(f"/data/file/{shown['filename']}")
        file = answer.json()
        assert set(file) == {"filename", "file"}, "without an envelope"
        assert file["filename"] == shown["filename"]
        assert len(base64.b64decode(file["file"])) == shown["size"]
    async with running(with_dir(tmp_path / "two")) as live, older(live, "v4") as v4:
        assert await post(v4, "/data/file", file) == {"code": 0, "data": {"node": NODE}}
        assert await post(v4, "/data/import", {"filename": file["filename"], "node": NODE}) == {"code": 0}
        assert (await live.api.get("/configs/alarm")).json()["size_limit"] == 7
        assert [row["who"] for row in (await live.api.get("/banned")).json()["data"]] == ["bad"]
        answer = await v4.delete(f"/data/file/{file['filename']}")
        assert (answer.status_code, answer.json()) == (200, {"code": 0})
        assert (await v4.get("/data/export")).json()["data"] == []


async def test_base64_may_have_lines(tmp_path: Path, autojump_clock: object) -> None:
    async with running(with_dir(tmp_path)) as live, older(live, "v4") as v4:
        text = archive({"alarm": {"size_limit": 7}})
        lines = "\n".join(text[at : at + 76] for at in range(0, len(text), 76)) + "\n"
        assert (await post(v4, "/data/file", {"filename": "a.tar.gz", "file": lines}))["code"] == 0
        assert await post(v4, "/data/import", {"filename": "a.tar.gz"}) == {"code": 0}
        assert (await live.api.get("/configs/alarm")).json()["size_limit"] == 7


async def test_exports_of_emqx_are_refused(tmp_path: Path, autojump_clock: object) -> None:
    async with running(with_dir(tmp_path)) as live, older(live, "v4") as v4:
        for path, body in (
            ("/data/import", EMQX_EXPORT),
            ("/data/file", {"filename": "emqx-export-2020-9-4-10-24-16.json", "file": json.dumps(EMQX_EXPORT)}),
        ):
            answer = await post(v4, path, body)
            assert answer["code"] == 102
            assert "Exports of EMQX cannot be imported" in answer["message"]
        assert not (tmp_path / "backup").exists()


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a",
        "a.json",
        ".tar.gz",
        "../a.tar.gz",
        "..%2Fa.tar.gz",
        "/etc/passwd",
        "a/b.tar.gz",
        "a\n.tar.gz",
        "\0.tar.gz",
    ],
)
async def test_names_lead_nowhere_else(tmp_path: Path, autojump_clock: object, name: str) -> None:
    (tmp_path / "a.tar.gz").write_bytes(base64.b64decode(archive({})))
    async with running(with_dir(tmp_path)) as live, older(live, "v4") as v4:
        (tmp_path / "backup").mkdir()
        before = sorted(path.name for path in tmp_path.rglob("*"))
        assert (await post(v4, "/data/file", {"filename": name, "file": archive({})}))["code"] == 102
        assert (await post(v4, "/data/import", {"filename": name}))["code"] == 102
        if name:
            path = "/data/file/" + "".join(f"%{byte:02X}" for byte in name.encode())
            for answer in (await v4.get(path), await v4.delete(path)):
                assert (answer.status_code, answer.json()["code"]) == (200, 102)
        assert sorted(path.name for path in tmp_path.rglob("*")) == before


async def test_what_is_missing_or_of_a_wrong_type(tmp_path: Path, autojump_clock: object) -> None:
    async with running(with_dir(tmp_path)) as live, older(live, "v4") as v4:
        for path, body, code in (
            ("/data/import", None, 107),
            ("/data/import", {}, 107),
            ("/data/import", {"filename": 5}, 108),
            ("/data/import", {"filename": "a.tar.gz", "node": []}, 108),
            ("/data/file", {}, 107),
            ("/data/file", {"filename": "a.tar.gz"}, 107),
            ("/data/file", {"file": ""}, 107),
            ("/data/file", {"filename": 5, "file": ""}, 108),
        ):
            assert (await post(v4, path, body))["code"] == code, (path, body)
        answer = await v4.post("/data/import", content="{")
        assert (answer.status_code, answer.json()) == (400, {"code": 109, "message": "Bad Request"})


async def test_what_cannot_be_done_says_why(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = Layers.gather(None, {"TRIO_BROKER_ALARM__SIZE_LIMIT": "9"}, base=with_dir(tmp_path))
    async with running(layers.config(), layers=layers) as live, older(live, "v4") as v4:
        not_here = {"filename": "a.tar.gz", "node": "emqx@10.0.0.1"}
        assert await post(v4, "/data/import", not_here) == {"code": 102, "message": "no_existent_node"}
        answer = await post(v4, "/data/import", {"filename": "none.tar.gz"})
        assert answer == {"code": 102, "message": "File not found: none.tar.gz"}
        for request in (v4.get("/data/file/none.tar.gz"), v4.delete("/data/file/none.tar.gz")):
            assert (await request).json() == {"code": 102, "message": "File not found: none.tar.gz"}
        answer = await post(v4, "/data/file", {"filename": "a.tar.gz", "file": base64.b64encode(b"x").decode()})
        assert (answer["code"], "tar.gz" in answer["message"]) == (102, True)
        for settings, word in (({"alarm": {"size_limit": 7}}, "alarm"), ({"nothing": {}}, "does not know: nothing")):
            await post(v4, "/data/file", {"filename": "a.tar.gz", "file": archive(settings)})
            answer = await post(v4, "/data/import", {"filename": "a.tar.gz"})
            assert (answer["code"], word in answer["message"]) == (102, True)

        def refuse(*_: object) -> int:
            raise OSError(28, "No space left on device", "backup")

        monkeypatch.setattr(data_backup, "write_archive", refuse)
        answer = await post(v4, "/data/export")
        assert answer == {"code": 102, "message": "No space left on device: backup"}


async def test_without_a_place_for_files(autojump_clock: object) -> None:
    async with running() as live, older(live, "v4") as v4:
        answer = await post(v4, "/data/export")
        assert (answer["code"], "node.data_dir" in answer["message"]) == (102, True)
        assert (await v4.get("/data/export")).json() == {"code": 0, "data": []}


async def test_secrets_are_not_for_viewers(tmp_path: Path, autojump_clock: object) -> None:
    async with running(with_dir(tmp_path)) as live, older(live, "v4") as v4:
        name = (await post(v4, "/data/export"))["data"]["filename"]
        for answer in (
            await v4.get(f"/data/file/{name}", auth=VIEWER),
            await v4.delete(f"/data/file/{name}", auth=VIEWER),
            await v4.post("/data/export", auth=VIEWER),
            await v4.post("/data/import", json={"filename": name}, auth=VIEWER),
        ):
            assert answer.status_code == 403
        assert (await v4.get("/data/export", auth=VIEWER)).json()["data"][0]["filename"] == name
