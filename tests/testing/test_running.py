"""`open_broker`: a broker in this Trio program, on free ports, gone when the block ends."""

from __future__ import annotations

import pytest
import trio

from trio_broker.config import Config, ListenerConfig
from trio_broker.errors import ConfigError, ListenerError
from trio_broker.testing import open_broker, open_client
from trio_broker.testing.running import make_config


def test_the_default_is_one_tcp_listener_and_nothing_on_disk() -> None:
    config = make_config()
    assert [(kind, list(named)) for kind, named in config.listeners.items() if named] == [("tcp", ["default"])]
    assert config.listeners["tcp"]["default"].bind == "127.0.0.1:0"
    assert config.http is None
    assert config.in_memory


def test_tables_go_over_the_defaults() -> None:
    config = make_config(None, {"mqtt": {"max_inflight": 4}, "listeners": {"tcp": {"default": {"max_connections": 2}}}})
    assert config.mqtt.max_inflight == 4
    listener = config.listeners["tcp"]["default"]
    assert (listener.bind, listener.max_connections) == ("127.0.0.1:0", 2)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [({"mqtt": {"max_infight": 4}}, "mqtt.max_inflight"), ({"mqtt": {"max_inflight": "many"}}, "mqtt.max_inflight")],
)
def test_wrong_keys_and_values_are_named(overrides: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        make_config(None, overrides)


async def test_clients_over_tcp_and_in_memory() -> None:
    async with open_broker() as running:
        assert running.url == f"mqtt://{running.host}:{running.port}"
        assert running.listeners["tcp:default"][:2] == (running.host, running.port)
        async with running.client("near") as near, open_client(running.url, client_id="far") as far:
            await near.subscribe("a", qos=1)
            await far.publish("a", b"over the air", qos=1)
            assert (await near.receive()).payload == b"over the air"


async def test_the_port_is_free_afterwards() -> None:
    async with open_broker() as running:
        port = running.port
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream("127.0.0.1", port)
    async with open_broker(listeners={"tcp": {"default": {"bind": f"127.0.0.1:{port}"}}}) as running:
        assert running.port == port


async def test_an_error_in_the_block_comes_out_bare() -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_broker():
            raise ZeroDivisionError


async def test_a_taken_port_is_a_listener_error() -> None:
    async with open_broker() as running:
        taken = {"tcp": {"default": {"bind": f"127.0.0.1:{running.port}"}}}
        with pytest.raises(ListenerError, match="tcp:default"):
            async with open_broker(listeners=taken):
                pass


async def test_a_broker_without_tcp_has_no_port() -> None:
    async with open_broker(Config()) as running:
        with pytest.raises(LookupError, match="no TCP listener"):
            assert running.port
        async with running.client() as client:
            assert client.client_id


async def test_a_config_of_ones_own() -> None:
    config = Config(listeners={"tcp": {"mine": ListenerConfig(bind="127.0.0.1:0")}})
    async with open_broker(config) as running:
        assert list(running.listeners) == ["tcp:mine"]
        assert running.port > 0
