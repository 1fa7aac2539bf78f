"""GreedyHash's penalty on what is cut to signs (Su, Zhang, Han & Tian, NeurIPS 2018)."""

from typing import ClassVar, final

from torch import Tensor

from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.quantizers.threshold_distances import threshold_distances, unit_thresholds


@final
class GreedyPenalty(Loss):
    """‖ |h| - 1 ‖³₃ of margins h: a projection is drawn to ±1, softly near it and hard from afar.

    A straight-through gradient takes the step for the identity, which is true at ±1 alone; this keeps projections
    there. With `classification` and `straight_through` it is GreedyHash, for CIFAR-10 at a weight of 0.1. Margins are
    distances from the nearest threshold, in units of each projection's mean absolute deviation, so that the scale of
    projections does not matter. Known weakness: the cube grows fast, so few projections far out decide over it.

    Shape:
        projections (n, k) → scalar, a mean.

    References:
        Su, Zhang, Han & Tian, "Greedy hash: towards fast optimization for accurate hash coding in CNN", NeurIPS 2018.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"one_view"})

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Mean cube of | |h| - 1 |."""
        distances = threshold_distances(*unit_thresholds(batch.projections, batch.quantizer))
        # Without a dimension that has a threshold there is nothing to keep.
        return (distances - 1).abs().pow(3).sum() / max(1, distances.numel())
