"""Columns of a file that are not features: the index of a pandas table, and ids."""

import json
import logging
import re
from collections.abc import Collection, Iterable
from pathlib import Path

log = logging.getLogger(__name__)

NAMELESS = re.compile(r"__index_level_\d+__")
"""pandas's name of an unnamed index; other programs keep such a column but drop the metadata."""

REREAD = re.compile(r"Unnamed: 0(\.\d+)?")
"""pandas's name of such an index after reading it from a CSV file."""
ID = "id"
"""Default name of the id column, in upper or lower case."""


def find_ids(columns: Collection[str]) -> str | None:
    """Return the name of the id column.

    Args:
        columns: names of all columns.

    Returns:
        `id` if it is a column; otherwise the only column with this name in upper or mixed case, or None.
    """
    candidates = [name for name in columns if name.lower() == ID]
    return ID if ID in candidates else candidates[0] if len(candidates) == 1 else None


def find_index_columns(columns: Iterable[str], metadata: str | bytes | None) -> list[str]:
    """Return the columns of a Parquet file that are a pandas index.

    Args:
        columns: names of all columns.
        metadata: the file's metadata of the key `pandas`, JSON; None if pandas did not write it.

    Returns:
        Names in the order of the file; a range index is not a column.

    Raises:
        ValueError: invalid JSON. KeyError, TypeError: metadata without a list of index columns.
    """
    # pandas describes a range by an object, and a column by its name.
    index_columns = json.loads(metadata)["index_columns"] if metadata else []
    stored = {name for name in index_columns if isinstance(name, str)}
    return [name for name in columns if name in stored or NAMELESS.fullmatch(name) or REREAD.fullmatch(name)]


def log_left_out(path: Path, names: list[str], option: str, what: str = "the index that pandas stored") -> None:
    """Log which columns are left out as an index or as ids.

    Args:
        path: the file.
        names: names of the columns; an empty list is not logged.
        option: how to include the columns, for the message, such as "use --ids".
        what: description of the columns.
    """
    if names:
        log.warning(
            "%s: %s left out (%s); to include %s, %s.",
            path,
            ", ".join(map(repr, names)),
            what,
            "it" if len(names) == 1 else "them",
            option,
        )
