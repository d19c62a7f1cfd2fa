"""The contract of `/api/v2`, read afresh: users, their passwords and their rights."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from api.live import PASSWORD
from api.older import BOSS, WATCHER
from api.operations import shows
from review.contract_v2 import both, done, got, missing, mistyped, nowhere, refused, result
from trio.testing import MockClock

from trio_broker.store.memory import MemoryStore

FIRST = {"username": "test_user", "password": "password", "tags": "user"}
NO_TEXTS: tuple[Any, ...] = (1, True, None, [], {})


async def tags(v2: httpx.AsyncClient) -> dict[str, str]:
    rows = await got(v2, "/users")
    for row in rows:
        assert {key: type(value) for key, value in row.items()} == {"username": str, "tags": str}
    return {row["username"]: row["tags"] for row in rows}


async def lets_in(v2: httpx.AsyncClient, username: str, password: str) -> bool:
    answer = await v2.get("/management/nodes", auth=(username, password))
    assert answer.status_code in (200, 401)
    return answer.status_code == 200


def code(answer: httpx.Response) -> int:
    """Of a refusal whose words are not settled."""
    assert answer.status_code == 200
    body = answer.json()
    assert "result" not in body
    assert type(body.get("message", "")) is str
    found: int = body["code"]
    return found


@shows(
    "GET /api/v2/users",
    "POST /api/v2/users",
    "PUT /api/v2/users/:username",
    "DELETE /api/v2/users/:username",
    "POST /api/v2/auth",
    "PUT /api/v2/change_pwd/:username",
    "GET /api/v2/users/:username",
)
async def test_the_user_of_the_document(autojump_clock: MockClock) -> None:
    async with both() as (_, v2):
        before = await tags(v2)
        assert before == {"boss": "administrator", "watcher": "viewer"}
        done(await v2.post("/users", json=FIRST))
        assert await tags(v2) == {**before, "test_user": "user"}
        assert await got(v2, "/users/test_user") == {"username": "test_user", "tags": "user"}
        refused(await v2.post("/users", json=FIRST), 113, "User already exist")
        done(await v2.put("/users/test_user", json={"tags": "admin"}))
        assert await tags(v2) == {**before, "test_user": "admin"}
        async with httpx.AsyncClient(transport=v2._transport, base_url=v2.base_url) as plain:
            done(await plain.post("/auth", json={"username": "test_user", "password": "password"}))
        assert await lets_in(v2, "test_user", "password")
        body = {"password": "newpassword", "oldpassword": "password"}
        done(await v2.put("/change_pwd/test_user", json=body))
        assert not await lets_in(v2, "test_user", "password")
        assert await lets_in(v2, "test_user", "newpassword")
        refused(await v2.put("/change_pwd/test_user", json=body), 114, "OldPassword error")
        done(await v2.delete("/users/test_user"))
        assert await tags(v2) == before
        assert not await lets_in(v2, "test_user", "newpassword")
        assert await got(v2, "/users/test_user") == []


@shows("POST /api/v2/users", "PUT /api/v2/users/:username")
async def test_tags_are_any_text_and_kept(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    texts = ("user", "a, b", "ä/ö \U0001f600", "administrator", "x" * 200)
    async with both(store=store) as (_, v2):
        for number, text in enumerate(texts):
            done(await v2.post("/users", json={"username": f"u{number}", "password": PASSWORD, "tags": text}))
            assert (await tags(v2))[f"u{number}"] == text
            done(await v2.put(f"/users/u{number}", json={"tags": text[::-1]}))
            assert (await tags(v2))[f"u{number}"] == text[::-1]
            done(await v2.put(f"/users/u{number}", json={"tags": text}))
    async with both(store=store) as (_, v2):
        shown = await tags(v2)
        assert [shown[f"u{number}"] for number in range(len(texts))] == list(texts)
        assert await lets_in(v2, "u0", PASSWORD)


@shows("POST /api/v2/users", "PUT /api/v2/users/:username")
async def test_no_tags(autojump_clock: MockClock) -> None:
    """Where there is no text, the role stands."""
    async with both() as (_, v2):
        done(await v2.post("/users", json={"username": "u", "password": PASSWORD, "tags": ""}))
        assert (await tags(v2))["u"] == "administrator"
        done(await v2.put("/users/u", json={"tags": "t"}))
        done(await v2.put("/users/u", json={"tags": ""}))
        assert (await tags(v2))["u"] == "administrator"


@shows("POST /api/v2/users")
async def test_users_that_are_not_made(autojump_clock: MockClock) -> None:
    async with both() as (_, v2):
        before = await tags(v2)
        assert code(await v2.post("/users", json={**FIRST, "username": ""})) == 104
        assert code(await v2.post("/users", json={**FIRST, "password": ""})) == 104
        for key in FIRST:
            missing(await v2.post("/users", json={name: text for name, text in FIRST.items() if name != key}))
            for value in NO_TEXTS:
                mistyped(await v2.post("/users", json={**FIRST, key: value}))
        refused(await v2.post("/users", json={**FIRST, "username": "boss"}), 113, "User already exist")
        refused(await v2.post("/users", content=b"tags=user"), 109, "Body not json")
        for name in ("a/b", "a b", "x" * 101):
            assert code(await v2.post("/users", json={**FIRST, "username": name})) == 102
        for password in ("x", "x" * 65, "\u00e4" * 9):
            assert code(await v2.post("/users", json={**FIRST, "password": password})) == 102
        assert await tags(v2) == before


@shows("PUT /api/v2/users/:username", "DELETE /api/v2/users/:username", "PUT /api/v2/change_pwd/:username")
async def test_there_is_no_such_user(autojump_clock: MockClock) -> None:
    async with both() as (_, v2):
        for name in ("nobody", "a%2Fb", "%C3%A4", "Boss"):
            refused(await v2.put(f"/users/{name}", json={"tags": "t"}), 105, "User not found")
            refused(await v2.delete(f"/users/{name}"), 105, "User not found")
            body = {"password": "newpassword", "oldpassword": "password"}
            refused(await v2.put(f"/change_pwd/{name}", json=body), 105, "User not found")
        nowhere(await v2.post("/users/boss", json={}))


@shows("DELETE /api/v2/users/:username")
async def test_the_first_user_is_not_deleted(autojump_clock: MockClock) -> None:
    """Whether it is there or not, and whoever asks."""
    async with both() as (_, v2):
        refused(await v2.delete("/users/admin"), 106, "admin cannot be deleted")
        if "admin" not in await tags(v2):
            done(await v2.post("/users", json={**FIRST, "username": "admin", "tags": "administrator"}))
        refused(await v2.delete("/users/admin"), 106, "admin cannot be deleted")
        refused(await v2.delete("/users/admin", auth=("admin", "password")), 106, "admin cannot be deleted")
        assert (await tags(v2))["admin"] == "administrator"
        done(await v2.put("/users/admin", json={"tags": "chief"}))
        assert (await tags(v2))["admin"] == "chief"
        done(await v2.delete("/users/watcher"))


@shows("POST /api/v2/auth")
async def test_who_is_let_in(autojump_clock: MockClock) -> None:
    async with both() as (_, v2):
        async with httpx.AsyncClient(transport=v2._transport, base_url=v2.base_url) as plain:
            for name in (BOSS[0], WATCHER[0]):
                answer = await plain.post("/auth", json={"username": name, "password": PASSWORD})
                done(answer)
                assert "set-cookie" not in answer.headers
                refused(await plain.post("/auth", json={"username": name, "password": "x"}), 103, "Password error")
            for body in ({"username": "", "password": ""}, {"username": "boss", "password": ""}):
                assert code(await plain.post("/auth", json=body)) == 104
            assert code(await plain.post("/auth", json={"username": "", "password": "x"})) == 104
            for short in ({}, {"username": "boss"}, {"password": 1}):
                missing(await plain.post("/auth", json=short))
            mistyped(await plain.post("/auth", json={"username": 1, "password": "x"}))
            refused(await plain.post("/auth", content=b"x"), 109, "Body not json")
            wrong = await plain.post("/auth", json={"username": "boss", "password": PASSWORD}, auth=("boss", "wrong"))
            done(wrong)


@shows("POST /api/v2/auth")
async def test_a_user_there_is_not(autojump_clock: MockClock) -> None:
    """Said in the same words as a wrong password: EMQ 2 would say "User not found", and so who there is."""
    async with both() as (_, v2):
        refused(await v2.post("/auth", json={"username": "nobody", "password": "x"}), 103, "Password error")


@shows("PUT /api/v2/change_pwd/:username")
async def test_passwords_are_changed(autojump_clock: MockClock) -> None:
    async with both() as (_, v2):
        done(await v2.post("/users", json={**FIRST, "password": "password 0"}))
        path = "/change_pwd/test_user"
        done(await v2.put(path, json={"new_pwd": "password 1", "old_pwd": "password 0"}))
        assert await lets_in(v2, "test_user", "password 1")
        ignored = {"password": "password 9", "oldpassword": "password 8"}
        done(await v2.put(path, json={**ignored, "new_pwd": "password 2", "old_pwd": "password 1"}))
        assert await lets_in(v2, "test_user", "password 2")
        wrong = {
            "password": "password 3",
            "oldpassword": "password 2",
            "new_pwd": "password 4",
            "old_pwd": "password 9",
        }
        refused(await v2.put(path, json=wrong), 114, "OldPassword error")
        for body in (
            {"password": "password 3"},
            {"oldpassword": "password 2"},
            {"new_pwd": "password 3"},
            {"old_pwd": "password 2"},
        ):
            missing(await v2.put(path, json=body))
        mistyped(await v2.put(path, json={"new_pwd": 1, "old_pwd": "password 2"}))
        mistyped(await v2.put(path, json={"password": "password 3", "oldpassword": None}))
        assert await lets_in(v2, "test_user", "password 2")
        done(
            await v2.put(
                path, json={"password": "password 3", "oldpassword": "password 2"}, auth=("test_user", "password 2")
            )
        )
        assert await lets_in(v2, "test_user", "password 3")


@shows("PUT /api/v2/change_pwd/:username", "PUT /api/v2/users/:username")
@pytest.mark.parametrize("tag", ["viewer", "user", "administrator", ""])
async def test_rights(tag: str, autojump_clock: MockClock) -> None:
    """Only the tag `viewer` takes rights away, and at once."""
    async with both() as (_, v2):
        done(await v2.post("/users", json={"username": "u", "password": "password 0", "tags": "user"}))
        auth = ("u", "password 0")
        done(await v2.post("/mqtt/publish", json={"topic": "t"}, auth=auth))
        done(await v2.put("/users/u", json={"tags": tag}))
        result(await v2.get("/users", auth=auth))
        answer = await v2.post("/mqtt/publish", json={"topic": "t"}, auth=auth)
        assert answer.status_code == (403 if tag == "viewer" else 200)
        others = {"password": "password 1", "oldpassword": PASSWORD}
        assert (await v2.put("/change_pwd/watcher", json=others, auth=auth)).status_code == answer.status_code
        done(await v2.put("/change_pwd/u", json={"password": "password 1", "oldpassword": "password 0"}, auth=auth))
        assert await lets_in(v2, "u", "password 1")
        done(await v2.put("/users/u", json={"tags": "user"}))
        done(await v2.post("/mqtt/publish", json={"topic": "t"}, auth=("u", "password 1")))
