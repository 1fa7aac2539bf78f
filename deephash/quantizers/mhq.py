"""Manhattan hashing (Kong, Li & Guo, SIGIR 2012)."""

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
    encoded_bits,
    natural_binary_encoding,
    step_margins,
)
from deephash.ranking.distance import Manhattan
from deephash.validation import check_bits, check_bits_of_projections


def cluster_thresholds(values: Tensor, regions: int) -> Tensor:
    """Thresholds halfway between the neighbouring centres of k-means clusters of one dimension.

    Args:
        values: floating (n,), n >= 1.
        regions: number of clusters.

    Returns:
        float64 (regions - 1,), ascending; where there are fewer distinct values the last threshold is repeated.
    """
    from deephash.functional.line_clusters import line_clusters

    centres = torch.from_numpy(line_clusters(values.detach().cpu().double().numpy(), regions))
    halfway = (centres[1:] + centres[:-1]) / 2 if len(centres) > 1 else centres
    return torch.cat([halfway, halfway[-1:].expand(regions - 1 - len(halfway))]).to(values.device)


@final
class MHQ(Quantizer):
    """q bits a dimension: the number of the k-means region in binary, ranked by Manhattan distance of the numbers.

    Regions i and j are |i - j| apart, so the distance of codes follows that of projections closely, which Hamming
    distance of two or more bits a dimension cannot. Known weakness: q times fewer projections share the budget, and the
    sum of whole numbers is slower to compute than a count of bits.

    The clusters have the least squared error there is: in one dimension dynamic programming finds it, where the paper
    runs Lloyd's k-means from a random start. Nothing is drawn at random.

    Shape:
        projections (n, b/q) → bits (n, b), the least significant bit of a dimension first.

    Args:
        bits: code length b, a multiple of q.
        bits_per_projection: q, from 1 to 8; 2 as in the paper's main comparison.
        relaxation: what stands for the steps in `forward`; None for `StraightThrough()`, hard bits with a gradient.

    Raises:
        InvalidInputError: q not a whole number from 1 to 8, or b no multiple of it.

    References:
        Kong, Li & Guo, "Manhattan hashing for large-scale image retrieval", SIGIR 2012.
    """

    def __init__(self, bits: int, bits_per_projection: int = 2, relaxation: Relaxation | None = None) -> None:
        super().__init__(bits)
        check_bits(bits_per_projection, 8, "the most bits a projection can have")
        check_bits_of_projections(bits, bits_per_projection)
        self.bits_per_projection = bits_per_projection
        self.relaxation = StraightThrough() if relaxation is None else relaxation
        self.encoding = natural_binary_encoding(bits_per_projection)
        self.thresholds = nn.Parameter(torch.zeros(self.projection_dim, 2**bits_per_projection - 1))

    @property
    def projection_dim(self) -> int:
        """One projection for q bits."""
        return self.bits // self.bits_per_projection

    @property
    def distance(self) -> Manhattan:
        """Manhattan distance of the regions' numbers."""
        return Manhattan(self.projection_dim, self.bits_per_projection)

    def forward(self, projections: Tensor) -> Tensor:
        """Relaxed bits of each bit's distance from the nearest threshold at which it flips."""
        relaxed: Tensor = self.relaxation(bit_margins(*self.in_units(projections, self.thresholds), self.encoding))
        return relaxed

    def unary(self, projections: Tensor) -> Tensor:
        """A relaxed step for each threshold, (n, k) → (n, k·(2^q - 1))."""
        relaxed: Tensor = self.relaxation(step_margins(*self.in_units(projections, self.thresholds)))
        return relaxed

    def quantize(self, projections: Tensor) -> Tensor:
        """The bits of the regions that projections lie in."""
        return encoded_bits(projections, self.thresholds, self.encoding)

    def _fit(
        self, projections: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        for j in track(range(self.projection_dim), "MHQ"):
            self.thresholds[j] = cluster_thresholds(projections[:, j], 2**self.bits_per_projection)
