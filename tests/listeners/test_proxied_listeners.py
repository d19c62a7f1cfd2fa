"""Listeners behind a proxy that sends the PROXY header."""

from __future__ import annotations

import pytest
import trio
from listeners.fake_gate import echoed, listener_config, read_exactly, read_to_end, running, until

HEADER = b"PROXY TCP4 203.0.113.7 10.0.0.1 40000 1883\r\n"


async def test_the_address_in_the_header_counts_and_no_byte_behind_it_is_lost() -> None:
    async with running(listener_config("tcp", proxy_protocol=True)) as tcp, await tcp.connect() as client:
        await client.send_all(HEADER + b"first bytes")
        assert await read_exactly(client, 11) == b"first bytes"
        assert (tcp.gate.infos[0].peer_host, tcp.gate.infos[0].peer_port) == ("203.0.113.7", 40000)


async def test_a_header_in_pieces() -> None:
    async with running(listener_config("tcp", proxy_protocol=True)) as tcp, await tcp.connect() as client:
        for position in range(len(HEADER)):
            assert tcp.gate.infos == []
            await client.send_all(HEADER[position : position + 1])
            await trio.testing.wait_all_tasks_blocked()
        assert await echoed(client) == b"hello"


async def test_a_proxy_that_speaks_for_itself_keeps_its_address() -> None:
    async with running(listener_config("tcp", proxy_protocol=True)) as tcp, await tcp.connect() as client:
        await client.send_all(b"PROXY UNKNOWN\r\n")
        assert await echoed(client) == b"hello"
        assert tcp.gate.infos[0].peer_host == "127.0.0.1"


async def test_a_client_without_header_is_cut_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with running(listener_config("tcp", proxy_protocol=True)) as tcp, await tcp.connect() as client:
        await client.send_all(b"\x10\x0c\x00\x04MQTT")
        assert await read_to_end(client) == b""
        assert tcp.listener.counters.handshake_failures == 1
        assert tcp.listener.current_connections == 0
        assert tcp.gate.infos == []
    assert sum("PROXY header" in record.getMessage() for record in caplog.records) == 1


async def test_a_peer_that_leaves_before_its_header_is_counted_out() -> None:
    async with running(listener_config("tcp", proxy_protocol=True)) as tcp:
        client = await tcp.connect()
        await client.send_all(b"PROXY ")
        await client.aclose()
        await until(lambda: tcp.listener.counters.handshake_failures == 1)
        assert tcp.listener.current_connections == 0


@pytest.mark.parametrize("said", [b"", b"PROXY TCP4"])
@pytest.mark.parametrize("kind", ["tcp", "ws"])
async def test_a_silent_peer_is_cut(autojump_clock: trio.testing.MockClock, kind: str, said: bytes) -> None:
    config = listener_config(kind, proxy_protocol=True, proxy_protocol_timeout=3.0)
    async with running(config) as listening, await listening.connect() as client:
        started = trio.current_time()
        await client.send_all(said)
        assert await read_to_end(client) == b""
        assert trio.current_time() - started == pytest.approx(3)
        assert listening.listener.counters.handshake_timeouts == 1
        assert listening.listener.current_connections == 0


async def test_closing_the_listener_ends_those_who_have_not_said_who_they_are() -> None:
    async with running(listener_config("tcp", proxy_protocol=True)) as tcp, await tcp.connect() as client:
        await until(lambda: tcp.listener.current_connections == 1)
        await trio.testing.wait_all_tasks_blocked()
        tcp.listener.close()
        assert await read_to_end(client) == b""
        assert tcp.listener.counters.handshake_timeouts == 0
