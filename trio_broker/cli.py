"""The command `trio-broker`: configuration, logging, signals, and one broker until it is told to end.

Invariant: what the user did wrong is one line on standard error; exit code 0 after a graceful end, 1 after a failure,
2 for a wrong option, key, value or file, before anything is opened.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from typing import NoReturn

import trio

from trio_broker.broker import Addresses, Broker
from trio_broker.config import Bind, Config, check_files, listener_configs, load
from trio_broker.errors import ConfigError, ListenerError
from trio_broker.garbage import short_pauses
from trio_broker.logs import logging_as
from trio_broker.systemd import notify
from trio_broker.version import __version__

logger = logging.getLogger("trio_broker.cli")

FAILED = 1
WRONG_USE = 2
INTERRUPTED = 130

_GRACE = 1.0
"""Seconds beyond `shutdown_timeout` that the broker, which keeps to that time itself, has before it is cut off."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_USE, f"{self.prog}: {_line(message)} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="trio-broker",
        description="An MQTT 3.1, 3.1.1 and 5.0 broker. Without a configuration file it listens on 127.0.0.1:1883, for "
        "WebSocket on 127.0.0.1:8083, for the REST API on 127.0.0.1:18083, and keeps its data in ./data.",
        epilog="Each key may also be set in the environment: TRIO_BROKER_MQTT__MAX_INFLIGHT=64.",
        allow_abbrev=False,
    )
    parser.add_argument("-c", "--config", metavar="FILE", help="the configuration, a TOML file")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="overrides",
        help="set one key, such as mqtt.max_inflight=64; may be given more than once",
    )
    parser.add_argument("--log-level", metavar="LEVEL", help="short for --set log.level=LEVEL")
    parser.add_argument("--check", action="store_true", help="look at the configuration, start nothing")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the broker and returns the exit code. `argv` without the program's name, sys.argv's unless given."""
    arguments = _parser().parse_args(argv)
    overrides = [*arguments.overrides]
    if arguments.log_level is not None:
        overrides.append(f"log.level={arguments.log_level}")
    try:
        config = load(arguments.config, os.environ, overrides)
        check_files(config)
        if arguments.check:
            print("trio-broker: the configuration is good")
            return 0
        with logging_as(config.log):
            return _run(config)
    except ConfigError as error:
        _tell(error)
        return WRONG_USE


def _run(config: Config) -> int:
    try:
        return trio.run(_serve, config)
    except KeyboardInterrupt:  # before or after the time in which signals are looked after
        return INTERRUPTED
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - the outermost frame: all of it is told
        return _explain(error)


def _explain(error: BaseException) -> int:
    """What the broker's end means for the user: a line for what they can change, a log entry for a fault of ours."""
    leaves = _leaves(error)
    faults = [leaf for leaf in leaves if not isinstance(leaf, (ConfigError, ListenerError, KeyboardInterrupt))]
    for fault in faults:
        logger.error("the broker has failed: %s: %s", type(fault).__name__, fault, exc_info=fault)
    if faults:
        return FAILED
    mistakes = [leaf for leaf in leaves if not isinstance(leaf, KeyboardInterrupt)]
    for mistake in mistakes:
        _tell(mistake)
    if not mistakes:
        return INTERRUPTED
    return WRONG_USE if any(isinstance(mistake, ConfigError) for mistake in mistakes) else FAILED


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for part in error.exceptions for leaf in _leaves(part)]
    return [error]


def _tell(error: BaseException) -> None:
    print(f"trio-broker: {_line(str(error))}", file=sys.stderr)


def _line(text: str) -> str:
    return " ".join(text.split())


async def _serve(config: Config) -> int:
    broker = Broker(config)
    ender = _Ender(broker, config.shutdown_timeout)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ender.watch, signals)
            with ender.scope, ExitStack() as stack:
                async with trio.open_nursery() as broker_nursery:
                    addresses: Addresses = await broker_nursery.start(broker.run)
                    stack.enter_context(short_pauses(trio.lowlevel.current_trio_token().run_sync_soon))
                    _announce(config, addresses)
                    ender.ready()
                    logger.info("trio-broker %s is ready: %s", __version__, config.node.name)
            nursery.cancel_scope.cancel()
    logger.info("ended")
    return FAILED if ender.scope.cancelled_caught and not ender.early else 0


class _Ender:
    """Ends the broker: gracefully at the first signal, at once at the second or when it takes too long."""

    def __init__(self, broker: Broker, timeout: float) -> None:
        self.scope = trio.CancelScope()
        self.early = False
        self._broker = broker
        self._timeout = timeout
        self._ready = False

    def ready(self) -> None:
        self._ready = True
        notify("READY=1", os.environ)

    async def watch(self, signals: AsyncIterator[int]) -> None:
        name = signal.Signals(await anext(signals)).name
        notify("STOPPING=1", os.environ)
        if not self._ready:
            logger.info("%s: ending before the start was complete", name)
            self.early = True
            self.scope.cancel()
            return
        logger.info("%s: ending, within %g seconds", name, self._timeout)
        self.scope.deadline = trio.current_time() + self._timeout + _GRACE
        self._broker.close()
        with trio.move_on_at(self.scope.deadline):
            name = signal.Signals(await anext(signals)).name
            logger.warning("%s again: ending at once", name)
            self.scope.cancel()
            return
        logger.error("the end took longer than %g seconds; what was left is cut off", self._timeout)


def _announce(config: Config, addresses: Addresses) -> None:
    # Each listener has told its own address when it opened.
    if addresses.api is not None:
        host, port = addresses.api
        logger.info("REST API on http://%s/api/v5", Bind(host, port))
    key = addresses.generated_key
    if key is not None:
        # A secret does not belong into a log, which is kept and sent elsewhere.
        print(f"API key (shown only now): {key.api_key}:{key.api_secret}", flush=True)
        kept = "it is good until the broker ends" if config.in_memory else "only its hash is kept"
        logger.info("there was no API key: one was made and printed on standard output; %s", kept)
    for listener in listener_configs(config):
        unchecked = config.mqtt.allow_anonymous is True or listener.enable_authn is False
        if listener.identifier in addresses.listeners and unchecked and not listener.address.is_loopback:
            why = "mqtt.allow_anonymous" if config.mqtt.allow_anonymous else "enable_authn = false"
            logger.warning("%s lets in anybody who reaches it (%s)", listener.identifier, why)
