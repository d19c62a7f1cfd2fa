"""What the claims of a token that was verified have to be, and what they give the client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_broker.access.asking import Action, Request, Subject
from trio_broker.access.authentication import Verdict
from trio_broker.access.templates import Template
from trio_broker.access.tokens import END_OF_TIME, LATEST, ClaimsPolicy, TokenRefused
from trio_broker.protocol.message import Origin

NOW = 1_700_000_000.0
FACTS = {"username": "u1", "clientid": "c1", "client_attrs.site": "x", "cert_common_name": "device-7"}


def verdict(
    claims: Mapping[str, Any], required: Mapping[str, str] | None = None, now: float = NOW, **policy: Any
) -> Verdict:
    templates = {name: Template(text) for name, text in (required or {}).items()}
    return ClaimsPolicy(templates, **policy).verdict(claims, now, FACTS.get)


def refusal(claims: Mapping[str, Any], required: Mapping[str, str] | None = None) -> str:
    with pytest.raises(TokenRefused) as caught:
        verdict(claims, required)
    return str(caught.value)


# -- times


@pytest.mark.parametrize(
    "said", [NOW + 1, NOW + 0.5, int(NOW) + 1, f"{NOW + 1:.0f}", f"{NOW + 0.5}", "1700000000.001", LATEST]
)
def test_it_counts_until_it_expires(said: object) -> None:
    found = verdict({"exp": said})
    assert found.accepted
    assert found.expire_at is not None
    assert NOW <= found.expire_at == min(float(said), END_OF_TIME)  # type: ignore[arg-type]


@pytest.mark.parametrize("said", [NOW, NOW - 0.5, int(NOW), "1700000000", "1", 0, "0", 1e-9])
def test_it_has_expired(said: object) -> None:
    assert refusal({"exp": said}) == "it has expired (exp)"


@pytest.mark.parametrize("said", [NOW, 0, 1, "1700000000", "1699999999.9", NOW - 0.001])
def test_it_counts_from_a_time_on(said: object) -> None:
    found = verdict({"nbf": said})
    assert found.accepted
    assert found.expire_at is None


@pytest.mark.parametrize("said", [NOW + 0.001, int(NOW) + 1, "1700000001", LATEST])
def test_it_does_not_count_yet(said: object) -> None:
    assert refusal({"nbf": said}) == "it is not valid yet (nbf)"


@pytest.mark.parametrize("claim", ["exp", "nbf"])
@pytest.mark.parametrize(
    "said",
    [
        None,
        True,
        False,
        -1,
        "-1",
        "",
        " ",
        "soon",
        " 1700000001",
        "1700000001\n",
        "1e99",
        "٣",
        "0x7fffffff",
        "17_000_000_000",
        "NaN",
        "inf",
        float("nan"),
        float("inf"),
        float("-inf"),
        LATEST + 1,
        10**400,
        [],
        [1_700_000_001],
        {},
    ],
)
def test_what_is_no_time(claim: str, said: object) -> None:
    assert refusal({claim: said}) == f"the claim {claim!r} is no time in seconds"


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers())))
def test_any_time_is_understood_or_refused(said: object) -> None:
    for claim in ("exp", "nbf"):
        refused = ""
        try:
            verdict({claim: said})
        except TokenRefused as error:
            refused = str(error)
        assert not refused or claim in refused


@pytest.mark.parametrize("said", [NOW + 3600, "soon", None, 10**400])
def test_when_it_was_issued_does_not_matter(said: object) -> None:
    """Clocks differ; `nbf` is there for those who mean it."""
    assert verdict({"iat": said}).accepted


def test_the_connection_may_outlast_the_token() -> None:
    assert verdict({"exp": NOW + 60}, expires=False).expire_at is None


def test_a_time_that_nobody_sees_is_the_end_of_time() -> None:
    assert verdict({"exp": LATEST}).expire_at == END_OF_TIME


# -- required claims


@pytest.mark.parametrize(
    ("required", "claims"),
    [
        ({}, {}),
        ({"sub": "${username}"}, {"sub": "u1"}),
        ({"sub": "${clientid}", "x": "y"}, {"sub": "c1", "x": "y", "z": 1}),
        ({"sub": "${client_attrs.site}/${clientid}"}, {"sub": "x/c1"}),
        ({"sub": "${cert_common_name}"}, {"sub": "device-7"}),
        ({"empty": ""}, {"empty": ""}),
        ({"aud": "broker"}, {"aud": "broker"}),
        ({"aud": "broker"}, {"aud": ["other", "broker"]}),
    ],
)
def test_claims_that_are_as_they_must_be(required: Mapping[str, str], claims: Mapping[str, Any]) -> None:
    assert verdict(claims, required).accepted


@pytest.mark.parametrize("said", ["u2", "U1", "u1 ", "", None, 1, True, ["u1"], {"u1": 1}])
def test_a_claim_that_is_different(said: object) -> None:
    assert refusal({"sub": said}, {"sub": "${username}"}) == "the claim 'sub' is not what it has to be"


@pytest.mark.parametrize("said", ["", "other", [], ["other"], [["broker"]], {"broker": 1}, None])
def test_another_audience(said: object) -> None:
    assert refusal({"aud": said}, {"aud": "broker"}) == "the claim 'aud' is not what it has to be"


def test_a_claim_that_is_missing() -> None:
    assert refusal({"username": "u1"}, {"sub": "${username}"}) == "the claim 'sub' is missing"
    assert refusal({"user": {"name": "u1"}}, {"user.name": "${username}"}) == "the claim 'user.name' is missing"


@pytest.mark.parametrize("said", ["", "undefined", "${peerhost}", None])
def test_what_is_not_known_of_the_client_is_equal_to_nothing(said: object) -> None:
    assert refusal({"sub": said}, {"sub": "${peerhost}"}) == "the claim 'sub' is not what it has to be"


def test_a_value_of_a_client_is_no_template() -> None:
    found = ClaimsPolicy({"sub": Template("${username}")}).verdict(
        {"sub": "${clientid}"}, NOW, {"username": "${clientid}", "clientid": "c1"}.get
    )
    assert found.accepted


def test_a_refusal_shows_no_value() -> None:
    for claims in ({"exp": "geheim"}, {"sub": "geheim"}, {"sub": "u1", "acl": [{"permission": "geheim" * 100}]}):
        assert len(refusal(claims, {"sub": "${username}"})) < 200
    assert "geheim" not in refusal({"exp": "geheim"}) + refusal({"sub": "geheim"}, {"sub": "${username}"})


# -- what they give


@pytest.mark.parametrize("said", [True, 1, "true", "1"])
def test_a_superuser(said: object) -> None:
    assert verdict({"is_superuser": said}).superuser


@pytest.mark.parametrize("said", [False, 0, None, "", "false", "0", "yes", 2, [], [True], {"true": True}])
def test_no_superuser(said: object) -> None:
    assert not verdict({"is_superuser": said}).superuser
    assert not verdict({}).superuser


def test_attributes() -> None:
    said = {"site": "x", "a-b_1": "", "n": 1, "none": None, "with space": "x", "nul": "\0", "": "x"}
    assert verdict({"client_attrs": said}).client_attrs == {"site": "x", "a-b_1": ""}
    others: list[Any] = [[], "x", None, 7]
    for other in others:
        assert verdict({"client_attrs": other}).client_attrs == {}


def decision(found: Verdict, action: Action, topic: str) -> bool | None:
    assert found.rules is not None
    return found.rules.decide(Subject(Origin("c1", "u1"), "c1", "u1"), Request(action, topic))


def test_lists_of_what_is_allowed_are_all_that_is_allowed() -> None:
    found = verdict({"acl": {"pub": ["p/${clientid}"], "sub": ["s/#"], "all": ["a"]}})
    assert decision(found, "publish", "p/c1") is True
    assert decision(found, "subscribe", "s/+/x") is True
    assert decision(found, "publish", "a") is True
    for action, topic in (("publish", "s/x"), ("publish", "p/c2"), ("subscribe", "#"), ("subscribe", "p/c1")):
        assert decision(found, action, topic) is False  # type: ignore[arg-type]


def test_empty_lists_allow_nothing() -> None:
    empty: list[Any] = [{}, {"pub": [], "sub": []}]
    for said in empty:
        found = verdict({"acl": said})
        assert decision(found, "publish", "a") is False
        assert decision(found, "subscribe", "$share/g/a") is False


def test_after_an_array_of_rules_others_are_asked() -> None:
    found = verdict({"acl": [{"permission": "deny", "action": "publish", "topic": "a"}]})
    assert decision(found, "publish", "a") is False
    assert decision(found, "publish", "b") is None
    assert decision(verdict({"acl": []}), "publish", "a") is None


def test_the_claim_with_rules_has_a_name() -> None:
    assert verdict({"acl": {"pub": ["a"]}}, rules="may").rules is None
    assert decision(verdict({"may": {"pub": ["a"]}, "acl": 7}, rules="may"), "publish", "a") is True


@pytest.mark.parametrize(
    "said",
    [
        None,
        7,
        "all",
        True,
        {"pub": "a"},
        {"pub": [7]},
        {"publish": ["a"]},
        [7],
        [{"permission": "allow"}],
        {"sub": ["a/#/b"]},
    ],
)
def test_rules_that_are_none_let_nobody_in(said: object) -> None:
    assert refusal({"acl": said}).startswith("the claim 'acl': ")


def test_rules_end_with_the_token() -> None:
    found = verdict({"acl": {}, "exp": NOW + 60}, expires=False)
    assert (found.expire_at, found.rules_expire_at) == (None, NOW + 60)
    assert verdict({"exp": NOW + 60}, expires=False).rules_expire_at is None
