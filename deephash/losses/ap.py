"""Average precision of a batch, tie-aware, through soft histograms (He, Cakir, Bargal & Sclaroff, CVPR 2018)."""

from typing import ClassVar, final

from torch import Tensor

from deephash.functional.masked_mean import masked_mean
from deephash.functional.soft_histogram import check_bins, soft_histogram
from deephash.functional.tied_average_precision import tie_aware_average_precision
from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch


@final
class AP(Loss):
    """Average precision: maximises the mean average precision of the batch, with each item a query against the others.

    The loss is 1 - mAP, the retrieval measure itself, on relaxed codes and with exact treatment of ties. There are no
    margins to choose, and the ranking determines the weight of each pair.
    Known weakness: a batch rarely contains the top items of the true ranking, since it is small; large batches help,
    and the cost grows with their square.

    Shape:
        codes (n, l), neighbours (n, n) → scalar in [0, 1]. Items without a neighbour in the batch are not queries.

    Args:
        bins: number of bins of the distance histogram; None for one per distance, l + 1, so that the loss of hard codes
            is exactly 1 - mAP. With fewer bins, the loss is smoother; with more bins, it approaches 1 - mAP of the
            relaxed distances.

    Raises:
        InvalidInputError: bins is below 2.

    References:
        He, Cakir, Bargal & Sclaroff, "Hashing as tie-aware learning to rank", CVPR 2018, Section 4, except for the
        expectation over ties, which is exact here. Cakir, He, Xia, Kulis & Sclaroff, "Deep metric learning to rank",
        CVPR 2019.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"neighbours"})

    def __init__(self, bins: int | None = None) -> None:
        super().__init__()
        check_bins(bins)
        self.bins = bins

    def forward(self, batch: TrainingBatch) -> Tensor:
        """1 - mean average precision."""
        assert batch.neighbours is not None
        length = batch.codes.shape[1]
        neighbours = batch.neighbours & batch.others
        total = soft_histogram(batch.distances, batch.others, length, self.bins)
        relevant = soft_histogram(batch.distances, neighbours, length, self.bins)
        queries = neighbours.any(1)
        average_precision = tie_aware_average_precision(total, relevant)
        return masked_mean(1 - average_precision, queries)
