"""PostgreSQL with pgvector: a column `bit(b)`, searched by `<~>`.

The functions return SQL with parameters $1, $2, ..., as PostgreSQL itself numbers them, so that any driver can send it.
A code is a text of 0 and 1, the first bit first (`bit_strings`). PostgreSQL packs the first bit into the highest bit
of a byte, and deephash into the lowest; in the text there is no difference.

Source: the manual of pgvector 0.8 (types `bit`, `bit_hamming_ops`, `hnsw.iterative_scan`).
"""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from deephash.indexes.base import check_graph
from deephash.indexes.engine_package import import_engine
from deephash.indexes.pgvector_statements import (
    MAX_EF_SEARCH,
    TABLE_NAME,
    bit_strings,
    check_graph_bounds,
    graph_statement,
    quote_column,
    quote_table,
    table_statement,
)
from deephash.integrations.databases.base import CodeTable, Match, Rows

BLOCK_ROWS = 10_000
FIND_BITS = (
    "SELECT coalesce((SELECT atttypmod FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = 'code' "
    "AND NOT attisdropped AND atttypid = 'bit'::regtype), 0) WHERE to_regclass($1) IS NOT NULL"
)
"""Bits of the codes in a table, by its quoted name; 0 of another table, and no row without one."""


def put_statement(name: str, columns: Sequence[str] = ()) -> str:
    """Return the statement that stores a row (id, code, columns) in place of the one with its id.

    Args:
        name: table, or schema.table.
        columns: names of further columns.
    """
    names = ["id", "code", *map(quote_column, columns)]
    places = ", ".join(f"${place}" for place in range(1, len(names) + 1))
    changes = ", ".join(f"{column} = EXCLUDED.{column}" for column in names[1:])
    values = f"({', '.join(names)}) VALUES ({places})"
    return f"INSERT INTO {quote_table(name)} {values} ON CONFLICT (id) DO UPDATE SET {changes}"


def copy_statement(name: str, columns: Sequence[str] = ()) -> str:
    """Return the statement that stores many new rows (id, code, columns); the driver sends them after it."""
    return f"COPY {quote_table(name)} ({', '.join(['id', 'code', *map(quote_column, columns)])}) FROM STDIN"


def search_statement(name: str, bits: int, where: str | None = None, *, approximate: bool = False) -> str:
    """Return the statement that finds the $2 nearest items of the code $1, as ids and distances.

    Args:
        name: table, or schema.table.
        bits: code length b.
        where: condition in SQL.
        approximate: whether the graph may be used; PostgreSQL does not use it if ties are ordered by id.
    """
    condition = "" if where is None else f"WHERE ({where}\n) "  # A comment in the condition ends with the line.
    order = "distance" if approximate else "distance, id"
    return (
        f"SELECT id, code <~> $1::bit({bits}) AS distance FROM {quote_table(name)} {condition}ORDER BY {order} LIMIT $2"
    )


def search_settings(k: int, ef_search: int, *, approximate: bool) -> dict[str, str]:
    """Return PostgreSQL's settings for a search, to be set for its transaction.

    An iterative scan goes on until k items fulfil the condition. Without a graph, the use of one is switched off:
    PostgreSQL can sort the results of a graph by id, which is not exact.
    """
    if not approximate:
        return {"enable_indexscan": "off"}
    candidates = min(max(ef_search, k), MAX_EF_SEARCH)
    return {"hnsw.ef_search": str(candidates), "hnsw.iterative_scan": "relaxed_order"}


@final
class PGVectorTable(CodeTable):
    """Table of `id`, `code bit(b)` and further columns in PostgreSQL.

    Each call is one transaction, or a part of the one that is open on the connection. Ids are `bigint` or `text`.

    Args:
        client: connection of psycopg, not asynchronous.
        name: table, or schema.table.
        bits: code length b; up to 64,000 with a graph.
        approximate: whether a search uses the graph (HNSW) that `create` then builds; False scans.
        links: neighbours m of a node, 2 to 100.
        ef_construction: candidates kept while the graph is built, at least twice `links`.
        ef_search: candidates kept while it is searched, up to 1000; higher values find more and take longer.
    """

    pads = False
    engine, packages = "PostgreSQL", ("psycopg",)
    name_pattern, name_rule = TABLE_NAME, "letters, digits and _, or schema.name, up to 63 characters each"

    def __init__(
        self,
        client: Any,
        name: str,
        bits: int,
        *,
        approximate: bool = False,
        links: int = 16,
        ef_construction: int = 64,
        ef_search: int = 100,
    ) -> None:
        super().__init__(client, name, bits, approximate=approximate)
        check_graph(links, ef_construction, ef_search)
        if approximate:
            check_graph_bounds(bits, links, ef_construction)
        self.links, self.ef_construction, self.ef_search = links, ef_construction, ef_search

    def _cursor(self) -> Any:
        # A raw cursor takes $1, and reads no % in a condition. Its rows are tuples, also if those of the connection are
        # dicts.
        psycopg = import_engine("psycopg", "pgvector")
        return psycopg.RawCursor(self.client, row_factory=psycopg.rows.tuple_row)

    def _find_bits(self) -> int | None:
        with self.client.transaction(), self._cursor() as cursor:
            found = cursor.execute(FIND_BITS, [quote_table(self.name)]).fetchone()
        return None if found is None else int(found[0])

    def _create(self, rows: Rows) -> None:
        with self.client.transaction(), self._cursor() as cursor:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
            cursor.execute(table_statement(self.name, self.bits, rows.kinds, "text" if rows.has_words else "bigint"))
            with cursor.copy(copy_statement(self.name, list(rows.kinds))) as copy:
                for row in self._tuples(rows):
                    copy.write_row(row)
            if self.approximate:
                cursor.execute(graph_statement(self.name, self.links, self.ef_construction))

    def _put(self, rows: Rows) -> None:
        with self.client.transaction(), self._cursor() as cursor:
            cursor.executemany(put_statement(self.name, list(rows.kinds)), list(self._tuples(rows)))

    def _tuples(self, rows: Rows) -> Any:
        for block in rows.split(BLOCK_ROWS):
            further = [()] * len(block) if block.columns is None else block.columns.iter_rows()
            codes = bit_strings(torch.from_numpy(block.codes), self.bits)
            for key, code, row in zip(block.ids.tolist(), codes, further, strict=True):
                yield key, code, *row

    def _delete(self, ids: NDArray[Any]) -> None:
        kind = "text" if ids.dtype.kind == "U" else "bigint"
        with self.client.transaction(), self._cursor() as cursor:
            cursor.execute(f"DELETE FROM {quote_table(self.name)} WHERE id = ANY($1::{kind}[])", [ids.tolist()])

    def _search(self, queries: NDArray[np.uint8], k: int, where: str | None) -> list[list[Match]]:
        statement = search_statement(self.name, self.bits, where, approximate=self.approximate)
        # Rolled back, so that the settings end with the search if the caller's transaction goes on.
        with self.client.transaction(force_rollback=True), self._cursor() as cursor:
            for name, value in search_settings(k, self.ef_search, approximate=self.approximate).items():
                cursor.execute("SELECT set_config($1, $2, true)", [name, value])
            return [
                [Match(key, int(distance)) for key, distance in cursor.execute(statement, [code, k]).fetchall()]
                for code in bit_strings(torch.from_numpy(queries), self.bits)
            ]
