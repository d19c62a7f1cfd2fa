from __future__ import annotations

import math

import attrs
import pytest

from cases.zone_defaults import ZONE_DEFAULTS
from trio_broker.config import (
    ApiKeyConfig,
    Bind,
    Config,
    DashboardConfig,
    DashboardListeners,
    HttpConfig,
    ListenerConfig,
    MqttConfig,
    NodeConfig,
    SslOptions,
    StoreConfig,
    check_files,
    listener_configs,
    to_dict,
)
from trio_broker.config.setting import Setting, entries
from trio_broker.config.tree import keys, overlay
from trio_broker.errors import ConfigError


def test_the_zone_settings_are_those_of_emqx() -> None:
    shown = to_dict(MqttConfig())
    assert shown.pop("allow_anonymous") == "loopback"
    # EMQX's 300 s would let a QoS 2 message through twice [MQTT-4.3.3-10].
    assert shown == ZONE_DEFAULTS | {"await_rel_timeout": "infinity"}
    assert list(shown) == list(ZONE_DEFAULTS)


def test_units_inside() -> None:
    mqtt = MqttConfig()
    assert mqtt.idle_timeout == 15.0
    assert mqtt.max_packet_size == 1048576
    assert mqtt.session_expiry_interval == 7200.0
    assert mqtt.message_expiry_interval == math.inf
    assert mqtt.max_subscriptions == math.inf
    assert mqtt.server_keepalive is None
    assert mqtt.allow_anonymous is None
    assert mqtt.mqueue_priorities == {}


def test_a_config_made_in_code_opens_nothing_and_keeps_nothing() -> None:
    config = Config()
    assert listener_configs(config) == []
    assert config.http is None
    assert config.in_memory
    assert config.node.data_dir == ""


def test_what_the_command_starts_with() -> None:
    config = Config.service()
    assert [(listener.identifier, listener.bind) for listener in listener_configs(config)] == [
        ("tcp:default", "127.0.0.1:1883"),
        ("ws:default", "127.0.0.1:8083"),
    ]
    assert config.http is not None
    assert config.http.address == Bind("127.0.0.1", 18083)
    assert config.node.data_dir == "data"
    assert not config.in_memory
    assert all(listener.address.is_loopback for listener in listener_configs(config))


def test_rest_that_is_switched_off() -> None:
    http = HttpConfig(bind="127.0.0.1:0", enable=False)
    assert Config(dashboard=DashboardConfig(listeners=DashboardListeners(http=http))).http is None


@pytest.mark.parametrize(
    ("data_dir", "durability", "in_memory"), [("", "full", True), ("data", "memory", True), ("data", "relaxed", False)]
)
def test_what_is_kept_on_disk(data_dir: str, durability: str, in_memory: bool) -> None:
    config = Config(node=NodeConfig(data_dir=data_dir), store=StoreConfig(durability=durability))
    assert config.in_memory is in_memory


def test_listeners_know_their_kind_and_name_and_come_in_the_order_of_kinds() -> None:
    listener = ListenerConfig(bind="127.0.0.1:0")
    config = Config(
        listeners={
            "memory": {"inside": ListenerConfig()},
            "ws": {"default": listener},
            "tcp": {"a": listener, "b": attrs.evolve(listener, enable=False)},
        }
    )
    assert [found.identifier for found in listener_configs(config)] == ["tcp:a", "tcp:b", "ws:default", "memory:inside"]


@pytest.mark.parametrize(
    ("key", "made"),
    [
        ("max_inflight", lambda: MqttConfig(max_inflight=0)),
        ("idle_timeout", lambda: MqttConfig(idle_timeout=-1.0)),
        ("idle_timeout", lambda: MqttConfig(idle_timeout=math.nan)),
        ("bind", lambda: ListenerConfig(bind="nowhere")),
        ("listeners.quic", lambda: Config(listeners={"quic": {}})),
        ("name", lambda: NodeConfig(name="x")),
    ],
)
def test_a_wrong_value_in_code_is_a_config_error(key: str, made: type[Config]) -> None:
    with pytest.raises(ConfigError) as caught:
        made()
    assert caught.value.key == key


def test_numbers_in_code_that_mean_no_limit() -> None:
    assert MqttConfig(max_mqueue_len=0).max_mqueue_len == math.inf
    assert MqttConfig(max_awaiting_rel=math.inf).max_awaiting_rel == math.inf
    assert MqttConfig(retry_interval=5).retry_interval == 5.0


def test_a_config_never_changes() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Config().shutdown_timeout = 1.0  # type: ignore[misc]


def test_the_plain_form_comes_back() -> None:
    config = Config(
        node=NodeConfig(data_dir="/var/lib/x"),
        mqtt=MqttConfig(max_inflight=7, mqueue_priorities={"t": 1}, retry_interval=0.25, allow_anonymous=False),
        listeners={
            "ssl": {
                "x": ListenerConfig(
                    bind="[::1]:8883",
                    messages_rate=12.5,
                    ssl_options=SslOptions(certfile="c", keyfile="k", password="p"),
                )
            },
            "unix": {"y": ListenerConfig(bind="/run/y", max_connections=5)},
        },
        api_key=ApiKeyConfig(bootstrap_file="keys"),
        dashboard=DashboardConfig(listeners=DashboardListeners(http=HttpConfig(bind="127.0.0.1:0"))),
    )
    assert overlay(Config(), to_dict(config, secrets=True)) == config
    assert overlay(Config(), to_dict(Config())) == Config()
    assert "http" not in to_dict(Config())["dashboard"]["listeners"]


def test_every_key_says_what_it_is_for() -> None:
    def settings(cls: type[attrs.AttrsInstance]) -> list[Setting]:
        return [entry for entry in entries(cls).values() if isinstance(entry, Setting)]

    known = list(keys(Config))
    assert len(known) == len(set(known))
    assert "mqtt.max_inflight" in known
    assert "listeners.wss.*.ssl_options.certfile" in known
    assert "dashboard.listeners.http.bind" in known
    assert all(setting.doc for cls in (MqttConfig, ListenerConfig, SslOptions) for setting in settings(cls))


@pytest.mark.parametrize("name", ["certfile", "keyfile", "cacertfile"])
def test_a_certificate_that_is_not_there(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    there = str(tmp_path_factory.mktemp("tls") / "there.pem")
    with open(there, "wb"):
        pass
    files = {"certfile": there, "keyfile": there, "cacertfile": there, name: "/none.pem"}
    options = overlay(SslOptions(), files)
    config = Config(listeners={"ssl": {"x": ListenerConfig(bind="127.0.0.1:0", ssl_options=options)}})
    with pytest.raises(ConfigError) as caught:
        check_files(config)
    assert str(caught.value) == (
        f'listeners.ssl.x.ssl_options.{name}: "/none.pem" cannot be read: No such file or directory'
    )


def test_a_bootstrap_file_that_is_not_there_matters_only_with_rest() -> None:
    missing = ApiKeyConfig(bootstrap_file="/none.txt")
    check_files(Config(api_key=missing))
    with pytest.raises(ConfigError) as caught:
        check_files(attrs.evolve(Config.service(), api_key=missing))
    assert str(caught.value) == 'api_key.bootstrap_file: "/none.txt" cannot be read: No such file or directory'


def test_a_listener_that_is_off_needs_no_certificate() -> None:
    config = Config(listeners={"ssl": {"x": ListenerConfig(bind="127.0.0.1:0", enable=False)}})
    check_files(config)
    assert [listener.enable for listener in listener_configs(config)] == [False]
