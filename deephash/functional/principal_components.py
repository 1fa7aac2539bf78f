"""Principal components: the directions in which data vary most, with signs that no solver can change."""

import torch
from torch import Tensor

from deephash.progress import track

# Rows a block: a block of 512 dimensions in double precision takes 8 MB.
BLOCK_ROWS = 2048


def feature_mean(features: Tensor) -> Tensor:
    """Mean of rows, summed in float64.

    Args:
        features: floating (n, d), n >= 1.

    Returns:
        float64 (d,).
    """
    total = torch.zeros(features.shape[1], dtype=torch.float64, device=features.device)
    for block in torch.split(features, BLOCK_ROWS):
        total += block.sum(0, dtype=torch.float64)
    return total / len(features)


def canonical_signs(directions: Tensor) -> Tensor:
    """Turn each direction so that its entry of largest magnitude is positive.

    An eigenvector's sign is free, so solvers and devices differ in it; a bit would come out complemented.

    Args:
        directions: (d, k), one direction a column.

    Returns:
        (d, k), each column multiplied by +1 or -1.
    """
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    return torch.where(largest < 0, -directions, directions)


def principal_components(features: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, the k directions of largest variance, and the variances along them.

    Solved in float64 through whichever symmetric matrix is smaller: the d × d covariance, or the n × n Gram matrix
    when there are fewer rows than dimensions. Only blocks of the features are copied. Directions with equal variances
    are any orthonormal basis of their common space.

    Args:
        features: floating (n, d), n >= 2; any scale and mean.
        k: number of directions, at most d.

    Returns:
        mean float64 (d,); directions float64 (d, m), orthonormal columns by falling variance, and their variances
        float64 (m,), with divisor n. m is k, or the number of directions in which the rows vary where that is less: a
        direction varies where its variance exceeds d · max(ε², ε₆₄) times the largest, ε being the rounding unit of
        the features' dtype and ε₆₄ that of float64; below that it is rounding noise.
    """
    n, d = features.shape
    mean = feature_mean(features)
    if n < d:
        centred = features.double() - mean
        variances, left = torch.linalg.eigh(centred @ centred.T / n)
        variances, left = variances.flip(0)[:k], left.flip(1)[:, :k]
    else:
        variances, directions = torch.linalg.eigh(_covariance(features, mean))
        variances, directions = variances.flip(0)[:k], directions.flip(1)[:, :k]
    epsilon, epsilon64 = torch.finfo(features.dtype).eps, torch.finfo(torch.float64).eps
    varying = (variances > max(d, n if n < d else 0) * max(epsilon**2, epsilon64) * variances[0]) & (variances > 0)
    m = int(varying.sum())
    variances = variances[:m]
    if n < d:
        directions = (centred.T @ left[:, :m]) / (n * variances).sqrt()
    return mean, canonical_signs(directions[:, :m]), variances


def _covariance(features: Tensor, mean: Tensor) -> Tensor:
    """Covariance float64 (d, d) with divisor n."""
    d = features.shape[1]
    covariance = torch.zeros(d, d, dtype=torch.float64, device=features.device)
    for block in track(torch.split(features, BLOCK_ROWS), "Covariance"):
        centred = block.double() - mean
        covariance.addmm_(centred.T, centred)
    return covariance / len(features)
