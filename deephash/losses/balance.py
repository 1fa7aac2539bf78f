"""Balanced bits (Weiss, Torralba & Fergus, NIPS 2008)."""

from typing import final

from torch import Tensor

from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch


@final
class Balance(Loss):
    """Balanced bits: minimises the squared mean of each bit, so that each is 1 for half of the items.

    A bit that is the same for nearly all items carries nearly no information.
    Known weakness: the means of a small batch differ from those of all items; the squared mean of a fair bit over n
    items is 1/n on average. If codes are unary with several steps per dimension, the loss moves all thresholds to the
    median, so it suits one bit per projection.

    Shape:
        codes (n, l) → scalar in [0, 1], averaged over bits.

    References:
        Weiss, Torralba & Fergus, "Spectral hashing", NIPS 2008, whose constraint it relaxes; as a loss in Liong, Lu,
        Wang, Moulin & Zhou, "Deep hashing for compact binary codes learning", CVPR 2015.
    """

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Mean over bits of the squared mean over items."""
        return batch.codes.mean(0).square().mean()
