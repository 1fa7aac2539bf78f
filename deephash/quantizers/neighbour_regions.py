"""Compiled kernels for regions of a line: count neighbours in every region, and find the best division into regions.

Let gain(i, j) be the value of the region between cuts i and j. B(r, j), the largest value of r regions below cut j, is
the maximum over cuts i < j of B(r - 1, i) + gain(i, j). The gain has no structure to exploit, so all pairs of cuts are
visited.
"""

# numba infers the types of compiled functions, and refuses annotations on some.
# ruff: noqa: ANN001, ANN202
# mypy: allow-untyped-defs

import numpy as np
from numpy.typing import NDArray

from deephash.functional.compiled import compiled


@compiled
def _count_neighbours_within(affinity, order):
    n = len(order)
    within = np.zeros((n + 1, n + 1), np.int32)
    for j in range(1, n + 1):
        row = affinity[order[j - 1]]
        pairs = 0
        for i in range(j - 1, -1, -1):
            # Item i of the order joins the region that ends with item j - 1; an item is not its own neighbour.
            pairs += i < j - 1 and row[order[i]]
            within[j, i] = within[j - 1, i] + pairs
    return within


@compiled
def _find_region_starts(neighbours, items, sums, per_neighbours, per_pair, per_square, regions):
    """Return the start of the last region, for each number of regions and each cut."""
    ends = len(items)
    best = np.full((ends, regions + 1), -np.inf)
    starts = np.zeros((ends, regions + 1), np.int64)
    best[0, 0] = 0.0
    for j in range(1, ends):
        for i in range(j):
            count = float(items[j] - items[i])
            total = sums[j] - sums[i]
            gain = per_neighbours * neighbours[j, i] + per_pair * (count * (count - 1.0) / 2.0)
            gain += per_square * (total * total / count)
            for r in range(1, min(i + 1, regions) + 1):
                value = best[i, r - 1] + gain
                if value > best[j, r]:
                    best[j, r] = value
                    starts[j, r] = i
    return starts


def neighbours_within(affinity: NDArray[np.bool_], order: NDArray[np.int64]) -> NDArray[np.int32]:
    """Count the pairs of neighbours within every run of items in an order.

    Args:
        affinity: (n, n), symmetric; the diagonal is not read.
        order: (n,), the items in order.

    Returns:
        (n + 1, n + 1), entry (j, i), i <= j, for items i to j - 1 of the order; 0 above the diagonal.
    """
    within: NDArray[np.int32] = _count_neighbours_within(affinity, order)
    return within


def best_partition(
    neighbours: NDArray[np.int32],
    items: NDArray[np.int64],
    sums: NDArray[np.float64],
    weights: tuple[float, float, float],
    cuts: int,
) -> NDArray[np.int64]:
    """Find cuts, without empty regions, that maximise Σ_regions a·(neighbours) + b·(pairs) + c·(sum²/items).

    Args:
        neighbours: (g + 1, g + 1), entry (j, i) the pairs of neighbours between cuts i and j >= i.
        items: (g + 1,), number of items below each cut, ascending.
        sums: (g + 1,), sum of the values below each cut.
        weights: a, b, c.
        cuts: number of cuts to place between the ends, fewer than g.

    Returns:
        (cuts,), ascending, from 1 to g - 1.
    """
    starts = _find_region_starts(neighbours, items, sums, *weights, cuts + 1)
    best = np.empty(cuts, np.int64)
    end = len(items) - 1
    for r in range(cuts, 0, -1):
        end = starts[end, r + 1]
        best[r - 1] = end
    return best
