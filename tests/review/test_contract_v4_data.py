"""The contract of `/api/v4`, read afresh: files of data, telemetry, figures for Prometheus."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from api.operations import shows
from review.doors_v4 import NODE, data, done, doors, got, refused
from trio.testing import MockClock

from trio_broker.config import Config, NodeConfig

FILE = {"filename", "size", "created_at", "node"}
CREATED = re.compile(r"\d{4}-\d{1,2}-\d{1,2} \d{1,2}:\d{1,2}:\d{1,2}")
GROUPS = {"stats", "metrics", "packets", "messages", "delivery", "client", "session"}
PROMETHEUS = "/emqx_prometheus"


def in_folder(path: Path) -> Config:
    return Config(node=NodeConfig(data_dir=str(path)))


@shows("POST /api/v4/data/export", "GET /api/v4/data/export")
async def test_exports(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with doors(in_folder(tmp_path)) as at:
        assert await got(at.app, "/data/export") == []
        row = data(await at.app.post("/data/export"))
        assert row.keys() == FILE
        assert re.search(r"export-\d{4}-\d{1,2}-\d{1,2}-\d{1,2}-\d{1,2}-\d{1,2}", row["filename"])
        assert type(row["size"]) is int
        assert row["size"] > 0
        assert CREATED.fullmatch(row["created_at"])
        assert row["node"] == NODE
        assert await got(at.app, "/data/export") == [row]


@shows(
    "POST /api/v4/data/import",
    "POST /api/v4/data/file",
    "GET /api/v4/data/file/:filename",
    "DELETE /api/v4/data/file/:filename",
)
async def test_there_and_back(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with doors(in_folder(tmp_path)) as at:
        done(await at.app.put(f"/nodes/{NODE}/plugins/emqx_auth_mnesia/load"))
        done(await at.app.post("/auth_username", json={"username": "u1", "password": "secret"}))
        done(await at.app.post("/topic-metrics", json={"topic": "kept"}))
        name = data(await at.app.post("/data/export"))["filename"]
        answer = await at.app.get(f"/data/file/{name}")
        assert answer.status_code == 200
        file = answer.json()
        assert file.keys() == {"filename", "file"}
        assert file["filename"] == name
        assert isinstance(file["file"], str)
        done(await at.app.delete(f"/data/file/{name}"))
        assert await got(at.app, "/data/export") == []
        refused(await at.app.post("/data/import", json={"filename": name}), 102)
        done(await at.app.delete("/auth_username/u1"))
        done(await at.app.delete("/topic-metrics"))
        assert data(await at.app.post("/data/file", json=file)) == {"node": NODE}
        [row] = await got(at.app, "/data/export")
        assert row["filename"] == name
        done(await at.app.post("/data/import", json={"filename": name}))
        assert (await got(at.app, "/auth_username/u1"))["username"] == "u1"
        assert {row["topic"] for row in await got(at.app, "/topic-metrics")} == {"kept"}
        done(await at.app.post("/data/import", json={"filename": name, "node": NODE}))


@shows("POST /api/v4/data/import", "POST /api/v4/data/file", "GET /api/v4/data/file/:filename")
async def test_files_that_are_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with doors(in_folder(tmp_path / "data")) as at:
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "secret.tar.gz").write_bytes(b"secret")
        name = data(await at.app.post("/data/export"))["filename"]
        for bad in ("nothing", "../secret.tar.gz", "/etc/passwd", "..", "a\0b", "nothing.tar.gz"):
            refused(await at.app.post("/data/import", json={"filename": bad}), (102, 108))
            refused(await at.app.post("/data/file", json={"filename": bad, "file": "AAAA"}), (102, 108))
        for path in ("nothing.tar.gz", "..%2Fsecret.tar.gz", "%2Fetc%2Fpasswd", "..%2F..%2Fsecret.tar.gz"):
            refused(await at.app.get(f"/data/file/{path}"), 102)
            refused(await at.app.delete(f"/data/file/{path}"), 102)
        assert (tmp_path / "secret.tar.gz").exists()
        refused(await at.app.post("/data/import", json={}), 107)
        refused(await at.app.post("/data/import", json={"filename": 5}), 108)
        refused(await at.app.post("/data/import", json={"filename": name, "node": "x@127.0.0.1"}), (101, 102))
        refused(await at.app.post("/data/import", json={"version": "4.4", "rules": []}), 102)
        bad_files: list[dict[str, Any]] = [{"filename": name}, {"file": "AAAA"}, {}]
        for missing in bad_files:
            refused(await at.app.post("/data/file", json=missing), (102, 107))


@shows("GET /api/v4/telemetry/status", "PUT /api/v4/telemetry/status", "GET /api/v4/telemetry/data")
async def test_telemetry(autojump_clock: MockClock) -> None:
    async with doors() as at:
        assert await got(at.app, "/telemetry/status") == {"enabled": False}
        done(await at.app.put("/telemetry/status", json={"enabled": False}))
        refused(await at.app.put("/telemetry/status", json={"enabled": True}), 102)
        refused(await at.app.put("/telemetry/status", json={}), 107)
        refused(await at.app.put("/telemetry/status", json={"enabled": 5}), 108)
        assert await got(at.app, "/telemetry/status") == {"enabled": False}
        assert isinstance(await got(at.app, "/telemetry/data"), dict)


@shows("GET /api/v4/emqx_prometheus")
async def test_prometheus(autojump_clock: MockClock) -> None:
    async with doors() as at:
        c1 = await at.live.connect("c1")
        await c1.subscribe("t", 1)
        await c1.publish("t", b"x", 1)
        with_login = await at.app.get(PROMETHEUS)
        for answer in (
            await at.app.get(PROMETHEUS, auth=None),
            await at.user.get(f"{PROMETHEUS}?type=json", auth=None),
        ):
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "application/json"
            found = answer.json()
            assert found.keys() == GROUPS
            assert found.keys() == with_login.json().keys()
            for group in found.values():
                assert group
                for name, value in group.items():
                    assert name.startswith("emqx_")
                    assert isinstance(value, int | float)
            assert found["stats"]["emqx_connections_count"] == 1
            assert found["stats"]["emqx_subscriptions_count"] == 1
            assert found["packets"]["emqx_packets_publish_received"] == 1
            assert found["messages"]["emqx_messages_received"] == 1
            assert found["client"]["emqx_client_connected"] == 1
            assert found["session"]["emqx_session_created"] == 1


@shows("GET /api/v4/emqx_prometheus")
async def test_prometheus_as_text(autojump_clock: MockClock) -> None:
    async with doors() as at:
        await at.live.connect("c1")
        answer = await at.app.get(PROMETHEUS, params={"type": "prometheus"}, auth=None)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        text = answer.text
        figures = {
            line.split()[0].split("{")[0]: float(line.split()[-1])
            for line in text.splitlines()
            if line and not line.startswith("#")
        }
        assert figures["emqx_connections_count"] == 1
        assert figures["emqx_packets_received"] == 1
        whole = (await at.app.get(PROMETHEUS, auth=None)).json()
        assert {name for group in whole.values() for name in group} <= figures.keys()
        for line in text.splitlines():
            assert line.startswith(("# HELP ", "# TYPE ", "emqx_"))
        refused(await at.app.get(PROMETHEUS, params={"type": "x"}, auth=None), 108)
