"""What an attacker would try on those who administer the broker: their secrets, their login, what was taken away."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import trio
from api.conftest import ADMIN
from api.fake_questions import FakeQuestions
from api.live import PASSWORD, Live, running
from api.test_smuggling import BODY, CHUNKED, GET, HIDDEN, POST, is_well, statuses
from review.credentials import cheap_hashes, deleted, login, new_key, new_user, pair, token
from trio.testing import wait_all_tasks_blocked

from trio_broker.access.address_rules import parse_address_rules
from trio_broker.actors.slow_hash import LONGEST, Line, TooBusy
from trio_broker.api.app import WebApp, make_app
from trio_broker.api.keys import Role, read_bootstrap_file
from trio_broker.api.server import serve
from trio_broker.broker import Addresses, Broker
from trio_broker.config import Config, load
from trio_broker.config.model import DashboardConfig, DashboardListeners, HttpConfig
from trio_broker.errors import ConfigError, ListenerError
from trio_broker.store.memory import MemoryStore

Address = tuple[str, int]


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_hashes(monkeypatch)


# -- the first start


def at_port(port: int) -> Config:
    return Config(dashboard=DashboardConfig(listeners=DashboardListeners(http=HttpConfig(bind=f"127.0.0.1:{port}"))))


async def started(store: MemoryStore, port: int = 0, *, new_password: bool = False) -> Addresses:
    broker = Broker(at_port(port), store=store, new_password=new_password)
    async with trio.open_nursery() as nursery:
        addresses: Addresses = await nursery.start(broker.run)
        broker.close()
    return addresses


async def test_a_first_start_over_a_taken_port_makes_nothing_that_nobody_was_shown() -> None:
    store = MemoryStore()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ExceptionGroup) as caught:
            await started(store, taken.getsockname()[1])
    assert caught.group_contains(ListenerError, match="in use")
    addresses = await started(store)
    assert addresses.generated_key is not None
    assert addresses.generated_user is not None
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ExceptionGroup):
            await started(store, taken.getsockname()[1], new_password=True)
    # The password of before is the one that counts.
    async with running(store=store) as live:
        await live.broker.questions.dashboard_users.log_in("admin", addresses.generated_user.password)


# -- what is taken away


@pytest.mark.parametrize("how", ["logout", "deleted", "demoted", "password", "key"])
async def test_a_request_that_was_half_sent_before_is_refused(how: str) -> None:
    """Else who is thrown out could keep one open all the time, and make a new administrator with it afterwards."""
    async with running() as live:
        boss = await live.log_in()
        await new_user(live, boss, "evil", role="administrator")
        evil: httpx.Auth = await token(live, "evil")
        path, body, status = "/users", b'{"username":"evil2","password":"Abcdefg-1"}', 401
        if how == "key":
            evil = httpx.BasicAuth(*pair(await new_key(live, boss, "evil")))
            path, body = "/banned", b'{"as":"clientid","who":"c1"}'
        arrived, go_on = trio.Event(), trio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield body[:5]
            arrived.set()
            await go_on.wait()
            yield body[5:]

        answers: list[httpx.Response] = []

        async def ask() -> None:
            headers = {"content-type": "application/json", "content-length": str(len(body))}
            answers.append(await live.api.post(path, content=slowly(), headers=headers, auth=evil))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await arrived.wait()
            await wait_all_tasks_blocked()
            await taken_away(live, boss, how, evil)
            go_on.set()
        assert answers[0].status_code == status, answers[0].text
        assert live.broker.questions.dashboard_users.get("evil2") is None


async def taken_away(live: Live, boss: httpx.Auth, how: str, evil: httpx.Auth) -> None:
    users = live.broker.questions.dashboard_users
    if how == "logout":
        answer = await live.api.post("/logout", json={"username": "evil"}, auth=evil)
        assert answer.status_code == 204, answer.text
    elif how == "deleted":
        await deleted(live, boss, "/users/evil")
    elif how == "key":
        await deleted(live, boss, "/api_key/evil")
    elif how == "password":
        await users.change_password("evil", PASSWORD, f"{PASSWORD}2")
    else:
        answer = await live.api.put("/users/evil", json={"description": "", "role": "viewer"}, auth=boss)
        assert answer.status_code == 200, answer.text


# -- secrets in errors


@pytest.mark.parametrize(
    "text",
    [
        '[dashboard]\ndefault_pasword = "hunter-2"',
        '[dashboard]\ndefaultpassword = "hunter-2"',
        '[[authentication]]\nmechanism = "jwt"\nsecrets = "hunter-2"',
        '[[authentication]]\nmechanism = "jwt"\nsecret = ["hunter-2"]',
        '[prometheus.push_gateway]\nheader = {Authorization = "hunter-2"}',
        'authentication = "hunter-2"',
        'authentication = {secret = "hunter-2"}',
        '[[authorization.sources]]\ntype = "http"\nhttp_headers = {token = "hunter-2"}',
        'listeners.ssl.default.ssl_options = {pasword = "hunter-2"}',
        'listeners.ssl.default.ssl_options = "password=hunter-2"',
    ],
)
def test_a_misspelt_key_does_not_tell_its_secret(tmp_path: Path, text: str) -> None:
    (tmp_path / "broker.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "broker.toml")
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("AUTHENTICATION", '[{mechanism="jwt",secret="hunter-2"'),
        ("AUTHENTICATION", '{mechanism="jwt",secret="hunter-2"}'),
        ("AUTHORIZATION__SOURCES", '[{type="http",headers={token="hunter-2"}]'),
        ("DASHBOARD", '{default_password="hunter-2"'),
        ("DASHBOARD__PASSWORD", "hunter-2"),
        ("PROMETHEUS__PUSH_GATEWAY__HEADERS", '{token="hunter-2"'),
    ],
)
def test_a_variable_that_cannot_be_read_does_not_tell_its_secret(name: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ={f"TRIO_BROKER_{name}": text})
    assert "hunter" not in str(caught.value)
    assert f"TRIO_BROKER_{name}" in str(caught.value)


def test_a_secret_with_a_colon_in_the_bootstrap_file_is_not_told(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("key:half:hunter-2\n")
    with pytest.raises(ConfigError, match="line 1: unknown role") as caught:
        read_bootstrap_file(tmp_path / "keys")
    assert "hunter" not in str(caught.value)


# -- a stranger in the way


async def stand(line: Line, address: str, stood: list[str]) -> None:
    try:
        async with line.turn(address):
            stood.append(address)
            await trio.lowlevel.checkpoint()
    except TooBusy:
        stood.append("sent away")


async def test_one_host_with_many_addresses_is_one_stranger(nursery: trio.Nursery) -> None:
    line, stood = Line(), list[str]()
    async with line.turn("192.0.2.1"):
        for number in range(LONGEST):
            nursery.start_soon(stand, line, f"2001:db8::{number:x}", stood)
        await wait_all_tasks_blocked()
        nursery.start_soon(stand, line, "192.0.2.7", stood)
        await wait_all_tasks_blocked()
        assert stood == ["sent away"]
    await wait_all_tasks_blocked()
    assert stood.index("192.0.2.7") == 2  # first one of the others


async def test_a_crowd_of_strangers_does_not_lock_out_who_comes_from_elsewhere(nursery: trio.Nursery) -> None:
    line, stood = Line(), list[str]()
    async with line.turn("192.0.2.0"):
        for number in range(LONGEST + 1):
            nursery.start_soon(stand, line, f"192.0.2.{number % 8}", stood)
        await wait_all_tasks_blocked()
        assert stood == ["sent away"]  # one too many
        for number in range(3):
            nursery.start_soon(stand, line, f"198.51.100.{number}", stood)
        await wait_all_tasks_blocked()
        assert stood == ["sent away"] * 4
    await wait_all_tasks_blocked()
    assert len(stood) == LONGEST + 4
    assert {place for place in stood[4:15] if place.startswith("198.")} == {f"198.51.100.{n}" for n in range(3)}


# -- addresses in other clothes


@pytest.mark.parametrize("rule", ["deny 10.0.0.0/8", "deny ::ffff:10.0.0.0/104", "deny ::ffff:a00:0/104"])
@pytest.mark.parametrize("host", ["10.0.0.1", "::ffff:10.0.0.1", "::ffff:a00:1"])
def test_an_ipv4_address_is_kept_out_however_it_is_written(rule: str, host: str) -> None:
    rules = parse_address_rules([rule, "allow all"])
    assert not rules.allows(host)
    assert not rules.reaches(host)
    assert rules.allows("::ffff:11.0.0.1")
    assert rules.reaches("::ffff:11.0.0.1")


# -- secrets that look like another


async def test_a_password_with_nul_behind_it_is_another() -> None:
    async with running() as live:
        boss = await live.log_in()
        assert (await login(live, "boss", f"{PASSWORD}\0")).status_code == 401
        body = {"username": "nul", "password": f"{PASSWORD}\0"}
        assert (await live.api.post("/users", json=body, auth=boss)).status_code == 400


# -- a stranger's body


@pytest.mark.parametrize("depth", [100, 400, 500, 600, 900, 2000, 30_000])
@pytest.mark.parametrize("shape", ["[*]", '{"a":*}'])
async def test_a_deep_body_of_a_stranger_is_no_fault_of_ours(
    depth: int, shape: str, caplog: pytest.LogCaptureFixture
) -> None:
    before, after = shape.split("*")
    transport = httpx.ASGITransport(app=an_app())  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://broker/api/v5") as api:
        body = '{"username":' + (before * depth + "null" + after * depth)[:60_000] + ',"password":"x"}'
        answer = await api.post("/login", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert not caplog.records


# -- requests with two readings


@pytest.fixture
async def address(nursery: trio.Nursery) -> AsyncIterator[Address]:
    yield await nursery.start(serve, an_app(), "127.0.0.1:0")
    nursery.cancel_scope.cancel()


def an_app() -> WebApp:
    questions = FakeQuestions()
    questions.api_keys.add(*ADMIN, Role.ADMINISTRATOR)
    return make_app(questions, started=lambda: True)


@pytest.mark.parametrize(
    "body",
    [
        CHUNKED.replace(b"0\r\n\r\n", b"0\r\nx: y\n\n"),
        CHUNKED.replace(b"0\r\n\r\n", b"0\r\nx: y\nz: z\r\n\r\n"),
        CHUNKED.replace(b"0\r\n\r\n", b"0\r\n\n"),
        CHUNKED.replace(b"0\r\n\r\n", b"0\r\nx: y\r\n z\r\n\r\n"),
        CHUNKED.replace(b"%x\r\n" % len(BODY), b"%x;a\rb\r\n" % len(BODY)),
    ],
)
async def test_lines_of_chunks_are_as_strict_as_those_of_the_head(address: Address, body: bytes) -> None:
    assert await statuses(address, POST + b"transfer-encoding: chunked\r\n\r\n" + body + HIDDEN) == [400]
    assert await is_well(address)


@pytest.mark.parametrize("version", [b"HTTP/2.0", b"HTTP/9.9", b"HTTP/1.2", b"HTTP/0.9"])
async def test_a_version_that_is_not_spoken_is_refused(address: Address, version: bytes) -> None:
    (status,) = await statuses(address, GET.replace(b"HTTP/1.1", version) + b"\r\n" + HIDDEN)
    assert status in (400, 505)
    assert await is_well(address)


async def test_a_flood_of_connections_is_no_flood_in_the_log(
    nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    address = await nursery.start(lambda **more: serve(an_app(), "127.0.0.1:0", max_connections=1, **more))
    with trio.fail_after(20):
        async with await trio.open_tcp_stream(*address):
            for _ in range(20):
                async with await trio.open_tcp_stream(*address) as other:
                    assert await other.receive_some() == b""
    assert 1 <= caplog.text.count("turned away") <= 10
    nursery.cancel_scope.cancel()


async def test_a_new_password_that_nobody_could_use_is_refused(autojump_clock: object) -> None:
    broker = Broker(Config(), store=MemoryStore(), new_password=True)
    with pytest.raises(ConfigError, match="there is no REST API"):
        await broker.run()
