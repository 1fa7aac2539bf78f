"""Mean and scatter of a stream, updated and decayed: sufficient statistics of past items for PCA and CCA."""

import torch
from torch import Tensor

from deephash.validation import check_positive


def decay_weights(count: int, half_life: float | None) -> tuple[Tensor, float]:
    """Compute the weight of each item of a batch at the batch's end, and the factor for all earlier items.

    Args:
        count: number n of items in the batch, in the order of arrival.
        half_life: number of items after which a weight halves; None for no decay.

    Returns:
        float64 (n,), 1 for the last item; and the factor for earlier items.
    """
    if half_life is None:
        return torch.ones(count, dtype=torch.float64), 1.0
    ages = torch.arange(count - 1, -1, -1, dtype=torch.float64)
    return torch.exp2(-ages / half_life), 2.0 ** (-count / half_life)


def update_moments(
    weight: Tensor, mean: Tensor, scatter: Tensor, rows: Tensor, weights: Tensor, remains: float
) -> None:
    """Add rows to a weighted mean and to the scatter Σ w (x - μ)(x - μ)ᵀ, in place.

    The scatter of the batch about its mean is added, and a term for the distance between the means (Chan, Golub &
    LeVeque, 1979). This is exact and avoids the cancellation of Σ x xᵀ - n μ μᵀ. Except for rounding, the result does
    not depend on the batches.

    Args:
        weight: Σ w, float64 scalar.
        mean: μ, float64 (p,).
        scatter: float64 (p, p).
        rows: floating (n, p), n >= 1.
        weights: w of the rows, float64 (n,), above 0.
        remains: factor for the weights of earlier rows.
    """
    rows, weights = rows.double(), weights.to(rows.device)
    total = weights.sum()
    batch_mean = weights @ rows / total
    centred = rows - batch_mean
    before = weight * remains
    step = batch_mean - mean
    scatter.addmm_(centred.T * weights, centred, beta=remains)
    scatter.addr_(step * (before * total / (before + total)), step)
    mean.add_(step * (total / (before + total)))
    weight.copy_(before + total)


def check_half_life(half_life: float | None) -> None:
    """Raise `InvalidInputError` if a half-life is not a number of items above 0; None means no decay."""
    if half_life is not None:
        check_positive(half_life, "half_life")
