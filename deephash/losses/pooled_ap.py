"""Average precision of all pairs of a batch in one ranking."""

from typing import ClassVar, final

from torch import Tensor

from deephash.functional.soft_histogram import check_bins, soft_histogram
from deephash.functional.tied_average_precision import tie_aware_average_precision
from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch


@final
class PooledAP(Loss):
    """1 - average precision of the pairs of a batch, all ranked together by their distance.

    Where `ap` ranks the others for each item and takes the mean, here one threshold of distance must serve every item,
    as it does in a radius search: it goes with the pooled precision-recall curve and the area under it, rather than
    with mAP. Known weakness: classes whose codes lie close take the head of the ranking, and with it most of the
    gradient; items of scattered classes wait.

    Shape:
        codes (n, l), neighbours (n, n) → scalar in [0, 1]; 0 where no two are neighbours.

    Args:
        bins: of the distance histogram; None for one for each distance, l + 1, which is exact for hard codes. Fewer are
            smoother.

    Raises:
        InvalidInputError: fewer than 2 bins.

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
        # By rows first: adding all pairs into one row of bins at once is slow on a GPU.
        total = soft_histogram(batch.distances, pairs, length, self.bins).sum(0, keepdim=True)
        relevant = soft_histogram(batch.distances, neighbours, length, self.bins).sum(0, keepdim=True)
        lacking: Tensor = 1 - tie_aware_average_precision(total, relevant)
        return (lacking * neighbours.any()).sum()
