"""The benchmark's arithmetic, on made-up results: nothing here is timed, no broker is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import decisions
from benchmarks.brokers import (
    BASELINE,
    OURS,
    RULES,
    aedes,
    amqtt_config,
    custom,
    flashmq_config,
    mosquitto_config,
    trio_broker_config,
)
from benchmarks.load import Options, trouble_in
from benchmarks.plot import better
from benchmarks.profile import own_and_total
from benchmarks.run import arguments, chosen_brokers, main
from benchmarks.scenario import Row, Sample
from benchmarks.scenarios import SCENARIOS
from benchmarks.table import Spread, aligned, has_losses, markdown, notes, number, rendered, summarise
from trio_broker.access.acl_file import read_acl
from trio_broker.config import listener_configs, load

RATE = Row("rate", "some rate", "msg/s", 3, 9)
DELAY = Row("delay", "some delay", "ms", 3, 1.5, higher_is_better=False)
MEMORY = Row("memory", "some memory", "KB", 10, 4, higher_is_better=False, is_ratio=False)
FACTOR = Row("factor", "some factor", "x", 2, None, higher_is_better=False, is_ratio=False)


def samples(row: Row, **values: list[float]) -> dict[tuple[int, str, str], Sample]:
    """Broker (with _ for -) to its values, round by round."""
    return {
        (round_number, broker.replace("_", "-"), row.key): Sample(value)
        for broker, taken in values.items()
        for round_number, value in enumerate(taken, start=1)
    }


def test_a_ratio_is_taken_round_by_round() -> None:
    # The machine was half as fast in the second round, for both: the medians' ratio would say 5 / 2.
    taken = samples(RATE, trio_broker=[10.0, 5.0, 4.0], mosquitto=[2.0, 1.0, 2.0])
    (line,) = summarise([RATE], taken, OURS, BASELINE)
    assert line.cells[OURS].ratio == Spread(middle=5.0, low=2.0, high=5.0)
    assert line.cells[OURS].value == Spread(middle=5.0, low=4.0, high=10.0)
    assert line.cells[BASELINE].ratio is None


def test_a_round_without_the_baseline_gives_no_ratio() -> None:
    taken = samples(RATE, trio_broker=[10.0, 30.0], mosquitto=[2.0])
    (line,) = summarise([RATE], taken, OURS, BASELINE)
    assert line.cells[OURS].ratio == Spread(5.0, 5.0, 5.0)


@pytest.mark.parametrize(
    ("row", "ours", "verdict"),
    [
        (RATE, 2.9, "below floor"),
        (RATE, 3.0, "floor"),
        (RATE, 9.0, "aim"),
        (DELAY, 3.1, "below floor"),
        (DELAY, 3.0, "floor"),
        (DELAY, 1.5, "aim"),
        (MEMORY, 10.1, "below floor"),
        (MEMORY, 9.0, "floor"),
        (MEMORY, 4.0, "aim"),
        (FACTOR, 2.1, "below floor"),
        (FACTOR, 1.0, "floor"),
    ],
)
def test_verdicts(row: Row, ours: float, verdict: str) -> None:
    (line,) = summarise([row], samples(row, trio_broker=[ours], mosquitto=[1.0]), OURS, BASELINE)
    assert line.verdict == verdict


def test_no_verdict_without_what_it_needs() -> None:
    (without_baseline,) = summarise([RATE], samples(RATE, trio_broker=[1.0]), OURS, BASELINE)
    (without_us,) = summarise([RATE], samples(RATE, mosquitto=[1.0]), OURS, BASELINE)
    assert (without_baseline.verdict, without_us.verdict) == ("no ratio", "not measured")
    assert summarise([DELAY], samples(RATE, mosquitto=[1.0]), OURS, BASELINE) == []


def test_a_factor_is_not_divided_by_another_broker_s() -> None:
    (line,) = summarise([FACTOR], samples(FACTOR, trio_broker=[1.2], mosquitto=[0.6]), OURS, BASELINE)
    assert line.cells[OURS].ratio is None


def test_losses_mark_the_row_however_fast_it_was() -> None:
    taken = samples(RATE, trio_broker=[90.0, 90.0], mosquitto=[1.0, 1.0], amqtt=[1.0, 1.0])
    taken[2, OURS, RATE.key] = Sample(90.0, "LOST 1 of 5\nand its log")
    lines = summarise([RATE], taken, OURS, BASELINE)
    assert lines[0].verdict == "LOSSES"
    assert notes(lines) == ["! some rate, trio-broker, round 2: LOST 1 of 5"]
    assert rendered(lines, OURS, BASELINE, [OURS, BASELINE])[1][2] == "90.0 !"
    assert has_losses(lines, [OURS, BASELINE])
    assert not has_losses(lines, [BASELINE, "amqtt"])
    assert not has_losses(lines, ["flashmq"])


def test_a_failed_round_is_told_and_not_averaged() -> None:
    taken = samples(RATE, trio_broker=[8.0, 0.0, 10.0], mosquitto=[1.0, 1.0, 1.0], amqtt=[0.0])
    taken[2, OURS, RATE.key] = Sample(0.0, "failed: it ended")
    taken[1, "amqtt", RATE.key] = Sample(0.0, "failed: it ended")
    (line,) = summarise([RATE], taken, OURS, BASELINE)
    assert line.verdict == "LOSSES"
    assert line.cells[OURS].ratio == Spread(9.0, 8.0, 10.0)
    assert line.cells["amqtt"].ratio is None
    assert rendered([line], OURS, BASELINE, [OURS, BASELINE, "amqtt"])[1][8] == "0.00 !"


def test_the_table_as_text() -> None:
    taken = samples(RATE, trio_broker=[1_300_000.0], mosquitto=[130_000.0], amqtt=[13_000.0])
    lines = summarise([RATE], taken, OURS, BASELINE)
    cells = rendered(lines, OURS, BASELINE, [OURS, BASELINE, "amqtt"])
    assert cells[1][:9] == [
        *("some rate", "msg/s", "1,300k", "130k", "10.00 (10.00..10.00)", ">= 3 x", ">= 9 x", "aim"),
        "13.0k (0.10 x)",
    ]
    head, rule, row = markdown(cells).splitlines()
    assert head.count("|") == rule.count("|") == row.count("|") == len(cells[0]) + 1
    shown = aligned(cells).splitlines()
    assert shown[0].index(BASELINE) == shown[1].index("130k", shown[1].index("1,300k") + 6)
    assert "generator CPU" not in shown[0]  # empty in every row


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.714, "0.71"), (12.34, "12.3"), (311.2, "311"), (4_700.0, "4.7k"), (216_400.0, "216k"), (1_148_600.0, "1,149k")],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


RUN = {"sent": 10, "acked": 10, "received": 10, "expected": 10, "qos": 1, "duplicates": 0, "misordered": 0, "failed": 0}


@pytest.mark.parametrize(
    ("figures", "code", "trouble"),
    [
        (RUN, 0, ""),
        (RUN | {"qos": 0, "acked": 0}, 0, ""),
        (RUN | {"received": 8}, 1, "LOST 2 of 10"),
        (RUN | {"received": 10, "duplicates": 1}, 1, "LOST 1 of 10"),
        (RUN | {"acked": 7}, 1, "3 not acknowledged"),
        (RUN | {"misordered": 2, "failed": 1}, 1, "2 misordered, 1 failed"),
        ({"mode": "replay", "expected": 9, "short": 4}, 1, "LOST 4 of 9"),
        ({"mode": "held", "connections": 9, "dropped": 1}, 1, "1 dropped"),
        ({"mode": "connect", "connections": 9, "expected": 9, "failed": 0}, 0, ""),
        ({}, 3, "the load generator ended with code 3"),
    ],
)
def test_what_a_run_lost(figures: dict[str, Any], code: int, trouble: str) -> None:
    assert trouble_in(figures, code) == trouble


def test_options_of_the_generator() -> None:
    options = Options("pairs", 200, 100, 100, qos=1, window=1, version=5)
    assert " ".join(options.words()) == "-m pairs -P 100 -S 100 -q 1 -n 200 -w 1 -V 5"
    assert options.argv(1884)[1:3] == ["-p", "1884"]
    assert Options("connect", 4000).words() == ["-m", "connect", "-n", "4000"]
    assert options.scaled(0.1).count == 20
    assert options.scaled(0.0001).count == 1


def test_our_configuration_is_accepted_and_opens_one_port(tmp_path: Path) -> None:
    path = tmp_path / "trio-broker.toml"
    path.write_text(trio_broker_config(1884))
    config = load(path)
    (listener,) = [listener for listener in listener_configs(config) if listener.enable]
    assert listener.bind == "127.0.0.1:1884"
    assert config.http is None
    assert config.in_memory
    assert config.mqtt.max_inflight == 65535
    assert config.mqtt.max_mqueue_len == float("inf")


def test_ours_with_rules_is_chosen_by_name_only(tmp_path: Path) -> None:
    (broker,), _ = chosen_brokers(f"{OURS}-rules", [])
    *_, path = broker.command(1884, tmp_path)
    config = load(path)
    assert config.authorization.no_match == "deny"
    assert [source.type for source in config.authorization.sources] == ["file"]
    assert len(read_acl(RULES).rules) == len(RULES.splitlines())
    assert broker.name not in [other.name for other in chosen_brokers(None, [])[0]]


def test_what_decisions_cost_can_be_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(decisions, "CALLS", 20)
    assert decisions.main() == 0
    assert f"one made of {len(RULES.splitlines())} rules" in capsys.readouterr().out


def test_aedes_is_measured_where_npm_has_brought_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    monkeypatch.setattr("benchmarks.brokers._first_line", lambda *argv: "v99.0.0")
    assert "npm install" in aedes(tmp_path).missing
    package = tmp_path / "node_modules" / "aedes" / "package.json"
    package.parent.mkdir(parents=True)
    package.write_text('{"version": "1.2.3"}')
    broker = aedes(tmp_path)
    assert not broker.missing
    assert broker.version == "aedes 1.2.3, Node.js v99.0.0"
    assert broker.command(1234, tmp_path) == ["/bin/node", str(tmp_path / "aedes.js"), "1234"]
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert aedes(tmp_path).missing == "no program 'node'"


@pytest.mark.parametrize("config", [mosquitto_config, amqtt_config, flashmq_config])
def test_the_peers_stay_on_loopback_and_let_everybody_in(config: Any) -> None:
    text = config(1885)
    assert "1885" in text
    assert "127.0.0.1" in text
    assert "0.0.0.0" not in text
    assert "allow_anonymous" in text


def test_a_broker_from_the_command_line(tmp_path: Path) -> None:
    broker = custom("mine=/opt/broker --port {port} --bind 127.0.0.1:{port}")
    assert broker.name == "mine"
    assert broker.command(1886, tmp_path) == ["/opt/broker", "--port", "1886", "--bind", "127.0.0.1:1886"]
    assert custom("broker --set a=b {port}").name == "custom"
    with pytest.raises(ValueError, match="does not say where"):
        custom("mine=broker")


def test_brokers_are_chosen_by_name() -> None:
    chosen, _ = chosen_brokers(OURS, ["mine=broker {port}"])
    assert [broker.name for broker in chosen] == [OURS, "mine"]
    with pytest.raises(ValueError, match="unknown broker 'nobody'"):
        chosen_brokers("nobody", [])


@pytest.mark.parametrize("argv", [["--only", "no such scenario"], ["--brokers", "nobody"]])
def test_a_wrong_choice_is_one_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("argv", [["--rounds", "0"], ["--scale", "0"], ["--only", "("]])
def test_a_wrong_option_ends_with_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments(argv)
    assert ended.value.code == 2


def test_less_is_better_is_drawn_the_other_way_round() -> None:
    (line,) = summarise([DELAY], samples(DELAY, trio_broker=[2.0, 4.0], mosquitto=[1.0, 1.0]), OURS, BASELINE)
    assert better(line, line.cells[OURS]) == Spread(middle=1 / 3, low=0.25, high=0.5)
    assert better(line, line.cells[BASELINE]) is None


def test_own_and_total_samples_of_a_function() -> None:
    own, total = own_and_total(["run;poll;decode 3", "run;poll 1", "run;walk;walk 2", ""])
    assert own == {"decode": 3, "poll": 1, "walk": 2}
    assert total == {"run": 6, "poll": 4, "decode": 3, "walk": 2}


def test_every_row_is_in_the_documentation() -> None:
    rows = [row for scenario in SCENARIOS for row in scenario.rows]
    assert len({row.key for row in rows}) == len(rows)
    text = (Path(__file__).parent.parent / "docs" / "performance.md").read_text()
    text = text[text.index("## What counts") : text.index("## Where it stands")]
    for row in rows:
        (found,) = [line for line in text.splitlines() if line.startswith(f"| `{row.key}` |")]
        bounds = [cell.strip() for cell in found.split("|")][3:5]
        unit = "x" if row.is_ratio else row.unit
        assert bounds == [f"{row.floor:g} {unit}", f"{row.aim:g} {unit}" if row.aim is not None else ""]
