"""The penalty of GreedyHash on projections far from ±1 (Su, Zhang, Han & Tian, NeurIPS 2018)."""

from typing import ClassVar, final

from torch import Tensor

from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.quantizers.threshold_distances import threshold_distances, unit_thresholds


@final
class GreedyPenalty(Loss):
    """Greedy penalty: keeps projections near ±1 by minimising ‖ |h| - 1 ‖³₃ of margins h.

    A straight-through gradient treats the step as the identity, which is only right at ±1; this penalty keeps
    projections there. Its slope is small near ±1 and large far away. With `classification` and `straight_through` this
    is GreedyHash, with a weight of 0.1 for CIFAR-10. Margins are distances from the nearest threshold, in units of each
    projection's mean absolute deviation, so that the scale of projections does not matter.
    Known weakness: the cube grows fast, so a few extreme projections dominate.

    Shape:
        projections (n, k) → scalar, a mean.

    References:
        Su, Zhang, Han & Tian, "Greedy hash: towards fast optimization for accurate hash coding in CNN", NeurIPS 2018.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"one_view"})

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Mean cube of | |h| - 1 |."""
        distances = threshold_distances(*unit_thresholds(batch.projections, batch.quantizer))
        # Without thresholds the sum is empty.
        return (distances - 1).abs().pow(3).sum() / max(1, distances.numel())
