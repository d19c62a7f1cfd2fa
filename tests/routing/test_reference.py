"""The reference the other tests rely on is itself right about every case of the specification's table."""

from __future__ import annotations

import pytest
from routing.reference import MATCHING, matches


@pytest.mark.parametrize(("topic_filter", "topic_name", "expected"), MATCHING)
def test_reference_matching(topic_filter: str, topic_name: str, expected: bool) -> None:
    assert matches(topic_filter, topic_name) is expected
