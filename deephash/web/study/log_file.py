"""The SQLite file that a study's log is kept in: its tables, its settings, and its errors as one line each."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import final

from deephash.validation import InvalidInputError, StorageError

# Which SQLite files are such logs ("dhst"), and in which layout; both stand in the file's head.
APPLICATION, VERSION = 0x64687374, 1
SCHEMA = (
    "CREATE TABLE study (number INTEGER PRIMARY KEY CHECK (number = 1), mode TEXT NOT NULL, seed INTEGER NOT NULL, "
    "depth INTEGER NOT NULL, queries INTEGER NOT NULL, pool INTEGER NOT NULL, direction TEXT NOT NULL, "
    "split TEXT NOT NULL, consent TEXT NOT NULL) STRICT",
    "CREATE TABLE run (number INTEGER PRIMARY KEY CHECK (number IN (0, 1)), folder TEXT NOT NULL, title TEXT NOT NULL, "
    "hasher TEXT NOT NULL) STRICT",
    "CREATE TABLE session (number INTEGER PRIMARY KEY) STRICT",
    "CREATE TABLE trial (session INTEGER NOT NULL REFERENCES session ON DELETE CASCADE, place INTEGER NOT NULL, "
    "query INTEGER NOT NULL, mode TEXT NOT NULL CHECK (mode IN ('interleaved', 'side_by_side')), "
    "PRIMARY KEY (session, place)) STRICT, WITHOUT ROWID",
    "CREATE TABLE shown (session INTEGER NOT NULL, place INTEGER NOT NULL, side INTEGER NOT NULL, "
    "rank INTEGER NOT NULL, item INTEGER NOT NULL, run INTEGER NOT NULL CHECK (run IN (0, 1)), "
    "PRIMARY KEY (session, place, side, rank), "
    "FOREIGN KEY (session, place) REFERENCES trial ON DELETE CASCADE) STRICT, WITHOUT ROWID",
    "CREATE TABLE answer (session INTEGER NOT NULL, place INTEGER NOT NULL, "
    "choice TEXT CHECK (choice IN ('left', 'right', 'none')), seconds REAL NOT NULL, PRIMARY KEY (session, place), "
    "FOREIGN KEY (session, place) REFERENCES trial ON DELETE CASCADE) STRICT, WITHOUT ROWID",
    "CREATE TABLE rating (session INTEGER NOT NULL, place INTEGER NOT NULL, side INTEGER NOT NULL, "
    "value INTEGER NOT NULL CHECK (value BETWEEN 1 AND 5), PRIMARY KEY (session, place, side), "
    "FOREIGN KEY (session, place) REFERENCES answer ON DELETE CASCADE) STRICT, WITHOUT ROWID",
    "CREATE TABLE click (session INTEGER NOT NULL, place INTEGER NOT NULL, rank INTEGER NOT NULL, "
    "PRIMARY KEY (session, place, rank), "
    "FOREIGN KEY (session, place) REFERENCES answer ON DELETE CASCADE) STRICT, WITHOUT ROWID",
)
WAIT_SECONDS = 30


@final
class LogFile:
    """An open file of the tables in `SCHEMA`; several threads and processes may use one at a time.

    Args:
        path: the file.
        create: whether to make it where there is none, without tables.

    Raises:
        InvalidInputError: the file is something else.
        StorageError: the file cannot be made or opened.
    """

    def __init__(self, path: Path, create: bool = False) -> None:
        self.path = path
        self.connection = connect(path, "rwc" if create else "rw")
        self._lock = Lock()

    def close(self) -> None:
        """Close the file; every transaction that ended is in it, whether this is called or not."""
        with self._lock:
            self.connection.close()

    @contextmanager
    def transaction(self, writes: bool = True) -> Iterator[sqlite3.Connection]:
        """The connection, for a block that happens as a whole or not at all; at its end it is on the disk.

        Raises:
            InvalidInputError: the file is damaged.
            StorageError: the disk or another program is in the way.
        """
        with self._lock, refusals(self.path):
            self.connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def pragma(self, setting: str) -> None:
        """Let SQLite do what is no part of a transaction."""
        with self._lock, refusals(self.path):
            self.connection.execute(f"PRAGMA {setting}").fetchall()

    def is_empty(self) -> bool:
        """Whether it has no tables yet; asked within a transaction."""
        tables = int(self.connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0])
        application = int(self.connection.execute("PRAGMA application_id").fetchone()[0])
        return tables == 0 and application == 0

    def lay_out(self) -> None:
        """Make the tables, within a transaction."""
        for statement in SCHEMA:
            self.connection.execute(statement)
        self.connection.execute(f"PRAGMA application_id = {APPLICATION}")
        self.connection.execute(f"PRAGMA user_version = {VERSION}")

    def check(self) -> None:
        """Raise an error for a file of something else, of another version, with tables of its own, or a damaged one.

        Raises:
            InvalidInputError: saying which.
        """
        with self.transaction(writes=False) as connection:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            tables = {row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
            damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            orphan = connection.execute("PRAGMA foreign_key_check").fetchone()
        if application != APPLICATION:
            raise InvalidInputError(f"{self.path} is an SQLite file of something else; give the log of a study.")
        if version != VERSION:
            raise InvalidInputError(
                f"{self.path} is a log of version {version}; expected {VERSION}: use the deephash that made it."
            )
        if tables != set(SCHEMA):
            damage = "its tables are others"
        elif damage == "ok" and orphan is not None:
            damage = f"a row of {orphan[0]} belongs to none of {orphan[2]}"
        if damage != "ok":
            raise InvalidInputError(f"{self.path} is damaged ({' '.join(damage.split())}); restore it from a copy.")


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open a file; what it holds is checked later."""
    with refusals(path):
        if mode == "rwc" and not path.parent.is_dir():
            raise StorageError(f"{path} cannot be made: its folder does not exist; choose another --log.")
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            timeout=WAIT_SECONDS,
            check_same_thread=False,
        )
        try:
            # What is deleted is overwritten; functions that a foreign file's own definitions name are not run.
            for setting in ("foreign_keys = ON", "synchronous = FULL", "secure_delete = ON", "trusted_schema = OFF"):
                connection.execute(f"PRAGMA {setting}")
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def refusals(path: Path) -> Iterator[None]:
    """SQLite's errors as one line."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        # What a disk or another program does, and not the file's contents.
        if isinstance(error, sqlite3.OperationalError) and "UTF-8" not in str(error):
            raise StorageError(
                f"{path} cannot be used ({error}); earlier answers are kept: see to the disk or choose another file."
            ) from error
        raise InvalidInputError(
            f"{path} is no log of a study, or damaged ({error}); restore it from a copy."
        ) from error
    except UnicodeError as error:  # a damaged schema, whose words stand in SQLite's message
        raise InvalidInputError(f"{path} is damaged (its tables are no text); restore it from a copy.") from error
    except KeyError as error:
        raise InvalidInputError(f"{path} is damaged (an answer lacks a rating); restore it from a copy.") from error
