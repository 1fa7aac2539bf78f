"""Searches among some rows of an index: those that a filter selects, or those that are not removed."""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.indexes.neighbour_lists import NOT_FOUND, WithinRadius
from deephash.ranking.auto_engine import AutoEngine
from deephash.ranking.distance import Hamming

# If this share of all rows is allowed, the whole index may be searched for some more neighbours, and those that are not
# allowed are dropped. Otherwise the allowed rows are scanned.
MIN_SHARE = 0.5
# Neighbours searched for, in multiples of those that contain k allowed ones on average, and beyond.
EXCESS, MORE = 1.3, 8


class RowSearch(Protocol):
    """An index, as this module sees it."""

    @property
    def codes(self) -> Tensor:
        """Packed codes of all rows."""

    @property
    def bits(self) -> int:
        """Code length b."""

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]: ...


def search_allowed(
    index: RowSearch, queries: Tensor, k: int, allowed: NDArray[np.bool_], count: int
) -> tuple[Tensor, Tensor]:
    """Find the k nearest among the allowed rows, with the index's own search if most rows are allowed.

    The nearest of all rows, in order, contain the nearest of the allowed ones if at least k of them are allowed.
    Queries with fewer are answered by a scan of the allowed rows.

    Args:
        index: the index.
        queries: packed codes uint8 (q, ⌈b/8⌉), q at least 1.
        k: number of neighbours, 1 to the number of allowed rows.
        allowed: bool (rows,).
        count: number of allowed rows.

    Returns:
        Distances and rows, int64 (q, k).
    """
    share = count / len(allowed)
    if share < MIN_SHARE:
        return scan_rows(index, queries, k, allowed)
    depth = min(len(allowed), int(k / share * EXCESS) + MORE)
    distances, rows = (found.numpy() for found in index._search(queries, depth))
    # For few queries, NumPy's functions take less time than torch's, and fewer of them still less.
    kept = allowed[rows] & (rows != NOT_FOUND)
    if len(queries) == 1 and len(places := kept[0].nonzero()[0][:k]) == k:
        return torch.from_numpy(distances[:, places]), torch.from_numpy(rows[:, places])
    order = np.argsort(~kept, axis=1, kind="stable")[:, :k]
    distances, rows = np.take_along_axis(distances, order, 1), np.take_along_axis(rows, order, 1)
    short = np.count_nonzero(kept, axis=1) < k
    if short.any():
        scanned = scan_rows(index, queries[torch.from_numpy(short)], k, allowed)
        distances[short], rows[short] = (found.numpy() for found in scanned)
    return torch.from_numpy(distances), torch.from_numpy(rows)


def scan_rows(index: RowSearch, queries: Tensor, k: int, allowed: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
    """Find the k nearest among the allowed rows by a scan; returns distances and rows, int64 (q, k)."""
    return AutoEngine()._search_among(queries, index.codes, Hamming(index.bits), k, torch.from_numpy(allowed))


def keep_allowed(found: WithinRadius, allowed: NDArray[np.bool_]) -> WithinRadius:
    """Drop the rows within a radius that are not allowed."""
    kept = torch.from_numpy(allowed)[found.ids]
    before = torch.cat([torch.zeros(1, dtype=torch.int64), kept.cumsum(0)])
    return WithinRadius(before[found.offsets], found.distances[kept], found.ids[kept])
