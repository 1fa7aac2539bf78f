"""Double-bit quantisation (Kong & Li, AAAI 2012)."""

from typing import final

import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.io.progress import track
from deephash.quantizers.base import Quantizer
from deephash.quantizers.relaxations.base import Relaxation
from deephash.quantizers.relaxations.straight_through import StraightThrough
from deephash.quantizers.threshold_encodings import (
    bit_margins,
    double_bit_encoding,
    encoded_bits,
    threshold_between,
)
from deephash.ranking.distance import Hamming
from deephash.validation import check_bits_of_projections

BITS_PER_PROJECTION = 2


def adaptive_thresholds(values: Tensor) -> Tensor:
    """The two thresholds of one dimension that lose least, the region between them having mean 0 (Algorithm 1).

    With a middle region of mean 0, the squared error of three regions is Σ x² - F, F = (Σ₁ x)²/n₁ + (Σ₃ x)²/n₃ of the
    outer ones. The middle region grows from 0: by the least positive value while its sum is <= 0, by the largest
    non-positive one otherwise; the state of largest F is kept.

    That order of growth is a merge of two sorted lists: a positive value enters when what its side has given before it
    is at most what the other side has given, so it ranks by the sum of the smaller ones of its own side. One sort
    gives all states. Those that would part equal values, or leave an outer region empty, are passed over.

    Args:
        values: floating (n,), n >= 1; measured from the dimension's own threshold, 0.

    Returns:
        (2,) in the dtype of the values, ascending; both the same where no state remains, as with two distinct values.
    """
    ordered = values.sort().values
    n, negative = len(ordered), int((ordered <= 0).sum())
    if negative in (0, n):
        return values.new_zeros(2)
    gaps = ordered.diff() > 0
    sums = torch.cat([ordered.new_zeros(1, dtype=torch.float64), ordered.cumsum(0, dtype=torch.float64)])

    upward, downward = sums[negative:] - sums[negative], sums[negative] - sums[: negative + 1].flip(0)
    given = torch.cat([upward[:-1], -downward[:-1]])
    # Stable, and with the positive values first: at a sum of exactly 0 a positive value enters.
    enters = given.sort(stable=True).indices
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
class DBQ(Quantizer):
    """Two bits a dimension: 01 below both thresholds, 00 between them, 10 above, ranked by Hamming distance.

    A single threshold at 0 cuts where projections are densest, so many near neighbours get different bits. Here the
    densest part is one region, and the Hamming distance of two regions is the number of thresholds between them: the
    code 11 is not used. Known weakness: of four codes three are used, and half as many projections share the budget.

    Thresholds assume that 0 divides the dimension in the middle, as it does for projections of centred features.

    Shape:
        projections (n, b/2) → bits (n, b).

    Args:
        bits: code length b, an even number.
        relaxation: what stands for the steps in `forward`; None for `StraightThrough()`, hard bits with a gradient.

    Raises:
        InvalidInputError: an odd number of bits.

    References:
        Kong & Li, "Double-bit quantization for hashing", AAAI 2012, Algorithm 1.
    """

    def __init__(self, bits: int, relaxation: Relaxation | None = None) -> None:
        super().__init__(bits)
        check_bits_of_projections(bits, BITS_PER_PROJECTION)
        self.relaxation = StraightThrough() if relaxation is None else relaxation
        self.encoding = double_bit_encoding()
        self.thresholds = nn.Parameter(torch.zeros(self.projection_dim, 2))

    @property
    def projection_dim(self) -> int:
        """Half as many projections as bits."""
        return self.bits // BITS_PER_PROJECTION

    @property
    def distance(self) -> Hamming:
        """Hamming distance."""
        return Hamming(self.bits)

    def forward(self, projections: Tensor) -> Tensor:
        """Relaxed bits of each bit's distance from its threshold: the upper one for the first bit of a dimension."""
        relaxed: Tensor = self.relaxation(bit_margins(*self.in_units(projections, self.thresholds), self.encoding))
        return relaxed

    def unary(self, projections: Tensor) -> Tensor:
        """The relaxed bits."""
        return self.forward(projections)

    def quantize(self, projections: Tensor) -> Tensor:
        """The bits of the regions that projections lie in."""
        return encoded_bits(projections, self.thresholds, self.encoding)

    def _fit(
        self, projections: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        for j in track(range(self.projection_dim), "DBQ"):
            self.thresholds[j] = adaptive_thresholds(projections[:, j])
