"""The REST contract, read afresh: users from files, and each hash that passwords are kept as."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import pytest
from api.live import Live, running
from api.operations import shows
from review.authn import BOTH_BAD, BOTH_IN, IMPORT, PASSWORD_ID, PASSWORDS, USERS, add, code, codes, path, user
from review.contract import failed, got, invalid, listed

from trio_broker.config import Config
from trio_broker.config.tree import overlay
from trio_broker.store.memory import MemoryStore

PLAIN = {"type": "plain"}
HASHES = {"md5": "md5", "sha": "sha1", "sha256": "sha256", "sha512": "sha512"}


def counts(total: int, success: int = 0, override: int = 0, skipped: int = 0) -> dict[str, int]:
    return {"total": total, "success": success, "override": override, "skipped": skipped, "failed": 0}


async def imported(live: Live, file: Any, kind: str | None = "plain", name: str = "") -> dict[str, int]:
    query = {} if kind is None else {"type": kind}
    if name:
        content = file if isinstance(file, bytes) else json.dumps(file).encode()
        answer = await live.api.post(IMPORT, params=query, files={"filename": (name, content)})
    else:
        answer = await live.api.post(IMPORT, params=query, json=file)
    assert answer.status_code == 200, answer.text
    body: dict[str, int] = answer.json()
    return body


def bad(answer: httpx.Response, message: str) -> None:
    """This message; `reason` beside it may say more."""
    assert answer.status_code == 400, answer.text
    body = answer.json()
    assert (body["code"], body["message"]) == ("BAD_REQUEST", message)


def row(name: str, password: str, **more: Any) -> dict[str, Any]:
    return {"user_id": name, "password": password, **more}


def hashed(algorithm: str, salt: str, password: str, position: str) -> str:
    salted = {"prefix": salt + password, "suffix": password + salt, "disable": password}[position].encode()
    return salted.decode() if algorithm == "plain" else hashlib.new(HASHES[algorithm], salted).hexdigest()


@pytest.mark.parametrize("name", ["", "users.json", "users.csv"])
@shows("POST /authentication/:id/import_users")
async def test_the_counts(name: str) -> None:
    """New, replaced, and as it was; of plain passwords, in all three forms."""

    def file(*rows: tuple[str, str, str]) -> Any:
        if name.endswith(".csv"):
            return "\n".join(["user_id,password,is_superuser", *(",".join(one) for one in rows), ""]).encode()
        return [row(who, password, is_superuser=superuser == "true") for who, password, superuser in rows]

    async with running() as live:
        await add(live, PASSWORDS)
        assert await imported(live, file(("a", "1", "true"), ("b", "2", "false")), name=name) == counts(2, success=2)
        assert await imported(live, file(("a", "1", "true"), ("b", "2", "false")), name=name) == counts(2, skipped=2)
        third = file(("a", "1", "true"), ("b", "3", "false"), ("c", "4", "false"))
        assert await imported(live, third, name=name) == counts(3, success=1, override=1, skipped=1)
        assert await imported(live, file(("a", "1", "false")), name=name) == counts(1, override=1)
        assert await listed(live, USERS, "user_id") == {"a", "b", "c"}
        assert await listed(live, USERS, "user_id", is_superuser="true") == set()
        assert [await codes(live, *one) for one in (("a", "1"), ("b", "3"), ("c", "4"))] == [BOTH_IN] * 3
        assert await codes(live, "b", "2") == BOTH_BAD


@pytest.mark.parametrize(
    "content",
    [
        b"user_id,password,is_superuser\na,1,true\nb,2,false\nc,3,\n",
        b"password,is_superuser,user_id\r\n1,true,a\r\n2,false,b\r\n3,,c",
        b'"user_id","password","is_superuser"\n"a","1","true"\n"b","2","false"\nc,3,no\n',
    ],
)
async def test_csv(content: bytes) -> None:
    async with running() as live:
        await add(live, PASSWORDS)
        assert await imported(live, content, name="a file.with dots.csv") == counts(3, success=3)
        assert await listed(live, USERS, "user_id", is_superuser="true") == {"a"}
        assert await listed(live, USERS, "user_id", is_superuser="false") == {"b", "c"}
        assert [await codes(live, *one) for one in (("a", "1"), ("b", "2"), ("c", "3"))] == [BOTH_IN] * 3


async def test_csv_has_quotes_and_letters_of_all_sorts() -> None:
    async with running() as live:
        await add(live, PASSWORDS)
        content = 'user_id,password\n"a,b","1 ""2"" 3"\nžluť/+#,pässwörd 🔑\n'.encode()
        assert await imported(live, content, name="u.csv") == counts(2, success=2)
        assert await codes(live, "a,b", '1 "2" 3') == BOTH_IN
        assert await codes(live, "žluť/+#", "pässwörd 🔑") == BOTH_IN


async def test_superusers() -> None:
    async with running() as live:
        await add(live, PASSWORDS)
        values = {"a": True, "b": "true", "c": False, "d": "false", "e": None}
        rows = [row(name, "1", is_superuser=value) for name, value in values.items()]
        assert await imported(live, [*rows, row("f", "1")]) == counts(6, success=6)
        assert await listed(live, USERS, "user_id", is_superuser="true") == {"a", "b"}
        assert await listed(live, USERS, "user_id", is_superuser="false") == {"c", "d", "e", "f"}


@pytest.mark.parametrize("kind", ["hash", None, "another", ""])
async def test_hashes_are_what_is_meant_unless_it_says_plain(kind: str | None) -> None:
    async with running() as live:
        await add(live, PASSWORDS)
        good = {"user_id": "a", "password_hash": hashed("sha256", "s", "p", "prefix"), "salt": "s"}
        without_salt = {"user_id": "b", "password_hash": hashed("sha256", "", "p", "prefix")}
        assert await imported(live, [good, without_salt], kind) == counts(2, success=2)
        assert await imported(live, [good | {"is_superuser": "true"}, without_salt], kind) == counts(
            2, override=1, skipped=1
        )
        assert [await codes(live, name, "p") for name in ("a", "b")] == [BOTH_IN] * 2
        assert [await codes(live, "a", wrong) for wrong in ("sp", good["password_hash"], "")] == [BOTH_BAD] * 3
        query = {} if kind is None else {"type": kind}
        bad(
            await live.api.post(IMPORT, params=query, json=[row("c", "p")]),
            '"hash_import_requires_password_hash_field"',
        )


async def test_somebody_twice_in_one_file() -> None:
    """The second row finds what the first one has made."""
    async with running() as live:
        await add(live, PASSWORDS)
        assert await imported(live, [row("a", "1"), row("a", "2")]) == counts(2, success=1, override=1)
        assert [await code(live, "a", password) for password in ("1", "2")] == [0x86, 0]
        again = {"user_id": "b", "password_hash": hashed("sha256", "s", "p", "prefix"), "salt": "s"}
        assert await imported(live, [again, again], "hash") == counts(2, success=1, skipped=1)


@pytest.mark.parametrize("kind", ["plain", "hash"])
@pytest.mark.parametrize("suffix", ["csv", "json"])
async def test_users_of_the_start(kind: str, suffix: str, tmp_path: Path) -> None:
    """A file that is looked at when the broker starts; who is there stays as they are."""
    file = tmp_path / f"users.{suffix}"

    def write(*users: tuple[str, str]) -> None:
        fields = [
            {"user_id": name, "password": password, "is_superuser": "false"}
            if kind == "plain"
            else {
                "user_id": name,
                "password_hash": hashed("sha256", "s", password, "prefix"),
                "salt": "s",
                "is_superuser": "false",
            }
            for name, password in users
        ]
        lines = [",".join(fields[0]), *(",".join(one.values()) for one in fields)]
        file.write_text(json.dumps(fields) if suffix == "json" else "\n".join(lines))

    store = MemoryStore()
    table = PASSWORDS | {"bootstrap_file": str(file), "bootstrap_type": kind}
    config = overlay(Config(), {"authentication": [table]})
    write(("a", "1"), ("b", "2"))
    async with running(config, store) as live:
        assert await listed(live, USERS, "user_id") == {"a", "b"}
        assert [await code(live, *one) for one in (("a", "1"), ("b", "2"))] == [0, 0]
        answer = await live.api.put(f"{USERS}/a", json={"password": "changed", "is_superuser": True})
        assert answer.status_code == 200
    write(("a", "1"), ("b", "3"), ("c", "4"))
    async with running(config, store) as live:
        assert await listed(live, USERS, "user_id") == {"a", "b", "c"}
        assert await listed(live, USERS, "user_id", is_superuser="true") == {"a"}
        asked = (("a", "changed"), ("a", "1"), ("b", "2"), ("b", "3"), ("c", "4"))
        assert [await code(live, *one) for one in asked] == [0, 0x86, 0, 0x86, 0]


def form(name: str, content: bytes) -> dict[str, Any]:
    return {"files": {"filename": (name, content)}}


BAD_FILES: list[tuple[dict[str, Any], str]] = [
    ({"files": {"file": ("u.csv", b"user_id,password\na,1\n")}}, "Missing required parameter: filename"),
    ({"json": [row("ok", "1"), {"password": "x"}]}, "bad_format"),
    ({"json": [row("ok", "1"), "nobody"]}, "bad_format"),
    (form("u.json", b'[{"user_id": "ok", "password": "1"}, {"password": "x"}]'), "bad_format"),
    (form("u.csv", b"name,password\nok,1\n"), "bad_format"),
    ({"json": [row("ok", "1"), {"user_id": "x"}]}, '"plain_import_requires_password_field"'),
    (form("u.csv", b"user_id,word\nok,1\n"), '"plain_import_requires_password_field"'),
    (form("users", b"user_id,password\nok,1\n"), "unknown_file_format"),
    ({"json": row("ok", "1")}, "unknown_file_format"),
    (form("u.json", b'{"user_id": "ok", "password": "1"}'), "unknown_file_format"),
    (form("u.txt", b"user_id,password\nok,1\n"), '{unsupported_file_format,<<".txt">>}'),
    (form("u.csv.exe", b"user_id,password\nok,1\n"), '{unsupported_file_format,<<".exe">>}'),
    ({"json": []}, "empty_users"),
    (form("u.csv", b""), "empty_users"),
    (form("u.csv", b"user_id,password\n"), "empty_users"),
]


@shows("POST /authentication/:id/import_users")
async def test_one_bad_row_and_nothing_is_taken() -> None:
    async with running() as live:
        await add(live, PASSWORDS)
        await user(live, "before", "p")
        for file, message in BAD_FILES:
            bad(await live.api.post(IMPORT, params=PLAIN, **file), message)
        assert await listed(live, USERS, "user_id") == {"before"}
        assert await codes(live, "ok", "1") == BOTH_BAD


async def test_bodies_that_are_no_file() -> None:
    async with running() as live:
        await add(live, PASSWORDS)
        kinds = {"json": "application/json", "text": "text/plain", "form": "multipart/form-data; boundary=x"}
        for content in (b"", b"{", b"--x\r\n", b"\xff\xfe\x00", b"[" * 100_000):
            for kind in kinds.values():
                answer = await live.api.post(IMPORT, params=PLAIN, content=content, headers={"content-type": kind})
                assert answer.status_code == (415 if content and kind == "text/plain" else 400), answer.text
                assert answer.json()["message"]
        for name in ("u.csv", "u.json"):
            for content in (
                b"\xff\xfe",
                b'user_id,password\n"a',
                b"user_id,password\na\xff,1\n",
                b'[{"user_id":"a\\ud800"}]',
            ):
                answer = await live.api.post(IMPORT, params=PLAIN, **form(name, content))
                assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST"), answer.text
        assert await listed(live, USERS, "user_id") == set()


async def test_a_file_is_there_after_a_restart() -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        await add(live, PASSWORDS)
        rows = [row(f"u{n}", f"p{n}", is_superuser=n == 7) for n in range(500)]
        assert await imported(live, rows) == counts(500, success=500)
    async with running(store=store) as live:
        assert (await got(live, USERS))["meta"]["count"] == 500
        assert await listed(live, USERS, "user_id", is_superuser="true") == {"u7"}
        assert await codes(live, "u499", "p499") == BOTH_IN
        assert await imported(live, rows) == counts(500, skipped=500)


@pytest.mark.parametrize("position", ["prefix", "suffix", "disable"])
@pytest.mark.parametrize("name", ["plain", *HASHES])
@shows("POST /authentication")
async def test_simple_hashes(name: str, position: str) -> None:
    """Those that somebody else has computed, and those the broker makes itself."""
    async with running() as live:
        await add(live, PASSWORDS, password_hash_algorithm={"name": name, "salt_position": position})
        rows = [
            {"user_id": who, "password_hash": hashed(name, "sal", "pässword", salted), "salt": "sal"}
            for who, salted in (("right", position), ("prefix", "prefix"), ("suffix", "suffix"), ("disable", "disable"))
        ]
        assert await imported(live, rows, "hash") == counts(4, success=4)
        for who in ("prefix", "suffix", "disable"):
            assert await codes(live, who, "pässword") == (BOTH_IN if who == position else BOTH_BAD)
        assert await codes(live, "right", "pässword") == BOTH_IN
        await user(live, "made", "pässword")
        assert await imported(live, [row("read", "pässword")]) == counts(1, success=1)
        for who in ("made", "read"):
            assert await codes(live, who, "pässword") == BOTH_IN
            assert await codes(live, who, "pässwort") == BOTH_BAD


@pytest.mark.parametrize(("mac", "length"), [("sha", 0), ("sha224", 7), ("sha256", 0), ("sha384", 64), ("sha512", 100)])
async def test_pbkdf2(mac: str, length: int) -> None:
    async with running() as live:
        algorithm = {"name": "pbkdf2", "mac_fun": mac, "iterations": 20, **({"dk_length": length} if length else {})}
        await add(live, PASSWORDS, password_hash_algorithm=algorithm)
        name = "sha1" if mac == "sha" else mac
        made = hashlib.pbkdf2_hmac(name, b"secret", b"salt", 20, length or None).hex()
        other = hashlib.pbkdf2_hmac(name, b"secret", b"salt", 21, length or None).hex()
        rows = [{"user_id": "a", "password_hash": made, "salt": "salt"}]
        rows += [{"user_id": "b", "password_hash": other, "salt": "salt"}]
        assert await imported(live, rows, "hash") == counts(2, success=2)
        await user(live, "c", "secret")
        assert [await code(live, who, "secret") for who in ("a", "b", "c")] == [0, 0x86, 0]
        assert [await code(live, who, "secreT") for who in ("a", "c")] == [0x86, 0x86]


async def test_bcrypt() -> None:
    async with running() as live:
        await add(live, PASSWORDS, password_hash_algorithm={"name": "bcrypt", "salt_rounds": 5})
        made = bcrypt.hashpw(b"secret", bcrypt.gensalt(6)).decode()
        assert made.startswith("$2b$06$")
        rows = [{"user_id": "a", "password_hash": made}, {"user_id": "b", "password_hash": "no hash at all"}]
        assert await imported(live, rows, "hash") == counts(2, success=2)
        await user(live, "c", "secret")
        assert [await code(live, who, "secret") for who in "abc"] == [0, 0x86, 0]
        assert [await code(live, who, "secreT") for who in "abc"] == [0x86] * 3


BAD_ALGORITHMS: list[Any] = [
    {"name": "bcrypt", "salt_rounds": 4},
    {"name": "bcrypt", "salt_rounds": 11},
    {"name": "sha256", "salt_position": "middle"},
    {"name": "sha257"},
    {"name": "pbkdf2", "iterations": 0},
    {"name": "pbkdf2", "mac_fun": "sha3", "iterations": 1},
    {"name": "sha256", "pepper": "x"},
    {"salt_position": 5},
    "sha256",
]


async def test_algorithms_that_cannot_be() -> None:
    async with running() as live:
        for algorithm in BAD_ALGORITHMS:
            answer = await live.api.post("/authentication", json=PASSWORDS | {"password_hash_algorithm": algorithm})
            assert "root.password_hash_algorithm" in failed(answer, 400, "BAD_REQUEST")
        assert await got(live, "/authentication") == []


@pytest.mark.parametrize("name", ["sha256", "plain", "pbkdf2", "bcrypt"])
async def test_what_is_kept(name: str, tmp_path: Path) -> None:
    """The archive for another broker has the hashes; salts have 32 hexadecimal digits, and nobody has the same."""
    config = overlay(Config(), {"node": {"data_dir": str(tmp_path)}})
    more: dict[str, Any] = {"bcrypt": {"salt_rounds": 5}, "pbkdf2": {"iterations": 10}}.get(name, {})
    async with running(config) as live:
        await add(live, PASSWORDS, password_hash_algorithm={"name": name, **more})
        for who in ("u1", "u2"):
            await user(live, who, "the password", superuser=True)
        exported = (await live.api.post("/data/export", json={})).json()["filename"]
        archive = tarfile.open(fileobj=io.BytesIO((await live.api.get(f"/data/files/{exported}")).content))  # noqa: SIM115
        member = next(one for one in archive.getnames() if one.endswith("builtin_authn.jsonl"))
        content = archive.extractfile(member)
        assert content is not None
        kept = content.read().decode()
        archive.close()
    lines = [json.loads(line) for line in kept.splitlines()]
    assert len(lines) == 2
    assert ("the password" in kept) is (name == "plain")
    salts: set[Any] = set()
    for line in lines:
        values = next(value for value in (line, *line.values()) if isinstance(value, dict) and "password_hash" in value)
        stored, salt = values["password_hash"], values.get("salt", "")
        if name == "bcrypt":
            assert stored.startswith("$2b$05$")
            assert bcrypt.checkpw(b"the password", stored.encode())
            salts.add(stored[:29])
            continue
        if name == "plain":
            assert (stored, salt) == ("the password", "")
            salts.add(str(line))
            continue
        assert len(salt) == 32
        assert set(salt) <= set("0123456789abcdef")
        salts.add(salt)
        if name == "sha256":
            assert stored == hashlib.sha256(f"{salt}the password".encode()).hexdigest()
        elif name == "pbkdf2":
            assert stored == hashlib.pbkdf2_hmac("sha256", b"the password", salt.encode(), 10).hex()
    assert len(salts) == 2


async def test_nobody_is_shown_a_password() -> None:
    async with running() as live:
        await add(live, PASSWORDS, password_hash_algorithm={"name": "plain", "salt_position": "disable"})
        told: list[str] = []
        for method, where, body in (
            ("POST", USERS, row("u1", "hunter2")),
            ("POST", USERS, row("u1", "hunter2")),
            ("PUT", f"{USERS}/u1", {"password": "hunter2"}),
            ("POST", f"{IMPORT}?type=plain", [row("u2", "hunter2"), row("", "hunter2")]),
            ("POST", f"{IMPORT}?type=plain", [row("u2", "hunter2")]),
            ("POST", USERS, {"user_id": "u3", "password": {"hunter2": "hunter2"}}),
            ("POST", USERS, {"user_id": "u3", "password": ["hunter2"]}),
            ("GET", USERS, None),
            ("GET", f"{USERS}/u1", None),
            ("GET", path(PASSWORD_ID), None),
            ("GET", path(PASSWORD_ID, "status"), None),
            ("GET", "/configs", None),
        ):
            answer = await live.api.request(method, where, json=body)
            assert answer.status_code < 500
            told.append(answer.text)
        assert not [text for text in told if "hunter2" in text]
        assert await codes(live, "u2", "hunter2") == BOTH_IN
        invalid(await live.api.post(USERS, json={"user_id": "u3", "password": ["x"]}), "root.password")
