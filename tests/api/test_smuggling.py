"""Requests that two readers could read in two ways, over raw sockets: refused, or read in exactly one.

Each of them hides `GET /status?smuggled`: whoever is misled answers twice.
"""

from __future__ import annotations

import contextlib
from base64 import b64encode
from collections.abc import AsyncIterator

import h11
import pytest
import trio
from api.conftest import ADMIN
from api.fake_questions import FakeQuestions
from trio.testing import MockClock

from trio_broker.api import http1
from trio_broker.api.app import SLOWEST_BODY, WebApp
from trio_broker.api.http1 import LONGEST_HEADERS, MOST_HEADERS, StrictConnection
from trio_broker.api.server import KEEP_ALIVE, serve

Address = tuple[str, int]

HIDDEN = b"GET /status?smuggled HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
KEY = b"authorization: Basic " + b64encode(":".join(ADMIN).encode()) + b"\r\n"
POST = b"POST /api/v5/publish HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n" + KEY
GET = b"GET /status HTTP/1.1\r\nhost: x\r\n"
LAST = GET + b"connection: close\r\n"
BODY = b'{"topic": "t", "payload": "p"}'
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


@pytest.fixture
async def address(app: WebApp, nursery: trio.Nursery) -> AsyncIterator[Address]:
    yield await nursery.start(serve, app, "127.0.0.1:0")
    nursery.cancel_scope.cancel()


async def statuses(address: Address, request: bytes, *, end: bool = False) -> list[int]:
    """What comes until the server closes; with `end` the client says that it has said all, and may miss an answer."""
    with trio.fail_after(8):
        async with await trio.open_tcp_stream(*address) as stream:
            received = b""
            try:
                await stream.send_all(request)
                if end:
                    await stream.send_eof()
                async for chunk in stream:
                    received += chunk
            except trio.BrokenResourceError:
                pass  # closed while we were still sending; what was read counts
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


async def is_well(address: Address) -> bool:
    return await statuses(address, LAST + b"\r\n") == [200]


@pytest.mark.parametrize(
    ("framing", "status"),
    [
        (b"content-length: 5\r\ntransfer-encoding: chunked\r\n", 400),
        (b"transfer-encoding: chunked\r\ncontent-length: 0\r\n", 400),
        (b"Transfer-Encoding: chunked\r\nCONTENT-LENGTH: 0\r\n", 400),
        (b"content-length: 0\r\ncontent-length: 5\r\n", 400),
        (b"content-length: 0\r\ncontent-length: 0\r\n", 400),
        (b"content-length: 0, 5\r\n", 400),
        (b"content-length: 0, 0\r\n", 400),
        (b"content-length: 0\r\n content-length: 9\r\n", 400),
        (b"content-length: +0\r\n", 400),
        (b"content-length: -1\r\n", 400),
        (b"content-length: 0x0\r\n", 400),
        (b"content-length: 1e0\r\n", 400),
        (b"content-length: 0_0\r\n", 400),
        (b"content-length: \xd9\xa1\r\n", 400),
        (b"content-length: 99999999999999999999999\r\n", 400),
        (b"content-length:\r\n", 400),
        (b"content-length : 0\r\n", 400),
        (b" content-length: 0\r\n", 400),
        (b"transfer-encoding : chunked\r\n", 400),
        (b"transfer-encoding:\r\n chunked\r\n", 400),
        (b"transfer-encoding:\x0bchunked\r\n", 400),
        (b"transfer-encoding: \x00chunked\r\n", 400),
        (b"transfer-encoding\x00: chunked\r\n", 400),
        (b"transfer-encoding: chunked, identity\r\n", 501),
        (b"transfer-encoding: identity\r\n", 501),
        (b"transfer-encoding: gzip, chunked\r\n", 501),
        (b"transfer-encoding: xchunked\r\n", 501),
        (b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", 501),
        (b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", 501),
        (b"x: y\r\n z\r\n", 400),
        (b"x: y\r\n\tz\r\n", 400),
        (b"x: y\n", 400),
        (b"x: y\ncontent-length: 5\r\n", 400),
        (b"x: y\rz\r\n", 400),
        (b"x: y\x00\r\n", 400),
        (b"x y: z\r\n", 400),
        (b"x\r\n", 400),
        (b": y\r\n", 400),
        (b"host: y\r\n", 400),
    ],
)
async def test_a_head_that_can_be_read_in_two_ways_is_refused(
    address: Address, questions: FakeQuestions, framing: bytes, status: int
) -> None:
    assert await statuses(address, POST + framing + b"\r\n" + HIDDEN) == [status]
    assert questions.published == []
    assert await is_well(address)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /status HTTP/1.1\n host: x\n\n",
        b"GET /status HTTP/1.1\nhost: x\n\n",
        b"GET /status HTTP/1.1\r\nhost: x\r\n\n",
        b"GET /status HTTP/1.1\r\nhost: x\n\r\n",
        b"GET /status HTTP/1.1\r\n\r\n",
        b"GET  /status HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET\t/status HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /status HTTP/1.1 \r\nhost: x\r\n\r\n",
        b"GET /status\r\nhost: x\r\n\r\n",
        b" GET /status HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\r\nGET /status HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /sta tus HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /status HTTP/1.10\r\nhost: x\r\n\r\n",
        b"POST /api/v5/publish HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
    ],
)
async def test_an_odd_beginning_is_refused(address: Address, request_: bytes) -> None:
    (status,) = await statuses(address, request_ + HIDDEN)
    assert 400 <= status < 600
    assert await is_well(address)


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n",
        b"-1\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"fffffffffffffffffffff\r\nx\r\n0\r\n\r\n",
        b";x\r\n\r\n",
        b"5;\n\r\nhello\r\n0\r\n\r\n",
        b"0\r\nno field\r\n\r\n",
        b"0\r\n x: folded\r\n\r\n",
    ],
)
async def test_chunks_that_are_none_end_the_connection(address: Address, questions: FakeQuestions, body: bytes) -> None:
    answers = await statuses(address, POST + b"transfer-encoding: chunked\r\n\r\n" + body + HIDDEN, end=True)
    assert 200 not in answers
    assert len(answers) <= 1
    assert questions.published == []
    assert await is_well(address)


@pytest.mark.parametrize(
    "body",
    [
        CHUNKED,
        CHUNKED.replace(b"\r\n0\r\n\r\n", b"\r\n000\r\n\r\n"),
        CHUNKED.replace(b"1e\r\n", b'01E;name="va;lue"\r\n'),
        CHUNKED.replace(b"0\r\n\r\n", b"0\r\ncontent-length: 5\r\nx: y\r\n\r\n"),
        b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n",
    ],
)
async def test_good_chunks_are_read_and_what_follows_is_a_request(
    address: Address, questions: FakeQuestions, body: bytes
) -> None:
    assert await statuses(address, POST + b"transfer-encoding: chunked\r\n\r\n" + body + HIDDEN) == [202, 200]
    (message,) = questions.published
    assert (message.topic_name, message.payload) == ("t", b"p")


async def test_a_length_bounds_the_body(address: Address, questions: FakeQuestions) -> None:
    request = POST + b"content-length: %d\r\n\r\n" % len(BODY)
    assert await statuses(address, request + BODY + HIDDEN) == [202, 200]
    assert [message.payload for message in questions.published] == [b"p"]


async def test_a_length_that_is_too_short_cuts_the_body(address: Address, questions: FakeQuestions) -> None:
    request = POST + b"content-length: %d\r\n\r\n" % (len(BODY) - 1)
    assert await statuses(address, request + BODY + b"\r\n\r\n") == [400, 400]
    assert questions.published == []


async def test_a_length_that_is_too_long_takes_the_next_request_as_body(
    address: Address, questions: FakeQuestions
) -> None:
    request = POST + b"connection: close\r\ncontent-length: %d\r\n\r\n" % (len(BODY) + len(HIDDEN))
    assert await statuses(address, request + BODY + HIDDEN) == [400]
    assert questions.published == []


@pytest.mark.parametrize("key", [KEY, b"", b"authorization: Basic eDp5\r\n"])
@pytest.mark.parametrize("path", [b"/api/v5/nothing", b"/api/v5/nodes", b"/status"])
async def test_a_body_that_nobody_reads_is_no_request(address: Address, key: bytes, path: bytes) -> None:
    """The one request is refused before its body is looked at, and the rest of it is not obeyed."""
    head = (
        b"POST "
        + path
        + b" HTTP/1.1\r\nhost: x\r\n"
        + key
        + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(HIDDEN)
    )
    (status,) = await statuses(address, head + HIDDEN)
    assert status in (401, 404, 405)


async def test_pipelined_requests_are_answered_in_their_order(address: Address) -> None:
    one = b"GET /api/v5/nodes HTTP/1.1\r\nhost: x\r\n" + KEY + b"\r\n"
    other = b"GET /api/v5/nothing HTTP/1.1\r\nhost: x\r\n" + KEY + b"\r\n"
    assert await statuses(address, (one + other) * 20 + HIDDEN) == [200, 404] * 20 + [200]


async def test_nothing_is_read_behind_the_last_request(address: Address) -> None:
    for last in (LAST + b"\r\n", b"GET /status HTTP/1.0\r\n\r\n"):
        assert await statuses(address, last) == [200]
        # What should not be there makes it wrong as a whole.
        assert await statuses(address, last + HIDDEN) == [400]


@pytest.mark.parametrize("protocol", [b"websocket", b"WebSocket", b"h2c", b"TLS/1.0", b"nonsense"])
@pytest.mark.parametrize("key", [b"", b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"])
async def test_an_upgrade_is_not_taken_up(address: Address, protocol: bytes, key: bytes) -> None:
    upgrade = b"connection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABk\r\nUpgrade: " + protocol + b"\r\n"
    assert await statuses(address, GET + upgrade + key + b"\r\n" + HIDDEN) == [200, 200]


async def test_the_form_of_the_target_does_not_matter(address: Address) -> None:
    for target in (b"/status", b"http://elsewhere/status", b"/./status", b"//status", b"/status/../api/v5/nodes"):
        answers = await statuses(address, b"GET " + target + b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert len(answers) == 1
        assert answers[0] in (200, 401, 404)


# -- how much, and how slow


def filled(size: int) -> bytes:
    """A good request whose head has so many bytes."""
    rest = size - len(LAST) - len(b"x: \r\n\r\n")
    return LAST + b"x: " + b"y" * rest + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (filled(LONGEST_HEADERS), 200),
        (filled(LONGEST_HEADERS + 1), 431),
        (filled(10 * LONGEST_HEADERS), 431),
        (LAST + b"x: y\r\n" * (MOST_HEADERS - 2) + b"\r\n", 200),
        (LAST + b"x: y\r\n" * (MOST_HEADERS - 1) + b"\r\n", 431),
        (GET + b"a:\r\n" * 5000 + b"\r\n", 431),
        (b"GET /status?" + b"x" * LONGEST_HEADERS + b" HTTP/1.1\r\nhost: x\r\n\r\n", 431),
        (b"x" * 10 * LONGEST_HEADERS, 431),
    ],
)
async def test_a_head_has_its_limits(address: Address, request_: bytes, status: int) -> None:
    answers = await statuses(address, request_)
    # Of what is beyond all measure not all is read, and then the answer may be lost with the connection.
    assert answers == [status] or (answers == [] and len(request_) > 2 * LONGEST_HEADERS)
    assert await is_well(address)


async def test_endless_trailers_and_extensions_of_chunks_have_limits(address: Address) -> None:
    head = POST + b"transfer-encoding: chunked\r\n\r\n"
    for rest in (b"0\r\n" + b"x: y\r\n" * 100_000, b"5;" + b"x" * 500_000):
        answers = await statuses(address, head + rest, end=True)
        assert 200 not in answers
    assert await is_well(address)


async def test_headers_that_come_a_byte_at_a_time_are_given_up(address: Address, autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with await trio.open_tcp_stream(*address) as slow:
        await slow.send_all(b"GET /status HTTP/1.1\r\nhost: x\r\nx: ")
        with contextlib.suppress(trio.BrokenResourceError):
            while trio.current_time() < began + 3 * KEEP_ALIVE:
                await slow.send_all(b"y")
                await trio.sleep(5)
    assert trio.current_time() <= began + KEEP_ALIVE + 15
    assert await is_well(address)


async def test_a_body_that_does_not_come_is_given_up(address: Address, autojump_clock: MockClock) -> None:
    began = trio.current_time()
    async with await trio.open_tcp_stream(*address) as slow:
        await slow.send_all(POST + b"content-length: 100\r\n\r\n{")
        answer = b"".join([chunk async for chunk in slow])
    assert answer.startswith(b"HTTP/1.1 408")
    assert trio.current_time() <= began + SLOWEST_BODY + 5
    assert await is_well(address)


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 1000])
def test_it_does_not_matter_how_a_request_is_cut(piece: int) -> None:
    def told(data: bytes) -> list[str]:
        connection = StrictConnection(h11.SERVER)
        events: list[str] = []
        for at in range(0, len(data), piece):
            connection.receive_data(data[at : at + piece])
            try:
                while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                    events.append(type(event).__name__)
            except h11.RemoteProtocolError as error:
                return [*events, str(error)]
        return events

    assert told(GET + b"\r\n") == ["Request", "EndOfMessage"]
    assert told(GET + b"x: y\n\r\n") == ["a line ends with LF alone"]
    assert told(GET + b"x: y\n\n") == ["a line ends with LF alone"]
    assert told(GET + b"x:\r\n y\r\n\r\n") == ["a line is folded"]
    assert told(POST + b"content-length: 1\r\ncontent-length: 1\r\n\r\nx") == ["its length is said more than once"]
    assert told(POST + b"content-length: 1, 1\r\n\r\nx") == ["its length is a list"]


def test_the_limits_are_sensible() -> None:
    assert http1.LONGEST_HEADERS == 32768
    assert http1.MOST_HEADERS == 100
