"""The REST contract, read afresh: API keys, how they are made, changed and ended, and what becomes of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import trio
from api.live import ADMIN, PASSWORD, running
from api.operations import shows
from review.contract import TIME_S, done, failed
from review.credentials import (
    KEYS,
    LOOK,
    USERS,
    WEAK_KEY,
    cheap_hashes,
    deleted,
    got_as,
    later,
    new_key,
    pair,
    works,
    wrong_key,
)
from trio.testing import MockClock

from trio_broker.config import ApiKeyConfig, Config, DashboardConfig, DashboardListeners, HttpConfig
from trio_broker.store.memory import MemoryStore
from trio_broker.store.sqlite import SqliteStore

OBJECT = {"name", "api_key", "enable", "desc", "created_at", "expired_at", "expired", "role"}
NOT_FOUND = (404, "NOT_FOUND", "Name NOT FOUND")
HELLO = {"topic": "a", "payload": "x"}


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_hashes(monkeypatch)


@shows("POST /api_key", "GET /api_key", "GET /api_key/:name")
async def test_a_key_is_made_and_its_secret_told_once(autojump_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        body = {"name": "EMQX-API-KEY-1", "enable": True, "desc": "Note", "expired_at": "infinity", "role": "viewer"}
        answer = await live.api.post(KEYS, json=body, auth=boss)
        assert answer.status_code == 200
        key = answer.json()
        assert key.keys() == OBJECT | {"api_secret"}
        secret = key.pop("api_secret")
        assert key == body | {"api_key": key["api_key"], "created_at": key["created_at"], "expired": False}
        assert TIME_S.fullmatch(key["created_at"])
        assert len(secret) >= 20
        assert await works(live, (key["api_key"], secret))
        assert not await works(live, (key["name"], secret))
        assert not await works(live, (key["api_key"], key["api_key"]))
        rows = await live.api.get(KEYS, auth=boss)
        assert [row for row in rows.json() if row["name"] == "EMQX-API-KEY-1"] == [key]
        assert all(row.keys() == OBJECT for row in rows.json())
        one = await live.api.get(f"{KEYS}/EMQX-API-KEY-1", auth=boss)
        assert one.json() == key
        changed = await live.api.put(f"{KEYS}/EMQX-API-KEY-1", json={"desc": "x"}, auth=boss)
        for later in (rows, one, changed):
            assert secret not in later.text
            assert "secret" not in later.text


@shows("GET /api_key")
async def test_the_list_has_no_pages(autojump_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        for index in range(3):
            await new_key(live, boss, f"k{index}")
        whole = await got_as(live, KEYS, boss)
        assert isinstance(whole, list)
        assert {"k0", "k1", "k2"} <= {row["name"] for row in whole}
        assert await got_as(live, f"{KEYS}?page=2&limit=1", boss) == whole
        assert len({row["api_key"] for row in whole}) == len(whole)


@shows("POST /api_key")
async def test_what_may_be_left_out(autojump_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        for name, more in [("k1", {}), ("k2", dict.fromkeys(("enable", "desc", "expired_at", "role")))]:
            answer = await live.api.post(KEYS, json={"name": name, **more}, auth=boss)
            assert answer.status_code == 200, answer.text
            key = answer.json()
            assert [key[field] for field in ("enable", "desc", "expired_at", "expired", "role")] == [
                True,
                "",
                "infinity",
                False,
                "administrator",
            ]


@shows("POST /api_key", "PUT /api_key/:name")
async def test_fields_that_are_not_known_are_ignored(autojump_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        more: dict[str, Any] = {
            "api_key": "chosen",
            "api_secret": "chosen",
            "colour": "red",
            "created_at": 0,
            "expired": True,
        }
        key = await new_key(live, boss, **more)
        assert "chosen" not in (key["api_key"], key["api_secret"])
        assert not key["expired"]
        answer = await live.api.put(f"{KEYS}/k1", json={"name": "k2", "desc": "new", **more}, auth=boss)
        assert answer.status_code == 200, answer.text
        assert answer.json() == {field: key[field] for field in OBJECT} | {"desc": "new"}
        assert await works(live, pair(key))
        assert not await works(live, ("chosen", "chosen"))
        failed(await live.api.get(f"{KEYS}/k2", auth=boss), *NOT_FOUND)


@shows("POST /api_key", "GET /api_key/:name", "DELETE /api_key/:name")
async def test_names_that_are_good(autojump_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        for name in ("a", "Z", "a-_9", "x" * 256, "NaN", "null", "proto__"):
            await new_key(live, boss, name)
            assert (await got_as(live, f"{KEYS}/{name}", boss))["name"] == name
            await deleted(live, boss, f"{KEYS}/{name}")


BAD_NAMES: list[Any] = [
    None, "", " ", "1a", "-a", "_a", "a b", "a.b", "a/b", "a:b", "ä", "\u0430dmin", "\uff41", "aä", "a\n",
    "\na", "a\0", "a\u0661",
    "x" * 257, "x" * 1_000_000, "a'; DROP TABLE keys; --", 'a","role":"administrator', "../a", 7, True, [], ["a"], {},
]  # fmt: skip


@shows("POST /api_key")
async def test_names_that_are_bad(autojump_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        before = await got_as(live, KEYS, boss)
        for name in BAD_NAMES:
            answer = await live.api.post(KEYS, json={"name": name, "enable": True, "desc": ""}, auth=boss)
            assert failed(answer, 400, "BAD_REQUEST")
            assert len(answer.text) < 2000
        assert await got_as(live, KEYS, boss) == before


@shows("POST /api_key", "PUT /api_key/:name")
@pytest.mark.parametrize("fields", [
    {"role": "root"}, {"role": ""}, {"role": "Administrator"}, {"role": 1}, {"role": ["viewer"]},
    {"enable": "perhaps"}, {"enable": 2}, {"enable": []},
    {"desc": 5}, {"desc": ["x"]}, {"desc": {}},
    {"expired_at": "yesterday"}, {"expired_at": ""}, {"expired_at": "2021-13-45T00:00:00Z"}, {"expired_at": True},
    {"expired_at": "Infinity"}, {"expired_at": "2021-12-01"}, {"expired_at": []}, {"expired_at": {}},
    {"expired_at": 10**30}, {"expired_at": -(10**30)},
])  # fmt: skip
async def test_values_that_are_bad(fields: dict[str, Any], autojump_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        failed(await live.api.post(KEYS, json={"name": "k1", **fields}, auth=boss), 400, "BAD_REQUEST")
        failed(await live.api.get(f"{KEYS}/k1", auth=boss), *NOT_FOUND)
        key = await new_key(live, boss, role="viewer", enable=True, desc="kept")
        failed(await live.api.put(f"{KEYS}/k1", json={"role": "viewer", **fields}, auth=boss), 400, "BAD_REQUEST")
        assert await got_as(live, f"{KEYS}/k1", boss) == {field: key[field] for field in OBJECT}


@shows("POST /api_key")
@pytest.mark.parametrize(
    "body", ["[]", '"x"', "7", "null", "true", '[{"name":"k1"}]', "[" * 50_000, '{"name":"\\ud800"}']
)
async def test_bodies_that_are_bad(body: str, autojump_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        headers = {"content-type": "application/json"}
        for path in (KEYS, USERS, "/logout", "/login"):
            auth = None if path == "/login" else boss
            failed(await live.api.request("POST", path, content=body, headers=headers, auth=auth), 400, "BAD_REQUEST")


@shows("POST /api_key")
async def test_a_name_is_there_once() -> None:
    async with running() as live:
        boss = await live.log_in()
        key = await new_key(live, boss, role="viewer")
        answer = await live.api.post(KEYS, json={"name": "k1", "enable": True, "desc": ""}, auth=boss)
        failed(answer, 400, "BAD_REQUEST", "name_already_existed")
        assert await works(live, pair(key))
        await new_key(live, boss, "K1")
        statuses = []

        async def make() -> None:
            statuses.append((await live.api.post(KEYS, json={"name": "race"}, auth=boss)).status_code)

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(make)
        assert sorted(statuses) == [200] + [400] * 7


@shows("POST /api_key", "DELETE /api_key/:name")
async def test_a_hundred_keys() -> None:
    async with running() as live:
        boss = await live.log_in()
        for index in range(95):
            await new_key(live, boss, f"k{index}")
        answers = []

        async def make(name: str) -> None:
            answers.append(await live.api.post(KEYS, json={"name": name}, auth=boss))

        async with trio.open_nursery() as nursery:
            for index in range(10):
                nursery.start_soon(make, f"r{index}")
        assert sorted(answer.status_code for answer in answers) == [200] * 5 + [400] * 5
        for answer in answers:
            if answer.status_code == 400:
                failed(answer, 400, "BAD_REQUEST", "Maximum number of ApiKeys reached.")
        made = [row for row in await got_as(live, KEYS, boss) if not row["name"].startswith("from_bootstrap")]
        assert len(made) == 100
        done(await live.api.delete(f"{KEYS}/k0", auth=boss))
        await new_key(live, boss, "again")


OTHER_NAMES: list[Any] = [
    "nothing", "K1", "k1 ", "k1\0", "k1\n", "k1/", "k", "%", "*", "k1' OR '1'='1", "..", "ä", "\uff4b1", "x" * 5000,
]  # fmt: skip


@shows("GET /api_key/:name", "PUT /api_key/:name", "DELETE /api_key/:name")
async def test_a_key_that_there_is_not(autojump_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        key = await new_key(live, boss)
        for name in OTHER_NAMES:
            raw = f"/api/v5{KEYS}/{quote(name, safe='')}".replace("..", "%2E%2E")
            url = httpx.URL("http://broker/x").copy_with(raw_path=raw.encode())
            failed(await live.api.get(url, auth=boss), *NOT_FOUND)
            failed(await live.api.put(url, json={"enable": False}, auth=boss), *NOT_FOUND)
            failed(await live.api.delete(url, auth=boss), *NOT_FOUND)
        assert await works(live, pair(key))


@shows("PUT /api_key/:name")
async def test_a_key_is_changed(autojump_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        key = await new_key(live, boss, desc="first", role="viewer", expired_at="2099-01-01T00:00:00Z")
        auth, shown = pair(key), {field: key[field] for field in OBJECT}

        async def change(**fields: Any) -> Any:
            answer = await live.api.put(f"{KEYS}/k1", json=fields, auth=boss)
            assert answer.status_code == 200, answer.text
            assert answer.json() == await got_as(live, f"{KEYS}/k1", boss)
            return answer.json()

        keep = {"role": "viewer", "expired_at": "2099-01-01T00:00:00Z"}
        assert await change(enable=False, **keep) == shown | {"enable": False}
        wrong_key(await live.api.get(LOOK, auth=auth))
        assert await change(**keep) == shown | {"enable": False}
        assert await change(enable=None, desc=None, **keep) == shown | {"enable": False}
        assert await change(desc="second", enable=True, **keep) == shown | {"desc": "second"}
        assert await works(live, auth)
        failed(await live.api.delete("/trace", auth=auth), 403, "UNAUTHORIZED_ROLE", WEAK_KEY)
        assert await change() == shown | {"desc": "second", "role": "administrator", "expired_at": "infinity"}
        done(await live.api.delete("/trace", auth=auth))
        assert (await change(role="publisher"))["role"] == "publisher"
        failed(await live.api.get(LOOK, auth=auth), 403, "UNAUTHORIZED_ROLE", WEAK_KEY)


@shows("DELETE /api_key/:name")
async def test_a_key_is_deleted(autojump_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        old = pair(await new_key(live, boss))
        assert await works(live, old)
        done(await live.api.delete(f"{KEYS}/k1", auth=boss))
        wrong_key(await live.api.get(LOOK, auth=old))
        failed(await live.api.delete(f"{KEYS}/k1", auth=boss), *NOT_FOUND)
        new = await new_key(live, boss)
        assert old[0] != new["api_key"]
        assert old[1] != new["api_secret"]
        assert await works(live, pair(new))
        assert not await works(live, old)
        assert not await works(live, (new["api_key"], old[1]))


@shows("POST /api_key", "GET /api_key/:name", "PUT /api_key/:name")
async def test_a_key_that_expires(mock_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        made = await new_key(live, boss, "now")
        end = int(datetime.fromisoformat(made["created_at"]).timestamp()) + 100
        key = await new_key(live, boss, expired_at=end, role="viewer")
        assert datetime.fromisoformat(key["expired_at"]).timestamp() == end
        assert TIME_S.fullmatch(key["expired_at"])
        await later(mock_clock, 90)
        assert await works(live, pair(key))
        assert not (await got_as(live, f"{KEYS}/k1", boss))["expired"]
        await later(mock_clock, 12)
        wrong_key(await live.api.get(LOOK, auth=pair(key)))
        assert (await got_as(live, f"{KEYS}/k1", boss))["expired"]
        assert [row["expired"] for row in await got_as(live, KEYS, boss) if row["name"] == "k1"] == [True]
        answer = await live.api.put(f"{KEYS}/k1", json={"expired_at": end + 100, "role": "viewer"}, auth=boss)
        assert not answer.json()["expired"]
        assert await works(live, pair(key))
        await later(mock_clock, 100)
        assert not await works(live, pair(key))
        assert await works(live, pair(made))


@shows("POST /api_key")
@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("2099-10-25T21:48:47+08:00", "2099-10-25T13:48:47+00:00"),
        ("2099-10-25T21:48:47Z", "2099-10-25T21:48:47+00:00"),
        ("2099-10-25T21:48:47-00:30", "2099-10-25T22:18:47+00:00"),
        (4096648127, "2099-10-25T21:48:47+00:00"),
        ("2000-01-01T00:00:00Z", "2000-01-01T00:00:00+00:00"),
        ("infinity", None),
    ],
)
async def test_ways_to_say_when(given: Any, shown: str | None, autojump_clock: MockClock) -> None:
    async with running() as live:
        key = await new_key(live, await live.log_in(), expired_at=given)
        if shown is None:
            assert key["expired_at"] == "infinity"
        else:
            end = datetime.fromisoformat(shown)
            assert datetime.fromisoformat(key["expired_at"]) == end
            assert key["expired"] == (end < datetime.now(UTC))
        assert await works(live, pair(key)) != key["expired"]


@shows("POST /api_key", "PUT /api_key/:name", "DELETE /api_key/:name")
@pytest.mark.parametrize("kind", ["memory", "disk"])
async def test_keys_after_a_restart(kind: str, tmp_path: Path, autojump_clock: MockClock) -> None:
    memory = MemoryStore()
    async with running(store=memory if kind == "memory" else SqliteStore(tmp_path)) as live:
        boss = await live.log_in()
        keys = {name: await new_key(live, boss, name, role="viewer") for name in ("on", "off", "gone", "late")}
        await live.api.put(f"{KEYS}/off", json={"enable": False, "role": "viewer"}, auth=boss)
        await live.api.put(f"{KEYS}/late", json={"expired_at": 1, "desc": "ä€", "role": "viewer"}, auth=boss)
        await live.api.delete(f"{KEYS}/gone", auth=boss)
        before = await got_as(live, KEYS, boss)
    if kind == "disk":
        content = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert all(key["api_secret"].encode() not in content for key in keys.values())
        assert PASSWORD.encode() not in content
    async with running(store=memory if kind == "memory" else SqliteStore(tmp_path)) as live:
        boss = await live.log_in()
        rows = {row["name"]: row for row in await got_as(live, KEYS, boss)}
        assert [row for row in rows.values() if "bootstrap" not in row["name"]] == [
            row for row in before if "bootstrap" not in row["name"]
        ]
        assert [await works(live, pair(keys[name])) for name in ("on", "off", "gone", "late")] == [
            True,
            False,
            False,
            False,
        ]
        failed(await live.api.delete("/trace", auth=pair(keys["on"])), 403, "UNAUTHORIZED_ROLE", WEAK_KEY)


@shows("GET /sessions_count")
async def test_a_secret_with_nul_behind_it_is_another(autojump_clock: MockClock) -> None:
    """Before its key was used for the first time, and after."""
    store = MemoryStore()
    async with running(store=store) as live:
        key, secret = pair(await new_key(live, await live.log_in()))
        wrong_key(await live.api.get(LOOK, auth=(key, f"{secret}\0")))
    async with running(store=store) as live:
        wrong_key(await live.api.get(LOOK, auth=(key, f"{secret}\0")))
        assert await works(live, (key, secret))
        wrong_key(await live.api.get(LOOK, auth=(key, f"{secret}\0")))


@shows("GET /api_key", "DELETE /api_key/:name")
async def test_keys_of_a_bootstrap_file(tmp_path: Path, autojump_clock: MockClock) -> None:
    file = tmp_path / "keys"
    file.write_text("# a comment\nops:ops-secret\nlooks:looks-secret:viewer\ntells:tells-secret:publisher\n")
    rest = DashboardConfig(listeners=DashboardListeners(http=HttpConfig(bind="127.0.0.1:0")))
    config = Config(api_key=ApiKeyConfig(bootstrap_file=str(file)), dashboard=rest)
    store = MemoryStore()
    async with running(config, store) as live:
        boss = await live.log_in()
        rows = {row["api_key"]: row for row in await got_as(live, KEYS, boss)}
        for api_key, role in [("ops", "administrator"), ("looks", "viewer"), ("tells", "publisher")]:
            assert rows[api_key]["name"].startswith("from_bootstrap_file_")
            assert rows[api_key].keys() == OBJECT
            assert rows[api_key]["role"] == role
            reads = await live.api.get("/clients", auth=(api_key, f"{api_key}-secret"))
            writes = await live.api.post("/publish", json=HELLO, auth=(api_key, f"{api_key}-secret"))
            assert (reads.status_code == 200) == (role != "publisher")
            assert (writes.status_code == 202) == (role != "viewer")
        assert not await works(live, ("looks", "looks-secret:viewer"))
        failed(await live.api.delete(f"{KEYS}/{rows['ops']['name']}", auth=boss), 400, "BAD_REQUEST")  # as documented
        await live.api.put(f"{KEYS}/{rows['looks']['name']}", json={"enable": False, "role": "viewer"}, auth=boss)
        assert not await works(live, ("looks", "looks-secret"))
    file.write_text("looks:looks-secret:viewer\ntells:another-secret:publisher\n")
    async with running(config, store) as live:
        assert not await works(live, ("ops", "ops-secret"))
        assert not await works(live, ("looks", "looks-secret"))
        assert not await works(live, ("tells", "tells-secret"))
        assert (await live.api.post("/publish", json=HELLO, auth=("tells", "another-secret"))).status_code == 202


@shows("GET /sessions_count")
async def test_wrong_secrets_lock_nobody_out(autojump_clock: MockClock) -> None:
    async with running() as live:
        key = await new_key(live, await live.log_in())
        for index in range(30):
            wrong_key(await live.api.get(LOOK, auth=(key["api_key"], f"wrong{index}")))
        assert await works(live, pair(key))
        assert await works(live, ADMIN)


@shows("POST /api_key", "PUT /api_key/:name", "DELETE /api_key/:name")
async def test_secrets_of_keys_are_nowhere(caplog: pytest.LogCaptureFixture, autojump_clock: MockClock) -> None:
    caplog.set_level(0)
    async with running() as live:
        boss = await live.log_in()
        key = await new_key(live, boss, role="viewer")
        secret, guess = key["api_secret"], "a-guess-at-a-secret"
        texts = []
        for auth in (pair(key), (key["api_key"], guess), (guess, secret), (secret, guess)):
            for method, path in [("GET", LOOK), ("GET", KEYS), ("DELETE", "/trace"), ("POST", "/publish")]:
                texts.append((await live.api.request(method, path, auth=auth)).text)
        for body in ({"api_secret": secret, "name": [guess]}, {"name": guess, "role": secret[:5]}):
            texts.append((await live.api.put(f"{KEYS}/k1", json=body, auth=boss)).text)
        for path in (KEYS, f"{KEYS}/k1", "/configs", "/metrics", "/nodes", "/alarms"):
            texts.append((await live.api.get(path, auth=boss)).text)
        texts.append((await live.api.get("/configs", headers={"accept": "application/json"}, auth=boss)).text)
        texts.append(json.dumps([repr(row) for row in live.broker.questions.api_keys.rows()]))
        await live.api.delete(f"{KEYS}/k1", auth=boss)
    logged = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    for text in (*texts, logged):
        assert secret not in text
        assert ADMIN[1] not in text
        assert boss.token not in text
    assert guess not in logged
