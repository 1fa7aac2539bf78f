"""Exact k-means on a line, by dynamic programming over sorted values; compiled for the CPU.

In one dimension every cluster is an interval, so the least squared error of the first i values in c clusters is
D(c, i) = min over j of D(c - 1, j) + the error of values j to i. The best j never falls as i rises (the error is a
concave Monge array), so each c needs only O(n log n) of the n² pairs.
"""

# numba infers the types of compiled functions, and rejects annotations on some.
# ruff: noqa: ANN001, ANN202
# mypy: allow-untyped-defs

import numpy as np
from numpy.typing import NDArray

from deephash.functional.compiled import compiled


@compiled
def _find_cluster_starts(values, clusters):
    """Find where each cluster starts in ascending float64 values, for the least squared error; int64 (clusters,)."""
    n = len(values)
    # Sums relative to the middle value: squares of values far from 0 would lose their digits to cancellation.
    origin = values[n // 2]
    sums, squares = np.zeros(n + 1), np.zeros(n + 1)
    for i in range(n):
        x = values[i] - origin
        sums[i + 1], squares[i + 1] = sums[i] + x, squares[i] + x * x

    error, following = np.zeros(n + 1), np.zeros(n + 1)
    for i in range(1, n + 1):
        error[i] = squares[i] - sums[i] ** 2 / i
    starts = np.zeros((clusters, n + 1), np.int32)
    # Ranges of i still to be solved, and the ranges of j that remain for them.
    pending = np.empty((128, 4), np.int64)
    for c in range(1, clusters):
        depth = 1
        pending[0] = (c + 1, n, c, n - 1)
        while depth:
            depth -= 1
            first, last, lowest, highest = pending[depth]
            i = (first + last) // 2
            least, best = np.inf, lowest
            for j in range(lowest, min(i - 1, highest) + 1):
                total = sums[i] - sums[j]
                value = error[j] + squares[i] - squares[j] - total * total / (i - j)
                if value < least:
                    least, best = value, j
            following[i], starts[c, i] = least, best
            if first < i:
                pending[depth] = (first, i - 1, lowest, best)
                depth += 1
            if i < last:
                pending[depth] = (i + 1, last, best, highest)
                depth += 1
        error, following = following, error
    result = np.zeros(clusters, np.int64)
    end = n
    for c in range(clusters - 1, 0, -1):
        end = starts[c, end]
        result[c] = end
    return result


def line_clusters(values: NDArray[np.floating], clusters: int) -> NDArray[np.float64]:
    """Compute the centres of the clusters with the least squared error.

    Args:
        values: (n,), n >= 1, in any order.
        clusters: number of clusters; fewer if there are fewer distinct values.

    Returns:
        float64 (m,), ascending, with m the lower of `clusters` and the number of distinct values.
    """
    ordered = np.sort(values).astype(np.float64)
    distinct = 1 + int((np.diff(ordered) > 0).sum())
    starts = _find_cluster_starts(ordered, min(clusters, distinct))
    return np.add.reduceat(ordered, starts) / np.diff(np.append(starts, len(ordered)))
