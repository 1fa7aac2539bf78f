"""Kernels that order the candidates of a query by their whole codes, compiled by numba."""

# numba infers the types of compiled functions, and rejects annotations on some.
# ruff: noqa: ANN001, ANN201
# mypy: allow-untyped-defs, disable-error-code="call-arg"

import numpy as np
from numpy.typing import NDArray

from deephash.functional.compiled import compiled
from deephash.ranking.numba_vectors import popcount


@compiled
def rank_candidates(queries, codes, candidates, farthest, distances, found, begin, end):
    """Find the k nearest of each query's candidates, by distance and then by row.

    The distances are counted, which gives the distance of the k-th. Only candidates up to that distance are sorted.
    `queries` and `codes` are packed codes as words or bytes, (q, W) and (N, W); `candidates` int64 (q, c) are rows,
    negative ones missing; `farthest` is the distance b + 1 of a place without a candidate. `distances` and `found`,
    int64 (q, k), are filled.
    """
    width, depth, k = codes.shape[1], candidates.shape[1], found.shape[1]
    measured = np.empty(depth, np.int64)
    counts = np.empty(farthest + 1, np.int64)
    near = np.empty(depth, np.int64)
    for query in range(begin, end):
        counts[:] = 0
        for place in range(depth):
            row, distance = candidates[query, place], np.uint64(0)
            if row < 0:
                measured[place] = farthest
                continue
            for word in range(width):
                distance += popcount(np.uint64(queries[query, word] ^ codes[row, word]))
            measured[place] = np.int64(distance)
            counts[measured[place]] += 1
        limit, reached = 0, counts[0]
        while reached < k and limit < farthest - 1:
            limit += 1
            reached += counts[limit]
        # A key orders by distance, then by row; rows are below 2^40.
        taken = 0
        for place in range(depth):
            if measured[place] <= limit:
                near[taken] = (measured[place] << 40) | candidates[query, place]
                taken += 1
        ordered = np.sort(near[:taken])
        for place in range(k):
            if place < taken:
                distances[query, place] = ordered[place] >> 40
                found[query, place] = ordered[place] & ((1 << 40) - 1)
            else:
                distances[query, place], found[query, place] = farthest, -1


@compiled
def measure_listed(queries, codes, offsets, rows, distances, begin, end):
    """Fill `distances` (n,) of listed rows (n,) from their queries: offsets[i] to offsets[i + 1] are of query i."""
    for query in range(begin, end):
        for place in range(offsets[query], offsets[query + 1]):
            distance = np.uint64(0)
            for word in range(codes.shape[1]):
                distance += popcount(np.uint64(queries[query, word] ^ codes[rows[place], word]))
            distances[place] = distance


def view_words(codes: NDArray[np.uint8]) -> NDArray[np.uint64] | NDArray[np.uint8]:
    """Return packed codes (n, B) as words (n, B/8) of the same memory, or as they are if that is impossible."""
    is_aligned = codes.shape[1] % 8 == 0 and codes.flags.c_contiguous and codes.ctypes.data % 8 == 0
    return codes.view(np.uint64) if is_aligned else codes
