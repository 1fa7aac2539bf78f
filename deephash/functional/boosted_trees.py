"""Boosted decision trees for two classes: AdaBoost on features quantised to at most 256 levels, compiled by numba.

All compiled functions are in this file, because numba's disk cache watches only the file of the function itself.
"""

# numba infers the types of compiled functions, and rejects annotations on some.
# ruff: noqa: ANN001, ANN201
# mypy: allow-untyped-defs, disable-error-code="no-untyped-call, untyped-decorator"

import numpy as np

from deephash.functional.compiled import compiled


@compiled
def best_splits(levels, features, rows, cells, weights, nodes, limit, scores, cuts):
    """Find the best cut of every node of one layer, for each of some features.

    The best value of a leaf with class weights w₊ and w₋ is ½ log(w₊ / w₋). Its exponential loss is then 2 √(w₊ w₋).
    The score of a cut is half the sum of the losses of its two sides.

    Args:
        levels: uint8 (d, n).
        features: int64 (f,), the features to try.
        rows: int64 (m,), the rows to use.
        cells: int64 (m,), 2 · node · limit + class for the node and class of each row. Weights are summed by node,
            level and class in one flat array; this is the index of the row's sum if its level is 0.
        weights: float32 (m,).
        nodes: number of nodes of the layer.
        limit: number of levels.
        scores: output, float64 (f, nodes), scores of the best cuts; lower is better.
        cuts: output, int64 (f, nodes); rows of a level up to the cut go left; -1 if no cut improves.
    """
    sums = np.empty(nodes * limit * 2, dtype=np.float64)
    for i in range(len(features)):
        column = levels[features[i]]
        sums[:] = 0
        for m in range(len(rows)):
            sums[cells[m] + 2 * np.int64(column[rows[m]])] += weights[m]
        for j in range(nodes):
            at = 2 * j * limit
            total = np.zeros(2)
            for level in range(limit):
                total[0] += sums[at + 2 * level]
                total[1] += sums[at + 2 * level + 1]
            best = np.sqrt(total[0] * total[1])
            cut = -1
            left_0 = 0.0
            left_1 = 0.0
            for level in range(limit - 1):
                here_0 = sums[at + 2 * level]
                here_1 = sums[at + 2 * level + 1]
                if here_0 + here_1 == 0:
                    continue
                left_0 += here_0
                left_1 += here_1
                score = np.sqrt(left_0 * left_1) + np.sqrt(max(0.0, total[0] - left_0) * max(0.0, total[1] - left_1))
                if score < best - 1e-12:
                    best = score
                    cut = level
            scores[i, j] = best
            cuts[i, j] = cut


@compiled
def heavy_rows(weights, share):
    """Return the rows of largest weight that together have a share of the total (weight trimming), ascending."""
    order = np.argsort(-weights, kind="mergesort")
    total = weights.astype(np.float64).sum()
    held = 0.0
    for count in range(len(order)):
        held += weights[order[count]]
        if held >= share * total:
            return np.sort(order[: count + 1])
    return np.sort(order)


@compiled
def boost(levels, classes, sampled, depth, share, limit):
    """Train trees by AdaBoost with exponential loss, each on some of the features and the heaviest rows.

    Args:
        levels: uint8 (d, n), the features' levels.
        classes: float32 (n,), each -1 or 1.
        sampled: int64 (trees, f), the features that each tree may use (LazyBoost).
        depth: depth of the trees, all of which are full: a node without a useful cut sends every row left.
        share: share of the total weight; each tree is trained on the fewest rows that together have it.
        limit: number of levels.

    Returns:
        The feature of each node, int64 (trees, 2^depth - 1); the highest level that goes left at each node, of the same
        shape and dtype; leaf values, float64 (trees, 2^depth); and the sum of all trees for each row, float64 (n,).
    """
    n = levels.shape[1]
    trees = len(sampled)
    features = np.zeros((trees, 2**depth - 1), dtype=np.int64)
    cuts = np.full((trees, 2**depth - 1), limit - 1, dtype=np.int64)
    leaves = np.zeros((trees, 2**depth), dtype=np.float64)
    margins = np.zeros(n, dtype=np.float64)
    node = np.zeros(n, dtype=np.int16)
    for tree in range(trees):
        weights = np.exp(-margins * classes)
        weights = (weights / weights.sum()).astype(np.float32)
        rows = heavy_rows(weights, share)
        heavy = weights[rows]
        positive = (classes[rows] > 0).astype(np.int64)
        node[:] = 0
        for layer in range(depth):
            first = 2**layer - 1
            nodes = 2**layer
            scores = np.empty((sampled.shape[1], nodes), dtype=np.float64)
            best_cuts = np.empty((sampled.shape[1], nodes), dtype=np.int64)
            cells = 2 * limit * (node[rows] - first) + positive
            best_splits(levels, sampled[tree], rows, cells, heavy, nodes, limit, scores, best_cuts)
            for j in range(nodes):
                i = np.argmin(scores[:, j])
                if best_cuts[i, j] >= 0:
                    features[tree, first + j] = sampled[tree, i]
                    cuts[tree, first + j] = best_cuts[i, j]
            for row in range(n):
                at = node[row]
                goes_right = levels[features[tree, at], row] > cuts[tree, at]
                node[row] = 2 * at + 1 + goes_right
        first = 2**depth - 1
        sums = np.zeros((2**depth, 2), dtype=np.float64)
        for row in rows:
            sums[node[row] - first, int(classes[row] > 0)] += weights[row]
        # A leaf of one class would have an infinite value; the mean weight of a row keeps it finite.
        smoothing = 1 / n
        for leaf in range(2**depth):
            leaves[tree, leaf] = np.log((sums[leaf, 1] + smoothing) / (sums[leaf, 0] + smoothing)) / 2
        for row in range(n):
            margins[row] += leaves[tree, node[row] - first]
    return features, cuts, leaves, margins
