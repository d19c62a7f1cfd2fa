"""The line for slow hashes: whose turn it is, who is turned away, and what becomes of those who leave."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_broker.actors.authn import login_line
from trio_broker.actors.authn.login_line import PATIENCE, LoginLine, LoginsBusy
from trio_broker.actors.login_guard import place_of


class Threads:
    """In place of threads: each call goes on when it is told to."""

    def __init__(self) -> None:
        self.at_work: list[tuple[str, trio.Event]] = []
        self.order: list[str] = []

    async def run_sync(self, function: Any, who: str, *, limiter: trio.CapacityLimiter) -> Any:
        async with limiter:
            event = trio.Event()
            self.at_work.append((who, event))
            self.order.append(who)
            with trio.CancelScope(shield=True):  # threads cannot be cancelled
                await event.wait()
            return function(who)

    async def finish(self, count: int = 1) -> None:
        for _ in range(count):
            self.at_work.pop(0)[1].set()
            await wait_all_tasks_blocked()


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Threads]:
    threads = Threads()
    monkeypatch.setattr(login_line, "in_thread", threads.run_sync)
    yield threads
    assert not threads.at_work


class Crowd:
    """Clients in a line; what became of each."""

    def __init__(self, line: LoginLine, nursery: trio.Nursery) -> None:
        self.line = line
        self.nursery = nursery
        self.outcomes: dict[str, str] = {}
        self.scopes: dict[str, trio.CancelScope] = {}

    async def come(self, *who: str) -> None:
        """Names such as "a1": the address is what stands before the number."""
        for name in who:
            self.nursery.start_soon(self._log_in, name)
            await wait_all_tasks_blocked()

    async def _log_in(self, name: str) -> None:
        self.scopes[name] = trio.CancelScope()
        with self.scopes[name]:
            try:
                self.outcomes[name] = await self.line.work(name.rstrip("0123456789"), str.upper, name)
            except LoginsBusy:
                self.outcomes[name] = "busy"
            return
        self.outcomes[name] = "left"

    async def leave(self, name: str) -> None:
        self.scopes[name].cancel()
        await wait_all_tasks_blocked()


async def test_one_address_after_the_other(threads: Threads) -> None:
    """Who knocks five times waits for himself; the others are next."""
    async with trio.open_nursery() as nursery:
        crowd = Crowd(LoginLine(threads=1), nursery)
        await crowd.come("a1", "a2", "a3", "a4", "a5", "b1", "b2", "c1")
        await threads.finish(8)
    assert threads.order == ["a1", "a2", "b1", "c1", "a3", "b2", "a4", "a5"]
    assert crowd.outcomes["a5"] == "A5"


async def test_as_many_as_there_are_threads_work_at_one_time(threads: Threads) -> None:
    async with trio.open_nursery() as nursery:
        crowd = Crowd(LoginLine(threads=2), nursery)
        await crowd.come("a1", "a2", "a3", "a4")
        assert threads.order == ["a1", "a2"]
        await threads.finish(4)
        await crowd.come("a5", "b1", "a6")
        assert threads.order[4:] == ["a5", "b1"]
        await threads.finish(3)
    assert sorted(crowd.outcomes) == ["a1", "a2", "a3", "a4", "a5", "a6", "b1"]


async def test_a_line_that_is_full(threads: Threads) -> None:
    """Who comes from where most wait is turned away; for anybody else the last of those has to go."""
    async with trio.open_nursery() as nursery:
        crowd = Crowd(LoginLine(threads=1, longest=3), nursery)
        await crowd.come("a1", "a2", "a3", "a4", "a5")
        assert crowd.outcomes == {"a5": "busy"}
        await crowd.come("b1")
        assert crowd.outcomes == {"a5": "busy", "a4": "busy"}
        await crowd.come("c1", "d1", "b2")  # now there is one of each
        assert crowd.outcomes == {"a5": "busy", "a4": "busy", "a3": "busy", "d1": "busy", "b2": "busy"}
        await threads.finish(4)
    assert threads.order == ["a1", "a2", "b1", "c1"]


async def test_nobody_waits_for_ever(threads: Threads, autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        crowd = Crowd(LoginLine(threads=1), nursery)
        await crowd.come("a1", "a2", "b1")
        begun = trio.current_time()
        await trio.sleep(PATIENCE + 1)
        assert trio.current_time() - begun == PATIENCE + 1
        assert crowd.outcomes == {"a2": "busy", "b1": "busy"}
        await threads.finish()
        await crowd.come("c1")
        await threads.finish()
    assert crowd.outcomes["c1"] == "C1"


async def test_who_leaves_leaves_no_gap(threads: Threads) -> None:
    async with trio.open_nursery() as nursery:
        crowd = Crowd(LoginLine(threads=1, longest=2), nursery)
        await crowd.come("a1", "a2", "b1")
        await crowd.leave("a2")
        await crowd.come("c1")
        await crowd.leave("a1")  # its thread works on
        assert threads.order == ["a1"]
        await threads.finish(3)
        await crowd.come("d1")
        await threads.finish()
    assert crowd.outcomes == {"a2": "left", "a1": "A1", "b1": "B1", "c1": "C1", "d1": "D1"}


async def test_who_leaves_when_it_is_called_passes_the_turn_on(threads: Threads) -> None:
    async with trio.open_nursery() as nursery:
        crowd = Crowd(LoginLine(threads=1), nursery)
        await crowd.come("a1", "b1", "c1")
        threads.at_work.pop(0)[1].set()
        crowd.scopes["b1"].cancel()
        await wait_all_tasks_blocked()
        await threads.finish(len(threads.at_work))
        await threads.finish(len(threads.at_work))
    assert crowd.outcomes == {"a1": "A1", "b1": "left", "c1": "C1"}


async def test_a_function_that_fails_gives_its_thread_back() -> None:
    line = LoginLine(threads=1)
    for _ in range(2):
        with pytest.raises(UnicodeDecodeError):
            await line.work("a", bytes.decode, b"\xff")
    assert await line.work("a", bytes.decode, b"x") == "x"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("", "10.0.0.1", False),
        ("no:address", "no:other", False),
    ],
)
def test_which_addresses_are_one(one: str, other: str, same: bool) -> None:
    """IPv6 addresses of one network of 64 bits are: there are enough of them for a flood."""
    assert (place_of(one) == place_of(other)) is same
