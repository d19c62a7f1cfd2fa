"""`/authentication`: the chain of authenticators over REST."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from actors.fake_access import Script, fakes
from api.live import Live, running
from api.operations import shows
from trio.testing import MockClock

from trio_broker.access.authentication import Verdict
from trio_broker.config import Config, Layers
from trio_broker.config.authentication import BuiltInDatabaseConfig, HttpAuthenticatorConfig, JwtConfig
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import open_client

USERS, WEB, TOKENS, METHOD = "password_based:built_in_database", "password_based:http", "jwt", "scram:built_in_database"
WEB_BODY = {
    "mechanism": "password_based",
    "backend": "http",
    "method": "post",
    "url": "http://127.0.0.1:1/auth/${clientid}",
    "body": {"user": "${username}"},
    "request_timeout": "3s",
}
TOKENS_BODY = {"mechanism": "jwt", "use_jwks": False, "algorithm": "hmac-based", "secret": "very secret"}
USERS_BODY = {"mechanism": "password_based", "backend": "built_in_database", "user_id_type": "clientid"}
METHOD_BODY = {"mechanism": "scram", "backend": "built_in_database"}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    return fakes(monkeypatch)


async def add(live: Live, *bodies: dict[str, Any]) -> None:
    for body in bodies:
        answer = await live.api.post("/authentication", json=body)
        assert answer.status_code == 200, answer.text


async def order(live: Live) -> list[str]:
    return [one["id"] for one in (await live.api.get("/authentication")).json()]


def secrets_of(live: Live) -> str:
    for one in live.broker.questions.settings.config.authentication:
        if isinstance(one, JwtConfig):
            return one.secret
    raise LookupError("no jwt")


@shows("GET /authentication", "POST /authentication", "GET /authentication/:id")
async def test_add_and_look(script: Script) -> None:
    async with running() as live:
        answer = await live.api.get("/authentication")
        assert (answer.status_code, answer.json()) == (200, [])
        answer = await live.api.post("/authentication", json=USERS_BODY)
        stored = {
            **USERS_BODY,
            "id": USERS,
            "enable": True,
            "bootstrap_file": "",
            "bootstrap_type": "plain",
            "password_hash_algorithm": {"name": "sha256", "salt_position": "prefix"},
        }
        assert (answer.status_code, answer.json()) == (200, stored)
        await add(live, WEB_BODY, TOKENS_BODY)
        assert await order(live) == [USERS, WEB, TOKENS]
        shown = (await live.api.get("/authentication/password_based%3Ahttp")).json()
        assert shown.items() >= {**WEB_BODY, "id": WEB, "connect_timeout": "15s", "pool_size": 8}.items()
        assert (await live.api.get("/authentication/password_based:built_in_database")).json() == stored
        assert [one["id"] for one in (await live.api.get("/authentication")).json()] == [USERS, WEB, TOKENS]


@shows("POST /authentication", "GET /authentication/:id", "GET /authentication")
async def test_secrets_are_not_shown(script: Script) -> None:
    async with running() as live:
        answers = [await live.api.post("/authentication", json=TOKENS_BODY)]
        answers += [await live.api.get(path) for path in ("/authentication", "/authentication/jwt", "/configs")]
        assert all("very secret" not in answer.text for answer in answers)
        assert (answers[0].json()["secret"], answers[2].json()["secret"]) == ("******", "******")
        assert secrets_of(live) == "very secret"


@shows("POST /authentication", "PUT /configs", "PUT /prometheus", "POST /authorization/sources")
@pytest.mark.parametrize("url", ["http://usr:s3cret@host/", "http://usr:s3c/ret@host", "http:usr:s3cret@host#x"])
async def test_a_password_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    async with running() as live:
        keys = {**TOKENS_BODY, "use_jwks": True, "endpoint": url}
        bodies: list[tuple[str, str, Any]] = [
            ("POST", "/authentication", WEB_BODY | {"url": url}),
            ("POST", "/authentication", keys),
            ("POST", "/authentication", WEB_BODY | {"ulr": url}),
            ("POST", "/authorization/sources", {"type": "http", "url": url}),
            ("PUT", "/prometheus", {"push_gateway": {"url": url}}),
        ]
        answers = [await live.api.request(method, path, json=body) for method, path, body in bodies]
        text = json.dumps({"authentication": [WEB_BODY | {"url": url}]})
        answers.append(await live.api.put("/configs", content=text, headers={"content-type": "text/plain"}))
        for answer in answers:
            assert answer.status_code == 400
            assert "s3c" not in answer.text
        assert "****** is not a URL" in answers[0].text


REFUSED: list[tuple[Any, str, str]] = [
    ({}, "root", "mechanism and backend"),
    ({"mechanism": "password_based"}, "root", "mechanism and backend"),
    ({"mechanism": "password_based", "backend": "mysql"}, "root", "password_based:mysql"),
    ({"mechanism": "scram", "backend": "http"}, "root", "scram:http"),
    ({**USERS_BODY, "user_id_type": "email"}, "root.user_id_type", "one of username, clientid"),
    ({**USERS_BODY, "enable": "perhaps"}, "root.enable", "true or false"),
    ({**USERS_BODY, "tables": 1}, "root.tables", "unknown key"),
    (
        {**USERS_BODY, "password_hash_algorithm": {"name": "rot13"}},
        "root.password_hash_algorithm.name",
        "one of plain",
    ),
    ({**METHOD_BODY, "iteration_count": 1}, "root.iteration_count", "4096"),
    ({**WEB_BODY, "url": None}, "root.url", "is needed"),
    ({**WEB_BODY, "url": "ftp://x"}, "root.url", "a URL"),
    ({**WEB_BODY, "url": "https://127.0.0.1/"}, "root.ssl.enable", "must be true for https"),
    ({**WEB_BODY, "method": "put"}, "root.method", "one of get, post"),
    ({**WEB_BODY, "method": "get", "headers": {"Content-Type": "x"}}, "root.headers", "content-type"),
    ({**WEB_BODY, "ssl": {"certfile": "c.pem"}}, "root.ssl.keyfile", "is needed"),
    ({**WEB_BODY, "request_timeout": "soon"}, "root.request_timeout", "duration"),
    ({**TOKENS_BODY, "secret": ""}, "root.secret", "is needed"),
    ({**TOKENS_BODY, "secret": "******"}, "root.secret", "is needed"),
    ({**TOKENS_BODY, "secret": "?", "secret_base64_encoded": True}, "root.secret", "base64"),
    ({**TOKENS_BODY, "algorithm": "public-key"}, "root.public_key", "is needed"),
    ({**TOKENS_BODY, "use_jwks": True}, "root.endpoint", "is needed"),
    ({**TOKENS_BODY, "use_jwks": True, "endpoint": "https://127.0.0.1/k"}, "root.ssl.enable", "must be true"),
]


@shows("POST /authentication", "PUT /authentication/:id")
@pytest.mark.parametrize(("body", "path", "reason"), REFUSED)
async def test_what_cannot_be(script: Script, body: Any, path: str, reason: str) -> None:
    """400 that names the field; nothing has changed."""
    async with running() as live:
        answer = await live.api.post("/authentication", json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        message = json.loads(answer.json()["message"])
        assert message["path"] == path
        assert reason in message["reason"]
        assert await order(live) == []
        if "backend" in body and path != "root":
            there: dict[str, Any] = WEB_BODY if body["mechanism"] == "password_based" else METHOD_BODY
            await add(live, there)
            if body["backend"] == "http":
                before = (await live.api.get("/authentication")).json()
                answer = await live.api.put(f"/authentication/{WEB}", json=body)
                assert (answer.status_code, json.loads(answer.json()["message"])["path"]) == (400, path)
                assert (await live.api.get("/authentication")).json() == before


@shows("POST /authentication")
async def test_what_cannot_be_started(script: Script) -> None:
    script.refuses_to_start.add(WEB)
    async with running() as live:
        answer = await live.api.post("/authentication", json=WEB_BODY)
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        assert json.loads(answer.json()["message"]) == {
            "kind": "validation_error",
            "path": "url",
            "reason": "cannot be",
        }
        assert await order(live) == []


@shows("POST /authentication")
async def test_one_of_a_kind(script: Script) -> None:
    async with running() as live:
        await add(live, USERS_BODY)
        answer = await live.api.post("/authentication", json={**USERS_BODY, "user_id_type": "username"})
        expected = {"code": "ALREADY_EXISTS", "message": f"Authenticator '{USERS}' already exist"}
        assert (answer.status_code, answer.json()) == (409, expected)
        assert (await live.api.get(f"/authentication/{USERS}")).json()["user_id_type"] == "clientid"


@shows(
    "GET /authentication/:id",
    "PUT /authentication/:id",
    "DELETE /authentication/:id",
    "GET /authentication/:id/status",
    "PUT /authentication/:id/position/:position",
)
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("PUT", "", WEB_BODY),
        ("DELETE", "", None),
        ("GET", "/status", None),
        ("PUT", "/position/front", None),
    ],
)
@pytest.mark.parametrize("id", [WEB, "nonsense"])
async def test_one_there_is_not(script: Script, method: str, path: str, body: Any, id: str) -> None:
    async with running() as live:
        await add(live, USERS_BODY)
        answer = await live.api.request(method, f"/authentication/{id}{path}", json=body)
        expected = {"code": "NOT_FOUND", "message": f"Authenticator '{id}' does not exist"}
        assert (answer.status_code, answer.json()) == (404, expected)


@shows("PUT /authentication/:id")
async def test_replace(script: Script) -> None:
    """The whole of it: what is not named has its default again, but for hidden secrets."""
    async with running() as live:
        await add(live, USERS_BODY, TOKENS_BODY, WEB_BODY)
        shown = (await live.api.get("/authentication/jwt")).json()
        answer = await live.api.put("/authentication/jwt", json={**shown, "from": "username"})
        assert (answer.status_code, answer.content) == (204, b"")
        after = (await live.api.get("/authentication/jwt")).json()
        assert after == {**shown, "from": "username"}
        assert secrets_of(live) == "very secret"
        answer = await live.api.put("/authentication/jwt", json={**TOKENS_BODY, "secret": "other"})
        assert answer.status_code == 204
        assert (secrets_of(live), (await live.api.get("/authentication/jwt")).json()) == ("other", shown)
        assert await order(live) == [USERS, TOKENS, WEB]
        put = {"mechanism": "password_based", "backend": "http", "url": "http://127.0.0.1:2/"}
        assert (await live.api.put(f"/authentication/{WEB}", json=put)).status_code == 204
        assert (await live.api.get(f"/authentication/{WEB}")).json()["body"] == {}


@shows("GET /authentication/:id", "PUT /authentication/:id")
@pytest.mark.parametrize(
    "algorithm",
    [
        {"name": "md5", "salt_position": "disable"},
        {"name": "bcrypt", "salt_rounds": 7},
        {"name": "pbkdf2", "mac_fun": "sha512", "iterations": 9},
        {"name": "pbkdf2", "mac_fun": "sha", "iterations": 9, "dk_length": 12},
    ],
)
async def test_what_is_shown_of_an_algorithm_can_be_put(script: Script, algorithm: dict[str, Any]) -> None:
    """Its own fields, and no others."""
    async with running() as live:
        await add(live, USERS_BODY | {"password_hash_algorithm": algorithm})
        before = live.broker.questions.settings.config.authentication
        shown = (await live.api.get(f"/authentication/{USERS}")).json()
        assert shown["password_hash_algorithm"] == algorithm
        assert (await live.api.put(f"/authentication/{USERS}", json=shown)).status_code == 204
        assert live.broker.questions.settings.config.authentication == before


@shows("PUT /authentication/:id")
@pytest.mark.parametrize("body", [USERS_BODY, TOKENS_BODY, {**WEB_BODY, "id": "jwt"}])
async def test_the_type_cannot_change(script: Script, body: dict[str, Any]) -> None:
    async with running() as live:
        await add(live, WEB_BODY)
        answer = await live.api.put(f"/authentication/{WEB}", json=body)
        expected = {"code": "BAD_REQUEST", "message": "Change of authentication type is not allowed"}
        assert (answer.status_code, answer.json()) == (400, expected)


@shows("DELETE /authentication/:id")
async def test_delete(script: Script) -> None:
    """With what it keeps."""
    async with running() as live:
        await add(live, USERS_BODY, WEB_BODY)
        script.life()
        answer = await live.api.delete(f"/authentication/{USERS}")
        assert (answer.status_code, answer.content) == (204, b"")
        assert script.life() == [("close", USERS), ("delete", USERS)]
        assert await order(live) == [WEB]
        assert (await live.api.delete(f"/authentication/{USERS}")).status_code == 404


@shows("DELETE /authentication/:id", "POST /authentication")
async def test_users_are_gone_with_their_authenticator() -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        await add(live, USERS_BODY)
        user = {"user_id": "c1", "password": "p"}
        assert (await live.api.post(f"/authentication/{USERS}/users", json=user)).status_code == 201
        assert (await live.api.delete(f"/authentication/{USERS}")).status_code == 204
        await add(live, USERS_BODY)
        assert (await live.api.get(f"/authentication/{USERS}/users")).json()["data"] == []
    async with running(store=store) as live:
        assert (await live.api.get(f"/authentication/{USERS}/users")).json()["data"] == []


# -- order


THREE = (USERS_BODY, WEB_BODY, TOKENS_BODY)


@shows("PUT /authentication/:id/position/:position")
@pytest.mark.parametrize(
    ("id", "position", "expected"),
    [
        (TOKENS, "front", [TOKENS, USERS, WEB]),
        (USERS, "rear", [WEB, TOKENS, USERS]),
        (USERS, f"after:{WEB}", [WEB, USERS, TOKENS]),
        (TOKENS, f"before%3A{WEB.replace(':', '%3A')}", [USERS, TOKENS, WEB]),
        (WEB, "after:jwt", [USERS, TOKENS, WEB]),
        (USERS, "front", [USERS, WEB, TOKENS]),
    ],
)
async def test_move(script: Script, id: str, position: str, expected: list[str]) -> None:
    async with running() as live:
        await add(live, *THREE)
        script.life()
        answer = await live.api.put(f"/authentication/{id}/position/{position}")
        assert (answer.status_code, answer.content) == (204, b"")
        assert await order(live) == expected
        assert (live.broker.questions.authenticators.names, script.life()) == (expected, [])
        assert secrets_of(live) == "very secret"


@shows("PUT /authentication/:id/position/:position")
@pytest.mark.parametrize(
    ("position", "named"),
    [
        ("top", "top"),
        ("before:", "before:"),
        ("after:scram:built_in_database", "scram:built_in_database"),
        (f"before:{USERS}", "itself"),
        ("beside:jwt", "beside:jwt"),
    ],
)
async def test_a_position_there_is_not(script: Script, position: str, named: str) -> None:
    async with running() as live:
        await add(live, *THREE)
        answer = await live.api.put(f"/authentication/{USERS}/position/{position}")
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        assert named in answer.json()["message"]
        assert await order(live) == [USERS, WEB, TOKENS]


@shows("PUT /authentication/order")
async def test_reorder(script: Script) -> None:
    async with running() as live:
        await add(live, *THREE)
        wanted = [TOKENS, USERS, WEB]
        answer = await live.api.put("/authentication/order", json=[{"id": id} for id in wanted])
        assert (answer.status_code, answer.content) == (204, b"")
        assert await order(live) == wanted
        assert secrets_of(live) == "very secret"


@shows("PUT /authentication/order")
@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([USERS, WEB], "not named: jwt"),
        ([], f"not named: {USERS}, {WEB}, jwt"),
        ([USERS, WEB, TOKENS, METHOD], f"not there: {METHOD}"),
        ([USERS, "x"], f"not named: {WEB}, jwt; not there: x"),
        ([USERS, WEB, TOKENS, USERS], f"named more than once: {USERS}"),
    ],
)
async def test_an_order_names_each_once(script: Script, ids: list[str], message: str) -> None:
    async with running() as live:
        await add(live, *THREE)
        answer = await live.api.put("/authentication/order", json=[{"id": id} for id in ids])
        assert (answer.status_code, answer.json()) == (400, {"code": "BAD_REQUEST", "message": message})
        assert await order(live) == [USERS, WEB, TOKENS]


@shows("PUT /authentication/order", "POST /authentication", "PUT /authentication/:id")
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/authentication/order", {"id": USERS}),
        ("PUT", "/authentication/order", [{"id": USERS, "enable": True}]),
        ("PUT", "/authentication/order", [USERS]),
        ("POST", "/authentication", [USERS_BODY]),
        ("PUT", f"/authentication/{USERS}", "on"),
    ],
)
async def test_bodies_of_another_form(script: Script, method: str, path: str, body: Any) -> None:
    async with running() as live:
        await add(live, USERS_BODY)
        answer = await live.api.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")


# -- what it does


async def code(live: Live, **options: Any) -> int:
    async with open_client(live.broker, **options) as client:
        return int(client.connack.reason_code)


@shows("POST /authentication", "PUT /authentication/:id", "DELETE /authentication/:id")
async def test_a_change_holds_for_the_next_client(script: Script) -> None:
    script.verdicts[WEB] = lambda who: Verdict() if who.username == "ann" else None
    async with running() as live:
        assert await code(live) == 0
        await add(live, WEB_BODY)
        assert [await code(live), await code(live, username="ann")] == [0x86, 0]
        assert (await live.api.put(f"/authentication/{WEB}", json={**WEB_BODY, "enable": False})).status_code == 204
        assert await code(live) == 0
        await live.api.put(f"/authentication/{WEB}", json=WEB_BODY)
        assert await code(live) == 0x86
        assert (await live.api.delete(f"/authentication/{WEB}")).status_code == 204
        assert await code(live) == 0


@shows("GET /authentication/:id/status")
async def test_status(script: Script, autojump_clock: MockClock) -> None:
    script.verdicts[WEB] = lambda who: Verdict() if who.username == "ann" else None
    async with running() as live:
        await add(live, WEB_BODY, USERS_BODY)
        await code(live)
        await code(live, username="ann")
        answer = await live.api.get(f"/authentication/{WEB}/status")
        node = live.broker.questions.node_name
        rates = {"rate": 0.4, "rate_last5m": 0.4, "rate_max": 0.4}
        metrics = {"total": 2, "success": 1, "failed": 0, "nomatch": 1, **rates}
        resource = {"matched": 2, "success": 0, "failed": 0, **rates}
        assert (answer.status_code, answer.json()) == (
            200,
            {
                "status": "connected",
                "node_status": [{"node": node, "status": "connected"}],
                "node_error": [],
                "metrics": metrics,
                "node_metrics": [{"node": node, "metrics": metrics}],
                "resource_metrics": resource,
                "node_resource_metrics": [{"node": node, "metrics": resource}],
            },
        )
        await live.api.put(f"/authentication/{USERS}", json={**USERS_BODY, "enable": False})
        shown = (await live.api.get(f"/authentication/{USERS}/status")).json()
        assert (shown["status"], shown["resource_metrics"]) == ("disconnected", {})
        assert shown["metrics"]["total"] == 0


@shows("GET /prometheus/auth")
async def test_figures_for_prometheus(script: Script) -> None:
    async with running() as live:
        await add(live, WEB_BODY, {**TOKENS_BODY, "enable": False})
        await code(live)
        found = (await live.api.get("/prometheus/auth", headers={"Accept": "application/json"})).json()["emqx_authn"]
        shown = {row["id"]: row for row in found}
        assert shown[WEB].items() >= {"emqx_authn_enable": 1, "emqx_authn_status": 1, "emqx_authn_nomatch": 1}.items()
        assert shown["jwt"].items() >= {"emqx_authn_enable": 0, "emqx_authn_status": 0, "emqx_authn_total": 0}.items()


@shows("GET /prometheus/auth")
async def test_users_are_counted_for_prometheus() -> None:
    async with running() as live:
        await add(live, USERS_BODY)
        for user_id in ("a", "b"):
            await live.api.post(f"/authentication/{USERS}/users", json={"user_id": user_id, "password": "p"})
        text = (await live.api.get("/prometheus/auth")).text
        assert f'emqx_authn_users_count{{id="{USERS}"}} 2.0' in text


@shows("POST /authentication", "PUT /authentication/order", "GET /authentication")
async def test_a_restart_has_it_all(script: Script) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        await add(live, *THREE)
        await live.api.put("/authentication/order", json=[{"id": id} for id in (WEB, TOKENS, USERS)])
        before = (await live.api.get("/authentication")).json()
    async with running(store=store) as live:
        assert (await live.api.get("/authentication")).json() == before
        assert secrets_of(live) == "very secret"


# -- beside what else sets the configuration


CHANGES: list[tuple[str, str, Any]] = [
    ("POST", "", WEB_BODY),
    ("PUT", f"/{USERS}", USERS_BODY),
    ("DELETE", f"/{USERS}", None),
    ("PUT", f"/{USERS}/position/rear", None),
    ("PUT", "/order", [{"id": TOKENS}, {"id": USERS}]),
]


@shows(
    "POST /authentication",
    "PUT /authentication/:id",
    "DELETE /authentication/:id",
    "PUT /authentication/:id/position/:position",
    "PUT /authentication/order",
)
@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
async def test_what_the_environment_says_cannot_be_changed(script: Script, method: str, path: str, body: Any) -> None:
    users = '{mechanism = "password_based", backend = "built_in_database"}'
    environ = {"TRIO_BROKER_AUTHENTICATION": f'[{users}, {{mechanism = "jwt", secret = "s"}}]'}
    layers = Layers.gather(None, environ, base=Config())
    async with running(layers.config(), layers=layers) as live:
        script.life()
        assert await order(live) == [USERS, TOKENS]
        answer = await live.api.request(method, f"/authentication{path}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "UPDATE_FAILED")
        assert "authentication" in answer.json()["message"]
        assert await order(live) == [USERS, TOKENS]
        assert ("delete", USERS) not in script.life()


async def test_what_the_file_says_may_be_changed(script: Script) -> None:
    """And what was changed takes its place."""
    store = MemoryStore()
    layers = Layers(Config(authentication=(BuiltInDatabaseConfig(),)))
    async with running(layers.config(), store, layers=layers) as live:
        await add(live, WEB_BODY)
        assert (await live.api.delete(f"/authentication/{USERS}")).status_code == 204
    async with running(layers.config(), store, layers=layers) as live:
        assert await order(live) == [WEB]


@shows("PUT /authentication/order", "PUT /authentication/:id")
async def test_changes_at_the_same_time_are_all_done(script: Script) -> None:
    async with running() as live:
        async with trio.open_nursery() as nursery:
            for body in (*THREE, METHOD_BODY):
                nursery.start_soon(add, live, body)
        assert sorted(await order(live)) == sorted([USERS, WEB, TOKENS, METHOD])


async def put_configs(live: Live, chain: list[dict[str, Any]]) -> None:
    text = json.dumps({"authentication": chain})
    answer = await live.api.put("/configs", content=text, headers={"content-type": "text/plain"})
    assert answer.status_code == 200, answer.text


async def test_hidden_secrets_keep_to_their_authenticator_over_configs(script: Script) -> None:
    """`PUT /configs` with what `GET /configs` showed, in another order."""
    chain = (
        HttpAuthenticatorConfig(url="http://127.0.0.1:1/"),
        JwtConfig(secret="very secret"),
        BuiltInDatabaseConfig(),
    )
    async with running(Config(authentication=chain)) as live:
        shown = (await live.api.get("/configs", headers={"Accept": "application/json"})).json()["authentication"]
        shown[0]["ssl"]["password"] = "another secret"
        await put_configs(live, shown)
        shown = (await live.api.get("/configs", headers={"Accept": "application/json"})).json()["authentication"]
        assert "secret" not in json.dumps(shown).replace('"secret"', "").replace("secret_base64", "")
        shown.reverse()
        await put_configs(live, shown)
        assert await order(live) == [USERS, TOKENS, WEB]
        config = live.broker.questions.settings.config.authentication
        assert secrets_of(live) == "very secret"
        assert config[2].ssl.password == "another secret"  # type: ignore[union-attr]


@shows("POST /authentication")
async def test_a_viewer_only_looks(script: Script) -> None:
    async with running() as live:
        answer = await live.api.post("/authentication", json=USERS_BODY, auth=live.as_viewer())
        assert answer.status_code == 403
        assert (await live.api.get("/authentication", auth=live.as_viewer())).status_code == 200


@shows(
    "POST /authentication", "PUT /authentication/:id", "DELETE /authentication/:id", "GET /authentication/:id/status"
)
async def test_all_kinds_live_side_by_side() -> None:
    """As they really are: enabled, disabled, moved and deleted; nothing of them is left when the broker ends."""
    store = MemoryStore()
    web = {**WEB_BODY, "enable": False}
    keys = {"mechanism": "jwt", "use_jwks": True, "endpoint": "http://127.0.0.1:1/keys"}
    async with running(store=store) as live:
        await add(live, USERS_BODY, METHOD_BODY, web, keys)
        for id in (USERS, METHOD, WEB, TOKENS):
            status = (await live.api.get(f"/authentication/{id}/status")).json()
            assert set(status["metrics"]) >= {"total", "success", "failed", "nomatch", "rate"}
        assert await code(live, username="u", password=b"p") == 0x86
        assert (await live.api.put(f"/authentication/{WEB}", json=WEB_BODY)).status_code == 204
        assert (await live.api.put("/authentication/jwt", json={**keys, "enable": False})).status_code == 204
        assert (await live.api.put(f"/authentication/{METHOD}/position/front")).status_code == 204
    async with running(store=store) as live:
        assert await order(live) == [METHOD, USERS, WEB, TOKENS]
        for id in (USERS, METHOD, WEB, TOKENS):
            assert (await live.api.delete(f"/authentication/{id}")).status_code == 204
        assert await code(live) == 0
