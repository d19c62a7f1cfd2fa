"""The command: what it says, what it returns, and how it ends. The broker is a stand-in that does as it is told."""

from __future__ import annotations

import json
import logging
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio
import trio.testing
from attrs import define, evolve, field

from trio_broker import cli
from trio_broker.api.keys import GeneratedKey, GeneratedUser
from trio_broker.config import Config, Layers, LogConfig
from trio_broker.errors import ConfigError, ListenerError
from trio_broker.version import __version__


@define
class Addresses:
    listeners: dict[str, tuple[object, ...]] = field(
        factory=lambda: {"tcp:default": ("127.0.0.1", 1883), "ws:default": ("127.0.0.1", 8083)}
    )
    api: tuple[str, int] | None = ("127.0.0.1", 18083)
    api_https: tuple[str, int] | None = None
    api_v2: tuple[str, int] | None = None
    api_v4: tuple[str, int] | None = None
    generated_key: GeneratedKey | None = None
    generated_user: GeneratedUser | None = None


@define
class StandInSettings:
    """Who wants to hear of changes, by root; it is all that the command asks for."""

    watchers: dict[str, Callable[[Config, Config], None]] = field(factory=dict)

    @property
    def settings(self) -> StandInSettings:
        return self

    def watch(self, root: str, watcher: Callable[[Config, Config], None]) -> None:
        self.watchers[root] = watcher


@define
class StandIn:
    """Starts, does `work`, then runs until it is closed, and after that does `farewell`."""

    work: ClassVar[Callable[[StandIn], Awaitable[None]]]
    made: ClassVar[list[StandIn]]
    addresses: ClassVar[Addresses]
    starting: ClassVar[Callable[[StandIn], Awaitable[None]]]
    farewell: ClassVar[Callable[[StandIn], Awaitable[None]]]

    config: Config
    layers: Layers
    ignore_stored: bool = False
    new_password: bool = False
    closed: trio.Event = field(factory=trio.Event)
    questions: StandInSettings = field(factory=StandInSettings)

    def __attrs_post_init__(self) -> None:
        self.made.append(self)

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        await type(self).starting(self)
        task_status.started(self.addresses)
        await type(self).work(self)
        await self.closed.wait()
        await type(self).farewell(self)

    def close(self) -> None:
        self.closed.set()


async def nothing(broker: StandIn) -> None:
    await trio.lowlevel.checkpoint()


async def terminated(broker: StandIn) -> None:
    await trio.testing.wait_all_tasks_blocked()
    signal.raise_signal(signal.SIGTERM)


async def interrupted_again(broker: StandIn) -> None:
    await trio.testing.wait_all_tasks_blocked()
    signal.raise_signal(signal.SIGINT)
    await trio.sleep_forever()


async def never_done(broker: StandIn) -> None:
    await trio.sleep_forever()


def failing(error: BaseException) -> Callable[[StandIn], Awaitable[None]]:
    async def fail(broker: StandIn) -> None:
        await trio.lowlevel.checkpoint()
        raise error

    return fail


@pytest.fixture(autouse=True)
def broker(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    """The stand-in, which is told to terminate once it runs."""
    for name, action in (("starting", nothing), ("work", terminated), ("farewell", nothing)):
        monkeypatch.setattr(StandIn, name, action, raising=False)
    monkeypatch.setattr(StandIn, "made", [], raising=False)
    monkeypatch.setattr(StandIn, "addresses", Addresses(), raising=False)
    monkeypatch.setattr(cli, "Broker", StandIn)
    return StandIn


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What stands on standard error, log lines without their time."""
    captured = capsys.readouterr()
    assert captured.out == ""
    return [line.split(" ", 1)[1] if line[:2] == "20" else line for line in captured.err.splitlines()]


def test_it_runs_until_it_is_terminated(broker: type[StandIn], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    assert said(capsys) == [
        "INFO trio_broker.cli: REST API on http://127.0.0.1:18083/api/v5",
        f"INFO trio_broker.cli: trio-broker {__version__} is ready: trio_broker@127.0.0.1",
        "INFO trio_broker.cli: SIGTERM: ending, within 10 seconds",
        "INFO trio_broker.cli: ended",
    ]
    assert [made.config for made in broker.made] == [Config.service()]
    assert broker.made[0].closed.is_set()


def test_options_environment_and_file_reach_the_broker(
    broker: type[StandIn], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "broker.toml"
    path.write_text("[mqtt]\nmax_inflight = 1\nmax_topic_alias = 1\nmax_topic_levels = 1\n")
    monkeypatch.setenv("TRIO_BROKER_MQTT__MAX_TOPIC_ALIAS", "2")
    monkeypatch.setenv("TRIO_BROKER_MQTT__MAX_TOPIC_LEVELS", "2")
    arguments = ["--config", str(path), "--set", "mqtt.max_topic_levels=3", "--log-level", "error"]
    assert cli.main(arguments) == 0
    (made,) = broker.made
    mqtt = made.config.mqtt
    assert (mqtt.max_inflight, mqtt.max_topic_alias, mqtt.max_topic_levels) == (1, 2, 3)
    assert made.config.log.level == "error"


def test_json_logs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--set", "log.format=json"]) == 0
    entries = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert entries[0]["message"] == "REST API on http://127.0.0.1:18083/api/v5"


def test_a_quiet_log_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--log-level", "warning"]) == 0
    assert said(capsys) == []


@pytest.mark.parametrize(
    ("arguments", "warning"),
    [
        (["mqtt.allow_anonymous=true"], []),
        (["listeners.tcp.default.bind=1883"], []),
        (
            ["mqtt.allow_anonymous=true", "listeners.tcp.default.bind=1883"],
            ["WARNING trio_broker.cli: tcp:default lets in anybody who reaches it (mqtt.allow_anonymous)"],
        ),
        (
            ["listeners.tcp.default.enable_authn=false", "listeners.tcp.default.bind=[::]:1883"],
            ["WARNING trio_broker.cli: tcp:default lets in anybody who reaches it (enable_authn = false)"],
        ),
    ],
)
def test_a_door_open_to_all_is_told(
    arguments: list[str], warning: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    options = [part for argument in arguments for part in ("--set", argument)]
    assert cli.main(["--log-level", "warning", *options]) == 0
    assert said(capsys) == warning


def test_a_broker_without_any_door(
    broker: type[StandIn], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(broker, "addresses", Addresses(listeners={}, api=None))
    assert cli.main(["--set", "mqtt.allow_anonymous=true"]) == 0
    assert not any("REST" in line or "WARNING" in line for line in said(capsys))


@pytest.mark.parametrize(
    ("data_dir", "kept"), [("data", "only its hash is kept"), ("", "it is good until the broker ends")]
)
def test_a_key_that_was_made_is_printed_and_not_logged(
    broker: type[StandIn],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    data_dir: str,
    kept: str,
) -> None:
    monkeypatch.setattr(broker, "addresses", Addresses(generated_key=GeneratedKey("key", "secret")))
    assert cli.main(["--set", f"node.data_dir={data_dir}"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "API key (shown only now): key:secret\n"
    assert "secret" not in captured.err
    assert f"there was no API key: one was made and printed on standard output; {kept}\n" in captured.err


def test_a_user_that_was_made_is_printed_and_not_logged(
    broker: type[StandIn], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(broker, "addresses", Addresses(generated_user=GeneratedUser("admin", "pass-word-1")))
    assert cli.main(["--set", "node.data_dir=data"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "Dashboard user (shown only now): admin:pass-word-1\n"
    assert "pass-word-1" not in captured.err
    assert "a password was made for dashboard user admin, printed on standard output; only its" in captured.err


@pytest.mark.parametrize("arguments", [[], ["--new-password"]])
def test_a_new_password_is_made_where_that_is_said(broker: type[StandIn], arguments: list[str]) -> None:
    assert cli.main(arguments) == 0
    assert [made.new_password for made in broker.made] == [bool(arguments)]


def test_systemd_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        assert cli.main([]) == 0
        assert [receiver.recv(100), receiver.recv(100)] == [b"READY=1", b"STOPPING=1"]


def test_a_second_signal_ends_at_once(
    broker: type[StandIn], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(broker, "farewell", interrupted_again)
    assert cli.main(["--set", "shutdown_timeout=7d"]) == 1
    assert said(capsys)[-3:] == [
        "INFO trio_broker.cli: SIGTERM: ending, within 604800 seconds",
        "WARNING trio_broker.cli: SIGINT again: ending at once",
        "INFO trio_broker.cli: ended",
    ]


def test_an_end_that_takes_too_long_is_cut_off(
    broker: type[StandIn], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(broker, "farewell", never_done)
    monkeypatch.setattr(cli, "_GRACE", 0.0)
    assert cli.main(["--set", "shutdown_timeout=0s"]) == 1
    assert said(capsys)[-2:] == [
        "ERROR trio_broker.cli: the end took longer than 0 seconds; what was left is cut off",
        "INFO trio_broker.cli: ended",
    ]


def test_a_signal_before_the_start_is_complete(
    broker: type[StandIn], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def slow(broker: StandIn) -> None:
        await terminated(broker)
        await trio.sleep_forever()

    monkeypatch.setattr(broker, "starting", slow)
    assert cli.main([]) == 0
    assert said(capsys) == [
        "INFO trio_broker.cli: SIGTERM: ending before the start was complete",
        "INFO trio_broker.cli: ended",
    ]


def test_the_log_follows_the_settings(
    broker: type[StandIn], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was set before the start, and what is set later."""
    first, second = tmp_path / "first.log", tmp_path / "second.log"

    async def stored(broker: StandIn) -> None:
        broker.config = evolve(broker.config, log=LogConfig(file=str(first)))

    async def change(broker: StandIn) -> None:
        await trio.testing.wait_all_tasks_blocked()
        changed = evolve(broker.config, log=LogConfig(file=str(second), format="json"))
        broker.questions.watchers["log"](broker.config, changed)
        broken = evolve(broker.config, log=LogConfig(file=str(tmp_path / "none" / "x")))
        with pytest.raises(ConfigError, match=r"log\.file"):
            broker.questions.watchers["log"](changed, broken)
        await terminated(broker)

    monkeypatch.setattr(broker, "starting", stored)
    monkeypatch.setattr(broker, "work", change)
    assert cli.main([]) == 0
    assert said(capsys) == []
    assert "is ready" in first.read_text(encoding="utf-8")
    assert json.loads(second.read_text(encoding="utf-8").splitlines()[-1])["message"] == "ended"


def test_a_stored_log_that_cannot_be_opened_ends_nothing(
    broker: type[StandIn], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def stored(broker: StandIn) -> None:
        broker.config = evolve(broker.config, log=LogConfig(file="/none/x"))

    monkeypatch.setattr(broker, "starting", stored)
    assert cli.main([]) == 0
    assert said(capsys)[0].startswith('ERROR trio_broker.cli: the log stays where it is: log.file: "/none/x"')


def test_a_broker_that_ends_by_itself(
    broker: type[StandIn], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def ends(broker: StandIn) -> None:
        broker.close()

    monkeypatch.setattr(broker, "work", ends)
    assert cli.main([]) == 0
    assert said(capsys)[-1] == "INFO trio_broker.cli: ended"


def test_a_crash_is_a_log_line_with_its_traceback_and_no_group(
    broker: type[StandIn], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(broker, "work", failing(RuntimeError("the router is gone")))
    assert cli.main([]) == 1
    lines = said(capsys)
    at = lines.index("ERROR trio_broker.cli: the broker has failed: RuntimeError: the router is gone")
    assert lines[at + 1] == "Traceback (most recent call last):"
    assert lines[-1] == "RuntimeError: the router is gone"
    assert not any("ExceptionGroup" in line or "+-" in line for line in lines)


@pytest.mark.parametrize("moment", ["starting", "work"])
@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (ListenerError("tcp:default: port taken"), 1, ["trio-broker: tcp:default: port taken"]),
        (ConfigError("a.b", "no"), 2, ["trio-broker: a.b: no"]),
        (
            ExceptionGroup("", [ListenerError("one"), ExceptionGroup("", [ListenerError("two\nlines")])]),
            1,
            ["trio-broker: one", "trio-broker: two lines"],
        ),
        (KeyboardInterrupt(), 130, []),
    ],
)
def test_what_the_user_can_mend_is_a_line(
    broker: type[StandIn],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    moment: str,
    error: BaseException,
    code: int,
    lines: list[str],
) -> None:
    monkeypatch.setattr(broker, moment, failing(error))
    assert cli.main(["--log-level", "warning"]) == code
    assert said(capsys) == lines


def test_an_interrupt_outside_trio(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trio, "run", interrupted)
    assert cli.main([]) == 130


def test_the_configuration_is_checked(broker: type[StandIn], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--check"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("trio-broker: the configuration is good\n", "")
    assert broker.made == []


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"trio-broker {__version__}\n"


def test_help_names_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    options = ("--config", "--set", "--check", "--version", "--log-level", "--ignore-stored", "--new-password")
    assert all(option in text for option in options)


@pytest.mark.parametrize("arguments", [[], ["--ignore-stored"]])
def test_what_is_stored_is_ignored_where_that_is_said(broker: type[StandIn], arguments: list[str]) -> None:
    assert cli.main(arguments) == 0
    assert [made.ignore_stored for made in broker.made] == [bool(arguments)]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--frobnicate"], "trio-broker: unrecognized arguments: --frobnicate (see trio-broker --help)"),
        (["--conf", "x"], "trio-broker: unrecognized arguments: --conf x (see trio-broker --help)"),
        (["broker.toml"], "trio-broker: unrecognized arguments: broker.toml (see trio-broker --help)"),
        (["--config"], "trio-broker: argument -c/--config: expected one argument (see trio-broker --help)"),
        (
            ["--ignore-stored", "check"],
            "trio-broker: --ignore-stored is for starting the broker (see trio-broker --help)",
        ),
        (
            ["--new-password", "check"],
            "trio-broker: --new-password is for starting the broker (see trio-broker --help)",
        ),
    ],
)
def test_a_wrong_option_is_one_line(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert said(capsys) == [line]


@pytest.mark.parametrize("check", [[], ["--check"]])
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--config", "/none.toml"], "trio-broker: /none.toml: cannot be read: No such file or directory"),
        (
            ["--set", "mqtt.max_inflght=1"],
            'trio-broker: --set: mqtt.max_inflght: unknown key (value "1"); the nearest known key is mqtt.max_inflight',
        ),
        (["--set", "mqtt"], "trio-broker: --set: mqtt: must be KEY=VALUE"),
        (
            ["--log-level", "loud"],
            'trio-broker: --set: log.level: "loud" is not one of debug, info, warning, error, critical',
        ),
        (
            ["--set", "api_key.bootstrap_file=/none.txt"],
            'trio-broker: api_key.bootstrap_file: "/none.txt" cannot be read: No such file or directory',
        ),
    ],
)
def test_a_wrong_configuration_is_one_line_and_opens_nothing(
    broker: type[StandIn], check: list[str], arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*arguments, *check]) == 2
    assert said(capsys) == [line]
    assert broker.made == []


def test_a_wrong_key_in_a_file_is_named_with_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "broker.toml"
    path.write_text("[mqtt]\nmax_inflight = 0\n")
    assert cli.main(["--config", str(path)]) == 2
    assert said(capsys) == [f"trio-broker: {path}: mqtt.max_inflight: 0 is not a whole number from 1 to 65535"]


def test_a_log_file_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--set", "log.file=/none/x.log"]) == 2
    assert said(capsys) == ['trio-broker: log.file: "/none/x.log" cannot be written: No such file or directory']


def test_signals_and_logging_are_as_before_afterwards() -> None:
    def state() -> list[object]:
        root = logging.getLogger()
        return [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), root.level, list(root.handlers)]

    before = state()
    assert cli.main(["--log-level", "error"]) == 0
    assert state() == before
