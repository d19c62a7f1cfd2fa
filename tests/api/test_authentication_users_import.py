"""`POST /authentication/:id/import_users`: a file or JSON, all of it or nothing."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio
from api.live import Live, running
from api.operations import shows
from attrs import evolve

from trio_broker.actors.data_backup import TABLE_SETS
from trio_broker.config import Config, NodeConfig
from trio_broker.config.authentication import BuiltInDatabaseConfig, PasswordHashConfig, ScramConfig
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import open_client

PATH = "/authentication/password_based%3Abuilt_in_database"
CONFIG = Config(authentication=(BuiltInDatabaseConfig(), ScramConfig()))
SALT = "e378187547bf2d6f0545a3f441aa4d8a"
HASH = "50a313e55a6161344ffcaac19b7034e1b72f77ed84386ca51efaa1b93756c556"
"""SHA-256 of SALT and `public`."""


def slow(name: str = "bcrypt") -> Config:
    algorithm = PasswordHashConfig(name=name, salt_rounds=5, iterations=5)
    return Config(authentication=(BuiltInDatabaseConfig(password_hash_algorithm=algorithm),))


async def imported(live: Live, rows: Any, kind: str | None = "plain") -> httpx.Response:
    return await live.api.post(f"{PATH}/import_users", params={"type": kind} if kind else None, json=rows)


async def uploaded(
    live: Live, name: str, content: bytes, kind: str = "plain", part: str = "filename"
) -> httpx.Response:
    return await live.api.post(f"{PATH}/import_users?type={kind}", files={part: (name, content)})


async def users(live: Live) -> dict[str, bool]:
    data = (await live.api.get(f"{PATH}/users", params={"limit": 10_000})).json()["data"]
    return {user["user_id"]: user["is_superuser"] for user in data}


async def code(live: Live, username: str, password: str) -> int:
    async with open_client(live.broker, username=username, password=password.encode()) as client:
        return int(client.connack.reason_code)


def counts(answer: httpx.Response) -> tuple[int, ...]:
    """total, success, override, skipped, failed"""
    assert answer.status_code == 200, answer.text
    names = ["total", "success", "override", "skipped", "failed"]
    assert list(answer.json()) == names
    return tuple(answer.json()[name] for name in names)


@pytest.mark.parametrize("name", ["plain", "sha256", "bcrypt", "pbkdf2"])
@shows("POST /authentication/:id/import_users")
async def test_passwords(name: str) -> None:
    """Twice the same is left alone, also where each hash has a new salt."""
    rows: list[dict[str, Any]] = [
        {"user_id": "a", "password": "x", "is_superuser": True},
        {"user_id": "b", "password": "y"},
    ]
    async with running(slow(name)) as live:
        assert counts(await imported(live, rows)) == (2, 2, 0, 0, 0)
        assert await users(live) == {"a": True, "b": False}
        assert (await code(live, "a", "x"), await code(live, "b", "y"), await code(live, "b", "x")) == (0, 0, 0x86)
        assert counts(await imported(live, rows)) == (2, 0, 0, 2, 0)
        rows[0]["password"], rows[1]["is_superuser"] = "z", True
        assert counts(await imported(live, [*rows, {"user_id": "c", "password": "z"}])) == (3, 1, 2, 0, 0)
        assert await users(live) == {"a": True, "b": True, "c": False}
        assert (await code(live, "a", "z"), await code(live, "a", "x"), await code(live, "b", "y")) == (0, 0x86, 0)


@pytest.mark.parametrize("kind", ["hash", None, "", "anything", "PLAIN"])
@shows("POST /authentication/:id/import_users")
async def test_hashes(kind: str | None) -> None:
    """They are what is meant unless `type` is `plain`."""
    async with running(CONFIG) as live:
        rows = [{"user_id": "a", "password_hash": HASH, "salt": SALT, "is_superuser": "true"}]
        assert counts(await imported(live, rows, kind)) == (1, 1, 0, 0, 0)
        assert counts(await imported(live, rows, kind)) == (1, 0, 0, 1, 0)
        assert await users(live) == {"a": True}
        assert (await code(live, "a", "public"), await code(live, "a", "private")) == (0, 0x86)
        bare = {"user_id": "a", "password_hash": sha256(b"x").hexdigest().upper(), "salt": None}
        assert counts(await imported(live, [bare], kind)) == (1, 0, 1, 0, 0)
        assert await code(live, "a", "x") == 0


@shows("POST /authentication/:id/import_users")
async def test_hashes_of_bcrypt() -> None:
    async with running(slow()) as live:
        rows = [{"user_id": "a", "password_hash": "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"}]
        assert counts(await imported(live, rows, "hash")) == (1, 1, 0, 0, 0)
        assert (await code(live, "a", "U*U"), await code(live, "a", "U*V")) == (0, 0x86)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("users.json", b'[{"user_id":"a","password":"x","is_superuser":true},{"user_id":"b","password":"y"}]'),
        ("users.csv", b"user_id,password,is_superuser\na,x,true\nb,y,false\n"),
        ("C:\\my.users.csv", b'\xef\xbb\xbfis_superuser,user_id,password\r\ntrue,"a",x\r\n,b,y\r\n'),
    ],
)
@shows("POST /authentication/:id/import_users")
async def test_files(name: str, content: bytes) -> None:
    async with running(CONFIG) as live:
        assert counts(await uploaded(live, name, content)) == (2, 2, 0, 0, 0)
        assert await users(live) == {"a": True, "b": False}
        assert (await code(live, "a", "x"), await code(live, "b", "y")) == (0, 0)


@shows("POST /authentication/:id/import_users")
async def test_of_two_rows_about_one_user_the_last_counts() -> None:
    async with running(CONFIG) as live:
        rows = [{"user_id": "a", "password": "x"}, {"user_id": "a", "password": "y"}]
        assert counts(await imported(live, rows)) == (2, 1, 1, 0, 0)
        assert (await code(live, "a", "x"), await code(live, "a", "y")) == (0x86, 0)


GOOD = {"user_id": "good", "password": "x", "password_hash": "x"}


@pytest.mark.parametrize(
    ("rows", "kind", "message", "reason"),
    [
        ([], "plain", "empty_users", "empty_users"),
        ({}, "plain", "unknown_file_format", "unknown_file_format"),
        ({"user_id": "a", "password": "x"}, "plain", "unknown_file_format", "unknown_file_format"),
        ([GOOD, {"password": "topsecret"}], "plain", "bad_format", "row 2: bad_format: user_id is missing or no text"),
        ([GOOD, "topsecret"], "plain", "bad_format", "row 2: bad_format: it is no object"),
        (
            [GOOD, {"user_id": "a", "password": "topsecret"}],
            "hash",
            '"hash_import_requires_password_hash_field"',
            'row 2: "hash_import_requires_password_hash_field"',
        ),
        (
            [GOOD, {"user_id": "a", "password_hash": "topsecret"}],
            "plain",
            '"plain_import_requires_password_field"',
            'row 2: "plain_import_requires_password_field"',
        ),
        (
            [GOOD, {"user_id": "a\x00", "password": "x"}],
            "plain",
            "bad_format",
            "row 2: bad_format: user_id has a NUL, which no name in MQTT has",
        ),
    ],
)
@shows("POST /authentication/:id/import_users")
async def test_one_bad_row_and_nothing_is_taken(rows: Any, kind: str, message: str, reason: str) -> None:
    async with running(CONFIG) as live:
        answer = await imported(live, rows, kind)
        assert answer.status_code == 400
        assert answer.json() == {"code": "BAD_REQUEST", "message": message, "reason": reason}
        assert await users(live) == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("users", b"[]", "unknown_file_format"),
        ("users.txt", b"[]", '{unsupported_file_format,<<".txt">>}'),
        ("users.json", b"{}", "unknown_file_format"),
        ("users.json", b"[", "bad_format"),
        ("users.json", b"[]", "empty_users"),
        ("users.csv", b"", "empty_users"),
        ("users.csv", b"user_id,password\n", "empty_users"),
        ("users.csv", b"user_id,password\na,x\n,y\n", "bad_format"),
        ("users.csv", b"user_id,password\na,x\nb,\n", '"plain_import_requires_password_field"'),
    ],
)
@shows("POST /authentication/:id/import_users")
async def test_files_that_are_wrong(name: str, content: bytes, message: str) -> None:
    async with running(CONFIG) as live:
        answer = await uploaded(live, name, content)
        assert (answer.status_code, answer.json()["code"], answer.json()["message"]) == (400, "BAD_REQUEST", message)
        assert await users(live) == {}


@shows("POST /authentication/:id/import_users")
async def test_what_a_password_must_be_for_bcrypt_is_told_before_the_first_is_hashed() -> None:
    async with running(slow()) as live:
        rows = [{"user_id": f"u{number}", "password": "x"} for number in range(50)]
        answer = await imported(live, [*rows, {"user_id": "a", "password": "topsecret" * 9}])
        assert (answer.status_code, answer.json()["message"]) == (400, "bad_format")
        assert answer.json()["reason"] == "row 51: bad_format: bcrypt takes a password of at most 72 bytes without NUL"
        assert await users(live) == {}


@shows("POST /authentication/:id/import_users")
async def test_hashes_of_another_algorithm_are_kept_and_told(caplog: pytest.LogCaptureFixture) -> None:
    """They may be right with other settings; until then no password fits."""
    async with running(CONFIG) as live:
        rows = [{"user_id": "a", "password_hash": HASH[:40]}, {"user_id": "b", "password_hash": HASH, "salt": SALT}]
        assert counts(await imported(live, rows, "hash")) == (2, 2, 0, 0, 0)
        assert await code(live, "a", "public") == 0x86
    assert "1 hashes are none of sha256" in caplog.text
    assert HASH[:40] not in caplog.text


@shows("POST /authentication/:id/import_users")
async def test_bodies_without_a_file() -> None:
    async with running(CONFIG) as live:
        path = f"{PATH}/import_users?type=plain"
        missing = {"code": "BAD_REQUEST", "message": "Missing required parameter: filename"}
        content = b'[{"user_id":"a","password":"x"}]'
        for answer in (
            await uploaded(live, "users.json", content, part="file"),
            await live.api.post(path, data={"filename": "users.json"}, files={"other": ("a.json", content)}),
            await live.api.post(path),
            await live.api.post(path, headers={"content-type": "multipart/form-data; boundary=x"}),
        ):
            assert (answer.status_code, answer.json()) == (400, missing)
        answer = await live.api.post(path, content=content, headers={"content-type": "text/plain"})
        assert (answer.status_code, answer.json()["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
        for raw in (b"[", b"", b"\xff", b"[" * 100_000):
            answer = await live.api.post(path, content=raw, headers={"content-type": "application/json"})
            assert (answer.status_code, answer.json()["message"]) == (400, "Invalid json message received")
        assert await users(live) == {}


@shows("POST /authentication/:id/import_users")
async def test_scram_has_no_import() -> None:
    async with running(CONFIG) as live:
        answer = await live.api.post(
            "/authentication/scram:built_in_database/import_users?type=plain", json=[{"user_id": "a", "password": "x"}]
        )
        assert (answer.status_code, answer.json()) == (
            400,
            {"code": "BAD_REQUEST", "message": "User error: unsupported_operation"},
        )


@shows("POST /authentication/:id/import_users")
async def test_a_large_file_holds_up_nobody() -> None:
    """Others have their turns all the while; and it is there after a restart."""
    store = MemoryStore()
    count = 20_000
    content = "user_id,password_hash,salt\n" + "".join(f"u{number},{HASH},{SALT}\n" for number in range(count))
    async with running(CONFIG, store) as live:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            answer = await uploaded(live, "users.csv", content.encode(), "hash")
            nursery.cancel_scope.cancel()
        assert counts(answer) == (count, count, 0, 0, 0)
        assert turns > count / 128
        answer = await live.api.get(f"{PATH}/users", params={"like_user_id": "u1999", "limit": 3})
        assert [user["user_id"] for user in answer.json()["data"]] == ["u1999", "u19990", "u19991"]
    async with running(CONFIG, store) as live:
        assert (await live.api.get(f"{PATH}/users")).json()["meta"]["count"] == count
        assert await code(live, f"u{count - 1}", "public") == 0


@shows("POST /authentication/:id/import_users")
async def test_nothing_secret_comes_back() -> None:
    async with running(CONFIG) as live:
        for kind in ("plain", "hash"):
            for name, wrong in (
                ("salt", 5),
                ("user_id", ["topsecret"]),
                ("password", ["topsecret"]),
                ("password_hash", {}),
            ):
                row: dict[str, Any] = {
                    "user_id": "a",
                    "password": "topsecret",
                    "password_hash": "topsecret",
                    "salt": "topsecret",
                }
                answer = await imported(live, [row | {name: wrong}], kind)
                assert "topsecret" not in answer.text
                assert answer.status_code in (200, 400)
                assert json.loads(answer.text)


@shows("POST /data/export", "POST /data/import")
async def test_users_are_carried_to_another_broker(tmp_path: Path) -> None:
    """With their hashes: who is there already is replaced, nobody else is touched."""
    config = evolve(CONFIG, node=NodeConfig(data_dir=str(tmp_path)))
    scram = "/authentication/scram:built_in_database/users"
    async with running(config) as live:
        await imported(
            live, [{"user_id": "a", "password": "x", "is_superuser": True}, {"user_id": "b", "password": "y"}]
        )
        await live.api.post(scram, json={"user_id": "s", "password": "z", "is_superuser": True})
        before = live.broker.questions.authn_users.scram.all["s"]
        exported = (await live.api.post("/data/export", json={"root_keys": []})).json()["filename"]
    async with running(config) as live:
        await imported(live, [{"user_id": "b", "password": "old"}, {"user_id": "c", "password": "z"}])
        assert (await live.api.post("/data/import", json={"filename": exported})).status_code == 204
        assert await users(live) == {"a": True, "b": False, "c": False}
        assert [await code(live, name, word) for name, word in (("a", "x"), ("b", "y"), ("c", "z"))] == [0, 0, 0]
        assert live.broker.questions.authn_users.scram.all["s"] == before


PASSWORD_ROW = {"user_id": "a", "password_hash": "x", "salt": "", "is_superuser": False}
SCRAM_ROW = {
    "user_id": "a",
    "salt": "AAAA",
    "stored_key": "AAAA",
    "server_key": "AAAA",
    "iterations": 4096,
    "is_superuser": False,
}


@pytest.mark.parametrize(
    ("table", "row"),
    [
        *(("builtin_authn", PASSWORD_ROW | wrong) for wrong in ({"user_id": ""}, {"user_id": "a\x00"}, {"salt": None})),
        *(
            ("builtin_authn", PASSWORD_ROW | wrong)
            for wrong in ({"is_superuser": 1}, {"more": 1}, {"password_hash": 5})
        ),
        *(
            ("builtin_authn_scram", SCRAM_ROW | wrong)
            for wrong in ({"salt": ""}, {"stored_key": "A"}, {"iterations": 0})
        ),
        *(("builtin_authn_scram", SCRAM_ROW | wrong) for wrong in ({"user_id": ""}, {"more": 1}, {"server_key": "ä"})),
    ],
)
def test_rows_of_a_backup_that_are_no_users(table: str, row: dict[str, Any]) -> None:
    read = TABLE_SETS[table].read
    good = PASSWORD_ROW if table == "builtin_authn" else SCRAM_ROW
    assert read(json.dumps(good).encode()).user_id == "a"
    with pytest.raises((ValueError, msgspec.MsgspecError)):
        read(json.dumps(row).encode())
