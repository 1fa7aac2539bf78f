"""Average precision of a batch, tie-aware, through soft histograms (He, Cakir, Bargal & Sclaroff, CVPR 2018)."""

from typing import ClassVar, final

from torch import Tensor

from deephash.functional.soft_histogram import check_bins, soft_histogram
from deephash.functional.tied_average_precision import tie_aware_average_precision
from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch


@final
class AP(Loss):
    """1 - mean average precision, each item of the batch a query against the others.

    It is the measure itself, on relaxed codes, ties and all: no margins to choose, and pairs weigh as much as ranking
    makes of them. Known weakness: a batch ranks few items, so the head of the true list is seen by chance; large
    batches serve it, and cost grows with their square.

    Shape:
        codes (n, l), neighbours (n, n) → scalar in [0, 1]. Items without a neighbour in the batch are no queries.

    Args:
        bins: of the distance histogram; None for one for each distance, l + 1, so that of hard codes the loss is
            1 - mAP exactly. Fewer are smoother; ever more tend to the average precision of the relaxed distances.

    Raises:
        InvalidInputError: fewer than 2 bins.

    References:
        He, Cakir, Bargal & Sclaroff, "Hashing as tie-aware learning to rank", CVPR 2018, Section 4, but for the
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
        return ((1 - average_precision) * queries).sum() / queries.sum().clamp_min(1)
