"""Manhattan hashing (Kong, Li & Guo, SIGIR 2012)."""

from typing import final

import torch
from torch import Tensor

from deephash.affinity.supervision import TrainingAffinity
from deephash.io.progress import track
from deephash.quantizers.relaxations.base import Relaxation
from deephash.quantizers.threshold_encodings import natural_binary_encoding
from deephash.quantizers.threshold_quantizer import ThresholdQuantizer
from deephash.validation import check_bits


def cluster_thresholds(values: Tensor, regions: int) -> Tensor:
    """Compute thresholds halfway between neighbouring centres of the k-means clusters of one projection.

    Args:
        values: floating (n,), n >= 1.
        regions: number of clusters.

    Returns:
        float64 (regions - 1,), ascending. The last threshold is repeated if there are fewer distinct values than
        regions.
    """
    from deephash.functional.line_clusters import line_clusters

    centres = torch.from_numpy(line_clusters(values.detach().cpu().double().numpy(), regions))
    halfway = (centres[1:] + centres[:-1]) / 2 if len(centres) > 1 else centres
    return torch.cat([halfway, halfway[-1:].expand(regions - 1 - len(halfway))]).to(values.device)


@final
class MHQ(ThresholdQuantizer):
    """q bits per projection: the number of its k-means region in binary, ranked by Manhattan distance of the numbers.

    Regions i and j have distance |i - j|, so distances of codes follow those of projections closely. Hamming distance
    cannot do this with two or more bits per projection. Known weakness: the budget pays for q times fewer projections,
    and a sum of integers is slower to compute than a count of bits.

    Dynamic programming finds the clusters of smallest squared error, which is possible in one dimension; the paper runs
    Lloyd's k-means from a random start. Nothing here is random.

    Shape:
        projections (n, b/q) → bits (n, b), the least significant bit of a projection first.

    Args:
        bits: code length b, a multiple of q.
        bits_per_projection: q, from 1 to 8; 2 as in the paper's main comparison.
        relaxation: stand-in for the steps in `forward`; None for `StraightThrough()`, hard bits with a gradient.

    Raises:
        InvalidInputError: q is not an integer from 1 to 8, or b is not a multiple of q.

    References:
        Kong, Li & Guo, "Manhattan hashing for large-scale image retrieval", SIGIR 2012.
    """

    def __init__(self, bits: int, bits_per_projection: int = 2, relaxation: Relaxation | None = None) -> None:
        check_bits(bits_per_projection, 8, "the most bits a projection can have")
        super().__init__(bits, natural_binary_encoding(bits_per_projection), relaxation, manhattan=True)

    def _fit(
        self, projections: Tensor, labels: Tensor | None, affinity: TrainingAffinity | None, generator: torch.Generator
    ) -> None:
        for j in track(range(self.projection_dim), "MHQ"):
            self.thresholds[j] = cluster_thresholds(projections[:, j], 2**self.bits_per_projection)
