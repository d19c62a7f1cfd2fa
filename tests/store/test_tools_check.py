"""`trio-broker check`: what it finds, and how all commands say how far they are."""

from __future__ import annotations

import io
import re
from pathlib import Path

import apsw
import msgspec
import pytest
from store.tools_world import files_in, make_store, run

from trio_broker.cli import _COMMANDS, _command_parser
from trio_broker.errors import StoreError
from trio_broker.store.database import Database
from trio_broker.store.files import FILE_NAME
from trio_broker.store.integrity import EXAMPLES
from trio_broker.store.reading import Now
from trio_broker.tools.progress import Progress

DOCS = Path(__file__).parents[2] / "docs"


def packed(*values: object) -> bytes:
    return msgspec.msgpack.encode(values)


def frame(topic_name: object, *, message_id: int = 1, properties: object = None) -> bytes:
    return packed(1, topic_name, b"p", 1, False, message_id, 1, "c", None, properties)


def spoil(store: Path, *rows: tuple[str, tuple[object, ...]]) -> None:
    db = apsw.Connection(str(store))
    for table, values in rows:
        db.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(values))})", values)
    db.close()


def test_a_good_store_is_counted(tmp_path: Path) -> None:
    """And not written to."""
    make_store(tmp_path / "data")
    before = files_in(tmp_path / "data")
    done = run(tmp_path, "check")
    assert (done.code, done.errors) == (0, "")
    first, *rest = done.output.splitlines()
    assert re.fullmatch(r"data/trio-broker\.db: \d+ kB, schema \d+, trio-broker \S+", first)
    assert rest == [
        "  2 sessions",
        "  2 subscriptions",
        "  6 queued messages",
        "  3 stored messages",
        "  2 QoS 2 identifiers",
        "  1 retained message",
        "  0 documents",
        "all is well",
    ]
    assert files_in(tmp_path / "data") == before


def test_each_kind_of_wrong_row_is_found_and_named(tmp_path: Path) -> None:
    store = make_store(tmp_path / "data", queued=0)
    spoil(
        store,
        ("msg", (100, frame("t"), None)),
        ("msg", (101, frame("t"), None)),
        ("msg", (102, frame("t/+"), None)),
        ("msg", (103, frame(5), None)),
        ("msg", (104, b"\xc1", None)),
        ("msg", (105, frame("t", properties=5), None)),
        ("msg", (106, packed(2, "t"), None)),
        ("q", (201, 1, 999, 1, 1, None)),
        *(("q", (row, 1, row - 100, 1, 1, None)) for row in range(202, 207)),
        ("q", (207, 1, 100, 1, 1, b"\xc1")),
        ("q", (208, 1, 100, 1, 3 << 3, None)),
        ("q", (209, 1, 100, 1, 3, None)),
        ("sub", (300, 1, "a/#/b", 1, 0)),
        ("sub", (301, 98, "a", 1, 0)),
        ("sub", (302, 1, "a/options", 3, 0)),
        ("received", (97 << 16 | 5,)),
        ("retained", ("other", 7, frame("r", message_id=7), None)),
        ("retained", ("bad", 8, b"\xc1", None)),
        ("session", (400, "willing", None, 1, 1, 0, None, 1, b"\xc1", None, "")),
        ("session", (401, "wild", None, 1, 1, 0, None, 1, packed("w/#", b"", 1, False, None), None, "")),
    )
    done = run(tmp_path, "check")
    assert (done.code, done.errors) == (1, "")
    malformed = "MessagePack data is malformed: invalid opcode '\\xc1' (byte 0)"
    unreadable = f"a message that was kept cannot be read: {malformed}"
    wildcard = "a topic name has a wildcard in it (0x90 topic_name_invalid)"
    assert done.output.splitlines()[8:] == [
        "wrong: queued messages without message: 1",
        "  queued message 201 of session 1 is a copy of message 999, which is not there",
        "wrong: stored messages that nobody waits for: 1",
        "  message 101 is in no queue",
        "wrong: subscriptions without session: 1",
        "  subscription 'a' is of session 98, which is not there",
        "wrong: QoS 2 identifiers without session: 1",
        "  QoS 2 identifier 5 is of session 97, which is not there",
        "wrong: sessions that cannot be read: 2",
        f"  session 400 of client 'willing': {malformed}",
        f"  session 401 of client 'wild': {wildcard}",
        "wrong: subscriptions that are not valid: 2",
        "  subscription 'a/#/b' of session 1: # must be a level of its own, and the last (0x8F topic_filter_invalid)",
        "  subscription 'a/options' of session 1: 3 stands for no options of a subscription",
        "wrong: queued messages that cannot be read: 3",
        f"  queued message 207 of session 1: {malformed}",
        "  queued message 208 of session 1: copy 208 is in phase 3, which there is not",
        "  queued message 209 of session 1: 3 stands for no state of a queued message",
        "wrong: stored messages that cannot be read: 5",
        f"  message 102: {wildcard}",
        "  message 103: a message that was kept has 5 where a value of type str belongs",
        f"  message 104: {unreadable}",
        "  message 105: argument of type 'int' is not iterable",
        "  message 106: a message that was kept cannot be read: not enough values to unpack (expected 10, got 2)",
        "wrong: retained messages that cannot be read: 2",
        f"  retained message of 'bad': {unreadable}",
        "  retained message of 'other': it holds message 7 of 'r', not 7",
        "something is wrong",
    ]


def test_what_an_ended_session_has_left_is_not_wrong(tmp_path: Path) -> None:
    """The broker deletes a long queue in parts, which others can see."""
    store = make_store(tmp_path / "data")
    spoil(store, ("msg", (100, frame("t"), None)), ("q", (200, 99, 100, 1, 1, None)))
    done = run(tmp_path, "check")
    lines = done.output.splitlines()
    assert (done.code, lines[-1]) == (0, "all is well")
    at = lines.index("  7 queued messages")
    assert lines[at + 1] == "  1 of these are of sessions that have ended: a broker that runs removes them"


@pytest.mark.parametrize(
    "row",
    [
        ("sub", (300, 1, "a/#/b", 1, 0)),
        ("q", (200, 1, 100, 1, 5 << 8 | 9, b"\xc1")),
        ("q", (200, 1, 100, 1, 5 << 8 | 3 << 3 | 1, None)),
        ("retained", ("t", 7, b"\xc1", None)),
        ("retained", ("t", 7, frame("t", properties=5), None)),
        ("retained", ("t", 7, frame("t", properties={"user_property": 5}), None)),
        ("session", (400, "willing", None, 1, 1, 0, None, 1, b"\xc1", None, "")),
    ],
    ids=["filter", "extra", "phase", "frame", "properties", "user_property", "will"],
)
def test_what_cannot_be_read_is_told_to_who_starts_a_broker_in_one_line(
    tmp_path: Path, row: tuple[str, tuple[object, ...]]
) -> None:
    """What a check finds raises StoreError, and nothing else, when a broker reads it, which it makes a line of."""
    spoil(make_store(tmp_path / "data"), ("msg", (100, frame("t"), None)), row)
    database = Database(tmp_path / "data" / FILE_NAME, full=False)
    assert database.open() is None
    try:
        with pytest.raises(StoreError):
            list(database.everything(Now(0.0, float)))
    finally:
        database.close()
    assert run(tmp_path, "check").code == 1


def test_only_the_first_of_one_kind_are_told(tmp_path: Path) -> None:
    store = make_store(tmp_path / "data")
    spoil(store, *(("msg", (row, frame("t"), None)) for row in range(100, 100 + EXAMPLES + 1234)))
    lines = run(tmp_path, "check").output.splitlines()
    assert "wrong: stored messages that nobody waits for: 1,254" in lines
    assert [line for line in lines if "is in no queue" in line] == [
        f"  message {row} is in no queue" for row in range(100, 100 + EXAMPLES)
    ]
    assert lines[-2:] == ["  and 1,234 more", "something is wrong"]


# -- how far it is


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def progress(stream: io.StringIO, *moments: float) -> list[str]:
    """What is said when something is told at each of these moments after the beginning."""
    clock = [1000.0]
    said = Progress(stream, lambda: clock[0])
    for moment in moments:
        clock[0] = 1000.0 + moment
        said("copying", int(moment * 10), 200)
    said.end()
    return stream.getvalue().splitlines(keepends=True)


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_what_is_quick_says_nothing(stream: type[io.StringIO]) -> None:
    assert progress(stream(), 0.0, 0.5, 0.9) == []


def test_into_a_file_there_is_a_line_every_few_seconds() -> None:
    moments = [second / 10 for second in range(130)]
    assert progress(io.StringIO(), *moments) == [
        "trio-broker: copying: 5 %\n",
        "trio-broker: copying: 30 %\n",
        "trio-broker: copying: 55 %\n",
    ]


def test_on_a_terminal_there_is_one_line_which_is_gone_at_the_end() -> None:
    assert progress(Terminal(), 1.0, 1.1, 2.0, 20.0) == [
        "\r",
        "copying: 5 %\r",
        "copying: 10 %\r",
        "copying: 100 %\r",
        "              \r",
    ]


def test_without_an_end_that_is_known_the_time_is_told() -> None:
    stream = io.StringIO()
    clock = iter([0.0, 3.0])
    Progress(stream, lambda: next(clock))("checking the file", 0, 0)
    assert stream.getvalue() == "trio-broker: checking the file: 3 s\n"


class Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_whoever_does_not_listen_stops_nothing() -> None:
    assert progress(Closed(), 1.0, 7.0) == []


# -- help and reference


def test_the_help_and_the_reference_name_every_command(tmp_path: Path) -> None:
    text = run(tmp_path, "--help").output
    page = (DOCS / "reference" / "command.md").read_text(encoding="utf-8")
    for name, command in _COMMANDS.items():
        assert f"  {name:<8} {command.HELP}\n" in text
        own = run(tmp_path, name, "--help")
        assert (own.code, own.errors) == (0, "")
        assert own.output.startswith(f"usage: trio-broker {name} [-h]")
        assert f"trio-broker {name}" in page
        for action in _command_parser(name)._actions:
            for option in action.option_strings:
                assert re.search(rf"`{option}[` ]", page), option
