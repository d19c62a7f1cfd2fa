"""MQTT's bytes over WebSocket, over real sockets."""

from __future__ import annotations

import contextlib
import logging
import struct
from typing import Any

import pytest
import trio
import trio.testing
import trio_websocket
from conformance.statement import conforms
from hypothesis import given, settings
from hypothesis import strategies as st
from listeners.certificates import Certificates
from listeners.fake_gate import EchoGate, Running, listener_config, read_exactly, read_to_end, running, until
from listeners.raw_websocket import (
    ACCEPT,
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    frame,
    read_close,
    read_frame,
    read_response,
    request,
    upgraded,
)

from trio_broker.actors.gate import ConnectionInfo
from trio_broker.config.listeners import ListenerConfig, WebsocketOptions
from trio_broker.listeners.websocket import MESSAGE_LIMIT, WebSocketListener, serve_websocket


def ws(**options: Any) -> ListenerConfig:
    return listener_config("ws", websocket=WebsocketOptions(**options))


@conforms(v311="6.0.0-4", v5="6.0.0-4", edge="transport-1")
@pytest.mark.parametrize(
    ("offered", "chosen"),
    [("mqtt", "mqtt"), ("mqttv3.1", "mqttv3.1"), ("mqttv3.1, mqtt", "mqtt"), ("chat, mqtt-v5", "mqtt-v5")],
)
async def test_an_upgrade_with_a_subprotocol(offered: str, chosen: str) -> None:
    async with running(ws()) as listening, await listening.connect() as client:
        response = await upgraded(client, request(protocols=offered))
        assert response.headers["sec-websocket-protocol"] == chosen
        assert response.headers["sec-websocket-accept"] == ACCEPT
        await client.send_all(frame(BINARY, b"hello"))
        assert await read_frame(client) == (BINARY, b"hello")
        assert listening.gate.infos[0].listener == "ws:default"


@conforms(v311="6.0.0-4", v5="6.0.0-4", edge="transport-1")
async def test_an_upgrade_without_a_subprotocol_where_that_is_allowed() -> None:
    async with running(ws(fail_if_no_subprotocol=False)) as listening, await listening.connect() as client:
        response = await upgraded(client, request(protocols=None))
        assert "sec-websocket-protocol" not in response.headers


async def test_compression_is_not_agreed_on() -> None:
    async with running(ws()) as listening, await listening.connect() as client:
        response = await upgraded(client, request(sec_websocket_extensions="permessage-deflate"))
        assert "sec-websocket-extensions" not in response.headers


@conforms(v311="6.0.0-4", v5="6.0.0-4", edge="transport-1")
@pytest.mark.parametrize(
    ("options", "said", "status"),
    [
        ({}, request(path="/elsewhere"), 404),
        ({}, request(protocols=None), 400),
        ({}, request(protocols="chat"), 400),
        ({"check_origin_enable": True}, request(origin="http://evil.example"), 403),
        ({}, b"GET /mqtt HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        ({}, b"POST /mqtt HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", 400),
        ({}, request(sec_websocket_version="8"), 426),
        ({}, request(sec_websocket_key=""), 400),
        ({}, b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00\r\n\r\n", 400),
    ],
)
async def test_what_is_refused_gets_an_http_answer(
    options: dict[str, Any], said: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="trio_broker")
    async with running(ws(**options)) as listening, await listening.connect() as client:
        await client.send_all(said)
        assert (await read_response(client)).status == status
        assert await read_to_end(client) == b""
        await until(lambda: listening.listener.current_connections == 0)
        assert listening.gate.infos == []
        assert listening.listener.counters.handshake_failures == 1
    assert sum("WebSocket handshake" in record.getMessage() for record in caplog.records) == 1
    assert all(record.exc_info is None for record in caplog.records)


@pytest.mark.parametrize(
    "said",
    [
        request().replace(b"127.0.0.1", b"\xff\xfe"),
        request(protocols="m\xff"),
        request(path="/\xe4"),
        request(connection="\xff"),
        b"GET /" + b"a" * 200_000,
        b"\x00" * 100,
    ],
)
async def test_any_other_nonsense_ends_the_connection_without_a_traceback(
    said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(ws()) as listening, await listening.connect() as client:
        with trio.fail_after(10):
            await client.send_all(said)
            await read_to_end(client)
        await until(lambda: listening.listener.current_connections == 0)
        assert listening.gate.infos == []
        assert listening.listener.counters.handshake_failures == 1
    assert all(record.exc_info is None for record in caplog.records)


@conforms(v311="6.0.0-2", v5="6.0.0-2", edge="transport-2")
async def test_frames_and_packets_need_not_line_up() -> None:
    async with running(ws()) as listening, await listening.connect() as client:
        await upgraded(client)
        # Three fragments with a ping between them, one of them empty, in odd pieces on the wire.
        sent = (
            frame(BINARY, b"one ", fin=False)
            + frame(PING, b"p")
            + frame(CONTINUATION, b"", fin=False)
            + frame(CONTINUATION, b"message")
            + frame(BINARY, b"")
            + frame(BINARY, b"next")
        )
        for start in range(0, len(sent), 7):
            await client.send_all(sent[start : start + 7])
            await trio.testing.wait_all_tasks_blocked()
        assert await read_frame(client) == (PONG, b"p")
        assert await read_frame(client) == (BINARY, b"one message")
        assert await read_frame(client) == (BINARY, b"next")


@pytest.mark.parametrize("size", [125, 126, 65_535, 65_536, 300_000])
async def test_messages_of_every_size(size: int) -> None:
    payload = bytes(index % 251 for index in range(size))
    async with running(ws()) as listening, await listening.connect() as client, trio.open_nursery() as nursery:
        await upgraded(client)
        nursery.start_soon(client.send_all, frame(BINARY, payload))
        assert await read_frame(client) == (BINARY, payload)


@conforms(v311="6.0.0-1", v5="6.0.0-1", edge="transport-2")
async def test_a_text_frame_closes_with_1003() -> None:
    async with running(ws()) as listening, await listening.connect() as client:
        await upgraded(client)
        await client.send_all(frame(TEXT, b"hello"))
        assert await read_close(client) == 1003
        await client.send_all(frame(CLOSE, struct.pack("!H", 1003)))
        assert await read_to_end(client) == b""
        await until(lambda: listening.listener.current_connections == 0)
        assert len(listening.gate.broken) == 1


@conforms(edge="transport-2")
@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (frame(BINARY, b"hello", masked=False), 1002),
        (frame(3, b"reserved"), 1002),
        (frame(CONTINUATION, b"of nothing"), 1002),
        (frame(PING, b"p" * 126), 1002),
        (frame(TEXT, b"\xff"), 1007),
    ],
)
async def test_broken_framing_is_answered_with_why(wrong: bytes, code: int) -> None:
    async with running(ws()) as listening, await listening.connect() as client:
        await upgraded(client)
        await client.send_all(frame(BINARY, b"fine"))
        assert await read_frame(client) == (BINARY, b"fine")
        await client.send_all(wrong)
        assert await read_close(client) == code
        assert await read_to_end(client) == b""
        await until(lambda: listening.listener.current_connections == 0)
        assert len(listening.gate.broken) == 1


@pytest.mark.parametrize("cut", [True, False])
async def test_a_message_above_the_limit_closes_with_1009(cut: bool) -> None:
    async with running(ws(max_frame_size=1000)) as listening, await listening.connect() as client:
        await upgraded(client)
        await client.send_all(frame(BINARY, b"a" * 1000))
        assert await read_frame(client) == (BINARY, b"a" * 1000)
        if cut:
            await client.send_all(frame(BINARY, b"a" * 600, fin=False) + frame(CONTINUATION, b"a" * 600))
        else:
            await client.send_all(frame(BINARY, b"a" * 1001))
        assert await read_close(client) == 1009
        await client.aclose()
        await until(lambda: listening.listener.current_connections == 0)


async def test_the_close_frame_arrives_while_the_peer_is_still_sending() -> None:
    async with running(ws(max_frame_size=1000)) as listening, await listening.connect() as client:
        await upgraded(client)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, frame(BINARY, b"a" * 2_000_000))
            assert await read_close(client) == 1009
        await client.aclose()
        await until(lambda: listening.listener.current_connections == 0)


@conforms(edge="transport-2")
@pytest.mark.parametrize("code", [1000, 1001])
async def test_a_close_frame_is_answered_and_ends_the_stream(code: int) -> None:
    async with running(ws()) as listening, await listening.connect() as client:
        await upgraded(client)
        await client.send_all(frame(CLOSE, struct.pack("!H", code)))
        assert await read_close(client) == code
        assert await read_to_end(client) == b""
        await until(lambda: listening.listener.current_connections == 0)
        assert listening.gate.broken == []


async def test_a_connection_that_drops_is_broken() -> None:
    async with running(ws()) as listening:
        client = await listening.connect()
        await upgraded(client)
        await client.aclose()
        await until(lambda: len(listening.gate.broken) == 1)
        await until(lambda: listening.listener.current_connections == 0)


async def test_a_close_of_ours_is_a_close_frame() -> None:
    async with running(ws()) as listening, await listening.connect() as client:
        await upgraded(client)
        await client.send_all(frame(BINARY, b"bye"))
        assert await read_close(client) == 1000
        await client.send_all(frame(CLOSE, struct.pack("!H", 1000)))
        assert await read_to_end(client) == b""
        await until(lambda: listening.listener.current_connections == 0)


async def test_a_peer_that_does_not_answer_our_close_is_cut(autojump_clock: trio.testing.MockClock) -> None:
    async with running(ws()) as listening, await listening.connect() as client:
        await upgraded(client)
        await client.send_all(frame(BINARY, b"bye"))
        assert await read_close(client) == 1000
        started = trio.current_time()
        assert await read_to_end(client) == b""
        assert 0 < trio.current_time() - started <= 2
        await until(lambda: listening.listener.current_connections == 0)


@pytest.mark.parametrize("said", [b"", b"GET /mqtt HTTP/1.1\r\n", request()[:-1]])
async def test_a_silent_peer_is_cut_and_stalls_nobody(said: bytes, autojump_clock: trio.testing.MockClock) -> None:
    async with running(ws()) as listening, await listening.connect() as silent:
        started = trio.current_time()
        await silent.send_all(said)
        async with await listening.connect() as client:
            await upgraded(client)
        assert await read_to_end(silent) == b""
        assert trio.current_time() - started == pytest.approx(15, abs=2)
        assert listening.listener.counters.handshake_timeouts == 1
        await until(lambda: listening.listener.current_connections == 0)


async def test_a_peer_that_leaves_before_its_request_holds_no_task() -> None:
    async with running(ws()) as listening:
        for said in (b"", request()[:30]):
            client = await listening.connect()
            await client.send_all(said)
            await client.aclose()
        await until(lambda: listening.listener.counters.handshake_failures == 2)
        await until(lambda: listening.listener.current_connections == 0)
        assert listening.listener.counters.handshake_timeouts == 0


async def test_close_ends_handshakes_and_leaves_connections() -> None:
    async with running(ws()) as listening, await listening.connect() as client, await listening.connect() as half:
        await upgraded(client)
        await until(lambda: listening.listener.current_connections == 2)
        await trio.testing.wait_all_tasks_blocked()
        listening.listener.close()
        assert await read_to_end(half) == b""
        await client.send_all(frame(BINARY, b"hello"))
        assert await read_frame(client) == (BINARY, b"hello")


async def test_a_proxy_on_this_machine_says_who_comes() -> None:
    async with running(ws()) as listening, await listening.connect() as client:
        await upgraded(client, request(x_forwarded_for="203.0.113.7", x_forwarded_port="4711"))
        await until(lambda: len(listening.gate.infos) == 1)
        info = listening.gate.infos[0]
        assert (info.peer_host, info.peer_port) == ("203.0.113.7", 4711)


async def test_a_fault_in_serving_ends_that_connection_alone(caplog: pytest.LogCaptureFixture) -> None:
    async with running(ws()) as listening:
        # Of a class that a broken peer would raise too: it is a fault of ours all the same.
        listening.gate.fault = trio.BrokenResourceError("broken session")
        async with await listening.connect() as client:
            await upgraded(client)
            await read_to_end(client)
        listening.gate.fault = None
        async with await listening.connect() as client:
            await upgraded(client)
            await until(lambda: listening.listener.current_connections == 1)
    assert [record.levelno for record in caplog.records if record.exc_info] == [logging.ERROR]


async def test_the_library_s_own_client_over_tls(certificates: Certificates) -> None:
    async with running(listener_config("wss", ssl_options=certificates.options)) as listening:
        url = f"wss://127.0.0.1:{listening.bound.port}/mqtt"
        context = certificates.client_context()
        async with trio_websocket.open_websocket_url(url, context, subprotocols=["mqtt"]) as client:
            assert client.subprotocol == "mqtt"
            await client.send_message(b"a" * 100_000)
            assert await client.get_message() == b"a" * 100_000
            await client.ping()
            await client.aclose()
            assert client.closed is not None
            assert client.closed.code == 1000
        await until(lambda: listening.listener.current_connections == 0)
        assert listening.gate.infos[0].listener == "wss:default"
        assert listening.gate.broken == []


async def test_client_certificates_over_wss(certificates: Certificates) -> None:
    config = listener_config("wss", ssl_options=certificates.with_clients(required=True))
    async with running(config) as listening:
        url = f"wss://127.0.0.1:{listening.bound.port}/mqtt"
        context = certificates.client_context("device-7")
        async with trio_websocket.open_websocket_url(url, context, subprotocols=["mqtt"]) as client:
            await client.send_message(b"hello")
            await client.get_message()
        assert listening.gate.infos[0].certificate_common_name == "device-7"


async def test_a_tls_peer_that_never_sends_a_request_is_cut(
    certificates: Certificates, autojump_clock: trio.testing.MockClock
) -> None:
    async with running(listener_config("wss", ssl_options=certificates.options)) as listening:
        client = trio.SSLStream(await listening.connect(), certificates.client_context(), server_hostname="127.0.0.1")
        await client.do_handshake()
        await read_to_end(client)
        await trio.aclose_forcefully(client)
        assert listening.listener.counters.handshake_timeouts == 1


def test_the_limit_of_a_message() -> None:
    assert WebSocketListener(ws()).message_limit == MESSAGE_LIMIT
    assert WebSocketListener(ws(max_frame_size=1000)).message_limit == 1000


async def test_a_websocket_another_server_has_accepted(nursery: trio.Nursery) -> None:
    gate = EchoGate(nursery)
    ended: list[bool] = []

    async def host_program(asked: trio_websocket.WebSocketRequest) -> None:
        connection = await asked.accept(subprotocol="mqtt")
        info = ConnectionInfo("ws:host", "203.0.113.7", ended=lambda: ended.append(True))
        await serve_websocket(connection, gate, info)

    server: trio_websocket.WebSocketServer = await nursery.start(
        trio_websocket.serve_websocket, host_program, "127.0.0.1", 0, None
    )
    url = f"ws://127.0.0.1:{server.port}/anywhere"
    async with trio_websocket.open_websocket_url(url, subprotocols=["mqtt"]) as client:
        await client.send_message(b"hello")
        assert await client.get_message() == b"hello"
    await until(lambda: bool(ended))
    assert gate.infos[0].listener == "ws:host"
    nursery.cancel_scope.cancel()


good_frames = st.builds(
    frame,
    st.sampled_from([CONTINUATION, TEXT, BINARY, 3, CLOSE, PING, PONG]),
    st.binary(max_size=140),
    fin=st.booleans(),
    masked=st.sampled_from([True, True, True, False]),
)


@settings(max_examples=30, deadline=None)
@given(handshake=st.just(request()) | st.binary(max_size=300), chunks=st.lists(good_frames | st.binary(max_size=20)))
def test_any_bytes_end_without_a_fault_of_ours(handshake: bytes, chunks: list[bytes]) -> None:
    faults: list[logging.LogRecord] = []

    class Faults(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            faults.append(record)

    handler = Faults(logging.ERROR)

    async def check() -> None:
        async with running(ws()) as listening:
            async with await listening.connect() as client, trio.open_nursery() as nursery:
                nursery.start_soon(read_to_end, client)
                with contextlib.suppress(trio.BrokenResourceError):
                    for chunk in (handshake, *chunks):
                        await client.send_all(chunk)
                    await client.send_eof()
            await until(lambda: listening.listener.counters.accepted == 1)
            await until(lambda: listening.listener.current_connections == 0)

    logging.getLogger("trio_broker").addHandler(handler)
    try:
        trio.run(check)
    finally:
        logging.getLogger("trio_broker").removeHandler(handler)
    assert [record.getMessage() for record in faults] == []


async def burst(listening: Running, number: int) -> None:
    async with await listening.connect() as client:
        await upgraded(client)
        await client.send_all(b"".join(frame(BINARY, bytes([number, index])) for index in range(50)))
        for index in range(50):
            assert await read_frame(client) == (BINARY, bytes([number, index]))
        await client.send_all(frame(CLOSE))
        assert await read_exactly(client, 2) == b"\x88\x00"


async def test_many_connections_with_many_messages_each() -> None:
    async with running(ws()) as listening:
        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(burst, listening, number)
        await until(lambda: listening.listener.current_connections == 0)
        assert listening.gate.broken == []
