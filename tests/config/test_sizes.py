from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_broker.config.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1MB", 1 << 20),
        ("1mb", 1 << 20),
        ("10KB", 10240),
        ("2GB", 2 << 30),
        ("2 GB", 2 << 30),
        ("512", 512),
        ("512B", 512),
        (512, 512),
        (0, 0),
    ],
)
def test_what_is_a_size(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "1TB", "1.5MB", "-1", -1, "1 M B", True, 1.0, None, "infinity", "٣KB"])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0B"), (1, "1B"), (1024, "1KB"), (1025, "1025B"), (1 << 20, "1MB"), (3 << 30, "3GB")]
)
def test_how_sizes_are_written(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(min_value=0) | st.integers(min_value=0, max_value=4096).map(lambda count: count << 20))
def test_every_size_comes_back(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.text())
def test_a_text_is_a_size_or_a_value_error(text: str) -> None:
    try:
        size = parse_size(text)
    except ValueError:
        return
    assert size >= 0
