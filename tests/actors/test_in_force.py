"""From the configuration to what the actors go by."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
from api.live import running

from trio_broker.actors.in_force import limits_of
from trio_broker.config import MqttConfig
from trio_broker.session.limits import Limits
from trio_broker.session.pressure import HIGH, Pressure
from trio_broker.session.slow import Slow


@pytest.mark.parametrize(
    ("key", "value", "inside"),
    [
        ("max_packet_size", 2048, 2048),
        ("max_clientid_len", 100, 100),
        ("max_topic_levels", 5, 5),
        ("max_topic_alias", 5, 5),
        ("max_qos_allowed", 1, 1),
        ("retain_available", False, False),
        ("wildcard_subscription", False, False),
        ("shared_subscription", False, False),
        ("max_inflight", 5, 5),
        ("max_mqueue_len", math.inf, 0),
        ("mqueue_store_qos0", False, False),
        ("max_awaiting_rel", math.inf, 0),
        ("await_rel_timeout", 5.0, 5.0),
        ("max_subscriptions", 5, 5),
        ("max_subscriptions", math.inf, None),
        ("session_expiry_interval", math.inf, 0xFFFFFFFF),
        ("session_expiry_interval", 1.5, 1),
        ("server_keepalive", 5, 5),
        ("keepalive_multiplier", 3.0, 3.0),
        ("idle_timeout", 5.0, 5.0),
        ("upgrade_qos", True, True),
        ("ignore_loop_deliver", True, True),
        ("response_information", "x", "x"),
        ("message_expiry_interval", 5.0, 5),
        ("use_username_as_clientid", True, True),
        ("peer_cert_as_username", "cn", "cn"),
        ("peer_cert_as_clientid", "dn", "dn"),
    ],
)
def test_each_limit_is_passed_on(key: str, value: object, inside: object) -> None:
    changes: dict[str, Any] = {key: value}
    mqtt = attrs.evolve(MqttConfig(), **changes)
    limits, usual = limits_of(mqtt), limits_of(MqttConfig())
    assert getattr(limits, key) == inside
    changed = {
        field.name for field in attrs.fields(Limits) if getattr(limits, field.name) != getattr(usual, field.name)
    }
    assert changed - {"pressure", "slow"} <= {key}


def test_the_defaults_are_those_of_the_limits() -> None:
    pressure, slow = Pressure(), Slow()
    assert limits_of(MqttConfig(), pressure, slow) == attrs.evolve(Limits(), pressure=pressure, slow=slow)


async def test_all_share_one_pressure(autojump_clock: object) -> None:
    """Also sessions that live under older limits."""
    async with running() as live:
        await live.connect("c1")
        core = live.broker._core
        assert core is not None
        pressure, slow = core.limits.pressure, core.limits.slow
        await live.api.put("/configs/global_zone", json={"mqtt": {"max_inflight": 5}})
        assert core.limits.max_inflight == 5
        assert core.limits.pressure is pressure
        assert core.limits.slow is slow
        assert core.memory_guard.pressure is pressure
        pressure.level = HIGH
        assert (await live.connect("c2")).connack.reason_code == 0x89
