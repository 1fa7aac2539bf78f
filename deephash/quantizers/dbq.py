"""Double-bit quantisation (Kong & Li, AAAI 2012)."""

from typing import final

import torch
from torch import Tensor

from deephash.affinity.supervision import TrainingAffinity
from deephash.io.progress import track
from deephash.quantizers.relaxations.base import Relaxation
from deephash.quantizers.threshold_encodings import double_bit_encoding, threshold_between
from deephash.quantizers.threshold_quantizer import ThresholdQuantizer


def adaptive_thresholds(values: Tensor) -> Tensor:
    """Compute the two thresholds of one projection with the smallest error, given that the middle region has mean 0.

    This is Algorithm 1. With a middle region of mean 0, the squared error of three regions is Σ x² - F, where
    F = (Σ₁ x)²/n₁ + (Σ₃ x)²/n₃ over the outer regions, 1 and 3. The middle region grows from 0, state by state: by the
    smallest positive value while its sum is <= 0, by the largest non-positive value otherwise. The state with the
    largest F is kept.

    That order of growth is a merge of two lists, the magnitudes of the two sides of 0, both ascending. The next value
    comes from the side with the smaller sum so far. So the place of a value in this order follows from the sum of the
    values before it on its own side, and one sort gives all states. States that would separate equal values, or leave
    an outer region empty, are skipped.

    Args:
        values: floating (n,), n >= 1; centred, so that 0 divides the projection.

    Returns:
        (2,) in the dtype of the values, ascending. Both thresholds are equal if no state remains, as with two distinct
        values.
    """
    ordered = values.sort().values
    n, negative = len(ordered), int((ordered <= 0).sum())
    if negative in (0, n):
        return values.new_zeros(2)
    gaps = ordered.diff() > 0
    sums = torch.cat([ordered.new_zeros(1, dtype=torch.float64), ordered.cumsum(0, dtype=torch.float64)])

    upward, downward = sums[negative:] - sums[negative], sums[negative] - sums[: negative + 1].flip(0)
    sums_before = torch.cat([upward[:-1], -downward[:-1]])
    # The sort is stable, with the positive values first: at a sum of exactly 0 a positive value enters.
    enters = sums_before.sort(stable=True).indices
    right = (enters < n - negative).cumsum(0)
    left = torch.arange(1, n + 1, device=values.device) - right

    # Regions are ordered[:lower], ordered[lower:upper] and ordered[upper:].
    lower, upper = negative - left, negative + right
    possible = (lower >= 1) & (upper <= n - 1)
    lower, upper = lower[possible], upper[possible]
    possible = gaps[lower - 1] & gaps[upper - 1]
    lower, upper = lower[possible], upper[possible]
    if not len(lower):
        lower = upper = torch.tensor([negative], device=values.device)
    gain = sums[lower].square() / lower + (sums[n] - sums[upper]).square() / (n - upper)
    best = gain.argmax()
    bounds = torch.stack([lower[best], upper[best]])
    return threshold_between(ordered[bounds - 1], ordered[bounds])


@final
class DBQ(ThresholdQuantizer):
    """Two bits per projection: 01 below both thresholds, 00 between them, 10 above, ranked by Hamming distance.

    A single threshold at 0 cuts where projections are densest, which gives many near neighbours different bits. Here
    the densest part is one region. The Hamming distance of two regions is the number of thresholds between them,
    because the code 11 is not used. Known weakness: only three of four codes are used, and the budget pays for half as
    many projections as with one bit each.

    The thresholds assume that 0 divides a projection in the middle, as it does for projections of centred features.

    Shape:
        projections (n, b/2) → bits (n, b).

    Args:
        bits: code length b, an even number.
        relaxation: stand-in for the steps in `forward`; None for `StraightThrough()`, hard bits with a gradient.

    Raises:
        InvalidInputError: the number of bits is odd.

    References:
        Kong & Li, "Double-bit quantization for hashing", AAAI 2012, Algorithm 1.
    """

    def __init__(self, bits: int, relaxation: Relaxation | None = None) -> None:
        super().__init__(bits, double_bit_encoding(), relaxation)

    def _fit(
        self, projections: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        for j in track(range(self.projection_dim), "DBQ"):
            self.thresholds[j] = adaptive_thresholds(projections[:, j])
