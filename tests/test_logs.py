"""What the command logs: one line a record, and bounded under attack."""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
import warnings
from pathlib import Path

import pytest
from attrs import define, field

from trio_broker.config import LogConfig
from trio_broker.errors import ConfigError
from trio_broker.logs import JsonFormatter, RateLimit, TextFormatter, logging_as


@define
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Collector(logging.Handler):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.name}: {record.getMessage()}")


@define
class Limited:
    """A logger whose handler lets two of a sort through in ten seconds."""

    clock: Clock = field(factory=Clock)
    handler: Collector = field(factory=Collector)
    rate_limit: RateLimit = field(init=False)
    logger: logging.Logger = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.rate_limit = RateLimit(self.handler, 2, 10.0, self.clock)
        self.handler.addFilter(self.rate_limit)
        self.logger = logging.Logger("attacked")  # noqa: LOG001 - not one that the process knows of
        self.logger.addHandler(self.handler)

    def take(self) -> list[str]:
        lines, self.handler.lines = self.handler.lines, []
        return lines


def a_record(message: str, *arguments: object, exc_info: bool = False) -> logging.LogRecord:
    info = sys.exc_info() if exc_info else None
    return logging.LogRecord("trio_broker.x", logging.INFO, __file__, 1, message, arguments, info)


def test_text_is_one_line_with_time_level_and_logger() -> None:
    record = a_record("listening on %s", "tcp:default")
    record.created = 0.25
    time, level, rest = TextFormatter().format(record).split(" ", 2)
    assert time.endswith(("+00:00", time[-6:]))
    assert time[19:23] == ".250"
    assert (level, rest) == ("INFO", "trio_broker.x: listening on tcp:default")


@pytest.mark.parametrize("evil", ["a\nb", "a\rb", "a\x1b[2Jb", "a\x85b", "a\u2028b", "a\0b"])
def test_a_client_cannot_write_lines_of_its_own(evil: str) -> None:
    for formatter in (TextFormatter(), JsonFormatter()):
        line = formatter.format(a_record("client %s", evil))
        assert len(line.splitlines()) == 1
        assert line.isprintable()


def test_a_traceback_follows() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        record = a_record("failed", exc_info=True)
    first, *rest = TextFormatter().format(record).splitlines()
    assert first.endswith("trio_broker.x: failed")
    assert rest[0] == "Traceback (most recent call last):"
    assert rest[-1] == "ValueError: broken"
    entry = json.loads(JsonFormatter().format(record))
    assert entry["exception"].endswith("ValueError: broken")


def test_a_stack_follows() -> None:
    record = a_record("here")
    record.stack_info = "Stack (most recent call last):"
    assert TextFormatter().format(record).splitlines()[1] == "Stack (most recent call last):"


def test_json_is_one_object() -> None:
    entry = json.loads(JsonFormatter().format(a_record("über %d", 3)))
    assert entry.pop("time").startswith("20")
    assert entry == {"level": "info", "logger": "trio_broker.x", "message": "über 3"}


def test_more_of_one_sort_than_the_limit_is_told_in_one_line() -> None:
    limited = Limited()
    for client in range(100):
        limited.logger.warning("connection from %s refused", client)
    assert limited.take() == [
        "WARNING attacked: connection from 0 refused",
        "WARNING attacked: connection from 1 refused",
    ]
    limited.clock.now = 9.9
    limited.logger.warning("connection from %s refused", 100)
    assert limited.take() == []
    limited.clock.now = 10.0
    limited.logger.warning("connection from %s refused", 101)
    assert limited.take() == [
        "WARNING attacked: suppressed 99 similar: connection from %s refused",
        "WARNING attacked: connection from 101 refused",
    ]


def test_another_sort_is_not_touched_and_brings_the_summary() -> None:
    limited = Limited()
    for _ in range(3):
        limited.logger.info("a")
    limited.logger.info("b")
    limited.logger.error("a")
    assert limited.take() == ["INFO attacked: a", "INFO attacked: a", "INFO attacked: b", "ERROR attacked: a"]
    limited.clock.now = 10.0
    limited.logger.info("c")
    assert limited.take() == ["INFO attacked: suppressed 1 similar: a", "INFO attacked: c"]
    limited.clock.now = 20.0
    limited.logger.info("a")
    assert limited.take() == ["INFO attacked: a"]


def test_what_was_left_out_is_told_at_the_end() -> None:
    limited = Limited()
    for _ in range(5):
        limited.logger.info("a")
    limited.take()
    limited.rate_limit.flush()
    limited.rate_limit.flush()
    assert limited.take() == ["INFO attacked: suppressed 3 similar: a"]


def test_exactly_the_limit_needs_no_summary() -> None:
    limited = Limited()
    for _ in range(2):
        limited.logger.info("a")
    limited.clock.now = 10.0
    limited.logger.info("b")
    assert limited.take() == ["INFO attacked: a", "INFO attacked: a", "INFO attacked: b"]


def test_messages_that_are_never_the_same_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RateLimit, "_MOST_SORTS", 10)
    limited = Limited()
    for number in range(100):
        limited.logger.info(str(number))  # as a library does that formats before it logs
    assert limited.take() == [f"INFO attacked: {number}" for number in range(12)]
    limited.rate_limit.flush()
    assert limited.take() == ["INFO attacked: suppressed 88 similar: messages of many sorts"]


def test_threads_count_together() -> None:
    limited = Limited()

    def log() -> None:
        for _ in range(50):
            limited.logger.info("a")

    threads = [threading.Thread(target=log) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    limited.rate_limit.flush()
    assert limited.take() == ["INFO attacked: a", "INFO attacked: a", "INFO attacked: suppressed 198 similar: a"]


def test_standard_error_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_as(LogConfig(level="warning")):
        logging.getLogger("x").info("not seen")
        logging.getLogger("x").warning("seen")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("WARNING x: seen\n")
    assert captured.err.count("\n") == 1


def test_the_rate_limit_comes_from_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_as(LogConfig(rate_limit=3, rate_interval=3600)):
        for _ in range(10):
            logging.getLogger("x").info("again")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [*["INFO x: again"] * 3, "INFO x: suppressed 7 similar: again"]


def test_without_a_rate_limit(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_as(LogConfig(rate_limit=math.inf)):
        for _ in range(200):
            logging.getLogger("x").info("again")
    assert len(capsys.readouterr().err.splitlines()) == 200


def test_warnings_of_python_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_as(LogConfig()), warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning("old", DeprecationWarning, "x.py", 1)
    assert "WARNING py.warnings: x.py:1: DeprecationWarning: old" in capsys.readouterr().err


def test_a_json_file_that_is_rotated(tmp_path: Path) -> None:
    path = tmp_path / "broker.log"
    with logging_as(LogConfig(format="json", file=str(path), rotation_size=500, rotation_count=2, rate_limit=math.inf)):
        for number in range(50):
            logging.getLogger("x").info("number %d", number)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["broker.log", "broker.log.1", "broker.log.2"]
    assert all(found.stat().st_size <= 500 for found in tmp_path.iterdir())
    assert json.loads(path.read_text(encoding="utf-8").splitlines()[-1])["message"] == "number 49"


def test_a_file_that_may_grow(tmp_path: Path) -> None:
    path = tmp_path / "broker.log"
    with logging_as(LogConfig(file=str(path), rotation_size=math.inf, rate_limit=2)):
        for _ in range(5):
            logging.getLogger("x").info("again")
    assert path.read_text(encoding="utf-8").splitlines()[-1].endswith("INFO x: suppressed 3 similar: again")


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "none" / "broker.log"
    with pytest.raises(ConfigError) as caught, logging_as(LogConfig(file=str(path))):
        pass
    assert str(caught.value) == f'log.file: "{path}" cannot be written: No such file or directory'


def test_a_log_goes_somewhere_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each record to one place; nothing is lost where the other place cannot be had."""
    path = tmp_path / "broker.log"
    logger = logging.getLogger("x")
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    with logging_as(LogConfig()) as log:
        logger.debug("not yet")
        logger.info("one")
        log.change(LogConfig(level="debug", format="json", file=str(path)))
        log.change(LogConfig(level="debug", format="json", file=str(path)))
        logger.debug("two")
        with pytest.raises(ConfigError, match=r"log\.file"):
            log.change(LogConfig(level="error", file=str(tmp_path / "none" / "x")))
        logger.debug("three")
        log.change(LogConfig(level="warning"))
        logger.info("no more")
        logger.warning("four")
    assert [line.split(": ")[-1] for line in capsys.readouterr().err.splitlines()] == ["one", "four"]
    lines = [json.loads(line)["message"] for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines == ["two", "three"]
    assert (root.handlers, root.level) == before
