"""The API over real sockets: addresses, percent-encoding as it arrives, rude peers, an end that comes."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from functools import partial

import httpx
import pytest
import trio
from api.conftest import ADMIN
from api.fake_questions import FakeQuestions
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from trio_broker.api import connection
from trio_broker.api.app import WebApp
from trio_broker.api.http1 import Http1
from trio_broker.api.server import serve
from trio_broker.errors import ListenerError

Address = tuple[str, int]


@pytest.fixture
async def address(app: WebApp, nursery: trio.Nursery) -> AsyncIterator[Address]:
    yield await nursery.start(serve, app, "127.0.0.1:0")
    nursery.cancel_scope.cancel()


@pytest.fixture
async def web(address: Address) -> AsyncIterator[httpx.AsyncClient]:
    host, port = address
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}/api/v5", auth=ADMIN) as client:
        yield client


async def exchange(address: Address, request: bytes) -> bytes:
    """Send and read until the server closes."""
    stream = await trio.open_tcp_stream(*address)
    async with stream:
        await stream.send_all(request)
        return b"".join([chunk async for chunk in stream])


async def test_a_free_port_is_reported(address: Address, web: httpx.AsyncClient) -> None:
    assert address[0] == "127.0.0.1"
    assert address[1] > 0
    answer = await web.get("/nodes")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert "server" not in answer.headers


@pytest.mark.parametrize("client_id", ["a/b", "#", "+/#", "a b", "ü€", "a%2Fb", "a?b", "..", "a//b/"])
async def test_encoded_ids(web: httpx.AsyncClient, questions: FakeQuestions, client_id: str) -> None:
    questions.add(client_id, "t")
    encoded = "".join(f"%{byte:02X}" for byte in client_id.encode())
    assert (await web.get(f"/clients/{encoded}")).json()["clientid"] == client_id
    answer = await web.post(f"/clients/{encoded}/subscribe", json={"topic": "x/#"})
    assert answer.json()["clientid"] == client_id
    assert (await web.delete(f"/clients/{encoded}")).status_code == 204
    assert (await web.get(f"/clients/{encoded}")).status_code == 404


async def test_an_empty_answer_and_a_large_one(web: httpx.AsyncClient, questions: FakeQuestions) -> None:
    for number in range(2000):
        questions.add(f"c{number}")
    answer = await web.get("/clients?limit=10000")
    assert len(answer.json()["data"]) == 2000
    answer = await web.post("/clients/kickout/bulk", json=["c1"])
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await web.get("/clients/c1")).status_code == 404


async def test_a_body_that_is_announced_beyond_the_limit(address: Address) -> None:
    request = (
        b"POST /api/v5/publish HTTP/1.1\r\nhost: x\r\nauthorization: Basic YWRtaW4ta2V5OmFkbWluOnNlY3JldA==\r\n"
        b"content-type: application/json\r\ncontent-length: 99999999\r\n\r\n"
    )
    # The answer comes, and the connection ends, without waiting for the body.
    assert (await exchange(address, request)).startswith(b"HTTP/1.1 413")


async def test_headers_beyond_the_limit(address: Address) -> None:
    request = b"GET /status HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 40_000
    assert (await exchange(address, request)).startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET http://elsewhere/status HTTP/1.1", b"200"),
        (b"GET /status?format=json HTTP/1.1", b"200"),
        (b"OPTIONS * HTTP/1.1", b"404"),
        (b"GET x HTTP/1.1", b"404"),
        (b"GET http://[ HTTP/1.1", b"404"),
        (b"GET /api/v4/nodes HTTP/1.1", b"404"),
        (b"GET /st\xe4tus HTTP/1.1", b"400"),
        (b"nonsense", b"400"),
    ],
)
async def test_odd_request_lines(address: Address, request_line: bytes, status: bytes) -> None:
    answer = await exchange(address, request_line + b"\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    "request_",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"GET /api/v5/nodes HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n"
        b"http2-settings: ?\r\n\r\n",
        b"POST /api/v5/publish HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_rude_peers_harm_nobody_else(address: Address, web: httpx.AsyncClient, request_: bytes) -> None:
    stream = await trio.open_tcp_stream(*address)
    async with stream:
        await stream.send_all(request_)
        await stream.send_eof()
        with trio.fail_after(20):
            async for _ in stream:
                pass
    assert (await web.get("/nodes")).status_code == 200


async def test_a_fault_in_one_connection_harms_no_other(
    address: Address, web: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await web.get("/nodes")).status_code == 200

    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    with monkeypatch.context() as patched:
        patched.setattr(Http1, "handle", fail)
        assert await exchange(address, b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n") == b""
    assert "a connection failed" in caplog.text
    assert (await web.get("/nodes")).status_code == 200


async def test_http_2_is_not_taken_up(address: Address) -> None:
    upgrade = b"connection: close, upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQCAAAA\r\n"
    answer = await exchange(address, b"GET /status HTTP/1.1\r\nhost: x\r\n" + upgrade + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("bind", ["127.0.0.1:{port}", "{port}", "localhost:{port}"])
async def test_a_taken_port(app: WebApp, bind: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = bind.format(port=taken.getsockname()[1])
        with pytest.raises(ListenerError, match=r"REST API: cannot listen on .*: the address is in use"):
            await serve(app, where)


@pytest.mark.parametrize("bind", ["", "nowhere:x", "1.2.3:80", "/run/socket", "127.0.0.1:99999"])
async def test_an_address_that_is_none(app: WebApp, bind: str) -> None:
    with pytest.raises(ListenerError, match="REST API: "):
        await serve(app, bind)


async def test_it_ends_when_told_to_though_a_peer_is_silent(app: WebApp) -> None:
    told = trio.Event()
    async with trio.open_nursery() as nursery:
        address = await nursery.start(partial(serve, app, "127.0.0.1:0", shutdown_trigger=told.wait))
        async with await trio.open_tcp_stream(*address) as silent:
            await silent.send_all(b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b"is running"):
                answer += await silent.receive_some()
            told.set()
            with trio.fail_after(20):
                assert await silent.receive_some() == b""
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream(*address)


class Stuck:
    """An application whose requests never end, or whose answers nobody reads to the end."""

    def __init__(self) -> None:
        self.reached = trio.Event()
        self.endless = False

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if self.endless:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        while self.endless:
            self.reached.set()
            await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})
        self.reached.set()
        await trio.sleep_forever()


@pytest.mark.parametrize("endless", [False, True])
@pytest.mark.parametrize("cancel", [False, True])
async def test_it_ends_within_its_deadline(endless: bool, cancel: bool) -> None:
    stuck = Stuck()
    stuck.endless = endless
    told = trio.Event()
    with trio.fail_after(25):
        async with trio.open_nursery() as nursery:
            start = partial(serve, stuck, "127.0.0.1:0", shutdown_trigger=told.wait, drain=0.05)
            address = await nursery.start(start)
            async with await trio.open_tcp_stream(*address) as client:
                await client.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                await stuck.reached.wait()
                # Now the server waits for the application, or in a send that Hypercorn shields.
                await trio.testing.wait_all_tasks_blocked()
                if cancel:
                    nursery.cancel_scope.cancel()
                else:
                    told.set()
    assert stuck.reached.is_set()


async def test_a_peer_that_does_not_read_is_given_up(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    stuck = Stuck()
    stuck.endless = True
    address = await nursery.start(serve, stuck, "127.0.0.1:0")
    async with await trio.open_tcp_stream(*address) as client:
        await client.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await trio.sleep(connection.SLOWEST_SEND + 1)
        # What the system has buffered still comes; then the endless answer ends.
        assert sum([len(chunk) async for chunk in client]) > 0
    nursery.cancel_scope.cancel()


async def test_more_connections_than_allowed(app: WebApp, nursery: trio.Nursery) -> None:
    address = await nursery.start(partial(serve, app, "127.0.0.1:0", max_connections=1))
    async with await trio.open_tcp_stream(*address) as first:
        await first.send_all(b"GET /status HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await first.receive_some()).startswith(b"HTTP/1.1 200")
        with trio.fail_after(20):
            assert await exchange(address, b"") == b""
    nursery.cancel_scope.cancel()


async def test_nothing_is_kept_of_connections_that_failed(address: Address, web: httpx.AsyncClient) -> None:
    for _ in range(50):
        stream = await trio.open_tcp_stream(*address)
        await stream.send_all(b"GET /status HT")
        await stream.aclose()
    assert (await web.get("/nodes")).status_code == 200
    # Every connection is a handful of tasks; the client of this test holds one.
    with trio.fail_after(20):
        while trio.lowlevel.current_statistics().tasks_living > 40:
            await trio.lowlevel.checkpoint()
