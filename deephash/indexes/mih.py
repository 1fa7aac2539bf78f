"""Multi-index hashing: exact nearest codes without a scan (Norouzi, Punjani & Fleet, CVPR 2012)."""

import math
from copy import copy
from itertools import pairwise
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.indexes import multi_index_kernels as kernels
from deephash.indexes.allowed_search import scan_rows
from deephash.indexes.base import Index
from deephash.indexes.multi_index_merge import merge_kernel
from deephash.indexes.neighbour_lists import WithinRadius, sort_within
from deephash.io.progress import track
from deephash.ranking.numba_engine import NumbaEngine, run_in_threads
from deephash.ranking.numba_layout import pack_words
from deephash.validation import InvalidInputError, check_count, check_positive

# A table stores the start of the bucket of every value of its substring; 2^26 starts take 512 MB.
MAX_SUBSTRING_BITS = 26
# Later codes that are merged into the tables: more than this number, and than this share of all codes. A merge takes
# about 15 ns per code and table, and a search with 5 % of later codes takes about a seventh more time.
MIN_LATE, MAX_LATE = 1 << 12, 0.05
# Share of allowed codes from which a filtered search visits the tables, and its patience in shares of that of others.
MIN_SHARE, FILTERED_PATIENCE = 0.25, 0.25


def substring_lengths(bits: int, tables: int) -> list[int]:
    """Return the lengths of m substrings that cover b bits, the longer ones first; they differ by at most 1."""
    return [bits // tables + (table < bits % tables) for table in range(tables)]


def default_tables(bits: int, size: int) -> int:
    """Return the number of tables with which a bucket contains about one item: substrings of log2 N bits (Section 4).

    Args:
        bits: code length b.
        size: number of codes N.
    """
    length = min(max(1.0, math.log2(max(size, 2))), MAX_SUBSTRING_BITS)
    return max(1, math.ceil(bits / MAX_SUBSTRING_BITS), round(bits / length))


def check_rows(rows: int) -> None:
    """Raise an error if there are more codes than the tables can number."""
    if rows >= 2**31:
        raise InvalidInputError(f"{rows} codes exceed the 2^31 that one index supports; split them.")


class LaterCodes:
    """Lists of the codes that were added after the tables were built, one for each bucket.

    Args:
        tables: number of tables m.
        words: number of words W of a code.
    """

    def __init__(self, tables: int, words: int) -> None:
        self.size = 0
        self.pool, self._used, self._tables = np.empty((0, words + 1), np.uint64), 0, tables
        self._tails = np.empty(0, np.int32)

    def append(
        self, words: NDArray[np.uint64], first: int, buckets: NDArray[np.int32], *arrays: NDArray[np.int64]
    ) -> None:
        """Add codes with ids from `first` on.

        Args:
            words: codes (n, W).
            first: id of the first one.
            buckets: buckets of all tables, int32 (places, 2), whose heads are set.
            arrays: the first bits, lengths and places of the tables.
        """
        if not self.size:
            if len(self._tails) != len(buckets):
                self._tails = np.empty(len(buckets), np.int32)
            self._tails.fill(-1)
        done = 0
        while True:
            done, self._used = kernels.append_kernel()(
                words, done, first, *arrays, buckets, self._tails, self.pool, self._used
            )
            if done == len(words):
                break
            more = self._tables * (2 * (len(words) - done) + kernels.MAX_CHUNK + 1)
            wider = np.empty((max(self._used + more, 3 * len(self.pool) // 2), self.pool.shape[1]), np.uint64)
            wider[: self._used] = self.pool[: self._used]
            self.pool = wider
        self.size += len(words)

    def emptied(self) -> "LaterCodes":
        """Return empty lists in the same memory, which is left as it is until the first `append` to them.

        New memory takes longer to get than to fill.
        """
        empty = copy(self)
        empty.size = empty._used = 0
        return empty


@final
class MIH(Index):
    """Tables of substrings; a search visits their buckets, nearest values first, until no nearer code can remain.

    A bucket contains the codes with one value of a substring. Codes that differ in r bits differ in at most ⌊r/m⌋ bits
    in at least one of m substrings. Time grows with about the square root of the number of codes, as long as the k-th
    neighbour is near. Known weakness: if the neighbours are far, a query would visit more buckets than there are items.
    Such a query stops, and scans all codes instead. Each table contains a copy of the codes. Codes that are added later
    are in lists beside the tables, and are merged into them when the lists contain 5 % of all codes.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉), fewer than 2^31.
        bits: code length b.
        tables: number of substrings m; None uses the number with which a bucket contains about one item.
        threads: number of threads; None uses torch's number.
        patience: maximal work of a query on the tables before it scans, in units of a scan of all codes. With 1, no
            query takes much more than twice the time of a scan (the bound of the ski-rental problem).

    Raises:
        InvalidInputError: substrings of no bits or of more than 26, threads below 1, or a patience of 0 or less.

    References:
        Norouzi, Punjani & Fleet, "Fast search in Hamming space with multi-index hashing", CVPR 2012.
    """

    takes_changes = True
    max_removed = 0.02

    def __init__(
        self, codes: Tensor, bits: int, tables: int | None = None, threads: int | None = None, patience: float = 1.0
    ) -> None:
        super().__init__(codes, bits)
        self._given_tables = tables
        check_positive(patience, "patience")
        self.threads = threads
        self._scan = NumbaEngine(threads)
        self.patience = patience
        self._build()

    def _build(self) -> None:
        rows, bits, tables = self.items.rows, self.bits, self._given_tables
        check_rows(rows)
        self.tables = default_tables(bits, rows) if tables is None else tables
        check_count(self.tables, "tables")
        # Compare first: the lengths of a billion tables would fill the memory.
        lengths = substring_lengths(bits, self.tables) if self.tables <= bits else [0]
        if not 1 <= min(lengths) <= max(lengths) <= MAX_SUBSTRING_BITS:
            raise InvalidInputError(
                f"tables={tables} cuts {bits} bits into substrings of {lengths[0]}; expected 1 to {MAX_SUBSTRING_BITS} "
                f"bits: use {max(1, math.ceil(bits / MAX_SUBSTRING_BITS))} to {bits} tables."
            )
        self._lengths = np.array(lengths, np.int64)
        self._firsts = np.cumsum(self._lengths) - self._lengths
        words = pack_words(self.codes.numpy())
        self._codes = np.empty((self.tables, *words.shape), np.uint64)
        self._ids = np.empty((self.tables, rows), np.int32)
        stops = np.cumsum(2**self._lengths + 1)
        self._table_starts = np.concatenate([[0], stops[:-1]])
        self._buckets = np.empty((stops[-1], 2), np.int32)
        values = np.empty(rows, np.int64)
        for table in track(range(self.tables), "Tables of the index"):
            kernels.substring_kernel()(words, self._firsts[table], self._lengths[table], values)
            buckets = self._buckets[self._table_starts[table] : stops[table]]
            kernels.sort_kernel()(words, values, buckets, self._codes[table], self._ids[table])
        self._late = LaterCodes(self.tables, words.shape[1])

    def _renumber(self, new_rows: NDArray[np.int64] | None) -> None:
        rows = self.items.rows
        if self._given_tables is None and self.tables != default_tables(self.bits, rows):
            self._build()
            return
        check_rows(rows)
        words = self._codes.shape[2]
        codes = np.empty((self.tables, rows, words), np.uint64)
        ids = np.empty((self.tables, rows), np.int32)
        buckets = np.empty_like(self._buckets)
        new_ids = np.empty(0, np.int32) if new_rows is None else new_rows.astype(np.int32)
        bounds = [*self._table_starts.tolist(), len(buckets)]
        for table, (start, stop) in enumerate(pairwise(bounds)):
            merge_kernel()(
                self._codes[table],
                self._ids[table],
                self._buckets[start:stop],
                self._late.pool,
                new_ids,
                codes[table],
                ids[table],
                buckets[start:stop],
            )
        self._codes, self._ids, self._buckets = codes, ids, buckets
        self._late = self._late.emptied()

    def _extend(self, first: int) -> None:
        check_rows(self.items.rows)
        places = (self._firsts, self._lengths, self._table_starts)
        self._late.append(pack_words(self.items.codes[first:]), first, self._buckets, *places)

    def _is_rebuild_due(self) -> bool:
        return super()._is_rebuild_due() or self._late.size > max(MIN_LATE, MAX_LATE * self.items.rows)

    @property
    def looked_at(self) -> NDArray[np.int64]:
        """Numbers of visited buckets, codes in them and scanned codes of the last search, by query: int64 (q, 3)."""
        return self._looked_at

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        return self._search_tables(queries, k, np.empty(0, bool), self.items.rows, self.patience)

    def _search_among(
        self, queries: Tensor, k: int, allowed: NDArray[np.bool_], count: int, *, is_filter: bool
    ) -> tuple[Tensor, Tensor]:
        if is_filter and count < MIN_SHARE * len(allowed):
            return scan_rows(self, queries, k, allowed)
        return self._search_tables(queries, k, allowed, count, self.patience * (FILTERED_PATIENCE if is_filter else 1))

    def _search_tables(
        self, queries: Tensor, k: int, allowed: NDArray[np.bool_], count: int, patience: float
    ) -> tuple[Tensor, Tensor]:
        """Search the tables, with at most the work of `patience` scans of `count` codes, then scan for the rest."""
        distances, ids = (np.empty((len(queries), k), np.int64) for _ in range(2))
        most_work = int(min(patience * count, 2.0**62))
        looked = np.zeros((len(queries), 2), np.int64)
        kernel = kernels.nearest_kernel(self._codes.shape[2])
        self._run(kernel, queries, (allowed, k, most_work, distances, ids, looked))
        given_up = ids[:, 0] < 0
        self._looked_at = np.column_stack([looked, given_up * count])
        if given_up.any():
            far = queries[given_up]
            if len(allowed):
                near, found = self._scan._search_among(far, self.codes, self.distance, k, torch.from_numpy(allowed))
            else:
                near, found = self._scan._search(far, self.codes, self.distance, k)
            distances[given_up], ids[given_up] = near.numpy(), found.numpy()
        return torch.from_numpy(distances), torch.from_numpy(ids)

    def _within(self, queries: Tensor, radius: int) -> WithinRadius:
        counts = np.zeros(len(queries), np.int64)
        nothing = np.empty(0, np.int64)
        kernel = kernels.radius_kernel(self._codes.shape[2])
        self._run(kernel, queries, (radius, counts, nothing, nothing, nothing, False))
        offsets = np.concatenate([[0], np.cumsum(counts)])
        distances, ids = (np.empty(offsets[-1], np.int64) for _ in range(2))
        self._run(kernel, queries, (radius, counts, offsets, distances, ids, True))
        return sort_within(*(torch.from_numpy(array) for array in (offsets, distances, ids)))

    def _run(self, kernel: Any, queries: Tensor, arguments: tuple[Any, ...]) -> None:
        rows = pack_words(queries.numpy())
        tables = (self._codes, self._ids, self._buckets, self._table_starts, self._firsts, self._lengths)
        arrays = (*tables, self._late.pool)
        threads = torch.get_num_threads() if self.threads is None else self.threads
        run_in_threads(kernel, (rows, arrays, *arguments), len(queries), threads)
