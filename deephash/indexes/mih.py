"""Multi-index hashing: exact nearest codes without a scan (Norouzi, Punjani & Fleet, CVPR 2012)."""

import math
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deephash.indexes import multi_index_kernels as kernels
from deephash.indexes.base import Index, WithinRadius, ordered_within
from deephash.io.progress import track
from deephash.ranking.numba_engine import NumbaEngine, run_in_threads
from deephash.ranking.numba_layout import words
from deephash.validation import InvalidInputError, check_count, check_positive

# A table has a start for every value of its substring, so 2^26 of them take 512 MB.
LONGEST_SUBSTRING = 26


def substring_lengths(bits: int, tables: int) -> list[int]:
    """Lengths of m substrings that cover b bits, the longer ones first; they differ by at most 1."""
    return [bits // tables + (table < bits % tables) for table in range(tables)]


def usual_tables(bits: int, size: int) -> int:
    """Number of tables with which a bucket holds about one item: substrings of log2 N bits (Section 4).

    Args:
        bits: code length b.
        size: number of codes N.
    """
    length = min(max(1.0, math.log2(max(size, 2))), LONGEST_SUBSTRING)
    return max(1, math.ceil(bits / LONGEST_SUBSTRING), round(bits / length))


@final
class MIH(Index):
    """Looks the query's substrings up in a table each, nearest values first, until nothing nearer can be left.

    Codes that differ in r bits differ in at most ⌊r/m⌋ bits in one of m substrings at least. Time grows with about the
    square root of the database, as long as the k-th neighbour is near. Known weakness: of far neighbours it would look
    into more buckets than there are items; such a query is given up, and scans. Each table holds a copy of the codes.

    Args:
        codes: packed codes uint8 (N, ⌈b/8⌉), fewer than 2^31.
        bits: code length b.
        tables: number of substrings m; None for the one with which a bucket holds about one item.
        threads: number of threads; None takes torch's number.
        patience: work on a query's tables before it scans, in scans of all codes. With 1 no query takes much more than
            twice a scan's time, whatever the codes are: the bound of who rents until renting has cost the price.

    Raises:
        InvalidInputError: substrings of more than 26 bits or of none, threads below 1, a patience that is not above 0.

    References:
        Norouzi, Punjani & Fleet, "Fast search in Hamming space with multi-index hashing", CVPR 2012.
    """

    def __init__(
        self, codes: Tensor, bits: int, tables: int | None = None, threads: int | None = None, patience: float = 1.0
    ) -> None:
        super().__init__(codes, bits)
        if self.size >= 2**31:
            raise InvalidInputError(f"{self.size} codes exceed the 2^31 that one index numbers; split them.")
        self.tables = usual_tables(bits, self.size) if tables is None else tables
        check_count(self.tables, "tables")
        # Compared first, since the lengths of a billion tables would fill the memory.
        lengths = substring_lengths(bits, self.tables) if self.tables <= bits else [0]
        if not 1 <= min(lengths) <= max(lengths) <= LONGEST_SUBSTRING:
            raise InvalidInputError(
                f"tables={tables} cuts {bits} bits into substrings of {lengths[0]}; expected 1 to {LONGEST_SUBSTRING} "
                f"bits: take {max(1, math.ceil(bits / LONGEST_SUBSTRING))} to {bits} tables."
            )
        check_positive(patience, "patience")
        self.threads = threads
        self._scan = NumbaEngine(threads)
        self.patience = patience
        self._lengths = np.array(lengths, np.int64)
        self._firsts = np.cumsum(self._lengths) - self._lengths
        laid_out = words(self.codes.numpy())
        self._codes = np.empty((self.tables, *laid_out.shape), np.uint64)
        self._ids = np.empty((self.tables, self.size), np.int32)
        starts = []
        values = np.empty(self.size, np.int64)
        for table in track(range(self.tables), "Tables of the index"):
            kernels.substring_kernel()(laid_out, self._firsts[table], self._lengths[table], values)
            own = np.zeros(2 ** lengths[table] + 1, np.int64)
            kernels.sort_kernel()(laid_out, values, own, self._codes[table], self._ids[table])
            starts.append(own)
        sizes = np.array([len(own) for own in starts], np.int64)
        self._table_starts = np.cumsum(sizes) - sizes
        self._starts = np.concatenate(starts)

    @property
    def looked_at(self) -> NDArray[np.int64]:
        """Of each query of the last search: buckets, codes in them, and codes of a scan, int64 (q, 3)."""
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
        return ordered_within(*(torch.from_numpy(array) for array in (offsets, distances, ids)))

    def _run(self, kernel: Any, queries: Tensor, arguments: tuple[Any, ...]) -> None:
        laid_out = words(queries.numpy())
        tables = (self._codes, self._ids, self._starts, self._table_starts, self._firsts, self._lengths)
        threads = torch.get_num_threads() if self.threads is None else self.threads
        run_in_threads(kernel, (laid_out, *tables, *arguments), len(queries), threads)
