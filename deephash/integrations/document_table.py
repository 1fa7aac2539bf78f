"""Documents, their codes and their vectors in one SQLite database; each change is one transaction."""

import fnmatch
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deephash.integrations.metadata_condition import ALWAYS, Condition, has_text, seconds_of
from deephash.io.files import describe_error
from deephash.validation import InvalidInputError, StorageError

FORMAT, VERSION = "deephash documents", 1
TABLES = {
    "settings": "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "documents": (
        "CREATE TABLE documents (row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT, metadata TEXT NOT NULL, "
        "extra TEXT, parent TEXT)"
    ),
    "documents_of_parents": "CREATE INDEX documents_of_parents ON documents (parent) WHERE parent IS NOT NULL",
    "codes": "CREATE TABLE codes (row INTEGER PRIMARY KEY, code BLOB NOT NULL)",
    "vectors": "CREATE TABLE vectors (row INTEGER PRIMARY KEY, vector BLOB NOT NULL)",
}
KEPT_CONDITIONS = 16
"""Number of conditions whose rows are kept until the next change."""
MAX_ID = 4096
"""Maximal number of characters of an id."""
BLOCK_ROWS = 8192
"""Rows that are read at a time."""


@dataclass(frozen=True)
class Record:
    """A document without its embedding.

    Args:
        id: unique name.
        text: its text; None for a document without one.
        metadata: JSON values by name.
        extra: further JSON values that a framework needs to restore its own object; filters do not see them.
        parent: name of the document that this one is a part of.
    """

    id: str
    text: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] | None = None
    parent: str | None = None


class DocumentTable:
    """The database of a store. Rows are numbers that ascend in the order of addition.

    Args:
        path: file of the database; None keeps it in memory.

    Raises:
        InvalidInputError: a file that is damaged or of another program.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._selected: dict[tuple[Any, ...], NDArray[np.int64]] = {}
        self.connection = sqlite3.connect(
            ":memory:" if path is None else path, isolation_level=None, check_same_thread=False
        )
        try:
            with self._reading():
                self._prepare()
        except BaseException:
            self.connection.close()
            raise

    def _prepare(self) -> None:
        # No trigger or view of a file of someone else is ever run: the tables must be those above, and no others.
        for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "synchronous = FULL", "temp_store = MEMORY"):
            self.connection.execute(f"PRAGMA {pragma}")
        for name, count, function in (
            ("seconds_of", 2, seconds_of),
            ("casefold", 1, str.casefold),
            ("matches", 3, match_pattern),
        ):
            self.connection.create_function(name, count, function, deterministic=True)
        schema = "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
        found = dict(self.connection.execute(schema).fetchall())
        if not found:
            with self.transaction():
                for statement in TABLES.values():
                    self.connection.execute(statement)
                self.write_settings({"format": FORMAT, "version": VERSION})
        elif found != TABLES:
            raise InvalidInputError(f"{self.path} is not a database of documents; give the folder of a store.")
        settings = self.read_settings()
        if settings.get("format") != FORMAT or settings.get("version") != VERSION:
            raise InvalidInputError(
                f"{self.path} has format {settings.get('format')!r}, version {settings.get('version')!r}; this "
                f"deephash reads version {VERSION}: upgrade it or add the documents again."
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all changes of the block, or none.

        Raises:
            StorageError: the disk does not accept them.
        """
        self._selected.clear()
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise
        except UnicodeEncodeError as error:
            raise InvalidInputError(
                f"a text contains half of a surrogate pair ({describe_error(error)}), which is not a character; "
                "remove it, for example by text.encode(errors='replace').decode()."
            ) from error
        except sqlite3.Error as error:
            raise StorageError(
                f"{self.path or 'the store'} cannot be written ({error}); nothing is changed: free space, or check the "
                "disk."
            ) from error

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise InvalidInputError(
                f"{self.path or 'the store'} cannot be read ({describe_error(error)}); restore it or add the documents "
                "again."
            ) from error

    def read_settings(self) -> dict[str, Any]:
        """Return the settings, JSON values by name."""
        with self._reading():
            rows = self.connection.execute("SELECT name, value FROM settings").fetchall()
        try:
            return {name: json.loads(value) for name, value in rows}
        except (ValueError, TypeError) as error:
            raise InvalidInputError(f"{self.path} has damaged settings ({error}); restore it.") from error

    def write_settings(self, settings: dict[str, Any]) -> None:
        """Set some settings; call it in a transaction."""
        rows = [(name, json.dumps(value)) for name, value in settings.items()]
        self.connection.executemany("INSERT OR REPLACE INTO settings VALUES (?, ?)", rows)

    def last_row(self) -> int:
        """Return the largest row number, 0 without documents."""
        with self._reading():
            (row,) = self.connection.execute("SELECT coalesce(max(row), 0) FROM documents").fetchone()
        return int(row)

    def count(self, condition: Condition = ALWAYS) -> int:
        """Return the number of documents that a condition selects."""
        with self._filtering():
            query = f"SELECT count(*) FROM documents WHERE {condition.sql}"
            return int(self.connection.execute(query, condition.parameters).fetchone()[0])

    def select_rows(self, condition: Condition) -> NDArray[np.int64]:
        """Return the rows that a condition selects, ascending; the rows of the last conditions are kept in memory.

        Raises:
            InvalidInputError: a condition that SQLite refuses, for example because it is too deep.
        """
        # Types are compared, too: 1, 1.0 and True are equal, but not in JSON.
        key = (condition, *map(type, condition.parameters))
        known = self._selected.get(key)
        if known is None:
            known = self._selected[key] = self._query_rows(condition)
            if len(self._selected) > KEPT_CONDITIONS:
                del self._selected[next(iter(self._selected))]
        return known

    def _query_rows(self, condition: Condition) -> NDArray[np.int64]:
        with self._filtering():
            query = f"SELECT row FROM documents WHERE {condition.sql} ORDER BY row"
            rows = self.connection.execute(query, condition.parameters)
            return np.fromiter((row for (row,) in rows), np.int64)

    @contextmanager
    def _filtering(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeEncodeError, OverflowError) as error:
            raise InvalidInputError(
                f"the filter cannot be evaluated ({describe_error(error)}); simplify it."
            ) from error

    def find_rows(self, ids: Iterable[str]) -> dict[str, int]:
        """Return the rows of those ids that exist."""
        condition = has_text("id", list(ids))
        with self._filtering():
            query = f"SELECT id, row FROM documents WHERE {condition.sql}"
            return dict(self.connection.execute(query, condition.parameters).fetchall())

    def read_records(self, rows: Sequence[int] | NDArray[np.int64]) -> list[Record]:
        """Return the documents of rows, in their order.

        Raises:
            InvalidInputError: a row without a document, or damaged JSON.
        """
        wanted = [int(row) for row in rows]
        found: dict[int, Record] = {}
        query = (
            "SELECT row, id, text, metadata, extra, parent FROM documents WHERE row IN (SELECT value FROM json_each(?))"
        )
        with self._reading():
            for row, name, text, metadata, extra, parent in self.connection.execute(query, (json.dumps(wanted),)):
                try:
                    values = json.loads(metadata), None if extra is None else json.loads(extra)
                except ValueError as error:
                    raise InvalidInputError(f"{self.path} has damaged metadata of {name!r}; restore it.") from error
                found[row] = Record(name, text, *values, parent)
        if len(found) < len(set(wanted)):
            raise InvalidInputError(f"{self.path or 'the store'} lacks a document of row {set(wanted) - set(found)}.")
        return [found[row] for row in wanted]

    def insert(self, first: int, records: Sequence[Record]) -> None:
        """Add documents at rows from `first` on; call it in a transaction."""
        rows = [
            (first + place, record.id, record.text, *dump_values(record), record.parent)
            for place, record in enumerate(records)
        ]
        self.connection.executemany("INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?)", rows)

    def update(self, records: Iterable[tuple[int, Record]]) -> None:
        """Replace text, metadata, extra values and parent at rows; call it in a transaction."""
        values = [(record.text, *dump_values(record), record.parent, row) for row, record in records]
        self.connection.executemany(
            "UPDATE documents SET text = ?, metadata = ?, extra = ?, parent = ? WHERE row = ?", values
        )

    def delete(self, rows: Iterable[int]) -> None:
        """Remove documents, their codes and vectors; call it in a transaction."""
        numbers = json.dumps([int(row) for row in rows])
        for table in ("documents", "codes", "vectors"):
            self.connection.execute(f"DELETE FROM {table} WHERE row IN (SELECT value FROM json_each(?))", (numbers,))

    def write_blobs(self, table: str, rows: NDArray[np.int64], blobs: NDArray[np.uint8]) -> None:
        """Store rows of bytes (n, w) in `codes` or `vectors`; call it in a transaction."""
        values = ((row, blob.tobytes()) for row, blob in zip(rows.tolist(), blobs, strict=True))
        self.connection.executemany(f"INSERT INTO {table} VALUES (?, ?)", values)

    def clear(self, table: str) -> None:
        """Remove all rows of a table; call it in a transaction."""
        self.connection.execute(f"DELETE FROM {table}")

    def read_blobs(self, table: str, rows: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
        """Return the bytes of rows that have some, (n, width), in the order of the rows.

        Raises:
            InvalidInputError: a missing row, or bytes of another length.
        """
        column = "code" if table == "codes" else "vector"
        query = f"SELECT row, {column} FROM {table} WHERE row IN (SELECT value FROM json_each(?))"
        with self._reading():
            found = dict(self.connection.execute(query, (json.dumps(rows.tolist()),)).fetchall())
        return self._join([found.get(row) for row in rows.tolist()], width)

    def rows_with_blobs(self, table: str, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of the rows have bytes in a table."""
        query = f"SELECT row FROM {table} WHERE row IN (SELECT value FROM json_each(?))"
        with self._reading():
            held = self.connection.execute(query, (json.dumps(rows.tolist()),))
            return np.isin(rows, np.fromiter((row for (row,) in held), np.int64))

    def iterate_blobs(self, table: str, width: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
        """Yield blocks of rows (n,), ascending, and their bytes (n, width)."""
        column = "code" if table == "codes" else "vector"
        query = f"SELECT row, {column} FROM {table} WHERE row > ? ORDER BY row LIMIT {BLOCK_ROWS}"
        last = -1
        while True:
            with self._reading():
                block = self.connection.execute(query, (last,)).fetchall()
            if not block:
                return
            last = block[-1][0]
            yield np.array([row for row, _ in block], np.int64), self._join([blob for _, blob in block], width)

    def _join(self, blobs: Sequence[bytes | None], width: int) -> NDArray[np.uint8]:
        for blob in blobs:
            if not isinstance(blob, bytes) or len(blob) != width:
                size = len(blob) if isinstance(blob, bytes) else blob
                raise InvalidInputError(
                    f"{self.path or 'the store'} has a row of {size} bytes where {width} are expected; restore it."
                )
        return np.frombuffer(b"".join(blobs), np.uint8).reshape(len(blobs), width)  # type: ignore[arg-type]

    def copy(self, path: Path) -> None:
        """Write a copy of the database to an empty or missing file."""
        try:
            self.connection.execute("VACUUM INTO ?", (str(path),))
        except sqlite3.Error as error:
            raise StorageError(f"{path} cannot be written ({error}); free space or choose another folder.") from error


def dump_values(record: Record) -> tuple[str, str | None]:
    """Return metadata and extra values as JSON.

    Raises:
        InvalidInputError: values that are not JSON-serialisable.
    """
    if not isinstance(record.metadata, dict) or not all(isinstance(key, str) for key in record.metadata):
        raise InvalidInputError(
            f"the metadata of {record.id!r} are {record.metadata!r}; expected a dict with texts as keys."
        )
    try:
        metadata = dump_json(record.metadata)
        return metadata, None if record.extra is None else dump_json(record.extra)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"the metadata of {record.id!r} are not JSON-serialisable ({describe_error(error)}); use texts, finite "
            "numbers, truth values, None, lists and dicts, and write times as ISO 8601 texts."
        ) from error


def dump_json(values: Any) -> str:
    """Return JSON in one line; NumPy's numbers and arrays become Python's."""
    return json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=to_plain)


def to_plain(value: Any) -> Any:
    """Convert NumPy's numbers and arrays for JSON."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{value!r} is a {type(value).__name__}")


def check_ids(ids: Sequence[Any]) -> None:
    """Raise an error unless ids are texts of 1 to `MAX_ID` characters without NUL, which SQLite would cut."""
    for name in ids:
        if not isinstance(name, str) or not 0 < len(name) <= MAX_ID or "\0" in name:
            raise InvalidInputError(
                f"id {str(name)[:100]!r} is not a text of 1 to {MAX_ID} characters without NUL; rename the document."
            )


def match_pattern(text: str, pattern: str, ignore_case: int) -> bool:
    """Match a text by a pattern of LIKE, a function of the SQL; SQLite's own ignores the case of ASCII alone."""
    return compile_pattern(pattern, bool(ignore_case)).fullmatch(text) is not None


@lru_cache(maxsize=64)
def compile_pattern(pattern: str, ignore_case: bool) -> re.Pattern[str]:
    """Compile a pattern of LIKE."""
    # fnmatch merges neighbouring stars, and its expressions do not backtrack from star to star.
    escaped = "".join({"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}.get(each, each) for each in pattern)
    return re.compile(fnmatch.translate(escaped), re.IGNORECASE if ignore_case else 0)
