"""SQL of a table of codes in PostgreSQL with pgvector, as text; nothing here needs a connection."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from deephash.codes import unpack
from deephash.validation import InvalidInputError, check_whole

if TYPE_CHECKING:
    import polars

TABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}(\.[A-Za-z_][A-Za-z0-9_]{0,62})?")
# Bounds of pgvector: candidates that a search keeps, bits of a code in a graph, its links, and candidates while it is
# built, which are also at least twice the links.
MAX_EF_SEARCH, MAX_GRAPH_BITS, GRAPH_LINKS, GRAPH_CANDIDATES = 1000, 64_000, (2, 100), (4, 1000)


def check_table_name(table: str) -> None:
    """Raise an error unless a table's name is a word, or two words joined by a dot."""
    if not isinstance(table, str) or not TABLE_NAME.fullmatch(table):
        raise InvalidInputError(
            f"table={table!r}; expected a name of letters, digits and _, or schema.name, up to 63 characters each."
        )


def check_graph_bounds(bits: int, links: int, ef_construction: int) -> None:
    """Raise an error if pgvector would not build a graph with these settings, which it says after the codes are sent.

    Args:
        bits: code length b.
        links: neighbours m of a node.
        ef_construction: candidates kept while the graph is built.
    """
    if bits > MAX_GRAPH_BITS:
        raise InvalidInputError(
            f"bits={bits}; a graph of pgvector takes codes of up to {MAX_GRAPH_BITS} bits: lower bits, or set "
            "approximate=False."
        )
    check_whole(links, GRAPH_LINKS[0], "links", GRAPH_LINKS[1])
    check_whole(ef_construction, max(GRAPH_CANDIDATES[0], 2 * links), "ef_construction", GRAPH_CANDIDATES[1])


def quote_table(table: str) -> str:
    """Quote a checked name, or schema.name, as SQL identifiers; capitals are kept."""
    return ".".join(f'"{part}"' for part in table.split("."))


def quote_column(name: str) -> str:
    """Quote any name of a column as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def find_column_type(kind: "polars.DataType") -> str:
    """Return PostgreSQL's type for a type of polars."""
    import polars

    if kind.is_integer():
        return "numeric" if kind in (polars.UInt64, polars.Int128, polars.UInt128) else "bigint"
    if kind.is_float():
        return "double precision"
    if isinstance(kind, polars.Datetime):
        return "timestamp" if kind.time_zone is None else "timestamptz"
    return {polars.Boolean: "boolean", polars.Date: "date"}.get(type(kind), "text")


def table_statement(
    table: str, bits: int, columns: "Mapping[str, polars.DataType] | None" = None, id_type: str = "bigint"
) -> str:
    """Return the statement that creates a table of codes.

    Args:
        table: checked name, or schema.name.
        bits: code length b.
        columns: types of polars of further columns, by name.
        id_type: PostgreSQL's type of the ids.
    """
    definitions = [f"id {id_type} PRIMARY KEY", f"code bit({bits}) NOT NULL"]
    definitions += [f"{quote_column(name)} {find_column_type(kind)}" for name, kind in (columns or {}).items()]
    return f"CREATE TABLE {quote_table(table)} ({', '.join(definitions)})"


def graph_statement(table: str, links: int, ef_construction: int) -> str:
    """Return the statement that builds a graph (HNSW) of the codes.

    Args:
        table: checked name, or schema.name.
        links: neighbours m of a node.
        ef_construction: candidates kept while the graph is built.
    """
    return (
        f"CREATE INDEX ON {quote_table(table)} USING hnsw (code bit_hamming_ops) "
        f"WITH (m = {links}, ef_construction = {ef_construction})"
    )


def bit_strings(codes: Tensor, bits: int) -> list[str]:
    """Return codes as strings of 0 and 1, the first bit first."""
    digits = unpack(codes, bits).numpy().astype(np.uint8) + ord("0")
    return [row.tobytes().decode() for row in digits]
