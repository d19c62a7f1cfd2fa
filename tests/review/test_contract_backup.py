"""The REST contract, read afresh: data backup, and slow subscriptions."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from api.live import Live, running
from api.operations import shows
from attrs import evolve
from review.contract import NODE, TIME_S, done, failed, got, post
from trio.testing import MockClock

from trio_broker.config import Config, NodeConfig
from trio_broker.store.memory import MemoryStore

SETTINGS, SLOW = "/slow_subscriptions/settings", "/slow_subscriptions"
DEFAULTS: dict[str, Any] = {
    "enable": False,
    "threshold": "500ms",
    "expire_interval": "300s",
    "top_k_num": 10,
    "stats_type": "whole",
}


def with_dir(folder: Path) -> Config:
    folder.mkdir(exist_ok=True)
    return evolve(Config(), node=NodeConfig(data_dir=str(folder)))


async def exported(live: Live, **body: Any) -> dict[str, Any]:
    answer = await live.api.post("/data/export", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def upload(live: Live, name: str, content: bytes) -> int:
    return (await live.api.post("/data/files", files={"filename": (name, content)})).status_code


async def without_ids(live: Live, path: str) -> Any:
    """What an import makes may have a message id of its own."""
    found = await got(live, path)
    if path == "/mqtt/retainer/messages":
        for row in found["data"]:
            del row["msgid"]
    return found


# No mock clock where files are written: it would jump over years while a thread writes.
RULES = [{"action": "all", "source_topic": "x/#", "re": "^x/(.+)$", "dest_topic": "y/$1"}]


@shows("POST /data/export", "GET /data/files", "GET /data/files/:filename", "POST /data/files", "POST /data/import")
async def test_an_export_has_the_same_effect_elsewhere(tmp_path: Path) -> None:
    async with running(with_dir(tmp_path / "a")) as live:
        await live.api.post("/banned", json={"as": "clientid_re", "who": "^bad", "reason": "r", "until": 4102444800})
        await post(live, "kept", "payload", retain=True, qos=1)
        await live.api.put("/mqtt/topic_rewrite", json=RULES)
        await live.api.put("/mqtt/auto_subscribe", json=[{"topic": "c/${clientid}", "qos": 1}])
        await live.api.post("/mqtt/topic_metrics", json={"topic": "y/1"})
        await live.api.put("/mqtt/delayed", json={"enable": True, "max_delayed_messages": 3})
        await live.api.put(SETTINGS, json={**DEFAULTS, "threshold": "2s"})
        await live.api.put("/configs/global_zone", json={"mqtt": {"max_inflight": 5}})
        await live.api.put("/mqtt/retainer", json={"max_payload_size": "2KB"})
        told = await exported(live)
        assert told.keys() == {"filename", "node", "created_at", "created_at_sec", "size"}
        assert told["filename"].endswith(".tar.gz")
        assert (told["node"], bool(TIME_S.fullmatch(told["created_at"]))) == (NODE, True)
        listing = await got(live, "/data/files")
        assert [row["filename"] for row in listing["data"]] == [told["filename"]]
        assert {"filename", "node", "created_at", "size"} <= listing["data"][0].keys()
        assert listing["meta"] == {"page": 1, "limit": 100, "count": 1, "hasnext": False}
        answer = await live.api.get(f"/data/files/{told['filename']}", params={"node": NODE})
        assert (answer.status_code, len(answer.content)) == (200, told["size"])
        with tarfile.open(fileobj=io.BytesIO(answer.content), mode="r:gz") as archive:
            assert archive.getnames()
        paths = ["/banned", "/mqtt/topic_rewrite", "/mqtt/auto_subscribe", "/mqtt/delayed", "/mqtt/retainer"]
        paths += [SETTINGS, "/configs/global_zone", "/mqtt/retainer/messages"]
        before = [await without_ids(live, path) for path in paths]
    store = MemoryStore()
    async with running(with_dir(tmp_path / "b"), store) as live:
        old = await live.connect("bad-1")
        assert await upload(live, told["filename"], answer.content) == 204
        body = {"filename": told["filename"], "node": NODE}
        done(await live.api.post("/data/import", json=body))
        assert [await without_ids(live, path) for path in paths] == before
        assert [row["topic"] for row in await got(live, "/mqtt/topic_metrics")] == ["y/1"]
        del old
        assert (await live.connect("bad-2")).connack.reason_code == 0x8A
    async with running(with_dir(tmp_path / "b"), store) as live:
        assert [await without_ids(live, path) for path in paths] == before
        good = await live.connect("good")
        await good.subscribe("x/#")
        await good.subscribe("kept")
        with trio.fail_after(600):
            assert (await good.receive()).payload == b"payload"
        await post(live, "x/1", "rewritten")
        with trio.fail_after(600):
            assert (await good.receive()).topic_name == "y/1"


@shows("POST /data/export", "POST /data/import", "GET /data/files/:filename", "DELETE /data/files/:filename")
async def test_what_goes_wrong(tmp_path: Path) -> None:
    async with running(with_dir(tmp_path)) as live:
        for bad in ({"root_keys": ["nothing"]}, {"table_sets": ["nothing"]}, {"more": 1}, {"root_keys": 5}):
            failed(await live.api.post("/data/export", json=bad), 400, "BAD_REQUEST")
        assert (await live.api.post("/data/export")).status_code == 200
        for body in ({}, {"filename": "none.tar.gz"}, {"filename": "../x.tar.gz"}, {"filename": 1}):
            failed(await live.api.post("/data/import", json=body), 400, "BAD_REQUEST")
        assert await upload(live, "bad.tar.gz", b"no archive") == 400
        failed(await live.api.get("/data/files/none.tar.gz"), 404, "NOT_FOUND")
        failed(await live.api.delete("/data/files/none.tar.gz"), 404, "NOT_FOUND")
        (name,) = [row["filename"] for row in (await got(live, "/data/files"))["data"]]
        viewer = live.as_viewer()
        for answer in (
            await live.api.post("/data/export", json={}, auth=viewer),
            await live.api.post("/data/import", json={"filename": name}, auth=viewer),
            await live.api.delete(f"/data/files/{name}", auth=viewer),
        ):
            failed(answer, 403, "UNAUTHORIZED_ROLE")
        done(await live.api.delete(f"/data/files/{name}", params={"node": NODE}))
        assert (await got(live, "/data/files"))["data"] == []


@shows("POST /data/export")
async def test_a_part_of_it(tmp_path: Path) -> None:
    async with running(with_dir(tmp_path / "a")) as live:
        await live.api.post("/banned", json={"as": "clientid", "who": "x"})
        await live.api.put("/mqtt/topic_rewrite", json=RULES)
        await live.api.put("/mqtt/delayed", json={"enable": False, "max_delayed_messages": 3})
        await post(live, "kept", "payload", retain=True)
        told = await exported(live, root_keys=["rewrite"], table_sets=["banned"])
        content = (await live.api.get(f"/data/files/{told['filename']}")).content
    async with running(with_dir(tmp_path / "b")) as live:
        assert await upload(live, told["filename"], content) == 204
        done(await live.api.post("/data/import", json={"filename": told["filename"]}))
        assert await got(live, "/mqtt/topic_rewrite") == RULES
        assert [row["who"] for row in (await got(live, "/banned"))["data"]] == ["x"]
        assert (await got(live, "/mqtt/delayed"))["enable"] is True
        assert (await got(live, "/mqtt/retainer/messages"))["data"] == []


@shows("GET /slow_subscriptions/settings", "PUT /slow_subscriptions/settings")
async def test_settings(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    wanted = {
        "enable": True,
        "threshold": "1s",
        "expire_interval": "1m",
        "top_k_num": 1000,
        "stats_type": "response",
    }
    async with running(store=store) as live:
        assert await got(live, SETTINGS) == DEFAULTS
        answer = await live.api.put(SETTINGS, json=wanted)
        assert (answer.status_code, answer.json()) == (200, wanted)
        for bad in (
            {"top_k_num": 0},
            {"top_k_num": 1001},
            {"stats_type": "dance"},
            {"threshold": "x"},
            {"enable": 5},
            {"more": 1},
        ):
            failed(await live.api.put(SETTINGS, json=bad), 400, "BAD_REQUEST")
    async with running(store=store) as live:
        assert await got(live, SETTINGS) == wanted


@shows("PUT /slow_subscriptions/settings", "GET /slow_subscriptions/settings")
@pytest.mark.parametrize("text", ["300s", "60s", "24h", "90m", "1500ms"])
async def test_durations_are_shown_as_they_were_given(text: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        answer = await live.api.put(SETTINGS, json={**DEFAULTS, "expire_interval": text})
        assert answer.status_code == 200
        assert (await got(live, SETTINGS))["expire_interval"] == text


@contextmanager
def guard() -> Iterator[None]:
    with trio.fail_after(600):
        yield


@shows("GET /slow_subscriptions", "DELETE /slow_subscriptions")
@pytest.mark.parametrize("level", [3, 4, 5])
async def test_the_list(level: int, autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.api.put(SETTINGS, json={**DEFAULTS, "enable": True, "top_k_num": 2})
        slow = await live.connect("slow", level=level, auto_ack=False)
        await slow.subscribe("t/#", 1)
        for topic, wait in (("t/1", 1), ("t/2", 3), ("t/3", 2), ("t/quick", 0)):
            await post(live, topic, qos=1)
            with guard():
                message = await slow.receive()
            if wait:
                await trio.sleep(wait)
            slow.acknowledge(message)
            await slow.ping()
        body = await got(live, SLOW, page=1, limit=1)
        assert body.keys() == {"data"}
        assert [row["topic"] for row in body["data"]] == ["t/2", "t/3"]
        row = body["data"][0]
        assert row.keys() == {"clientid", "node", "topic", "timespan", "last_update_time"}
        assert (row["clientid"], row["node"]) == ("slow", NODE)
        assert isinstance(row["timespan"], int)
        assert 2900 <= row["timespan"] < 4000
        assert isinstance(row["last_update_time"], int)
        assert row["last_update_time"] > 10**12
        done(await live.api.delete(SLOW))
        assert await got(live, SLOW) == {"data": []}
        await post(live, "t/1", qos=1)
        with guard():
            message = await slow.receive()
        await trio.sleep(1)
        slow.acknowledge(message)
        await slow.ping()
        assert len((await got(live, SLOW))["data"]) == 1
        await trio.sleep(400)
        assert await got(live, SLOW) == {"data": []}  # it expires
