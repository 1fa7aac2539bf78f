"""Further columns of the items of an index, from a table in a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deephash.io.files import reading
from deephash.io.item_names import as_names
from deephash.validation import InvalidInputError

if TYPE_CHECKING:
    import polars

KEYS = ("name", "id")
"""Columns that match rows to items."""


def read_item_columns(path: Path, names: NDArray[Any]) -> "polars.DataFrame":
    """Read the columns of items from a table.

    Args:
        path: a table in Parquet, CSV or Arrow. A column `name` or `id` contains the names of the items, and matches
            rows to them in any order; other rows are left out. Without one, rows are in the order of the items.
        names: names of the items, whole numbers or strings (n,).

    Returns:
        The other columns, in the order of the items. Without a column of names, the number of rows is not checked.

    Raises:
        InvalidInputError: another file, or a name that no row or several rows have.
    """
    import polars

    readers = {
        ".parquet": polars.read_parquet,
        ".csv": lambda file: polars.read_csv(file, try_parse_dates=True),
        ".arrow": polars.read_ipc,
        ".feather": polars.read_ipc,
    }
    if path.suffix.lower() not in readers:
        raise InvalidInputError(f"{path} is not a table; give a file that ends with {', '.join(readers)}.")
    with reading(path, "a table of columns", "give Parquet, CSV or Arrow"):
        table: polars.DataFrame = readers[path.suffix.lower()](path)
    key = next((name for name in KEYS if name in table.columns), None)
    if key is None:
        return table
    values = table[key].cast(polars.String) if names.dtype.kind == "U" else table[key]
    keys = as_names(values.to_numpy(), f"column {key!r} of {path}").tolist()
    rows = dict(zip(keys, range(len(keys)), strict=True))
    if len(rows) < len(keys):
        found, counts = np.unique(np.array(keys), return_counts=True)
        raise InvalidInputError(
            f"column {key!r} of {path} contains {found[counts > 1].tolist()[0]!r} twice; give each item one row."
        )
    for name in names.tolist():
        if name not in rows:
            raise InvalidInputError(f"column {key!r} of {path} lacks {name!r}; give each item a row.")
    return table[[rows[name] for name in names.tolist()]].drop(key)
