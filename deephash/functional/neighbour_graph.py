"""Graphs of nearest neighbours."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from deephash.io.progress import track

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# Rows of a block of queries.
BLOCK_ROWS = 4096


def nearest_neighbours(features: Tensor, count: int) -> Tensor:
    """Find the exact nearest neighbours of each item among the others, with FAISS on the CPU, in blocks.

    Args:
        features: floating (n, d), n > count; distances are computed in float32, relative to the mean.
        count: number of neighbours k of each item.

    Returns:
        int64 (n, k) on the CPU, nearest first.
    """
    import faiss

    mean = features.mean(0, dtype=torch.float64 if features.dtype == torch.float64 else torch.float32)
    rows = (features - mean).float().cpu().numpy()
    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(rows)
    neighbours = np.empty((len(rows), count), dtype=np.int64)
    for start in track(range(0, len(rows), BLOCK_ROWS), "Neighbours"):
        ids = index.search(rows[start : start + BLOCK_ROWS], count + 1)[1]
        is_self = ids == np.arange(start, start + len(ids))[:, None]
        # An item with many copies may be missing from its own list; then the last entry is dropped.
        is_self[~is_self.any(1), -1] = True
        neighbours[start : start + len(ids)] = ids[~is_self].reshape(-1, count)
    return torch.from_numpy(neighbours)


def symmetric_graph(neighbours: Tensor) -> "csr_matrix":
    """Build the adjacency matrix, 1 if either of two items is among the other's neighbours.

    Args:
        neighbours: int64 (n, k).

    Returns:
        Sparse float64 (n, n), symmetric, with an empty diagonal.
    """
    from scipy.sparse import csr_matrix

    n, k = neighbours.shape
    first, second = torch.arange(n).repeat_interleave(k).numpy(), neighbours.flatten().numpy()
    graph = csr_matrix((np.ones(len(first)), (first, second)), shape=(n, n))
    return graph.maximum(graph.T).tocsr()
