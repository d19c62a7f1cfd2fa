"""Files that an administrator names: plain ones only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trio_broker.config.files import check_plain_file, open_plain_file, read_plain_file


def test_a_plain_file_is_read_also_by_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes(b"text")
    link.symlink_to(path)
    assert read_plain_file(path) == read_plain_file(str(link)) == b"text"
    assert read_plain_file(path, 2) == b"te"
    check_plain_file(link)


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, reason in (
        (pipe, "it is no plain file"),
        (Path("/dev/null"), "it is no plain file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "none", "No such file or directory"),
    ):
        with pytest.raises(OSError, match=reason) as raised:
            open_plain_file(path)
        assert raised.value.filename in (str(path), path)


def test_what_becomes_a_pipe_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, file = tmp_path / "pipe", tmp_path / "file"
    os.mkfifo(pipe)
    file.write_bytes(b"")
    found = os.stat(file)
    monkeypatch.setattr(os, "stat", lambda path: found)
    with pytest.raises(OSError, match="it is no plain file"):
        open_plain_file(pipe)
