"""The objective of KSH by gradient: inner products of codes that follow the labels (Liu et al., CVPR 2012)."""

from typing import ClassVar, final

from torch import Tensor

from deephash.functional.masked_mean import masked_mean
from deephash.losses.base import Loss
from deephash.losses.batch import TrainingBatch


@final
class InnerProduct(Loss):
    """Inner products: minimises the squared difference between u·v / l and 1 for neighbours, or -1 for others.

    `method=ksh` minimises the same objective bit by bit; here all bits are trained together.
    Known weakness: it requires opposite codes for items that are not neighbours, which is impossible with more than two
    classes, and most pairs are of this kind. The result is a compromise in which all distances count, not only small
    ones.

    Shape:
        codes (n, l), neighbours (n, n) → scalar in [0, 4]; 0 if there is no pair.

    References:
        Liu, Wang, Ji, Jiang & Chang, "Supervised hashing with kernels", CVPR 2012, Eq. 6.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"neighbours"})

    def forward(self, batch: TrainingBatch) -> Tensor:
        """Mean squared difference over pairs of different items."""
        assert batch.neighbours is not None
        products = batch.codes @ batch.codes.T / batch.codes.shape[1]
        errors = (products - (2 * batch.neighbours.to(products) - 1)).square()
        return masked_mean(errors, batch.others)
