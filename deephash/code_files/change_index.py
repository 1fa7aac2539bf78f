"""Change a saved index by files of codes and of names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deephash.code_files.code_file import read_codes
from deephash.code_files.item_columns import read_item_columns
from deephash.code_files.name_file import parse_names, read_names
from deephash.indexes.base import Index
from deephash.indexes.open_index import open_index
from deephash.indexes.sharded_changes import ShardedIndex, open_sharded
from deephash.indexes.sharded_index import is_sharded
from deephash.validation import InvalidInputError


def open_any(folder: Path) -> Index | ShardedIndex:
    """Open a saved index, whole or in shards, for changes.

    Raises:
        InvalidInputError: an error of `open_index` or of `open_sharded`.
    """
    return open_sharded(folder) if is_sharded(folder) else open_index(folder)


def put_codes(
    folder: Path, source: Path, names: Path | None = None, columns: Path | None = None, *, update: bool = False
) -> tuple[int, int]:
    """Add codes to a saved index, or replace those of its items.

    Args:
        folder: folder of the index.
        source: file of codes of the index's hasher. Its ids are the names of the items; for an index without names,
            they must be row numbers, and the items get the next ids.
        names: file of other names; see `read_names`.
        columns: table of further columns of the items; see `read_item_columns`.
        update: whether the items are in the index already, and get new codes.

    Returns:
        Number of codes, and of items after the change.

    Raises:
        InvalidInputError: codes of another hasher, names that do not fit, or an error of `open_index`.
    """
    read = read_codes(source)
    with open_any(folder) as index:
        if index.hasher != read.hasher:
            raise InvalidInputError(
                f"{source} holds codes of the hasher {read.hasher}, and {folder} those of {index.hasher}; encode with "
                "the same hasher."
            )
        given: NDArray[Any] | None = read.ids
        if names is not None:
            given = read_names(names, index)
        elif index.names is None and np.array_equal(read.ids, np.arange(len(read.ids))):
            given = None
        if index.names is None and given is not None:
            raise InvalidInputError(
                f"{folder} has no names, so that its items are numbered as they are added, and {source} has other ids; "
                "build the index again from all codes."
            )
        numbers = np.arange(index.next_id, index.next_id + len(read.codes))
        further = None if columns is None else read_item_columns(columns, numbers if given is None else given)
        if update:
            index.update(read.codes, names=read.ids if given is None else given, columns=further)
        else:
            index.add(read.codes, names=given, columns=further)
        return len(read.codes), len(index)


def remove_items(folder: Path, names: Sequence[str], file: Path | None = None) -> tuple[int, int]:
    """Remove items from a saved index.

    Args:
        folder: folder of the index.
        names: names of the items, or their ids if the index has no names.
        file: file of further names; see `read_names`.

    Returns:
        Number of removed items, and of the others.

    Raises:
        InvalidInputError: no names, unknown names, or an error of `open_index`.
    """
    if not names and file is None:
        raise InvalidInputError("no names are given; give the names of the items to remove, or --names FILE.")
    with open_any(folder) as index:
        given = parse_names(list(names), index) if names else np.empty(0, np.int64)
        if file is not None:
            more = read_names(file, index)
            given = np.concatenate([given, more]) if len(given) else more
        index.remove(given)
        return len(given), len(index)


def compact_index(folder: Path) -> int:
    """Write a saved index without its removed items, with an empty log, and return its number of items.

    Raises:
        InvalidInputError: an index without items, or an error of `open_index`.
    """
    with open_any(folder) as index:
        index.compact()
        return len(index)
