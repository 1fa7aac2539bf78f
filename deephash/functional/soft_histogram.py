"""Differentiable histograms of distances: each distance is shared between its two nearest bins."""

from typing import Any

import torch
from torch import Tensor

from deephash.validation import InvalidInputError, check_count


class _SoftHistogram(torch.autograd.Function):
    """A distance at x adds 1 - |x - i| to each bin i within 1; its gradient is the difference of the bins' gradients.

    The matrix of all distances and all bins is never built: each distance touches two bins, so both passes are linear
    in the number of distances.
    """

    @staticmethod
    def forward(places: Tensor, weights: Tensor, bins: int) -> tuple[Tensor, Tensor]:
        lower = places.clamp(0, bins - 1).floor().clamp(max=bins - 2).long()
        share = places.clamp(0, bins - 1) - lower
        histogram = places.new_zeros(len(places), bins)
        histogram.scatter_add_(1, lower, weights * (1 - share))
        histogram.scatter_add_(1, lower + 1, weights * share)
        return histogram, lower

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: tuple[Tensor, Tensor]) -> None:
        places, weights, bins = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(weights, output[1], (places >= 0) & (places <= bins - 1))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        weights, lower, within = ctx.saved_tensors
        slopes = gradient[:, 1:] - gradient[:, :-1]
        return slopes.gather(1, lower) * weights * within, None, None


def soft_histogram(distances: Tensor, weights: Tensor, maximum: float, bins: int | None = None) -> Tensor:
    """Compute weighted counts of distances in bins whose centres are evenly spaced from 0 to the largest distance.

    Shares are triangular, as in the histogram loss (Ustinova & Lempitsky, NIPS 2016, Eq. 2).

    Args:
        distances: floating (q, n), from 0 to `maximum`.
        weights: weights of the distances, the same shape; they receive no gradient.
        maximum: the largest distance.
        bins: number of bins, at least 2; None for maximum + 1, with which integer distances are counted exactly.

    Returns:
        (q, bins), differentiable in the distances except at the centre of a bin, where the gradient is the slope to the
        right. Beyond the ends the gradient is 0.
    """
    bins = int(maximum) + 1 if bins is None else bins
    histogram: Tensor
    histogram, _ = _SoftHistogram.apply(distances * ((bins - 1) / maximum), weights.to(distances), bins)
    return histogram


def check_bins(bins: int | None) -> None:
    """Raise `InvalidInputError` if a number of bins is below 2; None means a default."""
    if bins is None:
        return
    check_count(bins, "bins")
    if bins < 2:
        raise InvalidInputError(f"bins={bins}; expected at least 2: one for the nearest, one for the farthest.")
