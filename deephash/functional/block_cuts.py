"""One-bit codes from pairwise terms: exact minima over blocks of items by graph cuts, block after block."""

import numpy as np
import torch
from torch import Tensor


def minimise_submodular(unary: np.ndarray, pairwise: np.ndarray) -> np.ndarray:
    """Find the z in {-1, 1} that minimises 2 uᵀ z + zᵀ A z, where no entry of A off its diagonal is above 0.

    An item whose unary term outweighs all its pairwise terms is settled at once, and then adds to the unary terms of
    the others. A minimum cut between source and sink divides the remaining items.

    Args:
        unary: u, integers (b,).
        pairwise: A, integers (b, b), symmetric.

    Returns:
        z, int64 (b,).
    """
    pairwise = pairwise.astype(np.int64)
    np.fill_diagonal(pairwise, 0)
    unary = unary.astype(np.int64)
    z = np.zeros(len(unary), dtype=np.int64)
    left = np.arange(len(unary))
    while len(left):
        unary_left = unary[left] + pairwise[left] @ z
        settled = np.abs(unary_left) > -pairwise[np.ix_(left, left)].sum(1)
        if not settled.any():
            z[left] = _find_minimum_cut(unary_left, -pairwise[np.ix_(left, left)])
            break
        z[left[settled]] = np.where(unary_left[settled] <= 0, 1, -1)
        left = left[~settled]
    return z


def _find_minimum_cut(unary: np.ndarray, attraction: np.ndarray) -> np.ndarray:
    """Cut items into two sides: a pair that differs costs its attraction, an item whose z has the sign of u costs |u|.

    zᵀ A z counts a pair twice, so 2 uᵀ z + zᵀ A z changes by 4 times either cost; the cut omits the factor.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    size = len(unary)
    capacities = np.zeros((size + 2, size + 2), dtype=np.int32)
    source, sink = size, size + 1
    capacities[:size, :size] = attraction
    capacities[source, :size] = np.maximum(-unary, 0)
    capacities[:size, sink] = np.maximum(unary, 0)
    graph = csr_array(capacities)
    residual = graph - maximum_flow(graph, source, sink).flow
    residual.data = np.maximum(residual.data, 0)
    residual.eliminate_zeros()
    reached = breadth_first_order(residual, source, return_predecessors=False)
    z = np.full(size + 2, -1)
    z[reached] = 1
    return z[:size]


def similar_blocks(neighbours: Tensor, largest: int, generator: torch.Generator) -> list[Tensor]:
    """Partition items into blocks whose members are all neighbours of each other (Algorithm 2).

    Args:
        neighbours: bool (n, n), symmetric.
        largest: maximum number of items per block.
        generator: CPU generator of the order in which items are taken.

    Returns:
        int64 rows of each block.
    """
    order = torch.randperm(len(neighbours), generator=generator).numpy()
    among = neighbours.numpy()
    free = np.ones(len(among), dtype=bool)
    blocks = []
    for first in order:
        if not free[first]:
            continue
        members = [first]
        free[first] = False
        candidates = order[free[order] & among[first, order]]
        while len(candidates) and len(members) < largest:
            members.append(candidates[0])
            free[candidates[0]] = False
            candidates = candidates[1:][among[candidates[0], candidates[1:]]]
        blocks.append(torch.from_numpy(np.array(members)))
    return blocks
