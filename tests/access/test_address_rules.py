"""Who may connect at all, and what may be connected to."""

from __future__ import annotations

import pytest

from trio_broker.access.address_rules import parse_address_rules
from trio_broker.config.model import OutboundConfig


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
    assert parse_address_rules(rules).allows(host) is allowed


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
    assert parse_address_rules(rules).open is everybody


@pytest.mark.parametrize("rule", ["deny", "deny nowhere", "refuse all", "", "deny 10.0.0.0/33"])
def test_a_wrong_rule_is_named(rule: str) -> None:
    with pytest.raises(ValueError, match=f"'{rule}'"):
        parse_address_rules(["allow all", rule])


DEFAULT = list(OutboundConfig().access_rules)


@pytest.mark.parametrize(
    ("rules", "host", "reached"),
    [
        (DEFAULT, "192.0.2.1", True),
        (DEFAULT, "fd00:ec2::254", False),
        (DEFAULT, "100.100.100.200", False),
        (DEFAULT, "::ffff:100.100.100.200", False),
        (DEFAULT, "127.0.0.1", True),
        (DEFAULT, "::1", True),
        (DEFAULT, "2001:db8::1", True),
        (DEFAULT, "169.254.169.254", False),
        (DEFAULT, "fe80::1", False),
        (DEFAULT, "fe80::1%2", False),
        (DEFAULT, "::ffff:169.254.169.254", False),
        (DEFAULT, "::ffff:a9fe:a9fe", False),
        (DEFAULT, "::169.254.169.254", False),
        (DEFAULT, "64:ff9b::169.254.169.254", False),
        (DEFAULT, "64:ff9b::192.0.2.1", True),
        (DEFAULT, "2002:a9fe:a9fe::1", False),
        (DEFAULT, "2002:c000:201::1", True),
        (["deny 127.0.0.0/8"], "0.0.0.0", False),
        (["deny 127.0.0.0/8"], "::ffff:0.0.0.0", False),
        (["deny ::1"], "::", False),
        (["deny ::1"], "::2", True),
        (["allow 10.0.0.0/8", "deny all"], "::ffff:10.0.0.1", True),
        (["allow 10.0.0.0/8", "deny all"], "64:ff9b::10.0.0.1", False),
        (["allow 10.0.0.0/8", "deny all"], "192.0.2.1", False),
        ([], "192.0.2.1", True),
        ([], "not an address", False),
    ],
)
def test_what_may_be_connected_to(rules: list[str], host: str, reached: bool) -> None:
    """An address that stands for another one is that one too."""
    assert parse_address_rules(rules).reaches(host) is reached
