"""The logging of the command: standard logging, as text or JSON, to standard error or a file that is rotated.

Invariant: only the command sets logging up; a program that embeds the broker does its own. One record is one line,
whatever a peer put into it (a traceback follows on lines of its own, or inside the JSON object).
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TextIO

from attrs import define

from trio_broker.config import LogConfig
from trio_broker.errors import ConfigError

# Control characters, and the two line ends that Unicode adds: a client identifier must not write lines of its own.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {0x2028: "\\u2028", 0x2029: "\\u2029"}

_SUMMARY = "trio_broker_summary"
"""The attribute of a record that tells of others which were left out."""


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.123+01:00 INFO trio_broker.broker: listening on tcp:default 127.0.0.1:1883`"""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage().translate(_ESCAPES)
        line = f"{_time_of(record)} {record.levelname} {record.name}: {message}"
        trace = _trace_of(self, record)
        return f"{line}\n{trace}" if trace else line


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, and exception where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        trace = _trace_of(self, record)
        if trace:
            entry["exception"] = trace
        return json.dumps(entry)


def _time_of(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")


def _trace_of(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts = []
    if record.exc_info:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts)


@define
class _Window:
    """What has been logged of one sort since `start`."""

    start: float
    count: int = 0


class RateLimit(logging.Filter):
    """Lets `limit` records of one sort through in `interval` seconds; the others are counted and told in one record.

    A sort is a logger, a level and a message before its arguments are put in. To be added to a handler, which then
    gets the summaries too: with the first record after the interval, or with `flush`.
    """

    _MOST_SORTS = 4096

    def __init__(
        self,
        handler: logging.Handler,
        limit: float,
        interval: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._handler = handler
        self._limit = limit
        self._interval = interval
        self._clock = clock
        self._windows: dict[tuple[str, int, str], _Window] = {}
        self._look_again = -math.inf
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, _SUMMARY, False):
            return True
        sort = (record.name, record.levelno, str(record.msg))
        with self._lock:
            now = self._clock()
            summaries = self._expire(now) if now >= self._look_again else []
            if len(self._windows) >= self._MOST_SORTS and sort not in self._windows:
                # Somebody logs messages that are never twice the same; they share one count, and memory stays bounded.
                sort = (record.name, record.levelno, "messages of many sorts")
            window = self._windows.setdefault(sort, _Window(now))
            window.count += 1
            passes = window.count <= self._limit
        self._tell(summaries)
        return passes

    def flush(self) -> None:
        """Tells now what has been left out."""
        with self._lock:
            summaries = self._expire(math.inf)
        self._tell(summaries)

    def _expire(self, now: float) -> list[logging.LogRecord]:
        old = [sort for sort, window in self._windows.items() if now - window.start >= self._interval]
        summaries = []
        for sort in old:
            suppressed = self._windows.pop(sort).count - self._limit
            if suppressed > 0:
                summaries.append(_summary(sort, int(suppressed)))
        self._look_again = min((window.start for window in self._windows.values()), default=-math.inf) + self._interval
        return summaries

    def _tell(self, summaries: list[logging.LogRecord]) -> None:
        for summary in summaries:
            self._handler.handle(summary)


def _summary(sort: tuple[str, int, str], suppressed: int) -> logging.LogRecord:
    name, level, message = sort
    record = logging.LogRecord(name, level, __file__, 0, "suppressed %d similar: %s", (suppressed, message), None)
    setattr(record, _SUMMARY, True)
    return record


class LimitedStream(logging.StreamHandler[TextIO]):
    """Standard error (or another stream) with a rate limit; tells at its end what was left out."""

    def __init__(self, config: LogConfig, stream: TextIO) -> None:
        super().__init__(stream)
        self.rate_limit = RateLimit(self, config.rate_limit, config.rate_interval)
        self.addFilter(self.rate_limit)

    def close(self) -> None:
        self.rate_limit.flush()
        super().close()


class LimitedFile(logging.handlers.RotatingFileHandler):
    """A rotated file with a rate limit; tells at its end what was left out."""

    def __init__(self, config: LogConfig) -> None:
        size = 0 if config.rotation_size == math.inf else int(config.rotation_size)
        super().__init__(config.file, maxBytes=size, backupCount=config.rotation_count, encoding="utf-8")
        self.rate_limit = RateLimit(self, config.rate_limit, config.rate_interval)
        self.addFilter(self.rate_limit)

    def close(self) -> None:
        self.rate_limit.flush()
        super().close()


class Log:
    """Where the log of this process goes; made by `logging_as`."""

    def __init__(self, config: LogConfig) -> None:
        self._config = config
        self._handler = _handler(config)
        root = logging.getLogger()
        root.addHandler(self._handler)
        root.setLevel(config.level.upper())

    def change(self, config: LogConfig) -> None:
        """From now on it goes where this says. Raises ConfigError, and nothing has changed then."""
        if config == self._config:
            return
        handler, before = _handler(config), self._handler
        root = logging.getLogger()
        root.addHandler(handler)
        root.removeHandler(before)
        before.close()
        root.setLevel(config.level.upper())
        self._config, self._handler = config, handler

    def close(self) -> None:
        logging.getLogger().removeHandler(self._handler)
        self._handler.close()


def _handler(config: LogConfig) -> LimitedFile | LimitedStream:
    try:
        handler = LimitedFile(config) if config.file else LimitedStream(config, sys.stderr)
    except OSError as error:
        raise ConfigError("log.file", f"{json.dumps(config.file)} cannot be written: {error.strerror}") from error
    handler.setFormatter(JsonFormatter() if config.format == "json" else TextFormatter())
    return handler


@contextmanager
def logging_as(config: LogConfig) -> Iterator[Log]:
    """While inside, what is logged in this process goes where `config` says.

    Raises ConfigError when the file cannot be opened.
    """
    root = logging.getLogger()
    level = root.level
    log = Log(config)
    logging.captureWarnings(True)
    try:
        yield log
    finally:
        logging.captureWarnings(False)
        root.setLevel(level)
        log.close()
