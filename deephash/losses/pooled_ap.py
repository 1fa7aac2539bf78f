"""Average precision of all pairs of a batch in one ranking."""

from typing import ClassVar, final

from torch import Tensor

from deephash.functional.soft_histogram import check_bins, soft_histogram
from deephash.functional.tied_average_precision import tie_aware_average_precision
from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch


@final
class PooledAP(Loss):
    """Pooled average precision: maximises the average precision of all pairs of a batch in one ranking by distance.

    `AP` ranks the other items for each query and takes the mean. Here, one distance threshold must serve all items, as
    in a radius search, so this loss corresponds to the pooled precision-recall curve and the area under it rather than
    to mAP.
    Known weakness: classes with compact codes occupy the top of the ranking and get most of the gradient; items of
    scattered classes are learnt later.

    Shape:
        codes (n, l), neighbours (n, n) → scalar in [0, 1]; 0 if no two items are neighbours.

    Args:
        bins: number of bins of the distance histogram; None for one per distance, l + 1, which is exact for hard codes.
            With fewer bins, the loss is smoother.

    Raises:
        InvalidInputError: bins is below 2.

    References:
        He, Cakir, Bargal & Sclaroff, "Hashing as tie-aware learning to rank", CVPR 2018, for soft histograms and ties.
        Boyd, Eng & Page, "Area under the precision-recall curve: point estimates and confidence intervals", ECML PKDD
        2013, for average precision as that area.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"neighbours"})

    def __init__(self, bins: int | None = None) -> None:
        super().__init__()
        check_bins(bins)
        self.bins = bins

    def forward(self, batch: TrainingBatch) -> Tensor:
        """1 - average precision of the pairs, each counted once."""
        assert batch.neighbours is not None
        length = batch.codes.shape[1]
        pairs = batch.others.triu()
        neighbours = batch.neighbours & pairs
        # By rows first, because adding all pairs into one row of bins is slow on a GPU.
        total = soft_histogram(batch.distances, pairs, length, self.bins).sum(0, keepdim=True)
        relevant = soft_histogram(batch.distances, neighbours, length, self.bins).sum(0, keepdim=True)
        loss: Tensor = 1 - tie_aware_average_precision(total, relevant)
        return (loss * neighbours.any()).sum()
