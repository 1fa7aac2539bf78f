"""The direction that agrees most with a matrix under a norm of another: maximise wᵀ A w with wᵀ G w = 1."""

import torch
from torch import Tensor

from deephash.functional.principal_components import canonical_signs

# Directions with less than this share of the norm's largest eigenvalue are left out: they are rounding.
RANK_TOLERANCE = 1e-10


def whitening(gram: Tensor) -> Tensor:
    """T with Tᵀ G T = I, over the directions that G holds.

    Args:
        gram: G, float64 (m, m), symmetric and not negative.

    Returns:
        float64 (m, q), q being the rank of G.
    """
    values, vectors = torch.linalg.eigh(gram)
    kept = values > RANK_TOLERANCE * values[-1]
    whitened: Tensor = vectors[:, kept] / values[kept].sqrt()
    return whitened


def largest_direction(agreement: Tensor, whitening: Tensor) -> Tensor:
    """The w that maximises wᵀ A w with wᵀ G w = 1.

    Args:
        agreement: A, float64 (m, m), symmetric.
        whitening: T of G, float64 (m, q).

    Returns:
        w float64 (m,); its largest entry is positive.
    """
    import scipy.linalg

    problem = (whitening.T @ agreement @ whitening).cpu().numpy()
    last = len(problem) - 1
    _, vectors = scipy.linalg.eigh(problem, subset_by_index=[last, last])
    return canonical_signs(whitening @ torch.from_numpy(vectors).to(whitening))[:, 0]
