"""The benchmark of the REST API: its table, on made-up times, and that its calls find what they are to find."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from benchmarks.rest import Call, Taken, calls, main, table
from benchmarks.rest_site import client_id, fill, host, username
from trio_broker.actors.questions import ClientFilter
from trio_broker.testing import open_broker

ONE = Call("/one", 5.0)


@pytest.mark.parametrize(
    ("alone", "beside", "verdict"), [(4.0, 5.0, "holds"), (4.0, 5.1, "BROKEN"), (6.0, 1.0, "BROKEN")]
)
def test_a_bound_has_to_hold_alone_and_beside_the_flow(alone: float, beside: float, verdict: str) -> None:
    text, holds = table([ONE], {"/one": Taken([1.0, alone, 99.0], [7.0])}, {"/one": Taken([1.0, beside, 99.0], [8.0])})
    assert text.splitlines()[-1] == f"| `/one` | {alone:.1f} | 99.0 | 7.0 | 7.0 | {beside:.1f} | 99.0 | 5 | {verdict} |"
    assert holds is (verdict == "holds")


def test_each_call_is_made_once_a_round() -> None:
    for sessions, subscriptions in ((100, 100), (2000, 20_000), (100_000, 1_000_000)):
        paths = [call.path for call in calls(sessions, subscriptions)]
        assert len(paths) == len(set(paths)) > 25


async def test_the_site_is_as_clients_would_have_made_it(autojump_clock: MockClock) -> None:
    async with open_broker() as running:
        core = running.broker._core
        assert core is not None
        await fill(core, 300, 3000)
        with trio.fail_after(60):
            stats = await running.broker.questions.stats()
            found = await running.broker.questions.clients(ClientFilter(client_ids=(client_id(299),)), 0, 1)
        assert (stats["sessions.count"], stats["subscriptions.count"]) == (300, 3000)
        info = found.rows[0]
        assert (info.username, info.peer_host, info.connected) == (username(299), host(299), False)
        assert info.subscriptions_count == 10


def test_an_unknown_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--elephants"])
    assert "elephants" in capsys.readouterr().err
