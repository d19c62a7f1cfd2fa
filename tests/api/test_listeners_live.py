"""Listeners that change while clients are connected, and what is left of it after a restart of the broker."""

from __future__ import annotations

import gc
import os
import socket
from typing import Any

import pytest
import trio
import trio.testing
from api.doors import ANYWHERE, DEFAULT, address, address_of, client_at, ended, is_closed, put, shown, with_listener
from api.live import Live
from api.operations import shows
from listeners.fake_gate import until

from trio_broker.broker import Broker
from trio_broker.config import Config, Layers
from trio_broker.errors import AskTimeout, ConfigError, ListenerError
from trio_broker.store.memory import MemoryStore
from trio_broker.testing import ConnectionEnded, open_client

MORE = {"type": "tcp", "name": "more", "bind": ANYWHERE}


async def ask(live: Live, id: str, verb: str) -> None:
    answer = await live.api.post(f"/listeners/{id}/{verb}")
    assert (answer.status_code, answer.content) == (200, b""), answer.text


@shows("POST /listeners/:id/stop", "POST /listeners/:id/start", "GET /listeners/:id")
async def test_a_listener_is_stopped_with_its_connections_and_started() -> None:
    async with with_listener() as live:
        where = await address_of(live)
        async with await client_at(live, client_id="c1") as c1:
            await ask(live, "tcp:default", "stop")
            assert await ended(c1) == 0x98
        assert await is_closed(where)
        there = await shown(live, "tcp:default")
        assert (there["enable"], there["running"], there["current_connections"]) == (False, False, 0)
        await ask(live, "tcp:default", "stop")  # again is no fault
        await ask(live, "tcp:default", "start")
        there = await shown(live, "tcp:default")
        assert (there["enable"], there["running"]) == (True, True)
        async with await client_at(live, client_id="c1") as c1:
            await ask(live, "tcp:default", "start")
            await c1.ping()
            assert (await shown(live, "tcp:default"))["current_connections"] == 1


@shows("POST /listeners/:id/restart")
async def test_a_restart_closes_connections_and_keeps_the_address() -> None:
    async with with_listener() as live:
        where = await address_of(live)
        await live.api.post("/listeners", json=MORE)
        async with await client_at(live, client_id="c1") as c1, await client_at(live, "tcp:more") as other:
            await ask(live, "tcp:default", "restart")
            assert await ended(c1) == 0x98
            await other.ping()
        assert await address_of(live) == where
        async with open_client(where) as client:
            await client.ping()
        await ask(live, "tcp:default", "stop")
        await ask(live, "tcp:default", "restart")
        assert (await shown(live, "tcp:default"))["running"] is True


@shows("PUT /listeners/:id")
@pytest.mark.parametrize(
    "change",
    [
        {"max_connections": 2, "mountpoint": "m/", "messages_rate": "1000/s", "proxy_protocol_timeout": "5s"},
        {"tcp_options": {"high_watermark": "2MB", "send_timeout": "5s", "active_n": 7}},
        {"tcp_options": {"backlog": 16, "nodelay": False, "keepalive": "30,5,3", "recbuf": "32KB"}},
    ],
)
async def test_what_can_change_below_connections_drops_none(change: dict[str, Any]) -> None:
    async with with_listener() as live:
        where = await address_of(live)
        async with await client_at(live, client_id="c1") as c1:
            answer = await put(live, "tcp:default", **change)
            assert answer.status_code == 200
            for name, value in change.items():
                found = answer.json()[name]
                assert (found if not isinstance(value, dict) else {key: found[key] for key in value}) == value
            await c1.ping()
            async with open_client(where, client_id="c2") as c2:
                await c2.ping()
                assert (await shown(live, "tcp:default"))["current_connections"] == 2
            await until(lambda: live.broker.questions._keeper.infos()[0].current_connections == 1)
        assert live.broker.questions.settings.config.listeners["tcp"]["default"] != DEFAULT["tcp"]["default"]


@shows("PUT /listeners/:id")
async def test_new_connections_go_by_what_was_changed() -> None:
    async with with_listener() as live:
        where = await address_of(live)
        async with await client_at(live, client_id="c1") as c1:
            await put(live, "tcp:default", max_connections=1)
            with pytest.raises((ConnectionEnded, trio.BrokenResourceError)):
                async with open_client(where):
                    pytest.fail("one too many")
            await put(live, "tcp:default", max_connections="infinity", access_rules=["deny 127.0.0.0/8"])
            with pytest.raises((ConnectionEnded, trio.BrokenResourceError)):
                async with open_client(where):
                    pytest.fail("kept out")
            await put(live, "tcp:default", access_rules=["allow all"], enable_authn=False)
            async with open_client(where, client_id="c2"):
                assert (await live.api.get("/clients/c2")).json()["enable_authn"] is False
            assert (await live.api.get("/clients/c1")).json()["enable_authn"] is True
            await c1.ping()


async def test_who_waits_for_a_slow_door_is_let_in_when_it_is_faster() -> None:
    async with with_listener() as live:
        await put(live, "tcp:default", max_conn_rate="1/1h")
        async with await client_at(live), await client_at(live), trio.open_nursery() as nursery:
            let_in = trio.Event()

            async def wait() -> None:
                async with await client_at(live, client_id="c2"):
                    let_in.set()

            nursery.start_soon(wait)
            with trio.move_on_after(0.05):
                await let_in.wait()
            assert not let_in.is_set()
            await put(live, "tcp:default", max_conn_rate="infinity")
            with trio.fail_after(10):
                await let_in.wait()


@shows("PUT /listeners/:id")
async def test_another_address_is_opened_before_the_old_one_is_closed() -> None:
    async with with_listener() as live:
        before = await address_of(live)
        async with await client_at(live, client_id="c1") as c1:
            with socket.socket() as taken:
                taken.bind(("127.0.0.1", 0))
                taken.listen()
                answer = await put(live, "tcp:default", bind=f"127.0.0.1:{taken.getsockname()[1]}")
                assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
                assert "taken" in answer.json()["message"]
            await c1.ping()
            assert await address_of(live) == before
            assert live.broker.questions.settings.stored == {}
            answer = await put(live, "tcp:default", bind=f"localhost:{free_port()}")
            assert answer.status_code == 200
            assert address(answer.json()["bind"]) != before
            assert await ended(c1) == 0x98
        assert await is_closed(before)
        async with await client_at(live):
            assert (await shown(live, "tcp:default"))["current_connections"] == 1


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@shows("PUT /listeners/:id")
async def test_all_interfaces_and_one_of_them_follow_each_other_on_one_port() -> None:
    async with with_listener() as live:
        _, port = await address_of(live)
        for bind in (f"127.0.0.1:{port}", f"0.0.0.0:{port}", f"127.0.0.1:{port}"):
            answer = await put(live, "tcp:default", bind=bind)
            assert (answer.status_code, answer.json()["bind"]) == (200, bind)
            async with open_client(("127.0.0.1", port)) as client:
                await client.ping()


async def test_the_address_as_it_was_shown_is_no_change() -> None:
    async with with_listener() as live, await client_at(live, client_id="c1") as c1:
        answer = await live.api.put("/listeners/tcp:default", json=await shown(live, "tcp:default"))
        assert answer.status_code == 200
        assert answer.json()["current_connections"] == 1
        await c1.ping()


async def test_what_was_closed_for_a_change_that_fails_is_open_again() -> None:
    async with with_listener() as live:
        where = await address_of(live)
        async with await client_at(live, client_id="c1") as c1:
            # The system takes no keep-alive of 0 seconds.
            answer = await put(live, "tcp:default", tcp_options={"keepalive": "0,0,0"})
            assert answer.status_code == 400
            assert "Invalid argument" in answer.json()["message"]
            await c1.ping()
            there = await shown(live, "tcp:default")
            assert (there["running"], there["current_connections"]) == (True, 1)
            assert there["tcp_options"]["keepalive"] == "none"
            async with open_client(where) as client:
                await client.ping()
            await ask(live, "tcp:default", "stop")
            assert await ended(c1) == 0x98


async def test_what_cannot_be_opened_again_is_shown_so_and_can_be_started(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with with_listener() as live:
        with monkeypatch.context() as broken:

            async def refused(*_: object) -> object:
                raise ListenerError("listener tcp:default: no")

            broken.setattr("trio_broker.listeners.accepting.open_tcp_sockets", refused)
            answer = await live.api.post("/listeners/tcp:default/restart")
            assert (answer.status_code, answer.json()["message"]) == (400, "listener tcp:default: no")
        there = await shown(live, "tcp:default")
        assert (there["enable"], there["running"]) == (True, False)
        assert "cannot be opened again: listener tcp:default: no" in caplog.text
        await ask(live, "tcp:default", "start")
        assert (await shown(live, "tcp:default"))["running"] is True


async def test_two_listeners_change_their_places() -> None:
    async with with_listener() as live:
        await live.api.post("/listeners", json={**MORE, "bind": f"127.0.0.1:{free_port()}"})
        await put(live, "tcp:default", bind=f"127.0.0.1:{free_port()}")
        first, second = await address_of(live), await address_of(live, "tcp:more")
        tables = {"default": {"bind": f"127.0.0.1:{second[1]}"}, "more": {"bind": f"127.0.0.1:{first[1]}"}}
        await live.broker.questions.settings.change({"listeners": {"tcp": tables}})
        assert (await address_of(live), await address_of(live, "tcp:more")) == (second, first)
        async with await client_at(live, client_id="c1"):
            assert (await live.api.get("/clients/c1")).json()["listener"] == "tcp:default"


@shows("POST /listeners", "PUT /listeners/:id", "DELETE /listeners/:id", "POST /listeners/:id/stop")
async def test_all_is_as_it_was_left_after_a_restart() -> None:
    store = MemoryStore()
    config = {"listeners": {"tcp": {"default": {"bind": ANYWHERE}, "stopped": {"bind": ANYWHERE}}}}
    layers = Layers.gather(None, base=Layers(Config()).config(config))
    async with with_listener(store, layers=layers) as live:
        await live.api.post("/listeners", json={**MORE, "max_connections": 5})
        await put(live, "tcp:more", max_connections=7)
        await ask(live, "tcp:stopped", "stop")
        assert (await live.api.delete("/listeners/tcp:default")).status_code == 204
        before = (await live.api.get("/listeners")).json()
    async with with_listener(store, layers=layers) as live:
        after = (await live.api.get("/listeners")).json()
        free = {"bind": before[1]["bind"]}
        assert [{**row, "bind": other["bind"]} for row, other in zip(after, before, strict=True)] == before
        assert [row["id"] for row in after] == ["tcp:stopped", "tcp:more"]
        assert (await shown(live, "tcp:more"))["max_connections"] == 7
        assert free["bind"] != after[1]["bind"]
        # Nothing of the file's listener shows through in a new one of its name.
        await live.api.post("/listeners", json={"type": "tcp", "name": "stopped2", "bind": ANYWHERE})
        await live.api.post("/listeners", json={"type": "tcp", "name": "default", "bind": ANYWHERE})
        assert (await shown(live, "tcp:default"))["running"] is True


async def test_a_new_listener_has_nothing_of_a_deleted_one_of_the_file() -> None:
    store = MemoryStore()
    tables = {"tcp": {"default": {"bind": ANYWHERE, "max_connections": 3, "tcp_options": {"backlog": 5}}}}
    layers = Layers.gather(None, base=Layers(Config()).config({"listeners": tables}))
    async with with_listener(store, layers=layers) as live:
        await live.api.delete("/listeners/tcp:default")
        made = await live.api.post("/listeners", json={"type": "tcp", "name": "default", "bind": ANYWHERE})
        assert made.json()["max_connections"] == "infinity"
    async with with_listener(store, layers=layers) as live:
        there = await shown(live, "tcp:default")
        assert (there["max_connections"], there["tcp_options"]["backlog"]) == ("infinity", 1024)


async def test_a_stopped_listener_that_the_file_knows_no_more_is_no_hindrance() -> None:
    store = MemoryStore()
    async with with_listener(store) as live:
        await ask(live, "tcp:default", "stop")
    async with with_listener(store, layers=Layers(Config())) as live:
        assert (await shown(live, "tcp:default"))["running"] is False
        answer = await live.api.post("/listeners/tcp:default/start")
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
        assert "listeners.tcp.default.bind" in answer.json()["message"]
        assert (await live.api.delete("/listeners/tcp:default")).status_code == 204


async def test_a_stored_listener_that_keeps_the_broker_from_starting_says_how_to_get_rid_of_it() -> None:
    store = MemoryStore()
    port = free_port()
    async with with_listener(store) as live:
        made = await live.api.post("/listeners", json={**MORE, "bind": f"127.0.0.1:{port}"})
        assert made.status_code == 200
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(ListenerError) as failed:
            await Broker(Config(), store=store).run()
        message = str(failed.value)
        assert message.startswith(f"listener tcp:more: cannot listen on 127.0.0.1:{port}: the address is taken")
        assert "--set listeners.tcp.more.enable=false" in message
        assert "\n" not in message
        layers = Layers.gather(None, None, ["listeners.tcp.more.enable=false"], base=Config())
        async with with_listener(store, layers=layers) as live:
            await ask(live, "tcp:more", "stop")
        async with with_listener(store) as live:
            assert (await live.api.delete("/listeners/tcp:more")).status_code == 204
            assert [row["id"] for row in (await live.api.get("/listeners")).json()] == ["tcp:default"]


async def test_what_is_wrong_in_the_file_is_not_blamed_on_rest() -> None:
    store = MemoryStore()
    async with with_listener(store) as live:
        await live.api.post("/listeners", json=MORE)
    tables = {"ssl": {"a": {"bind": ANYWHERE, "ssl_options": {"certfile": "/no", "keyfile": "/no"}}}}
    config = Layers(Config()).config({"listeners": tables})
    with pytest.raises(ConfigError) as failed:
        await Broker(config, store=store).run()
    assert str(failed.value) == 'listeners.ssl.a.ssl_options.certfile: "/no" cannot be read: No such file or directory'


async def test_what_the_store_does_not_keep_in_time_is_answered_with_503(monkeypatch: pytest.MonkeyPatch) -> None:
    async with with_listener() as live:
        core = live.broker.questions._core

        async def late(within: float = 0) -> None:
            raise AskTimeout("the store did not keep it")

        with monkeypatch.context() as slow:
            slow.setattr(core, "durable", late)
            answer = await live.api.post("/listeners", json=MORE)
        assert (answer.status_code, answer.json()["code"]) == (503, "SERVICE_UNAVAILABLE")


async def test_changes_at_once_come_one_after_the_other() -> None:
    async with with_listener() as live:
        statuses: list[tuple[int, str]] = []

        async def make() -> None:
            answer = await live.api.post("/listeners", json=MORE)
            statuses.append((answer.status_code, answer.json().get("code", "")))

        async def change(number: int) -> None:
            await put(live, "tcp:default", max_connections=number)

        async def turn(verb: str) -> None:
            assert (await live.api.post(f"/listeners/tcp:default/{verb}")).status_code == 200

        async with trio.open_nursery() as nursery:
            for number in range(1, 5):
                nursery.start_soon(make)
                nursery.start_soon(change, number)
                nursery.start_soon(turn, ("stop", "start", "restart", "start")[number - 1])
        assert sorted(statuses) == [(200, ""), *[(400, "BAD_LISTENER_ID")] * 3]
        there = await shown(live, "tcp:default")
        stored = live.broker.questions.settings.stored["listeners"]["tcp"]["default"]
        assert there["max_connections"] == stored["max_connections"]
        assert there["running"] is there["enable"] is stored["enable"]


@shows("POST /listeners/:id/start", "POST /listeners/:id/stop")
@pytest.mark.parametrize("body", [{}, {"type": "ws", "name": "door", "websocket": {}}], ids=["tcp", "ws"])
async def test_fifty_starts_and_stops_below_clients_leave_nothing_behind(body: dict[str, Any]) -> None:
    async with with_listener() as live:
        await live.api.post("/listeners", json={**MORE, "name": "door", "bind": f"127.0.0.1:{free_port()}", **body})
        id = f"{body.get('type', 'tcp')}:door"
        where = await address_of(live, id)
        await trio.testing.wait_all_tasks_blocked(0.01)
        before = left_open()
        done = trio.Event()

        async def come() -> None:
            while not done.is_set():
                try:
                    if body:
                        async with await trio.open_tcp_stream(*where) as stream:
                            await stream.send_all(b"GET /mqtt HTTP/1.1\r\nHost: x\r\n")
                            await stream.receive_some()
                    else:
                        async with open_client(where, client_id="c"):
                            await trio.lowlevel.checkpoint()
                except (OSError, ConnectionEnded, trio.BrokenResourceError):
                    await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(come)
            for _ in range(50):
                await ask(live, id, "stop")
                await ask(live, id, "start")
            done.set()
            await ask(live, id, "stop")  # whoever waits for an answer goes
        await ask(live, id, "start")
        await live.api.delete("/clients/c")
        await until(lambda: left_open() == before)
        assert (await shown(live, id))["current_connections"] == 0


def left_open() -> tuple[int, int]:
    """Tasks and file descriptors."""
    gc.collect()
    return trio.lowlevel.current_statistics().tasks_living, len(os.listdir("/proc/self/fd"))


async def test_a_change_that_is_cancelled_is_whole_or_not_at_all() -> None:
    async with with_listener() as live:
        settings = live.broker.questions.settings
        for steps in range(12):
            with trio.CancelScope() as scope:

                async def cut(scope: trio.CancelScope = scope, steps: int = steps) -> None:
                    for _ in range(steps):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(cut)
                    await live.broker.questions.listener_settings.restart("tcp", "default")
                    await settings.change({"listeners": {"tcp": {"default": {"max_connections": steps + 1}}}})
            limit = settings.config.listeners["tcp"]["default"].max_connections
            there = await shown(live, "tcp:default")
            assert there["running"] is True
            assert there["max_connections"] == ("infinity" if limit == float("inf") else limit)
            async with await client_at(live) as client:
                await client.ping()


async def test_a_broker_that_ends_opens_no_door() -> None:
    async with with_listener() as live:
        live.broker.close()
        await until(lambda: not live.broker.questions._keeper.infos()[0].running)
        answer = await live.api.post("/listeners", json=MORE)
        assert answer.status_code in {503, 500}
