"""The SQLite file of a log: its tables, its settings, and its errors in one line each."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import final

from deephash.validation import InvalidInputError, StorageError

# Application id ("dhst") and version of the layout, in the header of the SQLite file.
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
    """An open file with the tables in `SCHEMA`, safe to share between threads and processes.

    Args:
        path: the file.
        create: whether to create a missing file, without tables.

    Raises:
        InvalidInputError: the file is not an SQLite file.
        StorageError: the file cannot be created or opened.
    """

    def __init__(self, path: Path, create: bool = False) -> None:
        self.path = path
        self.connection = open_connection(path, "rwc" if create else "rw")
        self._lock = Lock()

    def close(self) -> None:
        """Close the file. Finished transactions are in it even without this call."""
        with self._lock:
            self.connection.close()

    @contextmanager
    def transaction(self, writes: bool = True) -> Iterator[sqlite3.Connection]:
        """Begin a transaction and yield the connection; at the end of the block, its changes are on the disk.

        Raises:
            InvalidInputError: the file is damaged.
            StorageError: the disk or another program prevents the transaction.
        """
        with self._lock, translate_errors(self.path):
            self.connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def pragma(self, setting: str) -> None:
        """Run a pragma outside a transaction."""
        with self._lock, translate_errors(self.path):
            self.connection.execute(f"PRAGMA {setting}").fetchall()

    def is_empty(self) -> bool:
        """Return whether the file has no tables yet; call it within a transaction."""
        tables = int(self.connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0])
        application = int(self.connection.execute("PRAGMA application_id").fetchone()[0])
        return tables == 0 and application == 0

    def create_tables(self) -> None:
        """Create the tables; call it within a transaction."""
        for statement in SCHEMA:
            self.connection.execute(statement)
        self.connection.execute(f"PRAGMA application_id = {APPLICATION}")
        self.connection.execute(f"PRAGMA user_version = {VERSION}")

    def check(self) -> None:
        """Raise an error if the file is not a log of this version, or is damaged.

        Raises:
            InvalidInputError: the message gives the reason.
        """
        with self.transaction(writes=False) as connection:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            tables = {row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
            damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            orphan = connection.execute("PRAGMA foreign_key_check").fetchone()
        if application != APPLICATION:
            raise InvalidInputError(
                f"{self.path} is an SQLite file but not the log of a study; give the --log of deephash study serve."
            )
        if version != VERSION:
            raise InvalidInputError(
                f"{self.path} is a log of version {version}; expected {VERSION}: use the deephash that made it."
            )
        if tables != set(SCHEMA):
            damage = "its tables differ"
        elif damage == "ok" and orphan is not None:
            damage = f"a row of {orphan[0]} has no row of {orphan[2]}"
        if damage != "ok":
            raise InvalidInputError(f"{self.path} is damaged ({' '.join(damage.split())}); restore it from a copy.")


def open_connection(path: Path, mode: str) -> sqlite3.Connection:
    """Open a file without a check of its contents."""
    with translate_errors(path):
        if mode == "rwc" and not path.parent.is_dir():
            raise StorageError(f"{path} cannot be created: its folder does not exist; choose another --log.")
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            timeout=WAIT_SECONDS,
            check_same_thread=False,
        )
        try:
            # Deleted data are overwritten, and functions named in the schema of a foreign file do not run.
            for setting in ("foreign_keys = ON", "synchronous = FULL", "secure_delete = ON", "trusted_schema = OFF"):
                connection.execute(f"PRAGMA {setting}")
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Raise SQLite's errors as errors of one line."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        # Errors of the disk or another program, not of the contents.
        if isinstance(error, sqlite3.OperationalError) and "UTF-8" not in str(error):
            raise StorageError(
                f"{path} cannot be used ({error}); earlier answers are kept: check the disk or choose another file."
            ) from error
        raise InvalidInputError(
            f"{path} is not a log of a study, or is damaged ({error}); restore it from a copy."
        ) from error
    except UnicodeError as error:  # a damaged schema, which SQLite quotes in its message
        raise InvalidInputError(f"{path} is damaged (its tables are not text); restore it from a copy.") from error
    except KeyError as error:
        raise InvalidInputError(f"{path} is damaged (an answer lacks a rating); restore it from a copy.") from error
