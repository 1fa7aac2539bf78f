"""NPQ's objective with gradients: neighbours in common regions (Moran, Lavrenko & Osborne, SIGIR 2013)."""

from typing import ClassVar, final

from torch import Tensor

from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.quantizers.soft_regions import soft_explained_variance, soft_f1, soft_regions
from deephash.quantizers.threshold_distances import unit_thresholds
from deephash.validation import check_fraction, check_positive


@final
class NPQObjective(Loss):
    """1 - J, averaged over dimensions, of J = α·F1 + (1 - α)(1 - Ω) with soft regions between the thresholds.

    A projection lies in each region in part, by differences of sigmoids; two items are together as far as their parts
    overlap. F1 takes pairs that are together as a guess at which are neighbours, Ω is the variance left within regions.
    What NPQ searches over thresholds alone is lowered here in thresholds and projections at once. Known weakness: each
    dimension is judged by itself, so dimensions that say the same are not told apart; add `decorrelation`.

    Shape:
        projections (n, k), neighbours (n, n), thresholds of the quantiser → scalar in [0, 1]. Without neighbours in the
        batch F1 adds nothing; where its projections are all the same Ω adds nothing.

    Args:
        f1_weight: α, from 0 to 1; 1 as the authors take below 128 bits, 0.8 from there.
        temperature: width of the sigmoids, in units of each projection's mean absolute deviation; near 0 the objective
            is NPQ's own, and only projections near a threshold have a gradient.

    Raises:
        InvalidInputError: settings out of range; a quantiser without thresholds.

    References:
        Moran, Lavrenko & Osborne, "Neighbourhood preserving quantisation for LSH", SIGIR 2013.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"neighbours", "one_view"})

    def __init__(self, f1_weight: float = 1.0, temperature: float = 0.1) -> None:
        super().__init__()
        check_fraction(f1_weight, "f1_weight")
        check_positive(temperature, "temperature")
        self.f1_weight = f1_weight
        self.temperature = temperature

    def forward(self, batch: TrainingBatch) -> Tensor:
        """1 - J, the mean over dimensions."""
        assert batch.neighbours is not None
        projections, thresholds = unit_thresholds(batch.projections, batch.quantizer)
        values = projections.T
        membership = soft_regions(values, thresholds, self.temperature)
        # The diagonal is an item with itself.
        has_pairs = (batch.neighbours.sum() > batch.neighbours.diagonal().sum()).to(values)
        varies = (values != values[:, :1]).any(1).to(values)
        missed = (1 - soft_f1(membership, batch.neighbours)) * has_pairs
        within = (1 - soft_explained_variance(values, membership)) * varies
        return (self.f1_weight * missed + (1 - self.f1_weight) * within).mean()
