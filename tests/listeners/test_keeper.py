"""The keeper: a change is carried out whole, or the listeners are as they were."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field
from listeners.fake_gate import EchoGate, echoed, listener_config, until

from trio_broker.config import Config, ListenerConfig
from trio_broker.config.load import DELETED
from trio_broker.errors import ActorGone, ConfigError, ListenerError
from trio_broker.listeners import addresses
from trio_broker.listeners.advice import with_advice
from trio_broker.listeners.keeper import Keeper
from trio_broker.listeners.listener import Listener
from trio_broker.listeners.memory import MemoryListener
from trio_broker.listeners.tcp import TcpListener


@define(eq=False)
class Gate(EchoGate):
    """Remembers whose connections were to be dropped."""

    dropped: list[str] = field(factory=list)

    def drop_listener(self, listener: str) -> None:
        self.dropped.append(listener)


def config_of(*listeners: ListenerConfig) -> Config:
    tables: dict[str, dict[str, ListenerConfig]] = {}
    for listener in listeners:
        tables.setdefault(listener.kind, {})[listener.name] = listener
    return Config(listeners=tables)


@asynccontextmanager
async def keeping(*listeners: ListenerConfig) -> AsyncIterator[tuple[Keeper, Gate]]:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            gate = Gate(nursery)
            keeper = Keeper(gate)
            await nursery.start(keeper.run, config_of(*listeners), {})
            yield keeper, gate
            nursery.cancel_scope.cancel()


def listener_of(keeper: Keeper, identifier: str) -> Listener:
    return keeper._running[identifier]


async def connected(keeper: Keeper, identifier: str) -> trio.SocketStream:
    bound = listener_of(keeper, identifier).bound
    assert bound is not None
    assert bound.port is not None
    return await trio.open_tcp_stream(bound.host, bound.port)


async def test_one_that_cannot_be_opened_takes_the_others_of_the_change_with_it() -> None:
    async with keeping(listener_config("tcp", name="a", bind="127.0.0.1:0")) as (keeper, gate):
        before = keeper.infos()
        taken = before[0].bind
        # `a` is to go, so its address is free; but two of the new ones want it.
        wanting = [listener_config("ws", name=name, bind=taken) for name in ("c", "d")]
        with pytest.raises(ListenerError, match="ws:d: cannot listen on"):
            await keeper.changed(Config(), config_of(listener_config("tcp", name="b"), *wanting))
        assert keeper.infos() == before
        assert gate.dropped == []
        async with await connected(keeper, "tcp:a") as client:
            assert await echoed(client) == b"hello"


async def test_an_address_goes_from_one_listener_to_another_in_one_change() -> None:
    async with keeping(listener_config("tcp", name="a")) as (keeper, gate):
        taken = keeper.infos()[0].bind
        await keeper.changed(Config(), config_of(listener_config("tcp", name="b", bind=taken)))
        assert [(info.identifier, info.bind) for info in keeper.infos()] == [("tcp:b", taken)]
        assert gate.dropped == ["tcp:a"]
        both = config_of(*(listener_config("tcp", name=name, bind=taken) for name in ("b", "c")))
        with pytest.raises(ListenerError, match="taken"):
            await keeper.changed(Config(), both)
        assert [info.running for info in keeper.infos()] == [True]


async def test_a_unix_socket_is_opened_again_at_its_path(tmp_path: Path) -> None:
    path = str(tmp_path / "mqtt.sock")
    async with keeping(listener_config("unix", bind=path)) as (keeper, gate):
        for number in range(1, 3):
            await keeper.restart("unix:default")
            assert gate.dropped == ["unix:default"] * number
            async with await trio.open_unix_socket(path) as client:
                assert await echoed(client) == b"hello"
        await keeper.changed(Config(), Config())
        assert not Path(path).exists()


async def test_who_came_to_a_memory_listener_that_is_stopped_at_once_is_not_served() -> None:
    async with keeping(listener_config("memory")) as (keeper, gate):
        memory = listener_of(keeper, "memory:default")
        assert isinstance(memory, MemoryListener)
        await until(lambda: memory._nursery is not None)
        client = memory.connect()
        memory.drop(gate)
        assert await client.receive_some() == b""
        assert gate.infos == []
        assert memory.current_connections == 0


async def test_who_has_shown_its_proxy_header_too_late_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    async with keeping(listener_config("tcp", proxy_protocol=True)) as (keeper, gate):
        tcp = listener_of(keeper, "tcp:default")
        assert isinstance(tcp, TcpListener)

        async def met(*_: Any) -> bool:
            tcp.drop(gate)
            return True

        monkeypatch.setattr("trio_broker.listeners.tcp.meet_proxy", met)
        async with await connected(keeper, "tcp:default") as client:
            assert await client.receive_some() == b""
        assert gate.infos == []
        assert tcp.current_connections == 0


async def test_a_listener_that_was_closed_before_it_served_serves_nobody(nursery: trio.Nursery) -> None:
    listener = TcpListener(listener_config("tcp"))
    await listener.open()
    assert listener.running
    listener.close()
    await listener.serve(EchoGate(nursery))
    assert not listener.running


async def test_what_is_not_there_or_not_enabled_is_not_started() -> None:
    async with keeping(listener_config("tcp", enable=False)) as (keeper, gate):
        for identifier in ("tcp:default", "tcp:other"):
            await keeper.start(identifier)
            await keeper.restart(identifier)
        assert [(info.running, info.current_connections) for info in keeper.infos()] == [(False, 0)]
        assert gate.dropped == []


async def test_a_keeper_that_ends_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with keeping(listener_config("tcp")) as (keeper, _):
        more = config_of(listener_config("tcp"), listener_config("tcp", name="more"))
        opened = TcpListener.open

        async def slow(self: TcpListener, again: Any = None) -> Any:
            keeper.close()
            return await opened(self, again)

        with monkeypatch.context() as closing:
            closing.setattr(TcpListener, "open", slow)
            with pytest.raises(ActorGone, match="ending"):
                await keeper.changed(Config(), more)
        with pytest.raises(ActorGone, match="ending"):
            await keeper.changed(Config(), more)
        assert [info.running for info in keeper.infos()] == [False]


async def test_what_was_closed_for_a_change_stays_closed_when_the_keeper_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with keeping(listener_config("tcp")) as (keeper, _):
        opened = TcpListener.open
        tries: list[object] = []

        async def failing(self: TcpListener, again: Any = None) -> Any:
            tries.append(again)
            if len(tries) == 1:
                keeper.close()
                raise ListenerError("no")
            return await opened(self, again)

        monkeypatch.setattr(TcpListener, "open", failing)
        with pytest.raises(ListenerError, match="no"):
            await keeper.restart("tcp:default")
        assert [info.running for info in keeper.infos()] == [False]
        assert (len(tries), caplog.records) == (2, [])


async def test_a_host_that_is_not_found_in_time(monkeypatch: pytest.MonkeyPatch, autojump_clock: object) -> None:
    async def never(*_: object, **__: object) -> object:
        await trio.sleep_forever()

    monkeypatch.setattr(trio.socket, "getaddrinfo", never)
    with pytest.raises(ListenerError, match=r"'slow\.example' was not found in 10 s"):
        await TcpListener(listener_config("tcp", bind="slow.example:1883")).open()
    assert addresses.LOOKUP_TIMEOUT == 10


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (ListenerError("listener tcp:a: cannot listen on x"), "tcp.a"),
        (ConfigError("listeners.tcp.a.bind", "is needed"), "tcp.a"),
        (ListenerError("listener tcp:ab: cannot listen on x"), None),
        (ConfigError("listeners.tcp.ab.bind", "is needed"), None),
        (ConfigError("listeners.tcp.gone.bind", "is needed"), None),
        (ConfigError("mqtt.max_inflight", "is wrong"), None),
    ],
)
def test_only_what_is_stored_is_said_to_be_from_rest(error: ListenerError | ConfigError, named: str | None) -> None:
    stored = {"listeners": {"tcp": {"a": {"bind": "x"}, "gone": DELETED}, "ws": "nothing"}, "mqtt": {}}
    told = with_advice(error, stored)
    assert type(told) is type(error)
    assert (f"--set listeners.{named}.enable=false" in str(told)) is (named is not None)
    assert str(told).startswith(str(error))
    assert ("--ignore-stored" in str(told)) is (named is not None)
    assert with_advice(error, {}) is error
