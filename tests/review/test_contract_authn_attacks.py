"""The REST contract, read afresh: names that mean more than they say, and what refusals give away."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
import trio
from api.live import running
from api.operations import shows
from review.authn import (
    BAD_USER,
    BOTH_BAD,
    BOTH_IN,
    IMPORT,
    IN,
    LEVELS,
    NOT_AUTHORIZED,
    PASSWORD_ID,
    PASSWORDS,
    USERS,
    add,
    answers,
    code,
    codes,
    connect_bytes,
    deny_the_rest,
    may,
    may_subscribe,
    path,
    stays,
    user,
)
from review.contract import done, failed, got, listed

from trio_broker.protocol.packets import ConnAck, Will
from trio_broker.testing import open_client

LONGEST = 65_535
NAMES = [
    "+", "#", "/", "a/b", "+/#", "..", ".", "../..", "%2e%2e", "%2F", "%", "a%", "?", "?page=1", "&", "a b",
    " a", "a ", "\t", "$SYS", "${username}", "${clientid}", "%u", "%c", "users", "import_users", "status",
    "'; DROP TABLE users; --", '"', "\\", "\u202eadmin", "\u200badmin", "\ufeffadmin", "caf\u00e9",
    "cafe\u0301", "\u0430dmin", "ﬁ", "İ", "ß", "ẞ", "🔑", "\U0010ffff", "\u0001", "\x7f", "\x85", "\ufffe",
    "null", "undefined", "true", "0", "-1", "1e5", "[]", "{}", "*", "_all", "CON", "~", "\n",
]  # fmt: skip


def one(name: str) -> str:
    """A path that no client shortens."""
    return path(PASSWORD_ID, "users", name).replace(".", "%2E")


async def kept(live: Any, name: str) -> bool:
    """Whether this user name was taken; where not, it is a clear 400."""
    answer = await live.api.post(USERS, json={"user_id": name, "password": f"of {name}"})
    if answer.status_code == 201:
        assert answer.json() == {"user_id": name, "is_superuser": False}
        return True
    failed(answer, 400, "BAD_REQUEST")
    return False


@shows("GET /authentication/:id/users/:user_id", "DELETE /authentication/:id/users/:user_id")
async def test_every_name_is_one_user_and_no_other() -> None:
    async with running() as live:
        await add(live, PASSWORDS)
        names = [name for name in NAMES if await kept(live, name)]
        assert {name for name in NAMES if name not in names} <= {"\u0001", "\x7f", "\x85", "\ufffe", "\n", "\t"}
        assert await listed(live, USERS, "user_id", limit=1000) == set(names)
        for name in names:
            assert (await got(live, one(name)))["user_id"] == name
            assert (name, await codes(live, name, f"of {name}")) == (name, BOTH_IN)
        for number, name in enumerate(names):
            other = names[number - 1]
            assert (name, await code(live, name, f"of {other}")) == (name, BAD_USER)
        for name in names:
            done(await live.api.delete(one(name)))
        assert await listed(live, USERS, "user_id") == set()


ALIKE: list[tuple[str, list[str]]] = [
    (
        "admin",
        [
            "Admin",
            "ADMIN",
            " admin",
            "admin ",
            "admin\u200b",
            "\u0430dmin",
            "\uff41dmin",
            "adm\u0131n",
            "admin\u0301",
        ],
    ),
    ("café", ["cafe\u0301", "cafe", "CAFÉ"]),
    ("cafe\u0301", ["caf\u00e9", "cafe"]),
    ("ﬁ", ["fi"]),
    ("\u212b", ["\u00c5", "A\u030a"]),
    ("ẞ", ["ß", "ss", "SS"]),
    ("a", ["a/", "/a", "a/..", "./a", "a%", "%61", "a\t"]),
    ("%61", ["a"]),
    ("\u0627\u0644", ["\ufedf"]),
]


async def test_what_looks_alike_is_somebody_else() -> None:
    async with running() as live:
        await add(live, PASSWORDS)
        for name, like in ALIKE:
            assert await kept(live, name)
            shown = f"of {name}"
            assert await codes(live, name, shown) == BOTH_IN
            for other in [*like, *{unicodedata.normalize(form, name) for form in ("NFC", "NFD", "NFKC", "NFKD")}]:
                if other != name:
                    assert (other, await code(live, other, shown)) == (other, BAD_USER)
            await user(live, "u", name)
            for other in like:  # passwords are bytes, too
                assert (other, await code(live, "u", other)) == (other, BAD_USER)
            assert await code(live, "u", name) == IN
            for gone in (name, "u"):
                done(await live.api.delete(one(gone)))


async def test_names_as_long_as_mqtt_can_say() -> None:
    async with running() as live:
        await add(live, PASSWORDS)
        for letter, size in (("x", 1), ("ä", 2), ("🔑", 4)):
            name = letter * (LONGEST // size)
            name += "x" * (LONGEST - len(name.encode()))
            answer = await live.api.post(USERS, json={"user_id": name, "password": "p"})
            assert answer.status_code in (201, 400)
            taken = answer.status_code == 201
            assert await codes(live, name, "p") == (BOTH_IN if taken else BOTH_BAD)
            assert await codes(live, name[:-1], "p") == BOTH_BAD
            if taken:
                failed(await live.api.post(USERS, json={"user_id": name, "password": "p"}), 409, "ALREADY_EXISTS")
        answer = await live.api.post(USERS, json={"user_id": "x" * (LONGEST + 1), "password": "p"})
        assert answer.status_code in (201, 400)


async def test_passwords_as_long_as_mqtt_can_say() -> None:
    async with running() as live:
        await add(live, PASSWORDS)
        longest = "ä" * (LONGEST // 2) + "x"
        await user(live, "u", longest)
        assert await codes(live, "u", longest) == BOTH_IN
        assert await codes(live, "u", longest[:-1]) == BOTH_BAD
        for password in ("x" * (LONGEST + 1), "x" * 1_000_000):
            answer = await live.api.post(USERS, json={"user_id": "v", "password": password})
            assert answer.status_code in (201, 400)
        await user(live, "w", "")  # nobody needs to like it, but it is no password, not any
        assert await codes(live, "w", "x") == BOTH_BAD
        assert await codes(live, "w", None) == BOTH_BAD


async def test_bcrypt_does_not_stop_in_the_middle() -> None:
    """A hash that looks at 72 bytes, or up to a NUL, must not let in who knows the beginning."""
    async with running() as live:
        await add(live, PASSWORDS, password_hash_algorithm={"name": "bcrypt", "salt_rounds": 5})
        for name, password in (("long", "x" * 73), ("nul", "x\0y"), ("fits", "x" * 72)):
            answer = await live.api.post(USERS, json={"user_id": name, "password": password})
            assert answer.status_code == 201 or failed(answer, 400, "BAD_REQUEST")
        assert await code(live, "long", "x" * 72) == BAD_USER
        assert await code(live, "nul", b"x") == BAD_USER
        assert await code(live, "nul", b"x\0z") == BAD_USER
        assert await code(live, "fits", "x" * 72) == IN
        assert await code(live, "fits", "x" * 73) == BAD_USER
        assert await code(live, "fits", b"x" * 72 + b"\0y") == BAD_USER


async def test_an_empty_name_is_not_no_name() -> None:
    async with running() as live:
        await add(live, PASSWORDS)
        answer = await live.api.post(USERS, json={"user_id": "", "password": "p"})
        for name in ("undefined", "null", "None", "nil", "anonymous"):
            await user(live, name, "p")
        assert answer.status_code == 201 or failed(answer, 400, "BAD_REQUEST")
        assert await code(live, "", "p") == (IN if answer.status_code == 201 else BAD_USER)
        assert await code(live, None, "p") == BAD_USER
        assert await codes(live, None, None) == BOTH_BAD


async def test_texts_that_are_no_unicode() -> None:
    json_type = {"content-type": "application/json"}
    async with running() as live:
        await add(live, PASSWORDS)
        for body in (
            rb'{"user_id":"\ud800","password":"p"}',
            rb'{"user_id":"a\udfff","password":"p"}',
            rb'{"user_id":"u","password":"\ud800"}',
            b'{"user_id":"\xed\xa0\x80","password":"p"}',
            b'{"user_id":"\xff","password":"p"}',
            b'{"user_id":"\xc0\xaf","password":"p"}',
            b'{"user_id":"a\x00b","password":"p"}',
        ):
            failed(await live.api.post(USERS, content=body, headers=json_type), 400, "BAD_REQUEST")
            answer = await live.api.post(f"{IMPORT}?type=plain", content=b"[" + body + b"]", headers=json_type)
            assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        for name in ("%ff", "%ed%a0%80", "%00", "a%00b", "%c0%ae%c0%ae"):
            for method in ("GET", "DELETE"):
                answer = await live.api.request(method, f"{USERS}/{name}")
                assert answer.status_code in (400, 404), answer.text
        assert await listed(live, USERS, "user_id") == set()


@pytest.mark.parametrize("level", LEVELS)
async def test_connects_that_are_no_unicode(level: int) -> None:
    """MQTT: a server closes the connection; nobody is looked up."""
    async with running() as live:
        await add(live, PASSWORDS)
        await user(live, "u", "p")
        for bad in (b"\xed\xa0\x80", b"\xff", b"\xc0\xaf", b"u\0", b"\0", b"u\0x"):
            for client_id, username in ((b"c", bad), (bad, b"u")):
                packets = await answers(live, client_id, username, b"p", level)
                assert [getattr(packet, "reason_code", IN) != IN for packet in packets] in ([], [True]), (bad, packets)
        assert (await got(live, path(PASSWORD_ID, "status")))["metrics"]["total"] == 0
        assert [type(packet) for packet in await answers(live, b"c", b"u", b"p", level)] == [ConnAck]


@pytest.mark.parametrize("algorithm", [{"name": "sha256"}, {"name": "bcrypt", "salt_rounds": 5}, {"name": "plain"}])
@pytest.mark.parametrize("level", LEVELS)
async def test_a_refusal_does_not_tell_who_is_known(level: int, algorithm: dict[str, Any]) -> None:
    async with running() as live:
        await add(live, PASSWORDS, password_hash_algorithm=algorithm)
        await user(live, "known", "right")
        seen = [
            [repr(packet) for packet in await answers(live, b"c", username, password, level)]
            for username, password in (
                (b"known", b"wrong"),
                (b"known", b""),
                (b"known", b"right "),
                (b"known", b"\xff\xfe"),
                (b"known", b"x" * LONGEST),
                (b"stranger", b"wrong"),
                (b"stranger", b"right"),
                (b"stranger", b""),
                (b"stranger", b"x" * LONGEST),
                (b"x" * LONGEST, b"right"),
                (b"", b""),
                (b"known", None),
                (b"stranger", None),
                (None, None),
            )
        ]
        assert len(seen[0]) == 1
        assert all(one == seen[0] for one in seen), seen
        (packet,) = await answers(live, b"c", b"known", b"right", level)
        assert isinstance(packet, ConnAck)
        assert packet.reason_code == IN


async def test_a_refused_client_takes_nothing_over() -> None:
    async with running() as live:
        await add(live, PASSWORDS)
        await user(live, "u", "p")
        client = await live.connect("mine", username="u", password=b"p")
        await client.subscribe("t", 1)
        for username, password in (("u", "x"), ("v", "p"), (None, None)):
            assert await codes(live, username, password, "mine") == BOTH_BAD
        await stays(client)
        row = await got(live, "/clients/mine")
        assert (row["connected"], row["username"], row["subscriptions_cnt"]) == (True, "u", 1)
        for name in ("another", "c"):
            assert await codes(live, "u", "wrong", name) == BOTH_BAD
            assert (await live.api.get(f"/clients/{name}")).status_code == 404


@pytest.mark.parametrize("algorithm", [{"name": "sha256"}, {"name": "bcrypt", "salt_rounds": 6}])
@pytest.mark.parametrize("level", LEVELS)
async def test_what_stands_behind_a_refused_connect_is_not_done(level: int, algorithm: dict[str, Any]) -> None:
    """Not before the password was looked at, and not after it; nor does the will count."""
    no_properties = b"\0" if level == 5 else b""
    publish = b"\x30" + bytes([4 + len(no_properties)]) + b"\0\x01t" + no_properties + b"!"
    subscribe = b"\x82" + bytes([6 + len(no_properties)]) + b"\0\x01" + no_properties + b"\0\x01t\0"
    async with running() as live:
        await add(live, PASSWORDS, password_hash_algorithm=algorithm)
        await user(live, "u", "p")
        watcher = await live.connect("watcher", username="u", password=b"p")
        await watcher.subscribe("#", 0)
        for username, password in ((b"u", b"wrong"), (b"v", b"p"), (b"u", None)):
            async with open_client(live.broker, level=level, connect=False) as client:
                await client.send_bytes(connect_bytes(b"c", username, password, level) + publish + subscribe)
                with trio.fail_after(60):
                    await client.wait_ended()
                assert [type(packet) for packet in client.inbox] == [ConnAck]
            will = Will("t", b"last will")
            async with open_client(
                live.broker, client_id="c", level=level, will=will, username=username.decode(), password=password
            ) as client:
                assert client.connack.reason_code == BAD_USER
        client = await live.connect("c", username="u", password=b"p", level=level)
        await client.publish("t", b"first")
        assert (await watcher.receive()).payload == b"first"
        assert await listed(live, "/subscriptions", "clientid") == {"watcher"}


async def test_a_name_in_a_rule_is_one_level_and_no_wildcard() -> None:
    where = "/authorization/sources/built_in_database"
    async with running() as live:
        await deny_the_rest(live)
        if (await live.api.get(where)).status_code == 404:
            answer = await live.api.post("/authorization/sources", json={"type": "built_in_database", "enable": True})
            assert answer.status_code == 204, answer.text
        topics = ("room/${username}/#", "${clientid}/x")
        rules = [{"topic": topic, "permission": "allow", "action": "all"} for topic in topics]
        done(await live.api.post(f"{where}/rules/all", json={"rules": rules}))
        await add(live, PASSWORDS)
        for name in ("+", "#", "a/b", "${clientid}", "${username}", "$SYS", "%c", ".."):
            await user(live, name, "p")
            client = await live.connect(name, username=name, password=b"p")
            assert client.connack.reason_code == IN
            for topic in ("room/plain/1", "room/other/1", "plain/x", "a/x", "room/a/1", "$SYS/x", "b/x"):
                assert (name, topic, await may(client, topic)) == (name, topic, False)
            for wanted in ("room/+/#", "room/#", "#", "+/x", "room/plain/#", "$SYS/#", "plain/x"):
                assert (name, wanted, await may_subscribe(client, wanted)) == (name, wanted, False)
        await user(live, "plain", "p")
        plain = await live.connect("plain", username="plain", password=b"p")
        assert [await may(plain, topic) for topic in ("room/plain/1", "plain/x", "room/other/1")] == [True, True, False]


async def test_bans_hold_whoever_knows_the_password() -> None:
    async with running() as live:
        await add(live, PASSWORDS)
        for name in ("u", "v", "w"):
            await user(live, name, "p")
        here = await live.connect("here", username="u", password=b"p")
        for kind, who in (("username", "u"), ("clientid", "bad"), ("username_re", "^v")):
            answer = await live.api.post("/banned", json={"as": kind, "who": who})
            assert answer.status_code == 200, answer.text
        for username, client_id in (("u", "c"), ("w", "bad"), ("v", "c")):
            assert await codes(live, username, "p", client_id) == (NOT_AUTHORIZED, 0x8A)
        await stays(here)  # only a banned client id is kicked
        assert await codes(live, "w", "p") == BOTH_IN
        done(await live.api.delete("/banned/username/u"))
        assert await codes(live, "u", "p") == BOTH_IN


async def test_a_ban_of_an_id_throws_out_and_the_user_comes_under_another() -> None:
    async with running() as live:
        await add(live, PASSWORDS)
        await user(live, "u", "p")
        here = await live.connect("here", username="u", password=b"p")
        assert (await live.api.post("/banned", json={"as": "clientid", "who": "here"})).status_code == 200
        assert (await here.wait_ended()).reason_code is not None
        assert await code(live, "u", "p", "here") == 0x8A
        assert await codes(live, "u", "p", "elsewhere") == BOTH_IN
