"""Attacks on access rules in time: what is decided while rules change must not be kept as if it were new.

A web service on loopback answers when the test says so; the clock is the real one, for its sockets are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from api.live import Live, running
from review.contract import done
from review.rights import SOURCES, add_file, add_source, cached, for_all, may_publish, may_subscribe, rule, settings

DEADLINE = 60


class Service:
    """Says `answer` to each question, once `release` is set; `asked` counts questions."""

    def __init__(self) -> None:
        self.answer = "ignore"
        self.release = trio.Event()
        self.questions = 0
        self.arrived = trio.Event()

    async def handle(self, stream: trio.SocketStream) -> None:
        async with stream:
            text = b""
            while data := await stream.receive_some(65536):
                text += data
                while b"\r\n\r\n" in text:
                    text = text.partition(b"\r\n\r\n")[2]
                    self.questions += 1
                    self.arrived.set()
                    await self.release.wait()
                    body = f'{{"result": "{self.answer}"}}'.encode()
                    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
                    await stream.send_all(head.encode() + body)


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Service, Live]]:
    """The service, and a broker that has it as a source of rules, in front of the others."""
    service = Service()
    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, service.handle, 0, host="127.0.0.1"))
            port = listeners[0].socket.getsockname()[1]
            async with running() as live:
                await add_source(live, "http", method="get", url=f"http://127.0.0.1:{port}/acl")
                yield service, live
                service.release.set()
            nursery.cancel_scope.cancel()


async def test_a_decision_from_before_a_change_is_not_kept() -> None:
    async with serving() as (service, live):
        await add_source(live, "built_in_database")  # in front of the service
        await settings(live, ttl="1h")
        client = await live.connect("c1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(may_publish, client, "t")
            await service.arrived.wait()
            await for_all(live, rule("t"))
            service.release.set()
        assert not await may_publish(client, "t")
        assert await cached(live, "c1") == {"t": "deny"}


@pytest.mark.parametrize("path", ["/authorization/cache", "/clients/c1/authorization/cache"])
async def test_a_decision_from_before_the_cache_was_cleared_is_not_kept(path: str) -> None:
    """The service decides otherwise now, and is asked again after this call, whatever is still on its way."""
    async with serving() as (service, live):
        await settings(live, ttl="1h")
        client = await live.connect("c1")
        service.answer = "allow"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(may_subscribe, client, "t")
            await service.arrived.wait()
            done(await live.api.delete(path))
            service.release.set()
        service.answer = "deny"
        assert not await may_subscribe(client, "t")
        assert await cached(live, "c1") == {"t": "deny"}


async def test_a_source_that_goes_while_it_is_asked_lets_nobody_through() -> None:
    async with serving() as (service, live):
        await settings(live, "deny", ttl="1h")
        service.answer = "allow"
        client = await live.connect("c1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(may_publish, client, "t")
            await service.arrived.wait()
            done(await live.api.delete(f"{SOURCES}/http"))
            service.release.set()
        assert not await may_publish(client, "t")
        assert service.questions == 1


async def test_what_comes_behind_a_question_waits_for_it() -> None:
    """Messages of one client stay in order, and none is let through by the answer for another."""
    async with serving() as (service, live):
        await add_file(live, '{allow, all, all, ["open"]}.', '{allow, {user, "witness"}, subscribe, ["#"]}.')
        witness = await live.connect("w", username="witness")
        await witness.subscribe("#", 1)
        client = await live.connect("c1")
        service.answer = "deny"
        await client.publish("asked", b"1")
        await client.publish("open", b"2")
        await service.arrived.wait()
        service.release.set()
        await client.publish("open", b"3", 1)
        assert [(await witness.receive()).payload for _ in range(2)] == [b"2", b"3"]
