"""What an index in a database keeps beside its codes: the items' names, and further columns of the user's."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from deephash.data.stored_index import NAMELESS
from deephash.validation import InvalidInputError

if TYPE_CHECKING:
    import polars

NAME = "name"
"""The column of names."""
RESERVED = re.compile(r"id|name|code|distance|w\d+|_.*", re.IGNORECASE)
"""Columns of the index's own, and of the engines'."""
KINDS = ("duckdb", "lancedb", "pgvector")
"""The kinds of index that keep columns."""


def as_columns(given: Any, size: int) -> "polars.DataFrame":
    """A user's table of further columns, checked.

    Args:
        given: a frame of polars or pandas, a table of pyarrow, or lists or arrays by name; a row for each item, in the
            order of the codes. The index of a pandas frame is left out where it has no name.
        size: number of items N.

    Returns:
        Columns of truth values, numbers, words, dates or times.

    Raises:
        InvalidInputError: no such table, another number of rows, a name that is not free, or another type.
    """
    import polars

    if not isinstance(given, Mapping | polars.DataFrame) and not hasattr(given, "__arrow_c_stream__"):
        raise InvalidInputError(
            f"columns are a {type(given).__name__}; give a frame of polars or pandas, a table of pyarrow, or lists by "
            "name."
        )
    try:
        table: polars.DataFrame = polars.DataFrame(given)
    except Exception as error:  # polars', pyarrow's and pandas' own
        raise InvalidInputError(f"columns are no table ({' '.join(str(error).split())[:200]}); give one.") from error
    table = table.select(name for name in table.columns if not NAMELESS.fullmatch(name))
    if table.height != size:
        raise InvalidInputError(f"columns have {table.height} rows; expected {size}, one for each code.")
    seen: set[str] = set()
    for name, kind in table.schema.items():
        if RESERVED.fullmatch(name) or not name or name.lower() in seen:
            raise InvalidInputError(
                f"columns have the name {name!r}; id, name, code, distance, w0, w1, ... and names that begin with _ "
                "are taken, and capitals tell none apart: rename it."
            )
        seen.add(name.lower())
        if isinstance(kind, polars.Categorical | polars.Enum):
            table = table.with_columns(polars.col(name).cast(polars.String))
        elif not (kind.is_integer() or kind.is_float() or kind in (polars.Boolean, polars.String, polars.Date)) and (
            kind != polars.Datetime
        ):
            raise InvalidInputError(
                f"column {name!r} is of type {kind}; expected truth values, numbers, words, dates or times: convert it."
            )
    return table


def kept_columns(names: NDArray[Any] | None, columns: Any, size: int) -> "polars.DataFrame | None":
    """All that a database keeps beside ids and codes: a column `name` where there are names, then further columns.

    Args:
        names: int64 or words (N,), or None.
        columns: a table as `as_columns` takes, or None.
        size: number of items N.

    Returns:
        The columns; None where there are none.

    Raises:
        InvalidInputError: what `as_columns` refuses.
    """
    import polars

    further = None if columns is None else as_columns(columns, size)
    if names is None:
        return further
    named = polars.DataFrame({NAME: names.tolist() if names.dtype.kind == "U" else names})
    return named if further is None else named.hstack(further)
