"""Find ids that occur more than once in a database of several files, for example in overlapping daily files."""

import logging
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deephash.code_files.code_file import CodePaths
from deephash.code_files.code_shards import CodeShards, read_ids

log = logging.getLogger(__name__)

# Ids to compare at a time: 256 MB of numbers, and as much to sort them.
IDS_AT_ONCE = 1 << 25


def report_repeated(database: CodeShards) -> None:
    """Log a warning if an id occurs more than once.

    This is not an error, since an item may have several codes on purpose. Files without ids are not checked.
    """
    if not all(path.suffix == ".parquet" or CodePaths(path).ids.exists() for path in database.paths):
        return
    repeated, first = repeated_ids(database)
    if repeated:
        log.warning(
            "%s of %s codes have an id that another code has too, such as %s in %s; if files overlap, an item is found "
            "and counted more than once: encode each item once.",
            f"{repeated:,}",
            f"{len(database):,}",
            first,
            " and ".join(dict.fromkeys(str(path) for path in find_paths(database, first))),
        )


def repeated_ids(database: CodeShards) -> tuple[int, int | str | None]:
    """Return the number of codes that share their id with another code, and the smallest such id.

    To bound the memory, the ids are split into shares, and each share is compared in its own round.
    """
    if is_rising(database):
        return 0, None
    rounds = -(-len(database) // IDS_AT_ONCE)
    repeated, least = 0, list[Any]()
    for number in range(rounds):
        shares = [ids[assign_rounds(ids, rounds) == number] for ids in read_ids_by_file(database)]
        values, counts = np.unique(np.concatenate(unify_types(shares)), return_counts=True)
        repeated += int(counts[counts > 1].sum())
        least += values[counts > 1][:1].tolist()
    return repeated, min(least, default=None, key=str)


def read_ids_by_file(database: CodeShards) -> Iterator[NDArray[Any]]:
    """Yield the ids of each file, block by block."""
    for path, rows in zip(database.paths, database.rows, strict=True):
        for start in range(0, rows, IDS_AT_ONCE):
            yield read_ids(path, range(start, min(start + IDS_AT_ONCE, rows)))


def is_rising(database: CodeShards) -> bool:
    """Return whether the ids are whole numbers in strictly ascending order, so that none can be repeated."""
    last = None
    for ids in read_ids_by_file(database):
        if ids.dtype.kind not in "iu" or not (np.diff(ids) > 0).all():
            return False
        if len(ids):
            if last is not None and ids[0] <= last:
                return False
            last = ids[-1]
    return True


def assign_rounds(ids: NDArray[Any], rounds: int) -> NDArray[np.int64]:
    """Return the round in which each id is compared."""
    if ids.dtype.kind in "iu":
        return ids.astype(np.int64) % rounds
    if rounds == 1:
        return np.zeros(len(ids), np.int64)
    return np.array([zlib.crc32(word.encode()) % rounds for word in ids.tolist()], np.int64)


def unify_types(parts: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Convert all arrays to strings if one of them contains strings."""
    if all(part.dtype.kind in "iu" for part in parts):
        return parts
    return [part.astype(np.str_) for part in parts]


def find_paths(database: CodeShards, repeated: int | str | None) -> Iterator[Path]:
    """Yield the files that contain an id."""
    for path, rows in zip(database.paths, database.rows, strict=True):
        if (read_ids(path, range(rows)).astype(np.str_) == str(repeated)).any():
            yield path
