"""A generalised eigenproblem: maximise wᵀ A w with wᵀ G w = 1."""

import torch
from torch import Tensor

from deephash.functional.principal_components import canonical_signs

# Eigenvalues of G below this share of the largest are rounding errors; their directions are ignored.
RANK_TOLERANCE = 1e-10


def whitening(gram: Tensor) -> Tensor:
    """Compute T with Tᵀ G T = I, over the range of G.

    Args:
        gram: G, float64 (m, m), symmetric and positive semidefinite.

    Returns:
        float64 (m, q), q being the rank of G.
    """
    values, vectors = torch.linalg.eigh(gram)
    kept = values > RANK_TOLERANCE * values[-1]
    whitened: Tensor = vectors[:, kept] / values[kept].sqrt()
    return whitened


def largest_direction(agreement: Tensor, whitening: Tensor) -> Tensor:
    """Find the w that maximises wᵀ A w with wᵀ G w = 1.

    Args:
        agreement: A, float64 (m, m), symmetric.
        whitening: T of G, float64 (m, q).

    Returns:
        w float64 (m,); its entry of largest magnitude is positive.
    """
    import scipy.linalg

    problem = (whitening.T @ agreement @ whitening).cpu().numpy()
    last = len(problem) - 1
    _, vectors = scipy.linalg.eigh(problem, subset_by_index=[last, last])
    return canonical_signs(whitening @ torch.from_numpy(vectors).to(whitening))[:, 0]
