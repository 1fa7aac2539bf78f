"""The objective of NPQ by gradient: neighbours in the same regions (Moran, Lavrenko & Osborne, SIGIR 2013)."""

from typing import ClassVar, final

from torch import Tensor

from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.quantizers.soft_regions import soft_explained_variance, soft_f1, soft_regions
from deephash.quantizers.threshold_distances import unit_thresholds
from deephash.validation import check_fraction, check_positive


@final
class NPQObjective(Loss):
    """Neighbourhood preserving quantisation by gradient: trains thresholds and projections to keep neighbours together.

    The loss is 1 - J with J = α·F1 + (1 - α)(1 - Ω), averaged over dimensions. Regions between thresholds are soft: a
    projection belongs to each region in part, by differences of sigmoids, and two items share a region as much as their
    parts overlap. F1 treats pairs in a common region as predicted neighbours, and Ω is the variance within regions. NPQ
    itself only searches over thresholds; here thresholds and projections are trained together.
    Known weakness: each dimension has its own score, so dimensions may carry the same information; add `decorrelation`.

    Shape:
        projections (n, k), neighbours (n, n), thresholds of the quantiser → scalar in [0, 1]. Without neighbours in the
        batch F1 adds nothing; if all projections of a dimension are the same, Ω adds nothing.

    Args:
        f1_weight: α, from 0 to 1; the authors use 1 below 128 bits and 0.8 from 128 bits.
        temperature: width of the sigmoids, in units of each projection's mean absolute deviation; near 0 the objective
            is that of NPQ, and only projections near a threshold have a gradient.

    Raises:
        InvalidInputError: settings are out of range, or the quantiser has no thresholds.

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
        # The diagonal pairs an item with itself.
        has_pairs = (batch.neighbours.sum() > batch.neighbours.diagonal().sum()).to(values)
        varies = (values != values[:, :1]).any(1).to(values)
        f1_loss = (1 - soft_f1(membership, batch.neighbours)) * has_pairs
        variance_loss = (1 - soft_explained_variance(values, membership)) * varies
        return (self.f1_weight * f1_loss + (1 - self.f1_weight) * variance_loss).mean()
