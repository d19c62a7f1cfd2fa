"""What decides about a WebSocket request."""

from __future__ import annotations

from typing import Any

import pytest

from trio_broker.config.listeners import WebsocketOptions
from trio_broker.listeners.websocket_handshake import answer, choose_subprotocol, header, peer_behind_proxy

SUPPORTED = WebsocketOptions().supported_subprotocols


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([], None),
        (["mqtt"], "mqtt"),
        (["mqttv3.1"], "mqttv3.1"),
        (["mqttv3.1", "mqtt"], "mqtt"),
        (["chat", "mqtt"], "mqtt"),
        (["mqtt-v5"], "mqtt-v5"),
        (["mqtt-v3.1.1", "mqtt-v3"], "mqtt-v3.1.1"),
        (["mqtt-v5", "mqttv3.1"], "mqttv3.1"),
        (["chat"], None),
        (["MQTT"], None),
    ],
)
def test_the_subprotocol(offered: list[str], chosen: str | None) -> None:
    assert choose_subprotocol(offered, SUPPORTED) == chosen


@pytest.mark.parametrize(
    ("options", "path", "offered", "status"),
    [
        ({}, "/mqtt", ["mqtt"], 101),
        ({}, "/mqtt?token=1", ["mqtt"], 101),
        ({}, "/", ["mqtt"], 404),
        ({}, "/mqtt/more", ["mqtt"], 404),
        ({"mqtt_path": "/ws"}, "/mqtt", ["mqtt"], 404),
        ({"mqtt_path": "/ws"}, "/ws", ["mqtt"], 101),
        ({}, "/mqtt", [], 400),
        ({}, "/mqtt", ["chat"], 400),
        ({"fail_if_no_subprotocol": False}, "/mqtt", [], 101),
        ({"fail_if_no_subprotocol": False}, "/mqtt", ["chat"], 101),
        ({"supported_subprotocols": ("chat",)}, "/mqtt", ["chat"], 101),
    ],
)
def test_path_and_subprotocol(options: dict[str, Any], path: str, offered: list[str], status: int) -> None:
    verdict = answer(WebsocketOptions(**options), path, [], offered)
    assert (verdict.status, verdict.accepted) == (status, status == 101)
    assert bool(verdict.reason) == (status != 101)


@pytest.mark.parametrize(
    ("checked", "absence", "origin", "status"),
    [
        (False, False, None, 101),
        (False, False, "http://evil.example", 101),
        (True, True, None, 101),
        (True, False, None, 403),
        (True, True, "http://evil.example", 403),
        (True, False, "http://home.example", 101),
        (True, False, "http://home.example.evil.example", 403),
    ],
)
def test_origins(checked: bool, absence: bool, origin: str | None, status: int) -> None:
    options = WebsocketOptions(
        check_origin_enable=checked, allow_origin_absence=absence, check_origins=("http://home.example",)
    )
    headers = [] if origin is None else [(b"origin", origin.encode())]
    assert answer(options, "/mqtt", headers, ["mqtt"]).status == status


LOCAL = "127.0.0.1"


@pytest.mark.parametrize(
    ("headers", "peer", "expected"),
    [
        ({}, LOCAL, None),
        ({"x-forwarded-for": "203.0.113.7"}, LOCAL, ("203.0.113.7", 0)),
        ({"x-forwarded-for": "203.0.113.7"}, "::1", ("203.0.113.7", 0)),
        ({"x-forwarded-for": "203.0.113.7", "x-forwarded-port": "4711"}, LOCAL, ("203.0.113.7", 4711)),
        ({"x-forwarded-for": "203.0.113.7", "x-forwarded-port": "high"}, LOCAL, ("203.0.113.7", 0)),
        ({"x-forwarded-for": "127.0.0.1, 203.0.113.7"}, LOCAL, ("203.0.113.7", 0)),  # the first is the client's claim
        ({"x-forwarded-for": "2001:db8::7"}, LOCAL, ("2001:db8::7", 0)),
        ({"x-forwarded-for": "unknown"}, LOCAL, None),
        ({"x-forwarded-for": ""}, LOCAL, None),
        ({"x-forwarded-for": "127.0.0.1"}, "203.0.113.7", None),  # anybody may send this
        ({"x-real-ip": "203.0.113.7"}, LOCAL, None),
    ],
)
def test_a_proxy_is_believed_when_it_is_on_this_machine(
    headers: dict[str, str], peer: str, expected: tuple[str, int] | None
) -> None:
    options = WebsocketOptions(proxy_address_header="x-forwarded-for", proxy_port_header="x-forwarded-port")
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert peer_behind_proxy(options, raw, peer) == expected


def test_no_header_is_believed_where_none_is_configured() -> None:
    options = WebsocketOptions(proxy_address_header="", proxy_port_header="")
    assert peer_behind_proxy(options, [(b"x-forwarded-for", b"203.0.113.7"), (b"", b"203.0.113.7")], LOCAL) is None


def test_a_header_that_comes_twice_is_one_list() -> None:
    assert header([(b"a", b"1"), (b"b", b"2"), (b"a", b"3")], "A") == "1, 3"
    assert header([(b"a", b"1")], "b") is None
