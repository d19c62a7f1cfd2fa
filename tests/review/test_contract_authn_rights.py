"""The REST contract, read afresh: what a token lets a client do."""

from __future__ import annotations

from typing import Any

from api.live import Live, running
from review.authn import (
    IN,
    JWT,
    NOT_AUTHORIZED,
    PASSWORDS,
    add,
    deny_the_rest,
    may,
    may_subscribe,
    token,
    verdict,
)

from trio_broker.testing import Client


async def chain(live: Live, config: dict[str, Any]) -> None:
    await add(live, config, PASSWORDS)


async def came(live: Live, client_id: str = "c", username: str = "u", **claims: Any) -> Client:
    client = await live.connect(client_id, username=username, password=token(**claims).encode())
    assert client.connack.reason_code == IN
    return client


async def test_rights_in_a_token() -> None:
    rules = [
        {"permission": "deny", "action": "publish", "topic": "a/secret"},
        {"permission": "allow", "action": "publish", "topic": "a/#"},
        {"permission": "allow", "action": "subscribe", "topics": ["b/#", "d/${clientid}"]},
        {"permission": "allow", "action": "all", "topic": "e/${username}"},
        {"permission": "allow", "action": "publish", "topic": "f", "qos": [1], "retain": False},
    ]
    async with running() as live:
        await deny_the_rest(live)
        await add(live, JWT)
        kinds = {"pub": ["a/#"], "sub": ["b/#"], "all": ["c", "${clientid}/${username}"]}
        client = await came(live, acl=kinds)
        assert [await may(client, topic) for topic in ("a/1", "b/1", "c", "c/u", "d")] == [
            True,
            False,
            True,
            True,
            False,
        ]
        assert [await may_subscribe(client, one) for one in ("a/1", "b/+", "c", "c/u", "#")] == [
            False, True, True, True, False,
        ]  # fmt: skip
        client = await came(live, acl=rules)
        assert [await may(client, topic) for topic in ("a/1", "a/secret", "b/1", "e/u", "e/v", "f")] == [
            True, False, False, True, False, True,
        ]  # fmt: skip
        assert [await may_subscribe(client, one) for one in ("a/1", "b/1", "d/c", "d/x", "e/u")] == [
            False, True, True, False, True,
        ]  # fmt: skip
        answer = await client.publish("f", b"x", qos=1, retain=True)
        assert answer is not None
        assert answer.reason_code == NOT_AUTHORIZED
        client = await came(live)
        assert await may(client, "a/1") is False


async def test_a_name_in_a_right_is_one_level_and_no_wildcard() -> None:
    acl = {"all": ["room/${username}/#", "${username}", "${username}/x"]}
    async with running() as live:
        await deny_the_rest(live)
        await add(live, JWT)
        for name in ("+", "#", "a/b", "${clientid}", "$SYS", ""):
            client = await live.connect("c", username=name, password=token(acl=acl).encode())
            assert client.connack.reason_code == IN
            for topic in ("room/other/1", "a/b", "a/b/x", "other", "other/x", "$SYS/x", "room//1", "c", "c/x"):
                assert (name, topic, await may(client, topic)) == (name, topic, False)
            for wanted in ("room/+/#", "room/#", "#", "+", "+/x", "$SYS/#", "room/other/#"):
                assert (name, wanted, await may_subscribe(client, wanted)) == (name, wanted, False)


async def test_another_name_for_rights() -> None:
    async with running() as live:
        await deny_the_rest(live)
        await add(live, JWT, acl_claim_name="rights")
        client = await came(live, rights={"pub": ["a"]}, acl={"pub": ["b"]})
        assert [await may(client, topic) for topic in ("a", "b")] == [True, False]


BAD_RIGHTS: list[Any] = ["#", 7, True, {"pub": "#"}, {"pub": [7]}, {"all": [["#"]]}, ["#"], [{"permission": "allow"}],
     [{"permission": "maybe", "action": "all", "topic": "#"}], [{"permission": "allow", "action": "fly", "topic": "#"}],
     [{"permission": "allow", "action": "all", "topic": "#", "qos": 9}]]  # fmt: skip


async def test_rights_that_cannot_be_read() -> None:
    async with running() as live:
        await chain(live, JWT)
        for acl in BAD_RIGHTS:
            assert (acl, await verdict(live, token(acl=acl))) == (acl, "reject")


async def test_superusers_by_token() -> None:
    async with running() as live:
        await deny_the_rest(live)
        await add(live, JWT)
        for value, superuser in (
            (True, True),
            (False, False),
            (None, False),
            ("false", False),
            (0, False),
            ([], False),
        ):
            answer = await live.connect("c", username="u", password=token(is_superuser=value).encode())
            if answer.connack.reason_code == IN:
                assert (value, await may(answer, "t")) == (value, superuser)
            else:
                assert not isinstance(value, bool)


async def test_attributes_by_token() -> None:
    async with running() as live:
        await deny_the_rest(live)
        await add(live, JWT)
        client = await came(
            live, client_attrs={"site": "north"}, acl={"pub": ["${client_attrs.site}/1", "x/${client_attrs.y}"]}
        )
        assert [await may(client, topic) for topic in ("north/1", "south/1", "x/", "x/y")] == [
            True,
            False,
            False,
            False,
        ]
