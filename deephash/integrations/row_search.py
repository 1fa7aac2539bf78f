"""Searches that return rows of candidates: by float vectors until a hasher is fitted, then by codes."""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from deephash.codes import unpack
from deephash.hashers.hasher import Hasher
from deephash.indexes.base import Index
from deephash.indexes.build_index import index as make_index
from deephash.indexes.growing_array import GrowingRows
from deephash.indexes.neighbour_lists import NOT_FOUND
from deephash.quantizers.sbq import SBQ

# Removed rows are dropped when they are this share of all.
MAX_REMOVED = 0.25

Rows = NDArray[np.int64]


class RowSearch(Protocol):
    """A search among rows, whose numbers ascend in the order of addition."""

    @property
    def size(self) -> int:
        """Number of rows."""

    def remove(self, rows: Rows) -> None:
        """Remove rows; unknown ones are ignored."""

    def find(self, query: NDArray[np.float32], depth: int, allowed: Rows | None) -> tuple[Rows, NDArray[np.float64]]:
        """Return up to `depth` candidates, nearest first, and preliminary scores, larger for nearer ones.

        Args:
            query: vector (d,).
            depth: number of candidates.
            allowed: ascending rows that may be found; others, and rows that are not here, are ignored. None allows all.
        """


class VectorScan:
    """A scan of float vectors in memory.

    Args:
        dimension: vector dimension d.
        measure: cosine, euclidean or inner_product.
    """

    def __init__(self, dimension: int, measure: str) -> None:
        self.measure = measure
        self._rows = GrowingRows(np.empty(0, np.int64))
        self._vectors = GrowingRows(np.empty((0, dimension), np.float32))
        self._lengths = GrowingRows(np.empty(0, np.float32))
        self._alive = GrowingRows(np.empty(0, bool))

    @property
    def size(self) -> int:
        """Number of rows."""
        return int(np.count_nonzero(self._alive.values))

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Vectors of all rows, float32 (n, d)."""
        vectors: NDArray[np.float32] = self._vectors.values[self._alive.values]
        return vectors

    def add(self, rows: Rows, vectors: NDArray[np.float32]) -> None:
        """Add rows behind the present ones, with their vectors (n, d)."""
        self._rows.append(rows)
        self._vectors.append(vectors)
        self._lengths.append(np.linalg.norm(vectors.astype(np.float64), axis=1).astype(np.float32))
        self._alive.append(np.ones(len(rows), bool))

    def remove(self, rows: Rows) -> None:
        """Remove rows; unknown ones are ignored."""
        self._alive.values[np.isin(self._rows.values, rows)] = False
        kept = np.flatnonzero(self._alive.values)
        if len(self._rows) - len(kept) > MAX_REMOVED * len(self._rows):
            for part in (self._rows, self._vectors, self._lengths, self._alive):
                part.keep(kept)

    def vectors_of(self, rows: Rows) -> NDArray[np.float32]:
        """Return the vectors of some rows."""
        vectors: NDArray[np.float32] = self._vectors.values[np.searchsorted(self._rows.values, rows)]
        return vectors

    def find(self, query: NDArray[np.float32], depth: int, allowed: Rows | None) -> tuple[Rows, NDArray[np.float64]]:
        """Return the nearest rows; scores are in float32, so that rows that are nearly as near may change places."""
        places = np.flatnonzero(self._alive.values)
        if allowed is not None:
            places = places[np.isin(self._rows.values[places], allowed, assume_unique=True)]
        with np.errstate(over="ignore", invalid="ignore"):
            # A scaled query gives the same order without overflow for all but the most extreme vectors.
            scale = np.abs(query).max() or 1
            scores = (self._vectors.values @ (query / scale))[places].astype(np.float64)
            lengths = self._lengths.values[places].astype(np.float64)
            if self.measure == "cosine":
                scores = scores / np.where(lengths > 0, lengths, 1)
            elif self.measure == "euclidean":
                scores = 2 * scores - lengths**2 / scale
        best = np.argsort(-np.nan_to_num(scores), kind="stable")[:depth]
        return self._rows.values[places[best]], scores[best]


class CodeSearch:
    """An index of codes.

    Args:
        hasher: a fitted hasher whose codes are ranked by Hamming distance.
        kind: kind of index, which takes changes.
    """

    def __init__(self, hasher: Hasher, kind: str) -> None:
        self.hasher, self.kind = hasher, kind
        self.index: Index | None = None  # An index has at least one code.
        self._rows = GrowingRows(np.empty(0, np.int64))  # Row of each id of the index.

    @property
    def size(self) -> int:
        """Number of rows."""
        return 0 if self.index is None else self.index.size

    @property
    def has_margins(self) -> bool:
        """Whether each bit is the sign of a margin, so that codes can be ordered by margins."""
        return isinstance(self.hasher.quantizer, SBQ)

    def add(self, rows: Rows, codes: NDArray[np.uint8]) -> None:
        """Add rows behind the present ones, with their codes (n, ⌈b/8⌉)."""
        if not len(rows):
            return
        if self.index is None or not self.index.size:
            self.index = make_index(codes, self.kind, hasher=self.hasher)
            self._rows = GrowingRows(np.array(rows))
            return
        self.index.add(codes)
        self._rows.append(rows)

    def remove(self, rows: Rows) -> None:
        """Remove rows; unknown ones are ignored."""
        if self.index is None:
            return
        held = self._rows.values
        ids = np.searchsorted(held, rows).clip(max=len(held) - 1)
        ids = ids[held[ids] == rows]
        # A row may have been removed before.
        ids = ids[np.isin(ids, self.index.ids.numpy(), assume_unique=True)]
        if len(ids):
            self.index.remove(ids)

    def find(self, query: NDArray[np.float32], depth: int, allowed: Rows | None) -> tuple[Rows, NDArray[np.float64]]:
        """Return the nearest rows by Hamming distance h, and 1 - 2h/b, the cosine of the bits as 1 and -1."""
        nothing = np.empty(0, np.int64), np.empty(0)
        if self.index is None or not self.size:
            return nothing
        mask = None
        if allowed is not None:
            mask = np.isin(self._rows.values[self.index.ids.numpy()], allowed, assume_unique=True)
            depth = min(depth, int(np.count_nonzero(mask)))
        if not depth:
            return nothing
        code = self.hasher.encode(torch.from_numpy(query)[None])
        distances, ids = (found[0].numpy() for found in self.index.search(code, min(depth, self.size), where=mask))
        found = ids != NOT_FOUND
        rows: Rows = self._rows.values[ids[found]]
        return rows, 1 - 2 * distances[found].astype(np.float64) / self.hasher.bits

    def order_by_margins(self, query: NDArray[np.float32], rows: Rows) -> tuple[Rows, NDArray[np.float64]]:
        """Order candidates by the cosine of the query's margins with the bits as 1 and -1, without stored vectors.

        A differing bit costs its margin, so that the order is finer than by Hamming distance. Only SBQ has margins.
        """
        quantizer = self.hasher.quantizer
        assert isinstance(quantizer, SBQ)
        assert self.index is not None
        rows = np.sort(rows)
        places = self.index.items.rows_of(np.searchsorted(self._rows.values, rows))
        signs = unpack(self.index.codes[torch.from_numpy(places)], self.hasher.bits).double() * 2 - 1
        margins = (self.hasher.project(torch.from_numpy(query)[None])[0] - quantizer.thresholds.detach()).double()
        length = float(torch.linalg.vector_norm(margins)) or 1.0
        scores = (signs @ margins / (length * self.hasher.bits**0.5)).numpy()
        order = np.argsort(-scores, kind="stable")
        return rows[order], scores[order]
