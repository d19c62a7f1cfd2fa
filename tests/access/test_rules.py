"""Which rule decides: each part of a rule, their order, placeholders, wildcards."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from routing.reference import matches, small_names, topic_filters, topic_names

from trio_broker.access.asking import Request, Subject
from trio_broker.access.rules import RuleSet
from trio_broker.protocol.message import Origin


def subject(client_id: str = "c1", username: str | None = "u1", **facts: Any) -> Subject:
    return Subject(Origin(client_id, username), client_id, username, **facts)


def rule(permission: str, action: str, topic: str, **more: Any) -> dict[str, Any]:
    return {"permission": permission, "action": action, "topic": topic, **more}


def publish(rules: list[dict[str, Any]], topic: str, qos: int = 0, retain: bool = False, **who: Any) -> bool | None:
    return RuleSet.from_items(rules).decide(subject(**who), Request("publish", topic, qos, retain))


def subscribe(rules: list[dict[str, Any]], topic_filter: str, qos: int = 0, **who: Any) -> bool | None:
    return RuleSet.from_items(rules).decide(subject(**who), Request("subscribe", topic_filter, qos))


def test_without_rules_nothing_is_decided() -> None:
    assert publish([], "t") is None
    assert subscribe([], "#") is None


@pytest.mark.parametrize(
    ("action", "publishing", "subscribing"),
    [
        ("publish", True, None),
        ("pub", True, None),
        ("subscribe", None, True),
        ("sub", None, True),
        ("all", True, True),
    ],
)
def test_a_rule_is_about_its_action(action: str, publishing: bool | None, subscribing: bool | None) -> None:
    rules = [rule("allow", action, "t")]
    assert publish(rules, "t") is publishing
    assert subscribe(rules, "t") is subscribing


@pytest.mark.parametrize("qos", [1, "1", [1, 2], ["1", "2"], "1,2"])
def test_a_rule_is_about_its_qos(qos: Any) -> None:
    rules = [rule("deny", "all", "t", qos=qos)]
    assert [publish(rules, "t", qos=one) for one in (0, 1)] == [None, False]
    assert [subscribe(rules, "t", qos=one) for one in (0, 1)] == [None, False]


@pytest.mark.parametrize(
    ("retain", "decided"),
    [
        (True, [None, True]),
        ("true", [None, True]),
        (1, [None, True]),
        ("1", [None, True]),
        (False, [True, None]),
        ("false", [True, None]),
        (0, [True, None]),
        ("0", [True, None]),
        ("all", [True, True]),
        (None, [True, True]),
    ],
)
def test_a_rule_is_about_messages_that_are_retained_or_not(retain: Any, decided: list[bool | None]) -> None:
    rules = [rule("allow", "all", "t", retain=retain)]
    assert [publish(rules, "t", retain=one) for one in (False, True)] == decided
    assert subscribe(rules, "t") is True  # it is not looked at there


def test_the_first_rule_that_holds_decides() -> None:
    allow, deny, other = rule("allow", "all", "t/1"), rule("deny", "all", "t/#"), rule("deny", "all", "x")
    assert publish([other, allow, deny], "t/1") is True
    assert publish([other, deny, allow], "t/1") is False
    assert subscribe([other, allow, deny], "t/1") is True
    assert subscribe([other, deny, allow], "t/1") is False
    assert publish([other, allow, deny], "t/2") is False


def test_the_order_holds_across_rules_with_and_without_placeholders() -> None:
    filler = [rule("deny", "all", f"filler/{number}") for number in range(20)]
    mine, all_of_it = rule("allow", "all", "t/${clientid}"), rule("deny", "all", "t/#")
    assert publish([*filler, mine, all_of_it], "t/c1") is True
    assert publish([*filler, all_of_it, mine], "t/c1") is False
    assert publish([all_of_it, *filler, mine], "t/c1") is False
    assert publish([mine, *filler, all_of_it], "t/c1") is True
    assert publish([mine, *filler, all_of_it], "t/c2") is False
    assert publish([*filler, mine], "filler/19") is False


def test_several_topics_are_one_rule() -> None:
    rules = [{"permission": "allow", "action": "all", "topics": ["a", "b/#", "eq c/#"]}]
    assert [publish(rules, topic) for topic in ("a", "b/1", "c/1")] == [True, True, None]
    assert [subscribe(rules, topic) for topic in ("b/+", "c/#", "c/+")] == [True, True, None]


# -- wildcards ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["#", "+/#", "t/#", "t/+", "+/secret", "t/secret", "t/secret/#", "+/+", "t/+/#"])
def test_what_is_denied_cannot_be_had_by_a_wildcard(asked: str) -> None:
    rules = [rule("deny", "subscribe", "t/secret"), rule("allow", "subscribe", "#")]
    assert subscribe(rules, asked) is False
    assert subscribe(rules, "t/other") is True
    assert subscribe(rules, "x/#") is True


@pytest.mark.parametrize(
    ("allowed", "asked", "decided"),
    [
        ("t/#", "t/+", True),
        ("t/#", "t", True),
        ("t/+", "t/+", True),
        ("t/+", "t/#", None),
        ("t/+", "t/a", True),
        ("t/a", "t/+", None),
        ("+/a", "t/a", True),
        ("t/1", "#", None),
        ("#", "#", True),
    ],
)
def test_who_is_allowed_something_is_not_allowed_more(allowed: str, asked: str, decided: bool | None) -> None:
    assert subscribe([rule("allow", "subscribe", allowed)], asked) is decided


def test_wildcards_at_the_beginning_do_not_reach_dollar() -> None:
    for wild in ("#", "+/#", "+/uptime"):
        assert publish([rule("deny", "all", wild)], "$SYS/uptime") is None
        assert subscribe([rule("deny", "all", wild)], "$SYS/uptime") is None
        assert subscribe([rule("allow", "all", wild)], "$SYS/#") is None
    assert subscribe([rule("deny", "all", "$SYS/#")], "$SYS/uptime") is False
    assert subscribe([rule("deny", "all", "$SYS/#")], "#") is None  # it gets nothing of it


@pytest.mark.parametrize("permission", ["allow", "deny"])
def test_eq_is_the_text_and_nothing_else(permission: str) -> None:
    rules, holds = [rule(permission, "all", "eq t/#")], permission == "allow"
    assert [subscribe(rules, asked) for asked in ("t/#", "t/+", "t", "#", "t/a")] == [holds, None, None, None, None]
    assert publish(rules, "t/a") is None
    assert publish([rule(permission, "all", "eq t/a")], "t/a") is holds


# -- placeholders -------------------------------------------------------------------------------------------------

FACTS: dict[str, Any] = {
    "client_id": "c1",
    "username": "u1",
    "zone": "z1",
    "peer_host": "10.0.0.1",
    "listener": "tcp:default",
    "certificate_common_name": "cn1",
    "certificate_distinguished_name": "CN=cn1,O=o",
    "client_attrs": {"tenant": "acme"},
}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("t/${clientid}", "t/c1"),
        ("t/${username}/x", "t/u1/x"),
        ("t/${zone}", "t/z1"),
        ("t/${cert_common_name}", "t/cn1"),
        ("t/${cert_subject}", "t/CN=cn1,O=o"),
        ("t/${client_attrs.tenant}/${clientid}", "t/acme/c1"),
        ("t/${peerhost}", "t/10.0.0.1"),
        ("dev-${clientid}-x/${username}", "dev-c1-x/u1"),
        ("${username}/t", "u1/t"),
        ("eq t/${clientid}", "t/c1"),
    ],
)
def test_placeholders_are_filled(text: str, filled: str) -> None:
    for padding in ([], [rule("deny", "all", f"filler/{number}") for number in range(20)]):
        assert publish([*padding, rule("allow", "all", text)], filled, **FACTS) is True
        assert publish([*padding, rule("allow", "all", text)], filled + "x", **FACTS) is None
    assert subscribe([rule("allow", "all", text)], filled, **FACTS) is True
    assert subscribe([rule("deny", "all", text)], filled, **FACTS) is False
    assert subscribe([rule("allow", "all", text)], "#", **FACTS) is None
    assert (subscribe([rule("deny", "all", text)], "#", **FACTS) is False) is not text.startswith("eq ")


@pytest.mark.parametrize("name", ["+", "#", "a/b", "/", "a/", "+/#", "a+", "\0", "a\0b", "", None])
@pytest.mark.parametrize("permission", ["allow", "deny"])
def test_a_name_is_never_more_than_one_level(name: str | None, permission: str) -> None:
    """A client calls itself what it likes."""
    rules = [rule(permission, "all", f"{place}", qos=[0, 1, 2]) for place in ("t/${username}", "t/${username}/#")]
    asked = ["t", "t/", "t/a", "t/a/b", "t//", "t/None", "t/a+"]
    assert [publish(rules, topic, username=name) for topic in asked] == [None] * len(asked)
    assert [subscribe(rules, topic, username=name) for topic in ("t/+", "t/#", "#", *asked)] == [None] * 10


@pytest.mark.parametrize("name", ["$SYS", "$", "$share"])
def test_a_name_does_not_lead_to_dollar_topics(name: str) -> None:
    for text in ("${clientid}/#", "${clientid}x/#", "${clientid}", "eq ${clientid}/#"):
        rules = [rule("allow", "all", text)]
        for topic in (name, f"{name}/a", f"{name}x/a"):
            assert publish(rules, topic, client_id=name) is None
        for topic_filter in (name, f"{name}/#", f"{name}/+", f"{name}x/#"):
            assert subscribe(rules, topic_filter, client_id=name) is None
    assert publish([rule("allow", "all", "t/${clientid}")], f"t/{name}", client_id=name) is True
    assert publish([rule("allow", "all", "$SYS/${clientid}/#")], "$SYS/c1/x") is True


@pytest.mark.parametrize(
    "name", ["\uff03", "\uff0b", "\uff0f", "u\u03011", "\u04411", "U1", " u1", "u1 ", "${clientid}", "%u"]
)
def test_look_alikes_are_other_names(name: str) -> None:
    rules = [rule("allow", "all", "t/${username}")]
    assert publish(rules, f"t/{name}", username=name) is True
    assert publish(rules, "t/u1", username=name) is None
    assert publish(rules, "t/c1", username=name) is None
    assert subscribe(rules, "t/#", username=name) is None


# -- conditions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "holds", "holds_not"),
    [
        ({"username_re": "^u[0-9]$"}, {"username": "u1"}, {"username": "xu1"}),
        ({"username_re": "."}, {"username": "u1"}, {"username": None}),
        ({"clientid_re": "^c"}, {"client_id": "c9"}, {"client_id": "d"}),
        ({"zone": "z1"}, {"zone": "z1"}, {"zone": "z11"}),
        ({"zone_re": "z"}, {"zone": "az"}, {"zone": "default"}),
        ({"listener": "tcp:default"}, {"listener": "tcp:default"}, {"listener": "ssl:default"}),
        ({"listener_re": "^tcp:"}, {"listener": "tcp:a"}, {"listener": ""}),
        ({"ipaddr": "10.0.0.0/8"}, {"peer_host": "10.1.2.3"}, {"peer_host": "11.0.0.1"}),
        ({"ipaddr": "10.0.0.1"}, {"peer_host": "::ffff:10.0.0.1"}, {"peer_host": ""}),
        ({"ipaddr": "127.0.0.1"}, {"peer_host": ""}, {"peer_host": "nonsense"}),
        ({"ipaddr": "::ffff:10.0.0.0/104"}, {"peer_host": "10.9.9.9"}, {"peer_host": "nonsense"}),
        ({"ipaddr": "fe80::/10"}, {"peer_host": "fe80::1%eth0"}, {"peer_host": "::1"}),
        ({"zone": "z1", "username_re": "u"}, {"zone": "z1"}, {"zone": "z2"}),
        ({"zone": ""}, {"zone": ""}, {"zone": "default"}),
    ],
)
def test_conditions_hold_for_some(condition: dict[str, str], holds: dict[str, Any], holds_not: dict[str, Any]) -> None:
    rules = [rule("allow", "all", "t", **condition)]
    assert publish(rules, "t", **holds) is True
    assert publish(rules, "t", **holds_not) is None
    assert subscribe(rules, "t", **holds) is True
    assert subscribe(rules, "t", **holds_not) is None


# -- against what is plain ----------------------------------------------------------------------------------------

permissions = st.booleans()
_rules = st.lists(st.tuples(permissions, topic_filters, st.sampled_from([[0], [1], [0, 1, 2]])), max_size=24)


def items(rules: list[tuple[bool, str, list[int]]]) -> list[dict[str, Any]]:
    return [rule("allow" if allow else "deny", "all", text, qos=qos) for allow, text, qos in rules]


@given(_rules, topic_names)
def test_publishing_is_decided_as_if_all_were_tried(rules: list[tuple[bool, str, list[int]]], topic: str) -> None:
    plain = next((allow for allow, text, qos in rules if 1 in qos and matches(text, topic)), None)
    assert publish(items(rules), topic, qos=1) is plain


NAMES = small_names()


@given(_rules, topic_filters)
def test_who_may_subscribe_gets_nothing_that_it_may_not(
    rules: list[tuple[bool, str, list[int]]], topic_filter: str
) -> None:
    """If all topics that the filter reaches were asked for one by one, none would be denied."""
    if subscribe(items(rules), topic_filter, qos=1):
        ruled = RuleSet.from_items(items(rules))
        for name in NAMES:
            if matches(topic_filter, name):
                assert ruled.decide(subject(), Request("subscribe", name, 1)) is True
