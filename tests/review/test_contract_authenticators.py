"""The REST contract, read afresh: the chain of authenticators, its order, its verdicts and its figures."""

from __future__ import annotations

from typing import Any

import pytest
from api.live import Live, running
from api.operations import shows
from review.authn import (
    BOTH_BAD,
    BOTH_IN,
    JWT,
    PASSWORD_ID,
    PASSWORDS,
    SCRAM,
    SCRAM_ID,
    SECRET,
    add,
    codes,
    path,
    token,
)
from review.contract import done, failed, got, invalid

from trio_broker.config import Config
from trio_broker.config.tree import overlay
from trio_broker.store.memory import MemoryStore

HTTP: dict[str, Any] = {
    "mechanism": "password_based",
    "backend": "http",
    "method": "post",
    "url": "http://127.0.0.1:9/",
}
HTTP_ID = "password_based:http"
ALL = {PASSWORD_ID: PASSWORDS, SCRAM_ID: SCRAM, HTTP_ID: HTTP, "jwt": JWT}
ZERO = {"rate": 0.0, "rate_last5m": 0.0, "rate_max": 0.0}


async def chain(live: Live) -> list[str]:
    return [row["id"] for row in await got(live, "/authentication")]


async def place(live: Live, authenticator: str, position: str) -> None:
    done(await live.api.put(path(authenticator, "position", position)))


@pytest.mark.parametrize("authenticator", ALL)
@shows(
    "GET /authentication", "POST /authentication", "GET /authentication/:id", "PUT /authentication/:id",
    "DELETE /authentication/:id",
)  # fmt: skip
async def test_the_life_of_an_authenticator(authenticator: str) -> None:
    config = ALL[authenticator]
    async with running() as live:
        assert await got(live, "/authentication") == []
        made = await add(live, config)
        shown = {key: "******" if key == "secret" else value for key, value in config.items()}
        assert made["id"] == authenticator
        assert made["enable"] is True
        assert made.items() >= shown.items()
        for where in (path(authenticator), f"/authentication/{authenticator}"):
            assert await got(live, where) == made
        assert await got(live, "/authentication") == [made]
        again = await live.api.post("/authentication", json=config)
        failed(again, 409, "ALREADY_EXISTS", f"Authenticator '{authenticator}' already exist")

        done(await live.api.put(path(authenticator), json=config | {"enable": False}))
        assert await got(live, path(authenticator)) == made | {"enable": False}
        done(await live.api.put(path(authenticator), json=config))  # the whole of it: what is absent has its default
        assert await got(live, path(authenticator)) == made
        other = SCRAM if authenticator != SCRAM_ID else PASSWORDS
        failed(
            await live.api.put(path(authenticator), json=other),
            400,
            "BAD_REQUEST",
            "Change of authentication type is not allowed",
        )
        assert await got(live, "/authentication") == [made]
        done(await live.api.delete(path(authenticator)))
        assert await got(live, "/authentication") == []


@pytest.mark.parametrize("chain_is_empty", [True, False])
@shows(
    "GET /authentication/:id", "PUT /authentication/:id", "DELETE /authentication/:id",
    "GET /authentication/:id/status", "PUT /authentication/:id/position/:position",
)  # fmt: skip
async def test_one_that_is_not_there(chain_is_empty: bool) -> None:
    async with running() as live:
        if not chain_is_empty:
            await add(live, JWT)
        for authenticator, config in ((PASSWORD_ID, PASSWORDS), (SCRAM_ID, SCRAM), ("nonsense", PASSWORDS)):
            for method, more, body in (
                ("GET", (), None),
                ("PUT", (), config),
                ("DELETE", (), None),
                ("GET", ("status",), None),
                ("PUT", ("position", "front"), None),
            ):
                answer = await live.api.request(method, path(authenticator, *more), json=body)
                message = failed(answer, 404, "NOT_FOUND")
                assert chain_is_empty or message == f"Authenticator '{authenticator}' does not exist"


async def test_who_may() -> None:
    async with running() as live:
        await add(live, JWT)
        for method, where, body in (
            ("GET", "/authentication", None),
            ("GET", "/authentication/jwt", None),
            ("GET", "/authentication/jwt/status", None),
            ("POST", "/authentication", PASSWORDS),
            ("PUT", "/authentication/jwt", JWT | {"secret": "y" * 40}),
            ("PUT", "/authentication/jwt/position/front", None),
            ("PUT", "/authentication/order", [{"id": "jwt"}]),
            ("DELETE", "/authentication/jwt", None),
        ):
            failed(await live.api.request(method, where, json=body, auth=None), 401, "AUTHORIZATION_HEADER_ERROR")
            answer = await live.api.request(method, where, json=body, auth=live.as_viewer())
            if method == "GET":
                assert answer.status_code == 200
            else:
                failed(answer, 403, "UNAUTHORIZED_ROLE")
        assert await chain(live) == ["jwt"]
        assert await codes(live, "u", token(sub="u")) == BOTH_IN


BAD_CONFIGS: list[dict[str, Any]] = [
    {},
    {"mechanism": "password_based"},
    {"backend": "built_in_database"},
    {"mechanism": "jwt", "backend": "built_in_database", "secret": SECRET},
    {"mechanism": "nonsense", "backend": "built_in_database"},
    {"mechanism": "password_based", "backend": "nonsense"},
    {"mechanism": ["password_based"], "backend": "built_in_database"},
    PASSWORDS | {"user_id_type": "peerhost"},
    PASSWORDS | {"enable": "perhaps"},
    PASSWORDS | {"enable": None, "mystery": 1},
    PASSWORDS | {"bootstrap_type": "rot13"},
    SCRAM | {"algorithm": "sha1"},
    SCRAM | {"iteration_count": "many"},
    SCRAM | {"iteration_count": -1},
    {key: value for key, value in HTTP.items() if key != "url"},
    HTTP | {"method": "delete"},
    HTTP | {"url": "gopher://127.0.0.1/"},
    HTTP | {"url": "https://127.0.0.1/"},
    HTTP | {"method": "get", "headers": {"Content-Type": "application/json"}},
    HTTP | {"request_timeout": "soon"},
    {key: value for key, value in JWT.items() if key != "secret"},
    JWT | {"secret": ""},
    JWT | {"secret": None},
    JWT | {"secret": "not base64!", "secret_base64_encoded": True},
    JWT | {"algorithm": "none"},
    JWT | {"algorithm": "public-key"},
    JWT | {"algorithm": "public-key", "public_key": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"},
    JWT | {"from": "clientid"},
    JWT | {"use_jwks": True},
    JWT | {"verify_claims": "sub"},
    JWT | {"verify_claims": {"exp": {"a": 1}}},
]


@shows("POST /authentication", "PUT /authentication/:id")
async def test_configs_that_cannot_be() -> None:
    async with running() as live:
        for body in BAD_CONFIGS:
            answer = await live.api.post("/authentication", json=body)
            assert (body, answer.status_code) == (body, 400)
            failed(answer, 400, "BAD_REQUEST")
        assert await got(live, "/authentication") == []
        await add(live, *ALL.values())
        before = await got(live, "/authentication")
        for body in BAD_CONFIGS:
            where = {"scram": SCRAM_ID, "jwt": "jwt"}.get(str(body.get("mechanism")), PASSWORD_ID)
            where = HTTP_ID if body.get("backend") == "http" else where
            answer = await live.api.put(path(where), json=body)
            assert (body, answer.status_code) == (body, 400)
        assert await got(live, "/authentication") == before


async def test_the_defaults() -> None:
    """As the contract has them; but an empty `bootstrap_file` and `headers`, as the reference of the settings says."""
    async with running() as live:
        made = {one: await add(live, config) for one, config in ALL.items()}
        assert made[PASSWORD_ID].items() >= {
            **PASSWORDS, "enable": True, "user_id_type": "username", "bootstrap_file": "", "bootstrap_type": "plain",
        }.items()  # fmt: skip
        assert made[PASSWORD_ID]["password_hash_algorithm"].items() >= {
            "name": "sha256", "salt_position": "prefix",
        }.items()  # fmt: skip
        assert made[SCRAM_ID] == {
            **SCRAM, "id": SCRAM_ID, "enable": True, "algorithm": "sha256", "iteration_count": 4096,
        }  # fmt: skip
        assert made[HTTP_ID].items() >= {
            **HTTP, "enable": True, "body": {}, "request_timeout": "5s", "connect_timeout": "15s", "pool_size": 8,
            "enable_pipelining": 100,
        }.items()  # fmt: skip
        assert made[HTTP_ID]["ssl"]["enable"] is False
        assert made["jwt"].items() >= {
            "mechanism": "jwt", "enable": True, "use_jwks": False, "algorithm": "hmac-based", "secret": "******",
            "secret_base64_encoded": False, "from": "password", "verify_claims": {}, "acl_claim_name": "acl",
            "disconnect_after_expire": True, "id": "jwt",
        }.items()  # fmt: skip
        assert "backend" not in made["jwt"]


async def test_an_algorithm_shows_its_own_fields_only() -> None:
    """The default is exactly `{"name":"sha256","salt_position":"prefix"}`; each algorithm has its own fields."""
    async with running() as live:
        shown = {}
        for algorithm in ({"name": "sha256"}, {"name": "bcrypt"}, {"name": "pbkdf2", "iterations": 9}):
            shown[algorithm["name"]] = (await add(live, PASSWORDS, password_hash_algorithm=algorithm))[
                "password_hash_algorithm"
            ]
            done(await live.api.delete(path(PASSWORD_ID)))
        assert shown["sha256"] == {"name": "sha256", "salt_position": "prefix"}
        assert shown["bcrypt"] == {"name": "bcrypt", "salt_rounds": 10}
        assert shown["pbkdf2"].keys() <= {"name", "mac_fun", "iterations", "dk_length"}


async def test_a_secret_that_comes_back_as_stars_stays() -> None:
    async with running() as live:
        made = await add(live, JWT)
        done(await live.api.put("/authentication/jwt", json={k: v for k, v in made.items() if k != "id"}))
        assert await codes(live, "u", token(sub="u")) == BOTH_IN
        done(await live.api.put("/authentication/jwt", json=JWT | {"secret": "z" * 40}))
        assert await codes(live, "u", token(sub="u")) == BOTH_BAD
        assert await codes(live, "u", token("z" * 40, sub="u")) == BOTH_IN
        assert await codes(live, "u", token("*" * 6 + "\0" * 34, sub="u")) == BOTH_BAD


async def test_secrets_are_shown_to_nobody_and_stay() -> None:
    secret = "s3cret-and-more"
    config = HTTP | {
        "headers": {"authorization": f"Basic {secret}", "x-api-key": secret, "x-other": "seen"},
        "ssl": {"enable": False, "password": secret},
    }
    async with running() as live:
        made = await add(live, config)
        assert made["headers"] == {"authorization": "******", "x-api-key": "******", "x-other": "seen"}
        assert made["ssl"]["password"] == "******"
        await add(live, JWT)
        done(await live.api.put(path(HTTP_ID), json={key: value for key, value in made.items() if key != "id"}))
        assert await got(live, path(HTTP_ID)) == made
        for where in ("/authentication", path(HTTP_ID), "/authentication/jwt", "/configs", path(HTTP_ID, "status")):
            for who in (None, live.as_viewer()):
                answer = await (live.api.get(where, auth=who) if who else live.api.get(where))
                assert answer.status_code == 200
                assert secret not in answer.text
                assert SECRET not in answer.text


async def test_what_is_shown_can_be_sent_back() -> None:
    async with running() as live:
        await add(live, *ALL.values())
        before = await got(live, "/authentication")
        for row in before:
            done(await live.api.put(path(row["id"]), json={key: value for key, value in row.items() if key != "id"}))
        assert await got(live, "/authentication") == before


@shows("PUT /authentication/:id/position/:position")
async def test_positions() -> None:
    p, s, h, j = ALL
    async with running() as live:
        await add(live, *ALL.values())
        assert await chain(live) == [p, s, h, j]
        for one, position, expected in (
            (h, "front", [h, p, s, j]),
            (h, "front", [h, p, s, j]),
            (p, "rear", [h, s, j, p]),
            (p, f"before:{s}", [h, p, s, j]),
            (h, f"after:{s}", [p, s, h, j]),
            (p, "after:jwt", [s, h, j, p]),
            (j, f"before:{s}", [j, s, h, p]),
        ):
            await place(live, one, position)
            assert await chain(live) == expected
        for bad in ("middle", "before:", "before", f"before:{j}x", "after:nonsense:x", "1", "FRONT", " front"):
            failed(await live.api.put(path(s, "position", bad)), 400, "BAD_REQUEST")
        done(await live.api.put(f"/authentication/{j}/position/after:{h}"))  # the raw colon works too
        assert await chain(live) == [s, h, j, p]


@shows("PUT /authentication/order")
async def test_order() -> None:
    p, s, h, j = ALL
    async with running() as live:
        await add(live, *ALL.values())
        for order in ([j, h, s, p], [s, p, j, h]):
            done(await live.api.put("/authentication/order", json=[{"id": one} for one in order]))
            assert await chain(live) == order
        for names, named in (([s, p, j], [h]), ([s, p, j, h, "x:y"], ["x:y"]), ([s, s, p], [j]), ([], [s, p, j, h])):
            answer = await live.api.put("/authentication/order", json=[{"id": one} for one in names])
            message = failed(answer, 400, "BAD_REQUEST")
            assert [one for one in named if one not in message] == []
        for body, where in (({"id": s}, "root"), (["x"], "root.1"), ([{}], "root.1.id"), ([{"id": 7}], "root.1.id")):
            invalid(await live.api.put("/authentication/order", json=body), where)
        assert await chain(live) == [s, p, j, h]


async def test_after_a_restart() -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        await add(live, *ALL.values())
        done(await live.api.put(path(HTTP_ID), json=HTTP | {"enable": False, "pool_size": 3}))
        done(await live.api.delete(path(SCRAM_ID)))
        await place(live, "jwt", "front")
        before = await got(live, "/authentication")
    async with running(store=store) as live:
        assert await got(live, "/authentication") == before
        assert await chain(live) == ["jwt", PASSWORD_ID, HTTP_ID]
        assert await codes(live, "u", token(sub="u")) == BOTH_IN
        assert await codes(live, "u", "p") == BOTH_BAD
        assert (await got(live, path(PASSWORD_ID, "status")))["metrics"]["nomatch"] == 2


async def test_what_was_deleted_over_rest_does_not_come_back_from_the_file() -> None:
    store = MemoryStore()
    config = overlay(Config(), {"authentication": [PASSWORDS, JWT]})
    async with running(config, store) as live:
        assert await chain(live) == [PASSWORD_ID, "jwt"]
        done(await live.api.delete(path(PASSWORD_ID)))
        await add(live, SCRAM)
    async with running(config, store) as live:
        assert await chain(live) == ["jwt", SCRAM_ID]
