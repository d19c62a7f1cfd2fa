"""A program that writes to a store until it is killed, and says each step that was promised: DIRECTORY LEVEL SEED."""

from __future__ import annotations

import os
import sys

import trio
from store.driver import Driver, bursts
from store.model import TestWall
from store.using import used

from trio_broker.store.sqlite import SqliteStore


async def main(directory: str, durability: str, seed: int) -> None:
    async with used(SqliteStore(directory, durability), TestWall(is_real=True)) as use:
        driver = Driver(use.store, use.wall, seed)

        def say(step: int) -> None:
            os.write(1, b"%d\n" % step)

        for size in bursts(seed):
            driver.new_burst()
            for _ in range(size):
                ticket = driver.go()
                ticket.then(lambda step=driver.step: say(step))  # type: ignore[misc]
                await trio.lowlevel.checkpoint()
            await ticket.wait()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
