"""Principal components: the directions of largest variance, with signs that do not depend on the solver."""

import torch
from torch import Tensor

from deephash.functional.row_shares import count_rows, rows_are_shared, sum_over_processes
from deephash.io.progress import track

# A block of 4096 rows of 512 float32 dimensions is 8 MB; column stripes of 128 avoid most of the lower triangle.
BLOCK_ROWS = 4096
BLOCK_COLUMNS = 128

# Products of float32 rows, summed in float64 over blocks, have errors of about 1e-8 of the largest variance. If the
# smallest wanted variance is not far above that, the products are in float64 too, at twice the cost.
SAFE_VARIANCE = 1e-4

# Rounding at a large mean produces a variance, which may hide directions. Directions with less than this share of it
# are not computed again.
MIN_SHARE_OF_OFFSET = 1e-6


def working_dtype(features: Tensor) -> torch.dtype:
    """Return the precision for products of features: their own dtype, float32 for half precision."""
    return torch.float64 if features.dtype == torch.float64 else torch.float32


def feature_mean(features: Tensor, working: torch.dtype | None = None) -> Tensor:
    """Compute the mean of rows: float32 sums of blocks (float64 for float64 features), added in float64.

    Args:
        features: floating (n, d), n >= 1.
        working: dtype of the sums of blocks; None for float32, or float64 for float64 features.

    Returns:
        float64 (d,).
    """
    working = working or working_dtype(features)
    sums = torch.zeros(features.shape[1], dtype=torch.float64, device=features.device)
    for block in torch.split(features, BLOCK_ROWS):
        sums += block.sum(0, dtype=working)
    return sum_over_processes(sums) / count_rows(features)


def root_mean_square(features: Tensor, mean: Tensor) -> float:
    """Compute the root of the mean squared distance from the mean, to make the cost of an SVM independent of scale.

    Args:
        features: floating (n, d).
        mean: (d,).
    """
    working = working_dtype(features)
    total = sum(
        float((block.to(working) - mean.to(working)).square().sum(dtype=torch.float64))
        for block in torch.split(features, BLOCK_ROWS)
    )
    return float((total / len(features)) ** 0.5)


def canonical_signs(directions: Tensor) -> Tensor:
    """Flip each direction so that its entry of largest magnitude is positive.

    The sign of an eigenvector is arbitrary: it differs between solvers and devices, and the other sign complements a
    bit.

    Args:
        directions: (d, k), one direction per column.

    Returns:
        (d, k), each column multiplied by +1 or -1.
    """
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    return torch.where(largest < 0, -directions, directions)


def principal_components(features: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the mean, the k directions of largest variance, and the variances along them.

    The problem is solved in float64 through the smaller symmetric matrix: the d × d covariance, or the n × n Gram
    matrix if there are fewer rows than dimensions. If processes share the rows, it is always the covariance. Only
    blocks of the features are copied. Directions with equal variances are an arbitrary orthonormal basis of their
    common space.

    Args:
        features: floating (n, d), n >= 2; any scale and mean.
        k: number of directions, at most d.

    Returns:
        mean float64 (d,); directions float64 (d, m), orthonormal columns by descending variance, and their variances
        float64 (m,), with divisor n. m is the lower of k and the number of directions in which the rows vary.

        A direction counts if its variance exceeds d (max(ε², ε₆₄) λ + ε² ‖μ‖²), the most that rounding alone can
        produce. λ is the largest variance, μ the mean, ε the rounding unit of the features' dtype and ε₆₄ that of
        float64. If the term of the mean alone would hide directions, everything is computed again in float64. Then
        only the rounding of the features themselves remains, whose variance along any direction is at most
        ε² max μ_j² (1 + √(d/n))².
    """
    mean = feature_mean(features)
    variances, directions = _find_leading_directions(features, mean, k, working_dtype(features))
    epsilon = torch.finfo(features.dtype).eps ** 2
    noise = max(epsilon, torch.finfo(torch.float64).eps) * variances[0] + epsilon * mean.square().sum()
    m = int((variances > features.shape[1] * noise).sum())
    offset = features.shape[1] * epsilon * mean.square().sum()
    if m < len(variances) and bool((variances[m:] > MIN_SHARE_OF_OFFSET * offset).any()):
        mean = feature_mean(features, torch.float64)
        variances, directions = _find_leading_directions(features, mean, k, torch.float64)
        relative = features.shape[1] * max(epsilon, torch.finfo(torch.float64).eps) * variances[0]
        spread = 1 + (features.shape[1] / count_rows(features)) ** 0.5
        m = int((variances > relative + epsilon * mean.abs().max().square() * spread**2).sum())
    return mean, canonical_signs(directions[:, :m]), variances[:m]


def _find_leading_directions(features: Tensor, mean: Tensor, k: int, working: torch.dtype) -> tuple[Tensor, Tensor]:
    """Compute the leading k variances, descending, and directions, through the smaller matrix."""
    if len(features) < features.shape[1] and not rows_are_shared():
        return _decompose_gram_matrix(features, mean, k)
    return _decompose_covariance(features, mean, k, working)


def _decompose_covariance(features: Tensor, mean: Tensor, k: int, working: torch.dtype) -> tuple[Tensor, Tensor]:
    """Compute the leading k eigenvalues, descending, and eigenvectors of the covariance."""
    variances, directions = torch.linalg.eigh(_compute_covariance(features, mean, working), UPLO="U")
    if working == torch.float32 and variances[-k] < SAFE_VARIANCE * variances[-1]:
        variances, directions = torch.linalg.eigh(_compute_covariance(features, mean, torch.float64), UPLO="U")
    return variances.flip(0)[:k], directions.flip(1)[:, :k]


def _decompose_gram_matrix(features: Tensor, mean: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Compute the same as `_decompose_covariance` through the Gram matrix, which has the same nonzero eigenvalues."""
    centred = features.double() - mean
    variances, left = torch.linalg.eigh(centred @ centred.T / len(features))
    variances, left = variances.flip(0)[:k], left.flip(1)[:, :k]
    return variances, centred.T @ left / (len(features) * variances.clamp_min(0)).sqrt()


def _compute_covariance(features: Tensor, mean: Tensor, working: torch.dtype) -> Tensor:
    """Compute the upper triangle of the covariance, float64 (d, d) with divisor n, from products in `working`."""
    d = features.shape[1]
    covariance = torch.zeros(d, d, dtype=torch.float64, device=features.device)
    shift = mean.to(working)
    # One buffer for all blocks: new memory would cost as much as the subtraction.
    buffer = torch.empty(min(len(features), BLOCK_ROWS), d, dtype=working, device=features.device)
    for block in track(torch.split(features, BLOCK_ROWS), "Covariance"):
        centred = torch.sub(block.to(working), shift, out=buffer[: len(block)])
        for start in range(0, d, BLOCK_COLUMNS):
            covariance[start : start + BLOCK_COLUMNS, start:] += (
                centred[:, start : start + BLOCK_COLUMNS].T @ centred[:, start:]
            )
    return sum_over_processes(covariance) / count_rows(features)
