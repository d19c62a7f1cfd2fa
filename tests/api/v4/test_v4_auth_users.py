"""`/auth_username` and `/auth_clientid` of EMQX 4."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from actors.flows import end_of
from api.live import Live, running
from api.older import older
from api.operations import shows
from attrs import evolve
from trio.testing import MockClock

from trio_broker.actors.authn.users import DOCUMENTS
from trio_broker.config import Config, NodeConfig
from trio_broker.config.authentication import BuiltInDatabaseConfig, PasswordHashConfig
from trio_broker.store.memory import MemoryStore
from trio_broker.store.operations import PutDocument
from trio_broker.testing import open_client

BY_NAME = "password_based:built_in_database"
BY_CLIENT_ID = f"{BY_NAME}:clientid"
BOTH = Config(
    authentication=(BuiltInDatabaseConfig(), BuiltInDatabaseConfig(user_id_type="clientid", user_table="clientid"))
)
KINDS = pytest.mark.parametrize("kind", ["username", "clientid"])
DONE = {"code": 0}
LET_IN, REFUSED = 0, 0x86


async def code(live: Live, client_id: str = "c", username: str | None = None, password: str = "") -> int:
    async with open_client(live.broker, client_id=client_id, username=username, password=password.encode()) as client:
        return int(client.connack.reason_code)


async def of(live: Live, kind: str, name: str, password: str) -> int:
    """How the CONNACK answers this client id or user name, the other one being nobody's."""
    return await (code(live, "other", name, password) if kind == "username" else code(live, name, "other", password))


async def listed(v4: httpx.AsyncClient, path: str) -> tuple[list[str], dict[str, Any]]:
    answer = (await v4.get(path)).json()
    assert answer["code"] == 0
    return [row.get("username", row.get("clientid")) for row in answer["data"]], answer["meta"]


async def start(live: Live, v4: httpx.AsyncClient) -> dict[str, Any]:
    """The plugin, and with it what is missing of the two."""
    node = live.broker.questions.node_name
    answer: dict[str, Any] = (await v4.put(f"/nodes/{node}/plugins/emqx_auth_mnesia/load")).json()
    return answer


@KINDS
@shows(
    "GET /api/v4/auth_username", "POST /api/v4/auth_username", "GET /api/v4/auth_username/:username",
    "PUT /api/v4/auth_username/:username", "DELETE /api/v4/auth_username/:username",
    "GET /api/v4/auth_clientid", "POST /api/v4/auth_clientid", "GET /api/v4/auth_clientid/:clientid",
    "PUT /api/v4/auth_clientid/:clientid", "DELETE /api/v4/auth_clientid/:clientid",
)  # fmt: skip
async def test_the_life_of_a_user(autojump_clock: MockClock, kind: str) -> None:
    users = f"/auth_{kind}"
    async with running(BOTH) as live, older(live, "v4") as v4:
        assert (await v4.get(f"{users}/u1")).json() == {"code": 0, "data": {}}
        assert await of(live, kind, "u1", "secret") == REFUSED
        answer = await v4.post(users, json={kind: "u1", "password": "secret"})
        assert (answer.status_code, answer.json()) == (200, DONE)
        (shown,) = (await v4.get(users)).json()["data"]
        assert shown.keys() == {kind, "created_at"}
        assert shown[kind] == "u1"
        assert isinstance(shown["created_at"], int)
        assert shown["created_at"] > 1_600_000_000_000
        assert (await v4.get(f"{users}/u1")).json() == {"code": 0, "data": shown}
        assert await of(live, kind, "u1", "secret") == LET_IN
        assert await of(live, kind, "u1", "other") == REFUSED

        await trio.sleep(10)
        assert (await v4.put(f"{users}/u1", json={"password": "other"})).json() == DONE
        assert await of(live, kind, "u1", "secret") == REFUSED
        assert await of(live, kind, "u1", "other") == LET_IN
        assert (await v4.get(f"{users}/u1")).json() == {"code": 0, "data": shown}

        client = await live.connect(client_id="u1", username="u1", password=b"other")
        for _ in range(2):  # also one that there is not
            assert (await v4.delete(f"{users}/u1")).json() == DONE
        assert (await end_of(client)).reason_code == 0x87
        assert (await v4.get(users)).json()["data"] == []
        answer = await v4.put(f"{users}/u1", json={"password": "x"})
        assert (answer.status_code, answer.json()) == (200, {"code": 105, "message": "noexisted"})


@KINDS
@shows("POST /api/v4/auth_username", "POST /api/v4/auth_clientid")
async def test_what_is_no_user(autojump_clock: MockClock, kind: str) -> None:
    async with running(BOTH) as live, older(live, "v4") as v4:
        assert (await v4.post(f"/auth_{kind}", json={kind: "u1", "password": "p"})).json() == DONE
        for body, number, message in (
            ({kind: "u1", "password": "q"}, 113, "existed"),
            ({kind: "", "password": "q"}, 104, "login"),
            ({kind: 1, "password": "q"}, 104, "login"),
            ({"password": "q"}, 104, "login"),
            ({}, 104, "login"),
            ({kind: "a\0", "password": "q"}, 102, "login"),
            ({kind: "u2"}, 104, "password"),
            ({kind: "u2", "password": ""}, 104, "password"),
            ({kind: "u2", "password": 1}, 104, "password"),
            ({kind: "u2", "password": "x" * 65_536}, 102, "password"),
        ):
            answer = await v4.post(f"/auth_{kind}", json=body)
            assert (answer.status_code, answer.json()) == (200, {"code": number, "message": message})
        assert (await v4.post(f"/auth_{kind}")).json() == {"code": 104, "message": "login"}
        assert (await listed(v4, f"/auth_{kind}"))[0] == ["u1"]


@KINDS
@shows("PUT /api/v4/auth_username/:username", "PUT /api/v4/auth_clientid/:clientid")
async def test_what_is_no_password(autojump_clock: MockClock, kind: str) -> None:
    async with running(BOTH) as live, older(live, "v4") as v4:
        for said, number in (({}, 104), ({"password": ""}, 104), ({"password": None}, 104), ({"password": 1}, 104)):
            answer = await v4.put(f"/auth_{kind}/u1", json=said)
            assert answer.json() == {"code": number, "message": "password"}
        await v4.post(f"/auth_{kind}", json={kind: "u1", "password": "p"})
        answer = await v4.put(f"/auth_{kind}/u1", json={"password": "x" * 65_536})
        assert answer.json() == {"code": 102, "message": "password"}


@KINDS
@shows("POST /api/v4/auth_username", "POST /api/v4/auth_clientid")
async def test_a_batch(autojump_clock: MockClock, kind: str) -> None:
    async with running(BOTH) as live, older(live, "v4") as v4:
        await v4.post(f"/auth_{kind}", json={kind: "u2", "password": "before"})
        batch: list[Any] = [
            {kind: "u1", "password": "p1"},
            {kind: "u2", "password": "p2"},
            {kind: "u3", "password": ""},
            {kind: "u4"},
            {kind: "", "password": "p"},
            {kind: 5, "password": "p"},
            {kind: "u6", "password": "x" * 65_536},
            "u7",
            {kind: "u8", "password": "p8"},
        ]
        answer = await v4.post(f"/auth_{kind}", json=batch)
        assert (answer.status_code, answer.json()) == (
            200,
            {
                "code": 0,
                "data": {
                    "u1": "ok",
                    "u2": "{error,existed}",
                    "u3": "{error,password}",
                    "u4": "{error,password}",
                    "": "{error,login}",
                    "5": "{error,login}",
                    "u6": "{error,password}",
                    "undefined": "{error,login}",
                    "u8": "ok",
                },
            },
        )
        assert sorted((await listed(v4, f"/auth_{kind}"))[0]) == ["u1", "u2", "u8"]
        assert await of(live, kind, "u8", "p8") == LET_IN
        assert await of(live, kind, "u2", "p2") == REFUSED
        assert (await v4.post(f"/auth_{kind}", json=[])).json() == {"code": 0, "data": {}}


@KINDS
@shows("GET /api/v4/auth_username", "GET /api/v4/auth_clientid")
async def test_lists(autojump_clock: MockClock, kind: str) -> None:
    users = f"/auth_{kind}"
    async with running(BOTH) as live, older(live, "v4") as v4:
        meta = {"page": 1, "limit": 10000, "count": 0, "hasnext": False}
        assert (await v4.get(users)).json() == {"code": 0, "data": [], "meta": meta}
        for number in range(1, 6):
            await v4.post(users, json={kind: f"u{number}", "password": "p"})
            await trio.sleep(1)
        await v4.put(f"{users}/u2", json={"password": "q"})
        assert await listed(v4, users) == (["u5", "u4", "u3", "u2", "u1"], {**meta, "count": 5})
        assert await listed(v4, f"{users}?_limit=2") == (
            ["u5", "u4"],
            {"page": 1, "limit": 2, "count": 5, "hasnext": True},
        )
        assert await listed(v4, f"{users}?_limit=2&_page=3") == (
            ["u1"],
            {"page": 3, "limit": 2, "count": 5, "hasnext": False},
        )
        found = {**meta, "count": -1}
        assert await listed(v4, f"{users}?{kind}=u3") == (["u3"], found)
        assert await listed(v4, f"{users}?{kind}=u") == ([], found)
        assert await listed(v4, f"{users}?_like_{kind}=u") == (["u5", "u4", "u3", "u2", "u1"], found)
        assert await listed(v4, f"{users}?_like_{kind}=4") == (["u4"], found)
        assert await listed(v4, f"{users}?{kind}=u3&_like_{kind}=4") == (["u3"], found)
        assert await listed(v4, f"{users}?_like_{kind}=u&_limit=3") == (
            ["u5", "u4", "u3"],
            {"page": 1, "limit": 3, "count": -1, "hasnext": True},
        )
        assert (await v4.get(f"{users}?_limit=x")).json()["code"] == 108


@shows("GET /api/v4/auth_username/:username")
async def test_names_are_percent_encoded(autojump_clock: MockClock) -> None:
    async with running(BOTH) as live, older(live, "v4") as v4:
        await v4.post("/auth_username", json={"username": "a/b ü%", "password": "p"})
        shown = (await v4.get("/auth_username/a%2Fb%20%C3%BC%25")).json()["data"]
        assert shown["username"] == "a/b ü%"


async def test_the_same_users_in_v5(autojump_clock: MockClock) -> None:
    async with running(BOTH) as live, older(live, "v4") as v4:
        await v4.post("/auth_username", json={"username": "anna", "password": "p"})
        await v4.post("/auth_clientid", json={"clientid": "meter", "password": "p"})
        for authenticator, user_id in ((BY_NAME, "anna"), (BY_CLIENT_ID, "meter")):
            users = f"/authentication/{authenticator}/users"
            row = {"user_id": user_id, "is_superuser": False}
            assert (await live.api.get(users)).json()["data"] == [row]
            answer = await live.api.post(users, json={"user_id": "from v5", "password": "q"})
            assert answer.status_code == 201
        for kind, user_id in (("username", "anna"), ("clientid", "meter")):
            assert (await listed(v4, f"/auth_{kind}"))[0] == ["from v5", user_id]
            assert await of(live, kind, "from v5", "q") == LET_IN
        shown = (await live.api.get("/authentication")).json()
        assert [(one["id"], one.get("user_table")) for one in shown] == [(BY_NAME, None), (BY_CLIENT_ID, "clientid")]


async def test_each_has_users_of_its_own_in_any_order(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    body = {"mechanism": "password_based", "backend": "built_in_database"}
    async with running(store=store) as live, older(live, "v4") as v4:
        assert (await live.api.post("/authentication", json=body)).json()["id"] == BY_NAME
        await v4.post("/auth_username", json={"username": "anna", "password": "p"})
        assert (await v4.get("/auth_clientid")).status_code == 404
        assert await start(live, v4) == DONE
        await v4.post("/auth_clientid", json={"clientid": "meter", "password": "p"})
        answer = await live.api.put(f"/authentication/{BY_CLIENT_ID}/position/front")
        assert answer.status_code == 204
    async with running(store=store) as live, older(live, "v4") as v4:
        names = [one["id"] for one in (await live.api.get("/authentication")).json()]
        assert names == [BY_CLIENT_ID, BY_NAME]
        assert (await listed(v4, "/auth_username"))[0] == ["anna"]
        assert (await listed(v4, "/auth_clientid"))[0] == ["meter"]
        assert (await live.api.delete(f"/authentication/{BY_NAME}")).status_code == 204
        assert (await v4.get("/auth_username")).status_code == 404
    async with running(store=store) as live, older(live, "v4") as v4:
        assert [one["id"] for one in (await live.api.get("/authentication")).json()] == [BY_CLIENT_ID]
        assert (await listed(v4, "/auth_clientid"))[0] == ["meter"]
        assert await start(live, v4) == DONE
        assert (await listed(v4, "/auth_username"))[0] == []  # who deletes an authenticator deletes its users
        assert [one["id"] for one in (await live.api.get("/authentication")).json()] == [BY_CLIENT_ID, BY_NAME]


async def test_a_second_one_in_v5(autojump_clock: MockClock) -> None:
    body = {"mechanism": "password_based", "backend": "built_in_database"}
    second = {**body, "user_id_type": "clientid", "user_table": "clientid"}
    async with running() as live:
        assert (await live.api.post("/authentication", json=body)).status_code == 200
        answer = await live.api.post("/authentication", json={**body, "user_id_type": "clientid"})
        assert answer.status_code == 409  # as before
        for wrong in ({"user_table": "clientid"}, {"user_table": "username"}, {"user_table": "peerhost"}):
            answer = await live.api.post("/authentication", json={**body, **wrong})
            assert answer.status_code == 400, wrong
        answer = await live.api.post("/authentication", json=second)
        assert (answer.status_code, answer.json()["id"]) == (200, BY_CLIENT_ID)
        assert (await live.api.post("/authentication", json=second)).status_code == 409
        path = f"/authentication/{BY_CLIENT_ID}"
        change = {**body, "user_id_type": "clientid", "enable": False}
        assert (await live.api.put(path, json=change)).status_code == 204
        assert (await live.api.get(path)).json()["enable"] is False
        answer = await live.api.put(path, json={"mechanism": "scram", "backend": "built_in_database"})
        assert (answer.status_code, answer.json()["message"]) == (400, "Change of authentication type is not allowed")
        answer = await live.api.put(f"/authentication/{BY_NAME}", json=second)
        assert (answer.status_code, answer.json()["message"]) == (400, "Change of authentication type is not allowed")
        answer = await live.api.put(f"/authentication/{BY_NAME}", json={**body, "user_id_type": "clientid"})
        assert answer.status_code == 400
        assert (await live.api.delete(path)).status_code == 204


@KINDS
@shows("GET /api/v4/auth_username", "GET /api/v4/auth_clientid")
async def test_where_there_is_none(autojump_clock: MockClock, kind: str) -> None:
    off = BuiltInDatabaseConfig(user_id_type=kind, enable=False)
    for config in (Config(), Config(authentication=(off,))):
        async with running(config) as live, older(live, "v4") as v4:
            users = f"/auth_{kind}"
            for method, path, body in (
                ("GET", users, None),
                ("POST", users, {kind: "u", "password": "p"}),
                ("GET", f"{users}/u", None),
                ("PUT", f"{users}/u", {"password": "p"}),
                ("DELETE", f"{users}/u", None),
            ):
                answer = await v4.request(method, path, json=body)
                assert (answer.status_code, answer.text) == (404, "Not found.")
            assert await start(live, v4) == DONE
            assert (await v4.post(users, json={kind: "u", "password": "p"})).json() == DONE
            assert (await v4.get(users)).json()["meta"]["count"] == 1


@shows("GET /api/v4/auth_username")
async def test_users_from_before_creation_times_were_kept(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(BOTH, store) as live, older(live, "v4") as v4:
        await v4.post("/auth_username", json={"username": "new", "password": "p"})
        (kept,) = [one for one in await store.documents() if one.kind == DOCUMENTS + BY_NAME]
    body = json.loads(kept.body)
    store.write(PutDocument(kept.kind, "old", json.dumps(body[1:])))
    async with running(BOTH, store) as live, older(live, "v4") as v4:
        assert (await v4.get("/auth_username/old")).json() == {"code": 0, "data": {"username": "old"}}
        assert (await v4.get("/auth_username/new")).json()["data"] == {"username": "new", "created_at": body[0]}
        assert (await listed(v4, "/auth_username"))[0] == ["new", "old"]
        assert await code(live, "c", "old", "p") == LET_IN


async def test_both_tables_are_carried_to_another_broker(autojump_clock: MockClock, tmp_path: Path) -> None:
    config = evolve(BOTH, node=NodeConfig(data_dir=str(tmp_path)))
    async with running(config) as live, older(live, "v4") as v4:
        await v4.post("/auth_username", json={"username": "anna", "password": "p"})
        await v4.post("/auth_clientid", json={"clientid": "meter", "password": "q"})
        before = [(await v4.get(f"/auth_{one}")).json()["data"] for one in ("username", "clientid")]
        exported = (await live.api.post("/data/export", json={"root_keys": []})).json()["filename"]
    await trio.sleep(60)
    async with running(config) as live, older(live, "v4") as v4:
        assert (await live.api.post("/data/import", json={"filename": exported})).status_code == 204
        assert [(await v4.get(f"/auth_{one}")).json()["data"] for one in ("username", "clientid")] == before
        assert await of(live, "username", "anna", "p") == LET_IN
        assert await of(live, "clientid", "meter", "q") == LET_IN


@shows("POST /api/v4/auth_username")
async def test_slow_hashes(autojump_clock: MockClock) -> None:
    slow = BuiltInDatabaseConfig(password_hash_algorithm=PasswordHashConfig(name="bcrypt", salt_rounds=5))
    async with running(Config(authentication=(slow,))) as live, older(live, "v4") as v4:
        batch = [{"username": "a", "password": "p"}, {"username": "b", "password": "x" * 73}]
        answer = (await v4.post("/auth_username", json=batch)).json()
        assert answer == {"code": 0, "data": {"a": "ok", "b": "{error,password}"}}
        assert await code(live, "c", "a", "p") == LET_IN
        assert await code(live, "c", "a", "q") == REFUSED


async def test_who_may(autojump_clock: MockClock) -> None:
    async with running(BOTH) as live, older(live, "v4") as v4:
        viewer = live.as_viewer()
        assert (await v4.get("/auth_username", auth=viewer)).status_code == 200
        body = {"username": "u", "password": "p"}
        assert (await v4.post("/auth_username", json=body, auth=viewer)).status_code == 403
        assert (await v4.delete("/auth_username/u", auth=viewer)).status_code == 403


@shows("POST /api/v4/auth_username", "POST /api/v4/auth_clientid")
@pytest.mark.parametrize("kind", ["username", "clientid"])
async def test_names_that_are_too_deep_to_be_sent_back(autojump_clock: MockClock, kind: str) -> None:
    async with running() as live, older(live, "v4") as v4:
        await start(live, v4)
        seen = set()
        for depth in range(800, 1000):
            deep = "[" * depth + "]" * depth
            answer = await v4.post(f"/auth_{kind}", content=f'[{{"{kind}": {deep}}}]')
            seen.add(answer.status_code)
            if answer.status_code == 200:
                assert answer.json()["data"] in [{name: "{error,login}"} for name in (deep, "undefined")]
        assert seen == {200, 400}
