"""Ids that a database in several files holds more than once, as where daily files overlap."""

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

# Ids that are compared at a time: 256 MB of numbers, and as much to sort them.
IDS_AT_ONCE = 1 << 25


def report_repeated(database: CodeShards) -> None:
    """Warn in one line where an id is in the files more than once.

    Such a database may be meant, as one of several codes an item, so it is not refused. Files without ids are not
    looked at.
    """
    if not all(path.suffix == ".parquet" or CodePaths(path).ids.exists() for path in database.paths):
        return
    repeated, first = repeated_ids(database)
    if repeated:
        log.warning(
            "%s of %s codes have an id that another code has too, as %s in %s; where files overlap, an item "
            "is found and counted more than once: encode each once.",
            f"{repeated:,}",
            f"{len(database):,}",
            first,
            " and ".join(dict.fromkeys(str(path) for path in paths_of(database, first))),
        )


def repeated_ids(database: CodeShards) -> tuple[int, int | str | None]:
    """How many codes have an id that another code has too, and the least such id.

    Ids are compared in as many rounds as bound the memory, each of those that fall into its share.
    """
    if is_rising(database):
        return 0, None
    rounds = -(-len(database) // IDS_AT_ONCE)
    repeated, least = 0, list[Any]()
    for turn in range(rounds):
        shares = [ids[share_of_ids(ids, rounds) == turn] for ids in ids_by_file(database)]
        values, counts = np.unique(np.concatenate(as_one_kind(shares)), return_counts=True)
        repeated += int(counts[counts > 1].sum())
        least += values[counts > 1][:1].tolist()
    return repeated, min(least, default=None, key=str)


def ids_by_file(database: CodeShards) -> Iterator[NDArray[Any]]:
    """Ids of each file, block by block."""
    for path, rows in zip(database.paths, database.rows, strict=True):
        for start in range(0, rows, IDS_AT_ONCE):
            yield read_ids(path, range(start, min(start + IDS_AT_ONCE, rows)))


def is_rising(database: CodeShards) -> bool:
    """Whether whole numbers rise from each code to the next, so that none can be there twice."""
    last = None
    for ids in ids_by_file(database):
        if ids.dtype.kind not in "iu" or not (np.diff(ids) > 0).all():
            return False
        if len(ids):
            if last is not None and ids[0] <= last:
                return False
            last = ids[-1]
    return True


def share_of_ids(ids: NDArray[Any], rounds: int) -> NDArray[np.int64]:
    """The round in which each id is compared."""
    if ids.dtype.kind in "iu":
        return ids.astype(np.int64) % rounds
    if rounds == 1:
        return np.zeros(len(ids), np.int64)
    return np.array([zlib.crc32(word.encode()) % rounds for word in ids.tolist()], np.int64)


def as_one_kind(parts: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Arrays of numbers as they are; where some are words, all as words."""
    if all(part.dtype.kind in "iu" for part in parts):
        return parts
    return [part.astype(np.str_) for part in parts]


def paths_of(database: CodeShards, sought: int | str | None) -> Iterator[Path]:
    """The files in which an id is."""
    for path, rows in zip(database.paths, database.rows, strict=True):
        if (read_ids(path, range(rows)).astype(np.str_) == str(sought)).any():
            yield path
