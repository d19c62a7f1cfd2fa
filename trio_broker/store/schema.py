"""The tables of the file, and the way from every older version of them to this one.

Invariant: a step of `MIGRATIONS` is never changed once a version with it was released; `user_version` counts the steps
that were taken.
"""

from __future__ import annotations

from typing import Final

import apsw

from trio_broker.errors import ConfigError
from trio_broker.version import __version__

_FIRST: Final = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE session(
    id INTEGER PRIMARY KEY,
    client_id TEXT NOT NULL,
    username TEXT,
    created_at INTEGER NOT NULL,
    expiry_interval INTEGER NOT NULL,
    connected INTEGER NOT NULL,
    expires_at INTEGER,
    disconnected_at INTEGER,
    will BLOB,
    will_at INTEGER,
    owner TEXT NOT NULL
) STRICT;
CREATE TABLE sub(
    id INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    filter TEXT NOT NULL,
    options INTEGER NOT NULL,
    identifier INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX sub_filter ON sub(session, filter);
CREATE TABLE msg(id INTEGER PRIMARY KEY, frame BLOB NOT NULL, expires_at INTEGER) STRICT;
CREATE TABLE q(
    id INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    msg INTEGER NOT NULL,
    inserted_at INTEGER NOT NULL,
    state INTEGER NOT NULL,
    extra BLOB
) STRICT;
CREATE TABLE received(id INTEGER PRIMARY KEY) STRICT;
CREATE TABLE retained(
    topic TEXT PRIMARY KEY, message_id INTEGER NOT NULL, frame BLOB NOT NULL, expires_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE doc(
    kind TEXT NOT NULL, key TEXT NOT NULL, rev INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY(kind, key)
) STRICT, WITHOUT ROWID;
"""

MIGRATIONS: Final[tuple[str, ...]] = (_FIRST,)
"""SQL by SQL, from an empty file to what this version works with."""

APPLICATION_ID: Final = 0x74726962
"""What says that a SQLite file is one of ours ("trib")."""


def version_of(db: apsw.Connection) -> int:
    return int(db.pragma("user_version"))


def check(db: apsw.Connection, name: str, migrations: tuple[str, ...] = MIGRATIONS) -> int:
    """The version of a file, of which nothing is changed.

    Raises ConfigError, which says `name`, for a file of a newer version, or of another program.
    """
    found = version_of(db)
    application = int(db.pragma("application_id"))
    if application not in (0, APPLICATION_ID) or (not application and _has_tables(db)):
        raise ConfigError("node.data_dir", f"{name} is a database of another program")
    if found > len(migrations):
        raise ConfigError(
            "node.data_dir",
            f"{name} was written by trio-broker {_written_by(db)} (schema {found}); this is {__version__}, "
            f"which knows schemas up to {len(migrations)}",
        )
    return found


def migrate(db: apsw.Connection, name: str, migrations: tuple[str, ...] = MIGRATIONS) -> int:
    """Bring a file to this version; returns the one it had (0 = it was empty). Raises ConfigError as `check`."""
    found = check(db, name, migrations)
    if found < len(migrations):
        with db:
            for step in migrations[found:]:
                db.execute(step)
            db.pragma("user_version", len(migrations))
            db.pragma("application_id", APPLICATION_ID)
            db.execute("INSERT OR REPLACE INTO meta VALUES ('written_by', ?)", (__version__,))
    elif _written_by(db) != __version__:
        db.execute("INSERT OR REPLACE INTO meta VALUES ('written_by', ?)", (__version__,))
    return found


def _has_tables(db: apsw.Connection) -> bool:
    return bool(db.execute("SELECT count(*) FROM sqlite_schema").get)


def _written_by(db: apsw.Connection) -> str:
    return str(db.execute("SELECT value FROM meta WHERE name = 'written_by'").get)
