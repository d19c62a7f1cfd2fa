"""A process that writes and is killed: what it said was durable is there."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio
from store.driver import Driver, bursts, step_of
from store.model import State, TestWall, assert_same, look_at
from store.using import GUARD, ignore, what_is_kept
from trio.testing import MockClock

from trio_broker.store.files import FILE_NAME
from trio_broker.store.memory import MemoryStore

TESTS = Path(__file__).parents[1]


def killed(directory: Path, durability: str, seed: int, delay: float, *, begun: bool) -> int:
    """Kill the child `delay` seconds after it began, or after its first promise; returns the last promised step."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join((str(TESTS), str(TESTS.parent))))
    child = subprocess.Popen(
        [sys.executable, "-m", "store.writing_child", str(directory), durability, str(seed)],
        stdout=subprocess.PIPE,
        env=environment,
    )
    assert child.stdout is not None
    with child.stdout:
        first = child.stdout.readline() if begun else b""
        time.sleep(delay)
        child.kill()
        lines = first + child.stdout.read()
    child.wait(GUARD)
    assert not begun or first
    # A line may have been cut short.
    return max((int(line) for line in lines.split(b"\n")[:-1]), default=0)


async def states(seed: int, last: int) -> list[State]:
    """What there is after each step of the same work, up to that of `last`."""
    store = MemoryStore()
    wall = TestWall()
    await store.open(wall, ignore)
    driver = Driver(store, wall, seed)
    for size in bursts(seed):
        if driver.step >= last:
            break
        driver.new_burst()
        for _ in range(size):
            driver.go()
    await store.close()
    store._database.close()
    return driver.states


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("durability", ["full", "normal"])
async def test_what_was_promised_survives_a_kill(
    tmp_path: Path, durability: str, seed: int, autojump_clock: MockClock
) -> None:
    """At "full" and at "normal": nothing that was said is missing, and nothing is there in part."""
    delay = random.Random(f"{durability}{seed}").random() * 0.2
    promised = killed(tmp_path, durability, seed, delay, begun=True)
    assert promised > 0
    look_at(tmp_path / FILE_NAME)
    found = (await what_is_kept(tmp_path)).state
    step = step_of(found)
    assert step >= promised
    assert_same(found, (await states(seed, step))[step])


@pytest.mark.parametrize("delay", [0.2, 0.3, 0.4])
async def test_a_kill_while_the_file_is_made_leaves_one_that_opens(
    tmp_path: Path, delay: float, autojump_clock: MockClock
) -> None:
    """Whenever it comes."""
    promised = killed(tmp_path, "full", 1, delay, begun=False)
    found = (await what_is_kept(tmp_path)).state
    step = step_of(found)
    assert step >= promised
    assert_same(found, (await states(1, step))[step])
    with trio.fail_after(GUARD):  # and it can be written
        assert_same((await what_is_kept(tmp_path)).state, found)
