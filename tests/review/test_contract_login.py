"""The REST contract, read afresh: login, wrong logins, and what becomes of tokens."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

import httpx
import pytest
import trio
from api.live import ADMIN, PASSWORD, Bearer, Live, running
from api.operations import shows
from review.contract import done, failed
from review.credentials import (
    KEYS,
    LOOK,
    TIME_OUT,
    USERS,
    ask,
    bad_token,
    basic,
    cheap_hashes,
    got_as,
    later,
    login,
    new_key,
    new_password,
    new_user,
    pair,
    token,
    works,
)
from trio.testing import MockClock

from trio_broker.api.app import make_app
from trio_broker.api.keys import Role
from trio_broker.broker import Broker
from trio_broker.config import Config, DashboardConfig, DashboardListeners, HttpConfig
from trio_broker.store.memory import MemoryStore

OTHER = "battery staple 2"
BAD_LOGIN = (401, "BAD_USERNAME_OR_PWD", "Auth failed")
BAD_NAME = "Bad Username. Only upper and lower case letters, numbers and underscores are supported"
BAD_LENGTH = "The range of password length is 8~64"
NO_USER = (404, "USER_NOT_FOUND", "username_not_found")
JSON = {"content-type": "application/json"}


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_hashes(monkeypatch)


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """What the broker logs; the client of these tests has a log of its own."""
    return "\n".join(
        f"{record.getMessage()} {record.__dict__}" for record in caplog.records if not record.name.startswith("http")
    )


def from_address(live: Live, address: str) -> httpx.AsyncClient:
    """What comes to this broker from elsewhere."""
    app = make_app(live.broker.questions, started=lambda: True)
    transport = httpx.ASGITransport(app=app, client=(address, 1234))  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://broker/api/v5")


@shows("POST /login")
async def test_a_login(autojump_clock: MockClock) -> None:
    async with running() as live:
        await live.log_in()
        await live.log_in("vera", Role.VIEWER)
        for name, role in [("boss", "administrator"), ("vera", "viewer")]:
            answer = await login(live, name)
            assert answer.status_code == 200
            told = answer.json()
            assert told.keys() == {"token", "version", "license", "role", "trio_broker_version"}
            assert (told["version"], told["role"]) == ("5.8.9", role)
            assert told["license"] == {"edition": "opensource"}
            assert await works(live, Bearer(told["token"]))
        for name, password in [("boss", OTHER), ("nobody", PASSWORD), ("Boss", PASSWORD), ("", PASSWORD), ("boss", "")]:
            answer = await login(live, name, password)
            assert answer.status_code in (400, 401) if not (name and password) else 401
            if answer.status_code == 401:
                failed(answer, *BAD_LOGIN)
        failed(await login(live, "admin", "public"), *BAD_LOGIN)


@shows("POST /login")
@pytest.mark.parametrize(
    "body",
    [
        "{}",
        '{"username":"boss"}',
        '{"password":"correct horse 1"}',
        '{"username":null,"password":null}',
        '{"username":"boss","password":null}',
        '{"username":"boss","password":true}',
        '{"username":"boss","password":{"$ne":null}}',
        '{"username":{"$gt":""},"password":{"$gt":""}}',
        '{"username":["boss"],"password":["correct horse 1"]}',
        '{"username":0,"password":0}',
        '{"username":"\' OR 1=1 --","password":"x"}',
        '{"username":"boss\' --","password":"x"}',
        '{"username":"boss\\u0000","password":"correct horse 1"}',
        '{"username":"boss","password":"correct horse 1\\n"}',
        '{"username":"boss ","password":"correct horse 1"}',
        '{"username":"BOSS","password":"correct horse 1"}',
        '{"username":"b\\u043ess","password":"correct horse 1"}',
        '{"username":"\\uff42oss","password":"correct horse 1"}',
        '{"username":"boss","password":"CORRECT HORSE 1"}',
        '{"username":"boss","password":"\\ud800"}',
        '{"username":"\\ud800","password":"correct horse 1"}',
        '{"username":"boss","username":"nobody","password":"correct horse 1"}',
        '{"username":"boss","password":"******"}',
        '{"username":"*","password":"*"}',
        '{"username":"admin-key","password":"admin:secret"}',
        '{"username":"boss","password":"' + "x" * 10_000_000 + '"}',
        '{"username":"' + "x" * 1_000_000 + '","password":"correct horse 1"}',
        '{"username":"boss","password":' + "[" * 100_000 + "}",
    ],
)
async def test_logins_that_are_none(body: str, mock_clock: MockClock) -> None:
    async with running() as live:
        await live.log_in()
        answer = await live.api.request("POST", "/login", content=body, headers=JSON, auth=None)
        assert (answer.status_code, answer.json()["code"]) in [
            (400, "BAD_REQUEST"),
            (401, "BAD_USERNAME_OR_PWD"),
            (413, "EXCEED_LIMIT"),
        ]
        assert len(answer.text) < 2000
        assert PASSWORD not in answer.text
        assert await works(live, await token(live, "boss"))


async def lock(live: Live, name: str, api: httpx.AsyncClient | None = None, **more: Any) -> None:
    for index in range(5):
        failed(await login(live, name, f"guess number {index}", api, **more), *BAD_LOGIN)
    failed(await login(live, name, "guess number 5", api, **more), 401, "LOGIN_LOCKED")


@shows("POST /login")
async def test_wrong_passwords_lock_a_login(mock_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        await live.log_in("vera")
        key = pair(await new_key(live, boss))
        await lock(live, "boss")
        failed(await login(live, "boss"), 401, "LOGIN_LOCKED")
        for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded", "True-Client-IP"):
            failed(await login(live, "boss", headers={name: "10.9.8.7"}), 401, "LOGIN_LOCKED")
        assert await works(live, boss)  # others go on, and whoever is in is not put out
        assert await works(live, key)
        assert await works(live, ADMIN)
        assert await works(live, await token(live, "vera"))
        for address in ("10.0.0.1", "2001:db8::1"):
            async with from_address(live, address) as elsewhere:
                assert (await login(live, "boss", PASSWORD, elsewhere)).status_code == 200
        await later(mock_clock, 540)
        failed(await login(live, "boss"), 401, "LOGIN_LOCKED")
        await later(mock_clock, 61)
        assert await works(live, await token(live, "boss"))


@shows("POST /login")
async def test_a_network_of_ipv6_is_one_address(mock_clock: MockClock) -> None:
    async with running() as live:
        await live.log_in()
        async with from_address(live, "2001:db8::1") as one, from_address(live, "2001:db8::ffff:2") as two:
            await lock(live, "boss", one)
            failed(await login(live, "boss", PASSWORD, two), 401, "LOGIN_LOCKED")
        async with from_address(live, "2001:db8:0:1::1") as three:
            assert (await login(live, "boss", PASSWORD, three)).status_code == 200


@shows("POST /login")
async def test_a_user_that_there_is_not_is_locked_too(mock_clock: MockClock) -> None:
    """Or else guessing would tell which names there are."""
    async with running() as live:
        await live.log_in()
        for name in ("boss", "nobody", "not a name", "Boss"):
            await lock(live, name)


@shows("POST /login")
async def test_the_count_begins_anew(mock_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        for _ in range(3):  # a right one in between
            for _ in range(4):
                failed(await login(live, "boss", OTHER), *BAD_LOGIN)
            boss = await token(live, "boss")
        for _ in range(3):  # time goes by
            for _ in range(4):
                failed(await login(live, "boss", OTHER), *BAD_LOGIN)
            await later(mock_clock, 301)
        assert await works(live, await token(live, "boss"))
        await new_user(live, boss)
        await lock(live, "vera")
        done(await new_password(live, await live.log_in("chief"), "boss", PASSWORD, OTHER))
        failed(await login(live, "vera"), 401, "LOGIN_LOCKED")


@shows("POST /login")
async def test_settings_of_the_lock(mock_clock: MockClock) -> None:
    dashboard = DashboardConfig(unsuccessful_login_max_attempts=2, unsuccessful_login_lock_duration=30.0)
    async with running(Config(dashboard=dashboard)) as live:
        await live.log_in()
        for _ in range(2):
            failed(await login(live, "boss", OTHER), *BAD_LOGIN)
        failed(await login(live, "boss"), 401, "LOGIN_LOCKED")
        await later(mock_clock, 31)
        assert await works(live, await token(live, "boss"))


@shows("POST /login")
async def test_many_guesses_at_many_names(mock_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        await lock(live, "boss")
        for index in range(500):
            answer = await login(live, f"user{index}", "guess number 1")
            assert answer.status_code == 401
        failed(await login(live, "boss"), 401, "LOGIN_LOCKED")  # was not pushed out by the others
        assert await works(live, boss)


@shows("POST /login")
async def test_many_logins_at_one_time() -> None:
    async with running() as live:
        boss = await live.log_in()
        found: list[httpx.Response] = []

        async def log_in(index: int) -> None:
            found.append(await login(live, "boss", PASSWORD if index % 2 else OTHER))

        async with trio.open_nursery() as nursery:
            for index in range(40):
                nursery.start_soon(log_in, index)
            assert await works(live, boss)
        for answer in found:
            assert answer.status_code in (200, 401, 503)
            if answer.status_code == 503:
                failed(answer, 503, "SERVICE_UNAVAILABLE")
                assert int(answer.headers["retry-after"]) >= 0
        async with from_address(live, "10.0.0.9") as elsewhere:
            assert (await login(live, "boss", PASSWORD, elsewhere)).status_code == 200


@shows("POST /login", "POST /users", "POST /users/:username/change_pwd")
async def test_passwords_are_nowhere(caplog: pytest.LogCaptureFixture, autojump_clock: MockClock) -> None:
    caplog.set_level(0)
    guess, texts = "a-guess-at-a-password-1", []
    async with running() as live:
        boss = await live.log_in()
        await new_user(live, boss)
        vera = await token(live, "vera")
        for body in ([guess], {"a": guess}, guess):
            texts.append((await login(live, "vera", body)).text)
            texts.append((await login(live, body, body)).text)
            texts.append((await new_password(live, vera, "vera", body, guess)).text)
            texts.append((await new_password(live, vera, "vera", PASSWORD, [body])).text)
            user = {"username": "eve", "password": body, "role": "none"}
            texts.append((await live.api.post(USERS, json=user, auth=boss)).text)
        for query in (f"?password={guess}", f"?username=vera&password={PASSWORD}"):
            texts.append((await live.api.request("POST", f"/login{query}", auth=None)).text)
        for content in (f'{{"username":"vera","password":"{guess}"', f"username=vera&password={guess}"):
            texts.append((await live.api.request("POST", "/login", content=content, headers=JSON, auth=None)).text)
            texts.append((await live.api.request("POST", "/login", content=content, auth=None)).text)
        for path in (USERS, KEYS, "/configs", "/configs/dashboard", "/metrics", "/nodes"):
            texts.append((await live.api.get(path, auth=boss)).text)
        texts.append(json.dumps([repr(row) for row in live.broker.questions.dashboard_users.rows()]))
        done(await new_password(live, vera, "vera", PASSWORD, OTHER))
        await lock(live, "boss")
    for text in (*texts, logged(caplog)):
        assert not any(secret in text for secret in (guess, PASSWORD, OTHER, boss.token, vera.token, "guess number"))


# --- tokens


def parts(text: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    head, claims, signature = text.split(".")
    return *(json.loads(base64.urlsafe_b64decode(each + "==")) for each in (head, claims)), signature


def packed(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip("=")


def forged(head: dict[str, Any], claims: dict[str, Any], key: bytes = b"") -> str:
    text = f"{packed(head)}.{packed(claims)}"
    signature = hmac.digest(key, text.encode(), "sha256")
    return f"{text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


@shows("POST /login")
async def test_the_life_of_a_token(mock_clock: MockClock) -> None:
    """60 minutes from its last use; whoever comes late is told so, also the second time."""
    async with running() as live:
        used, idle = await live.log_in(), await live.log_in()
        for _ in range(3):
            await later(mock_clock, 3540)
            assert await works(live, used)
        failed(await live.api.get(LOOK, auth=idle), 401, "TOKEN_TIME_OUT", TIME_OUT)
        failed(await live.api.get(LOOK, auth=idle), 401, "TOKEN_TIME_OUT", TIME_OUT)
        await later(mock_clock, 3660)
        for auth, method, path in [(used, "GET", USERS), (used, "POST", "/publish"), (used, "DELETE", "/clients/c1")]:
            failed(await live.api.request(method, path, auth=auth), 401, "TOKEN_TIME_OUT", TIME_OUT)
        answer = await live.api.post("/logout", json={"username": "boss"}, auth=used)
        assert (answer.status_code, answer.json()["code"]) in [
            (401, "TOKEN_TIME_OUT"),
            (401, "WRONG_TOKEN_OR_USERNAME"),
        ]
        assert await works(live, await live.log_in())


@shows("POST /login", "PUT /configs/dashboard")
async def test_another_life_of_tokens(mock_clock: MockClock) -> None:
    async with running(Config(dashboard=DashboardConfig(token_expired_time=120.0))) as live:
        boss = await live.log_in()
        for _ in range(3):
            await later(mock_clock, 110)
            assert await works(live, boss)
        await later(mock_clock, 130)
        failed(await live.api.get(LOOK, auth=boss), 401, "TOKEN_TIME_OUT", TIME_OUT)
        answer = await live.api.put("/configs/dashboard", json={"token_expired_time": "10s"})
        assert answer.status_code == 200, answer.text
        boss = await live.log_in()
        await later(mock_clock, 8)
        assert await works(live, boss)
        await later(mock_clock, 12)
        failed(await live.api.get(LOOK, auth=boss), 401, "TOKEN_TIME_OUT", TIME_OUT)


@shows("POST /logout")
async def test_logout(mock_clock: MockClock) -> None:
    async with running() as live:
        boss, too = await live.log_in(), await live.log_in()
        vera = await live.log_in("vera", Role.VIEWER)
        assert boss.token != too.token
        message = "Ensure your token & username"
        for name in ("vera", "nobody", "Boss", "", "boss ", "boss\0", "b\u043ess", "x" * 100):
            answer = await live.api.post("/logout", json={"username": name}, auth=boss)
            failed(answer, 401, "WRONG_TOKEN_OR_USERNAME", message)
        for body in ({}, {"username": None}, {"username": ["boss"]}, {"username": 5}):
            failed(await live.api.post("/logout", json=body, auth=boss), 400, "BAD_REQUEST")
        assert await works(live, boss)
        assert await works(live, vera)
        done(await live.api.post("/logout", json={"username": "boss"}, auth=boss))
        bad_token(await live.api.get(LOOK, auth=boss))
        bad_token(await live.api.post("/logout", json={"username": "boss"}, auth=boss))
        assert await works(live, too)
        done(await live.api.post("/logout", json={"username": "vera"}, auth=vera))
        bad_token(await live.api.get(LOOK, auth=vera))
        await later(mock_clock, 4000)
        assert not await works(live, vera)


@shows("POST /login")
async def test_a_token_tells_no_secret(autojump_clock: MockClock) -> None:
    async with running() as live:
        boss, too = await live.log_in(), await live.log_in()
        head, claims, signature = parts(boss.token)
        assert head["alg"] not in ("none", None)
        assert PASSWORD not in json.dumps(claims)
        assert "boss" in claims.values()
        assert signature
        assert parts(too.token)[1] != claims


@shows("GET /sessions_count")
async def test_tokens_that_somebody_made(mock_clock: MockClock) -> None:
    async with running() as live:
        boss, vera = await live.log_in(), await live.log_in("vera", Role.VIEWER)
        head, claims, signature = parts(vera.token)
        bosss = parts(boss.token)[1]
        h, c, s = vera.token.split(".")
        found = [
            f"{h}.{packed(claims | {'sub': 'boss'})}.{s}",
            f"{h}.{packed(claims | {'role': 'administrator'})}.{s}",
            f"{h}.{packed(bosss)}.{s}",
            f"{h}.{boss.token.split('.')[1]}.{s}",
            f"{h}.{packed(claims | {'exp': 10**12})}.{s}",
            f"{h}.{c}.",
            f"{h}.{c}",
            f"{h}.{c}.{'A' * len(s)}",
            f"{h}.{c}.{s[:-2]}",
            f"{h}.{c}.{s}.{s}",
            f"{h}.{c}.{s[::-1]}",
            f".{c}.{s}",
            f"..{s}",
            "..",
            "",
            boss.token[:-3] + ("AAA" if not boss.token.endswith("AAA") else "BBB"),
            boss.token.upper(),
            boss.token + "A",
            str(claims.get("jti")),
        ]
        algorithms: list[Any] = ["none", "None", "NONE", "nOnE", "", None, [], {}, 0]
        for algorithm in algorithms:
            for sent in (claims, bosss, bosss | {"exp": 10**12}):
                text = f"{packed(head | {'alg': algorithm})}.{packed(sent)}"
                found += [f"{text}.", text, f"{text}.{s}"]
        for key in (b"", b"secret", b"emqx", b"trio-broker", b"boss", b"admin", bytes(32), PASSWORD.encode(), b"null"):
            for algorithm in ("HS256", "hs256", "RS256", "ES256", "HS1"):
                found.append(forged(head | {"alg": algorithm}, bosss, key))
        for more in (
            {"kid": "/dev/null"},
            {"kid": "../../dev/null"},
            {"kid": "' UNION SELECT '"},
            {"jku": "http://127.0.0.1:1/keys"},
            {"x5u": "http://127.0.0.1:1/keys"},
            {"jwk": {"kty": "oct", "k": ""}},
            {"crit": ["exp"]},
            {"b64": False, "crit": ["b64"]},
            {"zip": "DEF"},
        ):
            found.append(forged(head | more, bosss))
            found.append(f"{packed(head | more)}.{boss.token.split('.')[1]}.{signature}")
        for text in found:
            answer = await ask(live, f"Bearer {text}", path=USERS)
            assert answer.status_code == 401, text
            assert answer.json()["code"] in ("BAD_TOKEN", "AUTHORIZATION_HEADER_ERROR"), text
        assert await works(live, boss)
        assert await works(live, vera)


@shows("GET /sessions_count")
async def test_a_token_goes_nowhere_but_into_the_header(autojump_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        for name in ("token", "access_token", "authorization", "Authorization", "bearer"):
            assert (await live.api.get(LOOK, params={name: boss.token}, auth=None)).status_code == 401
            headers = {
                "cookie": f"{name}={boss.token}",
                "x-token": boss.token,
                "proxy-authorization": f"Bearer {boss.token}",
            }
            assert (await live.api.get(LOOK, headers=headers, auth=None)).status_code == 401
        assert (await live.api.get(LOOK, auth=("boss", boss.token))).status_code == 401
        assert (await live.api.get(LOOK, auth=(boss.token, ""))).status_code == 401


@shows("GET /sessions_count")
async def test_tokens_of_another_broker(autojump_clock: MockClock) -> None:
    async with running() as one, running() as two:
        boss, other = await one.log_in(), await two.log_in()
        assert await works(one, boss)
        bad_token(await two.api.get(LOOK, auth=boss))
        bad_token(await one.api.get(LOOK, auth=other))


@shows("POST /login")
async def test_tokens_after_a_restart(autojump_clock: MockClock) -> None:
    """As documented they end with the broker; and stay so, whoever logs in then."""
    store = MemoryStore()
    async with running(store=store) as live:
        before = await live.log_in()
        assert await works(live, before)
    async with running(store=store) as live:
        bad_token(await live.api.get(LOOK, auth=before))
        assert await works(live, await token(live, "boss"))
        bad_token(await live.api.get(LOOK, auth=before))


@shows("POST /login")
async def test_a_hundred_tokens_of_one_user(mock_clock: MockClock) -> None:
    """As documented: the one that was not used for the longest time goes."""
    async with running() as live:
        vera = await live.log_in("vera")
        first, second = await live.log_in(), await live.log_in()
        await later(mock_clock, 1)
        for _ in range(98):
            await live.log_in()
        assert await works(live, first)
        await later(mock_clock, 1)
        last = await live.log_in()
        assert [await works(live, auth) for auth in (first, second, last, vera)] == [True, False, True, True]


@shows("POST /login")
async def test_a_login_looks_at_no_credentials(autojump_clock: MockClock) -> None:
    async with running() as live:
        boss = await live.log_in()
        body = {"username": "boss", "password": PASSWORD}
        for header in ("Bearer x", "Basic x", basic("a:b"), "Digest x", f"Bearer {boss.token}", basic(":".join(ADMIN))):
            answer = await ask(live, header, path="/login", method="POST", json=body)
            assert answer.status_code == 200, answer.text
        answer = await ask(live, f"Bearer {boss.token}", path="/login", method="POST", json=body | {"password": OTHER})
        failed(answer, *BAD_LOGIN)


async def test_headers_without_end_over_a_socket() -> None:
    """What is too long is refused by the server below; the next request is answered."""
    rest = DashboardListeners(http=HttpConfig(bind="127.0.0.1:0"))
    broker = Broker(Config(dashboard=DashboardConfig(listeners=rest)))
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(broker.run)
        key = addresses.generated_key
        host, port = addresses.api
        with trio.fail_after(30):
            async with httpx.AsyncClient(base_url=f"http://{host}:{port}/api/v5") as api:
                for scheme in ("Basic", "Bearer"):
                    for size in (100, 20_000):
                        answer = await api.get(LOOK, headers={"authorization": f"{scheme} " + "A" * size})
                        assert answer.status_code == 401
                    for size in (40_000, 1_000_000):
                        try:
                            answer = await api.get(LOOK, headers={"authorization": f"{scheme} " + "A" * size})
                        except httpx.TransportError:
                            continue  # it may cut the connection while the rest is still sent
                        assert answer.status_code in (400, 401, 413, 431)
                assert (await api.get(LOOK, auth=(key.api_key, key.api_secret))).status_code == 200
        broker.close()


# --- the first start


@shows("POST /login")
async def test_the_first_start(caplog: pytest.LogCaptureFixture, autojump_clock: MockClock) -> None:
    caplog.set_level(0)
    rest = DashboardListeners(http=HttpConfig(bind="127.0.0.1:0"))
    store, secrets = MemoryStore(), []
    for start, password in [("first", ""), ("second", ""), ("third", OTHER)]:
        config = Config(dashboard=DashboardConfig(listeners=rest, default_password=password))
        broker = Broker(config, store=store)
        async with trio.open_nursery() as nursery:
            addresses = await nursery.start(broker.run)
            app = make_app(broker.questions, started=lambda: True)
            transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url="http://broker/api/v5") as api:
                bodies = [{"username": "admin", "password": each} for each in ("public", "admin", OTHER)]
                answers = [await api.post("/login", json=body) for body in bodies]
                assert {answer.status_code for answer in answers} == {401}, start
                if start == "first":
                    secrets = [addresses.generated_user.password, addresses.generated_key.api_secret]
                    assert addresses.generated_user.username == "admin"
                    assert repr(addresses).count(secrets[0]) == 0
                else:
                    assert addresses.generated_user is addresses.generated_key is None
                answer = await api.post("/login", json={"username": "admin", "password": secrets[0]})
                assert answer.json()["role"] == "administrator"
            broker.close()
    assert not any(secret in logged(caplog) for secret in secrets)


@shows("POST /login", "GET /configs/dashboard", "GET /configs")
async def test_a_given_first_password(autojump_clock: MockClock) -> None:
    rest = DashboardListeners(http=HttpConfig(bind="127.0.0.1:0"))
    config = Config(dashboard=DashboardConfig(listeners=rest, default_password=PASSWORD))
    async with running(config) as live:
        admin = await token(live, "admin")
        assert (await got_as(live, "/configs/dashboard", admin))["default_password"] == "******"
        texts = [(await live.api.get("/configs", auth=admin)).text, repr(live.broker.config)]
        assert not any(PASSWORD in text for text in texts)
        done(await new_password(live, admin, "admin", PASSWORD, OTHER))
        failed(await login(live, "admin"), *BAD_LOGIN)
        assert await works(live, await token(live, "admin", OTHER))
