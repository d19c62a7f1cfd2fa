"""`/authentication/:id/users` for both authenticators that have users."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
import trio
from actors.flows import end_of
from api.live import Live, running
from api.operations import shows
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_broker.actors.authn import built_in
from trio_broker.actors.authn.users import DOCUMENTS, STRIDE, UserAuthenticator
from trio_broker.config import Config
from trio_broker.config.authentication import (
    BuiltInDatabaseConfig,
    HttpAuthenticatorConfig,
    JwtConfig,
    PasswordHashConfig,
    ScramConfig,
)
from trio_broker.errors import AskTimeout
from trio_broker.store.memory import MemoryStore
from trio_broker.store.operations import Operation
from trio_broker.store.ticket import DONE, Ticket
from trio_broker.testing import open_client

PASSWORDS = "password_based:built_in_database"
SCRAM = "scram:built_in_database"
BOTH = pytest.mark.parametrize("id", [PASSWORDS, SCRAM])
CONFIG = Config(authentication=(BuiltInDatabaseConfig(), ScramConfig()))


def path(user_id: str | None = None, id: str = PASSWORDS) -> str:
    """Every byte percent-encoded, the dots too."""
    users = f"/authentication/{quote(id, safe='')}/users"
    return users if user_id is None else f"{users}/{''.join(f'%{byte:02X}' for byte in user_id.encode())}"


async def code(live: Live, username: str, password: str) -> int:
    async with open_client(live.broker, username=username, password=password.encode()) as client:
        return int(client.connack.reason_code)


@BOTH
@shows(
    "GET /authentication/:id/users",
    "POST /authentication/:id/users",
    "GET /authentication/:id/users/:user_id",
    "PUT /authentication/:id/users/:user_id",
    "DELETE /authentication/:id/users/:user_id",
)
async def test_the_life_of_a_user(id: str) -> None:
    async with running(CONFIG) as live:
        answer = await live.api.post(path(id=id), json={"user_id": "user1", "password": "secret"})
        assert (answer.status_code, answer.json()) == (201, {"user_id": "user1", "is_superuser": False})
        answer = await live.api.get(path("user1", id))
        assert (answer.status_code, answer.json()) == (200, {"user_id": "user1", "is_superuser": False})
        answer = await live.api.put(path("user1", id), json={"password": "other", "is_superuser": True})
        assert (answer.status_code, answer.json()) == (200, {"user_id": "user1", "is_superuser": True})
        answer = await live.api.put(path("user1", id), json={"password": "third"})
        assert answer.json() == {"user_id": "user1", "is_superuser": True}  # kept as it was
        listed = await live.api.get(path(id=id))
        assert listed.json() == {
            "data": [{"user_id": "user1", "is_superuser": True}],
            "meta": {"page": 1, "limit": 100, "count": 1, "hasnext": False},
        }
        answer = await live.api.delete(path("user1", id))
        assert (answer.status_code, answer.content) == (204, b"")
        for method, body in (("GET", None), ("PUT", {"password": "x"}), ("DELETE", None)):
            answer = await live.api.request(method, path("user1", id), json=body)
            assert (answer.status_code, answer.json()) == (404, {"code": "NOT_FOUND", "message": "User not found"})


@BOTH
@shows("POST /authentication/:id/users")
async def test_a_user_that_is_there_already(id: str) -> None:
    async with running(CONFIG) as live:
        for status in (201, 409):
            answer = await live.api.post(path(id=id), json={"user_id": "user1", "password": "x", "is_superuser": True})
            assert answer.status_code == status
        assert answer.json() == {"code": "ALREADY_EXISTS", "message": "User already exists"}


@shows("POST /authentication/:id/users")
async def test_of_two_at_one_time_one_is_made() -> None:
    config = Config(
        authentication=(
            BuiltInDatabaseConfig(password_hash_algorithm=PasswordHashConfig(name="bcrypt", salt_rounds=5)),
        )
    )
    async with running(config) as live:
        statuses: list[int] = []

        async def create() -> None:
            body = {"user_id": "user1", "password": "x"}
            statuses.append((await live.api.post(path(), json=body)).status_code)

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(create)
        assert sorted(statuses) == [201, 409, 409]


@shows("PUT /authentication/:id/users/:user_id", "DELETE /authentication/:id/users/:user_id")
async def test_of_a_user_that_goes_meanwhile() -> None:
    config = Config(
        authentication=(
            BuiltInDatabaseConfig(password_hash_algorithm=PasswordHashConfig(name="bcrypt", salt_rounds=5)),
        )
    )
    async with running(config) as live:
        it = live.broker.questions.authn_users.found(PASSWORDS)
        await it.add_user("user1", "x")
        secret_of = it.secret_of

        async def slow(password: str) -> Any:
            assert (await live.api.delete(path("user1"))).status_code == 204
            return await secret_of(password)

        it.secret_of = slow  # type: ignore[method-assign]
        answer = await live.api.put(path("user1"), json={"password": "y"})
        assert (answer.status_code, answer.json()["message"]) == (404, "User not found")
        assert (await live.api.get(path())).json()["data"] == []


@shows(
    "POST /authentication/:id/users",
    "PUT /authentication/:id/users/:user_id",
    "DELETE /authentication/:id/users/:user_id",
)
async def test_changes_hold_for_the_next_client() -> None:
    async with running(CONFIG) as live:
        await live.api.post(path(), json={"user_id": "user1", "password": "first"})
        client = await live.connect("c1", username="user1", password=b"first")
        await live.api.put(path("user1"), json={"password": "second"})
        await client.ping()  # who is there stays
        assert (await code(live, "user1", "first"), await code(live, "user1", "second")) == (0x86, 0)
        await live.api.delete(path("user1"))
        assert (await end_of(client)).reason_code == 0x87
        assert await code(live, "user1", "second") == 0x86


@BOTH
@shows(
    "POST /authentication/:id/users",
    "PUT /authentication/:id/users/:user_id",
    "DELETE /authentication/:id/users/:user_id",
)
async def test_what_was_changed_is_there_after_a_restart(id: str) -> None:
    store = MemoryStore()
    async with running(CONFIG, store) as live:
        for user_id in ("a", "b", "c"):
            await live.api.post(path(id=id), json={"user_id": user_id, "password": "x"})
        await live.api.put(path("b", id), json={"password": "x", "is_superuser": True})
        await live.api.delete(path("c", id))
    async with running(CONFIG, store) as live:
        data = (await live.api.get(path(id=id))).json()["data"]
        assert sorted((user["user_id"], user["is_superuser"]) for user in data) == [("a", False), ("b", True)]


@shows("GET /authentication/:id/users")
async def test_pages_and_filters() -> None:
    async with running(CONFIG) as live:
        it = live.broker.questions.authn_users.found(PASSWORDS)
        for number in range(1, 121):
            await it.add_user(f"user{number}", "x", is_superuser=number % 40 == 0)

        async def listed(**query: Any) -> tuple[list[str], dict[str, Any]]:
            answer = (await live.api.get(path(), params=query)).json()
            return [user["user_id"] for user in answer["data"]], answer["meta"]

        names, meta = await listed()
        assert (len(names), meta) == (100, {"page": 1, "limit": 100, "count": 120, "hasnext": True})
        names, meta = await listed(page=3, limit=50)
        assert (len(names), meta) == (20, {"page": 3, "limit": 50, "count": 120, "hasnext": False})
        names, meta = await listed(page=9)
        assert (names, meta) == ([], {"page": 9, "limit": 100, "count": 120, "hasnext": False})
        names, meta = await listed(is_superuser="true")
        assert (sorted(names), meta["count"]) == (["user120", "user40", "user80"], 3)
        assert (await listed(is_superuser="false"))[1]["count"] == 117
        names, meta = await listed(like_user_id="r12", limit=1)
        assert (names, meta) == (["user12"], {"page": 1, "limit": 1, "hasnext": True})
        assert await listed(like_user_id="USER") == ([], {"page": 1, "limit": 100, "hasnext": False})
        assert await listed(like_user_id="0", is_superuser="true", limit=2, page=2) == (
            ["user120"],
            {"page": 2, "limit": 2, "hasnext": False},
        )
        assert (await listed(like_user_id=".*"))[0] == []  # no pattern
        assert (await live.api.get(path(), params={"is_superuser": "maybe"})).status_code == 400


NASTY = [
    "+",
    "#",
    "/",
    "a/b",
    "%2F",
    "..",
    ".",
    " ",
    "a:b",
    "A",
    "a",
    "\u0430",
    "e\u0301",
    "\u00e9",
    "😀",
    "x" * 300,
    "?",
]


@BOTH
@shows(
    "POST /authentication/:id/users",
    "GET /authentication/:id/users/:user_id",
    "PUT /authentication/:id/users/:user_id",
    "DELETE /authentication/:id/users/:user_id",
)
async def test_odd_ids(id: str) -> None:
    """As they are, code point by code point: those that look alike are others."""
    async with running(CONFIG) as live:
        for user_id in NASTY:
            answer = await live.api.post(path(id=id), json={"user_id": user_id, "password": "x"})
            assert (answer.status_code, answer.json()["user_id"]) == (201, user_id)
        for user_id in NASTY:
            assert (await live.api.get(path(user_id, id))).json()["user_id"] == user_id
            assert (await live.api.put(path(user_id, id), json={"password": "y"})).status_code == 200
        for user_id in NASTY:
            assert (await live.api.delete(path(user_id, id))).status_code == 204
        assert (await live.api.get(path(id=id))).json()["data"] == []


@shows("GET /authentication/:id/users")
async def test_the_colon_may_stand_as_it_is() -> None:
    async with running(CONFIG) as live:
        for sent in (
            "password_based:built_in_database",
            "password_based%3Abuilt_in_database",
            "scram%3abuilt_in_database",
        ):
            assert (await live.api.get(f"/authentication/{sent}/users")).status_code == 200


@BOTH
@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "root.user_id"),
        ({"user_id": "a"}, "root.password"),
        ({"password": "x"}, "root.user_id"),
        ({"user_id": "", "password": "x"}, "root.user_id"),
        ({"user_id": "a\x00", "password": "x"}, "root.user_id"),
        ({"user_id": "x" * 65_536, "password": "x"}, "root.user_id"),
        ({"user_id": None, "password": "x"}, "root.user_id"),
        ({"user_id": 5, "password": "x"}, "root.user_id"),
        ({"user_id": "a", "password": 517_517}, "root.password"),
        ({"user_id": "a", "password": "topsecret" * 10_000}, "root.password"),
        ({"user_id": "a", "password": "x", "is_superuser": "yes"}, "root.is_superuser"),
        ({"user_id": "a", "password": "x", "is_superuser": 1}, "root.is_superuser"),
        ({"user_id": "a", "password": "x", "more": 1}, "root"),
    ],
)
@shows("POST /authentication/:id/users")
async def test_bodies_that_make_no_user(id: str, body: Any, where: str) -> None:
    """What is wrong is named; a password is not repeated."""
    async with running(CONFIG) as live:
        answer = await live.api.post(path(id=id), json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        assert json.loads(answer.json()["message"])["path"] == where
        assert "517" not in answer.text
        assert "topsecret" not in answer.text
        assert (await live.api.get(path(id=id))).json()["data"] == []


@BOTH
@pytest.mark.parametrize("body", [{}, {"is_superuser": True}, {"password": 5}, {"password": "x", "user_id": "b"}])
@shows("PUT /authentication/:id/users/:user_id")
async def test_bodies_that_change_no_user(id: str, body: Any) -> None:
    async with running(CONFIG) as live:
        await live.api.post(path(id=id), json={"user_id": "a", "password": "x"})
        answer = await live.api.put(path("a", id), json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")


@shows("POST /authentication/:id/users", "PUT /authentication/:id/users/:user_id")
async def test_passwords_that_bcrypt_cannot_take() -> None:
    algorithm = PasswordHashConfig(name="bcrypt", salt_rounds=5)
    async with running(Config(authentication=(BuiltInDatabaseConfig(password_hash_algorithm=algorithm),))) as live:
        await live.api.post(path(), json={"user_id": "a", "password": "x" * 72})
        for method, where, body in (("POST", path(), {"user_id": "b"}), ("PUT", path("a"), {})):
            for password in ("topsecret" * 9, "a\x00b"):
                answer = await live.api.request(method, where, json={**body, "password": password})
                assert answer.status_code == 400
                detail = json.loads(answer.json()["message"])
                assert (detail["path"], "72 bytes" in detail["reason"]) == ("root.password", True)
        assert await code(live, "a", "x" * 72) == 0


CALLS: list[tuple[str, str, Any]] = [
    ("GET", "users", None),
    ("POST", "users", {"user_id": "a", "password": "x"}),
    ("GET", "users/a", None),
    ("PUT", "users/a", {"password": "x"}),
    ("DELETE", "users/a", None),
    ("POST", "import_users", []),
]


@pytest.mark.parametrize(
    ("chain", "id", "status", "message"),
    [
        ((), PASSWORDS, 404, "Authenticator not found in the 'global' scope"),
        ((), "nonsense", 404, "Authenticator not found in the 'global' scope"),
        ((BuiltInDatabaseConfig(),), SCRAM, 404, f"Authenticator '{SCRAM}' does not exist"),
        ((ScramConfig(),), PASSWORDS, 404, f"Authenticator '{PASSWORDS}' does not exist"),
        ((JwtConfig(secret="s"),), "jwt", 400, "User error: unsupported_operation"),
        (
            (HttpAuthenticatorConfig(url="http://127.0.0.1:1/"),),
            "password_based:http",
            400,
            "User error: unsupported_operation",
        ),
    ],
)
@shows(
    "GET /authentication/:id/users",
    "POST /authentication/:id/users",
    "GET /authentication/:id/users/:user_id",
    "PUT /authentication/:id/users/:user_id",
    "DELETE /authentication/:id/users/:user_id",
    "POST /authentication/:id/import_users",
)
async def test_without_such_a_table(autojump_clock: MockClock, chain: Any, id: str, status: int, message: str) -> None:
    async with running(Config(authentication=chain)) as live:
        for method, what, body in CALLS:
            answer = await live.api.request(method, f"/authentication/{quote(id, safe='')}/{what}", json=body)
            expected = {"code": "NOT_FOUND" if status == 404 else "BAD_REQUEST", "message": message}
            assert (answer.status_code, answer.json()) == (status, expected), (method, what)


@BOTH
@shows("GET /authentication/:id/users", "POST /authentication/:id/users")
async def test_users_of_an_authenticator_that_is_disabled(id: str) -> None:
    config = Config(authentication=(BuiltInDatabaseConfig(enable=False), ScramConfig(enable=False)))
    async with running(config) as live:
        assert (await live.api.post(path(id=id), json={"user_id": "a", "password": "x"})).status_code == 201
        assert (await live.api.get(path(id=id))).json()["meta"]["count"] == 1


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(
    ("method", "what", "body"),
    [
        ("POST", "users", {"user_id": "new", "password": "x"}),
        ("PUT", "users/user1", {"password": "y"}),
        (
            "POST",
            "import_users?type=plain",
            [{"user_id": "user1", "password": "y"}, {"user_id": "new", "password": "x"}],
        ),
    ],
)
@shows(
    "POST /authentication/:id/users",
    "PUT /authentication/:id/users/:user_id",
    "POST /authentication/:id/import_users",
)
async def test_of_an_authenticator_that_goes_meanwhile(
    method: str, what: str, body: Any, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While passwords are hashed it is deleted, and perhaps another one is there by now."""
    slow = {"name": "bcrypt", "salt_rounds": 5}
    config = {"mechanism": "password_based", "backend": "built_in_database", "password_hash_algorithm": slow}
    store = MemoryStore()
    async with running(store=store) as live:
        assert (await live.api.post("/authentication", json=config)).status_code == 200
        it = live.broker.questions.authn_users.found(PASSWORDS)
        await it.add_user("user1", "x")

        async def work(call: Any, *args: Any, limiter: Any) -> Any:
            monkeypatch.undo()
            assert (await live.api.delete(f"/authentication/{PASSWORDS}")).status_code == 204
            if again:
                assert (await live.api.post("/authentication", json=config)).status_code == 200
                await live.broker.questions.authn_users.found(PASSWORDS).add_user("user1", "z")
            return call(*args)

        monkeypatch.setattr(built_in, "in_thread", work)
        answer = await live.api.request(method, f"/authentication/{PASSWORDS}/{what}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
        assert list(it.users.all) == ["user1"] * again
        if again:
            assert await code(live, "user1", "z") == 0
    kept = [document.key for document in await store.documents() if document.kind == DOCUMENTS + PASSWORDS]
    assert kept == ["user1"] * again


@shows("POST /authentication/:id/import_users", "DELETE /authentication/:id")
async def test_of_an_authenticator_that_goes_while_users_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them is left."""
    store = MemoryStore()
    async with running(store=store) as live:
        config = {"mechanism": "password_based", "backend": "built_in_database"}
        assert (await live.api.post("/authentication", json=config)).status_code == 200
        users = live.broker.questions.authn_users.passwords

        async def room() -> None:
            monkeypatch.undo()
            assert len(users.all) == STRIDE
            assert (await live.api.delete(f"/authentication/{PASSWORDS}")).status_code == 204

        monkeypatch.setattr(users._core.store, "room", room)
        rows = [{"user_id": f"u{number}", "password": "x"} for number in range(2 * STRIDE)]
        answer = await live.api.post(f"/authentication/{PASSWORDS}/import_users?type=plain", json=rows)
        expected = {"code": "NOT_FOUND", "message": "Authenticator not found in the 'global' scope"}
        assert (answer.status_code, answer.json()) == (404, expected)
        assert not users.all
    assert not [document for document in await store.documents() if document.kind == DOCUMENTS + PASSWORDS]


@shows(
    "POST /authentication/:id/users",
    "PUT /authentication/:id/users/:user_id",
    "DELETE /authentication/:id/users/:user_id",
    "POST /authentication/:id/import_users",
)
async def test_a_viewer_looks_only() -> None:
    async with running(CONFIG) as live:
        await live.api.post(path(), json={"user_id": "a", "password": "x"})
        for method, what, body in CALLS:
            answer = await live.api.request(
                method, f"/authentication/{PASSWORDS}/{what}", json=body, auth=live.as_viewer()
            )
            assert answer.status_code == (200 if method == "GET" else 403)


@shows(
    "POST /authentication/:id/users",
    "PUT /authentication/:id/users/:user_id",
    "DELETE /authentication/:id/users/:user_id",
)
async def test_a_store_that_does_not_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """503; connections of a user that was deleted end all the same."""
    async with running(CONFIG) as live:
        it: UserAuthenticator[Any] = live.broker.questions.authn_users.found(PASSWORDS)
        await it.add_user("a", "x")
        client = await live.connect("c", username="a", password=b"x")

        async def never() -> None:
            await trio.lowlevel.checkpoint()
            raise AskTimeout("the disk is full")

        monkeypatch.setattr(it.core, "durable", never)
        for method, where, body in (
            ("POST", path(), {"user_id": "b", "password": "x"}),
            ("PUT", path("a"), {"password": "x"}),
            ("DELETE", path("a"), None),
        ):
            answer = await live.api.request(method, where, json=body)
            assert (answer.status_code, answer.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
        assert (await end_of(client)).reason_code == 0x87


class HeldStore(MemoryStore):
    """What is written while `held` is durable when that is done."""

    held: Ticket | None = None
    written = trio.Event()

    @property
    def ticket(self) -> Ticket:
        return DONE if self.held is None else self.held

    def write(self, *operations: Operation) -> Ticket:
        self.written.set()
        return super().write(*operations)


@BOTH
@shows(
    "POST /authentication/:id/users",
    "PUT /authentication/:id/users/:user_id",
    "DELETE /authentication/:id/users/:user_id",
    "POST /authentication/:id/import_users",
)
async def test_it_is_answered_when_it_is_durable(id: str) -> None:
    store = HeldStore()
    calls: list[tuple[str, str, Any]] = [
        ("POST", path(id=id), {"user_id": "a", "password": "x"}),
        ("PUT", path("a", id), {"password": "y"}),
        ("DELETE", path("a", id), None),
    ]
    if id == PASSWORDS:
        calls.append(("POST", f"/authentication/{id}/import_users?type=plain", [{"user_id": "b", "password": "x"}]))
    async with running(CONFIG, store) as live:
        answers: list[int] = []

        async def ask(method: str, where: str, body: Any) -> None:
            answers.append((await live.api.request(method, where, json=body)).status_code)

        for method, where, body in calls:
            store.held, store.written = Ticket(), trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, method, where, body)
                with trio.fail_after(5):
                    await store.written.wait()
                await wait_all_tasks_blocked()
                assert answers == []
                store.held.resolve()
            assert answers.pop() in (200, 201, 204)
        store.held = None
