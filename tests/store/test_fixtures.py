"""Files of every schema that was released, opened by the code of today.

The dumps in `fixtures` are what a released version wrote; they never change, and neither does what is expected here.
"""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest
from store.model import PlainMessage, State, TestWall, assert_same, look_at, read
from store.using import opened, used
from trio.testing import MockClock

from trio_broker.protocol.packets import Properties, Will
from trio_broker.routing.subscription import Subscription
from trio_broker.store.files import FILE_NAME
from trio_broker.store.operations import PutDocument, PutSession
from trio_broker.store.schema import MIGRATIONS
from trio_broker.store.sqlite import SqliteStore

FIXTURES = Path(__file__).with_name("fixtures")

PROPERTIES: Properties = {
    "payload_format_indicator": 1,
    "message_expiry_interval": 60,
    "content_type": "text/plain",
    "response_topic": "answers/ä",
    "correlation_data": b"\x00\x01",
    "user_property": [("k", "v"), ("k", "w")],
}
FIRST: PlainMessage = ("a/1", b"first", 2, False, 1048576, "publisher", "user", 1700000000010, {}, None)
SECOND: PlainMessage = ("a/2", b"", 1, True, 2097152, "anonymous", None, 1700000000011, PROPERTIES, 1700000060000)
THIRD: PlainMessage = (
    "b/3",
    b"\x00\xff",
    2,
    False,
    3145728,
    "publisher",
    "user",
    1700000000012,
    {"content_type": "x"},
    None,
)

# Copies: message, QoS, retain, subscription identifiers, stamp, packet identifier, phase, shared subscription.
SCHEMA_1 = State(
    sessions={
        1: PutSession(
            key=1,
            client_id="away",
            username="user",
            created_at=1700000000000,
            expiry_interval=3600,
            connected=False,
            expires_at=1700003600000,
            will=Will("wills/full", b"\xff\x00", 2, True, {"will_delay_interval": 30, **PROPERTIES}),
            will_at=1700000030000,
            disconnected_at=1700000000001,
            owner="token-1",
        ),
        2: PutSession(
            key=2,
            client_id="here ä",
            username=None,
            created_at=1700000000002,
            expiry_interval=100,
            connected=True,
            expires_at=None,
            will=Will("wills/plain", b"gone", 0, False, {}),
            will_at=None,
            disconnected_at=None,
            owner="token-2",
        ),
        3: PutSession(
            key=3,
            client_id="forever",
            username=None,
            created_at=1700000000003,
            expiry_interval=0xFFFFFFFF,
            connected=False,
            expires_at=None,
            will=None,
            will_at=None,
            disconnected_at=1700000000004,
            owner="",
        ),
    },
    subscriptions={
        1: [
            Subscription("b/+", "b/+", None, 2, True, True, 2, 268435455),
            Subscription("a/#", "a/#", None, 0, False, False, 1, 0),
        ],
        2: [Subscription("$share/group/a/#", "a/#", "group", 1, False, False, 0, 7)],
    },
    received={1: {1, 65535}, 2: {300}},
    inflight={
        1: {
            4: (FIRST, 1, False, (), 101, 11, 1, None),
            5: (FIRST, 2, False, (268435455, 3), 102, 12, 1, None),
            6: (THIRD, 2, False, (), 103, 65535, 2, None),
        }
    },
    queued={
        1: {7: (FIRST, 1, False, (), 104, 0, 0, None), 8: (SECOND, 1, True, (5,), 105, 0, 0, None)},
        2: {9: (SECOND, 1, False, (7,), 201, 0, 0, "$share/group/a/#"), 10: (THIRD, 0, False, (), 202, 0, 0, None)},
        3: {11: (THIRD, 2, False, (), 301, 0, 0, None)},
    },
    retained={
        "retained/plain": ("retained/plain", b"plain", 1, True, 4194304, "anonymous", None, 1700000000020, {}, None),
        "retained/ä": (
            "retained/ä",
            b"rich",
            2,
            True,
            5242880,
            "publisher",
            "user",
            1700000000021,
            PROPERTIES,
            1700000050500,
        ),
    },
    documents={("api_key", "key"): '{"name": "ä"}', ("banned", "key"): "[]"},
)
EXPECTED = {1: SCHEMA_1}
LAST_MESSAGE_ID = {1: 10488905728}


def build(version: int, directory: Path) -> None:
    """The file as that version left it."""
    database = apsw.Connection(str(directory / FILE_NAME))
    database.execute((FIXTURES / f"schema-{version}.sql").read_text(encoding="utf-8"))
    database.close()


@pytest.mark.parametrize("version", sorted(EXPECTED))
async def test_a_released_schema_is_read_as_it_was_written(
    tmp_path: Path, version: int, autojump_clock: MockClock
) -> None:
    """Everything, to the last property; also by the start after that, and with another Trio clock."""
    build(version, tmp_path)
    for offset in (1_700_000_000_000, 1_800_000_000_123):
        store, wall = SqliteStore(tmp_path), TestWall(offset)
        async with opened(store, wall):
            assert store.damaged is None
            found = await read(store, wall)
            assert_same(found.state, EXPECTED[version])
            assert found.last_message_id == LAST_MESSAGE_ID[version]
            assert store.new_key() >= 12
    look_at(tmp_path / FILE_NAME)


@pytest.mark.parametrize("version", sorted(EXPECTED))
async def test_a_released_schema_becomes_that_of_today(tmp_path: Path, version: int, autojump_clock: MockClock) -> None:
    """The tables are those of a new file, and they can be written."""
    tables = []
    (old := tmp_path / "old").mkdir()
    build(version, old)
    for directory in (old, tmp_path / "new"):
        async with used(SqliteStore(directory)) as use:
            await use.store.write(PutDocument("n", "1", "1")).wait()
        database = apsw.Connection(str(directory / FILE_NAME))
        tables.append(
            {
                (kind, name): " ".join(str(sql).split())
                for kind, name, sql in database.execute("SELECT type, name, sql FROM sqlite_schema").fetchall()
            }
        )
        database.close()
    assert tables[0] == tables[1]


def test_there_is_a_dump_of_every_schema() -> None:
    """Whoever adds a step of MIGRATIONS adds a dump, and what is expected of it."""
    dumps = {int(path.stem.removeprefix("schema-")) for path in FIXTURES.glob("schema-*.sql")}
    assert dumps == set(range(1, len(MIGRATIONS) + 1)) == set(EXPECTED)
