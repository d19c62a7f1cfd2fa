"""EMQX's acl.conf: what its terms mean, and what is said about those that mean nothing."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_broker.access.acl_file import LONGEST, AclError, read_acl
from trio_broker.access.asking import Request, Subject
from trio_broker.protocol.message import Origin


def decide(text: str, action: Any, topic: str, qos: int = 0, retain: bool = False, **facts: Any) -> bool | None:
    facts = {"client_id": "c1", "username": "u1", "peer_host": "10.0.0.1", **facts}
    subject = Subject(Origin(facts["client_id"], facts["username"]), **facts)
    return read_acl(text).decide(subject, Request(action, topic, qos, retain))


# The rules that EMQX comes with.
DEFAULT = r"""
%%--------------------------------------------------------------------
%% Allow the dashboard to look at the system topics
{allow, {username, {re, "^dashboard$"}}, subscribe, ["$SYS/#"]}.

{allow, {ipaddr, "127.0.0.1"}, all, ["$SYS/#", "#"]}.

{deny, all, subscribe, ["$SYS/#", {eq, "#"}, {eq, "+/#"}]}.

{allow, all}.
"""


def test_the_rules_that_emqx_comes_with() -> None:
    assert decide(DEFAULT, "subscribe", "$SYS/#") is False
    assert decide(DEFAULT, "subscribe", "$SYS/#", username="dashboard") is True
    assert decide(DEFAULT, "subscribe", "$SYS/#", username="dashboards") is False
    assert decide(DEFAULT, "subscribe", "#", peer_host="127.0.0.1") is True
    assert decide(DEFAULT, "subscribe", "#") is False
    assert decide(DEFAULT, "subscribe", "+/#") is False
    assert decide(DEFAULT, "subscribe", "t/#") is True
    assert decide(DEFAULT, "publish", "t") is True


@pytest.mark.parametrize(
    ("who", "holds", "holds_not"),
    [
        ("all", {}, None),
        ('{user, "u1"}', {}, {"username": "u11"}),
        ('{username, "u1"}', {}, {"username": None}),
        ('{username, <<"u1">>}', {}, {"username": "U1"}),
        ('{username, {re, "^u"}}', {"username": "ux"}, {"username": "xu"}),
        ('{client, "c1"}', {}, {"client_id": "c"}),
        ('{clientid, "c1"}', {}, {"client_id": "c2"}),
        ('{clientid, {re, "1$"}}', {"client_id": "x1"}, {"client_id": "1x"}),
        ('{ipaddr, "10.0.0.1"}', {}, {"peer_host": "10.0.0.2"}),
        ('{ipaddr, "10.0.0.0/8"}', {"peer_host": "::ffff:10.1.1.1"}, {"peer_host": ""}),
        ('{ipaddrs, ["::1", "10.0.0.0/24"]}', {"peer_host": "::1"}, {"peer_host": "10.0.1.1"}),
        ('{client_attr, "team", "red"}', {"client_attrs": {"team": "red"}}, {"client_attrs": {"team": "blue"}}),
        ('{client_attr, "team", {re, "^r"}}', {"client_attrs": {"team": "red"}}, {}),
        ('{zone, "z1"}', {"zone": "z1"}, {}),
        ('{listener, {re, "^ssl:"}}', {"listener": "ssl:default"}, {"listener": "tcp:default"}),
        ('{\'and\', [{user, "u1"}, {client, "c1"}]}', {}, {"client_id": "c2"}),
        ("{'and', [all, {user, \"u1\"}]}", {}, {"username": "u2"}),
        ("{'and', [all]}", {}, None),
        ('{\'or\', [{user, "u2"}, {client, "c1"}]}', {"username": "u2", "client_id": "c2"}, {"client_id": "c2"}),
        ("{'or', [{user, \"u2\"}, all]}", {}, None),
        ("{'or', [{'and', [{user, \"u1\"}, {client, \"c2\"}]}]}", {"client_id": "c2"}, {}),
    ],
)
def test_who_is_meant(who: str, holds: dict[str, Any], holds_not: dict[str, Any] | None) -> None:
    text = f'{{allow, {who}, all, ["t"]}}.'
    assert decide(text, "publish", "t", **holds) is True
    if holds_not is not None:
        assert decide(text, "publish", "t", **holds_not) is None


@pytest.mark.parametrize(
    ("action", "asked", "asked_not"),
    [
        ("all", ("publish", 0, True), None),
        ("publish", ("publish", 2, False), ("subscribe", 0, False)),
        ("subscribe", ("subscribe", 2, False), ("publish", 0, False)),
        ("{publish, []}", ("publish", 0, False), ("subscribe", 0, False)),
        ("{publish, [{qos, 1}, {retain, false}]}", ("publish", 1, False), ("publish", 1, True)),
        ("{publish, [{qos, 1}, {qos, [2]}]}", ("publish", 2, False), ("publish", 0, True)),
        ("{publish, [{retain, true}]}", ("publish", 2, True), ("publish", 0, False)),
        ("{publish, [{retain, all}]}", ("publish", 2, True), ("subscribe", 0, False)),
        ("{subscribe, [{qos, [1, 2]}]}", ("subscribe", 1, False), ("subscribe", 0, False)),
        ("{subscribe, [{retain, true}]}", ("subscribe", 1, False), ("publish", 0, True)),
        ("{all, [{qos, 0}]}", ("subscribe", 0, False), ("publish", 1, False)),
    ],
)
def test_what_is_done(action: str, asked: tuple[Any, ...], asked_not: tuple[Any, ...] | None) -> None:
    text = f'{{deny, all, {action}, ["t"]}}.'
    assert decide(text, asked[0], "t", *asked[1:]) is False
    if asked_not is not None:
        assert decide(text, asked_not[0], "t", *asked_not[1:]) is None


@pytest.mark.parametrize(
    ("topic", "holds", "holds_not"),
    [
        ('"t/#"', "t/a", "x"),
        ('<<"t/+">>', "t/a", "t/a/b"),
        ('<<"t/\u00e9"/utf8>>', "t/\u00e9", "t/e"),
        ('"t/${clientid}"', "t/c1", "t/c2"),
        ('"t/%c/%u"', "t/c1/u1", "t/%c/%u"),
        ('"t/%cx"', "t/%cx", "t/c1x"),
        ('"eq t/a"', "t/a", "eq t/a"),
        ('{eq, "t/%c"}', "t/%c", "t/c1"),
        ('{eq, "t/${clientid}"}', "t/c1", "t/x"),
        ('"t/" "a"', "t/a", "t/"),
        (r'"t/\"\\\x{e9}\x41\101\s\a"', 't/"\\\u00e9AA a', "t/"),
        (r'"t/a\tb"', "t/a\tb", "t/a"),
        (r'"t/\^A"', "t/\x01", "t/^A"),
        ('"x", "y"', "y", "z"),
        ('"\u5ba4\u5185/\U0001f321"', "\u5ba4\u5185/\U0001f321", "t"),
    ],
)
def test_which_topics(topic: str, holds: str, holds_not: str) -> None:
    text = f"{{allow, all, publish, [{topic}]}}."
    assert decide(text, "publish", holds) is True
    assert decide(text, "publish", holds_not) is None


def test_all_that_is_denied_is_all() -> None:
    """EMQX takes it for `#`, which leaves the topics with a `$` open."""
    for asked in ("t", "$SYS/uptime"):
        assert decide("{deny, all}.", "publish", asked) is False
    for asked in ("#", "$SYS/#", "t"):
        assert decide("{deny, all}.", "subscribe", asked) is False
    assert decide("{allow, all}.", "subscribe", "#") is True
    assert decide("{allow, all}.", "subscribe", "$SYS/#") is None


def test_texts_may_be_laid_out_freely() -> None:
    text = """\ufeff%% first
    { allow , {'user', "u1"}, % the one
      publish, [
        "a",  "b"
      ] } . {deny, all}.%%end"""
    assert decide(text, "publish", "b") is True
    assert decide(text, "publish", "c") is False
    assert decide("", "publish", "c") is None
    assert decide("% nothing", "publish", "c") is None
    assert decide("{allow, all, publish, []}.", "publish", "c") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{allow, all}", "line 1: a rule ends with a full stop, not with the end of the text"),
        ("{allow, all}.\n{deny, all}\n{allow, all}.", "line 3: a rule ends with a full stop, not with '{'"),
        ("{allow,\n all", "line 2: this goes on with a comma, or ends with }, not with the end of the text"),
        ("{allow, all].", "line 1: this goes on with a comma, or ends with }, not with ']'"),
        ("{allow,", "line 1: the text ends within a rule"),
        ("{allow, all}. .", "line 1: '.' is out of place"),
        ('\n\n{allow, all, all, ["t]}.', "line 3: a text begins here and does not end"),
        ("{'allow, all}.", "line 1: a text begins here and does not end"),
        ("Allow.", "line 1: 'A' is not understood"),
        ("{allow, \u00e9}.", r"line 1: '\xe9' is not understood"),
        ("allow.", "line 1: a rule is {allow, WHO, ACTION, TOPICS}. or {allow, all}., not allow"),
        ('{allow, all, all}.', "line 1: a rule is {allow, WHO, ACTION, TOPICS}. or {allow, all}., not "),
        ("{permit, all}.", "line 1: permit is none of allow, deny"),
        ('{"allow", all}.', 'line 1: "allow" is none of allow, deny'),
        ('{allow, {user, "u"}}.', 'line 1: {user, "u"} is none of all'),
        ('{allow, nobody, all, ["t"]}.', "line 1: nobody says nobody; there are all, {username, U}, "),
        ('{allow, {user, "a", "b"}, all, ["t"]}.', 'line 1: {user, "a", "b"} says nobody; there are all, '),
        ('{allow, {}, all, ["t"]}.', "line 1: {} says nobody; there are all, "),
        ('{allow, {user, admin}, all, ["t"]}.', 'line 1: a text "..." is expected, not admin'),
        ('{allow, {user, {like, "u"}}, all, ["t"]}.', 'line 1: a text "..." is expected, not {like, "u"}'),
        ('{allow, {user,\n{re, "("}}, all, ["t"]}.', "line 2: bad regular expression: "),
        ('{allow, {ipaddr, "10.0.0"}, all, ["t"]}.', "line 1: '10.0.0' is no address, and no network such as "),
        ('{allow, {ipaddrs, "::1"}, all, ["t"]}.', 'line 1: the addresses are a list [...], not "::1"'),
        ("{allow, {'and', []}, all, [\"t\"]}.", "line 1: 'and' of no condition"),
        ("{allow, {'or', all}, all, [\"t\"]}.", "line 1: the conditions are a list [...], not all"),
        ('{allow, all, pubsub, ["t"]}.', "line 1: pubsub is none of publish, subscribe, all"),
        ('{allow, all, {publish}, ["t"]}.', "line 1: an action is publish, subscribe, all or {publish, ["),
        ('{allow, all, {publish, 1}, ["t"]}.', "line 1: the options are a list [...], not 1"),
        ('{allow, all, {publish, [qos]}, ["t"]}.', "line 1: qos is no option; there are {qos, 1}, "),
        ('{allow, all, {publish, [{qos, 3}]}, ["t"]}.', "line 1: 3 is none of the QoS 0, 1 and 2"),
        ('{allow, all, {publish, [{qos, [x]}]}, ["t"]}.', "line 1: x is none of the QoS 0, 1 and 2"),
        ('{allow, all, {publish, [{qos, []}]}, ["t"]}.', "line 1: a rule without QoS never holds"),
        ('{allow, all, {publish, [{retain, 1}]}, ["t"]}.', "line 1: 1 is none of true, false, all"),
        ('{allow, all, all, "t"}.', 'line 1: the topics are a list [...], not "t"'),
        ('{allow, all, all, [t]}.', 'line 1: a text "..." is expected, not t'),
        ('{allow, all, all, [{ne, "t"}]}.', "line 1: ne is none of eq"),
        ('{allow, all, all, ["t",\n"a/#/b"]}.', 'line 2: "a/#/b" is no topic: # must be a level'),
        ('{allow, all, all, [""]}.', 'line 1: "" is no topic: a topic filter is empty'),
        ('{allow, all, all, ["${x}"]}.', 'line 1: "${x}" is no topic: there is no placeholder ${x}; there are '),
        ('{allow, all, all, [<<"t"/latin1>>]}.', "line 1: a binary may go on with /utf8, not with 'latin1'"),
        ('{allow, all, all, [<<"t"]}.', 'line 1: a binary is <<"TEXT">> and ends with >>, not with \']\''),
        (r'{allow, all, all, ["\x{110000}"]}.', r"line 1: \x{110000} is no character"),
        (r'{allow, all, all, ["\x{d800}"]}.', r"line 1: \x{d800} is no character"),
        ("{allow, all, all, [1.5]}.", "line 1: this goes on with a comma, or ends with ], not with '.'"),
        ("[" * 17, "line 1: more than 16 tuples and lists within each other"),
        ("{" * 100_000, "line 1: more than 16 tuples and lists within each other"),
        (" " * (LONGEST + 1), f"line 1: longer than {LONGEST} characters"),
        ("12345678901234567890123.", "line 1: '1' is not understood"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line(text: str, message: str) -> None:
    with pytest.raises(AclError, match="^" + re.escape(message)) as raised:
        read_acl(text)
    assert f"line {raised.value.line}: {raised.value.reason}" == str(raised.value)


_PIECES = ["{", "}", "[", "]", ",", ".", "<<", ">>", '"', "'", "\\", "\\x{", "%", "\n", " ", "/", "$", "é", "1", "-1"]
_PIECES += ["allow", "deny", "all", "publish", "{qos,1}", "{re,", '"t/#"', "'and'", "{eq,", '"${clientid}"', "/utf8"]
_PIECES += ["{allow, all}.", '{allow, {user, "u"}, all, ["t"]}.', "\0", "\ud800", "{ipaddr,", '"10.0.0.0/8"', "{user,"]


@given(st.lists(st.sampled_from(_PIECES), max_size=30).map("".join) | st.text(max_size=60))
@example('{allow, all, all, ["\ud800"]}.')
@example('{allow, {user, "\ud800"}, all, ["t"]}.')
@example('{allow, {user, {re, "\ud800"}}, all, ["t"]}.')
@example(r'{allow, {user, {re, "\0"}}, all, ["t\0"]}.')
def test_whatever_the_text_is_it_becomes_rules_or_a_line_of_complaint(text: str) -> None:
    told = "line 1: "
    try:
        read_acl(text)
    except AclError as error:
        told = str(error)
    assert re.match(r"line [0-9]+: .", told + ".")
