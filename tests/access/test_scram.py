"""SCRAM: the example of RFC 7677, another implementation of the client, and peers that cheat."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramClient  # type: ignore[import-untyped]

from trio_broker.access.authentication import Challenge, Credentials, Verdict
from trio_broker.access.scram import ScramAuthenticator, ScramConversation, ScramKeys, ScramMethod
from trio_broker.protocol.reason_codes import ReasonCode

METHODS = ("SCRAM-SHA-256", "SCRAM-SHA-512")
CREDENTIALS = Credentials("c", None, None, "127.0.0.1", "tcp:default", 5)


async def challenged(conversation: Any, data: bytes | None) -> str:
    response = await conversation.respond(data)
    assert isinstance(response, Challenge)
    return (response.data or b"").decode()


async def decided(conversation: Any, data: bytes | None) -> Verdict:
    response = await conversation.respond(data)
    assert isinstance(response, Verdict)
    return response


async def exchange(authenticator: ScramAuthenticator, name: str, password: str) -> tuple[Verdict, Any]:
    client = ScramClient([authenticator.method], name, password)
    conversation = authenticator.begin(CREDENTIALS)
    client.set_server_first(await challenged(conversation, client.get_client_first().encode()))
    return await decided(conversation, client.get_client_final().encode()), client


@pytest.mark.parametrize("method", METHODS)
async def test_who_knows_the_password_gets_in(method: str) -> None:
    authenticator = ScramAuthenticator({"anna": "pencil"}, method)
    verdict, client = await exchange(authenticator, "anna", "pencil")
    assert (verdict.accepted, verdict.username, verdict.superuser) == (True, "anna", False)
    assert verdict.data is not None
    client.set_server_final(verdict.data.decode())  # raises where the server has not proved that it knows it


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("name", "password"), [("anna", "pen"), ("bert", "pencil"), ("Anna", "pencil")])
async def test_who_does_not_is_refused(method: str, name: str, password: str) -> None:
    verdict, _ = await exchange(ScramAuthenticator({"anna": "pencil"}, method), name, password)
    assert verdict == Verdict(ReasonCode.NOT_AUTHORIZED)


async def test_the_example_of_rfc_7677(monkeypatch: pytest.MonkeyPatch) -> None:
    """Section 3: user, pencil, 4096 iterations, and the proofs of both sides."""
    authenticator = ScramAuthenticator({})
    mechanism = authenticator._method.mechanism
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    authenticator._keys["user"] = ScramKeys(*mechanism.make_auth_info("pencil", iteration_count=4096, salt=salt))
    make_server = mechanism.make_server
    nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    monkeypatch.setattr(mechanism, "make_server", lambda keys: make_server(keys, s_nonce=nonce))
    conversation = authenticator.begin(CREDENTIALS)
    first = await challenged(conversation, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    assert first == "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    final = (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    verdict = await decided(conversation, final)
    assert verdict.data == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


async def test_a_client_may_leave_the_first_word_to_the_server() -> None:
    conversation = ScramAuthenticator({}).begin(CREDENTIALS)
    assert await conversation.respond(None) == Challenge(None)
    assert (await challenged(conversation, b"n,,n=user,r=abc")).startswith("r=abc")


async def test_the_unknown_look_like_the_known() -> None:
    """The same salt each time, and as long as a real one."""
    authenticator = ScramAuthenticator({"anna": "pencil"}, iterations=5000)
    salts = []
    for name in ("anna", "bert", "bert"):
        first = await challenged(authenticator.begin(CREDENTIALS), f"n,,n={name},r=abc".encode())
        _, salt, iterations = first.split(",")
        assert iterations == "i=5000"
        salts.append(base64.b64decode(salt.removeprefix("s=")))
    assert salts[1] == salts[2] != salts[0]
    assert {len(salt) for salt in salts} == {32}


async def test_a_user_who_is_removed_meanwhile() -> None:
    authenticator = ScramAuthenticator({"anna": "pencil"})
    client = ScramClient([authenticator.method], "anna", "pencil")
    conversation = authenticator.begin(CREDENTIALS)
    client.set_server_first(await challenged(conversation, client.get_client_first().encode()))
    authenticator.forget("anna")
    assert not (await decided(conversation, client.get_client_final().encode())).accepted


async def test_superusers_and_new_passwords() -> None:
    authenticator = ScramAuthenticator({"anna": "pencil"}, superusers=frozenset({"anna"}))
    authenticator.set_password("anna", "crayon")
    assert not (await exchange(authenticator, "anna", "pencil"))[0].accepted
    verdict, _ = await exchange(authenticator, "anna", "crayon")
    assert verdict.accepted
    assert verdict.superuser


@pytest.mark.parametrize("data", [b"", b"\xff", b"n,,", b"n,,n=", b"y,a,b", b"p=tls-unique,,n=u,r=x", b"\x00" * 100])
async def test_what_is_no_first_message_is_refused(data: bytes) -> None:
    assert not (await decided(ScramAuthenticator({"u": "p"}).begin(CREDENTIALS), data)).accepted


@given(first=st.text(), final=st.text(), is_first_right=st.booleans())
async def test_no_text_is_a_fault(first: str, final: str, is_first_right: bool) -> None:
    conversation = ScramAuthenticator({"u": "p"}).begin(CREDENTIALS)
    response = await conversation.respond(b"n,,n=u,r=abc" if is_first_right else first.encode("utf-8", "replace"))
    if isinstance(response, Challenge):
        assert not (await decided(conversation, final.encode("utf-8", "replace"))).accepted
    else:
        assert not response.accepted


async def test_no_second_first_word() -> None:
    conversation = ScramAuthenticator({"u": "p"}).begin(CREDENTIALS)
    await challenged(conversation, b"n,,n=u,r=abc")
    assert not (await decided(conversation, None)).accepted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({}, "SCRAM-SHA-1"), "no authentication method 'SCRAM-SHA-1'"),
        (({"anna": "\u0007"},), "user 'anna'"),
    ],
)
def test_wrong_settings(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScramAuthenticator(*arguments)


def test_too_few_iterations() -> None:
    with pytest.raises(ValueError, match="iteration"):
        ScramAuthenticator({"anna": "pencil"}, iterations=1000)


async def test_a_password_that_changes_during_the_exchange() -> None:
    """The old one is not right any more, though it was when the exchange began."""
    authenticator = ScramAuthenticator({"anna": "pencil"})
    client = ScramClient([authenticator.method], "anna", "pencil")
    conversation = authenticator.begin(CREDENTIALS)
    client.set_server_first(await challenged(conversation, client.get_client_first().encode()))
    authenticator.set_password("anna", "pen")
    assert not (await decided(conversation, client.get_client_final().encode())).accepted


@pytest.mark.parametrize("method", METHODS)
def test_keys_are_kept_without_the_password(method: str) -> None:
    made = ScramMethod(method)
    keys = made.keys("pencil")
    kept = keys.kept()
    assert ScramKeys.read(*kept) == keys
    assert "pencil" not in str(kept)
    assert repr(keys) == "ScramKeys(iterations=4096)"
    assert made.fits(keys)
    assert not any(ScramMethod(other).fits(keys) for other in METHODS if other != method)


@pytest.mark.parametrize(
    "kept",
    [
        *(["", "AAAA", "AAAA", 1], ["AAAA", "", "AAAA", 1], ["AAAA", "AAAA", "AAAA", 0], ["AAAA", "AAAA", "AAAA", "1"]),
        *(["A", "AAAA", "AAAA", 1], ["ä", "AAAA", "AAAA", 1], [1, "AAAA", "AAAA", 1], ["AAAA", "AAAA", "AAAA", True]),
        *(["AAAA"], []),
    ],
)
def test_keys_that_cannot_be_read(kept: list[Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        ScramKeys.read(*kept)


async def test_a_cost_that_was_changed_keeps_those_who_are_there() -> None:
    """The iterations are the user's own, whatever new ones are made with."""
    users = {"anna": ScramMethod("SCRAM-SHA-256", 5000).keys("pencil")}
    method = ScramMethod("SCRAM-SHA-256", 4096)
    client = ScramClient([method.name], "anna", "pencil")
    conversation = ScramConversation(method, users.get, lambda name, data: Verdict(username=name, data=data))
    client.set_server_first(await challenged(conversation, client.get_client_first().encode()))
    assert (await decided(conversation, client.get_client_final().encode())).username == "anna"
