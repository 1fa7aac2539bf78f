"""Quantisers that cut every projection at the same number of thresholds and encode the regions between them."""

import torch
from torch import Tensor, nn

from deephash.quantizers.base import Quantizer
from deephash.quantizers.relaxations.base import Relaxation
from deephash.quantizers.relaxations.straight_through import StraightThrough
from deephash.quantizers.threshold_encodings import bit_margins, encode_regions, step_margins
from deephash.ranking.distance import Hamming, Manhattan
from deephash.validation import check_bits_of_projections


class ThresholdQuantizer(Quantizer):
    """T thresholds and q bits per projection. Subclasses implement `_fit`, which sets `thresholds`.

    Shape:
        projections (n, b/q) → bits (n, b).

    Args:
        bits: code length b, a multiple of q.
        encoding: bool (T + 1, q), the bits of each region (see `threshold_encodings`).
        relaxation: stand-in for the steps in `forward`; None for `StraightThrough()`, hard bits with a gradient.
        manhattan: whether codes are ranked by the Manhattan distance of the regions' numbers, which the bits then
            contain in natural binary, and not by Hamming distance.

    Raises:
        InvalidInputError: the code length is not a multiple of q.
    """

    def __init__(
        self, bits: int, encoding: Tensor, relaxation: Relaxation | None = None, manhattan: bool = False
    ) -> None:
        super().__init__(bits)
        regions, self.bits_per_projection = encoding.shape
        check_bits_of_projections(bits, self.bits_per_projection)
        self.relaxation = StraightThrough() if relaxation is None else relaxation
        self.encoding = encoding
        self.manhattan = manhattan
        self.thresholds = nn.Parameter(torch.zeros(self.projection_dim, regions - 1))

    @property
    def projection_dim(self) -> int:
        """Number of projections, one for every q bits."""
        return self.bits // self.bits_per_projection

    @property
    def distance(self) -> Hamming | Manhattan:
        """Hamming distance, or Manhattan distance of the regions' numbers."""
        return Manhattan(self.projection_dim, self.bits_per_projection) if self.manhattan else Hamming(self.bits)

    def forward(self, projections: Tensor) -> Tensor:
        """Return relaxed bits: the relaxation of each bit's margin from the nearest threshold at which it flips."""
        relaxed: Tensor = self.relaxation(
            bit_margins(*self.scale_to_units(projections, self.thresholds), self.encoding)
        )
        return relaxed

    def unary(self, projections: Tensor) -> Tensor:
        """Return the relaxed bits, or, for Manhattan distance, one relaxed step per threshold, (n, k) → (n, k·T)."""
        if not self.manhattan:
            return self.forward(projections)
        relaxed: Tensor = self.relaxation(step_margins(*self.scale_to_units(projections, self.thresholds)))
        return relaxed

    def quantize(self, projections: Tensor) -> Tensor:
        """Return the bits of the regions that the projections lie in."""
        return encode_regions(projections, self.thresholds, self.encoding)
