"""A look at the older generations of the API with fresh eyes: what they let through that v5 does not, what odd input
does to them and to clients, and what holds up everybody.

Each test here failed when it was written.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
import trio
from api.conftest import PUBLISHER
from api.live import PASSWORD, running
from api.older import older
from trio.testing import MockClock

from trio_broker.actors.api_keys import ApiKeys
from trio_broker.actors.slow_hash import SlowHash
from trio_broker.api.keys import Role

LONG_NUMBER = "9" * 400
"""No float holds it."""
NAME = 100
"""Characters of a user name at most."""


# -- who may do what


@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe"])
@pytest.mark.parametrize("batch", [False, True])
async def test_a_publishers_key_does_not_change_subscriptions(
    autojump_clock: MockClock, kind: str, batch: bool
) -> None:
    """In v5 it gets 403 for `POST /clients/:clientid/subscribe`; the docs say that a publisher publishes."""
    body = {"clientid": "c1", "topic": "t"}
    async with running() as live, older(live, "v4") as v4:
        live.broker.questions.api_keys.add(*PUBLISHER, Role.PUBLISHER)
        await live.connect("c1")
        in_v5 = await live.api.post(f"/clients/c1/{kind}", json={"topic": "t"}, auth=PUBLISHER)
        assert in_v5.status_code == 403
        path, sent = (f"/mqtt/{kind}_batch", [body]) if batch else (f"/mqtt/{kind}", body)
        assert (await v4.post(path, json=sent, auth=PUBLISHER)).status_code == 403


@pytest.mark.parametrize("end", ["delete", "demote", "change password"])
async def test_credentials_that_end_while_an_empty_body_is_awaited(autojump_clock: MockClock, end: str) -> None:
    """Who opened a request before still makes an administrator: the parameters of v4 may all be in the query, and a
    body without a byte may take half a minute to end. In v5 and v2 credentials are looked at once more."""
    async with running() as live, older(live, "v4", user=True) as v4:
        users = live.broker.questions.dashboard_users
        await users.create("eve", PASSWORD)
        eve = ("eve", PASSWORD)
        assert (await v4.get("/users", auth=eve)).status_code == 200  # she is recognized from now on

        async def nothing() -> AsyncIterator[bytes]:
            await trio.sleep(10)
            if end == "delete":
                assert await users.delete("eve")
            elif end == "demote":
                await users.update("eve", "", Role.VIEWER)
            else:
                await users.change_password("eve", PASSWORD, "another horse 2")
            yield b""

        query = httpx.QueryParams(username="evil", password=PASSWORD, tags="administrator")
        answer = await v4.post(f"/users?{query}", content=nothing(), auth=eve)
        assert users.get("evil") is None
        assert answer.status_code in (401, 403)


@pytest.mark.parametrize("name", ["v2", "v4"])
async def test_other_words_about_a_viewer_make_no_administrator(autojump_clock: MockClock, name: str) -> None:
    """What v5 keeps as a description the older generations show as tags; to change them says nothing about a role."""
    async with running() as live, older(live, name, user=True) as api:
        users = live.broker.questions.dashboard_users
        await users.create("guest", PASSWORD, Role.VIEWER, "night shift")
        assert (await api.put("/users/guest", json={"tags": "day shift"})).json()["code"] == 0
        guest = users.get("guest")
        assert guest is not None
        assert guest.role is Role.VIEWER


async def test_known_applications_cost_what_unknown_ones_cost(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the time until the 401 tells which AppIDs there are, as long as they were not used since the start."""
    asked: list[str] = []
    verify = SlowHash.verify

    def counted(self: SlowHash, secret: str) -> bool:
        asked.append(secret)
        return verify(self, secret)

    async with running() as live, older(live, "v4") as v4:
        await live.broker.questions.api_keys.create("app", api_key="known")
        core_of_the_next_start = live.broker.questions.api_keys._core
        live.broker.questions.api_keys = ApiKeys(core_of_the_next_start)
        monkeypatch.setattr(SlowHash, "verify", counted)
        costs = {}
        for app_id in ("unknown", "known", "boss"):
            asked.clear()
            assert (await v4.get("/brokers", auth=(app_id, "wrong"))).status_code == 401
            costs[app_id] = len(asked)
        assert set(costs.values()) == {1}, costs


@pytest.mark.parametrize("name", ["v2", "v4"])
async def test_names_that_nobody_can_have_are_not_remembered(autojump_clock: MockClock, name: str) -> None:
    """Ten thousand failures are remembered by the name that was sent, which `POST /login` of v5 limits to 100
    characters, and a Basic header to 32 KB: that would be hundreds of megabytes for somebody without credentials."""
    async with running() as live, older(live, name) as api:
        for number in range(3):
            answer = await api.get("/users", auth=(f"{number}" + "x" * 20_000, "wrong"))
            assert answer.status_code in (401, 404)
        kept = live.broker.questions.dashboard_users._guard._failures
        assert max((len(username) for username, _ in kept), default=0) <= NAME


async def test_an_application_has_a_name_that_a_key_may_have(autojump_clock: MockClock) -> None:
    async with running() as live, older(live, "v4", user=True) as v4:
        keys = live.broker.questions.api_keys
        made = await v4.post("/apps", json={"app_id": "app", "name": "x" * 1000, "status": True})
        assert made.json()["code"] == 0
        key = keys.by_api_key("app")
        assert key is not None
        assert len(key.name) <= 256  # as v5 has it for what it makes


# -- odd input


@pytest.mark.parametrize(
    ("path", "field", "limit"),
    [
        ("ratelimit", "conn_messages_in", f"{LONG_NUMBER}, 1s"),
        ("ratelimit", "conn_bytes_in", f"{LONG_NUMBER}KB, 1s"),
        ("quota", "conn_messages_routing", f"{LONG_NUMBER}, 1s"),
        ("ratelimit", "conn_messages_in", "1, " + "9" * 1_000_100 + "s"),
        ("ratelimit", "conn_messages_in", "1, " + "9" * 1_000_100),
    ],
    ids=["messages", "bytes", "quota", "seconds", "milliseconds"],
)
async def test_limits_beyond_all_numbers(autojump_clock: MockClock, path: str, field: str, limit: str) -> None:
    async with running() as live, older(live, "v4") as v4:
        await live.connect("c1")
        answer = await v4.post(f"/clients/c1/{path}", json={field: limit})
        assert answer.status_code == 200
        assert answer.json()["code"] == 108


@pytest.mark.parametrize(
    ("path", "field", "limit"),
    [
        ("ratelimit", "conn_messages_in", f"1, {LONG_NUMBER}d"),
        ("ratelimit", "conn_bytes_in", f"1B, {LONG_NUMBER}d"),
        ("quota", "conn_messages_routing", f"1, {LONG_NUMBER}d"),
    ],
)
async def test_a_limit_of_nothing_at_all_is_no_fault_in_the_connection(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, path: str, field: str, limit: str
) -> None:
    """The rate is 0.0 then, and the first message of the client divides by it."""
    async with running() as live, older(live, "v4") as v4:
        client = await live.connect("c1")
        await v4.post(f"/clients/c1/{path}", json={field: limit})
        with trio.move_on_after(1):
            await client.publish("t", b"x", qos=1)
        assert client.disconnected is None
        assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


async def test_payloads_as_deep_as_json_may_be(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """What can be read can be too deep to be written again, a few calls further down."""
    async with running() as live, older(live, "v4") as v4:
        for depth in range(880, 1000):
            body = '{"topic": "t", "payload": ' + "[" * depth + "]" * depth + "}"
            answer = await v4.post("/mqtt/publish", content=body)
            assert answer.status_code < 500, depth
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(
    ("name", "field", "client_id"),
    [
        ("v2", "client_id", "x" * 100_000),
        ("v2", "client_id", "a\0b"),
        ("v4", "clientid", "\N{GRINNING FACE}" * 60_000),
        ("v4", "clientid", "a\0b"),
    ],
    ids=["v2 long", "v2 NUL", "v4 bytes", "v4 NUL"],
)
async def test_nobody_is_called_so(autojump_clock: MockClock, name: str, field: str, client_id: str) -> None:
    """A client id is a string of MQTT: no U+0000, and at most 65,535 bytes. It is kept with each message, and does not
    count for its size."""
    async with running() as live, older(live, name) as api:
        body = {"topic": "t", "payload": "x", "retain": True, field: client_id}
        answer = await api.post("/mqtt/publish", json=body)
        assert answer.json()["code"] != 0


# -- others have their turn


async def turns(call: Callable[[], Awaitable[object]]) -> int:
    """How often another task had its turn meanwhile."""
    count = 0

    async def other() -> None:
        nonlocal count
        while True:
            await trio.lowlevel.checkpoint()
            count += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await call()
        nursery.cancel_scope.cancel()
    return count


@pytest.mark.parametrize("path", ["/mqtt/publish_batch", "/auth_username", "/auth_clientid"])
@pytest.mark.parametrize("item", [0, {"topic": 0, "username": 0, "clientid": 0}], ids=["number", "object"])
async def test_batches_of_what_is_wrong_do_not_hold_up_others(path: str, item: Any) -> None:
    """100,000 such items take 0.5 to 0.9 seconds without a turn of anybody, and a body has room for 8,000,000.

    Where every other way through a batch has a turn each thousand items at the latest, these have none at all.
    """
    number = 10_000
    async with running() as live, older(live, "v4") as v4:
        await live.broker.questions.features.plugins.start("emqx_auth_mnesia")

        async def send(count: int) -> None:
            answer = await v4.post(path, content=json.dumps([item] * count))
            assert (answer.status_code, answer.json()["code"]) == (200, 0)

        await send(1)
        few = await turns(lambda: send(1))
        many = await turns(lambda: send(number))
        assert many - few >= number // 1000
