"""Plain TCP over real sockets: opening, limits, shortage, closing."""

from __future__ import annotations

import errno
import logging
import os
import socket
from itertools import pairwise

import pytest
import trio
from attrs import evolve
from listeners.fake_gate import EchoGate, echoed, listener_config, read_to_end, running, until

from trio_broker.config.listeners import TcpOptions
from trio_broker.errors import ListenerError
from trio_broker.listeners import accepting, addresses, make_listener
from trio_broker.listeners.listener import BoundAddress


async def test_a_connection_is_handed_to_the_gate_with_where_it_came_from() -> None:
    config = listener_config(
        "tcp", mountpoint="house/", enable_authn=False, tcp_options=TcpOptions(high_watermark=4096)
    )
    async with running(config) as tcp, await tcp.connect() as client:
        assert await echoed(client) == b"hello"
        (info,) = tcp.gate.infos
        host, port = client.socket.getsockname()[:2]
        assert (info.listener, info.peer_host, info.peer_port) == ("tcp:default", host, port)
        assert (info.mountpoint, info.enable_authn, info.high_watermark) == ("house/", False, 4096)
        assert info.certificate_common_name is None


async def test_small_packets_leave_at_once_by_what_the_listening_socket_passes_on() -> None:
    options = TcpOptions(nodelay=True, keepalive="60,10,3")
    async with running(listener_config("tcp", tcp_options=options)) as tcp, await tcp.connect():
        await until(lambda: bool(tcp.gate.sockets))
        sock = tcp.gate.sockets[0]
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60


async def test_info_tells_what_rest_shows() -> None:
    async with running(listener_config("tcp", name="inside", max_connections=7)) as tcp:
        info = tcp.listener.info()
        assert (info.identifier, info.kind, info.name) == ("tcp:inside", "tcp", "inside")
        assert info.bind == f"127.0.0.1:{tcp.bound.port}" == str(tcp.bound)
        assert (info.running, info.enable, info.max_connections, info.current_connections) == (True, True, 7, 0)
    assert not tcp.listener.info().running
    assert make_listener(listener_config("tcp")).info().max_connections is None


async def test_connections_are_counted_in_and_out_once() -> None:
    async with running(listener_config("tcp")) as tcp:
        client = await tcp.connect()
        await echoed(client)
        assert tcp.listener.current_connections == 1
        await client.aclose()
        await until(lambda: tcp.listener.current_connections == 0)
        tcp.gate.infos[0].ended()
        assert tcp.listener.current_connections == 0
        assert tcp.listener.counters.accepted == 1


async def test_the_connection_above_the_limit_is_closed_and_the_others_are_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(listener_config("tcp", max_connections=1)) as tcp:
        async with await tcp.connect() as first:
            await echoed(first)
            for _ in range(3):
                async with await tcp.connect() as above:
                    assert await read_to_end(above) == b""
            assert await echoed(first, b"still here") == b"still here"
            assert tcp.listener.current_connections == 1
            assert tcp.listener.counters.refused == 3
        await until(lambda: tcp.listener.current_connections == 0)
        async with await tcp.connect() as later:
            assert await echoed(later) == b"hello"
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1  # three within a second
    assert "tcp:default" in warnings[0].getMessage()
    assert "max_connections" in warnings[0].getMessage()


async def test_access_rules_keep_addresses_out() -> None:
    rules = ("deny 127.0.0.1", "allow all")
    async with running(listener_config("tcp", access_rules=rules)) as tcp, await tcp.connect() as client:
        assert await read_to_end(client) == b""
        assert (tcp.listener.counters.refused, tcp.gate.infos) == (1, [])


async def test_connections_above_the_rate_wait_in_the_backlog(autojump_clock: trio.testing.MockClock) -> None:
    async with running(listener_config("tcp", max_conn_rate=1.0)) as tcp:
        started = trio.current_time()
        clients = [await tcp.connect() for _ in range(4)]
        for client in clients:
            assert await echoed(client) == b"hello"
            await client.aclose()
        # One at once, one as the allowance of the second that was idle, then one a second.
        assert trio.current_time() - started == pytest.approx(2)
        assert tcp.listener.counters.accepted == 4


async def test_two_listeners_of_a_kind() -> None:
    async with running(listener_config("tcp", name="a")) as a, running(listener_config("tcp", name="b")) as b:
        async with await a.connect() as one, await b.connect() as other:
            await echoed(one)
            await echoed(other)
        assert [info.listener for info in a.gate.infos + b.gate.infos] == ["tcp:a", "tcp:b"]


async def test_a_name_with_several_addresses_listens_on_all_of_them_at_one_port() -> None:
    async with running(listener_config("tcp", bind="localhost:0")) as tcp:
        assert tcp.bound.port
        async with await trio.open_tcp_stream("127.0.0.1", tcp.bound.port) as client:
            assert await echoed(client) == b"hello"


async def test_ipv4_peers_of_an_ipv6_socket_have_ipv4_addresses() -> None:
    async with running(listener_config("tcp", bind="[::]:0")) as tcp:
        assert tcp.bound.port
        async with await trio.open_tcp_stream("127.0.0.1", tcp.bound.port) as client:
            await echoed(client)
            assert tcp.gate.infos[0].peer_host == "127.0.0.1"
        assert str(tcp.bound) == f"[::]:{tcp.bound.port}"


async def test_a_taken_port_is_named() -> None:
    async with running(listener_config("tcp")) as tcp, trio.open_nursery() as nursery:
        second = make_listener(listener_config("tcp", name="second", bind=str(tcp.bound)))
        with pytest.raises(ListenerError) as failed:
            await second.run(EchoGate(nursery))
        assert str(failed.value) == (
            f"listener tcp:second: cannot listen on {tcp.bound}: "
            "the address is taken by another program or another listener"
        )
        assert not second.running


@pytest.mark.parametrize(
    ("bind", "words"),
    [
        ("", "bind must be host:port"),
        ("/tmp/a.sock", "bind must be host:port"),
        ("192.0.2.1:0", "this machine has no such address"),
        ("no-such-host.invalid:1883", "unknown host 'no-such-host.invalid'"),
    ],
)
async def test_an_address_that_cannot_be_bound_is_named(
    bind: str, words: str, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "invalid" in bind:

        async def unknown(*_: object, **__: object) -> object:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(trio.socket, "getaddrinfo", unknown)
    with pytest.raises(ListenerError) as failed:
        await make_listener(listener_config("tcp", bind=bind)).run(EchoGate(nursery))
    message = str(failed.value)
    assert words in message
    assert message.startswith("listener tcp:default: ")
    assert "\n" not in message


def test_a_port_that_needs_rights_says_so() -> None:
    assert "CAP_NET_BIND_SERVICE" in addresses.reason_of(PermissionError(errno.EACCES, "Permission denied"))
    assert addresses.reason_of(OSError(errno.ENOTSUP, "")) == os.strerror(errno.ENOTSUP)


async def test_wrong_access_rules_are_named() -> None:
    with pytest.raises(ListenerError, match="tcp:default: access_rules: 'deny nowhere'"):
        make_listener(evolve(listener_config("tcp"), access_rules=("deny nowhere",)))


async def test_close_frees_the_port_at_once_and_leaves_connections_alone() -> None:
    async with running(listener_config("tcp")) as tcp, await tcp.connect() as client:
        await echoed(client)
        tcp.listener.close()
        assert not tcp.listener.running
        with pytest.raises(OSError, match="connect"):
            await tcp.connect()
        async with running(listener_config("tcp", name="next", bind=str(tcp.bound))) as following:
            assert following.bound == tcp.bound
            assert await echoed(client, b"still served") == b"still served"
        tcp.listener.close()  # again is allowed
        assert tcp.listener.current_connections == 1


async def test_run_returns_after_close_and_may_be_called_again(nursery: trio.Nursery) -> None:
    gate = EchoGate(nursery)
    listener = make_listener(listener_config("tcp"))
    for _ in range(2):
        async with trio.open_nursery() as own:
            bound: BoundAddress = await own.start(listener.run, gate)
            with pytest.raises(ListenerError, match="already running"):
                await listener.run(gate)
            listener.close()
        assert not listener.running
        async with running(listener_config("tcp", bind=str(bound))):
            pass


async def test_cancelling_frees_the_port() -> None:
    async with running(listener_config("tcp")) as tcp:
        pass
    with pytest.raises(OSError, match="connect"):
        await tcp.connect()


@pytest.mark.parametrize("shortage", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_no_file_descriptors_left_means_waiting_not_dying(
    autojump_clock: trio.testing.MockClock,
    shortage: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures = 30
    real_accept = accepting.accept
    times: list[float] = []

    def accept(listening: socket.socket) -> tuple[socket.socket, tuple[str, int]]:
        if len(times) < failures:
            times.append(trio.current_time())
            raise OSError(shortage, os.strerror(shortage))
        return real_accept(listening)

    monkeypatch.setattr(accepting, "accept", accept)
    async with running(listener_config("tcp")) as tcp, await tcp.connect() as client:
        assert await echoed(client) == b"hello"
        assert tcp.listener.counters.accept_errors == failures
    assert [round(later - earlier, 6) for earlier, later in pairwise(times)] == [0.1] * 29
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) in (3, 4)  # three seconds, one line a second
    assert os.strerror(shortage) in errors[0]
    assert errors[1].endswith("like it)")


async def test_a_connection_that_died_in_the_queue_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    real_accept = accepting.accept
    fail = [errno.ECONNABORTED, errno.EPROTO]

    def accept(listening: socket.socket) -> tuple[socket.socket, tuple[str, int]]:
        if fail:
            raise OSError(fail.pop(), "gone")
        return real_accept(listening)

    monkeypatch.setattr(accepting, "accept", accept)
    async with running(listener_config("tcp")) as tcp, await tcp.connect() as client:
        assert await echoed(client) == b"hello"
        assert not fail


async def test_an_error_nobody_expects_is_not_swallowed(monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery) -> None:
    def accept(listening: socket.socket) -> tuple[socket.socket, tuple[str, int]]:
        raise OSError(errno.EINVAL, "not a listening socket")

    monkeypatch.setattr(accepting, "accept", accept)
    listener = make_listener(listener_config("tcp"))

    async def connect(bound: BoundAddress) -> None:
        assert bound.port
        async with await trio.open_tcp_stream(bound.host, bound.port):
            await trio.sleep_forever()

    with pytest.RaisesGroup(OSError, flatten_subgroups=True):
        async with trio.open_nursery() as own:
            bound: BoundAddress = await own.start(listener.run, EchoGate(nursery))
            own.start_soon(connect, bound)
    assert not listener.running


async def test_many_connections_at_once_are_all_served() -> None:
    async with running(listener_config("tcp")) as tcp, trio.open_nursery() as clients:

        async def one() -> None:
            async with await tcp.connect() as client:
                assert await echoed(client) == b"hello"

        for _ in range(accepting.BURST * 3):
            clients.start_soon(one)
    assert tcp.listener.counters.accepted == accepting.BURST * 3
