"""Graphs of nearest neighbours and the smoothest functions on them."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from deephash.progress import track
from deephash.validation import check_directions

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

# Rows whose neighbours are searched at a time.
BLOCK_ROWS = 4096
# Up to so many items all eigenvectors of the graph are found densely, which also tells apart equal eigenvalues.
DENSE_ITEMS = 1500
# Eigenvectors of a graph are cut at their median: more digits than this change no bit that matters.
EIGENVALUE_TOLERANCE = 1e-6


def nearest_neighbours(features: Tensor, count: int) -> Tensor:
    """Exact nearest neighbours of each item among the others, by FAISS on the CPU, in blocks.

    Args:
        features: floating (n, d), n > count; distances are taken in float32, relative to the mean.
        count: neighbours k of an item.

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
        found = index.search(rows[start : start + BLOCK_ROWS], count + 1)[1]
        own = found == np.arange(start, start + len(found))[:, None]
        # Among copies of an item it may itself be missing from the list: then the last one goes.
        own[~own.any(1), -1] = True
        neighbours[start : start + len(found)] = found[~own].reshape(-1, count)
    return torch.from_numpy(neighbours)


def symmetric_graph(neighbours: Tensor, joined: Tensor | None = None) -> "csr_matrix":
    """Adjacency matrix, 1 where either of two items is among the other's neighbours.

    Args:
        neighbours: int64 (n, k).
        joined: bool (n, k), which of them count; None for all.

    Returns:
        Sparse float64 (n, n), symmetric, with an empty diagonal.
    """
    from scipy.sparse import csr_matrix

    n, k = neighbours.shape
    first, second = torch.arange(n).repeat_interleave(k).numpy(), neighbours.flatten().numpy()
    if joined is not None:
        keep = joined.flatten().numpy()
        first, second = first[keep], second[keep]
    graph = csr_matrix((np.ones(len(first)), (first, second)), shape=(n, n))
    return graph.maximum(graph.T).tocsr()


def laplacian_eigenmap(graph: "csr_matrix", count: int) -> Tensor:
    """The smoothest functions on a graph: solutions y of L y = λ D y with the least λ, without the constant one.

    D is the diagonal of degrees and L = D - W. They are D^(-1/2) times the eigenvectors of D^(-1/2) W D^(-1/2) with the
    largest eigenvalues, from which the trivial one is taken out beforehand: where the graph falls apart, others share
    its eigenvalue. An item without neighbours is joined to none and gets 0.

    Args:
        graph: W, sparse (n, n), symmetric and not negative.
        count: number of functions k.

    Returns:
        float64 (n, k), smoothest first, with yᵀ D y = 1 and yᵀ D 1 = 0; the entry of largest size of each is positive.

    Raises:
        InvalidInputError: k functions of fewer than k + 1 items.
    """
    from scipy.sparse import diags
    from scipy.sparse.linalg import LinearOperator, eigsh

    n = graph.shape[0]
    check_directions(count, n - 1, f"of a graph of {n} items")
    degrees = np.asarray(graph.sum(1)).ravel()
    scale = np.where(degrees > 0, 1 / np.sqrt(np.maximum(degrees, np.finfo(float).tiny)), 0)
    normalised = (diags(scale) @ graph @ diags(scale)).tocsr()
    trivial = np.sqrt(degrees / degrees.sum())
    # By 2 more than all eigenvalues' spread, so that the trivial vector comes last.
    if n <= max(DENSE_ITEMS, 3 * count):
        vectors = np.linalg.eigh(normalised.toarray() - 3 * np.outer(trivial, trivial))[1][:, ::-1][:, :count]
    else:

        def apply(x: np.ndarray) -> np.ndarray:
            x = x.reshape(n)
            return np.asarray(normalised @ x - 3 * trivial * (trivial @ x))

        operator = LinearOperator((n, n), matvec=apply, dtype=np.float64)
        start = np.random.default_rng(0).standard_normal(n)
        values, vectors = eigsh(
            operator, count, which="LA", v0=start, ncv=min(n, 2 * count + 20), tol=EIGENVALUE_TOLERANCE
        )
        vectors = vectors[:, np.argsort(-values)]
    functions = scale[:, None] * vectors
    largest = functions[np.abs(functions).argmax(0), np.arange(count)]
    return torch.from_numpy(functions * np.where(largest < 0, -1, 1))


def median_bits(functions: Tensor) -> Tensor:
    """Whether a function exceeds its median: bits that halve the items, (n, k) → bool (n, k)."""
    return functions > functions.median(0).values
