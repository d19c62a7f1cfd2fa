"""Listeners behind a proxy that sends the PROXY header."""

from __future__ import annotations

import contextlib
import socket
import struct
from ipaddress import ip_address

import pytest
import trio
from api.doors import address_of
from api.live import running as live_running
from listeners.fake_gate import echoed, listener_config, read_exactly, read_to_end, running, until

from trio_broker.actors.gate import ConnectionInfo
from trio_broker.config import Config, ListenerConfig, MqttConfig
from trio_broker.listeners import make_listener
from trio_broker.listeners.proxied import believable, meet_proxy
from trio_broker.testing import open_client

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


# -- who may send one, and what it may say


async def test_a_stranger_is_refused_before_its_header_is_read() -> None:
    """`access_rules` are about the one who connects, which is the proxy; never about whom it names."""
    config = listener_config("tcp", proxy_protocol=True, access_rules=("allow 192.0.2.7", "deny all"))
    async with running(config) as tcp, await tcp.connect() as stranger:
        with contextlib.suppress(trio.BrokenResourceError):
            await stranger.send_all(b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 1883\r\n")
        assert await read_to_end(stranger) == b""
        assert tcp.listener.counters.refused == 1
        assert tcp.gate.infos == []


async def test_the_proxy_is_let_in_whomever_it_names() -> None:
    config = listener_config("tcp", proxy_protocol=True, access_rules=("allow 127.0.0.1", "deny all"))
    async with running(config) as tcp, await tcp.connect() as client:
        await client.send_all(HEADER)
        assert await echoed(client) == b"hello"
        assert tcp.gate.infos[0].peer_host == "203.0.113.7"


@pytest.mark.parametrize("header", [HEADER, b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"])
@pytest.mark.parametrize("kind", ["tcp", "ws"])
async def test_a_listener_that_is_not_told_of_a_proxy_believes_no_header(kind: str, header: bytes) -> None:
    async with running(listener_config(kind)) as listening, await listening.connect() as client:
        await client.send_all(header)
        if kind == "tcp":
            assert await read_exactly(client, len(header)) == header  # for the one behind it is no MQTT
            assert listening.gate.infos[0].peer_host == "127.0.0.1"
        else:
            await client.send_eof()
            assert b"HTTP/1.1 101" not in await read_to_end(client)
            assert listening.gate.infos == []


LOCAL = ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"]


@pytest.mark.parametrize("said", LOCAL)
async def test_a_proxy_elsewhere_makes_nobody_local(said: str) -> None:
    """Who is local may need no password."""
    listener = make_listener(listener_config("tcp", proxy_protocol=True))
    listener._open_now = True
    family = "TCP6" if ":" in said else "TCP4"
    for proxy, believed in (("192.0.2.7", "192.0.2.7"), ("127.0.0.1", str(ip_address(said)))):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.sendall(f"PROXY {family} {said} {said} 40000 1883\r\n".encode())
            info = ConnectionInfo("tcp:default", proxy, 4711)
            assert await meet_proxy(listener, ours, info)
            assert info.peer_host == believed


@pytest.mark.parametrize(
    ("said", "proxy", "expected"),
    [
        ("203.0.113.7", "192.0.2.7", True),
        ("203.0.113.7", "127.0.0.1", True),
        ("127.0.0.1", "192.0.2.7", False),
        ("::1", "2001:db8::1", False),
        ("::ffff:127.0.0.1", "192.0.2.7", False),
        ("127.0.0.1", "::1", True),
    ],
)
def test_what_is_believed(said: str, proxy: str, expected: bool) -> None:
    assert believable(said, proxy) is expected


def version_2_with_name(name: bytes) -> bytes:
    inner = b"\x22" + struct.pack("!H", len(name)) + name
    tls = b"\x01" + bytes(4) + inner
    body = bytes([203, 0, 113, 7, 10, 0, 0, 1]) + struct.pack("!HH", 40000, 1883)
    body += b"\x20" + struct.pack("!H", len(tls)) + tls
    return b"\r\n\r\n\x00\r\nQUIT\n\x21\x11" + struct.pack("!H", len(body)) + body


@pytest.mark.parametrize("name", [b"a\r\nb", b"a\x00", b"\x7f", "a\x85".encode()])
async def test_a_name_with_control_characters_is_refused(name: bytes) -> None:
    async with running(listener_config("tcp", proxy_protocol=True)) as tcp:
        async with await tcp.connect() as client:
            await client.send_all(version_2_with_name("d\u00fcsen-7".encode()))
            assert await echoed(client) == b"hello"
            assert tcp.gate.infos[0].certificate_common_name == "d\u00fcsen-7"
        async with await tcp.connect() as client:
            await client.send_all(version_2_with_name(name))
            assert await read_to_end(client) == b""
        assert len(tcp.gate.infos) == 1
        assert tcp.listener.counters.handshake_failures == 1


@pytest.mark.parametrize(
    ("bind", "rules", "warned"),
    [
        ("0.0.0.0:0", ("allow all",), True),
        ("0.0.0.0:0", ("allow 192.0.2.7", "deny all"), False),
        ("127.0.0.1:0", ("allow all",), False),
    ],
)
async def test_a_port_where_anybody_may_say_who_it_is_is_told(
    bind: str, rules: tuple[str, ...], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(listener_config("tcp", bind=bind, proxy_protocol=True, access_rules=rules)) as tcp:
        assert tcp.listener.running
    assert ("let only the proxy in (access_rules)" in caplog.text) is warned


async def test_bans_are_about_the_one_that_the_proxy_names() -> None:
    listener = ListenerConfig(bind="127.0.0.1:0", proxy_protocol=True)
    allowed = MqttConfig(allow_anonymous=True)
    config = Config(listeners={"tcp": {"default": listener}}, mqtt=allowed)
    async with live_running(config) as live:
        ban = {"as": "peerhost", "who": "203.0.113.7"}
        assert (await live.api.post("/banned", json=ban)).status_code == 200
        for source, code in (("203.0.113.7", 0x8A), ("203.0.113.8", 0)):
            transport = await trio.open_tcp_stream(*await address_of(live))
            await transport.send_all(f"PROXY TCP4 {source} 10.0.0.1 40000 1883\r\n".encode())
            async with open_client(transport, client_id="c1") as client:
                assert client.connack.reason_code == code
