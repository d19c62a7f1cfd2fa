"""Rules as REST, web services and tokens bring them: what is wrong is said, with its place."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_broker.access.asking import Request, Subject
from trio_broker.access.rules import RuleError, RuleSet
from trio_broker.protocol.message import Origin

GOOD = {"permission": "allow", "action": "publish", "topic": "t"}
CLIENT = Subject(Origin("c1"), "c1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"permission": "permit"}, "rule 2: permission: 'permit' is none of allow, deny"),
        ({"permission": None}, "rule 2: permission: it is missing"),
        ({"permission": True}, "rule 2: permission: True is none of allow, deny"),
        ({"action": "read"}, "rule 2: action: 'read' is none of publish, pub, subscribe, sub, all"),
        ({"action": ["all"]}, "rule 2: action: ['all'] is none of publish, pub, subscribe, sub, all"),
        ({"topic": None}, "rule 2: topic: it is missing"),
        ({"topic": 1}, "rule 2: topic: a text is expected"),
        ({"topic": ""}, "rule 2: topic: '': a topic filter is empty"),
        ({"topic": "eq "}, "rule 2: topic: 'eq ': a topic filter is empty"),
        ({"topic": "a/#/b"}, "rule 2: topic: 'a/#/b': # must be a level of its own, and the last"),
        (
            {"topic": "$share/g/t"},
            "rule 2: topic: '$share/g/t': a rule is about the topic, whichever ",
        ),
        (
            {"topic": "eq $queue/t"},
            "rule 2: topic: 'eq $queue/t': a rule is about the topic, whichever ",
        ),
        (
            {"topic": "$delayed/#"},
            "rule 2: topic: '$delayed/#': a rule is about the topic, whichever ",
        ),
        ({"topic": "a+"}, "rule 2: topic: 'a+': + must be a level of its own"),
        ({"topic": "+${clientid}"}, "rule 2: topic: '+${clientid}': + must be a level of its own"),
        ({"topic": "t/${password}"}, "rule 2: topic: 't/${password}': there is no placeholder ${password}; there are "),
        ({"topic": "t/${a/b}"}, "rule 2: topic: 't/${a/b}': there is no placeholder ${a/b}; there are "),
        ({"topic": None, "topics": "t"}, "rule 2: topics: an array of texts is expected"),
        ({"topic": None, "topics": ["t", 1]}, "rule 2: topics: an array of texts is expected"),
        ({"topic": None, "topics": ["t", "#/"]}, "rule 2: topics: '#/': # must be a level of its own, and the last"),
        ({"qos": 3}, "rule 2: qos: 3 is none of 0, 1, 2"),
        ({"qos": [1, True]}, "rule 2: qos: True is none of 0, 1, 2"),
        ({"qos": "1,x"}, "rule 2: qos: 'x' is none of 0, 1, 2"),
        ({"qos": [[1]]}, "rule 2: qos: [1] is none of 0, 1, 2"),
        ({"qos": []}, "rule 2: qos: without one the rule never holds"),
        ({"retain": 2}, "rule 2: retain: 2 is none of true, false, all"),
        ({"retain": "yes"}, "rule 2: retain: 'yes' is none of true, false, all"),
        ({"retain": [True]}, "rule 2: retain: [True] is none of true, false, all"),
        ({"username_re": "("}, "rule 2: username_re: bad regular expression: "),
        ({"clientid_re": 1}, "rule 2: clientid_re: a text is expected"),
        ({"ipaddr": "10.0.0"}, "rule 2: ipaddr: '10.0.0' is no address, and no network such as 192.168.0.0/24"),
        ({"ip_addr": "10.0.0.1"}, "rule 2: ip_addr: there is no such field"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RuleError) as raised:
        RuleSet.from_items([GOOD, {**GOOD, **change}])
    assert str(raised.value).startswith(message)
    assert raised.value.number == 2


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "rules are an array"),
        ("#", "rules are an array"),
        (1, "rules are an array"),
        ([GOOD, "t"], "rule 2: a rule is an object"),
        ({"pub": ["t"], "write": ["t"]}, "'write' is none of pub, sub and all"),
        ({"pub": "t"}, "pub: an array of texts is expected"),
        ({"sub": [], "all": ["a", "#/"]}, "all: '#/': # must be a level of its own, and the last"),
    ],
)
def test_a_claim_that_is_none_is_refused(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        RuleSet.from_claim(value)


def test_a_claim_may_be_what_is_allowed() -> None:
    rules = RuleSet.from_claim({"pub": ["p/${clientid}"], "sub": ["eq s/#"], "all": ["a"]})
    asked = [
        ("publish", "p/c1", True),
        ("publish", "p/c2", None),
        ("subscribe", "p/c1", None),
        ("subscribe", "s/#", True),
        ("subscribe", "s/+", None),
        ("publish", "s/1", None),
        ("publish", "a", True),
        ("subscribe", "a", True),
    ]
    for action, topic, decided in asked:
        assert rules.decide(CLIENT, Request(action, topic)) is decided  # type: ignore[arg-type]


def test_a_claim_may_be_an_array() -> None:
    rules = RuleSet.from_claim([{"permission": "deny", "action": "pub", "topics": ["t"], "qos": 1, "retain": 0}])
    assert len(rules) == 1
    assert rules.decide(CLIENT, Request("publish", "t", 1)) is False
    assert rules.decide(CLIENT, Request("publish", "t", 1, True)) is None


@pytest.mark.parametrize("empty", [[], {}, {"pub": []}, {"pub": None}])
def test_a_claim_without_rules_decides_nothing(empty: object) -> None:
    assert RuleSet.from_claim(empty).decide(CLIENT, Request("publish", "t")) is None


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_fields = st.sampled_from([*GOOD, "topics", "qos", "retain", "zone", "username_re", "ipaddr"])


@given(st.dictionaries(_fields, _json | st.sampled_from(["allow", "all", "t/#", "eq t", "pub", 1, "2"])))
def test_whatever_comes_becomes_rules_or_a_clear_error(change: dict[str, Any]) -> None:
    said = ""
    try:
        RuleSet.from_claim([{**GOOD, **change}])
    except ValueError as error:
        said = str(error)
    assert not said or said.startswith("rule 1: ")
