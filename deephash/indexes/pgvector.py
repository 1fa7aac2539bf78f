"""PostgreSQL with pgvector: a table of bit(b) codes, searched by `<~>`; a scan, or a graph."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.codes import unpack
from deephash.indexes.base import NOT_FOUND, Index, WithinRadius, ordered_nearest, ordered_within
from deephash.indexes.columns import NAME as NAME_COLUMN
from deephash.indexes.engine_package import engine_package
from deephash.validation import InvalidInputError, check_count

if TYPE_CHECKING:
    import polars

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}(\.[A-Za-z_][A-Za-z0-9_]{0,62})?")
# Rows that are sent at a time, and queries that one statement asks.
ROWS, WORD_ROWS, QUERIES = 100_000, 10_000, 256
# The most candidates that pgvector lets a search keep.
MAX_EF_SEARCH = 1000
COPY_START = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_END = b"\xff\xff"


def copy_rows(codes: NDArray[np.uint8], bits: int, first: int) -> bytes:
    """Rows (id, code) in the binary form of COPY.

    Args:
        codes: packed codes uint8 (n, B).
        bits: code length b.
        first: the first row's id.
    """
    size = codes.shape[1]
    rows = np.empty(
        len(codes),
        [("fields", ">i2"), ("id_size", ">i4"), ("id", ">i8"), ("size", ">i4"), ("bits", ">i4"), ("code", "u1", size)],
    )
    rows["fields"], rows["id_size"], rows["size"], rows["bits"] = 2, 8, 4 + size, bits
    rows["id"] = np.arange(first, first + len(codes))
    # PostgreSQL's first bit is the highest of its byte, ours the lowest.
    rows["code"] = np.packbits(np.unpackbits(codes, axis=1, bitorder="little"), axis=1)
    return rows.tobytes()


def bit_strings(codes: Tensor, bits: int) -> list[str]:
    """Codes as words of 0 and 1, the first bit first."""
    return ["".join("01"[bit] for bit in row) for row in unpack(codes, bits).tolist()]


def column_type(kind: "polars.DataType") -> str:
    """PostgreSQL's type for a column of polars."""
    import polars

    if kind.is_integer():
        return "numeric" if kind in (polars.UInt64, polars.Int128, polars.UInt128) else "bigint"
    if kind.is_float():
        return "double precision"
    if isinstance(kind, polars.Datetime):
        return "timestamp" if kind.time_zone is None else "timestamptz"
    return {polars.Boolean: "boolean", polars.Date: "date"}.get(type(kind), "text")


@contextmanager
def connected(dsn: str) -> Iterator[Any]:
    """A connection in one transaction, committed at the end, undone where something fails.

    Raises:
        InvalidInputError: the package is not installed, or whatever the database refuses.
    """
    psycopg = engine_package("psycopg", "pgvector")
    try:
        with psycopg.connect(dsn) as connection:
            yield connection
    except psycopg.Error as error:
        raise InvalidInputError(f"PostgreSQL at {without_password(dsn)!r}: {' '.join(str(error).split())}") from error


def without_password(dsn: str) -> str:
    """A connection string as keywords and values, its password left out.

    Raises:
        InvalidInputError: no connection string.
    """
    conninfo = engine_package("psycopg.conninfo", "pgvector")
    try:
        parts = conninfo.conninfo_to_dict(dsn)
    except engine_package("psycopg", "pgvector").Error as error:
        raise InvalidInputError(
            "dsn is no connection string of PostgreSQL; give one as host=localhost dbname=items."
        ) from error
    return str(conninfo.make_conninfo(**{name: value for name, value in parts.items() if name != "password"}))


@final
class PGVector(Index):
    """Keeps codes in a table of `id bigint`, `code bit(b)` and further columns; it stays when the index is gone.

    For codes that lie beside other columns in PostgreSQL. A scan answers in the time that PostgreSQL takes to read the
    table; `approximate` adds an HNSW index (`bit_hamming_ops`). Each search opens a connection of its own.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉).
        bits: code length b.
        dsn: connection string; what it leaves out libpq takes from its environment, as PGHOST and PGPASSWORD. Saved
            without its password; a saved index is searched where its string says, so load none from strangers.
        table: the table's name, or schema.name.
        approximate: by the graph; False scans.
        links: neighbours m of a node.
        ef_construction: candidates kept while the graph is built.
        ef_search: candidates kept while it is searched, up to 1000; more find more and take longer.
        existing: search a table that is there; False makes it, and refuses one that is there.
        columns: what a new table keeps beside them, (N, any): the items' `name`, and columns of the user's.

    Raises:
        InvalidInputError: the package is not installed, no such name or setting, or what the database refuses.
    """

    keeps_columns = True

    def __init__(
        self,
        codes: Tensor,
        bits: int,
        dsn: str = "",
        table: str = "deephash_codes",
        approximate: bool = False,
        links: int = 16,
        ef_construction: int = 64,
        ef_search: int = 100,
        existing: bool = False,
        columns: "polars.DataFrame | None" = None,
    ) -> None:
        super().__init__(codes, bits)
        if not isinstance(table, str) or not NAME.fullmatch(table):
            raise InvalidInputError(
                f"table={table!r}; expected a name of letters, digits and _, or schema.name, up to 63 characters each."
            )
        self.dsn, self.table, self.existing = dsn, table, existing
        self.approximate, self.exact = approximate, not approximate
        self.links, self.ef_construction, self.ef_search = links, ef_construction, ef_search
        for name in ("links", "ef_construction", "ef_search"):
            check_count(getattr(self, name), name)
        if existing and columns is not None and columns.columns != [NAME_COLUMN]:
            raise InvalidInputError(f"table {table} is there and has columns of its own; leave columns out.")
        self._sql = engine_package("psycopg.sql", "pgvector")
        with connected(dsn) as connection:
            if existing:
                self._check_table(connection)
            else:
                self._fill(connection, columns)

    @property
    def settings(self) -> dict[str, Any]:
        """As for all, save that the table is there now, and that no password is kept."""
        return {**super().settings, "dsn": without_password(self.dsn), "existing": True}

    def _statement(self, text: str) -> Any:
        """A statement with the table's name and the code's type in their places; values are parameters."""
        return self._sql.SQL(text).format(
            table=self._sql.Identifier(*self.table.split(".")), type=self._sql.SQL(f"bit({self.bits})")
        )

    def _fill(self, connection: Any, columns: "polars.DataFrame | None") -> None:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        if columns is None:
            connection.execute(self._statement("CREATE TABLE {table} (id bigint PRIMARY KEY, code {type} NOT NULL)"))
            codes = self.codes.numpy()
            with (
                connection.cursor() as cursor,
                cursor.copy(self._statement("COPY {table} (id, code) FROM STDIN (FORMAT BINARY)")) as copy,
            ):
                copy.write(COPY_START)
                for start in range(0, self.size, ROWS):
                    copy.write(copy_rows(codes[start : start + ROWS], self.bits, start))
                copy.write(COPY_END)
        else:
            self._fill_with(connection, columns)
        if self.approximate:
            graph = self._sql.SQL(
                "CREATE INDEX ON {table} USING hnsw (code bit_hamming_ops) "
                "WITH (m = {links}, ef_construction = {ef_construction})"
            )
            connection.execute(
                graph.format(
                    table=self._sql.Identifier(*self.table.split(".")),
                    links=self._sql.Literal(self.links),
                    ef_construction=self._sql.Literal(self.ef_construction),
                )
            )

    def _fill_with(self, connection: Any, columns: "polars.DataFrame") -> None:
        """Make the table with further columns; rows are sent as words, since each type has a binary form of its own."""
        table = self._sql.Identifier(*self.table.split("."))
        names = [self._sql.Identifier(name) for name in columns.columns]
        kinds = [self._sql.SQL(column_type(kind)) for kind in columns.dtypes]
        further = self._sql.SQL(", ").join(map(self._sql.SQL(" ").join, zip(names, kinds, strict=True)))
        made = self._sql.SQL("CREATE TABLE {table} (id bigint PRIMARY KEY, code {type} NOT NULL, {further})")
        connection.execute(made.format(table=table, type=self._sql.SQL(f"bit({self.bits})"), further=further))
        named = self._sql.SQL(", ").join([self._sql.Identifier("id"), self._sql.Identifier("code"), *names])
        copied = self._sql.SQL("COPY {table} ({named}) FROM STDIN").format(table=table, named=named)
        with connection.cursor() as cursor, cursor.copy(copied) as copy:
            for start in range(0, self.size, WORD_ROWS):
                codes = bit_strings(self.codes[start : start + WORD_ROWS], self.bits)
                for place, (code, row) in enumerate(
                    zip(codes, columns.slice(start, WORD_ROWS).iter_rows(), strict=True)
                ):
                    copy.write_row((start + place, code, *row))

    def _check_table(self, connection: Any) -> None:
        stored, shortest, longest = connection.execute(
            self._statement("SELECT count(*), min(length(code)), max(length(code)) FROM {table}")
        ).fetchone()
        if (stored, shortest, longest) != (self.size, self.bits, self.bits):
            raise InvalidInputError(
                f"table {self.table} holds {stored} codes of {shortest} to {longest} bits; expected {self.size} of "
                f"{self.bits}: it was changed since, so build the index again."
            )

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        # Ties in the order of ids would keep the graph from being used.
        order = "distance" if self.approximate else "distance, id"
        rows = self._rows(
            "SELECT asked.place, near.id, near.distance FROM unnest(%s::{type}[]) WITH ORDINALITY asked(code, place) "
            "CROSS JOIN LATERAL (SELECT id, code <~> asked.code AS distance FROM {table} "
            f"ORDER BY {order} LIMIT %s) near ORDER BY asked.place, near.distance, near.id",
            queries,
            k,
        )
        distances = torch.zeros(len(queries), k, dtype=torch.int64)
        ids = torch.full((len(queries), k), NOT_FOUND, dtype=torch.int64)
        rank = torch.arange(len(rows)) - torch.searchsorted(rows[:, 0].contiguous(), rows[:, 0].contiguous())
        ids[rows[:, 0], rank], distances[rows[:, 0], rank] = rows[:, 1], rows[:, 2]
        return ordered_nearest(distances, ids, self.bits + 1)

    def _within(self, queries: Tensor, radius: int) -> WithinRadius:
        if self.approximate:
            return super()._within(queries, radius)
        rows = self._rows(
            "SELECT asked.place, t.id, t.code <~> asked.code FROM unnest(%s::{type}[]) WITH ORDINALITY "
            "asked(code, place), {table} t WHERE t.code <~> asked.code <= %s ORDER BY asked.place",
            queries,
            radius,
        )
        counts = torch.bincount(rows[:, 0], minlength=len(queries))
        return ordered_within(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), rows[:, 2], rows[:, 1])

    def _rows(self, text: str, queries: Tensor, last: int) -> Tensor:
        """Rows of query, id and distance that a statement gives, int64 (n, 3), query after query."""
        statement, found = self._statement(text), []
        with connected(self.dsn) as connection:
            if self.approximate:
                wanted = max(self.ef_search, last)
                for name, value in (
                    ("hnsw.ef_search", str(min(wanted, MAX_EF_SEARCH))),
                    ("hnsw.iterative_scan", "relaxed_order"),
                ):
                    connection.execute("SELECT set_config(%s, %s, true)", (name, value))
            else:
                connection.execute("SELECT set_config('enable_indexscan', 'off', true)")
            for start in range(0, len(queries), QUERIES):
                asked = bit_strings(queries[start : start + QUERIES], self.bits)
                rows = connection.execute(statement, (asked, last)).fetchall()
                found += [(start + place - 1, identity, int(distance)) for place, identity, distance in rows]
        return torch.tensor(found, dtype=torch.int64).view(-1, 3)
