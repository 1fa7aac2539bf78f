"""Average precision against a truth graded by distance: the mean over several radii."""

from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Tensor

from deephash.functional.masked_mean import masked_mean
from deephash.functional.soft_histogram import check_bins, soft_histogram
from deephash.functional.tied_average_precision import tie_aware_average_precision
from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.validation import InvalidInputError, check_number


def squared_distances(features: Tensor) -> Tensor:
    """Compute squared distances of rows in float64, exactly symmetric: (n, d) → (n, n)."""
    rows = features.double()
    rows = rows - rows.mean(0)
    lengths = rows.square().sum(1)
    upper = (lengths[:, None] + lengths - 2 * rows @ rows.T).triu(1)
    return upper + upper.T


def neighbours_by_fractions(features: Tensor, fractions: Sequence[float]) -> list[Tensor]:
    """Find the closest pairs of different rows, for several fractions of all pairs.

    Args:
        features: floating (n, d).
        fractions: fractions of the n (n - 1) / 2 pairs, above 0 and at most 1; at least one pair each.

    Returns:
        bool (n, n) for each fraction, symmetric, with a False diagonal; an empty list if there is no pair.
    """
    squared = squared_distances(features)
    others = ~torch.eye(len(features), dtype=torch.bool, device=features.device)
    ordered = squared[others.triu()].sort().values
    if not len(ordered):
        return []
    # Rounding up, so that a radius contains at least one pair.
    places = [min(len(ordered), max(1, -int(-fraction * len(ordered) // 1))) - 1 for fraction in fractions]
    return [(squared <= ordered[place]) & others for place in places]


@final
class GradedAP(Loss):
    """Graded average precision: the mean over several radii of the batch's average precision, without labels.

    With the one radius of `AP`, an item just outside counts as much against a ranking as the farthest item, and many
    items have no neighbour at all. Here each item is a query for several radii, so nearer pairs weigh more and their
    order counts too. Each radius contains a fraction f of all pairs of the batch, by the distances of their features.
    Known weakness: distances of the features must be meaningful. The loss favours queries in sparse regions, as mAP
    does; for one ranking of all pairs (micro AUPRC), use `PooledAP`.

    Shape:
        codes (n, l), features (n, d) → scalar in [0, 1]. Items without a neighbour are not queries for that radius.

    Args:
        fractions: fractions of the pairs of a batch within each radius, above 0 and at most 1.
        bins: number of bins of the distance histogram; None for one per distance, l + 1, which is exact for hard codes.

    Raises:
        InvalidInputError: no fraction, one outside (0, 1], or bins below 2.

    References:
        Robertson, Kanoulas & Yilmaz, "Extending average precision to graded relevance judgments", SIGIR 2010, for the
        average over thresholds of relevance, which weights users rather than rankings. He, Cakir, Bargal & Sclaroff,
        "Hashing as tie-aware learning to rank", CVPR 2018, for soft histograms.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"one_view"})

    def __init__(self, fractions: Sequence[float] = (0.002, 0.01, 0.05), bins: int | None = None) -> None:
        super().__init__()
        check_bins(bins)
        if not len(fractions):
            raise InvalidInputError("fractions=[]; give at least one fraction of the pairs, such as 0.01.")
        for fraction in fractions:
            check_number(fraction, "fractions")
            if not 0 < fraction <= 1:
                raise InvalidInputError(f"fractions has {fraction!r}; expected fractions of all pairs, in (0, 1].")
        self.fractions = tuple(map(float, fractions))
        self.bins = bins

    def forward(self, batch: TrainingBatch) -> Tensor:
        """1 - mean average precision, averaged over the radii."""
        assert isinstance(batch.features, Tensor)
        length = batch.codes.shape[1]
        distances = batch.distances
        total = soft_histogram(distances, batch.others, length, self.bins)
        losses = [(batch.codes * 0).sum()]  # A single item has no pair.
        for neighbours in neighbours_by_fractions(batch.features, self.fractions):
            relevant = soft_histogram(distances, neighbours, length, self.bins)
            average_precision = tie_aware_average_precision(total, relevant)
            losses.append(masked_mean(1 - average_precision, neighbours.any(1)))
        return torch.stack(losses).sum() / len(self.fractions)
