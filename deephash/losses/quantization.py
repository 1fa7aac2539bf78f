"""Quantisation error: the distance of codes or projections from hard bits (Liu, Wang, Shan & Chen, CVPR 2016)."""

from typing import final

from torch import Tensor

from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch
from deephash.quantizers.threshold_distances import threshold_distances, unit_thresholds
from deephash.validation import check_choice


@final
class Quantization(Loss):
    """Quantisation error: brings codes or projections near hard bits by minimising the mean of (|u| - 1)².

    Training uses relaxed codes and search uses hard codes; the nearer the two are, the less precision the search loses.
    Known weakness: it keeps each bit on its current side, even the wrong one, so a large weight ends learning early.

    Shape:
        codes (n, l) or projections (n, k) → scalar, a mean.

    Args:
        of: "projections" for their distance from the nearest threshold, before the relaxation, in units of each
            projection's mean absolute deviation; "codes" for relaxed bits. With `straight_through`, these are already
            hard and their loss is 0.

    Raises:
        InvalidInputError: another value of `of`.

    References:
        Liu, Wang, Shan & Chen, "Deep supervised hashing for fast image retrieval", CVPR 2016, with absolute values;
        Li, Wang & Kang, "Feature learning based deep supervised hashing with pairwise labels", IJCAI 2016, with
        squares.
    """

    def __init__(self, of: str = "projections") -> None:
        super().__init__()
        check_choice(of, ("codes", "projections"), "of")
        self.of = of

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Mean squared distance from ±1."""
        size = batch.codes.abs()
        if self.of == "projections":
            size = threshold_distances(*unit_thresholds(batch.projections, batch.quantizer))
        # Without thresholds the sum is empty.
        return (size - 1).square().sum() / max(1, size.numel())
