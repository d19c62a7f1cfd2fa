from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_broker.config import Bind
from trio_broker.config.bind import parse_bind


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        (1883, Bind("0.0.0.0", 1883)),
        ("1883", Bind("0.0.0.0", 1883)),
        (":1883", Bind("0.0.0.0", 1883)),
        ("0.0.0.0:1883", Bind("0.0.0.0", 1883)),
        ("127.0.0.1:0", Bind("127.0.0.1", 0)),
        ("[::]:1883", Bind("::", 1883)),
        ("[::1]:1883", Bind("::1", 1883)),
        ("[0:0:0::1]:1883", Bind("::1", 1883)),
        ("localhost:1883", Bind("localhost", 1883)),
        ("mqtt.example.org:1883", Bind("mqtt.example.org", 1883)),
        ("/run/trio-broker/mqtt.sock", Bind(path="/run/trio-broker/mqtt.sock")),
        ("./mqtt.sock", Bind(path="./mqtt.sock")),
    ],
)
def test_what_can_be_bound(text: object, bind: Bind) -> None:
    assert parse_bind(text) == bind
    assert parse_bind(str(bind)) == bind


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mqtt",
        "65536",
        65536,
        -1,
        True,
        None,
        1883.0,
        "localhost",
        "localhost:",
        "localhost:mqtt",
        "::1:1883",
        "[::1]",
        "[::1:1883",
        "[127.0.0.1]:1883",
        "256.0.0.1:1883",
        "1.2.3:1883",
        "-host:1883",
        "a b:1883",
        "a\0/b",
    ],
)
def test_what_cannot_be_bound(text: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_bind(text)


@pytest.mark.parametrize(
    ("text", "is_loopback"),
    [
        ("127.0.0.1:1883", True),
        ("127.8.8.8:1883", True),
        ("[::1]:1883", True),
        ("localhost:1883", True),
        ("/run/mqtt.sock", True),
        ("1883", False),
        ("[::]:1883", False),
        ("192.168.1.2:1883", False),
        ("localhost.example.org:1883", False),
    ],
)
def test_who_can_come_from_another_machine(text: str, is_loopback: bool) -> None:
    assert parse_bind(text).is_loopback is is_loopback


@given(st.ip_addresses(), st.integers(min_value=0, max_value=65535))
def test_every_address_comes_back(address: object, port: int) -> None:
    bind = Bind(str(address), port)
    assert parse_bind(str(bind)) == bind


@given(st.text())
def test_a_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        bind = parse_bind(text)
    except ValueError:
        return
    assert bind.path or (bind.host and 0 <= bind.port <= 65535)
