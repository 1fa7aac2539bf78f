"""Single-bit quantisation: one threshold and one bit per projection."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn

from deephash.affinity.supervision import TrainingAffinity
from deephash.codes import hard_bits
from deephash.quantizers.base import Quantizer
from deephash.quantizers.relaxations.base import Relaxation
from deephash.quantizers.relaxations.straight_through import StraightThrough
from deephash.ranking.distance import Hamming


@final
class SBQ(Quantizer):
    """One bit per projection: whether it reaches its threshold.

    Thresholds are 0, the mean of projections of centred features; joint training may move them. Neighbours on either
    side of a threshold get different bits however close they are, which the multi-bit quantisers correct.

    Shape:
        projections (n, b) → bits (n, b).

    Args:
        bits: code length b, and number of projections.
        relaxation: stand-in for the step in `forward`; None for `StraightThrough()`, hard bits with a gradient.

    References:
        Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002, has the rule; Kong & Li,
        "Double-bit quantization for hashing", AAAI 2012, names it single-bit quantisation.
    """

    fits_on_shares: ClassVar[bool] = True

    def __init__(self, bits: int, relaxation: Relaxation | None = None) -> None:
        super().__init__(bits)
        self.relaxation = StraightThrough() if relaxation is None else relaxation
        self.thresholds = nn.Parameter(torch.zeros(bits))

    @property
    def projection_dim(self) -> int:
        """Number of projections, one per bit."""
        return self.bits

    @property
    def distance(self) -> Hamming:
        """Hamming distance."""
        return Hamming(self.bits)

    def forward(self, projections: Tensor) -> Tensor:
        """Return relaxed bits of the margins, projections - thresholds."""
        projections, thresholds = self.scale_to_units(projections, self.thresholds[:, None])
        relaxed: Tensor = self.relaxation(projections - thresholds[:, 0])
        return relaxed

    def unary(self, projections: Tensor) -> Tensor:
        """Return the relaxed bits."""
        return self.forward(projections)

    def quantize(self, projections: Tensor) -> Tensor:
        """Return the bits of the margins by the zero rule."""
        return hard_bits(projections - self.thresholds)

    def _fit(
        self, projections: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        self.thresholds.zero_()
