"""The queue of one session."""

from __future__ import annotations

import pytest
from session.objects import message

from trio_broker.session.mqueue import MQueue
from trio_broker.session.outgoing import Outgoing


def filled(maximum: int, count: int) -> tuple[MQueue, list[int]]:
    """A queue that was given copies with the stamps 1, 2, ...; the stamps of those it dropped."""
    queue = MQueue(maximum)
    dropped = [queue.append(Outgoing(message(b""), 1, False, (), stamp)) for stamp in range(1, count + 1)]
    return queue, [each.inserted_at_ns for each in dropped if each is not None]


@pytest.mark.parametrize(("maximum", "count", "dropped"), [(0, 5, []), (5, 5, []), (3, 5, [1, 2]), (1, 3, [1, 2])])
def test_the_oldest_goes(maximum: int, count: int, dropped: list[int]) -> None:
    queue, gone = filled(maximum, count)
    assert gone == dropped
    assert queue.dropped == len(dropped)
    assert [each.inserted_at_ns for each in queue] == [stamp for stamp in range(1, count + 1) if stamp not in dropped]
    assert len(queue) == count - len(dropped)
    assert queue.popleft().inserted_at_ns == len(dropped) + 1


@pytest.mark.parametrize(
    ("after", "limit", "stamps"),
    [(None, 2, [1, 2]), (None, 9, [1, 2, 3, 4]), (2, 1, [3]), (2, 9, [3, 4]), (4, 9, []), (0, 0, [])],
)
def test_page(after: int | None, limit: int, stamps: list[int]) -> None:
    queue, _ = filled(0, 4)
    assert [each.inserted_at_ns for each in queue.page(after, limit)] == stamps
