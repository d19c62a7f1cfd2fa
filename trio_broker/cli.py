"""The command `trio-broker`: configuration, logging, signals, and one broker until it is told to end; other commands.

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
from pathlib import Path
from types import FrameType
from typing import NoReturn, Protocol

import trio

from trio_broker.broker import Addresses, Broker
from trio_broker.config import Bind, Config, Layers, check_files, listener_configs, load
from trio_broker.config.model import OlderApiConfig
from trio_broker.errors import ConfigError, ListenerError, StoreError
from trio_broker.garbage import short_pauses
from trio_broker.logs import Log, logging_as
from trio_broker.systemd import notify
from trio_broker.tools import backup, check, restore
from trio_broker.tools.progress import Progress
from trio_broker.version import __version__

logger = logging.getLogger("trio_broker.cli")

FAILED = 1
WRONG_USE = 2
INTERRUPTED = 130

_GRACE = 1.0
"""Seconds beyond `shutdown_timeout` that the broker, which keeps to that time itself, has before it is cut off."""


class _Command(Protocol):
    """What looks after the store instead of starting a broker."""

    HELP: str

    def arguments(self, parser: argparse.ArgumentParser, /) -> None: ...

    def run(self, data_dir: Path, wanted: argparse.Namespace, progress: Progress, /) -> int: ...


_COMMANDS: dict[str, _Command] = {"backup": backup, "restore": restore, "check": check}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_USE, f"{self.prog}: {_line(message)} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    commands = "\n".join(f"  {name:<8} {command.HELP}" for name, command in _COMMANDS.items())
    parser = _Parser(
        prog="trio-broker",
        usage="%(prog)s [options] [COMMAND ...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""\
An MQTT 3.1, 3.1.1 and 5.0 broker. Without a configuration file it listens on
127.0.0.1:1883, for WebSocket on 127.0.0.1:8083, for the REST API on
127.0.0.1:18083, and keeps its data in ./data.""",
        epilog=f"""\
commands, instead of running the broker (trio-broker COMMAND --help):
{commands}

Each key may also be set in the environment: TRIO_BROKER_MQTT__MAX_INFLIGHT=64.""",
        allow_abbrev=False,
    )
    _add_configuration(parser)
    parser.add_argument("--log-level", metavar="LEVEL", help="short for --set log.level=LEVEL")
    parser.add_argument("--check", action="store_true", help="look at the configuration, start nothing")
    parser.add_argument(
        "--ignore-stored", action="store_true", help="start without what was set over REST, which stays in the store"
    )
    parser.add_argument(
        "--new-password", action="store_true", help="make a new password for the default dashboard user and print it"
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    # Not argparse's sub-parsers: they take any word for a misspelt command, also the value of a misspelt option.
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _add_configuration(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", metavar="FILE", help="the configuration, a TOML file")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="overrides",
        help="set one key, such as mqtt.max_inflight=64; may be given more than once",
    )


def _command_parser(name: str) -> argparse.ArgumentParser:
    does = _COMMANDS[name].HELP
    parser = _Parser(prog=f"trio-broker {name}", description=f"{does[0].upper()}{does[1:]}.", allow_abbrev=False)
    _COMMANDS[name].arguments(parser)
    _add_configuration(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the broker and returns the exit code. `argv` without the program's name, sys.argv's unless given."""
    parser = _parser()
    arguments, unknown = parser.parse_known_args(argv)
    if unknown or (arguments.command and arguments.command[0] not in _COMMANDS):
        parser.error(f"unrecognized arguments: {' '.join(unknown + arguments.command)}")
    if arguments.command and arguments.check:
        parser.error("--check is for starting the broker; to look at the store: trio-broker check")
    if arguments.command and arguments.ignore_stored:
        parser.error("--ignore-stored is for starting the broker")
    if arguments.command and arguments.new_password:
        parser.error("--new-password is for starting the broker")
    overrides = [*arguments.overrides]
    if arguments.log_level is not None:
        overrides.append(f"log.level={arguments.log_level}")
    try:
        if arguments.command:
            return _tool(arguments.command[0], arguments.command[1:], arguments.config, overrides)
        layers = Layers.gather(arguments.config, os.environ, overrides)
        config = layers.config()
        check_files(config)
        if arguments.check:
            print("trio-broker: the configuration is good")
            return 0
        with logging_as(config.log) as log:
            return _run(config, layers, log, arguments)
    except ConfigError as error:
        _tell(error)
        return WRONG_USE


def _tool(name: str, argv: Sequence[str], config_file: str | None, overrides: Sequence[str]) -> int:
    """One of the other commands. Raises ConfigError."""
    wanted = _command_parser(name).parse_args(argv)
    config = load(wanted.config or config_file, os.environ, [*overrides, *wanted.overrides])
    if not config.node.data_dir:
        raise ConfigError("node.data_dir", "is empty, so nothing is kept on disk")
    progress = Progress()
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _COMMANDS[name].run(Path(config.node.data_dir), wanted, progress)
    except StoreError as error:
        progress.end()
        _tell(error)
        return FAILED
    except KeyboardInterrupt:
        progress.end()
        print("trio-broker: interrupted", file=sys.stderr)
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _run(config: Config, layers: Layers, log: Log, wanted: argparse.Namespace) -> int:
    try:
        return trio.run(_serve, config, layers, log, wanted)
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


async def _serve(config: Config, layers: Layers, log: Log, wanted: argparse.Namespace) -> int:
    broker = Broker(config, layers=layers, ignore_stored=wanted.ignore_stored, new_password=wanted.new_password)
    ender = _Ender(broker, config.shutdown_timeout)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ender.watch, signals)
            with ender.scope, ExitStack() as stack:
                async with trio.open_nursery() as broker_nursery:
                    addresses: Addresses = await broker_nursery.start(broker.run)
                    _follow(broker, log)
                    stack.enter_context(short_pauses(trio.lowlevel.current_trio_token().run_sync_soon))
                    _announce(broker.config, addresses)
                    ender.ready()
                    logger.info("trio-broker %s is ready: %s", __version__, config.node.name)
            nursery.cancel_scope.cancel()
    logger.info("ended")
    return FAILED if ender.scope.cancelled_caught and not ender.early else 0


def _follow(broker: Broker, log: Log) -> None:
    """Log as was set over REST before, and whenever that changes."""

    def change(before: Config, after: Config) -> None:
        log.change(after.log)

    try:
        log.change(broker.config.log)
    except ConfigError as error:
        # It was good when it was set; a broker that cannot start for it could not be told otherwise.
        logger.error("the log stays where it is: %s", error)
    broker.questions.settings.watch("log", change)


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


def _scheme(older: OlderApiConfig | None) -> str:
    return "http" if older is None or older.ssl_options is None else "https"


def _announce(config: Config, addresses: Addresses) -> None:
    # Each listener has told its own address when it opened.
    for path, scheme, address in (
        ("v5", "http", addresses.api),
        ("v5", "https", addresses.api_https),
        ("v4", _scheme(config.api.v4), addresses.api_v4),
        ("v2", _scheme(config.api.v2), addresses.api_v2),
    ):
        if address is not None:
            logger.info("REST API on %s://%s/api/%s", scheme, Bind(*address), path)
    kept = "it is good until the broker ends" if config.in_memory else "only its hash is kept"
    key = addresses.generated_key
    if key is not None:
        # A secret does not belong into a log, which is kept and sent elsewhere.
        print(f"API key (shown only now): {key.api_key}:{key.api_secret}", flush=True)
        logger.info("there was no API key: one was made and printed on standard output; %s", kept)
    user = addresses.generated_user
    if user is not None:
        print(f"Dashboard user (shown only now): {user.username}:{user.password}", flush=True)
        logger.info("a password was made for dashboard user %s, printed on standard output; %s", user.username, kept)
    for listener in listener_configs(config):
        unchecked = config.mqtt.allow_anonymous is True or listener.enable_authn is False
        if listener.identifier in addresses.listeners and unchecked and not listener.address.is_loopback:
            why = "mqtt.allow_anonymous" if config.mqtt.allow_anonymous else "enable_authn = false"
            logger.warning("%s lets in anybody who reaches it (%s)", listener.identifier, why)
