"""The broker's own HTTP clients: where they may connect to, how long they wait, how much they read."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from actors.web import Asked, Reply, Web, in_memory, says, unreachable
from trio.testing import MockClock

from trio_broker.access.address_rules import parse_address_rules
from trio_broker.actors import outbound as module
from trio_broker.actors.outbound import LARGEST, Outbound, Unanswered, origin_of, target_of
from trio_broker.actors.outbound_network import CheckedNetwork
from trio_broker.config.model import OutboundConfig
from trio_broker.errors import ConfigError

DEFAULT = OutboundConfig()
URL = "http://service.example/auth"


async def allow(asked: Asked) -> Reply:
    return says(result="allow")


async def never(asked: Asked) -> Reply:
    await trio.sleep_forever()
    raise AssertionError


@asynccontextmanager
async def client(url: str = URL, outbound: OutboundConfig = DEFAULT, **options: Any) -> AsyncIterator[Outbound]:
    made = await Outbound.open(url, outbound, key="it", **options)
    try:
        yield made
    finally:
        await made.close()


async def fails(made: Outbound, target: bytes = b"/") -> str:
    """Why there is no answer."""
    with pytest.raises(Unanswered) as fault:
        await made.request("GET", target)
    return str(fault.value)


# -- requests and answers


async def test_what_is_sent_comes_as_it_is(autojump_clock: MockClock) -> None:
    web = Web(allow)
    async with in_memory(web), client() as made:
        statuses = [made.status]
        answer = await made.request("POST", b"/a%2Fb?c=%26", [(b"x-a", b"1")], b"body")
        await made.request("GET", b"/")
    assert (answer.status, answer.content_type, answer.body) == (200, "application/json", b'{"result": "allow"}')
    first, second = web.asked
    assert (first.method, first.target, first.body) == ("POST", "/a%2Fb?c=%26", b"body")
    assert (first.headers["host"], first.headers["x-a"]) == ("service.example", "1")
    assert second.method == "GET"
    assert web.connections == 1
    assert [*statuses, made.status] == ["connecting", "connected"]
    assert (made.figures.matched, made.figures.success, made.figures.failed) == (2, 2, 0)
    assert "body" not in repr(answer)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://h.example:8080/x", "h.example:8080"),
        ("http://[2001:db8::1]:81/", "[2001:db8::1]:81"),
        ("http://[2001:db8::1]/", "[2001:db8::1]"),
        ("http://192.0.2.7", "192.0.2.7"),
    ],
)
async def test_the_host_is_said_as_it_is_in_the_url(autojump_clock: MockClock, url: str, host: str) -> None:
    web = Web(allow)
    async with in_memory(web), client(url) as made:
        await made.request("GET", b"/")
    assert web.asked[0].headers["host"] == host


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://h", b"/"),
        ("http://h?x=1", b"/?x=1"),
        ("http://h/a/b?x=1&y=%20", b"/a/b?x=1&y=%20"),
        ("http://h/é?ü", b"/%C3%A9?%C3%BC"),
        ("http://h/a?b?c", b"/a?b?c"),
    ],
)
def test_the_target_of_a_url(url: str, target: bytes) -> None:
    assert target_of(url) == target


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://h/", "must begin with http"),
        ("http://", "must name a host"),
        ("http://user@h/", "and no user"),
        ("http://h:0x50/", "proper host and port"),
        ("http://h:99999/", "proper host and port"),
        ("http://[::1/", "proper host and port"),
        ("http://${username}.example/", "placeholders may stand in the path and the query only"),
        ("http://a\x01b/", "no name of a host"),
        ("http://a..é/", "no name of a host"),
    ],
)
async def test_a_url_that_names_nobody(url: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"^it\.url: .*{reason}"):
        await Outbound.open(url, DEFAULT, key="it")


def test_names_of_hosts_in_other_scripts() -> None:
    assert origin_of("http://bücher.example/").host == b"xn--bcher-kva.example"


async def test_redirects_are_not_followed(autojump_clock: MockClock) -> None:
    async def elsewhere(asked: Asked) -> Reply:
        return Reply(302, headers=(("Location", "http://169.254.169.254/secret"),))

    web = Web(elsewhere)
    async with in_memory(web), client() as made:
        assert (await made.request("GET", b"/")).status == 302
    assert len(web.asked) == 1


async def test_the_environment_names_no_proxy(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://192.0.2.99:3128")
    opened: list[tuple[str, int]] = []
    async with in_memory(Web(allow), opened=opened), client() as made:
        await made.request("GET", b"/")
    assert opened == [("192.0.2.1", 80)]


async def test_a_header_that_would_be_two_is_not_sent(autojump_clock: MockClock) -> None:
    web = Web(allow)
    async with in_memory(web), client() as made:
        with pytest.raises(Unanswered) as fault:
            await made.request("GET", b"/", [(b"x", b"secret\r\nx-admin: 1")])
    assert "secret" not in str(fault.value)
    assert web.asked == []


# -- what comes back


async def test_an_answer_is_read_up_to_a_limit(autojump_clock: MockClock) -> None:
    sent = 0

    def parts() -> Iterator[bytes]:
        nonlocal sent
        while sent < 50 * LARGEST:
            sent += 60_000
            yield b"x" * 60_000

    async def bomb(asked: Asked) -> Reply:
        if asked.target == "/small":
            return Reply(body=b"y" * LARGEST)
        return Reply(body=b"z" * (LARGEST + 1)) if asked.target == "/long" else Reply(body=parts())

    web = Web(bomb)
    async with in_memory(web), client() as made:
        assert len((await made.request("GET", b"/small")).body) == LARGEST
        assert await fails(made, b"/long") == f"its answer is longer than {LARGEST} bytes"
        assert await fails(made) == f"its answer is longer than {LARGEST} bytes"
        assert len((await made.request("GET", b"/small")).body) == LARGEST
    assert sent < 4 * LARGEST


async def test_packed_answers_are_not_unpacked(autojump_clock: MockClock) -> None:
    async def packed(asked: Asked) -> Reply:
        return Reply(body=b"\x1f\x8b\x08", headers=(("Content-Encoding", "gzip"),))

    web = Web(packed)
    async with in_memory(web), client() as made:
        assert (await made.request("GET", b"/")).body == b"\x1f\x8b\x08"
    assert "accept-encoding" not in web.asked[0].headers


@pytest.mark.parametrize(
    "bytes_", [b"not HTTP at all\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", b"", b"x" * 300_000]
)
async def test_what_is_no_answer(autojump_clock: MockClock, bytes_: bytes) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(bytes_)
        await stream.aclose()

    web = Web(allow, instead=serve)
    async with in_memory(web), client() as made:
        assert await fails(made)
        assert made.status == "disconnected"


async def test_a_connection_that_was_closed_while_it_was_idle_is_not_noticed(autojump_clock: MockClock) -> None:
    web = Web(allow)
    async with in_memory(web), client() as made:
        await made.request("GET", b"/")
        await trio.aclose_forcefully(web.streams[0])
        assert (await made.request("GET", b"/")).status == 200
    assert web.connections == 2


# -- where it may connect to


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://169.254.169.254/latest/meta-data", None),
        ("http://metadata.example/", "169.254.169.254"),
        ("http://metadata.example/", ["::ffff:169.254.169.254", "fe80::1"]),
        ("http://[::ffff:a9fe:a9fe]/", None),
        ("http://[fe80::1]/", None),
        ("http://[64:ff9b::a9fe:a9fe]/", None),
    ],
)
async def test_link_local_addresses_are_out_of_reach(
    autojump_clock: MockClock, url: str, address: str | list[str] | None
) -> None:
    names = {} if address is None else {"metadata.example": address}
    opened: list[tuple[str, int]] = []
    async with in_memory(Web(allow), names, opened), client(url) as made:
        assert "outbound.access_rules do not allow" in await fails(made)
    assert opened == []


@pytest.mark.parametrize("host", ["2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518"])
async def test_no_other_way_to_write_an_address_leads_there(host: str) -> None:
    async with client(f"http://{host}/") as made:
        assert f"do not allow {host} (169.254.169.254)" in await fails(made)


async def test_of_the_addresses_of_a_name_only_those_that_are_allowed_are_tried(autojump_clock: MockClock) -> None:
    names = {"service.example": ["169.254.1.1", "fe80::1", "192.0.2.5"]}
    opened: list[tuple[str, int]] = []
    async with in_memory(Web(allow), names, opened), client() as made:
        await made.request("GET", b"/")
    assert opened == [("192.0.2.5", 80)]


async def test_a_name_that_means_something_else_now_is_looked_at_again(autojump_clock: MockClock) -> None:
    """DNS rebinding: what is checked is what is connected to."""
    names: dict[str, str | list[str]] = {"service.example": "192.0.2.5"}
    opened: list[tuple[str, int]] = []

    async def closes(asked: Asked) -> Reply:
        return Reply(headers=(("Connection", "close"),))

    async with in_memory(Web(closes), names, opened), client() as made:
        await made.request("GET", b"/")
        names["service.example"] = "169.254.169.254"
        assert "do not allow service.example (169.254.169.254)" in await fails(made)
    assert opened == [("192.0.2.5", 80)]


async def test_the_rules_can_say_more(autojump_clock: MockClock) -> None:
    rules = OutboundConfig(access_rules=("allow 10.0.0.0/8", "deny all"))
    opened: list[tuple[str, int]] = []
    async with in_memory(Web(allow), {"inside": "10.1.2.3"}, opened):
        async with client("http://inside:81", rules) as made:
            await made.request("GET", b"/")
        async with client("http://127.0.0.1", rules) as made:
            assert "do not allow 127.0.0.1" in await fails(made)
    assert opened == [("10.1.2.3", 81)]


async def test_a_silent_address_keeps_the_next_one_waiting_for_a_moment_only(autojump_clock: MockClock) -> None:
    names = {"service.example": ["2001:db8::1", "192.0.2.5"]}
    web = Web(allow)
    async with in_memory(web, names):
        really = CheckedNetwork.open

        async def open_one(self: CheckedNetwork, address: str, port: int) -> Any:
            if address == "2001:db8::1":
                await trio.sleep_forever()
            return await really(self, address, port)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CheckedNetwork, "open", open_one)
            async with client() as made:
                began = trio.current_time()
                await made.request("GET", b"/")
                assert trio.current_time() - began == pytest.approx(0.25)


async def test_all_addresses_refuse(autojump_clock: MockClock) -> None:
    web = Web(allow)
    async with in_memory(web, {"service.example": ["192.0.2.5", "192.0.2.6"]}), client() as made:
        with unreachable(web):
            assert await fails(made) == ("192.0.2.5 port 80: Connection refused; 192.0.2.6 port 80: Connection refused")


async def test_a_name_that_nobody_knows() -> None:
    async with client("http://no.such.host.invalid/") as made:
        assert "no.such.host.invalid has no address" in await fails(made)


# -- time, and how many at once


async def test_no_answer_in_time(autojump_clock: MockClock) -> None:
    web = Web(never)
    async with in_memory(web), client(request_timeout=2) as made:
        began = trio.current_time()
        assert await fails(made) == "no answer within 2 s"
        assert trio.current_time() - began == pytest.approx(2)
        await trio.testing.wait_all_tasks_blocked()
        assert web.gone == 1


async def test_an_answer_that_trickles_in_has_the_same_deadline(autojump_clock: MockClock) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        with trio.move_on_after(60):
            while True:
                await stream.send_all(b"x")
                await trio.sleep(0.5)

    web = Web(allow, instead=serve)
    async with in_memory(web), client(request_timeout=2) as made:
        began = trio.current_time()
        assert await fails(made) == "no answer within 2 s"
        assert trio.current_time() - began == pytest.approx(2)


@pytest.mark.parametrize(("connect", "whole"), [(1, 5), (5, 1)])
async def test_no_connection_in_time(autojump_clock: MockClock, connect: float, whole: float) -> None:
    async def open_one(self: CheckedNetwork, address: str, port: int) -> Any:
        await trio.sleep_forever()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckedNetwork, "open", open_one)
        async with client("http://192.0.2.1", connect_timeout=connect, request_timeout=whole) as made:
            began = trio.current_time()
            assert await fails(made) in ("no connection within 1 s", "no answer within 1 s")
            assert trio.current_time() - began == pytest.approx(1)


async def test_no_more_than_pool_size_at_once(autojump_clock: MockClock) -> None:
    async def slow(asked: Asked) -> Reply:
        await trio.sleep(0.1)
        return says(result="allow")

    web = Web(slow)
    async with in_memory(web), client(pool_size=3) as made, trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(made.request, "GET", b"/")
    assert (web.most_under_way, web.connections, len(web.asked)) == (3, 3, 30)
    assert made.figures.success == 30


async def test_the_line_has_an_end(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_LINE", 2)
    web = Web(never)
    async with in_memory(web), client(pool_size=1) as made, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(fails, made)
            await trio.testing.wait_all_tasks_blocked()
        assert await fails(made) == "2 others wait for it"
    assert (made.figures.matched, made.figures.failed) == (4, 4)


async def test_whoever_goes_away_leaves_nothing(autojump_clock: MockClock) -> None:
    web = Web(never)
    async with in_memory(web), client(pool_size=1) as made:
        for _ in range(20):
            with trio.move_on_after(0.1):
                await made.request("GET", b"/")
        await trio.testing.wait_all_tasks_blocked()
        assert (web.gone, web.under_way) == (20, 0)
        web.answer = allow
        assert (await made.request("GET", b"/")).status == 200


async def test_what_is_under_way_is_finished_when_it_is_closed(autojump_clock: MockClock) -> None:
    async def slow(asked: Asked) -> Reply:
        await trio.sleep(1)
        return says(result="allow")

    statuses: list[int] = []
    web = Web(slow)
    async with in_memory(web):
        made = await Outbound.open(URL, DEFAULT, key="it")

        async def ask() -> None:
            statuses.append((await made.request("GET", b"/")).status)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(0.5)
            await made.close()
            assert await fails(made) == "it is asked no more"
        assert statuses == [200]
        assert made._pool.connections == []


# -- a dead service


async def test_a_dead_service_costs_nobody_time_and_is_found_when_it_is_back(autojump_clock: MockClock) -> None:
    web = Web(never)
    async with in_memory(web), client(pool_size=8, request_timeout=5) as made:
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(fails, made)
        asked = len(web.asked)
        assert asked == 8
        # Now it is known to be dead: all but one in a while hear that at once.
        began = trio.current_time()
        for _ in range(1000):
            assert await fails(made) == "it did not answer before, and is asked again later"
        assert trio.current_time() == began
        assert (len(web.asked), made.status) == (asked, "disconnected")
        await trio.sleep(1)
        reasons: list[str] = []

        async def ask() -> None:
            reasons.append(await fails(made))

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(ask)
        assert sorted(set(reasons)) == ["it did not answer before, and is asked again later", "no answer within 5 s"]
        assert len(web.asked) == asked + 1
        web.answer = allow
        await trio.sleep(1)
        assert (await made.request("GET", b"/")).status == 200
        assert made.status == "connected"
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(made.request, "GET", b"/")


async def test_one_look_at_a_dead_service_that_is_given_up_is_followed_by_another(autojump_clock: MockClock) -> None:
    web = Web(never)
    async with in_memory(web), client() as made:
        for _ in range(5):
            await fails(made)
        await trio.sleep(1)
        with trio.move_on_after(0.5):
            await made.request("GET", b"/")
        await trio.sleep(1)
        web.answer = allow
        assert (await made.request("GET", b"/")).status == 200


async def test_whoever_hangs_up_does_not_make_others_believe_that_it_is_dead(autojump_clock: MockClock) -> None:
    web = Web(never)
    async with in_memory(web), client() as made:
        for _ in range(50):
            with trio.move_on_after(0.1):
                await made.request("GET", b"/")
        web.answer = allow
        assert (await made.request("GET", b"/")).status == 200


async def test_a_port_that_is_closed_and_opened_again(autojump_clock: MockClock) -> None:
    web = Web(allow)
    async with in_memory(web), client() as made:
        with unreachable(web):
            for _ in range(20):
                await fails(made)
        await trio.sleep(1)
        assert (await made.request("GET", b"/")).status == 200
    assert len(web.asked) == 1


def test_a_broker_that_asks_nobody_loads_no_client() -> None:
    program = (
        "import sys, trio, trio.testing\n"
        "from trio_broker import Broker, Config\n"
        "async def main():\n"
        "    async with trio.open_nursery() as nursery:\n"
        "        broker = Broker(Config())\n"
        "        await nursery.start(broker.run)\n"
        "        broker.close()\n"
        "trio.run(main)\n"
        "assert not {'httpx', 'httpcore', 'h11'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_rules_that_are_wrong_are_named() -> None:
    with pytest.raises(ValueError, match="deny nowhere"):
        parse_address_rules(["deny nowhere"])
