"""The REST contract, read afresh: rules in the form of a file, each who, action and topic of it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import jwt
from api.live import Live, running
from review.contract import done, failed, got
from review.rights import SOURCES, add_file, add_source, may_publish, may_subscribe
from trio.testing import MockClock

from trio_broker.store.memory import MemoryStore

SECRET = "0123456789abcdef0123456789abcdef"


async def replace(live: Live, *lines: str) -> None:
    done(await live.api.put(f"{SOURCES}/file", json={"type": "file", "rules": "\n".join(lines)}))


WHO = [
    ("all", True),
    ('{user, "u1"}', True),
    ('{user, "u"}', False),
    ('{user, "c1"}', False),
    ('{user,"u1"}', True),
    ('{username, "u1"}', True),
    ('{username, {re, "^u"}}', True),
    ('{username, {re, "^1"}}', False),
    ('{username,{re,"[0-9]$"}}', True),
    ('{user, {re, "^u"}}', True),
    ('{clientid, "c1"}', True),
    ('{clientid, "u1"}', False),
    ('{clientid, {re, "^c[0-9]+$"}}', True),
    ('{clientid, {re, "^C"}}', False),
    ('{client, "c1"}', True),
    ('{client, {re, "2"}}', False),
    ('{ipaddr, "127.0.0.1"}', True),
    ('{ipaddr, "127.0.0.0/8"}', True),
    ('{ipaddr, "10.0.0.1"}', False),
    ('{ipaddr, "::1"}', False),
    ('{ipaddrs, ["10.0.0.0/8", "127.0.0.1"]}', True),
    ('{ipaddrs, ["10.0.0.0/8", "::1"]}', False),
    ('{client_attr, "site", "berlin"}', True),
    ('{client_attr, "site", "paris"}', False),
    ('{client_attr, "other", "berlin"}', False),
    ('{client_attr, "site", {re, "^b"}}', True),
    ('{\'and\', [{user, "u1"}, {clientid, "c1"}]}', True),
    ('{\'and\', [{user, "u1"}, {clientid, "c2"}]}', False),
    ('{\'or\', [{user, "u2"}, {clientid, "c1"}]}', True),
    ('{\'or\', [{user, "u2"}, {clientid, "c2"}]}', False),
    ('{\'and\', [{\'or\', [{user, "x"}, {user, "u1"}]}, {ipaddr, "127.0.0.1"}]}', True),
    ('{zone, "default"}', True),
    ('{listener, "tcp:default"}', False),
    ('{user, <<"u1">>}', True),
]


async def test_who(autojump_clock: MockClock) -> None:
    async with running() as live:
        chain = {"mechanism": "jwt", "use_jwks": False, "secret": SECRET, "from": "password"}
        assert (await live.api.post("/authentication", json=chain)).status_code == 200
        claims = {"sub": "x", "client_attrs": {"site": "berlin"}}
        password = jwt.encode(claims, SECRET, algorithm="HS256").encode()
        c1 = await live.connect("c1", username="u1", password=password)
        await add_file(live, "{allow, all}.")
        for who, holds in WHO:
            await replace(live, f'{{deny, {who}, all, ["t"]}}.')
            assert await may_publish(c1, "t") is not holds, who
            await replace(live, f'{{allow, {who}, all, ["t"]}}.', "{deny, all}.")
            assert await may_publish(c1, "t") is holds, who
            assert not await may_publish(c1, "x"), who


async def test_actions_and_their_conditions(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_source(live, "file", rules="{allow, all}.")
        c1 = await live.connect("c1")
        everything = {(kind, qos, retain) for kind in ("p", "s") for qos in (1, 2) for retain in (False, True)}
        for action, holds in (
            ("all", everything),
            ("publish", {one for one in everything if one[0] == "p"}),
            ("subscribe", {one for one in everything if one[0] == "s"}),
            ("{publish, [{qos, 1}, {retain, false}]}", {("p", 1, False)}),
            ("{publish, [{retain, true}]}", {("p", 1, True), ("p", 2, True)}),
            ("{publish, [{qos, [1, 2]}]}", {one for one in everything if one[0] == "p"}),
            ("{publish,[{qos,2}]}", {("p", 2, False), ("p", 2, True)}),
            ("{publish, [{retain, all}]}", {one for one in everything if one[0] == "p"}),
            ("{subscribe, [{qos, 1}]}", {("s", 1, False), ("s", 1, True)}),
            ("{subscribe, [{qos, [1, 2]}]}", {one for one in everything if one[0] == "s"}),
            ("{subscribe, [{qos, 0}]}", set()),
        ):
            await replace(live, f'{{deny, all, {action}, ["t"]}}.')
            denied = set()
            for kind, qos, retain in everything:
                if kind == "p":
                    fine = await may_publish(c1, "t", qos, retain)
                else:
                    fine = await may_subscribe(c1, "t", qos)
                if not fine:
                    denied.add((kind, qos, retain))
            assert denied == holds, action


async def test_topics(autojump_clock: MockClock) -> None:
    async with running() as live:
        lines = (
            "%% what is said to people, with {deny, all}. in it",
            '{allow, all, subscribe, ["a/#", "b/+", {eq, "c/#"}, "eq d/+"]}. % more',
            "",
            '  {allow, all, publish, ["c/${clientid}/#", "u-${username}", "p/%c", "p/%u/x"]}.',
            '{allow,all,all,["%% no comment", "x\\"y", "ä€", "a}.b"]}.',
            '{allow, all, all,\n  ["two",\n   "lines"]}.',
            '{allow, all, all, [<<"binary">>]}.{allow, all, all, ["same line"]}.',
            "{deny, all}.",
        )
        await add_file(live, *lines)
        assert (await got(live, f"{SOURCES}/file"))["rules"] == "\n".join(lines)
        c1 = await live.connect("c1", username="u1")
        may: tuple[str, ...] = ("a", "a/#", "a/+/x", "b/+", "b/1", "c/#", "d/+")
        assert [one for one in may if not await may_subscribe(c1, one)] == []
        may_not: tuple[str, ...] = ("#", "b/#", "b", "c/1", "c/+", "d/1", "c/c1/#", "$SYS/#", "+/#")
        assert [one for one in may_not if await may_subscribe(c1, one)] == []
        may = ("c/c1", "c/c1/x", "u-u1", "p/c1", "p/u1/x", "%% no comment", 'x"y', "ä€", "a}.b")
        assert [one for one in may if not await may_publish(c1, one)] == []
        assert [one for one in ("two", "lines", "binary", "same line") if not await may_publish(c1, one)] == []
        may_not = ("a/1", "c/c2", "u-u2", "p/%c", "p/c2", "p/u2/x", "c/${clientid}", "x", "$SYS/x")
        assert [one for one in may_not if await may_publish(c1, one)] == []
        nameless = await live.connect("c2")
        assert [one for one in ("u-", "u-undefined", "p/undefined/x", "p//x") if await may_publish(nameless, one)] == []


async def test_the_short_forms(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_file(live, '{allow, all, publish, ["a"]}.', "{deny, all}.", "{allow, all}.")
        c1 = await live.connect("c1")
        assert await may_publish(c1, "a")
        assert [one for one in ("b", "$SYS/x", "$x", "/") if await may_publish(c1, one)] == []
        assert [one for one in ("a", "#", "+", "$SYS/#", "$share/g/a") if await may_subscribe(c1, one)] == []
        await replace(live, '{deny, all, publish, ["a"]}.', "{allow, all}.", "{deny, all}.")
        assert not await may_publish(c1, "a")
        assert await may_subscribe(c1, "#")
        assert await may_publish(c1, "b")


async def test_the_first_line_that_holds_decides(autojump_clock: MockClock) -> None:
    async with running() as live:
        await add_file(
            live,
            '{allow, {user, "dashboard"}, subscribe, ["$SYS/#"]}.',
            '{allow, {ipaddr, "10.1.1.1"}, all, ["$SYS/#", "#"]}.',
            '{deny, all, subscribe, ["$SYS/#", {eq, "#"}, {eq, "+/#"}]}.',
            "{allow, all}.",
        )
        c1 = await live.connect("c1")
        dashboard = await live.connect("c2", username="dashboard")
        asked = ("$SYS/#", "$SYS/brokers", "#", "+/#", "t/#", "+/+")
        assert [await may_subscribe(c1, one) for one in asked] == [False, False, False, False, True, True]
        assert [await may_subscribe(dashboard, one) for one in asked] == [True, True, False, False, True, True]
        assert await may_publish(c1, "t")


BAD = [
    "nonsense",
    "{allow, all}",
    "{allow}.",
    "{maybe, all}.",
    "{allow, nobody}.",
    '{allow, all, write, ["t"]}.',
    '{allow, all, publish, "t"}.',
    '{allow, all, publish, ["a/#/b"]}.',
    '{allow, all, publish, ["t"}.',
    '{allow, all, publish, ["t]}.',
    '{allow, all, publish, ["t"], more}.',
    '{allow, {user}, publish, ["t"]}.',
    '{allow, {user, u}, publish, ["t"]}.',
    '{allow, {username, {re, "("}}, publish, ["t"]}.',
    '{allow, {ipaddr, "10.0.0"}, publish, ["t"]}.',
    '{allow, {ipaddrs, "10.0.0.1"}, publish, ["t"]}.',
    '{allow, {\'and\', {user, "u"}}, publish, ["t"]}.',
    '{allow, {client_attr, "n"}, publish, ["t"]}.',
    '{allow, {nonsense, "n"}, publish, ["t"]}.',
    '{allow, all, {publish, [{qos, 3}]}, ["t"]}.',
    '{allow, all, {publish, [{retain, maybe}]}, ["t"]}.',
    '{allow, all, {subscribe, [{nonsense, 1}]}, ["t"]}.',
    '{allow, all, publish, [{neq, "t"}]}.',
    '{allow, all, publish, ["t/${nonsense}"]}.',
    'os:cmd("true").',
    "[{allow, all}].",
    "{" * 3000,
]


async def test_a_bad_line_is_named_and_nothing_is_taken(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store=store) as live:
        for line in BAD:
            bad = {"type": "file", "rules": f"{{allow, all}}.\n{line}\n"}
            told = failed(await live.api.post(SOURCES, json=bad), 400, "BAD_REQUEST")
            assert "line 2" in told or "line 3" in told, (line, told)
            assert await got(live, SOURCES) == {"sources": []}
        await add_file(live, "{deny, all}.")
        c1 = await live.connect("c1")
        for line in BAD:
            bad = {"type": "file", "rules": f"{{allow, all}}.\n{line}\n"}
            failed(await live.api.put(f"{SOURCES}/file", json=bad), 400, "BAD_REQUEST")
            assert not await may_publish(c1, "t"), line
    async with running(store=store) as live:
        assert (await got(live, f"{SOURCES}/file"))["rules"] == "{deny, all}."


async def test_rules_from_a_path(tmp_path: Path, autojump_clock: MockClock) -> None:
    store, acl = MemoryStore(), tmp_path / "acl.conf"
    acl.write_text('{deny, all, all, ["a"]}.\n')
    async with running(store=store) as live:
        await add_source(live, "file", path=str(acl))
        assert (await got(live, f"{SOURCES}/file"))["rules"] == '{deny, all, all, ["a"]}.\n'
        c1 = await live.connect("c1")
        assert not await may_publish(c1, "a")
        acl.write_text('{deny, all, all, ["b"]}.\n')
        assert not await may_publish(c1, "a")
        done(await live.api.put(f"{SOURCES}/file", json={"type": "file", "path": str(acl)}))
        assert await may_publish(c1, "a")
        assert not await may_publish(c1, "b")
        acl.write_text("nonsense")
        answer = await live.api.put(f"{SOURCES}/file", json={"type": "file", "path": str(acl)})
        assert "line 1" in failed(answer, 400, "BAD_REQUEST")
        assert not await may_publish(c1, "b")


async def test_a_path_that_is_no_file_is_refused(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A pipe that nobody writes to must not hold up the broker."""
    pipe, answered = tmp_path / "pipe", threading.Event()
    os.mkfifo(pipe)

    def let_go() -> None:
        """Frees a reader that waits for somebody to write, so that the test ends in any case."""
        if not answered.wait(0.3):
            os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))

    async with running() as live:
        for path in (tmp_path, tmp_path / "missing"):
            failed(await live.api.post(SOURCES, json={"type": "file", "path": str(path)}), 400, "BAD_REQUEST")
        helper = threading.Thread(target=let_go)
        helper.start()
        try:
            answer = await live.api.post(SOURCES, json={"type": "file", "path": str(pipe)})
        finally:
            answered.set()
            helper.join()
        failed(answer, 400, "BAD_REQUEST")
