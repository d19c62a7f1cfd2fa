"""Unix sockets: the file, its rights, and whose it is."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
import trio
from listeners.fake_gate import EchoGate, echoed, listener_config, running

from trio_broker.errors import ListenerError
from trio_broker.listeners import make_listener
from trio_broker.listeners.unix import remove_stale


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "mqtt.sock")


async def test_clients_on_the_machine_connect(path: str) -> None:
    async with running(listener_config("unix", bind=path)) as unix:
        assert str(unix.bound) == path
        assert unix.bound.port is None
        async with await trio.open_unix_socket(path) as client:
            assert await echoed(client) == b"hello"
            (info,) = unix.gate.infos
            assert (info.listener, info.peer_host, info.peer_port) == ("unix:default", "127.0.0.1", 0)


async def test_only_owner_and_group_may_connect(path: str) -> None:
    async with running(listener_config("unix", bind=path)):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660


async def test_the_file_is_removed_at_close(path: str) -> None:
    async with running(listener_config("unix", bind=path)) as unix:
        unix.listener.close()
        assert not os.path.lexists(path)
        async with running(listener_config("unix", bind=path)):
            assert os.path.exists(path)
    assert not os.path.lexists(path)


async def test_somebody_elses_file_is_not_removed_at_close(path: str) -> None:
    async with running(listener_config("unix", bind=path)):
        os.rename(path, path + ".old")  # keeps the inode from being used again
        Path(path).write_text("mine")
    assert Path(path).read_text() == "mine"


async def test_a_stale_socket_file_is_replaced(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    assert os.path.exists(path)
    async with running(listener_config("unix", bind=path)), await trio.open_unix_socket(path) as client:
        assert await echoed(client) == b"hello"


@pytest.mark.parametrize("backlog", [0, 5])
async def test_a_live_socket_is_refused_even_when_its_backlog_is_full(
    path: str, backlog: int, nursery: trio.Nursery
) -> None:
    with socket.socket(socket.AF_UNIX) as alive, socket.socket(socket.AF_UNIX) as waiting:
        alive.bind(path)
        alive.listen(backlog)
        waiting.connect(path)
        with pytest.raises(ListenerError) as failed:
            await make_listener(listener_config("unix", bind=path)).run(EchoGate(nursery))
        assert str(failed.value) == (
            f"listener unix:default: cannot listen on {path}: "
            "the address is taken by another program or another listener"
        )
    assert os.path.exists(path)


async def test_an_ordinary_file_is_never_touched(path: str, nursery: trio.Nursery) -> None:
    Path(path).write_text("important")
    with pytest.raises(ListenerError, match="a file of that name that is no socket"):
        await make_listener(listener_config("unix", bind=path)).run(EchoGate(nursery))
    assert Path(path).read_text() == "important"


@pytest.mark.parametrize(
    ("bind", "words"),
    [
        ("127.0.0.1:1883", "bind must be a path with a slash"),
        ("/no/such/folder/mqtt.sock", "No such file or directory"),
        ("/tmp/" + "x" * 200, "AF_UNIX path too long"),
    ],
)
async def test_a_path_that_cannot_be_used_is_named(bind: str, words: str, nursery: trio.Nursery) -> None:
    with pytest.raises(ListenerError, match=words) as failed:
        await make_listener(listener_config("unix", bind=bind)).run(EchoGate(nursery))
    assert "unix:default" in str(failed.value)


def test_nothing_to_remove_is_fine(path: str) -> None:
    remove_stale(path)
    assert not os.path.lexists(path)


async def test_the_limit_holds_here_too(path: str) -> None:
    async with running(listener_config("unix", bind=path, max_connections=1)) as unix:
        async with await trio.open_unix_socket(path) as first, await trio.open_unix_socket(path) as above:
            assert await echoed(first) == b"hello"
            assert await above.receive_some() == b""
        assert unix.listener.counters.refused == 1
