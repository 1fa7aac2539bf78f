"""Codes in the tables of databases: PostgreSQL with pgvector, LanceDB, Qdrant, Milvus and OpenSearch.

`create_table` creates a table and stores codes in one call, and `open_table` opens it again. The class of the
connection decides which engine it is, so only that engine's package is needed: psycopg, lancedb, qdrant-client,
pymilvus or opensearch-py.
"""

import inspect
from typing import Any

from numpy.typing import ArrayLike
from torch import Tensor

from deephash.codes import as_codes
from deephash.conversion import convert_numpy_numbers
from deephash.integrations.databases.base import CodeTable, Match
from deephash.integrations.databases.lancedb_table import LanceDBTable
from deephash.integrations.databases.milvus_collection import MilvusCollection
from deephash.integrations.databases.opensearch_index import OpenSearchIndex
from deephash.integrations.databases.pgvector_table import PGVectorTable
from deephash.integrations.databases.qdrant_collection import QdrantCollection
from deephash.validation import InvalidInputError

__all__ = [
    "CodeTable",
    "LanceDBTable",
    "Match",
    "MilvusCollection",
    "OpenSearchIndex",
    "PGVectorTable",
    "QdrantCollection",
    "create_table",
    "open_table",
]

TABLES: tuple[type[CodeTable], ...] = (
    LanceDBTable,
    MilvusCollection,
    OpenSearchIndex,
    PGVectorTable,
    QdrantCollection,
)


def table_class(client: Any) -> type[CodeTable]:
    """Return the class for a connection, by the package that its class, or a parent of it, is from.

    Raises:
        InvalidInputError: the connection of another package, or an asynchronous one.
    """
    packages = {kind.__module__.partition(".")[0] for kind in type(client).__mro__}
    for chosen in TABLES:
        if not packages.isdisjoint(chosen.packages):
            if any(kind.__name__.startswith("Async") for kind in type(client).__mro__):
                raise InvalidInputError(
                    f"the client is a {type(client).__name__}; give the one of {chosen.packages[0]} that is not "
                    "asynchronous."
                )
            return chosen
    known = ", ".join(f"{chosen.packages[0]} ({chosen.engine})" for chosen in TABLES)
    raise InvalidInputError(f"the client is a {type(client).__name__}; expected a connection of one of: {known}.")


def build_table(client: Any, name: str, bits: int, settings: dict[str, Any]) -> CodeTable:
    """Return the object for a table, without a request to the database.

    Raises:
        InvalidInputError: an unknown client or setting, or a name or length that the engine does not accept.
    """
    chosen = table_class(client)
    allowed = sorted(set(inspect.signature(chosen).parameters) - {"client", "name", "bits"})
    for setting in settings:
        if setting not in allowed:
            raise InvalidInputError(f"{chosen.engine} has no setting {setting}; it has {', '.join(allowed)}.")
    return chosen(client, name, bits, **settings)


@convert_numpy_numbers
def create_table(
    client: Any,
    name: str,
    codes: Tensor | ArrayLike,
    bits: int | None = None,
    ids: ArrayLike | None = None,
    columns: Any = None,
    **settings: Any,
) -> CodeTable:
    """Create a table, collection or index of a database, and store codes, ids and further columns in it.

    Args:
        client: a connection of psycopg, the result of `lancedb.connect`, or a client of qdrant-client, pymilvus or
            opensearch-py.
        name: name of the table, collection or index, which must not exist.
        codes: packed codes uint8 (n, ⌈b/8⌉), n from 0.
        bits: code length b; None uses all bits of the bytes.
        ids: distinct whole numbers or words (n,); None numbers the items from 0.
        columns: columns to filter by or to return: a frame of polars or pandas, a table of pyarrow, or lists by name,
            with a row for each code.
        settings: settings of the engine's class, such as approximate=True for its own index in place of a scan.

    Raises:
        InvalidInputError: an unknown client or setting, a name that exists or that the engine does not accept, or
            codes, ids or columns that it does not store.
    """
    packed = as_codes(codes)
    if packed.ndim != 2:
        raise InvalidInputError(f"codes have shape {tuple(packed.shape)}; expected packed codes uint8 (n, bytes).")
    length = 8 * packed.shape[1] if bits is None else bits
    return build_table(client, name, length, settings).create(packed, ids, columns)


@convert_numpy_numbers
def open_table(client: Any, name: str, bits: int, **settings: Any) -> CodeTable:
    """Open a table that `create_table` created.

    Args:
        client: as for `create_table`.
        name: name of the table, collection or index.
        bits: code length b.
        settings: settings of the engine's class, such as approximate=True.

    Raises:
        InvalidInputError: an unknown client or setting, no such table, or codes of another length.
    """
    return build_table(client, name, bits, settings).check_table()
