"""Graphs of given neighbours, possibly disconnected, and their smoothest vectors (Laplacian eigenmaps)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from deephash.affinity.supervision import TrainingAffinity
from deephash.functional.leading_eigenvectors import leading_eigenvectors
from deephash.functional.principal_components import canonical_signs, working_dtype
from deephash.io.progress import track

# Entries of the affinity matrix per block: 16 MB of truth values, and 128 MB of float64 cosines.
BLOCK_PAIRS = 2**24
# Eigenvectors of one component are 0 on the other components, up to this fraction of their largest entry.
ROUNDING = 1e-9
# Neighbours with a cosine of at most 0 keep an edge of negligible weight.
MIN_WEIGHT = 1e-6


def build_affinity_graph(features: Tensor, affinity: TrainingAffinity) -> Any:
    """Build the graph of an affinity's neighbours, weighted by cosines.

    Args:
        features: floating (n, d).
        affinity: affinity among the same n items.

    Returns:
        A symmetric SciPy CSR matrix, float64 (n, n), with an empty diagonal; all other entries are stored if all
        items share a label.
    """
    from scipy.sparse import csr_array, vstack

    unit = _normalise_rows(features).double().cpu()
    n = len(unit)
    blocks = []
    for rows in track(torch.split(torch.arange(n), max(1, BLOCK_PAIRS // n)), "Known neighbours"):
        joined = affinity.among(rows)
        joined[torch.arange(len(rows)), rows] = False
        cosines = (unit[rows] @ unit.T).clamp_min_(MIN_WEIGHT).mul_(joined)
        blocks.append(csr_array(cosines.numpy()))
    graph = vstack(blocks, format="csr")
    return ((graph + graph.T) / 2).tocsr()


def smoothest_vectors(graph: Any, features: Tensor, k: int) -> Tensor:
    """Compute the k vectors y that minimise Σ w_ij (y_i - y_j)², orthonormal in yᵀ D y, without the constant vector.

    They solve L y = λ D y, with the degrees D and the Laplacian L = D - W. In a disconnected graph, any vector that is
    constant on each component has cost 0, and an eigensolver would return an arbitrary mixture. Here the first vectors
    are those along which the component means differ most, as in PCA of the means. The others are the leading
    eigenvectors of D^(-1/2) W D^(-1/2), by Lanczos' method.

    Args:
        graph: W, symmetric and non-negative, SciPy CSR (n, n).
        features: floating (n, d), for the means of the components.
        k: number of vectors, at most n - 2.

    Returns:
        float64 (n, k), smoothest first; the entry of largest magnitude is positive.
    """
    from scipy.sparse import dia_array
    from scipy.sparse.csgraph import connected_components

    n = graph.shape[0]
    degrees = np.maximum(np.asarray(graph.sum(1)).ravel(), MIN_WEIGHT)
    parts, part = connected_components(graph, directed=False)
    weights = np.bincount(part, degrees)
    vectors = _find_directions_between(features, part, degrees, weights)[part][:, :k]
    rest = k - vectors.shape[1]
    if rest:
        roots = np.sqrt(degrees)
        scale = dia_array((1 / roots[None], [0]), shape=(n, n))
        normalised = (scale @ graph @ scale).tocsr()

        def multiply(vector: np.ndarray) -> np.ndarray:
            # This moves vectors that are constant on components from eigenvalue 1 to −1, the end of the spectrum.
            constant = np.bincount(part, roots * vector, minlength=parts) / weights
            product: np.ndarray = normalised @ vector - 2 * roots * constant[part]
            return product

        start = np.random.default_rng(0).standard_normal(n)
        _, leading = leading_eigenvectors(multiply, start, rest, basis=40)
        leading /= roots[:, None]
        # Noise instead of 0 would give items of the other components random bits.
        leading[np.abs(leading) < ROUNDING * np.abs(leading).max(0)] = 0
        vectors = np.concatenate([vectors, leading], 1)
    return canonical_signs(torch.from_numpy(vectors))


def balanced_bits(vectors: Tensor) -> Tensor:
    """Threshold each column at its median, so that bits are as balanced as ties allow.

    Args:
        vectors: floating (n, k).

    Returns:
        bool (n, k).
    """
    ordered = vectors.sort(0).values
    medians = (ordered[(len(vectors) - 1) // 2] + ordered[len(vectors) // 2]) / 2
    reach, exceed = vectors >= medians, vectors > medians
    n = len(vectors)
    return torch.where((2 * reach.sum(0) - n).abs() <= (2 * exceed.sum(0) - n).abs(), reach, exceed)


def _find_directions_between(
    features: Tensor, part: np.ndarray, degrees: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the coordinates of each component, (parts, m), along principal directions of the component means."""
    from scipy.sparse import csr_array

    if len(weights) == 1:
        return np.empty((1, 0))
    n = len(part)
    members = csr_array((degrees, (part, np.arange(n))), shape=(len(weights), n))
    means = members @ features.to(working_dtype(features)).cpu().numpy() / weights[:, None]
    centred = np.sqrt(weights)[:, None] * (means - weights @ means / weights.sum())
    left, sizes, _ = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    values: np.ndarray = left[:, sizes > 1e-6 * sizes.max()] / np.sqrt(weights)[:, None]
    return values


def _normalise_rows(features: Tensor) -> Tensor:
    return torch.nn.functional.normalize(features.to(working_dtype(features)), dim=1)
