"""Multi-index hashing: exact nearest codes without a scan (Norouzi, Punjani & Fleet, CVPR 2012)."""

import math
from itertools import pairwise
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.indexes import multi_index_kernels as kernels
from deephash.indexes.allowed_search import RowScan, scan_rows, search_allowed
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
        buckets: number of places for buckets, as in the starts of the tables; 0 for no lists.
    """

    def __init__(self, tables: int, words: int, buckets: int) -> None:
        self.size = 0
        self.pool, self._used, self._tables = np.empty((0, words + 1), np.uint64), 0, tables
        self.heads, self._tails = np.full(buckets, -1, np.int32), np.full(buckets, -1, np.int32)

    def append(self, words: NDArray[np.uint64], first: int, *arrays: NDArray[np.int64]) -> None:
        """Add codes with ids from `first` on; `arrays` are the first bits, lengths and places of the tables."""
        done = 0
        while True:
            done, self._used = kernels.append_kernel()(
                words, done, first, *arrays, self.heads, self._tails, self.pool, self._used
            )
            if done == len(words):
                break
            more = self._tables * (2 * (len(words) - done) + kernels.MAX_CHUNK + 1)
            wider = np.empty((max(self._used + more, 3 * len(self.pool) // 2), self.pool.shape[1]), np.uint64)
            wider[: self._used] = self.pool[: self._used]
            self.pool = wider
        self.size += len(words)

    def clear(self) -> None:
        """Empty the lists; their memory is kept, since new memory takes longer to get than to fill."""
        self.size = self._used = 0
        self.heads.fill(-1)
        self._tails.fill(-1)


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
        starts = []
        values = np.empty(rows, np.int64)
        for table in track(range(self.tables), "Tables of the index"):
            kernels.substring_kernel()(words, self._firsts[table], self._lengths[table], values)
            bucket_starts = np.zeros(2 ** lengths[table] + 1, np.int64)
            kernels.sort_kernel()(words, values, bucket_starts, self._codes[table], self._ids[table])
            starts.append(bucket_starts)
        sizes = np.array([len(bucket_starts) for bucket_starts in starts], np.int64)
        self._table_starts = np.cumsum(sizes) - sizes
        self._starts = np.concatenate(starts)
        self._late = LaterCodes(self.tables, words.shape[1], 0)

    def _renumber(self, new_rows: NDArray[np.int64] | None) -> None:
        rows = self.items.rows
        if self._given_tables is None and self.tables != default_tables(self.bits, rows):
            self._build()
            return
        check_rows(rows)
        words = self._codes.shape[2]
        codes = np.empty((self.tables, rows, words), np.uint64)
        ids = np.empty((self.tables, rows), np.int32)
        starts = np.empty_like(self._starts)
        new_ids = np.empty(0, np.int32) if new_rows is None else new_rows.astype(np.int32)
        bounds = [*self._table_starts.tolist(), len(starts)]
        for table, (start, stop) in enumerate(pairwise(bounds)):
            merge_kernel()(
                self._codes[table],
                self._ids[table],
                self._starts[start:stop],
                self._late.heads[start:stop],
                self._late.pool,
                new_ids,
                codes[table],
                ids[table],
                starts[start:stop],
            )
        self._codes, self._ids, self._starts = codes, ids, starts
        self._late.clear()

    def _extend(self, first: int) -> None:
        rows = self.items.rows
        check_rows(rows)
        if not len(self._late.heads):
            self._late = LaterCodes(self.tables, self._codes.shape[2], len(self._starts))
        self._late.append(pack_words(self.items.codes[first:]), first, self._firsts, self._lengths, self._table_starts)
        if self._late.size > max(MIN_LATE, MAX_LATE * rows):
            self.rebuild()

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
            return scan_rows(self, queries, k, np.flatnonzero(allowed))
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
                rows = RowScan(self.codes, self.bits, self._scan)
                near, found = search_allowed(rows, far, k, allowed, count, is_scan=True)
            else:
                near, found = self._scan.search(far, self.codes, self.distance, k)
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
        tables = (self._codes, self._ids, self._starts, self._table_starts, self._firsts, self._lengths)
        arrays = (*tables, self._late.pool, self._late.heads if self._late.size else self._late.heads[:0])
        threads = torch.get_num_threads() if self.threads is None else self.threads
        run_in_threads(kernel, (rows, arrays, *arguments), len(queries), threads)
