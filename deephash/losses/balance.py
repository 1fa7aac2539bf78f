"""Balanced bits (Weiss, Torralba & Fergus, NIPS 2008)."""

from typing import final

from torch import Tensor

from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch


@final
class Balance(Loss):
    """Squared mean of each bit over the batch, averaged over bits: each should be 1 for half of the items.

    A bit that is the same for nearly all items tells nearly nothing. Known weakness: a batch of few items has means far
    from those of all, n independent fair bits 1/n; and where codes are numbers in unary, several steps a dimension,
    it draws all thresholds to the median, so it is for one bit a projection.

    Shape:
        codes (n, l) → scalar in [0, 1].

    References:
        Weiss, Torralba & Fergus, "Spectral hashing", NIPS 2008, whose constraint it softens; as a loss in Liong, Lu,
        Wang, Moulin & Zhou, "Deep hashing for compact binary codes learning", CVPR 2015.
    """

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Mean over bits of the squared mean over items."""
        return batch.codes.mean(0).square().mean()
