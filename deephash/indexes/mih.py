"""Multi-index hashing: exact nearest codes without a scan (Norouzi, Punjani & Fleet, CVPR 2012)."""

import math
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.indexes import multi_index_kernels as kernels
from deephash.indexes.base import Index, WithinRadius, sort_within
from deephash.io.progress import track
from deephash.ranking.numba_engine import NumbaEngine, run_in_threads
from deephash.ranking.numba_layout import pack_words
from deephash.validation import InvalidInputError, check_count, check_positive

# A table stores the start of the bucket of every value of its substring; 2^26 starts take 512 MB.
MAX_SUBSTRING_BITS = 26


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


@final
class MIH(Index):
    """Tables of substrings; a search visits their buckets, nearest values first, until no nearer code can remain.

    A bucket contains the codes with one value of a substring. Codes that differ in r bits differ in at most ⌊r/m⌋ bits
    in at least one of m substrings. Time grows with about the square root of the number of codes, as long as the k-th
    neighbour is near. Known weakness: if the neighbours are far, a query would visit more buckets than there are items.
    Such a query stops, and scans all codes instead. Each table contains a copy of the codes.

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

    def __init__(
        self, codes: Tensor, bits: int, tables: int | None = None, threads: int | None = None, patience: float = 1.0
    ) -> None:
        super().__init__(codes, bits)
        if self.size >= 2**31:
            raise InvalidInputError(f"{self.size} codes exceed the 2^31 that one index supports; split them.")
        self.tables = default_tables(bits, self.size) if tables is None else tables
        check_count(self.tables, "tables")
        # Compare first: the lengths of a billion tables would fill the memory.
        lengths = substring_lengths(bits, self.tables) if self.tables <= bits else [0]
        if not 1 <= min(lengths) <= max(lengths) <= MAX_SUBSTRING_BITS:
            raise InvalidInputError(
                f"tables={tables} cuts {bits} bits into substrings of {lengths[0]}; expected 1 to {MAX_SUBSTRING_BITS} "
                f"bits: use {max(1, math.ceil(bits / MAX_SUBSTRING_BITS))} to {bits} tables."
            )
        check_positive(patience, "patience")
        self.threads = threads
        self._scan = NumbaEngine(threads)
        self.patience = patience
        self._lengths = np.array(lengths, np.int64)
        self._firsts = np.cumsum(self._lengths) - self._lengths
        rows = pack_words(self.codes.numpy())
        self._codes = np.empty((self.tables, *rows.shape), np.uint64)
        self._ids = np.empty((self.tables, self.size), np.int32)
        starts = []
        values = np.empty(self.size, np.int64)
        for table in track(range(self.tables), "Tables of the index"):
            kernels.substring_kernel()(rows, self._firsts[table], self._lengths[table], values)
            bucket_starts = np.zeros(2 ** lengths[table] + 1, np.int64)
            kernels.sort_kernel()(rows, values, bucket_starts, self._codes[table], self._ids[table])
            starts.append(bucket_starts)
        sizes = np.array([len(bucket_starts) for bucket_starts in starts], np.int64)
        self._table_starts = np.cumsum(sizes) - sizes
        self._starts = np.concatenate(starts)

    @property
    def looked_at(self) -> NDArray[np.int64]:
        """Numbers of visited buckets, codes in them and scanned codes of the last search, by query: int64 (q, 3)."""
        return self._looked_at

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        distances, ids = (np.empty((len(queries), k), np.int64) for _ in range(2))
        most_work = int(min(self.patience * self.size, 2.0**62))
        looked = np.zeros((len(queries), 2), np.int64)
        self._run(kernels.nearest_kernel(self._codes.shape[2]), queries, (k, most_work, distances, ids, looked))
        given_up = ids[:, 0] < 0
        self._looked_at = np.column_stack([looked, given_up * self.size])
        if given_up.any():
            near, found = self._scan.search(queries[given_up], self.codes, self.distance, k)
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
        threads = torch.get_num_threads() if self.threads is None else self.threads
        run_in_threads(kernel, (rows, *tables, *arguments), len(queries), threads)
