"""The arithmetic of the budget, on made-up profiles."""

from __future__ import annotations

import pytest

from benchmarks.budget import PARTS, line, main, native_shares, part_of, python_shares

REPORT = """\
# Overhead  Shared Object  Symbol
    40.00%  [kernel.kallsyms]  [k] tcp_sendmsg
     2.50%  [kernel.kallsyms]  [k] tcp_ack
    30.00%  python3.11         [.] _PyEval_EvalFrameDefault
     1.00%  python3.11         [.] gc_collect_main.constprop.0
     0.50%  python3.11         [.] dict_traverse

""".splitlines()
STACKS = """\
run (trio/_core/_run.py);Poller._read (trio_broker/actors/poller.py);decode (trio_broker/protocol/decode.py) 30
run (trio/_core/_run.py);Poller._read (trio_broker/actors/poller.py) 10
run (trio/_core/_run.py) 5
run (trio/_core/_run.py);deliver (trio_broker/session/session.py);__init__ (<attrs generated methods x>:3) 50
something (elsewhere.py) 5
""".splitlines()


@pytest.mark.parametrize(
    ("frame", "part"),
    [
        ("encode (trio_broker/protocol/encode.py)", "encode"),
        ("decode (trio_broker/protocol/decoder.py)", "decode"),
        ("Router._take (trio_broker/actors/router.py)", "route"),
        ("SessionActor.handle (trio_broker/actors/session_actor.py)", "deliver"),
        ("Poller.run (trio_broker/actors/poller.py)", "actors"),
        ("unrolled_run (trio/_core/_run.py)", "Trio"),
        ("send (outcome/_impl.py)", "Trio"),
        ("request (quart_trio/app.py)", "other"),
    ],
)
def test_a_frame_belongs_to_a_part(frame: str, part: str) -> None:
    assert part_of(frame) == part
    assert part in PARTS


def test_a_sample_counts_for_the_innermost_part_that_has_a_name() -> None:
    assert python_shares(STACKS) == {"decode": 0.3, "actors": 0.1, "Trio": 0.05, "deliver": 0.5, "other": 0.05}
    assert python_shares([]) == {}


def test_the_kernel_and_the_collector_are_told_from_the_interpreter() -> None:
    assert native_shares(REPORT) == pytest.approx((0.425, 0.015))


def test_the_parts_add_up_to_the_whole() -> None:
    parts = line(20.0, 0.4, 0.1, python_shares(STACKS))
    assert sum(parts.values()) == pytest.approx(20.0)
    assert parts["system calls"] == pytest.approx(8.0)
    assert parts["garbage"] == pytest.approx(2.0)
    assert parts["deliver"] == pytest.approx(5.0)
    assert parts["encode"] == 0.0


def test_an_unknown_scenario_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["elephants"])
    assert "elephants" in capsys.readouterr().err
