"""Columns that an index stores beside its codes: the items' names, and the user's columns."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

from deephash.data.stored_index import NAMELESS
from deephash.io.files import describe_error
from deephash.validation import InvalidInputError

if TYPE_CHECKING:
    import polars

NAME = "name"
"""Column of the items' names."""


class Reserved(NamedTuple):
    """Column names that users cannot choose.

    Args:
        pattern: matches a whole reserved name.
        text: the names, for a message.
    """

    pattern: re.Pattern[str]
    text: str


RESERVED = Reserved(
    re.compile(r"id|name|code|distance|w\d+|_.*", re.IGNORECASE),
    "id, name, code, distance, w0, w1, ... and names that begin with _",
)
"""Column names that the index and the engines use."""


def as_columns(
    given: Any,
    size: int,
    schema: "polars.Schema | None" = None,
    reserved: Reserved = RESERVED,
    *,
    empty: bool = False,
) -> "polars.DataFrame":
    """Convert a user's table of further columns, and check it.

    Args:
        given: a frame of polars or pandas, a table of pyarrow, or lists or arrays by name, with a row for each item in
            the order of the codes. The index of a pandas frame is dropped if it has no name.
        size: number of items N.
        schema: types of columns without values, by name, from an index that has them already.
        reserved: column names that raise an error.
        empty: whether to accept columns without any value, whose type is unknown.

    Returns:
        Columns of booleans, numbers, strings, dates or times.
    """
    import polars

    if not isinstance(given, Mapping | polars.DataFrame) and not hasattr(given, "__arrow_c_stream__"):
        raise InvalidInputError(
            f"columns are a {type(given).__name__}; give a frame of polars or pandas, a pyarrow table or lists by name."
        )
    try:
        table: polars.DataFrame = polars.DataFrame(given)
    except Exception as error:  # polars, pyarrow and pandas have their own exceptions
        raise InvalidInputError(f"columns are not a table ({describe_error(error)}); give one.") from error
    table = table.select(name for name in table.columns if not NAMELESS.fullmatch(name))
    for name, kind in ({} if schema is None else schema).items():
        if name in table.columns and table.schema[name] == polars.Null:
            table = table.with_columns(polars.col(name).cast(kind))
    if table.height != size:
        raise InvalidInputError(f"columns have {table.height} rows; expected {size}, one for each code.")
    seen: set[str] = set()
    for name, kind in table.schema.items():
        if reserved.pattern.fullmatch(name) or not name or name.lower() in seen:
            raise InvalidInputError(
                f"columns have the name {name!r}; {reserved.text} are reserved, and names are compared without case: "
                "rename it."
            )
        seen.add(name.lower())
        if isinstance(kind, polars.Categorical | polars.Enum):
            table = table.with_columns(polars.col(name).cast(polars.String))
        elif not (kind.is_integer() or kind.is_float() or kind in (polars.Boolean, polars.String, polars.Date)) and (
            kind != polars.Datetime and not (empty and kind == polars.Null)
        ):
            raise InvalidInputError(
                f"column {name!r} is of type {kind}; expected booleans, numbers, strings, dates or times: convert it."
            )
    return table


def collect_columns(names: NDArray[Any] | None, columns: Any, size: int) -> "polars.DataFrame | None":
    """Return the columns that a database stores beside ids and codes: `name` for the names, then the user's columns.

    Args:
        names: int64 or strings (N,), or None.
        columns: a table that `as_columns` accepts, or None.
        size: number of items N.

    Returns:
        The columns; None if there are neither names nor columns.
    """
    import polars

    further = None if columns is None else as_columns(columns, size)
    if names is None:
        return further
    named = polars.DataFrame({NAME: names.tolist() if names.dtype.kind == "U" else names})
    return named if further is None else named.hstack(further)


def match_columns(given: "polars.DataFrame", schema: "polars.Schema") -> "polars.DataFrame":
    """Arrange columns of new items as those of an index.

    Raises:
        InvalidInputError: missing or further columns, or values that the type of a column does not hold.
    """
    import polars

    if set(given.columns) != set(schema):
        raise InvalidInputError(
            f"the columns are {', '.join(given.columns) or 'none'}; expected {', '.join(schema)}, as in the index."
        )
    try:
        matched = given.select(polars.col(name).cast(kind) for name, kind in schema.items())
        for name, kind in schema.items():
            own = given.schema[name]
            # A cast from text is strict, and a number of floating point is rounded to the precision of the index.
            if own in (kind, polars.String) or (own.is_float() and kind.is_float()):
                continue
            changed = matched[name].cast(own).ne_missing(given[name])
            if changed.any():
                value = given[name].filter(changed)[0]
                raise InvalidInputError(f"column {name!r} contains {value!r}, which {kind} does not hold; convert it.")
        return matched
    except polars.exceptions.PolarsError as error:
        raise InvalidInputError(
            f"the columns are not of the types of the index ({describe_error(error)}); convert them."
        ) from error
