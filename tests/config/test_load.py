"""Where the configuration comes from, which layer wins, and the one line that a mistake is."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from trio_broker.config import Config, ListenerConfig, SslOptions, TcpOptions, load, to_dict
from trio_broker.errors import ConfigError


def written(folder: Path, text: str) -> Path:
    path = folder / "broker.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_nothing_given_is_the_service() -> None:
    assert load() == Config.service()


def test_a_file_with_the_shape_of_the_documentation(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        shutdown_timeout = "3s"

        [node]
        name = "attic@10.0.0.7"
        data_dir = ""

        [listeners.tcp.default]
        bind = 1884
        tcp_options = { nodelay = false }
        [listeners.ssl.default]
        bind = "127.0.0.1:8883"
        ssl_options = { certfile = "c.pem", keyfile = "k.pem", verify = "verify_none" }
        [listeners.ws.default]
        enable = false
        [listeners.tcp.second]
        bind = "[::1]:0"
        max_connections = 10

        [mqtt]
        max_packet_size = "64KB"
        max_inflight = 20
        max_mqueue_len = 0
        max_awaiting_rel = "infinity"
        session_expiry_interval = "1d"
        message_expiry_interval = 1500
        server_keepalive = 60
        allow_anonymous = true
        mqueue_priorities = { "t/1" = 10, "t/2" = 8 }
        client_attrs_init = [{ expression = "username", set_as_attr = "alias" }]

        [store]
        durability = "relaxed"

        [api_key]
        bootstrap_file = "api_keys.txt"
        """,
    )
    config = load(path)
    assert config.shutdown_timeout == 3.0
    assert config.node.name == "attic@10.0.0.7"
    assert config.listeners["tcp"]["default"] == ListenerConfig(
        bind="0.0.0.0:1884", tcp_options=TcpOptions(nodelay=False), kind="tcp", name="default"
    )
    assert config.listeners["tcp"]["second"].address.host == "::1"
    assert config.listeners["tcp"]["second"].max_connections == 10
    assert config.listeners["ssl"]["default"].ssl_options == SslOptions(certfile="c.pem", keyfile="k.pem")
    assert config.listeners["ws"]["default"].enable is False
    assert config.mqtt.max_packet_size == 65536
    assert config.mqtt.max_inflight == 20
    assert config.mqtt.max_mqueue_len == math.inf
    assert config.mqtt.max_awaiting_rel == math.inf
    assert config.mqtt.session_expiry_interval == 86400.0
    assert config.mqtt.message_expiry_interval == 1.5
    assert config.mqtt.server_keepalive == 60
    assert config.mqtt.allow_anonymous is True
    assert config.mqtt.mqueue_priorities == {"t/1": 10, "t/2": 8}
    assert config.mqtt.client_attrs_init == ({"expression": "username", "set_as_attr": "alias"},)
    assert config.store.durability == "relaxed"
    assert config.api_key.bootstrap_file == "api_keys.txt"
    assert config.http is not None
    assert load(stored=to_dict(config, secrets=True), base=Config()) == config


def test_each_layer_covers_the_one_before(tmp_path: Path) -> None:
    path = written(
        tmp_path, "[mqtt]\nmax_inflight = 1\nmax_awaiting_rel = 1\nmax_topic_alias = 1\nmax_topic_levels = 1"
    )
    config = load(
        path,
        {"TRIO_BROKER_MQTT__MAX_TOPIC_ALIAS": "3", "TRIO_BROKER_MQTT__MAX_TOPIC_LEVELS": "3"},
        ["mqtt.max_topic_levels=4"],
        stored={"mqtt": {"max_awaiting_rel": 2, "max_topic_alias": 2, "max_topic_levels": 2}},
    )
    mqtt = config.mqtt
    assert (mqtt.max_inflight, mqtt.max_awaiting_rel, mqtt.max_topic_alias, mqtt.max_topic_levels) == (1, 2, 3, 4)


def test_the_last_word_on_the_command_line_counts() -> None:
    assert load(overrides=["mqtt.max_inflight=1", "mqtt.max_inflight=2"]).mqtt.max_inflight == 2


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("TRIO_BROKER_MQTT__MAX_INFLIGHT", "64", {"mqtt": {"max_inflight": 64}}),
        ("TRIO_BROKER_MQTT__IDLE_TIMEOUT", "1m30s", {"mqtt": {"idle_timeout": "1m30s"}}),
        ("TRIO_BROKER_MQTT__IDLE_TIMEOUT", "2000", {"mqtt": {"idle_timeout": "2s"}}),
        ("TRIO_BROKER_MQTT__RETAIN_AVAILABLE", "false", {"mqtt": {"retain_available": False}}),
        ("TRIO_BROKER_MQTT__ALLOW_ANONYMOUS", "true", {"mqtt": {"allow_anonymous": True}}),
        ("TRIO_BROKER_MQTT__MQUEUE_PRIORITIES", '{"t/1" = 10}', {"mqtt": {"mqueue_priorities": {"t/1": 10}}}),
        ("TRIO_BROKER_SHUTDOWN_TIMEOUT", "1s", {"shutdown_timeout": "1s"}),
        ("TRIO_BROKER_NODE__DATA_DIR", "", {"node": {"data_dir": ""}}),
        ("TRIO_BROKER_LISTENERS__TCP__DEFAULT__BIND", "1884", {"listeners": {"tcp": {"default": {"bind": 1884}}}}),
        (
            "TRIO_BROKER_LISTENERS__TCP__MORE",
            '{bind = "[::1]:0"}',
            {"listeners": {"tcp": {"more": {"bind": "[::1]:0"}}}},
        ),
        (
            "TRIO_BROKER_LISTENERS__WS__DEFAULT__WEBSOCKET__SUPPORTED_SUBPROTOCOLS",
            "mqtt,mqttv3.1",
            {"listeners": {"ws": {"default": {"websocket": {"supported_subprotocols": "mqtt, mqttv3.1"}}}}},
        ),
        (
            "TRIO_BROKER_LISTENERS__TCP__DEFAULT__ACCESS_RULES",
            "allow 10.0.0.0/8, deny all",
            {"listeners": {"tcp": {"default": {"access_rules": ["allow 10.0.0.0/8", "deny all"]}}}},
        ),
        ("TRIO_BROKER_SYSMON__MEMORY_HIGH_WATERMARK", "1GB", {"sysmon": {"memory_high_watermark": "1GB"}}),
        ("TRIO_BROKER_LOG__FORMAT", "json", {"log": {"format": "json"}}),
    ],
)
def test_the_environment(name: str, value: str, expected: dict[str, object]) -> None:
    config = load(environ={name: value, "PATH": "/bin", "TRIO": "1"})
    assert config == load(stored=expected)
    assert config != load()
    key = name.removeprefix("TRIO_BROKER_").lower().replace("__", ".")
    assert load(overrides=[f"{key}={value}"]) == config


def test_what_kubernetes_puts_beside_a_service_of_our_name_is_no_configuration() -> None:
    environ = {
        "TRIO_BROKER_SERVICE_HOST": "10.0.0.1",
        "TRIO_BROKER_SERVICE_PORT": "1883",
        "TRIO_BROKER_SERVICE_PORT_MQTT": "1883",
        "TRIO_BROKER_PORT": "tcp://10.0.0.1:1883",
        "TRIO_BROKER_PORT_1883_TCP_ADDR": "10.0.0.1",
    }
    assert load(environ=environ) == load()


def test_an_absent_value_of_a_stored_layer_changes_nothing() -> None:
    assert load(stored={"mqtt": {"max_inflight": None}}) == load()


def test_a_secret_that_comes_back_hidden_is_kept() -> None:
    certified = {"certfile": "c.pem", "keyfile": "k.pem", "password": "open sesame"}
    before = load(stored={"listeners": {"ssl": {"x": {"bind": 8883, "ssl_options": certified}}}})
    shown = to_dict(before)
    assert shown["listeners"]["ssl"]["x"]["ssl_options"]["password"] == "******"
    assert "open sesame" not in str(shown)
    assert load(stored=shown, base=before) == before


FILE_MISTAKES = [
    (
        "[mqtt]\nmax_inflght = 64",
        "mqtt.max_inflght: unknown key (value 64); the nearest known key is mqtt.max_inflight",
    ),
    ("max_inflight = 64", "max_inflight: unknown key (value 64); the nearest known key is mqtt.max_inflight"),
    (
        '[mqtt]\nbind = "1883"',
        'mqtt.bind: unknown key (value "1883"); the nearest known key is listeners.ws.default.bind',
    ),
    (
        '[listeners.tcp.attic]\nbnd = "1883"',
        'listeners.tcp.attic.bnd: unknown key (value "1883"); the nearest known key is listeners.tcp.attic.bind',
    ),
    (
        "[listeners.tpc.default]\nbind = 1883",
        'listeners.tpc: unknown key (value {"default": {"bind": 1883}}); the nearest known key is listeners.tcp',
    ),
    ("[mqtt]\nmax_inflight = 0", "mqtt.max_inflight: 0 is not a whole number from 1 to 65535"),
    ('[mqtt]\nmax_inflight = "infinity"', 'mqtt.max_inflight: "infinity" is not a whole number from 1 to 65535'),
    ("[mqtt]\nmax_inflight = true", "mqtt.max_inflight: true is not a whole number from 1 to 65535"),
    ("[mqtt]\nretain_available = 1", "mqtt.retain_available: 1 is not true or false"),
    (
        '[mqtt]\nidle_timeout = "15 parsecs"',
        'mqtt.idle_timeout: "15 parsecs" is not a duration such as "15s", "1m30s" or 500 (milliseconds), or "infinity"',
    ),
    (
        '[mqtt]\nmax_packet_size = "1TB"',
        'mqtt.max_packet_size: "1TB" is not a size such as "10KB", "1MB" or 512 (bytes), 1 to 268435455 bytes',
    ),
    (
        "[mqtt]\nmax_packet_size = 268435456",
        'mqtt.max_packet_size: 268435456 is not a size such as "10KB", "1MB" or 512 (bytes), 1 to 268435455 bytes',
    ),
    ("[mqtt]\nmax_qos_allowed = 3", "mqtt.max_qos_allowed: 3 is not a whole number from 0 to 2"),
    (
        '[mqtt]\nallow_anonymous = "yes"',
        'mqtt.allow_anonymous: "yes" is not true or false, or "loopback"',
    ),
    (
        '[mqtt]\nmqueue_default_priority = "high"',
        'mqtt.mqueue_default_priority: "high" is not one of highest, lowest',
    ),
    ("mqtt = 1", "mqtt: 1 is not a table"),
    ("[listeners]\ntcp = 1883", "listeners.tcp: 1883 is not a table"),
    ("[listeners.tcp]\ndefault = 1883", "listeners.tcp.default: 1883 is not a table"),
    ('[listeners.tcp."a b"]\nbind = 1', 'listeners.tcp: "a b" is not a name of letters, digits, _ and -'),
    (
        '[listeners.tcp.default]\nbind = "nowhere"',
        'listeners.tcp.default.bind: "nowhere" is not an address such as "127.0.0.1:1883", "[::1]:1883", 1883, '
        "or the path of a Unix socket",
    ),
    (
        "[listeners.tcp.default]\nbind = 99999",
        'listeners.tcp.default.bind: 99999 is not an address such as "127.0.0.1:1883", "[::1]:1883", 1883, '
        "or the path of a Unix socket",
    ),
    ("[listeners.tcp.attic]", 'listeners.tcp.attic.bind: is needed, such as "127.0.0.1:1883"'),
    (
        '[listeners.tcp.attic]\nbind = "/run/x"',
        'listeners.tcp.attic.bind: "/run/x" must be an address and a port, not a path',
    ),
    ("[listeners.unix.attic]\nbind = 1", 'listeners.unix.attic.bind: "0.0.0.0:1" must be a path that holds a /'),
    ("[listeners.unix.attic]", "listeners.unix.attic.bind: must be a path that holds a /"),
    ("[listeners.memory.attic]\nbind = 1", "listeners.memory.attic.bind: has no meaning for a memory listener"),
    (
        "[listeners.ssl.attic]\nbind = 1",
        "listeners.ssl.attic.ssl_options.certfile: is needed for a ssl listener",
    ),
    (
        "[listeners.wss.attic]\nbind = 1\nssl_options = {certfile = 'c'}",
        "listeners.wss.attic.ssl_options.keyfile: is needed for a wss listener",
    ),
    (
        "[listeners.ssl.a]\nbind = 1\nssl_options = {certfile = 'c', keyfile = 'k', verify = 'verify_peer'}",
        "listeners.ssl.a.ssl_options.cacertfile: is needed for verify_peer",
    ),
    (
        "[listeners.ssl.a]\nbind = 1\nssl_options = {certfile = 'c', keyfile = 'k', fail_if_no_peer_cert = true}",
        'listeners.ssl.a.ssl_options.fail_if_no_peer_cert: needs verify = "verify_peer"',
    ),
    (
        "[listeners.ssl.a]\nbind = 1\nssl_options = {certfile = 'c', keyfile = 'k', versions = []}",
        "listeners.ssl.a.ssl_options.versions: must name one version at least",
    ),
    (
        "[listeners.tcp.default]\nssl_options = {certfile = 'c'}",
        "listeners.tcp.default.ssl_options: has no meaning for a tcp listener; ssl and wss have it",
    ),
    (
        "[listeners.tcp.default]\nwebsocket = {mqtt_path = '/'}",
        "listeners.tcp.default.websocket: has no meaning for a tcp listener; ws and wss have it",
    ),
    (
        "[listeners.ws.default]\nwebsocket = {mqtt_path = 'mqtt'}",
        'listeners.ws.default.websocket.mqtt_path: "mqtt" is not a path such as "/mqtt"',
    ),
    ('[node]\nname = "attic"', 'node.name: "attic" is not a node name such as "trio_broker@127.0.0.1"'),
    ('[store]\ndurability = "safe"', 'store.durability: "safe" is not one of full, normal, relaxed, memory'),
    (
        '[dashboard.listeners.http]\nbind = "/run/x"',
        "dashboard.listeners.http.bind: must be an address and a port, not a path",
    ),
    ('[dashboard.listeners.http]\nbind = ""', 'dashboard.listeners.http.bind: is needed, such as "127.0.0.1:1883"'),
    ('[log]\nlevel = "loud"', 'log.level: "loud" is not one of debug, info, warning, error, critical'),
    ("[log]\nlevel = 1979-05-27", 'log.level: "1979-05-27" is not one of debug, info, warning, error, critical'),
    (
        '[sysmon]\nmemory_high_watermark = "120%"',
        'sysmon.memory_high_watermark: "120%" is not a percentage such as "70%" or a size such as "2GB"',
    ),
    ('[node]\ndata_dir = "a\\u0000b"', 'node.data_dir: "a\\u0000b" is not the path of a directory'),
    (
        f'[log]\nlevel = "{"x" * 1000}"',
        f'log.level: "{"x" * 76}... is not one of debug, info, warning, error, critical',
    ),
    (
        "[mqt]\nmax_inflight = 1",
        'mqt: unknown key (value {"max_inflight": 1}); the nearest known key is mqtt',
    ),
    ("[node]\nzzz = 1", "node.zzz: unknown key (value 1); the nearest known key is node.name"),
]


@pytest.mark.parametrize(("text", "message"), FILE_MISTAKES)
def test_a_mistake_in_a_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: {message}"
    assert "\n" not in str(caught.value)
    assert caught.value.key == message.partition(":")[0]


@pytest.mark.parametrize("text", ["[mqtt", "a = 1\na = 2\n", "a = \n", 'a = """\n\n'])
def test_a_file_that_is_not_toml(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: is not TOML: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "overrides", "message"),
    [
        (
            {"TRIO_BROKER_MQTT__MAX_INFLGHT": "64"},
            [],
            'TRIO_BROKER_MQTT__MAX_INFLGHT: mqtt.max_inflght: unknown key (value "64"); '
            "the nearest known key is mqtt.max_inflight",
        ),
        (
            {"TRIO_BROKER_MAX_INFLIGHT": "64"},
            [],
            'TRIO_BROKER_MAX_INFLIGHT: max_inflight: unknown key (value "64"); '
            "the nearest known key is mqtt.max_inflight",
        ),
        (
            {"TRIO_BROKER_MQTT__MAX_INFLIGHT": "many"},
            [],
            'TRIO_BROKER_MQTT__MAX_INFLIGHT: mqtt.max_inflight: "many" is not a whole number from 1 to 65535',
        ),
        ({"TRIO_BROKER_MQTT": "64"}, [], 'TRIO_BROKER_MQTT: mqtt: "64" is not a table'),
        ({"TRIO_BROKER_MQTT": "{64"}, [], 'TRIO_BROKER_MQTT: mqtt: "{64" is not a table'),
        (
            {"TRIO_BROKER_LOG__LEVEL": "a\nb"},
            [],
            'TRIO_BROKER_LOG__LEVEL: log.level: "a\\nb" is not one of debug, info, warning, error, critical',
        ),
        ({}, ["mqtt.max_inflight"], "--set: mqtt.max_inflight: must be KEY=VALUE"),
        ({}, ["mqtt.max_inflight="], '--set: mqtt.max_inflight: "" is not a whole number from 1 to 65535'),
        (
            {},
            ["mqtt.max_inflght=1"],
            '--set: mqtt.max_inflght: unknown key (value "1"); the nearest known key is mqtt.max_inflight',
        ),
        (
            {},
            ["mqtt.max_inflight.x=1"],
            '--set: mqtt.max_inflight: {"x": "1"} is not a whole number from 1 to 65535',
        ),
        (
            {},
            ["listeners.ssl.default.bind=8883"],
            "configuration: listeners.ssl.default.ssl_options.certfile: is needed for a ssl listener",
        ),
    ],
)
def test_a_mistake_elsewhere_is_one_line(environ: dict[str, str], overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, environ, overrides)
    assert str(caught.value) == message


def test_a_mistake_that_a_later_layer_covers_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, "[mqtt]\nmax_inflight = 0")
    with pytest.raises(ConfigError, match=r"mqtt\.max_inflight: 0 is not"):
        load(path, overrides=["mqtt.max_inflight=1"])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "none.toml")
    assert str(caught.value) == f"{tmp_path / 'none.toml'}: cannot be read: No such file or directory"


def test_a_file_that_is_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert str(caught.value) == f"{tmp_path}: cannot be read: Is a directory"


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes(b'[node]\nname = "caf\xe9@x"')
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: is not UTF-8 at byte 18"


@pytest.mark.parametrize("value", ["9" * 400 + "/s", "1e400"])
def test_a_number_beyond_all_bounds_is_wrong_and_nothing_worse(value: str) -> None:
    with pytest.raises(ConfigError, match=r"listeners\.tcp\.default\.max_conn_rate"):
        load(overrides=[f"listeners.tcp.default.max_conn_rate={value}"])
