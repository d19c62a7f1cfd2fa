"""Log lines under attack."""

from __future__ import annotations

import logging

import pytest
import trio

from trio_broker.actors.throttle import ThrottledLog


async def test_one_line_an_interval_for_each_subject_with_the_number_held_back(
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = ThrottledLog(logging.getLogger("test"), interval=1.0)
    for _ in range(5):
        log.log(logging.WARNING, "refused", "refused %s", "a")
    log.log(logging.WARNING, "handshake", "handshake %s", "b")
    await trio.sleep(1)
    log.log(logging.WARNING, "refused", "refused %s", "c")
    await trio.sleep(1)
    log.log(logging.WARNING, "refused", "refused %s", "d")
    shown = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert shown == ["refused a", "handshake b", "refused c (and 4 like it)", "refused d"]
