"""Searches among some rows of an index: those that a filter selects, or those that are not removed."""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.indexes.neighbour_lists import NOT_FOUND, WithinRadius
from deephash.ranking.auto_engine import AutoEngine
from deephash.ranking.base import RankingEngine
from deephash.ranking.distance import Hamming

# If this share of all rows is allowed, the whole index may be searched for some more neighbours, and those that are not
# allowed are dropped. Otherwise the allowed rows are copied and scanned.
MIN_SHARE = 0.5
# Time to copy a row, in units of a pass of a scan over it for this number of queries.
COPY_COST, QUERIES_OF_PASS = 3, 8
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


class RowScan:
    """A scan of all rows, for `search_allowed`.

    Args:
        codes: packed codes of all rows uint8 (rows, ⌈b/8⌉).
        bits: code length b.
        engine: ranking engine.
    """

    def __init__(self, codes: Tensor, bits: int, engine: RankingEngine) -> None:
        self.codes, self.bits, self.engine = codes, bits, engine

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        return self.engine.search(queries, self.codes, Hamming(self.bits), k)


def search_allowed(
    index: RowSearch, queries: Tensor, k: int, allowed: NDArray[np.bool_], count: int, *, is_scan: bool = False
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
        is_scan: whether the index's own search is a scan, which takes less time for fewer rows.

    Returns:
        Distances and rows, int64 (q, k).
    """
    share = count / len(allowed)
    passes = -(-len(queries) // QUERIES_OF_PASS)
    if share < MIN_SHARE or (is_scan and passes * (1 - share) > COPY_COST * share):
        return scan_rows(index, queries, k, np.flatnonzero(allowed))
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
        scanned = scan_rows(index, queries[torch.from_numpy(short)], k, np.flatnonzero(allowed))
        distances[short], rows[short] = (found.numpy() for found in scanned)
    return torch.from_numpy(distances), torch.from_numpy(rows)


def scan_rows(index: RowSearch, queries: Tensor, k: int, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Find the k nearest among some ascending rows by a scan; returns distances and rows, int64 (q, k)."""
    taken = torch.from_numpy(take_codes(index.codes.numpy(), rows))
    distances, places = AutoEngine().search(queries, taken, Hamming(index.bits), k)
    return distances, torch.from_numpy(rows)[places]


def take_codes(codes: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return some rows of packed codes (n, B); a row is copied as one value, which is several times faster."""
    width = codes.shape[1]
    kind = np.dtype(np.uint64) if width == 8 and codes.ctypes.data % 8 == 0 else np.dtype((np.void, width))
    taken: NDArray[np.uint8] = codes.view(kind)[:, 0].take(rows).view(np.uint8).reshape(len(rows), width)
    return taken


def keep_allowed(found: WithinRadius, allowed: NDArray[np.bool_]) -> WithinRadius:
    """Drop the rows within a radius that are not allowed."""
    kept = torch.from_numpy(allowed)[found.ids]
    before = torch.cat([torch.zeros(1, dtype=torch.int64), kept.cumsum(0)])
    return WithinRadius(before[found.offsets], found.distances[kept], found.ids[kept])
