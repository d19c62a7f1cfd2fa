"""Clients with tokens, through the whole broker: who is let in, as whom, and what nobody gets to see."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import trio
from access.token_keys import SECRET, by_hand, jwk, public_pem, sign
from api.live import Live, running
from api.operations import shows
from trio.testing import MockClock

from trio_broker.access.authentication import Credentials, Verdict
from trio_broker.broker import Broker
from trio_broker.config import Config
from trio_broker.config.tree import overlay
from trio_broker.errors import ConfigError
from trio_broker.protocol.packets import MQTT5, MQTT311, PubAck
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import open_client

BAD = 0x86
VERSIONS = pytest.mark.parametrize("level", [MQTT311, MQTT5])
FAR = 4_000_000_000


def jwt_config(*others: dict[str, Any], **jwt: Any) -> Config:
    return overlay(Config(), {"authentication": [*others, {"mechanism": "jwt", "secret": SECRET, **jwt}]})


async def code(live: Live, password: bytes | None, level: int = MQTT5, **options: Any) -> int:
    options = {"client_id": "c1", "username": "u1", **options}
    async with open_client(live.broker, password=password, level=level, **options) as client:
        return int(client.connack.reason_code)


@VERSIONS
async def test_a_good_token_lets_in(level: int, autojump_clock: MockClock) -> None:
    async with running(jwt_config()) as live:
        assert await code(live, sign({"exp": FAR}), level) == 0
        assert await code(live, sign({}), level) == 0
        for password in (None, b"", b"secret", SECRET.encode(), sign({}) + b"x", sign({}, "p256", "ES256")):
            assert await code(live, password, level) == BAD
        for claims in ({"exp": 1}, {"nbf": FAR}, {"exp": "soon"}, {"acl": 7}):
            assert await code(live, sign(claims), level) == BAD
        assert await code(live, by_hand({"alg": "none"}, {}), level) == BAD
        status = (await live.api.get("/authentication/jwt/status")).json()
        figures = {name: status["metrics"][name] for name in ("total", "success", "failed", "nomatch")}
        assert figures == {"total": 13, "success": 2, "failed": 4, "nomatch": 7}
        assert (status["status"], status["resource_metrics"]) == ("connected", {})


@VERSIONS
async def test_claims_are_compared_with_who_the_client_says_it_is(level: int, autojump_clock: MockClock) -> None:
    required = {"sub": "${username}", "cid": "${clientid}"}
    async with running(jwt_config(verify_claims=required)) as live:
        assert await code(live, sign({"sub": "u1", "cid": "c1"}), level) == 0
        assert await code(live, sign({"sub": "u1", "cid": "c1"}), level, username="u2") == BAD
        assert await code(live, sign({"sub": "u1", "cid": "c1"}), level, client_id="c2") == BAD
        assert await code(live, sign({"sub": "u1"}), level) == BAD
        if level == MQTT5:  # before, a password needs a user name
            assert await code(live, sign({"sub": "u1", "cid": "c1"}), level, username=None) == BAD


@VERSIONS
async def test_a_token_in_place_of_the_user_name_is_seen_by_nobody(
    level: int, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="trio_broker")
    async with running(jwt_config(**{"from": "username"})) as live:
        for claims, name in (({"username": "u7", "sub": "x"}, "u7"), ({"sub": "s7"}, "s7"), ({}, ""), ({"sub": 7}, "")):
            token = sign(claims).decode()
            async with open_client(live.broker, client_id="c1", username=token, level=level) as client:
                assert client.connack.reason_code == 0
                (row,) = (await live.api.get("/clients")).json()["data"]
                assert (row["username"] or "") == name
                assert token not in str(row)
                assert token not in (await live.api.get("/clients/c1")).text
            assert token not in caplog.text
        assert await code(live, sign({}), level) == BAD
        assert await code(live, None, level, username=None) == BAD


@VERSIONS
async def test_what_no_key_verifies_is_left_to_the_next_one(level: int, autojump_clock: MockClock) -> None:
    users = {"mechanism": "password_based", "backend": "built_in_database"}
    async with running(jwt_config(users)) as live:
        path = "/authentication/password_based:built_in_database/users"
        answer = await live.api.post(path, json={"user_id": "u2", "password": "p2"})
        assert answer.status_code == 201
        assert (await live.api.put("/authentication/jwt/position/front")).status_code == 204
        assert await code(live, b"p2", level, username="u2") == 0
        assert await code(live, sign({}), level, username="u2") == 0
        assert await code(live, sign({"exp": 1}), level, username="u2") == BAD
        assert await code(live, b"p3", level, username="u2") == BAD


class Everybody:
    async def authenticate(self, credentials: Credentials) -> Verdict | None:
        return Verdict()


async def test_the_programs_own_authenticator_comes_first(autojump_clock: MockClock) -> None:
    broker = Broker(jwt_config(), authenticators=[Everybody()], store=MemoryStore())
    async with trio.open_nursery() as nursery:
        await nursery.start(broker.run)
        async with open_client(broker, username="u1", password=b"x") as client:
            assert client.connack.reason_code == 0
        broker.close()


@VERSIONS
async def test_rules_that_come_with_the_token(level: int, autojump_clock: MockClock) -> None:
    acl = {"pub": ["p/${clientid}"], "sub": ["s/#"], "all": []}
    async with running(jwt_config(acl_claim_name="may")) as live:
        c1 = await live.connect("c1", level=level, username="u1", password=sign({"may": acl}))
        c2 = await live.connect("c2", level=level, username="u2", password=sign({"may": {"all": ["#"]}}))
        assert (await c2.subscribe("#")).reason_codes == [0]
        denied = 0x87 if level == MQTT5 else 0x80
        for topic_filter, wanted in (("s/+", 0), ("#", denied), ("+/x", denied), ("p/c1", denied)):
            assert (await c1.subscribe(topic_filter)).reason_codes == [wanted]
        for topic in ("p/c1", "p/c2", "s/x"):
            answer = await c1.publish(topic, b"x", qos=1)
            assert isinstance(answer, PubAck)
            assert answer.reason_code == (0x87 if level == MQTT5 and topic != "p/c1" else 0)
        await c1.publish("p/c1", b"last")
        assert [(await c2.receive()).topic_name for _ in range(2)] == ["p/c1", "p/c1"]


async def test_a_superuser_by_claim_may_do_everything(autojump_clock: MockClock) -> None:
    async with running(jwt_config()) as live:
        c1 = await live.connect("c1", password=sign({"acl": {}, "is_superuser": True}))
        c2 = await live.connect("c2", password=sign({"acl": {}}))
        assert (await c1.subscribe("#")).reason_codes == [0]
        assert (await c2.subscribe("#")).reason_codes == [0x87]


async def test_attributes_by_claim_are_there_for_rules(autojump_clock: MockClock) -> None:
    async with running(jwt_config()) as live:
        claims = {"client_attrs": {"site": "x"}, "acl": {"pub": ["${client_attrs.site}/t"]}}
        c1 = await live.connect("c1", password=sign(claims))
        answers = [await c1.publish(topic, b"", qos=1) for topic in ("x/t", "y/t")]
        assert [answer.reason_code for answer in answers if answer is not None] == [0x10, 0x87]


# -- keys


async def test_a_public_key_as_text_or_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(public_pem("p256"))
    for said in (public_pem("p256").decode(), str(file)):
        async with running(jwt_config(algorithm="public-key", public_key=said)) as live:
            assert await code(live, sign({}, "p256", "ES256")) == 0
            assert await code(live, sign({}, "p256", "ES256", number=1)) == BAD
            assert await code(live, sign({})) == BAD
            assert await code(live, by_hand({"alg": "HS256"}, {}, public_pem("p256"))) == BAD


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ({"algorithm": "public-key", "public_key": "/no/such/key.pem"}, "'/no/such/key.pem': No such file"),
        ({"algorithm": "public-key", "public_key": __file__}, "is no public key in PEM"),
        ({"algorithm": "public-key", "public_key": "-----BEGIN PUBLIC KEY-----"}, "is no public key in PEM"),
        ({"algorithm": "public-key", "public_key": "x" * 10_000}, "File name too long"),
        ({"secret": public_pem("p256").decode()}, "authentication.jwt.secret: is a key or a certificate"),
        ({"verify_claims": {"sub": "${nobody}"}}, r"verify_claims.sub: there is no placeholder ${nobody}"),
        ({"use_jwks": True, "endpoint": "http://a:99999/"}, "authentication.jwt.endpoint: has no proper"),
    ],
)
async def test_a_broker_does_not_start_with_what_cannot_be(said: dict[str, Any], fault: str) -> None:
    broker = Broker(jwt_config(**said), store=MemoryStore())
    with pytest.raises(ConfigError) as caught:
        await broker.run()
    assert fault in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_short_secret_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """In the log; EMQX takes any."""

    async def main() -> None:
        async with running(jwt_config(secret="0123")):
            return

    trio.run(main)
    assert "jwt: the secret has less than 32 bytes: it may be guessed" in caplog.text
    assert "0123" not in caplog.text


# -- over REST


@shows("POST /authentication", "GET /authentication/:id", "PUT /authentication/:id")
async def test_it_is_set_over_rest_and_there_after_a_restart(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="trio_broker")
    store = MemoryStore()
    async with running(store=store) as live:
        claims = [{"name": "sub", "value": "${username}"}]
        body = {
            "mechanism": "jwt",
            "use_jwks": False,
            "algorithm": "hmac-based",
            "secret": SECRET,
            "verify_claims": claims,
        }
        answer = await live.api.post("/authentication", json=body)
        assert answer.status_code == 200
        shown = answer.json()
        assert (shown["id"], shown["secret"], shown["verify_claims"]) == ("jwt", "******", {"sub": "${username}"})
        assert await code(live, sign({"sub": "u1"})) == 0
        assert await code(live, sign({})) == BAD
    async with running(store=store) as live:
        assert await code(live, sign({"sub": "u1"})) == 0
        assert await code(live, sign({})) == BAD
        shown = (await live.api.get("/authentication/jwt")).json()
        del shown["id"]
        answer = await live.api.put("/authentication/jwt", json={**shown, "verify_claims": {}})
        assert answer.status_code == 204
        assert await code(live, sign({})) == 0
        for path in ("/authentication", "/authentication/jwt", "/authentication/jwt/status", "/configs"):
            assert SECRET not in (await live.api.get(path)).text
        assert SECRET not in repr(live.broker.config)
    assert SECRET not in caplog.text
    assert sign({}).decode() not in caplog.text


@shows("POST /authentication", "PUT /authentication/:id")
async def test_what_cannot_be_is_refused_over_rest_and_changes_nothing(autojump_clock: MockClock) -> None:
    async with running(jwt_config()) as live:
        for change, told in (
            ({"verify_claims": {"sub": "${nobody}"}}, "${nobody}"),
            ({"verify_claims": [{"name": "sub"}]}, "verify_claims"),
            ({"verify_claims": [{"name": "a", "value": "b"}, {"name": "a", "value": "c"}]}, "verify_claims"),
            ({"algorithm": "public-key"}, "public_key"),
            ({"algorithm": "public-key", "public_key": "-----BEGIN PUBLIC KEY-----"}, "public_key"),
            ({"secret": public_pem("p256").decode()}, "secret"),
            ({"secret": ""}, "secret"),
            ({"secret": "s3cret!", "secret_base64_encoded": True}, "secret"),
            ({"use_jwks": True}, "endpoint"),
            ({"use_jwks": True, "endpoint": "http://u:p@127.0.0.1/"}, "endpoint"),
            ({"from": "payload"}, "from"),
        ):
            answer = await live.api.put("/authentication/jwt", json={"mechanism": "jwt", "secret": SECRET, **change})
            assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
            assert told in answer.json()["message"]
            assert "s3cret" not in answer.text
        assert await code(live, sign({})) == 0


async def test_a_refusal_tells_the_log_the_claim_and_nothing_else(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="trio_broker")
    async with running(jwt_config(verify_claims={"sub": "${username}"})) as live:
        token = sign({"sub": "nobody else", "jti": str(jwk("p256")["x"])})
        assert await code(live, token) == BAD
    assert "jwt: the token of 'c1': the claim 'sub' is not what it has to be" in caplog.text
    assert "nobody else" not in caplog.text
    assert token.decode() not in caplog.text
