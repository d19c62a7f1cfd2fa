"""Who may connect at all, and how often."""

from __future__ import annotations

import pytest

from trio_broker.listeners.access_rules import ConnectionRate, parse_access_rules


@pytest.mark.parametrize(
    ("rules", "host", "allowed"),
    [
        ([], "192.0.2.1", True),
        (["allow all"], "192.0.2.1", True),
        (["deny all"], "192.0.2.1", False),
        (["deny all"], "2001:db8::1", False),
        (["allow 192.0.2.0/24", "deny all"], "192.0.2.200", True),
        (["allow 192.0.2.0/24", "deny all"], "192.0.3.1", False),
        (["deny 192.0.2.1", "allow all"], "192.0.2.1", False),
        (["deny 192.0.2.1"], "192.0.2.2", True),
        (["allow all", "deny 192.0.2.1"], "192.0.2.1", True),
        (["deny 2001:db8::/32"], "2001:db8::1", False),
        (["deny 192.0.2.7/24"], "192.0.2.1", False),
        (["deny all"], "not an address", True),
    ],
)
def test_the_first_rule_that_holds_decides(rules: list[str], host: str, allowed: bool) -> None:
    assert parse_access_rules(rules).allows(host) is allowed


@pytest.mark.parametrize(
    ("rules", "everybody"),
    [
        ([], True),
        (["allow all"], True),
        (["allow all", "deny all"], True),
        (["deny ::1"], False),
        (["allow ::1"], True),
        (["allow ::1", "deny all"], False),
    ],
)
def test_rules_that_keep_nobody_out_cost_nothing(rules: list[str], everybody: bool) -> None:
    assert parse_access_rules(rules).open is everybody


@pytest.mark.parametrize("rule", ["deny", "deny nowhere", "refuse all", "", "deny 10.0.0.0/33"])
def test_a_wrong_rule_is_named(rule: str) -> None:
    with pytest.raises(ValueError, match=f"'{rule}'"):
        parse_access_rules(["allow all", rule])


@pytest.mark.parametrize("per_second", [0.1, 1.0, 50.0])
def test_the_rate_holds_on_average(per_second: float) -> None:
    rate = ConnectionRate(per_second)
    now = 100.0
    for _ in range(200):
        now += rate.pause(now)
    assert 200 / per_second - (now - 100.0) == pytest.approx(max(1.0, 1 / per_second))


def test_a_pause_earns_one_second_of_connections() -> None:
    rate = ConnectionRate(10.0)
    assert [rate.pause(0.0) for _ in range(12)] == pytest.approx([0.0] * 10 + [0.1, 0.2])
    assert [rate.pause(1000.0) for _ in range(11)] == pytest.approx([0.0] * 10 + [0.1])
