"""PostgreSQL with pgvector: a table of bit(b) codes, searched by `<~>`; a scan, or a graph."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.indexes.base import Index, check_graph
from deephash.indexes.columns import NAME
from deephash.indexes.engine_package import import_engine
from deephash.indexes.neighbour_lists import WithinRadius, arrange_nearest, arrange_within
from deephash.indexes.pgvector_statements import (
    MAX_EF_SEARCH,
    bit_strings,
    check_graph_bounds,
    check_table_name,
    graph_statement,
    table_statement,
)
from deephash.indexes.row_filter import Where, filtering
from deephash.io.files import describe_error
from deephash.validation import InvalidInputError

if TYPE_CHECKING:
    import polars

# Number of rows sent at a time in binary form, of rows sent at a time as text, and of queries per statement.
ROWS, TEXT_ROWS, QUERIES = 100_000, 10_000, 256
COPY_START = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_END = b"\xff\xff"


def copy_rows(codes: NDArray[np.uint8], bits: int, first: int) -> bytes:
    """Return rows (id, code) in the binary format of COPY.

    Args:
        codes: packed codes uint8 (n, B).
        bits: code length b.
        first: id of the first row.
    """
    size = codes.shape[1]
    rows = np.empty(
        len(codes),
        [("fields", ">i2"), ("id_size", ">i4"), ("id", ">i8"), ("size", ">i4"), ("bits", ">i4"), ("code", "u1", size)],
    )
    rows["fields"], rows["id_size"], rows["size"], rows["bits"] = 2, 8, 4 + size, bits
    rows["id"] = np.arange(first, first + len(codes))
    # The first bit of a byte is the highest in PostgreSQL, and the lowest in deephash.
    rows["code"] = np.packbits(np.unpackbits(codes, axis=1, bitorder="little"), axis=1)
    return rows.tobytes()


@contextmanager
def connect(dsn: str) -> Iterator[Any]:
    """Open a connection with one transaction, committed at the end and rolled back on an error.

    Raises:
        InvalidInputError: the package is not installed, or the database reports an error.
    """
    psycopg = import_engine("psycopg", "pgvector")
    try:
        with psycopg.connect(dsn) as connection:
            yield connection
    except psycopg.Error as error:
        raise InvalidInputError(f"PostgreSQL at {remove_password(dsn)!r}: {describe_error(error)}") from error


def remove_password(dsn: str) -> str:
    """Return a connection string as keywords and values, without its password."""
    conninfo = import_engine("psycopg.conninfo", "pgvector")
    try:
        parts = conninfo.conninfo_to_dict(dsn)
    except import_engine("psycopg", "pgvector").Error as error:
        raise InvalidInputError(
            "dsn is not a connection string of PostgreSQL; give one such as host=localhost dbname=items."
        ) from error
    return str(conninfo.make_conninfo(**{name: value for name, value in parts.items() if name != "password"}))


@final
class PGVector(Index):
    """Index in a table of `id bigint`, `code bit(b)` and further columns; the table outlives the index.

    Use it for codes that are stored beside other columns in PostgreSQL. A scan takes as long as reading the table;
    `approximate` adds an HNSW index (`bit_hamming_ops`). Each search opens a connection.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉).
        bits: code length b.
        dsn: connection string; libpq reads missing parts from environment variables, such as PGHOST. It is saved
            without its password. A saved index connects to the database that its string names, so do not load one from
            an untrusted source.
        table: the table's name, or schema.name.
        approximate: whether to use the graph; False scans.
        links: neighbours m of a node.
        ef_construction: candidates kept while the graph is built.
        ef_search: candidates kept while it is searched, up to 1000; higher values find more and take longer.
        existing: whether to search an existing table; False creates the table, and raises an error if it exists.
        columns: columns to store beside the codes in a new table, (N, any): the items' `name`, and the user's columns.

    Raises:
        InvalidInputError: the package is not installed, a name or setting is invalid, or the database reports an error.
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
        check_table_name(table)
        self.dsn, self.table, self.existing = dsn, table, existing
        self.approximate, self.exact = approximate, not approximate
        self.links, self.ef_construction, self.ef_search = links, ef_construction, ef_search
        check_graph(links, ef_construction, ef_search)
        if approximate:
            check_graph_bounds(bits, links, ef_construction)
        if existing and columns is not None and columns.columns != [NAME]:
            raise InvalidInputError(f"table {table} exists already with its columns; leave columns out.")
        self._sql = import_engine("psycopg.sql", "pgvector")
        with connect(dsn) as connection:
            if existing:
                self._check_table(connection)
            else:
                self._create_table(connection, columns)

    @property
    def settings(self) -> dict[str, Any]:
        """Constructor arguments, without the password, and with `existing` true since the table now exists."""
        return {**super().settings, "dsn": remove_password(self.dsn), "existing": True}

    def _statement(self, text: str, **parts: Any) -> Any:
        """Fill the table's name, the code's type and further parts into a statement; values stay parameters."""
        table, kind = self._sql.Identifier(*self.table.split(".")), self._sql.SQL(f"bit({self.bits})")
        return self._sql.SQL(text).format(table=table, type=kind, **parts)

    def _create_table(self, connection: Any, columns: "polars.DataFrame | None") -> None:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute(table_statement(self.table, self.bits, None if columns is None else columns.schema))
        if columns is None:
            self._copy_codes(connection)
        else:
            self._copy_rows(connection, columns)
        if self.approximate:
            connection.execute(graph_statement(self.table, self.links, self.ef_construction))

    def _copy_codes(self, connection: Any) -> None:
        """Send ids and codes in binary form."""
        codes = self.codes.numpy()
        statement = self._statement("COPY {table} (id, code) FROM STDIN (FORMAT BINARY)")
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(COPY_START)
            for start in range(0, self.size, ROWS):
                copy.write(copy_rows(codes[start : start + ROWS], self.bits, start))
            copy.write(COPY_END)

    def _copy_rows(self, connection: Any, columns: "polars.DataFrame") -> None:
        """Send ids, codes and further columns as text, since each type has a different binary form."""
        names = self._sql.SQL(", ").join(map(self._sql.Identifier, ("id", "code", *columns.columns)))
        statement = self._statement("COPY {table} ({names}) FROM STDIN", names=names)
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            for start in range(0, self.size, TEXT_ROWS):
                codes = bit_strings(self.codes[start : start + TEXT_ROWS], self.bits)
                rows = zip(codes, columns.slice(start, TEXT_ROWS).iter_rows(), strict=True)
                for place, (code, row) in enumerate(rows, start):
                    copy.write_row((place, code, *row))

    def _check_table(self, connection: Any) -> None:
        stored, shortest, longest = connection.execute(
            self._statement("SELECT count(*), min(length(code)), max(length(code)) FROM {table}")
        ).fetchone()
        if (stored, shortest, longest) != (self.size, self.bits, self.bits):
            raise InvalidInputError(
                f"table {self.table} holds {stored} codes of {shortest} to {longest} bits; expected {self.size} of "
                f"{self.bits}: it has changed, so build the index again."
            )

    def _filter_rows(self, where: Where) -> NDArray[np.bool_]:
        if not isinstance(where, str):
            return super()._filter_rows(where)
        statement = self._statement("SELECT id FROM {table} WHERE (") + self._sql.SQL(f"{where})")
        selected = np.zeros(self.items.rows, bool)
        with connect(self.dsn) as connection, filtering(where):
            connection.execute("SET TRANSACTION READ ONLY")
            selected[[row for (row,) in connection.execute(statement).fetchall()]] = True
        return selected

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        # PostgreSQL does not use the graph if ties are ordered by id.
        order = "distance" if self.approximate else "distance, id"
        neighbours = self._select(
            "SELECT asked.place, near.distance, near.id FROM unnest(%s::{type}[]) WITH ORDINALITY asked(code, place) "
            "CROSS JOIN LATERAL (SELECT id, code <~> asked.code AS distance FROM {table} "
            f"ORDER BY {order} LIMIT %s) near ORDER BY asked.place, near.distance, near.id",
            queries,
            k,
        )
        return arrange_nearest(*neighbours, (len(queries), k), self.bits + 1)

    def _within(self, queries: Tensor, radius: int) -> WithinRadius:
        if self.approximate:
            return super()._within(queries, radius)
        items = self._select(
            "SELECT asked.place, t.code <~> asked.code, t.id FROM unnest(%s::{type}[]) WITH ORDINALITY "
            "asked(code, place), {table} t WHERE t.code <~> asked.code <= %s ORDER BY asked.place",
            queries,
            radius,
        )
        return arrange_within(*items, len(queries))

    def _select(self, text: str, queries: Tensor, value: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return query rows, distances and ids, int64 (n,), that a statement finds; `value` is its last parameter."""
        statement, found = self._statement(text), []
        with connect(self.dsn) as connection:
            settings = {"enable_indexscan": "off"}
            if self.approximate:
                candidates = min(max(self.ef_search, value), MAX_EF_SEARCH)
                settings = {"hnsw.ef_search": str(candidates), "hnsw.iterative_scan": "relaxed_order"}
            for name, setting in settings.items():
                connection.execute("SELECT set_config(%s, %s, true)", (name, setting))
            for start in range(0, len(queries), QUERIES):
                codes = bit_strings(queries[start : start + QUERIES], self.bits)
                rows = connection.execute(statement, (codes, value)).fetchall()
                found += [(start + place - 1, int(distance), row) for place, distance, row in rows]
        rows, distances, ids = torch.tensor(found, dtype=torch.int64).view(-1, 3).T.contiguous()
        return rows, distances, ids
