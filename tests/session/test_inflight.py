"""The window of one session."""

from __future__ import annotations

import pytest
from session.objects import message

from trio_broker.session.inflight import MAX_PACKET_IDENTIFIER, Inflight
from trio_broker.session.outgoing import Outgoing


def copy(stamp: int = 1) -> Outgoing:
    return Outgoing(message(b""), 1, False, (), stamp)


@pytest.mark.parametrize(
    ("window", "maximum", "room"), [(5, 65_535, 5), (5, 3, 3), (5, 5, 5), (65_535, 10, 10), (1, 1, 1)]
)
def test_room(window: int, maximum: int, room: int) -> None:
    inflight = Inflight(window)
    inflight.restart(maximum)
    assert inflight.room() == room
    for left in range(room, 0, -1):
        assert inflight.has_room()
        assert inflight.room() == left
        inflight.add(copy())
    assert not inflight.has_room()
    assert inflight.room() == 0


def test_identifiers_go_round() -> None:
    inflight = Inflight()
    inflight.last = MAX_PACKET_IDENTIFIER - 1
    first, second, third = copy(), copy(), copy()
    assert [inflight.add(each) for each in (first, second, third)] == [65_535, 1, 2]
    inflight.remove(second)
    inflight.last = MAX_PACKET_IDENTIFIER - 1
    assert inflight.add(second) == 1  # 65535 is in use
    assert inflight.get(65_535) is first
    assert inflight.get(9) is None


def test_restart_keeps_the_order_and_frees_the_quota() -> None:
    inflight = Inflight(10)
    copies = [copy(stamp) for stamp in (3, 1, 2)]
    for each in copies:
        inflight.add(each)
    inflight.restart(2)
    assert list(inflight.resend) == copies
    assert (inflight.open, inflight.room(), len(inflight)) == (0, 2, 3)
    inflight.remove(copies[0])  # it was not counted on this connection
    assert inflight.open == 0


def test_page_is_in_the_order_of_insertion() -> None:
    inflight = Inflight()
    for stamp in (30, 10, 20):
        inflight.add(copy(stamp))
    assert [each.inserted_at_ns for each in inflight.page(None, 2)] == [10, 20]
    assert [each.inserted_at_ns for each in inflight.page(20, 2)] == [30]
    assert inflight.page(30, 2) == []
